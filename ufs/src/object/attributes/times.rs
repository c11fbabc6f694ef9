//! Times as s3fs and rclone write them: seconds since 1970 with a fraction; rclone's access times as in RFC 3339.

const NS: i64 = 1_000_000_000;

/// Seconds, with nine digits of a fraction unless there is none.
pub(super) fn to_text(time_ns: i64) -> String {
    let (sign, whole, fraction) = (if time_ns < 0 { "-" } else { "" }, time_ns / NS, time_ns % NS);
    match fraction.unsigned_abs() {
        0 => whole.to_string(),
        fraction => format!("{sign}{}.{fraction:09}", whole.unsigned_abs()),
    }
}

/// Nothing if it is no time, or none that fits (1677 to 2262).
pub(super) fn from_text(text: &str) -> Option<i64> {
    if text.contains('T') {
        return chrono::DateTime::parse_from_rfc3339(text).ok()?.timestamp_nanos_opt();
    }
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let are_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !are_digits(whole) || !are_digits(fraction) {
        return None;
    }
    let nine: String = fraction.chars().chain(std::iter::repeat('0')).take(9).collect();
    let ns = whole
        .parse::<i64>()
        .ok()?
        .checked_mul(NS)?
        .checked_add(nine.parse().ok()?)?;
    Some(if negative { -ns } else { ns })
}
