//! From what was written to what is committed: flush, fsync, release.
//!
//! `flush` comes for every descriptor that is closed, also for duplicates while others go on writing (every child of a
//! shell closes its copies). So a flush seals and commits what changed since the last commit, and the file stays open for
//! writing as the next version. The last release lets go of it a moment later, off the path of any system call.

use super::Vfs;
use super::open::{Handle, OpenInode, OpenState, Stamp, WriteState};
use alluxio_proto::master::{Close, Commit, Counted, Empty, GetPath, MarkDurable, Op, PathReply, WaitPersisted};
use alluxio_proto::types::{Attr, WriteType};
use alluxio_proto::worker::{OpenStat, Seal, SetTimes, StatOpen, SyncOpen, WorkerReplyBody, WorkerRequest};
use alluxio_proto::{ErrorKind, FsError, FsResult};
use bytes::Bytes;
use std::sync::Arc;

/// Commits that may find the version moved on by other mounts, each of which has then committed once: a stall of theirs.
const COMMIT_ROUNDS_MAX: usize = 64;

impl Vfs {
    /// What close(2) waits for: what was written so far is committed.
    ///
    /// # Errors
    /// Those of worker, master and, for CACHE_THROUGH and THROUGH, under-storage.
    pub async fn flush(&self, fh: u64) -> FsResult<()> {
        let handle = self.handle(fh)?;
        if !handle.writable {
            return Ok(());
        }
        let mut state = handle.inode.state.lock().await;
        self.commit(&handle.inode, &mut state).await
    }

    /// What fsync(2) waits for: what was written so far survives a crash, and is in the under-storage where the write type
    /// says so.
    ///
    /// # Errors
    /// As [`Vfs::flush`].
    pub async fn fsync(&self, fh: u64, data_only: bool) -> FsResult<()> {
        let handle = self.handle(fh)?;
        let mut state = handle.inode.state.lock().await;
        let Some(write) = &mut state.write else { return Ok(()) };
        if matches!(write.write_type, WriteType::CacheThrough | WriteType::Through) {
            return self.commit(&handle.inode, &mut state).await;
        }
        let request = SyncOpen {
            inode: handle.inode.id,
            version: write.version,
            data_only,
        };
        let stat = open_stat(write, request.into()).await?;
        let stamp = Stamp {
            length: stat.length,
            mtime_ns: stat.mtime_ns,
        };
        let known = [write.durable, write.committed].contains(&Some(stamp)) && !write.dirty;
        if known {
            return Ok(());
        }
        let mark = MarkDurable {
            inode: handle.inode.id,
            version: write.version,
            length: stat.length,
            mtime_ns: stat.mtime_ns,
        };
        let Empty {} = self.change(&self.own_caller(), Op::MarkDurable(mark)).await?;
        write.durable = Some(stamp);
        Ok(())
    }

    /// Closes a handle. What is left to do happens in the background; errors were reported by flush.
    pub async fn release(&self, fh: u64) {
        let Some(handle) = self.handles.lock().remove(&fh) else {
            return;
        };
        let open = Arc::clone(&handle.inode);
        let mut state = open.state.lock().await;
        state.opens = state.opens.saturating_sub(1);
        let was_writer = handle.writable;
        if let Some(write) = state.write.as_mut().filter(|_| was_writer) {
            write.writers = write.writers.saturating_sub(1);
        }
        if !was_writer && state.master_opens > 0 {
            state.master_opens -= 1;
            self.close_at_master(open.id).await;
        }
        drop::<Arc<Handle>>(handle);
        if state.opens == 0 {
            // The backing file goes with the last open, and with it the inode's way of IO.
            if state.write.is_none() {
                state.local = None;
            }
            let mut closed = self.closed.lock();
            match state.pages_are_old {
                true => drop(closed.pop(&open.id)),
                false => drop(closed.put(open.id, state.source.version)),
            }
        }
        self.forget_if_unused(&open, &state);
    }

