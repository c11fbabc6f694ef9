//! Bytes that were just fetched, for who waits for them: a read that follows a fetch takes them from here, without the
//! way through the file and back and another look at their checksums.
//!
//! Bounded in bytes and in time; what is not taken is in the file all the same.

use alluxio_common::sync::Mutex;
use alluxio_proto::InodeId;
use bytes::{Bytes, BytesMut};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Range;
use std::time::{Duration, Instant};

/// Bytes held for all files.
const BUFFER_BYTES_MAX: usize = 64 << 20;
/// How long they are held for a reader that may have gone.
const KEEP_FOR: Duration = Duration::from_secs(5);

/// What content it is: inode, generation of its data file, committed version.
pub(crate) type Content = (InodeId, u64, u64);

/// Bytes that were just fetched.
#[derive(Default)]
pub(crate) struct FetchBuffer(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    pieces: HashMap<Content, BTreeMap<u64, Bytes>>,
    /// In the order of coming; some are taken already.
    order: VecDeque<(Instant, Content, u64)>,
    bytes: usize,
}

impl FetchBuffer {
    /// Keeps a piece for a while.
    pub fn put(&self, content: Content, offset: u64, bytes: Bytes) {
        let mut inner = self.0.lock();
        inner.bytes += bytes.len();
        inner.order.push_back((Instant::now(), content, offset));
        if let Some(old) = inner.pieces.entry(content).or_default().insert(offset, bytes) {
            inner.bytes -= old.len();
        }
        while inner.bytes > BUFFER_BYTES_MAX {
            inner.drop_oldest();
        }
    }

    /// All of a range, if it is here. A piece that is read to its end goes.
    pub fn take(&self, content: Content, range: &Range<u64>) -> Option<Bytes> {
        let mut inner = self.0.lock();
        let pieces = inner.pieces.get(&content)?;
        let mut parts = Vec::new();
        let mut at = range.start;
        while at < range.end {
            let (start, piece) = pieces.range(..=at).next_back()?;
            let end = (start + piece.len() as u64).min(range.end);
            if end <= at {
                return None;
            }
            parts.push((*start, piece.slice((at - start) as usize..(end - start) as usize)));
            at = end;
        }
        for (start, _) in &parts {
            inner.drop_if_read(content, *start, range.end);
        }
        drop(inner);
        Some(join(parts, (range.end - range.start) as usize))
    }

    /// Drops what nobody came for.
    pub fn expire(&self) {
        let mut inner = self.0.lock();
        while inner
            .order
            .front()
            .is_some_and(|(since, ..)| since.elapsed() > KEEP_FOR)
        {
            inner.drop_oldest();
        }
    }
}

impl Inner {
    fn drop_oldest(&mut self) {
        match self.order.pop_front() {
            Some((_, content, offset)) => self.remove(content, offset),
            None => self.bytes = 0,
        }
    }

    fn drop_if_read(&mut self, content: Content, start: u64, read_to: u64) {
        let pieces = self.pieces.get(&content);
        let end = pieces
            .and_then(|pieces| pieces.get(&start))
            .map(|piece| start + piece.len() as u64);
        if end.is_some_and(|end| end <= read_to) {
            self.remove(content, start);
        }
    }

    fn remove(&mut self, content: Content, offset: u64) {
        let Some(pieces) = self.pieces.get_mut(&content) else {
            return;
        };
        if let Some(piece) = pieces.remove(&offset) {
            self.bytes -= piece.len();
        }
        if pieces.is_empty() {
            self.pieces.remove(&content);
        }
    }
}

fn join(mut parts: Vec<(u64, Bytes)>, length: usize) -> Bytes {
    if parts.len() == 1
        && let Some((_, only)) = parts.pop()
    {
        return only;
    }
    let mut all = BytesMut::with_capacity(length);
    parts.iter().for_each(|(_, part)| all.extend_from_slice(part));
    all.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTENT: Content = (InodeId(1), 2, 3);

    #[test]
    fn a_range_is_taken_whole_or_not_at_all() {
        let buffer = FetchBuffer::default();
        buffer.put(CONTENT, 100, Bytes::from_static(b"abcde"));
        buffer.put(CONTENT, 105, Bytes::from_static(b"fgh"));
        assert_eq!(buffer.take(CONTENT, &(99..102)), None);
        assert_eq!(buffer.take(CONTENT, &(104..109)), None);
        assert_eq!(buffer.take((InodeId(1), 2, 4), &(100..101)), None);
        assert_eq!(buffer.take(CONTENT, &(101..104)).unwrap(), "bcd");
        assert_eq!(buffer.take(CONTENT, &(102..107)).unwrap(), "cdefg");
        // Read to its end, the first piece is gone; the second is not.
        assert_eq!(buffer.take(CONTENT, &(101..104)), None);
        assert_eq!(buffer.take(CONTENT, &(105..108)).unwrap(), "fgh");
        assert_eq!(buffer.0.lock().bytes, 0);
        assert!(buffer.0.lock().pieces.is_empty());
    }

    #[test]
    fn held_bytes_are_bounded() {
        let buffer = FetchBuffer::default();
        let piece = Bytes::from(vec![7; 1 << 20]);
        for at in 0..200u64 {
            buffer.put((InodeId(at % 3), 0, 0), at << 20, piece.clone());
            // The same place again counts once.
            buffer.put((InodeId(at % 3), 0, 0), at << 20, piece.clone());
        }
        let inner = buffer.0.lock();
        let held: usize = inner.pieces.values().flat_map(BTreeMap::values).map(Bytes::len).sum();
        assert_eq!(held, inner.bytes);
        assert!(held <= BUFFER_BYTES_MAX && held > BUFFER_BYTES_MAX / 4, "{held}");
    }
}
