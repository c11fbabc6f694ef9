//! The framed transport over real sockets: what it promises, and what garbage does to it.
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use alluxio_common::metrics::Metrics;
use alluxio_common::retry::RetryPolicy;
use alluxio_common::rpc::{
    Address, Client, ClientOptions, DATA_BYTES_MAX, HEADER_BYTES_MAX, Handler, ItemStream, Listener, ServeOptions,
    serve_with,
};
use alluxio_common::{ErrorKind, FsError, FsResult};
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// What the header says is done; the first word is the order.
#[derive(Default)]
struct Echo {
    running: AtomicUsize,
    running_most: AtomicUsize,
    dropped: AtomicUsize,
    finished: AtomicUsize,
    produced: AtomicUsize,
    release: Notify,
}

struct CountDrop<'a>(&'a AtomicUsize);

impl Drop for CountDrop<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl Handler for Shared {
    async fn call(&self, service: u8, header: Bytes, data: Bytes) -> FsResult<(Bytes, Bytes)> {
        let this = &self.0;
        match header.as_ref() {
            b"hold" | b"poll" => {
                let now = this.running.fetch_add(1, Ordering::SeqCst) + 1;
                this.running_most.fetch_max(now, Ordering::SeqCst);
                let _guard = CountDrop(&this.dropped);
                this.release.notified().await;
                this.running.fetch_sub(1, Ordering::SeqCst);
                this.finished.fetch_add(1, Ordering::SeqCst);
                Ok((header, data))
            }
            b"fail" => Err(FsError::new(ErrorKind::NotEmpty, "remove /a: not empty")),
            b"panic" => panic!("asked for"),
            b"too long" => Ok((Bytes::new(), Bytes::from(vec![0; DATA_BYTES_MAX + 1]))),
            b"service" => Ok((Bytes::copy_from_slice(&[service]), data)),
            b"later" => {
                tokio::task::yield_now().await;
                Ok((header, data))
            }
            _ => Ok((header, data)),
        }
    }

    async fn stream(&self, _: u8, header: Bytes) -> FsResult<ItemStream> {
        let this = Arc::clone(&self.0);
        match header.as_ref() {
            b"refuse" => Err(FsError::new(ErrorKind::Stale, "no such session")),
            b"three" => {
                let items = (0..3u8).map(|n| Ok(Bytes::copy_from_slice(&[n])));
                Ok(futures::stream::iter(items).boxed())
            }
            b"break" => {
                let items = [
                    Ok(Bytes::from_static(b"one")),
                    Err(FsError::new(ErrorKind::Stale, "gone")),
                ];
                Ok(futures::stream::iter(items).boxed())
            }
            b"silent" => Ok(futures::stream::pending().boxed()),
            _ => Ok(futures::stream::unfold(this, |this| async move {
                let n = this.produced.fetch_add(1, Ordering::SeqCst) as u64;
                Some((Ok(Bytes::copy_from_slice(&n.to_be_bytes())), this))
            })
            .boxed()),
        }
    }

    fn drop_on_cancel(&self, _: u8, header: &Bytes) -> bool {
        header.as_ref() == b"poll"
    }
}

struct Shared(Arc<Echo>);

struct Server {
    echo: Arc<Echo>,
    address: Address,
    metrics: Metrics,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Server {
    async fn start() -> Self {
        Self::start_with(Listener::bind_tcp("127.0.0.1", 0).await.unwrap(), |_| {}).await
    }

    async fn start_with(listener: Listener, change: impl FnOnce(&mut ServeOptions)) -> Self {
        let address = Address::Tcp(listener.local_addr().map(|a| a.to_string()).unwrap_or_default());
        let echo = Arc::new(Echo::default());
        let mut options = ServeOptions::default();
        change(&mut options);
        let (metrics, shutdown) = (options.metrics.clone(), CancellationToken::new());
        let task = tokio::spawn(serve_with(
            listener,
            Arc::new(Shared(Arc::clone(&echo))),
            options,
            shutdown.clone(),
        ));
        Self {
            echo,
            address,
            metrics,
            shutdown,
            task,
        }
    }

    fn port_address(&self) -> String {
        self.address.to_string()
    }

    async fn client(&self) -> Client {
        Client::connect(vec![self.address.clone()], quick()).await.unwrap()
    }

    async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(Duration::from_secs(10), self.task)
            .await
            .expect("the server ends")
            .unwrap();
        assert_eq!(
            self.metrics.value("Rpc.Connections").unwrap_or(0),
            0,
            "no connection is left"
        );
    }
}

fn quick() -> ClientOptions {
    ClientOptions {
        call_timeout: Duration::from_secs(10),
        reconnect: RetryPolicy {
            base: Duration::from_millis(5),
            max: Duration::from_millis(50),
            total: Duration::from_millis(400),
        },
        ..ClientOptions::default()
    }
}

