//! Reading what the under-storage has: what is fetched, how often, and what happens when it changes or breaks.
#![allow(clippy::unwrap_used, reason = "a test ends there")]

mod harness;

use alluxio_proto::ErrorKind;
use alluxio_proto::master::ReadSource;
use alluxio_proto::worker::{Load, OpenRead};
use alluxio_ufs::UfsErrorKind;
use alluxio_ufs::fault::Call;
use bytes::Bytes;
use harness::*;
use std::io::Read as _;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

#[tokio::test]
async fn sequential_read_fetches_each_byte_once_also_for_two_readers() {
    let node = Node::new().await;
    let content = pattern(1, 40 * MB + 12_345);
    let file = source(1, &node.put("big", content.clone()).await);
    let before = node.fetched();
    let (a, b) = tokio::join!(node.read_all(5, &file, 128 * 1024, 1), node.read_all(5, &file, MB, 2));
    assert!(a.unwrap() == content && b.unwrap() == content);
    assert_eq!(node.fetched() - before, content.len() as u64);
    // Warm: from the disk, and complete enough for a descriptor.
    assert!(node.read_all(5, &file, MB, 3).await.unwrap() == content);
    let (opened, fd) = node.open_read(5, &file).await.unwrap();
    assert!(opened.complete);
    let mut all = Vec::new();
    fd.unwrap().read_to_end(&mut all).unwrap();
    assert!(all == content);
    assert_eq!(node.fetched() - before, content.len() as u64);
    let held = until("the master knows", || {
        node.master
            .held
            .lock()
            .get(&5)
            .copied()
            .filter(|(_, bytes)| *bytes == file.length)
    });
    assert_eq!(held.await, (1, file.length));
}

#[tokio::test]
async fn random_reads_fetch_the_touched_chunks_only() {
    let node = Node::new().await;
    let content = pattern(2, 64 * MB);
    let file = source(1, &node.put("big", content.clone()).await);
    let before = node.fetched();
    for (at, length) in [
        (50 * MB + 100, 4096),
        (3 * MB + CHUNK - 10, 20),
        (20 * MB, 100),
        (50 * MB + 200, 4096),
    ] {
        let bytes = node.read_with(5, &file, at, length, 1).await.unwrap();
        assert_eq!(bytes, content.slice(at as usize..(at + length) as usize));
    }
    assert_eq!(node.fetched() - before, 4 * CHUNK);
}

#[tokio::test]
async fn small_files_come_whole_and_with_a_descriptor_at_open() {
    let node = Node::new().await;
    let content = pattern(3, 300_000);
    let file = source(1, &node.put("small", content.clone()).await);
    let (opened, fd) = node.open_read(5, &file).await.unwrap();
    assert!(opened.complete);
    let fd = fd.unwrap();
    let mut bytes = vec![0; content.len()];
    fd.read_exact_at(&mut bytes, 0).unwrap();
    assert!(bytes == content);
    // Empty ones as well.
    let empty = source(1, &node.put("empty", Bytes::new()).await);
    let (opened, fd) = node.open_read(6, &empty).await.unwrap();
    assert!(opened.complete && fd.is_some());
    assert_eq!(node.read(6, &empty, 0, 10).await.unwrap(), Bytes::new());
}

#[tokio::test]
async fn load_fetches_all() {
    let node = Node::new().await;
    let content = pattern(4, 10 * MB + 1);
    let file = source(1, &node.put("f", content.clone()).await);
    let load = Load {
        inode: 5,
        source: Some(file.clone()),
    };
    node.call(load, Bytes::new()).await.unwrap();
    let before = node.fetched();
    assert!(node.read_all(5, &file, MB, 1).await.unwrap() == content);
    assert_eq!(node.fetched(), before);
}

#[tokio::test]
async fn changed_object_is_a_mismatch_and_never_mixed() {
    let node = Node::new().await;
    let old = source(1, &node.put("f", pattern(5, 4 * MB)).await);
    node.read(5, &old, 0, 4096).await.unwrap();
    let content = pattern(6, 4 * MB);
    let new = source(2, &node.put("f", content.clone()).await);
    let error = node.read(5, &old, 2 * MB, 4096).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::VersionMismatch, "{error}");
    assert!(node.read_all(5, &new, MB, 1).await.unwrap() == content);
    // A reader of the old version gets no bytes of the new one.
    assert_eq!(
        node.read(5, &old, 0, 4096).await.unwrap_err().kind,
        ErrorKind::VersionMismatch
    );
}

