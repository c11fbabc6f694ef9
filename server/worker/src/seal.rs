//! Seal, Drop and recovery: how an open version ends.

use crate::core::{Core, on_file, quickly_on_file, stale};
use crate::io::{self, FileStat};
use crate::quick::quick;
use crate::store::{Entry, blocking};
use crate::write::hole_bytes;
use alluxio_proto::master::{CachedFile, RecoverTask, Recovered};
use alluxio_proto::worker::{Drop, OpenStat, Seal};
use alluxio_proto::{CHUNK_BYTES, ErrorKind, FsError, FsResult, InodeId};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Rounds of checksums while others write on; then what was read is what is sealed, and bytes written meanwhile belong
/// to the next version.
const ROUNDS_MAX: usize = 3;

/// Files of this size begin to be synced while they are checksummed; smaller ones are synced once, with their sidecar.
const EARLY_SYNC_BYTES: u64 = 1024 * 1024;

/// Checksums the content until it does not change meanwhile; answers whether what has no checksum is holes. Blocks.
fn checksum_still(entry: &Entry) -> std::io::Result<(FileStat, bool)> {
    let mut stat = io::stat(&entry.data)?;
    let mut holes = false;
    for _ in 0..ROUNDS_MAX {
        holes = entry.checksum_changes(&stat)?;
        let now = io::stat(&entry.data)?;
        if now == stat {
            break;
        }
        stat = now;
    }
    Ok((stat, holes))
}

impl Core {
    /// See [`Seal`]. Asked again after a lost answer, it answers again.
    pub async fn seal(&self, request: Seal) -> FsResult<OpenStat> {
        let found = self.store.find(InodeId(request.inode)).await?;
        let entry = found.ok_or_else(|| stale(request.inode, request.version))?;
        let _turn = entry.turn.lock().await;
        let view = entry.view();
        let header = &view.header;
        if view.dead {
            return Err(stale(request.inode, request.version));
        }
        if request.closed_empty {
            return self.close_empty(&request, &entry).await;
        }
        if !header.open && header.version == request.version {
            return Ok(OpenStat {
                length: header.length,
                mtime_ns: header.mtime_ns,
                changed: false,
                ctime_ns: 0,
                version: 0,
                hole_bytes: 0,
            });
        }
        if let Some(sealed) = header
            .sealed
            .as_ref()
            .filter(|sealed| sealed.version == request.version)
            && header.open
            && header.version > request.version
        {
            // Another writer, or this one with a lost answer, sealed it. What came after is in the next version.
            let (length, mtime_ns) = (sealed.length, sealed.mtime_ns);
            let changed = self.stat_reply(&entry).await?.changed;
            return Ok(OpenStat {
                length,
                mtime_ns,
                changed,
                ctime_ns: 0,
                version: 0,
                hole_bytes: 0,
            });
        }
        if request.release && view.open_as(request.version) && entry.joined.load(Ordering::Relaxed) > 0 {
            // Others write on: what this one wrote is sealed with theirs.
            entry.joined.fetch_sub(1, Ordering::Relaxed);
            let mut stat = self.stat_reply(&entry).await?;
            stat.changed = false;
            return Ok(stat);
        }
        if request.release && !header.open && header.version < request.version {
            // Given back before, and the answer got lost.
            return Ok(self.sealed_stat(&entry));
        }
        if !header.open || header.version != request.version {
            return Err(stale(request.inode, request.version));
        }
        if request.next != 0 && request.next <= request.version {
            let why = format!("version {} cannot follow {}", request.next, request.version);
            return Err(FsError::new(ErrorKind::InvalidArgument, why));
        }
        if request.release && self.give_back(&entry).await? {
            let stat = self.sealed_stat(&entry);
            return Ok(stat);
        }
        let mut stat = self.seal_entry(&entry, request.version, request.next).await?;
        stat.changed = request.release;
        Ok(stat)
    }

