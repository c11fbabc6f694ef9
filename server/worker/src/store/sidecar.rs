//! The sidecar of a data file: what the file is, and presence and checksum of each chunk.
//!
//! ```text
//! offset  bytes
//!      0  8192   header slot A
//!   8192  8192   header slot B
//!  16384  8 each one entry per 64 KiB chunk of the data file, in order; a missing one is absent
//! ```
//!
//! A header slot is `magic "ALXS" (4), format (u16), reserved (u16), sequence (u64), payload length (u32),
//! CRC32C of sequence and payload (u32), payload` with numbers little-endian and a prost message ([`Header`]) as
//! payload. Headers are written alternately into the two slots, so that a torn write leaves the one before; the valid
//! slot with the higher sequence counts.
//!
//! A chunk entry is `CRC32C of the chunk's bytes (u32), tag (u32)`; the tag's upper byte is the [`Mark`], the lower three
//! check number, checksum and mark against each other, so that a flipped bit does not make other bytes right.
//!
//! Entries follow the header because their number grows with the file.
//!
//! Versions of the format: 1: first. 2: the base says which version it is, and a sealed version how much of the base shows
//! through it; [`Mark::Clean`] of an open version is relative to its base, which in format 1 it was as well. 3: no marks for
//! holes, of files that are next to nothing else; all others are still written as 2.

use crate::io::next_data;
use alluxio_common::checksum::{Crc32c, crc32c};
use alluxio_proto::types::UfsSource;
use prost::Message;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Newest version of the format.
pub(crate) const FORMAT: u16 = 3;
/// What is written where nothing needs a newer one.
const FORMAT_WITHOUT_HOLES: u16 = 2;
const MAGIC: [u8; 4] = *b"ALXS";
const SLOT_BYTES: usize = 8192;
const SLOT_HEAD_BYTES: usize = 24;
const TABLE_OFFSET: u64 = 2 * SLOT_BYTES as u64;
const ENTRY_BYTES: u64 = 8;
/// Entries read at once when a table is loaded.
const TABLE_READ_BYTES: usize = 256 * 1024;

/// What a data file is.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Header {
    /// Whose data.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
    /// Which data file: part of its name.
    #[prost(uint64, tag = "2")]
    pub generation: u64,
    /// Version of the data; of an open file the open one.
    #[prost(uint64, tag = "3")]
    pub version: u64,
    /// Length of a committed version. Of an open one the data file's own length counts.
    #[prost(uint64, tag = "4")]
    pub length: u64,
    /// Open for writing.
    #[prost(bool, tag = "5")]
    pub open: bool,
    /// Every byte is local: what has no entry is what the data file says (open), or there is nothing without entry.
    #[prost(bool, tag = "6")]
    pub whole: bool,
    /// Content is known to be on disk, not only in the page cache.
    #[prost(bool, tag = "7")]
    pub durable: bool,
    /// Boot of the operating system in which it was last written.
    #[prost(string, tag = "8")]
    pub boot_id: String,
    /// Where the under-storage has this (committed) version. Absent: this may be the only copy.
    #[prost(message, optional, tag = "9")]
    pub ufs: Option<UfsSource>,
    /// Where absent chunks of a version that is not (yet) in the under-storage come from.
    #[prost(message, optional, tag = "10")]
    pub base: Option<Base>,
    /// Of an open file: the committed content that it last had.
    #[prost(message, optional, tag = "11")]
    pub sealed: Option<Sealed>,
    /// First open version since it was opened for writing; writers of that one and later ones are all served.
    #[prost(uint64, tag = "12")]
    pub open_since: u64,
    /// Last change of the data of a committed version.
    #[prost(int64, tag = "13")]
    pub mtime_ns: i64,
    /// Of the content sealed last: all of it is here, and chunks without a mark are holes. So it is with files that are next to
    /// nothing but holes, whose marks would take more than their data (format 3).
    #[prost(bool, tag = "14")]
    pub holes: bool,
    /// Of a new file, open and never sealed: it was closed while it was empty.
    #[prost(bool, tag = "15")]
    pub closed_empty: bool,
    /// It was open when the operating system crashed, and nobody has looked since at what of it reached the disk.
    #[prost(bool, tag = "16")]
    pub doubtful: bool,
    /// Open over a base, and descriptors are out on which the kernel writes past the worker.
    #[prost(bool, tag = "17")]
    pub passed: bool,
    /// A sync of it failed in this process or in one before it.
    #[prost(bool, tag = "18")]
    pub sync_failed: bool,
}

