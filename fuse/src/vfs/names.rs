//! Names and attributes: one call of the master each.

use super::Vfs;
use alluxio_proto::master::*;
use alluxio_proto::types::{Attr, Caller, FileKind};
use alluxio_proto::{ErrorKind, FsError, FsResult};
use bytes::Bytes;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long the master may take to say what the mounted folder, or its capacity, is now; then it is as it was seen last.
const PATIENCE: Duration = Duration::from_millis(1500);
/// The same while the master is known to be away.
const PATIENCE_BLIND: Duration = Duration::from_millis(300);

/// What setattr may change. Absent stays.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner by name.
    pub owner: Option<String>,
    /// Group by name.
    pub group: Option<String>,
    /// Length.
    pub size: Option<u64>,
    /// Last access, ns since 1970.
    pub atime_ns: Option<i64>,
    /// Last change of data, ns since 1970.
    pub mtime_ns: Option<i64>,
    /// The times are "now": write permission is enough.
    pub times_now: bool,
    /// Take away what lets a program act as somebody else, and move ctime: the caller has written to it, or given it to whom it
    /// belongs already, which the kernel does not tell apart.
    pub kill_priv: bool,
}

/// What something new is to be.
#[derive(Clone, Copy, Debug)]
pub struct NewNode<'a> {
    /// Directory.
    pub parent: u64,
    /// One component.
    pub name: &'a [u8],
    /// Permission bits.
    pub mode: u32,
    /// Bits to be taken from them, unless the directory has a default access list.
    pub umask: u32,
}

impl Vfs {
    /// Finds a name.
    ///
    /// # Errors
    /// `NotFound`, and those of the under-storage.
    pub async fn lookup(&self, caller: &Caller, parent: u64, name: &[u8]) -> FsResult<Attr> {
        let (seen, name) = (self.changes_seen(), Bytes::copy_from_slice(name));
        let attr = self.read(caller, Lookup { parent, name }).await?;
        self.remember(seen, &attr);
        self.patched(attr).await
    }

    /// Attributes.
    ///
    /// # Errors
    /// `Gone`.
    pub async fn getattr(&self, caller: &Caller, node: u64) -> FsResult<Attr> {
        if node != self.root() {
            return self.ask_attr(caller, node).await;
        }
        match tokio::time::timeout(self.patience(), self.ask_attr(caller, node)).await {
            Ok(Err(error)) if !error.is_retryable() => Err(error),
            Ok(Ok(attr)) => {
                (*self.root_attr.lock()).clone_from(&attr);
                Ok(attr)
            }
            Ok(Err(_)) | Err(_) => Ok(self.root_attr.lock().clone()),
        }
    }

    /// How long what umount(8) asks for may take: it looks at the mounted folder and its capacity first, and must not wait for a
    /// master that is away.
    fn patience(&self) -> Duration {
        match self.watching.load(Ordering::Relaxed) {
            true => PATIENCE,
            false => PATIENCE_BLIND,
        }
    }

    async fn ask_attr(&self, caller: &Caller, node: u64) -> FsResult<Attr> {
        let inode = self.nodes.inode_of(node);
        let seen = self.changes_seen();
        match self.read(caller, GetAttr { inode }).await {
            Ok(attr) => {
                self.remember(seen, &attr);
                self.patched(attr).await.map(|attr| self.shown_of(node, attr))
            }
            Err(error) if error.kind == ErrorKind::Gone => {
                let removed = self.removed(inode).ok_or(error);
                removed.map(|attr| self.shown_of(node, attr))
            }
            Err(error) => Err(error),
        }
    }

    /// Makes an inode; its attributes are remembered.
    pub(super) async fn make<O: ChangeOperation<Reply = Attr>>(&self, caller: &Caller, op: O) -> FsResult<Attr> {
        let seen = self.changes_seen();
        let attr = self.change(caller, op).await?;
        self.remember(seen, &attr);
        Ok(attr)
    }

    /// Changes attributes; the length last, since it is the one that may fail halfway.
    ///
    /// # Errors
    /// `NotPermitted`, `AccessDenied`, and for the length those of writing.
    pub async fn setattr(&self, caller: &Caller, node: u64, changes: Changes, fh: Option<u64>) -> FsResult<Attr> {
        let inode = self.nodes.inode_of(node);
        if let Some(mtime_ns) = changes.mtime_ns {
            self.set_open_mtime(inode, mtime_ns).await?;
        }
        if changes.size.is_some() {
            self.kill_privileges(caller, inode).await?;
        }
        let has_attributes = changes.mode.is_some()
            || changes.owner.is_some()
            || changes.group.is_some()
            || changes.atime_ns.is_some()
            || changes.mtime_ns.is_some();
        let mut attr = None;
        if changes.kill_priv {
            attr = Some(self.kill_privileges_now(caller, inode).await?);
        }
        if has_attributes {
            let op = SetAttr {
                inode,
                mode: changes.mode,
                owner: changes.owner,
                group: changes.group,
                atime_ns: changes.atime_ns,
                mtime_ns: changes.mtime_ns,
                pinned: None,
                times_now: changes.times_now,
                kill_priv: false,
                kill_setgid: false,
            };
            self.extras.lock().forget(Some(inode));
            if changes.atime_ns.is_some() {
                self.accesses.forget(inode);
            }
            attr = Some(self.make(caller, op).await?);
        }
        if let Some(size) = changes.size {
            self.set_length(caller, node, size, fh).await?;
            attr = None;
        }
        match attr {
            Some(attr) => self.patched(attr).await.map(|attr| self.shown_of(node, attr)),
            None => self.getattr(caller, node).await,
        }
    }

