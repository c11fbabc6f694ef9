//! Changing a part of what the under-storage has: what is moved, what is copied there, and what happens when the object
//! that the change was made of is not there any more.
#![allow(clippy::unwrap_used, reason = "a test ends there")]

mod harness;

use alluxio_proto::ErrorKind;
use alluxio_proto::master::PersistTask;
use alluxio_proto::types::UfsSource;
use alluxio_proto::worker::SetLength;
use alluxio_ufs::{BytesSource, Expect, UfsAttributes, UnderFileSystem};
use bytes::Bytes;
use harness::*;
use std::os::unix::fs::FileExt;

const INODE: u64 = 5;
const LENGTH: u64 = 16 * MB + 777;

/// As the master gives it: over `base`, which is `base_version`.
fn over(intent: u64, version: u64, length: u64, base: &UfsSource, base_version: u64) -> PersistTask {
    let mut task = task(intent, INODE, version, length, std::str::from_utf8(&base.path).unwrap());
    task.expect.clone_from(&base.fingerprint);
    task.base = Some(base.clone());
    task.base_version = base_version;
    task
}

fn patched(old: &[u8], at: u64, new: &[u8]) -> Bytes {
    let mut bytes = old.to_vec();
    let end = at as usize + new.len();
    bytes.resize(bytes.len().max(end), 0);
    bytes[at as usize..end].copy_from_slice(new);
    bytes.into()
}

fn place(of: &UfsSource, fingerprint: String, length: u64) -> UfsSource {
    UfsSource {
        fingerprint,
        length,
        ..of.clone()
    }
}

#[tokio::test]
async fn a_small_change_moves_a_small_part() {
    let node = Node::new().await;
    let mut content = pattern(1, LENGTH);
    let mut base = node.put("f", content.clone()).await;
    let (fetched, (sent, _)) = (node.fetched(), node.sent_and_copied());
    for (version, at) in [(2, 8 * MB + 100), (3, 0), (4, LENGTH - 1), (5, LENGTH + 5 * CHUNK)] {
        let data = pattern(version, 4096);
        let before = source(version - 1, &base);
        node.open_write(INODE, version, Some(before), false, true)
            .await
            .unwrap();
        node.write(INODE, version, at, data.clone()).await.unwrap();
        content = patched(&content, at, &data);
        let sealed = node.seal(INODE, version, 0).await.unwrap();
        assert_eq!(sealed.length, content.len() as u64);
        let done = node
            .persist(over(version, version, sealed.length, &base, version - 1))
            .await;
        assert_eq!(done.error, None);
        base = place(&base, done.fingerprint, sealed.length);
        assert!(node.object("f").await == content, "version {version}");
    }
    // Four uploads of three chunks at most each; reading the objects for comparison is not theirs.
    let (now_sent, copied) = node.sent_and_copied();
    assert!(now_sent - sent <= 4 * 4 * CHUNK, "{} bytes sent", now_sent - sent);
    assert!(copied > 4 * (LENGTH - MB), "{copied} bytes copied");
    let compared: u64 = [LENGTH, LENGTH, LENGTH + 4095, content.len() as u64].iter().sum();
    let moved = node.fetched() - fetched - compared;
    assert!(moved <= 4 * 6 * CHUNK, "{moved} bytes fetched");
    // What was never here comes from the new object.
    let now = source(5, &base);
    assert!(node.read_all(INODE, &now, MB, 1).await.unwrap() == content);
}

