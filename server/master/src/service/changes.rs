//! Executing intents: from the journal to the under-storage (DESIGN D9).
//!
//! An intent is started by a command (which fixes its path and refuses while an earlier one touches it), executed here or, for
//! uploads, by the worker that has the data, and confirmed or failed by another command. Each step can be repeated; a crash
//! between any two repeats one. Failures are tried again for ever, at growing intervals.

use alluxio_common::sync::Mutex;
use alluxio_proto::types::FileKind;
use alluxio_proto::{ErrorKind, FsError, FsResult, InodeId, IntentId, MountId};
use alluxio_ufs::{BytesSource, Expect, UfsAttributes, UfsErrorKind, UfsResult, UfsStatus, UnderFileSystem};
use bytes::{Bytes, BytesMut};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

use super::load::{PAGE_ENTRIES, is_absent};
use super::{Core, now_ns, show};
use crate::state::command::{IntentDone, IntentFailed, IntentStarted};
use crate::state::{Inode, Intent, IntentKind};

/// Pause before an intent is looked at again that could not be started, or whose worker is away.
const AGAIN: Duration = Duration::from_millis(500);
/// A file that is open for writing is not uploaded; it is looked at again so often, should its close be missed.
const OPEN_RECHECK: Duration = Duration::from_secs(1);

/// How many changes each mount's store is asked for at once: one store that hangs does not hold up another.
#[derive(Debug)]
pub(super) struct Limits {
    per_mount: usize,
    mounts: Mutex<HashMap<MountId, Arc<Semaphore>>>,
}

impl Limits {
    pub fn new(per_mount: usize) -> Self {
        Self {
            per_mount,
            mounts: Mutex::default(),
        }
    }
    fn of(&self, mount: MountId) -> Arc<Semaphore> {
        let mut mounts = self.mounts.lock();
        let new = || Arc::new(Semaphore::new(self.per_mount));
        mounts.entry(mount).or_insert_with(new).clone()
    }
    pub fn forget(&self, mount: MountId) {
        self.mounts.lock().remove(&mount);
    }
}

/// What became of the store's part.
#[derive(Debug, Default)]
struct Change {
    fingerprint: String,
    skipped: bool,
}

