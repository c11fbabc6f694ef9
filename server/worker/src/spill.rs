//! Spilling: a file that is being written and takes too much of the disk is committed and uploaded as it is now, and what the
//! under-storage has of it then is given up here. Its writers go on, and wait for that where the disk is short.

use crate::core::{Core, on_file};
use crate::store::{Entry, blocking};
use alluxio_proto::master::Spill;
use alluxio_proto::worker::OpenStat;
use alluxio_proto::{ErrorKind, FsError, FsResult};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// How often it is looked whether a file is to be spilled, unless a writer asks.
const LOOK_PAUSE: Duration = Duration::from_secs(1);
/// A file that could not be spilled is not tried again before that.
const PUT_OFF: Duration = Duration::from_secs(30);
/// How long an upload may fail, again and again.
const FAILING_MAX: Duration = Duration::from_secs(20);
/// How long no byte of an upload may move: the store copies what it has by itself, up to 1 GiB at a time.
const STALLED_MAX: Duration = Duration::from_secs(60);
/// How long an upload may not have begun: others may be before it.
const QUEUED_MAX: Duration = Duration::from_secs(60);
const LOOK_AT_UPLOAD: Duration = Duration::from_millis(500);
/// Rounds of one spill: each time around its writers had committed it meanwhile, or are about to.
const ROUNDS_MAX: usize = 10;
const ROUND_PAUSE: Duration = Duration::from_millis(50);
/// How long writers that commit wait for a spill, whose upload their commit would end: longer than it may stall.
const COMMIT_WAIT_MAX: Duration = Duration::from_secs(120);
const COMMIT_POLL: Duration = Duration::from_millis(20);
/// When nothing large is open, files of this share of a step are spilled.
const SMALL_SHARE: u64 = 8;
/// How long the master may take to answer.
const MASTER_MAX: Duration = Duration::from_secs(5);
/// A spill that meets a master that is away is tried anew after this,
const MASTER_PAUSE: Duration = Duration::from_secs(1);
/// for so long.
const MASTER_AWAY_MAX: Duration = Duration::from_secs(60);
/// So long what was found holds for all who ask whether room will come.
const OUTLOOK_FOR: Duration = Duration::from_millis(200);
/// Less than this is not worth the next try at once.
const FREED_BYTES_MIN: u64 = 1024 * 1024;

/// What a spill did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spilled {
    pub freed_bytes: u64,
}

/// The one that spills, and those who wait for it.
#[derive(Debug, Default)]
pub(crate) struct Spiller {
    wanted: Notify,
    is_busy: AtomicBool,
    outlook: Shared<bool>,
}

/// What was found a moment ago, for all who ask at once.
#[derive(Debug, Default)]
struct Shared<T>(tokio::sync::Mutex<Option<(Instant, T)>>);

impl<T: Copy> Shared<T> {
    /// What `look` finds, or what it found less than `holds_for` ago.
    async fn ask(&self, holds_for: Duration, look: impl Future<Output = T>) -> T {
        let mut last = self.0.lock().await;
        if let Some((at, found)) = *last
            && at.elapsed() < holds_for
        {
            return found;
        }
        let found = look.await;
        *last = Some((Instant::now(), found));
        found
    }
}

/// As long as it is kept, a file is being spilled.
struct Busy<'a>(&'a Spiller);

impl<'a> Busy<'a> {
    fn begin(spiller: &'a Spiller) -> Self {
        spiller.is_busy.store(true, Ordering::Relaxed);
        Self(spiller)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.is_busy.store(false, Ordering::Relaxed);
    }
}

