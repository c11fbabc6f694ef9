//! What can go wrong with a journal.

use std::{io, path::PathBuf};

use alluxio_common::{ErrorKind, FsError};

use crate::NodeId;

/// Why a journal could not be opened, or a command not be committed.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another process has the folder open.
    #[error("journal folder {dir} is in use by {}; stop that process first", holder(.pid))]
    Locked {
        /// The folder.
        dir: PathBuf,
        /// The process that has it, if it could be found out.
        pid: Option<u32>,
    },
    /// The folder holds something, but no journal.
    #[error("{dir} is not empty and holds no journal; name an empty folder, or format this one")]
    NotAJournal {
        /// The folder.
        dir: PathBuf,
    },
    /// A newer version of this program wrote the folder.
    #[error("journal folder {dir} has format version {found}, this program knows up to {known}; use the newer program")]
    NewerFormat {
        /// The folder.
        dir: PathBuf,
        /// The version found there.
        found: u32,
        /// The newest version known here.
        known: u32,
    },
    /// The folder belongs to another cluster.
    #[error("journal folder {dir} belongs to cluster {found:?}, not to {expected:?}")]
    WrongCluster {
        /// The folder.
        dir: PathBuf,
        /// The cluster that the folder names.
        found: String,
        /// The cluster that was asked for.
        expected: String,
    },
    /// The folder belongs to another member of the cluster.
    #[error("journal folder {dir} belongs to node {found}, not to node {expected}")]
    WrongNode {
        /// The folder.
        dir: PathBuf,
        /// The member that the folder names.
        found: u64,
        /// The member that was asked for.
        expected: u64,
    },
    /// Something on disk is damaged in a way that no crash explains. Nothing was changed.
    #[error("{file} is damaged at offset {offset} (log index {index}): {why}; nothing was changed. {advice}")]
    Corrupt {
        /// The damaged file.
        file: PathBuf,
        /// Where in the file.
        offset: u64,
        /// Which log entry is (or would be) there.
        index: u64,
        /// What is wrong.
        why: String,
        /// What a person can try.
        advice: &'static str,
    },
    /// Parts of the journal do not fit together (log, snapshots, state machine).
    #[error("journal folder {dir} is incomplete: {why}")]
    Incomplete {
        /// The folder.
        dir: PathBuf,
        /// What is missing.
        why: String,
    },
    /// This member does not lead; ask the one that does.
    #[error("not the leader{}", led_by(.leader))]
    NotLeader {
        /// The leader, if known.
        leader: Option<NodeId>,
    },
    /// The command is larger than a command may be.
    #[error("a command of {bytes} bytes is larger than the limit of {limit}")]
    TooLarge {
        /// Its encoded size.
        bytes: usize,
        /// The bound.
        limit: usize,
    },
    /// Not every member would know the command, or none does. It was not written.
    #[error("{}", not_agreed(.needed, .agreed))]
    NotAgreed {
        /// The feature level that it takes; `None`: this program does not know the command.
        needed: Option<u32>,
        /// The feature level that every member has.
        agreed: u32,
    },
    /// The disk has no room for more log. Nothing was written; the journal works on once there is room.
    #[error("no space for the journal in {dir}; free some and try again")]
    NoSpace {
        /// The folder.
        dir: PathBuf,
    },
    /// The journal was shut down.
    #[error("the journal is shut down")]
    ShutDown,
    /// Log or state machine failed; whether the command will be found committed after a restart is unknown.
    #[error("the journal failed and this process must be restarted: {reason}")]
    Failed {
        /// The first failure.
        reason: String,
    },
    /// The operating system refused.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done.
        doing: String,
        /// Why not.
        source: io::Error,
    },
}

/// Result of journal operations.
pub(crate) type Result<T, E = JournalError> = std::result::Result<T, E>;

fn holder(pid: &Option<u32>) -> String {
    match pid {
        Some(pid) => format!("process {pid}"),
        None => "another process".into(),
    }
}

fn not_agreed(needed: &Option<u32>, agreed: &u32) -> String {
    match needed {
        Some(needed) => format!(
            "a command of feature level {needed} is for masters that all have it, and some have {agreed}; upgrade those first"
        ),
        None => "this program does not know the command; use the newer program".into(),
    }
}

fn led_by(leader: &Option<NodeId>) -> String {
    match leader {
        Some(id) => format!("; node {id} is"),
        None => "; none is known now".into(),
    }
}

impl JournalError {
    /// An error of the operating system met while `doing` something.
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }

    /// The same for another one who waits for the same.
    pub(crate) fn again(&self) -> Self {
        match self {
            Self::NotLeader { leader } => Self::NotLeader { leader: *leader },
            Self::ShutDown => Self::ShutDown,
            Self::Failed { reason } => Self::Failed { reason: reason.clone() },
            other => Self::Failed {
                reason: other.to_string(),
            },
        }
    }

    /// What callers of the file system branch on.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Locked { .. } => ErrorKind::Busy,
            Self::NotAJournal { .. } | Self::WrongCluster { .. } | Self::WrongNode { .. } => ErrorKind::InvalidArgument,
            Self::TooLarge { .. } => ErrorKind::InvalidArgument,
            Self::NewerFormat { .. } | Self::NotAgreed { .. } => ErrorKind::NotSupported,
            Self::Corrupt { .. } | Self::Incomplete { .. } => ErrorKind::Corrupt,
            Self::NotLeader { .. } | Self::ShutDown | Self::Failed { .. } => ErrorKind::Unavailable,
            Self::NoSpace { .. } => ErrorKind::NoSpace,
            Self::Io { doing, source } => FsError::from_io(doing, source).kind,
        }
    }

    /// The errno that a system call reports.
    pub fn errno(&self) -> i32 {
        self.kind().errno()
    }

    /// The gRPC status code.
    pub fn grpc_code(&self) -> i32 {
        self.kind().grpc_code()
    }

    /// Whether the same call may succeed later, here or at another member, with nothing else changed.
    pub fn is_retryable(&self) -> bool {
        self.kind().is_retryable()
    }
}

impl From<JournalError> for FsError {
    fn from(error: JournalError) -> Self {
        FsError::new(error.kind(), error.to_string())
    }
}
