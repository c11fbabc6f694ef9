//! Making an entry durable, and remembering that it failed: until the file is emptied, recovered, or fetched again.

use super::entry::Entry;
use super::state::State;
use crate::io::FileStat;
use alluxio_common::crashsafe;
use std::io::Result as IoResult;
use std::sync::atomic::Ordering;

impl Entry {
    /// Syncs the data file: fdatasync(2), or fsync(2) if `metadata`.
    ///
    /// # Errors
    /// The disk's; and for ever after the first.
    pub fn sync_data(&self, metadata: bool) -> IoResult<()> {
        self.check_synced()?;
        let result = match metadata {
            true => self.data.sync_all(),
            false => self.data.sync_data(),
        };
        if result.is_err() {
            self.note_failed_sync();
        }
        result
    }

    /// Syncs the sidecar; as [`Self::sync_data`] otherwise.
    pub(super) fn sync_sidecar(&self) -> IoResult<()> {
        let result = self.sidecar.sync();
        if result.is_err() {
            self.note_failed_sync();
        }
        result
    }

    /// # Errors
    /// If a sync has failed since the file was made, emptied or recovered.
    pub fn check_synced(&self) -> IoResult<()> {
        match self.sync_failed.load(Ordering::Acquire) {
            true => Err(std::io::Error::other(
                "a sync of it failed before, so what was written may not be on disk; write the file anew",
            )),
            false => Ok(()),
        }
    }

    /// Whether a sync failed of what the under-storage has as well: the kernel may read other bytes from the disk later than it has
    /// in memory now, so the file is fetched again.
    pub fn is_to_be_fetched_again(&self) -> bool {
        self.check_synced().is_err() && matches!(self.inner.lock().label.state(), State::Cached { .. })
    }

    /// The kernel will not say it again, to the next process of ours neither: it is noted in the sidecar, as far as the disk takes
    /// that.
    fn note_failed_sync(&self) {
        if self.sync_failed.swap(true, Ordering::AcqRel) {
            return;
        }
        if let Err(error) = self.change(|label| label.note_failed_sync(true)) {
            tracing::warn!(%error, inode = self.inode.get(), "note that a sync failed");
        }
    }

    /// What the process before this one noted.
    pub(super) fn take_up_failed_sync(&self) {
        let failed = self.inner.lock().label.sync_failed;
        self.sync_failed.store(failed, Ordering::Release);
    }

    /// Nothing is left of what a sync that failed was of, or its writers were told and nothing better is anywhere.
    ///
    /// # Errors
    /// Of writing the sidecar; then it still counts as failed.
    pub fn forget_failed_sync(&self) -> IoResult<()> {
        if self.check_synced().is_err() {
            self.change(|label| label.note_failed_sync(false))?;
            self.sync_failed.store(false, Ordering::Release);
        }
        Ok(())
    }

    /// Makes data, sidecar and names durable: all at once, so that a journaling file system commits once for them.
    pub fn sync(&self, stat: &FileStat, metadata: bool) -> IoResult<()> {
        let sync_names = || {
            if self.names_synced.load(Ordering::Acquire) {
                return Ok(());
            }
            if let Some(dir) = self.paths.0.parent() {
                crashsafe::sync_dir(dir)?;
            }
            self.names_synced.store(true, Ordering::Release);
            Ok(())
        };
        std::thread::scope(|scope| {
            let sidecar = scope.spawn(|| self.sidecar.sync());
            let data = match metadata {
                false if stat.size == 0 => Ok(()),
                _ => self.sync_data(metadata),
            };
            let sidecar = sidecar
                .join()
                .unwrap_or_else(|_| Err(std::io::Error::other("a sync panicked")));
            if sidecar.is_err() {
                self.note_failed_sync();
            }
            data.and(sidecar).and_then(|()| sync_names())
        })
    }
}
