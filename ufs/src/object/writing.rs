//! Writes: one conditional PUT, or a multipart upload that is completed on the same condition and aborted on failure.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};

use super::ObjectUfs;
use super::attributes::{self, WRITE_ID};
use super::client::{Metadata, ObjectClient, ObjectMeta, now_ns};
use crate::{Expect, UfsAttributes, UfsErrorKind, UfsMetrics, UfsResult, UfsStatus, UploadSource};

/// Aborts an upload unless it was completed, also if the task is dropped in the middle.
struct UploadGuard {
    client: Arc<dyn ObjectClient>,
    key: String,
    upload: Option<String>,
}

impl UploadGuard {
    fn completed(mut self) {
        self.upload = None;
    }

    async fn abort(mut self) {
        if let Some(upload) = self.upload.take() {
            abort(&*self.client, &self.key, &upload).await;
        }
    }
}

impl Drop for UploadGuard {
    fn drop(&mut self) {
        // Without a runtime the process is ending; `abort_stale_uploads` finds what is left.
        if let (Some(upload), Ok(runtime)) = (self.upload.take(), tokio::runtime::Handle::try_current()) {
            let (client, key) = (self.client.clone(), std::mem::take(&mut self.key));
            runtime.spawn(async move { abort(&*client, &key, &upload).await });
        }
    }
}

async fn abort(client: &dyn ObjectClient, key: &str, upload: &str) {
    if let Err(error) = client.abort_upload(key, upload).await {
        tracing::warn!(key, %error, "could not abort an upload; it is aborted later as a stale one");
    }
}

impl ObjectUfs {
    pub(super) async fn write_object(
        &self,
        path: &[u8],
        source: &dyn UploadSource,
        expect: &Expect,
        wanted: &UfsAttributes,
    ) -> UfsResult<UfsStatus> {
        let key = self.key(path)?;
        if *expect != Expect::Any && !self.limits.conditional_write {
            return Err(self.error(UfsErrorKind::Unsupported, path, "the store has no conditional writes"));
        }
        let write_id = format!("{:032x}", rand::random::<u128>());
        let mut metadata = attributes::to_metadata(wanted);
        metadata.push((WRITE_ID.to_owned(), write_id.clone()));

        let length = source.length();
        let written = if length <= self.limits.part_bytes {
            let body = self.read_part(path, source, 0, length).await?;
            self.client.put(&key, body, expect, &metadata).await
        } else {
            self.write_multipart(path, &key, source, expect, &metadata).await
        };
        let etag = match written {
            Ok(Some(etag)) => etag,
            Ok(None) => self.client.head(&key).await?.etag,
            // The first attempt may have succeeded and its answer been lost; then the retry met our own object.
            Err(error) if matches!(error.kind, UfsErrorKind::PreconditionFailed | UfsErrorKind::NotFound) => {
                match self.client.head(&key).await {
                    Ok(meta) if attributes::write_id(&meta.metadata) == Some(&write_id) => meta.etag,
                    _ => return Err(error),
                }
            }
            Err(error) => return Err(error),
        };
        UfsMetrics::add(&self.client.metrics().bytes_written, length);
        Ok(self.file_status(
            path,
            &ObjectMeta {
                key,
                length,
                modified_ns: now_ns(),
                etag,
                metadata,
            },
        ))
    }

    async fn read_part(&self, path: &[u8], source: &dyn UploadSource, offset: u64, length: u64) -> UfsResult<Bytes> {
        let body = source.read_at(offset, length).await?;
        if body.len() as u64 != length {
            let why = format!(
                "the upload's source gave {} bytes instead of {length} at {offset}",
                body.len()
            );
            return Err(self.error(UfsErrorKind::Other, path, &why));
        }
        Ok(body)
    }

