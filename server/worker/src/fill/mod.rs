//! Fetching what is missing from under-storages.
//!
//! Each chunk is fetched by one flight at a time, conditional on the version's fingerprint, and kept as it arrives, so
//! that readers behind each other share one stream of bytes and nobody holds more than [`BATCH_BYTES`] per request (and the
//! fetch buffer of [`crate::store`] a bounded number).
//! Bytes that cannot be kept (disk full, disk broken) are read past the store.

mod buffers;
mod look;

use crate::core::quickly_on_file;
use crate::flights::{FillError, Flight, Policy, Purpose};
use crate::options::Settings;
use crate::store::{Entry, Promise, Store, blocking, chunks_of};
use crate::ufs_clients::UfsClients;
use crate::upload::{version_of, write_id};
use alluxio_common::metrics::{Counter, Metrics};
use alluxio_common::retry::RetryPolicy;
use alluxio_common::sync::Mutex;
use alluxio_proto::types::UfsSource;
use alluxio_proto::{CHUNK_BYTES, ErrorKind, FsError, FsResult};
use buffers::Buffers;
use bytes::{Bytes, BytesMut};
use futures::{FutureExt, StreamExt};
use std::collections::HashMap;
use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Bytes collected before they are written to the data file: at first few, for who waits for the first of them; then more
/// at a time, up to a multiple of this in the file, so that a large read finds all it wants in one piece.
const FIRST_BATCH_BYTES: u64 = 256 * 1024;
const BATCH_BYTES: u64 = 1024 * 1024;
/// How often and how long one range is tried; the adapters retry single requests themselves.
const RETRY: RetryPolicy = RetryPolicy {
    base: Duration::from_millis(50),
    max: Duration::from_secs(1),
    total: Duration::from_secs(5),
};
/// How long nothing is kept after there was no room for it.
const FULL_PAUSE: Duration = Duration::from_secs(1);
/// How often the master is asked where an object has moved, and the pause between.
const MOVED_TRIES_MAX: usize = 5;
const MOVED_PAUSE: Duration = Duration::from_millis(100);
/// Longest wait for an upload of the same file, whose object replaces the one that was read.
const UPLOAD_WAIT_MAX: Duration = Duration::from_secs(60);

/// What is where an object was that is another one now.
enum InPlace {
    /// An upload of the same file, and chunks that are absent here come from it now.
    Ours,
    /// Somebody else's.
    Others,
    /// Nothing, or the store could not say.
    Unknown,
}

/// Fetches for all files.
pub(crate) struct Filler {
    store: Arc<Store>,
    clients: Arc<UfsClients>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
    /// Requests in flight in all.
    permits: Semaphore,
    permits_per_file: usize,
    part_chunks: u64,
    pub policy: Policy,
    started: Instant,
    full_until_ms: AtomicU64,
    /// Mounts whose store did not answer, and until when it is not asked about what is opened.
    away: Mutex<HashMap<u64, Instant>>,
    bytes_read_ufs: Counter,
    buffers: Arc<Buffers>,
}

impl Filler {
    pub fn new(
        store: Arc<Store>,
        clients: Arc<UfsClients>,
        tasks: TaskTracker,
        shutdown: CancellationToken,
        settings: &Settings,
        metrics: &Metrics,
    ) -> Self {
        Self {
            store,
            clients,
            tasks,
            shutdown,
            permits: Semaphore::new(settings.parts_max.min(Semaphore::MAX_PERMITS)),
            permits_per_file: settings.parts_per_file.min(Semaphore::MAX_PERMITS),
            part_chunks: settings.part_bytes / CHUNK_BYTES,
            policy: Policy {
                min_bytes: settings.readahead_min_bytes,
                max_bytes: settings.readahead_max_bytes.max(settings.readahead_min_bytes),
                part_bytes: settings.part_bytes,
            },
            started: Instant::now(),
            full_until_ms: AtomicU64::new(0),
            away: Mutex::default(),
            bytes_read_ufs: metrics.counter("Worker.BytesReadUfs"),
            buffers: Arc::default(),
        }
    }

