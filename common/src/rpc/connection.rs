//! The asking end of one connection: requests in flight and who waits for them.

use super::frame::{Frame, FrameError, Hello, Kind, STREAM_ITEMS_MAX};
use super::reader::{FrameReader, Heard, ReadError};
use super::writer::FrameWriter;
use super::{Address, ClientOptions, ItemStream};
use crate::sync::Mutex;
use crate::{ErrorKind, FsError, FsResult};
use alluxio_proto::error::WireError;
use bytes::Bytes;
use prost::Message;
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// A reader of a stream grants more when it has taken this many.
const CREDIT_BATCH: u32 = STREAM_ITEMS_MAX as u32 / 2;

type CallResult = FsResult<(Bytes, Bytes)>;
type Items = mpsc::Sender<FsResult<Bytes>>;

/// Who waits for the end of a request. Each holds its permit among those in flight.
enum Pending {
    Call(oneshot::Sender<CallResult>, OwnedSemaphorePermit),
    /// A stream; the first sender is there until the server has accepted it.
    Stream(Option<oneshot::Sender<CallResult>>, Items, OwnedSemaphorePermit),
    /// The caller gave up; the server has not ended it yet. A stream does not end with its acceptance.
    Abandoned {
        permit: OwnedSemaphorePermit,
        is_stream: bool,
    },
}

pub(super) struct Connection {
    peer: String,
    writer: Arc<FrameWriter>,
    in_flight: Arc<Semaphore>,
    next_id: AtomicU64,
    /// `None` once the connection has ended, with the reason beside it.
    pending: Mutex<PendingTable>,
}

#[derive(Default)]
struct PendingTable {
    ended: Option<String>,
    by_id: HashMap<u64, Pending>,
}

impl Connection {
    /// Connects and exchanges hellos. The connection ends with `closed`.
    pub async fn open(address: &Address, options: &ClientOptions, closed: &CancellationToken) -> FsResult<Arc<Self>> {
        let doing = || format!("connect to {address}");
        let lost = |e: std::io::Error| {
            let mut error = FsError::from_io(doing(), &e);
            // No socket file and no name is "not there now", too.
            if error.kind != ErrorKind::TooManyOpenFiles {
                error.kind = ErrorKind::Unavailable;
            }
            error
        };
        let socket = Arc::new(address.connect().await.map_err(lost)?);
        let broken = closed.child_token();
        let writer = FrameWriter::new(Arc::clone(&socket), broken.clone());
        let hello = Hello {
            peer: options.peer,
            in_flight_max: 0,
        };
        if !writer.greet(hello).await {
            return Err(FsError::new(
                ErrorKind::Unavailable,
                format!("{}: closed by the other end", doing()),
            ));
        }
        let heard = Arc::new(Heard::default());
        let mut reader = FrameReader::new(socket, Arc::clone(&heard), None);
        let theirs = reader.hello().await.map_err(|error| not_ours(&doing(), &error))?;
        let in_flight_max = usize::from(theirs.in_flight_max).min(options.in_flight_max).max(1);
        let connection = Arc::new(Self {
            peer: address.to_string(),
            writer: Arc::clone(&writer),
            in_flight: Arc::new(Semaphore::new(in_flight_max)),
            next_id: AtomicU64::new(1),
            pending: Mutex::default(),
        });
        tokio::spawn(writer.run(heard, options.keepalive));
        let this = Arc::clone(&connection);
        tokio::spawn(async move {
            let why = tokio::select! {
                () = broken.cancelled() => "the connection broke".to_owned(),
                error = this.read(&mut reader) => error.to_string(),
            };
            broken.cancel();
            this.end(why);
        });
        Ok(connection)
    }

    pub fn is_broken(&self) -> bool {
        self.writer.broken.is_cancelled()
    }

    /// Ends the connection; calls in flight fail.
    pub fn close(&self) {
        self.writer.broken.cancel();
    }

    pub async fn call(self: &Arc<Self>, service: u8, header: Bytes, data: Bytes) -> CallResult {
        let permit = self.permit().await?;
        let (sender, receiver) = oneshot::channel();
        let mut frame = Frame::with_header(Kind::Request, 0, header);
        frame.service = service;
        frame.data = data;
        let mut in_flight = self.start(frame, Pending::Call(sender, permit)).await?;
        let result = receiver.await;
        in_flight.ended = true;
        result.unwrap_or_else(|_| Err(self.lost()))
    }

