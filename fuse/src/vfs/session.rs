//! The session at the master: kept alive, resumed, ended; and the watch stream that keeps kernel caches true.

use super::Vfs;
use alluxio_client::MasterClient;
use alluxio_proto::master::*;
use alluxio_proto::types::{Attr, FileKind};
use alluxio_proto::{ErrorKind, FsError, FsResult, SessionId};
use futures::StreamExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Pause before the watch stream is opened again.
const WATCH_PAUSE: Duration = Duration::from_millis(200);
/// The stream is taken for dead after this silence; heartbeats come each second.
const WATCH_SILENCE: Duration = Duration::from_secs(4);
/// Invalidations that wait for the kernel; past it everything is invalidated instead.
const PENDING_MAX: usize = 16_384;
/// How long the session ends may take at unmount.
const END_TIME_MAX: Duration = Duration::from_secs(30);

/// The kernel's caches. Calls may block while the kernel waits for the daemon, so they come from a thread of their own.
pub trait KernelCache: Send + 'static {
    /// Attributes of an inode are stale; its pages too if `data`.
    fn inode(&self, inode: u64, data: bool);
    /// A name in a directory is stale; `child` went with it, if not 0.
    fn entry(&self, parent: u64, name: &[u8], child: u64);
    /// Everything is stale.
    fn reset(&self);
}

impl Vfs {
    pub(super) async fn open_session(&self, resume: u64) -> FsResult<SessionInfo> {
        let open_inodes = self.inodes.lock().keys().copied().collect();
        let open = OpenSession {
            client: self.options.client.clone(),
            host: self.options.host.clone(),
            resume,
            open_inodes,
        };
        let info: SessionInfo = self.master.read(&self.own_caller(), Op::OpenSession(open)).await?;
        self.master.set_session(SessionId(info.session));
        Ok(info)
    }

    pub(super) async fn find_root(&self) -> FsResult<Attr> {
        let path = self.options.path.clone();
        let resolve = ResolvePath {
            path: path.clone().into(),
            refresh: false,
        };
        let attr: Attr = self
            .master
            .read(&self.own_caller(), Op::ResolvePath(resolve))
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
        // The thread ends when the sender, held by the watch task, is gone.
        std::thread::Builder::new()
            .name("fuse-invalidate".to_owned())
            .spawn(move || invalidate(&receive, &kernel))
            .map_or_else(
                |error| tracing::error!(%error, "start the invalidation thread: kernel caches live one second only"),
                |_| {
                    let vfs = Arc::clone(self);
                    self.tasks.spawn(async move { vfs.watch_loop(send).await });
                },
            );
        let vfs = Arc::clone(self);
        self.tasks.spawn(async move { vfs.keep_alive_loop().await });
    }

    async fn watch_loop(&self, kernel: std::sync::mpsc::SyncSender<WatchEvent>) {
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
            overflowed |= kernel.try_send(WatchEvent::Reset(Empty {})).is_err();
            tokio::time::sleep(WATCH_PAUSE).await;
            if ended.kind == ErrorKind::Stale {
                self.renew_session().await;
            }
        }
    }

    async fn watch_once(&self, kernel: &std::sync::mpsc::SyncSender<WatchEvent>, overflowed: &mut bool) -> FsError {
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
            if *overflowed {
                *overflowed = kernel.try_send(WatchEvent::Reset(Empty {})).is_err();
            }
            for event in batch.items.into_iter().filter_map(|item| item.event) {
                self.note(&event);
                *overflowed |= kernel.try_send(event).is_err();
            }
        }
    }

    /// What our own memory of closed files and listed directories must forget.
    fn note(&self, event: &WatchEvent) {
        match event {
            WatchEvent::Inode(changed) => self.extras.lock().forget(Some(changed.inode)),
            WatchEvent::Reset(_) => self.extras.lock().forget(None),
            WatchEvent::Entry(_) => {}
        }
        match event {
            WatchEvent::Inode(changed) if changed.data => drop(self.closed.lock().pop(&changed.inode)),
            WatchEvent::Inode(_) => {}
            WatchEvent::Entry(changed) => drop(self.listed.lock().pop(&changed.parent)),
            WatchEvent::Reset(_) => {
                self.closed.lock().clear();
                self.listed.lock().clear();
            }
        }
    }

    async fn keep_alive_loop(&self) {
        let mut pause = Duration::from_secs(5);
        loop {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.shutdown.cancelled() => return,
            }
            match self
                .master
                .once::<Empty>(&self.own_caller(), Op::KeepAlive(Empty {}))
                .await
            {
                Ok(_) => pause = Duration::from_secs(5),
                Err(error) if error.kind == ErrorKind::Stale => self.renew_session().await,
                Err(error) => {
                    tracing::debug!(%error, "keep the session alive");
                    pause = Duration::from_secs(1);
                }
            }
        }
    }

    /// Takes the session up again; what it held is asserted anew, or was lost with it.
    async fn renew_session(&self) {
        let old = self.master.session();
        match self.open_session(old.get()).await {
            Ok(info) if info.resumed => {}
            Ok(info) => tracing::warn!(
                "session {old} ended at the master; session {} begins, and files open for writing are stale",
                info.session
            ),
            Err(error) => tracing::debug!(%error, "resume session {old}"),
        }
    }

    /// Completes what is open and ends the session. For after the kernel let go of the mount.
    pub async fn stop(&self) {
        self.shutdown.cancel();
        let left: Vec<_> = self.handles.lock().keys().copied().collect();
        for fh in left {
            self.release(fh).await;
        }
        self.tasks.close();
        let ended = async {
            self.tasks.wait().await;
            let master: &MasterClient = &self.master;
            master
                .once::<Empty>(&self.own_caller(), Op::CloseSession(Empty {}))
                .await
        };
        match tokio::time::timeout(END_TIME_MAX, ended).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::info!(%error, "end the session; the master will expire it"),
            Err(_) => tracing::warn!("ending the session took more than {END_TIME_MAX:?}; the master will expire it"),
        }
    }
}

/// Hands changes to the kernel, in order.
fn invalidate(changes: &std::sync::mpsc::Receiver<WatchEvent>, kernel: &impl KernelCache) {
    while let Ok(change) = changes.recv() {
        match change {
            WatchEvent::Inode(changed) => kernel.inode(changed.inode, changed.data),
            WatchEvent::Entry(changed) => kernel.entry(changed.parent, &changed.name, changed.child),
            WatchEvent::Reset(_) => kernel.reset(),
        }
    }
}
