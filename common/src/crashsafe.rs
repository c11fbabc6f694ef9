//! Creating, renaming and removing files so that the change is on disk when the call returns.
//!
//! A new name is durable only when its directory has been synced too, which is easily forgotten; so everybody goes
//! through here, and `std::fs::rename` is a lint error elsewhere. A failed sync is an error of the call: what the
//! kernel says it could not write is not assumed to be there.
//!
//! What is made here is for its owner alone ([`FOLDER_MODE`], [`FILE_MODE`]), whatever the umask of the process allows: journal,
//! metadata and cache hold files whose rights the namespace decides on, not the local file system.
//!
//! **Left out:** locking. Two writers of one path both succeed, and the later rename wins.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Start of the names of files that [`write_atomic`] has not finished; a crash may leave some.
const TEMPORARY_PREFIX: &str = ".crashsafe-";

/// Permission bits of a folder of ours.
pub const FOLDER_MODE: u32 = 0o700;
/// Permission bits of a file of ours.
pub const FILE_MODE: u32 = 0o600;
/// Rights of group and others.
const RIGHTS_OF_OTHERS: u32 = 0o077;
/// A folder with this bit is shared by design, as /tmp is.
const STICKY: u32 = 0o1000;

/// Options that make a file with [`FILE_MODE`], should they make one.
pub fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(FILE_MODE);
    options
}

/// Takes the rights of group and others from a folder of ours that older software or a person left open. One that belongs
/// to another user, or is shared by design (sticky), stays as it is, with a line in the log.
///
/// # Errors
/// Of looking at it or changing it.
pub fn tighten(dir: &Path) -> io::Result<()> {
    let meta = fs::metadata(dir)?;
    let mode = meta.mode();
    if mode & RIGHTS_OF_OTHERS == 0 {
        return Ok(());
    }
    let ours = meta.uid() == nix::unistd::geteuid().as_raw();
    if !ours || mode & STICKY != 0 {
        let dir = dir.display();
        tracing::warn!(%dir, "others may look into this folder, and it is not ours to close: name one of your own, or chmod 700");
        return Ok(());
    }
    fs::set_permissions(dir, fs::Permissions::from_mode(mode & 0o7777 & !RIGHTS_OF_OTHERS))
}

/// [`tighten`] for a folder and all that is in it. For folders of some hundred files.
///
/// # Errors
/// Of looking or changing; what vanishes meanwhile is none.
pub fn tighten_tree(dir: &Path) -> io::Result<()> {
    tighten(dir)?;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        // Of the entry itself: a link is not followed.
        let kind = entry.file_type()?;
        let done = if kind.is_dir() {
            tighten_tree(&entry.path())
        } else if kind.is_file() {
            tighten(&entry.path())
        } else {
            Ok(())
        };
        match done {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Replaces the content of `path`: after a crash there is the old content or the new, never a mixture or a part.
///
/// # Errors
/// Of writing, syncing or renaming; the old content is still there then (or the new, if only the last sync failed).
pub fn write_atomic(path: &Path, bytes: &[u8]) -> io::Result<()> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    // Independent of the target's name, which may already be as long as a name can be.
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let temporary = parent_of(path).join(format!("{TEMPORARY_PREFIX}{}-{number}.tmp", std::process::id()));
    let result = write_and_rename(&temporary, path, bytes);
    if result.is_err() {
        // The first error is the one to report; after a successful rename there is nothing to remove.
        let _ = fs::remove_file(&temporary);
    }
    result
}

fn write_and_rename(temporary: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    // A leftover of a crashed process with our pid is overwritten.
    let mut file = private_file().write(true).create(true).truncate(true).open(temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    drop(file);
    rename(temporary, path)
}

/// Renames, replacing an existing target, and syncs both directories.
///
/// # Errors
/// As rename(2) and fsync(2).
#[allow(
    clippy::disallowed_methods,
    reason = "the one place that syncs the parents afterwards"
)]
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    let (from_dir, to_dir) = (parent_of(from), parent_of(to));
    sync_dir(to_dir)?;
    if from_dir != to_dir {
        sync_dir(from_dir)?;
    }
    Ok(())
}

/// Creates a directory and those above it that are missing, for their owner alone, and syncs the parent of each new one.
/// Not for a folder that others are to use, such as a mount point.
///
/// # Errors
/// As mkdir(2) and fsync(2); an existing directory is none.
pub fn create_dir_all(path: &Path) -> io::Result<()> {
    let mut missing: Vec<&Path> = Vec::new();
    let mut at = path;
    while !at.as_os_str().is_empty() && !at.is_dir() {
        missing.push(at);
        match at.parent() {
            Some(parent) => at = parent,
            None => break,
        }
    }
    for dir in missing.into_iter().rev() {
        match fs::DirBuilder::new().mode(FOLDER_MODE).create(dir) {
            Ok(()) => {}
            // Somebody was faster, which is as good; a file of that name is not.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => {}
            Err(e) => return Err(e),
        }
        sync_dir(parent_of(dir))?;
    }
    Ok(())
}