    pub async fn stream(self: &Arc<Self>, service: u8, header: Bytes) -> FsResult<ItemStream> {
        let permit = self.permit().await?;
        let (accepted_sender, accepted) = oneshot::channel();
        // One more for the end, which needs no credit.
        let (sender, items) = mpsc::channel(STREAM_ITEMS_MAX + 1);
        let mut frame = Frame::with_header(Kind::OpenStream, 0, header);
        frame.service = service;
        let in_flight = self
            .start(frame, Pending::Stream(Some(accepted_sender), sender, permit))
            .await?;
        let mut items = Incoming {
            items,
            taken: 0,
            in_flight,
        };
        match accepted.await {
            Ok(Ok(_)) => Ok(Box::pin(items)),
            Ok(Err(error)) => {
                items.in_flight.ended = true;
                Err(error)
            }
            Err(_) => {
                items.in_flight.ended = true;
                Err(self.lost())
            }
        }
    }

    /// Waits for a permit among the requests in flight.
    async fn permit(&self) -> FsResult<OwnedSemaphorePermit> {
        let waiting = Arc::clone(&self.in_flight).acquire_owned();
        waiting.await.map_err(|_| self.lost())
    }

    /// Registers who waits, then sends.
    async fn start(self: &Arc<Self>, mut frame: Frame, pending: Pending) -> FsResult<InFlight> {
        frame
            .fits()
            .map_err(|error| FsError::new(ErrorKind::InvalidArgument, format!("request to {}: {error}", self.peer)))?;
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        frame.id = id;
        {
            let mut table = self.pending.lock();
            if table.ended.is_some() {
                drop(table);
                return Err(self.lost());
            }
            table.by_id.insert(id, pending);
        }
        let mut in_flight = InFlight {
            connection: Arc::clone(self),
            id,
            sent: false,
            ended: false,
        };
        let slot = self.writer.reserve(&frame).await.ok_or_else(|| self.lost())?;
        // Before the push: it may be answered while we are still in it.
        in_flight.sent = true;
        self.writer.push(slot, frame);
        Ok(in_flight)
    }

    async fn read(&self, reader: &mut FrameReader) -> ReadError {
        loop {
            // A busy connection always has a frame ready: let other tasks have their turn.
            tokio::task::coop::consume_budget().await;
            let frame = match reader.frame().await {
                Ok((frame, _)) => frame,
                Err(error) => return error,
            };
            let done = match frame.kind {
                Kind::Reply => self.reply(frame),
                Kind::StreamItem => self.item(frame),
                Kind::Error => self.ended_by_error(frame),
                Kind::StreamEnd => {
                    self.pending.lock().by_id.remove(&frame.id);
                    Ok(())
                }
                Kind::Ping => {
                    self.writer.pong(frame.id);
                    Ok(())
                }
                Kind::Pong => Ok(()),
                kind => Err(FrameError::Unexpected(kind)),
            };
            if let Err(error) = done {
                return error.into();
            }
        }
    }

    fn reply(&self, frame: Frame) -> Result<(), FrameError> {
        let mut table = self.pending.lock();
        match table.by_id.get_mut(&frame.id) {
            // The stream is accepted.
            Some(Pending::Stream(accepted, ..)) => {
                let accepted = accepted.take().ok_or(FrameError::Unexpected(Kind::Reply))?;
                drop(table);
                // Nobody there: the caller has just gone, and cancels.
                let _ = accepted.send(Ok((frame.header, frame.data)));
            }
            Some(Pending::Call(..)) => {
                if let Some(Pending::Call(sender, _)) = table.by_id.remove(&frame.id) {
                    drop(table);
                    let _ = sender.send(Ok((frame.header, frame.data)));
                }
            }
            Some(Pending::Abandoned { is_stream: false, .. }) => {
                table.by_id.remove(&frame.id);
            }
            Some(Pending::Abandoned { is_stream: true, .. }) | None => {}
        }
        Ok(())
    }

