//! The inode record: all that is kept of one file, directory, link or special file.

use alluxio_proto::master::ATIME_KEPT_NS;
use alluxio_proto::types::{ACL_ACCESS, ACL_DEFAULT, Acl, Attr, FileKind, PersistState, WriteType, XATTRS};
use alluxio_proto::{DataVersion, ErrorKind, InodeId, MountId, WorkerId};
use bytes::Bytes;

use super::read::UfsLocation;

/// One inode, as stored. Its names are in the `edges` table; `parent` and `name` repeat the first of them: the *stored name*,
/// by which a path can be found upwards and under which the under-storage has it. The `links` table has the others.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Inode {
    /// [`InodeId`].
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// Directory of its stored name; 0 for the root and for inodes without a name.
    #[prost(uint64, tag = "2")]
    pub parent: u64,
    /// Its stored name.
    #[prost(bytes = "bytes", tag = "3")]
    pub name: Bytes,
    /// What it is.
    #[prost(enumeration = "FileKind", tag = "4")]
    pub kind: i32,
    /// 07777 bits.
    #[prost(uint32, tag = "5")]
    pub mode: u32,
    /// Owner by name, or decimal uid.
    #[prost(string, tag = "6")]
    pub owner: String,
    /// Group by name, or decimal gid.
    #[prost(string, tag = "7")]
    pub group: String,
    /// Last access.
    #[prost(int64, tag = "8")]
    pub atime_ns: i64,
    /// Last change of data.
    #[prost(int64, tag = "9")]
    pub mtime_ns: i64,
    /// Last change of inode.
    #[prost(int64, tag = "10")]
    pub ctime_ns: i64,
    /// Creation.
    #[prost(int64, tag = "11")]
    pub btime_ns: i64,
    /// Length of the committed version, in bytes.
    #[prost(uint64, tag = "12")]
    pub size: u64,
    /// [`DataVersion`] that is committed; 0: empty, never written.
    #[prost(uint64, tag = "13")]
    pub version: u64,
    /// Highest version ever given out, so that none is given twice.
    #[prost(uint64, tag = "14")]
    pub version_high: u64,
    /// Block size of a file.
    #[prost(uint64, tag = "15")]
    pub block_bytes: u64,
    /// Device number.
    #[prost(uint64, tag = "16")]
    pub rdev: u64,
    /// Target of a symlink.
    #[prost(bytes = "bytes", tag = "17")]
    pub symlink_target: Bytes,
    /// Names (directories: 2 + known subdirectories); 0: unlinked but held.
    #[prost(uint32, tag = "18")]
    pub nlink: u32,
    /// Where the committed version stands. For a directory `Persisted` means: there may be something at its path.
    #[prost(enumeration = "PersistState", tag = "19")]
    pub persist_state: i32,
    /// Of the last opening for writing.
    #[prost(enumeration = "WriteType", tag = "20")]
    pub write_type: i32,
    /// What the under-storage has of it.
    #[prost(message, optional, tag = "21")]
    pub ufs: Option<UfsBinding>,
    /// The open version.
    #[prost(message, optional, tag = "22")]
    pub open: Option<OpenVersion>,
    /// Of a directory: every name of the under-storage is known.
    #[prost(bool, tag = "23")]
    pub children_loaded: bool,
    /// Of a directory: names known.
    #[prost(uint64, tag = "24")]
    pub entries: u64,
    /// [`MountId`].
    #[prost(uint64, tag = "25")]
    pub mount_id: u64,
    /// Never evicted.
    #[prost(bool, tag = "26")]
    pub pinned: bool,
    /// Of a directory: grows whenever a listing made earlier may be wrong about it. See [`super::State::generation`].
    #[prost(uint64, tag = "27")]
    pub generation: u64,
    /// Workers that hold a part of a version, bounded by [`LOCATIONS_MAX`].
    #[prost(message, repeated, tag = "28")]
    pub locations: Vec<CachedAt>,
    /// Made without a name, and may be given one.
    #[prost(bool, tag = "40")]
    pub linkable: bool,
    /// Extended attributes, in a table of their own.
    #[prost(uint32, tag = "41")]
    pub xattrs: u32,
    /// Bytes of their names and values.
    #[prost(uint64, tag = "42")]
    pub xattr_bytes: u64,
    /// What the mode cannot say: permission of the group, named users and groups. `owner`, `mask` and `other` are the bits of the
    /// mode, so that chmod changes them; the fields of that name mean nothing here.
    #[prost(message, optional, tag = "43")]
    pub acl_access: Option<Acl>,
    /// Of a directory: what is made in it inherits this list.
    #[prost(message, optional, tag = "44")]
    pub acl_default: Option<Acl>,
    /// How much of the committed version is holes, as its home saw it; 0 also if that is not known.
    #[prost(uint64, tag = "45")]
    pub hole_bytes: u64,
    /// Its upload is [`super::Intent::refused`].
    #[prost(bool, tag = "60")]
    pub persist_refused: bool,
    /// While it is open: its home keeps only a part of it, and has the rest from the object of the version last uploaded.
    #[prost(bool, tag = "61")]
    pub spilled: bool,
}

