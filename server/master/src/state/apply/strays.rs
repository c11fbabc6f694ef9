//! What becomes of strays: how they come to be, and what those who pass them make of them (see `state/strays.rs`).
//!
//! A stray that a folder rename passes gets a new goal; one whose name is removed, or taken by another, is to be deleted where it is;
//! one that is written over stays until the new object is confirmed, for what was not written may have to be read from it.

use alluxio_proto::types::FileKind;
use alluxio_proto::{ErrorKind, InodeId, IntentId, MountId};
use bytes::Bytes;
use std::sync::Arc;

use super::intents::delete_of_source;
use super::presence::{occupy, occupy_uncertain};
use super::{Work, check_name, child_path};
use crate::state::UfsLocation;
use crate::state::command::{IntentLeft, LeftObject, LoadEntries, UfsEntry};
use crate::state::fault::{Outcomes, refuse};
use crate::state::inode::Inode;
use crate::state::records::{Intent, IntentKind, STUCK_AFTER};
use crate::state::strays::{Passed, Relation};
use crate::state::tables;
use crate::state::view::View;

impl Work<'_, '_> {
    /// What it means for the strays that an intent which starts goes past them. `heir`: the inode of one whose path is decided now.
    /// True: the intent came to be a part of a stray, and is no more.
    pub(super) fn pass_strays(
        &mut self,
        intent: &mut Intent,
        mut heir: Option<&mut Inode>,
        passed: &[Passed],
    ) -> Outcomes<bool> {
        let mut absorbed = false;
        for met in passed {
            // Read again: it may have been met at both of its ends.
            let stray = self.tx.intent_opt(IntentId(met.stray.id))?;
            let Some(stray) = stray.filter(Intent::is_stray) else {
                continue;
            };
            match stray.kind() {
                IntentKind::Rmdir => {
                    let wants_folder = intent.kind().is_creating() || met.at_target;
                    let is_there = met.relation != Relation::Above || self.tx.brings_folder(intent, met)?;
                    if wants_folder && is_there {
                        self.drop_intent(&stray);
                    }
                }
                IntentKind::Delete => {
                    let replaces = intent.kind().is_creating() && met.relation == Relation::Exact;
                    if let Some(heir) = heir.as_deref_mut().filter(|_| replaces) {
                        for fingerprint in stray.expect {
                            occupy(heir, fingerprint);
                        }
                        for length in stray.expect_lengths {
                            occupy_uncertain(heir, length);
                        }
                        self.tx.put_inode(heir.clone());
                    }
                }
                _ if met.at_goal => absorbed |= self.pass_goal(intent, heir.as_deref_mut(), met, stray)?,
                _ => {}
            }
        }
        Ok(absorbed)
    }

    /// The same, where a stray is to go.
    fn pass_goal(
        &mut self,
        intent: &mut Intent,
        heir: Option<&mut Inode>,
        met: &Passed,
        mut stray: Intent,
    ) -> Outcomes<bool> {
        match (intent.kind(), met.relation) {
            (IntentKind::Rename, Relation::Exact) if !met.at_target => {
                self.join_renames(stray, intent)?;
                return Ok(true);
            }
            (IntentKind::Rename | IntentKind::Delete, Relation::Exact) | (IntentKind::DeleteTree, _) => {
                self.delete_stray(stray)?;
            }
            (IntentKind::Rename, Relation::Above) if !met.at_target => {
                let rest = stray.to_path.slice(intent.path.len()..);
                let to_path = Bytes::from([&intent.to_path[..], &rest[..]].concat());
                self.unindex_path(&stray);
                stray.to_path = to_path;
                stray.to_order = intent.target_order();
                self.try_if_home(&mut stray);
                self.index_path(&stray);
                self.put_intent(&stray);
            }
            (kind, Relation::Exact) if kind.is_creating() && stray.inode != intent.inode => {
                // Who takes over the name reckons with the object of before, which is not there.
                if let Some((heir, ufs)) = heir.and_then(|heir| heir.ufs.clone().map(|ufs| (heir, ufs))) {
                    let mut ufs = ufs;
                    ufs.occupied.retain(|fingerprint| !stray.expect.contains(fingerprint));
                    heir.ufs = Some(ufs);
                    self.tx.put_inode(heir.clone());
                }
                self.delete_stray(stray)?;
            }
            _ => {}
        }
        Ok(false)
    }

    /// One that is to go where it is needs nobody's leave: it is done by its next try, once what has passed it is. Until then it tells
    /// where its object is.
    fn try_if_home(&mut self, stray: &mut Intent) {
        if stray.to_path == stray.path {
            stray.retry_at_ns = self.now_ns;
            self.applied.intents.push(stray.id);
        }
    }

