//! The state machine as the journal drives it: the state, and behind it what must follow each applied command.
//!
//! Effects hang on the applying, not on the proposing: a caller that goes away while its command is being committed must not
//! take the watchers' events or the new intents with it. They are volatile and cheap; nothing here waits.

use alluxio_journal::StateMachine;
use alluxio_proto::IntentId;
use alluxio_proto::WorkerId;
use alluxio_proto::master::{CachedFile, RecoverTask};
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Notify;

use super::executor::IntentQueue;
use super::watch::WatchHub;
use super::workers::Workers;
use crate::state::{Applied, Command, Outcome, RecoverItem, State};

/// Whom an applied command concerns.
#[derive(Debug)]
pub(super) struct Effects {
    pub watch: Arc<WatchHub>,
    pub queue: Arc<IntentQueue>,
    pub workers: Arc<Workers>,
    /// Some intent may be done.
    pub progress: Notify,
    /// Rings when there may be something to reclaim.
    pub reclaim: Notify,
    /// Off while the log is replayed: what follows then is read from the state at once.
    pub on: AtomicBool,
}

impl Effects {
    fn follow(&self, outcome: &Outcome) {
        self.watch.publish(outcome.session, &outcome.events);
        if outcome.repeated {
            return;
        }
        let Ok(applied) = &outcome.result else { return };
        for id in applied.ended.iter().filter(|id| !applied.intents.contains(id)) {
            self.queue.done(IntentId(*id));
        }
        if !applied.intents.is_empty() {
            self.queue.add(applied.intents.iter().copied().map(IntentId));
        }
        self.tell_workers(applied);
        if applied.unlinked != 0 {
            self.reclaim.notify_one();
        }
    }

    fn tell_workers(&self, applied: &Applied) {
        for freed in &applied.freed {
            for worker in &freed.workers {
                let file = CachedFile {
                    inode: freed.inode,
                    version: freed.version,
                    bytes: 0,
                };
                self.workers.drop_cached(WorkerId(*worker), file);
            }
        }
        for item in &applied.recover {
            self.workers.recover(WorkerId(item.home_worker), recover_task(item));
        }
    }
}

pub(super) fn recover_task(item: &RecoverItem) -> RecoverTask {
    RecoverTask {
        inode: item.inode,
        version: item.version,
        keep_bytes: item.keep_bytes,
        never_committed: item.unpromised,
        boot: item.home_boot,
        mapped: item.mapped,
    }
}

/// What the journal drives.
#[derive(Debug)]
pub(super) struct Machine {
    pub state: Arc<State>,
    pub effects: Arc<Effects>,
}

impl StateMachine for Machine {
    type Command = Command;
    type Outcome = Outcome;
    const LEVEL: u32 = State::LEVEL;

    fn level_of(command: &Command) -> Option<u32> {
        State::level_of(command)
    }

    fn apply(&self, position: &[u8], commands: Vec<Command>) -> io::Result<Vec<Outcome>> {
        let outcomes = self.state.apply(position, commands)?;
        if self.effects.on.load(Ordering::Acquire) {
            for outcome in &outcomes {
                self.effects.follow(outcome);
            }
            self.effects.progress.notify_waiters();
        }
        Ok(outcomes)
    }

    fn position(&self) -> io::Result<Option<Vec<u8>>> {
        self.state.position()
    }

    fn sync(&self) -> io::Result<()> {
        self.state.sync()
    }

    fn snapshot(&self) -> io::Result<Box<dyn Read + Send>> {
        self.state.snapshot()
    }

    fn restore(&self, position: &[u8], snapshot: &mut dyn Read) -> io::Result<()> {
        self.state.restore(position, snapshot)
    }

    fn clear(&self) -> io::Result<()> {
        self.state.clear()
    }
}
