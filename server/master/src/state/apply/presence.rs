//! What the under-storage has, or may come to have, at an inode's path; and what must happen to it when the name goes.
//!
//! The rules, each of which the model test checks:
//!
//! - An upload that has not started costs nothing: it is forgotten with the name, or goes to the new name.
//! - An upload that has started may or may not put its object at the path where it started. It is treated as present: a
//!   rename or delete is journaled behind it and waits for its end.
//! - A name taken over by a file that will be uploaded keeps the old object until the new one replaces it
//!   ([`UfsBinding::occupied`]); so the new object is never followed by a delete of the old.
//! - A delete names the fingerprints that it may delete. Anything else at the path is somebody else's.
//! - Of several names of an inode one is stored ([`super::links`]); the others have nothing to do with what is said here.
//! - A rename to another mount is a copy, then a delete of what was copied; a folder's is made of those of what is in it
//!   ([`super::across`]).
//! - A rename or new attributes may change the fingerprint of an object (a copy of an object in parts has another one), so
//!   whoever is journaled behind a change that is still to come is told what it left ([`Intent::tell`]).

use alluxio_proto::types::{PersistState, WriteType};
use alluxio_proto::{InodeId, IntentId};
use bytes::Bytes;

use super::Work;
use super::rename::End;
use crate::state::fault::Outcomes;
use crate::state::inode::{Inode, OCCUPIED_MAX, UfsBinding};
use crate::state::records::{Intent, IntentKind};
use crate::state::tables;
use crate::state::view::View;

/// What there is, or may be, at an inode's path.
pub(super) struct Presence {
    /// Intents about the inode, and uploads of others that it is the heir of.
    pub intents: Vec<Intent>,
    /// An object or folder of the inode itself is there, or on its way.
    pub own: bool,
    /// Objects of others are there, or on their way.
    pub occupied: bool,
}

impl Presence {
    /// Of a name that the under-storage does not have.
    pub fn nothing() -> Self {
        Presence {
            intents: Vec::new(),
            own: false,
            occupied: false,
        }
    }

    /// Uploads (and mkdirs) of `inode` itself that have started. A cancelled one is about a place that it has left.
    fn in_flight(&self, inode: &Inode) -> impl Iterator<Item = &Intent> {
        let id = inode.id;
        self.intents.iter().filter(move |intent| {
            intent.inode == id && intent.started && !intent.cancelled && intent.kind().is_creating()
        })
    }

    /// Changes to replaced inodes, whose name `inode` has, that are not done.
    pub fn inherited(&self, inode: &Inode) -> impl Iterator<Item = &Intent> {
        let id = inode.id;
        self.intents.iter().filter(move |intent| intent.heir == id)
    }
}

impl Work<'_, '_> {
    pub(super) fn presence(&self, inode: &Inode) -> Outcomes<Presence> {
        let mut presence = Presence {
            intents: self.tx.intents_of(inode.inode_id())?,
            own: inode.ufs.as_ref().is_some_and(|ufs| ufs.present) || (inode.is_dir() && inode.is_persisted()),
            occupied: inode
                .ufs
                .as_ref()
                .is_some_and(|ufs| !ufs.occupied.is_empty() || !ufs.uncertain.is_empty()),
        };
        let in_flight = presence.in_flight(inode).count() > 0;
        let inherited = presence.inherited(inode).count() > 0;
        presence.own |= in_flight;
        presence.occupied |= inherited;
        Ok(presence)
    }

    /// Whether an upload will come and replace what is at the path.
    pub(super) fn will_upload(&self, inode: &Inode, presence: &Presence) -> bool {
        let pending = presence.intents.iter().any(|intent| {
            let uploads = matches!(intent.kind(), IntentKind::Persist | IntentKind::Symlink);
            intent.inode == inode.id && uploads && !intent.cancelled
        });
        pending || inode.open.as_ref().is_some_and(|open| open.persists())
    }

