//! Chunks that are not what their checksum says and that nothing else has: kept as they are, and shown to a person.
//!
//! Bounded, and kept over a restart: a damage that was found once is shown until its bytes are overwritten or gone.

use super::{Entry, Layout};
use alluxio_common::crashsafe;
use alluxio_common::sync::Mutex;
use alluxio_proto::master::DamagedRange;
use alluxio_proto::{CHUNK_BYTES, InodeId};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

/// Chunks remembered; what is beyond is found again when it is read.
const CHUNKS_MAX: usize = 65_536;
/// Ranges told to the master.
const RANGES_MAX: usize = 256;

/// Damaged chunks without another copy.
pub(crate) struct Damages {
    path: PathBuf,
    found: Mutex<BTreeMap<(InodeId, u64), Found>>,
    is_changed: AtomicBool,
}

#[derive(Clone, Copy)]
struct Found {
    version: u64,
    /// Where the version ends, if that is in this chunk.
    end: u64,
}

impl Damages {
    /// With what an earlier process found.
    pub fn load(layout: &Layout) -> Self {
        let path = layout.root().join("damaged");
        // A hint: what cannot be read is found again.
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let line = |line: &str| {
            let mut numbers = line.split(' ').map(|number| number.parse::<u64>().ok());
            let mut next = || numbers.next().flatten();
            let (inode, version, chunk, end) = (next()?, next()?, next()?, next()?);
            Some(((InodeId(inode), chunk), Found { version, end }))
        };
        Self {
            path,
            found: Mutex::new(text.lines().filter_map(line).take(CHUNKS_MAX).collect()),
            is_changed: AtomicBool::new(false),
        }
    }

    /// A chunk of `entry` is damaged and has no other copy. False: that was known.
    pub fn note(&self, entry: &Entry, chunk: u64) -> bool {
        let version = entry.view().header.version;
        let length = entry.length().unwrap_or(u64::MAX);
        let mut found = self.found.lock();
        if found.len() >= CHUNKS_MAX {
            return true;
        }
        let end = length.min((chunk + 1) * CHUNK_BYTES);
        let is_new = found.insert((entry.inode, chunk), Found { version, end }).is_none();
        self.is_changed.fetch_or(is_new, Ordering::Relaxed);
        is_new
    }

    /// Nothing is held of `inode` any more.
    pub fn forget(&self, inode: InodeId) {
        self.retain(inode, |_| false);
    }

    /// Keeps those of `inode` that still are what they were.
    pub fn retain(&self, inode: InodeId, mut is_damaged: impl FnMut(u64) -> bool) {
        let mut found = self.found.lock();
        if found.is_empty() {
            return;
        }
        let before = found.len();
        found.retain(|(of, chunk), _| *of != inode || is_damaged(*chunk));
        self.is_changed.fetch_or(found.len() != before, Ordering::Relaxed);
    }

    /// Files that have some.
    pub fn inodes(&self) -> Vec<InodeId> {
        let found = self.found.lock();
        let mut inodes: Vec<InodeId> = found.keys().map(|(inode, _)| *inode).collect();
        inodes.dedup();
        inodes
    }

    /// For the master: neighbouring chunks as one range.
    pub fn ranges(&self) -> Vec<DamagedRange> {
        let mut ranges: Vec<DamagedRange> = Vec::new();
        for ((inode, chunk), found) in self.found.lock().iter() {
            let offset = chunk * CHUNK_BYTES;
            let is_full = ranges.len() >= RANGES_MAX;
            match ranges.last_mut() {
                Some(last) if last.inode == inode.get() && last.offset + last.length == offset => {
                    last.length = found.end - last.offset;
                }
                _ if is_full => break,
                _ => ranges.push(DamagedRange {
                    inode: inode.get(),
                    version: found.version,
                    offset,
                    length: found.end.saturating_sub(offset),
                    path: Vec::new().into(),
                }),
            }
        }
        ranges
    }

    /// Writes down what changed. Blocks.
    pub fn save(&self) {
        if !self.is_changed.swap(false, Ordering::Relaxed) {
            return;
        }
        let lines: String = {
            let found = self.found.lock();
            let line = |((inode, chunk), found): (&(InodeId, u64), &Found)| {
                format!("{} {} {chunk} {}\n", inode.get(), found.version, found.end)
            };
            found.iter().map(line).collect()
        };
        if let Err(error) = crashsafe::write_atomic(&self.path, lines.as_bytes()) {
            self.is_changed.store(true, Ordering::Relaxed);
            tracing::info!(%error, "write down which chunks are damaged");
        }
    }
}
