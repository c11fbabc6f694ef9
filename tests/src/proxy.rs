//! An HTTP proxy in front of a store that counts what passes and misbehaves on demand.
//!
//! It forwards requests as they are (the Host header too, which is signed) and streams bodies.

use bytes::Bytes;
use futures::StreamExt;
use http_body_util::{BodyExt, BodyStream, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper::{Request, Response};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

type Error = Box<dyn std::error::Error + Send + Sync>;
type Body = BoxBody<Bytes, Error>;

/// What to do to a request.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Answer with this status without asking the store.
    Status(u16),
    /// As [`Fault::Status`], with this code of S3 in the answer.
    Refuse(u16, &'static str),
    /// Wait so long before the store is asked.
    Delay(Duration),
    /// Wait until [`Proxy::heal`] before the store is asked.
    Hold,
    /// Forward this many bytes of the answer's body, then cut the connection.
    CutBody(usize),
    /// Forward the request, then cut the connection before the answer: the store did it, the client does not know.
    LoseAnswer,
    /// Never answer.
    Stall,
}

/// Which requests a fault meets, and how often.
#[derive(Clone, Debug)]
pub struct Rule {
    /// HTTP method; empty: any.
    pub method: &'static str,
    /// Part of path and query; empty: any.
    pub contains: String,
    /// What happens.
    pub fault: Fault,
    /// How many times still.
    pub times: usize,
}

/// Requests that are remembered one by one.
const LINES_MAX: usize = 100_000;

/// What passed since the last reset.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Requests by method.
    pub requests: BTreeMap<String, u64>,
    /// Bytes of request bodies, to the store.
    pub bytes_up: u64,
    /// Bytes of answers' bodies, from the store.
    pub bytes_down: u64,
    /// Requests as "METHOD path?query", in order, the first 100,000.
    pub lines: Vec<String>,
}

impl Counts {
    /// Requests of one method.
    pub fn of(&self, method: &str) -> u64 {
        self.requests.get(method).copied().unwrap_or(0)
    }
}

#[derive(Default)]
struct Shared {
    counts: Mutex<Counts>,
    rules: Mutex<Vec<Rule>>,
    healed: tokio::sync::watch::Sender<()>,
}

/// A running proxy; ends with its guard.
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Proxy {
    /// Starts in front of `upstream` (`http://127.0.0.1:PORT`).
    pub fn start(upstream: &str) -> Proxy {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("start a runtime");
        let shared = Arc::new(Shared::default());
        let listener = runtime
            .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
            .expect("bind the proxy");
        let port = listener.local_addr().expect("address of the proxy").port();
        runtime.spawn(accept(
            listener,
            upstream.trim_end_matches('/').to_owned(),
            shared.clone(),
        ));
        Proxy {
            port,
            shared,
            runtime: Some(runtime),
        }
    }

    /// `http://127.0.0.1:PORT`
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Adds a fault.
    pub fn fault(&self, method: &'static str, contains: &str, fault: Fault, times: usize) {
        self.shared.rules.lock().expect("rules").push(Rule {
            method,
            contains: contains.to_owned(),
            fault,
            times,
        });
    }

    /// Forgets all faults; what they hold goes on.
    pub fn heal(&self) {
        self.shared.rules.lock().expect("rules").clear();
        self.shared.healed.send_replace(());
    }

    /// What passed since the last reset.
    pub fn counts(&self) -> Counts {
        self.shared.counts.lock().expect("counts").clone()
    }

    /// Starts counting anew.
    pub fn reset(&self) {
        *self.shared.counts.lock().expect("counts") = Counts::default();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn accept(listener: tokio::net::TcpListener, upstream: String, shared: Arc<Shared>) {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client: Client<_, Incoming> = Client::builder(TokioExecutor::new()).build(connector);
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        let (client, upstream, shared) = (client.clone(), upstream.clone(), shared.clone());
        tokio::spawn(async move {
            let service = hyper::service::service_fn(move |request| {
                forward(request, client.clone(), upstream.clone(), shared.clone())
            });
            // A cut connection is what some tests ask for; the client under test sees it.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

/// Takes the first rule that matches, and one of its times.
fn take_fault(shared: &Shared, method: &str, target: &str) -> Option<Fault> {
    let mut rules = shared.rules.lock().expect("rules");
    let rule = rules.iter_mut().find(|rule| {
        rule.times > 0 && (rule.method.is_empty() || rule.method == method) && target.contains(rule.contains.as_str())
    })?;
    rule.times -= 1;
    Some(rule.fault.clone())
}

/// Answers without asking the store.
async fn refuse(request: Request<Incoming>, status: u16, code: &str) -> Result<Response<Body>, Error> {
    // Read what was sent, so that the connection stays usable.
    let _ = request.into_body().collect().await;
    let body = format!("<Error><Code>{code}</Code><Message>injected</Message></Error>");
    Ok(Response::builder()
        .status(status)
        .body(Full::new(Bytes::from(body)).map_err(Error::from).boxed())?)
}

async fn forward(
    mut request: Request<Incoming>,
    client: Client<HttpConnector, Incoming>,
    upstream: String,
    shared: Arc<Shared>,
) -> Result<Response<Body>, Error> {
    let method = request.method().to_string();
    let target = request
        .uri()
        .path_and_query()
        .map_or("/", |part| part.as_str())
        .to_owned();
    {
        let mut counts = shared.counts.lock().expect("counts");
        *counts.requests.entry(method.clone()).or_default() += 1;
        if counts.lines.len() < LINES_MAX {
            counts.lines.push(format!("{method} {target}"));
        }
        let length = request
            .headers()
            .get("content-length")
            .and_then(|value| value.to_str().ok())
            .and_then(|text| text.parse::<u64>().ok());
        counts.bytes_up += length.unwrap_or(0);
    }
    let mut healed = shared.healed.subscribe();
    let fault = take_fault(&shared, &method, &target);
    match fault {
        Some(Fault::Status(status)) => {
            let code = match status {
                403 => "AccessDenied",
                503 => "SlowDown",
                _ => "InternalError",
            };
            return refuse(request, status, code).await;
        }
        Some(Fault::Refuse(status, code)) => return refuse(request, status, code).await,
        Some(Fault::Stall) => std::future::pending::<()>().await,
        Some(Fault::Delay(time)) => tokio::time::sleep(time).await,
        Some(Fault::Hold) => healed.changed().await?,
        _ => {}
    }
    *request.uri_mut() = format!("{upstream}{target}").parse()?;
    let response = client.request(request).await?;
    if matches!(fault, Some(Fault::LoseAnswer)) {
        return Err("answer lost on purpose".into());
    }
    let mut left = match fault {
        Some(Fault::CutBody(bytes)) => Some(bytes),
        _ => None,
    };
    let (parts, body) = response.into_parts();
    let stream = BodyStream::new(body).map(move |frame| {
        let frame = frame.map_err(Error::from)?;
        let Ok(data) = frame.into_data() else {
            return Ok(Frame::data(Bytes::new()));
        };
        shared.counts.lock().expect("counts").bytes_down += data.len() as u64;
        match &mut left {
            None => Ok(Frame::data(data)),
            Some(0) => Err("body cut on purpose".into()),
            Some(rest) => {
                let part = data.slice(..data.len().min(*rest));
                *rest -= part.len();
                Ok(Frame::data(part))
            }
        }
    });
    Ok(Response::from_parts(parts, BoxBody::new(StreamBody::new(stream))))
}
