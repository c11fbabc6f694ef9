//! Intents to change an under-storage: journaling, starting, finishing (DESIGN D9).

use alluxio_proto::types::PersistState;
use alluxio_proto::{ErrorKind, InodeId, IntentId, MountId};

use std::sync::Arc;

use super::Work;
use super::presence::{forget_others, occupy, occupy_uncertain};
use crate::state::command::{IntentCopied, IntentDone, IntentFailed, IntentStarted, UfsEntry};
use crate::state::fault::{Outcomes, refuse};
use crate::state::inode::{Inode, UfsBinding};
use crate::state::records::{GIVEN_UP_MAX, GivenUp, Intent, IntentKind, STUCK_AFTER};
use crate::state::strays::{Passed, Passing};
use crate::state::tables::{self, PathRole};
use crate::state::view::View;

impl Work<'_, '_> {
    /// Journals an intent whose path is known: it has its place in the order from now on.
    pub(super) fn new_fixed_intent(&mut self, mut intent: Intent) -> Outcomes<IntentId> {
        intent.id = self.count_intent(intent.kind());
        intent.order = intent.id;
        intent.created_ns = self.now_ns;
        self.tx.put(
            tables::intent_by_inode(InodeId(intent.inode), IntentId(intent.id)),
            tables::nothing(),
        );
        self.index_path(&intent);
        self.put_intent(&intent);
        self.applied.intents.push(intent.id);
        Ok(IntentId(intent.id))
    }

    /// Journals an intent whose path is decided when it starts.
    pub(super) fn new_late_intent(&mut self, inode: &Inode, kind: IntentKind) -> Outcomes<()> {
        let intent = Intent {
            id: self.count_intent(kind),
            kind: kind as i32,
            mount_id: inode.mount_id,
            inode: inode.id,
            inode_kind: inode.kind,
            version: inode.version,
            length: inode.to_attr().size,
            write_type: inode.write_type,
            created_ns: self.now_ns,
            dir: inode.parent,
            ..Default::default()
        };
        self.tx.put(
            tables::intent_by_inode(inode.inode_id(), IntentId(intent.id)),
            tables::nothing(),
        );
        self.put_intent(&intent);
        self.applied.intents.push(intent.id);
        Ok(())
    }

    pub(super) fn count_intent(&mut self, kind: IntentKind) -> u64 {
        let counters = self.tx.counters_mut();
        counters.intents += 1;
        counters.renames += u64::from(kind == IntentKind::Rename);
        counters.intent_high += 1;
        counters.intent_high
    }

    pub(super) fn put_intent(&mut self, intent: &Intent) {
        self.tx.put_record(tables::intent(IntentId(intent.id)), intent);
    }

    pub(super) fn index_path(&mut self, intent: &Intent) {
        let (mount, id) = (MountId(intent.mount_id), IntentId(intent.id));
        let role = |is_target| {
            PathRole {
                id,
                is_target,
                order: if is_target { intent.target_order() } else { intent.order },
            }
            .encode()
        };
        self.tx
            .put(tables::intent_by_path(mount, &intent.path, id), role(false));
        if intent.kind() == IntentKind::Rename {
            self.tx.put(
                tables::intent_by_path(intent.to_mount(), &intent.to_path, id),
                role(true),
            );
        }
    }

    pub(super) fn drop_intent(&mut self, intent: &Intent) {
        let id = IntentId(intent.id);
        self.applied.ended.push(intent.id);
        self.tx.delete(tables::intent(id));
        self.tx.delete(tables::intent_by_inode(InodeId(intent.inode), id));
        if intent.heir != 0 {
            self.tx.delete(tables::intent_by_inode(InodeId(intent.heir), id));
        }
        self.unindex_path(intent);
        let counters = self.tx.counters_mut();
        counters.intents = counters.intents.saturating_sub(1);
        counters.renames = counters
            .renames
            .saturating_sub(u64::from(intent.kind() == IntentKind::Rename));
    }

