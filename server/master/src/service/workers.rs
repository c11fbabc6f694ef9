//! The worker registry: who lives, what is free where, and the work that waits for each one's next heartbeat.
//!
//! Identities and addresses are in the state; here is what a restart of the master may forget. A worker that falls silent is
//! lost after `alluxio.master.worker.timeout`: nobody is sent to it, and uploads that were offered to it go back to the queue.

use alluxio_common::sync::Mutex;
use alluxio_proto::master::{CachedFile, DamagedRange, RecoverTask, ReportTier, ReportWorker};
use alluxio_proto::types::WorkerAddress;
use alluxio_proto::{InodeId, IntentId, WorkerId};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;

use crate::state::{CachedAt, WorkerRecord};

/// Drops that wait for one worker; what is beyond is found when the worker reports what it holds.
const DROPS_MAX: usize = 100_000;
/// Drops and recoveries in one answer, so that a frame stays small.
const TASKS_PER_ANSWER_MAX: usize = 1_000;
/// An upload that a worker does not seem to have is given again after so long.
const LOST_AFTER: Duration = Duration::from_secs(3);
/// Workers report once a second, unless they are told otherwise; who has said nothing for so long, and for three of its usual gaps, is
/// probably gone, and nobody is sent to it while there is another.
const SILENT_AFTER: Duration = Duration::from_secs(3);
/// How fast one long gap is forgotten, per report.
const GAP_DECAY: f64 = 0.9;
/// How many workers a client is told of that could fetch for it: if the first cannot be reached, the next one does it.
const FETCHERS_MAX: usize = 2;
/// Reports of one worker that wait for the next flush; its heartbeat is held up beyond.
pub(super) const REPORTS_MAX: usize = 50_000;

#[derive(Debug)]
struct Known {
    address: WorkerAddress,
    version: String,
    tiers: Vec<ReportTier>,
    /// What it said of damaged bytes last.
    damaged: Vec<DamagedRange>,
    /// `None`: not heard of since this master started.
    last_seen: Option<Instant>,
    /// Between what it says, lately.
    usual_gap: Duration,
    registered_ns: i64,
    /// Boot of its operating system; 0: unknown.
    boot: u64,
    drops: VecDeque<CachedFile>,
    recoveries: VecDeque<RecoverTask>,
    uploads: Lane,
    copies: Lane,
    reports: HashMap<u64, CachedFile>,
    wake: Arc<Notify>,
}

/// Intents of one kind that a worker works on: those of one kind do not wait behind those of another.
#[derive(Debug, Default)]
struct Lane {
    waiting: VecDeque<IntentId>,
    /// Those that an answer carried, with when.
    fetched: HashMap<IntentId, Instant>,
    /// Most that it ever asked for at once: asking for so many, it has none.
    asked_max: usize,
}

impl Lane {
    fn take(&mut self, most: usize) -> Vec<IntentId> {
        self.asked_max = self.asked_max.max(most);
        let taken: Vec<IntentId> = self.waiting.drain(..self.waiting.len().min(most)).collect();
        let now = Instant::now();
        self.fetched.extend(taken.iter().map(|id| (*id, now)));
        taken
    }

    /// What it was given a while ago and does not have.
    fn take_lost(&mut self, asks_for: usize) -> Vec<IntentId> {
        if asks_for == 0 || asks_for < self.asked_max {
            return Vec::new();
        }
        let lost = self.fetched.iter().filter(|(_, since)| since.elapsed() >= LOST_AFTER);
        let lost: Vec<IntentId> = lost.map(|(intent, _)| *intent).collect();
        self.fetched.retain(|intent, _| !lost.contains(intent));
        lost
    }

    fn take_all(&mut self) -> impl Iterator<Item = IntentId> {
        let fetched = self.fetched.drain().map(|(id, _)| id);
        self.waiting.drain(..).chain(fetched)
    }

    fn len(&self) -> usize {
        self.waiting.len() + self.fetched.len()
    }
}

