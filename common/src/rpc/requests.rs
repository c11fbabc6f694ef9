//! The requests and streams of one connection, at the server.

use super::frame::{Frame, FrameError, HEADER_BYTES_MAX, Kind, STREAM_ITEMS_MAX};
use super::reader::{FrameReader, Heard, ReadError};
use super::server::Server;
use super::writer::FrameWriter;
use crate::sync::Mutex;
use crate::{ErrorKind, FsError, FsResult};
use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt};
use futures::stream::StreamExt;
use prost::Message;
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A request that did not answer at once, or a stream.
struct Running {
    /// The caller does not want the answer any more.
    cancelled: CancellationToken,
    /// Items that the reader of a stream grants.
    credit: Option<Arc<Semaphore>>,
}

/// One connection of a server.
pub(super) struct Connection {
    server: Arc<Server>,
    writer: Arc<FrameWriter>,
    running: Mutex<HashMap<u64, Running>>,
    tasks: TaskTracker,
}

type CallFuture = BoxFuture<'static, FsResult<(Bytes, Bytes)>>;

impl Connection {
    pub fn new(server: Arc<Server>, writer: Arc<FrameWriter>) -> Self {
        Self {
            server,
            writer,
            running: Mutex::default(),
            tasks: TaskTracker::new(),
        }
    }

