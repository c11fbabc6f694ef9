//! The replicated log: commands go in, are made durable in order, and are applied to a state machine.
//!
//! The only crate that names openraft; nothing outside knows how many members there are. It does not know what a
//! command means.
//!
//! Promises:
//! - [`Journal::propose`] returns after its command is on disk (and, with several members, on a majority of them)
//!   and applied here; with [`Durability::Process`] and [`CommitAt::Written`], after it is written and applied.
//! - Appending, syncing and applying are three stages: a slow state machine holds up neither of the others.
//! - Commands are applied in one order, the same after every restart and on every member, each exactly once.
//! - Nothing that was acknowledged is dropped or skipped silently: a damaged log is refused with the place of the
//!   damage, and no file is changed or deleted to get past it.
//!
//! Left out: reads (the owner of the state machine reads it directly), and what a command does.

mod applier;
pub mod bench;
mod checkpoint;
mod entry;
mod error;
mod folder;
mod journal;
mod log;
mod members;
mod node;
mod options;
mod position;
mod proposer;
mod raft;
mod snapshot;
mod stage;
mod waiting;
mod wal;

use std::io::{self, Read};

pub use error::JournalError;
pub use folder::{cluster_id, format, is_formatted};
pub use journal::Journal;
pub use options::{BatchLimits, CommitAt, Durability, JournalOptions, JournalStatus, NodeId, Terms};

/// What to add to a log filter: consensus reports each of its steps at INFO, which is of no interest to an operator.
pub const LOG_DIRECTIVE: &str = "openraft=warn";

/// What the log drives. `apply` is deterministic: no clock, no random number, no IO but to its own store.
pub trait StateMachine: Send + Sync + 'static {
    /// What the log carries.
    type Command: prost::Message + Default + Clone + 'static;
    /// What a command did, for its proposer only.
    type Outcome: Send + 'static;
    /// The feature level of this program: it knows every command up to it. A member announces it in the log.
    const LEVEL: u32;

    /// The feature level that it takes to apply a command: at most [`StateMachine::LEVEL`]; 0 for what every version that has
    /// journaled knows. `None` for a command that this program does not know: it is not proposed, and found in the log it stops
    /// the member, for passing over it would make this state another than the others'. A command that gets a new kind or a field
    /// that matters gets a level of its own, and is proposed only once every member has announced that.
    fn level_of(command: &Self::Command) -> Option<u32>;

    /// Applies commands in order and stores `position` (opaque) with their effects in one atomic, unsynced batch.
    /// One outcome per command. `commands` may be empty: then only the position moves.
    ///
    /// # Errors
    /// Only if the store failed; the process must then stop serving.
    fn apply(&self, position: &[u8], commands: Vec<Self::Command>) -> io::Result<Vec<Self::Outcome>>;

    /// The position stored last; `None` in an empty store.
    fn position(&self) -> io::Result<Option<Vec<u8>>>;

    /// Makes everything applied so far durable in the store itself.
    fn sync(&self) -> io::Result<()>;

    /// A consistent view of the whole state as bytes, readable while commands go on being applied.
    fn snapshot(&self) -> io::Result<Box<dyn Read + Send>>;

    /// Replaces the whole state by a snapshot's and stores `position` with it.
    fn restore(&self, position: &[u8], snapshot: &mut dyn Read) -> io::Result<()>;

    /// Empties the state, and the position with it: what it holds was lost from the log by a power cut, which
    /// [`CommitAt::Written`] allows, and no snapshot is older than that.
    fn clear(&self) -> io::Result<()>;
}
