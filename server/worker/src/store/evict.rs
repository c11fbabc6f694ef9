//! Space: what is used, what may be, and which files go first when it runs short.
//!
//! Order of eviction is least recently used, kept over a restart (`order`). What may be the only copy
//! ([`super::View::pinned`]) never goes, nor does a file whose descriptor somebody has: it would free nothing, and who opens
//! it next would get another file than those who have it. What cannot go is kept apart, so that it is not looked at again and
//! again; what is known to change that brings it back, and a few of them are tried anew every second. Whole files go, by
//! unlinking.

use super::order::{Held, Order};
use super::{Entry, Store, View};
use alluxio_common::sync::Mutex;
use alluxio_proto::InodeId;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Files looked at in one search for space; the next search goes on behind them.
const LOOKS_MAX: usize = 4096;
/// Kept free in the file system whatever the quota says: others, and sidecars, need room too.
const FREE_BYTES_MIN: u64 = 64 * 1024 * 1024;
/// Of a small file system, this share instead.
const FREE_SHARE: u64 = 32;
/// Below this share of the file system new files are written through the worker, which can make them wait; with descriptors
/// they would fill the disk before anything is uploaded.
const AMPLE_SHARE: u64 = 20;
/// But no more than this is kept for writers.
const AMPLE_BYTES_MAX: u64 = 16 << 30;
/// A file that is being written is spilled when it takes so much: each spill makes the store copy what was spilled before.
const SPILL_BYTES: u64 = 64 * 1024 * 1024;
/// Of a small file system, this share instead.
const SPILL_SHARE: u64 = 4;

/// Above that, the room in which each write past the worker is announced: what writers may fill, at 4 GiB/s, between two looks at
/// the disk (100 ms) and as long as a busy machine may let the next look wait (150 ms). A smaller disk can be filled before
/// anybody looks, so there it is always so.
const ALERT_BYTES: u64 = 1 << 30;
/// And so much more above which it is not any more.
const ALERT_MARGIN_BYTES: u64 = 256 << 20;
/// For that what is only cached gives way, as long as this share of the file system is left to it.
const RELIEF_SHARE: u64 = 2;

/// How long a write that waited in vain stands for those after it: a program that writes on would wait anew each time.
const VAIN_FOR: Duration = Duration::from_secs(30);

/// What a new file takes beside its data.
const SIDECAR_BYTES: u64 = 8192;

