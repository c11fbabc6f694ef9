//! Quota, eviction, and a disk that is really full.
#![allow(clippy::unwrap_used, reason = "a test ends there")]

mod harness;

use alluxio_proto::ErrorKind;
use harness::*;
use std::path::Path;
use std::process::Command;

#[tokio::test]
async fn the_coldest_goes_and_what_may_be_the_only_copy_stays() {
    let node = Node::with(&[("alluxio.worker.tieredstore.level0.dirs.quota", "10MB")]).await;
    let content = pattern(1, 3 * MB);
    node.open_write(1, 1, None, false, false).await.unwrap();
    node.write(1, 1, 0, content.clone()).await.unwrap();
    node.seal(1, 1, 0).await.unwrap();
    for inode in 2..12 {
        let file = source(1, &node.put(&format!("f{inode}"), pattern(inode, 2 * MB)).await);
        assert!(node.read_all(inode, &file, MB, 0).await.unwrap() == pattern(inode, 2 * MB));
    }
    let (used, quota) = node.worker().space();
    assert!(used <= quota && used >= 3 * MB, "{used} of {quota}");
    assert!(node.read_all(1, &local(1, 3 * MB), MB, 0).await.unwrap() == content);
    // Of the others, the last is here and the first is not.
    let before = node.fetched();
    let last = source(1, &node.put("f11", pattern(11, 2 * MB)).await);
    node.read(11, &last, 0, 100).await.unwrap();
    assert_eq!(node.fetched(), before);
    let told = until("the master knows of the eviction", || {
        node.master.held.lock().get(&2).copied().filter(|h| h.1 == 0)
    });
    told.await;
}

#[tokio::test]
async fn a_quota_full_of_only_copies_fails_no_read() {
    let node = Node::with(&[("alluxio.worker.tieredstore.level0.dirs.quota", "4MB")]).await;
    for inode in 1..5 {
        node.open_write(inode, 1, None, false, false).await.unwrap();
        node.write(inode, 1, 0, pattern(inode, MB)).await.unwrap();
        node.seal(inode, 1, 0).await.unwrap();
    }
    let content = pattern(9, 3 * MB + 1);
    let file = source(1, &node.put("f", content.clone()).await);
    assert!(node.read_all(9, &file, 300_000, 1).await.unwrap() == content);
    assert!(node.read_all(2, &local(1, MB), MB, 1).await.unwrap() == pattern(2, MB));
}

/// A small file system of its own, unmounted at the end.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new(megabytes: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let size = format!("size={megabytes}m");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(dir.path())
            .status();
        assert!(mounted.unwrap().success(), "mounting a tmpfs needs root");
        Self(dir)
    }
    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let done = Command::new("umount").arg("-l").arg(self.path()).status();
        assert!(done.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}

#[tokio::test]
async fn full_disk_fails_writes_and_never_reads() {
    let disk = SmallDisk::new(16);
    let dir = disk.path().join("worker");
    let mut node = Node::at(dir, None, &[("alluxio.worker.tieredstore.level0.dirs.quota", "1GB")]).await;
    node.open_write(1, 1, None, false, false).await.unwrap();
    let mut written = 0;
    let error = loop {
        match node.write(1, 1, written, pattern(written, MB)).await {
            Ok(_) => written += MB,
            Err(error) => break error,
        }
        assert!(written < 32 * MB);
    };
    assert_eq!(error.kind, ErrorKind::NoSpace, "{error}");
    let content = pattern(9, 3 * MB + 1);
    let file = source(1, &node.put("f", content.clone()).await);
    assert!(node.read_all(9, &file, 300_000, 1).await.unwrap() == content);
    assert_eq!(node.read_open(1, 1, 0, 100).await.unwrap(), pattern(0, MB).slice(..100));
    node.stop().await;
}
