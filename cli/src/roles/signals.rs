//! Ctrl-C and SIGTERM: the first asks for an orderly end, the second Ctrl-C ends at once.

use alluxio_proto::{FsError, FsResult};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// What a shell shows for a process that Ctrl-C ended.
const STATUS_INTERRUPTED: i32 = 128 + 2;

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
        let mut interrupts = 0;
        loop {
            let name = tokio::select! {
                _ = interrupt.recv() => { interrupts += 1; "SIGINT" }
                _ = terminate.recv() => "SIGTERM",
                _ = hangup.recv() => "SIGHUP",
            };
            if interrupts > 1 {
                eprintln!("alluxio: ended at once; what is not persisted yet goes on at the next start");
                std::process::exit(STATUS_INTERRUPTED);
            }
            tracing::info!("{name}: ending");
            stop.cancel();
        }
    });
    Ok(())
}
