//! Peers that are silent, of another protocol, or hostile: their connection ends, and the server goes on serving.

use crate::harness::*;
use alluxio_common::ErrorKind;
use alluxio_common::rpc::{Address, Client, ClientOptions, Listener};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A peer that accepts and then says nothing, neither hello nor pong.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_peers_are_given_up() {
    let mute = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Address::Tcp(mute.local_addr().unwrap().to_string());
    let options = ClientOptions {
        connect_timeout: Duration::from_millis(100),
        ..quick()
    };
    let error = Client::connect(vec![address.clone()], options.clone())
        .await
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert!(error.message.contains("no answer within"), "{error}");

    // The server's side: a client that said hello and then hangs is dropped after three intervals.
    let listener = Listener::bind_tcp("127.0.0.1", 0).await.unwrap();
    let server = Server::start_with(listener, |options| options.keepalive = Duration::from_millis(30)).await;
    let mut hung = hello_sent(&server).await;
    let mut rest = Vec::new();
    tokio::time::timeout(Duration::from_secs(10), hung.read_to_end(&mut rest))
        .await
        .expect("closed")
        .unwrap();
    // The hello, then pings.
    assert!(rest.len() >= 16 + 24, "{} bytes", rest.len());
    // One that answers pings stays, though idle for many intervals.
    let client = server.client().await;
    assert_serves(&client).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(client.is_connected());
    server.stop().await;
}

async fn hello_sent(server: &Server) -> TcpStream {
    let mut socket = TcpStream::connect(server.port_address()).await.unwrap();
    socket.write_all(&hello(1)).await.unwrap();
    socket
}

fn hello(version: u32) -> Vec<u8> {
    let mut hello = vec![0x89, b'A', b'L', b'X'];
    hello.extend(version.to_be_bytes());
    hello.extend([3, 0, 0, 0]);
    let crc = alluxio_common::checksum::crc32c(&hello);
    hello.extend(crc.to_be_bytes());
    hello
}

/// A frame with right checksums, whatever its lengths claim.
fn frame(kind: u8, id: u64, header_len: u32, data_len: u32, header: &[u8], data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(header_len.to_be_bytes());
    bytes.extend(data_len.to_be_bytes());
    bytes.extend(id.to_be_bytes());
    bytes.extend([kind, 1, 0, 0]);
    let crc = alluxio_common::checksum::crc32c(&[&bytes, header].concat());
    bytes.extend(crc.to_be_bytes());
    bytes.extend(header);
    bytes.extend(data);
    bytes
}

/// Sends bytes and reads until the server closes; `half_close` says that no more will come.
async fn provoke(server: &Server, bytes: &[u8], half_close: bool) -> Vec<u8> {
    let mut socket = TcpStream::connect(server.port_address()).await.unwrap();
    // The server may close while we are still writing.
    let _ = socket.write_all(bytes).await;
    if half_close {
        let _ = socket.shutdown().await;
    }
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(5), socket.read_to_end(&mut answer)).await;
    // A reset is a way of closing, too.
    let _ = read.expect("the server closes the connection");
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc_clients_and_garbage_are_told_apart_and_closed() {
    let server = Server::start().await;
    let client = server.client().await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    assert!(provoke(&server, preface, false).await.is_empty());
    assert_eq!(server.metrics.value("Rpc.GrpcConnectionsRefused"), Some(1));
    assert!(provoke(&server, b"GET / HTTP/1.1\r\n\r\n", false).await.is_empty());
    assert!(provoke(&server, b"PRI x", false).await.is_empty());
    assert!(provoke(&server, &[0x89, b'A', b'L'], true).await.is_empty());
    assert_eq!(server.metrics.value("Rpc.GarbageConnections"), Some(3));
    // Another version is told ours.
    assert_eq!(provoke(&server, &hello(2), false).await[..8], hello(1)[..8]);
    assert_eq!(server.metrics.value("Rpc.VersionsRefused"), Some(1));
    assert_serves(&client).await;
    drop(client);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_of_something_else_says_so() {
    let other = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Address::Tcp(other.local_addr().unwrap().to_string());
    let serving = tokio::spawn(async move {
        for answer in [b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), hello(9)] {
            let (mut socket, _) = other.accept().await.unwrap();
            socket.write_all(&answer).await.unwrap();
            let mut rest = Vec::new();
            let _ = socket.read_to_end(&mut rest).await;
        }
    });
    let error = Client::connect(vec![address.clone()], quick()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotSupported);
    assert!(error.message.contains("check host and port"), "{error}");
    let error = Client::connect(vec![address], quick()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotSupported);
    assert!(error.message.contains("protocol version 9"), "{error}");
    serving.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_frames_end_their_connection_only() {
    let server = Server::start().await;
    let client = server.client().await;
    let good = frame(1, 1, 1, 0, b"x", b"");
    let mut flipped = frame(1, 1, 4, 0, b"abcd", b"");
    *flipped.last_mut().unwrap() ^= 1;
    let cases: Vec<(&str, Vec<u8>, bool)> = vec![
        ("huge header", frame(1, 1, u32::MAX, 0, b"", b""), false),
        ("huge data", frame(1, 1, 0, u32::MAX, b"", b""), false),
        ("unknown kind", frame(99, 1, 0, 0, b"", b""), false),
        ("a reply to a server", frame(2, 1, 0, 0, b"", b""), false),
        ("wrong checksum", flipped, false),
        ("malformed credit", frame(10, 1, 3, 0, b"abc", b""), false),
        ("truncated prefix", good[..10].to_vec(), true),
        ("truncated header", frame(1, 1, 100, 0, b"abc", b""), true),
        ("truncated data", frame(1, 1, 1, 100_000, b"x", b"abc"), true),
    ];
    for (what, bytes, half_close) in cases {
        let sent = [hello(1), bytes].concat();
        let answer = provoke(&server, &sent, half_close).await;
        assert!(answer.len() <= 16, "{what}: only the hello is answered");
        assert_serves(&client).await;
    }
    assert_eq!(server.metrics.value("Rpc.ProtocolErrors"), Some(6));
    // The same id twice while the first is running.
    let twice = [
        hello(1),
        frame(1, 1, 4, 0, b"poll", b""),
        frame(1, 1, 4, 0, b"poll", b""),
    ]
    .concat();
    provoke(&server, &twice, false).await;
    assert_eq!(server.metrics.value("Rpc.ProtocolErrors"), Some(7));
    drop(client);
    server.stop().await;
}

/// Random bytes before and after the greeting, and frames that are right but for what they say.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_bytes_do_no_harm() {
    use proptest::prelude::*;
    use proptest::strategy::ValueTree;
    let server = Server::start().await;
    let client = server.client().await;
    let noise = || prop::collection::vec(any::<u8>(), 0..300);
    let framed = (any::<u8>(), 0u64..4, noise(), noise()).prop_map(|(kind, id, header, data)| {
        frame(kind % 12, id, header.len() as u32, data.len() as u32, &header, &data)
    });
    let strategy = (
        any::<bool>(),
        prop::collection::vec(prop_oneof![4 => framed, 1 => noise()], 1..12),
    );
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    for _ in 0..300 {
        let (greet, pieces) = strategy.new_tree(&mut runner).unwrap().current();
        let mut bytes = if greet { hello(1) } else { Vec::new() };
        bytes.extend(pieces.concat());
        provoke(&server, &bytes, true).await;
    }
    assert_serves(&client).await;
    drop(client);
    server.stop().await;
}
