//! Calls, streams, limits, cancelling, reconnecting, speed.

use crate::harness::*;
use alluxio_common::ErrorKind;
use alluxio_common::rpc::{Address, Client, ClientOptions, DATA_BYTES_MAX, HEADER_BYTES_MAX, Listener};
use bytes::Bytes;
use futures::StreamExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

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
    // The only permit is free again.
    assert_serves(&client).await;

    client
        .call_within(soon, 1, text("hold"), Bytes::new())
        .await
        .unwrap_err();
    // It still runs, and keeps the permit until it has ended.
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
    // A call may still meet the connection that is about to be seen closed; it fails so that it can be tried again.
    if let Err(error) = client.call(1, text("x"), Bytes::new()).await {
        assert!(error.is_retryable(), "{error}");
    }
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
        async move {
            match client.call(1, text("x"), Bytes::new()).await {
                // It met the connection that was about to be seen closed.
                Err(error) if error.is_retryable() => client.call(1, text("x"), Bytes::new()).await,
                other => other,
            }
        }
    });
    let again = Server::start_with(Listener::bind_tcp("127.0.0.1", port).await.unwrap(), |_| {}).await;
    call.await.unwrap().unwrap();
    drop(client);
    again.stop().await;
}

/// Many that wait for one connection hear together that there is none, instead of trying one after the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_a_connection_shares_its_failure() {
    const CALLS: u32 = 50;
    let server = Server::start().await;
    let address = server.address.clone();
    server.stop().await;
    let options = quick();
    let once = options.reconnect.total;
    let client = Client::new(vec![address], options);
    let start = Instant::now();
    let calls = (0..CALLS).map(|_| client.call(1, text("x"), Bytes::new()));
    for result in futures::future::join_all(calls).await {
        assert_eq!(result.unwrap_err().kind, ErrorKind::Unavailable);
    }
    assert!(start.elapsed() < once * CALLS / 4, "{:?}", start.elapsed());
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