/// Removes a file and syncs its directory.
///
/// # Errors
/// As unlink(2) and fsync(2).
pub fn remove_file(path: &Path) -> io::Result<()> {
    fs::remove_file(path)?;
    sync_dir(parent_of(path))
}

/// Makes the names in a directory durable.
///
/// # Errors
/// As open(2) and fsync(2).
pub fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Whether a name belongs to a file that [`write_atomic`] did not finish. Whoever scans a folder may remove it, if no
/// other process writes there.
pub fn is_temporary(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(TEMPORARY_PREFIX.as_bytes())
}

/// The directory that holds `path`; "." for a bare name.
fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) => Path::new("."),
        None => path,
    }
}

/// Removes what crashed writers left in a directory that no other process writes to.
///
/// # Errors
/// Of reading the directory or removing.
pub fn remove_leftovers(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut removed = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if is_temporary(&entry.file_name()) {
            fs::remove_file(entry.path())?;
            removed.push(entry.path());
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_whole_content_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        // The longest name there is: the temporary one must not be longer.
        let path = dir.path().join("n".repeat(255));
        write_atomic(&path, b"one").unwrap();
        write_atomic(&path, b"second").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn failed_write_keeps_old_content_and_no_leftover() {
        let dir = tempfile::tempdir().unwrap();
        // A directory with an entry cannot be replaced by a file.
        let path = dir.path().join("target");
        create_dir_all(&path.join("child")).unwrap();
        assert!(write_atomic(&path, b"x").is_err());
        assert!(path.join("child").is_dir());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn concurrent_writers_of_one_path_each_win_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::thread::scope(|scope| {
            for byte in b'a'..b'e' {
                let path = &path;
                scope.spawn(move || write_atomic(path, &[byte; 10_000]).unwrap());
            }
        });
        let bytes = fs::read(&path).unwrap();
        assert_eq!(bytes.len(), 10_000);
        assert!(bytes.iter().all(|b| *b == bytes[0]));
    }

    #[test]
    fn directories() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b/c");
        create_dir_all(&deep).unwrap();
        create_dir_all(&deep).unwrap();
        assert!(deep.is_dir());
        fs::write(dir.path().join("file"), b"").unwrap();
        assert!(create_dir_all(&dir.path().join("file/below")).is_err());
        assert!(create_dir_all(&dir.path().join("file")).is_err());
    }

    #[test]
    fn rename_across_directories_and_remove() {
        let dir = tempfile::tempdir().unwrap();
        create_dir_all(&dir.path().join("a")).unwrap();
        create_dir_all(&dir.path().join("b")).unwrap();
        let (from, to) = (dir.path().join("a/f"), dir.path().join("b/g"));
        write_atomic(&from, b"x").unwrap();
        rename(&from, &to).unwrap();
        assert!(!from.exists());
        remove_file(&to).unwrap();
        assert!(!to.exists());
        assert_eq!(remove_file(&to).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn what_is_made_is_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b");
        create_dir_all(&deep).unwrap();
        write_atomic(&deep.join("f"), b"x").unwrap();
        assert_eq!((mode(&dir.path().join("a")), mode(&deep)), (0o700, 0o700));
        assert_eq!(mode(&deep.join("f")), 0o600);
    }

    #[test]
    fn an_old_tree_is_tightened_and_what_is_shared_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let open = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        let (old, outside) = (dir.path().join("old"), dir.path().join("outside"));
        fs::create_dir_all(old.join("log")).unwrap();
        fs::write(old.join("log/1.wal"), b"x").unwrap();
        fs::write(&outside, b"x").unwrap();
        std::os::unix::fs::symlink(&outside, old.join("link")).unwrap();
        for (path, mode) in [
            (&old, 0o755),
            (&old.join("log"), 0o777),
            (&old.join("log/1.wal"), 0o666),
            (&outside, 0o644),
        ] {
            open(path, mode);
        }
        tighten_tree(&old).unwrap();
        assert_eq!(
            (mode(&old), mode(&old.join("log")), mode(&old.join("log/1.wal"))),
            (0o700, 0o700, 0o600)
        );
        assert_eq!(mode(&outside), 0o644, "what a link leads to is not ours");
        open(&old, 0o1777);
        tighten(&old).unwrap();
        assert_eq!(mode(&old), 0o1777);
    }

    #[test]
    fn leftovers_are_found_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(".crashsafe-1-0.tmp"), b"half").unwrap();
        fs::write(dir.path().join("keep"), b"whole").unwrap();
        assert_eq!(remove_leftovers(dir.path()).unwrap().len(), 1);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
