//! Buckets with rules: conditions and checksums that a store refuses or demands, encryption, classes, payers, and what objects
//! carry.
#![allow(clippy::unwrap_used, reason = "a test ends there")]

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use alluxio_common::config::Configuration;
use alluxio_proto::types::FileKind;
use alluxio_tests::s3::memory::{Act, Conditions, Content, Fault, Object};
use alluxio_tests::{MemoryS3, S3Server};
use alluxio_ufs::{BaseObject, BytesSource, Expect, UfsAttributes, UfsErrorKind, UfsResult, UnderFileSystem, open};
use bytes::Bytes;
use futures::StreamExt;

const ENCRYPTION: &str = "alluxio.underfs.s3.server.side.encryption.";
const CONDITIONS: &str = "alluxio.underfs.s3.conditional.requests";
const PART: usize = 5 << 20;

fn open_with(server: &MemoryS3, more: &[(&str, &str)]) -> Arc<dyn UnderFileSystem> {
    let mut options = server.options();
    for (key, value) in [
        ("alluxio.underfs.s3.streaming.upload.partition.size", "5MB"),
        ("alluxio.underfs.s3.copy.part.size", "6MB"),
    ]
    .iter()
    .chain(more)
    {
        options.insert((*key).to_owned(), (*value).to_owned());
    }
    open("s3://bucket/p", &options, &Configuration::default()).unwrap()
}

async fn write(ufs: &dyn UnderFileSystem, path: &str, body: &[u8], expect: Expect) -> UfsResult<String> {
    let source = BytesSource(Bytes::copy_from_slice(body));
    let written = ufs
        .write(path.as_bytes(), &source, &expect, &UfsAttributes::default())
        .await?;
    Ok(written.fingerprint)
}

async fn read(ufs: &dyn UnderFileSystem, path: &str, range: Range<u64>, fingerprint: &str) -> UfsResult<Vec<u8>> {
    let mut stream = ufs.read(path.as_bytes(), range, fingerprint).await?;
    let mut all = Vec::new();
    while let Some(chunk) = stream.next().await {
        all.extend_from_slice(&chunk?);
    }
    Ok(all)
}

/// A base of which one byte has changed.
fn base_but(path: &'static [u8], fingerprint: String, length: u64, changed: u64) -> BaseObject {
    let clean = [0..changed, changed + 1..length];
    BaseObject {
        path: Bytes::from_static(path),
        fingerprint,
        length,
        clean: clean.into_iter().filter(|range| !range.is_empty()).collect(),
    }
}

fn body_of(server: &MemoryS3, key: &str) -> Bytes {
    server.object(key).unwrap().content.bytes()
}

