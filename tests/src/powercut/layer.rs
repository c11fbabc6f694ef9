//! An image whose unsynced writes can be taken back.
//!
//! The image file always holds what the machine sees. Each write since the last flush is kept with the bytes it replaced,
//! so that a cut can take all of them back and then let some of them happen after all.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::fs::File;
use std::io::Result as IoResult;
use std::os::unix::fs::FileExt;

/// Disks write such a piece wholly or not at all.
pub const SECTOR_BYTES: usize = 512;
/// ext4 keeps its superblock in the first block and must read it, checksum included, before it can replay its journal. It
/// counts on 4 KiB sectors there, so that block is never torn.
const NEVER_TORN_BYTES: u64 = 4096;
/// What a disk's cache holds: above it, the oldest writes reach the medium without a flush.
const PENDING_BYTES_MAX: usize = 256 << 20;

/// A write that no flush has made durable.
#[derive(Debug)]
struct Pending {
    offset: u64,
    before: Vec<u8>,
    after: Vec<u8>,
}

/// What a cut did to the writes that were pending.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CutStats {
    /// Writes that happened.
    pub kept: usize,
    /// Writes that did not.
    pub dropped: usize,
    /// Writes of which some sectors happened.
    pub torn: usize,
}

/// The image with its pending writes.
#[derive(Debug)]
pub struct Layer {
    image: File,
    pending: Vec<Pending>,
    pending_bytes: usize,
    lying: bool,
}

impl Layer {
    /// Over an image file.
    pub fn new(image: File) -> Layer {
        Layer {
            image,
            pending: Vec::new(),
            pending_bytes: 0,
            lying: false,
        }
    }

    /// Whether a flush is answered without doing anything: the defect of a disk that the checker must find.
    pub fn set_lying(&mut self, lying: bool) {
        self.lying = lying;
    }

    /// Length of the image in bytes.
    ///
    /// # Errors
    /// The image's.
    pub fn length(&self) -> IoResult<u64> {
        Ok(self.image.metadata()?.len())
    }

    /// What the machine sees; short at the end.
    ///
    /// # Errors
    /// The image's.
    pub fn read(&self, offset: u64, length: usize) -> IoResult<Vec<u8>> {
        let mut bytes = vec![0; length];
        let mut done = 0;
        while done < length {
            match self.image.read_at(&mut bytes[done..], offset + done as u64)? {
                0 => break,
                n => done += n,
            }
        }
        bytes.truncate(done);
        Ok(bytes)
    }

    /// A write into the disk's cache.
    ///
    /// # Errors
    /// The image's, and for a write beyond its end.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) -> IoResult<()> {
        let before = self.read(offset, bytes.len())?;
        if before.len() < bytes.len() {
            return Err(std::io::Error::from_raw_os_error(libc::ENOSPC));
        }
        self.image.write_all_at(bytes, offset)?;
        self.pending_bytes += bytes.len();
        self.pending.push(Pending {
            offset,
            before,
            after: bytes.to_vec(),
        });
        if self.pending_bytes > PENDING_BYTES_MAX {
            let old: Vec<Pending> = self.pending.drain(..self.pending.len() / 2).collect();
            self.pending_bytes -= old.iter().map(|write| write.after.len()).sum::<usize>();
        }
        Ok(())
    }

    /// Makes durable what was written.
    pub fn flush(&mut self) {
        if !self.lying {
            self.pending.clear();
            self.pending_bytes = 0;
        }
    }

    /// Loses power: of the writes since the last flush some stay, some go, some are torn, whatever their order.
    ///
    /// # Errors
    /// The image's.
    pub fn cut(&mut self, seed: u64) -> IoResult<CutStats> {
        let mut random = StdRng::seed_from_u64(seed);
        for write in self.pending.iter().rev() {
            self.image.write_all_at(&write.before, write.offset)?;
        }
        // Some cuts lose everything, some nearly nothing: one write missing among many is a case of its own.
        let keep: f64 = [0.0, 0.3, 0.5, 0.9][random.random_range(0..4)];
        let tear: f64 = [0.0, 0.2, 0.6][random.random_range(0..3)];
        let mut stats = CutStats::default();
        for write in std::mem::take(&mut self.pending) {
            let sectors = write.after.len().div_ceil(SECTOR_BYTES);
            if sectors > 1 && write.offset >= NEVER_TORN_BYTES && random.random_bool(tear) {
                stats.torn += 1;
                for (index, sector) in write.after.chunks(SECTOR_BYTES).enumerate() {
                    if random.random_bool(0.5) {
                        self.image
                            .write_all_at(sector, write.offset + (index * SECTOR_BYTES) as u64)?;
                    }
                }
            } else if random.random_bool(keep) {
                stats.kept += 1;
                self.image.write_all_at(&write.after, write.offset)?;
            } else {
                stats.dropped += 1;
            }
        }
        self.pending_bytes = 0;
        Ok(stats)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer() -> Layer {
        let file = tempfile::tempfile().expect("make a scratch file");
        file.set_len(1 << 20).expect("set its length");
        Layer::new(file)
    }

    #[test]
    fn a_cut_keeps_what_was_flushed_and_loses_some_of_the_rest() {
        let mut total = CutStats::default();
        for seed in 0..64 {
            let mut layer = layer();
            layer.write(65_536, &[1; 8192]).expect("write");
            layer.flush();
            layer.write(65_536, &[2; 4096]).expect("write");
            layer.write(131_072, &[3; 8192]).expect("write");
            let stats = layer.cut(seed).expect("cut");
            assert_eq!(stats.kept + stats.dropped + stats.torn, 2, "seed {seed}");
            total.kept += stats.kept;
            total.dropped += stats.dropped;
            total.torn += stats.torn;
            let found = layer.read(65_536, 8192).expect("read");
            for (index, sector) in found.chunks(SECTOR_BYTES).enumerate() {
                let is_whole = sector.iter().all(|byte| *byte == sector[0]);
                assert!(is_whole, "seed {seed}: sector {index} is torn");
                let allowed: &[u8] = if index < 8 { &[1, 2] } else { &[1] };
                assert!(allowed.contains(&sector[0]), "seed {seed}: sector {index}");
            }
        }
        assert!(
            total.kept > 10 && total.dropped > 10 && total.torn > 10,
            "every fate happens: {total:?}"
        );
    }

    #[test]
    fn a_lying_disk_loses_what_was_flushed() {
        let lost = (0..16).any(|seed| {
            let mut layer = layer();
            layer.set_lying(true);
            layer.write(65_536, &[1; 4096]).expect("write");
            layer.flush();
            layer.cut(seed).expect("cut");
            layer.read(65_536, 4096).expect("read") != [1; 4096]
        });
        assert!(lost);
    }
}
