//! Seal: how an open version becomes a committed one.

use crate::core::{Core, on_file, quickly_on_file, refuse_of_another_boot, stale};
use crate::flights::Purpose;
use crate::io::{self, FileStat};
use crate::quick::quick;
use crate::store::{Entry, View, blocking};
use crate::write::hole_bytes;
use alluxio_proto::worker::{OpenStat, Seal};
use alluxio_proto::{CHUNK_BYTES, ErrorKind, FsError, FsResult, InodeId};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Rounds of checksums while others write on; then what was read is what is sealed, and bytes written meanwhile belong
/// to the next version.
const ROUNDS_MAX: usize = 3;

/// Rounds of bringing what lies under bytes that nobody announced, while more of them come.
const MERGE_ROUNDS_MAX: usize = 16;

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

/// As [`checksum_still`], of what may be mapped; answers also whether every store from now on will move mtime and ctime.
/// Blocks.
fn checksum_mapped(entry: &Entry) -> std::io::Result<(FileStat, bool, bool)> {
    let mut stat = io::stat(&entry.data)?;
    let mut holes = false;
    for _ in 0..ROUNDS_MAX {
        // Pages that were dirty at `stat` are clean after this, and write-protected in all mappings: a store since then
        // has moved the times that are looked at last.
        entry.sync_data(false)?;
        holes = entry.checksum_changes(&stat)?;
        let now = io::stat(&entry.data)?;
        if now == stat {
            return Ok((stat, holes, true));
        }
        stat = now;
    }
    Ok((stat, holes, false))
}

impl Core {
    /// See [`Seal`]. Asked again after a lost answer, it answers again.
    pub async fn seal(&self, request: Seal) -> FsResult<OpenStat> {
        let found = self.store.find(InodeId(request.inode)).await?;
        let entry = found.ok_or_else(|| stale(request.inode, request.version))?;
        if !request.release && request.next != 0 {
            self.let_spill_end(&entry).await;
        }
        let _turn = entry.turn.lock().await;
        if request.may_be_mapped {
            entry.note_mappings();
        }
        let view = entry.view();
        if view.dead {
            return Err(stale(request.inode, request.version));
        }
        if view.header.open {
            refuse_of_another_boot(&entry)?;
        }
        // Also if it is sealed by now: what is not on disk is not committed because somebody asks again.
        let io = |error| FsError::from_io(format!("seal inode {}", entry.inode), &error);
        entry.check_synced().map_err(io)?;
        if request.closed_empty {
            return self.close_empty(&entry, request.version, request.release).await;
        }
        if let Some(stat) = self.sealed_before(&entry, &view, &request).await? {
            return Ok(stat);
        }
        if request.release && view.open_as(request.version) {
            return self.release(&entry, request.next).await;
        }
        if !view.header.open || view.header.version != request.version {
            return Err(stale(request.inode, request.version));
        }
        check_follows(request.version, request.next)?;
        match request.next {
            0 => self.seal_for_good(&entry, request.version).await,
            next => self.commit_and_stay_open(&entry, request.version, next).await,
        }
    }

    /// The answer to who asks for the second time, or after another writer. The caller has the turn.
    async fn sealed_before(&self, entry: &Arc<Entry>, view: &View, request: &Seal) -> FsResult<Option<OpenStat>> {
        let header = &view.header;
        if !header.open {
            let mut stat = sealed_stat(entry);
            if request.release && header.version >= request.version {
                // It was sealed as what it was by then, and the answer got lost.
                (stat.changed, stat.version) = (true, header.version);
                return Ok(Some(stat));
            }
            // Asked to let go again: it was given back.
            return Ok((request.release || header.version == request.version).then_some(stat));
        }
        if request.release {
            // Whatever was sealed meanwhile, who asked lets go of what is open.
            return Ok(None);
        }
        let sealed = header.sealed.as_ref();
        let Some(sealed) = sealed.filter(|sealed| sealed.version == request.version && header.version > sealed.version)
        else {
            return Ok(None);
        };
        // What came after is in the next version.
        let (length, mtime_ns) = (sealed.length, sealed.mtime_ns);
        let changed = self.stat_reply(entry).await?.changed;
        Ok(Some(OpenStat {
            length,
            mtime_ns,
            changed,
            ..OpenStat::default()
        }))
    }

    /// One of several writers lets go: what it wrote is sealed with what the others write. The caller has the turn.
    async fn let_go(&self, entry: &Arc<Entry>) -> FsResult<OpenStat> {
        entry.note_writer_gone();
        let mut stat = self.stat_reply(entry).await?;
        (stat.changed, stat.others_write) = (false, true);
        Ok(stat)
    }