/// Used bytes and order of eviction.
#[derive(Debug)]
pub(crate) struct Space {
    pub quota_bytes: u64,
    high_bytes: u64,
    low_bytes: u64,
    /// Free bytes of the file system below which nothing more is cached.
    pub reserve_bytes: u64,
    /// Free bytes of the file system below which new files get no descriptor.
    ample_bytes: u64,
    /// What an open file takes at least before it is spilled.
    pub spill_bytes: u64,
    /// Free bytes of the file system below which what is written past us is announced, and held up if it must be.
    alert_bytes: u64,
    /// Free bytes of the file system that what is only cached makes for those who write past us.
    relief_bytes: u64,
    used_bytes: AtomicU64,
    /// What `lost+found` takes.
    aside_bytes: AtomicU64,
    /// Room that fetches under way have been promised and have not filled yet.
    promised_bytes: AtomicU64,
    /// Uploads under way, until the master has heard of them.
    uploads: AtomicUsize,
    /// When a write last waited for room that did not come.
    waited_in_vain: Mutex<Option<Instant>>,
    pub order: Mutex<Order>,
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
            spill_bytes: SPILL_BYTES.min(file_system_bytes / SPILL_SHARE),
            ample_bytes: ample_bytes(file_system_bytes),
            alert_bytes: ample_bytes(file_system_bytes) + ALERT_BYTES,
            relief_bytes: relief_bytes(file_system_bytes),
            used_bytes: AtomicU64::new(0),
            aside_bytes: AtomicU64::new(0),
            promised_bytes: AtomicU64::new(0),
            uploads: AtomicUsize::new(0),
            waited_in_vain: Mutex::new(None),
            order: Mutex::new(Order::default()),
        }
    }
    /// Bytes held, sidecars and what was put aside included.
    pub fn used_bytes(&self) -> u64 {
        self.used_bytes.load(Ordering::Relaxed) + self.aside_bytes.load(Ordering::Relaxed)
    }
    /// So much was put aside.
    pub fn set_aside_bytes(&self, bytes: u64) {
        self.aside_bytes.store(bytes, Ordering::Relaxed);
    }
    /// An upload begins, or the master has heard of its end.
    pub fn count_upload(&self, begins: bool) {
        match begins {
            true => self.uploads.fetch_add(1, Ordering::Relaxed),
            false => self.uploads.fetch_sub(1, Ordering::Relaxed),
        };
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
    /// So many more bytes are held of `inode`. What the scan has not counted yet it counts as a whole.
    pub fn charge(&self, entry: &Entry, bytes: u64) {
        entry.charged.fetch_add(bytes, Ordering::Relaxed);
        if let Some(held) = self.order.lock().held_mut(entry.inode).filter(|held| held.is_counted) {
            held.bytes += bytes;
            self.used_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
    }
    /// A new file.
    pub fn add(&self, inode: InodeId, can_go: bool) {
        self.count(inode, SIDECAR_BYTES, can_go, true);
    }
    /// Just so many bytes are held of `inode`. One that is new here counts as used now if `is_hot`, otherwise as the coldest.
    pub fn count(&self, inode: InodeId, bytes: u64, can_go: bool, is_hot: bool) {
        let held = Held {
            bytes,
            is_counted: true,
        };
        let before = self.order.lock().set(inode, held, can_go, is_hot);
        let before = before
            .filter(|before| before.is_counted)
            .map_or(0, |before| before.bytes);
        // Wrapping addition of a difference: never below zero, because every byte taken off was put on.
        self.used_bytes.fetch_add(bytes.wrapping_sub(before), Ordering::Relaxed);
    }
    /// Nothing is held of `inode` any more.
    pub fn forget(&self, inode: InodeId) {
        let before = self.order.lock().remove(inode).filter(|before| before.is_counted);
        self.used_bytes
            .fetch_sub(before.map_or(0, |before| before.bytes), Ordering::Relaxed);
    }
    /// It cannot go from now on: it is, or may become, the only copy.
    pub fn pin(&self, inode: InodeId) {
        self.order.lock().park(inode);
    }
    /// It may be able to go from now on.
    pub fn unpin(&self, inode: InodeId) {
        self.order.lock().unpark(inode);
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
        self.order.lock().promote(inode);
    }
    fn room_past_us(&self, free: u64) -> RoomPastUs {
        if free < self.ample_bytes.max(self.reserve_bytes) {
            return RoomPastUs::Little;
        }
        match free.checked_sub(self.alert_bytes) {
            None | Some(0) => RoomPastUs::Alert,
            Some(left) => RoomPastUs::Ample(left),
        }
    }
    /// Whether its bytes are counted.
    pub fn has_counted(&self, inode: InodeId) -> bool {
        self.order.lock().held_mut(inode).is_some_and(|held| held.is_counted)
    }
}

fn ample_bytes(file_system_bytes: u64) -> u64 {
    (file_system_bytes / AMPLE_SHARE).min(AMPLE_BYTES_MAX)
}

fn relief_bytes(file_system_bytes: u64) -> u64 {
    let wanted = (ALERT_BYTES + ALERT_MARGIN_BYTES).min(file_system_bytes / RELIEF_SHARE);
    ample_bytes(file_system_bytes) + wanted
}

fn now_s() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// What the disk has for those who write past this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RoomPastUs {
    /// So little that who opens a file gets no descriptor.
    Little,
    /// It can be full before anybody looks: each write is announced.
    Alert,
    /// So many bytes may be written until then.
    Ample(u64),
}

impl RoomPastUs {
    /// Whether files are armed that are opened now.
    pub fn is_alert(self) -> bool {
        !matches!(self, Self::Ample(_))
    }

