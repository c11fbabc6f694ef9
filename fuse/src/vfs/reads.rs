//! Openings for reading, as the master knows them.
//!
//! Each has a name, and is noted here before the master is asked: so a session that resumes names also those that are on
//! their way, and one that the master is asked for twice is one opening. Nothing is left open there, and nothing that is
//! open here is forgotten there.

use super::Vfs;
use alluxio_common::sync::Mutex;
use alluxio_proto::FsResult;
use alluxio_proto::master::{Close, Empty, OpenForReading};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// Inode of each opening, by its name.
#[derive(Default)]
pub(super) struct Reads {
    inodes: Mutex<HashMap<u64, u64>>,
    last: AtomicU64,
}

impl Reads {
    /// An opening that is about to be asked for.
    pub fn begin(&self, inode: u64) -> u64 {
        let open_id = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        self.inodes.lock().insert(open_id, inode);
        open_id
    }

    /// Openings that there are or may be.
    pub fn all(&self) -> Vec<OpenForReading> {
        let inodes = self.inodes.lock();
        let each = inodes.iter();
        each.map(|(open_id, inode)| OpenForReading {
            inode: *inode,
            open_id: *open_id,
        })
        .collect()
    }

    fn end(&self, open_id: u64) {
        self.inodes.lock().remove(&open_id);
    }
}

impl Vfs {
    /// Tells the master of the end of an opening. Failing is not the closer's concern: who resumes does not name it, and the
    /// session's end closes everything.
    pub(super) async fn close_at_master(&self, inode: u64, open_id: u64) {
        self.reads.end(open_id);
        let close = Close {
            inode,
            open_id,
            ..Default::default()
        };
        let result: FsResult<Empty> = self.master.once(&self.own_caller(), close).await;
        if let Err(error) = result {
            tracing::info!(%error, inode, "close at the master; it will be closed with the session");
        }
    }

    /// An opening that the master has refused, or may have made all the same.
    pub(super) async fn open_failed(&self, inode: u64, open_id: u64, error: &alluxio_proto::FsError) {
        match error.is_retryable() {
            true => self.close_at_master(inode, open_id).await,
            false => self.reads.end(open_id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_its_way_is_named() {
        let reads = Reads::default();
        let (one, other) = (reads.begin(7), reads.begin(7));
        assert_ne!(one, other);
        assert_eq!(reads.all().len(), 2);
        reads.end(one);
        let left = reads.all();
        assert_eq!((left.len(), left[0].inode, left[0].open_id), (1, 7, other));
    }
}
