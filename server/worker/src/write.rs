//! The open version: OpenWrite, Write, SetLength, Allocate, SetTimes, StatOpen, SyncOpen.
//!
//! A writer's `version` may be any since the file was opened for writing: who committed in between moved it on, and the
//! other writers of the one open version need not know.

use crate::core::{Core, on_file, quickly_on_file, stale};
use crate::flights::{FillError, Purpose};
use crate::guard::Guard;
use crate::io::{self, FileStat};
use crate::passing::pass;
use crate::quick::quick;
use crate::read::VERIFY_AT_OPEN_BYTES_MAX;
use crate::scrub::damaged;
use crate::store::{Entry, Header, Layout, Local, Passing, Sealed, Stamp, Store, View, blocking, chunks_of};
use alluxio_proto::master::{ReadSource, WriteLease};
use alluxio_proto::worker::*;
use alluxio_proto::{CHUNK_BYTES, ErrorKind, FsError, FsResult, InodeId, WorkerResponse};
use bytes::Bytes;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Rounds of an open that finds the entry removed under its hands.
const ROUNDS_MAX: usize = 16;
/// Longest file: what signed 64-bit offsets can say. The local file system may have less, and says so.
const FILE_BYTES_MAX: u64 = i64::MAX as u64;

impl Core {
    /// See [`OpenWrite`].
    pub async fn open_write(&self, request: OpenWrite) -> FsResult<WorkerResponse> {
        let inode = InodeId(request.inode);
        let lease = request.lease.clone().ok_or_else(|| {
            FsError::new(
                ErrorKind::InvalidArgument,
                format!("opening inode {inode} for writing without a lease"),
            )
        })?;
        self.check_lease(inode, &lease)?;
        self.store.check_descriptors()?;
        if let Some(opened) = self.open_new(&lease, &request).await? {
            return Ok(opened);
        }
        let entry = self.make_open(inode, &lease, &request).await?;
        let length = io::stat(&entry.data).map_or(u64::MAX, |stat| stat.size);
        let whole_bytes = self.settings.whole_fetch_bytes;
        let is_stored = lease.base.as_ref().is_some_and(|base| base.ufs.is_some());
        if is_stored && !request.needs_fd {
            // What was changed here and is not uploaded yet has no other object to be taken over.
            self.filler.ensure_current(&entry, length, whole_bytes).await?;
        } else if request.want_fd && length <= whole_bytes {
            // Who has it open already on its descriptor cannot be joined without one.
            let purpose = match request.needs_fd {
                true => Purpose::Write,
                false => Purpose::Read,
            };
            match self.filler.ensure(&entry, 0..chunks_of(length), purpose).await {
                // Without all of it there is no descriptor, and the caller comes to us for every byte.
                Ok(()) | Err(FillError::NotKept(_)) => {}
                Err(FillError::Source(error)) => return Err(error),
            }
        }
        let wants = self.wants_of(&request);
        let _turn = entry.turn.lock().await;
        // While it was fetched its session may have ended, and the version with it.
        if !entry.view().open_as(lease.version) {
            return Err(stale(request.inode, lease.version));
        }
        if request.want_fd {
            self.verify_at_open(&entry, verify_bytes_max(&request)).await?;
        }
        let (guard, target, write_only) = (self.guard.clone(), Arc::clone(&entry), request.write_only);
        let open = move |_: &Entry| opened(&target, wants, guard.as_deref(), write_only);
        let response = quickly_on_file(&entry, "open", open).await?;
        self.note_opening(&entry, &response).await?;
        Ok(response)
    }

    /// Before a descriptor goes out: what is msynced through it must be found after a cut of the power. The caller has the turn.
    async fn note_opening(&self, entry: &Arc<Entry>, response: &WorkerResponse) -> FsResult<()> {
        match self.settings.sync_on_close && response.fd.is_some() && !entry.is_opening_noted() {
            true => on_file(entry, "sync the opening of", |entry| entry.sync_opening()).await,
            false => Ok(()),
        }
    }

    fn wants_of(&self, request: &OpenWrite) -> Wants {
        // What is written past us is sealed only once the kernel says that nobody can write it any more.
        match (request.want_fd && self.store.layout.has_leases, request.needs_fd) {
            (false, _) => Wants::Nothing,
            // Who writes past us cannot be made to wait for the uploads that make room.
            (true, false) if !self.store.is_roomy() => Wants::Nothing,
            (true, false) => Wants::DescriptorUnless(self.settings.track_bytes_min),
            (true, true) => Wants::Descriptor,
        }
    }