    /// A stray is to go further before it has gone anywhere.
    fn join_renames(&mut self, mut stray: Intent, later: &Intent) -> Outcomes<()> {
        self.drop_intent(later);
        // What the stray would have replaced is still there, as is what an upload may have put there that never reported back.
        let inode = self.tx.inode_opt(InodeId(later.inode))?;
        let occupied = inode.and_then(|inode| inode.ufs.as_ref().map(|ufs| ufs.occupied.clone()));
        let occupied = occupied.unwrap_or_default();
        if !later.expect_lengths.is_empty() || !occupied.is_empty() {
            self.journal_delete(Intent {
                expect: occupied,
                ..later.clone()
            });
        }
        self.unindex_path(&stray);
        stray.to_path = later.to_path.clone();
        stray.to_order = later.target_order();
        stray.to_dir = later.to_dir;
        stray.tell.retain(|id| *id != later.id);
        let told: Vec<u64> = later
            .tell
            .iter()
            .filter(|id| !stray.tell.contains(id))
            .copied()
            .collect();
        stray.tell.extend(told);
        if stray.heir != 0 {
            let key = tables::intent_by_inode(InodeId(stray.heir), IntentId(stray.id));
            self.tx.delete(key);
        }
        stray.heir = later.heir;
        if stray.heir != 0 {
            let key = tables::intent_by_inode(InodeId(stray.heir), IntentId(stray.id));
            self.tx.put(key, tables::nothing());
        }
        self.try_if_home(&mut stray);
        self.index_path(&stray);
        self.put_intent(&stray);
        Ok(())
    }

    /// Nobody wants a stray any more: it is to be deleted where it is.
    fn delete_stray(&mut self, stray: Intent) -> Outcomes<()> {
        self.mark_refused(&stray, false)?;
        self.drop_intent(&stray);
        self.journal_delete(stray);
        Ok(())
    }

    /// Journals the delete of what a rename was to move, in its place in the order and under its id.
    fn journal_delete(&mut self, rename: Intent) {
        self.live_on(Intent {
            expect_lengths: rename.expect_lengths.clone(),
            version: rename.version,
            length: rename.length,
            ..delete_of_source(&rename)
        });
    }

    /// Something was put at a place: what was to be deleted there is replaced, and what was to go there has no place any more.
    pub(super) fn end_strays_at(&mut self, done: &Intent) -> Outcomes<()> {
        let (mount, path) = match done.kind() {
            IntentKind::Persist | IntentKind::Symlink => (MountId(done.mount_id), &done.path),
            IntentKind::Rename if !done.is_folder() => (done.to_mount(), &done.to_path),
            _ => return Ok(()),
        };
        let mut strays = Vec::new();
        self.tx.each_intent(&tables::at_path(mount, path), |key, value| {
            let role = tables::PathRole::decode(&key, &value)?;
            let stray = self.tx.intent_opt(role.id)?.filter(Intent::is_stray);
            strays.extend(stray.map(|stray| (stray, role.is_target)));
            Ok(true)
        })?;
        for (stray, is_target) in strays {
            match stray.kind() {
                IntentKind::Delete => self.drop_intent(&stray),
                IntentKind::Rename if is_target => self.delete_stray(stray)?,
                _ => {}
            }
        }
        Ok(())
    }

    pub(super) fn intent_left(&mut self, c: IntentLeft) -> Outcomes<()> {
        let Some(whole) = self.tx.intent_opt(IntentId(c.intent))? else {
            return Ok(());
        };
        if !matches!(whole.kind(), IntentKind::Rename | IntentKind::DeleteTree) || !whole.started {
            return refuse(
                ErrorKind::InvalidArgument,
                format!("intent {} leaves nothing, or has not been started", whole.id),
            );
        }
        for left in &c.left {
            if let Some(entry) = &left.entry {
                self.leave(&whole, left, entry, &c)?;
            }
        }
        Ok(())
    }

