//! An open inode: what changes only in turn, and what everybody may look at meanwhile.
//!
//! [`OpenState`] changes in transitions: opens, commits and the last close, which take turns over calls of master and worker. What
//! reads, writes, fsync and getattr need of it is a [`Snapshot`], which never changes; at the end of a transition another one
//! takes its place. So they wait for nobody: who works with a snapshot that is overtaken is told so by the worker
//! (`Stale`), and looks again.
//!
//! **Promises:** what a transition did is in the snapshot before anybody hears of its end.

use super::local::{LocalFile, Seen, Stamp};
use super::times::ShownTimes;
use alluxio_common::sync::{Mutex, RwLock};
use alluxio_proto::master::{ReadSource, WriteLease};
use alluxio_proto::types::{Attr, WorkerAddress, WriteType};
use alluxio_proto::worker::StatOpen;
use alluxio_proto::{ErrorKind, FsError, FsResult, WorkerApi};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Longest wait for what the local file of another host looks like.
const LOOK_TIME_MAX: Duration = Duration::from_secs(2);

/// The worker that has the open version.
pub(super) struct Home {
    pub worker: Arc<dyn WorkerApi>,
    pub address: WorkerAddress,
    /// It is on this host.
    pub is_local: bool,
}

/// What becomes of an open version between two commits, by whoever writes it.
#[derive(Default)]
pub(super) struct Marks {
    dirty: AtomicBool,
    durable: Mutex<Option<Stamp>>,
}

/// A write that may change something until it ends, however it does.
pub(super) struct Writing<'a>(&'a Marks);

/// The mark of what a seal is to take along; put back unless it did.
pub(super) struct Taken {
    marks: Arc<Marks>,
    is_back_due: bool,
}

impl Marks {
    /// Something was written through the daemon since the last commit.
    pub fn is_dirty(&self) -> bool {
        self.dirty.load(Ordering::Acquire)
    }

    pub fn set_dirty(&self) {
        self.dirty.store(true, Ordering::Release);
    }

    /// Begins a write. The mark is set at its end: one that a commit has taken along before it ended is committed once more.
    pub fn writing(&self) -> Writing<'_> {
        Writing(self)
    }

    /// Takes the mark off, before the seal: who writes after it sets it again.
    pub fn take(self: &Arc<Self>) -> Taken {
        Taken {
            is_back_due: self.dirty.swap(false, Ordering::AcqRel),
            marks: Arc::clone(self),
        }
    }

    /// As of the last fsync.
    pub fn durable(&self) -> Option<Stamp> {
        *self.durable.lock()
    }

    pub fn set_durable(&self, stamp: Stamp) {
        *self.durable.lock() = Some(stamp);
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.0.set_dirty();
    }
}

impl Taken {
    /// It is sealed.
    pub fn done(mut self) {
        self.is_back_due = false;
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if self.is_back_due {
            self.marks.set_dirty();
        }
    }
}

/// The open version, from the first writer of this mount to the last.
pub(super) struct WriteState {
    pub version: u64,
    pub home: Arc<Home>,
    pub write_type: WriteType,
    pub writers: u32,
    /// As of the last commit, or of the opening of a file that keeps its content; `None`: never committed.
    pub committed: Option<Stamp>,
    /// What it looked like when it was opened.
    pub opened: Stamp,
    /// Of a file that was made by this opening and never committed: what it looked like then.
    pub as_created: Option<Stamp>,
    /// The master's mtime of a file that was never committed, which stays as long as nothing is written.
    pub created_ns: i64,
    /// Its home knows that it was closed while it was as `as_created` says.
    pub closed_empty: bool,
    /// Its home was asked to seal it, and the master has not said that it is committed.
    pub is_half_committed: bool,
    pub marks: Arc<Marks>,
    /// It was opened for reading and writing, without which nobody can map it for writing.
    pub may_be_mapped: bool,
    /// The master knows that it is mapped and that nobody has it open.
    pub known_mapped: bool,
    /// As [`alluxio_proto::worker::OpenedFile::watched`].
    pub is_watched: bool,
    pub times: Arc<Mutex<ShownTimes>>,
}

