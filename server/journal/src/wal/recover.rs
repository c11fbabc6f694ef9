//! Reading the log at start: what is there, what a crash left half done, and what is damage.
//!
//! Looks at everything first and only then repairs, so that a refused log is left exactly as it was found. Repaired
//! are: a torn write at the very end, an interrupted truncation, an interrupted purge. Everything else is
//! [`JournalError::Corrupt`].

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use alluxio_common::{
    crashsafe::is_temporary,
    disk::{Disk, DiskFile, Open, read_full},
};

use super::{
    Position,
    record::{self, ALIGN, Bad},
    segment::{self, Header, SPARE_NAME, Segment, VERSION, parse_file_name},
};
use crate::{JournalError, error::Result};

/// Present while a truncation is under way; holds the index that stays.
pub(crate) const TRUNCATION_NAME: &str = "truncation";

/// Bytes that are written again at once.
const REWRITE_BYTES: usize = 1 << 20;

const ADVICE: &str = "Restore this file from a copy, or the journal folder from a backup or another member; \
                      the files in snapshots/ hold the state up to the index in their names";

/// A log that can be used.
#[derive(Debug)]
pub(crate) struct Recovered {
    /// In order, without gaps.
    pub segments: Vec<Segment>,
    /// The last entry; the one before the first if the log is empty; 0 if there never was one.
    pub last: Position,
}

/// Opens the log in `dir`. `known_index` is the newest entry that is known to have been on disk (because its effects
/// are elsewhere): that entry may not be missing.
pub(crate) fn recover(disk: &dyn Disk, dir: &Path, known_index: u64) -> Result<Recovered> {
    let truncate_after = read_truncation(disk, dir)?;
    let (mut files, leftovers) = list(disk, dir)?;
    let mut obsolete: Vec<PathBuf> = leftovers;
    if let Some(at) = files.iter().rposition(|(header, ..)| header.reset) {
        obsolete.extend(files.drain(..at).map(|(_, path, _)| path));
    }
    if let Some(after) = truncate_after {
        // Segments that start behind the cut go away, but for the first: it says where the log begins.
        let keep = files.iter().filter(|(h, ..)| h.first_index <= after).count().max(1);
        let cut = keep.min(files.len());
        obsolete.extend(files.drain(cut..).rev().map(|(_, path, _)| path));
    }
    let mut scan = Scan {
        last_term: files.first().map_or(0, |(header, ..)| header.prev_term),
        known_index: truncate_after.map_or(known_index, |after| after.min(known_index)),
        truncate_after,
        proven_index: 0,
    };
    let mut segments = Vec::with_capacity(files.len());
    let mut repairs = Vec::new();
    let count = files.len();
    let next_starts: Vec<_> = files.iter().skip(1).map(|(h, ..)| h.first_index).collect();
    for (at, (header, path, file)) in files.into_iter().enumerate() {
        let (segment, torn) = scan.segment(header, path, file, next_starts.get(at).copied())?;
        if torn {
            debug_assert_eq!(at + 1, count);
            repairs.push(segment.end);
        }
        segments.push(segment);
    }
    check_known(dir, segments.last(), scan.known_index)?;
    if let Some(segment) = segments.last() {
        repair(dir, segment, scan.proven_index, &repairs, truncate_after)?;
    }
    for path in obsolete {
        disk.remove_file(&path)
            .map_err(JournalError::io(format!("remove leftover {}", path.display())))?;
    }
    if truncate_after.is_some() {
        finish_truncation(disk, dir).map_err(JournalError::io("finish the truncation of the log"))?;
    }
    let last = Position {
        term: scan.last_term,
        index: segments.last().map_or(0, |segment| segment.next_index() - 1),
    };
    Ok(Recovered { segments, last })
}

/// Notes durably that everything after `index` goes away, so that a crash in the middle is not taken for damage.
pub(crate) fn begin_truncation(disk: &dyn Disk, dir: &Path, index: u64) -> io::Result<()> {
    disk.write_atomic(&dir.join(TRUNCATION_NAME), format!("{index}\n").as_bytes())
}

/// Removes the note.
pub(crate) fn finish_truncation(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    disk.remove_file(&dir.join(TRUNCATION_NAME))
}