    /// Target of a symbolic link.
    ///
    /// # Errors
    /// `InvalidArgument` if it is none.
    pub async fn readlink(&self, caller: &Caller, inode: u64) -> FsResult<Bytes> {
        match self.read(caller, ReadLink { inode }).await {
            Ok(LinkTarget { target }) => Ok(target),
            Err(error) if error.kind == ErrorKind::Gone => self.link_looked_up_again(inode).ok_or(error),
            Err(error) => Err(error),
        }
    }

    /// Makes a special file, or an empty regular one.
    ///
    /// # Errors
    /// `AlreadyExists`, `AccessDenied`, …
    pub async fn mknod(&self, caller: &Caller, new: NewNode<'_>, kind: FileKind, rdev: u64) -> FsResult<Attr> {
        let name = Bytes::copy_from_slice(new.name);
        if kind != FileKind::File {
            let op = Mknod {
                parent: new.parent,
                name,
                kind: kind as i32,
                mode: new.mode,
                rdev,
                umask: new.umask,
            };
            return self.make(caller, op).await;
        }
        let op = Create {
            parent: new.parent,
            name,
            mode: new.mode,
            open: false,
            write_type: self.options.write_type as i32,
            block_bytes: 0,
            umask: new.umask,
        };
        let opened: Opened = self.change(caller, op).await?;
        opened
            .attr
            .ok_or_else(|| FsError::new(ErrorKind::Internal, "the master's answer to Create has no attributes"))
    }

    /// Makes a directory.
    ///
    /// # Errors
    /// `AlreadyExists`, `AccessDenied`, …
    pub async fn mkdir(&self, caller: &Caller, new: NewNode<'_>) -> FsResult<Attr> {
        let op = Mkdir {
            parent: new.parent,
            name: Bytes::copy_from_slice(new.name),
            mode: new.mode,
            write_type: self.options.write_type as i32,
            umask: new.umask,
        };
        self.make(caller, op).await
    }

    /// Gives an inode another name.
    ///
    /// # Errors
    /// `AlreadyExists`, `NotPermitted` for a directory, `CrossesMounts`, `TooManyNames`, `NotFound` for what was unlinked.
    pub async fn link(&self, caller: &Caller, inode: u64, parent: u64, name: &[u8]) -> FsResult<Attr> {
        let op = Link {
            inode,
            parent,
            name: Bytes::copy_from_slice(name),
        };
        let attr = self.make(caller, op).await?;
        self.patched(attr).await
    }

    /// Makes a symbolic link.
    ///
    /// # Errors
    /// `AlreadyExists`, `AccessDenied`, …
    pub async fn symlink(&self, caller: &Caller, parent: u64, name: &[u8], target: &[u8]) -> FsResult<Attr> {
        let op = Symlink {
            parent,
            name: Bytes::copy_from_slice(name),
            target: Bytes::copy_from_slice(target),
        };
        self.make(caller, op).await
    }

    /// Removes a name that is no directory.
    ///
    /// # Errors
    /// `NotFound`, `IsADirectory`, `AccessDenied`, …
    pub async fn unlink(&self, caller: &Caller, parent: u64, name: &[u8]) -> FsResult<()> {
        let op = Unlink {
            parent,
            name: Bytes::copy_from_slice(name),
            tell_removed: true,
        };
        let removed: Removed = self.change(caller, op).await?;
        self.keep_removed(removed.attr);
        Ok(())
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// `NotEmpty`, `NotADirectory`, …
    pub async fn rmdir(&self, caller: &Caller, parent: u64, name: &[u8]) -> FsResult<()> {
        let op = Rmdir {
            parent,
            name: Bytes::copy_from_slice(name),
            tell_removed: true,
        };
        let removed: Removed = self.change(caller, op).await?;
        self.keep_removed(removed.attr);
        Ok(())
    }

    /// Renames, replacing as rename(2) does.
    ///
    /// # Errors
    /// `InvalidArgument` for unknown flags, `CrossesMounts`, …
    pub async fn rename(&self, caller: &Caller, from: (u64, &[u8]), to: (u64, &[u8]), flags: u32) -> FsResult<()> {
        if flags & !(libc::RENAME_NOREPLACE | libc::RENAME_EXCHANGE | libc::RENAME_WHITEOUT) != 0 {
            return Err(FsError::new(
                ErrorKind::InvalidArgument,
                format!("rename: flags {flags:#x} are not known"),
            ));
        }
        let (name, new_name) = (Bytes::copy_from_slice(from.1), Bytes::copy_from_slice(to.1));
        let op = Rename {
            parent: from.0,
            name,
            new_parent: to.0,
            new_name,
            flags,
            tell_removed: true,
            across_mounts: self.options.rename_across_mounts,
        };
        let removed: Removed = self.change(caller, op).await?;
        self.keep_removed(removed.attr);
        Ok(())
    }

    /// Capacity; while the master is away, as it was seen last.
    ///
    /// # Errors
    /// Those of the master; `Unavailable` if it is away and was never asked.
    pub async fn statfs(&self, caller: &Caller, inode: u64) -> FsResult<FsStat> {
        let ask = self.read(caller, StatFs { inode });
        let error = match tokio::time::timeout(self.patience(), ask).await {
            Ok(Ok(stat)) => {
                *self.capacity.lock() = Some(stat.clone());
                return Ok(stat);
            }
            Ok(Err(error)) if !error.is_retryable() => return Err(error),
            Ok(Err(error)) => error,
            Err(_) => FsError::new(
                ErrorKind::Unavailable,
                "ask the master for the capacity: it does not answer",
            ),
        };
        self.capacity.lock().clone().ok_or(error)
    }
}
