//! Who may do what: mode bits and access lists, the sticky bit, ownership; and what something new inherits.
//!
//! Search permission along the path is the kernel's job (`default_permissions`); here the directories and inodes that a
//! command touches are checked.

use alluxio_proto::ErrorKind;
use alluxio_proto::types::{Acl, Caller, FileKind};

use crate::state::acl;
use crate::state::fault::{Outcomes, refuse};
use crate::state::inode::Inode;

pub(super) use crate::state::acl::{SEARCH, WRITE};

const STICKY: u32 = 0o1000;
const SETGID: u32 = 0o2000;
const SETUID: u32 = 0o4000;
const GROUP_EXECUTE: u32 = 0o010;

/// The caller of a command.
pub(super) struct Who {
    pub caller: Caller,
    pub superuser: bool,
}

impl Who {
    pub fn owns(&self, inode: &Inode) -> bool {
        self.superuser || inode.owner == self.caller.user
    }

    pub fn is_in(&self, group: &str) -> bool {
        self.caller.groups.iter().any(|name| name == group)
    }

    /// Checks `want` (a combination of [`WRITE`] and [`SEARCH`]).
    pub fn check_access(&self, inode: &Inode, want: u32) -> Outcomes<()> {
        if self.superuser || inode.grants(&self.caller, want) {
            return Ok(());
        }
        refuse(
            ErrorKind::AccessDenied,
            format!(
                "user {:?} may not write to inode {} (mode {:04o}, owner {:?})",
                self.caller.user, inode.id, inode.mode, inode.owner
            ),
        )
    }

    /// Whether the caller may take `child` out of `dir`, which it may write to.
    pub fn check_sticky(&self, dir: &Inode, child: &Inode) -> Outcomes<()> {
        if dir.mode & STICKY == 0 || self.owns(dir) || self.owns(child) {
            return Ok(());
        }
        refuse(
            ErrorKind::NotPermitted,
            format!(
                "directory {} is sticky and inode {} belongs to {:?}",
                dir.id, child.id, child.owner
            ),
        )
    }

    pub fn check_owner(&self, inode: &Inode) -> Outcomes<()> {
        if self.owns(inode) {
            return Ok(());
        }
        refuse(
            ErrorKind::NotPermitted,
            format!(
                "inode {} belongs to {:?}, not to {:?}",
                inode.id, inode.owner, self.caller.user
            ),
        )
    }

    /// Owner, group, mode and lists of something new in `dir`. The directory's default list takes the place of the umask.
    pub fn of_new(&self, dir: &Inode, mode: u32, umask: u32, kind: FileKind) -> OfNew {
        let inherits = dir.mode & SETGID != 0;
        let owner = if self.caller.user.is_empty() {
            dir.owner.clone()
        } else {
            self.caller.user.clone()
        };
        let group = match self.caller.groups.first() {
            Some(group) if !inherits => group.clone(),
            _ => dir.group.clone(),
        };
        let is_dir = kind == FileKind::Directory;
        let default = dir.acl_default.as_ref().filter(|_| kind != FileKind::Symlink);
        let (mut mode, acl_access) = match default {
            Some(default) => acl::inherited(default, mode & 0o7777),
            None => (mode & 0o7777 & !umask, None),
        };
        if inherits && is_dir {
            mode |= SETGID;
        } else if mode & (SETGID | GROUP_EXECUTE) == SETGID | GROUP_EXECUTE && !self.superuser && !self.is_in(&group) {
            // Nobody makes a program that acts for a group he is not in.
            mode &= !SETGID;
        }
        OfNew {
            owner,
            group,
            mode,
            acl_access,
            acl_default: default.filter(|_| is_dir).cloned(),
        }
    }

    /// Mode bits after chmod: who is not in the group cannot give its setgid away.
    pub fn chmod(&self, inode: &Inode, mode: u32) -> u32 {
        if self.superuser || self.is_in(&inode.group) {
            mode & 0o7777
        } else {
            mode & 0o7777 & !SETGID
        }
    }

    /// Mode bits after a file was given to another user or group, or written to by somebody who may not keep them: no program
    /// keeps acting as somebody else. Linux does so for the superuser's chown too.
    pub fn without_privileges(&self, inode: &Inode, setgid: bool) -> u32 {
        if inode.is_dir() {
            return inode.mode;
        }
        // Setgid without execute for the group is no privilege but a mark for locks, which a member may keep.
        let marks = inode.mode & GROUP_EXECUTE == 0 && !setgid && (self.superuser || self.is_in(&inode.group));
        inode.mode & !if marks { SETUID } else { SETUID | SETGID }
    }

    /// Whether `mode` differs from that of `inode` only by lacking setuid or setgid.
    pub fn only_drops_privileges(inode: &Inode, mode: u32) -> bool {
        let dropped = inode.mode ^ (mode & 0o7777);
        dropped != 0 && dropped & !(SETUID | SETGID) == 0 && dropped & inode.mode == dropped
    }
}

/// What something new starts with.
pub(super) struct OfNew {
    pub owner: String,
    pub group: String,
    pub mode: u32,
    pub acl_access: Option<Acl>,
    pub acl_default: Option<Acl>,
}
