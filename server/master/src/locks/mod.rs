//! The table of advisory locks: who holds what, who waits for what, and whether waiting can end.
//!
//! A plain data structure: no clock, no IO, no tasks. It keeps to fcntl(2) and flock(2) as Linux has them: locks of one owner never
//! conflict; a request that conflicts with no held lock is granted, also past those who wait; who waits is granted in the order of
//! asking as soon as nothing held conflicts. Locks of the two kinds never meet.
//!
//! Left out: what survives a restart and when (`service::locks`), what clients believe (they name it when they resume).

mod deadlock;
#[cfg(test)]
mod tests;

use alluxio_common::lock_ranges::{ByteRange, LockRanges, Locked};
use alluxio_proto::SessionId;
use alluxio_proto::master::{FileLock, LockKind, LockMode};
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

/// Pieces that one session may have locked; each costs some 50 bytes.
pub const SESSION_LOCKS_MAX: usize = 65_536;
/// Requests of one session that may wait.
pub const SESSION_WAITS_MAX: usize = 16_384;

/// Who holds a lock: an owner that the client's kernel names, within a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner {
    pub session: SessionId,
    pub id: u64,
}

/// Locks that meet each other: those of one kind on one inode.
pub type Place = (u64, LockKind);

/// A request.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    pub place: Place,
    pub owner: Owner,
    pub mode: LockMode,
    pub range: ByteRange,
    pub pid: u32,
    /// Parts that the owner holds in a stronger mode stay so.
    pub keep_stronger: bool,
}

impl Wanted {
    /// Of a session, as it came; `None` if it makes no sense.
    pub fn new(session: SessionId, lock: &FileLock) -> Option<Wanted> {
        Some(Wanted {
            place: (lock.inode, LockKind::try_from(lock.kind).ok()?),
            owner: Owner {
                session,
                id: lock.owner,
            },
            mode: LockMode::try_from(lock.mode).ok()?,
            range: ByteRange::new(lock.start, lock.last)?,
            pid: lock.pid,
            keep_stronger: false,
        })
    }
}

/// What becomes of a request that is not refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is so.
    Held,
    /// It waits.
    Queued,
}

/// Why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Another owner's lock conflicts, and the request does not wait.
    Conflict,
    /// Waiting would never end.
    Deadlock,
    /// The session has too many locks or waits already.
    TooMany,
}

/// A waiting request that was granted just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granted {
    pub session: SessionId,
    pub wait_id: u64,
}

/// A lock that is in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conflict {
    pub owner: Owner,
    pub locked: Locked,
    pub pid: u32,
}

/// What one owner holds in one place.
#[derive(Debug, Default)]
struct Held {
    ranges: LockRanges,
    pid: u32,
}

#[derive(Clone, Copy, Debug)]
struct Waiter {
    wait_id: u64,
    wanted: Wanted,
}

/// The locks of one kind on one inode.
#[derive(Debug, Default)]
struct Locks {
    held: BTreeMap<Owner, Held>,
    queue: VecDeque<Waiter>,
}

impl Locks {
    fn conflicts<'a>(&'a self, wanted: &'a Wanted) -> impl Iterator<Item = Conflict> + 'a {
        let others = self.held.iter().filter(|(owner, _)| **owner != wanted.owner);
        others.filter_map(|(owner, held)| {
            Some(Conflict {
                owner: *owner,
                locked: held.ranges.conflict(wanted.range, wanted.mode)?,
                pid: held.pid,
            })
        })
    }

    fn is_free(&self, wanted: &Wanted) -> bool {
        self.conflicts(wanted).next().is_none()
    }
}

/// What a session has, to find it again.
#[derive(Debug, Default)]
struct Mine {
    places: HashSet<Place>,
    pieces: usize,
    waits: HashMap<u64, Place>,
}

/// All locks of a master.
#[derive(Debug, Default)]
pub struct LockTable {
    places: HashMap<Place, Locks>,
    sessions: HashMap<SessionId, Mine>,
    /// Where an owner waits for a byte range: the edges of the graph in which deadlocks are cycles.
    waiting: HashMap<Owner, HashSet<(Place, u64)>>,
}

