//! The conformance suite on stores that need no server, and what is special to the posix one.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::Arc;

use alluxio_common::config::Configuration;
use alluxio_proto::types::FileKind;
use alluxio_ufs::conformance::{self, Profile};
use alluxio_ufs::{BytesSource, Expect, UfsAttributes, UfsErrorKind, UfsResult, UnderFileSystem, memory, open};
use bytes::Bytes;
use futures::StreamExt;

fn open_folder(folder: &std::path::Path) -> Arc<dyn UnderFileSystem> {
    open(folder.to_str().unwrap(), &BTreeMap::new(), &Configuration::default()).unwrap()
}

async fn read(ufs: &dyn UnderFileSystem, path: &[u8], length: u64) -> UfsResult<Vec<u8>> {
    let chunks: Vec<UfsResult<Bytes>> = ufs.read(path, 0..length, "").await?.collect().await;
    Ok(chunks.into_iter().collect::<UfsResult<Vec<Bytes>>>()?.concat())
}

#[tokio::test]
async fn memory_objects_conform() {
    let profile = Profile {
        large_bytes: 4 << 20,
        ..Profile::object()
    };
    conformance::run(Arc::new(memory()), profile).await;
}

#[tokio::test]
async fn posix_conforms() {
    let folder = tempfile::tempdir().unwrap();
    conformance::run(open_folder(folder.path()), Profile::posix()).await;
    let left: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, [".alluxio_ufs_persistence"]);
    let temps = std::fs::read_dir(folder.path().join(".alluxio_ufs_persistence")).unwrap();
    assert_eq!(temps.count(), 0, "no temporary file is left");
}

#[tokio::test]
async fn nothing_leads_out_of_the_root() {
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret"), "secret").unwrap();
    let folder = tempfile::tempdir().unwrap();
    symlink(outside.path(), folder.path().join("dir")).unwrap();
    symlink(outside.path().join("secret"), folder.path().join("file")).unwrap();
    let ufs = open_folder(folder.path());

    let status = ufs.status(b"dir").await.unwrap();
    assert_eq!(status.kind, FileKind::Symlink);
    assert_eq!(status.symlink_target.unwrap(), outside.path().to_str().unwrap());
    assert_eq!(read(&*ufs, b"file", 6).await.unwrap_err().kind, UfsErrorKind::Invalid);
    assert_eq!(
        read(&*ufs, b"dir/secret", 6).await.unwrap_err().kind,
        UfsErrorKind::NotADirectory
    );
    assert_eq!(
        ufs.list(b"dir", None, 10).await.unwrap_err().kind,
        UfsErrorKind::NotADirectory
    );
    let source = BytesSource(Bytes::from_static(b"x"));
    let attributes = UfsAttributes {
        mode: Some(0o777),
        ..UfsAttributes::default()
    };
    let written = ufs.write(b"dir/new", &source, &Expect::Any, &attributes).await;
    assert_eq!(written.unwrap_err().kind, UfsErrorKind::NotADirectory);
    assert_eq!(
        ufs.rename(b"dir/secret", b"stolen").await.unwrap_err().kind,
        UfsErrorKind::NotADirectory
    );
    assert!(
        ufs.delete(&[Bytes::from_static(b"dir/secret")]).await[0].is_ok(),
        "absent counts as done"
    );
    let set = ufs.set_attributes(b"file", FileKind::Symlink, &attributes, "").await;
    set.unwrap();
    let secret = std::fs::metadata(outside.path().join("secret")).unwrap();
    assert_ne!(
        secret.permissions().mode() & 0o777,
        0o777,
        "attributes are not set through a link"
    );
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
    // A write replaces the link, not what it leads to.
    ufs.write(b"file", &source, &Expect::Any, &attributes).await.unwrap();
    assert_eq!(std::fs::read(outside.path().join("secret")).unwrap(), b"secret");
    assert_eq!(read(&*ufs, b"file", 1).await.unwrap(), b"x");
}

