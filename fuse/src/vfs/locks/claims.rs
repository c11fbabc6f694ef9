//! What this mount was granted and has told programs: never more than the master has.

use super::{Holder, LockWanted, Locks};
use alluxio_common::lock_ranges::{ByteRange, LockRanges, Locked};
use alluxio_proto::master::{FileLock, LockKind, LockMode};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use tokio::sync::OwnedMutexGuard;

/// What one holder has.
#[derive(Debug, Default)]
struct Claim {
    ranges: LockRanges,
    /// The same, by the open file it was locked through last.
    through: HashMap<u64, LockRanges>,
    pid: u32,
    turn: Arc<tokio::sync::Mutex<()>>,
    /// What was withdrawn, to be settled before anything else.
    withdrawn: Vec<Withdrawn>,
}

/// A request that nobody wants any more.
#[derive(Debug)]
pub(super) struct Withdrawn {
    pub wanted: LockWanted,
    /// Its place in the master's queue, or 0.
    pub wait_id: u64,
    /// If it was claimed: what was claimed of its range before.
    pub before: Option<Vec<Locked>>,
}

impl Claim {
    fn set(&mut self, range: ByteRange, mode: LockMode) {
        self.ranges.set(range, mode);
        let weaker = |ranges: &mut LockRanges| {
            let held: Vec<Locked> = ranges.within(range).collect();
            for old in held {
                ranges.set(old.range, mode.min(old.mode));
            }
        };
        self.through.values_mut().for_each(weaker);
        self.through.retain(|_, ranges| !ranges.is_empty());
    }
}

/// All claims.
#[derive(Debug, Default)]
pub(super) struct Claims {
    by_holder: HashMap<Holder, Claim>,
    /// Who locked through an open file.
    by_handle: HashMap<u64, HashSet<Holder>>,
}

/// The turn of a holder. While somebody has or awaits it, the holder is known.
pub(super) struct Turn<'a> {
    locks: &'a Locks,
    holder: Holder,
    taken: Option<OwnedMutexGuard<()>>,
}

impl Locks {
    /// Waits for the holder's turn.
    pub(super) async fn turn(&self, holder: Holder) -> Turn<'_> {
        let turn = Arc::clone(&self.claims.lock().by_holder.entry(holder).or_default().turn);
        let mut mine = Turn {
            locks: self,
            holder,
            taken: None,
        };
        mine.taken = Some(turn.lock_owned().await);
        mine
    }

    /// Whether an owner has locked something of a file, or is about to.
    pub(super) fn holds(&self, holder: Holder) -> bool {
        self.claims.lock().by_holder.contains_key(&holder)
    }

    /// Whether another owner of this mount has locked something of the same file.
    pub(super) fn others_hold(&self, holder: Holder) -> bool {
        let claims = self.claims.lock();
        let mut others = claims.by_holder.iter();
        others.any(|(other, claim)| {
            (other.inode, other.kind) == (holder.inode, holder.kind) && *other != holder && !claim.ranges.is_empty()
        })
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.taken = None;
        let mut claims = self.locks.claims.lock();
        let idle = |claim: &Claim| {
            claim.ranges.is_empty() && claim.withdrawn.is_empty() && Arc::strong_count(&claim.turn) == 1
        };
        if claims.by_holder.get(&self.holder).is_some_and(idle) {
            claims.by_holder.remove(&self.holder);
        }
    }
}

impl Claims {
    /// What is claimed of a range; whether the request weakens some of it; whether all of it is claimed.
    pub fn look(&self, wanted: &LockWanted) -> (Vec<Locked>, bool, bool) {
        let Some(claim) = self.by_holder.get(&wanted.holder()) else {
            return (Vec::new(), false, false);
        };
        let ranges = &claim.ranges;
        (
            ranges.within(wanted.range).collect(),
            ranges.weakens(wanted.range, wanted.mode),
            ranges.covers(wanted.range, LockMode::Read),
        )
    }

