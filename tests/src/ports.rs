//! Free TCP ports on loopback.

use std::net::TcpListener;

/// A port that was free a moment ago. Ports come from the kernel's ephemeral range, which hands them out in turn, so two
/// callers do not get the same one soon.
pub fn free() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind an ephemeral port on loopback");
    listener.local_addr().expect("address of a bound listener").port()
}
