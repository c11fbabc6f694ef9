//! The vote: which member this one follows in the current term. A file of its own, replaced as a whole.
//!
//! ```text
//! {"version":2,"term":3,"voted_for":1,"committed":true}
//! CRC32C of the line before, in hexadecimal
//! ```
//!
//! Version 1 was what the library for consensus made of its own type; it is read, and replaced by the next vote.

use std::{io, path::PathBuf, sync::Arc};

use alluxio_common::{checksum::crc32c, disk::Disk};
use serde::{Deserialize, Serialize};

use super::{LeaderId, Vote};
use crate::{JournalError, error::Result};

/// The version that is written, and the newest that is read. 2: the first of our own.
const VERSION: u32 = 2;

#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    term: u64,
    voted_for: u64,
    /// Whether a majority voted as this one did.
    committed: bool,
}

/// Of version 1.
#[derive(Deserialize)]
struct First {
    leader_id: FirstLeader,
    committed: bool,
}

#[derive(Deserialize)]
struct FirstLeader {
    term: u64,
    voted_for: u64,
}

/// The file and what it says.
pub(crate) struct VoteFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    vote: Option<Vote>,
}

impl VoteFile {
    /// Reads the vote; a missing file is no vote yet.
    pub fn open(disk: Arc<dyn Disk>, path: PathBuf) -> Result<Self> {
        let vote = match disk.read(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(JournalError::io(format!("read {}", path.display()))(e)),
            Ok(bytes) => Some(
                parse(&String::from_utf8_lossy(&bytes)).map_err(|why| JournalError::Corrupt {
                    file: path.clone(),
                    offset: 0,
                    index: 0,
                    why,
                    advice: "Restore the journal folder from a backup or another member",
                })?,
            ),
        };
        Ok(Self { disk, path, vote })
    }

    /// The vote saved last.
    pub fn get(&self) -> Option<Vote> {
        self.vote
    }

    /// Replaces the vote, durably.
    pub fn set(&mut self, vote: &Vote) -> io::Result<()> {
        self.disk.write_atomic(&self.path, encode(vote)?.as_bytes())?;
        self.vote = Some(*vote);
        Ok(())
    }
}

fn encode(vote: &Vote) -> io::Result<String> {
    let json = serde_json::to_string(&Stored {
        version: VERSION,
        term: vote.leader_id.term,
        voted_for: vote.leader_id.voted_for,
        committed: vote.committed,
    })?;
    Ok(format!("{json}\n{:08x}\n", crc32c(json.as_bytes())))
}

fn parse(text: &str) -> Result<Vote, String> {
    #[derive(Deserialize)]
    struct Versioned {
        /// The first version did not say.
        #[serde(default)]
        version: u32,
    }
    let no_vote = || "it holds no vote, or its checksum does not match".to_owned();
    let (json, checksum) = text.split_once('\n').ok_or_else(no_vote)?;
    if u32::from_str_radix(checksum.trim_end(), 16).ok() != Some(crc32c(json.as_bytes())) {
        return Err(no_vote());
    }
    let Versioned { version } = serde_json::from_str(json).map_err(|_| no_vote())?;
    let (term, voted_for, committed) = match version {
        0 => {
            let first: First = serde_json::from_str(json).map_err(|_| no_vote())?;
            (first.leader_id.term, first.leader_id.voted_for, first.committed)
        }
        VERSION => {
            let stored: Stored = serde_json::from_str(json).map_err(|_| no_vote())?;
            (stored.term, stored.voted_for, stored.committed)
        }
        other => {
            return Err(format!(
                "its format is {other}, this program knows up to {VERSION}; use the newer program"
            ));
        }
    };
    Ok(Vote {
        leader_id: LeaderId { term, voted_for },
        committed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_checksum(json: &str) -> String {
        format!("{json}\n{:08x}\n", crc32c(json.as_bytes()))
    }

    fn vote() -> Vote {
        Vote {
            leader_id: LeaderId { term: 3, voted_for: 1 },
            committed: true,
        }
    }

    #[test]
    fn both_versions_are_read_and_ours_is_written() {
        let ours = with_checksum(r#"{"version":2,"term":3,"voted_for":1,"committed":true}"#);
        assert_eq!(
            encode(&vote()).unwrap(),
            ours,
            "the bytes are a promise to later versions"
        );
        assert_eq!(parse(&ours), Ok(vote()));
        let first = with_checksum(r#"{"leader_id":{"term":3,"voted_for":1},"committed":true}"#);
        assert_eq!(parse(&first), Ok(vote()));
    }

    #[test]
    fn what_is_damaged_or_newer_is_refused() {
        let ours = with_checksum(r#"{"version":2,"term":3,"voted_for":1,"committed":true}"#);
        for at in 0..ours.len() - 1 {
            let mut bad = ours.clone().into_bytes();
            bad[at] ^= 1;
            assert!(
                String::from_utf8(bad).map_or(true, |bad| parse(&bad).is_err()),
                "byte {at}"
            );
        }
        let newer = parse(&with_checksum(r#"{"version":3,"epoch":"?"}"#)).unwrap_err();
        assert!(newer.contains("use the newer program"), "{newer}");
    }
}
