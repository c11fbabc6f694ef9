//! The transport by crate `fuser`. It hands on what the crate does; what the crate keeps to itself is listed here.
//!
//! **Left out**, since fuser 0.18 does not hand it on: interrupts, whether a lock is flock's, statx, O_TMPFILE, the lock
//! owner of an attribute change, lengths of copies past 4 GiB, an inode number for stat(2) that is not the node's (it shows of
//! an entry whose data became another while the old is in use, until its attributes are asked for), raising the epoch.

mod convert;
mod requests;

use super::operations::{Node, Notify, Operations};
use super::{KernelOptions, Serving, park};
use ::fuser::{BackgroundSession, INodeNo, Session, SessionACL};
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use tokio::runtime::Handle;

/// The operations as fuser sees them.
struct Requests<O> {
    operations: Arc<O>,
    runtime: Handle,
    serving: Arc<Serving>,
}

/// A session of the crate.
pub struct FuserSession(BackgroundSession, Arc<Serving>);

/// The crate's way to tell the kernel what is stale.
#[derive(Debug)]
pub struct FuserNotifier(::fuser::Notifier);

/// Shakes hands with the kernel and serves.
pub(super) fn start<O: Operations>(
    operations: Arc<O>,
    fuse_dev: OwnedFd,
    options: &KernelOptions,
    runtime: &Handle,
) -> io::Result<(FuserSession, FuserNotifier)> {
    let serving = Arc::<Serving>::default();
    let requests = Requests {
        operations,
        runtime: runtime.clone(),
        serving: Arc::clone(&serving),
    };
    let mut config = ::fuser::Config::default();
    config.n_threads = Some(options.thread_count());
    let acl = if options.allow_other {
        SessionACL::All
    } else {
        SessionACL::Owner
    };
    let session = Session::from_fd(requests, fuse_dev, acl, config)?.spawn()?;
    let notifier = FuserNotifier(session.notifier());
    Ok((FuserSession(session, serving), notifier))
}

impl FuserSession {
    pub(super) fn join(self) -> io::Result<()> {
        self.0.join()
    }

    pub(super) fn serving(&self) -> Arc<Serving> {
        Arc::clone(&self.1)
    }

    pub(super) fn is_finished(&self) -> bool {
        self.0.guard.is_finished()
    }
}

impl std::fmt::Debug for FuserSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FuserSession").finish_non_exhaustive()
    }
}

impl<O> Requests<O> {
    /// Runs a request: here and now as far as it goes without waiting.
    fn run(&self, request: impl Future<Output = ()> + Send + 'static) {
        // Dropped, it answers with an error.
        let Some(_entered) = self.serving.enter() else { return };
        park::run(&self.runtime, Box::pin(request));
    }
}

impl Notify for FuserNotifier {
    fn inval_inode(&self, node: Node, offset: i64, length: i64) -> io::Result<()> {
        self.0.inval_inode(INodeNo(node.0), offset, length)
    }

    fn inval_entry(&self, parent: Node, name: &[u8]) -> io::Result<()> {
        self.0.inval_entry(INodeNo(parent.0), OsStr::from_bytes(name))
    }

    fn delete(&self, parent: Node, child: Node, name: &[u8]) -> io::Result<()> {
        self.0
            .delete(INodeNo(parent.0), INodeNo(child.0), OsStr::from_bytes(name))
    }
}
