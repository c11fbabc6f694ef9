//! Several names for one inode (link(2), O_TMPFILE), and what that means for the under-storage.
//!
//! One of the names is the *stored name* ([`Inode::parent`], [`Inode::name`]): the under-storage has the file there, and all
//! that is written elsewhere about an inode's path is about this one. The others live in the namespace and the journal; the
//! under-storage does not show them. So a write costs one upload, however many names there are, and a folder never shows two
//! objects of which one is old. When the stored name goes, another takes its place: the object is renamed, or the upload that
//! has not started goes there. Deleting or renaming any other name costs the under-storage nothing.
//!
//! A tree that is deleted as a whole takes its folder along in the under-storage, so what has a name outside of it is moved
//! there first ([`Work::rescue_links`]). Names in a deleted tree count until it is reclaimed, but are never made stored names
//! while there is another.

use alluxio_proto::types::PersistState;
use alluxio_proto::{ErrorKind, InodeId, SessionId};
use bytes::Bytes;

use super::rename::End;
use super::{Work, check_name, child_path};
use crate::metastore::prefix_end;
use crate::state::command::Link;
use crate::state::fault::{Outcomes, refuse, show};
use crate::state::inode::Inode;
use crate::state::tables;
use crate::state::view::View;

/// Most names of one inode, as on ext4.
pub(super) const NAMES_MAX: u32 = 65_000;
/// Names beside stored ones that are looked at when a tree is deleted as a whole. Where there are more, it is to be deleted
/// name by name.
const RESCUE_NAMES_MAX: u64 = if cfg!(test) { 100 } else { 10_000 };

impl Work<'_, '_> {
    pub(super) fn link(&mut self, c: Link) -> Outcomes<()> {
        check_name(&c.name)?;
        let mut inode = self.edit(InodeId(c.inode))?;
        let dir = self.tx.dir(InodeId(c.parent))?;
        if self.tx.edge(dir.inode_id(), &c.name)?.is_some() {
            return refuse(
                ErrorKind::AlreadyExists,
                format!("{:?} exists in directory {}", show(&c.name), dir.id),
            );
        }
        if inode.is_dir() {
            return refuse(ErrorKind::NotPermitted, "a directory has one name only");
        }
        if inode.mount_id != dir.mount_id {
            return refuse(
                ErrorKind::CrossesMounts,
                format!("inode {} lies on another mount than {:?}", inode.id, show(&c.name)),
            );
        }
        let mut dir = self.writable_dir(dir.inode_id())?;
        self.promise_name(&mut inode);
        match inode.nlink {
            0 => self.first_name(&mut inode, &dir, &c.name)?,
            NAMES_MAX.. => {
                return refuse(
                    ErrorKind::TooManyNames,
                    format!("inode {} has {NAMES_MAX} names", inode.id),
                );
            }
            _ if self.tx.natural_path(&inode)?.is_none() => return self.was_removed(&inode),
            _ => {
                self.put_link(&inode, dir.inode_id(), &c.name);
                inode.nlink += 1;
            }
        }
        inode.note_change(self.now_ns);
        self.name_it(&mut dir, &c.name, &inode);
        self.tx.put_inode(dir);
        self.inode_changed(inode.id, false);
        self.put_and_answer(inode);
        Ok(())
    }

    fn was_removed<T>(&self, inode: &Inode) -> Outcomes<T> {
        refuse(ErrorKind::NotFound, format!("inode {} was removed", inode.id))
    }

    /// What was made without a name gets one: it is no orphan any more.
    fn first_name(&mut self, inode: &mut Inode, dir: &Inode, name: &Bytes) -> Outcomes<()> {
        if !inode.linkable {
            return self.was_removed(inode);
        }
        for session in self.tx.numbers(&tables::of(tables::HOLDERS, inode.id))? {
            let session = SessionId(session);
            self.tx.delete(tables::holder(inode.inode_id(), session));
            self.tx.delete(tables::held(session, inode.inode_id()));
        }
        inode.linkable = false;
        inode.nlink = 1;
        inode.parent = dir.id;
        inode.name = name.clone();
        let has_content = inode.version > 0 || inode.open.is_none();
        if has_content && self.must_upload(inode)? {
            self.schedule_upload(inode)?;
        }
        Ok(())
    }

