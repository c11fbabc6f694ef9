//! The walk over the data folder after a start: used bytes, order of eviction, and what crashes left.
//!
//! Nobody waits for it: a file is found by its name. Memory is one shard's names at a time.

use super::layout::Name;
use super::order::Order;
use super::{Entry, Store};
use alluxio_proto::{FsError, FsResult, InodeId};
use std::collections::HashMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use tokio_util::sync::CancellationToken;

/// What one shard has of an inode.
#[derive(Default)]
struct Found {
    sidecar: bool,
    data: Vec<(u64, PathBuf)>,
    bytes: u64,
    used_s: i64,
}

impl Store {
    /// Walks all of it; calls `each` for every file held. Blocks.
    pub fn scan(&self, stop: &CancellationToken, mut each: impl FnMut(&Entry)) {
        let kept_s = match self.is_scanned.load(Ordering::Relaxed) {
            true => 0,
            false => Order::load(&self.space.order, &self.layout),
        };
        let kept_s = i64::try_from(kept_s).unwrap_or(i64::MAX);
        for shard in self.layout.shards() {
            if stop.is_cancelled() {
                return;
            }
            if let Err(error) = self.scan_shard(&shard, kept_s, stop, &mut each) {
                tracing::warn!(%error, shard = %shard.display(), "scan a folder of the store");
            }
        }
        self.is_scanned.store(true, Ordering::Relaxed);
    }

    /// Files that one folder has. Blocks.
    pub fn inodes_in(&self, shard: &Path) -> FsResult<Vec<InodeId>> {
        let io = |error| FsError::from_io(format!("list {}", shard.display()), &error);
        let mut inodes = Vec::new();
        for file in std::fs::read_dir(shard).map_err(io)? {
            let name = file.map_err(io)?.file_name();
            if let Some(Name::Sidecar(inode)) = name.to_str().and_then(Name::parse) {
                inodes.push(inode);
            }
        }
        Ok(inodes)
    }

    /// `kept_s`: when the order of before the start was kept.
    fn scan_shard(
        &self,
        shard: &Path,
        kept_s: i64,
        stop: &CancellationToken,
        each: &mut dyn FnMut(&Entry),
    ) -> io::Result<()> {
        let mut by_inode: HashMap<InodeId, Found> = HashMap::new();
        for file in std::fs::read_dir(shard)? {
            let file = file?;
            match file.file_name().to_str().and_then(Name::parse) {
                Some(Name::Sidecar(inode)) => {
                    let found = by_inode.entry(inode).or_default();
                    found.sidecar = true;
                    found.bytes += file.metadata().map_or(0, |meta| meta.blocks() * 512);
                }
                Some(Name::Data(inode, generation)) => {
                    let found = by_inode.entry(inode).or_default();
                    if let Ok(meta) = file.metadata() {
                        found.bytes += meta.blocks() * 512;
                        found.used_s = found.used_s.max(meta.mtime()).max(meta.atime());
                    }
                    found.data.push((generation, file.path()));
                }
                None => tracing::warn!(file = %file.path().display(), "unknown file in the store left alone"),
            }
        }
        let mut files: Vec<(InodeId, Found)> = by_inode.into_iter().collect();
        files.sort_by_key(|(_, found)| std::cmp::Reverse(found.used_s));
        for (inode, found) in files {
            if stop.is_cancelled() {
                return Ok(());
            }
            let entry = match self.load(inode) {
                Ok(entry) => entry,
                Err(error) => {
                    tracing::warn!(%error, inode = inode.get(), "load a file at the scan");
                    continue;
                }
            };
            self.sort_out(inode, entry.as_deref(), &found);
            if let Some(entry) = entry {
                let is_hot = kept_s > 0 && found.used_s > kept_s;
                if !self.space.has_counted(inode) {
                    self.space.count(inode, found.bytes, !entry.view().pinned(), is_hot);
                }
                if entry.view().pinned() {
                    self.space.pin(inode);
                } else if is_hot {
                    self.space.promote(inode);
                }
                each(&entry);
            }
        }
        Ok(())
    }

    /// Data files that no sidecar names: a crash between making the two, or damage.
    fn sort_out(&self, inode: InodeId, entry: Option<&Entry>, found: &Found) {
        let in_use = entry.map(|entry| entry.view().header.generation);
        for (generation, path) in &found.data {
            if Some(*generation) == in_use
                || self
                    .load(inode)
                    .ok()
                    .flatten()
                    .is_some_and(|e| e.view().header.generation == *generation)
            {
                continue;
            }
            // Made a moment ago by somebody who is about to write the sidecar, or replaced since: look again next time.
            let is_recent = path
                .metadata()
                .ok()
                .and_then(|meta| meta.modified().ok())
                .is_some_and(|at| at >= self.started);
            if is_recent || !path.exists() {
                continue;
            }
            let result = match path.metadata().map(|meta| meta.blocks()) {
                Ok(0) => std::fs::remove_file(path),
                _ => self.layout.put_aside(path).map(|aside| {
                    tracing::warn!(file = %aside.display(), "data file without sidecar put aside");
                }),
            };
            if let Err(error) = result {
                tracing::warn!(%error, file = %path.display(), "remove a data file without sidecar");
            }
        }
    }
}
