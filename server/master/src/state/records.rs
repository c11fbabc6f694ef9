//! The smaller records: intents, mounts, sessions, workers, counters, and the answer of a command.

use alluxio_proto::error::WireError;
use alluxio_proto::master::WatchEvent;
use alluxio_proto::types::{Attr, FileKind, Property, WorkerAddress, WriteType};
use alluxio_proto::{FsError, MountId, SessionId};
use bytes::Bytes;

use super::inode::Inode;

/// What an intent will do to the under-storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum IntentKind {
    /// Upload a version of a file. Late-bound: its path is fixed when it starts.
    Persist = 0,
    /// Delete a file, if it is still one of `expect`.
    Delete = 1,
    /// Delete a folder with all beneath it.
    DeleteTree = 2,
    /// Rename a file or folder.
    Rename = 3,
    /// Make a directory. Late-bound.
    Mkdir = 4,
    /// Remove an empty directory.
    Rmdir = 5,
    /// Set mode, owner, times and extended attributes. Late-bound.
    SetAttr = 6,
    /// Make a symbolic link. Late-bound.
    Symlink = 7,
}

impl IntentKind {
    /// The path is where the inode is when the intent starts, not when it was journaled.
    pub fn is_late_bound(self) -> bool {
        matches!(self, Self::Persist | Self::Mkdir | Self::SetAttr | Self::Symlink)
    }
    /// Puts something at its path that was not there before.
    pub fn is_creating(self) -> bool {
        matches!(self, Self::Persist | Self::Mkdir | Self::Symlink)
    }
    /// Leaves something at its path, or where it moved it, that may have another fingerprint than before.
    pub fn leaves_an_object(self) -> bool {
        self.is_creating() || matches!(self, Self::Rename | Self::SetAttr)
    }
}

/// A journaled intention to change an under-storage (DESIGN D9).
///
/// Order: two intents that touch the same path, or a path and one beneath it, are executed in the order of
/// [`Intent::order`]. A late-bound one takes its place in that order when it starts.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Intent {
    /// [`alluxio_proto::IntentId`].
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// What to do.
    #[prost(enumeration = "IntentKind", tag = "2")]
    pub kind: i32,
    /// Where.
    #[prost(uint64, tag = "3")]
    pub mount_id: u64,
    /// Path beneath the mount's root; empty and meaningless for a late-bound one that has not started.
    #[prost(bytes = "bytes", tag = "4")]
    pub path: Bytes,
    /// Target of a rename.
    #[prost(bytes = "bytes", tag = "5")]
    pub to_path: Bytes,
    /// About whom.
    #[prost(uint64, tag = "6")]
    pub inode: u64,
    /// Of a persist: which version. Of a delete or rename of a file: which one the under-storage has.
    #[prost(uint64, tag = "7")]
    pub version: u64,
    /// When it was journaled, or (persist) last re-committed: ripening counts from here.
    #[prost(int64, tag = "8")]
    pub created_ns: i64,
    /// Attempts that failed.
    #[prost(uint32, tag = "9")]
    pub attempts: u32,
    /// Of the last one.
    #[prost(message, optional, tag = "10")]
    pub last_error: Option<WireError>,
    /// Not again before.
    #[prost(int64, tag = "11")]
    pub retry_at_ns: i64,
    /// It has started at least once: its effect may be in the under-storage.
    #[prost(bool, tag = "12")]
    pub started: bool,
    /// Place among intents of conflicting paths; 0: none yet (late-bound, not started).
    #[prost(uint64, tag = "13")]
    pub order: u64,
    /// Persist: what is at the path now (empty list: nothing should be). Delete and rename of a file: what the object may be;
    /// anything else is somebody else's and stays.
    #[prost(string, repeated, tag = "14")]
    pub expect: Vec<String>,
    /// Persist, delete and rename: an upload that never reported back may have left an object of one of these lengths: it may be
    /// replaced, deleted or moved too. Empty: only `expect` counts.
    #[prost(uint64, repeated, tag = "15")]
    pub expect_lengths: Vec<u64>,
    /// A persist whose inode was unlinked after it started. Tell the worker to stop; once it is known not to be running any
    /// more, `IntentDone` or `IntentFailed` drops it, and the delete that waits behind it goes on.
    #[prost(bool, tag = "16")]
    pub cancelled: bool,
    /// Inode that took over the name while this change to the replaced one is not done.
    #[prost(uint64, tag = "17")]
    pub heir: u64,
    /// Directory of `path` when it was journaled.
    #[prost(uint64, tag = "18")]
    pub dir: u64,
    /// Directory of `to_path`.
    #[prost(uint64, tag = "19")]
    pub to_dir: u64,
    /// Of the inode.
    #[prost(enumeration = "FileKind", tag = "20")]
    pub inode_kind: i32,
    /// Of a persist: length in bytes. Of a delete or rename: that of what the under-storage has.
    #[prost(uint64, tag = "21")]
    pub length: u64,
    /// Of a persist: write type, for what happens after.
    #[prost(enumeration = "WriteType", tag = "22")]
    pub write_type: i32,
    /// Later intents whose `expect` must learn the fingerprint that this one leaves.
    #[prost(uint64, repeated, tag = "23")]
    pub tell: Vec<u64>,
    /// Of a rename to another mount: where `to_path` is; 0: on the same one. Such a rename is of one object, never of a folder,
    /// and is a copy: once it is confirmed, the intent lives on as the [`IntentKind::Delete`] of what was copied.
    #[prost(uint64, tag = "24")]
    pub to_mount_id: u64,
    /// Of a stray rename: the place of `to_path` in the order, where that is another than [`Intent::order`]; 0: the same. A folder
    /// rename that passed it has moved its target, and comes before it there.
    #[prost(uint64, tag = "62")]
    pub to_order: u64,
    /// Of a refused rename of one object: it is known to be where it was, and nothing of it to be at the target.
    #[prost(bool, tag = "63")]
    pub stays: bool,
    /// Of the rename of a file where that is not one step: the copy is made.
    #[prost(message, optional, tag = "70")]
    pub copied: Option<Copied>,
    /// The under-storage refuses it (`last_error`): it is tried again at `retry_at_ns`, or, if that is [`RETRY_NEVER`], when
    /// somebody asks for it. An upload has no place in the order while it is so; a rename keeps its own, for what is at its two
    /// paths depends on it.
    #[prost(bool, tag = "40")]
    pub refused: bool,
    /// Attempts in a row, up to the last one, that the under-storage refused.
    #[prost(uint32, tag = "41")]
    pub refusals: u32,
    /// When the first of those was.
    #[prost(int64, tag = "42")]
    pub refused_since_ns: i64,
    /// Of a change of attributes: when the first of the changes was that it stands for; `created_ns` is the last.
    #[prost(int64, tag = "60")]
    pub changed_since_ns: i64,
}

