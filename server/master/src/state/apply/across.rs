//! Rename from one mount of the namespace to another.
//!
//! In the namespace it is a rename as any other: one command, at once, and inodes stay what they are; so open files, cached
//! data and extended attributes go along. Between the two under-storages objects are copied one by one, each by an intent of
//! its own: [`IntentKind::Rename`] with a second mount. Its confirmation binds the inode to the copy and makes the intent the
//! delete of the source ([`Work::intent_done`]); until then the file is read where it was, from then on where it is. So a
//! crash between any two steps repeats a copy or a delete, and nothing is deleted that was not copied and confirmed.
//!
//! A folder moves as what is in it: folders are made at the target from the top, then files are copied, then folders are
//! removed at the source from below, if nothing of others is left in them. What the under-storage does not have yet goes
//! along for nothing, as late-bound intents go where their inode is. Symbolic links are made anew.
//!
//! Every inode of the tree is changed by the one command, as each records its mount; so trees have a bound
//! ([`ACROSS_INODES_MAX`]), and all their names must be known. A file with several names cannot move: they would have to share
//! one object in two stores.

use alluxio_proto::types::{FileKind, PersistState};
use alluxio_proto::{ErrorKind, InodeId, MountId};

use super::rename::End;
use super::{Work, child_path, generation};
use crate::state::command::{ACROSS_INODES_MAX, RENAME_EXCHANGE, Rename};
use crate::state::fault::{Outcomes, refuse, show};
use crate::state::inode::Inode;
use crate::state::records::{Edge, Intent, IntentKind};
use crate::state::tables;
use crate::state::view::View;

/// Something beneath a folder that moves, or the folder itself.
struct Item {
    id: InodeId,
    is_dir: bool,
    from: End,
    to: End,
}

/// Whether a rename to another mount is wanted and possible, as far as its two ends tell.
pub(super) fn check_across(c: &Rename, source: &Inode) -> Outcomes<()> {
    let why = if !c.across_mounts {
        "would move to another mount"
    } else if c.flags == RENAME_EXCHANGE {
        "cannot be exchanged with what is on another mount"
    } else if !source.is_dir() && source.nlink > 1 {
        "has other names, which cannot be on another mount"
    } else {
        return Ok(());
    };
    refuse(ErrorKind::CrossesMounts, format!("{:?} {why}", show(&c.name)))
}

impl Work<'_, '_> {
    /// What it means for the two under-storages that a directory moves with all beneath it. Afterwards all beneath it is on the
    /// other mount, and `top` but for its own record.
    pub(super) fn carry_tree(&mut self, top: &mut Inode, from: &End, to: &End) -> Outcomes<()> {
        self.check_no_mount_beneath(top)?;
        let items = self.tree_of(top, from, to)?;
        if self.presence(top)?.own {
            self.ensure_dirs(to.dir)?;
        }
        let mut left = Vec::new();
        for item in items.iter().filter(|item| item.is_dir) {
            if self.make_dir_at(item)? {
                left.push(item);
            }
        }
        for item in items.iter().filter(|item| !item.is_dir) {
            let mut inode = self.edit(item.id)?;
            self.move_beneath(&mut inode, item)?;
            self.settle_on(&mut inode, to.mount)?;
            self.tx.put_inode(inode);
        }
        for item in left.into_iter().rev() {
            self.remove_dir_at(item)?;
        }
        for item in items.iter().filter(|item| item.is_dir && item.id != top.inode_id()) {
            let mut inode = self.edit(item.id)?;
            self.settle_on(&mut inode, to.mount)?;
            self.tx.put_inode(inode);
        }
        // It was changed as the directory of what is in it.
        *top = self.edit(top.inode_id())?;
        Ok(())
    }

