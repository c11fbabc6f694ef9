//! What is left of files that were written, a moment after their last close.
//!
//! The last close of a file waits before it tells worker and master: a file that is opened again at once costs nothing,
//! and closes of many files go together, in one task and one journal entry.

use super::Vfs;
use alluxio_common::sync::Mutex;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// How long a last close waits.
const LINGER: Duration = Duration::from_millis(20);
/// Later than anything.
const FOREVER: Duration = Duration::from_secs(1 << 30);
/// Files of one home finished at once; others of that home wait behind them. A home that is away keeps each for as long as a
/// call may wait.
const AT_ONCE_MAX: usize = 512;

/// Pause before a file that was mapped at its last close is looked at again, and how long that grows. A mapping can live as
/// long as a program, and what it stores is to be in the store soon after.
const MAPPED_PAUSE: Duration = Duration::from_millis(100);
const MAPPED_PAUSE_MAX: Duration = Duration::from_secs(1);
/// Looking takes this share of the time at most: a commit reads all of the file.
const MAPPED_SHARE: u32 = 8;

/// Files whose last close waits.
#[derive(Default)]
pub(super) struct Lingering {
    /// By home worker.
    closed: Mutex<HashMap<u64, Waiting>>,
    /// By node.
    mapped: Mutex<HashMap<u64, Mapped>>,
    /// A file was mapped at its last close.
    more_mapped: Notify,
}

/// A file that nobody has open and somebody has mapped.
#[derive(Clone, Copy)]
struct Mapped {
    due: Instant,
    pause: Duration,
}

impl Lingering {
    /// The last close of a file waits. True: nobody attends to those of its home yet.
    fn wait(&self, home: u64, node: u64) -> bool {
        let mut closed = self.closed.lock();
        let is_unattended = !closed.contains_key(&home);
        let waiting = closed.entry(home).or_default();
        waiting.nodes.push_back((Instant::now() + LINGER, node));
        is_unattended
    }

    /// What is due of a home's files, or `all` of them, `room` at most, and when to look again. With `None` nothing waits any more;
    /// `leaving` then says that nobody attends from here on.
    fn due(&self, home: u64, all: bool, room: usize, leaving: bool) -> (Vec<u64>, Option<Instant>) {
        let mut closed = self.closed.lock();
        let Some(waiting) = closed.get_mut(&home) else {
            return (Vec::new(), None);
        };
        let now = Instant::now();
        let count = waiting
            .nodes
            .iter()
            .take(room)
            .take_while(|(at, _)| all || *at <= now)
            .count();
        let due: Vec<u64> = waiting.nodes.drain(..count).map(|(_, node)| node).collect();
        // Not for each by itself: who comes a little later goes with it.
        let next = waiting.nodes.front().map(|(at, _)| *at + LINGER / 4);
        if leaving && due.is_empty() && next.is_none() {
            closed.remove(&home);
        }
        (due, next)
    }

    /// A file was found mapped, after `took`.
    pub fn look_again(&self, node: u64, took: Duration) {
        let mut mapped = self.mapped.lock();
        let before = mapped.get(&node).map(|mapped| mapped.pause);
        let pause = before.map_or(MAPPED_PAUSE, |pause| (pause * 2).min(MAPPED_PAUSE_MAX));
        let due = Instant::now() + pause.max(took * MAPPED_SHARE);
        mapped.insert(node, Mapped { due, pause });
        self.more_mapped.notify_one();
    }

    /// Which mapped files are due now, `room` at most, and when the next one will be.
    fn mapped_due(&self, room: usize) -> (Vec<u64>, Option<Instant>) {
        let mut mapped = self.mapped.lock();
        let now = Instant::now();
        let due: Vec<u64> = mapped
            .iter()
            .filter(|(_, m)| m.due <= now)
            .take(room)
            .map(|(node, _)| *node)
            .collect();
        for node in &due {
            // Until it was looked at.
            if let Some(mapped) = mapped.get_mut(node) {
                mapped.due = now + FOREVER;
            }
        }
        (due, mapped.values().map(|mapped| mapped.due).min())
    }
}

/// Files of one home in the order of closing. It is there for as long as a task attends to them.
#[derive(Default)]
struct Waiting {
    nodes: VecDeque<(Instant, u64)>,
}

