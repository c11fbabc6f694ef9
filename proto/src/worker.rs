//! The data protocol of a worker: one request message with bytes beside it, one reply with bytes or a descriptor.
//!
//! The worker knows inode ids and versions, never paths or permission; `token` will carry the master's capability.

use crate::error::FsResult;
pub use crate::master::Empty;

/// Prepares reading a committed version. Hands out a descriptor if the version is completely present.
#[derive(Clone, PartialEq, prost::Message)]
pub struct OpenRead {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
    /// Version, length, and where missing bytes come from.
    #[prost(message, optional, tag = "2")]
    pub source: Option<crate::master::ReadSource>,
    /// The caller shares the host and can use a descriptor.
    #[prost(bool, tag = "3")]
    pub want_fd: bool,
    /// The caller wants every byte through the checksum: no descriptor.
    #[prost(bool, tag = "4")]
    pub verify: bool,
}

/// An opened version. The descriptor comes beside it, if any.
#[derive(Clone, PartialEq, prost::Message)]
pub struct OpenedFile {
    /// Every byte is present.
    #[prost(bool, tag = "1")]
    pub complete: bool,
    /// Present length, of an open version.
    #[prost(uint64, tag = "2")]
    pub length: u64,
    /// Of an open version.
    #[prost(int64, tag = "3")]
    pub mtime_ns: i64,
}

/// Reads a range; missing bytes are fetched (and kept), with read-ahead by the worker. Short only at the end.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Read {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
    /// As in OpenRead; for an open version, `version` alone counts.
    #[prost(message, optional, tag = "2")]
    pub source: Option<crate::master::ReadSource>,
    /// In bytes.
    #[prost(uint64, tag = "3")]
    pub offset: u64,
    /// In bytes, 4 MiB at most.
    #[prost(uint64, tag = "4")]
    pub length: u64,
    /// Read the open version instead.
    #[prost(bool, tag = "5")]
    pub open_version: bool,
    /// Identifies one reader's sequence of reads, for read-ahead; 0: none.
    #[prost(uint64, tag = "6")]
    pub stream: u64,
    /// Hold all that is read against its checksum, also what was found right before.
    #[prost(bool, tag = "7")]
    pub verify: bool,
}

/// Makes or joins the open version on its home.
#[derive(Clone, PartialEq, prost::Message)]
pub struct OpenWrite {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
    /// Version, base, write type.
    #[prost(message, optional, tag = "2")]
    pub lease: Option<crate::master::WriteLease>,
    /// Start empty.
    #[prost(bool, tag = "3")]
    pub truncate: bool,
    /// The caller shares the host and can use a descriptor.
    #[prost(bool, tag = "4")]
    pub want_fd: bool,
    /// The caller has the local file open already and cannot do without the descriptor. Otherwise the worker may keep it
    /// to itself, to know what changes of a large file that the under-storage has.
    #[prost(bool, tag = "5")]
    pub needs_fd: bool,
}

/// Writes a range of the open version; data beside the message.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Write {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
    /// The open version.
    #[prost(uint64, tag = "2")]
    pub version: u64,
    /// In bytes.
    #[prost(uint64, tag = "3")]
    pub offset: u64,
    /// At the end instead, atomically; the reply says where.
    #[prost(bool, tag = "4")]
    pub append: bool,
}

/// What a write did.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Written {
    /// Where.
    #[prost(uint64, tag = "1")]
    pub offset: u64,
    /// How much; less than was asked for where there is no room for more.
    #[prost(uint64, tag = "2")]
    pub length: u64,
    /// Length of the open version now.
    #[prost(uint64, tag = "3")]
    pub file_length: u64,
}

/// Truncates or extends the open version.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SetLength {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
    /// The open version.
    #[prost(uint64, tag = "2")]
    pub version: u64,
    /// In bytes.
    #[prost(uint64, tag = "3")]
    pub length: u64,
}

/// fallocate(2) on the open version.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Allocate {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
    /// The open version.
    #[prost(uint64, tag = "2")]
    pub version: u64,
    /// FALLOC_FL_*.
    #[prost(uint32, tag = "3")]
    pub mode: u32,
    /// In bytes.
    #[prost(uint64, tag = "4")]
    pub offset: u64,
    /// In bytes.
    #[prost(uint64, tag = "5")]
    pub length: u64,
}

/// Sets times of the open version's local file; a later write moves mtime again.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SetTimes {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
    /// The open version.
    #[prost(uint64, tag = "2")]
    pub version: u64,
    /// Last change of data.
    #[prost(int64, tag = "3")]
    pub mtime_ns: i64,
}

/// Length and times of the open version.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StatOpen {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
    /// The open version.
    #[prost(uint64, tag = "2")]
    pub version: u64,
}

