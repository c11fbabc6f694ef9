//! Uploads: one sealed version to one path of an under-storage, exactly those bytes.
//!
//! Every chunk is held against its checksum as it is read, so a version that is being overwritten in place, or that the
//! disk damaged, is never uploaded as something else. If the object at the target is not the expected one: it may be
//! what we would write, from a run that ended between PUT and confirmation; otherwise somebody else wrote there, and the
//! last close wins: it is overwritten, conditionally on what was seen, with a warning.

use crate::core::Core;
use crate::store::{Entry, Header, Mark, blocking, chunks_of};
use alluxio_common::sync::Mutex;
use alluxio_proto::master::PersistTask;
use alluxio_proto::types::{FileKind, UfsSource};
use alluxio_proto::{CHUNK_BYTES, ErrorKind, FsError, FsResult, InodeId};
use alluxio_ufs::{Expect, UfsAttributes, UfsError, UfsErrorKind, UfsResult, UfsStatus, UnderFileSystem, UploadSource};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use std::ops::Range;
use std::sync::Arc;

/// Conditional writes of one task; each failure means that another object appeared meanwhile.
const WRITES_MAX: usize = 4;

impl Core {
    /// Uploads a version and returns the fingerprint of what is there then.
    ///
    /// # Errors
    /// `Stale` if the version changed under its hands or is not here; the under-storage's otherwise.
    pub async fn persist(&self, task: &PersistTask) -> FsResult<String> {
        let inode = InodeId(task.inode);
        let entry = self.store.find(inode).await?.ok_or_else(|| not_held(task))?;
        let (header, epoch) = sealed_content(&entry, task)?;
        if let Some(ufs) = header
            .ufs
            .as_ref()
            .filter(|ufs| ufs.path == task.path && ufs.mount_id == task.mount_id)
        {
            // Done before, and the news got lost.
            return Ok(ufs.fingerprint.clone());
        }
        entry.count_upload(true);
        let result = self.upload(&entry, header, epoch, task).await;
        entry.count_upload(false);
        entry.fills.progress.notify_waiters();
        let status = result?;
        if task.drop_after {
            self.drop_uploaded(&entry, task.version).await?;
        }
        Ok(status.fingerprint)
    }

    async fn upload(&self, entry: &Arc<Entry>, header: Header, epoch: u64, task: &PersistTask) -> FsResult<UfsStatus> {
        let ufs = self.clients.get(task.mount_id).await?;
        let base = match &header.base {
            Some(base) => base
                .ufs
                .clone()
                .or_else(|| task.base.clone())
                .map(|ufs| (ufs, base.bytes)),
            None => task.base.clone().map(|ufs| (ufs.clone(), ufs.length)),
        };
        let source = Upload {
            entry: Arc::clone(entry),
            length: task.length,
            epoch,
            base_client: match &base {
                Some((base, _)) => Some(self.clients.get(base.mount_id).await?),
                None => None,
            },
            base,
            failed: Mutex::new(None),
        };
        let attributes = attributes_of(task);
        let status = self.write_expecting(&*ufs, &source, task, &attributes).await?;
        self.counters.bytes_uploaded.add(task.length);
        let place = UfsSource {
            mount_id: task.mount_id,
            path: task.path.clone(),
            fingerprint: status.fingerprint.clone(),
            length: task.length,
        };
        let labelled = Arc::clone(entry);
        let version = task.version;
        let io = |error| FsError::from_io("label an uploaded version", &error);
        let kept = blocking(move || labelled.label_persisted(version, epoch, place).map_err(io)).await?;
        if !kept {
            tracing::info!(
                inode = task.inode,
                version,
                "an uploaded version is no longer the one held here"
            );
        }
        Ok(status)
    }

