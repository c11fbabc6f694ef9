//! OpenRead, Read and Load: from the local file where it is, through the store where it must be fetched, past the store
//! where it cannot be kept.

use crate::core::{Core, on_file, stale};
use crate::flights::{FillError, Purpose};
use crate::io;
use crate::quick::quick;
use crate::scrub::damaged;
use crate::store::{Check, Entry, Header, Local, Passing, blocking, chunks_of};
use alluxio_proto::master::ReadSource;
use alluxio_proto::worker::{Load, OpenRead, OpenedFile, Read, TRANSFER_BYTES_MAX, WorkerReplyBody};
use alluxio_proto::{CHUNK_BYTES, ErrorKind, FsError, FsResult, InodeId, WorkerResponse};
use bytes::{Bytes, BytesMut};
use std::ops::Range;
use std::sync::Arc;

/// Reads up to this size are tried on the calling thread if the page cache has them: a hop to another thread would cost
/// more than the copy.
const INLINE_BYTES_MAX: u64 = 128 * 1024;
/// Rounds of one read: each time around a chunk was fetched or evicted, or an entry replaced, in between.
const ROUNDS_MAX: usize = 32;
/// Files up to this size are held against their checksums while they are opened.
pub(crate) const VERIFY_AT_OPEN_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Parts of one read past the store, each from here or from there: twice as many as it can have chunks.
const MIXED_ROUNDS_MAX: u64 = 2 * TRANSFER_BYTES_MAX / CHUNK_BYTES + 64;
/// Bytes fetched at a time by Load.
const LOAD_STEP_BYTES: u64 = 32 * 1024 * 1024;

/// Who reads.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reader {
    /// Its sequence of reads, for read-ahead; 0: none.
    pub stream: u64,
    /// It wants every byte held against its checksum.
    pub verify: bool,
}

impl Reader {
    fn check(self) -> Check {
        match self.verify {
            true => Check::Always,
            false => Check::Once,
        }
    }
}

impl Core {
    /// See [`OpenRead`].
    pub async fn open_read(&self, request: OpenRead) -> FsResult<WorkerResponse> {
        let source = request.source.ok_or_else(|| no_source(request.inode))?;
        let mut opened = OpenedFile {
            complete: source.length == 0,
            length: source.length,
            mtime_ns: 0,
            watched: false,
        };
        let handing_out = request.want_fd && !request.verify && self.store.layout.has_leases;
        if handing_out && let Some(file) = self.store.open_known(InodeId(request.inode), &source) {
            opened.complete = true;
            return Ok(WorkerResponse {
                reply: WorkerReplyBody::OpenedFile(opened),
                data: Bytes::new(),
                fd: Some(file.into()),
            });
        }
        let Some(entry) = self.entry_for_read(InodeId(request.inode), &source).await? else {
            return Ok(WorkerResponse::message(WorkerReplyBody::OpenedFile(opened)));
        };
        let whole_bytes = self.settings.whole_fetch_bytes;
        if request.check_source {
            self.filler.ensure_current(&entry, source.length, whole_bytes).await?;
        } else if source.length <= whole_bytes && request.want_fd {
            let all = 0..chunks_of(source.length);
            match self.filler.ensure(&entry, all, Purpose::Read).await {
                Ok(()) | Err(FillError::NotKept(_)) => {}
                Err(FillError::Source(error)) => return Err(error),
            }
        }
        let is_open = entry.is_open();
        let io = |error| FsError::from_io(format!("open the local file of inode {}", entry.inode), &error);
        let complete = entry.complete().map_err(io)?;
        // Nobody checks what the kernel reads past us: all of it was found right by this process before.
        let is_passed = handing_out && complete && self.verify_at_open(&entry, VERIFY_AT_OPEN_BYTES_MAX).await?;
        // Looking at an open file, and opening it again, does not wait for the disk.
        let stat = io::stat(&entry.data).map_err(io)?;
        let complete = complete && entry.complete().map_err(io)?;
        let fd = match is_passed && complete {
            true => entry.reopen_complete().map_err(io)?,
            false => None,
        };
        // Of what is written past us while only a part of it is here, nobody reads past us. Looked at now that there is a
        // descriptor: whoever opens it for writing from now on sees that.
        let fd = fd.filter(|_| !entry.is_open() || entry.pass(Passing::Anyhow));
        opened.complete = complete;
        if is_open {
            opened.length = stat.size;
            opened.mtime_ns = stat.mtime_ns;
        }
        Ok(WorkerResponse {
            reply: WorkerReplyBody::OpenedFile(opened),
            data: Bytes::new(),
            fd,
        })
    }

