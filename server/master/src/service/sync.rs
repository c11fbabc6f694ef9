//! Looking again: what changed in an under-storage behind our back.
//!
//! A directory is looked at again when its sync interval has passed and somebody accesses it, and not more often than twenty
//! times the duration of its last listing. New names are loaded, other objects become new versions, names that a *complete*
//! listing lacks go. A look that fails changes nothing: what is known is served on, and the trouble is logged.

use alluxio_proto::master::Opened;
use alluxio_proto::master::UfsChanged as UfsChangedRequest;
use alluxio_proto::types::FileKind;
use alluxio_proto::{ErrorKind, FsError, FsResult, InodeId};
use bytes::Bytes;
use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::load::{Look, PAGE_ENTRIES, STALE_TRIES_MAX, is_absent, is_outdated};
use super::{Core, Ctx};
use crate::state::command::{ApplySync, SyncChange, SyncRemoval, UfsChanged, UfsEntry};
use crate::state::{Inode, UfsLocation};

/// A directory with so many names at most is looked at as a whole when one of its files is: one call for all of them.
pub(super) const WHOLE_DIR_ENTRIES_MAX: u64 = PAGE_ENTRIES as u64;

/// How long an access to something known waits for a store that is asked about it again. Then what is known is served, and the
/// look goes on behind.
const REFRESH_WAIT_MAX: Duration = Duration::from_secs(3);
/// How often it is looked whether a rename is over.
const MOVING_PAUSE: Duration = Duration::from_millis(20);

/// What one page of a listing shows to be different.
#[derive(Debug, Default)]
struct Difference {
    new: Vec<UfsEntry>,
    changed: Vec<SyncChange>,
    /// Names that mean something of another kind now: the old one goes, the new one is loaded.
    replaced: Vec<SyncRemoval>,
}

/// Names that a listing has shown, at 8 bytes each. Two names with one hash keep a name that should go until the next look,
/// which hashes differently.
struct Seen {
    hasher: RandomState,
    hashes: HashSet<u64>,
}

impl Seen {
    fn new() -> Self {
        Self {
            hasher: RandomState::new(),
            hashes: HashSet::new(),
        }
    }
    fn insert(&mut self, name: &[u8]) {
        self.hashes.insert(self.hasher.hash_one(name));
    }
    fn contains(&self, name: &[u8]) -> bool {
        self.hashes.contains(&self.hasher.hash_one(name))
    }
}

/// The outcome of a look, or that it takes too long to be waited for. It is a task of its own and is not ended by that.
async fn within_wait(look: impl Future<Output = FsResult<()>>) -> FsResult<()> {
    match tokio::time::timeout(REFRESH_WAIT_MAX, look).await {
        Ok(looked) => looked,
        Err(_) => {
            let why = format!("the under-storage did not answer within {REFRESH_WAIT_MAX:?}");
            Err(FsError::new(ErrorKind::Timeout, why))
        }
    }
}

impl Core {
    /// A known name whose time has come: the store is asked, about all of a small directory or about this file.
    pub(super) async fn refresh_name(
        self: &Arc<Self>,
        inode: Arc<Inode>,
        parent: InodeId,
        name: &Bytes,
    ) -> FsResult<Option<Arc<Inode>>> {
        self.refresh_inode(&inode).await?;
        // Looked up anew: the name may be gone, or mean another inode.
        self.state.lookup(parent, name)
    }

    /// Looks at an inode again if it is time. Trouble with the store is not an error here.
    pub(super) async fn refresh_inode(self: &Arc<Self>, inode: &Arc<Inode>) -> FsResult<()> {
        if inode.is_dir() || inode.parent == 0 {
            return Ok(());
        }
        let dir = self.state.inode(inode.parent_id())?;
        if dir.children_loaded && dir.entries <= WHOLE_DIR_ENTRIES_MAX && Self::is_backed(&dir) {
            return self.refresh_dir(&dir).await;
        }
        let (core, id, mount) = (self.clone(), inode.inode_id(), inode.mount());
        let version = inode.version;
        let look = self.look_once(Look::File(id), async move { core.look_at_file(id, version).await });
        if let Err(error) = within_wait(look).await {
            self.look_later(id);
            self.metrics.sync_failures.inc();
            self.ufs.warn(mount, "looking at a file again", &error);
        }
        Ok(())
    }

