//! How fast clients change the namespace, so that background work can keep out of their way.

use alluxio_common::sync::Mutex;
use std::time::Instant;

/// Changes are counted in spans of so many milliseconds.
const SPAN_MS: u64 = 100;
/// From so many changes in a span on it is busy: a hundred a second.
const BUSY: u32 = 10;

/// Changes by clients in this span and the one before.
#[derive(Debug)]
pub(super) struct Pace {
    start: Instant,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    span: u64,
    here: u32,
    before: u32,
}

impl Counts {
    /// Moves on to `span`.
    fn at(&mut self, span: u64) -> &mut Counts {
        if span != self.span {
            self.before = if span == self.span + 1 { self.here } else { 0 };
            (self.span, self.here) = (span, 0);
        }
        self
    }
}

impl Pace {
    pub fn new() -> Pace {
        Pace {
            start: Instant::now(),
            counts: Mutex::default(),
        }
    }

    /// A client changes something.
    pub fn note(&self) {
        let span = self.span();
        let mut counts = self.counts.lock();
        let counts = counts.at(span);
        counts.here = counts.here.saturating_add(1);
    }

    /// Whether clients change much at present.
    pub fn is_busy(&self) -> bool {
        let span = self.span();
        let mut counts = self.counts.lock();
        let counts = counts.at(span);
        counts.here.max(counts.before) >= BUSY
    }

    fn span(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX) / SPAN_MS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_busy_until_a_span_passes_without_changes() {
        let mut counts = Counts::default();
        counts.at(5).here = BUSY;
        assert_eq!((counts.at(6).here, counts.before), (0, BUSY));
        assert_eq!((counts.at(7).here, counts.before), (0, 0));
        counts.here = BUSY;
        assert_eq!(counts.at(9).before, 0, "a span without any lies between");
    }
}
