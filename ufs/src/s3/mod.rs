//! S3 and what speaks like it, for every key that S3 allows.
//!
//! Own requests rather than `object_store`'s: its paths cannot hold keys such as `a//b`, `dir/` or ones with control
//! characters, and one such key fails a whole page of a listing.
//!
//! Promises: a key goes over the wire and comes back exactly as it is; each request ends within its timeouts; RenameObject is
//! never sent (servers that do not know it take it for a PUT); a body goes with its checksum, and comes with it where the store has
//! one. Left out: versions, ACLs but for canned ones.

mod breaker;
mod clock;
mod credentials;
mod errors;
mod headers;
mod hedge;
mod listing;
mod manner;
mod options;
mod pace;
mod place;
mod request;
mod settings;
mod sign;
pub(crate) mod sums;
mod time;
mod transport;
mod web;
mod xml;

#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use alluxio_common::config::Configuration;
use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{HeaderMap, Method, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::inside::BucketPlace;
use crate::object::client::{Body, Limits, ListRequest, ListedPage, ObjectClient, ObjectMeta, Properties};
use crate::{Expect, UfsError, UfsErrorKind, UfsMetrics, UfsResult};
use headers::{
    check_range, completion, conditional, etag_of, header, identity, is_etag, length_told, part_etag, part_of,
    properties_of, quoted, summed, unmet, unquoted, without_tags,
};
use listing::listed_page;
use manner::{Manner, Manners, On, Sum};
use options::ObjectOptions;
use request::Request;
use settings::{Environment, Settings};
use sums::{crc32c_base64, md5_base64};
use transport::Transport;

const METADATA_PREFIX: &str = "x-amz-meta-";
/// S3's limit on keys in one DeleteObjects.
const KEYS_PER_DELETE: usize = 1000;
const COPY_SOURCE: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b'/');

/// One bucket.
#[derive(Debug)]
pub(crate) struct S3Client {
    transport: Transport,
}

impl S3Client {
    pub fn new(bucket: &str, conf: &Configuration) -> UfsResult<Self> {
        let environment = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self::in_environment(bucket, conf, Arc::new(environment))
    }

    fn in_environment(bucket: &str, conf: &Configuration, environment: Environment) -> UfsResult<Self> {
        let settings = Settings::new(bucket, conf, environment)?;
        Ok(Self {
            transport: Transport::new(settings)?,
        })
    }

