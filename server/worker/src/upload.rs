//! The bytes of one sealed version on their way to an under-storage: from the local file where they are, from the base
//! where they never were local, and by the under-storage itself where it can copy them.

use crate::scrub::damaged;
use crate::store::{Entry, Header, Mark, Store, blocking, chunks_of};
use alluxio_common::checksum::crc32c;
use alluxio_common::sync::Mutex;
use alluxio_proto::master::PersistTask;
use alluxio_proto::types::UfsSource;
use alluxio_proto::{CHUNK_BYTES, ErrorKind, FsError, FsResult, cluster_tag};
use alluxio_ufs::{BaseObject, UfsError, UfsErrorKind, UfsResult, UfsStatus, UnderFileSystem, UploadSource};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a person is told when the base is gone.
const BASE_GONE: &str = "the object that this version was made of was replaced or removed by somebody else before the \
                         change was uploaded; what was written is kept at the worker: put the object back, or write the \
                         whole file anew";

/// What lies under a version: its place, and how many of its bytes show through.
#[derive(Clone, Debug)]
pub(crate) struct Under {
    pub place: UfsSource,
    pub bytes: u64,
}

impl Under {
    /// The base of the version of `task`, where it is now: the master hears of renames, the header does not.
    pub fn of(header: &Header, base_bytes: Option<u64>, task: &PersistTask) -> Option<Under> {
        let Some(base) = &header.base else {
            let place = task.base.clone()?;
            return Some(Under {
                bytes: place.length,
                place,
            });
        };
        // A version that was made here between the two does as well: what is clean is the same in it.
        let fits = base.version != 0 && (base.version..task.version).contains(&task.base_version);
        let moved = task.base.clone().filter(|_| fits);
        let place = moved.or_else(|| base.ufs.clone()).or_else(|| task.base.clone())?;
        Some(Under {
            place,
            bytes: base_bytes.unwrap_or(base.bytes),
        })
    }
}

/// Bytes of one sealed version.
pub(crate) struct Upload {
    pub store: Arc<Store>,
    pub entry: Arc<Entry>,
    pub length: u64,
    /// Of the content, when it began.
    pub epoch: u64,
    /// Where chunks come from that were never local.
    pub under: Option<(Under, Arc<dyn UnderFileSystem>)>,
    /// Ranges that are the base's. Empty if nobody knows.
    pub clean: Vec<Range<u64>>,
    /// Names these bytes.
    pub write_id: String,
    /// Whose they are.
    pub cluster: String,
    /// What a read of ours failed with; the store only sees that its source failed.
    pub failed: Mutex<Option<ErrorKind>>,
    /// Bytes that were read for the store.
    pub bytes_read: AtomicU64,
}

#[async_trait::async_trait]
impl UploadSource for Upload {
    fn length(&self) -> u64 {
        self.length
    }

    async fn read_at(&self, offset: u64, length: u64) -> UfsResult<Bytes> {
        let end = offset.checked_add(length).filter(|end| *end <= self.length);
        let end = end.ok_or_else(|| UfsError::new(UfsErrorKind::Invalid, "an upload reads beyond its end"))?;
        let mut out = BytesMut::with_capacity((end - offset) as usize);
        let (mut at, mut rounds) = (offset, 0);
        while at < end {
            let missing = self.entry.missing(at / CHUNK_BYTES..chunks_of(end));
            let (gap_start, gap_end) = missing
                .first()
                .map_or((end, end), |run| (run.start * CHUNK_BYTES, run.end * CHUNK_BYTES));
            let local = at..gap_start.clamp(at, end);
            if !local.is_empty() {
                // Damaged and forgotten: look again where it comes from now.
                if let Some(bytes) = self.read_checked(local.clone()).await? {
                    out.extend_from_slice(&bytes);
                    (at, rounds) = (local.end, 0);
                    continue;
                }
                rounds += 1;
                if rounds == ROUNDS_MAX {
                    // Bytes that nobody can hold against anything, under a header that says that they are sealed.
                    return Err(self.fail(ErrorKind::Corrupt, &damaged(self.entry.inode, at / CHUNK_BYTES).message));
                }
                continue;
            }
            let gap = at..gap_end.min(end);
            self.read_base(gap.clone(), &mut out).await?;
            at = gap.end;
        }
        self.check_epoch()?;
        self.bytes_read.fetch_add(length, Ordering::Relaxed);
        self.entry.spilling.uploaded.fetch_add(length, Ordering::Relaxed);
        Ok(out.freeze())
    }
}

impl Upload {
    /// What the store at `mount_id` has of it already, if it is worth saying so.
    pub fn base_object(&self, mount_id: u64) -> Option<BaseObject> {
        let (under, client) = self.under.as_ref()?;
        let usable = under.place.mount_id == mount_id && client.capabilities().copies_ranges;
        // An empty fingerprint would be any version.
        (usable && !self.clean.is_empty() && !under.place.fingerprint.is_empty()).then(|| BaseObject {
            path: under.place.path.clone(),
            fingerprint: under.place.fingerprint.clone(),
            length: under.place.length,
            clean: self.clean.clone(),
        })
    }

