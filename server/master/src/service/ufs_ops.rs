//! What each kind of intent does to an under-storage. Each can be repeated: a crash may have cut short the last attempt.

use alluxio_proto::types::FileKind;
use alluxio_ufs::{BytesSource, Expect, UfsAttributes, UfsErrorKind, UfsResult, UfsStatus, UnderFileSystem};
use bytes::{Bytes, BytesMut};

use super::load::{PAGE_ENTRIES, is_absent};
use super::show;
use crate::state::{Inode, Intent};

/// What became of the store's part.
#[derive(Debug, Default)]
pub(super) struct Change {
    pub fingerprint: String,
    /// Nothing was there to be done.
    pub skipped: bool,
    /// Of a copy to another mount: of what was copied.
    pub source_fingerprint: String,
}

impl Change {
    pub fn skipped() -> Self {
        Self {
            skipped: true,
            ..Self::default()
        }
    }
    pub fn of(status: UfsStatus) -> Self {
        Self {
            fingerprint: status.fingerprint,
            ..Self::default()
        }
    }
}

pub(super) fn attributes(inode: Option<&Inode>) -> UfsAttributes {
    inode.map_or_else(UfsAttributes::default, |inode| UfsAttributes {
        mode: Some(inode.mode),
        owner: Some(inode.owner.clone()),
        group: Some(inode.group.clone()),
        mtime_ns: Some(inode.mtime_ns),
        write_id: None,
    })
}

