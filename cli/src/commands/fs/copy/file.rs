//! One file: its bytes, read ahead by one piece while the last is written.

use super::location::Location;
use alluxio_client::FileSystem;
use alluxio_client::fs::{FileReader, FileWriter};
use alluxio_proto::types::WriteType;
use alluxio_proto::worker::TRANSFER_BYTES_MAX;
use alluxio_proto::{ErrorKind, FsError, FsResult};
use bytes::{Bytes, BytesMut};
use indicatif::ProgressBar;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// What copies of files have in common.
#[derive(Clone)]
pub struct FileCopier {
    /// Where Alluxio is.
    pub fs: FileSystem,
    /// Permission bits that new files do not get.
    pub umask: u32,
    /// When what is written reaches the under-storage.
    pub write_type: WriteType,
    /// An existing file of this host is replaced.
    pub replace_local: bool,
    /// Counts bytes.
    pub progress: ProgressBar,
}

enum Source {
    Alluxio(Box<FileReader>),
    Local(tokio::fs::File, PathBuf),
}

enum Target {
    Alluxio(Box<FileWriter>),
    Local(Partial),
}

/// A file of this host under another name until it is complete. Dropped before, it is removed.
struct Partial {
    file: tokio::fs::File,
    path: tempfile::TempPath,
    target: PathBuf,
    replace: bool,
}

impl FileCopier {
    /// Copies one regular file with permission bits `mode`.
    pub async fn copy(&self, source: &Location, target: &Location, mode: u32) -> FsResult<()> {
        let mut from = self.open(source).await?;
        let mode = mode & 0o777 & !self.umask;
        let mut to = match target {
            Location::Alluxio(path) => {
                let writer = self.fs.create(path, mode, false, self.write_type).await?;
                Target::Alluxio(Box::new(writer))
            }
            Location::Local(path) => Target::Local(Partial::create(path, mode, self.replace_local)?),
        };
        match self.pump(&mut from, &mut to).await {
            Ok(()) => to.finish().await?,
            Err(error) => {
                to.abandon().await;
                return Err(error);
            }
        }
        match from {
            Source::Alluxio(reader) => reader.close().await,
            Source::Local(..) => Ok(()),
        }
    }

    async fn open(&self, source: &Location) -> FsResult<Source> {
        match source {
            Location::Alluxio(path) => Ok(Source::Alluxio(Box::new(self.fs.open(path).await?))),
            Location::Local(path) => {
                let file = tokio::fs::File::open(path).await;
                let file = file.map_err(|error| FsError::from_io(format!("open {source}"), &error))?;
                Ok(Source::Local(file, path.clone()))
            }
        }
    }

    async fn pump(&self, from: &mut Source, to: &mut Target) -> FsResult<()> {
        let mut piece = from.read(0).await?;
        let mut offset = 0;
        while !piece.is_empty() {
            offset += piece.len() as u64;
            let length = piece.len() as u64;
            let (written, next) = tokio::join!(to.write(piece), from.read(offset));
            written?;
            self.progress.inc(length);
            piece = next?;
        }
        Ok(())
    }
}

impl Source {
    /// The next piece; empty at the end.
    async fn read(&mut self, offset: u64) -> FsResult<Bytes> {
        match self {
            Source::Alluxio(reader) => reader.read_at(offset, TRANSFER_BYTES_MAX).await,
            Source::Local(file, path) => {
                let mut piece = BytesMut::with_capacity(TRANSFER_BYTES_MAX as usize);
                let mut room = (&mut *file).take(TRANSFER_BYTES_MAX);
                // One call gives what the file system likes to give; a piece is worth several.
                while room.limit() > 0 {
                    let read = room.read_buf(&mut piece).await;
                    if read.map_err(|error| FsError::from_io(format!("read {}", path.display()), &error))? == 0 {
                        break;
                    }
                }
                Ok(piece.freeze())
            }
        }
    }
}

impl Target {
    async fn write(&mut self, piece: Bytes) -> FsResult<()> {
        match self {
            Target::Alluxio(writer) => writer.write(piece).await,
            Target::Local(partial) => partial.file.write_all(&piece).await.map_err(partial.failed("write")),
        }
    }

    async fn finish(self) -> FsResult<()> {
        match self {
            Target::Alluxio(writer) => writer.finish().await.map(drop),
            Target::Local(partial) => partial.finish().await,
        }
    }

    async fn abandon(self) {
        if let Target::Alluxio(writer) = self
            // The first error is what the caller must hear of; the session's end does what this does not.
            && let Err(error) = writer.abandon().await
        {
            tracing::warn!(%error, "give up a file that was not copied");
        }
    }
}

impl Partial {
    fn create(target: &Path, mode: u32, replace: bool) -> FsResult<Self> {
        let failed = |error: io::Error| FsError::from_io(format!("create {}", target.display()), &error);
        if !replace && target.symlink_metadata().is_ok() {
            let why = format!("create {}: the file exists", target.display());
            return Err(FsError::new(ErrorKind::AlreadyExists, why));
        }
        let folder = target.parent().unwrap_or(Path::new("/"));
        let file = tempfile::Builder::new()
            .prefix(".alluxio-copy-")
            .permissions(std::fs::Permissions::from_mode(mode))
            .tempfile_in(folder)
            // Who reads the error knows nothing of temporary names.
            .map_err(|error| failed(io::Error::from(error.kind())))?;
        let (file, path) = file.into_parts();
        Ok(Self {
            file: tokio::fs::File::from_std(file),
            path,
            target: target.to_owned(),
            replace,
        })
    }

    fn failed(&self, doing: &str) -> impl Fn(io::Error) -> FsError + use<> {
        let doing = format!("{doing} {}", self.target.display());
        move |error| FsError::from_io(&doing, &error)
    }

    async fn finish(mut self) -> FsResult<()> {
        let failed = self.failed("write");
        self.file.flush().await.map_err(&failed)?;
        let named = if self.replace {
            self.path.persist(&self.target)
        } else {
            self.path.persist_noclobber(&self.target)
        };
        named.map_err(|error| failed(error.error))
    }
}
