//! Writing a file from start to end.

use super::{FileSystem, split};
use alluxio_proto::master::{Close, Commit, Create, Empty, GetAttr, Open, Opened, WaitPersisted, WriteLease};
use alluxio_proto::types::{Attr, FileKind, WriteType};
use alluxio_proto::worker::{OpenStat, OpenWrite, Seal, StatOpen, TRANSFER_BYTES_MAX, Write};
use alluxio_proto::{ErrorKind, FsError, FsResult, WorkerApi};
use bytes::Bytes;
use std::sync::Arc;

/// A file open for writing, appended to. It exists for others when [`FileWriter::finish`] returns; if it is dropped before,
/// the session's end discards it.
pub struct FileWriter {
    fs: FileSystem,
    path: String,
    attr: Attr,
    lease: WriteLease,
    write_type: WriteType,
    home: Arc<dyn WorkerApi>,
    offset: u64,
}

impl FileWriter {
    pub(super) async fn create(
        fs: FileSystem,
        path: &str,
        mode: u32,
        overwrite: bool,
        write_type: WriteType,
    ) -> FsResult<Self> {
        let doing = || format!("create {path}");
        let (parent, name) = split(path)?;
        let parent = fs.stat(parent).await.map_err(|error| error.context(doing()))?;
        let create = Create {
            parent: parent.inode,
            name: name.to_owned().into(),
            mode,
            open: true,
            write_type: write_type as i32,
            ..Default::default()
        };
        let opened: Opened = match fs.change(create).await {
            Err(error) if error.kind == ErrorKind::AlreadyExists && overwrite => {
                Self::open_existing(&fs, path, write_type).await
            }
            other => other.map_err(|error| match error.kind {
                ErrorKind::AlreadyExists => FsError::new(error.kind, "it exists"),
                _ => error,
            }),
        }
        .map_err(|error| error.context(doing()))?;
        let missing = |what: &str| {
            FsError::new(
                ErrorKind::Internal,
                format!("create {path}: the master's answer has no {what}"),
            )
        };
        let attr = opened.attr.ok_or_else(|| missing("attributes"))?;
        let lease = opened.write.ok_or_else(|| missing("open version"))?;
        let address = lease.home.clone().ok_or_else(|| missing("home worker"))?;
        let home = fs
            .workers
            .worker(&address)
            .await
            .map_err(|error| error.context(doing()))?;
        let open = OpenWrite {
            inode: attr.inode,
            lease: Some(lease.clone()),
            truncate: true,
            want_fd: false,
            needs_fd: false,
            write_only: true,
        };
        let writer = Self {
            fs,
            path: path.to_owned(),
            attr,
            lease,
            write_type,
            home,
            offset: 0,
        };
        if let Err(error) = writer.home.ask(open).await {
            let _ = writer.abandon().await;
            return Err(error.context(doing()));
        }
        Ok(writer)
    }

    async fn open_existing(fs: &FileSystem, path: &str, write_type: WriteType) -> FsResult<Opened> {
        let attr = fs.stat(path).await?;
        if attr.kind() != FileKind::File {
            return Err(FsError::new(
                ErrorKind::IsADirectory,
                format!("{path} exists and is no regular file"),
            ));
        }
        let open = Open {
            inode: attr.inode,
            write: true,
            truncate: true,
            write_type: write_type as i32,
            ..Default::default()
        };
        fs.change(open).await
    }

    /// Inode being written.
    pub fn inode(&self) -> u64 {
        self.attr.inode
    }

    /// Appends.
    ///
    /// # Errors
    /// `NoSpace`, or those of reaching the worker; the file is then to be abandoned.
    pub async fn write(&mut self, mut data: Bytes) -> FsResult<()> {
        while !data.is_empty() {
            let piece = data.slice(..data.len().min(TRANSFER_BYTES_MAX as usize));
            let length = piece.len() as u64;
            let write = Write {
                inode: self.attr.inode,
                version: self.lease.version,
                offset: self.offset,
                append: false,
            };
            let doing = || format!("write {}", self.path);
            let written = self.home.transfer(write, piece).await;
            // Where there is no room for the rest, the next call says so.
            let written = written.map_err(|error| error.context(doing()))?.reply.length;
            if !(1..=length).contains(&written) {
                let why = format!("the worker wrote {written} of {length} bytes, which cannot be");
                return Err(FsError::new(ErrorKind::Internal, why).context(doing()));
            }
            self.offset += written;
            data = data.split_off(written as usize);
        }
        Ok(())
    }

