//! From a request to the operation: who asks, is it a superuser, what time is it, which method answers.

use alluxio_proto::master::{self, Empty, MasterRequest, Op, Operation, Removed, Reply};
use alluxio_proto::{ErrorKind, FsError, FsResult, InodeId, SessionId};
use std::pin::Pin;
use std::sync::Arc;

use super::{Core, Ctx, error, now_ns};

impl Core {
    pub(super) async fn call(self: &Arc<Self>, request: MasterRequest) -> FsResult<Reply> {
        let Some(op) = request.op else {
            return error(
                ErrorKind::NotSupported,
                "a request that this master does not know; it is older than its client",
            );
        };
        let caller = request.caller.unwrap_or_default();
        let ctx = Ctx {
            session: SessionId(request.session),
            op_id: request.op_id,
            lowest_op: request.lowest_op,
            superuser: self.is_superuser(&caller),
            caller,
            now_ns: now_ns(),
        };
        if request.session != 0 && !self.sessions.touch(ctx.session) && !matches!(op, Op::OpenSession(_)) {
            return error(
                ErrorKind::Stale,
                format!("session {} has ended; open a new one", ctx.session),
            );
        }
        let named = op.named_inodes();
        let answer = self.answer(&ctx, op).await;
        answer.map_err(|error| self.told_apart(&ctx, named, error))
    }

    /// "No such name" and "no such inode" apart, for those who keep numbers of inodes: who names one that went is to look its name
    /// up again, which may be another inode's by now. It is told as gone, too, if it went just after.
    fn told_apart(&self, ctx: &Ctx, named: [u64; 2], error: FsError) -> FsError {
        let is_gone = |id: &u64| match self.state.inode(InodeId(*id)) {
            Ok(inode) => inode.is_dir() && inode.nlink == 0,
            Err(error) => error.kind == ErrorKind::NotFound,
        };
        let by_number = ctx.session.get() != 0 && error.kind == ErrorKind::NotFound;
        match by_number && named.iter().any(|id| *id != 0 && is_gone(id)) {
            true => FsError {
                kind: ErrorKind::Gone,
                ..error
            },
            false => error,
        }
    }