impl Known {
    fn note_seen(&mut self) {
        let gap = self.last_seen.map_or(Duration::ZERO, |seen| seen.elapsed());
        self.usual_gap = gap.max(self.usual_gap.mul_f64(GAP_DECAY));
        self.last_seen = Some(Instant::now());
    }
    /// Whether it said something just now, by when it would have.
    fn is_answering(&self) -> bool {
        let patience = SILENT_AFTER.max(3 * self.usual_gap);
        self.last_seen.is_some_and(|seen| seen.elapsed() < patience)
    }
    fn free_bytes(&self) -> u64 {
        let each = self.tiers.iter();
        each.fold(0u64, |sum, tier| {
            sum.saturating_add(tier.capacity_bytes.saturating_sub(tier.used_bytes))
        })
    }
    fn sum(&self, of: impl Fn(&ReportTier) -> u64) -> u64 {
        self.tiers.iter().fold(0u64, |sum, tier| sum.saturating_add(of(tier)))
    }
}

/// Work for one answer to a heartbeat. Uploads and copies are started by who asks.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    pub drops: Vec<CachedFile>,
    pub recoveries: Vec<RecoverTask>,
    pub uploads: Vec<IntentId>,
    pub copies: Vec<IntentId>,
}

/// How many more tasks of each kind a worker takes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Room {
    pub uploads: usize,
    pub copies: usize,
}

impl Tasks {
    pub fn is_empty(&self) -> bool {
        self.drops.is_empty() && self.recoveries.is_empty() && self.uploads.is_empty() && self.copies.is_empty()
    }
}

/// All workers, live or not.
#[derive(Debug)]
pub(super) struct Workers {
    table: Mutex<BTreeMap<WorkerId, Known>>,
    timeout: Duration,
}

impl Workers {
    pub fn new(timeout: Duration) -> Self {
        Self {
            table: Mutex::default(),
            timeout,
        }
    }

    /// A worker is known: at start from the state (then it is not live yet), and at each registration. Whoever registers
    /// has forgotten what it was given; the uploads and copies among that are returned.
    pub fn insert(&self, record: &WorkerRecord, tiers: Vec<ReportTier>, boot: u64, live: bool) -> Vec<IntentId> {
        let mut table = self.table.lock();
        let old = table.remove(&WorkerId(record.id));
        let (drops, recoveries, mut uploads, mut copies) = match old {
            Some(old) => {
                old.wake.notify_waiters();
                (old.drops, old.recoveries, old.uploads, old.copies)
            }
            None => Default::default(),
        };
        let forgotten = uploads.take_all().chain(copies.take_all()).collect();
        let known = Known {
            address: record.address.clone().unwrap_or_default(),
            version: record.version.clone(),
            tiers,
            damaged: Vec::new(),
            last_seen: live.then(Instant::now),
            usual_gap: Duration::ZERO,
            registered_ns: record.registered_ns,
            boot,
            drops,
            recoveries,
            uploads: Lane::default(),
            copies: Lane::default(),
            reports: HashMap::new(),
            // Who waits on the one of before gets no work any more.
            wake: Arc::default(),
        };
        table.insert(WorkerId(record.id), known);
        forgotten
    }

    /// It was heard of, with its space and what it holds more or less of. False: no such worker.
    pub fn heard(
        &self,
        id: WorkerId,
        tiers: &[ReportTier],
        damaged: Vec<DamagedRange>,
        cached: Vec<CachedFile>,
    ) -> bool {
        let mut table = self.table.lock();
        let Some(known) = table.get_mut(&id) else { return false };
        known.note_seen();
        if !tiers.is_empty() {
            known.tiers = tiers.to_vec();
        }
        known.damaged = damaged;
        known.reports.extend(cached.into_iter().map(|file| (file.inode, file)));
        true
    }

    /// It says something, whatever becomes of that.
    pub fn seen(&self, id: WorkerId) {
        if let Some(known) = self.table.lock().get_mut(&id) {
            known.note_seen();
        }
    }

    /// Reports of one worker that are not in the state yet.
    pub fn waiting_reports(&self, id: WorkerId) -> usize {
        self.table.lock().get(&id).map_or(0, |known| known.reports.len())
    }

    /// Takes up to `limit` reports of each worker.
    pub fn take_reports(&self, limit: usize) -> Vec<(WorkerId, Vec<CachedFile>)> {
        let mut taken = Vec::new();
        for (id, known) in self.table.lock().iter_mut() {
            let inodes: Vec<u64> = known.reports.keys().take(limit).copied().collect();
            let files: Vec<_> = inodes.iter().filter_map(|inode| known.reports.remove(inode)).collect();
            if !files.is_empty() {
                taken.push((*id, files));
            }
        }
        taken
    }

