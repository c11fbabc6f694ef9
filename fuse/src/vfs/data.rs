//! Reading and writing through the daemon, and lengths.

use super::Vfs;
use super::commit::open_stat;
use super::inode::{Handle, Home, OpenState};
use super::open::without_workers;
use alluxio_client::workers::new_change_number;
use alluxio_proto::master::{Opened, ReadSource, UfsChanged};
use alluxio_proto::types::Caller;
use alluxio_proto::worker::{Allocate, Read, SetLength, StatOpen, TRANSFER_BYTES_MAX, Write};
use alluxio_proto::{ErrorKind, FsError, FsResult, WorkerApi};
use bytes::Bytes;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// Largest offset: what signed 64-bit file offsets can say.
const OFFSET_MAX: u64 = i64::MAX as u64;

/// Rounds of a read whose file changes under its hands, and the pause that each adds to the next: some six seconds.
const ROUNDS_MAX: u32 = 35;
pub(super) const ROUND_PAUSE: Duration = Duration::from_millis(10);

/// Who serves a read, and of what.
pub(super) enum Server {
    /// The home of the version that is being written.
    Home { home: Arc<Home>, version: u64 },
    /// Anybody who has, or can fetch, the committed version.
    Any(Arc<ReadSource>),
    /// The file is empty.
    Nobody,
}

impl Vfs {
    /// Reads at an offset; short only at the end.
    ///
    /// # Errors
    /// `Stale` if the file became another one after a part of it was read; those of workers and under-storage.
    pub async fn read_at(&self, fh: u64, offset: u64, length: u64) -> FsResult<Bytes> {
        let handle = self.handle(fh)?;
        let length = length.min(TRANSFER_BYTES_MAX);
        // Another round after the master was told that the object changed, or that another mount's version has ended.
        let mut kind = ErrorKind::Stale;
        for round in 0..ROUNDS_MAX {
            let server = self.server(&handle).await?;
            let result = match server {
                Server::Nobody => return Ok(Bytes::new()),
                Server::Home { home, version } => {
                    let source = ReadSource {
                        version,
                        ..Default::default()
                    };
                    let result = self
                        .read_from(&home.worker, &handle, source, offset..offset + length, true)
                        .await;
                    if matches!(&result, Err(error) if error.kind == ErrorKind::Stale) {
                        // Its writer is gone, or committed: the home knew before the master. Which of the two may take
                        // the master longer to find out than this loop, after a restart; then it is to be tried again.
                        kind = ErrorKind::Unavailable;
                        tokio::time::sleep(ROUND_PAUSE * round).await;
                        self.refresh_foreign(&handle).await?;
                        continue;
                    }
                    result
                }
                Server::Any(source) => {
                    let length = length.min(source.length.saturating_sub(offset));
                    if length == 0 {
                        return Ok(Bytes::new());
                    }
                    let result = self.read_from_any(&handle, &source, offset, length).await;
                    if let Err(error) = &result
                        && error.kind == ErrorKind::VersionMismatch
                    {
                        self.adopt_change(&handle, source.version).await?;
                        continue;
                    }
                    if let Err(error) = &result
                        && is_nowhere(error)
                        && self.look_again(&handle, &source).await?
                    {
                        continue;
                    }
                    result
                }
            };
            if handle.note_read() && !handle.noatime {
                self.note_access(handle.inode.id);
            }
            return result;
        }
        let why = format!("read inode {}: it changes all the time", handle.inode.id);
        Err(FsError::new(kind, why))
    }

    /// Asks the master anew who writes the file, if it is another mount.
    pub(super) async fn refresh_foreign(&self, handle: &Handle) -> FsResult<()> {
        let mut state = handle.inode.transition().await;
        if state.foreign_lease.is_none() {
            return Ok(());
        }
        self.refresh_source(handle.inode.id, &mut state).await
    }