    async fn write_expecting(
        &self,
        ufs: &dyn UnderFileSystem,
        source: &Upload,
        task: &PersistTask,
        attributes: &UfsAttributes,
    ) -> FsResult<UfsStatus> {
        let path = task.path.escape_ascii();
        let mut expect = match task.expect.as_str() {
            "" => Expect::Absent,
            fingerprint => Expect::Fingerprint(fingerprint.to_owned()),
        };
        for _ in 0..WRITES_MAX {
            let error = match ufs.write(&task.path, source, &expect, attributes).await {
                Ok(status) => return Ok(status),
                Err(error) if error.kind == UfsErrorKind::PreconditionFailed => error,
                Err(error) if error.kind == UfsErrorKind::AlreadyExists && expect == Expect::Absent => error,
                Err(error) => return Err(source.error(task, error)),
            };
            expect = match ufs.status(&task.path).await {
                Err(gone) if gone.kind == UfsErrorKind::NotFound => {
                    tracing::warn!(inode = task.inode, %path, "the object to replace is gone; writing it anew");
                    Expect::Absent
                }
                Err(error) => return Err(FsError::from(error).context("look at what is in the way of an upload")),
                Ok(there) if there.kind != FileKind::File => {
                    return Err(FsError::from(error).context(format!("upload to {path}: a directory is there")));
                }
                Ok(there) => {
                    if there.length == task.length && source.equals(ufs, &task.path, &there).await? {
                        tracing::info!(inode = task.inode, %path, "the object is there already, from a run before");
                        return Ok(there);
                    }
                    tracing::warn!(
                        inode = task.inode, %path, expected = ?expect, found = there.fingerprint,
                        "somebody else wrote the object; overwriting it, the last close wins"
                    );
                    Expect::Fingerprint(there.fingerprint)
                }
            };
        }
        let why = format!("upload to {path}: the object changed {WRITES_MAX} times meanwhile");
        Err(FsError::new(ErrorKind::Unavailable, why))
    }

    async fn drop_uploaded(&self, entry: &Arc<Entry>, version: u64) -> FsResult<()> {
        let _turn = entry.turn.lock().await;
        let view = entry.view();
        if view.dead || view.pinned() || view.header.version != version {
            return Ok(());
        }
        let (store, entry) = (Arc::clone(&self.store), Arc::clone(entry));
        blocking(move || store.remove(&entry)).await
    }
}

/// The header as of the version of `task`, with its base, and the content's epoch.
fn sealed_content(entry: &Entry, task: &PersistTask) -> FsResult<(Header, u64)> {
    let view = entry.view();
    let mut header = view.header;
    if view.dead {
        return Err(not_held(task));
    }
    if header.open {
        let sealed = header.sealed.take().filter(|sealed| sealed.version == task.version);
        let sealed = sealed.ok_or_else(|| not_held(task))?;
        header.length = sealed.length;
        header.ufs = sealed.ufs;
    } else if header.version != task.version {
        return Err(not_held(task));
    }
    if header.length != task.length {
        let why = format!(
            "inode {} version {} has {} bytes here, the task says {}",
            task.inode, task.version, header.length, task.length
        );
        return Err(FsError::new(ErrorKind::Stale, why));
    }
    Ok((header, view.content_epoch))
}

fn not_held(task: &PersistTask) -> FsError {
    let why = format!(
        "version {} of inode {} is not on this worker (any more)",
        task.version, task.inode
    );
    FsError::new(ErrorKind::Stale, why)
}

fn attributes_of(task: &PersistTask) -> UfsAttributes {
    match &task.attr {
        Some(attr) => UfsAttributes {
            mode: Some(attr.mode),
            owner: Some(attr.owner.clone()).filter(|owner| !owner.is_empty()),
            group: Some(attr.group.clone()).filter(|group| !group.is_empty()),
            mtime_ns: Some(attr.mtime_ns),
        },
        None => UfsAttributes::default(),
    }
}

/// Bytes of one sealed version.
struct Upload {
    entry: Arc<Entry>,
    length: u64,
    epoch: u64,
    /// Where chunks come from that were never local, and how many of its bytes count.
    base: Option<(UfsSource, u64)>,
    base_client: Option<Arc<dyn UnderFileSystem>>,
    /// What a read of ours failed with; the store only sees that its source failed.
    failed: Mutex<Option<ErrorKind>>,
}

#[async_trait::async_trait]
impl UploadSource for Upload {
    fn length(&self) -> u64 {
        self.length
    }

    async fn read_at(&self, offset: u64, length: u64) -> UfsResult<Bytes> {
        let end = offset.checked_add(length).filter(|end| *end <= self.length);
        let end = end.ok_or_else(|| UfsError::new(UfsErrorKind::Invalid, "an upload reads beyond its end"))?;
        let mut out = BytesMut::with_capacity((end - offset) as usize);
        let mut at = offset;
        while at < end {
            let missing = self.entry.missing(at / CHUNK_BYTES..chunks_of(end));
            let (gap_start, gap_end) = missing
                .first()
                .map_or((end, end), |run| (run.start * CHUNK_BYTES, run.end * CHUNK_BYTES));
            let local = at..gap_start.clamp(at, end);
            if !local.is_empty() {
                out.extend_from_slice(&self.read_checked(local.clone()).await?);
                at = local.end;
                continue;
            }
            let gap = at..gap_end.min(end);
            self.read_base(gap.clone(), &mut out).await?;
            at = gap.end;
        }
        self.check_epoch()?;
        Ok(out.freeze())
    }
}

