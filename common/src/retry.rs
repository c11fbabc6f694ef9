//! Trying again, at growing intervals, within one budget.
//!
//! A call passes several layers that could try again: the mount, the client of the master, the connection. **One of them
//! sleeps**: the outermost [`retry`], whose end is the deadline of all beneath it. While it runs, a [`Backoff`] within it that
//! was started by [`RetryPolicy::start_inner`] does not sleep at all, any other ends no later than the outer one, and who waits
//! for an answer waits no longer than [`time_left`]. Tasks that are spawned have budgets of their own.
//!
//! Cancelling is dropping the future, which every layer passes on; over a connection it is a frame that says so.
//!
//! A wait that lasts longer than [`QUIET_TIME`] is said once at WARN, with what is waited for.

use crate::{FsError, FsResult};
use rand::Rng;
use std::cell::Cell;
use std::time::{Duration, Instant};

/// Waits that are longer are said.
pub const QUIET_TIME: Duration = Duration::from_secs(5);

/// What an outer layer allows the ones beneath it.
struct Budget {
    /// `None`: for ever.
    deadline: Option<Instant>,
    /// Somebody has said that this waits.
    is_said: Cell<bool>,
}

tokio::task_local! {
    static BUDGET: Budget;
}

/// How long the call that this task works on may still take; `None` if nobody set a limit.
pub fn time_left() -> Option<Duration> {
    let deadline = BUDGET.try_with(|budget| budget.deadline).ok().flatten()?;
    Some(deadline.saturating_duration_since(Instant::now()))
}

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
    /// Starts counting. Within an outer [`retry`] it ends with that at the latest.
    pub fn start(self) -> Backoff {
        Backoff {
            policy: self,
            started: Instant::now(),
            tries: 0,
            sleeps: true,
            is_said: false,
        }
    }

    /// Starts counting for a layer beneath others: where one of them tries again anyway, this one never pauses. Only for what
    /// may be done twice.
    pub fn start_inner(self) -> Backoff {
        Backoff {
            sleeps: BUDGET.try_with(|_| ()).is_err(),
            ..self.start()
        }
    }
}

/// The state of one thing that is tried again.
#[derive(Clone, Debug)]
pub struct Backoff {
    policy: RetryPolicy,
    started: Instant,
    tries: u32,
    /// An outer layer does it otherwise.
    sleeps: bool,
    is_said: bool,
}

impl Backoff {
    /// The next pause, or `None` when time is up. Half of a pause is random, so that many clients of one server that
    /// failed do not come back at once. The last pause is cut so that it ends in time.
    pub fn next_pause(&mut self) -> Option<Duration> {
        let left = self
            .policy
            .total
            .checked_sub(self.started.elapsed())
            .map(|left| time_left().map_or(left, |outer| left.min(outer)))
            .filter(|left| self.sleeps && !left.is_zero())?;
        let doubled = self
            .policy
            .base
            .saturating_mul(1 << self.tries.min(16))
            .min(self.policy.max);
        self.tries = self.tries.saturating_add(1);
        let pause = doubled.mul_f64(rand::rng().random_range(0.5..=1.0));
        Some(pause.min(left))
    }

    /// Sleeps for the next pause; false when time is up. `error` is why the last try failed.
    pub async fn pause(&mut self, error: &FsError) -> bool {
        match self.next_pause() {
            Some(pause) => {
                self.say(error);
                tokio::time::sleep(pause).await;
                true
            }
            None => false,
        }
    }

    /// Says once that this waits, unless a layer above or beneath has said it.
    fn say(&mut self, error: &FsError) {
        if self.is_said || self.started.elapsed() < QUIET_TIME {
            return;
        }
        self.is_said = true;
        if BUDGET.try_with(|budget| budget.is_said.replace(true)).unwrap_or(false) {
            return;
        }
        let (waited, tries) = (self.started.elapsed(), self.tries);
        if self.policy.total > Duration::from_secs(u64::from(u32::MAX)) {
            tracing::warn!(%error, tries, "waiting for {waited:.1?} now, until it is answered or given up by the caller");
        } else {
            let total = self.policy.total;
            tracing::warn!(%error, tries, "waiting for {waited:.1?} now, {total:?} at most");
        }
    }

    /// The last error, with how long that took. Of a layer that leaves the trying to another, as it is.
    fn gave_up(&self, error: FsError) -> FsError {
        if !self.sleeps {
            return error;
        }
        let (tries, took) = (self.tries + 1, self.started.elapsed());
        error.context(format!("gave up after {tries} tries in {took:.1?}"))
    }

    /// Pauses so far.
    pub fn tries(&self) -> u32 {
        self.tries
    }
}