    /// After a read of `tried` failed: asks the master who has it now. It may have been persisted and evicted, or a worker may
    /// have come, since it was asked. True if the answer is another one.
    async fn look_again(&self, handle: &Handle, tried: &ReadSource) -> FsResult<bool> {
        let mut state = handle.inode.transition().await;
        // What it was when it was opened is all that it ever will be.
        if self.is_older_node(handle.inode.node) {
            return Ok(false);
        }
        // Somebody else has looked, or writes it.
        if *state.source != *tried || state.write.is_some() {
            return Ok(true);
        }
        self.refresh_source(handle.inode.id, &mut state).await?;
        // Not what was opened any more, be it committed or still being written.
        if state.foreign_lease.is_some() || state.source.version != tried.version {
            state.epoch += 1;
        }
        Ok(state.foreign_lease.is_some() || *state.source != *tried)
    }

    /// Asks the master anew what the content of an open file is.
    async fn refresh_source(&self, inode: u64, state: &mut OpenState) -> FsResult<()> {
        let open_id = self.reads.begin(inode);
        let request = alluxio_proto::master::Open {
            inode,
            read: true,
            open_id,
            ..Default::default()
        };
        let opened: FsResult<Opened> = self.master.read(&self.own_caller(), request).await;
        let opened = match opened {
            Ok(opened) => opened,
            Err(error) => {
                self.open_failed(inode, open_id, &error).await;
                return Err(error);
            }
        };
        state.mtime_ns = opened.attr.as_ref().map_or(state.mtime_ns, |attr| attr.mtime_ns);
        // The opening that this handle stands for is there already.
        self.close_at_master(inode, open_id).await;
        match opened.write {
            Some(lease) => state.foreign_lease = Some(Arc::new(lease)),
            None => {
                state.foreign_lease = None;
                state.source_is_old = false;
                state.source = Arc::new(opened.read.unwrap_or_default());
            }
        }
        Ok(())
    }

    /// Learns anew who writes a file and what is committed, for who reads it under a lock. True if the kernel may have cached pages of
    /// it, which it has not where it works on the local file.
    pub(super) async fn refresh_locked(&self, handle: &Handle) -> FsResult<bool> {
        let mut state = handle.inode.transition().await;
        if state.local.is_none() && state.write.is_none() {
            self.refresh_source(handle.inode.id, &mut state).await?;
            // Who locks a file follows what others write into it, whatever it was when it was opened.
            self.nodes.show(handle.inode.node, state.source.length, state.mtime_ns);
        }
        Ok(state.local.is_none())
    }

    pub(super) async fn server(&self, handle: &Handle) -> FsResult<Server> {
        let mut now = handle.inode.snapshot();
        while now.is_old() {
            self.refresh_old(handle).await?;
            now = handle.inode.snapshot();
        }
        if let Some(written) = &now.written {
            return Ok(Server::Home {
                home: Arc::clone(&written.home),
                version: written.version,
            });
        }
        // The kernel fills a read that is shorter than the length it knows with zeros, and ends one that is longer there.
        let is_begun = handle.has_read.load(std::sync::atomic::Ordering::Relaxed) || handle.length != now.source.length;
        if handle.epoch != now.epoch && is_begun {
            let why = format!(
                "read inode {}: it became another file, and what it was is gone; open it again",
                handle.inode.id
            );
            return Err(FsError::new(ErrorKind::Stale, why));
        }
        if let Some(lease) = &now.foreign_lease {
            let address = lease.home.clone().unwrap_or_default();
            let home = Arc::new(Home {
                worker: self.workers.worker(&address).await?,
                is_local: self.workers.is_local(&address),
                address,
            });
            return Ok(Server::Home {
                home,
                version: lease.version,
            });
        }
        if now.source.length == 0 {
            return Ok(Server::Nobody);
        }
        Ok(Server::Any(Arc::clone(&now.source)))
    }

