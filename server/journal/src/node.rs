//! One member of the cluster: opening, serving, closing.
//!
//! A member has a thread with a runtime of its own. So consensus is not held up by what the rest of the process does
//! (an election must not wait for a listing), and a proposal passes through it without changing threads; only the
//! log's writer and snapshots run elsewhere.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use openraft::{
    ServerState, SnapshotPolicy,
    async_runtime::watch::WatchReceiver,
    entry::RaftEntry,
    impls::BasicNode,
    storage::{RaftLogReader, RaftLogStorage},
};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    JournalError, JournalOptions, NodeId, StateMachine,
    checkpoint::{self, Checkpoint},
    error::Result,
    folder::Folder,
    proposer::{Proposal, Proposer},
    raft::{Applier, LogStore, NoPeers, Raft, StateMachineAdapter, VoteFile, index_of},
    snapshot::SnapshotStore,
    wal::{Wal, WalOptions, WalReader},
};

/// Bytes of log that are replayed at once.
const REPLAY_BYTES: usize = 4 << 20;
/// How long a cluster of one may take to elect itself. It takes milliseconds; a disk that hangs takes longer.
const ELECTION_PATIENCE: Duration = Duration::from_secs(60);
/// Checkpoints that may be asked for and not yet begun; more wait outside.
const CHECKPOINTS_MAX: usize = 16;

/// What handles need of a running member.
pub(crate) struct Running<S: StateMachine> {
    pub raft: Raft<S>,
    pub applier: Arc<Applier<S>>,
    pub log: WalReader,
    pub checkpoints: mpsc::Sender<Checkpoint>,
}

/// What a member is started with.
pub(crate) struct Start<S: StateMachine> {
    pub options: JournalOptions,
    pub state: Arc<S>,
    pub proposals: mpsc::Receiver<Proposal<S>>,
    pub stop: CancellationToken,
    /// Set when the member no longer works.
    pub failed: watch::Sender<Option<String>>,
    pub ready: oneshot::Sender<Result<Running<S>>>,
    /// The result of closing.
    pub ended: oneshot::Sender<Result<()>>,
}

/// Starts a member's thread.
pub(crate) fn spawn<S: StateMachine>(start: Start<S>) -> Result<()> {
    std::thread::Builder::new()
        .name("journal".into())
        .spawn(move || run(start))
        .map(drop)
        .map_err(JournalError::io("start the journal's thread"))
}

fn run<S: StateMachine>(start: Start<S>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_name("journal-blocking")
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(e) => {
            return drop(
                start
                    .ready
                    .send(Err(JournalError::io("start the journal's runtime")(e))),
            );
        }
    };
    // Boxed: the future holds the whole of opening.
    let (ended, result) = runtime.block_on(Box::pin(live(start)));
    drop(runtime);
    // Nobody may be waiting any more.
    let _ = ended.send(result);
}

async fn live<S: StateMachine>(start: Start<S>) -> (oneshot::Sender<Result<()>>, Result<()>) {
    let Start {
        options,
        state,
        proposals,
        stop,
        failed,
        ready,
        ended,
    } = start;
    let member = match Member::open(&options, state).await {
        Ok(member) => member,
        Err(e) => {
            // The opener may have given up.
            let _ = ready.send(Err(e));
            return (ended, Ok(()));
        }
    };
    let (checkpoints, wanted) = mpsc::channel(CHECKPOINTS_MAX);
    let running = Running {
        raft: member.raft.clone(),
        applier: member.applier.clone(),
        log: member.log.reader().clone(),
        checkpoints: checkpoints.clone(),
    };
    tokio::spawn(watch_failure(member.raft.clone(), failed));
    let checkpointer = tokio::spawn(checkpoint::run(
        member.raft.clone(),
        member.applier.clone(),
        wanted,
        stop.clone(),
    ));
    if ready.send(Ok(running)).is_err() {
        stop.cancel();
    }
    let proposer = Proposer::new(
        &options,
        member.raft.clone(),
        member.applier.clone(),
        member.log.clone(),
        checkpoints,
    );
    proposer.run(proposals, stop).await;
    member.applier.cancel_snapshot();
    // The folder must not be released while a snapshot is being written there.
    if checkpointer.await.is_err() {
        tracing::error!("the task that takes snapshots panicked");
    }
    (ended, member.close().await)
}

