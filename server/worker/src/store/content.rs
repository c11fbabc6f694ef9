//! Bytes of an entry: reading what is here, keeping what was fetched, changing an open version.

use super::entry::{Entry, chunks_of};
use super::label::Label;
use super::layout::Layout;
use super::sidecar::Mark;
use super::state::State;
use crate::io;
use alluxio_common::checksum::crc32c;
use alluxio_proto::CHUNK_BYTES;
use bytes::Bytes;
use std::fs::File;
use std::io::Result as IoResult;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;

/// Tries of a read whose bytes were being changed; each failure means that a write came in between.
const READ_TRIES_MAX: usize = 16;

/// What a file system gives bytes to, at least: of a block that is written in part, the rest becomes zeros.
const BLOCK_BYTES: usize = 4096;
/// So many zeros in the middle of a block may be what nobody wrote.
const ZEROS_MIN: usize = 8;

/// Whether a block may have been written in part where there was none: then it is zeros where it should be the base's.
fn is_mixed(block: &[u8], base: &[u8]) -> bool {
    let mut at = 0;
    while at < block.len() {
        let run = block[at..].iter().take_while(|byte| **byte == 0).count();
        let end = at + run;
        let is_suspect = at == 0 || end == block.len() || run >= ZEROS_MIN;
        if run > 0 && is_suspect && base[at..end].iter().any(|byte| *byte != 0) {
            return true;
        }
        at = end + 1;
    }
    false
}

/// What a local read found.
#[derive(Debug)]
pub(crate) enum Local {
    /// The bytes, checked as far as they can be.
    Data(Bytes),
    /// Something must be fetched first.
    Missing,
    /// Not all of it is in the page cache.
    WouldBlock,
    /// This chunk is not what its checksum says.
    Corrupt(u64),
}

/// When a chunk that is read in part is held against its checksum, for which all of it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    /// Until it was once found right.
    Once,
    /// At every read.
    Always,
}

/// What to read and which chunks of it to check.
struct Plan {
    range: Range<u64>,
    check: Vec<u64>,
    open: bool,
    /// [`super::entry::Inner::drops`] then.
    drops: u64,
}

impl Entry {
    /// Reads `range`, which lies within the length. Whole chunks are always held against their checksum, parts of a
    /// chunk only until the chunk was once found right since this was loaded, unless `check` says [`Check::Always`].
    pub fn read_local(&self, range: Range<u64>, cached_only: bool, check: Check) -> IoResult<Local> {
        let length = self.length()?;
        let range = range.start.min(length)..range.end.min(length);
        if range.is_empty() {
            return Ok(Local::Data(Bytes::new()));
        }
        let mut last_bad = None;
        for _ in 0..READ_TRIES_MAX {
            let Some(plan) = self.plan(&range, length, check) else {
                return Ok(Local::Missing);
            };
            let want = (plan.range.end - plan.range.start) as usize;
            let Some(bytes) = io::read_at(&self.data, plan.range.start, want, cached_only)? else {
                return Ok(Local::WouldBlock);
            };
            let bad = if bytes.len() < want && !plan.open {
                Some(chunks_of(plan.range.start + bytes.len() as u64 + 1) - 1)
            } else {
                self.first_bad(&plan, &bytes, length)?
            };
            match bad {
                // Chunks were given up meanwhile, perhaps these: a hole was read for bytes that nobody holds against anything.
                None if self.inner.lock().drops != plan.drops => {}
                None => {
                    let bytes = Bytes::from(bytes);
                    let skip = (range.start - plan.range.start) as usize;
                    let end = (range.end - plan.range.start) as usize;
                    return Ok(Local::Data(bytes.slice(skip.min(bytes.len())..end.min(bytes.len()))));
                }
                // The same chunk twice with the same mark is no race.
                Some(chunk) if last_bad == Some(chunk) && self.inner.lock().checkable(chunk) => {
                    return Ok(Local::Corrupt(chunk));
                }
                Some(chunk) => last_bad = Some(chunk),
            }
        }
        Ok(Local::Corrupt(last_bad.unwrap_or(0)))
    }

