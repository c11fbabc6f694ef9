//! Holding what is on the disk against its checksums, in the background: first what was opened, so that the next open gets a
//! descriptor, then everything, once in a while and after a crash.
//!
//! Both go at a bounded rate. A damaged chunk that something else has is fetched again; one that nothing else has stays as it
//! is, is told to the master, and is an error to who reads it.

use crate::core::{Core, on_file};
use crate::flights::Purpose;
use crate::store::{Entry, Local, Reread, blocking};
use alluxio_common::sync::Mutex;
use alluxio_proto::{CHUNK_BYTES, ErrorKind, FsError, FsResult, InodeId};
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Files that wait to be verified; what is opened beyond that is asked for again at its next open.
const WAITING_MAX: usize = 65_536;
/// Chunks verified in one step: small enough that a slow disk is not held for long.
const STEP_CHUNKS: u64 = 64;
/// Damaged chunks mended while an open waits; a file that has more is read through the worker.
const MENDS_PER_OPEN_MAX: usize = 16;
/// How often it is looked whether a scrub is due.
const LOOK_PAUSE: Duration = Duration::from_secs(60);

/// Files that were opened and are not verified yet, in the order of opening.
#[derive(Default)]
pub(crate) struct Unverified {
    waiting: Mutex<(VecDeque<InodeId>, HashSet<InodeId>)>,
    comes: Notify,
}

impl Unverified {
    /// It was opened.
    pub fn add(&self, inode: InodeId) {
        let (order, known) = &mut *self.waiting.lock();
        if order.len() < WAITING_MAX && known.insert(inode) {
            order.push_back(inode);
            self.comes.notify_one();
        }
    }

    async fn next(&self) -> InodeId {
        loop {
            let comes = self.comes.notified();
            {
                let (order, known) = &mut *self.waiting.lock();
                if let Some(inode) = order.pop_front() {
                    known.remove(&inode);
                    return inode;
                }
            }
            comes.await;
        }
    }
}

/// Keeps work at a rate, and ends it between two steps: a step that is under way holds the folder.
struct Pace {
    stop: CancellationToken,
    bytes_per_s: u64,
    started: Instant,
    bytes: u64,
}

impl Pace {
    fn new(bytes_per_s: u64, stop: CancellationToken) -> Self {
        Self {
            stop,
            bytes_per_s: bytes_per_s.max(CHUNK_BYTES),
            started: Instant::now(),
            bytes: 0,
        }
    }

    /// Waits until `bytes` more are within the rate.
    async fn after(&mut self, bytes: u64) {
        self.bytes += bytes;
        let due = Duration::from_secs_f64(self.bytes as f64 / self.bytes_per_s as f64);
        let elapsed = self.started.elapsed();
        match due.checked_sub(elapsed) {
            Some(wait) => {
                let _ = self.stop.run_until_cancelled(tokio::time::sleep(wait)).await;
            }
            // Idle time is not saved up.
            None => *self = Self::new(self.bytes_per_s, self.stop.clone()),
        }
    }
}

impl Core {
    /// Verifies all of an entry that is small enough to be waited for. True: a descriptor may be handed out. Otherwise the rest
    /// is verified in the background.
    pub async fn verify_at_open(&self, entry: &Arc<Entry>, bytes_max: u64) -> FsResult<bool> {
        for _ in 0..=MENDS_PER_OPEN_MAX {
            if entry.first_unverified(0).is_none() {
                return Ok(true);
            }
            if entry.length().map_or(u64::MAX, |length| length) > bytes_max {
                break;
            }
            match on_file(entry, "verify", |entry| entry.verify_all()).await? {
                Local::Corrupt(chunk) if self.mend(entry, chunk).await? => {}
                Local::Corrupt(_) => break,
                _ => {}
            }
        }
        let done = entry.first_unverified(0).is_none();
        if !done {
            self.unverified.add(entry.inode);
        }
        Ok(done)
    }

    /// A chunk is not what its checksum says: it is forgotten and fetched again. False: nothing else has it; it stays as it is
    /// and is told to the master.
    pub async fn mend(&self, entry: &Arc<Entry>, chunk: u64) -> FsResult<bool> {
        if !self.forget_corrupt(entry, chunk).await? {
            return Ok(false);
        }
        // Otherwise the next read fetches it.
        if let Err(error) = self.filler.ensure(entry, chunk..chunk + 1, Purpose::Read).await {
            tracing::info!(error = ?error, inode = entry.inode.get(), chunk, "fetch a damaged chunk again");
        }
        Ok(true)
    }

    /// Takes notice of a damaged chunk. True: it counts as absent now, and can be fetched again. False: nothing else has it.
    pub async fn forget_corrupt(&self, entry: &Arc<Entry>, chunk: u64) -> FsResult<bool> {
        let again = on_file(entry, "mend", move |entry| entry.forget_chunk(chunk)).await?;
        let inode = entry.inode.get();
        if again {
            self.store.counters.corrupt.inc();
            tracing::warn!(inode, chunk, "a cached chunk is damaged; fetching it again");
        } else if self.store.damages.note(entry, chunk) {
            self.store.counters.corrupt.inc();
            let start = chunk * CHUNK_BYTES;
            tracing::error!(
                inode,
                start,
                end = start + CHUNK_BYTES,
                "bytes of a file are damaged on this disk and have no other copy; they are kept as they are"
            );
        }
        Ok(again)
    }