    /// What most opens for writing are: of a file of which nothing is here or anywhere. In one go, because each hop between
    /// threads costs as much as the work. `None`: it is another case.
    async fn open_new(&self, lease: &WriteLease, request: &OpenWrite) -> FsResult<Option<WorkerResponse>> {
        let inode = InodeId(request.inode);
        let base = lease.base.clone().filter(|_| !request.truncate);
        let is_based = base.as_ref().is_some_and(|base| base.length > 0);
        if is_based || self.store.get(inode).is_some() {
            return Ok(None);
        }
        let header = Header::open_new(inode.get(), lease.version);
        let (store, wants) = (Arc::clone(&self.store), self.wants_of(request));
        let (guard, write_only) = (self.guard.clone(), request.write_only);
        let opened = quick(move || {
            if store.load(inode)?.is_some() {
                return Ok(None);
            }
            let entry = match create_entry(&store, header, base) {
                Err(error) if error.kind == ErrorKind::Stale => return Ok(None),
                other => other?,
            };
            let Ok(_turn) = entry.turn.try_lock() else {
                return Ok(None);
            };
            let io = |error| FsError::from_io(format!("open the local file of inode {inode}"), &error);
            let response = opened(&entry, wants, guard.as_deref(), write_only)
                .map_err(io)
                .inspect_err(|_| {
                    // Nobody has seen it: no half-made one stays behind.
                    if let Err(error) = store.remove(&entry) {
                        tracing::warn!(%error, "remove a file that could not be opened");
                    }
                })?;
            Ok(Some((Arc::clone(&entry), response)))
        })
        .await?;
        let Some((entry, response)) = opened else {
            return Ok(None);
        };
        // Noted when it was made, where the file system can do that.
        self.note_opening(&entry, &response).await?;
        Ok(Some(response))
    }

    /// The entry, open as the lease says.
    async fn make_open(&self, inode: InodeId, lease: &WriteLease, request: &OpenWrite) -> FsResult<Arc<Entry>> {
        let truncate = request.truncate;
        for _ in 0..ROUNDS_MAX {
            let Some(entry) = self.store.find(inode).await? else {
                let base = lease.base.as_ref().filter(|base| base.length > 0 && !truncate);
                let made = match base {
                    // As for a reader, and then opened like any file of which a part is here: so an opening that nobody writes by is
                    // given back as one.
                    Some(base) => self.create_base(inode, base).await.map(|_| None),
                    None => self.create_open(inode, lease, truncate).await.map(Some),
                };
                match made {
                    Ok(Some(entry)) => return Ok(entry),
                    Ok(None) => continue,
                    Err(error) if error.kind == ErrorKind::Stale => continue,
                    Err(error) => return Err(error),
                }
            };
            let turn = entry.turn.lock().await;
            let view = entry.view();
            if view.dead {
                continue;
            }
            match Plan::of(&view, lease, truncate).of_what_is_durable(&entry, lease, truncate) {
                Plan::Join => {
                    if entry.is_forsaken.load(Ordering::Relaxed) {
                        let why =
                            format!("open inode {inode} for writing: its version is still to be recovered; try again");
                        return Err(FsError::new(ErrorKind::Unavailable, why));
                    }
                    // After a recovery of what is still mapped there is nobody to join.
                    if !entry.unattended.swap(false, Ordering::Relaxed) {
                        entry.joined.fetch_add(1, Ordering::Relaxed);
                    }
                    if truncate {
                        let store = Arc::clone(&self.store);
                        on_file(&entry, "empty", move |entry| entry.truncate_local(&store.layout)).await?;
                    }
                    drop(turn);
                    return Ok(entry);
                }
                Plan::Relabel => {
                    entry.joined.store(0, Ordering::Relaxed);
                    entry.unattended.store(false, Ordering::Relaxed);
                    if let Some(base) = lease.base.as_ref().filter(|base| base.version == view.header.version) {
                        self.note_location(&entry, base)?;
                    }
                    if !truncate && !view.header.open {
                        // With a descriptor, or without checksums, damage would become the content.
                        self.verify_at_open(&entry, verify_bytes_max(request)).await?;
                    }
                    let (theirs, track_bytes_min) = (lease.clone(), self.track_bytes_min(&entry).await);
                    let store = Arc::clone(&self.store);
                    let opened = on_file(&entry, "open", move |entry| {
                        entry.open_in_place(&theirs, truncate, track_bytes_min, &store.layout)
                    })
                    .await;
                    match opened {
                        // What was fetched cannot be made durable: it is fetched again, into another local file.
                        Err(error) if can_be_fetched(lease) && entry.is_to_be_fetched_again() => {
                            tracing::info!(%error, inode = inode.get(), "open a fetched file for writing; fetching it again");
                            continue;
                        }
                        other => other?,
                    }
                    drop(turn);
                    self.store.space.pin(inode);
                    self.store.reports.set(inode, view.header.version, 0);
                    return Ok(entry);
                }
                Plan::Replace => {
                    let (store, old) = (Arc::clone(&self.store), Arc::clone(&entry));
                    let keep = view.pinned() && lease.base.as_ref().is_some_and(|base| base.ufs.is_none());
                    blocking(move || match keep {
                        true => store.put_aside(&old, "a version that is not in the under-storage is overtaken"),
                        false => store.remove(&old),
                    })
                    .await?;
                }
                Plan::Refuse => return Err(stale(inode.get(), lease.version)),
            }
        }
        let why = format!("inode {inode} is removed as fast as it is opened");
        Err(FsError::new(ErrorKind::Busy, why))
    }

