//! The queue of intents: which is due when (DESIGN D9).
//!
//! The state holds all intents durably; here is a bounded window of them in memory with the time of each one's next try. The
//! order among conflicting paths is the state's (`blocked_by`, `IntentStarted`); the queue only asks again at the right time.

use alluxio_common::sync::Mutex;
use alluxio_proto::{FsError, IntentId, WorkerId};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Intents kept in memory. Further ones stay in the state and are read when half of these are done.
pub(super) const QUEUE_MAX: usize = 20_000;
/// A blocked intent is looked at again after so long, should nobody have woken it.
const BLOCKED_RECHECK: Duration = Duration::from_secs(1);

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
    /// Failures that time alone will not heal.
    permanent: BTreeMap<IntentId, (Instant, FsError)>,
    /// The state has intents that are not here.
    overflow: bool,
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
        inner.wait(id, Instant::now() + BLOCKED_RECHECK);
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

    /// It exists no more. True: the state should be asked for more.
    pub fn done(&self, id: IntentId) -> bool {
        let now = Instant::now();
        let mut inner = self.inner.lock();
        if let Some(Phase::Waiting(due)) = inner.slots.remove(&id) {
            inner.due.remove(&(due, id));
        }
        inner.held.remove(&id);
        inner.expedited.remove(&id);
        inner.permanent.remove(&id);
        let freed = inner.behind.remove(&id).unwrap_or_default();
        for waiting in &freed {
            if let Some(Phase::Waiting(_)) = inner.slots.get(waiting) {
                inner.wait(*waiting, now);
            }
        }
        let refill = inner.overflow && inner.slots.len() < QUEUE_MAX / 2;
        if refill {
            inner.overflow = false;
        }
        drop(inner);
        if !freed.is_empty() || refill {
            self.wake.notify_one();
        }
        refill
    }

    /// These need not ripen, and are tried now.
    pub fn expedite(&self, ids: impl IntoIterator<Item = IntentId>) {
        let now = Instant::now();
        let mut inner = self.inner.lock();
        for id in ids {
            inner.add(id, now);
            if inner.slots.contains_key(&id) {
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
        let ids: Vec<IntentId> = self.inner.lock().slots.keys().copied().collect();
        self.expedite(ids);
    }

    /// Whether it need not ripen.
    pub fn is_expedited(&self, id: IntentId) -> bool {
        self.inner.lock().expedited.contains(&id)
    }

    /// How its last try ended: `Some` is a failure that time alone will not heal.
    pub fn set_permanent(&self, id: IntentId, error: Option<FsError>) {
        let mut inner = self.inner.lock();
        match error {
            Some(error) if inner.slots.contains_key(&id) => drop(inner.permanent.insert(id, (Instant::now(), error))),
            _ => drop(inner.permanent.remove(&id)),
        }
    }

    /// The failure of an intent that time alone will not heal, if it was met after `since`.
    pub fn permanent(&self, id: IntentId, since: Option<Instant>) -> Option<FsError> {
        let inner = self.inner.lock();
        inner.permanent.get(&id).and_then(|failure| met_after(failure, since))
    }

    /// The first such failure among intents up to `last`.
    pub fn first_permanent(&self, last: IntentId, since: Option<Instant>) -> Option<FsError> {
        let inner = self.inner.lock();
        inner
            .permanent
            .range(..=last)
            .find_map(|(_, failure)| met_after(failure, since))
    }

    /// How many such failures there are.
    pub fn permanent_count(&self) -> usize {
        self.inner.lock().permanent.len()
    }
}

fn met_after((at, error): &(Instant, FsError), since: Option<Instant>) -> Option<FsError> {
    since.is_none_or(|since| *at >= since).then(|| error.clone())
}

impl Inner {
    fn add(&mut self, id: IntentId, due: Instant) -> bool {
        if self.slots.contains_key(&id) {
            return true;
        }
        if self.slots.len() >= QUEUE_MAX {
            self.overflow = true;
            return false;
        }
        self.wait(id, due);
        true
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
        assert!(!queue.done(A));
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
            refills += u32::from(queue.done(IntentId(id)));
        }
        assert_eq!(refills, 1);
    }
}