    /// Puts reports back that could not be stored, unless newer ones came.
    pub fn return_reports(&self, id: WorkerId, files: Vec<CachedFile>) {
        if let Some(known) = self.table.lock().get_mut(&id) {
            for file in files {
                known.reports.entry(file.inode).or_insert(file);
            }
        }
    }

    /// Rings when there is work, for every poll of the worker; look for it after having asked for this, and made what waits for it.
    pub fn wake(&self, id: WorkerId) -> Option<Arc<Notify>> {
        self.table.lock().get(&id).map(|known| known.wake.clone())
    }

    /// Work that waits for a worker, as much as it takes. `None`: `wake` is of before its last registration. Whoever waits on
    /// that may be a process that is gone, and what it was given would be lost.
    pub fn take_tasks(&self, id: WorkerId, wake: &Arc<Notify>, room: Room) -> Option<Tasks> {
        let mut table = self.table.lock();
        let known = table.get_mut(&id).filter(|known| Arc::ptr_eq(&known.wake, wake))?;
        let drops = known.drops.len().min(TASKS_PER_ANSWER_MAX);
        let recoveries = known.recoveries.len().min(TASKS_PER_ANSWER_MAX);
        Some(Tasks {
            drops: known.drops.drain(..drops).collect(),
            recoveries: known.recoveries.drain(..recoveries).collect(),
            uploads: known.uploads.take(room.uploads),
            copies: known.copies.take(room.copies),
        })
    }

    /// An upload or a copy ended, one way or the other.
    pub fn task_ended(&self, id: WorkerId, intent: IntentId) {
        if let Some(known) = self.table.lock().get_mut(&id) {
            known.uploads.fetched.remove(&intent);
            known.copies.fetched.remove(&intent);
        }
    }

    /// Uploads and copies that a worker was given a while ago but does not have, as it asks for as many as it ever did: the answer that
    /// carried them was lost. A worker that has one all the same does it once, as it knows intents by their ids.
    pub fn take_lost_tasks(&self, id: WorkerId, room: Room) -> Vec<IntentId> {
        let mut table = self.table.lock();
        let Some(known) = table.get_mut(&id) else {
            return Vec::new();
        };
        let mut lost = known.uploads.take_lost(room.uploads);
        lost.extend(known.copies.take_lost(room.copies));
        lost
    }

    /// A cached version may go.
    pub fn drop_cached(&self, id: WorkerId, file: CachedFile) {
        self.give(id, |known| {
            if known.drops.len() < DROPS_MAX {
                known.drops.push_back(file);
            }
        });
    }

    /// An open version has lost its writers.
    pub fn recover(&self, id: WorkerId, task: RecoverTask) {
        self.give(id, |known| {
            if !known.recoveries.contains(&task) {
                known.recoveries.push_back(task);
            }
        });
    }

    /// An upload is due. False: the worker does not live.
    pub fn offer(&self, id: WorkerId, intent: IntentId) -> bool {
        self.offer_in(id, intent, |known| &mut known.uploads)
    }

    /// As [`Self::offer`], of a copy.
    pub fn offer_copy(&self, id: WorkerId, intent: IntentId) -> bool {
        self.offer_in(id, intent, |known| &mut known.copies)
    }

    fn offer_in(&self, id: WorkerId, intent: IntentId, lane: impl FnOnce(&mut Known) -> &mut Lane) -> bool {
        let mut table = self.table.lock();
        let Some(known) = table.get_mut(&id).filter(|known| self.heard_lately(known)) else {
            return false;
        };
        let wake = known.wake.clone();
        lane(known).waiting.push_back(intent);
        wake.notify_waiters();
        true
    }

    /// Whether a worker takes copies: none that is silent just now, for any other does as well; one of older software never asks for any.
    fn copies(&self, known: &Known) -> bool {
        known.copies.asked_max > 0 && self.heard_lately(known) && known.is_answering()
    }

    /// Whether there is a worker that takes copies.
    pub fn take_copies(&self) -> bool {
        self.table.lock().values().any(|known| self.copies(known))
    }

