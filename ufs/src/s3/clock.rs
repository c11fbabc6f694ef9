//! The time by which requests are signed: this host's, and how far the store's is ahead of it.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::SystemTime;

use chrono::{DateTime, Utc};

/// Stores take 15 minutes; what is far below may be the way of the answer.
const CORRECTED_MS_MIN: u64 = 60_000;

/// A clock that follows the store's where the two differ so much that signatures are refused.
#[derive(Debug, Default)]
pub(super) struct Clock {
    ahead_ms: AtomicI64,
}

impl Clock {
    /// Now, as the store has it.
    pub fn now(&self) -> DateTime<Utc> {
        let now: DateTime<Utc> = SystemTime::now().into();
        let ahead = chrono::TimeDelta::milliseconds(self.ahead_ms.load(Ordering::Relaxed));
        now.checked_add_signed(ahead).unwrap_or(now)
    }

    /// How far ahead it is, for [`Self::follow`].
    pub fn ahead_ms(&self) -> i64 {
        self.ahead_ms.load(Ordering::Relaxed)
    }

    /// Takes over the date of an answer that refused a signature for its time; `signed_ms` is how far ahead this clock was when it was
    /// made. Returns whether that is another time than now: if not, to send it again is of no use.
    pub fn follow(&self, date: &str, signed_ms: i64) -> bool {
        let ahead_ms = self.ahead_ms();
        if ahead_ms.abs_diff(signed_ms) >= CORRECTED_MS_MIN {
            // Another request's answer has told already.
            return true;
        }
        let Ok(said) = DateTime::parse_from_rfc2822(date) else {
            return false;
        };
        let off_ms = (said.to_utc() - self.now()).num_milliseconds();
        if off_ms.unsigned_abs() < CORRECTED_MS_MIN {
            return false;
        }
        let corrected_ms = ahead_ms.saturating_add(off_ms);
        self.ahead_ms.store(corrected_ms, Ordering::Relaxed);
        tracing::warn!(
            ahead_s = corrected_ms / 1000,
            "the clock of this host is wrong, or the store's: requests are signed with the store's time; set the clock"
        );
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_far_off_is_followed_once() {
        let clock = Clock::default();
        let date = (Utc::now() + chrono::TimeDelta::hours(1)).to_rfc2822();
        assert!(clock.follow(&date, 0));
        assert!(clock.follow(&date, 0), "signed before it was told");
        assert!(!clock.follow(&date, clock.ahead_ms()));
        assert!((clock.now() - Utc::now()).num_minutes() >= 59);
        assert!(clock.follow(&Utc::now().to_rfc2822(), clock.ahead_ms()), "and back");
        assert!(!clock.follow("soon", clock.ahead_ms()));
    }
}