    /// The last writer is gone: seal what changed since the last commit, and close the open version.
    pub(super) async fn finish_write(&self, open: &Arc<OpenInode>, state: &mut OpenState) {
        let Some(write) = state.write.take() else { return };
        *open.live.lock() = None;
        // Readers that have it open read on.
        state.source_is_old = state.opens > 0;
        // Who still reads it has its local file.
        if write.closed_empty && state.opens == 0 && self.finish_empty(open.id, &write).await {
            return;
        }
        let seal = Seal {
            inode: open.id,
            version: write.version,
            next: 0,
            release: true,
            closed_empty: false,
        };
        let result = match open_stat(&write, seal.into()).await {
            Ok(stat) if stat.changed || write.committed.is_none() => {
                let stat = write.committed_as(stat);
                self.commit_sealed(open.id, write.version, &stat, false).await.map(drop)
            }
            Ok(_) => {
                self.close_write_at_master(open.id, false).await;
                Ok(())
            }
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            // Flush has reported its own; this is about what came after the last flush, which only mmap does.
            tracing::warn!(%error, inode = open.id, "complete a file after its last close; the master will recover it");
            self.close_write_at_master(open.id, false).await;
        }
    }

    /// The end of a file that was created and never written: there is nothing to commit, its name is durable since its
    /// creation. The home forgets that it was closed only once the master knows. False if it is something else by now.
    async fn finish_empty(&self, inode: u64, write: &WriteState) -> bool {
        let seal = |release, closed_empty| Seal {
            inode,
            version: write.version,
            next: 0,
            release,
            closed_empty,
        };
        if write.durable.is_some() {
            return false;
        }
        let still = open_stat(write, seal(false, true).into()).await;
        if !still.is_ok_and(|stat| !stat.changed) {
            return false;
        }
        let close = Op::Close(Close {
            inode,
            write: true,
            abandon: false,
        });
        if let Err(error) = self.master.change::<Empty>(&self.own_caller(), close).await {
            tracing::info!(%error, inode, "close at the master; its home keeps the note until the session ends");
            return true;
        }
        let dropped = match open_stat(write, seal(true, true).into()).await {
            // Another mount has written it meanwhile, and this one lets go as of any file.
            Ok(stat) if stat.changed => open_stat(write, seal(true, false).into()).await,
            other => other,
        };
        if let Err(error) = dropped {
            tracing::debug!(%error, inode, "drop the local file of an empty file");
        }
        true
    }

    /// Seals and commits what changed since the last commit; the file stays open as the next version. Another mount that
    /// writes it too may have moved it on meanwhile: then once more, as the version that it is now.
    pub(super) async fn commit(&self, open: &Arc<OpenInode>, state: &mut OpenState) -> FsResult<()> {
        for _ in 0..COMMIT_ROUNDS_MAX {
            match self.try_commit(open, state).await {
                Err(error) if error.kind == ErrorKind::Stale => {
                    let Some(write) = &mut state.write else {
                        return Err(error);
                    };
                    let (inode, version) = (open.id, write.version);
                    let now = open_stat(write, StatOpen { inode, version }.into()).await?.version;
                    if now <= version {
                        return Err(error);
                    }
                    write.version = now;
                    write.dirty = true;
                    state.pages_are_old = true;
                    if let Some(live) = open.live.lock().as_mut() {
                        live.version = now;
                    }
                }
                other => return other,
            }
        }
        let why = format!("commit inode {}: other mounts commit it all the time", open.id);
        Err(FsError::new(ErrorKind::Stale, why))
    }

    async fn try_commit(&self, open: &Arc<OpenInode>, state: &mut OpenState) -> FsResult<()> {
        let local = state.local.clone();
        let Some(write) = &mut state.write else { return Ok(()) };
        // Taken before the seal: what is written between the two is found changed next time.
        let before = match &local {
            Some(file) => file.stamp()?,
            None => {
                let stat = open_stat(
                    write,
                    StatOpen {
                        inode: open.id,
                        version: write.version,
                    }
                    .into(),
                )
                .await?;
                write.dirty |= stat.changed
                    && write
                        .committed
                        .or(write.fresh)
                        .is_none_or(|stamp| (stamp.length, stamp.mtime_ns) != (stat.length, stat.mtime_ns));
                Stamp {
                    length: stat.length,
                    mtime_ns: stat.mtime_ns,
                }
            }
        };
        if write.committed == Some(before) && !write.dirty {
            return Ok(());
        }
        if write.is_as_created(before) && close_empty(open.id, write).await? {
            return Ok(());
        }
        let seal = Seal {
            inode: open.id,
            version: write.version,
            next: write.version + 1,
            release: false,
            closed_empty: false,
        };
        let stat = write.committed_as(open_stat(write, seal.into()).await?);
        write.dirty = false;
        let attr = self.commit_sealed(open.id, write.version, &stat, true).await?;
        write.committed = Some(before);
        write.fresh = None;
        state.source.version = attr.version;
        write.version += 1;
        if let Some(live) = open.live.lock().as_mut() {
            live.version = write.version;
            live.committed = write.committed;
        }
        if matches!(write.write_type, WriteType::CacheThrough | WriteType::Through) {
            self.wait_persisted(open.id).await?;
        }
        Ok(())
    }

