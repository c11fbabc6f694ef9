//! What runs in the background. Each loop ends with the stop token; a failure is logged where it happens and tried again.

use alluxio_proto::{FsResult, InodeId};
use bytes::Bytes;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::{Core, MetastoreKind, now_ns, rebuild};
use crate::state::Command;
use crate::state::command::{Keep, ReclaimSlice};

/// Reports of workers are stored together, this often.
const REPORT_EVERY: Duration = Duration::from_millis(200);
/// Lost workers are looked for this often.
const WORKERS_EVERY: Duration = Duration::from_secs(1);
/// A recovery without an answer is asked for again after so long: longer than sealing a large file takes.
const RECOVER_EVERY: Duration = Duration::from_secs(20);
/// Inodes reclaimed by one command: some milliseconds under the state's lock.
const RECLAIM_INODES: usize = 500;
/// While intents wait for a lull, it is looked for this often.
const LULL_POLL: Duration = Duration::from_millis(50);
/// Intents are looked for when none is known to be due.
const IDLE: Duration = Duration::from_secs(60);
/// Pause after a failure in a loop.
const PAUSE: Duration = Duration::from_secs(1);

/// How far the reclaiming of detached trees is. What is before is not looked at again: what is removed from the store is
/// passed by every scan over it for a while.
#[derive(Default)]
struct Reclaimed {
    dir: InodeId,
    after: Bytes,
}

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
        self.spawn_every(WORKERS_EVERY, |core| async move {
            core.look_after_workers();
            core.look_after_metastore();
        });
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
            if self.queue.take_refill() {
                self.fill_queue();
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
        let mut at = Reclaimed::default();
        loop {
            let rung = self.effects.reclaim.notified();
            if self.state.counters().detached == 0 {
                at = Reclaimed::default();
                rung.await;
                continue;
            }
            // Whoever was there before the start is to say first what it has open: else all of this is kept for it.
            if self.sessions.awaits_any() {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            if let Err(error) = self.reclaim_slice(&mut at).await {
                tracing::warn!(%error, "deleted trees could not be reclaimed; trying again");
                at = Reclaimed::default();
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    async fn reclaim_slice(&self, at: &mut Reclaimed) -> FsResult<()> {
        let Some(dir) = self.state.detached_from(at.dir)? else {
            return Ok(());
        };
        if dir != at.dir {
            *at = Reclaimed {
                dir,
                after: Bytes::new(),
            };
        }
        let children = self.state.children_after(dir, &at.after, RECLAIM_INODES)?;
        let removing = self.sessions.begin_removal(children.iter().map(|(_, child)| *child));
        let keep = children.iter().map(|(_, child)| Keep {
            inode: child.get(),
            sessions: removing.readers(*child),
        });
        let slice = ReclaimSlice {
            limit: RECLAIM_INODES as u32,
            keep: keep.filter(|keep| !keep.sessions.is_empty()).collect(),
            dir: dir.get(),
            after: at.after.clone(),
            upto: children.last().map(|(name, _)| name.clone()).unwrap_or_default(),
        };
        let upto = slice.upto.clone();
        let applied = self.commit(Command::system(now_ns(), slice)).await?;
        // A directory in which something is left before where we are is begun anew.
        at.after = if upto.is_empty() && applied.count == 0 {
            Bytes::new()
        } else {
            upto
        };
        Ok(())
    }

    /// What was found to be damaged is rebuilt by the next start, which is to be soon.
    pub(super) fn look_after_metastore(&self) {
        if self.damaged.is_cancelled() {
            return;
        }
        let (Some(why), MetastoreKind::Disk(dir)) = (self.state.damage(), &self.metastore) else {
            return;
        };
        if let Err(error) = rebuild::leave_mark(dir, &why) {
            tracing::error!(%error, "the damaged metadata store in {} could not be marked", dir.display());
        }
        tracing::error!("the metadata store in {} is damaged: {why}", dir.display());
        self.damaged.cancel();
    }

    fn look_after_workers(&self) {
        for (worker, tasks) in self.workers.take_tasks_of_lost() {
            if !tasks.is_empty() {
                tracing::warn!(%worker, tasks = tasks.len(), "a worker is lost; its uploads and copies wait for another or its return");
                self.queue.withdraw(worker);
            }
        }
        for copy in self.workers.take_copies_of_silent() {
            self.queue.again_at(copy, std::time::Instant::now());
        }
    }
}
