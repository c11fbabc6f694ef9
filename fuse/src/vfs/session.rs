//! The session at the master: kept alive, resumed, ended; and the watch stream that keeps kernel caches true.

use super::Vfs;
use super::nodes::Nodes;
use super::removed::Removed;
use alluxio_client::MasterClient;
use alluxio_proto::master::{
    CloseSession, Empty, FileLock, KeepAlive, OpenSession, ResolvePath, SessionInfo, WatchEvent,
};
use alluxio_proto::types::{Attr, FileKind};
use alluxio_proto::{ErrorKind, FsError, FsResult, SessionId};
use futures::StreamExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::Duration;
use tokio::sync::oneshot;

/// Pause before the watch stream is opened again.
const WATCH_PAUSE: Duration = Duration::from_millis(200);
/// The stream is taken for dead after this silence; heartbeats come each second.
const WATCH_SILENCE: Duration = Duration::from_secs(4);
/// Invalidations that wait for the kernel; past it everything is invalidated instead.
const PENDING_MAX: usize = 16_384;
/// Pause before more is said to a kernel that has not heard the last [`PENDING_MAX`] yet.
const FULL_PAUSE: Duration = Duration::from_millis(5);
/// How long the session ends may take at unmount.
const END_TIME_MAX: Duration = Duration::from_secs(30);

/// The kernel's caches. Nodes are numbered as [`Vfs::node_of`] does. Calls may block while the kernel waits for the daemon, so they come from a thread of their own.
pub trait KernelCache: Send + 'static {
    /// Attributes of a node are stale; its pages too if `data`.
    fn inode(&self, node: u64, data: bool);
    /// A name in a directory is stale; `child` went with it, if not 0.
    fn entry(&self, parent: u64, name: &[u8], child: u64);
    /// Names that lead to a node are stale.
    fn names(&self, node: u64);
    /// Everything is stale, but for the pages of some nodes.
    fn reset(&self, keeps_pages: impl Fn(u64) -> bool);
    /// Whether the kernel may have a node.
    fn knows(&self, node: u64) -> bool;
}

/// What the kernel is to forget.
pub(super) enum Stale {
    /// Others changed something.
    Pushed(WatchEvent),
    /// Names that lead to a node, which is not the newest any more.
    Superseded { node: u64 },
    /// A node, for somebody who waits until it is done.
    Node {
        node: u64,
        data: bool,
        done: oneshot::Sender<()>,
    },
}

/// Where it is said.
pub(super) type ToKernel = SyncSender<Stale>;

impl Vfs {
    pub(super) async fn open_session(&self) -> FsResult<SessionInfo> {
        let open = self.session_request(SessionId(0), Vec::new());
        let info: SessionInfo = self.master.read(&self.own_caller(), open).await?;
        self.master.set_session(SessionId(info.session));
        Ok(info)
    }

    /// Takes a session up again, naming what it has open and locked. Asked once: a late copy of what was true would be wrong.
    pub(super) async fn resume_session(&self, old: SessionId, locks: Vec<FileLock>) -> FsResult<SessionInfo> {
        let open = self.session_request(old, locks);
        let info: SessionInfo = self.master.once(&self.own_caller(), open).await?;
        self.master.set_session(SessionId(info.session));
        Ok(info)
    }

    fn session_request(&self, resume: SessionId, locks: Vec<FileLock>) -> OpenSession {
        OpenSession {
            client: self.options.client.clone(),
            host: self.options.host.clone(),
            resume: resume.get(),
            open_inodes: Vec::new(),
            locks,
            opens: self.reads.all(),
        }
    }

    /// Tells the kernel, a moment later.
    pub(super) fn tell_kernel(&self, stale: Stale) {
        let Some(kernel) = self.stale.lock().clone() else {
            return;
        };
        if kernel.try_send(stale).is_err() {
            self.kernel_missed.store(true, Ordering::Release);
        }
    }

