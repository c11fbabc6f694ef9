//! Consensus: how openraft's terms map to ours. Nothing outside this folder and `node` names openraft.
//!
//! openraft counts entries from 0, we from 1 (so that 0 can mean "none"): [`index_of`] and [`raft_index_of`] translate,
//! and nobody else does.

mod entry;
mod log_store;
mod network;
mod state_machine;
mod vote;

#[cfg(test)]
mod suite;

pub(crate) use entry::{commands_of, encode_batch};
pub(crate) use log_store::LogStore;
pub(crate) use network::NoPeers;
pub(crate) use state_machine::{Applier, SnapshotFile, StateMachineAdapter, Waiter};
pub(crate) use vote::VoteFile;

use bytes::Bytes;
use openraft::{
    RaftTypeConfig,
    impls::{BasicNode, leader_id_std},
    vote::RaftLeaderId,
};

openraft::declare_raft_types!(
    /// The types that consensus is about.
    pub(crate) TypeConfig:
        D = Batch,
        R = (),
        NodeId = u64,
        Node = BasicNode,
        LeaderId = leader_id_std::LeaderId<Self::Term, Self::NodeId>,
);

pub(crate) type Raft<S> = openraft::Raft<TypeConfig, StateMachineAdapter<S>>;
pub(crate) type LeaderId = <TypeConfig as RaftTypeConfig>::LeaderId;
pub(crate) type CommittedLeaderId = <LeaderId as RaftLeaderId>::Committed;
pub(crate) type Entry = <TypeConfig as RaftTypeConfig>::Entry;
pub(crate) type LogId = openraft::LogId<CommittedLeaderId>;
pub(crate) type Vote = <TypeConfig as RaftTypeConfig>::Vote;
pub(crate) type StoredMembership = openraft::StoredMembership<CommittedLeaderId, u64, BasicNode>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<CommittedLeaderId, u64, BasicNode>;
pub(crate) type Snapshot = openraft::Snapshot<CommittedLeaderId, u64, BasicNode, SnapshotFile>;

/// What one log entry carries: commands, encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    pub commands: Bytes,
    /// Names the proposals of this process that wait for it; 0 if none do. Never leaves the process.
    pub tag: u64,
}

impl std::fmt::Display for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "batch of {} bytes", self.commands.len())
    }
}

impl serde::Serialize for Batch {
    fn serialize<Z: serde::Serializer>(&self, serializer: Z) -> Result<Z::Ok, Z::Error> {
        serializer.serialize_bytes(&self.commands)
    }
}

impl<'de> serde::Deserialize<'de> for Batch {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::<u8>::deserialize(deserializer).map(|commands| Self {
            commands: commands.into(),
            tag: 0,
        })
    }
}

/// Our index of openraft's log id; 0 for none.
pub(crate) fn index_of(id: Option<&LogId>) -> u64 {
    id.map_or(0, |id| id.index + 1)
}

/// openraft's index of ours; `None` for 0.
pub(crate) fn raft_index_of(index: u64) -> Option<u64> {
    index.checked_sub(1)
}
