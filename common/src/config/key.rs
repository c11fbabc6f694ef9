//! One property key and the syntax of values.

use std::time::Duration;

/// Syntax of a value.
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
    /// Who reads it.
    pub scope: Scope,
    /// What it does, with its unit; one or two sentences.
    pub doc: &'static str,
}

/// Parses a size; `None` if it is none.
pub fn parse_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let scale: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" => 1 << 10,
        "m" | "mb" => 1 << 20,
        "g" | "gb" => 1 << 30,
        "t" | "tb" => 1 << 40,
        "p" | "pb" => 1 << 50,
        _ => return None,
    };
    let value: f64 = number.parse().ok()?;
    Some((value * scale as f64) as u64)
}

/// Parses a time; the outer `None` if it is none, the inner for "never" (negative).
pub fn parse_duration(text: &str) -> Option<Option<Duration>> {
    let text = text.trim();
    if text.starts_with('-') {
        return Some(None);
    }
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let ms: f64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "ms" | "msec" => 1.0,
        "s" | "sec" | "second" => 1e3,
        "m" | "min" | "minute" => 60e3,
        "h" | "hr" | "hour" => 3600e3,
        "d" | "day" => 86400e3,
        _ => return None,
    };
    let value: f64 = number.parse().ok()?;
    Some(Some(Duration::from_secs_f64(value * ms / 1e3)))
}