fn read_truncation(disk: &dyn Disk, dir: &Path) -> Result<Option<u64>> {
    let path = dir.join(TRUNCATION_NAME);
    match disk.read(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(JournalError::io(format!("read {}", path.display()))(e)),
        Ok(bytes) => String::from_utf8_lossy(&bytes)
            .trim()
            .parse()
            .map(Some)
            .map_err(|_| JournalError::Corrupt {
                file: path,
                offset: 0,
                index: 0,
                why: "it does not hold a number".into(),
                advice: ADVICE,
            }),
    }
}

type Files = Vec<(Header, PathBuf, Arc<dyn DiskFile>)>;

/// The segment files in order with their headers, and what crashed writers left.
fn list(disk: &dyn Disk, dir: &Path) -> Result<(Files, Vec<PathBuf>)> {
    let listing = || JournalError::io(format!("list {}", dir.display()));
    let (mut files, mut leftovers) = (Vec::new(), Vec::new());
    for name in disk.list(dir).map_err(listing())? {
        let path = dir.join(&name);
        if name == SPARE_NAME || is_temporary(&name) {
            leftovers.push(path);
        } else if let Some(first_index) = name.to_str().and_then(parse_file_name) {
            let (header, file) = open_segment(disk, &path, first_index)?;
            files.push((header, path, file));
        } else if name != TRUNCATION_NAME {
            tracing::warn!(path = %path.display(), "a file that does not belong to the journal is left alone");
        }
    }
    files.sort_by_key(|(header, ..)| header.first_index);
    Ok((files, leftovers))
}

fn open_segment(disk: &dyn Disk, path: &Path, first_index: u64) -> Result<(Header, Arc<dyn DiskFile>)> {
    let doing = || JournalError::io(format!("open log segment {}", path.display()));
    let corrupt = |why: String| JournalError::Corrupt {
        file: path.to_owned(),
        offset: 0,
        index: first_index,
        why,
        advice: ADVICE,
    };
    let file = disk.open(path, Open::Write).map_err(doing())?;
    let mut bytes = vec![0; segment::HEADER_BYTES as usize];
    let read = read_full(file.as_ref(), &mut bytes, 0).map_err(doing())?;
    bytes.truncate(read);
    if bytes.len() >= 12 && record::u32_at(&bytes, 8) > VERSION {
        return Err(JournalError::NewerFormat {
            dir: path.to_owned(),
            found: record::u32_at(&bytes, 8),
            known: VERSION,
        });
    }
    let header = Header::decode(&bytes).map_err(corrupt)?;
    if header.first_index != first_index {
        return Err(corrupt(format!(
            "its header says that it starts at index {}",
            header.first_index
        )));
    }
    Ok((header, file))
}

/// What is carried from one segment to the next.
struct Scan {
    last_term: u64,
    known_index: u64,
    truncate_after: Option<u64>,
    /// A record says that everything up to here was on disk.
    proven_index: u64,
}

impl Scan {
    /// Finds the records of a segment; also says whether something must be cut off behind them.
    fn segment(
        &mut self,
        header: Header,
        path: PathBuf,
        file: Arc<dyn DiskFile>,
        next: Option<u64>,
    ) -> Result<(Segment, bool)> {
        let doing = || JournalError::io(format!("read log segment {}", path.display()));
        let capacity = file.len().map_err(doing())?;
        let data_end = file.data_end().map_err(doing())?;
        let mut bytes = vec![0; data_end as usize];
        read_full(file.as_ref(), &mut bytes, 0).map_err(doing())?;
        let mut segment = Segment {
            header,
            path,
            file,
            offsets: Vec::new(),
            end: segment::HEADER_BYTES,
            capacity,
        };
        let why = loop {
            if self.truncate_after.is_some_and(|after| segment.next_index() > after) {
                return Ok((segment, true));
            }
            match record::decode(header.salt, bytes.get(segment.end as usize..).unwrap_or_default()) {
                Err(why) => break why,
                Ok(found) => {
                    self.accept(&segment, &found)?;
                    segment.offsets.push(segment.end as u32);
                    segment.end += found.disk_bytes as u64;
                }
            }
        };
        let torn = self.judge_end(&segment, &bytes, why, next)?;
        Ok((segment, torn))
    }

