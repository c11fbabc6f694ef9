//! Bringing the checksums of an open version up to date, and holding its content against them.

use super::bitmap::Bitmap;
use super::entry::{Entry, chunks_of};
use super::sidecar::Mark;
use crate::io::{self, FileStat};
use alluxio_common::checksum::crc32c;
use alluxio_proto::CHUNK_BYTES;
use std::io::Result as IoResult;
use std::ops::Range;
use std::sync::LazyLock;

/// Bytes read at once for checksums.
const READ_BYTES: u64 = 1024 * 1024;
/// Files with so much of holes have no marks for them: these would be 8 bytes for each chunk of nothing.
const HOLES_BYTES_MIN: u64 = 64 << 30;
/// Less than this is not worth another thread.
const PARALLEL_BYTES_MIN: u64 = 16 * 1024 * 1024;
/// More threads than this fight for the disk and for memory.
const THREADS_MAX: usize = 4;
/// Checksum of a chunk of zeros: of a hole.
static ZERO_CHUNK_CRC: LazyLock<u32> = LazyLock::new(|| crc32c(&[0; CHUNK_BYTES as usize]));

impl Entry {
    /// Whether the content of an open version that is all here is another one than its checksums say: for when its times prove
    /// nothing. Blocks, for as long as it takes to read it.
    pub fn differs_from_marks(&self) -> IoResult<bool> {
        let size = io::stat(&self.data)?.size;
        let holes = {
            let inner = self.inner.lock();
            if inner.label.sealed.as_ref().is_none_or(|sealed| sealed.length != size) {
                return Ok(true);
            }
            inner.label.holes
        };
        let mut at = 0;
        while at < size {
            // What is a hole was stored to by nobody.
            let Some((data, _)) = io::next_data(&self.data, at)? else {
                break;
            };
            at = data.max(at) / CHUNK_BYTES * CHUNK_BYTES;
            let end = size.min(at + READ_BYTES);
            let Some(bytes) = io::read_at(&self.data, at, (end.saturating_sub(at)) as usize, false)? else {
                continue;
            };
            let marks = self.sidecar.marks(at / CHUNK_BYTES, chunks_of(end - at))?;
            let is_same = |(chunk, mark): (&[u8], &Mark)| match mark {
                Mark::Clean(crc) | Mark::Local(crc) => crc32c(chunk) == *crc,
                Mark::Absent => holes && chunk.iter().all(|byte| *byte == 0),
                Mark::Dirty | Mark::DirtyUnsynced | Mark::Damaged | Mark::Going(_) => false,
            };
            let is_whole = bytes.len() as u64 == end - at;
            if !is_whole || !bytes.chunks(CHUNK_BYTES as usize).zip(&marks).all(is_same) {
                return Ok(true);
            }
            at = end;
        }
        Ok(false)
    }

    /// Brings the checksums of all that changed up to date. Blocks, for as long as it takes to read that. Answers whether
    /// chunks without a mark are holes from now on.
    ///
    /// # Errors
    /// EBUSY: there are [`Self::unannounced`] chunks. Whose bytes these are is known once the base is at hand.
    pub fn checksum_changes(&self, stat: &FileStat) -> IoResult<bool> {
        let (size, count) = (stat.size, chunks_of(stat.size));
        let holes = stat.size.saturating_sub(stat.disk_bytes) >= HOLES_BYTES_MIN && self.inner.lock().label.whole;
        let data = if holes { Some(self.data_runs(size)?) } else { None };
        // Written past us, and known of in the main: what is not is found out here.
        let is_passed = {
            let inner = self.inner.lock();
            inner.label.writable_fd_out() && !inner.label.whole
        };
        let damaged = match is_passed {
            true => self.damaged(count)?,
            false => Bitmap::default(),
        };
        let stale: Vec<Range<u64>> = {
            let mut inner = self.inner.lock();
            inner.label.begin_sums();
            let all = inner.label.writable_fd_out();
            if let Some(data) = &data {
                let is_stale = |chunk: &u64| all || inner.dirty.get(*chunk) || !inner.present.get(*chunk);
                runs(data.iter().cloned().flatten().filter(is_stale))
            } else if is_passed {
                runs((0..count).filter(|chunk| inner.has(*chunk) && !damaged.get(*chunk)))
            } else if all {
                std::iter::once(0..count).collect()
            } else {
                let stale = |chunk: &u64| match inner.present.get(*chunk) {
                    true => inner.dirty.get(*chunk),
                    false => inner.has(*chunk),
                };
                runs((0..count).filter(stale))
            }
        };
        let total: u64 = stale.iter().map(|run| run.end - run.start).sum();
        let threads = if total * CHUNK_BYTES < PARALLEL_BYTES_MIN {
            1
        } else {
            // Asks the kernel for quotas and masks: ten system calls, too many for a small file.
            std::thread::available_parallelism()
                .map_or(1, usize::from)
                .min(THREADS_MAX) as u64
        };
        if threads == 1 {
            for run in &stale {
                self.checksum_run(run.clone(), size, is_passed)?;
            }
        } else {
            let share = total.div_ceil(threads);
            std::thread::scope(|scope| {
                let parts: Vec<_> = split(&stale, share)
                    .into_iter()
                    .map(|part| {
                        scope.spawn(move || {
                            part.into_iter()
                                .try_for_each(|run| self.checksum_run(run, size, is_passed))
                        })
                    })
                    .collect();
                parts.into_iter().try_for_each(|part| {
                    part.join()
                        .unwrap_or_else(|_| Err(std::io::Error::other("a checksum thread panicked")))
                })
            })?;
        }
        let _content = self.content.lock();
        self.sidecar.cut_marks(count)?;
        if let Some(data) = &data {
            self.forget_marks_but(data)?;
        }
        let mut inner = self.inner.lock();
        inner.present.clear_from(count);
        inner.dirty.clear_from(count);
        inner.verified.clear_from(count);
        for chunk in stale.into_iter().flatten() {
            inner.present.set(chunk);
            inner.dirty.clear(chunk);
            // Its checksum was taken by this process.
            inner.verified.set(chunk);
        }
        Ok(holes)
    }

