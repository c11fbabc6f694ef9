//! Locks: flock(2) and fcntl(2) through the master, so that they hold between mounts and hosts.
//!
//! The master decides; here is what it granted and a program was told: the *claims*, which a session names again when the master
//! has restarted. The rules that keep them true are in `docs/design/2026-11-21-locks.md`:
//!
//! - calls of one owner about one file take turns (its [`claims::Turn`]), but for waiting;
//! - a claim is added after the grant, and dropped before the master hears of an unlock or a weaker lock;
//! - no call is under way while the session resumes (the gate).
//!
//! **Promises:** dropping the future of [`Vfs::set_lock`] withdraws the request, whether it waited or was granted just then; who
//! gets a lock reads what its last holder wrote.

mod claims;

use super::Vfs;
use alluxio_common::lock_ranges::{ByteRange, Locked};
use alluxio_common::retry::RetryPolicy;
use alluxio_common::sync::Mutex;
use alluxio_proto::master::{
    CancelLock, FileLock, GetLock, LockKind, LockMode, LockReply, Operation, SessionInfo, SetLock,
};
use alluxio_proto::{ErrorKind, FsError, FsResult, SessionId};
use claims::{Claims, Withdrawn};
use lru::LruCache;
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{Notify, RwLock, oneshot};

/// Who waits asks again after so long, should the news of its grant have been lost.
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// Longest pause between tries while the master is away or takes locks up again.
const PAUSE_MAX: Duration = Duration::from_millis(500);
/// Pauses before a lock that another open file on this mount holds is refused: it may be closed already.
const CLOSE_PAUSES: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(3)];
/// Files that had byte-range locks, of which the kernel reports each close from then on.
const RANGE_FILES_MAX: NonZeroUsize = NonZeroUsize::new(65_536).expect("not zero");

/// A lock that a program wants, or is about to let go.
#[derive(Clone, Copy, Debug)]
pub struct LockWanted {
    /// The file.
    pub inode: u64,
    /// Handle it is locked through: its last close ends the lock.
    pub fh: u64,
    /// Who, as the kernel tells them apart.
    pub owner: u64,
    /// flock or fcntl.
    pub kind: LockKind,
    /// Mode; [`LockMode::Unlocked`] unlocks.
    pub mode: LockMode,
    /// Bytes.
    pub range: ByteRange,
    /// Process, for F_GETLK of others.
    pub pid: u32,
}

/// Whose locks on what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Holder {
    pub inode: u64,
    pub kind: LockKind,
    pub owner: u64,
}

impl LockWanted {
    fn holder(&self) -> Holder {
        Holder {
            inode: self.inode,
            kind: self.kind,
            owner: self.owner,
        }
    }

    fn message(&self) -> FileLock {
        FileLock {
            inode: self.inode,
            kind: self.kind as i32,
            owner: self.owner,
            mode: self.mode as i32,
            start: self.range.start,
            last: self.range.last,
            pid: self.pid,
        }
    }
}

/// To unlock.
fn none(holder: Holder, range: ByteRange) -> LockWanted {
    LockWanted {
        inode: holder.inode,
        fh: 0,
        owner: holder.owner,
        kind: holder.kind,
        mode: LockMode::Unlocked,
        range,
        pid: 0,
    }
}

/// Locks of one mount.
pub(super) struct Locks {
    claims: Mutex<Claims>,
    /// Those who wait, by id; woken when there may be news.
    waiting: Mutex<HashMap<u64, Arc<Notify>>>,
    next_wait: AtomicU64,
    /// Held for reading over each call to the master, for writing over resuming the session.
    gate: RwLock<()>,
    range_files: Mutex<LruCache<u64, ()>>,
}

impl Default for Locks {
    fn default() -> Self {
        Self {
            claims: Mutex::default(),
            waiting: Mutex::default(),
            next_wait: AtomicU64::new(1),
            gate: RwLock::default(),
            range_files: Mutex::new(LruCache::new(RANGE_FILES_MAX)),
        }
    }
}

impl Locks {
    /// Whether the kernel must report each close of a file: somebody may have locked bytes of it.
    pub fn needs_flush(&self, inode: u64) -> bool {
        self.range_files.lock().contains(&inode)
    }

    /// A waiting request was granted.
    pub fn wake(&self, wait_id: u64) {
        if let Some(waiter) = self.waiting.lock().get(&wait_id) {
            waiter.notify_one();
        }
    }

