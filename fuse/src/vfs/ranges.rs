//! Holes, and copies of ranges from file to file.
//!
//! Where holes are is known by who has the local file: this process, if the kernel works on it, else a worker. A copy is made
//! by the worker that has the destination open, if it has the source as well; otherwise the kernel is told EXDEV and copies
//! through its own pages.

use super::Vfs;
use super::data::{ROUND_PAUSE, Server, not_open_for_writing};
use super::inode::{Handle, Home, Marks};
use super::open::without_workers;
use alluxio_proto::master::ReadSource;
use alluxio_proto::types::WorkerAddress;
use alluxio_proto::worker::{CopyRange, SeekRange, Sought};
use alluxio_proto::{ErrorKind, FsError, FsResult, WorkerApi};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::sync::Arc;

/// Rounds of a seek or copy whose file is committed meanwhile; then it is done without a worker.
const ROUNDS_MAX: u32 = 5;

/// The open version that a copy goes into.
struct Target {
    home: Arc<Home>,
    marks: Arc<Marks>,
    version: u64,
}

impl Vfs {
    /// lseek(2) with SEEK_DATA, or SEEK_HOLE if `hole`. `None` is ENXIO. What nobody has here is data.
    ///
    /// # Errors
    /// As of reading the file.
    pub async fn seek(&self, fh: u64, offset: u64, hole: bool) -> FsResult<Option<u64>> {
        let handle = self.handle(fh)?;
        let now = handle.inode.snapshot();
        // What is written past its home may be spilled there: a hole of the local file is none then.
        let may_be_spilled = now.written.as_ref().is_some_and(|written| written.is_watched);
        if let Some(local) = now.local.as_ref().filter(|_| !may_be_spilled) {
            return seek_file(&local.file, offset, hole);
        }
        if now.written.is_some() && now.local.is_none() {
            // What was written by mmap is in the kernel's pages, and a hole to everybody else.
            self.forget_now(handle.inode.node, true).await;
        }
        for round in 0..ROUNDS_MAX {
            let (worker, source, open_version) = match self.server(&handle).await? {
                Server::Nobody => return Ok(None),
                Server::Home { home, version } => (Arc::clone(&home.worker), version_of(version), true),
                Server::Any(source) => match self.first_worker(&source).await {
                    Some(worker) => (worker, without_workers(&source), false),
                    None => return Ok(all_data(source.length, offset, hole)),
                },
            };
            let length = source.length;
            match seek_at(&worker, &handle, source, offset, hole, open_version).await {
                Ok(sought) => return Ok(sought.found.then_some(sought.offset)),
                Err(error) if open_version && error.kind == ErrorKind::Stale => {
                    tokio::time::sleep(ROUND_PAUSE * round).await;
                    self.refresh_foreign(&handle).await?;
                }
                Err(error) if open_version => return Err(error),
                Err(error) => {
                    tracing::debug!(%error, inode = handle.inode.id, "seek at a worker; the file counts as data");
                    return Ok(all_data(length, offset, hole));
                }
            }
        }
        let why = format!("seek in inode {}: it changes all the time", handle.inode.id);
        Err(FsError::new(ErrorKind::Stale, why))
    }

    async fn first_worker(&self, source: &ReadSource) -> Option<Arc<dyn WorkerApi>> {
        let address = source.workers.first()?;
        self.workers.worker(address).await.ok()
    }

    /// copy_file_range(2); answers how many bytes, which may be fewer than asked for.
    ///
    /// # Errors
    /// `CrossesMounts` if no worker has both files, upon which the kernel copies; `NoSpace`, `FileTooLarge`, …
    pub async fn copy_range(&self, from: (u64, u64), to: (u64, u64), length: u64) -> FsResult<u64> {
        let (source, target) = (self.handle(from.0)?, self.handle(to.0)?);
        for round in 0..ROUNDS_MAX {
            let into = target_of(&target)?;
            let Some((from_source, from_open_version)) = self.source_at(&source, &into.home.address).await? else {
                break;
            };
            let request = CopyRange {
                inode: target.inode.id,
                version: into.version,
                offset: to.1,
                from_inode: source.inode.id,
                from_source: Some(from_source),
                from_open_version,
                from_offset: from.1,
                length,
            };
            match into.home.worker.ask(request).await {
                Ok(written) => {
                    if source.note_read() && !source.noatime {
                        self.note_access(source.inode.id);
                    }
                    if written.length > 0 {
                        into.marks.set_dirty();
                    }
                    return Ok(written.length);
                }
                // A commit between asking and copying gave one of them its next number.
                Err(error) if error.kind == ErrorKind::Stale => {
                    tokio::time::sleep(ROUND_PAUSE * round).await;
                    self.refresh_foreign(&source).await?;
                }
                Err(error) if is_final(error.kind) => return Err(error),
                Err(error) => {
                    tracing::debug!(%error, inode = target.inode.id, "copy a range at the worker; the kernel copies");
                    break;
                }
            }
        }
        let why = format!(
            "copy from inode {} to {}: no worker has both",
            source.inode.id, target.inode.id
        );
        Err(FsError::new(ErrorKind::CrossesMounts, why))
    }

    /// What to copy from at a worker, and whether it is an open version; `None`: the worker does not have it.
    async fn source_at(&self, source: &Handle, at: &WorkerAddress) -> FsResult<Option<(ReadSource, bool)>> {
        Ok(match self.server(source).await? {
            Server::Nobody => Some((ReadSource::default(), false)),
            Server::Home { home, version } => (home.address == *at).then(|| (version_of(version), true)),
            Server::Any(found) => found.workers.contains(at).then(|| (without_workers(&found), false)),
        })
    }
}

fn target_of(target: &Handle) -> FsResult<Target> {
    let now = target.inode.snapshot();
    let written = now.written.as_ref();
    let written = written.ok_or_else(|| not_open_for_writing(target.inode.id))?;
    Ok(Target {
        home: Arc::clone(&written.home),
        marks: Arc::clone(&written.marks),
        version: written.version,
    })
}

fn version_of(version: u64) -> ReadSource {
    ReadSource {
        version,
        ..Default::default()
    }
}

/// Errors that copying by hand would meet as well.
fn is_final(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::NoSpace | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge | ErrorKind::InvalidArgument
    )
}

async fn seek_at(
    worker: &Arc<dyn WorkerApi>,
    handle: &Handle,
    source: ReadSource,
    offset: u64,
    hole: bool,
    open_version: bool,
) -> FsResult<Sought> {
    let request = SeekRange {
        inode: handle.inode.id,
        source: Some(source),
        offset,
        hole,
        open_version,
    };
    worker.ask(request).await
}

/// In a file without holes but the one at its end.
fn all_data(length: u64, offset: u64, hole: bool) -> Option<u64> {
    (offset < length).then_some(if hole { length } else { offset })
}

/// In a local file that is complete.
fn seek_file(file: &File, offset: u64, hole: bool) -> FsResult<Option<u64>> {
    let Ok(offset) = i64::try_from(offset) else {
        return Ok(None);
    };
    let whence = if hole { libc::SEEK_HOLE } else { libc::SEEK_DATA };
    // SAFETY: no memory is involved; nobody uses the file position, which it moves.
    let at = unsafe { libc::lseek(file.as_raw_fd(), offset, whence) };
    match u64::try_from(at) {
        Ok(at) => Ok(Some(at)),
        Err(_) => match std::io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ENXIO) => Ok(None),
            error => Err(FsError::from_io("seek in a worker's file", &error)),
        },
    }
}
