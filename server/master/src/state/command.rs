//! Commands: what the journal carries and [`super::State`] applies.
//!
//! A command holds everything that its effect depends on, beside the state itself: the time, the caller, what an
//! under-storage was seen to hold. Ids may be left 0: then `apply` takes the next one, which is the same on every
//! master because the order of commands is. An id that is given must be above every id used before.
//!
//! **Invariant:** journaled bytes are for ever. Tags are never reused, the meaning of a field never changes.

use alluxio_proto::error::WireError;
use alluxio_proto::master::{Accessed, CachedFile};
use alluxio_proto::types::{Acl, Caller, FileKind, Property, WorkerAddress, WriteType};
use bytes::Bytes;

/// Makes an empty state a namespace: root directory and root mount. Once.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Format {
    /// Identity of the cluster.
    #[prost(string, tag = "1")]
    pub cluster_id: String,
    /// Owner of `/`.
    #[prost(string, tag = "2")]
    pub owner: String,
    /// Group of `/`.
    #[prost(string, tag = "3")]
    pub group: String,
    /// Permission bits of `/`.
    #[prost(uint32, tag = "4")]
    pub mode: u32,
    /// What is mounted at `/`.
    #[prost(message, optional, tag = "5")]
    pub root: Option<MountSpec>,
}

/// What a mount is made of.
#[derive(Clone, PartialEq, prost::Message)]
pub struct MountSpec {
    /// Under-storage.
    #[prost(string, tag = "1")]
    pub uri: String,
    /// Refuse changes.
    #[prost(bool, tag = "2")]
    pub read_only: bool,
    /// Every user may use it.
    #[prost(bool, tag = "3")]
    pub shared: bool,
    /// Credentials and settings.
    #[prost(message, repeated, tag = "4")]
    pub options: Vec<Property>,
    /// posix, object, memory.
    #[prost(string, tag = "5")]
    pub ufs_type: String,
    /// The store holds symbolic links; without, they live in the namespace only.
    #[prost(bool, tag = "6")]
    pub stores_symlinks: bool,
    /// The store holds mode, owner and times, so changes of them are worth a call.
    #[prost(bool, tag = "7")]
    pub stores_attributes: bool,
}

/// Opens a session. Renewing one is volatile and not journaled.
#[derive(Clone, PartialEq, prost::Message)]
pub struct OpenSession {
    /// 0: the next.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// Program and mount point, for people.
    #[prost(string, tag = "2")]
    pub client: String,
    /// Host of the client.
    #[prost(string, tag = "3")]
    pub host: String,
}

/// Ends a session: releases its orphans, drops its openings. Open versions that lose their last writer are removed (never
/// committed, nothing promised) or listed in [`super::Applied::recover`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct EndSession {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub id: u64,
}

/// A session is about to use locks: after a restart, others get none before it has named its own or has ended.
#[derive(Clone, PartialEq, prost::Message)]
pub struct UseLocks {
    /// Which session.
    #[prost(uint64, tag = "1")]
    pub id: u64,
}

/// Creates a regular file.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CreateFile {
    /// Directory.
    #[prost(uint64, tag = "1")]
    pub parent: u64,
    /// One component.
    #[prost(bytes = "bytes", tag = "2")]
    pub name: Bytes,
    /// 0: the next.
    #[prost(uint64, tag = "3")]
    pub inode: u64,
    /// Permission bits.
    #[prost(uint32, tag = "4")]
    pub mode: u32,
    /// Open it for writing in the command's session.
    #[prost(bool, tag = "5")]
    pub open: bool,
    /// When its data reaches the under-storage.
    #[prost(enumeration = "WriteType", tag = "6")]
    pub write_type: i32,
    /// Block size in bytes; the service fills in the default.
    #[prost(uint64, tag = "7")]
    pub block_bytes: u64,
    /// With `open`: the worker with the local file.
    #[prost(uint64, tag = "8")]
    pub home_worker: u64,
    /// Bits to be taken from `mode` where the directory has no default ACL.
    #[prost(uint32, tag = "9")]
    pub umask: u32,
}

