//! One member of the cluster: opening, serving, closing.
//!
//! A member has a thread with a runtime of its own. So consensus is not held up by what the rest of the process does
//! (an election must not wait for a listing), and a proposal passes through it without changing threads; the applying stage,
//! the log's writer and snapshots run elsewhere.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    JournalError, JournalOptions, StateMachine,
    applier::Applier,
    checkpoint::{self, Checkpoint},
    entry::{Announced, EntryBody, invalid},
    error::Result,
    folder::Folder,
    log::{Batch, Log},
    position::Applied,
    proposer::{Proposal, Proposer},
    raft::RaftLog,
    snapshot::SnapshotStore,
    stage::ApplyStage,
    waiting::Waiting,
};

/// Bytes of log that are replayed at once.
const REPLAY_BYTES: usize = 4 << 20;
/// Checkpoints that may be asked for and not yet begun; more wait outside.
const CHECKPOINTS_MAX: usize = 16;

/// What handles need of a running member.
pub(crate) struct Running<S: StateMachine> {
    pub applier: Arc<Applier<S>>,
    pub log: Arc<RaftLog<S>>,
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
    let applier = member.stage.applier().clone();
    let running = Running {
        applier: applier.clone(),
        log: member.log.clone(),
        checkpoints: checkpoints.clone(),
    };
    tokio::spawn(watch_failure(member.log.clone(), member.stage.clone(), failed));
    let checkpointer = tokio::spawn(checkpoint::run(
        options.clock.clone(),
        member.log.clone(),
        applier.clone(),
        wanted,
        stop.clone(),
    ));
    if ready.send(Ok(running)).is_err() {
        stop.cancel();
    }
    let proposer = Proposer::new(&options, applier.clone(), member.log.clone(), checkpoints);
    proposer.run(proposals, stop).await;
    applier.cancel_snapshot();
    // The folder must not be released while a snapshot is being written there.
    if checkpointer.await.is_err() {
        tracing::error!("the task that takes snapshots panicked");
    }
    (ended, member.close().await)
}

/// An open member.
struct Member<S: StateMachine> {
    log: Arc<RaftLog<S>>,
    stage: Arc<ApplyStage<S>>,
    /// Held until everything is closed.
    folder: Folder,
}

impl<S: StateMachine> Member<S> {
    async fn open(options: &JournalOptions, state: Arc<S>) -> Result<Self> {
        let began = options.clock.now();
        let folder = Folder::open(&options.disk, &options.dir, &options.cluster_id, options.node_id)?;
        let reading = || JournalError::io(format!("open the journal in {}", options.dir.display()));
        let snapshots = SnapshotStore::open(options.disk.clone(), folder.snapshots()).map_err(reading())?;
        let applied = Applied::of_stored(state.position().map_err(reading())?.as_deref()).map_err(reading())?;
        let snapshot_index = snapshots.newest().map_err(reading())?.map_or(0, |newest| newest.index);
        // What a snapshot holds may be missing in the log.
        let known_index = if applied.synced > snapshot_index {
            applied.synced
        } else {
            0
        };
        let waiting = Arc::new(Waiting::<S::Outcome>::new());
        let log = Arc::new(RaftLog::<S>::open(options, &folder, known_index, waiting.clone())?);
        let synced = applied.synced;
        let node = options.node_id.0;
        let applier = Applier::new(state, node, applied, snapshots, waiting, log.reader().clone()).map_err(reading())?;
        let applier = Arc::new(applier);
        restore_if_needed(options, &applier, log.as_ref(), synced)?;
        let restored = applier.applied_index();
        replay(&applier, log.as_ref()).map_err(reading())?;
        check_complete(options, &applier, log.as_ref())?;
        let stage = Arc::new(ApplyStage::start(applier.clone(), options.clock.clone())?);
        log.feed(stage.clone());
        log.fence().await?;
        stage.drain().await.map_err(reading())?;
        announce(options, &stage, log.as_ref()).await?;
        tracing::info!(
            dir = %options.dir.display(), restored, applied = applier.applied_index(),
            elapsed_ms = (options.clock.now() - began).as_millis() as u64, "journal is open"
        );
        Ok(Self { log, stage, folder })
    }

