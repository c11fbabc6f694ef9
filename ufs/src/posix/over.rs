//! Writes over a base: what is clean goes from file to file inside the kernel, by reference where the file system can.
//!
//! The base is looked at before and after: like a read, a copy that overlaps a change in place fails rather than mixing
//! versions, as far as `mtime_ns-length-inode` tells.

use std::fs::File;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{self, OFlag};
use nix::sys::stat;

use super::errno::error;
use super::reading::open_regular;
use super::root::{Root, fingerprint_of};
use crate::{BaseObject, UfsError, UfsErrorKind, UfsMetrics, UfsResult};

/// Copied by one call: a file system that has to move the bytes is not inside the kernel for minutes.
const COPY_BYTES: u64 = 256 << 20;

/// An open base.
#[derive(Debug)]
pub(crate) struct BaseFile {
    root: Arc<Root>,
    file: File,
    base: BaseObject,
}

impl BaseFile {
    /// All of a file, as a base of a copy of it.
    ///
    /// # Errors
    /// [`UfsErrorKind::BaseChanged`] if it is gone or another one.
    pub(super) fn whole(root: &Arc<Root>, path: &[u8], fingerprint: String) -> UfsResult<Self> {
        let length = root.status(path)?.length;
        let whole = 0..length;
        let base = BaseObject {
            path: bytes::Bytes::copy_from_slice(path),
            fingerprint,
            length,
            clean: Vec::from_iter((length > 0).then_some(whole)),
        };
        Self::open(root, base)
    }

    /// In bytes.
    pub(super) fn length(&self) -> u64 {
        self.base.length
    }

    /// Makes `to`, which is empty, share the blocks of it.
    ///
    /// # Errors
    /// [`UfsErrorKind::Unsupported`] if their file systems cannot.
    pub(super) fn share_with(&self, to: &File) -> UfsResult<()> {
        // SAFETY: both descriptors are open for as long as the call takes; it touches no memory of ours.
        let failed = unsafe { libc::ioctl(to.as_raw_fd(), libc::FICLONE, self.file.as_raw_fd()) } != 0;
        if failed {
            let why = format!("share blocks: {}", Errno::desc(Errno::last()));
            return Err(UfsError::new(UfsErrorKind::Unsupported, why));
        }
        UfsMetrics::add(&self.root.metrics.bytes_copied, self.base.length);
        self.check()
    }

    /// # Errors
    /// [`UfsErrorKind::BaseChanged`] if it is gone or another one.
    pub(super) fn open(root: &Arc<Root>, base: BaseObject) -> UfsResult<Self> {
        let file = match open_regular(root, &base.path, OFlag::O_RDONLY | OFlag::O_NONBLOCK) {
            Ok(file) => file,
            Err(error) if error.kind == UfsErrorKind::NotFound => return Err(base.changed("it is gone")),
            Err(error) => return Err(error),
        };
        let opened = Self {
            root: root.clone(),
            file,
            base,
        };
        opened.check()?;
        Ok(opened)
    }

    /// Copies what is clean to the same offsets of `to`.
    pub(super) fn copy_clean(&self, to: &File) -> UfsResult<()> {
        for range in &self.base.clean {
            self.copy(range, to)?;
        }
        self.check()
    }

    fn copy(&self, range: &Range<u64>, to: &File) -> UfsResult<()> {
        let mut at = range.start;
        while at < range.end {
            let fail = |errno| match errno {
                // Of two file systems, or of one that cannot.
                Errno::EXDEV | Errno::EINVAL | Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EPERM => UfsError::new(
                    UfsErrorKind::Unsupported,
                    format!("copy_file_range: {}", Errno::desc(errno)),
                ),
                _ => error(errno, "copy from", &self.base.path),
            };
            let offset = i64::try_from(at).map_err(|_| fail(Errno::EFBIG))?;
            let (mut from_offset, mut to_offset) = (offset, offset);
            let wanted = COPY_BYTES.min(range.end - at) as usize;
            let copied = fcntl::copy_file_range(&self.file, Some(&mut from_offset), to, Some(&mut to_offset), wanted);
            match copied {
                Ok(0) => return Err(self.base.changed("it has become shorter")),
                Ok(n) => {
                    at += n as u64;
                    UfsMetrics::add(&self.root.metrics.bytes_copied, n as u64);
                }
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(fail(errno)),
            }
        }
        Ok(())
    }

    fn check(&self) -> UfsResult<()> {
        let stat = stat::fstat(&self.file).map_err(|errno| error(errno, "stat", &self.base.path))?;
        if fingerprint_of(&stat) == self.base.fingerprint {
            return Ok(());
        }
        Err(self.base.changed("it has changed"))
    }
}
