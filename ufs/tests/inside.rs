//! Copies from one mount to another inside a store that both are of.
#![allow(clippy::unwrap_used, reason = "a test ends there")]

use std::collections::BTreeMap;
use std::sync::Arc;

use alluxio_common::config::Configuration;
use alluxio_tests::s3::memory::{Act, Conditions, Content, Fault, Object};
use alluxio_tests::{MemoryS3, S3Server};
use alluxio_ufs::{
    BytesSource, Expect, Inside, UfsAttributes, UfsErrorKind, UfsResult, UfsStatus, UnderFileSystem, open,
};
use bytes::Bytes;
use futures::TryStreamExt;

const MIB: usize = 1 << 20;

fn bucket(server: &MemoryS3, uri: &str, more: &[(&str, &str)]) -> Arc<dyn UnderFileSystem> {
    let mut options = server.options();
    for (key, value) in [("alluxio.underfs.s3.copy.part.size", "5MB")].iter().chain(more) {
        options.insert((*key).to_owned(), (*value).to_owned());
    }
    open(uri, &options, &Configuration::default()).unwrap()
}

fn folder(path: &std::path::Path) -> Arc<dyn UnderFileSystem> {
    let uri = path.to_str().unwrap();
    open(uri, &BTreeMap::new(), &Configuration::default()).unwrap()
}

fn named(name: &str) -> UfsAttributes {
    UfsAttributes {
        mode: Some(0o640),
        write_id: Some(name.to_owned()),
        ..Default::default()
    }
}

async fn put(ufs: &dyn UnderFileSystem, path: &str, body: &[u8]) -> String {
    let source = BytesSource(Bytes::copy_from_slice(body));
    let none = UfsAttributes::default();
    let written = ufs.write(path.as_bytes(), &source, &Expect::Any, &none).await;
    written.unwrap().fingerprint
}

async fn read(ufs: &dyn UnderFileSystem, path: &str) -> Vec<u8> {
    let status = ufs.status(path.as_bytes()).await.unwrap();
    let stream = ufs
        .read(path.as_bytes(), 0..status.length, &status.fingerprint)
        .await
        .unwrap();
    let parts: Vec<Bytes> = stream.try_collect().await.unwrap();
    parts.concat()
}

async fn copy(
    from: &dyn UnderFileSystem,
    fingerprint: &str,
    to: &dyn UnderFileSystem,
    expect: Expect,
    how: Inside,
) -> UfsResult<UfsStatus> {
    let export = from.export(b"d/f", fingerprint).await?;
    to.import(&export, b"e/g", &expect, &named("copied"), how).await
}

#[tokio::test]
async fn a_bucket_takes_an_object_of_another_one_with_all_that_it_carries() {
    let server = MemoryS3::start();
    server.add_bucket("other");
    let (from, to) = (
        bucket(&server, "s3://bucket/p", &[]),
        bucket(&server, "s3://other/", &[]),
    );
    assert!(from.store().is_some() && from.store() == to.store());
    for size in [0, 1000, 11 * MIB] {
        let body = vec![b'b'; size];
        let mut object = Object::plain(Content::from(Bytes::from(body.clone())));
        object.headers.insert("content-type".into(), "text/plain".into());
        object.metadata.insert("theirs".into(), "kept".into());
        object.metadata.insert("alluxio-write-id".into(), "before".into());
        object.tags.push(("team".into(), "blue".into()));
        object.storage_class = "STANDARD_IA".into();
        server.put("p/d/f", object);
        let fingerprint = from.status(b"d/f").await.unwrap().fingerprint;
        server.clear_log();
        let expect = match to.status(b"e/g").await {
            Ok(there) => Expect::Fingerprint(there.fingerprint),
            Err(_) => Expect::Absent,
        };
        let made = copy(&*from, &fingerprint, &*to, expect, Inside::ByReference)
            .await
            .unwrap();
        let there = to.status(b"e/g").await.unwrap();
        assert_eq!((&made.fingerprint, made.length), (&there.fingerprint, size as u64));
        assert_eq!((there.mode, there.write_id.as_deref()), (Some(0o640), Some("copied")));
        for seen in server.log() {
            let carries_data = matches!(seen.operation, "GetObject" | "UploadPart")
                || (seen.operation == "PutObject" && seen.body_bytes > 0);
            assert!(!carries_data, "{seen:?}");
        }
        assert_eq!(read(&*to, "e/g").await, body);
        let stored = server.object_of("other", "e/g").unwrap();
        assert_eq!(stored.headers["content-type"], "text/plain");
        assert_eq!(stored.metadata["theirs"], "kept");
        assert_eq!(stored.tags, [("team".to_owned(), "blue".to_owned())]);
        assert_eq!(stored.storage_class, "STANDARD_IA");
    }
}

