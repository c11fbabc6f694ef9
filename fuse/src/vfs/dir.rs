//! Directories: pages of the master behind cookies of the kernel.
//!
//! A cookie is the position of an entry in the handle's own sequence. The handle keeps the last pages, and of each page that
//! it has seen where it began and ended and a digest of each name. So a page that is read again, since it was not kept, has
//! each name at the position that it had, though names came and went meanwhile: those that came are not shown until the
//! directory is read from its start.

use super::Vfs;
use alluxio_proto::master::{DirPage, ReadDir};
use alluxio_proto::types::{Attr, Caller, Entry};
use alluxio_proto::{ErrorKind, FsError, FsResult};
use bytes::Bytes;
use lru::LruCache;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Entries of one page.
const PAGE_ENTRIES: usize = 1000;
/// Pages that a handle keeps; of others 8 bytes for each name.
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
    /// Those that were read, in order.
    seen: Vec<SeenPage>,
    kept: LruCache<usize, Arc<Page>>,
}

/// What must be known of a page to read it again.
#[derive(Debug)]
struct SeenPage {
    /// The name before it.
    after: Bytes,
    /// Its last name.
    last: Bytes,
    digests: Vec<u64>,
}

/// Entries with their positions in the page.
type Page = Vec<(usize, Entry)>;

impl Default for Pages {
    fn default() -> Self {
        Pages {
            seen: Vec::new(),
            kept: LruCache::new(PAGES_MAX),
        }
    }
}

impl Pages {
    /// The name after which the next page begins that was not read yet; `None` if there is none.
    fn end(&self) -> Option<Bytes> {
        match self.seen.last() {
            None => Some(Bytes::new()),
            Some(page) => (page.digests.len() == PAGE_ENTRIES).then(|| page.last.clone()),
        }
    }

    /// Notes a page that was read for the first time.
    fn add(&mut self, after: Bytes, entries: Vec<Entry>) -> Option<Arc<Page>> {
        let last = entries.last()?.name.clone();
        let digests = entries.iter().map(|entry| digest(&entry.name)).collect();
        let page: Arc<Page> = Arc::new(entries.into_iter().enumerate().collect());
        self.kept.put(self.seen.len(), Arc::clone(&page));
        self.seen.push(SeenPage { after, last, digests });
        Some(page)
    }
}

impl SeenPage {
    /// Puts entries that were read again where they were.
    fn place(&self, entries: Vec<Entry>) -> Page {
        let positions: HashMap<u64, usize> = self
            .digests
            .iter()
            .enumerate()
            .map(|(at, digest)| (*digest, at))
            .collect();
        let placed = entries.into_iter().filter_map(|entry| {
            let at = *positions.get(&digest(&entry.name))?;
            Some((at, entry))
        });
        placed.collect()
    }
}