    fn put_link(&mut self, inode: &Inode, dir: InodeId, name: &[u8]) {
        self.tx
            .put(tables::link(inode.inode_id(), dir, name), tables::nothing());
        self.tx.counters_mut().links += 1;
    }

    fn delete_link(&mut self, inode: &Inode, dir: InodeId, name: &[u8]) {
        self.tx.delete(tables::link(inode.inode_id(), dir, name));
        let counters = self.tx.counters_mut();
        counters.links = counters.links.saturating_sub(1);
    }

    /// One of several names goes from a directory; the inode stays under the others.
    pub(super) fn lose_a_name(&mut self, dir: InodeId, name: &Bytes, mut inode: Inode) -> Outcomes<()> {
        if inode.is_stored_at(dir, name) {
            self.store_elsewhere(&mut inode)?;
        } else {
            self.delete_link(&inode, dir, name);
        }
        self.unname(dir, name, &inode, false)?;
        self.one_name_less(inode);
        Ok(())
    }

    fn one_name_less(&mut self, mut inode: Inode) {
        inode.nlink = inode.nlink.saturating_sub(1);
        inode.note_change(self.now_ns);
        self.inode_changed(inode.id, false);
        self.tx.put_inode(inode);
    }

    /// Of an inode with several names, the edge of one in a deleted tree is reclaimed.
    pub(super) fn reclaim_a_name(&mut self, dir: InodeId, name: &Bytes, mut inode: Inode) -> Outcomes<()> {
        if inode.is_stored_at(dir, name) {
            self.store_elsewhere(&mut inode)?;
        } else {
            self.delete_link(&inode, dir, name);
        }
        self.one_name_less(inode);
        Ok(())
    }

    /// The object of an inode with several names was removed behind our back, and its name goes. What a worker has of it,
    /// whole, is uploaded again under another name.
    pub(super) fn lose_stored_object(&mut self, dir: InodeId, name: &Bytes, mut inode: Inode) -> Outcomes<()> {
        let Some(next) = self.next_name(&inode)? else {
            return refuse(
                ErrorKind::Internal,
                format!("inode {} has {} names and no other", inode.id, inode.nlink),
            );
        };
        inode.ufs = None;
        self.make_stored(&mut inode, next);
        let mut held = inode.locations.iter().filter(|at| at.version == inode.version);
        let is_whole = inode.size == 0 || held.any(|at| at.bytes >= inode.size);
        if is_whole && inode.is_file() {
            self.schedule_upload(&mut inode)?;
        } else if inode.is_file() {
            inode.persist_state = PersistState::Lost as i32;
        } else {
            inode.persist_state = PersistState::NotPersisted as i32;
        }
        self.unname(dir, name, &inode, false)?;
        self.one_name_less(inode);
        Ok(())
    }

    /// Another name takes the place of the stored one, in the under-storage too.
    fn store_elsewhere(&mut self, inode: &mut Inode) -> Outcomes<()> {
        let Some(next) = self.next_name(inode)? else {
            return refuse(
                ErrorKind::Internal,
                format!("inode {} has {} names and no other", inode.id, inode.nlink),
            );
        };
        let dir = inode.parent_id();
        match self.tx.natural_path(inode)? {
            Some(path) if !next.path.is_empty() => {
                let from = End {
                    mount: inode.mount(),
                    dir,
                    name: inode.name.clone(),
                    path,
                };
                self.move_to_free(inode, &from, &next)?;
            }
            // Only names in deleted trees are left: nothing is to be kept in the under-storage.
            path => {
                let physical = self.physical_place(inode, path.clone())?;
                self.leave_for_good(inode, path, dir)?;
                if let (Some(ufs), Some(physical)) = (inode.ufs.as_mut(), physical) {
                    ufs.hold_at(physical);
                }
            }
        }
        self.make_stored(inode, next);
        Ok(())
    }

    /// `next`, which is one of its names, becomes the stored one.
    fn make_stored(&mut self, inode: &mut Inode, next: End) {
        self.delete_link(inode, next.dir, &next.name);
        inode.parent = next.dir.get();
        inode.name = next.name;
    }

