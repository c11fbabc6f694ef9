//! The vote: which member this one follows in the current term. A file of its own, replaced as a whole.

use std::{fs, io, path::PathBuf};

use alluxio_common::{checksum::crc32c, crashsafe};

use super::Vote;
use crate::{JournalError, error::Result};

/// The file and what it says.
pub(crate) struct VoteFile {
    path: PathBuf,
    vote: Option<Vote>,
}

impl VoteFile {
    /// Reads the vote; a missing file is no vote yet.
    pub fn open(path: PathBuf) -> Result<Self> {
        let vote = match fs::read_to_string(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(JournalError::io(format!("read {}", path.display()))(e)),
            Ok(text) => Some(parse(&text).ok_or_else(|| JournalError::Corrupt {
                file: path.clone(),
                offset: 0,
                index: 0,
                why: "it holds no vote, or its checksum does not match".into(),
                advice: "Restore the journal folder from a backup or another member",
            })?),
        };
        Ok(Self { path, vote })
    }

    /// The vote saved last.
    pub fn get(&self) -> Option<Vote> {
        self.vote
    }

    /// Replaces the vote, durably.
    pub fn set(&mut self, vote: &Vote) -> io::Result<()> {
        let json = serde_json::to_string(vote)?;
        let text = format!("{json}\n{:08x}\n", crc32c(json.as_bytes()));
        crashsafe::write_atomic(&self.path, text.as_bytes())?;
        self.vote = Some(*vote);
        Ok(())
    }
}

fn parse(text: &str) -> Option<Vote> {
    let (json, checksum) = text.split_once('\n')?;
    let checksum = u32::from_str_radix(checksum.trim_end(), 16).ok()?;
    (checksum == crc32c(json.as_bytes())).then(|| serde_json::from_str(json).ok())?
}
