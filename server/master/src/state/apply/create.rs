//! New inodes: files, directories, links, special files.

use alluxio_proto::types::{FileKind, PersistState, WriteType};
use alluxio_proto::{ErrorKind, InodeId};
use bytes::Bytes;

use super::{Work, check_name};
use crate::state::command::{CreateFile, Mkdir, Mknod, Symlink, Tmpfile};
use crate::state::fault::{Outcomes, refuse, show};
use crate::state::inode::{Inode, OpenVersion, Writer};
use crate::state::records::{Edge, IntentKind};
use crate::state::tables::{self, HELD_WRITE};
use crate::state::view::View;

/// Longest target of a symbolic link (Linux `PATH_MAX`).
const TARGET_BYTES_MAX: usize = alluxio_proto::PATH_BYTES_MAX - 1;

impl Work<'_, '_> {
    pub(super) fn create_file(&mut self, c: CreateFile) -> Outcomes<()> {
        if c.open && self.session.get() == 0 {
            return refuse(
                ErrorKind::InvalidArgument,
                "a file can be opened for writing in a session only",
            );
        }
        let (parent, mut inode) = self.new_child(c.parent, &c.name, c.inode, (c.mode, c.umask), FileKind::File)?;
        inode.block_bytes = c.block_bytes;
        inode.write_type = c.write_type;
        if c.open {
            self.open_new(&mut inode, c.home_worker, c.home_boot);
        } else if inode.write_type() != WriteType::MustCache {
            self.schedule_upload(&mut inode)?;
        }
        self.add_child(parent, inode)
    }

    /// Opens what has just been made, in the command's session.
    fn open_new(&mut self, inode: &mut Inode, home_worker: u64, home_boot: u64) {
        inode.version_high = 1;
        inode.open = Some(OpenVersion {
            version: 1,
            home_worker,
            writers: vec![Writer {
                session: self.session.get(),
                count: 1,
            }],
            write_type: inode.write_type,
            created_by_this_open: true,
            home_boot,
            truncated: true,
            ..Default::default()
        });
        self.tx
            .put(tables::session_open(self.session, inode.inode_id()), tables::nothing());
    }

    /// A file without a name is an orphan from the start: it lives while the session holds it.
    pub(super) fn tmpfile(&mut self, c: Tmpfile) -> Outcomes<()> {
        if self.session.get() == 0 {
            return refuse(
                ErrorKind::InvalidArgument,
                "a file without a name can be made in a session only",
            );
        }
        let parent = self.writable_dir(InodeId(c.parent))?;
        let mut inode = self.new_inode(&parent, c.inode, (c.mode, c.umask), FileKind::File)?;
        inode.nlink = 0;
        inode.linkable = !c.never_linked;
        inode.block_bytes = c.block_bytes;
        inode.write_type = c.write_type;
        self.open_new(&mut inode, c.home_worker, 0);
        self.hold(inode.inode_id(), self.session, HELD_WRITE)?;
        self.put_and_answer(inode);
        Ok(())
    }

    pub(super) fn mkdir(&mut self, c: Mkdir) -> Outcomes<()> {
        let (parent, mut inode) = self.new_child(c.parent, &c.name, c.inode, (c.mode, c.umask), FileKind::Directory)?;
        inode.children_loaded = true;
        inode.nlink = 2;
        inode.write_type = c.write_type;
        if inode.write_type() != WriteType::MustCache {
            inode.persist_state = PersistState::ToBePersisted as i32;
            self.new_late_intent(&inode, IntentKind::Mkdir)?;
        }
        self.add_child(parent, inode)
    }

    pub(super) fn symlink(&mut self, c: Symlink) -> Outcomes<()> {
        if c.target.is_empty() || c.target.contains(&0) {
            return refuse(
                ErrorKind::InvalidArgument,
                format!("{:?} cannot be the target of a link", show(&c.target)),
            );
        }
        if c.target.len() > TARGET_BYTES_MAX {
            return refuse(
                ErrorKind::NameTooLong,
                format!("the target of a link has {} bytes", c.target.len()),
            );
        }
        let (parent, mut inode) = self.new_child(c.parent, &c.name, c.inode, (0o777, 0), FileKind::Symlink)?;
        inode.symlink_target = c.target;
        let mount = self.tx.mount(inode.mount())?;
        if mount.spec.as_ref().is_some_and(|spec| spec.stores_symlinks) {
            inode.persist_state = PersistState::ToBePersisted as i32;
            self.new_late_intent(&inode, IntentKind::Symlink)?;
        }
        self.add_child(parent, inode)
    }

