//! The order in which files go when space runs short: those that can go by last use, and apart from them those that could not
//! when they were last looked at.

use super::layout::Layout;
use alluxio_common::checksum::crc32c;
use alluxio_common::crashsafe;
use alluxio_proto::InodeId;
use lru::LruCache;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Parked files that are tried again at a time, and how often.
const TRY_AGAIN_MAX: usize = 1024;
const TRY_AGAIN_PAUSE: Duration = Duration::from_secs(1);
const NAME: &str = "order";

/// What is known of one file, about 80 bytes for each file held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    pub bytes: u64,
    /// Only its place in the order is known, from before the start; the scan counts it.
    pub is_counted: bool,
}

/// Each file is in one of the two.
#[derive(Debug)]
pub(crate) struct Order {
    can_go: LruCache<InodeId, Held>,
    parked: LruCache<InodeId, Held>,
    tried_again: Option<Instant>,
}

impl Default for Order {
    fn default() -> Self {
        Self {
            can_go: LruCache::unbounded(),
            parked: LruCache::unbounded(),
            tried_again: None,
        }
    }
}

impl Order {
    /// What is known of a file; it stays where it is in the order.
    pub fn held_mut(&mut self, inode: InodeId) -> Option<&mut Held> {
        match self.can_go.peek_mut(&inode) {
            Some(held) => Some(held),
            None => self.parked.peek_mut(&inode),
        }
    }
    /// Notes what is held and answers what was. `can_go` and `is_hot` count for one that is new.
    pub fn set(&mut self, inode: InodeId, held: Held, can_go: bool, is_hot: bool) -> Option<Held> {
        if let Some(known) = self.held_mut(inode) {
            return Some(std::mem::replace(known, held));
        }
        let list = if can_go { &mut self.can_go } else { &mut self.parked };
        list.put(inode, held);
        if !is_hot {
            list.demote(&inode);
        }
        None
    }
    pub fn remove(&mut self, inode: InodeId) -> Option<Held> {
        self.can_go.pop(&inode).or_else(|| self.parked.pop(&inode))
    }
    /// It is used now.
    pub fn promote(&mut self, inode: InodeId) {
        self.can_go.promote(&inode);
        self.parked.promote(&inode);
    }
    /// It cannot go.
    pub fn park(&mut self, inode: InodeId) {
        if let Some(held) = self.can_go.pop(&inode) {
            self.parked.put(inode, held);
        }
    }
    /// It can go, as one that is used now.
    pub fn unpark(&mut self, inode: InodeId) {
        if let Some(held) = self.parked.pop(&inode) {
            self.can_go.put(inode, held);
        }
    }
    /// What goes next, `but` excepted.
    pub fn coldest(&self, but: Option<InodeId>) -> Option<InodeId> {
        let mut coldest = self.can_go.iter().rev().map(|(inode, _)| *inode);
        coldest.find(|inode| Some(*inode) != but)
    }
    /// Those parked, the longest unused first.
    pub fn parked(&self, max: usize) -> Vec<InodeId> {
        self.parked.iter().rev().take(max).map(|(inode, _)| *inode).collect()
    }
    /// Brings some that were parked back as the coldest, so that they are looked at next; false: not again so soon.
    pub fn try_again(&mut self) -> bool {
        if self.tried_again.is_some_and(|at| at.elapsed() < TRY_AGAIN_PAUSE) || self.parked.is_empty() {
            return false;
        }
        self.tried_again = Some(Instant::now());
        for inode in self.parked(TRY_AGAIN_MAX).into_iter().rev() {
            if let Some(held) = self.parked.pop(&inode) {
                self.can_go.put(inode, held);
                self.can_go.demote(&inode);
            }
        }
        true
    }

