//! Drop and recovery: how an open version ends without its writers, and a cached one at all.

use crate::core::{Core, on_file};
use crate::io;
use crate::store::{Entry, blocking};
use alluxio_proto::master::{CachedFile, RecoverTask, Recovered};
use alluxio_proto::worker::Drop;
use alluxio_proto::{ErrorKind, FsError, FsResult, InodeId};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What the extended attributes of a file take of the disk, at most.
const NOTE_BYTES_MAX: u64 = 4096;

impl Core {
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
        self.forget_passed(entry);
        let store = Arc::clone(&self.store);
        let entry = Arc::clone(entry);
        blocking(move || {
            let io = |error| FsError::from_io(format!("restore the local file of inode {}", entry.inode), &error);
            if !changed && entry.restore_sealed().map_err(io)? {
                let version = entry.view().header.version;
                store.space.unpin(entry.inode);
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
        // What was committed lies under an open version that nobody changed: a later order is about that. Of what was open when
        // the power was cut nobody knows whether it was changed.
        let is_known = !entry.is_forsaken.load(Ordering::Relaxed);
        if view.header.open && order.version != 0 && is_known && self.give_back(&entry).await? {
            return Ok(());
        }
        let (store, entry) = (Arc::clone(&self.store), Arc::clone(&entry));
        blocking(move || store.remove(&entry)).await
    }

    /// The writers of an open version are gone: see [`RecoverTask`]. `again`: it was asked before, and found mapped.
    pub async fn recover(&self, task: &RecoverTask, again: bool) -> FsResult<Recovery> {
        let mut recovered = Recovered {
            inode: task.inode,
            version: task.version,
            ..Recovered::default()
        };
        // A mark does not survive what the page cache does not survive.
        let is_other_boot = task.boot != 0 && task.boot != self.store.layout.boot_number();
        recovered.closed_empty = task.never_committed && is_other_boot;
        let Some(entry) = self.store.find(InodeId(task.inode)).await? else {
            return Ok(Recovery::Done(recovered));
        };
        let _turn = entry.turn.lock().await;
        let crossed_boot = entry.crossed_boot.load(Ordering::Relaxed);
        if crossed_boot && !task.never_committed {
            let version = task.version;
            on_file(&entry, "look again at", move |entry| entry.distrust_open(version)).await?;
        }
        let view = entry.view();
        let header = &view.header;
        if view.dead {
            return Ok(Recovery::Done(recovered));
        }
        if crossed_boot && task.never_committed && !header.open && header.version == task.version {
            // Its close was under way. What did not reach the disk whole must not be taken for an empty file's content.
            let is_whole = on_file(&entry, "look again at", |entry| entry.is_as_sealed()).await?;
            if !is_whole {
                let (store, entry) = (Arc::clone(&self.store), Arc::clone(&entry));
                blocking(move || store.remove(&entry)).await?;
                return Ok(Recovery::Done(recovered));
            }
        }
        if !header.open && header.version == task.version {
            self.settle_doubt(&entry).await?;
            forgive_failed_sync(&entry).await?;
            recovered.found = true;
            recovered.length = header.length;
            recovered.mtime_ns = header.mtime_ns;
            return Ok(Recovery::Done(recovered));
        }
        if !view.open_as(task.version) {
            self.settle_doubt(&entry).await?;
            if !header.open && header.version > task.version && view.pinned() {
                // Its writers sealed it again and again, and were not heard: the master has committed none of that.
                (recovered.found, recovered.as_version) = (true, header.version);
                (recovered.length, recovered.mtime_ns) = (header.length, header.mtime_ns);
            } else if !header.open {
                recovered.kept_version = header.version;
            }
            return Ok(Recovery::Done(recovered));
        }
        if again && !entry.unattended.load(Ordering::Relaxed) {
            return Ok(Recovery::Overtaken);
        }
        // Whoever had joined is gone with the others.
        entry.note_no_writers();
        entry.unattended.store(true, Ordering::Relaxed);
        if self.is_mapped(&entry).await? {
            self.settle_doubt(&entry).await?;
            return self.recover_mapped(&entry, task, recovered).await;
        }
        if task.never_committed && !self.was_written(&entry)? {
            recovered.closed_empty |= header.closed_empty;
            self.settle_doubt(&entry).await?;
            self.abandon(&entry).await?;
            return Ok(Recovery::Done(recovered));
        }
        if self.is_given_back(&entry, task, is_other_boot).await? {
            recovered.kept_version = entry.view().header.version;
            return Ok(Recovery::Done(recovered));
        }
        let size = self.open_stat(&entry, task.version)?.size;
        if size < task.keep_bytes {
            tracing::error!(
                inode = task.inode,
                kept = size,
                promised = task.keep_bytes,
                "an open version lost bytes that were synced"
            );
        }
        if crossed_boot {
            on_file(&entry, "clear what lies behind the end of", |entry| entry.clear_tail()).await?;
        }
        forgive_failed_sync(&entry).await?;
        // The seal settles the doubt in the header. Until then who is asked again looks again, also after a crash in between.
        let stat = self.seal_entry(&entry, task.version, 0).await?;
        entry.crossed_boot.store(false, Ordering::Relaxed);
        entry.is_forsaken.store(false, Ordering::Relaxed);
        recovered.found = true;
        recovered.length = stat.length;
        recovered.mtime_ns = stat.mtime_ns;
        Ok(Recovery::Done(recovered))
    }

    /// What nobody changed is given back, as by a last close: as a version of its own it would be uploaded for nothing, or be left with
    /// holes by who replaces its object meanwhile. The caller has the turn; nobody can write the file.
    async fn is_given_back(&self, entry: &Arc<Entry>, task: &RecoverTask, is_other_boot: bool) -> FsResult<bool> {
        let flags = [&entry.crossed_boot, &entry.is_forsaken];
        let is_known = !is_other_boot && flags.iter().all(|flag| !flag.load(Ordering::Relaxed));
        // What was sealed as the version that is asked about the master has not heard of.
        let sealed = entry.view().header.sealed;
        let is_committed = !task.never_committed && sealed.is_some_and(|sealed| sealed.version < task.version);
        if !is_known || !is_committed || entry.check_synced().is_err() {
            return Ok(false);
        }
        self.give_back(entry).await
    }

    /// What was written in another boot was looked at.
    async fn settle_doubt(&self, entry: &Arc<Entry>) -> FsResult<()> {
        entry.crossed_boot.store(false, Ordering::Relaxed);
        entry.is_forsaken.store(false, Ordering::Relaxed);
        match entry.view().header.doubtful {
            true => on_file(entry, "look again at", |entry| entry.settle_doubt()).await,
            false => Ok(()),
        }
    }

    /// As [`Self::recover`], of what programs have still mapped for writing: it is committed when it changes, and stays open.
    /// The caller has the turn.
    async fn recover_mapped(
        &self,
        entry: &Arc<Entry>,
        task: &RecoverTask,
        mut recovered: Recovered,
    ) -> FsResult<Recovery> {
        let sealed = entry.view().header.sealed;
        recovered.mapped = true;
        recovered.found = true;
        if let Some(sealed) = sealed.filter(|sealed| sealed.version == task.version) {
            // The master has not heard of it.
            entry.note_mapped();
            (recovered.length, recovered.mtime_ns) = (sealed.length, sealed.mtime_ns);
            return Ok(Recovery::Done(recovered));
        }
        if !self.look_at_mapped(entry).await?.changed && task.mapped {
            return Ok(Recovery::StillMapped);
        }
        let stat = self.seal_entry(entry, task.version, task.version + 1).await?;
        (recovered.length, recovered.mtime_ns) = (stat.length, stat.mtime_ns);
        Ok(Recovery::Done(recovered))
    }

    /// Whether anything was ever written to a new file, as far as the file system tells. A file that was written and emptied
    /// again has another mtime than when it was made.
    fn was_written(&self, entry: &Entry) -> FsResult<bool> {
        let io = |error| FsError::from_io(format!("look at the local file of inode {}", entry.inode), &error);
        let stat = io::stat(&entry.data).map_err(io)?;
        let made_ns = io::made_ns(&entry.data).map_err(io)?;
        // A block may be the note's that it was opened (`store::opening`), where an inode has no room for it.
        let is_allocated = stat.disk_bytes > NOTE_BYTES_MAX;
        Ok(stat.size > 0 || is_allocated || made_ns.is_some_and(|made_ns| made_ns != stat.mtime_ns))
    }
}

/// What became of an open version whose writers are gone.
#[derive(Debug)]
pub(crate) enum Recovery {
    /// The master is to be told.
    Done(Recovered),
    /// It is mapped for writing and did not change: to be asked again.
    StillMapped,
    /// Somebody writes it again.
    Overtaken,
}

/// Its writers have been told, and nothing better is anywhere.
async fn forgive_failed_sync(entry: &Arc<Entry>) -> FsResult<()> {
    if entry.check_synced().is_ok() {
        return Ok(());
    }
    tracing::warn!(
        inode = entry.inode.get(),
        "a file of which a sync failed is recovered as it is here"
    );
    on_file(entry, "forget the failed sync of", |entry| entry.forget_failed_sync()).await
}

fn busy(entry: &Entry, why: &str) -> FsError {
    FsError::new(ErrorKind::Busy, format!("inode {} is not dropped: {why}", entry.inode))
}

#[cfg(test)]
#[path = "recover_test.rs"]
mod tests;
