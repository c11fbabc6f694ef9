//! The state machine as openraft wants it, over [`StateMachine`].
//!
//! [`Applier`] does the work and is plain code: it turns entries into calls of `apply`, several entries in one where
//! they come together (replay), remembers how far it is, and hands outcomes to whoever waits for them.

use std::{
    collections::HashMap,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use alluxio_common::sync::Mutex;
use futures::{Stream, StreamExt};
use openraft::{
    EntryPayload,
    entry::RaftEntry,
    storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine},
};
use tokio::sync::oneshot;

use super::{
    Entry, LogId, Snapshot, SnapshotMeta, StoredMembership, TypeConfig, commands_of,
    entry::{invalid, log_id_at, position_of},
    index_of,
};
use crate::{
    StateMachine,
    snapshot::{SnapshotInfo, SnapshotReader, SnapshotStore},
    wal::Position,
};

/// Commands in one call of `apply` at most, also during replay: bounds memory and the time that the state is locked.
const APPLY_COMMANDS_MAX: usize = 4096;
const POSITION_VERSION: u8 = 1;

/// Gets the outcome of one command.
pub(crate) type Waiter<S> = oneshot::Sender<crate::error::Result<<S as StateMachine>::Outcome>>;

/// Drives one state machine.
pub(crate) struct Applier<S: StateMachine> {
    state: Arc<S>,
    snapshots: SnapshotStore,
    /// Held while applying, so that a snapshot is taken between two entries.
    applied: Mutex<Applied>,
    /// Who waits for the outcomes of a batch, by the batch's tag.
    waiters: Mutex<HashMap<u64, Vec<Waiter<S>>>>,
    /// The last entry applied; to be read without waiting for an `apply` under way.
    applied_index: AtomicU64,
    commands_since_snapshot: AtomicU64,
    /// The last entry in the newest snapshot.
    snapshot_index: AtomicU64,
    cancel_snapshot: AtomicBool,
}

#[derive(Clone, Default)]
struct Applied {
    log_id: Option<LogId>,
    membership: StoredMembership,
    /// `membership` as it is stored in positions; it hardly ever changes.
    membership_json: Vec<u8>,
}

impl Applied {
    fn position(&self) -> Vec<u8> {
        let Position { term, index } = self.log_id.as_ref().map(position_of).unwrap_or_default();
        let mut out = Vec::with_capacity(17 + self.membership_json.len());
        out.push(POSITION_VERSION);
        out.extend_from_slice(&term.to_le_bytes());
        out.extend_from_slice(&index.to_le_bytes());
        out.extend_from_slice(&self.membership_json);
        out
    }

    fn parse(position: &[u8]) -> io::Result<Self> {
        let wrong = || invalid("the state machine's position is not one that this program wrote");
        let (version, rest) = position.split_first().ok_or_else(wrong)?;
        let (term, rest) = rest.split_first_chunk::<8>().ok_or_else(wrong)?;
        let (index, json) = rest.split_first_chunk::<8>().ok_or_else(wrong)?;
        if *version != POSITION_VERSION {
            return Err(wrong());
        }
        Ok(Self {
            log_id: log_id_at(Position {
                term: u64::from_le_bytes(*term),
                index: u64::from_le_bytes(*index),
            }),
            membership: serde_json::from_slice(json)?,
            membership_json: json.to_vec(),
        })
    }

    fn set_membership(&mut self, membership: StoredMembership) -> io::Result<()> {
        self.membership_json = serde_json::to_vec(&membership)?;
        self.membership = membership;
        Ok(())
    }
}

/// Entries that are applied with one call.
struct Chunk<S: StateMachine> {
    commands: Vec<S::Command>,
    /// Tag of each batch with waiters and the number of its commands, in order; tag 0 for the others.
    batches: Vec<(u64, usize)>,
    after: Applied,
}

impl<S: StateMachine> Applier<S> {
    /// Takes the state machine as it is.
    pub fn new(state: Arc<S>, snapshots: SnapshotStore) -> io::Result<Self> {
        let mut applied = match state.position()? {
            Some(position) => Applied::parse(&position)?,
            None => Applied::default(),
        };
        applied.set_membership(applied.membership.clone())?;
        let newest = snapshots.newest()?.map_or(0, |newest| newest.index);
        // Also what was applied by processes before this one: one that is started often would never take a snapshot.
        let since = index_of(applied.log_id.as_ref()).saturating_sub(newest);
        Ok(Self {
            state,
            snapshots,
            applied_index: AtomicU64::new(index_of(applied.log_id.as_ref())),
            applied: Mutex::new(applied),
            waiters: Mutex::default(),
            commands_since_snapshot: AtomicU64::new(since),
            snapshot_index: AtomicU64::new(newest),
            cancel_snapshot: AtomicBool::new(false),
        })
    }

