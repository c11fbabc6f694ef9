//! Names: looking up, listing, making, renaming and removing them, and attributes.
//!
//! Before a change of names, what the under-storage has under these names is made known; then the state decides. A failed
//! look is not the last word on a *retry* of a change that was done already: the retry cache in the state is asked first.

use alluxio_proto::master::{
    ACCESSED_MAX, Counted, Create, Delete, DirPage, Empty, GetAttr, Link, LinkTarget, Lookup, Mkdir, Mknod, Opened,
    ReadDir, ReadLink, Removed, Rename, ResolvePath, Rmdir, SetAttr, Symlink, Tmpfile, TouchAtimes, Unlink,
};
use alluxio_proto::types::{Attr, Caller, Entry, FileKind};
use alluxio_proto::{ErrorKind, FsResult, InodeId, NAME_BYTES_MAX, PATH_BYTES_MAX};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

use super::sessions::Removal;
use super::settings::SyncInterval;
use super::{Core, Ctx, error, show};
use crate::state::command::{self, ApplySync, SyncRemoval};
use crate::state::{Applied, Inode};

/// How long a kernel may cache what only we change.
const CACHE_OURS_MS: u64 = 3_600_000;
/// Shortest time that is worth caching.
const CACHE_MIN_MS: u64 = 1_000;
/// Bytes of entries in one answer, far below the limit of a frame; a single entry has about 200.
const PAGE_BYTES_MAX: usize = 1 << 20;
const READ: u32 = 4;
/// Names looked at before a folder is moved to a longer path; some milliseconds. Should one beyond be too long, its upload or
/// the rename is refused by the store, which a person sees.
const BENEATH_MAX: usize = 10_000;
/// How often a name is looked at anew that is given to another inode between the look and the change.
const LOOKS_MAX: usize = 16;
pub(super) const WRITE: u32 = 2;
pub(super) const EXECUTE: u32 = 1;

impl Core {
    /// Attributes with how long they may be cached. What a writer has synced counts: whoever reads it is answered by its home,
    /// and a copy of a file that is as long as its last close would lack what is there.
    pub(super) fn attr_of(&self, inode: &Inode) -> Attr {
        let mut attr = self.committed_attr_of(inode);
        if let Some(open) = &inode.open
            && let Some(length) = open.durable_length
        {
            attr.size = length;
            attr.mtime_ns = attr.mtime_ns.max(open.durable_mtime_ns);
            attr.ctime_ns = attr.ctime_ns.max(attr.mtime_ns);
        }
        attr
    }

    /// As [`Self::attr_of`], of the version that was committed last: what an opening starts from.
    pub(super) fn committed_attr_of(&self, inode: &Inode) -> Attr {
        let mut attr = inode.to_attr();
        attr.cache_ms = self.cache_ms(inode);
        attr
    }

    fn cache_ms(&self, inode: &Inode) -> u64 {
        if !Self::is_backed(inode) {
            return CACHE_OURS_MS;
        }
        match self.ufs.sync_interval(inode.mount()) {
            SyncInterval::Never => CACHE_OURS_MS,
            SyncInterval::Every(Duration::ZERO) => 0,
            SyncInterval::Every(every) => u64::try_from(every.as_millis())
                .unwrap_or(CACHE_OURS_MS)
                .max(CACHE_MIN_MS),
        }
    }

    /// The answer to a command about one inode.
    pub(super) fn attr_applied(&self, applied: Applied) -> FsResult<Attr> {
        match applied.inode {
            Some(inode) => Ok(self.attr_of(&inode)),
            None => error(ErrorKind::Internal, "a command was applied without saying to what"),
        }
    }

    pub(super) async fn lookup(self: &Arc<Self>, op: Lookup) -> FsResult<Attr> {
        self.metrics.lookups.inc();
        let inode = self.find_existing(InodeId(op.parent), &op.name).await?;
        Ok(self.attr_of(&inode))
    }