    /// See [`Seal::closed_empty`]. The caller has the turn.
    async fn close_empty(&self, request: &Seal, entry: &Arc<Entry>) -> FsResult<OpenStat> {
        let view = entry.view();
        if !view.open_as(request.version) {
            return Err(stale(request.inode, request.version));
        }
        let mut stat = self.stat_reply(entry).await?;
        stat.changed = stat.length > 0 || view.header.sealed.is_some() || view.header.base.is_some();
        if stat.changed {
            return Ok(stat);
        }
        if request.release && entry.joined.load(Ordering::Relaxed) > 0 {
            // Others write on.
            entry.joined.fetch_sub(1, Ordering::Relaxed);
        } else if request.release {
            let (store, entry) = (Arc::clone(&self.store), Arc::clone(entry));
            quick(move || store.remove(&entry)).await?;
        } else if !view.header.closed_empty {
            quickly_on_file(entry, "mark", |entry| entry.mark_closed_empty()).await?;
        }
        Ok(stat)
    }

    /// An open version that nobody changed goes back to the version it was made of; false if it was changed, or is new.
    /// The caller has the turn.
    async fn give_back(&self, entry: &Arc<Entry>) -> FsResult<bool> {
        if self.stat_reply(entry).await?.changed {
            return Ok(false);
        }
        let restored = quickly_on_file(entry, "give back", |entry| entry.restore_sealed()).await?;
        if restored {
            self.store
                .reports
                .set(entry.inode, entry.view().header.version, entry.present_bytes());
        }
        Ok(restored)
    }

    fn sealed_stat(&self, entry: &Entry) -> OpenStat {
        let header = &entry.view().header;
        OpenStat {
            length: header.length,
            mtime_ns: header.mtime_ns,
            changed: false,
            ctime_ns: 0,
            version: 0,
            hole_bytes: 0,
        }
    }

    /// The caller has the turn.
    async fn seal_entry(&self, entry: &Arc<Entry>, version: u64, next: u64) -> FsResult<OpenStat> {
        let sync = self.settings.sync_on_close;
        let boot_id = self.store.layout.boot_id.clone();
        if !entry.view().header.whole {
            on_file(entry, "look at the marks of", |entry| entry.rebase_marks()).await?;
        }
        let size = io::stat(&entry.data)
            .map_err(|error| FsError::from_io(format!("look at the local file of inode {}", entry.inode), &error))?
            .size;
        let large = size >= EARLY_SYNC_BYTES;
        let mut summed = None;
        if sync && large {
            // The disk works while the processor does.
            let syncing = on_file(entry, "sync", |entry| entry.data.sync_data());
            let summing = on_file(entry, "checksum", checksum_still);
            let (synced, sum) = tokio::join!(syncing, summing);
            synced?;
            summed = Some(sum?);
        }
        let seal = move |entry: &Entry| {
            let (stat, holes) = match summed {
                Some(summed) => summed,
                None => checksum_still(entry)?,
            };
            entry.label_sealed(version, next, &stat, holes, &boot_id)?;
            if sync && stat.size > 0 {
                entry.sync(&stat, false)?;
                entry.label_durable()?;
            }
            Ok(stat)
        };
        // Nothing to sync and little to checksum.
        let is_short = size == 0 || (!sync && size <= CHUNK_BYTES);
        let stat = match is_short {
            true => quickly_on_file(entry, "seal", seal).await?,
            false => on_file(entry, "seal", seal).await?,
        };
        self.store.measure(entry);
        if next == 0 {
            self.store.reports.set(entry.inode, version, entry.present_bytes());
        }
        Ok(OpenStat {
            length: stat.size,
            mtime_ns: stat.mtime_ns,
            changed: false,
            ctime_ns: stat.ctime_ns,
            version: 0,
            hole_bytes: hole_bytes(entry, &stat)?,
        })
    }

    /// See [`Drop`]. What may be the only copy of a committed version is dropped by the master's order only
    /// ([`Core::drop_by_order`]).
    pub async fn drop_cached(&self, request: Drop) -> FsResult<()> {
        let Some(entry) = self.store.find(InodeId(request.inode)).await? else {
            return Ok(());
        };
        let _turn = entry.turn.lock().await;
        let view = entry.view();
        if view.dead {
            return Ok(());
        }
        if view.header.open {
            if request.version != 0 && !view.open_as(request.version) {
                return Ok(());
            }
            if !request.open {
                return Err(busy(&entry, "it is open for writing"));
            }
            return self.abandon(&entry).await;
        }
        if request.version != 0 && request.version != view.header.version {
            return Ok(());
        }
        if view.pinned() {
            return Err(busy(&entry, "it is not in the under-storage yet"));
        }
        let (store, entry) = (Arc::clone(&self.store), Arc::clone(&entry));
        blocking(move || store.remove(&entry)).await
    }

