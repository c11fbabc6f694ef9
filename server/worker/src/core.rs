//! What the operations share.

use crate::fill::Filler;
use crate::options::Settings;
use crate::quick::quick;
use crate::store::{Entry, Store, blocking};
use crate::ufs_clients::UfsClients;
use alluxio_common::metrics::{Counter, Metrics};
use alluxio_proto::{ErrorKind, FsError, FsResult, InodeId};
use std::sync::Arc;

/// The parts of a worker that operations need.
pub(crate) struct Core {
    pub settings: Settings,
    pub store: Arc<Store>,
    pub filler: Arc<Filler>,
    pub clients: Arc<UfsClients>,
    pub counters: Counters,
}

/// What operations count.
pub(crate) struct Counters {
    pub bytes_read: Counter,
    pub bytes_written: Counter,
    pub bytes_uploaded: Counter,
}

impl Counters {
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            bytes_read: metrics.counter("Worker.BytesReadRemote"),
            bytes_written: metrics.counter("Worker.BytesWrittenAlluxio"),
            bytes_uploaded: metrics.counter("Worker.BytesWrittenUfs"),
        }
    }
}

impl Core {
    /// The entry that is open as `version`.
    ///
    /// # Errors
    /// `Stale` if there is none.
    pub async fn open_entry(&self, inode: u64, version: u64) -> FsResult<Arc<Entry>> {
        match self.store.find(InodeId(inode)).await? {
            Some(entry) if entry.view().open_as(version) => Ok(entry),
            _ => Err(stale(inode, version)),
        }
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