    /// Files that can go, the coldest first, and when that is written, in seconds since 1970.
    fn encode(&self) -> Vec<u8> {
        let now_s = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let inodes = self.can_go.iter().rev().map(|(inode, _)| inode.get());
        let mut bytes: Vec<u8> = std::iter::once(now_s)
            .chain(inodes)
            .flat_map(u64::to_le_bytes)
            .collect();
        bytes.extend_from_slice(&crc32c(&bytes).to_le_bytes());
        bytes
    }

    /// Keeps the order for the next start. Blocks.
    pub fn save(order: &alluxio_common::sync::Mutex<Order>, layout: &Layout) {
        let bytes = order.lock().encode();
        // A hint: without it the times of the data files say what is cold.
        if let Err(error) = crashsafe::write_atomic(&layout.root().join(NAME), &bytes) {
            tracing::info!(%error, "keep the order of eviction");
        }
    }

    /// Takes up the order of before the start, as colder than all that was used since. Answers when it was kept, in seconds since
    /// 1970; 0: there is none. Blocks.
    pub fn load(order: &alluxio_common::sync::Mutex<Order>, layout: &Layout) -> u64 {
        let bytes = std::fs::read(layout.root().join(NAME)).unwrap_or_default();
        let Some((bytes, crc)) = bytes.split_last_chunk::<4>() else {
            return 0;
        };
        let mut numbers = bytes
            .chunks_exact(8)
            .map(|n| n.try_into().map_or(0, u64::from_le_bytes));
        let kept_s = numbers.next().filter(|_| crc32c(bytes) == u32::from_le_bytes(*crc));
        let Some(kept_s) = kept_s else { return 0 };
        let coldest_first: Vec<u64> = numbers.collect();
        let mut order = order.lock();
        for inode in coldest_first.into_iter().rev() {
            order.set_aside_known(InodeId(inode));
        }
        kept_s
    }

    fn set_aside_known(&mut self, inode: InodeId) {
        if self.held_mut(inode).is_none() {
            self.can_go.put(inode, Held::default());
            self.can_go.demote(&inode);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alluxio_common::sync::Mutex;

    fn held(bytes: u64) -> Held {
        Held {
            bytes,
            is_counted: true,
        }
    }

    #[test]
    fn what_cannot_go_is_not_looked_at_again_and_again() {
        let mut order = Order::default();
        for inode in 1..=5 {
            order.set(InodeId(inode), held(inode), inode > 3, true);
        }
        assert_eq!(order.coldest(None), Some(InodeId(4)));
        assert_eq!(order.coldest(Some(InodeId(4))), Some(InodeId(5)));
        order.park(InodeId(4));
        order.park(InodeId(5));
        assert_eq!(order.coldest(None), None);
        order.unpark(InodeId(2));
        assert_eq!(order.coldest(None), Some(InodeId(2)));
        order.park(InodeId(2));
        assert!(order.try_again());
        assert_eq!(order.coldest(None), Some(InodeId(1)), "the longest unused first");
        assert!(!order.try_again(), "not again so soon");
        assert_eq!(order.remove(InodeId(3)), Some(held(3)));
    }

    #[test]
    fn the_order_is_kept_over_a_start() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::open(dir.path()).unwrap();
        let old = Mutex::new(Order::default());
        for inode in [7, 3, 9, 1] {
            old.lock().set(InodeId(inode), held(1), true, true);
        }
        old.lock().promote(InodeId(7));
        Order::save(&old, &layout);
        let new = Mutex::new(Order::default());
        // Used since the start.
        new.lock().set(InodeId(9), held(5), true, true);
        assert!(Order::load(&new, &layout) > 0);
        let mut goes = Vec::new();
        let mut new = new.into_inner();
        while let Some(inode) = new.coldest(None) {
            goes.push(inode.get());
            new.remove(inode);
        }
        assert_eq!(goes, [3, 1, 7, 9]);
        std::fs::write(dir.path().join(NAME), b"something else").unwrap();
        assert_eq!(Order::load(&old, &layout), 0);
    }
}
