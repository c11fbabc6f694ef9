//! The messages of a worker's operations.

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
    /// If something of it is missing, its object is looked at, or fetched: `VersionMismatch` if it is another one.
    #[prost(bool, tag = "5")]
    pub check_source: bool,
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
    /// What the kernel does on the descriptor is watched: each further opening on it is to be told ([`PassAgain`]).
    #[prost(bool, tag = "4")]
    pub watched: bool,
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
    /// Who opens it can only write: nobody can read or map the file on that descriptor.
    #[prost(bool, tag = "6")]
    pub write_only: bool,
}

/// The kernel is about to open the local file of an open version once more, on the descriptor that its mount has.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PassAgain {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
    /// The open version.
    #[prost(uint64, tag = "2")]
    pub version: u64,
    /// As [`OpenWrite::write_only`].
    #[prost(bool, tag = "3")]
    pub write_only: bool,
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
    /// Of this change, made up by who asks: asked for again after a lost answer, it is not made again over what was written since.
    /// 0: none.
    #[prost(uint64, tag = "4")]
    pub number: u64,
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
    /// See [`SetLength::number`].
    #[prost(uint64, tag = "6")]
    pub number: u64,
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
    /// Nothing was sealed, because mappings for writing have outlived their descriptors: see [`Seal::release`].
    #[prost(bool, tag = "7")]
    pub mapped: bool,
    /// Who asked has let go of it, and nothing was sealed, because other mounts write on as far as its home knows. One of them may
    /// have died without a word: see [`crate::master::Close::left_open`].
    #[prost(bool, tag = "8")]
    pub others_write: bool,
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
    ///
    /// While the local file is still mapped for writing, nothing is done and the answer says `mapped`: the file stays open,
    /// is to be sealed with `next` if it also says `changed`, and released later.
    #[prost(bool, tag = "4")]
    pub release: bool,
    /// The file is new, empty, and was closed so. It is not sealed but marked: should its writers die now, it stays as an empty
    /// file. With `release` it is dropped instead, which leaves the file as it was created. If it is not empty any more,
    /// nothing is done and `changed` in the answer is true.
    #[prost(bool, tag = "5")]
    pub closed_empty: bool,
    /// It was open for reading and writing on a descriptor of the local file, so there may be, or have been, mappings of it.
    #[prost(bool, tag = "6")]
    pub may_be_mapped: bool,
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

/// Who is there: asked through the worker's unix socket, to find out whether that is the worker it should be.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Identify {}

/// Who is there.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Identity {
    /// As in [`crate::types::WorkerAddress::nonce`].
    #[prost(fixed64, tag = "1")]
    pub nonce: u64,
}

/// Most bytes that one [`Read`] or [`Write`] moves.
pub const TRANSFER_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Most bytes that one [`CopyRange`] copies: a second of a slow disk.
pub const COPY_BYTES_MAX: u64 = 64 * 1024 * 1024;
