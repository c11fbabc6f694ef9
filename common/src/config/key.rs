//! One property key and the syntax of values.

use std::fmt;
use std::time::Duration;

/// Syntax of a value. Where the default is empty, an empty value is right too, and means "not set".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Int,
    /// A size: `512`, `64KB`, `64MB`, `1GB` (powers of 1024).
    Bytes,
    /// A time: `100ms`, `30s`, `5min`, `1hour`, `1day`; -1 is never.
    Duration,
    /// A TCP port.
    Port,
    /// Permission bits: `022`.
    Octal,
    /// A part of one: `0.95`.
    Ratio,
    /// One of the words.
    Enum(&'static [&'static str]),
}

impl Kind {
    /// Whether `text` has this syntax.
    pub fn accepts(self, text: &str) -> bool {
        match self {
            Kind::Text => true,
            Kind::Bool => parse_bool(text).is_some(),
            Kind::Int => text.trim().parse::<u64>().is_ok(),
            Kind::Bytes => parse_bytes(text).is_some(),
            Kind::Duration => parse_duration(text).is_some(),
            Kind::Port => text.trim().parse::<u16>().is_ok(),
            Kind::Octal => parse_octal(text).is_some(),
            Kind::Ratio => parse_ratio(text).is_some(),
            Kind::Enum(words) => find_word(words, text).is_some(),
        }
    }
}

impl fmt::Display for Kind {
    /// What is accepted, to go after "must be".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Text => f.write_str("text"),
            Kind::Bool => f.write_str("true or false"),
            Kind::Int => f.write_str("a whole number"),
            Kind::Bytes => f.write_str("a size such as 512KB, 64MB or 1GB"),
            Kind::Duration => f.write_str("a time such as 100ms, 30s, 5min, 1hour or 1day, or -1 for never"),
            Kind::Port => f.write_str("a port from 0 to 65535"),
            Kind::Octal => f.write_str("octal permission bits such as 022"),
            Kind::Ratio => f.write_str("a number from 0 to 1"),
            Kind::Enum(words) => write!(f, "{}", words.join(" or ")),
        }
    }
}

/// Which processes read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All.
    All,
    /// Masters.
    Master,
    /// Workers.
    Worker,
    /// Clients: FUSE, commands, gateways.
    Client,
    /// Masters and workers.
    Server,
    /// Nobody: accepted without effect. The value is still checked, and setting it is a warning.
    Nobody,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Scope::All => "all",
            Scope::Master => "master",
            Scope::Worker => "worker",
            Scope::Client => "client",
            Scope::Server => "master, worker",
            Scope::Nobody => "nobody: accepted without effect",
        })
    }
}

/// A property that we honour.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// `alluxio.…`
    pub name: &'static str,
    /// Text of the default; may name other keys as `${key}`.
    pub default: &'static str,
    /// Syntax.
    pub kind: Kind,
    /// Who reads it. A key that nobody reads says [`Scope::Nobody`]; a test finds those that do not.
    pub scope: Scope,
    /// What it does, with its unit; one or two sentences.
    pub doc: &'static str,
}

impl Key {
    /// Whether a value, references replaced, is right for this key.
    pub fn accepts(&self, value: &str) -> bool {
        (value.is_empty() && self.default.is_empty()) || self.kind.accepts(value)
    }
}

pub(super) fn parse_bool(text: &str) -> Option<bool> {
    let text = text.trim();
    if text.eq_ignore_ascii_case("true") {
        return Some(true);
    }
    text.eq_ignore_ascii_case("false").then_some(false)
}

pub(super) fn parse_octal(text: &str) -> Option<u32> {
    u32::from_str_radix(text.trim(), 8).ok().filter(|bits| *bits <= 0o7777)
}

pub(super) fn parse_ratio(text: &str) -> Option<f64> {
    text.trim().parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio))
}