    /// Has the kernel forget attributes of a node, and its pages if `data`, before it returns.
    pub(super) async fn forget_now(&self, node: u64, data: bool) {
        let (done, heard) = oneshot::channel();
        let mut stale = Stale::Node { node, data, done };
        loop {
            // Without a kernel there are no caches.
            let Some(kernel) = self.stale.lock().clone() else {
                return;
            };
            match kernel.try_send(stale) {
                Ok(()) => break,
                Err(TrySendError::Disconnected(_)) => return,
                Err(TrySendError::Full(back)) => stale = back,
            }
            drop(kernel);
            tokio::time::sleep(FULL_PAUSE).await;
        }
        // An error: the thread has ended, and with it the mount.
        let _ = heard.await;
    }

    /// Has the kernel forget attributes of a node soon, for who may not wait for it.
    pub(super) fn forget_soon(&self, node: u64) {
        let Some(kernel) = self.stale.lock().clone() else {
            return;
        };
        // Nobody waits.
        let (done, _) = oneshot::channel();
        let stale = Stale::Node {
            node,
            data: false,
            done,
        };
        if let Err(TrySendError::Full(mut stale)) = kernel.try_send(stale) {
            self.tasks.spawn(async move {
                while let Err(TrySendError::Full(back)) = kernel.try_send(stale) {
                    stale = back;
                    tokio::time::sleep(FULL_PAUSE).await;
                }
            });
        }
    }

    pub(super) async fn find_root(&self) -> FsResult<Attr> {
        let path = self.options.path.clone();
        let resolve = ResolvePath {
            path: path.clone().into(),
            refresh: false,
        };
        let attr: Attr = self
            .master
            .read(&self.own_caller(), resolve)
            .await
            .map_err(|error| error.context(format!("mount {path}")))?;
        if attr.kind() != FileKind::Directory {
            return Err(FsError::new(
                ErrorKind::NotADirectory,
                format!("mount {path}: it is no directory"),
            ));
        }
        Ok(attr)
    }

    /// Starts what runs beside the operations: the watch stream with `kernel` behind it, and keeping the session alive.
    pub fn start_background(self: &Arc<Self>, kernel: impl KernelCache) {
        let (send, receive) = std::sync::mpsc::sync_channel(PENDING_MAX);
        let (removed, nodes) = (self.removed.clone(), self.nodes.clone());
        // The thread ends when the senders, held by the watch task and until the mount stops, are gone.
        std::thread::Builder::new()
            .name("fuse-invalidate".to_owned())
            .spawn(move || invalidate(&receive, &kernel, &removed, &nodes))
            .map_or_else(
                |error| tracing::error!(%error, "start the invalidation thread: kernel caches live one second only"),
                |_| {
                    *self.stale.lock() = Some(send.clone());
                    let vfs = Arc::clone(self);
                    self.tasks.spawn(async move { vfs.watch_loop(send).await });
                },
            );
        let vfs = Arc::clone(self);
        self.tasks.spawn(async move { vfs.keep_alive_loop().await });
        self.tasks.spawn(Arc::clone(self).tell_accesses());
        self.tasks.spawn(Arc::clone(self).settle_pending());
    }

    async fn watch_loop(&self, kernel: ToKernel) {
        let mut overflowed = false;
        while !self.shutdown.is_cancelled() {
            let ended = tokio::select! {
                ended = self.watch_once(&kernel, &mut overflowed) => ended,
                () = self.shutdown.cancelled() => return,
            };
            self.watching.store(false, Ordering::Relaxed);
            tracing::debug!(why = %ended, "watch stream ended");
            // What happened meanwhile is not known.
            self.extras.lock().forget(None);
            overflowed |= kernel.try_send(Stale::Pushed(WatchEvent::Reset(Empty {}))).is_err();
            // The master may be another one, which must hear what is open and locked before anything else.
            loop {
                tokio::select! {
                    () = tokio::time::sleep(WATCH_PAUSE) => {}
                    () = self.shutdown.cancelled() => return,
                }
                if self.renew_session(self.master.session()).await {
                    break;
                }
            }
        }
    }