/// Most workers remembered per file; more copies than that may exist but are not used.
pub const LOCATIONS_MAX: usize = 16;

/// What the under-storage has at an inode's path.
#[derive(Clone, PartialEq, prost::Message)]
pub struct UfsBinding {
    /// Version of this inode that is there; meaningful if `present`.
    #[prost(uint64, tag = "1")]
    pub version: u64,
    /// Fingerprint of that version's object.
    #[prost(string, tag = "2")]
    pub fingerprint: String,
    /// Length of that version, in bytes.
    #[prost(uint64, tag = "3")]
    pub length: u64,
    /// A version of this inode is there (perhaps an older one than the committed).
    #[prost(bool, tag = "4")]
    pub present: bool,
    /// Fingerprints of objects of others that may still be at the path: of a file whose name this one took over before it
    /// was persisted. The next PUT replaces them; leaving the name deletes them. Bounded by [`OCCUPIED_MAX`].
    #[prost(string, repeated, tag = "5")]
    pub occupied: Vec<String>,
    /// Path to read from, where it is not the natural one: of an unlinked inode that is still held.
    #[prost(bytes = "bytes", optional, tag = "6")]
    pub path: Option<Bytes>,
    /// Lengths of uploads that ended without telling whether their object is at the path. Treated as `occupied` is.
    #[prost(uint64, repeated, tag = "7")]
    pub uncertain: Vec<u64>,
    /// Mount of `path`; 0: that of the inode, in records of before renames between mounts.
    #[prost(uint64, tag = "8")]
    pub path_mount: u64,
    /// The rename of a folder that has copied the object, whose copy is `fingerprint`; 0: none. Until that rename is done the object may
    /// be where it was, as `moved_from`, and at its new place.
    #[prost(uint64, tag = "9")]
    pub moved_by: u64,
    /// Fingerprint of what it has copied.
    #[prost(string, tag = "10")]
    pub moved_from: String,
    /// It was seen to be archived: it cannot be read or copied before it is restored, unless it has been since.
    #[prost(bool, tag = "11")]
    pub is_archived: bool,
}

/// Most remembered in [`UfsBinding::occupied`] and in [`UfsBinding::uncertain`]; forgetting the oldest leaves an object rather than deleting one
/// in doubt.
pub const OCCUPIED_MAX: usize = 8;

impl UfsBinding {
    /// Where the object of an unlinked inode is that is still held. Records of before renames between mounts have no mount:
    /// then it is the inode's.
    pub(super) fn held_at(&self, mount: MountId) -> Option<UfsLocation> {
        let mount = if self.path_mount == 0 {
            mount
        } else {
            MountId(self.path_mount)
        };
        self.path.clone().map(|path| UfsLocation { mount, path })
    }

    /// Whether a fingerprint is one of the object's: of the copy, or of what a rename has copied.
    pub fn is_known_as(&self, fingerprint: &str) -> bool {
        self.fingerprint == fingerprint || (self.moved_by != 0 && self.moved_from == fingerprint)
    }

    /// Remembers that.
    pub(super) fn hold_at(&mut self, at: UfsLocation) {
        (self.path_mount, self.path) = (at.mount.get(), Some(at.path));
    }
}