    /// Returns when all of `chunks` are here.
    ///
    /// # Errors
    /// `NoSpace` if they cannot be kept; otherwise the under-storage's.
    pub async fn ensure(
        self: &Arc<Self>,
        entry: &Arc<Entry>,
        chunks: Range<u64>,
        purpose: Purpose,
    ) -> Result<(), FillError> {
        let mut joined: Vec<Arc<Flight>> = Vec::new();
        loop {
            let progress = entry.fills.progress.notified();
            tokio::pin!(progress);
            // Counts from here on, also what happens before it is awaited.
            progress.as_mut().enable();
            let missing = entry.missing(chunks.clone());
            if missing.is_empty() {
                return Ok(());
            }
            if entry.is_dead() {
                if entry.fills.overtaken.load(Ordering::Relaxed) {
                    let why = format!(
                        "fetch inode {}: its object in the under-storage is another one now",
                        entry.inode
                    );
                    return Err(FillError::Source(FsError::new(ErrorKind::VersionMismatch, why)));
                }
                // Nothing is kept of it any more, however often it is fetched.
                let why = "the file was evicted from the worker's store meanwhile";
                return Err(FillError::NotKept(FsError::new(ErrorKind::NoSpace, why)));
            }
            let failed = joined
                .iter()
                .filter(|flight| missing.iter().any(|run| flight.overlaps(run)));
            for flight in failed {
                match flight.failure() {
                    Some(FillError::Source(error)) => return Err(FillError::Source(error.clone())),
                    // A lesser purpose had to respect the quota: there is another flight for this one.
                    Some(FillError::NotKept(error))
                        if purpose != Purpose::Write || flight.purpose == Purpose::Write =>
                    {
                        return Err(FillError::NotKept(error.clone()));
                    }
                    _ => {}
                }
            }
            if purpose != Purpose::Write && self.is_full(entry) {
                let why = "no room in the worker's store a moment ago";
                return Err(FillError::NotKept(FsError::new(ErrorKind::NoSpace, why)));
            }
            joined = self.start(entry, &missing, purpose);
            progress.await;
        }
    }

    /// Fetches `range` in the background, as far as it is missing.
    pub fn read_ahead(self: &Arc<Self>, entry: &Arc<Entry>, range: Range<u64>) {
        if self.is_full(entry) {
            return;
        }
        let missing = entry.missing(range.start / CHUNK_BYTES..chunks_of(range.end));
        if !missing.is_empty() {
            self.start(entry, &missing, Purpose::ReadAhead);
        }
    }

    fn start(self: &Arc<Self>, entry: &Arc<Entry>, missing: &[Range<u64>], purpose: Purpose) -> Vec<Arc<Flight>> {
        let (joined, new) = entry.fills.claim(missing, self.part_chunks, purpose);
        for flight in new {
            let (filler, entry) = (Arc::clone(self), Arc::clone(entry));
            self.tasks.spawn(async move {
                let result = tokio::select! {
                    () = filler.shutdown.cancelled() => Ok(Err(FillError::Source(shutting_down()))),
                    result = AssertUnwindSafe(filler.fly(&entry, &flight)).catch_unwind() => result,
                };
                match result {
                    Ok(Ok(())) => {}
                    Ok(Err(failure)) => flight.fail(failure),
                    Err(_) => {
                        let why = format!("fetching inode {} panicked", entry.inode);
                        flight.fail(FillError::Source(FsError::new(ErrorKind::Internal, why)));
                    }
                }
                entry.fills.end(&flight);
            });
        }
        joined
    }

