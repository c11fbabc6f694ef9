//! Buffers for requests: one for each reading thread, and a few for the data of large writes that are being worked on.

use alluxio_common::sync::Mutex;
use bytes::Bytes;
use std::sync::Arc;

/// Buffers that are kept when nobody uses them.
const KEPT_MAX: usize = 4;

/// Buffers of one size. Memory that was never written to is never touched.
#[derive(Clone, Debug)]
pub struct Pool {
    kept: Arc<Mutex<Vec<Vec<u8>>>>,
    bytes: usize,
}

impl Pool {
    /// Of buffers of `bytes`.
    pub fn new(bytes: usize) -> Pool {
        Pool {
            kept: Arc::default(),
            bytes,
        }
    }

    /// A buffer of the whole size; what is in it does not matter.
    pub fn take(&self) -> Vec<u8> {
        let kept = self.kept.lock().pop();
        kept.unwrap_or_else(|| vec![0; self.bytes])
    }

    /// The first `length` bytes of a buffer, which comes back to the pool when the last use of them ends. The caller gets
    /// another one.
    pub fn lend(&self, buffer: &mut Vec<u8>, length: usize) -> Bytes {
        let filled = std::mem::replace(buffer, self.take());
        let lent = Lent {
            buffer: filled,
            pool: self.clone(),
        };
        Bytes::from_owner(lent).slice(..length)
    }
}

struct Lent {
    buffer: Vec<u8>,
    pool: Pool,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut kept = self.pool.kept.lock();
        if kept.len() < KEPT_MAX {
            kept.push(std::mem::take(&mut self.buffer));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back_and_few_are_kept() {
        let pool = Pool::new(1 << 16);
        let mut buffer = pool.take();
        buffer[..5].copy_from_slice(b"hello");
        let address = buffer.as_ptr();
        let lent = pool.lend(&mut buffer, 5);
        assert_eq!(&lent[..], b"hello");
        assert_eq!(lent.as_ptr(), address, "not copied");
        assert_ne!(buffer.as_ptr(), address);
        let part = lent.slice(1..3);
        drop(lent);
        assert!(pool.kept.lock().is_empty(), "a part is in use");
        drop(part);
        let again = pool.take();
        assert_eq!(again.as_ptr(), address);

        let many: Vec<_> = (0..10).map(|_| pool.lend(&mut buffer, 1)).collect();
        drop(many);
        assert_eq!(pool.kept.lock().len(), KEPT_MAX);
    }
}