    /// Completes the file: sealed, committed, and for CACHE_THROUGH and THROUGH in the under-storage.
    ///
    /// # Errors
    /// Those of worker, master and under-storage; then the file is not what was written.
    pub async fn finish(self) -> FsResult<Attr> {
        match self.seal_and_commit().await {
            Ok(attr) => Ok(attr),
            Err(error) => {
                let doing = format!("complete {}", self.path);
                // The first error is what the caller must hear of; the session's end does what this does not.
                let _ = self.abandon().await;
                Err(error.context(doing))
            }
        }
    }

    async fn seal_and_commit(&self) -> FsResult<Attr> {
        let (inode, version) = (self.attr.inode, self.lease.version);
        // Another writer's commit may have moved it on.
        let version = self.home.ask(StatOpen { inode, version }).await?.version;
        let sealed = self.seal(version, 0).await?;
        // Its home may have sealed it meanwhile, to make room: then this is of the version after that.
        let version = sealed.version.max(version);
        let attr = match sealed.changed && !sealed.mapped {
            true => {
                // Another writer, gone by now, may have made it longer.
                if sealed.length < self.offset {
                    let why = format!(
                        "{} bytes were written and the worker has {}",
                        self.offset, sealed.length
                    );
                    return Err(FsError::new(ErrorKind::Corrupt, why));
                }
                self.commit(version, sealed, false).await?
            }
            // What a mapping stores from now on only its home can tell: the master is to ask it.
            false => {
                let left_open = sealed.others_write || sealed.mapped;
                self.commit_shared(version, left_open).await?
            }
        };
        if matches!(self.write_type, WriteType::CacheThrough | WriteType::Through) {
            let wait = WaitPersisted {
                path: Bytes::copy_from_slice(self.path.as_bytes()),
                schedule: false,
                timeout_ms: 0,
                expedite: true,
            };
            let _: alluxio_proto::master::Counted = self.fs.ask(wait).await?;
        }
        Ok(attr)
    }

    /// With `next`, others write on; without, this one is gone, and it is sealed unless others write.
    async fn seal(&self, version: u64, next: u64) -> FsResult<OpenStat> {
        let seal = Seal {
            inode: self.attr.inode,
            version,
            next,
            release: next == 0,
            closed_empty: false,
            may_be_mapped: false,
        };
        self.home.ask(seal).await
    }

    async fn commit(&self, version: u64, sealed: OpenStat, keep_open: bool) -> FsResult<Attr> {
        let commit = Commit {
            inode: self.attr.inode,
            version,
            length: sealed.length,
            mtime_ns: sealed.mtime_ns,
            keep_open,
            ctime_ns: sealed.ctime_ns,
            mapped: false,
            hole_bytes: sealed.hole_bytes,
        };
        self.fs.change(commit).await
    }

    /// Others have it open for writing, or a mapping of it: what is there now is committed, with what they wrote, and they go on
    /// with the next version. `left_open`: as in [`Close::left_open`].
    async fn commit_shared(&self, version: u64, left_open: bool) -> FsResult<Attr> {
        let committed = match self.seal(version, version + 1).await {
            Ok(sealed) => self.commit(version, sealed, true).await.map(drop),
            Err(error) => Err(error),
        };
        match committed {
            Ok(()) => {}
            // The last of them has just committed it, or nothing was changed.
            Err(error) if error.kind == ErrorKind::Stale => {}
            Err(error) => return Err(error),
        }
        let inode = self.attr.inode;
        let close = Close {
            inode,
            write: true,
            left_open,
            ..Default::default()
        };
        let Empty {} = self.fs.change(close).await?;
        self.fs.ask(GetAttr { inode }).await
    }

    /// Gives the file up: what was written is dropped, an overwritten file keeps its content.
    ///
    /// # Errors
    /// Those of the master; the session's end discards it then.
    pub async fn abandon(self) -> FsResult<()> {
        let Empty {} = self
            .fs
            .change(Close {
                inode: self.attr.inode,
                write: true,
                abandon: true,
                ..Default::default()
            })
            .await?;
        Ok(())
    }
}
