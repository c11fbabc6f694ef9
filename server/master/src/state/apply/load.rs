//! Names and changes that come from an under-storage: loading, sync, an object that is not the one we knew (DESIGN D5, D10).

use alluxio_proto::types::{FileKind, PersistState};
use alluxio_proto::{ErrorKind, InodeId};
use bytes::Bytes;

use super::{Work, check_name, child_path, generation, is_tree_busy};
use crate::state::UfsLocation;
use crate::state::command::{ApplySync, LoadEntries, SyncChange, UfsChanged, UfsEntry};
use crate::state::fault::{Outcomes, refuse};
use crate::state::inode::{Inode, UfsBinding};
use crate::state::records::{Edge, Freed};
use crate::state::tables;
use crate::state::view::View;

/// Names looked at before a directory counts as too large to be removed by a sync in one command.
const SYNC_TREE_MAX: usize = 10_000;

/// The places that a directory has had in the intents that are pending: the present one first.
type Places = Vec<UfsLocation>;

impl Work<'_, '_> {
    pub(super) fn load_entries(&mut self, c: LoadEntries) -> Outcomes<()> {
        let (mut dir, places) = self.looked_at(c.dir, c.generation)?;
        let was_loaded = dir.children_loaded;
        let mut first = c.first_inode;
        for entry in &c.entries {
            // The adapter has skipped what cannot be a path; what comes through all the same is not worth a failed page.
            if check_name(&entry.name).is_err()
                || self.tx.edge(dir.inode_id(), &entry.name)?.is_some()
                || self.is_pending(&places, &entry.name)?
            {
                continue;
            }
            let inode = self.loaded_inode(&dir, entry, &c, std::mem::take(&mut first))?;
            self.put_edge(dir.inode_id(), &entry.name, &inode);
            dir.entries += 1;
            dir.nlink += u32::from(inode.is_dir());
            if was_loaded {
                self.entry_changed(dir.inode_id(), &entry.name, None);
            }
            self.applied.count += 1;
            self.answer(&inode);
            self.tx.put_inode(inode);
        }
        dir.children_loaded |= c.complete;
        if c.entries.len() != 1 {
            self.answer(&dir);
        }
        self.tx.put_inode(dir);
        Ok(())
    }

    /// The directory that a look at the under-storage is about, if nothing has happened since that would make it wrong.
    /// Also answers all paths that it has in intents, which are named by the time when they were journaled.
    fn looked_at(&self, dir: u64, seen: u64) -> Outcomes<(Inode, Places)> {
        let dir = self.tx.dir(InodeId(dir))?;
        let Some(path) = self.tx.natural_path(&dir)? else {
            return refuse(ErrorKind::NotFound, format!("directory {} was removed", dir.id));
        };
        if is_tree_busy(self.tx, &dir)? {
            return refuse(
                ErrorKind::Busy,
                format!("a folder above directory {} is being renamed or deleted", dir.id),
            );
        }
        if generation(self.tx, &dir)? != seen {
            return refuse(
                ErrorKind::Stale,
                format!("directory {} changed since it was looked at; look again", dir.id),
            );
        }
        let natural = UfsLocation {
            mount: dir.mount(),
            path,
        };
        let levels = self.tx.path_levels(natural, true)?;
        Ok(((*dir).clone(), levels.into_iter().map(|(at, _)| at).collect()))
    }

