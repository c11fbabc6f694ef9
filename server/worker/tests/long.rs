//! Files that are next to nothing but holes.
#![allow(clippy::unwrap_used, reason = "a test ends there")]

mod harness;

use alluxio_proto::ErrorKind;
use alluxio_proto::worker::{Allocate, SetLength};
use harness::*;
use std::os::unix::fs::{FileExt, MetadataExt};

const TB: u64 = 1 << 40;

/// Each committed version has its data and zeros between, also after a restart; holes take no room, and no time.
#[tokio::test]
async fn holes_cost_nothing_and_data_between_them_is_checked() {
    let mut node = Node::new().await;
    let length = 12 * TB + 5;
    let (first, second) = (pattern(1, 3 * CHUNK), pattern(2, 100));
    node.open_write(5, 1, None, false, false).await.unwrap();
    node.write(5, 1, 7, first.clone()).await.unwrap();
    node.write(5, 1, 6 * TB, first.clone()).await.unwrap();
    node.write(5, 1, length - 100, second.clone()).await.unwrap();
    let sealed = node.seal(5, 1, 0).await.unwrap();
    assert_eq!(sealed.length, length);
    assert!(sealed.hole_bytes > 11 * TB && sealed.hole_bytes < length);
    let sidecars = files(&node.dir, ".meta");
    assert_eq!(sidecars.len(), 1);
    for sidecar in sidecars {
        let used = sidecar.metadata().unwrap().blocks() * 512;
        assert!(used < MB, "{}: {used} bytes", sidecar.display());
    }
    node.restart().await;
    let version = local(1, length);
    let read = |at, length| node.read(5, &version, at, length);
    assert!(read(7, 3 * CHUNK).await.unwrap() == first);
    assert!(read(6 * TB, 3 * CHUNK).await.unwrap() == first);
    assert!(read(length - 100, 200).await.unwrap() == second);
    assert!(read(3 * TB, MB).await.unwrap().iter().all(|byte| *byte == 0));
    assert!(
        node.open_read(5, &version).await.unwrap().1.is_some(),
        "all of it is here"
    );

    // Another version in place: data becomes a hole, a hole data.
    node.open_write(5, 2, Some(version), false, false).await.unwrap();
    let punch = Allocate {
        inode: 5,
        version: 2,
        mode: (libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE) as u32,
        offset: 6 * TB,
        length: 3 * CHUNK,
        number: 0,
    };
    node.stat_call(punch).await.unwrap();
    node.write(5, 2, 9 * TB + 3, second.clone()).await.unwrap();
    node.seal(5, 2, 0).await.unwrap();
    node.restart().await;
    let version = local(2, length);
    let read = |at, length| node.read(5, &version, at, length);
    assert!(read(6 * TB, 3 * CHUNK).await.unwrap().iter().all(|byte| *byte == 0));
    assert!(read(9 * TB + 3, 100).await.unwrap() == second);
    assert!(read(7, 3 * CHUNK).await.unwrap() == first);

    // What is damaged is not handed out.
    let data = files(&node.dir, ".data").pop().unwrap();
    let file = std::fs::File::options().write(true).open(data).unwrap();
    file.write_all_at(b"!", 9 * TB + 50).unwrap();
    node.restart().await;
    let damaged = node.read(5, &version, 9 * TB + 3, 100).await.unwrap_err();
    assert_eq!(damaged.kind, ErrorKind::DataLost);

    // Cut to what every file is.
    node.open_write(5, 3, Some(version), false, false).await.unwrap();
    let cut = SetLength {
        inode: 5,
        version: 3,
        length: MB,
        number: 0,
    };
    node.stat_call(cut).await.unwrap();
    node.seal(5, 3, 0).await.unwrap();
    node.restart().await;
    let mut expected = vec![0; MB as usize];
    expected[7..7 + first.len()].copy_from_slice(&first);
    assert!(node.read_all(5, &local(3, MB), MB, 0).await.unwrap() == expected);
    let done = node.persist(task(1, 5, 3, MB, "short")).await;
    assert_eq!(done.error, None);
    assert!(node.object("short").await == expected);
}
