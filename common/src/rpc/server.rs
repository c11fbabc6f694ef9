//! The answering end: what a server does and may take, its listener, and the greeting of each connection.

use super::ItemStream;
use super::frame::{FrameError, Hello, PeerKind};
use super::reader::{DataRoom, FrameReader, Heard, ReadError};
use super::requests::Connection;
use super::socket::{Listener, Socket};
use super::writer::FrameWriter;
use crate::metrics::Metrics;
use crate::{ErrorKind, FsError, FsResult};
use async_trait::async_trait;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long a new connection may take to say hello.
const HELLO_TIME_MAX: Duration = Duration::from_secs(10);
/// How long requests under way may go on after shutdown was asked for.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(5);
/// Pause after accept(2) failed, as it does when descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a server does with requests. Called inline by the task that reads the connection, which spawns what does not
/// answer at once; so it must not block its thread.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// Answers a request. Runs to its end even if the caller goes away, unless [`Handler::drop_on_cancel`] says so.
    ///
    /// # Errors
    /// Those of the service; they are sent to the caller.
    async fn call(&self, service: u8, header: Bytes, data: Bytes) -> FsResult<(Bytes, Bytes)>;

    /// Opens a stream, which is dropped when its reader goes away.
    ///
    /// # Errors
    /// Those of the service.
    async fn stream(&self, service: u8, header: Bytes) -> FsResult<ItemStream> {
        let _ = header;
        let why = format!("service {service} has no streams");
        Err(FsError::new(ErrorKind::NotSupported, why))
    }

    /// Whether the future of this call may be dropped at any of its awaits when the caller goes away. Say yes for what
    /// changes nothing: reads and long polls.
    fn drop_on_cancel(&self, service: u8, header: &Bytes) -> bool {
        let _ = (service, header);
        false
    }
}

/// Limits and surroundings of a server.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// What this end is.
    pub peer: PeerKind,
    /// Connections at once; further ones wait in the listen queue.
    pub connections_max: usize,
    /// Requests and streams in flight on one connection; told to the client, which keeps to it.
    pub in_flight_max: u16,
    /// Data sections of requests in memory, of all connections; reading pauses beyond it.
    pub data_bytes_max: usize,
    /// Silence after which the other end is asked whether it lives; after three times this it is taken for dead.
    pub keepalive: Duration,
    /// Counts connections and what was refused, as `Rpc.…`.
    pub metrics: Metrics,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            peer: PeerKind::Unknown,
            // Mounts and workers of a large cluster; each costs about 70 KiB.
            connections_max: 4096,
            // A mount with all its threads busy; a client that needs more waits.
            in_flight_max: 256,
            // 64 writes of the largest size.
            data_bytes_max: 256 << 20,
            keepalive: Duration::from_secs(10),
            metrics: Metrics::new(),
        }
    }
}

/// Answers on a listener with default options until `shutdown`; see [`serve_with`].
pub async fn serve(listener: impl Into<Listener>, handler: Arc<dyn Handler>, shutdown: CancellationToken) {
    serve_with(listener, handler, ServeOptions::default(), shutdown).await;
}