    /// All must ask again: news may have been lost.
    pub fn wake_all(&self) {
        self.waiting.lock().values().for_each(|waiter| waiter.notify_one());
    }
}

/// Where a request stands between the program that made it and the task that carries it out.
#[derive(Debug, Default)]
struct Fate {
    /// Nobody wants it any more.
    is_gone: bool,
    /// It is claimed; what was claimed of its range before.
    before: Option<Vec<Locked>>,
}

/// A request under way. Dropped before its end, it is withdrawn.
struct Request {
    vfs: Arc<Vfs>,
    wanted: LockWanted,
    wait_id: u64,
    fate: Arc<Mutex<Fate>>,
    runtime: Handle,
    is_settled: bool,
}

impl Request {
    fn new(vfs: &Arc<Vfs>, wanted: LockWanted, wait: bool) -> Request {
        let locks = &vfs.locks;
        let wait_id = if wait {
            locks.next_wait.fetch_add(1, Ordering::Relaxed)
        } else {
            0
        };
        if wait {
            locks.waiting.lock().insert(wait_id, Arc::default());
        }
        Request {
            vfs: Arc::clone(vfs),
            wanted,
            wait_id,
            fate: Arc::default(),
            runtime: Handle::current(),
            is_settled: false,
        }
    }

    /// One try, which is carried out to its end whatever becomes of the caller. True: it is held.
    async fn attempt(&self, wanted: LockWanted, wait_id: u64) -> FsResult<bool> {
        let (tell, told) = oneshot::channel();
        let (vfs, fate) = (Arc::clone(&self.vfs), Arc::clone(&self.fate));
        self.vfs.tasks.spawn(async move {
            let _turn = vfs.turn(wanted.holder()).await;
            let result = match wanted.mode {
                LockMode::Unlocked => vfs.unlock(&wanted).await.map(|()| true),
                _ => vfs.lock(&wanted, wait_id, &fate).await,
            };
            // The caller may have gone: then it settles.
            let _ = tell.send(result);
        });
        told.await
            .unwrap_or_else(|_| Err(FsError::new(ErrorKind::Unavailable, "lock: the mount is being stopped")))
    }

    /// Without waiting for a lock; but the kernel tells of a last close a moment after close(2) has returned.
    async fn at_once(&self) -> FsResult<()> {
        let mut pauses = CLOSE_PAUSES.iter();
        loop {
            let result = self.attempt(self.wanted, 0).await;
            let conflicts = matches!(&result, Err(error) if error.kind == ErrorKind::WouldBlock);
            match pauses.next() {
                Some(pause) if conflicts && self.vfs.locks.others_hold(self.wanted.holder()) => {
                    tokio::time::sleep(*pause).await;
                }
                _ => return result.map(drop),
            }
        }
    }

    async fn run(&self) -> FsResult<()> {
        let wanted = &self.wanted;
        let converts = wanted.kind == LockKind::Flock && self.wait_id != 0 && self.vfs.locks.holds(wanted.holder());
        if converts {
            // To wait for another mode, flock lets go of the one it has; so first without waiting.
            match self.attempt(self.wanted, 0).await {
                Err(error) if error.kind == ErrorKind::WouldBlock => {
                    self.attempt(none(wanted.holder(), wanted.range), 0).await?;
                }
                other => return other.map(drop),
            }
        }
        if self.wait_id == 0 {
            return self.at_once().await;
        }
        let news = Arc::clone(self.vfs.locks.waiting.lock().entry(self.wait_id).or_default());
        while !self.attempt(self.wanted, self.wait_id).await? {
            // Either way it asks again, and so learns what it holds.
            let _ = tokio::time::timeout(ASK_AGAIN, news.notified()).await;
        }
        Ok(())
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        if self.wait_id != 0 {
            self.vfs.locks.waiting.lock().remove(&self.wait_id);
        }
        if self.is_settled {
            return;
        }
        let before = {
            let mut fate = self.fate.lock();
            fate.is_gone = true;
            fate.before.take()
        };
        // Noted here and now: whatever the holder does next finds it settled.
        self.vfs.locks.claims.lock().withdraw(Withdrawn {
            wanted: self.wanted,
            wait_id: self.wait_id,
            before,
        });
        let (vfs, holder) = (Arc::clone(&self.vfs), self.wanted.holder());
        let settling = async move { drop(vfs.turn(holder).await) };
        drop(self.vfs.tasks.spawn_on(settling, &self.runtime));
    }
}

