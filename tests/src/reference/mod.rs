//! The reference test: the same random operations on a mount and on a native directory must give the same results.
//!
//! [`Op`] is one system call (or a few that belong together), [`generate`] makes sequences of them, [`actor`] carries them
//! out in processes of their own, and [`pair`] holds the two sides against each other and shrinks what differs.
//!
//! **What is compared:** result, errno, bytes, file positions, names and kinds, mode, owner, link count, size, extended
//! attributes, times where they were set, and whether an operation moved mtime or ctime where it was not. **What is not:**
//! inode and device numbers, block counts, where holes are (only that they read as zeros), atime, sizes of directories.

pub mod actor;
pub mod generate;
mod maps;
pub mod pair;
mod sys;

use serde::{Deserialize, Serialize};

/// One step of a sequence. Slots are the actor's own numbers for descriptors and mappings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(
    missing_docs,
    reason = "fields are the arguments of the system call that the variant is named after"
)]
pub enum Op {
    Open {
        slot: usize,
        path: String,
        flags: i32,
        mode: u32,
    },
    Close {
        slot: usize,
    },
    Read {
        slot: usize,
        length: usize,
    },
    Write {
        slot: usize,
        length: usize,
        seed: u64,
    },
    Pread {
        slot: usize,
        offset: i64,
        length: usize,
    },
    Pwrite {
        slot: usize,
        offset: i64,
        length: usize,
        seed: u64,
    },
    Seek {
        slot: usize,
        offset: i64,
        whence: i32,
    },
    /// Walks data and holes by SEEK_DATA and SEEK_HOLE; holes must read as zeros.
    Holes {
        slot: usize,
    },
    Truncate {
        path: String,
        length: i64,
    },
    Ftruncate {
        slot: usize,
        length: i64,
    },
    Fallocate {
        slot: usize,
        mode: i32,
        offset: i64,
        length: i64,
    },
    CopyRange {
        from: usize,
        to: usize,
        from_offset: i64,
        to_offset: i64,
        length: usize,
    },
    Fsync {
        slot: usize,
        data_only: bool,
    },
    Fstat {
        slot: usize,
    },
    /// Maps a descriptor's file; the mapping outlives the descriptor.
    Map {
        slot: usize,
        map: usize,
        shared: bool,
    },
    MapRead {
        map: usize,
        offset: usize,
        length: usize,
    },
    MapWrite {
        map: usize,
        offset: usize,
        length: usize,
        seed: u64,
    },
    MapSync {
        map: usize,
    },
    Unmap {
        map: usize,
    },
    Stat {
        path: String,
    },
    List {
        path: String,
    },
    Mkdir {
        path: String,
        mode: u32,
    },
    Rmdir {
        path: String,
    },
    Unlink {
        path: String,
    },
    Rename {
        from: String,
        to: String,
        flags: u32,
    },
    Link {
        from: String,
        to: String,
    },
    Symlink {
        target: String,
        path: String,
    },
    Readlink {
        path: String,
    },
    Mkfifo {
        path: String,
        mode: u32,
    },
    Access {
        path: String,
        mode: i32,
    },
    Chmod {
        path: String,
        mode: u32,
    },
    Chown {
        path: String,
        uid: i64,
        gid: i64,
    },
    /// Nanoseconds since 1970; `None` leaves a time as it is.
    Utimens {
        path: String,
        atime_ns: Option<i64>,
        mtime_ns: Option<i64>,
    },
    SetXattr {
        path: String,
        name: String,
        length: usize,
        seed: u64,
        flags: i32,
    },
    GetXattr {
        path: String,
        name: String,
    },
    ListXattr {
        path: String,
    },
    RemoveXattr {
        path: String,
        name: String,
    },
}

impl Op {
    /// Paths whose times the operation may move.
    fn paths(&self) -> Vec<&str> {
        match self {
            Op::Open { path, .. }
            | Op::Truncate { path, .. }
            | Op::Mkdir { path, .. }
            | Op::Rmdir { path }
            | Op::Unlink { path }
            | Op::Symlink { path, .. }
            | Op::Mkfifo { path, .. }
            | Op::Access { path, .. }
            | Op::Readlink { path }
            | Op::Chmod { path, .. }
            | Op::Chown { path, .. }
            | Op::SetXattr { path, .. }
            | Op::RemoveXattr { path, .. } => vec![path],
            Op::Rename { from, to, .. } | Op::Link { from, to } => vec![from, to],
            _ => Vec::new(),
        }
    }

    /// The descriptor whose file's times it may move.
    fn descriptor(&self) -> Option<usize> {
        match self {
            Op::Write { slot, .. }
            | Op::Pwrite { slot, .. }
            | Op::Ftruncate { slot, .. }
            | Op::Fallocate { slot, .. } => Some(*slot),
            Op::CopyRange { to, .. } => Some(*to),
            _ => None,
        }
    }
}

/// What an actor is asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Request {
    /// Close everything and work in this folder from now on.
    Begin {
        /// The folder.
        root: String,
    },
    /// Carry out an operation.
    Do {
        /// Which.
        op: Op,
        /// Whether to look at times before and after.
        times: bool,
    },
    /// Sync all that is open and mapped.
    SyncAll,
    /// Describe the whole folder.
    Tree,
}

/// How an operation ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// 0, or why it failed.
    pub errno: i32,
    /// What the system call returned, where that means something.
    pub value: i64,
    /// What it found: digests of bytes, attributes, names.
    pub found: Vec<String>,
}

/// Digest of bytes (FNV-1a): what travels instead of them.
pub fn digest(bytes: &[u8]) -> String {
    let mut state = 0xcbf2_9ce4_8422_2325u64;
    for byte in bytes {
        state = (state ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    format!("{} bytes {state:016x}", bytes.len())
}
