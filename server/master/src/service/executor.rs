//! The queue of intents: which is due when (DESIGN D9).
//!
//! The state holds all intents durably; here is a bounded window of them in memory with the time of each one's next try. What
//! cannot go on for now (it failed, or another is before it) does not count towards the bound, so that it keeps no place from what
//! can. The order among conflicting paths is the state's (`blocked_by`, `IntentStarted`); the queue only asks again at the right time.

use alluxio_common::sync::Mutex;
use alluxio_proto::{FsError, IntentId, WorkerId};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Intents kept in memory. Further ones stay in the state and are read when half of these are done.
pub(super) const QUEUE_MAX: usize = if cfg!(test) { 200 } else { 20_000 };
/// So many that cannot go on for now are kept beside those.
const DEFERRED_MAX: usize = 10 * QUEUE_MAX;
/// Intents that wait for a person, by their ids alone. Further ones are known to the state only.
const PARKED_MAX: usize = 1 << 20;
/// Reasons kept in memory; the state has all of them.
const REASONS_MAX: usize = QUEUE_MAX;
/// A blocked intent is looked at again after so long, should nobody have woken it.
const BLOCKED_RECHECK: Duration = Duration::from_secs(1);
/// With many that are deferred, later by as long for each so many: looking is not to become the work.
const RECHECK_AT_ONCE: usize = 5_000;

/// Where an intent is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Until then.
    Waiting(Instant),
    /// Being executed by the master.
    Running,
    /// Handed to a worker, which uploads it or will fetch it with its next heartbeat.
    Offered(WorkerId),
}

#[derive(Debug, Default)]
struct Inner {
    slots: HashMap<IntentId, Phase>,
    due: BTreeSet<(Instant, IntentId)>,
    /// Who waits for the end of an intent.
    behind: HashMap<IntentId, Vec<IntentId>>,
    expedited: HashSet<IntentId>,
    /// Ripe ones that wait for a lull; in `due`, too.
    held: HashSet<IntentId>,
    /// Those of `slots` that cannot go on for now, [`DEFERRED_MAX`] of them.
    deferred: HashSet<IntentId>,
    /// Those of `slots` that no worker was there for when they were looked at last.
    workerless: HashSet<IntentId>,
    /// Failures that time alone will not heal, [`REASONS_MAX`] of them.
    permanent: BTreeMap<IntentId, Failure>,
    /// Refused, and waiting for a person: in the state, and [`PARKED_MAX`] of their ids here.
    parked: BTreeSet<IntentId>,
    /// The state has intents that are not here.
    overflow: bool,
    /// There is room for them again.
    refill: bool,
}

/// How an intent's last try failed, in a way that time alone will not heal.
#[derive(Debug)]
struct Failure {
    at: Instant,
    error: FsError,
    /// The under-storage refuses it, and has for some tries.
    refused: bool,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct IntentQueue {
    inner: Mutex<Inner>,
    /// Something is due sooner than it was.
    pub wake: Notify,
}

impl IntentQueue {
    /// Due now, unless it is being executed: then it is looked at after that anyway. False: not all found room; they are
    /// asked for again when there is some.
    pub fn add(&self, ids: impl IntoIterator<Item = IntentId>) -> bool {
        let now = Instant::now();
        let mut inner = self.inner.lock();
        let mut all_taken = true;
        for id in ids {
            all_taken &= inner.add(id, now);
        }
        drop(inner);
        self.wake.notify_one();
        all_taken
    }

    /// Takes the next intent that is due.
    pub fn pop(&self) -> Option<IntentId> {
        let mut inner = self.inner.lock();
        let (due, id) = *inner.due.first()?;
        if due > Instant::now() {
            return None;
        }
        inner.due.remove(&(due, id));
        inner.held.remove(&id);
        inner.deferred.remove(&id);
        inner.workerless.remove(&id);
        inner.slots.insert(id, Phase::Running);
        Some(id)
    }

    /// When something is due next.
    pub fn next_due(&self) -> Option<Instant> {
        self.inner.lock().due.first().map(|(due, _)| *due)
    }

    /// Try again then.
    pub fn again_at(&self, id: IntentId, due: Instant) {
        self.inner.lock().wait(id, due);
        self.wake.notify_one();
    }

    /// As [`Self::again_at`], for what cannot go on before that.
    pub fn defer(&self, id: IntentId, due: Instant) {
        let mut inner = self.inner.lock();
        inner.defer(id, due);
        self.wake.notify_one();
        self.look_for_room(inner);
    }

    /// As [`Self::defer`], for what a worker is to do and none is there.
    pub fn wait_for_worker(&self, id: IntentId, due: Instant) {
        let mut inner = self.inner.lock();
        inner.defer(id, due);
        inner.workerless.insert(id);
        self.wake.notify_one();
        self.look_for_room(inner);
    }