    /// A writer lets go. What the last one did not change is given back as it was, and what it did is sealed, unless a mapping
    /// can still change it: as what it is by now, which others and the spiller may have moved on. The caller has the turn.
    async fn release(&self, entry: &Arc<Entry>, next: u64) -> FsResult<OpenStat> {
        if entry.has_other_writers() {
            return self.let_go(entry).await;
        }
        if self.is_mapped(entry).await? {
            return self.look_at_mapped(entry).await;
        }
        // What comes of it is of the version after that, for the master too.
        self.settle_spill(entry).await?;
        if self.give_back(entry).await? {
            return Ok(sealed_stat(entry));
        }
        let version = entry.view().header.version;
        check_follows(version, next)?;
        let mut stat = self.seal_with_room(entry, version, next).await?;
        (stat.changed, stat.version) = (true, version);
        Ok(stat)
    }

    /// The open version is committed, and open no more. The caller has the turn.
    async fn seal_for_good(&self, entry: &Arc<Entry>, version: u64) -> FsResult<OpenStat> {
        self.seal_with_room(entry, version, 0).await
    }

    /// The open version is committed, and goes on as `next`. The caller has the turn.
    async fn commit_and_stay_open(&self, entry: &Arc<Entry>, version: u64, next: u64) -> FsResult<OpenStat> {
        self.seal_with_room(entry, version, next).await
    }

    /// As [`Self::commit_and_stay_open`], for the home's own sake. The caller has the turn.
    pub(crate) async fn seal_to_spill(&self, entry: &Arc<Entry>, version: u64) -> FsResult<OpenStat> {
        self.commit_and_stay_open(entry, version, version + 1).await
    }

    /// Seals, and makes room for what that takes.
    async fn seal_with_room(&self, entry: &Arc<Entry>, version: u64, next: u64) -> FsResult<OpenStat> {
        if entry.surplus.load(Ordering::Relaxed) {
            on_file(entry, "give back what was allocated for nothing in", |entry| {
                entry.trim()
            })
            .await?;
        }
        match self.seal_entry(entry, version, next).await {
            Err(error) if error.kind == ErrorKind::NoSpace => {
                // Its data are here; it must not be lost for want of room for its checksums.
                let (store, target) = (Arc::clone(&self.store), Arc::clone(entry));
                let io = |error| FsError::from_io("give back what was allocated for nothing", &error);
                blocking(move || {
                    store.make_last_room();
                    target.trim().map_err(io)
                })
                .await?;
                match entry.view().open_as(version) {
                    true => self.seal_entry(entry, version, next).await,
                    // It is labelled as sealed, and what failed is a sync: there is no second one.
                    false => Err(error),
                }
            }
            other => other,
        }
    }

    /// See [`Seal::closed_empty`]. The caller has the turn.
    async fn close_empty(&self, entry: &Arc<Entry>, version: u64, release: bool) -> FsResult<OpenStat> {
        let view = entry.view();
        if !view.open_as(version) {
            return Err(stale(entry.inode.get(), version));
        }
        let mut stat = self.stat_reply(entry).await?;
        stat.changed = stat.length > 0 || view.header.sealed.is_some() || view.header.base.is_some();
        if stat.changed {
            return Ok(stat);
        }
        if release && entry.has_other_writers() {
            // Others write it still.
            entry.note_writer_gone();
        } else if release {
            let (store, entry) = (Arc::clone(&self.store), Arc::clone(entry));
            quick(move || store.remove(&entry)).await?;
        } else if !view.header.closed_empty {
            quickly_on_file(entry, "mark", |entry| entry.mark_closed_empty()).await?;
        }
        Ok(stat)
    }

    /// An open version that nobody changed goes back to the version it was made of; false if it was changed, or is new.
    /// The caller has the turn.
    pub(crate) async fn give_back(&self, entry: &Arc<Entry>) -> FsResult<bool> {
        if self.stat_reply(entry).await?.changed || self.differs(entry).await? {
            return Ok(false);
        }
        let restored = quickly_on_file(entry, "give back", |entry| entry.restore_sealed()).await?;
        if restored {
            self.forget_passed(entry);
            self.store.space.unpin(entry.inode);
            self.store
                .reports
                .set(entry.inode, entry.view().header.version, entry.present_bytes());
        }
        Ok(restored)
    }

