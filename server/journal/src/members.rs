//! Who replicates the log, in our own words on disk.
//!
//! Written as JSON, because it is rare and has to be readable when a person must look:
//!
//! ```text
//! {"version":2,"since":{"term":1,"index":1},"configs":[[1]],"nodes":{"1":"localhost"},"levels":{"1":2}}
//! ```
//!
//! `levels` is left out while nobody has announced one.
//!
//! Version 1 was what the library for consensus made of its own types; [`Members::parse_first_entry`] and
//! [`Members::parse_first_position`] still read it, nothing writes it.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

use serde::{Deserialize, Serialize};

use crate::{entry::invalid, wal::Position};

/// The version that is written, and the newest that is read. 2: the first of our own.
const VERSION: u32 = 2;

/// Who replicates the log, as of one of its entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Members {
    /// The entry that says so; 0 if none has yet.
    pub since: Position,
    /// A majority of each must agree; there are two while the members change.
    pub configs: Vec<BTreeSet<u64>>,
    /// The address of everybody who gets the log, also of those without a vote.
    pub nodes: BTreeMap<u64, String>,
    /// The feature level that each has announced; 0 if none.
    pub levels: BTreeMap<u64, u32>,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    since: Since,
    configs: Vec<BTreeSet<u64>>,
    nodes: BTreeMap<u64, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    levels: BTreeMap<u64, u32>,
}

#[derive(Serialize, Deserialize)]
struct Since {
    term: u64,
    index: u64,
}

/// Of version 1: members in an entry.
#[derive(Deserialize)]
struct First {
    configs: Vec<BTreeSet<u64>>,
    nodes: BTreeMap<u64, FirstNode>,
}

#[derive(Deserialize)]
struct FirstNode {
    addr: String,
}

/// Of version 1: members in a position, with the entry that made them so; its index counts from 0.
#[derive(Deserialize)]
struct FirstStored {
    log_id: Option<FirstId>,
    membership: First,
}

#[derive(Deserialize)]
struct FirstId {
    leader_id: u64,
    index: u64,
}

impl Members {
    /// Whether this member decides alone.
    pub fn is_alone(&self, node: u64) -> bool {
        let mut voters = self.configs.iter().flatten();
        voters.next() == Some(&node) && voters.all(|voter| *voter == node)
    }

    /// The feature level that every member has.
    pub fn agreed_level(&self) -> u32 {
        let levels = self
            .nodes
            .keys()
            .map(|node| self.levels.get(node).copied().unwrap_or(0));
        levels.min().unwrap_or(0)
    }

    /// The bytes on disk.
    pub fn encode(&self) -> io::Result<Vec<u8>> {
        Ok(serde_json::to_vec(&Stored {
            version: VERSION,
            since: Since {
                term: self.since.term,
                index: self.since.index,
            },
            configs: self.configs.clone(),
            nodes: self.nodes.clone(),
            levels: self.levels.clone(),
        })?)
    }

    /// What [`Members::encode`] wrote.
    pub fn parse(bytes: &[u8]) -> io::Result<Self> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let Versioned { version } = serde_json::from_slice(bytes)?;
        if version > VERSION {
            return Err(invalid(format!(
                "the list of members has format {version}, this program knows up to {VERSION}; use the newer program"
            )));
        }
        let stored: Stored = serde_json::from_slice(bytes)?;
        Ok(Self {
            since: Position {
                term: stored.since.term,
                index: stored.since.index,
            },
            configs: stored.configs,
            nodes: stored.nodes,
            levels: stored.levels,
        })
    }

    /// An entry of version 1, which was at `since`.
    pub fn parse_first_entry(bytes: &[u8], since: Position) -> io::Result<Self> {
        Ok(Self::of_first(serde_json::from_slice(bytes)?, since))
    }

    /// The members in a position of version 1.
    pub fn parse_first_position(bytes: &[u8]) -> io::Result<Self> {
        let stored: FirstStored = serde_json::from_slice(bytes)?;
        let since = stored.log_id.map_or(Position::default(), |id| Position {
            term: id.leader_id,
            index: id.index + 1,
        });
        Ok(Self::of_first(stored.membership, since))
    }

    fn of_first(first: First, since: Position) -> Self {
        Self {
            since,
            configs: first.configs,
            nodes: first.nodes.into_iter().map(|(id, node)| (id, node.addr)).collect(),
            levels: BTreeMap::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> Members {
        Members {
            since: Position { term: 3, index: 7 },
            configs: vec![[1, 2].into(), [2, 3].into()],
            nodes: [(1, "a:1".to_owned()), (2, "b:2".to_owned()), (3, "c:3".to_owned())].into(),
            levels: [(1, 4), (3, 2)].into(),
        }
    }

    #[test]
    fn come_back_as_written() {
        for members in [Members::default(), three()] {
            assert_eq!(Members::parse(&members.encode().unwrap()).unwrap(), members);
        }
    }

    /// The bytes on disk are a promise to later versions.
    #[test]
    fn format_is_frozen() {
        let text = r#"{"version":2,"since":{"term":3,"index":7},"configs":[[1,2],[2,3]],"nodes":{"1":"a:1","2":"b:2","3":"c:3"},"levels":{"1":4,"3":2}}"#;
        assert_eq!(String::from_utf8(three().encode().unwrap()).unwrap(), text);
    }

    #[test]
    fn a_newer_one_is_refused_whatever_it_holds() {
        let error = Members::parse(br#"{"version":3,"voters":"all"}"#).unwrap_err();
        assert!(error.to_string().contains("use the newer program"), "{error}");
    }

    #[test]
    fn the_first_version_is_read() {
        let entry = br#"{"configs":[[1]],"nodes":{"1":{"addr":"localhost"}}}"#;
        let since = Position { term: 1, index: 1 };
        let one = Members {
            since,
            configs: vec![[1].into()],
            nodes: [(1, "localhost".to_owned())].into(),
            ..Members::default()
        };
        assert_eq!(Members::parse_first_entry(entry, since).unwrap(), one);
        let position = br#"{"log_id":{"leader_id":1,"index":0},"membership":{"configs":[[1]],"nodes":{"1":{"addr":"localhost"}}}}"#;
        assert_eq!(Members::parse_first_position(position).unwrap(), one);
        let none = br#"{"log_id":null,"membership":{"configs":[],"nodes":{}}}"#;
        assert_eq!(Members::parse_first_position(none).unwrap(), Members::default());
    }

    #[test]
    fn a_level_is_agreed_on_when_everybody_has_it() {
        let mut members = three();
        assert_eq!(members.agreed_level(), 0, "the second has not said a word");
        members.levels.insert(2, 3);
        assert_eq!(members.agreed_level(), 2);
        assert_eq!(Members::default().agreed_level(), 0);
    }

    #[test]
    fn who_is_alone() {
        let one = |voters: &[&[u64]]| Members {
            configs: voters.iter().map(|config| config.iter().copied().collect()).collect(),
            ..Default::default()
        };
        assert!(one(&[&[1]]).is_alone(1) && one(&[&[1], &[1]]).is_alone(1));
        assert!(!one(&[&[1]]).is_alone(2) && !one(&[]).is_alone(1) && !one(&[&[1], &[1, 2]]).is_alone(1));
    }
}
