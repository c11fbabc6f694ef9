//! Log entries as bytes.
//!
//! A record's kind says what its payload is: 0 blank (empty), 1 commands (each with its length before it, as a
//! varint), 2 the cluster's members as the first version wrote them (read only), 3 the cluster's members
//! ([`Members::encode`]), 4 commands of a feature level above 0 (the level as a varint, then as 1), 5 what a member can do
//! (JSON: version, node, level). A kind that is not known here stops the member: what it means may matter.

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
const COMMANDS_OF_LEVEL: u8 = 4;
const ANNOUNCED: u8 = 5;

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
    /// Commands, joined by [`encode_batch`], and the feature level that it takes to apply them.
    Commands { level: u32, commands: Bytes },
    /// Who replicates the log from here on.
    Members(Members),
    /// What a member can do.
    Announced(Announced),
}

/// A member knows every command up to a feature level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Announced {
    /// Of this form: 1.
    version: u32,
    pub node: u64,
    pub level: u32,
}

impl Announced {
    pub fn new(node: u64, level: u32) -> Self {
        Self {
            version: 1,
            node,
            level,
        }
    }

    fn parse(bytes: &[u8]) -> io::Result<Self> {
        let found: Self = serde_json::from_slice(bytes)?;
        match found.version {
            1 => Ok(found),
            other => Err(unknown(format!("what a member can do is said in form {other}"))),
        }
    }
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
            EntryBody::Commands { level: 0, commands } => (COMMANDS, commands),
            EntryBody::Commands { level, commands } => {
                let mut payload = BytesMut::with_capacity(commands.len() + 5);
                encode_varint(level.into(), &mut payload);
                payload.extend_from_slice(&commands);
                (COMMANDS_OF_LEVEL, payload.freeze())
            }
            EntryBody::Announced(announced) => (ANNOUNCED, serde_json::to_vec(&announced)?.into()),
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
            COMMANDS => EntryBody::Commands {
                level: 0,
                commands: record.payload,
            },
            COMMANDS_OF_LEVEL => {
                let mut commands = record.payload;
                let level = decode_varint(&mut commands).map_err(invalid)?;
                EntryBody::Commands {
                    level: level.try_into().unwrap_or(u32::MAX),
                    commands,
                }
            }
            ANNOUNCED => EntryBody::Announced(Announced::parse(&record.payload)?),
            FIRST_MEMBERS => EntryBody::Members(Members::parse_first_entry(&record.payload, at)?),
            MEMBERS => EntryBody::Members(Members::parse(&record.payload)?),
            other => {
                return Err(unknown(format!("log entry {} is of kind {other}", record.index)));
            }
        };
        Ok(Self { at, body })
    }
}

/// Software that came later wrote this. It cannot be passed over.
pub(crate) fn unknown(what: impl std::fmt::Display) -> io::Error {
    let text = format!("{what}, which this program does not know; use the newer program");
    io::Error::new(io::ErrorKind::Unsupported, text)
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
            ..Members::default()
        };
        for body in [
            EntryBody::Blank,
            EntryBody::Commands {
                level: 0,
                commands: Bytes::from_static(b"\x02ab"),
            },
            EntryBody::Commands {
                level: 300,
                commands: Bytes::from_static(b"\x02ab"),
            },
            EntryBody::Announced(Announced::new(1, 2)),
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
        assert!(
            error.contains("entry 9 is of kind 200") && error.contains("newer program"),
            "{error}"
        );
    }
}
