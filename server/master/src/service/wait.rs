//! Waiting until what is due is persisted: for one file, a tree, or everything.
//!
//! Waiting for everything asks for the lowest pending intent only; waiting for a part remembers the intents beneath it. Both
//! are woken by progress and look at nothing else.

use alluxio_proto::master::{Counted, WaitPersisted};
use alluxio_proto::types::{FileKind, PersistState};
use alluxio_proto::{ErrorKind, FsError, FsResult, InodeId, IntentId, WorkerId};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

use super::load::PAGE_ENTRIES;
use super::{Core, Ctx, error, show};
use crate::state::command::SchedulePersist;
use crate::state::{Inode, Intent, IntentKind};

/// When a request names none; as long as Alluxio's `alluxio.user.file.persist.on.rename` waits for a job.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(1200);
/// Looked at again after so long without any progress.
const RECHECK: Duration = Duration::from_secs(5);
/// A client tells of its last close of a file a moment after close(2), and only what is closed is uploaded. How long that is waited
/// for where files are open for writing, and how often it is looked at. What a program has open is waited for in vain.
const CLOSING_MAX: Duration = Duration::from_secs(1);
const CLOSING_POLL: Duration = Duration::from_millis(10);

/// What is waited for.
#[derive(Debug)]
enum Due {
    /// All intents up to this one.
    UpTo(IntentId),
    /// These, in falling order: the lowest, done first, is the last.
    These(Vec<IntentId>),
}

impl Core {
    pub(super) async fn wait_persisted(self: &Arc<Self>, ctx: &Ctx, op: WaitPersisted) -> FsResult<Counted> {
        let timeout = match op.timeout_ms {
            0 => TIMEOUT_DEFAULT,
            ms => Duration::from_millis(ms),
        };
        let deadline = Instant::now() + timeout;
        let inode = self.resolve(ctx, &op.path).await?;
        self.let_closes_arrive(&inode).await?;
        if op.schedule {
            self.schedule_beneath(&inode).await?;
        }
        let mut due = self.due_beneath(&inode)?;
        let files = match &due {
            Due::UpTo(_) => self.state.pending_intents(),
            Due::These(ids) => ids.len() as u64,
        };
        // What is expedited is tried now, so an older failure says nothing: its cause may be gone.
        let tried_after = op.expedite.then(std::time::Instant::now);
        if op.expedite {
            match &due {
                Due::UpTo(_) => self.queue.expedite_all(),
                Due::These(ids) => self.queue.expedite(ids.iter().copied()),
            }
        }
        loop {
            let progress = self.effects.progress.notified();
            tokio::pin!(progress);
            // Registered before looking, so that nothing between the two is missed.
            progress.as_mut().enable();
            if self.is_done(&mut due)? {
                break;
            }
            if let Some(failure) = self.hopeless(&due, tried_after) {
                return Err(failure.context(format!("persist {}", show(&op.path))));
            }
            if Instant::now() >= deadline {
                return Err(self.why_not_done(&due, &op.path, timeout));
            }
            // Woken, or at the end, or now and then: all look again.
            tokio::select! {
                () = progress => {}
                () = tokio::time::sleep_until(deadline.min(Instant::now() + RECHECK)) => {}
                () = self.stop.cancelled() => {}
            }
            if self.stop.is_cancelled() {
                return error(ErrorKind::Unavailable, "the master stops");
            }
        }
        self.check_not_lost(inode.inode_id())?;
        Ok(Counted {
            files,
            ..Default::default()
        })
    }

