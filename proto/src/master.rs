//! The inode protocol of the master: one request message, one reply message, one trait.
//!
//! Requests speak inodes (DESIGN D4); paths appear only where a person typed one. A change is acknowledged after its
//! journal entry is durable. Every request names its session and caller; a change also has an `op_id`, unique within
//! the session, so that a retry after a lost answer is answered again instead of done again.

use crate::error::FsResult;
use crate::types::*;

/// Nothing to say.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Empty {}

/// Opens a session, or takes one up again after a reconnect or a change of leader.
#[derive(Clone, PartialEq, prost::Message)]
pub struct OpenSession {
    /// Program and mount point, for people.
    #[prost(string, tag = "1")]
    pub client: String,
    /// Host of the client; a worker on the same host is its local one.
    #[prost(string, tag = "2")]
    pub host: String,
    /// Session to take up again, or 0.
    #[prost(uint64, tag = "3")]
    pub resume: u64,
    /// On resume: inodes that are open for reading.
    #[prost(uint64, repeated, tag = "4")]
    pub open_inodes: Vec<u64>,
}

/// An open session.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SessionInfo {
    /// [`crate::SessionId`].
    #[prost(uint64, tag = "1")]
    pub session: u64,
    /// It ends when nothing is heard for so long.
    #[prost(uint64, tag = "2")]
    pub timeout_ms: u64,
    /// Identity of the cluster; a data folder belongs to one.
    #[prost(string, tag = "3")]
    pub cluster_id: String,
    /// False: the old session is gone, and what it held with it.
    #[prost(bool, tag = "4")]
    pub resumed: bool,
}

/// Finds a name in a directory; reaches the under-storage at first look-up.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Lookup {
    /// Directory.
    #[prost(uint64, tag = "1")]
    pub parent: u64,
    /// One component.
    #[prost(bytes = "bytes", tag = "2")]
    pub name: bytes::Bytes,
}

/// Attributes of an inode.
#[derive(Clone, PartialEq, prost::Message)]
pub struct GetAttr {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
}

/// Attributes of the inode at an absolute path; symbolic links are not followed.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ResolvePath {
    /// Absolute path in the namespace.
    #[prost(bytes = "bytes", tag = "1")]
    pub path: bytes::Bytes,
    /// Look at the under-storage now, whatever the sync interval says.
    #[prost(bool, tag = "2")]
    pub refresh: bool,
}

/// One page of a directory, in the order of names' bytes.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ReadDir {
    /// Directory.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
    /// Name after which to start; empty: from the start.
    #[prost(bytes = "bytes", tag = "2")]
    pub after: bytes::Bytes,
    /// Entries at most; the master has a bound of its own.
    #[prost(uint32, tag = "3")]
    pub limit: u32,
    /// Look at the under-storage now, whatever the sync interval says.
    #[prost(bool, tag = "4")]
    pub refresh: bool,
}

/// One page of a directory.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DirPage {
    /// In the order of names' bytes.
    #[prost(message, repeated, tag = "1")]
    pub entries: Vec<Entry>,
    /// Nothing follows.
    #[prost(bool, tag = "2")]
    pub eof: bool,
}

/// Creates a regular file. With `open`, it is open for writing in the session afterwards.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Create {
    /// Directory.
    #[prost(uint64, tag = "1")]
    pub parent: u64,
    /// One component.
    #[prost(bytes = "bytes", tag = "2")]
    pub name: bytes::Bytes,
    /// Permission bits, umask applied.
    #[prost(uint32, tag = "3")]
    pub mode: u32,
    /// Open it for writing.
    #[prost(bool, tag = "4")]
    pub open: bool,
    /// When its data reaches the under-storage.
    #[prost(enumeration = "WriteType", tag = "5")]
    pub write_type: i32,
    /// 0: the default.
    #[prost(uint64, tag = "6")]
    pub block_bytes: u64,
}