#[tokio::test]
async fn a_renamed_object_is_found_at_the_place_that_the_caller_knows() {
    use alluxio_ufs::UnderFileSystem;
    let node = Node::new().await;
    let content = pattern(7, 3 * MB);
    let old = source(1, &node.put("old", content.clone()).await);
    node.read(5, &old, 0, 10).await.unwrap();
    let moved = node.ufs.rename(b"old", b"new").await.unwrap();
    let mut new = old.clone();
    let place = new.ufs.as_mut().unwrap();
    place.path = Bytes::from_static(b"new");
    place.fingerprint = moved.fingerprint;
    assert!(node.read_all(5, &new, MB, 1).await.unwrap() == content);
}

#[tokio::test]
async fn failures_of_the_store_are_retried_and_then_told() {
    let node = Node::new().await;
    let content = pattern(8, 2 * MB);
    let file = source(1, &node.put("f", content.clone()).await);
    node.ufs.faults().fail_next(Call::Read, 2, UfsErrorKind::Throttled);
    assert!(node.read_all(5, &file, MB, 1).await.unwrap() == content);
    let other = source(1, &node.put("g", content.clone()).await);
    node.ufs.faults().fail_next(Call::Read, 1, UfsErrorKind::Denied);
    assert_eq!(
        node.read(6, &other, 0, 10).await.unwrap_err().kind,
        ErrorKind::UfsDenied
    );
    assert_eq!(node.read(6, &other, 0, 10).await.unwrap(), content.slice(..10));
}

/// Opens, looking at the object first; answers how long it took.
async fn look(node: &Node, inode: u64, file: &ReadSource) -> Duration {
    let open = OpenRead {
        inode,
        source: Some(file.clone()),
        want_fd: false,
        verify: false,
        check_source: true,
    };
    let begun = Instant::now();
    node.call(open, Bytes::new()).await.unwrap();
    begun.elapsed()
}

/// As `grep -r` does over files of which a part is here.
#[tokio::test]
async fn who_opens_many_files_of_a_silent_store_waits_for_it_once() {
    let node = Node::new().await;
    let mut all = Vec::new();
    for inode in 5..10 {
        let file = source(1, &node.put(&format!("f{inode}"), pattern(inode, 8 * MB)).await);
        node.read(inode, &file, 4 * MB, 10).await.unwrap();
        all.push((inode, file));
    }
    node.ufs.faults().delay(Call::Status, Duration::from_secs(60));
    let mut took = Duration::ZERO;
    for (inode, file) in &all {
        took += look(&node, *inode, file).await;
    }
    assert!(node.ufs.faults().calls(Call::Status) > 0, "nothing was asked");
    assert!(took < Duration::from_secs(6), "{took:?}");
}

/// Also if what comes after the first answer is what takes long: where the object may be now.
#[tokio::test]
async fn a_look_at_an_object_that_was_replaced_ends_in_time() {
    let node = Node::new().await;
    let file = source(1, &node.put("f", pattern(1, 8 * MB)).await);
    node.read(5, &file, 4 * MB, 10).await.unwrap();
    node.put("f", pattern(2, 3 * MB)).await;
    node.ufs.faults().delay(Call::Status, Duration::from_millis(2900));
    let took = look(&node, 5, &file).await;
    assert!(took < Duration::from_millis(4500), "{took:?}");
}

#[tokio::test]
async fn damaged_chunk_is_fetched_again_and_lost_only_without_another_copy() {
    let mut node = Node::new().await;
    let content = pattern(9, 3 * CHUNK);
    let file = source(1, &node.put("f", content.clone()).await);
    node.read_all(5, &file, MB, 1).await.unwrap();
    node.open_write(6, 1, None, false, false).await.unwrap();
    node.write(6, 1, 0, content.clone()).await.unwrap();
    node.seal(6, 1, 0).await.unwrap();
    node.stop().await;
    for path in files(&node.dir, ".data") {
        let data = std::fs::OpenOptions::new().write(true).open(path).unwrap();
        data.write_all_at(b"damage", CHUNK + 7).unwrap();
    }
    node.start().await.unwrap();
    let before = node.fetched();
    assert!(node.read_all(5, &file, MB, 1).await.unwrap() == content);
    assert_eq!(node.fetched() - before, CHUNK);
    let only = local(1, 3 * CHUNK);
    assert_eq!(
        node.read(6, &only, 0, 3 * CHUNK).await.unwrap_err().kind,
        ErrorKind::DataLost
    );
    assert_eq!(
        node.read(6, &only, 0, CHUNK).await.unwrap(),
        content.slice(..CHUNK as usize)
    );
}

