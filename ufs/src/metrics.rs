//! Counters of one under-storage. Whoever owns a metrics registry reads them; this crate knows none.

use std::sync::atomic::{AtomicU64, Ordering};

/// What one under-storage did since it was opened.
#[derive(Debug, Default)]
pub struct UfsMetrics {
    /// Requests sent (object stores) or operations done (posix, memory), retries included.
    pub requests: AtomicU64,
    /// Requests that were sent again after a failure.
    pub retries: AtomicU64,
    /// Bytes of objects read.
    pub bytes_read: AtomicU64,
    /// Bytes of objects written.
    pub bytes_written: AtomicU64,
    /// Bytes of new objects that the store copied from others of its own.
    pub bytes_copied: AtomicU64,
    /// Keys that listings left out because they cannot be paths.
    pub skipped_keys: AtomicU64,
}

impl UfsMetrics {
    pub(crate) fn add(counter: &AtomicU64, amount: u64) {
        counter.fetch_add(amount, Ordering::Relaxed);
    }
    /// `(requests, retries, bytes read, bytes written, skipped keys)` now.
    pub fn snapshot(&self) -> (u64, u64, u64, u64, u64) {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (
            get(&self.requests),
            get(&self.retries),
            get(&self.bytes_read),
            get(&self.bytes_written),
            get(&self.skipped_keys),
        )
    }
}
