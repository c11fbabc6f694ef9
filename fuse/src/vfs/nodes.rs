//! Which node of the kernel stands for which data of an inode.
//!
//! The kernel has one backing file, one set of pages and one length for a node. So when the data of a file becomes another
//! while somebody here has the old open (the object was replaced in the under-storage, or another host committed a
//! version), the file gets one more node: who has the old one open keeps the old bytes, whoever opens it from now on gets the
//! new. stat(2) shows the same inode number of both. Names lead to the newest node; of the older ones `fstat` shows the length
//! and mtime of their own data, and everything else of the inode.
//!
//! The first node of an inode has its number. There is another one only where data is another *file's*: as long as nobody has
//! the old data open, or writers of this host change it in place, the node goes on.
//!
//! **Promises:** only the newest node of an inode is written through. A number of a node is not used for another inode, ever.

use super::Vfs;
use super::inode::{OpenInode, OpenState};
use super::session::Stale;
use alluxio_common::sync::Mutex;
use alluxio_proto::types::Attr;
use alluxio_proto::{ErrorKind, FsError};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Numbers from here on are nodes beside the first of an inode: ids of inodes, which are counted up from 1, stay below.
const FIRST: u64 = 1 << 63;

/// The nodes of inodes that have more than one.
#[derive(Clone, Default)]
pub(super) struct Nodes(Arc<Inner>);

#[derive(Default)]
struct Inner {
    /// There are any, for those who look names up.
    any: AtomicBool,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    /// Nodes that were made.
    made: u64,
    /// Inode of each node but the first ones.
    inodes: HashMap<u64, u64>,
    lines: HashMap<u64, Line>,
}

/// The nodes of one inode.
struct Line {
    newest: u64,
    older: HashMap<u64, Shown>,
    /// Those that the kernel knows.
    known: HashSet<u64>,
}

/// What stat(2) shows of data that is not the newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shown {
    pub length: u64,
    pub mtime_ns: i64,
}

impl Nodes {
    /// Inode of a node.
    pub fn inode_of(&self, node: u64) -> u64 {
        match node < FIRST {
            true => node,
            // Of one that is forgotten there is no inode.
            false => self.0.table.lock().inodes.get(&node).copied().unwrap_or(node),
        }
    }

    /// The node that stands for an inode's data as it is now.
    pub fn newest(&self, inode: u64) -> u64 {
        if !self.0.any.load(Ordering::Acquire) {
            return inode;
        }
        let table = self.0.table.lock();
        table.lines.get(&inode).map_or(inode, |line| line.newest)
    }

    /// The same, for an answer to the kernel, which knows it from then on.
    pub fn give(&self, inode: u64) -> u64 {
        if !self.0.any.load(Ordering::Acquire) {
            return inode;
        }
        let mut table = self.0.table.lock();
        table.lines.get_mut(&inode).map_or(inode, |line| {
            line.known.insert(line.newest);
            line.newest
        })
    }

    /// What stat(2) shows of a node's data, if it is not the newest.
    pub fn older(&self, node: u64) -> Option<Shown> {
        if !self.0.any.load(Ordering::Acquire) {
            return None;
        }
        let inode = self.inode_of(node);
        self.0.table.lock().lines.get(&inode)?.older.get(&node).copied()
    }

    /// All nodes of an inode that are not the newest.
    pub fn older_of(&self, inode: u64) -> Vec<u64> {
        if !self.0.any.load(Ordering::Acquire) {
            return Vec::new();
        }
        let table = self.0.table.lock();
        table
            .lines
            .get(&inode)
            .map_or_else(Vec::new, |line| line.older.keys().copied().collect())
    }

    /// What stat(2) shows of a node's data from now on, if it is not the newest.
    pub fn show(&self, node: u64, length: u64, mtime_ns: i64) {
        if !self.0.any.load(Ordering::Acquire) {
            return;
        }
        let inode = self.inode_of(node);
        let mut table = self.0.table.lock();
        let shown = table.lines.get_mut(&inode).and_then(|line| line.older.get_mut(&node));
        if let Some(shown) = shown {
            *shown = Shown { length, mtime_ns };
        }
    }

    /// Gives an inode another node, after its newest one. False if that is not the newest.
    fn supersede(&self, node: u64, shown: Shown) -> bool {
        let inode = self.inode_of(node);
        let mut table = self.0.table.lock();
        let next = FIRST | table.made;
        let line = table.lines.entry(inode).or_insert_with(|| Line {
            newest: inode,
            older: HashMap::new(),
            known: HashSet::from([inode]),
        });
        if line.newest != node {
            return false;
        }
        line.newest = next;
        line.older.insert(node, shown);
        table.inodes.insert(next, inode);
        table.made += 1;
        self.0.any.store(true, Ordering::Release);
        true
    }