    async fn fly(self: &Arc<Self>, entry: &Arc<Entry>, flight: &Flight) -> Result<(), FillError> {
        let closed = |_| FillError::Source(shutting_down());
        let read_ahead = entry
            .fills
            .read_ahead_permits
            .get_or_init(|| Arc::new(Semaphore::new(self.permits_per_file)));
        // What somebody waits for does not queue behind read-ahead of the same file.
        let _file_permit = match flight.purpose {
            Purpose::ReadAhead => Some(read_ahead.acquire().await.map_err(closed)?),
            Purpose::Read | Purpose::Write => None,
        };
        let _permit = self.permits.acquire().await.map_err(closed)?;
        let bytes = (flight.chunks.end - flight.chunks.start) * CHUNK_BYTES;
        let (store, inode) = (Arc::clone(&self.store), entry.inode);
        let mut room = blocking(move || Ok(store.promise_room(bytes, inode)))
            .await
            .map_err(FillError::NotKept)?;
        if room.is_none() && flight.purpose != Purpose::Write {
            let error = FsError::new(ErrorKind::NoSpace, "no room in the worker's store");
            return Err(self.not_kept(entry, bytes, error));
        }
        let mut at = flight.chunks.start * CHUNK_BYTES;
        let mut backoff = RETRY.start();
        loop {
            let Some((source, source_bytes, epoch)) = entry.source() else {
                let why = format!(
                    "a part of inode {} is here no more and in no under-storage",
                    entry.inode
                );
                return Err(FillError::Source(FsError::new(ErrorKind::DataLost, why)));
            };
            let end = (flight.chunks.end * CHUNK_BYTES).min(source_bytes);
            match self.fetch(entry, &source, &mut at, end, (epoch, room.as_mut())).await {
                Ok(()) => return Ok(()),
                Err(FillError::Source(error)) => {
                    let again = match error.kind {
                        ErrorKind::VersionMismatch => self.mismatch(entry, &source).await,
                        _ => error.is_retryable() && backoff.pause(&error).await,
                    };
                    if !again {
                        return Err(FillError::Source(base_lost(entry, error)));
                    }
                }
                Err(not_kept) => return Err(not_kept),
            }
        }
    }

    /// Fetches from `at` to `end`, moving `at` behind what was kept.
    async fn fetch(
        &self,
        entry: &Arc<Entry>,
        source: &UfsSource,
        at: &mut u64,
        end: u64,
        (epoch, mut room): (u64, Option<&mut Promise>),
    ) -> Result<(), FillError> {
        if *at >= end {
            return Ok(());
        }
        let mut stream = self.open(source, *at..end).await.map_err(FillError::Source)?;
        let mut received = *at;
        let mut batch_end = batch_end(*at, FIRST_BATCH_BYTES, end);
        let mut batch = self.buffers.take((batch_end - *at) as usize);
        while received < end {
            let mut piece = match stream.next().await {
                Some(Ok(piece)) => piece,
                Some(Err(error)) => return Err(FillError::Source(read_error(source, error))),
                None => return Err(FillError::Source(short(source, received, end))),
            };
            received += piece.len() as u64;
            self.bytes_read_ufs.add(piece.len() as u64);
            if received > end {
                return Err(FillError::Source(short(source, received, end)));
            }
            while received >= batch_end && *at < end {
                let rest = piece.split_off((batch_end - *at) as usize - batch.len());
                batch.extend(&piece);
                piece = rest;
                let Some(kept) = self.keep(entry, epoch, *at, batch.freeze()).await? else {
                    return Ok(());
                };
                if let Some(room) = &mut room {
                    room.spend(kept);
                }
                *at = batch_end;
                batch_end = self::batch_end(*at, BATCH_BYTES, end);
                batch = self.buffers.take((batch_end - *at) as usize);
            }
            batch.extend(&piece);
        }
        Ok(())
    }