    /// See [`Read`].
    pub async fn read(&self, request: Read) -> FsResult<Bytes> {
        if request.length > TRANSFER_BYTES_MAX {
            let why = format!(
                "read of {} bytes; at most {TRANSFER_BYTES_MAX} at a time",
                request.length
            );
            return Err(FsError::new(ErrorKind::InvalidArgument, why));
        }
        let end = request
            .offset
            .checked_add(request.length)
            .ok_or_else(|| FsError::new(ErrorKind::InvalidArgument, "read beyond the largest offset"))?;
        let inode = InodeId(request.inode);
        let reader = Reader {
            stream: request.stream,
            verify: request.verify,
        };
        let source = request.source.ok_or_else(|| no_source(request.inode))?;
        let bytes = if request.open_version {
            let entry = self.store.find(inode).await?.filter(|entry| {
                let view = entry.view();
                // What was just sealed is what was open.
                view.open_as(source.version) || (!view.header.open && view.header.version == source.version)
            });
            let entry = entry.ok_or_else(|| stale(request.inode, source.version))?;
            self.read_entry(&entry, request.offset..end, reader).await?
        } else {
            let range = request.offset.min(source.length)..end.min(source.length);
            if range.is_empty() {
                Bytes::new()
            } else {
                self.read_committed(inode, &source, range, reader).await?
            }
        };
        self.counters.bytes_read.add(bytes.len() as u64);
        Ok(bytes)
    }

    async fn read_committed(
        &self,
        inode: InodeId,
        source: &ReadSource,
        range: Range<u64>,
        reader: Reader,
    ) -> FsResult<Bytes> {
        // What is here and in the page cache is answered at once.
        if range.end - range.start <= INLINE_BYTES_MAX
            && let Some(entry) = self
                .store
                .get(inode)
                .filter(|entry| entry.is_committed_as(source.version))
            && let Ok(Local::Data(bytes)) = entry.read_local(range.clone(), true, reader.check())
        {
            self.read_ahead(&entry, &range, reader.stream);
            return Ok(bytes);
        }
        match self.entry_for_read(inode, source).await? {
            Some(entry) => self.read_entry(&entry, range, reader).await,
            None => {
                let ufs = source.ufs.as_ref().ok_or_else(|| not_here(inode, source))?;
                self.filler.read_past(ufs, range).await
            }
        }
    }

    /// See [`Load`].
    pub async fn load(&self, request: Load) -> FsResult<()> {
        let source = request.source.ok_or_else(|| no_source(request.inode))?;
        let Some(entry) = self.entry_for_read(InodeId(request.inode), &source).await? else {
            return match source.length {
                0 => Ok(()),
                _ => Err(FsError::new(ErrorKind::NoSpace, "the worker cannot keep the file now")),
            };
        };
        let chunks = chunks_of(source.length);
        let mut at = 0;
        while at < chunks {
            let next = chunks.min(at + LOAD_STEP_BYTES / CHUNK_BYTES);
            let brought = self.filler.ensure(&entry, at..next, Purpose::Read).await;
            brought.map_err(FillError::into_error)?;
            at = next;
        }
        Ok(())
    }