/// The word as it is declared, however its letters are written.
pub(super) fn find_word(words: &[&'static str], text: &str) -> Option<&'static str> {
    words
        .iter()
        .find(|word| word.eq_ignore_ascii_case(text.trim()))
        .copied()
}

/// Splits `64MB` into 64 and its unit; the number may have a decimal point.
fn split_unit(text: &str) -> Option<(f64, String)> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    Some((number.parse().ok()?, unit.trim().to_ascii_lowercase()))
}

/// Parses a size; `None` if it is none, or more than there are numbers for.
pub fn parse_bytes(text: &str) -> Option<u64> {
    let (number, unit) = split_unit(text)?;
    let scale: u64 = match unit.as_str() {
        "" | "b" => 1,
        "k" | "kb" => 1 << 10,
        "m" | "mb" => 1 << 20,
        "g" | "gb" => 1 << 30,
        "t" | "tb" => 1 << 40,
        "p" | "pb" => 1 << 50,
        _ => return None,
    };
    let digits = text.trim().trim_end_matches(|c: char| !c.is_ascii_digit());
    // Exact where it can be: a fraction of a byte is of no interest, the last of 2^60 is.
    if let Ok(whole) = digits.parse::<u64>() {
        return whole.checked_mul(scale);
    }
    let bytes = number * scale as f64;
    (bytes < u64::MAX as f64).then_some(bytes as u64)
}

/// Parses a time; the outer `None` if it is none, the inner for "never" (negative).
pub fn parse_duration(text: &str) -> Option<Option<Duration>> {
    if let Some(negative) = text.trim().strip_prefix('-') {
        return split_unit(negative).map(|_| None);
    }
    let (number, unit) = split_unit(text)?;
    let seconds: f64 = match unit.as_str() {
        "" | "ms" | "msec" | "millisecond" => 1e-3,
        "s" | "sec" | "second" => 1.0,
        "m" | "min" | "minute" => 60.0,
        "h" | "hr" | "hour" => 3600.0,
        "d" | "day" => 86400.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number * seconds).ok().map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("64MB", 64 << 20),
            (" 1 gb ", 1 << 30),
            ("1.5k", 1536),
            ("2PB", 2 << 50),
            ("18446744073709551615", u64::MAX),
            ("10B", 10),
        ] {
            assert_eq!(parse_bytes(text), Some(bytes), "{text}");
        }
        for text in [
            "",
            "MB",
            "-1",
            "1XB",
            "1 2",
            "1.2.3MB",
            "99999999PB",
            "1e3",
            "18446744073709551616",
        ] {
            assert_eq!(parse_bytes(text), None, "{text}");
        }
    }

    #[test]
    fn times() {
        let ms = |n| Some(Some(Duration::from_millis(n)));
        for (text, time) in [
            ("0", ms(0)),
            ("200", ms(200)),
            ("100ms", ms(100)),
            ("30s", ms(30_000)),
            ("1.5 sec", ms(1500)),
            ("5min", ms(300_000)),
            ("3m", ms(180_000)),
            ("1hour", ms(3_600_000)),
            ("1day", ms(86_400_000)),
            ("-1", Some(None)),
            ("-1s", Some(None)),
            ("", None),
            ("-", None),
            ("-x", None),
            ("1week", None),
            ("s", None),
            ("99999999999999999999999999day", None),
        ] {
            assert_eq!(parse_duration(text), time, "{text}");
        }
    }

    #[test]
    fn other_kinds() {
        for (kind, good, bad) in [
            (Kind::Bool, "TRUE", "yes"),
            (Kind::Int, "12", "-1"),
            (Kind::Port, "0", "65536"),
            (Kind::Octal, "0755", "8"),
            (Kind::Ratio, "0.95", "1.5"),
            (Kind::Enum(&["SIMPLE", "NOSASL"]), "simple", "KERBEROS"),
        ] {
            assert!(kind.accepts(good), "{kind:?} {good}");
            assert!(!kind.accepts(bad), "{kind:?} {bad}");
        }
        assert!(!Kind::Ratio.accepts("NaN"));
    }

    proptest::proptest! {
        #[test]
        fn no_value_panics(text in "\\PC{0,30}") {
            for kind in [Kind::Bytes, Kind::Duration, Kind::Octal, Kind::Ratio, Kind::Port] {
                let _ = kind.accepts(&text);
            }
        }
    }
}
