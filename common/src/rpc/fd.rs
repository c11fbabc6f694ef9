//! Requests over a unix socket whose answer may carry a file descriptor (DESIGN D7).
//!
//! The same hello and frames as [`super`], but one request and one answer at a time on a connection, so that it is
//! plain which answer a descriptor belongs to: it travels with the first byte of its frame, whose `service` byte is 1
//! if there is one. A [`Client`] keeps a pool of connections. The socket calls are `sendmsg` and `recvmsg` from the
//! tasks themselves (the socket is non-blocking), which saves two hops to blocking threads per open.

use super::bind_unix;
use super::frame::{Frame, FrameError, Hello, Kind, PeerKind, Prefix};
use crate::sync::Mutex;
use crate::{ErrorKind, FsError, FsResult};
use alluxio_proto::error::WireError;
use async_trait::async_trait;
use bytes::Bytes;
use futures::future::FutureExt;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use prost::Message;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Connections that a server has open at once; further ones wait in the listen queue.
const CONNECTIONS_MAX: usize = 1024;
/// Requests of one client under way at once; further ones wait. As many as a mount has busy threads.
const IN_FLIGHT_MAX: usize = 64;
/// Longest wait for an answer.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a connection may take to say hello, and a frame that has begun to arrive.
const FRAME_TIME_MAX: Duration = Duration::from_secs(30);
/// How long requests under way may go on after shutdown was asked for.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(5);
/// First read: whole requests, as a rule.
const READ_BYTES: usize = 4096;
/// Descriptors that one message can carry (Linux `SCM_MAX_FD`). We send and accept one.
const MESSAGE_FDS_MAX: usize = 253;
/// `service` byte of a frame that carries a descriptor.
const WITH_FD: u8 = 1;

/// What a server does with requests.
#[async_trait]
pub trait FdHandler: Send + Sync + 'static {
    /// Answers a request; the descriptor is duplicated into the caller's process and closed here.
    ///
    /// # Errors
    /// Those of the service; they are sent to the caller.
    async fn call(&self, header: Bytes, data: Bytes) -> FsResult<(Bytes, Bytes, Option<OwnedFd>)>;
}

