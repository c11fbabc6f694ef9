//! Names: what is created, linked, moved and removed.

use alluxio_proto::types::{FileKind, WriteType};
use bytes::Bytes;

/// Creates a regular file.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CreateFile {
    /// Directory.
    #[prost(uint64, tag = "1")]
    pub parent: u64,
    /// One component.
    #[prost(bytes = "bytes", tag = "2")]
    pub name: Bytes,
    /// 0: the next.
    #[prost(uint64, tag = "3")]
    pub inode: u64,
    /// Permission bits.
    #[prost(uint32, tag = "4")]
    pub mode: u32,
    /// Open it for writing in the command's session.
    #[prost(bool, tag = "5")]
    pub open: bool,
    /// When its data reaches the under-storage.
    #[prost(enumeration = "WriteType", tag = "6")]
    pub write_type: i32,
    /// Block size in bytes; the service fills in the default.
    #[prost(uint64, tag = "7")]
    pub block_bytes: u64,
    /// With `open`: the worker with the local file.
    #[prost(uint64, tag = "8")]
    pub home_worker: u64,
    /// Bits to be taken from `mode` where the directory has no default ACL.
    #[prost(uint32, tag = "9")]
    pub umask: u32,
    /// With `open`: boot of the home's operating system; 0: unknown.
    #[prost(fixed64, tag = "10")]
    pub home_boot: u64,
}

/// Creates a directory.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Mkdir {
    /// Directory.
    #[prost(uint64, tag = "1")]
    pub parent: u64,
    /// One component.
    #[prost(bytes = "bytes", tag = "2")]
    pub name: Bytes,
    /// 0: the next.
    #[prost(uint64, tag = "3")]
    pub inode: u64,
    /// Permission bits.
    #[prost(uint32, tag = "4")]
    pub mode: u32,
    /// When it reaches the under-storage.
    #[prost(enumeration = "WriteType", tag = "5")]
    pub write_type: i32,
    /// Bits to be taken from `mode` where the directory has no default ACL.
    #[prost(uint32, tag = "6")]
    pub umask: u32,
}

/// Creates a symbolic link.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Symlink {
    /// Directory.
    #[prost(uint64, tag = "1")]
    pub parent: u64,
    /// One component.
    #[prost(bytes = "bytes", tag = "2")]
    pub name: Bytes,
    /// 0: the next.
    #[prost(uint64, tag = "3")]
    pub inode: u64,
    /// What it points at.
    #[prost(bytes = "bytes", tag = "4")]
    pub target: Bytes,
}

/// Creates a special file; it lives in the namespace only.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Mknod {
    /// Directory.
    #[prost(uint64, tag = "1")]
    pub parent: u64,
    /// One component.
    #[prost(bytes = "bytes", tag = "2")]
    pub name: Bytes,
    /// 0: the next.
    #[prost(uint64, tag = "3")]
    pub inode: u64,
    /// Not a file, directory or symlink.
    #[prost(enumeration = "FileKind", tag = "4")]
    pub kind: i32,
    /// Permission bits.
    #[prost(uint32, tag = "5")]
    pub mode: u32,
    /// Device number.
    #[prost(uint64, tag = "6")]
    pub rdev: u64,
    /// Bits to be taken from `mode` where the directory has no default ACL.
    #[prost(uint32, tag = "7")]
    pub umask: u32,
}

/// Creates a regular file without a name, open for writing in the command's session, which holds it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Tmpfile {
    /// Directory that decides on mount, group and default ACL.
    #[prost(uint64, tag = "1")]
    pub parent: u64,
    /// 0: the next.
    #[prost(uint64, tag = "2")]
    pub inode: u64,
    /// Permission bits.
    #[prost(uint32, tag = "3")]
    pub mode: u32,
    /// Bits to be taken from `mode` where the directory has no default ACL.
    #[prost(uint32, tag = "4")]
    pub umask: u32,
    /// When its data reaches the under-storage, once it has a name.
    #[prost(enumeration = "WriteType", tag = "5")]
    pub write_type: i32,
    /// Block size in bytes; the service fills in the default.
    #[prost(uint64, tag = "6")]
    pub block_bytes: u64,
    /// The worker with the local file.
    #[prost(uint64, tag = "7")]
    pub home_worker: u64,
    /// It is never to have a name.
    #[prost(bool, tag = "8")]
    pub never_linked: bool,
}

/// Gives an inode that is no directory one more name.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Link {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
    /// Directory.
    #[prost(uint64, tag = "2")]
    pub parent: u64,
    /// One component.
    #[prost(bytes = "bytes", tag = "3")]
    pub name: Bytes,
}

