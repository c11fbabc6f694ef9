//! One file of the log.
//!
//! ```text
//!    0  [u8; 8] magic "ALXJWAL\n"
//!    8  u32 format version (1)
//!   12  u32 flags          1: everything before first_index was dropped on purpose
//!   16  u64 first_index    index of the first record, also the file's name
//!   24  u64 prev_term      term of the entry before it (0: none)
//!   32  u64 salt           see `record`
//!   40  u32 checksum       CRC32C of bytes 0..40
//!   44  zeros up to 4096
//! 4096  records, then zeros up to the allocated size
//! ```
//!
//! The header has a disk block of its own, written once and synced before the file gets its name, so no torn write of
//! a record can harm it. A segment is begun only after the one before it is on disk completely.

use std::{
    hash::{BuildHasher, Hasher},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use alluxio_common::{
    checksum::crc32c,
    disk::{Disk, DiskFile, Open},
};

use super::record::{u32_at, u64_at};

/// Where the records start.
pub(crate) const HEADER_BYTES: u64 = 4096;
/// The version of the format that is written, and the newest that is read.
pub(crate) const VERSION: u32 = 1;
/// Name of the allocated file that becomes the next segment.
pub(crate) const SPARE_NAME: &str = "spare.tmp";

const MAGIC: &[u8; 8] = b"ALXJWAL\n";
const FLAG_RESET: u32 = 1;

/// What a segment says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub first_index: u64,
    pub prev_term: u64,
    pub salt: u64,
    /// Everything before `first_index` was dropped on purpose; older segments are leftovers.
    pub reset: bool,
}

impl Header {
    pub fn new(first_index: u64, prev_term: u64, reset: bool) -> Self {
        // Random per process from the operating system, and different at every call.
        let salt = std::hash::RandomState::new().build_hasher().finish();
        Self {
            first_index,
            prev_term,
            salt,
            reset,
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_BYTES as usize);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&(if self.reset { FLAG_RESET } else { 0 }).to_le_bytes());
        out.extend_from_slice(&self.first_index.to_le_bytes());
        out.extend_from_slice(&self.prev_term.to_le_bytes());
        out.extend_from_slice(&self.salt.to_le_bytes());
        out.extend_from_slice(&crc32c(&out).to_le_bytes());
        out.resize(HEADER_BYTES as usize, 0);
        out
    }

    /// Reads a header; the error says what is wrong with it.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() < HEADER_BYTES as usize {
            return Err("the file is shorter than a segment's header".into());
        }
        if &bytes[..8] != MAGIC {
            return Err("this is not a log segment".into());
        }
        let version = u32_at(bytes, 8);
        if version > VERSION {
            return Err(format!(
                "segment format {version} is newer than this program ({VERSION})"
            ));
        }
        if crc32c(&bytes[..40]) != u32_at(bytes, 40) {
            return Err("the checksum of the segment's header does not match".into());
        }
        Ok(Self {
            first_index: u64_at(bytes, 16),
            prev_term: u64_at(bytes, 24),
            salt: u64_at(bytes, 32),
            reset: u32_at(bytes, 12) & FLAG_RESET != 0,
        })
    }
}

/// A segment in use: its file and where its records are.
#[derive(Debug)]
pub(crate) struct Segment {
    pub header: Header,
    pub path: PathBuf,
    pub file: Arc<dyn DiskFile>,
    /// Where each record starts.
    pub offsets: Vec<u32>,
    /// Where the next record goes.
    pub end: u64,
    /// Allocated size.
    pub capacity: u64,
}

impl Segment {
    /// The index of the record after the last.
    pub fn next_index(&self) -> u64 {
        self.header.first_index + self.offsets.len() as u64
    }

    /// Where record `index` starts and ends.
    pub fn place(&self, index: u64) -> Option<(u64, u64)> {
        let at = usize::try_from(index.checked_sub(self.header.first_index)?).ok()?;
        let start = u64::from(*self.offsets.get(at)?);
        let end = self.offsets.get(at + 1).map_or(self.end, |next| u64::from(*next));
        Some((start, end))
    }

    /// Turns the spare file into a segment. Durable when it returns.
    pub fn create(disk: &dyn Disk, dir: &Path, header: Header, spare: Spare) -> io::Result<Self> {
        let path = dir.join(file_name(header.first_index));
        spare.file.write_all_at(&header.encode(), 0)?;
        spare.file.sync_all()?;
        disk.rename(&spare.path, &path)?;
        Ok(Self {
            header,
            path,
            file: spare.file,
            offsets: Vec::new(),
            end: HEADER_BYTES,
            capacity: spare.capacity,
        })
    }

    /// What is needed to clear everything behind the last record.
    pub fn tail(&self) -> (Arc<dyn DiskFile>, u64, u64) {
        (self.file.clone(), self.end, self.capacity)
    }
}

/// Overwrites a segment's data from `from` up to its end with zeros, durably.
pub(crate) fn zero_from(file: &dyn DiskFile, from: u64, end: u64) -> io::Result<()> {
    let zeros = vec![0; 64 << 10];
    let mut at = from;
    while let Some(data) = file.next_data(at, end)? {
        let count = (end - data).min(zeros.len() as u64);
        file.write_all_at(&zeros[..count as usize], data)?;
        at = data + count;
    }
    file.sync_all()
}

/// An allocated file without a header: what the next segment is made of.
#[derive(Debug)]
pub(crate) struct Spare {
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    pub capacity: u64,
}

impl Spare {
    /// Allocates a file for at least `bytes`. Fails with `ENOSPC` here, so that writing records never does.
    pub fn create(disk: &dyn Disk, dir: &Path, bytes: u64) -> io::Result<Self> {
        let path = dir.join(SPARE_NAME);
        let file = disk.open(&path, Open::Create)?;
        let capacity = bytes.max(HEADER_BYTES);
        file.allocate(capacity).inspect_err(|_| {
            // The first error is the one to report; a spare that stays is overwritten by the next attempt.
            let _ = disk.discard(&path);
        })?;
        file.sync_all()?;
        Ok(Self { path, file, capacity })
    }
}

/// The name of the segment that starts at `first_index`. Names sort as indexes do.
pub(crate) fn file_name(first_index: u64) -> String {
    format!("{first_index:020}.wal")
}

/// The first index that a file name promises; `None` if it is no segment's name.
pub(crate) fn parse_file_name(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".wal")?;
    (digits.len() == 20).then(|| digits.parse().ok())?
}
