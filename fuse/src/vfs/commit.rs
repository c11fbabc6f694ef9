//! From what was written to what is committed: flush, fsync, release.
//!
//! `flush` comes for every descriptor that is closed, also for duplicates while others go on writing (every child of a
//! shell closes its copies). So a flush seals and commits what changed since the last commit, and the file stays open for
//! writing as the next version. The last release lets go of it a moment later, off the path of any system call.

use super::Vfs;
use super::inode::{Handle, Home, OpenInode, OpenState, WriteState, Written};
use super::local::Stamp;
use super::pending_closes::Ending;
use alluxio_proto::master::{Commit, Counted, Empty, GetPath, MarkDurable, PathReply, WaitPersisted};
use alluxio_proto::types::{Attr, WriteType};
use alluxio_proto::worker::{OpenStat, Seal, SetTimes, StatOpen, SyncOpen, WorkerOperation};
use alluxio_proto::{ErrorKind, FsError, FsResult};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What becomes of the open version that a commit is of.
#[derive(Clone, Copy, Default)]
struct Sealed {
    /// See [`Commit::keep_open`].
    keep_open: bool,
    /// See [`Commit::mapped`].
    mapped: bool,
}

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
        let mut state = handle.inode.transition().await;
        self.commit(&handle.inode, &mut state).await
    }

    /// What fsync(2) waits for: what was written so far survives a crash, and is in the under-storage where the write type
    /// says so.
    ///
    /// # Errors
    /// As [`Vfs::flush`].
    pub async fn fsync(&self, fh: u64, data_only: bool) -> FsResult<()> {
        let handle = self.handle(fh)?;
        let now = handle.inode.snapshot();
        let Some(written) = &now.written else { return Ok(()) };
        if matches!(written.write_type, WriteType::CacheThrough | WriteType::Through) {
            let mut state = handle.inode.transition().await;
            return self.commit(&handle.inode, &mut state).await;
        }
        match self.sync(handle.inode.id, written, data_only).await {
            // Its last writer is closing it, or has: that commits, and the next look says so.
            Err(error) if error.kind == ErrorKind::Stale => {
                let state = handle.inode.transition().await;
                match &state.write {
                    Some(write) => self.sync(handle.inode.id, &Written::of(write), data_only).await,
                    None => Ok(()),
                }
            }
            other => other,
        }
    }

    async fn sync(&self, inode: u64, written: &Written, data_only: bool) -> FsResult<()> {
        let request = SyncOpen {
            inode,
            version: written.version,
            data_only,
        };
        // What is written from now on may come too late.
        let is_dirty = written.marks.is_dirty();
        let stat = written.home.worker.ask(request).await?;
        let stamp = stamp_of(&stat);
        if !is_dirty && [written.marks.durable(), written.committed].contains(&Some(stamp)) {
            return Ok(());
        }
        let mark = |version| MarkDurable {
            inode,
            version,
            length: stat.length,
            mtime_ns: stat.mtime_ns,
        };
        // The home may have committed what was written before, to make room: then this is of the version after that.
        let newest = stat.version.max(written.version);
        let Empty {} = match self.change(&self.own_caller(), mark(newest)).await {
            // That commit, or another mount's, is on its way to the master; the home is never more than one ahead. An older version
            // would be one that is committed, of which nothing is noted any more.
            Err(error) if error.kind == ErrorKind::Stale && newest > written.version => {
                self.change(&self.own_caller(), mark(newest - 1)).await?
            }
            other => other?,
        };
        written.marks.set_durable(stamp);
        Ok(())
    }

    /// Closes a handle. What is left to do happens in the background; errors were reported by flush.
    pub async fn release(&self, fh: u64) {
        if let Some(handle) = self.take_handle(fh) {
            self.release_handle(handle).await;
        }
    }

    /// Takes a handle off: nobody finds it open any more.
    pub(super) fn take_handle(&self, fh: u64) -> Option<Arc<Handle>> {
        self.handles.write().remove(&fh)
    }

    /// Lets go of what a handle stood for.
    pub(super) async fn release_handle(&self, handle: Arc<Handle>) {
        let open = Arc::clone(&handle.inode);
        let mut state = open.transition().await;
        state.opens = state.opens.saturating_sub(1);
        let was_writer = handle.writable;
        if let Some(write) = state.write.as_mut().filter(|_| was_writer) {
            write.writers = write.writers.saturating_sub(1);
        }
        if !was_writer && let Some(open_id) = state.master_opens.pop() {
            self.close_at_master(open.id, open_id).await;
        }
        drop::<Arc<Handle>>(handle);
        if state.opens == 0 {
            state.drop_unused();
            let mut closed = self.closed.lock();
            match state.pages_are_old {
                true => drop(closed.pop(&open.node)),
                false => drop(closed.put(open.node, state.source.version)),
            }
        }
        self.forget_if_unused(&open, &state);
    }

    /// The last writer is gone: seal what changed since the last commit, and close the open version.
    pub(super) async fn finish_write(&self, open: &Arc<OpenInode>, state: &mut OpenState) {
        if state.write.as_ref().is_some_and(|write| write.is_half_committed) {
            // Sealed, and not committed: its home would take it for what the master knows.
            let again = self.commit(open, state).await;
            if let Err(error) = again {
                tracing::info!(%error, inode = open.id, "commit again what a close could not commit");
            }
        }
        let Some(mut write) = state.write.take() else { return };
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
            may_be_mapped: write.may_be_mapped,
        };
        let result = match open_stat(&write.home, seal).await {
            Ok(stat) if stat.mapped => {
                // The master does not upload what it believes to be open. Another writer's visit ends that.
                if stat.changed || !write.known_mapped || stat.version > write.version {
                    write.marks.set_dirty();
                }
                write.known_mapped = true;
                state.write = Some(write);
                return self.commit_mapped(open, state).await;
            }
            // What was written here is in what they commit.
            Ok(stat) if stat.others_write => {
                self.close_write_at_master(open.id, Ending::LeftOpen).await;
                Ok(())
            }
            Ok(stat) if stat.changed => {
                // Others, and the home itself to make room, may have committed it meanwhile: then this is of the version after that.
                let version = stat.version.max(write.version);
                let stat = write.committed_as(stat);
                let committed = self.commit_sealed(open.id, version, &stat, Sealed::default()).await;
                // It was changed by stores into a mapping, of which the kernel tells its own caches nothing.
                self.forget_soon(open.node);
                committed.map(drop)
            }
            // Unchanged, and given back.
            Ok(_) => {
                let ending = match write.is_half_committed {
                    true => Ending::LeftOpen,
                    false => Ending::Done,
                };
                self.close_write_at_master(open.id, ending).await;
                Ok(())
            }
            Err(error) if error.is_retryable() && write.known_mapped => {
                // Its home is away for a moment; the mapping may store on, and nobody else looks after it.
                tracing::debug!(%error, inode = open.id, "look at a file that is still mapped; trying again");
                state.write = Some(write);
                return self.lingering.look_again(open.node, Duration::ZERO);
            }
            Err(error) => Err(error),
        };
        // Readers that have it open read on.
        state.source_is_old = state.opens > 0;
        if let Err(error) = result {
            // Flush has reported its own; this is about what came after the last flush, which only mmap does.
            tracing::warn!(%error, inode = open.id, "complete a file after its last close; the master will recover it");
            self.close_write_at_master(open.id, Ending::LeftOpen).await;
        }
    }

    /// Nobody has the file open, but a mapping lives on: what it stored is committed, and the file stays open until the mapping
    /// is gone ([`super::linger`] looks again and again).
    async fn commit_mapped(&self, open: &Arc<OpenInode>, state: &mut OpenState) {
        let Some(write) = &state.write else { return };
        let begun = Instant::now();
        let result = match write.marks.is_dirty() {
            true => self.commit(open, state).await,
            false => Ok(()),
        };
        let Some(write) = &mut state.write else { return };
        match result {
            Ok(()) => self.lingering.look_again(open.node, begun.elapsed()),
            Err(error) if error.is_retryable() => {
                tracing::info!(%error, inode = open.id, "commit a file that is still mapped; trying again");
                write.marks.set_dirty();
                self.lingering.look_again(open.node, begun.elapsed());
            }
            Err(error) => {
                tracing::warn!(%error, inode = open.id, "commit a file that is still mapped; the master will recover it");
                state.write = None;
                self.close_write_at_master(open.id, Ending::LeftOpen).await;
            }
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
            may_be_mapped: write.may_be_mapped,
        };
        if write.marks.durable().is_some() {
            return false;
        }
        let still = open_stat(&write.home, seal(false, true)).await;
        if !still.is_ok_and(|stat| !stat.changed) {
            return false;
        }
        if !self.close_empty_at_master(inode).await {
            // Its home keeps the note until it is asked.
            return true;
        }
        let dropped = match open_stat(&write.home, seal(true, true)).await {
            // Another mount has written it meanwhile, and this one lets go as of any file.
            Ok(stat) if stat.changed => open_stat(&write.home, seal(true, false)).await,
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
                    let now = open_stat(&write.home, StatOpen { inode, version }).await?.version;
                    if now <= version {
                        return Err(error);
                    }
                    write.version = now;
                    write.marks.set_dirty();
                    state.pages_are_old = true;
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
                    &write.home,
                    StatOpen {
                        inode: open.id,
                        version: write.version,
                    },
                )
                .await?;
                let is_other = || write.committed.or(write.as_created) != Some(stamp_of(&stat));
                if stat.changed && is_other() {
                    write.marks.set_dirty();
                }
                stamp_of(&stat)
            }
        };
        if write.committed == Some(before) && !write.marks.is_dirty() && !write.is_half_committed {
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
            may_be_mapped: write.may_be_mapped,
        };
        let taken = write.marks.take();
        // From here on the home may have moved on, whatever it answers.
        write.is_half_committed = true;
        let stat = open_stat(&write.home, seal).await?;
        taken.done();
        let stat = write.committed_as(stat);
        let commit = Sealed {
            keep_open: true,
            mapped: write.known_mapped,
        };
        let attr = self.commit_sealed(open.id, write.version, &stat, commit).await?;
        write.is_half_committed = false;
        write.times.lock().see_master(attr.ctime_ns);
        write.committed = Some(before);
        write.as_created = None;
        Arc::make_mut(&mut state.source).version = attr.version;
        state.mtime_ns = attr.mtime_ns;
        write.version += 1;
        if stat.changed {
            // The home had sealed it before we asked, to make room: what was written since is in the version after that.
            write.marks.set_dirty();
            return Box::pin(self.try_commit(open, state)).await;
        }
        if matches!(write.write_type, WriteType::CacheThrough | WriteType::Through) {
            self.wait_persisted(open.id).await?;
        }
        Ok(())
    }

    async fn commit_sealed(&self, inode: u64, version: u64, stat: &OpenStat, sealed: Sealed) -> FsResult<Attr> {
        let commit = Commit {
            inode,
            version,
            length: stat.length,
            mtime_ns: stat.mtime_ns,
            keep_open: sealed.keep_open,
            mapped: sealed.mapped,
            ctime_ns: stat.ctime_ns,
            hole_bytes: stat.hole_bytes,
        };
        let attr = self.change(&self.own_caller(), commit).await?;
        self.extras.lock().written_at(inode, stat.mtime_ns);
        Ok(attr)
    }

    /// An unlinked file has no path and reaches no under-storage.
    async fn wait_persisted(&self, inode: u64) -> FsResult<()> {
        let path: PathReply = match self.read(&self.own_caller(), GetPath { inode }).await {
            Ok(path) => path,
            Err(error) if matches!(error.kind, ErrorKind::NotFound | ErrorKind::Gone) => return Ok(()),
            Err(error) => return Err(error),
        };
        let wait = WaitPersisted {
            path: path.path,
            schedule: false,
            timeout_ms: 0,
            expedite: true,
        };
        let _: Counted = self.master.once(&self.own_caller(), wait).await?;
        Ok(())
    }

    /// utimens on a file that is open for writing: the local file must say so too, since the commit takes mtime from it.
    pub(super) async fn set_open_mtime(&self, inode: u64, mtime_ns: i64) -> FsResult<()> {
        let open = self.newest_open(inode);
        let Some(open) = open else { return Ok(()) };
        let mut state = open.transition().await;
        let local = state.local.clone();
        let Some(write) = &mut state.write else { return Ok(()) };
        let before = match (&local, write.as_created) {
            (Some(file), Some(_)) => Some(file.stamp()?),
            _ => None,
        };
        let version = write.version;
        let request = SetTimes {
            inode,
            version,
            mtime_ns,
        };
        let stat = open_stat(&write.home, request).await?;
        let now = stamp_of(&stat);
        write.times.lock().set_mtime(now, stat.ctime_ns);
        // An empty file stays one; the master knows its new time.
        if write.as_created.is_some() && before == write.as_created && !write.marks.is_dirty() {
            write.created_ns = mtime_ns;
            write.as_created = Some(now);
        }
        Ok(())
    }
}

