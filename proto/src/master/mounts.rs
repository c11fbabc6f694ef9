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
    /// Settings; credentials are masked unless a worker asks.
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
}

/// The mount table.
#[derive(Clone, PartialEq, prost::Message)]
pub struct GetMounts {
    /// A registered worker's id: credentials included. 0: masked.
    #[prost(uint64, tag = "1")]
    pub for_worker: u64,
}

/// The mount table.
#[derive(Clone, PartialEq, prost::Message)]
pub struct MountTable {
    /// By mount id.
    #[prost(message, repeated, tag = "1")]
    pub mounts: Vec<MountInfo>,
}
