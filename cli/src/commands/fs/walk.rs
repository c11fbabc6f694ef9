//! Trees, page by page: memory is one page of names for each level, whatever the size.

use super::join;
use alluxio_client::FileSystem;
use alluxio_proto::master::{DirPage, ReadDir};
use alluxio_proto::types::{Attr, Entry, FileKind};
use alluxio_proto::{ErrorKind, FsError};
use bytes::Bytes;
use std::collections::VecDeque;

/// Entries asked for at once.
const PAGE_ENTRIES: u32 = 1000;
/// Levels of folders that are followed; a tree that the master holds is not deeper than a path is long.
const DEPTH_MAX: usize = alluxio_proto::PATH_BYTES_MAX / 2;

/// A file or folder that was found.
#[derive(Clone, Debug)]
pub struct Item {
    /// Absolute path. Bytes, as names are.
    pub path: Vec<u8>,
    /// Attributes.
    pub attr: Attr,
}

/// What is in a folder, and with `deep` in the folders below, each folder before what is in it, names in order.
pub struct Walk {
    fs: FileSystem,
    deep: bool,
    refresh: bool,
    levels: Vec<Level>,
}

struct Level {
    inode: u64,
    path: Vec<u8>,
    page: VecDeque<Entry>,
    after: Bytes,
    eof: bool,
}

impl Walk {
    /// Of the folder `inode` at `path`; `refresh` looks at the under-storage now.
    pub fn new(fs: FileSystem, path: &str, inode: u64, deep: bool, refresh: bool) -> Self {
        let mut walk = Self {
            fs,
            deep,
            refresh,
            levels: Vec::new(),
        };
        walk.enter(inode, path.as_bytes().to_vec());
        walk
    }

    fn enter(&mut self, inode: u64, path: Vec<u8>) {
        self.levels.push(Level {
            inode,
            path,
            page: VecDeque::new(),
            after: Bytes::new(),
            eof: false,
        });
    }

    /// The next one. After an error the walk goes on behind the folder that could not be listed.
    pub async fn next(&mut self) -> Option<Result<Item, FsError>> {
        loop {
            let level = self.levels.last_mut()?;
            if let Some(entry) = level.page.pop_front() {
                let attr = entry.attr.unwrap_or_default();
                let path = join(&level.path, &entry.name);
                if self.deep && attr.kind() == FileKind::Directory {
                    if self.levels.len() >= DEPTH_MAX {
                        let why = format!("list {}: too many levels", crate::output::text(&path));
                        return Some(Err(FsError::new(ErrorKind::NameTooLong, why)));
                    }
                    self.enter(attr.inode, path.clone());
                }
                return Some(Ok(Item { path, attr }));
            }
            if level.eof {
                self.levels.pop();
                continue;
            }
            if let Err(error) = self.next_page().await {
                let path = self.levels.pop().map(|level| crate::output::text(&level.path));
                return Some(Err(error.context(format!("list {}", path.unwrap_or_default()))));
            }
        }
    }

    async fn next_page(&mut self) -> Result<(), FsError> {
        let Some(level) = self.levels.last_mut() else {
            return Ok(());
        };
        let page: DirPage = self
            .fs
            .ask(ReadDir {
                inode: level.inode,
                after: level.after.clone(),
                limit: PAGE_ENTRIES,
                // Once per folder, not once per page.
                refresh: self.refresh && level.after.is_empty(),
            })
            .await?;
        match page.entries.last() {
            Some(last) => level.after = last.name.clone(),
            None => level.eof = true,
        }
        level.eof |= page.eof;
        level.page = page.entries.into();
        Ok(())
    }
}
