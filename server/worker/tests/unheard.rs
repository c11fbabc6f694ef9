//! What a home did and the master has not heard of.
#![allow(clippy::unwrap_used, reason = "a test ends there")]

mod harness;

use alluxio_proto::master::{CachedFile, RecoverTask, WorkerTasks};
use harness::{Node, local, until};

/// A session ended while its writer lived: the home sealed on, and the master committed none of that.
#[tokio::test]
async fn what_was_sealed_after_the_version_that_is_recovered_is_found() {
    let node = Node::new().await;
    node.open_write(5, 1, None, false, false).await.unwrap();
    node.write(5, 1, 0, &b"one"[..]).await.unwrap();
    node.seal(5, 1, 2).await.unwrap();
    node.write(5, 2, 3, &b", two"[..]).await.unwrap();
    node.seal(5, 2, 3).await.unwrap();
    assert!(!node.release(5, 3).await.unwrap().changed, "given back");
    node.master.give(WorkerTasks {
        recover: vec![RecoverTask {
            inode: 5,
            version: 1,
            ..RecoverTask::default()
        }],
        ..WorkerTasks::default()
    });
    let recovered = until("it is recovered", || node.master.recovered.lock().pop()).await;
    assert_eq!((recovered.found, recovered.length), (true, 8));
    let version = recovered.as_version;
    assert_eq!(version, 2);
    assert_eq!(node.read(5, &local(version, 8), 0, 8).await.unwrap(), &b"one, two"[..]);
}

/// An opening was given up: its order to drop is not about the committed version under it.
#[tokio::test]
async fn an_opening_that_is_given_up_leaves_what_lies_under_it() {
    let node = Node::new().await;
    for inode in [5, 6] {
        node.open_write(inode, 1, None, false, false).await.unwrap();
        node.write(inode, 1, 0, &b"only copy"[..]).await.unwrap();
        node.seal(inode, 1, 0).await.unwrap();
    }
    node.open_write(5, 2, Some(local(1, 9)), false, false).await.unwrap();
    let order = |inode, version| CachedFile {
        inode,
        version,
        ..CachedFile::default()
    };
    node.master.give(WorkerTasks {
        drop: vec![order(5, 2), order(6, 1)],
        ..WorkerTasks::default()
    });
    // Orders are carried out in turn.
    while node.read(6, &local(1, 9), 0, 9).await.is_ok() {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(node.read(5, &local(1, 9), 0, 9).await.unwrap(), &b"only copy"[..]);
}

/// The last writer lets go, and asks again since the answer got lost: what was sealed is still to be committed.
#[tokio::test]
async fn who_lets_go_again_hears_that_something_was_sealed() {
    let node = Node::new().await;
    node.open_write(5, 1, None, false, false).await.unwrap();
    node.write(5, 1, 0, &b"bytes"[..]).await.unwrap();
    for _ in 0..2 {
        let stat = node.release(5, 1).await.unwrap();
        assert_eq!((stat.changed, stat.version, stat.length), (true, 1, 5));
    }
}

/// The home was started again under the writers of two mounts, and has forgotten that there are two: who closes first ends nothing.
#[tokio::test]
async fn a_home_that_is_started_again_ends_nothing_that_others_write() {
    let mut node = Node::new().await;
    for _ in 0..2 {
        node.open_write(5, 1, None, false, false).await.unwrap();
        node.open_write(6, 1, None, false, false).await.unwrap();
    }
    node.write(5, 1, 0, &b"one"[..]).await.unwrap();
    node.restart().await;
    assert!(node.release(5, 1).await.unwrap().others_write);
    node.write(5, 1, 3, &b", two"[..]).await.unwrap();
    // Who is the last one the master knows, and has it recovered.
    assert!(node.release(5, 1).await.unwrap().others_write);
    node.master.give(WorkerTasks {
        recover: vec![RecoverTask {
            inode: 5,
            version: 1,
            ..RecoverTask::default()
        }],
        ..WorkerTasks::default()
    });
    let recovered = until("it is recovered", || node.master.recovered.lock().pop()).await;
    assert_eq!((recovered.found, recovered.length), (true, 8));
    assert_eq!(node.read(5, &local(1, 8), 0, 8).await.unwrap(), &b"one, two"[..]);
    // From then on it knows.
    node.open_write(5, 2, Some(local(1, 8)), false, false).await.unwrap();
    assert!(!node.release(5, 2).await.unwrap().others_write);
    // Of a new file that one of them closes while it is empty.
    assert!(!node.close_empty(6, true).await.unwrap().changed);
    node.write(6, 1, 0, &b"content"[..]).await.unwrap();
}
