//! Turns entries into calls of `apply`, several in one where they come together (replay, and while an `apply` is slow),
//! remembers how far the state machine is, and hands outcomes to whoever waits for them. Plain code: no thread of its own,
//! and it does not know where entries come from.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
};

use alluxio_common::sync::Mutex;
use tokio::sync::watch;

use crate::{
    StateMachine,
    entry::{EntryBody, LogEntry, commands_of, invalid, unknown},
    members::Members,
    position::Applied,
    snapshot::{SnapshotInfo, SnapshotStore},
    waiting::Waiting,
    wal::{Position, WalReader},
};

/// Commands in one call of `apply` at most, also during replay: bounds memory and the time that the state is locked.
const APPLY_COMMANDS_MAX: usize = 4096;

/// Drives one state machine.
pub(crate) struct Applier<S: StateMachine> {
    state: Arc<S>,
    /// This member.
    node: u64,
    snapshots: SnapshotStore,
    /// Held while applying, so that a snapshot is taken between two entries.
    applied: Mutex<Applied>,
    waiting: Arc<Waiting<S::Outcome>>,
    log: WalReader,
    /// The newest entry that is on disk.
    synced: watch::Receiver<u64>,
    /// The last entry applied; to be read without waiting for an `apply` under way.
    applied_index: AtomicU64,
    commands_since_snapshot: AtomicU64,
    /// The last entry in the newest snapshot.
    snapshot_index: AtomicU64,
    cancel_snapshot: AtomicBool,
    /// Whether this member decides alone; to be read without waiting, too.
    alone: AtomicBool,
    /// The feature level that every member has, likewise.
    level: AtomicU32,
}

/// Entries that are applied with one call.
struct Chunk<S: StateMachine> {
    commands: Vec<S::Command>,
    /// Place of each entry with commands and the number of them, in order.
    batches: Vec<(Position, usize)>,
    after: Applied,
}

