//! System calls on data files that std lacks.

use alluxio_common::descriptors;
use std::fs::{File, OpenOptions};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;

/// Not in the libc crate for all targets; the same on all of Linux but PA-RISC.
const F_SETSIG: libc::c_int = 10;

/// What fstat(2) says, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileStat {
    pub size: u64,
    pub mtime_ns: i64,
    pub ctime_ns: i64,
    /// What it takes of the disk.
    pub disk_bytes: u64,
}

/// fstat(2).
pub(crate) fn stat(file: &File) -> io::Result<FileStat> {
    let meta = file.metadata()?;
    Ok(FileStat {
        size: meta.len(),
        mtime_ns: meta.mtime() * 1_000_000_000 + meta.mtime_nsec(),
        ctime_ns: meta.ctime() * 1_000_000_000 + meta.ctime_nsec(),
        disk_bytes: meta.blocks() * 512,
    })
}

/// When a file was made; `None` where the file system does not keep it.
pub(crate) fn made_ns(file: &File) -> io::Result<Option<i64>> {
    let made = match file.metadata()?.created() {
        Ok(made) => made,
        Err(error) if error.kind() == io::ErrorKind::Unsupported => return Ok(None),
        Err(error) => return Err(error),
    };
    let since = made.duration_since(std::time::UNIX_EPOCH);
    Ok(since.ok().and_then(|since| i64::try_from(since.as_nanos()).ok()))
}

/// Reads up to `length` bytes at `offset`, fewer only at the end of the file. With `cached_only`, `None` if not all of it
/// is in the page cache (or the file system cannot tell).
pub(crate) fn read_at(file: &File, offset: u64, length: usize, cached_only: bool) -> io::Result<Option<Vec<u8>>> {
    let mut buffer: Vec<u8> = Vec::with_capacity(length);
    let flags = if cached_only { libc::RWF_NOWAIT } else { 0 };
    while buffer.len() < length {
        let at = buffer.len();
        let spare: &mut [MaybeUninit<u8>] = &mut buffer.spare_capacity_mut()[..length - at];
        let vector = libc::iovec {
            iov_base: spare.as_mut_ptr().cast(),
            iov_len: spare.len(),
        };
        let position = i64::try_from(offset + at as u64).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        // SAFETY: the vector describes `spare`, memory of ours that outlives the call and that nobody else touches.
        let n = unsafe { libc::preadv2(file.as_raw_fd(), &raw const vector, 1, position, flags) };
        if n < 0 {
            let error = io::Error::last_os_error();
            match error.raw_os_error() {
                Some(libc::EINTR) => continue,
                Some(libc::EAGAIN | libc::EOPNOTSUPP) if cached_only => return Ok(None),
                _ => return Err(error),
            }
        }
        if n == 0 {
            break;
        }
        // SAFETY: the kernel initialised `n` bytes behind the current length, within the capacity.
        unsafe { buffer.set_len(at + n as usize) };
        if cached_only && buffer.len() < length {
            // Short: the end of the file, or of what is cached. Only a blocking read can tell.
            return Ok(None);
        }
    }
    Ok(Some(buffer))
}

/// Writes at `offset` as much as can be written; an error if that is nothing.
pub(crate) fn write_at(file: &File, offset: u64, data: &[u8]) -> io::Result<u64> {
    let mut done = 0;
    while done < data.len() {
        match file.write_at(&data[done..], offset + done as u64) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => done += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) if done > 0 => break,
            Err(error) => return Err(error),
        }
    }
    Ok(done as u64)
}

