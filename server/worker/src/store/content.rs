//! Bytes of an entry: reading what is here, keeping what was fetched, changing an open version.

use super::entry::{Entry, chunks_of};
use super::sidecar::Mark;
use crate::io;
use alluxio_common::checksum::crc32c;
use alluxio_proto::CHUNK_BYTES;
use bytes::Bytes;
use std::fs::File;
use std::io::Result as IoResult;
use std::ops::Range;
use std::os::unix::fs::FileExt;

/// Tries of a read whose bytes were being changed; each failure means that a write came in between.
const READ_TRIES_MAX: usize = 16;

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
            open: inner.header.open,
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
                Mark::Absent | Mark::Damaged => false,
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
        self.change(|inner| inner.header.durable = false)?;
        let mut kept = 0;
        let mut at = 0;
        while at < data.len() {
            let first = (offset + at as u64) / CHUNK_BYTES;
            let (run, base_bytes) = {
                let inner = self.inner.lock();
                if inner.source_epoch != epoch || inner.dead {
                    return Ok(None);
                }
                let chunks = chunks_of((data.len() - at) as u64);
                let run = (first..first + chunks).take_while(|chunk| !inner.has(*chunk)).count() as u64;
                (run, inner.header.open.then(|| inner.base_bytes()))
            };
            let span = ((run.max(1) * CHUNK_BYTES) as usize).min(data.len() - at);
            if run > 0 {
                self.fill_run(first, &data[at..at + span], base_bytes, length)?;
                kept += span as u64;
            }
            at += span;
        }
        Ok(Some(kept))
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
        self.data.write_all_at(data, start)?;
        // Beyond the source's end the version is zeros; also where an earlier, damaged fill left something else.
        let end = ((first + chunks) * CHUNK_BYTES).min(length);
        let padding = vec![0; (end - start) as usize - data.len()];
        self.data.write_all_at(&padding, start + data.len() as u64)?;
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

    /// Forgets a damaged chunk, so that it is fetched again. False if nothing else has its bytes.
    pub fn forget_chunk(&self, chunk: u64) -> IoResult<bool> {
        let _content = self.content.lock();
        let mark = self.sidecar.marks(chunk, 1)?[0];
        let mut inner = self.inner.lock();
        let committed_there = !inner.header.open && inner.header.ufs.is_some();
        let under = inner.header.base.is_some() && chunk * CHUNK_BYTES < inner.base_bytes();
        let elsewhere = committed_there || (under && matches!(mark, Mark::Clean(_)));
        if !elsewhere {
            return Ok(false);
        }
        if inner.header.holes {
            // From now on what has no mark is not here.
            drop(inner);
            self.update(|header| header.holes = false)?;
            inner = self.inner.lock();
        }
        if inner.present.get(chunk) && !inner.dirty.get(chunk) {
            inner.present.clear(chunk);
            inner.verified.clear(chunk);
            self.sidecar.set_marks(chunk, &[Mark::Absent])?;
        }
        Ok(true)
    }

    /// Writes into the open version. What the write covers in part is here already. Answers how much was written: as much as
    /// there is room for, below the largest offset that the file system has too; an error if that is nothing.
    pub fn write_local(&self, offset: u64, data: &[u8]) -> IoResult<u64> {
        let _content = self.content.lock();
        let size = io::stat(&self.data)?.size;
        self.begin_change(offset..offset + data.len() as u64, size)?;
        let written = io::write_at(&self.data, offset, data)?;
        self.end_change(offset..offset + written)?;
        Ok(written)
    }

    /// Copies bytes of another local file, or of this one, into the open version. What the range covers in part is here
    /// already.
    pub fn copy_local(&self, offset: u64, from: &File, from_offset: u64, length: u64) -> IoResult<()> {
        let _content = self.content.lock();
        let size = io::stat(&self.data)?.size;
        let end = offset + length;
        self.begin_change(offset..end, size)?;
        io::copy_range(from, from_offset, &self.data, offset, length)?;
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
            self.change(|inner| {
                if let Some(base) = &mut inner.header.base {
                    base.bytes = base.bytes.min(length);
                }
            })?;
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
        self.data.set_len(length)?;
        self.inner.lock().writes += 1;
        Ok(())
    }

    /// Empties the open version; nothing lies under it any more.
    pub fn truncate_local(&self) -> IoResult<()> {
        let _content = self.content.lock();
        self.change(|inner| {
            inner.header.whole = true;
            inner.header.base = None;
            inner.source_epoch += 1;
            inner.present.clear_all();
            inner.dirty.clear_all();
            inner.verified.clear_all();
            inner.writes += 1;
        })?;
        self.sidecar.cut_marks(0)?;
        self.data.set_len(0)
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
                return match io::allocate(&self.data, mode, offset, length) {
                    Err(error) if error.raw_os_error() != Some(libc::EOPNOTSUPP) => Err(error),
                    _ => {
                        self.inner.lock().writes += 1;
                        Ok(())
                    }
                };
            }
            self.begin_change(changed.clone(), size)?;
            match io::allocate(&self.data, mode, offset, length) {
                Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => self.write_zeros(changed.clone())?,
                other => other?,
            }
            self.end_change(changed)?;
        } else {
            if grows {
                self.begin_change(size..size, size)?;
            }
            io::allocate(&self.data, mode, offset, length)?;
            self.inner.lock().writes += 1;
        }
        Ok(())
    }

    fn write_zeros(&self, range: Range<u64>) -> IoResult<()> {
        let zeros = vec![0; CHUNK_BYTES as usize];
        let mut at = range.start;
        while at < range.end {
            let n = (range.end - at).min(CHUNK_BYTES);
            self.data.write_all_at(&zeros[..n as usize], at)?;
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
    fn mark_dirty(&self, chunks: Range<u64>, came: bool) -> IoResult<()> {
        let on_disk = {
            let mut inner = self.inner.lock();
            for chunk in chunks.clone() {
                if inner.present.get(chunk) {
                    inner.dirty.set(chunk);
                    inner.verified.clear(chunk);
                }
            }
            !inner.header.whole
        };
        if on_disk {
            let before = self.sidecar.marks(chunks.start, chunks.end - chunks.start)?;
            let dirty = |mark: &Mark| match *mark {
                Mark::Absent if !came => Mark::Absent,
                Mark::Absent | Mark::Clean(_) | Mark::DirtyUnsynced => Mark::DirtyUnsynced,
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
        let dirty: Vec<u64> = {
            let inner = self.inner.lock();
            match inner.header.whole {
                true => Vec::new(),
                false => (0..chunks_of(stat.size))
                    .filter(|chunk| inner.dirty.get(*chunk))
                    .collect(),
            }
        };
        match metadata {
            true => self.data.sync_all()?,
            false => self.data.sync_data()?,
        }
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
