//! Copies of files from one mount to another, as the master asks for them: one object, exactly those bytes.
//!
//! Nothing is read but the version of the source that the master saw, and nothing is replaced but what it saw at the target. What this
//! worker has cached of that version comes from here, held against its checksums; the rest is streamed, a part at a time. Between
//! two folders of this host the kernel copies. What the source carries (content type, tags, metadata of others) goes
//! along where both stores have it. It can be repeated: nothing is deleted, and the copy has a name.

use crate::core::Core;
use crate::upload::{Under, Upload};
use alluxio_common::sync::Mutex;
use alluxio_proto::master::{CopyTask, StoredAttributes};
use alluxio_proto::types::UfsSource;
use alluxio_proto::{ErrorKind, FsError, FsResult, InodeId};
use alluxio_ufs::{
    Expect, Export, Inside, UfsAttributes, UfsError, UfsErrorKind, UfsResult, UfsStatus, UnderFileSystem, UploadSource,
};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// An object of another mount, read a range at a time.
struct Streamed<'a> {
    ufs: &'a dyn UnderFileSystem,
    source: &'a UfsSource,
}

#[async_trait::async_trait]
impl UploadSource for Streamed<'_> {
    fn length(&self) -> u64 {
        self.source.length
    }

    async fn read_at(&self, offset: u64, length: u64) -> UfsResult<Bytes> {
        let UfsSource { path, fingerprint, .. } = self.source;
        let short = |got: usize| {
            let message = format!(
                "read {}: {got} bytes instead of {length} at {offset}",
                path.escape_ascii()
            );
            UfsError::new(UfsErrorKind::Other, message)
        };
        let end = offset.checked_add(length).filter(|end| *end <= self.source.length);
        let end = end.ok_or_else(|| short(0))?;
        let mut bytes = BytesMut::with_capacity(length as usize);
        if length == 0 {
            return Ok(bytes.freeze());
        }
        let mut stream = self.ufs.read(path, offset..end, fingerprint).await?;
        while let Some(piece) = stream.next().await {
            bytes.extend_from_slice(&piece?);
        }
        match bytes.len() as u64 == length {
            true => Ok(bytes.freeze()),
            false => Err(short(bytes.len())),
        }
    }
}

impl Core {
    /// Copies a file and returns what is at the target then.
    ///
    /// # Errors
    /// `VersionMismatch` if the source or what was at the target is another one now; the under-storages' otherwise.
    pub async fn copy_between(&self, task: &CopyTask) -> FsResult<UfsStatus> {
        let Some(source) = &task.source else {
            return Err(FsError::new(
                ErrorKind::InvalidArgument,
                "copy to another mount: of what?",
            ));
        };
        let from = self.clients.get(source.mount_id).await?;
        let to = self.clients.get(task.mount_id).await?;
        let copied = self.copy_object(task, source, &from, &*to).await;
        let (path, target) = (source.path.escape_ascii(), task.path.escape_ascii());
        let status = copied.map_err(|error| FsError::from(error).context(format!("copy {path} to {target}")))?;
        if status.length != source.length {
            let why = format!(
                "copy {path} to {target}: {} bytes are there instead of {}; it is copied again",
                status.length, source.length
            );
            return Err(FsError::new(ErrorKind::Unavailable, why));
        }
        self.counters.bytes_copied.add(source.length);
        Ok(status)
    }

    async fn copy_object(
        &self,
        task: &CopyTask,
        source: &UfsSource,
        from: &Arc<dyn UnderFileSystem>,
        to: &dyn UnderFileSystem,
    ) -> UfsResult<UfsStatus> {
        let export = match from.export(&source.path, &source.fingerprint).await {
            Ok(export) => Some(export),
            Err(error) if error.kind == UfsErrorKind::Unsupported => None,
            Err(error) => return Err(error),
        };
        let expect = expected(task);
        let attributes = UfsAttributes {
            write_id: Some(task.write_id.clone()).filter(|id| !id.is_empty()),
            carried: export.as_ref().and_then(Export::carried),
            ..attributes_of(task.attributes.clone().unwrap_or_default())
        };
        if let Some(export) = export.filter(Export::is_of_host) {
            match to
                .import(&export, &task.path, &expect, &attributes, Inside::ByKernel)
                .await
            {
                Err(error) if error.kind == UfsErrorKind::Unsupported => {}
                copied => return copied,
            }
        }
        match self.cached(task, source, from).await {
            Some(cached) => to.write(&task.path, &cached, &expect, &attributes).await,
            None => {
                let streamed = Streamed { ufs: &**from, source };
                to.write(&task.path, &streamed, &expect, &attributes).await
            }
        }
    }

    /// The source, as far as it is cached here.
    async fn cached(&self, task: &CopyTask, source: &UfsSource, from: &Arc<dyn UnderFileSystem>) -> Option<Upload> {
        // A cache that cannot be looked at is no reason not to copy.
        let entry = self.store.find(InodeId(task.inode)).await.ok().flatten()?;
        let view = entry.view();
        let header = view.header;
        let is_source = !view.dead
            && !header.open
            && header.version == task.version
            && header.length == source.length
            && header
                .ufs
                .as_ref()
                .is_some_and(|ufs| ufs.fingerprint == source.fingerprint);
        is_source.then(|| Upload {
            store: Arc::clone(&self.store),
            entry: Arc::clone(&entry),
            length: source.length,
            epoch: view.content_epoch,
            under: Some((
                Under {
                    place: source.clone(),
                    bytes: source.length,
                },
                Arc::clone(from),
            )),
            clean: Vec::new(),
            write_id: task.write_id.clone(),
            cluster: self.clients.cluster(),
            failed: Mutex::new(None),
            bytes_read: AtomicU64::new(0),
        })
    }
}

fn expected(task: &CopyTask) -> Expect {
    match task.expect.as_str() {
        _ if task.expect_any => Expect::Any,
        "" => Expect::Absent,
        fingerprint => Expect::Fingerprint(fingerprint.to_owned()),
    }
}

fn attributes_of(stored: StoredAttributes) -> UfsAttributes {
    let xattrs = stored.xattrs.into_iter().map(|xattr| (xattr.name, xattr.value));
    UfsAttributes {
        mode: stored.mode,
        owner: stored.owner,
        group: stored.group,
        mtime_ns: stored.mtime_ns,
        atime_ns: stored.atime_ns,
        xattrs: stored.knows_xattrs.then(|| xattrs.collect()),
        write_id: None,
        carried: None,
    }
}
