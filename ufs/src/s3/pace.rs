//! How fast requests and bytes go: by what the mount may take, and by what the store asks for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use alluxio_common::config::{Configuration, keys::underfs as keys};
use alluxio_common::sync::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{UfsError, UfsErrorKind, UfsResult};

/// A turn to be sent; it ends with this.
pub(super) type Permit = Arc<OwnedSemaphorePermit>;

/// Slowest pace that refusals lead to. Who asks no more than that is not the reason of them.
const REQUESTS_PER_SECOND_MIN: f64 = 10.0;
/// Requests that were under way when the first was refused say the same as that one.
const ONE_REFUSAL: Duration = Duration::from_millis(500);
/// A lowered pace is as before after so long; a slow one sooner.
const RECOVERED_AFTER_S: f64 = 20.0;
/// Requests per second that a lowered pace is raised by each second, at least.
const STEP_MIN: f64 = 5.0;
/// Above this many times the pace at which the store refused there is none any more.
const FORGOTTEN_AT: f64 = 4.0;
/// The pace of requests is measured over this.
const MEASURED_OVER: Duration = Duration::from_secs(1);
/// Bytes of so much time may come at once.
const BURST: Duration = Duration::from_millis(100);

/// A rate of bytes that is kept over time.
#[derive(Debug)]
pub(super) struct Bandwidth {
    /// 0: no limit.
    bytes_per_s: u64,
    paid_until: Mutex<Option<Instant>>,
}

impl Bandwidth {
    pub fn new(bytes_per_s: u64) -> Self {
        Self {
            bytes_per_s,
            paid_until: Mutex::default(),
        }
    }

    /// Waits until what was paid before has had its time, and pays for these.
    pub async fn pay(&self, bytes: u64) {
        if self.bytes_per_s == 0 || bytes == 0 {
            return;
        }
        let wait = {
            let mut paid_until = self.paid_until.lock();
            let now = Instant::now();
            let from = paid_until.unwrap_or(now).max(now);
            *paid_until = Some(from + Duration::from_secs_f64(bytes as f64 / self.bytes_per_s as f64));
            (from - now).saturating_sub(BURST)
        };
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }
}

/// Pace of requests: without limit until the store refuses for it, then halved, and raised step by step.
#[derive(Debug)]
pub(super) struct Pace(Mutex<Paced>);

#[derive(Debug)]
struct Paced {
    /// Requests per second, now and when the store last refused; nothing: no limit.
    lowered: Option<Lowered>,
    window: Instant,
    in_window: u32,
    /// Requests per second in the window before.
    measured: f64,
}

#[derive(Debug)]
struct Lowered {
    rate: f64,
    refused_at: f64,
    since: Instant,
    raised: Instant,
    next: Instant,
}

impl Default for Pace {
    fn default() -> Self {
        Self(Mutex::new(Paced {
            lowered: None,
            window: Instant::now(),
            in_window: 0,
            measured: 0.0,
        }))
    }
}

impl Paced {
    fn measure(&mut self, now: Instant) {
        let over = now.duration_since(self.window);
        if over >= MEASURED_OVER {
            self.measured = f64::from(self.in_window) / over.as_secs_f64();
            (self.window, self.in_window) = (now, 0);
        }
    }
}

impl Pace {
    /// How long the next request has to wait for its turn, which is taken.
    pub fn turn(&self) -> Duration {
        self.turn_at(Instant::now())
    }

    fn turn_at(&self, now: Instant) -> Duration {
        let mut paced = self.0.lock();
        paced.measure(now);
        paced.in_window += 1;
        let Some(lowered) = &mut paced.lowered else {
            return Duration::ZERO;
        };
        let step = (lowered.refused_at / RECOVERED_AFTER_S).max(STEP_MIN);
        lowered.rate += step * now.duration_since(lowered.raised).as_secs_f64();
        lowered.raised = now;
        if lowered.rate > lowered.refused_at * FORGOTTEN_AT {
            paced.lowered = None;
            return Duration::ZERO;
        }
        let at = lowered.next.max(now);
        lowered.next = at + Duration::from_secs_f64(1.0 / lowered.rate);
        at - now
    }

    /// The store asked for fewer requests. Returns the new pace, if this changed it.
    pub fn refused(&self) -> Option<f64> {
        self.refused_at(Instant::now())
    }

    fn refused_at(&self, now: Instant) -> Option<f64> {
        let mut paced = self.0.lock();
        paced.measure(now);
        let known = paced.lowered.as_ref();
        if known.is_some_and(|lowered| now.duration_since(lowered.since) < ONE_REFUSAL) {
            return None;
        }
        // A second has not gone by yet: what there was of it counts.
        let measured = paced.measured.max(f64::from(paced.in_window));
        let was = known.map_or(measured, |lowered| {
            lowered.rate.min(measured.max(REQUESTS_PER_SECOND_MIN))
        });
        if known.is_none() && was <= REQUESTS_PER_SECOND_MIN {
            return None;
        }
        let rate = (was / 2.0).max(REQUESTS_PER_SECOND_MIN);
        paced.lowered = Some(Lowered {
            rate,
            refused_at: was.max(REQUESTS_PER_SECOND_MIN),
            since: now,
            raised: now,
            next: now,
        });
        Some(rate)
    }
}

