//! From a request to its operation, and from what comes of it to the answer.

use super::channel::{Backing, Channel};
use super::decode::{Header, Operation, Request};
use super::encode::{DirBuffer, Reply};
use super::pending::{Patience, Waiting};
use super::{MAX_WRITE_BYTES, Operations, Reader, Shared};
use crate::transport::observe::Observed;
use crate::transport::operations::{Answer, Entry, Errno, Fh, NewName, Node, Opened, Xattr};
use crate::transport::park;
use bytes::Bytes;
use std::fs::File;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use tracing::Instrument;

/// What comes of a request.
struct Done {
    reply: Reply,
    /// What the kernel does not know of if it does not take the answer.
    given: Given,
}

/// What an answer hands to the kernel.
#[derive(Default)]
struct Given {
    entry: Option<Node>,
    file: Option<(Node, Fh)>,
    dir: Option<Fh>,
}

impl From<Reply> for Done {
    fn from(reply: Reply) -> Done {
        let given = Given::default();
        Done { reply, given }
    }
}

fn entry(entry: &Entry) -> Done {
    let mut done = Done::from(Reply::entry(entry));
    done.given.entry = Some(entry.node);
    done
}

fn opened(node: Node, opened: &Opened<Backing>) -> Done {
    let backing = opened.backing.as_ref().map(|backing| backing.id());
    let mut done = Done::from(Reply::opened(opened.fh, opened.flags, backing));
    done.given.file = Some((node, opened.fh));
    done
}

fn created((entry, opened): &(Entry, Opened<Backing>)) -> Done {
    let node = entry.node;
    let backing = opened.backing.as_ref().map(|backing| backing.id());
    let mut done = Done::from(Reply::created(entry, opened.fh, opened.flags, backing));
    (done.given.entry, done.given.file) = (Some(node), Some((node, opened.fh)));
    done
}

fn xattr(answer: Xattr) -> Done {
    match answer {
        Xattr::Size(size) => Reply::size(size).into(),
        Xattr::Data(data) => Reply::data(data).into(),
    }
}

/// Starts a request: `start!(self, (header, observed), patience, |operations| call => |answer| done)`.
macro_rules! start {
    ($self:ident, ($header:ident, $observed:ident), $patience:ident, |$operations:ident| $call:expr => |$answer:pat_param| $done:expr) => {{
        let $operations = Arc::clone(&$self.shared.operations);
        $self.start($header, $observed, Patience::$patience, async move {
            let $answer = $call.await?;
            Ok(Done::from($done))
        })
    }};
}

impl<O: Operations> Reader<O> {
    /// Begins a request. `whole` is all of it, if it is so large that its data is not to be copied.
    pub(super) fn dispatch(&self, request: Request<'_>, whole: Option<&Bytes>) {
        let Request { header, operation } = request;
        let observer = self.shared.observer.as_ref();
        let detail = match observer {
            Some(observer) if observer.wants_detail() => operation.detail(),
            _ => String::new(),
        };
        let Header { unique, code, node, by } = header;
        let observed = Observed::begin(observer, unique, code, node, by, detail);
        if operation.minds_closes() {
            self.shared.readers.settle();
        }
        match operation {
            Operation::Forget { lookups } => self.shared.operations.forget(header.node, lookups),
            Operation::BatchForget(forgets) => {
                for (node, lookups) in forgets.iter() {
                    self.shared.operations.forget(node, lookups);
                }
            }
            Operation::Interrupt { unique } => {
                if let Some(watch) = self.shared.pending.interrupt(unique) {
                    self.shared.runtime.spawn(watch);
                }
            }
            Operation::NotifyReply => {}
            Operation::Destroy => self.answer(header, Reply::empty()),
            Operation::Ioctl => self.answer(header, Reply::error(Errno::NOTTY)),
            Operation::Init(_) => self.answer(header, Reply::error(Errno::IO)),
            Operation::Getattr { .. }
            | Operation::Statx { .. }
            | Operation::Setattr(_)
            | Operation::Statfs
            | Operation::Setxattr { .. }
            | Operation::Getxattr { .. }
            | Operation::Listxattr { .. }
            | Operation::Removexattr { .. }
            | Operation::Access { .. } => self.attributes(header, observed, operation),
            Operation::Open { .. }
            | Operation::Create { .. }
            | Operation::Tmpfile { .. }
            | Operation::Flush { .. }
            | Operation::Release { .. }
            | Operation::Fsync { .. }
            | Operation::Opendir
            | Operation::Readdir { .. }
            | Operation::Releasedir { .. }
            | Operation::Fsyncdir { .. } => self.handles(header, observed, operation),
            Operation::Read { .. }
            | Operation::Write { .. }
            | Operation::Fallocate { .. }
            | Operation::Lseek { .. }
            | Operation::CopyFileRange { .. }
            | Operation::Getlk(_)
            | Operation::Setlk(_) => self.data(header, observed, operation, whole),
            names => self.names(header, observed, names),
        }
    }

