//! What S3 does on a bad day, played by a server of a few lines.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use alluxio_common::config::Configuration;
use alluxio_ufs::{BytesSource, Expect, UfsAttributes, UfsErrorKind, UfsResult, UnderFileSystem, open};
use bytes::Bytes;
use futures::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A request as it came.
#[derive(Clone, Debug)]
struct Seen {
    /// `METHOD target`.
    line: String,
    headers: BTreeMap<String, String>,
}

/// What to do with a request.
enum Act {
    /// These bytes, then the end of the connection.
    Answer(Vec<u8>),
    /// The end of the connection at once.
    HangUp,
    /// Nothing, for ever.
    Stall,
}

type Script = dyn Fn(usize, &Seen) -> Act + Send + Sync;

/// The server; it counts requests from 0.
struct Stub {
    ufs: Arc<dyn UnderFileSystem>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Stub {
    async fn new(script: impl Fn(usize, &Seen) -> Act + Send + Sync + 'static) -> Self {
        Self::with(&[], script).await
    }

    async fn with(options: &[(&str, &str)], script: impl Fn(usize, &Seen) -> Act + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let script: Arc<Script> = Arc::new(script);
        let log = seen.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, log.clone(), script.clone()));
            }
        });
        Self {
            ufs: ufs_at(&format!("http://{address}"), options),
            seen,
        }
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

fn ufs_at(endpoint: &str, more: &[(&str, &str)]) -> Arc<dyn UnderFileSystem> {
    let mut options = BTreeMap::new();
    // Requests are counted here: no marks of folders among them.
    options.insert("alluxio.underfs.s3.attributes".to_owned(), "NEVER".to_owned());
    let base = [
        ("s3a.accessKeyId", "key"),
        ("s3a.secretKey", "secret"),
        ("alluxio.underfs.s3.endpoint", endpoint),
        ("alluxio.underfs.s3.max.error.retry", "2"),
        ("alluxio.underfs.s3.socket.timeout", "300ms"),
        ("alluxio.underfs.s3.request.timeout", "5s"),
    ];
    for (key, value) in base.iter().chain(more) {
        options.insert((*key).to_owned(), (*value).to_owned());
    }
    open("s3://bucket/p", &options, &Configuration::default()).unwrap()
}

