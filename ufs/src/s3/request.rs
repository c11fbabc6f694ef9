//! One request, as it is to be sent.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::Url;

use crate::{UfsError, UfsErrorKind, UfsResult};

/// All but RFC 3986's unreserved characters: S3's own canonical form.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
const PATH: &AsciiSet = &QUERY.remove(b'/');

/// Slowest upload that is not taken for a dead one.
const UPLOAD_BYTES_PER_SECOND_MIN: u64 = 256 << 10;
/// Slowest copy inside the store that is not taken for a dead one: a store on one disk that is busy.
const COPY_BYTES_PER_SECOND_MIN: u64 = 8 << 20;

/// A request; `key` is nothing for those on the bucket.
#[derive(Clone, Debug)]
pub(super) struct Request<'a> {
    pub method: Method,
    pub key: Option<&'a str>,
    pub query: Vec<(&'static str, String)>,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// Bytes that the server has to copy before it answers.
    pub copied_bytes: u64,
}

impl<'a> Request<'a> {
    pub fn new(method: Method, key: Option<&'a str>) -> Self {
        Self {
            method,
            key,
            query: Vec::new(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            copied_bytes: 0,
        }
    }

    pub fn query(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    /// # Errors
    /// [`UfsErrorKind::Invalid`] if no header can hold the value.
    pub fn header(mut self, name: &'static str, value: &str) -> UfsResult<Self> {
        let value = http::HeaderValue::from_str(value).map_err(|_| {
            UfsError::new(
                UfsErrorKind::Invalid,
                format!("{value:?} cannot be sent in the header {name}"),
            )
        })?;
        self.headers.insert(name, value);
        Ok(self)
    }

    /// As [`Self::header`], of a name that came from outside.
    ///
    /// # Errors
    /// [`UfsErrorKind::Invalid`] if no header can hold name or value.
    pub fn header_named(mut self, name: &str, value: &str) -> UfsResult<Self> {
        let wrong = || {
            UfsError::new(
                UfsErrorKind::Invalid,
                format!("{name:?}: {value:?} cannot go with an object"),
            )
        };
        let name: http::HeaderName = name.parse().map_err(|_| wrong())?;
        self.headers.insert(name, value.parse().map_err(|_| wrong())?);
        Ok(self)
    }

    pub fn copies(mut self, bytes: u64) -> Self {
        self.copied_bytes = bytes;
        self
    }

    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }
}

impl Request<'_> {
    /// Name in S3's API, for metrics.
    pub fn verb(&self) -> &'static str {
        let has = |name: &str| self.query.iter().any(|(known, _)| *known == name);
        let copies = self.headers.contains_key("x-amz-copy-source");
        match (self.method.as_str(), self.key.is_some()) {
            ("GET", false) => "ListObjectsV2",
            ("POST", false) => "DeleteObjects",
            ("GET", true) if has("tagging") => "GetObjectTagging",
            ("PUT", true) if has("tagging") => "PutObjectTagging",
            ("GET", true) => "GetObject",
            ("HEAD", _) => "HeadObject",
            ("PUT", true) if has("uploadId") && copies => "UploadPartCopy",
            ("PUT", true) if has("uploadId") => "UploadPart",
            ("PUT", true) if copies => "CopyObject",
            ("PUT", true) => "PutObject",
            ("POST", true) if has("uploads") => "CreateMultipartUpload",
            ("POST", true) => "CompleteMultipartUpload",
            ("DELETE", true) if has("uploadId") => "AbortMultipartUpload",
            ("DELETE", true) => "DeleteObject",
            _ => "Other",
        }
    }

    /// Reads bytes of an object, and may be asked for twice at once.
    pub fn reads(&self) -> bool {
        self.verb() == "GetObject"
    }

    /// The URL, if it names exactly this key: parsers resolve `.` and `..`, which would be another object.
    ///
    /// # Errors
    /// [`UfsErrorKind::Invalid`] if no URL can.
    pub fn url(&self, bucket_url: &str) -> UfsResult<Url> {
        let mut text = bucket_url.to_owned();
        text.push('/');
        if let Some(key) = self.key {
            text.extend(utf8_percent_encode(key, PATH));
        }
        let path_end = text.len();
        for (index, (name, value)) in self.query.iter().enumerate() {
            text.push(if index == 0 { '?' } else { '&' });
            text.push_str(name);
            text.push('=');
            text.extend(utf8_percent_encode(value, QUERY));
        }
        let meant = text[..path_end]
            .split_once("://")
            .and_then(|(_, rest)| Some(&rest[rest.find('/')?..]));
        match Url::parse(&text) {
            Ok(url) if Some(url.path()) == meant => Ok(url),
            _ => {
                let why = format!("{}: no URL can name this key", self.what(bucket_url));
                Err(UfsError::new(UfsErrorKind::Invalid, why))
            }
        }
    }

    /// For messages: method and object, never a secret.
    pub fn what(&self, bucket_url: &str) -> String {
        let key = self.key.unwrap_or("").escape_debug();
        let operation = self
            .query
            .first()
            .map_or(String::new(), |(name, _)| format!(" ({name})"));
        format!("{} {bucket_url}/{key}{operation}", self.method)
    }

    /// What is allowed for moving bytes, beyond the time that any request has.
    pub fn work_time(&self) -> Duration {
        let upload_s = self.body.len() as u64 / UPLOAD_BYTES_PER_SECOND_MIN;
        Duration::from_secs(upload_s + self.copied_bytes / COPY_BYTES_PER_SECOND_MIN)
    }
}
