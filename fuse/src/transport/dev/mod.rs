//! The transport over `/dev/fuse` by ourselves, from the kernel's header and documentation.
//!
//! Each thread has a descriptor of its own, and `readers` says which of them read. It reads a request, runs it as far as it
//! goes without waiting, and writes the answer: two system calls. What waits goes to the runtime and is answered from there, on
//! the descriptor that it came from.
//!
//! **Promises:** every length is checked, and garbage ends the request with an error; every request that wants an answer
//! gets exactly one, also if its operation panics; an interrupt ends what waits, as `pending` says; what was opened for a
//! process that is gone is closed again.
//!
//! **Left out:** poll, bmap and mapping into the device, which the kernel does without; ioctls, of which we have none;
//! splice, which others measured and took out again.

mod buffers;
mod channel;
mod decode;
mod dispatch;
mod encode;
mod handshake;
mod pending;
mod readers;
mod wire;

pub use channel::DevNotifier;

use super::observe::Observer;
use super::operations::Operations;
use super::{KernelOptions, MAX_WRITE_BYTES, Serving};
use alluxio_common::sync::Mutex;
use buffers::Pool;
use channel::{Backing, Channel, Received};
use decode::{Garbage, Operation, Request, decode};
use encode::Reply;
use handshake::{INIT_OUT_BYTES, InitOut, Refused};
use pending::Pending;
use readers::{Backlog, Eagerness, Readers};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;
use tokio::runtime::Handle;

/// The largest request: a write, with room for the kernel's alignment.
const BUFFER_BYTES: usize = MAX_WRITE_BYTES as usize + 4096;
/// Data of a write up to here is copied; above it, the whole buffer goes with the request.
const COPY_BYTES_MAX: usize = 64 << 10;
/// Requests that may come before the handshake is done: the kernel asks anew when we answer an older protocol.
const HANDSHAKE_ROUNDS_MAX: usize = 8;

/// Whether this process may hand local files to the kernel: by trying with one that every process has.
pub(super) fn may_pass_through(connection: OwnedFd) -> bool {
    let channel = Arc::new(Channel::new(connection));
    let tried = File::open("/proc/self/exe").and_then(|file| Backing::register(&channel, &file));
    // Other errors are about that file, not about us.
    !tried.is_err_and(|error| error.raw_os_error() == Some(libc::EPERM))
}

/// Fewest threads that can read requests; but for the first they wait until they are needed.
const READERS_MIN: usize = 4;

/// Turns of waiting between two looks for a request: about a microsecond.
const LOOK_PAUSE: u32 = 32;

/// What came of looking for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Came {
    One,
    /// All that came are served.
    All,
    /// The mount is gone.
    End,
}

/// What all threads of a session share.
struct Shared<O> {
    operations: Arc<O>,
    runtime: Handle,
    pending: Arc<Pending>,
    readers: Readers,
    serving: Arc<Serving>,
    observer: Option<Arc<Observer>>,
}

/// A session that is served.
#[derive(Debug)]
pub struct DevSession {
    threads: Mutex<Vec<JoinHandle<io::Result<()>>>>,
    serving: Arc<Serving>,
}

/// Shakes hands with the kernel and serves.
pub(super) fn start<O: Operations>(
    operations: Arc<O>,
    fuse_dev: OwnedFd,
    options: &KernelOptions,
    runtime: &Handle,
) -> io::Result<(DevSession, DevNotifier)> {
    let first = Arc::new(Channel::new(fuse_dev));
    let pool = Pool::new(BUFFER_BYTES);
    shake_hands(&*operations, &first, &mut pool.take())?;
    first.never_block()?;
    let notifier = DevNotifier(Arc::downgrade(&first));
    let count = options.thread_count().max(READERS_MIN);
    let shared = Arc::new(Shared {
        operations,
        runtime: runtime.clone(),
        pending: Arc::default(),
        readers: Readers::new(count),
        serving: Arc::default(),
        observer: options.observer.clone(),
    });
    let serving = Arc::clone(&shared.serving);
    let mut threads = Vec::new();
    for number in 0..count {
        let channel = match number {
            0 => Arc::clone(&first),
            // Without one of its own, it shares the first: slower, not wrong.
            _ => first.another().map_or_else(|_| Arc::clone(&first), Arc::new),
        };
        let reader = Reader {
            number,
            shared: Arc::clone(&shared),
            channel,
            pool: pool.clone(),
        };
        let thread = std::thread::Builder::new()
            .name(format!("fuse-dev-{number}"))
            .spawn(move || reader.run())?;
        threads.push(thread);
    }
    let threads = Mutex::new(threads);
    Ok((DevSession { threads, serving }, notifier))
}

impl DevSession {
    /// Blocks until the mount is gone.
    pub(super) fn join(self) -> io::Result<()> {
        let mut ended = Ok(());
        for thread in self.threads.into_inner() {
            let result = thread
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("a thread of the FUSE session panicked")));
            ended = ended.and(result);
        }
        ended
    }

    pub(super) fn serving(&self) -> Arc<Serving> {
        Arc::clone(&self.serving)
    }

    /// Whether the mount is gone.
    pub(super) fn is_finished(&self) -> bool {
        self.threads.lock().iter().all(JoinHandle::is_finished)
    }
}