    /// Journals what is to be done yet about one object.
    fn leave(&mut self, whole: &Intent, left: &LeftObject, entry: &UfsEntry, c: &IntentLeft) -> Outcomes<()> {
        let at = |top: &[u8]| match entry.name.is_empty() {
            true => Bytes::copy_from_slice(top),
            false => child_path(top, &entry.name),
        };
        let path = at(&whole.path);
        let mut stray = Intent {
            kind: IntentKind::Delete as i32,
            mount_id: whole.mount_id,
            inode_kind: entry.kind,
            created_ns: self.now_ns,
            order: whole.order,
            started: true,
            expect: vec![entry.fingerprint.clone()],
            refused: true,
            refusals: STUCK_AFTER,
            refused_since_ns: self.now_ns,
            attempts: 1,
            last_error: left.error.clone(),
            retry_at_ns: c.retry_at_ns,
            ..Default::default()
        };
        if entry.kind() == FileKind::Directory {
            stray.kind = IntentKind::Rmdir as i32;
            stray.expect.clear();
        } else if whole.kind() == IntentKind::Rename && !left.copied {
            stray.kind = IntentKind::Rename as i32;
            stray.stays = true;
            stray.to_path = at(&whole.to_path);
            let goal = UfsLocation {
                mount: whole.to_mount(),
                path: stray.to_path.clone(),
            };
            let inode = self.inode_of_left(&goal, whole, entry, c)?;
            self.bind_left(&mut stray, whole, &path, inode)?;
            if stray.kind() == IntentKind::Rename {
                // Who was journaled behind the whole, and so before this, is told of it, too.
                let later = self.expecting(&goal, whole.order, &entry.fingerprint)?;
                stray.tell = later.into_iter().map(|later| later.id).collect();
            }
        }
        stray.path = path;
        self.journal_stray(stray)
    }

    /// Whose object it is that is left behind at `path`: that of the file which has its name. One whose name another file has taken over,
    /// which was to replace it, is wanted by nobody.
    fn bind_left(
        &mut self,
        stray: &mut Intent,
        whole: &Intent,
        path: &Bytes,
        inode: Option<Arc<Inode>>,
    ) -> Outcomes<()> {
        let Some(inode) = inode else { return Ok(()) };
        let Some(ufs) = inode.ufs.as_ref() else { return Ok(()) };
        let is_it = |fingerprint: &String| ufs.present && ufs.is_known_as(fingerprint);
        let is_file = inode.is_file() && stray.expect.iter().any(is_it);
        // Another file may have taken the name over, whose object is elsewhere, and the same.
        if is_file && self.is_at(&inode, MountId(stray.mount_id), path)? {
            (stray.inode, stray.to_dir) = (inode.id, inode.parent);
            (stray.version, stray.length) = self.bound_upload(&inode, true);
            self.unlearn_copy(whole, &inode);
        } else if stray
            .expect
            .iter()
            .any(|fingerprint| ufs.occupied.contains(fingerprint))
        {
            (stray.kind, stray.stays) = (IntentKind::Delete as i32, false);
            stray.to_path.clear();
        }
        Ok(())
    }

    fn journal_stray(&mut self, mut stray: Intent) -> Outcomes<()> {
        // An attempt of before a crash may have said so.
        let mut is_known = false;
        let place = tables::at_path(MountId(stray.mount_id), &stray.path);
        self.tx.each_intent(&place, |key, value| {
            let role = tables::PathRole::decode(&key, &value)?;
            let known = self.tx.intent_opt(role.id)?;
            is_known |= !role.is_target && known.is_some_and(|known| known.is_stray() && known.order == stray.order);
            Ok(!is_known)
        })?;
        if is_known {
            return Ok(());
        }
        stray.id = self.count_intent(stray.kind());
        self.tx.put(
            tables::intent_by_inode(InodeId(stray.inode), IntentId(stray.id)),
            tables::nothing(),
        );
        self.index_path(&stray);
        self.put_intent(&stray);
        self.mark_refused(&stray, true)?;
        self.applied.intents.push(stray.id);
        Ok(())
    }

    /// What has the name of an object that is left behind by a rename which was to bring it to `goal`, wherever that name is by now. One
    /// whose name nobody has asked for yet becomes known: nothing shows it any more where it is.
    fn inode_of_left(
        &mut self,
        goal: &UfsLocation,
        whole: &Intent,
        entry: &UfsEntry,
        c: &IntentLeft,
    ) -> Outcomes<Option<Arc<Inode>>> {
        let (at, was_removed) = self.renamed_since(goal.clone(), whole.order)?;
        let Some(root) = self.tx.mount_opt(at.mount) else {
            return Ok(None);
        };
        let mut dir = self.tx.dir(InodeId(root.root_inode))?;
        let mut names = at.path.split(|byte| *byte == b'/').peekable();
        while let Some(name) = names.next() {
            let name = Bytes::copy_from_slice(name);
            let is_last = names.peek().is_none();
            let known = match self.tx.edge(dir.inode_id(), &name)? {
                Some(edge) => Some(self.tx.inode(edge.child)?),
                None => None,
            };
            let inode = match known {
                Some(inode) => inode,
                None if was_removed || check_name(&name).is_err() => return Ok(None),
                None => self.make_known(&dir, name, entry, is_last, c)?,
            };
            if is_last {
                return Ok(Some(inode));
            }
            if !inode.is_dir() {
                return Ok(None);
            }
            dir = inode;
        }
        Ok(None)
    }

