//! Short work on local files, done where it is asked for.
//!
//! A hop to a thread that may block and back costs more than making a file or writing some pages. So such work is done on
//! the thread that asks, as long as the disk shows itself quick: one piece of work at a time in the process, so that other
//! threads of the runtime go on; and once one was slow, all goes to the pool for blocking work for a while.

use crate::store::blocking;
use alluxio_proto::FsResult;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Work that takes longer than this shows a slow disk.
const SLOW: Duration = Duration::from_millis(4);
/// How long nothing is done in place after that.
const SLOW_PAUSE: Duration = Duration::from_secs(1);

static SLOT: Slot = Slot {
    taken: AtomicBool::new(false),
    slow_until_ms: AtomicU64::new(0),
};

struct Slot {
    taken: AtomicBool,
    /// On the clock of [`now_ms`].
    slow_until_ms: AtomicU64,
}

/// Frees the slot also if the work panics.
struct Taken {
    since: Instant,
}

impl Slot {
    fn take(&self) -> Option<Taken> {
        if now_ms() < self.slow_until_ms.load(Ordering::Relaxed) {
            return None;
        }
        let free = self
            .taken
            .compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed)
            .is_ok();
        free.then(|| Taken { since: Instant::now() })
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if self.since.elapsed() > SLOW {
            let until = now_ms() + SLOW_PAUSE.as_millis() as u64;
            SLOT.slow_until_ms.store(until, Ordering::Relaxed);
        }
        SLOT.taken.store(false, Ordering::Release);
    }
}

/// Milliseconds since this was first asked.
fn now_ms() -> u64 {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_millis() as u64
}

/// Runs short work on local files: here, or where blocking is allowed.
///
/// # Errors
/// Those of `work`; `Internal` if it panicked on the pool.
pub(crate) async fn quick<T: Send + 'static>(work: impl FnOnce() -> FsResult<T> + Send + 'static) -> FsResult<T> {
    // No await while the slot is taken.
    if let Some(_taken) = SLOT.take() {
        return work();
    }
    blocking(work).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn slow_work_sends_what_follows_to_the_pool() {
        let here = std::thread::current().id();
        let thread = || Ok(std::thread::current().id());
        // Other tests of this process may hold the slot for a moment.
        while quick(thread).await.unwrap() != here {}
        while quick(move || {
            std::thread::sleep(SLOW * 2);
            Ok(std::thread::current().id())
        })
        .await
        .unwrap()
            != here
        {}
        assert_ne!(quick(thread).await.unwrap(), here);
    }
}