#[tokio::test]
async fn special_files_are_shown_and_not_opened() {
    let folder = tempfile::tempdir().unwrap();
    nix::unistd::mkfifo(&folder.path().join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("socket")).unwrap();
    let ufs = open_folder(folder.path());
    let page = ufs.list(b"", None, 10).await.unwrap();
    let kinds: Vec<_> = page.entries.iter().map(|entry| entry.kind).collect();
    assert_eq!(kinds, [FileKind::Fifo, FileKind::Socket]);
    assert_eq!(read(&*ufs, b"pipe", 0).await.unwrap_err().kind, UfsErrorKind::Invalid);
}

#[tokio::test]
async fn a_root_that_is_gone_says_nothing_of_its_names() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    let ufs = open_folder(&root);
    let kinds = [
        ufs.probe().await.unwrap_err().kind,
        ufs.status(b"name").await.unwrap_err().kind,
        ufs.status(b"").await.unwrap_err().kind,
        ufs.list(b"", None, 10).await.unwrap_err().kind,
        read(&*ufs, b"name", 1).await.unwrap_err().kind,
    ];
    assert_eq!(kinds, [UfsErrorKind::StoreMissing; 5]);
    std::fs::create_dir(&root).unwrap();
    ufs.probe().await.unwrap();
    assert_eq!(ufs.status(b"name").await.unwrap_err().kind, UfsErrorKind::NotFound);
}

#[tokio::test]
async fn a_file_changed_under_a_read_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, vec![1; 3 << 20]).unwrap();
    let ufs = open_folder(folder.path());
    let mut stream = ufs.read(b"file", 0..3 << 20, "").await.unwrap();
    assert_eq!(stream.next().await.unwrap().unwrap(), vec![1; 1 << 20]);
    std::fs::write(&file, vec![2; (3 << 20) + 1]).unwrap();
    let error = stream.next().await.unwrap().unwrap_err();
    assert_eq!(error.kind, UfsErrorKind::PreconditionFailed, "{error}");
}

#[tokio::test]
async fn the_folder_of_files_being_written_is_no_name() {
    let folder = tempfile::tempdir().unwrap();
    let ufs = open_folder(folder.path());
    let source = BytesSource(Bytes::from_static(b"x"));
    ufs.write(b"file", &source, &Expect::Any, &UfsAttributes::default())
        .await
        .unwrap();
    let page = ufs.list(b"", None, 10).await.unwrap();
    assert_eq!(page.entries.len(), 1);
    let path = b".alluxio_ufs_persistence/x";
    assert_eq!(ufs.status(path).await.unwrap_err().kind, UfsErrorKind::Invalid);
    // What a crash left there goes when it is old enough.
    let left = folder.path().join(".alluxio_ufs_persistence/left");
    std::fs::write(&left, "half").unwrap();
    assert_eq!(
        ufs.abort_stale_uploads(std::time::Duration::from_secs(3600))
            .await
            .unwrap(),
        0
    );
    assert!(left.exists());
    assert_eq!(ufs.abort_stale_uploads(std::time::Duration::ZERO).await.unwrap(), 1);
    assert!(!left.exists());
}

#[tokio::test]
async fn a_large_directory_is_listed_in_pages() {
    let folder = tempfile::tempdir().unwrap();
    for index in 0..20_000 {
        std::fs::write(folder.path().join(format!("f{index:05}")), "").unwrap();
    }
    let ufs = open_folder(folder.path());
    let mut token = None;
    let mut names = Vec::new();
    loop {
        let page = ufs.list(b"", token, 1000).await.unwrap();
        names.extend(page.entries.into_iter().map(|entry| entry.name));
        token = page.next;
        if token.is_none() {
            break;
        }
    }
    assert_eq!(names.len(), 20_000);
    assert!(names.is_sorted(), "in byte order");
}
