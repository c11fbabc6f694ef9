//! One request to S3: built exactly, signed (SigV4 with the SHA-256 of the body, which every server can check), sent, retried
//! within its limits, and its failure told apart.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::BoxStream;
use http::{HeaderMap, Method};
use object_store::aws::{AwsAuthorizer, AwsCredential};
use object_store::client::{HttpRequest, HttpRequestBody};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use std::sync::Arc;

use super::errors::Refusal;
use super::settings::Settings;
use super::xml::{self, Element};
use crate::{UfsError, UfsErrorKind, UfsMetrics, UfsResult};

/// All but RFC 3986's unreserved characters: S3's own canonical form.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
const PATH: &AsciiSet = &QUERY.remove(b'/');

/// Connecting takes one round trip; more than this is a host that is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Below the minute after which common servers close an idle connection themselves.
const IDLE_TIMEOUT: Duration = Duration::from_secs(45);
const IDLE_CONNECTIONS_MAX: usize = 64;
/// A page of 1,000 keys of 1,024 bytes, all of them escaped, is about 4 MiB.
const ANSWER_BYTES_MAX: usize = 32 << 20;
/// Of an error's body no more is read.
const REFUSAL_BYTES_MAX: usize = 64 << 10;
/// Slowest upload that is not taken for a dead one.
const UPLOAD_BYTES_PER_SECOND_MIN: u64 = 256 << 10;
/// Slowest copy inside the store that is not taken for a dead one: a store on one disk that is busy.
const COPY_BYTES_PER_SECOND_MIN: u64 = 8 << 20;
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// Bodies from here on are hashed on a thread of their own: a millisecond and more.
const BLOCKING_HASH_BYTES_MIN: usize = 1 << 20;

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
    /// What is allowed for moving bytes, beyond the time that any request has.
    fn work_time(&self) -> Duration {
        let upload_s = self.body.len() as u64 / UPLOAD_BYTES_PER_SECOND_MIN;
        Duration::from_secs(upload_s + self.copied_bytes / COPY_BYTES_PER_SECOND_MIN)
    }
}

#[derive(Debug)]
pub(super) struct Transport {
    settings: Settings,
    client: reqwest::Client,
    pub metrics: Arc<UfsMetrics>,
}

impl Transport {
    pub fn new(settings: Settings) -> UfsResult<Self> {
        crate::tls::install_provider();
        let mut builder = reqwest::Client::builder()
            .http1_only()
            .connect_timeout(CONNECT_TIMEOUT.min(settings.socket_timeout))
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .tcp_nodelay(true)
            // A redirect is another region: the signature would not fit there.
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("alluxio/", env!("CARGO_PKG_VERSION")));
        if settings.bucket_url.starts_with("http://") {
            // No need to load, or even to have, the host's root certificates.
            builder = builder.tls_certs_only([]);
        }
        let client = builder
            .build()
            .map_err(|error| UfsError::new(UfsErrorKind::Other, format!("set up the HTTP client of S3: {error:?}")))?;
        Ok(Self {
            settings,
            client,
            metrics: Arc::default(),
        })
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Sends until there is an answer; the body of a success has not been read.
    pub async fn send(&self, request: &Request<'_>) -> UfsResult<reqwest::Response> {
        self.retry(request, || self.attempt(request)).await
    }

    /// As [`Self::send`], with an XML body, which may be an error in spite of a status of 200.
    pub async fn send_xml(&self, request: &Request<'_>) -> UfsResult<(HeaderMap, Element)> {
        self.retry(request, || async {
            let response = self.attempt(request).await?;
            let status = response.status();
            let headers = response.headers().clone();
            let body = self.collect(request, response, ANSWER_BYTES_MAX).await?;
            let what = self.what(request);
            let root = xml::parse(&body).map_err(|why| {
                UfsError::new(
                    UfsErrorKind::Unreachable,
                    format!("{what}: the answer is no XML: {why}"),
                )
            })?;
            if root.name == "Error" {
                // Of completed uploads and copies S3 sends the status before it knows the outcome.
                let mut refusal = Refusal::new(status, &body, request.key.is_none());
                if refusal.kind() == UfsErrorKind::Other {
                    refusal.code = "InternalError".to_owned();
                }
                return Err(refusal.into_error(&what, &self.settings.bucket));
            }
            Ok((headers, root))
        })
        .await
    }

