//! Messages that several requests share.

/// Who asks. The master decides on it (DESIGN D14).
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct Caller {
    /// User name, or a decimal uid that has no name on the client's host.
    #[prost(string, tag = "1")]
    pub user: String,
    /// Primary group first.
    #[prost(string, repeated, tag = "2")]
    pub groups: Vec<String>,
}

/// What an inode is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum FileKind {
    /// Regular file.
    File = 0,
    /// Directory.
    Directory = 1,
    /// Symbolic link.
    Symlink = 2,
    /// Named pipe.
    Fifo = 3,
    /// Unix socket.
    Socket = 4,
    /// Character device.
    CharDevice = 5,
    /// Block device.
    BlockDevice = 6,
}

/// Where a file's data stands with respect to its under-storage; Alluxio's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum PersistState {
    /// Only in workers, and to stay there (MUST_CACHE).
    NotPersisted = 0,
    /// The intent to persist is journaled.
    ToBePersisted = 1,
    /// The under-storage has this version.
    Persisted = 2,
    /// The only copy is gone.
    Lost = 3,
}

/// When data reaches the under-storage; Alluxio's words (DESIGN D9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum WriteType {
    /// After close, in the background; the default.
    AsyncThrough = 0,
    /// Before close or fsync returns; stays cached.
    CacheThrough = 1,
    /// Before close or fsync returns; the cache is dropped after.
    Through = 2,
    /// Never.
    MustCache = 3,
}

/// An extended attribute.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Xattr {
    /// With its namespace, `user.…`.
    #[prost(bytes = "bytes", tag = "1")]
    pub name: bytes::Bytes,
    /// Any bytes.
    #[prost(bytes = "bytes", tag = "2")]
    pub value: bytes::Bytes,
}

/// Attributes of an inode. Times are nanoseconds since 1970.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Attr {
    /// [`crate::InodeId`].
    #[prost(uint64, tag = "1")]
    pub inode: u64,
    /// [`FileKind`].
    #[prost(enumeration = "FileKind", tag = "2")]
    pub kind: i32,
    /// Permission bits with setuid, setgid and sticky (07777).
    #[prost(uint32, tag = "3")]
    pub mode: u32,
    /// Number of names.
    #[prost(uint32, tag = "4")]
    pub nlink: u32,
    /// Owner by name, or decimal uid.
    #[prost(string, tag = "5")]
    pub owner: String,
    /// Group by name, or decimal gid.
    #[prost(string, tag = "6")]
    pub group: String,
    /// Length in bytes (of a symlink: of its target).
    #[prost(uint64, tag = "7")]
    pub size: u64,
    /// Last access.
    #[prost(int64, tag = "8")]
    pub atime_ns: i64,
    /// Last change of data.
    #[prost(int64, tag = "9")]
    pub mtime_ns: i64,
    /// Last change of inode.
    #[prost(int64, tag = "10")]
    pub ctime_ns: i64,
    /// Creation.
    #[prost(int64, tag = "11")]
    pub btime_ns: i64,
    /// Device number of device nodes.
    #[prost(uint64, tag = "12")]
    pub rdev: u64,
    /// [`crate::DataVersion`] of the last committed data.
    #[prost(uint64, tag = "13")]
    pub version: u64,
    /// [`PersistState`].
    #[prost(enumeration = "PersistState", tag = "14")]
    pub persist_state: i32,
    /// [`crate::MountId`] it lies on.
    #[prost(uint64, tag = "15")]
    pub mount_id: u64,
    /// Block size of the file, in bytes.
    #[prost(uint64, tag = "16")]
    pub block_bytes: u64,
    /// Bytes of this version that workers hold (capped at size).
    #[prost(uint64, tag = "17")]
    pub cached_bytes: u64,
    /// Never evicted.
    #[prost(bool, tag = "18")]
    pub pinned: bool,
    /// How long a kernel may cache these attributes and the entry while the watch stream lives, in milliseconds.
    #[prost(uint64, tag = "19")]
    pub cache_ms: u64,
    /// For a regular file: open for writing somewhere.
    #[prost(bool, tag = "20")]
    pub open_for_write: bool,
    /// For a directory: number of entries known, or 0.
    #[prost(uint64, tag = "21")]
    pub entries: u64,
    /// Parent directory (of one of its names).
    #[prost(uint64, tag = "22")]
    pub parent: u64,
    /// [`XATTRS`], [`ACL_ACCESS`], [`ACL_DEFAULT`]: what there is beside these attributes, so that nobody asks in vain.
    #[prost(uint32, tag = "30")]
    pub xattr_flags: u32,
    /// How much of the size is holes, as far as known: of the last committed data.
    #[prost(uint64, tag = "31")]
    pub hole_bytes: u64,
    /// The under-storage has refused its upload for good: it is tried again when somebody asks for that.
    #[prost(bool, tag = "60")]
    pub persist_refused: bool,
}