    pub(super) fn unindex_path(&mut self, intent: &Intent) {
        let (mount, id) = (MountId(intent.mount_id), IntentId(intent.id));
        if intent.order != 0 {
            self.tx.delete(tables::intent_by_path(mount, &intent.path, id));
            if intent.kind() == IntentKind::Rename {
                self.tx
                    .delete(tables::intent_by_path(intent.to_mount(), &intent.to_path, id));
            }
        }
    }

    pub(super) fn intent_started(&mut self, c: IntentStarted) -> Outcomes<()> {
        let Some(mut intent) = self.tx.intent_opt(IntentId(c.intent))? else {
            return Ok(());
        };
        let passing = Passing {
            passes: c.passes,
            keeps: c.keeps,
        };
        if intent.order != 0 {
            let passed = self.way_past(&intent, passing)?;
            if self.pass_strays(&mut intent, None, &passed)? {
                return Ok(());
            }
            let was_refused = std::mem::take(&mut intent.refused);
            if !intent.started {
                intent.started = true;
                self.bump_epoch(&intent)?;
                self.put_intent(&intent);
            } else if was_refused {
                self.put_intent(&intent);
            }
            self.applied.intent = Some(intent);
            return Ok(());
        }
        if std::mem::take(&mut intent.refused) {
            self.mark_refused(&intent, false)?;
            self.put_intent(&intent);
        }
        self.start_late(intent, c.replace_foreign, passing)
    }

    /// Starts one whose path is decided now.
    fn start_late(&mut self, mut intent: Intent, foreign: Option<String>, passing: Passing) -> Outcomes<()> {
        let inode = self.tx.inode_opt(InodeId(intent.inode))?;
        let placed = match inode {
            Some(inode) => self.tx.natural_path(&inode)?.map(|path| ((*inode).clone(), path)),
            None => None,
        };
        let Some((mut inode, path)) = placed else {
            // Unlinked, or in a deleted tree: nothing is to be made there any more.
            self.drop_intent(&intent);
            return Ok(());
        };
        // It may have moved to another mount since a try that was refused.
        intent.mount_id = inode.mount_id;
        intent.path = path;
        let passed = self.way_past(&intent, passing)?;
        self.pass_strays(&mut intent, Some(&mut inode), &passed)?;
        if let Some(foreign) = foreign {
            let ufs = inode.ufs.get_or_insert_with(UfsBinding::default);
            (ufs.present, ufs.occupied) = (false, vec![foreign]);
            self.tx.put_inode(inode.clone());
        }
        intent.started = true;
        intent.dir = inode.parent;
        self.tx.counters_mut().intent_high += 1;
        intent.order = self.tx.counters().intent_high;
        if let Some(ufs) = inode.ufs.as_ref().filter(|_| intent.kind().is_creating()) {
            let is_elsewhere = |met: &Passed| met.is_missing_at() && met.stray.inode == inode.id;
            intent.expect = match ufs.present && !passed.iter().any(is_elsewhere) {
                true => vec![ufs.fingerprint.clone()],
                false => ufs.occupied.clone(),
            };
            intent.expect_lengths = ufs.uncertain.clone();
        }
        if intent.kind().is_creating() {
            self.mark_in_ufs(inode.parent_id())?;
        }
        self.index_path(&intent);
        self.put_intent(&intent);
        self.applied.intent = Some(intent);
        Ok(())
    }

    /// The strays that it passes.
    fn way_past(&self, intent: &Intent, passing: Passing) -> Outcomes<Vec<Passed>> {
        match self.tx.way_of(intent, passing)? {
            Ok(passed) => Ok(passed),
            Err(before) => refuse(
                ErrorKind::Busy,
                format!("intent {} waits for intent {before}", intent.id),
            ),
        }
    }

    pub(super) fn intent_copied(&mut self, c: IntentCopied) -> Outcomes<()> {
        if let Some(mut intent) = self.tx.intent_opt(IntentId(c.intent))? {
            if !c.objects.is_empty() {
                self.objects_copied(&intent, c.objects)?;
                self.applied.intent = Some(intent);
                return Ok(());
            }
            intent.copied = c.copied;
            self.put_intent(&intent);
            self.applied.intent = Some(intent);
        }
        Ok(())
    }