#[tokio::test]
async fn a_large_cached_file_knows_what_changes_of_it() {
    let node = Node::with(&[("alluxio.worker.file.overwrite.track.size", "1MB")]).await;
    let mut content = pattern(2, LENGTH);
    // Written here, so that every byte is ours.
    node.open_write(INODE, 1, None, false, false).await.unwrap();
    for at in (0..LENGTH).step_by(MB as usize) {
        let end = LENGTH.min(at + MB);
        node.write(INODE, 1, at, content.slice(at as usize..end as usize))
            .await
            .unwrap();
    }
    node.seal(INODE, 1, 0).await.unwrap();
    let done = node.persist(task(1, INODE, 1, LENGTH, "f")).await;
    let mut base = UfsSource {
        mount_id: 1,
        path: "f".into(),
        fingerprint: done.fingerprint,
        length: LENGTH,
    };
    for version in 2..5 {
        let before = source(version - 1, &base);
        let (opened, fd) = node
            .open_write(INODE, version, Some(before), false, true)
            .await
            .unwrap();
        assert!(
            opened.complete && fd.is_none(),
            "no descriptor: changes are to be known"
        );
        let (at, data) = (version * 3 * MB + 9, pattern(version, 100));
        node.write(INODE, version, at, data.clone()).await.unwrap();
        content = patched(&content, at, &data);
        node.seal(INODE, version, 0).await.unwrap();
        let (sent, _) = node.sent_and_copied();
        let done = node.persist(over(version, version, LENGTH, &base, version - 1)).await;
        assert_eq!(done.error, None);
        assert!(node.sent_and_copied().0 - sent <= 3 * CHUNK);
        base = place(&base, done.fingerprint, LENGTH);
        assert!(node.object("f").await == content);
    }
    // Who reads it by descriptor already must have one, and then all is uploaded.
    let before = source(4, &base);
    let (_, fd) = node
        .open_write_with(INODE, 5, Some(before), false, (true, true))
        .await
        .unwrap();
    fd.unwrap().write_all_at(b"by descriptor", 7 * MB).unwrap();
    content = patched(&content, 7 * MB, b"by descriptor");
    node.seal(INODE, 5, 0).await.unwrap();
    let done = node.persist(over(9, 5, LENGTH, &base, 4)).await;
    assert_eq!(done.error, None);
    assert!(node.object("f").await == content);
}

#[tokio::test]
async fn committed_again_and_again_while_open_each_upload_is_small() {
    let node = Node::new().await;
    let mut content = pattern(3, LENGTH);
    let mut base = node.put("f", content.clone()).await;
    node.open_write(INODE, 2, Some(source(1, &base)), false, false)
        .await
        .unwrap();
    for version in 2..6 {
        let (at, data) = (version * 2 * MB, pattern(version, 5000));
        node.write(INODE, version, at, data.clone()).await.unwrap();
        content = patched(&content, at, &data);
        node.seal(INODE, version, version + 1).await.unwrap();
        let (sent, _) = node.sent_and_copied();
        let done = node.persist(over(version, version, LENGTH, &base, version - 1)).await;
        assert_eq!(done.error, None);
        let sent = node.sent_and_copied().0 - sent;
        assert!(sent <= 3 * CHUNK, "version {version}: {sent} bytes sent");
        base = place(&base, done.fingerprint, LENGTH);
        assert!(node.object("f").await == content, "version {version}");
        assert_eq!(
            node.read_open(INODE, version + 1, 15 * MB, 100).await.unwrap(),
            content.slice(15 * MB as usize..15 * MB as usize + 100)
        );
    }
}