/// Creates a directory.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Mkdir {
    /// Directory.
    #[prost(uint64, tag = "1")]
    pub parent: u64,
    /// One component.
    #[prost(bytes = "bytes", tag = "2")]
    pub name: bytes::Bytes,
    /// Permission bits, umask applied.
    #[prost(uint32, tag = "3")]
    pub mode: u32,
    /// When it reaches the under-storage.
    #[prost(enumeration = "WriteType", tag = "4")]
    pub write_type: i32,
}

/// Creates a symbolic link.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Symlink {
    /// Directory.
    #[prost(uint64, tag = "1")]
    pub parent: u64,
    /// One component.
    #[prost(bytes = "bytes", tag = "2")]
    pub name: bytes::Bytes,
    /// What it points at, unchecked.
    #[prost(bytes = "bytes", tag = "3")]
    pub target: bytes::Bytes,
}

/// Creates a special file: FIFO, socket, device.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Mknod {
    /// Directory.
    #[prost(uint64, tag = "1")]
    pub parent: u64,
    /// One component.
    #[prost(bytes = "bytes", tag = "2")]
    pub name: bytes::Bytes,
    /// Not a file, directory or symlink.
    #[prost(enumeration = "FileKind", tag = "3")]
    pub kind: i32,
    /// Permission bits, umask applied.
    #[prost(uint32, tag = "4")]
    pub mode: u32,
    /// Device number.
    #[prost(uint64, tag = "5")]
    pub rdev: u64,
}

/// Target of a symbolic link.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ReadLink {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
}

/// Target of a symbolic link.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LinkTarget {
    /// As it was created.
    #[prost(bytes = "bytes", tag = "1")]
    pub target: bytes::Bytes,
}

/// Removes a name that is no directory. An inode that is open in a session stays until its last close.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Unlink {
    /// Directory.
    #[prost(uint64, tag = "1")]
    pub parent: u64,
    /// One component.
    #[prost(bytes = "bytes", tag = "2")]
    pub name: bytes::Bytes,
}

/// Removes an empty directory.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Rmdir {
    /// Directory.
    #[prost(uint64, tag = "1")]
    pub parent: u64,
    /// One component.
    #[prost(bytes = "bytes", tag = "2")]
    pub name: bytes::Bytes,
}

/// Renames, replacing an existing target as rename(2) does.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Rename {
    /// Old directory.
    #[prost(uint64, tag = "1")]
    pub parent: u64,
    /// Old name.
    #[prost(bytes = "bytes", tag = "2")]
    pub name: bytes::Bytes,
    /// New directory.
    #[prost(uint64, tag = "3")]
    pub new_parent: u64,
    /// New name.
    #[prost(bytes = "bytes", tag = "4")]
    pub new_name: bytes::Bytes,
    /// RENAME_NOREPLACE (1), RENAME_EXCHANGE (2).
    #[prost(uint32, tag = "5")]
    pub flags: u32,
}

/// Removes a path, recursively if asked, in one command; space is reclaimed in the background.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Delete {
    /// Absolute path.
    #[prost(bytes = "bytes", tag = "1")]
    pub path: bytes::Bytes,
    /// Also a directory with entries.
    #[prost(bool, tag = "2")]
    pub recursive: bool,
    /// Leave the under-storage as it is.
    #[prost(bool, tag = "3")]
    pub alluxio_only: bool,
}

/// Changes attributes; what is absent stays. `size` is only for files that are not open for writing through a worker.
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
    /// The times are "now" (write permission is enough).
    #[prost(bool, tag = "8")]
    pub times_now: bool,
}

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
}

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

/// Files, directories and bytes under a path.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Count {
    /// Absolute path.
    #[prost(bytes = "bytes", tag = "1")]
    pub path: bytes::Bytes,
}