/// The one open version of a file (DESIGN D15).
#[derive(Clone, PartialEq, prost::Message)]
pub struct OpenVersion {
    /// [`DataVersion`].
    #[prost(uint64, tag = "1")]
    pub version: u64,
    /// [`WorkerId`] with the local file.
    #[prost(uint64, tag = "2")]
    pub home_worker: u64,
    /// Openings per session.
    #[prost(message, repeated, tag = "3")]
    pub writers: Vec<Writer>,
    /// Of this opening.
    #[prost(enumeration = "WriteType", tag = "4")]
    pub write_type: i32,
    /// What MarkDurable promised.
    #[prost(uint64, optional, tag = "5")]
    pub durable_length: Option<u64>,
    /// With it.
    #[prost(int64, tag = "6")]
    pub durable_mtime_ns: i64,
    /// A commit came since it was opened.
    #[prost(bool, tag = "7")]
    pub committed_since_open: bool,
    /// The file did not exist before.
    #[prost(bool, tag = "8")]
    pub created_by_this_open: bool,
    /// Nothing of the committed version is under it.
    #[prost(bool, tag = "9")]
    pub truncated: bool,
    /// The writers are gone; the home has been asked what is left.
    #[prost(bool, tag = "10")]
    pub recovering: bool,
    /// Of a new file: boot of the home's operating system when it was made; 0: unknown.
    #[prost(fixed64, tag = "11")]
    pub home_boot: u64,
    /// Nobody has it open; it is not closed because it is still mapped for writing. What was committed is uploaded.
    #[prost(bool, tag = "12")]
    pub mapped: bool,
    /// If nothing is ever committed an empty file stays: one of several writers has closed it, or it was given a name since it
    /// was made.
    #[prost(bool, tag = "13")]
    pub is_promised: bool,
}

impl Inode {
    /// Why the version that is open as `version` at `home_worker` cannot be uploaded while it is open, so that its home must keep
    /// all of it. `Stale`: it is open as another version, or will be when its commit arrives.
    pub fn keeps_its_room(&self, version: u64, home_worker: u64) -> Option<(ErrorKind, &'static str)> {
        let no = |why| Some((ErrorKind::NotSupported, why));
        let is_it = |open: &&OpenVersion| open.version == version && open.home_worker == home_worker;
        match self.open.as_ref().filter(is_it) {
            None => Some((ErrorKind::Stale, "it is not open as that version")),
            Some(open) if open.recovering => no("its writers are gone"),
            Some(open) if !open.persists() => no("it is not to be stored"),
            Some(_) if self.nlink == 0 => no("it has no name"),
            Some(_) if self.persist_refused => no("the store refuses it"),
            Some(_) => None,
        }
    }
}

impl OpenVersion {
    /// Whether there is a committed version under it, or was one since it was opened.
    pub fn is_committed(&self) -> bool {
        !self.created_by_this_open || self.committed_since_open
    }

    /// Nothing was promised of its content: neither by a commit nor by an fsync.
    pub fn is_unpromised(&self) -> bool {
        !self.is_committed() && self.durable_length.is_none()
    }
}

/// Openings of one session.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Writer {
    /// [`alluxio_proto::SessionId`].
    #[prost(uint64, tag = "1")]
    pub session: u64,
    /// How many.
    #[prost(uint32, tag = "2")]
    pub count: u32,
}

/// What one worker holds.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct CachedAt {
    /// [`WorkerId`].
    #[prost(uint64, tag = "1")]
    pub worker: u64,
    /// [`DataVersion`].
    #[prost(uint64, tag = "2")]
    pub version: u64,
    /// Of that version.
    #[prost(uint64, tag = "3")]
    pub bytes: u64,
}

