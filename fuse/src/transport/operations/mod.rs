//! Every request that a kernel may make, once: what it asks, and what it is answered.
//!
//! [`Operations`] stands between the file semantics and the transports. A transport decodes a request, calls the method of
//! that name, and encodes the answer; it decides nothing about files. [`ServedVfs`] is the implementation over
//! [`crate::vfs`]; tests have small ones of their own.
//!
//! **To add what the vfs learns:** a method without an implementation in [`ServedVfs`] answers by its default here, as file
//! systems do that cannot do it. Both transports call it already, with all that the kernel says. So add the method to
//! `impl Operations for ServedVfs` (`served.rs`), beneath the heading it belongs to, as
//! `self.vfs.xyz(..).await.map_err(told("xyz", inode))`; and where the kernel has to be told at the start that we can
//! (locks, ACLs, the umask), say so in its `features`.
//!
//! **Interrupts:** a transport may drop the future of a request that changes nothing (look-ups, reads, a lock that is
//! waited for) when the waiting process got a signal. So [`Operations::setlk`] with `wait` must withdraw its claim when it
//! is dropped. The future of a request that changes something always runs to its end.

mod caches;
mod identity;
mod known;
mod served;
mod types;

pub use caches::{Caches, Notify};
pub use known::Known;
pub use served::ServedVfs;
pub use types::*;

use bytes::Bytes;
use std::fs::File;
use std::future::Ready;

/// The future of an answer.
pub trait Answering<T>: Future<Output = Answer<T>> + Send {}
impl<T, F: Future<Output = Answer<T>> + Send> Answering<T> for F {}

/// Refuses a request.
fn refuse<T: Send>(errno: Errno) -> Ready<Answer<T>> {
    std::future::ready(Err(errno))
}

/// Nothing is to be done.
fn done() -> Ready<Answer<()>> {
    std::future::ready(Ok(()))
}

/// Registers a local file with the kernel for passthrough, and answers what keeps it registered.
pub trait Register<B>: Fn(&File) -> std::io::Result<B> + Send {}
impl<B, F: Fn(&File) -> std::io::Result<B> + Send> Register<B> for F {}

