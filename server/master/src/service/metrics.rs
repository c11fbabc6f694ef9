//! The master's metrics, by Alluxio's names where Alluxio has one.

use alluxio_common::metrics::{Counter, Metrics, OpTimers};
use alluxio_proto::master::Op;
use std::sync::{Arc, Weak};

use super::executor::IntentQueue;
use super::sessions::Sessions;
use super::workers::Workers;
use crate::state::State;

macro_rules! counters {
    ($($field:ident = $name:literal,)*) => {
        /// Counters that requests increase.
        #[derive(Debug)]
        pub(super) struct MasterMetrics {
            registry: Metrics,
            /// Latencies of requests.
            pub timers: OpTimers,
            $(pub $field: Counter,)*
        }

        impl MasterMetrics {
            pub fn new(registry: Metrics) -> Self {
                let timers = OpTimers::new(&registry, "Master", Some("Master.TotalRpcs"), Op::NAMES);
                Self { timers, $($field: registry.counter($name),)* registry }
            }
        }
    };
}

counters! {
    files_created = "Master.FilesCreated",
    files_completed = "Master.FilesCompleted",
    directories_created = "Master.DirectoriesCreated",
    paths_deleted = "Master.PathsDeleted",
    paths_renamed = "Master.PathsRenamed",
    paths_mounted = "Master.PathsMounted",
    paths_unmounted = "Master.PathsUnmounted",
    files_freed = "Master.FilesFreed",
    files_persisted = "Master.FilesPersisted",
    uploads_done = "Master.AsyncPersistSuccess",
    file_infos_got = "Master.FileInfosGot",
    file_block_infos_got = "Master.FileBlockInfosGot",
    file_opens = "Master.FilesOpened",
    lookups = "Master.LookupOps",
    listings = "Master.ListStatusOps",
    ufs_status_calls = "Master.UfsStatusCalls",
    ufs_list_calls = "Master.UfsListCalls",
    sync_ops = "Master.MetadataSyncOpsCount",
    sync_failures = "Master.MetadataSyncFail",
    sync_paths_loaded = "Master.MetadataSyncPathsLoaded",
    sync_paths_changed = "Master.MetadataSyncPathsChanged",
    sync_paths_removed = "Master.MetadataSyncPathsRemoved",
    persist_failures = "Master.AsyncPersistFail",
    ufs_changes_done = "Master.UfsChangesDone",
    ufs_changes_failed = "Master.UfsChangesFailed",
    ufs_changes_refused = "Master.UfsChangesRefused",
    copies_inside = "Master.CopiesInsideStores",
    copies_by_workers = "Master.CopiesByWorkers",
    sessions_expired = "Master.SessionsExpired",
    locks_granted = "Master.LocksGranted",
    lock_waits = "Master.LockWaits",
    lock_deadlocks = "Master.LockDeadlocks",
    locks_refused = "Master.LocksRefused",
    lock_claims_refused = "Master.LockClaimsRefused",
}

impl MasterMetrics {
    pub fn registry(&self) -> &Metrics {
        &self.registry
    }

    /// Gauges that are computed when they are looked at. They hold nothing alive.
    pub fn watch_state(&self, state: &Arc<State>) {
        let gauge = |name: &str, value: fn(&State) -> u64| {
            let state: Weak<State> = Arc::downgrade(state);
            self.registry.gauge_fn(name, move || {
                let value = state.upgrade().map_or(0, |state| value(&state));
                i64::try_from(value).unwrap_or(i64::MAX)
            });
        };
        gauge("Master.TotalPaths", |state| state.counters().inodes);
        gauge("Master.UfsChangesPending", State::pending_intents);
        gauge("Master.DetachedTrees", |state| state.counters().detached);
    }

    fn watch_locks(&self, core: &Arc<super::Core>) {
        let gauge = |name: &str, value: fn((usize, usize)) -> usize| {
            let core = Arc::downgrade(core);
            self.registry.gauge_fn(name, move || {
                let value = core.upgrade().map_or(0, |core| value(core.locks.counts()));
                i64::try_from(value).unwrap_or(i64::MAX)
            });
        };
        gauge("Master.LocksHeld", |(held, _)| held);
        gauge("Master.LocksWaiting", |(_, waiting)| waiting);
    }

    pub fn watch_volatile(&self, core: &Arc<super::Core>) {
        let gauge = |name: &str, value: fn(&Sessions, &Workers, &IntentQueue) -> u64| {
            let core = Arc::downgrade(core);
            self.registry.gauge_fn(name, move || {
                let value = core
                    .upgrade()
                    .map_or(0, |core| value(&core.sessions, &core.workers, &core.queue));
                i64::try_from(value).unwrap_or(i64::MAX)
            });
        };
        gauge("Master.Sessions", |sessions, _, _| sessions.count() as u64);
        gauge("Cluster.Workers", |_, workers, _| workers.live_count() as u64);
        self.watch_locks(core);
        let weak = Arc::downgrade(core);
        self.registry.gauge_fn("Master.JournalFreeBytes", move || {
            let free = weak.upgrade().map_or(0, |core| core.room.free_bytes());
            i64::try_from(free).unwrap_or(i64::MAX)
        });
        gauge("Cluster.CapacityTotal", |_, workers, _| workers.space().0);
        gauge("Cluster.CapacityUsed", |_, workers, _| workers.space().1);
        gauge("Master.UfsChangesRefusedNow", |_, _, queue| {
            queue.refused_count() as u64
        });
        gauge("Master.PersistFailuresPermanent", |_, _, queue| {
            queue.permanent_count() as u64
        });
    }
}
