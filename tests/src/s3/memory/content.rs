//! Bytes of objects, wherever they lie: small ones in memory, large ones in a file without a name, patterns nowhere.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use ring::digest::{Context, Digest, SHA256};

/// Bodies above this go to the file.
const IN_MEMORY_MAX: usize = 256 << 10;
/// Blocks of zeros of this size become holes.
const HOLE_BYTES: usize = 4096;

#[derive(Clone, Debug)]
enum Source {
    Memory(Bytes),
    File(Arc<File>),
    /// Each 8 bytes are a function of the seed and their place.
    Pattern(u64),
}

/// A range of a source.
#[derive(Clone, Debug)]
struct Piece {
    source: Source,
    start: u64,
    length: u64,
}

/// Content of an object or a part. Clones share their bytes.
#[derive(Clone, Debug, Default)]
pub struct Content {
    pieces: Vec<Piece>,
}

impl From<Bytes> for Content {
    fn from(bytes: Bytes) -> Self {
        Self::of(Source::Memory(bytes.clone()), 0, bytes.len() as u64)
    }
}

impl Content {
    fn of(source: Source, start: u64, length: u64) -> Self {
        let piece = Piece { source, start, length };
        Self {
            pieces: if length == 0 { Vec::new() } else { vec![piece] },
        }
    }

    /// Bytes that follow from `seed` and take no memory, whatever their length.
    pub fn pattern(seed: u64, length: u64) -> Self {
        Self::of(Source::Pattern(seed), 0, length)
    }

    /// In bytes.
    pub fn length(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.length).sum()
    }

    /// The same with other content behind it.
    pub fn followed_by(mut self, other: &Content) -> Self {
        self.pieces.extend(other.pieces.iter().cloned());
        self
    }

    /// A range of it; what lies beyond its end is left out.
    pub fn slice(&self, start: u64, length: u64) -> Self {
        let (mut at, end) = (0, start.saturating_add(length));
        let mut pieces = Vec::new();
        for piece in &self.pieces {
            let (from, to) = (start.max(at), end.min(at + piece.length));
            if from < to {
                pieces.push(Piece {
                    source: piece.source.clone(),
                    start: piece.start + from - at,
                    length: to - from,
                });
            }
            at += piece.length;
        }
        Self { pieces }
    }

    /// Its bytes, in memory.
    pub fn bytes(&self) -> Bytes {
        let mut all = vec![0; usize::try_from(self.length()).expect("it fits memory")];
        let mut at = 0;
        for piece in &self.pieces {
            let length = usize::try_from(piece.length).expect("it fits memory");
            piece.read(&mut all[at..at + length]);
            at += length;
        }
        all.into()
    }
}

impl Piece {
    fn read(&self, into: &mut [u8]) {
        match &self.source {
            Source::Memory(bytes) => {
                let start = usize::try_from(self.start).expect("it is in memory");
                into.copy_from_slice(&bytes[start..start + into.len()]);
            }
            Source::File(file) => file.read_exact_at(into, self.start).expect("read a spooled body"),
            Source::Pattern(seed) => {
                for (index, byte) in into.iter_mut().enumerate() {
                    let offset = self.start + index as u64;
                    *byte = word_of(*seed, offset / 8).to_le_bytes()[(offset % 8) as usize];
                }
            }
        }
    }
}

/// SplitMix64, which needs no state but the place.
fn word_of(seed: u64, place: u64) -> u64 {
    let mut word = seed.wrapping_add(place.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// The file of all large bodies of a server.
#[derive(Debug, Default)]
pub(super) struct Spool {
    file: Mutex<Option<(Arc<File>, u64)>>,
}

impl Spool {
    /// Takes room for bytes that will be written at the offset.
    fn take(&self, bytes: u64) -> (Arc<File>, u64) {
        let mut guard = self.file.lock().expect("nobody panics with it");
        let (file, end) = guard.get_or_insert_with(|| (Arc::new(tempfile::tempfile().expect("make a file")), 0));
        let start = *end;
        *end += bytes;
        // A hole at its end is part of the file, too.
        file.set_len(*end).expect("lengthen the file");
        (file.clone(), start)
    }
}

/// A body that is being received, with what can be said of its bytes.
pub(super) struct Receiver<'a> {
    spool: &'a Spool,
    memory: Vec<u8>,
    /// Chunks that went to the file.
    filed: Content,
    sha256: Context,
    md5: md5::Md5,
    crc32c: crc_fast::Digest,
}

/// A body that has been received.
#[derive(Clone, Debug)]
pub(super) struct Received {
    pub content: Content,
    pub sha256: Digest,
    pub md5: [u8; 16],
    pub crc32c: u32,
}

impl<'a> Receiver<'a> {
    pub fn new(spool: &'a Spool) -> Self {
        Self {
            spool,
            memory: Vec::new(),
            filed: Content::default(),
            sha256: Context::new(&SHA256),
            md5: md5::Md5::default(),
            crc32c: crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi),
        }
    }

    pub fn take(&mut self, chunk: &[u8]) {
        self.sha256.update(chunk);
        md5::Digest::update(&mut self.md5, chunk);
        self.crc32c.update(chunk);
        self.memory.extend_from_slice(chunk);
        if self.memory.len() > IN_MEMORY_MAX {
            self.spill();
        }
    }

    fn spill(&mut self) {
        let (file, start) = self.spool.take(self.memory.len() as u64);
        for (index, block) in self.memory.chunks(HOLE_BYTES).enumerate() {
            if block.iter().any(|byte| *byte != 0) {
                let at = start + (index * HOLE_BYTES) as u64;
                file.write_all_at(block, at).expect("write a spooled body");
            }
        }
        let chunk = Content::of(Source::File(file), start, self.memory.len() as u64);
        self.filed = std::mem::take(&mut self.filed).followed_by(&chunk);
        self.memory.clear();
    }

    pub fn finish(self) -> Received {
        Received {
            content: self.filed.followed_by(&Content::from(Bytes::from(self.memory))),
            sha256: self.sha256.finish(),
            md5: md5::Digest::finalize(self.md5).into(),
            crc32c: self.crc32c.finalize() as u32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_of_all_kinds_of_content() {
        let spool = Spool::default();
        let mut receiver = Receiver::new(&spool);
        let filed: Vec<u8> = (0..600_000u32).map(|n| if n < 300_000 { 0 } else { n as u8 }).collect();
        filed.chunks(70_000).for_each(|chunk| receiver.take(chunk));
        let content = receiver.finish().content.followed_by(&Content::pattern(7, 1 << 50));
        assert_eq!(content.length(), 600_000 + (1 << 50));
        assert_eq!(content.slice(0, 600_000).bytes(), filed);
        assert_eq!(content.slice(299_990, 20).bytes(), filed[299_990..300_010]);
        let far = 600_000 + (1 << 49) + 3;
        assert_eq!(
            content.slice(far, 9).bytes(),
            Content::pattern(7, u64::MAX).slice(far - 600_000, 9).bytes()
        );
        assert_eq!(content.slice(content.length() - 1, 100).length(), 1);
    }
}