    /// The entry that answers reads of a committed version, made if need be; `None`: it can only be read past the store.
    pub async fn entry_for_read(&self, inode: InodeId, source: &ReadSource) -> FsResult<Option<Arc<Entry>>> {
        for _ in 0..ROUNDS_MAX {
            let Some(entry) = self.store.find(inode).await? else {
                let Some(ufs) = &source.ufs else {
                    return if source.length == 0 {
                        Ok(None)
                    } else {
                        Err(not_here(inode, source))
                    };
                };
                if ufs.length != source.length {
                    let why = format!("inode {inode} has {} bytes, its object {}", source.length, ufs.length);
                    return Err(FsError::new(ErrorKind::InvalidArgument, why));
                }
                match self.create_cached(inode, source).await {
                    Ok(entry) => return Ok(Some(entry)),
                    Err(error) if error.kind == ErrorKind::Stale => continue,
                    Err(error) => {
                        tracing::warn!(%error, inode = inode.get(), "cannot cache a file; reading past the store");
                        return Ok(None);
                    }
                }
            };
            let view = entry.view();
            if view.dead {
                continue;
            }
            let is_in_doubt = source.ufs.is_some() && entry.is_to_be_fetched_again();
            if view.serves(source.version) && !is_in_doubt {
                self.note_location(&entry, source)?;
                return Ok(Some(entry));
            }
            if source.version < view.header.version || view.pinned() {
                // An older version than ours, or one that must not replace what may be the only copy.
                return match source.ufs {
                    Some(_) => Ok(None),
                    None if source.length == 0 => Ok(None),
                    None => Err(stale(inode.get(), source.version)),
                };
            }
            // Somebody may be opening it for writing just now.
            let _turn = entry.turn.lock().await;
            let now = entry.view();
            if !now.dead && !now.pinned() && now.header.version == view.header.version {
                let (store, entry) = (Arc::clone(&self.store), Arc::clone(&entry));
                blocking(move || store.remove(&entry)).await?;
            }
        }
        Ok(None)
    }

    pub(crate) async fn create_cached(&self, inode: InodeId, source: &ReadSource) -> FsResult<Arc<Entry>> {
        let header = Header::cached(inode.get(), source.version, source.length, source.ufs.clone());
        let store = Arc::clone(&self.store);
        quick(move || store.create(header)).await
    }

    /// The caller may know better than we where the version is in the under-storage.
    pub fn note_location(&self, entry: &Entry, source: &ReadSource) -> FsResult<()> {
        let Some(theirs) = &source.ufs else { return Ok(()) };
        let view = entry.view();
        // Of the version that was held when the caller looked: another one may have been sealed since.
        if view.header.open || view.header.version != source.version || view.header.ufs.as_ref() == Some(theirs) {
            return Ok(());
        }
        if view.header.ufs.is_some() {
            // Which of the two is newer nobody can tell: it is tried when ours fails.
            entry.fills.offer(theirs.clone());
            return Ok(());
        }
        // Uploaded, and the news of it got lost here: it is not the only copy any more.
        if theirs.length != view.header.length || view.uploading {
            return Ok(());
        }
        let io = |error| FsError::from_io(format!("update the sidecar of inode {}", entry.inode), &error);
        if !entry.set_found(source.version, theirs.clone()).map_err(io)? {
            return Ok(());
        }
        self.store.space.unpin(entry.inode);
        Ok(())
    }

    /// Reads from an entry; short only at its end.
    pub async fn read_entry(&self, entry: &Arc<Entry>, range: Range<u64>, reader: Reader) -> FsResult<Bytes> {
        let (stream, check) = (reader.stream, reader.check());
        for _ in 0..ROUNDS_MAX {
            let content = entry.committed_content();
            if let Some(bytes) = content.and_then(|content| self.store.fetch_buffer.take(content, &range)) {
                self.read_ahead(entry, &range, stream);
                return Ok(bytes);
            }
            let found = if range.end - range.start <= INLINE_BYTES_MAX {
                entry
                    .read_local(range.clone(), true, check)
                    .map_err(|error| FsError::from_io(format!("read the local file of inode {}", entry.inode), &error))
            } else {
                Ok(Local::WouldBlock)
            };
            let found = match found {
                Ok(Local::WouldBlock) => {
                    let range = range.clone();
                    on_file(entry, "read", move |entry| entry.read_local(range, false, check)).await
                }
                other => other,
            };
            match found {
                Ok(Local::Data(bytes)) => {
                    self.read_ahead(entry, &range, stream);
                    return Ok(bytes);
                }
                Ok(Local::Missing) | Ok(Local::WouldBlock) => {
                    if let Some(bytes) = self.fetch_missing(entry, &range, reader).await? {
                        return Ok(bytes);
                    }
                }
                Ok(Local::Corrupt(chunk)) if self.forget_corrupt(entry, chunk).await? => {}
                Ok(Local::Corrupt(chunk)) => return Err(damaged(entry.inode, chunk)),
                Err(error) => {
                    tracing::warn!(%error, inode = entry.inode.get(), "the worker's disk fails; reading past the store");
                    return self.read_mixed(entry, range, check).await.map_err(|_| error);
                }
            }
        }
        // Evicted as fast as it is fetched.
        self.read_mixed(entry, range, check).await
    }

