//! Opening, committing and closing files (DESIGN D15), and where their bytes are to be read.

use alluxio_proto::master::{
    Close, Commit, Empty, MarkDurable, Open, Opened, ReadSource, Recovered, Spill, WriteLease,
};
use alluxio_proto::types::{Attr, FileKind, PersistState, UfsSource};
use alluxio_proto::{ErrorKind, FsResult, InodeId, IntentId, WorkerId};
use std::sync::Arc;

use super::names::check_readable;
use super::{Core, Ctx, error};
use crate::state::{Inode, IntentKind, OpenVersion, command};

/// An inode that changes under our hands is read again so often.
const REREAD_MAX: usize = 10;

impl Core {
    pub(super) async fn open(self: &Arc<Self>, ctx: &Ctx, op: Open) -> FsResult<Opened> {
        self.metrics.file_opens.inc();
        let id = InodeId(op.inode);
        let mut inode = self.state.inode(id)?;
        match inode.kind() {
            FileKind::File => {}
            FileKind::Directory => return error(ErrorKind::IsADirectory, format!("inode {id} is a directory")),
            kind => {
                return error(
                    ErrorKind::InvalidArgument,
                    format!("inode {id} is no regular file but a {kind:?}"),
                );
            }
        }
        if op.read || !op.write {
            check_readable(ctx, &inode)?;
        }
        if self.is_look_due(&inode) {
            self.refresh_inode(&inode).await?;
            inode = self.state.inode(id)?;
        }
        if op.write {
            return self.open_for_writing(ctx, &op, &inode).await;
        }
        if ctx.session.get() == 0 {
            return self.opened_for_reading(ctx, id);
        }
        if !self.sessions.open_read(ctx.session, id, op.open_id).await {
            return error(
                ErrorKind::Stale,
                format!("session {} has ended; open a new one", ctx.session),
            );
        }
        // Read after the opening was noted: whoever unlinks it from now on keeps it for us.
        let held = match self.state.inode(id).map(|inode| inode.nlink) {
            // Unlinked already, and here for as long as others have it open.
            Ok(0) => self
                .propose(ctx, command::HoldOrphan { inode: op.inode })
                .await
                .map(drop),
            other => other.map(drop),
        };
        let opened = held.and_then(|()| self.opened_for_reading(ctx, id));
        if opened.is_err() {
            self.sessions.close_read(ctx.session, id, op.open_id).await;
        }
        opened
    }

    fn opened_for_reading(&self, ctx: &Ctx, id: InodeId) -> FsResult<Opened> {
        let inode = self.state.inode(id)?;
        if inode.persist_state() == PersistState::Lost {
            return error(
                ErrorKind::DataLost,
                format!("the only copy of file {id} is gone; truncate or remove it"),
            );
        }
        self.opened(ctx, &inode)
    }

    async fn open_for_writing(&self, ctx: &Ctx, op: &Open, inode: &Inode) -> FsResult<Opened> {
        let home = match self.only_holder(inode, op.truncate) {
            Some(worker) => worker,
            None => self.home_for(ctx)?.0.get(),
        };
        let body = command::OpenWrite {
            inode: op.inode,
            truncate: op.truncate,
            home_worker: home,
            write_type: op.write_type,
        };
        match self.propose(ctx, body).await?.inode {
            Some(inode) => self.opened(ctx, &inode),
            None => error(ErrorKind::Internal, "a file was opened without an inode"),
        }
    }

    /// The worker that must be home because the content to be changed is nowhere else.
    fn only_holder(&self, inode: &Inode, truncate: bool) -> Option<u64> {
        if truncate || inode.size == 0 || inode.is_persisted() {
            return None;
        }
        let holders = inode.locations.iter().filter(|at| at.version == inode.version);
        holders
            .max_by_key(|at| (self.workers.is_live(WorkerId(at.worker)), at.bytes))
            .map(|at| at.worker)
    }

    /// The worker that is to have the local file of what this caller writes, and its boot.
    pub(super) fn home_for(&self, ctx: &Ctx) -> FsResult<(WorkerId, u64)> {
        match self.workers.home(&self.sessions.host(ctx.session)) {
            Some(home) => Ok(home),
            None => error(
                ErrorKind::Unavailable,
                "no worker is there to take the data; start one with `alluxio worker`",
            ),
        }
    }