    /// Parts in flight times their size bounds the memory; parts grow only where 10,000 of them would not do.
    async fn write_multipart(
        &self,
        path: &[u8],
        key: &str,
        source: &dyn UploadSource,
        expect: &Expect,
        metadata: &Metadata,
    ) -> UfsResult<Option<String>> {
        let length = source.length();
        let part_bytes = self.limits.part_bytes.max(length.div_ceil(self.limits.parts_max));
        let memory = self.limits.part_bytes * self.limits.parts_in_flight as u64;
        let in_flight = usize::try_from(memory / part_bytes).unwrap_or(1).max(1);
        self.check_expected(path, key, expect).await?;
        let upload = self.client.begin_upload(key, metadata).await?;
        let guard = UploadGuard {
            client: self.client.clone(),
            key: key.to_owned(),
            upload: Some(upload.clone()),
        };
        let result = async {
            let mut pending = Vec::new();
            for (index, offset) in (0..length)
                .step_by(usize::try_from(part_bytes).unwrap_or(usize::MAX))
                .enumerate()
            {
                let upload = &upload;
                pending.push(async move {
                    let body = self
                        .read_part(path, source, offset, part_bytes.min(length - offset))
                        .await?;
                    self.client.put_part(key, upload, index, body).await
                });
            }
            let parts = stream::iter(pending).buffered(in_flight).try_collect().await?;
            self.check_expected(path, key, expect).await?;
            self.client.complete_upload(key, &upload, parts, expect).await
        }
        .await;
        match result {
            Ok(_) => guard.completed(),
            Err(_) => guard.abort().await,
        }
        result
    }

    /// Looks before an upload in parts, which would be in vain, and once more before it is completed: some servers ignore
    /// conditions there. Those that do not have the last word.
    async fn check_expected(&self, path: &[u8], key: &str, expect: &Expect) -> UfsResult<()> {
        if *expect == Expect::Any {
            return Ok(());
        }
        let holds = match (expect, self.client.head(key).await) {
            (Expect::Any, _) => true,
            (Expect::Absent, Err(error)) if error.kind == UfsErrorKind::NotFound => true,
            (Expect::Fingerprint(_), Err(error)) if error.kind == UfsErrorKind::NotFound => false,
            (_, Err(error)) => return Err(error),
            (Expect::Absent, Ok(_)) => false,
            (Expect::Fingerprint(etag), Ok(meta)) => meta.etag == *etag,
        };
        if holds {
            return Ok(());
        }
        Err(self.error(
            UfsErrorKind::PreconditionFailed,
            path,
            "another version is there than was expected",
        ))
    }

    /// Copies an object of any size within the store.
    pub(super) async fn copy_object(&self, from: &ObjectMeta, to: &str) -> UfsResult<()> {
        if from.key.ends_with('/') && from.length == 0 {
            // Stores on file systems refuse to copy a folder's marker; it has nothing but its metadata.
            let metadata = self.client.head(&from.key).await?.metadata;
            return self
                .client
                .put(to, Bytes::new(), &Expect::Any, &metadata)
                .await
                .map(drop);
        }
        if from.length <= self.limits.copy_part_bytes {
            return self.client.copy(from, to).await;
        }
        // A copy in parts makes a new object: its metadata has to be given again.
        let metadata = self.client.head(&from.key).await?.metadata;
        let part_bytes = self
            .limits
            .copy_part_bytes
            .max(from.length.div_ceil(self.limits.parts_max));
        let upload = self.client.begin_upload(to, &metadata).await?;
        let guard = UploadGuard {
            client: self.client.clone(),
            key: to.to_owned(),
            upload: Some(upload.clone()),
        };
        let result = async {
            let mut pending = Vec::new();
            for (index, start) in (0..from.length)
                .step_by(usize::try_from(part_bytes).unwrap_or(usize::MAX))
                .enumerate()
            {
                let range = start..from.length.min(start + part_bytes);
                pending.push(self.client.copy_part(to, &upload, index, from, range));
            }
            let parts = stream::iter(pending)
                .buffered(self.limits.parts_in_flight)
                .try_collect()
                .await?;
            self.client.complete_upload(to, &upload, parts, &Expect::Any).await
        }
        .await;
        match result {
            Ok(_) => guard.completed(),
            Err(_) => guard.abort().await,
        }
        result.map(drop)
    }
}
