//! What lies beneath the proposer: a log that orders batches, makes them last, and gives them back.
//!
//! One back end is there: Raft, over segments on the local disk ([`crate::raft::RaftLog`]). A back end is opened by itself,
//! gives its committed entries to the applying stage in order ([`crate::stage::ApplyStage`]), and tells whoever waits where
//! a batch went ([`crate::waiting::Placing`]).

use std::{future::Future, io};

use tokio::sync::watch;

use crate::{
    JournalError, NodeId,
    entry::{EntryBody, LogEntry},
    error::Result,
    members::Members,
    wal::WalReader,
};

/// What becomes one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    /// Commands, or what this member announces.
    pub body: EntryBody,
    /// Names those who wait for it, until it has an index; 0 if nobody does. Never leaves the process.
    pub ticket: u64,
    /// Whether somebody waits for it to be on disk. Never leaves the process either.
    pub power: bool,
}

/// Who leads, as far as is known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lead {
    pub leader: Option<NodeId>,
    /// Whether this member leads.
    pub is_ours: bool,
    pub term: u64,
}

/// An ordered log of entries, the same for all of its members.
pub(crate) trait Log: Send + Sync + 'static {
    /// Appends one entry behind all that were appended before. Returns when the entry is committed and on its way to being
    /// applied; then the next may come. Several may be under way at once, up to [`Log::depth`].
    ///
    /// # Errors
    /// [`JournalError::NotLeader`]: it was not and will not be committed. Others leave that open.
    fn append(&self, batch: Batch) -> impl Future<Output = Result<()>> + Send + 'static;

    /// How many appends may be under way at once. One, where the log writes them one after the other anyway: what waits
    /// meanwhile becomes one entry.
    fn depth(&self) -> usize;

    /// Makes sure that an entry of so many bytes can be appended.
    fn reserve(&self, bytes: u64) -> impl Future<Output = io::Result<()>> + Send;

    /// The entries from `start` on that are committed for certain, though nobody was asked: about `bytes_max`, at least one
    /// if there is one. `members`: who they are before `start`.
    fn read(&self, start: u64, bytes_max: usize, members: &Members) -> io::Result<Vec<LogEntry>>;

    /// Takes the lead, or takes part: from then on nobody with an older right appends. Where this member decides alone, it
    /// returns when all that is in the log was given to the applying stage.
    fn fence(&self) -> impl Future<Output = Result<()>> + Send;

    /// Drops entries up to and with `upto`, which the snapshot at `snapshot_index` and one before it have made superfluous.
    fn trim(&self, snapshot_index: u64, upto: u64) -> impl Future<Output = Result<()>> + Send;

    /// Makes everything that was committed before the call last a power cut.
    fn sync(&self) -> impl Future<Output = io::Result<()>> + Send;

    /// The newest entry that lasts a power cut.
    fn synced_index(&self) -> watch::Receiver<u64>;

    /// What lies on the local disk.
    fn reader(&self) -> &WalReader;

    /// Who leads.
    fn lead(&self) -> Lead;

    /// Waits until the log can no longer work, and says why; `None` if it was closed.
    fn failed(&self) -> impl Future<Output = Option<JournalError>> + Send;

    /// Ends it after what was appended.
    fn close(&self) -> impl Future<Output = ()> + Send;
}
