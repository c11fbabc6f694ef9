//! Reading a file: whoever has it, else whoever fetches it.

use super::FileSystem;
use alluxio_proto::master::{Close, Empty, Locate, Locations, Open, Opened, ReadSource, UfsChanged};
use alluxio_proto::types::{Attr, WorkerAddress};
use alluxio_proto::worker::{Answered, Load, OpenRead, Read, StatOpen, TRANSFER_BYTES_MAX, WorkerOperation};
use alluxio_proto::{ErrorKind, FsError, FsResult};
use bytes::Bytes;
use std::time::Duration;

/// How often a reader follows writers of its file within one read before it gives up: with the pauses below, 6 s.
const REOPENS_MAX: usize = 16;
/// First pause before asking again; it doubles. The worker learns that a writer is done before the master has it on disk.
const REOPEN_PAUSE: Duration = Duration::from_millis(10);
/// Longest pause.
const REOPEN_PAUSE_MAX: Duration = Duration::from_millis(500);

/// A file open for reading: one committed version, or the version that is being written.
pub struct FileReader {
    fs: FileSystem,
    path: String,
    attr: Attr,
    source: ReadSource,
    /// Best first.
    workers: Vec<WorkerAddress>,
    /// The version is still being written.
    open_version: bool,
    /// Identifies this reader's sequence of reads, for read-ahead.
    stream: u64,
    /// Names the opening at the master.
    open_id: u64,
    /// Something was read already: another version would be mixed in.
    started: bool,
}

impl FileReader {
    pub(super) async fn open(fs: FileSystem, path: String, inode: u64) -> FsResult<Self> {
        let (open_id, opened) = ask_open(&fs, inode)
            .await
            .map_err(|error| error.context(format!("open {path}")))?;
        let stream = rand::random::<u64>() | 1;
        let mut reader = Self {
            fs,
            path,
            attr: Attr::default(),
            source: ReadSource::default(),
            workers: Vec::new(),
            open_version: false,
            stream,
            open_id,
            started: false,
        };
        reader.adopt(opened).await?;
        Ok(reader)
    }

    /// Takes over what the master said of the file; asks again if its open version ended in between.
    async fn adopt(&mut self, mut opened: Opened) -> FsResult<()> {
        for pause in pauses() {
            match self.try_adopt(opened).await {
                Err(error) if self.ended(&error) => {
                    tokio::time::sleep(pause).await;
                    opened = self.open_again().await?;
                }
                other => return other,
            }
        }
        Err(self.restless())
    }

    /// Whether the version that was open for writing is open no more: its writer committed, or gave it up.
    fn ended(&self, error: &FsError) -> bool {
        self.open_version && error.kind == ErrorKind::Stale
    }

    fn restless(&self) -> FsError {
        let why = format!("read {}: it is written again and again; try later", self.path);
        FsError::new(ErrorKind::Stale, why)
    }

    /// A second opening in place of the first, which is closed only then: an unlinked file lives as long as it is open.
    async fn open_again(&mut self) -> FsResult<Opened> {
        let path = self.path.clone();
        let doing = |error: FsError| error.context(format!("read {path}"));
        let (open_id, opened) = ask_open(&self.fs, self.attr.inode).await.map_err(doing)?;
        let before = std::mem::replace(&mut self.open_id, open_id);
        close(&self.fs, self.attr.inode, before).await.map_err(doing)?;
        Ok(opened)
    }

    async fn try_adopt(&mut self, opened: Opened) -> FsResult<()> {
        self.attr = opened.attr.unwrap_or_default();
        if let Some(lease) = opened.write {
            self.open_version = true;
            self.workers = lease.home.into_iter().collect();
            self.source = ReadSource {
                version: lease.version,
                length: u64::MAX,
                ..Default::default()
            };
            let stat = StatOpen {
                inode: self.attr.inode,
                version: lease.version,
            };
            self.source.length = self.ask(stat).await?.reply.length;
        } else {
            self.open_version = false;
            self.source = opened.read.unwrap_or_default();
            self.workers = self.source.workers.clone();
        }
        Ok(())
    }

    /// Attributes when it was opened.
    pub fn attr(&self) -> &Attr {
        &self.attr
    }

    /// Length in bytes.
    pub fn length(&self) -> u64 {
        self.source.length
    }

    /// Reads at an offset; short only at the end, empty past it.
    ///
    /// # Errors
    /// `Stale` if the file became another one after a part of it was read; those of worker and under-storage when no worker can serve.
    pub async fn read_at(&mut self, offset: u64, length: u64) -> FsResult<Bytes> {
        for _ in 0..REOPENS_MAX {
            let length = length.min(TRANSFER_BYTES_MAX).min(self.length().saturating_sub(offset));
            if length == 0 {
                return Ok(Bytes::new());
            }
            match self.try_read(offset, length).await {
                Err(error) if error.kind == ErrorKind::VersionMismatch => self.reopen(error).await?,
                Err(error) if self.ended(&error) => self.rejoin().await?,
                other => return other,
            }
        }
        Err(self.restless())
    }

