//! One file held: its data file, its sidecar, and what is known of them in memory.
//!
//! **Invariants.** The data file is as long as the version (sparse where nothing is). A chunk is *here* if it is marked
//! present, or if the version is open and nothing lies under it: then the data file's own bytes count, holes as zeros.
//! `whole`: nothing lies under any chunk of an open version, so that who has the descriptor may write past us.
//! Locks are taken in the order `content`, `inner`; neither is held across an await.

use super::bitmap::Bitmap;
use super::fetch_buffer::Content;
use super::label::Label;
use super::layout::Layout;
use super::opening::{self, Unlabelled};
use super::passed::Passed;
use super::sidecar::{Header, LoadError, Mark, Sidecar};
use super::spill::Spilling;
use super::state::{State, Under, View};
use crate::flights::Fills;
use crate::io;
use alluxio_common::crashsafe;
use alluxio_common::sync::Mutex;
use alluxio_proto::types::UfsSource;
use alluxio_proto::{CHUNK_BYTES, InodeId};
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::Result as IoResult;
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// Changes remembered of a file: more than can come between an answer that was lost and the same request again.
const MADE_MAX: usize = 64;

/// One file held.
#[derive(Debug)]
pub(crate) struct Entry {
    pub inode: InodeId,
    /// Read-only: while none of our descriptors can write, the kernel tells whether anybody else's can
    /// ([`Entry::is_written_elsewhere`]).
    pub data: File,
    /// A sync of it failed. The kernel says so once, and takes for written what was not: no later sync proves anything.
    pub(super) sync_failed: AtomicBool,
    /// For writes through this process to an open version; closed before anybody asks who else writes.
    pub(super) writer: Mutex<Option<Arc<File>>>,
    pub(super) sidecar: Sidecar,
    pub(super) inner: Mutex<Inner>,
    /// Held while bytes and their presence change together.
    pub(super) content: Mutex<()>,
    /// Who has the file in the kernel. Taken after `content` and before `inner`.
    pub(super) passed: Mutex<Passed>,
    /// One writer, sealer or relabeller at a time.
    pub turn: tokio::sync::Mutex<()>,
    /// Mounts that write the open version beside the first: each lets go of it once, and the last one seals. Changed by who
    /// has the turn.
    pub joined: AtomicU32,
    /// It was open in an earlier life of this process, which knew how many mounts write it. The master still does: whoever lets go is
    /// told that others may write, and the master has the version recovered after the last one.
    pub has_unknown_writers: AtomicBool,
    /// No mount writes the open version: what recovers it looks after it. Who joins next is the first.
    pub unattended: AtomicBool,
    /// Uploads that the master has not confirmed yet. Until then it names this worker as the only one to have the version.
    pub unconfirmed: AtomicU32,
    /// Fetches under way and readers' sequences.
    pub fills: Fills,
    /// Bytes accounted to it.
    pub charged: AtomicU64,
    /// It was written in an earlier boot of the operating system, and nobody has looked since at what of it reached the disk.
    pub crossed_boot: AtomicBool,
    /// It was open in an earlier boot, and nobody has opened or recovered it since: its writers may have lost bytes.
    pub is_forsaken: AtomicBool,
    /// The disk says that the open version is open, or will say so as soon as any byte of it is there.
    pub(super) is_opening_noted: AtomicBool,
    /// Its names are durable.
    pub names_synced: AtomicBool,
    /// More may be allocated than the file needs.
    pub surplus: AtomicBool,
    /// Second of last use, for the order of eviction.
    pub used_s: AtomicU64,
    pub spilling: Spilling,
    /// Changes made lately, by [`alluxio_proto::worker::SetLength::number`].
    made: Mutex<VecDeque<u64>>,
    pub(super) paths: (PathBuf, PathBuf),
}

