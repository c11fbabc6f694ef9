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
}

/// A rename that is not one step has made its copy: what it copied is deleted next.
#[derive(Clone, PartialEq, prost::Message)]
pub struct IntentCopied {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub intent: u64,
    /// What was copied, and what the copy is.
    #[prost(message, optional, tag = "2")]
    pub copied: Option<Copied>,
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
