//! What `fsadmin report` shows.

use crate::types::*;
use bytes::Bytes;

/// State of the cluster.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct GetReport {
    /// Of [`Report::stuck`], those whose ids are above it; 0: from the first. Masters of before do not know it.
    #[prost(uint64, tag = "1")]
    pub stuck_after: u64,
    /// So many of them at most; 0: as many as a person reads.
    #[prost(uint32, tag = "2")]
    pub stuck_max: u32,
}

/// Space of one tier of one worker.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ReportTier {
    /// MEM, SSD, HDD.
    #[prost(string, tag = "1")]
    pub alias: String,
    /// Folder.
    #[prost(string, tag = "2")]
    pub path: String,
    /// Quota.
    #[prost(uint64, tag = "3")]
    pub capacity_bytes: u64,
    /// In use.
    #[prost(uint64, tag = "4")]
    pub used_bytes: u64,
}

/// One worker.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ReportWorker {
    /// Where.
    #[prost(message, optional, tag = "1")]
    pub address: Option<WorkerAddress>,
    /// Heard of lately.
    #[prost(bool, tag = "2")]
    pub live: bool,
    /// Milliseconds ago.
    #[prost(uint64, tag = "3")]
    pub last_contact_ms: u64,
    /// Sum of tiers.
    #[prost(uint64, tag = "4")]
    pub capacity_bytes: u64,
    /// Sum of tiers.
    #[prost(uint64, tag = "5")]
    pub used_bytes: u64,
    /// Started, milliseconds since 1970.
    #[prost(uint64, tag = "6")]
    pub start_ms: u64,
    /// Software version.
    #[prost(string, tag = "7")]
    pub version: String,
    /// By rank.
    #[prost(message, repeated, tag = "8")]
    pub tiers: Vec<ReportTier>,
    /// Bytes on its disk that are not what they were and have no other copy; the first of them if there are many.
    #[prost(message, repeated, tag = "9")]
    pub damaged: Vec<DamagedRange>,
}

/// Bytes of a file whose checksum does not match, and that are nowhere else.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DamagedRange {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
    /// [`crate::DataVersion`].
    #[prost(uint64, tag = "2")]
    pub version: u64,
    /// In bytes.
    #[prost(uint64, tag = "3")]
    pub offset: u64,
    /// In bytes.
    #[prost(uint64, tag = "4")]
    pub length: u64,
    /// Where the file is in the namespace; in reports only, empty if it has no name any more.
    #[prost(bytes = "bytes", tag = "5")]
    pub path: Bytes,
}

/// State of the cluster.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Report {
    /// Identity.
    #[prost(string, tag = "1")]
    pub cluster_id: String,
    /// host:port of RPC.
    #[prost(string, tag = "2")]
    pub master_address: String,
    /// Port of web and metrics.
    #[prost(uint32, tag = "3")]
    pub web_port: u32,
    /// Started, milliseconds since 1970.
    #[prost(uint64, tag = "4")]
    pub start_ms: u64,
    /// Software version.
    #[prost(string, tag = "5")]
    pub version: String,
    /// Waiting for workers.
    #[prost(bool, tag = "6")]
    pub safe_mode: bool,
    /// Inodes known.
    #[prost(uint64, tag = "7")]
    pub inodes: u64,
    /// Intents that are not done.
    #[prost(uint64, tag = "8")]
    pub persist_pending: u64,
    /// Open sessions.
    #[prost(uint64, tag = "9")]
    pub sessions: u64,
    /// All known.
    #[prost(message, repeated, tag = "10")]
    pub workers: Vec<ReportWorker>,
    /// Last applied entry.
    #[prost(uint64, tag = "11")]
    pub journal_index: u64,
    /// Last snapshot.
    #[prost(uint64, tag = "12")]
    pub journal_snapshot_index: u64,
    /// Changes of under-storages that wait for a person or are tried again and again, by their ids: some of them.
    #[prost(message, repeated, tag = "20")]
    pub stuck: Vec<StuckChange>,
    /// How many of `stuck` there are in all, from there on.
    #[prost(uint64, tag = "21")]
    pub stuck_count: u64,
    /// Stores that do not answer.
    #[prost(message, repeated, tag = "22")]
    pub away: Vec<StoreAway>,
    /// Copies between mounts that wait for a worker, as none is there, or the one that has them says nothing any more.
    #[prost(uint64, tag = "28")]
    pub copies_waiting: u64,
}

/// A store that does not answer, as the calls say that were made on it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StoreAway {
    /// Mount point.
    #[prost(bytes = "bytes", tag = "1")]
    pub path: Bytes,
    /// Under-storage.
    #[prost(string, tag = "2")]
    pub uri: String,
    /// Since when every call failed, milliseconds since 1970.
    #[prost(uint64, tag = "3")]
    pub since_ms: u64,
    /// What the last one said.
    #[prost(string, tag = "4")]
    pub error: String,
}

/// A change of an under-storage that does not get done.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StuckChange {
    /// upload, delete, delete tree, rename, ...
    #[prost(string, tag = "1")]
    pub what: String,
    /// Where, with the under-storage; of a rename also where to.
    #[prost(string, tag = "2")]
    pub path: String,
    /// What was said last.
    #[prost(string, tag = "3")]
    pub error: String,
    /// How often it was tried.
    #[prost(uint32, tag = "4")]
    pub attempts: u32,
    /// Refused for good: not tried again before somebody asks. Otherwise it is.
    #[prost(bool, tag = "5")]
    pub refused: bool,
    /// Given up: what was to be removed is still there.
    #[prost(bool, tag = "6")]
    pub given_up: bool,
    /// Since when, milliseconds since 1970.
    #[prost(uint64, tag = "7")]
    pub since_ms: u64,
    /// [`crate::IntentId`], by which a person decides on it ([`SettleIntents`]).
    #[prost(uint64, tag = "8")]
    pub intent: u64,
    /// What it is about in the namespace: the path that a file has, or the one that could not be removed. Empty from masters of before.
    #[prost(bytes = "bytes", tag = "9")]
    pub name: bytes::Bytes,
}

/// A superuser's decision on changes that an under-storage refuses: they are tried again now, or given up.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SettleIntents {
    /// [`StuckChange::intent`].
    #[prost(uint64, repeated, tag = "1")]
    pub intents: Vec<u64>,
    /// All that are stuck, whatever `intents` says.
    #[prost(bool, tag = "2")]
    pub all: bool,
    /// Give up: an upload stays in the cache; what was to be deleted stays in the store, and is found there again; a file that could not
    /// be moved has its old name again. Other changes of names cannot be given up.
    #[prost(bool, tag = "3")]
    pub forget: bool,
}
