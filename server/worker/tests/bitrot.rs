//! Bits that flip on the disk: they reach no reader, no writer and no under-storage, and what nothing else has is kept.
#![allow(clippy::unwrap_used, reason = "a test ends there")]

mod harness;

use alluxio_proto::ErrorKind;
use alluxio_proto::master::ReadSource;
use harness::*;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The data file of an inode.
fn data_of(node: &Node, inode: u64) -> PathBuf {
    let start = format!("{inode:x}.");
    let is_its = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with(&start);
    files(&node.dir, ".data").into_iter().find(is_its).expect("a data file")
}

fn flip(path: &Path, offset: u64) {
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    byte[0] ^= 1 << (offset % 8);
    file.write_all_at(&byte, offset).unwrap();
}

async fn cached(node: &Node, inode: u64, length: u64) -> ReadSource {
    let file = source(1, &node.put(&format!("f{inode}"), pattern(inode, length)).await);
    assert!(node.read_all(inode, &file, MB, 0).await.unwrap() == pattern(inode, length));
    file
}

async fn read_passed(node: &Node, inode: u64, file: &ReadSource) -> Option<Vec<u8>> {
    let (opened, fd) = node.open_read(inode, file).await.unwrap();
    assert!(opened.complete || fd.is_none());
    let mut bytes = Vec::new();
    fd?.read_to_end(&mut bytes).unwrap();
    Some(bytes)
}

/// Reads until a descriptor is handed out; every byte on the way there is right.
async fn read_until_passed(node: &Node, inode: u64, file: &ReadSource) -> Vec<u8> {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        if let Some(bytes) = read_passed(node, inode, file).await {
            return bytes;
        }
        assert!(node.read_all(inode, file, 300_000, 0).await.unwrap() == pattern(inode, file.length));
        assert!(std::time::Instant::now() < end, "inode {inode} never gets a descriptor");
    }
}

#[tokio::test]
async fn flipped_bits_reach_no_reader_and_verified_files_pass_through() {
    let mut node = Node::new().await;
    let mut sources = Vec::new();
    for inode in 10..18 {
        // Some are verified while they are opened, some in the background.
        let length = if inode % 2 == 0 { 6 * MB + 77 } else { 700_001 };
        sources.push((inode, cached(&node, inode, length).await));
    }
    // What this process fetched needs no second look.
    for (inode, file) in &sources {
        assert!(read_passed(&node, *inode, file).await.expect("a descriptor") == pattern(*inode, file.length));
    }
    node.stop().await;
    for (inode, file) in &sources {
        for bit in 0..8 {
            flip(&data_of(&node, *inode), (bit * 104_729 + inode * 7) % file.length);
        }
    }
    node.start().await.unwrap();
    let large = &sources[0];
    assert!(
        read_passed(&node, large.0, &large.1).await.is_none(),
        "handed out unverified"
    );
    for (inode, file) in &sources {
        assert!(
            read_until_passed(&node, *inode, file).await == pattern(*inode, file.length),
            "inode {inode}"
        );
    }
}

/// What a program overwrites in part is verified before: the rest of the chunk gets a new checksum.
#[tokio::test]
async fn damage_is_not_sealed_into_the_next_version() {
    let mut node = Node::new().await;
    let (small, large) = (cached(&node, 1, 300_000).await, cached(&node, 2, 6 * MB).await);
    node.stop().await;
    flip(&data_of(&node, 1), 100_000);
    flip(&data_of(&node, 2), 3 * MB);
    flip(&data_of(&node, 2), 6 * MB - 9);
    node.start().await.unwrap();
    for (inode, base, at) in [(1, small, 100_010), (2, large, 3 * MB + 10)] {
        let mut wanted = pattern(inode, base.length).to_vec();
        let length = base.length;
        let (_, fd) = node.open_write(inode, 2, Some(base), false, true).await.unwrap();
        match fd {
            Some(fd) => fd.write_all_at(b"written", at).unwrap(),
            None => drop(node.write(inode, 2, at, &b"written"[..]).await.unwrap()),
        }
        wanted[at as usize..][..7].copy_from_slice(b"written");
        node.seal(inode, 2, 0).await.unwrap();
        assert!(
            node.read_all(inode, &local(2, length), MB, 0).await.unwrap() == wanted,
            "inode {inode}"
        );
        let done = node.persist(task(inode, inode, 2, length, &format!("g{inode}"))).await;
        assert_eq!(done.error, None);
        assert!(node.object(&format!("g{inode}")).await == wanted);
    }
}