    /// The rest of a response; a silence longer than the socket timeout is an error.
    pub fn body(&self, request: &Request<'_>, response: reqwest::Response) -> BoxStream<'static, UfsResult<Bytes>> {
        let what = self.what(request);
        let silence = self.settings.socket_timeout;
        let chunks = response.bytes_stream();
        futures::stream::unfold(Some((chunks, what)), move |state| async move {
            let (mut chunks, what) = state?;
            match tokio::time::timeout(silence, chunks.next()).await {
                Ok(None) => None,
                Ok(Some(Ok(chunk))) => Some((Ok(chunk), Some((chunks, what)))),
                Ok(Some(Err(error))) => {
                    let why = format!("{what}: the body was cut short: {}", causes(&error));
                    Some((Err(UfsError::new(UfsErrorKind::Unreachable, why)), None))
                }
                Err(_) => {
                    let why = format!("{what}: the body stalled for {silence:?}");
                    Some((Err(UfsError::new(UfsErrorKind::Unreachable, why)), None))
                }
            }
        })
        .boxed()
    }

    async fn collect(&self, request: &Request<'_>, response: reqwest::Response, bytes_max: usize) -> UfsResult<Bytes> {
        let mut body = self.body(request, response);
        let mut all = BytesMut::new();
        while let Some(chunk) = body.next().await {
            let chunk = chunk?;
            if all.len() + chunk.len() > bytes_max {
                let why = format!("{}: the answer is longer than {bytes_max} bytes", self.what(request));
                return Err(UfsError::new(UfsErrorKind::Other, why));
            }
            all.extend_from_slice(&chunk);
        }
        Ok(all.freeze())
    }

    /// Repeats what may succeed later, so often and so long as the settings say.
    async fn retry<T, F, A>(&self, request: &Request<'_>, attempt: F) -> UfsResult<T>
    where
        F: Fn() -> A,
        A: Future<Output = UfsResult<T>>,
    {
        let started = Instant::now();
        let deadline = self.settings.request_timeout + request.work_time();
        let mut backoff = BACKOFF_FIRST;
        for attempts in 1.. {
            let left = deadline.saturating_sub(started.elapsed());
            let mut error = match tokio::time::timeout(left, attempt()).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => error,
                Err(_) => {
                    let why = format!("{}: no answer within {deadline:?}", self.what(request));
                    return Err(UfsError::new(UfsErrorKind::Unreachable, why));
                }
            };
            let pause = backoff.mul_f64(0.5 + rand::random::<f64>());
            if !error.is_retryable() {
                return Err(error);
            }
            if attempts > self.settings.retries_max || started.elapsed() + pause >= deadline {
                error.message = format!("{} (tried {attempts} times)", error.message);
                return Err(error);
            }
            tracing::debug!(%error, attempts, "retry a request to S3");
            UfsMetrics::add(&self.metrics.retries, 1);
            tokio::time::sleep(pause).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
        Err(UfsError::new(UfsErrorKind::Other, self.what(request)))
    }

    async fn attempt(&self, request: &Request<'_>) -> UfsResult<reqwest::Response> {
        UfsMetrics::add(&self.metrics.requests, 1);
        let signed = self.sign(request).await?;
        let patience = self.settings.socket_timeout + request.work_time();
        let response = match tokio::time::timeout(patience, self.client.execute(signed)).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                let why = format!("{}: {}", self.what(request), causes(&error));
                return Err(UfsError::new(UfsErrorKind::Unreachable, why));
            }
            Err(_) => {
                let why = format!("{}: no answer within {patience:?}", self.what(request));
                return Err(UfsError::new(UfsErrorKind::Unreachable, why));
            }
        };
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let region = response.headers().get("x-amz-bucket-region");
        let region = region.and_then(|value| Some(value.to_str().ok()?.to_owned()));
        // The status says enough if the body does not come.
        let body = self
            .collect(request, response, REFUSAL_BYTES_MAX)
            .await
            .unwrap_or_default();
        let mut refusal = Refusal::new(status, &body, request.key.is_none());
        refusal.bucket_region = region;
        Err(refusal.into_error(&self.what(request), &self.settings.bucket))
    }

