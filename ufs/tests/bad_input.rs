//! The table of bad input: each answer, silence and damage gives the right kind of error within the documented time, whatever was
//! being done, and nothing panics.
#![allow(clippy::unwrap_used, reason = "a test ends there")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use alluxio_common::config::Configuration;
use alluxio_tests::s3::memory::{Act, Content, Fault, Object};
use alluxio_tests::{MemoryS3, S3Server};
use alluxio_ufs::UfsErrorKind as Kind;
use alluxio_ufs::{BytesSource, Expect, PageToken, UfsAttributes, UfsResult, UnderFileSystem, open};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};

const SOCKET_TIMEOUT: Duration = Duration::from_millis(200);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// A call is a few requests one after the other, each within the time of a request; a read is resumed three times.
const CALL_TIME_MAX: Duration = Duration::from_secs(9);

fn open_at(endpoint: &str) -> Arc<dyn UnderFileSystem> {
    let mut options = alluxio_tests::s3::options_for(endpoint);
    for (key, value) in [
        ("alluxio.underfs.s3.max.error.retry", "1".to_owned()),
        (
            "alluxio.underfs.s3.socket.timeout",
            format!("{}ms", SOCKET_TIMEOUT.as_millis()),
        ),
        (
            "alluxio.underfs.s3.request.timeout",
            format!("{}ms", REQUEST_TIMEOUT.as_millis()),
        ),
    ] {
        options.insert(key.to_owned(), value);
    }
    open("s3://bucket/p", &options, &Configuration::default()).unwrap()
}

/// What is being done when it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Probe,
    Status,
    List,
    Read,
    Write,
    Edit,
    DeleteIf,
    Delete,
    Rename,
    Mkdir,
}

const CALLS: [Call; 10] = [
    Call::Probe,
    Call::Status,
    Call::List,
    Call::Read,
    Call::Write,
    Call::Edit,
    Call::DeleteIf,
    Call::Delete,
    Call::Rename,
    Call::Mkdir,
];

impl Call {
    /// The request that does the work of it.
    fn operation(self) -> &'static str {
        match self {
            Self::Probe | Self::List => "ListObjectsV2",
            Self::Status => "HeadObject",
            Self::Read => "GetObject",
            Self::Write | Self::Edit | Self::Mkdir => "PutObject",
            Self::DeleteIf => "DeleteObject",
            Self::Delete => "DeleteObjects",
            Self::Rename => "CopyObject",
        }
    }

    async fn run(self, ufs: &dyn UnderFileSystem, etag: &str) -> UfsResult<()> {
        let attributes = UfsAttributes::default();
        let source = BytesSource(Bytes::from_static(b"new"));
        match self {
            Self::Probe => ufs.probe().await,
            Self::Status => ufs.status(b"f").await.map(drop),
            Self::List => ufs.list(b"", None, 10).await.map(drop),
            Self::Read => {
                let stream = ufs.read(b"f", 0..10, etag).await?;
                let chunks: Vec<Bytes> = stream.try_collect().await?;
                assert_eq!(chunks.concat(), b"0123456789", "never other bytes");
                Ok(())
            }
            Self::Write => ufs.write(b"new", &source, &Expect::Absent, &attributes).await.map(drop),
            Self::Edit => {
                let expect = Expect::Fingerprint(etag.to_owned());
                ufs.write(b"f", &source, &expect, &attributes).await.map(drop)
            }
            Self::DeleteIf => ufs.delete_if(b"f", etag).await,
            Self::Delete => {
                let paths = [Bytes::from_static(b"f"), Bytes::from_static(b"g")];
                ufs.delete(&paths).await.into_iter().collect()
            }
            Self::Rename => ufs.rename(b"f", b"to").await.map(drop),
            Self::Mkdir => ufs.mkdir(b"dir", &attributes).await,
        }
    }
}

/// One object, `p/f`, and its ETag.
fn prepared(server: &MemoryS3) -> String {
    server.heal();
    for key in ["p/new", "p/to", "p/dir/"] {
        server.remove(key);
    }
    for key in ["p/f", "p/g"] {
        server.put(key, Object::plain(Content::from(Bytes::from_static(b"0123456789"))));
    }
    server.object("p/f").unwrap().etag
}