/// Listens on `path` ([`bind_unix`]) and answers root and the user of this process until `shutdown`. Requests under way then have five seconds. Returns
/// when all has ended, and removes the socket file.
///
/// # Errors
/// Of binding.
pub async fn serve(path: &Path, handler: Arc<dyn FdHandler>, shutdown: CancellationToken) -> FsResult<()> {
    let listener = bind_unix(path)?;
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let (tasks, kill) = (TaskTracker::new(), CancellationToken::new());
    loop {
        // Never closed, so never an error.
        let Ok(permit) = Arc::clone(&slots).acquire_owned().await else {
            break;
        };
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, _)) => {
                if let Err(error) = check_peer(&socket) {
                    tracing::info!(%error, "refusing a connection of the descriptor socket");
                    drop((socket, permit));
                    continue;
                }
                let (handler, shutdown, kill) = (Arc::clone(&handler), shutdown.clone(), kill.clone());
                tasks.spawn(async move {
                    tokio::select! {
                        () = kill.cancelled() => {}
                        end = answer_all(&socket, &*handler, &shutdown) => match end {
                            Ok(()) => {}
                            Err(error) => tracing::info!(%error, "closing a connection of the descriptor socket"),
                        }
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accept a connection of the descriptor socket; trying again");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    // While we still listen: nobody else has taken the path for stale and bound it anew.
    if let Err(error) = std::fs::remove_file(path) {
        tracing::info!(%error, path = %path.display(), "remove the socket file");
    }
    drop(listener);
    tasks.close();
    if tokio::time::timeout(DRAIN_TIME_MAX, tasks.wait()).await.is_err() {
        kill.cancel();
        tasks.wait().await;
    }
    Ok(())
}

/// A descriptor is a right to read or write past all checks, so only root and the user of this process are given any: a mount,
/// which checks for its own users. The mode of the socket says the same, but a mode can be changed.
fn check_peer(socket: &UnixStream) -> io::Result<()> {
    let peer = socket.peer_cred()?.uid();
    if peer == 0 || peer == nix::unistd::geteuid().as_raw() {
        return Ok(());
    }
    let why = format!("it is of the user with uid {peer}, who is neither root nor the user of this process");
    Err(io::Error::new(io::ErrorKind::PermissionDenied, why))
}

async fn answer_all(socket: &UnixStream, handler: &dyn FdHandler, shutdown: &CancellationToken) -> io::Result<()> {
    let hello = tokio::select! {
        () = shutdown.cancelled() => return Ok(()),
        hello = within(FRAME_TIME_MAX, read_hello(socket)) => hello?,
    };
    let Some(hello) = hello else { return Ok(()) };
    send_all(socket, &[&own_hello(PeerKind::Worker)], None).await?;
    tracing::debug!(peer = ?hello.peer, "connection of the descriptor socket");
    loop {
        let request = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            request = receive(socket) => request?,
        };
        let Some((request, fd)) = request else { return Ok(()) };
        if request.kind != Kind::Request || fd.is_some() {
            return Err(protocol(FrameError::Unexpected(request.kind)));
        }
        let call = AssertUnwindSafe(handler.call(request.header, request.data)).catch_unwind();
        let result = call.await.unwrap_or_else(|_| {
            tracing::error!("a handler of the descriptor socket panicked; the message is above, the server goes on");
            Err(FsError::new(
                ErrorKind::Internal,
                "the server made a mistake with this request; see its log",
            ))
        });
        let (mut frame, fd) = match result {
            Ok((header, data, fd)) => {
                let mut frame = Frame::with_header(Kind::Reply, request.id, header);
                frame.data = data;
                (frame, fd)
            }
            Err(error) => {
                let header = error.to_wire().encode_to_vec();
                (Frame::with_header(Kind::Error, request.id, header.into()), None)
            }
        };
        if let Err(error) = frame.fits() {
            let error = FsError::new(ErrorKind::Internal, format!("answer of the server: {error}"));
            frame = Frame::with_header(Kind::Error, request.id, error.to_wire().encode_to_vec().into());
        }
        send(socket, frame, fd).await?;
    }
}

/// Calls a server on this host. Clones share the connections.
#[derive(Clone, Debug)]
pub struct Client(Arc<Pool>);

#[derive(Debug)]
struct Pool {
    path: PathBuf,
    idle: Mutex<Vec<UnixStream>>,
    slots: Semaphore,
}

impl Client {
    /// A client that connects at its first call.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(Arc::new(Pool {
            path: path.into(),
            idle: Mutex::default(),
            slots: Semaphore::new(IN_FLIGHT_MAX),
        }))
    }

    /// A client that is connected.
    ///
    /// # Errors
    /// `Unavailable` if nobody listens there, `NotSupported` if who listens is of another version.
    pub async fn connect(path: impl Into<PathBuf>) -> FsResult<Self> {
        let client = Self::new(path);
        let socket = client.open().await?;
        client.0.idle.lock().push(socket);
        Ok(client)
    }

    /// Sees to it that there is a connection for the next request: who fails here has asked nothing yet.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub async fn reach(&self) -> FsResult<()> {
        let socket = match self.idle() {
            Some(socket) => socket,
            None => self.open().await?,
        };
        self.0.idle.lock().push(socket);
        Ok(())
    }

    /// Asks and waits for the answer, at most 30 s. A dropped future closes its connection.
    ///
    /// # Errors
    /// Those of the service; `Unavailable` if nobody listens or the connection broke, `Timeout`.
    pub async fn call(&self, header: Bytes, data: Bytes) -> FsResult<(Bytes, Bytes, Option<OwnedFd>)> {
        let call = async {
            let _permit = self
                .0
                .slots
                .acquire()
                .await
                .map_err(|_| self.lost(io::ErrorKind::NotConnected.into()))?;
            let socket = match self.idle() {
                Some(socket) => socket,
                None => self.open().await?,
            };
            let mut frame = Frame::with_header(Kind::Request, 1, header);
            frame.data = data;
            frame
                .fits()
                .map_err(|e| FsError::new(ErrorKind::InvalidArgument, format!("{}: {e}", self.doing())))?;
            send(&socket, frame, None).await.map_err(|e| self.lost(e))?;
            let answer = receive(&socket).await.map_err(|e| self.lost(e))?;
            let (answer, fd) = answer.ok_or_else(|| self.lost(io::ErrorKind::UnexpectedEof.into()))?;
            // The answer is whole: the connection is good for the next.
            self.0.idle.lock().push(socket);
            match answer.kind {
                Kind::Reply => Ok((answer.header, answer.data, fd)),
                Kind::Error => Err(WireError::decode(answer.header).map_or_else(
                    |e| FsError::new(ErrorKind::Internal, format!("{}: unreadable error: {e}", self.doing())),
                    FsError::from_wire,
                )),
                kind => Err(self.lost(protocol(FrameError::Unexpected(kind)))),
            }
        };
        match tokio::time::timeout(CALL_TIMEOUT, call).await {
            Ok(result) => result,
            Err(_) => {
                let why = format!("{}: no answer within {} s", self.doing(), CALL_TIMEOUT.as_secs());
                Err(FsError::new(ErrorKind::Timeout, why))
            }
        }
    }

    /// A connection of the pool that is not closed and has nothing unasked for to say. Their number is bounded by
    /// that of the slots: each was in use once.
    fn idle(&self) -> Option<UnixStream> {
        loop {
            let socket = self.0.idle.lock().pop()?;
            let mut byte = [0];
            match socket.try_read(&mut byte) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Some(socket),
                // The server went away, maybe to come back.
                _ => drop(socket),
            }
        }
    }

    async fn open(&self) -> FsResult<UnixStream> {
        let socket = UnixStream::connect(&self.0.path).await.map_err(|e| self.lost(e))?;
        send_all(&socket, &[&own_hello(PeerKind::Client)], None)
            .await
            .map_err(|e| self.lost(e))?;
        let hello = within(FRAME_TIME_MAX, read_hello(&socket)).await;
        match hello {
            Ok(Some(_)) => Ok(socket),
            Ok(None) => Err(self.lost(io::ErrorKind::UnexpectedEof.into())),
            Err(e) if e.kind() == io::ErrorKind::InvalidData => {
                Err(FsError::new(ErrorKind::NotSupported, format!("{}: {e}", self.doing())))
            }
            Err(e) => Err(self.lost(e)),
        }
    }

    fn doing(&self) -> String {
        format!("ask the worker at {}", self.0.path.display())
    }

    fn lost(&self, error: io::Error) -> FsError {
        let mut error = FsError::from_io(self.doing(), &error);
        // Whatever the socket said, the other end is not there now.
        if error.kind != ErrorKind::TooManyOpenFiles {
            error.kind = ErrorKind::Unavailable;
        }
        error
    }
}