#[derive(Debug)]
pub(super) struct Inner {
    pub label: Label,
    pub sequence: u64,
    /// Chunks with a mark.
    pub present: Bitmap,
    /// Of these, those whose checksum does not hold (any more).
    pub dirty: Bitmap,
    /// Of these, those that were checked since this was loaded.
    pub verified: Bitmap,
    /// Writes through this process.
    pub writes: u64,
    /// Grows when what lies under absent chunks is no longer the same.
    pub source_epoch: u64,
    /// Uploads under way.
    pub uploads: u32,
    /// Grows when chunks that were here are no more.
    pub drops: u64,
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
        let mut options = crashsafe::private_file();
        options.read(true).write(true).create_new(true);
        let made = (|| {
            match std::fs::remove_file(&paths.1) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            // Its name comes first: data are found by it, after whatever crash.
            let sidecar = Sidecar::new(options.open(&paths.1)?);
            let data = create_read_only(&paths.0)?;
            if header.length > 0 {
                File::from(io::reopen(&data)?).set_len(header.length)?;
            }
            sidecar.store(&header, 1)?;
            let entry = Self::assemble(inode, data, sidecar, header, 1, paths.clone());
            entry.note_making(layout)?;
            Ok(entry)
        })();
        match made {
            Ok(entry) => Ok(entry),
            Err(error) => {
                // Only bytes of ours that nobody has seen. A sidecar without header would be taken for a damaged one.
                let _ = std::fs::remove_file(&paths.1);
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
        let (mut header, sequence) = match sidecar.load() {
            Err(LoadError::Empty) => match opening::look_for_data(layout, inode)? {
                Unlabelled::Open(header) => (*header, 0),
                Unlabelled::Unknown => return Err(LoadError::Damaged),
                Unlabelled::Nothing => {
                    std::fs::remove_file(&path)?;
                    return Ok(None);
                }
            },
            other => other?,
        };
        if header.inode != inode.get() {
            return Err(LoadError::Damaged);
        }
        let data_path = layout.data(inode, header.generation);
        let data = match File::open(&data_path) {
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
        if header.open && header.ufs.is_some() {
            // Older software could note the place of another version while this one was opened. The base has its own.
            tracing::warn!(
                inode = inode.get(),
                "an open version bore the place of another one in the under-storage"
            );
            header.ufs = None;
        }
        let crossed_boot = header.boot_id != layout.boot_id || header.doubtful;
        if crossed_boot {
            opening::correct(&mut header, &data)?;
        }
        if !header.open && io::stat(&data)?.size != header.length {
            if header.ufs.is_some() || header.boot_id == layout.boot_id {
                return Err(LoadError::Damaged);
            }
            // It may have been opened and changed before the operating system crashed, and the header of that is lost. Who
            // recovers that knows; until then its checksums say what still holds.
            header.durable = false;
        }
        let entry = Self::assemble(inode, data, sidecar, header, sequence, (data_path, path));
        entry.crossed_boot.store(crossed_boot, Ordering::Relaxed);
        entry.take_up_failed_sync();
        let is_open = entry.is_open();
        let is_forsaken = crossed_boot && is_open;
        entry.is_forsaken.store(is_forsaken, Ordering::Relaxed);
        if is_open {
            entry.has_unknown_writers.store(true, Ordering::Relaxed);
            entry.take_up_passed();
        }
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
            sync_failed: AtomicBool::new(false),
            writer: Mutex::new(None),
            sidecar,
            inner: Mutex::new(Inner {
                label: Label::new(header),
                sequence,
                present: Bitmap::default(),
                dirty: Bitmap::default(),
                verified: Bitmap::default(),
                writes: 0,
                source_epoch: 0,
                uploads: 0,
                drops: 0,
            }),
            content: Mutex::new(()),
            passed: Mutex::new(Passed::default()),
            turn: tokio::sync::Mutex::new(()),
            joined: AtomicU32::new(0),
            has_unknown_writers: AtomicBool::new(false),
            unattended: AtomicBool::new(false),
            unconfirmed: AtomicU32::new(0),
            fills: Fills::default(),
            charged: AtomicU64::new(0),
            crossed_boot: AtomicBool::new(false),
            is_forsaken: AtomicBool::new(false),
            is_opening_noted: AtomicBool::new(false),
            names_synced: AtomicBool::new(false),
            surplus: AtomicBool::new(false),
            used_s: AtomicU64::new(0),
            spilling: Spilling::default(),
            made: Mutex::default(),
            paths,
        }
    }

    fn load_marks(&self, boot_id: &str) -> IoResult<()> {
        let stat = io::stat(&self.data)?;
        let inner = &mut *self.inner.lock();
        let same_boot = inner.label.boot_id == boot_id;
        // What is in no under-storage must not be fetched again by mistake: damaged marks count as here and fail when read.
        let keep_damaged = inner.label.ufs.is_none();
        let header = &inner.label;
        let is_passed = same_boot && header.passed;
        let is_doubtful = !same_boot && header.open && header.base.as_ref().is_some_and(|base| base.ufs.is_some());
        let (present, dirty) = (&mut inner.present, &mut inner.dirty);
        let (mut lost, mut going) = (Vec::new(), Vec::new());
        self.sidecar.for_each(chunks_of(stat.size), |chunk, mark| match mark {
            // Fetched into an open version and perhaps never written to disk: it is fetched again before a write covers it in
            // part, or a seal takes it for right.
            Mark::Clean(_) if is_doubtful => lost.push(chunk),
            Mark::Clean(_) | Mark::Local(_) => {
                present.set(chunk);
            }
            Mark::Damaged if keep_damaged => {
                present.set(chunk);
            }
            Mark::DirtyUnsynced if !same_boot => lost.push(chunk),
            // Of an opening whose header did not reach the disk: what the header tells of is in the store.
            Mark::Dirty if !header.open && header.ufs.is_some() => lost.push(chunk),
            Mark::Dirty | Mark::DirtyUnsynced => {
                present.set(chunk);
                dirty.set(chunk);
            }
            // Who has the file may be writing just there, and nobody announces it yet: it goes once accesses wait.
            Mark::Going(_) if is_passed => {}
            Mark::Going(crc) => going.push((chunk, crc)),
            Mark::Absent | Mark::Damaged => {}
        })?;
        for (chunk, crc) in going {
            if let Err(error) = self.settle_going(chunk, crc) {
                tracing::info!(%error, inode = self.inode.get(), chunk, "free what was to be given up");
            }
        }
        for chunk in lost {
            self.sidecar.set_marks(chunk, &[Mark::Absent])?;
        }
        if inner.label.open {
            if !same_boot {
                inner.label.begin_boot(boot_id);
                inner.sequence += 1;
                self.sidecar.store(&inner.label, inner.sequence)?;
            }
            inner.label.take_up();
        }
        Ok(())
    }

    /// What it is now.
    pub fn view(&self) -> View {
        let inner = self.inner.lock();
        View {
            header: Header::clone(&inner.label),
            dead: inner.label.is_dead(),
            content_epoch: inner.label.content_epoch(),
            writes: inner.writes,
            uploading: inner.uploads > 0,
        }
    }

    /// What content it holds, if that is a committed version, which never changes.
    pub fn committed_content(&self) -> Option<Content> {
        let inner = self.inner.lock();
        let header = &inner.label;
        (!inner.label.is_dead() && !header.open).then_some((self.inode, header.generation, header.version))
    }

    /// Whether it holds just the committed version `version`. Cheaper than a view.
    pub fn is_committed_as(&self, version: u64) -> bool {
        let inner = self.inner.lock();
        !inner.label.is_dead() && !inner.label.open && inner.label.version == version
    }

    /// Whether it was removed.
    pub fn is_dead(&self) -> bool {
        self.inner.lock().label.is_dead()
    }

    /// Whether the change of that number was made. The caller has the turn.
    pub fn was_made(&self, number: u64) -> bool {
        number != 0 && self.made.lock().contains(&number)
    }

    /// The change of that number was made. The caller has the turn.
    pub fn note_made(&self, number: u64) {
        if number == 0 {
            return;
        }
        let mut made = self.made.lock();
        if made.len() >= MADE_MAX {
            made.pop_front();
        }
        made.push_back(number);
    }

    /// Whether it is open for writing.
    pub fn is_open(&self) -> bool {
        self.inner.lock().label.open
    }

    /// Length in bytes now.
    pub fn length(&self) -> IoResult<u64> {
        let committed = {
            let inner = self.inner.lock();
            (!inner.label.open).then_some(inner.label.length)
        };
        match committed {
            Some(length) => Ok(length),
            None => Ok(io::stat(&self.data)?.size),
        }
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
        let (ufs, bytes) = inner.label.source()?;
        Some((ufs.clone(), bytes, inner.source_epoch))
    }

    /// Bytes of the committed version that are local, as told to the master. Of a version that is in no under-storage yet at
    /// least one, if it has any: all of it may be its base's (a file that was only cut), and who holds nothing is asked for
    /// nothing, not for its upload either.
    pub fn present_bytes(&self) -> u64 {
        let inner = self.inner.lock();
        let header = &inner.label;
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
        matches!(inner.label.state(), State::Open(Under::Base(_))) && inner.base_bytes() >= bytes_min.max(1)
    }

    /// The object that absent chunks come from is at another location. False: they come from another one by now.
    pub fn move_source(&self, from: &UfsSource, to: UfsSource) -> IoResult<bool> {
        self.change(|label| label.move_source(from, to))
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
        self.inner.lock().label.die();
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
        self.inner.lock().label.die();
        layout.put_aside(&self.paths.0)?;
        layout.put_aside(&self.paths.1)?;
        Ok(())
    }
}

/// Makes a file and opens it for reading only, which `OpenOptions` takes for a mistake.
fn create_read_only(path: &Path) -> IoResult<File> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_CREAT | libc::O_EXCL);
    options.open(path)
}

