//! From open to committed and back: labels, stamps and checksums of an entry.

use super::entry::{Entry, Stamp, chunks_of};
use super::sidecar::{Base, Header, Mark, Sealed};
use crate::io::{self, FileStat};
use alluxio_common::checksum::crc32c;
use alluxio_proto::CHUNK_BYTES;
use alluxio_proto::types::UfsSource;
use std::io::Result as IoResult;
use std::ops::Range;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Bytes read at once for checksums.
const READ_BYTES: u64 = 1024 * 1024;
/// Files with so much of holes have no marks for them: these would be 8 bytes for each chunk of nothing.
const HOLES_BYTES_MIN: u64 = 64 << 30;
/// Less than this is not worth another thread.
const PARALLEL_BYTES_MIN: u64 = 16 * 1024 * 1024;
/// More threads than this fight for the disk and for memory.
const THREADS_MAX: usize = 4;
/// Timer ticks are 10 ms at most; a time this old has moved on if anything was written since.
const COARSE_TIME: Duration = Duration::from_millis(20);
/// Checksum of a chunk of zeros: of a hole.
static ZERO_CHUNK_CRC: LazyLock<u32> = LazyLock::new(|| crc32c(&[0; CHUNK_BYTES as usize]));

impl Entry {
    /// Labels the content as the open version `version`. `stamp`: it was committed until now and this is what it looks
    /// like. `whole`: it is complete, and need not know what of it changes.
    pub fn begin_open(&self, whole: bool, stamp: Option<Stamp>, version: u64) -> IoResult<()> {
        self.change(|inner| {
            let header = &mut inner.header;
            if let Some(stamp) = stamp {
                let base = match (&header.ufs, header.base.take()) {
                    _ if whole => None,
                    (Some(ufs), _) => Some(Base {
                        bytes: header.length,
                        ufs: Some(ufs.clone()),
                        version: header.version,
                    }),
                    (None, base) => base,
                };
                header.sealed = Some(Sealed {
                    version: header.version,
                    length: header.length,
                    mtime_ns: header.mtime_ns,
                    ufs: header.ufs.take(),
                    stamp_size: stamp.size,
                    stamp_mtime_ns: stamp.mtime_ns,
                    stamp_ctime_ns: stamp.ctime_ns,
                    base_bytes: base.as_ref().map(|base| base.bytes),
                });
                header.whole = whole;
                header.base = base;
                inner.stamp = Some(stamp);
                inner.writable_fd_out = false;
            }
            header.open = true;
            header.closed_empty = false;
            header.version = version;
            header.open_since = version;
        })
    }

    /// Notes that the open version, which is new, was closed while it was empty.
    pub fn mark_closed_empty(&self) -> IoResult<()> {
        self.change(|inner| inner.header.closed_empty = true)
    }

    /// Takes note of committed content under an open version.
    pub fn set_sealed(&self, sealed: Sealed, writes: u64) -> IoResult<()> {
        self.change(|inner| {
            inner.stamp = Some(Stamp {
                size: sealed.stamp_size,
                mtime_ns: sealed.stamp_mtime_ns,
                ctime_ns: sealed.stamp_ctime_ns,
                writes,
            });
            inner.header.sealed = Some(sealed);
        })
    }

    /// Whether the open version may differ from what was last sealed. Where times are coarse, a stamp that was made within
    /// a tick of the last write proves nothing, and counts as changed.
    pub fn changed_since_seal(&self, stat: &FileStat, fine_times: bool) -> bool {
        let inner = self.inner.lock();
        let now = Stamp {
            size: stat.size,
            mtime_ns: stat.mtime_ns,
            ctime_ns: stat.ctime_ns,
            writes: inner.writes,
        };
        inner.header.open && (inner.stamp != Some(now) || (!fine_times && inner.writable_fd_out && is_fresh(stat)))
    }