    fn plan(&self, range: &Range<u64>, length: u64, check: Check) -> Option<Plan> {
        let inner = self.inner.lock();
        let (first, last) = (range.start / CHUNK_BYTES, (range.end - 1) / CHUNK_BYTES);
        if inner.first_missing(first..last + 1).is_some() {
            return None;
        }
        let unchecked = |chunk| inner.checkable(chunk) && (check == Check::Always || !inner.verified.get(chunk));
        let mut wide = range.clone();
        if unchecked(first) {
            wide.start = first * CHUNK_BYTES;
        }
        if unchecked(last) {
            wide.end = ((last + 1) * CHUNK_BYTES).min(length);
        }
        let covered =
            |chunk: u64| chunk * CHUNK_BYTES >= wide.start && ((chunk + 1) * CHUNK_BYTES).min(length) <= wide.end;
        let check = (first..=last)
            .filter(|chunk| inner.checkable(*chunk) && covered(*chunk))
            .collect();
        Some(Plan {
            range: wide,
            check,
            open: inner.label.open,
            drops: inner.drops,
        })
    }

    fn first_bad(&self, plan: &Plan, bytes: &[u8], length: u64) -> IoResult<Option<u64>> {
        let (Some(first), Some(last)) = (plan.check.first(), plan.check.last()) else {
            return Ok(None);
        };
        let marks = self.sidecar.marks(*first, last - first + 1)?;
        for chunk in &plan.check {
            let start = (chunk * CHUNK_BYTES - plan.range.start) as usize;
            let end = (((chunk + 1) * CHUNK_BYTES).min(length) - plan.range.start) as usize;
            let right = match marks[(chunk - first) as usize] {
                Mark::Clean(crc) | Mark::Local(crc) => bytes.get(start..end).is_some_and(|b| crc32c(b) == crc),
                // Written to since the plan was made: there is nothing to hold it against.
                Mark::Dirty | Mark::DirtyUnsynced => continue,
                Mark::Absent | Mark::Damaged | Mark::Going(_) => false,
            };
            if !right {
                return Ok(Some(*chunk));
            }
        }
        let mut inner = self.inner.lock();
        for chunk in &plan.check {
            if inner.checkable(*chunk) {
                inner.verified.set(*chunk);
            }
        }
        Ok(None)
    }

    /// Keeps fetched bytes for those chunks that are still absent; `offset` is a chunk's start, and `data` ends at a
    /// chunk's end or where the source ends. Returns how many bytes were kept; `None`: they are no longer wanted.
    pub fn fill(&self, epoch: u64, offset: u64, data: &[u8]) -> IoResult<Option<u64>> {
        let _content = self.content.lock();
        let length = self.length()?;
        // What is added is in the page cache only.
        self.change(Label::note_unsynced)?;
        // Nobody but us writes an open file of which no descriptor is out: what is fetched into it is no change of it. One that is longer
        // than its base has changed, and what is fetched of its last chunk counts as written.
        let is_as_long = length <= self.inner.lock().base_bytes();
        let before = match self.view().header.open && is_as_long && !self.writable_fd_out() {
            true => Some(io::stat(&self.data)?),
            false => None,
        };
        let kept = self.fill_runs(epoch, offset, data, length)?;
        if let Some(before) = before.filter(|_| kept.is_some_and(|bytes| bytes > 0)) {
            self.keep_times(&before)?;
        }
        Ok(kept)
    }

    /// Waits until what is being filled in is, with the times that belong to it: they are set after the bytes are there, and a
    /// descriptor that went out in between would have the times of its writes undone.
    pub fn wait_for_fills(&self) {
        drop(self.content.lock());
    }