    /// Asks the store about a name now, whatever is known of it.
    ///
    /// # Errors
    /// The store could not say.
    pub(super) async fn look_now(self: &Arc<Self>, parent: &Arc<Inode>, name: &Bytes) -> FsResult<()> {
        if !Self::is_backed(parent) {
            return Ok(());
        }
        if parent.children_loaded && parent.entries <= WHOLE_DIR_ENTRIES_MAX {
            return self.sync_dir_once(parent.inode_id()).await;
        }
        self.loader.forget_absent(parent.inode_id(), name);
        let (core, dir, wanted) = (self.clone(), parent.inode_id(), name.clone());
        match self.state.lookup(dir, name)? {
            Some(known) if known.is_dir() => Ok(()),
            Some(known) => {
                let (id, version) = (known.inode_id(), known.version);
                self.look_once(Look::File(id), async move { core.look_at_file(id, version).await })
                    .await
            }
            None => {
                let look = Look::Name(dir, wanted.clone());
                self.look_once(look, async move { core.load_name(dir, &wanted).await })
                    .await
            }
        }
    }

    /// Looks at a loaded directory again. Trouble with the store is not an error here.
    pub(super) async fn refresh_dir(self: &Arc<Self>, dir: &Arc<Inode>) -> FsResult<()> {
        if let Err(error) = within_wait(self.sync_dir_once(dir.inode_id())).await {
            self.look_later(dir.inode_id());
            self.ufs.warn(dir.mount(), "looking at a directory again", &error);
        }
        Ok(())
    }

    /// Looks at a loaded directory now.
    ///
    /// # Errors
    /// The store could not say; nothing has changed then.
    pub(super) async fn sync_dir_once(self: &Arc<Self>, dir: InodeId) -> FsResult<()> {
        let core = self.clone();
        let look = self.look_once(Look::Sync(dir), async move { core.sync_dir(dir).await });
        let result = look.await;
        if result.is_err() {
            self.metrics.sync_failures.inc();
        }
        result
    }

    async fn sync_dir(self: Arc<Self>, dir: InodeId) -> FsResult<()> {
        self.metrics.sync_ops.inc();
        for _ in 0..STALE_TRIES_MAX {
            let started = Instant::now();
            match self.try_sync_dir(dir).await {
                Err(error) if is_outdated(&error) => continue,
                Err(error) => return Err(error),
                Ok(at) => {
                    self.looked(dir, at.mount, started.elapsed());
                    return Ok(());
                }
            }
        }
        // A directory that never rests is being worked on through us; what others did shows when it rests.
        self.look_later(dir);
        Ok(())
    }

    /// One pass. `Stale`: something moved meanwhile, so what was listed may be wrong.
    async fn try_sync_dir(&self, dir: InodeId) -> FsResult<UfsLocation> {
        self.wait_while_tree_busy(dir).await?;
        let generation = self.state.generation(dir)?;
        let at = self.state.ufs_path(dir)?;
        let ufs = self.ufs.of(at.mount)?;
        let mut seen = Seen::new();
        let mut token = None;
        loop {
            let page = self.list_page(ufs.as_ref(), &at, &token).await?;
            for status in &page.entries {
                seen.insert(&status.name);
            }
            token = page.next;
            let shown = self.without_ghosts(ufs.as_ref(), dir, &at, page.entries).await?;
            let statuses = self.complete(ufs.as_ref(), dir, &at, shown).await?;
            let entries = statuses.into_iter().map(|status| self.entry_of(status, None));
            let difference = self.compare(dir, entries)?;
            if !difference.replaced.is_empty() {
                self.apply_sync(dir, generation, Vec::new(), difference.replaced)
                    .await?;
            }
            if !difference.new.is_empty() {
                self.load_entries(dir, generation, difference.new, false).await?;
            }
            if !difference.changed.is_empty() {
                self.apply_sync(dir, generation, difference.changed, Vec::new()).await?;
            }
            if token.is_none() {
                break;
            }
        }
        self.remove_unseen(dir, generation, &seen).await?;
        Ok(at)
    }

    fn compare(&self, dir: InodeId, entries: impl Iterator<Item = UfsEntry>) -> FsResult<Difference> {
        let mut difference = Difference::default();
        for entry in entries {
            let Some(known) = self.state.lookup(dir, &entry.name)? else {
                difference.new.push(entry);
                continue;
            };
            // Of several names of one inode, the under-storage has one. What it has by another is not ours.
            let is_stored = known.is_dir() || known.is_stored_at(dir, &entry.name);
            if known.mount_id != self.state.inode(dir)?.mount_id || !Self::is_backed(&known) || !is_stored {
                continue;
            }
            let expected_fingerprint = known.fingerprint().to_owned();
            if is_known_file(&known, &entry) {
                continue;
            }
            if known.kind() != entry.kind() {
                difference.replaced.push(SyncRemoval {
                    name: entry.name.clone(),
                    expected_fingerprint,
                    keep_for: Vec::new(),
                    expected: Some(known.id),
                });
                difference.new.push(entry);
            } else if !known.is_dir() && expected_fingerprint != entry.fingerprint {
                difference.changed.push(SyncChange {
                    entry: Some(entry),
                    expected_fingerprint,
                });
            }
        }
        Ok(difference)
    }

