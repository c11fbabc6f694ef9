//! Waiting for a condition, with a limit.

use std::time::{Duration, Instant};

/// Polls `condition` until it is true.
///
/// # Panics
/// When `limit` has passed, saying what was waited for.
pub fn until(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < limit, "waited {limit:?} in vain for: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether something listens on the loopback port.
pub fn listens(port: u16) -> bool {
    std::net::TcpStream::connect_timeout(&([127, 0, 0, 1], port).into(), Duration::from_millis(200)).is_ok()
}
