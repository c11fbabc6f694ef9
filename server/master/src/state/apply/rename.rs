//! Rename, in the namespace at once, in the under-storage by intents. Between two of them: [`super::across`].

use alluxio_proto::types::FileKind;
use alluxio_proto::{ErrorKind, InodeId, MountId};
use bytes::Bytes;

use super::access::WRITE;
use super::across::check_across;
use super::names::check_expected;
use super::{Work, check_name, child_path};
use crate::state::UfsLocation;
use crate::state::command::{RENAME_EXCHANGE, RENAME_NOREPLACE, RENAME_WHITEOUT, Rename};
use crate::state::fault::{Outcomes, refuse, show};
use crate::state::inode::Inode;
use crate::state::view::View;

/// One end of a rename.
#[derive(Clone)]
pub(super) struct End {
    pub mount: MountId,
    pub dir: InodeId,
    pub name: Bytes,
    /// Path beneath the mount's root.
    pub path: Bytes,
}

impl Work<'_, '_> {
    pub(super) fn rename(&mut self, c: Rename) -> Outcomes<()> {
        let mut known = RENAME_NOREPLACE | RENAME_EXCHANGE;
        if self.follows(1) {
            known |= RENAME_WHITEOUT;
        }
        let exchanges = c.flags & RENAME_EXCHANGE != 0;
        if c.flags & !known != 0 || (exchanges && c.flags != RENAME_EXCHANGE) {
            return refuse(
                ErrorKind::InvalidArgument,
                format!("rename does not know flags {:#x}", c.flags),
            );
        }
        check_name(&c.new_name)?;
        let (from_dir, source) = self.removable(c.parent, &c.name)?;
        let to_dir = self.tx.dir(InodeId(c.new_parent))?;
        let target = match self.tx.edge(to_dir.inode_id(), &c.new_name)? {
            Some(edge) => Some(self.edit(edge.child)?),
            None => None,
        };
        if c.flags & RENAME_EXCHANGE == 0 {
            check_expected(c.expected_target, target.as_ref(), &c.new_name)?;
        }
        if from_dir.mount_id != to_dir.mount_id {
            check_across(&c, &source)?;
        }
        let to_dir = self.writable_dir(to_dir.inode_id())?;
        self.check_move(&from_dir, &source, &to_dir)?;
        if let Some(target) = &target {
            self.who.check_sticky(&to_dir, target)?;
            if self.tx.is_mount_point(target) {
                return refuse(
                    ErrorKind::Busy,
                    format!("{:?} is a mount point; unmount it first", show(&c.new_name)),
                );
            }
        }
        let (Some(from_path), Some(to_path)) = (self.tx.natural_path(&from_dir)?, self.tx.natural_path(&to_dir)?)
        else {
            return refuse(ErrorKind::NotFound, "the directory was removed");
        };
        let whiteout = (c.flags & RENAME_WHITEOUT != 0).then(|| c.name.clone());
        let from = End {
            mount: from_dir.mount(),
            dir: from_dir.inode_id(),
            path: child_path(&from_path, &c.name),
            name: c.name,
        };
        let to = End {
            mount: to_dir.mount(),
            dir: to_dir.inode_id(),
            path: child_path(&to_path, &c.new_name),
            name: c.new_name,
        };
        match target {
            Some(_) if c.flags & RENAME_NOREPLACE != 0 => {
                refuse(ErrorKind::AlreadyExists, format!("{:?} exists", show(&to.name)))
            }
            // Also where they are two names of one inode: both stay.
            Some(target) if target.id == source.id => {
                self.answer(&source);
                Ok(())
            }
            None if exchanges => refuse(ErrorKind::NotFound, format!("{:?} does not exist", show(&to.name))),
            Some(target) if exchanges => {
                self.check_move(&to_dir, &target, &from_dir)?;
                self.exchange(source, from, target, to)
            }
            target => {
                self.replace(source, from, target, to, &c.keep_for)?;
                whiteout.map_or(Ok(()), |name| self.leave_whiteout(c.parent, &name))
            }
        }
    }

    /// A directory must not move beneath itself, and changes its `..` when it moves.
    fn check_move(&self, from_dir: &Inode, source: &Inode, to_dir: &Inode) -> Outcomes<()> {
        if !source.is_dir() || from_dir.id == to_dir.id {
            return Ok(());
        }
        if self.tx.is_beneath(to_dir.inode_id(), source.inode_id())? {
            return refuse(ErrorKind::InvalidArgument, "a directory cannot move beneath itself");
        }
        self.who.check_access(source, WRITE)
    }