/// Answers on a listener until `shutdown`; then refuses what is new, gives what is under way five seconds to finish,
/// and returns when all its tasks have ended.
pub async fn serve_with(
    listener: impl Into<Listener>,
    handler: Arc<dyn Handler>,
    options: ServeOptions,
    shutdown: CancellationToken,
) {
    let listener = listener.into();
    let slots = Arc::new(Semaphore::new(options.connections_max));
    let server = Arc::new(Server {
        handler,
        data_room: Arc::new(Semaphore::new(options.data_bytes_max.div_ceil(1024).max(1 << 13))),
        options,
        shutdown: shutdown.clone(),
        kill: CancellationToken::new(),
    });
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            // Never closed, so never an error.
            Ok(permit) = Arc::clone(&slots).acquire_owned() => tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = listener.accept() => accepted.map(|(socket, peer)| (socket, peer, permit)),
            },
        };
        match accepted {
            Ok((socket, peer, permit)) => {
                let server = Arc::clone(&server);
                connections.spawn(async move {
                    server.connection(Arc::new(socket), peer).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accept a connection; trying again");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(DRAIN_TIME_MAX, connections.wait()).await.is_err() {
        tracing::warn!(
            "requests are still running {} s after shutdown; dropping them",
            DRAIN_TIME_MAX.as_secs()
        );
        server.kill.cancel();
        connections.wait().await;
    }
}

/// What the connections of one server share.
pub(super) struct Server {
    pub handler: Arc<dyn Handler>,
    pub options: ServeOptions,
    data_room: DataRoom,
    pub shutdown: CancellationToken,
    /// Time is up: handlers' futures are dropped, connections break.
    pub kill: CancellationToken,
}

impl Server {
    async fn connection(self: Arc<Self>, socket: Arc<Socket>, peer: String) {
        let metrics = &self.options.metrics;
        let _open = metrics.gauge("Rpc.Connections").hold();
        let heard = Arc::new(Heard::default());
        let room = Some(Arc::clone(&self.data_room));
        let mut reader = FrameReader::new(Arc::clone(&socket), Arc::clone(&heard), room);
        let writer = FrameWriter::new(socket, self.kill.child_token());
        if !self.exchange_hellos(&mut reader, &writer, &peer).await {
            return;
        }
        let connection = Arc::new(Connection::new(Arc::clone(&self), Arc::clone(&writer)));
        let keepalive = tokio::spawn(Arc::clone(&writer).run(Arc::clone(&heard), self.options.keepalive));
        let end = tokio::select! {
            () = self.shutdown.cancelled() => None,
            () = writer.broken.cancelled() => None,
            error = connection.read(&mut reader, &heard) => Some(error),
        };
        if let Some(ReadError::Frame(error)) = &end {
            metrics.counter("Rpc.ProtocolErrors").inc();
            tracing::info!(peer, %error, "closing the connection");
        } else {
            tracing::debug!(peer, end = ?end, "connection ends");
        }
        connection.finish(self.shutdown.is_cancelled()).await;
        writer.broken.cancel();
        // Ends by itself now; a panic in it was reported already.
        let _ = keepalive.await;
    }

    /// False if this is no client of ours, or it is gone. Why is logged here.
    async fn exchange_hellos(&self, reader: &mut FrameReader, writer: &FrameWriter, peer: &str) -> bool {
        let hello = tokio::select! {
            () = self.shutdown.cancelled() => return false,
            hello = tokio::time::timeout(HELLO_TIME_MAX, reader.hello()) => hello.unwrap_or(Err(ReadError::Slow)),
        };
        let ours = Hello {
            peer: self.options.peer,
            in_flight_max: self.options.in_flight_max,
        };
        let refused = match hello {
            Ok(hello) => {
                tracing::debug!(peer, kind = ?hello.peer, "connection");
                return writer.greet(ours).await;
            }
            // A port scan or a health check.
            Err(ReadError::Closed) => return false,
            Err(ReadError::Frame(FrameError::Http2)) => {
                tracing::info!(peer, "gRPC clients are not served yet; closing the connection");
                "Rpc.GrpcConnectionsRefused"
            }
            Err(ReadError::Frame(error @ FrameError::Version { .. })) => {
                tracing::info!(peer, %error, "closing the connection");
                // The client says the same to its user if it knows our version; if not, the reason is here.
                let _ = writer.greet(ours).await;
                "Rpc.VersionsRefused"
            }
            Err(ReadError::Slow) => {
                tracing::info!(
                    peer,
                    "no hello within {} s; closing the connection",
                    HELLO_TIME_MAX.as_secs()
                );
                "Rpc.GarbageConnections"
            }
            Err(error) => {
                tracing::info!(peer, %error, "not a client of ours; closing the connection");
                "Rpc.GarbageConnections"
            }
        };
        self.options.metrics.counter(refused).inc();
        false
    }
}
