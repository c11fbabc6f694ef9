//! The one thread that writes the log.
//!
//! It takes everything that was submitted meanwhile, writes consecutive appends with one `pwrite` and one
//! `fdatasync`, and only then reports them as done. With [`CommitAt::Written`] they are done before the sync, which the
//! log's own thread does when it is due or wanted; whoever writes goes on meanwhile. After an error it does no more IO: every
//! operation, also those that wait already, gets the first error.

use std::{io, sync::Arc};

use alluxio_common::{disk::DiskFile, sync::Mutex};

use crate::CommitAt;

use super::{
    Position, Record, Shared, record, recover,
    segment::{HEADER_BYTES, Header, Segment, Spare},
};

/// Told when an operation is on disk, or failed. Called on the writer's thread: must not block.
pub(crate) type OnDone = Box<dyn FnOnce(io::Result<()>) + Send>;

/// Encoded bytes of one write; more records get the next write (of the same sync, where possible).
const WRITE_BYTES_MAX: usize = 4 << 20;

/// Something to do, in order.
pub(crate) enum Op {
    /// Entries that are in the cache already.
    Append { records: Vec<Record>, done: OnDone },
    /// Remove what is after `index`.
    Truncate { index: u64, done: OnDone },
    /// Drop what is up to `upto`.
    Purge { upto: Position, done: OnDone },
    /// Allocate.
    Reserve { bytes: u64, done: OnDone },
}

/// The log is written over zeros, so that a sync has no metadata to write: allocated blocks that were never written cost
/// the file system a transaction for each sync, written ones only themselves. So much is written at a time.
const AHEAD_BYTES: u64 = 1 << 20;

/// How many zeros to write behind records that go to `at..end`: up to the next multiple of [`AHEAD_BYTES`], by whoever is
/// the first beyond one (or in the file).
fn zeros_behind(at: u64, end: u64, capacity: u64) -> usize {
    let first = at == HEADER_BYTES || at.div_ceil(AHEAD_BYTES) < end.div_ceil(AHEAD_BYTES);
    let upto = end.next_multiple_of(AHEAD_BYTES).min(capacity);
    if first && end > at {
        upto.saturating_sub(end) as usize
    } else {
        0
    }
}

/// Works until the log is closed.
pub(super) fn run(shared: &Shared, writer: &Mutex<Writer>) {
    loop {
        let (ops, syncs, is_due, closed) = {
            let mut queue = shared.queue.lock();
            loop {
                let now = shared.options.clock.now();
                let is_due = queue.sync_by.is_some_and(|by| by <= now);
                if !queue.ops.is_empty() || !queue.syncs.is_empty() || is_due || queue.closed {
                    break;
                }
                match queue.sync_by {
                    Some(by) => {
                        shared.options.clock.wait_until(&shared.wake, &mut queue, by);
                    }
                    None => shared.wake.wait(&mut queue),
                }
            }
            let is_due = queue.closed || queue.sync_by.is_some_and(|by| by <= shared.options.clock.now());
            if is_due || !queue.syncs.is_empty() {
                // What is appended from here on is not sure to be synced now.
                queue.sync_by = None;
            }
            let syncs = std::mem::take(&mut queue.syncs);
            (std::mem::take(&mut queue.ops), syncs, is_due, queue.closed)
        };
        let is_last = closed && ops.is_empty();
        if !ops.is_empty() {
            writer.lock().execute(ops);
        }
        if is_due || !syncs.is_empty() {
            let synced = sync_written(shared);
            for done in syncs {
                done(copy(&synced));
            }
        }
        if is_last {
            return;
        }
    }
}

/// Syncs what is in the last file; earlier ones were synced before it began. Holds no lock, so that writing goes on.
fn sync_written(shared: &Shared) -> io::Result<()> {
    shared.check()?;
    let (file, upto) = {
        let index = shared.index.lock();
        let upto = index.last_written.index;
        match index.segments.back() {
            Some(last) if index.durable_index < upto => (last.file.clone(), upto),
            _ => return Ok(()),
        }
    };
    shared.sync_file(&*file, upto)
}

/// The same result for somebody else.
fn copy(result: &io::Result<()>) -> io::Result<()> {
    match result {
        Ok(()) => Ok(()),
        Err(e) => Err(io::Error::new(e.kind(), e.to_string())),
    }
}