    /// An open version ends without a commit. The caller has the turn.
    async fn abandon(&self, entry: &Arc<Entry>) -> FsResult<()> {
        let changed = self.stat_reply(entry).await?.changed;
        let sealed = entry.view().header.sealed;
        let store = Arc::clone(&self.store);
        let entry = Arc::clone(entry);
        blocking(move || {
            let io = |error| FsError::from_io(format!("restore the local file of inode {}", entry.inode), &error);
            if !changed && entry.restore_sealed().map_err(io)? {
                let version = entry.view().header.version;
                store.reports.set(entry.inode, version, entry.present_bytes());
                return Ok(());
            }
            match sealed {
                // The version before it was overwritten in place and is nowhere else.
                Some(sealed) if sealed.ufs.is_none() && sealed.length > 0 => {
                    store.put_aside(&entry, "an abandoned change of a version that is in no under-storage")
                }
                _ => store.remove(&entry),
            }
        })
        .await
    }

    /// The master says that a version is not needed any more.
    pub async fn drop_by_order(&self, order: &CachedFile) -> FsResult<()> {
        let Some(entry) = self.store.find(InodeId(order.inode)).await? else {
            return Ok(());
        };
        let _turn = entry.turn.lock().await;
        let view = entry.view();
        let meant = order.version == 0 || order.version == view.header.version || view.open_as(order.version);
        if view.dead || !meant {
            return Ok(());
        }
        let (store, entry) = (Arc::clone(&self.store), Arc::clone(&entry));
        blocking(move || store.remove(&entry)).await
    }

    /// The writers of an open version are gone: see [`RecoverTask`].
    pub async fn recover(&self, task: &RecoverTask) -> FsResult<Recovered> {
        let mut recovered = Recovered {
            inode: task.inode,
            version: task.version,
            ..Recovered::default()
        };
        // A mark does not survive what the page cache does not survive.
        recovered.closed_empty = task.fresh && task.boot != 0 && task.boot != self.store.layout.boot_number();
        let Some(entry) = self.store.find(InodeId(task.inode)).await? else {
            return Ok(recovered);
        };
        let _turn = entry.turn.lock().await;
        let view = entry.view();
        let header = &view.header;
        if view.dead {
            return Ok(recovered);
        }
        if !header.open && header.version == task.version && !task.fresh {
            recovered.found = true;
            recovered.length = header.length;
            recovered.mtime_ns = header.mtime_ns;
            return Ok(recovered);
        }
        if !view.open_as(task.version) {
            if !header.open {
                recovered.kept_version = header.version;
            }
            return Ok(recovered);
        }
        if task.fresh {
            recovered.closed_empty |= header.closed_empty;
            self.abandon(&entry).await?;
            return Ok(recovered);
        }
        // Whoever had joined is gone with the others.
        entry.joined.store(0, Ordering::Relaxed);
        let in_place = header.sealed.is_some();
        let size = self.open_stat(&entry, task.version)?.size;
        if size < task.keep_bytes {
            tracing::error!(
                inode = task.inode,
                kept = size,
                promised = task.keep_bytes,
                "an open version lost bytes that were synced"
            );
        } else if !in_place && size > task.keep_bytes {
            let keep = task.keep_bytes;
            on_file(&entry, "cut", move |entry| entry.set_length_local(keep)).await?;
        }
        let stat = self.seal_entry(&entry, task.version, 0).await?;
        recovered.found = true;
        recovered.length = stat.length;
        recovered.mtime_ns = stat.mtime_ns;
        Ok(recovered)
    }
}

fn busy(entry: &Entry, why: &str) -> FsError {
    FsError::new(ErrorKind::Busy, format!("inode {} is not dropped: {why}", entry.inode))
}