#[tokio::test]
async fn restart_keeps_the_cache() {
    let mut node = Node::new().await;
    let content = pattern(10, 5 * MB + 77);
    let file = source(3, &node.put("f", content.clone()).await);
    node.read_all(5, &file, MB, 1).await.unwrap();
    let before = node.fetched();
    node.master.held.lock().clear();
    node.restart().await;
    assert!(node.read_all(5, &file, MB, 1).await.unwrap() == content);
    assert_eq!(node.fetched(), before);
    let held = until("the scan told it", || node.master.held.lock().get(&5).copied()).await;
    assert_eq!(held, (3, file.length));
    // The master forgets us: all is told again.
    node.master.held.lock().clear();
    *node.master.forget.lock() = true;
    until("it is told again", || node.master.held.lock().get(&5).copied()).await;
    assert_eq!(node.master.registrations.lock().last().unwrap().worker_id, 7);
}

#[tokio::test]
async fn after_a_crash_of_the_system_content_is_checked_before_a_descriptor_goes_out() {
    let mut node = Node::new().await;
    let content = pattern(11, 2 * CHUNK);
    let file = source(1, &node.put("f", content.clone()).await);
    assert!(node.open_read(5, &file).await.unwrap().1.is_some());
    node.stop().await;
    // Another boot: only the sidecar knows which; flipping the header would be noticed, so it is written as then.
    let sidecar = files(&node.dir, ".meta").pop().unwrap();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    rewrite_boot(&sidecar, boot.trim());
    let data = std::fs::OpenOptions::new()
        .write(true)
        .open(files(&node.dir, ".data").pop().unwrap())
        .unwrap();
    data.write_all_at(&[0; 4096], CHUNK).unwrap();
    node.start().await.unwrap();
    // It is small: what is wrong was fetched again before the open was answered.
    let (opened, fd) = node.open_read(5, &file).await.unwrap();
    assert!(opened.complete, "{opened:?}");
    let mut bytes = Vec::new();
    fd.expect("a descriptor").read_to_end(&mut bytes).unwrap();
    assert!(bytes == content);
    assert!(node.read_all(5, &file, MB, 1).await.unwrap() == content);
}

#[tokio::test]
async fn damaged_sidecar_goes_aside_and_the_file_is_fetched_again() {
    let mut node = Node::new().await;
    let content = pattern(12, 2 * CHUNK);
    let file = source(1, &node.put("f", content.clone()).await);
    node.read_all(5, &file, MB, 1).await.unwrap();
    node.stop().await;
    let sidecar = files(&node.dir, ".meta").pop().unwrap();
    let mut bytes = std::fs::read(&sidecar).unwrap();
    for slot in [0usize, 8192] {
        bytes[slot + 30] ^= 0x10;
    }
    std::fs::write(&sidecar, bytes).unwrap();
    node.start().await.unwrap();
    assert!(node.read_all(5, &file, MB, 1).await.unwrap() == content);
    let aside: Vec<_> = std::fs::read_dir(node.dir.join("lost+found")).unwrap().collect();
    assert_eq!(aside.len(), 2);
}

#[tokio::test]
async fn folder_of_another_cluster_or_in_use_is_refused() {
    let mut node = Node::new().await;
    let options = node.options();
    let again = alluxio_worker::Worker::start(&node.conf, options, Default::default()).await;
    assert_eq!(again.err().unwrap().kind, ErrorKind::Busy);
    node.stop().await;
    *node.master.cluster_id.lock() = "cluster-b".into();
    let error = node.start().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidArgument);
    assert!(
        error.message.contains("cluster-a") && error.message.contains("cluster-b"),
        "{error}"
    );
}

