//! Setuid, setgid and capabilities end when somebody writes to a file who could not give them to it.
//!
//! The kernel tells of it where it writes to a local file by itself; of what comes to us we see to it ourselves. Both end here, so
//! that every way to change a file's content has one rule: setuid goes; setgid goes if the group may execute the file, and else if
//! the writer is not in the group, since without execute it is a mark for mandatory locks that a member may keep.

use super::Vfs;
use super::names::Changes;
use alluxio_proto::master::SetAttr;
use alluxio_proto::types::{Attr, Caller, XATTRS};
use alluxio_proto::{ErrorKind, FsError, FsResult};
use bytes::Bytes;

/// Setuid and setgid.
const PRIVILEGES: u32 = 0o6000;
const SETGID: u32 = 0o2000;
/// Setgid, and execute for the group, which makes it a privilege.
const SETGID_EXECUTED: u32 = 0o2010;

fn is_superuser(caller: &Caller) -> bool {
    caller.user == "root"
}

/// Whether setgid is a mark and no privilege: then it matters in which groups a writer is.
fn is_marked(mode: u32) -> bool {
    mode & SETGID_EXECUTED == SETGID
}

impl Vfs {
    /// Writes in the name of `caller`; see [`Vfs::write_at`].
    ///
    /// # Errors
    /// Those of writing, and of the master.
    pub async fn write_as(&self, caller: &Caller, inode: u64, fh: u64, offset: u64, data: Bytes) -> FsResult<u64> {
        self.kill_privileges(caller, inode).await?;
        self.write_at(fh, offset, data).await
    }

    /// Copies into `inode` in the name of `caller`; see [`Vfs::copy_range`].
    ///
    /// # Errors
    /// Those of copying, and of the master.
    pub async fn copy_as(
        &self,
        caller: &Caller,
        inode: u64,
        from: (u64, u64),
        to: (u64, u64),
        length: u64,
    ) -> FsResult<u64> {
        self.kill_privileges(caller, inode).await?;
        self.copy_range(from, to, length).await
    }

    /// Whether it depends on the groups of a caller what a write, or these changes, do to an inode; they must be those of the
    /// calling process then. What is not known of it may.
    pub fn minds_groups(&self, inode: u64, changes: Option<&Changes>) -> bool {
        match changes {
            // Who is not in the group cannot give setgid.
            Some(changes) if changes.mode.is_some_and(|mode| mode & SETGID != 0) => true,
            Some(changes) if changes.size.is_none() && !changes.kill_priv => false,
            _ => self.known_mode(inode).is_none_or(is_marked),
        }
    }

    /// The caller writes to a file, or cuts it, which the kernel has allowed: what lets a program act as somebody else is taken
    /// away, unless the caller is root. Costs nothing where there is nothing.
    ///
    /// # Errors
    /// Those of the master.
    pub(super) async fn kill_privileges(&self, caller: &Caller, inode: u64) -> FsResult<()> {
        if is_superuser(caller) {
            return Ok(());
        }
        let (flags, mode) = self.extra(caller, inode).await?;
        if mode & PRIVILEGES == 0 && flags & XATTRS == 0 {
            return Ok(());
        }
        self.kill_privileges_now(caller, inode).await.map(drop)
    }

    /// The kernel says that the caller has written to a file by itself that has something to be taken away, or has given it to whom
    /// it belongs already, which it does not tell apart.
    ///
    /// # Errors
    /// Those of the master.
    pub(super) async fn kill_privileges_now(&self, caller: &Caller, inode: u64) -> FsResult<Attr> {
        let (_, mode) = self.extra(caller, inode).await?;
        let kill_setgid = is_marked(mode) && !is_superuser(caller) && {
            let attr = self.getattr(caller, inode).await?;
            !caller.groups.contains(&attr.group)
        };
        let op = SetAttr {
            inode,
            kill_priv: true,
            kill_setgid,
            ..Default::default()
        };
        // Not in the caller's name: who has the file open may write to it, whatever its mode is now.
        let attr: Attr = self.change(&self.own_caller(), op).await?;
        self.changed(&attr);
        Ok(attr)
    }
}

/// The errno that a program sees.
pub fn errno(error: &FsError) -> i32 {
    match (error.kind, error.errno()) {
        // Of a lock that somebody else holds.
        (ErrorKind::WouldBlock, code) => code,
        // Not what programs expect of files: we have tried as long as we were told to.
        (_, libc::ETIMEDOUT | libc::EAGAIN) => libc::EIO,
        (_, code) => code,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setgid_without_execute_is_a_mark() {
        assert!(is_marked(0o2666) && is_marked(0o6760 & !0o010));
        assert!(!is_marked(0o2755) && !is_marked(0o755) && !is_marked(0o4666));
    }

    #[test]
    fn programs_see_no_timeouts() {
        let seen = |kind| errno(&FsError::new(kind, ""));
        assert_eq!(seen(ErrorKind::Timeout), libc::EIO);
        assert_eq!(seen(ErrorKind::Throttled), libc::EIO);
        assert_eq!(seen(ErrorKind::WouldBlock), libc::EAGAIN);
        assert_eq!(seen(ErrorKind::TooManyOpenFiles), libc::ENFILE);
    }
}