    pub(super) fn intent_done(&mut self, c: IntentDone) -> Outcomes<()> {
        let Some(intent) = self.tx.intent_opt(IntentId(c.intent))? else {
            return Ok(());
        };
        if c.of_copy && !intent.is_across() {
            return Ok(());
        }
        if !intent.started {
            return refuse(
                ErrorKind::InvalidArgument,
                format!("intent {} has not been started", intent.id),
            );
        }
        self.drop_intent(&intent);
        if !c.skipped && !intent.cancelled {
            self.end_strays_at(&intent)?;
        }
        self.bump_epoch(&intent)?;
        self.bump_generation(InodeId(intent.dir))?;
        if intent.kind() == IntentKind::Rename && intent.to_dir != intent.dir {
            self.bump_generation(InodeId(intent.to_dir))?;
        }
        if intent.kind().leaves_an_object() && !intent.is_folder() {
            self.tell(&intent, &c.fingerprint, c.taken_along.is_some())?;
        }
        if intent.is_across() && !c.skipped && c.fingerprint.is_empty() {
            self.expect_nothing_of(&intent)?;
        }
        if intent.is_across() && !c.skipped {
            self.delete_copied(&intent, c.source_fingerprint);
        }
        let inode = self.tx.inode_opt(InodeId(intent.inode))?;
        if c.skipped && intent.cancelled {
            // It had started: a worker or a master that crashed since may have done it.
            self.leave_uncertain(&intent, inode)?;
            return Ok(());
        }
        let Some(mut inode) = inode.map(|inode| (*inode).clone()).filter(|_| !intent.cancelled) else {
            return Ok(());
        };
        match intent.kind() {
            IntentKind::Persist | IntentKind::Symlink => uploaded(&mut inode, &intent, c.fingerprint),
            IntentKind::Mkdir => inode.persist_state = PersistState::Persisted as i32,
            IntentKind::Rename | IntentKind::SetAttr => {
                inode.persist_refused &= !intent.stays;
                let is_moved = intent.kind() == IntentKind::Rename && !inode.is_dir() && !c.skipped;
                if is_moved && (c.taken_along.is_none() || !self.follows(2)) {
                    self.settle_occupied(&mut inode, &c.fingerprint)?;
                }
                if let Some(entry) = c.taken_along.filter(|_| !c.skipped) {
                    self.take_along(&mut inode, &entry)?;
                    self.put_and_answer(inode);
                    return Ok(());
                }
                // The fingerprint of a folder says nothing of what is in it.
                let tells = !c.fingerprint.is_empty() && !inode.is_dir();
                if let Some(ufs) = inode.ufs.as_mut().filter(|ufs| ufs.present && !c.skipped && tells) {
                    ufs.fingerprint = c.fingerprint;
                }
            }
            IntentKind::Delete | IntentKind::DeleteTree | IntentKind::Rmdir => return Ok(()),
        }
        self.put_and_answer(inode);
        Ok(())
    }

    /// What the rename of a file has replaced is gone, unless another rename of it is pending, which is to replace something else. What an
    /// upload may have left went along, so `uncertain` stays. So did the object of a file whose name this one took over, if nothing of
    /// its own was there: its next upload replaces that, as what it is known by now.
    fn settle_occupied(&mut self, inode: &mut Inode, fingerprint: &str) -> Outcomes<()> {
        let moves_on = |other: &Intent| other.kind() == IntentKind::Rename && other.inode == inode.id;
        let moves_on = self.tx.intents_of(inode.inode_id())?.iter().any(moves_on);
        let Some(ufs) = &mut inode.ufs else { return Ok(()) };
        if !moves_on {
            ufs.occupied.clear();
        }
        if !ufs.present {
            occupy(inode, fingerprint.to_owned());
        }
        Ok(())
    }

