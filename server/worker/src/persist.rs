//! Uploads: one sealed version to one path of an under-storage, exactly those bytes.
//!
//! Every chunk is held against its checksum as it is read, so a version that is being overwritten in place, or that the
//! disk damaged, is never uploaded as something else. What the under-storage has already, in the object that the version
//! was made of, is copied there if it can copy ranges. If the object at the target is not the expected one: it may be
//! what we would write, from a run that ended between PUT and confirmation; otherwise somebody else wrote there, and the
//! last close wins: it is overwritten, conditionally on what was seen, with a warning; unless the version needs bytes of
//! the object that is gone by that: then the upload fails, and goes on failing until a person decides.

use crate::core::Core;
use crate::store::{Entry, Header, blocking};
use crate::upload::{Under, Upload, write_id};
use alluxio_common::sync::Mutex;
use alluxio_proto::master::PersistTask;
use alluxio_proto::types::{FileKind, UfsSource};
use alluxio_proto::{ErrorKind, FsError, FsResult, InodeId};
use alluxio_ufs::{BytesSource, Expect, UfsAttributes, UfsErrorKind, UfsResult, UfsStatus, UnderFileSystem};
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Conditional writes of one task; each failure means that another object appeared meanwhile.
const WRITES_MAX: usize = 4;

impl Core {
    /// Uploads a version and returns the fingerprint of what is there then.
    ///
    /// # Errors
    /// `Stale` if the version changed under its hands or is not here; the under-storage's otherwise.
    pub async fn persist(&self, task: &PersistTask) -> FsResult<String> {
        let inode = InodeId(task.inode);
        let Some(entry) = self.store.find(inode).await? else {
            return self.persist_without(task).await;
        };
        let content = match sealed_content(&entry, task)? {
            Some(content) => content,
            None => return self.persist_without(task).await,
        };
        if let Some(ufs) = content
            .header
            .ufs
            .as_ref()
            .filter(|ufs| ufs.path == task.path && ufs.mount_id == task.mount_id)
        {
            // Done before, and the news got lost.
            return Ok(ufs.fingerprint.clone());
        }
        entry.count_upload(true);
        let result = self.upload(&entry, &content, task).await;
        entry.count_upload(false);
        entry.spilling.note_upload(result.as_ref().err());
        entry.fills.progress.notify_waiters();
        let status = result?;
        if task.drop_after {
            self.drop_uploaded(&entry, task.version).await?;
        }
        Ok(status.fingerprint)
    }

    /// A version that is not here. An empty one is not synced before its close is acknowledged, so a crash of the operating
    /// system takes it from here, but nothing of it is needed.
    async fn persist_without(&self, task: &PersistTask) -> FsResult<String> {
        match self.uploaded_before(task).await {
            Err(error) if error.kind == ErrorKind::Stale && task.length == 0 => {}
            other => return other,
        }
        let ufs = self.clients.get(task.mount_id).await?;
        let expect = match task.expect.as_str() {
            "" => Expect::Absent,
            fingerprint => Expect::Fingerprint(fingerprint.to_owned()),
        };
        let source = BytesSource(Bytes::new());
        let mut attributes = attributes_of(task);
        let mtime_ns = attributes.mtime_ns.unwrap_or(0);
        attributes.write_id = Some(write_id(task.inode, task.version, mtime_ns, &self.clients.cluster()));
        let written = ufs.write(&task.path, &source, &expect, &attributes).await;
        let context = || format!("upload {}, which is empty", task.path.escape_ascii());
        let status = written.map_err(|error| FsError::from(error).context(context()))?;
        Ok(status.fingerprint)
    }

    /// A version that is not here: it may have been uploaded, and evicted after a restart, before the master heard of it.
    async fn uploaded_before(&self, task: &PersistTask) -> FsResult<String> {
        let ufs = self.clients.get(task.mount_id).await?;
        let there = match ufs.status(&task.path).await {
            Ok(there) => there,
            Err(error) if error.kind == UfsErrorKind::NotFound => return Err(not_held(task)),
            Err(error) => return Err(FsError::from(error).context("look for a version that is not on this worker")),
        };
        let mtime_ns = task.attr.as_ref().map_or(0, |attr| attr.mtime_ns);
        let is_it = match &there.write_id {
            Some(id) => *id == write_id(task.inode, task.version, mtime_ns, &self.clients.cluster()),
            // Where the store has no room for its name: as exactly as its times go.
            None => mtime_ns != 0 && there.mtime_ns == mtime_ns,
        };
        if there.kind != FileKind::File || there.length != task.length || !is_it {
            return Err(not_held(task));
        }
        tracing::info!(
            inode = task.inode,
            version = task.version,
            "uploaded before, and no longer on this worker"
        );
        Ok(there.fingerprint)
    }

