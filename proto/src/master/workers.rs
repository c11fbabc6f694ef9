//! What workers and master tell each other.

use super::{DamagedRange, ReportTier};
use crate::types::*;

/// A worker comes up.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RegisterWorker {
    /// Known id, or 0.
    #[prost(uint64, tag = "1")]
    pub worker_id: u64,
    /// Where it serves.
    #[prost(message, optional, tag = "2")]
    pub address: Option<WorkerAddress>,
    /// Space.
    #[prost(message, repeated, tag = "3")]
    pub tiers: Vec<ReportTier>,
    /// Software version.
    #[prost(string, tag = "4")]
    pub version: String,
    /// Cluster its data folder belongs to, or empty.
    #[prost(string, tag = "5")]
    pub cluster_id: String,
    /// Identifies the boot of its operating system; what was not synced does not survive it. 0: unknown.
    #[prost(fixed64, tag = "6")]
    pub boot: u64,
    /// That it has the cluster's secret.
    #[prost(message, optional, tag = "20")]
    pub proof: Option<MemberProof>,
}

/// Asks for something to prove oneself by: good once, for a minute.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Challenge {}

/// What is to be answered with a [`MemberProof`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct Challenged {
    /// As it is.
    #[prost(bytes = "bytes", tag = "1")]
    pub challenge: bytes::Bytes,
}

/// That the sender has the cluster's secret: HMAC-SHA256 over who it is, the challenge, and random bytes of its own.
#[derive(Clone, PartialEq, prost::Message)]
pub struct MemberProof {
    /// What was asked.
    #[prost(bytes = "bytes", tag = "1")]
    pub challenge: bytes::Bytes,
    /// The sender's own random bytes.
    #[prost(bytes = "bytes", tag = "2")]
    pub own: bytes::Bytes,
    /// The answer.
    #[prost(bytes = "bytes", tag = "3")]
    pub answer: bytes::Bytes,
}

/// The worker's identity.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Registered {
    /// [`crate::WorkerId`].
    #[prost(uint64, tag = "1")]
    pub worker_id: u64,
    /// To be kept in the data folder.
    #[prost(string, tag = "2")]
    pub cluster_id: String,
}

/// What changed since the last one. The answer waits (long poll) until there is work, `wait_ms` at most.
#[derive(Clone, PartialEq, prost::Message)]
pub struct WorkerHeartbeat {
    /// Who.
    #[prost(uint64, tag = "1")]
    pub worker_id: u64,
    /// Space.
    #[prost(message, repeated, tag = "2")]
    pub tiers: Vec<ReportTier>,
    /// Files of which more or less is held than last told.
    #[prost(message, repeated, tag = "3")]
    pub cached: Vec<CachedFile>,
    /// How long the answer may wait for work.
    #[prost(uint64, tag = "4")]
    pub wait_ms: u64,
    /// How many more persist tasks the worker takes now.
    #[prost(uint32, tag = "5")]
    pub capacity_tasks: u32,
    /// All that it knows of damaged bytes that have no other copy.
    #[prost(message, repeated, tag = "6")]
    pub damaged: Vec<DamagedRange>,
    /// How many more copies between mounts the worker takes now; always 0 from a worker that knows none.
    #[prost(uint32, tag = "12")]
    pub capacity_copies: u32,
}

/// What a worker holds of a file.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CachedFile {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
    /// [`crate::DataVersion`].
    #[prost(uint64, tag = "2")]
    pub version: u64,
    /// 0: nothing any more.
    #[prost(uint64, tag = "3")]
    pub bytes: u64,
}

/// Work for a worker.
#[derive(Clone, PartialEq, prost::Message)]
pub struct WorkerTasks {
    /// The master does not know the worker: register first.
    #[prost(bool, tag = "1")]
    pub reregister: bool,
    /// Versions to upload.
    #[prost(message, repeated, tag = "2")]
    pub persist: Vec<PersistTask>,
    /// Versions to drop; `bytes` unused.
    #[prost(message, repeated, tag = "3")]
    pub drop: Vec<CachedFile>,
    /// Open versions whose writers are gone.
    #[prost(message, repeated, tag = "4")]
    pub recover: Vec<RecoverTask>,
    /// Files to copy from one mount to another.
    #[prost(message, repeated, tag = "10")]
    pub copy: Vec<CopyTask>,
}

