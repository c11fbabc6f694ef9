//! Under-storages (UFS): one trait, its adapters, and one conformance suite for all of them.
//!
//! Paths are bytes relative to the mount's root, without leading or trailing slash; the empty path is the root. A path's
//! components are non-empty, neither `.` nor `..`, and hold no NUL.

mod base;
pub mod conformance;
mod error;
pub mod fault;
mod inside;
mod memory;
mod metrics;
mod object;
mod open;
pub mod path;
mod posix;
mod s3;
mod source;
mod tls;
mod uri;

pub use base::BaseObject;
pub use error::{UfsError, UfsErrorKind, UfsResult};
pub use inside::{Carried, Export, Inside};
pub use memory::memory;
pub use metrics::UfsMetrics;
pub use open::open;
pub use source::BytesSource;
pub use uri::normalize_uri;

use alluxio_proto::types::FileKind;
use bytes::Bytes;
use futures::stream::BoxStream;

/// What is known of one name in a UFS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UfsStatus {
    /// Last component; empty for the root.
    pub name: Bytes,
    /// File, directory or symlink (posix also special files).
    pub kind: FileKind,
    /// In bytes; 0 for directories.
    pub length: u64,
    /// Last change of data, nanoseconds since 1970; 0 if the store has none (object-store directories).
    pub mtime_ns: i64,
    /// ETag, or `mtime_ns-length-inode` on posix; empty for directories. Two equal fingerprints mean equal bytes.
    pub fingerprint: String,
    /// Permission bits, where the store has them.
    pub mode: Option<u32>,
    /// Owner by name, where the store has it.
    pub owner: Option<String>,
    /// Group by name, where the store has it.
    pub group: Option<String>,
    /// Target of a symlink.
    pub symlink_target: Option<Bytes>,
    /// [`UfsAttributes::write_id`] of what is there, where the store keeps it (listings leave it out).
    pub write_id: Option<String>,
    /// Last access, where the store has it.
    pub atime_ns: Option<i64>,
    /// Extended attributes of users, where the store has them.
    pub xattrs: Option<Vec<(Bytes, Bytes)>>,
    /// The store may know more of it than its listing tells, also that it is a link: see [`UnderFileSystem::complete`].
    pub is_partial: bool,
    /// It has to be restored before it can be read or copied. Of a listing: unless it has been.
    pub is_archived: bool,
}

impl UfsStatus {
    /// Of a directory of an object store, where it is known to be one.
    pub fn directory(path: &[u8], attributes: UfsAttributes) -> Self {
        Self {
            name: Bytes::copy_from_slice(path::split(path).1),
            kind: FileKind::Directory,
            length: 0,
            mtime_ns: attributes.mtime_ns.unwrap_or(0),
            fingerprint: String::new(),
            mode: attributes.mode,
            owner: attributes.owner,
            group: attributes.group,
            symlink_target: None,
            write_id: None,
            atime_ns: attributes.atime_ns,
            xattrs: attributes.xattrs,
            is_partial: false,
            is_archived: false,
        }
    }
}

/// One page of a listing. Over a whole listing each name comes once, a folder before a file of the same name, in an order
/// that is the store's: by name on posix; by `name/` on object stores, whose keys sort so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UfsPage {
    /// Entries that can be paths; what cannot is skipped with a warning and counted.
    pub entries: Vec<UfsStatus>,
    /// Where to go on; `None` after the last page.
    pub next: Option<PageToken>,
    /// Keys skipped on this page because they cannot be paths.
    pub skipped: u64,
}

/// Where a listing goes on. Opaque.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageToken(pub Bytes);

/// What must be at the target for a write to happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Anything or nothing.
    Any,
    /// Nothing.
    Absent,
    /// An object with this fingerprint.
    Fingerprint(String),
}

/// Attributes that go with an object where the store can hold them (S3: user metadata; posix: the inode).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UfsAttributes {
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner by name.
    pub owner: Option<String>,
    /// Group by name.
    pub group: Option<String>,
    /// Last change of data, nanoseconds since 1970.
    pub mtime_ns: Option<i64>,
    /// Last access, nanoseconds since 1970.
    pub atime_ns: Option<i64>,
    /// All extended attributes of users (`user.…`), by name.
    pub xattrs: Option<Vec<(Bytes, Bytes)>>,
    /// Names the bytes that are written, so that whoever does not know what became of a write finds out: the same name, the
    /// same bytes. Absent: a random one.
    pub write_id: Option<String>,
    /// Of a file that is copied from another store: what it carried there. Absent: a new object carries on what the one before it did.
    pub carried: Option<Carried>,
}