/// What a rename has copied, and is to delete.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Copied {
    /// Fingerprint of what was copied.
    #[prost(string, tag = "1")]
    pub from: String,
    /// Fingerprint of the copy.
    #[prost(string, tag = "2")]
    pub to: String,
    /// It was not the version that the inode is bound to: somebody had replaced it.
    #[prost(bool, tag = "3")]
    pub is_of_others: bool,
}

/// [`Intent::retry_at_ns`] of what waits for a person.
pub const RETRY_NEVER: i64 = i64::MAX;

/// A change that an under-storage has refused for good and that was given up: what was to be deleted is still there. For
/// people.
#[derive(Clone, PartialEq, prost::Message)]
pub struct GivenUp {
    /// The [`alluxio_proto::IntentId`] it had.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// What was to be done.
    #[prost(enumeration = "IntentKind", tag = "2")]
    pub kind: i32,
    /// Where.
    #[prost(uint64, tag = "3")]
    pub mount_id: u64,
    /// Path beneath the mount's root.
    #[prost(bytes = "bytes", tag = "4")]
    pub path: Bytes,
    /// Why not.
    #[prost(message, optional, tag = "5")]
    pub error: Option<WireError>,
    /// When it was given up.
    #[prost(int64, tag = "6")]
    pub at_ns: i64,
}

/// A change that was tried so often in vain is worth a line, and a person's decision.
pub const STUCK_AFTER: u32 = 3;
/// Most [`GivenUp`] that are remembered; the oldest are forgotten.
pub const GIVEN_UP_MAX: usize = if cfg!(test) { 3 } else { 1000 };

impl Intent {
    /// Refused, and waiting for a person.
    pub fn is_parked(&self) -> bool {
        self.refused && !self.cancelled && self.retry_at_ns == RETRY_NEVER
    }
    /// The mount of `to_path`.
    pub fn to_mount(&self) -> MountId {
        MountId(if self.is_across() {
            self.to_mount_id
        } else {
            self.mount_id
        })
    }
    /// A rename to another mount.
    pub fn is_across(&self) -> bool {
        self.to_mount_id != 0
    }
    /// One object that its store refuses to move or to delete: nothing waits behind it but what depends on that object
    /// (`state/apply/strays.rs`).
    pub fn is_stray(&self) -> bool {
        let is_there = self.kind() != IntentKind::Rename || self.stays;
        self.leaves_its_place() && is_there && self.refused && !self.cancelled && !self.is_across()
    }
    /// Takes one object, or the marker of one folder, from its path.
    pub fn leaves_its_place(&self) -> bool {
        match self.kind() {
            IntentKind::Delete | IntentKind::Rename => !self.is_folder(),
            kind => kind == IntentKind::Rmdir,
        }
    }
    /// Its place among intents at `to_path`.
    pub fn target_order(&self) -> u64 {
        if self.to_order == 0 { self.order } else { self.to_order }
    }
    /// About a directory.
    pub fn is_folder(&self) -> bool {
        self.inode_kind() == FileKind::Directory
    }
}

