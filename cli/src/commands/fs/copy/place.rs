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
pub enum Place {
    /// In Alluxio: as typed, later the absolute path.
    Alluxio(String),
    /// On this host.
    Local(PathBuf),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Alluxio(path) => f.write_str(path),
            Place::Local(path) => write!(f, "file://{}", path.display()),
        }
    }
}

impl Place {
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
            Place::Alluxio(path) => Some(path.clone()),
            Place::Local(_) => None,
        }
    }

    /// Last component.
    pub fn name(&self) -> Option<OsString> {
        let path = match self {
            Place::Alluxio(path) => Path::new(path),
            Place::Local(path) => path,
        };
        path.file_name().map(OsStr::to_owned)
    }

    /// What contains it.
    pub fn parent(&self) -> Option<Place> {
        match self {
            Place::Alluxio(path) => {
                let parent = Path::new(path).parent()?;
                Some(Place::Alluxio(parent.to_str()?.to_owned()))
            }
            Place::Local(path) => path.parent().map(|parent| Place::Local(parent.to_owned())),
        }
    }

    /// What is in it under a name.
    pub fn join(&self, name: &OsStr) -> Place {
        match self {
            // Names come from UTF-8 paths or were checked: see `Copier`.
            Place::Alluxio(path) => {
                Place::Alluxio(format!("{}/{}", path.trim_end_matches('/'), name.to_string_lossy()))
            }
            Place::Local(path) => Place::Local(path.join(name)),
        }
    }

    /// Whether it is `other` or beneath it.
    pub fn is_within(&self, other: &Place) -> bool {
        match (self, other) {
            (Place::Alluxio(inner), Place::Alluxio(outer)) => Path::new(inner).starts_with(outer),
            (Place::Local(inner), Place::Local(outer)) => inner.starts_with(outer),
            _ => false,
        }
    }

    /// Whether it is a folder; `None` if there is nothing.
    pub async fn is_folder(&self, fs: &FileSystem) -> FsResult<Option<bool>> {
        match self {
            Place::Alluxio(path) => match fs.stat(path).await {
                Ok(attr) => Ok(Some(attr.kind() == FileKind::Directory)),
                Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error),
            },
            Place::Local(path) => match std::fs::metadata(path) {
                Ok(metadata) => Ok(Some(metadata.is_dir())),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(FsError::from_io(format!("look up {self}"), &error)),
            },
        }
    }

    /// Makes the folder, with those above it.
    pub async fn make_folders(&self, shell: &Shell<'_>) -> FsResult<()> {
        match self {
            Place::Alluxio(path) if path == "/" => Ok(()),
            Place::Alluxio(path) => {
                let mode = shell.new_mode(FOLDER_MODE);
                shell.fs.mkdir(path, mode, true, shell.write_type()).await.map(drop)
            }
            Place::Local(path) => {
                std::fs::create_dir_all(path).map_err(|error| FsError::from_io(format!("make folder {self}"), &error))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(path: &str) -> Place {
        Place::Local(PathBuf::from(path))
    }

    #[test]
    fn places_are_told_apart() {
        for typed in ["file:///a/b", "file:/a/b", "file://localhost/a/b"] {
            assert_eq!(Place::parse(typed).unwrap(), local("/a/b"), "{typed}");
        }
        assert_eq!(Place::parse("/a").unwrap(), Place::Alluxio("/a".into()));
        assert!(Place::parse("file://host/a").is_err());
        let here = std::env::current_dir().unwrap();
        assert_eq!(
            Place::local(Path::new("x/./y")).unwrap(),
            Place::Local(here.join("x/y"))
        );
    }

    #[test]
    fn names_and_folders() {
        let root = Place::Alluxio("/".into());
        assert_eq!(root.name(), None);
        assert_eq!(root.join("a".as_ref()), Place::Alluxio("/a".into()));
        assert_eq!(
            Place::Alluxio("/a/b".into()).parent(),
            Some(Place::Alluxio("/a".into()))
        );
        assert!(Place::Alluxio("/a/b".into()).is_within(&Place::Alluxio("/a".into())));
        assert!(!Place::Alluxio("/ab".into()).is_within(&Place::Alluxio("/a".into())));
        assert!(!Place::Alluxio("/a/b".into()).is_within(&local("/a")));
        assert_eq!(local("/a").to_string(), "file:///a");
    }
}
