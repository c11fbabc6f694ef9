//! The bounded cache of decoded inodes and names in front of the store.

use alluxio_common::sync::Mutex;
use alluxio_proto::InodeId;
use bytes::Bytes;
use lru::LruCache;
use std::num::NonZeroUsize;
use std::sync::Arc;

use super::inode::Inode;
use super::records::Edge;

/// Locks that look-ups spread over, so that readers on many cores rarely meet.
const SHARDS: usize = 16;

/// Least recently used inodes and names go first. Absent names are kept too: a create looks for one first.
pub(super) struct Cache {
    inodes: Vec<Mutex<LruCache<u64, Arc<Inode>>>>,
    edges: Vec<Mutex<LruCache<Bytes, Option<Edge>>>>,
}

impl Cache {
    /// Room for `entries` inodes and as many names.
    pub fn new(entries: usize) -> Self {
        let per_shard = NonZeroUsize::new(entries / SHARDS).unwrap_or(NonZeroUsize::MIN);
        Cache {
            inodes: (0..SHARDS).map(|_| Mutex::new(LruCache::new(per_shard))).collect(),
            edges: (0..SHARDS).map(|_| Mutex::new(LruCache::new(per_shard))).collect(),
        }
    }

    pub fn inode(&self, id: InodeId) -> Option<Arc<Inode>> {
        self.inode_shard(id).lock().get(&id.get()).cloned()
    }
    pub fn put_inode(&self, id: InodeId, inode: Option<Arc<Inode>>) {
        let mut shard = self.inode_shard(id).lock();
        match inode {
            Some(inode) => shard.put(id.get(), inode),
            None => shard.pop(&id.get()),
        };
    }
    pub fn edge(&self, key: &[u8]) -> Option<Option<Edge>> {
        self.edge_shard(key).lock().get(key).copied()
    }
    pub fn put_edge(&self, key: Bytes, edge: Option<Edge>) {
        self.edge_shard(&key).lock().put(key, edge);
    }
    pub fn clear(&self) {
        self.inodes.iter().for_each(|shard| shard.lock().clear());
        self.edges.iter().for_each(|shard| shard.lock().clear());
    }

    fn inode_shard(&self, id: InodeId) -> &Mutex<LruCache<u64, Arc<Inode>>> {
        &self.inodes[(id.get() % SHARDS as u64) as usize]
    }
    fn edge_shard(&self, key: &[u8]) -> &Mutex<LruCache<Bytes, Option<Edge>>> {
        // Names in one directory differ at the end, directories with equal names in the middle.
        let sum = key.iter().fold(0usize, |sum, byte| {
            sum.wrapping_mul(31).wrapping_add(usize::from(*byte))
        });
        &self.edges[sum % SHARDS]
    }
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache").finish_non_exhaustive()
    }
}
