//! Trying again, at growing intervals, up to a bound.

use crate::FsResult;
use rand::Rng;
use std::time::{Duration, Instant};

/// How to try again.
#[derive(Clone, Copy, Debug)]
pub struct RetryPolicy {
    /// First pause.
    pub base: Duration,
    /// Longest pause; pauses double up to it.
    pub max: Duration,
    /// No further try once this much time has passed since the first.
    pub total: Duration,
}

impl RetryPolicy {
    /// Starts counting.
    pub fn start(self) -> Backoff {
        Backoff {
            policy: self,
            started: Instant::now(),
            tries: 0,
        }
    }
}

/// The state of one thing that is tried again.
#[derive(Clone, Debug)]
pub struct Backoff {
    policy: RetryPolicy,
    started: Instant,
    tries: u32,
}

impl Backoff {
    /// The next pause, or `None` when time is up. Half of a pause is random, so that many clients of one server that
    /// failed do not come back at once. The last pause is cut so that it ends in time.
    pub fn next_pause(&mut self) -> Option<Duration> {
        let left = self
            .policy
            .total
            .checked_sub(self.started.elapsed())
            .filter(|left| !left.is_zero())?;
        let doubled = self
            .policy
            .base
            .saturating_mul(1 << self.tries.min(16))
            .min(self.policy.max);
        self.tries = self.tries.saturating_add(1);
        let pause = doubled.mul_f64(rand::rng().random_range(0.5..=1.0));
        Some(pause.min(left))
    }

    /// Sleeps for the next pause; false when time is up.
    pub async fn pause(&mut self) -> bool {
        match self.next_pause() {
            Some(pause) => {
                tokio::time::sleep(pause).await;
                true
            }
            None => false,
        }
    }

    /// Pauses so far.
    pub fn tries(&self) -> u32 {
        self.tries
    }
}

/// Runs `operation` until it succeeds, fails for good, or time is up; then the last error is the answer.
///
/// # Errors
/// The first that is not retryable, or the last.
pub async fn retry<T, F>(policy: RetryPolicy, mut operation: impl FnMut() -> F) -> FsResult<T>
where
    F: Future<Output = FsResult<T>>,
{
    let mut backoff = policy.start();
    loop {
        match operation().await {
            Err(error) if error.is_retryable() => {
                if !backoff.pause().await {
                    let tried = format!("gave up after {} tries in {:?}", backoff.tries() + 1, policy.total);
                    return Err(error.context(tried));
                }
                tracing::debug!(%error, tries = backoff.tries(), "trying again");
            }
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ErrorKind, FsError};
    use std::cell::Cell;

    const QUICK: RetryPolicy = RetryPolicy {
        base: Duration::from_millis(1),
        max: Duration::from_millis(4),
        total: Duration::from_millis(50),
    };

    #[test]
    fn pauses_grow_to_the_limit_and_vary() {
        let long = RetryPolicy {
            base: Duration::from_millis(10),
            max: Duration::from_millis(40),
            total: Duration::from_secs(3600),
        };
        let mut backoff = long.start();
        for upper in [10, 20, 40, 40, 40] {
            let pause = backoff.next_pause().unwrap();
            assert!(
                pause >= Duration::from_millis(upper) / 2 && pause <= Duration::from_millis(upper),
                "{pause:?}"
            );
        }
        // No overflow however long it goes on.
        for _ in 0..100 {
            assert!(backoff.next_pause().unwrap() <= Duration::from_millis(40));
        }
    }

    #[tokio::test]
    async fn retryable_errors_only_and_not_for_ever() {
        // Time enough on the slowest machine; the third try comes after a few milliseconds.
        let patient = RetryPolicy {
            total: Duration::from_secs(60),
            ..QUICK
        };
        let calls = Cell::new(0);
        let result = retry(patient, || async {
            calls.set(calls.get() + 1);
            if calls.get() < 3 {
                Err(FsError::new(ErrorKind::Unavailable, "no"))
            } else {
                Ok(calls.get())
            }
        });
        assert_eq!(result.await.unwrap(), 3);

        calls.set(0);
        let fatal = retry(QUICK, || async {
            calls.set(calls.get() + 1);
            Err::<(), _>(FsError::new(ErrorKind::NotFound, "no"))
        });
        assert_eq!(fatal.await.unwrap_err().kind, ErrorKind::NotFound);
        assert_eq!(calls.get(), 1);

        let started = Instant::now();
        let hopeless = retry(QUICK, || async {
            Err::<(), _>(FsError::new(ErrorKind::Timeout, "slow"))
        });
        let error = hopeless.await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Timeout);
        assert!(error.message.contains("gave up after"), "{error}");
        assert!(started.elapsed() >= QUICK.total);
    }
}
