//! What the kernel has cached, and how it is told that it is stale.

use super::Node;
use crate::vfs::KernelCache;
use alluxio_common::sync::Mutex;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;

/// Inodes that the kernel knows, by its count of look-ups; what a reset has to invalidate.
#[derive(Clone, Debug, Default)]
pub struct Known(Arc<Mutex<HashMap<u64, u64>>>);

impl Known {
    /// Counts a look-up.
    pub fn remember(&self, inode: u64) {
        *self.0.lock().entry(inode).or_default() += 1;
    }

    /// Takes look-ups back; true if the kernel does not know the inode any more.
    pub fn forget(&self, inode: u64, lookups: u64) -> bool {
        let mut known = self.0.lock();
        let Some(count) = known.get_mut(&inode) else {
            return true;
        };
        *count = count.saturating_sub(lookups);
        let last = *count == 0;
        if last {
            known.remove(&inode);
        }
        last
    }

    fn has(&self, inode: u64) -> bool {
        self.0.lock().contains_key(&inode)
    }

    fn all(&self) -> Vec<u64> {
        self.0.lock().keys().copied().collect()
    }
}

/// What a transport can tell the kernel. The calls may block while the kernel waits for the daemon.
pub trait Notify: Send + 'static {
    /// Attributes are stale; with an offset from 0 on, pages are too.
    ///
    /// # Errors
    /// ENOENT if the kernel does not know the inode.
    fn inval_inode(&self, node: Node, offset: i64, length: i64) -> io::Result<()>;
    /// A name is stale.
    ///
    /// # Errors
    /// ENOENT if the kernel does not know it.
    fn inval_entry(&self, parent: Node, name: &[u8]) -> io::Result<()>;
    /// A name is gone, and with it `child`.
    ///
    /// # Errors
    /// ENOENT if the kernel does not know it.
    fn delete(&self, parent: Node, child: Node, name: &[u8]) -> io::Result<()>;
}

/// The kernel's caches behind a transport.
#[derive(Debug)]
pub struct Caches<N> {
    notifier: N,
    known: Known,
    root: u64,
}

impl<N: Notify> Caches<N> {
    /// Of a mount whose root folder is `root`.
    pub fn new(notifier: N, known: Known, root: u64) -> Caches<N> {
        Caches { notifier, known, root }
    }

    fn node(&self, inode: u64) -> Node {
        if inode == self.root { Node::ROOT } else { Node(inode) }
    }
}

/// The kernel says ENOENT of what it does not cache, which is as good.
fn note(result: io::Result<()>) {
    if let Err(error) = result
        && !matches!(
            error.raw_os_error(),
            Some(libc::ENOENT | libc::ENOTDIR | libc::ENOTEMPTY | libc::ENOTCONN | libc::ENODEV)
        )
    {
        tracing::debug!(%error, "invalidate a kernel cache");
    }
}

impl<N: Notify> KernelCache for Caches<N> {
    fn inode(&self, inode: u64, data: bool) {
        // A negative offset leaves the pages alone.
        note(
            self.notifier
                .inval_inode(self.node(inode), if data { 0 } else { -1 }, 0),
        );
    }

    fn entry(&self, parent: u64, name: &[u8], child: u64) {
        let parent = self.node(parent);
        if child == 0 {
            note(self.notifier.inval_entry(parent, name));
        } else {
            note(self.notifier.delete(parent, self.node(child), name));
        }
        // Pages of a directory are its cached listing.
        note(self.notifier.inval_inode(parent, 0, 0));
    }

    fn reset(&self) {
        let known = self.known.all();
        tracing::info!(
            "changes by others were missed: invalidating {} inodes in the kernel",
            known.len()
        );
        for inode in known {
            note(self.notifier.inval_inode(self.node(inode), 0, 0));
        }
        note(self.notifier.inval_inode(Node::ROOT, 0, 0));
    }

    fn knows(&self, inode: u64) -> bool {
        self.known.has(inode)
    }
}