/// An earlier version in the under-storage.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Base {
    /// Where.
    #[prost(message, optional, tag = "1")]
    pub ufs: Option<UfsSource>,
    /// How many of its bytes, from the start, still show through.
    #[prost(uint64, tag = "2")]
    pub bytes: u64,
    /// Which version of the file it is; 0: unknown (format 1).
    #[prost(uint64, tag = "3")]
    pub version: u64,
}

/// Content at the last seal.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Sealed {
    /// As which version.
    #[prost(uint64, tag = "1")]
    pub version: u64,
    /// In bytes.
    #[prost(uint64, tag = "2")]
    pub length: u64,
    /// Last change of the data.
    #[prost(int64, tag = "3")]
    pub mtime_ns: i64,
    /// Where the under-storage has it.
    #[prost(message, optional, tag = "4")]
    pub ufs: Option<UfsSource>,
    /// Size, mtime and ctime of the data file then; if they are the same, so is the content.
    #[prost(uint64, tag = "5")]
    pub stamp_size: u64,
    #[prost(int64, tag = "6")]
    pub stamp_mtime_ns: i64,
    #[prost(int64, tag = "7")]
    pub stamp_ctime_ns: i64,
    /// How many bytes of the base show through it, which the open version may have cut since; absent: as many as through
    /// the open version (format 1).
    #[prost(uint64, optional, tag = "8")]
    pub base_bytes: Option<u64>,
}

/// What is known of one chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// Not here.
    Absent,
    /// Bytes of the under-storage's object, with this checksum.
    Clean(u32),
    /// Bytes of ours, with this checksum.
    Local(u32),
    /// Written, not yet checksummed, not known to be on disk. An operating-system crash makes it absent.
    DirtyUnsynced,
    /// Written, not yet checksummed; was synced once, so it never goes back to the base.
    Dirty,
    /// Not here, but bytes with this checksum, which are the base's, may lie in its place still: they are about to go, while
    /// descriptors are out on which others can put theirs there.
    Going(u32),
    /// The entry itself is damaged, or nobody knows whose bytes these are.
    Damaged,
}

impl Mark {
    fn code(self) -> (u32, u32) {
        match self {
            Mark::Absent => (0, 0),
            Mark::Clean(crc) => (1, crc),
            Mark::Local(crc) => (2, crc),
            Mark::DirtyUnsynced => (3, 0),
            Mark::Dirty => (4, 0),
            // What no software knows is damaged to all of it.
            Mark::Damaged => (5, 0),
            Mark::Going(crc) => (6, crc),
        }
    }
    fn to_bytes(self, chunk: u64) -> [u8; 8] {
        let (code, crc) = self.code();
        if code == 0 {
            return [0; 8];
        }
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&crc.to_le_bytes());
        bytes[4..].copy_from_slice(&(code << 24 | tag_check(chunk, code, crc)).to_le_bytes());
        bytes
    }
    fn from_bytes(chunk: u64, bytes: [u8; 8]) -> Self {
        if bytes == [0; 8] {
            return Mark::Absent;
        }
        let crc = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        let tag = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
        let code = tag >> 24;
        if tag & 0x00ff_ffff != tag_check(chunk, code, crc) {
            return Mark::Damaged;
        }
        match code {
            1 => Mark::Clean(crc),
            2 => Mark::Local(crc),
            3 => Mark::DirtyUnsynced,
            4 => Mark::Dirty,
            6 => Mark::Going(crc),
            _ => Mark::Damaged,
        }
    }
}

fn tag_check(chunk: u64, code: u32, crc: u32) -> u32 {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&chunk.to_le_bytes());
    bytes[8..12].copy_from_slice(&code.to_le_bytes());
    bytes[12..].copy_from_slice(&crc.to_le_bytes());
    crc32c(&bytes) & 0x00ff_ffff
}

/// Why a sidecar cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// The disk.
    #[error("read sidecar: {0}")]
    Io(#[from] io::Error),
    /// Neither slot is valid.
    #[error("both header slots are damaged")]
    Damaged,
    /// No header was ever written, or none reached the disk.
    #[error("there is no header yet")]
    Empty,
    /// Written by newer software.
    #[error("format {0} is newer than {FORMAT}")]
    Newer(u16),
}

impl LoadError {
    /// Whether it is only that there are no descriptors left.
    pub fn is_for_descriptors(&self) -> bool {
        matches!(self, LoadError::Io(error) if alluxio_common::descriptors::are_used_up(error))
    }
}

