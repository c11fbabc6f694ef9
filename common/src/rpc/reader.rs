//! Reads greetings and frames from a socket.
//!
//! Small sections are copied out of one read buffer, so that keeping a 40 byte name does not keep 64 KiB alive; what
//! is longer than what was read ahead goes straight from the kernel to its own allocation.

use super::frame::{Frame, FrameError, Hello, Prefix};
use super::socket::Socket;
use bytes::{BufMut, Bytes, BytesMut};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Read-ahead of one connection: many small frames in one system call.
const BUFFER_BYTES: usize = 64 << 10;
/// A frame that has begun must be there in full after this time: 8 MiB at 70 kB/s.
const FRAME_TIME_MAX: Duration = Duration::from_secs(120);

#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    /// The other end closed between two frames.
    #[error("closed by the other end")]
    Closed,
    /// The other end closed inside a frame.
    #[error("closed by the other end in the middle of a frame")]
    Truncated,
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("a frame took longer than {} s to arrive", FRAME_TIME_MAX.as_secs())]
    Slow,
}

/// What the keep-alive looks at.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// Something was read since the last look.
    heard: AtomicBool,
    /// We are not reading, on purpose; silence proves nothing.
    paused: AtomicBool,
}

impl Heard {
    /// Whether the other end has shown life since the last call.
    pub fn take(&self) -> bool {
        self.heard.swap(false, Ordering::Relaxed) || self.paused.load(Ordering::Relaxed)
    }
    /// Marks the reader as not reading while `waiting` is waited for.
    pub async fn pause<T>(&self, waiting: impl Future<Output = T>) -> T {
        self.paused.store(true, Ordering::Relaxed);
        let result = waiting.await;
        self.heard.store(true, Ordering::Relaxed);
        self.paused.store(false, Ordering::Relaxed);
        result
    }
}

/// Room for data sections in memory, in KiB, shared by connections.
pub(super) type DataRoom = Arc<Semaphore>;

/// The reading end of a connection. Dropping a future of it loses the place in the stream: stop reading then.
pub(super) struct FrameReader {
    socket: Arc<Socket>,
    heard: Arc<Heard>,
    buffer: BytesMut,
    room: Option<DataRoom>,
}

impl FrameReader {
    /// With `room`, data sections wait for room in memory.
    pub fn new(socket: Arc<Socket>, heard: Arc<Heard>, room: Option<DataRoom>) -> Self {
        Self {
            socket,
            heard,
            buffer: BytesMut::with_capacity(BUFFER_BYTES),
            room,
        }
    }

    /// The other end's hello. Tells garbage from its first byte, without waiting for more.
    pub async fn hello(&mut self) -> Result<Hello, ReadError> {
        loop {
            let wanted = Hello::wanted(&self.buffer)?;
            if self.buffer.len() >= wanted {
                let mut bytes = [0; Hello::BYTES];
                bytes.copy_from_slice(&self.buffer.split_to(Hello::BYTES));
                return Ok(Hello::decode(&bytes)?);
            }
            self.read_more().await?;
        }
    }

    /// The next frame, with the room in memory that its data section takes.
    pub async fn frame(&mut self) -> Result<(Frame, Option<OwnedSemaphorePermit>), ReadError> {
        while self.buffer.len() < Prefix::BYTES {
            self.read_more().await?;
        }
        let mut bytes = [0; Prefix::BYTES];
        bytes.copy_from_slice(&self.buffer.split_to(Prefix::BYTES));
        let prefix = Prefix::decode(&bytes)?;
        if self.buffer.len() >= prefix.header_len + prefix.data_len && self.room.is_none() {
            return Ok((self.sections(&bytes, &prefix).await?.0, None));
        }
        tokio::time::timeout(FRAME_TIME_MAX, self.sections(&bytes, &prefix))
            .await
            .map_err(|_| ReadError::Slow)?
    }

    async fn sections(
        &mut self,
        bytes: &[u8; Prefix::BYTES],
        prefix: &Prefix,
    ) -> Result<(Frame, Option<OwnedSemaphorePermit>), ReadError> {
        let header = self.section(prefix.header_len).await?;
        prefix.check(bytes, &header)?;
        let permit = match &self.room {
            Some(room) if prefix.data_len > 0 => Some(self.room_for(room, prefix.data_len).await),
            _ => None,
        };
        let data = self.section(prefix.data_len).await?;
        let frame = Frame {
            id: prefix.id,
            kind: prefix.kind,
            service: prefix.service,
            header,
            data,
        };
        Ok((frame, permit.flatten()))
    }

    async fn room_for(&self, room: &DataRoom, bytes: usize) -> Option<OwnedSemaphorePermit> {
        // Never closed, so never an error.
        let kib = bytes.div_ceil(1024) as u32;
        match Arc::clone(room).try_acquire_many_owned(kib) {
            Ok(permit) => Some(permit),
            Err(_) => self.heard.pause(Arc::clone(room).acquire_many_owned(kib)).await.ok(),
        }
    }

    async fn section(&mut self, len: usize) -> Result<Bytes, ReadError> {
        if self.buffer.len() >= len {
            let section = Bytes::copy_from_slice(&self.buffer[..len]);
            bytes::Buf::advance(&mut self.buffer, len);
            return Ok(section);
        }
        let mut section = BytesMut::with_capacity(len);
        section.extend_from_slice(&self.buffer);
        self.buffer.clear();
        while section.len() < len {
            let missing = len - section.len();
            let mut space = (&mut section).limit(missing);
            read_some(&self.socket, &self.heard, &mut space)
                .await
                .map_err(in_frame)?;
        }
        Ok(section.freeze())
    }

    async fn read_more(&mut self) -> Result<(), ReadError> {
        // Nothing shares the buffer, so this moves the rest to its front instead of allocating.
        self.buffer.reserve(BUFFER_BYTES - self.buffer.len().min(BUFFER_BYTES));
        match read_some(&self.socket, &self.heard, &mut self.buffer).await {
            Err(ReadError::Closed) if !self.buffer.is_empty() => Err(ReadError::Truncated),
            other => other,
        }
    }
}

async fn read_some(socket: &Socket, heard: &Heard, buffer: &mut impl BufMut) -> Result<(), ReadError> {
    loop {
        match socket.try_read_buf(buffer) {
            Ok(0) => return Err(ReadError::Closed),
            Ok(_) => {
                heard.heard.store(true, Ordering::Relaxed);
                return Ok(());
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => socket.readable().await?,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e.into()),
        }
    }
}

fn in_frame(error: ReadError) -> ReadError {
    match error {
        ReadError::Closed => ReadError::Truncated,
        other => other,
    }
}