impl Core {
    /// Spills files while the disk is short, until shutdown.
    pub async fn spill_when_short(self: Arc<Self>, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.spiller.wanted.notified() => {}
                () = tokio::time::sleep(LOOK_PAUSE) => {}
            }
            while let Some(entry) = self.next_to_spill().await {
                let busy = Busy::begin(&self.spiller);
                let spilled = shutdown.run_until_cancelled(self.spill(&entry)).await;
                drop(busy);
                let Some(spilled) = spilled else { return };
                self.note_spilled(&entry, spilled);
            }
        }
    }

    fn note_spilled(&self, entry: &Entry, spilled: FsResult<Spilled>) {
        let inode = entry.inode.get();
        match spilled {
            Ok(Spilled { freed_bytes }) if freed_bytes >= FREED_BYTES_MIN => {
                tracing::info!(inode, freed_bytes, "spilled a file that is being written");
            }
            Ok(_) => entry.spilling.put_off(PUT_OFF),
            Err(error) => {
                tracing::info!(%error, inode, "a file that is being written cannot be spilled");
                entry.spilling.put_off(PUT_OFF);
            }
        }
    }

    /// The file to spill, if others cannot give the room.
    async fn next_to_spill(&self) -> Option<Arc<Entry>> {
        let store = Arc::clone(&self.store);
        let found = blocking(move || {
            if store.is_roomy() {
                return Ok(None);
            }
            store.evict_in_background();
            if store.is_roomy() {
                return Ok(None);
            }
            let step = store.space.spill_bytes;
            let large = store.largest_to_spill(step);
            Ok(large.or_else(|| match store.disk_is_short(0) {
                true => store.largest_to_spill(step / SMALL_SHARE),
                false => None,
            }))
        });
        found.await.ok().flatten()
    }

    /// Whether room will come of what is being written: a file is being spilled, or will be.
    pub async fn is_spilling(&self) -> bool {
        if self.spiller.is_busy.load(Ordering::Relaxed) {
            return true;
        }
        let look = async { self.next_to_spill().await.is_some() };
        let is_to_come = self.spiller.outlook.ask(OUTLOOK_FOR, look).await;
        if is_to_come {
            self.spiller.wanted.notify_one();
        }
        is_to_come
    }

    /// Whether a file is being spilled just now.
    pub fn is_spilling_now(&self) -> bool {
        self.spiller.is_busy.load(Ordering::Relaxed)
    }

    /// Commits an open version while it stays open, waits until that is stored, and gives up what is stored of it. Nobody who
    /// waits for this has the turn.
    ///
    /// # Errors
    /// Why not: it is not to be stored, somebody may write past us, the store refuses it or does not get on with it.
    pub async fn spill(&self, entry: &Arc<Entry>) -> FsResult<Spilled> {
        let mut held = self.hold_off(entry).await?;
        let mut freed_bytes = match held {
            // What changed past us since it was sealed is known only once it is sealed again.
            Some(_) => 0,
            None if self.tell_stored(entry).await? => self.give_up_stored(entry).await?,
            None => 0,
        };
        if freed_bytes >= self.store.space.spill_bytes / SMALL_SHARE {
            return Ok(Spilled { freed_bytes });
        }
        let _under_way = entry.spilling.begin();
        for _ in 0..ROUNDS_MAX {
            if let Some(held) = &mut held {
                self.hold(held).await?;
            }
            let version = match self.commit_when_heard(entry).await {
                // What a writer sealed is on its way to the master.
                Err(error) if error.kind == ErrorKind::Stale => {
                    tokio::time::sleep(ROUND_PAUSE).await;
                    continue;
                }
                other => other?,
            };
            if let Some(held) = &mut held {
                held.let_go();
            }
            let upload = match (self.wait_stored(entry, version).await, &mut held) {
                // What it rewrites all the time cannot be uploaded while it does: once more, and accesses wait for all of it.
                (Err(error), Some(held)) if error.kind == ErrorKind::Stale && !held.is_kept() => {
                    held.keep();
                    tracing::info!(%error, inode = entry.inode.get(), "accesses of a file wait for its upload");
                    continue;
                }
                (upload, _) => upload?,
            };
            match upload {
                Upload::Stored => {
                    if let Some(held) = &mut held {
                        self.hold_marked(held).await?;
                    }
                    freed_bytes += self.give_up_stored(entry).await?;
                    return Ok(Spilled { freed_bytes });
                }
                Upload::Closed => return Ok(Spilled { freed_bytes }),
                Upload::Overtaken => {}
            }
        }
        Err(cannot(entry, "its writers commit it all the time"))
    }

    /// A writer that commits what goes on being written lets a spill end first.
    pub async fn let_spill_end(&self, entry: &Entry) {
        let begun = Instant::now();
        while entry.spilling.is_under_way() && begun.elapsed() < COMMIT_WAIT_MAX {
            tokio::time::sleep(COMMIT_POLL).await;
        }
    }

    /// Tells the master that what is stored is going to be given up here, unless it knows; false: nothing is stored.
    async fn tell_stored(&self, entry: &Arc<Entry>) -> FsResult<bool> {
        let header = entry.view().header;
        let Some(sealed) = header.sealed.filter(|sealed| header.open && sealed.ufs.is_some()) else {
            return Ok(false);
        };
        if entry.spilling.is_told(header.open_since) {
            return Ok(true);
        }
        let spill = Spill {
            inode: entry.inode.get(),
            version: sealed.version,
            length: sealed.length,
            mtime_ns: sealed.mtime_ns,
            ..Spill::default()
        };
        match self.tell_master(&spill).await {
            Ok(()) => entry.spilling.note_told(header.open_since),
            // It is not what is committed last: what is sealed next is told of.
            Err(error) if error.kind == ErrorKind::Stale => return Ok(false),
            Err(error) => return Err(error),
        }
        Ok(true)
    }

    /// Asks the master with a bound: who waits for the turn waits for this as well, and a spill can be tried again.
    async fn tell_master(&self, spill: &Spill) -> FsResult<()> {
        let asked = tokio::time::timeout(MASTER_MAX, self.clients.spill(spill.clone())).await;
        asked.unwrap_or_else(|_| {
            let why = format!(
                "spill inode {}: the master does not answer within {MASTER_MAX:?}",
                spill.inode
            );
            Err(FsError::new(ErrorKind::Unavailable, why))
        })
    }

    async fn give_up_stored(&self, entry: &Arc<Entry>) -> FsResult<u64> {
        let _turn = entry.turn.lock().await;
        if !entry.spilling.is_told(entry.view().header.open_since) {
            return Ok(0);
        }
        let freed = on_file(entry, "give up what is stored of", |entry| entry.give_up_stored()).await?;
        self.store.measure(entry);
        Ok(freed)
    }

    /// As [`Self::commit_for_room`], by a master that may be away for a while: who waits for room waits for that, too.
    async fn commit_when_heard(&self, entry: &Arc<Entry>) -> FsResult<u64> {
        let begun = Instant::now();
        loop {
            match self.commit_for_room(entry).await {
                Err(error) if error.kind == ErrorKind::Unavailable && begun.elapsed() < MASTER_AWAY_MAX => {
                    tokio::time::sleep(MASTER_PAUSE).await;
                }
                other => return other,
            }
        }
    }

    /// Seals the open version, has the master commit it, and answers which that was. The turn is kept over both, so that no
    /// writer meets one without the other.
    async fn commit_for_room(&self, entry: &Arc<Entry>) -> FsResult<u64> {
        match self.ask_master(entry).await {
            // It is not worth a sync, for which its writers would stand still.
            Err(error) if error.kind == ErrorKind::NotSupported => return Err(error),
            _ => {}
        }
        // Most of what there is to sync, while its writers go on.
        on_file(entry, "sync", |entry| entry.sync_data(false)).await?;
        let _turn = entry.turn.lock().await;
        if !entry.can_spill() {
            return Err(cannot(entry, "somebody may write it past the worker, or it is closed"));
        }
        self.settle_spill(entry).await?;
        if let Some((sealed, stat)) = self.sealed_as_is(entry).await? {
            // Another seal would only end the upload of the same bytes.
            self.commit_sealed(entry, sealed, stat).await?;
            return Ok(sealed);
        }
        self.ask_master(entry).await?;
        let version = entry.view().header.version;
        let stat = self.seal_to_spill(entry, version).await?;
        self.commit_sealed(entry, version, stat).await?;
        Ok(version)
    }

    /// Asks whether the open version would be stored, before anything is done for that.
    async fn ask_master(&self, entry: &Entry) -> FsResult<()> {
        let ask = Spill {
            inode: entry.inode.get(),
            version: entry.view().header.version,
            ask_only: true,
            ..Spill::default()
        };
        self.tell_master(&ask).await
    }

    /// Has the master commit what was sealed. The caller has the turn.
    async fn commit_sealed(&self, entry: &Entry, version: u64, stat: OpenStat) -> FsResult<()> {
        let spill = Spill {
            inode: entry.inode.get(),
            version,
            length: stat.length,
            mtime_ns: stat.mtime_ns,
            ctime_ns: stat.ctime_ns,
            hole_bytes: stat.hole_bytes,
            ..Spill::default()
        };
        *entry.spilling.unsure.lock() = Some(spill);
        self.settle_unsure(entry).await?;
        entry.spilling.note_told(entry.view().header.open_since);
        Ok(())
    }

    /// The version that was sealed last, if what is open is nothing else. The caller has the turn.
    async fn sealed_as_is(&self, entry: &Arc<Entry>) -> FsResult<Option<(u64, OpenStat)>> {
        if entry.writable_fd_out() {
            // Only what is sealed while accesses wait is known.
            return Ok(None);
        }
        let stat = self.stat_reply(entry).await?;
        let is_as_sealed = !stat.changed && entry.marks_are_sealed();
        let sealed = entry.view().header.sealed.filter(|_| is_as_sealed);
        Ok(sealed.map(|sealed| (sealed.version, stat)))
    }

    /// Sees to it that the master knows of what was sealed here for room. The caller has the turn.
    ///
    /// # Errors
    /// Nobody knows yet.
    pub async fn settle_spill(&self, entry: &Entry) -> FsResult<()> {
        match self.settle_unsure(entry).await {
            Err(error) if error.is_retryable() => Err(error),
            // It was committed when the answer got lost, or by a writer; or it came to an end.
            _ => Ok(()),
        }
    }

    /// Has the master commit what was sealed, and remembers that as long as nobody knows whether it did.
    async fn settle_unsure(&self, entry: &Entry) -> FsResult<()> {
        let unsure = entry.spilling.unsure.lock().clone();
        let Some(spill) = unsure else { return Ok(()) };
        let committed = self.tell_master(&spill).await;
        if !committed.as_ref().is_err_and(FsError::is_retryable) {
            *entry.spilling.unsure.lock() = None;
        }
        committed
    }

    async fn wait_stored(&self, entry: &Arc<Entry>, version: u64) -> FsResult<Upload> {
        let mut watch = Watch::new(entry);
        loop {
            let progress = entry.fills.progress.notified();
            let view = entry.view();
            if view.dead || !view.header.open {
                return Ok(Upload::Closed);
            }
            match &view.header.sealed {
                Some(sealed) if sealed.version == version && sealed.ufs.is_some() && !view.uploading => {
                    return Ok(Upload::Stored);
                }
                Some(sealed) if sealed.version == version => {}
                _ => return Ok(Upload::Overtaken),
            }
            watch.check(entry, view.uploading)?;
            let _ = tokio::time::timeout(LOOK_AT_UPLOAD, progress).await;
        }
    }
}

