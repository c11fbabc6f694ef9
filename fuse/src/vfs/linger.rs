//! What is left of files that were written, a moment after their last close.
//!
//! The last close of a file waits before it tells worker and master: a file that is opened again at once costs nothing,
//! and closes of many files go together, in one task and one journal entry.

use super::Vfs;
use alluxio_common::sync::Mutex;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long a last close waits.
const LINGER: Duration = Duration::from_millis(20);
/// Files finished at once; others wait behind them.
const AT_ONCE_MAX: usize = 512;

/// Files whose last close waits, in the order of closing.
#[derive(Default)]
pub(super) struct Lingering(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    inodes: VecDeque<(Instant, u64)>,
    /// A task looks after them.
    attended: bool,
}

impl Vfs {
    /// Whether an inode is still open for writing though no handle writes it.
    pub fn lingers(&self, inode: u64) -> bool {
        let inodes = self.inodes.lock();
        inodes.get(&inode).is_some_and(|open| open.live.lock().is_some())
    }

    /// Sees to the end of a file that was written, some time after [`Vfs::release`].
    pub fn spawn_linger(self: &Arc<Vfs>, inode: u64) {
        if !self.lingers(inode) {
            return;
        }
        let mut waiting = self.lingering.0.lock();
        waiting.inodes.push_back((Instant::now() + LINGER, inode));
        if !std::mem::replace(&mut waiting.attended, true) {
            self.tasks.spawn(Arc::clone(self).attend());
        }
    }

    /// Finishes what is due, until nothing waits.
    async fn attend(self: Arc<Vfs>) {
        let mut finishing = FuturesUnordered::new();
        loop {
            let room = AT_ONCE_MAX - finishing.len();
            let (due, next) = self.due(room, finishing.is_empty());
            due.into_iter().for_each(|inode| finishing.push(self.finish(inode)));
            let Some(next) = next else {
                if finishing.is_empty() {
                    return;
                }
                finishing.next().await;
                continue;
            };
            tokio::select! {
                _ = finishing.next(), if !finishing.is_empty() => {}
                () = tokio::time::sleep_until(next), if finishing.len() < AT_ONCE_MAX => {}
                () = self.shutdown.cancelled(), if finishing.len() < AT_ONCE_MAX => {}
            }
        }
    }

    /// What is due, `room` at most, and when to look again. With `None` nothing waits any more; `leaving` then says that
    /// nobody attends from here on.
    fn due(&self, room: usize, leaving: bool) -> (Vec<u64>, Option<Instant>) {
        let mut waiting = self.lingering.0.lock();
        let now = Instant::now();
        let all = self.shutdown.is_cancelled();
        let count = waiting
            .inodes
            .iter()
            .take(room)
            .take_while(|(at, _)| all || *at <= now)
            .count();
        let due: Vec<u64> = waiting.inodes.drain(..count).map(|(_, inode)| inode).collect();
        // Not for each by itself: who comes a little later goes with it.
        let next = waiting.inodes.front().map(|(at, _)| *at + LINGER / 4);
        waiting.attended = !(leaving && due.is_empty() && next.is_none());
        (due, next)
    }

    /// Lets go of the open version, if still nobody writes it.
    async fn finish(&self, inode: u64) {
        let Some(open) = self.inodes.lock().get(&inode).cloned() else {
            return;
        };
        let mut state = open.state.lock().await;
        if state.write.as_ref().is_some_and(|write| write.writers == 0) {
            self.finish_write(&open, &mut state).await;
        }
        if state.opens == 0 {
            state.local = None;
        }
        self.forget_if_unused(&open, &state);
    }
}