    /// See [`Self::fill`]. The caller has the content.
    fn fill_runs(&self, epoch: u64, offset: u64, data: &[u8], length: u64) -> IoResult<Option<u64>> {
        let mut kept = 0;
        let mut at = 0;
        while at < data.len() {
            let first = (offset + at as u64) / CHUNK_BYTES;
            let (run, base_bytes) = {
                let inner = self.inner.lock();
                if inner.source_epoch != epoch || inner.label.is_dead() {
                    return Ok(None);
                }
                let chunks = chunks_of((data.len() - at) as u64);
                let run = (first..first + chunks).take_while(|chunk| !inner.has(*chunk)).count() as u64;
                (run, inner.label.open.then(|| inner.base_bytes()))
            };
            let run = match run > 0 && self.writable_fd_out() {
                true => self.first_with_data(first..first + run)?.unwrap_or(first + run) - first,
                false => run,
            };
            let span = ((run.max(1) * CHUNK_BYTES) as usize).min(data.len() - at);
            if run == 0 && !self.inner.lock().has(first) {
                self.merge_chunk(first, &data[at..at + span], base_bytes, length)?;
                kept += span as u64;
            }
            if run > 0 {
                self.fill_run(first, &data[at..at + span], base_bytes, length)?;
                kept += span as u64;
            }
            at += span;
        }
        Ok(Some(kept))
    }

    /// The first of absent chunks in whose place there are bytes all the same.
    fn first_with_data(&self, chunks: Range<u64>) -> IoResult<Option<u64>> {
        let start = chunks.start * CHUNK_BYTES;
        let data = io::next_data(&self.data, start)?.map(|(data, _)| data.max(start) / CHUNK_BYTES);
        Ok(data.filter(|chunk| *chunk < chunks.end))
    }

    /// Absent chunks in whose place there are bytes that are not known to be the base's: somebody wrote there past us, unannounced,
    /// or a crash came while they were fetched. With the base at hand [`Self::fill`] finds out.
    pub fn unannounced(&self) -> IoResult<Vec<u64>> {
        let _content = self.content.lock();
        self.unannounced_now()
    }

    /// As [`Self::unannounced`], for who has the content.
    pub(super) fn unannounced_now(&self) -> IoResult<Vec<u64>> {
        let size = io::stat(&self.data)?.size;
        let end = self.inner.lock().base_bytes().min(size);
        let (mut at, mut found) = (0, Vec::new());
        while at < end {
            let Some((start, until)) = io::next_data(&self.data, at)?.filter(|(start, _)| *start < end) else {
                break;
            };
            for chunk in start.max(at) / CHUNK_BYTES..chunks_of(until.min(end)) {
                if !self.inner.lock().has(chunk) && found.last() != Some(&chunk) && !self.is_going(chunk)? {
                    found.push(chunk);
                }
            }
            at = until;
        }
        Ok(found)
    }

    /// Whether what lies in the place of an absent chunk is what was to go from there.
    fn is_going(&self, chunk: u64) -> IoResult<bool> {
        let Mark::Going(crc) = self.sidecar.marks(chunk, 1)?[0] else {
            return Ok(false);
        };
        let bytes = io::read_at(&self.data, chunk * CHUNK_BYTES, CHUNK_BYTES as usize, false)?;
        Ok(bytes.is_some_and(|bytes| crc32c(&bytes) == crc))
    }

    /// Marks [`Self::unannounced`] chunks as damaged, because there is no base any more to hold them against. Answers which.
    pub fn damage_unannounced(&self) -> IoResult<Vec<u64>> {
        let _content = self.content.lock();
        let chunks = self.unannounced_now()?;
        self.mark_damaged(
            &chunks,
            "while nobody looked, and the object that it was made of is gone",
        )?;
        Ok(chunks)
    }

    /// Which of the bytes of chunks are ours nobody can say. The caller has the content.
    fn mark_damaged(&self, chunks: &[u64], how: &str) -> IoResult<()> {
        for &chunk in chunks {
            tracing::error!(
                inode = self.inode.get(),
                chunk,
                "a part of a file that is spilled was written {how}: it is damaged"
            );
            self.sidecar.set_marks(chunk, &[Mark::Damaged])?;
            let mut inner = self.inner.lock();
            inner.present.set(chunk);
            inner.dirty.clear(chunk);
            inner.verified.clear(chunk);
        }
        Ok(())
    }

