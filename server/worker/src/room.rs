//! Room on the disk for what a program writes.

use crate::core::Core;
use crate::store::{Entry, Outlook, blocking};
use alluxio_proto::{ErrorKind, FsResult};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a write waits for files to be persisted, whose room it can have then. A store that takes longer for all that is
/// on its way to it is as good as full.
const WAIT_MAX: Duration = Duration::from_secs(20);
/// And if none of them is being uploaded: more than the master's patience with changes, which it lets go first. What is not to be
/// persisted at all (`MUST_CACHE`) looks the same from here.
const IDLE_MAX: Duration = Duration::from_secs(5);
/// How often it is looked whether there is room.
const PAUSE: Duration = Duration::from_millis(100);

impl Core {
    /// Runs what writes `bytes` bytes into a file. Whatever the quota says, what a program writes has the disk's own limit, and
    /// the cache gives way. On a full disk, closed files that are not in their under-storage yet are waited for: most are on
    /// their way there. `work` is run again then, from its beginning.
    ///
    /// # Errors
    /// `NoSpace` if there is nothing to wait for, or it takes too long; others of `work`.
    pub async fn with_room<T: Send + 'static>(
        &self,
        entry: &Arc<Entry>,
        bytes: u64,
        work: impl Fn(&Entry) -> FsResult<T> + Clone + Send + 'static,
    ) -> FsResult<T> {
        let started = Instant::now();
        let (mut last_sign, mut is_last) = (started, false);
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
            if is_last {
                return Err(error);
            }
            if started.elapsed() >= WAIT_MAX || last_sign.elapsed() >= IDLE_MAX {
                self.store.space.note_vain_wait();
                return Err(error);
            }
            let store = Arc::clone(&self.store);
            match blocking(move || Ok(store.outlook())).await? {
                Outlook::Uploading => last_sign = Instant::now(),
                Outlook::Closed if self.store.space.is_wait_vain() => return Err(error),
                Outlook::Closed => {}
                // What was persisted since room was made can go now: one more try.
                Outlook::Nothing => is_last = true,
            }
            tracing::debug!(%error, "the disk is full: waiting for files to be persisted");
            tokio::time::sleep(PAUSE).await;
        }
    }
}
