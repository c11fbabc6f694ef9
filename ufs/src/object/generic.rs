//! Google Cloud Storage, Azure and HTTP through `object_store`.
//!
//! What its paths cannot name is not there: folder markers (`mkdir` says [`UfsErrorKind::Unsupported`]), and keys such as
//! `a//b`, which fail the page of a listing that they are on. Conditions on multipart uploads are checked before they
//! complete, not as they complete. Uploads that a crash left behind are the store's to expire. HTTP (WebDAV) has neither
//! conditions nor parts, and its folders are read whole.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::http::HttpBuilder;
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, CopyOptions, GetOptions, GetRange, ObjectStore, PutMode, PutMultipartOptions, PutOptions,
    UpdateVersion,
};

use super::client::{Body, Limits, ListRequest, Listed, ListedPage, ObjectClient, ObjectMeta, Properties};
use crate::{Expect, UfsError, UfsErrorKind, UfsMetrics, UfsResult};

/// Without multipart a whole object goes into one request, and into memory.
const SINGLE_PUT_BYTES_MAX: u64 = 256 << 20;

/// A store of `object_store`.
#[derive(Debug)]
pub(crate) struct GenericClient {
    store: Arc<dyn ObjectStore>,
    parts: Option<Parts>,
    pages: Option<Pages>,
    metrics: Arc<UfsMetrics>,
    limits: Limits,
}

struct Parts(Arc<dyn MultipartStore>);
struct Pages(Arc<dyn PaginatedListStore>);

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Parts")
    }
}

impl std::fmt::Debug for Pages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pages")
    }
}

impl GenericClient {
    /// The store at `base`, a URL without path. Options by `object_store`'s names (`google_service_account`,
    /// `azure_storage_account_key`, ...) go before the environment.
    pub fn open(base: &str, options: &BTreeMap<String, String>) -> UfsResult<Self> {
        crate::tls::install_provider();
        let refuse = |error: object_store::Error| UfsError::new(UfsErrorKind::Invalid, format!("open {base}: {error}"));
        if base.starts_with("gs://") {
            let mut builder = GoogleCloudStorageBuilder::from_env().with_url(base);
            for (key, value) in options {
                if let Ok(key) = key.parse::<GoogleConfigKey>() {
                    builder = builder.with_config(key, value);
                }
            }
            let store = Arc::new(builder.build().map_err(refuse)?);
            return Ok(Self::new(store.clone(), Some(store.clone()), Some(store)));
        }
        if base.starts_with("http") {
            let store = HttpBuilder::new().with_url(base).build().map_err(refuse)?;
            return Ok(Self::new(Arc::new(store), None, None));
        }
        let mut builder = MicrosoftAzureBuilder::from_env().with_url(base);
        for (key, value) in options {
            if let Ok(key) = key.parse::<AzureConfigKey>() {
                builder = builder.with_config(key, value);
            }
        }
        let store = Arc::new(builder.build().map_err(refuse)?);
        Ok(Self::new(store.clone(), Some(store.clone()), Some(store)))
    }

    pub fn new(
        store: Arc<dyn ObjectStore>,
        parts: Option<Arc<dyn MultipartStore>>,
        pages: Option<Arc<dyn PaginatedListStore>>,
    ) -> Self {
        let mut limits = Limits {
            // There is no copy in parts.
            copy_part_bytes: u64::MAX,
            copies_ranges: false,
            replaces_metadata: false,
            ..Limits::default()
        };
        if parts.is_none() {
            limits.part_bytes = SINGLE_PUT_BYTES_MAX;
        }
        Self {
            store,
            parts: parts.map(Parts),
            pages: pages.map(Pages),
            metrics: Arc::default(),
            limits,
        }
    }

    fn count(&self) {
        UfsMetrics::add(&self.metrics.requests, 1);
    }

    fn parts(&self, key: &str) -> UfsResult<&dyn MultipartStore> {
        match &self.parts {
            Some(parts) => Ok(&*parts.0),
            None => {
                let why = format!(
                    "write {key:?}: the store has no multipart uploads, and takes {SINGLE_PUT_BYTES_MAX} bytes"
                );
                Err(UfsError::new(UfsErrorKind::Unsupported, why))
            }
        }
    }

    async fn delete_one(&self, key: &str) -> UfsResult<()> {
        if key.ends_with('/') {
            return Ok(());
        }
        self.count();
        let path = path_of(key)?;
        let mut results = self.store.delete_stream(stream::once(async { Ok(path) }).boxed());
        match results.next().await {
            None | Some(Ok(_) | Err(object_store::Error::NotFound { .. })) => Ok(()),
            Some(Err(error)) => Err(told_apart(error, "delete", key)),
        }
    }

