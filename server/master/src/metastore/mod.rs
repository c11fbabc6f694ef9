//! The metadata store: an ordered map of bytes to bytes with atomic batches (DESIGN D3).
//!
//! Promises: a batch is applied whole or not at all, also across a crash; batches survive in order (a later one never
//! without an earlier one); `write` does not wait for the disk; `sync` does. The raft log is the truth: what a crash
//! of the machine takes is replayed from there. Left out: transactions over reads (there is one writer), tables (a
//! leading byte of the key is enough).

pub mod heap;

pub use heap::HeapStore;

use bytes::Bytes;
use std::io;

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