/// Creates a directory.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Mkdir {
    /// Directory.
    #[prost(uint64, tag = "1")]
    pub parent: u64,
    /// One component.
    #[prost(bytes = "bytes", tag = "2")]
    pub name: Bytes,
    /// 0: the next.
    #[prost(uint64, tag = "3")]
    pub inode: u64,
    /// Permission bits.
    #[prost(uint32, tag = "4")]
    pub mode: u32,
    /// When it reaches the under-storage.
    #[prost(enumeration = "WriteType", tag = "5")]
    pub write_type: i32,
    /// Bits to be taken from `mode` where the directory has no default ACL.
    #[prost(uint32, tag = "6")]
    pub umask: u32,
}

/// Creates a symbolic link.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Symlink {
    /// Directory.
    #[prost(uint64, tag = "1")]
    pub parent: u64,
    /// One component.
    #[prost(bytes = "bytes", tag = "2")]
    pub name: Bytes,
    /// 0: the next.
    #[prost(uint64, tag = "3")]
    pub inode: u64,
    /// What it points at.
    #[prost(bytes = "bytes", tag = "4")]
    pub target: Bytes,
}

/// Creates a special file; it lives in the namespace only.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Mknod {
    /// Directory.
    #[prost(uint64, tag = "1")]
    pub parent: u64,
    /// One component.
    #[prost(bytes = "bytes", tag = "2")]
    pub name: Bytes,
    /// 0: the next.
    #[prost(uint64, tag = "3")]
    pub inode: u64,
    /// Not a file, directory or symlink.
    #[prost(enumeration = "FileKind", tag = "4")]
    pub kind: i32,
    /// Permission bits.
    #[prost(uint32, tag = "5")]
    pub mode: u32,
    /// Device number.
    #[prost(uint64, tag = "6")]
    pub rdev: u64,
    /// Bits to be taken from `mode` where the directory has no default ACL.
    #[prost(uint32, tag = "7")]
    pub umask: u32,
}

/// Creates a regular file without a name, open for writing in the command's session, which holds it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Tmpfile {
    /// Directory that decides on mount, group and default ACL.
    #[prost(uint64, tag = "1")]
    pub parent: u64,
    /// 0: the next.
    #[prost(uint64, tag = "2")]
    pub inode: u64,
    /// Permission bits.
    #[prost(uint32, tag = "3")]
    pub mode: u32,
    /// Bits to be taken from `mode` where the directory has no default ACL.
    #[prost(uint32, tag = "4")]
    pub umask: u32,
    /// When its data reaches the under-storage, once it has a name.
    #[prost(enumeration = "WriteType", tag = "5")]
    pub write_type: i32,
    /// Block size in bytes; the service fills in the default.
    #[prost(uint64, tag = "6")]
    pub block_bytes: u64,
    /// The worker with the local file.
    #[prost(uint64, tag = "7")]
    pub home_worker: u64,
    /// It is never to have a name.
    #[prost(bool, tag = "8")]
    pub never_linked: bool,
}

/// Gives an inode that is no directory one more name.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Link {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
    /// Directory.
    #[prost(uint64, tag = "2")]
    pub parent: u64,
    /// One component.
    #[prost(bytes = "bytes", tag = "3")]
    pub name: Bytes,
}

/// Removes a name that is no directory.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Unlink {
    /// Directory.
    #[prost(uint64, tag = "1")]
    pub parent: u64,
    /// One component.
    #[prost(bytes = "bytes", tag = "2")]
    pub name: Bytes,
    /// Sessions that have the inode open for reading: it stays, without a name, until they release it. Sessions that have it
    /// open for writing need not be named.
    #[prost(uint64, repeated, tag = "3")]
    pub keep_for: Vec<u64>,
}

/// Removes an empty directory, whose names must be loaded.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Rmdir {
    /// Directory.
    #[prost(uint64, tag = "1")]
    pub parent: u64,
    /// One component.
    #[prost(bytes = "bytes", tag = "2")]
    pub name: Bytes,
}