    /// A range is in this weaker mode, or unlocked, from now on. False if nothing of it was claimed.
    pub fn weaken(&mut self, wanted: &LockWanted, mode: LockMode) -> bool {
        let Some(claim) = self.by_holder.get_mut(&wanted.holder()) else {
            return false;
        };
        let had = claim.ranges.within(wanted.range).next().is_some();
        claim.set(wanted.range, mode);
        had
    }

    /// A range was granted.
    pub fn raise(&mut self, wanted: &LockWanted) {
        let holder = wanted.holder();
        let claim = self.by_holder.entry(holder).or_default();
        claim.pid = wanted.pid;
        claim.ranges.raise(wanted.range, wanted.mode);
        let held: Vec<Locked> = claim.ranges.within(wanted.range).collect();
        for (_, ranges) in claim.through.iter_mut().filter(|(fh, _)| **fh != wanted.fh) {
            ranges.set(wanted.range, LockMode::Unlocked);
        }
        let through = claim.through.entry(wanted.fh).or_default();
        for locked in held {
            through.set(locked.range, locked.mode);
        }
        claim.through.retain(|_, ranges| !ranges.is_empty());
        self.by_handle.entry(wanted.fh).or_default().insert(holder);
    }

    /// A request is to be settled before its holder's next turn.
    pub fn withdraw(&mut self, withdrawn: Withdrawn) {
        let claim = self.by_holder.entry(withdrawn.wanted.holder()).or_default();
        claim.withdrawn.push(withdrawn);
    }

    /// What is to be settled, in order.
    pub fn take_withdrawn(&mut self, holder: Holder) -> Vec<Withdrawn> {
        let claim = self.by_holder.get_mut(&holder);
        claim.map_or_else(Vec::new, |claim| std::mem::take(&mut claim.withdrawn))
    }

    /// A range is claimed as it was before, and never more than now: what was unlocked since stays so.
    pub fn restore(&mut self, wanted: &LockWanted, before: &[Locked]) {
        let Some(claim) = self.by_holder.get_mut(&wanted.holder()) else {
            return;
        };
        let mut old = LockRanges::default();
        for locked in before {
            old.set(locked.range, locked.mode);
        }
        for gap in gaps(&old, wanted.range) {
            claim.set(gap, LockMode::Unlocked);
        }
        for locked in old.iter() {
            let now: Vec<Locked> = claim.ranges.within(locked.range).collect();
            for new in now {
                claim.set(new.range, locked.mode.min(new.mode));
            }
        }
    }

    /// Each part of a range with the mode that is claimed, to be set at the master, which may have granted more. What is claimed for
    /// writing cannot be less there.
    pub fn at_most(&self, wanted: &LockWanted) -> Vec<Locked> {
        let none = LockRanges::default();
        let ranges = self
            .by_holder
            .get(&wanted.holder())
            .map_or(&none, |claim| &claim.ranges);
        let unlocked = gaps(ranges, wanted.range).into_iter().map(|range| Locked {
            range,
            mode: LockMode::Unlocked,
        });
        let read = ranges
            .within(wanted.range)
            .filter(|locked| locked.mode == LockMode::Read);
        unlocked.chain(read).collect()
    }

    /// What was locked through an open file, which is closed.
    pub fn take_handle(&mut self, fh: u64) -> Vec<(Holder, Vec<Locked>)> {
        let holders = self.by_handle.remove(&fh).unwrap_or_default();
        let each = holders.into_iter().filter_map(|holder| {
            let claim = self.by_holder.get_mut(&holder)?;
            Some((holder, claim.through.get(&fh)?.iter().collect()))
        });
        each.collect()
    }

    /// All of it, as a session names it.
    pub fn messages(&self) -> Vec<FileLock> {
        let each = self.by_holder.iter();
        each.flat_map(|(holder, claim)| {
            claim.ranges.iter().map(|locked| FileLock {
                inode: holder.inode,
                kind: holder.kind as i32,
                owner: holder.owner,
                mode: locked.mode as i32,
                start: locked.range.start,
                last: locked.range.last,
                pid: claim.pid,
            })
        })
        .collect()
    }

