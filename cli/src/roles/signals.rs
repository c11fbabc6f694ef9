//! Ctrl-C and SIGTERM: the first asks for an orderly end, the second ends at once.

use alluxio_proto::{FsError, FsResult};
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// What a shell shows for a process that a signal ended, above its number.
const STATUS_SIGNAL: i32 = 128;
/// A SIGTERM this soon after another signal is the same one: `timeout` and wrappers send it to the process and to its group.
const SAME_SIGNAL: Duration = Duration::from_secs(1);

/// Which signals came.
#[derive(Debug, Default)]
struct Seen {
    first: Option<Instant>,
    interrupts: u32,
}

impl Seen {
    /// Notes one; says whether it is to end everything at once. A terminal that is gone is nobody's haste.
    fn is_final(&mut self, kind: SignalKind, now: Instant) -> bool {
        let first = *self.first.get_or_insert(now);
        if kind == SignalKind::interrupt() {
            self.interrupts += 1;
        }
        let is_second = kind != SignalKind::hangup() && now.duration_since(first) >= SAME_SIGNAL;
        self.interrupts > 1 || is_second
    }
}

/// Cancels `stop` at the first signal. SIGHUP counts too: the terminal is gone.
///
/// # Errors
/// If handlers cannot be installed.
pub fn cancel_on_signal(stop: &CancellationToken) -> FsResult<()> {
    let listen = |kind| signal(kind).map_err(|error| FsError::from_io("listen for signals", &error));
    let (mut interrupt, mut terminate, mut hangup) = (
        listen(SignalKind::interrupt())?,
        listen(SignalKind::terminate())?,
        listen(SignalKind::hangup())?,
    );
    let stop = stop.clone();
    tokio::spawn(async move {
        let mut seen = Seen::default();
        loop {
            let (name, kind) = tokio::select! {
                _ = interrupt.recv() => ("SIGINT", SignalKind::interrupt()),
                _ = terminate.recv() => ("SIGTERM", SignalKind::terminate()),
                _ = hangup.recv() => ("SIGHUP", SignalKind::hangup()),
            };
            if seen.is_final(kind, Instant::now()) {
                eprintln!("alluxio: ended at once; what is not persisted yet goes on at the next start");
                std::process::exit(STATUS_SIGNAL + kind.as_raw_value());
            }
            tracing::info!("{name}: ending");
            stop.cancel();
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_signal_is_final() {
        let (interrupt, terminate, hangup) = (SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup());
        let start = Instant::now();
        let last = |signals: &[(SignalKind, u64)]| {
            let mut seen = Seen::default();
            let finals = signals
                .iter()
                .map(|(kind, ms)| seen.is_final(*kind, start + Duration::from_millis(*ms)));
            finals.collect::<Vec<_>>().pop().unwrap()
        };
        assert!(!last(&[(terminate, 0)]));
        assert!(last(&[(terminate, 0), (terminate, 2000)]));
        assert!(last(&[(interrupt, 0), (interrupt, 1)]), "a person pressed it twice");
        assert!(last(&[(interrupt, 0), (terminate, 2000)]) && last(&[(terminate, 0), (interrupt, 2000)]));
        // One signal that comes to the process and to its group.
        assert!(!last(&[(terminate, 0), (terminate, 1)]) && !last(&[(interrupt, 0), (terminate, 1)]));
        assert!(!last(&[(terminate, 0), (hangup, 2000)]));
    }
}
