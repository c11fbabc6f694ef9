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
mod commit;
mod data;
mod dir;
mod linger;
mod locks;
mod names;
mod open;
mod owed;
mod pages;
mod ranges;
mod removed;
mod session;
mod xattrs;

pub use dir::DirEntry;
pub use locks::LockWanted;
pub use names::{Changes, NewNode};
pub use open::{DataPath, LocalFile, OpenedHandle};
pub use session::KernelCache;

use alluxio_client::{MasterClient, WorkerPool};
use alluxio_common::retry::{RetryPolicy, retry};
use alluxio_common::sync::Mutex;
use alluxio_proto::master::{FromReply, Op};
use alluxio_proto::types::{Attr, Caller, WriteType};
use alluxio_proto::{ErrorKind, FsError, FsResult};
use lru::LruCache;
use open::{Handle, OpenInode};
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
    passthrough: AtomicBool,
    /// Changes by others are heard of, so long timeouts are safe.
    watching: AtomicBool,
    inodes: Mutex<HashMap<u64, Arc<OpenInode>>>,
    handles: Mutex<HashMap<u64, Arc<Handle>>>,
    dirs: Mutex<HashMap<u64, Arc<dir::DirHandle>>>,
    closed: Mutex<LruCache<u64, u64>>,
    listed: Mutex<LruCache<u64, dir::DirStamp>>,
    extras: Mutex<xattrs::Extras>,
    accesses: atimes::Accesses,
    removed: removed::Removed,
    lingering: linger::Lingering,
    owed: owed::Owed,
    next_handle: AtomicU64,
    locks: locks::Locks,
    /// To the thread that tells the kernel what is stale.
    stale: Mutex<Option<session::ToKernel>>,
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
            passthrough: AtomicBool::new(options.passthrough && !options.verify),
            watching: AtomicBool::new(false),
            inodes: Mutex::default(),
            handles: Mutex::default(),
            dirs: Mutex::default(),
            closed: Mutex::new(LruCache::new(CLOSED_FILES_MAX)),
            listed: Mutex::new(LruCache::new(CLOSED_FILES_MAX)),
            extras: Mutex::default(),
            accesses: atimes::Accesses::default(),
            removed: removed::Removed::default(),
            lingering: linger::Lingering::default(),
            owed: owed::Owed::default(),
            next_handle: AtomicU64::new(1),
            locks: locks::Locks::default(),
            stale: Mutex::default(),
            tasks: TaskTracker::new(),
            shutdown: CancellationToken::new(),
            options,
        });
        vfs.open_session().await?;
        let root = vfs.find_root().await?;
        vfs.root.store(root.inode, Ordering::Relaxed);
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
        self.allowed(attr, self.options.attr_cache_max)
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

    async fn read<T: FromReply>(&self, caller: &Caller, op: Op) -> FsResult<T> {
        self.master.read(caller, op).await
    }

    async fn change<T: FromReply>(&self, caller: &Caller, op: Op) -> FsResult<T> {
        if self.options.read_only {
            return Err(FsError::new(ErrorKind::ReadOnly, "the mount is read-only (-o ro)"));
        }
        self.master.change(caller, op).await
    }

    /// Attributes as this host knows them: of a file that is open for writing here, length and mtime of its local file.
    async fn patched(&self, mut attr: Attr) -> FsResult<Attr> {
        let open = self.inodes.lock().get(&attr.inode).cloned();
        if let Some(open) = open {
            open.patch(&mut attr).await?;
        }
        self.patch_atime(&mut attr);
        Ok(attr)
    }

    fn new_handle(&self) -> u64 {
        self.next_handle.fetch_add(1, Ordering::Relaxed)
    }

    fn handle(&self, fh: u64) -> FsResult<Arc<Handle>> {
        let found = self.handles.lock().get(&fh).cloned();
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
