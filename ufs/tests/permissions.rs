//! What each use of a bucket needs to be allowed, as `docs/s3-storage.md` says it: with exactly that everything works, and with
//! any of it missing it does not.
#![allow(clippy::unwrap_used, reason = "a test ends there")]

use std::sync::Arc;

use alluxio_common::config::Configuration;
use alluxio_tests::s3::memory::{Content, Object};
use alluxio_tests::{MemoryS3, S3Server};
use alluxio_ufs::{
    BaseObject, BytesSource, Expect, UfsAttributes, UfsErrorKind, UfsResult, UnderFileSystem, UploadSource, open,
};
use bytes::Bytes;
use futures::TryStreamExt;

const PART: usize = 5 << 20;
const DOCUMENT: &str = include_str!("../../docs/s3-storage.md");

/// The actions of a policy of the document, by the heading that it stands under.
fn documented(heading: &str) -> Vec<&'static str> {
    let section = DOCUMENT.split_once(&format!("\n### {heading}\n")).unwrap().1;
    let section = section.split("\n### ").next().unwrap();
    let mut words: Vec<&str> = section.split('"').filter_map(|word| word.strip_prefix("s3:")).collect();
    // The condition of ListBucket is no action.
    words.retain(|word| *word != "prefix");
    assert!(!words.is_empty(), "{heading}");
    words
}

fn open_at(server: &MemoryS3) -> Arc<dyn UnderFileSystem> {
    let mut options = server.options();
    let part = "alluxio.underfs.s3.streaming.upload.partition.size";
    options.insert(part.to_owned(), "5MB".to_owned());
    open("s3://bucket/p", &options, &Configuration::default()).unwrap()
}

async fn content(ufs: &dyn UnderFileSystem, path: &[u8]) -> UfsResult<Vec<u8>> {
    let status = ufs.status(path).await?;
    let read = ufs.read(path, 0..status.length, &status.fingerprint).await?;
    let chunks: Vec<Bytes> = read.try_collect().await?;
    Ok(chunks.concat())
}

async fn reads(ufs: &dyn UnderFileSystem) -> UfsResult<()> {
    ufs.probe().await?;
    let listed = ufs.list(b"", None, 100).await?;
    assert!(listed.entries.iter().any(|entry| entry.name == "theirs"));
    assert_eq!(content(ufs, b"theirs").await?, b"theirs");
    let absent = ufs.status(b"absent").await.unwrap_err();
    // Who may not list is told "denied" of what is absent.
    if absent.kind != UfsErrorKind::NotFound {
        return Err(absent);
    }
    Ok(())
}

/// Create, read, append, rename and delete, small and in parts.
async fn writes(ufs: &dyn UnderFileSystem) -> UfsResult<()> {
    let attributes = UfsAttributes::default();
    ufs.mkdir(b"dir", &attributes).await?;
    let small = BytesSource(Bytes::from_static(b"small"));
    ufs.write(b"dir/f", &small, &Expect::Absent, &attributes).await?;
    let large = BytesSource(vec![b'l'; 2 * PART + 1].into());
    let written = ufs.write(b"dir/large", &large, &Expect::Absent, &attributes).await?;
    let longer = BytesSource(vec![b'l'; 2 * PART + 2].into());
    let length = written.length;
    let base = BaseObject {
        path: Bytes::from_static(b"dir/large"),
        fingerprint: written.fingerprint.clone(),
        length,
        clean: std::iter::once(0..length).collect(),
    };
    let expect = Expect::Fingerprint(written.fingerprint);
    ufs.write_over(b"dir/large", &longer, &base, &expect, &attributes)
        .await?;
    assert_eq!(content(ufs, b"dir/large").await?.len(), 2 * PART + 2);
    ufs.rename(b"dir/f", b"dir/g").await?;
    ufs.rename(b"dir", b"moved").await?;
    let moved = ufs.status(b"moved/g").await?;
    ufs.delete_if(b"moved/g", &moved.fingerprint).await?;
    ufs.delete(&[Bytes::from_static(b"moved/large")])
        .await
        .into_iter()
        .collect::<UfsResult<()>>()?;
    ufs.rmdir(b"moved").await
}

/// An edit of an object with tags keeps them.
async fn keeps_tags(server: &MemoryS3, ufs: &dyn UnderFileSystem) -> UfsResult<()> {
    let there = ufs.status(b"tagged").await?;
    let source = BytesSource(Bytes::from_static(b"new"));
    let expect = Expect::Fingerprint(there.fingerprint);
    ufs.write(b"tagged", &source, &expect, &UfsAttributes::default())
        .await?;
    match server.object("p/tagged").unwrap().tags.is_empty() {
        false => Ok(()),
        true => Err(alluxio_ufs::UfsError::new(UfsErrorKind::Denied, "the tags are gone")),
    }
}

/// An upload whose source fails half way is taken back.
async fn aborts(server: &MemoryS3, ufs: &dyn UnderFileSystem) -> UfsResult<()> {
    struct Broken;
    #[async_trait::async_trait]
    impl UploadSource for Broken {
        fn length(&self) -> u64 {
            3 * PART as u64
        }
        async fn read_at(&self, offset: u64, length: u64) -> UfsResult<Bytes> {
            match offset {
                0 => Ok(vec![0; length as usize].into()),
                _ => Err(alluxio_ufs::UfsError::new(UfsErrorKind::Other, "broken")),
            }
        }
    }
    ufs.write(b"broken", &Broken, &Expect::Any, &UfsAttributes::default())
        .await
        .unwrap_err();
    match server.uploads() {
        0 => Ok(()),
        _ => Err(alluxio_ufs::UfsError::new(UfsErrorKind::Denied, "an upload is left")),
    }
}

fn server() -> MemoryS3 {
    let server = MemoryS3::start();
    for key in ["p/theirs", "p/tagged"] {
        let mut object = Object::plain(Content::from(Bytes::from_static(b"theirs")));
        if key == "p/tagged" {
            object.tags.push(("a".to_owned(), "b".to_owned()));
        }
        server.put(key, object);
    }
    server
}

async fn used(heading: &str, allowed: &[&str]) -> UfsResult<()> {
    let server = server();
    server.allow_only(allowed, "p/");
    let ufs = open_at(&server);
    reads(&*ufs).await?;
    if heading != "Reading" {
        writes(&*ufs).await?;
        aborts(&server, &*ufs).await?;
    }
    if heading == "Reading and writing, with tags" {
        keeps_tags(&server, &*ufs).await?;
    }
    let log = server.log();
    let denied: Vec<_> = log.iter().filter(|seen| seen.status == 403).collect();
    assert!(denied.is_empty(), "{denied:#?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_policies_of_the_document_are_enough_and_no_more() {
    for heading in ["Reading", "Reading and writing", "Reading and writing, with tags"] {
        let actions = documented(heading);
        used(heading, &actions)
            .await
            .unwrap_or_else(|error| panic!("{heading}: {error}"));
        for missing in &actions {
            let rest: Vec<&str> = actions.iter().filter(|action| *action != missing).copied().collect();
            let error = used(heading, &rest).await.expect_err(missing);
            assert_eq!(error.kind, UfsErrorKind::Denied, "{heading} without {missing}: {error}");
        }
    }
}
