//! The open version, sealing, uploads, recovery and drops.
#![allow(clippy::unwrap_used, reason = "a test ends there")]

mod harness;

use alluxio_proto::ErrorKind;
use alluxio_proto::master::{CachedFile, RecoverTask, WorkerTasks, WriteLease};
use alluxio_proto::types::Attr;
use alluxio_proto::worker::{
    Allocate, Drop, OpenStat, Seal, SetLength, SetTimes, StatOpen, SyncOpen, WorkerReplyBody, Write,
};
use alluxio_ufs::UfsErrorKind;
use alluxio_ufs::fault::Call;
use bytes::Bytes;
use harness::*;
use std::os::unix::fs::FileExt;

fn stat(inode: u64, version: u64) -> StatOpen {
    StatOpen { inode, version }
}

#[tokio::test]
async fn new_file_through_the_worker_is_sealed_read_and_uploaded() {
    let node = Node::new().await;
    let content = pattern(1, 3 * MB + 5);
    node.open_write(5, 1, None, false, false).await.unwrap();
    for at in (0..content.len()).step_by(MB as usize) {
        let end = content.len().min(at + MB as usize);
        node.write(5, 1, at as u64, content.slice(at..end)).await.unwrap();
    }
    assert!(node.stat_call(stat(5, 1)).await.unwrap().changed);
    assert_eq!(
        node.read_open(5, 1, MB, 100).await.unwrap(),
        content.slice(MB as usize..MB as usize + 100)
    );
    let sealed = node.seal(5, 1, 0).await.unwrap();
    assert_eq!(sealed.length, content.len() as u64);
    // Asked again after a lost answer; when its attributes changed is not known then.
    let again = OpenStat { ctime_ns: 0, ..sealed };
    assert_eq!(node.seal(5, 1, 0).await.unwrap(), again);
    let version = local(1, sealed.length);
    assert!(node.read_all(5, &version, MB, 1).await.unwrap() == content);
    let done = node.persist(task(1, 5, 1, sealed.length, "dir/f")).await;
    assert_eq!(done.error, None);
    assert!(node.object("dir/f").await == content);
    // Given again, it is confirmed and not written again.
    let writes = node.ufs.faults().calls(Call::Write);
    assert_eq!(
        node.persist(task(2, 5, 1, sealed.length, "dir/f")).await.fingerprint,
        done.fingerprint
    );
    assert_eq!(node.ufs.faults().calls(Call::Write), writes);
}

/// A poll for no uploads is held by the master for its whole length, while what it holds ready waits.
// With several threads polls and uploads race for the places.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_uploads_follow_each_other_without_an_empty_poll() {
    const FILES: u64 = 200;
    let node = Node::with(&[("alluxio.worker.persist.parallelism", "8")]).await;
    let mut tasks = WorkerTasks::default();
    for inode in 1..=FILES {
        node.open_write(inode, 1, None, false, false).await.unwrap();
        node.write(inode, 1, 0, pattern(inode, 100)).await.unwrap();
        node.seal(inode, 1, 0).await.unwrap();
        tasks.persist.push(task(inode, inode, 1, 100, &format!("f{inode}")));
    }
    // Long enough for all places to be taken when the next poll goes out.
    node.ufs
        .faults()
        .delay(Call::Write, std::time::Duration::from_millis(20));
    node.master.give(tasks);
    until("all are uploaded", || {
        (node.master.done.lock().len() as u64 == FILES).then_some(())
    })
    .await;
    assert!(node.master.done.lock().iter().all(|done| done.error.is_none()));
    let asked_for = node.master.asked_for.lock().clone();
    assert!(
        asked_for.iter().all(|uploads| (1..=16).contains(uploads)),
        "{asked_for:?}"
    );
    // In batches, not one at a time: each answer costs the master a sync.
    assert!(asked_for.len() as u64 <= FILES / 8 + 3, "{asked_for:?}");
}

