//! Locks of sessions: the table, what of it survives a restart, and who is told of a grant.
//!
//! The table is volatile. A session that uses locks is marked in the journal before its first one; after a restart nobody gets a
//! lock before all marked sessions have named what they hold, or have ended. Design and reasons: `docs/design/2026-11-21-locks.md`.

use alluxio_common::sync::Mutex;
use alluxio_proto::master::{CancelLock, FileLock, GetLock, LockGranted, LockMode, LockReply, SetLock, WatchEvent};
use alluxio_proto::{ErrorKind, FsError, FsResult, SessionId};
use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::{Core, Ctx, error};
use crate::locks::{Answer, Granted, LockTable, Refusal, SESSION_LOCKS_MAX, SESSION_WAITS_MAX, Wanted};
use crate::state::command;

#[derive(Debug)]
struct Inner {
    table: LockTable,
    /// Marked in the journal.
    marked: HashSet<SessionId>,
    /// Marked in an earlier life of the master, and not heard of what they hold.
    awaited: HashSet<SessionId>,
    /// Since when they are awaited.
    since: Instant,
    /// When somebody looked for overdue ones last.
    checked: Instant,
}

/// All locks.
#[derive(Debug)]
pub(super) struct Locks(Mutex<Inner>);

impl Default for Locks {
    fn default() -> Self {
        let now = Instant::now();
        Self(Mutex::new(Inner {
            table: LockTable::default(),
            marked: HashSet::new(),
            awaited: HashSet::new(),
            since: now,
            checked: now,
        }))
    }
}

impl Inner {
    /// A session must have named what it holds before it changes it: an unlock must not overtake the claim that it undoes.
    fn check_named(&self, session: SessionId) -> FsResult<()> {
        if !self.awaited.contains(&session) {
            return Ok(());
        }
        let why = format!("the master has restarted; session {session} must resume and name its locks first");
        error(ErrorKind::Unavailable, why)
    }

    fn check_complete(&self) -> FsResult<()> {
        if self.awaited.is_empty() {
            return Ok(());
        }
        let why = format!(
            "the master has restarted; {} sessions have not yet named the locks that they hold",
            self.awaited.len()
        );
        error(ErrorKind::Unavailable, why)
    }
}

impl Locks {
    /// A session of an earlier life, which may hold locks.
    pub fn await_session(&self, id: SessionId) {
        let mut inner = self.0.lock();
        inner.marked.insert(id);
        inner.awaited.insert(id);
    }

    /// Locked pieces, and requests that wait.
    pub fn counts(&self) -> (usize, usize) {
        let inner = self.0.lock();
        (inner.table.held_count(), inner.table.waiting_count())
    }

    /// Sessions that should have named their locks by now. If nobody has asked for half of that time, this process has been stopped,
    /// and the sessions get their time anew.
    fn overdue(&self, timeout: Duration) -> Vec<SessionId> {
        let mut inner = self.0.lock();
        let now = Instant::now();
        let last = std::mem::replace(&mut inner.checked, now);
        if now.duration_since(last) > timeout / 2 {
            inner.since = now;
        }
        if now.duration_since(inner.since) < timeout {
            return Vec::new();
        }
        inner.awaited.iter().copied().collect()
    }
}

fn wanted(ctx: &Ctx, lock: Option<FileLock>) -> FsResult<Wanted> {
    if ctx.session.get() == 0 {
        return error(
            ErrorKind::InvalidArgument,
            "a lock belongs to a session; open one first",
        );
    }
    let lock = lock.unwrap_or_default();
    Wanted::new(ctx.session, &lock).ok_or_else(|| {
        let why = format!(
            "lock inode {}: bytes {} to {} in mode {} of kind {} make no sense",
            lock.inode, lock.start, lock.last, lock.mode, lock.kind
        );
        FsError::new(ErrorKind::InvalidArgument, why)
    })
}

fn refused(refusal: Refusal, wanted: &Wanted) -> FsError {
    let (inode, session) = (wanted.place.0, wanted.owner.session);
    match refusal {
        Refusal::Conflict => FsError::new(
            ErrorKind::WouldBlock,
            format!("lock inode {inode}: another owner holds a conflicting lock"),
        ),
        Refusal::Deadlock => FsError::new(
            ErrorKind::Deadlock,
            format!("lock inode {inode}: its holder waits for a lock of this owner"),
        ),
        Refusal::TooMany => FsError::new(
            ErrorKind::NoLocks,
            format!(
                "lock inode {inode}: session {session} has {SESSION_LOCKS_MAX} locks or {SESSION_WAITS_MAX} waits already"
            ),
        ),
    }
}

