//! Who reads requests, and when.
//!
//! Waking a thread costs more than most requests. So one thread, the first, reads and serves, and while requests come close
//! upon each other it looks for the next one for some microseconds before it sleeps. The others wait until they are needed:
//! when requests are found without waiting, one more joins until there are none; when all readers have been at their
//! requests for long, because a disk is slow or the operation waits for the mount itself, another takes over. So no request
//! waits behind others for more than [`STUCK`].
//!
//! Several readers take requests off one queue, so one may be at a later request before another has seen an earlier one. What has
//! to know of earlier ones waits for [`Readers::settle`]: each reader says when it takes a request ([`Readers::take`]), and when it
//! has noted of it what later ones must know ([`Readers::noted`]).

use alluxio_common::sync::{Condvar, Mutex, MutexGuard};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// How long the first reader looks for the next request before it sleeps: the kernel wakes the caller of the last one, which
/// closes what it opened, or opens the next.
const SPIN: Duration = Duration::from_micros(60);
/// A request that came so soon after the first reader fell asleep would have been worth looking for.
const NEAR: Duration = Duration::from_micros(250);
/// Requests found without waiting, one after another, until one more reader is called.
const BACKLOG: u32 = 4;
/// A reader that is at one request for so long is taken to be stuck.
const STUCK: Duration = Duration::from_millis(5);
/// Looks at a reader that takes a request before the core is left to others: some microseconds.
const SETTLE_LOOKS: u32 = 1000;
/// Without any request for so long, nobody watches for stuck readers.
const QUIET: Duration = Duration::from_secs(1);

/// Value of a slot of [`Readers::since`]: it reads and has no request.
const IDLE: u64 = 0;
/// It does not read.
const AWAY: u64 = u64::MAX;

/// What the readers of a session know of each other. All but the first begin by [`Readers::wait`].
#[derive(Debug)]
pub struct Readers {
    start: Instant,
    /// For each reader: [`IDLE`], [`AWAY`], or when it began its request, in microseconds after `start` and never 0.
    since: Vec<AtomicU64>,
    /// For each reader: odd while it takes a request off the queue.
    takes: Vec<AtomicU64>,
    /// When a request was last begun, in the same unit.
    last: AtomicU64,
    /// Nobody watches; whoever begins a request wakes the watcher.
    dozing: AtomicBool,
    waiting: Mutex<Waiting>,
    /// Those that wait, but one.
    others: Condvar,
    /// The one of them that looks whether the readers are stuck.
    watcher: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    /// Readers that wait, without the watcher.
    others: usize,
    watched: bool,
    /// How many were called and have not come yet.
    calls: usize,
    ended: bool,
}

impl Readers {
    /// For `count` readers, of which number 0 is the first.
    pub fn new(count: usize) -> Readers {
        Readers {
            start: Instant::now(),
            since: (0..count)
                .map(|number| AtomicU64::new(if number == 0 { IDLE } else { AWAY }))
                .collect(),
            takes: (0..count).map(|_| AtomicU64::new(0)).collect(),
            last: AtomicU64::new(0),
            dozing: AtomicBool::new(false),
            waiting: Mutex::default(),
            others: Condvar::new(),
            watcher: Condvar::new(),
        }
    }

    /// Reader `number` begins with a request.
    pub fn begin(&self, number: usize) {
        let now = self.now();
        self.since[number].store(now, SeqCst);
        self.last.store(now, Relaxed);
        if self.dozing.load(SeqCst) && self.dozing.swap(false, SeqCst) {
            // Under the lock it cannot be between its last look and its sleep.
            drop(self.waiting.lock());
            self.watcher.notify_one();
        }
    }

    /// It is done with it.
    pub fn end(&self, number: usize) {
        self.since[number].store(IDLE, SeqCst);
    }

    /// Reader `number` is about to take a request off the queue.
    pub fn take(&self, number: usize) {
        self.takes[number].fetch_add(1, SeqCst);
    }

    /// What it took, if anything, is noted as far as later requests must know of it.
    pub fn noted(&self, number: usize) {
        self.takes[number].fetch_add(1, SeqCst);
    }