#[tokio::test]
async fn nothing_is_copied_but_what_was_seen_over_what_was_seen() {
    let server = MemoryS3::start();
    server.add_bucket("other");
    let (from, to) = (
        bucket(&server, "s3://bucket/p", &[]),
        bucket(&server, "s3://other/", &[]),
    );
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("from")).unwrap();
    std::fs::create_dir(dir.path().join("to")).unwrap();
    let folders = (folder(&dir.path().join("from")), folder(&dir.path().join("to")));
    for (from, to) in [(from, to), folders] {
        let old = put(&*from, "d/f", b"old").await;
        let export = from.export(b"d/f", &old).await.unwrap();
        let new = put(&*from, "d/f", b"newer").await;
        let how = Inside::ByKernel;
        let stale = from.export(b"d/f", &old).await.unwrap_err();
        assert!(
            matches!(stale.kind, UfsErrorKind::PreconditionFailed | UfsErrorKind::BaseChanged),
            "{stale}"
        );
        // What was exported before is another one by the time of the copy. A file of this host is held open, and is what it was.
        match to.import(&export, b"e/g", &Expect::Absent, &named("copied"), how).await {
            Ok(_) => assert_eq!(read(&*to, "e/g").await, b"old"),
            Err(error) => assert_eq!(error.kind, UfsErrorKind::PreconditionFailed),
        }
        let theirs = put(&*to, "e/g", b"theirs").await;
        for wrong in [Expect::Absent, Expect::Fingerprint("other".into())] {
            let refused = copy(&*from, &new, &*to, wrong, how).await.unwrap_err();
            assert_eq!(refused.kind, UfsErrorKind::PreconditionFailed);
        }
        assert_eq!(read(&*to, "e/g").await, b"theirs");
        copy(&*from, &new, &*to, Expect::Fingerprint(theirs), how)
            .await
            .unwrap();
        assert_eq!(read(&*to, "e/g").await, b"newer");
        assert_eq!(read(&*from, "d/f").await, b"newer", "the source stays");
    }
}

#[tokio::test]
async fn a_lost_answer_is_no_failure_and_a_refusal_is_one() {
    let server = MemoryS3::start();
    server.add_bucket("other");
    let (from, to) = (
        bucket(&server, "s3://bucket/p", &[]),
        bucket(&server, "s3://other/", &[]),
    );
    let fingerprint = put(&*from, "d/f", b"body").await;
    let made = |expect| copy(&*from, &fingerprint, &*to, expect, Inside::ByReference);
    server.fail(Fault::new(Act::LoseAnswer).on("CopyObject"));
    let status = made(Expect::Absent).await.unwrap();
    assert_eq!(status.fingerprint, to.status(b"e/g").await.unwrap().fingerprint);
    server.fail(Fault::new(Act::Status(403, "AccessDenied")).on("CopyObject"));
    let denied = made(Expect::Fingerprint(status.fingerprint.clone())).await.unwrap_err();
    assert_eq!((denied.kind, denied.is_of_object()), (UfsErrorKind::Denied, false));
    server.change("p/d/f", |object| object.storage_class = "GLACIER".into());
    let cold = made(Expect::Fingerprint(status.fingerprint)).await.unwrap_err();
    assert_eq!((cold.kind, cold.is_of_object()), (UfsErrorKind::Denied, true));
}

#[tokio::test]
async fn a_store_without_conditions_on_targets_is_looked_at_and_without_those_on_sources_is_not_asked() {
    let server = MemoryS3::start();
    server.add_bucket("other");
    let (from, to) = (
        bucket(&server, "s3://bucket/p", &[]),
        bucket(&server, "s3://other/", &[]),
    );
    let fingerprint = put(&*from, "d/f", b"body").await;
    let made = |expect| copy(&*from, &fingerprint, &*to, expect, Inside::ByReference);
    server.habits(|habits| habits.write_conditions = Conditions::Refused(501, "NotImplemented"));
    made(Expect::Absent).await.unwrap();
    put(&*to, "e/g", b"theirs").await;
    assert_eq!(
        made(Expect::Absent).await.unwrap_err().kind,
        UfsErrorKind::PreconditionFailed
    );
    server.habits(|habits| habits.copy_conditions = Conditions::Refused(501, "NotImplemented"));
    let there = to.status(b"e/g").await.unwrap().fingerprint;
    let refused = made(Expect::Fingerprint(there)).await.unwrap_err();
    assert_eq!(refused.kind, UfsErrorKind::Unsupported, "{refused}");
}

