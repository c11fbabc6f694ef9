//! What commands print: results to stdout, one line per failure to stderr; sizes, shares and times as Alluxio writes them.

use alluxio_proto::master::StoreAway;
use chrono::{DateTime, FixedOffset, Local, TimeZone};
use std::io::{self, BufWriter, IsTerminal, Write};

/// Where results go. A closed pipe is an error like any other here; the end of the command decides.
pub struct Out {
    to: Box<dyn Write>,
    terminal: bool,
}

impl Out {
    /// Standard output: by lines on a terminal, by blocks else.
    pub fn stdout() -> Self {
        let terminal = io::stdout().is_terminal();
        let to: Box<dyn Write> = if terminal {
            Box::new(io::stdout())
        } else {
            Box::new(BufWriter::with_capacity(64 * 1024, io::stdout()))
        };
        Self { to, terminal }
    }

    /// One line.
    pub fn line(&mut self, line: impl AsRef<str>) -> io::Result<()> {
        self.raw_line(line.as_ref().as_bytes())
    }

    /// One line that may hold names, which are bytes. On a terminal what would steer it is shown as `?`, as ls does.
    pub fn raw_line(&mut self, line: &[u8]) -> io::Result<()> {
        if self.terminal && line.iter().any(u8::is_ascii_control) {
            let shown: Vec<u8> = line
                .iter()
                .map(|b| if b.is_ascii_control() { b'?' } else { *b })
                .collect();
            self.to.write_all(&shown)?;
        } else {
            self.to.write_all(line)?;
        }
        self.to.write_all(b"\n")
    }

    /// Contents of a file.
    pub fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.to.write_all(bytes)
    }

    /// One JSON object on a line.
    pub fn json(&mut self, value: &serde_json::Value) -> io::Result<()> {
        self.line(value.to_string())
    }

    /// JSON for a person and a program.
    pub fn json_pretty(&mut self, value: &serde_json::Value) -> io::Result<()> {
        self.bytes(format!("{value:#}\n").as_bytes())
    }

    /// Hands on what is buffered.
    pub fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Says what went wrong, on one line. A closed stderr is nobody who could be told.
pub fn complain(what: impl std::fmt::Display) {
    let line = what.to_string().replace('\n', " ");
    let _ = writeln!(io::stderr(), "alluxio: {line}");
}

/// A size as Alluxio prints it for people: `10B`, `5.00KB`, `1.50GB`. Up to 5 of a unit stay in the unit below.
pub fn human_size(bytes: u64) -> String {
    const LIMIT: f64 = 5.0 * 1024.0;
    if bytes <= 5 * 1024 {
        return format!("{bytes}B");
    }
    let mut value = bytes as f64 / 1024.0;
    for unit in ["KB", "MB", "GB", "TB"] {
        if value <= LIMIT {
            return format!("{value:.2}{unit}");
        }
        value /= 1024.0;
    }
    format!("{value:.2}PB")
}

/// A size as asked for.
pub fn size(bytes: u64, human: bool) -> String {
    if human { human_size(bytes) } else { bytes.to_string() }
}

/// `part` of `whole` in whole percent, rounded down; `of_nothing` if there is nothing to have a part of.
pub fn percent(part: u64, whole: u64, of_nothing: u64) -> u64 {
    if whole == 0 {
        return of_nothing;
    }
    u64::try_from(u128::from(part) * 100 / u128::from(whole)).unwrap_or(u64::MAX)
}

/// Names as text, for JSON and messages.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Milliseconds since 1970 of nanoseconds since then.
pub fn milliseconds(nanoseconds: i64) -> i64 {
    nanoseconds.div_euclid(1_000_000)
}

/// A time in the local zone, by a pattern of Java's SimpleDateFormat.
pub fn local_time(milliseconds: i64, pattern: &str) -> String {
    match Local.timestamp_millis_opt(milliseconds).single() {
        Some(time) => format_time(&time.fixed_offset(), pattern),
        None => milliseconds.to_string(),
    }
}

/// A line for each store that does not answer.
pub fn away_lines(away: &[StoreAway], pattern: &str) -> Vec<String> {
    let line = |away: &StoreAway| {
        let since = local_time(i64::try_from(away.since_ms).unwrap_or(i64::MAX), pattern);
        format!(
            "{} at {} does not answer since {since}: {}",
            away.uri,
            text(&away.path),
            away.error
        )
    };
    away.iter().map(line).collect()
}