    /// Returns once all requests that were taken before now are noted. Not to be called between [`Readers::take`] and
    /// [`Readers::noted`]: two readers would wait for each other. It is a matter of a system call that does not wait.
    pub fn settle(&self) {
        for takes in &self.takes {
            let seen = takes.load(SeqCst);
            let mut looks = 0_u32;
            while seen % 2 == 1 && takes.load(SeqCst) == seen {
                looks += 1;
                if looks < SETTLE_LOOKS {
                    std::hint::spin_loop();
                } else {
                    // It was put off its core within.
                    std::thread::yield_now();
                }
            }
        }
    }

    /// Calls one more reader, if one waits.
    pub fn call(&self) {
        let mut waiting = self.waiting.lock();
        if waiting.calls < waiting.others + usize::from(waiting.watched) {
            waiting.calls += 1;
            self.wake_one(&waiting);
        }
    }

    /// The session is over.
    pub fn finish(&self) {
        self.waiting.lock().ended = true;
        self.others.notify_all();
        self.watcher.notify_all();
    }

    /// Waits until reader `number` is needed. False: the session is over.
    pub fn wait(&self, number: usize) -> bool {
        self.since[number].store(AWAY, SeqCst);
        let mut waiting = self.waiting.lock();
        let needed = loop {
            if waiting.ended {
                break false;
            }
            if waiting.calls > 0 {
                waiting.calls -= 1;
                break true;
            }
            if waiting.watched {
                waiting.others += 1;
                self.others.wait(&mut waiting);
                waiting.others -= 1;
            } else if self.watch(&mut waiting) {
                break true;
            }
        };
        self.since[number].store(IDLE, SeqCst);
        if needed && !waiting.watched {
            // Another one is to watch from now on.
            self.others.notify_one();
        }
        needed
    }

    /// Sleeps as the watcher, for a moment or, while there are no requests, until one comes. True if all readers are stuck.
    fn watch(&self, waiting: &mut MutexGuard<'_, Waiting>) -> bool {
        waiting.watched = true;
        let quiet = Duration::from_micros(self.now().saturating_sub(self.last.load(Relaxed))) > QUIET;
        if quiet {
            self.dozing.store(true, SeqCst);
        }
        // Who began one before it could see that we doze is seen by us.
        if quiet && !self.is_busy() {
            self.watcher.wait(waiting);
        } else {
            self.watcher.wait_for(waiting, STUCK);
        }
        self.dozing.store(false, SeqCst);
        waiting.watched = false;
        self.all_stuck()
    }

    fn wake_one(&self, waiting: &Waiting) {
        if waiting.others > 0 {
            self.others.notify_one();
        } else {
            self.watcher.notify_one();
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros())
            .unwrap_or(AWAY - 1)
            .max(1)
    }

    fn is_busy(&self) -> bool {
        let busy = |since: &AtomicU64| !matches!(since.load(SeqCst), IDLE | AWAY);
        self.since.iter().any(busy)
    }

    /// Whether all that read are at their requests for long.
    fn all_stuck(&self) -> bool {
        let now = self.now();
        let mut reading = self
            .since
            .iter()
            .map(|since| since.load(SeqCst))
            .filter(|since| *since != AWAY);
        reading.all(|since| since != IDLE && Duration::from_micros(now.saturating_sub(since)) > STUCK)
    }
}

/// Whether the first reader looks for the next request before it sleeps: while the last sleeps were short.
#[derive(Debug, Default)]
pub struct Eagerness {
    eager: bool,
}

impl Eagerness {
    /// Until when to look.
    pub fn until(&self) -> Option<Instant> {
        self.eager.then(|| Instant::now() + SPIN)
    }

    /// It slept so long until a request came.
    pub fn slept(&mut self, time: Duration) {
        self.eager = time < NEAR;
    }
}

/// Counts requests that were found without waiting, since there was none.
#[derive(Debug, Default)]
pub struct Backlog {
    found: u32,
}