    async fn put_mode(&self, key: &str, expect: &Expect) -> UfsResult<PutMode> {
        Ok(match expect {
            Expect::Any => PutMode::Overwrite,
            Expect::Absent => PutMode::Create,
            Expect::Fingerprint(etag) => {
                // Some stores compare versions, which listings do not give.
                self.count();
                let found = self.store.head_of(key).await.map_err(|error| match error.kind {
                    UfsErrorKind::NotFound => UfsError::new(UfsErrorKind::PreconditionFailed, error.message),
                    _ => error,
                })?;
                if found.e_tag.as_deref() != Some(etag) {
                    return Err(changed(key));
                }
                PutMode::Update(UpdateVersion {
                    e_tag: found.e_tag,
                    version: found.version,
                })
            }
        })
    }

    async fn whole_listing(&self, request: &ListRequest<'_>) -> UfsResult<ListedPage> {
        let prefix = path_of(request.prefix.trim_end_matches('/'))?;
        let prefix = (!prefix.is_root()).then_some(prefix);
        let fail = |error| told_apart(error, "list", request.prefix);
        let mut items: Vec<Listed> = if request.delimited {
            let result = self.store.list_with_delimiter(prefix.as_ref()).await.map_err(fail)?;
            let prefixes = result
                .common_prefixes
                .into_iter()
                .map(|prefix| Listed::Prefix(format!("{prefix}/")));
            result.objects.into_iter().map(object).chain(prefixes).collect()
        } else {
            self.store
                .list(prefix.as_ref())
                .map_ok(object)
                .try_collect()
                .await
                .map_err(fail)?
        };
        items.sort_by(|a, b| a.key().cmp(b.key()));
        let mut items: Vec<Listed> = items
            .into_iter()
            .filter(|item| request.token.is_none_or(|token| item.key() > token))
            .take(request.limit + 1)
            .collect();
        let more = items.len() > request.limit;
        items.truncate(request.limit);
        let token = items.last().filter(|_| more).map(|last| last.key().to_owned());
        Ok(ListedPage { items, token })
    }
}

#[async_trait::async_trait]
trait HeadOf {
    async fn head_of(&self, key: &str) -> UfsResult<object_store::ObjectMeta>;
}

#[async_trait::async_trait]
impl HeadOf for Arc<dyn ObjectStore> {
    async fn head_of(&self, key: &str) -> UfsResult<object_store::ObjectMeta> {
        let options = GetOptions {
            head: true,
            ..GetOptions::default()
        };
        let result = self.get_opts(&path_of(key)?, options).await;
        Ok(result.map_err(|error| told_apart(error, "head", key))?.meta)
    }
}

fn path_of(key: &str) -> UfsResult<Path> {
    // `parse` would drop the slash, and name another key.
    if key.ends_with('/') || key.starts_with('/') {
        return Err(UfsError::new(
            UfsErrorKind::Unsupported,
            format!("{key:?}: the store takes no folder markers"),
        ));
    }
    Path::parse(key).map_err(|error| UfsError::new(UfsErrorKind::Invalid, format!("{key:?}: {error}")))
}

fn object(meta: object_store::ObjectMeta) -> Listed {
    Listed::Object(meta_of(meta, Properties::default()))
}

fn meta_of(meta: object_store::ObjectMeta, properties: Properties) -> ObjectMeta {
    ObjectMeta {
        key: meta.location.to_string(),
        length: meta.size,
        modified_ns: meta.last_modified.timestamp().saturating_mul(1_000_000_000),
        etag: meta.e_tag.unwrap_or_default(),
        properties,
    }
}

/// Names of HTTP for what all stores keep.
const KEPT: [(&str, Attribute); 5] = [
    ("content-type", Attribute::ContentType),
    ("cache-control", Attribute::CacheControl),
    ("content-encoding", Attribute::ContentEncoding),
    ("content-disposition", Attribute::ContentDisposition),
    ("content-language", Attribute::ContentLanguage),
];

/// Azure takes no hyphens in names of metadata.
fn attributes_of(properties: &Properties) -> Attributes {
    let mut attributes = Attributes::new();
    for (name, value) in &properties.metadata {
        attributes.insert(Attribute::Metadata(name.replace('-', "_").into()), value.clone().into());
    }
    for (name, value) in &properties.headers {
        if let Some((_, attribute)) = KEPT.iter().find(|(kept, _)| kept == name) {
            attributes.insert(attribute.clone(), value.clone().into());
        }
    }
    if !properties.storage_class.is_empty() {
        attributes.insert(Attribute::StorageClass, properties.storage_class.clone().into());
    }
    attributes
}

