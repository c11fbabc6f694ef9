//! Copies of a rename to another mount: inside the store where both mounts are of one, by a worker otherwise.
//!
//! The intent is journaled before anything is done. Started, it is looked at in both stores; a copy that is there already is
//! confirmed. A store that refuses to copy between two of its mounts is not asked again for a while: a worker carries the file. Who
//! has it cached does, or who has the least to do; it gets the task with its next heartbeat, conditional on all that was seen. Its answer is
//! believed after a look at the copy. A task is bound to its worker's life as an upload is: of one that is lost or has forgotten,
//! the intent is due again; a worker that is given the same intent twice does it once. Where there is no worker, it waits for
//! one, and asks no store meanwhile.

use alluxio_common::sync::Mutex;
use alluxio_proto::master::{CopyDone, CopyTask, Empty, StoredAttributes};
use alluxio_proto::types::{FileKind, UfsSource};
use alluxio_proto::{ErrorKind, FsError, FsResult, InodeId, IntentId, MountId, WorkerId};
use alluxio_ufs::{Expect, UfsAttributes, UfsError, UfsErrorKind};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::across::{self, Planned, Step};
use super::ufs_ops::{Change, status_if_any};
use super::{Core, attributes, show};
use crate::state::{Intent, IntentKind};

/// How long a store that refused to copy between two mounts is not asked for that: rights change, and a worker does as well.
const REFUSAL_BELIEVED: Duration = Duration::from_secs(10 * 60);
/// Pause before a copy is looked at again for which there is no worker.
const NO_WORKER_PAUSE: Duration = Duration::from_secs(1);

/// Two mounts, from and to.
type Pair = (MountId, MountId);

/// What of copies a restart of the master may forget.
#[derive(Debug, Default)]
pub(super) struct Copies {
    /// When a store refused to copy between two mounts.
    refused: Mutex<HashMap<Pair, Instant>>,
    /// Tasks that wait for the heartbeat of the worker that was chosen; no more than the executor's queue has places.
    ready: Mutex<HashMap<IntentId, CopyTask>>,
}

impl Copies {
    fn is_refused(&self, pair: Pair) -> bool {
        let refused = self.refused.lock();
        refused.get(&pair).is_some_and(|at| at.elapsed() < REFUSAL_BELIEVED)
    }

    /// Both are other mounts now, or none.
    pub fn forget(&self, mount: MountId) {
        self.refused
            .lock()
            .retain(|(from, to), _| *from != mount && *to != mount);
    }

    pub fn forget_intent(&self, id: IntentId) {
        self.ready.lock().remove(&id);
    }
}

/// A rename to another mount that is still one.
pub(super) fn is_copy(intent: &Intent) -> bool {
    intent.kind() == IntentKind::Rename && intent.is_across() && !intent.cancelled
}

impl Core {
    /// Whether it is a copy that can only be made by a worker, and there is none.
    pub(super) fn lacks_worker(&self, intent: &Intent) -> bool {
        is_copy(intent) && !self.may_copy_inside(intent) && !self.workers.take_copies()
    }

    /// Of one that [lacks a worker](Self::lacks_worker): it is looked at again.
    pub(super) fn wait_for_worker(&self, id: IntentId) {
        self.queue.wait_for_worker(id, Instant::now() + NO_WORKER_PAUSE);
    }

    fn may_copy_inside(&self, intent: &Intent) -> bool {
        let pair = pair_of(intent);
        let stores = (self.ufs.of(pair.0), self.ufs.of(pair.1));
        // One that cannot be opened is for the attempt to say.
        let (Ok(from), Ok(to)) = stores else { return true };
        let store = from.store();
        store.is_some() && store == to.store() && !self.copies.is_refused(pair)
    }

    /// Takes a copy that has been started a step further: to its end, or to a worker.
    pub(super) async fn copy_across(self: &Arc<Self>, intent: &Intent) -> FsResult<()> {
        match self.copied_across(intent).await {
            Ok(Some(change)) => self.intent_done(intent, change).await,
            Ok(None) => Ok(()),
            Err(error) => self.intent_failed(IntentId(intent.id), intent, error).await,
        }
    }