    /// How many bytes were kept; None: they are not wanted any more.
    async fn keep(&self, entry: &Arc<Entry>, epoch: u64, offset: u64, bytes: Bytes) -> Result<Option<u64>, FillError> {
        let content = entry.committed_content();
        let data = bytes.clone();
        let kept = quickly_on_file(entry, "keep bytes in", move |entry| entry.fill(epoch, offset, &data))
            .await
            .map_err(|error| self.not_kept(entry, 0, error))?;
        let Some(kept) = kept else { return Ok(None) };
        if let Some(content) = content.filter(|content| entry.committed_content() == Some(*content)) {
            self.store.fetch_buffer.put(content, offset, bytes);
        }
        self.store.space.charge(entry, kept);
        let view = entry.view();
        if !view.header.open && !view.dead {
            self.store
                .reports
                .set(entry.inode, view.header.version, entry.present_bytes());
        }
        entry.fills.progress.notify_waiters();
        Ok(Some(kept))
    }

    /// Nothing more is kept for a moment: of this file, if it is itself what takes the room, and of no file otherwise.
    fn not_kept(&self, entry: &Entry, bytes: u64, error: FsError) -> FillError {
        let until = (self.started.elapsed() + FULL_PAUSE).as_millis() as u64;
        let by_itself = entry.charged.load(Ordering::Relaxed) > 0 || bytes > self.store.space.quota_bytes;
        if error.kind == ErrorKind::NoSpace && by_itself {
            entry.fills.full_until_ms.store(until, Ordering::Relaxed);
            return FillError::NotKept(error);
        }
        if self.full_until_ms.swap(until, Ordering::Relaxed) == 0 || error.kind != ErrorKind::NoSpace {
            tracing::warn!(%error, "fetched bytes cannot be kept; reading past the store");
        }
        FillError::NotKept(error)
    }

    fn is_full(&self, entry: &Entry) -> bool {
        let now = self.started.elapsed().as_millis() as u64;
        [&self.full_until_ms, &entry.fills.full_until_ms]
            .iter()
            .any(|until| now < until.load(Ordering::Relaxed))
    }

    /// The object is another one. True: there is reason to try again.
    async fn mismatch(&self, entry: &Arc<Entry>, tried: &UfsSource) -> bool {
        let waited = tokio::time::timeout(UPLOAD_WAIT_MAX, async {
            loop {
                let progress = entry.fills.progress.notified();
                tokio::pin!(progress);
                progress.as_mut().enable();
                if !entry.view().uploading {
                    return;
                }
                progress.await;
            }
        });
        if waited.await.is_err() {
            return false;
        }
        let now = entry.source().map(|(source, _, _)| source);
        if now.as_ref() != Some(tried) {
            return now.is_some();
        }
        if self.find_moved(entry, tried).await {
            return true;
        }
        // Who has the turn may be opening it for writing, and may wait for this very fetch.
        let Ok(_turn) = entry.turn.try_lock() else { return false };
        let view = entry.view();
        if view.dead || view.pinned() {
            return false;
        }
        // What is kept of it is the old version; a look-up at the master will bring the new one.
        entry.fills.overtaken.store(true, Ordering::Relaxed);
        let (store, entry) = (Arc::clone(&self.store), Arc::clone(entry));
        let inode = entry.inode.get();
        match blocking(move || store.remove(&entry)).await {
            Ok(()) => tracing::info!(
                inode,
                "the object in the under-storage changed; dropped what was cached of it"
            ),
            Err(error) => tracing::warn!(%error, inode, "drop a version that changed in the under-storage"),
        }
        false
    }

