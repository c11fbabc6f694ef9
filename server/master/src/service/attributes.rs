//! Attributes on their way to and from under-storages: what goes with an upload, changes of them alone, and what a listing does
//! not show of names that are new.

use alluxio_proto::types::{FileKind, Xattr};
use alluxio_proto::{FsResult, InodeId, MountId};
use alluxio_ufs::{UfsAttributes, UfsError, UfsErrorKind, UfsResult, UfsStatus, UnderFileSystem};
use bytes::Bytes;

use super::load::is_absent;
use super::mounts::able;
use super::ufs_ops::{Bound, Change, status_if_any};
use super::{Core, show};
use crate::state::{Inode, Intent, UfsLocation};

/// After so many times the wait, attributes that change on and on are stored all the same.
const WAITS_MAX: i64 = 10;

/// As messages have them.
pub(super) fn pairs(xattrs: Vec<(Bytes, Bytes)>) -> Vec<Xattr> {
    let pairs = xattrs.into_iter().map(|(name, value)| Xattr { name, value });
    pairs.collect()
}

impl Core {
    /// All that an under-storage can be given of an inode; nothing of one that is gone.
    pub(super) fn attributes_of(&self, inode: Option<&Inode>) -> FsResult<UfsAttributes> {
        let Some(inode) = inode else {
            return Ok(UfsAttributes::default());
        };
        Ok(UfsAttributes {
            mode: Some(inode.mode),
            owner: Some(inode.owner.clone()),
            group: Some(inode.group.clone()),
            mtime_ns: Some(inode.mtime_ns),
            atime_ns: Some(inode.atime_ns),
            xattrs: Some(self.state.user_xattrs(inode)?),
            write_id: None,
            carried: None,
        })
    }

    /// Extended attributes that go with an upload.
    pub(super) fn xattrs_of(&self, inode: &Inode) -> FsResult<Vec<Xattr>> {
        Ok(pairs(self.state.user_xattrs(inode)?))
    }

    /// When a change of attributes should be made: some time after the last one that it stands for. A folder of this host takes
    /// them soon; an object, by a copy.
    pub(super) fn ripe_attributes_ns(&self, intent: &Intent) -> i64 {
        let is_folder = self.ufs.of(MountId(intent.mount_id));
        let is_folder = is_folder.is_ok_and(|ufs| ufs.capabilities().real_directories);
        let wait = match is_folder {
            true => self.settings.persist_wait,
            false => self.settings.attributes_wait,
        };
        let wait_ns = i64::try_from(wait.as_nanos()).unwrap_or(i64::MAX);
        let since_ns = match intent.changed_since_ns {
            0 => intent.created_ns,
            since_ns => since_ns,
        };
        let latest_ns = since_ns.saturating_add(wait_ns.saturating_mul(WAITS_MAX));
        intent.created_ns.saturating_add(wait_ns).min(latest_ns)
    }

    /// Gives what is stored of an inode the attributes that it has by now. Somebody else's object keeps its own.
    pub(super) async fn set_stored_attributes(
        &self,
        ufs: &dyn UnderFileSystem,
        intent: &Intent,
        inode: Option<&Inode>,
    ) -> UfsResult<Change> {
        // One that has lost its name since is still told of: the delete behind this wants to know what it leaves.
        let Some(inode) = inode else {
            return Ok(Change::skipped());
        };
        // Nothing of it is there: its upload brings its attributes along.
        if !inode.is_dir() && inode.fingerprint().is_empty() {
            return Ok(Change::skipped());
        }
        let wanted = self.attributes_of(Some(inode));
        let mut wanted = wanted.map_err(|error| UfsError::new(UfsErrorKind::Other, error.message))?;
        if inode.is_dir() && ufs.capabilities().real_directories {
            // It has its own, by what is made in it.
            wanted.mtime_ns = None;
        }
        let set = async |known: &str| ufs.set_attributes(&intent.path, inode.kind(), &wanted, known).await;
        let mut done = set(inode.fingerprint()).await;
        if done
            .as_ref()
            .is_err_and(|error| error.kind == UfsErrorKind::PreconditionFailed)
            && let Some(copy) = self.copy_of_bound(ufs, intent, inode).await?
        {
            done = set(&copy).await;
        }
        match done {
            Ok(Some(fingerprint)) => Ok(Change {
                fingerprint,
                ..Change::default()
            }),
            Ok(None) => Ok(Change::skipped()),
            Err(error) if is_absent(&error) => Ok(Change::skipped()),
            Err(error) if error.kind == UfsErrorKind::PreconditionFailed => {
                tracing::info!(path = %show(&intent.path), "the object keeps its attributes: it is another one now");
                self.loader.forget(inode.inode_id());
                Ok(Change::skipped())
            }
            Err(error) => Err(error),
        }
    }

    /// Fingerprint of what is there, if it is a copy of what the inode is bound to, which the rename of a folder made.
    async fn copy_of_bound(
        &self,
        ufs: &dyn UnderFileSystem,
        intent: &Intent,
        inode: &Inode,
    ) -> UfsResult<Option<String>> {
        let Some(bound) = Bound::of(Some(inode)) else {
            return Ok(None);
        };
        let there = status_if_any(ufs, &intent.path).await?;
        let copy = there.filter(|there| bound.is_copy(intent.inode, there, &self.state.cluster_id()));
        Ok(copy.map(|copy| copy.fingerprint))
    }

    /// Fills in what a page of a listing leaves out, of names that are new and of objects that are others than were known.
    pub(super) async fn complete(
        &self,
        ufs: &dyn UnderFileSystem,
        dir: InodeId,
        at: &UfsLocation,
        mut entries: Vec<UfsStatus>,
    ) -> FsResult<Vec<UfsStatus>> {
        let mut count = 0;
        for entry in entries.iter_mut().filter(|entry| entry.is_partial) {
            if let Some(known) = self.state.lookup(dir, &entry.name)? {
                entry.is_partial = !is_as_listed(&known, entry);
                if !entry.is_partial {
                    // The listing shows a link as a file.
                    entry.kind = known.kind();
                }
            }
            count += u64::from(entry.is_partial);
        }
        if count == 0 {
            return Ok(entries);
        }
        self.metrics.ufs_status_calls.add(count);
        let completed = ufs.complete(&at.path, entries).await;
        completed.map_err(|error| self.ufs_error(at, "read the attributes of what is in", error))
    }

    /// What the stores of mounts can do by this software, which older software may not have known.
    pub(super) async fn adopt_abilities(&self) -> FsResult<()> {
        for mount in self.state.mounts() {
            let Ok(ufs) = self.ufs.of(MountId(mount.id)) else {
                continue;
            };
            let can = ufs.capabilities();
            let is_known = mount.spec.as_ref().is_some_and(|spec| {
                spec.stores_symlinks == can.symlinks && spec.stores_attributes == can.keeps_attributes
            });
            if is_known {
                continue;
            }
            let options = super::credentials::options_of(self.ufs.secret(), &mount)?;
            let change = able(self.with_options(&mount, options, false)?, can);
            match self.propose_own(change).await {
                Ok(_) => {}
                Err(error) if error.is_retryable() => {
                    tracing::warn!(mount = mount.id, %error, "attributes are not stored before the next start");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Whether a listing shows what is known already.
fn is_as_listed(known: &Inode, listed: &UfsStatus) -> bool {
    match listed.kind {
        FileKind::Directory => known.is_dir(),
        _ => !known.is_dir() && known.fingerprint() == listed.fingerprint,
    }
}
