//! The log on disk: numbered entries in segment files, appended, cut at the end, dropped at the front.
//!
//! One thread at a time writes ([`writer`]): one of its own, where whatever was submitted while it was busy goes to
//! disk with one write and one sync; or, for a caller that batches by itself and has nothing else to do, the caller's.
//! An entry can be read from the moment it was submitted. Entries are opaque, and so is consensus: this is a file
//! format with an index in memory.
//!
//! Promises: when an append is reported as done it is on disk ([`CommitAt::Synced`]), or written, and synced soon
//! ([`CommitAt::Written`]); what is synced is told, in order; indexes have no gaps; after a crash there is a prefix of what
//! was submitted that contains everything reported as done, or, after a power cut, everything told as synced. After a failed
//! write or sync nothing is written any more ([`WalReader::failed`]): what the kernel could not write once is not assumed
//! to be there.

mod record;
mod recover;
mod segment;
mod writer;

#[cfg(test)]
mod simulated;
#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    io,
    ops::Range,
    path::PathBuf,
    sync::{Arc, OnceLock},
    thread::JoinHandle,
    time::Instant,
};

use alluxio_common::{
    clock::Clock,
    disk::{Disk, DiskFile, read_full},
    sync::{Condvar, Mutex},
};
use bytes::Bytes;
use tokio::sync::watch;

pub(crate) use record::{PAYLOAD_BYTES_MAX, Record};
use segment::Segment;
pub(crate) use writer::OnDone;
use writer::{Op, Writer};

use crate::{CommitAt, JournalError, error::Result};

/// Entries kept in memory after they were written, so that applying and replicating them reads no file.
const CACHE_BYTES_MAX: usize = 8 << 20;
/// Bytes read from a segment at once.
const READ_BYTES: u64 = 1 << 20;

/// Term and index of an entry. Indexes start at 1; the default (0) is "none".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Position {
    pub term: u64,
    pub index: u64,
}

/// How a log is kept.
#[derive(Clone, Debug)]
pub(crate) struct WalOptions {
    pub dir: PathBuf,
    pub segment_bytes_max: u64,
    /// Whether an append is written on its caller's thread, which saves two changes of threads, but lets the caller
    /// do nothing else meanwhile. Otherwise by a thread that joins what several callers appended.
    pub inline: bool,
    /// What makes an append done.
    pub commit: CommitAt,
    pub disk: Arc<dyn Disk>,
    pub clock: Clock,
}

/// Told each time more is on disk than before, with the newest index that is. Must not block.
pub(crate) type OnSynced = Box<dyn Fn(u64) + Send + Sync>;

/// The open log. Dropping it ends the writer after what was submitted.
pub(crate) struct Wal {
    shared: Arc<Shared>,
    writer: Arc<Mutex<Writer>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What readers, submitters and the writer share.
pub(crate) struct Shared {
    options: WalOptions,
    index: Mutex<Index>,
    queue: Mutex<Queue>,
    wake: Condvar,
    /// Held by who syncs a file of the log; see [`Shared::sync_file`].
    syncing: Mutex<()>,
    failed: OnceLock<String>,
    /// The first failure, for who waits for one.
    failure: watch::Sender<Option<String>>,
    /// The newest entry that is on disk.
    synced: watch::Sender<u64>,
    on_synced: OnSynced,
}

#[derive(Default)]
struct Queue {
    ops: VecDeque<Op>,
    /// Who waits for what was written to be synced.
    syncs: Vec<OnDone>,
    /// When what was written at last is to be synced.
    sync_by: Option<Instant>,
    closed: bool,
}

/// Where entries are.
struct Index {
    segments: VecDeque<Segment>,
    /// The newest entries: all that are not written yet, and some that are. Consecutive, up to the last.
    cache: VecDeque<Record>,
    cache_bytes: usize,
    /// The last entry submitted, or the last one dropped if there is none.
    last: Position,
    /// The last entry in a segment.
    last_written: Position,
    purged: Position,
    /// The first entry that can be read, if there is any.
    first: u64,
    /// Everything up to here is on disk.
    durable_index: u64,
    /// Allocated bytes that are free in the last segment and the spare.
    room_bytes: u64,
}

/// What the log holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Extent {
    /// The last entry dropped from the front.
    pub purged: Position,
    /// The last entry, or `purged` if there is none.
    pub last: Position,
    pub bytes: u64,
    pub segments: usize,
}