#[tokio::test]
async fn passthrough_writer_is_noticed_sealed_and_goes_on_in_the_next_version() {
    let mut node = Node::new().await;
    let content = pattern(2, 20 * MB + 3);
    let (_, fd) = node.open_write(5, 1, None, false, true).await.unwrap();
    let fd = fd.unwrap();
    fd.write_all_at(&content, 0).unwrap();
    let first = node.seal(5, 1, 2).await.unwrap();
    assert_eq!((first.length, first.changed), (content.len() as u64, false));
    assert!(!node.stat_call(stat(5, 2)).await.unwrap().changed);
    // The first version is uploaded while the file is still open, as fsync with THROUGH does.
    let done = node.persist(task(1, 5, 1, first.length, "f")).await;
    assert_eq!(done.error, None);
    fd.write_all_at(b"patch", 10 * MB).unwrap();
    assert!(node.stat_call(stat(5, 2)).await.unwrap().changed);
    // An upload of what is overwritten in place is no longer possible, and says so.
    let again = node.persist(task(2, 5, 1, first.length, "g")).await;
    assert_eq!(again.error.unwrap().kind, ErrorKind::Stale as i32);
    let second = node.seal(5, 2, 0).await.unwrap();
    let mut expected = content.to_vec();
    expected[10 * MB as usize..][..5].copy_from_slice(b"patch");
    node.restart().await;
    assert!(node.read_all(5, &local(2, second.length), MB, 1).await.unwrap() == expected);
}

#[tokio::test]
async fn reopened_in_place_it_is_the_same_file_and_goes_back_if_nothing_changed() {
    let node = Node::new().await;
    let content = pattern(3, 200_000);
    let file = source(4, &node.put("f", content.clone()).await);
    let (_, reader) = node.open_read(5, &file).await.unwrap();
    let (opened, writer) = node.open_write(5, 5, Some(file.clone()), false, true).await.unwrap();
    assert!(opened.complete && opened.length == 200_000);
    assert!(!node.stat_call(stat(5, 5)).await.unwrap().changed);
    let release = Seal {
        inode: 5,
        version: 5,
        next: 0,
        release: true,
        closed_empty: false,
        may_be_mapped: false,
    };
    drop(writer);
    assert!(!node.stat_call(release.clone()).await.unwrap().changed);
    assert_eq!(node.read(5, &file, 0, 10).await.unwrap(), content.slice(..10));
    // Again, and now it is written to: readers of before see it, as on a local file system.
    let (_, writer2) = node.open_write(5, 6, Some(file.clone()), false, true).await.unwrap();
    writer2.unwrap().write_all_at(b"new", 0).unwrap();
    let mut seen = [0; 3];
    reader.unwrap().read_exact_at(&mut seen, 0).unwrap();
    assert_eq!(&seen, b"new");
    let sealed = node.stat_call(Seal { version: 6, ..release }).await.unwrap();
    assert!(sealed.changed);
    assert_eq!(&node.read(5, &local(6, 200_000), 0, 4).await.unwrap()[..3], b"new");
}

/// Who has the file mapped keeps the kernel's own descriptor of it open.
#[tokio::test]
async fn what_somebody_can_still_write_is_not_sealed_for_good() {
    let node = Node::new().await;
    let (_, mapping) = node.open_write(5, 1, None, false, true).await.unwrap();
    let mapping = mapping.unwrap();
    mapping.write_all_at(b"one", 0).unwrap();
    let release = |version| Seal {
        inode: 5,
        version,
        next: 0,
        release: true,
        closed_empty: false,
        may_be_mapped: true,
    };
    let stat = node.stat_call(release(1)).await.unwrap();
    assert!(stat.mapped && stat.changed);
    assert_eq!(node.seal(5, 1, 2).await.unwrap().length, 3);
    let stat = node.stat_call(release(2)).await.unwrap();
    assert!(stat.mapped && !stat.changed);
    mapping.write_all_at(b"two", 0).unwrap();
    let stat = node.stat_call(release(2)).await.unwrap();
    assert!(stat.mapped && stat.changed);
    assert_eq!(node.seal(5, 2, 3).await.unwrap().length, 3);
    mapping.write_all_at(b"333", 0).unwrap();
    drop(mapping);
    let stat = node.stat_call(release(3)).await.unwrap();
    assert!(stat.changed && !stat.mapped);
    assert_eq!(node.read_all(5, &local(3, 3), MB, 1).await.unwrap(), &b"333"[..]);
}