fn own_hello(peer: PeerKind) -> [u8; Hello::BYTES] {
    Hello { peer, in_flight_max: 1 }.encode()
}

fn protocol(error: FrameError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

async fn within<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let done = tokio::time::timeout(limit, work).await;
    done.unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "the other end is silent")))
}

/// `None` if the other end closed without a byte.
async fn read_hello(socket: &UnixStream) -> io::Result<Option<Hello>> {
    let mut bytes = [0; Hello::BYTES];
    let mut len = 0;
    while len < bytes.len() {
        let got = receive_some(socket, &mut bytes[len..], &mut None).await?;
        if got == 0 && len == 0 {
            return Ok(None);
        }
        if got == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        len += got;
        Hello::wanted(&bytes[..len]).map_err(protocol)?;
    }
    Hello::decode(&bytes).map(Some).map_err(protocol)
}

async fn send(socket: &UnixStream, mut frame: Frame, fd: Option<OwnedFd>) -> io::Result<()> {
    frame.service = if fd.is_some() { WITH_FD } else { 0 };
    let prefix = frame.prefix();
    within(
        FRAME_TIME_MAX,
        send_all(socket, &[&prefix, &frame.header, &frame.data], fd.as_ref()),
    )
    .await
}

/// Sends all parts; the descriptor goes with the first bytes.
async fn send_all(socket: &UnixStream, parts: &[&[u8]], fd: Option<&OwnedFd>) -> io::Result<()> {
    let total: usize = parts.iter().map(|part| part.len()).sum();
    let mut sent = 0;
    while sent < total {
        let mut skip = sent;
        let mut slices = Vec::with_capacity(parts.len());
        for part in parts {
            let skipped = skip.min(part.len());
            skip -= skipped;
            slices.push(IoSlice::new(&part[skipped..]));
        }
        let raw: Vec<RawFd> = fd.filter(|_| sent == 0).map(AsRawFd::as_raw_fd).into_iter().collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let control = if raw.is_empty() { &[][..] } else { &rights };
        let send = || {
            let flags = MsgFlags::MSG_NOSIGNAL;
            sendmsg::<()>(socket.as_raw_fd(), &slices, control, flags, None).map_err(io::Error::from)
        };
        sent += socket.async_io(Interest::WRITABLE, send).await?;
    }
    Ok(())
}

