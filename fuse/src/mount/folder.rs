//! The folder to mount on: its real name, and whether it may be mounted on.

use super::table::{MountState, mount_at};
use alluxio_proto::{ErrorKind, FsError, FsResult};
use std::path::{Path, PathBuf};

/// Symbolic links followed before they are taken for a circle; as the kernel's own bound.
const LINKS_MAX: usize = 40;

/// The name under which the mount table knows a folder: absolute, without symbolic links. Asks nothing of a file system
/// that is mounted at it, as that one may be dead or silent.
///
/// # Errors
/// `NotFound` and others, if a folder above it cannot be followed. Whether it exists itself is not looked at.
pub(super) fn real_name(dir: &Path) -> FsResult<PathBuf> {
    let mut name = dir.to_owned();
    for _ in 0..LINKS_MAX {
        match resolve(&name).map_err(|error| explain(dir, &error))? {
            Resolved::Link(target) => name = target,
            Resolved::Real(candidate) => return Ok(candidate),
        }
    }
    Err(explain(dir, &std::io::Error::from_raw_os_error(libc::ELOOP)))
}

enum Resolved {
    Real(PathBuf),
    Link(PathBuf),
}

/// One step: the folders above are followed to the end, the last name by one link at most.
fn resolve(dir: &Path) -> std::io::Result<Resolved> {
    let absolute = std::path::absolute(dir)?;
    let (Some(parent), Some(name)) = (absolute.parent(), absolute.file_name()) else {
        return absolute.canonicalize().map(Resolved::Real);
    };
    let parent = parent.canonicalize()?;
    let candidate = parent.join(name);
    let mounted = mount_at(&candidate).map_err(std::io::Error::other)?.is_some();
    if mounted || !candidate.is_symlink() {
        return Ok(Resolved::Real(candidate));
    }
    Ok(Resolved::Link(parent.join(std::fs::read_link(&candidate)?)))
}

/// Refuses folders that must not be mounted on. Says with [`Ground::Dead`] if a dead mount of ours is in the way.
///
/// # Errors
/// `NotFound`, `NotADirectory`, `Busy` if alluxio is mounted there, `InvalidArgument` for `/`.
pub(super) fn check(point: &Path) -> FsResult<Ground> {
    if point == Path::new("/") {
        return Err(FsError::new(
            ErrorKind::InvalidArgument,
            "cannot mount on /: it would hide the whole system; take a folder of its own",
        ));
    }
    match mount_at(point)? {
        Some(mount) if mount.is_alluxio() => match mount.state() {
            MountState::Dead => Ok(Ground::Dead),
            MountState::Alive => Err(taken(point, &mount.source, "")),
            MountState::Silent => Err(taken(point, &mount.source, ", though it does not answer")),
        },
        _ => check_folder(point).map(|()| Ground::Free),
    }
}

/// What is found where to mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ground {
    /// Nothing of ours.
    Free,
    /// A mount of ours whose daemon is gone.
    Dead,
}

fn check_folder(point: &Path) -> FsResult<()> {
    let metadata = std::fs::metadata(point).map_err(|error| explain(point, &error))?;
    if !metadata.is_dir() {
        return Err(FsError::new(
            ErrorKind::NotADirectory,
            format!("mount point {} is not a directory", point.display()),
        ));
    }
    Ok(())
}

fn taken(point: &Path, source: &str, how: &str) -> FsError {
    let point = point.display();
    FsError::new(
        ErrorKind::Busy,
        format!("{point}: {source} is already mounted here{how}; unmount it first: umount {point}"),
    )
}

fn explain(dir: &Path, error: &std::io::Error) -> FsError {
    let hint = match error.raw_os_error() {
        Some(libc::ENOENT) => format!("; make it first: mkdir -p {}", dir.display()),
        Some(libc::ENOTCONN) => "; it lies on a FUSE mount whose daemon died: unmount that one first".to_owned(),
        _ => String::new(),
    };
    let mut explained = FsError::from_io(format!("mount point {}", dir.display()), error);
    explained.message.push_str(&hint);
    explained
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn real_names_have_no_links_and_no_tail() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        std::fs::create_dir(base.join("real")).unwrap();
        std::os::unix::fs::symlink("real", base.join("link")).unwrap();
        for name in ["real", "real/", "link", "link/", "./real", "link/../real"] {
            assert_eq!(real_name(&base.join(name)).unwrap(), base.join("real"), "{name}");
        }
        assert_eq!(real_name(Path::new("/")).unwrap(), Path::new("/"));
        assert_eq!(
            real_name(&base.join("new")).unwrap(),
            base.join("new"),
            "need not exist"
        );
        std::os::unix::fs::symlink("round", base.join("round")).unwrap();
        assert_eq!(
            real_name(&base.join("round")).unwrap_err().kind,
            ErrorKind::TooManyLinks
        );
    }

    #[test]
    fn folders_that_cannot_be_mounted_on() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        assert_eq!(check(&base).unwrap(), Ground::Free);

        let missing = check(&base.join("missing")).unwrap_err();
        assert_eq!(missing.kind, ErrorKind::NotFound);
        assert!(missing.message.contains("mkdir -p"), "{missing}");
        let deep = real_name(&base.join("no/such")).unwrap_err();
        assert_eq!(deep.kind, ErrorKind::NotFound);
        assert!(
            deep.message.contains("no/such") && deep.message.contains("mkdir"),
            "{deep}"
        );

        std::fs::write(base.join("file"), "").unwrap();
        let file = check(&base.join("file")).unwrap_err();
        assert_eq!(file.kind, ErrorKind::NotADirectory);
        assert!(file.message.contains("not a directory"), "{file}");

        assert_eq!(check(Path::new("/")).unwrap_err().kind, ErrorKind::InvalidArgument);
    }
}