#[tokio::test]
async fn small_write_into_a_large_object_fetches_one_chunk() {
    let mut node = Node::new().await;
    let content = pattern(4, 50 * MB + 100);
    let base = source(1, &node.put("f", content.clone()).await);
    let before = node.fetched();
    let (opened, fd) = node.open_write(5, 2, Some(base.clone()), false, true).await.unwrap();
    assert!(!opened.complete && fd.is_none() && opened.length == base.length);
    let mut expected = content.to_vec();
    node.write(5, 2, 7 * MB + 5, &b"inside"[..]).await.unwrap();
    expected[7 * MB as usize + 5..][..6].copy_from_slice(b"inside");
    assert_eq!(node.fetched() - before, CHUNK);
    // A whole chunk needs nothing from below.
    let whole = pattern(99, CHUNK);
    node.write(5, 2, 20 * MB, whole.clone()).await.unwrap();
    expected[20 * MB as usize..][..CHUNK as usize].copy_from_slice(&whole);
    assert_eq!(node.fetched() - before, CHUNK);
    // Growing, with a hole.
    node.write(5, 2, 51 * MB, &b"end"[..]).await.unwrap();
    expected.resize(51 * MB as usize, 0);
    expected.extend_from_slice(b"end");
    let sealed = node.seal(5, 2, 0).await.unwrap();
    assert_eq!(sealed.length, expected.len() as u64);
    node.restart().await;
    let mut upload = task(1, 5, 2, sealed.length, "f");
    upload.expect = base.ufs.as_ref().unwrap().fingerprint.clone();
    upload.base = base.ufs.clone();
    let done = node.persist(upload).await;
    assert_eq!(done.error, None);
    assert!(node.object("f").await == expected);
    // What was never local now comes from the new object.
    let mut new = local(2, sealed.length);
    new.ufs = Some(alluxio_proto::types::UfsSource {
        fingerprint: done.fingerprint,
        length: sealed.length,
        ..base.ufs.unwrap()
    });
    assert!(node.read_all(5, &new, MB, 1).await.unwrap() == expected);
}

/// A version that another home has overtaken stays what it is for those who have it open, also when this home is to write the
/// next one, before it has heard that it may drop the old.
#[tokio::test]
async fn truncating_leaves_a_version_alone_that_was_overtaken() {
    let node = Node::new().await;
    let content = pattern(1, 10_000);
    for (inode, replaces, kept) in [(5, 2, true), (6, 1, false)] {
        node.open_write(inode, 1, None, false, false).await.unwrap();
        node.write(inode, 1, 0, content.clone()).await.unwrap();
        node.seal(inode, 1, 0).await.unwrap();
        let (_, old) = node.open_read(inode, &local(1, 10_000)).await.unwrap();
        let lease = WriteLease {
            version: replaces + 1,
            replaces,
            ..Default::default()
        };
        node.open_write_as(inode, lease, true, (true, false)).await.unwrap();
        node.write(inode, replaces + 1, 0, pattern(2, 100)).await.unwrap();
        let mut found = vec![0; 20_000];
        let length = old.unwrap().read_at(&mut found, 0).unwrap();
        // As on a local file system where it is the version that is emptied.
        assert_eq!(found[..length] == content[..], kept, "{inode}: {length} bytes");
        let now = node.read_open(inode, replaces + 1, 0, 20_000).await.unwrap();
        assert!(now == pattern(2, 100), "{inode}");
    }
}

#[tokio::test]
async fn truncate_and_extend_over_a_base_shows_zeros() {
    let node = Node::new().await;
    let content = pattern(5, 5 * CHUNK);
    let base = source(1, &node.put("f", content.clone()).await);
    node.open_write(5, 2, Some(base), false, false).await.unwrap();
    let length = |length| SetLength {
        inode: 5,
        version: 2,
        length,
        number: 0,
    };
    node.stat_call(length(CHUNK + 100)).await.unwrap();
    node.stat_call(length(4 * CHUNK)).await.unwrap();
    let mut expected = content[..CHUNK as usize + 100].to_vec();
    expected.resize(4 * CHUNK as usize, 0);
    assert_eq!(node.read_open(5, 2, 0, 4 * CHUNK).await.unwrap(), expected);
    node.seal(5, 2, 0).await.unwrap();
    assert_eq!(
        node.read(5, &local(2, 4 * CHUNK), 0, 4 * CHUNK).await.unwrap(),
        expected
    );
}

