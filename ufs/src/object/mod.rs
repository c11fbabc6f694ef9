//! Object stores as file systems: folders are prefixes, renames are copies, reads and writes are conditional on ETags.
//!
//! Promises: a name is shown once, as a folder if it is a key and a prefix; no byte of another version than the one asked
//! for; a write is there whole or not at all. Left out: atomic rename.
//!
//! Attributes go with an object as user metadata ([`attributes`]) and with a folder on its marker `dir/`. `status` knows them, listings
//! do not: what they leave out is filled in by `complete` ([`keeping`]). `x-amz-meta-alluxio-write-id` tells a write of ours whose
//! answer was lost from another's; a caller may choose it.

pub(crate) mod attributes;
mod carrying;
pub(crate) mod client;
pub(crate) mod generic;
mod inside;
mod keeping;
mod ledger;
mod listing;
pub(crate) mod memory;
mod plan;
mod reading;
mod renaming;
mod writing;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use alluxio_proto::types::FileKind;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;

use crate::{
    BaseObject, Capabilities, CopyListener, Expect, Export, Inside, Moved, PageToken, UfsAttributes, UfsError,
    UfsErrorKind, UfsMetrics, UfsPage, UfsResult, UfsSpace, UfsStatus, UnderFileSystem, UploadSource, path,
};
use attributes::Policy;
use client::{Limits, ListRequest, Listed, ObjectClient, ObjectMeta};
use keeping::{Marks, ROOT_MARK};
use ledger::Ledger;

/// A folder of an object store.
pub(crate) struct ObjectUfs {
    client: Arc<dyn ObjectClient>,
    /// Prefix of the mount, without slashes at its ends; empty for the whole bucket.
    root: String,
    /// The URI, for messages.
    label: String,
    limits: Limits,
    ufs_type: &'static str,
    /// Uploads in parts that this host has begun.
    ledger: Arc<Ledger>,
    /// When a skipped key was last warned about, so that a bucket full of them does not fill the log.
    warned_ns: AtomicI64,
    policy: Policy,
    marks: Marks,
}

/// Its client knows credentials, which are not for logs.
impl std::fmt::Debug for ObjectUfs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ObjectUfs").field(&self.label).finish()
    }
}

impl ObjectUfs {
    pub fn new(client: Arc<dyn ObjectClient>, root: String, label: String, ufs_type: &'static str) -> Self {
        let limits = client.limits();
        Self {
            client,
            root,
            label,
            limits,
            ufs_type,
            ledger: Arc::new(Ledger::nowhere()),
            warned_ns: AtomicI64::new(0),
            policy: Policy::Auto,
            marks: Marks::default(),
        }
    }

