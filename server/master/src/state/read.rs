//! Reading the state: each call sees one consistent moment, and none waits for a batch that is being computed.

use alluxio_proto::types::{Attr, UfsSource};
use alluxio_proto::{ErrorKind, FsError, FsResult, InodeId, IntentId, MountId, SessionId, WorkerId};
use bytes::Bytes;
use std::sync::Arc;

use super::fault::{Fault, Outcomes, refuse, show};
use super::view::View;
use super::{
    CachedAt, Committed, Counters, Edge, GivenUp, Inode, Intent, MountRecord, OpenVersion, Passing, SessionRecord,
    State, WorkerRecord, tables,
};
use crate::metastore::prefix_end;

/// Extended attributes that any program may set.
const USER: &[u8] = b"user.";

/// Where an inode is in the under-storage, now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UfsLocation {
    /// On which mount.
    pub mount: MountId,
    /// Path beneath the mount's root, without leading slash.
    pub path: Bytes,
}

impl State {
    fn read<T>(&self, work: impl FnOnce(&Committed<'_>) -> Outcomes<T>) -> FsResult<T> {
        let globals = self.globals.read();
        let view = Committed {
            store: self.store.as_ref(),
            cache: &self.cache,
            globals: &globals,
        };
        work(&view).map_err(FsError::from)
    }

    /// An inode's record.
    ///
    /// # Errors
    /// `NotFound`; `Internal` if the store failed (so for all reads).
    pub fn inode(&self, id: InodeId) -> FsResult<Arc<Inode>> {
        self.read(|view| view.inode(id))
    }

    /// Attributes as on the wire; `cache_ms` is left 0.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn attr(&self, id: InodeId) -> FsResult<Attr> {
        self.read(|view| Ok(view.inode(id)?.to_attr()))
    }

    /// What a name in a directory names; `None` if the state knows no such name (the under-storage may).
    ///
    /// # Errors
    /// `NotFound` or `NotADirectory` if `parent` is none.
    pub fn lookup(&self, parent: InodeId, name: &[u8]) -> FsResult<Option<Arc<Inode>>> {
        self.read(|view| {
            let parent = view.dir(parent)?;
            match view.edge(parent.inode_id(), name)? {
                Some(edge) => Ok(Some(view.inode(edge.child)?)),
                None => Ok(None),
            }
        })
    }

    /// The names of a directory after `after` (empty: from the start), in byte order, `limit` at most.
    ///
    /// # Errors
    /// `NotFound` or `NotADirectory`.
    pub fn list(&self, dir: InodeId, after: &[u8], limit: usize) -> FsResult<Vec<(Bytes, Arc<Inode>)>> {
        self.read(|view| {
            view.dir(dir)?;
            let mut listed = Vec::new();
            for (key, value) in edges_after(view, dir, after, limit)? {
                let edge = Edge::decode(&key, &value)?;
                listed.push((tables::edge_name(&key)?, view.inode(edge.child)?));
            }
            Ok(listed)
        })
    }

    /// Absolute path of an inode (one of its names); `None` if it has none any more (unlinked, or in a deleted tree).
    ///
    /// # Errors
    /// `NotFound`.
    pub fn path_of(&self, id: InodeId) -> FsResult<Option<Bytes>> {
        self.read(|view| {
            let inode = view.inode(id)?;
            view.names_up_to(&inode, InodeId::ROOT, true)
        })
    }