    /// All that a client needs to read or write an inode, as it is in this record.
    pub(super) fn opened(&self, ctx: &Ctx, inode: &Inode) -> FsResult<Opened> {
        let host = self.sessions.host(ctx.session);
        let mut opened = Opened {
            attr: Some(self.committed_attr_of(inode)),
            ..Default::default()
        };
        match &inode.open {
            Some(open) if open.recovering && !open.mapped => {
                let why = format!("file {} is being recovered at its worker; try again", inode.id);
                return error(ErrorKind::Unavailable, why);
            }
            Some(open) => opened.write = Some(self.lease(&host, inode, open)?),
            None => opened.read = Some(self.source(&host, inode)?),
        }
        Ok(opened)
    }

    fn lease(&self, host: &str, inode: &Inode, open: &OpenVersion) -> FsResult<WriteLease> {
        let empty = open.truncated || inode.size == 0;
        let mut lease = WriteLease {
            version: open.version,
            base: if empty { None } else { Some(self.source(host, inode)?) },
            home: self.workers.address(WorkerId(open.home_worker)),
            write_type: open.write_type,
            replaces: inode.version,
            token: Default::default(),
        };
        lease.token = self.ufs.secret().get()?.sign_lease(inode.inode_id(), &lease).into();
        Ok(lease)
    }

    /// How to read the committed version of this record.
    fn source(&self, host: &str, inode: &Inode) -> FsResult<ReadSource> {
        let ufs = self.ufs_source(inode)?;
        let holders: Vec<_> = inode
            .locations
            .iter()
            .filter(|at| at.version == inode.version)
            .copied()
            .collect();
        let workers = self.workers.readers(host, inode.inode_id(), &holders, ufs.is_some());
        let (older, older_version) = self.older_source(inode)?.unzip();
        let has_all = |id: u64| holders.iter().any(|at| at.worker == id && at.bytes >= inode.size);
        let is_whole = workers.first().is_some_and(|first| has_all(first.worker_id));
        Ok(ReadSource {
            version: inode.version,
            length: inode.size,
            workers,
            ufs,
            older,
            older_version: older_version.unwrap_or(0),
            is_whole,
        })
    }

    /// Where the under-storage has exactly this record's version.
    fn ufs_source(&self, inode: &Inode) -> FsResult<Option<UfsSource>> {
        let Some(binding) = inode
            .ufs
            .as_ref()
            .filter(|ufs| ufs.present && ufs.version == inode.version)
        else {
            return Ok(None);
        };
        let source = self.state.ufs_source(inode.inode_id())?;
        // Should the inode have moved on since the record was read: bytes of one version never go under another's number.
        Ok(source.filter(|source| binding.is_known_as(&source.fingerprint) && source.length == binding.length))
    }

    /// Where the under-storage has the version that this record's was made of, and which that is.
    fn older_source(&self, inode: &Inode) -> FsResult<Option<(UfsSource, u64)>> {
        let binding = inode.ufs.as_ref();
        let Some(binding) = binding.filter(|ufs| ufs.present && ufs.version < inode.version) else {
            return Ok(None);
        };
        let source = self.state.ufs_source(inode.inode_id())?;
        let same = |source: &UfsSource| binding.is_known_as(&source.fingerprint) && source.length == binding.length;
        Ok(source.filter(same).map(|source| (source, binding.version)))
    }

    pub(super) async fn commit_version(&self, ctx: &Ctx, op: Commit) -> FsResult<Attr> {
        let body = command::Commit {
            inode: op.inode,
            version: op.version,
            length: op.length,
            mtime_ns: op.mtime_ns,
            keep_open: op.keep_open,
            ctime_ns: op.ctime_ns,
            hole_bytes: op.hole_bytes,
            mapped: op.mapped,
        };
        let committed = self.propose(ctx, body).await?;
        self.metrics.files_completed.inc();
        self.attr_applied(committed)
    }

    pub(super) async fn mark_durable(&self, ctx: &Ctx, op: MarkDurable) -> FsResult<Empty> {
        let body = command::MarkDurable {
            inode: op.inode,
            version: op.version,
            length: op.length,
            mtime_ns: op.mtime_ns,
        };
        self.propose(ctx, body).await?;
        Ok(Empty {})
    }