    fn names(&self, header: Header, observed: Observed, operation: Operation<'_>) {
        let Header { node, by, .. } = header;
        match operation {
            Operation::Lookup { name } => {
                let name = Box::<[u8]>::from(name);
                start!(self, (header, observed), Some, |operations| operations.lookup(by, node, &name) => |found| entry(&found));
            }
            Operation::Readlink => {
                start!(self, (header, observed), Some, |operations| operations.readlink(by, node) => |target| Reply::data(target));
            }
            Operation::Symlink { name, target } => {
                let (name, target) = (Box::<[u8]>::from(name), Box::<[u8]>::from(target));
                start!(self, (header, observed), Full, |operations| operations.symlink(by, node, &name, &target) => |made| entry(&made));
            }
            Operation::Mknod {
                name,
                mode,
                umask,
                rdev,
            } => {
                let name = Box::<[u8]>::from(name);
                start!(self, (header, observed), Full, |operations| operations.mknod(by, new(node, &name, mode, umask), rdev) => |made| entry(&made));
            }
            Operation::Mkdir { name, mode, umask } => {
                let name = Box::<[u8]>::from(name);
                start!(self, (header, observed), Full, |operations| operations.mkdir(by, new(node, &name, mode, umask)) => |made| entry(&made));
            }
            Operation::Unlink { name } => {
                let name = Box::<[u8]>::from(name);
                start!(self, (header, observed), Full, |operations| operations.unlink(by, node, &name) => |()| Reply::empty());
            }
            Operation::Rmdir { name } => {
                let name = Box::<[u8]>::from(name);
                start!(self, (header, observed), Full, |operations| operations.rmdir(by, node, &name) => |()| Reply::empty());
            }
            Operation::Rename {
                name,
                new_parent,
                new_name,
                flags,
            } => {
                let (name, new_name) = (Box::<[u8]>::from(name), Box::<[u8]>::from(new_name));
                start!(self, (header, observed), Full, |operations| operations.rename(by, (node, &name), (new_parent, &new_name), flags) => |()| Reply::empty());
            }
            Operation::Link { node: target, name } => {
                let name = Box::<[u8]>::from(name);
                start!(self, (header, observed), Full, |operations| operations.link(by, target, node, &name) => |made| entry(&made));
            }
            _ => self.answer(header, Reply::error(Errno::NOSYS)),
        }
    }

    fn attributes(&self, header: Header, observed: Observed, operation: Operation<'_>) {
        let Header { node, by, .. } = header;
        match operation {
            Operation::Getattr { fh } => {
                start!(self, (header, observed), Some, |operations| operations.getattr(by, node, fh) => |found| Reply::attributes(&found));
            }
            Operation::Statx { fh } => {
                start!(self, (header, observed), Some, |operations| operations.getattr(by, node, fh) => |found| Reply::statx(&found));
            }
            Operation::Setattr(set) => {
                start!(self, (header, observed), Full, |operations| operations.setattr(by, node, set) => |found| Reply::attributes(&found));
            }
            Operation::Statfs => {
                start!(self, (header, observed), Some, |operations| operations.statfs(by, node) => |stat| Reply::capacity(&stat));
            }
            Operation::Setxattr { name, value, flags } => {
                let (name, value) = (Box::<[u8]>::from(name), Box::<[u8]>::from(value));
                start!(self, (header, observed), Full, |operations| operations.setxattr(by, node, &name, &value, flags) => |()| Reply::empty());
            }
            Operation::Getxattr { name, size } => {
                let name = Box::<[u8]>::from(name);
                start!(self, (header, observed), Some, |operations| operations.getxattr(by, node, &name, size) => |answer| xattr(answer));
            }
            Operation::Listxattr { size } => {
                start!(self, (header, observed), Some, |operations| operations.listxattr(by, node, size) => |answer| xattr(answer));
            }
            Operation::Removexattr { name } => {
                let name = Box::<[u8]>::from(name);
                start!(self, (header, observed), Full, |operations| operations.removexattr(by, node, &name) => |()| Reply::empty());
            }
            Operation::Access { mask } => {
                start!(self, (header, observed), Some, |operations| operations.access(by, node, mask) => |()| Reply::empty());
            }
            _ => self.answer(header, Reply::error(Errno::NOSYS)),
        }
    }

