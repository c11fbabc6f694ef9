//! Data of files: opening, committing, where it is, getting it into the under-storage.

use crate::types::*;

/// Opens a file for reading, and for writing if asked.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Open {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
    /// For reading.
    #[prost(bool, tag = "2")]
    pub read: bool,
    /// For writing: makes or joins the one open version.
    #[prost(bool, tag = "3")]
    pub write: bool,
    /// Drop the old content.
    #[prost(bool, tag = "4")]
    pub truncate: bool,
    /// For writing: when its data reaches the under-storage.
    #[prost(enumeration = "WriteType", tag = "5")]
    pub write_type: i32,
    /// For reading: the client's name for this opening, unique in its session; 0: it has none. One that is asked for twice is
    /// one opening.
    #[prost(uint64, tag = "6")]
    pub open_id: u64,
}

/// What an open file needs.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Opened {
    /// Attributes.
    #[prost(message, optional, tag = "1")]
    pub attr: Option<Attr>,
    /// How to read the committed version; absent where `write` is present.
    #[prost(message, optional, tag = "2")]
    pub read: Option<ReadSource>,
    /// The open version, if open for writing, by this call or by others: everyone reads and writes there.
    #[prost(message, optional, tag = "3")]
    pub write: Option<WriteLease>,
}

/// How to read a committed version.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ReadSource {
    /// [`crate::DataVersion`].
    #[prost(uint64, tag = "1")]
    pub version: u64,
    /// In bytes.
    #[prost(uint64, tag = "2")]
    pub length: u64,
    /// Present if the under-storage has this version.
    #[prost(message, optional, tag = "3")]
    pub ufs: Option<UfsSource>,
    /// Who holds all or part of it, best first; then who should fetch it.
    #[prost(message, repeated, tag = "4")]
    pub workers: Vec<WorkerAddress>,
    /// While the under-storage does not have this version: the older one that it has, where that is now.
    #[prost(message, optional, tag = "5")]
    pub older: Option<UfsSource>,
    /// Which version `older` is.
    #[prost(uint64, tag = "6")]
    pub older_version: u64,
    /// The first of `workers` has all of it.
    #[prost(bool, tag = "7")]
    pub is_whole: bool,
}

/// The one open version of a file, and its home (DESIGN D15).
#[derive(Clone, PartialEq, prost::Message)]
pub struct WriteLease {
    /// The open version.
    #[prost(uint64, tag = "1")]
    pub version: u64,
    /// What is under it; absent for an empty one.
    #[prost(message, optional, tag = "2")]
    pub base: Option<ReadSource>,
    /// The worker with the local file.
    #[prost(message, optional, tag = "3")]
    pub home: Option<WorkerAddress>,
    /// When its data reaches the under-storage.
    #[prost(enumeration = "WriteType", tag = "4")]
    pub write_type: i32,
    /// The committed version, also where its content is dropped; 0: there is none, or the master is older than this field.
    /// Only a local file of that version is changed in place. Not signed: who may write may choose.
    #[prost(uint64, tag = "5")]
    pub replaces: u64,
    /// The master's signature, by which the home knows that the lease is real. To be passed on as it is.
    #[prost(bytes = "bytes", tag = "20")]
    pub token: bytes::Bytes,
}

/// Makes the content that the home sealed the file's committed version.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Commit {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
    /// The open version that was sealed.
    #[prost(uint64, tag = "2")]
    pub version: u64,
    /// In bytes.
    #[prost(uint64, tag = "3")]
    pub length: u64,
    /// Last change of data.
    #[prost(int64, tag = "4")]
    pub mtime_ns: i64,
    /// The file stays open for writing, as version + 1.
    #[prost(bool, tag = "5")]
    pub keep_open: bool,
    /// Last change of data or length as the home's clock has it, which is what fstat said meanwhile; 0: when this is applied.
    #[prost(int64, tag = "6")]
    pub ctime_ns: i64,
    /// How much of the length is holes; 0 also if that is not known.
    #[prost(uint64, tag = "7")]
    pub hole_bytes: u64,
    /// With `keep_open`: nobody of this session has the file open any more, but it is still mapped for writing. It is uploaded
    /// all the same.
    #[prost(bool, tag = "8")]
    pub mapped: bool,
}

/// The home has synced the open version: after a crash this much of it is kept.
#[derive(Clone, PartialEq, prost::Message)]
pub struct MarkDurable {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
    /// The open version.
    #[prost(uint64, tag = "2")]
    pub version: u64,
    /// In bytes.
    #[prost(uint64, tag = "3")]
    pub length: u64,
    /// Last change of data.
    #[prost(int64, tag = "4")]
    pub mtime_ns: i64,
}

/// Closes one opening.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Close {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
    /// It was for writing.
    #[prost(bool, tag = "2")]
    pub write: bool,
    /// Drop the uncommitted content.
    #[prost(bool, tag = "3")]
    pub abandon: bool,
    /// It was for reading: which one, as [`Open::open_id`] named it.
    #[prost(uint64, tag = "4")]
    pub open_id: u64,
    /// It was for writing, and the home may have it open still, or what was not committed: it could not be asked, or counts
    /// on others. If this was the last opening, the home is asked what there is, as if the writer had died.
    #[prost(bool, tag = "5")]
    pub left_open: bool,
}

/// Returns when what is due under a path is persisted, or with the failure.
#[derive(Clone, PartialEq, prost::Message)]
pub struct WaitPersisted {
    /// Absolute path; `/` waits for everything.
    #[prost(bytes = "bytes", tag = "1")]
    pub path: bytes::Bytes,
    /// Also schedule what is not persisted yet (MUST_CACHE).
    #[prost(bool, tag = "2")]
    pub schedule: bool,
    /// Give up after; 0: the default.
    #[prost(uint64, tag = "3")]
    pub timeout_ms: u64,
    /// Do not let intents ripen first.
    #[prost(bool, tag = "4")]
    pub expedite: bool,
}

/// Drops cached data that the under-storage has.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Free {
    /// Absolute path.
    #[prost(bytes = "bytes", tag = "1")]
    pub path: bytes::Bytes,
    /// Also what is pinned.
    #[prost(bool, tag = "2")]
    pub force: bool,
}

/// Who holds a file.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Locate {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
}

/// A worker and what it holds of a file.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Location {
    /// Who.
    #[prost(message, optional, tag = "1")]
    pub worker: Option<WorkerAddress>,
    /// How much.
    #[prost(uint64, tag = "2")]
    pub bytes: u64,
}

/// Who holds a file.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Locations {
    /// One per worker.
    #[prost(message, repeated, tag = "1")]
    pub locations: Vec<Location>,
}

/// A conditional read failed: the object is another one, or gone. The answer comes after the sync.
#[derive(Clone, PartialEq, prost::Message)]
pub struct UfsChanged {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
    /// The version that failed.
    #[prost(uint64, tag = "2")]
    pub version: u64,
}
