//! The time, as a parameter: what a simulation must own reads no clock but this one.
//!
//! Monotonic time is an [`Instant`], also when it is simulated: then it stands still until somebody moves it.
//!
//! **Left out:** timers of libraries (openraft's are off where there is one member).

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::sync::{Condvar, MutexGuard};

/// How long a thread that waits for simulated time looks away at most.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// A clock. Cheap to clone; clones show the same time.
#[derive(Clone, Debug, Default)]
pub struct Clock(Option<Arc<Simulated>>);

#[derive(Debug)]
struct Simulated {
    began: Instant,
    began_ns: i64,
    since: watch::Sender<Duration>,
}

impl Clock {
    /// The machine's.
    pub fn real() -> Self {
        Self(None)
    }

    /// One that stands at `wall_ns` (since 1970) until [`Clock::advance`] moves it.
    pub fn simulated(wall_ns: i64) -> Self {
        Self(Some(Arc::new(Simulated {
            began: Instant::now(),
            began_ns: wall_ns,
            since: watch::Sender::new(Duration::ZERO),
        })))
    }

    /// Moves a simulated clock on.
    ///
    /// # Panics
    /// It is the machine's.
    #[allow(clippy::panic, reason = "a simulation that moves the machine's clock is wrong")]
    pub fn advance(&self, by: Duration) {
        match &self.0 {
            Some(simulated) => simulated.since.send_modify(|since| *since += by),
            None => panic!("the machine's clock cannot be moved"),
        }
    }

    /// Now, on a clock that never goes back.
    pub fn now(&self) -> Instant {
        match &self.0 {
            Some(simulated) => simulated.began + *simulated.since.borrow(),
            None => Instant::now(),
        }
    }

    /// Wall-clock time in nanoseconds since 1970.
    pub fn wall_ns(&self) -> i64 {
        match &self.0 {
            Some(simulated) => {
                let since = i64::try_from(simulated.since.borrow().as_nanos()).unwrap_or(i64::MAX);
                simulated.began_ns.saturating_add(since)
            }
            None => crate::time::now_ns(),
        }
    }

    /// Waits until `deadline`.
    pub async fn sleep_until(&self, deadline: Instant) {
        match &self.0 {
            Some(simulated) => {
                let mut since = simulated.since.subscribe();
                // The sender is in `self`, so it cannot end.
                let _ = since.wait_for(|since| simulated.began + *since >= deadline).await;
            }
            None => tokio::time::sleep_until(deadline.into()).await,
        }
    }

    /// Waits to be notified, until `deadline` at most; may also return before for no reason, so look and wait again.
    pub fn wait_until<T>(&self, condvar: &Condvar, guard: &mut MutexGuard<'_, T>, deadline: Instant) {
        let patience = match &self.0 {
            Some(_) => LOOK_AGAIN,
            None => deadline.saturating_duration_since(Instant::now()),
        };
        let _timed_out = condvar.wait_for(guard, patience);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::Mutex;

    #[tokio::test]
    async fn simulated_time_stands_until_it_is_moved() {
        let clock = Clock::simulated(7);
        let (began, other) = (clock.now(), clock.clone());
        assert_eq!((clock.now(), clock.wall_ns()), (began, 7));
        let sleeper = tokio::spawn(async move { other.sleep_until(began + Duration::from_secs(3600)).await });
        clock.advance(Duration::from_secs(3599));
        tokio::task::yield_now().await;
        assert!(!sleeper.is_finished());
        clock.advance(Duration::from_secs(1));
        sleeper.await.unwrap();
        assert_eq!(clock.wall_ns(), 7 + 3_600_000_000_000);
    }

    #[test]
    fn a_thread_sees_simulated_time_pass() {
        let (clock, lock, condvar) = (Clock::simulated(0), Mutex::new(()), Condvar::new());
        let deadline = clock.now() + Duration::from_secs(60);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let mut guard = lock.lock();
                while clock.now() < deadline {
                    clock.wait_until(&condvar, &mut guard, deadline);
                }
            });
            clock.advance(Duration::from_secs(60));
            waiting.join().unwrap();
        });
    }
}
