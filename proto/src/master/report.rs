//! What `fsadmin report` shows.

use crate::types::*;

/// State of the cluster.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct GetReport {}

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
}