    /// The master refused these; answers how many.
    pub fn drop_refused(&mut self, refused: &[FileLock]) -> usize {
        for lock in refused {
            let holder = Holder {
                inode: lock.inode,
                kind: LockKind::try_from(lock.kind).unwrap_or(LockKind::Range),
                owner: lock.owner,
            };
            if let (Some(claim), Some(range)) = (self.by_holder.get_mut(&holder), ByteRange::new(lock.start, lock.last))
            {
                claim.set(range, LockMode::Unlocked);
            }
        }
        refused.len()
    }

    /// The session is gone, and all with it; answers how many pieces.
    pub fn drop_all(&mut self) -> usize {
        self.by_handle.clear();
        let pieces = self.by_holder.values().map(|claim| claim.ranges.len()).sum();
        for claim in self.by_holder.values_mut() {
            claim.ranges = LockRanges::default();
            claim.through.clear();
            claim.withdrawn.clear();
        }
        // Who has a turn now goes on with it.
        self.by_holder.retain(|_, claim| Arc::strong_count(&claim.turn) > 1);
        pieces
    }
}

/// Parts of a range in which nothing is locked.
fn gaps(ranges: &LockRanges, range: ByteRange) -> Vec<ByteRange> {
    let mut gaps = Vec::new();
    let mut next = range.start;
    for locked in ranges.within(range) {
        if next < locked.range.start {
            gaps.push(ByteRange {
                start: next,
                last: locked.range.start - 1,
            });
        }
        next = locked.range.last.saturating_add(1);
    }
    if next <= range.last {
        gaps.push(ByteRange {
            start: next,
            last: range.last,
        });
    }
    gaps
}

#[cfg(test)]
mod tests {
    use super::*;
    use LockMode::{Read, Unlocked, Write};

    fn wanted(fh: u64, mode: LockMode, start: u64, last: u64) -> LockWanted {
        LockWanted {
            inode: 7,
            fh,
            owner: 1,
            kind: LockKind::Range,
            mode,
            range: ByteRange::new(start, last).unwrap(),
            pid: 9,
        }
    }

    fn list(claims: &Claims) -> Vec<(u64, u64, i32)> {
        let locks = claims.messages();
        locks.iter().map(|lock| (lock.start, lock.last, lock.mode)).collect()
    }

    #[test]
    fn a_closed_file_takes_what_was_locked_through_it_last() {
        let mut claims = Claims::default();
        claims.raise(&wanted(1, Write, 0, 9));
        claims.raise(&wanted(2, Write, 5, 19));
        let taken = claims.take_handle(1);
        assert_eq!(taken.len(), 1);
        let ranges: Vec<_> = taken[0]
            .1
            .iter()
            .map(|locked| (locked.range.start, locked.range.last))
            .collect();
        assert_eq!(ranges, [(0, 4)]);
        assert_eq!(claims.take_handle(1).len(), 0);
        claims.weaken(&wanted(2, Unlocked, 0, 100), Unlocked);
        assert_eq!(claims.take_handle(2).len(), 0, "closing a descriptor had unlocked all");
    }

    #[test]
    fn withdrawing_restores_and_never_adds() {
        let mut claims = Claims::default();
        claims.raise(&wanted(1, Read, 2, 5));
        let request = wanted(1, Write, 0, 9);
        let (before, weakens, covers) = claims.look(&request);
        assert!(!weakens && !covers);
        claims.raise(&request);
        assert_eq!(list(&claims), [(0, 9, Write as i32)]);
        claims.weaken(&wanted(1, Unlocked, 5, 5), Unlocked);
        claims.restore(&request, &before);
        assert_eq!(list(&claims), [(2, 4, Read as i32)]);
        let mut pieces: Vec<_> = claims
            .at_most(&request)
            .iter()
            .map(|locked| (locked.range.start, locked.range.last, locked.mode))
            .collect();
        pieces.sort_unstable();
        assert_eq!(pieces, [(0, 1, Unlocked), (2, 4, Read), (5, 9, Unlocked)]);
        assert_eq!(claims.drop_all(), 1);
        assert_eq!(claims.at_most(&request).len(), 1);
    }
}
