//! Looking at an object before an opening of its file is answered.

use super::{Filler, base_lost, read_error};
use crate::flights::{FillError, Purpose};
use crate::store::{Entry, chunks_of};
use alluxio_proto::types::UfsSource;
use alluxio_proto::{ErrorKind, FsResult};
use alluxio_ufs::{UfsError, UfsErrorKind, UfsStatus};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::timeout_at;

/// For how long a store that did not say is not asked again about objects that are opened.
const AWAY_FOR: Duration = Duration::from_secs(5);
/// Longest wait of an opening for what a store says of an object, and for where it is if it is another one.
const LOOK_TIME_MAX: Duration = Duration::from_secs(3);

impl Filler {
    /// Sees to it, before an opening is answered, that what is missing of a file can be had: a small file is fetched, and of a
    /// larger one the object is looked at. So an opening fails, and not the first read after it, if the object is another one.
    ///
    /// # Errors
    /// `VersionMismatch`, or `DataLost` of a version that was made of it: the object is another one. Of a store that cannot say it
    /// is no error.
    pub async fn ensure_current(self: &Arc<Self>, entry: &Arc<Entry>, length: u64, whole_bytes: u64) -> FsResult<()> {
        let all = 0..chunks_of(length);
        if entry.missing(all.clone()).is_empty() {
            return Ok(());
        }
        let failed = match length <= whole_bytes {
            true => match self.ensure(entry, all, Purpose::Read).await {
                Ok(()) | Err(FillError::NotKept(_)) => None,
                Err(FillError::Source(error)) => Some(error),
            },
            false => self.look_at_source(entry).await.err(),
        };
        match failed {
            Some(error) if matches!(error.kind, ErrorKind::VersionMismatch | ErrorKind::DataLost) => Err(error),
            // The read itself will find a way, or say why there is none.
            Some(error) => {
                tracing::debug!(%error, inode = entry.inode.get(), "whether the object is what it was is not known");
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Whether the object that missing bytes come from is what it was. Within [`LOOK_TIME_MAX`]: of what is here much can be read
    /// though the store is away, or slow to say.
    async fn look_at_source(self: &Arc<Self>, entry: &Arc<Entry>) -> FsResult<()> {
        let deadline = tokio::time::Instant::now() + LOOK_TIME_MAX;
        let mut is_silent = true;
        while let Some((source, _, _)) = entry.source() {
            if self.is_away(source.mount_id) {
                return Ok(());
            }
            let error = match timeout_at(deadline, self.status_of(&source)).await {
                Ok(Ok(there)) if there.fingerprint == source.fingerprint => return Ok(()),
                Ok(Ok(_)) => read_error(
                    &source,
                    UfsError::new(UfsErrorKind::PreconditionFailed, "it has changed"),
                ),
                Ok(Err(error)) => error,
                Err(_) => {
                    if is_silent {
                        self.note_away(source.mount_id);
                    }
                    return Ok(());
                }
            };
            is_silent = false;
            let is_another = error.kind == ErrorKind::VersionMismatch;
            match timeout_at(deadline, async { is_another && self.mismatch(entry, &source).await }).await {
                Ok(true) => {}
                Ok(false) => return Err(base_lost(entry, error)),
                Err(_) => return Ok(()),
            }
        }
        Ok(())
    }

    async fn status_of(&self, source: &UfsSource) -> FsResult<UfsStatus> {
        let ufs = self.clients.get(source.mount_id).await?;
        let status = ufs.status(&source.path).await;
        status.map_err(|error| read_error(source, error))
    }

    /// Whether the store of a mount did not answer a moment ago: who opens many files waits for it once.
    fn is_away(&self, mount_id: u64) -> bool {
        let mut away = self.away.lock();
        let Some(until) = away.get(&mount_id) else { return false };
        let is_away = Instant::now() < *until;
        if !is_away {
            away.remove(&mount_id);
        }
        is_away
    }

    fn note_away(&self, mount_id: u64) {
        // One for each mount, at most.
        self.away.lock().insert(mount_id, Instant::now() + AWAY_FOR);
    }
}