    /// A rename took along what somebody had put in the place of a file. If there is nothing else of that file, it is the file from
    /// now on. Otherwise the file stays bound to the object that it had, which is nowhere: so whoever changes it, looks at it or gives it
    /// back unchanged meets what is there as he would have without the rename, and nothing of ours replaces or deletes it unseen.
    fn take_along(&mut self, inode: &mut Inode, entry: &UfsEntry) -> Outcomes<()> {
        let is_known = |ufs: &UfsBinding| ufs.present && ufs.version == inode.version;
        let is_all = inode.open.is_none() && inode.ufs.as_ref().is_some_and(is_known);
        let (is_named, careful) = (inode.nlink > 0, self.follows(2));
        if is_all && inode.kind == entry.kind && (is_named || !careful) {
            return self.adopt(inode, entry);
        }
        if careful {
            return Ok(());
        }
        if let Some(ufs) = &mut inode.ufs {
            ufs.present = false;
            ufs.occupied = vec![entry.fingerprint.clone()];
        }
        Ok(())
    }

    /// A rename to another mount is done there: it lives on as the delete of its source, in its place in the order. Nothing
    /// but what was copied is deleted.
    fn delete_copied(&mut self, rename: &Intent, source_fingerprint: String) {
        let mut delete = delete_of_source(rename);
        if !source_fingerprint.is_empty() {
            delete.expect = vec![source_fingerprint];
        }
        self.live_on(delete);
    }

    /// A rename that was dropped lives on as the delete of its source, in its place in the order.
    pub(super) fn live_on(&mut self, delete: Intent) {
        self.tx.put(
            tables::intent_by_inode(InodeId(delete.inode), IntentId(delete.id)),
            tables::nothing(),
        );
        self.index_path(&delete);
        self.put_intent(&delete);
        self.tx.counters_mut().intents += 1;
        self.applied.intents.push(delete.id);
    }

    /// A copy to another mount was not made, because its inode has lost its name: who has the name now finds nothing there.
    fn expect_nothing_of(&mut self, copy: &Intent) -> Outcomes<()> {
        if let Some(heir) = self.tx.inode_opt(InodeId(copy.heir))? {
            let mut heir = (*heir).clone();
            if let Some(ufs) = &mut heir.ufs {
                ufs.occupied.retain(|fingerprint| !copy.expect.contains(fingerprint));
            }
            self.tx.put_inode(heir);
        }
        Ok(())
    }

    /// What a change left at its path is made known to those who come after it: a delete or rename behind it, or the inode
    /// that took the name.
    /// Unless it is somebody's, which is not to become ours by that.
    fn tell(&mut self, change: &Intent, fingerprint: &str, is_of_others: bool) -> Outcomes<()> {
        if fingerprint.is_empty() || (is_of_others && self.follows(2)) {
            return Ok(());
        }
        for id in &change.tell {
            if let Some(mut later) = self.tx.intent_opt(IntentId(*id))? {
                later.expect.push(fingerprint.to_owned());
                self.put_intent(&later);
            }
        }
        if let Some(heir) = self.tx.inode_opt(InodeId(change.heir))? {
            let mut heir = (*heir).clone();
            occupy(&mut heir, fingerprint.to_owned());
            self.tx.put_inode(heir);
        }
        Ok(())
    }

