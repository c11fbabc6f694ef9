//! Quota, eviction, and a disk that is really full.
#![allow(clippy::unwrap_used, reason = "a test ends there")]

mod harness;

use alluxio_proto::ErrorKind;
use harness::*;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Longer than anything takes that is not stuck.
const LONG: Duration = Duration::from_secs(60);

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

/// What does not fit is read past the store: for ever fetching and evicting the same would be no answer.
#[tokio::test]
async fn a_file_larger_than_the_quota_is_read_to_its_end() {
    let node = Node::with(&[("alluxio.worker.tieredstore.level0.dirs.quota", "2MB")]).await;
    let content = pattern(7, 9 * MB + 1);
    let file = source(1, &node.put("f", content.clone()).await);
    let read = tokio::time::timeout(LONG, node.read_all(7, &file, 300_000, 1));
    assert!(read.await.expect("a read that ends").unwrap() == content);
    let (used, quota) = node.worker().space();
    assert!(used <= quota, "{used} of {quota}");
    // A program may change a part of it, and what is left of its chunks is brought whatever the quota says.
    node.open_write(7, 2, Some(file), false, false).await.unwrap();
    node.write(7, 2, 5 * MB + 17, pattern(8, 1_000)).await.unwrap();
    let mut changed = content.to_vec();
    let at = 5 * MB as usize + 17;
    changed[at..at + 1_000].copy_from_slice(&pattern(8, 1_000));
    for offset in [0, 5 * MB, 8 * MB] {
        let found = node.read_open(7, 2, offset, 100_000).await.unwrap();
        assert!(found == changed[offset as usize..][..100_000], "at {offset}");
    }
}

/// A file whose descriptor is out stays: who writes it next gets the same file.
#[tokio::test]
async fn a_file_that_somebody_has_is_not_evicted() {
    let node = Node::with(&[("alluxio.worker.tieredstore.level0.dirs.quota", "4MB")]).await;
    let file = source(1, &node.put("f", pattern(1, 2 * MB)).await);
    assert!(node.read_all(1, &file, MB, 0).await.unwrap() == pattern(1, 2 * MB));
    let (_, had) = node.open_read(1, &file).await.unwrap();
    let had = had.expect("a descriptor");
    let read_others = async |from: u64| {
        for inode in from..from + 4 {
            let other = source(1, &node.put(&format!("f{inode}"), pattern(inode, 2 * MB)).await);
            assert!(node.read_all(inode, &other, MB, 0).await.unwrap() == pattern(inode, 2 * MB));
        }
    };
    read_others(2).await;
    let (_, again) = node
        .open_write_with(1, 2, Some(file), false, (true, true))
        .await
        .unwrap();
    assert!(is_same(&had, &again.expect("a descriptor")));
    node.seal(1, 2, 0).await.unwrap();

    // Once nobody has it, and it is in the under-storage, it goes.
    drop(had);
    let file = source(1, &node.put("g", pattern(20, 2 * MB)).await);
    assert!(node.read_all(20, &file, MB, 0).await.unwrap() == pattern(20, 2 * MB));
    let (_, had) = node.open_read(20, &file).await.unwrap();
    drop(had.expect("a descriptor"));
    let before = node.fetched();
    read_others(10).await;
    let fetched = node.fetched();
    node.read(20, &file, 0, 100).await.unwrap();
    assert!(
        fetched > before && node.fetched() > fetched,
        "it was evicted, and is fetched again"
    );
}

fn is_same(one: &std::fs::File, other: &std::fs::File) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |file: &std::fs::File| file.metadata().map(|meta| (meta.dev(), meta.ino())).unwrap();
    id(one) == id(other)
}

/// On a full disk a write waits for what is on its way to the under-storage, instead of failing.
#[tokio::test]
async fn a_write_waits_for_what_is_being_persisted() {
    let disk = SmallDisk::new(16);
    let dir = disk.path().join("worker");
    let mut node = Node::at(dir, None, &[("alluxio.worker.tieredstore.level0.dirs.quota", "1GB")]).await;
    let mut closed = 0;
    node.open_write(1, 1, None, false, false).await.unwrap();
    while closed < 10 * MB {
        node.write(1, 1, closed, pattern(closed, MB)).await.unwrap();
        closed += MB;
    }
    node.seal(1, 1, 0).await.unwrap();
    node.open_write(2, 1, None, false, false).await.unwrap();
    let write = async {
        for part in 0..10 {
            node.write(2, 1, part * MB, pattern(part, MB)).await.unwrap();
        }
    };
    let persist = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        node.persist(task(1, 1, 1, 10 * MB, "one")).await
    };
    let (_, done) = tokio::time::timeout(LONG, async { tokio::join!(write, persist) })
        .await
        .expect("room comes");
    assert_eq!(done.error, None);
    assert_eq!(
        node.read_open(2, 1, 9 * MB, 100).await.unwrap(),
        pattern(9, MB).slice(..100)
    );
    assert_eq!(node.object("one").await.len() as u64, 10 * MB);
    node.stop().await;
}
