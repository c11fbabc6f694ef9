//! From open to committed and back: labels, stamps and checksums of an entry.

use super::entry::{Entry, chunks_of};
use super::label::Label;
use super::sidecar::{Mark, Sealed};
use super::state::{Stamp, View};
use crate::io::{self, FileStat};
use alluxio_common::checksum::crc32c;
use alluxio_proto::CHUNK_BYTES;
use alluxio_proto::types::UfsSource;
use std::io::Result as IoResult;
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Timer ticks are 10 ms at most; a time this old has moved on if anything was written since.
const COARSE_TIME: Duration = Duration::from_millis(20);

impl Entry {
    /// Labels the content as the open version `version`. `stamp`: it was committed until now and this is what it looks
    /// like. `whole`: it is complete, and need not know what of it changes. `boot_id` is this boot's.
    pub fn begin_open(&self, whole: bool, stamp: Option<Stamp>, version: u64, boot_id: &str) -> IoResult<()> {
        let Some(stamp) = stamp else {
            self.change(|label| label.open_again(version))?;
            self.is_forsaken.store(false, Ordering::Relaxed);
            return Ok(());
        };
        self.change(|label| label.open(whole, stamp, version, boot_id))?;
        self.crossed_boot.store(false, Ordering::Relaxed);
        self.is_opening_noted.store(false, Ordering::Release);
        Ok(())
    }

    /// Notes that the open version, which is new, was closed while it was empty.
    pub fn mark_closed_empty(&self) -> IoResult<()> {
        self.change(Label::close_empty)
    }

    /// Takes note of committed content under an open version.
    pub fn set_sealed(&self, sealed: Sealed, writes: u64) -> IoResult<()> {
        self.change(|label| label.note_sealed(sealed, writes))
    }

    /// Takes note that the under-storage has the committed version `version`. False: that is not what is here by now.
    pub fn set_found(&self, version: u64, ufs: UfsSource) -> IoResult<bool> {
        self.change(|label| label.found_in_store(version, ufs))
    }

    /// Somebody has looked at what a crash of the operating system left of it.
    pub fn settle_doubt(&self) -> IoResult<()> {
        self.change(Label::settle_doubt)
    }

    /// Whether the open version may differ from what was last sealed. Where times are coarse, a stamp that was made within
    /// a tick of the last write proves nothing, and counts as changed.
    pub fn changed_since_seal(&self, stat: &FileStat, fine_times: bool) -> bool {
        let inner = self.inner.lock();
        let (label, now) = (&inner.label, Stamp::of(stat, inner.writes));
        label.open && (label.stamp() != Some(now) || (!fine_times && label.writable_fd_out() && is_recent(stat)))
    }

    /// Labels the checksummed content of `stat` as committed `version`; it stays open as `next`, or not (0). What is in no
    /// under-storage is pinned by that.
    /// `holes`: as [`Self::checksum_changes`] answered.
    pub fn label_sealed(&self, version: u64, next: u64, stat: &FileStat, holes: bool, boot_id: &str) -> IoResult<()> {
        let stamp = Stamp::of(stat, self.inner.lock().writes);
        self.change(|label| match next {
            0 => label.seal(version, stamp, holes, boot_id),
            next => label.commit(version, next, stamp, holes, boot_id),
        })
    }

    /// What was sealed is on disk.
    pub fn label_durable(&self) -> IoResult<()> {
        self.change(Label::note_durable)
    }

    /// An unchanged open version becomes what it was before. False: it was nothing before.
    pub fn restore_sealed(&self) -> IoResult<bool> {
        self.change(Label::give_back)
    }

    /// After a crash of the operating system, of what was open as `version` then: header, checksums and bytes reached the disk
    /// in any order. A header of before the opening, or of before a seal that kept it open, is of this version all the same,
    /// because its bytes may be here; only what lies in the under-storage as it was goes on as that. No checksum of our own
    /// bytes holds until it is made again, and a seal that was not synced may never have been made.
    pub fn distrust_open(&self, version: u64) -> IoResult<()> {
        let View { header, dead, .. } = self.view();
        let is_sealed = header.version == version && header.durable;
        let is_kept = !header.open && (header.ufs.is_some() || is_sealed || self.is_as_sealed()?);
        if dead || is_kept || header.version > version {
            return Ok(());
        }
        let _content = self.content.lock();
        self.change(|label| label.distrust(version))?;
        let (mut ours, mut damaged) = (Vec::new(), Vec::new());
        let count = chunks_of(io::stat(&self.data)?.size);
        self.sidecar.for_each(count, |chunk, mark| match mark {
            Mark::Local(_) => ours.push(chunk),
            Mark::Damaged => damaged.push(chunk),
            _ => {}
        })?;
        for chunk in damaged {
            // A mark that is torn says nothing of the bytes. One that says that they are nobody's is to be believed.
            if !self.sidecar.says_damaged(chunk)? {
                ours.push(chunk);
            }
        }
        let mut inner = self.inner.lock();
        for chunk in ours {
            inner.present.set(chunk);
            inner.dirty.set(chunk);
            inner.verified.clear(chunk);
        }
        Ok(())
    }