    /// The inode's name is gone, and nothing takes its place: what is in the under-storage goes too, if it is ours.
    /// `path` is where it was; `None` in a deleted tree, whose folder is deleted as a whole.
    pub(super) fn leave_for_good(&mut self, inode: &mut Inode, path: Option<Bytes>, dir: InodeId) -> Outcomes<()> {
        let presence = self.presence(inode)?;
        let wanted = path.filter(|_| presence.own || presence.occupied);
        let delete = match wanted {
            Some(path) => Some(self.new_delete(inode, &presence, path, dir, presence.own)?),
            None => None,
        };
        self.forget_intents(inode, &presence, delete)?;
        forget_others(inode);
        Ok(())
    }

    /// Drops what has not started, cancels what has. `delete` will clean up behind it.
    pub(super) fn forget_intents(
        &mut self,
        inode: &Inode,
        presence: &Presence,
        delete: Option<IntentId>,
    ) -> Outcomes<()> {
        for intent in &presence.intents {
            let mut intent = intent.clone();
            if intent.inode == inode.id && intent.kind().is_late_bound() {
                if intent.order == 0 {
                    self.drop_intent(&intent);
                    continue;
                }
                // A folder is made all the same: a rename behind it may need it, and the removal comes after both.
                intent.cancelled |= intent.kind() != IntentKind::Mkdir && intent.kind().is_creating();
            } else if intent.heir == inode.id {
                intent.heir = 0;
                self.tx
                    .delete(tables::intent_by_inode(inode.inode_id(), IntentId(intent.id)));
            } else {
                continue;
            }
            let delete = delete.map(|id| id.get()).filter(|id| !intent.tell.contains(id));
            intent.tell.extend(delete);
            self.put_intent(&intent);
        }
        Ok(())
    }

    /// The inode leaves its name while only objects of others are at the path: they are deleted.
    pub(super) fn vacate(&mut self, inode: &mut Inode, presence: &Presence, path: Bytes, dir: InodeId) -> Outcomes<()> {
        if !presence.occupied {
            return Ok(());
        }
        let delete = self.new_delete(inode, presence, path, dir, false)?;
        for inherited in presence.inherited(inode) {
            let mut intent = inherited.clone();
            intent.heir = 0;
            intent.tell.push(delete.get());
            self.tx
                .delete(tables::intent_by_inode(inode.inode_id(), IntentId(intent.id)));
            self.put_intent(&intent);
        }
        forget_others(inode);
        Ok(())
    }

    /// `heir` takes over the name of `old`: objects at the path stay until the heir's own replaces them.
    pub(super) fn hand_over(&mut self, old: &mut Inode, heir: &mut Inode) -> Outcomes<()> {
        let presence = self.presence(old)?;
        if let Some(ufs) = &mut old.ufs {
            let moved = self.tx.moved_from(ufs)?.map(str::to_owned);
            let own = moved.into_iter().chain([ufs.fingerprint.clone()]);
            let own = own.filter(|_| ufs.present);
            for fingerprint in ufs.occupied.drain(..).chain(own) {
                occupy(heir, fingerprint);
            }
            for length in ufs.uncertain.drain(..) {
                occupy_uncertain(heir, length);
            }
        }
        for intent in &presence.intents {
            let mut intent = intent.clone();
            if intent.inode == old.id && intent.kind().is_late_bound() {
                if intent.order == 0 {
                    self.drop_intent(&intent);
                    continue;
                }
                intent.cancelled |= intent.kind().is_creating();
            } else if intent.heir == old.id {
                self.tx
                    .delete(tables::intent_by_inode(old.inode_id(), IntentId(intent.id)));
            } else if intent.inode != old.id || intent.kind() != IntentKind::Rename {
                continue;
            }
            intent.heir = heir.id;
            self.tx.put(
                tables::intent_by_inode(heir.inode_id(), IntentId(intent.id)),
                tables::nothing(),
            );
            self.put_intent(&intent);
        }
        Ok(())
    }