    /// The inode at an absolute path, as far as the state knows; symbolic links are not followed.
    ///
    /// # Errors
    /// `NotFound` (the under-storage may know more), `NotADirectory`, `InvalidArgument` for a path that is not absolute or
    /// has `.` or `..` in it.
    pub fn resolve(&self, path: &[u8]) -> FsResult<Arc<Inode>> {
        self.read(|view| {
            if path.first() != Some(&b'/') {
                return refuse(
                    ErrorKind::InvalidArgument,
                    format!("path {:?} is not absolute", show(path)),
                );
            }
            let mut at = view.inode(InodeId::ROOT)?;
            for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
                super::apply::check_name(name)?;
                if !at.is_dir() {
                    return refuse(
                        ErrorKind::NotADirectory,
                        format!("{}: a component is no directory", show(path)),
                    );
                }
                at = match view.edge(at.inode_id(), name)? {
                    Some(edge) => view.inode(edge.child)?,
                    None => {
                        return refuse(
                            ErrorKind::NotFound,
                            format!("{}: no such file or directory", show(path)),
                        );
                    }
                };
            }
            Ok(at)
        })
    }

    /// An extended attribute; `None`: it is not set.
    ///
    /// # Errors
    /// Only if the store failed.
    pub fn xattr(&self, id: InodeId, name: &[u8]) -> FsResult<Option<Bytes>> {
        self.read(|view| {
            let key = tables::xattr(id, name);
            match view.get(&key)? {
                Some(row) => Ok(Some(tables::xattr_of(&key, &row)?)),
                None => Ok(None),
            }
        })
    }

    /// Names of all extended attributes of an inode, in the order of their bytes.
    ///
    /// # Errors
    /// Only if the store failed.
    pub fn xattr_names(&self, id: InodeId) -> FsResult<Vec<Bytes>> {
        self.read(|view| {
            let mut names = Vec::new();
            view.each(&tables::xattr(id, b""), |key, _| {
                names.push(tables::xattr_name(&key)?);
                Ok(true)
            })?;
            Ok(names)
        })
    }

    /// Extended attributes of users of an inode, in the order of their names' bytes: those that an under-storage may keep.
    ///
    /// # Errors
    /// Only if the store failed.
    pub fn user_xattrs(&self, inode: &Inode) -> FsResult<Vec<(Bytes, Bytes)>> {
        if inode.xattrs == 0 {
            return Ok(Vec::new());
        }
        self.read(|view| {
            let mut xattrs = Vec::new();
            view.each(&tables::xattr(inode.inode_id(), USER), |key, row| {
                xattrs.push((tables::xattr_name(&key)?, tables::xattr_of(&key, &row)?));
                Ok(true)
            })?;
            Ok(xattrs)
        })
    }

    /// All mounts, by id.
    pub fn mounts(&self) -> Vec<Arc<MountRecord>> {
        self.globals.read().mounts.values().cloned().collect()
    }

    /// One mount.
    pub fn mount(&self, id: MountId) -> Option<Arc<MountRecord>> {
        self.globals.read().mounts.get(&id.get()).cloned()
    }

    /// The mount that an inode lies on.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn mount_of(&self, id: InodeId) -> FsResult<Arc<MountRecord>> {
        self.read(|view| view.mount(view.inode(id)?.mount()))
    }

    /// Where an inode is in the under-storage now, or would be if it is not: the path by names, with pending renames undone.
    /// Use it to list, to look up (directory's path, slash, name) and to read.
    ///
    /// # Errors
    /// `NotFound`, also for what has no name any more and was not in the under-storage.
    pub fn ufs_path(&self, id: InodeId) -> FsResult<UfsLocation> {
        self.read(|view| location(view, &*view.inode(id)?))
    }

    /// Where a name in a directory is in the under-storage now, whether or not the state knows it.
    ///
    /// # Errors
    /// `NotFound`, `NotADirectory`.
    pub fn ufs_path_of_name(&self, dir: InodeId, name: &[u8]) -> FsResult<UfsLocation> {
        self.read(|view| {
            let dir = view.dir(dir)?;
            let Some(natural) = view.natural_path(&dir)? else {
                return refuse(ErrorKind::NotFound, format!("directory {} was removed", dir.id));
            };
            let natural = UfsLocation {
                mount: dir.mount(),
                path: super::apply::child_path(&natural, name),
            };
            Ok(view.undo_renames(natural, false)?)
        })
    }

    /// How to read the version of an inode that the under-storage has: `None` if it has none. The version is
    /// [`super::UfsBinding::version`], which may be older than the committed one (then it is its base).
    ///
    /// # Errors
    /// `NotFound`.
    pub fn ufs_source(&self, id: InodeId) -> FsResult<Option<UfsSource>> {
        self.read(|view| {
            let inode = view.inode(id)?;
            let Some(ufs) = inode.ufs.as_ref().filter(|ufs| ufs.present) else {
                return Ok(None);
            };
            let at = location(view, &inode)?;
            // That place is the one where it was before the rename, as long as that is not done.
            let fingerprint = view.moved_from(ufs)?.unwrap_or(&ufs.fingerprint);
            Ok(Some(UfsSource {
                mount_id: at.mount.get(),
                path: at.path,
                fingerprint: fingerprint.to_owned(),
                length: ufs.length,
            }))
        })
    }

    /// Read it before asking an under-storage about a directory; the answer may be applied as long as it has not changed.
    ///
    /// # Errors
    /// `NotFound`, `NotADirectory`.
    pub fn generation(&self, dir: InodeId) -> FsResult<u64> {
        self.read(|view| super::apply::generation(view, &*view.dir(dir)?))
    }

    /// Whether a look at the under-storage's directory would be misleading now, because a folder rename or recursive delete
    /// that touches it is being executed. Wait for it, then look.
    ///
    /// # Errors
    /// `NotFound`, `NotADirectory`.
    pub fn is_tree_busy(&self, dir: InodeId) -> FsResult<bool> {
        self.read(|view| super::apply::is_tree_busy(view, &*view.dir(dir)?))
    }

    /// One intent.
    ///
    /// # Errors
    /// Only if the store failed.
    pub fn intent(&self, id: IntentId) -> FsResult<Option<Intent>> {
        self.read(|view| Ok(view.intent_opt(id)?))
    }

    /// Pending intents after `after` (0: from the start), by id, `limit` at most.
    ///
    /// # Errors
    /// Only if the store failed.
    pub fn intents(&self, after: IntentId, limit: usize) -> FsResult<Vec<Intent>> {
        self.read(|view| {
            let first = after.get().saturating_add(1).max(view.lowest_intent().get());
            let start = tables::intent(IntentId(first));
            let rows = view.scan(&start, &[tables::INTENTS + 1], limit)?;
            rows.iter()
                .map(|(key, value)| tables::decode(key, value).map_err(Fault::from))
                .collect()
        })
    }

    /// Pending intents about an inode (and of one that it replaced, where it is the heir).
    ///
    /// # Errors
    /// Only if the store failed.
    pub fn intents_of(&self, inode: InodeId) -> FsResult<Vec<Intent>> {
        self.read(|view| Ok(view.intents_of(inode)?))
    }

    /// What must be finished before an intent may start; `None`: nothing. A late-bound one is asked for where it is now.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn blocked_by(&self, id: IntentId, passing: Passing) -> FsResult<Option<IntentId>> {
        self.read(|view| {
            let Some(mut intent) = view.intent_opt(id)? else {
                return refuse(ErrorKind::NotFound, format!("there is no intent {id}"));
            };
            if intent.order == 0 {
                let Some(inode) = view.inode_opt(InodeId(intent.inode))? else {
                    return Ok(None);
                };
                let Some(path) = view.natural_path(&inode)? else {
                    return Ok(None);
                };
                intent.path = path;
            }
            Ok(view.way_of(&intent, passing)?.err())
        })
    }

    /// The places that the object of a file may have while renames are pending: where its name says first, where it was last.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn places_of(&self, id: InodeId) -> FsResult<Vec<UfsLocation>> {
        self.read(|view| {
            let inode = view.inode(id)?;
            let mount = inode.mount();
            let natural = match inode.ufs.as_ref().and_then(|ufs| ufs.held_at(mount)) {
                Some(held) => Some(held),
                None => view.natural_path(&inode)?.map(|path| UfsLocation { mount, path }),
            };
            let Some(natural) = natural else { return Ok(Vec::new()) };
            let levels = view.path_levels(natural, inode.is_dir())?;
            Ok(levels.into_iter().map(|(at, _)| at).collect())
        })
    }

    /// Where strays are, of a folder and all beneath it: what a rename or removal of it leaves alone.
    ///
    /// # Errors
    /// Only if the store failed.
    pub fn strays_beneath(&self, mount: MountId, path: &[u8]) -> FsResult<Vec<Bytes>> {
        self.read(|view| {
            let mut strays = Vec::new();
            if view.counters().intents == 0 {
                return Ok(strays);
            }
            view.each(&tables::beneath_path(mount, path), |key, value| {
                let role = tables::PathRole::decode(&key, &value)?;
                if !role.is_target {
                    let stray = view.intent_opt(role.id)?.filter(Intent::is_stray);
                    strays.extend(stray.map(|stray| stray.path));
                }
                Ok(true)
            })?;
            Ok(strays)
        })
    }

    /// Single objects beneath a folder that are to leave it, or to go: whatever their names say, they are still there.
    ///
    /// # Errors
    /// Only if the store failed.
    pub fn leaving_beneath(&self, mount: MountId, path: &[u8]) -> FsResult<Vec<Intent>> {
        self.read(|view| {
            let mut leaving = Vec::new();
            if view.counters().intents == 0 {
                return Ok(leaving);
            }
            view.each(&tables::beneath_path(mount, path), |key, value| {
                let role = tables::PathRole::decode(&key, &value)?;
                if !role.is_target {
                    leaving.extend(view.intent_opt(role.id)?.filter(Intent::leaves_its_place));
                }
                Ok(true)
            })?;
            Ok(leaving)
        })
    }

    /// Intents at exactly this place of an under-storage.
    ///
    /// # Errors
    /// Only if the store failed.
    pub fn intents_at(&self, mount: MountId, path: &[u8]) -> FsResult<Vec<Intent>> {
        self.read(|view| {
            let mut found = Vec::new();
            view.each_intent(&tables::at_path(mount, path), |key, value| {
                found.extend(view.intent_opt(tables::PathRole::decode(&key, &value)?.id)?);
                Ok(true)
            })?;
            Ok(found)
        })
    }

    /// Intents that are not done.
    pub fn pending_intents(&self) -> u64 {
        self.globals.read().counters.intents
    }

    /// One session.
    ///
    /// # Errors
    /// Only if the store failed.
    pub fn session(&self, id: SessionId) -> FsResult<Option<SessionRecord>> {
        self.read(|view| Ok(view.record(&tables::session(id))?))
    }

    /// All sessions, by id.
    ///
    /// # Errors
    /// Only if the store failed.
    pub fn sessions(&self) -> FsResult<Vec<SessionRecord>> {
        self.read(|view| table(view, tables::SESSIONS))
    }

    /// Files that a session has open for writing.
    ///
    /// # Errors
    /// Only if the store failed.
    pub fn open_versions_of_session(&self, id: SessionId) -> FsResult<Vec<(InodeId, OpenVersion)>> {
        self.read(|view| {
            let mut opens = Vec::new();
            for inode in view.numbers(&tables::of(tables::SESSION_OPENS, id.get()))? {
                let open = view.inode_opt(InodeId(inode))?.and_then(|inode| inode.open.clone());
                opens.extend(open.map(|open| (InodeId(inode), open)));
            }
            Ok(opens)
        })
    }

    /// Files that are open for writing, by whatever session.
    ///
    /// # Errors
    /// Only if the store failed.
    pub fn written_files(&self) -> FsResult<Vec<InodeId>> {
        self.read(|view| {
            let mut written = Vec::new();
            for id in view.numbers(&[tables::SESSION_OPENS])? {
                let inode = view.inode_opt(InodeId(id))?;
                written.extend(inode.filter(|inode| inode.open.is_some()).map(|_| InodeId(id)));
            }
            Ok(written)
        })
    }

    /// Open versions whose writers are gone and whose homes have not answered yet: the open versions of session 0.
    ///
    /// # Errors
    /// Only if the store failed.
    pub fn recovering(&self) -> FsResult<Vec<(InodeId, OpenVersion)>> {
        self.open_versions_of_session(SessionId(0))
    }

    /// Unlinked inodes that a session holds.
    ///
    /// # Errors
    /// Only if the store failed.
    pub fn orphans_of_session(&self, id: SessionId) -> FsResult<Vec<InodeId>> {
        self.read(|view| {
            Ok(view
                .numbers(&tables::of(tables::HELD, id.get()))?
                .into_iter()
                .map(InodeId)
                .collect())
        })
    }

    /// The next top of a detached tree, from this one on and then from the first; `None`: there is none.
    ///
    /// # Errors
    /// Only if the store failed.
    pub fn detached_from(&self, dir: InodeId) -> FsResult<Option<InodeId>> {
        self.read(|view| {
            let end = [tables::DETACHED + 1];
            let mut rows = view.scan(&tables::detached(dir), &end, 1)?;
            if rows.is_empty() {
                rows = view.scan(&[tables::DETACHED], &end, 1)?;
            }
            let first = rows.first().map(|(key, _)| tables::last_number(key)).transpose()?;
            Ok(first.map(InodeId))
        })
    }

    /// Names after one in a directory, detached or not, with what they name.
    ///
    /// # Errors
    /// Only if the store failed.
    pub fn children_after(&self, dir: InodeId, after: &[u8], limit: usize) -> FsResult<Vec<(Bytes, InodeId)>> {
        self.read(|view| {
            let mut start = tables::edge(dir, after).to_vec();
            if !after.is_empty() {
                start.push(0);
            }
            let rows = view.scan(&start, &prefix_end(&tables::edge(dir, b"")), limit)?;
            let child =
                |(key, value): (Bytes, Bytes)| Ok((tables::edge_name(&key)?, Edge::decode(&key, &value)?.child));
            rows.into_iter().map(child).collect()
        })
    }

    /// Changes that were given up, the oldest first.
    ///
    /// # Errors
    /// Only if the store failed.
    pub fn given_up(&self) -> FsResult<Vec<GivenUp>> {
        self.read(|view| {
            let rows = view.scan(&[tables::GIVEN_UP], &[tables::GIVEN_UP + 1], usize::MAX)?;
            let each = rows.iter().map(|(key, value)| Ok(tables::decode(key, value)?));
            each.collect()
        })
    }

    /// Sessions that hold an unlinked inode.
    ///
    /// # Errors
    /// Only if the store failed.
    pub fn orphan_holders(&self, id: InodeId) -> FsResult<Vec<SessionId>> {
        self.read(|view| {
            Ok(view
                .numbers(&tables::of(tables::HOLDERS, id.get()))?
                .into_iter()
                .map(SessionId)
                .collect())
        })
    }

    /// Tops of deleted trees that wait to be reclaimed, `limit` at most.
    ///
    /// # Errors
    /// Only if the store failed.
    pub fn detached(&self, limit: usize) -> FsResult<Vec<InodeId>> {
        self.read(|view| {
            let rows = view.scan(&[tables::DETACHED], &[tables::DETACHED + 1], limit)?;
            rows.iter()
                .map(|(key, _)| Ok(InodeId(tables::last_number(key)?)))
                .collect()
        })
    }

    /// Who holds what of an inode; live or not.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn locations(&self, id: InodeId) -> FsResult<Vec<CachedAt>> {
        self.read(|view| Ok(view.inode(id)?.locations.clone()))
    }

    /// One worker; live or not.
    ///
    /// # Errors
    /// Only if the store failed.
    pub fn worker(&self, id: WorkerId) -> FsResult<Option<WorkerRecord>> {
        self.read(|view| Ok(view.record(&tables::worker(id))?))
    }

    /// All workers, by id; live or not.
    ///
    /// # Errors
    /// Only if the store failed.
    pub fn workers(&self) -> FsResult<Vec<WorkerRecord>> {
        self.read(|view| table(view, tables::WORKERS))
    }

    /// Numbers of the whole state.
    pub fn counters(&self) -> Counters {
        self.globals.read().counters.clone()
    }

    /// Identity of the cluster; empty before [`super::command::Format`].
    pub fn cluster_id(&self) -> String {
        self.globals.read().counters.cluster_id.clone()
    }
}

