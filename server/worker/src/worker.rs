//! The worker as one object: its parts, its start and its end.

use crate::core::{Core, Counters};
use crate::fill::Filler;
use crate::options::{Settings, WorkerOptions};
use crate::report::Reports;
use crate::store::{Layout, Store, blocking};
use crate::tasks::MasterLoop;
use crate::ufs_clients::UfsClients;
use alluxio_common::config::Configuration;
use alluxio_common::metrics::Metrics;
use alluxio_proto::worker::{Empty, WorkerOp, WorkerReplyBody, WorkerRequest};
use alluxio_proto::{ErrorKind, FsError, FsResult, WorkerApi, WorkerId, WorkerResponse};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How often space is looked at, and files that are written past us measured.
const UPKEEP_PAUSE: Duration = Duration::from_secs(1);
/// Upkeep rounds between two notes of how much is held.
const HELD_NOTE_ROUNDS: u64 = 60;

/// A worker.
pub struct Worker {
    core: Arc<Core>,
    master: Arc<MasterLoop>,
    metrics: Metrics,
    shutdown: CancellationToken,
    tasks: TaskTracker,
}

impl Worker {
    /// Opens the data folder, registers with the master and begins to work until `shutdown`. A master that cannot be
    /// reached now is tried again in the background.
    ///
    /// # Errors
    /// A folder that is locked, of another cluster, or of a newer format; a setting that makes no sense; a master that
    /// refuses.
    pub async fn start(
        conf: &Configuration,
        options: WorkerOptions,
        shutdown: CancellationToken,
    ) -> FsResult<Arc<Self>> {
        let settings = Settings::new(conf)?;
        // A child: our own shutdown is not everybody's.
        let shutdown = shutdown.child_token();
        let tasks = TaskTracker::new();
        let metrics = options.metrics.clone();
        let store = {
            let (data_dir, settings, metrics) = (options.data_dir.clone(), settings.clone(), metrics.clone());
            blocking(move || {
                Store::open(
                    Layout::open(&data_dir)?,
                    &settings,
                    Arc::new(Reports::default()),
                    &metrics,
                )
            })
            .await?
        };
        let clients = Arc::new(UfsClients::new(
            Arc::clone(&options.master),
            Arc::clone(&options.ufs_opener),
        ));
        let filler = Filler::new(
            Arc::clone(&store),
            Arc::clone(&clients),
            tasks.clone(),
            shutdown.clone(),
            &settings,
            &metrics,
        );
        let core = Arc::new(Core {
            settings,
            store,
            filler: Arc::new(filler),
            clients,
            counters: Counters::new(&metrics),
        });
        let master = MasterLoop::new(Arc::clone(&core), options, shutdown.clone(), tasks.clone())?;
        let registered = match master.register().await {
            Ok(()) => true,
            Err(error) if error.is_retryable() => {
                tracing::warn!(%error, "register with the master; trying again in the background");
                false
            }
            Err(error) => return Err(error),
        };
        let worker = Arc::new(Self {
            core,
            master,
            metrics,
            shutdown,
            tasks,
        });
        worker.add_gauges();
        worker.master.start(registered);
        worker.start_upkeep();
        Ok(worker)
    }

    /// Identity at the master; `None` before the first registration.
    pub fn worker_id(&self) -> Option<WorkerId> {
        self.master.worker_id()
    }
    /// Where it counts.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }
    /// Bytes held, and how many may be.
    pub fn space(&self) -> (u64, u64) {
        (self.core.store.space.used_bytes(), self.core.store.space.quota_bytes)
    }
    pub(crate) fn shutdown_token(&self) -> CancellationToken {
        self.shutdown.clone()
    }

    /// Ends what is under way and returns when all of it has ended.
    pub async fn shutdown(&self) {
        self.shutdown.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.core
            .store
            .layout
            .set_held_bytes(self.core.store.space.used_bytes());
    }

    fn add_gauges(&self) {
        let store = Arc::clone(&self.core.store);
        self.metrics.gauge_fn("Worker.CapacityTotal", move || {
            i64::try_from(store.space.quota_bytes).unwrap_or(i64::MAX)
        });
        let store = Arc::clone(&self.core.store);
        self.metrics.gauge_fn("Worker.CapacityUsed", move || {
            i64::try_from(store.space.used_bytes()).unwrap_or(i64::MAX)
        });
    }

    fn start_upkeep(&self) {
        let (store, shutdown) = (Arc::clone(&self.core.store), self.shutdown.clone());
        self.tasks.spawn(async move {
            for round in 1u64.. {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = tokio::time::sleep(UPKEEP_PAUSE) => {}
                }
                let store = Arc::clone(&store);
                let done = blocking(move || {
                    for entry in store.open_entries() {
                        store.measure(&entry);
                    }
                    store.evict_in_background();
                    store.fresh.expire();
                    if round % HELD_NOTE_ROUNDS == 0 {
                        store.layout.set_held_bytes(store.space.used_bytes());
                    }
                    Ok(())
                });
                if let Err(error) = done.await {
                    tracing::warn!(%error, "look after the store");
                }
            }
        });
    }
}

#[async_trait::async_trait]
impl WorkerApi for Worker {
    async fn call(&self, request: WorkerRequest, data: Bytes) -> FsResult<WorkerResponse> {
        let core = &self.core;
        let Some(op) = request.op else {
            let why = "a request without operation, or one that this version does not know";
            return Err(FsError::new(ErrorKind::NotSupported, why));
        };
        let reply = match op {
            WorkerOp::Read(read) => {
                let data = core.read(read).await?;
                let reply = WorkerReplyBody::Empty(Empty {});
                return Ok(WorkerResponse { reply, data, fd: None });
            }
            WorkerOp::OpenRead(open) => return core.open_read(open).await,
            WorkerOp::OpenWrite(open) => return core.open_write(open).await,
            WorkerOp::Write(write) => WorkerReplyBody::Written(core.write(write, data).await?),
            WorkerOp::SetLength(set) => WorkerReplyBody::OpenStat(core.set_length(set).await?),
            WorkerOp::Allocate(allocate) => WorkerReplyBody::OpenStat(core.allocate(allocate).await?),
            WorkerOp::SetTimes(set) => WorkerReplyBody::OpenStat(core.set_times(set).await?),
            WorkerOp::StatOpen(stat) => WorkerReplyBody::OpenStat(core.stat(stat).await?),
            WorkerOp::SyncOpen(sync) => WorkerReplyBody::OpenStat(core.sync(sync).await?),
            WorkerOp::Seal(seal) => WorkerReplyBody::OpenStat(core.seal(seal).await?),
            WorkerOp::Drop(drop) => {
                core.drop_cached(drop).await?;
                WorkerReplyBody::Empty(Empty {})
            }
            WorkerOp::Load(load) => {
                core.load(load).await?;
                WorkerReplyBody::Empty(Empty {})
            }
        };
        Ok(WorkerResponse::message(reply))
    }
}
