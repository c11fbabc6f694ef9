//! Times of last access, by relatime: a read counts if it is the first since a change, or a day has passed.
//!
//! What was read is gathered and told to the master once a second. That is advice: the master decides, and nothing waits for
//! it. Reads through passthrough are not seen here, so opening a file for reading counts as reading it. Directories and
//! symbolic links are left out.

use super::Vfs;
use alluxio_proto::master::{ACCESSED_MAX, Accessed, Empty, Op, TouchAtimes};
use alluxio_proto::types::Attr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How often the master is told.
const PAUSE: Duration = Duration::from_secs(1);

impl Vfs {
    /// A file was read.
    pub(super) fn note_access(&self, inode: u64) {
        if self.options.read_only {
            return;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now_ns = i64::try_from(now.as_nanos()).unwrap_or(i64::MAX);
        if !self.extras.lock().read_at(inode, now_ns) {
            return;
        }
        let mut accessed = self.accessed.lock();
        if accessed.len() < ACCESSED_MAX || accessed.contains_key(&inode) {
            accessed.insert(inode, now_ns);
        }
    }

    /// A time of access that the master does not know yet.
    pub(super) fn patch_atime(&self, attr: &mut Attr) {
        if let Some(read_ns) = self.accessed.lock().get(&attr.inode) {
            attr.atime_ns = attr.atime_ns.max(*read_ns);
        }
    }

    pub(super) async fn tell_accesses(self: Arc<Self>) {
        let mut is_last = false;
        while !is_last {
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = self.shutdown.cancelled() => is_last = true,
            }
            let accessed: Vec<Accessed> = {
                let accessed = self.accessed.lock();
                let pairs = accessed.iter();
                pairs
                    .map(|(inode, atime_ns)| Accessed {
                        inode: *inode,
                        atime_ns: *atime_ns,
                    })
                    .collect()
            };
            if accessed.is_empty() {
                continue;
            }
            let op = Op::TouchAtimes(TouchAtimes {
                files: accessed.clone(),
            });
            if let Err(error) = self.master.once::<Empty>(&self.own_caller(), op).await {
                tracing::debug!(%error, "tell the master what was read; it is not told again");
            }
            let mut pending = self.accessed.lock();
            for told in accessed {
                if pending.get(&told.inode) == Some(&told.atime_ns) {
                    pending.remove(&told.inode);
                }
            }
        }
    }
}
