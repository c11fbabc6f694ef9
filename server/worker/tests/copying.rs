//! Copies of a file from one mount to another, as the master asks for them.
#![allow(clippy::unwrap_used, reason = "a test ends there")]

mod harness;

use alluxio_proto::ErrorKind;
use alluxio_proto::master::{CopyDone, CopyTask, ReadSource, StoredAttributes, WorkerTasks};
use alluxio_proto::types::UfsSource;
use alluxio_ufs::UnderFileSystem;
use alluxio_ufs::fault::Call;
use harness::{Node, pattern, until};
use std::time::Duration;

const MIB: u64 = 1 << 20;
/// Of more than one part.
const LENGTH: u64 = 9 * MIB + 5;
const INODE: u64 = 3;
const VERSION: u64 = 2;

fn task(intent: u64, source: &UfsSource) -> CopyTask {
    CopyTask {
        intent,
        inode: INODE,
        version: VERSION,
        source: Some(source.clone()),
        mount_id: 1,
        path: "to".into(),
        attributes: Some(StoredAttributes {
            mode: Some(0o640),
            mtime_ns: Some(5_000_000_000),
            ..Default::default()
        }),
        write_id: "copied".into(),
        ..Default::default()
    }
}

fn give(node: &Node, task: &CopyTask) {
    node.master.give(WorkerTasks {
        copy: vec![task.clone()],
        ..WorkerTasks::default()
    });
}

async fn copy(node: &Node, task: &CopyTask) -> CopyDone {
    give(node, task);
    until("the copy ends", || {
        let copied = node.master.copied.lock();
        copied.iter().find(|done| done.intent == task.intent).cloned()
    })
    .await
}

#[tokio::test]
async fn a_copy_is_what_was_seen_over_what_was_seen() {
    let node = Node::new().await;
    let bytes = pattern(1, LENGTH);
    let source = node.put("from", bytes.clone()).await;
    let done = copy(&node, &task(1, &source)).await;
    let there = node.ufs.status(b"to").await.unwrap();
    assert_eq!(done.error, None);
    assert_eq!((&done.fingerprint, done.length), (&there.fingerprint, LENGTH));
    assert_eq!(done.source_fingerprint, source.fingerprint);
    assert_eq!(
        (there.mode, there.mtime_ns, there.write_id.as_deref()),
        (Some(0o640), 5_000_000_000, Some("copied"))
    );
    assert!(node.object("to").await == bytes && node.object("from").await == bytes);
    // Something is where nothing was to be.
    let kind = |done: CopyDone| alluxio_proto::FsError::from_wire(done.error.unwrap()).kind;
    let mut named = task(2, &source);
    named.write_id = "another".into();
    assert_eq!(kind(copy(&node, &named).await), ErrorKind::VersionMismatch);
    assert_eq!(node.ufs.status(b"to").await.unwrap().fingerprint, there.fingerprint);
    named.intent = 3;
    named.expect = there.fingerprint;
    assert_eq!(copy(&node, &named).await.error, None);
    // The source is another one now.
    node.put("from", pattern(2, LENGTH)).await;
    named.intent = 4;
    named.expect = node.ufs.status(b"to").await.unwrap().fingerprint;
    assert_eq!(kind(copy(&node, &named).await), ErrorKind::VersionMismatch);
    assert!(node.object("to").await == bytes);
}

#[tokio::test]
async fn what_is_cached_is_not_fetched_once_more() {
    let node = Node::new().await;
    let bytes = pattern(1, LENGTH);
    let source = node.put("from", bytes.clone()).await;
    let read = ReadSource {
        version: VERSION,
        length: LENGTH,
        ufs: Some(source.clone()),
        ..Default::default()
    };
    assert!(node.read_all(INODE, &read, MIB, 0).await.unwrap() == bytes);
    let fetched = node.fetched();
    assert_eq!(copy(&node, &task(1, &source)).await.error, None);
    assert_eq!(node.fetched(), fetched);
    assert!(node.object("to").await == bytes);
    // Of another object of that name nothing is taken from the cache.
    let other = pattern(2, LENGTH);
    let source = node.put("from", other.clone()).await;
    let mut over = task(2, &source);
    over.expect = node.ufs.status(b"to").await.unwrap().fingerprint;
    assert_eq!(copy(&node, &over).await.error, None);
    assert!(node.object("to").await == other);
}

#[tokio::test]
async fn a_copy_that_is_given_twice_is_made_once() {
    let node = Node::new().await;
    let source = node.put("from", pattern(1, MIB)).await;
    let writes = node.ufs.faults().calls(Call::Write);
    node.ufs.faults().delay(Call::Write, Duration::from_millis(300));
    give(&node, &task(1, &source));
    until("it is being written", || {
        (node.ufs.faults().calls(Call::Write) > writes).then_some(())
    })
    .await;
    // It comes at once: the worker asks for more while it copies.
    give(&node, &task(1, &source));
    until("the copy ends", || node.master.copied.lock().first().cloned()).await;
    assert_eq!(node.ufs.faults().calls(Call::Write), writes + 1);
}