    fn accept(&mut self, segment: &Segment, found: &record::Found<'_>) -> Result<()> {
        let expected = segment.next_index();
        if found.index != expected {
            return Err(damage(segment, format!("there is a record of index {}", found.index)));
        }
        if found.term < self.last_term {
            let why = format!("its term {} is below the term {} before it", found.term, self.last_term);
            return Err(damage(segment, why));
        }
        self.last_term = found.term;
        self.proven_index = self.proven_index.max(found.durable_index);
        Ok(())
    }

    /// No record was found at the segment's end: is that the end of the log, a torn write (`true`), or damage?
    fn judge_end(&self, segment: &Segment, bytes: &[u8], why: Bad, next: Option<u64>) -> Result<bool> {
        let index = segment.next_index();
        if let Some(next) = next {
            return match index == next {
                // Whatever follows the last record of a completed segment was never acknowledged.
                true => Ok(false),
                false => Err(damage(
                    segment,
                    format!("{why}, but the log goes on in a segment that starts at {next}"),
                )),
            };
        }
        if let Some((at, found)) = next_record(segment.header.salt, bytes, segment.end as usize)
            && found.durable_index >= index
        {
            let why = format!(
                "{why}, but the record of index {} at offset {at} was written after it was on disk",
                found.index
            );
            return Err(damage(segment, why));
        }
        let rest = bytes.get(segment.end as usize..).unwrap_or_default();
        let torn_bytes = rest.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
        if torn_bytes > 0 && index > self.known_index {
            tracing::warn!(
                file = %segment.path.display(), offset = segment.end, bytes = torn_bytes, index, reason = %why,
                "the log ends in a write that a crash interrupted; it was never acknowledged and is cut off"
            );
        }
        Ok(torn_bytes > 0)
    }
}

/// The first intact record behind a bad one that proves most.
fn next_record(salt: u64, bytes: &[u8], bad: usize) -> Option<(usize, record::Found<'_>)> {
    (bad + ALIGN..bytes.len())
        .step_by(ALIGN)
        .filter(|at| bytes[*at] != 0)
        .filter_map(|at| record::decode(salt, &bytes[at..]).ok().map(|found| (at, found)))
        .max_by_key(|(_, found)| found.durable_index)
}

/// An entry whose effects are known elsewhere must be in the log (or have been dropped from its front on purpose).
fn check_known(dir: &Path, last: Option<&Segment>, known_index: u64) -> Result<()> {
    match last {
        Some(last) if last.next_index() <= known_index => Err(damage(
            last,
            format!("the log ends here, but entry {known_index} has been applied"),
        )),
        None if known_index > 0 => Err(JournalError::Incomplete {
            dir: dir.to_owned(),
            why: format!("the log is empty, but the state machine has applied entry {known_index}"),
        }),
        _ => Ok(()),
    }
}

fn repair(dir: &Path, last: &Segment, proven_index: u64, torn: &[u64], truncated: Option<u64>) -> Result<()> {
    let doing = || JournalError::io(format!("repair the end of {}", last.path.display()));
    for end in torn {
        segment::zero_from(last.file.as_ref(), *end, last.capacity).map_err(doing())?;
    }
    if let Some(after) = truncated {
        tracing::info!(dir = %dir.display(), after, "an interrupted truncation of the log is completed");
    }
    // What was read may be in the page cache only; from here on it counts as durable.
    rewrite(last, proven_index).map_err(doing())?;
    last.file.sync_all().map_err(doing())
}

/// Writes what no record proves to be on disk once more. A sync that failed before the start has left it in the page cache, marked as
/// written: the next sync would succeed without it.
fn rewrite(last: &Segment, proven_index: u64) -> io::Result<()> {
    let first = (proven_index + 1).max(last.header.first_index);
    let Some((mut at, _)) = last.place(first) else {
        return Ok(());
    };
    let mut bytes = vec![0; REWRITE_BYTES];
    while at < last.end {
        let count = (last.end - at).min(REWRITE_BYTES as u64) as usize;
        let read = read_full(last.file.as_ref(), &mut bytes[..count], at)?;
        if read < count {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        last.file.write_all_at(&bytes[..count], at)?;
        at += count as u64;
    }
    Ok(())
}

fn damage(segment: &Segment, why: String) -> JournalError {
    JournalError::Corrupt {
        file: segment.path.clone(),
        offset: segment.end,
        index: segment.next_index(),
        why,
        advice: ADVICE,
    }
}
