//! Names that are looked up again, since a call by inode came too late.
//!
//! A kernel that hears ESTALE looks the names of its path up again and repeats its call, once. Where a name is replaced again
//! and again the second call may come too late as well, and its caller would see ESTALE. So what such a caller finds is
//! held until that call must have come: a file is opened at the master, which keeps what is open, and a symbolic link is
//! read. The caller is known by its thread.

use super::Vfs;
use alluxio_common::sync::Mutex;
use alluxio_proto::master::{LinkTarget, Open, Opened, ReadLink};
use alluxio_proto::types::{Attr, Caller, FileKind};
use alluxio_proto::{ErrorKind, FsResult};
use bytes::Bytes;
use lru::LruCache;
use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// Threads that are remembered to have come too late.
const CALLERS_MAX: NonZeroUsize = NonZeroUsize::new(1024).expect("not zero");
/// For how long. The kernel repeats its call at once; this is for a machine that is busy.
const REMEMBERED_FOR: Duration = Duration::from_secs(2);
/// How long what was found is held.
const HELD_FOR: Duration = Duration::from_secs(2);
/// What is held at once; past it names are only looked up.
const HELD_MAX: usize = 4096;
/// Symbolic links that are remembered.
const LINKS_MAX: NonZeroUsize = NonZeroUsize::new(1024).expect("not zero");
/// Looks for a name that names something else each time.
pub(super) const ROUNDS_MAX: u32 = 64;

/// Who came too late, and what is held for them.
pub(super) struct Retries {
    /// There are callers, for those who look names up.
    any: AtomicBool,
    callers: Mutex<LruCache<u32, Instant>>,
    links: Mutex<LruCache<u64, Bytes>>,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    /// Opened for reading at the master, until when.
    openings: VecDeque<(Instant, Opening)>,
    /// A task closes them.
    attended: bool,
}

/// One of the openings that the master knows of.
#[derive(Clone, Copy)]
struct Opening {
    inode: u64,
    open_id: u64,
}

impl Default for Retries {
    fn default() -> Self {
        Retries {
            any: AtomicBool::new(false),
            callers: Mutex::new(LruCache::new(CALLERS_MAX)),
            links: Mutex::new(LruCache::new(LINKS_MAX)),
            held: Mutex::default(),
        }
    }
}

impl Retries {
    fn note(&self, pid: u32) {
        self.callers.lock().put(pid, Instant::now());
        self.any.store(true, Ordering::Release);
    }

    /// Whether a thread has come too late just now.
    fn expects(&self, pid: u32) -> bool {
        if !self.any.load(Ordering::Acquire) {
            return false;
        }
        let mut callers = self.callers.lock();
        while let Some((_, at)) = callers.peek_lru()
            && at.elapsed() > REMEMBERED_FOR
        {
            callers.pop_lru();
        }
        if callers.is_empty() {
            self.any.store(false, Ordering::Release);
            self.links.lock().clear();
        }
        callers.contains(&pid)
    }
}

impl Vfs {
    /// A call of a thread named an inode that is gone, or is another node now: it was told to look the name up again.
    pub fn came_late(&self, pid: u32) {
        self.retries.note(pid);
    }

    /// Finds a name for a thread; what is found is held if the thread has come too late for what it found before.
    ///
    /// # Errors
    /// As [`Vfs::lookup`].
    pub async fn lookup_for(self: &Arc<Self>, caller: &Caller, pid: u32, parent: u64, name: &[u8]) -> FsResult<Attr> {
        if !self.retries.expects(pid) {
            return self.lookup(caller, parent, name).await;
        }
        let mut attr = self.lookup(caller, parent, name).await?;
        for _ in 0..ROUNDS_MAX {
            match self.hold(attr).await? {
                Some(held) => return Ok(held),
                None => attr = self.lookup(caller, parent, name).await?,
            }
        }
        Ok(attr)
    }

    /// Holds what was found; `None` if it is gone.
    async fn hold(self: &Arc<Self>, attr: Attr) -> FsResult<Option<Attr>> {
        let inode = attr.inode;
        let held = match attr.kind() {
            FileKind::File => self.hold_file(inode).await,
            FileKind::Symlink => {
                let read = self.read(&self.own_caller(), ReadLink { inode }).await;
                read.map(|LinkTarget { target }| drop(self.retries.links.lock().put(inode, target)))
            }
            // What was removed while the kernel knew it is remembered anyway.
            _ => Ok(()),
        };
        match held {
            Ok(()) => Ok(Some(attr)),
            Err(error) if error.kind == ErrorKind::Gone => Ok(None),
            Err(error) => {
                tracing::debug!(%error, inode, "hold what was looked up again");
                Ok(Some(attr))
            }
        }
    }

    async fn hold_file(self: &Arc<Self>, inode: u64) -> FsResult<()> {
        if self.retries.held.lock().openings.len() >= HELD_MAX {
            return Ok(());
        }
        let open_id = self.reads.begin(inode);
        let open = Open {
            inode,
            read: true,
            open_id,
            ..Default::default()
        };
        let opened: FsResult<Opened> = self.master.once(&self.own_caller(), open).await;
        if let Err(error) = opened {
            self.open_failed(inode, open_id, &error).await;
            return Err(error);
        }
        let mut held = self.retries.held.lock();
        let opening = Opening { inode, open_id };
        held.openings.push_back((Instant::now() + HELD_FOR, opening));
        if !std::mem::replace(&mut held.attended, true) {
            self.tasks.spawn(Arc::clone(self).let_go());
        }
        Ok(())
    }

    /// Closes what was held for long enough, until there is no more. The end of the session closes the rest.
    async fn let_go(self: Arc<Self>) {
        loop {
            let due = {
                let mut held = self.retries.held.lock();
                let due = held.openings.front().copied();
                held.attended = due.is_some();
                due
            };
            let Some((at, opening)) = due else { return };
            tokio::select! {
                () = tokio::time::sleep_until(at) => {}
                () = self.shutdown.cancelled() => return,
            }
            self.retries.held.lock().openings.pop_front();
            self.close_at_master(opening.inode, opening.open_id).await;
        }
    }

    /// Target of a symbolic link that went between the look at its name and the call that reads it.
    pub(super) fn link_looked_up_again(&self, inode: u64) -> Option<Bytes> {
        self.retries.links.lock().get(&inode).cloned()
    }
}