async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn text(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

async fn assert_serves(client: &Client) {
    let (header, data) = client.call(1, text("later"), text("data")).await.unwrap();
    assert_eq!((header, data), (text("later"), text("data")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_errors_and_sizes() {
    let server = Server::start().await;
    let client = server.client().await;
    assert_serves(&client).await;
    assert_eq!(
        client.call(2, text("service"), Bytes::new()).await.unwrap().0.as_ref(),
        [2]
    );

    let error = client.call(1, text("fail"), Bytes::new()).await.unwrap_err();
    assert_eq!(
        (error.kind, error.message.as_str()),
        (ErrorKind::NotEmpty, "remove /a: not empty")
    );
    assert_eq!(
        client.call(1, text("panic"), Bytes::new()).await.unwrap_err().kind,
        ErrorKind::Internal
    );
    assert_eq!(
        client.call(1, text("too long"), Bytes::new()).await.unwrap_err().kind,
        ErrorKind::Internal
    );

    // The longest there may be, and one more.
    let header = Bytes::from(vec![7; HEADER_BYTES_MAX]);
    let data: Bytes = (0..DATA_BYTES_MAX).map(|n| (n % 251) as u8).collect();
    let answer = client.call(1, header.clone(), data.clone()).await.unwrap();
    assert!(answer == (header, data), "16 MiB come back as they went");
    let long = Bytes::from(vec![0; DATA_BYTES_MAX + 1]);
    assert_eq!(
        client.call(1, text("x"), long).await.unwrap_err().kind,
        ErrorKind::InvalidArgument
    );
    let long = Bytes::from(vec![0; HEADER_BYTES_MAX + 1]);
    assert_eq!(
        client.call(1, long, Bytes::new()).await.unwrap_err().kind,
        ErrorKind::InvalidArgument
    );
    assert_serves(&client).await;
    drop(client);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_sizes_at_once_come_back_to_their_callers() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rpc.sock");
    for unix in [false, true] {
        let listener = if unix {
            Listener::bind_unix(&path).unwrap()
        } else {
            Listener::bind_tcp("127.0.0.1", 0).await.unwrap()
        };
        let mut server = Server::start_with(listener, |_| {}).await;
        if unix {
            server.address = Address::Unix(path.clone());
        }
        let client = server.client().await;
        let calls = (0..400usize).map(|n| {
            let client = client.clone();
            tokio::spawn(async move {
                let header = Bytes::from(format!("{n}").repeat(1 + n % 7));
                // Some far beyond the socket's buffer.
                let data = Bytes::from(vec![n as u8; (n % 20) * (n % 20) * 1000]);
                let answer = client.call(1, header.clone(), data.clone()).await.unwrap();
                assert!(answer == (header, data), "answer {n}");
            })
        });
        futures::future::try_join_all(calls.collect::<Vec<_>>()).await.unwrap();
        drop(client);
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_flight_is_bounded_and_further_calls_wait() {
    let listener = Listener::bind_tcp("127.0.0.1", 0).await.unwrap();
    let server = Server::start_with(listener, |options| options.in_flight_max = 8).await;
    let client = server.client().await;
    let calls: Vec<_> = (0..40)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.call(1, text("hold"), Bytes::new()).await })
        })
        .collect();
    let echo = Arc::clone(&server.echo);
    eventually("8 are running", || echo.running.load(Ordering::SeqCst) == 8).await;
    while echo.finished.load(Ordering::SeqCst) < 40 {
        echo.release.notify_one();
        tokio::task::yield_now().await;
    }
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!(echo.running_most.load(Ordering::SeqCst), 8);
    drop(client);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelled_polls_are_dropped_and_changes_run_to_their_end() {
    let listener = Listener::bind_tcp("127.0.0.1", 0).await.unwrap();
    let server = Server::start_with(listener, |options| options.in_flight_max = 1).await;
    let client = server.client().await;
    let echo = Arc::clone(&server.echo);
    let soon = Duration::from_millis(50);

    let error = client
        .call_within(soon, 1, text("poll"), Bytes::new())
        .await
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::Timeout);
    assert!(error.message.contains(&server.port_address()), "{error}");
    eventually("the poll is dropped", || echo.dropped.load(Ordering::SeqCst) == 1).await;
    assert_eq!(echo.finished.load(Ordering::SeqCst), 0);
    // The only place is free again.
    assert_serves(&client).await;

    client
        .call_within(soon, 1, text("hold"), Bytes::new())
        .await
        .unwrap_err();
    // It still runs, and keeps the place until it has ended.
    assert_eq!(echo.dropped.load(Ordering::SeqCst), 1);
    let error = client.call_within(soon, 1, text("x"), Bytes::new()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Timeout);
    echo.release.notify_one();
    eventually("the change has ended", || echo.finished.load(Ordering::SeqCst) == 1).await;
    assert_serves(&client).await;
    drop(client);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams() {
    let server = Server::start().await;
    let client = server.client().await;
    let items: Vec<_> = client.stream(1, text("three")).await.unwrap().collect().await;
    assert_eq!(
        items.iter().map(|i| i.as_ref().unwrap()[0]).collect::<Vec<_>>(),
        [0, 1, 2]
    );
    let items: Vec<_> = client.stream(1, text("break")).await.unwrap().collect().await;
    assert_eq!(items.len(), 2);
    assert_eq!(items[1].as_ref().unwrap_err().kind, ErrorKind::Stale);
    let refused = client.stream(1, text("refuse")).await.err().unwrap();
    assert_eq!(
        (refused.kind, refused.message.as_str()),
        (ErrorKind::Stale, "no such session")
    );
    drop(client);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_nobody_reads_neither_grows_nor_blocks_others() {
    let server = Server::start().await;
    let client = server.client().await;
    let mut stream = client.stream(1, text("endless")).await.unwrap();
    let echo = Arc::clone(&server.echo);
    eventually("the window is full", || echo.produced.load(Ordering::SeqCst) >= 65).await;
    for _ in 0..50 {
        assert_serves(&client).await;
    }
    assert!(
        echo.produced.load(Ordering::SeqCst) <= 65,
        "one more than the window was asked for"
    );
    for n in 0..1000u64 {
        assert_eq!(stream.next().await.unwrap().unwrap().as_ref(), n.to_be_bytes());
    }
    drop(stream);
    assert_serves(&client).await;
    drop(client);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reconnects_and_takes_the_other_address() {
    let (first, second) = (Server::start().await, Server::start().await);
    let addresses = vec![first.address.clone(), second.address.clone()];
    let client = Client::connect(addresses, quick()).await.unwrap();
    assert_serves(&client).await;
    let held = {
        let client = client.clone();
        tokio::spawn(async move { client.call(1, text("poll"), Bytes::new()).await })
    };
    let echo = Arc::clone(&first.echo);
    eventually("it is held", || echo.running.load(Ordering::SeqCst) == 1).await;
    let mut watch = client.stream(1, text("silent")).await.unwrap();
    first.shutdown.cancel();
    // The stream ends at once, with the reason.
    let error = watch.next().await.unwrap().unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable);
    echo.release.notify_one();
    held.await.unwrap().expect("what was under way at shutdown is answered");
    first.stop().await;
    assert_serves(&client).await;
    assert_eq!(second.metrics.value("Rpc.Connections"), Some(1));
    client.disconnect();
    second.stop().await;

    let started = Instant::now();
    let error = client.call(1, text("x"), Bytes::new()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert!(error.message.starts_with("connect to 127.0.0.1:"), "{error}");
    let took = started.elapsed();
    assert!(
        took >= Duration::from_millis(400) && took < Duration::from_secs(5),
        "{took:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_waits_for_a_server_that_restarts() {
    let server = Server::start().await;
    let address = server.address.clone();
    let port = address.to_string().rsplit(':').next().unwrap().parse().unwrap();
    let client = Client::connect(vec![address], ClientOptions::default()).await.unwrap();
    server.stop().await;
    let call = tokio::spawn({
        let client = client.clone();
        async move { client.call(1, text("x"), Bytes::new()).await }
    });
    let again = Server::start_with(Listener::bind_tcp("127.0.0.1", port).await.unwrap(), |_| {}).await;
    call.await.unwrap().unwrap();
    drop(client);
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stuck_handler_does_not_hold_up_shutdown_for_ever() {
    let server = Server::start().await;
    let client = server.client().await;
    let echo = Arc::clone(&server.echo);
    let call = tokio::spawn({
        let client = client.clone();
        async move { client.call(1, text("hold"), Bytes::new()).await }
    });
    eventually("it is held", || echo.running.load(Ordering::SeqCst) == 1).await;
    server.stop().await;
    assert_eq!(call.await.unwrap().unwrap_err().kind, ErrorKind::Unavailable);
    assert_eq!(echo.dropped.load(Ordering::SeqCst), 1);
}

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

/// Serial calls over loopback, printed; the bound only catches a lost design (a polling loop, Nagle's algorithm).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serial_call_latency() {
    let server = Server::start().await;
    let client = server.client().await;
    let calls = 2000;
    let mut started = Instant::now();
    for round in 0..2 {
        started = Instant::now();
        for _ in 0..calls {
            client.call(1, text("ping"), Bytes::new()).await.unwrap();
        }
        println!("round {round}: {:?} a call", started.elapsed() / calls);
    }
    assert!(started.elapsed() / calls < Duration::from_millis(5));
    drop(client);
    server.stop().await;
}

/// Large answers over loopback, eight at a time, printed; the bound only catches a lost design.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bulk_throughput() {
    let server = Server::start().await;
    let client = server.client().await;
    let (calls, bytes) = (128, 1 << 20);
    let data = Bytes::from(vec![1; bytes]);
    let started = Instant::now();
    futures::stream::iter(0..calls)
        .map(|_| client.call(1, text("x"), data.clone()))
        .buffer_unordered(8)
        .for_each(|answer| async { assert_eq!(answer.unwrap().1.len(), bytes) })
        .await;
    let rate = (calls * bytes) as f64 / started.elapsed().as_secs_f64() / 1e6;
    println!("{rate:.0} MB/s each way");
    assert!(rate > 20.0);
    drop(client);
    server.stop().await;
}
