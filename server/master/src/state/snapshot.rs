//! The whole state as a stream of records, and back.
//!
//! Format 1: the eight bytes `ALXSNAP1`, then for each record, in key order, the key's length and the value's length (u32,
//! big-endian), key, value; then a record with key length 0 whose value is the count of records (u64) and the CRC32C of
//! all that precedes it (u32). The position is not part of it: the journal keeps it beside the snapshot.

use alluxio_common::checksum::Crc32c;
use bytes::{Buf, Bytes};
use std::io::{self, Read};

use super::tables;
use crate::metastore::{Batch, MetaStore, StoreIter};

const MAGIC: &[u8; 8] = b"ALXSNAP1";
/// Longest key or value accepted: far above what a command can make, far below what hurts.
const FIELD_BYTES_MAX: u32 = 64 << 20;
/// Bytes gathered before a batch is written or a piece is handed out.
const PIECE_BYTES: usize = 1 << 20;
const TRAILER_BYTES: usize = 12;

/// Writes a consistent view out, piece by piece.
pub(super) struct Writer {
    rows: StoreIter,
    piece: Bytes,
    checksum: Crc32c,
    count: u64,
    finished: bool,
}

impl Writer {
    pub fn new(rows: StoreIter) -> Self {
        let mut checksum = Crc32c::new();
        checksum.update(MAGIC);
        Writer {
            rows,
            piece: Bytes::from_static(MAGIC),
            checksum,
            count: 0,
            finished: false,
        }
    }

    fn next_piece(&mut self) -> io::Result<()> {
        let mut piece = Vec::with_capacity(PIECE_BYTES + 4096);
        while piece.len() < PIECE_BYTES {
            match self.rows.next().transpose()? {
                Some((key, _)) if key.first() == Some(&tables::POSITION) => {}
                Some((key, value)) => {
                    piece.extend_from_slice(&field_length(&key)?.to_be_bytes());
                    piece.extend_from_slice(&field_length(&value)?.to_be_bytes());
                    piece.extend_from_slice(&key);
                    piece.extend_from_slice(&value);
                    self.count += 1;
                }
                None => {
                    self.finished = true;
                    break;
                }
            }
        }
        self.checksum.update(&piece);
        if self.finished {
            piece.extend_from_slice(&0u32.to_be_bytes());
            piece.extend_from_slice(&(TRAILER_BYTES as u32).to_be_bytes());
            piece.extend_from_slice(&self.count.to_be_bytes());
            piece.extend_from_slice(&self.checksum.finish().to_be_bytes());
        }
        self.piece = piece.into();
        Ok(())
    }
}

impl Read for Writer {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() && !self.finished {
            self.next_piece()?;
        }
        let length = self.piece.len().min(buffer.len());
        self.piece.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

/// Reads a snapshot into an empty store, all but its position.
pub(super) fn load(store: &dyn MetaStore, snapshot: &mut dyn Read) -> io::Result<()> {
    let mut magic = [0u8; MAGIC.len()];
    snapshot.read_exact(&mut magic)?;
    if &magic != MAGIC {
        return Err(invalid("is none, or of a format that this version does not know"));
    }
    let mut checksum = Crc32c::new();
    checksum.update(&magic);
    let (mut count, mut pending, mut batch) = (0u64, 0usize, Batch::default());
    loop {
        let mut lengths = [0u8; 8];
        snapshot.read_exact(&mut lengths)?;
        let key_length = (&lengths[..4]).get_u32();
        let value_length = (&lengths[4..]).get_u32();
        if key_length == 0 {
            check_trailer(snapshot, value_length, count, &checksum)?;
            store.write(batch)?;
            return Ok(());
        }
        checksum.update(&lengths);
        let key = field(snapshot, key_length, &mut checksum)?;
        let value = field(snapshot, value_length, &mut checksum)?;
        count += 1;
        pending += key.len() + value.len();
        batch.changes.push((key, Some(value)));
        if pending >= PIECE_BYTES {
            store.write(std::mem::take(&mut batch))?;
            pending = 0;
        }
    }
}

fn check_trailer(snapshot: &mut dyn Read, length: u32, count: u64, checksum: &Crc32c) -> io::Result<()> {
    let mut trailer = [0u8; TRAILER_BYTES];
    if length as usize != TRAILER_BYTES {
        return Err(invalid("has a damaged end"));
    }
    snapshot.read_exact(&mut trailer)?;
    let (mut counted, mut summed) = (&trailer[..8], &trailer[8..]);
    if counted.get_u64() != count || summed.get_u32() != checksum.finish() {
        return Err(invalid("is damaged: count or checksum differ"));
    }
    Ok(())
}

fn field(snapshot: &mut dyn Read, length: u32, checksum: &mut Crc32c) -> io::Result<Bytes> {
    if length > FIELD_BYTES_MAX {
        return Err(invalid("is damaged: a record is too long"));
    }
    let mut bytes = vec![0u8; length as usize];
    snapshot.read_exact(&mut bytes)?;
    checksum.update(&bytes);
    Ok(bytes.into())
}

fn field_length(bytes: &[u8]) -> io::Result<u32> {
    match u32::try_from(bytes.len()) {
        Ok(length) if length <= FIELD_BYTES_MAX => Ok(length),
        _ => Err(invalid("would have a record that is too long")),
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("the snapshot of the namespace {what}"),
    )
}