/// Files, directories and bytes.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Counted {
    /// Regular files and others that are no directories.
    #[prost(uint64, tag = "1")]
    pub files: u64,
    /// Directories below the path.
    #[prost(uint64, tag = "2")]
    pub directories: u64,
    /// Sum of lengths.
    #[prost(uint64, tag = "3")]
    pub bytes: u64,
    /// Of these, held by workers.
    #[prost(uint64, tag = "4")]
    pub cached_bytes: u64,
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

/// Path of an inode (one of its names).
#[derive(Clone, PartialEq, prost::Message)]
pub struct GetPath {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
}

/// Path of an inode.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PathReply {
    /// Absolute path in the namespace.
    #[prost(bytes = "bytes", tag = "1")]
    pub path: bytes::Bytes,
    /// Where it is, or will be, in the under-storage.
    #[prost(string, tag = "2")]
    pub ufs_uri: String,
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
    /// Nothing was promised and nothing committed: drop it.
    #[prost(bool, tag = "4")]
    pub discard: bool,
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

/// What is asked.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Op {
    /// See [`OpenSession`]; answered by [`SessionInfo`].
    #[prost(message, tag = "10")]
    OpenSession(OpenSession),
    /// CloseSession; answered by [`Empty`].
    #[prost(message, tag = "11")]
    CloseSession(Empty),
    /// KeepAlive; answered by [`Empty`].
    #[prost(message, tag = "12")]
    KeepAlive(Empty),
    /// See [`Lookup`]; answered by [`Attr`].
    #[prost(message, tag = "13")]
    Lookup(Lookup),
    /// See [`GetAttr`]; answered by [`Attr`].
    #[prost(message, tag = "14")]
    GetAttr(GetAttr),
    /// See [`ResolvePath`]; answered by [`Attr`].
    #[prost(message, tag = "15")]
    ResolvePath(ResolvePath),
    /// See [`ReadDir`]; answered by [`DirPage`].
    #[prost(message, tag = "16")]
    ReadDir(ReadDir),
    /// See [`Create`]; answered by [`Opened`].
    #[prost(message, tag = "17")]
    Create(Create),
    /// See [`Mkdir`]; answered by [`Attr`].
    #[prost(message, tag = "18")]
    Mkdir(Mkdir),
    /// See [`Symlink`]; answered by [`Attr`].
    #[prost(message, tag = "19")]
    Symlink(Symlink),
    /// See [`Mknod`]; answered by [`Attr`].
    #[prost(message, tag = "20")]
    Mknod(Mknod),
    /// See [`ReadLink`]; answered by [`LinkTarget`].
    #[prost(message, tag = "21")]
    ReadLink(ReadLink),
    /// See [`Unlink`]; answered by [`Empty`].
    #[prost(message, tag = "22")]
    Unlink(Unlink),
    /// See [`Rmdir`]; answered by [`Empty`].
    #[prost(message, tag = "23")]
    Rmdir(Rmdir),
    /// See [`Rename`]; answered by [`Empty`].
    #[prost(message, tag = "24")]
    Rename(Rename),
    /// See [`Delete`]; answered by [`Counted`].
    #[prost(message, tag = "25")]
    Delete(Delete),
    /// See [`SetAttr`]; answered by [`Attr`].
    #[prost(message, tag = "26")]
    SetAttr(SetAttr),
    /// See [`Open`]; answered by [`Opened`].
    #[prost(message, tag = "27")]
    Open(Open),
    /// See [`Commit`]; answered by [`Attr`].
    #[prost(message, tag = "28")]
    Commit(Commit),
    /// See [`MarkDurable`]; answered by [`Empty`].
    #[prost(message, tag = "29")]
    MarkDurable(MarkDurable),
    /// See [`Close`]; answered by [`Empty`].
    #[prost(message, tag = "30")]
    Close(Close),
    /// See [`StatFs`]; answered by [`FsStat`].
    #[prost(message, tag = "31")]
    StatFs(StatFs),
    /// See [`WaitPersisted`]; answered by [`Counted`].
    #[prost(message, tag = "32")]
    WaitPersisted(WaitPersisted),
    /// See [`Free`]; answered by [`Counted`].
    #[prost(message, tag = "33")]
    Free(Free),
    /// See [`Count`]; answered by [`Counted`].
    #[prost(message, tag = "34")]
    Count(Count),
    /// See [`Locate`]; answered by [`Locations`].
    #[prost(message, tag = "35")]
    Locate(Locate),
    /// See [`GetPath`]; answered by [`PathReply`].
    #[prost(message, tag = "36")]
    GetPath(GetPath),
    /// See [`Mount`]; answered by [`MountInfo`].
    #[prost(message, tag = "37")]
    Mount(Mount),
    /// See [`Unmount`]; answered by [`Empty`].
    #[prost(message, tag = "38")]
    Unmount(Unmount),
    /// See [`GetMounts`]; answered by [`MountTable`].
    #[prost(message, tag = "39")]
    GetMounts(GetMounts),
    /// See [`GetReport`]; answered by [`Report`].
    #[prost(message, tag = "40")]
    GetReport(GetReport),
    /// See [`RegisterWorker`]; answered by [`Registered`].
    #[prost(message, tag = "41")]
    RegisterWorker(RegisterWorker),
    /// See [`WorkerHeartbeat`]; answered by [`WorkerTasks`].
    #[prost(message, tag = "42")]
    WorkerHeartbeat(WorkerHeartbeat),
    /// See [`PersistDone`]; answered by [`Empty`].
    #[prost(message, tag = "43")]
    PersistDone(PersistDone),
    /// See [`Recovered`]; answered by [`Empty`].
    #[prost(message, tag = "44")]
    Recovered(Recovered),
    /// See [`UfsChanged`]; answered by [`Opened`].
    #[prost(message, tag = "45")]
    UfsChanged(UfsChanged),
}

