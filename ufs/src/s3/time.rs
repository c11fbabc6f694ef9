//! S3's two forms of dates, in whole seconds: HEAD gives no more, and a listing must agree with it.

use chrono::DateTime;

const NS_PER_SECOND: i64 = 1_000_000_000;

/// `Sat, 21 Nov 2026 10:00:00 GMT`; 0 if it is no date.
pub(super) fn http_date_ns(text: &str) -> i64 {
    DateTime::parse_from_rfc2822(text).map_or(0, |date| date.timestamp().saturating_mul(NS_PER_SECOND))
}

/// `2026-11-21T10:00:00.000Z`; 0 if it is no date.
pub(super) fn iso_date_ns(text: &str) -> i64 {
    DateTime::parse_from_rfc3339(text).map_or(0, |date| date.timestamp().saturating_mul(NS_PER_SECOND))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_agree() {
        assert_eq!(http_date_ns("Sat, 21 Nov 2026 10:00:00 GMT"), 1_795_255_200_000_000_000);
        assert_eq!(iso_date_ns("2026-11-21T10:00:00.999Z"), 1_795_255_200_000_000_000);
        assert_eq!((http_date_ns("soon"), iso_date_ns("")), (0, 0));
    }
}
