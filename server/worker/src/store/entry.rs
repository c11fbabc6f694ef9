//! One file held: its data file, its sidecar, and what is known of them in memory.
//!
//! **Invariants.** The data file is as long as the version (sparse where nothing is). A chunk is *here* if it is marked
//! present, or if the version is open and nothing lies under it: then the data file's own bytes count, holes as zeros.
//! `whole`: nothing lies under any chunk of an open version, so that who has the descriptor may write past us.
//! Locks are taken in the order `content`, `inner`; neither is held across an await.

use super::bitmap::Bitmap;
use super::fresh::Content;
use super::layout::Layout;
use super::sidecar::{Header, LoadError, Mark, Sidecar};
use crate::fill::Fills;
use crate::io::{self, FileStat};
use alluxio_common::sync::Mutex;
use alluxio_proto::types::UfsSource;
use alluxio_proto::{CHUNK_BYTES, InodeId};
use std::fs::{File, OpenOptions};
use std::io::Result as IoResult;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// One file held.
#[derive(Debug)]
pub(crate) struct Entry {
    pub inode: InodeId,
    pub data: File,
    pub(super) sidecar: Sidecar,
    pub(super) inner: Mutex<Inner>,
    /// Held while bytes and their presence change together.
    pub(super) content: Mutex<()>,
    /// One writer, sealer or relabeller at a time.
    pub turn: tokio::sync::Mutex<()>,
    /// Mounts that write the open version beside the first: each lets go of it once, and the last one seals. Changed by who
    /// has the turn. Forgotten at a restart, after which the master recovers what was open.
    pub joined: AtomicU32,
    /// Uploads that the master has not confirmed yet. Until then it names this worker as the only one to have the version.
    pub unconfirmed: AtomicU32,
    /// Fetches under way and readers' sequences.
    pub fills: Fills,
    /// Bytes accounted to it.
    pub charged: AtomicU64,
    /// Its names are durable.
    pub names_synced: AtomicBool,
    /// Second of last use, for the order of eviction.
    pub used_s: AtomicU64,
    paths: (PathBuf, PathBuf),
}

#[derive(Debug)]
pub(super) struct Inner {
    pub header: Header,
    sequence: u64,
    /// Chunks with a mark.
    pub present: Bitmap,
    /// Of these, those whose checksum does not hold (any more).
    pub dirty: Bitmap,
    /// Of these, those that were checked since this was loaded.
    pub verified: Bitmap,
    /// Writes through this process.
    pub writes: u64,
    /// Size and times of the content that was last sealed.
    pub stamp: Option<Stamp>,
    /// A descriptor for writing is or was out: anything may have changed.
    pub writable_fd_out: bool,
    /// Removed: holders finish, nothing is kept any more.
    pub dead: bool,
    /// Grows when content that was sealed is replaced.
    pub content_epoch: u64,
    /// Grows when what lies under absent chunks is no longer the same.
    pub source_epoch: u64,
    /// Uploads under way.
    pub uploads: u32,
    /// Every [`Mark::Local`] of an open version is of the content that was sealed last.
    pub marks_are_sealed: bool,
}

/// What tells whether content changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub size: u64,
    pub mtime_ns: i64,
    pub ctime_ns: i64,
    pub writes: u64,
}

/// What an entry is at a moment.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub header: Header,
    pub dead: bool,
    pub content_epoch: u64,
    pub writes: u64,
    pub uploading: bool,
}

impl View {
    /// Whether it may be the only copy.
    pub fn pinned(&self) -> bool {
        self.header.open || self.header.ufs.is_none()
    }
    /// Whether a request for the committed version `version` is answered by this: it is that version, or that version
    /// opened for writing in place.
    pub fn serves(&self, version: u64) -> bool {
        match self.header.open {
            false => self.header.version == version,
            true => {
                let sealed = self
                    .header
                    .sealed
                    .as_ref()
                    .is_some_and(|sealed| sealed.version == version);
                sealed || (version >= self.header.open_since && version <= self.header.version)
            }
        }
    }
    /// Whether a writer of `version` is one of this open version.
    pub fn open_as(&self, version: u64) -> bool {
        self.header.open && !self.dead && (self.header.open_since..=self.header.version).contains(&version)
    }
}

/// Chunks that hold `bytes` bytes.
pub(crate) fn chunks_of(bytes: u64) -> u64 {
    bytes.div_ceil(CHUNK_BYTES)
}