impl LockTable {
    /// Sets the mode of a range for an owner. Not 0, `wait_id` says that it may wait, and under which name.
    ///
    /// Also answers who is granted by it, since a weaker lock lets others in.
    ///
    /// # Errors
    /// Why not; then nothing has changed.
    pub fn set(&mut self, wanted: Wanted, wait_id: u64) -> Result<(Answer, Vec<Granted>), Refusal> {
        let locks = self.places.get(&wanted.place);
        let is_free = wanted.mode == LockMode::Unlocked || locks.is_none_or(|locks| locks.is_free(&wanted));
        if !is_free {
            return self.wait(wanted, wait_id);
        }
        let mine = self.sessions.get(&wanted.owner.session);
        if wanted.mode != LockMode::Unlocked && mine.is_some_and(|mine| mine.pieces >= SESSION_LOCKS_MAX) {
            return Err(Refusal::TooMany);
        }
        if wait_id != 0 {
            self.leave_queue(wanted.owner.session, wait_id);
        }
        let weakens = self.apply(&wanted);
        let granted = if weakens {
            self.grant_waiting(wanted.place)
        } else {
            Vec::new()
        };
        Ok((Answer::Held, granted))
    }

    /// A lock that is in the way of a request: the one that begins first.
    pub fn conflict(&self, wanted: &Wanted) -> Option<Conflict> {
        let locks = self.places.get(&wanted.place)?;
        locks.conflicts(wanted).min_by_key(|conflict| conflict.locked.range)
    }

    /// Takes a request off the queue. False if it is not there: granted, or never asked.
    pub fn cancel(&mut self, session: SessionId, wait_id: u64) -> bool {
        self.leave_queue(session, wait_id)
    }

    /// Drops all that a session holds and waits for.
    pub fn end_session(&mut self, session: SessionId) -> Vec<Granted> {
        let Some(mine) = self.sessions.remove(&session) else {
            return Vec::new();
        };
        let mut freed = mine.places;
        freed.extend(mine.waits.into_values());
        self.waiting.retain(|owner, _| owner.session != session);
        let mut granted = Vec::new();
        for place in freed {
            if let Some(locks) = self.places.get_mut(&place) {
                locks.held.retain(|owner, _| owner.session != session);
                locks.queue.retain(|waiter| waiter.wanted.owner.session != session);
            }
            granted.extend(self.grant_waiting(place));
        }
        granted
    }

    /// Pieces that are locked.
    pub fn held_count(&self) -> usize {
        self.sessions.values().map(|mine| mine.pieces).sum()
    }

    /// Requests that wait.
    pub fn waiting_count(&self) -> usize {
        self.sessions.values().map(|mine| mine.waits.len()).sum()
    }

    fn wait(&mut self, wanted: Wanted, wait_id: u64) -> Result<(Answer, Vec<Granted>), Refusal> {
        if wait_id == 0 {
            return Err(Refusal::Conflict);
        }
        let session = wanted.owner.session;
        let waits = self.sessions.get(&session).map(|mine| &mine.waits);
        if waits.is_some_and(|waits| waits.contains_key(&wait_id)) {
            return Ok((Answer::Queued, Vec::new()));
        }
        if waits.is_some_and(|waits| waits.len() >= SESSION_WAITS_MAX) {
            return Err(Refusal::TooMany);
        }
        let is_range = wanted.place.1 == LockKind::Range;
        if is_range && self.would_deadlock(&wanted) {
            return Err(Refusal::Deadlock);
        }
        self.sessions
            .entry(session)
            .or_default()
            .waits
            .insert(wait_id, wanted.place);
        if is_range {
            self.waiting
                .entry(wanted.owner)
                .or_default()
                .insert((wanted.place, wait_id));
        }
        let locks = self.places.entry(wanted.place).or_default();
        locks.queue.push_back(Waiter { wait_id, wanted });
        // flock lets go of the old lock before it waits for another: two that share and both want it alone would wait forever.
        let lets_go = !is_range && locks.held.contains_key(&wanted.owner);
        if !lets_go {
            return Ok((Answer::Queued, Vec::new()));
        }
        let none = Wanted {
            mode: LockMode::Unlocked,
            range: ByteRange::ALL,
            keep_stronger: false,
            ..wanted
        };
        self.apply(&none);
        let granted = self.grant_waiting(wanted.place);
        Ok((Answer::Queued, granted))
    }