/// Does the writing; whoever holds its lock is the one thread that writes.
pub(super) struct Writer {
    shared: Arc<Shared>,
    spare: Option<Spare>,
    buffer: Vec<u8>,
}

/// The end of the last segment, as the writer goes on from it.
struct Tail {
    file: Arc<dyn DiskFile>,
    salt: u64,
    /// Where `Writer::buffer` goes.
    at: u64,
    capacity: u64,
    /// Where the records in the buffer start.
    offsets: Vec<u32>,
    last: Position,
}

impl Writer {
    pub fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            spare: None,
            buffer: Vec::new(),
        }
    }

    /// Does what was submitted, in order.
    pub fn execute(&mut self, ops: impl IntoIterator<Item = Op>) {
        let (mut records, mut waiting) = (Vec::new(), Vec::new());
        for op in ops {
            match op {
                Op::Append { records: more, done } => {
                    records.extend(more);
                    waiting.push(done);
                }
                other => {
                    self.append(std::mem::take(&mut records), std::mem::take(&mut waiting));
                    self.execute_one(other);
                }
            }
        }
        self.append(records, waiting);
        self.prepare_spare();
    }

    fn execute_one(&mut self, op: Op) {
        match op {
            Op::Append { records, done } => self.append(records, vec![done]),
            Op::Truncate { index, done } => {
                let result = self.fatal("truncate the log", |w| w.truncate(index));
                done(result);
            }
            Op::Purge { upto, done } => {
                let last_index = self.shared.index.lock().last.index;
                let result = match upto.index > last_index {
                    true => self.fatal("begin the log anew", |w| w.reset(upto)),
                    // A file that cannot be removed now is removed by the next purge, or at the next start.
                    false => self.purge(upto),
                };
                done(result);
            }
            Op::Reserve { bytes, done } => done(self.reserve(bytes)),
        }
    }

    /// Does something after whose failure the files cannot be relied on any more.
    fn fatal(&mut self, doing: &str, action: impl FnOnce(&mut Self) -> io::Result<()>) -> io::Result<()> {
        self.shared.check()?;
        action(self).inspect_err(|error| {
            self.shared
                .fail(format!("{doing} in {}: {error}", self.shared.options.dir.display()));
        })
    }

    fn append(&mut self, records: Vec<Record>, waiting: Vec<OnDone>) {
        if waiting.is_empty() {
            return;
        }
        let result = self.fatal("write the log", |w| w.write(&records));
        for done in waiting {
            done(copy(&result));
        }
    }

    fn write(&mut self, records: &[Record]) -> io::Result<()> {
        let Some(first) = records.first() else { return Ok(()) };
        let mut durable_index = self.shared.index.lock().durable_index;
        let mut tail = match self.tail() {
            Some(tail) => tail,
            None => self.begin_segment(first, 0)?,
        };
        for record in records {
            let bytes = record.disk_bytes();
            if tail.at + (self.buffer.len() + bytes) as u64 > tail.capacity {
                // The next segment may exist only once this one is on disk.
                self.write_buffer(&mut tail)?;
                self.publish(&tail);
                self.shared.sync_file(&*tail.file, tail.last.index)?;
                durable_index = tail.last.index;
                tail = self.begin_segment(record, tail.last.term)?;
            }
            tail.offsets.push((tail.at + self.buffer.len() as u64) as u32);
            record.encode(tail.salt, durable_index, &mut self.buffer);
            tail.last = Position {
                term: record.term,
                index: record.index,
            };
            if self.buffer.len() >= WRITE_BYTES_MAX {
                self.write_buffer(&mut tail)?;
            }
        }
        self.write_buffer(&mut tail)?;
        self.publish(&tail);
        if self.shared.options.commit == CommitAt::Synced {
            self.shared.sync_file(&*tail.file, tail.last.index)?;
        }
        Ok(())
    }

    fn tail(&self) -> Option<Tail> {
        let index = self.shared.index.lock();
        let segment = index.segments.back()?;
        Some(Tail {
            file: segment.file.clone(),
            salt: segment.header.salt,
            at: segment.end,
            capacity: segment.capacity,
            offsets: Vec::new(),
            last: index.last_written,
        })
    }

    fn write_buffer(&mut self, tail: &mut Tail) -> io::Result<()> {
        let end = tail.at + self.buffer.len() as u64;
        self.buffer
            .resize(self.buffer.len() + zeros_behind(tail.at, end, tail.capacity), 0);
        tail.file.write_all_at(&self.buffer, tail.at)?;
        tail.at = end;
        self.buffer.clear();
        // One large command must not cost its memory for ever.
        self.buffer.shrink_to(WRITE_BYTES_MAX);
        Ok(())
    }

    /// Tells readers about what is in the file now.
    fn publish(&self, tail: &Tail) {
        let mut index = self.shared.index.lock();
        if let Some(segment) = index.segments.back_mut() {
            segment.offsets.extend_from_slice(&tail.offsets);
            segment.end = tail.at;
        }
        index.last_written = tail.last;
        self.count_room(&mut index);
    }

    fn begin_segment(&mut self, first: &Record, prev_term: u64) -> io::Result<Tail> {
        let header = {
            let index = self.shared.index.lock();
            // A segment that is empty and too small is replaced by a larger one of the same name.
            let replaced = index
                .segments
                .back()
                .filter(|last| last.header.first_index == first.index);
            Header::new(first.index, prev_term, replaced.is_some_and(|last| last.header.reset))
        };
        self.add_segment(header, HEADER_BYTES + first.disk_bytes() as u64)
    }

    fn add_segment(&mut self, header: Header, bytes_min: u64) -> io::Result<Tail> {
        let options = self.shared.options.clone();
        let spare = match self.spare.take() {
            Some(spare) if spare.capacity >= bytes_min => spare,
            _ => Spare::create(
                options.disk.as_ref(),
                &options.dir,
                bytes_min.max(options.segment_bytes_max),
            )?,
        };
        let segment = Segment::create(options.disk.as_ref(), &options.dir, header, spare)?;
        let tail = Tail {
            file: segment.file.clone(),
            salt: header.salt,
            at: segment.end,
            capacity: segment.capacity,
            offsets: Vec::new(),
            last: Position {
                term: header.prev_term,
                index: header.first_index - 1,
            },
        };
        let mut index = self.shared.index.lock();
        if index.segments.back().is_some_and(|last| last.path == segment.path) {
            index.segments.pop_back();
        }
        index.segments.push_back(segment);
        self.count_room(&mut index);
        Ok(tail)
    }

    /// The next segment is allocated while this one has room, so that a full disk is noticed before anything is
    /// promised, and beginning a segment is quick.
    fn prepare_spare(&mut self) {
        let half_full = self
            .shared
            .index
            .lock()
            .segments
            .back()
            .is_some_and(|s| s.end > s.capacity / 2);
        if half_full && self.spare.is_none() && self.shared.failed.get().is_none() {
            // Not a failure yet: `reserve` tries again when room is really needed, and tells its caller.
            let _ = self.allocate(self.shared.options.segment_bytes_max);
        }
    }

    fn allocate(&mut self, bytes: u64) -> io::Result<()> {
        // The old spare is the same file.
        self.spare = None;
        let created = Spare::create(self.shared.options.disk.as_ref(), &self.shared.options.dir, bytes)
            .map(|spare| self.spare = Some(spare));
        self.count_room(&mut self.shared.index.lock());
        created
    }

    fn reserve(&mut self, bytes: u64) -> io::Result<()> {
        self.shared.check()?;
        if self.shared.index.lock().room_bytes >= bytes {
            return Ok(());
        }
        self.allocate((HEADER_BYTES + bytes).max(self.shared.options.segment_bytes_max))
    }

    fn count_room(&self, index: &mut super::Index) {
        let in_tail = index.segments.back().map_or(0, |s| s.capacity.saturating_sub(s.end));
        let in_spare = self.spare.as_ref().map_or(0, |s| s.capacity - HEADER_BYTES);
        // A record is never split, so the two do not add up.
        index.room_bytes = in_tail.max(in_spare);
    }

    fn truncate(&mut self, after: u64) -> io::Result<()> {
        if after >= self.shared.index.lock().last.index {
            return Ok(());
        }
        let (disk, dir) = (self.shared.options.disk.clone(), &self.shared.options.dir.clone());
        let last = self.position_of(after)?;
        recover::begin_truncation(disk.as_ref(), dir, after)?;
        loop {
            let path = {
                let index = self.shared.index.lock();
                match index.segments.back() {
                    Some(last) if index.segments.len() > 1 && last.header.first_index > after => last.path.clone(),
                    _ => break,
                }
            };
            disk.remove_file(&path)?;
            self.shared.index.lock().segments.pop_back();
        }
        let tail = {
            let mut index = self.shared.index.lock();
            index.cut_cache(after);
            index.last = last;
            index.last_written = last;
            index.durable_index = last.index;
            let cut = index.segments.back_mut().map(|segment| {
                let keep = (after + 1).saturating_sub(segment.header.first_index) as usize;
                if let Some(end) = segment.offsets.get(keep) {
                    segment.end = u64::from(*end);
                    segment.offsets.truncate(keep);
                }
                segment.tail()
            });
            self.count_room(&mut index);
            cut
        };
        if let Some((file, end, capacity)) = tail {
            super::segment::zero_from(file.as_ref(), end, capacity)?;
        }
        recover::finish_truncation(disk.as_ref(), dir)?;
        // What stays was synced with the rest of the file.
        self.shared.synced.send_replace(last.index);
        Ok(())
    }

    /// Term and index of an entry that stays when what is behind it is cut off.
    fn position_of(&self, index: u64) -> io::Result<Position> {
        let purged = self.shared.index.lock().purged;
        if index == purged.index {
            return Ok(purged);
        }
        let found = super::WalReader::read_shared(&self.shared, index..index + 1, record::HEADER_BYTES)?;
        match found.first() {
            Some(record) => Ok(Position {
                term: record.term,
                index,
            }),
            None => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("entry {index} is not in the log"),
            )),
        }
    }

    fn purge(&mut self, upto: Position) -> io::Result<()> {
        self.shared.check()?;
        {
            let mut index = self.shared.index.lock();
            if upto.index > index.purged.index {
                index.purged = upto;
                index.first = index.first.max(upto.index + 1);
            }
        }
        self.remove_segments(|index| {
            index.segments.len() > 1 && index.segments[0].next_index() - 1 <= index.purged.index
        })
    }

    /// The log goes on behind a gap: what is before was replaced by a snapshot.
    fn reset(&mut self, upto: Position) -> io::Result<()> {
        {
            let mut index = self.shared.index.lock();
            index.cut_cache(0);
            (index.last, index.last_written, index.purged) = (upto, upto, upto);
            index.durable_index = upto.index;
            index.first = upto.index + 1;
        }
        self.add_segment(Header::new(upto.index + 1, upto.term, true), 0)?;
        self.shared.synced.send_replace(upto.index);
        self.remove_segments(|index| index.segments.len() > 1)
    }

    /// Unlinks segments from the front, each durably before the next, so that a crash leaves no gap.
    fn remove_segments(&self, front_is_obsolete: impl Fn(&super::Index) -> bool) -> io::Result<()> {
        loop {
            let path = {
                let index = self.shared.index.lock();
                if !front_is_obsolete(&index) {
                    return Ok(());
                }
                index.segments[0].path.clone()
            };
            self.shared.options.disk.remove_file(&path)?;
            self.shared.index.lock().segments.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_are_written_once_and_up_to_the_next_step() {
        let capacity = 3 * AHEAD_BYTES + 100;
        let zeros = |at, end| zeros_behind(at, end, capacity) as u64;
        assert_eq!(zeros(HEADER_BYTES, HEADER_BYTES + 88), AHEAD_BYTES - HEADER_BYTES - 88);
        assert_eq!(zeros(HEADER_BYTES + 88, HEADER_BYTES + 200), 0, "written by the first");
        assert_eq!(zeros(AHEAD_BYTES - 8, AHEAD_BYTES), 0, "exactly full");
        assert_eq!(zeros(AHEAD_BYTES, AHEAD_BYTES + 8), AHEAD_BYTES - 8);
        assert_eq!(zeros(AHEAD_BYTES - 8, AHEAD_BYTES + 8), AHEAD_BYTES - 8);
        assert_eq!(
            zeros(3 * AHEAD_BYTES, 3 * AHEAD_BYTES + 60),
            40,
            "never past the segment"
        );
        assert_eq!(zeros(HEADER_BYTES, HEADER_BYTES), 0, "nothing to write");
    }
}
