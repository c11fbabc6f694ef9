//! The store on disk as a log-structured merge tree (fjall): the default.
//!
//! A batch is in fjall's journal, in the page cache, when `write` returns: it survives kill -9, and the journal that is
//! replayed at start is bounded by [`JOURNAL_BYTES_MAX`].

use super::{Batch, MetaStore, StoreIter};
use ::fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable, Slice};
use bytes::Bytes;
use std::io;
use std::ops::Bound;
use std::path::Path;

/// Journals kept before memtables are written out; also the most that a start replays (below a second). The smallest
/// that fjall takes.
const JOURNAL_BYTES_MAX: u64 = 64 << 20;
/// Size of one memtable in memory; a few more may wait to be written out.
const MEMTABLE_BYTES: u64 = 16 << 20;
/// Threads that write out and compact: enough for what one applier writes.
const WORKERS: usize = 2;
/// File handles kept open.
const FILES_MAX: usize = 256;
const KEYSPACE: &str = "namespace";

/// A [`MetaStore`] on disk, by fjall.
pub struct FjallStore {
    database: Database,
    keyspace: Keyspace,
}

impl FjallStore {
    /// Opens or makes a store in `dir`, with `cache_bytes` of block cache.
    ///
    /// # Errors
    /// The folder cannot be used, is used by another process, or holds something else.
    pub fn open(dir: &Path, cache_bytes: u64) -> io::Result<Self> {
        let database = Database::builder(dir)
            .cache_size(cache_bytes)
            .max_journaling_size(JOURNAL_BYTES_MAX)
            .worker_threads(WORKERS)
            .max_cached_files(Some(FILES_MAX))
            .open()
            .map_err(failed)?;
        let options = || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES);
        let keyspace = database.keyspace(KEYSPACE, options).map_err(failed)?;
        Ok(FjallStore { database, keyspace })
    }
}

impl MetaStore for FjallStore {
    fn get(&self, key: &[u8]) -> io::Result<Option<Bytes>> {
        Ok(self.keyspace.get(key).map_err(failed)?.map(bytes))
    }

    fn scan(&self, start: &[u8], end: &[u8], limit: usize) -> io::Result<Vec<(Bytes, Bytes)>> {
        if start >= end {
            return Ok(Vec::new());
        }
        let range = (Bound::Included(start), Bound::Excluded(end));
        let rows = self.keyspace.range::<&[u8], _>(range).take(limit);
        rows.map(|row| {
            row.into_inner()
                .map(|(key, value)| (bytes(key), bytes(value)))
                .map_err(failed)
        })
        .collect()
    }

    fn write(&self, batch: Batch) -> io::Result<()> {
        let mut writes = self.database.batch().durability(Some(PersistMode::Buffer));
        for (key, value) in batch.changes {
            match value {
                Some(value) => writes.insert(&self.keyspace, &key[..], &value[..]),
                None => writes.remove(&self.keyspace, &key[..]),
            }
        }
        writes.commit().map_err(failed)
    }

    fn sync(&self) -> io::Result<()> {
        self.database.persist(PersistMode::SyncAll).map_err(failed)
    }

    fn snapshot(&self) -> io::Result<StoreIter> {
        let rows = self.database.snapshot().iter(&self.keyspace);
        Ok(Box::new(rows.map(|row| {
            row.into_inner()
                .map(|(key, value)| (bytes(key), bytes(value)))
                .map_err(failed)
        })))
    }

    fn clear(&self) -> io::Result<()> {
        self.keyspace.clear().map_err(failed)
    }
}

impl std::fmt::Debug for FjallStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FjallStore").finish_non_exhaustive()
    }
}

fn bytes(slice: Slice) -> Bytes {
    Bytes::copy_from_slice(&slice)
}

fn failed(error: ::fjall::Error) -> io::Error {
    match error {
        ::fjall::Error::Io(error) => error,
        ::fjall::Error::Locked => io::Error::new(
            io::ErrorKind::ResourceBusy,
            "it is in use by another process; is a master running over it? Stop that first",
        ),
        error => io::Error::other(format!("metadata store: {error}")),
    }
}