    /// None: some of it was damaged, and comes from the base now.
    async fn read_checked(&self, range: Range<u64>) -> UfsResult<Option<Vec<u8>>> {
        let (entry, length, all) = (Arc::clone(&self.entry), self.length, range.clone());
        let chunks = range.start / CHUNK_BYTES..chunks_of(range.end);
        let read = blocking(move || {
            let io = |error| FsError::from_io("read a version for upload", &error);
            entry.read_sealed(range, length).map_err(io)
        });
        let bytes = read
            .await
            .map_err(|error| UfsError::new(UfsErrorKind::Other, error.message))?;
        self.check_epoch()?;
        match bytes {
            Some(bytes) => Ok(Some(bytes)),
            // Given up meanwhile, because the base has it.
            None if !self.entry.missing(chunks).is_empty() => Ok(None),
            None if self.entry.is_open() => Err(self.fail(ErrorKind::Stale, "the version is being overwritten")),
            None => self.forget_damaged(all).await.map(|()| None),
        }
    }

    /// Forgets what of a range is damaged, if the base has it. The bytes of what nothing else has stay: a checksum that does
    /// not match does not make the file a lost one.
    async fn forget_damaged(&self, range: Range<u64>) -> UfsResult<()> {
        let (entry, store, length) = (Arc::clone(&self.entry), Arc::clone(&self.store), self.length);
        let look = blocking(move || {
            let io = |error| FsError::from_io("look for damage in a version", &error);
            for chunk in range.start / CHUNK_BYTES..chunks_of(range.end) {
                let bytes = chunk * CHUNK_BYTES..((chunk + 1) * CHUNK_BYTES).min(length);
                let is_right = entry.read_sealed(bytes, length).map_err(io)?.is_some();
                if !is_right && !entry.forget_chunk(chunk).map_err(io)? {
                    store.damages.note(&entry, chunk);
                    return Ok(Some(damaged(entry.inode, chunk)));
                }
            }
            Ok(None)
        });
        match look.await {
            Ok(None) => Ok(()),
            Ok(Some(damage)) => Err(self.fail(ErrorKind::Corrupt, &damage.message)),
            Err(error) => Err(UfsError::new(UfsErrorKind::Other, error.message)),
        }
    }

    async fn read_base(&self, gap: Range<u64>, out: &mut BytesMut) -> UfsResult<()> {
        let base_error = |error: UfsError| match error.kind {
            UfsErrorKind::PreconditionFailed | UfsErrorKind::NotFound => {
                self.fail(ErrorKind::VersionMismatch, BASE_GONE)
            }
            _ => error,
        };
        let (under, client) = self
            .under
            .as_ref()
            .ok_or_else(|| self.fail(ErrorKind::DataLost, "a part of the version is nowhere"))?;
        let want = out.len() + (gap.end - gap.start) as usize;
        let there = gap.start.min(under.bytes)..gap.end.min(under.bytes);
        if !there.is_empty() {
            let there_bytes = (there.end - there.start) as usize;
            let begun = out.len();
            let stream = client.read(&under.place.path, there, &under.place.fingerprint).await;
            let mut stream = stream.map_err(base_error)?;
            while let Some(piece) = stream.next().await {
                out.extend_from_slice(&piece.map_err(base_error)?);
            }
            if out.len() - begun != there_bytes {
                return Err(UfsError::new(UfsErrorKind::Other, "a body is not as long as its range"));
            }
        }
        // What lies beyond the base is zeros.
        out.resize(want, 0);
        Ok(())
    }

    fn check_epoch(&self) -> UfsResult<()> {
        match self.entry.view().content_epoch == self.epoch {
            true => Ok(()),
            false => Err(self.fail(ErrorKind::Stale, "the version was replaced while it was uploaded")),
        }
    }

    /// Whether a read of ours met another object than the base.
    pub fn has_lost_base(&self) -> bool {
        *self.failed.lock() == Some(ErrorKind::VersionMismatch)
    }

    fn fail(&self, kind: ErrorKind, why: &str) -> UfsError {
        *self.failed.lock() = Some(kind);
        UfsError::new(UfsErrorKind::Other, why)
    }

    /// What a failed write means: a read of ours, or the under-storage.
    pub fn error(&self, task: &PersistTask, error: UfsError) -> FsError {
        let path = task.path.escape_ascii();
        if error.kind == UfsErrorKind::BaseChanged {
            let why = format!("upload {path}: {BASE_GONE} ({})", error.message);
            return FsError::new(ErrorKind::VersionMismatch, why);
        }
        let mut error = FsError::from(error).context(format!("upload {path}"));
        if let Some(kind) = *self.failed.lock() {
            error.kind = kind;
        }
        error
    }

