//! The files held: one version of each, found by inode.
//!
//! The folder is the index ([`layout`]): a file is looked up by its name, so a start takes no time at any size. What was
//! used lately is kept loaded (descriptors and bitmaps), a bounded number of files. **Invariant:** one [`Entry`] per
//! inode at a time; one that was removed is `dead`, and its holders finish on their descriptors.

mod bitmap;
mod content;
mod entry;
mod evict;
mod fresh;
mod known;
mod layout;
mod scan;
mod sealing;
mod sidecar;

pub(crate) use content::{Check, Local};
pub(crate) use entry::{Entry, Stamp, View, chunks_of};
pub(crate) use evict::{Outlook, Promise, Space};
pub(crate) use layout::{Identity, Layout};
pub(crate) use sidecar::{Base, Header, Mark, Sealed};

use crate::options::Settings;
use crate::report::Reports;
use alluxio_common::metrics::{Counter, Metrics};
use alluxio_common::sync::Mutex;
use alluxio_proto::master::ReadSource;
use alluxio_proto::{ErrorKind, FsError, FsResult, InodeId};
use sidecar::LoadError;
use std::collections::HashMap;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

/// Loads of different files at once that do not wait for each other, about.
const LOAD_LOCKS: usize = 64;
/// Share of free space taken as quota if none is set, in percent.
const QUOTA_PERCENT: u64 = 90;

/// The files held.
pub(crate) struct Store {
    pub layout: Layout,
    pub space: Space,
    pub reports: Arc<Reports>,
    pub counters: Counters,
    loaded: Mutex<HashMap<InodeId, Arc<Entry>>>,
    loaded_max: usize,
    known: known::Known,
    pub fresh: fresh::Fresh,
    load_locks: Vec<Mutex<()>>,
    evicting: Mutex<()>,
    started: SystemTime,
}

/// What the store counts.
pub(crate) struct Counters {
    pub evicted: Counter,
    pub corrupt: Counter,
    pub put_aside: Counter,
}

impl Store {
    /// Opens a folder. Blocks.
    ///
    /// # Errors
    /// See [`Layout::open`].
    pub fn open(layout: Layout, settings: &Settings, reports: Arc<Reports>, metrics: &Metrics) -> FsResult<Arc<Self>> {
        let io = |error| FsError::from_io("ask the file system of the worker folder for its space", &error);
        let (free, total) = layout.free_and_total_bytes().map_err(io)?;
        let quota = settings
            .quota_bytes
            .unwrap_or(total.min(free + layout.held_bytes()) / 100 * QUOTA_PERCENT);
        Ok(Arc::new(Self {
            layout,
            space: Space::new(quota, total, settings.high_ratio, settings.low_ratio),
            reports,
            counters: Counters {
                evicted: metrics.counter("Worker.BlocksEvicted"),
                corrupt: metrics.counter("Worker.ChunksCorrupt"),
                put_aside: metrics.counter("Worker.FilesPutAside"),
            },
            loaded: Mutex::new(HashMap::new()),
            loaded_max: settings.files_loaded_max,
            known: known::Known::new(),
            fresh: fresh::Fresh::default(),
            load_locks: (0..LOAD_LOCKS).map(|_| Mutex::new(())).collect(),
            evicting: Mutex::new(()),
            started: SystemTime::now(),
        }))
    }

    /// The entry if it is loaded.
    pub fn get(&self, inode: InodeId) -> Option<Arc<Entry>> {
        let entry = self.loaded.lock().get(&inode).cloned()?;
        self.space.touch(&entry);
        Some(entry)
    }

    /// The data file of just that committed version, if it is not loaded but known to be complete and right. `None` says
    /// nothing.
    pub fn open_known(&self, inode: InodeId, source: &ReadSource) -> Option<File> {
        let file = self.known.open(&self.layout, inode, source)?;
        self.space.promote(inode);
        Some(file)
    }

    /// The entry, from disk if need be.
    pub async fn find(self: &Arc<Self>, inode: InodeId) -> FsResult<Option<Arc<Entry>>> {
        if let Some(entry) = self.get(inode) {
            return Ok(Some(entry));
        }
        let store = Arc::clone(self);
        blocking(move || store.load(inode)).await
    }

    /// The entry, from disk if need be. Blocks.
    pub fn load(&self, inode: InodeId) -> FsResult<Option<Arc<Entry>>> {
        let _one = self.load_lock(inode).lock();
        if let Some(entry) = self.loaded.lock().get(&inode) {
            return Ok(Some(Arc::clone(entry)));
        }
        self.known.forget(inode);
        match Entry::load(&self.layout, inode) {
            Ok(Some(entry)) => Ok(Some(self.insert(entry))),
            Ok(None) => Ok(None),
            Err(LoadError::Damaged) => {
                self.put_damaged_aside(inode)?;
                Ok(None)
            }
            Err(LoadError::Newer(format)) => {
                let why = format!("inode {inode} is held in sidecar format {format}, written by newer software");
                Err(FsError::new(ErrorKind::NotSupported, why))
            }
            Err(LoadError::Io(error)) => Err(FsError::from_io(
                format!("open the local file of inode {inode}"),
                &error,
            )),
        }
    }