    async fn delete_one(&self, key: &str) -> UfsResult<()> {
        match self.transport.send(&Request::new(Method::DELETE, Some(key))).await {
            Ok(_) => Ok(()),
            Err(error) if error.kind == UfsErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// One DeleteObjects. The outer error is of the request, the inner ones are of keys.
    async fn delete_batch(&self, keys: &[&String]) -> UfsResult<Vec<UfsResult<()>>> {
        let mut body = String::from("<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Quiet>true</Quiet>");
        for key in keys {
            body.push_str(&format!("<Object><Key>{}</Key></Object>", xml::escape(key)));
        }
        body.push_str("</Delete>");
        let request = Request::new(Method::POST, None)
            .query("delete", "")
            .header("content-type", "application/xml")?
            .header("content-md5", &md5_base64(body.as_bytes()))?
            .body(body);
        let (_, root) = self.transport.send_xml(&request).await?;
        let mut results = vec![Ok(()); keys.len()];
        for failed in root.all("Error") {
            let (key, code) = (failed.text_of("Key"), failed.text_of("Code"));
            if code == "NoSuchKey" {
                continue;
            }
            let error = errors::Refusal {
                status: StatusCode::OK,
                code: code.to_owned(),
                message: failed.text_of("Message").to_owned(),
                bucket_region: None,
                retry_after: None,
                on_bucket: false,
                foreign: false,
            };
            let what = format!(
                "delete {}/{}",
                self.transport.settings().places.current().bucket_url,
                key.escape_debug()
            );
            let error = error.to_error(&what, &self.transport.settings().bucket);
            for (_, result) in keys.iter().zip(&mut results).filter(|(name, _)| name.as_str() == key) {
                *result = Err(error.clone());
            }
        }
        Ok(results)
    }

    async fn delete_chunk(&self, keys: &[String], results: &mut [UfsResult<()>]) {
        // XML has no way to write most control characters; those keys go one by one.
        let (batch, single): (Vec<usize>, Vec<usize>) =
            (0..keys.len()).partition(|index| keys.len() > 1 && xml::can_hold(&keys[*index]));
        let batch_keys: Vec<&String> = batch.iter().map(|index| &keys[*index]).collect();
        let outcomes = if batch_keys.is_empty() {
            Ok(Vec::new())
        } else {
            self.delete_batch(&batch_keys).await
        };
        let one_by_one = match outcomes {
            Ok(outcomes) => {
                for (index, outcome) in batch.into_iter().zip(outcomes) {
                    results[index] = outcome;
                }
                single
            }
            // A server without DeleteObjects.
            Err(error) if matches!(error.kind, UfsErrorKind::Unsupported | UfsErrorKind::Invalid) => {
                (0..keys.len()).collect()
            }
            Err(error) => {
                for index in batch {
                    results[index] = Err(error.clone());
                }
                single
            }
        };
        let pending: Vec<_> = one_by_one.iter().map(|index| self.delete_one(&keys[*index])).collect();
        let outcomes: Vec<_> = stream::iter(pending)
            .buffered(self.limits().requests_in_flight)
            .collect()
            .await;
        for (index, outcome) in one_by_one.into_iter().zip(outcomes) {
            results[index] = outcome;
        }
    }

    fn options(&self) -> &ObjectOptions {
        &self.transport.settings().options
    }

    fn manners(&self) -> &Manners {
        &self.transport.settings().manners
    }

    /// Does `send` in the ways that the store may understand, best first, until one is.
    async fn in_a_manner<T, A>(&self, on: On, has_condition: bool, send: impl Fn(Manner) -> A) -> UfsResult<T>
    where
        A: Future<Output = UfsResult<T>>,
    {
        let mut refused = None;
        for manner in self.manners().of(on, has_condition) {
            match send(manner).await {
                Ok(answer) => {
                    let bucket = &self.transport.settings().bucket;
                    self.manners()
                        .learn(on, has_condition, manner, refused.as_ref(), bucket);
                    return Ok(answer);
                }
                Err(error) if error.not_understood => drop(refused.get_or_insert(error)),
                Err(error) => return Err(error),
            }
        }
        Err(refused.unwrap_or_else(|| UfsError::new(UfsErrorKind::Other, "there is no way to send a request")))
    }

    /// What the store does not compare is compared just before.
    async fn compare(&self, key: &str, expect: &Expect) -> UfsResult<()> {
        let found = match self.head(key).await {
            Ok(meta) => Some(meta.etag),
            Err(error) if error.kind == UfsErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let holds = match expect {
            Expect::Any => true,
            Expect::Absent => found.is_none(),
            Expect::Fingerprint(etag) => found.as_ref() == Some(etag),
        };
        if holds {
            return Ok(());
        }
        let why = format!("{key:?}: {expect:?} was expected, and its ETag is {found:?}");
        Err(UfsError::new(UfsErrorKind::PreconditionFailed, why))
    }

    /// With the condition, or after a look of our own.
    async fn expecting<'a>(
        &self,
        request: Request<'a>,
        key: &str,
        expect: &Expect,
        manner: Manner,
    ) -> UfsResult<Request<'a>> {
        let is_compared = !matches!(expect, Expect::Fingerprint(known) if !is_etag(known));
        if manner.conditional && is_compared {
            return conditional(request, expect);
        }
        if *expect != Expect::Any {
            self.compare(key, expect).await?;
        }
        Ok(request)
    }

    /// Names the source of a copy, of this bucket or another one, with its condition.
    async fn copy_request<'a>(
        &self,
        request: Request<'a>,
        bucket: &str,
        from: &ObjectMeta,
        manner: Manner,
    ) -> UfsResult<Request<'a>> {
        let key = utf8_percent_encode(&from.key, COPY_SOURCE);
        let source = match bucket.rsplit_once(":accesspoint:") {
            Some((arn, name)) => format!("{arn}:accesspoint/{name}/object/{key}"),
            None => format!("/{bucket}/{key}"),
        };
        let request = request.header("x-amz-copy-source", &source)?;
        let request = self.options().source(request)?;
        if from.etag.is_empty() {
            return Ok(request);
        }
        if manner.conditional && is_etag(&from.etag) {
            return request.header("x-amz-copy-source-if-match", &quoted(&from.etag));
        }
        if bucket != self.bucket() {
            let why = format!(
                "copy {:?} of {bucket}: the store compares no source of a copy",
                from.key
            );
            return Err(UfsError::new(UfsErrorKind::Unsupported, why));
        }
        self.compare(&from.key, &Expect::Fingerprint(from.etag.clone())).await?;
        Ok(request)
    }

    fn bucket(&self) -> &str {
        &self.transport.settings().bucket
    }

    async fn head_response(&self, key: &str) -> UfsResult<reqwest::Response> {
        let request = self.options().reading(Request::new(Method::HEAD, Some(key)))?;
        self.transport.send(&request).await
    }

    /// "Not found" to a HEAD is also what a bucket that is gone answers.
    async fn is_absent(&self, key: &str) -> UfsResult<()> {
        let request = ListRequest {
            prefix: key,
            delimited: false,
            token: None,
            limit: 1,
        };
        self.list(request).await.map(drop)
    }

    fn meta_of(&self, key: &str, headers: &HeaderMap) -> UfsResult<ObjectMeta> {
        let length = header(headers, "content-length").parse().map_err(|_| {
            let why = format!("HEAD {key:?}: the server gave no length");
            UfsError::new(UfsErrorKind::Other, why)
        })?;
        let modified_ns = time::http_date_ns(header(headers, "last-modified"));
        Ok(ObjectMeta {
            key: key.to_owned(),
            length,
            modified_ns,
            etag: identity(header(headers, "etag"), modified_ns, length),
            properties: properties_of(headers, self.options().encrypts()),
        })
    }

    /// Tags as they go into a header.
    async fn tags(&self, key: &str) -> UfsResult<String> {
        let request = Request::new(Method::GET, Some(key)).query("tagging", "");
        let (_, root) = self.transport.send_xml(&request).await?;
        let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let set = root.child("TagSet");
        let tags = set.into_iter().flat_map(|set| set.all("Tag"));
        let pairs: Vec<String> = tags
            .map(|tag| format!("{}={}", encode(tag.text_of("Key")), encode(tag.text_of("Value"))))
            .collect();
        Ok(pairs.join("&"))
    }
}

