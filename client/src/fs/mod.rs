//! The path-based API of commands and gateways.

mod read;
mod tree;
mod write;

pub use read::FileReader;
pub use write::FileWriter;

use crate::master::MasterClient;
use crate::workers::WorkerPool;
use alluxio_proto::master::*;
use alluxio_proto::types::{Attr, Caller, Entry, FileKind, WriteType};
use alluxio_proto::{ErrorKind, FsError, FsResult, SessionId};
use bytes::Bytes;
use std::sync::Arc;

/// Entries asked for at once while listing.
const PAGE_ENTRIES: u32 = 1000;

/// Files by path. Clones share session and connections. What is written goes through a session, which is opened at the
/// first need and closed by [`FileSystem::close`].
#[derive(Clone)]
pub struct FileSystem {
    master: MasterClient,
    workers: Arc<dyn WorkerPool>,
    caller: Caller,
    session: Arc<tokio::sync::Mutex<bool>>,
    rename_across_mounts: bool,
}

impl FileSystem {
    /// Over a master and workers, as `caller`.
    pub fn new(master: MasterClient, workers: Arc<dyn WorkerPool>, caller: Caller) -> Self {
        Self {
            master,
            workers,
            caller,
            session: Arc::default(),
            rename_across_mounts: false,
        }
    }

    /// Whether [`FileSystem::rename`] moves to other mounts of the namespace, instead of `CrossesMounts`.
    #[must_use]
    pub fn with_rename_across_mounts(self, rename_across_mounts: bool) -> Self {
        Self {
            rename_across_mounts,
            ..self
        }
    }

    /// The master client.
    pub fn master(&self) -> &MasterClient {
        &self.master
    }

    /// Asks the master something that changes nothing.
    ///
    /// # Errors
    /// As the operation says.
    pub async fn ask<O: ReadOperation>(&self, op: O) -> FsResult<O::Reply> {
        self.master.read(&self.caller, op).await
    }

    /// Asks the master for a change. In a session, so that the master knows it again should its answer be lost and it be asked
    /// for a second time.
    ///
    /// # Errors
    /// As the operation says.
    pub async fn change<O: ChangeOperation>(&self, op: O) -> FsResult<O::Reply> {
        self.ensure_session().await?;
        self.master.change(&self.caller, op).await
    }

    /// Opens the session that changes and open files belong to, once.
    async fn ensure_session(&self) -> FsResult<()> {
        let mut open = self.session.lock().await;
        if !*open {
            let client = format!("alluxio command, process {}", std::process::id());
            let host = crate::workers::host_name();
            let info: SessionInfo = self
                .ask(OpenSession {
                    client,
                    host,
                    ..Default::default()
                })
                .await?;
            self.master.set_session(SessionId(info.session));
            *open = true;
        }
        Ok(())
    }

    /// Ends the session; what it holds open is released.
    ///
    /// # Errors
    /// Those of the master.
    pub async fn close(&self) -> FsResult<()> {
        let mut open = self.session.lock().await;
        if *open {
            let Empty {} = self.master.change(&self.caller, CloseSession {}).await?;
            self.master.set_session(SessionId(0));
            *open = false;
        }
        Ok(())
    }

    /// Attributes of a path.
    ///
    /// # Errors
    /// `NotFound`; `Unavailable` and `UfsDenied` if the under-storage cannot be asked.
    pub async fn stat(&self, path: &str) -> FsResult<Attr> {
        let path = Bytes::copy_from_slice(path.as_bytes());
        self.ask(ResolvePath { path, refresh: false }).await
    }