    /// Journals a delete of what is at `path`: the inode's own object (`own`) and those of others.
    fn new_delete(
        &mut self,
        inode: &Inode,
        presence: &Presence,
        path: Bytes,
        dir: InodeId,
        own: bool,
    ) -> Outcomes<IntentId> {
        let mut expect = inode.ufs.as_ref().map(|ufs| ufs.occupied.clone()).unwrap_or_default();
        if own {
            expect.extend(self.fingerprints_of(inode)?);
        }
        let (version, length) = self.bound_upload(inode, own);
        let in_flight = presence.in_flight(inode).filter(|_| own);
        let expect_lengths = uncertain_lengths(inode, in_flight.chain(presence.inherited(inode)));
        self.bump_generation(dir)?;
        let delete = self.new_fixed_intent(Intent {
            kind: IntentKind::Delete as i32,
            mount_id: inode.mount_id,
            path,
            inode: inode.id,
            inode_kind: inode.kind,
            expect,
            expect_lengths,
            dir: dir.get(),
            version,
            length,
            ..Default::default()
        })?;
        if own {
            self.tell_of_changes(inode, delete)?;
        }
        Ok(delete)
    }

    /// Journals a rename of what an inode has in the under-storage, and the folders that it needs.
    pub(super) fn new_rename(&mut self, inode: &Inode, from: &End, to: &End) -> Outcomes<()> {
        self.ensure_dirs(to.dir)?;
        self.new_rename_into(inode, from, to)
    }

    /// The same, where the folder of `to` is there or on its way.
    pub(super) fn new_rename_into(&mut self, inode: &Inode, from: &End, to: &End) -> Outcomes<()> {
        self.bump_generation(from.dir)?;
        self.bump_generation(to.dir)?;
        // Read again: an exchange journals several renames of one inode.
        let presence = self.presence(inode)?;
        let (version, length) = self.bound_upload(inode, true);
        let rename = self.new_fixed_intent(Intent {
            kind: IntentKind::Rename as i32,
            mount_id: from.mount.get(),
            path: from.path.clone(),
            to_path: to.path.clone(),
            inode: inode.id,
            inode_kind: inode.kind,
            expect: self.fingerprints_of(inode)?,
            expect_lengths: uncertain_lengths(inode, presence.in_flight(inode)),
            dir: from.dir.get(),
            to_dir: to.dir.get(),
            to_mount_id: if from.mount == to.mount { 0 } else { to.mount.get() },
            version,
            length,
            ..Default::default()
        })?;
        self.tell_of_changes(inode, rename)
    }

    /// Fingerprints by which the under-storage has an inode; the last is that which it will have once pending renames are done.
    fn fingerprints_of(&self, inode: &Inode) -> Outcomes<Vec<String>> {
        let Some(ufs) = inode.ufs.as_ref().filter(|ufs| ufs.present) else {
            return Ok(Vec::new());
        };
        let moved = self.tx.moved_from(ufs)?.map(str::to_owned);
        Ok(moved.into_iter().chain([ufs.fingerprint.clone()]).collect())
    }

    /// Version and length of what the under-storage has of an inode, by which a delete or a rename of it knows a copy of its upload
    /// that has another fingerprint (of a folder that was renamed, say). 0: none.
    pub(super) fn bound_upload(&self, inode: &Inode, own: bool) -> (u64, u64) {
        let bound = inode.ufs.as_ref().filter(|ufs| ufs.present && own && self.follows(2));
        bound.map_or((0, 0), |ufs| (ufs.version, ufs.length))
    }

    /// `later` is told what the changes to the object of `inode` leave that are not done.
    fn tell_of_changes(&mut self, inode: &Inode, later: IntentId) -> Outcomes<()> {
        for mut intent in self.tx.intents_of(inode.inode_id())? {
            let leaves = intent.order != 0 && !intent.cancelled && intent.kind().leaves_an_object();
            let changes = intent.inode == inode.id && leaves;
            if changes && intent.id != later.get() && !intent.tell.contains(&later.get()) {
                intent.tell.push(later.get());
                self.put_intent(&intent);
            }
        }
        Ok(())
    }

