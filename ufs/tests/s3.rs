//! The conformance suite and more on two real S3 servers.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod servers;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alluxio_common::config::Configuration;
use alluxio_ufs::conformance::{self, Profile, RawKeys};
use alluxio_ufs::{BytesSource, Expect, UfsAttributes, UfsErrorKind, UfsResult, UploadSource, open};
use bytes::Bytes;
use servers::{BUCKET, Server, target};

/// Puts keys by raw requests.
struct Raw {
    server: Arc<Server>,
    prefix: &'static str,
}

#[async_trait::async_trait]
impl RawKeys for Raw {
    async fn put(&self, key: &str, body: &[u8]) {
        let target = target(&format!("{}/{key}", self.prefix));
        let (status, answer) = self.server.raw("PUT", &target, body).await;
        assert_eq!(status, 200, "PUT {target}: {answer}");
    }
    async fn delete(&self, key: &str) {
        let target = target(&format!("{}/{key}", self.prefix));
        let (status, answer) = self.server.raw("DELETE", &target, b"").await;
        assert_eq!(status, 204, "DELETE {target}: {answer}");
    }
}

#[tokio::test]
async fn versitygw_conforms() {
    let server = Server::versitygw();
    let profile = Profile {
        // Keys are paths of its own file system there, and its listings give control characters as U+FFFD.
        file_beside_folder: false,
        control_characters: false,
        key_bytes_max: 1024 - "some/prefix/".len(),
        large_bytes: 11 << 20,
        ..Profile::object()
    };
    conformance::run(server.open("some/prefix"), profile).await;
}

#[tokio::test]
async fn moto_conforms() {
    let server = Arc::new(Server::moto().await);
    let ufs = server.open("pre fix/ä");
    let profile = Profile {
        large_bytes: 11 << 20,
        key_bytes_max: 1024 - "pre fix/ä/".len(),
        // Its router takes no keys with a line break.
        line_breaks: false,
        raw: Some(Arc::new(Raw {
            server: server.clone(),
            prefix: "pre fix/ä",
        })),
        ..Profile::object()
    };
    conformance::run(ufs, profile).await;
}

#[tokio::test]
async fn wrong_credentials_and_missing_buckets_are_told_apart() {
    let server = Server::versitygw();
    let conf = Configuration::default();
    let mut options = server.options();
    let missing = open("s3://no-such-bucket/x", &options, &conf).unwrap();
    for error in [
        missing.probe().await.unwrap_err(),
        missing.status(b"name").await.unwrap_err(),
        missing.list(b"", None, 10).await.unwrap_err(),
        missing.list(b"dir", None, 10).await.unwrap_err(),
    ] {
        assert_eq!(error.kind, UfsErrorKind::StoreMissing, "{error}");
        assert!(
            error.message.contains("bucket no-such-bucket does not exist"),
            "{error}"
        );
    }
    for (key, value) in [("s3a.secretKey", "wrong"), ("s3a.accessKeyId", "NOBODY")] {
        options.insert(key.to_owned(), value.to_owned());
        let denied = open(&format!("s3://{BUCKET}/x"), &options, &conf).unwrap();
        let source = BytesSource(Bytes::from_static(b"x"));
        for error in [
            denied.probe().await.unwrap_err(),
            denied.status(b"name").await.unwrap_err(),
            denied
                .write(b"name", &source, &Expect::Any, &UfsAttributes::default())
                .await
                .unwrap_err(),
            denied
                .delete(&[Bytes::from_static(b"name")])
                .await
                .remove(0)
                .unwrap_err(),
        ] {
            assert_eq!(error.kind, UfsErrorKind::Denied, "{error}");
            assert!(
                error.message.contains("s3a.secretKey"),
                "it says what to check: {error}"
            );
            assert!(!error.message.contains("secret/with"), "no secret in messages");
        }
    }
}