    async fn commit_sealed(&self, inode: u64, version: u64, stat: &OpenStat, keep_open: bool) -> FsResult<Attr> {
        let commit = Commit {
            inode,
            version,
            length: stat.length,
            mtime_ns: stat.mtime_ns,
            keep_open,
            ctime_ns: stat.ctime_ns,
            hole_bytes: stat.hole_bytes,
        };
        let attr = self.change(&self.own_caller(), Op::Commit(commit)).await?;
        self.extras.lock().written_at(inode, stat.mtime_ns);
        Ok(attr)
    }

    /// An unlinked file has no path and reaches no under-storage.
    async fn wait_persisted(&self, inode: u64) -> FsResult<()> {
        let path: PathReply = match self.read(&self.own_caller(), Op::GetPath(GetPath { inode })).await {
            Ok(path) => path,
            Err(error) if error.kind == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let wait = WaitPersisted {
            path: path.path,
            schedule: false,
            timeout_ms: 0,
            expedite: true,
        };
        let _: Counted = self.master.once(&self.own_caller(), Op::WaitPersisted(wait)).await?;
        Ok(())
    }

    /// utimens on a file that is open for writing: the local file must say so too, since the commit takes mtime from it.
    pub(super) async fn set_open_mtime(&self, inode: u64, mtime_ns: i64) -> FsResult<()> {
        let open = self.inodes.lock().get(&inode).cloned();
        let Some(open) = open else { return Ok(()) };
        let mut state = open.state.lock().await;
        let local = state.local.clone();
        let Some(write) = &mut state.write else { return Ok(()) };
        let before = match (&local, write.fresh) {
            (Some(file), Some(_)) => Some(file.stamp()?),
            _ => None,
        };
        let version = write.version;
        let request = SetTimes {
            inode,
            version,
            mtime_ns,
        };
        let stat = open_stat(write, request.into()).await?;
        // An empty file stays one; the master knows its new time.
        if write.fresh.is_some() && before == write.fresh && !write.dirty {
            write.created_ns = mtime_ns;
            write.fresh = Some(Stamp {
                length: stat.length,
                mtime_ns: stat.mtime_ns,
            });
            if let Some(live) = open.live.lock().as_mut() {
                live.committed = write.fresh;
            }
        }
        Ok(())
    }
}

impl WriteState {
    /// What is to be committed of a file that is as `stat` says. One that was created and never written keeps the times that
    /// everybody has seen, which are the master's.
    fn committed_as(&self, stat: OpenStat) -> OpenStat {
        let now = Stamp {
            length: stat.length,
            mtime_ns: stat.mtime_ns,
        };
        match self.fresh == Some(now) {
            true => OpenStat {
                mtime_ns: self.created_ns,
                ctime_ns: 0,
                ..stat
            },
            false => stat,
        }
    }

    /// It was created by this opening and is what it was then, empty; nobody waits for it to be in the under-storage.
    fn is_as_created(&self, now: Stamp) -> bool {
        let waits = matches!(self.write_type, WriteType::CacheThrough | WriteType::Through);
        self.fresh == Some(now) && now.length == 0 && !self.dirty && !waits
    }
}

/// What close(2) of an empty new file needs: its name is durable since its creation, and that it was closed is noted at its
/// home, so that it stays if everything is killed. False if the home knows more.
async fn close_empty(inode: u64, write: &mut WriteState) -> FsResult<bool> {
    if write.closed_empty {
        return Ok(true);
    }
    let seal = Seal {
        inode,
        version: write.version,
        next: 0,
        release: false,
        closed_empty: true,
    };
    let stat = open_stat(write, seal.into()).await?;
    write.closed_empty = !stat.changed;
    Ok(write.closed_empty)
}

/// Asks the home something that it answers with length and times.
pub(super) async fn open_stat(write: &WriteState, request: WorkerRequest) -> FsResult<OpenStat> {
    match write.home.call(request, Bytes::new()).await?.reply {
        WorkerReplyBody::OpenStat(stat) => Ok(stat),
        _ => Err(FsError::new(
            ErrorKind::Internal,
            "the worker answered with another message than OpenStat",
        )),
    }
}