    async fn sign(&self, request: &Request<'_>) -> UfsResult<reqwest::Request> {
        let credential = self.settings.credentials.get_credential().await.map_err(|error| {
            let why = format!(
                "{}: no credentials in s3a.accessKeyId, the AWS environment, profile or instance role: {error}",
                self.what(request)
            );
            UfsError::new(UfsErrorKind::Denied, why)
        })?;
        let url = self.url(request)?;
        let uri: http::Uri = url
            .as_str()
            .parse()
            .map_err(|error| UfsError::new(UfsErrorKind::Invalid, format!("{}: {error}", self.what(request))))?;
        let mut to_sign = HttpRequest::new(HttpRequestBody::from(request.body.clone()));
        *to_sign.method_mut() = request.method.clone();
        *to_sign.uri_mut() = uri;
        *to_sign.headers_mut() = request.headers.clone();
        if let Some((name, value)) = self.settings.options.always() {
            to_sign
                .headers_mut()
                .insert(name, http::HeaderValue::from_static(value));
        }
        let signed = authorize(to_sign, credential, self.settings.region.clone(), request.body.len()).await?;
        let mut finished = reqwest::Request::new(request.method.clone(), url);
        *finished.headers_mut() = signed.headers().clone();
        *finished.body_mut() = Some(request.body.clone().into());
        Ok(finished)
    }

    /// The URL, if it names exactly this key: parsers resolve `.` and `..`, which would be another object.
    fn url(&self, request: &Request<'_>) -> UfsResult<url::Url> {
        let mut text = self.settings.bucket_url.clone();
        text.push('/');
        if let Some(key) = request.key {
            text.extend(utf8_percent_encode(key, PATH));
        }
        let path_end = text.len();
        for (index, (name, value)) in request.query.iter().enumerate() {
            text.push(if index == 0 { '?' } else { '&' });
            text.push_str(name);
            text.push('=');
            text.extend(utf8_percent_encode(value, QUERY));
        }
        let meant = text[..path_end]
            .split_once("://")
            .and_then(|(_, rest)| Some(&rest[rest.find('/')?..]));
        match url::Url::parse(&text) {
            Ok(url) if Some(url.path()) == meant => Ok(url),
            _ => {
                let why = format!("{}: no URL can name this key", self.what(request));
                Err(UfsError::new(UfsErrorKind::Invalid, why))
            }
        }
    }

    /// For messages: method and object, never a secret.
    fn what(&self, request: &Request<'_>) -> String {
        let key = request.key.unwrap_or("").escape_debug();
        let operation = request
            .query
            .first()
            .map_or(String::new(), |(name, _)| format!(" ({name})"));
        format!("{} {}/{key}{operation}", request.method, self.settings.bucket_url)
    }
}

async fn authorize(
    mut request: HttpRequest,
    credential: Arc<AwsCredential>,
    region: String,
    body_bytes: usize,
) -> UfsResult<HttpRequest> {
    let sign = move || {
        AwsAuthorizer::new(&credential, "s3", &region)
            .try_authorize(&mut request, None)
            .map(|()| request)
    };
    let signed = if body_bytes < BLOCKING_HASH_BYTES_MIN {
        sign()
    } else {
        tokio::task::spawn_blocking(sign)
            .await
            .map_err(|error| UfsError::new(UfsErrorKind::Other, format!("sign a request: {error}")))?
    };
    signed.map_err(|error| UfsError::new(UfsErrorKind::Other, format!("sign a request: {error}")))
}

/// An error with all that lies beneath it: reqwest's first line alone says little.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
