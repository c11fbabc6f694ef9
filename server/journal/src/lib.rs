//! The replicated log: commands go in, are made durable in order, and are applied to a state machine.
//!
//! The only crate that names openraft; nothing outside knows how many members there are. It does not know what a
//! command means.

use std::io::{self, Read};

/// What the log drives. `apply` is deterministic: no clock, no random number, no IO but to its own store.
pub trait StateMachine: Send + Sync + 'static {
    /// What the log carries.
    type Command: prost::Message + Default + Clone + 'static;
    /// What a command did, for its proposer only.
    type Outcome: Send + 'static;

    /// Applies commands in order and stores `position` (opaque) with their effects in one atomic, unsynced batch.
    /// One outcome per command.
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
}
