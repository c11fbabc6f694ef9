//! The store in memory: for tests, simulation, and namespaces that need not survive. A snapshot copies the map (keys and
//! values are shared), which is simple and short enough for what it is for.

use super::{Batch, MetaStore, StoreIter};
use alluxio_common::sync::RwLock;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;

/// A [`MetaStore`] in memory.
#[derive(Debug, Default)]
pub struct HeapStore {
    map: RwLock<BTreeMap<Bytes, Bytes>>,
}

impl MetaStore for HeapStore {
    fn get(&self, key: &[u8]) -> io::Result<Option<Bytes>> {
        Ok(self.map.read().get(key).cloned())
    }

    fn scan(&self, start: &[u8], end: &[u8], limit: usize) -> io::Result<Vec<(Bytes, Bytes)>> {
        if start >= end {
            return Ok(Vec::new());
        }
        let map = self.map.read();
        let range = map.range::<[u8], _>((Bound::Included(start), Bound::Excluded(end)));
        Ok(range
            .take(limit)
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect())
    }

    fn write(&self, batch: Batch) -> io::Result<()> {
        let mut map = self.map.write();
        for (key, value) in batch.changes {
            match value {
                Some(value) => map.insert(key, value),
                None => map.remove(&key),
            };
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn snapshot(&self) -> io::Result<StoreIter> {
        let copy = self.map.read().clone();
        Ok(Box::new(copy.into_iter().map(Ok)))
    }

    fn clear(&self) -> io::Result<()> {
        self.map.write().clear();
        Ok(())
    }
}
