//! A disk in memory that does what disks do.
//!
//! A write is seen at once and lasts from the next sync on. A power cut keeps of what was not synced any part, sector by sector;
//! of names that were not synced it keeps the older ones. A sync that fails has dropped what it was for, and the next one succeeds
//! without it, as Linux does it. After a cut or a crash what was open before fails, so that what is left of a process cannot write.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::libc;
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{Disk, DiskFile, Lock, Open};
use crate::sync::Mutex;

/// What a disk writes whole or not at all.
const SECTOR_BYTES: usize = 512;

/// A disk in memory. Clones are the same disk.
#[derive(Clone, Debug)]
pub struct SimDisk(Arc<Mutex<World>>);

#[derive(Debug)]
struct World {
    files: BTreeMap<u64, Content>,
    next_file: u64,
    names: BTreeMap<PathBuf, u64>,
    /// As they last; older first what does not yet.
    lasting: BTreeMap<PathBuf, u64>,
    unsynced: Vec<(PathBuf, Option<u64>)>,
    dirs: BTreeSet<PathBuf>,
    locked: BTreeSet<PathBuf>,
    /// Counts crashes; what was opened before one is dead.
    life: u64,
    bytes_max: u64,
    syncs_failing: u32,
    random: StdRng,
}

#[derive(Clone, Debug, Default)]
struct Content {
    now: Vec<u8>,
    lasting: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Write(u64, Vec<u8>),
    Length(u64),
}

impl Change {
    fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Change::Write(offset, bytes) => {
                let (start, end) = (*offset as usize, *offset as usize + bytes.len());
                if to.len() < end {
                    to.resize(end, 0);
                }
                to[start..end].copy_from_slice(bytes);
            }
            Change::Length(bytes) => to.resize(*bytes as usize, 0),
        }
    }

    /// What a power cut may leave of it.
    fn torn(&self, random: &mut StdRng) -> Vec<Change> {
        match self {
            Change::Write(offset, bytes) => {
                let mut at = *offset;
                let mut left = Vec::new();
                let mut rest = &bytes[..];
                while !rest.is_empty() {
                    let room = SECTOR_BYTES - at as usize % SECTOR_BYTES;
                    let (sector, behind) = rest.split_at(room.min(rest.len()));
                    if random.random() {
                        left.push(Change::Write(at, sector.to_vec()));
                    }
                    at += sector.len() as u64;
                    rest = behind;
                }
                left
            }
            Change::Length(_) if random.random() => vec![self.clone()],
            Change::Length(_) => Vec::new(),
        }
    }
}

impl SimDisk {
    /// An empty disk, whose faults follow from `seed`.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(World {
            files: BTreeMap::new(),
            next_file: 1,
            names: BTreeMap::new(),
            lasting: BTreeMap::new(),
            unsynced: Vec::new(),
            dirs: BTreeSet::new(),
            locked: BTreeSet::new(),
            life: 0,
            bytes_max: u64::MAX,
            syncs_failing: 0,
            random: StdRng::seed_from_u64(seed),
        })))
    }

    /// For [`Disk`]'s users.
    pub fn disk(&self) -> Arc<dyn Disk> {
        Arc::new(self.clone())
    }

    /// The power goes, and comes back.
    pub fn cut_power(&self) {
        let world = &mut *self.0.lock();
        for content in world.files.values_mut() {
            // All, none or any part: the first two are as likely in life, and rare if every sector is a coin.
            let kind: u32 = world.random.random_range(0..4);
            for change in content.unsynced.drain(..) {
                match kind {
                    0 => {}
                    1 => change.apply(&mut content.lasting),
                    _ => change
                        .torn(&mut world.random)
                        .iter()
                        .for_each(|part| part.apply(&mut content.lasting)),
                }
            }
            content.now = content.lasting.clone();
        }
        let kept = world.random.random_range(0..=world.unsynced.len());
        for (path, file) in world.unsynced.drain(..).take(kept) {
            set(&mut world.lasting, path, file);
        }
        world.names = world.lasting.clone();
        let named: BTreeSet<u64> = world.names.values().copied().collect();
        world.files.retain(|file, _| named.contains(file));
        world.die();
    }

    /// The process that has files open is killed.
    pub fn kill(&self) {
        self.0.lock().die();
    }

    /// So many syncs of files fail from now on.
    pub fn fail_syncs(&self, count: u32) {
        self.0.lock().syncs_failing = count;
    }

    /// The disk has room for so many bytes in all.
    pub fn limit(&self, bytes_max: u64) {
        self.0.lock().bytes_max = bytes_max;
    }
}

