//! Holes, and copies between files of one worker.
#![allow(clippy::unwrap_used, reason = "a test ends there")]

mod harness;

use alluxio_proto::master::ReadSource;
use alluxio_proto::worker::{CopyRange, SeekRange, SetLength, WorkerReplyBody, Written};
use alluxio_proto::{ErrorKind, FsResult};
use bytes::Bytes;
use harness::*;

async fn seek(node: &Node, inode: u64, version: u64, offset: u64, hole: bool) -> Option<u64> {
    let request = SeekRange {
        inode,
        source: Some(ReadSource {
            version,
            ..ReadSource::default()
        }),
        offset,
        hole,
        open_version: true,
    };
    match node.call(request, Bytes::new()).await.unwrap().reply {
        WorkerReplyBody::Sought(sought) => sought.found.then_some(sought.offset),
        other => panic!("{other:?}"),
    }
}

async fn copy(node: &Node, request: CopyRange) -> FsResult<Written> {
    match node.call(request, Bytes::new()).await?.reply {
        WorkerReplyBody::Written(written) => Ok(written),
        other => panic!("{other:?}"),
    }
}

async fn set_length(node: &Node, inode: u64, version: u64, length: u64) {
    let set = SetLength {
        inode,
        version,
        length,
        number: 0,
    };
    node.stat_call(set).await.unwrap();
}

#[tokio::test]
async fn holes_are_found_in_what_was_written_and_what_is_elsewhere_is_data() {
    let node = Node::with(&[("alluxio.worker.file.whole.fetch.size", "0")]).await;
    node.open_write(5, 1, None, false, false).await.unwrap();
    node.write(5, 1, MB, pattern(1, CHUNK)).await.unwrap();
    set_length(&node, 5, 1, 4 * MB).await;
    assert_eq!(seek(&node, 5, 1, 0, false).await, Some(MB));
    assert_eq!(seek(&node, 5, 1, 0, true).await, Some(0));
    assert_eq!(seek(&node, 5, 1, MB + 5, false).await, Some(MB + 5));
    assert_eq!(seek(&node, 5, 1, MB + 5, true).await, Some(MB + CHUNK));
    assert_eq!(seek(&node, 5, 1, 2 * MB, false).await, None, "only a hole follows");
    assert_eq!(seek(&node, 5, 1, 4 * MB, true).await, None, "the end");

    // Over a base: what was never here is data, also where the local file has a hole.
    let base = node.put("f", pattern(2, 2 * MB)).await;
    node.open_write(6, 2, Some(source(1, &base)), false, false)
        .await
        .unwrap();
    set_length(&node, 6, 2, 4 * MB).await;
    node.write(6, 2, 3 * MB, pattern(3, CHUNK)).await.unwrap();
    node.write(6, 2, MB, pattern(4, CHUNK)).await.unwrap();
    assert_eq!(seek(&node, 6, 2, 0, false).await, Some(0));
    assert_eq!(seek(&node, 6, 2, 0, true).await, Some(2 * MB));
    assert_eq!(seek(&node, 6, 2, 2 * MB, false).await, Some(3 * MB));
    assert_eq!(seek(&node, 6, 2, 3 * MB, true).await, Some(3 * MB + CHUNK));
    assert_eq!(node.fetched(), 0, "nothing was fetched for that");
}

#[tokio::test]
async fn a_range_is_copied_on_the_worker() {
    let node = Node::new().await;
    let from_bytes = pattern(1, 3 * MB + 5);
    let from = source(1, &node.put("from", from_bytes.clone()).await);
    let to_bytes = pattern(2, 2 * MB);
    let to = source(1, &node.put("to", to_bytes.clone()).await);
    node.open_write(6, 2, Some(to), false, false).await.unwrap();
    let request = CopyRange {
        inode: 6,
        version: 2,
        offset: MB + 7,
        from_inode: 5,
        from_source: Some(from.clone()),
        from_open_version: false,
        from_offset: 100_003,
        length: 2 * MB,
    };
    let copied = copy(&node, request.clone()).await.unwrap();
    assert_eq!((copied.length, copied.file_length), (2 * MB, 3 * MB + 7));
    let mut expected = to_bytes.to_vec();
    expected.resize(3 * MB as usize + 7, 0);
    expected[MB as usize + 7..].copy_from_slice(&from_bytes[100_003..100_003 + 2 * MB as usize]);
    assert!(node.read_open(6, 2, 0, 4 * MB).await.unwrap() == expected);
    // Short at the end of the source, nothing beyond it.
    let tail = CopyRange {
        from_offset: 3 * MB,
        offset: 0,
        ..request.clone()
    };
    assert_eq!(copy(&node, tail.clone()).await.unwrap().length, 5);
    expected[..5].copy_from_slice(&from_bytes[3 * MB as usize..]);
    let beyond = CopyRange {
        from_offset: 9 * MB,
        ..tail
    };
    assert_eq!(copy(&node, beyond).await.unwrap().length, 0);
    // Within one open file, but not onto itself.
    let own = CopyRange {
        from_inode: 6,
        from_source: Some(local(2, 0)),
        from_open_version: true,
        from_offset: 0,
        offset: 2 * MB,
        length: CHUNK + 1,
        ..request
    };
    assert_eq!(copy(&node, own.clone()).await.unwrap().length, CHUNK + 1);
    expected.copy_within(..CHUNK as usize + 1, 2 * MB as usize);
    let onto_itself = CopyRange { offset: 10, ..own };
    let refused = copy(&node, onto_itself).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::InvalidArgument);
    assert!(node.read_open(6, 2, 0, 4 * MB).await.unwrap() == expected);
    let sealed = node.seal(6, 2, 0).await.unwrap();
    let mut upload = task(1, 6, 2, sealed.length, "copied");
    upload.base_version = 1;
    assert_eq!(node.persist(upload).await.error, None);
    assert!(node.object("copied").await == expected);
}