/// Length and times of the open version.
#[derive(Clone, PartialEq, prost::Message)]
pub struct OpenStat {
    /// In bytes.
    #[prost(uint64, tag = "1")]
    pub length: u64,
    /// Last change of data.
    #[prost(int64, tag = "2")]
    pub mtime_ns: i64,
    /// Changed since the last seal.
    #[prost(bool, tag = "3")]
    pub changed: bool,
    /// Last change of data or length; 0: not known any more.
    #[prost(int64, tag = "4")]
    pub ctime_ns: i64,
    /// The open version, which another mount's commit may have moved on; 0: not told.
    #[prost(uint64, tag = "5")]
    pub version: u64,
    /// How much of the length is holes; 0 also if that is not known.
    #[prost(uint64, tag = "6")]
    pub hole_bytes: u64,
}

/// fsync of the open version's local file.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SyncOpen {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
    /// The open version.
    #[prost(uint64, tag = "2")]
    pub version: u64,
    /// fdatasync.
    #[prost(bool, tag = "3")]
    pub data_only: bool,
}

/// Checksums, syncs and pins the open version's content, ready for Commit. With `next`, it stays open as that version.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Seal {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
    /// The open version.
    #[prost(uint64, tag = "2")]
    pub version: u64,
    /// Version that stays open, or 0: no writer is left.
    #[prost(uint64, tag = "3")]
    pub next: u64,
    /// The last writer is gone. If nothing changed since the opening or the last seal, the file goes back to the version
    /// that it had then, and `changed` in the answer is false: close instead of commit.
    #[prost(bool, tag = "4")]
    pub release: bool,
    /// The file is new, empty, and was closed so. It is not sealed but marked: should its writers die now, it stays as an empty
    /// file. With `release` it is dropped instead, which leaves the file as it was created. If it is not empty any more,
    /// nothing is done and `changed` in the answer is true.
    #[prost(bool, tag = "5")]
    pub closed_empty: bool,
}

/// Drops a cached version, or an abandoned open one.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Drop {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
    /// Which; 0: all.
    #[prost(uint64, tag = "2")]
    pub version: u64,
    /// Also if it is an open version.
    #[prost(bool, tag = "3")]
    pub open: bool,
}

/// Fetches all of a version into the cache.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Load {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
    /// Version, length, and where missing bytes come from.
    #[prost(message, optional, tag = "2")]
    pub source: Option<crate::master::ReadSource>,
}

/// lseek(2) with SEEK_DATA or SEEK_HOLE. What is not here counts as data: under-storages have no holes.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SeekRange {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
    /// As in [`Read`].
    #[prost(message, optional, tag = "2")]
    pub source: Option<crate::master::ReadSource>,
    /// From where on.
    #[prost(uint64, tag = "3")]
    pub offset: u64,
    /// SEEK_HOLE; otherwise SEEK_DATA.
    #[prost(bool, tag = "4")]
    pub hole: bool,
    /// In the open version instead.
    #[prost(bool, tag = "5")]
    pub open_version: bool,
}

/// What a seek found.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Sought {
    /// False is ENXIO: the offset is at the end or beyond it, or only a hole follows and data was wanted.
    #[prost(bool, tag = "1")]
    pub found: bool,
    /// Where; the end of the file is a hole.
    #[prost(uint64, tag = "2")]
    pub offset: u64,
}

/// copy_file_range(2) into an open version, on the worker that has it: by reference where its file system can, and never
/// through the caller. Copies [`COPY_BYTES_MAX`] at most; less at the end of the source.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CopyRange {
    /// Into which file.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
    /// Its open version.
    #[prost(uint64, tag = "2")]
    pub version: u64,
    /// Where to.
    #[prost(uint64, tag = "3")]
    pub offset: u64,
    /// From which file; it may be the same one, but the ranges must not overlap then.
    #[prost(uint64, tag = "4")]
    pub from_inode: u64,
    /// As in [`Read`].
    #[prost(message, optional, tag = "5")]
    pub from_source: Option<crate::master::ReadSource>,
    /// From the open version of the source.
    #[prost(bool, tag = "6")]
    pub from_open_version: bool,
    /// Where from.
    #[prost(uint64, tag = "7")]
    pub from_offset: u64,
    /// In bytes.
    #[prost(uint64, tag = "8")]
    pub length: u64,
}