    pub(super) fn intent_failed(&mut self, c: IntentFailed) -> Outcomes<()> {
        let Some(mut intent) = self.tx.intent_opt(IntentId(c.intent))? else {
            return Ok(());
        };
        let inode = self.tx.inode_opt(InodeId(intent.inode))?;
        let alive = inode.as_ref().is_some_and(|inode| inode.nlink > 0);
        let newer = inode.as_ref().is_some_and(|inode| inode.version > intent.version);
        let is_persist = intent.kind() == IntentKind::Persist;
        let pointless = intent.cancelled || (!alive && intent.kind() == IntentKind::SetAttr);
        if pointless || (is_persist && (c.superseded || c.refused) && newer) || (is_persist && c.data_lost) {
            self.drop_intent(&intent);
            self.bump_generation(InodeId(intent.dir))?;
            let inode = self.leave_uncertain(&intent, inode)?;
            if let Some(inode) = inode.filter(|_| alive && c.data_lost && !newer && !intent.cancelled) {
                let mut inode = inode;
                inode.persist_state = PersistState::Lost as i32;
                self.inode_changed(inode.id, false);
                self.put_and_answer(inode);
            }
            return Ok(());
        }
        intent.attempts = intent.attempts.saturating_add(1);
        intent.last_error = c.error;
        intent.retry_at_ns = c.retry_at_ns;
        (intent.refusals, intent.refused_since_ns) = match (c.refusal, intent.refusals) {
            (false, _) => (0, 0),
            (true, 0) => (1, self.now_ns),
            (true, before) => (before.saturating_add(1), intent.refused_since_ns),
        };
        if c.refused {
            // What has a copy is to lose its source next, and is at two places until then.
            intent.stays = c.stays && intent.copied.is_none();
            return self.refuse_intent(intent, inode, c.keep);
        }
        self.put_intent(&intent);
        self.applied.intent = Some(intent);
        Ok(())
    }

    /// The under-storage will not do it: what does not depend on it must not wait for it.
    fn refuse_intent(&mut self, mut intent: Intent, inode: Option<Arc<Inode>>, keep: bool) -> Outcomes<()> {
        match intent.kind() {
            IntentKind::Delete | IntentKind::DeleteTree | IntentKind::Rmdir if keep => {}
            IntentKind::Delete | IntentKind::DeleteTree | IntentKind::Rmdir | IntentKind::SetAttr => {
                self.drop_intent(&intent);
                self.bump_epoch(&intent)?;
                self.bump_generation(InodeId(intent.dir))?;
                return self.give_up(intent);
            }
            IntentKind::Persist => {
                // As if it had not begun: its mount and path are decided anew by the next try.
                let mount_id = inode.as_ref().map_or(intent.mount_id, |inode| inode.mount_id);
                self.leave_uncertain(&intent, inode)?;
                self.unindex_path(&intent);
                intent.mount_id = mount_id;
                intent.path = Default::default();
                (intent.order, intent.started) = (0, false);
                intent.expect.clear();
                intent.expect_lengths.clear();
                intent.tell.clear();
            }
            IntentKind::Rename | IntentKind::Mkdir | IntentKind::Symlink => {}
        }
        intent.refused = true;
        if intent.kind() == IntentKind::Persist || keep {
            self.mark_refused(&intent, true)?;
        }
        self.put_intent(&intent);
        self.applied.intent = Some(intent);
        Ok(())
    }

    /// A person has decided.
    pub(super) fn forget_refused(&mut self, id: IntentId) -> Outcomes<()> {
        if !self.who.superuser {
            return refuse(ErrorKind::NotPermitted, "only the superuser gives changes up");
        }
        let told = tables::given_up(id);
        if self.tx.get(&told)?.is_some() {
            self.tx.delete(told);
            return Ok(());
        }
        let Some(intent) = self.tx.intent_opt(id)? else {
            return refuse(ErrorKind::NotFound, format!("there is no change {id} any more"));
        };
        if !intent.refused && intent.refusals < STUCK_AFTER {
            let why = format!("change {id} is not (or not often) refused by its under-storage, and is tried on");
            return refuse(ErrorKind::InvalidArgument, why);
        }
        if intent.kind() == IntentKind::Rename && intent.is_stray() {
            return self.forget_stray(intent);
        }
        if matches!(
            intent.kind(),
            IntentKind::Rename | IntentKind::Mkdir | IntentKind::Symlink
        ) {
            let why = format!(
                "change {id} is one of names, on which others depend: let the under-storage make it, and retry"
            );
            return refuse(ErrorKind::InvalidArgument, why);
        }
        self.drop_intent(&intent);
        self.bump_epoch(&intent)?;
        self.bump_generation(InodeId(intent.dir))?;
        if intent.kind() == IntentKind::Persist {
            let inode = self.tx.inode_opt(InodeId(intent.inode))?;
            let inode = self.leave_uncertain(&intent, inode)?;
            if let Some(mut inode) = inode.filter(|inode| inode.version == intent.version && !intent.cancelled) {
                // The cache has it. `fs persist` schedules it again.
                inode.persist_state = PersistState::NotPersisted as i32;
                inode.persist_refused = false;
                self.inode_changed(inode.id, false);
                self.tx.put_inode(inode);
            }
        }
        Ok(())
    }