    async fn remove_unseen(&self, dir: InodeId, generation: u64, seen: &Seen) -> FsResult<()> {
        let mount = self.state.inode(dir)?.mount_id;
        let mut after = Bytes::new();
        loop {
            let known = self.state.list(dir, &after, PAGE_ENTRIES)?;
            let Some((last, _)) = known.last() else { return Ok(()) };
            after = last.clone();
            let gone = known.into_iter().filter(|(name, inode)| {
                let is_stored = inode.is_dir() || inode.is_stored_at(dir, name);
                inode.mount_id == mount
                    && Self::is_backed(inode)
                    && inode.open.is_none()
                    && is_stored
                    && !seen.contains(name)
            });
            let removed: Vec<SyncRemoval> = gone
                .map(|(name, inode)| SyncRemoval {
                    name,
                    expected_fingerprint: inode.fingerprint().to_owned(),
                    keep_for: Vec::new(),
                    expected: Some(inode.id),
                })
                .collect();
            if !removed.is_empty() {
                self.apply_sync(dir, generation, Vec::new(), removed).await?;
            }
        }
    }

    async fn apply_sync(
        &self,
        dir: InodeId,
        generation: u64,
        changed: Vec<SyncChange>,
        mut removed: Vec<SyncRemoval>,
    ) -> FsResult<()> {
        let inodes = removed.iter().filter_map(|removal| removal.expected.map(InodeId));
        let removing = self.sessions.begin_removal(inodes);
        for removal in &mut removed {
            removal.keep_for = removal
                .expected
                .map_or_else(Vec::new, |id| removing.readers(InodeId(id)));
        }
        let asked = (changed.len() as u64, removed.len() as u64);
        let applied = self
            .propose_own(ApplySync {
                dir: dir.get(),
                generation,
                changed,
                removed,
            })
            .await?;
        let refused = applied.refused.len() as u64;
        if asked.1 > 0 {
            self.metrics.sync_paths_removed.add(asked.1.saturating_sub(refused));
        } else {
            self.metrics.sync_paths_changed.add(asked.0.saturating_sub(refused));
        }
        Ok(())
    }

    /// Asks the store about one file, and applies what it says if that is not what we know.
    async fn look_at_file(self: Arc<Self>, id: InodeId, version: u64) -> FsResult<()> {
        for _ in 0..STALE_TRIES_MAX {
            let inode = self.state.inode(id)?;
            if inode.parent == 0 || !Self::is_backed(&inode) {
                return Ok(());
            }
            let dir = inode.parent_id();
            self.wait_while_tree_busy(dir).await?;
            let generation = self.state.generation(dir)?;
            let at = self.state.ufs_path(id)?;
            self.metrics.ufs_status_calls.inc();
            let status = match self.ufs.of(at.mount)?.status(&at.path).await {
                Ok(status) => Some(self.entry_of(status, Some(&inode.name))),
                Err(error) if is_absent(&error) => None,
                Err(error) => return Err(self.ufs_error(&at, "look at", error)),
            };
            self.looked(id, at.mount, Duration::ZERO);
            if status.as_ref().is_some_and(|now| is_known_file(&inode, now)) {
                return Ok(());
            }
            let removing = self.sessions.begin_removal([id]);
            let changed = UfsChanged {
                inode: id.get(),
                version,
                status,
                generation,
                keep_for: removing.readers(id),
            };
            match self.propose_own(changed).await {
                Err(error) if is_outdated(&error) => continue,
                Err(error) => return Err(error),
                Ok(_) => {
                    self.metrics.sync_paths_changed.inc();
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// A worker or client met another object than the one we know.
    pub(super) async fn ufs_changed(self: &Arc<Self>, ctx: &Ctx, request: UfsChangedRequest) -> FsResult<Opened> {
        let id = InodeId(request.inode);
        let deadline = Instant::now() + REFRESH_WAIT_MAX;
        // A rename under way takes along what it finds, and says what that was when it is done.
        while self.is_moving(id)? && Instant::now() < deadline {
            tokio::time::sleep(MOVING_PAUSE).await;
        }
        let inode = self.state.inode(id)?;
        if let Some(found) = self.find_between(ctx, &inode).await? {
            return Ok(found);
        }
        if inode.version == request.version {
            let core = self.clone();
            let look = Look::File(id);
            self.look_once(look, async move { core.look_at_file(id, request.version).await })
                .await?;
        }
        let inode = self.state.inode(id)?;
        self.opened(ctx, &inode)
    }
}

/// Whether an entry is the file or link that is known. An object does not say by itself that it is a link: where what says so is not to
/// be had (the folder's mark went, or nobody may read it), the same object is still the same link.
fn is_known_file(known: &Inode, now: &UfsEntry) -> bool {
    let is_dir = known.is_dir() || now.kind() == FileKind::Directory;
    !is_dir && !now.fingerprint.is_empty() && now.fingerprint == known.fingerprint()
}
