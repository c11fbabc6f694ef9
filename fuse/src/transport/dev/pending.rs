//! Requests that wait, and what a signal does to them.
//!
//! A process that gets a signal while it waits for us goes on waiting; the kernel tells us, and it is ours to end the
//! request early. A request is answered exactly once: by whoever takes it out of the table.
//!
//! What ends early depends on what it would leave behind ([`Patience`]): a lock that is waited for ends at once, as fcntl(2)
//! says. What only reads ends if it takes long, since few programs expect EINTR from a file, and some (Go's) send
//! themselves signals all the time. What changes something is only given up on for a process that dies, which will
//! not see the answer; the change itself goes on to its end.

use super::channel::Channel;
use super::encode::Reply;
use crate::transport::operations::Errno;
use alluxio_common::sync::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::AbortHandle;

/// How long a read goes on after a signal: what is under way normally is done by then.
const READ_GRACE: Duration = Duration::from_millis(500);
/// How often it is looked whether a process dies.
const LOOK_PAUSE: Duration = Duration::from_millis(100);
/// Interrupts that are kept because they were faster than their request.
const EARLY_MAX: usize = 64;

/// What a signal does to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// It ends at once, and has no effect.
    None,
    /// It ends if it takes long, and has no effect.
    Some,
    /// It goes on; a process that dies need not wait for it.
    Full,
}

/// A request that waits.
#[derive(Debug)]
struct Waiting {
    pid: u32,
    patience: Patience,
    channel: Arc<Channel>,
    task: Option<AbortHandle>,
}

/// The table.
#[derive(Debug, Default)]
pub struct Pending(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    waiting: HashMap<u64, Waiting>,
    /// Requests to interrupt that were not known yet; most of them are done already.
    early: VecDeque<u64>,
}

impl Pending {
    /// A request begins to wait. True: it was interrupted already.
    pub fn add(&self, unique: u64, pid: u32, patience: Patience, channel: &Arc<Channel>) -> bool {
        let mut table = self.0.lock();
        let waiting = Waiting {
            pid,
            patience,
            channel: Arc::clone(channel),
            task: None,
        };
        table.waiting.insert(unique, waiting);
        match table.early.iter().position(|early| *early == unique) {
            Some(at) => {
                table.early.remove(at);
                true
            }
            None => false,
        }
    }

    /// What works on a request. It may be done already.
    pub fn runs_as(&self, unique: u64, task: AbortHandle) {
        if let Some(waiting) = self.0.lock().waiting.get_mut(&unique) {
            waiting.task = Some(task);
        }
    }

    /// Takes the right to answer a request. False: somebody else has answered it.
    pub fn take(&self, unique: u64) -> bool {
        self.0.lock().waiting.remove(&unique).is_some()
    }

    /// The process got a signal. Answers what is to be watched from now on, if the request does not end at once.
    pub fn interrupt(self: &Arc<Self>, unique: u64) -> Option<impl Future<Output = ()> + Send + 'static + use<>> {
        let (pid, patience) = {
            let mut table = self.0.lock();
            match table.waiting.get(&unique) {
                Some(waiting) => (waiting.pid, waiting.patience),
                None => {
                    // Done, or still to come.
                    if table.early.len() == EARLY_MAX {
                        table.early.pop_front();
                    }
                    table.early.push_back(unique);
                    return None;
                }
            }
        };
        if patience == Patience::None {
            self.end(unique);
            return None;
        }
        let pending = Arc::clone(self);
        Some(async move { pending.watch(unique, pid, patience).await })
    }

    /// Until the request is done, it took too long, or its process dies.
    async fn watch(&self, unique: u64, pid: u32, patience: Patience) {
        let since = Instant::now();
        loop {
            let too_long = patience == Patience::Some && since.elapsed() >= READ_GRACE;
            if too_long || is_dying(pid) {
                return self.end(unique);
            }
            tokio::time::sleep(LOOK_PAUSE).await;
            if !self.0.lock().waiting.contains_key(&unique) {
                return;
            }
        }
    }

    /// Answers EINTR, unless the request was answered meanwhile.
    fn end(&self, unique: u64) {
        let Some(waiting) = self.0.lock().waiting.remove(&unique) else {
            return;
        };
        tracing::debug!(unique, pid = waiting.pid, "interrupted");
        waiting.channel.answer(unique, Reply::error(Errno::INTR));
        if let Some(task) = waiting.task.filter(|_| waiting.patience != Patience::Full) {
            task.abort();
        }
    }
}

/// Whether a thread will not return to its program: the kernel gives every thread of a dying process a SIGKILL.
fn is_dying(pid: u32) -> bool {
    // No number: the process lives in a container that we do not see into.
    let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else {
        return false;
    };
    let pending = status.lines().find_map(|line| line.strip_prefix("SigPnd:"));
    let pending = pending.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
    pending.is_some_and(|bits| bits & (1 << (libc::SIGKILL - 1)) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel() -> Arc<Channel> {
        Arc::new(Channel::new(std::fs::File::open("/dev/null").unwrap().into()))
    }

    #[test]
    fn a_request_is_answered_by_one() {
        let pending = Arc::new(Pending::default());
        assert!(!pending.add(2, 1, Patience::None, &channel()));
        assert!(pending.take(2));
        assert!(!pending.take(2));

        pending.add(4, 1, Patience::None, &channel());
        assert!(pending.interrupt(4).is_none(), "ends at once");
        assert!(!pending.take(4), "answered by the interrupt");
    }

    #[test]
    fn interrupts_may_be_early_and_are_bounded() {
        let pending = Arc::new(Pending::default());
        assert!(pending.interrupt(6).is_none());
        assert!(pending.add(6, 1, Patience::None, &channel()));
        assert!(!pending.add(8, 1, Patience::None, &channel()));
        for unique in 100..300 {
            assert!(pending.interrupt(unique).is_none());
        }
        assert_eq!(pending.0.lock().early.len(), EARLY_MAX);
        assert!(!pending.add(100, 1, Patience::None, &channel()), "forgotten");
        assert!(pending.add(299, 1, Patience::None, &channel()));
    }

    #[tokio::test]
    async fn a_read_that_takes_long_ends_and_a_change_goes_on() {
        let pending = Arc::new(Pending::default());
        let own = std::process::id();
        pending.add(2, own, Patience::Some, &channel());
        pending.add(4, own, Patience::Full, &channel());
        let read = pending.interrupt(2).unwrap();
        let change = tokio::spawn(pending.interrupt(4).unwrap());
        read.await;
        assert!(!pending.take(2), "ended after its grace");
        assert!(
            !change.is_finished(),
            "we do not die, and a change has all the time it wants"
        );
        assert!(pending.take(4));
        change.await.unwrap();
    }

    #[test]
    fn the_living_do_not_die() {
        assert!(!is_dying(std::process::id()));
        assert!(!is_dying(0));
    }
}
