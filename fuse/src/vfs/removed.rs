//! What has no name any more, and is not forgotten: an open directory, FIFO or socket, somebody's current directory.
//!
//! The master keeps files that are open. Of anything else it knows only names, so it deletes what loses the last one. A
//! kernel that still has it goes on asking for its attributes, until it forgets the inode: these are answered from here.

use super::Vfs;
use alluxio_common::sync::Mutex;
use alluxio_proto::types::{Attr, FileKind};
use lru::LruCache;
use std::num::NonZeroUsize;
use std::sync::Arc;

/// Removed inodes that are remembered; about 300 bytes each. The kernel forgets nearly all of them at once.
const REMOVED_MAX: NonZeroUsize = NonZeroUsize::new(16_384).expect("not zero");

/// Attributes of inodes that were removed while the kernel knew them.
#[derive(Clone)]
pub(super) struct Removed(Arc<Mutex<LruCache<u64, Attr>>>);

impl Default for Removed {
    fn default() -> Self {
        Removed(Arc::new(Mutex::new(LruCache::new(REMOVED_MAX))))
    }
}

impl Removed {
    /// Remembers what lost its last name.
    pub fn keep(&self, mut attr: Attr) {
        attr.nlink = 0;
        attr.entries = 0;
        // Nobody would say when they change.
        attr.cache_ms = 0;
        self.0.lock().put(attr.inode, attr);
    }

    /// The kernel does not know it any more.
    pub fn forget(&self, inode: u64) {
        self.0.lock().pop(&inode);
    }

    fn get(&self, inode: u64) -> Option<Attr> {
        self.0.lock().get(&inode).cloned()
    }
}

impl Vfs {
    /// Attributes of what was removed, if the kernel may still have it open.
    pub(super) fn removed(&self, inode: u64) -> Option<Attr> {
        self.removed.get(inode)
    }

    /// A directory that was removed, if the kernel may still have it open.
    pub(super) fn removed_dir(&self, inode: u64) -> Option<Attr> {
        self.removed(inode).filter(|attr| attr.kind() == FileKind::Directory)
    }

    /// Remembers what a change of names removed: before it is answered, since the kernel may forget it right after.
    pub(super) fn keep_removed(&self, attr: Option<Attr>) {
        if let Some(attr) = attr {
            self.extras.lock().forget(Some(attr.inode));
            self.removed.keep(attr);
        }
    }
}