    /// Brings the checksums of all that changed up to date. Blocks, for as long as it takes to read that. Answers whether
    /// chunks without a mark are holes from now on.
    pub fn checksum_changes(&self, stat: &FileStat) -> IoResult<bool> {
        let (size, count) = (stat.size, chunks_of(stat.size));
        let holes = stat.size.saturating_sub(stat.disk_bytes) >= HOLES_BYTES_MIN && self.inner.lock().header.whole;
        let data = if holes { Some(self.data_runs(size)?) } else { None };
        let stale: Vec<Range<u64>> = {
            let mut inner = self.inner.lock();
            inner.marks_are_sealed = false;
            let all = inner.writable_fd_out;
            if let Some(data) = &data {
                let is_stale = |chunk: &u64| all || inner.dirty.get(*chunk) || !inner.present.get(*chunk);
                runs(data.iter().cloned().flatten().filter(is_stale))
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
                self.checksum_run(run.clone(), size)?;
            }
        } else {
            let share = total.div_ceil(threads);
            std::thread::scope(|scope| {
                let parts: Vec<_> = split(&stale, share)
                    .into_iter()
                    .map(|part| scope.spawn(move || part.into_iter().try_for_each(|run| self.checksum_run(run, size))))
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
            inner.verified.clear(chunk);
        }
        Ok(holes)
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

    fn checksum_run(&self, run: Range<u64>, size: u64) -> IoResult<()> {
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
            let marks: Vec<Mark> = bytes
                .chunks(CHUNK_BYTES as usize)
                .map(|chunk| Mark::Local(crc32c(chunk)))
                .collect();
            self.sidecar.set_marks(at / CHUNK_BYTES, &marks)?;
            at = next;
        }
        Ok(())
    }

    /// Labels the checksummed content of `stat` as committed `version`; it stays open as `next`, or not (0). What is in no
    /// under-storage is pinned by that.
    /// `holes`: as [`Self::checksum_changes`] answered.
    pub fn label_sealed(&self, version: u64, next: u64, stat: &FileStat, holes: bool, boot_id: &str) -> IoResult<()> {
        self.change(|inner| {
            let header = &mut inner.header;
            header.holes = holes;
            inner.content_epoch += 1;
            inner.marks_are_sealed = true;
            boot_id.clone_into(&mut header.boot_id);
            header.durable = false;
            if next == 0 {
                header.open = false;
                header.open_since = 0;
                header.version = version;
                header.length = stat.size;
                header.mtime_ns = stat.mtime_ns;
                header.sealed = None;
                header.ufs = None;
                inner.writable_fd_out = false;
            } else {
                header.version = next;
                header.sealed = Some(Sealed {
                    version,
                    length: stat.size,
                    mtime_ns: stat.mtime_ns,
                    ufs: None,
                    stamp_size: stat.size,
                    stamp_mtime_ns: stat.mtime_ns,
                    stamp_ctime_ns: stat.ctime_ns,
                    base_bytes: header.base.as_ref().map(|base| base.bytes),
                });
            }
            inner.stamp = Some(Stamp {
                size: stat.size,
                mtime_ns: stat.mtime_ns,
                ctime_ns: stat.ctime_ns,
                writes: inner.writes,
            });
        })
    }

    /// What was sealed is on disk.
    pub fn label_durable(&self) -> IoResult<()> {
        self.update(|header| header.durable = !header.open)
    }

    /// An unchanged open version becomes what it was before. False: it was nothing before.
    pub fn restore_sealed(&self) -> IoResult<bool> {
        self.change(|inner| {
            let header = &mut inner.header;
            let Some(sealed) = header.sealed.take() else {
                return false;
            };
            header.open = false;
            header.open_since = 0;
            header.version = sealed.version;
            header.length = sealed.length;
            header.mtime_ns = sealed.mtime_ns;
            header.ufs = sealed.ufs;
            header.durable = false;
            inner.writable_fd_out = false;
            true
        })
    }

    /// Version `version` is in the under-storage now. False: it is not what this entry holds any more.
    pub fn label_persisted(&self, version: u64, epoch: u64, ufs: UfsSource) -> IoResult<bool> {
        let _content = self.content.lock();
        self.change(|inner| {
            let is_same = inner.content_epoch == epoch && !inner.dead;
            let header = &mut inner.header;
            match (header.open, &mut header.sealed) {
                (false, _) if is_same && header.version == version => {
                    header.ufs = Some(ufs);
                    header.base = None;
                    true
                }
                (true, Some(sealed)) if is_same && sealed.version == version => {
                    // The object that lay under absent chunks is replaced by one with the same bytes there.
                    if let Some(base) = &mut header.base {
                        base.ufs = Some(ufs.clone());
                        base.version = version;
                    }
                    sealed.ufs = Some(ufs);
                    true
                }
                _ => {
                    rebase(header, version, ufs);
                    false
                }
            }
        })
    }

    /// The object of `version`, which lies between the base and what is here, took the base's place. False: it does not lie
    /// between them.
    pub fn rebase_on(&self, version: u64, ufs: UfsSource) -> IoResult<bool> {
        let _content = self.content.lock();
        self.change(|inner| rebase(&mut inner.header, version, ufs))
    }

    /// What was ours in the version sealed last, and was not changed since, is the under-storage's too once that version is
    /// there: clean, if it is the base from now on. The caller has the turn.
    pub fn rebase_marks(&self) -> IoResult<()> {
        let _content = self.content.lock();
        let is_based = {
            let inner = self.inner.lock();
            let header = &inner.header;
            match (header.open, &header.sealed, &header.base) {
                (false, _, _) => header.ufs.is_some(),
                (true, Some(sealed), Some(base)) => {
                    let there = sealed.ufs.is_some() && base.version == sealed.version;
                    // After a crash in the middle of a seal some are already of the version that was to be sealed.
                    there && !header.whole && inner.marks_are_sealed
                }
                _ => false,
            }
        };
        if !is_based {
            return Ok(());
        }
        let count = chunks_of(self.length()?);
        let mut ours: Vec<(u64, u32)> = Vec::new();
        self.sidecar.for_each(count, |chunk, mark| {
            if let Mark::Local(crc) = mark {
                ours.push((chunk, crc));
            }
        })?;
        if ours.is_empty() {
            return Ok(());
        }
        // First the header that names the base: over an older one these would be other bytes.
        self.sidecar.sync()?;
        for run in ours.chunk_by(|a, b| a.0 + 1 == b.0) {
            let marks: Vec<Mark> = run.iter().map(|(_, crc)| Mark::Clean(*crc)).collect();
            self.sidecar.set_marks(run[0].0, &marks)?;
        }
        Ok(())
    }

    /// Ranges of the content sealed last, `length` bytes, that are those of its base: chunks that never were local, and
    /// those that were only read. `None`: it has no base.
    pub fn clean_ranges(&self, length: u64) -> IoResult<Option<Vec<Range<u64>>>> {
        let _content = self.content.lock();
        let base_bytes = {
            let inner = self.inner.lock();
            let header = &inner.header;
            let Some(base) = header.base.as_ref().filter(|_| !(header.open && header.whole)) else {
                return Ok(None);
            };
            // What an open version cut off, and what it wrote there since, has lost its marks.
            base.bytes.min(length)
        };
        let count = chunks_of(base_bytes);
        let mut clean: Vec<Range<u64>> = Vec::new();
        let mut at = 0;
        let mut add = |from: u64, to: u64| {
            if from < to {
                clean.push(from * CHUNK_BYTES..(to * CHUNK_BYTES).min(base_bytes));
            }
        };
        self.sidecar.for_each(count, |chunk, mark| {
            if !matches!(mark, Mark::Clean(_)) {
                add(at, chunk);
                at = chunk + 1;
            }
        })?;
        add(at, count);
        Ok(Some(clean))
    }

    /// Checks of content `epoch`: bytes of `range` with every chunk right, or `None` if it changed or is damaged.
    pub fn read_sealed(&self, range: Range<u64>, length: u64) -> IoResult<Option<Vec<u8>>> {
        let (first, last) = (range.start / CHUNK_BYTES, (range.end - 1) / CHUNK_BYTES);
        let start = first * CHUNK_BYTES;
        let end = ((last + 1) * CHUNK_BYTES).min(length);
        let marks = self.sidecar.marks(first, last - first + 1)?;
        let holes = self.inner.lock().header.holes;
        let Some(mut bytes) = io::read_at(&self.data, start, (end - start) as usize, false)? else {
            return Ok(None);
        };
        let right = bytes.len() as u64 == end - start
            && bytes
                .chunks(CHUNK_BYTES as usize)
                .zip(&marks)
                .all(|(chunk, mark)| match mark {
                    Mark::Clean(crc) | Mark::Local(crc) => crc32c(chunk) == *crc,
                    Mark::Absent => holes && chunk.iter().all(|byte| *byte == 0),
                    _ => false,
                });
        if !right {
            return Ok(None);
        }
        bytes.truncate((range.end - start) as usize);
        bytes.drain(..(range.start - start) as usize);
        Ok(Some(bytes))
    }

    /// Marks of chunks, to compare with what is in the under-storage.
    pub fn marks(&self, first: u64, count: u64) -> IoResult<Vec<Mark>> {
        self.sidecar.marks(first, count)
    }
}

/// Makes a version between the base and what is here the base. Versions between the two were all made here, one out of the
/// other, so what never changed since the base is the same in each of them.
fn rebase(header: &mut Header, version: u64, ufs: UfsSource) -> bool {
    let until = header.version;
    match &mut header.base {
        Some(base) if base.version != 0 && base.version < version && version < until => {
            base.ufs = Some(ufs);
            base.version = version;
            true
        }
        _ => false,
    }
}

fn is_fresh(stat: &FileStat) -> bool {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos() as i64);
    now.saturating_sub(stat.ctime_ns) < COARSE_TIME.as_nanos() as i64
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