async fn serve(mut stream: TcpStream, seen: Arc<Mutex<Vec<Seen>>>, script: Arc<Script>) {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.lines();
    let line = lines.next().unwrap_or("").trim_end_matches(" HTTP/1.1").to_owned();
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length: usize = headers
        .get("content-length")
        .map_or(0, |length| length.parse().unwrap());
    while bytes.len() < end + 4 + length {
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let request = Seen { line, headers };
    let number = {
        let mut seen = seen.lock().unwrap();
        seen.push(request.clone());
        seen.len() - 1
    };
    match script(number, &request) {
        Act::Answer(answer) => {
            // The client may have gone away.
            let _ = stream.write_all(&answer).await;
            let _ = stream.shutdown().await;
        }
        Act::HangUp => {}
        Act::Stall => std::future::pending().await,
    }
}

fn answer(status: &str, headers: &[(&str, &str)], body: &[u8]) -> Act {
    let mut head = format!("HTTP/1.1 {status}\r\nConnection: close\r\n");
    if !headers.iter().any(|(name, _)| *name == "Content-Length") {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    Act::Answer([head.as_bytes(), b"\r\n", body].concat())
}

fn refusal(status: &str, code: &str) -> Act {
    answer(
        status,
        &[],
        format!("<Error><Code>{code}</Code><Message>said the stub</Message></Error>").as_bytes(),
    )
}

fn empty_listing() -> Act {
    answer(
        "200 OK",
        &[],
        b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>",
    )
}

async fn read(ufs: &dyn UnderFileSystem, end: u64, fingerprint: &str) -> UfsResult<Vec<u8>> {
    let mut stream = ufs.read(b"name", 0..end, fingerprint).await?;
    let mut all = Vec::new();
    while let Some(chunk) = stream.next().await {
        all.extend_from_slice(&chunk?);
    }
    Ok(all)
}

async fn write(ufs: &dyn UnderFileSystem, expect: Expect) -> UfsResult<String> {
    let source = BytesSource(Bytes::from_static(b"hello"));
    let written = ufs.write(b"name", &source, &expect, &UfsAttributes::default()).await?;
    Ok(written.fingerprint)
}

#[tokio::test]
async fn a_throttled_request_is_repeated() {
    let stub = Stub::new(|number, _| match number {
        0 => refusal("503 Slow Down", "SlowDown"),
        1 => answer("429 Too Many Requests", &[], b""),
        _ => empty_listing(),
    })
    .await;
    stub.ufs.probe().await.unwrap();
    assert_eq!(stub.seen().len(), 3);
    let (requests, retries, ..) = stub.ufs.metrics().snapshot();
    assert_eq!((requests, retries), (3, 2));
}

#[tokio::test]
async fn endless_throttling_is_an_error_of_its_own() {
    let stub = Stub::new(|_, _| refusal("503 Slow Down", "SlowDown")).await;
    let error = stub.ufs.probe().await.unwrap_err();
    assert_eq!(error.kind, UfsErrorKind::Throttled, "{error}");
    assert!(
        error.is_retryable() && error.message.contains("tried 3 times"),
        "{error}"
    );
    assert_eq!(stub.seen().len(), 3, "bounded");
}

#[tokio::test]
async fn denials_are_not_repeated() {
    let stub = Stub::new(|_, _| refusal("403 Forbidden", "AccessDenied")).await;
    let error = stub.ufs.probe().await.unwrap_err();
    assert_eq!(error.kind, UfsErrorKind::Denied, "{error}");
    assert!(
        !error.is_retryable() && error.message.contains("check s3a.accessKeyId"),
        "{error}"
    );
    assert_eq!(stub.seen().len(), 1);
}

#[tokio::test]
async fn nobody_there() {
    let port = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let ufs = ufs_at(&format!("http://127.0.0.1:{port}"), &[]);
    for error in [
        ufs.probe().await.unwrap_err(),
        ufs.status(b"name").await.unwrap_err(),
        read(&*ufs, 1, "").await.unwrap_err(),
        write(&*ufs, Expect::Any).await.unwrap_err(),
    ] {
        assert_eq!(error.kind, UfsErrorKind::Unreachable, "{error}");
        assert!(
            error.message.contains(&format!("127.0.0.1:{port}")),
            "it says where: {error}"
        );
    }
    let secure = ufs_at(&format!("https://127.0.0.1:{port}"), &[]);
    assert_eq!(secure.probe().await.unwrap_err().kind, UfsErrorKind::Unreachable);
    let nowhere = ufs_at("http://no-such-host.invalid", &[]);
    assert_eq!(nowhere.probe().await.unwrap_err().kind, UfsErrorKind::Unreachable);
}

#[tokio::test]
async fn silence_ends_within_the_timeouts() {
    let stub = Stub::new(|_, _| Act::Stall).await;
    let started = Instant::now();
    let error = stub.ufs.probe().await.unwrap_err();
    assert_eq!(error.kind, UfsErrorKind::Unreachable, "{error}");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert_eq!(stub.seen().len(), 3);
    // The limit on a request with all its retries goes before the number of retries.
    let options = [
        ("alluxio.underfs.s3.request.timeout", "500ms"),
        ("alluxio.underfs.s3.max.error.retry", "100"),
    ];
    let stub = Stub::with(&options, |_, _| Act::Stall).await;
    let started = Instant::now();
    assert_eq!(stub.ufs.probe().await.unwrap_err().kind, UfsErrorKind::Unreachable);
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
}

/// Answers a range with at most `bytes` of it, whatever it promises.
fn short(seen: &Seen, whole: &[u8], bytes: usize) -> Act {
    let range = seen.headers["range"].strip_prefix("bytes=").unwrap();
    let (start, last) = range.split_once('-').unwrap();
    let (start, last): (usize, usize) = (start.parse().unwrap(), last.parse().unwrap());
    let body = &whole[start..=last];
    let headers = [
        ("ETag", "\"e1\"".to_owned()),
        ("Content-Range", format!("bytes {start}-{last}/{}", whole.len())),
        ("Content-Length", body.len().to_string()),
    ];
    let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
    answer("206 Partial Content", &headers, &body[..bytes.min(body.len())])
}

fn whole() -> Vec<u8> {
    (0..1000u32).map(|number| (number % 251) as u8).collect()
}

#[tokio::test]
async fn a_body_cut_short_is_resumed_where_it_ended() {
    let stub = Stub::new(|_, seen| short(seen, &whole(), 300)).await;
    assert_eq!(read(&*stub.ufs, 1000, "").await.unwrap(), whole());
    let ranges: Vec<_> = stub.seen().iter().map(|seen| seen.headers["range"].clone()).collect();
    assert_eq!(
        ranges,
        ["bytes=0-999", "bytes=300-999", "bytes=600-999", "bytes=900-999"]
    );
    // Conditional from the second on, also if the caller took whatever was there.
    let seen = stub.seen();
    assert_eq!(seen[0].headers.get("if-match"), None);
    assert!(seen[1..].iter().all(|seen| seen.headers["if-match"] == "\"e1\""));
}

#[tokio::test]
async fn a_body_cut_short_and_replaced_is_an_error() {
    let stub = Stub::new(|number, seen| match number {
        0 => short(seen, &whole(), 300),
        _ => refusal("412 Precondition Failed", "PreconditionFailed"),
    })
    .await;
    let error = read(&*stub.ufs, 1000, "e1").await.unwrap_err();
    assert_eq!(error.kind, UfsErrorKind::PreconditionFailed, "{error}");
}

#[tokio::test]
async fn a_body_that_never_comes_is_given_up() {
    let stub = Stub::new(|_, seen| short(seen, &whole(), 0)).await;
    let error = read(&*stub.ufs, 1000, "e1").await.unwrap_err();
    assert_eq!(error.kind, UfsErrorKind::Unreachable, "{error}");
    assert_eq!(stub.seen().len(), 4, "bounded");
}

#[tokio::test]
async fn a_server_that_ignores_conditions_or_ranges_does_not_get_away_with_it() {
    let stub = Stub::new(|_, seen| short(seen, &whole(), 1000)).await;
    let error = read(&*stub.ufs, 1000, "e0").await.unwrap_err();
    assert_eq!(error.kind, UfsErrorKind::PreconditionFailed, "{error}");
    let stub = Stub::new(|_, _| answer("200 OK", &[("ETag", "\"e1\"")], &whole())).await;
    assert_eq!(
        read(&*stub.ufs, 10, "e1").await.unwrap_err().kind,
        UfsErrorKind::Invalid
    );
    assert_eq!(read(&*stub.ufs, 1000, "e1").await.unwrap(), whole());
}

#[tokio::test]
async fn a_write_whose_answer_was_lost_is_known_again() {
    let id: Arc<Mutex<Option<String>>> = Arc::default();
    let known = id.clone();
    let stub = Stub::new(move |number, seen| match number {
        0 => {
            assert_eq!(seen.headers["if-none-match"], "*");
            *known.lock().unwrap() = Some(seen.headers["x-amz-meta-alluxio-write-id"].clone());
            Act::HangUp
        }
        1 => refusal("412 Precondition Failed", "PreconditionFailed"),
        _ => {
            let id = known.lock().unwrap().clone().unwrap();
            answer(
                "200 OK",
                &[("ETag", "\"ours\""), ("x-amz-meta-alluxio-write-id", &id)],
                b"",
            )
        }
    })
    .await;
    assert_eq!(write(&*stub.ufs, Expect::Absent).await.unwrap(), "ours");
    let lines: Vec<_> = stub.seen().into_iter().map(|seen| seen.line).collect();
    assert_eq!(
        lines,
        ["PUT /bucket/p/name", "PUT /bucket/p/name", "HEAD /bucket/p/name"]
    );
}

#[tokio::test]
async fn a_write_that_met_another_is_not_ours() {
    let stub = Stub::new(|number, _| match number {
        0 => refusal("412 Precondition Failed", "PreconditionFailed"),
        _ => answer(
            "200 OK",
            &[("ETag", "\"theirs\""), ("x-amz-meta-alluxio-write-id", "another")],
            b"",
        ),
    })
    .await;
    assert_eq!(
        write(&*stub.ufs, Expect::Absent).await.unwrap_err().kind,
        UfsErrorKind::PreconditionFailed
    );
}

#[tokio::test]
async fn unknown_is_never_absent() {
    // A 404 that is not said of the key, by something that is not S3, or by a bucket that is gone.
    for (script, kind) in [
        (refusal as fn(&str, &str) -> Act, UfsErrorKind::StoreMissing),
        (
            |_: &str, _: &str| answer("404 Not Found", &[], b"<html>nginx</html>"),
            UfsErrorKind::StoreMissing,
        ),
    ] {
        let stub = Stub::new(move |_, seen| match seen.line.starts_with("HEAD") {
            true => answer("404 Not Found", &[], b""),
            false => script("404 Not Found", "NoSuchBucket"),
        })
        .await;
        assert_eq!(stub.ufs.status(b"name").await.unwrap_err().kind, kind);
        assert_eq!(stub.ufs.list(b"dir", None, 10).await.unwrap_err().kind, kind);
    }
    let stub = Stub::new(|_, seen| match seen.line.starts_with("HEAD") {
        true => answer("404 Not Found", &[], b""),
        false => empty_listing(),
    })
    .await;
    assert_eq!(stub.ufs.status(b"name").await.unwrap_err().kind, UfsErrorKind::NotFound);
}

#[tokio::test]
async fn errors_after_a_status_of_200_count_as_errors() {
    // HEAD, LIST, HEAD, LIST, HEAD of a rename, then the copy.
    let stub = Stub::new(|_, seen| match seen.line.as_str() {
        line if line.starts_with("HEAD /bucket/p/name") => answer("200 OK", &[("ETag", "\"e\"")], b""),
        line if line.starts_with("HEAD") => answer("404 Not Found", &[], b""),
        line if line.starts_with("GET") => empty_listing(),
        line if line.starts_with("PUT") => refusal("200 OK", "InternalError"),
        line => panic!("{line}"),
    })
    .await;
    let error = stub.ufs.rename(b"name", b"other").await.unwrap_err();
    assert_eq!(error.kind, UfsErrorKind::Unreachable, "{error}");
    let lines: Vec<_> = stub.seen().into_iter().map(|seen| seen.line).collect();
    assert_eq!(
        lines.iter().filter(|line| line.starts_with("PUT")).count(),
        3,
        "tried again: {lines:?}"
    );
    assert!(
        !lines.iter().any(|line| line.starts_with("DELETE")),
        "the source stays: {lines:?}"
    );
}

#[tokio::test]
async fn garbage_is_an_error_that_says_so() {
    for body in [&b"<not xml"[..], b"\xff\xfe", b"", b"<html></html>"] {
        let stub = Stub::new(move |_, _| answer("200 OK", &[], body)).await;
        let error = stub.ufs.probe().await.unwrap_err();
        assert!(
            matches!(error.kind, UfsErrorKind::Unreachable | UfsErrorKind::Other),
            "{error}"
        );
    }
    let stub = Stub::new(|_, _| Act::Answer(b"SSH-2.0-OpenSSH\r\n".to_vec())).await;
    assert_eq!(stub.ufs.probe().await.unwrap_err().kind, UfsErrorKind::Unreachable);
}

#[tokio::test]
async fn another_region_is_named() {
    let stub = Stub::new(|_, _| answer("301 Moved Permanently", &[("x-amz-bucket-region", "eu-west-1")], b"")).await;
    let error = stub.ufs.probe().await.unwrap_err();
    assert!(
        error
            .message
            .contains("the bucket is in eu-west-1: set alluxio.underfs.s3.region"),
        "{error}"
    );
}

#[tokio::test]
async fn keys_go_over_the_wire_exactly() {
    let stub = Stub::new(|_, _| answer("200 OK", &[("ETag", "\"e\"")], b"")).await;
    let source = BytesSource(Bytes::new());
    let path = "a b/%2e+ä?#&=~'()*!\u{1}".as_bytes();
    stub.ufs
        .write(path, &source, &Expect::Any, &UfsAttributes::default())
        .await
        .unwrap();
    // The one before looks at what the object carries.
    let put = stub.seen().pop().unwrap();
    assert_eq!(
        put.line,
        "PUT /bucket/p/a%20b/%252e%2B%C3%A4%3F%23%26%3D~%27%28%29%2A%21%01"
    );
    assert_eq!(put.headers["x-amz-content-sha256"].len(), 64, "the body is signed");
    assert!(!put.headers.contains_key("x-amz-rename-source"));
}

#[tokio::test]
async fn options_that_make_no_sense_are_refused() {
    let conf = Configuration::default();
    let options = BTreeMap::from([("alluxio.underfs.s3.socket.timeout".to_owned(), "soon".to_owned())]);
    let error = open("s3://bucket", &options, &conf).unwrap_err();
    assert_eq!(error.kind, UfsErrorKind::Invalid, "{error}");
    assert!(error.message.contains("alluxio.underfs.s3.socket.timeout"), "{error}");
    let half = BTreeMap::from([("s3a.accessKeyId".to_owned(), "key".to_owned())]);
    assert_eq!(
        open("s3://bucket", &half, &conf).unwrap_err().kind,
        UfsErrorKind::Invalid
    );
}