    /// Changes what an owner holds; true if something was taken off.
    fn apply(&mut self, wanted: &Wanted) -> bool {
        let Owner { session, .. } = wanted.owner;
        let locks = self.places.entry(wanted.place).or_default();
        let held = locks.held.entry(wanted.owner).or_default();
        let before = held.ranges.len();
        let weakens = !wanted.keep_stronger && held.ranges.weakens(wanted.range, wanted.mode);
        if wanted.keep_stronger {
            held.ranges.raise(wanted.range, wanted.mode);
        } else {
            held.ranges.set(wanted.range, wanted.mode);
        }
        // An unlock comes without one, and is not who holds the rest.
        if wanted.mode != LockMode::Unlocked {
            held.pid = wanted.pid;
        }
        let after = held.ranges.len();
        if after == 0 {
            locks.held.remove(&wanted.owner);
        }
        let all_of_session = Owner { session, id: 0 }..=Owner { session, id: u64::MAX };
        let holds = locks.held.range(all_of_session).next().is_some();
        if locks.held.is_empty() && locks.queue.is_empty() {
            self.places.remove(&wanted.place);
        }
        let mine = self.sessions.entry(session).or_default();
        mine.pieces = mine.pieces + after - before;
        if holds {
            mine.places.insert(wanted.place);
        } else {
            mine.places.remove(&wanted.place);
        }
        self.forget_if_idle(session);
        weakens
    }

    /// Grants, in order, what nothing is in the way of any more.
    fn grant_waiting(&mut self, place: Place) -> Vec<Granted> {
        let mut granted = Vec::new();
        while let Some(locks) = self.places.get(&place) {
            let Some(next) = locks.queue.iter().find(|waiter| locks.is_free(&waiter.wanted)).copied() else {
                if locks.held.is_empty() && locks.queue.is_empty() {
                    self.places.remove(&place);
                }
                break;
            };
            let session = next.wanted.owner.session;
            // Held first, so that the place is not forgotten in between.
            self.apply(&next.wanted);
            self.leave_queue(session, next.wait_id);
            granted.push(Granted {
                session,
                wait_id: next.wait_id,
            });
        }
        granted
    }

    fn leave_queue(&mut self, session: SessionId, wait_id: u64) -> bool {
        let Some(mine) = self.sessions.get_mut(&session) else {
            return false;
        };
        let Some(place) = mine.waits.remove(&wait_id) else {
            return false;
        };
        if let Some(locks) = self.places.get_mut(&place) {
            if let Some(at) = locks.queue.iter().position(|waiter| is(waiter, session, wait_id))
                && let Some(waiter) = locks.queue.remove(at)
                && let Some(waits) = self.waiting.get_mut(&waiter.wanted.owner)
            {
                waits.remove(&(place, wait_id));
                if waits.is_empty() {
                    self.waiting.remove(&waiter.wanted.owner);
                }
            }
            if locks.held.is_empty() && locks.queue.is_empty() {
                self.places.remove(&place);
            }
        }
        self.forget_if_idle(session);
        true
    }

    fn forget_if_idle(&mut self, session: SessionId) {
        let idle = |mine: &Mine| mine.pieces == 0 && mine.waits.is_empty();
        if self.sessions.get(&session).is_some_and(idle) {
            self.sessions.remove(&session);
        }
    }
}

fn is(waiter: &Waiter, session: SessionId, wait_id: u64) -> bool {
    waiter.wait_id == wait_id && waiter.wanted.owner.session == session
}