    pub(super) async fn close(&self, ctx: &Ctx, op: Close) -> FsResult<Empty> {
        if op.write {
            // A file that was never committed goes with its name; who reads it keeps it, as any that is removed.
            let removal = op.abandon.then(|| self.sessions.begin_removal([InodeId(op.inode)]));
            let body = command::CloseWrite {
                inode: op.inode,
                abandon: op.abandon,
                left_open: op.left_open,
                keep_for: removal
                    .as_ref()
                    .map_or_else(Vec::new, |it| it.readers(InodeId(op.inode))),
            };
            // What was written is committed; this only lets go of it.
            return match self.commit_in_background(ctx.command(body)).await {
                Ok(_) => Ok(Empty {}),
                // It was unlinked, and this was its last opening.
                Err(error) if error.kind == ErrorKind::NotFound => Ok(Empty {}),
                Err(error) => Err(error),
            };
        }
        let id = InodeId(op.inode);
        self.sessions.close_read(ctx.session, id, op.open_id).await;
        if ctx.session.get() != 0 && self.state.inode(id).is_ok_and(|inode| inode.nlink == 0) {
            // Nobody opens it between the look and the letting go, which is asked for again if it cannot be journaled.
            let removal = self.sessions.begin_removal([id]);
            if !removal.readers(id).contains(&ctx.session.get()) {
                self.propose(ctx, command::ReleaseOrphan { inode: op.inode }).await?;
            }
        }
        Ok(Empty {})
    }

    /// What a home found of an open version whose writers are gone.
    pub(super) async fn recovered(&self, op: Recovered) -> FsResult<Empty> {
        let removal = (!op.found).then(|| self.sessions.begin_removal([InodeId(op.inode)]));
        let body = command::Recovered {
            keep_for: removal
                .as_ref()
                .map_or_else(Vec::new, |it| it.readers(InodeId(op.inode))),
            inode: op.inode,
            version: op.version,
            found: op.found,
            length: op.length,
            mtime_ns: op.mtime_ns,
            kept_version: op.kept_version,
            closed_empty: op.closed_empty,
            mapped: op.mapped,
            as_version: op.as_version,
        };
        match self.propose_own(body).await {
            Ok(_) => tracing::info!(
                inode = op.inode,
                version = op.version,
                found = op.found,
                mapped = op.mapped,
                length = op.length,
                "an open version whose writers are gone was recovered"
            ),
            // Answered before, or the file is gone.
            Err(error) if matches!(error.kind, ErrorKind::Stale | ErrorKind::NotFound) => {}
            Err(error) => return Err(error),
        }
        Ok(Empty {})
    }

    /// A home needs the room of what is open: see [`Spill`]. The upload does not wait for it to ripen.
    pub(super) async fn spill(&self, op: Spill) -> FsResult<Empty> {
        self.check_member(op.worker_id, op.proof)?;
        if op.ask_only {
            let inode = self.state.inode(InodeId(op.inode))?;
            return match inode.keeps_its_room(op.version, op.worker_id) {
                Some((kind, why)) => error(
                    kind,
                    format!("spill version {} of inode {}: {why}", op.version, op.inode),
                ),
                None => Ok(Empty {}),
            };
        }
        let body = command::Spill {
            inode: op.inode,
            version: op.version,
            home_worker: op.worker_id,
            length: op.length,
            mtime_ns: op.mtime_ns,
            ctime_ns: op.ctime_ns,
            hole_bytes: op.hole_bytes,
        };
        self.propose_own(body).await?;
        let intents = self.state.intents_of(InodeId(op.inode))?.into_iter();
        let uploads = intents.filter(|intent| intent.kind() == IntentKind::Persist && intent.version == op.version);
        self.queue.expedite(uploads.map(|intent| IntentId(intent.id)));
        Ok(Empty {})
    }

    /// The committed record of an inode together with its source, for those who have no record yet.
    pub(super) fn source_of(&self, id: InodeId) -> FsResult<(Arc<Inode>, Option<UfsSource>)> {
        for _ in 0..REREAD_MAX {
            let inode = self.state.inode(id)?;
            let source = self.state.ufs_source(id)?;
            let is_its = match (inode.ufs.as_ref().filter(|ufs| ufs.present), &source) {
                (Some(ufs), Some(source)) => ufs.is_known_as(&source.fingerprint),
                (bound, source) => bound.is_none() && source.is_none(),
            };
            if is_its {
                return Ok((inode, source));
            }
        }
        error(
            ErrorKind::Unavailable,
            format!("inode {id} changes too fast to be read; try again"),
        )
    }
}
