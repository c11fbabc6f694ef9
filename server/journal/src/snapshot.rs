//! Snapshots of the state machine as files.
//!
//! ```text
//! [u8; 8] magic "ALXSNAP\n"    u32 format version (1)    u32 zero
//! blocks: u32 bytes (> 0), u32 CRC32C of the block, the block (1 MiB, but for the last)
//! u32 zero: no more blocks
//! trailer: u64 bytes in all blocks, u64 blocks, u32 CRC32C of all of them, u32 position bytes, position,
//!          u32 CRC32C of the trailer so far, u32 trailer bytes, [u8; 8] magic "ALXSEND\n"
//! ```
//!
//! Little-endian. Written under a temporary name, synced and renamed, so a file with a snapshot's name is complete;
//! the checksums tell whether it still is. The trailer is found from the end of the file, so that what a snapshot
//! contains is known without reading it. The newest [`KEPT`] stay.

use std::{
    io::{self, BufReader, BufWriter, Read, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use alluxio_common::{
    checksum::{Crc32c, crc32c},
    disk::{Disk, DiskFile, Open, Stream, read_full},
};

/// Snapshots that stay: the newest, and one before it in case that one cannot be read.
pub(crate) const KEPT: usize = 2;

const MAGIC: &[u8; 8] = b"ALXSNAP\n";
const END_MAGIC: &[u8; 8] = b"ALXSEND\n";
const VERSION: u32 = 1;
const BLOCK_BYTES: usize = 1 << 20;
/// Bytes of the file's fixed end: checksum and size of the trailer, magic.
const END_BYTES: usize = 16;
/// A position is a hundred bytes and grows with the number of members.
const TRAILER_BYTES_MAX: usize = 1 << 20;
const SUFFIX: &str = ".snapshot";
const TEMPORARY: &str = "snapshot.tmp";

/// The snapshots of one journal.
#[derive(Clone, Debug)]
pub(crate) struct SnapshotStore {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
}

/// A complete snapshot file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SnapshotInfo {
    pub path: PathBuf,
    /// The last log entry that it contains.
    pub index: u64,
    /// The state machine's position, as it was stored there.
    pub position: Vec<u8>,
    /// Bytes of state.
    pub bytes: u64,
}

impl SnapshotStore {
    /// Opens or creates the folder; removes what a crashed writer left.
    pub fn open(disk: Arc<dyn Disk>, dir: PathBuf) -> io::Result<Self> {
        disk.create_dir_all(&dir)?;
        match disk.discard(&dir.join(TEMPORARY)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(Self { disk, dir }),
        }
    }

    /// Index and file of each snapshot, newest first.
    pub fn list(&self) -> io::Result<Vec<(u64, PathBuf)>> {
        let mut found = Vec::new();
        for name in self.disk.list(&self.dir)? {
            let index = name.to_str().and_then(|name| name.strip_suffix(SUFFIX)?.parse().ok());
            if let Some(index) = index {
                found.push((index, self.dir.join(&name)));
            }
        }
        found.sort_by(|a, b| b.cmp(a));
        Ok(found)
    }

    /// The newest snapshot whose trailer can be read; tells about those that cannot.
    pub fn newest(&self) -> io::Result<Option<SnapshotInfo>> {
        for (_, path) in self.list()? {
            match self.info(&path) {
                Ok(info) => return Ok(Some(info)),
                Err(error) => warn_unusable(&path, &error),
            }
        }
        Ok(None)
    }

    /// The newest snapshot that is intact to the last byte.
    pub fn newest_intact(&self) -> io::Result<Option<SnapshotInfo>> {
        for (_, path) in self.list()? {
            match self.verify(&path) {
                Ok(info) => return Ok(Some(info)),
                Err(error) => warn_unusable(&path, &error),
            }
        }
        Ok(None)
    }

    /// Stores a snapshot; `cancel` ends it early with an error of kind `Interrupted`.
    pub fn write(
        &self,
        index: u64,
        position: &[u8],
        state: &mut dyn Read,
        cancel: &AtomicBool,
    ) -> io::Result<SnapshotInfo> {
        let temporary = self.dir.join(TEMPORARY);
        let written = write_file(self.disk.as_ref(), &temporary, position, state, cancel);
        let path = self.dir.join(format!("{index:020}{SUFFIX}"));
        let bytes = written
            .and_then(|bytes| self.disk.rename(&temporary, &path).map(|()| bytes))
            .inspect_err(|_| {
                // The first error is the one to report; the next snapshot overwrites the file.
                let _ = self.disk.discard(&temporary);
            })?;
        Ok(SnapshotInfo {
            path,
            index,
            position: position.to_vec(),
            bytes,
        })
    }

    /// Takes over a snapshot file of another member.
    pub fn adopt(&self, index: u64, from: &Path) -> io::Result<SnapshotInfo> {
        let path = self.dir.join(format!("{index:020}{SUFFIX}"));
        if from != path {
            let temporary = self.dir.join(TEMPORARY);
            let mut source = Stream::new(self.disk.open(from, Open::Read)?);
            let mut target = Stream::new(self.disk.open(&temporary, Open::Create)?);
            io::copy(&mut source, &mut target)?;
            target.file().sync_all()?;
            self.disk.rename(&temporary, &path)?;
        }
        self.verify(&path)
    }

    /// The state in a snapshot.
    pub fn read(&self, snapshot: &SnapshotInfo) -> io::Result<SnapshotReader> {
        SnapshotReader::open(self.disk.as_ref(), &snapshot.path)
    }

    /// What a snapshot file says about itself; its content is not looked at.
    fn info(&self, path: &Path) -> io::Result<SnapshotInfo> {
        let trailer = Trailer::read(self.disk.open(path, Open::Read)?.as_ref())?;
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let index = name.strip_suffix(SUFFIX).and_then(|digits| digits.parse().ok());
        Ok(SnapshotInfo {
            path: path.to_owned(),
            index: index.ok_or_else(|| invalid("the file does not have a snapshot's name"))?,
            position: trailer.position,
            bytes: trailer.bytes,
        })
    }

    /// Reads a snapshot to its end.
    fn verify(&self, path: &Path) -> io::Result<SnapshotInfo> {
        io::copy(&mut SnapshotReader::open(self.disk.as_ref(), path)?, &mut io::sink())?;
        self.info(path)
    }

    /// Removes all but the newest; returns the index of the oldest that stays, 0 if fewer than [`KEPT`] exist.
    pub fn prune(&self) -> io::Result<u64> {
        let all = self.list()?;
        for (_, path) in all.iter().skip(KEPT) {
            self.disk.remove_file(path)?;
        }
        Ok(all.get(KEPT - 1).map_or(0, |(index, _)| *index))
    }
}

fn warn_unusable(path: &Path, error: &io::Error) {
    tracing::warn!(file = %path.display(), %error, "a snapshot cannot be used; an older one is tried");
}

fn write_file(
    disk: &dyn Disk,
    path: &Path,
    position: &[u8],
    state: &mut dyn Read,
    cancel: &AtomicBool,
) -> io::Result<u64> {
    let mut out = BufWriter::with_capacity(BLOCK_BYTES + 64, Stream::new(disk.open(path, Open::Create)?));
    out.write_all(MAGIC)?;
    out.write_all(&VERSION.to_le_bytes())?;
    out.write_all(&[0; 4])?;
    let mut block = vec![0; BLOCK_BYTES];
    let (mut bytes, mut blocks, mut all) = (0_u64, 0_u64, Crc32c::new());
    loop {
        if cancel.load(Ordering::Relaxed) {
            return Err(io::Error::new(io::ErrorKind::Interrupted, "the snapshot was cancelled"));
        }
        let count = read_block(state, &mut block)?;
        out.write_all(&(count as u32).to_le_bytes())?;
        if count == 0 {
            break;
        }
        out.write_all(&crc32c(&block[..count]).to_le_bytes())?;
        out.write_all(&block[..count])?;
        all.update(&block[..count]);
        bytes += count as u64;
        blocks += 1;
    }
    let trailer = Trailer {
        bytes,
        blocks,
        checksum: all.finish(),
        position: position.to_vec(),
    };
    out.write_all(&trailer.encode())?;
    let out = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    out.file().sync_all()?;
    Ok(bytes)
}

/// Fills the block, unless the source ends.
fn read_block(source: &mut dyn Read, block: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while done < block.len() {
        match source.read(&mut block[done..]) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Trailer {
    bytes: u64,
    blocks: u64,
    checksum: u32,
    position: Vec<u8>,
}

impl Trailer {
    const FIXED_BYTES: usize = 24;

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&self.bytes.to_le_bytes());
        out.extend_from_slice(&self.blocks.to_le_bytes());
        out.extend_from_slice(&self.checksum.to_le_bytes());
        out.extend_from_slice(&(self.position.len() as u32).to_le_bytes());
        out.extend_from_slice(&self.position);
        out.extend_from_slice(&crc32c(&out).to_le_bytes());
        let bytes = out.len() as u32 + 4 + END_MAGIC.len() as u32;
        out.extend_from_slice(&bytes.to_le_bytes());
        out.extend_from_slice(END_MAGIC);
        out
    }

    /// Reads the trailer at the end of a file.
    fn read(file: &dyn DiskFile) -> io::Result<Self> {
        let len = file.len()?;
        let mut end = [0; END_BYTES];
        read_exact_at(file, &mut end, len.saturating_sub(END_BYTES as u64))?;
        if &end[8..] != END_MAGIC {
            return Err(invalid("the end of the snapshot is missing"));
        }
        let bytes = u32_of(&end[4..]) as usize;
        if !(Self::FIXED_BYTES + END_BYTES..=TRAILER_BYTES_MAX).contains(&bytes) || bytes as u64 > len {
            return Err(invalid("the snapshot's trailer has an impossible size"));
        }
        let mut trailer = vec![0; bytes];
        read_exact_at(file, &mut trailer, len - bytes as u64)?;
        let body = &trailer[..bytes - END_BYTES];
        if crc32c(body) != u32_of(&end) || body.len() != Self::FIXED_BYTES + u32_of(&body[20..]) as usize {
            return Err(invalid("the checksum of the snapshot's trailer does not match"));
        }
        Ok(Self {
            bytes: u64_of(body),
            blocks: u64_of(&body[8..]),
            checksum: u32_of(&body[16..]),
            position: body[Self::FIXED_BYTES..].to_vec(),
        })
    }
}

/// The state in a snapshot file. Reading fails where the file is damaged, at the latest at its end.
pub(crate) struct SnapshotReader {
    file: BufReader<Stream>,
    trailer: Trailer,
    block: Vec<u8>,
    at: usize,
    seen: Trailer,
    all: Crc32c,
    ended: bool,
}

impl SnapshotReader {
    pub fn open(disk: &dyn Disk, path: &Path) -> io::Result<Self> {
        let file = disk.open(path, Open::Read)?;
        let trailer = Trailer::read(file.as_ref())?;
        let mut file = BufReader::with_capacity(256 << 10, Stream::new(file));
        let mut header = [0; 16];
        file.read_exact(&mut header)?;
        if &header[..8] != MAGIC {
            return Err(invalid("this is not a snapshot"));
        }
        let version = u32_of(&header[8..]);
        if version > VERSION {
            return Err(invalid(format!(
                "snapshot format {version} is newer than this program ({VERSION})"
            )));
        }
        Ok(Self {
            file,
            seen: Trailer {
                bytes: 0,
                blocks: 0,
                checksum: 0,
                position: trailer.position.clone(),
            },
            trailer,
            block: Vec::new(),
            at: 0,
            all: Crc32c::new(),
            ended: false,
        })
    }

    fn next_block(&mut self) -> io::Result<()> {
        let mut number = [0; 4];
        self.file.read_exact(&mut number)?;
        let bytes = u32_of(&number) as usize;
        if bytes == 0 {
            self.ended = true;
            self.seen.checksum = self.all.finish();
            return match self.seen == self.trailer {
                true => Ok(()),
                false => Err(invalid("the snapshot's content does not match its trailer")),
            };
        }
        if bytes > BLOCK_BYTES {
            return Err(invalid("a block of the snapshot has an impossible size"));
        }
        self.file.read_exact(&mut number)?;
        self.block.resize(bytes, 0);
        self.file.read_exact(&mut self.block)?;
        if crc32c(&self.block) != u32_of(&number) {
            return Err(invalid(format!(
                "block {} of the snapshot is damaged",
                self.seen.blocks
            )));
        }
        self.all.update(&self.block);
        self.at = 0;
        self.seen.blocks += 1;
        self.seen.bytes += bytes as u64;
        Ok(())
    }
}

impl Read for SnapshotReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.at == self.block.len() && !self.ended {
            self.next_block()?;
        }
        if self.ended {
            return Ok(0);
        }
        let count = out.len().min(self.block.len() - self.at);
        out[..count].copy_from_slice(&self.block[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

fn read_exact_at(file: &dyn DiskFile, bytes: &mut [u8], at: u64) -> io::Result<()> {
    match read_full(file, bytes, at)? == bytes.len() {
        true => Ok(()),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn invalid(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// The number that `bytes` starts with; the caller has checked the length.
fn u32_of(bytes: &[u8]) -> u32 {
    let mut raw = [0; 4];
    raw.copy_from_slice(&bytes[..4]);
    u32::from_le_bytes(raw)
}

/// The number that `bytes` starts with; the caller has checked the length.
fn u64_of(bytes: &[u8]) -> u64 {
    let mut raw = [0; 8];
    raw.copy_from_slice(&bytes[..8]);
    u64::from_le_bytes(raw)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alluxio_common::disk;
    use std::fs;

    fn store() -> (tempfile::TempDir, SnapshotStore) {
        let dir = tempfile::tempdir().unwrap();
        let store = SnapshotStore::open(disk::real(), dir.path().join("snapshots")).unwrap();
        (dir, store)
    }

    fn write(store: &SnapshotStore, index: u64, state: &[u8]) -> SnapshotInfo {
        let position = index.to_string();
        store
            .write(index, position.as_bytes(), &mut &state[..], &AtomicBool::new(false))
            .unwrap()
    }

    fn read(path: &Path) -> io::Result<Vec<u8>> {
        let mut state = Vec::new();
        SnapshotReader::open(disk::real().as_ref(), path)?.read_to_end(&mut state)?;
        Ok(state)
    }

    #[test]
    fn comes_back_as_written() {
        let (_dir, store) = store();
        for (at, bytes) in [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, 2 * BLOCK_BYTES + 17]
            .into_iter()
            .enumerate()
        {
            let state: Vec<u8> = (0..bytes).map(|i| (i % 251) as u8).collect();
            let written = write(&store, at as u64, &state);
            assert_eq!(store.info(&written.path).unwrap(), written);
            assert_eq!(written.bytes, bytes as u64);
            assert!(read(&written.path).unwrap() == state, "{bytes} bytes");
        }
    }

    #[test]
    fn any_damaged_byte_is_noticed() {
        let (_dir, store) = store();
        let path = write(&store, 1, b"some state").path;
        let good = fs::read(&path).unwrap();
        // Bytes 12..16 are reserved and not looked at.
        for at in (0..12).chain(16..good.len()) {
            let mut bad = good.clone();
            bad[at] ^= 0x40;
            fs::write(&path, &bad).unwrap();
            assert!(store.verify(&path).is_err(), "byte {at}");
        }
        for len in 0..good.len() {
            fs::write(&path, &good[..len]).unwrap();
            assert!(store.verify(&path).is_err(), "cut to {len}");
        }
    }

    #[test]
    fn a_damaged_one_falls_back_to_the_one_before() {
        let (_dir, store) = store();
        let old = write(&store, 5, b"old");
        let new = write(&store, 9, b"new");
        assert_eq!(store.newest_intact().unwrap(), Some(new.clone()));
        let mut bytes = fs::read(&new.path).unwrap();
        bytes[25] ^= 1;
        fs::write(&new.path, bytes).unwrap();
        assert_eq!(store.newest_intact().unwrap(), Some(old));
    }

    #[test]
    fn the_newest_two_stay() {
        let (_dir, store) = store();
        write(&store, 1, b"a");
        assert_eq!(store.prune().unwrap(), 0);
        write(&store, 2, b"b");
        write(&store, 30, b"c");
        assert_eq!(store.prune().unwrap(), 2);
        assert_eq!(
            store
                .list()
                .unwrap()
                .iter()
                .map(|(index, _)| *index)
                .collect::<Vec<_>>(),
            [30, 2]
        );
    }

    #[test]
    fn a_cancelled_one_leaves_nothing() {
        let (_dir, store) = store();
        let error = store
            .write(1, b"p", &mut &b"state"[..], &AtomicBool::new(true))
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Interrupted);
        assert_eq!(fs::read_dir(&store.dir).unwrap().count(), 0);
    }
}
