//! Reading records, from what is committed or from a batch that is being applied: the same code for both.

use alluxio_proto::types::FileKind;
use alluxio_proto::{ErrorKind, InodeId, IntentId, MountId};
use bytes::{Bytes, BytesMut};
use std::io;
use std::sync::Arc;

use super::fault::{Outcomes, refuse};
use super::inode::{Inode, UfsBinding};
use super::read::UfsLocation;
use super::records::{Counters, Edge, Intent, IntentKind, MountRecord};
use super::strays::{Passed, Passing, Relation};
use super::tables::{self, PathRole};
use crate::metastore::prefix_end;

/// Rows read at a time where all rows of a prefix are wanted.
const PAGE_ROWS: usize = 256;
/// Deepest directory that is walked upwards; a path has at most 4,096 bytes, so a deeper chain is a damaged store.
const DEPTH_MAX: usize = 4096;

pub(super) trait View {
    fn get(&self, key: &[u8]) -> io::Result<Option<Bytes>>;
    fn scan(&self, start: &[u8], end: &[u8], limit: usize) -> io::Result<Vec<(Bytes, Bytes)>>;
    fn inode_opt(&self, id: InodeId) -> io::Result<Option<Arc<Inode>>>;
    fn edge(&self, parent: InodeId, name: &[u8]) -> io::Result<Option<Edge>>;
    fn counters(&self) -> &Counters;
    fn mount_opt(&self, id: MountId) -> Option<Arc<MountRecord>>;
    /// No pending intent has a smaller id.
    fn lowest_intent(&self) -> IntentId;

    fn record<M: prost::Message + Default>(&self, key: &[u8]) -> io::Result<Option<M>> {
        self.get(key)?.map(|value| tables::decode(key, &value)).transpose()
    }

    /// All rows whose key starts with `prefix`, until `visit` returns false.
    fn each(&self, prefix: &[u8], visit: impl FnMut(Bytes, Bytes) -> io::Result<bool>) -> io::Result<()> {
        self.each_from(prefix.to_vec(), prefix, visit)
    }

    /// As [`Self::each`], where an intent's id follows the prefix.
    fn each_intent(&self, prefix: &[u8], visit: impl FnMut(Bytes, Bytes) -> io::Result<bool>) -> io::Result<()> {
        self.each_from(self.first_intent(prefix), prefix, visit)
    }

    /// The first key that there may be where an intent's id follows the prefix.
    fn first_intent(&self, prefix: &[u8]) -> Vec<u8> {
        [prefix, &self.lowest_intent().to_key()].concat()
    }

    fn each_from(
        &self,
        mut start: Vec<u8>,
        prefix: &[u8],
        mut visit: impl FnMut(Bytes, Bytes) -> io::Result<bool>,
    ) -> io::Result<()> {
        let end = prefix_end(prefix);
        loop {
            let page = self.scan(&start, &end, PAGE_ROWS)?;
            let full = page.len() == PAGE_ROWS;
            for (key, value) in page {
                start.clear();
                start.extend_from_slice(&key);
                start.push(0);
                if !visit(key, value)? {
                    return Ok(());
                }
            }
            if !full {
                return Ok(());
            }
        }
    }

    /// The numbers at the end of all keys that start with `prefix`.
    fn numbers(&self, prefix: &[u8]) -> io::Result<Vec<u64>> {
        let mut found = Vec::new();
        self.each(prefix, |key, _| {
            found.push(tables::last_number(&key)?);
            Ok(true)
        })?;
        Ok(found)
    }

    fn inode(&self, id: InodeId) -> Outcomes<Arc<Inode>> {
        match self.inode_opt(id)? {
            Some(inode) => Ok(inode),
            None => refuse(ErrorKind::NotFound, format!("there is no inode {id}")),
        }
    }

    fn dir(&self, id: InodeId) -> Outcomes<Arc<Inode>> {
        let inode = self.inode(id)?;
        if !inode.is_dir() {
            return refuse(ErrorKind::NotADirectory, format!("inode {id} is no directory"));
        }
        Ok(inode)
    }

