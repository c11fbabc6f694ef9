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

/// Runs what may hang in a system call, on a thread of its own.
///
/// # Panics
/// When `limit` has passed. The thread is left behind: what it waits for ends with the test's mount.
pub fn within<T: Send + 'static>(what: &str, limit: Duration, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        // Nobody listens any more once the limit has passed.
        let _ = send.send(work());
    });
    receive
        .recv_timeout(limit)
        .unwrap_or_else(|error| panic!("{what}: no end within {limit:?} ({error})"))
}

/// Whether something listens on the loopback port.
pub fn listens(port: u16) -> bool {
    std::net::TcpStream::connect_timeout(&([127, 0, 0, 1], port).into(), Duration::from_millis(200)).is_ok()
}
