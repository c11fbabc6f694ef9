//! SeekRange and CopyRange: holes, and bytes that go from file to file on the worker itself.

use crate::core::{Core, on_file, stale};
use crate::flights::{FillError, Purpose};
use crate::read::{Reader, local_length, no_source, not_here};
use crate::store::{Entry, chunks_of};
use crate::write::checked_end;
use alluxio_proto::master::ReadSource;
use alluxio_proto::worker::{COPY_BYTES_MAX, CopyRange, SeekRange, Sought, TRANSFER_BYTES_MAX, Written};
use alluxio_proto::{CHUNK_BYTES, ErrorKind, FsError, FsResult, InodeId};
use std::ops::Range;
use std::sync::Arc;

/// Rounds of a copy whose source is evicted under its hands.
const ROUNDS_MAX: usize = 16;

impl Core {
    /// See [`SeekRange`].
    pub async fn seek(&self, request: SeekRange) -> FsResult<Sought> {
        let source = request.source.clone().ok_or_else(|| no_source(request.inode))?;
        let Some(entry) = self
            .entry_of(InodeId(request.inode), &source, request.open_version)
            .await?
        else {
            // Nothing of it is here: all data.
            let found = request.offset < source.length;
            let offset = if request.hole { source.length } else { request.offset };
            return Ok(Sought { found, offset });
        };
        if request.offset >= local_length(&entry)? {
            return Ok(Sought::default());
        }
        let found = on_file(&entry, "seek in", move |entry| {
            entry.seek_local(request.offset, request.hole)
        })
        .await?;
        Ok(Sought {
            found: found.is_some(),
            offset: found.unwrap_or(0),
        })
    }

    /// The entry that a read would be answered from; `None`: it can only be read past the store.
    async fn entry_of(&self, inode: InodeId, source: &ReadSource, open: bool) -> FsResult<Option<Arc<Entry>>> {
        if !open {
            return self.entry_for_read(inode, source).await;
        }
        let entry = self.store.find(inode).await?.filter(|entry| {
            let view = entry.view();
            view.open_as(source.version) || (!view.header.open && view.header.version == source.version)
        });
        entry.map(Some).ok_or_else(|| stale(inode.get(), source.version))
    }

    /// See [`CopyRange`].
    pub async fn copy_range(&self, request: CopyRange) -> FsResult<Written> {
        let source = request.from_source.clone().unwrap_or_default();
        let to = self.open_entry(request.inode, request.version).await?;
        for _ in 0..ROUNDS_MAX {
            let found = self.entry_of(InodeId(request.from_inode), &source, request.from_open_version);
            let from = match found.await? {
                Some(from) => from,
                None if source.length == 0 => return self.copied(&request, 0, &to),
                None => return Err(not_here(InodeId(request.from_inode), &source)),
            };
            match self.copy_from(&request, &from, &to).await {
                // Evicted or given up, for others or for what is written here, before all of it was copied: it is fetched again.
                Err(error) if error.kind == ErrorKind::NoSpace && from.is_dead() => {}
                Err(error) if error.kind == ErrorKind::Busy => {}
                other => return other,
            }
        }
        let why = format!("inode {} is evicted as fast as it is fetched", request.from_inode);
        Err(FsError::new(ErrorKind::Busy, why))
    }

    async fn copy_from(&self, request: &CopyRange, from: &Arc<Entry>, to: &Arc<Entry>) -> FsResult<Written> {
        let from_length = local_length(from)?;
        let from_end = request.from_offset.saturating_add(request.length.min(COPY_BYTES_MAX));
        let range = request.from_offset.min(from_length)..from_end.min(from_length);
        let length = range.end - range.start;
        let end = checked_end(request.offset, length)?;
        if length == 0 {
            return self.copied(request, 0, to);
        }
        if Arc::ptr_eq(from, to) && request.offset < range.end && range.start < end {
            let why = format!("copy within inode {}: the ranges overlap", to.inode);
            return Err(FsError::new(ErrorKind::InvalidArgument, why));
        }
        self.with_room(to.inode, length, || {
            self.copy_now(request, from, to, (range.start, length, end))
        })
        .await?;
        self.counters.bytes_written.add(length);
        self.copied(request, length, to)
    }

    /// `end`: of what is written.
    async fn copy_now(
        &self,
        request: &CopyRange,
        from: &Arc<Entry>,
        to: &Arc<Entry>,
        (start, length, end): (u64, u64, u64),
    ) -> FsResult<()> {
        let range = start..start + length;
        self.bring_checked(from, range.clone()).await?;
        let _turn = to.turn.lock().await;
        let size = self.open_stat(to, request.version)?.size;
        self.bring_edges(to, request.offset..end, size).await?;
        let (store, from) = (Arc::clone(&self.store), Arc::clone(from));
        let offset = request.offset;
        let copy = move |to: &Entry| {
            let doing = || {
                format!(
                    "copy {length} bytes of inode {} to {offset} of {}",
                    from.inode, to.inode
                )
            };
            let Some(_held) = from.hold(range.start / CHUNK_BYTES..chunks_of(range.end)) else {
                let why = "what is copied was given up to make room meanwhile";
                return Err(FsError::new(ErrorKind::Busy, why).context(doing()));
            };
            let done = to.copy_local(offset, &from.data, start, length);
            done.map_err(|error| FsError::from_io(doing(), &error))?;
            store.measure(to);
            Ok(())
        };
        self.in_room(to, length, copy).await
    }

    fn copied(&self, request: &CopyRange, length: u64, to: &Entry) -> FsResult<Written> {
        Ok(Written {
            offset: request.offset,
            length,
            file_length: local_length(to)?,
        })
    }

    /// Sees to it that all of `range` is in the local file, and right: it is taken from there by the kernel.
    async fn bring_checked(&self, entry: &Arc<Entry>, range: Range<u64>) -> FsResult<()> {
        let chunks = range.start / CHUNK_BYTES..chunks_of(range.end);
        let brought = self.filler.ensure(entry, chunks, Purpose::Write).await;
        brought.map_err(FillError::into_error)?;
        let mut at = range.start;
        while at < range.end {
            let end = range.end.min((at / CHUNK_BYTES * CHUNK_BYTES) + TRANSFER_BYTES_MAX);
            if !entry.is_verified(at..end) {
                self.read_entry(entry, at..end, Reader::default()).await?;
            }
            at = end;
        }
        Ok(())
    }
}