#[tokio::test]
async fn append_allocate_times_and_sync() {
    let node = Node::new().await;
    node.open_write(5, 1, None, false, false).await.unwrap();
    let append = Write {
        inode: 5,
        version: 1,
        offset: 0,
        append: true,
    };
    for (data, at) in [("one", 0), ("two", 3)] {
        match node
            .call(append.clone(), Bytes::from_static(data.as_bytes()))
            .await
            .unwrap()
            .reply
        {
            WorkerReplyBody::Written(written) => assert_eq!(written.offset, at),
            other => panic!("{other:?}"),
        }
    }
    let allocate = |mode: i32, offset, length| Allocate {
        inode: 5,
        version: 1,
        mode: mode as u32,
        offset,
        length,
        number: 0,
    };
    let size = |stat: alluxio_proto::worker::OpenStat| stat.length;
    assert_eq!(
        size(
            node.stat_call(allocate(libc::FALLOC_FL_KEEP_SIZE, 0, MB))
                .await
                .unwrap()
        ),
        6
    );
    assert_eq!(size(node.stat_call(allocate(0, 0, 100_000)).await.unwrap()), 100_000);
    let punch = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    node.stat_call(allocate(punch, 1, 2)).await.unwrap();
    assert_eq!(node.read_open(5, 1, 0, 7).await.unwrap(), &b"o\0\0two\0"[..]);
    assert_eq!(
        size(
            node.stat_call(allocate(libc::FALLOC_FL_ZERO_RANGE, 4, 200_000))
                .await
                .unwrap()
        ),
        200_004
    );
    let bad = node.stat_call(allocate(libc::FALLOC_FL_COLLAPSE_RANGE, 0, 4096)).await;
    assert_eq!(bad.unwrap_err().kind, ErrorKind::NotSupported);
    let times = SetTimes {
        inode: 5,
        version: 1,
        mtime_ns: 1_500_000_000_123_456_789,
    };
    assert_eq!(node.stat_call(times.clone()).await.unwrap().mtime_ns, times.mtime_ns);
    let sync = SyncOpen {
        inode: 5,
        version: 1,
        data_only: false,
    };
    node.stat_call(sync).await.unwrap();
    assert_eq!(node.seal(5, 1, 0).await.unwrap().mtime_ns, times.mtime_ns);
    assert_eq!(
        node.read(5, &local(1, 200_004), 0, 7).await.unwrap(),
        &b"o\0\0t\0\0\0"[..]
    );
    assert_eq!(
        node.write(5, 1, 0, &b"late"[..]).await.unwrap_err().kind,
        ErrorKind::Stale
    );
}

#[tokio::test]
async fn upload_meets_its_own_object_and_one_of_somebody_else() {
    let node = Node::new().await;
    let content = pattern(6, 2 * MB);
    node.open_write(5, 1, None, false, false).await.unwrap();
    node.write(5, 1, 0, content.clone()).await.unwrap();
    node.seal(5, 1, 0).await.unwrap();
    // From a run before, which ended between PUT and confirmation.
    let there = node.put("own", content.clone()).await;
    let done = node.persist(task(1, 5, 1, 2 * MB, "own")).await;
    assert_eq!((done.error, done.fingerprint), (None, there.fingerprint));
    node.put("other", pattern(7, 2 * MB)).await;
    let done = node.persist(task(2, 5, 1, 2 * MB, "other")).await;
    assert_eq!(done.error, None);
    assert!(node.object("other").await == content);
    // The object to be replaced is gone.
    let mut gone = task(3, 5, 1, 2 * MB, "gone");
    gone.expect = "no such fingerprint".into();
    assert_eq!(node.persist(gone).await.error, None);
    assert!(node.object("gone").await == content);
    node.ufs.faults().fail_next(Call::Write, 1, UfsErrorKind::Denied);
    let denied = node.persist(task(4, 5, 1, 2 * MB, "x")).await.error.unwrap();
    assert_eq!(denied.kind, ErrorKind::UfsDenied as i32);
}

