//! Executing intents: from the journal to the under-storage (DESIGN D9).
//!
//! An intent is started by a command (which fixes its path and refuses while an earlier one touches it), executed here or, for
//! uploads, by the worker that has the data, and confirmed or failed by another command. Each step can be repeated; a crash
//! between any two repeats one. Failures are tried again for ever, at growing intervals.

use alluxio_common::sync::Mutex;
use alluxio_proto::{ErrorKind, FsError, FsResult, InodeId, IntentId, MountId};
use alluxio_ufs::UnderFileSystem;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

use super::copies::is_copy;
use super::load::PAGE_ENTRIES;
use super::strays::TellCopies;
use super::ufs_ops::{self, Bound, Change};
use super::{Core, now_ns, show};
use crate::state::command::{IntentCopied, IntentDone, IntentFailed, IntentStarted};
use crate::state::{Applied, Body, Command, Inode, Intent, IntentKind, Passing, RETRY_NEVER};

/// Pause before an intent is looked at again that could not be started, or whose worker is away.
const AGAIN: Duration = Duration::from_millis(500);
/// How long a ripe intent waits for a lull at most.
const HOLD_MAX: Duration = Duration::from_secs(3);
/// A file that is open for writing is not uploaded; it is looked at again so often, should its close be missed.
const OPEN_RECHECK: Duration = Duration::from_secs(1);
/// How long after its name went the object of a spilled file stays for those who have the file open, if others wait for its path.
const READ_STILL_MAX: Duration = Duration::from_secs(5 * 60);

/// Where so many objects of one folder are left behind, more of them are a refusal of the whole: their paths are held in memory while the
/// folder is moved or removed.
const STRAYS_MAX: usize = 100_000;
/// A change is refused so often, in a row, before it counts as refused: rights that were given a moment ago take a while.
const REFUSED_AFTER: u32 = 3;
/// How long a store may take to say that it can be used.
const PROBE_MAX: Duration = Duration::from_secs(10);

/// How many changes each mount's store is asked for at once: one store that hangs does not hold up another. What is between
/// two mounts has places of its own.
#[derive(Debug)]
pub(super) struct Limits {
    per_mount: usize,
    mounts: Mutex<HashMap<(MountId, MountId), Arc<Semaphore>>>,
}

impl Limits {
    pub fn new(per_mount: usize) -> Self {
        Self {
            per_mount,
            mounts: Mutex::default(),
        }
    }
    fn of(&self, intent: &Intent) -> Arc<Semaphore> {
        let key = (MountId(intent.mount_id), intent.to_mount());
        let mut mounts = self.mounts.lock();
        mounts
            .entry(key)
            .or_insert_with(|| Arc::new(Semaphore::new(self.per_mount)))
            .clone()
    }
    pub fn forget(&self, mount: MountId) {
        self.mounts
            .lock()
            .retain(|(from, to), _| *from != mount && *to != mount);
    }
}

impl Core {
    /// Takes an intent that is due a step further. Returns at once; what waits for a store is a task of its own.
    pub(super) fn advance(self: &Arc<Self>, id: IntentId) {
        match self.route(id) {
            Ok(()) => {}
            Err(error) => {
                tracing::warn!(intent = %id, %error, "an intent could not be looked at");
                self.queue.again_at(id, Instant::now() + AGAIN);
            }
        }
    }

