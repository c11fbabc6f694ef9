//! The loop with the master: registration, heartbeats that bring work, and what became of it.
//!
//! Heartbeats run beside each other: a long poll that brings uploads, one that brings copies between mounts, and one per interval
//! that tells what is held. A poll is never cut short, because the work in its answer would be lost until the master gives it
//! again.

use crate::core::Core;
use crate::options::WorkerOptions;
use crate::recover::Recovery;
use crate::report::Reports;
use crate::store::{Identity, Store};
use crate::ufs_clients::prove;
use alluxio_common::retry::RetryPolicy;
use alluxio_common::sync::Mutex;
use alluxio_proto::master::*;
use alluxio_proto::{ErrorKind, FsError, FsResult, InodeId, WorkerId};
use futures::FutureExt;
use std::collections::HashSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long the master may hold a poll.
const POLL_WAIT: Duration = Duration::from_secs(10);
/// Longest pause between tries while the master is away.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Pauses between looks at a file that lost its writers and is still mapped, and the share of the time that looking takes.
const MAPPED_PAUSE: Duration = Duration::from_millis(100);
const MAPPED_PAUSE_MAX: Duration = Duration::from_secs(1);
const MAPPED_SHARE: u32 = 8;
/// Copies between mounts at once: each holds what the target's adapter has in flight of one upload, 32 MiB by default.
const COPIES_MAX: usize = 8;
/// Drops and recoveries at once; they are local and short.
const LOCAL_TASKS_MAX: usize = 8;
/// An answer to the master is tried for ever (until shutdown): the pauses end here and begin again.
const ANSWER_RETRY: RetryPolicy = RetryPolicy {
    base: Duration::from_millis(50),
    max: PAUSE_MAX,
    total: Duration::from_secs(u32::MAX as u64),
};

/// What the master may give twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum TaskKey {
    /// By intent.
    Upload(u64),
    /// By intent.
    Copy(u64),
    /// By inode.
    Recovery(u64),
}

/// How many tasks of each kind a poll asks for.
#[derive(Clone, Copy, Default)]
struct Room {
    uploads: usize,
    copies: usize,
}

/// What the loop needs.
pub(crate) struct MasterLoop {
    core: Arc<Core>,
    options: WorkerOptions,
    reports: Arc<Reports>,
    shutdown: CancellationToken,
    tasks: TaskTracker,
    worker_id: AtomicU64,
    /// What was accepted and is not done: the master may give it again.
    accepted: Mutex<HashSet<TaskKey>>,
    /// A task ended: there may be room for more.
    task_ended: Notify,
    uploads: Arc<Semaphore>,
    copies: Arc<Semaphore>,
    local: Arc<Semaphore>,
    register_again: Notify,
    is_registered: AtomicBool,
}

impl MasterLoop {
    pub fn new(
        core: Arc<Core>,
        options: WorkerOptions,
        shutdown: CancellationToken,
        tasks: TaskTracker,
    ) -> FsResult<Arc<Self>> {
        let identity = core.store.layout.identity()?;
        core.clients.set_identity(identity.worker_id, &identity.cluster_id);
        Ok(Arc::new(Self {
            uploads: Arc::new(Semaphore::new(
                core.settings.persist_parallelism.min(Semaphore::MAX_PERMITS),
            )),
            copies: Arc::new(Semaphore::new(COPIES_MAX)),
            local: Arc::new(Semaphore::new(LOCAL_TASKS_MAX)),
            reports: Arc::clone(&core.store.reports),
            core,
            options,
            shutdown,
            tasks,
            worker_id: AtomicU64::new(identity.worker_id),
            accepted: Mutex::new(HashSet::new()),
            task_ended: Notify::new(),
            register_again: Notify::new(),
            is_registered: AtomicBool::new(false),
        }))
    }

    pub fn worker_id(&self) -> Option<WorkerId> {
        Some(self.worker_id.load(Ordering::Relaxed))
            .filter(|id| *id != 0)
            .map(WorkerId)
    }

    /// Whether a master has taken this worker since its start.
    pub fn is_registered(&self) -> bool {
        self.is_registered.load(Ordering::Relaxed)
    }

