//! The log as openraft wants it, over [`Wal`].

use std::{
    fmt::Debug,
    io,
    ops::{Bound, Range, RangeBounds},
    sync::Arc,
};

use alluxio_common::sync::Mutex;
use openraft::{
    LogState, RaftLogReader,
    storage::{IOFlushed, RaftLogStorage},
};
use tokio::sync::oneshot;

use super::{
    Entry, LogId, TypeConfig, Vote, VoteFile,
    convert::{log_id_at, of_raft, position_of, to_raft},
};
use crate::{
    entry::LogEntry,
    waiting::Placing,
    wal::{OnDone, Wal, WalReader},
};

/// Log, vote and what is known to be committed. Cheap to clone.
#[derive(Clone)]
pub(crate) struct LogStore {
    wal: Arc<Wal>,
    reader: WalReader,
    vote: Arc<Mutex<VoteFile>>,
    /// Is told where the batches of this process went.
    placing: Arc<dyn Placing>,
    /// Kept in memory only: at start a cluster of one knows that all its log is committed, and a larger one learns it
    /// from its leader before it serves. So a commit costs no write of its own.
    committed: Arc<Mutex<Option<LogId>>>,
}

impl LogStore {
    pub fn new(wal: Arc<Wal>, vote: VoteFile, placing: Arc<dyn Placing>) -> Self {
        Self {
            reader: wal.reader(),
            wal,
            vote: Arc::new(Mutex::new(vote)),
            placing,
            committed: Arc::default(),
        }
    }

    /// What the log holds.
    pub fn reader(&self) -> &WalReader {
        &self.reader
    }

    /// The entries from `start` on that fit `bytes_max`, but at least one if there is one.
    pub fn read(&self, start: u64, bytes_max: usize) -> io::Result<Vec<LogEntry>> {
        let records = self.reader.read(start..u64::MAX, bytes_max)?;
        records.into_iter().map(LogEntry::of_record).collect()
    }

    /// Makes sure that an entry of so many bytes can be written.
    pub async fn reserve(&self, bytes: u64) -> io::Result<()> {
        match self.reader.has_room(bytes) {
            true => Ok(()),
            false => self.wait(|wal, done| wal.reserve(bytes, done)).await,
        }
    }

    /// Makes what is in the log last a power cut.
    pub async fn sync(&self) -> io::Result<()> {
        self.wait(Wal::sync).await
    }

    /// Ends the log's writer after what was submitted.
    pub fn close(&self) {
        self.wal.close();
    }

    async fn wait(&self, submit: impl FnOnce(&Wal, OnDone)) -> io::Result<()> {
        let (done, finished) = oneshot::channel();
        // Nobody waits any more when the receiver is gone.
        submit(&self.wal, Box::new(move |result| drop(done.send(result))));
        finished.await.map_err(|_| io::Error::other("the log's writer ended"))?
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + Send>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<Entry>> {
        let records = self.reader.read(our_range(&range), usize::MAX)?;
        records
            .into_iter()
            .map(|record| to_raft(LogEntry::of_record(record)?))
            .collect()
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.vote.lock().get())
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let extent = self.reader.extent();
        Ok(LogState {
            last_purged_log_id: log_id_at(extent.purged),
            last_log_id: log_id_at(extent.last),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        self.vote.lock().set(vote)
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        *self.committed.lock() = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(*self.committed.lock())
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        let (mut records, mut is_urgent) = (Vec::new(), false);
        for entry in entries {
            let (entry, ticket, power) = of_raft(entry);
            if ticket != 0 {
                self.placing.placed(ticket, entry.at);
            }
            is_urgent |= power;
            records.push(entry.into_record()?);
        }
        let done: OnDone = Box::new(move |result| callback.io_completed(result));
        self.wal.append(records, is_urgent, done)
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> io::Result<()> {
        let index = last_log_id.map_or(0, |id| position_of(&id).index);
        self.wait(|wal, done| wal.truncate_after(index, done)).await?;
        // Afterwards: until then a sync of what is cut off may still be told.
        self.placing.cut(index);
        Ok(())
    }

    async fn purge(&mut self, log_id: LogId) -> io::Result<()> {
        self.wait(|wal, done| wal.purge(position_of(&log_id), done)).await
    }
}

fn our_range(range: &impl RangeBounds<u64>) -> Range<u64> {
    let start = match range.start_bound() {
        Bound::Included(at) => at.saturating_add(1),
        Bound::Excluded(at) => at.saturating_add(2),
        Bound::Unbounded => 1,
    };
    let end = match range.end_bound() {
        Bound::Included(at) => at.saturating_add(2),
        Bound::Excluded(at) => at.saturating_add(1),
        Bound::Unbounded => u64::MAX,
    };
    start..end
}
