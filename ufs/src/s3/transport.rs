//! Requests to S3: signed, sent, repeated within their limits, and their failures told apart.
//!
//! What a refusal tells (other keys are wanted, another time, another region) is learned and the request sent once more at once.
//! What passes by itself is waited for, with full jitter, as often and as long as the settings say. A store that wants fewer
//! requests gets fewer; one that does not answer is asked by one at a time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::BoxStream;
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::breaker::Breaker;
use super::credentials::Credential;
use super::errors::Refusal;
use super::hedge::Hedge;
use super::pace::Permit;
use super::place::Place;
use super::request::Request;
use super::settings::Settings;
use super::sign::{Scope, sign};
use super::web::{CONNECT_TIMEOUT, causes};
use super::xml::{self, Element};
use crate::metrics::VerbMetrics;
use crate::{UfsError, UfsErrorKind, UfsMetrics, UfsResult};

/// A page of 1,000 keys of 1,024 bytes, all of them escaped, is about 4 MiB.
const ANSWER_BYTES_MAX: usize = 32 << 20;
/// Of an error's body no more is read.
const REFUSAL_BYTES_MAX: usize = 64 << 10;
/// With full jitter the first pause is half of this on average.
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// Bodies from here on are hashed on a thread of their own: a millisecond and more.
const BLOCKING_HASH_BYTES_MIN: usize = 1 << 20;

/// Why a HEAD was refused.
enum Explained {
    NotAtAll,
    By(Refusal),
    /// What it was sent with is not what is used now.
    Outdated,
}

/// What a request was sent with.
#[derive(PartialEq)]
struct Sent {
    place: Arc<Place>,
    credential: Option<Arc<Credential>>,
    clock_ahead_ms: i64,
}

/// One request on the wire that was no success.
struct Failed {
    error: UfsError,
    /// The answer, if there was one, with its date.
    refused: Option<(Refusal, String, Sent)>,
    /// It was sent with what is known to be wrong by now.
    outdated: bool,
}

impl From<UfsError> for Failed {
    fn from(error: UfsError) -> Self {
        Self {
            error,
            refused: None,
            outdated: false,
        }
    }
}

/// What a request has been sent again for.
#[derive(Default)]
struct Cured {
    keys: bool,
    clock: bool,
    place: bool,
    outdated: bool,
}

#[derive(Debug)]
pub(super) struct Transport {
    settings: Settings,
    client: reqwest::Client,
    hedge: Hedge,
    breaker: Breaker,
    pub metrics: Arc<UfsMetrics>,
}