    pub(super) fn mknod(&mut self, c: Mknod) -> Outcomes<()> {
        let kind = c.kind();
        if matches!(kind, FileKind::File | FileKind::Directory | FileKind::Symlink) {
            return refuse(ErrorKind::InvalidArgument, format!("mknod does not make a {kind:?}"));
        }
        // A whiteout is no device, and anybody's to make.
        let is_whiteout = kind == FileKind::CharDevice && c.rdev == 0 && self.follows(1);
        if matches!(kind, FileKind::CharDevice | FileKind::BlockDevice) && !is_whiteout && !self.who.superuser {
            return refuse(ErrorKind::NotPermitted, "only the superuser makes device nodes");
        }
        let (parent, mut inode) = self.new_child(c.parent, &c.name, c.inode, (c.mode, c.umask), kind)?;
        inode.rdev = c.rdev;
        self.add_child(parent, inode)
    }

    /// Leaves a whiteout where a rename took a name away.
    pub(super) fn leave_whiteout(&mut self, parent: u64, name: &Bytes) -> Outcomes<()> {
        // The answer is about what was renamed.
        let (attr, inode) = (self.applied.attr.take(), self.applied.inode.take());
        let (parent, whiteout) = self.new_child(parent, name, 0, (0, 0), FileKind::CharDevice)?;
        self.add_child(parent, whiteout)?;
        (self.applied.attr, self.applied.inode) = (attr, inode);
        Ok(())
    }

    /// Checks that `name` can be made in `parent`, and makes its inode, not yet stored.
    pub(super) fn new_child(
        &mut self,
        parent: u64,
        name: &Bytes,
        id: u64,
        mode_and_umask: (u32, u32),
        kind: FileKind,
    ) -> Outcomes<(Inode, Inode)> {
        check_name(name)?;
        let parent = self.tx.dir(InodeId(parent))?;
        if self.tx.edge(parent.inode_id(), name)?.is_some() {
            return refuse(
                ErrorKind::AlreadyExists,
                format!("{:?} exists in directory {}", show(name), parent.id),
            );
        }
        let parent = self.writable_dir(parent.inode_id())?;
        let mut inode = self.new_inode(&parent, id, mode_and_umask, kind)?;
        inode.parent = parent.id;
        inode.name = name.clone();
        Ok((parent, inode))
    }

    /// An inode with what it inherits from `parent`, without a name.
    fn new_inode(&mut self, parent: &Inode, id: u64, (mode, umask): (u32, u32), kind: FileKind) -> Outcomes<Inode> {
        let new = self.who.of_new(parent, mode, umask, kind);
        Ok(Inode {
            id: self.take_inode_id(id)?,
            kind: kind as i32,
            mode: new.mode,
            owner: new.owner,
            group: new.group,
            acl_access: new.acl_access,
            acl_default: new.acl_default,
            atime_ns: self.now_ns,
            mtime_ns: self.now_ns,
            ctime_ns: self.now_ns,
            btime_ns: self.now_ns,
            nlink: 1,
            mount_id: parent.mount_id,
            persist_state: PersistState::NotPersisted as i32,
            ..Default::default()
        })
    }

    /// Stores a new inode with its name and answers with it.
    pub(super) fn add_child(&mut self, mut parent: Inode, inode: Inode) -> Outcomes<()> {
        self.name_it(&mut parent, &inode.name.clone(), &inode);
        self.tx.put_inode(parent);
        self.put_and_answer(inode);
        Ok(())
    }

    /// Gives `inode` a name in `parent`, and tells those who watch.
    pub(super) fn name_it(&mut self, parent: &mut Inode, name: &Bytes, inode: &Inode) {
        self.put_edge(parent.inode_id(), name, inode);
        parent.entries += 1;
        parent.nlink += u32::from(inode.is_dir());
        parent.note_entries_changed(self.now_ns);
        self.entry_changed(parent.inode_id(), name, None);
        self.inode_changed(parent.id, false);
    }

    pub(super) fn put_edge(&mut self, parent: InodeId, name: &[u8], child: &Inode) {
        let edge = Edge {
            child: child.inode_id(),
            kind: child.kind(),
        };
        self.tx.put(tables::edge(parent, name), edge.encode());
    }
}