/// An open sidecar.
#[derive(Debug)]
pub(crate) struct Sidecar {
    file: File,
    /// What a cut of the power would leave.
    #[cfg(test)]
    pub cuts: std::sync::Mutex<Cuts>,
}

/// Bytes of a sidecar at moments that matter.
#[cfg(test)]
#[derive(Debug, Default)]
pub(crate) struct Cuts {
    synced: Vec<u8>,
    /// What was synced each time when bytes of the data file went.
    pub at_punches: Vec<Vec<u8>>,
}

impl Sidecar {
    /// Of an open file, whatever is in it.
    pub fn new(file: File) -> Self {
        Self {
            file,
            #[cfg(test)]
            cuts: std::sync::Mutex::default(),
        }
    }

    /// The header that counts, and its sequence.
    pub fn load(&self) -> Result<(Header, u64), LoadError> {
        let mut slots = vec![0; 2 * SLOT_BYTES];
        let mut filled = 0;
        while filled < slots.len() {
            match self.file.read_at(&mut slots[filled..], filled as u64)? {
                0 => break,
                n => filled += n,
            }
        }
        if slots.iter().all(|byte| *byte == 0) {
            return Err(LoadError::Empty);
        }
        let (a, b) = slots.split_at(SLOT_BYTES);
        let (a, b) = (decode_slot(a), decode_slot(b));
        match (a, b) {
            (Ok(a), Ok(b)) => Ok(if a.1 > b.1 { a } else { b }),
            // A newer format in one slot makes all of it newer.
            (Err(LoadError::Newer(v)), _) | (_, Err(LoadError::Newer(v))) => Err(LoadError::Newer(v)),
            (Ok(one), Err(_)) | (Err(_), Ok(one)) => Ok(one),
            (Err(error), Err(_)) => Err(error),
        }
    }

    /// Writes `header` as number `sequence`, which must be one above the last.
    pub fn store(&self, header: &Header, sequence: u64) -> io::Result<()> {
        // Software that does not know of holes would take them for what is missing.
        let format = if header.holes { FORMAT } else { FORMAT_WITHOUT_HOLES };
        let slot = encode_slot(header, sequence, format)?;
        self.file.write_all_at(&slot, (sequence % 2) * SLOT_BYTES as u64)
    }

    /// Marks of chunks `first..first + count`.
    pub fn marks(&self, first: u64, count: u64) -> io::Result<Vec<Mark>> {
        let mut marks = Vec::with_capacity(count as usize);
        let mut buffer = [0; 1024];
        let mut at = first;
        while at < first + count {
            let want = ((first + count - at) * ENTRY_BYTES).min(buffer.len() as u64) as usize;
            let n = read_full(&self.file, &mut buffer[..want], TABLE_OFFSET + at * ENTRY_BYTES)?;
            // Beyond the end of the file everything is absent.
            buffer[n..want].fill(0);
            push_marks(&buffer[..want], &mut at, &mut marks);
        }
        Ok(marks)
    }

    /// Whether a chunk was marked as damaged, which a mark is as well that cannot be read.
    pub fn says_damaged(&self, chunk: u64) -> io::Result<bool> {
        let mut bytes = [0; ENTRY_BYTES as usize];
        let n = read_full(&self.file, &mut bytes, TABLE_OFFSET + chunk * ENTRY_BYTES)?;
        Ok(n == bytes.len() && bytes == Mark::Damaged.to_bytes(chunk))
    }

    /// Calls `each` for every chunk below `count` that is not absent.
    pub fn for_each(&self, count: u64, mut each: impl FnMut(u64, Mark)) -> io::Result<()> {
        let mut buffer = vec![0; TABLE_READ_BYTES];
        let mut at = 0;
        while at < count {
            let want = ((count - at) * ENTRY_BYTES).min(buffer.len() as u64) as usize;
            let offset = TABLE_OFFSET + at * ENTRY_BYTES;
            let n = read_full(&self.file, &mut buffer[..want], offset)?;
            if n == 0 {
                return Ok(());
            }
            buffer[n..want].fill(0);
            if buffer[..want].iter().all(|byte| *byte == 0) {
                // The table of a file of holes has holes itself.
                match next_data(&self.file, offset + want as u64)? {
                    Some((data, _)) => at = (data - TABLE_OFFSET) / ENTRY_BYTES,
                    None => return Ok(()),
                }
                continue;
            }
            for entry in buffer[..want].chunks_exact(ENTRY_BYTES as usize) {
                let mark = entry.try_into().map_or(Mark::Damaged, |b| Mark::from_bytes(at, b));
                if mark != Mark::Absent {
                    each(at, mark);
                }
                at += 1;
            }
        }
        Ok(())
    }