fn set(names: &mut BTreeMap<PathBuf, u64>, path: PathBuf, file: Option<u64>) {
    match file {
        Some(file) => names.insert(path, file),
        None => names.remove(&path),
    };
}

impl World {
    fn die(&mut self) {
        self.life += 1;
        self.locked.clear();
    }

    fn name(&mut self, path: &Path, file: Option<u64>) {
        set(&mut self.names, path.to_owned(), file);
        self.unsynced.push((path.to_owned(), file));
    }

    fn make(&mut self, path: &Path) -> io::Result<u64> {
        if !path.parent().is_some_and(|dir| self.dirs.contains(dir)) {
            return Err(error(libc::ENOENT));
        }
        let file = self.next_file;
        self.next_file += 1;
        self.files.insert(file, Content::default());
        self.name(path, Some(file));
        Ok(file)
    }

    fn find(&self, path: &Path) -> io::Result<u64> {
        self.names.get(path).copied().ok_or_else(|| error(libc::ENOENT))
    }

    fn change(&mut self, file: u64, change: Change) -> io::Result<()> {
        let used: u64 = self.files.values().map(|content| content.now.len() as u64).sum();
        let content = self.files.get_mut(&file).ok_or_else(|| error(libc::EIO))?;
        let end = match &change {
            Change::Write(offset, bytes) => offset + bytes.len() as u64,
            Change::Length(bytes) => *bytes,
        };
        let grows = end.saturating_sub(content.now.len() as u64);
        if grows > 0 && used + grows > self.bytes_max {
            return Err(error(libc::ENOSPC));
        }
        change.apply(&mut content.now);
        content.unsynced.push(change);
        Ok(())
    }

    fn sync(&mut self, file: u64) -> io::Result<()> {
        let content = self.files.get_mut(&file).ok_or_else(|| error(libc::EIO))?;
        if self.syncs_failing > 0 {
            self.syncs_failing -= 1;
            // What could not be written counts as clean from here on.
            content.unsynced.clear();
            return Err(error(libc::EIO));
        }
        for change in content.unsynced.drain(..) {
            change.apply(&mut content.lasting);
        }
        Ok(())
    }

    fn sync_names(&mut self, dir: &Path) {
        for (path, file) in std::mem::take(&mut self.unsynced) {
            match path.parent() == Some(dir) {
                true => set(&mut self.lasting, path, file),
                false => self.unsynced.push((path, file)),
            }
        }
    }
}