    /// Registers once.
    ///
    /// # Errors
    /// The master's; `InvalidArgument` if the folder belongs to another cluster.
    pub async fn register(&self) -> FsResult<()> {
        let layout = &self.core.store.layout;
        let identity = layout.identity()?;
        let mut address = self.options.address.clone();
        address.worker_id = identity.worker_id;
        let proof = prove(&*self.options.master, &self.options.secret, identity.worker_id)
            .await
            .map_err(|error| error.context("register with the master"))?;
        let op = RegisterWorker {
            proof: Some(proof),
            worker_id: identity.worker_id,
            address: Some(address),
            tiers: self.tiers(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            cluster_id: identity.cluster_id.clone(),
            boot: layout.boot_number(),
        };
        let registered: Registered = self.options.master.ask(op).await?;
        if !identity.cluster_id.is_empty() && registered.cluster_id != identity.cluster_id {
            let why = format!(
                "worker folder {} belongs to cluster {}, the master is of cluster {}; give the worker another folder",
                layout.root().display(),
                identity.cluster_id,
                registered.cluster_id
            );
            return Err(FsError::new(ErrorKind::InvalidArgument, why));
        }
        let now = Identity {
            cluster_id: registered.cluster_id,
            worker_id: registered.worker_id,
        };
        if now != identity {
            layout.set_identity(&now)?;
        }
        self.worker_id.store(now.worker_id, Ordering::Relaxed);
        self.core.clients.set_identity(now.worker_id, &now.cluster_id);
        self.is_registered.store(true, Ordering::Relaxed);
        tracing::info!(worker = now.worker_id, cluster = now.cluster_id, "registered");
        Ok(())
    }

    /// Starts the loop. `registered`: the first registration is done.
    pub fn start(self: &Arc<Self>, registered: bool) {
        let this = Arc::clone(self);
        self.tasks.spawn(async move {
            let work = async {
                if registered {
                    this.after_registration();
                } else {
                    this.register_until_done().await;
                }
                tokio::join!(
                    this.poll(|| this.room_for_uploads()),
                    this.poll(|| this.room_for_copies()),
                    this.report(),
                    this.keep_registered()
                );
            };
            tokio::select! {
                () = this.shutdown.cancelled() => {}
                () = work => {}
            }
        });
    }

    async fn register_until_done(self: &Arc<Self>) {
        let mut backoff = ANSWER_RETRY.start();
        loop {
            let error = match self.register().await {
                Ok(()) => return self.after_registration(),
                Err(error) => error,
            };
            if error.is_retryable() {
                tracing::info!(%error, "register with the master; trying again");
            } else {
                tracing::error!(%error, "the master refuses this worker; trying again");
            }
            backoff.pause(&error).await;
        }
    }

    /// Tells all that is held, and clears up in the under-storages.
    fn after_registration(self: &Arc<Self>) {
        let (store, shutdown) = (Arc::clone(&self.core.store), self.shutdown.clone());
        self.tasks.spawn_blocking(move || report_all(&store, &shutdown));
        let this = Arc::clone(self);
        self.tasks.spawn(async move {
            tokio::select! {
                () = this.shutdown.cancelled() => {}
                () = this.abort_stale_uploads() => {}
            }
        });
    }

    async fn abort_stale_uploads(&self) {
        let Some(age) = self.core.settings.stale_upload_age else {
            return;
        };
        let stores = match self.core.clients.refresh().await {
            Ok(stores) => stores,
            Err(error) => return tracing::info!(%error, "look for interrupted uploads"),
        };
        for ufs in stores {
            match ufs.abort_stale_uploads(age).await {
                Ok(0) => {}
                Ok(count) => tracing::info!(count, ?ufs, "aborted interrupted uploads"),
                // Best effort: the next start tries again.
                Err(error) => tracing::info!(%error, ?ufs, "abort interrupted uploads"),
            }
        }
    }

    async fn keep_registered(self: &Arc<Self>) {
        loop {
            self.register_again.notified().await;
            self.register_until_done().await;
        }
    }

    /// A poll of its own for each kind of work that is asked for by number, so that none is held up by the other.
    async fn poll<F: Future<Output = Room>>(self: &Arc<Self>, room: impl Fn() -> F) {
        let mut backoff = ANSWER_RETRY.start();
        loop {
            let room = room().await;
            match self.heartbeat(Vec::new(), POLL_WAIT, room).await {
                Ok(()) => backoff = ANSWER_RETRY.start(),
                Err(error) => {
                    tracing::info!(%error, "ask the master for work; trying again");
                    backoff.pause(&error).await;
                }
            }
        }
    }

    /// How many tasks of a kind to ask for: as many wait here as run, so that none is waited for, and half of them are asked for at
    /// once, because each answer costs the master a sync of its journal. Never 0: the master would hold such a poll for its
    /// whole length, whatever ends meanwhile. What cannot wait (drops, recoveries) comes with the reports.
    async fn room(&self, parallel: usize, is_one: fn(&TaskKey) -> bool) -> usize {
        loop {
            let ended = self.task_ended.notified();
            let accepted = self.accepted.lock().iter().filter(|key| is_one(key)).count();
            if accepted <= parallel {
                return parallel.saturating_mul(2) - accepted;
            }
            ended.await;
        }
    }

    async fn room_for_uploads(&self) -> Room {
        let parallel = self.core.settings.persist_parallelism.max(1);
        Room {
            uploads: self.room(parallel, |key| matches!(key, TaskKey::Upload(_))).await,
            copies: 0,
        }
    }

    async fn room_for_copies(&self) -> Room {
        Room {
            uploads: 0,
            copies: self.room(COPIES_MAX, |key| matches!(key, TaskKey::Copy(_))).await,
        }
    }

    async fn report(self: &Arc<Self>) {
        let mut ticks = tokio::time::interval(self.core.settings.heartbeat_interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            loop {
                let report = self.reports.take();
                if let Err(error) = self.heartbeat(report.clone(), Duration::ZERO, Room::default()).await {
                    self.reports.put_back(report);
                    tracing::info!(%error, "report to the master; trying again");
                    break;
                }
                if self.reports.is_empty() {
                    break;
                }
            }
        }
    }

    async fn heartbeat(self: &Arc<Self>, cached: Vec<CachedFile>, wait: Duration, room: Room) -> FsResult<()> {
        let op = WorkerHeartbeat {
            worker_id: self.worker_id.load(Ordering::Relaxed),
            tiers: self.tiers(),
            cached,
            wait_ms: wait.as_millis() as u64,
            capacity_tasks: u32::try_from(room.uploads).unwrap_or(u32::MAX),
            capacity_copies: u32::try_from(room.copies).unwrap_or(u32::MAX),
            damaged: self.core.store.damages.ranges(),
        };
        let work: WorkerTasks = self.options.master.ask(op).await?;
        if work.reregister {
            self.register_again.notify_one();
            return Err(FsError::new(
                ErrorKind::Unavailable,
                "the master does not know this worker (any more)",
            ));
        }
        for task in work.persist {
            self.begin(TaskKey::Upload(task.intent), &self.uploads, |this| async move {
                this.run_persist(task).await
            });
        }
        for task in work.copy {
            self.begin(TaskKey::Copy(task.intent), &self.copies, |this| async move {
                this.run_copy(task).await
            });
        }
        for task in work.recover {
            // It may take as long as a program has the file mapped: the permit is for its short moments.
            let unlimited = Arc::new(Semaphore::new(1));
            self.begin(TaskKey::Recovery(task.inode), &unlimited, |this| async move {
                this.run_recover(task).await
            });
        }
        for order in work.drop {
            if let Err(error) = self.core.drop_by_order(&order).await {
                tracing::warn!(%error, inode = order.inode, "drop a version as the master ordered");
            }
        }
        Ok(())
    }

    fn begin<F>(self: &Arc<Self>, key: TaskKey, permits: &Arc<Semaphore>, work: impl FnOnce(Arc<Self>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        if !self.accepted.lock().insert(key) {
            return;
        }
        let (this, permits) = (Arc::clone(self), Arc::clone(permits));
        let work = work(Arc::clone(self));
        self.tasks.spawn(async move {
            let work = async {
                let _permit = permits.acquire().await;
                if AssertUnwindSafe(work).catch_unwind().await.is_err() {
                    tracing::error!(?key, "a task of the master panicked");
                }
            };
            tokio::select! {
                () = this.shutdown.cancelled() => {}
                () = work => {}
            }
            this.accepted.lock().remove(&key);
            this.task_ended.notify_waiters();
        });
    }

    async fn run_persist(&self, task: PersistTask) {
        // Kept over the answer, and not evicted before the master has it: readers are sent here until then.
        let held = self.core.store.find(InodeId(task.inode)).await.ok().flatten();
        if let Some(entry) = &held {
            entry.unconfirmed.fetch_add(1, Ordering::Relaxed);
        }
        self.core.store.space.count_upload(true);
        let result = self.core.persist(&task).await;
        if let Err(error) = &result {
            tracing::info!(%error, intent = task.intent, inode = task.inode, "an upload failed");
        }
        let (fingerprint, error) = match result {
            Ok(fingerprint) => (fingerprint, None),
            Err(error) => (String::new(), Some(error.to_wire())),
        };
        self.answer(PersistDone {
            worker_id: self.worker_id.load(Ordering::Relaxed),
            intent: task.intent,
            inode: task.inode,
            version: task.version,
            mount_id: task.mount_id,
            path: task.path,
            fingerprint,
            error,
        })
        .await;
        if let Some(entry) = held {
            entry.unconfirmed.fetch_sub(1, Ordering::Relaxed);
            if !entry.view().pinned() {
                self.core.store.space.unpin(entry.inode);
            }
        }
        self.core.store.space.count_upload(false);
    }

    async fn run_copy(&self, task: CopyTask) {
        let result = self.core.copy_between(&task).await;
        if let Err(error) = &result {
            tracing::info!(%error, intent = task.intent, inode = task.inode, "a copy to another mount failed");
        }
        let source_fingerprint = task.source.map(|source| source.fingerprint);
        let (fingerprint, length, error) = match result {
            Ok(status) => (status.fingerprint, status.length, None),
            Err(error) => (String::new(), 0, Some(error.to_wire())),
        };
        self.answer(CopyDone {
            worker_id: self.worker_id.load(Ordering::Relaxed),
            intent: task.intent,
            mount_id: task.mount_id,
            path: task.path,
            source_fingerprint: source_fingerprint.unwrap_or_default(),
            fingerprint,
            length,
            error,
        })
        .await;
    }

    async fn run_recover(&self, task: RecoverTask) {
        let mut pause = MAPPED_PAUSE;
        loop {
            let begun = Instant::now();
            let recovery = {
                let _permit = self.local.acquire().await;
                self.core.recover(&task, pause > MAPPED_PAUSE).await
            };
            match recovery {
                Ok(Recovery::Done(mut recovered)) => {
                    recovered.worker_id = self.worker_id.load(Ordering::Relaxed);
                    return self.answer(recovered).await;
                }
                Ok(Recovery::Overtaken) => return,
                Ok(Recovery::StillMapped) => {}
                // No answer: the master gives it again, to this worker as it is then.
                Err(error) => return tracing::warn!(%error, inode = task.inode, "recover an open version"),
            }
            pause = (pause * 2).min(MAPPED_PAUSE_MAX);
            tokio::time::sleep(pause.max(begun.elapsed() * MAPPED_SHARE)).await;
        }
    }

    /// Tells the master, until it listens.
    async fn answer<O: Operation<Reply = Empty>>(&self, op: O) {
        let mut backoff = ANSWER_RETRY.start();
        loop {
            let told = self.options.master.ask(op.clone()).await;
            match told {
                Ok(Empty {}) => return,
                Err(error) if error.is_retryable() => {
                    backoff.pause(&error).await;
                }
                Err(error) => return tracing::warn!(%error, "the master refuses the answer to a task"),
            }
        }
    }

    fn tiers(&self) -> Vec<ReportTier> {
        let store = &self.core.store;
        vec![ReportTier {
            alias: self.core.settings.tier_alias.clone(),
            path: store.layout.root().display().to_string(),
            capacity_bytes: store.space.quota_bytes,
            used_bytes: store.space.used_bytes(),
        }]
    }
}

/// Walks the store and reports each file, pausing while too much waits to be told.
fn report_all(store: &Store, shutdown: &CancellationToken) {
    store.scan(shutdown, |entry| {
        while store.reports.is_full() && !shutdown.is_cancelled() {
            std::thread::sleep(Duration::from_millis(20));
        }
        let view = entry.view();
        if !view.header.open && !view.dead {
            store
                .reports
                .set(entry.inode, view.header.version, entry.present_bytes());
        } else if let Some(sealed) = view.header.sealed.filter(|_| view.header.doubtful && !view.dead) {
            // It may have been given back before the operating system crashed: nobody recovers it then, and the master asks for
            // what was sealed.
            store.reports.set(entry.inode, sealed.version, sealed.length);
        }
    });
    store.layout.set_held_bytes(store.space.used_bytes());
}