    fn route(self: &Arc<Self>, id: IntentId) -> FsResult<()> {
        let Some(intent) = self.state.intent(id)? else {
            self.forget_intent(id);
            return Ok(());
        };
        if intent.refused && !intent.cancelled && !self.queue.is_expedited(id) {
            if intent.is_parked() {
                self.queue.park(id, intent.last_error.map(FsError::from_wire));
                self.effects.progress.notify_waiters();
                return Ok(());
            }
            if let Some(left) = time_until(intent.retry_at_ns) {
                self.queue.defer(id, Instant::now() + left);
                if let Some(error) = intent.last_error {
                    self.queue.keep_reason(id, FsError::from_wire(error));
                }
                return Ok(());
            }
        }
        let is_read_still = self.is_read_still(&intent)?;
        if is_read_still && !self.is_read_too_long(&intent) {
            self.queue.defer(id, Instant::now() + OPEN_RECHECK);
            return Ok(());
        }
        if let Some(due) = self.not_before(&intent)? {
            self.queue.again_at(id, due);
            return Ok(());
        }
        if let Some(latest) = self.hold_until(&intent) {
            self.queue.hold(id, latest);
            return Ok(());
        }
        match self.state.blocked_by(id, self.passing(&intent)) {
            Ok(Some(blocker)) => {
                self.queue.again_after(id, blocker);
                return Ok(());
            }
            Ok(None) => {}
            Err(error) if error.kind == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        if self.lacks_worker(&intent) {
            self.wait_for_worker(id);
            return Ok(());
        }
        if is_read_still {
            tracing::warn!(
                inode = intent.inode,
                path = %show(&intent.path),
                "the object of a removed file that is still open goes, since others wait for its path: what its home has given up \
                 of it for room cannot be read any more"
            );
        }
        if intent.kind() == IntentKind::Persist && !intent.cancelled && !self.is_empty_upload(&intent)? {
            self.offer_upload(&intent)
        } else {
            let core = self.clone();
            self.tasks.spawn(async move {
                tokio::select! {
                    () = Box::pin(core.execute(id, &intent)) => {}
                    () = core.stop.cancelled() => {}
                }
            });
            Ok(())
        }
    }

    /// An intent has ended, or never was.
    pub(super) fn forget_intent(&self, id: IntentId) {
        self.copies.forget_intent(id);
        self.queue.done(id);
        self.effects.progress.notify_waiters();
    }

    /// Whether it would delete the object of a file that lost its name, while those who have the file open have a part of it from
    /// nowhere else.
    fn is_read_still(&self, intent: &Intent) -> FsResult<bool> {
        if intent.kind() != IntentKind::Delete || intent.started {
            return Ok(false);
        }
        match self.state.inode(InodeId(intent.inode)) {
            Ok(inode) => Ok(inode.nlink == 0 && inode.spilled),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether those who have it open have had their time, and others wait for its path.
    fn is_read_too_long(&self, intent: &Intent) -> bool {
        let max_ns = READ_STILL_MAX.as_nanos() as i64;
        now_ns().saturating_sub(intent.created_ns) >= max_ns && self.queue.is_waited_for(IntentId(intent.id))
    }

    /// When an intent that has not ripened should be looked at; `None`: now.
    fn not_before(&self, intent: &Intent) -> FsResult<Option<Instant>> {
        if intent.started || !intent.kind().is_late_bound() || self.queue.is_expedited(IntentId(intent.id)) {
            return Ok(None);
        }
        let ripe_ns = match intent.kind() {
            IntentKind::SetAttr => self.ripe_attributes_ns(intent),
            _ => intent
                .created_ns
                .saturating_add(self.settings.persist_wait.as_nanos() as i64),
        };
        if let Some(left) = time_until(ripe_ns) {
            return Ok(Some(Instant::now() + left));
        }
        // Attributes of what is being written go with its upload.
        let waits_for_close = matches!(intent.kind(), IntentKind::Persist | IntentKind::SetAttr);
        let written = waits_for_close
            && match self.state.inode(InodeId(intent.inode)) {
                Ok(inode) => inode.open.as_ref().is_some_and(|open| !open.mapped),
                Err(error) if error.kind == ErrorKind::NotFound => false,
                Err(error) => return Err(error),
            };
        Ok(written.then(|| Instant::now() + OPEN_RECHECK))
    }

    /// Until when a ripe intent should wait for a lull; `None`: it should not. Uploads take processor and disk from those who
    /// create files, who often rename or remove them soon.
    fn hold_until(&self, intent: &Intent) -> Option<Instant> {
        let free = intent.started || !intent.kind().is_late_bound() || self.queue.is_expedited(IntentId(intent.id));
        if free || !self.pace.is_busy() {
            return None;
        }
        let age_ns = now_ns().saturating_sub(intent.created_ns);
        let age = Duration::from_nanos(u64::try_from(age_ns).unwrap_or(0));
        let longest = self.settings.persist_wait + HOLD_MAX;
        longest.checked_sub(age).map(|left| Instant::now() + left)
    }

    /// An upload of nothing, which no worker has: the master does it itself.
    fn is_empty_upload(&self, intent: &Intent) -> FsResult<bool> {
        if intent.length != 0 {
            return Ok(false);
        }
        match self.state.inode(InodeId(intent.inode)) {
            Ok(inode) => Ok(!inode.locations.iter().any(|at| at.version == intent.version)),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(true),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn execute(self: &Arc<Self>, id: IntentId, looked_at: &Intent) {
        let limit = self.limits.of(looked_at);
        let Ok(_permit) = limit.acquire().await else { return };
        let Some(intent) = self.start_intent(id, None).await else {
            return;
        };
        if is_copy(&intent) {
            if let Err(error) = self.copy_across(&intent).await {
                tracing::warn!(intent = %id, %error, "a copy to another mount could not be journaled; it is looked at again");
                self.queue.again_at(id, Instant::now() + AGAIN);
            }
            return;
        }
        // A waiting upload becomes that of a newer version: what was empty when it was looked at may have bytes by now.
        let is_empty = match intent.kind() == IntentKind::Persist && !intent.cancelled {
            true => self.is_empty_upload(&intent),
            false => Ok(true),
        };
        let offered = match is_empty {
            Ok(true) => None,
            Ok(false) => Some(self.offer_upload(&intent)),
            Err(error) => Some(Err(error)),
        };
        if let Some(offered) = offered {
            if let Err(error) = offered {
                tracing::warn!(intent = %id, %error, "an upload could not be offered");
                self.queue.again_at(id, Instant::now() + AGAIN);
            }
            return;
        }
        let done = match self.change(&intent).await {
            Ok(change) => self.changed(&intent, change).await,
            Err(error) => self.intent_failed(id, &intent, error).await,
        };
        if let Err(error) = done {
            tracing::warn!(intent = %id, %error, "the end of an intent could not be journaled; it will be executed again");
            self.queue.again_at(id, Instant::now() + AGAIN);
        }
    }

    /// A change was made, but for what the store refused of it. That is tried again with the whole some times, as any refusal; then it
    /// is journaled on its own, and the whole is done.
    async fn changed(self: &Arc<Self>, intent: &Intent, mut change: Change) -> FsResult<()> {
        let left = std::mem::take(&mut change.left);
        if let Some(first) = left.first() {
            let error = FsError::from(first.error.clone());
            let is_refused = self.verdict(intent, &error).await?.refused;
            if !is_refused || (change.is_cut && self.kept_by(intent)?.len() >= STRAYS_MAX) {
                return self.intent_failed(IntentId(intent.id), intent, error).await;
            }
            self.journal_left(intent, left).await?;
        }
        if change.is_cut {
            // The next attempt leaves alone what is journaled now.
            self.queue.again_at(IntentId(intent.id), Instant::now());
            return Ok(());
        }
        self.intent_done(intent, change).await
    }

    /// When what was left of a change is tried again.
    pub(super) fn first_retry_of_left(&self) -> i64 {
        now_ns().saturating_add(self.pause_after(REFUSED_AFTER).as_nanos() as i64)
    }

    /// Starts an intent; `None` if it is not to be executed now.
    pub(super) async fn start_intent(
        self: &Arc<Self>,
        id: IntentId,
        replace_foreign: Option<String>,
    ) -> Option<Intent> {
        let passing = match self.state.intent(id) {
            Ok(Some(intent)) => self.passing(&intent),
            // The state says so again.
            _ => Passing::default(),
        };
        let started = IntentStarted {
            intent: id.get(),
            replace_foreign,
            passes: passing.passes,
            keeps: passing.keeps,
        };
        match self.commit_for(id, started).await {
            Ok(applied) => {
                if applied.intent.is_none() {
                    self.forget_intent(id);
                }
                applied.intent
            }
            Err(error) => {
                if !matches!(error.kind, ErrorKind::Busy | ErrorKind::NotFound) {
                    tracing::warn!(intent = %id, %error, "an intent could not be started");
                }
                self.queue.again_at(id, Instant::now() + AGAIN);
                None
            }
        }
    }

    /// Somebody may wait for an expedited intent; for others nobody does.
    pub(super) async fn commit_for(&self, id: IntentId, step: impl Into<Body>) -> FsResult<Applied> {
        let command = Command::system(now_ns(), step);
        match self.queue.is_expedited(id) {
            true => self.commit(command).await,
            false => self.commit_in_background(command).await,
        }
    }

    /// Confirms an intent. A persist may live on under its id, for a version that was committed meanwhile; a rename to another
    /// mount does, as the delete of its source.
    pub(super) async fn intent_done(self: &Arc<Self>, intent: &Intent, change: Change) -> FsResult<()> {
        let id = IntentId(intent.id);
        let done = IntentDone {
            intent: intent.id,
            fingerprint: change.fingerprint,
            skipped: change.skipped,
            dropped: false,
            source_fingerprint: change.source_fingerprint,
            taken_along: change.taken_along.map(|status| self.entry_of(status, None)),
            of_copy: is_copy(intent),
        };
        self.commit_for(id, done).await?;
        self.metrics.ufs_changes_done.inc();
        self.queue.set_permanent(id, None, false);
        if self.state.intent(id)?.is_some() {
            self.queue.again_at(id, Instant::now());
        } else {
            self.forget_intent(id);
        }
        Ok(())
    }

    /// Notes a failure and when to try again.
    pub(super) async fn intent_failed(self: &Arc<Self>, id: IntentId, intent: &Intent, error: FsError) -> FsResult<()> {
        let pause = self.pause_after(intent.attempts);
        if self.is_moot(intent, &error)? {
            tracing::debug!(intent = %id, path = %show(&intent.path), %error, "an upload was overtaken");
        } else {
            self.metrics.ufs_changes_failed.inc();
            self.ufs.warn(
                MountId(intent.mount_id),
                &format!("{:?} of {:?}", intent.kind(), show(&intent.path)),
                &error,
            );
        }
        let verdict = self.verdict(intent, &error).await?;
        let is_permanent = self.is_permanent(intent, &error)?;
        self.queue
            .set_permanent(id, is_permanent.then(|| error.clone()), verdict.refused);
        self.say_refused(intent, &error, &verdict);
        let retry_at_ns = match verdict.for_good {
            true => RETRY_NEVER,
            false => now_ns().saturating_add(pause.as_nanos() as i64),
        };
        let failed = IntentFailed {
            intent: id.get(),
            error: Some(error.to_wire()),
            retry_at_ns,
            data_lost: error.kind == ErrorKind::DataLost,
            superseded: error.kind == ErrorKind::Stale,
            refused: verdict.for_good || (verdict.refused && waits_for_a_person(intent.kind())),
            refusal: verdict.refusal,
            keep: waits_for_a_person(intent.kind()),
            stays: verdict.refused && self.stays_where_it_was(intent).await,
        };
        let gives_way = failed.refused;
        if gives_way {
            self.queue.set_expedited(id, false);
        }
        self.commit_for(id, failed).await?;
        if self.state.intent(id)?.is_none() {
            self.forget_intent(id);
            return Ok(());
        }
        match gives_way && self.queue.is_expedited(id) {
            // A person has seen that it is refused, and has asked for another try already.
            true => self.queue.again_at(id, Instant::now()),
            false => self.queue.defer(id, Instant::now() + pause),
        }
        self.effects.progress.notify_waiters();
        Ok(())
    }

    /// Whether an upload ended because what it was of was replaced or removed meanwhile: nothing has failed.
    pub(super) fn is_moot(&self, intent: &Intent, error: &FsError) -> FsResult<bool> {
        let ends_so = matches!(error.kind, ErrorKind::Stale | ErrorKind::NotFound);
        if intent.kind() != IntentKind::Persist || !ends_so {
            return Ok(false);
        }
        let Some(inode) = self.inode_of(intent)? else {
            return Ok(true);
        };
        let is_replaced = inode.version > intent.version || inode.open.is_some();
        Ok(inode.nlink == 0 || (error.kind == ErrorKind::Stale && is_replaced))
    }

    /// What a failure says of the next tries. A store that refuses everything (credentials that ran out) is another matter:
    /// that heals, and is waited for. One that takes no writes cannot be told from one that refuses this change, so nothing is given
    /// up before `alluxio.master.persistence.refused.timeout`.
    async fn verdict(&self, intent: &Intent, error: &FsError) -> FsResult<Verdict> {
        let mut verdict = Verdict::default();
        if intent.cancelled || !is_refusal(error) {
            return Ok(verdict);
        }
        verdict.refusal = true;
        if intent.refusals + 1 < REFUSED_AFTER {
            return Ok(verdict);
        }
        let probe = async |mount: MountId| match self.ufs.of(mount) {
            Ok(ufs) => tokio::time::timeout(PROBE_MAX, ufs.probe())
                .await
                .is_ok_and(|probed| probed.is_ok()),
            Err(_) => false,
        };
        if !probe(MountId(intent.mount_id)).await || (intent.is_across() && !probe(intent.to_mount()).await) {
            return Ok(Verdict::default());
        }
        verdict.refused = true;
        let since_ns = now_ns().saturating_sub(intent.refused_since_ns);
        let timeout_ns = i64::try_from(self.settings.refused_timeout.as_nanos()).unwrap_or(i64::MAX);
        verdict.for_good = (intent.refusals > 0 && since_ns >= timeout_ns) || self.is_overtaken(intent)?;
        Ok(verdict)
    }

    /// Whether something waits behind a change of attributes: an upload brings them along, and nothing else is worth less than they.
    fn is_overtaken(&self, intent: &Intent) -> FsResult<bool> {
        if intent.kind() != IntentKind::SetAttr {
            return Ok(false);
        }
        if self.queue.is_waited_for(IntentId(intent.id)) {
            return Ok(true);
        }
        let of_inode = self.state.intents_of(InodeId(intent.inode))?;
        Ok(of_inode
            .iter()
            .any(|other| other.kind() == IntentKind::Persist && other.inode == intent.inode))
    }

    /// Once when it begins, and once when it is given up.
    fn say_refused(&self, intent: &Intent, error: &FsError, verdict: &Verdict) {
        let (id, path, to) = (intent.id, show(&intent.path), show(&intent.to_path));
        let what = intent.kind();
        if verdict.refused && intent.refusals + 1 == REFUSED_AFTER {
            self.metrics.ufs_changes_refused.inc();
            tracing::warn!(
                intent = id, %path, %to, %error,
                "the under-storage refuses a change ({what:?}); it is tried again for {:?}; `alluxio fsadmin report` lists it",
                self.settings.refused_timeout
            );
        }
        if verdict.for_good && intent.retry_at_ns != RETRY_NEVER {
            tracing::error!(
                intent = id, %path, %to, %error,
                "the under-storage refuses a change ({what:?}) and it is not tried any more; `alluxio fsadmin report` lists it, \
                 `alluxio fs persist` tries an upload or a rename again"
            );
        }
    }

    fn pause_after(&self, attempts: u32) -> Duration {
        let doubled = self.settings.retry_first.saturating_mul(1 << attempts.min(16));
        doubled.min(self.settings.retry_max)
    }

    /// Fills the queue from the state, as far as it has room.
    pub(super) fn fill_queue(&self) {
        let mut after = IntentId(0);
        loop {
            let intents = match self.state.intents(after, PAGE_ENTRIES) {
                Ok(intents) => intents,
                Err(error) => {
                    tracing::error!(%error, "pending changes of under-storages could not be read");
                    return;
                }
            };
            let Some(last) = intents.last() else { return };
            after = IntentId(last.id);
            let was_last = intents.len() < PAGE_ENTRIES;
            let (parked, others): (Vec<_>, Vec<_>) = intents
                .into_iter()
                .partition(|intent| intent.is_parked() && !self.queue.is_expedited(IntentId(intent.id)));
            let parked = parked
                .into_iter()
                .map(|intent| (IntentId(intent.id), intent.last_error.map(FsError::from_wire)));
            self.queue.park_absent(parked);
            let all_taken = self.queue.add(others.into_iter().map(|intent| IntentId(intent.id)));
            if was_last || !all_taken {
                return;
            }
        }
    }

    async fn change(&self, intent: &Intent) -> FsResult<Change> {
        if intent.cancelled {
            return Ok(Change::skipped());
        }
        let ufs = self.ufs.of(MountId(intent.mount_id))?;
        let ufs = ufs.as_ref();
        let cluster = &self.state.cluster_id();
        let inode = self.inode_of(intent)?;
        let inode = inode.as_deref();
        let attributes = || self.attributes_of(inode);
        let change = match intent.kind() {
            IntentKind::Persist => ufs_ops::upload_nothing(ufs, intent, attributes()?, cluster).await,
            IntentKind::Delete => ufs_ops::delete(ufs, intent, cluster).await,
            IntentKind::DeleteTree => ufs_ops::delete_tree(ufs, &intent.path, &self.kept_by(intent)?).await,
            IntentKind::Rename => Ok(self.rename_in_store(ufs, intent).await?),
            IntentKind::Mkdir => ufs_ops::mkdir(ufs, intent, inode, &attributes()?).await,
            IntentKind::Rmdir => ufs_ops::rmdir(ufs, intent).await,
            IntentKind::SetAttr => self.set_stored_attributes(ufs, intent, inode).await,
            IntentKind::Symlink => ufs_ops::symlink(ufs, intent, inode, &attributes()?).await,
        };
        let change = change.map_err(FsError::from)?;
        if matches!(
            intent.kind(),
            IntentKind::Delete | IntentKind::Rename | IntentKind::Rmdir | IntentKind::DeleteTree
        ) {
            self.keep_empty_dir(ufs, intent).await?;
        }
        Ok(change)
    }

    async fn rename_in_store(&self, ufs: &dyn UnderFileSystem, intent: &Intent) -> FsResult<Change> {
        let (bound, cluster) = (Bound::of(self.inode_of(intent)?.as_deref()), &self.state.cluster_id());
        let kept = &self.kept_by(intent)?;
        let told = &TellCopies { core: self, intent };
        let change = ufs_ops::rename(ufs, intent, bound, cluster, kept, told).await?;
        let Some(copied) = change.copied else { return Ok(change) };
        let copied = IntentCopied {
            intent: intent.id,
            copied: Some(copied),
            objects: Vec::new(),
        };
        match self.commit_for(IntentId(intent.id), copied).await?.intent {
            Some(intent) => Ok(ufs_ops::rename(ufs, &intent, bound, cluster, kept, told).await?),
            None => Ok(Change::skipped()),
        }
    }

    pub(super) fn inode_of(&self, intent: &Intent) -> FsResult<Option<Arc<Inode>>> {
        match self.state.inode(InodeId(intent.inode)) {
            Ok(inode) => Ok(Some(inode)),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Where folders are only prefixes of keys, the last key takes its folder along: a marker keeps a directory that we know.
    async fn keep_empty_dir(&self, ufs: &dyn UnderFileSystem, intent: &Intent) -> FsResult<()> {
        let dir = InodeId(intent.dir);
        if ufs.capabilities().real_directories {
            return Ok(());
        }
        let Ok(inode) = self.state.inode(dir) else {
            return Ok(());
        };
        if inode.entries > 0 || inode.parent == 0 || !inode.children_loaded || !Self::is_backed(&inode) {
            return Ok(());
        }
        let Ok(at) = self.state.ufs_path(dir) else {
            return Ok(());
        };
        // One that moved to another mount leaves nothing here.
        if at.path.is_empty() || at.mount.get() != intent.mount_id {
            return Ok(());
        }
        let attributes = self.attributes_of(Some(&inode))?;
        match ufs.mkdir(&at.path, &attributes).await {
            // The change itself is done.
            Err(error) if error.is_refusal() => {
                tracing::warn!(path = %show(&at.path), %error, "an empty folder has no marker");
                Ok(())
            }
            made => Ok(made?),
        }
    }

    /// Whether trying again without anybody doing something is futile. It is tried all the same, but who waits is told.
    fn is_permanent(&self, intent: &Intent, error: &FsError) -> FsResult<bool> {
        let is_upload = intent.kind() == IntentKind::Persist && error.kind == ErrorKind::VersionMismatch;
        // Somebody replaced the object that a change was made of: only a person can say which of the two is to stay. One
        // that was put where there was none is replaced by the next try, and one of a version that was written over meanwhile is of no
        // concern to who waits for the newer one.
        let is_wanted = |inode: Arc<Inode>| inode.ufs.is_some() && inode.version <= intent.version;
        let base_is_gone = is_upload && self.inode_of(intent)?.is_some_and(is_wanted);
        Ok(base_is_gone || is_futile(error))
    }
}

/// What a failure says of the next tries.
#[derive(Clone, Copy, Debug, Default)]
struct Verdict {
    /// The store says that it will not do it.
    refusal: bool,
    /// As it has for some tries, while it can be reached.
    refused: bool,
    /// And for so long that nobody but a person will change that.
    for_good: bool,
}

/// Whether what was refused is kept until a person decides: the namespace would not be right without it, be it that a name came back
/// whose object could not be deleted. Attributes are given up.
fn waits_for_a_person(kind: IntentKind) -> bool {
    kind != IntentKind::SetAttr
}

/// Time until `at_ns`; `None` if that has passed.
fn time_until(at_ns: i64) -> Option<Duration> {
    let left_ns = u64::try_from(at_ns.saturating_sub(now_ns())).unwrap_or(0);
    (left_ns > 0).then(|| Duration::from_nanos(left_ns))
}

/// Whether a store says by it that it will not do this, and not that it cannot now.
fn is_refusal(error: &FsError) -> bool {
    matches!(
        error.kind,
        ErrorKind::UfsDenied
            | ErrorKind::AccessDenied
            | ErrorKind::NotPermitted
            | ErrorKind::NotSupported
            | ErrorKind::InvalidArgument
            | ErrorKind::NameTooLong
            | ErrorKind::FileTooLarge
            | ErrorKind::IsADirectory
            | ErrorKind::NotADirectory
    )
}

/// Whether an error stays until somebody does something about it.
fn is_futile(error: &FsError) -> bool {
    matches!(
        error.kind,
        ErrorKind::UfsDenied
            | ErrorKind::AccessDenied
            | ErrorKind::NotPermitted
            | ErrorKind::ReadOnly
            | ErrorKind::NotSupported
            | ErrorKind::InvalidArgument
            | ErrorKind::NameTooLong
            | ErrorKind::FileTooLarge
            | ErrorKind::NoSpace
            | ErrorKind::QuotaExceeded
            | ErrorKind::IsADirectory
            | ErrorKind::NotADirectory
            | ErrorKind::DataLost
            | ErrorKind::Corrupt
    )
}