#[tokio::test]
async fn thousands_of_keys_in_pages_and_batches() {
    let server = Server::versitygw();
    let folder = server.folder.path().join(BUCKET).join("many");
    std::fs::create_dir(&folder).unwrap();
    for index in 0..2500 {
        std::fs::write(folder.join(format!("f {index:04}")), "x").unwrap();
    }
    let ufs = server.open("many");
    let mut names = BTreeSet::new();
    let mut token = None;
    let mut pages = 0;
    loop {
        let page = ufs.list(b"", token, 1000).await.unwrap();
        pages += 1;
        names.extend(page.entries.into_iter().map(|entry| entry.name));
        token = page.next;
        if token.is_none() {
            break;
        }
    }
    assert_eq!((names.len(), pages), (2500, 3));
    let before = ufs.metrics().snapshot().0;
    let names: Vec<Bytes> = names.into_iter().collect();
    assert!(ufs.delete(&names).await.iter().all(Result::is_ok));
    assert_eq!(ufs.metrics().snapshot().0 - before, 3, "deletes go in batches");
    assert!(ufs.list(b"", None, 10).await.unwrap().entries.is_empty());
}

#[tokio::test]
async fn of_many_writers_of_a_new_name_one_wins() {
    let server = Server::versitygw();
    let ufs = server.open("race");
    let writers = (0..8).map(|number: u8| {
        let ufs = ufs.clone();
        tokio::spawn(async move {
            let source = BytesSource(vec![number; 1000].into());
            ufs.write(b"name", &source, &Expect::Absent, &UfsAttributes::default())
                .await
        })
    });
    let results = futures::future::join_all(writers).await;
    let results: Vec<UfsResult<_>> = results.into_iter().map(Result::unwrap).collect();
    let winners: Vec<_> = results.iter().flatten().collect();
    assert_eq!(winners.len(), 1, "{results:?}");
    for error in results.iter().filter_map(|result| result.as_ref().err()) {
        assert_eq!(error.kind, UfsErrorKind::PreconditionFailed, "{error}");
    }
    assert_eq!(ufs.status(b"name").await.unwrap().fingerprint, winners[0].fingerprint);
}

/// Gives its first part and then waits for ever.
struct Stalling {
    reads: tokio::sync::Semaphore,
}

#[async_trait::async_trait]
impl UploadSource for Stalling {
    fn length(&self) -> u64 {
        20 << 20
    }
    async fn read_at(&self, offset: u64, length: u64) -> UfsResult<Bytes> {
        if offset > 0 {
            self.reads.add_permits(1);
            std::future::pending::<()>().await;
        }
        Ok(vec![0; length as usize].into())
    }
}

async fn pending_uploads(server: &Server) -> usize {
    let (status, body) = server.raw("GET", &format!("/{BUCKET}?uploads"), b"").await;
    assert_eq!(status, 200, "{body}");
    body.matches("<UploadId>").count()
}