    pub(super) async fn get_attr(self: &Arc<Self>, op: GetAttr) -> FsResult<Attr> {
        self.metrics.file_infos_got.inc();
        let inode = self.state.inode(InodeId(op.inode))?;
        if !inode.is_dir() && self.is_look_due(&inode) {
            self.refresh_inode(&inode).await?;
            return Ok(self.attr_of(&*self.state.inode(InodeId(op.inode))?));
        }
        Ok(self.attr_of(&inode))
    }

    pub(super) async fn resolve_path(self: &Arc<Self>, ctx: &Ctx, op: ResolvePath) -> FsResult<Attr> {
        if !op.refresh || components(&op.path).next().is_none() {
            let inode = self.resolve(ctx, &op.path).await?;
            return Ok(self.attr_of(&inode));
        }
        let (parent, name) = self.resolve_parent(ctx, &op.path).await?;
        check_access(ctx, &parent, EXECUTE)?;
        self.look_now(&parent, &name).await?;
        let inode = self.find_existing(parent.inode_id(), &name).await?;
        Ok(self.attr_of(&inode))
    }

    /// The inode at a path, with names loaded on the way. The caller must be allowed to search each directory.
    pub(super) async fn resolve(self: &Arc<Self>, ctx: &Ctx, path: &[u8]) -> FsResult<Arc<Inode>> {
        check_path(path)?;
        let mut at = self.state.inode(InodeId::ROOT)?;
        for name in components(path) {
            if !at.is_dir() {
                return error(
                    ErrorKind::NotADirectory,
                    format!("{}: a component is no directory", show(path)),
                );
            }
            check_access(ctx, &at, EXECUTE)?;
            let name = Bytes::copy_from_slice(name);
            at = match self.find(at.inode_id(), &name).await? {
                Some(inode) => inode,
                None => {
                    return error(
                        ErrorKind::NotFound,
                        format!("{}: no such file or directory", show(path)),
                    );
                }
            };
        }
        Ok(at)
    }

    /// The directory of a path's last component, and that component.
    pub(super) async fn resolve_parent(self: &Arc<Self>, ctx: &Ctx, path: &[u8]) -> FsResult<(Arc<Inode>, Bytes)> {
        check_path(path)?;
        let Some(name) = components(path).last() else {
            return error(
                ErrorKind::InvalidArgument,
                "the root of the namespace has no name that could be changed",
            );
        };
        let end = path.len() - path.iter().rev().take_while(|byte| **byte == b'/').count() - name.len();
        let parent = if end == 0 { &b"/"[..] } else { &path[..end] };
        let dir = self.resolve(ctx, parent).await?;
        if !dir.is_dir() {
            return error(ErrorKind::NotADirectory, format!("{} is no directory", show(parent)));
        }
        Ok((dir, Bytes::copy_from_slice(name)))
    }

    pub(super) async fn read_dir(self: &Arc<Self>, op: ReadDir) -> FsResult<DirPage> {
        self.metrics.listings.inc();
        let dir = self.state.inode(InodeId(op.inode))?;
        if !dir.is_dir() {
            return error(ErrorKind::NotADirectory, format!("inode {} is no directory", op.inode));
        }
        if !dir.children_loaded {
            self.ensure_loaded(&dir).await?;
            // What was known of it before is not looked at by loading the rest.
            if op.refresh && dir.entries > 0 && Self::is_backed(&dir) {
                self.sync_dir_once(dir.inode_id()).await?;
            }
        } else if op.refresh && Self::is_backed(&dir) {
            self.sync_dir_once(dir.inode_id()).await?;
        } else if op.after.is_empty() && self.is_look_due(&dir) {
            self.refresh_dir(&dir).await?;
        }
        self.page(dir.inode_id(), &op.after, op.limit)
    }

