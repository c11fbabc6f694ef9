//! Buckets that others use, through servers that answer for the store: nothing of theirs is lost by what we make beside it.
#![allow(clippy::unwrap_used, reason = "a test ends there")]

use std::sync::Arc;

use alluxio_common::config::Configuration;
use alluxio_proto::types::FileKind;
use alluxio_tests::s3::memory::{Act, Content, Fault, Object};
use alluxio_tests::{MemoryS3, S3Server};
use alluxio_ufs::{BytesSource, Expect, UfsAttributes, UfsErrorKind, UnderFileSystem, open};
use bytes::Bytes;
use futures::TryStreamExt;

fn open_ufs(server: &MemoryS3, uri: &str) -> Arc<dyn UnderFileSystem> {
    open(uri, &server.options(), &Configuration::default()).unwrap()
}

async fn write(ufs: &dyn UnderFileSystem, path: &[u8]) -> String {
    let source = BytesSource(Bytes::from_static(b"ours"));
    let written = ufs.write(path, &source, &Expect::Any, &UfsAttributes::default()).await;
    written.unwrap().fingerprint
}

/// Some programs keep bytes under the key that tells of a folder.
#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_keeps_in_a_folders_marker_stays() {
    let theirs = |bytes: &'static [u8]| Object::plain(Content::from(Bytes::from_static(bytes)));
    let attributes = UfsAttributes {
        mode: Some(0o750),
        ..UfsAttributes::default()
    };
    for marker in ["d/", ".alluxio-folder"] {
        let server = MemoryS3::start();
        server.put(marker, theirs(b"theirs"));
        let ufs = open_ufs(&server, "s3://bucket/");
        let dir = &b"d"[..if marker == "d/" { 1 } else { 0 }];
        let file: &[u8] = if dir.is_empty() { b"f" } else { b"d/f" };
        write(&*ufs, file).await;
        if !dir.is_empty() {
            ufs.mkdir(dir, &UfsAttributes::default()).await.unwrap();
        }
        ufs.set_attributes(dir, FileKind::Directory, &attributes, "")
            .await
            .unwrap();
        assert_eq!(server.object(marker).unwrap().content.bytes(), "theirs", "{marker}");
    }
}

/// A balancer's own answer says nothing of the store: it is asked again, with all that protects others.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_another_server_gives_up_no_condition_and_no_checksum() {
    for status in [400, 405, 501] {
        let server = MemoryS3::start();
        let ufs = open_ufs(&server, "s3://bucket/p");
        for operation in ["PutObject", "GetObject", "DeleteObject"] {
            server.clear_log();
            let etag = write(&*ufs, b"f").await;
            server.fail(Fault::new(Act::Foreign(status)).on(operation));
            let source = BytesSource(Bytes::from_static(b"more"));
            let over = Expect::Fingerprint(etag);
            let written = ufs
                .write(b"f", &source, &over, &UfsAttributes::default())
                .await
                .unwrap();
            let read: Vec<Bytes> = ufs.read(b"f", 0..4, "").await.unwrap().try_collect().await.unwrap();
            assert_eq!(read.concat(), b"more");
            ufs.delete_if(b"f", &written.fingerprint).await.unwrap();
            for (operation, header) in [("GetObject", "x-amz-checksum-mode"), ("DeleteObject", "if-match")] {
                let bare = |seen: &alluxio_tests::s3::memory::Seen| !seen.headers.contains_key(header);
                assert!(
                    !server.seen(operation).iter().any(bare),
                    "{status}: {operation} without {header}"
                );
            }
            assert!(
                server
                    .seen("PutObject")
                    .iter()
                    .any(|seen| seen.headers.contains_key("if-match")),
                "{status}: an unconditional PUT"
            );
        }
    }
}

/// What is gone is the upload, not the object: it is no absence of the object that decides over names.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_in_parts_whose_answer_was_lost_is_no_absence() {
    for is_folder in [false, true] {
        let server = MemoryS3::start();
        let mut options = server.options();
        for (key, value) in [
            ("alluxio.underfs.s3.copy.part.size", "5MB"),
            ("alluxio.underfs.s3.max.error.retry", "2"),
        ] {
            options.insert(key.to_owned(), value.to_owned());
        }
        let ufs = open("s3://bucket/p", &options, &Configuration::default()).unwrap();
        let body = Bytes::from(vec![7; (5 << 20) + 1]);
        server.put("p/d/f", Object::plain(Content::from(body.clone())));
        server.fail(Fault::new(Act::LoseAnswer).on("CompleteMultipartUpload"));
        let (from, to) = if is_folder { ("d", "e") } else { ("d/f", "e/f") };
        if let Err(error) = ufs.rename(from.as_bytes(), to.as_bytes()).await {
            assert_eq!(error.kind, UfsErrorKind::Unreachable, "{error}");
            ufs.rename(from.as_bytes(), to.as_bytes()).await.unwrap();
        }
        assert!(server.object("p/d/f").is_none(), "it is at both places");
        assert_eq!(server.object("p/e/f").unwrap().content.bytes(), body);
    }
}
