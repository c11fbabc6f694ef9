//! What the load did, written to a disk that is not cut: each step before it begins, and that it was acknowledged.

use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{Result as IoResult, Write};
use std::path::Path;

/// One call. Numbers of lines, not bytes; a version is the number of a change of its file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(
    missing_docs,
    reason = "fields are the arguments of the call that the variant is named after"
)]
pub enum Step {
    /// open(2) with `O_CREAT | O_EXCL`.
    Create { uid: u32, name: String },
    /// A write or a store through a mapping; `synced`: by a descriptor with `O_SYNC` or `O_DSYNC`.
    Write {
        uid: u32,
        version: u32,
        from: u32,
        lines: u32,
        synced: bool,
    },
    /// truncate(2), ftruncate(2) or open(2) with `O_TRUNC`.
    Truncate { uid: u32, version: u32, lines: u32 },
    /// fsync(2) or fdatasync(2).
    Sync { uid: u32 },
    /// msync(2).
    MapSync { uid: u32, from: u32, lines: u32 },
    /// close(2) of a descriptor for writing.
    Close { uid: u32 },
    /// rename(2), also over another file.
    Rename { from: String, to: String },
    /// unlink(2).
    Unlink { name: String },
}

/// A line of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Entry {
    /// About to be done.
    Begin(Step),
    /// The step begun last was acknowledged.
    Done,
    /// It failed although the power was on.
    Failed(String),
}

/// The log of one thread.
#[derive(Debug)]
pub struct Log(File);

impl Log {
    /// Starts an empty one.
    ///
    /// # Errors
    /// Of the file system.
    pub fn create(path: &Path) -> IoResult<Log> {
        Ok(Log(File::create(path)?))
    }

    /// Adds an entry; it survives this process from then on.
    ///
    /// # Errors
    /// Of the file system.
    pub fn add(&mut self, entry: &Entry) -> IoResult<()> {
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        self.0.write_all(&line)
    }
}

/// What a log says; an entry that was being written when its process was killed does not count.
///
/// # Panics
/// If it cannot be read.
pub fn read(path: &Path) -> Vec<Entry> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => panic!("read {}: {error}", path.display()),
    };
    let whole = text.rfind('\n').map_or(0, |end| end + 1);
    let parse = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{}: {line}: {error}", path.display()));
    text[..whole].lines().map(parse).collect()
}