    /// Looks for another location of the object that `tried` was: a rename moves it under our hands. True: there is one.
    async fn find_moved(&self, entry: &Arc<Entry>, tried: &UfsSource) -> bool {
        if let Some(offered) = entry.fills.take_offered(tried) {
            return moved(entry, tried, offered);
        }
        let header = entry.view().header;
        let version = match (&header.ufs, &header.base) {
            (Some(_), _) if !header.open => header.version,
            (_, Some(base)) => base.version,
            _ => return false,
        };
        let tries = match self.find_own_upload(entry, tried, version).await {
            InPlace::Ours => return true,
            // It has not moved: there is nothing to wait for.
            InPlace::Others if !entry.view().pinned() => 1,
            // Of a rename under way the master knows only when it is done, which is a moment after the object has moved.
            InPlace::Others | InPlace::Unknown => MOVED_TRIES_MAX,
        };
        for left in (0..tries).rev() {
            match self.clients.locations_of(entry.inode).await {
                Ok(locations) => {
                    if let Some((_, location)) = locations
                        .iter()
                        .find(|(of, location)| *of == version && location != tried)
                    {
                        return moved(entry, tried, location.clone());
                    }
                    if let Some((of, location)) = locations
                        .into_iter()
                        .filter(|(of, _)| *of > version)
                        .max_by_key(|(of, _)| *of)
                        && replaced(entry, tried, of, location)
                    {
                        return true;
                    }
                }
                Err(error) => {
                    tracing::info!(%error, inode = entry.inode.get(), "look for an object that is not where it was");
                    return false;
                }
            }
            if left > 0 {
                tokio::time::sleep(MOVED_PAUSE).await;
            }
        }
        false
    }

    /// Looks whether the object that took the place of the base, `tried`, is an upload of ours of a version that was made of it:
    /// its end was not noted before the operating system crashed, here or at the master. Then it is the base from now on.
    async fn find_own_upload(&self, entry: &Arc<Entry>, tried: &UfsSource, base_version: u64) -> InPlace {
        let there = match self.clients.get(tried.mount_id).await {
            Ok(ufs) => ufs.status(&tried.path).await,
            Err(error) => {
                tracing::info!(%error, inode = entry.inode.get(), "look at what took the place of an object");
                return InPlace::Unknown;
            }
        };
        let Ok(there) = there.inspect_err(
            |error| tracing::info!(%error, inode = entry.inode.get(), "look at what took the place of an object"),
        ) else {
            return InPlace::Unknown;
        };
        let (inode, cluster) = (entry.inode.get(), self.clients.cluster());
        let header = entry.view().header;
        let sealed = match (header.open, &header.sealed) {
            (false, _) => Some((header.version, header.mtime_ns, header.length)),
            (true, sealed) => sealed
                .as_ref()
                .map(|sealed| (sealed.version, sealed.mtime_ns, sealed.length)),
        };
        let id = there.write_id.as_deref().unwrap_or_default();
        let Some(version) = version_of(id, inode, &cluster).filter(|version| *version > base_version) else {
            return match there.fingerprint == tried.fingerprint {
                true => InPlace::Unknown,
                false => InPlace::Others,
            };
        };
        let is_ours = sealed.is_some_and(|(sealed, mtime_ns, length)| match version == sealed {
            true => length == there.length && id == write_id(inode, version, mtime_ns, &cluster),
            false => version < sealed,
        });
        let place = UfsSource {
            fingerprint: there.fingerprint,
            length: there.length,
            ..tried.clone()
        };
        match is_ours && replaced(entry, tried, version, place) {
            true => InPlace::Ours,
            false => InPlace::Unknown,
        }
    }