    /// The kernel does not know a node any more. True: it knows none of its inode.
    fn forget(&self, node: u64) -> bool {
        if !self.0.any.load(Ordering::Acquire) {
            return true;
        }
        let inode = self.inode_of(node);
        let mut table = self.0.table.lock();
        let Some(line) = table.lines.get_mut(&inode) else {
            return true;
        };
        line.known.remove(&node);
        if line.newest != node {
            line.older.remove(&node);
            table.inodes.remove(&node);
        }
        if table.lines.get(&inode).is_some_and(|line| !line.known.is_empty()) {
            return false;
        }
        if let Some(line) = table.lines.remove(&inode) {
            table.inodes.remove(&line.newest);
        }
        if table.lines.is_empty() {
            self.0.any.store(false, Ordering::Release);
        }
        true
    }
}

impl Shown {
    fn overlay(self, attr: &mut Attr) {
        (attr.size, attr.mtime_ns) = (self.length, self.mtime_ns);
        attr.hole_bytes = attr.hole_bytes.min(attr.size);
    }
}

impl Vfs {
    /// Inode of a node.
    pub fn inode_of(&self, node: u64) -> u64 {
        self.nodes.inode_of(node)
    }

    /// The node by which the kernel is to know an inode from now on.
    pub fn node_of(&self, inode: u64) -> u64 {
        self.nodes.give(inode)
    }

    /// The same, for who does not tell the kernel.
    pub fn newest_node(&self, inode: u64) -> u64 {
        self.nodes.newest(inode)
    }

    /// Whether a node stands for data that is not the newest any more: its pages are right, and nobody else's.
    pub fn is_older_node(&self, node: u64) -> bool {
        self.nodes.older(node).is_some()
    }

    /// The kernel does not know a node any more.
    pub fn forgotten(&self, node: u64) {
        let inode = self.nodes.inode_of(node);
        if self.nodes.forget(node) {
            self.removed.forget(inode);
        }
    }

    /// Shows of a node what its own data is like.
    pub(super) fn shown_of(&self, node: u64, mut attr: Attr) -> Attr {
        if let Some(shown) = self.nodes.older(node) {
            shown.overlay(&mut attr);
        }
        attr
    }

    /// The data of an open inode became another file's: from now on it has another node, which the kernel finds when it looks the
    /// name up again, as the error says.
    pub(super) fn supersede(&self, open: &OpenInode, state: &OpenState) -> FsError {
        let length = match &state.local {
            Some(file) => file.stamp().map_or(state.source.length, |stamp| stamp.length),
            None => state.source.length,
        };
        let shown = Shown {
            length,
            mtime_ns: state.mtime_ns,
        };
        if self.nodes.supersede(open.node, shown) {
            tracing::debug!(
                inode = open.id,
                node = open.node,
                "its data is another's while it is open: another node"
            );
            self.tell_kernel(Stale::Superseded { node: open.node });
        }
        superseded(open.id)
    }

    /// Whether a node may be opened: `Gone` if the kernel is to look its name up again.
    pub(super) fn check_newest(&self, node: u64) -> Result<(), FsError> {
        match self.nodes.older(node) {
            Some(_) => Err(superseded(self.nodes.inode_of(node))),
            None => Ok(()),
        }
    }
}

fn superseded(inode: u64) -> FsError {
    let why = format!("open inode {inode}: its data is another's by now; look its name up again");
    FsError::new(ErrorKind::Gone, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: Shown = Shown { length: 3, mtime_ns: 5 };

    #[test]
    fn names_lead_to_the_newest_node_until_all_are_forgotten() {
        let nodes = Nodes::default();
        assert_eq!((nodes.newest(7), nodes.give(7), nodes.inode_of(7)), (7, 7, 7));
        assert!(nodes.supersede(7, OLD));
        assert!(!nodes.supersede(7, OLD), "it is not the newest any more");
        let second = nodes.give(7);
        assert_ne!(second, 7);
        assert_eq!((nodes.inode_of(second), nodes.newest(7)), (7, second));
        assert_eq!((nodes.older(7), nodes.older(second)), (Some(OLD), None));
        assert!(nodes.supersede(second, OLD));
        let third = nodes.give(7);
        assert_eq!(nodes.older_of(7).len(), 2);
        assert_eq!(nodes.newest(8), 8, "others are as they were");

        assert!(!nodes.forget(7));
        assert_eq!(nodes.newest(7), third);
        assert!(!nodes.forget(third), "the second is still open");
        assert_eq!(nodes.give(7), third, "the kernel may hear of it again");
        assert!(!nodes.forget(third));
        assert!(nodes.forget(second));
        assert_eq!((nodes.newest(7), nodes.older(7)), (7, None));
        assert!(nodes.0.table.lock().inodes.is_empty());

        // Of what the kernel has only seen the number, in a plain listing, it forgets nothing.
        assert!(nodes.supersede(7, OLD));
        assert_ne!(nodes.newest(7), 7);
        assert!(nodes.forget(7));
        assert!(nodes.0.table.lock().lines.is_empty());
    }
}
