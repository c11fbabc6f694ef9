//! Quota, eviction, and a disk that is really full.
#![allow(clippy::unwrap_used, reason = "a test ends there")]

mod harness;

use alluxio_proto::ErrorKind;
use harness::*;
use std::time::{Duration, Instant};

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
    let node = Node::with(&[("alluxio.worker.tieredstore.level0.dirs.quota", "4300KB")]).await;
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
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        assert!(node.read_all(20, &file, MB, 0).await.unwrap() == pattern(20, 2 * MB));
        // It is kept once one of the others can go, which is tried anew once a second.
        let (_, had) = node.open_read(20, &file).await.unwrap();
        if had.is_some() {
            break;
        }
        assert!(Instant::now() < deadline, "it is never kept");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
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

/// What others put on a disk until it has nothing left.
fn fill_up(disk: &SmallDisk) {
    use std::io::Write;
    let mut others = std::fs::File::create(disk.path().join("others")).unwrap();
    while others.write_all(&[7; 4096]).is_ok() {}
}

#[tokio::test]
async fn a_disk_filled_by_others_has_room_for_a_new_file() {
    let disk = SmallDisk::new(16);
    let dir = disk.path().join("worker");
    let node = Node::at(dir.clone(), None, &[]).await;
    let file = source(1, &node.put("f", pattern(1, 4 * MB)).await);
    assert!(node.read_all(1, &file, MB, 0).await.unwrap() == pattern(1, 4 * MB));
    fill_up(&disk);
    let (_, fd) = node.open_write(2, 1, None, false, true).await.unwrap();
    assert!(
        fd.is_none(),
        "what is written past us fills the disk before room is made"
    );
    node.write(2, 1, 0, pattern(2, MB)).await.unwrap();
    node.seal(2, 1, 0).await.unwrap();
    assert!(node.read_all(2, &local(1, MB), MB, 0).await.unwrap() == pattern(2, MB));
    // Once nothing can go, a new file is refused, and leaves nothing behind.
    fill_up(&disk);
    let error = node.open_write(3, 1, None, false, true).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NoSpace, "{error}");
    let left = |end: &str| {
        let files = files(&dir, end).into_iter();
        let names = files.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned());
        names.filter(|name| name.starts_with("3.")).count()
    };
    assert_eq!((left(".data"), left(".meta")), (0, 0));
}

/// A file that fills the disk to its last byte can still be sealed: its checksums have room of their own.
#[tokio::test]
async fn what_fills_the_disk_can_be_sealed() {
    let disk = SmallDisk::new(64);
    let mut node = Node::at(disk.path().join("worker"), None, &[]).await;
    let (_, fd) = node.open_write(1, 1, None, false, true).await.unwrap();
    let fd = fd.expect("a descriptor");
    let piece = pattern(5, MB);
    let mut length = 0;
    use std::os::unix::fs::FileExt;
    while let Ok(written) = fd.write_at(&piece[..piece.len().min(65_536)], length) {
        length += written as u64;
    }
    fill_up(&disk);
    assert_eq!(node.seal(1, 1, 0).await.unwrap().length, length);
    assert_eq!(
        node.read(1, &local(1, length), length - 10, 10).await.unwrap().len(),
        10
    );
    node.stop().await;
}

/// However many files cannot go, those that can do.
#[tokio::test]
async fn thousands_of_only_copies_do_not_hide_what_can_go() {
    let quota = "200MB";
    let settings = [
        ("alluxio.worker.tieredstore.level0.dirs.quota", quota),
        ("alluxio.worker.file.sync.on.close", "false"),
    ];
    let node = Node::with(&settings).await;
    for inode in 1..=4_200 {
        node.open_write(inode, 1, None, false, false).await.unwrap();
        node.write(inode, 1, 0, &b"x"[..]).await.unwrap();
        node.seal(inode, 1, 0).await.unwrap();
    }
    for inode in 10_000..10_040 {
        let file = source(1, &node.put(&format!("f{inode}"), pattern(inode, 4 * MB)).await);
        assert!(node.read_all(inode, &file, MB, 0).await.unwrap() == pattern(inode, 4 * MB));
        let before = node.fetched();
        node.read(inode, &file, MB, 1000).await.unwrap();
        assert_eq!(node.fetched(), before, "inode {inode} was not kept");
    }
    let (used, quota) = node.worker().space();
    assert!(used <= quota, "{used} of {quota}");
}