fn properties_of(attributes: &Attributes) -> Properties {
    let mut properties = Properties::default();
    for (name, value) in attributes {
        let value = value.as_ref().to_owned();
        match name {
            Attribute::Metadata(name) => properties.metadata.push((name.replace('_', "-"), value)),
            Attribute::StorageClass => properties.storage_class = value,
            _ => {
                let kept = KEPT.iter().find(|(_, attribute)| attribute == name);
                properties
                    .headers
                    .extend(kept.map(|(kept, _)| ((*kept).to_owned(), value)));
            }
        }
    }
    properties
}

fn changed(key: &str) -> UfsError {
    UfsError::new(
        UfsErrorKind::PreconditionFailed,
        format!("{key:?}: the object has changed"),
    )
}

fn told_apart(error: object_store::Error, doing: &str, key: &str) -> UfsError {
    use object_store::Error;
    let kind = match &error {
        Error::NotFound { .. } => UfsErrorKind::NotFound,
        Error::AlreadyExists { .. } | Error::Precondition { .. } | Error::NotModified { .. } => {
            UfsErrorKind::PreconditionFailed
        }
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => UfsErrorKind::Denied,
        Error::NotSupported { .. } | Error::NotImplemented { .. } => UfsErrorKind::Unsupported,
        Error::InvalidPath { .. } | Error::UnknownConfigurationKey { .. } => UfsErrorKind::Invalid,
        Error::JoinError { .. } => UfsErrorKind::Other,
        // It has retried by itself; what is left is a server that is not there or not well.
        _ => UfsErrorKind::Unreachable,
    };
    UfsError::new(kind, format!("{doing} {key:?}: {error}"))
}

#[async_trait::async_trait]
impl ObjectClient for GenericClient {
    fn limits(&self) -> Limits {
        self.limits
    }

    fn metrics(&self) -> &Arc<UfsMetrics> {
        &self.metrics
    }

    async fn head(&self, key: &str) -> UfsResult<ObjectMeta> {
        if key.ends_with('/') {
            return Err(UfsError::new(
                UfsErrorKind::NotFound,
                format!("{key:?}: the store has no folder markers"),
            ));
        }
        self.count();
        let options = GetOptions {
            head: true,
            ..GetOptions::default()
        };
        let result = self.store.get_opts(&path_of(key)?, options).await;
        let result = result.map_err(|error| told_apart(error, "head", key))?;
        let properties = properties_of(&result.attributes);
        Ok(meta_of(result.meta, properties))
    }

    async fn get(&self, key: &str, range: Range<u64>, etag: &str) -> UfsResult<Body> {
        self.count();
        let options = GetOptions {
            if_match: Some(etag.to_owned()).filter(|etag| !etag.is_empty()),
            range: Some(GetRange::Bounded(range.clone())),
            ..GetOptions::default()
        };
        let result = self.store.get_opts(&path_of(key)?, options).await;
        let result = match result {
            Ok(result) => result,
            Err(error) => {
                let error = told_apart(error, "get", key);
                // A range beyond the end has no error of its own.
                if error.kind == UfsErrorKind::Unreachable && self.head(key).await?.length < range.end {
                    return Err(UfsError::new(UfsErrorKind::Invalid, error.message));
                }
                return Err(error);
            }
        };
        let found = result.meta.e_tag.clone().unwrap_or_default();
        if !etag.is_empty() && found != etag {
            return Err(changed(key));
        }
        if result.range != range {
            let why = format!("get {key:?}: {range:?} was asked for and {:?} came", result.range);
            return Err(UfsError::new(UfsErrorKind::Invalid, why));
        }
        let key = key.to_owned();
        let stream = result
            .into_stream()
            .map_err(move |error| told_apart(error, "get", &key));
        Ok(Body {
            etag: found,
            stream: stream.boxed(),
        })
    }

    async fn put(&self, key: &str, body: Bytes, expect: &Expect, properties: &Properties) -> UfsResult<Option<String>> {
        let path = path_of(key)?;
        let options = PutOptions {
            mode: self.put_mode(key, expect).await?,
            attributes: attributes_of(properties),
            ..PutOptions::default()
        };
        self.count();
        let result = self.store.put_opts(&path, body.into(), options).await;
        Ok(result.map_err(|error| told_apart(error, "put", key))?.e_tag)
    }

    async fn begin_upload(&self, key: &str, properties: &Properties, _copies: bool) -> UfsResult<String> {
        self.count();
        let options = PutMultipartOptions {
            attributes: attributes_of(properties),
            ..PutMultipartOptions::default()
        };
        let result = self.parts(key)?.create_multipart_opts(&path_of(key)?, options).await;
        result.map_err(|error| told_apart(error, "begin an upload of", key))
    }

    async fn put_part(&self, key: &str, upload: &str, index: usize, body: Bytes, _copies: bool) -> UfsResult<String> {
        self.count();
        let (parts, path, id) = (self.parts(key)?, path_of(key)?, upload.to_owned());
        let result = parts.put_part(&path, &id, index, body.into()).await;
        Ok(result
            .map_err(|error| told_apart(error, "upload a part of", key))?
            .content_id)
    }