    /// Whether an intent is about that name of the directory.
    fn is_pending(&self, places: &Places, name: &[u8]) -> Outcomes<bool> {
        for at in places {
            if self.tx.has_intent_at(at.mount, &child_path(&at.path, name))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(super) fn loaded_inode(&mut self, dir: &Inode, entry: &UfsEntry, c: &LoadEntries, id: u64) -> Outcomes<Inode> {
        let kind = entry.kind();
        let is_dir = kind == FileKind::Directory;
        let time = if entry.mtime_ns == 0 {
            self.now_ns
        } else {
            entry.mtime_ns
        };
        let mode = match kind {
            FileKind::Directory => c.dir_mode,
            FileKind::Symlink => 0o777,
            _ => c.file_mode,
        };
        let mut inode = Inode {
            id: self.take_inode_id(id)?,
            parent: dir.id,
            name: entry.name.clone(),
            kind: entry.kind,
            mode: entry.mode.unwrap_or(mode) & 0o7777,
            owner: entry.owner.clone().unwrap_or_else(|| c.owner.clone()),
            group: entry.group.clone().unwrap_or_else(|| c.group.clone()),
            atime_ns: entry.atime_ns.unwrap_or(time),
            mtime_ns: time,
            // The under-storage may say a time that is yet to come; the change is that we learn of it.
            ctime_ns: time.min(self.now_ns),
            btime_ns: time,
            size: if is_dir { 0 } else { entry.length },
            version: u64::from(!is_dir),
            version_high: u64::from(!is_dir),
            block_bytes: entry.block_bytes,
            symlink_target: entry.symlink_target.clone(),
            nlink: 1 + u32::from(is_dir),
            persist_state: PersistState::Persisted as i32,
            ufs: (!is_dir).then(|| UfsBinding {
                version: 1,
                fingerprint: entry.fingerprint.clone(),
                length: entry.length,
                present: true,
                is_archived: entry.is_archived,
                ..Default::default()
            }),
            mount_id: dir.mount_id,
            ..Default::default()
        };
        self.load_xattrs(&mut inode, &entry.xattrs)?;
        Ok(inode)
    }

    pub(super) fn apply_sync(&mut self, c: ApplySync) -> Outcomes<()> {
        let (dir, places) = self.looked_at(c.dir, c.generation)?;
        for change in c.changed {
            let Some(entry) = &change.entry else { continue };
            let name = entry.name.clone();
            if !self.sync_change(&dir, &places, &change, entry)? {
                self.applied.refused.push(name);
            }
        }
        for removal in c.removed {
            let found = self.settled_child(&dir, &places, &removal.name)?;
            let found = found.filter(|inode| removal.expected.is_none_or(|expected| expected == inode.id));
            let found = found.filter(|inode| inode.is_dir() || inode.fingerprint() == removal.expected_fingerprint);
            match found {
                Some(inode) => self.sync_removal(&dir, inode, &removal.keep_for)?,
                None => self.applied.refused.push(removal.name),
            }
        }
        let dir = self.edit(dir.inode_id())?;
        self.answer(&dir);
        Ok(())
    }

    fn sync_change(&mut self, dir: &Inode, places: &Places, change: &SyncChange, entry: &UfsEntry) -> Outcomes<bool> {
        let Some(mut inode) = self.settled_child(dir, places, &entry.name)? else {
            return Ok(false);
        };
        if inode.is_dir() || inode.kind != entry.kind || inode.fingerprint() != change.expected_fingerprint {
            return Ok(false);
        }
        self.adopt(&mut inode, entry)?;
        self.tx.put_inode(inode);
        Ok(true)
    }

    /// The under-storage's object is the file now, as a new version.
    pub(super) fn adopt(&mut self, inode: &mut Inode, entry: &UfsEntry) -> Outcomes<()> {
        let old = inode.version;
        inode.version_high += 1;
        inode.version = inode.version_high;
        inode.size = entry.length;
        inode.hole_bytes = 0;
        inode.mtime_ns = if entry.mtime_ns == 0 {
            self.now_ns
        } else {
            entry.mtime_ns
        };
        inode.note_change(self.now_ns);
        inode.mode = entry.mode.unwrap_or(inode.mode) & 0o7777;
        inode.owner = entry.owner.clone().unwrap_or_else(|| inode.owner.clone());
        inode.group = entry.group.clone().unwrap_or_else(|| inode.group.clone());
        inode.atime_ns = entry.atime_ns.unwrap_or(inode.atime_ns);
        self.load_xattrs(inode, &entry.xattrs)?;
        inode.symlink_target = entry.symlink_target.clone();
        inode.ufs = Some(UfsBinding {
            version: inode.version,
            fingerprint: entry.fingerprint.clone(),
            length: entry.length,
            present: true,
            is_archived: entry.is_archived,
            ..Default::default()
        });
        self.free_version(inode, old, None);
        inode.locations.clear();
        self.inode_changed(inode.id, true);
        Ok(())
    }

    /// A name removed behind our back.
    fn sync_removal(&mut self, dir: &Inode, mut inode: Inode, keep: &[u64]) -> Outcomes<()> {
        if inode.is_dir() {
            return self.detach(dir.inode_id(), &mut inode);
        }
        let name = inode.name.clone();
        if inode.nlink > 1 {
            return self.lose_stored_object(dir.inode_id(), &name, inode);
        }
        self.unname(dir.inode_id(), &name, &inode, true)?;
        self.lose_last_name(inode, keep, None)
    }

    /// The child of that name, if it is exactly what the under-storage is known to have: persisted, not open for writing, and
    /// nothing pending about it. For a directory, all beneath it too.
    fn settled_child(&self, dir: &Inode, places: &Places, name: &Bytes) -> Outcomes<Option<Inode>> {
        let Some(edge) = self.tx.edge(dir.inode_id(), name)? else {
            return Ok(None);
        };
        let inode = self.edit(edge.child)?;
        // Of several names, the under-storage shows the stored one.
        if !inode.is_stored_at(dir.inode_id(), name) || self.tx.is_mount_point(&inode) || !self.is_settled(&inode)? {
            return Ok(None);
        }
        for at in places {
            let path = child_path(&at.path, name);
            let above = self.tx.intents_above(at.mount, &path, u64::MAX)?;
            if !above.is_empty() || self.tx.has_intent_beneath(at.mount, &path)? {
                return Ok(None);
            }
        }
        let settled = !inode.is_dir() || self.is_tree_settled(&inode)?;
        Ok(settled.then_some(inode))
    }

    fn is_settled(&self, inode: &Inode) -> Outcomes<bool> {
        Ok(inode.is_persisted() && inode.open.is_none() && self.tx.intents_of(inode.inode_id())?.is_empty())
    }

    fn is_tree_settled(&self, top: &Inode) -> Outcomes<bool> {
        if self.check_no_mount_beneath(top).is_err() {
            return Ok(false);
        }
        let (mut dirs, mut seen) = (vec![top.inode_id()], 0);
        while let Some(dir) = dirs.pop() {
            let mut settled = true;
            self.tx.each(&tables::edge(dir, b""), |key, value| {
                seen += 1;
                let edge = Edge::decode(&key, &value)?;
                let child = self.tx.inode_opt(edge.child)?;
                settled = seen <= SYNC_TREE_MAX
                    && match child {
                        Some(child) => {
                            let has_names_elsewhere = !child.is_dir() && child.nlink > 1;
                            child.is_persisted()
                                && child.open.is_none()
                                && !has_names_elsewhere
                                && self.tx.intents_of(edge.child)?.is_empty()
                        }
                        None => true,
                    };
                if edge.kind == FileKind::Directory {
                    dirs.push(edge.child);
                }
                Ok(settled)
            })?;
            if !settled {
                return Ok(false);
            }
        }
        Ok(true)
    }

    pub(super) fn ufs_changed(&mut self, c: UfsChanged) -> Outcomes<()> {
        let inode = self.edit(InodeId(c.inode))?;
        self.answer(&inode);
        if inode.version != c.version || inode.nlink == 0 || inode.is_dir() {
            return Ok(());
        }
        let (dir, places) = self.looked_at(inode.parent, c.generation)?;
        let Some(mut inode) = self.settled_child(&dir, &places, &inode.name)? else {
            return Ok(());
        };
        match c.status {
            Some(entry) if entry.kind == inode.kind => {
                if entry.fingerprint != inode.fingerprint() {
                    self.adopt(&mut inode, &entry)?;
                    self.put_and_answer(inode);
                }
                Ok(())
            }
            // Gone, or something else by that name, which the next look at the directory finds.
            gone_or_other => {
                self.applied.attr = None;
                self.applied.inode = None;
                // Of an inode with other names, workers may have the only copy.
                self.applied.freed.extend(gone(&inode).filter(|_| inode.nlink == 1));
                if gone_or_other.is_some() {
                    self.forget_loaded(dir.inode_id())?;
                }
                self.sync_removal(&dir, inode, &c.keep_for)
            }
        }
    }
}

fn gone(inode: &Inode) -> Option<Freed> {
    let workers: Vec<u64> = inode.locations.iter().map(|at| at.worker).collect();
    (!workers.is_empty()).then_some(Freed {
        inode: inode.id,
        version: inode.version,
        workers,
    })
}
