//! Space: what is used, what may be, and which files go first when it runs short.
//!
//! Order of eviction is least recently used, exact while the process runs and by the data files' times after a start.
//! What may be the only copy ([`super::View::pinned`]) never goes, nor does a file whose descriptor somebody has: it would
//! free nothing, and who opens it next would get another file than those who have it. Whole files go, by unlinking.

use super::{Entry, Store};
use crate::io;
use alluxio_common::sync::Mutex;
use alluxio_proto::InodeId;
use lru::LruCache;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Files looked at in one search for space; more are pinned than evictable then, and the search gives up.
const CANDIDATES_MAX: usize = 4096;
/// Kept free in the file system whatever the quota says: others, and sidecars, need room too.
const FREE_BYTES_MIN: u64 = 64 * 1024 * 1024;
/// Of a small file system, this share instead.
const FREE_SHARE: u64 = 32;

/// How long a write that waited in vain stands for those after it: a program that writes on would wait anew each time.
const VAIN_FOR: Duration = Duration::from_secs(30);

/// Used bytes and order of eviction.
#[derive(Debug)]
pub(crate) struct Space {
    pub quota_bytes: u64,
    high_bytes: u64,
    low_bytes: u64,
    /// Free bytes of the file system below which nothing more is cached.
    pub reserve_bytes: u64,
    used_bytes: AtomicU64,
    /// Room that fetches under way have been promised and have not filled yet.
    promised_bytes: AtomicU64,
    /// When a write last waited for room that did not come.
    waited_in_vain: Mutex<Option<Instant>>,
    /// About 70 bytes for each file held.
    order: Mutex<LruCache<InodeId, u64>>,
}

/// Room for bytes that are on their way; what did not come of them is given back when this is dropped.
pub(crate) struct Promise {
    store: Arc<Store>,
    left_bytes: u64,
}

impl Promise {
    fn new(store: Arc<Store>, bytes: u64) -> Self {
        store.space.promised_bytes.fetch_add(bytes, Ordering::Relaxed);
        let left_bytes = bytes;
        Self { store, left_bytes }
    }
    /// So many of them came, and are charged by now.
    pub fn spend(&mut self, bytes: u64) {
        let spent = bytes.min(self.left_bytes);
        self.left_bytes -= spent;
        self.store.space.promised_bytes.fetch_sub(spent, Ordering::Relaxed);
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.spend(self.left_bytes);
    }
}

impl Space {
    pub fn new(quota_bytes: u64, file_system_bytes: u64, high_ratio: f64, low_ratio: f64) -> Self {
        let share = |ratio: f64| (quota_bytes as f64 * ratio) as u64;
        Self {
            quota_bytes,
            high_bytes: share(high_ratio),
            low_bytes: share(low_ratio),
            reserve_bytes: FREE_BYTES_MIN.min(file_system_bytes / FREE_SHARE),
            used_bytes: AtomicU64::new(0),
            promised_bytes: AtomicU64::new(0),
            waited_in_vain: Mutex::new(None),
            order: Mutex::new(LruCache::unbounded()),
        }
    }
    pub fn used_bytes(&self) -> u64 {
        self.used_bytes.load(Ordering::Relaxed)
    }
    /// A write waited for room, and none came.
    pub fn note_vain_wait(&self) {
        *self.waited_in_vain.lock() = Some(Instant::now());
    }
    /// Whether another one has waited in vain a moment ago.
    pub fn is_wait_vain(&self) -> bool {
        let last = *self.waited_in_vain.lock();
        last.is_some_and(|last| last.elapsed() < VAIN_FOR)
    }
    /// So many more bytes are held of `inode`.
    pub fn charge(&self, entry: &Entry, bytes: u64) {
        entry.charged.fetch_add(bytes, Ordering::Relaxed);
        self.used_bytes.fetch_add(bytes, Ordering::Relaxed);
        if let Some(held) = self.order.lock().get_mut(&entry.inode) {
            *held += bytes;
        }
    }
    /// Just so many bytes are held of `inode`, which is as good as used now if `touch`.
    pub fn set(&self, inode: InodeId, bytes: u64, touch: bool) {
        let mut order = self.order.lock();
        let before = match touch {
            true => order.put(inode, bytes),
            false => match order.peek_mut(&inode) {
                Some(held) => Some(std::mem::replace(held, bytes)),
                None => {
                    order.put(inode, bytes);
                    order.demote(&inode);
                    None
                }
            },
        };
        self.adjust(before.unwrap_or(0), bytes);
    }
    /// Nothing is held of `inode` any more.
    pub fn forget(&self, inode: InodeId) {
        if let Some(before) = self.order.lock().pop(&inode) {
            self.adjust(before, 0);
        }
    }
    /// It was used; noted once a second.
    pub fn touch(&self, entry: &Entry) {
        let now = now_s();
        if entry.used_s.swap(now, Ordering::Relaxed) != now {
            self.promote(entry.inode);
        }
    }
    /// It is used now.
    pub fn promote(&self, inode: InodeId) {
        self.order.lock().promote(&inode);
    }
    pub fn knows(&self, inode: InodeId) -> bool {
        self.order.lock().contains(&inode)
    }
    fn adjust(&self, before: u64, after: u64) {
        // Wrapping addition of a difference: never below zero, because every byte taken off was put on.
        self.used_bytes.fetch_add(after.wrapping_sub(before), Ordering::Relaxed);
    }
    /// The coldest files, coldest first.
    fn coldest(&self, count: usize) -> Vec<InodeId> {
        self.order
            .lock()
            .iter()
            .rev()
            .take(count)
            .map(|(inode, _)| *inode)
            .collect()
    }
}

