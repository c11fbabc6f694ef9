//! What runs in the background. Each loop ends with the stop token; a failure is logged where it happens and tried again.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::{Core, now_ns};
use crate::state::Command;
use crate::state::command::{Keep, ReclaimSlice};

/// Reports of workers are stored together, this often.
const REPORT_EVERY: Duration = Duration::from_millis(200);
/// Lost workers are looked for this often.
const WORKERS_EVERY: Duration = Duration::from_secs(1);
/// A recovery without an answer is asked for again after so long: longer than sealing a large file takes.
const RECOVER_EVERY: Duration = Duration::from_secs(20);
/// Inodes reclaimed by one command: some milliseconds under the state's lock.
const RECLAIM_INODES: u32 = 500;
/// While intents wait for a lull, it is looked for this often.
const LULL_POLL: Duration = Duration::from_millis(50);
/// Intents are looked for when none is known to be due.
const IDLE: Duration = Duration::from_secs(60);
/// Pause after a failure in a loop.
const PAUSE: Duration = Duration::from_secs(1);

impl Core {
    pub(super) fn start_loops(self: &Arc<Self>) {
        self.spawn_loop(|core| async move { core.run_intents().await });
        self.spawn_loop(|core| async move { core.reclaim().await });
        let beat = (self.settings.session_timeout / 10).clamp(Duration::from_millis(10), Duration::from_secs(1));
        self.spawn_every(beat, |core| async move {
            core.expire_sessions().await;
            core.expire_lock_users().await;
        });
        self.spawn_every(REPORT_EVERY, |core| async move { core.flush_reports().await });
        self.spawn_every(WORKERS_EVERY, |core| async move { core.look_after_workers() });
        self.spawn_every(RECOVER_EVERY, |core| async move {
            if let Err(error) = core.ask_to_recover() {
                tracing::warn!(%error, "open versions to be recovered could not be read");
            }
        });
    }

    fn spawn_loop<F: Future<Output = ()> + Send + 'static>(self: &Arc<Self>, run: impl FnOnce(Arc<Core>) -> F) {
        let work = run(self.clone());
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = work => {}
            }
        });
    }

    fn spawn_every<F: Future<Output = ()> + Send + 'static>(
        self: &Arc<Self>,
        every: Duration,
        step: impl Fn(Arc<Core>) -> F + Send + 'static,
    ) {
        self.spawn_loop(|core| async move {
            let mut ticks = tokio::time::interval(every);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                step(core.clone()).await;
            }
        });
    }

    async fn run_intents(self: Arc<Self>) {
        self.fill_queue();
        loop {
            let rung = self.queue.wake.notified();
            if self.queue.holds() && !self.pace.is_busy() {
                self.queue.release_held();
            }
            let mut steps = 0u32;
            while let Some(id) = self.queue.pop() {
                self.advance(id);
                steps += 1;
                if steps.is_multiple_of(100) {
                    tokio::task::yield_now().await;
                }
            }
            let idle = tokio::time::Instant::now() + IDLE;
            let mut until = self.queue.next_due().map_or(idle, |due| idle.min(due.into()));
            if self.queue.holds() {
                until = until.min(tokio::time::Instant::now() + LULL_POLL);
            }
            tokio::select! {
                () = rung => {}
                () = tokio::time::sleep_until(until) => {}
            }
        }
    }

    /// Reclaims what recursive deletes have taken off the tree, in slices between which others are served.
    async fn reclaim(self: Arc<Self>) {
        loop {
            let rung = self.effects.reclaim.notified();
            if self.state.counters().detached == 0 {
                rung.await;
                continue;
            }
            let keep = self.sessions.all_readers().into_iter();
            let slice = ReclaimSlice {
                limit: RECLAIM_INODES,
                keep: keep
                    .map(|(inode, sessions)| Keep {
                        inode: inode.get(),
                        sessions,
                    })
                    .collect(),
            };
            if let Err(error) = self.commit(Command::system(now_ns(), slice)).await {
                tracing::warn!(%error, "deleted trees could not be reclaimed; trying again");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    fn look_after_workers(&self) {
        for (worker, uploads) in self.workers.take_uploads_of_lost() {
            if !uploads.is_empty() {
                tracing::warn!(%worker, uploads = uploads.len(), "a worker is lost; its uploads wait for another or its return");
                self.queue.withdraw(worker);
            }
        }
    }
}