#[tokio::test]
async fn a_base_that_somebody_replaced_or_removed_is_never_mixed_with() {
    for removed in [false, true] {
        let mut node = Node::new().await;
        let content = pattern(4, LENGTH);
        let base = node.put("f", content.clone()).await;
        node.open_write(INODE, 2, Some(source(1, &base)), false, false)
            .await
            .unwrap();
        let data = pattern(5, 3 * CHUNK);
        node.write(INODE, 2, 8 * MB, data.clone()).await.unwrap();
        let foreign = pattern(6, LENGTH);
        match removed {
            true => node.ufs.delete(&["f".into()]).await.remove(0).unwrap(),
            false => drop(node.put("f", foreign.clone()).await),
        }
        // What is here is right; what is not cannot be had, and says so.
        assert_eq!(node.read_open(INODE, 2, 8 * MB, 3 * CHUNK).await.unwrap(), data);
        let lost = node.read_open(INODE, 2, 2 * MB, 10).await.unwrap_err();
        assert_eq!(lost.kind, ErrorKind::DataLost);
        let edge = node.write(INODE, 2, 2 * MB + 1, &b"edge"[..]).await.unwrap_err();
        assert_eq!(edge.kind, ErrorKind::DataLost);
        node.seal(INODE, 2, 0).await.unwrap();
        for (intent, attempts_seen) in [(1, false), (2, true)] {
            let mut upload = over(intent, 2, LENGTH, &base, 1);
            if attempts_seen {
                // After a failure the master asks the store what is there.
                upload.expect = match removed {
                    true => String::new(),
                    false => node.ufs.status(b"f").await.unwrap().fingerprint,
                };
            }
            let error = node.persist(upload).await.error.unwrap();
            assert_eq!(error.kind, ErrorKind::VersionMismatch as i32, "{error:?}");
            assert!(error.message.contains("kept at the worker"), "{error:?}");
        }
        match removed {
            true => assert!(node.ufs.status(b"f").await.is_err(), "nothing half was written"),
            false => assert!(node.object("f").await == foreign, "the other object was not touched"),
        }
        // Nothing that was written is lost, not by a restart either; and written anew, all is well.
        node.restart().await;
        let kept = local(2, LENGTH);
        assert_eq!(node.read(INODE, &kept, 8 * MB, 3 * CHUNK).await.unwrap(), data);
        node.open_write(INODE, 3, Some(kept), true, false).await.unwrap();
        node.write(INODE, 3, 0, &b"anew"[..]).await.unwrap();
        node.seal(INODE, 3, 0).await.unwrap();
        let done = node.persist(over(3, 3, 4, &base, 1)).await;
        assert_eq!(done.error, None);
        assert_eq!(node.object("f").await, "anew");
    }
}

#[tokio::test]
async fn a_base_that_was_renamed_is_found() {
    let node = Node::new().await;
    let content = pattern(7, LENGTH);
    let old = node.put("old", content.clone()).await;
    node.open_write(INODE, 2, Some(source(1, &old)), false, false)
        .await
        .unwrap();
    node.write(INODE, 2, 8 * MB, &b"changed"[..]).await.unwrap();
    node.seal(INODE, 2, 0).await.unwrap();
    let status = node.ufs.rename(b"old", b"new").await.unwrap();
    let new = UfsSource {
        path: "new".into(),
        fingerprint: status.fingerprint,
        ..old.clone()
    };
    // Read before it is uploaded: the master says where it is now, and of which version that is.
    let mut now = local(2, LENGTH);
    (now.older, now.older_version) = (Some(new.clone()), 9);
    *node.master.opened.lock() = Some(now.clone());
    let lost = node.read(INODE, &local(2, LENGTH), 2 * MB, 10).await.unwrap_err();
    assert_eq!(lost.kind, ErrorKind::DataLost);
    now.older_version = 1;
    *node.master.opened.lock() = Some(now);
    assert_eq!(
        node.read(INODE, &local(2, LENGTH), 2 * MB, 10).await.unwrap(),
        content.slice(2 * MB as usize..2 * MB as usize + 10)
    );
    let (sent, _) = node.sent_and_copied();
    let done = node.persist(over(2, 2, LENGTH, &new, 1)).await;
    assert_eq!(done.error, None);
    assert!(node.sent_and_copied().0 - sent <= 3 * CHUNK);
    assert!(node.object("new").await == patched(&content, 8 * MB, b"changed"));
}

