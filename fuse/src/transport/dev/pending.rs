//! Requests that wait, and what a signal does to them.
//!
//! A process that gets a signal while it waits for us goes on waiting; the kernel tells us, and it is ours to end the
//! request early. What ends early depends on what it would leave behind ([`Patience`]): a lock that is waited for ends at
//! once, as fcntl(2) says. What only reads ends if it takes long, since few programs expect EINTR from a file, and some
//! (Go's) send themselves signals all the time; and only for a signal that the program handles, not since it was stopped and
//! continued. What changes something is only given up on for a process that dies, which
//! will not see the answer; the change itself goes on to its end.
//!
//! A request is answered exactly once. One that may end without an effect is only marked here: it finds the mark before
//! its next step, so that it ends either done or undone. One that goes on is answered by whoever takes it out of the table.

use super::channel::Channel;
use super::encode::Reply;
use crate::transport::operations::Errno;
use alluxio_common::sync::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

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
pub struct Waiting {
    /// The thread that waits.
    pub pid: u32,
    /// What a signal does.
    pub patience: Patience,
    /// Where to answer.
    pub channel: Arc<Channel>,
    /// Makes it look for the mark.
    pub waker: Waker,
}

/// The table.
#[derive(Debug, Default)]
pub struct Pending(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    /// And whether it is to end.
    waiting: HashMap<u64, (Waiting, bool)>,
    /// Requests to interrupt that were not known yet; most of them are done already.
    early: VecDeque<u64>,
}

impl Pending {
    /// A request begins to wait. True: it was interrupted already.
    pub fn add(&self, unique: u64, waiting: Waiting) -> bool {
        let mut table = self.0.lock();
        table.waiting.insert(unique, (waiting, false));
        match table.early.iter().position(|early| *early == unique) {
            Some(at) => {
                table.early.remove(at);
                true
            }
            None => false,
        }
    }

    /// A request goes on waiting, with this waker, unless it is to end.
    pub fn is_to_end(&self, unique: u64, waker: &Waker) -> bool {
        match self.0.lock().waiting.get_mut(&unique) {
            Some((waiting, is_to_end)) => {
                waiting.waker.clone_from(waker);
                *is_to_end
            }
            None => false,
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
                Some((waiting, _)) => (waiting.pid, waiting.patience),
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
            match signalled(pid) {
                Signalled::Dies => return self.end(unique),
                Signalled::Hears if too_long => return self.end(unique),
                Signalled::Hears | Signalled::Nothing => {}
            }
            tokio::time::sleep(LOOK_PAUSE).await;
            if !self.0.lock().waiting.contains_key(&unique) {
                return;
            }
        }
    }

    /// Ends a request, unless it is done by now.
    fn end(&self, unique: u64) {
        let mut table = self.0.lock();
        let Some((waiting, is_to_end)) = table.waiting.get_mut(&unique) else {
            return;
        };
        tracing::debug!(unique, pid = waiting.pid, "interrupted");
        if waiting.patience != Patience::Full {
            *is_to_end = true;
            let waker = waiting.waker.clone();
            drop(table);
            return waker.wake();
        }
        let ended = table.waiting.remove(&unique);
        drop(table);
        if let Some((waiting, _)) = ended {
            waiting.channel.answer(unique, Reply::error(Errno::INTR));
        }
    }
}

/// What signals do to a thread once it is let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signalled {
    /// It will not return to its program: the kernel gives every thread of a dying process a SIGKILL.
    Dies,
    /// Its program handles a signal.
    Hears,
    /// It was stopped, or is to stop, which is no reason for a call to fail.
    Nothing,
}

fn signalled(pid: u32) -> Signalled {
    match std::fs::read_to_string(format!("/proc/{pid}/status")) {
        Ok(status) => signalled_by(&status),
        // No number: the process lives in a container that we do not see into.
        Err(_) => Signalled::Hears,
    }
}