/// A mount of an under-storage.
#[derive(Clone, PartialEq, prost::Message)]
pub struct MountRecord {
    /// [`alluxio_proto::MountId`].
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// Its root directory.
    #[prost(uint64, tag = "2")]
    pub root_inode: u64,
    /// What it is made of.
    #[prost(message, optional, tag = "3")]
    pub spec: Option<super::command::MountSpec>,
    /// Grows whenever a folder rename or recursive delete starts or ends.
    #[prost(uint64, tag = "4")]
    pub epoch: u64,
    /// When it was mounted.
    #[prost(int64, tag = "5")]
    pub created_ns: i64,
}

impl MountRecord {
    /// Under-storage.
    pub fn uri(&self) -> &str {
        self.spec.as_ref().map_or("", |spec| &spec.uri)
    }
    /// Refuses changes.
    pub fn read_only(&self) -> bool {
        self.spec.as_ref().is_some_and(|spec| spec.read_only)
    }
    /// Every user may use it.
    pub fn shared(&self) -> bool {
        self.spec.as_ref().is_some_and(|spec| spec.shared)
    }
    /// Its credentials were forgotten.
    pub fn wants_credentials(&self) -> bool {
        self.spec.as_ref().is_some_and(|spec| spec.wants_credentials)
    }
    /// Settings, and what older software kept of credentials.
    pub fn options(&self) -> &[Property] {
        self.spec.as_ref().map_or(&[], |spec| &spec.options)
    }
}

/// A session (DESIGN D16). What it holds is in tables of its own.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SessionRecord {
    /// [`SessionId`].
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// Program and mount point.
    #[prost(string, tag = "2")]
    pub client: String,
    /// Host of the client.
    #[prost(string, tag = "3")]
    pub host: String,
    /// When it was opened.
    #[prost(int64, tag = "4")]
    pub opened_ns: i64,
    /// It may hold locks, which only it can name after a restart of the master.
    #[prost(bool, tag = "5")]
    pub uses_locks: bool,
}

/// A registered worker.
#[derive(Clone, PartialEq, prost::Message)]
pub struct WorkerRecord {
    /// [`alluxio_proto::WorkerId`].
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// Where it serves.
    #[prost(message, optional, tag = "2")]
    pub address: Option<WorkerAddress>,
    /// Software version.
    #[prost(string, tag = "3")]
    pub version: String,
    /// Last registration.
    #[prost(int64, tag = "4")]
    pub registered_ns: i64,
}

/// Numbers of the whole state.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Counters {
    /// Highest inode id used.
    #[prost(uint64, tag = "1")]
    pub inode_high: u64,
    /// Highest intent id or order used.
    #[prost(uint64, tag = "2")]
    pub intent_high: u64,
    /// Highest session id used.
    #[prost(uint64, tag = "3")]
    pub session_high: u64,
    /// Highest mount id used.
    #[prost(uint64, tag = "4")]
    pub mount_high: u64,
    /// Highest worker id used.
    #[prost(uint64, tag = "5")]
    pub worker_high: u64,
    /// Inodes there are, detached ones included.
    #[prost(uint64, tag = "6")]
    pub inodes: u64,
    /// Intents there are.
    #[prost(uint64, tag = "7")]
    pub intents: u64,
    /// Sessions there are.
    #[prost(uint64, tag = "8")]
    pub sessions: u64,
    /// Tops of deleted trees that wait for [`super::command::ReclaimSlice`].
    #[prost(uint64, tag = "9")]
    pub detached: u64,
    /// Identity of the cluster; empty: not formatted.
    #[prost(string, tag = "10")]
    pub cluster_id: String,
    /// Intents that are renames.
    #[prost(uint64, tag = "11")]
    pub renames: u64,
    /// Names of inodes beside their stored ones.
    #[prost(uint64, tag = "20")]
    pub links: u64,
    /// Rules by which commands are applied ([`RULES`]); 0: those of before they were counted.
    #[prost(uint32, tag = "21")]
    pub rules: u32,
}

