//! The files held: one version of each, found by inode.
//!
//! The folder is the index ([`layout`]): a file is looked up by its name, so a start takes no time at any size. What was
//! used lately is kept loaded (descriptors and bitmaps), a bounded number of files. **Invariant:** one [`Entry`] per
//! inode at a time; one that was removed is `dead`, and its holders finish on their descriptors.

mod bitmap;
mod checksums;
mod content;
mod damage;
mod durable;
mod entry;
mod evict;
mod fetch_buffer;
mod known;
mod label;
mod layout;
mod opening;
mod order;
mod passed;
mod scan;
mod sealing;
mod sidecar;
mod spill;
mod state;
mod verify;
mod writers;

pub(crate) use content::{Check, Local};
pub(crate) use entry::{Entry, chunks_of};
pub(crate) use evict::{Outlook, Promise, RoomPastUs, Space};
pub(crate) use layout::{Identity, Layout};
pub(crate) use order::Order;
pub(crate) use passed::Passing;
pub(crate) use sidecar::{Header, Mark, Sealed};
pub(crate) use state::{Stamp, View};
pub(crate) use verify::Reread;

use crate::options::Settings;
use crate::report::Reports;
use alluxio_common::descriptors;
use alluxio_common::metrics::{Counter, Metrics};
use alluxio_common::sync::Mutex;
use alluxio_proto::master::ReadSource;
use alluxio_proto::{ErrorKind, FsError, FsResult, InodeId};
use sidecar::LoadError;
use std::collections::HashMap;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