impl<S: StateMachine> Applier<S> {
    /// Takes the state machine as it is; `log` is what is applied to it.
    ///
    /// # Errors
    /// The members have agreed on a feature level that this program does not have.
    pub fn new(
        state: Arc<S>,
        node: u64,
        applied: Applied,
        snapshots: SnapshotStore,
        waiting: Arc<Waiting<S::Outcome>>,
        log: WalReader,
    ) -> io::Result<Self> {
        check_level::<S>(&applied)?;
        let newest = snapshots.newest()?.map_or(0, |newest| newest.index);
        let index = applied.at.index;
        Ok(Self {
            state,
            node,
            alone: AtomicBool::new(applied.members().is_alone(node)),
            level: AtomicU32::new(applied.members().agreed_level()),
            snapshots,
            applied_index: AtomicU64::new(index),
            applied: Mutex::new(applied),
            waiting,
            synced: log.synced_index(),
            log,
            // Also what was applied by processes before this one: one that is started often would never take a snapshot.
            commands_since_snapshot: AtomicU64::new(index.saturating_sub(newest)),
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

    pub fn waiting(&self) -> &Waiting<S::Outcome> {
        &self.waiting
    }

    /// The last entry applied; 0 for none.
    pub fn applied_index(&self) -> u64 {
        self.applied_index.load(Ordering::Acquire)
    }

    /// The last entry applied, with its term.
    pub fn at(&self) -> Position {
        self.applied.lock().at
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
    pub fn members(&self) -> Members {
        self.applied.lock().members().clone()
    }

    /// The feature level that every member has, as of the last entry applied. Waits for nothing.
    pub fn agreed_level(&self) -> u32 {
        self.level.load(Ordering::Relaxed)
    }

    /// Whether this member decides alone, as of the last entry applied. Waits for nothing.
    pub fn is_alone(&self) -> bool {
        self.alone.load(Ordering::Relaxed)
    }

    pub fn commands_since_snapshot(&self) -> u64 {
        self.commands_since_snapshot.load(Ordering::Relaxed)
    }

    /// Applies entries, each of which follows the one before.
    pub fn apply(&self, entries: impl IntoIterator<Item = LogEntry>) -> io::Result<()> {
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
        match chunk.after.at == applied.at {
            true => Ok(()),
            false => self.apply_chunk(&mut applied, chunk),
        }
    }

    fn apply_chunk(&self, applied: &mut Applied, mut chunk: Chunk<S>) -> io::Result<()> {
        chunk.after.synced = chunk.after.at.index.min(*self.synced.borrow()).max(applied.synced);
        let count = chunk.commands.len();
        let (position, commands) = (chunk.after.encode(), chunk.commands);
        // A panic would end the thread that applies and leave its callers waiting for ever.
        let outcomes = catch_unwind(AssertUnwindSafe(|| self.state.apply(&position, commands)))
            .map_err(|_| io::Error::other("the state machine panicked"))??;
        if outcomes.len() != count {
            let text = format!("{} outcomes of {count} commands", outcomes.len());
            return Err(io::Error::other(text));
        }
        *applied = chunk.after;
        self.note(applied);
        self.commands_since_snapshot.fetch_add(count as u64, Ordering::Relaxed);
        let mut outcomes = outcomes.into_iter();
        for (at, count) in chunk.batches {
            self.waiting.answer(at, outcomes.by_ref().take(count).collect());
        }
        Ok(())
    }

    /// For who reads without waiting.
    fn note(&self, applied: &Applied) {
        self.alone
            .store(applied.members().is_alone(self.node), Ordering::Relaxed);
        self.level.store(applied.members().agreed_level(), Ordering::Relaxed);
        self.applied_index.store(applied.at.index, Ordering::Release);
    }

    /// Replaces the state by that of a snapshot, which has been verified.
    pub fn restore(&self, snapshot: &SnapshotInfo) -> io::Result<()> {
        let mut applied = self.applied.lock();
        let restored = Applied::of_stored(Some(&snapshot.position))?;
        check_level::<S>(&restored)?;
        self.state
            .restore(&snapshot.position, &mut self.snapshots.read(snapshot)?)?;
        *applied = restored;
        self.note(&applied);
        self.snapshot_index.fetch_max(snapshot.index, Ordering::Relaxed);
        self.commands_since_snapshot.store(0, Ordering::Relaxed);
        self.waiting.replaced(snapshot.index);
        Ok(())
    }

    /// Empties the state: the log has everything from its beginning on.
    pub fn clear(&self) -> io::Result<()> {
        let mut applied = self.applied.lock();
        self.state.clear()?;
        *applied = Applied::of_stored(None)?;
        self.note(&applied);
        Ok(())
    }

    /// Writes a snapshot of the state as it is now, and makes the state machine's own store durable. Entries go on
    /// being applied meanwhile. With nothing new since the newest snapshot, that one is the answer.
    pub fn take_snapshot(&self) -> io::Result<Option<SnapshotInfo>> {
        let newest = self.snapshots.newest()?;
        let (mut view, applied, commands) = {
            let applied = self.applied.lock();
            let index = applied.at.index;
            if index == 0 || newest.as_ref().is_some_and(|newest| newest.index >= index) {
                return Ok(newest);
            }
            (self.state.snapshot()?, applied.clone(), self.commands_since_snapshot())
        };
        let index = applied.at.index;
        // A snapshot that is ahead of what a power cut leaves of the log would bring back what is lost.
        self.log.sync()?;
        let info = self
            .snapshots
            .write(index, &applied.encode(), &mut view, &self.cancel_snapshot)?;
        // The log is dropped only up to what the store itself holds durably.
        self.state.sync()?;
        self.commands_since_snapshot.fetch_sub(commands, Ordering::Relaxed);
        self.snapshot_index.fetch_max(index, Ordering::Relaxed);
        Ok(Some(info))
    }
}

/// What everybody has may be used, and this program would not know it.
fn check_level<S: StateMachine>(applied: &Applied) -> io::Result<()> {
    let agreed = applied.members().agreed_level();
    match agreed > S::LEVEL {
        true => Err(unknown(format!("the journal is used at feature level {agreed}"))),
        false => Ok(()),
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

    fn add(&mut self, entry: LogEntry) -> io::Result<()> {
        let (last, found) = (self.after.at.index, entry.at.index);
        if found <= last {
            return Err(invalid(format!("entry {found} came to be applied after entry {last}")));
        }
        match entry.body {
            EntryBody::Blank => {}
            EntryBody::Commands { level, .. } if level > S::LEVEL => {
                return Err(unknown(format!(
                    "log entry {found} holds commands of feature level {level}"
                )));
            }
            EntryBody::Commands { commands, .. } => {
                let before = self.commands.len();
                let count = commands_of(commands, &mut self.commands)?;
                if self.commands[before..]
                    .iter()
                    .any(|command| S::level_of(command).is_none())
                {
                    return Err(unknown(format!("log entry {found} holds a command")));
                }
                self.batches.push((entry.at, count));
            }
            EntryBody::Members(members) => {
                self.after.change_members(members)?;
                check_level::<S>(&self.after)?;
            }
            EntryBody::Announced(announced) => {
                self.after.announce(announced.node, announced.level)?;
                check_level::<S>(&self.after)?;
            }
        }
        self.after.at = entry.at;
        Ok(())
    }
}