    /// How many wait for a worker.
    pub fn waiting_for_worker(&self) -> usize {
        self.inner.lock().workerless.len()
    }

    /// Try again in a lull ([`Self::release_held`]), at the latest then.
    pub fn hold(&self, id: IntentId, latest: Instant) {
        let mut inner = self.inner.lock();
        if inner.expedited.contains(&id) {
            return inner.wait(id, Instant::now());
        }
        inner.wait(id, latest);
        inner.held.insert(id);
    }

    /// Whether some wait for a lull.
    pub fn holds(&self) -> bool {
        !self.inner.lock().held.is_empty()
    }

    /// Makes due what waits for a lull.
    pub fn release_held(&self) {
        let now = Instant::now();
        let mut inner = self.inner.lock();
        for id in std::mem::take(&mut inner.held) {
            if let Some(Phase::Waiting(_)) = inner.slots.get(&id) {
                inner.wait(id, now);
            }
        }
    }

    /// Try again when `blocker` is done.
    pub fn again_after(&self, id: IntentId, blocker: IntentId) {
        let mut inner = self.inner.lock();
        let waiting = inner.behind.entry(blocker).or_default();
        if !waiting.contains(&id) {
            waiting.push(id);
        }
        let turns = 1 + inner.deferred.len() / RECHECK_AT_ONCE;
        inner.defer(
            id,
            Instant::now() + BLOCKED_RECHECK * u32::try_from(turns).unwrap_or(u32::MAX),
        );
        self.look_for_room(inner);
    }

    /// Whether others wait until it is done.
    pub fn is_waited_for(&self, id: IntentId) -> bool {
        self.inner.lock().behind.contains_key(&id)
    }

    /// A worker has it.
    pub fn offered(&self, id: IntentId, worker: WorkerId) {
        self.inner.lock().slots.insert(id, Phase::Offered(worker));
    }

    /// The worker that has it, if one has.
    #[cfg(test)]
    pub fn offered_to(&self, id: IntentId) -> Option<WorkerId> {
        match self.inner.lock().slots.get(&id) {
            Some(Phase::Offered(worker)) => Some(*worker),
            _ => None,
        }
    }

    /// All that `worker` has is due again: it is lost, or has forgotten.
    pub fn withdraw(&self, worker: WorkerId) {
        let now = Instant::now();
        let mut inner = self.inner.lock();
        let had = inner
            .slots
            .iter()
            .filter(|(_, phase)| **phase == Phase::Offered(worker));
        let had: Vec<IntentId> = had.map(|(id, _)| *id).collect();
        for id in had {
            inner.wait(id, now);
        }
        drop(inner);
        self.wake.notify_one();
    }

    /// Not to be tried again before somebody asks for it: it was refused for good.
    pub fn park(&self, id: IntentId, why: Option<FsError>) {
        let mut inner = self.inner.lock();
        inner.leave(id);
        inner.park(id, why);
        self.look_for_room(inner);
    }

    /// As [`Self::park`], for those that are not here: they take no slot.
    pub fn park_absent(&self, parked: impl IntoIterator<Item = (IntentId, Option<FsError>)>) {
        let mut inner = self.inner.lock();
        for (id, why) in parked {
            if !inner.slots.contains_key(&id) {
                inner.park(id, why);
            }
        }
    }

    /// Whether the state is to be asked for more; asked once.
    pub fn take_refill(&self) -> bool {
        std::mem::take(&mut self.inner.lock().refill)
    }

    fn look_for_room(&self, mut inner: alluxio_common::sync::MutexGuard<'_, Inner>) {
        if inner.overflow && inner.taken() < QUEUE_MAX / 2 {
            (inner.overflow, inner.refill) = (false, true);
            drop(inner);
            self.wake.notify_one();
        }
    }

    /// Whether it need not ripen, from now on.
    pub fn set_expedited(&self, id: IntentId, expedited: bool) {
        let mut inner = self.inner.lock();
        match expedited {
            true => inner.expedited.insert(id),
            false => inner.expedited.remove(&id),
        };
    }

    /// Those whose last try failed in a way that time alone will not heal.
    pub fn failing(&self) -> Vec<IntentId> {
        let inner = self.inner.lock();
        let all: BTreeSet<IntentId> = inner.permanent.keys().chain(&inner.parked).copied().collect();
        all.into_iter().collect()
    }

    /// How many the under-storage refuses, waiting for a person or for the next try.
    pub fn refused_count(&self) -> usize {
        let inner = self.inner.lock();
        let refused = inner.permanent.iter().filter(|(_, failure)| failure.refused);
        inner.parked.len() + refused.filter(|(id, _)| !inner.parked.contains(id)).count()
    }