/// Writes at the end, which nobody else moves meanwhile, whoever writes the file. Answers where that was, and how much was
/// written. The position of `file`, which it moves, is used by nobody else.
pub(crate) fn append(file: &File, data: &[u8]) -> io::Result<(u64, u64)> {
    let vector = libc::iovec {
        iov_base: data.as_ptr().cast_mut().cast(),
        iov_len: data.len(),
    };
    loop {
        // SAFETY: the vector describes `data`, which the kernel only reads, and which outlives the call.
        let n = unsafe { libc::pwritev2(file.as_raw_fd(), &raw const vector, 1, -1, libc::RWF_APPEND) };
        match u64::try_from(n) {
            Ok(written) => {
                // SAFETY: no memory is involved.
                let end = unsafe { libc::lseek(file.as_raw_fd(), 0, libc::SEEK_CUR) };
                let end = u64::try_from(end).map_err(|_| io::Error::last_os_error())?;
                return Ok((end.saturating_sub(written), written));
            }
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error => return Err(error),
            },
        }
    }
}

/// The next stretch of data at or after `from`: `None` if only a hole follows.
pub(crate) fn next_data(file: &File, from: u64) -> io::Result<Option<(u64, u64)>> {
    let Some(start) = seek(file, from, libc::SEEK_DATA)? else {
        return Ok(None);
    };
    let end = seek(file, start, libc::SEEK_HOLE)?.unwrap_or(u64::MAX);
    Ok(Some((start, end)))
}

fn seek(file: &File, from: u64, whence: libc::c_int) -> io::Result<Option<u64>> {
    let from = i64::try_from(from).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // SAFETY: no memory is involved; the file position, which it moves, is used by nobody.
    let at = unsafe { libc::lseek(file.as_raw_fd(), from, whence) };
    match u64::try_from(at) {
        Ok(at) => Ok(Some(at)),
        Err(_) => match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ENXIO) => Ok(None),
            error => Err(error),
        },
    }
}

/// Bytes that are copied through memory at once.
const COPY_BUFFER_BYTES: u64 = 1024 * 1024;

