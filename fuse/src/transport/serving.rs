//! Whether requests are still served, and how many the transport's own threads are at.
//!
//! A mount that somebody keeps (a working directory, another mount namespace) outlives its role: its threads would go on with a
//! runtime that is gone. So a role closes the session first; from then on each request is an error.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// Pause between looks at what is under way.
const PAUSE: Duration = Duration::from_millis(1);

/// The door of a session.
#[derive(Debug, Default)]
pub struct Serving {
    closed: AtomicBool,
    /// Threads of the transport that are at a request.
    busy: AtomicUsize,
}

/// A thread that is at a request.
#[derive(Debug)]
pub(super) struct Entered<'a>(&'a Serving);

impl Serving {
    /// A thread begins a request, unless the session is closed.
    pub(super) fn enter(&self) -> Option<Entered<'_>> {
        self.busy.fetch_add(1, SeqCst);
        let entered = Entered(self);
        (!self.closed.load(SeqCst)).then_some(entered)
    }

    /// Requests are errors from now on. Waits until no thread is at one, `patience` at most; false if one still is.
    pub fn close(&self, patience: Duration) -> bool {
        self.closed.store(true, SeqCst);
        let start = Instant::now();
        while self.busy.load(SeqCst) > 0 {
            if start.elapsed() >= patience {
                return false;
            }
            std::thread::sleep(PAUSE);
        }
        true
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_comes_in_after_it_is_closed() {
        let serving = Serving::default();
        let entered = serving.enter();
        assert!(entered.is_some());
        assert!(!serving.close(PAUSE), "one is at a request");
        assert!(serving.enter().is_none());
        drop(entered);
        assert!(serving.close(PAUSE));
    }
}