/// Answers the kernel's INIT, which comes before anything else.
fn shake_hands(operations: &impl Operations, channel: &Channel, buffer: &mut [u8]) -> io::Result<()> {
    for _ in 0..HANDSHAKE_ROUNDS_MAX {
        let length = match channel.receive(buffer)? {
            Received::Request(length) => length,
            Received::Nothing => continue,
            Received::End => return Err(io::Error::from_raw_os_error(libc::ENODEV)),
        };
        let (unique, offered) = match decode(&buffer[..length]) {
            Ok(Request {
                header,
                operation: Operation::Init(offered),
            }) => (header.unique, offered),
            other => {
                tracing::warn!(?other, "not the kernel's INIT");
                return Err(io::Error::from_raw_os_error(libc::EPROTO));
            }
        };
        let features = match operations.features() {
            Ok(features) => features,
            Err(errno) => {
                channel.answer(unique, Reply::error(errno));
                return Err(io::Error::from_raw_os_error(errno.0));
            }
        };
        match InitOut::negotiate(&offered, &features) {
            Ok(agreed) => {
                if features.passthrough && !agreed.has_passthrough() {
                    operations.lacks_passthrough("the kernel has none; it came with Linux 6.9");
                }
                channel.answer(unique, Reply::data(agreed.to_bytes().to_vec().into()));
                return Ok(());
            }
            Err(Refused::Newer) => {
                let mut ours = [0; INIT_OUT_BYTES];
                ours[..4].copy_from_slice(&wire::MAJOR.to_ne_bytes());
                ours[4..8].copy_from_slice(&wire::MINOR.to_ne_bytes());
                channel.answer(unique, Reply::data(ours.to_vec().into()));
            }
            Err(Refused::Older) => {
                channel.answer(unique, Reply::error(super::operations::Errno(libc::EPROTO)));
                let why = format!(
                    "the kernel speaks FUSE {}.{}; {}.{} (Linux 5.4) is needed",
                    offered.major,
                    offered.minor,
                    wire::MAJOR,
                    wire::MINOR_MIN
                );
                return Err(io::Error::new(io::ErrorKind::Unsupported, why));
            }
        }
    }
    Err(io::Error::from_raw_os_error(libc::EPROTO))
}

/// One thread of a session.
struct Reader<O> {
    number: usize,
    shared: Arc<Shared<O>>,
    channel: Arc<Channel>,
    pool: Pool,
}

impl<O: Operations> Reader<O> {
    /// Takes requests until the mount is gone.
    fn run(self) -> io::Result<()> {
        let _guard = self.shared.runtime.enter();
        let mut buffer = self.pool.take();
        let ended = match self.number {
            0 => self.read_first(&mut buffer),
            _ => self.read_when_needed(&mut buffer),
        };
        if let Err(error) = &ended {
            tracing::error!(%error, "read requests from the kernel");
        }
        self.shared.readers.finish();
        ended
    }

    fn read_first(&self, buffer: &mut Vec<u8>) -> io::Result<()> {
        let mut eagerness = Eagerness::default();
        loop {
            let mut came = self.serve_all(buffer)?;
            if let Some(until) = eagerness.until().filter(|_| came == Came::All) {
                while came == Came::All && Instant::now() < until {
                    // The kernel's queue has one lock, which the caller needs to put its request there.
                    (0..LOOK_PAUSE).for_each(|_| std::hint::spin_loop());
                    came = self.serve_one(buffer)?;
                }
                if came == Came::One {
                    continue;
                }
            }
            if came == Came::End {
                return Ok(());
            }
            let asleep = Instant::now();
            self.channel.wait()?;
            eagerness.slept(asleep.elapsed());
        }
    }

    fn read_when_needed(&self, buffer: &mut Vec<u8>) -> io::Result<()> {
        while self.shared.readers.wait(self.number) {
            if self.serve_all(buffer)? == Came::End {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Serves until nothing is there.
    fn serve_all(&self, buffer: &mut Vec<u8>) -> io::Result<Came> {
        let mut backlog = Backlog::default();
        loop {
            match self.serve_one(buffer)? {
                Came::One if backlog.found() => self.shared.readers.call(),
                Came::One => {}
                other => return Ok(other),
            }
        }
    }

    fn serve_one(&self, buffer: &mut Vec<u8>) -> io::Result<Came> {
        let readers = &self.shared.readers;
        readers.take(self.number);
        let received = self.channel.receive(buffer);
        if !matches!(received, Ok(Received::Request(_))) {
            readers.noted(self.number);
        }
        match received? {
            Received::Request(length) => {
                readers.begin(self.number);
                self.serve(buffer, length);
                readers.end(self.number);
                Ok(Came::One)
            }
            Received::Nothing => Ok(Came::All),
            Received::End => Ok(Came::End),
        }
    }

    /// Serves what was taken off the queue, and says when it is noted.
    fn serve(&self, buffer: &mut Vec<u8>, length: usize) {
        let whole = (length > COPY_BYTES_MAX).then(|| self.pool.lend(buffer, length));
        let bytes = whole.as_deref().unwrap_or(&buffer[..length]);
        let decoded = decode(bytes);
        if let Ok(Request { header, operation }) = &decoded
            && let Operation::Flush { fh, .. } | Operation::Release { fh, .. } = operation
        {
            self.shared.operations.closing(header.node, *fh);
        }
        self.shared.readers.noted(self.number);
        match decoded {
            Ok(request) => self.dispatch(request, whole.as_ref()),
            Err(Garbage::Request { unique, errno }) => {
                tracing::debug!(unique, ?errno, "a request that we do not know, or that makes no sense");
                self.channel.answer(unique, Reply::error(errno));
            }
            Err(Garbage::Header) => tracing::warn!(length, "bytes from the kernel that are no request"),
        }
    }
}