/// Writes, edits, reads, renames and deletes, small and in parts; also what others wrote is left alone.
async fn everything_works(server: &MemoryS3, ufs: &dyn UnderFileSystem) {
    let big = vec![b'b'; PART + 100];
    let small = write(ufs, "small", b"one", Expect::Absent).await.unwrap();
    write(ufs, "small", b"two", Expect::Fingerprint(small.clone()))
        .await
        .unwrap();
    let old = write(ufs, "big", &big, Expect::Absent).await.unwrap();
    let mut edited = big.clone();
    edited[PART + 50] = b'e';
    let base = base_but(b"big", old, big.len() as u64, PART as u64 + 50);
    let source = BytesSource(edited.clone().into());
    let attributes = UfsAttributes::default();
    let expect = Expect::Fingerprint(base.fingerprint.clone());
    let over = ufs
        .write_over(b"big", &source, &base, &expect, &attributes)
        .await
        .unwrap();
    let all = read(ufs, "big", 0..edited.len() as u64, &over.fingerprint)
        .await
        .unwrap();
    assert!(all == edited, "an edit in parts");

    for refused in [
        write(ufs, "small", b"no", Expect::Absent).await,
        write(ufs, "small", b"no", Expect::Fingerprint(small.clone())).await,
        write(ufs, "big", &big, Expect::Absent).await,
        ufs.delete_if(b"small", &small).await.map(|()| String::new()),
        read(ufs, "small", 0..3, &small).await.map(|_| String::new()),
    ] {
        assert_eq!(refused.unwrap_err().kind, UfsErrorKind::PreconditionFailed);
    }
    assert_eq!(body_of(server, "p/small"), "two");

    ufs.rename(b"small", b"moved").await.unwrap();
    ufs.rename(b"big", b"moved-big").await.unwrap();
    let moved = ufs.status(b"moved").await.unwrap().fingerprint;
    assert_eq!(read(ufs, "moved", 0..3, &moved).await.unwrap(), b"two");
    assert_eq!(body_of(server, "p/moved-big"), edited);
    assert_eq!(names(server), ["p/moved", "p/moved-big"]);
    let change = UfsAttributes {
        mode: Some(0o640),
        ..UfsAttributes::default()
    };
    let changed = ufs.set_attributes(b"moved", FileKind::File, &change, &moved).await;
    let moved = changed.unwrap().unwrap();
    let status = ufs.status(b"moved").await.unwrap();
    assert_eq!((status.mode, &status.fingerprint), (Some(0o640), &moved));
    assert_eq!(body_of(server, "p/moved"), "two");
    ufs.delete_if(b"moved", &moved).await.unwrap();
    ufs.delete(&[Bytes::from_static(b"moved-big"), Bytes::from_static(b"absent")])
        .await
        .into_iter()
        .collect::<UfsResult<()>>()
        .unwrap();
    assert!(names(server).is_empty() && server.uploads() == 0);
}

