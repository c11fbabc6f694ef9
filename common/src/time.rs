//! Wall-clock time as it is stored: nanoseconds since 1970, as a number.

use std::time::{SystemTime, UNIX_EPOCH};

/// Now. Negative before 1970; right until 2262.
pub fn now_ns() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |ns| -ns),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn now_is_what_a_new_file_says() {
        let before = super::now_ns();
        let file = tempfile::NamedTempFile::new().unwrap();
        let modified = file.as_file().metadata().unwrap().modified().unwrap();
        let modified = modified.duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as i64;
        // File times come from a coarser clock, a few milliseconds behind.
        let second = 1_000_000_000;
        assert!(modified > before - second && modified < super::now_ns() + second);
    }
}