impl Core {
    pub(super) async fn set_lock(&self, ctx: &Ctx, op: SetLock) -> FsResult<LockReply> {
        let mut wanted = wanted(ctx, op.lock)?;
        let locks = wanted.mode != LockMode::Unlocked;
        wanted.keep_stronger = op.keep_stronger && locks;
        if locks {
            self.mark_lock_user(ctx.session).await?;
        }
        let result = {
            let mut inner = self.locks.0.lock();
            inner.check_named(ctx.session)?;
            if locks {
                inner.check_complete()?;
            }
            // Asked while the table is held: a session that ends from here on drops this lock, too.
            if !self.sessions.is_live(ctx.session) {
                return error(
                    ErrorKind::Stale,
                    format!("session {} has ended; open a new one", ctx.session),
                );
            }
            inner.table.set(wanted, op.wait_id)
        };
        let (answer, granted) = result.map_err(|refusal| {
            match refusal {
                Refusal::Conflict => {}
                Refusal::Deadlock => self.metrics.lock_deadlocks.inc(),
                Refusal::TooMany => self.metrics.locks_refused.inc(),
            }
            refused(refusal, &wanted)
        })?;
        match answer {
            Answer::Held if locks => self.metrics.locks_granted.inc(),
            Answer::Held => {}
            Answer::Queued => self.metrics.lock_waits.inc(),
        }
        self.tell_granted(&granted);
        Ok(LockReply {
            queued: answer == Answer::Queued,
            conflict: None,
        })
    }

    pub(super) fn get_lock(&self, ctx: &Ctx, op: GetLock) -> FsResult<LockReply> {
        let wanted = wanted(ctx, op.lock)?;
        let conflict = {
            let inner = self.locks.0.lock();
            inner.check_complete()?;
            inner.table.conflict(&wanted)
        };
        let conflict = conflict.map(|conflict| {
            // A pid means something on its own host only.
            let same_host = self.sessions.host(ctx.session) == self.sessions.host(conflict.owner.session);
            FileLock {
                inode: wanted.place.0,
                kind: wanted.place.1 as i32,
                owner: conflict.owner.id,
                mode: conflict.locked.mode as i32,
                start: conflict.locked.range.start,
                last: conflict.locked.range.last,
                pid: if same_host { conflict.pid } else { 0 },
            }
        });
        Ok(LockReply {
            queued: false,
            conflict,
        })
    }

    pub(super) fn cancel_lock(&self, ctx: &Ctx, op: CancelLock) -> FsResult<LockReply> {
        let mut inner = self.locks.0.lock();
        inner.check_named(ctx.session)?;
        Ok(LockReply {
            queued: inner.table.cancel(ctx.session, op.wait_id),
            conflict: None,
        })
    }

    /// The mark is durable before the first lock is granted.
    async fn mark_lock_user(&self, id: SessionId) -> FsResult<()> {
        if self.locks.0.lock().marked.contains(&id) {
            return Ok(());
        }
        match self.propose_own(command::UseLocks { id: id.get() }).await {
            Ok(_) => {
                self.locks.0.lock().marked.insert(id);
                Ok(())
            }
            Err(error) if error.kind == ErrorKind::NotFound => Err(FsError::new(
                ErrorKind::Stale,
                format!("session {id} has ended; open a new one"),
            )),
            Err(error) => Err(error),
        }
    }

    /// A session that resumes has named what it holds. Answers what of it cannot be.
    pub(super) fn name_locks(&self, id: SessionId, claims: Vec<FileLock>) -> Vec<FileLock> {
        let mut inner = self.locks.0.lock();
        if !inner.awaited.contains(&id) {
            // The table has lived through it and knows better.
            return Vec::new();
        }
        let mut refused = Vec::new();
        for claim in claims {
            let held = Wanted::new(id, &claim).map(|wanted| inner.table.set(wanted, 0));
            if !matches!(held, Some(Ok(_))) {
                refused.push(claim);
            }
        }
        inner.awaited.remove(&id);
        let left = inner.awaited.len();
        drop(inner);
        self.metrics.lock_claims_refused.add(refused.len() as u64);
        if !refused.is_empty() {
            let count = refused.len();
            tracing::error!(session = %id, count, "a session resumed and named locks that others hold; it was refused these");
        }
        tracing::info!(session = %id, left, "a session has named its locks after the restart of the master");
        refused
    }

    /// A session is over: what it held goes to those who wait.
    pub(super) fn drop_locks(&self, id: SessionId) {
        let granted = {
            let mut inner = self.locks.0.lock();
            inner.marked.remove(&id);
            inner.awaited.remove(&id);
            inner.table.end_session(id)
        };
        self.tell_granted(&granted);
    }

    /// Ends sessions that live but do not name their locks: others must not wait for them for ever.
    pub(super) async fn expire_lock_users(&self) {
        for id in self.locks.overdue(self.settings.session_timeout) {
            let host = self.sessions.host(id);
            tracing::warn!(session = %id, host, "a session has not named its locks after the restart of the master and is ended");
            if let Err(error) = self.end_session(id).await {
                self.sessions.insert(id, &host);
                tracing::warn!(session = %id, %error, "a session could not be ended");
            }
        }
    }

    fn tell_granted(&self, granted: &[Granted]) {
        for granted in granted {
            let event = WatchEvent::LockGranted(LockGranted {
                wait_id: granted.wait_id,
            });
            self.watch.tell(granted.session, &event);
        }
    }
}