/// Where an upload's bytes come from; parts may be read in parallel and again on a retry.
#[async_trait::async_trait]
pub trait UploadSource: Send + Sync {
    /// Total length in bytes.
    fn length(&self) -> u64;
    /// Exactly `length` bytes at `offset`.
    async fn read_at(&self, offset: u64, length: u64) -> UfsResult<Bytes>;
}

/// One object that a store refuses to move or to delete, while others went.
#[derive(Clone, Debug)]
pub struct Left {
    /// Where it still is.
    pub path: Bytes,
    /// Its copy was made: only the delete is missing.
    pub copied: bool,
    /// What it is. Of a folder's marker: a directory.
    pub status: UfsStatus,
    /// Why not.
    pub error: UfsError,
}

/// So many refused objects, and those of the page at hand, are told of at once ([`Moved::is_cut`]). Some hundred bytes each.
pub const LEFT_MAX: usize = 10_000;

/// What a rename did.
#[derive(Clone, Debug)]
pub struct Moved {
    /// Of the target.
    pub status: UfsStatus,
    /// What the store refused, object by object.
    pub left: Vec<Left>,
    /// More than [`LEFT_MAX`] were: the rest was not tried. The same call goes on, if what is left is among those to be kept by then.
    pub is_cut: bool,
}

impl Moved {
    /// Nothing was refused.
    pub fn whole(status: UfsStatus) -> Self {
        Self {
            status,
            left: Vec::new(),
            is_cut: false,
        }
    }
}

/// One object whose copy has another fingerprint than it: an object in parts, or one that its store encrypts by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopiedObject {
    /// Where it was copied from.
    pub path: Bytes,
    /// Fingerprint of what was copied.
    pub from: String,
    /// Fingerprint of the copy.
    pub to: String,
}

/// Who is told what the copies are that the rename of a folder makes.
#[async_trait::async_trait]
pub trait CopyListener: Send + Sync {
    /// Hears of copies that have other fingerprints, of one page at a time, before what was copied is deleted. The same may be told
    /// again, with another copy.
    ///
    /// # Errors
    /// Nothing of that page is deleted, and the rename ends with the error.
    async fn copied(&self, copies: Vec<CopiedObject>) -> UfsResult<()>;
}

/// Nobody listens.
#[async_trait::async_trait]
impl CopyListener for () {
    async fn copied(&self, _: Vec<CopiedObject>) -> UfsResult<()> {
        Ok(())
    }
}

/// What a store can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// `posix`, `object` or `memory`.
    pub ufs_type: &'static str,
    /// Directories exist by themselves (posix), not only as prefixes of keys.
    pub real_directories: bool,
    /// Rename of a file or folder is one atomic step.
    pub atomic_rename: bool,
    /// Writes honour [`Expect`].
    pub conditional_write: bool,
    /// [`UnderFileSystem::write_over`] copies within the store.
    pub copies_ranges: bool,
    /// Symbolic links can be stored.
    pub symlinks: bool,
    /// Mode, owner and times can be stored, and changed by themselves.
    pub keeps_attributes: bool,
}

/// Capacity of the store, where it knows one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UfsSpace {
    /// In all.
    pub total_bytes: u64,
    /// In use.
    pub used_bytes: u64,
    /// What programs may still take: less than the rest where some of it is kept for the superuser.
    pub available_bytes: u64,
}