impl Transport {
    pub fn new(settings: Settings) -> UfsResult<Self> {
        let plain = settings.places.current().bucket_url.starts_with("http://");
        Ok(Self {
            client: settings
                .web
                .client(CONNECT_TIMEOUT.min(settings.socket_timeout), plain)?,
            hedge: Hedge::new(settings.hedge_ratio),
            breaker: Breaker::default(),
            settings,
            metrics: Arc::default(),
        })
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Sends until there is an answer; the body of a success has not been read.
    pub async fn send(&self, request: &Request<'_>) -> UfsResult<reqwest::Response> {
        self.retry(request, || self.first_answer(request)).await
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
                return Err(refusal.to_error(&what, &self.settings.bucket));
            }
            Ok((headers, root))
        })
        .await
    }

    /// The rest of a response; a silence longer than there may be is an error.
    pub fn body(&self, request: &Request<'_>, mut response: reqwest::Response) -> BoxStream<'static, UfsResult<Bytes>> {
        let what = self.what(request);
        // A store that is copying may be silent for long.
        let silence = match request.copied_bytes {
            0 => self.settings.stall_timeout,
            _ => self.settings.socket_timeout,
        };
        let permit = response.extensions_mut().remove::<Permit>();
        let (down, verb) = (self.settings.limiter.down.clone(), self.verb(request));
        let chunks = response.bytes_stream();
        futures::stream::unfold(Some((chunks, what, permit)), move |state| {
            let (down, verb) = (down.clone(), verb.clone());
            async move {
                let (mut chunks, what, permit) = state?;
                let why = match tokio::time::timeout(silence, chunks.next()).await {
                    Ok(None) => return None,
                    Ok(Some(Ok(chunk))) => {
                        verb.bytes.add(chunk.len() as u64);
                        down.pay(chunk.len() as u64).await;
                        return Some((Ok(chunk), Some((chunks, what, permit))));
                    }
                    Ok(Some(Err(error))) => format!("{what}: the body was cut short: {}", causes(&error)),
                    Err(_) => format!("{what}: the body stalled for {silence:?}"),
                };
                verb.failed(UfsErrorKind::Unreachable);
                Some((Err(UfsError::new(UfsErrorKind::Unreachable, why)), None))
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
        let mut started = Instant::now();
        let deadline = self.settings.request_timeout + request.work_time();
        let mut backoff = BACKOFF_FIRST;
        for attempts in 1.. {
            let paying = Instant::now();
            self.settings.limiter.up.pay(request.body.len() as u64).await;
            // The limit is the user's own wish, no failure of the store.
            started += paying.elapsed();
            let left = deadline.saturating_sub(started.elapsed());
            let mut error = match tokio::time::timeout(left, attempt()).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => error,
                Err(_) => {
                    let why = format!("{}: no answer within {deadline:?}", self.what(request));
                    return Err(UfsError::new(UfsErrorKind::Unreachable, why));
                }
            };
            let pause = backoff.mul_f64(rand::random::<f64>());
            let pause = pause.max(error.retry_after.unwrap_or_default());
            if !error.is_retryable() {
                return Err(error);
            }
            if attempts > self.settings.retries_max || started.elapsed() + pause >= deadline {
                error.message = format!("{} (tried {attempts} times)", error.message);
                return Err(error);
            }
            tracing::debug!(%error, attempts, "retry a request to S3");
            UfsMetrics::add(&self.metrics.retries, 1);
            self.verb(request).retries.inc();
            tokio::time::sleep(pause).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
        Err(UfsError::new(UfsErrorKind::Other, self.what(request)))
    }

    /// One attempt; of reads whose answer takes long a second one beside it.
    async fn first_answer(&self, request: &Request<'_>) -> UfsResult<reqwest::Response> {
        if !request.reads() {
            return self.attempt(request).await;
        }
        let patience = self.hedge.patience();
        let started = Instant::now();
        let answered = |answer| {
            self.hedge.answered(started.elapsed());
            Ok(answer)
        };
        let mut first = std::pin::pin!(self.attempt(request));
        let Some(patience) = patience else {
            return first.await.and_then(answered);
        };
        match tokio::time::timeout(patience, &mut first).await {
            Ok(answer) => return answer.and_then(answered),
            Err(_) if !self.hedge.take() => return first.await.and_then(answered),
            Err(_) => {}
        }
        self.verb(request).hedges.inc();
        let second = std::pin::pin!(self.attempt(request));
        match futures::future::select(first, second).await {
            futures::future::Either::Left((Ok(answer), _)) => answered(answer),
            futures::future::Either::Right((Ok(answer), _)) => answered(answer),
            // Whatever the other says.
            futures::future::Either::Left((Err(_), second)) => second.await.and_then(answered),
            futures::future::Either::Right((Err(_), first)) => first.await.and_then(answered),
        }
    }

    /// Sent once, or again with what the refusal told.
    async fn attempt(&self, request: &Request<'_>) -> UfsResult<reqwest::Response> {
        let mut cured = Cured::default();
        loop {
            match self.once(request).await {
                Ok(response) => return Ok(response),
                Err(failed) => {
                    self.verb(request).failed(failed.error.kind);
                    if !self.cure(&failed, &mut cured).await {
                        return Err(failed.error);
                    }
                    tracing::debug!(error = %failed.error, "send a request to S3 again, by what its refusal told");
                }
            }
        }
    }

    /// Whether what was told makes the same request another one.
    async fn cure(&self, failed: &Failed, cured: &mut Cured) -> bool {
        let Some((refusal, date, sent)) = &failed.refused else {
            return false;
        };
        let first = |done: &mut bool| !std::mem::replace(done, true);
        if failed.outdated && first(&mut cured.outdated) {
            return true;
        }
        if refusal.is_of_keys() && first(&mut cured.keys) {
            return match &sent.credential {
                Some(credential) => self.settings.credentials.refused(credential).await,
                None => false,
            };
        }
        if refusal.is_of_clock() && first(&mut cured.clock) {
            return self.settings.clock.follow(date, sent.clock_ahead_ms);
        }
        match &refusal.bucket_region {
            Some(region) if refusal.is_of_place() && first(&mut cured.place) => {
                self.settings.places.moved(&sent.place, region)
            }
            _ => false,
        }
    }

    /// One request on the wire.
    async fn once(&self, request: &Request<'_>) -> Result<reqwest::Response, Failed> {
        let settings = &self.settings;
        let permit = settings
            .limiter
            .place(request.reads(), settings.request_timeout)
            .await?;
        let turn = settings.limiter.pace.turn();
        // Even a sleep of nothing may take a millisecond.
        if !turn.is_zero() {
            tokio::time::sleep(turn).await;
        }
        if let Err(open) = self.breaker.enter() {
            let why = format!(
                "{}: the store has not answered {} requests in a row and is asked again in {:?}; the last: {}",
                self.what(request),
                open.failures,
                open.pause,
                open.why
            );
            let mut error = UfsError::new(UfsErrorKind::Unreachable, why);
            error.retry_after = Some(open.pause);
            return Err(error.into());
        }
        let (mut response, sent) = self.exchange(request).await?;
        if response.status().is_success() {
            if let Some(permit) = permit {
                response.extensions_mut().insert(permit);
            }
            return Ok(response);
        }
        let (mut refusal, date) = self.refusal(request, response).await;
        let mut outdated = false;
        if request.method == Method::HEAD
            && refusal.code.is_empty()
            && matches!(refusal.status, StatusCode::BAD_REQUEST | StatusCode::FORBIDDEN)
        {
            match self.explained(request, &sent).await {
                Explained::By(said) => refusal = said,
                Explained::Outdated => outdated = true,
                Explained::NotAtAll => {}
            }
        }
        if matches!(refusal.status.as_u16(), 429 | 503)
            && let Some(pace) = settings.limiter.pace.refused()
        {
            tracing::warn!(
                bucket = settings.bucket,
                requests_per_second = pace,
                "the store asks for fewer requests, and gets them"
            );
        }
        let error = refusal.to_error(&self.what(request), &settings.bucket);
        Err(Failed {
            error,
            refused: Some((refusal, date, sent)),
            outdated,
        })
    }

    /// A refused HEAD says no reason, and it may be one that can be cured: an expired token, a clock. A read says it.
    async fn explained(&self, request: &Request<'_>, sent: &Sent) -> Explained {
        let mut read = request.clone();
        read.method = Method::GET;
        read.headers.insert("range", HeaderValue::from_static("bytes=0-0"));
        let Ok((response, now)) = self.exchange(&read).await else {
            return Explained::NotAtAll;
        };
        if response.status().is_success() {
            // Another request's refusal was cured meanwhile.
            return match now == *sent {
                true => Explained::NotAtAll,
                false => Explained::Outdated,
            };
        }
        let (refusal, _) = self.refusal(&read, response).await;
        match !refusal.code.is_empty() && refusal.kind() != UfsErrorKind::NotFound {
            true => Explained::By(refusal),
            false => Explained::NotAtAll,
        }
    }

    async fn refusal(&self, request: &Request<'_>, response: reqwest::Response) -> (Refusal, String) {
        let (status, headers) = (response.status(), response.headers().clone());
        // The status says enough if the body does not come.
        let body = self
            .collect(request, response, REFUSAL_BYTES_MAX)
            .await
            .unwrap_or_default();
        let refusal = Refusal::new(status, &body, request.key.is_none()).with_headers(&headers);
        (refusal, super::headers::header(&headers, "date").to_owned())
    }

    /// Signed, sent and answered, whatever the answer.
    async fn exchange(&self, request: &Request<'_>) -> UfsResult<(reqwest::Response, Sent)> {
        let verb = self.verb(request);
        UfsMetrics::add(&self.metrics.requests, 1);
        verb.requests.inc();
        let (signed, sent) = self.sign(request).await?;
        let patience = self.settings.socket_timeout + request.work_time();
        let started = Instant::now();
        let why = match tokio::time::timeout(patience, self.client.execute(signed)).await {
            Ok(Ok(response)) => {
                self.breaker.answered();
                verb.latency.observe(started.elapsed());
                verb.bytes.add(request.body.len() as u64);
                return Ok((response, sent));
            }
            Ok(Err(error)) => causes(&error),
            Err(_) => format!("no answer within {patience:?}"),
        };
        self.breaker.failed(&why);
        let why = format!("{}: {why}", self.what(request));
        Err(UfsError::new(UfsErrorKind::Unreachable, why))
    }

    async fn sign(&self, request: &Request<'_>) -> UfsResult<(reqwest::Request, Sent)> {
        let credential = self.settings.credentials.get().await.map_err(|mut error| {
            error.message = format!("{}: {}", self.what(request), error.message);
            error
        })?;
        let sent = Sent {
            place: self.settings.places.current(),
            credential,
            clock_ahead_ms: self.settings.clock.ahead_ms(),
        };
        let url = request.url(&sent.place.bucket_url)?;
        let mut headers = request.headers.clone();
        if let Some((name, value)) = self.settings.options.always() {
            headers.insert(name, HeaderValue::from_static(value));
        }
        if let Some(credential) = &sent.credential {
            let (method, body, url) = (request.method.clone(), request.body.clone(), url.clone());
            let (credential, place) = (credential.clone(), sent.place.clone());
            let now = self.settings.clock.now();
            let long = body.len() >= BLOCKING_HASH_BYTES_MIN;
            let work = move || {
                let scope = Scope {
                    service: "s3",
                    region: &place.region,
                };
                sign(&method, &url, &mut headers, &body, &credential, scope, now).map(|()| headers)
            };
            let failed = |error| UfsError::new(UfsErrorKind::Other, format!("sign a request: {error}"));
            headers = match long {
                true => tokio::task::spawn_blocking(work).await.map_err(failed)??,
                false => work()?,
            };
        }
        let mut finished = reqwest::Request::new(request.method.clone(), url);
        *finished.headers_mut() = headers;
        *finished.body_mut() = Some(request.body.clone().into());
        Ok((finished, sent))
    }

    fn verb(&self, request: &Request<'_>) -> Arc<VerbMetrics> {
        self.metrics.verb(request.verb())
    }

    fn what(&self, request: &Request<'_>) -> String {
        request.what(&self.settings.places.current().bucket_url)
    }
}
