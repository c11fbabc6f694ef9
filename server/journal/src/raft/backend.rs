//! Raft as a back end of [`Log`].

use std::{
    collections::BTreeMap,
    future::Future,
    io,
    sync::{Arc, OnceLock},
    time::Duration,
};

use openraft::{
    ServerState, SnapshotPolicy,
    async_runtime::watch::WatchReceiver,
    errors::{ClientWriteError, Fatal, RaftError},
    impls::BasicNode,
    storage::{RaftLogReader, RaftLogStorage},
};
use tokio::sync::watch;

use super::{
    LogStore, NoPeers, Raft, StateMachineAdapter, TypeConfig, VoteFile, convert::log_id_at, index_of, raft_index_of,
};
use crate::{
    JournalError, JournalOptions, NodeId, StateMachine,
    entry::{EntryBody, LogEntry},
    error::Result,
    folder::Folder,
    log::{Batch, Lead, Log},
    members::Members,
    stage::ApplyStage,
    waiting::Placing,
    wal::{Wal, WalOptions, WalReader},
};

/// How long a cluster of one may take to elect itself. It takes milliseconds; a disk that hangs takes longer.
const ELECTION_PATIENCE: Duration = Duration::from_secs(60);
/// How long openraft may take to notice a snapshot, or to drop log. Only bookkeeping waits for it.
const PATIENCE: Duration = Duration::from_secs(30);
/// Batches that are under way at once where the answer of other members is waited for.
const DEPTH_MAX: usize = 4;

/// A log that several members agree on, kept in segments on the local disk.
pub(crate) struct RaftLog<S: StateMachine> {
    options: JournalOptions,
    store: LogStore,
    /// Set once it takes part, or leads.
    joined: OnceLock<Joined<S>>,
    stage: OnceLock<Arc<ApplyStage<S>>>,
}

struct Joined<S: StateMachine> {
    raft: Raft<S>,
    stage: Arc<ApplyStage<S>>,
}

impl<S: StateMachine> RaftLog<S> {
    /// Opens what lies in `folder`. `known_index`: an entry that must be there, see [`Wal::open`].
    pub fn open(
        options: &JournalOptions,
        folder: &Folder,
        known_index: u64,
        placing: Arc<dyn Placing>,
    ) -> Result<Self> {
        let wal = WalOptions {
            dir: folder.log(),
            segment_bytes_max: options.segment_bytes_max,
            // The proposer batches, and with one member there is nobody to talk to while the disk is busy.
            inline: true,
            commit: options.commit,
            disk: options.disk.clone(),
            clock: options.clock.clone(),
        };
        let told = placing.clone();
        let wal = Wal::open(wal, known_index, Box::new(move |index| told.synced(index)))?;
        Ok(Self {
            options: options.clone(),
            store: LogStore::new(
                Arc::new(wal),
                VoteFile::open(options.disk.clone(), folder.vote())?,
                placing,
            ),
            joined: OnceLock::new(),
            stage: OnceLock::new(),
        })
    }

    /// Where committed entries go from now on; to be said once, before [`Log::fence`].
    pub fn feed(&self, stage: Arc<ApplyStage<S>>) {
        // The first one stays.
        let _ = self.stage.set(stage);
    }

    fn joined(&self) -> Result<&Joined<S>> {
        self.joined
            .get()
            .ok_or_else(|| failed("the log does not take part yet"))
    }

    async fn join(&self, stage: &Arc<ApplyStage<S>>) -> Result<Raft<S>> {
        let id = self.options.node_id.0;
        let mut store = self.store.clone();
        let saved = store.save_committed(log_id_at(stage.applier().at())).await;
        saved.map_err(JournalError::io("note what is applied"))?;
        let config = Arc::new(raft_config(&self.options)?);
        let adapter = StateMachineAdapter(stage.clone());
        let raft = Raft::new(id, config, NoPeers, store.clone(), adapter).await;
        let raft = raft.map_err(failed)?;
        let empty =
            self.store.reader().extent().last.index == 0 && store.read_vote().await.is_ok_and(|vote| vote.is_none());
        if empty {
            let members = BTreeMap::from([(id, BasicNode::default())]);
            raft.initialize(members).await.map_err(failed)?;
        } else {
            raft.trigger().elect(false).await.map_err(failed)?;
        }
        Ok(raft)
    }
}

