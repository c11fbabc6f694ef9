//! A client: one connection to one of several addresses, made when it is needed and again when it broke.

use super::connection::Connection;
use super::frame::PeerKind;
use super::{Address, ItemStream};
use crate::retry::{RetryPolicy, time_left};
use crate::sync::Mutex;
use crate::{ErrorKind, FsError, FsResult};
use bytes::Bytes;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Limits of a client.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// What this end is.
    pub peer: PeerKind,
    /// Longest wait for an answer, reconnecting included; [`Client::call_within`] says otherwise.
    pub call_timeout: Duration,
    /// Longest wait for one address.
    pub connect_timeout: Duration,
    /// How a call tries the addresses again, all in turn, while none answers; then it fails.
    pub reconnect: RetryPolicy,
    /// Requests and streams in flight; the server may allow fewer. Further ones wait.
    pub in_flight_max: usize,
    /// Silence after which the other end is asked whether it lives; after three times this it is taken for dead.
    pub keepalive: Duration,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            peer: PeerKind::Client,
            call_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(5),
            reconnect: RetryPolicy {
                base: Duration::from_millis(50),
                max: Duration::from_secs(3),
                total: Duration::from_secs(5),
            },
            in_flight_max: 256,
            keepalive: Duration::from_secs(10),
        }
    }
}

/// Calls a server. Clones share the connection, which ends when the last is dropped.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    addresses: Vec<Address>,
    options: ClientOptions,
    current: Mutex<Option<Arc<Connection>>>,
    /// One caller connects, the others wait for it.
    connecting: tokio::sync::Mutex<Connecting>,
    closed: CancellationToken,
}

/// What whoever connects knows from those before.
#[derive(Default)]
struct Connecting {
    /// Number of the address to try first.
    next: usize,
    /// When the last one that failed began, and why it failed.
    failed: Option<(Instant, FsError)>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.closed.cancel();
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("addresses", &self.0.addresses)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// A client that connects at its first call. Must be used within a tokio runtime.
    pub fn new(addresses: Vec<Address>, options: ClientOptions) -> Self {
        Self(Arc::new(Inner {
            addresses,
            options,
            current: Mutex::new(None),
            connecting: tokio::sync::Mutex::default(),
            closed: CancellationToken::new(),
        }))
    }

    /// A client that is connected.
    ///
    /// # Errors
    /// `Unavailable` if no address answers in time, `NotSupported` if what answers is of another version or not ours.
    pub async fn connect(addresses: Vec<Address>, options: ClientOptions) -> FsResult<Self> {
        let client = Self::new(addresses, options);
        client.connection().await?;
        Ok(client)
    }

    /// Connects, unless that is done: who fails here has asked nothing yet.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub async fn reach(&self) -> FsResult<()> {
        self.connection().await.map(drop)
    }

    /// Asks and waits for the answer, as long as [`ClientOptions::call_timeout`]. Dropping the future cancels.
    ///
    /// # Errors
    /// Those of the service; `Unavailable` if the connection broke and `Timeout`: the server may or may not have done it.
    pub async fn call(&self, service: u8, header: Bytes, data: Bytes) -> FsResult<(Bytes, Bytes)> {
        self.call_within(self.call_timeout(), service, header, data).await
    }

    /// As [`Client::call`], with another limit, whatever is left of a budget: long polls, waits for a slow thing.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn call_within(
        &self,
        timeout: Duration,
        service: u8,
        header: Bytes,
        data: Bytes,
    ) -> FsResult<(Bytes, Bytes)> {
        let call = async { self.connection().await?.call(service, header, data).await };
        match tokio::time::timeout(timeout, call).await {
            Ok(result) => result,
            Err(_) => Err(self.late("wait for an answer of", timeout)),
        }
    }

    /// Opens a stream; its items come for as long as it is kept. The limit of time is for the opening only.
    ///
    /// # Errors
    /// As [`Client::call`]; an error after the opening is the last item.
    pub async fn stream(&self, service: u8, header: Bytes) -> FsResult<ItemStream> {
        let timeout = self.call_timeout();
        let open = async { self.connection().await?.stream(service, header).await };
        match tokio::time::timeout(timeout, open).await {
            Ok(result) => result,
            Err(_) => Err(self.late("open a stream at", timeout)),
        }
    }

    /// The usual limit, or what is left of the budget of a caller that tries again.
    fn call_timeout(&self) -> Duration {
        let usual = self.0.options.call_timeout;
        time_left().map_or(usual, |left| left.min(usual))
    }

    /// Whether there is a live connection now.
    pub fn is_connected(&self) -> bool {
        self.live().is_some()
    }

    /// Drops the connection, if any: calls in flight fail, and the next one tries the next address.
    pub fn disconnect(&self) {
        if let Some(connection) = self.0.current.lock().take() {
            connection.close();
        }
    }

    /// The addresses, for messages.
    pub fn addresses(&self) -> &[Address] {
        &self.0.addresses
    }

    fn live(&self) -> Option<Arc<Connection>> {
        self.0
            .current
            .lock()
            .clone()
            .filter(|connection| !connection.is_broken())
    }

    async fn connection(&self) -> FsResult<Arc<Connection>> {
        if let Some(connection) = self.live() {
            return Ok(connection);
        }
        // Waiters are bounded by their own timeouts.
        let asked = Instant::now();
        let mut connecting = self.0.connecting.lock().await;
        if let Some(connection) = self.live() {
            return Ok(connection);
        }
        // All that time was spent on it for us, too: one after the other, the last of many would hear of it after minutes.
        if let Some((_, error)) = connecting.failed.as_ref().filter(|(began, _)| *began >= asked) {
            return Err(error.clone());
        }
        let began = Instant::now();
        // Who calls within a retry of its own sleeps there, not here.
        let mut backoff = self.0.options.reconnect.start_inner();
        loop {
            let error = match self.try_each(&mut connecting.next).await {
                Ok(connection) => {
                    *self.0.current.lock() = Some(Arc::clone(&connection));
                    return Ok(connection);
                }
                Err(error) => error,
            };
            if !error.is_retryable() || !backoff.pause(&error).await {
                connecting.failed = Some((began, error.clone()));
                return Err(error);
            }
        }
    }

    /// Each address once, starting with number `next`, which becomes the one after that which answered.
    async fn try_each(&self, next: &mut usize) -> FsResult<Arc<Connection>> {
        let Inner {
            addresses,
            options,
            closed,
            ..
        } = &*self.0;
        let mut last = FsError::new(ErrorKind::InvalidArgument, "connect: no address is given");
        for _ in 0..addresses.len() {
            let address = &addresses[*next % addresses.len()];
            *next = (*next + 1) % addresses.len();
            let open = Connection::open(address, options, closed);
            match tokio::time::timeout(options.connect_timeout, open).await {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(error)) => last = error,
                Err(_) => {
                    let why = format!("connect to {address}: no answer within {:?}", options.connect_timeout);
                    last = FsError::new(ErrorKind::Unavailable, why);
                }
            }
            tracing::debug!(error = %last, "connection attempt");
        }
        Err(last)
    }

    fn late(&self, doing: &str, timeout: Duration) -> FsError {
        let at: Vec<String> = self.0.addresses.iter().map(Address::to_string).collect();
        FsError::new(
            ErrorKind::Timeout,
            format!("{doing} {}: nothing within {timeout:?}", at.join(", ")),
        )
    }
}
