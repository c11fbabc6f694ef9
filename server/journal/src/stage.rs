//! The applying stage: committed entries wait here for their turn, and a thread of its own applies them.
//!
//! So consensus goes on, and the next batch is on its way to the disk, while the state machine is busy, waits for its store to
//! catch up, or waits for who reads it. What waits is bounded; beyond that, committing waits.
//!
//! A lone command of a cluster of one is applied on the thread that committed it, which saves a change of threads that its
//! caller would wait for. Nobody else needs that thread then: there is no other member to talk to, and who proposes meanwhile
//! would have to wait for the applying all the same. After one that was slow the thread of the stage takes over, until it
//! finds that applying is quick again.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use alluxio_common::{
    clock::Clock,
    sync::{Condvar, Mutex},
};
use tokio::sync::Notify;

use crate::{
    JournalError, StateMachine,
    applier::Applier,
    entry::{EntryBody, LogEntry},
    error::Result,
};

/// Bytes of entries that may wait: what takes a busy state machine a fraction of a second.
const WAITING_BYTES_MAX: usize = 16 << 20;
/// Applying one command takes tens of microseconds. Longer than this, the store or a reader holds it up.
const QUICK: Duration = Duration::from_millis(1);

/// Takes committed entries, in order.
pub(crate) struct ApplyStage<S: StateMachine> {
    shared: Arc<Shared<S>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared<S: StateMachine> {
    applier: Arc<Applier<S>>,
    clock: Clock,
    queue: Mutex<Queue>,
    wake: Condvar,
    /// Rings when the queue has become shorter, and at a failure.
    moved: Notify,
    failed: OnceLock<String>,
    /// Whether applying was quick when it was tried last.
    quick: AtomicBool,
}

#[derive(Default)]
struct Queue {
    entries: VecDeque<LogEntry>,
    bytes: usize,
    /// Entries are out of the queue and not applied yet.
    busy: bool,
    closed: bool,
}

impl Queue {
    fn is_idle(&self) -> bool {
        self.entries.is_empty() && !self.busy
    }
}

impl<S: StateMachine> ApplyStage<S> {
    /// Starts the stage's thread.
    pub fn start(applier: Arc<Applier<S>>, clock: Clock) -> Result<Self> {
        let shared = Arc::new(Shared {
            applier,
            clock,
            queue: Mutex::default(),
            wake: Condvar::new(),
            moved: Notify::new(),
            failed: OnceLock::new(),
            quick: AtomicBool::new(true),
        });
        let thread = std::thread::Builder::new()
            .name("journal-apply".into())
            .spawn({
                let shared = shared.clone();
                move || shared.run()
            })
            .map_err(JournalError::io("start the journal's applying thread"))?;
        Ok(Self {
            shared,
            thread: Mutex::new(Some(thread)),
        })
    }

    pub fn applier(&self) -> &Arc<Applier<S>> {
        &self.shared.applier
    }

    /// Takes entries that are committed; returns when they wait or are applied.
    ///
    /// # Errors
    /// The stage has failed, now or before.
    pub async fn hand(&self, entries: Vec<LogEntry>) -> io::Result<()> {
        loop {
            let moved = self.shared.moved.notified();
            if let Some(reason) = self.shared.failed.get() {
                return Err(io::Error::other(reason.clone()));
            }
            if self.shared.queue.lock().bytes < WAITING_BYTES_MAX {
                break;
            }
            moved.await;
        }
        if self.shared.is_lone(&entries) && self.shared.claim() {
            return self.shared.apply(entries);
        }
        let mut queue = self.shared.queue.lock();
        queue.bytes += entries.iter().map(bytes_of).sum::<usize>();
        queue.entries.extend(entries);
        drop(queue);
        self.shared.wake.notify_one();
        Ok(())
    }

    /// Waits until everything that was handed over is applied.
    ///
    /// # Errors
    /// The stage has failed.
    pub async fn drain(&self) -> io::Result<()> {
        loop {
            let moved = self.shared.moved.notified();
            if let Some(reason) = self.shared.failed.get() {
                return Err(io::Error::other(reason.clone()));
            }
            if self.shared.queue.lock().is_idle() {
                return Ok(());
            }
            moved.await;
        }
    }

    /// Waits until the stage fails, and says why.
    pub async fn failed(&self) -> String {
        loop {
            let moved = self.shared.moved.notified();
            if let Some(reason) = self.shared.failed.get() {
                return reason.clone();
            }
            moved.await;
        }
    }

    /// Applies what waits, and ends the thread. Blocks.
    pub fn close(&self) {
        self.shared.queue.lock().closed = true;
        self.shared.wake.notify_all();
        let thread = self.thread.lock().take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the journal's applying thread panicked");
        }
    }
}

impl<S: StateMachine> Drop for ApplyStage<S> {
    fn drop(&mut self) {
        self.close();
    }
}

impl<S: StateMachine> Shared<S> {
    fn run(&self) {
        loop {
            let entries = {
                let mut queue = self.queue.lock();
                while queue.entries.is_empty() || queue.busy {
                    if queue.closed && !queue.busy {
                        return;
                    }
                    self.wake.wait(&mut queue);
                }
                queue.busy = true;
                queue.bytes = 0;
                std::mem::take(&mut queue.entries)
            };
            if self.apply(entries).is_err() {
                return;
            }
        }
    }

    /// Whether these are one command that one caller waits for, with nobody else about.
    fn is_lone(&self, entries: &[LogEntry]) -> bool {
        let [entry] = entries else { return false };
        self.quick.load(Ordering::Relaxed)
            && matches!(entry.body, EntryBody::Commands { .. })
            && self.applier.waiting().count_at(entry.at.index) == 1
            && self.applier.is_alone()
    }

    /// Reserves the applying for the calling thread, if nothing is before it and nothing before it has failed.
    fn claim(&self) -> bool {
        let mut queue = self.queue.lock();
        let idle = queue.is_idle() && !queue.closed && self.failed.get().is_none();
        queue.busy |= idle;
        idle
    }

    /// Applies what was taken out of the queue.
    fn apply(&self, entries: impl IntoIterator<Item = LogEntry>) -> io::Result<()> {
        let began = self.clock.now();
        let applied = self.applier.apply(entries);
        self.quick.store(self.clock.now() - began < QUICK, Ordering::Relaxed);
        if let Err(error) = &applied {
            let reason = error.to_string();
            tracing::error!(%error, "a committed entry could not be applied");
            // Only the first failure counts.
            let _ = self.failed.set(reason.clone());
            self.applier
                .waiting()
                .end(&reason, || JournalError::Failed { reason: reason.clone() });
        }
        self.queue.lock().busy = false;
        self.wake.notify_one();
        self.moved.notify_waiters();
        applied
    }
}

/// About what an entry takes.
fn bytes_of(entry: &LogEntry) -> usize {
    let EntryBody::Commands { commands, .. } = &entry.body else {
        return 64;
    };
    64 + commands.len()
}
