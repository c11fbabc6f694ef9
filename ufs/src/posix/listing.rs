//! Pages of a directory, by name in byte order.
//!
//! The names of a directory are read and sorted once and kept for the pages that follow; each page stats only its own. A
//! directory too large to keep, or one whose names were given up for others, is read again for the next page: slower, never
//! wrong. Names made after the first page may not be shown, ones that are gone are left out.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use alluxio_common::sync::Mutex;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::errno::error;
use super::root::{Root, TEMP_DIR};
use crate::{PageToken, UfsError, UfsErrorKind, UfsMetrics, UfsPage, UfsResult};

/// Listings that are remembered at a time.
const SNAPSHOTS_MAX: usize = 8;
/// Larger directories are read again for each page. With 8 of them: at most 64 MiB, and only of listings
/// that go on, or were given up half-way.
const SNAPSHOT_BYTES_MAX: usize = 8 << 20;
/// What a name costs beyond its bytes.
const NAME_OVERHEAD_BYTES: usize = 16;

type SortedNames = Arc<Vec<Box<[u8]>>>;

/// Sorted names of directories that are being listed.
#[derive(Debug, Default)]
pub(super) struct Snapshots(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    next_id: u64,
    /// Least recently used first.
    snapshots: VecDeque<(u64, SortedNames)>,
}

impl Snapshots {
    fn take(&self, id: u64) -> Option<SortedNames> {
        let mut kept = self.0.lock();
        let place = kept.snapshots.iter().position(|(known, _)| *known == id)?;
        Some(kept.snapshots.remove(place)?.1)
    }

    fn keep(&self, names: SortedNames) -> u64 {
        let bytes: usize = names.iter().map(|name| name.len() + NAME_OVERHEAD_BYTES).sum();
        let mut kept = self.0.lock();
        kept.next_id += 1;
        let id = kept.next_id;
        if bytes <= SNAPSHOT_BYTES_MAX {
            if kept.snapshots.len() >= SNAPSHOTS_MAX {
                kept.snapshots.pop_front();
            }
            kept.snapshots.push_back((id, names));
        }
        id
    }
}

/// A token: id of the snapshot, last name given.
fn decode(token: &PageToken) -> Option<(u64, Bytes)> {
    let mut bytes = token.0.clone();
    let id = bytes.try_get_u64().ok()?;
    Some((id, bytes))
}

fn encode(id: u64, last: &[u8]) -> PageToken {
    let mut bytes = BytesMut::new();
    bytes.put_u64(id);
    bytes.put_slice(last);
    PageToken(bytes.freeze())
}

impl Root {
    pub(super) fn list(&self, path: &[u8], token: Option<&PageToken>, limit: usize) -> UfsResult<UfsPage> {
        UfsMetrics::add(&self.metrics.requests, 1);
        let directory = self.open_beneath(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
        let position = match token {
            Some(token) => Some(
                decode(token)
                    .ok_or_else(|| UfsError::new(UfsErrorKind::Invalid, "the page token is none of this store's"))?,
            ),
            None => None,
        };
        let kept = position.as_ref().and_then(|(id, _)| self.snapshots.take(*id));
        let names = match kept {
            Some(names) => names,
            None => {
                let again = directory
                    .try_clone()
                    .map_err(|error| super::errno::io_error(&error, "list", path))?;
                Arc::new(sorted_names(again, path)?)
            }
        };
        let start = position.map_or(0, |(_, last)| names.partition_point(|name| **name <= last[..]));
        let mut page = UfsPage::default();
        let mut last: &[u8] = &[];
        for name in &names[start..] {
            if page.entries.len() == limit {
                page.next = Some(encode(self.snapshots.keep(names.clone()), last));
                break;
            }
            last = name;
            match self.status_at(&directory, OsStr::from_bytes(name)) {
                Ok(status) => page.entries.push(status),
                // Gone since the names were read.
                Err(Errno::ENOENT) => {}
                Err(errno) => return Err(error(errno, "stat", &crate::path::join(path, name))),
            }
        }
        Ok(page)
    }
}

fn sorted_names(directory: std::os::fd::OwnedFd, path: &[u8]) -> UfsResult<Vec<Box<[u8]>>> {
    let fail = |errno| error(errno, "list", path);
    let mut names = Vec::new();
    for entry in Dir::from_fd(directory).map_err(fail)?.iter() {
        let entry = entry.map_err(fail)?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." || (path.is_empty() && name == TEMP_DIR) {
            continue;
        }
        names.push(Box::from(name));
    }
    names.sort_unstable();
    Ok(names)
}
