//! Work outside the state: intents, and what workers hold.

use alluxio_proto::error::WireError;
use alluxio_proto::master::CachedFile;
use alluxio_proto::types::WorkerAddress;

use super::ufs::UfsEntry;
use crate::state::records::Copied;

/// An intent is about to be executed. Fixes the path of a late-bound one (persist, mkdir, symlink, setattr), and is `Busy`
/// while an earlier intent touches the same path, an ancestor or a descendant. The answer carries the intent with its path.
/// Repeating it is fine. An intent that lost its reason is dropped: the answer then carries none.
#[derive(Clone, PartialEq, prost::Message)]
pub struct IntentStarted {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub intent: u64,
    /// For a persist: fingerprint of a foreign object at the path that is to be replaced on purpose.
    #[prost(string, optional, tag = "2")]
    pub replace_foreign: Option<String>,
    /// Strays in its way hold it up only where it depends on them (`state/apply/strays.rs`). Commands of before: everything did.
    #[prost(bool, tag = "20")]
    pub passes: bool,
    /// The renames of this store can leave single objects where they are.
    #[prost(bool, tag = "21")]
    pub keeps: bool,
}

/// Objects that the store refuses to move or to delete while the rest of a rename or removal is made: each becomes a change of its own,
/// refused, in the place of the whole in the order. The whole stays pending: [`IntentDone`] follows.
#[derive(Clone, PartialEq, prost::Message)]
pub struct IntentLeft {
    /// The rename or removal.
    #[prost(uint64, tag = "1")]
    pub intent: u64,
    /// What is left, some at a time.
    #[prost(message, repeated, tag = "2")]
    pub left: Vec<LeftObject>,
    /// When they are tried again.
    #[prost(int64, tag = "3")]
    pub retry_at_ns: i64,
    /// Mode of files that become known by this.
    #[prost(uint32, tag = "4")]
    pub file_mode: u32,
    /// Mode of directories that do.
    #[prost(uint32, tag = "5")]
    pub dir_mode: u32,
}

/// One of them.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LeftObject {
    /// As the store shows it; its name is the path from that of the intent, empty for that itself.
    #[prost(message, optional, tag = "1")]
    pub entry: Option<UfsEntry>,
    /// It was copied, and is only to be deleted.
    #[prost(bool, tag = "2")]
    pub copied: bool,
    /// Why it is left.
    #[prost(message, optional, tag = "3")]
    pub error: Option<WireError>,
}

/// An intent was executed.
#[derive(Clone, PartialEq, prost::Message)]
pub struct IntentDone {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub intent: u64,
    /// Of what is at the target now (persist, symlink, rename of a file); empty: unknown or none.
    #[prost(string, tag = "2")]
    pub fingerprint: String,
    /// Nothing was there to be done (source of a rename absent, object to delete not ours).
    #[prost(bool, tag = "3")]
    pub skipped: bool,
    /// THROUGH: workers have dropped the data. Informational.
    #[prost(bool, tag = "4")]
    pub dropped: bool,
    /// Rename to another mount: of the object that was copied and is to be deleted now; empty: what the intent expected.
    #[prost(string, tag = "5")]
    pub source_fingerprint: String,
    /// Rename: somebody had put another object there, which went along: what is at the target now.
    #[prost(message, optional, tag = "6")]
    pub taken_along: Option<UfsEntry>,
    /// Said of a copy to another mount. If the intent is none any more, because another report of it came first and it lives on as a
    /// delete, nothing happens.
    #[prost(bool, tag = "12")]
    pub of_copy: bool,
}

/// A rename that is not one step has made its copy, or some of its copies: what it copied is deleted next.
#[derive(Clone, PartialEq, prost::Message)]
pub struct IntentCopied {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub intent: u64,
    /// Rename of a file: what was copied, and what the copy is.
    #[prost(message, optional, tag = "2")]
    pub copied: Option<Copied>,
    /// Rename of a folder: some of the copies that have other fingerprints than what they are of. Then `copied` is absent.
    #[prost(message, repeated, tag = "3")]
    pub objects: Vec<CopiedObject>,
}

/// One of them.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CopiedObject {
    /// Path from that of the intent.
    #[prost(bytes = "bytes", tag = "1")]
    pub name: bytes::Bytes,
    /// Fingerprint of what was copied.
    #[prost(string, tag = "2")]
    pub from: String,
    /// Fingerprint of the copy.
    #[prost(string, tag = "3")]
    pub to: String,
}

/// An attempt at an intent failed.
#[derive(Clone, PartialEq, prost::Message)]
pub struct IntentFailed {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub intent: u64,
    /// Why.
    #[prost(message, optional, tag = "2")]
    pub error: Option<WireError>,
    /// Not again before.
    #[prost(int64, tag = "3")]
    pub retry_at_ns: i64,
    /// For a persist: no worker has the data any more. The intent is dropped, the file is `Lost`.
    #[prost(bool, tag = "4")]
    pub data_lost: bool,
    /// For a persist: the version to upload is no longer the committed one. Dropped if a newer commit has an intent.
    #[prost(bool, tag = "5")]
    pub superseded: bool,
    /// The under-storage will not do it, however often it is asked. An upload waits, without holding up others; deletes and
    /// attributes are given up, and remembered as [`super::super::GivenUp`]; a rename waits in its place.
    #[prost(bool, tag = "40")]
    pub refused: bool,
    /// The under-storage said that it will not do it, which may pass: [`super::super::Intent::refusals`] counts it.
    #[prost(bool, tag = "41")]
    pub refusal: bool,
    /// A refused removal is kept, so that what could not be removed does not come back as a name; commands of before gave it up.
    #[prost(bool, tag = "60")]
    pub keep: bool,
    /// Rename of one object: see [`super::super::Intent::stays`].
    #[prost(bool, tag = "61")]
    pub stays: bool,
}

/// A superuser gives up a change that its under-storage refuses, or no longer wants to be told of one that was given up.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ForgetIntent {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub intent: u64,
}

/// Schedules the persist of a file that was not going to be persisted (MUST_CACHE).
#[derive(Clone, PartialEq, prost::Message)]
pub struct SchedulePersist {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
}

/// A worker comes up.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RegisterWorker {
    /// Known id; 0: the next.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// Where it serves.
    #[prost(message, optional, tag = "2")]
    pub address: Option<WorkerAddress>,
    /// Software version.
    #[prost(string, tag = "3")]
    pub version: String,
}

/// What a worker holds of files, as far as it changed.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ReportCached {
    /// Who.
    #[prost(uint64, tag = "1")]
    pub worker_id: u64,
    /// Unknown inodes and versions come back in [`super::super::Applied::freed`].
    #[prost(message, repeated, tag = "2")]
    pub files: Vec<CachedFile>,
}