    /// From which size on it pays to know what changes of a file.
    async fn track_bytes_min(&self, entry: &Entry) -> u64 {
        let header = entry.view().header;
        if header.length < self.settings.track_bytes_min {
            return u64::MAX;
        }
        let place = header.ufs.or(header.base.and_then(|base| base.ufs));
        let Some(place) = place else { return u64::MAX };
        match self.clients.get(place.mount_id).await {
            Ok(ufs) if ufs.capabilities().copies_ranges => self.settings.track_bytes_min,
            Ok(_) => u64::MAX,
            // Whoever uploads it asks again.
            Err(_) => self.settings.track_bytes_min,
        }
    }

    async fn create_open(&self, inode: InodeId, lease: &WriteLease, truncate: bool) -> FsResult<Arc<Entry>> {
        let base = lease.base.clone().filter(|_| !truncate);
        let header = Header::open_new(inode.get(), lease.version);
        let store = Arc::clone(&self.store);
        blocking(move || create_entry(&store, header, base)).await
    }

    /// The version that is to be changed, of which nothing is here yet.
    async fn create_base(&self, inode: InodeId, base: &ReadSource) -> FsResult<Arc<Entry>> {
        if base.ufs.as_ref().is_none_or(|ufs| ufs.length != base.length) {
            let why = format!("the version of inode {inode} that is to be changed is not on this worker");
            return Err(FsError::new(ErrorKind::DataLost, why));
        }
        self.create_cached(inode, base).await
    }

    /// See [`Write`].
    pub async fn write(&self, request: Write, data: Bytes) -> FsResult<Written> {
        let length = data.len() as u64;
        if length > TRANSFER_BYTES_MAX {
            let why = format!("write of {length} bytes; at most {TRANSFER_BYTES_MAX} at a time");
            return Err(FsError::new(ErrorKind::InvalidArgument, why));
        }
        let entry = self.open_entry(request.inode, request.version).await?;
        self.with_room(&entry, length, || self.write_now(&entry, &request, data.clone()))
            .await
    }

    async fn write_now(&self, entry: &Arc<Entry>, request: &Write, data: Bytes) -> FsResult<Written> {
        let length = data.len() as u64;
        let _turn = entry.turn.lock().await;
        let stat = self.open_stat(entry, request.version)?;
        let mut offset = if request.append { stat.size } else { request.offset };
        let end = checked_end(offset, length)?;
        let mut done = 0;
        if length > 0 {
            self.bring_edges(entry, offset..end, stat.size).await?;
            let (append, at) = (request.append, offset);
            let write = move |entry: &Entry| {
                let doing = || format!("write {length} bytes at {at} of inode {}", entry.inode);
                let done = match append {
                    // By passthrough others may have appended meanwhile.
                    true => entry.append_local(&data),
                    false => entry.write_local(at, &data).map(|done| (at, done)),
                };
                done.map_err(|error| FsError::from_io(doing(), &error))
            };
            (offset, done) = self.in_room(entry, length, write).await?;
            self.store.space.charge(entry, done);
            self.counters.bytes_written.add(done);
        }
        Ok(Written {
            offset,
            length: done,
            file_length: stat.size.max(if done > 0 { offset + done } else { 0 }),
        })
    }