    fn handles(&self, header: Header, observed: Observed, operation: Operation<'_>) {
        let Header { node, by, .. } = header;
        let channel = Arc::clone(&self.channel);
        let register = move |file: &File| Backing::register(&channel, file);
        match operation {
            Operation::Open { flags } => {
                start!(self, (header, observed), Full, |operations| operations.open(by, node, flags, register) => |file| opened(node, &file));
            }
            Operation::Create {
                name,
                mode,
                umask,
                flags,
            } => {
                let name = Box::<[u8]>::from(name);
                start!(self, (header, observed), Full, |operations| operations.create(by, new(node, &name, mode, umask), flags, register) => |made| created(&made));
            }
            Operation::Tmpfile { mode, umask, flags } => {
                start!(self, (header, observed), Full, |operations| operations.tmpfile(by, new(node, b"", mode, umask), flags, register) => |made| created(&made));
            }
            Operation::Flush { fh, owner } => {
                start!(self, (header, observed), Full, |operations| operations.flush(by, node, fh, owner) => |()| Reply::empty());
            }
            Operation::Release { fh, flock } => {
                start!(self, (header, observed), Full, |operations| operations.release(node, fh, flock) => |()| Reply::empty());
            }
            Operation::Fsync { fh, data_only } => {
                start!(self, (header, observed), Full, |operations| operations.fsync(by, node, fh, data_only) => |()| Reply::empty());
            }
            Operation::Opendir => {
                start!(self, (header, observed), Full, |operations| operations.opendir(by, node) => |(fh, flags)| {
                    let mut done = Done::from(Reply::opened(fh, flags, None));
                    done.given.dir = Some(fh);
                    done
                });
            }
            Operation::Readdir {
                fh,
                cookie,
                bytes_max,
                plus,
            } => {
                let mut listing = DirBuffer::new(bytes_max.min(MAX_WRITE_BYTES) as usize, plus);
                start!(self, (header, observed), Some, |operations| operations.readdir(by, node, fh, cookie, &mut listing) => |()| listing.into_reply());
            }
            Operation::Releasedir { fh } => {
                self.shared.operations.releasedir(fh);
                self.answer(header, Reply::empty());
            }
            Operation::Fsyncdir { fh } => {
                start!(self, (header, observed), Full, |operations| operations.fsyncdir(by, node, fh) => |()| Reply::empty());
            }
            _ => self.answer(header, Reply::error(Errno::NOSYS)),
        }
    }

    fn data(&self, header: Header, observed: Observed, operation: Operation<'_>, whole: Option<&Bytes>) {
        let Header { node, by, .. } = header;
        match operation {
            Operation::Read { fh, offset, length } => {
                let length = length.min(MAX_WRITE_BYTES);
                start!(self, (header, observed), Some, |operations| operations.read(by, node, fh, offset, length) => |data| Reply::data(data));
            }
            Operation::Write { fh, offset, data } => {
                let data = whole.map_or_else(|| Bytes::copy_from_slice(data), |whole| whole.slice_ref(data));
                start!(self, (header, observed), Full, |operations| operations.write(by, node, fh, offset, data) => |written| Reply::size(written));
            }
            Operation::Fallocate {
                fh,
                offset,
                length,
                mode,
            } => {
                start!(self, (header, observed), Full, |operations| operations.fallocate(by, node, fh, offset, length, mode) => |()| Reply::empty());
            }
            Operation::Lseek { fh, offset, whence } => {
                start!(self, (header, observed), Some, |operations| operations.lseek(by, node, fh, offset, whence) => |at| Reply::offset(at.cast_unsigned()));
            }
            Operation::CopyFileRange { mut range, wide } => {
                if !wide {
                    // The answer has 32 bits; the caller comes back for the rest.
                    range.length = range.length.min(u64::from(u32::MAX));
                }
                start!(self, (header, observed), Full, |operations| operations.copy_file_range(by, node, range) => |copied| {
                    if wide {
                        Reply::offset(copied)
                    } else {
                        Reply::size(u32::try_from(copied).unwrap_or(u32::MAX))
                    }
                });
            }
            Operation::Getlk(request) => {
                start!(self, (header, observed), Some, |operations| operations.getlk(by, request) => |held| Reply::lock(&held));
            }
            Operation::Setlk(request) if request.wait => {
                start!(self, (header, observed), None, |operations| operations.setlk(by, request) => |()| Reply::empty());
            }
            Operation::Setlk(request) => {
                start!(self, (header, observed), Full, |operations| operations.setlk(by, request) => |()| Reply::empty());
            }
            _ => self.answer(header, Reply::error(Errno::NOSYS)),
        }
    }