    /// Whether attributes are kept with objects.
    pub fn keeping(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Keeps note of uploads in parts in a folder, so that those that a crash leaves behind are found.
    pub fn noting_uploads_in(mut self, folder: std::path::PathBuf) -> Self {
        self.ledger = Arc::new(Ledger::new(folder, self.label.clone()));
        self
    }

    /// Key of an object. The root has none.
    fn key(&self, path: &[u8]) -> UfsResult<String> {
        path::check_path(path)?;
        if path.is_empty() {
            return Err(self.error(UfsErrorKind::IsADirectory, path, "the root is a directory"));
        }
        let text = std::str::from_utf8(path)
            .map_err(|_| self.error(UfsErrorKind::Invalid, path, "keys of object stores must be UTF-8"))?;
        if self.root.is_empty() && text == ROOT_MARK {
            return Err(self.error(
                UfsErrorKind::Invalid,
                path,
                "the name is that of the mark of the bucket",
            ));
        }
        let key = if self.root.is_empty() {
            text.to_owned()
        } else {
            format!("{}/{text}", self.root)
        };
        if key.len() > self.limits.key_bytes_max {
            let why = format!(
                "its key has {} bytes, the store takes {}",
                key.len(),
                self.limits.key_bytes_max
            );
            return Err(self.error(UfsErrorKind::PathTooLong, path, &why));
        }
        Ok(key)
    }

    /// Prefix of what is in a directory: ends in a slash, or is empty for a whole bucket.
    fn prefix(&self, dir: &[u8]) -> UfsResult<String> {
        if dir.is_empty() {
            return Ok(if self.root.is_empty() {
                String::new()
            } else {
                format!("{}/", self.root)
            });
        }
        Ok(self.key(dir)? + "/")
    }

    fn error(&self, kind: UfsErrorKind, path: &[u8], why: &str) -> UfsError {
        UfsError::new(kind, format!("{} in {}: {why}", path::show(path), self.label))
    }

    fn file_status(&self, path: &[u8], meta: &ObjectMeta) -> UfsStatus {
        let attributes = self.found(&meta.properties.metadata, FileKind::File).attributes;
        UfsStatus {
            name: Bytes::copy_from_slice(path::split(path).1),
            kind: FileKind::File,
            length: meta.length,
            mtime_ns: attributes.mtime_ns.unwrap_or(meta.modified_ns),
            fingerprint: meta.etag.clone(),
            mode: attributes.mode,
            owner: attributes.owner,
            group: attributes.group,
            symlink_target: None,
            write_id: attributes.write_id,
            atime_ns: attributes.atime_ns,
            xattrs: attributes.xattrs,
            is_partial: false,
            is_archived: meta.properties.is_archived,
        }
    }

    /// The first keys beneath a prefix, undelimited.
    async fn first_keys(&self, prefix: &str, limit: usize) -> UfsResult<Vec<Listed>> {
        let request = ListRequest {
            prefix,
            delimited: false,
            token: None,
            limit,
        };
        Ok(self.client.list(request).await?.items)
    }

    async fn directory_attributes(&self, marker: &str) -> UfsResult<UfsAttributes> {
        match self.client.head(marker).await {
            Ok(meta) => {
                self.marks.note(&meta);
                Ok(self.found(&meta.properties.metadata, FileKind::Directory).attributes)
            }
            // Gone since it was listed.
            Err(error) if error.kind == UfsErrorKind::NotFound => Ok(UfsAttributes::default()),
            Err(error) => Err(error),
        }
    }
}

#[async_trait::async_trait]
impl UnderFileSystem for ObjectUfs {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            ufs_type: self.ufs_type,
            real_directories: false,
            atomic_rename: false,
            conditional_write: self.limits.conditional_write,
            copies_ranges: self.limits.copies_ranges,
            symlinks: self.keeps_attributes(),
            keeps_attributes: self.keeps_attributes(),
        }
    }

    fn metrics(&self) -> Arc<UfsMetrics> {
        self.client.metrics().clone()
    }

    fn check_path(&self, path: &[u8]) -> UfsResult<()> {
        if path.is_empty() {
            Ok(())
        } else {
            self.key(path).map(drop)
        }
    }

    async fn probe(&self) -> UfsResult<()> {
        self.first_keys(&self.prefix(b"")?, 1).await.map(drop)
    }

    /// Two requests at once: the key, and the first key beneath it. A folder goes before a file.
    async fn status(&self, path: &[u8]) -> UfsResult<UfsStatus> {
        let prefix = self.prefix(path)?;
        if path.is_empty() {
            self.first_keys(&prefix, 1).await?;
            return Ok(UfsStatus::directory(path, UfsAttributes::default()));
        }
        let key = self.key(path)?;
        let (object, beneath) = futures::join!(self.client.head(&key), self.first_keys(&prefix, 1));
        match beneath?.first() {
            Some(first) if first.key() == prefix => {
                Ok(UfsStatus::directory(path, self.directory_attributes(&prefix).await?))
            }
            Some(_) => Ok(UfsStatus::directory(path, UfsAttributes::default())),
            None => self.described(path, &object?).await,
        }
    }

    async fn list(&self, dir: &[u8], token: Option<PageToken>, limit: usize) -> UfsResult<UfsPage> {
        self.list_page(dir, token, limit.max(1)).await
    }

    async fn complete(&self, dir: &[u8], entries: Vec<UfsStatus>) -> UfsResult<Vec<UfsStatus>> {
        self.complete_entries(dir, entries).await
    }

    async fn read(
        &self,
        path: &[u8],
        range: std::ops::Range<u64>,
        fingerprint: &str,
    ) -> UfsResult<BoxStream<'static, UfsResult<Bytes>>> {
        self.read_range(path, range, fingerprint).await
    }

    async fn write(
        &self,
        path: &[u8],
        source: &dyn UploadSource,
        expect: &Expect,
        attributes: &UfsAttributes,
    ) -> UfsResult<UfsStatus> {
        self.write_object(path, source, None, expect, attributes).await
    }

    async fn write_over(
        &self,
        path: &[u8],
        source: &dyn UploadSource,
        base: &BaseObject,
        expect: &Expect,
        attributes: &UfsAttributes,
    ) -> UfsResult<UfsStatus> {
        base.check(source.length())?;
        if !self.limits.copies_ranges {
            return Err(self.error(UfsErrorKind::Unsupported, path, "the store copies no ranges of objects"));
        }
        self.write_object(path, source, Some(base), expect, attributes).await
    }

    async fn delete_if(&self, path: &[u8], fingerprint: &str) -> UfsResult<()> {
        self.client.delete_if(&self.key(path)?, fingerprint).await
    }

    async fn delete(&self, paths: &[Bytes]) -> Vec<UfsResult<()>> {
        let mut results: Vec<UfsResult<()>> = Vec::with_capacity(paths.len());
        let mut keys = Vec::with_capacity(paths.len());
        for path in paths {
            let key = self.key(path);
            results.push(key.as_ref().map(|_| ()).map_err(Clone::clone));
            keys.extend(key);
        }
        let mut outcomes = self.client.delete(&keys).await.into_iter();
        for result in results.iter_mut().filter(|result| result.is_ok()) {
            *result = outcomes.next().unwrap_or_else(|| {
                Err(UfsError::new(
                    UfsErrorKind::Other,
                    format!("{}: fewer answers than deletes", self.label),
                ))
            });
        }
        results
    }

    async fn mkdir(&self, path: &[u8], attributes: &UfsAttributes) -> UfsResult<()> {
        if path.is_empty() {
            return Ok(());
        }
        // A marker would hide a file of that name.
        match self.client.head(&self.key(path)?).await {
            Ok(_) => return Err(self.error(UfsErrorKind::AlreadyExists, path, "a file is there")),
            Err(error) if error.kind == UfsErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        if self.keeps_attributes() {
            self.mark_parent(path).await?;
            return match self.write_marker(path, Some(attributes), true).await {
                // It is there, and others are at work on it.
                Err(error) if error.kind == UfsErrorKind::PreconditionFailed => Ok(()),
                made => made,
            };
        }
        let properties = self.to_metadata(attributes, FileKind::Directory).into();
        // A marker that is there keeps its attributes.
        let expect = if self.limits.conditional_write {
            Expect::Absent
        } else {
            Expect::Any
        };
        match self
            .client
            .put(&self.prefix(path)?, Bytes::new(), &expect, &properties)
            .await
        {
            Err(error) if error.kind != UfsErrorKind::PreconditionFailed => Err(error),
            _ => Ok(()),
        }
    }

    async fn rmdir(&self, path: &[u8]) -> UfsResult<()> {
        if path.is_empty() {
            return Err(self.error(UfsErrorKind::Invalid, path, "the root cannot be removed"));
        }
        let marker = self.prefix(path)?;
        let keys = self.first_keys(&marker, 2).await?;
        if keys.iter().any(|listed| listed.key() != marker) {
            return Err(self.error(UfsErrorKind::NotEmpty, path, "the directory is not empty"));
        }
        self.marks.forget(&marker);
        if keys.is_empty() {
            return Ok(());
        }
        self.client.delete(&[marker]).await.into_iter().collect()
    }

    async fn symlink(&self, path: &[u8], target: &[u8], attributes: &UfsAttributes) -> UfsResult<()> {
        self.make_symlink(path, target, attributes).await
    }

    async fn rename(&self, from: &[u8], to: &[u8]) -> UfsResult<UfsStatus> {
        let moved = self.move_path(from, to, &HashSet::new(), &()).await?;
        match moved.left.into_iter().next() {
            Some(left) => Err(left.error),
            None => Ok(moved.status),
        }
    }

    async fn move_objects(
        &self,
        from: &[u8],
        to: &[u8],
        kept: &HashSet<Bytes>,
        told: &dyn CopyListener,
    ) -> UfsResult<Moved> {
        self.move_path(from, to, kept, told).await
    }

    async fn copy_file(&self, from: &[u8], fingerprint: &str, to: &[u8]) -> UfsResult<String> {
        self.copy_path(from, fingerprint, to).await
    }

    fn store(&self) -> Option<String> {
        self.client.place().map(|place| place.store)
    }

    async fn export(&self, path: &[u8], fingerprint: &str) -> UfsResult<Export> {
        self.export_object(path, fingerprint).await
    }

    async fn import(
        &self,
        export: &Export,
        path: &[u8],
        expect: &Expect,
        attributes: &UfsAttributes,
        _how: Inside,
    ) -> UfsResult<UfsStatus> {
        self.import_object(export, path, expect, attributes).await
    }

    async fn set_attributes(
        &self,
        path: &[u8],
        kind: FileKind,
        attributes: &UfsAttributes,
        fingerprint: &str,
    ) -> UfsResult<Option<String>> {
        self.change_attributes(path, kind, attributes, fingerprint).await
    }

    async fn abort_stale_uploads(&self, age: Duration) -> UfsResult<u64> {
        let mut aborts = futures::stream::iter(self.ledger.left_behind(age).await?)
            .map(|upload| async move {
                self.client.abort_upload(&upload.key, &upload.id).await?;
                upload.record.remove();
                Ok::<_, UfsError>(())
            })
            .buffer_unordered(self.limits.requests_in_flight);
        let mut aborted = 0;
        while let Some(result) = aborts.next().await {
            result?;
            aborted += 1;
        }
        Ok(aborted)
    }

    async fn space(&self) -> UfsResult<Option<UfsSpace>> {
        Ok(None)
    }
}