/// Bit of [`Attr::xattr_flags`]: it has extended attributes.
pub const XATTRS: u32 = 1;
/// Bit of [`Attr::xattr_flags`]: it has an access control list that says more than the mode.
pub const ACL_ACCESS: u32 = 2;
/// Bit of [`Attr::xattr_flags`]: it is a directory with a default access control list.
pub const ACL_DEFAULT: u32 = 4;

/// Permissions of a named user or group in an [`Acl`].
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct AclEntry {
    /// Name, or decimal id.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Read 4, write 2, execute 1.
    #[prost(uint32, tag = "2")]
    pub perm: u32,
}

/// A POSIX access control list (acl(5)). Each permission is read 4, write 2, execute 1.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct Acl {
    /// Of the owner.
    #[prost(uint32, tag = "1")]
    pub owner: u32,
    /// Of the group.
    #[prost(uint32, tag = "2")]
    pub group: u32,
    /// Of everybody else.
    #[prost(uint32, tag = "3")]
    pub other: u32,
    /// The most that the group, named users and named groups get. Always there if there is a named one.
    #[prost(uint32, optional, tag = "4")]
    pub mask: Option<u32>,
    /// Named users.
    #[prost(message, repeated, tag = "5")]
    pub users: Vec<AclEntry>,
    /// Named groups.
    #[prost(message, repeated, tag = "6")]
    pub groups: Vec<AclEntry>,
}

/// A name in a directory with the attributes of what it names. Names are bytes: any but `/` and NUL.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Entry {
    /// One path component.
    #[prost(bytes = "bytes", tag = "1")]
    pub name: bytes::Bytes,
    /// Attributes.
    #[prost(message, optional, tag = "2")]
    pub attr: Option<Attr>,
}

/// Where the bytes of a version are in an under-storage, and how to know that they are still those.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct UfsSource {
    /// [`crate::MountId`].
    #[prost(uint64, tag = "1")]
    pub mount_id: u64,
    /// Path beneath the mount's root, without leading slash. Bytes, as names are.
    #[prost(bytes = "bytes", tag = "2")]
    pub path: bytes::Bytes,
    /// ETag, or `mtime_ns-length-inode`; every range read is conditional on it.
    #[prost(string, tag = "3")]
    pub fingerprint: String,
    /// Length in bytes.
    #[prost(uint64, tag = "4")]
    pub length: u64,
}

/// How to reach a worker.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct WorkerAddress {
    /// [`crate::WorkerId`].
    #[prost(uint64, tag = "1")]
    pub worker_id: u64,
    /// Host name or address.
    #[prost(string, tag = "2")]
    pub host: String,
    /// Data port.
    #[prost(uint32, tag = "3")]
    pub port: u32,
    /// Path of the unix socket that hands out descriptors; empty if none.
    #[prost(string, tag = "4")]
    pub domain_socket: String,
    /// What the worker behind that socket answers to [`crate::worker::Identify`]: whoever reaches it there shares the worker's
    /// host, whatever both call it. 0: of a worker that does not know the question.
    #[prost(fixed64, tag = "20")]
    pub nonce: u64,
}

/// Key and value.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct Property {
    /// Key.
    #[prost(string, tag = "1")]
    pub key: String,
    /// Value.
    #[prost(string, tag = "2")]
    pub value: String,
}