fn error(errno: i32) -> io::Error {
    io::Error::from_raw_os_error(errno)
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        let world = &mut *self.0.lock();
        let file = match (world.find(path), how) {
            (Ok(file), Open::Create) => {
                world.change(file, Change::Length(0))?;
                file
            }
            (Err(_), Open::Create) => world.make(path)?,
            (found, _) => found?,
        };
        Ok(Arc::new(SimFile {
            disk: self.clone(),
            file,
            life: world.life,
        }))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let world = self.0.lock();
        let file = world.find(path)?;
        Ok(world.files[&file].now.clone())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        let world = self.0.lock();
        if !world.dirs.contains(dir) {
            return Err(error(libc::ENOENT));
        }
        let all = world.names.keys().chain(&world.dirs);
        let within = all.filter(|path| path.parent() == Some(dir));
        Ok(within
            .filter_map(|path| path.file_name().map(ToOwned::to_owned))
            .collect())
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut world = self.0.lock();
        // Folders last at once: this call syncs them.
        world.dirs.extend(dir.ancestors().map(Path::to_owned));
        Ok(())
    }

    fn write_atomic(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let world = &mut *self.0.lock();
        let temporary = path.with_file_name(".crashsafe-sim.tmp");
        let file = world.make(&temporary)?;
        world.change(file, Change::Write(0, bytes.to_vec()))?;
        world.sync(file)?;
        world.name(&temporary, None);
        world.name(path, Some(file));
        path.parent().into_iter().for_each(|dir| world.sync_names(dir));
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let world = &mut *self.0.lock();
        let file = world.find(from)?;
        world.name(from, None);
        world.name(to, Some(file));
        from.parent().into_iter().for_each(|dir| world.sync_names(dir));
        to.parent().into_iter().for_each(|dir| world.sync_names(dir));
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.discard(path)?;
        path.parent().map_or(Ok(()), |dir| self.sync_dir(dir))
    }

    fn discard(&self, path: &Path) -> io::Result<()> {
        let mut world = self.0.lock();
        world.find(path)?;
        world.name(path, None);
        Ok(())
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        let world = &mut *self.0.lock();
        if !world.dirs.contains(dir) {
            return Err(error(libc::ENOENT));
        }
        let within: Vec<PathBuf> = world
            .names
            .keys()
            .filter(|path| path.starts_with(dir))
            .cloned()
            .collect();
        within.iter().for_each(|path| world.name(path, None));
        world.dirs.retain(|path| !path.starts_with(dir));
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.lock().sync_names(dir);
        Ok(())
    }

    fn tidy(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Lock> {
        let mut world = self.0.lock();
        if !world.locked.insert(path.to_owned()) {
            return Ok(Lock::Held(None));
        }
        if world.find(path).is_err() {
            world.make(path)?;
        }
        Ok(Lock::Taken(Box::new(SimLock {
            disk: self.clone(),
            path: path.to_owned(),
            life: world.life,
        })))
    }
}

#[derive(Debug)]
struct SimLock {
    disk: SimDisk,
    path: PathBuf,
    life: u64,
}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut world = self.disk.0.lock();
        if world.life == self.life {
            world.locked.remove(&self.path);
        }
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    file: u64,
    life: u64,
}

impl SimFile {
    fn with<T>(&self, action: impl FnOnce(&mut World) -> io::Result<T>) -> io::Result<T> {
        let mut world = self.disk.0.lock();
        match world.life == self.life {
            true => action(&mut world),
            false => Err(io::Error::other("the process that opened this file was killed")),
        }
    }

    fn content<T>(&self, action: impl FnOnce(&Content) -> T) -> io::Result<T> {
        self.with(|world| world.files.get(&self.file).map(action).ok_or_else(|| error(libc::EIO)))
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.content(|content| {
            let rest = content.now.get(offset as usize..).unwrap_or_default();
            let count = rest.len().min(bytes.len());
            bytes[..count].copy_from_slice(&rest[..count]);
            count
        })
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.with(|world| world.change(self.file, Change::Write(offset, bytes.to_vec())))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.with(|world| world.sync(self.file))
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        self.content(|content| content.now.len() as u64)
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        match self.len()? < bytes {
            true => self.with(|world| world.change(self.file, Change::Length(bytes))),
            false => Ok(()),
        }
    }

    fn next_data(&self, from: u64, end: u64) -> io::Result<Option<u64>> {
        // As a file system that cannot tell holes: all is data.
        Ok((from < end.min(self.len()?)).then_some(from))
    }

