//! Range reads of one open file, checked against its fingerprint before and after each chunk.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use alluxio_proto::types::FileKind;
use bytes::{Bytes, BytesMut};
use nix::fcntl::OFlag;
use nix::sys::stat;

use super::errno::{error, io_error};
use super::root::{Root, fingerprint_of, kind_of};
use crate::{UfsError, UfsErrorKind, UfsMetrics, UfsResult, path};

/// Read at a time.
const CHUNK_BYTES: u64 = 1 << 20;

/// A read under way: one descriptor.
#[derive(Debug)]
pub(super) struct RangeRead {
    root: Arc<Root>,
    path: Vec<u8>,
    file: File,
    fingerprint: String,
    range: Range<u64>,
}

impl RangeRead {
    pub fn open(root: Arc<Root>, path: Vec<u8>, range: Range<u64>, fingerprint: String) -> UfsResult<Self> {
        UfsMetrics::add(&root.metrics.requests, 1);
        let file = open_regular(&root, &path, OFlag::O_RDONLY | OFlag::O_NONBLOCK)?;
        let stat = stat::fstat(&file).map_err(|errno| error(errno, "stat", &path))?;
        let found = fingerprint_of(&stat);
        if !fingerprint.is_empty() && fingerprint != found {
            return Err(refused(UfsErrorKind::PreconditionFailed, &path, "it has changed"));
        }
        if range.end > u64::try_from(stat.st_size).unwrap_or(0) {
            return Err(refused(
                UfsErrorKind::Invalid,
                &path,
                &format!("{range:?} goes beyond its end"),
            ));
        }
        Ok(Self {
            root,
            path,
            file,
            fingerprint: found,
            range,
        })
    }

    /// The next chunk; nothing at the end.
    pub fn next(&mut self) -> UfsResult<Option<Bytes>> {
        if self.range.is_empty() {
            return Ok(None);
        }
        let length = CHUNK_BYTES.min(self.range.end - self.range.start);
        // At most a chunk, which fits.
        let mut chunk = BytesMut::zeroed(length as usize);
        let result = self.file.read_exact_at(&mut chunk, self.range.start);
        // A file that was cut shorter is a changed one, so this comes first.
        let stat = stat::fstat(&self.file).map_err(|errno| error(errno, "stat", &self.path))?;
        if fingerprint_of(&stat) != self.fingerprint {
            return Err(refused(
                UfsErrorKind::PreconditionFailed,
                &self.path,
                "it changed while it was read",
            ));
        }
        result.map_err(|error| io_error(&error, "read", &self.path))?;
        self.range.start += length;
        UfsMetrics::add(&self.root.metrics.bytes_read, length);
        Ok(Some(chunk.freeze()))
    }
}

/// Opens a regular file beneath the root.
pub(super) fn open_regular(root: &Root, path: &[u8], flags: OFlag) -> UfsResult<File> {
    // Asked before opening, for opening a device may already do something.
    match root.status(path)?.kind {
        FileKind::File => {}
        FileKind::Directory => return Err(refused(UfsErrorKind::IsADirectory, path, "it is a directory")),
        _ => return Err(refused(UfsErrorKind::Invalid, path, "it is no regular file")),
    }
    let descriptor = root.open_beneath(path, flags)?;
    let stat = stat::fstat(&descriptor).map_err(|errno| error(errno, "stat", path))?;
    if kind_of(&stat) != FileKind::File {
        return Err(refused(UfsErrorKind::Invalid, path, "it is no regular file"));
    }
    Ok(File::from(descriptor))
}

fn refused(kind: UfsErrorKind, path: &[u8], why: &str) -> UfsError {
    UfsError::new(kind, format!("read {}: {why}", path::show(path)))
}
