//! Names and attributes: what changes or reads the tree.

use crate::types::*;

/// Finds a name in a directory; reaches the under-storage at first look-up.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Lookup {
    /// Directory.
    #[prost(uint64, tag = "1")]
    pub parent: u64,
    /// One component.
    #[prost(bytes = "bytes", tag = "2")]
    pub name: bytes::Bytes,
}

/// Attributes of an inode.
#[derive(Clone, PartialEq, prost::Message)]
pub struct GetAttr {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
}

/// Attributes of the inode at an absolute path; symbolic links are not followed.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ResolvePath {
    /// Absolute path in the namespace.
    #[prost(bytes = "bytes", tag = "1")]
    pub path: bytes::Bytes,
    /// Look at the under-storage now, whatever the sync interval says.
    #[prost(bool, tag = "2")]
    pub refresh: bool,
}

/// One page of a directory, in the order of names' bytes.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ReadDir {
    /// Directory.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
    /// Name after which to start; empty: from the start.
    #[prost(bytes = "bytes", tag = "2")]
    pub after: bytes::Bytes,
    /// Entries at most; the master has a bound of its own.
    #[prost(uint32, tag = "3")]
    pub limit: u32,
    /// Look at the under-storage now, whatever the sync interval says.
    #[prost(bool, tag = "4")]
    pub refresh: bool,
}

/// One page of a directory.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DirPage {
    /// In the order of names' bytes.
    #[prost(message, repeated, tag = "1")]
    pub entries: Vec<Entry>,
    /// Nothing follows.
    #[prost(bool, tag = "2")]
    pub eof: bool,
}

/// Creates a regular file. With `open`, it is open for writing in the session afterwards.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Create {
    /// Directory.
    #[prost(uint64, tag = "1")]
    pub parent: u64,
    /// One component.
    #[prost(bytes = "bytes", tag = "2")]
    pub name: bytes::Bytes,
    /// Permission bits.
    #[prost(uint32, tag = "3")]
    pub mode: u32,
    /// Open it for writing.
    #[prost(bool, tag = "4")]
    pub open: bool,
    /// When its data reaches the under-storage.
    #[prost(enumeration = "WriteType", tag = "5")]
    pub write_type: i32,
    /// 0: the default.
    #[prost(uint64, tag = "6")]
    pub block_bytes: u64,
    /// Bits to be taken from `mode` where the directory has no default ACL; 0 if they are taken already.
    #[prost(uint32, tag = "7")]
    pub umask: u32,
}

/// Creates a directory.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Mkdir {
    /// Directory.
    #[prost(uint64, tag = "1")]
    pub parent: u64,
    /// One component.
    #[prost(bytes = "bytes", tag = "2")]
    pub name: bytes::Bytes,
    /// Permission bits.
    #[prost(uint32, tag = "3")]
    pub mode: u32,
    /// When it reaches the under-storage.
    #[prost(enumeration = "WriteType", tag = "4")]
    pub write_type: i32,
    /// Bits to be taken from `mode` where the directory has no default ACL; 0 if they are taken already.
    #[prost(uint32, tag = "5")]
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
    pub name: bytes::Bytes,
    /// What it points at, unchecked.
    #[prost(bytes = "bytes", tag = "3")]
    pub target: bytes::Bytes,
}

/// Creates a special file: FIFO, socket, device.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Mknod {
    /// Directory.
    #[prost(uint64, tag = "1")]
    pub parent: u64,
    /// One component.
    #[prost(bytes = "bytes", tag = "2")]
    pub name: bytes::Bytes,
    /// Not a file, directory or symlink.
    #[prost(enumeration = "FileKind", tag = "3")]
    pub kind: i32,
    /// Permission bits.
    #[prost(uint32, tag = "4")]
    pub mode: u32,
    /// Device number.
    #[prost(uint64, tag = "5")]
    pub rdev: u64,
    /// Bits to be taken from `mode` where the directory has no default ACL; 0 if they are taken already.
    #[prost(uint32, tag = "6")]
    pub umask: u32,
}

/// Target of a symbolic link.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ReadLink {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
}

/// Target of a symbolic link.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LinkTarget {
    /// As it was created.
    #[prost(bytes = "bytes", tag = "1")]
    pub target: bytes::Bytes,
}

/// Removes a name that is no directory. An inode that is open in a session stays until its last close.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Unlink {
    /// Directory.
    #[prost(uint64, tag = "1")]
    pub parent: u64,
    /// One component.
    #[prost(bytes = "bytes", tag = "2")]
    pub name: bytes::Bytes,
    /// Answer by [`Removed`].
    #[prost(bool, tag = "3")]
    pub tell_removed: bool,
}

/// Removes an empty directory.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Rmdir {
    /// Directory.
    #[prost(uint64, tag = "1")]
    pub parent: u64,
    /// One component.
    #[prost(bytes = "bytes", tag = "2")]
    pub name: bytes::Bytes,
    /// Answer by [`Removed`].
    #[prost(bool, tag = "3")]
    pub tell_removed: bool,
}

