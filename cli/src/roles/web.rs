//! The web port of a role: metrics, health, and which log lines are written.
//!
//! | path | answer |
//! |---|---|
//! | `/metrics`, `/metrics/prometheus` | Prometheus' text form |
//! | `/metrics/json` | the JSON of Alluxio's `MetricsServlet` |
//! | `/healthz` | 200 while the process lives |
//! | `/readyz` | 200 once the role serves; 503 with why it does not. The master's names stores that are away, and is ready |
//! | `/api/v1/ROLE/logLevel` | the log filter; POST with `?logName=TARGET&level=LEVEL` changes it, from this host only |
//!
//! Everything is small and held in memory; requests have no bodies. A connection is bounded in its head, its time and its
//! number, so that what is on the port cannot keep the role from its work.

use alluxio_common::config::{Configuration, Key, keys};
use alluxio_common::logging;
use alluxio_common::metrics::{Metrics, TEXT_CONTENT_TYPE};
use alluxio_common::sync::Mutex;
use alluxio_proto::{ErrorKind, FsError, FsResult};
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Connections at once; further ones wait in the listen queue. A scraper or two, a probe, a person.
const CONNECTIONS_MAX: usize = 64;
/// Bytes of a request's head.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Headers of a request.
const HEADERS_MAX: usize = 64;
/// How long a head may take to arrive.
const HEAD_TIME_MAX: Duration = Duration::from_secs(10);
/// How long a connection lives; scrapers make another.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(60);
/// Pause after accept(2) failed, as it does when descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Whose port it is.
#[derive(Clone, Copy, Debug)]
pub struct WebRole {
    /// In paths and messages.
    pub name: &'static str,
    host: Key,
    port: Key,
}

/// The master's.
pub const MASTER: WebRole = WebRole {
    name: "master",
    host: keys::master::MASTER_WEB_BIND_HOST,
    port: keys::master::MASTER_WEB_PORT,
};
/// The worker's.
pub const WORKER: WebRole = WebRole {
    name: "worker",
    host: keys::worker::WORKER_WEB_BIND_HOST,
    port: keys::worker::WORKER_WEB_PORT,
};
/// A mount's.
pub const FUSE: WebRole = WebRole {
    name: "fuse",
    host: keys::fuse::FUSE_WEB_BIND_HOST,
    port: keys::fuse::FUSE_WEB_PORT,
};

/// What is said beside "ready".
type Notes = Box<dyn Fn() -> Vec<String> + Send + Sync>;
type Readiness = Box<dyn Fn() -> Result<(), String> + Send + Sync>;

/// What the pages are made of.
struct Pages {
    role: &'static str,
    metrics: Mutex<Vec<Metrics>>,
    readiness: Mutex<Readiness>,
    notes: Mutex<Notes>,
}

/// A served web port. Dropping it does not end it; [`Web::stop`] does.
pub struct Web {
    pages: Arc<Pages>,
    address: SocketAddr,
    serving: JoinHandle<()>,
    stop: CancellationToken,
}

impl Web {
    /// Takes the port and serves; `/readyz` says "starting" until [`Web::ready_when`]. `None` if the port is the default one
    /// and taken: the role does its work without.
    ///
    /// # Errors
    /// If somebody chose the port or the address, and it cannot be listened on.
    pub async fn start(conf: &Configuration, role: &WebRole) -> FsResult<Option<Web>> {
        let (host, port) = (conf.string(&role.host), conf.port(&role.port));
        let listener = match TcpListener::bind((host.as_str(), port)).await {
            Ok(listener) => listener,
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse && !conf.is_set(&role.port) => {
                tracing::warn!(
                    "no metrics over HTTP: {host}:{port} is taken; choose another port with -D {}=PORT",
                    role.port.name
                );
                return Ok(None);
            }
            Err(error) => {
                let doing = format!(
                    "listen on {host}:{port} for the web port ({}, {})",
                    role.host.name, role.port.name
                );
                return Err(FsError::from_io(doing, &error));
            }
        };
        let address = listener
            .local_addr()
            .map_err(|error| FsError::from_io("find the address of the web port", &error))?;
        tracing::info!("metrics and health of the {}: http://{address}/metrics", role.name);
        let pages = Arc::new(Pages {
            role: role.name,
            metrics: Mutex::default(),
            readiness: Mutex::new(Box::new(|| Err("starting".to_owned()))),
            notes: Mutex::new(Box::new(Vec::new)),
        });
        let stop = CancellationToken::new();
        let serving = tokio::spawn(serve(listener, Arc::clone(&pages), stop.clone()));
        Ok(Some(Web {
            pages,
            address,
            serving,
            stop,
        }))
    }

    /// The port that it got.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Serves these, too. Names of several registries must differ.
    pub fn add(&self, metrics: Metrics) {
        self.pages.metrics.lock().push(metrics);
    }

    /// From now on `/readyz` asks this, which must not block.
    pub fn ready_when(&self, readiness: impl Fn() -> Result<(), String> + Send + Sync + 'static) {
        *self.pages.readiness.lock() = Box::new(readiness);
    }