impl Inode {
    /// Its id.
    pub fn inode_id(&self) -> InodeId {
        InodeId(self.id)
    }
    /// Its parent.
    pub fn parent_id(&self) -> InodeId {
        InodeId(self.parent)
    }
    /// Whether this is the stored name, the one of several that the under-storage has.
    pub fn is_stored_at(&self, dir: InodeId, name: &[u8]) -> bool {
        self.parent == dir.get() && self.name == name
    }
    /// The mount it lies on.
    pub fn mount(&self) -> MountId {
        MountId(self.mount_id)
    }
    /// Committed version.
    pub fn data_version(&self) -> DataVersion {
        DataVersion(self.version)
    }
    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.kind() == FileKind::Directory
    }
    /// Whether it is a regular file.
    pub fn is_file(&self) -> bool {
        self.kind() == FileKind::File
    }
    /// Whether the under-storage has the committed version.
    pub fn is_persisted(&self) -> bool {
        self.persist_state() == PersistState::Persisted
    }
    /// Fingerprint of the object in the under-storage; empty if there is none of this inode.
    pub fn fingerprint(&self) -> &str {
        self.ufs
            .as_ref()
            .filter(|ufs| ufs.present)
            .map_or("", |ufs| &ufs.fingerprint)
    }
    /// Bytes of the committed version that workers hold, capped at its size.
    pub fn cached_bytes(&self) -> u64 {
        let held = self.locations.iter().filter(|at| at.version == self.version);
        held.fold(0u64, |sum, at| sum.saturating_add(at.bytes)).min(self.size)
    }
    /// Whether `worker` holds something of it.
    pub fn is_cached_at(&self, worker: WorkerId) -> bool {
        self.locations.iter().any(|at| at.worker == worker.get())
    }
    /// By relatime: whether a read at that time moves atime. One from before the last change of the inode does not: it may
    /// have been told late, and atime have been set since.
    pub fn is_moved_by_read(&self, read_ns: i64) -> bool {
        let changed_ns = self.mtime_ns.max(self.ctime_ns);
        let is_due = self.atime_ns <= changed_ns || read_ns.saturating_sub(self.atime_ns) >= ATIME_KEPT_NS;
        is_due && read_ns > self.ctime_ns.max(self.atime_ns)
    }

    /// Moves ctime: data or attributes change. Forward always, also by two changes whose clocks say the same, or which are
    /// applied in another order than they were proposed in: who has seen a ctime has seen what was there then.
    pub fn note_change(&mut self, now_ns: i64) {
        self.ctime_ns = now_ns.max(self.ctime_ns.saturating_add(1));
    }

    /// Moves mtime and ctime of a directory, to the same time.
    pub fn note_entries_changed(&mut self, now_ns: i64) {
        self.note_change(now_ns);
        self.mtime_ns = self.ctime_ns;
    }

    /// Attributes as on the wire, but for `cache_ms`, which the service decides.
    pub fn to_attr(&self) -> Attr {
        Attr {
            inode: self.id,
            kind: self.kind,
            mode: self.mode,
            nlink: self.nlink,
            owner: self.owner.clone(),
            group: self.group.clone(),
            size: match self.kind() {
                FileKind::Symlink => self.symlink_target.len() as u64,
                _ => self.size,
            },
            atime_ns: self.atime_ns,
            mtime_ns: self.mtime_ns,
            ctime_ns: self.ctime_ns,
            btime_ns: self.btime_ns,
            rdev: self.rdev,
            version: self.version,
            persist_state: self.persist_state,
            mount_id: self.mount_id,
            block_bytes: self.block_bytes,
            cached_bytes: self.cached_bytes(),
            pinned: self.pinned,
            cache_ms: 0,
            open_for_write: self.open.is_some(),
            entries: self.entries,
            parent: self.parent,
            xattr_flags: flag(XATTRS, self.xattrs > 0)
                | flag(ACL_ACCESS, self.acl_access.is_some())
                | flag(ACL_DEFAULT, self.acl_default.is_some()),
            hole_bytes: self.hole_bytes,
            persist_refused: self.persist_refused,
        }
    }
}

fn flag(bit: u32, set: bool) -> u32 {
    if set { bit } else { 0 }
}

impl OpenVersion {
    /// Openings left.
    pub fn writer_count(&self) -> u32 {
        self.writers
            .iter()
            .fold(0, |sum, writer| sum.saturating_add(writer.count))
    }
    /// Its write type; an unknown one counts as the default.
    pub fn persists(&self) -> bool {
        self.write_type() != WriteType::MustCache
    }
}
