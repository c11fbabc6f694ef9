//! Uploads: handed to the worker that has the data with its next heartbeat, and what it says became of them (DESIGN D9).

use alluxio_proto::master::{
    Empty, PersistDone, PersistTask, RegisterWorker, Registered, WorkerHeartbeat, WorkerTasks,
};
use alluxio_proto::types::{UfsSource, WriteType};
use alluxio_proto::{ErrorKind, FsError, FsResult, InodeId, IntentId, MountId, WorkerId};
use futures::future::join_all;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;

use super::load::is_absent;
use super::ufs_ops::Change;
use super::workers::{REPORTS_MAX, Room};
use super::{Core, error, now_ns};
use crate::state::command;
use crate::state::{Command, Inode, Intent};

/// Longest wait of one heartbeat, whatever the worker asks for.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// Uploads in one answer at most, and copies.
const UPLOADS_PER_ANSWER_MAX: usize = 256;
/// Pause before an upload is looked at again whose data no live worker has.
const NO_HOLDER_PAUSE: Duration = Duration::from_secs(1);
/// Files in one report of what a worker holds.
pub(super) const REPORT_FILES_MAX: usize = 1_000;
/// A heartbeat that brings more reports than fit waits so long for room.
const ROOM_PAUSE: Duration = Duration::from_millis(50);

impl Core {
    /// Gives an upload to a live worker that has the version.
    pub(super) fn offer_upload(self: &Arc<Self>, intent: &Intent) -> FsResult<()> {
        let id = IntentId(intent.id);
        let Some(worker) = self.holder(intent)? else {
            self.queue.defer(id, Instant::now() + NO_HOLDER_PAUSE);
            return Ok(());
        };
        // Noted first: the worker may fetch it at once.
        self.queue.offered(id, worker);
        if !self.workers.offer(worker, id) {
            self.queue.again_at(id, Instant::now() + NO_HOLDER_PAUSE);
        }
        Ok(())
    }

