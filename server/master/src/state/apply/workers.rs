//! Workers and what they hold.

use alluxio_proto::{ErrorKind, InodeId, WorkerId};

use super::{Work, take_id};
use crate::state::command::{RegisterWorker, ReportCached};
use crate::state::fault::{Outcomes, refuse};
use crate::state::inode::{CachedAt, LOCATIONS_MAX};
use crate::state::records::{Freed, WorkerRecord};
use crate::state::tables;
use crate::state::view::View;

impl Work<'_, '_> {
    pub(super) fn register_worker(&mut self, c: RegisterWorker) -> Outcomes<()> {
        let known = c.id != 0 && self.tx.get(&tables::worker(WorkerId(c.id)))?.is_some();
        let id = match known {
            true => c.id,
            // One that was registered with a former life of this cluster gets a new id; what it holds it reports.
            false => take_id(&mut self.tx.counters_mut().worker_high, 0, "worker")?,
        };
        let mut record = WorkerRecord {
            id,
            address: c.address,
            version: c.version,
            registered_ns: self.now_ns,
        };
        if let Some(address) = &mut record.address {
            address.worker_id = id;
        }
        self.tx.put_record(tables::worker(WorkerId(id)), &record);
        self.applied.id = id;
        Ok(())
    }

    pub(super) fn report_cached(&mut self, c: ReportCached) -> Outcomes<()> {
        if self.tx.get(&tables::worker(WorkerId(c.worker_id)))?.is_none() {
            return refuse(ErrorKind::NotFound, format!("worker {} is not registered", c.worker_id));
        }
        for file in c.files {
            let Some(inode) = self.tx.inode_opt(InodeId(file.inode))? else {
                self.free(file.inode, 0, c.worker_id);
                continue;
            };
            // The open version, above the committed one, is worth keeping too: it is about to be committed.
            if file.version < inode.version && file.bytes > 0 {
                self.free(file.inode, file.version, c.worker_id);
                continue;
            }
            // That it has the open version open is no news, and must not hide that it holds the committed one.
            let held = |at: &CachedAt| at.worker == c.worker_id && at.version == inode.version;
            if file.version > inode.version && file.bytes > 0 && inode.locations.iter().any(held) {
                continue;
            }
            let mut inode = (*inode).clone();
            // That an older version is gone, which a worker also says when it opens that for writing, is no news of what was
            // committed since: such a report may be slower than the commit.
            let is_late = file.version < inode.version;
            inode
                .locations
                .retain(|at| at.worker != c.worker_id || (is_late && at.version > file.version));
            if file.bytes > 0 && inode.locations.len() < LOCATIONS_MAX {
                inode.locations.push(CachedAt {
                    worker: c.worker_id,
                    version: file.version,
                    bytes: file.bytes,
                });
            }
            self.tx.put_inode(inode);
        }
        Ok(())
    }

    fn free(&mut self, inode: u64, version: u64, worker: u64) {
        self.applied.freed.push(Freed {
            inode,
            version,
            workers: vec![worker],
        });
    }
}
