//! Removing names: unlink, rmdir, and what becomes of an inode without one.

use alluxio_proto::types::FileKind;
use alluxio_proto::{ErrorKind, InodeId, SessionId};
use bytes::Bytes;

use super::{Work, check_name};
use crate::state::UfsLocation;
use crate::state::command::{Rmdir, Unlink};
use crate::state::fault::{Outcomes, refuse, show};
use crate::state::inode::{Inode, UfsBinding};
use crate::state::records::{Freed, Intent, IntentKind};
use crate::state::tables::{self, HELD_READ, HELD_WRITE};
use crate::state::view::View;

impl Work<'_, '_> {
    pub(super) fn unlink(&mut self, c: Unlink) -> Outcomes<()> {
        let (parent, inode) = self.removable(c.parent, &c.name)?;
        check_expected(c.expected, Some(&inode), &c.name)?;
        if inode.is_dir() {
            return refuse(ErrorKind::IsADirectory, format!("{:?} is a directory", show(&c.name)));
        }
        self.unlink_inode(parent.inode_id(), &c.name, inode, &c.keep_for)
    }

    pub(super) fn rmdir(&mut self, c: Rmdir) -> Outcomes<()> {
        let (parent, mut inode) = self.removable(c.parent, &c.name)?;
        if !inode.is_dir() {
            return refuse(ErrorKind::NotADirectory, format!("{:?} is no directory", show(&c.name)));
        }
        self.check_removable_dir(&inode)?;
        let path = self.tx.natural_path(&inode)?;
        self.leave_dir_for_good(&mut inode, path, parent.inode_id())?;
        self.unname(parent.inode_id(), &c.name, &inode, true)?;
        self.applied.unlinked = inode.id;
        self.delete_inode(&inode)
    }

    /// A name that the caller may remove: its directory and what it names.
    pub(super) fn removable(&mut self, parent: u64, name: &[u8]) -> Outcomes<(Inode, Inode)> {
        check_name(name)?;
        let dir = self.tx.dir(InodeId(parent))?;
        let Some(edge) = self.tx.edge(dir.inode_id(), name)? else {
            return refuse(
                ErrorKind::NotFound,
                format!("{:?} does not exist in directory {parent}", show(name)),
            );
        };
        let dir = self.writable_dir(dir.inode_id())?;
        let inode = self.edit(edge.child)?;
        self.who.check_sticky(&dir, &inode)?;
        if self.tx.is_mount_point(&inode) {
            return refuse(
                ErrorKind::Busy,
                format!("{:?} is a mount point; unmount it first", show(name)),
            );
        }
        Ok((dir, inode))
    }

    pub(super) fn check_removable_dir(&self, inode: &Inode) -> Outcomes<()> {
        if self.tx.has_any(&tables::edge(inode.inode_id(), b""))? {
            return refuse(ErrorKind::NotEmpty, format!("directory {} has entries", inode.id));
        }
        if !inode.children_loaded {
            return refuse(
                ErrorKind::Unavailable,
                format!(
                    "the names of directory {} are not loaded yet; load them, then try again",
                    inode.id
                ),
            );
        }
        Ok(())
    }

    /// Takes a name of an inode that is no directory; what the under-storage has by that name goes too.
    pub(super) fn unlink_inode(
        &mut self,
        parent: InodeId,
        name: &Bytes,
        mut inode: Inode,
        keep: &[u64],
    ) -> Outcomes<()> {
        if inode.nlink > 1 {
            return self.lose_a_name(parent, name, inode);
        }
        let path = self.tx.natural_path(&inode)?;
        let physical = self.physical_place(&inode, path.clone())?;
        self.leave_for_good(&mut inode, path, parent)?;
        self.unname(parent, name, &inode, true)?;
        self.lose_last_name(inode, keep, physical)
    }

    /// Where the object of an inode is now, for those who still hold it after its name went.
    pub(super) fn physical_place(&self, inode: &Inode, natural: Option<Bytes>) -> Outcomes<Option<UfsLocation>> {
        let mount = inode.mount();
        Ok(match natural {
            Some(path) if inode.ufs.as_ref().is_some_and(|ufs| ufs.present) => {
                Some(self.tx.undo_renames(UfsLocation { mount, path }, inode.is_dir())?)
            }
            _ => None,
        })
    }

    /// A directory goes: so does its folder, if there may be one.
    pub(super) fn leave_dir_for_good(&mut self, inode: &mut Inode, path: Option<Bytes>, dir: InodeId) -> Outcomes<()> {
        let presence = self.presence(inode)?;
        self.forget_intents(inode, &presence, None)?;
        if let Some(path) = path.filter(|_| presence.own) {
            self.bump_generation(dir)?;
            self.new_fixed_intent(Intent {
                kind: IntentKind::Rmdir as i32,
                mount_id: inode.mount_id,
                path,
                inode: inode.id,
                inode_kind: inode.kind,
                dir: dir.get(),
                ..Default::default()
            })?;
        }
        Ok(())
    }