    /// Keeps the fetched bytes of an absent chunk in whose place there are some already: those of a fetch that was cut short, or what
    /// somebody wrote there past us, unannounced. The latter stay as they are, block by block, and the base's come beside
    /// them. The caller has the content.
    fn merge_chunk(&self, chunk: u64, data: &[u8], base_bytes: Option<u64>, length: u64) -> IoResult<()> {
        let start = chunk * CHUNK_BYTES;
        let want = CHUNK_BYTES.min(length.saturating_sub(start)) as usize;
        let limit = base_bytes.unwrap_or(length).min(length).saturating_sub(start);
        let mut base = data[..data.len().min(usize::try_from(limit).unwrap_or(usize::MAX))].to_vec();
        base.resize(want, 0);
        let found = io::read_at(&self.data, start, want, false)?.filter(|found| found.len() == want);
        let Some(found) = found else { return Ok(()) };
        let (mut absent, mut is_ours) = (Vec::new(), false);
        for at in (0..want).step_by(BLOCK_BYTES) {
            let block = at..want.min(at + BLOCK_BYTES);
            let is_data =
                io::next_data(&self.data, start + at as u64)?.is_some_and(|(data, _)| data < start + block.end as u64);
            let (theirs, base) = (&found[block.clone()], &base[block.clone()]);
            if !is_data {
                absent.push(block);
            } else if theirs != base && is_mixed(theirs, base) {
                let how = "in a way that the kernel does not announce (a splice)";
                return self.mark_damaged(&[chunk], how);
            } else {
                is_ours |= theirs != base;
            }
        }
        if !is_ours {
            return self.fill_run(chunk, data, base_bytes, length);
        }
        let file = self.writer(false)?;
        for block in absent {
            file.write_all_at(&base[block.clone()], start + block.start as u64)?;
        }
        self.sidecar.set_marks(chunk, &[Mark::DirtyUnsynced])?;
        let mut inner = self.inner.lock();
        inner.present.set(chunk);
        inner.dirty.set(chunk);
        inner.verified.clear(chunk);
        Ok(())
    }

    /// `base_bytes`: of an open version, how much of the base shows through (it may have been cut since the fetch began).
    fn fill_run(&self, first: u64, data: &[u8], base_bytes: Option<u64>, length: u64) -> IoResult<()> {
        let start = first * CHUNK_BYTES;
        let limit = base_bytes.unwrap_or(length).min(length).saturating_sub(start);
        let data = &data[..data.len().min(usize::try_from(limit).unwrap_or(usize::MAX))];
        let chunks = chunks_of(data.len() as u64);
        if chunks == 0 {
            return Ok(());
        }
        let file = self.writer(false)?;
        file.write_all_at(data, start)?;
        // Beyond the source's end the version is zeros; also where an earlier, damaged fill left something else.
        let end = ((first + chunks) * CHUNK_BYTES).min(length);
        let padding = vec![0; (end - start) as usize - data.len()];
        file.write_all_at(&padding, start + data.len() as u64)?;
        let mut marks = Vec::with_capacity(chunks as usize);
        for (index, bytes) in data.chunks(CHUNK_BYTES as usize).enumerate() {
            let chunk_end = ((first + index as u64 + 1) * CHUNK_BYTES).min(length);
            marks.push(match base_bytes {
                // The end of an open version moves, and its last checksum with it.
                Some(base_bytes) if chunk_end > base_bytes => Mark::DirtyUnsynced,
                _ if padding.is_empty() || index as u64 + 1 < chunks => Mark::Clean(crc32c(bytes)),
                _ => Mark::Clean(crc32c(&[bytes, &padding].concat())),
            });
        }
        self.sidecar.set_marks(first, &marks)?;
        let mut inner = self.inner.lock();
        for (chunk, mark) in (first..).zip(&marks) {
            inner.present.set(chunk);
            match mark {
                Mark::DirtyUnsynced => inner.dirty.set(chunk),
                // What was just written is what was checksummed.
                _ => inner.verified.set(chunk),
            };
        }
        Ok(())
    }

