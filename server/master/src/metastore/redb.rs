//! The store on disk as a B-tree (redb): reads faster than fjall, but loses what was not synced when the process is killed,
//! and each batch costs a copy of the path to every leaf it touches.

use super::{Batch, MetaStore, StoreIter};
use ::redb::{Database, Durability, ReadableDatabase, TableDefinition};
use bytes::Bytes;
use std::io;
use std::ops::Bound;
use std::path::Path;

const TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("namespace");
const FILE: &str = "namespace.redb";

/// A [`MetaStore`] on disk, by redb.
pub struct RedbStore {
    database: Database,
}

impl RedbStore {
    /// Opens or makes a store in `dir`, with `cache_bytes` of page cache.
    ///
    /// # Errors
    /// The folder cannot be used, is used by another process, or holds something else.
    pub fn open(dir: &Path, cache_bytes: u64) -> io::Result<Self> {
        alluxio_common::crashsafe::create_dir_all(dir)?;
        let cache = usize::try_from(cache_bytes).unwrap_or(usize::MAX);
        let database = Database::builder()
            .set_cache_size(cache)
            .create(dir.join(FILE))
            .map_err(failed)?;
        let store = RedbStore { database };
        let transaction = store.database.begin_write().map_err(failed)?;
        transaction.open_table(TABLE).map_err(failed)?;
        transaction.commit().map_err(failed)?;
        Ok(store)
    }
}

impl MetaStore for RedbStore {
    fn get(&self, key: &[u8]) -> io::Result<Option<Bytes>> {
        let table = self
            .database
            .begin_read()
            .map_err(failed)?
            .open_table(TABLE)
            .map_err(failed)?;
        Ok(table
            .get(key)
            .map_err(failed)?
            .map(|value| Bytes::copy_from_slice(value.value())))
    }

    fn scan(&self, start: &[u8], end: &[u8], limit: usize) -> io::Result<Vec<(Bytes, Bytes)>> {
        if start >= end {
            return Ok(Vec::new());
        }
        let table = self
            .database
            .begin_read()
            .map_err(failed)?
            .open_table(TABLE)
            .map_err(failed)?;
        let range = (Bound::Included(start), Bound::Excluded(end));
        let rows = table.range::<&[u8]>(range).map_err(failed)?.take(limit);
        rows.map(|row| row.map(|(key, value)| copy(key.value(), value.value())).map_err(failed))
            .collect()
    }

    fn write(&self, batch: Batch) -> io::Result<()> {
        let mut transaction = self.database.begin_write().map_err(failed)?;
        transaction.set_durability(Durability::None).map_err(failed)?;
        {
            let mut table = transaction.open_table(TABLE).map_err(failed)?;
            for (key, value) in &batch.changes {
                match value {
                    Some(value) => drop(table.insert(&key[..], &value[..]).map_err(failed)?),
                    None => drop(table.remove(&key[..]).map_err(failed)?),
                }
            }
        }
        transaction.commit().map_err(failed)
    }

    fn sync(&self) -> io::Result<()> {
        let mut transaction = self.database.begin_write().map_err(failed)?;
        transaction.set_durability(Durability::Immediate).map_err(failed)?;
        transaction.commit().map_err(failed)
    }

    fn snapshot(&self) -> io::Result<StoreIter> {
        let table = self
            .database
            .begin_read()
            .map_err(failed)?
            .open_table(TABLE)
            .map_err(failed)?;
        // The range keeps the read transaction alive, and with it the view.
        let rows = table.range::<&[u8]>(..).map_err(failed)?;
        Ok(Box::new(rows.map(|row| {
            row.map(|(key, value)| copy(key.value(), value.value())).map_err(failed)
        })))
    }

    fn clear(&self) -> io::Result<()> {
        let transaction = self.database.begin_write().map_err(failed)?;
        transaction.delete_table(TABLE).map_err(failed)?;
        transaction.open_table(TABLE).map_err(failed)?;
        transaction.commit().map_err(failed)
    }
}

impl std::fmt::Debug for RedbStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedbStore").finish_non_exhaustive()
    }
}

fn copy(key: &[u8], value: &[u8]) -> (Bytes, Bytes) {
    (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value))
}

fn failed(error: impl Into<::redb::Error>) -> io::Error {
    match error.into() {
        ::redb::Error::Io(error) => error,
        error => io::Error::other(format!("metadata store: {error}")),
    }
}
