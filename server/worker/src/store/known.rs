//! What is known of files that are not loaded: enough to open a complete and verified one again by the name of its data file.
//!
//! A loaded entry holds two descriptors, of which a process has few; this holds none. **Invariant:** a file is known here
//! only while it is not loaded, so nothing of it can change; what loads it takes it off. A data file's name has its
//! generation in it, so a name that is open has the content that was known, or is gone.

use super::{Entry, Layout};
use alluxio_common::sync::Mutex;
use alluxio_proto::InodeId;
use alluxio_proto::master::ReadSource;
use alluxio_proto::types::UfsSource;
use lru::LruCache;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::num::NonZeroUsize;

/// Files known at once, about 100 bytes each.
const KNOWN_MAX: NonZeroUsize = NonZeroUsize::new(131_072).expect("not zero");

/// Complete files that are not loaded.
pub(super) struct Known(Mutex<LruCache<InodeId, Fact>>);

#[derive(Clone, Copy)]
pub(super) struct Fact {
    version: u64,
    generation: u64,
    /// Hash of where it is in the under-storage; 0: it is not known to be there.
    location: u64,
}

impl Fact {
    /// Whether it says that all of `entry`, which was loaded just now, was found right by this process.
    pub fn is_of(&self, entry: &Entry) -> bool {
        let header = entry.view().header;
        !header.open && header.generation == self.generation && header.version == self.version
    }
}

impl Known {
    pub fn new() -> Self {
        Self(Mutex::new(LruCache::new(KNOWN_MAX)))
    }

    /// Keeps what may be needed of an entry that is about to be unloaded.
    pub fn keep(&self, entry: &Entry) {
        let is_complete = entry.complete().unwrap_or(false);
        let view = entry.view();
        let is_known = is_complete && entry.first_unverified(0).is_none() && entry.check_synced().is_ok();
        if is_known && !view.header.open && !view.dead {
            let fact = Fact {
                version: view.header.version,
                generation: view.header.generation,
                location: location(view.header.ufs.as_ref()),
            };
            self.0.lock().put(entry.inode, fact);
        }
    }

    /// It is about to be loaded, made or removed.
    pub fn take(&self, inode: InodeId) -> Option<Fact> {
        self.0.lock().pop(&inode)
    }

    /// The data file of just that version, if it is known to be complete. `None` says nothing.
    pub fn open(&self, layout: &Layout, inode: InodeId, source: &ReadSource) -> Option<File> {
        let fact = *self.0.lock().get(&inode)?;
        // Another location is news that the entry itself has to hear.
        if fact.version != source.version || (source.ufs.is_some() && fact.location != location(source.ufs.as_ref())) {
            return None;
        }
        let path = layout.data(inode, fact.generation);
        let file = File::open(path).ok()?;
        // Loaded meanwhile, it may have been opened for writing by who did not see this descriptor.
        let is_known = self
            .0
            .lock()
            .peek(&inode)
            .is_some_and(|now| now.generation == fact.generation);
        is_known.then_some(file)
    }
}

fn location(ufs: Option<&UfsSource>) -> u64 {
    ufs.map_or(0, |ufs| {
        let mut hasher = DefaultHasher::new();
        (ufs.mount_id, &ufs.path, &ufs.fingerprint, ufs.length).hash(&mut hasher);
        hasher.finish()
    })
}
