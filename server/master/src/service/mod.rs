//! The master's service: answers clients and workers by reading the state and proposing commands through the journal.
//!
//! [`Master::start`] brings a [`MasterService`] up on a journal folder; it implements [`MasterApi`] for callers in this process
//! and serves frames to others ([`MasterService::serve`]). One file per noun:
//!
//! - `names`, `open`, `load`, `sync`: what a file system does, names of under-storages at first look included;
//! - `executor`, `changes`, `copies`, `strays`, `ufs_ops`, `persist`, `wait`: journaled intents become changes of under-storages, in order, until they succeed;
//! - `sessions`, `locks`, `watch`, `workers`: what is volatile: who lives, who reads or locks what, who must hear of what;
//! - `mounts`, `credentials`, `report`: administration.
//!
//! Promises: a change is durable when its call returns; an error of an under-storage never hides or removes a name; every
//! queue and cache has a bound; all tasks end with [`MasterService::shutdown`].
//!
//! Left out: deciding what a command does (the state), the log (the journal), moving data (workers).

mod across;
mod attributes;
mod changes;
mod copies;
mod credentials;
mod dispatch;
mod executor;
mod load;
mod locks;
mod loops;
mod machine;
mod metrics;
mod mounts;
mod names;
mod open;
mod pace;
mod persist;
mod reach;
mod rebuild;
mod report;
mod serve;
mod sessions;
mod settings;
mod space;
mod start;
mod strays;
mod sync;
mod trace;
mod ufs;
mod ufs_ops;
mod wait;
mod watch;
mod workers;
mod xattrs;

#[cfg(test)]
mod tests;

pub use report::Pending;
pub use settings::{MasterOptions, MetastoreKind, UfsOpener};
pub use start::Master;

use alluxio_common::sync::Mutex;
use alluxio_journal::Journal;
use alluxio_proto::master::{MasterRequest, Reply};
use alluxio_proto::types::Caller;
use alluxio_proto::{ErrorKind, FsError, FsResult, MasterApi, SessionId, WatchStream};
use async_trait::async_trait;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::state::{Applied, Body, Command, State};

/// How long commands in the background wait for another to share a sync of the journal with.
const BACKGROUND_PATIENCE: Duration = Duration::from_millis(4);

/// A running master. Cheap to share.
#[derive(Debug)]
pub struct MasterService {
    core: Arc<Core>,
}

/// What all parts of the service share.
struct Core {
    settings: settings::Settings,
    state: Arc<State>,
    journal: Journal<machine::Machine>,
    effects: Arc<machine::Effects>,
    watch: Arc<watch::WatchHub>,
    queue: Arc<executor::IntentQueue>,
    pace: pace::Pace,
    workers: Arc<workers::Workers>,
    sessions: sessions::Sessions,
    locks: locks::Locks,
    ufs: ufs::UfsRegistry,
    loader: load::Loader,
    limits: changes::Limits,
    copies: copies::Copies,
    room: space::Room,
    space: Mutex<report::SpaceCache>,
    metrics: metrics::MasterMetrics,
    /// Cancelled when the metadata store was found to be damaged.
    damaged: CancellationToken,
    metastore: MetastoreKind,
    challenges: alluxio_common::secret::Challenges,
    stop: CancellationToken,
    tasks: TaskTracker,
    started_ms: u64,
    started: Instant,
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// One request: who asks, and when.
#[derive(Clone, Debug)]
struct Ctx {
    session: SessionId,
    op_id: u64,
    lowest_op: u64,
    caller: Caller,
    superuser: bool,
    now_ns: i64,
}

impl Ctx {
    fn command(&self, body: impl Into<Body>) -> Command {
        Command {
            now_ns: self.now_ns,
            session: self.session.get(),
            op_id: self.op_id,
            caller: Some(self.caller.clone()),
            superuser: self.superuser,
            lowest_op: self.lowest_op,
            body: Some(body.into()),
        }
    }
}

impl Core {
    /// Commits a command in the name of a caller.
    async fn propose(&self, ctx: &Ctx, body: impl Into<Body>) -> FsResult<Applied> {
        self.pace.note();
        self.commit(ctx.command(body)).await
    }

    /// Commits a command of the master itself.
    async fn propose_own(&self, body: impl Into<Body>) -> FsResult<Applied> {
        self.commit(Command::system(now_ns(), body)).await
    }

    async fn commit(&self, command: Command) -> FsResult<Applied> {
        self.room.admit(&command)?;
        self.journal.propose(command).await?.result
    }

    /// Commits what no program waits for: it goes with the next command of one, or soon.
    async fn commit_in_background(&self, command: Command) -> FsResult<Applied> {
        self.room.admit(&command)?;
        self.journal.propose_within(command, BACKGROUND_PATIENCE).await?.result
    }

    /// Whether `user` is bound by permission bits. The master's own user is not, nor is root.
    fn is_superuser(&self, caller: &Caller) -> bool {
        let settings = &self.settings;
        !settings.authorization
            || caller.user == settings.user
            || caller.user == "root"
            || caller.groups.contains(&settings.supergroup)
    }
}

/// Nanoseconds since 1970.
fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

fn error<T>(kind: ErrorKind, message: impl Into<String>) -> FsResult<T> {
    Err(FsError::new(kind, message))
}

/// Bytes for people: what is not UTF-8 is replaced.
fn show(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

#[async_trait]
impl MasterApi for MasterService {
    async fn call(&self, request: MasterRequest) -> FsResult<Reply> {
        let Some(op) = &request.op else {
            return self.core.call(request).await;
        };
        let (number, span) = (op.number(), trace::span(&request, op));
        let started = Instant::now();
        let result = self.core.call(request).instrument(span.clone()).await;
        trace::answered(&span, self.core.metrics.timers.answered(number, started), &result);
        result
    }

    async fn watch(&self, session: SessionId) -> FsResult<WatchStream> {
        if !self.core.sessions.touch(session) {
            return error(ErrorKind::Stale, format!("session {session} has ended; open a new one"));
        }
        Ok(self.core.watch.subscribe(session))
    }
}

impl MasterService {
    /// Waits until the master can no longer work and says why; the process should then end. Pending while all is well.
    pub async fn failed(&self) -> FsError {
        tokio::select! {
            error = self.core.journal.failed() => error.into(),
            () = self.core.damaged.cancelled() => {
                let why = self.core.state.damage().unwrap_or_default();
                FsError::new(
                    ErrorKind::Corrupt,
                    format!("the metadata store is damaged ({why}); the next start rebuilds it from the journal"),
                )
            }
        }
    }

    /// Whether [`MasterService::failed`] has something to say.
    pub fn has_failed(&self) -> bool {
        self.core.damaged.is_cancelled() || self.core.journal.status().failed.is_some()
    }

    /// The stores that do not answer, as far as can be told.
    pub fn stores_away(&self) -> Vec<alluxio_proto::master::StoreAway> {
        self.core.stores_away().unwrap_or_else(|error| {
            tracing::debug!(%error, "look for stores that are away");
            Vec::new()
        })
    }

    /// What is still to be done in under-storages.
    pub fn pending(&self) -> Pending {
        self.core.pending()
    }

    /// What this master counts.
    pub fn metrics(&self) -> &alluxio_common::metrics::Metrics {
        self.core.metrics.registry()
    }

    /// Identity of the cluster.
    pub fn cluster_id(&self) -> String {
        self.core.state.cluster_id()
    }

    /// The state, to be read.
    pub fn state(&self) -> &Arc<State> {
        &self.core.state
    }
}