/// What a file system does for the kernel. Nodes and handles are the kernel's; names are any bytes but `/` and NUL.
pub trait Operations: Send + Sync + 'static {
    /// What to ask of the kernel, before anything else. An error ends the session before it begins.
    ///
    /// # Errors
    /// If the file system does not want to start.
    fn features(&self) -> Answer<Features> {
        Ok(Features::default())
    }

    /// The kernel has no passthrough, or denies it.
    fn lacks_passthrough(&self, _why: &str) {}

    /// Finds a name.
    fn lookup(&self, by: Asker, parent: Node, name: &[u8]) -> impl Answering<Entry>;

    /// The kernel gives back look-ups of an inode: it does not know it any more when it gave back all.
    fn forget(&self, _node: Node, _lookups: u64) {}

    /// Attributes.
    fn getattr(&self, by: Asker, node: Node, fh: Option<Fh>) -> impl Answering<Attributes>;

    /// Changes attributes: chmod, chown, truncate, utimens.
    fn setattr(&self, _by: Asker, _node: Node, _changes: SetAttributes) -> impl Answering<Attributes> {
        refuse(Errno::NOSYS)
    }

    /// Target of a symbolic link.
    fn readlink(&self, _by: Asker, _node: Node) -> impl Answering<Bytes> {
        refuse(Errno::NOSYS)
    }

    /// Makes a symbolic link.
    fn symlink(&self, _by: Asker, _parent: Node, _name: &[u8], _target: &[u8]) -> impl Answering<Entry> {
        refuse(Errno::PERM)
    }

    /// Makes a special file, or an empty regular one.
    fn mknod(&self, _by: Asker, _new: NewName<'_>, _rdev: u32) -> impl Answering<Entry> {
        refuse(Errno::NOSYS)
    }

    /// Makes a directory.
    fn mkdir(&self, _by: Asker, _new: NewName<'_>) -> impl Answering<Entry> {
        refuse(Errno::NOSYS)
    }

    /// Removes a name that is no directory.
    fn unlink(&self, _by: Asker, _parent: Node, _name: &[u8]) -> impl Answering<()> {
        refuse(Errno::NOSYS)
    }

    /// Removes an empty directory.
    fn rmdir(&self, _by: Asker, _parent: Node, _name: &[u8]) -> impl Answering<()> {
        refuse(Errno::NOSYS)
    }

    /// Renames; flags as in renameat2(2).
    fn rename(&self, _by: Asker, _from: (Node, &[u8]), _to: (Node, &[u8]), _flags: u32) -> impl Answering<()> {
        refuse(Errno::NOSYS)
    }

    /// Gives an inode another name.
    fn link(&self, _by: Asker, _node: Node, _parent: Node, _name: &[u8]) -> impl Answering<Entry> {
        refuse(Errno::PERM)
    }

    /// Opens a file; flags as in open(2). A local file that the kernel may work on by itself is given to `register`.
    fn open<B: Send + Sync + 'static>(
        &self,
        by: Asker,
        node: Node,
        flags: i32,
        register: impl Register<B>,
    ) -> impl Answering<Opened<B>>;

    /// Creates a file and opens it.
    fn create<B: Send + Sync + 'static>(
        &self,
        _by: Asker,
        _new: NewName<'_>,
        _flags: i32,
        _register: impl Register<B>,
    ) -> impl Answering<(Entry, Opened<B>)> {
        refuse(Errno::NOSYS)
    }

    /// Creates a file without a name and opens it (O_TMPFILE); the name in `new` is empty.
    fn tmpfile<B: Send + Sync + 'static>(
        &self,
        _by: Asker,
        _new: NewName<'_>,
        _flags: i32,
        _register: impl Register<B>,
    ) -> impl Answering<(Entry, Opened<B>)> {
        refuse(Errno::NOTSUP)
    }

    /// Reads at an offset; short only at the end.
    fn read(&self, by: Asker, node: Node, fh: Fh, offset: u64, length: u32) -> impl Answering<Bytes>;

    /// Writes at an offset, all of it.
    fn write(&self, _by: Asker, _node: Node, _fh: Fh, _offset: u64, _data: Bytes) -> impl Answering<u32> {
        refuse(Errno::NOSYS)
    }

    /// A flush or release of a handle has come in, which follows at once. Called before any request is looked at that came later.
    fn closing(&self, _node: Node, _fh: Fh) {}

    /// A descriptor is closed: what close(2) reports. All fcntl locks of the owner go.
    fn flush(&self, _by: Asker, _node: Node, _fh: Fh, _owner: Owner) -> impl Answering<()> {
        refuse(Errno::NOSYS)
    }

    /// The last descriptor of an open file is closed. Its flock lock goes if `flock` says whose it was.
    fn release(&self, _node: Node, _fh: Fh, _flock: Option<Owner>) -> impl Answering<()> {
        done()
    }

    /// fsync(2), or fdatasync(2).
    fn fsync(&self, _by: Asker, _node: Node, _fh: Fh, _data_only: bool) -> impl Answering<()> {
        refuse(Errno::NOSYS)
    }

    /// fallocate(2).
    fn fallocate(
        &self,
        _by: Asker,
        _node: Node,
        _fh: Fh,
        _offset: u64,
        _length: u64,
        _mode: i32,
    ) -> impl Answering<()> {
        refuse(Errno::NOSYS)
    }

    /// SEEK_DATA and SEEK_HOLE. Refused by ENOSYS, the kernel takes the whole file for data.
    fn lseek(&self, _by: Asker, _node: Node, _fh: Fh, _offset: i64, _whence: i32) -> impl Answering<i64> {
        refuse(Errno::NOSYS)
    }

    /// copy_file_range(2); answers how many bytes. Refused by ENOSYS, the kernel copies through its page cache.
    fn copy_file_range(&self, _by: Asker, _node: Node, _range: CopyRange) -> impl Answering<u64> {
        refuse(Errno::NOSYS)
    }

    /// Opens a directory.
    fn opendir(&self, by: Asker, node: Node) -> impl Answering<(Fh, OpenFlags)>;

    /// Lists a directory from a cookie on.
    fn readdir(&self, by: Asker, node: Node, fh: Fh, cookie: u64, listing: &mut impl Listing) -> impl Answering<()>;

    /// Closes a directory.
    fn releasedir(&self, _fh: Fh) {}

    /// fsync(2) of a directory. Every change of names was durable when it was answered.
    fn fsyncdir(&self, _by: Asker, _node: Node, _fh: Fh) -> impl Answering<()> {
        done()
    }

    /// Capacity.
    fn statfs(&self, by: Asker, node: Node) -> impl Answering<Capacity>;

    // Extended attributes. ENOSYS tells the kernel not to ask again; it answers EOPNOTSUPP by itself. Without that, each
    // write would ask for security.capability first.

    /// Sets an extended attribute; flags as in setxattr(2).
    fn setxattr(&self, _by: Asker, _node: Node, _name: &[u8], _value: &[u8], _flags: i32) -> impl Answering<()> {
        refuse(Errno::NOSYS)
    }

    /// An extended attribute, of which `size` bytes have room: ERANGE if that is too little, its size if that is 0.
    fn getxattr(&self, _by: Asker, _node: Node, _name: &[u8], _size: u32) -> impl Answering<Xattr> {
        refuse(Errno::NOSYS)
    }

    /// Names of extended attributes, each ended by a NUL; `size` as in [`Operations::getxattr`].
    fn listxattr(&self, _by: Asker, _node: Node, _size: u32) -> impl Answering<Xattr> {
        refuse(Errno::NOSYS)
    }

    /// Removes an extended attribute.
    fn removexattr(&self, _by: Asker, _node: Node, _name: &[u8]) -> impl Answering<()> {
        refuse(Errno::NOSYS)
    }

    /// access(2). The kernel asks only where it does not check permissions itself.
    fn access(&self, _by: Asker, _node: Node, _mask: u32) -> impl Answering<()> {
        refuse(Errno::NOSYS)
    }

    // Locks come only if [`Features::locks`] was asked for.

    /// Who is in the way of a lock; [`LockKind::Unlock`] if nobody.
    fn getlk(&self, _by: Asker, _request: LockRequest) -> impl Answering<Lock> {
        refuse(Errno::NOSYS)
    }

    /// Locks or unlocks; waits if the request says so.
    fn setlk(&self, _by: Asker, _request: LockRequest) -> impl Answering<()> {
        refuse(Errno::NOSYS)
    }
}
