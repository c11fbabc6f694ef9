//! Lazy names: what an under-storage holds becomes known when somebody looks (DESIGN D10).
//!
//! One look serves all who wait for it ([`Loader::flight`]), and goes on if they go away. "Absent" is only what a store said;
//! every error is an answer of its own. What was absent is remembered briefly. A directory is loaded page by page, each page
//! one command, so that its size costs no memory.

use alluxio_common::sync::Mutex;
use alluxio_proto::types::{FileKind, PersistState};
use alluxio_proto::{ErrorKind, FsError, FsResult, InodeId, MountId};
use alluxio_ufs::{UfsError, UfsErrorKind, UfsPage, UfsStatus, UnderFileSystem};
use bytes::Bytes;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use lru::LruCache;
use std::collections::HashMap;
use std::future::Future;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::settings::SyncInterval;
use super::sync::WHOLE_DIR_ENTRIES_MAX;
use super::{Core, show};
use crate::state::command::{LoadEntries, UfsEntry};
use crate::state::{Inode, UfsLocation};

/// Entries asked for at once, and in one command.
pub(super) const PAGE_ENTRIES: usize = 1000;
/// Directories and files of which the time of the last look is remembered; forgetting one costs a look.
const LOOKS_MAX: usize = 100_000;
/// How long an absent name is believed absent, unless the sync interval is shorter.
const ABSENT_TIME_MAX: Duration = Duration::from_secs(3);
/// A page that the state refuses as outdated is asked for again so often.
pub(super) const STALE_TRIES_MAX: usize = 20;
/// How long a rename or removal of a folder in the store may hold up a look at it.
const TREE_BUSY_MAX: Duration = Duration::from_secs(30);
const TREE_BUSY_PAUSE: Duration = Duration::from_millis(20);
/// After a look failed, known names are served for so long before the next.
const TROUBLE_PAUSE: Duration = Duration::from_secs(5);
/// A listing that took a second is not repeated within this many seconds.
const LISTING_REST_FACTOR: u32 = 20;
/// So many unknown names are asked for one by one before a directory that is not loaded is loaded, if it is small.
const MISSES_MAX: u32 = 4;
/// Permission bits of what comes from a store that has none.
const FILE_MODE: u32 = 0o644;
const DIR_MODE: u32 = 0o755;

/// One thing that is being looked at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Look {
    /// All names of a directory that is not loaded.
    Load(InodeId),
    /// A loaded directory, again.
    Sync(InodeId),
    /// A name that is not known.
    Name(InodeId, Bytes),
    /// A known file.
    File(InodeId),
}

type Flight = Shared<BoxFuture<'static, FsResult<()>>>;

/// What is being looked at, and when was what looked at last.
pub(super) struct Loader {
    flights: Mutex<HashMap<Look, Flight>>,
    /// When a directory (with all its names) or a file should be looked at again.
    next_look: Mutex<LruCache<InodeId, Instant>>,
    absent: Mutex<LruCache<(InodeId, Bytes), Instant>>,
    /// Names asked for, and not known, in directories that are not loaded.
    misses: Mutex<LruCache<InodeId, u32>>,
}

impl std::fmt::Debug for Loader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loader")
            .field("flights", &self.flights.lock().len())
            .finish_non_exhaustive()
    }
}

impl Loader {
    pub fn new(absent_names_max: usize) -> Self {
        let size = |entries| NonZeroUsize::new(entries).unwrap_or(NonZeroUsize::MIN);
        Self {
            flights: Mutex::default(),
            next_look: Mutex::new(LruCache::new(size(LOOKS_MAX))),
            absent: Mutex::new(LruCache::new(size(absent_names_max))),
            misses: Mutex::new(LruCache::new(size(LOOKS_MAX))),
        }
    }

    fn is_recent(&self, id: InodeId, now: Instant) -> bool {
        self.next_look.lock().get(&id).is_some_and(|next| *next > now)
    }

    /// It was looked at, or need not be, until then.
    pub fn recent_until(&self, id: InodeId, next: Instant) {
        self.next_look.lock().put(id, next);
    }

    /// The next access looks.
    pub fn forget(&self, id: InodeId) {
        self.next_look.lock().pop(&id);
    }

    fn is_absent(&self, dir: InodeId, name: &Bytes) -> bool {
        let until = self.absent.lock().get(&(dir, name.clone())).copied();
        until.is_some_and(|until| until > Instant::now())
    }

    /// Counts a name that is not known; true if it is time to try loading the whole directory, once.
    fn is_often_missed(&self, dir: InodeId) -> bool {
        let mut misses = self.misses.lock();
        let count = misses.get_or_insert_mut(dir, || 0);
        *count = count.saturating_add(1);
        *count == MISSES_MAX
    }