    /// Whether those that are armed stay so.
    pub fn is_near_alert(self) -> bool {
        match self {
            Self::Little | Self::Alert => true,
            Self::Ample(left) => left < ALERT_MARGIN_BYTES,
        }
    }
}

/// Whether there will be room that is not here yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outlook {
    /// None that anybody knows of.
    Nothing,
    /// There are committed files that can be evicted once they are persisted.
    Closed,
    /// Such a file is on its way.
    Uploading,
}

/// Whether it has bytes that may be on their way to the under-storage: it is closed, or open and committed, as between a close and the
/// moment in which the mount lets go.
fn is_committed(view: &View) -> bool {
    let header = &view.header;
    match (header.open, &header.sealed) {
        (false, _) => header.length > 0,
        (true, Some(sealed)) => sealed.ufs.is_none() && sealed.length > 0,
        (true, None) => false,
    }
}

impl Store {
    /// Sees to it that `bytes` more may be kept of `of`, evicting others if need be. False: they may not. Blocks.
    pub fn make_room(&self, bytes: u64, of: InodeId) -> bool {
        if self.has_room(bytes) {
            return true;
        }
        if !self.is_beyond(bytes) {
            self.evict_until(|store| store.has_room(bytes), Some(of));
        }
        self.has_room(bytes)
    }