fn now_s() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// Whether there will be room that is not here yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outlook {
    /// None that anybody knows of.
    Nothing,
    /// There are closed files that can be evicted once they are persisted.
    Closed,
    /// Such a file is on its way.
    Uploading,
}

impl Store {
    /// Sees to it that `bytes` more may be kept of `of`, evicting others if need be. False: they may not. Blocks.
    pub fn make_room(&self, bytes: u64, of: InodeId) -> bool {
        if self.has_room(bytes) {
            return true;
        }
        // What would not fit if all else were gone is not worth what it takes with it.
        let free = self.layout.free_bytes().unwrap_or(u64::MAX);
        if bytes <= free.saturating_add(self.space.used_bytes()) {
            self.evict_until(|store| store.has_room(bytes), Some(of));
        }
        self.has_room(bytes)
    }

    /// As [`Self::make_room`], for bytes that come later: others find their room taken until then. None: there is no room.
    pub fn promise_room(self: &Arc<Self>, bytes: u64, of: InodeId) -> Option<Promise> {
        // Promised first and looked at then: of two that come together none takes the other's room, at worst neither has it.
        let promise = Promise::new(Arc::clone(self), bytes);
        self.make_room(0, of).then_some(promise)
    }

    /// Whether `bytes` fit besides all that is here and all that was promised.
    fn has_room(&self, bytes: u64) -> bool {
        let coming = bytes.saturating_add(self.space.promised_bytes.load(Ordering::Relaxed));
        self.space.used_bytes().saturating_add(coming) <= self.space.quota_bytes && !self.disk_is_short(coming)
    }

    /// What a full disk may expect from files that are in no under-storage yet. Blocks.
    pub fn outlook(&self) -> Outlook {
        let of = |inode| match self.load(inode) {
            Ok(Some(entry)) => {
                let view = entry.view();
                let is_only_copy = view.pinned() && !view.header.open && view.header.length > 0;
                match view.uploading || entry.unconfirmed.load(Ordering::Relaxed) > 0 {
                    _ if view.dead => Outlook::Nothing,
                    true => Outlook::Uploading,
                    false if is_only_copy => Outlook::Closed,
                    false => Outlook::Nothing,
                }
            }
            Ok(None) | Err(_) => Outlook::Nothing,
        };
        let candidates = self.space.coldest(CANDIDATES_MAX).into_iter();
        candidates.map(of).max().unwrap_or(Outlook::Nothing)
    }

    /// Evicts down to the low watermark if the high one is passed or the disk is short. Blocks.
    pub fn evict_in_background(&self) {
        if self.space.used_bytes() > self.space.high_bytes {
            self.evict_until(|store| store.space.used_bytes() <= store.space.low_bytes, None);
        }
        if self.disk_is_short(0) {
            self.evict_until(|store| !store.disk_is_short(0), None);
        }
    }

    fn disk_is_short(&self, bytes: u64) -> bool {
        match self.layout.free_bytes() {
            Ok(free) => free < bytes.saturating_add(self.space.reserve_bytes),
            Err(error) => {
                tracing::warn!(%error, "ask the file system for its free space");
                false
            }
        }
    }

    /// A file never makes room for itself: what was just fetched would go for what comes behind it, for ever.
    fn evict_until(&self, enough: impl Fn(&Store) -> bool, but: Option<InodeId>) {
        // One at a time, or several would evict for the same bytes.
        let _one = self.evicting.lock();
        for inode in self.space.coldest(CANDIDATES_MAX) {
            if enough(self) {
                return;
            }
            if but == Some(inode) {
                continue;
            }
            match self.load(inode) {
                Ok(Some(entry)) => self.evict(&entry),
                Ok(None) => self.space.forget(inode),
                Err(error) => tracing::info!(%error, inode = inode.get(), "look at a file to evict"),
            }
        }
    }

    fn evict(&self, entry: &Arc<Entry>) {
        // A writer that just begins has the turn, or finds it dead afterwards and begins anew.
        let Ok(_turn) = entry.turn.try_lock() else { return };
        let view = entry.view();
        let is_only_copy = view.pinned() || view.uploading || entry.unconfirmed.load(Ordering::Relaxed) > 0;
        if is_only_copy || view.dead || io::is_open_elsewhere(&entry.data) {
            return;
        }
        match self.remove(entry) {
            Ok(()) => self.counters.evicted.inc(),
            Err(error) => tracing::warn!(%error, inode = entry.inode.get(), "evict a file"),
        }
    }
}
