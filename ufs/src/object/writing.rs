//! Writes: one conditional PUT, or a multipart upload that is completed on the same condition and aborted on failure.
//! Parts of an upload over a base that the store has are copied there, each on the condition that it is still that base.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use alluxio_proto::types::FileKind;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};

use super::ObjectUfs;
use super::client::{ObjectClient, ObjectMeta, Properties, now_ns};
use super::ledger::Record;
use super::plan::{self, Part, Sizes};
use crate::{
    BaseObject, Carried, Expect, UfsAttributes, UfsError, UfsErrorKind, UfsMetrics, UfsResult, UfsStatus, UploadSource,
};

/// A base that parts are copied from, and its object.
type Beneath<'a> = (&'a BaseObject, ObjectMeta);

/// Aborts an upload unless it was completed, also if the task is dropped in the middle.
struct UploadGuard {
    client: Arc<dyn ObjectClient>,
    key: String,
    upload: Option<String>,
    /// That it is ours, for after a crash.
    record: Option<Record>,
}

impl UploadGuard {
    async fn new(ufs: &ObjectUfs, key: &str, upload: &str) -> Self {
        Self {
            client: ufs.client.clone(),
            key: key.to_owned(),
            upload: Some(upload.to_owned()),
            record: ufs.ledger.begun(key, upload).await,
        }
    }

    fn completed(mut self) {
        self.upload = None;
        if let Some(record) = self.record.take() {
            record.remove();
        }
    }

    async fn abort(mut self) {
        if let Some(upload) = self.upload.take() {
            abort(&*self.client, &self.key, &upload, self.record.take()).await;
        }
    }
}

impl Drop for UploadGuard {
    fn drop(&mut self) {
        // Without a runtime the process is ending; `abort_stale_uploads` finds what is left.
        if let (Some(upload), Ok(runtime)) = (self.upload.take(), tokio::runtime::Handle::try_current()) {
            let (client, key, record) = (self.client.clone(), std::mem::take(&mut self.key), self.record.take());
            runtime.spawn(async move { abort(&*client, &key, &upload, record).await });
        }
    }
}

async fn abort(client: &dyn ObjectClient, key: &str, upload: &str, record: Option<Record>) {
    match client.abort_upload(key, upload).await {
        Ok(()) => drop(record.map(Record::remove)),
        Err(error) => tracing::warn!(key, %error, "could not abort an upload; it is aborted later as one left behind"),
    }
}

/// An upload in parts: what goes where, on which condition.
struct Multipart<'a> {
    path: &'a [u8],
    key: &'a str,
    source: &'a dyn UploadSource,
    expect: &'a Expect,
    properties: &'a Properties,
    parts: Vec<Part>,
    /// What copied parts are copied from.
    base: Option<(&'a BaseObject, ObjectMeta)>,
}

impl ObjectUfs {
    pub(super) async fn write_object(
        &self,
        path: &[u8],
        source: &dyn UploadSource,
        base: Option<&BaseObject>,
        expect: &Expect,
        wanted: &UfsAttributes,
    ) -> UfsResult<UfsStatus> {
        let key = self.key(path)?;
        if *expect != Expect::Any && !self.limits.conditional_write {
            return Err(self.error(UfsErrorKind::Unsupported, path, "the store has no conditional writes"));
        }
        let write_id = wanted.write_id.clone();
        let wanted = UfsAttributes {
            write_id: write_id.or_else(|| Some(format!("{:032x}", rand::random::<u128>()))),
            ..wanted.clone()
        };
        let ours = self.to_metadata(&wanted, FileKind::File);
        self.mark_parent(path).await?;
        let properties = match &wanted.carried {
            Some(Carried(carried)) => Properties {
                metadata: self.merged_metadata(path, &carried.metadata, ours),
                ..carried.clone()
            },
            None => self.properties_over(path, &key, base, expect, ours).await?,
        };

        let length = source.length();
        let written = if length <= self.limits.part_bytes {
            let body = self.read_part(path, source, 0, length).await?;
            UfsMetrics::add(&self.client.metrics().bytes_written, length);
            self.client.put(&key, body, expect, &properties).await
        } else {
            let (parts, base) = self.parts_of(length, base)?;
            let upload = Multipart {
                path,
                key: &key,
                source,
                expect,
                properties: &properties,
                parts,
                base,
            };
            self.write_multipart(&upload).await
        };
        let etag = match written {
            Ok(Some(etag)) => etag,
            Ok(None) => self.client.head(&key).await?.etag,
            Err(error) => self.own_of_lost_answer(path, &key, &wanted, error).await?,
        };
        Ok(self.file_status(
            path,
            &ObjectMeta {
                key,
                length,
                modified_ns: now_ns(),
                etag,
                properties,
            },
        ))
    }

