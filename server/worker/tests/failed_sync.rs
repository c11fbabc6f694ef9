//! A disk that takes writes and cannot keep them: what is committed of that, and how a file gets over it.
#![allow(clippy::unwrap_used, reason = "a test ends there")]

mod harness;

use alluxio_proto::FsResult;
use alluxio_proto::master::{ReadSource, RecoverTask, Recovered, WorkerTasks};
use alluxio_proto::worker::{Drop, SyncOpen};
use bytes::Bytes;
use harness::*;
use std::path::{Path, PathBuf};
use std::process::Command;

/// An ext4 on a loop device whose own file has less room than it promises.
struct BadDisk {
    dir: tempfile::TempDir,
}

impl BadDisk {
    fn new() -> Self {
        let disk = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        let d = disk.dir.path().display();
        sh(&format!(
            "mkdir {d}/back {d}/mnt; mount -t tmpfs -o size=32M none {d}/back; truncate -s 512M {d}/back/img; \
             mkfs.ext4 -q -F -O ^has_journal -E lazy_itable_init=1,nodiscard {d}/back/img; mount -o loop {d}/back/img {d}/mnt; \
             mkdir {d}/mnt/worker; sync -f {d}/mnt"
        ));
        disk
    }
    fn folder(&self) -> PathBuf {
        self.dir.path().join("mnt/worker")
    }
    /// From now on it keeps nothing new.
    fn breaks(&self) {
        let filler = self.dir.path().join("mnt/filler");
        let filled = std::fs::write(&filler, pattern(99, 64 * MB));
        let synced = filled.and_then(|()| std::fs::File::open(&filler)?.sync_all());
        assert!(synced.is_err(), "the disk is still well");
    }
    /// It has room again, and knows nothing of what it could not keep.
    fn is_mended(&self) {
        sh(&format!("mount -o remount,size=1G {}/back", self.dir.path().display()));
    }
}

impl std::ops::Drop for BadDisk {
    fn drop(&mut self) {
        let d = self.dir.path().display();
        // What is still used is detached when it is not.
        sh(&format!("umount -l {d}/mnt; umount -l {d}/back"));
    }
}

fn sh(script: &str) {
    let done = Command::new("sh").args(["-ec", script]).status();
    assert!(
        done.is_ok_and(|status| status.success()) || std::thread::panicking(),
        "{script}"
    );
}

async fn node_on(folder: &Path) -> Node {
    Node::at(folder.to_owned(), None, &[]).await
}

async fn sync(node: &Node, inode: u64, version: u64) -> FsResult<()> {
    let sync = SyncOpen {
        inode,
        version,
        data_only: false,
    };
    node.stat_call(sync).await.map(drop)
}

/// The master asks what is left of an open version whose writers are gone.
async fn recover(node: &Node, inode: u64, version: u64) -> Recovered {
    let task = RecoverTask {
        inode,
        version,
        ..RecoverTask::default()
    };
    node.master.give(WorkerTasks {
        recover: vec![task],
        ..WorkerTasks::default()
    });
    until("it is recovered", || node.master.recovered.lock().pop()).await
}

/// The next writer's bytes are synced, committed and uploaded with those that were left.
async fn is_as_any_file(node: &Node, inode: u64, base: ReadSource, content: &Bytes) {
    let version = base.version + 1;
    let path = format!("f{inode}");
    node.open_write(inode, version, Some(base), false, false).await.unwrap();
    node.write(inode, version, 0, &b"anew"[..]).await.unwrap();
    sync(node, inode, version).await.unwrap();
    let sealed = node.seal(inode, version, 0).await.unwrap();
    let done = node.persist(task(inode, inode, version, sealed.length, &path)).await;
    assert_eq!(done.error, None);
    let mut expected = content.to_vec();
    expected[..4].copy_from_slice(b"anew");
    assert!(node.object(&path).await == expected, "other bytes");
}

