//! Moving between two mounts: what is made known before a rename, and the copy of one object that its intent is.
//!
//! Bytes go through the master, a range at a time, each read conditional on the fingerprint that was seen first. The copy is
//! looked at before it is called one; what was copied is deleted by another step, once the journal has the copy.

use alluxio_proto::types::FileKind;
use alluxio_proto::{ErrorKind, FsResult, InodeId, MountId, PATH_BYTES_MAX};
use alluxio_ufs::{Expect, UfsAttributes, UfsError, UfsErrorKind, UfsResult, UnderFileSystem, UploadSource};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use std::sync::Arc;

use super::ufs_ops::{Change, is_ours, join, status_if_any};
use super::{Core, error, show};
use crate::state::command::ACROSS_INODES_MAX;
use crate::state::{Inode, Intent, UfsLocation};

/// Copies that run at once between two mounts; each holds what the target's adapter has in flight of one upload.
pub(super) const COPIES_PER_PAIR: usize = 4;
/// Names read from the state at once.
const NAMES_PER_PAGE: usize = 1000;

/// An object on its way.
struct Copied<'a> {
    ufs: &'a dyn UnderFileSystem,
    path: &'a Bytes,
    fingerprint: &'a str,
    length: u64,
}

#[async_trait::async_trait]
impl UploadSource for Copied<'_> {
    fn length(&self) -> u64 {
        self.length
    }

    async fn read_at(&self, offset: u64, length: u64) -> UfsResult<Bytes> {
        let short = |got: usize| {
            let message = format!("read {}: {got} bytes instead of {length} at {offset}", show(self.path));
            UfsError::new(UfsErrorKind::Other, message)
        };
        let end = offset.checked_add(length).filter(|end| *end <= self.length);
        let end = end.ok_or_else(|| short(0))?;
        let mut bytes = BytesMut::with_capacity(length as usize);
        if length == 0 {
            return Ok(bytes.freeze());
        }
        let mut stream = self.ufs.read(self.path, offset..end, self.fingerprint).await?;
        while let Some(piece) = stream.next().await {
            bytes.extend_from_slice(&piece?);
        }
        match bytes.len() as u64 == length {
            true => Ok(bytes.freeze()),
            false => Err(short(bytes.len())),
        }
    }
}

/// Copies the object of a rename to another mount, over whatever is at the target. It can be repeated: a copy that an earlier
/// attempt made is recognized by its name where the store keeps one, and otherwise made again.
pub(super) async fn copy(
    from: &dyn UnderFileSystem,
    to: &dyn UnderFileSystem,
    intent: &Intent,
    inode: Option<&Inode>,
    attributes: UfsAttributes,
    cluster: &str,
) -> UfsResult<Change> {
    let Some(source) = status_if_any(from, &intent.path).await? else {
        return Ok(Change::skipped());
    };
    if source.kind != FileKind::File || !is_ours(intent, &source, cluster) {
        tracing::info!(path = %show(&intent.path), "not moved to another mount: the object is another one now");
        return Ok(Change::skipped());
    }
    let deletable = |copied: String| Change {
        fingerprint: copied,
        skipped: false,
        source_fingerprint: source.fingerprint.clone(),
        ..Change::default()
    };
    let target = status_if_any(to, &intent.to_path).await?;
    if target.is_none() && inode.is_none_or(|inode| inode.nlink == 0) {
        // Removed meanwhile, and no earlier attempt has left a copy: nobody wants one.
        return Ok(deletable(String::new()));
    }
    let mut wanted = attributes;
    let written_since = |inode: &Inode| inode.ufs.as_ref().is_some_and(|ufs| ufs.version != inode.version);
    if inode.is_none_or(written_since) {
        // The upload that follows has the new time.
        wanted.mtime_ns = Some(source.mtime_ns);
    }
    let write_id = source
        .write_id
        .clone()
        .unwrap_or_else(|| name_of(intent, &source.fingerprint));
    wanted.write_id = Some(write_id.clone());
    let expect = match target {
        Some(there) if there.write_id.as_ref() == Some(&write_id) && there.length == source.length => {
            return Ok(deletable(there.fingerprint));
        }
        _ if !to.capabilities().conditional_write => Expect::Any,
        Some(there) => Expect::Fingerprint(there.fingerprint),
        None => Expect::Absent,
    };
    let object = Copied {
        ufs: from,
        path: &intent.path,
        fingerprint: &source.fingerprint,
        length: source.length,
    };
    let written = to.write(&intent.to_path, &object, &expect, &wanted).await?;
    let there = to.status(&intent.to_path).await?;
    if there.fingerprint != written.fingerprint || there.length != source.length {
        let message = format!("{} is not what was copied there", show(&intent.to_path));
        return Err(UfsError::new(UfsErrorKind::PreconditionFailed, message));
    }
    Ok(deletable(there.fingerprint))
}

/// Names the bytes of a copy whose source has no name: what has it is this copy, from an attempt that could not say so.
fn name_of(intent: &Intent, fingerprint: &str) -> String {
    let words = fingerprint.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-');
    let words: String = words.collect();
    format!("moved-{:x}-{:x}-{words}", intent.id, intent.created_ns)
}

impl Core {
    /// Makes known all that lies in a directory that is to move to `to`, and refuses what the other under-storage could not
    /// hold. The state judges again, of what it knows then.
    pub(super) async fn know_tree(self: &Arc<Self>, top: &Inode, to: UfsLocation) -> FsResult<()> {
        let ufs = self.ufs.of(to.mount)?;
        let mut dirs = vec![(top.inode_id(), to.path)];
        let mut seen = 1usize;
        while let Some((id, path)) = dirs.pop() {
            self.ensure_loaded(&*self.state.inode(id)?).await?;
            let mut after = Bytes::new();
            loop {
                let page = self.state.list(id, &after, NAMES_PER_PAGE)?;
                let Some((last, _)) = page.last() else { break };
                after = last.clone();
                seen += page.len();
                if seen > ACROSS_INODES_MAX {
                    let why = format!(
                        "more than {ACROSS_INODES_MAX} files and directories do not move to another mount at once"
                    );
                    return error(ErrorKind::CrossesMounts, why);
                }
                for (name, inode) in page {
                    let path = join(&path, &name);
                    if path.len() + 1 >= PATH_BYTES_MAX {
                        let why = format!("a path of {} bytes in its under-storage", path.len() + 1);
                        return error(ErrorKind::NameTooLong, why);
                    }
                    if inode.is_dir() || inode.is_file() {
                        ufs.check_path(&path)?;
                    }
                    if inode.is_dir() && inode.mount_id == top.mount_id {
                        dirs.push((inode.inode_id(), path));
                    }
                }
            }
        }
        Ok(())
    }

    /// Where a directory would move by this rename, if that is another mount.
    pub(super) fn moves_across(&self, parent: u64, new_parent: u64, new_name: &[u8]) -> FsResult<Option<UfsLocation>> {
        let mount = |id| self.state.inode(InodeId(id)).map(|dir| MountId(dir.mount_id));
        // Missing ones are for the state to name.
        let (Ok(from), Ok(to)) = (mount(parent), mount(new_parent)) else {
            return Ok(None);
        };
        match from == to {
            true => Ok(None),
            false => self.state.ufs_path_of_name(InodeId(new_parent), new_name).map(Some),
        }
    }
}