    pub fn state(&self) -> &Arc<S> {
        &self.state
    }

    pub fn snapshots(&self) -> &SnapshotStore {
        &self.snapshots
    }

    /// The last entry applied; 0 for none.
    pub fn applied_index(&self) -> u64 {
        self.applied_index.load(Ordering::Acquire)
    }

    /// The last entry applied, as consensus names it.
    pub fn log_id(&self) -> Option<LogId> {
        self.applied.lock().log_id
    }

    /// The last entry in the newest snapshot; 0 for none.
    pub fn snapshot_index(&self) -> u64 {
        self.snapshot_index.load(Ordering::Relaxed)
    }

    /// Ends a snapshot that is being written, for good.
    pub fn cancel_snapshot(&self) {
        self.cancel_snapshot.store(true, Ordering::Relaxed);
    }

    /// The members as of the last entry applied.
    pub fn membership(&self) -> StoredMembership {
        self.applied.lock().membership.clone()
    }

    pub fn commands_since_snapshot(&self) -> u64 {
        self.commands_since_snapshot.load(Ordering::Relaxed)
    }

    /// Who waits for the batch of this tag.
    pub fn expect(&self, tag: u64, waiters: Vec<Waiter<S>>) {
        self.waiters.lock().insert(tag, waiters);
    }

    /// Nobody will apply the batch here: those who waited for it.
    pub fn forget(&self, tag: u64) -> Vec<Waiter<S>> {
        self.waiters.lock().remove(&tag).unwrap_or_default()
    }

    /// Applies entries, each of which follows the one before.
    pub fn apply(&self, entries: impl IntoIterator<Item = Entry>) -> io::Result<()> {
        let mut applied = self.applied.lock();
        let mut chunk = Chunk::<S>::new(&applied);
        for entry in entries {
            chunk.add(entry)?;
            if chunk.commands.len() >= APPLY_COMMANDS_MAX {
                let full = std::mem::replace(&mut chunk, Chunk::new(&applied));
                self.apply_chunk(&mut applied, full)?;
                chunk.after = applied.clone();
            }
        }
        match chunk.after.log_id == applied.log_id {
            true => Ok(()),
            false => self.apply_chunk(&mut applied, chunk),
        }
    }

    fn apply_chunk(&self, applied: &mut Applied, chunk: Chunk<S>) -> io::Result<()> {
        let count = chunk.commands.len();
        let (position, commands) = (chunk.after.position(), chunk.commands);
        // A panic would end the task that applies and leave its callers waiting for ever.
        let outcomes = catch_unwind(AssertUnwindSafe(|| self.state.apply(&position, commands)))
            .map_err(|_| io::Error::other("the state machine panicked"))??;
        if outcomes.len() != count {
            let text = format!("{} outcomes of {count} commands", outcomes.len());
            return Err(io::Error::other(text));
        }
        *applied = chunk.after;
        self.applied_index
            .store(index_of(applied.log_id.as_ref()), Ordering::Release);
        self.commands_since_snapshot.fetch_add(count as u64, Ordering::Relaxed);
        self.answer(&chunk.batches, outcomes);
        Ok(())
    }

    fn answer(&self, batches: &[(u64, usize)], outcomes: Vec<S::Outcome>) {
        let mut outcomes = outcomes.into_iter();
        for (tag, count) in batches {
            let outcomes = outcomes.by_ref().take(*count);
            match *tag {
                0 => outcomes.for_each(drop),
                // A proposer that gave up does not hear of it.
                tag => self
                    .forget(tag)
                    .into_iter()
                    .zip(outcomes)
                    .for_each(|(waiter, outcome)| {
                        let _ = waiter.send(Ok(outcome));
                    }),
            }
        }
    }

    /// Replaces the state by that of a snapshot, which has been verified.
    pub fn restore(&self, snapshot: &SnapshotInfo) -> io::Result<()> {
        let mut applied = self.applied.lock();
        let restored = Applied::parse(&snapshot.position)?;
        self.state
            .restore(&snapshot.position, &mut SnapshotReader::open(&snapshot.path)?)?;
        *applied = restored;
        self.applied_index
            .store(index_of(applied.log_id.as_ref()), Ordering::Release);
        self.snapshot_index.fetch_max(snapshot.index, Ordering::Relaxed);
        self.commands_since_snapshot.store(0, Ordering::Relaxed);
        Ok(())
    }