pub(super) async fn status_if_any(ufs: &dyn UnderFileSystem, path: &[u8]) -> UfsResult<Option<UfsStatus>> {
    match ufs.status(path).await {
        Ok(status) => Ok(Some(status)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) async fn upload_nothing(
    ufs: &dyn UnderFileSystem,
    intent: &Intent,
    inode: Option<&Inode>,
) -> UfsResult<Change> {
    let source = BytesSource(Bytes::new());
    // What is there is replaced: the namespace says that this name is an empty file.
    let written = ufs
        .write(&intent.path, &source, &Expect::Any, &attributes(inode))
        .await?;
    Ok(Change::of(written))
}

/// Deletes a file if it is still ours; what somebody else has put in its place stays.
pub(super) async fn delete(ufs: &dyn UnderFileSystem, intent: &Intent) -> UfsResult<Change> {
    let Some(there) = status_if_any(ufs, &intent.path).await? else {
        return Ok(Change::skipped());
    };
    if there.kind == FileKind::Directory || !is_ours(intent, &there) {
        tracing::info!(path = %show(&intent.path), "not deleted: the object is another one now");
        return Ok(Change::skipped());
    }
    for result in ufs.delete(std::slice::from_ref(&intent.path)).await {
        result?;
    }
    Ok(Change::default())
}

/// Whether what is there is what the intent is about.
pub(super) fn is_ours(intent: &Intent, there: &UfsStatus) -> bool {
    let recent = there.mtime_ns >= intent.created_ns.saturating_sub(CLOCK_SLACK_NS);
    intent.expect.contains(&there.fingerprint) || (recent && intent.expect_lengths.contains(&there.length))
}

/// An object that is this much older than an intent to delete or move it may be ours by length all the same: uploads take a
/// while, and the store's clock is another one.
const CLOCK_SLACK_NS: i64 = 3600 * 1_000_000_000;

/// A folder that is being emptied: the rest of the page of its listing.
struct Frame {
    path: Bytes,
    folders: Vec<Bytes>,
    token: Option<alluxio_ufs::PageToken>,
    listed: bool,
}

impl Frame {
    fn new(path: Bytes) -> Self {
        Self {
            path,
            folders: Vec::new(),
            token: None,
            listed: false,
        }
    }
}

/// Deletes a folder with all beneath it, depth first, holding one page per level.
pub(super) async fn delete_tree(ufs: &dyn UnderFileSystem, path: &Bytes) -> UfsResult<Change> {
    let mut stack = vec![Frame::new(path.clone())];
    while let Some(frame) = stack.last_mut() {
        if let Some(folder) = frame.folders.pop() {
            stack.push(Frame::new(folder));
        } else if !frame.listed || frame.token.is_some() {
            empty_page(ufs, frame).await?;
        } else {
            match ufs.rmdir(&frame.path).await {
                Ok(()) => {}
                Err(error) if is_absent(&error) => {}
                Err(error) => return Err(error),
            }
            stack.pop();
        }
    }
    Ok(Change::default())
}

async fn empty_page(ufs: &dyn UnderFileSystem, frame: &mut Frame) -> UfsResult<()> {
    let page = match ufs.list(&frame.path, frame.token.take(), PAGE_ENTRIES).await {
        Ok(page) => page,
        Err(error) if is_absent(&error) => Default::default(),
        Err(error) => return Err(error),
    };
    frame.listed = true;
    frame.token = page.next;
    let mut files = Vec::new();
    for entry in page.entries {
        let path = join(&frame.path, &entry.name);
        if entry.kind == FileKind::Directory {
            frame.folders.push(path);
        } else {
            files.push(path);
        }
    }
    if !files.is_empty() {
        for result in ufs.delete(&files).await {
            result?;
        }
    }
    Ok(())
}

pub(super) fn join(dir: &[u8], name: &[u8]) -> Bytes {
    let mut path = BytesMut::with_capacity(dir.len() + 1 + name.len());
    path.extend_from_slice(dir);
    if !dir.is_empty() {
        path.extend_from_slice(b"/");
    }
    path.extend_from_slice(name);
    path.freeze()
}

pub(super) async fn rename(ufs: &dyn UnderFileSystem, intent: &Intent) -> UfsResult<Change> {
    if intent.inode_kind() != FileKind::Directory {
        match status_if_any(ufs, &intent.path).await? {
            // Done by an attempt that could not say so, or nothing to rename.
            None => {
                let moved = status_if_any(ufs, &intent.to_path).await?;
                return Ok(moved.map_or_else(Change::skipped, Change::of));
            }
            Some(there) if !intent.expect.is_empty() && !is_ours(intent, &there) => {
                tracing::info!(path = %show(&intent.path), "not renamed: the object is another one now");
                return Ok(Change::skipped());
            }
            Some(_) => {}
        }
    }
    match ufs.rename(&intent.path, &intent.to_path).await {
        Ok(status) => Ok(Change::of(status)),
        Err(error) if error.kind == UfsErrorKind::NotFound => Ok(Change::skipped()),
        Err(error) => Err(error),
    }
}

/// Where folders are only prefixes of keys, one with something in it needs no marker.
pub(super) async fn mkdir(ufs: &dyn UnderFileSystem, intent: &Intent, inode: Option<&Inode>) -> UfsResult<Change> {
    let needs_marker = inode.is_none_or(|inode| inode.entries == 0);
    if ufs.capabilities().real_directories || needs_marker {
        ufs.mkdir(&intent.path, &attributes(inode)).await?;
    }
    Ok(Change::default())
}

pub(super) async fn rmdir(ufs: &dyn UnderFileSystem, intent: &Intent) -> UfsResult<Change> {
    match ufs.rmdir(&intent.path).await {
        Ok(()) => Ok(Change::default()),
        Err(error) if is_absent(&error) => Ok(Change::skipped()),
        // Others have put something in it; the next look at the parent shows it.
        Err(error) if error.kind == UfsErrorKind::NotEmpty => Ok(Change::skipped()),
        Err(error) => Err(error),
    }
}

pub(super) async fn set_attributes(
    ufs: &dyn UnderFileSystem,
    intent: &Intent,
    inode: Option<&Inode>,
) -> UfsResult<Change> {
    let mut wanted = attributes(inode);
    if intent.inode_kind() == FileKind::Directory {
        wanted.mtime_ns = None;
    }
    match ufs.set_attributes(&intent.path, &wanted).await {
        Ok(true) => {
            let now = status_if_any(ufs, &intent.path).await?;
            Ok(now.map_or_else(Change::skipped, Change::of))
        }
        Ok(false) => Ok(Change::skipped()),
        Err(error) if is_absent(&error) || error.kind == UfsErrorKind::Unsupported => Ok(Change::skipped()),
        Err(error) => Err(error),
    }
}

pub(super) async fn symlink(ufs: &dyn UnderFileSystem, intent: &Intent, inode: Option<&Inode>) -> UfsResult<Change> {
    let Some(inode) = inode else {
        return Ok(Change::skipped());
    };
    match ufs.symlink(&intent.path, &inode.symlink_target).await {
        Ok(()) => {}
        Err(error) if error.kind == UfsErrorKind::AlreadyExists => {
            let there = status_if_any(ufs, &intent.path).await?;
            let same = there.and_then(|there| there.symlink_target).as_ref() == Some(&inode.symlink_target);
            if !same {
                // What is there was taken over with the name; a link replaces it.
                for result in ufs.delete(std::slice::from_ref(&intent.path)).await {
                    result?;
                }
                ufs.symlink(&intent.path, &inode.symlink_target).await?;
            }
        }
        Err(error) if error.kind == UfsErrorKind::Unsupported => return Ok(Change::skipped()),
        Err(error) => return Err(error),
    }
    let there = status_if_any(ufs, &intent.path).await?;
    Ok(there.map_or_else(Change::default, Change::of))
}