    /// It exists no more.
    pub fn done(&self, id: IntentId) {
        let now = Instant::now();
        let mut inner = self.inner.lock();
        inner.leave(id);
        inner.expedited.remove(&id);
        inner.permanent.remove(&id);
        inner.parked.remove(&id);
        let freed = inner.behind.remove(&id).unwrap_or_default();
        for waiting in &freed {
            if let Some(Phase::Waiting(_)) = inner.slots.get(waiting) {
                inner.wait(*waiting, now);
            }
        }
        if !freed.is_empty() {
            self.wake.notify_one();
        }
        self.look_for_room(inner);
    }

    /// These need not ripen, and are tried now.
    pub fn expedite(&self, ids: impl IntoIterator<Item = IntentId>) {
        let now = Instant::now();
        let mut inner = self.inner.lock();
        for id in ids {
            inner.add(id, now);
            // One that finds no room is known when there is some.
            if inner.slots.contains_key(&id) || inner.parked.contains(&id) {
                inner.expedited.insert(id);
            }
            if let Some(Phase::Waiting(_)) = inner.slots.get(&id) {
                inner.wait(id, now);
            }
        }
        drop(inner);
        self.wake.notify_one();
    }

    /// As [`Self::expedite`], for all that are here.
    pub fn expedite_all(&self) {
        let inner = self.inner.lock();
        let ids: Vec<IntentId> = inner.slots.keys().chain(&inner.parked).copied().collect();
        drop(inner);
        self.expedite(ids);
    }

    /// Whether it need not ripen.
    pub fn is_expedited(&self, id: IntentId) -> bool {
        self.inner.lock().expedited.contains(&id)
    }

    /// How its last try ended: `Some` is a failure that time alone will not heal. `refused`: nor will the next tries, it seems.
    pub fn set_permanent(&self, id: IntentId, error: Option<FsError>, refused: bool) {
        let mut inner = self.inner.lock();
        inner.permanent.remove(&id);
        if let Some(error) = error.filter(|_| inner.slots.contains_key(&id)) {
            inner.fail(id, error, refused);
        }
    }

    /// Why one is refused that was so when it became known here, unless a later try has said so.
    pub fn keep_reason(&self, id: IntentId, error: FsError) {
        let mut inner = self.inner.lock();
        if inner.slots.contains_key(&id) && !inner.permanent.contains_key(&id) {
            inner.fail(id, error, true);
        }
    }

    /// The failure of an intent that time alone will not heal, if it was met after `since`.
    pub fn permanent(&self, id: IntentId, since: Option<Instant>) -> Option<FsError> {
        let inner = self.inner.lock();
        inner.permanent.get(&id).and_then(|failure| failure.met_after(since))
    }

    /// The first such failure among intents up to `last`.
    pub fn first_permanent(&self, last: IntentId, since: Option<Instant>) -> Option<FsError> {
        let inner = self.inner.lock();
        inner
            .permanent
            .range(..=last)
            .find_map(|(_, failure)| failure.met_after(since))
    }

    /// How many such failures there are.
    pub fn permanent_count(&self) -> usize {
        self.inner.lock().permanent.len()
    }
}

impl Failure {
    fn met_after(&self, since: Option<Instant>) -> Option<FsError> {
        since.is_none_or(|since| self.at >= since).then(|| self.error.clone())
    }
}

impl Inner {
    fn add(&mut self, id: IntentId, due: Instant) -> bool {
        if self.slots.contains_key(&id) {
            return true;
        }
        if self.taken() >= QUEUE_MAX {
            self.overflow = true;
            return false;
        }
        self.parked.remove(&id);
        self.wait(id, due);
        true
    }

    /// Places that are taken.
    fn taken(&self) -> usize {
        self.slots.len() - self.deferred.len()
    }

    fn defer(&mut self, id: IntentId, due: Instant) {
        self.wait(id, due);
        if self.deferred.len() < DEFERRED_MAX {
            self.deferred.insert(id);
        }
    }

    /// Gives up its slot.
    fn leave(&mut self, id: IntentId) {
        if let Some(Phase::Waiting(due)) = self.slots.remove(&id) {
            self.due.remove(&(due, id));
        }
        self.held.remove(&id);
        self.deferred.remove(&id);
        self.workerless.remove(&id);
    }

    fn park(&mut self, id: IntentId, why: Option<FsError>) {
        if self.parked.len() < PARKED_MAX {
            self.parked.insert(id);
        }
        // Whoever waits for it has asked for it before, and is to hear of a later try only.
        if let Some(why) = why.filter(|_| !self.permanent.contains_key(&id)) {
            self.fail(id, why, true);
        }
    }

    fn fail(&mut self, id: IntentId, error: FsError, refused: bool) {
        if self.permanent.len() < REASONS_MAX {
            let at = Instant::now();
            self.permanent.insert(id, Failure { at, error, refused });
        }
    }