impl Backlog {
    /// One more. True: another reader should help.
    pub fn found(&mut self) -> bool {
        self.found += 1;
        self.found.is_multiple_of(BACKLOG)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::mpsc::{Receiver, channel};

    /// Longer than any thread needs to be scheduled.
    const LONG: Duration = Duration::from_secs(20);

    fn waiter(readers: &Arc<Readers>, number: usize) -> Receiver<bool> {
        let (tell, hear) = channel();
        let readers = Arc::clone(readers);
        std::thread::spawn(move || tell.send(readers.wait(number)));
        hear
    }

    fn until_waiting(readers: &Readers, count: usize) {
        let deadline = Instant::now() + LONG;
        loop {
            let waiting = readers.waiting.lock();
            if waiting.others + usize::from(waiting.watched) == count {
                return;
            }
            assert!(Instant::now() < deadline, "{waiting:?}");
        }
    }

    #[test]
    fn who_is_called_comes_and_the_next_one_watches() {
        let readers = Arc::new(Readers::new(3));
        readers.call();
        let (one, two) = (waiter(&readers, 1), waiter(&readers, 2));
        until_waiting(&readers, 2);
        one.try_recv().unwrap_err();
        two.try_recv().unwrap_err();
        readers.call();
        until_waiting(&readers, 1);
        readers.call();
        assert!(one.recv_timeout(LONG).unwrap() && two.recv_timeout(LONG).unwrap());
    }

    #[test]
    fn stuck_readers_are_replaced_one_by_one() {
        let readers = Arc::new(Readers::new(3));
        readers.begin(0);
        let (one, two) = (waiter(&readers, 1), waiter(&readers, 2));
        until_waiting(&readers, 1);
        // Whoever came reads and is not stuck, so the other stays.
        let came = [&one, &two].map(|waiter| waiter.recv_timeout(STUCK * 4).is_ok());
        assert_eq!(came.iter().filter(|came| **came).count(), 1, "{came:?}");
        let number = if came[0] { 1 } else { 2 };
        readers.begin(number);
        let other = if came[0] { two } else { one };
        assert!(other.recv_timeout(LONG).unwrap());
    }

    #[test]
    fn after_a_quiet_time_a_stuck_reader_is_noticed_too() {
        let mut readers = Readers::new(2);
        readers.start = Instant::now().checked_sub(QUIET * 10).unwrap();
        let readers = Arc::new(readers);
        let one = waiter(&readers, 1);
        let deadline = Instant::now() + LONG;
        while !readers.dozing.load(SeqCst) {
            assert!(Instant::now() < deadline);
        }
        readers.begin(0);
        assert!(one.recv_timeout(LONG).unwrap());
    }

    #[test]
    fn what_was_taken_before_is_noted_once_settled() {
        let readers = Arc::new(Readers::new(2));
        readers.settle();
        readers.take(1);
        let (tell, hear) = channel();
        let other = Arc::clone(&readers);
        std::thread::spawn(move || {
            other.settle();
            tell.send(())
        });
        hear.recv_timeout(STUCK).unwrap_err();
        readers.noted(1);
        // What it takes from now on came later, and is not waited for.
        readers.take(1);
        hear.recv_timeout(LONG).unwrap();
    }

    #[test]
    fn the_end_ends_all() {
        let readers = Arc::new(Readers::new(3));
        let (one, two) = (waiter(&readers, 1), waiter(&readers, 2));
        until_waiting(&readers, 2);
        readers.finish();
        assert!(!one.recv_timeout(LONG).unwrap() && !two.recv_timeout(LONG).unwrap());
        assert!(!readers.wait(1));
    }

    #[test]
    fn a_reader_is_eager_while_its_sleeps_are_short() {
        let mut eagerness = Eagerness::default();
        assert!(eagerness.until().is_none());
        eagerness.slept(NEAR / 2);
        assert!(eagerness.until().is_some());
        eagerness.slept(NEAR);
        assert!(eagerness.until().is_none());
        let mut backlog = Backlog::default();
        let calls: Vec<bool> = (0..BACKLOG).map(|_| backlog.found()).collect();
        assert_eq!(calls.iter().filter(|call| **call).count(), 1);
    }
}