impl<S: StateMachine> Log for RaftLog<S> {
    fn append(&self, batch: Batch) -> impl Future<Output = Result<()>> + Send + 'static {
        let raft = self.joined().map(|joined| joined.raft.clone());
        async move { raft?.client_write(batch).await.map(drop).map_err(|e| translate(&e)) }
    }

    fn depth(&self) -> usize {
        match self.joined.get() {
            Some(joined) if !joined.stage.applier().is_alone() => DEPTH_MAX,
            _ => 1,
        }
    }

    async fn reserve(&self, bytes: u64) -> io::Result<()> {
        self.store.reserve(bytes).await
    }

    /// With no other member, what is on this disk is committed. That ends where the cluster stops being one; from there on
    /// the leader says what is committed.
    fn read(&self, start: u64, bytes_max: usize, members: &Members) -> io::Result<Vec<LogEntry>> {
        let node = self.options.node_id.0;
        let mut entries = self.store.read(start, bytes_max)?;
        let mut alone = start == 1 || members.is_alone(node);
        let committed = entries.iter().position(|entry| {
            if let EntryBody::Members(members) = &entry.body {
                alone = members.is_alone(node);
            }
            !alone
        });
        entries.truncate(committed.unwrap_or(entries.len()));
        Ok(entries)
    }

    async fn fence(&self) -> Result<()> {
        let stage = self
            .stage
            .get()
            .ok_or_else(|| failed("nobody takes what the log commits"))?;
        let raft = self.join(stage).await?;
        let serves = |m: &openraft::RaftMetrics<_>| {
            m.running_state.is_err()
                || m.state == ServerState::Leader && m.last_log_index == m.last_applied.map(|applied| applied.index)
        };
        let metrics = raft.wait(Some(ELECTION_PATIENCE)).metrics(serves, "serve").await;
        metrics.map_err(failed)?.running_state.map_err(failed)?;
        let stage = stage.clone();
        // The first one stays; nobody fences twice.
        let _ = self.joined.set(Joined { raft, stage });
        Ok(())
    }

    async fn trim(&self, snapshot_index: u64, upto: u64) -> Result<()> {
        let raft = &self.joined()?.raft;
        raft.trigger().snapshot().await.map_err(failed)?;
        let noticed =
            |m: &openraft::RaftMetrics<_>| m.running_state.is_err() || index_of(m.snapshot.as_ref()) >= snapshot_index;
        let wait = raft.wait(Some(PATIENCE));
        wait.metrics(noticed, "notice the snapshot").await.map_err(failed)?;
        let Some(raft_index) = raft_index_of(upto) else {
            return Ok(());
        };
        raft.trigger().purge_log(raft_index).await.map_err(failed)?;
        let purged = |m: &openraft::RaftMetrics<_>| m.running_state.is_err() || index_of(m.purged.as_ref()) >= upto;
        let wait = raft.wait(Some(PATIENCE));
        wait.metrics(purged, "drop log").await.map_err(failed)?;
        Ok(())
    }

    async fn sync(&self) -> io::Result<()> {
        self.store.sync().await
    }

    fn synced_index(&self) -> watch::Receiver<u64> {
        self.store.reader().synced_index()
    }

    fn reader(&self) -> &WalReader {
        self.store.reader()
    }

    fn lead(&self) -> Lead {
        let Ok(joined) = self.joined() else {
            return Lead {
                leader: None,
                is_ours: false,
                term: 0,
            };
        };
        let metrics = joined.raft.metrics();
        let metrics = metrics.borrow_watched();
        Lead {
            leader: metrics.current_leader.map(NodeId),
            is_ours: metrics.state == ServerState::Leader && metrics.running_state.is_ok(),
            term: metrics.current_term,
        }
    }

    async fn failed(&self) -> Option<JournalError> {
        let raft = self.joined().ok()?.raft.clone();
        // A sync that fails while nobody appends is not consensus' business.
        tokio::select! {
            biased;
            reason = self.store.reader().failed() => reason.map(failed),
            failed = failure_of(raft) => failed,
        }
    }

    async fn close(&self) {
        if let Ok(joined) = self.joined() {
            // An error here says that it has ended badly before, which was reported then.
            let _ = joined.raft.shutdown().await;
        }
        let store = self.store.clone();
        let closed = tokio::task::spawn_blocking(move || store.close());
        if closed.await.is_err() {
            tracing::error!("closing the log panicked");
        }
    }
}

/// Waits until consensus has stopped for good.
async fn failure_of<S: StateMachine>(raft: Raft<S>) -> Option<JournalError> {
    let mut metrics = raft.metrics();
    loop {
        let state = metrics.borrow_watched().running_state.clone();
        match state {
            Ok(()) => {}
            Err(Fatal::Stopped) => return None,
            Err(error) => return Some(failed(error)),
        }
        if metrics.changed().await.is_err() {
            return None;
        }
    }
}

fn failed(reason: impl ToString) -> JournalError {
    JournalError::Failed {
        reason: reason.to_string(),
    }
}

fn translate(error: &RaftError<TypeConfig, ClientWriteError<TypeConfig>>) -> JournalError {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => JournalError::NotLeader {
            leader: forward.leader_id.map(NodeId),
        },
        RaftError::Fatal(Fatal::Stopped) => JournalError::ShutDown,
        other => failed(other),
    }
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
    config.validate().map_err(failed)
}
