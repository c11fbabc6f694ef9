//! An object store in memory: what S3 does, without the wire. Runs the code of all object stores in tests.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use alluxio_common::sync::Mutex;
use bytes::{Bytes, BytesMut};
use futures::{StreamExt, stream};

use super::client::{Body, Limits, ListRequest, Listed, ListedPage, ObjectClient, ObjectMeta, Properties, now_ns};
use crate::{Expect, UfsError, UfsErrorKind, UfsMetrics, UfsResult};

/// Small chunks, so that readers meet the joints.
const CHUNK_BYTES: usize = 64 << 10;

#[derive(Clone, Debug)]
struct Object {
    body: Bytes,
    meta: ObjectMeta,
}

#[derive(Debug)]
struct Upload {
    key: String,
    properties: Properties,
    parts: BTreeMap<usize, Bytes>,
}

#[derive(Debug, Default)]
struct Store {
    objects: BTreeMap<String, Object>,
    uploads: BTreeMap<String, Upload>,
}

/// The store.
#[derive(Debug, Default)]
pub(crate) struct MemoryObjects {
    store: Mutex<Store>,
    next_id: AtomicU64,
    metrics: Arc<UfsMetrics>,
    limits: Limits,
}

impl MemoryObjects {
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }

    fn count(&self) {
        UfsMetrics::add(&self.metrics.requests, 1);
    }

    fn id(&self) -> String {
        format!("{:016x}", self.next_id.fetch_add(1, Ordering::Relaxed))
    }

    fn store_object(
        &self,
        store: &mut Store,
        key: &str,
        body: Bytes,
        expect: &Expect,
        properties: &Properties,
    ) -> UfsResult<String> {
        let there = store.objects.get(key).map(|object| object.meta.etag.as_str());
        let holds = match expect {
            Expect::Any => true,
            Expect::Absent => there.is_none(),
            Expect::Fingerprint(etag) => there == Some(etag),
        };
        if !holds {
            return Err(failed(UfsErrorKind::PreconditionFailed, key));
        }
        let etag = self.id();
        let meta = ObjectMeta {
            key: key.to_owned(),
            length: body.len() as u64,
            modified_ns: now_ns() / 1_000_000_000 * 1_000_000_000,
            etag: etag.clone(),
            properties: properties.clone(),
        };
        store.objects.insert(key.to_owned(), Object { body, meta });
        Ok(etag)
    }
}

fn failed(kind: UfsErrorKind, key: &str) -> UfsError {
    UfsError::new(kind, format!("{key} in memory: {kind:?}"))
}

fn slice(body: &Bytes, key: &str, range: &Range<u64>) -> UfsResult<Bytes> {
    let end = usize::try_from(range.end).unwrap_or(usize::MAX);
    if end > body.len() {
        return Err(failed(UfsErrorKind::Invalid, key));
    }
    Ok(body.slice(usize::try_from(range.start).unwrap_or(end).min(end)..end))
}

#[async_trait::async_trait]
impl ObjectClient for MemoryObjects {
    fn limits(&self) -> Limits {
        self.limits
    }

    fn metrics(&self) -> &Arc<UfsMetrics> {
        &self.metrics
    }

    async fn head(&self, key: &str) -> UfsResult<ObjectMeta> {
        self.count();
        let store = self.store.lock();
        let object = store
            .objects
            .get(key)
            .ok_or_else(|| failed(UfsErrorKind::NotFound, key))?;
        Ok(object.meta.clone())
    }

    async fn get(&self, key: &str, range: Range<u64>, etag: &str) -> UfsResult<Body> {
        self.count();
        let store = self.store.lock();
        let object = store
            .objects
            .get(key)
            .ok_or_else(|| failed(UfsErrorKind::NotFound, key))?;
        if !etag.is_empty() && object.meta.etag != etag {
            return Err(failed(UfsErrorKind::PreconditionFailed, key));
        }
        let mut body = slice(&object.body, key, &range)?;
        let mut chunks = Vec::new();
        while !body.is_empty() {
            chunks.push(Ok(body.split_to(body.len().min(CHUNK_BYTES))));
        }
        Ok(Body {
            etag: object.meta.etag.clone(),
            stream: stream::iter(chunks).boxed(),
        })
    }

    async fn put(&self, key: &str, body: Bytes, expect: &Expect, properties: &Properties) -> UfsResult<Option<String>> {
        self.count();
        let mut store = self.store.lock();
        self.store_object(&mut store, key, body, expect, properties).map(Some)
    }

    async fn begin_upload(&self, key: &str, properties: &Properties, _copies: bool) -> UfsResult<String> {
        self.count();
        let id = self.id();
        let upload = Upload {
            key: key.to_owned(),
            properties: properties.clone(),
            parts: BTreeMap::new(),
        };
        self.store.lock().uploads.insert(id.clone(), upload);
        Ok(id)
    }