    fn wait(&mut self, id: IntentId, due: Instant) {
        if let Some(Phase::Waiting(old)) = self.slots.insert(id, Phase::Waiting(due)) {
            self.due.remove(&(old, id));
        }
        self.due.insert((due, id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: IntentId = IntentId(1);
    const B: IntentId = IntentId(2);

    #[test]
    fn who_waits_behind_another_is_woken() {
        let queue = IntentQueue::default();
        queue.add([A, B]);
        assert_eq!((queue.pop(), queue.pop(), queue.pop()), (Some(A), Some(B), None));
        queue.again_after(B, A);
        assert_eq!(queue.pop(), None);
        queue.done(A);
        assert_eq!(queue.pop(), Some(B));
        queue.add([B]);
        assert_eq!(queue.pop(), None, "it is being executed");
    }

    #[test]
    fn a_lost_worker_gives_back() {
        let queue = IntentQueue::default();
        queue.add([A]);
        queue.pop();
        queue.offered(A, WorkerId(3));
        assert_eq!(queue.offered_to(A), Some(WorkerId(3)));
        queue.withdraw(WorkerId(4));
        assert_eq!(queue.pop(), None);
        queue.withdraw(WorkerId(3));
        assert_eq!((queue.pop(), queue.offered_to(A)), (Some(A), None));
    }

    #[test]
    fn expedited_ones_do_not_wait() {
        let queue = IntentQueue::default();
        queue.again_at(A, Instant::now() + Duration::from_secs(60));
        assert_eq!(queue.pop(), None);
        queue.expedite_all();
        assert_eq!(queue.pop(), Some(A));
        assert!(queue.is_expedited(A));
        queue.done(A);
        assert!(!queue.is_expedited(A));
    }

    #[test]
    fn what_is_held_waits_for_a_lull() {
        let queue = IntentQueue::default();
        queue.hold(A, Instant::now() + Duration::from_secs(60));
        queue.hold(B, Instant::now() + Duration::from_secs(60));
        queue.done(B);
        assert!(queue.holds());
        assert_eq!(queue.pop(), None);
        queue.release_held();
        assert_eq!((queue.pop(), queue.pop(), queue.holds()), (Some(A), None, false));
        queue.hold(A, Instant::now());
        assert_eq!(queue.pop(), Some(A), "no lull came");
        assert!(!queue.holds(), "it waits no more");
    }

    #[test]
    fn the_window_is_bounded_and_asks_for_more() {
        let queue = IntentQueue::default();
        assert!(!queue.add((0..QUEUE_MAX as u64 + 1).map(IntentId)));
        let mut refills = 0;
        for id in 0..QUEUE_MAX as u64 {
            queue.done(IntentId(id));
            refills += u32::from(queue.take_refill());
        }
        assert_eq!(refills, 1);
    }

    #[test]
    fn what_is_parked_makes_room_for_what_found_none() {
        let queue = IntentQueue::default();
        let why = || Some(FsError::new(alluxio_proto::ErrorKind::UfsDenied, "no"));
        let far = IntentId(1 << 20);
        let first = || (0..QUEUE_MAX as u64).map(IntentId);
        let last = IntentId(QUEUE_MAX as u64);
        assert!(!queue.add(first().chain([last])));
        for id in first() {
            queue.park(id, why());
        }
        assert!(queue.take_refill(), "slots are free again");
        // What is parked is met again by the next look into the state, and takes no slots.
        queue.park_absent(first().map(|id| (id, why())));
        assert!(queue.add([last]));
        assert_eq!(queue.pop(), Some(last));
        assert_eq!(queue.refused_count(), QUEUE_MAX);
        // Far more than there is room for is tried on demand, in turns.
        queue.park_absent([(far, why())]);
        queue.expedite_all();
        assert!(queue.is_expedited(far) && queue.is_expedited(IntentId(0)));
        for id in first() {
            queue.done(id);
        }
        assert!(queue.take_refill());
        assert_eq!(queue.refused_count(), 1);
    }

    #[test]
    fn what_cannot_go_on_keeps_no_place_from_others() {
        let queue = IntentQueue::default();
        let last = IntentId(QUEUE_MAX as u64);
        assert!(!queue.add((0..=last.get()).map(IntentId)));
        let later = Instant::now() + Duration::from_secs(60);
        for id in 0..QUEUE_MAX as u64 / 2 {
            queue.defer(IntentId(id), later);
        }
        for id in QUEUE_MAX as u64 / 2..QUEUE_MAX as u64 {
            queue.again_after(IntentId(id), A);
        }
        assert!(queue.take_refill());
        assert!(queue.add([last]));
        assert_eq!((queue.pop(), queue.pop()), (Some(last), None));
    }
}
