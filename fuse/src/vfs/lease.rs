//! Opening for writing: the lease of the master, the open version at its home, and what becomes of those who have it open.

use super::Vfs;
use super::inode::{Home, Marks, OpenInode, OpenState, Transition, WriteState};
use super::local::{LocalFile, Stamp, same_file};
use super::open::{DataPath, incomplete};
use super::pending_closes::Ending;
use super::times::ShownTimes;
use alluxio_client::workers::new_change_number;
use alluxio_common::descriptors;
use alluxio_common::sync::Mutex;
use alluxio_proto::master::{Open, Opened};
use alluxio_proto::types::{Caller, WriteType};
use alluxio_proto::worker::OpenWrite;
use alluxio_proto::{ErrorKind, FsError, FsResult};
use bytes::Bytes;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Leases asked for in one open, each after the home had lost what the lease was based on.
const LEASE_ROUNDS_MAX: u32 = 3;

/// What an opening for writing is to be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    /// It begins with emptying the file.
    pub truncate: bool,
    /// Its descriptor can neither be read nor mapped.
    pub write_only: bool,
}

impl Wanted {
    /// By the flags of open(2).
    pub fn of(flags: i32) -> Self {
        Self {
            truncate: flags & libc::O_TRUNC != 0,
            write_only: flags & libc::O_ACCMODE == libc::O_WRONLY,
        }
    }
}

impl Vfs {
    pub(super) async fn open_for_writing(
        &self,
        caller: &Caller,
        open: &Arc<OpenInode>,
        state: &mut Transition<'_>,
        wanted: Wanted,
    ) -> FsResult<DataPath> {
        let truncate = wanted.truncate;
        if let Some(write) = &mut state.write {
            // A writer of this mount has it open: everybody writes the one open version.
            if truncate {
                let request = alluxio_proto::worker::SetLength {
                    inode: open.id,
                    version: write.version,
                    length: 0,
                    number: new_change_number(),
                };
                write.home.worker.ask(request).await?;
                write.marks.set_dirty();
            }
            return self.writers_path(open.id, state, wanted.write_only).await;
        }
        let request = Open {
            inode: open.id,
            read: false,
            write: true,
            truncate,
            write_type: self.options.write_type as i32,
            ..Default::default()
        };
        for round in 1.. {
            self.settle(open.id).await?;
            let opened = self.change(caller, request.clone()).await;
            let opened: Opened = opened.inspect_err(|error| self.doubt_open(open.id, error))?;
            let base = opened.attr.as_ref().map_or(0, |attr| attr.version);
            match self.adopt_lease(open, state, opened, wanted).await {
                Ok(data @ DataPath::Local(_)) => {
                    state.publish();
                    // What the kernel was told of it was to be believed for longer than stores into a mapping allow.
                    self.forget_soon(open.node);
                    return Ok(data);
                }
                Err(error) if matches!(error.kind, ErrorKind::DataLost | ErrorKind::VersionMismatch) => {
                    let now: Opened = self.report_change(open.id, base).await?;
                    if now.attr.is_some_and(|attr| attr.version != base) {
                        // The kernel looks the name up anew when it hears this, and writes what is there now.
                        let why = format!("open inode {} for writing: its object is another one now", open.id);
                        return Err(FsError::new(ErrorKind::Stale, why));
                    }
                    // Persisted and evicted since the master was asked: now it says where it is in the under-storage.
                    tracing::debug!(%error, inode = open.id, round, "the home has the file no more; asking again");
                    if round == LEASE_ROUNDS_MAX {
                        return Err(error);
                    }
                }
                other => return other,
            }
        }
        Err(incomplete("Open"))
    }

    /// Makes or joins the open version at its home. `Gone`: it is another file's than what is open here; it has another node now.
    pub(super) async fn adopt_lease(
        &self,
        open: &Arc<OpenInode>,
        state: &mut OpenState,
        opened: Opened,
        wanted: Wanted,
    ) -> FsResult<DataPath> {
        match self.try_adopt(open, state, opened, wanted).await {
            Ok(Some(path)) => Ok(path),
            // What those have who opened it before is not what is to be written.
            Ok(None) => {
                let source_is_old = state.source_is_old;
                let error = self.supersede(open, state);
                // As any other that was opened and closed.
                self.finish_write(open, state).await;
                state.source_is_old = source_is_old;
                Err(error)
            }
            Err(error) => {
                state.write = None;
                state.drop_unused();
                self.close_write_at_master(open.id, Ending::Abandoned).await;
                Err(error)
            }
        }
    }