    fn mount(&self, id: MountId) -> Outcomes<Arc<MountRecord>> {
        match self.mount_opt(id) {
            Some(mount) => Ok(mount),
            None => refuse(ErrorKind::NotFound, format!("there is no mount {id}")),
        }
    }

    fn intent_opt(&self, id: IntentId) -> io::Result<Option<Intent>> {
        self.record(&tables::intent(id))
    }

    /// Fingerprint of the object that the rename of a folder has copied and may not have deleted yet, as that rename is not done.
    fn moved_from<'b>(&self, ufs: &'b UfsBinding) -> io::Result<Option<&'b str>> {
        let moves = ufs.moved_by != 0 && self.intent_opt(IntentId(ufs.moved_by))?.is_some();
        Ok(moves.then_some(&ufs.moved_from[..]))
    }

    /// Intents about an inode, and those of a replaced inode whose name it took; by id.
    fn intents_of(&self, inode: InodeId) -> io::Result<Vec<Intent>> {
        if self.counters().intents == 0 {
            return Ok(Vec::new());
        }
        let mut intents = Vec::new();
        self.each_intent(&tables::of(tables::INTENTS_BY_INODE, inode.get()), |key, _| {
            intents.extend(self.intent_opt(IntentId(tables::last_number(&key)?))?);
            Ok(true)
        })?;
        Ok(intents)
    }

    fn is_mount_point(&self, inode: &Inode) -> bool {
        self.mount_opt(inode.mount())
            .is_some_and(|mount| mount.root_inode == inode.id)
    }

    /// Path beneath the mount's root by names alone; `None` for what hangs on no mount any more.
    fn natural_path(&self, inode: &Inode) -> Outcomes<Option<Bytes>> {
        let Some(mount) = self.mount_opt(inode.mount()) else {
            return Ok(None);
        };
        self.names_up_to(inode, InodeId(mount.root_inode), false)
    }

    /// Names from `top` (not included) down to `inode`, joined by slashes.
    fn names_up_to(&self, inode: &Inode, top: InodeId, lead: bool) -> Outcomes<Option<Bytes>> {
        let mut names: Vec<Bytes> = Vec::new();
        let mut at: Option<Arc<Inode>> = None;
        for _ in 0..DEPTH_MAX {
            let current = at.as_deref().unwrap_or(inode);
            if current.id == top.get() {
                return Ok(Some(join(&names, lead)));
            }
            if current.parent == 0 {
                return Ok(None);
            }
            names.push(current.name.clone());
            let parent = current.parent_id();
            match self.inode_opt(parent)? {
                Some(parent) => at = Some(parent),
                None => return Ok(None),
            }
        }
        refuse(
            ErrorKind::Internal,
            format!("inode {} is deeper than {DEPTH_MAX} directories", inode.id),
        )
    }

    /// Whether `dir` is `ancestor` or lies beneath it.
    fn is_beneath(&self, dir: InodeId, ancestor: InodeId) -> Outcomes<bool> {
        let mut at = dir;
        for _ in 0..DEPTH_MAX {
            if at == ancestor {
                return Ok(true);
            }
            match self.inode_opt(at)? {
                Some(inode) if inode.parent != 0 => at = inode.parent_id(),
                _ => return Ok(false),
            }
        }
        Ok(false)
    }

    /// Where in the under-storage a path of the namespace is now: pending renames have not happened there yet, so they are
    /// undone, the latest first.
    fn undo_renames(&self, natural: UfsLocation, is_dir: bool) -> io::Result<UfsLocation> {
        let levels = self.path_levels(natural.clone(), is_dir)?;
        Ok(levels.into_iter().last().map_or(natural, |(at, _)| at))
    }

    /// The places that a path of the namespace has had, from now back to where it is in the under-storage: each with the
    /// order before which it was so (`u64::MAX` for the present one). `is_dir`: it is that of a directory.
    fn path_levels(&self, natural: UfsLocation, is_dir: bool) -> io::Result<Vec<(UfsLocation, u64)>> {
        let mut levels = vec![(natural, u64::MAX)];
        if self.counters().renames == 0 {
            return Ok(levels);
        }
        while let Some((at, before)) = levels.last()
            && let Some((rename, matched)) = self.last_rename_to(at, is_dir, *before)?
        {
            let mut old = BytesMut::from(&rename.path[..]);
            old.extend_from_slice(&at.path[matched..]);
            let old = UfsLocation {
                mount: MountId(rename.mount_id),
                path: old.freeze(),
            };
            levels.push((old, rename.order));
        }
        Ok(levels)
    }

    /// The latest pending rename before `before` whose target is `at` or a folder above it, and the length of its target.
    fn last_rename_to(&self, at: &UfsLocation, is_dir: bool, before: u64) -> io::Result<Option<(Intent, usize)>> {
        let path = &at.path;
        let mut best: Option<(Intent, usize)> = None;
        for length in prefix_lengths(path) {
            // A directory that has the name of a file whose rename is not done has nothing to do with that file.
            let wants_folder = is_dir || length < path.len();
            self.each_intent(&tables::at_path(at.mount, &path[..length]), |key, value| {
                let role = PathRole::decode(&key, &value)?;
                // Of a folder and one in it that was left there, the latter tells: it has the same place in the order.
                let is_later = best.as_ref().is_none_or(|(best, _)| role.order >= best.target_order());
                if role.is_target && role.order < before && is_later {
                    let rename = self.intent_opt(role.id)?;
                    let rename = rename.filter(|rename| !wants_folder || rename.is_folder());
                    best = rename.map(|rename| (rename, length)).or(best.take());
                }
                Ok(true)
            })?;
        }
        Ok(best)
    }

    /// Every intent that touches `path`, a folder above it or something beneath it, with where `path` is seen from there, until `visit`
    /// returns false.
    fn each_near(
        &self,
        mount: MountId,
        path: &[u8],
        mut visit: impl FnMut(PathRole, Relation) -> io::Result<bool>,
    ) -> io::Result<()> {
        let mut goes_on = true;
        for length in prefix_lengths(path) {
            let relation = match length == path.len() {
                true => Relation::Exact,
                false => Relation::Beneath,
            };
            self.each_intent(&tables::at_path(mount, &path[..length]), |key, value| {
                goes_on = goes_on && visit(PathRole::decode(&key, &value)?, relation)?;
                Ok(goes_on)
            })?;
        }
        if !goes_on {
            return Ok(());
        }
        self.each(&tables::beneath_path(mount, path), |key, value| {
            visit(PathRole::decode(&key, &value)?, Relation::Above)
        })
    }

    /// Adds the strays that `intent` passes at one of its paths; or the intent that holds it up there.
    fn way_at(
        &self,
        intent: &Intent,
        at_target: bool,
        passing: Passing,
        passed: &mut Vec<Passed>,
    ) -> io::Result<Option<IntentId>> {
        let (mount, path, order) = match at_target {
            true => (intent.to_mount(), &intent.to_path, intent.target_order()),
            false => (MountId(intent.mount_id), &intent.path, intent.order),
        };
        let order = if order == 0 { u64::MAX } else { order };
        // What has passed a stray and is at work is not to meet it at work, too.
        let was_passed = passing.passes && intent.is_stray();
        let mut found = None;
        self.each_near(mount, path, |role, relation| {
            let is_before = role.order < order;
            if role.id.get() == intent.id || !(is_before || was_passed) {
                return Ok(true);
            }
            if passing.passes {
                let Some(other) = self.intent_opt(role.id)? else {
                    return Ok(true);
                };
                if !is_before {
                    let is_at_work = other.started && !other.refused;
                    let has_its_place = role.order == order && !other.is_stray();
                    found = (is_at_work || has_its_place).then_some(role.id);
                    return Ok(found.is_none());
                }
                let met = Passed {
                    at_goal: role.is_target,
                    stray: other,
                    at_target,
                    relation,
                };
                // What has passed it once goes on, or the two would wait for each other.
                let is_settled = intent.started || met.stray.kind() == IntentKind::Rmdir;
                if met.stray.is_stray()
                    && super::strays::passes(intent, &met, passing.keeps)
                    && (is_settled || !self.brings_folder(intent, &met)?)
                {
                    passed.push(met);
                    return Ok(true);
                }
            }
            found = Some(role.id);
            Ok(false)
        })?;
        Ok(found)
    }

    /// Whether a folder's rename brings a folder to where a stray is: a key is no file then, and a marker is to stay.
    fn brings_folder(&self, intent: &Intent, met: &Passed) -> io::Result<bool> {
        let (stray, top) = (&met.stray, &intent.to_path);
        let meets = intent.kind() == IntentKind::Rename && met.at_target && !met.at_goal;
        if !meets || met.relation != Relation::Above {
            return Ok(false);
        }
        let mut at = InodeId(intent.inode);
        let beneath = stray.path.get(top.len() + usize::from(!top.is_empty())..);
        for name in beneath.unwrap_or_default().split(|byte| *byte == b'/') {
            match self.edge(at, name)? {
                Some(edge) if edge.kind == FileKind::Directory => at = edge.child,
                _ => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Intents before `order` that touch `path` itself or an ancestor of it.
    fn intents_above(&self, mount: MountId, path: &[u8], order: u64) -> io::Result<Vec<PathRole>> {
        let mut found = Vec::new();
        if self.counters().intents == 0 {
            return Ok(found);
        }
        for length in prefix_lengths(path) {
            self.each_intent(&tables::at_path(mount, &path[..length]), |key, value| {
                let role = PathRole::decode(&key, &value)?;
                found.extend(Some(role).filter(|role| role.order < order));
                Ok(true)
            })?;
        }
        Ok(found)
    }

    /// Whether an intent touches exactly `path`.
    fn has_intent_at(&self, mount: MountId, path: &[u8]) -> io::Result<bool> {
        if self.counters().intents == 0 {
            return Ok(false);
        }
        let prefix = tables::at_path(mount, path);
        Ok(!self
            .scan(&self.first_intent(&prefix), &prefix_end(&prefix), 1)?
            .is_empty())
    }

    /// Whether an intent touches something beneath `path`.
    fn has_intent_beneath(&self, mount: MountId, path: &[u8]) -> io::Result<bool> {
        Ok(self.counters().intents != 0 && self.has_any(&tables::beneath_path(mount, path))?)
    }

    /// Whether a key starts with `prefix`.
    fn has_any(&self, prefix: &[u8]) -> io::Result<bool> {
        Ok(!self.scan(prefix, &prefix_end(prefix), 1)?.is_empty())
    }

    /// What is in the way of `intent`: the strays that it passes, or the intent that must be finished before it may start. `path` and
    /// `to_path` must be set.
    fn way_of(&self, intent: &Intent, passing: Passing) -> io::Result<Result<Vec<Passed>, IntentId>> {
        let mut passed = Vec::new();
        let mut blocker = self.way_at(intent, false, passing, &mut passed)?;
        if blocker.is_none() && intent.kind() == IntentKind::Rename {
            blocker = self.way_at(intent, true, passing, &mut passed)?;
        }
        Ok(blocker.map_or(Ok(passed), Err))
    }
}

/// Lengths of the prefixes of a path that are its ancestors, from the root (0), and of itself.
fn prefix_lengths(path: &[u8]) -> impl Iterator<Item = usize> + '_ {
    let root = (!path.is_empty()).then_some(0);
    let slashes = path
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'/')
        .map(|(at, _)| at);
    root.into_iter().chain(slashes).chain(std::iter::once(path.len()))
}

fn join(names: &[Bytes], lead: bool) -> Bytes {
    let mut path = BytesMut::with_capacity(names.iter().map(|name| name.len() + 1).sum::<usize>() + 1);
    for name in names.iter().rev() {
        if lead || !path.is_empty() {
            path.extend_from_slice(b"/");
        }
        path.extend_from_slice(name);
    }
    if lead && path.is_empty() {
        path.extend_from_slice(b"/");
    }
    path.freeze()
}
