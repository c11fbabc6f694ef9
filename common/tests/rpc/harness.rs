//! A server whose requests say what it shall do.

use alluxio_common::metrics::Metrics;
use alluxio_common::retry::RetryPolicy;
use alluxio_common::rpc::{
    Address, Client, ClientOptions, DATA_BYTES_MAX, Handler, ItemStream, Listener, ServeOptions, serve_with,
};
use alluxio_common::{ErrorKind, FsError, FsResult};
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// What the header says is done; the first word is the order.
#[derive(Default)]
pub struct Echo {
    pub running: AtomicUsize,
    pub running_most: AtomicUsize,
    pub dropped: AtomicUsize,
    pub finished: AtomicUsize,
    pub produced: AtomicUsize,
    pub release: Notify,
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

pub struct Shared(pub Arc<Echo>);

pub struct Server {
    pub echo: Arc<Echo>,
    pub address: Address,
    pub metrics: Metrics,
    pub shutdown: CancellationToken,
    pub task: JoinHandle<()>,
}

impl Server {
    pub async fn start() -> Self {
        Self::start_with(Listener::bind_tcp("127.0.0.1", 0).await.unwrap(), |_| {}).await
    }

    pub async fn start_with(listener: Listener, change: impl FnOnce(&mut ServeOptions)) -> Self {
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

    pub fn port_address(&self) -> String {
        self.address.to_string()
    }

    pub async fn client(&self) -> Client {
        Client::connect(vec![self.address.clone()], quick()).await.unwrap()
    }

    pub async fn stop(self) {
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

pub fn quick() -> ClientOptions {
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

pub async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

pub fn text(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

pub async fn assert_serves(client: &Client) {
    let (header, data) = client.call(1, text("later"), text("data")).await.unwrap();
    assert_eq!((header, data), (text("later"), text("data")));
}