/// Letters of SimpleDateFormat that we know; others stand for themselves, and so does text between apostrophes.
pub fn format_time(time: &DateTime<FixedOffset>, pattern: &str) -> String {
    let mut out = String::new();
    let mut rest = pattern;
    while let Some(letter) = rest.chars().next() {
        if let Some(quoted) = rest.strip_prefix('\'') {
            rest = push_quoted(&mut out, quoted);
            continue;
        }
        let count = rest.chars().take_while(|c| *c == letter).count();
        let piece = &rest[..count * letter.len_utf8()];
        rest = &rest[piece.len()..];
        match strftime(letter, count) {
            Some(format) => out.push_str(&time.format(format).to_string()),
            None => out.push_str(piece),
        }
    }
    out
}

/// Text up to the closing apostrophe; two of them are one, also outside of quotes. Returns what follows.
fn push_quoted<'a>(out: &mut String, quoted: &'a str) -> &'a str {
    if let Some(rest) = quoted.strip_prefix('\'') {
        out.push('\'');
        return rest;
    }
    let mut rest = quoted;
    while let Some((text, after)) = rest.split_once('\'') {
        out.push_str(text);
        match after.strip_prefix('\'') {
            Some(more) => {
                out.push('\'');
                rest = more;
            }
            None => return after,
        }
    }
    out.push_str(rest);
    ""
}

fn strftime(letter: char, count: usize) -> Option<&'static str> {
    Some(match (letter, count) {
        ('y', 2) => "%y",
        ('y', _) => "%Y",
        ('M', 1) => "%-m",
        ('M', 2) => "%m",
        ('M', 3) => "%b",
        ('M', _) => "%B",
        ('d', 1) => "%-d",
        ('d', _) => "%d",
        ('D', _) => "%j",
        ('H', 1) => "%-H",
        ('H', _) => "%H",
        ('h', 1) => "%-I",
        ('h', _) => "%I",
        ('m', 1) => "%-M",
        ('m', _) => "%M",
        ('s', 1) => "%-S",
        ('s', _) => "%S",
        ('S', _) => "%3f",
        ('a', _) => "%p",
        ('E', 4..) => "%A",
        ('E', _) => "%a",
        ('Z', _) => "%z",
        ('X', _) | ('z', _) => "%:z",
        _ => return None,
    })
}

/// A span of time as Alluxio writes it.
pub fn clock_time(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    format!(
        "{days} day(s), {hours} hour(s), {minutes} minute(s), and {} second(s)",
        seconds % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_for_people() {
        for (bytes, shown) in [
            (0, "0B"),
            (5120, "5120B"),
            (5121, "5.00KB"),
            (3 << 20, "3072.00KB"),
            (6 << 20, "6.00MB"),
            (16 << 30, "16.00GB"),
            (u64::MAX, "16384.00PB"),
        ] {
            assert_eq!(human_size(bytes), shown);
        }
    }

    #[test]
    fn shares() {
        assert_eq!(percent(1, 3, 0), 33);
        assert_eq!(percent(0, 0, 100), 100);
        assert_eq!(percent(u64::MAX, u64::MAX, 0), 100);
    }

    #[test]
    fn times_by_pattern() {
        let time = DateTime::parse_from_rfc3339("2026-11-21T10:05:09.042+01:00").unwrap();
        for (pattern, shown) in [
            ("MM-dd-yyyy HH:mm:ss:SSS", "11-21-2026 10:05:09:042"),
            ("yyyy-MM-dd'T'HH:mm:ssXXX", "2026-11-21T10:05:09+01:00"),
            ("d MMM yy, h 'o''clock' a", "21 Nov 26, 10 o'clock AM"),
            ("%Y 'open", "%Y open"),
            ("yyyy''MM", "2026'11"),
        ] {
            assert_eq!(format_time(&time, pattern), shown);
        }
    }

    #[test]
    fn spans() {
        assert_eq!(
            clock_time(90_061_000),
            "1 day(s), 1 hour(s), 1 minute(s), and 1 second(s)"
        );
    }
}