/// Runs a call, which must end in time and change nothing if it fails.
async fn ends(server: &MemoryS3, ufs: &dyn UnderFileSystem, call: Call, row: &str, etag: &str) -> Option<Kind> {
    let started = Instant::now();
    let result = tokio::time::timeout(CALL_TIME_MAX * 2, call.run(ufs, etag)).await;
    let result = result.unwrap_or_else(|_| panic!("{row}: {call:?} does not end"));
    assert!(
        started.elapsed() < CALL_TIME_MAX,
        "{row}: {call:?} took {:?}",
        started.elapsed()
    );
    let error = result.err()?;
    assert!(!error.message.is_empty());
    let there = server.object("p/f").map(|object| object.etag);
    assert_eq!(
        there.as_deref(),
        Some(etag),
        "{row}: {call:?} failed and changed something: {error}"
    );
    Some(error.kind)
}

/// What refuses every request, and what it is to a caller; also where only the request that matters is refused.
#[tokio::test(flavor = "multi_thread")]
async fn each_refusal_has_its_kind_whatever_was_being_done() {
    let rows = [
        (Act::Status(403, "AccessDenied"), Kind::Denied),
        (Act::Status(404, "NoSuchBucket"), Kind::StoreMissing),
        (Act::Status(409, "OperationAborted"), Kind::Throttled),
        (Act::Status(412, "PreconditionFailed"), Kind::PreconditionFailed),
        (Act::Status(416, "InvalidRange"), Kind::Invalid),
        (Act::Status(429, "TooManyRequests"), Kind::Throttled),
        (Act::Status(500, "InternalError"), Kind::Unreachable),
        (Act::Status(501, "NotImplemented"), Kind::Unsupported),
        (Act::Status(503, "SlowDown"), Kind::Throttled),
        (Act::Status(301, "PermanentRedirect"), Kind::Other),
        (Act::Foreign(503), Kind::Throttled),
        (Act::Foreign(500), Kind::Unreachable),
        (Act::Reset, Kind::Unreachable),
        (Act::Stall, Kind::Unreachable),
    ];
    let runs = rows.into_iter().map(|(act, kind)| {
        tokio::spawn(async move {
            let server = MemoryS3::start();
            let ufs = open_at(&server.endpoint());
            for call in CALLS {
                let row = format!("all {act:?}");
                let etag = prepared(&server);
                server.fail(Fault::new(act.clone()).always());
                assert_eq!(
                    ends(&server, &*ufs, call, &row, &etag).await,
                    Some(kind),
                    "{row}: {call:?}"
                );

                let row = format!("{} {act:?}", call.operation());
                let etag = prepared(&server);
                server.fail(Fault::new(act.clone()).on(call.operation()).always());
                let expected = match (call, kind) {
                    // HEAD says no more than its status.
                    (Call::Status, Kind::StoreMissing) => Some(Kind::NotFound),
                    // Somebody made the folder just now.
                    (Call::Mkdir, Kind::PreconditionFailed) => None,
                    // They go one by one.
                    (Call::Delete, Kind::Unsupported | Kind::Invalid) => None,
                    _ => Some(kind),
                };
                assert_eq!(
                    ends(&server, &*ufs, call, &row, &etag).await,
                    expected,
                    "{row}: {call:?}"
                );
            }
        })
    });
    for run in runs.collect::<Vec<_>>() {
        run.await.unwrap();
    }
}

