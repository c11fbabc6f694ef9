//! What the cluster is like: capacity, counts, locations, paths, and the report of `fsadmin`.

use alluxio_proto::master::{
    CachedFile, Count, Counted, Free, FsStat, GetPath, GetReport, Locate, Location, Locations, PathReply, Report,
    SettleIntents, StatFs, StoreAway, StuckChange,
};
use alluxio_proto::types::FileKind;
use alluxio_proto::{ErrorKind, FsResult, InodeId, IntentId, MountId, WorkerId};
use alluxio_ufs::UfsSpace;
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::load::PAGE_ENTRIES;
use super::{Core, Ctx, error, show};
use crate::state::command::ForgetIntent;
use crate::state::{GivenUp, Inode, Intent, IntentKind, MountRecord, STUCK_AFTER};

/// How long the capacity of a store is believed.
const SPACE_TIME: Duration = Duration::from_secs(30);
/// A store that does not say its capacity within this is taken for one that knows none.
const SPACE_TIMEOUT: Duration = Duration::from_secs(2);

/// Changes that are counted at a time.
const PENDING_PAGE: usize = 1000;
/// How long a decision on a change waits for a try of it that is under way, and how often it looks.
const TRY_MAX: Duration = Duration::from_secs(5);
const TRY_PAUSE: Duration = Duration::from_millis(20);
/// Changes in one report, if it is for a person.
const STUCK_MAX: usize = 100;
/// The same, if it is one of several.
const STUCK_PAGE_MAX: usize = 1000;
/// Capacities of stores, as last heard.
#[derive(Debug, Default)]
pub(super) struct SpaceCache(HashMap<MountId, (Instant, Option<UfsSpace>)>);

impl Core {
    /// Capacity of a mount's store, if it knows one.
    pub(super) async fn ufs_space(&self, mount: MountId) -> Option<UfsSpace> {
        let cached = self.space.lock().0.get(&mount).copied();
        if let Some((_, space)) = cached.filter(|(since, _)| since.elapsed() < SPACE_TIME) {
            return space;
        }
        let ufs = self.ufs.of(mount).ok()?;
        let space = match tokio::time::timeout(SPACE_TIMEOUT, ufs.space()).await {
            Ok(Ok(space)) => space,
            Ok(Err(error)) => {
                tracing::debug!(%mount, %error, "a store did not say its capacity");
                None
            }
            Err(_) => None,
        };
        self.space.lock().0.insert(mount, (Instant::now(), space));
        space
    }

    pub(super) async fn stat_fs(&self, op: StatFs) -> FsResult<FsStat> {
        let inode = self.state.inode(InodeId(op.inode))?;
        let files = self.state.counters().inodes;
        let (total_bytes, used_bytes, available_bytes) = match self.ufs_space(inode.mount()).await {
            Some(space) => (space.total_bytes, space.used_bytes, space.available_bytes),
            None => {
                let (total, used) = self.workers.space();
                (total, used, total.saturating_sub(used))
            }
        };
        Ok(FsStat {
            total_bytes,
            free_bytes: total_bytes.saturating_sub(used_bytes),
            files,
            available_bytes: Some(available_bytes),
        })
    }

    pub(super) async fn count(self: &Arc<Self>, ctx: &Ctx, op: Count) -> FsResult<Counted> {
        let top = self.resolve(ctx, &op.path).await?;
        let mut counted = Counted::default();
        if !top.is_dir() {
            add_file(&mut counted, &top);
            return Ok(counted);
        }
        self.walk(&top, |inode| {
            if inode.is_dir() {
                counted.directories += 1;
            } else {
                add_file(&mut counted, inode);
            }
        })
        .await?;
        Ok(counted)
    }

