//! Numbers for people, as Alluxio prints them.

/// A size: `5120B`, `10.00KB`, `65.71MB`. A unit is used up to five of the next, so that small sizes stay exact.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KB", "MB", "GB", "TB", "PB"];
    const UP_TO: f64 = 5.0 * 1024.0;
    let mut value = bytes as f64;
    if value <= UP_TO {
        return format!("{bytes}B");
    }
    for unit in UNITS {
        value /= 1024.0;
        if value <= UP_TO {
            return format!("{value:.2}{unit}");
        }
    }
    format!("{value:.2}PB")
}

#[cfg(test)]
mod tests {
    #[test]
    fn sizes_as_alluxio_prints_them() {
        for (bytes, text) in [
            (0, "0B"),
            (1024, "1024B"),
            (5120, "5120B"),
            (5121, "5.00KB"),
            (10 << 10, "10.00KB"),
            (5 << 20, "5120.00KB"),
            (68_902_000, "65.71MB"),
            (16 << 30, "16.00GB"),
            (6 << 40, "6.00TB"),
            (u64::MAX, "16384.00PB"),
        ] {
            assert_eq!(super::bytes(bytes), text);
        }
    }
}