    fn answer(&self, header: Header, reply: Reply) {
        self.channel.answer(header.unique, reply);
    }

    /// Runs an operation: here and now as far as it goes without waiting, and then in the runtime.
    fn start(
        &self,
        header: Header,
        observed: Observed,
        patience: Patience,
        operation: impl Future<Output = Answer<Done>> + Send + 'static,
    ) {
        let mut ticket = Ticket {
            shared: Arc::clone(&self.shared),
            channel: Arc::clone(&self.channel),
            unique: header.unique,
            pid: header.by.pid,
            patience,
            waits: false,
            is_answered: false,
        };
        let span = observed.span();
        let request = async move {
            // What was interrupted is gone before that is answered.
            let done = {
                let mut operation = pin!(operation);
                poll_fn(|context| ticket.poll(operation.as_mut(), context)).await
            };
            let errno = done.as_ref().err().copied();
            ticket.settle(done);
            observed.end(errno);
        };
        let Some(_entered) = self.shared.serving.enter() else {
            // Dropped, it answers with an error.
            return drop(request);
        };
        let run = || park::run(&self.shared.runtime, Box::pin(request.instrument(span)));
        // The panic hook has said where, and the ticket has answered: this thread goes on.
        let _ = catch_unwind(AssertUnwindSafe(run));
    }
}

fn new(parent: Node, name: &[u8], mode: u32, umask: u32) -> NewName<'_> {
    NewName {
        parent,
        name,
        mode,
        umask,
    }
}

/// A request that is worked on. Dropped without an answer (it panicked, or the process ends), it answers EIO.
struct Ticket<O: Operations> {
    shared: Arc<Shared<O>>,
    channel: Arc<Channel>,
    unique: u64,
    pid: u32,
    patience: Patience,
    /// It is in the table of what waits.
    waits: bool,
    is_answered: bool,
}

impl<O: Operations> Ticket<O> {
    /// One step of the operation, unless it is to end.
    fn poll(
        &mut self,
        operation: Pin<&mut impl Future<Output = Answer<Done>>>,
        context: &mut Context<'_>,
    ) -> Poll<Answer<Done>> {
        let pending = &self.shared.pending;
        let may_end = self.waits && self.patience != Patience::Full;
        if may_end && pending.is_to_end(self.unique, context.waker()) {
            return Poll::Ready(Err(Errno::INTR));
        }
        let polled = operation.poll(context);
        if polled.is_pending() && !self.waits {
            self.waits = true;
            let waiting = Waiting {
                pid: self.pid,
                patience: self.patience,
                channel: Arc::clone(&self.channel),
                waker: context.waker().clone(),
            };
            let was_interrupted = pending.add(self.unique, waiting);
            if was_interrupted && let Some(watch) = pending.interrupt(self.unique) {
                self.shared.runtime.spawn(watch);
            }
        }
        polled
    }

    /// Answers, unless that was done; answers whether the kernel took it.
    fn answer(&mut self, reply: Reply) -> bool {
        self.is_answered = true;
        (!self.waits || self.shared.pending.take(self.unique)) && self.channel.answer(self.unique, reply)
    }

    /// Answers, and takes back what an answer gave that nobody took.
    fn settle(mut self, done: Answer<Done>) {
        let Done { reply, given } = done.unwrap_or_else(|errno| Reply::error(errno).into());
        if self.answer(reply) {
            return;
        }
        let operations = &self.shared.operations;
        if let Some(node) = given.entry {
            operations.forget(node, 1);
        }
        if let Some(fh) = given.dir {
            operations.releasedir(fh);
        }
        if let Some((node, fh)) = given.file {
            let operations = Arc::clone(operations);
            self.shared.runtime.spawn(async move {
                if let Err(error) = operations.release(node, fh, None).await {
                    tracing::info!(?error, "close what was opened for a process that is gone");
                }
            });
        }
    }
}

impl<O: Operations> Drop for Ticket<O> {
    fn drop(&mut self) {
        if !self.is_answered {
            self.answer(Reply::error(Errno::IO));
        }
    }
}