    /// Whether the object at the target is this version, from a run that ended between its upload and the news of it. By
    /// name where the store keeps that; otherwise by what can be compared, and if not all of it can, by the mtime as well:
    /// what was clean is to be had nowhere else by now.
    pub async fn is_there(&self, ufs: &dyn UnderFileSystem, task: &PersistTask, there: &UfsStatus) -> FsResult<bool> {
        if there.length != self.length {
            return Ok(false);
        }
        if there.write_id.as_ref() == Some(&self.write_id) {
            return Ok(true);
        }
        let local = self.comparable()?;
        let compared: u64 = local.iter().map(|run| run.end - run.start).sum();
        let mtime_ns = task.attr.as_ref().map(|attr| attr.mtime_ns);
        let is_likely = there.write_id.is_none() && compared > 0 && mtime_ns == Some(there.mtime_ns);
        if compared < chunks_of(self.length) && !is_likely {
            return Ok(false);
        }
        for run in local {
            if !self.equals(ufs, &task.path, there, run).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The object at the target is an earlier version of ours, made here of the same base, whose upload nobody heard of any
    /// more: takes it as the base. False: it is not.
    pub async fn adopt(&mut self, task: &PersistTask, there: &UfsStatus) -> FsResult<bool> {
        let version = there.write_id.as_ref();
        let Some(version) = version.and_then(|id| version_of(id, task.inode, &self.cluster)) else {
            return Ok(false);
        };
        let place = UfsSource {
            mount_id: task.mount_id,
            path: task.path.clone(),
            fingerprint: there.fingerprint.clone(),
            length: there.length,
        };
        let (entry, new) = (Arc::clone(&self.entry), place.clone());
        let io = |error| FsError::from_io("note a new base", &error);
        let adopted = version < task.version && blocking(move || entry.rebase_on(version, new).map_err(io)).await?;
        if let Some((under, _)) = self.under.as_mut().filter(|_| adopted) {
            under.place = place;
            *self.failed.lock() = None;
        }
        Ok(adopted)
    }

    /// Runs of chunks that have a checksum here.
    fn comparable(&self) -> FsResult<Vec<Range<u64>>> {
        let mut runs: Vec<Range<u64>> = Vec::new();
        let io = |error| FsError::from_io("read checksums", &error);
        let count = chunks_of(self.length);
        for at in (0..count).step_by(MARKS_AT_ONCE as usize) {
            let marks = self.entry.marks(at, MARKS_AT_ONCE.min(count - at)).map_err(io)?;
            for (chunk, mark) in (at..).zip(marks) {
                match (mark, runs.last_mut()) {
                    (Mark::Local(_) | Mark::Clean(_), Some(run)) if run.end == chunk => run.end += 1,
                    (Mark::Local(_) | Mark::Clean(_), _) => runs.push(chunk..chunk + 1),
                    _ => {}
                }
            }
        }
        Ok(runs)
    }

    async fn equals(
        &self,
        ufs: &dyn UnderFileSystem,
        path: &[u8],
        there: &UfsStatus,
        chunks: Range<u64>,
    ) -> FsResult<bool> {
        let range = chunks.start * CHUNK_BYTES..(chunks.end * CHUNK_BYTES).min(self.length);
        let stream = ufs.read(path, range, &there.fingerprint).await;
        let mut stream = stream.map_err(FsError::from)?;
        let mut buffer = BytesMut::new();
        let mut chunk = chunks.start;
        loop {
            let piece = stream.next().await;
            let ended = piece.is_none();
            if let Some(piece) = piece {
                buffer.extend_from_slice(&piece.map_err(FsError::from)?);
            }
            while buffer.len() as u64 >= CHUNK_BYTES || (ended && !buffer.is_empty()) {
                let bytes = buffer.split_to(buffer.len().min(CHUNK_BYTES as usize));
                let io = |error| FsError::from_io("read checksums", &error);
                let marks = self.entry.marks(chunk, 1).map_err(io)?;
                let same = matches!(marks.first(), Some(Mark::Local(crc) | Mark::Clean(crc)) if crc32c(&bytes) == *crc);
                if !same {
                    return Ok(false);
                }
                chunk += 1;
            }
            if ended {
                return Ok(chunk == chunks.end);
            }
        }
    }
}

/// The name of the bytes of a version; they had this mtime when it was sealed, which a history that was lost and begun anew
/// would not repeat.
/// The cluster is in it because another one over the same bucket has the same numbers.
pub(crate) fn write_id(inode: u64, version: u64, mtime_ns: i64, cluster: &str) -> String {
    format!("{inode:x}-{version:x}-{mtime_ns:x}-{}", cluster_tag(cluster))
}

/// Which version of `inode` an object of this cluster is, by its name.
pub(crate) fn version_of(write_id: &str, inode: u64, cluster: &str) -> Option<u64> {
    let mut parts = write_id.splitn(4, '-');
    let is_inode = parts.next() == Some(&format!("{inode:x}"));
    let version = u64::from_str_radix(parts.next().filter(|_| is_inode)?, 16).ok();
    version.filter(|_| parts.nth(1) == Some(cluster_tag(cluster)))
}

/// Tries of one read whose bytes are found damaged, and then not.
const ROUNDS_MAX: u32 = 16;
/// Marks read at once.
const MARKS_AT_ONCE: u64 = 4096;