    /// Asks the master what is committed, unless somebody has done so while we waited for the turn.
    async fn refresh_old(&self, handle: &Handle) -> FsResult<()> {
        let mut state = handle.inode.transition().await;
        if state.source_is_old && state.write.is_none() && state.foreign_lease.is_none() {
            self.refresh_source(handle.inode.id, &mut state).await?;
        }
        Ok(())
    }

    /// Asks the workers in turn, each again only after all: one that is gone or has lost the data is passed over.
    async fn read_from_any(&self, handle: &Handle, source: &ReadSource, offset: u64, length: u64) -> FsResult<Bytes> {
        let mut last = FsError::new(
            ErrorKind::Unavailable,
            format!("read inode {}: no worker is known; is one running?", handle.inode.id),
        );
        for address in &source.workers {
            let result = match self.workers.worker(address).await {
                Ok(worker) => {
                    self.read_from(&worker, handle, without_workers(source), offset..offset + length, false)
                        .await
                }
                Err(error) => Err(error),
            };
            match result {
                Err(error) if is_nowhere(&error) => last = error,
                other => return other,
            }
        }
        Err(last)
    }

    async fn read_from(
        &self,
        worker: &Arc<dyn WorkerApi>,
        handle: &Handle,
        source: ReadSource,
        range: Range<u64>,
        open_version: bool,
    ) -> FsResult<Bytes> {
        let request = Read {
            inode: handle.inode.id,
            source: Some(source),
            offset: range.start,
            length: range.end - range.start,
            open_version,
            stream: handle.stream,
            verify: self.options.verify,
        };
        Ok(worker.transfer(request, Bytes::new()).await?.data)
    }

    /// Tells the master that the object of `version` is another one now, and hears which.
    pub(super) async fn report_change(&self, inode: u64, version: u64) -> FsResult<Opened> {
        let change = UfsChanged { inode, version };
        self.master.change(&self.own_caller(), change).await
    }

    /// The object is another one: takes the new version over, if nothing of the old was handed out.
    async fn adopt_change(&self, handle: &Handle, version: u64) -> FsResult<()> {
        let inode = handle.inode.id;
        let opened = self.report_change(inode, version).await?;
        let mut state = handle.inode.transition().await;
        let source = opened.read.unwrap_or_default();
        let is_older = self.is_older_node(handle.inode.node);
        if source.version != state.source.version && !is_older {
            state.epoch += 1;
            state.source = Arc::new(source);
        }
        if is_older || handle.has_read.load(std::sync::atomic::Ordering::Relaxed) {
            let why = format!(
                "read inode {inode}: it changed in the under-storage while it was read; read it again from the start"
            );
            return Err(FsError::new(ErrorKind::Stale, why));
        }
        Ok(())
    }

    /// Writes at an offset; with O_APPEND at the end, wherever that is by then.
    ///
    /// # Errors
    /// `NoSpace`, `FileTooLarge`, and those of reaching the home.
    pub async fn write_at(&self, fh: u64, offset: u64, data: Bytes) -> FsResult<u64> {
        let handle = self.handle(fh)?;
        let length = data.len() as u64;
        if offset.checked_add(length).is_none_or(|end| end > OFFSET_MAX) {
            return Err(FsError::new(
                ErrorKind::FileTooLarge,
                format!("write {length} bytes at {offset}: past the largest offset"),
            ));
        }
        let now = handle.inode.snapshot();
        let written = now
            .written
            .as_ref()
            .ok_or_else(|| not_open_for_writing(handle.inode.id))?;
        let request = Write {
            inode: handle.inode.id,
            version: written.version,
            offset,
            append: handle.append,
        };
        let _writing = written.marks.writing();
        let worker = &written.home.worker;
        let response = match worker.transfer(request.clone(), data.clone()).await {
            // A commit between the two gave the open version its next number.
            Err(error) if error.kind == ErrorKind::Stale => {
                let version = {
                    let state = handle.inode.transition().await;
                    let write = state.write.as_ref();
                    write.ok_or_else(|| not_open_for_writing(handle.inode.id))?.version
                };
                worker.transfer(Write { version, ..request }, data).await?
            }
            other => other?,
        };
        Ok(response.reply.length)
    }