/// Loads of different files at once that do not wait for each other, about.
const LOAD_LOCKS: usize = 64;
/// Tries to open a file while there are no descriptors, and the pause that each adds to the next.
const SPARING_ROUNDS_MAX: u32 = 12;
const SPARING_PAUSE: Duration = Duration::from_millis(25);
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
    pub damages: damage::Damages,
    pub fetch_buffer: fetch_buffer::FetchBuffer,
    load_locks: Vec<Mutex<()>>,
    evicting: Mutex<()>,
    started: SystemTime,
    /// The last file that was loaded showed that descriptors are scarce.
    is_short: AtomicBool,
    /// The first scan has come to its end: all that is held is known.
    pub is_scanned: AtomicBool,
    /// Nothing was put aside since that was counted.
    is_aside_counted: AtomicBool,
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
            damages: damage::Damages::load(&layout),
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
            fetch_buffer: fetch_buffer::FetchBuffer::default(),
            load_locks: (0..LOAD_LOCKS).map(|_| Mutex::new(())).collect(),
            evicting: Mutex::new(()),
            started: SystemTime::now(),
            is_short: AtomicBool::new(false),
            is_scanned: AtomicBool::new(false),
            is_aside_counted: AtomicBool::new(false),
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
        if !self.layout.has_leases {
            return None;
        }
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
        let fact = self.known.take(inode);
        Ok(self.load_anew(inode, fact)?.map(|entry| self.insert(entry)))
    }

    /// The entry for who only looks at it: one that is not loaded does not take the place of another one. Blocks.
    pub fn peek(&self, inode: InodeId) -> FsResult<Option<Arc<Entry>>> {
        let _one = self.load_lock(inode).lock();
        if let Some(entry) = self.loaded.lock().get(&inode) {
            return Ok(Some(Arc::clone(entry)));
        }
        // An open one has state that is nowhere else.
        let entry = self.load_anew(inode, None)?;
        Ok(entry.map(|entry| {
            if entry.is_open() {
                self.insert(entry)
            } else {
                Arc::new(entry)
            }
        }))
    }

    /// From disk. The caller has the lock for loads of `inode`, and it is not loaded.
    fn load_anew(&self, inode: InodeId, fact: Option<known::Fact>) -> FsResult<Option<Entry>> {
        match self.sparing(|| Entry::load(&self.layout, inode), LoadError::is_for_descriptors) {
            Ok(Some(entry)) => {
                if fact.is_some_and(|fact| fact.is_of(&entry)) {
                    entry.set_verified();
                }
                Ok(Some(entry))
            }
            Ok(None) => Ok(None),
            Err(LoadError::Damaged | LoadError::Empty) => {
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
        match self.create_once(header.clone()) {
            // Others have filled the disk: what is cached gives way.
            Err(error) if error.kind == ErrorKind::NoSpace => {
                self.evict_for_create();
                self.create_once(header)
            }
            other => other,
        }
    }

    fn create_once(&self, header: Header) -> FsResult<Arc<Entry>> {
        let inode = InodeId(header.inode);
        let _one = self.load_lock(inode).lock();
        if self.loaded.lock().contains_key(&inode) {
            let why = format!("inode {inode} was opened by somebody else meanwhile");
            return Err(FsError::new(ErrorKind::Stale, why));
        }
        self.known.take(inode);
        let entry = self
            .sparing(|| Entry::create(&self.layout, header.clone()), descriptors::are_used_up)
            .map_err(|error| FsError::from_io(format!("make the local file of inode {inode}"), &error))?;
        let view = entry.view();
        self.space.add(inode, !view.pinned());
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
        self.is_aside_counted.store(false, Ordering::Relaxed);
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
            self.damages.forget(entry.inode);
        }
        current
    }

    fn insert(&self, entry: Entry) -> Arc<Entry> {
        let entry = Arc::new(entry);
        let mut loaded = self.loaded.lock();
        let is_short = descriptors::are_scarce(&entry.data);
        self.is_short.store(is_short, Ordering::Relaxed);
        if loaded.len() >= self.loaded_max || is_short {
            let surplus = loaded.len() / 8 + 1;
            self.unload_idle(&mut loaded, surplus);
        }
        loaded.insert(entry.inode, Arc::clone(&entry));
        entry
    }

    /// Unloads up to `surplus` entries. Nobody else has these, and clones are made under the lock: all they know is on disk. Open
    /// ones know more.
    fn unload_idle(&self, loaded: &mut HashMap<InodeId, Arc<Entry>>, mut surplus: usize) {
        loaded.retain(|_, e| {
            let keep = surplus == 0 || Arc::strong_count(e) > 1 || e.is_open();
            if !keep {
                surplus -= 1;
                self.known.keep(e);
            }
            keep
        });
    }

    /// Sees to it that a file may be opened for writing, which holds its descriptors until it is closed.
    ///
    /// # Errors
    /// `TooManyOpenFiles` if what is left is needed for what is open already.
    pub fn check_descriptors(&self) -> FsResult<()> {
        let are_short = || descriptors::are_nearly_used_up(&self.layout);
        if !self.is_short.load(Ordering::Relaxed) || !are_short() {
            return Ok(());
        }
        self.unload_idle(&mut self.loaded.lock(), usize::MAX);
        if are_short() {
            let why =
                "open a file for writing: this worker has as many files open as it may; raise its limit (`ulimit -n`)";
            return Err(FsError::new(ErrorKind::TooManyOpenFiles, why));
        }
        Ok(())
    }

    /// Opens files. Where there are no descriptors left, those of files that nobody uses are given up for it, and uploads and seals,
    /// which hold theirs for a moment, are waited for: 1.6 s at most. Blocks.
    fn sparing<T, E>(&self, open: impl Fn() -> Result<T, E>, is_for_descriptors: impl Fn(&E) -> bool) -> Result<T, E> {
        let mut round = 0;
        loop {
            match open() {
                Err(error) if is_for_descriptors(&error) && round < SPARING_ROUNDS_MAX => {
                    self.unload_idle(&mut self.loaded.lock(), usize::MAX);
                    std::thread::sleep(SPARING_PAUSE * round);
                    round += 1;
                }
                other => return other,
            }
        }
    }

    fn load_lock(&self, inode: InodeId) -> &Mutex<()> {
        &self.load_locks[(inode.get() % LOAD_LOCKS as u64) as usize]
    }

    fn put_damaged_aside(&self, inode: InodeId) -> FsResult<()> {
        let doing = |error| FsError::from_io(format!("put the damaged sidecar of inode {inode} aside"), &error);
        self.counters.put_aside.inc();
        self.is_aside_counted.store(false, Ordering::Relaxed);
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

    /// Accounts what was put aside, also what a person has taken away since (`again`). Blocks.
    pub fn measure_aside(&self, again: bool) {
        if !self.is_aside_counted.swap(true, Ordering::Relaxed) || again {
            self.space.set_aside_bytes(self.layout.aside_bytes());
        }
    }

    /// The open version that frees most if it is spilled, if that is `bytes_min` at least. Blocks.
    pub fn largest_to_spill(&self, bytes_min: u64) -> Option<Arc<Entry>> {
        let can = |entry: &Arc<Entry>| entry.can_spill() && !entry.spilling.is_put_off();
        let mut open = self.open_entries();
        open.retain(can);
        let sized = open.into_iter().map(|entry| (entry.disk_bytes(), entry));
        let largest = sized.max_by_key(|(bytes, _)| *bytes)?;
        (largest.0 >= bytes_min).then_some(largest.1)
    }

    /// Accounts what an entry takes on disk. Blocks, but briefly.
    pub fn measure(&self, entry: &Entry) {
        match crate::io::stat(&entry.data) {
            Ok(stat) => {
                entry.charged.store(stat.disk_bytes, Ordering::Relaxed);
                let view = entry.view();
                if !view.dead {
                    let bytes = stat.disk_bytes + entry.sidecar.disk_bytes();
                    self.space.count(entry.inode, bytes, !view.pinned(), true);
                    self.space.promote(entry.inode);
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
