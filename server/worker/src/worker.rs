//! The worker as one object: its parts, its start and its end.

use crate::core::{Core, Counters};
use crate::fill::Filler;
use crate::guard::{Announced, Guard};
use crate::options::{Settings, WorkerOptions};
use crate::report::Reports;
use crate::scrub::Unverified;
use crate::spill::Spiller;
use crate::store::{Layout, Order, Store, blocking};
use crate::tasks::MasterLoop;
use crate::trace;
use crate::ufs_clients::UfsClients;
use alluxio_common::config::Configuration;
use alluxio_common::metrics::{Metrics, OpTimers};
use alluxio_proto::worker::{
    self as protocol, Empty, Identity, WorkerOp, WorkerOperation, WorkerReplyBody, WorkerRequest,
};
use alluxio_proto::{ErrorKind, FsError, FsResult, WorkerApi, WorkerId, WorkerResponse};
use bytes::Bytes;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

/// How often space is looked at, and files that are written past us measured.
const UPKEEP_PAUSE: Duration = Duration::from_secs(1);
/// Upkeep rounds between two notes of the order of eviction: 8 bytes for each file.
const ORDER_NOTE_ROUNDS: u64 = 600;
/// Upkeep rounds between two notes of how much is held.
const HELD_NOTE_ROUNDS: u64 = 60;