fn digest(name: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(name);
    hasher.finish()
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
        match self.read(caller, look).await {
            // Removed, and still somebody's: it can be opened. The kernel refuses to list it.
            Err(error) if error.kind == ErrorKind::Gone && self.removed_dir(inode).is_some() => {}
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
        let handle = DirHandle {
            inode,
            parent: attr.parent,
            pages: tokio::sync::Mutex::default(),
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

    /// Entries from a cookie on, up to the end of a page; empty at the end of the directory. From cookie 0 on the directory is
    /// read anew.
    ///
    /// # Errors
    /// Those of the master.
    pub async fn readdir(&self, caller: &Caller, fh: u64, cookie: u64) -> FsResult<Vec<DirEntry>> {
        let handle = self.dir(fh)?;
        let position = usize::try_from(cookie).unwrap_or(usize::MAX);
        if position == 0 {
            *handle.pages.lock().await = Pages::default();
        }
        let (mut number, mut skip) = (position / PAGE_ENTRIES, position % PAGE_ENTRIES);
        loop {
            let seen = self.changes_seen();
            let (page, just_asked) = self.page(caller, &handle, number).await?;
            let Some(page) = page else { return Ok(Vec::new()) };
            let mut entries = Vec::with_capacity(page.len().saturating_sub(skip));
            for (index, entry) in page.iter().filter(|(index, _)| *index >= skip) {
                let attr = entry.attr.clone().unwrap_or_default();
                if just_asked {
                    self.remember(seen, &attr);
                }
                let attr = self.patched(attr).await?;
                entries.push(DirEntry {
                    next: cookie_of(number, index + 1),
                    name: entry.name.clone(),
                    attr,
                });
            }
            if !entries.is_empty() {
                return Ok(entries);
            }
            // All that was left of the page is gone.
            (number, skip) = (number + 1, 0);
        }
    }

    fn dir(&self, fh: u64) -> FsResult<Arc<DirHandle>> {
        let found = self.dirs.lock().get(&fh).cloned();
        found.ok_or_else(|| FsError::new(ErrorKind::Stale, format!("directory handle {fh} is not open")))
    }

    /// A page by number; `None` past the end. Pages before it that were never seen are read on the way. True: the master has
    /// just been asked.
    async fn page(&self, caller: &Caller, handle: &DirHandle, number: usize) -> FsResult<(Option<Arc<Page>>, bool)> {
        let mut pages = handle.pages.lock().await;
        if let Some(page) = pages.kept.get(&number) {
            return Ok((Some(Arc::clone(page)), false));
        }
        if let Some(seen) = pages.seen.get(number) {
            let entries = self
                .entries(caller, handle.inode, seen.after.clone(), Some(&seen.last))
                .await?;
            let page = Arc::new(seen.place(entries));
            pages.kept.put(number, Arc::clone(&page));
            return Ok((Some(page), true));
        }
        loop {
            let Some(after) = pages.end() else {
                return Ok((None, true));
            };
            let entries = self.entries(caller, handle.inode, after.clone(), None).await?;
            let Some(page) = pages.add(after, entries) else {
                return Ok((None, true));
            };
            if pages.seen.len() > number {
                return Ok((Some(page), true));
            }
        }
    }

    /// Entries after a name: a page of them, or all up to a last name. The master's pages may be shorter than asked for.
    async fn entries(&self, caller: &Caller, inode: u64, after: Bytes, last: Option<&Bytes>) -> FsResult<Vec<Entry>> {
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            let limit = match last {
                Some(_) => PAGE_ENTRIES,
                None => PAGE_ENTRIES - entries.len(),
            };
            let read = ReadDir {
                inode,
                after: entries.last().map_or_else(|| after.clone(), |entry| entry.name.clone()),
                limit: limit as u32,
                refresh: false,
            };
            let page: DirPage = self.read(caller, read).await?;
            let ended = page.eof || page.entries.is_empty();
            entries.extend(page.entries);
            match last {
                Some(last) => {
                    let wanted = entries.partition_point(|entry| entry.name <= *last);
                    if ended || wanted < entries.len() {
                        entries.truncate(wanted);
                        return Ok(entries);
                    }
                }
                None if ended || entries.len() >= PAGE_ENTRIES => return Ok(entries),
                None => {}
            }
        }
    }
}

fn cookie_of(page: usize, index: usize) -> u64 {
    (page * PAGE_ENTRIES + index) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(names: &[&'static str]) -> Vec<Entry> {
        let entry = |name: &&'static str| Entry {
            name: Bytes::from_static(name.as_bytes()),
            attr: None,
        };
        names.iter().map(entry).collect()
    }

    #[test]
    fn a_page_that_is_read_again_has_names_where_they_were() {
        let mut pages = Pages::default();
        assert_eq!(pages.end(), Some(Bytes::new()));
        pages.add(Bytes::new(), entries(&["a", "b", "d", "e"]));
        assert_eq!(pages.end(), None, "a page that is not full is the last");
        let again = pages.seen[0].place(entries(&["a", "c", "d", "e"]));
        let found: Vec<(usize, &[u8])> = again.iter().map(|(at, entry)| (*at, &entry.name[..])).collect();
        assert_eq!(found, [(0, &b"a"[..]), (2, b"d"), (3, b"e")]);
        assert!(pages.add(Bytes::new(), Vec::new()).is_none());
    }
}
