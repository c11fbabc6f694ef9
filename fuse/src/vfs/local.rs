//! A worker's local file, as the kernel and the daemon see it.

use alluxio_proto::{FsError, FsResult};
use std::any::Any;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, OnceLock};

/// A worker's local file, with what the kernel was told about it.
pub struct LocalFile {
    /// Read-only: what the kernel opens for writers and their mappings is its own, and the worker has to be able to tell
    /// whether there are any.
    pub file: File,
    /// Whatever the transport keeps with it (the backing id): dropped with the last open.
    pub kernel: OnceLock<Box<dyn Any + Send + Sync>>,
}

impl LocalFile {
    pub(super) fn new(fd: OwnedFd) -> Arc<LocalFile> {
        Arc::new(LocalFile {
            file: File::from(fd),
            kernel: OnceLock::new(),
        })
    }

    /// Length and mtime now.
    pub(super) fn stamp(&self) -> FsResult<Stamp> {
        Ok(self.look()?.stamp)
    }

    /// What fstat says of it now.
    pub(super) fn look(&self) -> FsResult<Seen> {
        let meta = self
            .file
            .metadata()
            .map_err(|error| FsError::from_io("fstat a worker's file", &error))?;
        let stamp = Stamp {
            length: meta.len(),
            mtime_ns: meta.mtime() * 1_000_000_000 + meta.mtime_nsec(),
        };
        Ok(Seen {
            stamp,
            ctime_ns: meta.ctime() * 1_000_000_000 + meta.ctime_nsec(),
            hole_bytes: meta.len().saturating_sub(meta.blocks() * 512),
        })
    }
}

/// Whether both are there and descriptors of one file.
pub(super) fn same_file(one: Option<&Arc<LocalFile>>, other: Option<&Arc<LocalFile>>) -> FsResult<bool> {
    let identity = |local: &LocalFile| {
        let meta = local.file.metadata();
        meta.map(|meta| (meta.dev(), meta.ino()))
            .map_err(|error| FsError::from_io("fstat a worker's file", &error))
    };
    match (one, other) {
        (Some(one), Some(other)) => Ok(identity(one)? == identity(other)?),
        _ => Ok(false),
    }
}

/// What shows that a local file changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub length: u64,
    pub mtime_ns: i64,
}

/// What the home's file says of itself.
pub(super) struct Seen {
    pub stamp: Stamp,
    pub ctime_ns: i64,
    /// How much of the length is holes.
    pub hole_bytes: u64,
}