/// The next frame and its descriptor; `None` if the other end closed between frames.
async fn receive(socket: &UnixStream) -> io::Result<Option<(Frame, Option<OwnedFd>)>> {
    let mut fd = None;
    let mut bytes = vec![0; READ_BYTES];
    let len = receive_some(socket, &mut bytes, &mut fd).await?;
    if len == 0 {
        return Ok(None);
    }
    within(FRAME_TIME_MAX, rest_of_frame(socket, bytes, len, fd))
        .await
        .map(Some)
}

async fn rest_of_frame(
    socket: &UnixStream,
    mut bytes: Vec<u8>,
    mut len: usize,
    mut fd: Option<OwnedFd>,
) -> io::Result<(Frame, Option<OwnedFd>)> {
    let mut need = Prefix::BYTES;
    let mut prefix = None;
    loop {
        if len < need {
            let got = receive_some(socket, &mut bytes[len..], &mut fd).await?;
            if got == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            len += got;
            continue;
        }
        let Some((prefix, prefix_bytes)) = prefix else {
            let mut start = [0; Prefix::BYTES];
            start.copy_from_slice(&bytes[..Prefix::BYTES]);
            let decoded = Prefix::decode(&start).map_err(protocol)?;
            need = Prefix::BYTES + decoded.header_len + decoded.data_len;
            bytes.resize(need.max(bytes.len()), 0);
            prefix = Some((decoded, start));
            continue;
        };
        let prefix: Prefix = prefix;
        // One at a time: nothing can follow before we have answered.
        if len > need || (prefix.service == WITH_FD) != fd.is_some() {
            return Err(protocol(FrameError::Unexpected(prefix.kind)));
        }
        bytes.truncate(need);
        let all = Bytes::from(bytes);
        let header = all.slice(Prefix::BYTES..Prefix::BYTES + prefix.header_len);
        prefix.check(&prefix_bytes, &header).map_err(protocol)?;
        let data = all.slice(Prefix::BYTES + prefix.header_len..);
        let frame = Frame {
            id: prefix.id,
            kind: prefix.kind,
            service: prefix.service,
            header,
            data,
        };
        return Ok((frame, fd));
    }
}

/// Reads what is there, at most `buffer`; a descriptor that comes along is put into `fd`. A second one is an error.
async fn receive_some(socket: &UnixStream, buffer: &mut [u8], fd: &mut Option<OwnedFd>) -> io::Result<usize> {
    let receive = || {
        // Room for all that one message can bring: of what is cut off, nix tells nothing, and it would stay open.
        let mut space = nix::cmsg_space!([RawFd; MESSAGE_FDS_MAX]);
        let mut slices = [IoSliceMut::new(buffer)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message = recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut space), flags)?;
        let mut received = Vec::new();
        for control in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(fds) = control {
                // SAFETY: the kernel has just made these descriptors for us, and nobody else knows them.
                received.extend(fds.into_iter().map(|raw| unsafe { OwnedFd::from_raw_fd(raw) }));
            }
        }
        Ok((message.bytes, received))
    };
    let (bytes, received) = socket.async_io(Interest::READABLE, receive).await?;
    for new in received {
        if fd.replace(new).is_some() {
            return Err(protocol(FrameError::TooLong("descriptor", 2)));
        }
    }
    Ok(bytes)
}