/// A request to the master.
#[derive(Clone, PartialEq, prost::Message)]
pub struct MasterRequest {
    /// [`crate::SessionId`], or 0 for calls without one (commands of a person, workers).
    #[prost(uint64, tag = "1")]
    pub session: u64,
    /// Unique within the session for changes; 0: not to be de-duplicated.
    #[prost(uint64, tag = "2")]
    pub op_id: u64,
    /// Who asks.
    #[prost(message, optional, tag = "3")]
    pub caller: Option<Caller>,
    /// What is asked.
    #[prost(
        oneof = "Op",
        tags = "10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45"
    )]
    pub op: Option<Op>,
}

/// An answer. `Opened` is the large one; boxing it would cost an allocation per open.
#[derive(Clone, PartialEq, prost::Oneof)]
#[allow(clippy::large_enum_variant)]
pub enum Reply {
    /// See [`SessionInfo`].
    #[prost(message, tag = "10")]
    SessionInfo(SessionInfo),
    /// See [`Empty`].
    #[prost(message, tag = "11")]
    Empty(Empty),
    /// See [`Attr`].
    #[prost(message, tag = "12")]
    Attr(Attr),
    /// See [`DirPage`].
    #[prost(message, tag = "13")]
    DirPage(DirPage),
    /// See [`Opened`].
    #[prost(message, tag = "14")]
    Opened(Opened),
    /// See [`LinkTarget`].
    #[prost(message, tag = "15")]
    LinkTarget(LinkTarget),
    /// See [`Counted`].
    #[prost(message, tag = "16")]
    Counted(Counted),
    /// See [`FsStat`].
    #[prost(message, tag = "17")]
    FsStat(FsStat),
    /// See [`Locations`].
    #[prost(message, tag = "18")]
    Locations(Locations),
    /// See [`PathReply`].
    #[prost(message, tag = "19")]
    PathReply(PathReply),
    /// See [`MountInfo`].
    #[prost(message, tag = "20")]
    MountInfo(MountInfo),
    /// See [`MountTable`].
    #[prost(message, tag = "21")]
    MountTable(MountTable),
    /// See [`Report`].
    #[prost(message, tag = "22")]
    Report(Report),
    /// See [`Registered`].
    #[prost(message, tag = "23")]
    Registered(Registered),
    /// See [`WorkerTasks`].
    #[prost(message, tag = "24")]
    WorkerTasks(WorkerTasks),
}

