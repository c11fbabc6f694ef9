//! Which bytes one owner has locked, and how: upgrade, downgrade, split and merge as fcntl(2) has them.
//!
//! The master keeps one per owner and file, and a client keeps the same of what it was told. What others hold is no concern
//! of this type.

use alluxio_proto::master::{LOCK_END, LockMode};

/// Bytes from the first to the last, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteRange {
    /// First byte.
    pub start: u64,
    /// Last byte.
    pub last: u64,
}

impl ByteRange {
    /// The whole file, however long.
    pub const ALL: ByteRange = ByteRange {
        start: 0,
        last: LOCK_END,
    };

    /// From `start` to `last`; `None` if that is no range of a file.
    pub fn new(start: u64, last: u64) -> Option<Self> {
        (start <= last && last <= LOCK_END).then_some(Self { start, last })
    }

    /// Whether they share a byte.
    pub fn overlaps(self, other: Self) -> bool {
        self.start <= other.last && other.start <= self.last
    }

    fn cut_to(self, other: Self) -> Self {
        Self {
            start: self.start.max(other.start),
            last: self.last.min(other.last),
        }
    }
}

/// A part of a file that is locked in one mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Locked {
    /// Which bytes.
    pub range: ByteRange,
    /// [`LockMode::Read`] or [`LockMode::Write`].
    pub mode: LockMode,
}

/// What an owner has locked of a file: in order, apart or of different modes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LockRanges(Vec<Locked>);