/// Renames, replacing an existing target as rename(2) does.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Rename {
    /// Old directory.
    #[prost(uint64, tag = "1")]
    pub parent: u64,
    /// Old name.
    #[prost(bytes = "bytes", tag = "2")]
    pub name: Bytes,
    /// New directory.
    #[prost(uint64, tag = "3")]
    pub new_parent: u64,
    /// New name.
    #[prost(bytes = "bytes", tag = "4")]
    pub new_name: Bytes,
    /// [`RENAME_NOREPLACE`], [`RENAME_EXCHANGE`].
    #[prost(uint32, tag = "5")]
    pub flags: u32,
    /// Sessions that have the replaced inode open for reading.
    #[prost(uint64, repeated, tag = "6")]
    pub keep_for: Vec<u64>,
}

/// Fail if the target exists.
pub const RENAME_NOREPLACE: u32 = 1;
/// Swap source and target.
pub const RENAME_EXCHANGE: u32 = 2;

/// Takes a directory with all beneath it off the tree. Its inodes are reclaimed by [`ReclaimSlice`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct DeleteTree {
    /// Directory.
    #[prost(uint64, tag = "1")]
    pub parent: u64,
    /// One component.
    #[prost(bytes = "bytes", tag = "2")]
    pub name: Bytes,
    /// Leave the under-storage as it is.
    #[prost(bool, tag = "3")]
    pub alluxio_only: bool,
}

/// Sessions for which an inode stays, although its name goes.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Keep {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
    /// Who has it open for reading.
    #[prost(uint64, repeated, tag = "2")]
    pub sessions: Vec<u64>,
}

/// Reclaims up to `limit` inodes of detached trees.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ReclaimSlice {
    /// Inodes at most; bounded by [`RECLAIM_INODES_MAX`].
    #[prost(uint32, tag = "1")]
    pub limit: u32,
    /// What is open for reading.
    #[prost(message, repeated, tag = "2")]
    pub keep: Vec<Keep>,
}

/// Most inodes that one [`ReclaimSlice`] reclaims: it holds the apply lock for so long.
pub const RECLAIM_INODES_MAX: u32 = 10_000;

/// Changes attributes; what is absent stays.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SetAttr {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
    /// Permission bits.
    #[prost(uint32, optional, tag = "2")]
    pub mode: Option<u32>,
    /// Owner.
    #[prost(string, optional, tag = "3")]
    pub owner: Option<String>,
    /// Group.
    #[prost(string, optional, tag = "4")]
    pub group: Option<String>,
    /// Last access.
    #[prost(int64, optional, tag = "5")]
    pub atime_ns: Option<i64>,
    /// Last change of data.
    #[prost(int64, optional, tag = "6")]
    pub mtime_ns: Option<i64>,
    /// Never evict.
    #[prost(bool, optional, tag = "7")]
    pub pinned: Option<bool>,
    /// The times are "now": write permission is enough.
    #[prost(bool, tag = "8")]
    pub times_now: bool,
    /// Take setuid, setgid and `security.capability` away; write permission is enough.
    #[prost(bool, tag = "9")]
    pub kill_priv: bool,
}

/// Sets an extended attribute.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SetXattr {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
    /// With its namespace.
    #[prost(bytes = "bytes", tag = "2")]
    pub name: Bytes,
    /// Any bytes.
    #[prost(bytes = "bytes", tag = "3")]
    pub value: Bytes,
    /// `XATTR_CREATE`, `XATTR_REPLACE`.
    #[prost(uint32, tag = "4")]
    pub flags: u32,
}

/// Removes an extended attribute.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RemoveXattr {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
    /// With its namespace.
    #[prost(bytes = "bytes", tag = "2")]
    pub name: Bytes,
}

/// Sets or removes an access control list.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SetAcl {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
    /// The default list of a directory.
    #[prost(bool, tag = "2")]
    pub default: bool,
    /// Absent: remove it.
    #[prost(message, optional, tag = "3")]
    pub acl: Option<Acl>,
}

/// Files were read: their atime is taken over where relatime wants it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TouchAtimes {
    /// Which, and when.
    #[prost(message, repeated, tag = "1")]
    pub files: Vec<Accessed>,
}