    /// Forgets a damaged chunk, so that it is fetched again. False if nothing else has its bytes. True also if it is not
    /// damaged any more: somebody else has seen to it.
    pub fn forget_chunk(&self, chunk: u64) -> IoResult<bool> {
        let _content = self.content.lock();
        if !self.inner.lock().checkable(chunk) {
            return Ok(true);
        }
        let is_passed = {
            let inner = self.inner.lock();
            inner.label.open && inner.label.writable_fd_out()
        };
        let mark = self.sidecar.marks(chunk, 1)?[0];
        if let Mark::Clean(crc) | Mark::Local(crc) = mark {
            let start = chunk * CHUNK_BYTES;
            let want = self.length()?.saturating_sub(start).min(CHUNK_BYTES);
            let bytes = io::read_at(&self.data, start, want as usize, false)?;
            if bytes.is_some_and(|bytes| bytes.len() as u64 == want && crc32c(&bytes) == crc) {
                self.inner.lock().verified.set(chunk);
                return Ok(true);
            }
        }
        if is_passed && matches!(mark, Mark::Clean(_) | Mark::Local(_)) {
            // Somebody wrote it past us, unannounced: it is no damage.
            self.mark_dirty(chunk..chunk + 1, false)?;
            return Ok(true);
        }
        let mut inner = self.inner.lock();
        let committed_there = matches!(inner.label.state(), State::Cached { .. });
        let under = inner.label.base.is_some() && chunk * CHUNK_BYTES < inner.base_bytes();
        let elsewhere = committed_there || (under && matches!(mark, Mark::Clean(_)));
        if !elsewhere {
            return Ok(false);
        }
        if inner.label.holes {
            // From now on what has no mark is not here.
            drop(inner);
            self.change(Label::forget_holes)?;
            inner = self.inner.lock();
        }
        let is_here = inner.present.get(chunk) && !inner.dirty.get(chunk);
        drop(inner);
        if is_here {
            self.drop_chunks(std::slice::from_ref(&(chunk..chunk + 1)))?;
            self.punch_damaged(chunk);
        }
        Ok(true)
    }

    /// Writes into the open version. What the write covers in part is here already. Answers how much was written: as much as
    /// there is room for, below the largest offset that the file system has too; an error if that is nothing.
    pub fn write_local(&self, offset: u64, data: &[u8]) -> IoResult<u64> {
        let _content = self.content.lock();
        let size = io::stat(&self.data)?.size;
        self.begin_change(offset..offset + data.len() as u64, size)?;
        let written = io::write_at(&*self.writer(true)?, offset, data)?;
        self.end_change(offset..offset + written)?;
        Ok(written)
    }

    /// Writes at the end of the open version, wherever the kernel finds that: others may append past us. Answers where, and how
    /// much. The last chunk is here already, if there is one.
    pub fn append_local(&self, data: &[u8]) -> IoResult<(u64, u64)> {
        let _content = self.content.lock();
        let size = io::stat(&self.data)?.size;
        self.begin_change(size..size + data.len() as u64, size)?;
        let file = self.writer(true)?;
        let (offset, written) = io::append(&file, data)?;
        self.end_change(size.min(offset)..offset + written)?;
        Ok((offset, written))
    }

    /// Copies bytes of another local file, or of this one, into the open version. What the range covers in part is here
    /// already.
    pub fn copy_local(&self, offset: u64, from: &File, from_offset: u64, length: u64) -> IoResult<()> {
        let _content = self.content.lock();
        let size = io::stat(&self.data)?.size;
        let end = offset + length;
        self.begin_change(offset..end, size)?;
        io::copy_range(from, from_offset, &*self.writer(true)?, offset, length)?;
        self.end_change(offset..end)
    }