    async fn close(self) -> Result<()> {
        let Self { log, stage, folder } = self;
        log.close().await;
        let closed = tokio::task::spawn_blocking(move || {
            stage.close();
            let applier = stage.applier();
            // All that were committed have been answered.
            applier
                .waiting()
                .end("the journal is shut down", || JournalError::ShutDown);
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

/// Restores the state machine from a snapshot if the log alone cannot bring it up to date, or much slower. `synced`: what was
/// on disk when the state machine applied last.
fn restore_if_needed<S: StateMachine>(
    options: &JournalOptions,
    applier: &Applier<S>,
    log: &impl Log,
    synced: u64,
) -> Result<()> {
    let extent = log.reader().extent();
    let (applied, purged, last) = (applier.applied_index(), extent.purged.index, extent.last.index);
    // A power cut took entries that were written and not yet synced, and the store kept their effects.
    let ahead = applied > last && last >= synced && last > 0 && applier.is_alone();
    let behind = applied < purged;
    let quicker = applied == 0 && applier.snapshot_index() > 0;
    if !ahead && !behind && !quicker {
        return Ok(());
    }
    let reading = || JournalError::io(format!("restore a snapshot in {}", options.dir.display()));
    let found = applier.snapshots().newest_intact().map_err(reading())?;
    let usable = |index: u64| index >= purged && if ahead { index <= last } else { index > applied };
    match found {
        Some(snapshot) if usable(snapshot.index) => {
            tracing::info!(file = %snapshot.path.display(), bytes = snapshot.bytes, "restoring from a snapshot");
            applier.restore(&snapshot).map_err(reading())
        }
        _ if ahead && purged == 0 => {
            tracing::warn!(
                applied,
                last,
                synced,
                "the state is ahead of what a power cut left of the log; it is made again from the log's beginning"
            );
            applier
                .clear()
                .map_err(JournalError::io("empty the state machine's store"))
        }
        _ if !ahead && !behind => Ok(()),
        found => Err(JournalError::Incomplete {
            dir: options.dir.clone(),
            why: format!(
                "the state machine is at entry {applied} and the log holds what is after entry {purged}, up to {last}, but {}. \
                 Restore snapshots/ or the whole folder from a backup or another member",
                match found {
                    Some(found) => format!("the newest intact snapshot ends at entry {}", found.index),
                    None => "there is no intact snapshot".into(),
                }
            ),
        }),
    }
}

/// Says in the log what this program can do, if that is not what it said last.
async fn announce<S: StateMachine>(options: &JournalOptions, stage: &ApplyStage<S>, log: &impl Log) -> Result<()> {
    let node = options.node_id.0;
    let said = stage.applier().members().levels.get(&node).copied().unwrap_or(0);
    if said == S::LEVEL || !log.lead().is_ours {
        return Ok(());
    }
    let announced = Batch {
        body: EntryBody::Announced(Announced::new(node, S::LEVEL)),
        ticket: 0,
        power: true,
    };
    log.append(announced).await?;
    stage
        .drain()
        .await
        .map_err(JournalError::io("announce a feature level"))
}

/// Applies what the log knows to be committed without asking anybody.
fn replay<S: StateMachine>(applier: &Applier<S>, log: &impl Log) -> std::io::Result<()> {
    loop {
        let next = applier.applied_index() + 1;
        let entries = log.read(next, REPLAY_BYTES, &applier.members())?;
        match entries.first() {
            None => return Ok(()),
            Some(first) if first.at.index != next => {
                return Err(invalid(format!(
                    "the log goes on at entry {}, and {next} is due",
                    first.at.index
                )));
            }
            Some(_) => applier.apply(entries)?,
        }
    }
}

/// A cluster of one has everything in its own log, up to what it applied at least.
fn check_complete<S: StateMachine>(options: &JournalOptions, applier: &Applier<S>, log: &impl Log) -> Result<()> {
    let (applied, last) = (applier.applied_index(), log.reader().extent().last.index);
    if last < applied && applier.is_alone() {
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

/// Tells when log or state machine have stopped for good, and everybody who waits for them.
async fn watch_failure<S: StateMachine>(
    log: Arc<RaftLog<S>>,
    stage: Arc<ApplyStage<S>>,
    failed: watch::Sender<Option<String>>,
) {
    let reason = tokio::select! {
        biased;
        reason = stage.failed() => reason,
        error = log.failed() => match error {
            Some(JournalError::Failed { reason }) => reason,
            Some(error) => error.to_string(),
            None => return,
        },
    };
    tracing::error!(reason, "the journal has failed; this process must be restarted");
    failed.send_replace(Some(reason.clone()));
    let waiting = stage.applier().waiting();
    waiting.end(&reason, || JournalError::Failed { reason: reason.clone() });
}