#[tokio::test]
async fn damage_without_another_copy_is_told_and_kept() {
    let mut node = Node::new().await;
    let content = pattern(5, 3 * CHUNK + 5);
    node.open_write(5, 1, None, false, false).await.unwrap();
    node.write(5, 1, 0, content.clone()).await.unwrap();
    node.seal(5, 1, 0).await.unwrap();
    node.stop().await;
    let path = data_of(&node, 5);
    flip(&path, CHUNK + 9);
    let damaged = std::fs::read(&path).unwrap();
    node.start().await.unwrap();
    let only = local(1, content.len() as u64);
    assert!(read_passed(&node, 5, &only).await.is_none());
    let error = node.read(5, &only, CHUNK + 5, 10).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::DataLost);
    assert!(error.message.contains("bytes 65536 to 131072 of inode 5"), "{error}");
    for at in [0, 2 * CHUNK] {
        assert_eq!(
            node.read(5, &only, at, 1000).await.unwrap(),
            content.slice(at as usize..at as usize + 1000)
        );
    }
    // An upload of it fails, and does not make it a lost file.
    let done = node.persist(task(1, 5, 1, only.length, "five")).await;
    assert_eq!(done.error.expect("an error").kind, ErrorKind::Corrupt as i32);
    let told = |node: &Node| node.master.damaged.lock().first().cloned();
    let range = until("the master is told", || told(&node)).await;
    assert_eq!(
        (range.inode, range.version, range.offset, range.length),
        (5, 1, CHUNK, CHUNK)
    );
    assert!(std::fs::read(&path).unwrap() == damaged, "the bytes are kept");
    // Also after another start, before anybody reads it.
    node.master.damaged.lock().clear();
    node.restart().await;
    until("the next process tells it", || told(&node)).await;

    // A part of a damaged chunk cannot be overwritten, all of it can; then nothing is damaged any more.
    let (_, fd) = node.open_write(5, 2, Some(only), false, true).await.unwrap();
    assert!(fd.is_none(), "who has a descriptor writes past the checksums");
    let error = node.write(5, 2, CHUNK + 100, &b"x"[..]).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::DataLost);
    node.write(5, 2, CHUNK, content.slice(CHUNK as usize..2 * CHUNK as usize))
        .await
        .unwrap();
    node.seal(5, 2, 0).await.unwrap();
    assert!(node.read_all(5, &local(2, content.len() as u64), MB, 0).await.unwrap() == content);
    until("nothing is damaged", || told(&node).is_none().then_some(())).await;
}

/// After a crash everything is looked at, whether anybody reads it or not; only what is wrong is fetched.
#[tokio::test]
async fn a_scrub_after_a_crash_mends_what_nobody_reads() {
    let mut node = Node::new().await;
    let file = cached(&node, 1, 3 * MB).await;
    node.open_write(2, 1, None, false, false).await.unwrap();
    node.write(2, 1, 0, pattern(2, MB)).await.unwrap();
    node.seal(2, 1, 0).await.unwrap();
    until("a first scrub ends", || {
        std::fs::read_to_string(node.dir.join("scrub"))
            .ok()
            .filter(|s| s.ends_with(" 0\n"))
    })
    .await;
    node.stop().await;
    let running = node.dir.join("running");
    assert!(!running.exists(), "it ended in order");
    flip(&data_of(&node, 1), 2 * MB);
    flip(&data_of(&node, 2), 70_000);
    node.start().await.unwrap();
    assert!(running.exists());
    assert!(node.master.damaged.lock().is_empty());
    node.stop().await;
    // As a crash leaves it.
    std::fs::write(&running, "").unwrap();
    let before = node.fetched();
    node.start().await.unwrap();
    until("the damage is found", || {
        node.master.damaged.lock().first().map(|range| range.inode)
    })
    .await;
    until("the chunk is fetched again", || {
        (node.fetched() - before == CHUNK).then_some(())
    })
    .await;
    until("it is written", || {
        (std::fs::read(data_of(&node, 1)).unwrap() == pattern(1, 3 * MB)).then_some(())
    })
    .await;
    assert!(node.read_all(1, &file, MB, 0).await.unwrap() == pattern(1, 3 * MB));
}