    /// Whether somebody can still write the local file of an open version, now that nobody has it open: through a mapping.
    /// The caller has the turn.
    pub(crate) async fn is_mapped(&self, entry: &Arc<Entry>) -> FsResult<bool> {
        if !entry.writable_fd_out() {
            return Ok(false);
        }
        quickly_on_file(entry, "ask who writes", |entry| entry.is_written_elsewhere()).await
    }

    /// Looks for changes of an open version that only mappings write. When it finds none, the next store will be noticed.
    /// The caller has the turn.
    pub(crate) async fn look_at_mapped(&self, entry: &Arc<Entry>) -> FsResult<OpenStat> {
        entry.note_mapped();
        let mut stat = self.stat_reply(entry).await?;
        if !stat.changed && !entry.mapping().times_prove() {
            let notices = self.store.layout.notices_mapped_stores;
            let look = move |entry: &Entry| {
                let before = io::stat(&entry.data)?;
                entry.sync_data(false)?;
                if entry.differs_from_marks()? {
                    return Ok(true);
                }
                let is_still = before == io::stat(&entry.data)?;
                entry.note_watched(is_still && notices);
                Ok(!is_still)
            };
            stat.changed = on_file(entry, "look for changes of", look).await?;
        }
        stat.mapped = true;
        Ok(stat)
    }

    /// Whether an open version that has the times of what was sealed is something else all the same, because it was mapped.
    async fn differs(&self, entry: &Arc<Entry>) -> FsResult<bool> {
        if entry.mapping().times_prove() || entry.view().header.sealed.is_none() {
            return Ok(false);
        }
        match io::stat(&entry.data) {
            Ok(stat) if stat.size <= EARLY_SYNC_BYTES => {
                quickly_on_file(entry, "look for changes of", |entry| entry.differs_from_marks()).await
            }
            _ => on_file(entry, "look for changes of", |entry| entry.differs_from_marks()).await,
        }
    }

    /// What was written past us where nothing is here, unannounced, is held against what is fetched for it. The caller has the turn.
    async fn merge_unannounced(&self, entry: &Arc<Entry>) -> FsResult<()> {
        let chunks = on_file(entry, "look for what nobody announced in", |entry| entry.unannounced()).await?;
        for chunk in chunks {
            let brought = self.filler.ensure(entry, chunk..chunk + 1, Purpose::Write).await;
            let Err(failed) = brought else { continue };
            let error = failed.into_error();
            let is_gone = matches!(error.kind, ErrorKind::DataLost | ErrorKind::VersionMismatch);
            // Who writes it still is told, and tries again.
            if is_gone && entry.unattended.load(Ordering::Relaxed) {
                tracing::warn!(%error, inode = entry.inode.get(), "what a file was made of is gone; sealing what is here");
                return self.damage_unannounced(entry).await;
            }
            return Err(error.context("fetch what was written past the worker in part"));
        }
        Ok(())
    }

    /// Nobody will ever know which bytes of what was written unannounced are the writer's: a state that a person sees, instead of a
    /// file that nobody can open. The caller has the turn.
    async fn damage_unannounced(&self, entry: &Arc<Entry>) -> FsResult<()> {
        let damaged = on_file(entry, "mark what is damaged in", |entry| entry.damage_unannounced()).await?;
        for chunk in damaged {
            self.store.damages.note(entry, chunk);
        }
        Ok(())
    }

    /// The caller has the turn.
    ///
    /// # Errors
    /// `Busy`: somebody writes past us, unannounced, as fast as what lies under it is brought.
    pub(crate) async fn seal_entry(&self, entry: &Arc<Entry>, version: u64, next: u64) -> FsResult<OpenStat> {
        let mut rounds = 1..MERGE_ROUNDS_MAX;
        loop {
            match self.seal_once(entry, version, next).await {
                // It came after the base of all others was brought.
                Err(error) if error.kind == ErrorKind::Busy && rounds.next().is_some() => {
                    tracing::debug!(%error, "bring what lies under unannounced writes once more");
                }
                other => return other,
            }
        }
    }

