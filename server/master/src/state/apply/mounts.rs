//! The mount table.

use alluxio_proto::types::{FileKind, PersistState};
use alluxio_proto::{ErrorKind, InodeId, MountId};

use super::{Work, check_name, take_id};
use crate::state::command::{MountUfs, SealMount};
use crate::state::fault::{Outcomes, refuse, show};
use crate::state::records::{Intent, MountRecord};
use crate::state::tables;
use crate::state::view::View;

impl Work<'_, '_> {
    pub(super) fn mount_ufs(&mut self, c: MountUfs) -> Outcomes<()> {
        check_name(&c.name)?;
        let Some(spec) = c.spec else {
            return refuse(ErrorKind::InvalidArgument, "nothing to mount");
        };
        let parent = self.writable_dir(InodeId(c.parent))?;
        let existing = self.tx.edge(parent.inode_id(), &c.name)?;
        let mut root = match existing {
            Some(edge) => self.edit(edge.child)?,
            None => {
                self.new_child(c.parent, &c.name, c.inode, (c.mode, 0), FileKind::Directory)?
                    .1
            }
        };
        if existing.is_some() {
            self.check_mount_point(&root, &c.name)?;
            let presence = self.presence(&root)?;
            self.forget_intents(&root, &presence, None)?;
        } else {
            let mut parent = parent;
            self.name_it(&mut parent, &c.name, &root);
            self.tx.put_inode(parent);
        }
        let id = take_id(&mut self.tx.counters_mut().mount_high, 0, "mount")?;
        root.nlink = 2;
        root.mount_id = id;
        root.children_loaded = false;
        root.persist_state = PersistState::Persisted as i32;
        self.tx.put_mount(MountRecord {
            id,
            root_inode: root.id,
            spec: Some(spec),
            epoch: 0,
            created_ns: self.now_ns,
        });
        self.applied.id = id;
        self.inode_changed(root.id, false);
        self.put_and_answer(root);
        Ok(())
    }

    pub(super) fn seal_mount(&mut self, c: SealMount) -> Outcomes<()> {
        let mut record = (*self.tx.mount(MountId(c.mount_id))?).clone();
        self.who.check_owner(&self.edit(InodeId(record.root_inode))?)?;
        if let Some(spec) = &mut record.spec {
            spec.options = c.options;
            spec.sealed = c.sealed;
            spec.wants_credentials = c.wants_credentials;
            spec.stores_symlinks = c.stores_symlinks.unwrap_or(spec.stores_symlinks);
            spec.stores_attributes = c.stores_attributes.unwrap_or(spec.stores_attributes);
        }
        self.tx.put_mount(record);
        Ok(())
    }

    fn check_mount_point(&self, root: &crate::state::inode::Inode, name: &[u8]) -> Outcomes<()> {
        if !root.is_dir() {
            return refuse(ErrorKind::NotADirectory, format!("{:?} is no directory", show(name)));
        }
        if self.tx.is_mount_point(root) {
            return refuse(ErrorKind::Busy, format!("{:?} is a mount point already", show(name)));
        }
        self.who.check_owner(root)?;
        self.check_removable_dir(root)?;
        if self.tx.intents_of(root.inode_id())?.iter().any(|intent| intent.started) {
            return refuse(
                ErrorKind::Busy,
                format!("{:?} is being made in the under-storage; try again", show(name)),
            );
        }
        Ok(())
    }

    pub(super) fn unmount_ufs(&mut self, id: MountId) -> Outcomes<()> {
        let mount = self.tx.mount(id)?;
        let mut root = self.edit(InodeId(mount.root_inode))?;
        if root.inode_id() == InodeId::ROOT {
            return refuse(ErrorKind::InvalidArgument, "the root mount cannot be taken away");
        }
        let parent = self.writable_dir(root.parent_id())?;
        self.who.check_owner(&root)?;
        self.check_no_mount_beneath(&root)?;
        self.check_idle(id)?;
        self.detach(parent.inode_id(), &mut root)?;
        self.forget_loaded(parent.inode_id())?;
        self.tx.delete_mount(id);
        self.applied.unlinked = root.id;
        Ok(())
    }

    /// Refuses while something would be lost by letting go of a mount. Rare, so a scan will do.
    fn check_idle(&self, id: MountId) -> Outcomes<()> {
        let mut pending = 0u64;
        self.tx.each(&[tables::INTENTS], |key, value| {
            let intent: Intent = tables::decode(&key, &value)?;
            pending += u64::from(intent.mount_id == id.get() || intent.to_mount_id == id.get());
            Ok(true)
        })?;
        if pending > 0 {
            return refuse(
                ErrorKind::Busy,
                format!("{pending} changes wait to be made in the under-storage; try again"),
            );
        }
        for inode in self.tx.numbers(&[tables::SESSION_OPENS])? {
            if self
                .tx
                .inode_opt(InodeId(inode))?
                .is_some_and(|inode| inode.mount_id == id.get())
            {
                return refuse(ErrorKind::Busy, format!("file {inode} on it is open for writing"));
            }
        }
        Ok(())
    }
}
