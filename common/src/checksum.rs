//! CRC32C (CRC-32/ISCSI), the one checksum of our disks and wires.
//!
//! HDFS and S3 speak the same polynomial, so a checksum made here can be compared with theirs. It finds accidents
//! (a flipped bit, a torn write), not attackers.

use crc_fast::{CrcAlgorithm, Digest};

/// CRC32C of `bytes`.
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// CRC32C of bytes that come in pieces.
pub struct Crc32c(Digest);

impl Crc32c {
    /// Of nothing yet.
    pub fn new() -> Self {
        Self(Digest::new(CrcAlgorithm::Crc32Iscsi))
    }
    /// Adds the next piece.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }
    /// The checksum of all pieces so far.
    pub fn finish(&self) -> u32 {
        // The digest of a 32 bit algorithm fits 32 bits.
        self.0.finalize() as u32
    }
}

impl Default for Crc32c {
    fn default() -> Self {
        Self::new()
    }
}

/// CRC32C of two neighbours' bytes from their checksums, without the bytes.
pub fn crc32c_combine(first: u32, second: u32, second_len: u64) -> u32 {
    crc_fast::checksum_combine(
        CrcAlgorithm::Crc32Iscsi,
        u64::from(first),
        u64::from(second),
        second_len,
    ) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The check value of the catalogue of CRC algorithms, and two of RFC 3720 B.4.
    #[test]
    fn known_values() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(b""), 0);
    }

    proptest::proptest! {
        #[test]
        fn pieces_and_combination_agree(
            bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..5000), at in 0usize..5000
        ) {
            let (a, b) = bytes.split_at(at.min(bytes.len()));
            let mut crc = Crc32c::new();
            crc.update(a);
            crc.update(b);
            proptest::prop_assert_eq!(crc.finish(), crc32c(&bytes));
            proptest::prop_assert_eq!(crc32c_combine(crc32c(a), crc32c(b), b.len() as u64), crc32c(&bytes));
        }
    }
}
