//! Which uploads in parts this host has begun. A crash leaves some behind, whose parts are paid for until somebody aborts them; an
//! upload that a listing shows may be anybody's, so only what is noted here is ever aborted.
//!
//! One small file per upload, made when the store has given its id and removed when it ended; locked while its process works on it, so
//! that whoever gets the lock knows that nobody does. Lines: format, URI of the mount, key, id, percent-encoded.
//!
//! **Left out:** uploads whose process died between the store's answer and the note, and those of lost folders: nobody knows
//! them to be ours. A rule of the bucket (AbortIncompleteMultipartUpload) ends them.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use alluxio_common::crashsafe;
use nix::fcntl::{Flock, FlockArg};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::{UfsError, UfsErrorKind, UfsResult};

const FORMAT: &str = "alluxio-upload-1";
const SUFFIX: &str = "upload";
/// A note has four short lines; what is longer is none.
const NOTE_BYTES_MAX: u64 = 64 << 10;

/// The notes of one mount.
#[derive(Debug)]
pub(super) struct Ledger {
    /// `None`: nothing is noted, and nothing aborted.
    folder: Option<PathBuf>,
    label: String,
    warned: AtomicBool,
}

/// The note of one upload, held.
#[derive(Debug)]
pub(super) struct Record {
    path: PathBuf,
    _lock: Flock<File>,
}

impl Record {
    /// The upload has ended.
    pub fn remove(self) {
        // One that stays leads to an abort of what is gone, which does nothing.
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::info!(%error, path = %self.path.display(), "remove the note of an upload");
        }
    }
}

/// An upload that nobody works on any more.
#[derive(Debug)]
pub(super) struct LeftBehind {
    pub key: String,
    pub id: String,
    pub record: Record,
}

impl Ledger {
    pub fn nowhere() -> Self {
        Self {
            folder: None,
            label: String::new(),
            warned: AtomicBool::new(false),
        }
    }

    pub fn new(folder: PathBuf, label: String) -> Self {
        Self {
            folder: Some(folder),
            label,
            warned: AtomicBool::new(false),
        }
    }

    /// Notes an upload, durably. `None`: it could not be noted, which is told once: then a crash leaves it to a rule of the bucket.
    pub async fn begun(&self, key: &str, id: &str) -> Option<Record> {
        let folder = self.folder.clone()?;
        let lines = [FORMAT, &encoded(&self.label), &encoded(key), &encoded(id), ""].join("\n");
        let noted = tokio::task::spawn_blocking(move || note(&folder, &lines)).await;
        let noted = noted.unwrap_or_else(|panic| Err(io::Error::other(panic)));
        let told = |error: io::Error| {
            if !self.warned.swap(true, Ordering::Relaxed) {
                let folder = self.folder.as_deref().unwrap_or(Path::new(""));
                tracing::warn!(%error, folder = %folder.display(), "note an upload; should we crash, nobody aborts it");
            }
        };
        noted.map_err(told).ok()
    }

    /// Uploads of this mount that were begun longer than `age` ago and whose process is gone.
    pub async fn left_behind(&self, age: Duration) -> UfsResult<Vec<LeftBehind>> {
        let Some(folder) = self.folder.clone() else {
            return Ok(Vec::new());
        };
        let label = self.label.clone();
        let shown = folder.display().to_string();
        let found = tokio::task::spawn_blocking(move || left_behind(&folder, &label, age)).await;
        let found = found.unwrap_or_else(|panic| Err(io::Error::other(panic)));
        found.map_err(|error| {
            UfsError::new(
                UfsErrorKind::Other,
                format!("read the notes of uploads in {shown}: {error}"),
            )
        })
    }
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

fn note(folder: &Path, lines: &str) -> io::Result<Record> {
    crashsafe::create_dir_all(folder)?;
    let path = folder.join(format!("{:032x}.{SUFFIX}", rand::random::<u128>()));
    let mut options = crashsafe::private_file();
    let file = options.read(true).write(true).create_new(true).open(&path)?;
    let mut lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| io::Error::from(errno))?;
    let written = lock.write_all(lines.as_bytes()).and_then(|()| lock.sync_all());
    written.and_then(|()| crashsafe::sync_dir(folder)).inspect_err(|_| {
        // The first error is the one to tell.
        let _ = std::fs::remove_file(&path);
    })?;
    Ok(Record { path, _lock: lock })
}

fn left_behind(folder: &Path, label: &str, age: Duration) -> io::Result<Vec<LeftBehind>> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_none_or(|end| end != SUFFIX) {
            continue;
        }
        let mut options = std::fs::OpenOptions::new();
        // Removed meanwhile.
        let Ok(file) = options.read(true).write(true).open(&path) else {
            continue;
        };
        let is_old = file
            .metadata()?
            .modified()?
            .elapsed()
            .is_ok_and(|elapsed| elapsed >= age);
        // Who holds it is at work.
        let Ok(mut lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else {
            continue;
        };
        let mut text = String::new();
        (&mut *lock).take(NOTE_BYTES_MAX).read_to_string(&mut text)?;
        // It may be another mount's, or one that a power cut left half written.
        let Some((noted, key, id)) = parse(&text) else { continue };
        if is_old && noted == label {
            let record = Record { path, _lock: lock };
            found.push(LeftBehind { key, id, record });
        }
    }
    Ok(found)
}

fn parse(text: &str) -> Option<(String, String, String)> {
    let rest = text.strip_prefix(FORMAT)?.strip_prefix('\n')?.strip_suffix('\n')?;
    let mut words = rest
        .split('\n')
        .map(|line| Some(percent_decode_str(line).decode_utf8().ok()?.into_owned()));
    let (label, key, id) = (words.next()??, words.next()??, words.next()??);
    (words.next().is_none() && !id.is_empty()).then_some((label, key, id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_worked_on_or_anothers_is_not_left_behind() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("uploads");
        let ledger = Ledger::new(folder.clone(), "s3://b/p".to_owned());
        assert!(ledger.left_behind(Duration::ZERO).await.unwrap().is_empty());
        let record = ledger.begun("p/a b\nc", "id/1").await.unwrap();
        assert!(
            ledger.left_behind(Duration::ZERO).await.unwrap().is_empty(),
            "it is under way"
        );
        // As after a crash: the note stays, the lock does not.
        drop(record);
        let other = Ledger::new(folder.clone(), "s3://b/q".to_owned());
        assert!(
            other.left_behind(Duration::ZERO).await.unwrap().is_empty(),
            "of another mount"
        );
        assert!(
            ledger.left_behind(Duration::from_secs(60)).await.unwrap().is_empty(),
            "too young"
        );
        std::fs::write(folder.join("half.upload"), "alluxio-upload-1\ns3").unwrap();
        let mut found = ledger.left_behind(Duration::ZERO).await.unwrap();
        let found = found.pop().filter(|_| found.is_empty()).unwrap();
        assert_eq!((found.key.as_str(), found.id.as_str()), ("p/a b\nc", "id/1"));
        found.record.remove();
        assert!(ledger.left_behind(Duration::ZERO).await.unwrap().is_empty());
    }
}