    /// Fetches the chunks that `range` covers in part, as far as they are missing.
    pub async fn bring_edges(&self, entry: &Arc<Entry>, range: Range<u64>, size: u64) -> FsResult<()> {
        let (first, last) = (range.start / CHUNK_BYTES, (range.end - 1) / CHUNK_BYTES);
        let mut edges = Vec::new();
        if !range.start.is_multiple_of(CHUNK_BYTES) {
            edges.push(first);
        }
        if range.end < ((last + 1) * CHUNK_BYTES).min(size) {
            edges.push(last);
        }
        for chunk in edges {
            let brought = self.filler.ensure(entry, chunk..chunk + 1, Purpose::Write).await;
            brought.map_err(|failed| failed.into_error().context("fetch what a write covers in part"))?;
            self.verify_edge(entry, chunk).await?;
        }
        if range.end > size {
            self.verify_end(entry, size).await?;
        }
        Ok(())
    }

    /// Before bytes behind the end of the file come: the checksum of the last chunk will not hold any more.
    async fn verify_end(&self, entry: &Arc<Entry>, size: u64) -> FsResult<()> {
        match size.is_multiple_of(CHUNK_BYTES) {
            true => Ok(()),
            false => self.verify_edge(entry, size / CHUNK_BYTES).await,
        }
    }

    /// Before a part of a chunk is changed: what is left of it gets a new checksum, and damage must not be covered by that.
    pub async fn verify_edge(&self, entry: &Arc<Entry>, chunk: u64) -> FsResult<()> {
        for _ in 0..ROUNDS_MAX {
            if entry.first_unverified(chunk) != Some(chunk) {
                return Ok(());
            }
            let found = on_file(entry, "verify", move |entry| entry.verify_run(chunk..chunk + 1)).await?;
            if matches!(found, Local::Corrupt(_)) && !self.mend(entry, chunk).await? {
                return Err(damaged(entry.inode, chunk));
            }
        }
        let why = format!(
            "chunk {chunk} of inode {} changes as fast as it is verified",
            entry.inode
        );
        Err(FsError::new(ErrorKind::Busy, why))
    }

    /// See [`SetLength`].
    pub async fn set_length(&self, request: SetLength) -> FsResult<OpenStat> {
        checked_end(request.length, 0)?;
        let entry = self.open_entry(request.inode, request.version).await?;
        let _turn = entry.turn.lock().await;
        let stat = self.open_stat(&entry, request.version)?;
        if entry.was_made(request.number) {
            return self.stat_reply(&entry).await;
        }
        if request.length > 0 {
            self.verify_end(&entry, stat.size.min(request.length)).await?;
        }
        // Also to the length that it has: that moves mtime, as POSIX wants of ftruncate and O_TRUNC.
        let store = Arc::clone(&self.store);
        on_file(&entry, "set the length of", move |entry| match request.length {
            0 => entry.truncate_local(&store.layout),
            length => entry.set_length_local(length),
        })
        .await?;
        entry.note_made(request.number);
        self.store.measure(&entry);
        self.stat_reply(&entry).await
    }

    /// See [`Allocate`]. Modes: 0, KEEP_SIZE, PUNCH_HOLE with KEEP_SIZE, ZERO_RANGE with or without KEEP_SIZE.
    pub async fn allocate(&self, request: Allocate) -> FsResult<OpenStat> {
        const KEEP: i32 = libc::FALLOC_FL_KEEP_SIZE;
        const PUNCH: i32 = libc::FALLOC_FL_PUNCH_HOLE | KEEP;
        const ZERO: i32 = libc::FALLOC_FL_ZERO_RANGE;
        const ZERO_KEEP: i32 = ZERO | KEEP;
        let mode = i32::try_from(request.mode).unwrap_or(-1);
        if !matches!(mode, 0 | KEEP | PUNCH | ZERO | ZERO_KEEP) {
            let why = format!("fallocate mode {:#x} is not supported", request.mode);
            return Err(FsError::new(ErrorKind::NotSupported, why));
        }
        if request.length == 0 {
            return Err(FsError::new(ErrorKind::InvalidArgument, "fallocate of no bytes"));
        }
        checked_end(request.offset, request.length)?;
        let needed = match mode & (PUNCH & !KEEP) {
            0 => request.length,
            _ => 0,
        };
        let entry = self.open_entry(request.inode, request.version).await?;
        self.with_room(&entry, needed, || self.allocate_now(&entry, &request, mode, needed))
            .await
    }