#[tokio::test]
async fn what_is_not_uploaded_is_dropped_by_order_only() {
    let node = Node::new().await;
    let content = pattern(8, MB);
    node.open_write(5, 1, None, false, false).await.unwrap();
    node.write(5, 1, 0, content.clone()).await.unwrap();
    node.seal(5, 1, 0).await.unwrap();
    let drop = Drop {
        inode: 5,
        version: 1,
        open: false,
    };
    assert_eq!(node.call(drop, Bytes::new()).await.unwrap_err().kind, ErrorKind::Busy);
    assert!(node.read_all(5, &local(1, MB), MB, 0).await.unwrap() == content);
    node.master.give(WorkerTasks {
        drop: vec![CachedFile {
            inode: 5,
            version: 1,
            bytes: 0,
        }],
        ..WorkerTasks::default()
    });
    until("it is dropped", || files(&node.dir, ".data").is_empty().then_some(())).await;
    assert_eq!(
        node.read(5, &local(1, MB), 0, 1).await.unwrap_err().kind,
        ErrorKind::DataLost
    );
    // THROUGH: dropped once uploaded.
    node.open_write(6, 1, None, false, false).await.unwrap();
    node.write(6, 1, 0, content.clone()).await.unwrap();
    let sealed = node.seal(6, 1, 0).await.unwrap();
    let mut through = task(1, 6, 1, MB, "through");
    through.attr = Some(Attr {
        mtime_ns: sealed.mtime_ns,
        ..Attr::default()
    });
    through.drop_after = true;
    let done = node.persist(through.clone()).await;
    assert_eq!(done.error, None);
    assert!(files(&node.dir, ".data").is_empty());

    // The news of it got lost: what is in the under-storage tells, and only that.
    through.intent = 2;
    assert_eq!(node.persist(through.clone()).await.fingerprint, done.fingerprint);
    (through.intent, through.version) = (3, 2);
    let stale = node.persist(through).await.error.unwrap();
    assert_eq!(stale.kind, ErrorKind::Stale as i32);
}

#[tokio::test]
async fn open_versions_of_dead_sessions_are_recovered() {
    let mut node = Node::new().await;
    let content = pattern(9, 3 * MB);
    let (_, fd) = node.open_write(5, 1, None, false, true).await.unwrap();
    fd.unwrap().write_all_at(&content, 0).unwrap();
    let old = source(1, &node.put("f", content.clone()).await);
    let (_, fd) = node
        .open_write(
            6,
            2,
            Some(source(1, &node.put("s", content.slice(..1000)).await)),
            false,
            true,
        )
        .await
        .unwrap();
    fd.unwrap().write_all_at(b"overwritten", 0).unwrap();
    node.open_write(7, 2, Some(old.clone()), false, false).await.unwrap();
    node.write(7, 2, MB, &b"partly"[..]).await.unwrap();
    node.open_write(8, 1, None, false, false).await.unwrap();
    node.restart().await;
    let recover = |inode, version, keep_bytes, never_committed| RecoverTask {
        inode,
        version,
        keep_bytes,
        never_committed,
        boot: 0,
        mapped: false,
    };
    node.master.give(WorkerTasks {
        recover: vec![
            recover(5, 1, 2 * MB, false),
            recover(6, 2, 0, false),
            recover(7, 2, 0, false),
            recover(8, 1, 0, true),
            recover(9, 1, 0, false),
        ],
        ..WorkerTasks::default()
    });
    until("all are recovered", || {
        (node.master.recovered.lock().len() == 5).then_some(())
    })
    .await;
    let mut recovered = node.master.recovered.lock().clone();
    recovered.sort_by_key(|r| r.inode);
    let got: Vec<_> = recovered.iter().map(|r| (r.found, r.length)).collect();
    assert_eq!(
        got,
        [(true, 3 * MB), (true, 1000), (true, 3 * MB), (false, 0), (false, 0)]
    );
    // Also what was written after the sync that promised its first two thirds.
    assert!(node.read_all(5, &local(1, 3 * MB), MB, 0).await.unwrap() == content);
    assert_eq!(
        &node.read(6, &local(2, 1000), 0, 1000).await.unwrap()[..11],
        b"overwritten"
    );
    let mut expected = content.to_vec();
    expected[MB as usize..][..6].copy_from_slice(b"partly");
    assert!(node.read_all(7, &local(2, 3 * MB), MB, 0).await.unwrap() == expected);
}

