//! A second request for what takes longer than nearly all before, of few requests only.

use std::time::Duration;

use alluxio_common::sync::Mutex;

/// Answers that the time is taken from.
const KEPT: usize = 128;
/// Before so many nothing is known.
const KNOWN_MIN: u64 = 32;
/// The time of this part of them...
const PART: f64 = 0.95;
/// ... times this is long. Chosen so that what varies by itself is not taken for slow.
const LONG: u32 = 3;
/// What takes less than this is not worth a second request.
const PATIENCE_MIN: Duration = Duration::from_millis(100);
/// Second requests that may be saved up.
const SAVED_MAX: f64 = 8.0;

#[derive(Debug)]
struct State {
    times: Vec<Duration>,
    seen: u64,
    patience: Option<Duration>,
    saved: f64,
}

/// Of one mount's reads.
#[derive(Debug)]
pub(super) struct Hedge {
    ratio: f64,
    state: Mutex<State>,
}

impl Hedge {
    /// At most `ratio` of all requests are sent twice; 0: none.
    pub fn new(ratio: f64) -> Self {
        Self {
            ratio,
            state: Mutex::new(State {
                times: Vec::with_capacity(KEPT),
                seen: 0,
                patience: None,
                saved: 0.0,
            }),
        }
    }

    /// One more request; how long its answer may take before another is sent.
    pub fn patience(&self) -> Option<Duration> {
        if self.ratio == 0.0 {
            return None;
        }
        let mut state = self.state.lock();
        state.saved = (state.saved + self.ratio).min(SAVED_MAX);
        state.patience
    }

    /// Whether another may be sent, which then counts.
    pub fn take(&self) -> bool {
        let mut state = self.state.lock();
        let may = state.saved >= 1.0;
        if may {
            state.saved -= 1.0;
        }
        may
    }

    /// An answer took so long.
    pub fn answered(&self, took: Duration) {
        if self.ratio == 0.0 {
            return;
        }
        let mut state = self.state.lock();
        let place = (state.seen % KEPT as u64) as usize;
        match state.times.get_mut(place) {
            Some(time) => *time = took,
            None => state.times.push(took),
        }
        state.seen += 1;
        // Sorting is for few of them.
        if state.seen >= KNOWN_MIN && state.seen.is_multiple_of(16) {
            let mut times = state.times.clone();
            times.sort_unstable();
            let slow = times[((times.len() - 1) as f64 * PART) as usize];
            state.patience = Some((slow * LONG).max(PATIENCE_MIN));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_are_sent_twice_and_none_before_something_is_known() {
        let hedge = Hedge::new(0.02);
        assert_eq!(hedge.patience(), None);
        for _ in 0..1000 {
            hedge.patience();
            hedge.answered(Duration::from_millis(60));
        }
        assert_eq!(hedge.patience(), Some(Duration::from_millis(180)));
        let taken = (0..100).filter(|_| hedge.take()).count();
        assert_eq!(taken, SAVED_MAX as usize);
        for _ in 0..KEPT + 32 {
            hedge.answered(Duration::from_micros(100));
        }
        assert_eq!(hedge.patience(), Some(PATIENCE_MIN));
        let never = Hedge::new(0.0);
        never.answered(Duration::from_millis(60));
        assert!(never.patience().is_none() && !never.take());
    }
}
