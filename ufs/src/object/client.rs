//! What an object store is to [`super::ObjectUfs`]: exact keys, conditional requests, pages. No directories, no paths.
//!
//! Implemented by [`crate::s3`] (own requests, every key), by [`super::generic`] (what `object_store` reaches), and by
//! [`super::memory`] (tests).

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;

use crate::inside::BucketPlace;
use crate::{Expect, UfsError, UfsErrorKind, UfsMetrics, UfsResult};

/// User metadata by name, without the store's prefix (`x-amz-meta-`).
pub(crate) type Metadata = Vec<(String, String)>;

/// What an object carries beside its bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Properties {
    /// User metadata.
    pub metadata: Metadata,
    /// Content-Type and its like, by their names in HTTP, in lower case.
    pub headers: Vec<(String, String)>,
    /// As in a query: `a=b&c=d`.
    pub tags: String,
    /// Empty: the store's default.
    pub storage_class: String,
    /// It cannot be read or copied before it is restored. Of a listing: unless it has been.
    pub is_archived: bool,
}

/// Storage classes of which an object has to be restored before it is read or copied.
pub(crate) fn is_archive(storage_class: &str) -> bool {
    matches!(storage_class, "GLACIER" | "DEEP_ARCHIVE")
}

impl From<Metadata> for Properties {
    fn from(metadata: Metadata) -> Self {
        Self {
            metadata,
            ..Self::default()
        }
    }
}

/// One object as the store describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ObjectMeta {
    /// Whole key.
    pub key: String,
    /// In bytes.
    pub length: u64,
    /// Whole seconds, in nanoseconds since 1970: what HEAD and listing agree on.
    pub modified_ns: i64,
    /// ETag without quotes.
    pub etag: String,
    /// Only `describe` knows all of it; `head` leaves out the tags, listings all but the storage class.
    pub properties: Properties,
}

/// A listing to be made.
#[derive(Clone, Debug)]
pub(crate) struct ListRequest<'a> {
    /// Keys begin with it.
    pub prefix: &'a str,
    /// Roll up what follows the next `/`.
    pub delimited: bool,
    /// Where the page before ended.
    pub token: Option<&'a str>,
    /// At most so many items.
    pub limit: usize,
}

/// One item of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Listed {
    Object(ObjectMeta),
    /// A common prefix, with its trailing slash.
    Prefix(String),
}

impl Listed {
    /// The key or prefix.
    pub fn key(&self) -> &str {
        match self {
            Self::Object(meta) => &meta.key,
            Self::Prefix(prefix) => prefix,
        }
    }
}

/// A page of a listing, in byte order of keys if the store keeps one.
#[derive(Clone, Debug, Default)]
pub(crate) struct ListedPage {
    pub items: Vec<Listed>,
    pub token: Option<String>,
}

/// The body of a GET.
pub(crate) struct Body {
    /// ETag of what is being read, without quotes.
    pub etag: String,
    /// May end early or fail: whoever reads it counts.
    pub stream: BoxStream<'static, UfsResult<Bytes>>,
}

/// Limits of a store and of the work on it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Longest key.
    pub key_bytes_max: usize,
    /// Size of a part; objects up to it are written by one PUT.
    pub part_bytes: u64,
    /// Most parts of an upload.
    pub parts_max: u64,
    /// Parts of one upload in flight.
    pub parts_in_flight: usize,
    /// Least bytes of a part that is not the last.
    pub part_bytes_min: u64,
    /// Larger objects are copied in parts of this size.
    pub copy_part_bytes: u64,
    /// `copy_part` works.
    pub copies_ranges: bool,
    /// Most bytes of a range copied from one object into a part of another. Stores take up to 5 GiB, in one request of
    /// a minute; in ranges of this size several are copied at once.
    pub range_copy_bytes: u64,
    /// Requests in flight of one operation on many objects.
    pub requests_in_flight: usize,
    /// PUT honours `Expect`.
    pub conditional_write: bool,
    /// `replace_properties` works, and `head` tells user metadata.
    pub replaces_metadata: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            key_bytes_max: 1024,
            part_bytes: 8 << 20,
            parts_max: 10_000,
            parts_in_flight: 4,
            part_bytes_min: 5 << 20,
            copy_part_bytes: 5 << 30,
            copies_ranges: true,
            range_copy_bytes: 1 << 30,
            requests_in_flight: 20,
            conditional_write: true,
            replaces_metadata: true,
        }
    }
}