    /// A name of the inode beside the stored one: the first that is not in a deleted tree; if all are, the first, whose path is
    /// empty then.
    fn next_name(&self, inode: &Inode) -> Outcomes<Option<End>> {
        let prefix = tables::of(tables::LINKS, inode.id);
        let mut found = None;
        for (key, _) in self.tx.scan(&prefix, &prefix_end(&prefix), NAMES_MAX as usize)? {
            let (_, dir, name) = tables::link_parts(&key)?;
            let path = self.path_of_name(dir, &name)?;
            let is_live = path.is_some();
            let end = End {
                mount: inode.mount(),
                dir,
                name,
                path: path.unwrap_or_default(),
            };
            if is_live {
                return Ok(Some(end));
            }
            found = found.or(Some(end));
        }
        Ok(found)
    }

    fn path_of_name(&self, dir: InodeId, name: &[u8]) -> Outcomes<Option<Bytes>> {
        let Some(dir) = self.tx.inode_opt(dir)? else {
            return Ok(None);
        };
        Ok(self.tx.natural_path(&dir)?.map(|path| child_path(&path, name)))
    }

    /// A name moves from one end to another, which is free; what there is in the under-storage has been seen to.
    pub(super) fn rename_name(&mut self, inode: &mut Inode, from: &End, to: &End) {
        self.promise_name(inode);
        if inode.is_stored_at(from.dir, &from.name) {
            inode.parent = to.dir.get();
            inode.name = to.name.clone();
        } else {
            self.delete_link(inode, from.dir, &from.name);
            self.put_link(inode, to.dir, &to.name);
        }
        inode.note_change(self.now_ns);
    }

    /// Before all beneath `top` goes: what the under-storage has there of inodes with a name elsewhere moves to that name.
    pub(super) fn rescue_links(&mut self, top: &Inode, alluxio_only: bool) -> Outcomes<()> {
        let links = self.tx.counters().links;
        if links == 0 {
            return Ok(());
        }
        if links > RESCUE_NAMES_MAX {
            return refuse(
                ErrorKind::NotSupported,
                format!("there are {links} hard links; remove the tree name by name"),
            );
        }
        let mut inodes = Vec::new();
        self.tx.each(&[tables::LINKS], |key, _| {
            let (inode, ..) = tables::link_parts(&key)?;
            if inodes.last() != Some(&inode) {
                inodes.push(inode);
            }
            Ok(true)
        })?;
        for id in inodes {
            let mut inode = self.edit(id)?;
            if !self.tx.is_beneath(inode.parent_id(), top.inode_id())? {
                continue;
            }
            let Some(other) = self.name_outside(&inode, top)? else {
                continue;
            };
            if alluxio_only {
                return refuse(
                    ErrorKind::Busy,
                    format!(
                        "inode {id} has the name {:?} outside of the tree; remove that first",
                        show(&other.name)
                    ),
                );
            }
            let (dir, name) = (inode.parent_id(), inode.name.clone());
            if let Some(path) = self.tx.natural_path(&inode)? {
                let from = End {
                    mount: inode.mount(),
                    dir,
                    name: name.clone(),
                    path,
                };
                self.move_to_free(&mut inode, &from, &other)?;
            }
            self.make_stored(&mut inode, other);
            self.put_link(&inode, dir, &name);
            self.tx.put_inode(inode);
        }
        Ok(())
    }

    /// A name of the inode that is in no deleted tree and not beneath `top`.
    fn name_outside(&self, inode: &Inode, top: &Inode) -> Outcomes<Option<End>> {
        let prefix = tables::of(tables::LINKS, inode.id);
        for (key, _) in self.tx.scan(&prefix, &prefix_end(&prefix), NAMES_MAX as usize)? {
            let (_, dir, name) = tables::link_parts(&key)?;
            if self.tx.is_beneath(dir, top.inode_id())? {
                continue;
            }
            if let Some(path) = self.path_of_name(dir, &name)? {
                let mount = inode.mount();
                return Ok(Some(End { mount, dir, name, path }));
            }
        }
        Ok(None)
    }
}