/// By what `/proc/PID/status` says.
fn signalled_by(status: &str) -> Signalled {
    let mask = |name: &str| {
        let bits = status.lines().find_map(|line| line.strip_prefix(name));
        bits.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok())
            .unwrap_or(0)
    };
    let own = mask("SigPnd:");
    if own & (1 << (libc::SIGKILL - 1)) != 0 {
        return Signalled::Dies;
    }
    match (own | mask("ShdPnd:")) & mask("SigCgt:") & !mask("SigBlk:") {
        0 => Signalled::Nothing,
        _ => Signalled::Hears,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// For a process that is not seen from here.
    fn waiting(patience: Patience) -> Waiting {
        Waiting {
            pid: 0,
            patience,
            channel: Arc::new(Channel::new(std::fs::File::open("/dev/null").unwrap().into())),
            waker: Waker::noop().clone(),
        }
    }

    #[test]
    fn what_is_to_end_is_marked_and_taken_once() {
        let pending = Arc::new(Pending::default());
        assert!(!pending.add(2, waiting(Patience::None)));
        assert!(!pending.is_to_end(2, Waker::noop()));
        assert!(pending.interrupt(2).is_none(), "ends at once");
        assert!(pending.is_to_end(2, Waker::noop()));
        assert!(pending.take(2));
        assert!(!pending.take(2));
        assert!(!pending.is_to_end(2, Waker::noop()));
    }

    #[test]
    fn interrupts_may_be_early_and_are_bounded() {
        let pending = Arc::new(Pending::default());
        assert!(pending.interrupt(6).is_none());
        assert!(pending.add(6, waiting(Patience::None)));
        assert!(!pending.add(8, waiting(Patience::None)));
        for unique in 100..300 {
            assert!(pending.interrupt(unique).is_none());
        }
        assert_eq!(pending.0.lock().early.len(), EARLY_MAX);
        assert!(!pending.add(100, waiting(Patience::None)), "forgotten");
        assert!(pending.add(299, waiting(Patience::None)));
    }

    #[tokio::test]
    async fn a_read_that_takes_long_ends_and_a_change_goes_on() {
        let pending = Arc::new(Pending::default());
        pending.add(2, waiting(Patience::Some));
        pending.add(4, waiting(Patience::Full));
        let read = pending.interrupt(2).unwrap();
        let change = tokio::spawn(pending.interrupt(4).unwrap());
        assert!(!pending.is_to_end(2, Waker::noop()));
        read.await;
        assert!(pending.is_to_end(2, Waker::noop()), "after its grace");
        assert!(
            !change.is_finished(),
            "we do not die, and a change has all the time it wants"
        );
        assert!(pending.take(4));
        change.await.unwrap();
    }

    #[tokio::test]
    async fn what_was_stopped_and_continued_goes_on() {
        let pending = Arc::new(Pending::default());
        let mut read = waiting(Patience::Some);
        // No signal of ours is pending any more.
        read.pid = std::process::id();
        pending.add(2, read);
        let watch = tokio::spawn(pending.interrupt(2).unwrap());
        tokio::time::sleep(READ_GRACE + 3 * LOOK_PAUSE).await;
        assert!(!pending.is_to_end(2, Waker::noop()));
        assert!(pending.take(2));
        watch.await.unwrap();
    }

    #[test]
    fn signals_are_told_apart() {
        let by = |own: u64, shared: u64, blocked: u64, caught: u64| {
            let masks = format!(
                "Name:\tx\nSigPnd:\t{own:016x}\nShdPnd:\t{shared:016x}\nSigBlk:\t{blocked:016x}\nSigCgt:\t{caught:016x}\n"
            );
            signalled_by(&masks)
        };
        let bit = |signal: i32| 1 << (signal - 1);
        let (int, kill) = (bit(libc::SIGINT), bit(libc::SIGKILL));
        assert_eq!(by(kill, 0, 0, 0), Signalled::Dies);
        assert_eq!(by(0, int, 0, int), Signalled::Hears);
        assert_eq!(by(int, 0, 0, int), Signalled::Hears);
        assert_eq!(by(int, 0, int, int), Signalled::Nothing, "blocked");
        assert_eq!(by(0, bit(libc::SIGTSTP), 0, int), Signalled::Nothing, "stops");
        assert_eq!(by(0, 0, 0, int), Signalled::Nothing);
        assert_eq!(signalled(std::process::id()), Signalled::Nothing);
    }
}