    fn page(&self, dir: InodeId, after: &[u8], limit: u32) -> FsResult<DirPage> {
        let limit = match limit {
            0 => self.settings.listing_page_max,
            limit => (limit as usize).min(self.settings.listing_page_max),
        };
        let listed = self.state.list(dir, after, limit + 1)?;
        let mut page = DirPage {
            eof: listed.len() <= limit,
            entries: Vec::with_capacity(listed.len().min(limit)),
        };
        let mut bytes = 0;
        for (name, inode) in listed.into_iter().take(limit) {
            let entry = Entry {
                attr: Some(self.attr_of(&inode)),
                name,
            };
            bytes += prost::Message::encoded_len(&entry);
            if bytes > PAGE_BYTES_MAX && !page.entries.is_empty() {
                page.eof = false;
                break;
            }
            page.entries.push(entry);
        }
        Ok(page)
    }

    pub(super) fn read_link(&self, op: ReadLink) -> FsResult<LinkTarget> {
        let inode = self.state.inode(InodeId(op.inode))?;
        if inode.kind() != FileKind::Symlink {
            return error(
                ErrorKind::InvalidArgument,
                format!("inode {} is no symbolic link", op.inode),
            );
        }
        Ok(LinkTarget {
            target: inode.symlink_target.clone(),
        })
    }