    /// Who is to make a copy: the one that holds most of the file, of those that hold none the one with the least to do.
    pub fn for_copy(&self, held: &[(WorkerId, u64)]) -> Option<WorkerId> {
        let table = self.table.lock();
        let able = table.iter().filter(|(_, known)| self.copies(known));
        let held_by = |id: &WorkerId| {
            held.iter()
                .find(|(holder, _)| holder == id)
                .map_or(0, |(_, bytes)| *bytes)
        };
        let best = able.max_by_key(|(id, known)| {
            let load = known.copies.len() + known.uploads.len();
            (held_by(id), std::cmp::Reverse(load))
        });
        best.map(|(id, _)| *id)
    }

    fn give(&self, id: WorkerId, work: impl FnOnce(&mut Known)) {
        if let Some(known) = self.table.lock().get_mut(&id) {
            work(known);
            known.wake.notify_waiters();
        }
    }

    fn heard_lately(&self, known: &Known) -> bool {
        known.last_seen.is_some_and(|seen| seen.elapsed() < self.timeout)
    }

    /// Whether it was heard of lately.
    pub fn is_live(&self, id: WorkerId) -> bool {
        self.table.lock().get(&id).is_some_and(|known| self.heard_lately(known))
    }

    /// Whether there is such a worker, live or not.
    pub fn is_known(&self, id: WorkerId) -> bool {
        self.table.lock().contains_key(&id)
    }

    /// Workers that are lost: their uploads and copies are returned.
    pub fn take_tasks_of_lost(&self) -> Vec<(WorkerId, Vec<IntentId>)> {
        let mut table = self.table.lock();
        let lost = table.iter_mut().filter(|(_, known)| !self.heard_lately(known));
        lost.map(|(id, known)| (*id, known.uploads.take_all().chain(known.copies.take_all()).collect()))
            .collect()
    }

    /// Copies that wait for workers which have fallen silent: others can make them. What such a worker has fetched it may be making.
    pub fn take_copies_of_silent(&self) -> Vec<IntentId> {
        let mut table = self.table.lock();
        let silent = table.values_mut().filter(|known| !known.is_answering());
        silent
            .flat_map(|known| std::mem::take(&mut known.copies.waiting))
            .collect()
    }

    /// Copies that nobody is known to work on, for the worker that has them says nothing any more.
    pub fn copies_at_silent(&self) -> usize {
        let table = self.table.lock();
        let silent = table.values().filter(|known| !known.is_answering());
        silent.map(|known| known.copies.len()).sum()
    }

    /// Where a worker serves, live or not.
    pub fn address(&self, id: WorkerId) -> Option<WorkerAddress> {
        self.table.lock().get(&id).map(|known| known.address.clone())
    }

    /// Home of a new open version for a client on `host`, and its boot: the live worker there, else the one with most room. A
    /// worker that is silent just now only if all are: a program would wait for it.
    pub fn home(&self, host: &str) -> Option<(WorkerId, u64)> {
        let table = self.table.lock();
        let live = table.iter().filter(|(_, known)| self.heard_lately(known));
        let best = live.max_by_key(|(_, known)| {
            let is_near = same_host(&known.address.host, host);
            (known.is_answering(), is_near, known.free_bytes())
        });
        best.map(|(id, known)| (*id, known.boot))
    }

    /// Whom a client on `host` reads from, best first: live holders (the one on its host before all, then who holds most),
    /// then who should fetch: the worker on its host, else always the same one for this inode, and another in its stead. Workers
    /// that are silent just now come after those that are not.
    pub fn readers(&self, host: &str, inode: InodeId, holders: &[CachedAt], can_fetch: bool) -> Vec<WorkerAddress> {
        let table = self.table.lock();
        let mut live: Vec<(&WorkerId, &Known)> = table.iter().filter(|(_, known)| self.heard_lately(known)).collect();
        if live.is_empty() {
            return Vec::new();
        }
        let held = |id: &WorkerId| holders.iter().find(|at| at.worker == id.get()).map_or(0, |at| at.bytes);
        live.sort_by_key(|(id, known)| {
            let near = same_host(&known.address.host, host);
            (
                !known.is_answering(),
                held(id) == 0,
                !near,
                std::cmp::Reverse(held(id)),
                std::cmp::Reverse(weight(inode, **id)),
            )
        });
        let mut fetchers = if can_fetch { FETCHERS_MAX } else { 0 };
        live.retain(|(id, _)| {
            let is_fetcher = held(id) == 0;
            let is_wanted = !is_fetcher || fetchers > 0;
            fetchers -= usize::from(is_fetcher && is_wanted);
            is_wanted
        });
        live.into_iter().map(|(_, known)| known.address.clone()).collect()
    }