    pub(super) fn mark_refused(&mut self, intent: &Intent, refused: bool) -> Outcomes<()> {
        let shows = matches!(intent.kind(), IntentKind::Persist | IntentKind::Rename) && !intent.is_folder();
        let inode = self.tx.inode_opt(InodeId(intent.inode))?;
        if let Some(inode) = inode.filter(|_| shows) {
            let mut inode = (*inode).clone();
            inode.persist_refused = refused;
            self.inode_changed(inode.id, false);
            self.tx.put_inode(inode);
        }
        Ok(())
    }

    fn give_up(&mut self, intent: Intent) -> Outcomes<()> {
        let rows = self.tx.scan(&[tables::GIVEN_UP], &[tables::GIVEN_UP + 1], usize::MAX)?;
        for (key, _) in rows.iter().take((rows.len() + 1).saturating_sub(GIVEN_UP_MAX)) {
            self.tx.delete(key.clone());
        }
        let record = GivenUp {
            id: intent.id,
            kind: intent.kind,
            mount_id: intent.mount_id,
            path: intent.path,
            error: intent.last_error,
            at_ns: self.now_ns,
        };
        self.tx.put_record(tables::given_up(IntentId(record.id)), &record);
        Ok(())
    }

    /// An upload ended and nobody knows whether its object is there: whoever has the path now must reckon with it. (Deletes
    /// behind it know its length already.)
    fn leave_uncertain(&mut self, upload: &Intent, inode: Option<Arc<Inode>>) -> Outcomes<Option<Inode>> {
        let heir = if upload.heir != 0 {
            self.tx.inode_opt(InodeId(upload.heir))?
        } else {
            None
        };
        let own = inode.map(|inode| (*inode).clone());
        if !upload.started || !matches!(upload.kind(), IntentKind::Persist | IntentKind::Symlink) {
            return Ok(own);
        }
        if let Some(heir) = heir {
            let mut heir = (*heir).clone();
            occupy_uncertain(&mut heir, upload.length);
            self.tx.put_inode(heir);
        }
        Ok(match own {
            Some(mut own) if !upload.cancelled => {
                occupy_uncertain(&mut own, upload.length);
                self.tx.put_inode(own.clone());
                Some(own)
            }
            own => own,
        })
    }

    pub(super) fn schedule_persist_now(&mut self, id: InodeId) -> Outcomes<()> {
        let mut inode = self.edit(id)?;
        self.check_writable_mount(&inode)?;
        self.who.check_access(&inode, super::WRITE)?;
        let waits = inode.persist_state() == PersistState::NotPersisted && inode.nlink > 0;
        // What is open and was never committed is uploaded by its commit; devices and the like never.
        let has_content = inode.is_file() && (inode.version > 0 || inode.open.is_none());
        if waits && has_content {
            self.schedule_upload(&mut inode)?;
        }
        self.put_and_answer(inode);
        Ok(())
    }

    /// Something may come to be beneath `dir`: so may its folder, and those above it. Whether they are there is only certain
    /// after their own mkdir.
    fn mark_in_ufs(&mut self, dir: InodeId) -> Outcomes<()> {
        for dir in self.dirs_above(dir)? {
            let mut inode = self.edit(dir)?;
            match inode.persist_state() {
                PersistState::Persisted => return Ok(()),
                PersistState::ToBePersisted => {}
                PersistState::NotPersisted | PersistState::Lost => self.new_late_intent(&inode, IntentKind::Mkdir)?,
            }
            inode.persist_state = PersistState::Persisted as i32;
            self.tx.put_inode(inode);
        }
        Ok(())
    }