/// As a last close leaves it: sealed as a version of its own it would be uploaded for nothing, and its holes would be EIO for ever
/// once somebody has replaced the object.
#[tokio::test]
async fn what_nobody_changed_is_given_back_by_its_recovery() {
    let node = Node::new().await;
    let content = pattern(9, 3 * MB);
    let old = source(1, &node.put("f", content.clone()).await);
    let stored = node.put("g", content.clone()).await;
    for (inode, base) in [(5, &old), (6, &old), (7, &source(1, &stored))] {
        node.read(inode, base, MB, 10).await.unwrap();
        node.open_write(inode, 2, Some(base.clone()), false, false)
            .await
            .unwrap();
    }
    node.write(6, 2, MB, &b"changed"[..]).await.unwrap();
    node.put("g", pattern(10, MB)).await;
    let recover = |inode| RecoverTask {
        inode,
        version: 2,
        ..RecoverTask::default()
    };
    node.master.give(WorkerTasks {
        recover: vec![recover(5), recover(6), recover(7)],
        ..WorkerTasks::default()
    });
    until("all are recovered", || {
        (node.master.recovered.lock().len() == 3).then_some(())
    })
    .await;
    let mut recovered = node.master.recovered.lock().clone();
    recovered.sort_by_key(|r| r.inode);
    let got: Vec<_> = recovered.iter().map(|r| (r.found, r.kept_version)).collect();
    assert_eq!(got, [(false, 1), (true, 0), (false, 1)]);
    assert!(node.read_all(5, &old, MB, 0).await.unwrap() == content);
    // It is only cached: who reads it finds the new object, and it can be evicted.
    let drop = Drop {
        inode: 7,
        version: 1,
        open: false,
    };
    node.call(drop, Bytes::new()).await.unwrap();
}

#[tokio::test]
async fn abandoned_changes_of_what_is_nowhere_else_go_aside() {
    let node = Node::new().await;
    node.open_write(5, 1, None, false, false).await.unwrap();
    node.write(5, 1, 0, &b"only copy"[..]).await.unwrap();
    node.seal(5, 1, 0).await.unwrap();
    node.open_write(5, 2, Some(local(1, 9)), false, false).await.unwrap();
    node.write(5, 2, 0, &b"ONLY"[..]).await.unwrap();
    let drop = |open| Drop {
        inode: 5,
        version: 2,
        open,
    };
    assert_eq!(
        node.call(drop(false), Bytes::new()).await.unwrap_err().kind,
        ErrorKind::Busy
    );
    node.call(drop(true), Bytes::new()).await.unwrap();
    assert_eq!(files(&node.dir.join("lost+found"), ".data").len(), 1);
}

#[tokio::test]
async fn who_closed_a_new_file_while_it_was_empty_is_remembered() {
    let mut node = Node::new().await;
    for inode in 5..=8 {
        node.open_write(inode, 1, None, false, false).await.unwrap();
    }
    // 5 is closed empty; 6 is not closed; 7 is closed empty and written then; 8 is closed when it has content. Whatever was
    // written stays, without any sync.
    assert!(!node.close_empty(5, false).await.unwrap().changed);
    assert!(!node.close_empty(7, false).await.unwrap().changed);
    node.write(7, 1, 0, &b"later"[..]).await.unwrap();
    node.write(8, 1, 0, &b"content"[..]).await.unwrap();
    assert!(node.close_empty(8, false).await.unwrap().changed);
    node.restart().await;
    let recover = |inode, boot| RecoverTask {
        inode,
        version: 1,
        keep_bytes: 0,
        never_committed: true,
        boot,
        mapped: false,
    };
    // 9 is not known, and was opened in another boot: whatever was noted then may be lost.
    node.master.give(WorkerTasks {
        recover: vec![
            recover(5, 0),
            recover(6, 0),
            recover(7, 0),
            recover(8, 0),
            recover(9, 77),
        ],
        ..WorkerTasks::default()
    });
    until("all are recovered", || {
        (node.master.recovered.lock().len() == 5).then_some(())
    })
    .await;
    let mut recovered = node.master.recovered.lock().clone();
    recovered.sort_by_key(|r| r.inode);
    let got: Vec<_> = recovered.iter().map(|r| (r.found, r.closed_empty)).collect();
    assert_eq!(
        got,
        [
            (false, true),
            (false, false),
            (true, false),
            (true, false),
            (false, true)
        ]
    );
    assert_eq!(
        files(&node.dir, ".data").len(),
        2,
        "nothing of the others is needed any more"
    );
    assert_eq!(node.read_all(7, &local(1, 5), MB, 0).await.unwrap(), &b"later"[..]);
}