    /// Whether a path exists.
    ///
    /// # Errors
    /// Those of [`FileSystem::stat`] but `NotFound`.
    pub async fn exists(&self, path: &str) -> FsResult<bool> {
        match self.stat(path).await {
            Ok(_) => Ok(true),
            Err(error) if matches!(error.kind, ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// One page of a directory, after a name.
    ///
    /// # Errors
    /// `NotADirectory` and those of [`FileSystem::stat`].
    pub async fn list_page(&self, directory: u64, after: Bytes) -> FsResult<DirPage> {
        self.ask(ReadDir {
            inode: directory,
            after,
            limit: PAGE_ENTRIES,
            refresh: false,
        })
        .await
    }

    /// All entries of a directory in the order of their names; for directories that are known to be of a bearable size.
    ///
    /// # Errors
    /// As [`FileSystem::list_page`].
    pub async fn list(&self, path: &str) -> FsResult<Vec<Entry>> {
        let attr = self.stat(path).await?;
        let mut entries = Vec::new();
        let mut after = Bytes::new();
        loop {
            let page = self.list_page(attr.inode, after).await?;
            let Some(last) = page.entries.last() else {
                return Ok(entries);
            };
            after = last.name.clone();
            entries.extend(page.entries);
            if page.eof {
                return Ok(entries);
            }
        }
    }

    /// Makes a directory; with `parents`, missing ones above it, and it may exist.
    ///
    /// # Errors
    /// `AlreadyExists`, `AccessDenied`, …
    pub async fn mkdir(&self, path: &str, mode: u32, parents: bool, write_type: WriteType) -> FsResult<Attr> {
        let (parent, name) = split(path)?;
        if parents {
            match self.stat(path).await {
                Ok(attr) if attr.kind() == FileKind::Directory => return Ok(attr),
                Ok(_) => {
                    return Err(FsError::new(
                        ErrorKind::AlreadyExists,
                        format!("make directory {path}: a file has this name"),
                    ));
                }
                Err(error) if error.kind == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        let parent = if parents {
            Box::pin(self.mkdir_or_root(parent, mode, write_type)).await?
        } else {
            self.stat(parent).await?
        };
        let op = Mkdir {
            parent: parent.inode,
            name: name.to_owned().into(),
            mode,
            write_type: write_type as i32,
            umask: 0,
        };
        self.change(op)
            .await
            .map_err(|error| about_name(error, "make directory", path))
    }

    async fn mkdir_or_root(&self, path: &str, mode: u32, write_type: WriteType) -> FsResult<Attr> {
        if path == "/" {
            self.stat(path).await
        } else {
            self.mkdir(path, mode, true, write_type).await
        }
    }

    /// Renames a path; the target must not exist unless `replace`.
    ///
    /// # Errors
    /// `AlreadyExists`, `CrossesMounts`, …
    pub async fn rename(&self, from: &str, to: &str, replace: bool) -> FsResult<()> {
        let (from_parent, name) = split(from)?;
        let (to_parent, new_name) = split(to)?;
        let (parent, new_parent) = (self.stat(from_parent).await?.inode, self.stat(to_parent).await?.inode);
        let flags = if replace { 0 } else { libc::RENAME_NOREPLACE };
        let (name, new_name) = (name.to_owned().into(), new_name.to_owned().into());
        self.change(Rename {
            parent,
            name,
            new_parent,
            new_name,
            flags,
            tell_removed: false,
            across_mounts: self.rename_across_mounts,
        })
        .await
        .map_err(|error| match error.kind {
            // The folders of both were there a moment ago.
            ErrorKind::NotFound => FsError::new(error.kind, format!("rename {from} to {to}: {from} does not exist")),
            _ => about_name(error, &format!("rename {from} to"), to),
        })
        .map(drop)
    }

    /// Opens a file for reading.
    ///
    /// # Errors
    /// `NotFound`, `IsADirectory`, `AccessDenied`, …
    pub async fn open(&self, path: &str) -> FsResult<FileReader> {
        let attr = self.stat(path).await?;
        if attr.kind() == FileKind::Directory {
            return Err(FsError::new(
                ErrorKind::IsADirectory,
                format!("open {path}: it is a directory"),
            ));
        }
        self.ensure_session().await?;
        FileReader::open(self.clone(), path.to_owned(), attr.inode).await
    }

    /// Creates a file for writing; with `overwrite`, an existing one loses its content when the new one is complete.
    ///
    /// # Errors
    /// `AlreadyExists`, `AccessDenied`, `NoSpace`, …
    pub async fn create(&self, path: &str, mode: u32, overwrite: bool, write_type: WriteType) -> FsResult<FileWriter> {
        self.ensure_session().await?;
        FileWriter::create(self.clone(), path, mode, overwrite, write_type).await
    }
}

/// Says what was being done and to what, unless the error does. `PATH: why` becomes `doing PATH: why`.
pub fn about(mut error: FsError, doing: &str, path: &str) -> FsError {
    let bare = error
        .message
        .strip_prefix(path)
        .is_some_and(|rest| rest.starts_with(": "));
    if bare {
        error.message = format!("{doing} {}", error.message);
        return error;
    }
    // The path as a word of its own: `/` is in many messages.
    let told = error.message.split([' ', ':', '"']).any(|word| word == path);
    if told {
        error
    } else {
        error.context(format!("{doing} {path}"))
    }
}

/// As [`about`], of a change that the master was asked for by inodes: it names directories by numbers, which say nothing to who
/// named a path.
fn about_name(error: FsError, doing: &str, path: &str) -> FsError {
    let why = match error.kind {
        ErrorKind::AlreadyExists => "it exists",
        ErrorKind::NotEmpty => "it has entries",
        _ => return error.context(format!("{doing} {path}")),
    };
    FsError::new(error.kind, format!("{doing} {path}: {why}"))
}

/// Parent and name of an absolute path.
///
/// # Errors
/// `InvalidArgument` for the root.
pub fn split(path: &str) -> FsResult<(&str, &str)> {
    match path.rsplit_once('/') {
        Some((parent, name)) if !name.is_empty() => Ok((if parent.is_empty() { "/" } else { parent }, name)),
        _ => Err(FsError::new(
            ErrorKind::InvalidArgument,
            format!("{path}: the root cannot be made, renamed or removed"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(kind: ErrorKind, message: &str) -> FsError {
        FsError::new(kind, message)
    }

    #[test]
    fn errors_say_once_what_was_being_done_to_what() {
        for (message, path, said) in [
            ("/x: no such file", "/x", "read /x: no such file"),
            ("open /x: it is a directory", "/x", "open /x: it is a directory"),
            ("permission denied", "/x", "read /x: permission denied"),
            ("s3://b/k is gone", "/", "read /: s3://b/k is gone"),
        ] {
            assert_eq!(about(error(ErrorKind::NotFound, message), "read", path).message, said);
        }
    }

    #[test]
    fn who_named_a_path_is_told_of_the_path() {
        let exists = error(ErrorKind::AlreadyExists, "\"app\" exists in directory 3");
        assert_eq!(
            about_name(exists, "rename /a to", "/b/app").message,
            "rename /a to /b/app: it exists"
        );
        let filled = error(ErrorKind::NotEmpty, "directory 4 has entries");
        assert_eq!(about_name(filled, "remove", "/d").message, "remove /d: it has entries");
        let away = error(ErrorKind::Unavailable, "the store is away");
        assert_eq!(about_name(away, "remove", "/d").message, "remove /d: the store is away");
    }
}