/// State of an open inode. Held over calls of the worker, so that opens, commits and the last close take turns.
#[derive(Default)]
pub(super) struct OpenState {
    /// Opens by handle, of any kind.
    pub opens: u32,
    /// Opens for reading that the master knows of, by their names.
    pub master_opens: Vec<u64>,
    /// Set: all opens pass through to it.
    pub local: Option<Arc<LocalFile>>,
    pub source: Arc<ReadSource>,
    /// mtime of what is committed, as far as it was heard of.
    pub mtime_ns: i64,
    /// What was written here is committed and closed since `source` was told: the master knows the newer one.
    pub source_is_old: bool,
    /// The version is being written by another mount: its home serves reads of it.
    pub foreign_lease: Option<Arc<WriteLease>>,
    pub write: Option<WriteState>,
    /// Another mount has written what is committed, so that what the kernel has cached is not true.
    pub pages_are_old: bool,
    /// Grows when the data becomes another file's: what was read before must not be continued.
    pub epoch: u64,
}

impl OpenState {
    /// Reads of those who have it open are of whatever is committed now, not of the version that they opened.
    pub fn follows(&self) -> bool {
        self.foreign_lease.is_some() || self.source_is_old || self.source.version == 0
    }

    /// The local file goes with the last open, and with it the inode's way of IO.
    pub fn drop_unused(&mut self) {
        if self.opens == 0 && self.write.is_none() {
            self.local = None;
        }
    }

    fn check(&self, before: &Snapshot) {
        debug_assert!(
            self.local.is_none() || self.opens > 0 || self.write.is_some(),
            "a local file goes with the last open"
        );
        debug_assert!(
            self.write.is_none() || self.foreign_lease.is_none(),
            "what is written here is not written elsewhere"
        );
        debug_assert!(
            self.write.as_ref().is_none_or(|write| write.writers <= self.opens),
            "who writes has it open"
        );
        debug_assert!(
            self.write
                .as_ref()
                .is_none_or(|write| self.local.is_none() || write.home.is_local),
            "the kernel writes to files of this host"
        );
        debug_assert!(
            self.master_opens.len() <= self.opens as usize,
            "opens of the master are ours"
        );
        debug_assert!(self.epoch >= before.epoch, "data does not become what it was");
    }
}

/// What is written here, for who writes, and for getattr.
pub(super) struct Written {
    pub home: Arc<Home>,
    pub version: u64,
    pub write_type: WriteType,
    /// As [`WriteState::committed`].
    pub committed: Option<Stamp>,
    /// As [`WriteState::as_created`].
    as_created: Option<Stamp>,
    pub marks: Arc<Marks>,
    /// As [`WriteState::is_watched`].
    pub is_watched: bool,
    times: Arc<Mutex<ShownTimes>>,
}

impl Written {
    pub fn of(write: &WriteState) -> Self {
        Written {
            home: Arc::clone(&write.home),
            version: write.version,
            write_type: write.write_type,
            committed: write.committed,
            as_created: write.as_created,
            marks: Arc::clone(&write.marks),
            is_watched: write.is_watched,
            times: Arc::clone(&write.times),
        }
    }

    /// Attributes with what the local file knows better. While it is as it was when it was opened or committed, that is
    /// nothing: its own times are those of the download, or of the opening.
    fn overlay(&self, attr: &mut Attr, now: &Seen) {
        let mut times = self.times.lock();
        if self.committed.or(self.as_created) == Some(now.stamp) {
            times.see_committed(now.stamp, now.ctime_ns, (attr.mtime_ns, attr.ctime_ns));
        } else {
            times.see_master(attr.ctime_ns);
            times.see_local(now.stamp, now.ctime_ns);
            (attr.size, attr.hole_bytes) = (now.stamp.length, now.hole_bytes);
        }
        (attr.mtime_ns, attr.ctime_ns) = times.shown();
    }
}

/// What there is to know of an open inode between two transitions; see the fields of [`OpenState`].
#[derive(Default)]
pub(super) struct Snapshot {
    pub local: Option<Arc<LocalFile>>,
    pub written: Option<Written>,
    pub foreign_lease: Option<Arc<WriteLease>>,
    pub source: Arc<ReadSource>,
    pub source_is_old: bool,
    pub epoch: u64,
}

