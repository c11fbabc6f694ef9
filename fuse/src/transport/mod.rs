//! The kernel's requests, translated: fuser on one side, [`crate::vfs`] on the other. Nothing about files is decided here.
//!
//! Requests arrive on fuser's threads. Each becomes a future that is polled once on the spot, which is all that a call
//! within the process needs; what has to wait goes to the runtime, so that the threads never block on a slow store.

mod identity;
mod operations;
mod reply;

use crate::vfs::{KernelCache, Vfs};
use alluxio_common::sync::Mutex;
use alluxio_proto::{FsError, FsResult};
use fuser::{BackgroundSession, INodeNo, Notifier, Session, SessionACL};
use identity::Identity;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use tokio::runtime::Handle;

/// Threads that read requests. More on two cores was slower when measured.
const THREADS: usize = 2;

/// How the kernel's side of a mount behaves.
#[derive(Clone, Debug)]
pub struct KernelOptions {
    /// Show this owner instead of the files'.
    pub uid: Option<u32>,
    /// Show this group instead of the files'.
    pub gid: Option<u32>,
    /// Bits taken off all modes.
    pub umask: u32,
    /// Requests that the kernel may have in flight in the background.
    pub max_background: u16,
    /// Other users than the one who mounted may come in.
    pub allow_other: bool,
}

impl Default for KernelOptions {
    fn default() -> Self {
        Self {
            uid: None,
            gid: None,
            umask: 0,
            max_background: 128,
            allow_other: true,
        }
    }
}

/// Inodes that the kernel knows, by its count of look-ups; what a reset has to invalidate.
type Known = Arc<Mutex<HashMap<u64, u64>>>;

/// The file system as fuser sees it.
struct KernelFs {
    vfs: Arc<Vfs>,
    runtime: Handle,
    identity: Arc<Identity>,
    options: KernelOptions,
    known: Known,
}

/// A mount that is being served.
pub struct KernelSession {
    session: BackgroundSession,
}

/// Serves a mount on its `/dev/fuse` descriptor until it is unmounted.
///
/// # Errors
/// If the kernel refuses the handshake.
pub fn serve(vfs: &Arc<Vfs>, fuse_dev: OwnedFd, options: &KernelOptions, runtime: &Handle) -> FsResult<KernelSession> {
    let known = Known::default();
    let fs = KernelFs {
        vfs: Arc::clone(vfs),
        runtime: runtime.clone(),
        identity: Arc::default(),
        options: options.clone(),
        known: Arc::clone(&known),
    };
    let mut config = fuser::Config::default();
    config.n_threads = Some(THREADS);
    let acl = if options.allow_other {
        SessionACL::All
    } else {
        SessionACL::Owner
    };
    let start = || Session::from_fd(fs, fuse_dev, acl, config)?.spawn();
    let session = start().map_err(|error| FsError::from_io("start the FUSE session", &error))?;
    let cache = Cache {
        notifier: session.notifier(),
        known,
        root: vfs.root(),
    };
    let _guard = runtime.enter();
    vfs.start_background(cache);
    Ok(KernelSession { session })
}

impl KernelSession {
    /// Blocks until the mount is gone.
    ///
    /// # Errors
    /// If the connection ended in another way than by unmounting.
    pub fn wait(self) -> FsResult<()> {
        match self.session.join() {
            Ok(()) => Ok(()),
            // The connection was aborted, which unmounts too.
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::ENODEV | libc::ECONNABORTED | libc::ENOTCONN)
                ) =>
            {
                Ok(())
            }
            Err(error) => Err(FsError::from_io("serve the FUSE session", &error)),
        }
    }
}

impl KernelFs {
    /// Runs an operation: here and now as far as it goes without waiting.
    fn run(&self, operation: impl Future<Output = ()> + Send + 'static) {
        let _guard = self.runtime.enter();
        let mut operation: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(operation);
        // The waker of the first poll wakes nobody: what is pending is polled again by the runtime, with its own.
        if operation
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
            .is_pending()
        {
            self.runtime.spawn(operation);
        }
    }

    /// Inode id of a FUSE node id: the kernel calls the mounted folder 1.
    fn inode(&self, ino: INodeNo) -> u64 {
        if ino == INodeNo::ROOT { self.vfs.root() } else { ino.0 }
    }
}

/// Counts a look-up of the kernel.
fn remember(known: &Known, inode: u64) {
    *known.lock().entry(inode).or_default() += 1;
}

/// The kernel's caches behind fuser's notifier.
struct Cache {
    notifier: Notifier,
    known: Known,
    root: u64,
}

impl Cache {
    fn ino(&self, inode: u64) -> INodeNo {
        if inode == self.root {
            INodeNo::ROOT
        } else {
            INodeNo(inode)
        }
    }
}

/// The kernel says ENOENT of what it does not cache, which is as good.
fn note(result: std::io::Result<()>) {
    if let Err(error) = result
        && !matches!(
            error.raw_os_error(),
            Some(libc::ENOENT | libc::ENOTDIR | libc::ENOTEMPTY | libc::ENOTCONN | libc::ENODEV)
        )
    {
        tracing::debug!(%error, "invalidate a kernel cache");
    }
}

impl KernelCache for Cache {
    fn inode(&self, inode: u64, data: bool) {
        // A negative offset leaves the pages alone.
        note(self.notifier.inval_inode(self.ino(inode), if data { 0 } else { -1 }, 0));
    }

    fn entry(&self, parent: u64, name: &[u8], child: u64) {
        let (parent, name) = (self.ino(parent), OsStr::from_bytes(name));
        if child == 0 {
            note(self.notifier.inval_entry(parent, name));
        } else {
            note(self.notifier.delete(parent, self.ino(child), name));
        }
        // Pages of a directory are its cached listing.
        note(self.notifier.inval_inode(parent, 0, 0));
    }

    fn reset(&self) {
        let known: Vec<u64> = self.known.lock().keys().copied().collect();
        tracing::info!(
            "changes by others were missed: invalidating {} inodes in the kernel",
            known.len()
        );
        for inode in known {
            note(self.notifier.inval_inode(self.ino(inode), 0, 0));
        }
        note(self.notifier.inval_inode(INodeNo::ROOT, 0, 0));
    }
}
