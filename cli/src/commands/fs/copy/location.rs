//! Either end of a copy.

use super::Shell;
use crate::commands::CommandError;
use crate::commands::fs::FOLDER_MODE;
use alluxio_client::FileSystem;
use alluxio_proto::types::FileKind;
use alluxio_proto::{ErrorKind, FsError, FsResult};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// A path, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// In Alluxio: as typed, later the absolute path.
    Alluxio(String),
    /// On this host.
    Local(PathBuf),
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Location::Alluxio(path) => f.write_str(path),
            Location::Local(path) => write!(f, "file://{}", path.display()),
        }
    }
}

impl Location {
    /// `file:///path` is on this host, all else in Alluxio.
    pub fn parse(typed: &str) -> Result<Self, CommandError> {
        if typed.starts_with("file:") {
            Self::local(Path::new(typed))
        } else {
            Ok(Self::Alluxio(typed.to_owned()))
        }
    }

    /// On this host, with or without `file://`, made absolute.
    pub fn local(path: &Path) -> Result<Self, CommandError> {
        let bytes = path.as_os_str().as_bytes();
        let wrong = |what: &str| CommandError::Usage(format!("{}: {what}; write file:///PATH", path.display()));
        let plain = match bytes.strip_prefix(b"file:") {
            None => path,
            Some(rest) => {
                let rest = rest.strip_prefix(b"//localhost/").map_or_else(
                    || rest.strip_prefix(b"//").unwrap_or(rest).to_vec(),
                    |rest| [b"/", rest].concat(),
                );
                if !rest.starts_with(b"/") {
                    return Err(wrong("a file: URI names a path on this host"));
                }
                return Ok(Self::Local(PathBuf::from(OsString::from_vec(rest))));
            }
        };
        let absolute = std::path::absolute(plain).map_err(|error| wrong(&error.to_string()))?;
        Ok(Self::Local(absolute))
    }

    /// What was typed, if it is in Alluxio.
    pub fn typed(&self) -> Option<String> {
        match self {
            Location::Alluxio(path) => Some(path.clone()),
            Location::Local(_) => None,
        }
    }

    /// Last component.
    pub fn name(&self) -> Option<OsString> {
        let path = match self {
            Location::Alluxio(path) => Path::new(path),
            Location::Local(path) => path,
        };
        path.file_name().map(OsStr::to_owned)
    }

    /// What contains it.
    pub fn parent(&self) -> Option<Location> {
        match self {
            Location::Alluxio(path) => {
                let parent = Path::new(path).parent()?;
                Some(Location::Alluxio(parent.to_str()?.to_owned()))
            }
            Location::Local(path) => path.parent().map(|parent| Location::Local(parent.to_owned())),
        }
    }

    /// What is in it under a name.
    pub fn join(&self, name: &OsStr) -> Location {
        match self {
            // Names come from UTF-8 paths or were checked: see `Copier`.
            Location::Alluxio(path) => {
                Location::Alluxio(format!("{}/{}", path.trim_end_matches('/'), name.to_string_lossy()))
            }
            Location::Local(path) => Location::Local(path.join(name)),
        }
    }

    /// Whether it is `other` or beneath it.
    pub fn is_within(&self, other: &Location) -> bool {
        match (self, other) {
            (Location::Alluxio(inner), Location::Alluxio(outer)) => Path::new(inner).starts_with(outer),
            (Location::Local(inner), Location::Local(outer)) => inner.starts_with(outer),
            _ => false,
        }
    }

    /// Whether it is a folder; `None` if there is nothing.
    pub async fn is_folder(&self, fs: &FileSystem) -> FsResult<Option<bool>> {
        match self {
            Location::Alluxio(path) => match fs.stat(path).await {
                Ok(attr) => Ok(Some(attr.kind() == FileKind::Directory)),
                Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error),
            },
            Location::Local(path) => match std::fs::metadata(path) {
                Ok(metadata) => Ok(Some(metadata.is_dir())),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(FsError::from_io(format!("look up {self}"), &error)),
            },
        }
    }

    /// Makes the folder, with those above it.
    pub async fn make_folders(&self, shell: &Shell<'_>) -> FsResult<()> {
        match self {
            Location::Alluxio(path) if path == "/" => Ok(()),
            Location::Alluxio(path) => {
                let mode = shell.new_mode(FOLDER_MODE);
                shell.fs.mkdir(path, mode, true, shell.write_type()).await.map(drop)
            }
            Location::Local(path) => {
                std::fs::create_dir_all(path).map_err(|error| FsError::from_io(format!("make folder {self}"), &error))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(path: &str) -> Location {
        Location::Local(PathBuf::from(path))
    }

    #[test]
    fn locations_are_told_apart() {
        for typed in ["file:///a/b", "file:/a/b", "file://localhost/a/b"] {
            assert_eq!(Location::parse(typed).unwrap(), local("/a/b"), "{typed}");
        }
        assert_eq!(Location::parse("/a").unwrap(), Location::Alluxio("/a".into()));
        assert!(Location::parse("file://host/a").is_err());
        let here = std::env::current_dir().unwrap();
        assert_eq!(
            Location::local(Path::new("x/./y")).unwrap(),
            Location::Local(here.join("x/y"))
        );
    }

    #[test]
    fn names_and_folders() {
        let root = Location::Alluxio("/".into());
        assert_eq!(root.name(), None);
        assert_eq!(root.join("a".as_ref()), Location::Alluxio("/a".into()));
        assert_eq!(
            Location::Alluxio("/a/b".into()).parent(),
            Some(Location::Alluxio("/a".into()))
        );
        assert!(Location::Alluxio("/a/b".into()).is_within(&Location::Alluxio("/a".into())));
        assert!(!Location::Alluxio("/ab".into()).is_within(&Location::Alluxio("/a".into())));
        assert!(!Location::Alluxio("/a/b".into()).is_within(&local("/a")));
        assert_eq!(local("/a").to_string(), "file:///a");
    }
}
