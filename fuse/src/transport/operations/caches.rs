//! What the kernel has cached, and how it is told that it is stale.

use super::{Known, Node};
use crate::vfs::KernelCache;
use std::collections::HashSet;
use std::io;

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
    /// A name is to be looked up before it is used again. What is mounted on it, or uses it, stays.
    ///
    /// # Errors
    /// ENOENT if the kernel does not know it.
    fn expire_entry(&self, parent: Node, name: &[u8]) -> io::Result<()> {
        self.inval_entry(parent, name)
    }
    /// All names are stale; what is mounted beneath the mount does not survive it. Waits for nothing.
    ///
    /// # Errors
    /// If the kernel, or the transport, cannot do it.
    fn raise_epoch(&self) -> io::Result<()> {
        Err(io::Error::from_raw_os_error(libc::ENOSYS))
    }
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

impl<N: Notify> Caches<N> {
    fn expire_names(&self, node: Node) {
        for (parent, name) in self.known.names_of(node) {
            note(self.notifier.expire_entry(parent, &name));
        }
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

    fn names(&self, inode: u64) {
        self.expire_names(self.node(inode));
    }

    fn reset(&self, keeps_pages: impl Fn(u64) -> bool) {
        let known = self.known.all();
        tracing::info!(
            "changes by others were missed: invalidating {} inodes in the kernel",
            known.len()
        );
        // The epoch first: to take names back one by one waits for who is in their directories, perhaps for the master.
        let by_hand = has_mounts_on_fuse() || self.notifier.raise_epoch().is_err();
        for node in known.iter().filter(|node| **node != Node::ROOT) {
            let offset = if keeps_pages(node.0) { -1 } else { 0 };
            note(self.notifier.inval_inode(*node, offset, 0));
        }
        note(self.notifier.inval_inode(Node::ROOT, 0, 0));
        if by_hand {
            known.iter().for_each(|node| self.expire_names(*node));
        }
    }

    fn knows(&self, inode: u64) -> bool {
        self.known.has(self.node(inode))
    }
}

/// Whether something is mounted on a FUSE file system, which may be ours: an epoch would take it away. If that cannot be found
/// out, it may be so.
fn has_mounts_on_fuse() -> bool {
    match std::fs::read_to_string("/proc/self/mountinfo") {
        Ok(table) => mounts_on_fuse(&table),
        Err(error) => {
            tracing::warn!(%error, "read the mount table; names are taken back from the kernel one by one");
            true
        }
    }
}

/// `table` as in proc_pid_mountinfo(5).
fn mounts_on_fuse(table: &str) -> bool {
    let mut on = HashSet::new();
    let mut beneath = Vec::new();
    for line in table.lines() {
        let mut words = line.split(' ');
        let (Some(id), Some(parent)) = (words.next(), words.next()) else {
            continue;
        };
        beneath.push(parent);
        // Optional fields end with a dash.
        if words
            .skip_while(|word| *word != "-")
            .nth(1)
            .is_some_and(|kind| kind.starts_with("fuse"))
        {
            on.insert(id);
        }
    }
    beneath.iter().any(|parent| on.contains(parent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_mounted_on_a_fuse_file_system_is_seen() {
        let alone = "21 1 8:1 / / rw - ext4 /dev/a rw\n30 21 0:40 / /mnt rw shared:1 - fuse.alluxio h:1/ rw\n";
        assert!(!mounts_on_fuse(alone));
        assert!(mounts_on_fuse(&format!(
            "{alone}31 30 0:41 / /mnt/x rw - tmpfs none rw\n"
        )));
        assert!(!mounts_on_fuse(&format!(
            "{alone}31 21 0:41 / /srv rw - tmpfs fuse rw\n"
        )));
    }
}
