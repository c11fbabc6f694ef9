//! Directories: pages of the master behind cookies of the kernel.
//!
//! A cookie is the position of an entry in the handle's own sequence. The handle keeps the last pages and, for each page
//! that it has seen, the name before it, so that seeking back costs one page.

use super::Vfs;
use alluxio_proto::master::{DirPage, Op, ReadDir};
use alluxio_proto::types::{Attr, Caller, Entry};
use alluxio_proto::{ErrorKind, FsError, FsResult};
use bytes::Bytes;
use lru::LruCache;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Entries of one page.
const PAGE_ENTRIES: usize = 1000;
/// Pages that a handle keeps.
const PAGES_MAX: NonZeroUsize = NonZeroUsize::new(4).expect("not zero");

/// One entry with the cookie after it.
#[derive(Clone, Debug)]
pub struct DirEntry {
    /// Cookie that continues after this entry.
    pub next: u64,
    /// Name.
    pub name: Bytes,
    /// Attributes.
    pub attr: Attr,
}

/// What shows that a directory is as it was when it was listed last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DirStamp {
    mtime_ns: i64,
    ctime_ns: i64,
    entries: u64,
}

#[derive(Debug)]
pub(super) struct DirHandle {
    inode: u64,
    parent: u64,
    pages: tokio::sync::Mutex<Pages>,
}

#[derive(Debug)]
struct Pages {
    /// The name before each page known; the first is empty.
    before: Vec<Bytes>,
    kept: LruCache<usize, Arc<DirPage>>,
}

impl Vfs {
    /// Opens a directory. True: the kernel may keep what it has cached of it.
    ///
    /// # Errors
    /// `NotADirectory`, and those of the under-storage.
    pub async fn opendir(&self, caller: &Caller, inode: u64) -> FsResult<(u64, bool)> {
        // Makes the master look at the under-storage if it is time, before attributes are compared.
        let look = ReadDir {
            inode,
            after: Bytes::new(),
            limit: 1,
            refresh: false,
        };
        match self.read::<DirPage>(caller, Op::ReadDir(look)).await {
            // Removed, and still somebody's: it can be opened. The kernel refuses to list it.
            Err(error) if error.kind == ErrorKind::NotFound && self.removed_dir(inode).is_some() => {}
            looked => drop(looked?),
        }
        let attr = self.getattr(caller, inode).await?;
        let stamp = DirStamp {
            mtime_ns: attr.mtime_ns,
            ctime_ns: attr.ctime_ns,
            entries: attr.entries,
        };
        let before = self.listed.lock().put(inode, stamp);
        let keep = self.watching.load(Ordering::Relaxed) && before == Some(stamp);
        let pages = Pages {
            before: vec![Bytes::new()],
            kept: LruCache::new(PAGES_MAX),
        };
        let handle = DirHandle {
            inode,
            parent: attr.parent,
            pages: tokio::sync::Mutex::new(pages),
        };
        let fh = self.new_handle();
        self.dirs.lock().insert(fh, Arc::new(handle));
        Ok((fh, keep))
    }

    /// Closes a directory.
    pub fn releasedir(&self, fh: u64) {
        self.dirs.lock().remove(&fh);
    }

    /// Inode and parent of an open directory, for `.` and `..`.
    ///
    /// # Errors
    /// `Stale` if it is not open.
    pub fn dir_inodes(&self, fh: u64) -> FsResult<(u64, u64)> {
        let handle = self.dir(fh)?;
        Ok((
            handle.inode,
            if handle.parent == 0 {
                handle.inode
            } else {
                handle.parent
            },
        ))
    }

    /// Entries from a cookie on, up to the end of a page; empty at the end of the directory.
    ///
    /// # Errors
    /// Those of the master.
    pub async fn readdir(&self, caller: &Caller, fh: u64, cookie: u64) -> FsResult<Vec<DirEntry>> {
        let handle = self.dir(fh)?;
        let position = usize::try_from(cookie).unwrap_or(usize::MAX);
        let (number, skip) = (position / PAGE_ENTRIES, position % PAGE_ENTRIES);
        let seen = self.changes_seen();
        let (page, is_fresh) = self.page(caller, &handle, number).await?;
        let Some(page) = page else { return Ok(Vec::new()) };
        let mut entries = Vec::with_capacity(page.entries.len().saturating_sub(skip));
        for (index, entry) in page.entries.iter().enumerate().skip(skip) {
            let attr = entry.attr.clone().unwrap_or_default();
            if is_fresh {
                self.remember(seen, &attr);
            }
            let attr = self.patched(attr).await?;
            entries.push(DirEntry {
                next: cookie_of(number, index + 1),
                name: entry.name.clone(),
                attr,
            });
        }
        Ok(entries)
    }

    fn dir(&self, fh: u64) -> FsResult<Arc<DirHandle>> {
        let found = self.dirs.lock().get(&fh).cloned();
        found.ok_or_else(|| FsError::new(ErrorKind::Stale, format!("directory handle {fh} is not open")))
    }

    /// A page by number; `None` past the end. Pages before it that were never seen are read on the way. True: the master has
    /// just been asked.
    async fn page(&self, caller: &Caller, handle: &DirHandle, number: usize) -> FsResult<(Option<Arc<DirPage>>, bool)> {
        let mut pages = handle.pages.lock().await;
        if let Some(page) = pages.kept.get(&number) {
            return Ok((Some(Arc::clone(page)), false));
        }
        let mut at = number.min(pages.before.len() - 1);
        loop {
            let after = pages.before[at].clone();
            let read = ReadDir {
                inode: handle.inode,
                after,
                limit: PAGE_ENTRIES as u32,
                refresh: false,
            };
            let page: DirPage = self.read(caller, Op::ReadDir(read)).await?;
            let page = Arc::new(self.whole_page(caller, handle.inode, page).await?);
            let last = page.entries.last().map(|entry: &Entry| entry.name.clone());
            let (Some(last), full) = (last, page.entries.len() == PAGE_ENTRIES) else {
                return Ok((None, true));
            };
            if at + 1 == pages.before.len() && full {
                pages.before.push(last);
            }
            pages.kept.put(at, Arc::clone(&page));
            if at == number {
                return Ok((Some(page), true));
            }
            if !full {
                return Ok((None, true));
            }
            at += 1;
        }
    }

    /// The master's pages may be shorter than asked for; ours are full, but for the last.
    async fn whole_page(&self, caller: &Caller, inode: u64, mut page: DirPage) -> FsResult<DirPage> {
        while !page.eof && page.entries.len() < PAGE_ENTRIES {
            let Some(last) = page.entries.last() else { break };
            let limit = (PAGE_ENTRIES - page.entries.len()) as u32;
            let read = ReadDir {
                inode,
                after: last.name.clone(),
                limit,
                refresh: false,
            };
            let more: DirPage = self.read(caller, Op::ReadDir(read)).await?;
            if more.entries.is_empty() {
                break;
            }
            page.eof = more.eof;
            page.entries.extend(more.entries);
        }
        Ok(page)
    }
}

fn cookie_of(page: usize, index: usize) -> u64 {
    (page * PAGE_ENTRIES + index) as u64
}