    /// The name may be there now.
    pub fn forget_absent(&self, dir: InodeId, name: &Bytes) {
        self.absent.lock().pop(&(dir, name.clone()));
    }
}

impl Core {
    /// Joins the look that is under way, or starts it. It runs to its end even if nobody waits any more.
    pub(super) async fn look_once(
        self: &Arc<Self>,
        look: Look,
        work: impl Future<Output = FsResult<()>> + Send + 'static,
    ) -> FsResult<()> {
        let flight = {
            let mut flights = self.loader.flights.lock();
            match flights.get(&look) {
                Some(flight) => flight.clone(),
                None => {
                    let (core, key) = (self.clone(), look.clone());
                    let task = self.tasks.spawn(async move {
                        let result = tokio::select! {
                            result = work => result,
                            () = core.stop.cancelled() => Err(FsError::new(ErrorKind::Unavailable, "the master stops")),
                        };
                        core.loader.flights.lock().remove(&key);
                        result
                    });
                    let joined = task.map(|joined| {
                        joined.unwrap_or_else(|error| {
                            let why = format!("a look at an under-storage broke off: {error}");
                            Err(FsError::new(ErrorKind::Internal, why))
                        })
                    });
                    let flight = joined.boxed().shared();
                    flights.insert(look, flight.clone());
                    flight
                }
            }
        };
        flight.await
    }

    /// Whether something of an inode may be in its under-storage, so that it can change there.
    pub(super) fn is_backed(inode: &Inode) -> bool {
        match inode.kind() {
            FileKind::Directory => inode.persist_state() == PersistState::Persisted,
            _ => inode.ufs.as_ref().is_some_and(|ufs| ufs.present),
        }
    }

    /// When something looked at now should be looked at again; `None`: never.
    fn next_look(&self, mount: MountId, took: Duration) -> Option<Instant> {
        match self.ufs.sync_interval(mount) {
            SyncInterval::Never => None,
            SyncInterval::Every(every) if every.is_zero() => Some(Instant::now()),
            SyncInterval::Every(every) => Some(Instant::now() + every.max(took * LISTING_REST_FACTOR)),
        }
    }

    /// It has just been looked at.
    pub(super) fn looked(&self, id: InodeId, mount: MountId, took: Duration) {
        if let Some(next) = self.next_look(mount, took) {
            self.loader.recent_until(id, next);
        }
    }

    /// Looking failed: not again right away.
    pub(super) fn look_later(&self, id: InodeId) {
        self.loader.recent_until(id, Instant::now() + TROUBLE_PAUSE);
    }

    /// Whether it is time to look at an inode again, because neither it nor its directory was lately.
    pub(super) fn is_look_due(&self, inode: &Inode) -> bool {
        if !Self::is_backed(inode) || inode.open.is_some() {
            return false;
        }
        if self.ufs.sync_interval(inode.mount()) == SyncInterval::Never {
            return false;
        }
        let now = Instant::now();
        let loader = &self.loader;
        !loader.is_recent(inode.inode_id(), now) && (inode.is_dir() || !loader.is_recent(inode.parent_id(), now))
    }

    /// What a name in a directory names; the under-storage is asked about what is not known. `None`: it is absent.
    ///
    /// # Errors
    /// The store could not say.
    pub(super) async fn find(self: &Arc<Self>, parent: InodeId, name: &Bytes) -> FsResult<Option<Arc<Inode>>> {
        super::names::check_length(name)?;
        if let Some(inode) = self.state.lookup(parent, name)? {
            if self.is_look_due(&inode) && !inode.is_dir() {
                return self.refresh_name(inode, parent, name).await;
            }
            return Ok(Some(inode));
        }
        let dir = self.state.inode(parent)?;
        if !Self::is_backed(&dir) {
            return Ok(None);
        }
        if dir.children_loaded && !self.is_look_due(&dir) {
            return Ok(None);
        }
        if dir.children_loaded && dir.entries <= WHOLE_DIR_ENTRIES_MAX {
            self.refresh_dir(&dir).await?;
            return self.state.lookup(parent, name);
        }
        if self.loader.is_absent(parent, name) {
            return Ok(None);
        }
        if !dir.children_loaded && self.loader.is_often_missed(parent) {
            let (core, id) = (self.clone(), parent);
            let loaded = self.look_once(Look::Load(id), async move { core.load_small_dir(id).await });
            loaded.await?;
            if self.state.inode(parent)?.children_loaded {
                return self.state.lookup(parent, name);
            }
        }
        let (core, wanted) = (self.clone(), name.clone());
        let look = Look::Name(parent, name.clone());
        let looked = self
            .look_once(look, async move { core.load_name(parent, &wanted).await })
            .await;
        match looked {
            // All names were known once; what came since is unknown to be there, as it was a moment ago.
            Err(error) if dir.children_loaded => {
                self.look_later(parent);
                self.ufs.warn(dir.mount(), "looking for a name", &error);
            }
            looked => looked?,
        }
        self.state.lookup(parent, name)
    }

