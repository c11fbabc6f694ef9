//! Snapshots while serving, and dropping the log that they make superfluous.
//!
//! Files are written by our own task, not by the log's back end, because a snapshot that fails (a full disk) must not end the
//! journal. The back end is told afterwards. The log is kept from the older of the two snapshots on, so that either can
//! be restored.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use alluxio_common::clock::Clock;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::{JournalError, JournalOptions, StateMachine, applier::Applier, error::Result, log::Log, wal::WalReader};

/// After a snapshot that failed, the next is not tried before this, unless it is asked for.
const RETRY: Duration = Duration::from_secs(60);

/// Someone wants a snapshot.
pub(crate) enum Checkpoint {
    /// A caller, who gets the index of the last entry in it.
    Wanted(oneshot::Sender<Result<u64>>),
    /// The log has grown long.
    Due,
}

/// Decides when a snapshot is due.
pub(crate) struct Trigger {
    commands_max: u64,
    bytes_max: u64,
    checkpoints: mpsc::Sender<Checkpoint>,
    not_before: Option<Instant>,
    clock: Clock,
}

impl Trigger {
    pub fn new(options: &JournalOptions, checkpoints: mpsc::Sender<Checkpoint>) -> Self {
        Self {
            commands_max: options.snapshot_entries_max.max(1),
            bytes_max: options.snapshot_bytes_max.max(1),
            checkpoints,
            not_before: None,
            clock: options.clock.clone(),
        }
    }

    /// Asks for a snapshot if there is a reason.
    pub fn check<S: StateMachine>(&mut self, applier: &Applier<S>, log: &WalReader) {
        let is_long = applier.commands_since_snapshot() >= self.commands_max
            || log.bytes_after(applier.snapshot_index()) >= self.bytes_max;
        if !is_long || self.not_before.is_some_and(|at| self.clock.now() < at) {
            return;
        }
        // While one is being written the count stays high; asking again at each batch would pile up requests.
        self.not_before = Some(self.clock.now() + RETRY);
        // A full queue means that snapshots are being taken.
        let _ = self.checkpoints.try_send(Checkpoint::Due);
    }
}

/// Takes snapshots as they are asked for, one at a time, until it is stopped; then ends the one under way first.
pub(crate) async fn run<S: StateMachine>(
    clock: Clock,
    log: Arc<impl Log>,
    applier: Arc<Applier<S>>,
    mut wanted: mpsc::Receiver<Checkpoint>,
    stop: CancellationToken,
) {
    while let Some(Some(checkpoint)) = stop.run_until_cancelled(wanted.recv()).await {
        let result = take(&clock, log.as_ref(), &applier).await;
        match (checkpoint, result) {
            // A caller that gave up does not hear of it.
            (Checkpoint::Wanted(caller), result) => drop(caller.send(result)),
            (Checkpoint::Due, Ok(_)) => {}
            (Checkpoint::Due, Err(error)) => {
                tracing::error!(%error, "no snapshot could be taken, so the log goes on growing; trying again later");
            }
        }
    }
}

async fn take<S: StateMachine>(clock: &Clock, log: &impl Log, applier: &Arc<Applier<S>>) -> Result<u64> {
    let began = clock.now();
    let failed = |reason: String| JournalError::Failed { reason };
    let writer = applier.clone();
    let written = tokio::task::spawn_blocking(move || {
        let info = writer.take_snapshot()?;
        let keep_from = writer.snapshots().prune()?;
        Ok((info, keep_from))
    });
    let written: std::io::Result<_> = written.await.map_err(|e| failed(e.to_string()))?;
    let (info, keep_from) = written.map_err(JournalError::io("take a snapshot"))?;
    let Some(info) = info else { return Ok(0) };
    log.trim(info.index, keep_from).await?;
    tracing::info!(
        index = info.index,
        bytes = info.bytes,
        log_kept_after = keep_from,
        elapsed_ms = (clock.now() - began).as_millis() as u64,
        "snapshot taken"
    );
    Ok(info.index)
}