    /// Removes the edge, and tells those who watch; `gone`: the inode goes with it.
    pub(super) fn unname(&mut self, parent: InodeId, name: &Bytes, child: &Inode, gone: bool) -> Outcomes<()> {
        self.tx.delete(tables::edge(parent, name));
        let mut dir = self.edit(parent)?;
        dir.entries = dir.entries.saturating_sub(1);
        dir.nlink = dir.nlink.saturating_sub(u32::from(child.is_dir()));
        dir.note_entries_changed(self.now_ns);
        self.tx.put_inode(dir);
        self.entry_changed(parent, name, gone.then_some(child));
        self.inode_changed(parent.get(), false);
        Ok(())
    }

    /// Keeps an inode without a name for those who have it open, or deletes it.
    pub(super) fn lose_last_name(
        &mut self,
        mut inode: Inode,
        keep: &[u64],
        physical: Option<UfsLocation>,
    ) -> Outcomes<()> {
        self.applied.unlinked = inode.id;
        let mut held = false;
        if inode.is_file() {
            let readers = keep.iter().map(|session| (*session, HELD_READ));
            let writers = inode
                .open
                .iter()
                .flat_map(|open| &open.writers)
                .map(|writer| (writer.session, HELD_WRITE));
            let holders: Vec<_> = readers
                .chain(writers)
                .filter(|(session, _)| self.tx.has_session(*session))
                .collect();
            for (session, bits) in holders {
                self.hold(inode.inode_id(), SessionId(session), bits)?;
                held = true;
            }
        }
        if !held {
            return self.delete_inode(&inode);
        }
        inode.parent = 0;
        inode.name = Bytes::new();
        inode.nlink = 0;
        inode.note_change(self.now_ns);
        if let Some(physical) = physical {
            let ufs = inode.ufs.get_or_insert_with(UfsBinding::default);
            ufs.hold_at(physical);
        }
        self.applied.orphaned = true;
        self.inode_changed(inode.id, false);
        self.tx.put_inode(inode);
        Ok(())
    }

    pub(super) fn hold(&mut self, inode: InodeId, session: SessionId, bits: u8) -> Outcomes<()> {
        let key = tables::holder(inode, session);
        let before = self
            .tx
            .get(&key)?
            .map_or(Ok(0), |value| tables::hold_bits(&key, &value))?;
        self.tx.put(key, tables::hold(before | bits));
        self.tx.put(tables::held(session, inode), tables::nothing());
        Ok(())
    }

    /// A session lets go of an orphan, for reading or writing; the last one takes it along.
    pub(super) fn release(&mut self, inode: InodeId, session: SessionId, bits: u8) -> Outcomes<()> {
        let key = tables::holder(inode, session);
        let Some(value) = self.tx.get(&key)? else { return Ok(()) };
        let left = tables::hold_bits(&key, &value)? & !bits;
        if left != 0 {
            self.tx.put(key, tables::hold(left));
            return Ok(());
        }
        self.tx.delete(key);
        self.tx.delete(tables::held(session, inode));
        if !self.tx.has_any(&tables::of(tables::HOLDERS, inode.get()))?
            && let Some(orphan) = self.tx.inode_opt(inode)?
        {
            self.delete_inode(&orphan)?;
        }
        Ok(())
    }

    /// Deletes the record. Workers may drop what they hold of it.
    pub(super) fn delete_inode(&mut self, inode: &Inode) -> Outcomes<()> {
        self.delete_xattrs(inode)?;
        let mut workers: Vec<u64> = inode.locations.iter().map(|at| at.worker).collect();
        if let Some(open) = &inode.open {
            for writer in &open.writers {
                self.tx
                    .delete(tables::session_open(SessionId(writer.session), inode.inode_id()));
            }
            self.tx.delete(tables::session_open(SessionId(0), inode.inode_id()));
            if !workers.contains(&open.home_worker) {
                workers.push(open.home_worker);
            }
        }
        if inode.kind() == FileKind::File && !workers.is_empty() {
            self.applied.freed.push(Freed {
                inode: inode.id,
                version: 0,
                workers,
            });
        }
        self.tx.delete_inode(inode.inode_id());
        let counters = self.tx.counters_mut();
        counters.inodes = counters.inodes.saturating_sub(1);
        Ok(())
    }
}

/// Refuses to take a name from another inode than the one whose readers the proposer has looked for.
pub(super) fn check_expected(expected: Option<u64>, found: Option<&Inode>, name: &[u8]) -> Outcomes<()> {
    let found = found.map_or(0, |inode| inode.id);
    match expected {
        Some(expected) if expected != found => refuse(
            ErrorKind::VersionMismatch,
            format!("{:?} names inode {found} now, not {expected}; look again", show(name)),
        ),
        _ => Ok(()),
    }
}