/// Makes or joins the one open version of a file, in the command's session.
#[derive(Clone, PartialEq, prost::Message)]
pub struct OpenWrite {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
    /// Drop the old content.
    #[prost(bool, tag = "2")]
    pub truncate: bool,
    /// Home, if there is no open version yet.
    #[prost(uint64, tag = "3")]
    pub home_worker: u64,
    /// Write type, if there is no open version yet.
    #[prost(enumeration = "WriteType", tag = "4")]
    pub write_type: i32,
}

/// Makes the content that the home sealed the committed version, and by write type its persist intent.
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
    /// Stays open as version + 1. It does so anyway while another opening is left.
    #[prost(bool, tag = "5")]
    pub keep_open: bool,
}

/// The home has synced the open version: so much of it is kept after a crash.
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

/// Closes one opening for writing of the command's session. Without any left that is fine too.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CloseWrite {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
    /// Drop the uncommitted content; a file that has never been committed goes with its name.
    #[prost(bool, tag = "2")]
    pub abandon: bool,
}

/// The command's session has closed an unlinked inode for the last time.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ReleaseOrphan {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
}

/// What the home found of an open version whose writers are gone.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Recovered {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
    /// The open version.
    #[prost(uint64, tag = "2")]
    pub version: u64,
    /// The worker has it, sealed: commit it.
    #[prost(bool, tag = "3")]
    pub found: bool,
    /// In bytes.
    #[prost(uint64, tag = "4")]
    pub length: u64,
    /// Last change of data.
    #[prost(int64, tag = "5")]
    pub mtime_ns: i64,
    /// If not found: the version that the home has instead, sealed; 0 if none.
    #[prost(uint64, tag = "6")]
    pub kept_version: u64,
}

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
}

/// One page of names of a directory, as the under-storage listed them. Names that exist, and names about which an intent is
/// pending, are left as they are.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LoadEntries {
    /// Directory.
    #[prost(uint64, tag = "1")]
    pub dir: u64,
    /// [`super::State::generation`] read *before* this page was asked for. If it has changed the page is refused as `Stale`:
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
}

/// What a look at the under-storage showed to be different. Refused per entry (named in [`super::Applied::refused`]) when the
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
    /// [`super::State::generation`] of the parent, read before the store was asked.
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
    /// Unknown inodes and versions come back in [`super::Applied::freed`].
    #[prost(message, repeated, tag = "2")]
    pub files: Vec<CachedFile>,
}

