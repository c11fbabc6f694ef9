//! Counters of one under-storage, and what its requests did by their verb.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use alluxio_common::metrics::{Counter, Histogram, Metrics};
use alluxio_common::sync::Mutex;

use crate::UfsErrorKind;

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
    verbs: Mutex<Verbs>,
}

/// Made when a verb is used first, so that there are no names of what nobody does.
#[derive(Debug, Default)]
struct Verbs {
    registry: Metrics,
    /// Of whom, for names: `Worker`.
    role: String,
    /// The mount, for names.
    mount: String,
    by_name: BTreeMap<&'static str, Arc<VerbMetrics>>,
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

    /// From now on what requests do is counted in `registry`, as `ROLE.UfsRequests.UFS:MOUNT.Verb:VERB` and its like. A mount that is
    /// opened again goes on with what it had there; their number bounds the number of names.
    pub fn serve_in(&self, registry: &Metrics, role: &str, mount: &str) {
        *self.verbs.lock() = Verbs {
            registry: registry.clone(),
            role: role.to_owned(),
            mount: mount.to_owned(),
            by_name: BTreeMap::new(),
        };
    }

    /// The metrics of a verb, such as `GetObject`.
    pub(crate) fn verb(&self, verb: &'static str) -> Arc<VerbMetrics> {
        let mut verbs = self.verbs.lock();
        if let Some(known) = verbs.by_name.get(verb) {
            return known.clone();
        }
        let made = Arc::new(VerbMetrics::new(&verbs, verb));
        verbs.by_name.insert(verb, made.clone());
        made
    }
}

/// What requests of one verb did.
#[derive(Debug)]
pub(crate) struct VerbMetrics {
    registry: Metrics,
    role: String,
    place: String,
    /// Sent, each try for itself.
    pub requests: Counter,
    /// Sent again after a failure.
    pub retries: Counter,
    /// Sent a second time because the first took long.
    pub hedges: Counter,
    /// Of bodies, in either direction.
    pub bytes: Counter,
    /// Until the head of the answer.
    pub latency: Histogram,
}

impl VerbMetrics {
    fn new(verbs: &Verbs, verb: &str) -> Self {
        let place = format!("UFS:{}.Verb:{verb}", verbs.mount);
        let counter = |what: &str| verbs.registry.counter(&format!("{}.{what}.{place}", verbs.role));
        Self {
            registry: verbs.registry.clone(),
            requests: counter("UfsRequests"),
            retries: counter("UfsRetries"),
            hedges: counter("UfsHedges"),
            bytes: counter("UfsBytes"),
            latency: verbs.registry.histogram(&format!("{}.UfsLatency.{place}", verbs.role)),
            role: verbs.role.clone(),
            place,
        }
    }

    /// One more that failed so.
    pub fn failed(&self, kind: UfsErrorKind) {
        let name = format!("{}.UfsErrors.{}.Kind:{kind:?}", self.role, self.place);
        self.registry.counter(&name).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbs_are_counted_where_they_are_served() {
        let metrics = UfsMetrics::default();
        metrics.verb("GetObject").requests.inc();
        let registry = Metrics::new();
        for _ in 0..2 {
            metrics.serve_in(&registry, "Worker", "s3://b/p");
            metrics.verb("GetObject").requests.inc();
            metrics.verb("GetObject").failed(UfsErrorKind::Throttled);
        }
        let value = |name: &str| registry.value(name);
        assert_eq!(value("Worker.UfsRequests.UFS:s3://b/p.Verb:GetObject"), Some(2));
        assert_eq!(
            value("Worker.UfsErrors.UFS:s3://b/p.Verb:GetObject.Kind:Throttled"),
            Some(2)
        );
        assert_eq!(value("Worker.UfsRequests.UFS:s3://b/p.Verb:PutObject"), None);
    }
}