impl WriteState {
    /// What is to be committed of a file that is as `stat` says, with the times that are shown of it. One that was created and
    /// never written keeps those that everybody has seen, which are the master's.
    fn committed_as(&self, stat: OpenStat) -> OpenStat {
        let now = stamp_of(&stat);
        match self.as_created == Some(now) {
            true => OpenStat {
                mtime_ns: self.created_ns,
                ctime_ns: 0,
                ..stat
            },
            false => {
                let mut times = self.times.lock();
                times.see_local(now, stat.ctime_ns);
                let (mtime_ns, ctime_ns) = times.shown();
                OpenStat {
                    mtime_ns,
                    ctime_ns,
                    ..stat
                }
            }
        }
    }

    /// It was created by this opening and is what it was then, empty; nobody waits for it to be in the under-storage.
    fn is_as_created(&self, now: Stamp) -> bool {
        let waits = matches!(self.write_type, WriteType::CacheThrough | WriteType::Through);
        self.as_created == Some(now) && now.length == 0 && !self.marks.is_dirty() && !waits
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
        may_be_mapped: write.may_be_mapped,
    };
    let stat = open_stat(&write.home, seal).await?;
    write.closed_empty = !stat.changed;
    Ok(write.closed_empty)
}

/// Asks the home something that it answers with length and times.
pub(super) async fn open_stat<O>(home: &Home, request: O) -> FsResult<OpenStat>
where
    O: WorkerOperation<Reply = OpenStat>,
{
    home.worker.ask(request).await
}

fn stamp_of(stat: &OpenStat) -> Stamp {
    Stamp {
        length: stat.length,
        mtime_ns: stat.mtime_ns,
    }
}