/// What a command does.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Body {
    /// See [`Format`].
    #[prost(message, tag = "10")]
    Format(Format),
    /// See [`OpenSession`].
    #[prost(message, tag = "11")]
    OpenSession(OpenSession),
    /// See [`EndSession`].
    #[prost(message, tag = "12")]
    EndSession(EndSession),
    /// See [`CreateFile`].
    #[prost(message, tag = "13")]
    CreateFile(CreateFile),
    /// See [`Mkdir`].
    #[prost(message, tag = "14")]
    Mkdir(Mkdir),
    /// See [`Symlink`].
    #[prost(message, tag = "15")]
    Symlink(Symlink),
    /// See [`Mknod`].
    #[prost(message, tag = "16")]
    Mknod(Mknod),
    /// See [`Unlink`].
    #[prost(message, tag = "17")]
    Unlink(Unlink),
    /// See [`Rmdir`].
    #[prost(message, tag = "18")]
    Rmdir(Rmdir),
    /// See [`Rename`].
    #[prost(message, tag = "19")]
    Rename(Rename),
    /// See [`DeleteTree`].
    #[prost(message, tag = "20")]
    DeleteTree(DeleteTree),
    /// See [`ReclaimSlice`].
    #[prost(message, tag = "21")]
    ReclaimSlice(ReclaimSlice),
    /// See [`SetAttr`].
    #[prost(message, tag = "22")]
    SetAttr(SetAttr),
    /// See [`OpenWrite`].
    #[prost(message, tag = "23")]
    OpenWrite(OpenWrite),
    /// See [`Commit`].
    #[prost(message, tag = "24")]
    Commit(Commit),
    /// See [`MarkDurable`].
    #[prost(message, tag = "25")]
    MarkDurable(MarkDurable),
    /// See [`CloseWrite`].
    #[prost(message, tag = "26")]
    CloseWrite(CloseWrite),
    /// See [`ReleaseOrphan`].
    #[prost(message, tag = "27")]
    ReleaseOrphan(ReleaseOrphan),
    /// See [`Recovered`].
    #[prost(message, tag = "28")]
    Recovered(Recovered),
    /// See [`LoadEntries`].
    #[prost(message, tag = "29")]
    LoadEntries(LoadEntries),
    /// See [`ApplySync`].
    #[prost(message, tag = "30")]
    ApplySync(ApplySync),
    /// See [`UfsChanged`].
    #[prost(message, tag = "31")]
    UfsChanged(UfsChanged),
    /// See [`MountUfs`].
    #[prost(message, tag = "32")]
    MountUfs(MountUfs),
    /// See [`UnmountUfs`].
    #[prost(message, tag = "33")]
    UnmountUfs(UnmountUfs),
    /// See [`IntentStarted`].
    #[prost(message, tag = "34")]
    IntentStarted(IntentStarted),
    /// See [`IntentDone`].
    #[prost(message, tag = "35")]
    IntentDone(IntentDone),
    /// See [`IntentFailed`].
    #[prost(message, tag = "36")]
    IntentFailed(IntentFailed),
    /// See [`SchedulePersist`].
    #[prost(message, tag = "37")]
    SchedulePersist(SchedulePersist),
    /// See [`RegisterWorker`].
    #[prost(message, tag = "38")]
    RegisterWorker(RegisterWorker),
    /// See [`ReportCached`].
    #[prost(message, tag = "39")]
    ReportCached(ReportCached),
    /// See [`UseLocks`].
    #[prost(message, tag = "60")]
    UseLocks(UseLocks),
    /// See [`Tmpfile`].
    #[prost(message, tag = "70")]
    Tmpfile(Tmpfile),
    /// See [`Link`].
    #[prost(message, tag = "71")]
    Link(Link),
    /// See [`SetXattr`].
    #[prost(message, tag = "72")]
    SetXattr(SetXattr),
    /// See [`RemoveXattr`].
    #[prost(message, tag = "73")]
    RemoveXattr(RemoveXattr),
    /// See [`SetAcl`].
    #[prost(message, tag = "74")]
    SetAcl(SetAcl),
    /// See [`TouchAtimes`].
    #[prost(message, tag = "75")]
    TouchAtimes(TouchAtimes),
}

/// One entry of the journal.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Command {
    /// When it was proposed; becomes mtime and ctime of what it changes.
    #[prost(int64, tag = "1")]
    pub now_ns: i64,
    /// Session it was made in, or 0.
    #[prost(uint64, tag = "2")]
    pub session: u64,
    /// Unique within the session; 0: not to be de-duplicated.
    #[prost(uint64, tag = "3")]
    pub op_id: u64,
    /// Who asks.
    #[prost(message, optional, tag = "4")]
    pub caller: Option<Caller>,
    /// Permission bits do not bind the caller.
    #[prost(bool, tag = "5")]
    pub superuser: bool,
    /// What to do.
    #[prost(
        oneof = "Body",
        tags = "10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 60, 70, 71, 72, 73, 74, 75"
    )]
    pub body: Option<Body>,
}

impl Command {
    /// A command of the master itself: no session, no caller, not bound by permission.
    pub fn system(now_ns: i64, body: impl Into<Body>) -> Self {
        Command {
            now_ns,
            session: 0,
            op_id: 0,
            caller: None,
            superuser: true,
            body: Some(body.into()),
        }
    }
}

macro_rules! bodies {
    ($($name:ident)*) => {$(
        impl From<$name> for Body {
            fn from(message: $name) -> Self {
                Body::$name(message)
            }
        }
    )*};
}

bodies! {
    Format OpenSession EndSession CreateFile Mkdir Symlink Mknod Unlink Rmdir Rename DeleteTree ReclaimSlice SetAttr
    OpenWrite Commit MarkDurable CloseWrite ReleaseOrphan Recovered LoadEntries ApplySync UfsChanged MountUfs UnmountUfs
    IntentStarted IntentDone IntentFailed SchedulePersist RegisterWorker ReportCached UseLocks
    Tmpfile Link SetXattr RemoveXattr SetAcl TouchAtimes
}