    /// `needed`: bytes of the disk.
    async fn allocate_now(&self, entry: &Arc<Entry>, request: &Allocate, mode: i32, needed: u64) -> FsResult<OpenStat> {
        const KEEP: i32 = libc::FALLOC_FL_KEEP_SIZE;
        const PUNCH_OR_ZERO: i32 = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_ZERO_RANGE;
        let end = checked_end(request.offset, request.length)?;
        let _turn = entry.turn.lock().await;
        let stat = self.open_stat(entry, request.version)?;
        if entry.was_made(request.number) {
            return self.stat_reply(entry).await;
        }
        let keeps_size = mode & KEEP != 0;
        let within = request.offset..if keeps_size { end.min(stat.size) } else { end };
        if mode & PUNCH_OR_ZERO != 0 && !within.is_empty() {
            self.bring_edges(entry, within, stat.size).await?;
        } else if !keeps_size && end > stat.size {
            self.verify_end(entry, stat.size).await?;
        }
        let (store, offset, length) = (Arc::clone(&self.store), request.offset, request.length);
        let allocate = move |entry: &Entry| {
            let doing = || format!("allocate {length} bytes of inode {}", entry.inode);
            let done = entry.allocate_local(mode, offset, length);
            done.map_err(|error| FsError::from_io(doing(), &error))?;
            store.measure(entry);
            Ok(())
        };
        self.in_room(entry, needed, allocate).await?;
        entry.note_made(request.number);
        self.stat_reply(entry).await
    }

    /// See [`SetTimes`]. Counts as a change, so that a commit takes the time along.
    pub async fn set_times(&self, request: SetTimes) -> FsResult<OpenStat> {
        let entry = self.open_entry(request.inode, request.version).await?;
        let _turn = entry.turn.lock().await;
        self.open_stat(&entry, request.version)?;
        on_file(&entry, "set times of", move |entry| {
            io::set_mtime(&entry.data, request.mtime_ns)
        })
        .await?;
        self.stat_reply(&entry).await
    }

    /// See [`StatOpen`].
    pub async fn stat(&self, request: StatOpen) -> FsResult<OpenStat> {
        let found = self.store.find(InodeId(request.inode)).await?;
        // Also of another boot: looking changes nothing.
        let entry = found.filter(|entry| entry.view().open_as(request.version));
        let entry = entry.ok_or_else(|| stale(request.inode, request.version))?;
        self.stat_reply(&entry).await
    }

    /// See [`SyncOpen`].
    pub async fn sync(&self, request: SyncOpen) -> FsResult<OpenStat> {
        let entry = self.open_entry(request.inode, request.version).await?;
        on_file(&entry, "sync", move |entry| entry.sync_open(!request.data_only)).await?;
        // Who spills it has the turn until the master knows the version that this tells.
        let _turn = entry.turn.lock().await;
        self.stat_reply(&entry).await
    }

    /// What fstat says, if it is still open as `version` now that we have the turn.
    pub fn open_stat(&self, entry: &Entry, version: u64) -> FsResult<FileStat> {
        if !entry.view().open_as(version) {
            return Err(stale(entry.inode.get(), version));
        }
        let io = |error| FsError::from_io(format!("look at the local file of inode {}", entry.inode), &error);
        io::stat(&entry.data).map_err(io)
    }

    pub async fn stat_reply(&self, entry: &Arc<Entry>) -> FsResult<OpenStat> {
        let fine_times = self.store.layout.fine_times;
        let io = |error| FsError::from_io(format!("look at the local file of inode {}", entry.inode), &error);
        let stat = io::stat(&entry.data).map_err(io)?;
        let changed = entry.changed_since_seal(&stat, fine_times);
        Ok(OpenStat {
            length: stat.size,
            mtime_ns: stat.mtime_ns,
            changed,
            ctime_ns: stat.ctime_ns,
            version: entry.view().header.version,
            hole_bytes: hole_bytes(entry, &stat)?,
            mapped: false,
            others_write: false,
        })
    }
}