    /// Where data begins (or a hole) at or after `from`, which is within the length. Without `found`: nowhere.
    pub fn seek_local(&self, from: u64, hole: bool) -> IoResult<Option<u64>> {
        let length = self.length()?;
        let mut at = from;
        while at < length {
            let missing = self.missing(at / CHUNK_BYTES..chunks_of(length)).into_iter().next();
            let gap = missing.map_or(length..length, |run| {
                (run.start * CHUNK_BYTES).max(at)..(run.end * CHUNK_BYTES).min(length)
            });
            if at < gap.start {
                let data = io::next_data(&self.data, at)?;
                let (start, end) = data.map_or((gap.start, gap.start), |(start, end)| {
                    (start.min(gap.start), end.min(gap.start))
                });
                match hole {
                    true if at < start => return Ok(Some(at)),
                    true => at = end,
                    false if start < gap.start => return Ok(Some(start)),
                    false => at = gap.start,
                }
                continue;
            }
            // What is not here is data.
            if !hole && gap.start < gap.end {
                return Ok(Some(at));
            }
            at = gap.end;
        }
        // The end of the file is a hole.
        Ok(hole.then_some(length))
    }

    /// Whether every chunk of `range` that can be checked was.
    pub fn is_verified(&self, range: Range<u64>) -> bool {
        let inner = self.inner.lock();
        (range.start / CHUNK_BYTES..chunks_of(range.end))
            .all(|chunk| inner.has(chunk) && (!inner.checkable(chunk) || inner.verified.get(chunk)))
    }

    /// Cuts or extends the open version.
    pub fn set_length_local(&self, length: u64) -> IoResult<()> {
        let _content = self.content.lock();
        let size = io::stat(&self.data)?.size;
        let kept = chunks_of(length);
        if length < size {
            // What is cut off must not come back from the base when the file is extended again.
            let is_based = self.change(|label| label.cut_base(length))?;
            if is_based {
                // Before the marks go: without them, and with more of the base, that would come back instead of what is ours.
                self.sidecar.sync()?;
            }
            let partly = (!length.is_multiple_of(CHUNK_BYTES)).then(|| kept - 1);
            if let Some(chunk) = partly {
                self.mark_dirty(chunk..chunk + 1, false)?;
            }
            self.sidecar.cut_marks(kept)?;
            let mut inner = self.inner.lock();
            inner.present.clear_from(kept);
            inner.dirty.clear_from(kept);
            inner.verified.clear_from(kept);
        } else {
            self.begin_change(size..size, size)?;
        }
        self.writer(true)?.set_len(length)?;
        self.inner.lock().writes += 1;
        Ok(())
    }

    /// Empties the open version; nothing lies under it any more.
    pub fn truncate_local(&self, layout: &Layout) -> IoResult<()> {
        let _content = self.content.lock();
        let is_based = {
            let header = &self.inner.lock().label;
            header.base.is_some() && !header.whole
        };
        // First the bytes: with a header that says that nothing lies under it, and bytes of before, a cut of the power would
        // leave holes that pass for zeros.
        self.writer(true)?.set_len(0)?;
        let noted = match is_based && layout.notes_openings {
            true => self.note_opening(layout).and_then(|()| self.data.sync_all()),
            false => Ok(()),
        };
        self.change(Label::empty)?;
        let mut inner = self.inner.lock();
        inner.source_epoch += 1;
        inner.present.clear_all();
        inner.dirty.clear_all();
        inner.verified.clear_all();
        inner.writes += 1;
        drop(inner);
        noted?;
        if is_based && layout.notes_openings && !self.is_opening_noted() {
            // As in `set_length_local`.
            self.sidecar.sync()?;
        }
        self.sidecar.cut_marks(0)?;
        self.forget_failed_sync()
    }

    /// fallocate(2) in a mode that was checked. What the range covers in part is here already.
    pub fn allocate_local(&self, mode: i32, offset: u64, length: u64) -> IoResult<()> {
        let _content = self.content.lock();
        let size = io::stat(&self.data)?.size;
        let end = offset + length;
        let zeroing = mode & (libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_ZERO_RANGE) != 0;
        let grows = mode & libc::FALLOC_FL_KEEP_SIZE == 0 && end > size;
        if zeroing {
            // Nothing beyond the end changes if the end stays.
            let changed = offset..if grows { end } else { end.min(size) };
            if changed.is_empty() {
                // Only times move; where the file system cannot do it, there is nothing to do.
                return match io::allocate(&*self.writer(true)?, mode, offset, length) {
                    Err(error) if error.raw_os_error() != Some(libc::EOPNOTSUPP) => Err(error),
                    _ => {
                        self.inner.lock().writes += 1;
                        Ok(())
                    }
                };
            }
            self.begin_change(changed.clone(), size)?;
            match io::allocate(&*self.writer(true)?, mode, offset, length) {
                Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => self.write_zeros(changed.clone())?,
                other => other?,
            }
            self.end_change(changed)?;
        } else {
            if grows {
                self.begin_change(size..size, size)?;
            }
            self.allocate_room(mode, offset, length)?;
            self.inner.lock().writes += 1;
        }
        Ok(())
    }