    /// Writes a snapshot of the state as it is now, and makes the state machine's own store durable. Entries go on
    /// being applied meanwhile. With nothing new since the newest snapshot, that one is the answer.
    pub fn take_snapshot(&self) -> io::Result<Option<SnapshotInfo>> {
        let newest = self.snapshots.newest()?;
        let (mut view, applied, commands) = {
            let applied = self.applied.lock();
            let index = index_of(applied.log_id.as_ref());
            if index == 0 || newest.as_ref().is_some_and(|newest| newest.index >= index) {
                return Ok(newest);
            }
            (self.state.snapshot()?, applied.clone(), self.commands_since_snapshot())
        };
        let index = index_of(applied.log_id.as_ref());
        let info = self
            .snapshots
            .write(index, &applied.position(), &mut view, &self.cancel_snapshot)?;
        // The log is dropped only up to what the store itself holds durably.
        self.state.sync()?;
        self.commands_since_snapshot.fetch_sub(commands, Ordering::Relaxed);
        self.snapshot_index.fetch_max(index, Ordering::Relaxed);
        Ok(Some(info))
    }
}

impl<S: StateMachine> Chunk<S> {
    fn new(applied: &Applied) -> Self {
        Self {
            commands: Vec::new(),
            batches: Vec::new(),
            after: applied.clone(),
        }
    }

    fn add(&mut self, entry: Entry) -> io::Result<()> {
        let log_id = entry.log_id();
        match entry.payload {
            EntryPayload::Blank => {}
            EntryPayload::Normal(batch) => {
                let count = commands_of(batch.commands, &mut self.commands)?;
                self.batches.push((batch.tag, count));
            }
            EntryPayload::Membership(members) => {
                self.after
                    .set_membership(StoredMembership::new(Some(log_id), members))?;
            }
        }
        self.after.log_id = Some(log_id);
        Ok(())
    }
}

/// What openraft holds. The work is in [`Applier`].
pub(crate) struct StateMachineAdapter<S: StateMachine>(pub Arc<Applier<S>>);

/// A snapshot on its way between members: a file.
#[derive(Clone, Debug)]
pub(crate) struct SnapshotFile(pub PathBuf);

/// Hands snapshots to openraft; usually there is one already, which our own task has written.
pub(crate) struct SnapshotBuilder<S: StateMachine> {
    applier: Arc<Applier<S>>,
    /// Whether one that is not the newest possible will do.
    any: bool,
}

fn describe(info: SnapshotInfo) -> io::Result<Snapshot> {
    let applied = Applied::parse(&info.position)?;
    Ok(Snapshot {
        meta: SnapshotMeta {
            last_log_id: applied.log_id,
            last_membership: applied.membership,
        },
        snapshot: SnapshotFile(info.path),
    })
}

impl<S: StateMachine> RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder<S> {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        let info = match self.applier.snapshots.newest()? {
            Some(info) if self.any => Some(info),
            _ => {
                let applier = self.applier.clone();
                tokio::task::spawn_blocking(move || applier.take_snapshot()).await??
            }
        };
        match info {
            Some(info) => describe(info),
            None => Ok(Snapshot {
                meta: SnapshotMeta::default(),
                snapshot: SnapshotFile(PathBuf::new()),
            }),
        }
    }
}

impl<S: StateMachine> RaftStateMachine<TypeConfig> for StateMachineAdapter<S> {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = SnapshotBuilder<S>;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        let applied = self.0.applied.lock();
        Ok((applied.log_id, applied.membership.clone()))
    }

    async fn apply<E>(&mut self, mut stream: E) -> io::Result<()>
    where
        E: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + Send,
    {
        let (mut entries, mut responders) = (Vec::new(), Vec::new());
        while let Some(item) = stream.next().await {
            let (entry, responder) = item?;
            entries.push(entry);
            responders.extend(responder);
        }
        self.0.apply(entries)?;
        for responder in responders {
            responder.send(());
        }
        Ok(())
    }

    async fn try_create_snapshot_builder(&mut self, force: bool) -> Option<SnapshotBuilder<S>> {
        Some(SnapshotBuilder {
            applier: self.0.clone(),
            any: !force,
        })
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder<S> {
        SnapshotBuilder {
            applier: self.0.clone(),
            any: false,
        }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: SnapshotFile) -> io::Result<()> {
        let applier = self.0.clone();
        let index = index_of(meta.last_log_id.as_ref());
        tokio::task::spawn_blocking(move || {
            let info = applier.snapshots.adopt(index, &snapshot.0)?;
            applier.restore(&info)?;
            applier.state.sync()
        })
        .await?
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        self.0.snapshots.newest()?.map(describe).transpose()
    }
}