    /// The ETag of our own object, where a write failed because it met that: the first attempt had succeeded and its answer been lost.
    ///
    /// # Errors
    /// `error`, if it is another one.
    pub(super) async fn own_of_lost_answer(
        &self,
        path: &[u8],
        key: &str,
        wanted: &UfsAttributes,
        error: UfsError,
    ) -> UfsResult<String> {
        if !matches!(error.kind, UfsErrorKind::PreconditionFailed | UfsErrorKind::NotFound) || wanted.write_id.is_none()
        {
            return Err(error);
        }
        match self.client.head(key).await {
            Ok(meta) if self.file_status(path, &meta).write_id == wanted.write_id => Ok(meta.etag),
            _ => Err(error),
        }
    }

    /// Parts of an upload, and the base if something is worth copying from it.
    fn parts_of<'a>(&self, length: u64, base: Option<&'a BaseObject>) -> UfsResult<(Vec<Part>, Option<Beneath<'a>>)> {
        let sizes = Sizes {
            part_min: self.limits.part_bytes_min,
            part: self.limits.part_bytes,
            copied_max: self.limits.range_copy_bytes,
            parts_max: self.limits.parts_max,
        };
        if let Some(base) = base {
            let parts = plan::over(length, &base.dirty(length), sizes);
            if parts.iter().any(|part| part.copied) {
                let meta = ObjectMeta {
                    key: self.key(&base.path)?,
                    length: base.length,
                    modified_ns: 0,
                    etag: base.fingerprint.clone(),
                    properties: Properties::default(),
                };
                return Ok((parts, Some((base, meta))));
            }
        }
        Ok((plan::whole(length, sizes), None))
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

    /// Parts in flight times their size bounds the memory.
    async fn write_multipart(&self, upload: &Multipart<'_>) -> UfsResult<Option<String>> {
        let &Multipart {
            path,
            key,
            expect,
            properties,
            ..
        } = upload;
        let uploaded = upload.parts.iter().filter(|part| !part.copied);
        let largest = uploaded.map(|part| part.range.end - part.range.start).max();
        let memory = self.limits.part_bytes * self.limits.parts_in_flight as u64;
        let in_flight = usize::try_from(memory / largest.unwrap_or(1).max(1)).unwrap_or(usize::MAX);
        let in_flight = in_flight.clamp(1, self.limits.parts_in_flight);
        self.check_expected(path, key, expect).await?;
        let id = self.client.begin_upload(key, properties, upload.base.is_some()).await?;
        let guard = UploadGuard::new(self, key, &id).await;
        let result = async {
            let parts = self.write_all_parts(upload, &id, in_flight).await?;
            if let Some((base, meta)) = &upload.base {
                self.check_base(base, meta, "it changed while it was copied").await?;
            }
            self.check_expected(path, key, expect).await?;
            let length = upload.source.length();
            self.client.complete_upload(key, &id, parts, length, expect).await
        }
        .await;
        match result {
            Ok(_) => guard.completed(),
            Err(_) => guard.abort().await,
        }
        result
    }

    /// After a failure no further part begins, but those under way are waited for: a part that arrives after the upload was
    /// aborted would bring it back to life.
    async fn write_all_parts(&self, upload: &Multipart<'_>, id: &str, in_flight: usize) -> UfsResult<Vec<String>> {
        let failed = AtomicBool::new(false);
        let mut pending = Vec::with_capacity(upload.parts.len());
        for (index, part) in upload.parts.iter().enumerate() {
            let failed = &failed;
            pending.push(async move {
                if failed.load(Ordering::Relaxed) {
                    return None;
                }
                let result = self.write_part(upload, id, index, part).await;
                failed.fetch_or(result.is_err(), Ordering::Relaxed);
                Some(result)
            });
        }
        let parts: Vec<Option<UfsResult<String>>> = stream::iter(pending).buffered(in_flight).collect().await;
        let parts = parts.into_iter().flatten().collect::<UfsResult<Vec<String>>>()?;
        debug_assert_eq!(parts.len(), upload.parts.len(), "without a failure no part is left out");
        Ok(parts)
    }

    async fn write_part(&self, upload: &Multipart<'_>, id: &str, index: usize, part: &Part) -> UfsResult<String> {
        let &Multipart { path, key, source, .. } = upload;
        let length = part.range.end - part.range.start;
        let metrics = self.client.metrics();
        let Some((base, meta)) = upload.base.as_ref().filter(|_| part.copied) else {
            let body = self.read_part(path, source, part.range.start, length).await?;
            UfsMetrics::add(&metrics.bytes_written, length);
            return self.client.put_part(key, id, index, body, upload.base.is_some()).await;
        };
        let copied = self.client.copy_part(key, id, index, meta, part.range.clone()).await;
        match copied {
            Ok(tag) => {
                UfsMetrics::add(&metrics.bytes_copied, length);
                Ok(tag)
            }
            Err(error) if error.kind == UfsErrorKind::PreconditionFailed => Err(base.changed(&error.message)),
            // The base, or the upload, which somebody may have aborted.
            Err(error) if matches!(error.kind, UfsErrorKind::NotFound | UfsErrorKind::Invalid) => {
                self.check_base(base, meta, &error.message).await?;
                Err(error)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether the base is still what it was: also for servers that ignore the condition on a copy.
    async fn check_base(&self, base: &BaseObject, meta: &ObjectMeta, why: &str) -> UfsResult<()> {
        match self.client.head(&meta.key).await {
            Ok(there) if there.etag == meta.etag => Ok(()),
            Ok(_) => Err(base.changed(why)),
            Err(error) if error.kind == UfsErrorKind::NotFound => Err(base.changed("it is gone")),
            Err(error) => Err(error),
        }
    }

    /// Looks before an upload in parts, which would be in vain, and once more before it is completed: some servers ignore
    /// conditions there. Those that do not have the last word.
    pub(super) async fn check_expected(&self, path: &[u8], key: &str, expect: &Expect) -> UfsResult<()> {
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
    pub(super) async fn copy_object(&self, from: &ObjectMeta, to: &str) -> UfsResult<Option<String>> {
        if from.key.ends_with('/') && from.length == 0 {
            // Stores on file systems refuse to copy a folder's marker; it has nothing but what it carries.
            let properties = self.client.describe(&from.key).await?.properties;
            return self.client.put(to, Bytes::new(), &Expect::Any, &properties).await;
        }
        if from.length <= self.limits.copy_part_bytes {
            return self.client.copy(from, to).await;
        }
        // A copy in parts makes a new object: what it carries has to be given again.
        let properties = self.client.describe(&from.key).await?.properties;
        self.copy_in_parts(None, from, to, &properties, &Expect::Any).await
    }

    /// Copies an object as large as any, of another bucket if one is named: each part on the condition that it is still that object.
    pub(super) async fn copy_in_parts(
        &self,
        bucket: Option<&str>,
        from: &ObjectMeta,
        to: &str,
        properties: &Properties,
        expect: &Expect,
    ) -> UfsResult<Option<String>> {
        let part_bytes = self
            .limits
            .copy_part_bytes
            .max(from.length.div_ceil(self.limits.parts_max));
        let upload = self.client.begin_upload(to, properties, true).await?;
        let guard = UploadGuard::new(self, to, &upload).await;
        let result = async {
            let mut pending = Vec::new();
            for (index, start) in (0..from.length)
                .step_by(usize::try_from(part_bytes).unwrap_or(usize::MAX))
                .enumerate()
            {
                let range = start..from.length.min(start + part_bytes);
                pending.push(match bucket {
                    None => self.client.copy_part(to, &upload, index, from, range),
                    Some(bucket) => self.client.copy_part_from(bucket, to, &upload, index, from, range),
                });
            }
            let parts = stream::iter(pending)
                .buffered(self.limits.parts_in_flight)
                .try_collect()
                .await?;
            self.client
                .complete_upload(to, &upload, parts, from.length, expect)
                .await
        }
        .await;
        match result {
            Ok(_) => guard.completed(),
            Err(_) => guard.abort().await,
        }
        match result {
            // Of another bucket's source nothing is asked here.
            Err(error) if error.kind == UfsErrorKind::NotFound && bucket.is_none() => {
                Err(self.gone_or_again(from, error).await)
            }
            result => result,
        }
    }

    /// What a copy in parts ends with that found something gone: only what is said of the source tells that the source is. An upload is
    /// gone as well once it is complete, if the answer to that was lost, or if somebody aborted it.
    async fn gone_or_again(&self, from: &ObjectMeta, error: UfsError) -> UfsError {
        match self.client.head(&from.key).await {
            Err(look) if look.kind == UfsErrorKind::NotFound => error,
            _ => UfsError::new(
                UfsErrorKind::Unreachable,
                format!("the upload that was to become the copy is gone: {}", error.message),
            ),
        }
    }
}
