//! Deleting a whole tree: one command takes its top off, slices reclaim the inodes (DESIGN D4).

use alluxio_proto::{ErrorKind, InodeId};
use std::collections::HashMap;

use super::access::{SEARCH, WRITE};
use super::{Work, check_name};
use crate::metastore::prefix_end;
use crate::state::command::{DeleteTree, RECLAIM_INODES_MAX, ReclaimSlice};
use crate::state::fault::{Outcomes, refuse, show};
use crate::state::inode::Inode;
use crate::state::records::{Edge, Intent, IntentKind};
use crate::state::tables;
use crate::state::view::View;

/// Who has an inode open for reading.
type Readers = HashMap<u64, Vec<u64>>;

impl Work<'_, '_> {
    pub(super) fn delete_tree(&mut self, c: DeleteTree) -> Outcomes<()> {
        check_name(&c.name)?;
        let (parent, mut top) = self.removable(c.parent, &c.name)?;
        if !top.is_dir() {
            return refuse(ErrorKind::NotADirectory, format!("{:?} is no directory", show(&c.name)));
        }
        // Asking each directory beneath would make this as slow as the tree is large; the top speaks for them.
        self.who.check_access(&top, WRITE | SEARCH)?;
        self.check_no_mount_beneath(&top)?;
        self.rescue_links(&top, c.alluxio_only)?;
        let path = self.tx.natural_path(&top)?;
        let presence = self.presence(&top)?;
        self.forget_intents(&top, &presence, None)?;
        if let Some(path) = path.filter(|_| presence.own && !c.alluxio_only) {
            self.bump_generation(parent.inode_id())?;
            self.new_fixed_intent(Intent {
                kind: IntentKind::DeleteTree as i32,
                mount_id: top.mount_id,
                path,
                inode: top.id,
                inode_kind: top.kind,
                dir: parent.id,
                ..Default::default()
            })?;
        }
        self.detach(parent.inode_id(), &mut top)?;
        if c.alluxio_only {
            self.forget_loaded(parent.inode_id())?;
        }
        self.applied.unlinked = top.id;
        self.applied.count = 1;
        Ok(())
    }

    pub(super) fn check_no_mount_beneath(&self, top: &Inode) -> Outcomes<()> {
        for mount in self.tx.mounts().values() {
            if mount.root_inode != top.id && self.tx.is_beneath(InodeId(mount.root_inode), top.inode_id())? {
                return refuse(
                    ErrorKind::Busy,
                    format!("{} is mounted beneath; unmount it first", mount.uri()),
                );
            }
        }
        Ok(())
    }

    /// Takes a directory off the tree, to be reclaimed.
    pub(super) fn detach(&mut self, parent: InodeId, top: &mut Inode) -> Outcomes<()> {
        self.unname(parent, &top.name.clone(), top, true)?;
        self.queue_detached(top);
        Ok(())
    }

    fn queue_detached(&mut self, dir: &mut Inode) {
        dir.parent = 0;
        dir.nlink = 0;
        self.tx.put_inode(dir.clone());
        self.tx.put(tables::detached(dir.inode_id()), tables::nothing());
        self.tx.counters_mut().detached += 1;
    }

    /// Names of the under-storage may be missing from now on.
    pub(super) fn forget_loaded(&mut self, dir: InodeId) -> Outcomes<()> {
        let mut dir = self.edit(dir)?;
        dir.children_loaded = false;
        self.tx.put_inode(dir);
        Ok(())
    }

    pub(super) fn reclaim_slice(&mut self, c: ReclaimSlice) -> Outcomes<()> {
        let keep: Readers = c.keep.into_iter().map(|keep| (keep.inode, keep.sessions)).collect();
        if c.dir != 0 {
            self.reclaim_from(InodeId(c.dir), (&c.after, &c.upto), &keep)?;
            self.applied.more = self.tx.counters().detached > 0;
            return Ok(());
        }
        let mut left = c.limit.clamp(1, RECLAIM_INODES_MAX) as usize;
        while left > 0 {
            let rows = self.tx.scan(&[tables::DETACHED], &[tables::DETACHED + 1], 1)?;
            let Some((key, _)) = rows.first() else { break };
            let dir = InodeId(tables::last_number(key)?);
            let prefix = tables::edge(dir, b"");
            let done = self.reclaim_children(dir, (&prefix, &prefix_end(&prefix)), left, &keep)?;
            self.applied.count += done as u64;
            left -= done;
            if left > 0 {
                self.reclaim_dir(dir)?;
                left -= 1;
            }
        }
        self.applied.more = self.tx.counters().detached > 0;
        Ok(())
    }

    /// Reclaims names after the one up to the other, and the directory after the last.
    fn reclaim_from(&mut self, dir: InodeId, (after, upto): (&[u8], &[u8]), keep: &Readers) -> Outcomes<()> {
        if self.tx.get(&tables::detached(dir))?.is_none() {
            return Ok(());
        }
        if upto.is_empty() {
            // Nothing is left after `after`. Once per directory it is made sure that nothing was left before.
            if !self.tx.has_any(&tables::edge(dir, b""))? {
                self.reclaim_dir(dir)?;
            }
            return Ok(());
        }
        // The name itself is the first key that is not after it; a zero byte is in no name.
        let beyond = |name: &[u8]| [&tables::edge(dir, name)[..], &[0]].concat();
        let start = match after {
            b"" => tables::edge(dir, b"").to_vec(),
            after => beyond(after),
        };
        let limit = RECLAIM_INODES_MAX as usize;
        let done = self.reclaim_children(dir, (&start, &beyond(upto)), limit, keep)?;
        self.applied.count += done as u64;
        Ok(())
    }

    /// Reclaims a detached directory without children.
    fn reclaim_dir(&mut self, dir: InodeId) -> Outcomes<()> {
        self.tx.delete(tables::detached(dir));
        let counters = self.tx.counters_mut();
        counters.detached = counters.detached.saturating_sub(1);
        if let Some(inode) = self.tx.inode_opt(dir)? {
            self.delete_inode(&inode)?;
        }
        self.applied.count += 1;
        Ok(())
    }

    /// Reclaims up to `limit` children of a detached directory; directories among them become detached themselves.
    fn reclaim_children(
        &mut self,
        dir: InodeId,
        (start, end): (&[u8], &[u8]),
        limit: usize,
        keep: &Readers,
    ) -> Outcomes<usize> {
        let rows = self.tx.scan(start, end, limit)?;
        for (key, value) in &rows {
            let child = Edge::decode(key, value)?.child;
            self.tx.delete(key.clone());
            let Some(inode) = self.tx.inode_opt(child)? else {
                continue;
            };
            let mut inode = (*inode).clone();
            if inode.is_dir() {
                let presence = self.presence(&inode)?;
                self.forget_intents(&inode, &presence, None)?;
                self.queue_detached(&mut inode);
                continue;
            }
            if inode.nlink > 1 {
                self.reclaim_a_name(dir, &tables::edge_name(key)?, inode)?;
                continue;
            }
            self.leave_for_good(&mut inode, None, dir)?;
            let keep = keep.get(&inode.id).map_or(&[][..], Vec::as_slice);
            self.lose_last_name(inode, keep, None)?;
        }
        self.applied.unlinked = 0;
        self.applied.orphaned = false;
        Ok(rows.len())
    }
}