    /// Allocates all of a range or changes nothing. A file system that runs out of room on the way keeps what it allocated until
    /// then, and lets the file grow by it.
    fn allocate_room(&self, mode: i32, offset: u64, length: u64) -> IoResult<()> {
        let before = io::stat(&self.data)?;
        let wanted = length.saturating_sub(before.disk_bytes);
        if wanted > io::free_bytes(&self.data)? {
            return Err(std::io::Error::from_raw_os_error(libc::ENOSPC));
        }
        let writer = self.writer(true)?;
        match io::allocate(&writer, mode | libc::FALLOC_FL_KEEP_SIZE, offset, length) {
            // Only the size changes by this: the room is there.
            Ok(()) if mode & libc::FALLOC_FL_KEEP_SIZE == 0 => io::allocate(&writer, mode, offset, length),
            Ok(()) => Ok(()),
            Err(error) => {
                drop(writer);
                self.surplus.store(true, Ordering::Relaxed);
                self.trim_content()?;
                Err(error)
            }
        }
    }

    /// Gives back what lies allocated behind the end after a failure; not while somebody else may be writing there.
    pub fn trim(&self) -> IoResult<()> {
        let _content = self.content.lock();
        self.trim_content()
    }

    /// The caller has the content.
    fn trim_content(&self) -> IoResult<()> {
        if !self.surplus.load(Ordering::Relaxed) || self.is_open_elsewhere_now() {
            return Ok(());
        }
        let stat = io::stat(&self.data)?;
        self.writer(false)?.set_len(stat.size)?;
        io::set_mtime(&self.data, stat.mtime_ns)?;
        self.surplus.store(false, Ordering::Relaxed);
        Ok(())
    }

    fn write_zeros(&self, range: Range<u64>) -> IoResult<()> {
        let zeros = vec![0; CHUNK_BYTES as usize];
        let mut at = range.start;
        while at < range.end {
            let n = (range.end - at).min(CHUNK_BYTES);
            self.writer(true)?.write_all_at(&zeros[..n as usize], at)?;
            at += n;
        }
        Ok(())
    }

    /// Before bytes of `range` change: their checksums, and that of a last chunk that grows, do not hold any more.
    fn begin_change(&self, range: Range<u64>, size: u64) -> IoResult<()> {
        let grows = range.end > size || range.is_empty();
        if grows && !size.is_multiple_of(CHUNK_BYTES) {
            self.mark_dirty(size / CHUNK_BYTES..size / CHUNK_BYTES + 1, false)?;
        }
        if !range.is_empty() {
            self.mark_dirty(range.start / CHUNK_BYTES..chunks_of(range.end), false)?;
        }
        Ok(())
    }

    /// Marks chunks dirty that are here; with `came` also those that were absent.
    pub(super) fn mark_dirty(&self, chunks: Range<u64>, came: bool) -> IoResult<()> {
        let (on_disk, is_passed) = {
            let mut inner = self.inner.lock();
            for chunk in chunks.clone() {
                if inner.present.get(chunk) {
                    inner.dirty.set(chunk);
                    inner.verified.clear(chunk);
                }
            }
            (!inner.label.whole, inner.label.passed)
        };
        if on_disk {
            let before = self.sidecar.marks(chunks.start, chunks.end - chunks.start)?;
            let dirty = |mark: &Mark| match *mark {
                Mark::Absent | Mark::Going(_) if !came => *mark,
                Mark::Absent | Mark::Going(_) | Mark::Clean(_) | Mark::DirtyUnsynced => Mark::DirtyUnsynced,
                // It survives as well, and what was sealed is being uploaded: without the checksum nobody could tell its bytes.
                Mark::Local(_) if is_passed => *mark,
                // Nothing under it is the same: it must survive a crash as it is.
                Mark::Local(_) | Mark::Dirty | Mark::Damaged => Mark::Dirty,
            };
            let after: Vec<Mark> = before.iter().map(dirty).collect();
            if after != before {
                self.sidecar.set_marks(chunks.start, &after)?;
            }
        }
        Ok(())
    }

