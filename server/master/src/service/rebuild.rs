//! A damaged metadata store is rebuilt from the journal.
//!
//! The journal is the truth (DESIGN D3). What is damaged is kept aside, beside where it was, and an empty store takes its
//! place: opening the journal then restores the newest snapshot and replays what came after. Where the journal does not reach
//! back so far, everything is put back and the start is refused.
//!
//! Damage that is met while serving leaves a mark beside the store, so that the next start rebuilds it.

use alluxio_common::crashsafe;
use alluxio_proto::{ErrorKind, FsError, FsResult};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// A store that was moved aside.
#[derive(Debug)]
pub(super) struct Aside {
    dir: PathBuf,
    kept: PathBuf,
    why: String,
}

impl Aside {
    /// Moves the store in `dir` aside, for being damaged as `why` says, and makes room for a new one.
    pub fn put(dir: &Path, why: String) -> FsResult<Aside> {
        let doing = || format!("set the damaged metadata folder {} aside ({why})", dir.display());
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let name = format!("damaged-{}", since.as_millis());
        let mut kept = beside(dir, &name);
        let moved = match crashsafe::rename(dir, &kept) {
            Ok(()) => crashsafe::create_dir_all(dir),
            // A disk of its own stays where it is mounted; what is on it moves into a folder there.
            Err(error) if is_mount_point(&error) => {
                kept = dir.join(&name);
                crashsafe::create_dir_all(&kept).and_then(|()| move_all(dir, &kept))
            }
            Err(error) => Err(error),
        };
        let moved = moved.and_then(|()| forget_mark(dir));
        moved.map_err(|error| FsError::from_io(doing(), &error))?;
        tracing::error!(
            kept = %kept.display(),
            "the metadata store is damaged: {why}; it is set aside and rebuilt from the journal"
        );
        Ok(Aside {
            dir: dir.to_owned(),
            kept,
            why,
        })
    }

    /// The journal has brought the new one up to date.
    pub fn rebuilt(&self) {
        tracing::warn!(
            kept = %self.kept.display(),
            "the metadata store was rebuilt from the journal; the damaged one may be removed"
        );
    }

    /// The journal could not: what was there is put back.
    pub fn put_back(self, error: FsError) -> FsError {
        let Aside { dir, kept, why } = self;
        let emptied = match kept.starts_with(&dir) {
            true => remove_all(&dir)
                .and_then(|()| move_all(&kept, &dir))
                .and_then(|()| std::fs::remove_dir(&kept)),
            false => std::fs::remove_dir_all(&dir).and_then(|()| crashsafe::rename(&kept, &dir)),
        };
        let put_back = emptied.and_then(|()| leave_mark(&dir, &why));
        let place = match put_back {
            Ok(()) => dir,
            Err(failed) => {
                tracing::error!(%failed, "the damaged metadata store could not be put back; it is in {}", kept.display());
                kept
            }
        };
        if error.kind != ErrorKind::Corrupt {
            return error;
        }
        let text = format!(
            "the metadata folder {} is damaged ({why}), and the journal does not reach back far enough to rebuild it: {error}. \
             Restore both from a backup; or give up all that is not in the under-storage, and start anew with \
             `alluxio format`",
            place.display()
        );
        FsError::new(ErrorKind::Corrupt, text)
    }
}

fn is_mount_point(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(nix::libc::EBUSY | nix::libc::EXDEV))
}

/// What belongs to the store among what is in its folder: neither what was set aside, nor what the file system keeps there.
fn entries(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let all: io::Result<Vec<_>> = std::fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect();
    let is_ours = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        !name.starts_with("damaged-") && name != "lost+found"
    };
    Ok(all?.into_iter().filter(is_ours).collect())
}

fn move_all(from: &Path, to: &Path) -> io::Result<()> {
    for path in entries(from)? {
        crashsafe::rename(&path, &to.join(path.file_name().unwrap_or_default()))?;
    }
    Ok(())
}

fn remove_all(dir: &Path) -> io::Result<()> {
    for path in entries(dir)? {
        match path.is_dir() {
            true => std::fs::remove_dir_all(&path)?,
            false => std::fs::remove_file(&path)?,
        }
    }
    Ok(())
}

/// Has the next start rebuild the store in `dir`.
pub(super) fn leave_mark(dir: &Path, why: &str) -> io::Result<()> {
    crashsafe::write_atomic(&mark(dir), why.as_bytes())
}

/// Why the store in `dir` is to be rebuilt, if it is.
pub(super) fn marked(dir: &Path) -> Option<String> {
    std::fs::read_to_string(mark(dir)).ok()
}

fn forget_mark(dir: &Path) -> io::Result<()> {
    match crashsafe::remove_file(&mark(dir)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn mark(dir: &Path) -> PathBuf {
    beside(dir, "damaged")
}

fn beside(dir: &Path, extension: &str) -> PathBuf {
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(extension);
    dir.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_set_aside_within_its_folder_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join("metastore");
        let kept = store.join("damaged-1");
        std::fs::create_dir_all(store.join("lost+found")).unwrap();
        std::fs::create_dir_all(store.join("damaged-0")).unwrap();
        std::fs::create_dir_all(&kept).unwrap();
        std::fs::write(kept.join("old"), "old").unwrap();
        std::fs::create_dir(store.join("made since")).unwrap();
        let aside = Aside {
            dir: store.clone(),
            kept,
            why: "why".into(),
        };
        let error = aside.put_back(FsError::new(ErrorKind::Corrupt, "no"));
        assert!(error.message.contains("does not reach back"), "{error}");
        let mut names: Vec<_> = std::fs::read_dir(&store)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["damaged-0", "lost+found", "old"]);
        assert_eq!(marked(&store).as_deref(), Some("why"));
    }
}