/// Removes a name that is no directory.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Unlink {
    /// Directory.
    #[prost(uint64, tag = "1")]
    pub parent: u64,
    /// One component.
    #[prost(bytes = "bytes", tag = "2")]
    pub name: Bytes,
    /// Sessions that have the inode open for reading: it stays, without a name, until they release it. Sessions that have it
    /// open for writing need not be named.
    #[prost(uint64, repeated, tag = "3")]
    pub keep_for: Vec<u64>,
    /// The inode that `keep_for` is about. Should the name be another one's by now, the command is refused with
    /// `VersionMismatch`: nobody knows who reads that. Absent in commands of before.
    #[prost(uint64, optional, tag = "4")]
    pub expected: Option<u64>,
}

/// Removes an empty directory, whose names must be loaded.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Rmdir {
    /// Directory.
    #[prost(uint64, tag = "1")]
    pub parent: u64,
    /// One component.
    #[prost(bytes = "bytes", tag = "2")]
    pub name: Bytes,
}

/// Renames, replacing an existing target as rename(2) does.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Rename {
    /// Old directory.
    #[prost(uint64, tag = "1")]
    pub parent: u64,
    /// Old name.
    #[prost(bytes = "bytes", tag = "2")]
    pub name: Bytes,
    /// New directory.
    #[prost(uint64, tag = "3")]
    pub new_parent: u64,
    /// New name.
    #[prost(bytes = "bytes", tag = "4")]
    pub new_name: Bytes,
    /// [`RENAME_NOREPLACE`], [`RENAME_EXCHANGE`].
    #[prost(uint32, tag = "5")]
    pub flags: u32,
    /// Sessions that have the replaced inode open for reading.
    #[prost(uint64, repeated, tag = "6")]
    pub keep_for: Vec<u64>,
    /// The target may lie on another mount of the namespace; without it that is `CrossesMounts`.
    #[prost(bool, tag = "7")]
    pub across_mounts: bool,
    /// The inode at the new name that `keep_for` is about, 0: none. Should it be another one, the command is refused with
    /// `VersionMismatch`. Absent in commands of before.
    #[prost(uint64, optional, tag = "20")]
    pub expected_target: Option<u64>,
}

/// Most inodes that one [`Rename`] moves to another mount, the top included: each of them is changed by that one command,
/// which holds the apply lock for so long. A larger tree is `CrossesMounts`, and is to be copied.
pub const ACROSS_INODES_MAX: usize = if cfg!(test) { 20 } else { 10_000 };

/// Fail if the target exists.
pub const RENAME_NOREPLACE: u32 = 1;
/// Swap source and target.
pub const RENAME_EXCHANGE: u32 = 2;
/// Leave a device node 0:0 where the source was: overlayfs takes it for "not here, whatever lies beneath".
pub const RENAME_WHITEOUT: u32 = 4;

/// Takes a directory with all beneath it off the tree. Its inodes are reclaimed by [`ReclaimSlice`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct DeleteTree {
    /// Directory.
    #[prost(uint64, tag = "1")]
    pub parent: u64,
    /// One component.
    #[prost(bytes = "bytes", tag = "2")]
    pub name: Bytes,
    /// Leave the under-storage as it is.
    #[prost(bool, tag = "3")]
    pub alluxio_only: bool,
}

/// Sessions for which an inode stays, although its name goes.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Keep {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
    /// Who has it open for reading.
    #[prost(uint64, repeated, tag = "2")]
    pub sessions: Vec<u64>,
}

/// Reclaims inodes of detached trees: children of `dir`, and `dir` itself once it has none. Commands of before name no `dir`:
/// they reclaim up to `limit` inodes of whatever is detached.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ReclaimSlice {
    /// Inodes at most; bounded by [`RECLAIM_INODES_MAX`].
    #[prost(uint32, tag = "1")]
    pub limit: u32,
    /// Which of these inodes are open for reading.
    #[prost(message, repeated, tag = "2")]
    pub keep: Vec<Keep>,
    /// The detached directory; 0: the first.
    #[prost(uint64, tag = "3")]
    pub dir: u64,
    /// Names up to this one are reclaimed already. A scan that begins at the first name passes what each slice before has
    /// left behind in the store.
    #[prost(bytes = "bytes", tag = "4")]
    pub after: Bytes,
    /// The last name that `keep` speaks of; empty: there is none left.
    #[prost(bytes = "bytes", tag = "5")]
    pub upto: Bytes,
}

/// Most inodes that one [`ReclaimSlice`] reclaims: it holds the apply lock for so long.
pub const RECLAIM_INODES_MAX: u32 = 10_000;