    /// Bytes of all live workers: capacity, in use.
    pub fn space(&self) -> (u64, u64) {
        let table = self.table.lock();
        let live = table.values().filter(|known| self.heard_lately(known));
        live.fold((0u64, 0u64), |(capacity, used), known| {
            (
                capacity.saturating_add(known.sum(|tier| tier.capacity_bytes)),
                used.saturating_add(known.sum(|tier| tier.used_bytes)),
            )
        })
    }

    /// How many live.
    pub fn live_count(&self) -> usize {
        self.table
            .lock()
            .values()
            .filter(|known| self.heard_lately(known))
            .count()
    }

    /// For reports.
    pub fn report(&self) -> Vec<ReportWorker> {
        let table = self.table.lock();
        let each = table.values().map(|known| ReportWorker {
            address: Some(known.address.clone()),
            live: self.heard_lately(known),
            last_contact_ms: known
                .last_seen
                .map_or(u64::MAX, |seen| seen.elapsed().as_millis() as u64),
            capacity_bytes: known.sum(|tier| tier.capacity_bytes),
            used_bytes: known.sum(|tier| tier.used_bytes),
            start_ms: u64::try_from(known.registered_ns / 1_000_000).unwrap_or(0),
            version: known.version.clone(),
            tiers: known.tiers.clone(),
            damaged: known.damaged.clone(),
        });
        each.collect()
    }
}

fn same_host(a: &str, b: &str) -> bool {
    !a.is_empty() && a.eq_ignore_ascii_case(b)
}