/// A worker.
pub struct Worker {
    core: Arc<Core>,
    master: Arc<MasterLoop>,
    metrics: Metrics,
    timers: OpTimers,
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
        mut options: WorkerOptions,
        shutdown: CancellationToken,
    ) -> FsResult<Arc<Self>> {
        options.address.nonce = rand::random_range(1..=u64::MAX);
        let settings = Settings::new(conf)?;
        // A child: our own shutdown is not everybody's.
        let shutdown = shutdown.child_token();
        let tasks = TaskTracker::new();
        let metrics = options.metrics.clone();
        let store = {
            let (data_dir, settings, metrics) = (options.data_dir.clone(), settings.clone(), metrics.clone());
            blocking(move || {
                let mut layout = Layout::open(&data_dir)?;
                layout.notes_openings = settings.sync_on_close;
                Store::open(layout, &settings, Arc::new(Reports::default()), &metrics)
            })
            .await?
        };
        let clients = Arc::new(UfsClients::new(
            Arc::clone(&options.master),
            Arc::clone(&options.ufs_opener),
            Arc::clone(&options.secret),
            metrics.clone(),
        ));
        let filler = Filler::new(
            Arc::clone(&store),
            Arc::clone(&clients),
            tasks.clone(),
            shutdown.clone(),
            &settings,
            &metrics,
        );
        let guard = match settings.guards_writes {
            true => open_guard(&store).await?,
            false => None,
        };
        let core = Arc::new(Core {
            guard,
            settings,
            store,
            filler: Arc::new(filler),
            clients,
            secret: Arc::clone(&options.secret),
            nonce: options.address.nonce,
            counters: Counters::new(&metrics),
            spiller: Spiller::default(),
            unverified: Unverified::default(),
        });
        if let Some(guard) = &core.guard {
            let answers: Arc<dyn Announced> = core.clone();
            guard.begin(Arc::downgrade(&answers));
            core.adopt_passed().await?;
        }
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
            timers: OpTimers::new(&metrics, "Worker", None, WorkerOp::NAMES),
            metrics,
            shutdown,
            tasks,
        });
        worker.add_gauges();
        worker.master.start(registered);
        worker.start_upkeep();
        let (core, stop) = (&worker.core, &worker.shutdown);
        worker.tasks.spawn(Arc::clone(core).verify_opened(stop.clone()));
        worker.tasks.spawn(Arc::clone(core).scrub(stop.clone()));
        worker.tasks.spawn(Arc::clone(core).spill_when_short(stop.clone()));
        worker.tasks.spawn(Arc::clone(core).keep_watch(stop.clone()));
        Ok(worker)
    }

    /// Identity at the master; `None` before the first registration.
    pub fn worker_id(&self) -> Option<WorkerId> {
        self.master.worker_id()
    }
    /// Whether a master has taken it since it was started.
    pub fn is_registered(&self) -> bool {
        self.master.is_registered()
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
        self.core.store.damages.save();
        Order::save(&self.core.store.space.order, &self.core.store.layout);
        self.core.store.layout.set_ended();
    }

    /// They keep no store, and its lock, that has ended: the metrics may live on in clients of under-storages.
    fn add_gauges(&self) {
        let gauge = |name, of: fn(&Store) -> u64| {
            let store = Arc::downgrade(&self.core.store);
            self.metrics.gauge_fn(name, move || {
                let bytes = store.upgrade().map_or(0, |store| of(&store));
                i64::try_from(bytes).unwrap_or(i64::MAX)
            });
        };
        gauge("Worker.CapacityTotal", |store| store.space.quota_bytes);
        gauge("Worker.CapacityUsed", |store| store.space.used_bytes());
    }

    fn start_upkeep(&self) {
        let (core, shutdown) = (Arc::clone(&self.core), self.shutdown.clone());
        self.tasks.spawn(async move {
            for round in 1u64.. {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = tokio::time::sleep(UPKEEP_PAUSE) => {}
                }
                if let Err(error) = core.recheck_damages().await {
                    tracing::info!(%error, "look at damaged files again");
                }
                let store = Arc::clone(&core.store);
                let done = blocking(move || {
                    for entry in store.open_entries() {
                        store.measure(&entry);
                    }
                    store.evict_in_background();
                    store.fetch_buffer.expire();
                    store.damages.save();
                    store.measure_aside(round % HELD_NOTE_ROUNDS == 0);
                    if round % ORDER_NOTE_ROUNDS == 0 {
                        Order::save(&store.space.order, &store.layout);
                    }
                    if round % HELD_NOTE_ROUNDS == 0 {
                        store.layout.lay_in_ballast();
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

/// Without leases no descriptor goes out on which anybody could write past us.
async fn open_guard(store: &Arc<Store>) -> FsResult<Option<Arc<Guard>>> {
    if !store.layout.has_leases {
        return Ok(None);
    }
    let store = Arc::clone(store);
    blocking(move || {
        let probe = store.layout.probe();
        let probe = probe.map_err(|error| FsError::from_io("open the lock file of the worker folder", &error))?;
        Ok(Guard::open(&probe).map(Arc::new))
    })
    .await
}

#[async_trait::async_trait]
impl WorkerApi for Worker {
    async fn call(&self, request: WorkerRequest, data: Bytes) -> FsResult<WorkerResponse> {
        let Some(op) = request.op else {
            let why = "a request without operation, or one that this version does not know";
            return Err(FsError::new(ErrorKind::NotSupported, why));
        };
        let (number, span) = (op.number(), trace::span(&op));
        let started = Instant::now();
        let result = self.answer(op, data).instrument(span.clone()).await;
        trace::answered(&span, self.timers.answered(number, started), &result);
        result
    }
}

impl Worker {
    async fn answer(&self, op: WorkerOp, data: Bytes) -> FsResult<WorkerResponse> {
        let core = &self.core;
        let reply = match op {
            WorkerOp::Read(read) => {
                let data = core.read(read).await?;
                let reply = reply::<protocol::Read>(Empty {});
                return Ok(WorkerResponse { reply, data, fd: None });
            }
            WorkerOp::OpenRead(open) => return core.open_read(open).await,
            WorkerOp::OpenWrite(open) => return core.open_write(open).await,
            WorkerOp::Identify(_) => reply::<protocol::Identify>(Identity { nonce: core.nonce }),
            WorkerOp::Write(write) => reply::<protocol::Write>(core.write(write, data).await?),
            WorkerOp::SetLength(set) => reply::<protocol::SetLength>(core.set_length(set).await?),
            WorkerOp::Allocate(allocate) => reply::<protocol::Allocate>(core.allocate(allocate).await?),
            WorkerOp::SetTimes(set) => reply::<protocol::SetTimes>(core.set_times(set).await?),
            WorkerOp::StatOpen(stat) => reply::<protocol::StatOpen>(core.stat(stat).await?),
            WorkerOp::SyncOpen(sync) => reply::<protocol::SyncOpen>(core.sync(sync).await?),
            WorkerOp::Seal(seal) => reply::<protocol::Seal>(core.seal(seal).await?),
            WorkerOp::SeekRange(seek) => reply::<protocol::SeekRange>(core.seek(seek).await?),
            WorkerOp::CopyRange(copy) => reply::<protocol::CopyRange>(core.copy_range(copy).await?),
            WorkerOp::PassAgain(pass) => {
                core.pass_again(pass).await?;
                reply::<protocol::PassAgain>(Empty {})
            }
            WorkerOp::Drop(drop) => {
                core.drop_cached(drop).await?;
                reply::<protocol::Drop>(Empty {})
            }
            WorkerOp::Load(load) => {
                core.load(load).await?;
                reply::<protocol::Load>(Empty {})
            }
        };
        Ok(WorkerResponse::message(reply))
    }
}

/// The reply that the protocol has for an operation.
fn reply<O: WorkerOperation>(reply: O::Reply) -> WorkerReplyBody {
    reply.into()
}
