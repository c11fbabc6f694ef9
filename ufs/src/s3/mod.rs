//! S3 and what speaks like it, for every key that S3 allows.
//!
//! Own requests rather than `object_store`'s: its paths cannot hold keys such as `a//b`, `dir/` or ones with control
//! characters, and one such key fails a whole page of a listing. Its credentials, signer and HTTP types are used.
//!
//! Promises: a key goes over the wire and comes back exactly as it is; each request ends within its timeouts; RenameObject is
//! never sent (servers that do not know it take it for a PUT). Left out: versions, ACLs, encryption settings.

mod errors;
mod settings;
mod time;
mod transport;
mod xml;

use std::ops::Range;
use std::sync::Arc;

use alluxio_common::config::Configuration;
use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{HeaderMap, Method};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::object::client::{Body, Limits, ListRequest, Listed, ListedPage, Metadata, ObjectClient, ObjectMeta};
use crate::{Expect, UfsError, UfsErrorKind, UfsMetrics, UfsResult};
use settings::Settings;
use transport::{Request, Transport};
use xml::Element;

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
        let settings = Settings::new(bucket, conf, &environment)?;
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
                status: http::StatusCode::OK,
                code: code.to_owned(),
                message: failed.text_of("Message").to_owned(),
                bucket_region: None,
                on_bucket: false,
                foreign: false,
            };
            let what = format!("delete {}/{}", self.transport.settings().bucket_url, key.escape_debug());
            let error = error.into_error(&what, &self.transport.settings().bucket);
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

    fn copy_request<'a>(&self, request: Request<'a>, from: &ObjectMeta) -> UfsResult<Request<'a>> {
        let bucket = &self.transport.settings().bucket;
        let source = format!("/{bucket}/{}", utf8_percent_encode(&from.key, COPY_SOURCE));
        let request = request.header("x-amz-copy-source", &source)?;
        if from.etag.is_empty() {
            return Ok(request);
        }
        request.header("x-amz-copy-source-if-match", &quoted(&from.etag))
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
        let response = self.transport.send(&Request::new(Method::HEAD, Some(key))).await?;
        let headers = response.headers();
        let length = header(headers, "content-length").parse().map_err(|_| {
            let why = format!("HEAD {key:?}: the server gave no length");
            UfsError::new(UfsErrorKind::Other, why)
        })?;
        Ok(ObjectMeta {
            key: key.to_owned(),
            length,
            modified_ns: time::http_date_ns(header(headers, "last-modified")),
            etag: unquoted(header(headers, "etag")),
            metadata: metadata_of(headers),
        })
    }

    async fn get(&self, key: &str, range: Range<u64>, etag: &str) -> UfsResult<Body> {
        let mut request = Request::new(Method::GET, Some(key)).header(
            "range",
            &format!("bytes={}-{}", range.start, range.end.saturating_sub(1)),
        )?;
        if !etag.is_empty() {
            request = request.header("if-match", &quoted(etag))?;
        }
        let response = self.transport.send(&request).await?;
        let found = unquoted(header(response.headers(), "etag"));
        // Servers that ignore If-Match must not get away with it.
        if !etag.is_empty() && found != etag {
            let why = format!("GET {key:?}: the object has changed, its ETag is {found:?} instead of {etag:?}");
            return Err(UfsError::new(UfsErrorKind::PreconditionFailed, why));
        }
        check_range(key, &range, &response)?;
        Ok(Body {
            etag: found,
            stream: self.transport.body(&request, response),
        })
    }

    async fn put(&self, key: &str, body: Bytes, expect: &Expect, metadata: &Metadata) -> UfsResult<Option<String>> {
        let request = with_metadata(Request::new(Method::PUT, Some(key)), metadata)?.body(body);
        let request = conditional(request, expect)?;
        let response = self
            .transport
            .send(&request)
            .await
            .map_err(|error| unmet(error, expect))?;
        Ok(etag_of(response.headers()))
    }

    async fn begin_upload(&self, key: &str, metadata: &Metadata) -> UfsResult<String> {
        let request = with_metadata(Request::new(Method::POST, Some(key)).query("uploads", ""), metadata)?;
        let (_, root) = self.transport.send_xml(&request).await?;
        match root.text_of("UploadId") {
            "" => {
                let why = format!("begin an upload of {key:?}: the server gave no id");
                Err(UfsError::new(UfsErrorKind::Other, why))
            }
            id => Ok(id.to_owned()),
        }
    }

    async fn put_part(&self, key: &str, upload: &str, index: usize, body: Bytes) -> UfsResult<String> {
        let request = Request::new(Method::PUT, Some(key))
            .query("partNumber", (index + 1).to_string())
            .query("uploadId", upload)
            .body(body);
        let response = self.transport.send(&request).await?;
        part_etag(key, header(response.headers(), "etag"))
    }

    async fn copy_part(
        &self,
        key: &str,
        upload: &str,
        index: usize,
        from: &ObjectMeta,
        range: Range<u64>,
    ) -> UfsResult<String> {
        let request = Request::new(Method::PUT, Some(key))
            .query("partNumber", (index + 1).to_string())
            .query("uploadId", upload)
            .copies(range.end.saturating_sub(range.start));
        let range = format!("bytes={}-{}", range.start, range.end.saturating_sub(1));
        let request = self
            .copy_request(request, from)?
            .header("x-amz-copy-source-range", &range)?;
        let (_, root) = self.transport.send_xml(&request).await?;
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
        let mut body = String::from("<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
        for (index, etag) in parts.iter().enumerate() {
            let (number, etag) = (index + 1, xml::escape(&quoted(etag)));
            body.push_str(&format!(
                "<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"
            ));
        }
        body.push_str("</CompleteMultipartUpload>");
        let request = Request::new(Method::POST, Some(key))
            .query("uploadId", upload)
            .header("content-type", "application/xml")?
            .copies(length)
            .body(body);
        let request = conditional(request, expect)?;
        let answer = self.transport.send_xml(&request).await;
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

    async fn copy(&self, from: &ObjectMeta, to: &str) -> UfsResult<()> {
        let request = self.copy_request(Request::new(Method::PUT, Some(to)).copies(from.length), from)?;
        self.transport.send_xml(&request).await.map(drop)
    }

    /// Looks first, since some servers ignore the condition, or say that there is an object where there is none. Those that do not
    /// have the last word.
    async fn delete_if(&self, key: &str, etag: &str) -> UfsResult<()> {
        let found = match self.head(key).await {
            Ok(meta) => meta.etag,
            Err(error) if error.kind == UfsErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        if found != etag {
            let why = format!("delete {key:?}: the object has changed, its ETag is {found:?} instead of {etag:?}");
            return Err(UfsError::new(UfsErrorKind::PreconditionFailed, why));
        }
        let request = Request::new(Method::DELETE, Some(key)).header("if-match", &quoted(etag))?;
        match self.transport.send(&request).await {
            Ok(_) => Ok(()),
            Err(error) if error.kind == UfsErrorKind::NotFound => Ok(()),
            // A server that knows no conditions here.
            Err(error) if error.kind == UfsErrorKind::Unsupported => self.delete_one(key).await,
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

/// Objects and common prefixes, merged into the byte order of keys.
fn listed_page(root: &Element) -> UfsResult<ListedPage> {
    if root.name != "ListBucketResult" {
        let why = format!("list objects: the server answered with <{}>", root.name);
        return Err(UfsError::new(UfsErrorKind::Other, why));
    }
    let decode = Decoder::of(root);
    let broken = |key: &str| {
        UfsError::new(
            UfsErrorKind::Other,
            format!("list objects: the key {key:?} is no UTF-8"),
        )
    };
    let mut items = Vec::new();
    for object in root.all("Contents") {
        let text = object.text_of("Key");
        items.push(Listed::Object(ObjectMeta {
            key: decode.key(text).ok_or_else(|| broken(text))?,
            length: object.text_of("Size").parse().map_err(|_| broken(text))?,
            modified_ns: time::iso_date_ns(object.text_of("LastModified")),
            etag: unquoted(object.text_of("ETag")),
            metadata: Metadata::new(),
        }));
    }
    for prefixes in root.all("CommonPrefixes") {
        for prefix in prefixes.all("Prefix") {
            items.push(Listed::Prefix(
                decode.key(&prefix.text).ok_or_else(|| broken(&prefix.text))?,
            ));
        }
    }
    items.sort_by(|a, b| a.key().cmp(b.key()));
    let token = Some(root.text_of("NextContinuationToken")).filter(|_| root.text_of("IsTruncated") == "true");
    Ok(ListedPage {
        items,
        token: token.filter(|token| !token.is_empty()).map(str::to_owned),
    })
}

/// Undoes `encoding-type=url`, where the server did it.
struct Decoder {
    encoded: bool,
}

impl Decoder {
    fn of(root: &Element) -> Self {
        Self {
            encoded: root.text_of("EncodingType") == "url",
        }
    }

    fn key(&self, text: &str) -> Option<String> {
        if !self.encoded {
            return Some(text.to_owned());
        }
        // S3 encodes as forms do: `+` is a space, a plus is %2B.
        let text = text.replace('+', " ");
        Some(percent_decode_str(&text).decode_utf8().ok()?.into_owned())
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
}

fn quoted(etag: &str) -> String {
    format!("\"{etag}\"")
}

fn unquoted(etag: &str) -> String {
    let etag = etag.trim();
    etag.strip_prefix("W/").unwrap_or(etag).trim_matches('"').to_owned()
}

fn etag_of(headers: &HeaderMap) -> Option<String> {
    Some(unquoted(header(headers, "etag"))).filter(|etag| !etag.is_empty())
}

fn part_etag(key: &str, etag: &str) -> UfsResult<String> {
    match unquoted(etag) {
        etag if etag.is_empty() => {
            let why = format!("upload a part of {key:?}: the server gave no ETag");
            Err(UfsError::new(UfsErrorKind::Other, why))
        }
        etag => Ok(etag),
    }
}

fn metadata_of(headers: &HeaderMap) -> Metadata {
    let pairs = headers.iter().filter_map(|(name, value)| {
        let name = name.as_str().strip_prefix(METADATA_PREFIX)?;
        Some((name.to_owned(), value.to_str().ok()?.to_owned()))
    });
    pairs.collect()
}

fn with_metadata<'a>(mut request: Request<'a>, metadata: &Metadata) -> UfsResult<Request<'a>> {
    for (name, value) in metadata {
        let wrong = || UfsError::new(UfsErrorKind::Invalid, format!("{name:?}: {value:?} cannot be metadata"));
        let name: http::HeaderName = format!("{METADATA_PREFIX}{name}").parse().map_err(|_| wrong())?;
        request.headers.insert(name, value.parse().map_err(|_| wrong())?);
    }
    Ok(request)
}

fn conditional<'a>(request: Request<'a>, expect: &Expect) -> UfsResult<Request<'a>> {
    match expect {
        Expect::Any => Ok(request),
        Expect::Absent => request.header("if-none-match", "*"),
        Expect::Fingerprint(etag) => request.header("if-match", &quoted(etag)),
    }
}

/// S3 answers "not found" to a conditional PUT on what is not there.
fn unmet(error: UfsError, expect: &Expect) -> UfsError {
    if error.kind == UfsErrorKind::NotFound && matches!(expect, Expect::Fingerprint(_)) {
        return UfsError::new(UfsErrorKind::PreconditionFailed, error.message);
    }
    error
}

/// Whether the body will be what was asked for, no less.
fn check_range(key: &str, range: &Range<u64>, response: &reqwest::Response) -> UfsResult<()> {
    let wrong = |why: String| Err(UfsError::new(UfsErrorKind::Invalid, format!("GET {key:?}: {why}")));
    if response.status() == http::StatusCode::PARTIAL_CONTENT {
        let given = header(response.headers(), "content-range");
        let wanted = format!("bytes {}-{}/", range.start, range.end.saturating_sub(1));
        if given.starts_with(&wanted) {
            return Ok(());
        }
        return wrong(format!(
            "{range:?} was asked for and {given:?} came: the object ends before"
        ));
    }
    // Some servers answer a range that is the whole object with all of it.
    match response.content_length() {
        Some(length) if range.start == 0 && length == range.end => Ok(()),
        _ => wrong(format!("{range:?} was asked for, and the server ignored it")),
    }
}

fn md5_base64(body: &[u8]) -> String {
    use md5::Digest;
    base64(&md5::Md5::digest(body))
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let three = chunk.iter().fold(0u32, |sum, byte| (sum << 8) | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            if place > chunk.len() {
                out.push('=');
            } else {
                out.push(char::from(ALPHABET[(three >> (18 - 6 * place)) as usize & 63]));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_as_in_the_rfc() {
        for (plain, coded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
        assert_eq!(md5_base64(b""), "1B2M2Y8AsgTpgAmY7PhCfg==");
    }

    #[test]
    fn pages_are_merged_and_decoded() {
        let document = br#"<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>
            <NextContinuationToken>t+1</NextContinuationToken>
            <Contents><Key>p%2Fb+c%2B%25</Key><Size>3</Size><ETag>&quot;e&quot;</ETag>
            <LastModified>2026-11-21T10:00:00.250Z</LastModified></Contents>
            <CommonPrefixes><Prefix>p/a/</Prefix></CommonPrefixes></ListBucketResult>"#;
        let page = listed_page(&xml::parse(document).unwrap()).unwrap();
        let keys: Vec<_> = page.items.iter().map(Listed::key).collect();
        assert_eq!(keys, ["p/a/", "p/b c+%"]);
        assert_eq!(page.token.as_deref(), Some("t+1"));
        let Listed::Object(meta) = &page.items[1] else {
            panic!("{page:?}")
        };
        assert_eq!((meta.length, meta.etag.as_str()), (3, "e"));
        assert_eq!(meta.modified_ns, 1_795_255_200_000_000_000);
    }
}
