//! Room on the disk for what a program writes.

use crate::core::Core;
use crate::store::{Entry, blocking};
use alluxio_proto::{ErrorKind, FsResult};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a write waits for files to be persisted, whose room it can have then. A store that takes longer for all that is
/// on its way to it is as good as full.
const WAIT_MAX: Duration = Duration::from_secs(20);
/// How often it is looked whether there is room.
const PAUSE: Duration = Duration::from_millis(100);

impl Core {
    /// Runs what writes `bytes` bytes into a file. Whatever the quota says, what a program writes has the disk's own limit, and
    /// the cache gives way. On a full disk, closed files that are not in their under-storage yet are waited for: most are on
    /// their way there. `work` is run again then, from its beginning.
    ///
    /// # Errors
    /// `NoSpace` if there is nothing to wait for, or it takes too long; others of `work`.
    pub async fn with_room(
        &self,
        entry: &Arc<Entry>,
        bytes: u64,
        work: impl Fn(&Entry) -> FsResult<()> + Clone + Send + 'static,
    ) -> FsResult<()> {
        let started = Instant::now();
        let mut is_last = false;
        loop {
            let (store, target, work) = (Arc::clone(&self.store), Arc::clone(entry), work.clone());
            let done = blocking(move || {
                store.make_room(bytes, target.inode);
                work(&target)
            });
            let error = match done.await {
                Err(error) if error.kind == ErrorKind::NoSpace => error,
                other => return other,
            };
            if is_last || started.elapsed() >= WAIT_MAX {
                return Err(error);
            }
            let store = Arc::clone(&self.store);
            // What was persisted since room was made can go now: one more try, when there is nothing else to wait for.
            is_last = !blocking(move || Ok(store.holds_unpersisted())).await?;
            tracing::debug!(%error, "the disk is full: waiting for files to be persisted");
            tokio::time::sleep(PAUSE).await;
        }
    }
}