/// What is asked.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum WorkerOp {
    /// See [`OpenRead`]; answered by [`OpenedFile`].
    #[prost(message, tag = "10")]
    OpenRead(OpenRead),
    /// See [`Read`]; answered by [`Empty`].
    #[prost(message, tag = "11")]
    Read(Read),
    /// See [`OpenWrite`]; answered by [`OpenedFile`].
    #[prost(message, tag = "12")]
    OpenWrite(OpenWrite),
    /// See [`Write`]; answered by [`Written`].
    #[prost(message, tag = "13")]
    Write(Write),
    /// See [`SetLength`]; answered by [`OpenStat`].
    #[prost(message, tag = "14")]
    SetLength(SetLength),
    /// See [`Allocate`]; answered by [`OpenStat`].
    #[prost(message, tag = "15")]
    Allocate(Allocate),
    /// See [`SetTimes`]; answered by [`OpenStat`].
    #[prost(message, tag = "16")]
    SetTimes(SetTimes),
    /// See [`StatOpen`]; answered by [`OpenStat`].
    #[prost(message, tag = "17")]
    StatOpen(StatOpen),
    /// See [`SyncOpen`]; answered by [`OpenStat`].
    #[prost(message, tag = "18")]
    SyncOpen(SyncOpen),
    /// See [`Seal`]; answered by [`OpenStat`].
    #[prost(message, tag = "19")]
    Seal(Seal),
    /// See [`Drop`]; answered by [`Empty`].
    #[prost(message, tag = "20")]
    Drop(Drop),
    /// See [`Load`]; answered by [`Empty`].
    #[prost(message, tag = "21")]
    Load(Load),
    /// See [`SeekRange`]; answered by [`Sought`].
    #[prost(message, tag = "22")]
    SeekRange(SeekRange),
    /// See [`CopyRange`]; answered by [`Written`].
    #[prost(message, tag = "23")]
    CopyRange(CopyRange),
}

/// A request to a worker.
#[derive(Clone, PartialEq, prost::Message)]
pub struct WorkerRequest {
    /// Capability signed by the master; empty until tokens are on.
    #[prost(bytes = "bytes", tag = "1")]
    pub token: bytes::Bytes,
    /// What is asked.
    #[prost(oneof = "WorkerOp", tags = "10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23")]
    pub op: Option<WorkerOp>,
}

/// An answer.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum WorkerReplyBody {
    /// See [`OpenedFile`].
    #[prost(message, tag = "10")]
    OpenedFile(OpenedFile),
    /// See [`Empty`].
    #[prost(message, tag = "11")]
    Empty(Empty),
    /// See [`Written`].
    #[prost(message, tag = "12")]
    Written(Written),
    /// See [`OpenStat`].
    #[prost(message, tag = "13")]
    OpenStat(OpenStat),
    /// See [`Sought`].
    #[prost(message, tag = "14")]
    Sought(Sought),
}

/// An answer of a worker.
#[derive(Clone, PartialEq, prost::Message)]
pub struct WorkerReply {
    /// CRC32C of the bytes beside it; 0 if there are none.
    #[prost(fixed32, tag = "1")]
    pub data_crc32c: u32,
    /// The answer.
    #[prost(oneof = "WorkerReplyBody", tags = "10, 11, 12, 13, 14")]
    pub reply: Option<WorkerReplyBody>,
}

/// A worker's answer with what does not fit a message.
#[derive(Debug)]
pub struct WorkerResponse {
    /// The answer.
    pub reply: WorkerReplyBody,
    /// Bytes read.
    pub data: bytes::Bytes,
    /// Descriptor of the local file: OpenRead (read-only) and OpenWrite (read-write), same host only.
    pub fd: Option<std::os::fd::OwnedFd>,
}

impl WorkerResponse {
    /// An answer without bytes or descriptor.
    pub fn message(reply: WorkerReplyBody) -> Self {
        Self {
            reply,
            data: bytes::Bytes::new(),
            fd: None,
        }
    }
}

/// Most bytes that one [`Read`] or [`Write`] moves.
pub const TRANSFER_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Most bytes that one [`CopyRange`] copies: a second of a slow disk.
pub const COPY_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// A worker, near or far.
#[async_trait::async_trait]
pub trait WorkerApi: Send + Sync + 'static {
    /// Executes one request; `data` are the bytes of a [`Write`].
    ///
    /// # Errors
    /// As the operation says. `VersionMismatch`: the object in the under-storage changed; tell the master
    /// ([`crate::master::UfsChanged`]) and open again. `Stale`: no such open version here.
    async fn call(&self, request: WorkerRequest, data: bytes::Bytes) -> FsResult<WorkerResponse>;
}

macro_rules! worker_op {
    ($($name:ident)*) => {$(
        impl From<$name> for WorkerRequest {
            fn from(message: $name) -> Self {
                WorkerRequest { token: bytes::Bytes::new(), op: Some(WorkerOp::$name(message)) }
            }
        }
    )*};
}

worker_op! { OpenRead Read OpenWrite Write SetLength Allocate SetTimes StatOpen SyncOpen Seal Drop Load SeekRange CopyRange }