    async fn watch_once(&self, kernel: &ToKernel, overflowed: &mut bool) -> FsError {
        let mut stream = match self.master.watch().await {
            Ok(stream) => stream,
            Err(error) => return error,
        };
        self.watching.store(true, Ordering::Relaxed);
        loop {
            let batch = match tokio::time::timeout(WATCH_SILENCE, stream.next()).await {
                Err(_) => return FsError::new(ErrorKind::Timeout, format!("watch: silence for {WATCH_SILENCE:?}")),
                Ok(None) => return FsError::new(ErrorKind::Unavailable, "watch: the master ended the stream"),
                Ok(Some(Err(error))) => return error,
                Ok(Some(Ok(batch))) => batch,
            };
            *overflowed |= self.kernel_missed.swap(false, Ordering::AcqRel);
            if *overflowed {
                *overflowed = kernel.try_send(Stale::Pushed(WatchEvent::Reset(Empty {}))).is_err();
            }
            for event in batch.items.into_iter().filter_map(|item| item.event) {
                self.note(&event);
                *overflowed |= kernel.try_send(Stale::Pushed(event)).is_err();
            }
        }
    }

    /// What our own memory of closed files and listed directories must forget.
    fn note(&self, event: &WatchEvent) {
        match event {
            WatchEvent::Inode(changed) => self.extras.lock().forget(Some(changed.inode)),
            WatchEvent::Reset(_) => self.extras.lock().forget(None),
            WatchEvent::Entry(_) | WatchEvent::LockGranted(_) => {}
        }
        match event {
            WatchEvent::Inode(changed) if changed.data => {
                let node = self.nodes.newest(changed.inode);
                self.closed.lock().pop(&node);
            }
            WatchEvent::Inode(_) => {}
            WatchEvent::Entry(changed) => drop(self.listed.lock().pop(&changed.parent)),
            WatchEvent::Reset(_) => {
                self.closed.lock().clear();
                self.listed.lock().clear();
                self.locks.wake_all();
            }
            WatchEvent::LockGranted(granted) => self.locks.wake(granted.wait_id),
        }
    }

    async fn keep_alive_loop(&self) {
        let mut pause = Duration::from_secs(5);
        loop {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.shutdown.cancelled() => return,
            }
            let session = self.master.session();
            match self.master.once(&self.own_caller(), KeepAlive {}).await {
                Ok(_) => pause = Duration::from_secs(5),
                Err(error) if error.kind == ErrorKind::Stale => drop(self.renew_session(session).await),
                Err(error) => {
                    tracing::debug!(%error, "keep the session alive");
                    pause = Duration::from_secs(1);
                }
            }
        }
    }

    /// Completes what is open and ends the session. For after the kernel let go of the mount.
    pub async fn stop(&self) {
        self.shutdown.cancel();
        self.stale.lock().take();
        let left: Vec<_> = self.handles.read().keys().copied().collect();
        self.tasks.close();
        let ended = async {
            // Each may wait for the home of its file.
            for fh in left {
                self.release(fh).await;
            }
            self.finish_all().await;
            self.tasks.wait().await;
            let master: &MasterClient = &self.master;
            master.once(&self.own_caller(), CloseSession {}).await
        };
        match tokio::time::timeout(END_TIME_MAX, ended).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::info!(%error, "end the session; the master will expire it"),
            Err(_) => tracing::warn!("ending the session took more than {END_TIME_MAX:?}; the master will expire it"),
        }
    }
}

/// Hands changes to the kernel, in order.
fn invalidate(changes: &std::sync::mpsc::Receiver<Stale>, kernel: &impl KernelCache, removed: &Removed, nodes: &Nodes) {
    while let Ok(stale) = changes.recv() {
        let change = match stale {
            Stale::Pushed(change) => change,
            Stale::Superseded { node } => {
                kernel.names(node);
                kernel.inode(node, false);
                continue;
            }
            Stale::Node { node, data, done } => {
                kernel.inode(node, data);
                // Who waited may have gone.
                let _ = done.send(());
                continue;
            }
        };
        match change {
            WatchEvent::Inode(changed) => {
                kernel.inode(nodes.newest(changed.inode), changed.data);
                // The bytes of before stay theirs.
                for node in nodes.older_of(changed.inode) {
                    kernel.inode(node, false);
                }
            }
            WatchEvent::Entry(changed) => {
                let child = nodes.newest(changed.child);
                if let Some(attr) = changed.removed.filter(|_| kernel.knows(child)) {
                    removed.keep(*attr);
                }
                kernel.entry(changed.parent, &changed.name, child);
            }
            WatchEvent::Reset(_) => kernel.reset(|node| nodes.older(node).is_some()),
            // Not about the kernel.
            WatchEvent::LockGranted(_) => {}
        }
    }
}