    fn item(&self, frame: Frame) -> Result<(), FrameError> {
        let table = self.pending.lock();
        let items = match table.by_id.get(&frame.id) {
            Some(Pending::Stream(None, items, _)) => items.clone(),
            Some(Pending::Abandoned { .. }) | None => return Ok(()),
            Some(_) => return Err(FrameError::Unexpected(Kind::StreamItem)),
        };
        drop(table);
        match items.try_send(Ok(frame.header)) {
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
            // More than was granted.
            Err(mpsc::error::TrySendError::Full(_)) => Err(FrameError::Unexpected(Kind::StreamItem)),
        }
    }

    fn ended_by_error(&self, frame: Frame) -> Result<(), FrameError> {
        let Some(pending) = self.pending.lock().by_id.remove(&frame.id) else {
            return Ok(());
        };
        let error = match WireError::decode(frame.header) {
            Ok(wire) => FsError::from_wire(wire),
            Err(e) => FsError::new(ErrorKind::Internal, format!("unreadable error from {}: {e}", self.peer)),
        };
        pending.fail(error);
        Ok(())
    }

    /// Fails all that is in flight.
    fn end(&self, why: String) {
        tracing::debug!(peer = self.peer, why, "connection ended");
        let waiting = {
            let mut table = self.pending.lock();
            table.ended = Some(why);
            std::mem::take(&mut table.by_id)
        };
        self.in_flight.close();
        let error = self.lost();
        for pending in waiting.into_values() {
            pending.fail(error.clone());
        }
    }

    fn lost(&self) -> FsError {
        let why = self.pending.lock().ended.clone();
        let why = why.unwrap_or_else(|| "the connection broke".to_owned());
        FsError::new(
            ErrorKind::Unavailable,
            format!("call to {}: connection lost: {why}", self.peer),
        )
    }
}

impl Pending {
    fn fail(self, error: FsError) {
        // Nobody there: the caller has just gone.
        match self {
            Self::Call(sender, _) | Self::Stream(Some(sender), ..) => drop(sender.send(Err(error))),
            Self::Stream(None, items, _) => drop(items.try_send(Err(error))),
            Self::Abandoned { .. } => {}
        }
    }
}

/// A request that was registered. Dropped before its end, it tells the server that nobody waits.
struct InFlight {
    connection: Arc<Connection>,
    id: u64,
    sent: bool,
    ended: bool,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let mut table = self.connection.pending.lock();
        let Some(pending) = table.by_id.remove(&self.id) else {
            return;
        };
        if !self.sent {
            return;
        }
        // The permit is free again only when the server says that it has ended the request.
        let is_stream = matches!(pending, Pending::Stream(..));
        let (Pending::Call(_, permit) | Pending::Stream(_, _, permit) | Pending::Abandoned { permit, .. }) = pending;
        table.by_id.insert(self.id, Pending::Abandoned { permit, is_stream });
        drop(table);
        self.connection.writer.push_control(Frame::bare(Kind::Cancel, self.id));
    }
}

/// The items of a stream as they come.
struct Incoming {
    items: mpsc::Receiver<FsResult<Bytes>>,
    taken: u32,
    in_flight: InFlight,
}

impl futures::Stream for Incoming {
    type Item = FsResult<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let item = std::task::ready!(self.items.poll_recv(context));
        match &item {
            Some(Ok(_)) => {
                self.taken += 1;
                if self.taken == CREDIT_BATCH {
                    self.taken = 0;
                    let header = Bytes::copy_from_slice(&CREDIT_BATCH.to_be_bytes());
                    let frame = Frame::with_header(Kind::Credit, self.in_flight.id, header);
                    self.in_flight.connection.writer.push_control(frame);
                }
            }
            Some(Err(_)) | None => self.in_flight.ended = true,
        }
        Poll::Ready(item)
    }
}

fn not_ours(doing: &str, error: &ReadError) -> FsError {
    match error {
        ReadError::Frame(FrameError::Version { .. }) => {
            let why = format!("{doing}: {error}; upgrade the older of the two");
            FsError::new(ErrorKind::NotSupported, why)
        }
        ReadError::Frame(_) => {
            let why = format!("{doing}: what answers there is not ours; check host and port ({error})");
            FsError::new(ErrorKind::NotSupported, why)
        }
        _ => FsError::new(ErrorKind::Unavailable, format!("{doing}: {error}")),
    }
}