    /// As [`Self::find`], where absence is an error.
    pub(super) async fn find_existing(self: &Arc<Self>, parent: InodeId, name: &Bytes) -> FsResult<Arc<Inode>> {
        match self.find(parent, name).await? {
            Some(inode) => Ok(inode),
            None => Err(FsError::new(
                ErrorKind::NotFound,
                format!("{:?} does not exist in directory {parent}", show(name)),
            )),
        }
    }

    /// Asks the store about one name, and loads it if it is there.
    pub(super) async fn load_name(self: Arc<Self>, dir: InodeId, name: &Bytes) -> FsResult<()> {
        for _ in 0..STALE_TRIES_MAX {
            self.wait_while_tree_busy(dir).await?;
            let generation = self.state.generation(dir)?;
            let at = self.state.ufs_path_of_name(dir, name)?;
            let ufs = self.ufs.of(at.mount)?;
            if ufs.check_path(&at.path).is_err() {
                return Ok(());
            }
            self.metrics.ufs_status_calls.inc();
            let status = match ufs.status(&at.path).await {
                Ok(status) => status,
                Err(error) if is_absent(&error) => {
                    let interval = match self.ufs.sync_interval(at.mount) {
                        SyncInterval::Never => ABSENT_TIME_MAX,
                        SyncInterval::Every(every) => every.min(ABSENT_TIME_MAX),
                    };
                    let until = Instant::now() + interval;
                    self.loader.absent.lock().put((dir, name.clone()), until);
                    return Ok(());
                }
                Err(error) => return Err(self.ufs_error(&at, "look up", error)),
            };
            let parent = UfsLocation {
                mount: at.mount,
                path: Bytes::copy_from_slice(alluxio_ufs::path::split(&at.path).0),
            };
            let shown = self.without_ghosts(ufs.as_ref(), dir, &parent, vec![status]).await?;
            let entries = shown.into_iter().map(|status| self.entry_of(status, Some(name)));
            let entries = entries.collect();
            match self.load_entries(dir, generation, entries, false).await {
                Err(error) if is_outdated(&error) => continue,
                Err(error) => return Err(error),
                Ok(()) => {}
            }
            if let Some(inode) = self.state.lookup(dir, name)?.filter(|inode| !inode.is_dir()) {
                self.looked(inode.inode_id(), at.mount, Duration::ZERO);
            }
            return Ok(());
        }
        Err(too_restless(dir))
    }

    /// All names of a directory are known after this.
    pub(super) async fn ensure_loaded(self: &Arc<Self>, dir: &Inode) -> FsResult<()> {
        if dir.children_loaded {
            return Ok(());
        }
        let (core, id) = (self.clone(), dir.inode_id());
        self.look_once(Look::Load(id), async move { core.load_dir(id).await })
            .await
    }