    async fn seal_once(&self, entry: &Arc<Entry>, version: u64, next: u64) -> FsResult<OpenStat> {
        let sync = self.settings.sync_on_close;
        let boot_id = self.store.layout.boot_id.clone();
        let header = entry.view().header;
        if !header.whole {
            on_file(entry, "look at the marks of", |entry| entry.rebase_marks()).await?;
        }
        if header.passed {
            self.merge_unannounced(entry).await?;
        }
        let mapping = entry.mapping();
        let notices = self.store.layout.notices_mapped_stores;
        let size = io::stat(&entry.data)
            .map_err(|error| FsError::from_io(format!("look at the local file of inode {}", entry.inode), &error))?
            .size;
        let large = size >= EARLY_SYNC_BYTES;
        // Nothing of a new file is lost with it if it is empty.
        let was_emptied = size == 0 && entry.view().header.sealed.is_some_and(|sealed| sealed.length > 0);
        let mut summed = None;
        if mapping.outlived_descriptors() || (sync && !mapping.times_prove()) {
            // Stores to dirty pages move no time: once they are clean, each does.
            let (stat, holes, is_still) = on_file(entry, "sync and checksum", checksum_mapped).await?;
            entry.note_watched(is_still && notices);
            summed = Some((stat, holes));
        } else if sync && large {
            // The disk works while the processor does.
            let syncing = on_file(entry, "sync", |entry| entry.sync_data(false));
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
            entry.note_sealed();
            if sync && (stat.size > 0 || was_emptied) {
                // All of it, if there is nothing: that the old content is gone is what is to be durable then.
                entry.sync(&stat, stat.size == 0)?;
                entry.label_durable()?;
            }
            Ok(stat)
        };
        // Nothing to sync and little to checksum.
        let is_short = (size == 0 && !(sync && was_emptied)) || (!sync && size <= CHUNK_BYTES);
        let stat = match is_short {
            true => quickly_on_file(entry, "seal", seal).await?,
            false => on_file(entry, "seal", seal).await?,
        };
        self.store.measure(entry);
        if next == 0 {
            self.forget_passed(entry);
            self.store.reports.set(entry.inode, version, entry.present_bytes());
        }
        Ok(OpenStat {
            length: stat.size,
            mtime_ns: stat.mtime_ns,
            changed: false,
            ctime_ns: stat.ctime_ns,
            hole_bytes: hole_bytes(entry, &stat)?,
            ..OpenStat::default()
        })
    }
}

fn check_follows(version: u64, next: u64) -> FsResult<()> {
    if next == 0 || next > version {
        return Ok(());
    }
    let why = format!("version {next} cannot follow {version}");
    Err(FsError::new(ErrorKind::InvalidArgument, why))
}

fn sealed_stat(entry: &Entry) -> OpenStat {
    let header = &entry.view().header;
    OpenStat {
        length: header.length,
        mtime_ns: header.mtime_ns,
        ..OpenStat::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Header, Layout};
    use std::os::fd::AsRawFd;

    /// Stores one byte into the first page of a shared mapping, again and again, as somebody does who closed the file.
    struct Mapped(*mut u8);

    impl Mapped {
        fn of(entry: &Entry) -> Self {
            let file = std::fs::File::from(io::reopen(&entry.data).unwrap());
            let protection = libc::PROT_READ | libc::PROT_WRITE;
            // SAFETY: a new mapping of an open file, which the pointer alone refers to.
            let at = unsafe {
                libc::mmap(
                    std::ptr::null_mut(),
                    4096,
                    protection,
                    libc::MAP_SHARED,
                    file.as_raw_fd(),
                    0,
                )
            };
            assert_ne!(at, libc::MAP_FAILED);
            Self(at.cast())
        }

        fn store(&self, byte: u8) {
            // SAFETY: within the mapping, whose file is longer.
            unsafe { self.0.write_volatile(byte) };
        }
    }

    impl std::ops::Drop for Mapped {
        fn drop(&mut self) {
            // SAFETY: mapped in `of`, and not used any more.
            unsafe { libc::munmap(self.0.cast(), 4096) };
        }
    }

    /// A store into a page that is dirty already moves no time. After a look at what is mapped every store does.
    #[test]
    fn a_store_after_the_checksums_of_what_is_mapped_moves_the_times() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::open(dir.path()).unwrap();
        let entry = Entry::create(&layout, Header::open_new(7, 3)).unwrap();
        entry.set_length_local(CHUNK_BYTES).unwrap();
        entry.set_writable_fd_out().unwrap();
        let mapped = Mapped::of(&entry);
        for byte in 1..10 {
            mapped.store(byte);
            let (stat, _, is_still) = checksum_mapped(&entry).unwrap();
            assert!(is_still);
            // The clock of the file system goes in ticks.
            let tick = dir.path().join("tick");
            while io::stat(&std::fs::File::create(&tick).unwrap()).unwrap().ctime_ns <= stat.ctime_ns {
                std::fs::remove_file(&tick).unwrap();
            }
            mapped.store(100 + byte);
            assert_ne!(io::stat(&entry.data).unwrap(), stat, "a store that nobody notices");
        }
    }
}