/// Once or twice is not for ever: the call succeeds.
#[tokio::test(flavor = "multi_thread")]
async fn what_passes_is_waited_for() {
    for act in [
        Act::Status(503, "SlowDown"),
        Act::Status(500, "InternalError"),
        Act::Status(429, ""),
        Act::Reset,
        Act::Stall,
        Act::LoseAnswer,
    ] {
        let server = MemoryS3::start();
        let ufs = open_at(&server.endpoint());
        for call in CALLS {
            let etag = prepared(&server);
            server.fail(Fault::new(act.clone()).on(call.operation()));
            assert_eq!(
                ends(&server, &*ufs, call, "once", &etag).await,
                None,
                "{act:?}: {call:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_clocks_and_regions_that_are_wrong() {
    type Prepare = fn(&MemoryS3);
    let rows: [(&str, Prepare, Option<Kind>); 7] = [
        (
            "expired",
            |server| server.credentials(|known| known.values_mut().for_each(|known| known.expired = true)),
            Some(Kind::Denied),
        ),
        (
            "unknown",
            |server| server.credentials(|known| known.clear()),
            Some(Kind::Denied),
        ),
        (
            "skew",
            |server| server.habits(|habits| habits.clock_ahead_s = 3600),
            None,
        ),
        (
            "skew back",
            |server| server.habits(|habits| habits.clock_ahead_s = -86400),
            None,
        ),
        (
            "region",
            |server| server.habits(|habits| habits.region = "eu-west-1".to_owned()),
            None,
        ),
        (
            "region by a redirect",
            |server| {
                server.habits(|habits| {
                    habits.region = "eu-west-1".to_owned();
                    habits.region_status = 301;
                });
            },
            None,
        ),
        (
            "moved",
            |server| server.habits(|habits| habits.moved_to = Some("eu-west-1".to_owned())),
            Some(Kind::Other),
        ),
    ];
    for (row, prepare, kind) in rows {
        for call in CALLS {
            let server = MemoryS3::start();
            let etag = prepared(&server);
            prepare(&server);
            // Each call is the first to learn it.
            let ufs = open_at(&server.endpoint());
            let found = ends(&server, &*ufs, call, row, &etag).await;
            assert_eq!(found, kind, "{row}: {call:?}");
        }
    }
}

/// A burst of refusals passes within the retries of a request, whatever was being done.
#[tokio::test(flavor = "multi_thread")]
async fn bursts_of_refusals_are_waited_for() {
    for (status, code) in [(503, "SlowDown"), (429, "TooManyRequests"), (503, "ServiceUnavailable")] {
        let server = MemoryS3::start();
        let mut options = server.options();
        options.insert("alluxio.underfs.s3.max.error.retry".to_owned(), "6".to_owned());
        let ufs = open("s3://bucket/p", &options, &Configuration::default()).unwrap();
        for call in CALLS {
            let etag = prepared(&server);
            server.fail(Fault::new(Act::Status(status, code)).times(3));
            let found = ends(&server, &*ufs, call, "burst", &etag).await;
            assert_eq!(found, None, "{status} {code}: {call:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_not_what_was_told() {
    let server = MemoryS3::start();
    let ufs = open_at(&server.endpoint());
    for (act, times, expected) in [
        (Act::ShortBody(0), u32::MAX, Some(Kind::Unreachable)),
        (Act::ShortBody(4), u32::MAX, Some(Kind::Unreachable)),
        (Act::ShortBody(4), 1, None),
        (Act::StallBody(4), u32::MAX, Some(Kind::Unreachable)),
        (Act::StallBody(4), 1, None),
        (Act::WrongByte, u32::MAX, Some(Kind::Unreachable)),
        (Act::WrongByte, 1, None),
        (Act::Delay(SOCKET_TIMEOUT / 2), u32::MAX, None),
    ] {
        prepared(&server);
        // With a checksum, which an object that was put behind our back has not.
        server.remove("p/f");
        let body = BytesSource(Bytes::from_static(b"0123456789"));
        let written = ufs.write(b"f", &body, &Expect::Absent, &UfsAttributes::default()).await;
        let etag = written.unwrap().fingerprint;
        server.fail(Fault::new(act.clone()).on("GetObject").times(times));
        let row = format!("{act:?} x{times}");
        assert_eq!(ends(&server, &*ufs, Call::Read, &row, &etag).await, expected, "{row}");
    }
    // A longer body: the bytes that were asked for, or an error.
    let etag = prepared(&server);
    server.fail(Fault::new(Act::LongBody(5)).on("GetObject").always());
    let kind = ends(&server, &*ufs, Call::Read, "longer", &etag).await;
    assert!(matches!(kind, None | Some(Kind::Other)), "{kind:?}");
}

async fn whole_listing(ufs: &dyn UnderFileSystem) -> UfsResult<Vec<Bytes>> {
    let mut names = Vec::new();
    let mut token: Option<PageToken> = None;
    for _ in 0..100 {
        let page = ufs.list(b"", token, 2).await?;
        names.extend(page.entries.into_iter().map(|entry| entry.name));
        match page.next {
            Some(next) => token = Some(next),
            None => return Ok(names),
        }
    }
    panic!("the listing does not end");
}

#[tokio::test(flavor = "multi_thread")]
async fn listings_that_lie_hide_nothing() {
    let server = MemoryS3::start();
    let ufs = open_at(&server.endpoint());
    for number in 0..7 {
        server.put(&format!("p/{number}"), Object::plain(Content::default()));
    }
    let all = whole_listing(&*ufs).await.unwrap();
    assert_eq!(all.len(), 7);
    for act in [Act::LoseToken, Act::RepeatToken] {
        for after in 0..4 {
            server.heal();
            server.fail(Fault::new(act.clone()).on("ListObjectsV2").after(after).always());
            let error = whole_listing(&*ufs).await.unwrap_err();
            assert_eq!(error.kind, Kind::Other, "{act:?} after {after}: {error}");
        }
        server.heal();
        server.fail(Fault::new(act.clone()).on("ListObjectsV2").always());
        assert!(ufs.rename(b"dir", b"other").await.is_err());
    }
    server.heal();
    for act in [Act::ShortBody(50), Act::StallBody(50)] {
        server.fail(Fault::new(act.clone()).on("ListObjectsV2"));
        assert_eq!(whole_listing(&*ufs).await.unwrap(), all, "{act:?}");
    }
    // A bucket cannot say that a key is missing.
    server.fail(Fault::new(Act::Status(404, "NoSuchKey")).on("ListObjectsV2").always());
    assert_eq!(ufs.list(b"", None, 10).await.unwrap_err().kind, Kind::StoreMissing);
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_keys_are_counted_and_stay() {
    let server = MemoryS3::start();
    let ufs = open_at(&server.endpoint());
    let hostile = ["p/../x", "p/./y", "p//z", "p/nul\0", "../p/f"];
    let fine = ["p/a b", "p/c\u{1}d", "p/e\u{301}", "p/%2e%2e", "p/new\nline", "p/+"];
    for key in hostile.iter().chain(&fine) {
        server.put(key, Object::plain(Content::from(Bytes::from_static(b"x"))));
    }
    let page = ufs.list(b"", None, 100).await.unwrap();
    let mut names: Vec<_> = page
        .entries
        .iter()
        .map(|entry| format!("p/{}", String::from_utf8_lossy(&entry.name)))
        .collect();
    names.sort();
    let mut expected: Vec<_> = fine.iter().map(|key| (*key).to_owned()).collect();
    expected.sort();
    assert_eq!(names, expected);
    assert_eq!(page.skipped, 4);
    for key in fine {
        let path = key.strip_prefix("p/").unwrap().as_bytes();
        let status = ufs.status(path).await.unwrap();
        let mut stream = ufs.read(path, 0..1, &status.fingerprint).await.unwrap();
        assert_eq!(stream.next().await.unwrap().unwrap(), "x", "{key:?}");
        ufs.delete_if(path, &status.fingerprint).await.unwrap();
    }
    let mut left: Vec<_> = hostile.iter().map(|key| (*key).to_owned()).collect();
    left.sort();
    assert_eq!(server.keys(), left);
}

/// Between any two requests of a call somebody replaces or deletes the object: his stays, and nothing of it is taken for ours.
#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_changes_between_two_requests() {
    for call in [Call::Read, Call::Edit, Call::DeleteIf, Call::Rename] {
        for before in 0..8 {
            for replaced in [true, false] {
                let server = MemoryS3::start();
                let ufs = open_at(&server.endpoint());
                let etag = prepared(&server);
                server.clear_log();
                // The request is held up for as long as it takes to change the object.
                server.fail(Fault::new(Act::Delay(SOCKET_TIMEOUT / 2)).after(before));
                let run = tokio::spawn({
                    let (ufs, etag) = (ufs.clone(), etag.clone());
                    async move { call.run(&*ufs, &etag).await }
                });
                let deadline = Instant::now() + CALL_TIME_MAX;
                while server.log().len() < before as usize && !run.is_finished() && Instant::now() < deadline {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                let done_before = run.is_finished();
                match replaced {
                    true => server.put("p/f", Object::plain(Content::from(Bytes::from_static(b"theirs")))),
                    false => server.remove("p/f"),
                }
                let result = run.await.unwrap();
                let there = server.object("p/f").map(|object| object.content.bytes());
                let row = format!("{call:?} {before} {replaced}: {result:?}, {there:?}");
                if let Err(error) = &result {
                    assert!(matches!(error.kind, Kind::PreconditionFailed | Kind::NotFound), "{row}");
                }
                if replaced {
                    assert!(
                        done_before || result.is_ok() || there.as_deref() == Some(b"theirs"),
                        "{row}"
                    );
                    // What was renamed is one of the two, whole.
                    if let Some(moved) = server.object("p/to") {
                        assert!(matches!(&moved.content.bytes()[..], b"0123456789" | b"theirs"), "{row}");
                    }
                }
                if done_before {
                    break;
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_there_and_no_tls() {
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let server = MemoryS3::start();
    let etag = prepared(&server);
    let secure = server.endpoint().replace("http://", "https://");
    // Whose authority nobody here trusts.
    let untrusted = MemoryS3::start_tls();
    for endpoint in [format!("http://127.0.0.1:{port}"), secure, untrusted.endpoint()] {
        let ufs = open_at(&endpoint);
        for call in CALLS {
            let kind = ends(&server, &*ufs, call, &endpoint, &etag).await;
            assert_eq!(kind, Some(Kind::Unreachable), "{endpoint}: {call:?}");
        }
    }
}