    /// Visits all beneath a directory, names loaded on the way, page by page.
    async fn walk(self: &Arc<Self>, top: &Arc<Inode>, mut visit: impl FnMut(&Inode)) -> FsResult<()> {
        let mut dirs = vec![top.inode_id()];
        while let Some(id) = dirs.pop() {
            let dir = match self.state.inode(id) {
                Ok(dir) => dir,
                // Removed meanwhile.
                Err(error) if error.kind == ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            self.ensure_loaded(&dir).await?;
            let mut after = Bytes::new();
            loop {
                let page = self.state.list(id, &after, PAGE_ENTRIES)?;
                let Some((last, _)) = page.last() else { break };
                after = last.clone();
                for (_, inode) in &page {
                    visit(inode);
                    if inode.is_dir() {
                        dirs.push(inode.inode_id());
                    }
                }
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    pub(super) async fn free(self: &Arc<Self>, ctx: &Ctx, op: Free) -> FsResult<Counted> {
        let top = self.resolve(ctx, &op.path).await?;
        let mut counted = Counted::default();
        if top.is_dir() {
            let core = self.clone();
            self.walk(&top, |inode| core.free_one(inode, op.force, &mut counted))
                .await?;
        } else {
            self.free_one(&top, op.force, &mut counted);
        }
        self.metrics.files_freed.add(counted.files);
        Ok(counted)
    }

    /// Tells workers to drop a file that the under-storage has.
    fn free_one(&self, inode: &Inode, force: bool, counted: &mut Counted) {
        let busy = inode.open.is_some() || !inode.is_persisted() || (inode.pinned && !force);
        if inode.kind() != FileKind::File || busy || inode.locations.is_empty() {
            return;
        }
        for at in &inode.locations {
            let file = CachedFile {
                inode: inode.id,
                version: at.version,
                bytes: 0,
            };
            self.workers.drop_cached(WorkerId(at.worker), file);
        }
        counted.files += 1;
        counted.bytes = counted.bytes.saturating_add(inode.cached_bytes());
    }

    pub(super) fn locate(&self, op: Locate) -> FsResult<Locations> {
        self.metrics.file_block_infos_got.inc();
        let inode = self.state.inode(InodeId(op.inode))?;
        let current = inode.locations.iter().filter(|at| at.version == inode.version);
        let live = current.filter(|at| self.workers.is_live(WorkerId(at.worker)));
        Ok(Locations {
            locations: live
                .map(|at| Location {
                    worker: self.workers.address(WorkerId(at.worker)),
                    bytes: at.bytes.min(inode.size),
                })
                .collect(),
        })
    }

    pub(super) fn get_path(&self, op: GetPath) -> FsResult<PathReply> {
        let id = InodeId(op.inode);
        let Some(path) = self.state.path_of(id)? else {
            return error(ErrorKind::NotFound, format!("inode {id} has no name any more"));
        };
        let at = self.state.ufs_path(id)?;
        let uri = self
            .state
            .mount(at.mount)
            .map_or_else(String::new, |mount| mount.uri().to_owned());
        Ok(PathReply {
            path,
            ufs_uri: format!("{}/{}", uri.trim_end_matches('/'), show(&at.path))
                .trim_end_matches('/')
                .to_owned(),
        })
    }

    pub(super) fn report(&self, op: GetReport) -> FsResult<Report> {
        let counters = self.state.counters();
        let journal = self.journal.status();
        let (stuck, stuck_count) = self.stuck(op)?;
        let mut workers = self.workers.report();
        for range in workers.iter_mut().flat_map(|worker| &mut worker.damaged) {
            // It may be gone by now, which the worker says soon.
            let path = self.state.path_of(InodeId(range.inode));
            range.path = path.ok().flatten().unwrap_or_default();
        }
        Ok(Report {
            stuck,
            stuck_count,
            away: self.stores_away()?,
            cluster_id: counters.cluster_id,
            master_address: self.settings.address.clone(),
            web_port: self.settings.web_port,
            start_ms: self.started_ms,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            safe_mode: self.workers.live_count() == 0,
            inodes: counters.inodes,
            persist_pending: counters.intents,
            copies_waiting: (self.queue.waiting_for_worker() + self.workers.copies_at_silent()) as u64,
            sessions: self.sessions.count() as u64,
            workers,
            journal_index: journal.applied_index,
            journal_snapshot_index: journal.snapshot_index,
        })
    }
}

/// What is still to be done in under-storages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pending {
    /// Changes of all kinds.
    pub changes: u64,
    /// Uploads among them.
    pub files: u64,
    /// Of these uploads.
    pub bytes: u64,
}

impl Core {
    /// Looks at each of them: for those who wait for them, not for those who come often.
    pub(super) fn pending(&self) -> Pending {
        let mut pending = Pending::default();
        let mut after = IntentId(0);
        loop {
            let page = self.state.intents(after, PENDING_PAGE).unwrap_or_else(|error| {
                tracing::debug!(%error, "count what is to be persisted");
                Vec::new()
            });
            let Some(last) = page.last() else { return pending };
            after = IntentId(last.id);
            pending.changes += page.len() as u64;
            for upload in page.iter().filter(|intent| intent.kind() == IntentKind::Persist) {
                pending.files += 1;
                pending.bytes += upload.length;
            }
        }
    }

    /// The stores that do not answer, as the last calls on them say.
    pub(super) fn stores_away(&self) -> FsResult<Vec<StoreAway>> {
        let mounts = self.state.mounts();
        let away = mounts.iter().map(|record| self.store_away(record));
        away.filter_map(Result::transpose).collect()
    }

    /// Of one mount; `None` while its store answers, and as long as nobody asked it for anything.
    pub(super) fn store_away(&self, record: &MountRecord) -> FsResult<Option<StoreAway>> {
        let Some(away) = self.ufs.reach(MountId(record.id)).and_then(|reach| reach.away()) else {
            return Ok(None);
        };
        let path = self.state.path_of(InodeId(record.root_inode))?;
        Ok(Some(StoreAway {
            path: path.unwrap_or_default(),
            uri: record.uri().to_owned(),
            since_ms: millis(away.since_ns),
            error: away.error,
        }))
    }

    /// Changes that do not get done, a page of them by their ids, and how many there are from there on.
    fn stuck(&self, page: GetReport) -> FsResult<(Vec<StuckChange>, u64)> {
        let max = match page.stuck_max as usize {
            0 => STUCK_MAX,
            max => max.min(STUCK_PAGE_MAX),
        };
        let given_up = self.state.given_up()?.into_iter();
        let mut all: Vec<(u64, Option<GivenUp>)> = given_up.map(|given| (given.id, Some(given))).collect();
        all.extend(self.queue.failing().into_iter().map(|id| (id.get(), None)));
        all.retain(|(id, _)| *id > page.stuck_after);
        all.sort_by_key(|(id, _)| *id);
        let (mut stuck, mut count) = (Vec::new(), 0u64);
        for (id, given) in all {
            let change = match given {
                Some(given) if stuck.len() < max => Some(self.given_up(given)?),
                Some(_) => None,
                None => {
                    let Some(intent) = self.state.intent(IntentId(id))?.filter(is_stuck) else {
                        continue;
                    };
                    match stuck.len() < max {
                        true => Some(self.stuck_change(intent)?),
                        false => None,
                    }
                }
            };
            count += 1;
            stuck.extend(change);
        }
        Ok((stuck, count))
    }

    fn given_up(&self, given: GivenUp) -> FsResult<StuckChange> {
        Ok(StuckChange {
            intent: given.id,
            what: words_of(given.kind()).to_owned(),
            name: self.name_at(MountId(given.mount_id), &given.path)?,
            path: self.uri_of(MountId(given.mount_id), &given.path),
            error: given.error.map(|error| error.message).unwrap_or_default(),
            given_up: true,
            refused: true,
            since_ms: millis(given.at_ns),
            ..Default::default()
        })
    }

    fn stuck_change(&self, intent: Intent) -> FsResult<StuckChange> {
        Ok(StuckChange {
            intent: intent.id,
            what: words_of(intent.kind()).to_owned(),
            path: self.place_of(&intent)?,
            name: self.name_of(&intent)?,
            attempts: intent.attempts,
            refused: intent.refused,
            since_ms: millis(intent.created_ns),
            error: intent.last_error.map(|error| error.message).unwrap_or_default(),
            ..Default::default()
        })
    }

    /// A person's decision on what is refused.
    pub(super) async fn settle(self: &Arc<Self>, ctx: &Ctx, op: SettleIntents) -> FsResult<Counted> {
        if !ctx.superuser {
            return error(
                ErrorKind::NotPermitted,
                "only the superuser decides on changes that are refused",
            );
        }
        let mut ids: Vec<_> = op.intents.iter().copied().map(IntentId).collect();
        if op.all {
            ids = self.queue.failing();
            ids.extend(self.state.given_up()?.iter().map(|given| IntentId(given.id)));
        }
        let mut counted = Counted::default();
        // The answer of one command is not that of the next.
        let ctx = &Ctx {
            op_id: 0,
            ..ctx.clone()
        };
        for id in ids {
            if op.forget {
                // Where a name belongs is decided one by one.
                let is_of_name = |intent: &Intent| intent.kind() == IntentKind::Rename;
                if op.all && self.state.intent(id)?.as_ref().is_some_and(is_of_name) {
                    continue;
                }
                self.wait_for_try(id).await?;
                match self.propose(ctx, ForgetIntent { intent: id.get() }).await {
                    Ok(_) => self.forget_intent(id),
                    // One of names is passed over, as is one that is done meanwhile.
                    Err(error) if op.all && matches!(error.kind, ErrorKind::InvalidArgument | ErrorKind::NotFound) => {
                        continue;
                    }
                    Err(error) => return Err(error),
                }
            } else if self.state.intent(id)?.is_some() {
                self.queue.expedite([id]);
            } else if op.all {
                continue;
            } else {
                return error(
                    ErrorKind::NotFound,
                    format!("change {id} is done, or was given up: it cannot be tried again"),
                );
            }
            counted.files += 1;
        }
        Ok(counted)
    }

    /// What is refused is tried again now and then: a decision waits for the end of such a try, for a while.
    async fn wait_for_try(&self, id: IntentId) -> FsResult<()> {
        let until = Instant::now() + TRY_MAX;
        let is_at_work = |intent: &Intent| intent.started && !intent.refused && intent.refusals > 0;
        while self.state.intent(id)?.as_ref().is_some_and(is_at_work) && Instant::now() < until {
            tokio::time::sleep(TRY_PAUSE).await;
        }
        Ok(())
    }

    /// Where a change is to be made, for people.
    fn place_of(&self, intent: &Intent) -> FsResult<String> {
        if intent.order == 0 {
            let path = self.state.path_of(InodeId(intent.inode))?;
            return Ok(path.map_or_else(|| format!("inode {}", intent.inode), |path| show(&path).into_owned()));
        }
        let from = self.uri_of(MountId(intent.mount_id), &intent.path);
        Ok(match intent.kind() {
            IntentKind::Rename => format!("{from} to {}", self.uri_of(intent.to_mount(), &intent.to_path)),
            _ => from,
        })
    }

    /// What a change is about in the namespace.
    fn name_of(&self, intent: &Intent) -> FsResult<Bytes> {
        let is_removal = matches!(
            intent.kind(),
            IntentKind::Delete | IntentKind::DeleteTree | IntentKind::Rmdir
        );
        let inode = InodeId(intent.inode);
        if !is_removal
            && self.state.inode(inode).is_ok()
            && let Some(path) = self.state.path_of(inode)?
        {
            return Ok(path);
        }
        self.name_at(MountId(intent.mount_id), &intent.path)
    }

    /// The name that the namespace would have for a place of an under-storage.
    fn name_at(&self, mount: MountId, path: &[u8]) -> FsResult<Bytes> {
        let Some(record) = self.state.mount(mount) else {
            return Ok(Bytes::new());
        };
        let top = self.state.path_of(InodeId(record.root_inode))?.unwrap_or_default();
        let top = top.strip_suffix(b"/").unwrap_or(&top);
        Ok([top, b"/", path].concat().into())
    }

    fn uri_of(&self, mount: MountId, path: &[u8]) -> String {
        let record = self.state.mount(mount);
        let uri = record.as_ref().map_or("", |mount| mount.uri());
        format!("{}/{}", uri.trim_end_matches('/'), show(path))
    }
}

fn is_stuck(intent: &Intent) -> bool {
    intent.refused || intent.attempts.max(intent.refusals) >= STUCK_AFTER
}

fn words_of(kind: IntentKind) -> &'static str {
    match kind {
        IntentKind::Persist => "upload",
        IntentKind::Delete => "delete",
        IntentKind::DeleteTree => "delete with all beneath",
        IntentKind::Rename => "rename",
        IntentKind::Mkdir => "make directory",
        IntentKind::Rmdir => "remove directory",
        IntentKind::SetAttr => "set attributes",
        IntentKind::Symlink => "make link",
    }
}

pub(super) fn millis(ns: i64) -> u64 {
    u64::try_from(ns / 1_000_000).unwrap_or(0)
}

fn add_file(counted: &mut Counted, inode: &Inode) {
    counted.files += 1;
    counted.bytes = counted.bytes.saturating_add(inode.size);
    counted.cached_bytes = counted.cached_bytes.saturating_add(inode.cached_bytes());
}
