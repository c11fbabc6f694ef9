//! The two doors: frames over TCP, and the unix socket that hands out descriptors.
#![allow(clippy::unwrap_used, reason = "a test ends there")]

mod harness;

use alluxio_common::checksum::crc32c;
use alluxio_common::rpc::{self, Address, Client, ClientOptions, SERVICE_MASTER, SERVICE_WORKER};
use alluxio_proto::ErrorKind;
use alluxio_proto::worker::{OpenRead, Read, WorkerReply, WorkerReplyBody, WorkerRequest};
use bytes::Bytes;
use harness::*;
use prost::Message;
use std::io::Read as _;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

#[tokio::test]
async fn frames_carry_bytes_with_their_checksum() {
    let mut node = Node::new().await;
    let content = pattern(1, 2 * MB);
    let file = source(1, &node.put("f", content.clone()).await);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = tokio::spawn(Arc::clone(node.worker()).serve(listener));
    let address = Address::tcp("127.0.0.1", port);
    let client = Client::connect(vec![address], ClientOptions::default()).await.unwrap();
    let read = Read {
        inode: 5,
        source: Some(file.clone()),
        offset: 100,
        length: MB,
        ..Read::default()
    };
    let header: Bytes = WorkerRequest::from(read).encode_to_vec().into();
    let (reply, data) = client.call(SERVICE_WORKER, header.clone(), Bytes::new()).await.unwrap();
    let reply = WorkerReply::decode(reply).unwrap();
    assert!(data == content.slice(100..100 + MB as usize));
    assert_eq!(reply.data_crc32c, crc32c(&data));
    let wrong = client.call(SERVICE_MASTER, header, Bytes::new()).await.unwrap_err();
    assert_eq!(wrong.kind, ErrorKind::NotSupported);
    let garbage = client
        .call(SERVICE_WORKER, Bytes::from_static(&[0xff; 9]), Bytes::new())
        .await
        .unwrap_err();
    assert_eq!(garbage.kind, ErrorKind::InvalidArgument);
    node.stop().await;
    serving.await.unwrap();
}

#[tokio::test]
async fn unix_socket_hands_out_descriptors() {
    let mut node = Node::new().await;
    let content = pattern(2, 100_000);
    let file = source(1, &node.put("f", content.clone()).await);
    let path = node.dir.join("socket");
    let worker = Arc::clone(node.worker());
    let at = path.clone();
    let serving = tokio::spawn(async move { worker.serve_fd(&at).await });
    until("the socket is there", || path.exists().then_some(())).await;
    let client = rpc::fd::Client::connect(&path).await.unwrap();
    let open = OpenRead {
        inode: 5,
        source: Some(file),
        want_fd: true,
        verify: false,
        check_source: false,
    };
    let header: Bytes = WorkerRequest::from(open.clone()).encode_to_vec().into();
    let (reply, _, fd) = client.call(header, Bytes::new()).await.unwrap();
    match WorkerReply::decode(reply).unwrap().reply.unwrap() {
        WorkerReplyBody::OpenedFile(opened) => assert!(opened.complete),
        other => panic!("{other:?}"),
    }
    let mut bytes = Vec::new();
    let mut fd = std::fs::File::from(fd.unwrap());
    fd.read_to_end(&mut bytes).unwrap();
    assert!(bytes == content);
    // Who asks to read gets what can only read.
    assert_eq!(fd.write_at(b"x", 0).unwrap_err().raw_os_error(), Some(9));
    let verified = OpenRead { verify: true, ..open };
    let header: Bytes = WorkerRequest::from(verified).encode_to_vec().into();
    assert!(client.call(header, Bytes::new()).await.unwrap().2.is_none());
    drop(client);
    node.stop().await;
    serving.await.unwrap().unwrap();
}