    /// Before bytes of chunks change past this process, which are here: their checksums do not hold any more. Durably where the base
    /// would come back after a cut of the power: of a write that is to be on the disk when it returns (O_DSYNC) nobody hears.
    pub fn mark_announced(&self, chunks: Range<u64>) -> IoResult<()> {
        let _content = self.content.lock();
        self.mark_dirty(chunks.clone(), false)?;
        let end = {
            let inner = self.inner.lock();
            match inner.label.whole {
                true => 0,
                false => chunks_of(inner.base_bytes()).min(chunks.end),
            }
        };
        let marks = self.sidecar.marks(chunks.start, end.saturating_sub(chunks.start))?;
        if marks.contains(&Mark::DirtyUnsynced) {
            self.sync_data(false)?;
            for (chunk, mark) in (chunks.start..).zip(marks) {
                if mark == Mark::DirtyUnsynced {
                    self.sidecar.set_marks(chunk, &[Mark::Dirty])?;
                }
            }
            self.sync_sidecar()?;
        }
        let mut passed = self.passed.lock();
        chunks.for_each(|chunk| passed.note_announced(chunk));
        Ok(())
    }

    /// What of the base was changed past us, unannounced, in a chunk that is here is ours.
    fn mark_unannounced(&self, size: u64) -> IoResult<()> {
        let _content = self.content.lock();
        let end = self.inner.lock().base_bytes().min(size);
        let mut clean = Vec::new();
        self.sidecar.for_each(chunks_of(end), |chunk, mark| {
            if let Mark::Clean(crc) = mark {
                clean.push((chunk, crc));
            }
        })?;
        for (chunk, crc) in clean {
            let start = chunk * CHUNK_BYTES;
            let want = CHUNK_BYTES.min(size.saturating_sub(start)) as usize;
            let is_here = self.inner.lock().present.get(chunk);
            if is_here && io::read_at(&self.data, start, want, false)?.is_none_or(|bytes| crc32c(&bytes) != crc) {
                self.mark_dirty(chunk..chunk + 1, false)?;
            }
        }
        Ok(())
    }

    /// After bytes of `range` changed. Chunks that were absent count as here only now: a crash before this leaves the base
    /// under them, not the hole that they were.
    fn end_change(&self, range: Range<u64>) -> IoResult<()> {
        let chunks = range.start / CHUNK_BYTES..chunks_of(range.end);
        self.mark_dirty(chunks.clone(), true)?;
        let mut inner = self.inner.lock();
        inner.writes += 1;
        for chunk in chunks {
            inner.present.set(chunk);
            inner.dirty.set(chunk);
        }
        Ok(())
    }

    /// Makes what was written durable, marks included: what was dirty will survive a crash of the operating system.
    pub fn sync_open(&self, metadata: bool) -> IoResult<()> {
        let stat = io::stat(&self.data)?;
        let is_passed = self.inner.lock().label.passed;
        if is_passed {
            self.mark_unannounced(stat.size)?;
        }
        let dirty: Vec<u64> = {
            let inner = self.inner.lock();
            match inner.label.whole {
                true => Vec::new(),
                false => (0..chunks_of(stat.size))
                    .filter(|chunk| inner.dirty.get(*chunk))
                    .collect(),
            }
        };
        self.sync_data(metadata)?;
        {
            let _content = self.content.lock();
            for chunk in dirty {
                if self.sidecar.marks(chunk, 1)?[0] == Mark::DirtyUnsynced {
                    self.sidecar.set_marks(chunk, &[Mark::Dirty])?;
                }
            }
        }
        self.sync(&stat, false)
    }
}
