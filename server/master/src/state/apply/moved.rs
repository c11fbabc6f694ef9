//! Objects that have another fingerprint after the rename of a folder (one in parts, one that its store encrypts by itself).
//!
//! The rename says so of each page that it has copied, before it deletes what it copied. From then on the file is known by both: where
//! it was it is read as before, until the rename is done; what comes after the rename (an upload, another rename, a removal) meets the
//! copy. A rename that is repeated may say so again, of another copy.

use alluxio_proto::{InodeId, MountId};

use super::presence::occupy;
use super::{Work, child_path};
use crate::state::UfsLocation;
use crate::state::command::CopiedObject;
use crate::state::fault::Outcomes;
use crate::state::inode::Inode;
use crate::state::records::{Intent, IntentKind};
use crate::state::tables::{self, PathRole};
use crate::state::view::View;

impl Work<'_, '_> {
    pub(super) fn objects_copied(&mut self, whole: &Intent, objects: Vec<CopiedObject>) -> Outcomes<()> {
        if whole.kind() != IntentKind::Rename || !whole.is_folder() {
            return Ok(());
        }
        for object in objects {
            self.object_copied(whole, &object)?;
        }
        Ok(())
    }

    fn object_copied(&mut self, whole: &Intent, object: &CopiedObject) -> Outcomes<()> {
        let goal = UfsLocation {
            mount: whole.to_mount(),
            path: child_path(&whole.to_path, &object.name),
        };
        for mut intent in self.expecting(&goal, whole.order, &object.from)? {
            if !intent.expect.contains(&object.to) {
                intent.expect.push(object.to.clone());
                self.put_intent(&intent);
            }
            // Of a file that has lost its name and is still held.
            self.learn_copy(whole, object, InodeId(intent.inode))?;
        }
        let (at, was_removed) = self.renamed_since(goal, whole.order)?;
        match self.named_at(&at)?.filter(|_| !was_removed) {
            Some(inode) => self.learn_copy(whole, object, inode),
            None => Ok(()),
        }
    }

    /// Changes after `order` to what is at a place then, wherever it is by the time, who expect the object of that fingerprint there.
    pub(super) fn expecting(&self, at: &UfsLocation, order: u64, fingerprint: &str) -> Outcomes<Vec<Intent>> {
        let expects = |intent: &Intent| intent.expect.iter().any(|known| known == fingerprint);
        let mut later = Vec::new();
        for (at, since) in self.places_since(at.clone(), order)?.0 {
            self.tx
                .each_intent(&tables::at_path(at.mount, &at.path), |key, value| {
                    let role = PathRole::decode(&key, &value)?;
                    if role.order > since && !role.is_target {
                        later.extend(self.tx.intent_opt(role.id)?.filter(expects));
                    }
                    Ok(true)
                })?;
        }
        Ok(later)
    }

    /// What a path beneath a mount names now.
    fn named_at(&self, at: &UfsLocation) -> Outcomes<Option<InodeId>> {
        let Some(root) = self.tx.mount_opt(at.mount) else {
            return Ok(None);
        };
        let mut found = InodeId(root.root_inode);
        for name in at.path.split(|byte| *byte == b'/') {
            match self.tx.edge(found, name)? {
                Some(edge) => found = edge.child,
                None => return Ok(None),
            }
        }
        Ok(Some(found))
    }

    /// The copy is the inode's, if what was copied is; or it is in the place that the inode has taken over.
    fn learn_copy(&mut self, whole: &Intent, object: &CopiedObject, id: InodeId) -> Outcomes<()> {
        let Some(inode) = self.tx.inode_opt(id)?.filter(|inode| !inode.is_dir()) else {
            return Ok(());
        };
        let mut inode = (*inode).clone();
        let is_copied = self.is_at(&inode, MountId(whole.mount_id), &child_path(&whole.path, &object.name))?;
        let Some(ufs) = inode.ufs.as_mut() else { return Ok(()) };
        let is_same = ufs.fingerprint == object.from || (ufs.moved_by == whole.id && ufs.moved_from == object.from);
        if ufs.present && is_same && is_copied {
            ufs.moved_by = whole.id;
            ufs.moved_from = object.from.clone();
            ufs.fingerprint = object.to.clone();
        }
        if ufs.occupied.contains(&object.from) {
            occupy(&mut inode, object.to.clone());
        }
        self.tx.put_inode(inode);
        Ok(())
    }

    /// Whether an under-storage has an inode at that path, as long as pending renames are not made.
    pub(super) fn is_at(&self, inode: &Inode, mount: MountId, path: &[u8]) -> Outcomes<bool> {
        let held = inode.ufs.as_ref().and_then(|ufs| ufs.held_at(inode.mount()));
        let natural = match held {
            Some(held) => Some(held),
            None => (self.tx.natural_path(inode)?).map(|path| UfsLocation {
                mount: inode.mount(),
                path,
            }),
        };
        let Some(natural) = natural else { return Ok(false) };
        let at = self.tx.undo_renames(natural, false)?;
        Ok(at.mount == mount && at.path == path)
    }

    /// The object of a file, which the rename of a folder has copied once, is where it was after all, and stays there.
    pub(super) fn unlearn_copy(&mut self, whole: &Intent, inode: &Inode) {
        let mut inode = inode.clone();
        if let Some(ufs) = inode.ufs.as_mut().filter(|ufs| ufs.moved_by == whole.id) {
            let copy = std::mem::replace(&mut ufs.fingerprint, std::mem::take(&mut ufs.moved_from));
            ufs.moved_by = 0;
            // It may be there still, and is ours to remove.
            occupy(&mut inode, copy);
            self.tx.put_inode(inode);
        }
    }
}
