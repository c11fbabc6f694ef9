//! Metrics under Alluxio's names: one registry per node object, so that several nodes of one process do not mix.
//!
//! `Master.FilesCreated` is `Master_FilesCreated` in the Prometheus text and keeps its own name in the JSON, which has
//! the shape that Alluxio's `/metrics/json` has. Counters have Prometheus' type `gauge`, as Alluxio's exporter writes
//! them: the type `counter` would force the suffix `_total` on names that dashboards know without.
//!
//! Asking twice for a name gives the same metric. Names come from code, so their number is bounded by it; a part of a
//! name that comes from a user (a mount, say) must be bounded by who asks.

mod help;
mod timers;

pub use timers::OpTimers;

use crate::sync::Mutex;
use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// Content type of [`Metrics::text`]. With gauges and histograms alone OpenMetrics is Prometheus' own form, too, which more
/// programs read.
pub const TEXT_CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Upper bounds of a histogram's buckets, in seconds: 50 µs to 100 s by about three, around what calls here take.
const BUCKETS_SECONDS: [f64; 14] = [
    50e-6, 100e-6, 300e-6, 1e-3, 3e-3, 10e-3, 30e-3, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0,
];

/// A number that only grows.
#[derive(Clone, Debug, Default)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    /// One more.
    pub fn inc(&self) {
        self.add(1);
    }
    /// So many more.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }
    /// How many so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl EncodeMetric for Counter {
    fn encode(&self, mut encoder: MetricEncoder) -> fmt::Result {
        encoder.encode_gauge(&self.get())
    }
    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}

/// A number that goes up and down.
#[derive(Clone, Debug, Default)]
pub struct Gauge(Arc<AtomicI64>);

impl Gauge {
    /// Now this.
    pub fn set(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }
    /// So many more, or less.
    pub fn add(&self, n: i64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }
    /// One more.
    pub fn inc(&self) {
        self.add(1);
    }
    /// One less.
    pub fn dec(&self) {
        self.add(-1);
    }
    /// Now.
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
    /// One more until the guard is dropped.
    pub fn hold(&self) -> GaugeGuard {
        self.inc();
        GaugeGuard(self.clone())
    }
}

/// Takes one off its gauge when dropped; see [`Gauge::hold`].
#[derive(Debug)]
pub struct GaugeGuard(Gauge);

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl EncodeMetric for Gauge {
    fn encode(&self, mut encoder: MetricEncoder) -> fmt::Result {
        encoder.encode_gauge(&self.get())
    }
    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}

/// How long things took.
#[derive(Clone, Debug, Default)]
pub struct Histogram(Arc<HistogramInner>);

/// Counts per bucket, the last for all above, and the sum. Read without a lock: a snapshot may miss what is being added.
#[derive(Debug, Default)]
struct HistogramInner {
    buckets: [AtomicU64; BUCKETS_SECONDS.len() + 1],
    sum_ns: AtomicU64,
}

impl Histogram {
    /// One more, that took so long.
    pub fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = BUCKETS_SECONDS.partition_point(|upper| *upper < seconds);
        self.0.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.0.sum_ns.fetch_add(ns, Ordering::Relaxed);
    }
    /// How many so far.
    pub fn count(&self) -> u64 {
        self.0.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).sum()
    }
    /// A time that this share of all took at most: the upper bound of the bucket where it lies, so at most about three times
    /// too long. 0 if there was none.
    pub fn quantile_seconds(&self, share: f64) -> f64 {
        let counts: Vec<u64> = self
            .0
            .buckets
            .iter()
            .map(|bucket| bucket.load(Ordering::Relaxed))
            .collect();
        let wanted = (counts.iter().sum::<u64>() as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (count, upper) in counts.iter().zip(BUCKETS_SECONDS.into_iter().chain([f64::INFINITY])) {
            seen += count;
            if seen >= wanted && seen > 0 {
                // JSON knows no infinity.
                return upper.min(BUCKETS_SECONDS[BUCKETS_SECONDS.len() - 1]);
            }
        }
        0.0
    }
    /// How long in all.
    pub fn sum_seconds(&self) -> f64 {
        self.0.sum_ns.load(Ordering::Relaxed) as f64 / 1e9
    }
}

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder) -> fmt::Result {
        let upper = BUCKETS_SECONDS.into_iter().chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = upper
            .zip(self.0.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)))
            .collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        encoder.encode_histogram::<NoLabelSet>(self.sum_seconds(), count, &buckets, None)
    }
    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

