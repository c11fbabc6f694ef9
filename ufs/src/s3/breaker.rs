//! A store that does not answer is asked now and then by one, not all the time by all.

use std::time::{Duration, Instant};

use alluxio_common::sync::Mutex;

/// Requests in a row that found no server or got no answer.
const FAILURES_MAX: u32 = 5;
/// Then one goes after so long, the next after twice that, and so on.
const PAUSE_FIRST: Duration = Duration::from_millis(250);
/// A store that is back is found within this.
const PAUSE_MAX: Duration = Duration::from_secs(2);

#[derive(Debug, Default)]
struct State {
    failures: u32,
    pause: Duration,
    /// When the next may go.
    next: Option<Instant>,
    /// What the last one met.
    why: String,
}

/// Of one endpoint.
#[derive(Debug, Default)]
pub(super) struct Breaker(Mutex<State>);

/// Nothing is sent now.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Open {
    /// Until somebody may try.
    pub pause: Duration,
    pub failures: u32,
    /// What the last request met.
    pub why: String,
}

impl Breaker {
    /// Whether a request may be sent.
    pub fn enter(&self) -> Result<(), Open> {
        let mut state = self.0.lock();
        let now = Instant::now();
        match state.next {
            Some(next) if now < next => Err(Open {
                pause: next - now,
                failures: state.failures,
                why: state.why.clone(),
            }),
            Some(_) => {
                // This one tries; others wait for what becomes of it, but not for ever.
                state.next = Some(now + state.pause);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// There was an answer, whatever it said.
    pub fn answered(&self) {
        let mut state = self.0.lock();
        if state.next.is_some() {
            tracing::info!(failures = state.failures, "the store answers again");
        }
        if state.failures > 0 {
            *state = State::default();
        }
    }

    /// There was none.
    pub fn failed(&self, why: &str) {
        let mut state = self.0.lock();
        state.failures = state.failures.saturating_add(1);
        if state.failures < FAILURES_MAX {
            return;
        }
        why.clone_into(&mut state.why);
        state.pause = (state.pause * 2).clamp(PAUSE_FIRST, PAUSE_MAX);
        state.next = Some(Instant::now() + state.pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_lets_one_through_and_closes() {
        let breaker = Breaker::default();
        for _ in 0..FAILURES_MAX {
            assert_eq!(breaker.enter(), Ok(()));
            breaker.failed("refused");
        }
        let open = breaker.enter().unwrap_err();
        assert!(open.pause <= PAUSE_FIRST && open.failures == FAILURES_MAX && open.why == "refused");
        std::thread::sleep(open.pause);
        assert_eq!(breaker.enter(), Ok(()), "one may try");
        assert!(breaker.enter().is_err(), "and no other");
        for _ in 0..20 {
            breaker.failed("refused");
        }
        assert!(breaker.enter().unwrap_err().pause <= PAUSE_MAX);
        breaker.answered();
        assert_eq!(breaker.enter(), Ok(()));
        breaker.failed("once");
        assert_eq!(breaker.enter(), Ok(()), "one failure is not five");
    }
}