/// What fsync refused is not committed by the close, nor by its retry. When its writers are gone it is recovered as it is, and
/// is a file as any other from then on.
#[tokio::test]
async fn what_a_sync_refused_is_committed_by_its_recovery_alone() {
    let disk = BadDisk::new();
    let node = node_on(&disk.folder()).await;
    let content = pattern(1, 200_000);
    node.open_write(5, 1, None, false, false).await.unwrap();
    disk.breaks();
    node.write(5, 1, 0, content.clone()).await.unwrap();
    sync(&node, 5, 1).await.unwrap_err();
    disk.is_mended();
    for _ in 0..2 {
        sync(&node, 5, 1).await.unwrap_err();
        node.seal(5, 1, 2).await.unwrap_err();
        node.seal(5, 1, 0).await.unwrap_err();
        node.release(5, 1).await.unwrap_err();
    }
    let recovered = recover(&node, 5, 1).await;
    assert_eq!((recovered.found, recovered.length), (true, content.len() as u64));
    is_as_any_file(&node, 5, local(1, recovered.length), &content).await;
}

/// The same of a sync within the seal: the version is labelled as sealed by then.
#[tokio::test]
async fn what_a_seal_could_not_sync_is_committed_by_its_recovery_alone() {
    let disk = BadDisk::new();
    let node = node_on(&disk.folder()).await;
    let content = pattern(2, 200_000);
    node.open_write(5, 1, None, false, false).await.unwrap();
    disk.breaks();
    node.write(5, 1, 0, content.clone()).await.unwrap();
    node.seal(5, 1, 0).await.unwrap_err();
    disk.is_mended();
    for _ in 0..2 {
        node.seal(5, 1, 0).await.unwrap_err();
        node.release(5, 1).await.unwrap_err();
    }
    let recovered = recover(&node, 5, 1).await;
    assert_eq!((recovered.found, recovered.length), (true, content.len() as u64));
    is_as_any_file(&node, 5, local(1, recovered.length), &content).await;
}

/// The kernel tells the next worker nothing of a sync that failed. Its writer lives on, and asks again.
#[tokio::test]
async fn a_worker_that_is_started_again_knows_of_the_sync_that_failed() {
    let disk = BadDisk::new();
    let mut node = node_on(&disk.folder()).await;
    let content = pattern(3, 200_000);
    node.open_write(5, 1, None, false, false).await.unwrap();
    disk.breaks();
    node.write(5, 1, 0, content.clone()).await.unwrap();
    sync(&node, 5, 1).await.unwrap_err();
    disk.is_mended();
    for _ in 0..2 {
        node.restart().await;
        sync(&node, 5, 1).await.unwrap_err();
        node.seal(5, 1, 0).await.unwrap_err();
    }
    let recovered = recover(&node, 5, 1).await;
    assert_eq!((recovered.found, recovered.length), (true, content.len() as u64));
    is_as_any_file(&node, 5, local(1, recovered.length), &content).await;
}

/// Nothing is lost with what was only fetched: no writer and no reader is to suffer from a sync of it that failed.
#[tokio::test]
async fn what_was_only_fetched_is_fetched_again_after_a_failed_sync() {
    let disk = BadDisk::new();
    let node = node_on(&disk.folder()).await;
    let content = pattern(4, 200_000);
    let of = async |path: &str| source(1, &node.put(path, content.clone()).await);
    let (written, read) = (of("f5").await, of("f6").await);
    disk.breaks();
    for (inode, source) in [(5, &written), (6, &read)] {
        assert!(node.read_all(inode, source, MB, 1).await.unwrap() == content);
        // What was fetched would be the only copy of the open version from here on, so it is synced first.
        let opened = node.open_write(inode, 2, Some(source.clone()), false, true).await;
        assert!(opened.is_err(), "the disk kept it");
        // Its opener gives it up.
        let version = 2;
        let open = true;
        node.call(Drop { inode, version, open }, Bytes::new()).await.unwrap();
    }
    disk.is_mended();
    let fetched = node.fetched();
    assert!(node.read_all(6, &read, MB, 2).await.unwrap() == content);
    assert_eq!(
        node.fetched() - fetched,
        content.len() as u64,
        "read from what the disk may not have"
    );
    is_as_any_file(&node, 5, written, &content).await;
}