    /// Makes known what is under a name that is about to be made, changed or removed. Whether it is there or not is for the
    /// state to judge; so is a change that was done already.
    async fn know(self: &Arc<Self>, parent: u64, name: &Bytes) -> FsResult<Option<Arc<Inode>>> {
        match self.find(InodeId(parent), name).await {
            Ok(found) => Ok(found),
            // The directory itself is missing or none: the state says it better.
            Err(error) if matches!(error.kind, ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A name is refused before it is made if its under-storage could not hold it.
    fn check_storable(&self, parent: u64, name: &[u8]) -> FsResult<()> {
        check_length(name)?;
        let Ok(at) = self.state.ufs_path_of_name(InodeId(parent), name) else {
            return Ok(());
        };
        // Made step by step it could be longer; then no command and hardly a store could name it.
        if at.path.len() + 1 >= PATH_BYTES_MAX {
            let why = format!("a path of {} bytes in its under-storage", at.path.len() + 1);
            return error(ErrorKind::NameTooLong, why);
        }
        self.ufs.of(at.mount)?.check_path(&at.path).map_err(Into::into)
    }

    pub(super) async fn create(self: &Arc<Self>, ctx: &Ctx, op: Create) -> FsResult<Opened> {
        self.know(op.parent, &op.name).await?;
        if op.write_type != alluxio_proto::types::WriteType::MustCache as i32 {
            self.check_storable(op.parent, &op.name)?;
        }
        let (home, home_boot) = match op.open {
            true => self.home_for(ctx)?,
            false => Default::default(),
        };
        let created = self
            .propose(
                ctx,
                command::CreateFile {
                    parent: op.parent,
                    name: op.name.clone(),
                    inode: 0,
                    mode: op.mode,
                    umask: op.umask,
                    open: op.open,
                    write_type: op.write_type,
                    block_bytes: if op.block_bytes == 0 {
                        self.settings.block_bytes
                    } else {
                        op.block_bytes
                    },
                    home_worker: home.get(),
                    home_boot,
                },
            )
            .await?;
        self.metrics.files_created.inc();
        self.loader.forget_absent(InodeId(op.parent), &op.name);
        let Some(inode) = created.inode else {
            return error(ErrorKind::Internal, "a file was created without an inode");
        };
        self.opened(ctx, &inode)
    }

    pub(super) async fn mkdir(self: &Arc<Self>, ctx: &Ctx, op: Mkdir) -> FsResult<Attr> {
        self.know(op.parent, &op.name).await?;
        if op.write_type != alluxio_proto::types::WriteType::MustCache as i32 {
            self.check_storable(op.parent, &op.name)?;
        }
        let made = self
            .propose(
                ctx,
                command::Mkdir {
                    parent: op.parent,
                    name: op.name.clone(),
                    inode: 0,
                    mode: op.mode,
                    umask: op.umask,
                    write_type: op.write_type,
                },
            )
            .await?;
        self.metrics.directories_created.inc();
        self.loader.forget_absent(InodeId(op.parent), &op.name);
        let attr = self.attr_applied(made)?;
        // What we have just made needs no look as soon as it is in the under-storage.
        self.looked(
            InodeId(attr.inode),
            alluxio_proto::MountId(attr.mount_id),
            Duration::ZERO,
        );
        Ok(attr)
    }

    pub(super) async fn symlink(self: &Arc<Self>, ctx: &Ctx, op: Symlink) -> FsResult<Attr> {
        self.know(op.parent, &op.name).await?;
        let body = command::Symlink {
            parent: op.parent,
            name: op.name.clone(),
            inode: 0,
            target: op.target,
        };
        let made = self.propose(ctx, body).await?;
        self.metrics.files_created.inc();
        self.loader.forget_absent(InodeId(op.parent), &op.name);
        self.attr_applied(made)
    }

    pub(super) async fn mknod(self: &Arc<Self>, ctx: &Ctx, op: Mknod) -> FsResult<Attr> {
        self.know(op.parent, &op.name).await?;
        let body = command::Mknod {
            parent: op.parent,
            name: op.name.clone(),
            inode: 0,
            kind: op.kind,
            mode: op.mode,
            umask: op.umask,
            rdev: op.rdev,
        };
        let made = self.propose(ctx, body).await?;
        self.metrics.files_created.inc();
        self.loader.forget_absent(InodeId(op.parent), &op.name);
        self.attr_applied(made)
    }

    pub(super) async fn link(self: &Arc<Self>, ctx: &Ctx, op: Link) -> FsResult<Attr> {
        self.know(op.parent, &op.name).await?;
        // It may become the name that the under-storage has.
        if self.state.inode(InodeId(op.inode))?.is_file() {
            self.check_storable(op.parent, &op.name)?;
        }
        let body = command::Link {
            inode: op.inode,
            parent: op.parent,
            name: op.name.clone(),
        };
        let linked = self.propose(ctx, body).await?;
        self.loader.forget_absent(InodeId(op.parent), &op.name);
        self.attr_applied(linked)
    }

    pub(super) async fn tmpfile(self: &Arc<Self>, ctx: &Ctx, op: Tmpfile) -> FsResult<Opened> {
        let body = command::Tmpfile {
            parent: op.parent,
            inode: 0,
            mode: op.mode,
            umask: op.umask,
            write_type: op.write_type,
            block_bytes: if op.block_bytes == 0 {
                self.settings.block_bytes
            } else {
                op.block_bytes
            },
            home_worker: self.home_for(ctx)?.0.get(),
            never_linked: op.never_linked,
        };
        let made = self.propose(ctx, body).await?;
        self.metrics.files_created.inc();
        match made.inode {
            Some(inode) => self.opened(ctx, &inode),
            None => error(ErrorKind::Internal, "a file was created without an inode"),
        }
    }

    pub(super) async fn unlink(self: &Arc<Self>, ctx: &Ctx, op: Unlink) -> FsResult<Removed> {
        for _ in 0..LOOKS_MAX {
            let target = self.know(op.parent, &op.name).await?;
            let removal = self.sessions.begin_removal(target.iter().map(|inode| inode.inode_id()));
            let body = command::Unlink {
                parent: op.parent,
                name: op.name.clone(),
                keep_for: readers_of(&removal, target.as_deref()),
                expected: Some(target.as_ref().map_or(0, |inode| inode.id)),
            };
            match self.propose(ctx, body).await {
                Err(error) if error.kind == ErrorKind::VersionMismatch => continue,
                Err(error) => return Err(error),
                Ok(applied) => {
                    self.metrics.paths_deleted.inc();
                    return Ok(self.removed(target.as_deref(), &applied));
                }
            }
        }
        changes_too_fast(&op.name)
    }

    /// What a change of names left without any, if that is what was looked at before. Somebody may hold it in the state, but who
    /// has it by O_PATH only outlives that.
    fn removed(&self, before: Option<&Inode>, applied: &Applied) -> Removed {
        let gone = before.filter(|inode| inode.id == applied.unlinked);
        Removed {
            attr: gone.map(|inode| self.attr_of(inode)),
        }
    }

    pub(super) async fn rmdir(self: &Arc<Self>, ctx: &Ctx, op: Rmdir) -> FsResult<Removed> {
        let target = self.know(op.parent, &op.name).await?;
        if let Some(dir) = target.as_ref().filter(|inode| inode.is_dir()) {
            self.ensure_loaded(dir).await?;
        }
        let body = command::Rmdir {
            parent: op.parent,
            name: op.name,
        };
        let applied = self.propose(ctx, body).await?;
        self.metrics.paths_deleted.inc();
        Ok(self.removed(target.as_deref(), &applied))
    }

    pub(super) async fn rename(self: &Arc<Self>, ctx: &Ctx, op: Rename) -> FsResult<Removed> {
        for _ in 0..LOOKS_MAX {
            let source = self.know(op.parent, &op.name).await?;
            let target = self.know(op.new_parent, &op.new_name).await?;
            if let Some(source) = &source {
                self.prepare_rename(&op, source).await?;
                self.check_copyable(source, op.parent, &op.name).await?;
            }
            if op.flags & command::RENAME_EXCHANGE != 0
                && let Some(target) = &target
            {
                self.check_copyable(target, op.new_parent, &op.new_name).await?;
            }
            if let Some(dir) = target.as_ref().filter(|inode| inode.is_dir()) {
                self.ensure_loaded(dir).await?;
            }
            let removal = self.sessions.begin_removal(target.iter().map(|inode| inode.inode_id()));
            let body = command::Rename {
                parent: op.parent,
                name: op.name.clone(),
                new_parent: op.new_parent,
                new_name: op.new_name.clone(),
                flags: op.flags,
                keep_for: readers_of(&removal, target.as_deref()),
                across_mounts: op.across_mounts,
                expected_target: Some(target.as_ref().map_or(0, |inode| inode.id)),
            };
            match self.propose(ctx, body).await {
                Err(error) if error.kind == ErrorKind::VersionMismatch => continue,
                Err(error) => return Err(error),
                Ok(applied) => {
                    self.metrics.paths_renamed.inc();
                    self.loader.forget_absent(InodeId(op.new_parent), &op.new_name);
                    return Ok(self.removed(target.as_deref(), &applied));
                }
            }
        }
        changes_too_fast(&op.new_name)
    }

    /// A folder is not moved to where the store could not hold what is beneath it. Only what the longest name beneath is
    /// matters, and only where the folder's own becomes longer.
    fn check_storable_beneath(&self, op: &Rename, source: &Inode) -> FsResult<()> {
        let Ok(to) = self.state.ufs_path_of_name(InodeId(op.new_parent), &op.new_name) else {
            return Ok(());
        };
        let from = self.state.ufs_path_of_name(InodeId(op.parent), &op.name)?;
        if to.mount == from.mount && to.path.len() <= from.path.len() {
            return Ok(());
        }
        let Some(beneath) = self.longest_beneath(source.inode_id())? else {
            return Ok(());
        };
        let path = super::ufs_ops::join(&to.path, &beneath);
        if path.len() + 1 >= PATH_BYTES_MAX {
            let why = format!("{:?} would be a path of {} bytes", show(&beneath), path.len() + 1);
            return error(ErrorKind::NameTooLong, why);
        }
        self.ufs.of(to.mount)?.check_path(&path).map_err(Into::into)
    }

    /// The longest path beneath a directory, among the first [`BENEATH_MAX`].
    fn longest_beneath(&self, dir: InodeId) -> FsResult<Option<Bytes>> {
        let mut longest: Option<Bytes> = None;
        let mut dirs = vec![(dir, Bytes::new())];
        let mut seen = 0;
        while let Some((dir, path)) = dirs.pop() {
            let mut after = Bytes::new();
            loop {
                let page = self.state.list(dir, &after, self.settings.listing_page_max)?;
                let Some((last, _)) = page.last() else { break };
                after = last.clone();
                seen += page.len();
                for (name, inode) in page {
                    let path = super::ufs_ops::join(&path, &name);
                    if inode.is_dir() {
                        dirs.push((inode.inode_id(), path.clone()));
                    }
                    if longest.as_ref().is_none_or(|longest| longest.len() < path.len()) {
                        longest = Some(path);
                    }
                }
                if seen >= BENEATH_MAX {
                    return Ok(longest);
                }
            }
        }
        Ok(longest)
    }

    /// Refuses to rename one file whose object is archived, where that takes a copy. That it is so was seen when it became known; whether
    /// it still is, the store says. Of a file that waits for such a rename already, and of one that is to be written anew, nothing is asked.
    async fn check_copyable(&self, inode: &Inode, parent: u64, name: &[u8]) -> FsResult<()> {
        let Some(bound) = inode.ufs.as_ref().filter(|ufs| ufs.present && ufs.is_archived) else {
            return Ok(());
        };
        let is_all = inode.is_persisted() && inode.open.is_none() && inode.is_stored_at(InodeId(parent), name);
        if !is_all || !self.state.intents_of(inode.inode_id())?.is_empty() {
            return Ok(());
        }
        let at = self.state.ufs_path(inode.inode_id())?;
        let ufs = self.ufs.of(at.mount)?;
        if ufs.capabilities().atomic_rename {
            return Ok(());
        }
        self.metrics.ufs_status_calls.inc();
        // Who cannot be asked may say so later.
        match ufs.status(&at.path).await {
            Ok(there) if there.is_archived && bound.is_known_as(&there.fingerprint) => {
                let why = "its object is archived, and a rename in its store is a copy: restore it first";
                error(ErrorKind::UfsDenied, format!("{:?}: {why}", show(name)))
            }
            _ => Ok(()),
        }
    }

    /// Makes sure that a rename can reach the under-storage.
    async fn prepare_rename(self: &Arc<Self>, op: &Rename, source: &Arc<Inode>) -> FsResult<()> {
        self.check_storable(op.new_parent, &op.new_name)?;
        if source.is_dir() {
            self.check_storable_beneath(op, source)?;
        }
        if op.across_mounts
            && op.flags & command::RENAME_EXCHANGE == 0
            && source.is_dir()
            && let Some(to) = self.moves_across(op.parent, op.new_parent, &op.new_name)?
        {
            self.know_tree(source, to).await?;
        }
        Ok(())
    }

    pub(super) async fn delete(self: &Arc<Self>, ctx: &Ctx, op: Delete) -> FsResult<Counted> {
        let (parent, name) = self.resolve_parent(ctx, &op.path).await?;
        let parent = parent.inode_id();
        let inode = match self.find(parent, &name).await? {
            Some(inode) => inode,
            None if ctx.op_id == 0 => {
                return error(
                    ErrorKind::NotFound,
                    format!("{}: no such file or directory", show(&op.path)),
                );
            }
            // Perhaps the retry of what was done already: the state knows.
            None => {
                let body = command::Unlink {
                    parent: parent.get(),
                    name,
                    keep_for: Vec::new(),
                    // Not what has come by this name since.
                    expected: Some(0),
                };
                self.propose(ctx, body).await?;
                return Ok(counted(1));
            }
        };
        if !inode.is_dir() {
            if op.alluxio_only {
                return self.forget_file(parent, &inode).await;
            }
            let unlink = Unlink {
                parent: parent.get(),
                name,
                tell_removed: false,
            };
            self.unlink(ctx, unlink).await?;
            return Ok(counted(1));
        }
        if !op.recursive {
            let rmdir = Rmdir {
                parent: parent.get(),
                name,
                tell_removed: false,
            };
            self.rmdir(ctx, rmdir).await?;
            return Ok(counted(1));
        }
        let body = command::DeleteTree {
            parent: parent.get(),
            name,
            alluxio_only: op.alluxio_only,
        };
        let (tree_name, alluxio_only) = (body.name.clone(), body.alluxio_only);
        match self.propose(ctx, body).await {
            Ok(deleted) => {
                self.metrics.paths_deleted.add(deleted.count.max(1));
                Ok(counted(deleted.count.max(1)))
            }
            // Too many hard links to be looked through in one command.
            Err(error) if error.kind == ErrorKind::NotSupported && !alluxio_only => {
                Ok(counted(self.delete_names(ctx, parent, tree_name).await?))
            }
            Err(error) => Err(error),
        }
    }

    /// Removes a tree name by name, depth first; a page of names per level is kept in mind.
    async fn delete_names(self: &Arc<Self>, ctx: &Ctx, parent: InodeId, name: Bytes) -> FsResult<u64> {
        // Each removal is a change of its own; a retry of the whole goes on where it was.
        let ctx = Ctx {
            op_id: 0,
            ..ctx.clone()
        };
        let mut stack = vec![(parent, name)];
        let mut count = 0;
        while let Some((parent, name)) = stack.last().cloned() {
            let Some(inode) = self.find(parent, &name).await? else {
                stack.pop();
                continue;
            };
            if inode.is_dir() {
                self.ensure_loaded(&inode).await?;
                let children = self.state.list(inode.inode_id(), b"", self.settings.listing_page_max)?;
                if !children.is_empty() {
                    stack.extend(children.into_iter().map(|(name, _)| (inode.inode_id(), name)));
                    continue;
                }
                let rmdir = Rmdir {
                    parent: parent.get(),
                    name,
                    tell_removed: false,
                };
                self.rmdir(&ctx, rmdir).await?;
            } else {
                let unlink = Unlink {
                    parent: parent.get(),
                    name,
                    tell_removed: false,
                };
                self.unlink(&ctx, unlink).await?;
            }
            count += 1;
            stack.pop();
        }
        Ok(count)
    }

    /// Takes a file off the namespace; its object stays, and will be found again by the next look.
    async fn forget_file(self: &Arc<Self>, parent: InodeId, inode: &Inode) -> FsResult<Counted> {
        if !Self::is_backed(inode) {
            let why = "it is not in the under-storage; removing it from the namespace alone would lose it";
            return error(ErrorKind::InvalidArgument, format!("{:?}: {why}", show(&inode.name)));
        }
        if inode.nlink > 1 {
            let why = "it has other names; remove them first, or remove it from the under-storage too";
            return error(ErrorKind::InvalidArgument, format!("{:?}: {why}", show(&inode.name)));
        }
        let removing = self.sessions.begin_removal([inode.inode_id()]);
        let removal = SyncRemoval {
            name: inode.name.clone(),
            expected_fingerprint: inode.fingerprint().to_owned(),
            keep_for: removing.readers(inode.inode_id()),
            expected: Some(inode.id),
        };
        let applied = self
            .propose_own(ApplySync {
                dir: parent.get(),
                generation: self.state.generation(parent)?,
                changed: Vec::new(),
                removed: vec![removal],
            })
            .await?;
        if !applied.refused.is_empty() {
            return error(
                ErrorKind::Busy,
                format!("{:?} is in use, or changes of it are under way", show(&inode.name)),
            );
        }
        self.loader.forget(parent);
        self.metrics.paths_deleted.inc();
        Ok(counted(1))
    }

    pub(super) async fn touch_atimes(&self, ctx: &Ctx, op: TouchAtimes) -> FsResult<Empty> {
        let mut files = op.files;
        files.truncate(ACCESSED_MAX);
        // A hint: what will change nothing is not worth a line in the journal.
        files.retain(|file| {
            let inode = self.state.inode(InodeId(file.inode));
            inode.is_ok_and(|inode| inode.is_moved_by_read(file.atime_ns.min(ctx.now_ns)))
        });
        if !files.is_empty() {
            let body = command::TouchAtimes { files };
            self.commit_in_background(ctx.command(body)).await?;
        }
        Ok(Empty {})
    }

    pub(super) async fn set_attr(self: &Arc<Self>, ctx: &Ctx, op: SetAttr) -> FsResult<Attr> {
        let body = command::SetAttr {
            inode: op.inode,
            mode: op.mode,
            owner: op.owner,
            group: op.group,
            atime_ns: if op.times_now {
                op.atime_ns.map(|_| ctx.now_ns)
            } else {
                op.atime_ns
            },
            mtime_ns: if op.times_now {
                op.mtime_ns.map(|_| ctx.now_ns)
            } else {
                op.mtime_ns
            },
            pinned: op.pinned,
            times_now: op.times_now,
            kill_priv: op.kill_priv,
            kill_setgid: op.kill_setgid,
        };
        let changed = self.propose(ctx, body).await?;
        self.attr_applied(changed)
    }
}

/// Sessions that have what a name is taken from open for reading.
fn readers_of(removal: &Removal<'_>, inode: Option<&Inode>) -> Vec<u64> {
    inode.map_or_else(Vec::new, |inode| removal.readers(inode.inode_id()))
}

fn changes_too_fast<T>(name: &[u8]) -> FsResult<T> {
    let why = format!("{:?} is given to one inode after the other; try again", show(name));
    error(ErrorKind::Unavailable, why)
}

fn counted(files: u64) -> Counted {
    Counted {
        files,
        ..Default::default()
    }
}

/// Refuses a name that no file system takes.
pub(super) fn check_length(name: &[u8]) -> FsResult<()> {
    if name.len() <= NAME_BYTES_MAX {
        return Ok(());
    }
    let why = format!("a name of {} bytes; {NAME_BYTES_MAX} are allowed", name.len());
    error(ErrorKind::NameTooLong, why)
}

/// Components of a path, slashes doubled or not.
pub(super) fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|name| !name.is_empty())
}

pub(super) fn check_path(path: &[u8]) -> FsResult<()> {
    if path.len() >= PATH_BYTES_MAX {
        return error(ErrorKind::NameTooLong, format!("a path of {} bytes", path.len()));
    }
    if path.first() != Some(&b'/') || components(path).any(|name| name == b"." || name == b"..") {
        let why = format!("{:?} is no absolute path without . and ..", show(path));
        return error(ErrorKind::InvalidArgument, why);
    }
    Ok(())
}

/// Whether the caller may do any of `want` (read 4, write 2, search or execute 1).
pub(super) fn may_any(caller: &Caller, inode: &Inode, want: u32) -> bool {
    [4, 2, 1]
        .into_iter()
        .any(|one| want & one != 0 && inode.grants(caller, one))
}

pub(super) fn check_access(ctx: &Ctx, inode: &Inode, want: u32) -> FsResult<()> {
    if ctx.superuser || may_any(&ctx.caller, inode, want) {
        return Ok(());
    }
    let why = format!(
        "user {:?} may not access inode {} ({:?}, mode {:04o}, owner {:?})",
        ctx.caller.user,
        inode.id,
        show(&inode.name),
        inode.mode,
        inode.owner
    );
    error(ErrorKind::AccessDenied, why)
}

/// Reading, or executing what cannot be read: the kernel has told the two apart where it matters.
pub(super) fn check_readable(ctx: &Ctx, inode: &Inode) -> FsResult<()> {
    check_access(ctx, inode, READ | EXECUTE)
}