    async fn open(
        &self,
        source: &UfsSource,
        range: Range<u64>,
    ) -> FsResult<futures::stream::BoxStream<'static, alluxio_ufs::UfsResult<Bytes>>> {
        let ufs = self.clients.get(source.mount_id).await?;
        let stream = ufs.read(&source.path, range, &source.fingerprint).await;
        stream.map_err(|error| read_error(source, error))
    }

    /// Reads `range` of an object past the store.
    ///
    /// # Errors
    /// The under-storage's, after a bounded number of tries.
    pub async fn read_past(&self, source: &UfsSource, range: Range<u64>) -> FsResult<Bytes> {
        let _permit = self.permits.acquire().await.map_err(|_| shutting_down())?;
        let mut backoff = RETRY.start();
        loop {
            match self.read_past_once(source, range.clone()).await {
                Err(error) if error.is_retryable() && backoff.pause(&error).await => {}
                other => return other,
            }
        }
    }

    /// As [`Self::read_past`], of what absent chunks of an entry come from. `None`: they come from elsewhere by now, because an
    /// upload of the file replaced its object, or a rename moved it.
    ///
    /// # Errors
    /// As [`Self::read_past`].
    pub async fn read_absent(
        &self,
        entry: &Arc<Entry>,
        source: &UfsSource,
        range: Range<u64>,
    ) -> FsResult<Option<Bytes>> {
        match self.read_past(source, range).await {
            Err(error) if error.kind == ErrorKind::VersionMismatch => match self.mismatch(entry, source).await {
                true => Ok(None),
                false => Err(base_lost(entry, error)),
            },
            other => other.map(Some),
        }
    }

    async fn read_past_once(&self, source: &UfsSource, range: Range<u64>) -> FsResult<Bytes> {
        let want = (range.end - range.start) as usize;
        let mut stream = self.open(source, range.clone()).await?;
        let mut bytes = BytesMut::with_capacity(want);
        while let Some(piece) = stream.next().await {
            let piece = piece.map_err(|error| read_error(source, error))?;
            self.bytes_read_ufs.add(piece.len() as u64);
            bytes.extend_from_slice(&piece);
            if bytes.len() > want {
                break;
            }
        }
        match bytes.len() == want {
            true => Ok(bytes.freeze()),
            false => Err(short(source, range.start + bytes.len() as u64, range.end)),
        }
    }
}

/// Where a batch that begins at `at` ends.
fn batch_end(at: u64, bytes: u64, end: u64) -> u64 {
    ((at / bytes + 1) * bytes).min(end)
}

/// Of a version that is in no under-storage yet nothing is to be looked up anew: what its base alone had is gone.
fn base_lost(entry: &Entry, error: FsError) -> FsError {
    let view = entry.view();
    if error.kind != ErrorKind::VersionMismatch || !view.pinned() || view.dead {
        return error;
    }
    let why = format!(
        "the object that inode {} was made of was replaced or removed by somebody else before the change was uploaded",
        entry.inode
    );
    FsError::new(ErrorKind::DataLost, format!("{why}: {}", error.message))
}

fn moved(entry: &Entry, from: &UfsSource, to: UfsSource) -> bool {
    entry.move_source(from, to).unwrap_or_else(|error| {
        tracing::warn!(%error, inode = entry.inode.get(), "note where an object has moved");
        false
    })
}

/// The object was replaced by an upload of this very file, of a version that was made here of what it was; what is kept here
/// did not take notice of that before the operating system crashed. True: chunks that are absent here come from it now.
fn replaced(entry: &Entry, tried: &UfsSource, version: u64, location: UfsSource) -> bool {
    let epoch = entry.view().content_epoch;
    match entry.label_persisted(version, epoch, location) {
        Ok(_) => entry.source().is_some_and(|(source, _, _)| source != *tried),
        Err(error) => {
            tracing::warn!(%error, inode = entry.inode.get(), "note that an object was replaced");
            false
        }
    }
}

fn read_error(source: &UfsSource, error: alluxio_ufs::UfsError) -> FsError {
    let mut error = FsError::from(error);
    // The object of that version is gone: for the caller the same as another object.
    if error.kind == ErrorKind::NotFound {
        error.kind = ErrorKind::VersionMismatch;
    }
    error.context(format!(
        "read {} of mount {}",
        source.path.escape_ascii(),
        source.mount_id
    ))
}

fn shutting_down() -> FsError {
    FsError::new(ErrorKind::Unavailable, "the worker is shutting down")
}

fn short(source: &UfsSource, got: u64, end: u64) -> FsError {
    let why = format!(
        "read {} of mount {}: the body ended at {got} instead of {end}",
        source.path.escape_ascii(),
        source.mount_id
    );
    FsError::new(ErrorKind::Unavailable, why)
}