impl Inner {
    /// Bytes of the base that show through an open version.
    pub fn base_bytes(&self) -> u64 {
        self.label.base.as_ref().map_or(0, |base| base.bytes)
    }
    /// Whether `chunk` is here.
    pub fn has(&self, chunk: u64) -> bool {
        let is_own = match self.label.state() {
            State::Open(Under::Nothing) => true,
            State::Open(Under::Base(base)) => chunk * CHUNK_BYTES >= base.map_or(0, |base| base.bytes),
            State::Cached { .. } | State::Sealed { .. } => self.label.holes,
        };
        is_own || self.present.get(chunk)
    }
    /// First of `range` that is not here.
    pub fn first_missing(&self, range: Range<u64>) -> Option<u64> {
        let end = match self.label.state() {
            State::Open(Under::Nothing) => return None,
            State::Open(Under::Base(_)) => range.end.min(chunks_of(self.base_bytes())),
            State::Cached { .. } | State::Sealed { .. } if self.label.holes => return None,
            State::Cached { .. } | State::Sealed { .. } => range.end,
        };
        self.present.first_unset(range.start..end)
    }
    /// Whether the bytes of `chunk` can be held against a checksum.
    pub fn checkable(&self, chunk: u64) -> bool {
        !self.label.is_open_over_nothing() && self.present.get(chunk) && !self.dirty.get(chunk)
    }
}

#[cfg(test)]
#[path = "entry_test.rs"]
mod tests;