/// The rules of this software. Whatever changes the ids that a command gives, or whether it has an effect, comes under a new number.
///
/// - 1: everybody makes whiteouts, by mknod and by rename; only who writes a file marks it durable or closes it; the recovery of an
///   empty version never loses it; who joins the writers of a file with O_TRUNC takes back what was marked durable.
/// - 2: a change of extended attributes of users is a change of attributes that an under-storage is told of;
///   a rename binds, replaces and deletes nothing that somebody else has put in its way; a recovered file is lost if nobody has its
///   committed version.
/// - 3: a rename over a spilled file leaves its object to those who have it open, by a delete of its own before what comes there.
pub const RULES: u32 = 3;

/// An open version that lost its writers and must be recovered at its home.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct RecoverItem {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
    /// The open version.
    #[prost(uint64, tag = "2")]
    pub version: u64,
    /// Who has it.
    #[prost(uint64, tag = "3")]
    pub home_worker: u64,
    /// What MarkDurable promised.
    #[prost(uint64, tag = "4")]
    pub keep_bytes: u64,
    /// See [`super::inode::OpenVersion::is_unpromised`].
    #[prost(bool, tag = "5")]
    pub unpromised: bool,
    /// Of an unpromised one: the home's boot when it was made.
    #[prost(fixed64, tag = "6")]
    pub home_boot: u64,
    /// See [`super::inode::OpenVersion::mapped`].
    #[prost(bool, tag = "7")]
    pub mapped: bool,
}

/// A cached version that is worth nothing any more.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Freed {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
    /// Which; 0: all.
    #[prost(uint64, tag = "2")]
    pub version: u64,
    /// Who holds it, as far as is known.
    #[prost(uint64, repeated, tag = "3")]
    pub workers: Vec<u64>,
}

/// What a command did. Kept in the retry cache, so that a retried change gets the same answer.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Applied {
    /// Attributes afterwards of the inode that the command is about (`cache_ms` is 0).
    #[prost(message, optional, tag = "1")]
    pub attr: Option<Attr>,
    /// Its record: open version, binding to the under-storage, locations.
    #[prost(message, optional, tag = "2")]
    pub inode: Option<Inode>,
    /// Intents that were journaled or changed, for the executor's queue.
    #[prost(uint64, repeated, tag = "3")]
    pub intents: Vec<u64>,
    /// The intent after `IntentStarted`; absent if it was dropped.
    #[prost(message, optional, tag = "4")]
    pub intent: Option<Intent>,
    /// Cached data that workers should drop.
    #[prost(message, repeated, tag = "5")]
    pub freed: Vec<Freed>,
    /// Open versions to be recovered.
    #[prost(message, repeated, tag = "6")]
    pub recover: Vec<RecoverItem>,
    /// Names that [`super::command::ApplySync`] left as they were.
    #[prost(bytes = "bytes", repeated, tag = "7")]
    pub refused: Vec<Bytes>,
    /// The session, mount or worker id that was given.
    #[prost(uint64, tag = "8")]
    pub id: u64,
    /// Inodes made (LoadEntries) or reclaimed (ReclaimSlice, DeleteTree: at least one).
    #[prost(uint64, tag = "9")]
    pub count: u64,
    /// ReclaimSlice: more is left.
    #[prost(bool, tag = "10")]
    pub more: bool,
    /// The inode that lost its last name stays for those who have it open.
    #[prost(bool, tag = "11")]
    pub orphaned: bool,
    /// The inode that lost its last name (unlink, rename over, sync), or 0.
    #[prost(uint64, tag = "12")]
    pub unlinked: u64,
    /// Intents that are no more, or that live on under their ids and are in `intents`, too.
    #[prost(uint64, repeated, tag = "13")]
    pub ended: Vec<u64>,
}

/// The answer of a command that had an effect, in the retry cache.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RetryRecord {
    #[prost(uint64, tag = "1")]
    pub op_id: u64,
    #[prost(message, optional, tag = "2")]
    pub applied: Option<Applied>,
}

/// A name in a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edge {
    /// What it names.
    pub child: alluxio_proto::InodeId,
    /// What that is.
    pub kind: FileKind,
}

/// What a command did, for its proposer and the watch hub.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// What the caller gets.
    pub result: Result<Applied, FsError>,
    /// What other sessions must hear of. Empty for a refused or repeated command.
    pub events: Vec<WatchEvent>,
    /// Who made it, and so needs not hear of it.
    pub session: SessionId,
    /// Answered from the retry cache.
    pub repeated: bool,
}