    /// The common ones first, and without a future of their own on the heap; what the others need is put there, so that it makes
    /// the common ones no larger.
    async fn answer(self: &Arc<Self>, ctx: &Ctx, op: Op) -> FsResult<Reply> {
        Ok(match op {
            Op::Lookup(op) => reply::<master::Lookup>(self.lookup(op).await?),
            Op::GetAttr(op) => reply::<master::GetAttr>(self.get_attr(op).await?),
            Op::Open(op) => reply::<master::Open>(self.open(ctx, op).await?),
            Op::Close(op) => reply::<master::Close>(self.close(ctx, op).await?),
            Op::ReadDir(op) => reply::<master::ReadDir>(self.read_dir(op).await?),
            Op::ResolvePath(op) => reply::<master::ResolvePath>(self.resolve_path(ctx, op).await?),
            Op::KeepAlive(_) => reply::<master::KeepAlive>(Empty {}),
            Op::Create(op) => reply::<master::Create>(rare(|| self.create(ctx, op)).await?),
            Op::Commit(op) => reply::<master::Commit>(self.commit_version(ctx, op).await?),
            Op::MarkDurable(op) => reply::<master::MarkDurable>(self.mark_durable(ctx, op).await?),
            Op::OpenSession(op) => reply::<master::OpenSession>(rare(|| self.open_session(ctx, op)).await?),
            Op::SetLock(op) => reply::<master::SetLock>(rare(|| self.set_lock(ctx, op)).await?),
            Op::GetLock(op) => reply::<master::GetLock>(self.get_lock(ctx, op)?),
            Op::CancelLock(op) => reply::<master::CancelLock>(self.cancel_lock(ctx, op)?),
            Op::CloseSession(_) => reply::<master::CloseSession>(rare(|| self.close_session(ctx)).await?),
            Op::Mkdir(op) => reply::<master::Mkdir>(rare(|| self.mkdir(ctx, op)).await?),
            Op::Symlink(op) => reply::<master::Symlink>(rare(|| self.symlink(ctx, op)).await?),
            Op::Mknod(op) => reply::<master::Mknod>(rare(|| self.mknod(ctx, op)).await?),
            Op::ReadLink(op) => reply::<master::ReadLink>(self.read_link(op)?),
            Op::Unlink(op) => told(op.tell_removed, rare(|| self.unlink(ctx, op)).await?),
            Op::Rmdir(op) => told(op.tell_removed, rare(|| self.rmdir(ctx, op)).await?),
            Op::Rename(op) => told(op.tell_removed, rare(|| self.rename(ctx, op)).await?),
            Op::Delete(op) => reply::<master::Delete>(rare(|| self.delete(ctx, op)).await?),
            Op::SetAttr(op) => reply::<master::SetAttr>(rare(|| self.set_attr(ctx, op)).await?),
            Op::StatFs(op) => reply::<master::StatFs>(rare(|| self.stat_fs(op)).await?),
            Op::WaitPersisted(op) => reply::<master::WaitPersisted>(rare(|| self.wait_persisted(ctx, op)).await?),
            Op::Free(op) => reply::<master::Free>(rare(|| self.free(ctx, op)).await?),
            Op::Count(op) => reply::<master::Count>(rare(|| self.count(ctx, op)).await?),
            Op::Locate(op) => reply::<master::Locate>(self.locate(op)?),
            Op::GetPath(op) => reply::<master::GetPath>(self.get_path(op)?),
            Op::Mount(op) => reply::<master::Mount>(rare(|| self.mount(ctx, op)).await?),
            Op::Unmount(op) => reply::<master::Unmount>(rare(|| self.unmount(ctx, op)).await?),
            Op::GetMounts(op) => reply::<master::GetMounts>(rare(|| self.get_mounts(op)).await?),
            Op::GetReport(op) => reply::<master::GetReport>(self.report(op)?),
            Op::SettleIntents(op) => reply::<master::SettleIntents>(rare(|| self.settle(ctx, op)).await?),
            Op::Challenge(_) => reply::<master::Challenge>(self.challenge()),
            Op::RegisterWorker(op) => reply::<master::RegisterWorker>(rare(|| self.register_worker(op)).await?),
            Op::WorkerHeartbeat(op) => reply::<master::WorkerHeartbeat>(rare(|| self.worker_heartbeat(op)).await?),
            Op::PersistDone(op) => reply::<master::PersistDone>(rare(|| self.persist_done(op)).await?),
            Op::CopyDone(op) => reply::<master::CopyDone>(rare(|| self.copy_done(op)).await?),
            Op::Recovered(op) => reply::<master::Recovered>(rare(|| self.recovered(op)).await?),
            Op::Spill(op) => reply::<master::Spill>(rare(|| self.spill(op)).await?),
            Op::UfsChanged(op) => reply::<master::UfsChanged>(rare(|| self.ufs_changed(ctx, op)).await?),
            Op::Link(op) => reply::<master::Link>(rare(|| self.link(ctx, op)).await?),
            Op::Tmpfile(op) => reply::<master::Tmpfile>(rare(|| self.tmpfile(ctx, op)).await?),
            Op::SetXattr(op) => reply::<master::SetXattr>(rare(|| self.set_xattr(ctx, op)).await?),
            Op::GetXattr(op) => reply::<master::GetXattr>(self.get_xattr(ctx, &op)?),
            Op::ListXattrs(op) => reply::<master::ListXattrs>(self.list_xattrs(ctx, op)?),
            Op::RemoveXattr(op) => reply::<master::RemoveXattr>(rare(|| self.remove_xattr(ctx, op)).await?),
            Op::SetAcl(op) => reply::<master::SetAcl>(rare(|| self.set_acl(ctx, op)).await?),
            Op::GetAcl(op) => reply::<master::GetAcl>(self.get_acl(op)?),
            Op::TouchAtimes(op) => reply::<master::TouchAtimes>(rare(|| self.touch_atimes(ctx, op)).await?),
        })
    }
}

/// A future on the heap, made in a frame of its own: that of the common operations stays small.
#[inline(never)]
fn rare<F: Future>(make: impl FnOnce() -> F) -> Pin<Box<F>> {
    Box::pin(make())
}

/// The reply that the protocol has for an operation.
fn reply<O: Operation>(reply: O::Reply) -> Reply {
    reply.into()
}

/// Tells what was removed, if that was asked for: clients of before expect nothing.
fn told(asked: bool, removed: Removed) -> Reply {
    if asked { removed.into() } else { Empty {}.into() }
}
