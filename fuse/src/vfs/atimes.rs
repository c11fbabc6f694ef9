//! Times of last access, by relatime: a read counts if it is the first since a change, or a day has passed.
//!
//! What was read is gathered and told to the master once a second. That is advice: the master decides, nothing waits for it,
//! and where more is read than [`PENDING_MAX`] the rest does not count. Until it is told, this mount shows it already.
//!
//! Reads that the kernel does by itself, on a local file or out of pages that it has kept, are not seen here: there opening
//! a file for reading counts as reading it. The local file's own atime would not say more: the worker reads that file too,
//! and its file system may well be mounted `noatime`. Elsewhere the first read of each opening counts.
//!
//! **Left out:** directories and symbolic links, reads of a file while it stays open after its first.

use super::{DataPath, Vfs};
use alluxio_common::sync::Mutex;
use alluxio_proto::master::{ACCESSED_MAX, Accessed, Empty, TouchAtimes};
use alluxio_proto::types::Attr;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How often the master is told.
const PAUSE: Duration = Duration::from_secs(1);
/// Files of which it is remembered that they were read; about 32 bytes each.
const PENDING_MAX: usize = 16_384;

/// When files were read, as far as the master does not know.
#[derive(Default)]
pub(super) struct Accesses(Mutex<HashMap<u64, i64>>);

impl Accesses {
    fn at(&self, inode: u64) -> Option<i64> {
        self.0.lock().get(&inode).copied()
    }

    fn note(&self, inode: u64, now_ns: i64) {
        let mut pending = self.0.lock();
        if pending.len() < PENDING_MAX || pending.contains_key(&inode) {
            pending.insert(inode, now_ns);
        }
    }

    /// atime is set to something: what was read before is nothing any more.
    pub fn forget(&self, inode: u64) {
        self.0.lock().remove(&inode);
    }

    /// Some of what the master is to be told; nothing is left out for ever, since it goes by [`Self::told`].
    fn some(&self) -> Vec<Accessed> {
        let pending = self.0.lock();
        let some = pending.iter().take(ACCESSED_MAX);
        some.map(|(&inode, &atime_ns)| Accessed { inode, atime_ns }).collect()
    }

    fn told(&self, files: &[Accessed]) {
        let mut pending = self.0.lock();
        for file in files {
            if pending.get(&file.inode) == Some(&file.atime_ns) {
                pending.remove(&file.inode);
            }
        }
    }
}

/// Whether opening a file is all that will be seen of its being read.
pub(super) fn reads_unseen(flags: i32, data: &DataPath) -> bool {
    let may_read = flags & libc::O_ACCMODE != libc::O_WRONLY && flags & libc::O_TRUNC == 0;
    let by_kernel = matches!(data, DataPath::Local(_) | DataPath::Daemon { keep_cache: true, .. });
    may_read && by_kernel && flags & libc::O_NOATIME == 0
}

impl Vfs {
    /// A file was read.
    pub(super) fn note_access(&self, inode: u64) {
        if self.options.read_only || self.options.noatime {
            return;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now_ns = i64::try_from(now.as_nanos()).unwrap_or(i64::MAX);
        let pending = self.accesses.at(inode);
        if self.extras.lock().read_at(inode, pending, now_ns) {
            self.accesses.note(inode, now_ns);
        }
    }

    /// A time of access that the master does not know yet.
    pub(super) fn patch_atime(&self, attr: &mut Attr) {
        // As the master will see it: what was read before the last change of the inode is nothing to it.
        if let Some(read_ns) = self.accesses.at(attr.inode).filter(|read_ns| *read_ns > attr.ctime_ns) {
            attr.atime_ns = attr.atime_ns.max(read_ns);
        }
    }

    /// Tells the master, until the mount stops.
    pub(super) async fn tell_accesses(self: Arc<Self>) {
        let mut is_last = false;
        while !is_last {
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = self.shutdown.cancelled() => is_last = true,
            }
            self.tell_all_accesses().await;
        }
    }

    async fn tell_all_accesses(&self) {
        loop {
            let files = self.accesses.some();
            if files.is_empty() {
                return;
            }
            let op = TouchAtimes { files: files.clone() };
            match self.master.once(&self.own_caller(), op).await {
                Ok(Empty {}) => self.accesses.told(&files),
                Err(error) if error.is_retryable() => {
                    tracing::debug!(%error, "tell the master what was read; it is told later");
                    return;
                }
                Err(error) => {
                    tracing::info!(%error, files = files.len(), "tell the master what was read; it is not told again");
                    self.accesses.told(&files);
                }
            }
        }
    }
}