fn location(view: &Committed<'_>, inode: &Inode) -> Outcomes<UfsLocation> {
    let mount = inode.mount();
    // Unlinked but held: pending renames of folders above it concern it as before.
    if let Some(held) = inode.ufs.as_ref().and_then(|ufs| ufs.held_at(mount)) {
        return Ok(view.undo_renames(held, false)?);
    }
    match view.natural_path(inode)? {
        Some(path) => Ok(view.undo_renames(UfsLocation { mount, path }, inode.is_dir())?),
        None => refuse(ErrorKind::NotFound, format!("inode {} has no name any more", inode.id)),
    }
}

fn edges_after(view: &impl View, dir: InodeId, after: &[u8], limit: usize) -> std::io::Result<Vec<(Bytes, Bytes)>> {
    let prefix = tables::edge(dir, b"");
    let mut start = tables::edge(dir, after).to_vec();
    if !after.is_empty() {
        start.push(0);
    }
    view.scan(&start, &prefix_end(&prefix), limit)
}

fn table<M: prost::Message + Default>(view: &impl View, table: u8) -> Outcomes<Vec<M>> {
    let mut records = Vec::new();
    view.each(&[table], |key, value| {
        records.push(tables::decode(&key, &value)?);
        Ok(true)
    })?;
    Ok(records)
}