#[tokio::test]
async fn stores_that_are_not_one_copy_nothing_between_them() {
    let (one, two) = (MemoryS3::start(), MemoryS3::start());
    let key = "alluxio.underfs.s3.server.side.encryption.customer.key";
    let secret = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
    let here = bucket(&one, "s3://bucket/p", &[]);
    let dir = tempfile::tempdir().unwrap();
    let others = [
        bucket(&two, "s3://bucket/", &[]),
        bucket(&one, "s3://bucket/", &[(key, secret)]),
        folder(dir.path()),
    ];
    let fingerprint = put(&*here, "d/f", b"body").await;
    for other in &others {
        assert_ne!(here.store(), other.store());
        let refused = copy(&*here, &fingerprint, &**other, Expect::Absent, Inside::ByKernel).await;
        assert_eq!(refused.unwrap_err().kind, UfsErrorKind::Unsupported, "{other:?}");
    }
    let of_folder = put(&*others[2], "d/f", b"body").await;
    let refused = copy(&*others[2], &of_folder, &*here, Expect::Absent, Inside::ByKernel).await;
    assert_eq!(refused.unwrap_err().kind, UfsErrorKind::Unsupported);
}

#[tokio::test]
async fn files_of_this_host_are_copied_by_the_kernel_or_share_their_blocks() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("from")).unwrap();
    std::fs::create_dir(dir.path().join("to")).unwrap();
    let (from, to) = (folder(&dir.path().join("from")), folder(&dir.path().join("to")));
    for size in [0, 10, 3 * MIB + 1] {
        let body = vec![b'f'; size];
        let fingerprint = put(&*from, "d/f", &body).await;
        let shared = copy(&*from, &fingerprint, &*to, Expect::Any, Inside::ByReference).await;
        match shared {
            Ok(_) => {}
            // Most file systems share nothing; then nothing is done.
            Err(error) => {
                assert_eq!((error.kind, size > 0), (UfsErrorKind::Unsupported, true), "{error}");
                copy(&*from, &fingerprint, &*to, Expect::Any, Inside::ByKernel)
                    .await
                    .unwrap();
            }
        }
        assert_eq!(read(&*to, "e/g").await, body);
        let there = to.status(b"e/g").await.unwrap();
        assert_eq!(there.mode, Some(0o640));
        let left = std::fs::read_dir(dir.path().join("to")).unwrap().flatten();
        let temps = left
            .filter(|entry| entry.file_name() != "e")
            .flat_map(|temps| std::fs::read_dir(temps.path()));
        assert_eq!(temps.flatten().count(), 0, "no temporary file is left");
    }
}

/// The actions of a policy of the document, by the heading that it stands under.
fn documented(heading: &str) -> Vec<&'static str> {
    let document = include_str!("../../docs/s3-storage.md");
    let section = document.split_once(&format!("\n### {heading}\n")).unwrap().1;
    let section = section.split("\n### ").next().unwrap();
    let words = section.split('"').filter_map(|word| word.strip_prefix("s3:"));
    words.filter(|word| *word != "prefix").collect()
}

#[tokio::test]
async fn the_policy_of_the_document_is_enough_and_no_more() {
    let server = MemoryS3::start();
    let (from, to) = (
        bucket(&server, "s3://bucket/s", &[]),
        bucket(&server, "s3://bucket/t", &[]),
    );
    let fingerprint = put(&*from, "d/f", b"body").await;
    server.change("s/d/f", |object| object.tags.push(("team".into(), "blue".into())));
    // As the mount that has it, with its own credentials.
    let export = from.export(b"d/f", &fingerprint).await.unwrap();
    let all = documented("Moving to another mount");
    assert_eq!(all.len(), 2);
    for missing in [None, Some(all[0]), Some(all[1])] {
        let mut actions = all.clone();
        actions.retain(|action| Some(*action) != missing);
        server.allow_only(&documented("Reading and writing, with tags"), "t/");
        server.allow_also(&actions, "s/");
        let made = to
            .import(&export, b"e/g", &Expect::Any, &named("copied"), Inside::ByReference)
            .await;
        assert_eq!(
            made.err().map(|error| error.kind),
            missing.map(|_| UfsErrorKind::Denied),
            "without {missing:?}"
        );
    }
}