    async fn upload(&self, entry: &Arc<Entry>, content: &Content, task: &PersistTask) -> FsResult<UfsStatus> {
        let ufs = self.clients.get(task.mount_id).await?;
        let mut source = self.source_of(entry, content, task).await?;
        let mut attributes = attributes_of(task);
        attributes.write_id = Some(source.write_id.clone());
        let status = self.write_expecting(&*ufs, &mut source, task, &attributes).await?;
        if status.length != task.length {
            // Whatever that is, it is not this version, and must not be taken for its only copy.
            let path = task.path.escape_ascii();
            let why = format!(
                "upload {path}: {} bytes are there instead of {} of version {}; it is uploaded again",
                status.length, task.length, task.version
            );
            return Err(FsError::new(ErrorKind::Unavailable, why));
        }
        self.counters
            .bytes_uploaded
            .add(source.bytes_read.load(Ordering::Relaxed));
        let place = UfsSource {
            mount_id: task.mount_id,
            path: task.path.clone(),
            fingerprint: status.fingerprint.clone(),
            length: task.length,
        };
        let labelled = Arc::clone(entry);
        let (version, epoch) = (task.version, content.epoch);
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

    async fn source_of(&self, entry: &Arc<Entry>, content: &Content, task: &PersistTask) -> FsResult<Upload> {
        let under = match Under::of(&content.header, content.base_bytes, task) {
            Some(under) => {
                let client = self.clients.get(under.place.mount_id).await?;
                Some((under, client))
            }
            None => None,
        };
        let io = |error| FsError::from_io("look at what of a version changed", &error);
        let clean = match &under {
            Some((under, client)) if client.capabilities().copies_ranges => {
                let length = task.length.min(under.bytes);
                let entry = Arc::clone(entry);
                blocking(move || entry.clean_ranges(length).map_err(io)).await?
            }
            _ => None,
        };
        Ok(Upload {
            store: Arc::clone(&self.store),
            entry: Arc::clone(entry),
            length: task.length,
            epoch: content.epoch,
            under,
            clean: clean.unwrap_or_default(),
            write_id: write_id(task.inode, task.version, content.mtime_ns, &self.clients.cluster()),
            cluster: self.clients.cluster(),
            failed: Mutex::new(None),
            bytes_read: AtomicU64::new(0),
        })
    }

    async fn write_expecting(
        &self,
        ufs: &dyn UnderFileSystem,
        source: &mut Upload,
        task: &PersistTask,
        attributes: &UfsAttributes,
    ) -> FsResult<UfsStatus> {
        let path = task.path.escape_ascii();
        let mut expect = match task.expect.as_str() {
            "" => Expect::Absent,
            fingerprint => Expect::Fingerprint(fingerprint.to_owned()),
        };
        for _ in 0..WRITES_MAX {
            let error = match write(ufs, source, task, &expect, attributes).await {
                Ok(status) => return Ok(status),
                Err(error) if error.kind == UfsErrorKind::BaseChanged || source.has_lost_base() => {
                    // Replaced by ourselves, perhaps.
                    match ufs.status(&task.path).await {
                        Ok(there) if source.is_there(ufs, task, &there).await? => return Ok(there),
                        Ok(there) if source.adopt(task, &there).await? => {
                            expect = Expect::Fingerprint(there.fingerprint);
                            continue;
                        }
                        _ => return Err(source.error(task, error)),
                    }
                }
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
                    if source.is_there(ufs, task, &there).await? {
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
        if entry.is_open() {
            // Who has the turn may wait for this very upload.
            return Ok(());
        }
        let _turn = entry.turn.lock().await;
        let view = entry.view();
        if view.dead || view.pinned() || view.header.version != version {
            return Ok(());
        }
        let (store, entry) = (Arc::clone(&self.store), Arc::clone(entry));
        blocking(move || store.remove(&entry)).await
    }
}

/// Writes once, over what the store has if it can.
async fn write(
    ufs: &dyn UnderFileSystem,
    source: &Upload,
    task: &PersistTask,
    expect: &Expect,
    attributes: &UfsAttributes,
) -> UfsResult<UfsStatus> {
    if let Some(base) = source.base_object(task.mount_id) {
        match ufs.write_over(&task.path, source, &base, expect, attributes).await {
            Err(error) if error.kind == UfsErrorKind::Unsupported => {
                tracing::info!(inode = task.inode, %error, "the store copies no ranges; uploading all of a version");
            }
            other => return other,
        }
    }
    ufs.write(&task.path, source, expect, attributes).await
}

/// What was sealed as the version of a task.
struct Content {
    /// As of that version, with its base.
    header: Header,
    epoch: u64,
    mtime_ns: i64,
    /// How much of the base shows through it, if that is known to differ from what the header says.
    base_bytes: Option<u64>,
}

/// None: it has none of that version.
fn sealed_content(entry: &Entry, task: &PersistTask) -> FsResult<Option<Content>> {
    let view = entry.view();
    let mut base_bytes = None;
    let mut header = view.header;
    if view.dead {
        return Ok(None);
    }
    if header.open {
        let sealed = header.sealed.take().filter(|sealed| sealed.version == task.version);
        let Some(sealed) = sealed else { return Ok(None) };
        header.length = sealed.length;
        header.mtime_ns = sealed.mtime_ns;
        header.ufs = sealed.ufs;
        base_bytes = sealed.base_bytes;
    } else if header.version != task.version {
        return Ok(None);
    }
    if header.length != task.length {
        let why = format!(
            "inode {} version {} has {} bytes here, the task says {}",
            task.inode, task.version, header.length, task.length
        );
        return Err(FsError::new(ErrorKind::Stale, why));
    }
    Ok(Some(Content {
        epoch: view.content_epoch,
        mtime_ns: header.mtime_ns,
        base_bytes,
        header,
    }))
}

fn not_held(task: &PersistTask) -> FsError {
    let why = format!(
        "version {} of inode {} is not on this worker (any more)",
        task.version, task.inode
    );
    FsError::new(ErrorKind::Stale, why)
}

fn attributes_of(task: &PersistTask) -> UfsAttributes {
    let xattrs = task
        .xattrs
        .iter()
        .map(|xattr| (xattr.name.clone(), xattr.value.clone()));
    match &task.attr {
        Some(attr) => UfsAttributes {
            mode: Some(attr.mode),
            owner: Some(attr.owner.clone()).filter(|owner| !owner.is_empty()),
            group: Some(attr.group.clone()).filter(|group| !group.is_empty()),
            mtime_ns: Some(attr.mtime_ns),
            atime_ns: Some(attr.atime_ns),
            xattrs: Some(xattrs.collect()),
            write_id: None,
            carried: None,
        },
        None => UfsAttributes::default(),
    }
}
