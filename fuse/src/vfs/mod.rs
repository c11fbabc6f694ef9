//! File semantics over a master and workers, with no kernel in it.
//!
//! Operations speak inode ids and handles. Names and attributes are the master's; what this module adds is what one host
//! knows better: which files it has open, through which local file, and what was written to them since the last commit.
//!
//! **Promises:** `flush` returns after what was written is sealed by the home worker and committed by the master, or with
//! the error; `fsync` after it is as durable as the write type says; attributes of a file that is open for writing here
//! are those of its local file.
//!
//! **Left out:** permission (the kernel checks mode bits and access lists, the master everything).

mod acl;
mod atimes;
mod closing;
mod commit;
mod data;
mod dir;
mod inode;
mod lease;
mod linger;
mod local;
mod locks;
mod names;
mod nodes;
mod open;
mod pages;
mod pending_closes;
mod privileges;
mod ranges;
mod reads;
mod removed;
mod retries;
mod session;
mod times;
mod xattrs;

pub use dir::DirEntry;
pub use local::LocalFile;
pub use locks::LockWanted;
pub use names::{Changes, NewNode};
pub use open::{DataPath, OpenedHandle};
pub use privileges::errno;
pub use session::KernelCache;

use alluxio_client::{MasterClient, WorkerPool};
use alluxio_common::retry::{RetryPolicy, retry};
use alluxio_common::sync::{Mutex, RwLock};
use alluxio_proto::master::{ChangeOperation, FsStat, ReadOperation};
use alluxio_proto::types::{Attr, Caller, WriteType};
use alluxio_proto::{ErrorKind, FsError, FsResult};
use inode::{Handle, OpenInode};
use lru::LruCache;
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Closed files whose version is remembered, to keep the kernel's pages of them over the next open.
const CLOSED_FILES_MAX: NonZeroUsize = NonZeroUsize::new(65_536).expect("not zero");
/// How long the kernel may cache while changes by others are not heard of.
const BLIND_TTL: Duration = Duration::from_secs(1);

/// And while a program may be writing to the local file by itself: the bound that holds between mounts.
const WRITTEN_TTL: Duration = Duration::from_millis(50);

/// How a mount behaves.
#[derive(Clone, Debug)]
pub struct VfsOptions {
    /// What is mounted: a folder of the namespace.
    pub path: String,
    /// For people: program and mount point.
    pub client: String,
    /// This host's name; a worker of the same name is local.
    pub host: String,
    /// Hand local files to the kernel where they are complete.
    pub passthrough: bool,
    /// Read every byte through its checksum. There is no passthrough then.
    pub verify: bool,
    /// Refuse changes.
    pub read_only: bool,
    /// Reads do not move atime.
    pub noatime: bool,
    /// Write type of new data.
    pub write_type: WriteType,
    /// Rename moves to other mounts of the namespace.
    pub rename_across_mounts: bool,
    /// Longest time that the kernel may cache attributes, whatever the master allows.
    pub attr_cache_max: Duration,
    /// The same for names.
    pub entry_cache_max: Duration,
    /// How what changes nothing is tried again while nobody can be reached.
    pub retry: RetryPolicy,
}

/// The semantics of one mount.
pub struct Vfs {
    master: MasterClient,
    workers: Arc<dyn WorkerPool>,
    options: VfsOptions,
    root: AtomicU64,
    /// The mounted folder as it was seen last.
    root_attr: Mutex<Attr>,
    /// What it can hold, as it was seen last.
    capacity: Mutex<Option<FsStat>>,
    passthrough: AtomicBool,
    /// Changes by others are heard of, so long timeouts are safe.
    watching: AtomicBool,
    /// By node.
    inodes: Mutex<HashMap<u64, Arc<OpenInode>>>,
    nodes: nodes::Nodes,
    /// Looked at by each read and write, changed by opens and closes.
    handles: RwLock<HashMap<u64, Arc<Handle>>>,
    dirs: Mutex<HashMap<u64, Arc<dir::DirHandle>>>,
    /// By node.
    closed: Mutex<LruCache<u64, u64>>,
    listed: Mutex<LruCache<u64, dir::DirStamp>>,
    extras: Mutex<xattrs::Extras>,
    accesses: atimes::Accesses,
    removed: removed::Removed,
    retries: retries::Retries,
    lingering: linger::Lingering,
    pending_closes: pending_closes::PendingCloses,
    reads: reads::Reads,
    next_handle: AtomicU64,
    locks: locks::Locks,
    closing: closing::Closing,
    /// To the thread that tells the kernel what is stale.
    stale: Mutex<Option<session::ToKernel>>,
    /// It did not hear of something, so that everything is.
    kernel_missed: AtomicBool,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

impl Vfs {
    /// Opens a session at the master and finds the folder to mount.
    ///
    /// # Errors
    /// `Unavailable` if the master cannot be reached, `NotFound` and `NotADirectory` for the path.
    pub async fn start(options: VfsOptions, master: MasterClient, workers: Arc<dyn WorkerPool>) -> FsResult<Arc<Vfs>> {
        let vfs = Arc::new(Vfs {
            master,
            workers,
            root: AtomicU64::new(0),
            root_attr: Mutex::default(),
            capacity: Mutex::default(),
            passthrough: AtomicBool::new(options.passthrough && !options.verify),
            watching: AtomicBool::new(false),
            inodes: Mutex::default(),
            nodes: nodes::Nodes::default(),
            handles: RwLock::default(),
            dirs: Mutex::default(),
            closed: Mutex::new(LruCache::new(CLOSED_FILES_MAX)),
            listed: Mutex::new(LruCache::new(CLOSED_FILES_MAX)),
            extras: Mutex::default(),
            accesses: atimes::Accesses::default(),
            removed: removed::Removed::default(),
            retries: retries::Retries::default(),
            lingering: linger::Lingering::default(),
            pending_closes: pending_closes::PendingCloses::default(),
            reads: reads::Reads::default(),
            next_handle: AtomicU64::new(1),
            locks: locks::Locks::default(),
            closing: closing::Closing::default(),
            stale: Mutex::default(),
            kernel_missed: AtomicBool::new(false),
            tasks: TaskTracker::new(),
            shutdown: CancellationToken::new(),
            options,
        });
        vfs.open_session().await?;
        let root = vfs.find_root().await?;
        vfs.root.store(root.inode, Ordering::Relaxed);
        *vfs.root_attr.lock() = root;
        vfs.tasks.spawn(Arc::clone(&vfs).tend_mapped());
        Ok(vfs)
    }