/// The upload was completed, and the news of it got lost: the base is gone, and what replaced it is ours.
#[tokio::test]
async fn an_upload_whose_confirmation_was_lost_is_recognized_and_only_that() {
    for ours in [true, false] {
        let mut node = Node::new().await;
        let content = pattern(8, LENGTH);
        let base = node.put("f", content.clone()).await;
        node.open_write(INODE, 2, Some(source(1, &base)), false, false)
            .await
            .unwrap();
        node.write(INODE, 2, 8 * MB, pattern(9, CHUNK)).await.unwrap();
        let sealed = node.seal(INODE, 2, 0).await.unwrap();
        let expected = patched(&content, 8 * MB, &pattern(9, CHUNK));
        // The other one has what was written, and something else where nobody can compare.
        let (write_id, there) = match ours {
            true => (format!("{INODE:x}-2-{:x}-cluster-a", sealed.mtime_ns), expected.clone()),
            false => ("somebody-else".to_owned(), patched(&expected, MB, b"else")),
        };
        let attributes = UfsAttributes {
            write_id: Some(write_id),
            ..UfsAttributes::default()
        };
        let written = node
            .ufs
            .write(b"f", &BytesSource(there.clone()), &Expect::Any, &attributes)
            .await
            .unwrap();
        node.restart().await;
        let mut upload = over(1, 2, LENGTH, &base, 1);
        for (intent, expect) in [(1, &base.fingerprint), (2, &written.fingerprint)] {
            (upload.intent, upload.expect) = (intent, expect.clone());
            let done = node.persist(upload.clone()).await;
            match ours {
                true => assert_eq!((done.error, &done.fingerprint), (None, &written.fingerprint)),
                false => assert_eq!(done.error.unwrap().kind, ErrorKind::VersionMismatch as i32),
            }
        }
        assert!(node.object("f").await == there);
        if ours {
            let now = source(2, &place(&base, written.fingerprint, LENGTH));
            assert!(node.read_all(INODE, &now, MB, 1).await.unwrap() == expected);
        }
    }
}

/// The next version cuts what the sealed one still needs of the base: the sealed one is uploaded as it was, or not at all.
#[tokio::test]
async fn what_is_cut_after_the_seal_does_not_change_what_was_sealed() {
    for cut_to in [MB + 70_000, 4 * MB + 10, CHUNK] {
        let node = Node::new().await;
        let content = pattern(10, LENGTH);
        let base = node.put("f", content.clone()).await;
        node.open_write(INODE, 2, Some(source(1, &base)), false, false)
            .await
            .unwrap();
        node.write(INODE, 2, 4 * MB, pattern(11, CHUNK)).await.unwrap();
        let sealed = patched(&content, 4 * MB, &pattern(11, CHUNK));
        node.seal(INODE, 2, 3).await.unwrap();
        let set = |length| SetLength {
            inode: INODE,
            version: 3,
            length,
            number: 0,
        };
        node.stat_call(set(cut_to)).await.unwrap();
        node.stat_call(set(LENGTH)).await.unwrap();
        let done = node.persist(over(1, 2, LENGTH, &base, 1)).await;
        match done.error {
            Some(error) => assert_eq!(error.kind, ErrorKind::Stale as i32, "{error:?}"),
            None => assert!(node.object("f").await == sealed, "cut to {cut_to}"),
        }
        // The next one is right in any case.
        let now = node.object("f").await;
        let there = UfsSource {
            fingerprint: node.ufs.status(b"f").await.unwrap().fingerprint,
            ..base.clone()
        };
        let base_version = if now == content { 1 } else { 2 };
        node.seal(INODE, 3, 0).await.unwrap();
        let done = node.persist(over(2, 3, LENGTH, &there, base_version)).await;
        assert_eq!(done.error, None);
        let mut expected = sealed.to_vec();
        expected[cut_to as usize..].fill(0);
        assert!(node.object("f").await == expected, "cut to {cut_to}");
    }
}

/// A file that was only cut has no byte of its own, and must be known to be held all the same.
#[tokio::test]
async fn a_version_that_is_all_its_base_is_reported_and_uploaded() {
    let node = Node::new().await;
    let content = pattern(15, LENGTH);
    let base = node.put("f", content.clone()).await;
    node.open_write(INODE, 2, Some(source(1, &base)), false, false)
        .await
        .unwrap();
    let cut = SetLength {
        inode: INODE,
        version: 2,
        length: 10 * MB + 1,
        number: 0,
    };
    node.stat_call(cut).await.unwrap();
    node.seal(INODE, 2, 0).await.unwrap();
    until("it is reported", || {
        node.master
            .held
            .lock()
            .get(&INODE)
            .is_some_and(|held| held.0 == 2 && held.1 > 0)
            .then_some(())
    })
    .await;
    let (sent, _) = node.sent_and_copied();
    assert_eq!(node.persist(over(1, 2, 10 * MB + 1, &base, 1)).await.error, None);
    assert!(node.sent_and_copied().0 - sent <= 2 * CHUNK);
    assert!(node.object("f").await == content[..10 * MB as usize + 1]);
}