/// Keys but for markers of folders.
fn names(server: &MemoryS3) -> Vec<String> {
    let keys = server.keys().into_iter();
    keys.filter(|key| !key.ends_with('/')).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_refuses_conditions_is_written_without() {
    for (status, code) in [(501, "NotImplemented"), (400, "InvalidArgument"), (400, "")] {
        let server = MemoryS3::start();
        server.habits(|habits| {
            let refused = Conditions::Refused(status, code);
            habits.write_conditions = refused.clone();
            habits.read_conditions = refused.clone();
            habits.delete_conditions = refused.clone();
            habits.copy_conditions = refused;
        });
        let ufs = open_with(&server, &[]);
        everything_works(&server, &*ufs).await;
        // It was found out once: no request of a kind is refused any more.
        server.clear_log();
        everything_works(&server, &*ufs).await;
        let refused: Vec<_> = server.log().into_iter().filter(|seen| seen.status == status).collect();
        assert!(refused.is_empty(), "{refused:#?}");

        server.clear_log();
        let never = open_with(&server, &[(CONDITIONS, "NEVER")]);
        everything_works(&server, &*never).await;
        let conditions = ["if-match", "if-none-match", "x-amz-copy-source-if-match"];
        let log = server.log();
        assert!(
            !log.iter()
                .any(|seen| conditions.iter().any(|name| seen.headers.contains_key(*name)))
        );

        let always = open_with(&server, &[(CONDITIONS, "ALWAYS")]);
        let error = write(&*always, "f", b"x", Expect::Absent).await.unwrap_err();
        let kind = if status == 501 {
            UfsErrorKind::Unsupported
        } else {
            UfsErrorKind::Invalid
        };
        assert_eq!(error.kind, kind, "{error}");
        assert!(names(&server).is_empty());
    }
}

/// A store that knows conditions is never asked to do without.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_knows_conditions_and_checksums_gets_them() {
    let server = MemoryS3::start();
    let ufs = open_with(&server, &[]);
    everything_works(&server, &*ufs).await;
    for seen in server.log() {
        let has = |name: &str| seen.headers.contains_key(name);
        match seen.operation {
            "PutObject" => assert!(has("x-amz-checksum-crc32c"), "{seen:?}"),
            // Beside copied parts.
            "UploadPart" => assert!(has("x-amz-checksum-crc32c") || has("content-md5"), "{seen:?}"),
            "GetObject" => assert_eq!(seen.headers["x-amz-checksum-mode"], "ENABLED", "{seen:?}"),
            _ => {}
        }
        assert!(!matches!(seen.status, 400 | 501), "{seen:?}");
    }
    server.clear_log();
    write(&*ufs, "big", &vec![1; PART + 1], Expect::Absent).await.unwrap();
    let begun = server.seen("CreateMultipartUpload");
    assert_eq!(begun[0].headers["x-amz-checksum-algorithm"], "CRC32C");
    let parts = server.seen("UploadPart");
    assert!(
        parts.len() == 2
            && parts
                .iter()
                .all(|seen| seen.headers.contains_key("x-amz-checksum-crc32c"))
    );
    assert!(server.object("p/big").unwrap().crc32c.unwrap().ends_with("-2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_bucket_gets_the_checksum_that_it_knows() {
    for (crc32c, refused) in [(true, None), (false, None), (false, Some(501)), (false, Some(400))] {
        let server = MemoryS3::start();
        server.habits(|habits| {
            // Over before the deletes come.
            habits.retention_s = Some(-1);
            habits.crc32c = crc32c;
            habits.refuses_crc32c = refused;
        });
        let ufs = open_with(&server, &[]);
        everything_works(&server, &*ufs).await;
        server.clear_log();
        everything_works(&server, &*ufs).await;
        let writes = ["PutObject", "UploadPart"]
            .map(|operation| server.seen(operation))
            .concat();
        let sums: &[&str] = if crc32c {
            &["x-amz-checksum-crc32c", "content-md5"]
        } else {
            &["content-md5"]
        };
        let has_sum =
            |headers: &std::collections::BTreeMap<String, String>| sums.iter().any(|sum| headers.contains_key(*sum));
        assert!(writes.iter().all(|seen| has_sum(&seen.headers)), "{writes:#?}");
        assert!(
            writes.iter().all(|seen| seen.status != 400),
            "it was found out once: {writes:#?}"
        );
        let none = open_with(&server, &[("alluxio.underfs.s3.checksum.algorithm", "NONE")]);
        let error = write(&*none, "f", b"x", Expect::Absent).await.unwrap_err();
        assert_eq!(error.kind, UfsErrorKind::Invalid, "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_bytes_of_the_store_reach_nobody() {
    let server = MemoryS3::start();
    let ufs = open_with(&server, &[("alluxio.underfs.s3.max.error.retry", "1")]);
    let etag = write(&*ufs, "f", b"as it was written", Expect::Absent).await.unwrap();
    server.fail(Fault::new(Act::WrongByte).on("GetObject"));
    assert_eq!(read(&*ufs, "f", 0..17, &etag).await.unwrap(), b"as it was written");
    assert_eq!(server.seen("GetObject").len(), 2, "it was asked for again");
    server.fail(Fault::new(Act::WrongByte).on("GetObject").always());
    let mut stream = ufs.read(b"f", 0..17, &etag).await.unwrap();
    let error = stream.next().await.unwrap().unwrap_err();
    assert_eq!(error.kind, UfsErrorKind::Unreachable, "{error}");
    assert!(error.message.contains("CRC32C"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_demands_encryption_is_met() {
    let id = ("x-amz-server-side-encryption-aws-kms-key-id", "arn:aws:kms:k/1");
    let kms = |name: &str| format!("{ENCRYPTION}{name}");
    let (enabled, algorithm, key) = (kms("enabled"), kms("algorithm"), kms("kms.key.id"));
    let (context, bucket_key) = (kms("kms.context"), kms("bucket.key.enabled"));
    for (demanded, options) in [
        ("AES256", vec![(enabled.as_str(), "true")]),
        (
            "aws:kms",
            vec![
                (enabled.as_str(), "true"),
                (algorithm.as_str(), "aws:kms"),
                (key.as_str(), id.1),
                (context.as_str(), "{\"a\":\"b\"}"),
                (bucket_key.as_str(), "true"),
            ],
        ),
    ] {
        let server = MemoryS3::start();
        server.habits(|habits| habits.encryption_required = Some(demanded));
        let plain = open_with(&server, &[]);
        let error = write(&*plain, "f", b"x", Expect::Absent).await.unwrap_err();
        assert_eq!(error.kind, UfsErrorKind::Denied, "{error}");
        let ufs = open_with(&server, &options);
        everything_works(&server, &*ufs).await;
        write(&*ufs, "f", b"x", Expect::Absent).await.unwrap();
        let stored = server.object("p/f").unwrap().encryption;
        assert_eq!(stored["x-amz-server-side-encryption"], demanded);
        if demanded == "aws:kms" {
            assert_eq!(stored[id.0], id.1);
            assert_eq!(stored["x-amz-server-side-encryption-context"], "eyJhIjoiYiJ9");
            assert_eq!(stored["x-amz-server-side-encryption-bucket-key-enabled"], "true");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_the_customer_goes_with_each_request() {
    let server = MemoryS3::start();
    let name = format!("{ENCRYPTION}customer.key");
    let key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    let ufs = open_with(&server, &[(&name, key)]);
    assert!(!format!("{ufs:?}").contains(key));
    everything_works(&server, &*ufs).await;
    write(&*ufs, "f", b"x", Expect::Absent).await.unwrap();
    assert!(server.object("p/f").unwrap().customer_key.is_some());
    let without = open_with(&server, &[]);
    let error = read(&*without, "f", 0..1, "").await.unwrap_err();
    assert_eq!(error.kind, UfsErrorKind::Invalid, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_pays_is_said_with_every_request() {
    let server = MemoryS3::start();
    server.habits(|habits| habits.requester_pays = true);
    let error = open_with(&server, &[]).probe().await.unwrap_err();
    assert_eq!(error.kind, UfsErrorKind::Denied, "{error}");
    let ufs = open_with(&server, &[("alluxio.underfs.s3.requester.pays", "true")]);
    everything_works(&server, &*ufs).await;
}

/// An object of somebody else, with all that an object can carry.
fn theirs(body: Bytes) -> Object {
    let mut object = Object::plain(Content::from(body));
    for (name, value) in [
        ("content-type", "text/html; charset=utf-8"),
        ("cache-control", "max-age=60"),
        ("content-encoding", "identity"),
        ("content-disposition", "inline"),
        ("expires", "Thu, 01 Dec 2036 16:00:00 GMT"),
    ] {
        object.headers.insert(name.to_owned(), value.to_owned());
    }
    object.metadata.insert("project".to_owned(), "x y".to_owned());
    object.tags = vec![
        ("team a".to_owned(), "b&c=d".to_owned()),
        ("n".to_owned(), String::new()),
    ];
    object.storage_class = "STANDARD_IA".to_owned();
    object
}

fn assert_carried(server: &MemoryS3, key: &str, body: &[u8]) {
    let (found, before) = (server.object(key).unwrap(), theirs(Bytes::new()));
    assert!(found.content.bytes() == body, "{key}");
    assert_eq!(found.headers, before.headers, "{key}");
    assert_eq!(found.metadata.get("project"), before.metadata.get("project"), "{key}");
    assert_eq!(
        (found.tags, found.storage_class),
        (before.tags, before.storage_class),
        "{key}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_object_carries_survives_edits_and_renames() {
    let server = MemoryS3::start();
    let ufs = open_with(&server, &[]);
    let big = vec![b'b'; (6 << 20) + 10];
    let fingerprint = |key: &str| server.object(key).unwrap().etag;

    server.put("p/small", theirs(Bytes::from_static(b"small")));
    write(&*ufs, "small", b"edited", Expect::Fingerprint(fingerprint("p/small")))
        .await
        .unwrap();
    assert_carried(&server, "p/small", b"edited");
    write(&*ufs, "small", b"again", Expect::Any).await.unwrap();
    assert_carried(&server, "p/small", b"again");
    write(&*ufs, "small", &big, Expect::Fingerprint(fingerprint("p/small")))
        .await
        .unwrap();
    assert_carried(&server, "p/small", &big);
    let mut edited = big.clone();
    *edited.last_mut().unwrap() = b'e';
    let end = big.len() as u64;
    let base = base_but(b"small", fingerprint("p/small"), end, end - 1);
    let source = BytesSource(edited.clone().into());
    ufs.write_over(b"other", &source, &base, &Expect::Absent, &UfsAttributes::default())
        .await
        .unwrap();
    assert_carried(&server, "p/other", &edited);

    server.put("p/dir/in", theirs(Bytes::from_static(b"in")));
    server.put("p/dir/big", theirs(big.clone().into()));
    server.put("p/dir/", theirs(Bytes::new()));
    ufs.rename(b"dir", b"folder").await.unwrap();
    assert_carried(&server, "p/folder/in", b"in");
    assert_carried(&server, "p/folder/big", &big);
    ufs.rename(b"folder/in", b"file").await.unwrap();
    assert_carried(&server, "p/file", b"in");
    ufs.rename(b"folder/big", b"big").await.unwrap();
    assert_carried(&server, "p/big", &big);

    // Times that others note would be wrong, and what was ours is said anew.
    server.change("p/file", |object| {
        object.metadata.insert("mtime".to_owned(), "1".to_owned());
        object.metadata.insert("alluxio-mode".to_owned(), "777".to_owned());
    });
    write(&*ufs, "file", b"new", Expect::Any).await.unwrap();
    let metadata = server.object("p/file").unwrap().metadata;
    assert!(
        !metadata.contains_key("mtime") && !metadata.contains_key("alluxio-mode"),
        "{metadata:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_read_or_set_tags_still_writes() {
    for forbidden in ["GetObjectTagging", "PutObjectTagging"] {
        let server = MemoryS3::start();
        let ufs = open_with(&server, &[]);
        server.put("p/f", theirs(Bytes::from_static(b"theirs")));
        server.forbid(forbidden, "");
        write(&*ufs, "f", b"ours", Expect::Any).await.unwrap();
        let found = server.object("p/f").unwrap();
        assert_eq!(
            (found.content.bytes(), found.tags.len()),
            (Bytes::from_static(b"ours"), 0)
        );
        assert_eq!(found.headers["cache-control"], "max-age=60", "the rest is kept");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn new_objects_have_the_storage_class_of_the_mount() {
    let server = MemoryS3::start();
    let ufs = open_with(&server, &[("alluxio.underfs.s3.storage.class", "ONEZONE_IA")]);
    let class = |key: &str| server.object(key).unwrap().storage_class;
    write(&*ufs, "f", b"x", Expect::Absent).await.unwrap();
    write(&*ufs, "big", &vec![0; PART + 1], Expect::Absent).await.unwrap();
    assert_eq!(
        (class("p/f"), class("p/big")),
        ("ONEZONE_IA".to_owned(), "ONEZONE_IA".to_owned())
    );
    ufs.rename(b"f", b"g").await.unwrap();
    assert_eq!(class("p/g"), "ONEZONE_IA");
    // Another's keeps its own.
    server.put("p/theirs", theirs(Bytes::from_static(b"x")));
    write(&*ufs, "theirs", b"y", Expect::Any).await.unwrap();
    assert_eq!(class("p/theirs"), "STANDARD_IA");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archived_object_says_so() {
    let server = MemoryS3::start();
    let ufs = open_with(&server, &[]);
    let mut archived = Object::plain(Content::from(Bytes::from_static(b"cold")));
    archived.storage_class = "GLACIER".to_owned();
    server.put("p/cold", archived);
    for error in [
        read(&*ufs, "cold", 0..4, "").await.unwrap_err(),
        ufs.rename(b"cold", b"warm").await.unwrap_err(),
    ] {
        assert_eq!(error.kind, UfsErrorKind::Denied, "{error}");
        assert!(error.message.contains("restore it first"), "{error}");
    }
    assert_eq!(names(&server), ["p/cold"]);
    server.change("p/cold", |object| {
        object.restored_until = Some(object.modified + std::time::Duration::from_secs(99))
    });
    ufs.rename(b"cold", b"warm").await.unwrap();
    assert_eq!(names(&server), ["p/warm"]);
}

/// Somebody replaces an object between our look at it and our copy, at any point: his stays as it is.
#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_changes_before_it_gets_attributes_stays() {
    const HELD_UP: Duration = Duration::from_millis(300);
    let mut copied = 0;
    for before in 0..5 {
        let server = MemoryS3::start();
        let ufs = open_with(&server, &[]);
        let etag = write(&*ufs, "f", b"ours", Expect::Absent).await.unwrap();
        server.clear_log();
        server.fail(Fault::new(Act::Delay(HELD_UP)).after(before));
        let run = tokio::spawn({
            let ufs = ufs.clone();
            async move {
                let change = UfsAttributes {
                    mode: Some(0o640),
                    ..UfsAttributes::default()
                };
                ufs.set_attributes(b"f", FileKind::File, &change, &etag).await
            }
        });
        while server.log().len() < before as usize && !run.is_finished() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let mut theirs = Object::plain(Content::from(Bytes::from_static(b"theirs")));
        theirs.metadata.insert("theirs".to_owned(), "x".to_owned());
        server.put("p/f", theirs);
        match run.await.unwrap() {
            // It was made just before; theirs came over it.
            Ok(_) => copied += 1,
            Err(error) => assert_eq!(error.kind, UfsErrorKind::PreconditionFailed, "{error}"),
        }
        let there = server.object("p/f").unwrap();
        assert_eq!(
            (there.content.bytes(), there.metadata.len()),
            (Bytes::from_static(b"theirs"), 1)
        );
    }
    assert!(copied > 0 && copied < 5, "some came before and some after");
}

/// An attempt whose answer was lost is known to be ours, also where the copy has another ETag.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_whose_answer_was_lost_is_found() {
    let server = MemoryS3::start();
    let ufs = open_with(&server, &[("alluxio.underfs.s3.max.error.retry", "2")]);
    let large = vec![7; PART + 1];
    let etag = write(&*ufs, "f", &large, Expect::Absent).await.unwrap();
    let change = UfsAttributes {
        mode: Some(0o640),
        ..UfsAttributes::default()
    };
    server.fail(Fault::new(Act::LoseAnswer).on("CopyObject"));
    let changed = ufs.set_attributes(b"f", FileKind::File, &change, &etag).await;
    let changed = changed.unwrap().unwrap();
    assert_ne!(changed, etag);
    // A crash: whoever comes next knows the ETag of before only.
    let again = ufs.set_attributes(b"f", FileKind::File, &change, &etag).await;
    assert_eq!(again.unwrap().as_ref(), Some(&changed));
    assert_eq!(
        server
            .seen("CopyObject")
            .iter()
            .filter(|seen| seen.status == 200)
            .count(),
        1
    );
    assert!(read(&*ufs, "f", 0..large.len() as u64, &changed).await.unwrap() == large);
}

/// An object too large for one copy gets its attributes by a copy in parts.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_object_gets_attributes_in_parts() {
    let server = MemoryS3::start();
    let ufs = open_with(&server, &[]);
    let mut object = theirs(Bytes::from(vec![3; 13 << 20]));
    object.etag = "of-theirs".to_owned();
    let before = object.clone();
    server.put("p/f", object);
    let change = UfsAttributes {
        mode: Some(0o640),
        ..UfsAttributes::default()
    };
    let changed = ufs.set_attributes(b"f", FileKind::File, &change, "of-theirs").await;
    let after = server.object("p/f").unwrap();
    assert_eq!(changed.unwrap().as_ref(), Some(&after.etag));
    assert_eq!(server.seen("UploadPartCopy").len(), 3);
    assert_eq!(
        (after.metadata["mode"].as_str(), after.content.length()),
        ("33184", 13 << 20)
    );
    assert_eq!(
        (after.headers, after.tags, after.storage_class),
        (before.headers, before.tags, before.storage_class)
    );
}