/// An under-storage. All methods may be called concurrently. Each either does what it says or leaves things as they were,
/// but for what its documentation says of interrupted work. Every call ends within the store's configured timeouts.
#[async_trait::async_trait]
pub trait UnderFileSystem: Send + Sync + std::fmt::Debug + 'static {
    /// What the store can do.
    fn capabilities(&self) -> Capabilities;

    /// Counters since it was opened.
    fn metrics(&self) -> std::sync::Arc<UfsMetrics> {
        std::sync::Arc::default()
    }

    /// Refuses a path that the store cannot hold (object stores: no UTF-8, or a key too long), without asking it.
    ///
    /// # Errors
    /// [`UfsErrorKind::Invalid`]; [`UfsErrorKind::PathTooLong`] for what is longer than the store can hold.
    fn check_path(&self, path: &[u8]) -> UfsResult<()> {
        path::check_path(path)
    }

    /// Checks reachability, credentials, and that bucket or folder exist; changes nothing.
    async fn probe(&self) -> UfsResult<()>;

    /// Status of a path. A key that is both object and prefix is a directory.
    ///
    /// # Errors
    /// [`UfsErrorKind::NotFound`] only if the store said so.
    async fn status(&self, path: &[u8]) -> UfsResult<UfsStatus>;

    /// One page of a directory, at most `limit` entries (at least 1 is taken). The first page has no token.
    ///
    /// # Errors
    /// [`UfsErrorKind::NotFound`] if there is no such directory; [`UfsErrorKind::StoreMissing`] if its bucket or root
    /// folder is gone, which says nothing of the names in it.
    async fn list(&self, dir: &[u8], token: Option<PageToken>, limit: usize) -> UfsResult<UfsPage>;

    /// Fills in what a listing of `dir` left out of entries that are [`UfsStatus::is_partial`], at the price of one request for each.
    /// What has gone since stays as it was listed.
    async fn complete(&self, dir: &[u8], entries: Vec<UfsStatus>) -> UfsResult<Vec<UfsStatus>> {
        let _ = dir;
        Ok(entries)
    }

    /// Streams `range` of the object, if it still has `fingerprint` (empty: whatever is there).
    ///
    /// # Errors
    /// [`UfsErrorKind::PreconditionFailed`] if it is another object now. Cut-short bodies are resumed or are errors, never
    /// a short stream.
    async fn read(
        &self,
        path: &[u8],
        range: std::ops::Range<u64>,
        fingerprint: &str,
    ) -> UfsResult<BoxStream<'static, UfsResult<Bytes>>>;

    /// Writes a whole object: one conditional PUT if small, multipart (aborted on failure) if large; posix: temporary
    /// file, fsync, rename. Nobody sees a part of it. Missing parent directories are made. Returns the status of what was
    /// written.
    ///
    /// # Errors
    /// [`UfsErrorKind::PreconditionFailed`] if `expect` does not hold.
    async fn write(
        &self,
        path: &[u8],
        source: &dyn UploadSource,
        expect: &Expect,
        attributes: &UfsAttributes,
    ) -> UfsResult<UfsStatus>;

    /// As [`UnderFileSystem::write`], for an object most of whose bytes the store has already: what is clean of `base` is
    /// copied inside the store as far as that pays, conditional on the base's fingerprint, and `source` is read for the
    /// rest: for what is not clean and for as much around it as the smallest part needs.
    ///
    /// # Errors
    /// [`UfsErrorKind::BaseChanged`] if the base is gone or another version now; [`UfsErrorKind::Unsupported`] if the store
    /// copies no ranges, and nothing was done: write it whole. Otherwise as [`UnderFileSystem::write`].
    async fn write_over(
        &self,
        path: &[u8],
        source: &dyn UploadSource,
        base: &BaseObject,
        expect: &Expect,
        attributes: &UfsAttributes,
    ) -> UfsResult<UfsStatus> {
        let (_, _, _, _, _) = (path, source, base, expect, attributes);
        Err(UfsError::new(
            UfsErrorKind::Unsupported,
            "the store copies no ranges of objects",
        ))
    }

    /// Deletes a file if it still has `fingerprint`; absent counts as done. Where the store compares by itself (S3's If-Match on
    /// DELETE, this process's own lock on posix), nobody else's object is ever deleted; elsewhere it is compared just before,
    /// and what somebody writes between the two requests is lost.
    ///
    /// # Errors
    /// [`UfsErrorKind::PreconditionFailed`] if it is another one now.
    async fn delete_if(&self, path: &[u8], fingerprint: &str) -> UfsResult<()> {
        match self.status(path).await {
            Err(error) if error.kind == UfsErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
            Ok(there) if there.fingerprint != fingerprint => {
                let why = format!("delete {}: it is another one now", path::show(path));
                return Err(UfsError::new(UfsErrorKind::PreconditionFailed, why));
            }
            Ok(_) => {}
        }
        let deleted = self.delete(&[Bytes::copy_from_slice(path)]).await;
        deleted.into_iter().collect()
    }

    /// Deletes files (not directories); absent ones count as done. One result per path, in order.
    async fn delete(&self, paths: &[Bytes]) -> Vec<UfsResult<()>>;

    /// Makes a directory (object stores: a marker) with these attributes; it may exist already. Parents are made.
    async fn mkdir(&self, path: &[u8], attributes: &UfsAttributes) -> UfsResult<()>;

    /// Removes an empty directory; absent counts as done.
    ///
    /// # Errors
    /// [`UfsErrorKind::NotEmpty`] if something is left in it.
    async fn rmdir(&self, path: &[u8]) -> UfsResult<()>;

    /// Makes a symbolic link.
    ///
    /// # Errors
    /// [`UfsErrorKind::Unsupported`] where the store has none; [`UfsErrorKind::AlreadyExists`].
    async fn symlink(&self, path: &[u8], target: &[u8], attributes: &UfsAttributes) -> UfsResult<()>;

    /// Renames a file, or a folder with all beneath it, replacing a file at the target. On stores without atomic rename:
    /// server-side copies, then deletes; calling it again after an interruption completes it: so an absent `from` with a
    /// `to` that is there counts as done, on every store. Returns the new status.
    async fn rename(&self, from: &[u8], to: &[u8]) -> UfsResult<UfsStatus>;

    /// As [`UnderFileSystem::rename`], object by object where the store has no folders: one that it refuses to copy or to delete
    /// stops no other and is told of; one that vanishes meanwhile is none of our business; one that somebody replaces
    /// after it was copied is copied again and never deleted unseen. What is at one of `kept` is neither moved nor replaced.
    /// `told` hears of copies that are known by other fingerprints.
    ///
    /// # Errors
    /// What is no refusal of single objects. What was moved by then has moved; the same call does the rest.
    async fn move_objects(
        &self,
        from: &[u8],
        to: &[u8],
        kept: &std::collections::HashSet<Bytes>,
        told: &dyn CopyListener,
    ) -> UfsResult<Moved> {
        let (_, _) = (kept, told);
        let status = self.rename(from, to).await?;
        Ok(Moved::whole(status))
    }

    /// Copies a file within the store, with all that it carries, if it still has `fingerprint`; what is at `to` is replaced. Returns the
    /// fingerprint of the copy: not of what somebody put there a moment later.
    ///
    /// # Errors
    /// [`UfsErrorKind::PreconditionFailed`] if it is another one now; [`UfsErrorKind::IsADirectory`] if there is a directory at
    /// `to`; [`UfsErrorKind::Unsupported`] where a rename is one atomic step, which is what to use there.
    async fn copy_file(&self, from: &[u8], fingerprint: &str, to: &[u8]) -> UfsResult<String> {
        let (_, _, _) = (from, fingerprint, to);
        let why = "the store renames, and copies nothing";
        Err(UfsError::new(UfsErrorKind::Unsupported, why))
    }

    /// Which store this is, for [`UnderFileSystem::import`]: between mounts that name the same one, a copy inside it may work. `None`: it
    /// copies nothing from other mounts. The store is not asked.
    fn store(&self) -> Option<String> {
        None
    }

    /// What another mount needs to copy a file from here, and what goes along with it, if the file still has `fingerprint`. None of its
    /// bytes is read.
    ///
    /// # Errors
    /// [`UfsErrorKind::PreconditionFailed`] or [`UfsErrorKind::BaseChanged`] if it is another one now; [`UfsErrorKind::Unsupported`]
    /// where there is nothing to tell.
    async fn export(&self, path: &[u8], fingerprint: &str) -> UfsResult<Export> {
        let (_, _) = (path, fingerprint);
        let why = "the store tells other mounts nothing of its files";
        Err(UfsError::new(UfsErrorKind::Unsupported, why))
    }

    /// Copies a file of another mount of the same store to `path`, inside the store: with the same bytes, all that it carries there, and
    /// these attributes; encrypted as this mount says. It happens whole or not at all, and only if the source is still what was
    /// exported. No byte comes through this process.
    ///
    /// # Errors
    /// [`UfsErrorKind::PreconditionFailed`] if `expect` does not hold, or the source is another one; [`UfsErrorKind::Unsupported`]
    /// if it is not the same store, or one that copies nothing between such mounts; [`UfsErrorKind::Denied`] also if these
    /// credentials may not read the source.
    async fn import(
        &self,
        export: &Export,
        path: &[u8],
        expect: &Expect,
        attributes: &UfsAttributes,
        how: Inside,
    ) -> UfsResult<UfsStatus> {
        let (_, _, _, _, _) = (export, path, expect, attributes, how);
        let why = "the store copies nothing from other mounts";
        Err(UfsError::new(UfsErrorKind::Unsupported, why))
    }

    /// Applies what is `Some` to a file, folder or link, and returns the fingerprint that it has now, which may be another: on posix
    /// with a new mtime, on object stores with each copy. Stores that keep none do nothing and return `None`. Nothing is
    /// changed but the file of `fingerprint` (empty: whatever is there).
    ///
    /// # Errors
    /// [`UfsErrorKind::PreconditionFailed`] if it is another object now; [`UfsErrorKind::NotFound`].
    async fn set_attributes(
        &self,
        path: &[u8],
        kind: FileKind,
        attributes: &UfsAttributes,
        fingerprint: &str,
    ) -> UfsResult<Option<String>>;

    /// Aborts uploads that this host began, that nobody works on any more, and that are older than `age`. Returns how many. Those of
    /// others, and those of which no record is left, stay: a bucket can have a rule that ends them.
    async fn abort_stale_uploads(&self, age: std::time::Duration) -> UfsResult<u64>;

    /// Capacity, where the store knows one.
    async fn space(&self) -> UfsResult<Option<UfsSpace>>;
}
