//! How far the state machine is: opaque bytes that it stores with each batch.
//!
//! ```text
//! u8 version (2)    u64 term    u64 index    u64 synced    the members (see `members`)
//! ```
//!
//! Little-endian. `synced` is the newest entry that was on disk when the batch was applied. A log that ends before it has
//! lost what was promised; one that ends behind it and before `index` has met a power cut. Version 1 had no `synced`
//! (an entry was applied only once it was on disk), and the members as their version 1.

use std::io;

use crate::{entry::invalid, members::Members, wal::Position};

const FIRST_VERSION: u8 = 1;
const VERSION: u8 = 2;

/// The last entry applied, and what is known with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Applied {
    /// The last entry applied; index 0 for none.
    pub at: Position,
    /// The newest entry that was on disk at that time, at most `at.index`.
    pub synced: u64,
    members: Members,
    /// `members` as they are stored; they hardly ever change.
    members_bytes: Vec<u8>,
}

impl Applied {
    pub fn members(&self) -> &Members {
        &self.members
    }

    /// Members as an entry says; what those who stay have announced stays.
    pub fn change_members(&mut self, mut members: Members) -> io::Result<()> {
        members.levels = std::mem::take(&mut self.members.levels);
        let Members { nodes, levels, .. } = &mut members;
        levels.retain(|node, _| nodes.contains_key(node));
        self.set_members(members)
    }

    /// A member has announced a feature level.
    pub fn announce(&mut self, node: u64, level: u32) -> io::Result<()> {
        let mut members = self.members.clone();
        members.levels.insert(node, level);
        self.set_members(members)
    }

    fn set_members(&mut self, members: Members) -> io::Result<()> {
        self.members_bytes = members.encode()?;
        self.members = members;
        Ok(())
    }

    /// The bytes that the state machine stores.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(25 + self.members_bytes.len());
        out.push(VERSION);
        out.extend_from_slice(&self.at.term.to_le_bytes());
        out.extend_from_slice(&self.at.index.to_le_bytes());
        out.extend_from_slice(&self.synced.to_le_bytes());
        out.extend_from_slice(&self.members_bytes);
        out
    }

    /// What the state machine stored; an empty one stored nothing.
    pub fn of_stored(position: Option<&[u8]>) -> io::Result<Self> {
        let mut applied = match position {
            Some(position) => Self::parse(position)?,
            None => Self::default(),
        };
        let members = applied.members.clone();
        applied.set_members(members)?;
        Ok(applied)
    }

    fn parse(position: &[u8]) -> io::Result<Self> {
        let wrong = || invalid("the state machine's position is not one that this program wrote");
        let (version, rest) = position.split_first().ok_or_else(wrong)?;
        if *version > VERSION {
            return Err(invalid(format!(
                "the state machine's position has format {version}, this program knows up to {VERSION}; use the newer program"
            )));
        }
        let (term, rest) = rest.split_first_chunk::<8>().ok_or_else(wrong)?;
        let (index, rest) = rest.split_first_chunk::<8>().ok_or_else(wrong)?;
        let at = Position {
            term: u64::from_le_bytes(*term),
            index: u64::from_le_bytes(*index),
        };
        let (synced, members) = match *version {
            FIRST_VERSION => (at.index, Members::parse_first_position(rest)?),
            VERSION => {
                let (synced, rest) = rest.split_first_chunk::<8>().ok_or_else(wrong)?;
                (u64::from_le_bytes(*synced), Members::parse(rest)?)
            }
            _ => return Err(wrong()),
        };
        Ok(Self {
            at,
            synced,
            members,
            members_bytes: Vec::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_back_as_stored() {
        let mut applied = Applied {
            at: Position { term: 2, index: 30 },
            synced: 28,
            ..Applied::default()
        };
        let members = Members {
            since: Position { term: 1, index: 1 },
            configs: vec![[1].into()],
            nodes: [(1, "localhost".to_owned())].into(),
            ..Members::default()
        };
        applied.change_members(members).unwrap();
        applied.announce(1, 2).unwrap();
        let bytes = applied.encode();
        assert_eq!(
            bytes[..9],
            [2, 2, 0, 0, 0, 0, 0, 0, 0],
            "the bytes are a promise to later versions"
        );
        assert_eq!(bytes[9..17], 30_u64.to_le_bytes());
        assert_eq!(bytes[17..25], 28_u64.to_le_bytes());
        assert_eq!(Applied::of_stored(Some(&bytes)).unwrap(), applied);
        let none = Applied::of_stored(None).unwrap();
        assert_eq!(Applied::of_stored(Some(&none.encode())).unwrap(), none);
    }

    #[test]
    fn who_leaves_takes_its_level_along() {
        let nodes = |ids: &[u64]| Members {
            nodes: ids.iter().map(|id| (*id, String::new())).collect(),
            ..Members::default()
        };
        let mut applied = Applied::default();
        applied.change_members(nodes(&[1, 2])).unwrap();
        applied.announce(1, 3).unwrap();
        applied.announce(2, 1).unwrap();
        assert_eq!(applied.members().agreed_level(), 1);
        applied.change_members(nodes(&[1])).unwrap();
        assert_eq!(applied.members().agreed_level(), 3);
        applied.change_members(nodes(&[1, 2])).unwrap();
        assert_eq!(applied.members().agreed_level(), 0, "it has to say so again");
    }

    #[test]
    fn the_first_version_is_read_and_a_newer_one_refused() {
        let mut bytes = vec![1, 3, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0];
        bytes.extend_from_slice(br#"{"log_id":{"leader_id":1,"index":0},"membership":{"configs":[[1]],"nodes":{"1":{"addr":"localhost"}}}}"#);
        let applied = Applied::of_stored(Some(&bytes)).unwrap();
        assert_eq!((applied.at, applied.synced), (Position { term: 3, index: 9 }, 9));
        assert!(applied.members().is_alone(1));
        assert_eq!(applied.members().since, Position { term: 1, index: 1 });
        bytes[0] = 3;
        let error = Applied::of_stored(Some(&bytes)).unwrap_err().to_string();
        assert!(error.contains("use the newer program"), "{error}");
        for cut in 0..17 {
            bytes[0] = 1;
            Applied::of_stored(Some(&bytes[..cut])).unwrap_err();
        }
    }
}
