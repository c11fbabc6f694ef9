//! The state machine as openraft wants it: committed entries go to the applying stage, snapshots come from its folder.
//!
//! `apply` here means "handed over": openraft's last applied entry is ahead of the state machine's while that is busy. Nothing
//! that depends on what was really applied asks openraft for it.

use std::{io, path::PathBuf, sync::Arc};

use futures::{Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};

use super::{
    LogId, Snapshot, SnapshotMeta, StoredMembership, TypeConfig,
    convert::{log_id_at, of_raft, stored_membership},
    index_of,
};
use crate::{StateMachine, applier::Applier, position::Applied, snapshot::SnapshotInfo, stage::ApplyStage};

/// What openraft holds.
pub(crate) struct StateMachineAdapter<S: StateMachine>(pub Arc<ApplyStage<S>>);

/// A snapshot on its way between members: a file.
#[derive(Clone, Debug)]
pub(crate) struct SnapshotFile(pub PathBuf);

/// Hands snapshots to openraft; usually there is one already, which our own task has written.
pub(crate) struct SnapshotBuilder<S: StateMachine> {
    applier: Arc<Applier<S>>,
    /// Whether one that is not the newest possible will do.
    any: bool,
}

fn describe(info: SnapshotInfo) -> io::Result<Snapshot> {
    let applied = Applied::of_stored(Some(&info.position))?;
    Ok(Snapshot {
        meta: SnapshotMeta {
            last_log_id: log_id_at(applied.at),
            last_membership: stored_membership(applied.members())?,
        },
        snapshot: SnapshotFile(info.path),
    })
}

impl<S: StateMachine> RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder<S> {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        let info = match self.applier.snapshots().newest()? {
            Some(info) if self.any => Some(info),
            _ => {
                let applier = self.applier.clone();
                tokio::task::spawn_blocking(move || applier.take_snapshot()).await??
            }
        };
        match info {
            Some(info) => describe(info),
            None => Ok(Snapshot {
                meta: SnapshotMeta::default(),
                snapshot: SnapshotFile(PathBuf::new()),
            }),
        }
    }
}

impl<S: StateMachine> RaftStateMachine<TypeConfig> for StateMachineAdapter<S> {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = SnapshotBuilder<S>;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        self.0.drain().await?;
        let applier = self.0.applier();
        Ok((log_id_at(applier.at()), stored_membership(&applier.members())?))
    }

    async fn apply<E>(&mut self, mut stream: E) -> io::Result<()>
    where
        E: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + Send,
    {
        let (mut entries, mut responders) = (Vec::new(), Vec::new());
        while let Some(item) = stream.next().await {
            let (entry, responder) = item?;
            entries.push(of_raft(entry).0);
            responders.extend(responder);
        }
        self.0.hand(entries).await?;
        for responder in responders {
            responder.send(());
        }
        Ok(())
    }

    async fn try_create_snapshot_builder(&mut self, force: bool) -> Option<SnapshotBuilder<S>> {
        if force {
            return Some(self.get_snapshot_builder().await);
        }
        Some(SnapshotBuilder {
            applier: self.0.applier().clone(),
            any: true,
        })
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder<S> {
        // A snapshot is of what was committed before it was asked for. If the stage has failed, the snapshot fails, too.
        let _ = self.0.drain().await;
        SnapshotBuilder {
            applier: self.0.applier().clone(),
            any: false,
        }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: SnapshotFile) -> io::Result<()> {
        self.0.drain().await?;
        let applier = self.0.applier().clone();
        let index = index_of(meta.last_log_id.as_ref());
        tokio::task::spawn_blocking(move || {
            let info = applier.snapshots().adopt(index, &snapshot.0)?;
            applier.restore(&info)?;
            applier.state().sync()
        })
        .await?
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        self.0.applier().snapshots().newest()?.map(describe).transpose()
    }
}