    /// Whether so much would not fit if all that is here were gone: then it is not worth what it takes with it.
    pub fn is_beyond(&self, bytes: u64) -> bool {
        let free = self.layout.free_bytes().unwrap_or(u64::MAX);
        bytes > free.saturating_add(self.space.used_bytes())
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
                let is_only_copy = view.pinned() && is_committed(&view);
                match view.uploading || entry.unconfirmed.load(Ordering::Relaxed) > 0 {
                    _ if view.dead => Outlook::Nothing,
                    true => Outlook::Uploading,
                    false if is_only_copy => Outlook::Closed,
                    false => Outlook::Nothing,
                }
            }
            Ok(None) | Err(_) => Outlook::Nothing,
        };
        if self.space.uploads.load(Ordering::Relaxed) > 0 {
            return Outlook::Uploading;
        }
        if !self.is_scanned.load(Ordering::Relaxed) {
            // What can go is not known yet.
            return Outlook::Closed;
        }
        let parked = self.space.order.lock().parked(LOOKS_MAX);
        let found = parked.into_iter().map(of).find(|outlook| *outlook > Outlook::Nothing);
        found.unwrap_or(Outlook::Nothing)
    }

    /// Evicts down to the low watermark if the high one is passed or the disk is short. Blocks.
    pub fn evict_in_background(&self) {
        if self.space.used_bytes() > self.space.high_bytes {
            self.evict_until(|store| store.space.used_bytes() <= store.space.low_bytes, None);
        }
        if !self.is_roomy() {
            self.evict_until(Store::is_roomy, None);
        }
    }

    /// Whether the disk has so little left that nothing more is cached after `bytes`.
    pub fn disk_is_short(&self, bytes: u64) -> bool {
        self.has_less_than(bytes.saturating_add(self.space.reserve_bytes))
    }

    /// Whether, after `bytes` more, there is a half of what is kept for names and sidecars.
    pub fn has_some_left(&self, bytes: u64) -> bool {
        !self.has_less_than(bytes.saturating_add(self.space.reserve_bytes / 2))
    }

    /// Whether writers may fill the disk without anybody looking.
    pub fn is_roomy(&self) -> bool {
        !self.has_less_than(self.space.ample_bytes.max(self.space.reserve_bytes))
    }

    /// What the disk has for those who write past us.
    pub fn room_past_us(&self) -> RoomPastUs {
        match self.layout.free_bytes() {
            Ok(free) => self.space.room_past_us(free),
            Err(error) => {
                tracing::warn!(%error, "ask the file system for its free space");
                RoomPastUs::Ample(u64::MAX)
            }
        }
    }

    /// Whether what is only cached need not give way to those who write past us.
    pub fn is_relieved(&self) -> bool {
        !self.has_less_than(self.space.relief_bytes)
    }

    fn has_less_than(&self, bytes: u64) -> bool {
        match self.layout.free_bytes() {
            Ok(free) => free < bytes,
            Err(error) => {
                tracing::warn!(%error, "ask the file system for its free space");
                false
            }
        }
    }

    /// Makes so much room that what is written past us need not be announced, nor go on being.
    pub fn evict_before_alert(&self) {
        self.evict_until(Store::is_relieved, None);
    }

    /// Makes room for the names and the sidecar of a new file, and for the first of its bytes.
    pub fn evict_for_create(&self) {
        self.evict_until(|store| !store.disk_is_short(0), None);
    }

    /// Makes room on a disk that has none at all; what lies in store for this is given up.
    pub fn make_last_room(&self) {
        self.evict_until(|store| !store.disk_is_short(0), None);
        self.layout.give_up_ballast();
    }

    /// A file never makes room for itself: what was just fetched would go for what comes behind it, for ever.
    fn evict_until(&self, enough: impl Fn(&Store) -> bool, but: Option<InodeId>) {
        // One at a time, or several would evict for the same bytes.
        let _one = self.evicting.lock();
        let mut has_tried_again = false;
        for _ in 0..LOOKS_MAX {
            if enough(self) {
                return;
            }
            let coldest = self.space.order.lock().coldest(but);
            let Some(inode) = coldest else {
                // Those that could not go when they were looked at last.
                if has_tried_again || !self.space.order.lock().try_again() {
                    return;
                }
                has_tried_again = true;
                continue;
            };
            match self.load(inode) {
                Ok(Some(entry)) if self.evict(&entry) => {}
                Ok(Some(_)) => self.space.pin(inode),
                Ok(None) => self.space.forget(inode),
                Err(error) => {
                    tracing::info!(%error, inode = inode.get(), "look at a file to evict");
                    self.space.pin(inode);
                }
            }
        }
    }

    /// False: it cannot go now.
    fn evict(&self, entry: &Arc<Entry>) -> bool {
        // A writer that just begins has the turn, or finds it dead afterwards and begins anew.
        let Ok(_turn) = entry.turn.try_lock() else { return false };
        let view = entry.view();
        let is_only_copy = view.pinned() || view.uploading || entry.unconfirmed.load(Ordering::Relaxed) > 0;
        let is_open = || self.layout.has_leases && entry.is_open_elsewhere();
        if is_only_copy || view.dead || is_open() {
            return false;
        }
        match self.remove(entry) {
            Ok(()) => self.counters.evicted.inc(),
            Err(error) => {
                tracing::warn!(%error, inode = entry.inode.get(), "evict a file");
                return false;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn space(file_system_bytes: u64) -> Space {
        Space::new(u64::MAX, file_system_bytes, 0.95, 0.7)
    }

    /// A disk that can be filled within two looks and the delay of a busy machine is never left alone, however empty it is.
    #[test]
    fn what_can_be_full_before_anybody_looks_is_always_announced() {
        for mib in [64, 300, 365, 1000] {
            let bytes = mib << 20;
            assert_eq!(space(bytes).room_past_us(bytes), RoomPastUs::Alert, "{mib} MiB");
        }
        // As much as that must be left, whatever the size.
        for gib in [4, 100, 10_000] {
            let space = space(gib * GIB);
            let line = ample_bytes(gib * GIB) + GIB;
            assert_eq!(space.room_past_us(line), RoomPastUs::Alert);
            assert_eq!(space.room_past_us(line + 1), RoomPastUs::Ample(1));
            assert_eq!(space.room_past_us(line - GIB - 1), RoomPastUs::Little);
            // What is only cached makes so much room that files are disarmed.
            assert!(!space.room_past_us(space.relief_bytes).is_near_alert());
        }
        // But never all of a small cache goes for that.
        let small = space(GIB);
        assert_eq!(small.relief_bytes, GIB / AMPLE_SHARE + GIB / 2);
    }
}
