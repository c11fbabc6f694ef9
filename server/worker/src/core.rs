//! What the operations share.

use crate::fill::Filler;
use crate::guard::Guard;
use crate::options::Settings;
use crate::quick::quick;
use crate::scrub::Unverified;
use crate::spill::Spiller;
use crate::store::{Entry, Store, blocking};
use crate::ufs_clients::UfsClients;
use alluxio_common::metrics::{Counter, Metrics};
use alluxio_common::secret::SecretFile;
use alluxio_proto::master::WriteLease;
use alluxio_proto::{ErrorKind, FsError, FsResult, InodeId};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The parts of a worker that operations need.
pub(crate) struct Core {
    pub settings: Settings,
    pub store: Arc<Store>,
    pub filler: Arc<Filler>,
    pub clients: Arc<UfsClients>,
    pub secret: Arc<SecretFile>,
    /// As in [`alluxio_proto::types::WorkerAddress::nonce`].
    pub nonce: u64,
    pub counters: Counters,
    pub spiller: Spiller,
    /// None where the kernel announces nothing.
    pub guard: Option<Arc<Guard>>,
    /// What was opened before all of it was found right.
    pub unverified: Unverified,
}

/// What operations count.
pub(crate) struct Counters {
    pub bytes_read: Counter,
    pub bytes_written: Counter,
    pub bytes_uploaded: Counter,
    pub bytes_copied: Counter,
    pub announced: Counter,
}

impl Counters {
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            bytes_read: metrics.counter("Worker.BytesReadRemote"),
            bytes_written: metrics.counter("Worker.BytesWrittenAlluxio"),
            bytes_uploaded: metrics.counter("Worker.BytesWrittenUfs"),
            bytes_copied: metrics.counter("Worker.BytesCopiedBetweenMounts"),
            announced: metrics.counter("Worker.AccessesAnnounced"),
        }
    }
}

/// # Errors
/// `DataLost` for an open version of another boot.
pub(crate) fn refuse_of_another_boot(entry: &Entry) -> FsResult<()> {
    if !entry.is_forsaken.load(Ordering::Relaxed) {
        return Ok(());
    }
    let why = format!(
        "inode {} was open for writing here when the operating system of this worker was started again: what was written and \
         not synced may be gone; close it and open it again",
        entry.inode
    );
    Err(FsError::new(ErrorKind::DataLost, why))
}

impl Core {
    /// The entry that is open as `version`.
    ///
    /// # Errors
    /// `Stale` if there is none. `DataLost` if the operating system was started again under its writers: what they wrote and did
    /// not sync may be gone, so nothing may be added to it, or sealed, until it is recovered.
    pub async fn open_entry(&self, inode: u64, version: u64) -> FsResult<Arc<Entry>> {
        match self.store.find(InodeId(inode)).await? {
            Some(entry) if entry.view().open_as(version) => {
                refuse_of_another_boot(&entry)?;
                Ok(entry)
            }
            _ => Err(stale(inode, version)),
        }
    }
}

impl Core {
    /// Whether the master made this lease, and for us. Who merely knows a number opens nothing for writing.
    ///
    /// # Errors
    /// `NotPermitted`.
    pub fn check_lease(&self, inode: InodeId, lease: &WriteLease) -> FsResult<()> {
        let is_home = lease
            .home
            .as_ref()
            .is_some_and(|home| home.worker_id == self.clients.worker_id());
        if is_home && self.secret.get()?.knows_lease(inode, lease) {
            return Ok(());
        }
        let why = format!(
            "open inode {inode} for writing as version {}: the lease is not one that the master gave for this worker; open the \
             file at the master first",
            lease.version
        );
        Err(FsError::new(ErrorKind::NotPermitted, why))
    }
}

/// There is no such open version here.
pub(crate) fn stale(inode: u64, version: u64) -> FsError {
    let why = format!("inode {inode} is not open as version {version} on this worker; open it again");
    FsError::new(ErrorKind::Stale, why)
}

/// Runs a blocking operation on a local file.
pub(crate) async fn on_file<T: Send + 'static>(
    entry: &Arc<Entry>,
    doing: &'static str,
    work: impl FnOnce(&Entry) -> std::io::Result<T> + Send + 'static,
) -> FsResult<T> {
    blocking(named(entry, doing, work)).await
}

/// As [`on_file`], for work that takes no longer than a hop to another thread and back unless the disk is slow.
pub(crate) async fn quickly_on_file<T: Send + 'static>(
    entry: &Arc<Entry>,
    doing: &'static str,
    work: impl FnOnce(&Entry) -> std::io::Result<T> + Send + 'static,
) -> FsResult<T> {
    quick(named(entry, doing, work)).await
}

fn named<T, W: FnOnce(&Entry) -> std::io::Result<T>>(
    entry: &Arc<Entry>,
    doing: &'static str,
    work: W,
) -> impl FnOnce() -> FsResult<T> + use<T, W> {
    let entry = Arc::clone(entry);
    move || {
        work(&entry)
            .map_err(|error| FsError::from_io(format!("{doing} the local file of inode {}", entry.inode), &error))
    }
}