impl Upload {
    async fn read_checked(&self, range: Range<u64>) -> UfsResult<Vec<u8>> {
        let (entry, length) = (Arc::clone(&self.entry), self.length);
        let read = blocking(move || {
            let io = |error| FsError::from_io("read a version for upload", &error);
            entry.read_sealed(range, length).map_err(io)
        });
        let bytes = read
            .await
            .map_err(|error| UfsError::new(UfsErrorKind::Other, error.message))?;
        self.check_epoch()?;
        bytes.ok_or_else(|| match self.entry.is_open() {
            true => self.fail(ErrorKind::Stale, "the version is being overwritten"),
            false => self.fail(ErrorKind::DataLost, "the version is damaged"),
        })
    }

    async fn read_base(&self, gap: Range<u64>, out: &mut BytesMut) -> UfsResult<()> {
        let lost = || self.fail(ErrorKind::DataLost, "a part of the version is nowhere");
        let base_error = |error: UfsError| match error.kind {
            UfsErrorKind::PreconditionFailed | UfsErrorKind::NotFound => self.fail(
                ErrorKind::DataLost,
                "the object under a changed version was replaced before the change was uploaded",
            ),
            _ => error,
        };
        let (source, source_bytes) = self.base.as_ref().ok_or_else(lost)?;
        let client = self.base_client.as_ref().ok_or_else(lost)?;
        let want = out.len() + (gap.end - gap.start) as usize;
        let there = gap.start.min(*source_bytes)..gap.end.min(*source_bytes);
        if !there.is_empty() {
            let stream = client.read(&source.path, there.clone(), &source.fingerprint).await;
            let mut stream = stream.map_err(base_error)?;
            while let Some(piece) = stream.next().await {
                out.extend_from_slice(&piece.map_err(base_error)?);
            }
        }
        if out.len() > want {
            return Err(UfsError::new(UfsErrorKind::Other, "a body is longer than its range"));
        }
        // What lies beyond the base is zeros.
        out.resize(want, 0);
        Ok(())
    }

    fn check_epoch(&self) -> UfsResult<()> {
        match self.entry.view().content_epoch == self.epoch {
            true => Ok(()),
            false => Err(self.fail(ErrorKind::Stale, "the version was replaced while it was uploaded")),
        }
    }

    fn fail(&self, kind: ErrorKind, why: &str) -> UfsError {
        *self.failed.lock() = Some(kind);
        UfsError::new(UfsErrorKind::Other, why)
    }

    /// What a failed write means: a read of ours, or the under-storage.
    fn error(&self, task: &PersistTask, error: UfsError) -> FsError {
        let mut error = FsError::from(error).context(format!("upload {}", task.path.escape_ascii()));
        if let Some(kind) = *self.failed.lock() {
            error.kind = kind;
        }
        error
    }

    /// Whether the object at `path` has this version's bytes: every chunk that is local against its checksum. Chunks that
    /// only the base had cannot be compared, because this object may be what replaced it.
    async fn equals(&self, ufs: &dyn UnderFileSystem, path: &[u8], there: &UfsStatus) -> FsResult<bool> {
        let mut stream = ufs
            .read(path, 0..self.length, &there.fingerprint)
            .await
            .map_err(FsError::from)?;
        let mut buffer = BytesMut::new();
        let mut chunk = 0;
        let mut compared = self.length == 0;
        loop {
            let piece = stream.next().await;
            let ended = piece.is_none();
            if let Some(piece) = piece {
                buffer.extend_from_slice(&piece.map_err(FsError::from)?);
            }
            while buffer.len() as u64 >= CHUNK_BYTES || (ended && !buffer.is_empty()) {
                let bytes = buffer.split_to(buffer.len().min(CHUNK_BYTES as usize));
                let marks = self
                    .entry
                    .marks(chunk, 1)
                    .map_err(|e| FsError::from_io("read checksums", &e))?;
                match marks.first() {
                    Some(Mark::Local(crc) | Mark::Clean(crc)) => {
                        if alluxio_common::checksum::crc32c(&bytes) != *crc {
                            return Ok(false);
                        }
                        compared = true;
                    }
                    _ if self.base.is_none() => return Ok(false),
                    _ => {}
                }
                chunk += 1;
            }
            if ended {
                return Ok(compared && chunk == chunks_of(self.length));
            }
        }
    }
}