#[tokio::test]
async fn the_last_close_of_an_empty_file_leaves_nothing_here_but_others_stay() {
    let node = Node::new().await;
    node.open_write(5, 1, None, false, false).await.unwrap();
    node.open_write(5, 1, None, false, false).await.unwrap();
    assert!(!node.close_empty(5, true).await.unwrap().changed, "the first of two");
    node.write(5, 1, 0, &b"by the other"[..]).await.unwrap();
    assert!(node.close_empty(5, true).await.unwrap().changed, "it has content now");
    assert_eq!(node.seal(5, 1, 0).await.unwrap().length, 12);
    node.open_write(6, 1, None, false, false).await.unwrap();
    assert!(!node.close_empty(6, true).await.unwrap().changed);
    assert_eq!(files(&node.dir, ".data").len(), 1);
    assert_eq!(node.close_empty(6, true).await.unwrap_err().kind, ErrorKind::Stale);
}

/// The operating system of a home is started again under a writer on another host: what it had not synced may be gone, so an fsync
/// must not say that it is there, and nothing is added to it, until it is recovered.
#[tokio::test]
async fn what_was_open_in_another_boot_takes_nothing_until_it_is_recovered() {
    let mut node = Node::new().await;
    node.open_write(5, 1, None, false, false).await.unwrap();
    node.write(5, 1, 0, pattern(3, MB)).await.unwrap();
    node.stop().await;
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    rewrite_boot(&files(&node.dir, ".meta").pop().unwrap(), boot.trim());
    node.start().await.unwrap();
    let refused = node.write(5, 1, MB, &b"more"[..]).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::DataLost);
    let sync = SyncOpen {
        inode: 5,
        version: 1,
        data_only: true,
    };
    assert_eq!(node.stat_call(sync).await.unwrap_err().kind, ErrorKind::DataLost);
    assert_eq!(node.seal(5, 1, 0).await.unwrap_err().kind, ErrorKind::DataLost);
    let joined = node.open_write(5, 1, None, false, false).await;
    assert_eq!(joined.unwrap_err().kind, ErrorKind::Unavailable);
    node.master.give(WorkerTasks {
        recover: vec![RecoverTask {
            inode: 5,
            version: 1,
            boot: 1,
            ..RecoverTask::default()
        }],
        ..WorkerTasks::default()
    });
    let recovered = until("it is recovered", || node.master.recovered.lock().pop()).await;
    assert!(recovered.found);
    node.open_write(5, 2, Some(local(1, recovered.length)), false, false)
        .await
        .unwrap();
    node.write(5, 2, 0, &b"anew"[..]).await.unwrap();
    node.seal(5, 2, 0).await.unwrap();
}

/// The connection broke before the answer came: the same request comes again, after others have written.
#[tokio::test]
async fn a_change_that_is_asked_for_again_does_not_undo_what_came_between() {
    let node = Node::new().await;
    let (inode, version) = (5, 1);
    node.open_write(inode, version, None, false, false).await.unwrap();
    let empty = |number| SetLength {
        inode,
        version,
        length: 0,
        number,
    };
    let punch = |number| Allocate {
        inode,
        version,
        mode: (libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE).cast_unsigned(),
        offset: 0,
        length: 7,
        number,
    };
    node.write(inode, version, 0, &b"before it"[..]).await.unwrap();
    node.stat_call(empty(71)).await.unwrap();
    node.write(inode, version, 0, &b"between"[..]).await.unwrap();
    assert_eq!(node.stat_call(empty(71)).await.unwrap().length, 7);
    node.stat_call(punch(72)).await.unwrap();
    node.write(inode, version, 0, &b"Between"[..]).await.unwrap();
    node.stat_call(punch(72)).await.unwrap();
    assert_eq!(node.read_open(inode, version, 0, 7).await.unwrap(), &b"Between"[..]);
    // Another one is another one, and who gives no number has none.
    node.stat_call(punch(73)).await.unwrap();
    assert_eq!(node.read_open(inode, version, 0, 7).await.unwrap(), &[0; 7][..]);
    for number in [74, 0, 0] {
        assert_eq!(node.stat_call(empty(number)).await.unwrap().length, 0);
        node.write(inode, version, 0, &b"again"[..]).await.unwrap();
    }
}