    async fn put_part(&self, key: &str, upload: &str, index: usize, body: Bytes, _copies: bool) -> UfsResult<String> {
        self.count();
        let mut store = self.store.lock();
        let upload = store
            .uploads
            .get_mut(upload)
            .ok_or_else(|| failed(UfsErrorKind::NotFound, key))?;
        upload.parts.insert(index, body);
        Ok(index.to_string())
    }

    async fn copy_part(
        &self,
        key: &str,
        upload: &str,
        index: usize,
        from: &ObjectMeta,
        range: Range<u64>,
    ) -> UfsResult<String> {
        let part = {
            let store = self.store.lock();
            let source = store
                .objects
                .get(&from.key)
                .ok_or_else(|| failed(UfsErrorKind::NotFound, &from.key))?;
            if source.meta.etag != from.etag {
                return Err(failed(UfsErrorKind::PreconditionFailed, &from.key));
            }
            slice(&source.body, &from.key, &range)?
        };
        self.put_part(key, upload, index, part, true).await
    }

    async fn complete_upload(
        &self,
        key: &str,
        upload: &str,
        parts: Vec<String>,
        _length: u64,
        expect: &Expect,
    ) -> UfsResult<Option<String>> {
        self.count();
        let mut store = self.store.lock();
        let pending = store
            .uploads
            .get(upload)
            .ok_or_else(|| failed(UfsErrorKind::NotFound, key))?;
        if pending.key != key || !pending.parts.keys().map(usize::to_string).eq(parts) {
            return Err(failed(UfsErrorKind::Invalid, key));
        }
        let body: BytesMut = pending.parts.values().flatten().copied().collect();
        let properties = pending.properties.clone();
        let etag = self.store_object(&mut store, key, body.freeze(), expect, &properties)?;
        store.uploads.remove(upload);
        Ok(Some(etag))
    }

    async fn abort_upload(&self, _key: &str, upload: &str) -> UfsResult<()> {
        self.count();
        self.store.lock().uploads.remove(upload);
        Ok(())
    }

    async fn copy(&self, from: &ObjectMeta, to: &str) -> UfsResult<Option<String>> {
        self.count();
        let mut store = self.store.lock();
        let source = store.objects.get(&from.key).cloned();
        let source = source.ok_or_else(|| failed(UfsErrorKind::NotFound, &from.key))?;
        if source.meta.etag != from.etag {
            return Err(failed(UfsErrorKind::PreconditionFailed, &from.key));
        }
        self.store_object(&mut store, to, source.body, &Expect::Any, &source.meta.properties)
            .map(Some)
    }

    async fn replace_properties(&self, meta: &ObjectMeta) -> UfsResult<Option<String>> {
        self.count();
        let mut store = self.store.lock();
        let there = store.objects.get(&meta.key).cloned();
        let there = there.ok_or_else(|| failed(UfsErrorKind::NotFound, &meta.key))?;
        let expect = Expect::Fingerprint(meta.etag.clone());
        let properties = Properties {
            tags: there.meta.properties.tags,
            ..meta.properties.clone()
        };
        self.store_object(&mut store, &meta.key, there.body, &expect, &properties)
            .map(Some)
    }

    async fn delete_if(&self, key: &str, etag: &str) -> UfsResult<()> {
        self.count();
        let mut store = self.store.lock();
        match store.objects.get(key) {
            Some(object) if object.meta.etag != etag => {
                let why = format!("delete {key:?}: it is another one now");
                return Err(UfsError::new(UfsErrorKind::PreconditionFailed, why));
            }
            _ => store.objects.remove(key),
        };
        Ok(())
    }

    async fn delete(&self, keys: &[String]) -> Vec<UfsResult<()>> {
        self.count();
        let mut store = self.store.lock();
        keys.iter()
            .map(|key| {
                store.objects.remove(key);
                Ok(())
            })
            .collect()
    }

    /// The token is the last key or prefix given: what comes after it is what begins neither before it nor with it.
    async fn list(&self, request: ListRequest<'_>) -> UfsResult<ListedPage> {
        self.count();
        let store = self.store.lock();
        let mut page = ListedPage::default();
        let start = request.token.unwrap_or(request.prefix).to_owned();
        for (key, object) in store.objects.range(start..) {
            let Some(rest) = key.strip_prefix(request.prefix) else {
                break;
            };
            let passed =
                |token: &str| key == token || (token.ends_with('/') && request.delimited && key.starts_with(token));
            // A token that is the directory's own marker hides nothing beneath it.
            if request.token.is_some_and(|token| {
                if token == request.prefix {
                    key == token
                } else {
                    passed(token)
                }
            }) {
                continue;
            }
            let item = match rest.find('/').filter(|_| request.delimited) {
                Some(slash) => Listed::Prefix(format!("{}{}", request.prefix, &rest[..=slash])),
                None => Listed::Object(ObjectMeta {
                    properties: Properties::default(),
                    ..object.meta.clone()
                }),
            };
            if page.items.last() == Some(&item) {
                continue;
            }
            if page.items.len() == request.limit {
                page.token = page.items.last().map(|last| last.key().to_owned());
                break;
            }
            page.items.push(item);
        }
        Ok(page)
    }
}