impl Snapshot {
    fn of(state: &OpenState) -> Self {
        Snapshot {
            local: state.local.clone(),
            written: state.write.as_ref().map(Written::of),
            foreign_lease: state.foreign_lease.clone(),
            source: Arc::clone(&state.source),
            source_is_old: state.source_is_old,
            epoch: state.epoch,
        }
    }

    /// Reads have to ask the master first what is committed.
    pub fn is_old(&self) -> bool {
        self.source_is_old && self.written.is_none() && self.foreign_lease.is_none()
    }
}

pub(super) struct OpenInode {
    /// Inode.
    pub id: u64,
    /// The kernel's node that stands for its data.
    pub node: u64,
    state: tokio::sync::Mutex<OpenState>,
    snapshot: RwLock<Arc<Snapshot>>,
}

/// The turn to change an open inode. At its end, at the latest, all see what it did.
pub(super) struct Transition<'a> {
    open: &'a OpenInode,
    state: tokio::sync::MutexGuard<'a, OpenState>,
    is_changed: bool,
}

impl OpenInode {
    pub fn new(id: u64, node: u64) -> Self {
        OpenInode {
            id,
            node,
            state: tokio::sync::Mutex::default(),
            snapshot: RwLock::default(),
        }
    }

    /// As it is now; does not wait for a transition.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot.read())
    }

    /// Waits for the turn to change it.
    pub async fn transition(&self) -> Transition<'_> {
        Transition {
            open: self,
            state: self.state.lock().await,
            is_changed: false,
        }
    }

    /// Length and mtime of a file that is written here are those of its local file, and so is ctime once it changed.
    pub async fn patch(&self, attr: &mut Attr) -> FsResult<()> {
        let now = self.snapshot();
        let Some(written) = &now.written else { return Ok(()) };
        if let Some(local) = &now.local {
            written.overlay(attr, &local.look()?);
            return Ok(());
        }
        let request = StatOpen {
            inode: self.id,
            version: written.version,
        };
        // Whoever lists a folder holds it up for those who change it: that must not take as long as a worker may be away.
        let asked = tokio::time::timeout(LOOK_TIME_MAX, written.home.worker.ask(request));
        match asked.await.unwrap_or_else(|_| Err(away(self.id))) {
            Ok(stat) => {
                let stamp = Stamp {
                    length: stat.length,
                    mtime_ns: stat.mtime_ns,
                };
                let seen = Seen {
                    stamp,
                    ctime_ns: stat.ctime_ns,
                    hole_bytes: stat.hole_bytes,
                };
                written.overlay(attr, &seen);
                Ok(())
            }
            // Sealed meanwhile: the master's attributes are the right ones.
            Err(error) if error.kind == ErrorKind::Stale => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn away(inode: u64) -> FsError {
    let why = format!("look at the local file of inode {inode}: its worker says nothing within {LOOK_TIME_MAX:?}");
    FsError::new(ErrorKind::Timeout, why)
}

impl Transition<'_> {
    /// Shows what was done so far, for who must see it before the transition ends.
    pub fn publish(&mut self) {
        if std::mem::take(&mut self.is_changed) {
            let next = Snapshot::of(&self.state);
            let mut snapshot = self.open.snapshot.write();
            self.state.check(&snapshot);
            *snapshot = Arc::new(next);
        }
    }
}

impl Deref for Transition<'_> {
    type Target = OpenState;

    fn deref(&self) -> &OpenState {
        &self.state
    }
}

impl DerefMut for Transition<'_> {
    fn deref_mut(&mut self) -> &mut OpenState {
        self.is_changed = true;
        &mut self.state
    }
}

impl Drop for Transition<'_> {
    fn drop(&mut self) {
        self.publish();
    }
}

/// One open file.
pub(super) struct Handle {
    pub inode: Arc<OpenInode>,
    pub writable: bool,
    pub append: bool,
    /// Its reads do not move atime.
    pub noatime: bool,
    /// A program runs from it.
    pub executes: bool,
    /// Identifies the sequence of reads, for read-ahead.
    pub stream: u64,
    pub epoch: u64,
    /// Length of the version that was opened, as the kernel knows it.
    pub length: u64,
    pub has_read: AtomicBool,
}

impl Handle {
    /// Remembers that data was handed out, which ties the handle to its version. True: it is the first time.
    pub fn note_read(&self) -> bool {
        !self.has_read.swap(true, Ordering::Relaxed)
    }
}