#[async_trait::async_trait]
impl ObjectClient for S3Client {
    fn limits(&self) -> Limits {
        self.transport.settings().limits
    }

    fn metrics(&self) -> &Arc<UfsMetrics> {
        &self.transport.metrics
    }

    async fn head(&self, key: &str) -> UfsResult<ObjectMeta> {
        let response = self.head_response(key).await?;
        self.meta_of(key, response.headers())
    }

    async fn describe(&self, key: &str) -> UfsResult<ObjectMeta> {
        let response = self.head_response(key).await?;
        let mut meta = self.meta_of(key, response.headers())?;
        let tags: u32 = header(response.headers(), "x-amz-tagging-count").parse().unwrap_or(0);
        if tags > 0 {
            match self.tags(key).await {
                Ok(tags) => meta.properties.tags = tags,
                // Who may not read tags goes on without them.
                Err(error) if error.kind == UfsErrorKind::Denied => {
                    tracing::warn!(%error, "the tags of an object cannot be read, and are not kept");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(meta)
    }

    async fn get(&self, key: &str, range: Range<u64>, etag: &str) -> UfsResult<Body> {
        let bytes = format!("bytes={}-{}", range.start, range.end.saturating_sub(1));
        let bytes = bytes.as_str();
        let send = |manner: Manner| async move {
            let request = Request::new(Method::GET, Some(key)).header("range", bytes)?;
            let mut request = self.options().reading(request)?;
            if manner.conditional && is_etag(etag) {
                request = request.header("if-match", &quoted(etag))?;
            }
            if manner.sum == Sum::Crc32c {
                request = request.header("x-amz-checksum-mode", "ENABLED")?;
            }
            let response = self.transport.send(&request).await?;
            Ok((request, response))
        };
        let (request, response) = self.in_a_manner(On::Read, !etag.is_empty(), send).await?;
        let headers = response.headers();
        let modified_ns = time::http_date_ns(header(headers, "last-modified"));
        let length = length_told(&response).unwrap_or(0);
        let found = identity(header(headers, "etag"), modified_ns, length);
        // Servers that ignore If-Match must not get away with it.
        if !etag.is_empty() && found != etag {
            let why = format!("GET {key:?}: the object has changed, its ETag is {found:?} instead of {etag:?}");
            return Err(UfsError::new(UfsErrorKind::PreconditionFailed, why));
        }
        check_range(key, &range, &response)?;
        let told = header(headers, "x-amz-checksum-crc32c").to_owned();
        // It is of the whole object; with a dash, of its parts' checksums.
        let is_whole = range.start == 0 && length_told(&response) == Some(range.end);
        let mut stream = self.transport.body(&request, response);
        if is_whole && !told.is_empty() && !told.contains('-') {
            stream = sums::held_against(stream, told, range.end, format!("GET {key:?}"));
        }
        Ok(Body { etag: found, stream })
    }

    async fn put(&self, key: &str, body: Bytes, expect: &Expect, properties: &Properties) -> UfsResult<Option<String>> {
        let body = &body;
        let send = |manner: Manner| async move {
            let request = Request::new(Method::PUT, Some(key)).body(body.clone());
            let request = self.options().writing(summed(request, manner.sum)?, properties)?;
            let request = self.expecting(request, key, expect, manner).await?;
            self.transport.send(&request).await
        };
        match self.in_a_manner(On::Write, *expect != Expect::Any, send).await {
            Ok(response) => Ok(etag_of(response.headers())),
            Err(error) => match without_tags(properties, &error) {
                Some(properties) => self.put(key, body.clone(), expect, &properties).await,
                None => Err(unmet(error, expect)),
            },
        }
    }

    async fn begin_upload(&self, key: &str, properties: &Properties, copies: bool) -> UfsResult<String> {
        let send = |manner: Manner| async move {
            let request = Request::new(Method::POST, Some(key)).query("uploads", "");
            let mut request = self.options().writing(request, properties)?;
            if manner.sum == Sum::Crc32c && !copies {
                request = request.header("x-amz-checksum-algorithm", "CRC32C")?;
            }
            self.transport.send_xml(&request).await
        };
        let root = match self.in_a_manner(On::Write, false, send).await {
            Ok((_, root)) => root,
            Err(error) => match without_tags(properties, &error) {
                Some(properties) => return self.begin_upload(key, &properties, copies).await,
                None => return Err(error),
            },
        };
        match root.text_of("UploadId") {
            "" => {
                let why = format!("begin an upload of {key:?}: the server gave no id");
                Err(UfsError::new(UfsErrorKind::Other, why))
            }
            id => Ok(id.to_owned()),
        }
    }

    /// Content-MD5 beside copied parts: their CRC32C is left out by some stores and wrong with others, and goes for all or none.
    async fn put_part(&self, key: &str, upload: &str, index: usize, body: Bytes, copies: bool) -> UfsResult<String> {
        let body = &body;
        let send = |manner: Manner| async move {
            let sum = if copies { manner.sum.beside_copies() } else { manner.sum };
            let request = Request::new(Method::PUT, Some(key))
                .query("partNumber", (index + 1).to_string())
                .query("uploadId", upload)
                .body(body.clone());
            let request = self.options().reading(summed(request, sum)?)?;
            let response = self.transport.send(&request).await?;
            Ok((response, sum))
        };
        let (response, sum) = self.in_a_manner(On::Write, false, send).await?;
        let etag = part_etag(key, header(response.headers(), "etag"))?;
        match sum {
            Sum::Crc32c => Ok(part_of(&etag, &crc32c_base64(body))),
            _ => Ok(etag),
        }
    }

    async fn copy_part(
        &self,
        key: &str,
        upload: &str,
        index: usize,
        from: &ObjectMeta,
        range: Range<u64>,
    ) -> UfsResult<String> {
        self.copy_part_from(self.bucket(), key, upload, index, from, range)
            .await
    }

    async fn copy_part_from(
        &self,
        bucket: &str,
        key: &str,
        upload: &str,
        index: usize,
        from: &ObjectMeta,
        range: Range<u64>,
    ) -> UfsResult<String> {
        let bytes = format!("bytes={}-{}", range.start, range.end.saturating_sub(1));
        let (bytes, length) = (bytes.as_str(), range.end.saturating_sub(range.start));
        let send = |manner: Manner| async move {
            let request = Request::new(Method::PUT, Some(key))
                .query("partNumber", (index + 1).to_string())
                .query("uploadId", upload)
                .header("x-amz-copy-source-range", bytes)?
                .copies(length);
            let request = self
                .copy_request(self.options().reading(request)?, bucket, from, manner)
                .await?;
            self.transport.send_xml(&request).await
        };
        let (_, root) = self.in_a_manner(On::Copy, !from.etag.is_empty(), send).await?;
        part_etag(key, root.text_of("ETag"))
    }

    async fn complete_upload(
        &self,
        key: &str,
        upload: &str,
        parts: Vec<String>,
        length: u64,
        expect: &Expect,
    ) -> UfsResult<Option<String>> {
        let body = &Bytes::from(completion(&parts));
        let send = |manner: Manner| async move {
            let request = Request::new(Method::POST, Some(key))
                .query("uploadId", upload)
                .header("content-type", "application/xml")?
                .copies(length)
                .body(body.clone());
            let request = self.options().reading(request)?;
            let request = self.expecting(request, key, expect, manner).await?;
            self.transport.send_xml(&request).await
        };
        let answer = self.in_a_manner(On::Write, *expect != Expect::Any, send).await;
        let (_, root) = answer.map_err(|error| unmet(error, expect))?;
        Ok(Some(unquoted(root.text_of("ETag"))).filter(|etag| !etag.is_empty()))
    }

    async fn abort_upload(&self, key: &str, upload: &str) -> UfsResult<()> {
        let request = Request::new(Method::DELETE, Some(key)).query("uploadId", upload);
        match self.transport.send(&request).await {
            Ok(_) => Ok(()),
            Err(error) if error.kind == UfsErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn copy(&self, from: &ObjectMeta, to: &str) -> UfsResult<Option<String>> {
        let send = |manner: Manner| async move {
            let request = Request::new(Method::PUT, Some(to)).copies(from.length);
            let request = self.options().copying(request, &from.properties)?;
            let request = self.copy_request(request, self.bucket(), from, manner).await?;
            self.transport.send_xml(&request).await
        };
        let (_, root) = self.in_a_manner(On::Copy, !from.etag.is_empty(), send).await?;
        Ok(Some(unquoted(root.text_of("ETag"))).filter(|etag| !etag.is_empty()))
    }

    fn place(&self) -> Option<BucketPlace> {
        let settings = self.transport.settings();
        Some(BucketPlace {
            // With the key of a customer an object cannot be read by who has another one.
            store: format!("s3 {}{}", settings.places.store(), settings.options.customer()),
            bucket: settings.bucket.clone(),
        })
    }

    /// The condition on the source is one that no look could stand in for: the source is another mount's.
    async fn copy_from(
        &self,
        bucket: &str,
        from: &ObjectMeta,
        to: &str,
        expect: &Expect,
        properties: &Properties,
    ) -> UfsResult<Option<String>> {
        let source = self.manners().of(On::Copy, true)[0];
        let send = |manner: Manner| async move {
            let request = Request::new(Method::PUT, Some(to)).copies(from.length);
            let request = self.options().taking(request, properties)?;
            let request = self.copy_request(request, bucket, from, source).await?;
            let request = self.expecting(request, to, expect, manner).await?;
            self.transport.send_xml(&request).await
        };
        let answer = self.in_a_manner(On::Replace, *expect != Expect::Any, send).await;
        let (_, root) = answer.map_err(|error| unmet(error, expect))?;
        UfsMetrics::add(&self.metrics().bytes_copied, from.length);
        Ok(Some(unquoted(root.text_of("ETag"))).filter(|etag| !etag.is_empty()))
    }

    async fn replace_properties(&self, meta: &ObjectMeta) -> UfsResult<Option<String>> {
        let key = meta.key.as_str();
        let expect = &Expect::Fingerprint(meta.etag.clone());
        // Of conditions on sources the store is known to understand them or not, by other copies.
        let source = self.manners().of(On::Copy, true)[0];
        let send = |manner: Manner| async move {
            let request = Request::new(Method::PUT, Some(key)).copies(meta.length);
            let request = self.options().replacing(request, &meta.properties)?;
            let request = self.expecting(request, key, expect, manner).await?;
            let request = self.copy_request(request, self.bucket(), meta, source).await?;
            self.transport.send_xml(&request).await
        };
        let answer = self.in_a_manner(On::Replace, true, send).await;
        let (_, root) = answer.map_err(|error| unmet(error, expect))?;
        Ok(Some(unquoted(root.text_of("ETag"))).filter(|etag| !etag.is_empty()))
    }

    /// Looks first, since some servers ignore the condition, or say that there is an object where there is none. Those that do not
    /// have the last word.
    async fn delete_if(&self, key: &str, etag: &str) -> UfsResult<()> {
        let found = match self.head(key).await {
            Ok(meta) => meta.etag,
            Err(error) if error.kind == UfsErrorKind::NotFound => return self.is_absent(key).await,
            Err(error) => return Err(error),
        };
        if found != etag {
            let why = format!("delete {key:?}: the object has changed, its ETag is {found:?} instead of {etag:?}");
            return Err(UfsError::new(UfsErrorKind::PreconditionFailed, why));
        }
        let is_refused = &AtomicBool::new(false);
        let send = |manner: Manner| async move {
            let mut request = Request::new(Method::DELETE, Some(key));
            if manner.conditional && is_etag(etag) {
                request = request.header("if-match", &quoted(etag))?;
                is_refused.store(true, Ordering::Relaxed);
            } else if is_refused.load(Ordering::Relaxed) {
                // The look is as old as what was refused.
                self.compare(key, &Expect::Fingerprint(etag.to_owned())).await?;
            }
            self.transport.send(&request).await
        };
        match self.in_a_manner(On::Delete, true, send).await {
            Ok(_) => Ok(()),
            Err(error) if error.kind == UfsErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn delete(&self, keys: &[String]) -> Vec<UfsResult<()>> {
        let mut results = vec![Ok(()); keys.len()];
        for (keys, results) in keys.chunks(KEYS_PER_DELETE).zip(results.chunks_mut(KEYS_PER_DELETE)) {
            self.delete_chunk(keys, results).await;
        }
        results
    }

    async fn list(&self, request: ListRequest<'_>) -> UfsResult<ListedPage> {
        let mut query = Request::new(Method::GET, None)
            .query("list-type", "2")
            .query("encoding-type", "url")
            .query("max-keys", request.limit.to_string())
            .query("prefix", request.prefix);
        if request.delimited {
            query = query.query("delimiter", "/");
        }
        if let Some(token) = request.token {
            query = query.query("continuation-token", token);
        }
        let (_, root) = self.transport.send_xml(&query).await?;
        listed_page(&root)
    }
}