/// Copy one file from one mount to another. Nothing is deleted.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CopyTask {
    /// [`crate::IntentId`].
    #[prost(uint64, tag = "1")]
    pub intent: u64,
    /// Which.
    #[prost(uint64, tag = "2")]
    pub inode: u64,
    /// [`crate::DataVersion`] that the source is, if a worker has that; 0: unknown.
    #[prost(uint64, tag = "3")]
    pub version: u64,
    /// What to copy: no byte of another object.
    #[prost(message, optional, tag = "4")]
    pub source: Option<UfsSource>,
    /// Where to.
    #[prost(uint64, tag = "5")]
    pub mount_id: u64,
    /// Path beneath the root of that mount.
    #[prost(bytes = "bytes", tag = "6")]
    pub path: bytes::Bytes,
    /// Fingerprint of what is there now; empty: nothing should be.
    #[prost(string, tag = "7")]
    pub expect: String,
    /// The store compares nothing: whatever is there is replaced.
    #[prost(bool, tag = "8")]
    pub expect_any: bool,
    /// What the copy is to have beside its bytes and what the source carries, where the store can.
    #[prost(message, optional, tag = "9")]
    pub attributes: Option<StoredAttributes>,
    /// Names the bytes, so that a copy is known for one whose answer was lost.
    #[prost(string, tag = "10")]
    pub write_id: String,
}

/// What a store keeps of a file's attributes. What is absent is as the store makes it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StoredAttributes {
    /// Permission bits.
    #[prost(uint32, optional, tag = "1")]
    pub mode: Option<u32>,
    /// Owner by name.
    #[prost(string, optional, tag = "2")]
    pub owner: Option<String>,
    /// Group by name.
    #[prost(string, optional, tag = "3")]
    pub group: Option<String>,
    /// Last change of data, nanoseconds since 1970.
    #[prost(int64, optional, tag = "4")]
    pub mtime_ns: Option<i64>,
    /// Last access, nanoseconds since 1970.
    #[prost(int64, optional, tag = "5")]
    pub atime_ns: Option<i64>,
    /// Extended attributes of users are known; if none are listed it has none.
    #[prost(bool, tag = "6")]
    pub knows_xattrs: bool,
    /// Those.
    #[prost(message, repeated, tag = "7")]
    pub xattrs: Vec<Xattr>,
}

/// How a copy ended.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CopyDone {
    /// Who.
    #[prost(uint64, tag = "1")]
    pub worker_id: u64,
    /// Which intent.
    #[prost(uint64, tag = "2")]
    pub intent: u64,
    /// Where to.
    #[prost(uint64, tag = "3")]
    pub mount_id: u64,
    /// Path beneath the root of that mount.
    #[prost(bytes = "bytes", tag = "4")]
    pub path: bytes::Bytes,
    /// Of what was copied.
    #[prost(string, tag = "5")]
    pub source_fingerprint: String,
    /// Of the copy, on success. The master looks at it before it believes so.
    #[prost(string, tag = "6")]
    pub fingerprint: String,
    /// In bytes.
    #[prost(uint64, tag = "7")]
    pub length: u64,
    /// Why not, on failure.
    #[prost(message, optional, tag = "8")]
    pub error: Option<crate::error::WireError>,
}

/// Upload one version.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PersistTask {
    /// [`crate::IntentId`].
    #[prost(uint64, tag = "1")]
    pub intent: u64,
    /// Which.
    #[prost(uint64, tag = "2")]
    pub inode: u64,
    /// [`crate::DataVersion`].
    #[prost(uint64, tag = "3")]
    pub version: u64,
    /// In bytes.
    #[prost(uint64, tag = "4")]
    pub length: u64,
    /// Where to.
    #[prost(uint64, tag = "5")]
    pub mount_id: u64,
    /// Path beneath the mount's root.
    #[prost(bytes = "bytes", tag = "6")]
    pub path: bytes::Bytes,
    /// Fingerprint of what is there now; empty: nothing should be.
    #[prost(string, tag = "7")]
    pub expect: String,
    /// Mode, owner and mtime to keep with it where the store can.
    #[prost(message, optional, tag = "8")]
    pub attr: Option<Attr>,
    /// THROUGH: drop the cached copy once done.
    #[prost(bool, tag = "9")]
    pub drop_after: bool,
    /// Where ranges that were never written come from.
    #[prost(message, optional, tag = "10")]
    pub base: Option<UfsSource>,
    /// [`crate::DataVersion`] that `base` is; 0: unknown.
    #[prost(uint64, tag = "11")]
    pub base_version: u64,
    /// Extended attributes of users, to keep with it where the store can.
    #[prost(message, repeated, tag = "12")]
    pub xattrs: Vec<Xattr>,
}