/// How much of a local file is holes. What is not here yet is none.
pub(crate) fn hole_bytes(entry: &Entry, stat: &FileStat) -> FsResult<u64> {
    let io = |error| FsError::from_io(format!("look at the local file of inode {}", entry.inode), &error);
    match stat.disk_bytes < stat.size && entry.complete().map_err(io)? {
        true => Ok(stat.size - stat.disk_bytes),
        false => Ok(0),
    }
}

/// What opening for writing does with the entry that is there.
enum Plan {
    /// It is open as that already.
    Join,
    /// Its content is the base (or does not matter): the same file becomes the open version.
    Relabel,
    /// Its content is not the base: begin anew.
    Replace,
    /// The lease is older than what is here.
    Refuse,
}

impl Plan {
    fn of(view: &View, lease: &WriteLease, truncate: bool) -> Self {
        let header = &view.header;
        if view.open_as(lease.version) {
            return Plan::Join;
        }
        if lease.version < header.version {
            return Plan::Refuse;
        }
        if truncate {
            // Readers that have the file open see it emptied, as on a local file system. Those of a version that another home
            // has overtaken have another file by now.
            let is_newest = lease.replaces == 0 || view.serves(lease.replaces);
            return if is_newest { Plan::Relabel } else { Plan::Replace };
        }
        if !header.open && header.version == lease.version {
            return Plan::Relabel;
        }
        let Some(base) = &lease.base else {
            // Readers may have the empty file open, and go on with it.
            let is_empty = !header.open && header.length == 0;
            return if is_empty { Plan::Relabel } else { Plan::Replace };
        };
        match header.open {
            false if header.version == base.version => Plan::Relabel,
            // Abandoned without a commit. Its base is in the under-storage: what was written is as if never. Otherwise the
            // bytes are what a local file would have: as they were left.
            true if view.serves(base.version) && base.ufs.is_none() => Plan::Relabel,
            _ => Plan::Replace,
        }
    }

    /// What was fetched and could not be synced is fetched again: nothing can be synced over it any more. Who empties the file
    /// needs nothing of it.
    fn of_what_is_durable(self, entry: &Entry, lease: &WriteLease, truncate: bool) -> Self {
        match self {
            Plan::Relabel if !truncate && can_be_fetched(lease) && entry.is_to_be_fetched_again() => Plan::Replace,
            plan => plan,
        }
    }
}

/// Whether the under-storage has what an open version begins as, and the master knows.
fn can_be_fetched(lease: &WriteLease) -> bool {
    lease.base.as_ref().is_some_and(|base| base.ufs.is_some())
}

impl Entry {
    /// Makes the open version of `lease` out of what is here, in the same data file. What is large and complete, and in the
    /// under-storage, goes on knowing what of it changes. The caller has the turn.
    fn open_in_place(
        &self,
        lease: &WriteLease,
        truncate: bool,
        track_bytes_min: u64,
        layout: &Layout,
    ) -> std::io::Result<()> {
        let view = self.view();
        let is_based = view.header.ufs.is_some() || view.header.base.is_some();
        let is_tracked = !truncate && is_based && !view.header.holes && view.header.length >= track_bytes_min;
        let whole = match truncate {
            // With holes where the base is not here, and a header that says that nothing lies under it, a cut of the power before
            // the file is empty on the disk would leave zeros.
            true => self.complete()?,
            // What was not found right yet keeps its checksums.
            false => !is_tracked && self.complete()? && self.first_unverified(0).is_none(),
        };
        if !whole && !view.header.open {
            self.rebase_marks()?;
        }
        let stat = io::stat(&self.data)?;
        let stamp = Stamp {
            size: stat.size,
            mtime_ns: stat.mtime_ns,
            ctime_ns: stat.ctime_ns,
            writes: view.writes,
        };
        let is_fetched = view.header.ufs.is_some() || view.header.base.is_some();
        if layout.notes_openings && whole && !truncate && is_fetched && !view.header.durable {
            // From here on nothing lies under it: what was fetched must not be lost by a cut of the power.
            self.sync_data(false)?;
        }
        self.begin_open(
            whole,
            (!view.header.open).then_some(stamp),
            lease.version,
            &layout.boot_id,
        )?;
        if truncate {
            // In this order: what bears the note has none of the old content.
            self.truncate_local(layout)?;
            self.note_opening(layout)?;
        }
        Ok(())
    }