    /// Makes sure that the folder of `dir` will be there before anything that is journaled from now on: a rename, unlike an
    /// upload, does not make folders.
    pub(super) fn ensure_dirs(&mut self, dir: InodeId) -> Outcomes<()> {
        for dir in self.dirs_above(dir)?.into_iter().rev() {
            let mkdir = |intent: &Intent| intent.inode == dir.get() && intent.kind() == IntentKind::Mkdir;
            let waiting = self.tx.intents_of(dir)?.into_iter().find(mkdir);
            let mut inode = self.edit(dir)?;
            match &waiting {
                Some(started) if started.order != 0 => continue,
                None if inode.is_persisted() => continue,
                Some(late) => self.drop_intent(late),
                None => {}
            }
            let Some(path) = self.tx.natural_path(&inode)? else {
                return Ok(());
            };
            self.new_fixed_intent(Intent {
                kind: IntentKind::Mkdir as i32,
                mount_id: inode.mount_id,
                path,
                inode: dir.get(),
                inode_kind: inode.kind,
                dir: inode.parent,
                ..Default::default()
            })?;
            inode.persist_state = PersistState::Persisted as i32;
            self.tx.put_inode(inode);
        }
        Ok(())
    }

    /// `dir` and the directories above it, from below, the mount's root not included.
    fn dirs_above(&self, dir: InodeId) -> Outcomes<Vec<InodeId>> {
        let mut above = Vec::new();
        let mut at = dir;
        while let Some(inode) = self.tx.inode_opt(at)? {
            if inode.parent == 0 || self.tx.is_mount_point(&inode) {
                break;
            }
            above.push(at);
            at = inode.parent_id();
        }
        Ok(above)
    }

    /// A listing of the directory that was made before now may be wrong.
    pub(super) fn bump_generation(&mut self, dir: InodeId) -> Outcomes<()> {
        if let Some(inode) = self.tx.inode_opt(dir)? {
            let mut inode = (*inode).clone();
            inode.generation += 1;
            self.tx.put_inode(inode);
        }
        Ok(())
    }

    /// So may be every listing of the mount, if a folder moves or goes.
    pub(super) fn bump_epoch(&mut self, intent: &Intent) -> Outcomes<()> {
        let moves = matches!(intent.kind(), IntentKind::Rename | IntentKind::DeleteTree);
        // What a rename or removal has left behind: nobody knows which directory's it is by now.
        let is_left = intent.dir == 0 && intent.order != 0 && intent.leaves_its_place();
        if let Some(mount) = self
            .tx
            .mount_opt(MountId(intent.mount_id))
            .filter(|_| (intent.is_folder() && moves) || is_left)
        {
            let mut mount = (*mount).clone();
            mount.epoch += 1;
            self.tx.put_mount(mount);
        }
        Ok(())
    }
}

/// The object of an inode's version is where the upload put it, over whatever was there.
fn uploaded(inode: &mut Inode, intent: &Intent, fingerprint: String) {
    let ufs = inode.ufs.get_or_insert_with(UfsBinding::default);
    ufs.version = intent.version;
    ufs.fingerprint = fingerprint;
    ufs.length = intent.length;
    ufs.present = true;
    inode.persist_refused = false;
    forget_others(inode);
    if inode.version == intent.version {
        inode.persist_state = PersistState::Persisted as i32;
    }
}

/// The delete that a rename which has made its copy lives on as.
pub(super) fn delete_of_source(rename: &Intent) -> Intent {
    Intent {
        id: rename.id,
        kind: IntentKind::Delete as i32,
        mount_id: rename.mount_id,
        path: rename.path.clone(),
        inode: rename.inode,
        inode_kind: rename.inode_kind,
        created_ns: rename.created_ns,
        order: rename.order,
        expect: rename.expect.clone(),
        dir: rename.dir,
        ..Default::default()
    }
}