    /// Makes a new entry; there must be none of that inode. Blocks.
    pub fn create(&self, header: Header) -> FsResult<Arc<Entry>> {
        let inode = InodeId(header.inode);
        let _one = self.load_lock(inode).lock();
        if self.loaded.lock().contains_key(&inode) {
            let why = format!("inode {inode} was opened by somebody else meanwhile");
            return Err(FsError::new(ErrorKind::Stale, why));
        }
        self.known.forget(inode);
        let entry = Entry::create(&self.layout, header)
            .map_err(|error| FsError::from_io(format!("make the local file of inode {inode}"), &error))?;
        self.space.set(inode, 0, true);
        Ok(self.insert(entry))
    }

    /// Removes an entry and its files. Blocks.
    pub fn remove(&self, entry: &Arc<Entry>) -> FsResult<()> {
        let _one = self.load_lock(entry.inode).lock();
        if !self.unload(entry) {
            return Ok(());
        }
        let header = entry.view().header;
        entry
            .remove()
            .map_err(|error| FsError::from_io(format!("remove the local file of inode {}", entry.inode), &error))?;
        // Of an open version nothing was ever reported.
        if !header.open {
            self.reports.set(entry.inode, header.version, 0);
        }
        Ok(())
    }

    /// Removes an entry of which nobody knows whether it is needed: its files go to `lost+found`. Blocks.
    pub fn put_aside(&self, entry: &Arc<Entry>, why: &str) -> FsResult<()> {
        let _one = self.load_lock(entry.inode).lock();
        if !self.unload(entry) {
            return Ok(());
        }
        tracing::warn!(inode = entry.inode.get(), why, "local file put aside into lost+found");
        self.counters.put_aside.inc();
        let version = entry.view().header.version;
        entry
            .put_aside(&self.layout)
            .map_err(|error| FsError::from_io(format!("put the local file of inode {} aside", entry.inode), &error))?;
        self.reports.set(entry.inode, version, 0);
        Ok(())
    }

    /// Whether it is still the entry of its inode.
    fn unload(&self, entry: &Arc<Entry>) -> bool {
        let mut loaded = self.loaded.lock();
        let current = loaded.get(&entry.inode).is_some_and(|e| Arc::ptr_eq(e, entry));
        if current {
            loaded.remove(&entry.inode);
            self.space.forget(entry.inode);
        }
        current
    }

    fn insert(&self, entry: Entry) -> Arc<Entry> {
        let entry = Arc::new(entry);
        let mut loaded = self.loaded.lock();
        if loaded.len() >= self.loaded_max {
            // Nobody else has these, and clones are made under this lock: all they know is on disk. Open ones know more.
            let mut surplus = loaded.len() / 8 + 1;
            loaded.retain(|_, e| {
                let keep = surplus == 0 || Arc::strong_count(e) > 1 || e.is_open();
                if !keep {
                    surplus -= 1;
                    self.known.keep(e, &self.layout);
                }
                keep
            });
        }
        loaded.insert(entry.inode, Arc::clone(&entry));
        entry
    }

    fn load_lock(&self, inode: InodeId) -> &Mutex<()> {
        &self.load_locks[(inode.get() % LOAD_LOCKS as u64) as usize]
    }

    fn put_damaged_aside(&self, inode: InodeId) -> FsResult<()> {
        let doing = |error| FsError::from_io(format!("put the damaged sidecar of inode {inode} aside"), &error);
        self.counters.put_aside.inc();
        let shard = self.layout.shard(inode);
        // Its generation is unknown: all data files of that inode go with it.
        for file in std::fs::read_dir(&shard).map_err(doing)? {
            let path = file.map_err(doing)?.path();
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .and_then(layout::Name::parse);
            if matches!(name, Some(layout::Name::Data(i, _) | layout::Name::Sidecar(i)) if i == inode) {
                let aside = self.layout.put_aside(&path).map_err(doing)?;
                tracing::warn!(file = %aside.display(), "sidecar or data file is damaged, put aside; it may be the only copy");
            }
        }
        Ok(())
    }

    /// Open entries that are loaded, for accounting of what is written past us.
    pub fn open_entries(&self) -> Vec<Arc<Entry>> {
        self.loaded.lock().values().filter(|e| e.is_open()).cloned().collect()
    }

    /// Accounts what an entry takes on disk. Blocks, but briefly.
    pub fn measure(&self, entry: &Entry) {
        match crate::io::stat(&entry.data) {
            Ok(stat) => {
                entry.charged.store(stat.disk_bytes, Ordering::Relaxed);
                if !entry.view().dead {
                    self.space.set(entry.inode, stat.disk_bytes, true);
                }
            }
            Err(error) => tracing::warn!(%error, inode = entry.inode.get(), "measure a local file"),
        }
    }
}

/// Runs what blocks on the pool for it.
///
/// # Errors
/// Those of `work`; `Internal` if it panicked.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> FsResult<T> + Send + 'static) -> FsResult<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => {
            let why = format!("work on a local file did not end: {error}");
            Err(FsError::new(ErrorKind::Internal, why))
        }
    }
}