    /// Inode id of the mounted folder.
    pub fn root(&self) -> u64 {
        self.root.load(Ordering::Relaxed)
    }

    /// How the mount behaves.
    pub fn options(&self) -> &VfsOptions {
        &self.options
    }

    /// Whether local files are handed to the kernel.
    pub fn is_passthrough(&self) -> bool {
        self.passthrough.load(Ordering::Relaxed)
    }

    /// Stops handing out local files: the kernel cannot, or may not, take them.
    pub fn disable_passthrough(&self, why: &str) {
        if self.passthrough.swap(false, Ordering::Relaxed) {
            tracing::warn!("no passthrough on this mount ({why}): reads and writes go through the daemon");
        }
    }

    /// How long a kernel may cache attributes.
    pub fn ttl(&self, attr: &Attr) -> Duration {
        let allowed = self.allowed(attr, self.options.attr_cache_max);
        match self.is_written_past_us(attr.inode) {
            true => allowed.min(WRITTEN_TTL),
            false => allowed,
        }
    }

    /// Whether programs may change an inode without a word to us or to what the kernel knows of it: a store into a mapping of the
    /// local file moves that file's times only.
    fn is_written_past_us(&self, inode: u64) -> bool {
        // Open inodes are kept by node, and the newest one is written.
        let node = self.nodes.newest(inode);
        let inodes = self.inodes.lock();
        let open = inodes.get(&node).map(|open| open.snapshot());
        open.is_some_and(|now| now.written.is_some() && now.local.is_some())
    }

    /// How long a kernel may cache a name.
    pub fn entry_ttl(&self, attr: &Attr) -> Duration {
        self.allowed(attr, self.options.entry_cache_max)
    }

    /// Tries what changes nothing again, as the mount was told to, while nobody can be reached.
    ///
    /// # Errors
    /// Those of the last try.
    pub async fn patiently<T, F>(&self, operation: impl FnMut() -> F) -> FsResult<T>
    where
        F: Future<Output = FsResult<T>>,
    {
        retry(self.options.retry, operation).await
    }

    fn allowed(&self, attr: &Attr, longest: Duration) -> Duration {
        let allowed = Duration::from_millis(attr.cache_ms).min(longest);
        if self.watching.load(Ordering::Relaxed) {
            allowed
        } else {
            allowed.min(BLIND_TTL)
        }
    }

    async fn read<O: ReadOperation>(&self, caller: &Caller, op: O) -> FsResult<O::Reply> {
        self.master.read(caller, op).await
    }

    async fn change<O: ChangeOperation>(&self, caller: &Caller, op: O) -> FsResult<O::Reply> {
        if self.options.read_only {
            return Err(FsError::new(ErrorKind::ReadOnly, "the mount is read-only (-o ro)"));
        }
        self.master.change(caller, op).await
    }

    /// Attributes as this host knows them: of a file that is open for writing here, length and mtime of its local file.
    async fn patched(&self, mut attr: Attr) -> FsResult<Attr> {
        let open = self.newest_open(attr.inode);
        if let Some(open) = open {
            open.patch(&mut attr).await?;
        }
        self.patch_atime(&mut attr);
        Ok(attr)
    }

    /// What is open of an inode's newest data.
    fn newest_open(&self, inode: u64) -> Option<Arc<OpenInode>> {
        let node = self.nodes.newest(inode);
        self.inodes.lock().get(&node).cloned()
    }

    fn new_handle(&self) -> u64 {
        self.next_handle.fetch_add(1, Ordering::Relaxed)
    }

    fn handle(&self, fh: u64) -> FsResult<Arc<Handle>> {
        let found = self.handles.read().get(&fh).cloned();
        found.ok_or_else(|| FsError::new(ErrorKind::Stale, format!("file handle {fh} is not open")))
    }

    /// The caller that the daemon itself is, for what no user asked for.
    fn own_caller(&self) -> Caller {
        Caller {
            user: "root".to_owned(),
            groups: vec!["root".to_owned()],
        }
    }
}