    /// Fetches what is missing of `range`, then there is another round; or gives the bytes if they cannot be kept.
    async fn fetch_missing(&self, entry: &Arc<Entry>, range: &Range<u64>, reader: Reader) -> FsResult<Option<Bytes>> {
        let length = local_length(entry)?;
        let mut chunks = range.start / CHUNK_BYTES..chunks_of(range.end.min(length));
        if length <= self.settings.whole_fetch_bytes {
            chunks = 0..chunks_of(length);
        }
        self.read_ahead(entry, range, reader.stream);
        match self.filler.ensure(entry, chunks, Purpose::Read).await {
            Ok(()) => Ok(None),
            Err(FillError::Source(error)) => Err(error),
            Err(FillError::NotKept(_)) => self.read_mixed(entry, range.clone(), reader.check()).await.map(Some),
        }
    }

    fn read_ahead(&self, entry: &Arc<Entry>, range: &Range<u64>, stream: u64) {
        let Ok(length) = entry.length() else { return };
        if range.is_empty() || range.end > length {
            return;
        }
        let ahead = entry
            .fills
            .streams
            .lock()
            .note(stream, range, length, self.filler.policy);
        if let Some(ahead) = ahead {
            self.filler.read_ahead(entry, ahead);
        }
    }

    /// Reads what is here from here and the rest past the store, keeping nothing.
    async fn read_mixed(&self, entry: &Arc<Entry>, range: Range<u64>, check: Check) -> FsResult<Bytes> {
        let length = local_length(entry)?;
        let range = range.start.min(length)..range.end.min(length);
        let mut out = BytesMut::with_capacity((range.end - range.start) as usize);
        let (mut at, mut rounds) = (range.start, 0);
        while at < range.end {
            rounds += 1;
            if rounds > MIXED_ROUNDS_MAX {
                let why = format!("inode {} changes as fast as it is read", entry.inode);
                return Err(FsError::new(ErrorKind::Unavailable, why));
            }
            let missing = entry.missing(at / CHUNK_BYTES..chunks_of(range.end));
            let (gap_start, gap_end) = missing.first().map_or((range.end, range.end), |run| {
                (run.start * CHUNK_BYTES, run.end * CHUNK_BYTES)
            });
            let local = at..gap_start.clamp(at, range.end);
            if !local.is_empty() {
                let part = local.clone();
                match on_file(entry, "read", move |entry| entry.read_local(part, false, check)).await? {
                    Local::Data(bytes) if bytes.len() as u64 == local.end - local.start => {
                        out.extend_from_slice(&bytes)
                    }
                    Local::Corrupt(chunk) if self.forget_corrupt(entry, chunk).await? => {}
                    Local::Corrupt(chunk) => return Err(damaged(entry.inode, chunk)),
                    // Changed in between: look again.
                    _ => {}
                }
                at = range.start + out.len() as u64;
                continue;
            }
            let gap = at..gap_end.min(range.end);
            let (source, source_bytes, _) = entry.source().ok_or_else(|| {
                FsError::new(
                    ErrorKind::DataLost,
                    format!("a part of inode {} is nowhere", entry.inode),
                )
            })?;
            let there = gap.start.min(source_bytes)..gap.end.min(source_bytes);
            if !there.is_empty() {
                match self.filler.read_absent(entry, &source, there).await? {
                    Some(bytes) => out.extend_from_slice(&bytes),
                    None => continue,
                }
            }
            // What lies beyond the base is zeros.
            out.resize((gap.end - range.start) as usize, 0);
            at = gap.end;
        }
        Ok(out.freeze())
    }
}

pub(crate) fn local_length(entry: &Entry) -> FsResult<u64> {
    let io = |error| FsError::from_io(format!("look at the local file of inode {}", entry.inode), &error);
    entry.length().map_err(io)
}

pub(crate) fn no_source(inode: u64) -> FsError {
    FsError::new(
        ErrorKind::InvalidArgument,
        format!("a read of inode {inode} without a source"),
    )
}

pub(crate) fn not_here(inode: InodeId, source: &ReadSource) -> FsError {
    let why = format!(
        "version {} of inode {inode} is in no under-storage and not on this worker",
        source.version
    );
    FsError::new(ErrorKind::DataLost, why)
}
