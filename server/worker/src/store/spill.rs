//! Giving up what the under-storage has of an open version: its bytes go, and come back from there when somebody wants them.
//!
//! The order holds at a cut of the power between any two steps: the header that names the object is durable before any chunk
//! counts as the object's, and a chunk counts as absent, durably, before its bytes go. So no mark ever lies over a hole.

use super::entry::{Entry, chunks_of};
use super::sidecar::Mark;
use super::state::{Stamp, State, Under};
use crate::io;
use alluxio_common::checksum::crc32c;
use alluxio_common::sync::Mutex;
use alluxio_proto::master::Spill;
use alluxio_proto::{CHUNK_BYTES, FsError};
use std::fs::File;
use std::io::Result as IoResult;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The start of a file stays: headers are written last.
const HEAD_CHUNKS: u64 = 16;
/// And its end, where its writer is.
const TAIL_CHUNKS: u64 = 2;

/// What goes with the spilling of one file.
#[derive(Debug, Default)]
pub(crate) struct Spilling {
    /// It is no use to try before that.
    put_off: Mutex<Option<Instant>>,
    /// Sealed here, and the master has not said that it committed it.
    pub unsure: Mutex<Option<Spill>>,
    /// The opening of which the master knows that a part of the file may be in its object alone.
    told: AtomicU64,
    /// Bytes read for uploads.
    pub uploaded: AtomicU64,
    /// How often an upload failed, and how it did last.
    pub failures: Mutex<(u64, Option<FsError>)>,
    /// What was committed for room is being uploaded, or given up here.
    is_under_way: AtomicBool,
    /// Who reads the data file past all locks.
    readers: AtomicU32,
}

impl Spilling {
    /// It cannot be spilled now, nor in the next moments.
    pub fn put_off(&self, pause: Duration) {
        *self.put_off.lock() = Some(Instant::now() + pause);
    }
    pub fn is_put_off(&self) -> bool {
        self.put_off.lock().is_some_and(|until| Instant::now() < until)
    }
    /// Whether it would cost an upload that frees room if it was sealed anew just now.
    pub fn is_under_way(&self) -> bool {
        self.is_under_way.load(Ordering::Relaxed)
    }
    /// See [`Self::note_told`].
    pub fn is_told(&self, open_since: u64) -> bool {
        self.told.load(Ordering::Relaxed) == open_since
    }
    /// The master knows that what is open since then is spilled.
    pub fn note_told(&self, open_since: u64) {
        self.told.store(open_since, Ordering::Relaxed);
    }
    /// It is, as long as what this answers is kept.
    pub fn begin(&self) -> UnderWay<'_> {
        self.is_under_way.store(true, Ordering::Relaxed);
        UnderWay(self)
    }
    /// An upload of it ended.
    pub fn note_upload(&self, error: Option<&FsError>) {
        if let Some(error) = error {
            let (count, last) = &mut *self.failures.lock();
            *count += 1;
            *last = Some(error.clone());
        }
    }
}

/// See [`Spilling::begin`].
pub(crate) struct UnderWay<'a>(&'a Spilling);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.is_under_way.store(false, Ordering::Relaxed);
    }
}

/// Somebody takes bytes from the data file past all locks: what is here stays as long.
pub(crate) struct Held<'a>(&'a Entry);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.spilling.readers.fetch_sub(1, Ordering::Release);
    }
}

impl Entry {
    /// Whether it may be spilled: committed while it is open, and its bytes given up once the under-storage has them. Whoever has
    /// a descriptor for writing writes past us, and nobody would know what of it is the under-storage's, unless it is guarded.
    pub fn can_spill(&self) -> bool {
        let is_guarded = self.is_guarded();
        let label = &self.inner.lock().label;
        let is_known = (is_guarded || !label.writable_fd_out()) && !label.holes;
        let flags = [
            &self.sync_failed,
            &self.crossed_boot,
            &self.is_forsaken,
            &self.unattended,
        ];
        label.open && !label.is_dead() && is_known && flags.iter().all(|flag| !flag.load(Ordering::Relaxed))
    }

