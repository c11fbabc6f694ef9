//! Consensus: how openraft's terms map to ours. Nothing outside this folder names openraft, and none of its types gets on disk:
//! it is built without the feature that could serialise them.
//!
//! openraft counts entries from 0, we from 1 (so that 0 can mean "none"): [`index_of`] and [`raft_index_of`] translate,
//! and nobody else does.

mod backend;
mod convert;
mod log_store;
mod network;
mod state_machine;
mod vote;

#[cfg(test)]
mod suite;

pub(crate) use backend::RaftLog;
use log_store::LogStore;
use network::NoPeers;
use state_machine::{SnapshotFile, StateMachineAdapter};
pub(crate) use vote::VoteFile;

use openraft::{
    RaftTypeConfig,
    impls::{BasicNode, leader_id_std},
    vote::RaftLeaderId,
};

use crate::{entry::EntryBody, log::Batch};

openraft::declare_raft_types!(
    /// The types that consensus is about.
    pub(crate) TypeConfig:
        D = Batch,
        R = (),
        NodeId = u64,
        Node = BasicNode,
        LeaderId = leader_id_std::LeaderId<Self::Term, Self::NodeId>,
);

type Raft<S> = openraft::Raft<TypeConfig, StateMachineAdapter<S>>;
type LeaderId = <TypeConfig as RaftTypeConfig>::LeaderId;
type CommittedLeaderId = <LeaderId as RaftLeaderId>::Committed;
type Entry = <TypeConfig as RaftTypeConfig>::Entry;
type LogId = openraft::LogId<CommittedLeaderId>;
type Vote = <TypeConfig as RaftTypeConfig>::Vote;
type StoredMembership = openraft::StoredMembership<CommittedLeaderId, u64, BasicNode>;
type SnapshotMeta = openraft::SnapshotMeta<CommittedLeaderId, u64, BasicNode>;
type Snapshot = openraft::Snapshot<CommittedLeaderId, u64, BasicNode, SnapshotFile>;

impl std::fmt::Display for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.body {
            EntryBody::Commands { commands, .. } => write!(f, "batch of {} bytes", commands.len()),
            other => write!(f, "{other:?}"),
        }
    }
}

/// Our index of openraft's log id; 0 for none.
fn index_of(id: Option<&LogId>) -> u64 {
    id.map_or(0, |id| id.index + 1)
}

/// openraft's index of ours; `None` for 0.
fn raft_index_of(index: u64) -> Option<u64> {
    index.checked_sub(1)
}
