//! Writes frames to a socket: whoever has a frame writes it itself, and all that others queue meanwhile.
//!
//! A call over loopback is shorter than the hop to a writer task, so the sender tries the system call at once. If
//! somebody else is writing, that one takes the frame along; if the socket is full, the background task of the
//! connection ([`FrameWriter::run`]) goes on when there is room. Data is never copied: frames go out by vectored writes.

use super::frame::{Frame, FrameError, Hello, Kind, Prefix};
use super::reader::Heard;
use super::socket::Socket;
use crate::sync::Mutex;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// Bytes that may wait to be written on one connection, in KiB; senders wait beyond it. More than the longest frame.
const QUEUE_KIB_MAX: u32 = 16 << 10;
/// Slices in one system call: about 40 small frames.
const SLICES_MAX: usize = 128;
/// Batches that a sender writes for others before it hands over to the background task.
const INLINE_BATCHES_MAX: usize = 8;
/// Keep-alive intervals of silence after which the other end is taken for dead.
pub(super) const SILENT_INTERVALS_MAX: u32 = 3;

/// Shortest keep-alive interval.
const KEEPALIVE_MIN: Duration = Duration::from_millis(10);

struct Queued {
    prefix: [u8; Prefix::BYTES],
    frame: Frame,
    /// Given back when the frame is written.
    _room: Option<OwnedSemaphorePermit>,
}

impl Queued {
    fn parts(&self) -> [&[u8]; 3] {
        [&self.prefix, &self.frame.header, &self.frame.data]
    }
}

#[derive(Default)]
struct State {
    queue: VecDeque<Queued>,
    /// Bytes of the first frame in the queue that are out already.
    front_written: usize,
    /// Somebody (a sender or the background task) has the right to write.
    writing: bool,
}

enum Drained {
    All,
    SocketFull,
}

/// The writing end of a connection.
pub(super) struct FrameWriter {
    socket: Arc<Socket>,
    state: Mutex<State>,
    room: Arc<Semaphore>,
    /// The background task must write on.
    handed_over: Notify,
    /// Cancelled when the connection is of no use any more, by any side of it.
    pub broken: CancellationToken,
}

/// The right to queue one frame.
pub(super) struct Slot(OwnedSemaphorePermit);

impl FrameWriter {
    pub fn new(socket: Arc<Socket>, broken: CancellationToken) -> Arc<Self> {
        Arc::new(Self {
            socket,
            state: Mutex::default(),
            room: Arc::new(Semaphore::new(QUEUE_KIB_MAX as usize)),
            handed_over: Notify::new(),
            broken,
        })
    }

    /// Waits for room for a frame; `None` if the connection broke.
    pub async fn reserve(&self, frame: &Frame) -> Option<Slot> {
        let kib = (frame.wire_len().div_ceil(1024) as u32).min(QUEUE_KIB_MAX);
        let room = Arc::clone(&self.room);
        let permit = match room.clone().try_acquire_many_owned(kib) {
            Ok(permit) => Some(permit),
            Err(_) => tokio::select! {
                permit = room.acquire_many_owned(kib) => permit.ok(),
                () = self.broken.cancelled() => None,
            },
        };
        permit.filter(|_| !self.broken.is_cancelled()).map(Slot)
    }

    /// Queues a frame for which there is room, and writes if nobody else does. Never blocks.
    pub fn push(&self, slot: Slot, frame: Frame) {
        self.enqueue(frame, Some(slot.0));
    }

    /// Queues a frame of nothing but a few bytes. Only for frames whose number is bounded otherwise.
    pub fn push_control(&self, frame: Frame) {
        self.enqueue(frame, None);
    }

    /// Waits for room, then queues. False if the connection broke.
    pub async fn send(&self, frame: Frame) -> bool {
        match self.reserve(&frame).await {
            Some(slot) => {
                self.push(slot, frame);
                true
            }
            None => false,
        }
    }

    /// Queues if there is room now; gives the frame back if not. A broken connection takes all and keeps nothing.
    pub fn try_send(&self, frame: Frame) -> Result<(), Frame> {
        let kib = (frame.wire_len().div_ceil(1024) as u32).min(QUEUE_KIB_MAX);
        match Arc::clone(&self.room).try_acquire_many_owned(kib) {
            Ok(permit) => {
                self.enqueue(frame, Some(permit));
                Ok(())
            }
            Err(_) => Err(frame),
        }
    }