    /// The version that was open for writing became the committed one, or gave way to the next open one.
    async fn rejoin(&mut self) -> FsResult<()> {
        let before = self.source.version;
        let opened = self.open_again().await?;
        self.adopt(opened).await?;
        // What was read is what was committed then, unless somebody wrote the file anew.
        if self.started && !self.open_version && self.source.version > before {
            let why = format!(
                "read {}: it was written anew while it was read; read it again from the start",
                self.path
            );
            return Err(FsError::new(ErrorKind::Stale, why));
        }
        Ok(())
    }

    async fn try_read(&mut self, offset: u64, length: u64) -> FsResult<Bytes> {
        let read = Read {
            inode: self.attr.inode,
            source: Some(self.source.clone()),
            offset,
            length,
            open_version: self.open_version,
            stream: self.stream,
            verify: false,
        };
        let data = self.ask(read).await?.data;
        self.started = true;
        Ok(data)
    }

    /// The object behind the file is another one: asks the master for the new version.
    async fn reopen(&mut self, error: FsError) -> FsResult<()> {
        let changed = UfsChanged {
            inode: self.attr.inode,
            version: self.source.version,
        };
        let opened: Opened = self
            .fs
            .change(changed)
            .await
            .map_err(|why| why.context(format!("read {}", self.path)))?;
        if self.started {
            let why = format!(
                "read {}: it changed in the under-storage while it was read ({error}); read it again from the start",
                self.path
            );
            return Err(FsError::new(ErrorKind::Stale, why));
        }
        self.adopt(opened).await
    }

    /// Asks the workers in turn: one that is gone or has lost the data is passed over.
    async fn ask<O: WorkerOperation>(&self, request: O) -> FsResult<Answered<O::Reply>> {
        let mut last = FsError::new(
            ErrorKind::Unavailable,
            format!("read {}: no worker is known; is one running?", self.path),
        );
        for address in &self.workers {
            let answer = match self.fs.workers.worker(address).await {
                Ok(worker) => worker.transfer(request.clone(), Bytes::new()).await,
                Err(error) => Err(error),
            };
            match answer {
                Ok(response) => return Ok(response),
                Err(error) if error.is_retryable() || error.kind == ErrorKind::DataLost => last = error,
                Err(error) => return Err(error.context(format!("read {}", self.path))),
            }
        }
        Err(last.context(format!("read {}", self.path)))
    }

    /// Fetches all of it into a worker's cache.
    ///
    /// # Errors
    /// Those of worker and under-storage.
    pub async fn load(&self) -> FsResult<()> {
        if !self.open_version && self.source.length > 0 {
            let load = Load {
                inode: self.attr.inode,
                source: Some(self.source.clone()),
            };
            self.ask(load).await?;
        }
        Ok(())
    }

    /// Who holds how much of it.
    ///
    /// # Errors
    /// Those of the master.
    pub async fn locations(&self) -> FsResult<Locations> {
        self.fs.ask(Locate { inode: self.attr.inode }).await
    }

    /// Tells whether the local copy is complete, without a descriptor.
    ///
    /// # Errors
    /// Those of the worker.
    pub async fn is_complete(&self) -> FsResult<bool> {
        let open = OpenRead {
            inode: self.attr.inode,
            source: Some(self.source.clone()),
            want_fd: false,
            verify: true,
            check_source: false,
        };
        Ok(self.ask(open).await?.reply.complete)
    }

    /// Closes it at the master.
    ///
    /// # Errors
    /// Those of the master.
    pub async fn close(self) -> FsResult<()> {
        close(&self.fs, self.attr.inode, self.open_id).await
    }
}

fn pauses() -> impl Iterator<Item = Duration> {
    let doubled = |pause: &Duration| Some((*pause * 2).min(REOPEN_PAUSE_MAX));
    std::iter::successors(Some(REOPEN_PAUSE), doubled).take(REOPENS_MAX)
}

async fn ask_open(fs: &FileSystem, inode: u64) -> FsResult<(u64, Opened)> {
    let open_id = fs.master().new_op_id();
    let open = Open {
        inode,
        read: true,
        open_id,
        ..Default::default()
    };
    Ok((open_id, fs.change(open).await?))
}

async fn close(fs: &FileSystem, inode: u64, open_id: u64) -> FsResult<()> {
    let close = Close {
        inode,
        open_id,
        ..Default::default()
    };
    let Empty {} = fs.change(close).await?;
    Ok(())
}