/// How an upload ended.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PersistDone {
    /// Who.
    #[prost(uint64, tag = "1")]
    pub worker_id: u64,
    /// Which intent.
    #[prost(uint64, tag = "2")]
    pub intent: u64,
    /// Which file.
    #[prost(uint64, tag = "3")]
    pub inode: u64,
    /// Which version.
    #[prost(uint64, tag = "4")]
    pub version: u64,
    /// Where to.
    #[prost(uint64, tag = "5")]
    pub mount_id: u64,
    /// Where it is now.
    #[prost(bytes = "bytes", tag = "6")]
    pub path: bytes::Bytes,
    /// Of what was written, on success.
    #[prost(string, tag = "7")]
    pub fingerprint: String,
    /// Why not, on failure.
    #[prost(message, optional, tag = "8")]
    pub error: Option<crate::error::WireError>,
}

/// An open version whose session is gone.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RecoverTask {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
    /// The open version.
    #[prost(uint64, tag = "2")]
    pub version: u64,
    /// What MarkDurable promised.
    #[prost(uint64, tag = "3")]
    pub keep_bytes: u64,
    /// The file is new and nothing was promised but that it stays if it was closed while it was empty: the home drops what
    /// it has, and says whether it was.
    #[prost(bool, tag = "4")]
    pub never_committed: bool,
    /// Boot of the home's operating system in which it was opened, as in [`RegisterWorker::boot`].
    #[prost(fixed64, tag = "5")]
    pub boot: u64,
    /// The master knows that it is still mapped for writing: it need not be told again before something changes.
    #[prost(bool, tag = "6")]
    pub mapped: bool,
}

/// What became of it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Recovered {
    /// Who.
    #[prost(uint64, tag = "1")]
    pub worker_id: u64,
    /// Which.
    #[prost(uint64, tag = "2")]
    pub inode: u64,
    /// Which.
    #[prost(uint64, tag = "3")]
    pub version: u64,
    /// The worker has it, sealed.
    #[prost(bool, tag = "4")]
    pub found: bool,
    /// In bytes.
    #[prost(uint64, tag = "5")]
    pub length: u64,
    /// Last change of data.
    #[prost(int64, tag = "6")]
    pub mtime_ns: i64,
    /// If not found: the version that the home has instead, sealed; 0 if none.
    #[prost(uint64, tag = "7")]
    pub kept_version: u64,
    /// Of a file that was never committed: it was closed while it was empty, or may have been, if the operating system crashed since.
    #[prost(bool, tag = "8")]
    pub closed_empty: bool,
    /// If found: it is still mapped for writing, and stays open at its home as version + 1.
    #[prost(bool, tag = "9")]
    pub mapped: bool,
    /// If found: the version that the worker has it as, should that be a later one; 0: as the open version.
    #[prost(uint64, tag = "10")]
    pub as_version: u64,
}

/// The home of an open version needs the room that it takes: it has sealed it, so that it becomes the committed one and is uploaded
/// while its writers go on with version + 1. What the under-storage has then need not stay at the home.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Spill {
    /// Who.
    #[prost(uint64, tag = "1")]
    pub worker_id: u64,
    /// Which.
    #[prost(uint64, tag = "2")]
    pub inode: u64,
    /// The open version that was sealed, or is to be.
    #[prost(uint64, tag = "3")]
    pub version: u64,
    /// Nothing is sealed yet: whether it would be uploaded.
    #[prost(bool, tag = "4")]
    pub ask_only: bool,
    /// In bytes.
    #[prost(uint64, tag = "5")]
    pub length: u64,
    /// Last change of the data.
    #[prost(int64, tag = "6")]
    pub mtime_ns: i64,
    /// As in [`super::Commit`].
    #[prost(int64, tag = "7")]
    pub ctime_ns: i64,
    /// As in [`super::Commit`].
    #[prost(uint64, tag = "8")]
    pub hole_bytes: u64,
    /// That it is that worker who says so.
    #[prost(message, optional, tag = "9")]
    pub proof: Option<MemberProof>,
}
