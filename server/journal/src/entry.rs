//! Log entries as bytes.
//!
//! A record's kind says what its payload is: 0 blank (empty), 1 commands (each with its length before it, as a
//! varint), 2 the cluster's members as the first version wrote them (read only), 3 the cluster's members
//! ([`Members::encode`]). A kind that is not known here stops the member: what it means may matter.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use prost::encoding::{decode_varint, encode_varint};

use crate::{
    members::Members,
    wal::{Position, Record},
};

const BLANK: u8 = 0;
const COMMANDS: u8 = 1;
const FIRST_MEMBERS: u8 = 2;
const MEMBERS: u8 = 3;

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogEntry {
    pub at: Position,
    pub body: EntryBody,
}

/// What an entry carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum EntryBody {
    /// Nothing: it only begins a term.
    Blank,
    /// Commands, joined by [`encode_batch`].
    Commands(Bytes),
    /// Who replicates the log from here on.
    Members(Members),
}

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

impl LogEntry {
    /// The entry as the log keeps it.
    pub fn into_record(self) -> io::Result<Record> {
        let (kind, payload) = match self.body {
            EntryBody::Blank => (BLANK, Bytes::new()),
            EntryBody::Commands(commands) => (COMMANDS, commands),
            EntryBody::Members(members) => (MEMBERS, members.encode()?.into()),
        };
        Ok(Record {
            index: self.at.index,
            term: self.at.term,
            kind,
            payload,
        })
    }

    /// An entry from the log.
    pub fn of_record(record: Record) -> io::Result<Self> {
        let at = Position {
            term: record.term,
            index: record.index,
        };
        let body = match record.kind {
            BLANK => EntryBody::Blank,
            COMMANDS => EntryBody::Commands(record.payload),
            FIRST_MEMBERS => EntryBody::Members(Members::parse_first_entry(&record.payload, at)?),
            MEMBERS => EntryBody::Members(Members::parse(&record.payload)?),
            other => {
                return Err(invalid(format!(
                    "log entry {} is of kind {other}, which this program does not know; use the newer program",
                    record.index
                )));
            }
        };
        Ok(Self { at, body })
    }
}

pub(crate) fn invalid(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_comes_back_and_an_unknown_one_is_refused() {
        let at = Position { term: 2, index: 9 };
        let members = Members {
            since: at,
            configs: vec![[1].into()],
            nodes: [(1, "localhost".to_owned())].into(),
        };
        for body in [
            EntryBody::Blank,
            EntryBody::Commands(Bytes::from_static(b"\x02ab")),
            EntryBody::Members(members),
        ] {
            let entry = LogEntry { at, body };
            let record = entry.clone().into_record().unwrap();
            assert_eq!(LogEntry::of_record(record).unwrap(), entry);
        }
        let unknown = Record {
            index: 9,
            term: 2,
            kind: 200,
            payload: Bytes::new(),
        };
        let error = LogEntry::of_record(unknown).unwrap_err().to_string();
        assert!(error.contains("entry 9 is of kind 200") && error.contains("newer program"), "{error}");
    }
}
