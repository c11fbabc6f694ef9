//! Room on the disk for what a program writes.

use crate::core::Core;
use crate::store::{Entry, Outlook, blocking};
use alluxio_proto::{ErrorKind, FsError, FsResult, InodeId};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a write waits for files to be persisted, whose room it can have then. A store that takes longer for all that is
/// on its way to it is as good as full.
const WAIT_MAX: Duration = Duration::from_secs(20);
/// And if none of them is being uploaded: more than the master's patience with changes, which it lets go first. What is not to be
/// persisted at all (`MUST_CACHE`) looks the same from here.
const IDLE_MAX: Duration = Duration::from_secs(5);
/// How long it waits for a file to be spilled, whose upload may be as large as the disk: as long as that gets on, but less than
/// whoever asked for the write waits for the answer.
const SPILL_MAX: Duration = Duration::from_secs(8 * 60);
/// How long a write past us waits with the lock of its inode, as long as the last of the disk is not gone: who closes, removes or
/// renames the file waits as well, and cannot be killed meanwhile (the kernel reports that after 120 s).
const LOCKED_MAX: Duration = Duration::from_secs(10);
/// How often it is looked whether there is room.
const PAUSE: Duration = Duration::from_millis(100);
/// What waits longer says so, once.
const SAY_AFTER: Duration = Duration::from_secs(5);

/// How long one write has waited, and for what.
struct Wait {
    started: Instant,
    last_sign: Instant,
    last_look: Instant,
    /// Of the time since the start, that in which a file was being spilled.
    spilling: Duration,
    is_said: bool,
}

impl Wait {
    fn new() -> Self {
        let started = Instant::now();
        Self {
            started,
            last_sign: started,
            last_look: started,
            spilling: Duration::ZERO,
            is_said: false,
        }
    }

    fn is_over(&self) -> bool {
        let waited = self.started.elapsed();
        waited >= SPILL_MAX || waited.saturating_sub(self.spilling) >= WAIT_MAX
    }

    async fn pause(&mut self, inode: InodeId, is_spilling: bool) {
        if self.started.elapsed() >= SAY_AFTER && !std::mem::replace(&mut self.is_said, true) {
            let left_s = SPILL_MAX.saturating_sub(self.started.elapsed()).as_secs();
            tracing::warn!(
                inode = inode.get(),
                is_spilling,
                left_s,
                "the disk of the cache is full: a write waits until what was written before is uploaded"
            );
        }
        tokio::time::sleep(PAUSE).await;
        let now = Instant::now();
        let since = now - std::mem::replace(&mut self.last_look, now);
        if is_spilling {
            self.last_sign = now;
            self.spilling += since;
        }
    }
}

impl Core {
    /// Runs what writes `bytes` bytes into a file; 0: what makes one, or changes no bytes of it. Whatever the quota says, what a program writes has the disk's own limit, and
    /// the cache gives way. On a full disk, closed files that are not in their under-storage yet are waited for: most are on
    /// their way there; and open ones are spilled. `work` is run again then, from its beginning: it takes the turn, which nobody
    /// has who waits here, and makes room ([`Self::in_room`]).
    ///
    /// # Errors
    /// `NoSpace` if there is nothing to wait for, or it takes too long; others of `work`.
    pub async fn with_room<T, F: Future<Output = FsResult<T>> + Send>(
        &self,
        inode: InodeId,
        bytes: u64,
        work: impl Fn() -> F + Sync,
    ) -> FsResult<T> {
        let (mut wait, mut is_last) = (Wait::new(), false);
        let mut refused: Option<FsError> = None;
        loop {
            if self.is_to_wait(bytes, &wait).await? {
                wait.pause(inode, self.is_spilling_now()).await;
                (is_last, wait.last_sign) = (false, Instant::now());
                continue;
            }
            let error = match refused.take() {
                // Tries would eat what others give up on a full disk, so that files can be removed: the master's ballast, say.
                Some(error) if !self.has_room_again(inode, bytes).await? => error,
                _ => match work().await {
                    Err(error) if error.kind == ErrorKind::NoSpace => error,
                    other => return other,
                },
            };
            if is_last || self.store.is_beyond(bytes) {
                return Err(error);
            }
            if wait.is_over() || wait.last_sign.elapsed() >= IDLE_MAX {
                self.store.space.note_vain_wait();
                return Err(error);
            }
            match self.outlook().await? {
                Outlook::Uploading => wait.last_sign = Instant::now(),
                Outlook::Closed if self.store.space.is_wait_vain() => return Err(error),
                Outlook::Closed => {}
                // What was persisted since room was made can go now: one more try.
                Outlook::Nothing => is_last = true,
            }
            tracing::debug!(%error, "the disk is full: waiting for files to be persisted");
            refused = Some(error);
            wait.pause(inode, self.is_spilling_now()).await;
        }
    }

