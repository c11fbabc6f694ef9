//! One record of a log segment: a log entry with what is needed to trust it.
//!
//! ```text
//!  0  u32 magic          "AJR1"; zero where nothing was written yet
//!  4  u32 checksum       CRC32C over the segment's salt, then bytes 8.. up to the end of the payload
//!  8  u32 payload_bytes
//! 12  u8  kind           opaque to the log
//! 13  [u8; 3] zero
//! 16  u64 term
//! 24  u64 index
//! 32  u64 durable_index  the newest index that was on disk when this record was written
//! 40  payload, padded with zeros to a multiple of 8
//! ```
//!
//! All numbers are little-endian. The checksum comes first so that it covers everything behind it. The salt makes
//! records of one segment worthless in another, so neither a reused disk block nor a payload that contains a forged
//! record is taken for one. `durable_index` tells damage from a torn write: one write may reach the disk in any
//! order, but a record that says "index 7 was on disk when I was written" proves that a bad record 7 was good once.

use alluxio_common::checksum::Crc32c;
use bytes::Bytes;

/// Size of a record without its payload.
pub(crate) const HEADER_BYTES: usize = 40;
/// Records start at multiples of this.
pub(crate) const ALIGN: usize = 8;
/// Largest payload: offsets in a segment fit 32 bits with room to spare.
pub(crate) const PAYLOAD_BYTES_MAX: usize = 1 << 30;

const MAGIC: u32 = u32::from_le_bytes(*b"AJR1");

/// A log entry as the log sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub index: u64,
    pub term: u64,
    /// What the payload is; opaque here.
    pub kind: u8,
    pub payload: Bytes,
}

impl Record {
    /// Bytes on disk.
    pub fn disk_bytes(&self) -> usize {
        padded(HEADER_BYTES + self.payload.len())
    }

    /// Appends the record to `out`.
    pub fn encode(&self, salt: u64, durable_index: u64, out: &mut Vec<u8>) {
        debug_assert!(self.payload.len() <= PAYLOAD_BYTES_MAX);
        let start = out.len();
        out.extend_from_slice(&MAGIC.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&(self.payload.len() as u32).to_le_bytes());
        out.extend_from_slice(&[self.kind, 0, 0, 0]);
        out.extend_from_slice(&self.term.to_le_bytes());
        out.extend_from_slice(&self.index.to_le_bytes());
        out.extend_from_slice(&durable_index.to_le_bytes());
        out.extend_from_slice(&self.payload);
        let checksum = checksum(salt, &out[start + 8..]);
        out[start + 4..start + 8].copy_from_slice(&checksum.to_le_bytes());
        out.resize(start + self.disk_bytes(), 0);
    }
}

/// A record found on disk; the payload is still in the buffer it was found in.
#[derive(Debug)]
pub(crate) struct Found<'a> {
    pub index: u64,
    pub term: u64,
    pub kind: u8,
    pub durable_index: u64,
    pub payload: &'a [u8],
    /// Bytes up to the next record.
    pub disk_bytes: usize,
}

/// Why there is no record at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bad {
    /// Zeros where a record would start.
    Nothing,
    /// Something else than a record.
    NotARecord,
    /// The record reaches beyond the end of the buffer.
    CutOff,
    /// The checksum does not match.
    Checksum,
}

impl std::fmt::Display for Bad {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Bad::Nothing => "there are zeros instead of a record",
            Bad::NotARecord => "there is no record",
            Bad::CutOff => "the record reaches beyond the end of the file",
            Bad::Checksum => "the record's checksum does not match",
        })
    }
}

/// Reads the record at the start of `bytes`.
pub(crate) fn decode(salt: u64, bytes: &[u8]) -> Result<Found<'_>, Bad> {
    let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else {
        return Err(if bytes.iter().all(|b| *b == 0) {
            Bad::Nothing
        } else {
            Bad::CutOff
        });
    };
    if u32_at(header, 0) != MAGIC {
        return Err(if header.iter().all(|b| *b == 0) {
            Bad::Nothing
        } else {
            Bad::NotARecord
        });
    }
    let payload_bytes = u32_at(header, 8) as usize;
    if payload_bytes > PAYLOAD_BYTES_MAX {
        return Err(Bad::NotARecord);
    }
    let end = HEADER_BYTES + payload_bytes;
    if padded(end) > bytes.len() {
        return Err(Bad::CutOff);
    }
    if checksum(salt, &bytes[8..end]) != u32_at(header, 4) {
        return Err(Bad::Checksum);
    }
    Ok(Found {
        index: u64_at(header, 24),
        term: u64_at(header, 16),
        kind: header[12],
        durable_index: u64_at(header, 32),
        payload: &bytes[HEADER_BYTES..end],
        disk_bytes: padded(end),
    })
}

fn checksum(salt: u64, bytes: &[u8]) -> u32 {
    let mut crc = Crc32c::new();
    crc.update(&salt.to_le_bytes());
    crc.update(bytes);
    crc.finish()
}

fn padded(bytes: usize) -> usize {
    bytes.next_multiple_of(ALIGN)
}

/// The number at `at`; the caller has checked the length.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut raw = [0; 4];
    raw.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(raw)
}

/// The number at `at`; the caller has checked the length.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut raw = [0; 8];
    raw.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(payload: &'static [u8]) -> Record {
        Record {
            index: 7,
            term: 3,
            kind: 1,
            payload: Bytes::from_static(payload),
        }
    }

    #[test]
    fn comes_back_as_written() {
        for payload in [&b""[..], b"x", b"12345678", b"123456789"] {
            let mut out = Vec::new();
            record(payload).encode(42, 6, &mut out);
            assert_eq!(out.len(), record(payload).disk_bytes());
            let found = decode(42, &out).unwrap();
            assert_eq!((found.index, found.term, found.kind, found.durable_index), (7, 3, 1, 6));
            assert_eq!(found.payload, payload);
            assert_eq!(found.disk_bytes, out.len());
        }
    }

    #[test]
    fn any_flipped_bit_is_noticed() {
        let mut out = Vec::new();
        record(b"12345678").encode(42, 6, &mut out);
        for bit in 0..out.len() * 8 {
            let mut bytes = out.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(42, &bytes).is_err(), "bit {bit}");
        }
        assert_eq!(decode(43, &out).unwrap_err(), Bad::Checksum, "another segment's salt");
    }

    /// The bytes on disk are a promise to later versions.
    #[test]
    fn format_is_frozen() {
        let mut out = Vec::new();
        record(b"abc").encode(1, 2, &mut out);
        let hex: String = out.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(&hex[..8], "414a5231");
        assert_eq!(
            &hex[16..],
            "030000000100000003000000000000000700000000000000020000000000000061626300000000 00".replace(' ', "")
        );
    }
}