    /// All of a tree, each directory before what is in it.
    fn tree_of(&self, top: &Inode, from: &End, to: &End) -> Outcomes<Vec<Item>> {
        let mut items = vec![Item {
            id: top.inode_id(),
            is_dir: true,
            from: from.clone(),
            to: to.clone(),
        }];
        let mut next = 0;
        while let Some(dir) = items.get(next) {
            next += 1;
            if !dir.is_dir {
                continue;
            }
            let (id, from, to) = (dir.id, dir.from.clone(), dir.to.clone());
            if !self.tx.dir(id)?.children_loaded {
                return refuse(
                    ErrorKind::Unavailable,
                    format!("the names of directory {id} are not loaded yet; load them, then try again"),
                );
            }
            let room = ACROSS_INODES_MAX - items.len();
            let prefix = tables::edge(id, b"");
            let rows = self
                .tx
                .scan(&prefix, &crate::metastore::prefix_end(&prefix), room + 1)?;
            if rows.len() > room {
                let why =
                    format!("a tree of more than {ACROSS_INODES_MAX} files and directories does not move at once");
                return refuse(ErrorKind::CrossesMounts, why);
            }
            for (key, value) in rows {
                let (name, edge) = (tables::edge_name(&key)?, Edge::decode(&key, &value)?);
                let child = |end: &End| End {
                    mount: end.mount,
                    dir: id,
                    path: child_path(&end.path, &name),
                    name: name.clone(),
                };
                items.push(Item {
                    id: edge.child,
                    is_dir: edge.kind == FileKind::Directory,
                    from: child(&from),
                    to: child(&to),
                });
            }
        }
        Ok(items)
    }

    /// Journals that the folder is made at the target, if there may be one at the source.
    fn make_dir_at(&mut self, item: &Item) -> Outcomes<bool> {
        let mut inode = self.edit(item.id)?;
        let presence = self.presence(&inode)?;
        if !presence.own {
            return Ok(false);
        }
        self.forget_intents(&inode, &presence, None)?;
        self.new_fixed_intent(Intent {
            kind: IntentKind::Mkdir as i32,
            mount_id: item.to.mount.get(),
            path: item.to.path.clone(),
            inode: inode.id,
            inode_kind: inode.kind,
            dir: item.to.dir.get(),
            ..Default::default()
        })?;
        inode.persist_state = PersistState::Persisted as i32;
        self.tx.put_inode(inode);
        Ok(true)
    }

    /// Journals that the folder is removed at the source, once it is empty.
    fn remove_dir_at(&mut self, item: &Item) -> Outcomes<()> {
        self.bump_generation(item.from.dir)?;
        self.new_fixed_intent(Intent {
            kind: IntentKind::Rmdir as i32,
            mount_id: item.from.mount.get(),
            path: item.from.path.clone(),
            inode: item.id.get(),
            inode_kind: FileKind::Directory as i32,
            dir: item.from.dir.get(),
            ..Default::default()
        })?;
        Ok(())
    }

    /// What is no directory and lies in a tree that moves.
    fn move_beneath(&mut self, inode: &mut Inode, item: &Item) -> Outcomes<()> {
        if inode.nlink > 1 {
            let why = format!(
                "{:?} has other names, which cannot be on another mount",
                show(&item.from.name)
            );
            return refuse(ErrorKind::CrossesMounts, why);
        }
        if inode.kind() == FileKind::Symlink {
            return self.link_anew(inode, &item.from, item.to.mount);
        }
        let presence = self.presence(inode)?;
        if presence.own {
            return self.new_rename_into(inode, &item.from, &item.to);
        }
        self.vacate(inode, &presence, item.from.path.clone(), item.from.dir)
    }

    /// A symbolic link leaves its under-storage, and is made in the other, if that can.
    pub(super) fn link_anew(&mut self, inode: &mut Inode, from: &End, mount: MountId) -> Outcomes<()> {
        self.leave_for_good(inode, Some(from.path.clone()), from.dir)?;
        inode.ufs = None;
        inode.mount_id = mount.get();
        inode.persist_state = PersistState::NotPersisted as i32;
        let record = self.tx.mount(mount)?;
        if record.spec.as_ref().is_some_and(|spec| spec.stores_symlinks) {
            inode.persist_state = PersistState::ToBePersisted as i32;
            self.new_late_intent(inode, IntentKind::Symlink)?;
        }
        Ok(())
    }

    /// The inode is on that mount from now on, and so is what waits for it.
    pub(super) fn settle_on(&mut self, inode: &mut Inode, mount: MountId) -> Outcomes<()> {
        for mut intent in self.tx.intents_of(inode.inode_id())? {
            if intent.inode == inode.id && intent.order == 0 {
                intent.mount_id = mount.get();
                self.put_intent(&intent);
            }
        }
        if !inode.is_dir() {
            inode.mount_id = mount.get();
            return Ok(());
        }
        // The other mount's epoch may be lower: no listing of before may pass for one of now.
        let before = generation(self.tx, inode)?;
        inode.mount_id = mount.get();
        let epoch = self.tx.mount(mount)?.epoch;
        inode.generation = (before + 1).saturating_sub(epoch).max(inode.generation + 1);
        Ok(())
    }
}