impl Change {
    fn skipped() -> Self {
        Self {
            skipped: true,
            ..Self::default()
        }
    }
    fn of(status: UfsStatus) -> Self {
        Self {
            fingerprint: status.fingerprint,
            skipped: false,
        }
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
        if let Some(due) = self.not_before(&intent)? {
            self.queue.again_at(id, due);
            return Ok(());
        }
        match self.state.blocked_by(id) {
            Ok(Some(blocker)) => {
                self.queue.again_after(id, blocker);
                return Ok(());
            }
            Ok(None) => {}
            Err(error) if error.kind == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        if intent.kind() == IntentKind::Persist && !intent.cancelled && !self.is_empty_upload(&intent)? {
            self.offer_upload(&intent)
        } else {
            let core = self.clone();
            self.tasks.spawn(async move {
                tokio::select! {
                    () = Box::pin(core.execute(id, MountId(intent.mount_id))) => {}
                    () = core.stop.cancelled() => {}
                }
            });
            Ok(())
        }
    }

    /// An intent has ended, or never was.
    pub(super) fn forget_intent(self: &Arc<Self>, id: IntentId) {
        if self.queue.done(id) {
            let core = self.clone();
            self.tasks.spawn(async move { core.fill_queue() });
        }
        self.effects.progress.notify_waiters();
    }

    /// When an intent that has not ripened should be looked at; `None`: now.
    fn not_before(&self, intent: &Intent) -> FsResult<Option<Instant>> {
        if intent.started || !intent.kind().is_late_bound() || self.queue.is_expedited(IntentId(intent.id)) {
            return Ok(None);
        }
        let ripe_ns = intent
            .created_ns
            .saturating_add(self.settings.persist_wait.as_nanos() as i64);
        let left_ns = u64::try_from(ripe_ns.saturating_sub(now_ns())).unwrap_or(0);
        if left_ns > 0 {
            return Ok(Some(Instant::now() + Duration::from_nanos(left_ns)));
        }
        let written = intent.kind() == IntentKind::Persist
            && match self.state.inode(InodeId(intent.inode)) {
                Ok(inode) => inode.open.is_some(),
                Err(error) if error.kind == ErrorKind::NotFound => false,
                Err(error) => return Err(error),
            };
        Ok(written.then(|| Instant::now() + OPEN_RECHECK))
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

    async fn execute(self: &Arc<Self>, id: IntentId, mount: MountId) {
        let limit = self.limits.of(mount);
        let Ok(_permit) = limit.acquire().await else { return };
        let Some(intent) = self.start_intent(id, None).await else {
            return;
        };
        let done = match self.change(&intent).await {
            Ok(change) => self.intent_done(&intent, change.fingerprint, change.skipped).await,
            Err(error) => self.intent_failed(id, &intent, error).await,
        };
        if let Err(error) = done {
            tracing::warn!(intent = %id, %error, "the end of an intent could not be journaled; it will be executed again");
            self.queue.again_at(id, Instant::now() + AGAIN);
        }
    }

    /// Starts an intent; `None` if it is not to be executed now.
    pub(super) async fn start_intent(
        self: &Arc<Self>,
        id: IntentId,
        replace_foreign: Option<String>,
    ) -> Option<Intent> {
        let started = IntentStarted {
            intent: id.get(),
            replace_foreign,
        };
        match self.propose_own(started).await {
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

    /// Confirms an intent. A persist may live on under its id, for a version that was committed meanwhile.
    pub(super) async fn intent_done(
        self: &Arc<Self>,
        intent: &Intent,
        fingerprint: String,
        skipped: bool,
    ) -> FsResult<()> {
        let id = IntentId(intent.id);
        self.propose_own(IntentDone {
            intent: intent.id,
            fingerprint,
            skipped,
            dropped: false,
        })
        .await?;
        self.metrics.ufs_changes_done.inc();
        self.queue.set_permanent(id, None);
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
        self.metrics.ufs_changes_failed.inc();
        self.ufs.warn(
            MountId(intent.mount_id),
            &format!("{:?} of {:?}", intent.kind(), show(&intent.path)),
            &error,
        );
        self.queue
            .set_permanent(id, is_permanent(&error).then(|| error.clone()));
        self.propose_own(IntentFailed {
            intent: id.get(),
            error: Some(error.to_wire()),
            retry_at_ns: now_ns().saturating_add(pause.as_nanos() as i64),
            data_lost: error.kind == ErrorKind::DataLost,
            superseded: error.kind == ErrorKind::Stale,
        })
        .await?;
        if self.state.intent(id)?.is_some() {
            self.queue.again_at(id, Instant::now() + pause);
            self.effects.progress.notify_waiters();
        } else {
            self.forget_intent(id);
        }
        Ok(())
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
            let all_taken = self.queue.add(intents.into_iter().map(|intent| IntentId(intent.id)));
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
        let change = match intent.kind() {
            IntentKind::Persist => upload_nothing(ufs, intent, self.inode_of(intent)?.as_deref()).await,
            IntentKind::Delete => delete(ufs, intent).await,
            IntentKind::DeleteTree => delete_tree(ufs, &intent.path).await,
            IntentKind::Rename => rename(ufs, intent).await,
            IntentKind::Mkdir => mkdir(ufs, intent, self.inode_of(intent)?.as_deref()).await,
            IntentKind::Rmdir => rmdir(ufs, intent).await,
            IntentKind::SetAttr => set_attributes(ufs, intent, self.inode_of(intent)?.as_deref()).await,
            IntentKind::Symlink => symlink(ufs, intent, self.inode_of(intent)?.as_deref()).await,
        };
        let change = change.map_err(FsError::from)?;
        if matches!(
            intent.kind(),
            IntentKind::Delete | IntentKind::Rename | IntentKind::Rmdir | IntentKind::DeleteTree
        ) {
            self.keep_empty_dir(ufs, InodeId(intent.dir)).await?;
        }
        Ok(change)
    }

    fn inode_of(&self, intent: &Intent) -> FsResult<Option<Arc<Inode>>> {
        match self.state.inode(InodeId(intent.inode)) {
            Ok(inode) => Ok(Some(inode)),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Where folders are only prefixes of keys, the last key takes its folder along: a marker keeps a directory that we know.
    async fn keep_empty_dir(&self, ufs: &dyn UnderFileSystem, dir: InodeId) -> FsResult<()> {
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
        if at.path.is_empty() {
            return Ok(());
        }
        Ok(ufs.mkdir(&at.path, &attributes(Some(&inode))).await?)
    }
}

/// Whether trying again without anybody doing something is futile. It is tried all the same, but who waits is told.
fn is_permanent(error: &FsError) -> bool {
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
            | ErrorKind::IsADirectory
            | ErrorKind::NotADirectory
            | ErrorKind::DataLost
    )
}

pub(super) fn attributes(inode: Option<&Inode>) -> UfsAttributes {
    inode.map_or_else(UfsAttributes::default, |inode| UfsAttributes {
        mode: Some(inode.mode),
        owner: Some(inode.owner.clone()),
        group: Some(inode.group.clone()),
        mtime_ns: Some(inode.mtime_ns),
    })
}

async fn status_if_any(ufs: &dyn UnderFileSystem, path: &[u8]) -> UfsResult<Option<UfsStatus>> {
    match ufs.status(path).await {
        Ok(status) => Ok(Some(status)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn upload_nothing(ufs: &dyn UnderFileSystem, intent: &Intent, inode: Option<&Inode>) -> UfsResult<Change> {
    let source = BytesSource(Bytes::new());
    // What is there is replaced: the namespace says that this name is an empty file.
    let written = ufs
        .write(&intent.path, &source, &Expect::Any, &attributes(inode))
        .await?;
    Ok(Change::of(written))
}

/// Deletes a file if it is still ours; what somebody else has put in its place stays.
async fn delete(ufs: &dyn UnderFileSystem, intent: &Intent) -> UfsResult<Change> {
    let Some(there) = status_if_any(ufs, &intent.path).await? else {
        return Ok(Change::skipped());
    };
    let ours = there.kind != FileKind::Directory
        && (intent.expect.contains(&there.fingerprint) || is_our_length(intent, &there));
    if !ours {
        tracing::info!(path = %show(&intent.path), "not deleted: the object is another one now");
        return Ok(Change::skipped());
    }
    for result in ufs.delete(std::slice::from_ref(&intent.path)).await {
        result?;
    }
    Ok(Change::default())
}

fn is_our_length(intent: &Intent, there: &UfsStatus) -> bool {
    intent.expect_lengths.contains(&there.length) && there.mtime_ns >= intent.created_ns.saturating_sub(CLOCK_SLACK_NS)
}

/// An object that is this much older than an intent to delete may be ours by length all the same: uploads take a while, and
/// the store's clock is another one.
const CLOCK_SLACK_NS: i64 = 3600 * 1_000_000_000;

/// A folder that is being emptied: the rest of the page of its listing.
struct Frame {
    path: Bytes,
    folders: Vec<Bytes>,
    token: Option<alluxio_ufs::PageToken>,
    listed: bool,
}

impl Frame {
    fn new(path: Bytes) -> Self {
        Self {
            path,
            folders: Vec::new(),
            token: None,
            listed: false,
        }
    }
}

/// Deletes a folder with all beneath it, depth first, holding one page per level.
async fn delete_tree(ufs: &dyn UnderFileSystem, path: &Bytes) -> UfsResult<Change> {
    let mut stack = vec![Frame::new(path.clone())];
    while let Some(frame) = stack.last_mut() {
        if let Some(folder) = frame.folders.pop() {
            stack.push(Frame::new(folder));
        } else if !frame.listed || frame.token.is_some() {
            empty_page(ufs, frame).await?;
        } else {
            match ufs.rmdir(&frame.path).await {
                Ok(()) => {}
                Err(error) if is_absent(&error) => {}
                Err(error) => return Err(error),
            }
            stack.pop();
        }
    }
    Ok(Change::default())
}

async fn empty_page(ufs: &dyn UnderFileSystem, frame: &mut Frame) -> UfsResult<()> {
    let page = match ufs.list(&frame.path, frame.token.take(), PAGE_ENTRIES).await {
        Ok(page) => page,
        Err(error) if is_absent(&error) => Default::default(),
        Err(error) => return Err(error),
    };
    frame.listed = true;
    frame.token = page.next;
    let mut files = Vec::new();
    for entry in page.entries {
        let path = join(&frame.path, &entry.name);
        if entry.kind == FileKind::Directory {
            frame.folders.push(path);
        } else {
            files.push(path);
        }
    }
    if !files.is_empty() {
        for result in ufs.delete(&files).await {
            result?;
        }
    }
    Ok(())
}

fn join(dir: &[u8], name: &[u8]) -> Bytes {
    let mut path = BytesMut::with_capacity(dir.len() + 1 + name.len());
    path.extend_from_slice(dir);
    if !dir.is_empty() {
        path.extend_from_slice(b"/");
    }
    path.extend_from_slice(name);
    path.freeze()
}

async fn rename(ufs: &dyn UnderFileSystem, intent: &Intent) -> UfsResult<Change> {
    if intent.inode_kind() != FileKind::Directory {
        match status_if_any(ufs, &intent.path).await? {
            // Done by an attempt that could not say so, or nothing to rename.
            None => {
                let moved = status_if_any(ufs, &intent.to_path).await?;
                return Ok(moved.map_or_else(Change::skipped, Change::of));
            }
            Some(there) if !intent.expect.is_empty() && !intent.expect.contains(&there.fingerprint) => {
                tracing::info!(path = %show(&intent.path), "not renamed: the object is another one now");
                return Ok(Change::skipped());
            }
            Some(_) => {}
        }
    }
    match ufs.rename(&intent.path, &intent.to_path).await {
        Ok(status) => Ok(Change::of(status)),
        Err(error) if error.kind == UfsErrorKind::NotFound => Ok(Change::skipped()),
        Err(error) => Err(error),
    }
}

/// Where folders are only prefixes of keys, one with something in it needs no marker.
async fn mkdir(ufs: &dyn UnderFileSystem, intent: &Intent, inode: Option<&Inode>) -> UfsResult<Change> {
    let needs_marker = inode.is_none_or(|inode| inode.entries == 0);
    if ufs.capabilities().real_directories || needs_marker {
        ufs.mkdir(&intent.path, &attributes(inode)).await?;
    }
    Ok(Change::default())
}

async fn rmdir(ufs: &dyn UnderFileSystem, intent: &Intent) -> UfsResult<Change> {
    match ufs.rmdir(&intent.path).await {
        Ok(()) => Ok(Change::default()),
        Err(error) if is_absent(&error) => Ok(Change::skipped()),
        // Others have put something in it; the next look at the parent shows it.
        Err(error) if error.kind == UfsErrorKind::NotEmpty => Ok(Change::skipped()),
        Err(error) => Err(error),
    }
}

async fn set_attributes(ufs: &dyn UnderFileSystem, intent: &Intent, inode: Option<&Inode>) -> UfsResult<Change> {
    let mut wanted = attributes(inode);
    if intent.inode_kind() == FileKind::Directory {
        wanted.mtime_ns = None;
    }
    match ufs.set_attributes(&intent.path, &wanted).await {
        Ok(true) => {
            let now = status_if_any(ufs, &intent.path).await?;
            Ok(now.map_or_else(Change::skipped, Change::of))
        }
        Ok(false) => Ok(Change::skipped()),
        Err(error) if is_absent(&error) || error.kind == UfsErrorKind::Unsupported => Ok(Change::skipped()),
        Err(error) => Err(error),
    }
}

async fn symlink(ufs: &dyn UnderFileSystem, intent: &Intent, inode: Option<&Inode>) -> UfsResult<Change> {
    let Some(inode) = inode else {
        return Ok(Change::skipped());
    };
    match ufs.symlink(&intent.path, &inode.symlink_target).await {
        Ok(()) => {}
        Err(error) if error.kind == UfsErrorKind::AlreadyExists => {
            let there = status_if_any(ufs, &intent.path).await?;
            let same = there.and_then(|there| there.symlink_target).as_ref() == Some(&inode.symlink_target);
            if !same {
                // What is there was taken over with the name; a link replaces it.
                for result in ufs.delete(std::slice::from_ref(&intent.path)).await {
                    result?;
                }
                ufs.symlink(&intent.path, &inode.symlink_target).await?;
            }
        }
        Err(error) if error.kind == UfsErrorKind::Unsupported => return Ok(Change::skipped()),
        Err(error) => return Err(error),
    }
    let there = status_if_any(ufs, &intent.path).await?;
    Ok(there.map_or_else(Change::default, Change::of))
}