    /// truncate(2) and ftruncate(2).
    pub(super) async fn set_length(&self, caller: &Caller, node: u64, length: u64, fh: Option<u64>) -> FsResult<()> {
        let inode = self.nodes.inode_of(node);
        if length > OFFSET_MAX {
            return Err(FsError::new(
                ErrorKind::FileTooLarge,
                format!("truncate to {length}: past the largest offset"),
            ));
        }
        if let Some(handle) = fh.and_then(|fh| self.handle(fh).ok()) {
            let mut state = handle.inode.transition().await;
            if state.write.is_some() {
                return set_open_length(inode, &mut state, length).await;
            }
        }
        // By path: an opening of its own, which joins the writers there are, and commits before it returns. What is empty is
        // not emptied again: times move only with the length.
        let flags = if length == 0 && self.getattr(caller, node).await?.size > 0 {
            libc::O_WRONLY | libc::O_TRUNC
        } else {
            libc::O_WRONLY
        };
        let opened = self.open(caller, node, flags).await?;
        let result = self.truncate_and_flush(opened.fh, inode, length).await;
        self.release(opened.fh).await;
        self.finish(node).await;
        result
    }

    async fn truncate_and_flush(&self, fh: u64, inode: u64, length: u64) -> FsResult<()> {
        let handle = self.handle(fh)?;
        let mut state = handle.inode.transition().await;
        let write = state.write.as_ref().ok_or_else(|| not_open_for_writing(inode))?;
        let version = write.version;
        if open_stat(&write.home, StatOpen { inode, version }).await?.length != length {
            set_open_length(inode, &mut state, length).await?;
        }
        let others = state.write.as_ref().is_some_and(|write| write.writers > 1);
        // With others writing, their close commits.
        if others {
            Ok(())
        } else {
            self.commit(&handle.inode, &mut state).await
        }
    }

    /// fallocate(2).
    ///
    /// # Errors
    /// `NotSupported` for modes that the home's file system cannot do.
    pub async fn fallocate(&self, fh: u64, offset: u64, length: u64, mode: i32) -> FsResult<()> {
        let handle = self.handle(fh)?;
        if offset.checked_add(length).is_none_or(|end| end > OFFSET_MAX) {
            return Err(FsError::new(
                ErrorKind::FileTooLarge,
                format!("allocate {length} bytes at {offset}: past the largest offset"),
            ));
        }
        let mut state = handle.inode.transition().await;
        let write = state
            .write
            .as_mut()
            .ok_or_else(|| not_open_for_writing(handle.inode.id))?;
        let request = Allocate {
            inode: handle.inode.id,
            version: write.version,
            mode: mode.cast_unsigned(),
            offset,
            length,
            number: new_change_number(),
        };
        open_stat(&write.home, request).await?;
        write.marks.set_dirty();
        Ok(())
    }
}

async fn set_open_length(inode: u64, state: &mut OpenState, length: u64) -> FsResult<()> {
    let write = state.write.as_ref().ok_or_else(|| not_open_for_writing(inode))?;
    open_stat(
        &write.home,
        SetLength {
            inode,
            version: write.version,
            length,
            number: new_change_number(),
        },
    )
    .await?;
    write.marks.set_dirty();
    Ok(())
}

/// Whether a read failed because none of the workers has the data, or none can be reached.
fn is_nowhere(error: &FsError) -> bool {
    error.is_retryable() || error.kind == ErrorKind::DataLost
}

pub(super) fn not_open_for_writing(inode: u64) -> FsError {
    FsError::new(
        ErrorKind::Stale,
        format!("inode {inode} is not open for writing any more"),
    )
}