    /// Sets the marks of neighbouring chunks, the first being number `first`.
    pub fn set_marks(&self, first: u64, marks: &[Mark]) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(marks.len() * ENTRY_BYTES as usize);
        for (at, mark) in (first..).zip(marks) {
            bytes.extend_from_slice(&mark.to_bytes(at));
        }
        self.file.write_all_at(&bytes, TABLE_OFFSET + first * ENTRY_BYTES)
    }

    /// Forgets the marks of all chunks from `first` on.
    pub fn cut_marks(&self, first: u64) -> io::Result<()> {
        let length = TABLE_OFFSET + first * ENTRY_BYTES;
        if self.file.metadata()?.len() > length {
            self.file.set_len(length)?;
        }
        Ok(())
    }

    /// What it takes of the disk; 0 if the file system cannot say.
    pub fn disk_bytes(&self) -> u64 {
        use std::os::unix::fs::MetadataExt;
        self.file.metadata().map_or(0, |meta| meta.blocks() * 512)
    }

    /// Makes what was written durable.
    pub fn sync(&self) -> io::Result<()> {
        #[cfg(test)]
        self.note_sync();
        self.file.sync_data()
    }

    #[cfg(test)]
    fn note_sync(&self) {
        let length = self.file.metadata().map_or(0, |meta| meta.len());
        let mut bytes = vec![0; length as usize];
        let _ = read_full(&self.file, &mut bytes, 0);
        self.cuts.lock().unwrap_or_else(|error| error.into_inner()).synced = bytes;
    }

    /// Bytes of the data file go now.
    #[cfg(test)]
    pub fn note_punch(&self) {
        let mut cuts = self.cuts.lock().unwrap_or_else(|error| error.into_inner());
        let synced = cuts.synced.clone();
        cuts.at_punches.push(synced);
    }
}

fn push_marks(bytes: &[u8], at: &mut u64, marks: &mut Vec<Mark>) {
    for entry in bytes.chunks_exact(ENTRY_BYTES as usize) {
        marks.push(entry.try_into().map_or(Mark::Damaged, |b| Mark::from_bytes(*at, b)));
        *at += 1;
    }
}

