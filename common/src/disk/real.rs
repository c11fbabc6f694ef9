//! The machine's files.

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::{fd::AsRawFd, unix::fs::FileExt};
use std::path::Path;
use std::sync::Arc;

use nix::libc;

use super::{Disk, DiskFile, Lock, Open};
use crate::crashsafe;

#[derive(Debug)]
struct Real;

/// The machine's files.
pub fn real() -> Arc<dyn Disk> {
    Arc::new(Real)
}

impl Disk for Real {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = crashsafe::private_file();
        options.read(true).write(how != Open::Read);
        let is_new = how == Open::Create;
        Ok(Arc::new(RealFile(options.create(is_new).truncate(is_new).open(path)?)))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name())).collect()
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        crashsafe::create_dir_all(dir)
    }

    fn write_atomic(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        crashsafe::write_atomic(path, bytes)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        crashsafe::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        crashsafe::remove_file(path)
    }

    fn discard(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        fs::remove_dir_all(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        crashsafe::sync_dir(dir)
    }

    fn tidy(&self, dir: &Path) -> io::Result<()> {
        crashsafe::remove_leftovers(dir)?;
        crashsafe::tighten_tree(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Lock> {
        let mut options = crashsafe::private_file();
        let mut file = options.read(true).write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => {
                // Only for the message that another process prints.
                file.set_len(0)?;
                file.rewind()?;
                writeln!(file, "{}", std::process::id())?;
                Ok(Lock::Taken(Box::new(file)))
            }
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                // Without the pid the message is only less helpful.
                let _ = file.read_to_string(&mut text);
                Ok(Lock::Held(text.trim().parse().ok()))
            }
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

/// Of its own, so that its methods do not mix with those of the standard library's traits.
#[derive(Debug)]
struct RealFile(File);

impl DiskFile for RealFile {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(bytes, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.0.sync_all()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        use nix::fcntl::{FallocateFlags, fallocate};
        match fallocate(&self.0, FallocateFlags::empty(), 0, bytes as i64) {
            Ok(()) => Ok(()),
            // A file system that cannot gets a file of that length without blocks.
            Err(nix::errno::Errno::EOPNOTSUPP) => self.0.set_len(bytes),
            Err(e) => Err(e.into()),
        }
    }

    fn next_data(&self, from: u64, end: u64) -> io::Result<Option<u64>> {
        if from >= end {
            return Ok(None);
        }
        // SAFETY: lseek on a descriptor that `self` keeps open; it touches no memory. Nobody uses the file's position.
        let at = unsafe { libc::lseek(self.0.as_raw_fd(), from as i64, libc::SEEK_DATA) };
        if at >= 0 {
            let at = at as u64;
            return Ok((at < end).then_some(at));
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::ENXIO) => Ok(None),
            // Not every file system can tell; then all of it counts as data.
            Some(libc::EINVAL) | Some(libc::EOPNOTSUPP) => Ok(Some(from)),
            _ => Err(error),
        }
    }

    fn data_end(&self) -> io::Result<u64> {
        let len = self.len()?;
        let mut end = 0;
        while let Some(data) = self.next_data(end, len)? {
            // SAFETY: as in `next_data`.
            let hole = unsafe { libc::lseek(self.0.as_raw_fd(), data as i64, libc::SEEK_HOLE) };
            if hole < 0 {
                return Ok(len);
            }
            end = hole as u64;
        }
        Ok(end.min(len))
    }
}