    /// Whether there is more than the last of the disk again, after a try that met its end.
    async fn has_room_again(&self, inode: InodeId, bytes: u64) -> FsResult<bool> {
        let store = Arc::clone(&self.store);
        blocking(move || Ok(store.make_room(bytes, inode) || !store.disk_is_short(bytes))).await
    }

    /// Does one try of what writes `bytes` bytes; others give way to it as far as they can. The caller has the turn.
    pub async fn in_room<T: Send + 'static>(
        &self,
        entry: &Arc<Entry>,
        bytes: u64,
        work: impl FnOnce(&Entry) -> FsResult<T> + Send + 'static,
    ) -> FsResult<T> {
        let (store, target) = (Arc::clone(&self.store), Arc::clone(entry));
        blocking(move || {
            store.make_room(bytes, target.inode);
            work(&target)
        })
        .await
    }

    /// As [`Self::with_room`], for who is to write past us: when this returns there is room, or none will come, and the kernel finds
    /// out itself. Who waits has the lock of the inode, behind which others stand. So a write for which the kernel has room
    /// goes on after [`LOCKED_MAX`] all the same, and its program waits with the next one.
    pub async fn wait_for_room(&self, entry: &Arc<Entry>, bytes: u64) {
        let look = || async {
            let (store, inode) = (Arc::clone(&self.store), entry.inode);
            blocking(
                move || match store.make_room(bytes, inode) || !store.disk_is_short(bytes) {
                    true => Ok(()),
                    false => Err(FsError::new(ErrorKind::NoSpace, "a write past the worker")),
                },
            )
            .await
        };
        let room = self.with_room(entry.inode, bytes, look);
        tokio::pin!(room);
        loop {
            match tokio::time::timeout(LOCKED_MAX, &mut room).await {
                Err(_) if self.store.has_some_left(bytes) => {
                    tracing::debug!(
                        inode = entry.inode.get(),
                        "a write past the worker has waited for long: it goes on"
                    );
                    return;
                }
                Err(_) => {}
                Ok(Ok(())) => return,
                Ok(Err(error)) => {
                    tracing::debug!(%error, inode = entry.inode.get(), "no room for a write past the worker");
                    return;
                }
            }
        }
    }

    /// Slows writers down to the pace of the uploads, before the last of the disk is gone: those on descriptors, who cannot be
    /// made to wait, need what is left, and so do the names and sidecars of new files.
    async fn is_to_wait(&self, bytes: u64, wait: &Wait) -> FsResult<bool> {
        if bytes == 0 || !self.store.disk_is_short(bytes) || self.store.is_beyond(bytes) {
            return Ok(false);
        }
        // What is being spilled is not waited for in vain.
        if wait.is_over() || (self.store.space.is_wait_vain() && !self.is_spilling_now()) {
            return Ok(false);
        }
        let store = Arc::clone(&self.store);
        let is_short = blocking(move || {
            store.evict_for_create();
            Ok::<_, FsError>(store.disk_is_short(bytes))
        });
        Ok(is_short.await? && self.outlook().await? == Outlook::Uploading)
    }

    /// What may be expected of files that are in no under-storage yet, closed ones and those that are written.
    async fn outlook(&self) -> FsResult<Outlook> {
        if self.is_spilling().await {
            return Ok(Outlook::Uploading);
        }
        let store = Arc::clone(&self.store);
        blocking(move || Ok(store.outlook())).await
    }
}