/// Renames, replacing an existing target as rename(2) does.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Rename {
    /// Old directory.
    #[prost(uint64, tag = "1")]
    pub parent: u64,
    /// Old name.
    #[prost(bytes = "bytes", tag = "2")]
    pub name: bytes::Bytes,
    /// New directory.
    #[prost(uint64, tag = "3")]
    pub new_parent: u64,
    /// New name.
    #[prost(bytes = "bytes", tag = "4")]
    pub new_name: bytes::Bytes,
    /// RENAME_NOREPLACE (1), RENAME_EXCHANGE (2), RENAME_WHITEOUT (4).
    #[prost(uint32, tag = "5")]
    pub flags: u32,
    /// Answer by [`Removed`].
    #[prost(bool, tag = "6")]
    pub tell_removed: bool,
    /// The target may lie on another mount of the namespace; without it that is `CrossesMounts`.
    #[prost(bool, tag = "7")]
    pub across_mounts: bool,
}

/// What a change of names left without any.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Removed {
    /// The inode as it was before; absent if there is none, or if the answer is given again.
    #[prost(message, optional, tag = "1")]
    pub attr: Option<Attr>,
}

/// Removes a path, recursively if asked, in one command; space is reclaimed in the background.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Delete {
    /// Absolute path.
    #[prost(bytes = "bytes", tag = "1")]
    pub path: bytes::Bytes,
    /// Also a directory with entries.
    #[prost(bool, tag = "2")]
    pub recursive: bool,
    /// Leave the under-storage as it is.
    #[prost(bool, tag = "3")]
    pub alluxio_only: bool,
}

/// Changes attributes; what is absent stays. `size` is only for files that are not open for writing through a worker.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SetAttr {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
    /// Permission bits.
    #[prost(uint32, optional, tag = "2")]
    pub mode: Option<u32>,
    /// Owner.
    #[prost(string, optional, tag = "3")]
    pub owner: Option<String>,
    /// Group.
    #[prost(string, optional, tag = "4")]
    pub group: Option<String>,
    /// Last access.
    #[prost(int64, optional, tag = "5")]
    pub atime_ns: Option<i64>,
    /// Last change of data.
    #[prost(int64, optional, tag = "6")]
    pub mtime_ns: Option<i64>,
    /// Never evict.
    #[prost(bool, optional, tag = "7")]
    pub pinned: Option<bool>,
    /// The times are "now" (write permission is enough).
    #[prost(bool, tag = "8")]
    pub times_now: bool,
    /// Take setuid, setgid and `security.capability` away: a caller who may write has written.
    #[prost(bool, tag = "9")]
    pub kill_priv: bool,
    /// With `kill_priv`: setgid goes even if the group may not execute the file, since the caller is not in that group.
    #[prost(bool, tag = "10")]
    pub kill_setgid: bool,
}

/// Gives an inode that is no directory one more name; see link(2).
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
    pub name: bytes::Bytes,
}

/// Creates a regular file without a name (O_TMPFILE), open for writing in the session. It lives while it is open there, or
/// until [`Link`] gives it a name.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Tmpfile {
    /// Directory that decides on mount, group and default ACL.
    #[prost(uint64, tag = "1")]
    pub parent: u64,
    /// Permission bits.
    #[prost(uint32, tag = "2")]
    pub mode: u32,
    /// Bits to be taken from `mode` where the directory has no default ACL; 0 if they are taken already.
    #[prost(uint32, tag = "3")]
    pub umask: u32,
    /// When its data reaches the under-storage, once it has a name.
    #[prost(enumeration = "WriteType", tag = "4")]
    pub write_type: i32,
    /// 0: the default.
    #[prost(uint64, tag = "5")]
    pub block_bytes: u64,
    /// O_EXCL: it is never to have a name.
    #[prost(bool, tag = "6")]
    pub never_linked: bool,
}

/// One file that was read.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Accessed {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
    /// When, in nanoseconds since 1970.
    #[prost(int64, tag = "2")]
    pub atime_ns: i64,
}

/// Files that were read lately. The master decides by relatime whether that is worth keeping; what is lost on the way does no
/// harm.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TouchAtimes {
    /// At most [`ACCESSED_MAX`]; more are left out.
    #[prost(message, repeated, tag = "1")]
    pub files: Vec<Accessed>,
}

/// An atime that is so old is moved by a read though nothing has changed: a day.
pub const ATIME_KEPT_NS: i64 = 24 * 3600 * 1_000_000_000;

/// Most files in one [`TouchAtimes`].
pub const ACCESSED_MAX: usize = 1_000;

/// Files, directories and bytes under a path.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Count {
    /// Absolute path.
    #[prost(bytes = "bytes", tag = "1")]
    pub path: bytes::Bytes,
}

/// Files, directories and bytes.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Counted {
    /// Regular files and others that are no directories.
    #[prost(uint64, tag = "1")]
    pub files: u64,
    /// Directories below the path.
    #[prost(uint64, tag = "2")]
    pub directories: u64,
    /// Sum of lengths.
    #[prost(uint64, tag = "3")]
    pub bytes: u64,
    /// Of these, held by workers.
    #[prost(uint64, tag = "4")]
    pub cached_bytes: u64,
}

/// Path of an inode (one of its names).
#[derive(Clone, PartialEq, prost::Message)]
pub struct GetPath {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
}

/// Path of an inode.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PathReply {
    /// Absolute path in the namespace.
    #[prost(bytes = "bytes", tag = "1")]
    pub path: bytes::Bytes,
    /// Where it is, or will be, in the under-storage.
    #[prost(string, tag = "2")]
    pub ufs_uri: String,
}