    fn data_end(&self) -> io::Result<u64> {
        self.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(seed: u64) -> (SimDisk, PathBuf) {
        let disk = SimDisk::new(seed);
        disk.create_dir_all(Path::new("/d")).unwrap();
        (disk, PathBuf::from("/d/f"))
    }

    #[test]
    fn a_cut_keeps_what_was_synced_and_any_part_of_the_rest() {
        let mut seen = BTreeSet::new();
        for seed in 0..64 {
            let (disk, path) = disk(seed);
            let file = disk.open(&path, Open::Create).unwrap();
            file.write_all_at(&[1; 3 * SECTOR_BYTES], 0).unwrap();
            file.sync_all().unwrap();
            disk.sync_dir(Path::new("/d")).unwrap();
            file.write_all_at(&[2; 2 * SECTOR_BYTES], SECTOR_BYTES as u64).unwrap();
            disk.cut_power();
            file.read_at(&mut [0], 0).unwrap_err();
            let found = disk.read(&path).unwrap();
            assert_eq!(found[..SECTOR_BYTES], [1; SECTOR_BYTES]);
            let sectors = (found[SECTOR_BYTES], found[2 * SECTOR_BYTES]);
            assert!(
                found
                    .chunks(SECTOR_BYTES)
                    .all(|sector| sector.iter().all(|byte| *byte == sector[0]))
            );
            seen.insert(sectors);
        }
        assert_eq!(seen.len(), 4, "each of the two sectors old and new: {seen:?}");
    }

    #[test]
    fn names_that_were_not_synced_may_go() {
        let there: BTreeSet<bool> = (0..64)
            .map(|seed| {
                let (disk, path) = disk(seed);
                disk.open(&path, Open::Create).unwrap().sync_all().unwrap();
                disk.cut_power();
                disk.read(&path).is_ok()
            })
            .collect();
        assert_eq!(there.len(), 2);
        let (disk, path) = disk(1);
        disk.write_atomic(&path, b"old").unwrap();
        disk.write_atomic(&path, b"new").unwrap();
        disk.cut_power();
        assert_eq!(disk.read(&path).unwrap(), b"new");
        assert_eq!(disk.list(Path::new("/d")).unwrap(), ["f"]);
    }

    #[test]
    fn a_sync_that_failed_has_lost_what_it_was_for() {
        let (disk, path) = disk(1);
        disk.write_atomic(&path, b"aa").unwrap();
        let file = disk.open(&path, Open::Write).unwrap();
        file.write_all_at(b"bb", 0).unwrap();
        disk.fail_syncs(1);
        assert_eq!(file.sync_data().unwrap_err().raw_os_error(), Some(libc::EIO));
        file.sync_data().unwrap();
        assert_eq!(disk.read(&path).unwrap(), b"bb", "seen while the power is on");
        disk.cut_power();
        assert_eq!(disk.read(&path).unwrap(), b"aa");
    }

    #[test]
    fn a_full_disk_takes_nothing_more() {
        let (disk, path) = disk(1);
        disk.limit(10);
        let file = disk.open(&path, Open::Create).unwrap();
        assert_eq!(file.allocate(11).unwrap_err().raw_os_error(), Some(libc::ENOSPC));
        file.write_all_at(&[0; 10], 0).unwrap();
        assert_eq!(
            file.write_all_at(&[1], 10).unwrap_err().raw_os_error(),
            Some(libc::ENOSPC)
        );
        file.write_all_at(&[1; 10], 0).unwrap();
    }

    #[test]
    fn a_lock_ends_with_its_holder_or_its_life() {
        let (disk, path) = disk(1);
        let held = disk.lock(&path).unwrap();
        assert!(matches!(disk.lock(&path).unwrap(), Lock::Held(_)));
        drop(held);
        let dead = disk.lock(&path).unwrap();
        disk.kill();
        let held = disk.lock(&path).unwrap();
        drop(dead);
        assert!(matches!(held, Lock::Taken(_)) && matches!(disk.lock(&path).unwrap(), Lock::Held(_)));
    }
}