/// Runs `operation` until it succeeds, fails for good, or time is up; then the last error is the answer. The layers beneath
/// `operation` share its time.
///
/// # Errors
/// The first that is not retryable, or the last.
pub async fn retry<T, F>(policy: RetryPolicy, operation: impl FnMut() -> F) -> FsResult<T>
where
    F: Future<Output = FsResult<T>>,
{
    run(policy.start(), || true, operation).await
}

/// As [`retry`], but only for as long as `may_repeat` says so; asked before each further try.
///
/// # Errors
/// As [`retry`].
pub async fn retry_while<T, F>(
    policy: RetryPolicy,
    may_repeat: impl Fn() -> bool,
    operation: impl FnMut() -> F,
) -> FsResult<T>
where
    F: Future<Output = FsResult<T>>,
{
    run(policy.start(), may_repeat, operation).await
}

/// As [`retry`], for a layer beneath others: where one of them tries again anyway, this one does not. Only for what may be done
/// twice.
///
/// # Errors
/// As [`retry`].
pub async fn retry_inner<T, F>(policy: RetryPolicy, operation: impl FnMut() -> F) -> FsResult<T>
where
    F: Future<Output = FsResult<T>>,
{
    run(policy.start_inner(), || true, operation).await
}

async fn run<T, F>(mut backoff: Backoff, may_repeat: impl Fn() -> bool, mut operation: impl FnMut() -> F) -> FsResult<T>
where
    F: Future<Output = FsResult<T>>,
{
    let own = backoff.started.checked_add(backoff.policy.total);
    let outer = BUDGET.try_with(|budget| budget.deadline).ok().flatten();
    let budget = Budget {
        deadline: [own, outer].into_iter().flatten().min(),
        is_said: Cell::new(false),
    };
    let tries = async {
        loop {
            match operation().await {
                Err(error) if error.is_retryable() => {
                    if !backoff.pause(&error).await {
                        return Err(backoff.gave_up(error));
                    }
                    if !may_repeat() {
                        return Err(error);
                    }
                    tracing::debug!(%error, tries = backoff.tries(), "trying again");
                }
                result => return result,
            }
        }
    };
    BUDGET.scope(budget, tries).await
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

    fn away() -> FsError {
        FsError::new(ErrorKind::Unavailable, "the master is away")
    }

    #[tokio::test]
    async fn one_layer_sleeps_and_all_share_its_time() {
        let endless = RetryPolicy {
            total: Duration::from_secs(3600),
            ..QUICK
        };
        let (mut inner, mut outer) = (0, 0);
        let started = Instant::now();
        let result = retry(QUICK, || {
            outer += 1;
            let left = time_left().unwrap();
            assert!(left <= QUICK.total, "{left:?}");
            // A layer beneath leaves the sleeping to the one above.
            assert!(endless.start_inner().next_pause().is_none());
            // One that must not be done twice sleeps itself, within the same time.
            let mut backoff = endless.start();
            if let Some(pause) = backoff.next_pause() {
                assert!(pause <= left, "{pause:?} of {left:?}");
                inner += 1;
            }
            async { Err::<(), _>(away()) }
        });
        let error = result.await.unwrap_err();
        assert!(error.message.contains("gave up after"), "{error}");
        assert!(outer > 2 && inner > 2, "{outer} and {inner}");
        assert!(started.elapsed() < Duration::from_secs(60));
        // Alone, it sleeps.
        assert!(endless.start_inner().next_pause().is_some());
        assert!(time_left().is_none());
    }

    #[tokio::test]
    async fn a_retry_within_a_retry_ends_with_it() {
        let endless = RetryPolicy {
            total: Duration::from_secs(3600),
            ..QUICK
        };
        let result = retry(QUICK, || retry(endless, || async { Err::<(), _>(away()) }));
        let result = tokio::time::timeout(Duration::from_secs(20), result).await;
        let error = result.expect("the inner one goes on").unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unavailable);
    }

    #[tokio::test]
    async fn a_long_wait_is_said_once_with_what_is_waited_for() {
        #[derive(Clone, Default)]
        struct Lines(std::sync::Arc<crate::sync::Mutex<Vec<u8>>>);
        impl std::io::Write for Lines {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0.lock().extend_from_slice(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
        let _guard = tracing::subscriber::set_default(subscriber);
        let policy = RetryPolicy {
            total: Duration::from_secs(60),
            ..QUICK
        };
        let mut tries = 0;
        let result = retry(policy, || {
            tries += 1;
            let tries = tries;
            async move {
                let mut inner = policy.start();
                if tries <= 5 {
                    // As if it had begun long ago.
                    inner.started -= QUIET_TIME * 2;
                    assert!(inner.pause(&away()).await);
                    return Err(away());
                }
                Ok(())
            }
        });
        result.await.unwrap();
        let said = String::from_utf8(lines.0.lock().clone()).unwrap();
        assert_eq!(said.matches("WARN").count(), 1, "{said}");
        assert!(
            said.contains("the master is away") && said.contains("60s at most"),
            "{said}"
        );
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
