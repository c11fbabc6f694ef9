//! Log entries as bytes.
//!
//! A record's kind says what its payload is: 0 blank (empty), 1 commands (each with its length before it, as a
//! varint), 2 the cluster's members (JSON: rare, and readable when one has to look).

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use openraft::{EntryPayload, entry::RaftEntry, vote::RaftLeaderId};
use prost::encoding::{decode_varint, encode_varint};

use super::{Batch, CommittedLeaderId, Entry, LeaderId, LogId, index_of, raft_index_of};
use crate::wal::{Position, Record};

const BLANK: u8 = 0;
const COMMANDS: u8 = 1;
const MEMBERS: u8 = 2;

/// Joins encoded commands into the payload of one entry.
pub(crate) fn encode_batch<'a>(commands: impl IntoIterator<Item = &'a Bytes>, bytes: usize) -> Bytes {
    // Ten bytes more than enough for one length; the rest grows if needed.
    let mut out = BytesMut::with_capacity(bytes + 64);
    for command in commands {
        encode_varint(command.len() as u64, &mut out);
        out.extend_from_slice(command);
    }
    out.freeze()
}

/// The commands of an entry.
pub(crate) fn commands_of<C: prost::Message + Default>(mut batch: Bytes, out: &mut Vec<C>) -> io::Result<usize> {
    let before = out.len();
    while batch.has_remaining() {
        let bytes = decode_varint(&mut batch).map_err(invalid)? as usize;
        if bytes > batch.remaining() {
            return Err(invalid("a command is longer than its entry"));
        }
        out.push(C::decode(batch.split_to(bytes)).map_err(invalid)?);
    }
    Ok(out.len() - before)
}

/// An entry as the log keeps it.
pub(super) fn to_record(entry: Entry) -> io::Result<Record> {
    let log_id = entry.log_id();
    let (kind, tag, payload) = match entry.payload {
        EntryPayload::Blank => (BLANK, 0, Bytes::new()),
        EntryPayload::Normal(batch) => (COMMANDS, batch.tag, batch.commands),
        EntryPayload::Membership(members) => (MEMBERS, 0, serde_json::to_vec(&members)?.into()),
    };
    let Position { term, index } = position_of(&log_id);
    Ok(Record {
        index,
        term,
        kind,
        tag,
        payload,
    })
}

/// An entry from the log.
pub(super) fn from_record(record: Record) -> io::Result<Entry> {
    let payload = match record.kind {
        BLANK => EntryPayload::Blank,
        COMMANDS => EntryPayload::Normal(Batch {
            commands: record.payload,
            tag: record.tag,
        }),
        MEMBERS => EntryPayload::Membership(serde_json::from_slice(&record.payload)?),
        other => {
            return Err(invalid(format!(
                "log entry {} is of kind {other}, which this program does not know; use the newer program",
                record.index
            )));
        }
    };
    let position = Position {
        term: record.term,
        index: record.index,
    };
    match log_id_at(position) {
        Some(log_id) => Ok(Entry::new(log_id, payload)),
        None => Err(invalid("a log entry has index 0")),
    }
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

pub(super) fn invalid(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}
