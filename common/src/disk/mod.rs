//! Files, as a parameter: what a simulation must own reaches no file but through a [`Disk`].
//!
//! [`real`] is the machine's, by way of [`crate::crashsafe`]. [`SimDisk`] keeps files in memory and does to them what disks do:
//! it loses what was not synced, tears writes, fails and is full.
//!
//! **Left out:** what only users of the namespace need (modes, owners, links).

mod real;
mod sim;

use std::ffi::OsString;
use std::fmt::Debug;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

pub use real::real;
pub use sim::SimDisk;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// To be read; it must exist.
    Read,
    /// To be read and written; it must exist.
    Write,
    /// To be read and written; made if it is missing, for its owner alone, and emptied.
    Create,
}

/// What became of an attempt to lock a file.
#[derive(Debug)]
pub enum Lock {
    /// It is ours until this is dropped.
    Taken(Box<dyn Debug + Send + Sync>),
    /// Somebody has it: the process, where that is known.
    Held(Option<u32>),
}

/// A place for files.
pub trait Disk: Debug + Send + Sync + 'static {
    /// Opens a file.
    ///
    /// # Errors
    /// As open(2).
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>>;

    /// Everything in a file.
    ///
    /// # Errors
    /// As open(2) and read(2).
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// The names in a folder, in no order.
    ///
    /// # Errors
    /// As opendir(3).
    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>>;

    /// As [`crate::crashsafe::create_dir_all`].
    ///
    /// # Errors
    /// As mkdir(2) and fsync(2).
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;

    /// As [`crate::crashsafe::write_atomic`].
    ///
    /// # Errors
    /// Of writing, syncing or renaming.
    fn write_atomic(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;

    /// As [`crate::crashsafe::rename`].
    ///
    /// # Errors
    /// As rename(2) and fsync(2).
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// As [`crate::crashsafe::remove_file`].
    ///
    /// # Errors
    /// As unlink(2) and fsync(2).
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Removes what it does not matter to find again after a crash.
    ///
    /// # Errors
    /// As unlink(2).
    fn discard(&self, path: &Path) -> io::Result<()>;

    /// Removes a folder and what is in it; [`Disk::sync_dir`] of the one above makes that last.
    ///
    /// # Errors
    /// As unlink(2) and rmdir(2).
    fn remove_dir_all(&self, dir: &Path) -> io::Result<()>;

    /// Makes the names in a folder last.
    ///
    /// # Errors
    /// As fsync(2).
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Removes what [`Disk::write_atomic`] left when it was cut short, and takes others' rights from a folder and all in it.
    ///
    /// # Errors
    /// Of looking, removing or changing.
    fn tidy(&self, dir: &Path) -> io::Result<()>;

    /// Locks a file for this process, making it if it is missing.
    ///
    /// # Errors
    /// As open(2) and flock(2), but for somebody having it.
    fn lock(&self, path: &Path) -> io::Result<Lock>;
}

/// An open file.
pub trait DiskFile: Debug + Send + Sync + 'static {
    /// Reads some bytes; 0 at the end.
    ///
    /// # Errors
    /// As pread(2).
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of it.
    ///
    /// # Errors
    /// As pwrite(2).
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes the content last.
    ///
    /// # Errors
    /// As fdatasync(2); what was written since the last sync may be gone then, and a later one does not bring it back.
    fn sync_data(&self) -> io::Result<()>;

    /// Makes content and attributes last.
    ///
    /// # Errors
    /// As [`DiskFile::sync_data`].
    fn sync_all(&self) -> io::Result<()>;

    /// Its length.
    ///
    /// # Errors
    /// As fstat(2).
    fn len(&self) -> io::Result<u64>;

    /// Whether there is nothing in it.
    ///
    /// # Errors
    /// As fstat(2).
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Makes it so long, with blocks of the disk where the file system can.
    ///
    /// # Errors
    /// As fallocate(2).
    fn allocate(&self, bytes: u64) -> io::Result<()>;

    /// The next offset at or after `from` that holds data; `None` if there are only holes up to `end`.
    ///
    /// # Errors
    /// As lseek(2).
    fn next_data(&self, from: u64, end: u64) -> io::Result<Option<u64>>;

    /// Where the last data ends; behind that there are only holes.
    ///
    /// # Errors
    /// As lseek(2).
    fn data_end(&self) -> io::Result<u64>;
}

/// A file that is read or written from its start on.
#[derive(Debug)]
pub struct Stream {
    file: Arc<dyn DiskFile>,
    at: u64,
}

impl Stream {
    /// From the start of a file.
    pub fn new(file: Arc<dyn DiskFile>) -> Self {
        Self { file, at: 0 }
    }

    /// The file.
    pub fn file(&self) -> &Arc<dyn DiskFile> {
        &self.file
    }
}

impl Read for Stream {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(bytes, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_all_at(bytes, self.at)?;
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads until `bytes` is full or the file ends; returns how many there were.
///
/// # Errors
/// As [`DiskFile::read_at`].
pub fn read_full(file: &dyn DiskFile, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < bytes.len() {
        match file.read_at(&mut bytes[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}
