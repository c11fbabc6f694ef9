//! The master's metrics, by Alluxio's names where Alluxio has one.

use alluxio_common::metrics::{Counter, Metrics};
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
            $(pub $field: Counter,)*
        }

        impl MasterMetrics {
            pub fn new(registry: Metrics) -> Self {
                Self { $($field: registry.counter($name),)* registry }
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
    file_infos_got = "Master.FileInfosGot",
    file_block_infos_got = "Master.FileBlockInfosGot",
    file_opens = "Master.GetFileInfoOps",
    lookups = "Master.LookupOps",
    listings = "Master.ListStatusOps",
    ufs_status_calls = "Master.UfsStatusCalls",
    ufs_list_calls = "Master.UfsListCalls",
    sync_ops = "Master.MetadataSyncOpsCount",
    sync_failures = "Master.MetadataSyncFail",
    sync_paths_loaded = "Master.MetadataSyncPathsLoaded",
    sync_paths_changed = "Master.MetadataSyncPathsChanged",
    sync_paths_removed = "Master.MetadataSyncPathsRemoved",
    persist_failures = "Master.AsyncPersistFailed",
    ufs_changes_done = "Master.UfsChangesDone",
    ufs_changes_failed = "Master.UfsChangesFailed",
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
        gauge("Master.AsyncPersistPending", State::pending_intents);
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
        gauge("Master.ActiveWorkers", |_, workers, _| workers.live_count() as u64);
        self.watch_locks(core);
        gauge("Cluster.CapacityTotal", |_, workers, _| workers.space().0);
        gauge("Cluster.CapacityUsed", |_, workers, _| workers.space().1);
        gauge("Master.PersistFailuresPermanent", |_, _, queue| {
            queue.permanent_count() as u64
        });
    }
}