    async fn copy_part(&self, key: &str, _: &str, _: usize, _: &ObjectMeta, _: Range<u64>) -> UfsResult<String> {
        Err(UfsError::new(
            UfsErrorKind::Unsupported,
            format!("{key:?}: the store copies no parts"),
        ))
    }

    async fn complete_upload(
        &self,
        key: &str,
        upload: &str,
        parts: Vec<String>,
        _length: u64,
        // It was looked at just before; no more can be had here.
        _expect: &Expect,
    ) -> UfsResult<Option<String>> {
        self.count();
        let parts = parts.into_iter().map(|content_id| PartId { content_id }).collect();
        let (store, path, id) = (self.parts(key)?, path_of(key)?, upload.to_owned());
        let result = store.complete_multipart(&path, &id, parts).await;
        Ok(result
            .map_err(|error| told_apart(error, "complete an upload of", key))?
            .e_tag)
    }

    async fn abort_upload(&self, key: &str, upload: &str) -> UfsResult<()> {
        self.count();
        let (store, path, id) = (self.parts(key)?, path_of(key)?, upload.to_owned());
        let result = store.abort_multipart(&path, &id).await;
        result.map_err(|error| told_apart(error, "abort an upload of", key))
    }

    async fn copy(&self, from: &ObjectMeta, to: &str) -> UfsResult<Option<String>> {
        self.count();
        let (source, target) = (path_of(&from.key)?, path_of(to)?);
        let result = self.store.copy_opts(&source, &target, CopyOptions::default()).await;
        result.map_err(|error| told_apart(error, "copy", &from.key))?;
        // `object_store` does not say.
        Ok(None)
    }

    async fn delete(&self, keys: &[String]) -> Vec<UfsResult<()>> {
        // Few stores have deletes of many through `object_store`, and its stream says not which one failed.
        let pending: Vec<_> = keys.iter().map(|key| self.delete_one(key)).collect();
        stream::iter(pending)
            .buffered(self.limits.requests_in_flight)
            .collect()
            .await
    }

    async fn list(&self, request: ListRequest<'_>) -> UfsResult<ListedPage> {
        self.count();
        let mut page = match &self.pages {
            None => self.whole_listing(&request).await?,
            Some(pages) => {
                let options = PaginatedListOptions {
                    delimiter: request.delimited.then_some("/".into()),
                    max_keys: Some(request.limit),
                    page_token: request.token.map(str::to_owned),
                    ..PaginatedListOptions::default()
                };
                let prefix = Some(request.prefix).filter(|prefix| !prefix.is_empty());
                let answer = pages.0.list_paginated(prefix, options).await;
                let answer = answer.map_err(|error| told_apart(error, "list", request.prefix))?;
                let prefixes = answer.result.common_prefixes.into_iter();
                let prefixes = prefixes.map(|prefix| Listed::Prefix(format!("{prefix}/")));
                let mut items: Vec<_> = answer.result.objects.into_iter().map(object).chain(prefixes).collect();
                items.sort_by(|a, b| a.key().cmp(b.key()));
                ListedPage {
                    items,
                    token: answer.page_token,
                }
            }
        };
        // The folder's own marker comes without its slash.
        page.items.retain(|item| item.key().starts_with(request.prefix));
        Ok(page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{self, Profile};
    use crate::object::ObjectUfs;

    #[tokio::test]
    async fn stores_of_object_store_conform() {
        let store = Arc::new(object_store::memory::InMemory::new());
        let client = GenericClient::new(store.clone(), Some(store), None);
        let ufs = ObjectUfs::new(Arc::new(client), "some/prefix".to_owned(), "test".to_owned(), "object");
        let profile = Profile {
            empty_folders: false,
            control_characters: false,
            line_breaks: false,
            key_bytes_max: 1000,
            large_bytes: 9 << 20,
            ..Profile::object()
        };
        conformance::run(Arc::new(ufs), profile).await;
    }

    #[test]
    fn urls_are_taken_and_nonsense_is_refused() {
        let none = BTreeMap::new();
        GenericClient::open("gs://bucket", &none).unwrap();
        GenericClient::open("http://127.0.0.1:1", &none).unwrap();
        let options = [
            ("azure_storage_account_name".to_owned(), "account".to_owned()),
            ("azure_storage_account_key".to_owned(), "a2V5".to_owned()),
        ];
        GenericClient::open("az://container", &BTreeMap::from(options)).unwrap();
        GenericClient::open("abfs://fs@account.dfs.core.windows.net", &none).unwrap();
        assert_eq!(
            GenericClient::open("az://container", &none).unwrap_err().kind,
            UfsErrorKind::Invalid
        );
    }
}