    /// The upload of the committed version of a file (again): one that has not started yet is re-used.
    pub(super) fn schedule_upload(&mut self, inode: &mut Inode) -> Outcomes<()> {
        inode.persist_state = PersistState::ToBePersisted as i32;
        inode.persist_refused = false;
        let waiting = self.tx.intents_of(inode.inode_id())?.into_iter();
        let mut waiting = waiting
            .filter(|intent| intent.inode == inode.id && intent.kind() == IntentKind::Persist && !intent.started);
        let Some(mut intent) = waiting.next() else {
            return self.new_late_intent(inode, IntentKind::Persist);
        };
        intent.version = inode.version;
        intent.length = inode.size;
        intent.write_type = inode.write_type;
        intent.created_ns = self.now_ns;
        // What was refused was another content; this one may pass.
        (intent.refused, intent.attempts, intent.refusals) = (false, 0, 0);
        self.put_intent(&intent);
        self.applied.intents.push(intent.id);
        Ok(())
    }

    /// Attributes changed: the under-storage is told if it keeps them and has the inode; otherwise they go with the upload.
    pub(super) fn schedule_attributes(&mut self, inode: &Inode) -> Outcomes<()> {
        let mount = self.tx.mount(inode.mount())?;
        if !mount.spec.as_ref().is_some_and(|spec| spec.stores_attributes) || inode.nlink == 0 {
            return Ok(());
        }
        let presence = self.presence(inode)?;
        let waiting = |intent: &&Intent| intent.kind() == IntentKind::SetAttr && !intent.started;
        match presence.intents.iter().find(waiting) {
            _ if !presence.own => Ok(()),
            None => self.new_late_intent(inode, IntentKind::SetAttr),
            // One change of the object for all that are made of late.
            Some(waiting) => {
                let mut waiting = waiting.clone();
                if waiting.changed_since_ns == 0 {
                    waiting.changed_since_ns = waiting.created_ns;
                }
                waiting.created_ns = self.now_ns.max(waiting.created_ns);
                self.put_intent(&waiting);
                Ok(())
            }
        }
    }

    /// Whether a commit is to be uploaded: by its write type, or because the under-storage has an older version, which would
    /// otherwise stay as if it were the file's.
    pub(super) fn must_upload(&self, inode: &Inode) -> Outcomes<bool> {
        if inode.nlink == 0 {
            return Ok(false);
        }
        if inode.write_type() != WriteType::MustCache {
            return Ok(true);
        }
        let presence = self.presence(inode)?;
        Ok(presence.own || presence.occupied || self.will_upload(inode, &presence))
    }
}

/// Lengths of objects that may be at an inode's path without anybody knowing their fingerprints.
fn uncertain_lengths<'a>(inode: &Inode, changes: impl Iterator<Item = &'a Intent>) -> Vec<u64> {
    let known = inode.ufs.iter().flat_map(|ufs| ufs.uncertain.iter().copied());
    let uploads = changes.filter(|intent| intent.kind().is_creating());
    known.chain(uploads.map(|intent| intent.length)).collect()
}

/// Remembers that an object of somebody else may be at the inode's path.
pub(super) fn occupy(inode: &mut Inode, fingerprint: String) {
    let ufs = inode.ufs.get_or_insert_with(UfsBinding::default);
    if fingerprint.is_empty() || ufs.occupied.contains(&fingerprint) {
        return;
    }
    if ufs.occupied.len() == OCCUPIED_MAX {
        ufs.occupied.remove(0);
    }
    ufs.occupied.push(fingerprint);
}

/// Remembers that an object of that length, of an upload that did not report back, may be at the inode's path.
pub(super) fn occupy_uncertain(inode: &mut Inode, length: u64) {
    let ufs = inode.ufs.get_or_insert_with(UfsBinding::default);
    if ufs.uncertain.contains(&length) {
        return;
    }
    if ufs.uncertain.len() == OCCUPIED_MAX {
        ufs.uncertain.remove(0);
    }
    ufs.uncertain.push(length);
}

/// The inode has nothing to do with what others left at the path any more.
pub(super) fn forget_others(inode: &mut Inode) {
    if let Some(ufs) = &mut inode.ufs {
        ufs.occupied.clear();
        ufs.uncertain.clear();
    }
}