    /// From now on `/readyz` says this, too, a line each, when the role is ready. It must not block.
    pub fn note(&self, notes: impl Fn() -> Vec<String> + Send + Sync + 'static) {
        *self.pages.notes.lock() = Box::new(notes);
    }

    /// Ends it; connections under way are dropped.
    pub async fn stop(self) {
        self.stop.cancel();
        // It ends at once; a panic in it was reported already.
        let _ = self.serving.await;
    }
}

async fn serve(listener: TcpListener, pages: Arc<Pages>, stop: CancellationToken) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
            return;
        };
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (pages, stop) = (Arc::clone(&pages), stop.clone());
                tokio::spawn(async move {
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = connection(stream, peer, pages) => {}
                    }
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::info!(%error, "accept a connection on the web port; trying again");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, peer: SocketAddr, pages: Arc<Pages>) {
    let answer = service_fn(move |request: Request<hyper::body::Incoming>| {
        let answer = pages.answer(request.method(), request.uri(), peer);
        async move { Ok::<_, Infallible>(answer) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), answer);
    match tokio::time::timeout(CONNECTION_TIME_MAX, served).await {
        Ok(Ok(())) | Err(_) => {}
        Ok(Err(error)) => tracing::debug!(%peer, %error, "a connection of the web port"),
    }
}

type Page = Response<Full<Bytes>>;

fn page(status: StatusCode, content_type: &'static str, text: impl Into<String>) -> Page {
    let mut page = Response::new(Full::new(Bytes::from(text.into())));
    *page.status_mut() = status;
    let headers = page.headers_mut();
    headers.insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, hyper::header::HeaderValue::from_static("no-store"));
    page
}

fn plain(status: StatusCode, text: impl std::fmt::Display) -> Page {
    page(status, "text/plain; charset=utf-8", format!("{text}\n"))
}

fn only(methods: &'static str) -> Page {
    let mut page = plain(StatusCode::METHOD_NOT_ALLOWED, format_args!("use {methods}"));
    page.headers_mut()
        .insert(ALLOW, hyper::header::HeaderValue::from_static(methods));
    page
}

impl Pages {
    fn answer(&self, method: &Method, uri: &hyper::Uri, peer: SocketAddr) -> Page {
        let path = uri.path().trim_end_matches('/');
        if path
            .strip_prefix("/api/v1/")
            .and_then(|rest| rest.strip_suffix("/logLevel"))
            == Some(self.role)
        {
            return match *method {
                Method::GET | Method::HEAD => log_level(),
                Method::POST | Method::PUT => change_log_level(uri.query().unwrap_or_default(), peer),
                _ => only("GET, POST"),
            };
        }
        if method != Method::GET && method != Method::HEAD {
            return only("GET, HEAD");
        }
        match path {
            "" => plain(
                StatusCode::OK,
                format_args!(
                    "alluxio {} of version {}\n/metrics /metrics/json /healthz /readyz /api/v1/{}/logLevel",
                    self.role,
                    env!("CARGO_PKG_VERSION"),
                    self.role
                ),
            ),
            "/metrics" | "/metrics/prometheus" => page(StatusCode::OK, TEXT_CONTENT_TYPE, self.text()),
            "/metrics/json" => page(StatusCode::OK, "application/json", self.json().to_string()),
            "/healthz" => plain(StatusCode::OK, "ok"),
            "/readyz" => match (self.readiness.lock())() {
                Ok(()) => {
                    let mut lines = vec!["ready".to_owned()];
                    lines.extend((self.notes.lock())());
                    plain(StatusCode::OK, lines.join("\n"))
                }
                Err(why) => plain(StatusCode::SERVICE_UNAVAILABLE, why),
            },
            other => plain(
                StatusCode::NOT_FOUND,
                format_args!("there is no {other}; / lists what there is"),
            ),
        }
    }

    fn text(&self) -> String {
        const END: &str = "# EOF\n";
        let registries = self.metrics.lock().clone();
        let mut text = String::new();
        for metrics in registries {
            let one = metrics.text();
            text.push_str(one.strip_suffix(END).unwrap_or(&one));
        }
        text + END
    }

    fn json(&self) -> serde_json::Value {
        let registries = self.metrics.lock().clone();
        let mut all = serde_json::Value::Null;
        for metrics in registries {
            merge(&mut all, metrics.json_value());
        }
        all
    }
}

