//! What a new object has in common with one that the store holds already.

use std::ops::Range;

use bytes::Bytes;

use crate::{UfsError, UfsErrorKind, UfsResult, path};

/// An object of the same store whose bytes a new object has at the same offsets, but for what changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseObject {
    /// Where it is; this may be where the new object goes.
    pub path: Bytes,
    /// Which version of it; bytes of another one are never taken.
    pub fingerprint: String,
    /// Its length in bytes.
    pub length: u64,
    /// Ranges that are the same in both: not empty, in order, apart from each other, within both.
    pub clean: Vec<Range<u64>>,
}

impl BaseObject {
    /// Refuses ranges that make no sense for a new object of `length` bytes.
    pub(crate) fn check(&self, length: u64) -> UfsResult<()> {
        let mut end = 0;
        for range in &self.clean {
            if range.start < end || range.end <= range.start || range.end > self.length.min(length) {
                let why = format!(
                    "write over {}: clean range {range:?} of a base of {} bytes for {length} bytes",
                    path::show(&self.path),
                    self.length
                );
                return Err(UfsError::new(UfsErrorKind::Invalid, why));
            }
            end = range.end;
        }
        if self.fingerprint.is_empty() {
            let why = format!("write over {}: which version of it?", path::show(&self.path));
            return Err(UfsError::new(UfsErrorKind::Invalid, why));
        }
        Ok(())
    }

    /// What of `length` bytes is not clean, in order.
    pub(crate) fn dirty(&self, length: u64) -> Vec<Range<u64>> {
        let mut dirty = Vec::with_capacity(self.clean.len() + 1);
        let mut at = 0;
        for range in &self.clean {
            if at < range.start {
                dirty.push(at..range.start);
            }
            at = range.end;
        }
        if at < length {
            dirty.push(at..length);
        }
        dirty
    }

    /// The base is not what it was.
    pub(crate) fn changed(&self, why: &str) -> UfsError {
        let message = format!("copy from {}: {why}", path::show(&self.path));
        UfsError::new(UfsErrorKind::BaseChanged, message)
    }
}