    /// Clears what lies behind the end in the last page: a crash of the operating system may have left bytes there whose length
    /// it took, and they would come to light when the file grows.
    pub fn clear_tail(&self) -> IoResult<()> {
        let _content = self.content.lock();
        let stat = io::stat(&self.data)?;
        self.writer(false)?.set_len(stat.size)?;
        io::set_mtime(&self.data, stat.mtime_ns)
    }

    /// Whether the bytes of ours in a committed version are what was sealed.
    pub fn is_as_sealed(&self) -> IoResult<bool> {
        let header = self.view().header;
        let length = header.length;
        if io::stat(&self.data)?.size != length || (header.base.is_none() && !self.complete()?) {
            return Ok(false);
        }
        let (mut ours, mut is_as_sealed) = (Vec::new(), true);
        self.sidecar.for_each(chunks_of(length), |chunk, mark| {
            match mark {
                Mark::Local(crc) => ours.push((chunk, crc)),
                // Written after the seal that the header tells of: the header of the opening did not reach the disk.
                Mark::Dirty | Mark::DirtyUnsynced | Mark::Damaged => is_as_sealed = false,
                Mark::Clean(_) | Mark::Absent | Mark::Going(_) => {}
            }
        })?;
        if !is_as_sealed {
            return Ok(false);
        }
        for (chunk, crc) in ours {
            let start = chunk * CHUNK_BYTES;
            let want = CHUNK_BYTES.min(length - start) as usize;
            let bytes = io::read_at(&self.data, start, want, false)?;
            if bytes.is_none_or(|bytes| crc32c(&bytes) != crc) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Version `version` is in the under-storage now. False: it is not what this entry holds any more.
    pub fn label_persisted(&self, version: u64, epoch: u64, ufs: UfsSource) -> IoResult<bool> {
        let _content = self.content.lock();
        self.change(|label| label.persisted(version, epoch, ufs))
    }

    /// The object of `version`, which lies between the base and what is here, took the base's place. False: it does not lie
    /// between them.
    pub fn rebase_on(&self, version: u64, ufs: UfsSource) -> IoResult<bool> {
        let _content = self.content.lock();
        self.change(|label| label.rebase(version, ufs))
    }

    /// What was ours in the version sealed last, and was not changed since, is the under-storage's too once that version is
    /// there: clean, if it is the base from now on. The caller has the turn.
    pub fn rebase_marks(&self) -> IoResult<()> {
        let _content = self.content.lock();
        let based_bytes = {
            let inner = self.inner.lock();
            let header = &inner.label;
            match (header.open, &header.sealed, &header.base) {
                (false, _, _) => header.ufs.as_ref().map(|_| header.length.next_multiple_of(CHUNK_BYTES)),
                (true, Some(sealed), Some(base)) => {
                    let there = sealed.ufs.is_some() && base.version == sealed.version;
                    // After a crash in the middle of a seal some are already of the version that was to be sealed.
                    let is_based = there && !header.whole && header.marks_are_sealed();
                    // The base is what it was when it was opened, however long its object is by now: in the chunk in which
                    // it ends there are bytes that are not to be had from it.
                    is_based.then_some(base.bytes)
                }
                _ => None,
            }
        };
        let Some(based_bytes) = based_bytes else {
            return Ok(());
        };
        let count = based_bytes / CHUNK_BYTES;
        let mut ours: Vec<(u64, u32)> = Vec::new();
        self.sidecar.for_each(count, |chunk, mark| {
            if let Mark::Local(crc) = mark {
                ours.push((chunk, crc));
            }
        })?;
        {
            // Changed since, whatever its mark says.
            let inner = self.inner.lock();
            ours.retain(|(chunk, _)| !inner.dirty.get(*chunk));
        }
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
            let header = &inner.label;
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
            // What is about to go is the base's.
            if !matches!(mark, Mark::Clean(_) | Mark::Going(_)) {
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
        let holes = self.inner.lock().label.holes;
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

fn is_recent(stat: &FileStat) -> bool {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos() as i64);
    now.saturating_sub(stat.ctime_ns) < COARSE_TIME.as_nanos() as i64
}
