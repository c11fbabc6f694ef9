//! The kernel's requests, translated. Nothing about files is decided here.
//!
//! [`operations`] says every request once. Beneath it two transports bring requests in and answers out: [`fuser`](mod@fuser)
//! by the crate of that name, and [`dev`] over `/dev/fuse` by ourselves, which hands on what the crate does not.
//!
//! Requests arrive on the transport's threads. Each becomes a future that is polled once on the spot, which is all that a
//! call within the process needs; what has to wait goes to the runtime, so that the threads never block on a slow store.

pub mod dev;
pub mod fuser;
mod observe;
pub mod operations;
mod park;
mod serving;

pub use serving::Serving;

pub use observe::Observer;

use crate::vfs::Vfs;
use alluxio_proto::{ErrorKind, FsError, FsResult};
use operations::{Caches, Node, Notify, Operations, ServedVfs};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use tokio::runtime::Handle;

/// Fewest threads that read requests. More on two cores was slower when measured.
const THREADS_MIN: usize = 2;

/// Largest request for data; the kernel's own bound is `fs.fuse.max_pages_limit`.
const MAX_WRITE_BYTES: u32 = 1 << 20;

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
    /// Threads that take requests from the kernel; 0: as many as cores, at least two.
    pub threads: usize,
    /// Fail if the kernel may not work on local files by itself.
    pub needs_passthrough: bool,
    /// Who talks to the kernel.
    pub transport: TransportKind,
    /// Who notes requests. Only our own session over `/dev/fuse` tells of them.
    pub observer: Option<Arc<Observer>>,
}

impl KernelOptions {
    fn thread_count(&self) -> usize {
        match self.threads {
            0 => std::thread::available_parallelism().map_or(THREADS_MIN, |cores| cores.get().max(THREADS_MIN)),
            count => count,
        }
    }
}

impl Default for KernelOptions {
    fn default() -> Self {
        Self {
            uid: None,
            gid: None,
            umask: 0,
            max_background: 128,
            allow_other: true,
            threads: 0,
            needs_passthrough: false,
            transport: TransportKind::default(),
            observer: None,
        }
    }
}

/// Who talks to the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TransportKind {
    /// The crate `fuser`.
    Fuser,
    /// Our own session over `/dev/fuse`.
    #[default]
    Dev,
}

impl TransportKind {
    /// As `-o transport=` and `alluxio.fuse.transport` say it.
    pub fn from_word(word: &str) -> Option<TransportKind> {
        match word.to_ascii_lowercase().as_str() {
            "fuser" => Some(TransportKind::Fuser),
            "dev" => Some(TransportKind::Dev),
            _ => None,
        }
    }
}

/// A mount that is being served.
#[derive(Debug)]
pub enum KernelSession {
    /// By the crate.
    Fuser(fuser::FuserSession),
    /// By ourselves.
    Dev(dev::DevSession),
}

/// Serves a mount on its `/dev/fuse` descriptor until it is unmounted.
///
/// # Errors
/// If the kernel refuses the handshake; `NotSupported` if it has no passthrough, and that is needed.
pub fn serve(vfs: &Arc<Vfs>, fuse_dev: OwnedFd, options: &KernelOptions, runtime: &Handle) -> FsResult<KernelSession> {
    let served = Arc::new(ServedVfs::new(Arc::clone(vfs), options.clone()));
    let known = served.known();
    let again = fuse_dev
        .try_clone()
        .map_err(|error| FsError::from_io("duplicate the FUSE connection", &error))?;
    let (session, notifier) = serve_operations(Arc::clone(&served), fuse_dev, options, runtime)?;
    if vfs.is_passthrough() && !dev::may_pass_through(again) {
        served.lacks_passthrough(ServedVfs::NO_RIGHT);
    }
    if options.needs_passthrough && !vfs.is_passthrough() {
        let why = format!("-o passthrough=on: there is none: {}", served.why_no_passthrough());
        return Err(FsError::new(ErrorKind::NotSupported, why));
    }
    let _guard = runtime.enter();
    vfs.start_background(Caches::new(notifier, known, vfs.root()));
    Ok(session)
}

/// Serves any operations; [`serve`] does it with those of a [`Vfs`].
///
/// # Errors
/// If the kernel refuses the handshake, or the operations do.
pub fn serve_operations<O: Operations>(
    operations: Arc<O>,
    fuse_dev: OwnedFd,
    options: &KernelOptions,
    runtime: &Handle,
) -> FsResult<(KernelSession, Notifier)> {
    let started = match options.transport {
        TransportKind::Dev => dev::start(operations, fuse_dev, options, runtime)
            .map(|(session, notifier)| (KernelSession::Dev(session), Notifier::Dev(notifier))),
        TransportKind::Fuser => fuser::start(operations, fuse_dev, options, runtime)
            .map(|(session, notifier)| (KernelSession::Fuser(session), Notifier::Fuser(notifier))),
    };
    started.map_err(|error| FsError::from_io("start the FUSE session", &error))
}

impl KernelSession {
    /// Blocks until the mount is gone.
    ///
    /// # Errors
    /// If the connection ended in another way than by unmounting.
    pub fn wait(self) -> FsResult<()> {
        let ended = match self {
            KernelSession::Fuser(session) => session.join(),
            KernelSession::Dev(session) => session.join(),
        };
        match ended {
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

    /// The door of the session, to be closed by a role that ends while the mount is still in use.
    pub fn serving(&self) -> Arc<Serving> {
        match self {
            KernelSession::Fuser(session) => session.serving(),
            KernelSession::Dev(session) => session.serving(),
        }
    }

    /// Whether the mount is gone.
    pub fn is_finished(&self) -> bool {
        match self {
            KernelSession::Fuser(session) => session.is_finished(),
            KernelSession::Dev(session) => session.is_finished(),
        }
    }
}

/// Tells the kernel what is stale.
#[derive(Debug)]
pub enum Notifier {
    /// By the crate.
    Fuser(fuser::FuserNotifier),
    /// By ourselves.
    Dev(dev::DevNotifier),
}

impl Notify for Notifier {
    fn inval_inode(&self, node: Node, offset: i64, length: i64) -> io::Result<()> {
        match self {
            Notifier::Fuser(notifier) => notifier.inval_inode(node, offset, length),
            Notifier::Dev(notifier) => notifier.inval_inode(node, offset, length),
        }
    }

    fn inval_entry(&self, parent: Node, name: &[u8]) -> io::Result<()> {
        match self {
            Notifier::Fuser(notifier) => notifier.inval_entry(parent, name),
            Notifier::Dev(notifier) => notifier.inval_entry(parent, name),
        }
    }

    fn delete(&self, parent: Node, child: Node, name: &[u8]) -> io::Result<()> {
        match self {
            Notifier::Fuser(notifier) => notifier.delete(parent, child, name),
            Notifier::Dev(notifier) => notifier.delete(parent, child, name),
        }
    }

    fn expire_entry(&self, parent: Node, name: &[u8]) -> io::Result<()> {
        match self {
            Notifier::Fuser(notifier) => notifier.expire_entry(parent, name),
            Notifier::Dev(notifier) => notifier.expire_entry(parent, name),
        }
    }

    fn raise_epoch(&self) -> io::Result<()> {
        match self {
            Notifier::Fuser(notifier) => notifier.raise_epoch(),
            Notifier::Dev(notifier) => notifier.raise_epoch(),
        }
    }
}
