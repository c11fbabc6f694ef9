//! Making an entry durable, and remembering for ever that it failed.

use super::entry::Entry;
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
            self.sync_failed.store(true, Ordering::Release);
        }
        result
    }

    /// Syncs the sidecar; as [`Self::sync_data`] otherwise.
    pub(super) fn sync_sidecar(&self) -> IoResult<()> {
        let result = self.sidecar.sync();
        if result.is_err() {
            self.sync_failed.store(true, Ordering::Release);
        }
        result
    }

    /// # Errors
    /// If a sync has failed since the file was made, loaded or emptied.
    pub fn check_synced(&self) -> IoResult<()> {
        match self.sync_failed.load(Ordering::Acquire) {
            true => Err(std::io::Error::other(
                "a sync of it failed before, so what was written may not be on disk; write the file anew",
            )),
            false => Ok(()),
        }
    }

    /// Nothing is left of what a sync that failed was of.
    pub fn forget_failed_sync(&self) {
        self.sync_failed.store(false, Ordering::Release);
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
                self.sync_failed.store(true, Ordering::Release);
            }
            data.and(sidecar).and_then(|()| sync_names())
        })
    }
}