/// A gauge that is computed when it is looked at.
#[derive(Clone)]
struct Computed(Arc<dyn Fn() -> i64 + Send + Sync>);

impl fmt::Debug for Computed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Computed")
    }
}

impl EncodeMetric for Computed {
    fn encode(&self, mut encoder: MetricEncoder) -> fmt::Result {
        encoder.encode_gauge(&(self.0)())
    }
    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}

#[derive(Clone)]
enum Metric {
    Counter(Counter),
    Gauge(Gauge),
    Computed(Computed),
    Histogram(Histogram),
}

#[derive(Default)]
struct Inner {
    by_name: BTreeMap<String, Metric>,
    registry: Registry,
}

/// The metrics of one node object. Clones share them.
#[derive(Clone, Default)]
pub struct Metrics(Arc<Mutex<Inner>>);

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Metrics({} names)", self.0.lock().by_name.len())
    }
}

impl Metrics {
    /// No metrics yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The counter of that name, such as `Master.FilesCreated`.
    ///
    /// # Panics
    /// If the name is that of another type of metric, which is a mistake in our code; so do the others.
    pub fn counter(&self, name: &str) -> Counter {
        match self.get_or_register(name, || Metric::Counter(Counter::default())) {
            Metric::Counter(counter) => counter,
            _ => wrong_type(name),
        }
    }

    /// The gauge of that name.
    pub fn gauge(&self, name: &str) -> Gauge {
        match self.get_or_register(name, || Metric::Gauge(Gauge::default())) {
            Metric::Gauge(gauge) => gauge,
            _ => wrong_type(name),
        }
    }

    /// A gauge whose value is computed when it is looked at; the first one of a name stays. `value` must not use
    /// these metrics' registry and must not block.
    pub fn gauge_fn(&self, name: &str, value: impl Fn() -> i64 + Send + Sync + 'static) {
        let computed = Computed(Arc::new(value));
        match self.get_or_register(name, || Metric::Computed(computed)) {
            Metric::Computed(_) => {}
            _ => wrong_type(name),
        }
    }

    /// The histogram of that name.
    pub fn histogram(&self, name: &str) -> Histogram {
        match self.get_or_register(name, || Metric::Histogram(Histogram::default())) {
            Metric::Histogram(histogram) => histogram,
            _ => wrong_type(name),
        }
    }

    /// Value of a counter or gauge, `None` if there is none of that name; for reports and tests.
    pub fn value(&self, name: &str) -> Option<i64> {
        let metric = self.0.lock().by_name.get(name).cloned()?;
        Some(match metric {
            Metric::Counter(counter) => i64::try_from(counter.get()).unwrap_or(i64::MAX),
            Metric::Gauge(gauge) => gauge.get(),
            Metric::Computed(computed) => (computed.0)(),
            Metric::Histogram(histogram) => i64::try_from(histogram.count()).unwrap_or(i64::MAX),
        })
    }