impl Vfs {
    /// What others wrote before they let go of their locks is seen from now on.
    async fn see_changes(&self, inode: u64, fh: u64) -> FsResult<()> {
        let (node, has_pages) = match self.handle(fh) {
            Ok(handle) => (handle.inode.node, self.refresh_locked(&handle).await?),
            Err(_) => (self.nodes.newest(inode), true),
        };
        self.forget_now(node, has_pages).await;
        Ok(())
    }

    /// Locks or unlocks; waits if `wait`. Dropped before its end, it is withdrawn.
    ///
    /// # Errors
    /// `WouldBlock` if another owner's lock conflicts, `Deadlock` if waiting would never end, `NoLocks` past a bound.
    pub async fn set_lock(self: &Arc<Self>, wanted: LockWanted, wait: bool) -> FsResult<()> {
        let locks = wanted.mode != LockMode::Unlocked;
        if locks && wanted.kind == LockKind::Range {
            self.locks.range_files.lock().put(wanted.inode, ());
        }
        if locks {
            self.closing.is_needed();
        }
        if locks && !wait {
            // Who waits is granted when they are done; who does not is not refused for their sake.
            self.closes_done(wanted.inode).await;
        }
        let mut request = Request::new(self, wanted, wait && locks);
        let result = request.run().await;
        // After any other failure it is not known what the master did.
        let is_certain = result.as_ref().map_or_else(
            |error| {
                matches!(
                    error.kind,
                    ErrorKind::WouldBlock | ErrorKind::Deadlock | ErrorKind::NoLocks | ErrorKind::InvalidArgument
                )
            },
            |()| true,
        );
        request.is_settled = is_certain && (result.is_err() || !locks);
        result?;
        if locks {
            self.see_changes(wanted.inode, wanted.fh).await?;
            request.is_settled = true;
        }
        Ok(())
    }

    /// A lock that keeps `wanted` from being granted.
    ///
    /// # Errors
    /// Those of reaching the master.
    pub async fn get_lock(&self, wanted: LockWanted) -> FsResult<Option<FileLock>> {
        self.closes_done(wanted.inode).await;
        let request = GetLock {
            lock: Some(wanted.message()),
        };
        let reply = self.ask_locks(request, |_| {}).await?;
        Ok(reply.conflict)
    }

    /// A process has closed a descriptor of a file: all its byte-range locks of the file go, as fcntl(2) has it.
    ///
    /// # Errors
    /// Those of reaching the master; the locks then go with the session.
    pub async fn unlock_closed(self: &Arc<Self>, inode: u64, owner: u64) -> FsResult<()> {
        let kind = LockKind::Range;
        let holder = Holder { inode, kind, owner };
        if !self.locks.holds(holder) {
            return Ok(());
        }
        self.set_lock(none(holder, ByteRange::ALL), false).await
    }

    /// An open file has been closed for good: what was locked through it goes.
    pub async fn unlock_released(self: &Arc<Self>, fh: u64) {
        let taken = self.locks.claims.lock().take_handle(fh);
        for (holder, pieces) in taken {
            for piece in pieces {
                if let Err(error) = self.set_lock(none(holder, piece.range), false).await {
                    tracing::warn!(%error, inode = holder.inode, "unlock a closed file; its locks go with the session");
                }
            }
        }
    }

    /// Within the owner's turn.
    async fn unlock(&self, wanted: &LockWanted) -> FsResult<()> {
        let had = self.locks.claims.lock().weaken(wanted, LockMode::Unlocked);
        if had {
            self.ask_set(wanted, 0, false, |_| {}).await?;
        }
        Ok(())
    }

    /// Within the owner's turn. True: it is held and claimed; false: it waits.
    async fn lock(&self, wanted: &LockWanted, wait_id: u64, fate: &Mutex<Fate>) -> FsResult<bool> {
        if fate.lock().is_gone {
            return Ok(false);
        }
        let (before, weakens, covers) = self.locks.claims.lock().look(wanted);
        if weakens && covers {
            // Only weaker: nobody can be in the way.
            self.locks.claims.lock().weaken(wanted, wanted.mode);
            self.ask_set(wanted, 0, false, |_| {}).await?;
            fate.lock().before = Some(before);
            return Ok(true);
        }
        let claim = |reply: &LockReply| {
            let mut fate = fate.lock();
            if !reply.queued && !fate.is_gone {
                self.locks.claims.lock().raise(wanted);
                fate.before = Some(before.clone());
            }
        };
        if self.ask_set(wanted, wait_id, weakens, claim).await?.queued {
            return Ok(false);
        }
        if weakens && !fate.lock().is_gone {
            self.locks.claims.lock().weaken(wanted, wanted.mode);
            self.ask_set(wanted, 0, false, |_| {}).await?;
        }
        Ok(true)
    }

