//! Content that says of each line which file, which change and which place it belongs to.
//!
//! A line is shorter than a disk's sector, so no cut tears one. The kernel can: it writes a page out while a program stores into
//! it. Then each record of the line is one that was written.

/// Bytes of a line.
pub const LINE_BYTES: usize = 64;
const MAGIC: u32 = 0x50_43_55_54;
const RECORD_BYTES: usize = 16;

/// What a line turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// Never written, or zeroed.
    Zero,
    /// Written by change `version` of file `uid`, at this place.
    Written {
        /// File.
        uid: u32,
        /// Change.
        version: u32,
    },
    /// Nothing that was ever written here.
    Foreign,
}

/// Lines `first..first + count` as change `version` of file `uid` writes them.
pub fn encode(uid: u32, version: u32, first: u32, count: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(count as usize * LINE_BYTES);
    for line in first..first + count {
        let mut record = [0u8; RECORD_BYTES];
        for (part, value) in record.chunks_mut(4).zip([MAGIC, uid, version, line]) {
            part.copy_from_slice(&value.to_le_bytes());
        }
        for _ in 0..LINE_BYTES / RECORD_BYTES {
            bytes.extend_from_slice(&record);
        }
    }
    bytes
}

/// What the bytes at line `index` are.
pub fn decode(bytes: &[u8], index: u32) -> Line {
    if bytes.iter().all(|byte| *byte == 0) {
        return Line::Zero;
    }
    let mut numbers = bytes
        .chunks_exact(4)
        .map(|part| u32::from_le_bytes([part[0], part[1], part[2], part[3]]));
    let first = [(); 4].map(|()| numbers.next().unwrap_or(0));
    let is_same = bytes.len() == LINE_BYTES && numbers.enumerate().all(|(at, number)| number == first[at % 4]);
    match first {
        [MAGIC, uid, version, line] if is_same && line == index => Line::Written { uid, version },
        _ => Line::Foreign,
    }
}

/// Of a line that is [`Line::Foreign`], what each of its records is.
pub fn records(bytes: &[u8], index: u32) -> impl Iterator<Item = Line> {
    bytes.chunks(RECORD_BYTES).map(move |record| {
        let repeated = record.repeat(LINE_BYTES / RECORD_BYTES);
        decode(&repeated, index)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_say_what_they_are() {
        let bytes = encode(7, 9, 3, 2);
        let of = Line::Written { uid: 7, version: 9 };
        assert_eq!(decode(&bytes[..LINE_BYTES], 3), of);
        assert_eq!(decode(&bytes[LINE_BYTES..], 4), of);
        assert_eq!(decode(&bytes[..LINE_BYTES], 4), Line::Foreign, "another place");
        assert_eq!(decode(&[0; LINE_BYTES], 3), Line::Zero);
        let mut torn = bytes;
        torn[40] ^= 1;
        assert_eq!(decode(&torn[..LINE_BYTES], 3), Line::Foreign);
        let halves = [&encode(7, 8, 3, 1)[..32], &encode(7, 9, 3, 1)[32..]].concat();
        assert_eq!(decode(&halves, 3), Line::Foreign);
        let before = Line::Written { uid: 7, version: 8 };
        assert_eq!(records(&halves, 3).collect::<Vec<_>>(), [before, before, of, of]);
    }
}
