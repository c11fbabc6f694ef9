//! Spilling of what is open, as those see it who close, commit and write it.
#![allow(clippy::unwrap_used, reason = "a test ends there")]

mod harness;

use alluxio_proto::ErrorKind;
use alluxio_proto::worker::{Drop, SetTimes, StatOpen};
use bytes::Bytes;
use harness::*;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

const INODE: u64 = 1;
const LENGTH: u64 = 12 * MB;
/// Of a disk of 16 MB this is less than there is to be, and more than is kept for names and sidecars.
const LEFT_BYTES: u64 = 640 * 1024;

/// A node on a disk that is all but full, with an open file of `LENGTH` bytes.
async fn full() -> (SmallDisk, Node) {
    let (disk, node) = written().await;
    *node.master.spills.lock() = Some(Vec::new());
    disk.fill(LEFT_BYTES);
    (disk, node)
}

async fn written() -> (SmallDisk, Node) {
    let disk = SmallDisk::new(16);
    let node = Node::at(disk.path().join("worker"), None, &[]).await;
    node.open_write(INODE, 1, None, false, false).await.unwrap();
    for part in 0..LENGTH / MB {
        node.write(INODE, 1, part * MB, pattern(part, MB)).await.unwrap();
    }
    (disk, node)
}

/// The version that the spiller has the master commit next.
async fn spilled(node: &Node) -> u64 {
    let first = || node.master.spills.lock().as_ref()?.first().map(|spill| spill.version);
    let version = until("it is committed for room", first).await;
    // What is asked for next is refused: the file is this test's from here on.
    *node.master.spills.lock() = None;
    version
}

/// It is open no more, and goes once it is uploaded as `version`.
async fn assert_let_go(node: &Node, version: u64, length: u64) {
    let stat = StatOpen { inode: INODE, version };
    let error = node.stat_call(stat).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Stale, "{error}");
    assert_eq!(node.persist(task(9, INODE, version, length, "f")).await.error, None);
    let drop = Drop {
        inode: INODE,
        version,
        open: false,
    };
    node.call(drop, Bytes::new()).await.unwrap();
    assert_eq!(node.object("f").await.len() as u64, length);
}

#[tokio::test]
async fn who_closes_what_was_spilled_meanwhile_lets_go_of_it() {
    let (_disk, mut node) = full().await;
    let version = spilled(&node).await;
    // The writer has flushed it as that version, and knows of no later one.
    let stat = node.release(INODE, version).await.unwrap();
    assert_eq!((stat.length, stat.changed), (LENGTH, false));
    assert_let_go(&node, version, LENGTH).await;
    node.stop().await;
}

#[tokio::test]
async fn what_is_written_after_a_spill_is_closed_as_the_version_after_it() {
    let (_disk, mut node) = full().await;
    let version = spilled(&node).await;
    node.write(INODE, version, 5, &b"late"[..]).await.unwrap();
    for _ in 0..2 {
        // Also if the answer gets lost.
        let stat = node.release(INODE, version).await.unwrap();
        assert_eq!((stat.length, stat.changed, stat.version), (LENGTH, true, version + 1));
    }
    assert_let_go(&node, version + 1, LENGTH).await;
    assert_eq!(node.object("f").await.slice(5..9), &b"late"[..]);
    node.stop().await;
}

#[tokio::test]
async fn the_last_of_several_writers_closes_what_was_spilled() {
    let (_disk, mut node) = full().await;
    node.open_write(INODE, 1, None, false, false).await.unwrap();
    let version = spilled(&node).await;
    let stat = node.release(INODE, version).await.unwrap();
    assert!(!stat.changed);
    let stat = StatOpen { inode: INODE, version };
    assert_eq!(
        node.stat_call(stat).await.unwrap().version,
        version + 1,
        "one has it open"
    );
    assert!(!node.release(INODE, version).await.unwrap().changed);
    assert_let_go(&node, version, LENGTH).await;
    node.stop().await;
}

#[tokio::test]
async fn what_its_writer_has_committed_is_not_sealed_again() {
    let (disk, mut node) = written().await;
    node.seal(INODE, 1, 2).await.unwrap();
    *node.master.spills.lock() = Some(Vec::new());
    disk.fill(LEFT_BYTES);
    assert_eq!(spilled(&node).await, 1);
    let stat = StatOpen {
        inode: INODE,
        version: 1,
    };
    assert_eq!(node.stat_call(stat).await.unwrap().version, 2);
    assert_eq!(node.persist(task(9, INODE, 1, LENGTH, "f")).await.error, None);
    let is_freed = || (disk.free_bytes() > LENGTH / 2).then_some(());
    until("its room is free", is_freed).await;
    node.stop().await;
}

/// Or the object would go with the name of the file, while somebody has that open.
#[tokio::test]
async fn nothing_is_given_up_of_which_the_master_does_not_know() {
    let (disk, mut node) = written().await;
    node.seal(INODE, 1, 2).await.unwrap();
    assert_eq!(node.persist(task(9, INODE, 1, LENGTH, "f")).await.error, None);
    disk.fill(LEFT_BYTES);
    let asked = || (node.master.spills_asked.load(Ordering::Relaxed) > 0).then_some(());
    until("the master refuses", asked).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(disk.free_bytes() <= LEFT_BYTES);
    node.stop().await;
}

#[tokio::test]
async fn a_master_that_does_not_answer_stops_no_writer_for_long() {
    let (disk, mut node) = written().await;
    *node.master.spill_pause.lock() = Duration::from_secs(40);
    disk.fill(LEFT_BYTES);
    let asked = || (node.master.spills_asked.load(Ordering::Relaxed) > 0).then_some(());
    until("the master is asked", asked).await;
    let begun = Instant::now();
    let times = SetTimes {
        inode: INODE,
        version: 1,
        mtime_ns: 7,
    };
    node.stat_call(times).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    node.stop().await;
}