    /// Waits until what may have been closed already is closed here, too.
    async fn let_closes_arrive(&self, top: &Inode) -> FsResult<()> {
        let mut closing = match top.is_dir() {
            true => self.state.written_files()?,
            false => vec![top.inode_id()],
        };
        let deadline = Instant::now() + CLOSING_MAX;
        let mut pause = CLOSING_POLL;
        loop {
            let mut left = Vec::new();
            for id in closing {
                match self.state.inode(id) {
                    Ok(inode) if inode.open.as_ref().is_some_and(|open| !open.mapped) => left.push(id),
                    Ok(_) => {}
                    Err(error) if error.kind == ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
            if left.is_empty() || Instant::now() >= deadline {
                return Ok(());
            }
            closing = left;
            tokio::time::sleep(pause).await;
            // Each look is at all of them.
            pause *= 2;
        }
    }

    fn check_not_lost(&self, id: InodeId) -> FsResult<()> {
        match self.state.inode(id) {
            Ok(inode) if inode.kind() == FileKind::File && inode.persist_state() == PersistState::Lost => error(
                ErrorKind::DataLost,
                format!("file {id} was not persisted: its only copy is gone"),
            ),
            Ok(_) => Ok(()),
            // Removed meanwhile.
            Err(error) if error.kind == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn due_beneath(&self, top: &Inode) -> FsResult<Due> {
        if top.inode_id() == InodeId::ROOT {
            return Ok(Due::UpTo(IntentId(self.state.counters().intent_high)));
        }
        if !top.is_dir() {
            let intents = self.state.intents_of(top.inode_id())?;
            let mut own: Vec<_> = intents
                .iter()
                .filter(|of| of.inode == top.id)
                .map(|of| IntentId(of.id))
                .collect();
            own.sort_unstable_by(|a, b| b.cmp(a));
            return Ok(Due::These(own));
        }
        let mut found = Vec::new();
        let mut after = IntentId(0);
        loop {
            let page = self.state.intents(after, PAGE_ENTRIES)?;
            let Some(last) = page.last() else { break };
            after = IntentId(last.id);
            for intent in page {
                if self.concerns(&intent, top)? {
                    found.push(IntentId(intent.id));
                }
            }
        }
        found.reverse();
        Ok(Due::These(found))
    }

    /// Whether an intent is about something beneath a directory.
    fn concerns(&self, intent: &Intent, top: &Inode) -> FsResult<bool> {
        let starts = [intent.inode, intent.dir, intent.to_dir];
        for start in starts.into_iter().filter(|id| *id != 0) {
            let mut at = start;
            while at != 0 && at != top.id {
                at = match self.state.inode(InodeId(at)) {
                    Ok(inode) => inode.parent,
                    Err(error) if error.kind == ErrorKind::NotFound => 0,
                    Err(error) => return Err(error),
                };
            }
            if at == top.id {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn is_done(&self, due: &mut Due) -> FsResult<bool> {
        match due {
            Due::UpTo(last) => Ok(self.lowest_pending()?.is_none_or(|lowest| lowest > *last)),
            Due::These(ids) => {
                while let Some(id) = ids.last() {
                    if self.state.intent(*id)?.is_some() {
                        return Ok(false);
                    }
                    ids.pop();
                }
                Ok(true)
            }
        }
    }

    fn lowest_pending(&self) -> FsResult<Option<IntentId>> {
        let first = self.state.intents(IntentId(0), 1)?;
        Ok(first.first().map(|intent| IntentId(intent.id)))
    }

    /// A failure that waiting will not heal.
    fn hopeless(&self, due: &Due, since: Option<std::time::Instant>) -> Option<FsError> {
        match due {
            Due::UpTo(last) => self.queue.first_permanent(*last, since),
            Due::These(ids) => ids.iter().rev().find_map(|id| self.queue.permanent(*id, since)),
        }
    }

    fn why_not_done(&self, due: &Due, path: &[u8], waited: Duration) -> FsError {
        let first = match due {
            Due::UpTo(_) => self.lowest_pending().ok().flatten(),
            Due::These(ids) => ids.last().copied(),
        };
        let intent = first.and_then(|id| self.state.intent(id).ok().flatten());
        let why = match &intent {
            Some(intent) => match &intent.last_error {
                Some(error) => error.message.clone(),
                None if self.lacks_worker(intent) => "no live worker is there to copy it; start one".to_owned(),
                None if self.waits_for_worker(intent) => "no live worker has the data; start it again".to_owned(),
                None => "the under-storage is slow, or the file is still open for writing".to_owned(),
            },
            None => "the last changes were made just now".to_owned(),
        };
        let pending = self.state.pending_intents();
        FsError::new(
            ErrorKind::Timeout,
            format!(
                "persist {}: not done after {waited:?}, {pending} changes pending: {why}",
                show(path)
            ),
        )
    }

    fn waits_for_worker(&self, intent: &Intent) -> bool {
        let Ok(inode) = self.state.inode(InodeId(intent.inode)) else {
            return false;
        };
        intent.kind() == IntentKind::Persist
            && !inode
                .locations
                .iter()
                .any(|at| self.workers.is_live(WorkerId(at.worker)))
    }

    /// Schedules files that were not going to be persisted, slice by slice.
    async fn schedule_beneath(&self, top: &Inode) -> FsResult<()> {
        let mut dirs = vec![top.inode_id()];
        if !top.is_dir() {
            dirs.clear();
            self.schedule_one(top).await?;
        }
        while let Some(dir) = dirs.pop() {
            let mut after = Bytes::new();
            loop {
                let page = self.state.list(dir, &after, PAGE_ENTRIES)?;
                let Some((last, _)) = page.last() else { break };
                after = last.clone();
                for (_, inode) in page {
                    if inode.is_dir() {
                        dirs.push(inode.inode_id());
                    } else {
                        self.schedule_one(&inode).await?;
                    }
                }
            }
        }
        Ok(())
    }

    async fn schedule_one(&self, inode: &Inode) -> FsResult<()> {
        if inode.kind() != FileKind::File || inode.persist_state() != PersistState::NotPersisted {
            return Ok(());
        }
        match self.propose_own(SchedulePersist { inode: inode.id }).await {
            Ok(_) => Ok(()),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}
