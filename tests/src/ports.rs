//! Free TCP ports on loopback.

use std::fs::File;
use std::net::TcpListener;
use std::sync::{Mutex, PoisonError};

/// Ports that tests take, below the range from which the kernel hands out ports to connections: no client's own port can
/// take one away between a test's look and its server's start.
const FIRST: u16 = 16_000;
const LAST: u16 = 31_999;

/// Locks of the ports that this process took, held until it ends.
static TAKEN: Mutex<Vec<(u16, File)>> = Mutex::new(Vec::new());

/// A port that is free, and that no other test takes as long as this process lives: test programs run side by side, and a
/// server that is started again wants its port back. A file per port in the scratch folder says so by a lock, which ends
/// with the process.
///
/// # Panics
/// If none is free.
pub fn free() -> u16 {
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = std::env::temp_dir().join("alluxio-test-ports");
    std::fs::create_dir_all(&dir).expect("make the folder of the ports' locks");
    let count = LAST - FIRST + 1;
    let start = rand::random_range(0..count);
    for step in 0..count {
        let port = FIRST + (start + step) % count;
        if taken.iter().any(|(other, _)| *other == port) {
            continue;
        }
        let lock = File::create(dir.join(port.to_string())).expect("make a port's lock");
        if lock.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            taken.push((port, lock));
            return port;
        }
    }
    panic!("no port from {FIRST} to {LAST} is free");
}