/// What became of an upload.
enum Upload {
    Stored,
    /// The file is open no more: what comes now comes as with any.
    Closed,
    /// A writer has committed it since.
    Overtaken,
}

/// Sees whether an upload gets on.
struct Watch {
    uploaded: u64,
    failures: u64,
    moved: Instant,
    failing: Option<Instant>,
}

impl Watch {
    fn new(entry: &Entry) -> Self {
        Self {
            uploaded: entry.spilling.uploaded.load(Ordering::Relaxed),
            failures: entry.spilling.failures.lock().0,
            moved: Instant::now(),
            failing: None,
        }
    }

    fn check(&mut self, entry: &Entry, is_uploading: bool) -> FsResult<()> {
        let uploaded = entry.spilling.uploaded.load(Ordering::Relaxed);
        if uploaded != self.uploaded {
            (self.uploaded, self.moved) = (uploaded, Instant::now());
        }
        let (failures, error) = entry.spilling.failures.lock().clone();
        if failures != self.failures {
            self.failing.get_or_insert_with(Instant::now);
        }
        if self.failing.is_some_and(|since| since.elapsed() >= FAILING_MAX) {
            let error = error.unwrap_or_else(|| cannot(entry, "its uploads fail"));
            return Err(error.context("upload a file that is being written"));
        }
        let limit = if is_uploading { STALLED_MAX } else { QUEUED_MAX };
        match self.moved.elapsed() >= limit {
            true => Err(cannot(entry, "its upload does not get on")),
            false => Ok(()),
        }
    }
}

fn cannot(entry: &Entry, why: &str) -> FsError {
    let why = format!("spill inode {}: {why}", entry.inode);
    FsError::new(ErrorKind::NotSupported, why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[tokio::test]
    async fn one_looks_for_all_who_wait() {
        let (shared, looks) = (Shared::default(), AtomicUsize::new(0));
        let look = || async { looks.fetch_add(1, Ordering::Relaxed) };
        let hour = Duration::from_secs(3600);
        let asked = (0..100).map(|_| shared.ask(hour, look()));
        assert!(futures::future::join_all(asked).await.iter().all(|found| *found == 0));
        assert_eq!(
            shared.ask(Duration::ZERO, look()).await,
            1,
            "an old answer does not hold"
        );
    }
}
