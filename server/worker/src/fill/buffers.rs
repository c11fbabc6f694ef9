//! Buffers that come back: a gigabyte that is fetched passes through a few megabytes that are mapped and warm already,
//! instead of through a page fault for each of its pages.

use alluxio_common::sync::Mutex;
use bytes::Bytes;
use std::sync::Arc;

/// Capacity of each.
const BUFFER_BYTES: usize = 1024 * 1024;
/// Below this a buffer of just the size that is wanted costs less than holding a whole one.
const POOLED_BYTES_MIN: usize = 128 * 1024;
/// Buffers that wait for their next use; what comes back beyond that is freed.
const IDLE_MAX: usize = 8;

/// Buffers that nobody uses now.
#[derive(Debug, Default)]
pub(super) struct Buffers(Mutex<Vec<Vec<u8>>>);

impl Buffers {
    /// An empty one with room for `bytes`.
    pub fn take(self: &Arc<Self>, bytes: usize) -> Buffer {
        if !(POOLED_BYTES_MIN..=BUFFER_BYTES).contains(&bytes) {
            return Buffer {
                bytes: Vec::with_capacity(bytes),
                home: Arc::clone(self),
            };
        }
        let idle = self.0.lock().pop();
        Buffer {
            bytes: idle.unwrap_or_else(|| Vec::with_capacity(BUFFER_BYTES)),
            home: Arc::clone(self),
        }
    }
}

/// One in use.
#[derive(Debug)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    home: Arc<Buffers>,
}

impl Buffer {
    pub fn len(&self) -> usize {
        self.bytes.len()
    }
    pub fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }
    /// What it holds. It comes back when the last part of that is dropped.
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.bytes.capacity() != BUFFER_BYTES {
            return;
        }
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        let mut idle = self.home.0.lock();
        if idle.len() < IDLE_MAX {
            idle.push(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_ones_come_back_empty_and_only_so_many() {
        let buffers = Arc::new(Buffers::default());
        let mut first = buffers.take(BUFFER_BYTES);
        let at = first.bytes.as_ptr();
        first.extend(b"abc");
        let bytes = first.freeze();
        let part = bytes.slice(1..);
        drop(bytes);
        assert!(buffers.0.lock().is_empty(), "a part of it is in use");
        assert_eq!(part, &b"bc"[..]);
        drop(part);
        let again = buffers.take(POOLED_BYTES_MIN);
        assert_eq!((again.bytes.as_ptr(), again.len()), (at, 0));
        let many: Vec<Buffer> = (0..2 * IDLE_MAX).map(|_| buffers.take(BUFFER_BYTES)).collect();
        drop(many);
        drop((again, buffers.take(10)));
        assert_eq!(buffers.0.lock().len(), IDLE_MAX);
    }
}
