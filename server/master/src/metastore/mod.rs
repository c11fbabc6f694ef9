//! The metadata store: an ordered map of bytes to bytes with atomic batches (DESIGN D3).
//!
//! Promises: a batch is applied whole or not at all, also across a crash; batches survive in order (a later one never
//! without an earlier one); `write` does not wait for the disk; `sync` does. The raft log is the truth: what a crash
//! of the machine takes is replayed from there. Left out: transactions over reads (there is one writer), tables (a
//! leading byte of the key is enough).

pub mod bench;
mod fjall;
mod heap;
#[cfg(test)]
mod tests;

pub use fjall::FjallStore;
pub use heap::HeapStore;

use bytes::Bytes;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Block cache of the store on disk, unless set otherwise: with [`crate::state::StateOptions`]' cache in front, what matters
/// is that the upper levels fit.
pub const CACHE_BYTES_DEFAULT: u64 = 32 << 20;

/// Which store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreKind {
    /// In memory.
    Heap,
    /// On disk, log-structured.
    Fjall,
}

impl StoreKind {
    /// Every kind.
    pub const ALL: [StoreKind; 2] = [StoreKind::Heap, StoreKind::Fjall];

    /// Its name in tables and messages.
    pub fn name(self) -> &'static str {
        match self {
            StoreKind::Heap => "heap",
            StoreKind::Fjall => "fjall",
        }
    }
}

/// Opens or makes the store of a kind in `dir` (unused by the heap). The default of the product is [`StoreKind::Fjall`].
///
/// # Errors
/// The folder cannot be used, is used by another process, or holds something else.
pub fn open(kind: StoreKind, dir: &Path, cache_bytes: u64) -> io::Result<Arc<dyn MetaStore>> {
    Ok(match kind {
        StoreKind::Heap => Arc::new(HeapStore::default()),
        StoreKind::Fjall => Arc::new(FjallStore::open(dir, cache_bytes)?),
    })
}

/// A consistent view, in key order.
pub type StoreIter = Box<dyn Iterator<Item = io::Result<(Bytes, Bytes)>> + Send>;

/// Puts (`Some`) and deletes (`None`), each key at most once.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// In any order.
    pub changes: Vec<(Bytes, Option<Bytes>)>,
}

/// An ordered map of bytes to bytes. One writer at a time; readers never wait for the disk longer than a read takes.
pub trait MetaStore: Send + Sync + std::fmt::Debug + 'static {
    /// The value of a key.
    ///
    /// # Errors
    /// The disk failed, or what is on it is damaged. So for all others here.
    fn get(&self, key: &[u8]) -> io::Result<Option<Bytes>>;

    /// Pairs with `start <= key < end`, in key order, `limit` at most.
    fn scan(&self, start: &[u8], end: &[u8], limit: usize) -> io::Result<Vec<(Bytes, Bytes)>>;

    /// Waits until a batch can be written without waiting for the disk. Asked for before locks are taken that readers need.
    ///
    /// # Errors
    /// It will never be possible again: the disk is full or broken.
    fn admit(&self) -> io::Result<()> {
        Ok(())
    }

    /// What was found to be damaged since it was opened, in words.
    fn damage(&self) -> Option<String> {
        None
    }

    /// Applies a batch, atomically, without waiting for the disk.
    fn write(&self, batch: Batch) -> io::Result<()>;

    /// Returns when everything written so far survives a power cut.
    fn sync(&self) -> io::Result<()>;

    /// A consistent view of everything as it is now; writes may go on.
    fn snapshot(&self) -> io::Result<StoreIter>;

    /// Removes everything. Not atomic: a crash may leave a part.
    fn clear(&self) -> io::Result<()>;
}

/// The smallest key that is greater than every key starting with `prefix`. A prefix of 0xFF bytes only has none and is not
/// used by us; it gives an empty range.
pub fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    prefix.to_vec()
}

/// Whether an error says that what is on the disk is damaged, and not that the disk fails, is full, or holds what a newer
/// version wrote.
pub fn is_damage(error: &io::Error) -> bool {
    match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof | io::ErrorKind::NotFound => true,
        io::ErrorKind::Other => error.raw_os_error().is_none(),
        _ => false,
    }
}
