//! Who may do what: owner, group and other bits, the sticky bit, ownership.
//!
//! Search permission along the path is the kernel's job (`default_permissions`); here the directories and inodes that a
//! command touches are checked.

use alluxio_proto::ErrorKind;
use alluxio_proto::types::Caller;

use crate::state::fault::{Outcomes, refuse};
use crate::state::inode::Inode;

pub(super) const WRITE: u32 = 2;
pub(super) const SEARCH: u32 = 1;

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

    /// Checks `want` (a combination of [`WRITE`] and [`SEARCH`]; 4 would be read) against the one class that applies.
    pub fn check_access(&self, inode: &Inode, want: u32) -> Outcomes<()> {
        let granted = if inode.owner == self.caller.user {
            inode.mode >> 6
        } else if self.is_in(&inode.group) {
            inode.mode >> 3
        } else {
            inode.mode
        };
        if self.superuser || granted & want == want {
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

    /// Owner, group and mode of something new in `dir`.
    pub fn of_new(&self, dir: &Inode, mode: u32, is_dir: bool) -> (String, String, u32) {
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
        let mode = if inherits && is_dir { mode | SETGID } else { mode };
        (owner, group, mode & 0o7777)
    }

    /// Mode bits after chmod: who is not in the group cannot give its setgid away.
    pub fn chmod(&self, inode: &Inode, mode: u32) -> u32 {
        if self.superuser || self.is_in(&inode.group) {
            mode & 0o7777
        } else {
            mode & 0o7777 & !SETGID
        }
    }

    /// Mode bits after chown by an ordinary user: no program keeps acting as somebody else.
    pub fn mode_after_chown(&self, inode: &Inode) -> u32 {
        if self.superuser || inode.is_dir() {
            return inode.mode;
        }
        let lost = if inode.mode & GROUP_EXECUTE != 0 {
            SETUID | SETGID
        } else {
            SETUID
        };
        inode.mode & !lost
    }
}