    /// Whether the marks are those of the version sealed last, and of what changed since.
    pub fn marks_are_sealed(&self) -> bool {
        self.inner.lock().label.marks_are_sealed()
    }

    /// What it takes of the disk; 0 if nobody can say.
    pub fn disk_bytes(&self) -> u64 {
        io::stat(&self.data).map_or(0, |stat| stat.disk_bytes)
    }

    /// Keeps what is here from being given up, if all of `chunks` is.
    pub fn hold(&self, chunks: Range<u64>) -> Option<Held<'_>> {
        let _content = self.content.lock();
        if self.inner.lock().first_missing(chunks).is_some() {
            return None;
        }
        self.spilling.readers.fetch_add(1, Ordering::Acquire);
        Some(Held(self))
    }

    /// A descriptor for reading, if all is here: from then on nothing of it is given up. None also where descriptors are scarce.
    pub fn reopen_complete(&self) -> IoResult<Option<OwnedFd>> {
        let _content = self.content.lock();
        match self.complete()? {
            true => io::reopen_to_spare(&self.data),
            false => Ok(None),
        }
    }

    /// Gives up what of the open version the under-storage has; answers how many bytes of the disk that freed. Nothing while
    /// somebody has the data file open, or it is being uploaded. The caller has the turn. Blocks.
    pub fn give_up_stored(&self) -> IoResult<u64> {
        // Of what is written past us only that is known which was sealed since accesses wait.
        if !self.can_spill() || (self.writable_fd_out() && !self.is_sealed_held()) {
            return Ok(0);
        }
        self.rest_on_stored()?;
        self.rebase_marks()?;
        self.give_up_clean()
    }

    /// Makes the version that was sealed last, and is stored by now, the base of the open one. The caller has the turn.
    fn rest_on_stored(&self) -> IoResult<()> {
        let _content = self.content.lock();
        let stat = io::stat(&self.data)?;
        let Some((bytes, dirty)) = self.restable(stat.size) else {
            return Ok(());
        };
        // An open version that nothing lies under keeps no marks of what it changed. Whether it was synced nobody knows.
        for run in dirty.chunk_by(|a, b| a + 1 == *b) {
            self.sidecar.set_marks(run[0], &vec![Mark::Dirty; run.len()])?;
        }
        // It would tell of an open version that nothing lies under, also with a header that says otherwise.
        self.forget_opening()?;
        self.sync_sidecar()?;
        let is_guarded = self.is_guarded();
        self.change(|label| label.rest_on_sealed(bytes, is_guarded))?;
        self.keep_stamp(&stat)
    }

    /// How much of the version sealed last can lie under the open one, and which chunks to mark for that; `None`: nothing new.
    fn restable(&self, size: u64) -> Option<(u64, Vec<u64>)> {
        let inner = self.inner.lock();
        let label = &inner.label;
        let sealed = label.sealed.as_ref().filter(|sealed| sealed.ufs.is_some())?;
        let (whole, from) = match label.state() {
            State::Open(Under::Nothing) => (true, 0),
            State::Open(Under::Base(None)) => (false, 0),
            State::Open(Under::Base(Some(base))) if base.version == sealed.version => (false, base.bytes),
            _ => return None,
        };
        let limit = sealed.length.min(size);
        let (first, end) = (from / CHUNK_BYTES, chunks_of(limit));
        // What was cut off since is absent, also in the chunk that the cut goes through, or was written anew: the object has the
        // bytes of before.
        let end = inner.present.first_unset(first..end).unwrap_or(end);
        let is_ours = |chunk: &u64| !whole && inner.dirty.get(*chunk);
        let end = (first..end).find(is_ours).unwrap_or(end);
        let bytes = (end * CHUNK_BYTES).min(limit);
        let dirty = match whole {
            true => inner.dirty.all().collect(),
            false => Vec::new(),
        };
        (label.marks_are_sealed() && bytes > from).then_some((bytes, dirty))
    }

    /// The caller has the turn.
    fn give_up_clean(&self) -> IoResult<u64> {
        let _content = self.content.lock();
        let stat = io::stat(&self.data)?;
        let is_passed = self.writable_fd_out();
        let mut runs = self.clean_runs(stat.size, is_passed)?;
        if is_passed {
            runs = self.unchanged(&runs, stat.size)?;
        }
        let is_read = || self.spilling.readers.load(Ordering::Acquire) > 0 || self.inner.lock().uploads > 0;
        if runs.is_empty() || is_read() || (!is_passed && self.is_open_elsewhere_now()) {
            return Ok(0);
        }
        match is_passed {
            true => self.punch_passed(&runs, &stat)?,
            false => {
                self.drop_chunks(&runs)?;
                self.punch(&runs, &stat)?;
            }
        }
        let after = io::stat(&self.data)?;
        Ok(stat.disk_bytes.saturating_sub(after.disk_bytes))
    }

    /// Runs of chunks that are here and the base's; with `is_passed` also those that were about to go and may not have gone. The
    /// caller has the content.
    fn clean_runs(&self, size: u64, is_passed: bool) -> IoResult<Vec<Range<u64>>> {
        let end = {
            let inner = self.inner.lock();
            let base_chunks = inner.base_bytes() / CHUNK_BYTES;
            match inner.label.source() {
                Some(_) => base_chunks.min(chunks_of(size).saturating_sub(TAIL_CHUNKS)),
                None => 0,
            }
        };
        let (mut clean, mut going) = (Vec::new(), Vec::new());
        self.sidecar.for_each(end, |chunk, mark| match mark {
            Mark::Clean(_) if chunk >= HEAD_CHUNKS => clean.push(chunk),
            Mark::Going(_) if is_passed => going.push(chunk),
            _ => {}
        })?;
        {
            let inner = self.inner.lock();
            clean.retain(|chunk| inner.present.get(*chunk) && !inner.dirty.get(*chunk));
        }
        clean.append(&mut going);
        clean.sort_unstable();
        let runs = clean.chunk_by(|a, b| a + 1 == *b);
        Ok(runs.map(|run| run[0]..run[0] + run.len() as u64).collect())
    }

    /// As [`Self::drop_chunks`] and [`Self::punch`], while descriptors are out: after a crash between the two, bytes of the base that
    /// were about to go are not taken for what somebody has written in their place. The caller has the content.
    fn punch_passed(&self, runs: &[Range<u64>], stat: &io::FileStat) -> IoResult<()> {
        let mut before = Vec::with_capacity(runs.len());
        for run in runs {
            before.push(self.sidecar.marks(run.start, run.end - run.start)?);
        }
        for (run, marks) in runs.iter().zip(&before) {
            let going = |mark: &Mark| match *mark {
                Mark::Clean(crc) => Mark::Going(crc),
                other => other,
            };
            let going: Vec<Mark> = marks.iter().map(going).collect();
            self.sidecar.set_marks(run.start, &going)?;
        }
        self.sync_sidecar()?;
        {
            let inner = &mut *self.inner.lock();
            for chunk in runs.iter().cloned().flatten() {
                inner.present.clear(chunk);
                inner.verified.clear(chunk);
            }
            inner.drops += 1;
        }
        // Some went, others did not: their marks say what may lie there, and who fetches or seals them looks.
        self.punch(runs, stat)?;
        for run in runs {
            let gone = vec![Mark::Absent; (run.end - run.start) as usize];
            self.sidecar.set_marks(run.start, &gone)?;
        }
        Ok(())
    }

    /// After a crash, if nobody can write the file: what of a chunk that was about to go is there still goes. Other bytes stay, until
    /// they are held against the base's.
    pub(super) fn settle_going(&self, chunk: u64, crc: u32) -> IoResult<()> {
        let start = chunk * CHUNK_BYTES;
        let end = start + CHUNK_BYTES;
        let is_hole = io::next_data(&self.data, start)?.is_none_or(|(data, _)| data >= end);
        let bytes = match is_hole {
            true => None,
            false => io::read_at(&self.data, start, CHUNK_BYTES as usize, false)?,
        };
        let is_base = bytes.is_some_and(|bytes| crc32c(&bytes) == crc);
        if is_base {
            const MODE: i32 = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
            let mtime_ns = io::stat(&self.data)?.mtime_ns;
            io::allocate(&File::from(io::reopen(&self.data)?), MODE, start, CHUNK_BYTES)?;
            io::set_mtime(&self.data, mtime_ns)?;
        }
        self.sidecar.set_marks(chunk, &[Mark::Absent])
    }

    /// What of [`Self::clean_runs`] is what its checksums say, now that nobody can write it but by a splice, which is not
    /// announced. What is not is ours, or [`Self::unannounced`]. The caller has the content.
    fn unchanged(&self, runs: &[Range<u64>], size: u64) -> IoResult<Vec<Range<u64>>> {
        let mut same: Vec<Range<u64>> = Vec::new();
        for chunk in runs.iter().cloned().flatten() {
            let start = chunk * CHUNK_BYTES;
            let want = CHUNK_BYTES.min(size.saturating_sub(start)) as usize;
            let bytes = io::read_at(&self.data, start, want, false)?;
            let mark = self.sidecar.marks(chunk, 1)?[0];
            let is_same = match mark {
                Mark::Clean(crc) | Mark::Going(crc) => bytes.is_some_and(|bytes| crc32c(&bytes) == crc),
                _ => false,
            };
            if !is_same {
                // Of one that is absent this changes nothing.
                self.mark_dirty(chunk..chunk + 1, false)?;
                continue;
            }
            match same.last_mut() {
                Some(run) if run.end == chunk => run.end += 1,
                _ => same.push(chunk..chunk + 1),
            }
        }
        Ok(same)
    }

    /// Chunks that something else has count as absent, durably, when this returns. Their bytes may go then, not before. The caller
    /// has the content.
    pub(super) fn drop_chunks(&self, runs: &[Range<u64>]) -> IoResult<()> {
        for run in runs {
            self.sidecar
                .set_marks(run.start, &vec![Mark::Absent; (run.end - run.start) as usize])?;
        }
        {
            let inner = &mut *self.inner.lock();
            for chunk in runs.iter().cloned().flatten() {
                inner.present.clear(chunk);
                inner.verified.clear(chunk);
            }
            inner.drops += 1;
        }
        self.sync_sidecar()
    }

    /// Frees what dropped chunks take of the disk; the content, which looks like `stat`, stays the same one. The caller has the
    /// content, and nobody else the file.
    pub(super) fn punch(&self, runs: &[Range<u64>], stat: &io::FileStat) -> IoResult<()> {
        #[cfg(test)]
        self.sidecar.note_punch();
        const MODE: i32 = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        let writer = self.writer(false)?;
        for run in runs {
            let bytes = (run.end - run.start) * CHUNK_BYTES;
            io::allocate(&writer, MODE, run.start * CHUNK_BYTES, bytes)?;
        }
        drop(writer);
        io::set_mtime(&self.data, stat.mtime_ns)?;
        self.keep_stamp(stat)
    }

    /// What was done to the data file since it looked like `stat` was no change of it, and does not show, unless somebody got a
    /// descriptor meanwhile: then its times may be those of a write.
    pub(super) fn keep_times(&self, stat: &io::FileStat) -> IoResult<()> {
        let writes = self.inner.lock().writes;
        // Descriptors go out by a change of the label, too.
        self.change(|label| {
            if label.writable_fd_out() {
                return Ok(());
            }
            io::set_mtime(&self.data, stat.mtime_ns)?;
            let after = io::stat(&self.data)?;
            label.move_stamp(Stamp::of(stat, writes), Stamp::of(&after, writes));
            Ok(())
        })?
    }

    /// The data file looked like `stat`, and what was done to it since has changed its times and not its content.
    pub(super) fn keep_stamp(&self, stat: &io::FileStat) -> IoResult<()> {
        let after = io::stat(&self.data)?;
        let writes = self.inner.lock().writes;
        self.change(|label| label.move_stamp(Stamp::of(stat, writes), Stamp::of(&after, writes)))
    }
}

#[cfg(test)]
#[path = "spill_test.rs"]
mod tests;
