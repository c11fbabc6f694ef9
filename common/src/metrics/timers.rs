//! Latencies of the operations of one node.

use super::{Histogram, Metrics};
use std::time::{Duration, Instant};

/// A histogram for each operation and, where there is a name for it, one for all together. Made at start, so that observing
/// is two additions and no look-up.
#[derive(Clone, Debug)]
pub struct OpTimers {
    total: Option<Histogram>,
    each: Box<[Option<Histogram>]>,
}

impl OpTimers {
    /// `names` in the order of the numbers that [`OpTimers::observe`] takes; `node` is put before each: `Master` makes
    /// `Master.Lookup`. An empty name is none. `total` is the whole name of that of all together.
    pub fn new(metrics: &Metrics, node: &str, total: Option<&str>, names: &[&str]) -> Self {
        Self {
            total: total.map(|name| metrics.histogram(name)),
            each: names
                .iter()
                .map(|name| (!name.is_empty()).then(|| metrics.histogram(&format!("{node}.{name}"))))
                .collect(),
        }
    }

    /// An operation took so long. A number without a name counts in the total only.
    pub fn observe(&self, operation: usize, took: Duration) {
        if let Some(total) = &self.total {
            total.observe(took);
        }
        if let Some(Some(histogram)) = self.each.get(operation) {
            histogram.observe(took);
        }
    }

    /// A request that began at `started` is answered; it took so long.
    pub fn answered(&self, operation: usize, started: Instant) -> Duration {
        let took = started.elapsed();
        self.observe(operation, took);
        took
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_operation_and_all_together() {
        let metrics = Metrics::new();
        let timers = OpTimers::new(&metrics, "Master", Some("Master.TotalRpcs"), &["Lookup", "GetAttr"]);
        timers.observe(1, Duration::from_millis(2));
        timers.observe(7, Duration::from_millis(2));
        assert_eq!(metrics.value("Master.Lookup"), Some(0));
        assert_eq!(metrics.value("Master.GetAttr"), Some(1));
        assert_eq!(metrics.value("Master.TotalRpcs"), Some(2));
        assert!(
            metrics
                .text()
                .contains("# HELP Master_GetAttr Seconds that GetAttr took"),
            "{}",
            metrics.text()
        );
        assert_eq!(metrics.histogram("Master.GetAttr").quantile_seconds(0.99), 0.003);
    }
}
