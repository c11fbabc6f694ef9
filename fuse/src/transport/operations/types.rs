//! What requests and answers are made of: the kernel's notions, in no transport's encoding.

use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

/// The kernel's number of an inode. It calls the mounted folder 1; the others are the namespace's ids. A file whose data became
/// another while the old is in use has one more node for it, of which stat(2) shows the same number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node(pub u64);

impl Node {
    /// The mounted folder.
    pub const ROOT: Node = Node(1);
}

/// An open file or directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fh(pub u64);

/// Who holds a lock: a number by which the kernel tells processes and open files apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Owner(pub u64);

/// Who asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asker {
    /// User id for access to files.
    pub uid: u32,
    /// Group id for access to files.
    pub gid: u32,
    /// Thread id.
    pub pid: u32,
}

/// What a system call fails with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub i32);

impl Errno {
    /// We do not do this; for many requests the kernel then does it by itself, and does not ask again.
    pub const NOSYS: Errno = Errno(libc::ENOSYS);
    /// This file system cannot do it, as with hard links on FAT.
    pub const PERM: Errno = Errno(libc::EPERM);
    /// This file system has no such operation.
    pub const NOTSUP: Errno = Errno(libc::EOPNOTSUPP);
    /// An argument makes no sense.
    pub const INVAL: Errno = Errno(libc::EINVAL);
    /// Something is broken; the log says what.
    pub const IO: Errno = Errno(libc::EIO);
    /// No such ioctl.
    pub const NOTTY: Errno = Errno(libc::ENOTTY);
    /// The caller got a signal while it waited.
    pub const INTR: Errno = Errno(libc::EINTR);
}

/// An answer to the kernel.
pub type Answer<T> = Result<T, Errno>;

/// What is asked of the kernel when the session begins.
#[derive(Clone, Copy, Debug)]
pub struct Features {
    /// Let the kernel work on local files by itself.
    pub passthrough: bool,
    /// fcntl and flock locks come to us. Else the kernel keeps them, which is right on one host only.
    pub locks: bool,
    /// POSIX ACLs: kept as the xattrs `system.posix_acl_*`, enforced by the kernel.
    pub acl: bool,
    /// We apply the umask, which the kernel then leaves to us: a default ACL stands instead of it.
    pub umask: bool,
    /// We take setuid, setgid and capabilities away from a file that is written to, cut or given away; the kernel need not ask
    /// for capabilities before each write. Where it writes to a local file by itself it says so by a setattr of nothing.
    pub kill_privileges: bool,
    /// Requests that the kernel may have in flight in the background.
    pub max_background: u16,
}

impl Default for Features {
    fn default() -> Self {
        Features {
            passthrough: false,
            locks: false,
            acl: false,
            umask: false,
            kill_privileges: false,
            max_background: 128,
        }
    }
}

/// Attributes as stat(2) shows them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stat {
    /// Number of the inode, as stat(2) shows it.
    pub node: u64,
    /// Length.
    pub size: u64,
    /// Blocks of 512 bytes.
    pub blocks: u64,
    /// Last access, ns since 1970.
    pub atime_ns: i64,
    /// Last change of data.
    pub mtime_ns: i64,
    /// Last change of the inode.
    pub ctime_ns: i64,
    /// Birth.
    pub btime_ns: i64,
    /// Type (`S_IFMT`) and permission bits.
    pub mode: u32,
    /// Hard links.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number of a device node, as the kernel encodes it in 32 bits.
    pub rdev: u32,
    /// What programs choose their buffers by.
    pub blksize: u32,
}

/// Attributes, and how long the kernel may believe them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Attributes {
    /// The attributes.
    pub stat: Stat,
    /// How long they may be cached.
    pub ttl: Duration,
}

/// A name that was found or made. The kernel counts each as a look-up and gives it back by forget.
#[derive(Clone, Copy, Debug, Default)]
pub struct Entry {
    /// By which number the kernel is to know it.
    pub node: Node,
    /// What it names.
    pub attributes: Attributes,
    /// How long the name may be cached.
    pub ttl: Duration,
}

/// An open file.
#[derive(Debug)]
pub struct Opened<B> {
    /// Handle.
    pub fh: Fh,
    /// `FOPEN_*`, but for passthrough, which `backing` says.
    pub flags: OpenFlags,
    /// The kernel reads and writes this file by itself.
    pub backing: Option<Arc<B>>,
}

/// How the kernel is to treat an open file or directory: the protocol's `FOPEN_*` bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenFlags(pub u32);