/// Rendezvous hashing: a worker that comes or goes moves only its own share of the inodes.
fn weight(inode: InodeId, worker: WorkerId) -> u64 {
    let mut hasher = DefaultHasher::new();
    (inode, worker).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workers(hosts: &[(&str, u64)]) -> Workers {
        let workers = Workers::new(Duration::from_secs(60));
        for (index, (host, free)) in hosts.iter().enumerate() {
            let id = index as u64 + 1;
            let address = WorkerAddress {
                worker_id: id,
                host: (*host).to_owned(),
                ..Default::default()
            };
            let record = WorkerRecord {
                id,
                address: Some(address),
                ..Default::default()
            };
            let tier = ReportTier {
                capacity_bytes: *free,
                ..Default::default()
            };
            workers.insert(&record, vec![tier], 0, true);
        }
        workers
    }

    impl Workers {
        fn fall_silent(&self, id: WorkerId) {
            let mut table = self.table.lock();
            table.get_mut(&id).unwrap().last_seen = Instant::now().checked_sub(SILENT_AFTER);
        }
    }

    fn ids(addresses: &[WorkerAddress]) -> Vec<u64> {
        addresses.iter().map(|address| address.worker_id).collect()
    }

    #[test]
    fn home_is_near_then_roomy() {
        let workers = workers(&[("a", 1), ("b", 5), ("c", 3)]);
        assert_eq!(workers.home("C").unwrap().0, WorkerId(3));
        assert_eq!(workers.home("elsewhere").unwrap().0, WorkerId(2));
        assert_eq!(Workers::new(Duration::from_secs(1)).home("a"), None);
        workers.fall_silent(WorkerId(3));
        assert_eq!(
            workers.home("C").unwrap().0,
            WorkerId(2),
            "who is silent is not waited for"
        );
        workers.fall_silent(WorkerId(1));
        workers.fall_silent(WorkerId(2));
        assert_eq!(workers.home("C").unwrap().0, WorkerId(3), "unless all are");
    }

    #[test]
    fn readers_go_to_holders_first() {
        let workers = workers(&[("a", 1), ("b", 1), ("c", 1)]);
        let at = |worker, bytes| CachedAt {
            worker,
            version: 1,
            bytes,
        };
        let file = InodeId(9);
        assert_eq!(ids(&workers.readers("a", file, &[at(2, 5), at(3, 9)], true)), [3, 2, 1]);
        assert_eq!(ids(&workers.readers("b", file, &[at(2, 5), at(3, 9)], false)), [2, 3]);
        let near = ids(&workers.readers("b", file, &[], true));
        assert_eq!(
            (near[0], near.len()),
            (2, FETCHERS_MAX),
            "one more, should that be away"
        );
        workers.fall_silent(WorkerId(2));
        assert_ne!(ids(&workers.readers("b", file, &[], true))[0], 2);
        assert_eq!(ids(&workers.readers("b", file, &[at(2, 5), at(3, 9)], false)), [3, 2]);
        let far = workers.readers("x", file, &[], true);
        assert_eq!(far, workers.readers("y", file, &[], true), "always the same one");
        assert_eq!(workers.readers("x", file, &[], false), []);
    }

    #[test]
    fn a_registration_gives_uploads_back() {
        let workers = workers(&[("a", 1)]);
        assert!(workers.offer(WorkerId(1), IntentId(4)) && workers.offer(WorkerId(1), IntentId(5)));
        assert!(!workers.offer(WorkerId(2), IntentId(6)));
        let wake = workers.wake(WorkerId(1)).unwrap();
        let one = Room { uploads: 1, copies: 1 };
        assert_eq!(
            workers.take_tasks(WorkerId(1), &wake, one).unwrap().uploads,
            [IntentId(4)]
        );
        workers.recover(WorkerId(1), RecoverTask::default());
        let record = WorkerRecord {
            id: 1,
            ..Default::default()
        };
        assert_eq!(workers.insert(&record, Vec::new(), 0, true), [IntentId(5), IntentId(4)]);
        // What a process waits on that is gone takes nothing from the one that came after it.
        let many = Room { uploads: 9, copies: 9 };
        assert!(workers.take_tasks(WorkerId(1), &wake, many).is_none());
        let wake = workers.wake(WorkerId(1)).unwrap();
        let tasks = workers.take_tasks(WorkerId(1), &wake, many).unwrap();
        assert_eq!((tasks.uploads.len(), tasks.recoveries.len()), (0, 1));
    }

    fn take(workers: &Workers, id: WorkerId, room: Room) -> Tasks {
        let wake = workers.wake(id).unwrap();
        workers.take_tasks(id, &wake, room).unwrap()
    }

    #[test]
    fn copies_go_to_holders_then_to_who_has_least_to_do() {
        let workers = workers(&[("a", 1), ("b", 1), ("c", 1)]);
        assert!(!workers.take_copies(), "none has asked for any");
        assert_eq!(workers.for_copy(&[]), None);
        let room = Room { uploads: 1, copies: 2 };
        for id in [1, 2] {
            assert!(take(&workers, WorkerId(id), room).is_empty());
        }
        assert!(workers.take_copies());
        let chosen = workers.for_copy(&[]).unwrap();
        let other = WorkerId(3 - chosen.get());
        assert!(workers.offer_copy(chosen, IntentId(1)) && workers.offer(chosen, IntentId(2)));
        assert_eq!(workers.for_copy(&[]), Some(other), "it has nothing to do");
        assert_eq!(
            workers.for_copy(&[(chosen, 5)]),
            Some(chosen),
            "it need not fetch the file"
        );
        assert_eq!(
            workers.for_copy(&[(WorkerId(3), 5)]),
            Some(other),
            "the holder takes none"
        );
        // A copy does not wait behind uploads that are not asked for.
        let only_copies = Room { uploads: 0, copies: 1 };
        assert_eq!(take(&workers, chosen, only_copies).copies, [IntentId(1)]);
        workers.task_ended(chosen, IntentId(1));
        assert!(workers.offer_copy(chosen, IntentId(3)));
        assert_eq!(take(&workers, chosen, room).uploads, [IntentId(2)]);
        let record = WorkerRecord {
            id: chosen.get(),
            ..Default::default()
        };
        workers.fall_silent(other);
        assert_eq!(
            workers.for_copy(&[(other, 5)]),
            Some(chosen),
            "who is silent is not waited for"
        );
        assert_eq!(
            (workers.take_copies_of_silent(), workers.copies_at_silent()),
            (Vec::new(), 0)
        );
        workers.fall_silent(chosen);
        assert_eq!(
            workers.copies_at_silent(),
            1,
            "it may be at work on it, and another is not sent after it"
        );
        let mut forgotten = workers.insert(&record, Vec::new(), 0, true);
        forgotten.sort();
        assert_eq!(forgotten, [IntentId(2), IntentId(3)]);
    }
}