/// A version is committed while the one before it is being uploaded; the news of that upload arrives, or gets lost.
#[tokio::test]
async fn an_upload_that_was_overtaken_becomes_the_base_of_the_next() {
    for is_told in [true, false] {
        let mut node = Node::new().await;
        let content = pattern(12, LENGTH);
        let base = node.put("f", content.clone()).await;
        node.open_write(INODE, 2, Some(source(1, &base)), false, false)
            .await
            .unwrap();
        node.write(INODE, 2, 2 * MB, pattern(13, CHUNK)).await.unwrap();
        let sealed = node.seal(INODE, 2, 3).await.unwrap();
        let second = patched(&content, 2 * MB, &pattern(13, CHUNK));
        let third = patched(&second, 9 * MB, &pattern(14, CHUNK));
        let mut there = base.clone();
        if is_told {
            // The upload of the second waits until the third is sealed.
            let wait = std::time::Duration::from_millis(500);
            node.ufs.faults().delay(alluxio_ufs::fault::Call::Write, wait);
            let uploads = node.ufs.faults().calls(alluxio_ufs::fault::Call::Write);
            let (done, ()) = tokio::join!(node.persist(over(1, 2, LENGTH, &base, 1)), async {
                until("the upload begins", || {
                    (node.ufs.faults().calls(alluxio_ufs::fault::Call::Write) > uploads).then_some(())
                })
                .await;
                node.write(INODE, 3, 9 * MB, pattern(14, CHUNK)).await.unwrap();
                node.seal(INODE, 3, 4).await.unwrap();
            });
            node.ufs.faults().heal();
            // It may have met the change of the third.
            if done.error.is_none() {
                there.fingerprint = done.fingerprint;
            }
        } else {
            let attributes = UfsAttributes {
                write_id: Some(format!("{INODE:x}-2-{:x}-cluster-a", sealed.mtime_ns)),
                ..UfsAttributes::default()
            };
            let source = BytesSource(second.clone());
            node.ufs.write(b"f", &source, &Expect::Any, &attributes).await.unwrap();
            node.restart().await;
            node.write(INODE, 3, 9 * MB, pattern(14, CHUNK)).await.unwrap();
            node.seal(INODE, 3, 4).await.unwrap();
        }
        let base_version = if there == base { 1 } else { 2 };
        let done = node.persist(over(2, 3, LENGTH, &there, base_version)).await;
        assert_eq!(done.error, None, "told: {is_told}");
        assert!(node.object("f").await == third);
        assert!(node.read_open(INODE, 4, 0, MB).await.unwrap() == content.slice(..MB as usize));
    }
}

/// The power went between an upload and the news of it: neither the sidecar nor the master knows that the object that the version
/// was made of is this version by now.
#[tokio::test]
async fn an_upload_that_nobody_noted_is_what_the_version_is_read_from() {
    let mut node = Node::new().await;
    let content = pattern(9, LENGTH);
    let base = node.put("f", content.clone()).await;
    node.open_write(INODE, 2, Some(source(1, &base)), false, false)
        .await
        .unwrap();
    let data = pattern(10, 100);
    node.write(INODE, 2, 5 * MB + 3, data.clone()).await.unwrap();
    let content = patched(&content, 5 * MB + 3, &data);
    assert_eq!(node.seal(INODE, 2, 0).await.unwrap().length, LENGTH);
    let sidecar = files(&node.dir, ".meta").pop().unwrap();
    let before = std::fs::read(&sidecar).unwrap();
    let done = node.persist(over(1, 2, LENGTH, &base, 1)).await;
    assert_eq!(done.error, None);
    node.stop().await;
    std::fs::write(&sidecar, before).unwrap();
    node.start().await.unwrap();
    // What the master says is of before the upload.
    let mut known = source(1, &base);
    known.workers = Vec::new();
    *node.master.opened.lock() = Some(known);
    assert!(node.read_all(INODE, &local(2, LENGTH), MB, 0).await.unwrap() == content);
}