#[async_trait::async_trait]
pub(crate) trait ObjectClient: Send + Sync + std::fmt::Debug + 'static {
    fn limits(&self) -> Limits;
    fn metrics(&self) -> &Arc<UfsMetrics>;

    async fn head(&self, key: &str) -> UfsResult<ObjectMeta>;
    /// As `head`, with all that the object carries.
    async fn describe(&self, key: &str) -> UfsResult<ObjectMeta> {
        self.head(key).await
    }
    /// `etag` empty: whatever is there.
    async fn get(&self, key: &str, range: Range<u64>, etag: &str) -> UfsResult<Body>;
    /// Returns the new ETag, or nothing if the store did not say.
    async fn put(&self, key: &str, body: Bytes, expect: &Expect, properties: &Properties) -> UfsResult<Option<String>>;

    /// `copies`: some of its parts are copied, and stores disagree on the checksums of those.
    async fn begin_upload(&self, key: &str, properties: &Properties, copies: bool) -> UfsResult<String>;
    /// `index` counts from 0. Returns what `complete_upload` wants to hear of the part.
    async fn put_part(&self, key: &str, upload: &str, index: usize, body: Bytes, copies: bool) -> UfsResult<String>;
    async fn copy_part(
        &self,
        key: &str,
        upload: &str,
        index: usize,
        from: &ObjectMeta,
        range: Range<u64>,
    ) -> UfsResult<String>;
    /// `length` of the whole object: some servers put it together before they answer.
    async fn complete_upload(
        &self,
        key: &str,
        upload: &str,
        parts: Vec<String>,
        length: u64,
        expect: &Expect,
    ) -> UfsResult<Option<String>>;
    async fn abort_upload(&self, key: &str, upload: &str) -> UfsResult<()>;
    /// Copies within the store, if the source still has its ETag; what it carries goes along. Returns the ETag of the copy, where the
    /// store says it.
    async fn copy(&self, from: &ObjectMeta, to: &str) -> UfsResult<Option<String>>;
    /// Where it is, for other buckets of the same store; `None`: `copy_from` does not work.
    fn place(&self) -> Option<BucketPlace> {
        None
    }
    /// Copies from another bucket of the same store, if the source still has its ETag and the target is as expected. The bytes and the
    /// tags are the source's, all else is as `properties` says. Returns the ETag of the copy, where the store says it.
    async fn copy_from(
        &self,
        bucket: &str,
        from: &ObjectMeta,
        to: &str,
        expect: &Expect,
        properties: &Properties,
    ) -> UfsResult<Option<String>> {
        let (_, _, _) = (to, expect, properties);
        let why = format!(
            "{:?} of {bucket}: the store copies nothing from other buckets",
            from.key
        );
        Err(UfsError::new(UfsErrorKind::Unsupported, why))
    }
    /// As `copy_part`, from another bucket of the same store.
    async fn copy_part_from(
        &self,
        bucket: &str,
        key: &str,
        upload: &str,
        index: usize,
        from: &ObjectMeta,
        range: Range<u64>,
    ) -> UfsResult<String> {
        let (_, _, _, _) = (key, upload, index, range);
        let why = format!(
            "{:?} of {bucket}: the store copies nothing from other buckets",
            from.key
        );
        Err(UfsError::new(UfsErrorKind::Unsupported, why))
    }
    /// Copies an object onto itself, if it is still there with its ETag: its bytes and tags stay, its headers, metadata and storage
    /// class become those of `meta`. Returns the new ETag, or nothing if the store did not say.
    async fn replace_properties(&self, meta: &ObjectMeta) -> UfsResult<Option<String>> {
        let why = format!("{:?}: the store gives objects no other metadata", meta.key);
        Err(UfsError::new(UfsErrorKind::Unsupported, why))
    }
    /// Deletes an object if it still has its ETag; absent counts as done. The store compares, if it can; else it is compared just before.
    async fn delete_if(&self, key: &str, etag: &str) -> UfsResult<()> {
        match self.head(key).await {
            Ok(there) if there.etag == etag => self.delete(&[key.to_owned()]).await.into_iter().collect(),
            Ok(there) => {
                let why = format!("delete {key:?}: its ETag is {:?} instead of {etag:?}", there.etag);
                Err(UfsError::new(UfsErrorKind::PreconditionFailed, why))
            }
            Err(error) if error.kind == UfsErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
    /// Absent counts as done. One result per key, in order.
    async fn delete(&self, keys: &[String]) -> Vec<UfsResult<()>>;
    async fn list(&self, request: ListRequest<'_>) -> UfsResult<ListedPage>;
}

/// Nanoseconds since 1970, now.
pub(crate) fn now_ns() -> i64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, duration_ns)
}

/// As nanoseconds that fit.
pub(crate) fn duration_ns(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}
