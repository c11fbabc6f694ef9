//! The open version: OpenWrite, Write, SetLength, Allocate, SetTimes, StatOpen, SyncOpen.
//!
//! A writer's `version` may be any since the file was opened for writing: who committed in between moved it on, and the
//! other writers of the one open version need not know.

use crate::core::{Core, on_file, quickly_on_file, stale};
use crate::fill::{Failed, Purpose};
use crate::io::{self, FileStat};
use crate::quick::quick;
use crate::store::{Base, Entry, Header, Sealed, Stamp, Store, View, blocking, chunks_of};
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
        if let Some(opened) = self.open_new(&lease, &request).await? {
            return Ok(opened);
        }
        let entry = self.make_open(inode, &lease, request.truncate).await?;
        if request.want_fd {
            let length = io::stat(&entry.data).map_or(u64::MAX, |stat| stat.size);
            if length <= self.settings.whole_fetch_bytes {
                // Who has it open already on its descriptor cannot be joined without one.
                let purpose = match request.needs_fd {
                    true => Purpose::Write,
                    false => Purpose::Read,
                };
                match self.filler.ensure(&entry, 0..chunks_of(length), purpose).await {
                    // Without all of it there is no descriptor, and the caller comes to us for every byte.
                    Ok(()) | Err(Failed::NotKept(_)) => {}
                    Err(Failed::Source(error)) => return Err(error),
                }
            }
        }
        let wants = self.wants_of(&request);
        let _turn = entry.turn.lock().await;
        quickly_on_file(&entry, "open", move |entry| opened(entry, wants)).await
    }

    fn wants_of(&self, request: &OpenWrite) -> Wants {
        match (request.want_fd, request.needs_fd) {
            (false, _) => Wants::Nothing,
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
        let header = new_header(inode, lease);
        let (store, wants) = (Arc::clone(&self.store), self.wants_of(request));
        quick(move || {
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
            opened(&entry, wants).map(Some).map_err(io)
        })
        .await
    }

    /// The entry, open as the lease says.
    async fn make_open(&self, inode: InodeId, lease: &WriteLease, truncate: bool) -> FsResult<Arc<Entry>> {
        for _ in 0..ROUNDS_MAX {
            let Some(entry) = self.store.find(inode).await? else {
                match self.create_open(inode, lease, truncate).await {
                    Err(error) if error.kind == ErrorKind::Stale => continue,
                    other => return other,
                }
            };
            let turn = entry.turn.lock().await;
            let view = entry.view();
            if view.dead {
                continue;
            }
            match Plan::of(&view, lease, truncate) {
                Plan::Join if truncate => {
                    entry.joined.fetch_add(1, Ordering::Relaxed);
                    on_file(&entry, "empty", |entry| entry.truncate_local()).await?;
                    drop(turn);
                    return Ok(entry);
                }
                Plan::Join => {
                    entry.joined.fetch_add(1, Ordering::Relaxed);
                    drop(turn);
                    return Ok(entry);
                }
                Plan::Relabel => {
                    entry.joined.store(0, Ordering::Relaxed);
                    if let Some(base) = lease.base.as_ref().filter(|base| base.version == view.header.version) {
                        self.note_place(&entry, base)?;
                    }
                    let (lease, track_bytes_min) = (lease.clone(), self.track_bytes_min(&entry).await);
                    on_file(&entry, "open", move |entry| {
                        entry.open_in_place(&lease, truncate, track_bytes_min)
                    })
                    .await?;
                    drop(turn);
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
        let mut header = new_header(inode, lease);
        if let Some(ReadSource {
            version, length, ufs, ..
        }) = base.as_ref().filter(|base| base.length > 0)
        {
            let ufs = ufs.clone().filter(|ufs| ufs.length == *length).ok_or_else(|| {
                let why = format!("the version of inode {inode} that is to be changed is not on this worker");
                FsError::new(ErrorKind::DataLost, why)
            })?;
            header.whole = false;
            header.length = *length;
            header.base = Some(Base {
                bytes: *length,
                ufs: Some(ufs),
                version: *version,
            });
        }
        let store = Arc::clone(&self.store);
        blocking(move || create_entry(&store, header, base)).await
    }

    /// See [`Write`].
    pub async fn write(&self, request: Write, data: Bytes) -> FsResult<Written> {
        let length = data.len() as u64;
        if length > TRANSFER_BYTES_MAX {
            let why = format!("write of {length} bytes; at most {TRANSFER_BYTES_MAX} at a time");
            return Err(FsError::new(ErrorKind::InvalidArgument, why));
        }
        let entry = self.open_entry(request.inode, request.version).await?;
        let _turn = entry.turn.lock().await;
        let stat = self.open_stat(&entry, request.version)?;
        let offset = if request.append { stat.size } else { request.offset };
        let end = checked_end(offset, length)?;
        let mut done = 0;
        if length > 0 {
            self.bring_edges(&entry, offset..end, stat.size).await?;
            let write = move |entry: &Entry| {
                let doing = || format!("write {length} bytes at {offset} of inode {}", entry.inode);
                let done = entry.write_local(offset, &data);
                done.map_err(|error| FsError::from_io(doing(), &error))
            };
            done = self.with_room(&entry, length, write).await?;
            self.store.space.charge(&entry, done);
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
        }
        Ok(())
    }

    /// See [`SetLength`].
    pub async fn set_length(&self, request: SetLength) -> FsResult<OpenStat> {
        checked_end(request.length, 0)?;
        let entry = self.open_entry(request.inode, request.version).await?;
        let _turn = entry.turn.lock().await;
        self.open_stat(&entry, request.version)?;
        // Also to the length that it has: that moves mtime, as POSIX wants of ftruncate and O_TRUNC.
        on_file(&entry, "set the length of", move |entry| match request.length {
            0 => entry.truncate_local(),
            length => entry.set_length_local(length),
        })
        .await?;
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
        let end = checked_end(request.offset, request.length)?;
        let entry = self.open_entry(request.inode, request.version).await?;
        let _turn = entry.turn.lock().await;
        let stat = self.open_stat(&entry, request.version)?;
        let keeps_size = mode & KEEP != 0;
        let within = request.offset..if keeps_size { end.min(stat.size) } else { end };
        if mode & (PUNCH | ZERO) & !KEEP != 0 && !within.is_empty() {
            self.bring_edges(&entry, within, stat.size).await?;
        }
        let store = Arc::clone(&self.store);
        let needed = match mode & (PUNCH & !KEEP) {
            0 => request.length,
            _ => 0,
        };
        let allocate = move |entry: &Entry| {
            let doing = || format!("allocate {} bytes of inode {}", request.length, entry.inode);
            let done = entry.allocate_local(mode, request.offset, request.length);
            done.map_err(|error| FsError::from_io(doing(), &error))?;
            store.measure(entry);
            Ok(())
        };
        self.with_room(&entry, needed, allocate).await?;
        self.stat_reply(&entry).await
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
        let entry = self.open_entry(request.inode, request.version).await?;
        self.stat_reply(&entry).await
    }

    /// See [`SyncOpen`].
    pub async fn sync(&self, request: SyncOpen) -> FsResult<OpenStat> {
        let entry = self.open_entry(request.inode, request.version).await?;
        on_file(&entry, "sync", move |entry| entry.sync_open(!request.data_only)).await?;
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
        if truncate || (!header.open && header.version == lease.version) {
            // Readers that have the file open see it emptied, as on a local file system.
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
}

impl Entry {
    /// Makes the open version of `lease` out of what is here, in the same data file. What is large and complete, and in the
    /// under-storage, goes on knowing what of it changes. The caller has the turn.
    fn open_in_place(&self, lease: &WriteLease, truncate: bool, track_bytes_min: u64) -> std::io::Result<()> {
        let view = self.view();
        let is_based = view.header.ufs.is_some() || view.header.base.is_some();
        let is_tracked = !truncate && is_based && !view.header.holes && view.header.length >= track_bytes_min;
        let whole = !is_tracked && self.complete()?;
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
        self.begin_open(whole, (!view.header.open).then_some(stamp), lease.version)?;
        if truncate {
            self.truncate_local()?;
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

fn new_header(inode: InodeId, lease: &WriteLease) -> Header {
    Header {
        inode: inode.get(),
        version: lease.version,
        open: true,
        open_since: lease.version,
        whole: true,
        ..Header::default()
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

/// Whether an opening gets a descriptor if all is here.
#[derive(Clone, Copy)]
enum Wants {
    Nothing,
    Descriptor,
    /// Not if changes of a base of so many bytes and more are known, and would be no longer.
    DescriptorUnless(u64),
}

/// The answer to an open, with a descriptor if it is wanted and all is here. The caller has the turn.
fn opened(entry: &Entry, wants: Wants) -> std::io::Result<WorkerResponse> {
    let complete = entry.complete()?;
    let mut fd = None;
    let is_wanted = match wants {
        Wants::Nothing => false,
        Wants::Descriptor => true,
        Wants::DescriptorUnless(bytes_min) => !entry.knows_changes(bytes_min),
    };
    if is_wanted && complete {
        entry.set_writable_fd_out()?;
        fd = Some(io::reopen(&entry.data)?);
    }
    let stat = io::stat(&entry.data)?;
    Ok(WorkerResponse {
        reply: WorkerReplyBody::OpenedFile(OpenedFile {
            complete,
            length: stat.size,
            mtime_ns: stat.mtime_ns,
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