    /// Writes the hello, before any frame. False if the connection broke.
    pub async fn greet(&self, hello: Hello) -> bool {
        let bytes = hello.encode();
        let mut written = 0;
        while written < bytes.len() {
            match self.socket.try_write_vectored(&[IoSlice::new(&bytes[written..])]) {
                Ok(n) => written += n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    if self.socket.writable().await.is_err() {
                        return false;
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        true
    }

    /// Answers a ping, unless the queue is full: then other frames prove that we live.
    pub fn pong(&self, id: u64) {
        if let Ok(permit) = Arc::clone(&self.room).try_acquire_owned() {
            self.enqueue(Frame::bare(Kind::Pong, id), Some(permit));
        }
    }

    /// Waits until all that was queued with a slot is written, or the connection broke.
    pub async fn flush(&self) {
        tokio::select! {
            _ = self.room.acquire_many(QUEUE_KIB_MAX) => {}
            () = self.broken.cancelled() => {}
        }
    }

    fn enqueue(&self, frame: Frame, room: Option<OwnedSemaphorePermit>) {
        debug_assert_eq!(frame.fits(), Ok::<(), FrameError>(()));
        let queued = Queued {
            prefix: frame.prefix(),
            frame,
            _room: room,
        };
        {
            let mut state = self.state.lock();
            if self.broken.is_cancelled() {
                return;
            }
            state.queue.push_back(queued);
            if state.writing {
                return;
            }
            state.writing = true;
        }
        self.drain_or_hand_over();
    }

    /// Needs the right to write; gives it back, or leaves it to the background task.
    fn drain_or_hand_over(&self) {
        match self.drain(INLINE_BATCHES_MAX) {
            Ok(Drained::All) => {}
            Ok(Drained::SocketFull) => self.handed_over.notify_one(),
            Err(error) => self.fail(&error),
        }
    }

    /// Writes batches until the queue is empty, which gives back the right to write, or the socket is full or the
    /// batches are used up, which does not.
    fn drain(&self, batches_max: usize) -> io::Result<Drained> {
        let mut batch = VecDeque::new();
        let mut written = 0;
        for _ in 0..batches_max {
            {
                let mut state = self.state.lock();
                std::mem::swap(&mut batch, &mut state.queue);
                written = std::mem::take(&mut state.front_written);
                if batch.is_empty() {
                    state.writing = false;
                    return Ok(Drained::All);
                }
            }
            if !self.write_batch(&mut batch, &mut written)? {
                break;
            }
        }
        let mut state = self.state.lock();
        batch.append(&mut state.queue);
        state.queue = batch;
        state.front_written = written;
        Ok(Drained::SocketFull)
    }

    /// True if the whole batch is out, false if the socket is full.
    fn write_batch(&self, batch: &mut VecDeque<Queued>, written: &mut usize) -> io::Result<bool> {
        while !batch.is_empty() {
            let mut slices = Vec::with_capacity(SLICES_MAX.min(batch.len() * 3));
            let mut skip = *written;
            for part in batch.iter().flat_map(Queued::parts).take(SLICES_MAX) {
                let skipped = skip.min(part.len());
                skip -= skipped;
                if part.len() > skipped {
                    slices.push(IoSlice::new(&part[skipped..]));
                }
            }
            match self.socket.try_write_vectored(&slices) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => *written += n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
            while let Some(front) = batch.front()
                && *written >= front.frame.wire_len()
            {
                *written -= front.frame.wire_len();
                batch.pop_front();
            }
        }
        Ok(true)
    }

    fn fail(&self, error: &io::Error) {
        tracing::debug!(%error, "write to connection");
        // The right to write is kept for ever: nothing is written after a failure.
        self.state.lock().queue.clear();
        self.broken.cancel();
    }

    /// The background task: writes on when a sender could not, pings when the other end is silent, and declares it dead
    /// when it stays so, or takes nothing, for [`SILENT_INTERVALS_MAX`] intervals. Ends when the connection broke.
    pub async fn run(self: Arc<Self>, heard: Arc<Heard>, interval: Duration) {
        // A setting of 0 would be a loop without rest.
        let interval = interval.max(KEEPALIVE_MIN);
        let mut tick = tokio::time::interval_at(tokio::time::Instant::now() + interval, interval);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut silent_intervals = 0;
        let mut stuck_intervals = 0;
        let mut must_write = false;
        loop {
            tokio::select! {
                () = self.broken.cancelled() => return,
                () = self.handed_over.notified(), if !must_write => must_write = true,
                ready = self.socket.writable(), if must_write => {
                    stuck_intervals = 0;
                    match ready.and_then(|()| self.drain(INLINE_BATCHES_MAX)) {
                        Ok(Drained::All) => must_write = false,
                        // More to do: let others have their turn, then see whether the socket takes it.
                        Ok(Drained::SocketFull) => tokio::task::yield_now().await,
                        Err(error) => self.fail(&error),
                    }
                }
                _ = tick.tick() => {
                    silent_intervals = if heard.take() { 0 } else { silent_intervals + 1 };
                    stuck_intervals = if must_write { stuck_intervals + 1 } else { 0 };
                    if silent_intervals >= SILENT_INTERVALS_MAX || stuck_intervals > SILENT_INTERVALS_MAX {
                        tracing::info!(silent_intervals, stuck_intervals, ?interval, "other end is gone");
                        self.broken.cancel();
                    } else if silent_intervals > 0 && !must_write {
                        self.push_control(Frame::bare(Kind::Ping, 0));
                    }
                }
            }
        }
    }
}
