//! The journal's folder: whose it is, which format it has, and that only one process uses it.
//!
//! ```text
//! format       JSON: format_version, cluster_id, node_id
//! lock         locked by the process that has the journal open; holds its pid
//! vote         which member this one follows
//! log/         log segments
//! snapshots/   snapshots of the state machine
//! ```

use std::{
    fmt::Debug,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use alluxio_common::{
    crashsafe::is_temporary,
    disk::{self, Disk, Lock},
};
use serde::{Deserialize, Serialize};

use crate::{JournalError, NodeId, error::Result};

/// The format that is written, and the newest that is read. 1: the first.
pub(crate) const FORMAT_VERSION: u32 = 1;

const FORMAT: &str = "format";
const LOCK: &str = "lock";
const VOTE: &str = "vote";
const LOG: &str = "log";
const SNAPSHOTS: &str = "snapshots";

#[derive(Serialize, Deserialize)]
struct Format {
    format_version: u32,
    #[serde(default)]
    cluster_id: String,
    /// Absent until the folder is opened for the first time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    node_id: Option<u64>,
}

/// The folder, held by this process until dropped.
#[derive(Debug)]
pub(crate) struct Folder {
    dir: PathBuf,
    _lock: Box<dyn Debug + Send + Sync>,
}

impl Folder {
    /// Takes hold of the folder. An absent or empty one becomes the journal of this cluster and member.
    pub fn open(disk: &Arc<dyn Disk>, dir: &Path, cluster_id: &str, node_id: NodeId) -> Result<Self> {
        let disk = disk.as_ref();
        refuse_foreign(disk, dir, &[])?;
        disk.create_dir_all(dir)
            .map_err(JournalError::io(format!("create {}", dir.display())))?;
        let folder = Self {
            dir: dir.to_owned(),
            _lock: lock(disk, dir)?,
        };
        match read_format(disk, dir)? {
            None => write_format(disk, dir, cluster_id, Some(node_id))?,
            Some(format) => {
                if format.cluster_id != cluster_id {
                    return Err(JournalError::WrongCluster {
                        dir: dir.to_owned(),
                        found: format.cluster_id,
                        expected: cluster_id.to_owned(),
                    });
                }
                match format.node_id {
                    None => write_format(disk, dir, cluster_id, Some(node_id))?,
                    Some(found) if found != node_id.0 => {
                        return Err(JournalError::WrongNode {
                            dir: dir.to_owned(),
                            found,
                            expected: node_id.0,
                        });
                    }
                    Some(_) => {}
                }
            }
        }
        disk.tidy(dir).map_err(JournalError::io(format!(
            "tidy {} and close it to other users",
            dir.display()
        )))?;
        Ok(folder)
    }

    pub fn vote(&self) -> PathBuf {
        self.dir.join(VOTE)
    }

    pub fn log(&self) -> PathBuf {
        self.dir.join(LOG)
    }

    pub fn snapshots(&self) -> PathBuf {
        self.dir.join(SNAPSHOTS)
    }
}

/// Makes `dir` an empty journal of the cluster. What a journal left there before is deleted; anything else in the
/// folder is refused.
///
/// # Errors
/// [`JournalError::Locked`] if a process has it open; [`JournalError::NotAJournal`] if it holds something else.
pub fn format(dir: &Path, cluster_id: &str) -> Result<()> {
    let disk = &*disk::real();
    refuse_foreign(disk, dir, &[VOTE, LOG, SNAPSHOTS])?;
    let doing = || JournalError::io(format!("format {}", dir.display()));
    disk.create_dir_all(dir).map_err(doing())?;
    let _lock = lock(disk, dir)?;
    // The format file goes first: a folder that is half deleted must not look like a journal.
    for file in [FORMAT, VOTE] {
        if let Err(e) = disk.remove_file(&dir.join(file))
            && e.kind() != io::ErrorKind::NotFound
        {
            return Err(doing()(e));
        }
    }
    for folder in [LOG, SNAPSHOTS] {
        if let Err(e) = disk.remove_dir_all(&dir.join(folder))
            && e.kind() != io::ErrorKind::NotFound
        {
            return Err(doing()(e));
        }
    }
    disk.sync_dir(dir).map_err(doing())?;
    write_format(disk, dir, cluster_id, None)
}

/// Whether `dir` holds a formatted journal.
pub fn is_formatted(dir: &Path) -> bool {
    let names = disk::real().list(dir).unwrap_or_default();
    names.iter().any(|name| name == FORMAT)
}

/// The cluster that a journal folder belongs to; `None` if there is no journal yet.
///
/// # Errors
/// As for [`crate::Journal::open`]: the folder's format file is damaged or of a newer version.
pub fn cluster_id(dir: &Path) -> Result<Option<String>> {
    Ok(read_format(&*disk::real(), dir)?.map(|format| format.cluster_id))
}

/// A folder without a format file may hold nothing but `ours`.
fn refuse_foreign(disk: &dyn Disk, dir: &Path, ours: &[&str]) -> Result<()> {
    let entries = match disk.list(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(JournalError::io(format!("list {}", dir.display()))(e)),
    };
    let mut foreign = false;
    for name in entries {
        if name == FORMAT {
            return Ok(());
        }
        let harmless = name == LOCK || name == "lost+found" || is_temporary(&name);
        foreign |= !harmless && !ours.iter().any(|ours| name == *ours);
    }
    match foreign {
        true => Err(JournalError::NotAJournal { dir: dir.to_owned() }),
        false => Ok(()),
    }
}

fn read_format(disk: &dyn Disk, dir: &Path) -> Result<Option<Format>> {
    let path = dir.join(FORMAT);
    let text = match disk.read(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(JournalError::io(format!("read {}", path.display()))(e)),
    };
    let format: Format = serde_json::from_slice(&text).map_err(|e| JournalError::Corrupt {
        file: path,
        offset: 0,
        index: 0,
        why: e.to_string(),
        advice: "Restore the journal folder from a backup or another member",
    })?;
    match format.format_version > FORMAT_VERSION {
        true => Err(JournalError::NewerFormat {
            dir: dir.to_owned(),
            found: format.format_version,
            known: FORMAT_VERSION,
        }),
        false => Ok(Some(format)),
    }
}

fn write_format(disk: &dyn Disk, dir: &Path, cluster_id: &str, node_id: Option<NodeId>) -> Result<()> {
    let format = Format {
        format_version: FORMAT_VERSION,
        cluster_id: cluster_id.to_owned(),
        node_id: node_id.map(|id| id.0),
    };
    let path = dir.join(FORMAT);
    serde_json::to_vec_pretty(&format)
        .map_err(io::Error::from)
        .and_then(|bytes| disk.write_atomic(&path, &bytes))
        .map_err(JournalError::io(format!("write {}", path.display())))
}

fn lock(disk: &dyn Disk, dir: &Path) -> Result<Box<dyn Debug + Send + Sync>> {
    let path = dir.join(LOCK);
    match disk.lock(&path) {
        Ok(Lock::Taken(lock)) => Ok(lock),
        Ok(Lock::Held(pid)) => Err(JournalError::Locked {
            dir: dir.to_owned(),
            pid,
        }),
        Err(error) => Err(JournalError::io(format!("lock {}", path.display()))(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn open(dir: &Path) -> Result<Folder> {
        Folder::open(&disk::real(), dir, "c1", NodeId(1))
    }

    #[test]
    fn only_its_own_cluster_and_node_get_in() {
        let dir = tempfile::tempdir().unwrap();
        drop(open(dir.path()).unwrap());
        drop(open(dir.path()).unwrap());
        let error = Folder::open(&disk::real(), dir.path(), "c2", NodeId(1)).unwrap_err();
        assert!(matches!(error, JournalError::WrongCluster { .. }), "{error}");
        let error = Folder::open(&disk::real(), dir.path(), "c1", NodeId(2)).unwrap_err();
        assert!(matches!(error, JournalError::WrongNode { .. }), "{error}");
    }

    #[test]
    fn a_newer_format_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FORMAT), r#"{"format_version":9,"unknown":[1]}"#).unwrap();
        let error = open(dir.path()).unwrap_err();
        assert!(matches!(error, JournalError::NewerFormat { found: 9, .. }), "{error}");
        assert!(error.to_string().contains("newer program"), "{error}");
    }

    #[test]
    fn a_second_holder_learns_the_pid_of_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let held = open(dir.path()).unwrap();
        let error = open(dir.path()).unwrap_err();
        assert!(
            error.to_string().contains(&format!("process {}", std::process::id())),
            "{error}"
        );
        assert!(matches!(format(dir.path(), "c1"), Err(JournalError::Locked { .. })));
        drop(held);
        open(dir.path()).unwrap();
    }

    #[test]
    fn a_folder_of_something_else_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("thesis.tex"), "x").unwrap();
        assert!(matches!(open(dir.path()), Err(JournalError::NotAJournal { .. })));
        assert!(matches!(
            format(dir.path(), "c1"),
            Err(JournalError::NotAJournal { .. })
        ));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn format_empties_a_journal_and_only_that() {
        let dir = tempfile::tempdir().unwrap();
        drop(open(dir.path()).unwrap());
        fs::create_dir(dir.path().join(LOG)).unwrap();
        fs::write(dir.path().join(LOG).join("1.wal"), "x").unwrap();
        fs::write(dir.path().join(VOTE), "x").unwrap();
        format(dir.path(), "c2").unwrap();
        assert!(is_formatted(dir.path()));
        assert!(!dir.path().join(LOG).exists() && !dir.path().join(VOTE).exists());
        Folder::open(&disk::real(), dir.path(), "c2", NodeId(7)).unwrap();
        assert!(matches!(
            Folder::open(&disk::real(), dir.path(), "c2", NodeId(8)),
            Err(JournalError::WrongNode { found: 7, .. })
        ));
    }
}
