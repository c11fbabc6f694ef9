//! What a journal is told, and what it says about itself.

use std::{path::PathBuf, sync::Arc, time::Duration};

use alluxio_common::{
    clock::Clock,
    disk::{self, Disk},
};

/// A member of the cluster that replicates this log. 1 for a single master.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u64);

impl std::fmt::Display for NodeId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// How a journal is opened.
#[derive(Clone, Debug)]
pub struct JournalOptions {
    /// The folder that holds everything of the journal (`alluxio.master.journal.folder`). Created and formatted if
    /// it is absent or empty.
    pub dir: PathBuf,
    /// The cluster's name. A folder of another cluster is refused.
    pub cluster_id: String,
    /// Which member this is. A folder of another member is refused.
    pub node_id: NodeId,
    /// A snapshot is taken after so many commands since the last one
    /// (`alluxio.master.journal.checkpoint.period.entries`).
    pub snapshot_entries_max: u64,
    /// A snapshot is also taken when the log since the last one has so many bytes.
    pub snapshot_bytes_max: u64,
    /// Size of a log segment file; segments are allocated in full (`alluxio.master.journal.log.size.bytes.max`).
    pub segment_bytes_max: u64,
    /// What it takes for an entry to be committed by this member.
    pub commit: CommitAt,
    /// Bounds on what is written together.
    pub batch: BatchLimits,
    /// Where the folder is.
    pub disk: Arc<dyn Disk>,
    /// What times are measured by.
    pub clock: Clock,
}

/// What it takes for an entry to be committed by this member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CommitAt {
    /// It is on disk.
    #[default]
    Synced,
    /// It was written, so that the crash of any process leaves it there; a power cut may take it until it is synced.
    Written {
        /// It is synced after this time at the latest.
        flush_interval: Duration,
    },
}

/// What the outcome of a command tells its proposer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// It is applied, and the crash of any process leaves it there. A power cut takes it back if it comes before the next
    /// sync; with [`CommitAt::Synced`] there has been one.
    Process,
    /// It is applied and on disk.
    #[default]
    Power,
}

/// How a command is proposed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// What its outcome is to mean.
    pub durability: Durability,
    /// How long it may wait to be written with the first other command that comes meanwhile.
    pub patience: Duration,
}

impl JournalOptions {
    /// Options with Alluxio's defaults.
    pub fn new(dir: impl Into<PathBuf>, cluster_id: impl Into<String>, node_id: NodeId) -> Self {
        Self {
            dir: dir.into(),
            cluster_id: cluster_id.into(),
            node_id,
            snapshot_entries_max: 2_000_000,
            snapshot_bytes_max: SNAPSHOT_BYTES_MAX,
            segment_bytes_max: 64 << 20,
            commit: CommitAt::default(),
            batch: BatchLimits::default(),
            disk: disk::real(),
            clock: Clock::real(),
        }
    }
}

/// As much log as two million usual entries: what takes some seconds to replay.
const SNAPSHOT_BYTES_MAX: u64 = 1 << 30;
/// Segments are at least this large, so that the log's header blocks do not dominate.
const SEGMENT_BYTES_MIN: u64 = 64 << 10;
/// Segments are at most this large: offsets in them fit 32 bits, and at start a segment is read into memory.
const SEGMENT_BYTES_MAX: u64 = 1 << 30;

impl JournalOptions {
    /// The same options with every number in the range that works.
    pub(crate) fn bounded(mut self) -> Self {
        self.segment_bytes_max = self.segment_bytes_max.clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX);
        self.batch.commands_max = self.batch.commands_max.max(1);
        self.batch.queue_max = self.batch.queue_max.max(1);
        self.batch.command_bytes_max = self.batch.command_bytes_max.min(crate::wal::PAYLOAD_BYTES_MAX / 2);
        self.batch.bytes_max = self.batch.bytes_max.min(crate::wal::PAYLOAD_BYTES_MAX / 2);
        self
    }
}

/// Bounds on what is written together, and on what may wait for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// Commands in one log entry. Large enough that one sync serves every caller of a busy master, small enough that
    /// applying it holds the state's lock for milliseconds only.
    pub commands_max: usize,
    /// Encoded bytes in one log entry (a single larger command still gets an entry of its own).
    pub bytes_max: usize,
    /// Encoded bytes of one command; a larger one is refused.
    pub command_bytes_max: usize,
    /// Proposals that may wait for a batch; more wait outside, in [`crate::Journal::propose`].
    pub queue_max: usize,
}

impl Default for BatchLimits {
    fn default() -> Self {
        Self {
            commands_max: 1024,
            bytes_max: 1 << 20,
            command_bytes_max: 16 << 20,
            queue_max: 4096,
        }
    }
}

/// A journal's state at one moment.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct JournalStatus {
    /// The cluster's name.
    pub cluster_id: String,
    /// This member.
    pub node_id: u64,
    /// The member that leads now, if one is known.
    pub leader_id: Option<u64>,
    /// Whether this member leads, and so accepts proposals.
    pub is_leader: bool,
    /// The current term.
    pub term: u64,
    /// The oldest entry still in the log; `None` if the log is empty.
    pub first_index: Option<u64>,
    /// The newest entry in the log (0: none yet).
    pub last_index: u64,
    /// The newest entry that is on disk (0: none yet).
    pub synced_index: u64,
    /// The newest entry applied to the state machine (0: none yet).
    pub applied_index: u64,
    /// What the newest snapshot contains (0: there is none).
    pub snapshot_index: u64,
    /// Commands applied since the newest snapshot; of those before this process began, entries are counted.
    pub commands_since_snapshot: u64,
    /// Bytes of the log's entries on disk.
    pub log_bytes: u64,
    /// Log segment files.
    pub log_segments: usize,
    /// The feature level that every member has; commands up to it may be proposed.
    pub feature_level: u32,
    /// Why the journal no longer works, if so. Only a restart of the process helps.
    pub failed: Option<String>,
}
