//! How a store is treated: how many requests and bytes it gets, what becomes of silence and slowness, and what is counted.
#![allow(clippy::unwrap_used, reason = "a test ends there")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use alluxio_common::config::Configuration;
use alluxio_common::metrics::Metrics;
use alluxio_tests::s3::memory::{Act, Content, Fault, Object};
use alluxio_tests::{MemoryS3, S3Server};
use alluxio_ufs::{BytesSource, Expect, UfsAttributes, UfsErrorKind, UfsResult, UnderFileSystem, open};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};

const RETRIES: &str = "alluxio.underfs.s3.max.error.retry";
const BODY: &[u8] = b"0123456789";

fn open_with(server: &MemoryS3, more: &[(&str, &str)]) -> (Arc<dyn UnderFileSystem>, Metrics) {
    let mut options = server.options();
    options.extend(more.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    let ufs = open("s3://bucket/p", &options, &Configuration::default()).unwrap();
    let metrics = Metrics::new();
    ufs.metrics().serve_in(&metrics, "Worker", "s3://bucket/p");
    (ufs, metrics)
}

fn value(metrics: &Metrics, what: &str, verb: &str) -> i64 {
    let name = format!("Worker.{what}.UFS:s3://bucket/p.Verb:{verb}");
    metrics.value(&name).unwrap_or(0)
}

fn server() -> MemoryS3 {
    let server = MemoryS3::start();
    server.put("p/f", Object::plain(Content::from(Bytes::from_static(BODY))));
    server
}

async fn read(ufs: &dyn UnderFileSystem) -> UfsResult<Vec<u8>> {
    let chunks: Vec<Bytes> = ufs.read(b"f", 0..BODY.len() as u64, "").await?.try_collect().await?;
    Ok(chunks.concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_says_slow_down_gets_fewer_requests() {
    let server = server();
    let (ufs, metrics) = open_with(&server, &[(RETRIES, "10"), ("alluxio.underfs.s3.hedge.ratio", "0")]);
    server.habits(|habits| habits.requests_per_s = 50);
    let reads = stream::iter(0..300).map(|_| read(&*ufs)).buffer_unordered(40);
    let results: Vec<UfsResult<Vec<u8>>> = reads.collect().await;
    for result in results {
        assert_eq!(result.unwrap(), BODY);
    }
    let log = server.seen("GetObject");
    let refused = log.iter().filter(|seen| seen.status == 503).count();
    // Whoever just tries again is refused most of the time; how near the limit ours goes depends on the machine.
    assert!(refused * 3 < log.len(), "{refused} of {} were refused", log.len());
    assert_eq!(value(&metrics, "UfsRetries", "GetObject"), refused as i64);
    let name = "Worker.UfsErrors.UFS:s3://bucket/p.Verb:GetObject.Kind:Throttled";
    assert_eq!(metrics.value(name), Some(refused as i64));
    // It goes on as before once it may.
    server.habits(|habits| habits.requests_per_s = 0);
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let started = Instant::now();
        stream::iter(0..100)
            .map(|_| read(&*ufs))
            .buffer_unordered(20)
            .collect::<Vec<_>>()
            .await;
        if started.elapsed() < Duration::from_millis(700) {
            break;
        }
        assert!(Instant::now() < deadline, "it does not recover");
    }
}

/// Bytes that do not come for as long as there may be silence are asked for elsewhere, of the same object.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_body_is_given_up_and_the_rest_asked_for() {
    let server = server();
    // The default for a body; a request may take much longer.
    let (ufs, _) = open_with(&server, &[]);
    server.fail(Fault::new(Act::StallBody(4)).on("GetObject"));
    let started = Instant::now();
    assert_eq!(read(&*ufs).await.unwrap(), BODY);
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    let asked = server.seen("GetObject");
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[1].headers["range"], "bytes=4-9");
    let etag = server.object("p/f").unwrap().etag;
    assert_eq!(asked[1].headers["if-match"], format!("\"{etag}\""));

    let (ufs, _) = open_with(&server, &[("alluxio.underfs.s3.body.stall.timeout", "200ms")]);
    server.fail(Fault::new(Act::StallBody(4)).on("GetObject").times(2));
    let started = Instant::now();
    assert_eq!(read(&*ufs).await.unwrap(), BODY);
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_takes_long_is_sent_twice_and_few_are() {
    let server = server();
    let (ufs, metrics) = open_with(&server, &[]);
    for _ in 0..120 {
        read(&*ufs).await.unwrap();
    }
    server.clear_log();
    server.fail(Fault::new(Act::Delay(Duration::from_secs(10))).on("GetObject"));
    let started = Instant::now();
    assert_eq!(read(&*ufs).await.unwrap(), BODY);
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert_eq!(value(&metrics, "UfsHedges", "GetObject"), 1);
    // A store that is slow with everything is not asked twice as much.
    server.fail(
        Fault::new(Act::Delay(Duration::from_millis(700)))
            .on("GetObject")
            .always(),
    );
    let reads = stream::iter(0..40).map(|_| read(&*ufs)).buffer_unordered(10);
    reads
        .collect::<Vec<_>>()
        .await
        .into_iter()
        .for_each(|result| assert_eq!(result.unwrap(), BODY));
    let hedges = value(&metrics, "UfsHedges", "GetObject");
    assert!(hedges <= 3, "{hedges}");
}

/// Who waits for a store that is away does not keep it from coming back.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_does_not_answer_is_asked_by_one_at_a_time() {
    let server = server();
    let (ufs, _) = open_with(&server, &[]);
    server.fail(Fault::new(Act::Reset).always());
    server.clear_log();
    let until = Instant::now() + Duration::from_secs(4);
    let ask = || async {
        let mut last = None;
        while Instant::now() < until {
            last = read(&*ufs).await.err();
        }
        last.unwrap()
    };
    let errors: Vec<_> = stream::iter(0..20).map(|_| ask()).buffer_unordered(20).collect().await;
    assert!(errors.iter().all(|error| error.kind == UfsErrorKind::Unreachable));
    // But for those whose turn it was.
    let told = errors
        .iter()
        .filter(|error| error.message.contains("requests in a row"));
    assert!(told.count() > 10, "{errors:#?}");
    let asked = server.log().len();
    assert!(asked < 60, "{asked} requests to a store that does not answer");
    server.heal();
    let back = Instant::now();
    while read(&*ufs).await.is_err() {
        assert!(back.elapsed() < Duration::from_secs(4), "it is back");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_requests_are_in_flight_than_may_be() {
    let server = server();
    let delay = Duration::from_millis(200);
    server.fail(Fault::new(Act::Delay(delay)).on("GetObject").always());
    let took = |most: &'static str| {
        let (ufs, _) = open_with(&server, &[("alluxio.underfs.s3.threads.max", most)]);
        async move {
            let started = Instant::now();
            let reads = stream::iter(0..12).map(|_| read(&*ufs)).buffer_unordered(12);
            reads
                .collect::<Vec<_>>()
                .await
                .into_iter()
                .for_each(|result| assert_eq!(result.unwrap(), BODY));
            started.elapsed()
        }
    };
    assert!(took("2").await >= delay * 6);
    assert!(took("0").await < delay * 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_go_no_faster_than_they_may() {
    let server = server();
    let (ufs, metrics) = open_with(
        &server,
        &[
            ("alluxio.underfs.s3.upload.bandwidth.max", "1MB"),
            ("alluxio.underfs.s3.download.bandwidth.max", "2MB"),
        ],
    );
    let body = Bytes::from(vec![7; 1 << 19]);
    let started = Instant::now();
    for name in ["a", "b", "c"] {
        let source = BytesSource(body.clone());
        let attributes = UfsAttributes::default();
        ufs.write(name.as_bytes(), &source, &Expect::Any, &attributes)
            .await
            .unwrap();
    }
    // The last one's time is for whoever comes next.
    let took = started.elapsed();
    assert!(
        took >= Duration::from_millis(850) && took < Duration::from_secs(10),
        "{took:?}"
    );
    let started = Instant::now();
    for name in ["a", "b", "c"] {
        let read = ufs.read(name.as_bytes(), 0..body.len() as u64, "").await.unwrap();
        let chunks: Vec<Bytes> = read.try_collect().await.unwrap();
        assert_eq!(chunks.concat(), body);
    }
    let took = started.elapsed();
    assert!(
        took >= Duration::from_millis(350) && took < Duration::from_secs(10),
        "{took:?}"
    );
    assert_eq!(value(&metrics, "UfsBytes", "PutObject"), 3 << 19);
    assert_eq!(value(&metrics, "UfsBytes", "GetObject"), 3 << 19);
    assert_eq!(value(&metrics, "UfsLatency", "GetObject"), 3);
}

/// Many are deleted by one request; what of them is refused is said of them alone.
#[tokio::test(flavor = "multi_thread")]
async fn many_are_deleted_by_one_request() {
    let server = server();
    for number in 0..1500 {
        server.put(&format!("p/d/{number}"), Object::plain(Content::default()));
    }
    server.forbid("DeleteObject", "p/d/77");
    let (ufs, metrics) = open_with(&server, &[]);
    let paths: Vec<Bytes> = (0..1500).map(|number| Bytes::from(format!("d/{number}"))).collect();
    let results = ufs.delete(&paths).await;
    for (path, result) in paths.iter().zip(results) {
        let refused = path.starts_with(b"d/77");
        assert_eq!(result.is_err(), refused, "{path:?} {result:?}");
    }
    assert_eq!(server.log().len(), 2);
    assert_eq!(value(&metrics, "UfsRequests", "DeleteObjects"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canned_acl_goes_with_what_is_written() {
    let server = server();
    let (ufs, _) = open_with(&server, &[("alluxio.underfs.s3.acl", "bucket-owner-full-control")]);
    let source = BytesSource(Bytes::from_static(b"x"));
    ufs.write(b"w", &source, &Expect::Absent, &UfsAttributes::default())
        .await
        .unwrap();
    let large = BytesSource(vec![1; 9 << 20].into());
    ufs.write(b"l", &large, &Expect::Absent, &UfsAttributes::default())
        .await
        .unwrap();
    ufs.rename(b"w", b"v").await.unwrap();
    for operation in ["PutObject", "CreateMultipartUpload", "CopyObject"] {
        for seen in server.seen(operation) {
            assert_eq!(seen.headers["x-amz-acl"], "bucket-owner-full-control", "{operation}");
        }
    }
    assert!(
        server
            .seen("UploadPart")
            .iter()
            .all(|seen| !seen.headers.contains_key("x-amz-acl"))
    );
    // A bucket without ACLs: it is said what to do, and nothing else is tried.
    server.fail(
        Fault::new(Act::Status(400, "AccessControlListNotSupported"))
            .on("PutObject")
            .always(),
    );
    server.clear_log();
    let error = ufs
        .write(b"n", &source, &Expect::Absent, &UfsAttributes::default())
        .await
        .unwrap_err();
    assert!(error.message.contains("leave alluxio.underfs.s3.acl empty"), "{error}");
    assert_eq!(server.seen("PutObject").len(), 1);
}