#[tokio::test]
async fn uploads_left_behind_are_aborted() {
    let server = Server::moto().await;
    let ufs = server.open("ours");
    // A cancelled write aborts its own.
    let source = Stalling {
        reads: tokio::sync::Semaphore::new(0),
    };
    {
        let attributes = UfsAttributes::default();
        let write = ufs.write(b"cancelled", &source, &Expect::Any, &attributes);
        tokio::select! {
            _ = write => panic!("the source never ends"),
            _ = source.reads.acquire() => {}
        }
    }
    let deadline = Instant::now() + Duration::from_secs(10);
    while pending_uploads(&server).await > 0 {
        assert!(
            Instant::now() < deadline,
            "the upload of a cancelled write is not aborted"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Those of other programs stay, also beneath our prefix: a listing does not say whose they are.
    for key in ["ours/a b", "ours/c", "ours-not", "other/d"] {
        let (status, body) = server.raw("POST", &format!("{}?uploads", target(key)), b"").await;
        assert_eq!(status, 200, "{body}");
    }
    // moto gives every upload the same, old, date.
    assert_eq!(ufs.abort_stale_uploads(Duration::ZERO).await.unwrap(), 0);
    assert_eq!(pending_uploads(&server).await, 4);
    // One that a process of ours noted, and then died.
    let (_, body) = server
        .raw("POST", &format!("{}?uploads", target("ours/left")), b"")
        .await;
    let id = body
        .split("<UploadId>")
        .nth(1)
        .and_then(|rest| rest.split('<').next())
        .unwrap();
    let encoded =
        |text: &str| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string();
    let label = encoded(&format!("s3://{BUCKET}/ours"));
    let note = format!("alluxio-upload-1\n{label}\n{}\n{}\n", encoded("ours/left"), encoded(id));
    std::fs::create_dir_all(server.uploads()).unwrap();
    std::fs::write(server.uploads().join("1.upload"), note).unwrap();
    assert_eq!(
        ufs.abort_stale_uploads(Duration::from_secs(3600)).await.unwrap(),
        0,
        "too young"
    );
    assert_eq!(ufs.abort_stale_uploads(Duration::ZERO).await.unwrap(), 1);
    assert_eq!(pending_uploads(&server).await, 4);
    assert_eq!(std::fs::read_dir(server.uploads()).unwrap().count(), 0);
}

#[tokio::test]
async fn uploads_under_way_are_left_alone() {
    let server = Server::versitygw();
    let ufs = server.open("young");
    let source = Stalling {
        reads: tokio::sync::Semaphore::new(0),
    };
    let attributes = UfsAttributes::default();
    let write = ufs.write(b"slow", &source, &Expect::Any, &attributes);
    tokio::pin!(write);
    tokio::select! {
        _ = &mut write => panic!("the source never ends"),
        _ = source.reads.acquire() => {}
    }
    assert_eq!(std::fs::read_dir(server.uploads()).unwrap().count(), 1, "it is noted");
    assert_eq!(
        ufs.abort_stale_uploads(Duration::ZERO).await.unwrap(),
        0,
        "it is under way"
    );
}

/// What is deleted is what was seen, on each kind of store.
#[tokio::test]
async fn another_object_in_its_place_is_not_deleted() {
    let (versity, moto) = (Server::versitygw(), Server::moto().await);
    let folder = tempfile::tempdir().unwrap();
    let posix = alluxio_ufs::open(
        folder.path().to_str().unwrap(),
        &Default::default(),
        &alluxio_common::config::Configuration::default(),
    )
    .unwrap();
    for ufs in [versity.open("p"), moto.open("p"), posix] {
        let put = |text: &'static str| {
            let ufs = ufs.clone();
            async move {
                let source = BytesSource(bytes::Bytes::from_static(text.as_bytes()));
                ufs.write(b"f", &source, &Expect::Any, &UfsAttributes::default())
                    .await
                    .unwrap()
                    .fingerprint
            }
        };
        let ours = put("ours").await;
        let theirs = put("theirs!").await;
        let refused = ufs.delete_if(b"f", &ours).await.unwrap_err();
        assert_eq!(refused.kind, UfsErrorKind::PreconditionFailed, "{ufs:?}: {refused}");
        assert_eq!(ufs.status(b"f").await.unwrap().fingerprint, theirs);
        ufs.delete_if(b"f", &theirs).await.unwrap();
        assert_eq!(ufs.status(b"f").await.unwrap_err().kind, UfsErrorKind::NotFound);
        ufs.delete_if(b"f", &theirs).await.unwrap();
    }
}

#[tokio::test]
async fn what_is_logged_of_a_store_holds_no_credentials() {
    let server = Server::versitygw();
    let shown = format!("{:?}", server.open("p"));
    assert!(shown.contains(BUCKET), "{shown}");
    for (key, value) in server.options() {
        assert!(
            !alluxio_common::config::is_credential(&key) || !shown.contains(&value),
            "{shown}"
        );
    }
}