/// Adds the members of one object to another, objects within likewise.
fn merge(into: &mut serde_json::Value, from: serde_json::Value) {
    match (into, from) {
        (serde_json::Value::Object(into), serde_json::Value::Object(from)) => {
            for (name, value) in from {
                merge(into.entry(name).or_insert(serde_json::Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

fn log_level() -> Page {
    let filter = logging::filter().unwrap_or_default();
    page(
        StatusCode::OK,
        "application/json",
        serde_json::json!({ "filter": filter }).to_string(),
    )
}

/// `?logName=TARGET&level=LEVEL` for one target, `?level=FILTER` for all.
fn change_log_level(query: &str, peer: SocketAddr) -> Page {
    if !peer.ip().to_canonical().is_loopback() {
        return plain(StatusCode::FORBIDDEN, "the log level is changed from this host only");
    }
    let (mut target, mut level) = (String::new(), String::new());
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let Some(value) = decoded(value) else {
            return plain(StatusCode::BAD_REQUEST, format_args!("{pair} is garbled"));
        };
        match name {
            "logName" => target = value,
            "level" => level = value,
            _ => {
                return plain(
                    StatusCode::BAD_REQUEST,
                    format_args!("{name} is not known; use logName and level"),
                );
            }
        }
    }
    if level.is_empty() {
        return plain(
            StatusCode::BAD_REQUEST,
            "level is missing: ?logName=alluxio_worker&level=debug",
        );
    }
    let changed = if target.is_empty() {
        logging::set_filter(&level)
    } else {
        logging::set_level(&target, &level)
    };
    match changed {
        Ok(()) => {
            tracing::info!(target, level, "the log filter was changed over HTTP");
            page(
                StatusCode::OK,
                "application/json",
                serde_json::json!({ "logName": target, "level": level.to_ascii_uppercase(), "message": "changed" })
                    .to_string(),
            )
        }
        Err(error) => plain(StatusCode::BAD_REQUEST, error),
    }
}

/// A value of a query with its `%XX` replaced.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                let digits = std::str::from_utf8(&digits).ok()?;
                bytes.push(u8::from_str_radix(digits, 16).ok()?);
            }
            other => bytes.push(other),
        }
    }
    String::from_utf8(bytes).ok()
}

/// Asks another role's port for a page.
///
/// # Errors
/// `Unavailable` if nobody answers, `Internal` for an answer that is no success.
pub async fn get(host: &str, port: u16, path: &str) -> FsResult<Bytes> {
    use http_body_util::{BodyExt, Limited};
    /// Longer answers are not ours.
    const BYTES_MAX: usize = 16 << 20;
    const TIME_MAX: Duration = Duration::from_secs(10);
    let doing = format!("ask http://{host}:{port}{path}");
    let unavailable = |why: String| FsError::new(ErrorKind::Unavailable, format!("{doing}: {why}"));
    let ask = async {
        let stream = TcpStream::connect((host, port))
            .await
            .map_err(|error| unavailable(error.to_string()))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| unavailable(error.to_string()))?;
        // Ends with the sender.
        tokio::spawn(connection);
        let request = Request::builder()
            .uri(path)
            .header(hyper::header::HOST, format!("{host}:{port}"))
            .body(Full::<Bytes>::default())
            .map_err(|error| FsError::new(ErrorKind::InvalidArgument, format!("{doing}: {error}")))?;
        let answer = sender
            .send_request(request)
            .await
            .map_err(|error| unavailable(error.to_string()))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), BYTES_MAX)
            .collect()
            .await
            .map_err(|error| unavailable(error.to_string()))?
            .to_bytes();
        if status.is_success() {
            return Ok(body);
        }
        let said = String::from_utf8_lossy(&body).trim().to_owned();
        Err(FsError::new(ErrorKind::Internal, format!("{doing}: {status}: {said}")))
    };
    tokio::time::timeout(TIME_MAX, ask)
        .await
        .unwrap_or_else(|_| Err(unavailable(format!("no answer within {TIME_MAX:?}"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages() -> Pages {
        Pages {
            role: "master",
            metrics: Mutex::default(),
            readiness: Mutex::new(Box::new(|| Err("starting".to_owned()))),
            notes: Mutex::new(Box::new(Vec::new)),
        }
    }

    #[test]
    fn registries_are_one_page() {
        let pages = pages();
        for name in ["Master.FilesCreated", "Fuse.ReadWriteFileCount"] {
            let metrics = Metrics::new();
            metrics.counter(name).inc();
            pages.metrics.lock().push(metrics);
        }
        let text = pages.text();
        assert_eq!(text.matches("# EOF").count(), 1, "{text}");
        assert!(
            text.contains("\nMaster_FilesCreated 1\n") && text.contains("\nFuse_ReadWriteFileCount 1\n"),
            "{text}"
        );
        let json = pages.json();
        assert_eq!(json["counters"]["Master.FilesCreated"]["count"], 1);
        assert_eq!(json["counters"]["Fuse.ReadWriteFileCount"]["count"], 1);
    }

    #[test]
    fn the_log_level_is_changed_from_this_host_only() {
        let away: SocketAddr = "192.0.2.1:7".parse().unwrap();
        let uri: hyper::Uri = "/api/v1/master/logLevel?level=debug".parse().unwrap();
        assert_eq!(
            pages().answer(&Method::POST, &uri, away).status(),
            StatusCode::FORBIDDEN
        );
        assert_eq!(pages().answer(&Method::GET, &uri, away).status(), StatusCode::OK);
    }

    #[test]
    fn queries_are_decoded() {
        assert_eq!(decoded("a%2Cb%3Dc+d").as_deref(), Some("a,b=c d"));
        for garbled in ["%", "%4", "%zz", "%ff"] {
            assert_eq!(decoded(garbled), None, "{garbled}");
        }
    }
}
