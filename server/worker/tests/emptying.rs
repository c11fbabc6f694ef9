//! A file of which a part is cached is opened with O_TRUNC: no byte of the old version shows up again.
#![allow(clippy::unwrap_used, reason = "a test ends there")]

mod harness;

use alluxio_proto::master::{RecoverTask, WorkerTasks};
use alluxio_proto::worker::{Drop, SetLength};
use bytes::Bytes;
use harness::*;
use std::os::unix::fs::FileExt;

const INODE: u64 = 5;
const LENGTH: u64 = 40 * CHUNK;

/// What is done to the file.
#[derive(Clone, Copy, Debug)]
struct How {
    /// Its writer has a descriptor.
    passes: bool,
    /// It is open already, and was changed, when it is emptied.
    joins: bool,
    /// By writing far behind the end; else by setting the length.
    extends_by_writing: bool,
    /// The operating system starts again, too.
    other_boot: bool,
}

impl How {
    fn all() -> impl Iterator<Item = How> {
        (0..16u8).map(|bits| How {
            passes: bits & 1 != 0,
            joins: bits & 2 != 0,
            extends_by_writing: bits & 4 != 0,
            other_boot: bits & 8 != 0,
        })
    }
}

#[tokio::test]
async fn nothing_of_what_was_emptied_comes_back() {
    // What is not asked for is not fetched.
    let fetched_parts = [("alluxio.worker.fetch.part.size", "256KB")];
    for how in How::all() {
        let mut node = Node::with(&fetched_parts).await;
        let old = pattern(1, LENGTH);
        let base = source(1, &node.put("f", old.clone()).await);
        for at in [0, 24 * CHUNK] {
            let part = node.read(INODE, &base, at, 1000).await.unwrap();
            assert!(part == old.slice(at as usize..at as usize + 1000));
        }
        assert!((1..LENGTH).contains(&node.fetched()), "{how:?}: a part of it is cached");
        let expected = empty_and_extend(&node, how, &base).await;
        assert!(
            node.read_open(INODE, 2, 0, LENGTH).await.unwrap() == expected,
            "{how:?}: while it is open"
        );
        node.stop().await;
        if how.other_boot {
            let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
            files(&node.dir, ".meta")
                .iter()
                .for_each(|sidecar| rewrite_boot(sidecar, boot.trim()));
        }
        node.start().await.unwrap();
        let recovered = recover(&node).await;
        assert_eq!(recovered, expected.len() as u64, "{how:?}");
        let version = local(2, recovered);
        assert!(
            node.read_all(INODE, &version, MB, 1).await.unwrap() == expected,
            "{how:?}: recovered"
        );
        let done = node.persist(task(1, INODE, 2, recovered, "f")).await;
        assert_eq!(done.error, None, "{how:?}");
        assert!(node.object("f").await == expected, "{how:?}: stored");
        let evict = Drop {
            inode: INODE,
            version: 2,
            open: false,
        };
        node.call(evict, Bytes::new()).await.unwrap();
        let mut stored = base.ufs.clone().unwrap();
        (stored.length, stored.fingerprint) = (recovered, done.fingerprint.clone());
        let again = node.read_all(INODE, &source(2, &stored), MB, 2).await.unwrap();
        assert!(again == expected, "{how:?}: fetched again");
    }
}

/// Opens it with O_TRUNC, writes a little and extends it. Answers what it holds by then.
async fn empty_and_extend(node: &Node, how: How, base: &alluxio_proto::master::ReadSource) -> Bytes {
    if how.joins {
        node.open_write(INODE, 2, Some(base.clone()), false, false)
            .await
            .unwrap();
        node.write(INODE, 2, 3 * CHUNK + 5, &b"written before it is emptied"[..])
            .await
            .unwrap();
    }
    let opened = node.open_write(INODE, 2, Some(base.clone()), true, how.passes).await;
    let (opened, fd) = opened.unwrap();
    assert_eq!((opened.length, fd.is_some()), (0, how.passes), "{how:?}");
    let mut expected = vec![0; LENGTH as usize];
    expected[..3].copy_from_slice(b"new");
    match &fd {
        Some(fd) => fd.write_all_at(b"new", 0).unwrap(),
        None => drop(node.write(INODE, 2, 0, &b"new"[..]).await.unwrap()),
    }
    let end = LENGTH as usize - 4;
    if how.extends_by_writing {
        expected[end..].copy_from_slice(b"end.");
    }
    match (&fd, how.extends_by_writing) {
        (Some(fd), true) => fd.write_all_at(b"end.", end as u64).unwrap(),
        (Some(fd), false) => fd.set_len(LENGTH).unwrap(),
        (None, true) => drop(node.write(INODE, 2, end as u64, &b"end."[..]).await.unwrap()),
        (None, false) => {
            let set = SetLength {
                inode: INODE,
                version: 2,
                length: LENGTH,
                number: 0,
            };
            node.stat_call(set).await.unwrap();
        }
    }
    expected.into()
}

/// The writers are gone; answers how long it is.
async fn recover(node: &Node) -> u64 {
    node.master.give(WorkerTasks {
        recover: vec![RecoverTask {
            inode: INODE,
            version: 2,
            boot: 1,
            ..RecoverTask::default()
        }],
        ..WorkerTasks::default()
    });
    let recovered = until("it is recovered", || node.master.recovered.lock().pop()).await;
    assert!(recovered.found);
    recovered.length
}