/// An open member.
struct Member<S: StateMachine> {
    raft: Raft<S>,
    applier: Arc<Applier<S>>,
    log: LogStore,
    /// Held until everything is closed.
    folder: Folder,
}

impl<S: StateMachine> Member<S> {
    async fn open(options: &JournalOptions, state: Arc<S>) -> Result<Self> {
        let began = Instant::now();
        let folder = Folder::open(&options.dir, &options.cluster_id, options.node_id)?;
        let reading = || JournalError::io(format!("open the journal in {}", options.dir.display()));
        let snapshots = SnapshotStore::open(folder.snapshots()).map_err(reading())?;
        let applier = Arc::new(Applier::new(state, snapshots).map_err(reading())?);
        let wal = open_log(options, &folder, &applier)?;
        restore_if_needed(options, &applier, &wal.reader())?;
        let restored = applier.applied_index();
        let mut log = LogStore::new(Arc::new(wal), VoteFile::open(folder.vote())?);
        replay(options, &applier, &mut log).await.map_err(reading())?;
        check_complete(options, &applier, log.reader())?;
        log.save_committed(applier.log_id()).await.map_err(reading())?;
        let raft = start_raft(options, &applier, &log).await?;
        tracing::info!(
            dir = %options.dir.display(), restored, applied = applier.applied_index(),
            elapsed_ms = began.elapsed().as_millis() as u64, "journal is open"
        );
        Ok(Self {
            raft,
            applier,
            log,
            folder,
        })
    }

    async fn close(self) -> Result<()> {
        // An error here says that it has ended badly before, which was reported then.
        let _ = self.raft.shutdown().await;
        let Self {
            applier, log, folder, ..
        } = self;
        let closed = tokio::task::spawn_blocking(move || {
            log.close();
            let synced = applier.state().sync();
            drop(folder);
            synced
        });
        match closed.await {
            Ok(synced) => synced.map_err(JournalError::io("sync the state machine's store")),
            Err(e) => Err(JournalError::Failed { reason: e.to_string() }),
        }
    }
}

fn open_log<S: StateMachine>(options: &JournalOptions, folder: &Folder, applier: &Applier<S>) -> Result<Wal> {
    let applied = applier.applied_index();
    // What a snapshot holds may be missing in the log.
    let known_index = if applied > applier.snapshot_index() { applied } else { 0 };
    let options = WalOptions {
        dir: folder.log(),
        segment_bytes_max: options.segment_bytes_max,
        // The proposer batches, and with one member there is nobody to talk to while the disk is busy.
        inline: true,
    };
    Wal::open(options, known_index)
}

/// Restores the state machine from a snapshot if the log alone cannot bring it up to date, or much slower.
fn restore_if_needed<S: StateMachine>(options: &JournalOptions, applier: &Applier<S>, log: &WalReader) -> Result<()> {
    let (applied, purged) = (applier.applied_index(), log.extent().purged.index);
    let needed = applied < purged;
    let quicker = applied == 0 && applier.snapshot_index() > 0;
    if !needed && !quicker {
        return Ok(());
    }
    let reading = || JournalError::io(format!("restore a snapshot in {}", options.dir.display()));
    let snapshot = applier.snapshots().newest_intact().map_err(reading())?;
    match snapshot {
        Some(snapshot) if snapshot.index >= purged && snapshot.index > applied => {
            tracing::info!(file = %snapshot.path.display(), bytes = snapshot.bytes, "restoring from a snapshot");
            applier.restore(&snapshot).map_err(reading())
        }
        _ if !needed => Ok(()),
        found => Err(JournalError::Incomplete {
            dir: options.dir.clone(),
            why: format!(
                "the state machine is at entry {applied} and the log begins after entry {purged}, but {}. Restore \
                 snapshots/ or the whole folder from a backup or another member",
                match found {
                    Some(found) => format!("the newest intact snapshot ends at entry {}", found.index),
                    None => "there is no intact snapshot".into(),
                }
            ),
        }),
    }
}