    /// Reads and starts requests until something is wrong, which is the answer.
    pub async fn read(self: &Arc<Self>, reader: &mut FrameReader, heard: &Heard) -> ReadError {
        loop {
            // A busy connection always has a frame ready: let other tasks have their turn.
            tokio::task::coop::consume_budget().await;
            let (frame, room) = match reader.frame().await {
                Ok(frame) => frame,
                Err(error) => return error,
            };
            let done = match frame.kind {
                Kind::Request => self.request(frame, room, heard).await,
                Kind::OpenStream => self.open_stream(frame, heard).await,
                Kind::Cancel => self.cancel(frame.id),
                Kind::Credit => self.credit(&frame),
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

    async fn request(
        self: &Arc<Self>,
        frame: Frame,
        room: Option<OwnedSemaphorePermit>,
        heard: &Heard,
    ) -> Result<(), FrameError> {
        let Some(frame) = self.admit(frame, heard).await? else {
            return Ok(());
        };
        let Frame {
            id,
            service,
            header,
            data,
            ..
        } = frame;
        let handler = Arc::clone(&self.server.handler);
        let may_drop = handler.drop_on_cancel(service, &header);
        let call = async move { handler.call(service, header, data).await };
        let mut call: CallFuture = AssertUnwindSafe(call).catch_unwind().map(flatten_panic).boxed();
        // Ready at once, as most are, costs no task. What is pending is polled again by the task that it gets.
        let Some(result) = (&mut call).now_or_never() else {
            self.spawn_call(id, call, may_drop, room);
            return Ok(());
        };
        if let Err(frame) = self.writer.try_send(answer(id, result)) {
            // The peer does not take its answers: wait with it.
            heard.pause(self.writer.send(frame)).await;
        }
        Ok(())
    }

    fn spawn_call(self: &Arc<Self>, id: u64, call: CallFuture, may_drop: bool, room: Option<OwnedSemaphorePermit>) {
        let cancelled = CancellationToken::new();
        let entry = Running {
            cancelled: cancelled.clone(),
            credit: None,
        };
        self.running.lock().insert(id, entry);
        let this = Arc::clone(self);
        self.tasks.spawn(async move {
            let result = tokio::select! {
                biased;
                result = call => result,
                () = cancelled.cancelled(), if may_drop => Err(gone()),
                () = this.server.kill.cancelled() => Err(shutting_down()),
            };
            drop(room);
            // Who gave up gets no data, only the end of the request.
            let result = if cancelled.is_cancelled() { Err(gone()) } else { result };
            this.end(answer(id, result)).await;
        });
    }

    async fn open_stream(self: &Arc<Self>, frame: Frame, heard: &Heard) -> Result<(), FrameError> {
        let Some(frame) = self.admit(frame, heard).await? else {
            return Ok(());
        };
        let cancelled = CancellationToken::new();
        let credit = Arc::new(Semaphore::new(STREAM_ITEMS_MAX));
        let entry = Running {
            cancelled: cancelled.clone(),
            credit: Some(Arc::clone(&credit)),
        };
        self.running.lock().insert(frame.id, entry);
        let this = Arc::clone(self);
        self.tasks.spawn(async move {
            let id = frame.id;
            let last = tokio::select! {
                biased;
                () = cancelled.cancelled() => answer(id, Err(gone())),
                () = this.server.shutdown.cancelled() => answer(id, Err(shutting_down())),
                last = this.run_stream(frame, &credit) => last,
            };
            this.end(last).await;
        });
        Ok(())
    }

    /// Sends the items of a stream and returns its last frame.
    async fn run_stream(&self, frame: Frame, credit: &Semaphore) -> Frame {
        let id = frame.id;
        let handler = Arc::clone(&self.server.handler);
        let open = AssertUnwindSafe(handler.stream(frame.service, frame.header)).catch_unwind();
        let mut stream = match open.await.unwrap_or_else(|_| Err(panicked())) {
            Ok(stream) => stream,
            Err(error) => return answer(id, Err(error)),
        };
        self.writer.send(Frame::bare(Kind::Reply, id)).await;
        loop {
            match AssertUnwindSafe(stream.next()).catch_unwind().await {
                Ok(Some(Ok(item))) if item.len() <= HEADER_BYTES_MAX => {
                    match credit.acquire().await {
                        Ok(permit) => permit.forget(),
                        Err(_) => return answer(id, Err(gone())),
                    }
                    if !self.writer.send(Frame::with_header(Kind::StreamItem, id, item)).await {
                        return answer(id, Err(gone()));
                    }
                }
                Ok(Some(Ok(item))) => return answer(id, Ok((item, Bytes::new()))),
                Ok(Some(Err(error))) => return answer(id, Err(error)),
                Ok(None) => return Frame::bare(Kind::StreamEnd, id),
                Err(_) => return answer(id, Err(panicked())),
            }
        }
    }

    /// `None` if the request was refused. A client that keeps to what the hello says never meets this.
    async fn admit(&self, frame: Frame, heard: &Heard) -> Result<Option<Frame>, FrameError> {
        let (running, known) = {
            let running = self.running.lock();
            (running.len(), running.contains_key(&frame.id))
        };
        if known {
            return Err(FrameError::Unexpected(frame.kind));
        }
        if running < usize::from(self.server.options.in_flight_max) {
            return Ok(Some(frame));
        }
        let why = format!(
            "more than {} requests in flight on one connection",
            self.server.options.in_flight_max
        );
        let refusal = answer(frame.id, Err(FsError::new(ErrorKind::Throttled, why)));
        heard.pause(self.writer.send(refusal)).await;
        Ok(None)
    }

    fn cancel(&self, id: u64) -> Result<(), FrameError> {
        // Unknown: it was answered meanwhile.
        if let Some(running) = self.running.lock().get(&id) {
            running.cancelled.cancel();
        }
        Ok(())
    }

    fn credit(&self, frame: &Frame) -> Result<(), FrameError> {
        let items: [u8; 4] = frame
            .header
            .as_ref()
            .try_into()
            .map_err(|_| FrameError::Unexpected(Kind::Credit))?;
        let items = u32::from_be_bytes(items) as usize;
        if let Some(Running {
            credit: Some(credit), ..
        }) = self.running.lock().get(&frame.id)
        {
            // A client cannot wish for more than the limit.
            let items = items.min(STREAM_ITEMS_MAX.saturating_sub(credit.available_permits()));
            credit.add_permits(items);
        }
        Ok(())
    }

    /// Sends the last frame of a request; its id may be used again afterwards.
    async fn end(&self, frame: Frame) {
        let id = frame.id;
        let slot = self.writer.reserve(&frame).await;
        self.running.lock().remove(&id);
        if let Some(slot) = slot {
            self.writer.push(slot, frame);
        }
    }

    /// Waits for what is running. If the peer is gone rather than we, nobody waits for the answers.
    pub async fn finish(&self, shutting_down: bool) {
        if !shutting_down {
            self.writer.broken.cancel();
            for running in self.running.lock().values() {
                running.cancelled.cancel();
            }
        }
        self.tasks.close();
        self.tasks.wait().await;
        if shutting_down {
            self.writer.flush().await;
        }
    }
}

/// The frame that ends a request.
fn answer(id: u64, result: FsResult<(Bytes, Bytes)>) -> Frame {
    let error = match result {
        Ok((header, data)) => {
            let frame = Frame {
                id,
                kind: Kind::Reply,
                service: 0,
                header,
                data,
            };
            match frame.fits() {
                Ok(()) => return frame,
                Err(error) => FsError::new(ErrorKind::Internal, format!("answer of the server: {error}")),
            }
        }
        Err(error) => error,
    };
    let mut error = error;
    if error.message.len() > HEADER_BYTES_MAX / 2 {
        error.message = "an error whose message is too long to send".to_owned();
    }
    Frame::with_header(Kind::Error, id, error.to_wire().encode_to_vec().into())
}

type Panic = Box<dyn std::any::Any + Send>;

fn flatten_panic(result: Result<FsResult<(Bytes, Bytes)>, Panic>) -> FsResult<(Bytes, Bytes)> {
    result.unwrap_or_else(|_| Err(panicked()))
}

fn panicked() -> FsError {
    tracing::error!("a request handler panicked; the message is above, the server goes on");
    FsError::new(
        ErrorKind::Internal,
        "the server made a mistake with this request; see its log",
    )
}

fn gone() -> FsError {
    FsError::new(ErrorKind::Cancelled, "the caller gave up")
}

fn shutting_down() -> FsError {
    FsError::new(ErrorKind::Unavailable, "the server is shutting down")
}