/// An answer of the master.
#[derive(Clone, PartialEq, prost::Message)]
pub struct MasterReply {
    /// The answer.
    #[prost(oneof = "Reply", tags = "10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24")]
    pub reply: Option<Reply>,
}

/// Attributes of an inode changed; `data` too if its bytes did.
#[derive(Clone, PartialEq, prost::Message)]
pub struct InodeChanged {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
    /// Cached pages are stale.
    #[prost(bool, tag = "2")]
    pub data: bool,
}

/// A name in a directory appeared, went or means another inode.
#[derive(Clone, PartialEq, prost::Message)]
pub struct EntryChanged {
    /// Directory.
    #[prost(uint64, tag = "1")]
    pub parent: u64,
    /// One component.
    #[prost(bytes = "bytes", tag = "2")]
    pub name: bytes::Bytes,
    /// Inode that went with it (unlink), or 0.
    #[prost(uint64, tag = "3")]
    pub child: u64,
}

/// One change that a client's caches must follow.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum WatchEvent {
    /// See [`InodeChanged`].
    #[prost(message, tag = "1")]
    Inode(InodeChanged),
    /// See [`EntryChanged`].
    #[prost(message, tag = "2")]
    Entry(EntryChanged),
    /// The queue overflowed or the leader changed: forget everything.
    #[prost(message, tag = "3")]
    Reset(Empty),
}

/// One item of the watch stream. An empty one is a heartbeat, sent at least each second.
#[derive(Clone, PartialEq, prost::Message)]
pub struct WatchItem {
    /// The change.
    #[prost(oneof = "WatchEvent", tags = "1, 2, 3")]
    pub event: Option<WatchEvent>,
}

/// A batch of watch items, in order.
#[derive(Clone, PartialEq, prost::Message)]
pub struct WatchBatch {
    /// In order.
    #[prost(message, repeated, tag = "1")]
    pub items: Vec<WatchItem>,
}

/// Changes made by others than the session that watches. An error ends the stream.
pub type WatchStream = std::pin::Pin<Box<dyn futures::Stream<Item = FsResult<WatchBatch>> + Send>>;

/// A master, near or far.
#[async_trait::async_trait]
pub trait MasterApi: Send + Sync + 'static {
    /// Executes one request. A change is durable when this returns.
    ///
    /// # Errors
    /// As the operation says; retryable ones mean that it may or may not have happened (see `op_id`).
    async fn call(&self, request: MasterRequest) -> FsResult<Reply>;

    /// Opens the watch stream of a session (DESIGN D8).
    ///
    /// # Errors
    /// [`crate::ErrorKind::Stale`] if there is no such session.
    async fn watch(&self, session: crate::SessionId) -> FsResult<WatchStream>;
}

impl Reply {
    /// Wraps for the wire.
    pub fn into_message(self) -> MasterReply {
        MasterReply { reply: Some(self) }
    }
}

/// Turns a [`Reply`] into the message a caller expects.
pub trait FromReply: Sized {
    /// `None` if the master answered with another message, which is a bug of one end.
    fn from_reply(reply: Reply) -> Option<Self>;
}

macro_rules! from_reply {
    ($($name:ident)*) => {$(
        impl FromReply for $name {
            fn from_reply(reply: Reply) -> Option<Self> {
                match reply { Reply::$name(message) => Some(message), _ => None }
            }
        }
        impl From<$name> for Reply {
            fn from(message: $name) -> Self {
                Reply::$name(message)
            }
        }
    )*};
}

from_reply! { SessionInfo Empty Attr DirPage Opened LinkTarget Counted FsStat Locations PathReply MountInfo MountTable Report Registered WorkerTasks }