impl OpenFlags {
    /// Bypass the page cache.
    pub const DIRECT_IO: OpenFlags = OpenFlags(1 << 0);
    /// What is cached of it is still true.
    pub const KEEP_CACHE: OpenFlags = OpenFlags(1 << 1);
    /// Cache the listing of this directory.
    pub const CACHE_DIR: OpenFlags = OpenFlags(1 << 3);
    /// No flush is needed when it is closed.
    pub const NOFLUSH: OpenFlags = OpenFlags(1 << 5);

    /// Both.
    #[must_use]
    pub fn with(self, other: OpenFlags, wanted: bool) -> OpenFlags {
        if wanted { OpenFlags(self.0 | other.0) } else { self }
    }
}

/// A time that utimens(2) sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetTime {
    /// Whatever it is now.
    Now,
    /// Nanoseconds since 1970.
    At(i64),
}

/// What setattr changes. Absent stays. Nothing at all: see [`Features::kill_privileges`].
#[derive(Clone, Copy, Debug, Default)]
pub struct SetAttributes {
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Length.
    pub size: Option<u64>,
    /// Last access.
    pub atime: Option<SetTime>,
    /// Last change of data.
    pub mtime: Option<SetTime>,
    /// Last change of the inode: only kernels that write back by themselves say so.
    pub ctime_ns: Option<i64>,
    /// The open file that ftruncate(2) named.
    pub fh: Option<Fh>,
}

/// A name to be made.
#[derive(Clone, Copy, Debug)]
pub struct NewName<'a> {
    /// The directory.
    pub parent: Node,
    /// The name.
    pub name: &'a [u8],
    /// Type and permission bits; the umask is taken off already unless [`Features::umask`] was asked for.
    pub mode: u32,
    /// The caller's umask.
    pub umask: u32,
}

/// Which extended attributes to answer: their size (a size of 0 asks for that), or all bytes.
#[derive(Clone, Debug)]
pub enum Xattr {
    /// How many bytes there are.
    Size(u32),
    /// The bytes.
    Data(Bytes),
}

/// Kind of a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockKind {
    /// Shared.
    Read,
    /// Exclusive.
    Write,
    /// None: unlock, or nobody is in the way.
    Unlock,
}

/// A lock on bytes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lock {
    /// First byte.
    pub start: u64,
    /// Last byte; `i64::MAX` is the end of all files.
    pub end: u64,
    /// Kind.
    pub kind: LockKind,
    /// Process of the holder; of the asker in a request.
    pub pid: u32,
}

/// A request about locks.
#[derive(Clone, Copy, Debug)]
pub struct LockRequest {
    /// The file.
    pub node: Node,
    /// Its handle.
    pub fh: Fh,
    /// The holder: of fcntl locks one per process, of flock and open-file-description locks one per open file.
    pub owner: Owner,
    /// The lock.
    pub lock: Lock,
    /// It is flock(2)'s: about the whole file, and apart from those of fcntl(2).
    pub flock: bool,
    /// Wait until nobody is in the way.
    pub wait: bool,
}

/// A range of one file to copy into another.
#[derive(Clone, Copy, Debug)]
pub struct CopyRange {
    /// From here.
    pub source: (Fh, u64),
    /// To there.
    pub target: (Fh, u64),
    /// The file at the end of it.
    pub target_node: Node,
    /// How many bytes.
    pub length: u64,
    /// Flags of copy_file_range(2).
    pub flags: u64,
}

/// Capacity.
#[derive(Clone, Copy, Debug, Default)]
pub struct Capacity {
    /// All blocks.
    pub blocks: u64,
    /// Free ones.
    pub free: u64,
    /// Of these, those that programs may take.
    pub available: u64,
    /// Bytes of a block.
    pub block_bytes: u32,
    /// All inodes.
    pub files: u64,
    /// Free ones.
    pub files_free: u64,
    /// Longest name.
    pub name_bytes_max: u32,
}

/// One entry of a listing.
#[derive(Clone, Copy, Debug)]
pub struct Listed<'a> {
    /// Name.
    pub name: &'a [u8],
    /// Cookie that continues after it.
    pub next: u64,
    /// What it names. Of `.` and `..` only number and type count.
    pub entry: &'a Entry,
    /// `.` or `..`: the kernel does not count it as a look-up.
    pub is_dot: bool,
}

/// Where a listing goes.
pub trait Listing: Send {
    /// Adds an entry; false if it does not fit any more.
    fn add(&mut self, listed: &Listed<'_>) -> bool;
    /// Attributes are wanted, and each entry is a look-up.
    fn plus(&self) -> bool;
}