    /// Takes note that the content now is that of `version`, in the under-storage at `ufs`.
    fn set_unchanged(&self, version: u64, ufs: Option<alluxio_proto::types::UfsSource>) -> std::io::Result<()> {
        let stat = io::stat(&self.data)?;
        let view = self.view();
        self.set_sealed(
            Sealed {
                version,
                length: stat.size,
                mtime_ns: stat.mtime_ns,
                ufs,
                stamp_size: stat.size,
                stamp_mtime_ns: stat.mtime_ns,
                stamp_ctime_ns: stat.ctime_ns,
                base_bytes: view.header.base.map(|base| base.bytes),
            },
            view.writes,
        )
    }
}

/// Makes the files of an open version over `base`. Blocks.
fn create_entry(store: &Store, header: Header, base: Option<ReadSource>) -> FsResult<Arc<Entry>> {
    let inode = header.inode;
    let entry = store.create(header)?;
    if let Some(base) = base {
        let io = |error| FsError::from_io(format!("make the local file of inode {inode}"), &error);
        entry.set_unchanged(base.version, base.ufs).map_err(io)?;
    }
    Ok(entry)
}

/// How large a file is held against its checksums while it is opened. Who has it open on its descriptor cannot be joined
/// without one.
fn verify_bytes_max(request: &OpenWrite) -> u64 {
    match request.needs_fd {
        true => u64::MAX,
        false => VERIFY_AT_OPEN_BYTES_MAX,
    }
}

/// Whether an opening gets a descriptor if all is here.
#[derive(Clone, Copy)]
enum Wants {
    Nothing,
    Descriptor,
    /// Not if changes of a base of so many bytes and more are known, and would be no longer.
    DescriptorUnless(u64),
}

/// The answer to an open, with a descriptor if it is wanted and all is here. The caller has the turn.
fn opened(
    entry: &Arc<Entry>,
    wants: Wants,
    guard: Option<&Guard>,
    write_only: bool,
) -> std::io::Result<WorkerResponse> {
    let complete = entry.complete()?;
    let (mut fd, mut watched) = (None, false);
    let is_wanted = match wants {
        Wants::Nothing => false,
        Wants::Descriptor => true,
        Wants::DescriptorUnless(bytes_min) => !entry.knows_changes(bytes_min),
    };
    if is_wanted && complete && entry.first_unverified(0).is_none() {
        entry.wait_for_fills();
        if !entry.writable_fd_out() {
            entry.begin_passing(guard.is_some());
        }
        fd = match wants {
            // Who has the file open on a descriptor cannot be joined without one.
            Wants::Descriptor => Some(io::reopen_read_only(&entry.data)?),
            Wants::DescriptorUnless(_) | Wants::Nothing => io::reopen_to_spare(&entry.data)?,
        };
        if fd.is_some() {
            let how = pass(entry, guard, write_only);
            watched = how == Some(Passing::Watched);
            // Who has the file open on a descriptor cannot be joined without one.
            let is_needed = || matches!(wants, Wants::Descriptor) && entry.pass(Passing::Anyhow);
            fd = fd.filter(|_| how.is_some() || is_needed());
        }
        if fd.is_some() {
            entry.set_writable_fd_out()?;
        }
    }
    let stat = io::stat(&entry.data)?;
    Ok(WorkerResponse {
        reply: WorkerReplyBody::OpenedFile(OpenedFile {
            complete,
            length: stat.size,
            mtime_ns: stat.mtime_ns,
            watched,
        }),
        data: Bytes::new(),
        fd,
    })
}

pub(crate) fn checked_end(offset: u64, length: u64) -> FsResult<u64> {
    offset
        .checked_add(length)
        .filter(|end| *end <= FILE_BYTES_MAX)
        .ok_or_else(|| {
            let why = format!("offset {offset} and length {length} are beyond {FILE_BYTES_MAX} bytes");
            FsError::new(ErrorKind::FileTooLarge, why)
        })
}