    fn replace(&mut self, mut source: Inode, from: End, target: Option<Inode>, to: End, keep: &[u64]) -> Outcomes<()> {
        if let Some(target) = &target {
            match (source.is_dir(), target.is_dir()) {
                (true, false) => {
                    return refuse(
                        ErrorKind::NotADirectory,
                        format!("{:?} is no directory", show(&to.name)),
                    );
                }
                (false, true) => {
                    return refuse(ErrorKind::IsADirectory, format!("{:?} is a directory", show(&to.name)));
                }
                (true, true) => self.check_removable_dir(target)?,
                (false, false) => {}
            }
        }
        let target = match target {
            Some(target) if !target.is_dir() && target.nlink > 1 => {
                self.lose_a_name(to.dir, &to.name, target)?;
                None
            }
            target => target,
        };
        let is_stored = source.is_stored_at(from.dir, &from.name);
        let replaced = match target {
            Some(target) => Some(self.move_over(&mut source, &from, target, &to)?),
            None if is_stored => {
                self.move_to_free(&mut source, &from, &to)?;
                None
            }
            None => None,
        };
        if from.mount != to.mount {
            self.settle_on(&mut source, to.mount)?;
        }
        if let Some((target, _)) = &replaced {
            self.unname(to.dir, &to.name, target, true)?;
        }
        self.move_name(&mut source, &from, &to)?;
        self.put_and_answer(source);
        match replaced {
            Some((target, _)) if target.is_dir() => {
                self.applied.unlinked = target.id;
                self.delete_inode(&target)
            }
            Some((target, physical)) => self.lose_last_name(target, keep, physical),
            None => Ok(()),
        }
    }

    /// What a rename to a free name means for the under-storage.
    pub(super) fn move_to_free(&mut self, source: &mut Inode, from: &End, to: &End) -> Outcomes<()> {
        if from.mount != to.mount && source.is_dir() {
            return self.carry_tree(source, from, to);
        }
        if from.mount != to.mount && source.kind() == FileKind::Symlink {
            return self.link_anew(source, from, to.mount);
        }
        let presence = self.presence(source)?;
        if presence.own {
            return self.new_rename(source, from, to);
        }
        self.vacate(source, &presence, from.path.clone(), from.dir)
    }

    /// What a rename onto `target` means for the under-storage. Returns the target and where its object is now.
    fn move_over(
        &mut self,
        source: &mut Inode,
        from: &End,
        mut target: Inode,
        to: &End,
    ) -> Outcomes<(Inode, Option<UfsLocation>)> {
        let physical = self.physical_place(&target, Some(to.path.clone()))?;
        if !source.is_stored_at(from.dir, &from.name) {
            // The source stays where the under-storage has it, under another name.
            self.leave_for_good(&mut target, Some(to.path.clone()), to.dir)?;
            return Ok((target, physical));
        }
        if source.is_dir() {
            self.leave_dir_for_good(&mut target, Some(to.path.clone()), to.dir)?;
            self.move_to_free(source, from, to)?;
            return Ok((target, physical));
        }
        if from.mount != to.mount && source.kind() == FileKind::Symlink {
            self.link_anew(source, from, to.mount)?;
        }
        let presence = self.presence(source)?;
        if presence.own || self.will_upload(source, &presence) {
            if !presence.own {
                self.vacate(source, &presence, from.path.clone(), from.dir)?;
            }
            match target.spilled && self.follows(3) {
                // Who has it open reads what its home gave up from its object: that goes when they are done, and what is to come there
                // waits for that.
                true => self.leave_for_good(&mut target, Some(to.path.clone()), to.dir)?,
                false => self.hand_over(&mut target, source)?,
            }
        } else {
            self.vacate(source, &presence, from.path.clone(), from.dir)?;
            self.leave_for_good(&mut target, Some(to.path.clone()), to.dir)?;
        }
        if presence.own {
            self.new_rename(source, from, to)?;
        }
        Ok((target, physical))
    }

    /// Moves the name. The target name must be free.
    fn move_name(&mut self, source: &mut Inode, from: &End, to: &End) -> Outcomes<()> {
        self.unname(from.dir, &from.name, source, false)?;
        self.rename_name(source, from, to);
        let mut dir = self.edit(to.dir)?;
        self.name_it(&mut dir, &to.name, source);
        self.tx.put_inode(dir);
        self.inode_changed(source.id, false);
        Ok(())
    }

    /// Gives `inode` the name at `end` for the one at `from`, over whatever has it; counts are the caller's.
    pub(super) fn put_name(&mut self, inode: &mut Inode, from: &End, end: &End) {
        self.rename_name(inode, from, end);
        self.put_edge(end.dir, &end.name, inode);
        self.entry_changed(end.dir, &end.name, None);
        self.inode_changed(inode.id, false);
    }
}
