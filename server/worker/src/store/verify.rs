//! Which chunks this process has found right, and finding out about the others.
//!
//! A descriptor is handed out only when every chunk was found right by this process: fetched, checksummed, or read back by
//! it. What the kernel reads past us afterwards nobody checks.

use super::content::{Check, Local};
use super::entry::Entry;
use super::sidecar::Mark;
use crate::io;
use alluxio_common::checksum::crc32c;
use alluxio_proto::CHUNK_BYTES;
use std::fs::{File, OpenOptions};
use std::io::Result as IoResult;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};

/// Alignment of memory, offset and length for reads past the page cache; enough for every disk.
const DIRECT_ALIGN: usize = 4096;

/// What a look at the disk itself found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reread {
    Right,
    /// These chunks are not what their checksums say.
    Differs(Vec<u64>),
}

impl Entry {
    /// The first chunk from `from` on that has a checksum and was not found right by this process.
    pub fn first_unverified(&self, from: u64) -> Option<u64> {
        let inner = self.inner.lock();
        if inner.label.is_open_over_nothing() {
            return None;
        }
        inner.present.first_beside([&inner.dirty, &inner.verified], from)
    }

    /// Whatever is here was found right, by this process and in this very file, before it was unloaded.
    pub(super) fn set_verified(&self) {
        let inner = &mut *self.inner.lock();
        inner.verified = inner.present.clone();
    }

    /// Verifies what is not yet verified. `Data`: it is now (the bytes are not answered).
    pub fn verify_all(&self) -> IoResult<Local> {
        let mut at = 0;
        while let Some(chunk) = self.first_unverified(at) {
            match self.verify_run(chunk..chunk + 64)? {
                Local::Data(_) => at = chunk + 64,
                other => return Ok(other),
            }
        }
        Ok(Local::Data(bytes::Bytes::new()))
    }

    /// Verifies what of a run of chunks is here.
    pub fn verify_run(&self, run: Range<u64>) -> IoResult<Local> {
        let mut at = run.start;
        while let Some(chunk) = self.first_unverified(at).filter(|chunk| *chunk < run.end) {
            let length = self.length()?;
            let end = self.first_other(chunk, run.end);
            let range = chunk * CHUNK_BYTES..(end * CHUNK_BYTES).min(length);
            if range.is_empty() {
                return Ok(Local::Missing);
            }
            match self.read_local(range, false, Check::Once)? {
                Local::Data(_) => at = end,
                other => return Ok(other),
            }
        }
        Ok(Local::Data(bytes::Bytes::new()))
    }

    /// The first chunk behind `chunk`, `end` at most, that is verified already or not here.
    fn first_other(&self, chunk: u64, end: u64) -> u64 {
        let inner = self.inner.lock();
        let is_left = |chunk: &u64| inner.checkable(*chunk) && !inner.verified.get(*chunk);
        (chunk + 1..end).find(|next| !is_left(next)).unwrap_or(end)
    }

    /// The next run of chunks at or after `from`, `max` at most, that have checksums.
    pub fn next_checkable(&self, from: u64, max: u64) -> Option<Range<u64>> {
        let inner = self.inner.lock();
        if inner.label.is_dead() || inner.label.is_open_over_nothing() {
            return None;
        }
        let start = inner.present.first_beside([&inner.dirty, &inner.dirty], from)?;
        let end = (start + 1..start + max).find(|chunk| !inner.checkable(*chunk));
        Some(start..end.unwrap_or(start + max))
    }

    /// Reads chunks from the disk itself, past the page cache where the file system can, and holds them against their
    /// checksums.
    pub fn reread(&self, run: Range<u64>) -> IoResult<Reread> {
        let length = self.length()?;
        let marks = self.sidecar.marks(run.start, run.end - run.start)?;
        let path = format!("/proc/self/fd/{}", self.data.as_raw_fd());
        let direct = OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(path);
        let mut memory = vec![0u8; CHUNK_BYTES as usize + DIRECT_ALIGN];
        let skip = memory.as_ptr().align_offset(DIRECT_ALIGN);
        let mut bad = Vec::new();
        for (chunk, mark) in run.zip(marks) {
            let start = chunk * CHUNK_BYTES;
            let want = length.saturating_sub(start).min(CHUNK_BYTES) as usize;
            let buffer = &mut memory[skip..][..CHUNK_BYTES as usize];
            let got = match &direct {
                Ok(file) => read_most(file, buffer, start),
                Err(_) => read_most(&self.data, buffer, start),
            };
            let got = match got {
                Ok(got) => got.min(want),
                // A sector that cannot be read is as bad as a wrong one.
                Err(error) if error.raw_os_error() == Some(libc::EIO) => 0,
                Err(error) => return Err(error),
            };
            let right = match mark {
                Mark::Clean(crc) | Mark::Local(crc) => got == want && crc32c(&buffer[..got]) == crc,
                // Changed since the run was chosen.
                Mark::Absent | Mark::Going(_) | Mark::Dirty | Mark::DirtyUnsynced => true,
                Mark::Damaged => false,
            };
            if !right {
                bad.push(chunk);
            }
        }
        Ok(match bad.is_empty() {
            true => Reread::Right,
            false => Reread::Differs(bad),
        })
    }

    /// Looks at a chunk that is wrong on the disk through the page cache. What is right there is written back.
    pub fn rewrite_from_memory(&self, chunk: u64) -> IoResult<Local> {
        let Ok(_turn) = self.turn.try_lock() else {
            return Ok(Local::WouldBlock);
        };
        if self.is_open() || self.is_dead() {
            return Ok(Local::Missing);
        }
        let length = self.length()?;
        let start = chunk * CHUNK_BYTES;
        let found = self.read_local(start..(start + CHUNK_BYTES).min(length), false, Check::Always)?;
        if let Local::Data(bytes) = &found {
            let _content = self.content.lock();
            let mtime_ns = io::stat(&self.data)?.mtime_ns;
            self.writer(false)?.write_all_at(bytes, start)?;
            io::set_mtime(&self.data, mtime_ns)?;
            self.data.sync_data()?;
        }
        Ok(found)
    }

    /// Frees what a damaged chunk takes on the disk, so that its bytes come to lie elsewhere: not while somebody has the file, who
    /// would read zeros until it is fetched again. The caller has the content, and the chunk is dropped.
    pub(super) fn punch_damaged(&self, chunk: u64) {
        if self.is_open_elsewhere_now() {
            return;
        }
        let punched =
            io::stat(&self.data).and_then(|stat| self.punch(std::slice::from_ref(&(chunk..chunk + 1)), &stat));
        if let Err(error) = punched {
            tracing::info!(%error, inode = self.inode.get(), chunk, "punch a damaged chunk");
        }
    }
}

/// Reads until the end of the file or of the buffer.
fn read_most(file: &File, buffer: &mut [u8], offset: u64) -> IoResult<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(n) => {
                filled += n;
                if !filled.is_multiple_of(DIRECT_ALIGN) {
                    break;
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
