//! Mappings that live across operations.

use super::sys::{Outcome, check, errno, stat_fd};
use std::os::fd::{AsRawFd, OwnedFd};

/// Bytes that a mapping covers, whatever the file's length: it may grow into it.
const MAP_BYTES: usize = 1 << 20;

/// A mapping and the descriptor it came from, by which its length is known: touching what lies behind the end is SIGBUS.
pub(super) struct Mapping {
    address: *mut u8,
    file: OwnedFd,
    writable: bool,
}

impl Mapping {
    /// mmap(2) from offset 0, for writing if the descriptor can.
    pub fn new(file: OwnedFd, shared: bool) -> Outcome<Mapping> {
        // SAFETY: no pointer is passed.
        let flags = check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFL) })? as i32;
        let writable = !shared || flags & libc::O_ACCMODE == libc::O_RDWR;
        let protection = libc::PROT_READ | if writable { libc::PROT_WRITE } else { 0 };
        let kind = if shared { libc::MAP_SHARED } else { libc::MAP_PRIVATE };
        // SAFETY: the kernel chooses an address that is free.
        let address = unsafe { libc::mmap(std::ptr::null_mut(), MAP_BYTES, protection, kind, file.as_raw_fd(), 0) };
        if address == libc::MAP_FAILED {
            return Err(errno());
        }
        Ok(Mapping {
            address: address.cast(),
            file,
            writable,
        })
    }

    /// The part of a range that lies within mapping and file.
    fn within(&self, offset: usize, length: usize) -> Outcome<(usize, usize)> {
        let end = (stat_fd(self.file.as_raw_fd())?.st_size as usize).min(MAP_BYTES);
        let from = offset.min(end);
        Ok((from, (offset + length).min(end) - from))
    }

    /// Bytes as they are seen through the mapping.
    pub fn read(&self, offset: usize, length: usize) -> Outcome<Vec<u8>> {
        let (from, length) = self.within(offset, length)?;
        // SAFETY: the range lies within the mapping and before the end of the file, which only this actor's sequence changes.
        Ok(unsafe { std::slice::from_raw_parts(self.address.add(from), length) }.to_vec())
    }

    /// Stores bytes through the mapping; answers how many.
    pub fn write(&self, offset: usize, bytes: &[u8]) -> Outcome<usize> {
        if !self.writable {
            return Err(libc::EACCES);
        }
        let (from, length) = self.within(offset, bytes.len())?;
        // SAFETY: as in `read`; the mapping is writable.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.address.add(from), length) };
        Ok(length)
    }

    /// msync(2), synchronously.
    pub fn sync(&self) -> Outcome<i64> {
        // SAFETY: address and length are those of the mapping.
        check(unsafe { libc::msync(self.address.cast(), MAP_BYTES, libc::MS_SYNC) })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: address and length are those of the mapping, which nobody uses after this.
        unsafe { libc::munmap(self.address.cast(), MAP_BYTES) };
    }
}