    /// Verifies opened files until shutdown.
    pub async fn verify_opened(self: Arc<Self>, shutdown: CancellationToken) {
        let mut pace = Pace::new(self.settings.verify_bytes_per_s, shutdown.clone());
        while let Some(inode) = shutdown.run_until_cancelled(self.unverified.next()).await {
            if let Err(error) = self.verify_file(inode, &mut pace).await {
                tracing::info!(%error, inode = inode.get(), "verify a file in the background");
            }
        }
    }

    async fn verify_file(&self, inode: InodeId, pace: &mut Pace) -> FsResult<()> {
        let Some(entry) = self.store.find(inode).await? else {
            return Ok(());
        };
        let mut at = 0;
        while let Some(chunk) = entry.first_unverified(at).filter(|_| !pace.stop.is_cancelled()) {
            let end = chunk + STEP_CHUNKS;
            match on_file(&entry, "verify", move |entry| entry.verify_run(chunk..end)).await? {
                Local::Corrupt(bad) => {
                    self.mend(&entry, bad).await?;
                    at = bad + 1;
                }
                Local::Data(_) => at = end,
                // Evicted or cut meanwhile.
                Local::Missing | Local::WouldBlock => return Ok(()),
            }
            pace.after(STEP_CHUNKS * CHUNK_BYTES).await;
        }
        Ok(())
    }

    /// Passes over everything when it is due, until shutdown.
    pub async fn scrub(self: Arc<Self>, shutdown: CancellationToken) {
        let Some(period) = self.settings.scrub_period else {
            return;
        };
        while !shutdown.is_cancelled() {
            let state = self.store.layout.scrub_state();
            if state.next_shard > 0 || now_s().saturating_sub(state.finished_s) >= period.as_secs() {
                self.scrub_from(state.next_shard, &shutdown).await;
            }
            let pause = tokio::time::sleep(LOOK_PAUSE.min(period));
            let _ = shutdown.run_until_cancelled(pause).await;
        }
    }

    async fn scrub_from(&self, first_shard: u64, shutdown: &CancellationToken) {
        let mut pace = Pace::new(self.settings.scrub_bytes_per_s, shutdown.clone());
        let shards: Vec<_> = self.store.layout.shards().collect();
        for (number, shard) in (0u64..).zip(&shards).skip(first_shard as usize) {
            let (store, shard) = (Arc::clone(&self.store), shard.clone());
            let found = blocking(move || store.inodes_in(&shard)).await;
            for inode in found.unwrap_or_default() {
                if shutdown.is_cancelled() {
                    return;
                }
                if let Err(error) = self.scrub_file(inode, &mut pace).await {
                    tracing::info!(%error, inode = inode.get(), "scrub a file");
                }
            }
            if shutdown.is_cancelled() {
                return;
            }
            let store = Arc::clone(&self.store);
            let noted = blocking(move || {
                store.layout.set_scrub_state(number + 1, now_s());
                Ok(())
            });
            if let Err(error) = noted.await {
                tracing::info!(%error, "note how far a scrub has come");
            }
        }
        tracing::info!("every cached file was held against its checksums");
    }

    async fn scrub_file(&self, inode: InodeId, pace: &mut Pace) -> FsResult<()> {
        let store = Arc::clone(&self.store);
        let Some(peeked) = blocking(move || store.peek(inode)).await? else {
            return Ok(());
        };
        let mut at = 0;
        while let Some(run) = peeked
            .next_checkable(at, STEP_CHUNKS)
            .filter(|_| !pace.stop.is_cancelled())
        {
            at = run.end;
            let bytes = (run.end - run.start) * CHUNK_BYTES;
            let reread = on_file(&peeked, "scrub", move |entry| entry.reread(run)).await?;
            if let Reread::Differs(chunks) = reread {
                self.look_closer(inode, &peeked, chunks).await?;
            }
            pace.after(bytes).await;
        }
        Ok(())
    }

    /// What is on the disk differs from its checksum: is it still that content, and what does the page cache say?
    async fn look_closer(&self, inode: InodeId, peeked: &Entry, chunks: Vec<u64>) -> FsResult<()> {
        let Some(entry) = self.store.find(inode).await? else {
            return Ok(());
        };
        if entry.view().header.generation != peeked.view().header.generation {
            return Ok(());
        }
        for chunk in chunks {
            match on_file(&entry, "scrub", move |entry| entry.rewrite_from_memory(chunk)).await? {
                Local::Corrupt(chunk) => {
                    self.mend(&entry, chunk).await?;
                }
                Local::Data(_) | Local::Missing | Local::WouldBlock => {}
            }
        }
        Ok(())
    }

    /// Damages that were overwritten, truncated or removed since are shown no longer.
    pub async fn recheck_damages(&self) -> FsResult<()> {
        for inode in self.store.damages.inodes() {
            match self.store.find(inode).await? {
                Some(entry) => self
                    .store
                    .damages
                    .retain(inode, |chunk| entry.first_unverified(chunk) == Some(chunk)),
                None => self.store.damages.forget(inode),
            }
        }
        Ok(())
    }
}

/// What a read of damaged bytes without another copy ends with.
pub(crate) fn damaged(inode: InodeId, chunk: u64) -> FsError {
    let start = chunk * CHUNK_BYTES;
    let why = format!(
        "bytes {start} to {} of inode {inode} are damaged on this worker's disk and are in no under-storage; they are kept as \
         they are, and the rest of the file can be read",
        start + CHUNK_BYTES
    );
    FsError::new(ErrorKind::DataLost, why)
}

fn now_s() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
