//! Our entries, members and positions in openraft's words, and back. Only for its ears: none of it gets on disk.

use openraft::{EntryPayload, Membership, entry::RaftEntry, impls::BasicNode, vote::RaftLeaderId};

use super::{CommittedLeaderId, Entry, LeaderId, LogId, StoredMembership, index_of, raft_index_of};
use crate::{
    entry::{EntryBody, LogEntry, invalid},
    log::Batch,
    members::Members,
    wal::Position,
};
use std::io;

/// An entry as we know it; with it the ticket of a batch of this process, and whether somebody waits for its sync.
pub(super) fn of_raft(entry: Entry) -> (LogEntry, u64, bool) {
    let at = position_of(&entry.log_id());
    let (body, ticket, power) = match entry.payload {
        EntryPayload::Blank => (EntryBody::Blank, 0, false),
        EntryPayload::Normal(batch) => (batch.body, batch.ticket, batch.power),
        EntryPayload::Membership(members) => (EntryBody::Members(members_of(&members, at)), 0, false),
    };
    (LogEntry { at, body }, ticket, power)
}

/// An entry as openraft knows it.
pub(super) fn to_raft(entry: LogEntry) -> io::Result<Entry> {
    let log_id = log_id_at(entry.at).ok_or_else(|| invalid("a log entry has index 0"))?;
    let payload = match entry.body {
        EntryBody::Blank => EntryPayload::Blank,
        EntryBody::Members(members) => EntryPayload::Membership(membership_of(&members)?),
        body => EntryPayload::Normal(Batch {
            body,
            ticket: 0,
            power: false,
        }),
    };
    Ok(Entry::new(log_id, payload))
}

fn members_of(members: &Membership<u64, BasicNode>, since: Position) -> Members {
    Members {
        since,
        configs: members.get_joint_config().clone(),
        nodes: members.nodes().map(|(id, node)| (*id, node.addr.clone())).collect(),
        levels: std::collections::BTreeMap::new(),
    }
}

fn membership_of(members: &Members) -> io::Result<Membership<u64, BasicNode>> {
    let nodes: std::collections::BTreeMap<u64, BasicNode> = members
        .nodes
        .iter()
        .map(|(id, addr)| (*id, BasicNode::new(addr)))
        .collect();
    match members.configs.is_empty() {
        true => Ok(Membership::default()),
        false => Membership::new(members.configs.clone(), nodes).map_err(|e| invalid(e.to_string())),
    }
}

/// Members as of an entry that is applied.
pub(super) fn stored_membership(members: &Members) -> io::Result<StoredMembership> {
    Ok(StoredMembership::new(log_id_at(members.since), membership_of(members)?))
}

/// Term and index of a log id, in our counting.
pub(super) fn position_of(log_id: &LogId) -> Position {
    Position {
        term: *log_id.leader_id,
        index: index_of(Some(log_id)),
    }
}

/// The log id of an entry; `None` for none.
pub(super) fn log_id_at(position: Position) -> Option<LogId> {
    raft_index_of(position.index).map(|index| LogId::new(committed(position.term), index))
}

fn committed(term: u64) -> CommittedLeaderId {
    // Only the term survives in a committed id; any node will do.
    LeaderId::new(term, 0).to_committed()
}