impl Vfs {
    /// Whether a node is still open for writing though no handle writes it.
    pub fn lingers(&self, node: u64) -> bool {
        self.home_of_written(node).is_some()
    }

    fn home_of_written(&self, node: u64) -> Option<u64> {
        let inodes = self.inodes.lock();
        let now = inodes.get(&node)?.snapshot();
        now.written.as_ref().map(|written| written.home.address.worker_id)
    }

    /// Sees to the end of a file that was written, some time after [`Vfs::release`].
    pub fn spawn_linger(self: &Arc<Vfs>, node: u64) {
        let Some(home) = self.home_of_written(node) else { return };
        if self.lingering.wait(home, node) {
            self.tasks.spawn(Arc::clone(self).attend(home));
        }
    }

    /// Finishes what is due of a home's files, until nothing waits.
    async fn attend(self: Arc<Vfs>, home: u64) {
        let mut finishing = FuturesUnordered::new();
        loop {
            let room = AT_ONCE_MAX - finishing.len();
            let all = self.shutdown.is_cancelled();
            let (due, next) = self.lingering.due(home, all, room, finishing.is_empty());
            due.into_iter().for_each(|node| finishing.push(self.finish(node)));
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

    /// Looks after files that are mapped and that nobody has open, until the mount ends.
    pub(super) async fn tend_mapped(self: Arc<Vfs>) {
        let mut finishing = FuturesUnordered::new();
        loop {
            let more = self.lingering.more_mapped.notified();
            let (due, next) = self.lingering.mapped_due(AT_ONCE_MAX - finishing.len());
            // One that waits for its home holds up no other.
            due.into_iter().for_each(|node| finishing.push(self.finish(node)));
            let has_room = finishing.len() < AT_ONCE_MAX;
            tokio::select! {
                () = more, if has_room => {}
                _ = finishing.next(), if !finishing.is_empty() => {}
                () = tokio::time::sleep_until(next.unwrap_or(Instant::now() + FOREVER)), if has_room => {}
                () = self.shutdown.cancelled() => break,
            }
        }
        // One that is left in the middle is in nobody's hands.
        while finishing.next().await.is_some() {}
    }

    /// As [`Self::finish`], of all that was written: the mount ends, and whoever had files open cannot write them any more.
    pub(super) async fn finish_all(&self) {
        let left: Vec<u64> = {
            let inodes = self.inodes.lock();
            let written = inodes.values().filter(|open| open.snapshot().written.is_some());
            written.map(|open| open.node).collect()
        };
        let finish = |node| self.finish(node);
        futures::stream::iter(left)
            .for_each_concurrent(AT_ONCE_MAX, finish)
            .await;
    }

    /// Lets go of the open version, if still nobody writes it.
    pub(super) async fn finish(&self, node: u64) {
        let Some(open) = self.inodes.lock().get(&node).cloned() else {
            self.lingering.mapped.lock().remove(&node);
            return;
        };
        let mut state = open.transition().await;
        if state.write.as_ref().is_some_and(|write| write.writers == 0) {
            self.finish_write(&open, &mut state).await;
        }
        // Nobody writes it but mappings: else its next last close looks.
        if state.write.as_ref().is_none_or(|write| write.writers > 0) {
            self.lingering.mapped.lock().remove(&node);
        }
        state.drop_unused();
        self.forget_if_unused(&open, &state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As many last closes as are worked on at once wait for a home that is away.
    #[test]
    fn a_home_that_is_away_holds_up_the_closes_of_no_other() {
        let lingering = Lingering::default();
        for node in 0..2 * AT_ONCE_MAX as u64 {
            assert_eq!(lingering.wait(1, node), node == 0, "one task for each home");
        }
        assert!(lingering.wait(2, 7777));
        let (stuck, next) = lingering.due(1, true, AT_ONCE_MAX, true);
        assert_eq!((stuck.len(), next.is_some()), (AT_ONCE_MAX, true));
        assert!(lingering.due(1, true, AT_ONCE_MAX - stuck.len(), false).0.is_empty());
        assert_eq!(lingering.due(2, true, AT_ONCE_MAX, true), (vec![7777], None));
        // Its task ends, and the next close starts another one.
        assert_eq!(lingering.due(2, true, AT_ONCE_MAX, true), (vec![], None));
        assert!(lingering.wait(2, 7778) && !lingering.wait(1, 7));
    }
}