impl Entry {
    /// Makes the files of `header`, replacing a sidecar of that inode.
    pub fn create(layout: &Layout, mut header: Header) -> IoResult<Self> {
        let inode = InodeId(header.inode);
        header.generation = rand::random();
        header.boot_id.clone_from(&layout.boot_id);
        let paths = (layout.data(inode, header.generation), layout.sidecar(inode));
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        let data = options.open(&paths.0)?;
        let made = (|| {
            if header.length > 0 {
                data.set_len(header.length)?;
            }
            match std::fs::remove_file(&paths.1) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let sidecar = Sidecar::new(options.open(&paths.1)?);
            sidecar.store(&header, 1)?;
            Ok(sidecar)
        })();
        match made {
            Ok(sidecar) => Ok(Self::assemble(inode, data, sidecar, header, 1, paths)),
            Err(error) => {
                // Only bytes of ours that nobody has seen.
                let _ = std::fs::remove_file(&paths.0);
                Err(error)
            }
        }
    }

    /// Opens the files of an inode; `None` if there are none.
    pub fn load(layout: &Layout, inode: InodeId) -> Result<Option<Self>, LoadError> {
        let path = layout.sidecar(inode);
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        let sidecar = match options.open(&path) {
            Ok(file) => Sidecar::new(file),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let (header, sequence) = sidecar.load()?;
        if header.inode != inode.get() {
            return Err(LoadError::Damaged);
        }
        let data_path = layout.data(inode, header.generation);
        let data = match options.open(&data_path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                // A drop that was interrupted: data goes first.
                if header.ufs.is_none() && !header.open {
                    tracing::warn!(inode = inode.get(), "sidecar without data file removed");
                }
                std::fs::remove_file(&path)?;
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        if !header.open && io::stat(&data)?.size != header.length {
            return Err(LoadError::Damaged);
        }
        let entry = Self::assemble(inode, data, sidecar, header, sequence, (data_path, path));
        entry.load_marks(&layout.boot_id)?;
        Ok(Some(entry))
    }

    fn assemble(
        inode: InodeId,
        data: File,
        sidecar: Sidecar,
        header: Header,
        sequence: u64,
        paths: (PathBuf, PathBuf),
    ) -> Self {
        Self {
            inode,
            data,
            sidecar,
            inner: Mutex::new(Inner {
                header,
                sequence,
                present: Bitmap::default(),
                dirty: Bitmap::default(),
                verified: Bitmap::default(),
                writes: 0,
                stamp: None,
                writable_fd_out: false,
                dead: false,
                content_epoch: 0,
                source_epoch: 0,
                uploads: 0,
                marks_are_sealed: false,
            }),
            content: Mutex::new(()),
            turn: tokio::sync::Mutex::new(()),
            joined: AtomicU32::new(0),
            unconfirmed: AtomicU32::new(0),
            fills: Fills::default(),
            charged: AtomicU64::new(0),
            names_synced: AtomicBool::new(false),
            used_s: AtomicU64::new(0),
            paths,
        }
    }

    fn load_marks(&self, boot_id: &str) -> IoResult<()> {
        let stat = io::stat(&self.data)?;
        let inner = &mut *self.inner.lock();
        let same_boot = inner.header.boot_id == boot_id;
        // What is in no under-storage must not be fetched again by mistake: damaged marks count as here and fail when read.
        let keep_damaged = inner.header.ufs.is_none();
        let (present, dirty) = (&mut inner.present, &mut inner.dirty);
        let mut lost = Vec::new();
        self.sidecar.for_each(chunks_of(stat.size), |chunk, mark| match mark {
            Mark::Clean(_) | Mark::Local(_) => {
                present.set(chunk);
            }
            Mark::Damaged if keep_damaged => {
                present.set(chunk);
            }
            Mark::DirtyUnsynced if !same_boot => lost.push(chunk),
            Mark::Dirty | Mark::DirtyUnsynced => {
                present.set(chunk);
                dirty.set(chunk);
            }
            Mark::Absent | Mark::Damaged => {}
        })?;
        for chunk in lost {
            self.sidecar.set_marks(chunk, &[Mark::Absent])?;
        }
        if inner.header.open {
            if !same_boot {
                // From now on unsynced marks are those of this boot.
                boot_id.clone_into(&mut inner.header.boot_id);
                inner.sequence += 1;
                self.sidecar.store(&inner.header, inner.sequence)?;
            }
            // Descriptors of before may have been written to, and may still be.
            inner.writable_fd_out = inner.header.whole;
            inner.stamp = inner.header.sealed.as_ref().map(|sealed| Stamp {
                size: sealed.stamp_size,
                mtime_ns: sealed.stamp_mtime_ns,
                ctime_ns: sealed.stamp_ctime_ns,
                writes: 0,
            });
        }
        Ok(())
    }

    /// What it is now.
    pub fn view(&self) -> View {
        let inner = self.inner.lock();
        View {
            header: inner.header.clone(),
            dead: inner.dead,
            content_epoch: inner.content_epoch,
            writes: inner.writes,
            uploading: inner.uploads > 0,
        }
    }

    /// What content it holds, if that is a committed version, which never changes.
    pub fn committed_content(&self) -> Option<Content> {
        let inner = self.inner.lock();
        let header = &inner.header;
        (!inner.dead && !header.open).then_some((self.inode, header.generation, header.version))
    }

    /// Whether it holds just the committed version `version`. Cheaper than a view.
    pub fn is_committed_as(&self, version: u64) -> bool {
        let inner = self.inner.lock();
        !inner.dead && !inner.header.open && inner.header.version == version
    }

    /// Whether it was removed.
    pub fn is_dead(&self) -> bool {
        self.inner.lock().dead
    }

    /// Whether it is open for writing.
    pub fn is_open(&self) -> bool {
        self.inner.lock().header.open
    }

    /// Length in bytes now.
    pub fn length(&self) -> IoResult<u64> {
        let committed = {
            let inner = self.inner.lock();
            (!inner.header.open).then_some(inner.header.length)
        };
        match committed {
            Some(length) => Ok(length),
            None => Ok(io::stat(&self.data)?.size),
        }
    }

    /// Changes the header on disk and in memory.
    pub fn update<T>(&self, change: impl FnOnce(&mut Header) -> T) -> IoResult<T> {
        self.change(|inner| change(&mut inner.header))
    }

    /// Changes state together with the header on disk. If the disk refuses, the header stays as it was.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> IoResult<T> {
        let mut inner = self.inner.lock();
        let before = inner.header.clone();
        let out = change(&mut inner);
        if inner.header != before {
            let sequence = inner.sequence + 1;
            if let Err(error) = self.sidecar.store(&inner.header, sequence) {
                inner.header = before;
                return Err(error);
            }
            inner.sequence = sequence;
        }
        Ok(out)
    }

    /// Whether every byte is local.
    pub fn complete(&self) -> IoResult<bool> {
        let length = self.length()?;
        let inner = self.inner.lock();
        Ok(inner.first_missing(0..chunks_of(length)).is_none())
    }

    /// Runs of chunks of `range` that must be fetched.
    pub fn missing(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let inner = self.inner.lock();
        let mut runs: Vec<Range<u64>> = Vec::new();
        let mut at = range.start;
        while let Some(chunk) = inner.first_missing(at..range.end) {
            match runs.last_mut() {
                Some(run) if run.end == chunk => run.end += 1,
                _ => runs.push(chunk..chunk + 1),
            }
            at = chunk + 1;
        }
        runs
    }

    /// Where absent chunks come from, how many of its bytes count, and the epoch that a fill must name.
    pub fn source(&self) -> Option<(UfsSource, u64, u64)> {
        let inner = self.inner.lock();
        let header = &inner.header;
        match (&header.ufs, &header.base) {
            (Some(ufs), _) if !header.open => Some((ufs.clone(), ufs.length, inner.source_epoch)),
            (_, Some(base)) => Some((base.ufs.clone()?, base.bytes, inner.source_epoch)),
            _ => None,
        }
    }

    /// Bytes of the committed version that are local, as told to the master. Of a version that is in no under-storage yet at
    /// least one, if it has any: all of it may be its base's (a file that was only cut), and who holds nothing is asked for
    /// nothing, not for its upload either.
    pub fn present_bytes(&self) -> u64 {
        let inner = self.inner.lock();
        let header = &inner.header;
        if header.open {
            return 0;
        }
        let bytes_min = u64::from(header.ufs.is_none() && header.length > 0);
        if header.holes {
            return header.length;
        }
        (inner.present.count() * CHUNK_BYTES).min(header.length).max(bytes_min)
    }

    /// Whether it is an open version that knows what of it changed, over a base of `bytes_min` at least: a descriptor that
    /// is handed out would end that.
    pub fn knows_changes(&self, bytes_min: u64) -> bool {
        let inner = self.inner.lock();
        inner.header.open && !inner.header.whole && inner.base_bytes() >= bytes_min.max(1)
    }

    /// The object that absent chunks come from is at another place. False: they come from another one by now.
    pub fn move_source(&self, from: &UfsSource, to: UfsSource) -> IoResult<bool> {
        self.change(|inner| {
            let header = &mut inner.header;
            let place = match (&mut header.ufs, &mut header.base) {
                (Some(ufs), _) if !header.open => Some(ufs),
                (_, Some(base)) => base.ufs.as_mut(),
                _ => None,
            };
            match place {
                Some(place) if place == from && to.length == from.length => {
                    *place = to;
                    true
                }
                _ => false,
            }
        })
    }

    /// Takes notice of a descriptor for writing that is handed out.
    pub fn set_writable_fd_out(&self) -> IoResult<()> {
        self.change(|inner| {
            inner.writable_fd_out = true;
            inner.header.whole = true;
            inner.header.base = None;
            inner.header.durable = false;
        })
    }

    /// An upload begins (1) or ends (-1).
    pub fn count_upload(&self, begins: bool) {
        let mut inner = self.inner.lock();
        match begins {
            true => inner.uploads += 1,
            false => inner.uploads = inner.uploads.saturating_sub(1),
        }
    }

    /// Marks it removed and removes its names: first the data, so that a crash leaves a sidecar that says whose it was.
    pub fn remove(&self) -> IoResult<()> {
        self.inner.lock().dead = true;
        for path in [&self.paths.0, &self.paths.1] {
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Marks it removed and moves its files to `lost+found`.
    pub fn put_aside(&self, layout: &Layout) -> IoResult<()> {
        self.inner.lock().dead = true;
        layout.put_aside(&self.paths.0)?;
        layout.put_aside(&self.paths.1)?;
        Ok(())
    }

    /// Makes data, sidecar and names durable: all at once, so that a journaling file system commits once for them.
    pub fn sync(&self, stat: &FileStat, metadata: bool) -> IoResult<()> {
        let sync_names = || {
            if self.names_synced.load(Ordering::Acquire) {
                return Ok(());
            }
            if let Some(dir) = self.paths.0.parent() {
                alluxio_common::crashsafe::sync_dir(dir)?;
            }
            self.names_synced.store(true, Ordering::Release);
            Ok(())
        };
        std::thread::scope(|scope| {
            let sidecar = scope.spawn(|| self.sidecar.sync());
            let data = match metadata {
                true => self.data.sync_all(),
                false if stat.size > 0 => self.data.sync_data(),
                false => Ok(()),
            };
            let sidecar = sidecar
                .join()
                .unwrap_or_else(|_| Err(std::io::Error::other("a sync panicked")));
            data.and(sidecar).and_then(|()| sync_names())
        })
    }

    /// Whether the content needs no check before a descriptor is handed out.
    pub fn trusted(&self, boot_id: &str) -> bool {
        let inner = self.inner.lock();
        inner.header.durable || inner.header.boot_id == boot_id || inner.header.open
    }

    /// Takes notice that every checksum was found right in this boot.
    pub fn set_trusted(&self, boot_id: &str) -> IoResult<()> {
        self.update(|header| boot_id.clone_into(&mut header.boot_id))
    }
}

impl Inner {
    /// Bytes of the base that show through an open version.
    pub fn base_bytes(&self) -> u64 {
        self.header.base.as_ref().map_or(0, |base| base.bytes)
    }
    /// Whether `chunk` is here.
    pub fn has(&self, chunk: u64) -> bool {
        let header = &self.header;
        let is_own = match header.open {
            true => header.whole || chunk * CHUNK_BYTES >= self.base_bytes(),
            false => header.holes,
        };
        is_own || self.present.get(chunk)
    }
    /// First of `range` that is not here.
    pub fn first_missing(&self, range: Range<u64>) -> Option<u64> {
        let end = match (self.header.open, self.header.whole) {
            (true, true) => return None,
            (false, _) if self.header.holes => return None,
            (true, false) => range.end.min(chunks_of(self.base_bytes())),
            (false, _) => range.end,
        };
        self.present.first_unset(range.start..end)
    }
    /// Whether the bytes of `chunk` can be held against a checksum.
    pub fn checkable(&self, chunk: u64) -> bool {
        !(self.header.open && self.header.whole) && self.present.get(chunk) && !self.dirty.get(chunk)
    }
}
