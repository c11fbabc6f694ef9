//! What the cluster is like: capacity, counts, locations, paths, and the report of `fsadmin`.

use alluxio_proto::master::{
    CachedFile, Count, Counted, Free, FsStat, GetPath, Locate, Location, Locations, PathReply, Report, StatFs,
};
use alluxio_proto::types::FileKind;
use alluxio_proto::{ErrorKind, FsResult, InodeId, MountId, WorkerId};
use alluxio_ufs::UfsSpace;
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::load::PAGE_ENTRIES;
use super::{Core, Ctx, error, show};
use crate::state::Inode;

/// How long the capacity of a store is believed.
const SPACE_TIME: Duration = Duration::from_secs(30);
/// A store that does not say its capacity within this is taken for one that knows none.
const SPACE_TIMEOUT: Duration = Duration::from_secs(2);

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
        let (total_bytes, used_bytes) = match self.ufs_space(inode.mount()).await {
            Some(space) => (space.total_bytes, space.used_bytes),
            None => self.workers.space(),
        };
        Ok(FsStat {
            total_bytes,
            free_bytes: total_bytes.saturating_sub(used_bytes),
            files,
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

    pub(super) fn report(&self) -> FsResult<Report> {
        let counters = self.state.counters();
        let journal = self.journal.status();
        Ok(Report {
            cluster_id: counters.cluster_id,
            master_address: self.settings.address.clone(),
            web_port: self.settings.web_port,
            start_ms: self.started_ms,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            safe_mode: self.workers.live_count() == 0,
            inodes: counters.inodes,
            persist_pending: counters.intents,
            sessions: self.sessions.count() as u64,
            workers: self.workers.report(),
            journal_index: journal.applied_index,
            journal_snapshot_index: journal.snapshot_index,
        })
    }
}

fn add_file(counted: &mut Counted, inode: &Inode) {
    counted.files += 1;
    counted.bytes = counted.bytes.saturating_add(inode.size);
    counted.cached_bytes = counted.cached_bytes.saturating_add(inode.cached_bytes());
}