    fn holder(&self, intent: &Intent) -> FsResult<Option<WorkerId>> {
        let inode = match self.state.inode(InodeId(intent.inode)) {
            Ok(inode) => inode,
            Err(error) if error.kind == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let holders = inode.locations.iter().filter(|at| at.version == intent.version);
        let live = holders.filter(|at| self.workers.is_live(WorkerId(at.worker)));
        let best = live.max_by_key(|at| at.bytes).map(|at| WorkerId(at.worker));
        // The home of what is open has every version that was committed from there.
        let home = inode.open.as_ref().map(|open| WorkerId(open.home_worker));
        let home = home.filter(|home| self.workers.is_live(*home));
        // What was written over it since: whoever has that says that this version is overtaken, and the intent ends.
        let newer = inode.locations.iter().filter(|at| at.version > intent.version);
        let newer = newer.map(|at| WorkerId(at.worker)).find(|at| self.workers.is_live(*at));
        Ok(best.or(home).or(newer))
    }

    pub(super) async fn register_worker(self: &Arc<Self>, op: RegisterWorker) -> FsResult<Registered> {
        self.check_member(op.worker_id, op.proof)?;
        let ours = self.state.cluster_id();
        if !op.cluster_id.is_empty() && op.cluster_id != ours {
            let why = format!(
                "the worker's data folder belongs to cluster {}, this is cluster {ours}; give the worker another folder",
                op.cluster_id
            );
            return error(ErrorKind::InvalidArgument, why);
        }
        let registered = self
            .propose_own(command::RegisterWorker {
                id: op.worker_id,
                address: op.address,
                version: op.version,
            })
            .await?;
        let id = WorkerId(registered.id);
        let Some(record) = self.state.worker(id)? else {
            return error(ErrorKind::Internal, format!("worker {id} vanished while it registered"));
        };
        let forgotten = self.workers.insert(&record, op.tiers, op.boot, true);
        self.queue.withdraw(id);
        self.queue.add(forgotten);
        self.ask_to_recover()?;
        tracing::info!(worker = %id, address = ?record.address, "a worker registered");
        Ok(Registered {
            worker_id: id.get(),
            cluster_id: ours,
        })
    }

    pub(super) async fn worker_heartbeat(self: &Arc<Self>, op: WorkerHeartbeat) -> FsResult<WorkerTasks> {
        let id = WorkerId(op.worker_id);
        let deadline = tokio::time::Instant::now() + Duration::from_millis(op.wait_ms).min(WAIT_MAX);
        self.workers.seen(id);
        let wake = self.workers.wake(id);
        while self.workers.waiting_reports(id) > REPORTS_MAX {
            tokio::time::sleep(ROOM_PAUSE).await;
        }
        // Who has waited may be a process that is gone, of which another has taken the place: nothing of it is for this one.
        let is_of_before = |old: &Arc<Notify>| self.workers.wake(id).is_some_and(|now| !Arc::ptr_eq(old, &now));
        if wake.as_ref().is_some_and(is_of_before) {
            return Ok(WorkerTasks::default());
        }
        if !self.workers.heard(id, &op.tiers, op.damaged, op.cached) {
            return Ok(WorkerTasks {
                reregister: true,
                ..Default::default()
            });
        }
        let room = Room {
            uploads: (op.capacity_tasks as usize).min(UPLOADS_PER_ANSWER_MAX),
            copies: (op.capacity_copies as usize).min(UPLOADS_PER_ANSWER_MAX),
        };
        for intent in self.workers.take_lost_tasks(id, room) {
            self.queue.again_at(intent, Instant::now());
        }
        let Some(wake) = wake else {
            return Ok(WorkerTasks::default());
        };
        loop {
            let ring = wake.notified();
            let Some(tasks) = self.workers.take_tasks(id, &wake, room) else {
                return Ok(WorkerTasks::default());
            };
            let last = tokio::time::Instant::now() >= deadline || self.stop.is_cancelled();
            if !tasks.is_empty() {
                // The answer must be whole even if the worker goes away: what it misses is missed by all.
                let answer = WorkerTasks {
                    reregister: false,
                    persist: self.start_uploads(id, tasks.uploads).await,
                    drop: tasks.drops,
                    recover: tasks.recoveries,
                    copy: self.start_copies(id, tasks.copies),
                };
                if last || answer != WorkerTasks::default() {
                    return Ok(answer);
                }
                continue;
            }
            if last {
                return Ok(WorkerTasks::default());
            }
            tokio::select! {
                () = ring => {}
                () = tokio::time::sleep_until(deadline) => {}
                () = self.stop.cancelled() => {}
            }
        }
    }

    async fn start_uploads(self: &Arc<Self>, worker: WorkerId, ids: Vec<IntentId>) -> Vec<PersistTask> {
        // Together, so that one sync of the journal starts them all.
        let started = join_all(ids.into_iter().map(|id| self.start_upload(worker, id))).await;
        started.into_iter().flatten().collect()
    }

    async fn start_upload(self: &Arc<Self>, worker: WorkerId, id: IntentId) -> Option<PersistTask> {
        let intent = self.start_intent(id, None).await;
        let task = match intent {
            Some(intent) if intent.cancelled => {
                if let Err(error) = self.intent_done(&intent, Change::skipped()).await {
                    tracing::warn!(intent = %id, %error, "a cancelled upload could not be taken off");
                    self.queue.again_at(id, Instant::now() + NO_HOLDER_PAUSE);
                }
                None
            }
            Some(intent) => match self.upload_task(&intent).await {
                Ok(task) => Some(task),
                Err(error) => {
                    if let Err(error) = self.intent_failed(id, &intent, error).await {
                        tracing::warn!(intent = %id, %error, "a failed upload could not be journaled");
                        self.queue.again_at(id, Instant::now() + NO_HOLDER_PAUSE);
                    }
                    None
                }
            },
            None => None,
        };
        if task.is_none() {
            self.workers.task_ended(worker, id);
        }
        task
    }

    async fn upload_task(&self, intent: &Intent) -> FsResult<PersistTask> {
        let (inode, source) = self.source_of(InodeId(intent.inode))?;
        let base = base_of(&inode, intent, source);
        let base_version = match (&base, &inode.ufs) {
            (Some(_), Some(ufs)) => ufs.version,
            _ => 0,
        };
        Ok(PersistTask {
            intent: intent.id,
            inode: intent.inode,
            version: intent.version,
            length: intent.length,
            mount_id: intent.mount_id,
            path: intent.path.clone(),
            expect: self.expected(intent).await?,
            attr: Some(inode.to_attr()),
            drop_after: intent.write_type() == WriteType::Through,
            base,
            base_version,
            xattrs: self.xattrs_of(&inode)?,
        })
    }

    /// Fingerprint of what the upload is to replace. With more than one candidate, and after a failure, the store is asked.
    /// What somebody else has put there meanwhile is replaced too: the namespace has this name, and the last writer wins, as
    /// with any file; but never unseen.
    async fn expected(&self, intent: &Intent) -> FsResult<String> {
        let sure = intent.attempts == 0 && intent.expect.len() <= 1 && intent.expect_lengths.is_empty();
        if sure {
            return Ok(intent.expect.first().cloned().unwrap_or_default());
        }
        let ufs = self.ufs.of(MountId(intent.mount_id))?;
        match ufs.status(&intent.path).await {
            Ok(there) => {
                let ours = super::ufs_ops::is_ours(intent, &there, &self.state.cluster_id());
                if !ours {
                    let path = super::show(&intent.path);
                    tracing::warn!(%path, "an upload replaces an object that was put there behind our back");
                }
                Ok(there.fingerprint)
            }
            Err(error) if is_absent(&error) => Ok(String::new()),
            Err(error) => Err(FsError::from(error)),
        }
    }

    pub(super) async fn persist_done(self: &Arc<Self>, op: PersistDone) -> FsResult<Empty> {
        let id = IntentId(op.intent);
        self.workers.task_ended(WorkerId(op.worker_id), id);
        let Some(intent) = self.state.intent(id)? else {
            self.forget_intent(id);
            return Ok(Empty {});
        };
        let failed = op.error.clone().map(FsError::from_wire);
        self.ufs.heard(MountId(intent.mount_id), failed.as_ref());
        if op.version != intent.version {
            // What is there is another version than the one that is to be there now.
            tracing::warn!(
                intent = op.intent,
                uploaded = op.version,
                wanted = intent.version,
                "an upload is done again"
            );
            self.queue.again_at(id, Instant::now());
            return Ok(Empty {});
        }
        match op.error {
            None => {
                let uploaded = Change {
                    fingerprint: op.fingerprint,
                    ..Change::default()
                };
                self.intent_done(&intent, uploaded).await?;
                self.metrics.files_persisted.inc();
                self.metrics.uploads_done.inc();
            }
            Some(error) => {
                let error = FsError::from_wire(error);
                if !self.is_moot(&intent, &error)? {
                    self.metrics.persist_failures.inc();
                }
                self.intent_failed(id, &intent, error).await?;
            }
        }
        Ok(Empty {})
    }

    /// Stores what workers reported to hold, together.
    pub(super) async fn flush_reports(&self) {
        let taken = self.workers.take_reports(REPORT_FILES_MAX);
        let stored = taken.into_iter().map(|(worker, files)| async move {
            let report = command::ReportCached {
                worker_id: worker.get(),
                files: files.clone(),
            };
            match self.commit_in_background(Command::system(now_ns(), report)).await {
                Ok(_) => {}
                Err(error) if error.kind == ErrorKind::NotFound => {}
                Err(error) => {
                    tracing::warn!(%worker, %error, "a report of a worker could not be stored; it is kept for later");
                    self.workers.return_reports(worker, files);
                }
            }
        });
        join_all(stored).await;
    }

    /// Asks homes for what is left of open versions whose writers are gone. Asking again is fine.
    pub(super) fn ask_to_recover(&self) -> FsResult<()> {
        for (inode, open) in self.state.recovering()? {
            let task = alluxio_proto::master::RecoverTask {
                inode: inode.get(),
                version: open.version,
                keep_bytes: open.durable_length.unwrap_or(0),
                never_committed: open.is_unpromised(),
                boot: open.home_boot,
                mapped: open.mapped,
            };
            self.workers.recover(WorkerId(open.home_worker), task);
        }
        Ok(())
    }
}

/// What the under-storage has of an older version of the same inode: ranges that were never written come from there.
fn base_of(inode: &Inode, intent: &Intent, source: Option<UfsSource>) -> Option<UfsSource> {
    let older = inode
        .ufs
        .as_ref()
        .is_some_and(|ufs| ufs.present && ufs.version < intent.version);
    source.filter(|_| older)
}