    /// Chunks whose bytes are those of nobody.
    fn damaged(&self, count: u64) -> IoResult<Bitmap> {
        let _content = self.content.lock();
        if !self.unannounced_now()?.is_empty() {
            return Err(std::io::Error::from_raw_os_error(libc::EBUSY));
        }
        let mut damaged = Bitmap::default();
        self.sidecar.for_each(count, |chunk, mark| {
            if mark == Mark::Damaged {
                damaged.set(chunk);
            }
        })?;
        Ok(damaged)
    }

    /// Runs of chunks that are not holes through and through.
    fn data_runs(&self, size: u64) -> IoResult<Vec<Range<u64>>> {
        let mut runs: Vec<Range<u64>> = Vec::new();
        let mut at = 0;
        while let Some((start, end)) = io::next_data(&self.data, at)?.filter(|(start, _)| *start < size) {
            let run = start / CHUNK_BYTES..chunks_of(end.min(size));
            match runs.last_mut() {
                Some(last) if run.start <= last.end => last.end = last.end.max(run.end),
                _ => runs.push(run),
            }
            at = end;
        }
        Ok(runs)
    }

    /// What is a hole by now has no marks. The caller has the content.
    fn forget_marks_but(&self, data: &[Range<u64>]) -> IoResult<()> {
        let is_data = |chunk: &u64| {
            let after = data.partition_point(|run| run.end <= *chunk);
            data.get(after).is_some_and(|run| run.contains(chunk))
        };
        let gone: Vec<u64> = {
            let inner = self.inner.lock();
            inner.present.all().filter(|chunk| !is_data(chunk)).collect()
        };
        for chunk in &gone {
            self.sidecar.set_marks(*chunk, &[Mark::Absent])?;
        }
        let mut inner = self.inner.lock();
        for chunk in gone {
            inner.present.clear(chunk);
            inner.dirty.clear(chunk);
            inner.verified.clear(chunk);
        }
        Ok(())
    }

    fn checksum_run(&self, run: Range<u64>, size: u64, is_passed: bool) -> IoResult<()> {
        let mut at = run.start * CHUNK_BYTES;
        let end = (run.end * CHUNK_BYTES).min(size);
        while at < end {
            let data = io::next_data(&self.data, at)?.map_or(end, |(start, _)| start).min(end);
            // Whole chunks of a hole need not be read.
            let hole_end = if data == end { end } else { data - data % CHUNK_BYTES };
            while at < hole_end {
                let next = hole_end.min(at + READ_BYTES * 64);
                self.sidecar.set_marks(at / CHUNK_BYTES, &zero_marks(at..next))?;
                at = next;
            }
            if at >= end {
                break;
            }
            let next = end.min(at + READ_BYTES);
            let Some(bytes) = io::read_at(&self.data, at, (next - at) as usize, false)? else {
                continue;
            };
            if (bytes.len() as u64) < next - at {
                // Cut meanwhile; who seals looks at the length again.
                return Ok(());
            }
            let mut marks: Vec<Mark> = bytes
                .chunks(CHUNK_BYTES as usize)
                .map(|chunk| Mark::Local(crc32c(chunk)))
                .collect();
            if is_passed {
                // What is still the base's.
                let before = self.sidecar.marks(at / CHUNK_BYTES, marks.len() as u64)?;
                for (mark, before) in marks.iter_mut().zip(before) {
                    if matches!((*mark, before), (Mark::Local(now), Mark::Clean(then)) if now == then) {
                        *mark = before;
                    }
                }
            }
            self.sidecar.set_marks(at / CHUNK_BYTES, &marks)?;
            at = next;
        }
        Ok(())
    }
}

fn zero_marks(range: Range<u64>) -> Vec<Mark> {
    let mut marks = vec![Mark::Local(*ZERO_CHUNK_CRC); chunks_of(range.end - range.start) as usize];
    let rest = (range.end % CHUNK_BYTES) as usize;
    if rest != 0
        && let Some(last) = marks.last_mut()
    {
        *last = Mark::Local(crc32c(&vec![0; rest]));
    }
    marks
}

fn runs(chunks: impl Iterator<Item = u64>) -> Vec<Range<u64>> {
    let mut runs: Vec<Range<u64>> = Vec::new();
    for chunk in chunks {
        match runs.last_mut() {
            Some(run) if run.end == chunk => run.end += 1,
            _ => runs.push(chunk..chunk + 1),
        }
    }
    runs
}

/// Cuts runs into parts of about `share` chunks.
fn split(runs: &[Range<u64>], share: u64) -> Vec<Vec<Range<u64>>> {
    let mut parts = vec![Vec::new()];
    let mut room = share;
    for run in runs {
        let mut at = run.start;
        while at < run.end {
            if room == 0 {
                parts.push(Vec::new());
                room = share;
            }
            let end = run.end.min(at + room);
            if let Some(part) = parts.last_mut() {
                part.push(at..end);
            }
            room -= end - at;
            at = end;
        }
    }
    parts
}
