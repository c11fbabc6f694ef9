//! Moving between two mounts: what is made known before a rename, what both stores show of one object of it, and its copy inside
//! the store where both mounts are of one. Any other copy is made by a worker (`copies`): no data of files passes the master.
//!
//! What was copied is deleted by another step, once the journal has the copy.

use alluxio_proto::types::FileKind;
use alluxio_proto::{ErrorKind, FsResult, InodeId, MountId, PATH_BYTES_MAX};
use alluxio_ufs::{Expect, Inside, UfsAttributes, UfsError, UfsErrorKind, UfsResult, UfsStatus, UnderFileSystem};
use bytes::Bytes;
use std::sync::Arc;

use super::ufs_ops::{Change, is_ours, join, status_if_any};
use super::{Core, error, show};
use crate::state::command::ACROSS_INODES_MAX;
use crate::state::{Inode, Intent, UfsLocation};

/// Names read from the state at once.
const NAMES_PER_PAGE: usize = 1000;

/// What is to be done of a rename to another mount, as both stores show it now.
#[derive(Debug)]
pub(super) enum Step {
    /// Nothing is to be copied (any more).
    Done(Box<Change>),
    Copy(Box<Planned>),
}

/// A copy that is to be made.
#[derive(Debug)]
pub(super) struct Planned {
    pub source: UfsStatus,
    /// What is at the target.
    pub expect: Expect,
    /// What the copy is to have; its name among it.
    pub wanted: UfsAttributes,
}

/// The source can be deleted, for there is this copy of it; empty: nobody wants one.
pub(super) fn deletable(copied: String, source_fingerprint: String) -> Change {
    Change {
        fingerprint: copied,
        source_fingerprint,
        ..Change::default()
    }
}

/// Looks at both stores. It can be repeated: a copy that an earlier attempt made is recognized by its name where the store keeps
/// one, and otherwise made again, over whatever is at the target.
pub(super) async fn look(
    from: &dyn UnderFileSystem,
    to: &dyn UnderFileSystem,
    intent: &Intent,
    inode: Option<&Inode>,
    attributes: UfsAttributes,
    cluster: &str,
) -> UfsResult<Step> {
    let Some(source) = status_if_any(from, &intent.path).await? else {
        return Ok(Step::Done(Box::new(Change::skipped())));
    };
    if source.kind != FileKind::File || !is_ours(intent, &source, cluster) {
        tracing::info!(path = %show(&intent.path), "not moved to another mount: the object is another one now");
        return Ok(Step::Done(Box::new(Change::skipped())));
    }
    let target = status_if_any(to, &intent.to_path).await?;
    let write_id = source.write_id.clone();
    let write_id = write_id.unwrap_or_else(|| name_of(intent, &source.fingerprint));
    let is_copy = |there: &UfsStatus| there.write_id.as_ref() == Some(&write_id) && there.length == source.length;
    if inode.is_none_or(|inode| inode.nlink == 0) && !target.as_ref().is_some_and(is_copy) {
        // Removed meanwhile, and no earlier attempt has left a copy that is known for one: nobody wants one, and what is there is not
        // to be written over for it.
        return Ok(Step::Done(Box::new(deletable(String::new(), source.fingerprint))));
    }
    let mut wanted = attributes;
    let written_since = |inode: &Inode| inode.ufs.as_ref().is_some_and(|ufs| ufs.version != inode.version);
    if inode.is_none_or(written_since) {
        // The upload that follows has the new time.
        wanted.mtime_ns = Some(source.mtime_ns);
    }
    wanted.write_id = Some(write_id.clone());
    let expect = match target {
        Some(there) if there.kind == FileKind::Directory => {
            let why = format!("copy to {}: a directory is there", show(&intent.to_path));
            return Err(UfsError::new(UfsErrorKind::IsADirectory, why));
        }
        Some(there) if is_copy(&there) => {
            return Ok(Step::Done(Box::new(deletable(there.fingerprint, source.fingerprint))));
        }
        _ if !to.capabilities().conditional_write => Expect::Any,
        Some(there) => Expect::Fingerprint(there.fingerprint),
        None => Expect::Absent,
    };
    Ok(Step::Copy(Box::new(Planned { source, expect, wanted })))
}

/// Has the store that both mounts are of make the copy. The copy is looked at before it is called one.
pub(super) async fn copy_inside(
    from: &dyn UnderFileSystem,
    to: &dyn UnderFileSystem,
    intent: &Intent,
    copy: &Planned,
) -> UfsResult<Change> {
    let export = from.export(&intent.path, &copy.source.fingerprint).await?;
    let (target, how) = (&intent.to_path, Inside::ByReference);
    let made = to.import(&export, target, &copy.expect, &copy.wanted, how).await?;
    let there = to.status(target).await?;
    if there.fingerprint != made.fingerprint || there.length != copy.source.length {
        let message = format!("{} is not what was copied there", show(target));
        return Err(UfsError::new(UfsErrorKind::PreconditionFailed, message));
    }
    // Also for stores that ignore the condition on a copy.
    let source = status_if_any(from, &intent.path).await?;
    if source.is_none_or(|source| source.fingerprint != copy.source.fingerprint) {
        let message = format!("{} was replaced while it was copied", show(&intent.path));
        return Err(UfsError::new(UfsErrorKind::PreconditionFailed, message));
    }
    Ok(deletable(there.fingerprint, copy.source.fingerprint.clone()))
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