fn read_full(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn encode_slot(header: &Header, sequence: u64, format: u16) -> io::Result<Vec<u8>> {
    let payload = header.encode_to_vec();
    if SLOT_HEAD_BYTES + payload.len() > SLOT_BYTES {
        let why = format!("sidecar header of {} bytes does not fit its slot", payload.len());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    let mut slot = Vec::with_capacity(SLOT_HEAD_BYTES + payload.len());
    slot.extend_from_slice(&MAGIC);
    slot.extend_from_slice(&format.to_le_bytes());
    slot.extend_from_slice(&[0; 2]);
    slot.extend_from_slice(&sequence.to_le_bytes());
    slot.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    slot.extend_from_slice(&slot_crc(sequence, &payload).to_le_bytes());
    slot.extend_from_slice(&payload);
    Ok(slot)
}

fn decode_slot(slot: &[u8]) -> Result<(Header, u64), LoadError> {
    let head = slot.get(..SLOT_HEAD_BYTES).ok_or(LoadError::Damaged)?;
    if head[..4] != MAGIC {
        return Err(LoadError::Damaged);
    }
    let le4 = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let format = u16::from_le_bytes([head[4], head[5]]);
    let sequence = u64::from(le4(8)) | u64::from(le4(12)) << 32;
    let payload = slot[SLOT_HEAD_BYTES..]
        .get(..le4(16) as usize)
        .ok_or(LoadError::Damaged)?;
    if slot_crc(sequence, payload) != le4(20) {
        return Err(LoadError::Damaged);
    }
    if format > FORMAT {
        return Err(LoadError::Newer(format));
    }
    let header = Header::decode(payload).map_err(|_| LoadError::Damaged)?;
    Ok((header, sequence))
}

fn slot_crc(sequence: u64, payload: &[u8]) -> u32 {
    let mut crc = Crc32c::new();
    crc.update(&sequence.to_le_bytes());
    crc.update(payload);
    crc.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            inode: 7,
            generation: 9,
            version: 3,
            length: 100_000,
            durable: true,
            boot_id: "boot".into(),
            ufs: Some(UfsSource {
                mount_id: 1,
                path: "a/b".into(),
                fingerprint: "etag".into(),
                length: 100_000,
            }),
            mtime_ns: -5,
            ..Header::default()
        }
    }

    /// Bytes written by format 1 when it was made; they must load for ever.
    #[test]
    fn old_bytes_load() {
        let slot = encode_slot(&header(), 5, 1).unwrap();
        let hex: String = slot.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, OLD_SLOT);
        let old: Vec<u8> = (0..OLD_SLOT.len() / 2)
            .map(|i| u8::from_str_radix(&OLD_SLOT[2 * i..2 * i + 2], 16).unwrap())
            .collect();
        assert_eq!(decode_slot(&old).unwrap(), (header(), 5));
        assert_eq!(Mark::from_bytes(3, OLD_MARK), Mark::Local(0x1234_5678));
        assert_eq!(Mark::Local(0x1234_5678).to_bytes(3), OLD_MARK);
    }
    const OLD_SLOT: &str = "414c58530100000005000000000000003000000057c6d56608071009180320a08d0638014204626f6f744a1108011203\
        612f621a046574616720a08d0668fbffffffffffffffff01";
    const OLD_MARK: [u8; 8] = [0x78, 0x56, 0x34, 0x12, 0x63, 0x56, 0x84, 0x02];

    /// Format 1 knew neither version nor share of a base.
    #[test]
    fn a_base_of_format_1_is_of_no_version() {
        let mut old = header();
        old.base = Some(Base {
            ufs: old.ufs.clone(),
            bytes: 70_000,
            version: 0,
        });
        old.sealed = Some(Sealed {
            version: 2,
            length: 70_000,
            ..Sealed::default()
        });
        let slot = encode_slot(&old, 1, 1).unwrap();
        let (loaded, _) = decode_slot(&slot).unwrap();
        assert_eq!(loaded, old);
        assert_eq!(loaded.sealed.unwrap().base_bytes, None);
    }

    #[test]
    fn torn_header_leaves_the_one_before() {
        let sidecar = Sidecar::new(tempfile::tempfile().unwrap());
        sidecar.store(&header(), 1).unwrap();
        let newer = Header { version: 4, ..header() };
        sidecar.store(&newer, 2).unwrap();
        assert_eq!(sidecar.load().unwrap(), (newer, 2));
        // Slot A, number 2, is torn.
        sidecar.file.write_all_at(&[0xff; 10], 30).unwrap();
        assert_eq!(sidecar.load().unwrap(), (header(), 1));
        sidecar.file.write_all_at(&[0xff; 10], SLOT_BYTES as u64 + 30).unwrap();
        assert!(matches!(sidecar.load(), Err(LoadError::Damaged)));
    }

    #[test]
    fn newer_format_is_refused() {
        let sidecar = Sidecar::new(tempfile::tempfile().unwrap());
        let slot = encode_slot(&header(), 1, FORMAT + 1).unwrap();
        sidecar.file.write_all_at(&slot, SLOT_BYTES as u64).unwrap();
        assert!(matches!(sidecar.load(), Err(LoadError::Newer(v)) if v == FORMAT + 1));
    }

    #[test]
    fn marks_are_kept_and_flipped_bits_are_noticed() {
        let sidecar = Sidecar::new(tempfile::tempfile().unwrap());
        let marks = [
            Mark::Clean(1),
            Mark::Absent,
            Mark::Local(u32::MAX),
            Mark::DirtyUnsynced,
            Mark::Dirty,
        ];
        sidecar.set_marks(10, &marks).unwrap();
        assert_eq!(sidecar.marks(10, 5).unwrap(), marks);
        assert_eq!(sidecar.marks(9, 1).unwrap(), [Mark::Absent]);
        let mut seen = Vec::new();
        sidecar.for_each(100, |at, mark| seen.push((at, mark))).unwrap();
        assert_eq!(seen.len(), 4);
        for bit in 0..64 {
            let mut bytes = Mark::Clean(0xabcd).to_bytes(10);
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Mark::from_bytes(10, bytes), Mark::Damaged, "bit {bit}");
        }
        // Right bytes at the wrong place are damage too.
        assert_eq!(Mark::from_bytes(11, Mark::Clean(1).to_bytes(10)), Mark::Damaged);
        sidecar.cut_marks(11).unwrap();
        assert_eq!(sidecar.marks(10, 2).unwrap(), [Mark::Clean(1), Mark::Absent]);
    }
}