impl Wal {
    /// Opens or creates the log. `known_index`: an entry that must be there, see [`recover::recover`].
    pub fn open(options: WalOptions, known_index: u64, on_synced: OnSynced) -> Result<Self> {
        options
            .disk
            .create_dir_all(&options.dir)
            .map_err(JournalError::io(format!("create {}", options.dir.display())))?;
        let recovered = recover::recover(options.disk.as_ref(), &options.dir, known_index)?;
        // Recovery has synced what it found.
        let synced = recovered.last.index;
        on_synced(synced);
        let shared = Arc::new(Shared {
            index: Mutex::new(Index::new(recovered)),
            options,
            queue: Mutex::default(),
            wake: Condvar::new(),
            syncing: Mutex::default(),
            failed: OnceLock::new(),
            failure: watch::Sender::new(None),
            synced: watch::Sender::new(synced),
            on_synced,
        });
        let writer = Arc::new(Mutex::new(Writer::new(shared.clone())));
        let thread = std::thread::Builder::new()
            .name("journal-writer".into())
            .spawn({
                let (shared, writer) = (shared.clone(), writer.clone());
                move || writer::run(&shared, &writer)
            })
            .map_err(JournalError::io("start the journal's writer thread"))?;
        Ok(Self {
            shared,
            writer,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// What readers need; outlives the log's writer.
    pub fn reader(&self) -> WalReader {
        WalReader(self.shared.clone())
    }

    /// Appends entries, which must follow the last one without a gap. They can be read at once; `done` is called
    /// when they are on disk, or, with [`CommitAt::Written`], in the file; those are synced soon, or at once if it is `urgent`.
    pub fn append(&self, records: Vec<Record>, urgent: bool, done: OnDone) -> io::Result<()> {
        self.shared.check()?;
        {
            let mut index = self.shared.index.lock();
            for record in &records {
                index.push(record.clone())?;
            }
        }
        let op = Op::Append { records, done };
        match self.shared.options.inline {
            true => self.writer.lock().execute([op]),
            false => self.shared.submit(op),
        }
        if let CommitAt::Written { flush_interval } = self.shared.options.commit {
            let now = self.shared.options.clock.now();
            self.shared.sync_by(if urgent { now } else { now + flush_interval });
        }
        Ok(())
    }

    /// Syncs everything that was appended before.
    pub fn sync(&self, done: OnDone) {
        self.shared.sync(done);
    }

    /// Removes every entry after `index`.
    pub fn truncate_after(&self, index: u64, done: OnDone) {
        self.shared.submit(Op::Truncate { index, done });
    }

    /// Drops entries up to and with `upto` (whole segments on disk). If that is behind the last entry, the log goes
    /// on after it.
    pub fn purge(&self, upto: Position, done: OnDone) {
        self.shared.submit(Op::Purge { upto, done });
    }

    /// Makes sure that `bytes` of entries can be written, allocating if needed; `done` tells.
    pub fn reserve(&self, bytes: u64, done: OnDone) {
        self.shared.submit(Op::Reserve { bytes, done });
    }

    /// Ends the writer after what was submitted is synced, and waits for that. Operations submitted later are dropped undone.
    pub fn close(&self) {
        self.shared.queue.lock().closed = true;
        self.shared.wake.notify_all();
        let thread = self.thread.lock().take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the journal's writer thread panicked");
        }
    }
}

impl Drop for Wal {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn submit(&self, op: Op) {
        let mut queue = self.queue.lock();
        if !queue.closed {
            queue.ops.push_back(op);
            drop(queue);
            self.wake.notify_one();
        }
    }

    /// What was appended is to be synced at that time, if not before.
    fn sync_by(&self, at: Instant) {
        let mut queue = self.queue.lock();
        if queue.sync_by.is_none_or(|by| at < by) {
            queue.sync_by = Some(at);
            drop(queue);
            self.wake.notify_one();
        }
    }

    fn sync(&self, done: OnDone) {
        let mut queue = self.queue.lock();
        if !queue.closed {
            queue.syncs.push(done);
            drop(queue);
            self.wake.notify_one();
        }
    }

    /// Everything up to `upto` is on disk.
    /// Syncs the last file, which has the records up to `upto`. One at a time: the kernel tells of a failed write only the first who syncs
    /// after it, and the next one would take his records for durable.
    ///
    /// # Errors
    /// Nothing is written any more, since this sync failed or another before it.
    fn sync_file(&self, file: &dyn DiskFile, upto: u64) -> io::Result<()> {
        let _one_at_a_time = self.syncing.lock();
        self.check()?;
        match file.sync_data() {
            Ok(()) => self.note_synced(upto),
            Err(error) => self.fail(format!("sync the log in {}: {error}", self.options.dir.display())),
        }
        self.check()
    }

    fn note_synced(&self, upto: u64) {
        {
            let mut index = self.index.lock();
            index.durable_index = index.durable_index.max(upto);
            index.trim_cache();
        }
        let is_more = self.synced.send_if_modified(|synced| {
            let is_more = upto > *synced;
            *synced = upto.max(*synced);
            is_more
        });
        if is_more {
            (self.on_synced)(upto);
        }
    }

    /// Nothing is written any more.
    fn fail(&self, reason: String) {
        tracing::error!("{reason}");
        // Only the first failure counts.
        if self.failed.set(reason.clone()).is_ok() {
            self.failure.send_replace(Some(reason));
        }
    }

    fn check(&self) -> io::Result<()> {
        match self.failed.get() {
            Some(reason) => Err(io::Error::other(format!("the log failed before: {reason}"))),
            None => Ok(()),
        }
    }
}

/// Reads the log.
#[derive(Clone)]
pub(crate) struct WalReader(Arc<Shared>);

impl WalReader {
    /// The newest entry that is on disk.
    pub fn synced_index(&self) -> watch::Receiver<u64> {
        self.0.synced.subscribe()
    }

    /// Waits until everything that was appended before is on disk. Blocks.
    pub fn sync(&self) -> io::Result<()> {
        let (done, finished) = std::sync::mpsc::channel();
        // Nobody waits any more when the receiver is gone.
        self.0.sync(Box::new(move |result| drop(done.send(result))));
        finished
            .recv()
            .map_err(|_| io::Error::other("the log's writer ended"))?
    }

    /// Waits until nothing can be written any more, and says why; `None` when the log is gone.
    pub async fn failed(&self) -> Option<String> {
        let mut failure = self.0.failure.subscribe();
        failure.wait_for(Option::is_some).await.ok()?.clone()
    }

    /// What the log holds.
    pub fn extent(&self) -> Extent {
        let index = self.0.index.lock();
        Extent {
            purged: index.purged,
            last: index.last,
            bytes: index.segments.iter().map(|s| s.end - segment::HEADER_BYTES).sum(),
            segments: index.segments.len(),
        }
    }

    /// Bytes of the segments that begin after an entry: what a start that restores a snapshot of it has to replay, but for a
    /// part of one segment.
    pub fn bytes_after(&self, entry: u64) -> u64 {
        let index = self.0.index.lock();
        let after = index.segments.iter().filter(|s| s.header.first_index > entry);
        after.map(|s| s.end - segment::HEADER_BYTES).sum()
    }

    /// Whether `bytes` of entries can be written without allocating.
    pub fn has_room(&self, bytes: u64) -> bool {
        self.0.index.lock().room_bytes >= bytes
    }

    /// The entries of `range` that exist, the first ones up to about `bytes_max` but at least one.
    pub fn read(&self, range: Range<u64>, bytes_max: usize) -> io::Result<Vec<Record>> {
        Self::read_shared(&self.0, range, bytes_max)
    }

    fn read_shared(shared: &Shared, range: Range<u64>, bytes_max: usize) -> io::Result<Vec<Record>> {
        let mut records = Vec::new();
        let mut bytes = 0;
        let mut at = range.start.max(shared.index.lock().first);
        while at < range.end && bytes < bytes_max {
            let step = shared.index.lock().find(at..range.end);
            match step {
                Step::Absent => break,
                Step::Cached(found) => {
                    for record in found {
                        if bytes >= bytes_max {
                            break;
                        }
                        bytes += record.disk_bytes();
                        at = record.index + 1;
                        records.push(record);
                    }
                }
                Step::OnDisk(run) => {
                    bytes += run.read(&mut records)?;
                    at = run.indexes.end;
                }
            }
        }
        Ok(records)
    }
}

enum Step {
    Absent,
    Cached(Vec<Record>),
    OnDisk(Run),
}

/// Consecutive records in one file.
struct Run {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    salt: u64,
    indexes: Range<u64>,
    bytes: Range<u64>,
}

impl Run {
    fn read(&self, out: &mut Vec<Record>) -> io::Result<usize> {
        let mut buffer = vec![0; (self.bytes.end - self.bytes.start) as usize];
        let read = read_full(self.file.as_ref(), &mut buffer, self.bytes.start)?;
        buffer.truncate(read);
        let buffer = Bytes::from(buffer);
        let mut at = 0;
        for index in self.indexes.clone() {
            let found =
                record::decode(self.salt, &buffer[at..]).map_err(|why| self.damage(at, index, &why.to_string()))?;
            if found.index != index {
                return Err(self.damage(at, index, &format!("there is a record of index {}", found.index)));
            }
            let start = at + record::HEADER_BYTES;
            out.push(Record {
                index,
                term: found.term,
                kind: found.kind,
                payload: buffer.slice(start..start + found.payload.len()),
            });
            at += found.disk_bytes;
        }
        Ok(buffer.len())
    }

    fn damage(&self, at: usize, index: u64, why: &str) -> io::Error {
        let offset = self.bytes.start + at as u64;
        let text = format!(
            "{} is damaged at offset {offset} (log index {index}): {why}",
            self.path.display()
        );
        io::Error::new(io::ErrorKind::InvalidData, text)
    }
}

impl Index {
    fn new(recovered: recover::Recovered) -> Self {
        let segments: VecDeque<_> = recovered.segments.into();
        let purged = segments.front().map_or(Position::default(), |first| Position {
            term: first.header.prev_term,
            index: first.header.first_index - 1,
        });
        Self {
            room_bytes: segments.back().map_or(0, |last| last.capacity.saturating_sub(last.end)),
            segments,
            cache: VecDeque::new(),
            cache_bytes: 0,
            last: recovered.last,
            last_written: recovered.last,
            first: purged.index + 1,
            purged,
            durable_index: recovered.last.index,
        }
    }

    fn push(&mut self, record: Record) -> io::Result<()> {
        // A log that never held anything may begin anywhere.
        if record.index != self.last.index + 1 && (self.last.index > 0 || record.index == 0) {
            let text = format!(
                "append entry {} to a log that ends at {}",
                record.index, self.last.index
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        if self.last.index == 0 {
            self.first = record.index;
        }
        self.last = Position {
            term: record.term,
            index: record.index,
        };
        self.cache_bytes += record.disk_bytes();
        self.cache.push_back(record);
        Ok(())
    }

    /// Forgets written entries beyond the bound.
    fn trim_cache(&mut self) {
        while self.cache_bytes > CACHE_BYTES_MAX
            && self
                .cache
                .front()
                .is_some_and(|record| record.index <= self.durable_index)
        {
            if let Some(record) = self.cache.pop_front() {
                self.cache_bytes -= record.disk_bytes();
            }
        }
    }

    /// Keeps only entries up to `index` in memory.
    fn cut_cache(&mut self, index: u64) {
        while self.cache.back().is_some_and(|record| record.index > index) {
            if let Some(record) = self.cache.pop_back() {
                self.cache_bytes -= record.disk_bytes();
            }
        }
    }

    /// Where to read the first entries of `range`.
    fn find(&self, range: Range<u64>) -> Step {
        let next = self.last.index + 1;
        if range.start < self.first || range.start >= next {
            return Step::Absent;
        }
        if let Some(first) = self.cache.front().map(|record| record.index)
            && range.start >= first
        {
            let skip = (range.start - first) as usize;
            let count = (range.end.min(next) - range.start) as usize;
            return Step::Cached(self.cache.iter().skip(skip).take(count).cloned().collect());
        }
        let at = self.segments.partition_point(|s| s.header.first_index <= range.start);
        match at.checked_sub(1).and_then(|at| run(&self.segments[at], range)) {
            Some(run) => Step::OnDisk(run),
            None => Step::Absent,
        }
    }
}

/// The records of `range` in one segment that fit a read.
fn run(segment: &Segment, range: Range<u64>) -> Option<Run> {
    let (start, mut end) = segment.place(range.start)?;
    let mut last = range.start;
    while last + 1 < range.end
        && let Some((_, next_end)) = segment.place(last + 1)
        && next_end - start <= READ_BYTES
    {
        (last, end) = (last + 1, next_end);
    }
    Some(Run {
        file: segment.file.clone(),
        path: segment.path.clone(),
        salt: segment.header.salt,
        indexes: range.start..last + 1,
        bytes: start..end,
    })
}
