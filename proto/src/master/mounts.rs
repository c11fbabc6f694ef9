//! Mounts of under-storages.

use crate::types::*;

/// Capacity.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StatFs {
    /// Anywhere in the file system of interest.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
}

/// Capacity.
#[derive(Clone, PartialEq, prost::Message)]
pub struct FsStat {
    /// In all.
    #[prost(uint64, tag = "1")]
    pub total_bytes: u64,
    /// Free.
    #[prost(uint64, tag = "2")]
    pub free_bytes: u64,
    /// Inodes known.
    #[prost(uint64, tag = "3")]
    pub files: u64,
    /// Of what is free, what programs may take; absent from masters that did not tell the two apart.
    #[prost(uint64, optional, tag = "4")]
    pub available_bytes: Option<u64>,
}

/// Mounts an under-storage at a path.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Mount {
    /// Absolute path that does not exist or is an empty directory.
    #[prost(bytes = "bytes", tag = "1")]
    pub path: bytes::Bytes,
    /// file:///, s3://bucket/prefix, or a local path.
    #[prost(string, tag = "2")]
    pub uri: String,
    /// Refuse changes.
    #[prost(bool, tag = "3")]
    pub read_only: bool,
    /// Every user may use it.
    #[prost(bool, tag = "4")]
    pub shared: bool,
    /// Credentials and settings.
    #[prost(message, repeated, tag = "5")]
    pub options: Vec<Property>,
    /// Gives the options to the mount that is at the path; those of other keys stay. `uri` may be empty.
    #[prost(bool, tag = "6")]
    pub update: bool,
}

/// Takes a mount off the tree; the under-storage stays as it is.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Unmount {
    /// Its mount point.
    #[prost(bytes = "bytes", tag = "1")]
    pub path: bytes::Bytes,
}

/// One mount.
#[derive(Clone, PartialEq, prost::Message)]
pub struct MountInfo {
    /// [`crate::MountId`].
    #[prost(uint64, tag = "1")]
    pub mount_id: u64,
    /// Mount point.
    #[prost(bytes = "bytes", tag = "2")]
    pub path: bytes::Bytes,
    /// Under-storage.
    #[prost(string, tag = "3")]
    pub uri: String,
    /// Refuses changes.
    #[prost(bool, tag = "4")]
    pub read_only: bool,
    /// Every user may use it.
    #[prost(bool, tag = "5")]
    pub shared: bool,
    /// Settings; credentials are masked.
    #[prost(message, repeated, tag = "6")]
    pub options: Vec<Property>,
    /// posix, object, memory.
    #[prost(string, tag = "7")]
    pub ufs_type: String,
    /// 0: unknown.
    #[prost(uint64, tag = "8")]
    pub ufs_capacity_bytes: u64,
    /// 0: unknown.
    #[prost(uint64, tag = "9")]
    pub ufs_used_bytes: u64,
    /// For a worker that proved itself: the masked options in clear, sealed by the cluster's secret for this one answer. Empty: none.
    #[prost(bytes = "bytes", tag = "20")]
    pub sealed: bytes::Bytes,
    /// Its credentials were forgotten: it is not used before they are given again.
    #[prost(bool, tag = "21")]
    pub wants_credentials: bool,
    /// Its store does not answer; absent: it does, or was not asked for anything since the master started.
    #[prost(message, optional, tag = "22")]
    pub away: Option<super::StoreAway>,
    /// Of its last answer to this master, milliseconds since 1970; 0: none yet.
    #[prost(uint64, tag = "23")]
    pub answered_ms: u64,
}

/// Several properties; what [`MountInfo::sealed`] holds.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Properties {
    /// In any order.
    #[prost(message, repeated, tag = "1")]
    pub list: Vec<Property>,
}

/// The mount table.
#[derive(Clone, PartialEq, prost::Message)]
pub struct GetMounts {
    /// The id of a worker, which `proof` is for: credentials come along, sealed. 0: masked.
    #[prost(uint64, tag = "1")]
    pub for_worker: u64,
    /// That it has the cluster's secret.
    #[prost(message, optional, tag = "20")]
    pub proof: Option<super::MemberProof>,
}

/// The mount table.
#[derive(Clone, PartialEq, prost::Message)]
pub struct MountTable {
    /// By mount id.
    #[prost(message, repeated, tag = "1")]
    pub mounts: Vec<MountInfo>,
}