#[tokio::test]
async fn the_order_of_eviction_is_kept_over_a_restart() {
    let mut node = Node::with(&[("alluxio.worker.tieredstore.level0.dirs.quota", "21MB")]).await;
    let mut files = Vec::new();
    for inode in 1..=9 {
        let file = source(1, &node.put(&format!("f{inode}"), pattern(inode, 2 * MB)).await);
        node.read_all(inode, &file, MB, 0).await.unwrap();
        files.push((inode, file));
    }
    node.master.held.lock().clear();
    node.restart().await;
    until("the scan ends", || (node.master.held.lock().len() == 9).then_some(())).await;
    for inode in 20..23 {
        let file = source(1, &node.put(&format!("f{inode}"), pattern(inode, 2 * MB)).await);
        node.read_all(inode, &file, MB, 0).await.unwrap();
    }
    let gone = until("the master hears of evictions", || {
        let held = node.master.held.lock();
        let gone: Vec<u64> = (1..=9)
            .filter(|inode| held.get(inode).is_some_and(|held| held.1 == 0))
            .collect();
        (gone.len() >= 2).then_some(gone)
    })
    .await;
    let coldest: Vec<u64> = (1..=gone.len() as u64).collect();
    assert_eq!(gone, coldest, "the first that were read go first");
}

/// Sidecars and what was put aside take the disk as well.
#[tokio::test]
async fn sidecars_and_what_was_put_aside_count() {
    let mut node = Node::new().await;
    for inode in 1..=20 {
        node.open_write(inode, 1, None, false, false).await.unwrap();
        node.write(inode, 1, 0, &b"x"[..]).await.unwrap();
        node.seal(inode, 1, 0).await.unwrap();
    }
    let (used, _) = node.worker().space();
    assert!(used >= 20 * (4096 + 8192), "{used}");
    node.stop().await;
    std::fs::write(node.dir.join("lost+found/something"), pattern(1, 3 * MB)).unwrap();
    node.start().await.unwrap();
    until("it is counted", || {
        (node.worker().space().0 >= used + 3 * MB).then_some(())
    })
    .await;
}

/// Writers through the worker wait for uploads before the disk is full: what is left is for those who write past it.
#[tokio::test]
async fn writers_are_slowed_down_before_the_disk_is_full() {
    use alluxio_ufs::fault::Call;
    let disk = SmallDisk::new(64);
    let node = Node::at(disk.path().join("worker"), None, &[]).await;
    node.open_write(1, 1, None, false, false).await.unwrap();
    for part in 0..44 {
        node.write(1, 1, part * MB, pattern(part, MB)).await.unwrap();
    }
    node.seal(1, 1, 0).await.unwrap();
    let faults = node.ufs.faults();
    faults.delay(Call::Write, Duration::from_secs(4));
    node.open_write(2, 1, None, false, false).await.unwrap();
    let write = async {
        until("the upload begins", || (faults.calls(Call::Write) > 0).then_some(())).await;
        for part in 0..30 {
            node.write(2, 1, part * MB, pattern(part, MB)).await.unwrap();
            let stat = nix::sys::statvfs::statvfs(disk.path()).unwrap();
            let free = stat.blocks_available() * stat.fragment_size();
            assert!(free >= MB, "{free} bytes are left after {part} MiB");
        }
    };
    let upload = node.persist(task(1, 1, 1, 44 * MB, "one"));
    let (done, ()) = tokio::time::timeout(LONG, async { tokio::join!(upload, write) })
        .await
        .expect("room comes");
    assert_eq!(done.error, None);
}