    /// The Prometheus (OpenMetrics) text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.0.lock().registry)
            .expect("writing to a string does not fail");
        text
    }

    /// The JSON of Alluxio's `/metrics/json`: `gauges`, `counters` and `histograms` by their original names.
    pub fn json(&self) -> String {
        self.json_value().to_string()
    }

    /// As [`Metrics::json`], to be put together with others.
    pub fn json_value(&self) -> serde_json::Value {
        let metrics = self.0.lock().by_name.clone();
        let (mut gauges, mut counters, mut histograms) = (Object::new(), Object::new(), Object::new());
        for (name, metric) in metrics {
            match metric {
                Metric::Counter(counter) => counters.insert(name, serde_json::json!({ "count": counter.get() })),
                Metric::Gauge(gauge) => gauges.insert(name, serde_json::json!({ "value": gauge.get() })),
                Metric::Computed(computed) => gauges.insert(name, serde_json::json!({ "value": (computed.0)() })),
                Metric::Histogram(h) => histograms.insert(
                    name,
                    serde_json::json!({
                        "count": h.count(), "sum_seconds": h.sum_seconds(),
                        "p50_seconds": h.quantile_seconds(0.5), "p99_seconds": h.quantile_seconds(0.99),
                    }),
                ),
            };
        }
        serde_json::json!({
            "version": "4.0.0", "gauges": gauges, "counters": counters, "histograms": histograms, "meters": {}, "timers": {},
        })
    }

    fn get_or_register(&self, name: &str, new: impl FnOnce() -> Metric) -> Metric {
        let mut inner = self.0.lock();
        if let Some(metric) = inner.by_name.get(name) {
            return metric.clone();
        }
        let metric = new();
        let text_name = prometheus_name(name);
        let help = help::of(name, matches!(metric, Metric::Histogram(_)));
        match &metric {
            Metric::Counter(counter) => inner.registry.register(text_name, help, counter.clone()),
            Metric::Gauge(gauge) => inner.registry.register(text_name, help, gauge.clone()),
            Metric::Computed(computed) => inner.registry.register(text_name, help, computed.clone()),
            Metric::Histogram(histogram) => inner.registry.register(text_name, help, histogram.clone()),
        }
        inner.by_name.insert(name.to_owned(), metric.clone());
        metric
    }
}

type Object = serde_json::Map<String, serde_json::Value>;

/// What Prometheus does not allow in a name becomes `_`.
fn prometheus_name(name: &str) -> String {
    name.chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == ':' { c } else { '_' })
        .collect()
}

fn wrong_type(name: &str) -> ! {
    panic!("metric {name} exists already with another type")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_json_have_alluxios_names() {
        let metrics = Metrics::new();
        metrics.counter("Master.FilesCreated").add(3);
        metrics.counter("Master.FilesCreated").inc();
        metrics.gauge("Worker.BlocksCached").set(-2);
        metrics.gauge_fn("Process.pool-size", || 7);
        metrics
            .histogram("Master.JournalFlushTimer")
            .observe(Duration::from_millis(2));
        let text = metrics.text();
        assert!(
            text.contains("# TYPE Master_FilesCreated gauge\nMaster_FilesCreated 4\n"),
            "{text}"
        );
        assert!(text.contains("\nWorker_BlocksCached -2\n"), "{text}");
        assert!(text.contains("\nProcess_pool_size 7\n"), "{text}");
        assert!(
            text.contains("Master_JournalFlushTimer_bucket{le=\"0.003\"} 1"),
            "{text}"
        );
        assert!(
            text.contains("Master_JournalFlushTimer_bucket{le=\"+Inf\"} 1\n"),
            "{text}"
        );
        assert!(text.ends_with("# EOF\n"));
        assert!(text.contains("# HELP Master_FilesCreated Files made"), "{text}");
        let json: serde_json::Value = serde_json::from_str(&metrics.json()).unwrap();
        assert_eq!(json["counters"]["Master.FilesCreated"]["count"], 4);
        assert_eq!(json["gauges"]["Worker.BlocksCached"]["value"], -2);
        assert_eq!(json["gauges"]["Process.pool-size"]["value"], 7);
        assert_eq!(json["histograms"]["Master.JournalFlushTimer"]["count"], 1);
        assert_eq!(metrics.value("Master.FilesCreated"), Some(4));
        assert_eq!(metrics.value("Master.Unknown"), None);
    }

    #[test]
    fn nodes_of_one_process_do_not_mix() {
        let (a, b) = (Metrics::new(), Metrics::new());
        a.counter("Master.X").inc();
        assert_eq!(b.counter("Master.X").get(), 0);
        assert_eq!(a.clone().counter("Master.X").get(), 1);
    }

    #[test]
    fn held_gauge_returns_to_zero() {
        let gauge = Gauge::default();
        {
            let _a = gauge.hold();
            let _b = gauge.hold();
            assert_eq!(gauge.get(), 2);
        }
        assert_eq!(gauge.get(), 0);
    }

    #[test]
    #[should_panic(expected = "metric Master.X exists already")]
    fn one_name_has_one_type() {
        let metrics = Metrics::new();
        metrics.counter("Master.X");
        metrics.gauge("Master.X");
    }
}