/// The limits of one mount.
#[derive(Debug)]
pub(super) struct Limiter {
    /// Apart, so that who reads one object to write another does not wait for himself. Nothing: no limit.
    reads: Option<Arc<Semaphore>>,
    others: Option<Arc<Semaphore>>,
    in_flight_max: usize,
    pub pace: Pace,
    pub up: Bandwidth,
    pub down: Arc<Bandwidth>,
}

impl Limiter {
    pub fn new(conf: &Configuration) -> Self {
        let in_flight_max = usize::try_from(conf.int(&keys::S3_REQUESTS_IN_FLIGHT)).unwrap_or(usize::MAX);
        let in_flight_max = in_flight_max.min(Semaphore::MAX_PERMITS);
        let semaphore = || (in_flight_max > 0).then(|| Arc::new(Semaphore::new(in_flight_max)));
        Self {
            reads: semaphore(),
            others: semaphore(),
            in_flight_max,
            pace: Pace::default(),
            up: Bandwidth::new(conf.bytes(&keys::S3_UPLOAD_BANDWIDTH)),
            down: Arc::new(Bandwidth::new(conf.bytes(&keys::S3_DOWNLOAD_BANDWIDTH))),
        }
    }

    /// A place among the requests in flight, once there is one.
    ///
    /// # Errors
    /// [`UfsErrorKind::Throttled`] if there is none for so long.
    pub async fn place(&self, reads: bool, patience: Duration) -> UfsResult<Option<Permit>> {
        let Some(semaphore) = (if reads { &self.reads } else { &self.others }) else {
            return Ok(None);
        };
        let permit = tokio::time::timeout(patience, semaphore.clone().acquire_owned()).await;
        match permit {
            Ok(Ok(permit)) => Ok(Some(Arc::new(permit))),
            _ => {
                let (most, key) = (self.in_flight_max, keys::S3_REQUESTS_IN_FLIGHT.name);
                let why = format!("{most} requests were in flight for {patience:?}, as many as there may be ({key})");
                Err(UfsError::new(UfsErrorKind::Throttled, why))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_lower_the_pace_and_time_raises_it() {
        let pace = Pace::default();
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        for n in 0..1000 {
            assert_eq!(pace.turn_at(at(n)), Duration::ZERO);
        }
        let rate = pace.refused_at(at(1001)).unwrap();
        assert!((400.0..600.0).contains(&rate), "{rate}");
        assert_eq!(pace.refused_at(at(1002)), None, "of the same burst");
        assert_eq!(pace.turn_at(at(1002)), Duration::ZERO);
        let wait = pace.turn_at(at(1002));
        assert!((1..4).contains(&wait.as_millis()), "{wait:?}");
        // A store that goes on refusing is asked less and less, and no less than it must be.
        let mut last = rate;
        for n in 0..20 {
            last = pace.refused_at(at(2000 + n * 1000)).unwrap();
        }
        assert!((10.0..11.0).contains(&last), "{last}");
        let mut now = 22_000;
        while pace.0.lock().lowered.is_some() {
            now += 1 + pace.turn_at(at(now)).as_millis() as u64;
            assert!(now < 60_000, "it recovers");
        }
        let idle = Pace::default();
        idle.turn();
        assert_eq!(idle.refused(), None, "one request is not too many");
    }

    #[tokio::test]
    async fn bytes_take_their_time() {
        let bandwidth = Bandwidth::new(1000);
        let start = Instant::now();
        // The first is free: it is the debt that is waited for.
        bandwidth.pay(500).await;
        assert!(start.elapsed() < Duration::from_millis(300));
        bandwidth.pay(500).await;
        let waited = start.elapsed();
        assert!((390..5000).contains(&waited.as_millis()), "{waited:?}");
        Bandwidth::new(0).pay(u64::MAX).await;
    }

    #[tokio::test]
    async fn one_more_than_may_be_in_flight_waits() {
        let mut conf = Configuration::default();
        conf.set("alluxio.underfs.s3.threads.max", "1");
        let limiter = Limiter::new(&conf);
        let first = limiter.place(true, Duration::ZERO).await.unwrap();
        let other = limiter.place(false, Duration::ZERO).await.unwrap();
        assert!(first.is_some() && other.is_some(), "a write beside a read");
        let error = limiter.place(true, Duration::from_millis(1)).await.unwrap_err();
        assert!(error.is_retryable() && error.message.contains("threads.max"), "{error}");
        drop(first);
        limiter.place(true, Duration::ZERO).await.unwrap();
    }
}
