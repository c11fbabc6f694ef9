//! What the master is told of files held: the latest of each, coalesced.

use alluxio_common::sync::Mutex;
use alluxio_proto::InodeId;
use alluxio_proto::master::CachedFile;
use std::collections::BTreeMap;

/// Files in one report.
pub(crate) const REPORT_FILES_MAX: usize = 4096;
/// Waiting files at which the scan pauses. Changes themselves are not bounded by it, but by the files held.
const WAITING_MAX: usize = 4 * REPORT_FILES_MAX;

/// What is to be told.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    waiting: Mutex<BTreeMap<InodeId, (u64, u64)>>,
}

impl Reports {
    /// So many bytes of that version are held now; 0: nothing.
    pub fn set(&self, inode: InodeId, version: u64, bytes: u64) {
        self.waiting.lock().insert(inode, (version, bytes));
    }
    /// The next report.
    pub fn take(&self) -> Vec<CachedFile> {
        let mut waiting = self.waiting.lock();
        let mut out = Vec::with_capacity(waiting.len().min(REPORT_FILES_MAX));
        while out.len() < REPORT_FILES_MAX {
            let Some((inode, (version, bytes))) = waiting.pop_first() else {
                break;
            };
            out.push(CachedFile {
                inode: inode.get(),
                version,
                bytes,
            });
        }
        out
    }
    /// A report did not arrive: what has not changed since is told again.
    pub fn put_back(&self, report: Vec<CachedFile>) {
        let mut waiting = self.waiting.lock();
        for file in report {
            waiting.entry(InodeId(file.inode)).or_insert((file.version, file.bytes));
        }
    }
    /// Nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.lock().is_empty()
    }
    /// Too many wait for a scan to add more.
    pub fn is_full(&self) -> bool {
        self.waiting.lock().len() >= WAITING_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_of_each_counts() {
        let reports = Reports::default();
        reports.set(InodeId(1), 1, 10);
        reports.set(InodeId(2), 1, 10);
        reports.set(InodeId(1), 2, 20);
        let report = reports.take();
        assert_eq!(report.len(), 2);
        assert_eq!((report[0].version, report[0].bytes), (2, 20));
        reports.set(InodeId(1), 2, 0);
        reports.put_back(report);
        let again = reports.take();
        assert_eq!((again[0].bytes, again[1].bytes), (0, 10));
        assert!(reports.is_empty());
    }
}
