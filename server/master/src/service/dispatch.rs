//! From a request to the operation: who asks, is it a superuser, what time is it, which method answers.

use alluxio_proto::master::{Empty, MasterRequest, Op, Removed, Reply};
use alluxio_proto::{ErrorKind, FsResult, SessionId};
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
        self.answer(&ctx, op).await
    }

    /// The common reads first, and without a future of their own where the state knows the answer.
    async fn answer(self: &Arc<Self>, ctx: &Ctx, op: Op) -> FsResult<Reply> {
        Ok(match op {
            Op::Lookup(op) => self.lookup(op).await?.into(),
            Op::GetAttr(op) => self.get_attr(op).await?.into(),
            Op::Open(op) => self.open(ctx, op).await?.into(),
            Op::Close(op) => self.close(ctx, op).await?.into(),
            Op::ReadDir(op) => self.read_dir(op).await?.into(),
            Op::ResolvePath(op) => self.resolve_path(ctx, op).await?.into(),
            Op::KeepAlive(_) => Empty {}.into(),
            Op::Create(op) => Box::pin(self.create(ctx, op)).await?.into(),
            Op::Commit(op) => self.commit_version(ctx, op).await?.into(),
            Op::MarkDurable(op) => self.mark_durable(ctx, op).await?.into(),
            other => return Box::pin(self.answer_rare(ctx, other)).await,
        })
    }

    async fn answer_rare(self: &Arc<Self>, ctx: &Ctx, op: Op) -> FsResult<Reply> {
        Ok(match op {
            Op::OpenSession(op) => self.open_session(ctx, op).await?.into(),
            Op::SetLock(op) => self.set_lock(ctx, op).await?.into(),
            Op::GetLock(op) => self.get_lock(ctx, op)?.into(),
            Op::CancelLock(op) => self.cancel_lock(ctx, op)?.into(),
            Op::CloseSession(_) => self.close_session(ctx).await?.into(),
            Op::Mkdir(op) => self.mkdir(ctx, op).await?.into(),
            Op::Symlink(op) => self.symlink(ctx, op).await?.into(),
            Op::Mknod(op) => self.mknod(ctx, op).await?.into(),
            Op::ReadLink(op) => self.read_link(op)?.into(),
            Op::Unlink(op) => told(op.tell_removed, self.unlink(ctx, op).await?),
            Op::Rmdir(op) => told(op.tell_removed, self.rmdir(ctx, op).await?),
            Op::Rename(op) => told(op.tell_removed, self.rename(ctx, op).await?),
            Op::Delete(op) => self.delete(ctx, op).await?.into(),
            Op::SetAttr(op) => self.set_attr(ctx, op).await?.into(),
            Op::StatFs(op) => self.stat_fs(op).await?.into(),
            Op::WaitPersisted(op) => self.wait_persisted(ctx, op).await?.into(),
            Op::Free(op) => self.free(ctx, op).await?.into(),
            Op::Count(op) => self.count(ctx, op).await?.into(),
            Op::Locate(op) => self.locate(op)?.into(),
            Op::GetPath(op) => self.get_path(op)?.into(),
            Op::Mount(op) => self.mount(ctx, op).await?.into(),
            Op::Unmount(op) => self.unmount(ctx, op).await?.into(),
            Op::GetMounts(op) => self.get_mounts(op).await?.into(),
            Op::GetReport(_) => self.report()?.into(),
            Op::RegisterWorker(op) => self.register_worker(op).await?.into(),
            Op::WorkerHeartbeat(op) => self.worker_heartbeat(op).await?.into(),
            Op::PersistDone(op) => self.persist_done(op).await?.into(),
            Op::Recovered(op) => self.recovered(op).await?.into(),
            Op::UfsChanged(op) => self.ufs_changed(ctx, op).await?.into(),
            Op::Link(op) => self.link(ctx, op).await?.into(),
            Op::Tmpfile(op) => self.tmpfile(ctx, op).await?.into(),
            Op::SetXattr(op) => self.set_xattr(ctx, op).await?.into(),
            Op::GetXattr(op) => self.get_xattr(ctx, &op)?.into(),
            Op::ListXattrs(op) => self.list_xattrs(ctx, op)?.into(),
            Op::RemoveXattr(op) => self.remove_xattr(ctx, op).await?.into(),
            Op::SetAcl(op) => self.set_acl(ctx, op).await?.into(),
            Op::GetAcl(op) => self.get_acl(op)?.into(),
            Op::TouchAtimes(op) => self.touch_atimes(ctx, op).await?.into(),
            // Answered above.
            Op::Lookup(_)
            | Op::GetAttr(_)
            | Op::Open(_)
            | Op::Close(_)
            | Op::ReadDir(_)
            | Op::ResolvePath(_)
            | Op::KeepAlive(_)
            | Op::Create(_)
            | Op::Commit(_)
            | Op::MarkDurable(_) => return error(ErrorKind::Internal, "a request went the wrong way"),
        })
    }
}

/// Tells what was removed, if that was asked for: clients of before expect nothing.
fn told(asked: bool, removed: Removed) -> Reply {
    if asked { removed.into() } else { Empty {}.into() }
}
