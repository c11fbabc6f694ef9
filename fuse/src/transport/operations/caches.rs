//! What the kernel has cached, and how it is told that it is stale.

use super::Node;
use crate::vfs::KernelCache;
use alluxio_common::sync::Mutex;
use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;

/// Names of one inode that are remembered. Of one with more hard links the kernel hears of the last that it looked up.
const NAMES_MAX: usize = 64;

/// Nodes that the kernel knows, by its count of look-ups, and under which names: what has to be invalidated when changes were
/// missed, or a name is to lead to another node. About 100 bytes each, where the kernel has 1,000.
#[derive(Clone, Debug, Default)]
pub struct Known(Arc<Mutex<HashMap<Node, Seen>>>);

/// A name in a directory.
type Name = (Node, Box<[u8]>);

#[derive(Debug, Default)]
struct Seen {
    lookups: u64,
    /// The last name that it was found by.
    name: Option<Name>,
    /// Those of before.
    others: Vec<Name>,
}

impl Seen {
    fn add(&mut self, parent: Node, name: &[u8]) {
        let is = |known: &Name| known.0 == parent && *known.1 == *name;
        if self.name.as_ref().is_some_and(is) || self.others.iter().any(is) {
            return;
        }
        if let Some(before) = self.name.replace((parent, name.into())) {
            if self.others.len() + 1 >= NAMES_MAX {
                self.others.remove(0);
            }
            self.others.push(before);
        }
    }

    fn names(&self) -> impl Iterator<Item = &Name> {
        self.name.iter().chain(&self.others)
    }
}

impl Known {
    /// Counts a look-up of a node, by a name if it has one.
    pub fn remember(&self, node: Node, name: Option<(Node, &[u8])>) {
        let mut known = self.0.lock();
        let seen = known.entry(node).or_default();
        seen.lookups += 1;
        if let Some((parent, name)) = name {
            seen.add(parent, name);
        }
    }

    /// Takes look-ups back; true if the kernel does not know the node any more.
    pub fn forget(&self, node: Node, lookups: u64) -> bool {
        let mut known = self.0.lock();
        let Some(seen) = known.get_mut(&node) else {
            return true;
        };
        seen.lookups = seen.lookups.saturating_sub(lookups);
        let last = seen.lookups == 0;
        if last {
            known.remove(&node);
        }
        last
    }

    /// Whether the kernel knows a node.
    pub(super) fn has(&self, node: Node) -> bool {
        self.0.lock().contains_key(&node)
    }

    fn all(&self) -> Vec<Node> {
        self.0.lock().keys().copied().collect()
    }

    fn names_of(&self, node: Node) -> Vec<Name> {
        let known = self.0.lock();
        known
            .get(&node)
            .map_or_else(Vec::new, |seen| seen.names().cloned().collect())
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

    #[test]
    fn names_are_known_until_the_inode_is_forgotten() {
        let (known, dir, file) = (Known::default(), Node(2), Node(3));
        for name in [&b"a"[..], b"b", b"a"] {
            known.remember(file, Some((dir, name)));
        }
        known.remember(file, None);
        let mut names = known.names_of(file);
        names.sort_by(|one, other| one.1.cmp(&other.1));
        assert_eq!(names, [(dir, Box::from(&b"a"[..])), (dir, Box::from(&b"b"[..]))]);
        assert!(!known.forget(file, 3));
        assert!(known.forget(file, 1) && known.names_of(file).is_empty());
        for number in 0..200_u64 {
            known.remember(file, Some((dir, &number.to_ne_bytes())));
        }
        let names = known.names_of(file);
        assert_eq!(names.len(), NAMES_MAX);
        assert!(names.contains(&(dir, Box::from(&199_u64.to_ne_bytes()[..]))));
    }
}