    /// Loads a directory if one page holds it. One call then answers for all names that are not there; asking for each of
    /// many would cost one each. A larger one is left as it is.
    async fn load_small_dir(self: Arc<Self>, dir: InodeId) -> FsResult<()> {
        let started = Instant::now();
        self.wait_while_tree_busy(dir).await?;
        let generation = self.state.generation(dir)?;
        let at = self.state.ufs_path(dir)?;
        let ufs = self.ufs.of(at.mount)?;
        let page = self.list_page(ufs.as_ref(), &at, &None).await?;
        if page.next.is_some() {
            return Ok(());
        }
        let shown = self.without_ghosts(ufs.as_ref(), dir, &at, page.entries).await?;
        let statuses = self.complete(ufs.as_ref(), dir, &at, shown).await?;
        let entries = statuses.into_iter().map(|status| self.entry_of(status, None));
        let entries = entries.collect();
        match self.load_entries(dir, generation, entries, true).await {
            Ok(()) => {
                self.looked(dir, at.mount, started.elapsed());
                Ok(())
            }
            // Names are asked for one by one then.
            Err(error) if is_outdated(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn load_dir(self: Arc<Self>, dir: InodeId) -> FsResult<()> {
        let started = Instant::now();
        let mut token = None;
        let mut stale = 0;
        loop {
            self.wait_while_tree_busy(dir).await?;
            let generation = self.state.generation(dir)?;
            let at = self.state.ufs_path(dir)?;
            let ufs = self.ufs.of(at.mount)?;
            let page = self.list_page(ufs.as_ref(), &at, &token).await?;
            let next = page.next;
            let shown = self.without_ghosts(ufs.as_ref(), dir, &at, page.entries).await?;
            let statuses = self.complete(ufs.as_ref(), dir, &at, shown).await?;
            let entries = statuses.into_iter().map(|status| self.entry_of(status, None));
            let entries = entries.collect();
            match self.load_entries(dir, generation, entries, next.is_none()).await {
                Ok(()) => stale = 0,
                Err(error) if is_outdated(&error) && stale < STALE_TRIES_MAX => {
                    stale += 1;
                    continue;
                }
                Err(error) if is_outdated(&error) => return Err(too_restless(dir)),
                Err(error) => return Err(error),
            }
            if next.is_none() {
                self.looked(dir, at.mount, started.elapsed());
                return Ok(());
            }
            token = next;
        }
    }

    /// One page of a directory of a store. A folder that the store does not have is empty: if we know it by its parent,
    /// the parent's next look decides about it.
    pub(super) async fn list_page(
        &self,
        ufs: &dyn UnderFileSystem,
        at: &UfsLocation,
        token: &Option<alluxio_ufs::PageToken>,
    ) -> FsResult<UfsPage> {
        self.metrics.ufs_list_calls.inc();
        match ufs.list(&at.path, token.clone(), PAGE_ENTRIES).await {
            Ok(page) => Ok(page),
            Err(error) if error.kind == UfsErrorKind::NotFound => Ok(UfsPage::default()),
            Err(error) => Err(self.ufs_error(at, "list", error)),
        }
    }

    /// One page becomes known.
    pub(super) async fn load_entries(
        &self,
        dir: InodeId,
        generation: u64,
        entries: Vec<UfsEntry>,
        complete: bool,
    ) -> FsResult<()> {
        let inode = self.state.inode(dir)?;
        let (owner, group) = if self.settings.inherit_owner {
            (inode.owner.clone(), inode.group.clone())
        } else {
            (self.settings.user.clone(), self.settings.group.clone())
        };
        let loaded = self
            .propose_own(LoadEntries {
                dir: dir.get(),
                generation,
                entries,
                first_inode: 0,
                complete,
                file_mode: FILE_MODE,
                dir_mode: DIR_MODE,
                owner,
                group,
            })
            .await?;
        self.metrics.sync_paths_loaded.add(loaded.count);
        Ok(())
    }

    /// A folder of the store that is being renamed or removed shows a part of itself only.
    pub(super) async fn wait_while_tree_busy(&self, dir: InodeId) -> FsResult<()> {
        let deadline = Instant::now() + TREE_BUSY_MAX;
        while self.state.is_tree_busy(dir)? {
            if Instant::now() > deadline {
                let why = format!("directory {dir} is being moved or removed in the under-storage; try again later");
                return Err(FsError::new(ErrorKind::Unavailable, why));
            }
            tokio::time::sleep(TREE_BUSY_PAUSE).await;
        }
        Ok(())
    }

    /// As commands want it. `name`: of a status whose own name is not to be trusted to be there.
    pub(super) fn entry_of(&self, status: UfsStatus, name: Option<&Bytes>) -> UfsEntry {
        UfsEntry {
            name: name.cloned().unwrap_or(status.name),
            kind: status.kind as i32,
            length: status.length,
            mtime_ns: status.mtime_ns,
            fingerprint: status.fingerprint,
            mode: status.mode,
            owner: status.owner,
            group: status.group,
            symlink_target: status.symlink_target.unwrap_or_default(),
            block_bytes: self.settings.block_bytes,
            atime_ns: status.atime_ns,
            xattrs: super::attributes::pairs(status.xattrs.unwrap_or_default()),
            is_archived: status.is_archived,
        }
    }

    /// The error of a look at `at`, with what was being done.
    pub(super) fn ufs_error(&self, at: &UfsLocation, doing: &str, error: UfsError) -> FsError {
        let uri = self
            .state
            .mount(at.mount)
            .map_or_else(String::new, |mount| mount.uri().to_owned());
        let mut error = FsError::from(error);
        // That the store says so of a folder whose name we know tells nothing of the name that was asked for.
        if matches!(error.kind, ErrorKind::NotFound | ErrorKind::NotADirectory) {
            error.kind = ErrorKind::Unavailable;
        }
        error.context(format!("{doing} {uri}/{}", show(&at.path)))
    }
}

/// Whether the state refused what was seen because something moved meanwhile.
pub(super) fn is_outdated(error: &FsError) -> bool {
    matches!(error.kind, ErrorKind::Stale | ErrorKind::Busy)
}

/// Whether the store said that there is no such name.
pub(super) fn is_absent(error: &UfsError) -> bool {
    matches!(error.kind, UfsErrorKind::NotFound | UfsErrorKind::NotADirectory)
}

fn too_restless(dir: InodeId) -> FsError {
    FsError::new(
        ErrorKind::Unavailable,
        format!("directory {dir} changed again and again while it was being loaded; try again"),
    )
}