    fn make_known(
        &mut self,
        dir: &Inode,
        name: Bytes,
        entry: &UfsEntry,
        is_last: bool,
        c: &IntentLeft,
    ) -> Outcomes<Arc<Inode>> {
        let entry = match is_last {
            true => UfsEntry {
                name: name.clone(),
                ..entry.clone()
            },
            false => UfsEntry {
                name: name.clone(),
                kind: FileKind::Directory as i32,
                ..Default::default()
            },
        };
        let defaults = LoadEntries {
            file_mode: c.file_mode,
            dir_mode: c.dir_mode,
            owner: dir.owner.clone(),
            group: dir.group.clone(),
            ..Default::default()
        };
        let inode = self.loaded_inode(dir, &entry, &defaults, 0)?;
        self.put_edge(dir.inode_id(), &name, &inode);
        let mut dir = self.edit(dir.inode_id())?;
        dir.entries += 1;
        dir.nlink += u32::from(inode.is_dir());
        self.tx.put_inode(dir);
        self.entry_changed(inode.parent_id(), &name, None);
        self.tx.put_inode(inode.clone());
        Ok(Arc::new(inode))
    }

    /// Where the names say that something is that was at `at` once the intent of that order was journaled: later renames are made. And
    /// whether a later change takes its name away.
    pub(super) fn renamed_since(&self, at: UfsLocation, order: u64) -> Outcomes<(UfsLocation, bool)> {
        let (mut places, was_removed) = self.places_since(at.clone(), order)?;
        Ok((places.pop().map_or(at, |(at, _)| at), was_removed))
    }

    /// All places on that way, each with the order after which it is so.
    pub(super) fn places_since(&self, mut at: UfsLocation, order: u64) -> Outcomes<(Vec<(UfsLocation, u64)>, bool)> {
        let (mut places, mut since) = (Vec::new(), order);
        loop {
            places.push((at.clone(), since));
            let mut next: Option<Intent> = None;
            self.tx.each_near(at.mount, &at.path, |role, relation| {
                let is_next = next.as_ref().is_none_or(|next| role.order < next.order);
                if relation != Relation::Above && !role.is_target && role.order > since && is_next {
                    let change = self.tx.intent_opt(role.id)?.filter(|change| !change.is_stray());
                    let moves = |change: &Intent| match change.kind() {
                        IntentKind::Rename => change.is_folder() || relation == Relation::Exact,
                        IntentKind::Delete => relation == Relation::Exact,
                        IntentKind::DeleteTree => true,
                        _ => false,
                    };
                    next = change.filter(moves).or(next.take());
                }
                Ok(true)
            })?;
            let Some(change) = next else {
                return Ok((places, false));
            };
            if change.kind() != IntentKind::Rename {
                return Ok((places, true));
            }
            since = change.order;
            let rest = at.path.slice(change.path.len()..);
            at = UfsLocation {
                mount: change.to_mount(),
                path: Bytes::from([&change.to_path[..], &rest[..]].concat()),
            };
        }
    }

    /// A person decides that a stray is where it belongs: the name that the namespace has for it goes, and the next look finds it where it
    /// is. Not while there is more of the file than that object.
    pub(super) fn forget_stray(&mut self, stray: Intent) -> Outcomes<()> {
        let inode = self.tx.inode_opt(InodeId(stray.inode))?.filter(|inode| inode.nlink > 0);
        let inode = inode.filter(|inode| inode.ufs.as_ref().is_some_and(|ufs| ufs.present));
        if let Some(inode) = &inode {
            let others = self.tx.intents_of(inode.inode_id())?;
            let is_all = inode.is_persisted() && inode.open.is_none() && inode.nlink == 1;
            if !is_all || others.iter().any(|other| other.id != stray.id) {
                let why = format!(
                    "file {} was changed or is in use, or has more names: its object is not all there is of it",
                    inode.id
                );
                return refuse(ErrorKind::Busy, why);
            }
        }
        self.mark_refused(&stray, false)?;
        self.drop_intent(&stray);
        if let Some(inode) = inode {
            let inode = self.edit(inode.inode_id())?;
            let (dir, name) = (inode.parent_id(), inode.name.clone());
            self.unname(dir, &name, &inode, true)?;
            self.lose_last_name(inode, &[], None)?;
        }
        // Whichever folder shows it is looked at anew.
        self.bump_epoch(&Intent {
            dir: 0,
            ..stray.clone()
        })?;
        let mut dir = InodeId(self.tx.mount(MountId(stray.mount_id))?.root_inode);
        for name in stray.path.split(|byte| *byte == b'/') {
            match self.tx.edge(dir, name)? {
                Some(edge) if edge.kind == FileKind::Directory => dir = edge.child,
                _ => break,
            }
        }
        self.forget_loaded(dir)
    }
}