#[tokio::test]
async fn master_away_at_start_is_found_later() {
    let mut node = Node::new().await;
    let content = pattern(13, 1000);
    let file = source(1, &node.put("f", content.clone()).await);
    node.stop().await;
    *node.master.away.lock() = true;
    node.start().await.unwrap();
    let registrations = node.master.registrations.lock().len();
    *node.master.away.lock() = false;
    until("it registers", || {
        (node.master.registrations.lock().len() > registrations).then_some(())
    })
    .await;
    assert_eq!(node.read(5, &file, 0, 1000).await.unwrap(), content);
}

#[tokio::test]
async fn slow_store_holds_back_only_who_needs_it() {
    let node = Node::new().await;
    let content = pattern(14, 8 * MB);
    let file = source(1, &node.put("f", content.clone()).await);
    node.read(5, &file, 0, 4096).await.unwrap();
    node.ufs.faults().delay(Call::Read, Duration::from_secs(30));
    let cold = node.read(5, &file, 4 * MB, 4096);
    let warm = node.read(5, &file, 100, 50);
    tokio::select! {
        biased;
        _ = cold => panic!("cannot be there"),
        bytes = warm => assert_eq!(bytes.unwrap(), content.slice(100..150)),
    }
}

#[tokio::test]
async fn a_file_that_is_not_loaded_any_more_is_opened_by_what_is_known_of_it() {
    let node = Node::with(&[("alluxio.worker.files.loaded.max", "4")]).await;
    let mut sources = Vec::new();
    for number in 0..40u64 {
        let content = pattern(number, 5000 + number);
        let file = source(1, &node.put(&format!("f{number}"), content.clone()).await);
        node.open_read(number + 10, &file).await.unwrap();
        sources.push((number + 10, file, content));
    }
    let fetched = node.fetched();
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let before = descriptors();
    for (inode, file, content) in &sources {
        let (opened, fd) = node.open_read(*inode, file).await.unwrap();
        assert!(opened.complete && opened.length == content.len() as u64);
        let mut bytes = Vec::new();
        fd.unwrap().read_to_end(&mut bytes).unwrap();
        assert!(bytes == *content);
    }
    assert_eq!(node.fetched(), fetched);
    assert!(descriptors() <= before + 20, "they were loaded again");
    // Another version is another file, and what was known of the old one says nothing of it.
    let (inode, old, _) = &sources[3];
    let content = pattern(99, 7000);
    let newer = source(2, &node.put("f3", content.clone()).await);
    let (_, fd) = node.open_read(*inode, &newer).await.unwrap();
    let mut bytes = Vec::new();
    fd.unwrap().read_to_end(&mut bytes).unwrap();
    assert!(bytes == content);
    for (number, file, _) in &sources[20..] {
        node.open_read(*number, file).await.unwrap();
    }
    let (opened, fd) = node.open_read(*inode, old).await.unwrap();
    assert!(!opened.complete && fd.is_none(), "an older version is not handed out");
}

/// An opening in place is durable before its descriptor goes out; that it was given back, unchanged, is not. Nobody recovers it after
/// a power cut, and the master must hear who has what was sealed.
#[tokio::test]
async fn a_version_that_was_given_back_before_a_power_cut_is_found() {
    let mut node = Node::new().await;
    let content = pattern(13, 2 * CHUNK);
    node.open_write(5, 1, None, false, false).await.unwrap();
    node.write(5, 1, 0, content.clone()).await.unwrap();
    node.seal(5, 1, 0).await.unwrap();
    let sealed = local(1, content.len() as u64);
    let opened = node.open_write(5, 2, Some(sealed.clone()), false, true).await.unwrap();
    drop(opened.1.expect("a descriptor"));
    node.stop().await;
    rewrite_boot(
        &files(&node.dir, ".meta").pop().unwrap(),
        std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .unwrap()
            .trim(),
    );
    node.master.held.lock().clear();
    node.start().await.unwrap();
    until("the master hears of it", || {
        let held = node.master.held.lock().get(&5).copied();
        held.filter(|held| *held == (1, content.len() as u64))
    })
    .await;
    assert!(node.read_all(5, &sealed, MB, 1).await.unwrap() == content);
}