/// Copies all of a range between local files: by reference or inside the kernel where the file system can.
pub(crate) fn copy_range(from: &File, from_offset: u64, to: &File, offset: u64, length: u64) -> io::Result<()> {
    let signed = |offset: u64| i64::try_from(offset).map_err(|_| io::Error::from_raw_os_error(libc::EFBIG));
    let mut done = 0;
    while done < length {
        let (mut source, mut target) = (signed(from_offset + done)?, signed(offset + done)?);
        let want = usize::try_from(length - done).unwrap_or(usize::MAX);
        match nix::fcntl::copy_file_range(from, Some(&mut source), to, Some(&mut target), want) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => done += n as u64,
            Err(nix::errno::Errno::EINTR) => {}
            Err(
                nix::errno::Errno::EXDEV
                | nix::errno::Errno::EINVAL
                | nix::errno::Errno::EOPNOTSUPP
                | nix::errno::Errno::ENOSYS,
            ) => {
                return copy_by_hand(from, from_offset + done, to, offset + done, length - done);
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

fn copy_by_hand(from: &File, from_offset: u64, to: &File, offset: u64, length: u64) -> io::Result<()> {
    let mut buffer = vec![0; length.min(COPY_BUFFER_BYTES) as usize];
    let mut done = 0;
    while done < length {
        let n = (length - done).min(COPY_BUFFER_BYTES) as usize;
        from.read_exact_at(&mut buffer[..n], from_offset + done)?;
        to.write_all_at(&buffer[..n], offset + done)?;
        done += n as u64;
    }
    Ok(())
}

/// fallocate(2).
pub(crate) fn allocate(file: &File, mode: i32, offset: u64, length: u64) -> io::Result<()> {
    let invalid = |_| io::Error::from_raw_os_error(libc::EFBIG);
    let offset = i64::try_from(offset).map_err(invalid)?;
    let length = i64::try_from(length).map_err(invalid)?;
    // SAFETY: no memory is involved.
    match unsafe { libc::fallocate(file.as_raw_fd(), mode, offset, length) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Free bytes of the file system that a file is on, those kept for root included.
pub(crate) fn free_bytes(file: &File) -> io::Result<u64> {
    let stat = nix::sys::statvfs::fstatvfs(file)?;
    Ok(stat.blocks_free() * stat.fragment_size())
}

/// Whether there is another open file description of the same file, in whatever process or kernel module. The kernel grants
/// a write lease only if there is none, so one is asked for and given back. True also if it cannot tell: who may have it open
/// is not to find it gone.
pub(crate) fn is_open_elsewhere(file: &File) -> bool {
    let fd = file.as_raw_fd();
    // Who opens the file in just this moment waits for the lease to end, and the kernel tells us by a signal: one that does
    // nothing, instead of SIGIO, which ends the process.
    // SAFETY: these commands take no pointers.
    unsafe {
        if libc::fcntl(fd, F_SETSIG, libc::SIGURG) != 0 {
            return true;
        }
        if libc::fcntl(fd, libc::F_SETLEASE, libc::F_WRLCK) != 0 {
            return true;
        }
        // Cannot fail for a lease that is held.
        libc::fcntl(fd, libc::F_SETLEASE, libc::F_UNLCK);
    }
    false
}

/// Whether some open file description of the same file can write, in whatever process or kernel module; those behind
/// mappings count. The kernel grants a read lease only if there is none, so one is asked for and given back. `file` is
/// read-only.
///
/// # Errors
/// If the file system has no leases.
pub(crate) fn is_written_elsewhere(file: &File) -> io::Result<bool> {
    let fd = file.as_raw_fd();
    // As in `is_open_elsewhere`.
    // SAFETY: these commands take no pointers.
    unsafe {
        if libc::fcntl(fd, F_SETSIG, libc::SIGURG) != 0 {
            return Err(io::Error::last_os_error());
        }
        if libc::fcntl(fd, libc::F_SETLEASE, libc::F_RDLCK) != 0 {
            let error = io::Error::last_os_error();
            return match error.raw_os_error() {
                Some(libc::EAGAIN) => Ok(true),
                _ => Err(error),
            };
        }
        // Cannot fail for a lease that is held.
        libc::fcntl(fd, libc::F_SETLEASE, libc::F_UNLCK);
    }
    Ok(false)
}

/// Sets mtime and leaves atime.
pub(crate) fn set_mtime(file: &File, mtime_ns: i64) -> io::Result<()> {
    let times = [
        libc::timespec {
            tv_sec: 0,
            tv_nsec: libc::UTIME_OMIT,
        },
        libc::timespec {
            tv_sec: mtime_ns.div_euclid(1_000_000_000),
            tv_nsec: mtime_ns.rem_euclid(1_000_000_000),
        },
    ];
    // SAFETY: `times` is the array of two that the call reads.
    match unsafe { libc::futimens(file.as_raw_fd(), times.as_ptr()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Another open file description of the same file, also if its name is gone, that can write.
pub(crate) fn reopen(file: &File) -> io::Result<OwnedFd> {
    reopen_with(OpenOptions::new().read(true).write(true), file)
}

/// As [`reopen_read_only`], for who can do without: `None` where descriptors are scarce.
pub(crate) fn reopen_to_spare(file: &File) -> io::Result<Option<OwnedFd>> {
    match reopen_read_only(file) {
        Ok(again) => Ok(Some(again).filter(|again| !descriptors::are_scarce(again))),
        Err(error) if descriptors::are_used_up(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// As [`reopen`], for reading only: what is handed out, and shares no position with ours. For passthrough the kernel opens
/// the file again for each open, as that one wants it, so this serves writers as well.
pub(crate) fn reopen_read_only(file: &File) -> io::Result<OwnedFd> {
    reopen_with(OpenOptions::new().read(true), file)
}

fn reopen_with(options: &OpenOptions, file: &File) -> io::Result<OwnedFd> {
    let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    Ok(options.open(path)?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_cannot_tell_whether_a_file_is_open_says_that_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let file = File::create(&path).unwrap();
        assert!(!is_open_elsewhere(&file));
        let other = File::open(&path).unwrap();
        assert!(is_open_elsewhere(&file));
        drop(other);
        assert!(!is_open_elsewhere(&file));
        // No leases of such a thing: any errno but EAGAIN.
        assert!(is_open_elsewhere(&File::open("/dev/null").unwrap()));
    }
}