    /// Waits for the holder's turn, and settles what was withdrawn: claims become what they were, and the master is told that no more
    /// is held.
    async fn turn(&self, holder: Holder) -> claims::Turn<'_> {
        let turn = self.locks.turn(holder).await;
        let withdrawn = self.locks.claims.lock().take_withdrawn(holder);
        for Withdrawn {
            wanted,
            wait_id,
            before,
        } in withdrawn
        {
            if let Some(before) = before {
                self.locks.claims.lock().restore(&wanted, &before);
            }
            if let Err(error) = self.give_back(&wanted, wait_id).await {
                tracing::warn!(%error, inode = wanted.inode, "withdraw a lock; it goes with the session");
            }
        }
        turn
    }

    async fn give_back(&self, wanted: &LockWanted, wait_id: u64) -> FsResult<()> {
        if wait_id != 0 {
            let reply = self.ask_locks(CancelLock { wait_id }, |_| {}).await?;
            if reply.queued {
                return Ok(());
            }
        }
        let pieces = self.locks.claims.lock().at_most(wanted);
        for piece in pieces {
            let less = LockWanted {
                mode: piece.mode,
                range: piece.range,
                ..*wanted
            };
            self.ask_set(&less, 0, false, |_| {}).await?;
        }
        Ok(())
    }

    async fn ask_set(
        &self,
        wanted: &LockWanted,
        wait_id: u64,
        keep_stronger: bool,
        claim: impl Fn(&LockReply),
    ) -> FsResult<LockReply> {
        let request = SetLock {
            lock: Some(wanted.message()),
            wait_id,
            keep_stronger,
        };
        self.ask_locks(request, claim).await
    }

    /// Asks the master, again while it is away or takes locks up after a restart. `claim` is called with the answer before the
    /// session can resume.
    async fn ask_locks<O>(&self, op: O, claim: impl Fn(&LockReply)) -> FsResult<LockReply>
    where
        O: Operation<Reply = LockReply>,
    {
        let policy = self.master.retry_policy();
        let policy = RetryPolicy {
            max: policy.max.min(PAUSE_MAX),
            ..policy
        };
        let mut backoff = policy.start();
        loop {
            let (session, result) = {
                let _gate = self.locks.gate.read().await;
                let session = self.master.session();
                let result = self.master.once(&self.own_caller(), op.clone()).await;
                if let Ok(reply) = &result {
                    claim(reply);
                }
                (session, result)
            };
            let error = match result {
                Ok(reply) => return Ok(reply),
                Err(error) => error,
            };
            let again = match error.kind {
                // In the new session, if there is one by now.
                ErrorKind::Stale => self.renew_session(session).await && self.master.session() != session,
                _ => error.is_retryable() && backoff.pause(&error).await,
            };
            if !again {
                return Err(error);
            }
        }
    }

    /// Takes the session up again, if it is still `old`: names what it has open and locked, or begins a new one without. False if
    /// the master did not answer.
    pub(super) async fn renew_session(&self, old: SessionId) -> bool {
        let _gate = self.locks.gate.write().await;
        if self.master.session() != old {
            return true;
        }
        let named = self.locks.claims.lock().messages();
        let info: SessionInfo = match self.resume_session(old, named).await {
            Ok(info) => info,
            Err(error) => {
                tracing::debug!(%error, "resume session {old}");
                return false;
            }
        };
        let lost = if info.resumed {
            self.locks.claims.lock().drop_refused(&info.locks_refused)
        } else {
            tracing::warn!(
                "session {old} ended at the master; session {} begins, and files open for writing are stale",
                info.session
            );
            self.locks.claims.lock().drop_all()
        };
        if lost > 0 {
            tracing::error!(
                lost,
                "locks that programs on this mount hold are lost, and may be others' by now"
            );
        }
        self.locks.wake_all();
        true
    }
}