    /// `None`: what is open here is another file's.
    async fn try_adopt(
        &self,
        open: &Arc<OpenInode>,
        state: &mut OpenState,
        opened: Opened,
        wanted: Wanted,
    ) -> FsResult<Option<DataPath>> {
        let truncate = wanted.truncate;
        let attr = opened.attr.unwrap_or_default();
        let (committed_version, mtime_ns) = (attr.version, attr.mtime_ns);
        let lease = opened.write.ok_or_else(|| incomplete("Open"))?;
        let address = lease.home.clone().ok_or_else(|| incomplete("Open"))?;
        let home = Arc::new(Home {
            worker: self.workers.worker(&address).await?,
            is_local: self.workers.is_local(&address),
            address,
        });
        let may_pass = self.is_passthrough() && home.is_local && (state.opens == 0 || state.local.is_some());
        let (version, write_type) = (
            lease.version,
            WriteType::try_from(lease.write_type).unwrap_or(WriteType::AsyncThrough),
        );
        let request = OpenWrite {
            inode: open.id,
            lease: Some(lease),
            truncate,
            want_fd: may_pass,
            needs_fd: state.opens > 0 && state.local.is_some(),
            write_only: wanted.write_only,
        };
        let response = home.worker.transfer(request, Bytes::new()).await?;
        let opened = response.reply;
        let (length, home_mtime_ns, is_watched) = (opened.length, opened.mtime_ns, opened.watched);
        let to_spare = |fd: &OwnedFd| state.local.is_some() || !descriptors::are_scarce(fd);
        let local = response.fd.filter(to_spare).map(LocalFile::new);
        let is_same = same_file(state.local.as_ref(), local.as_ref())?;
        let conflicts = state.opens > 0
            && match (&state.local, &local) {
                (Some(_), Some(_)) => !is_same,
                (Some(_), None) => true,
                // Pages and reads of those who have it open are of the version that they opened.
                (None, _) => !state.follows() && state.source.version != committed_version,
            };
        if state.opens == 0 {
            state.local = local;
        }
        let as_opened = match &state.local {
            Some(file) if !conflicts => file.stamp()?,
            _ => Stamp {
                length,
                mtime_ns: home_mtime_ns,
            },
        };
        // Content that was there before and is kept needs no commit until it changes.
        let committed = (!truncate).then_some(as_opened);
        let times = ShownTimes::new(mtime_ns, attr.ctime_ns, committed);
        state.write = Some(WriteState {
            version,
            home,
            write_type,
            writers: 0,
            committed,
            opened: as_opened,
            as_created: None,
            created_ns: 0,
            closed_empty: false,
            is_half_committed: false,
            marks: Arc::new(Marks::default()),
            may_be_mapped: false,
            known_mapped: false,
            is_watched,
            times: Arc::new(Mutex::new(times)),
        });
        if conflicts {
            return Ok(None);
        }
        (state.foreign_lease, state.mtime_ns) = (None, mtime_ns);
        Ok(Some(self.shared_path(state, true)))
    }

    /// The kernel could not take the local file: this open, the first of its inode, goes through the daemon instead.
    pub async fn demote(&self, fh: u64) -> FsResult<DataPath> {
        let handle = self.handle(fh)?;
        let mut state = handle.inode.transition().await;
        if state.local.as_ref().is_some_and(|file| file.kernel.get().is_none()) {
            state.local = None;
            // Changes are no longer seen by fstat.
            if let Some(write) = state.write.as_ref().filter(|write| write.committed.is_none()) {
                write.marks.set_dirty();
            }
        }
        Ok(self
            .shared_path(&state, false)
            .for_appending(handle.writable && handle.append))
    }
}