    /// `None`: a worker has it, or will.
    async fn copied_across(&self, intent: &Intent) -> FsResult<Option<Change>> {
        let (from, to) = (self.ufs.of(MountId(intent.mount_id))?, self.ufs.of(intent.to_mount())?);
        let inode = self.inode_of(intent)?;
        let attributes = self.attributes_of(inode.as_deref())?;
        let cluster = self.state.cluster_id();
        let copy = match across::look(&*from, &*to, intent, inode.as_deref(), attributes, &cluster).await? {
            Step::Done(change) => return Ok(Some(*change)),
            Step::Copy(copy) => copy,
        };
        if self.may_copy_inside(intent) {
            match across::copy_inside(&*from, &*to, intent, &copy).await {
                Ok(change) => {
                    self.metrics.copies_inside.inc();
                    return Ok(Some(change));
                }
                Err(error) if is_for_a_worker(&error) => {
                    self.note_refusal(intent, &error);
                    // What concerns this object alone is counted as its failure where nobody else can try.
                    if self.may_copy_inside(intent) && !self.workers.take_copies() {
                        return Err(error.into());
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.offer_copy(intent, &copy)?;
        Ok(None)
    }

    /// What a store said that does not copy between two mounts of it.
    fn note_refusal(&self, intent: &Intent, error: &UfsError) {
        let is_of_pair = matches!(
            error.kind,
            UfsErrorKind::Denied | UfsErrorKind::Unsupported | UfsErrorKind::StoreMissing
        );
        if !is_of_pair || error.is_of_object() {
            tracing::debug!(path = %show(&intent.path), %error, "an object is copied by a worker");
            return;
        }
        let (from, to) = pair_of(intent);
        self.copies.refused.lock().insert((from, to), Instant::now());
        tracing::info!(
            %from, %to, %error,
            "the store copies nothing from the one mount to the other: workers do, for {REFUSAL_BELIEVED:?}"
        );
    }

    fn offer_copy(&self, intent: &Intent, copy: &Planned) -> FsResult<()> {
        let id = IntentId(intent.id);
        let held = match self.state.inode(InodeId(intent.inode)) {
            Ok(inode) => inode.locations.clone(),
            Err(error) if error.kind == ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let held = held.into_iter().filter(|at| at.version == intent.version);
        let held: Vec<_> = held.map(|at| (WorkerId(at.worker), at.bytes)).collect();
        self.copies.ready.lock().insert(id, task_of(intent, copy));
        let Some(worker) = self.workers.for_copy(&held) else {
            self.wait_for_worker(id);
            return Ok(());
        };
        // Noted first: the worker may fetch it at once.
        self.queue.offered(id, worker);
        if !self.workers.offer_copy(worker, id) {
            self.wait_for_worker(id);
        }
        Ok(())
    }

    /// The tasks of a worker that has asked for work.
    pub(super) fn start_copies(&self, worker: WorkerId, ids: Vec<IntentId>) -> Vec<CopyTask> {
        let mut tasks = Vec::with_capacity(ids.len());
        for id in ids {
            let task = self.copies.ready.lock().remove(&id);
            match (task, self.state.intent(id)) {
                (Some(task), Ok(Some(intent))) if is_copy(&intent) => tasks.push(task),
                (_, Ok(None)) => {
                    self.workers.task_ended(worker, id);
                    self.forget_intent(id);
                }
                _ => {
                    self.workers.task_ended(worker, id);
                    self.queue.again_at(id, Instant::now());
                }
            }
        }
        tasks
    }

    pub(super) async fn copy_done(self: &Arc<Self>, op: CopyDone) -> FsResult<Empty> {
        let id = IntentId(op.intent);
        self.workers.task_ended(WorkerId(op.worker_id), id);
        let Some(intent) = self.state.intent(id)? else {
            self.forget_intent(id);
            return Ok(Empty {});
        };
        let is_it = intent.to_mount_id == op.mount_id && intent.to_path == op.path;
        if !is_copy(&intent) || !is_it {
            // It is done, by an attempt that was heard of sooner.
            return Ok(Empty {});
        }
        match op.error.clone().map(FsError::from_wire) {
            Some(error) => self.intent_failed(id, &intent, error).await?,
            None => self.confirm_copy(&intent, op).await?,
        }
        Ok(Empty {})
    }

    /// The source goes because of it, so what the worker says is looked at.
    async fn confirm_copy(self: &Arc<Self>, intent: &Intent, op: CopyDone) -> FsResult<()> {
        let id = IntentId(intent.id);
        let is_it = async || -> FsResult<bool> {
            let there = status_if_any(&*self.ufs.of(intent.to_mount())?, &intent.to_path).await?;
            Ok(there.is_some_and(|there| {
                there.kind == FileKind::File && there.fingerprint == op.fingerprint && there.length == op.length
            }))
        };
        match is_it().await {
            Ok(true) => {
                self.ufs.heard(MountId(intent.mount_id), None);
                self.metrics.copies_by_workers.inc();
                let change = across::deletable(op.fingerprint, op.source_fingerprint);
                self.intent_done(intent, change).await
            }
            Ok(false) => {
                tracing::info!(path = %show(&intent.to_path), "another object is where a worker has made a copy; it is looked at again");
                self.queue.again_at(id, Instant::now());
                Ok(())
            }
            Err(error) => self.intent_failed(id, intent, error).await,
        }
    }
}

fn pair_of(intent: &Intent) -> Pair {
    (MountId(intent.mount_id), intent.to_mount())
}

/// Whether what a store does not do by itself may be possible by reading here and writing there.
fn is_for_a_worker(error: &UfsError) -> bool {
    matches!(
        error.kind,
        UfsErrorKind::Denied
            | UfsErrorKind::Unsupported
            | UfsErrorKind::StoreMissing
            | UfsErrorKind::NotFound
            | UfsErrorKind::Invalid
            | UfsErrorKind::TooLarge
            | UfsErrorKind::Other
    )
}

fn task_of(intent: &Intent, copy: &Planned) -> CopyTask {
    let wanted = copy.wanted.clone();
    CopyTask {
        intent: intent.id,
        inode: intent.inode,
        version: intent.version,
        source: Some(UfsSource {
            mount_id: intent.mount_id,
            path: intent.path.clone(),
            fingerprint: copy.source.fingerprint.clone(),
            length: copy.source.length,
        }),
        mount_id: intent.to_mount_id,
        path: intent.to_path.clone(),
        expect: match &copy.expect {
            Expect::Fingerprint(fingerprint) => fingerprint.clone(),
            Expect::Any | Expect::Absent => String::new(),
        },
        expect_any: copy.expect == Expect::Any,
        write_id: wanted.write_id.clone().unwrap_or_default(),
        attributes: Some(stored(wanted)),
    }
}

fn stored(wanted: UfsAttributes) -> StoredAttributes {
    StoredAttributes {
        mode: wanted.mode,
        owner: wanted.owner,
        group: wanted.group,
        mtime_ns: wanted.mtime_ns,
        atime_ns: wanted.atime_ns,
        knows_xattrs: wanted.xattrs.is_some(),
        xattrs: attributes::pairs(wanted.xattrs.unwrap_or_default()),
    }
}