impl LockRanges {
    /// All of it, in order.
    pub fn iter(&self) -> impl Iterator<Item = Locked> + '_ {
        self.0.iter().copied()
    }

    /// How many pieces.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Nothing is locked.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Pieces within `range`, cut to it.
    pub fn within(&self, range: ByteRange) -> impl Iterator<Item = Locked> + '_ {
        let from = self.0.partition_point(|locked| locked.range.last < range.start);
        let overlapping = self.0[from..]
            .iter()
            .take_while(move |locked| locked.range.start <= range.last);
        overlapping.map(move |locked| Locked {
            range: locked.range.cut_to(range),
            mode: locked.mode,
        })
    }

    /// The first piece that keeps another owner from locking `range` in `mode`; not cut.
    pub fn conflict(&self, range: ByteRange, mode: LockMode) -> Option<Locked> {
        let from = self.0.partition_point(|locked| locked.range.last < range.start);
        let mut overlapping = self.0[from..]
            .iter()
            .take_while(|locked| locked.range.start <= range.last);
        overlapping
            .find(|locked| mode == LockMode::Write || locked.mode == LockMode::Write)
            .copied()
    }

    /// Whether all of `range` is locked in `mode` or a stronger one.
    pub fn covers(&self, range: ByteRange, mode: LockMode) -> bool {
        let mut next = range.start;
        for locked in self.within(range) {
            if locked.range.start != next || locked.mode < mode {
                return false;
            }
            if locked.range.last == range.last {
                return true;
            }
            next = locked.range.last + 1;
        }
        false
    }

    /// Sets the mode of a range, whatever it was.
    pub fn set(&mut self, range: ByteRange, mode: LockMode) {
        // All that overlap or touch, since touching ones of one mode become one.
        let from = self
            .0
            .partition_point(|locked| locked.range.last.saturating_add(1) < range.start);
        let to = self
            .0
            .partition_point(|locked| locked.range.start <= range.last.saturating_add(1));
        let mut pieces: Vec<Locked> = Vec::with_capacity(3);
        let mut whole = Locked { range, mode };
        let mut after = Vec::new();
        for old in &self.0[from..to] {
            if old.mode == mode {
                whole.range.start = whole.range.start.min(old.range.start);
                whole.range.last = whole.range.last.max(old.range.last);
                continue;
            }
            if old.range.start < range.start {
                let last = old.range.last.min(range.start - 1);
                pieces.push(Locked {
                    range: ByteRange {
                        start: old.range.start,
                        last,
                    },
                    mode: old.mode,
                });
            }
            if old.range.last > range.last {
                let start = old.range.start.max(range.last + 1);
                after.push(Locked {
                    range: ByteRange {
                        start,
                        last: old.range.last,
                    },
                    mode: old.mode,
                });
            }
        }
        if mode != LockMode::Unlocked {
            pieces.push(whole);
        }
        pieces.extend(after);
        self.0.splice(from..to, pieces);
    }

    /// Sets the mode of a range but for the parts where it is stronger.
    pub fn raise(&mut self, range: ByteRange, mode: LockMode) {
        let stronger: Vec<Locked> = self.within(range).filter(|locked| locked.mode > mode).collect();
        self.set(range, mode);
        for locked in stronger {
            self.set(locked.range, locked.mode);
        }
    }

    /// Whether setting `range` to `mode` takes something off.
    pub fn weakens(&self, range: ByteRange, mode: LockMode) -> bool {
        self.within(range).any(|locked| locked.mode > mode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use LockMode::{Read, Unlocked, Write};
    use proptest::prelude::*;

    const BYTES: u64 = 24;

    fn range(start: u64, last: u64) -> ByteRange {
        ByteRange::new(start, last).unwrap()
    }

    #[test]
    fn splits_merges_and_ends() {
        let mut ranges = LockRanges::default();
        ranges.set(ByteRange::ALL, Write);
        ranges.set(range(10, 19), Read);
        ranges.set(range(12, 13), Unlocked);
        let list: Vec<_> = ranges
            .iter()
            .map(|locked| (locked.range.start, locked.range.last, locked.mode))
            .collect();
        let expected = [(0, 9, Write), (10, 11, Read), (14, 19, Read), (20, LOCK_END, Write)];
        assert_eq!(list, expected);
        ranges.raise(ByteRange::ALL, Read);
        assert!(ranges.covers(ByteRange::ALL, Read) && ranges.covers(range(20, LOCK_END), Write));
        assert_eq!(ranges.len(), 3);
        ranges.set(ByteRange::ALL, Unlocked);
        assert!(ranges.is_empty());
        assert_eq!(ByteRange::new(2, 1), None);
        assert_eq!(ByteRange::new(2, LOCK_END + 1), None);
    }

    proptest! {
        #[test]
        fn agrees_with_an_array_of_bytes(
            steps in prop::collection::vec((0..BYTES, 0..BYTES, 0..3i32, any::<bool>()), 1..60)
        ) {
            let (mut ranges, mut bytes) = (LockRanges::default(), [Unlocked; BYTES as usize]);
            for (a, b, mode, raise) in steps {
                let (range, mode) = (range(a.min(b), a.max(b)), LockMode::try_from(mode).unwrap());
                let touched = &bytes[range.start as usize..=range.last as usize];
                prop_assert_eq!(ranges.weakens(range, mode), touched.iter().any(|old| *old > mode));
                prop_assert_eq!(
                    ranges.covers(range, mode),
                    touched.iter().all(|old| *old >= mode && *old != Unlocked)
                );
                let conflict = touched.iter().any(|old| *old == Write || (*old == Read && mode == Write));
                prop_assert_eq!(ranges.conflict(range, mode).is_some(), conflict);
                for byte in &mut bytes[range.start as usize..=range.last as usize] {
                    *byte = if raise { mode.max(*byte) } else { mode };
                }
                if raise { ranges.raise(range, mode) } else { ranges.set(range, mode) }
                let mut seen = [Unlocked; BYTES as usize];
                let mut before: Option<Locked> = None;
                for locked in ranges.iter() {
                    prop_assert!(locked.mode != Unlocked);
                    if let Some(before) = before {
                        prop_assert!(before.range.last < locked.range.start, "out of order");
                        let touching = before.range.last + 1 == locked.range.start && before.mode == locked.mode;
                        prop_assert!(!touching, "two that are one");
                    }
                    before = Some(locked);
                    seen[locked.range.start as usize..=locked.range.last as usize].fill(locked.mode);
                }
                prop_assert_eq!(seen, bytes);
            }
        }
    }
}
