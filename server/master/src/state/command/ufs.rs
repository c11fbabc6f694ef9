//! What under-storages were seen to hold, and where they are mounted.

use super::MountSpec;
use alluxio_proto::types::{FileKind, Xattr};
use bytes::Bytes;

/// One name as an under-storage shows it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct UfsEntry {
    /// One component.
    #[prost(bytes = "bytes", tag = "1")]
    pub name: Bytes,
    /// What it is.
    #[prost(enumeration = "FileKind", tag = "2")]
    pub kind: i32,
    /// In bytes.
    #[prost(uint64, tag = "3")]
    pub length: u64,
    /// Last change of data; 0: unknown.
    #[prost(int64, tag = "4")]
    pub mtime_ns: i64,
    /// Empty for directories.
    #[prost(string, tag = "5")]
    pub fingerprint: String,
    /// Permission bits, where the store has them.
    #[prost(uint32, optional, tag = "6")]
    pub mode: Option<u32>,
    /// Owner, where the store has it.
    #[prost(string, optional, tag = "7")]
    pub owner: Option<String>,
    /// Group, where the store has it.
    #[prost(string, optional, tag = "8")]
    pub group: Option<String>,
    /// Target of a symlink.
    #[prost(bytes = "bytes", tag = "9")]
    pub symlink_target: Bytes,
    /// Block size of files in bytes; the service fills in the default.
    #[prost(uint64, tag = "10")]
    pub block_bytes: u64,
    /// Last access, where the store has it.
    #[prost(int64, optional, tag = "11")]
    pub atime_ns: Option<i64>,
    /// Extended attributes of users, where the store has them.
    #[prost(message, repeated, tag = "12")]
    pub xattrs: Vec<Xattr>,
    /// It has to be restored before it can be read or copied, unless it has been. Commands of before did not say so.
    #[prost(bool, tag = "13")]
    pub is_archived: bool,
}

/// One page of names of a directory, as the under-storage listed them. Names that exist, and names about which an intent is
/// pending, are left as they are.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LoadEntries {
    /// Directory.
    #[prost(uint64, tag = "1")]
    pub dir: u64,
    /// [`super::super::State::generation`] read *before* this page was asked for. If it has changed the page is refused as `Stale`:
    /// ask for the same page again.
    #[prost(uint64, tag = "2")]
    pub generation: u64,
    /// The page.
    #[prost(message, repeated, tag = "3")]
    pub entries: Vec<UfsEntry>,
    /// Id of the first new inode, the rest follow; 0: the next ones.
    #[prost(uint64, tag = "4")]
    pub first_inode: u64,
    /// Nothing follows: the directory is loaded now.
    #[prost(bool, tag = "5")]
    pub complete: bool,
    /// Mode of entries where the store has none: files.
    #[prost(uint32, tag = "6")]
    pub file_mode: u32,
    /// Mode of entries where the store has none: directories.
    #[prost(uint32, tag = "7")]
    pub dir_mode: u32,
    /// Owner where the store has none.
    #[prost(string, tag = "8")]
    pub owner: String,
    /// Group where the store has none.
    #[prost(string, tag = "9")]
    pub group: String,
}

/// A name whose object is another one now.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SyncChange {
    /// As it is now.
    #[prost(message, optional, tag = "1")]
    pub entry: Option<UfsEntry>,
    /// Fingerprint that the state had when the difference was computed; if it has another now, nothing happens.
    #[prost(string, tag = "2")]
    pub expected_fingerprint: String,
}

/// A name that a complete listing lacks.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SyncRemoval {
    /// One component.
    #[prost(bytes = "bytes", tag = "1")]
    pub name: Bytes,
    /// Fingerprint that the state had when the difference was computed (empty for directories).
    #[prost(string, tag = "2")]
    pub expected_fingerprint: String,
    /// Sessions that have the inode open for reading.
    #[prost(uint64, repeated, tag = "3")]
    pub keep_for: Vec<u64>,
    /// The inode that was compared and that `keep_for` is about; another one stays. Absent in commands of before.
    #[prost(uint64, optional, tag = "4")]
    pub expected: Option<u64>,
}

/// What a look at the under-storage showed to be different. Refused per entry (named in [`super::super::Applied::refused`]) when the
/// inode is not persisted, is open for writing, or an intent is pending about it. New names come by [`LoadEntries`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct ApplySync {
    /// Directory.
    #[prost(uint64, tag = "1")]
    pub dir: u64,
    /// As in [`LoadEntries`].
    #[prost(uint64, tag = "2")]
    pub generation: u64,
    /// Other objects.
    #[prost(message, repeated, tag = "3")]
    pub changed: Vec<SyncChange>,
    /// Gone. Only from a complete listing.
    #[prost(message, repeated, tag = "4")]
    pub removed: Vec<SyncRemoval>,
}

/// One file's object was seen to be another one, or gone. Does nothing if the inode has moved on.
#[derive(Clone, PartialEq, prost::Message)]
pub struct UfsChanged {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
    /// The version that did not match.
    #[prost(uint64, tag = "2")]
    pub version: u64,
    /// What is there now; absent: the store said that it is gone.
    #[prost(message, optional, tag = "3")]
    pub status: Option<UfsEntry>,
    /// [`super::super::State::generation`] of the parent, read before the store was asked.
    #[prost(uint64, tag = "4")]
    pub generation: u64,
    /// Sessions that have the inode open for reading.
    #[prost(uint64, repeated, tag = "5")]
    pub keep_for: Vec<u64>,
}

/// Mounts an under-storage at a name that does not exist or is an empty directory.
#[derive(Clone, PartialEq, prost::Message)]
pub struct MountUfs {
    /// Directory.
    #[prost(uint64, tag = "1")]
    pub parent: u64,
    /// One component.
    #[prost(bytes = "bytes", tag = "2")]
    pub name: Bytes,
    /// Inode of the mount point, if it does not exist; 0: the next.
    #[prost(uint64, tag = "3")]
    pub inode: u64,
    /// What to mount.
    #[prost(message, optional, tag = "4")]
    pub spec: Option<MountSpec>,
    /// Mode of a new mount point.
    #[prost(uint32, tag = "5")]
    pub mode: u32,
}

/// Takes a mount off the tree. `Busy` while an intent is pending or a file is open for writing on it, or a mount lies beneath.
#[derive(Clone, PartialEq, prost::Message)]
pub struct UnmountUfs {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub mount_id: u64,
}