/// Applies what a cluster of one has in its log: with no other member, what is on its disk is committed. Stops where
/// the cluster stops being one; from there on the leader says what is committed.
async fn replay<S: StateMachine>(
    options: &JournalOptions,
    applier: &Applier<S>,
    log: &mut LogStore,
) -> std::io::Result<()> {
    loop {
        let next = applier.applied_index() + 1;
        let mut entries = log.read(next, REPLAY_BYTES)?;
        let mut alone = next == 1 || is_alone(applier.membership().membership(), options.node_id);
        let committed = entries
            .iter()
            .position(|entry| {
                if let Some(members) = entry.get_membership() {
                    alone = is_alone(&members, options.node_id);
                }
                !alone
            })
            .unwrap_or(entries.len());
        entries.truncate(committed);
        if entries.is_empty() {
            return Ok(());
        }
        applier.apply(entries)?;
    }
}

fn is_alone(members: &openraft::Membership<u64, BasicNode>, node_id: NodeId) -> bool {
    members.voter_ids().eq([node_id.0])
}

/// A cluster of one has everything in its own log, up to what it applied at least.
fn check_complete<S: StateMachine>(options: &JournalOptions, applier: &Applier<S>, log: &WalReader) -> Result<()> {
    let (applied, last) = (applier.applied_index(), log.extent().last.index);
    if last < applied && is_alone(applier.membership().membership(), options.node_id) {
        return Err(JournalError::Incomplete {
            dir: options.dir.clone(),
            why: format!(
                "the log ends at entry {last}, but the state up to entry {applied} exists, so part of the log was \
                 removed. Restore log/ or the whole folder from a backup"
            ),
        });
    }
    Ok(())
}

/// openraft's settings. Nothing happens by itself while the cluster is idle: no tick, no heartbeat, no write.
fn raft_config(options: &JournalOptions) -> Result<openraft::Config> {
    let config = openraft::Config {
        cluster_name: options.cluster_id.clone(),
        // For several members; a cluster of one is told when to elect.
        heartbeat_interval: 250,
        election_timeout_min: 1500,
        election_timeout_max: 3000,
        enable_tick: false,
        enable_heartbeat: false,
        enable_elect: false,
        enable_pre_vote: Some(true),
        // A new term at every start keeps what two processes wrote apart.
        enable_leader_restore: Some(false),
        // `checkpoint` decides on both.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        ..Default::default()
    };
    config
        .validate()
        .map_err(|e| JournalError::Failed { reason: e.to_string() })
}

async fn start_raft<S: StateMachine>(
    options: &JournalOptions,
    applier: &Arc<Applier<S>>,
    log: &LogStore,
) -> Result<Raft<S>> {
    let failed = |reason: String| JournalError::Failed { reason };
    let id = options.node_id.0;
    let (mut log, adapter) = (log.clone(), StateMachineAdapter(applier.clone()));
    let empty = log.reader().extent().last.index == 0 && log.read_vote().await.is_ok_and(|vote| vote.is_none());
    let raft = Raft::new(id, Arc::new(raft_config(options)?), NoPeers, log.clone(), adapter).await;
    let raft = raft.map_err(|e| failed(e.to_string()))?;
    if empty {
        let members = std::collections::BTreeMap::from([(id, BasicNode::default())]);
        raft.initialize(members).await.map_err(|e| failed(e.to_string()))?;
    } else {
        raft.trigger().elect(false).await.map_err(|e| failed(e.to_string()))?;
    }
    let serves = |m: &openraft::RaftMetrics<_>| {
        m.running_state.is_err()
            || m.state == ServerState::Leader && m.last_log_index == m.last_applied.map(|applied| applied.index)
    };
    let metrics = raft.wait(Some(ELECTION_PATIENCE)).metrics(serves, "serve").await;
    let metrics = metrics.map_err(|e| failed(e.to_string()))?;
    metrics.running_state.map_err(|e| failed(e.to_string()))?;
    Ok(raft)
}

/// Tells when consensus has stopped for good.
async fn watch_failure<S: StateMachine>(raft: Raft<S>, failed: watch::Sender<Option<String>>) {
    let mut metrics = raft.metrics();
    loop {
        let state = metrics.borrow_watched().running_state.clone();
        match state {
            Ok(()) => {}
            Err(openraft::errors::Fatal::Stopped) => return,
            Err(error) => {
                tracing::error!(%error, "the journal has failed; this process must be restarted");
                failed.send_replace(Some(error.to_string()));
                return;
            }
        }
        if metrics.changed().await.is_err() {
            return;
        }
    }
}

/// Our index of the newest snapshot that openraft knows of.
pub(crate) fn known_snapshot(metrics: &openraft::RaftMetrics<crate::raft::TypeConfig>) -> u64 {
    index_of(metrics.snapshot.as_ref())
}
