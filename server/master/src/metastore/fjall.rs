//! The store on disk as a log-structured merge tree (fjall): the default.
//!
//! A batch is in fjall's journal, in the page cache, when `write` returns: it survives kill -9, and the journal that is
//! replayed at start is bounded by [`JOURNAL_BYTES_MAX`].

use super::{Batch, MetaStore, StoreIter};
use ::fjall::{AbstractTree, Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable, Slice};
use bytes::Bytes;
use std::io;
use std::ops::Bound;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// Journals kept before memtables are written out; also the most that a start replays (below a second). The smallest
/// that fjall takes.
const JOURNAL_BYTES_MAX: u64 = 64 << 20;
/// Size of one memtable in memory; a few more may wait to be written out.
const MEMTABLE_BYTES: u64 = 16 << 20;
/// Threads that write out and compact: enough for what one applier writes.
const WORKERS: usize = 2;
/// File handles kept open.
const FILES_MAX: usize = 256;
/// Memtables that wait to be written out, and runs that wait to be compacted, at which writers wait. fjall waits at 4 and,
/// without end, at 30.
const SEALED_MAX: usize = 3;
const RUNS_MAX: usize = 28;
/// Longer than writing out all of them takes on a slow disk.
const STALL_MAX: Duration = Duration::from_secs(120);
const STALL_PAUSE: Duration = Duration::from_millis(5);
const KEYSPACE: &str = "namespace";

/// A [`MetaStore`] on disk, by fjall.
pub struct FjallStore {
    database: Database,
    keyspace: Keyspace,
    damage: Arc<OnceLock<String>>,
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
        Ok(FjallStore {
            database,
            keyspace,
            damage: Arc::default(),
        })
    }

    /// See [`MetaStore::admit`]; an error after `stall_max`.
    fn admit_within(&self, stall_max: Duration) -> io::Result<()> {
        let deadline = Instant::now() + stall_max;
        // Below what fjall itself waits for by one: its own wait has no end should its threads have died, and comes after
        // the write, under whatever locks its caller holds.
        while self.keyspace.sealed_memtable_count() >= SEALED_MAX || self.keyspace.tree.l0_run_count() >= RUNS_MAX {
            if Instant::now() >= deadline {
                let why = format!("it has not written out its memory for {stall_max:?}; is its disk full or broken?");
                return Err(io::Error::new(io::ErrorKind::TimedOut, why));
            }
            std::thread::sleep(STALL_PAUSE);
        }
        Ok(())
    }

    /// What was read is damaged: remembered, so that the next start rebuilds the store.
    fn read_failed(&self, error: ::fjall::Error) -> io::Error {
        note(&self.damage, failed(error))
    }
}

impl MetaStore for FjallStore {
    fn get(&self, key: &[u8]) -> io::Result<Option<Bytes>> {
        let value = self.keyspace.get(key).map_err(|error| self.read_failed(error))?;
        Ok(value.map(bytes))
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
                .map_err(|error| self.read_failed(error))
        })
        .collect()
    }

    fn admit(&self) -> io::Result<()> {
        self.admit_within(STALL_MAX)
    }

    fn damage(&self) -> Option<String> {
        self.damage.get().cloned()
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
        let damage = self.damage.clone();
        Ok(Box::new(rows.map(move |row| {
            row.into_inner()
                .map(|(key, value)| (bytes(key), bytes(value)))
                .map_err(|error| note(&damage, failed(error)))
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

fn note(damage: &OnceLock<String>, error: io::Error) -> io::Error {
    if super::is_damage(&error) {
        damage.get_or_init(|| error.to_string());
    }
    error
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
        ::fjall::Error::InvalidVersion(Some(found)) => io::Error::new(
            io::ErrorKind::Unsupported,
            format!(
                "the metadata store is of format {found:?}, which this version does not know; use the newer program"
            ),
        ),
        // Those of the disk keep their kind.
        ::fjall::Error::Storage(::fjall::LsmError::Io(error)) => error,
        ::fjall::Error::Poisoned => io::Error::new(
            io::ErrorKind::BrokenPipe,
            "the metadata store takes no more changes after a failure of its disk",
        ),
        error => io::Error::other(format!("metadata store: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sealed memtables at which fjall sleeps after a write, until there are fewer, and runs at which it does.
    const FJALL_SLEEPS_AT: usize = 4;
    const FJALL_SLEEPS_AT_RUNS: usize = 30;

    /// As if its threads had died.
    fn without_threads(dir: &Path) -> FjallStore {
        let database = Database::builder(dir).worker_threads_unchecked(0).open().unwrap();
        FjallStore {
            keyspace: database.keyspace(KEYSPACE, KeyspaceCreateOptions::default).unwrap(),
            database,
            damage: Arc::default(),
        }
    }

    fn row(value: usize) -> Batch {
        Batch {
            changes: vec![(Bytes::from_static(b"k"), Some(Bytes::from(value.to_string())))],
        }
    }

    #[test]
    fn a_store_that_writes_nothing_out_admits_no_more_before_fjall_sleeps() {
        let dir = tempfile::tempdir().unwrap();
        let store = without_threads(dir.path());
        let mut written = 0;
        let error = loop {
            if let Err(error) = store.admit_within(Duration::ZERO) {
                break error;
            }
            store.write(row(written)).unwrap();
            written += 1;
            store.keyspace.rotate_memtable().unwrap();
            // The next write would not come back.
            assert!(store.keyspace.sealed_memtable_count() < FJALL_SLEEPS_AT, "{written}");
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
        assert_eq!(written, SEALED_MAX);
    }

    /// Memory is written out, and nothing compacts what comes of that.
    #[test]
    fn while_too_many_runs_wait_to_be_compacted_writers_wait_and_readers_do_not() {
        let dir = tempfile::tempdir().unwrap();
        let store = without_threads(dir.path());
        let runs = || store.keyspace.tree.l0_run_count();
        let error = loop {
            if let Err(error) = store.admit_within(Duration::ZERO) {
                break error;
            }
            store.write(row(runs())).unwrap();
            store.keyspace.tree.flush_active_memtable(0).unwrap();
            // The next write would not come back.
            assert!(runs() < FJALL_SLEEPS_AT_RUNS);
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
        assert_eq!(runs(), RUNS_MAX);
        let last = (RUNS_MAX - 1).to_string();
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| store.admit_within(STALL_MAX));
            let (got, rows) = (store.get(b"k").unwrap(), store.scan(b"a", b"z", 9).unwrap());
            assert_eq!(got.as_deref(), Some(last.as_bytes()));
            assert_eq!((rows.len(), store.snapshot().unwrap().count()), (1, 1));
            assert!(!writer.is_finished(), "admitted to {} runs", runs());
            store.keyspace.major_compact().unwrap();
            writer.join().unwrap().unwrap();
        });
        assert!(runs() < RUNS_MAX);
        store.write(row(RUNS_MAX)).unwrap();
    }
}
