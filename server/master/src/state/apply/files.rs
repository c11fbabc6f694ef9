//! Data and attributes of files: opening for writing, committing, closing, recovering, setting attributes.

use alluxio_proto::master::ACCESSED_MAX;
use alluxio_proto::types::PersistState;
use alluxio_proto::{ErrorKind, InodeId, SessionId};

use super::Work;
use super::access::{WRITE, Who};
use super::xattrs::CAPABILITY;
use crate::state::command::{CloseWrite, Commit, MarkDurable, OpenWrite, Recovered, SetAttr, Spill, TouchAtimes};
use crate::state::fault::{Outcomes, refuse};
use crate::state::inode::{CachedAt, Inode, OpenVersion, Writer};
use crate::state::records::{Freed, RecoverItem};
use crate::state::tables::{self, HELD_WRITE};
use crate::state::view::View;

impl Work<'_, '_> {
    pub(super) fn open_write(&mut self, c: OpenWrite) -> Outcomes<()> {
        if self.session.get() == 0 {
            return refuse(
                ErrorKind::InvalidArgument,
                "a file can be opened for writing in a session only",
            );
        }
        let mut inode = self.file(c.inode)?;
        self.check_writable_mount(&inode)?;
        self.who.check_access(&inode, WRITE)?;
        if inode.persist_state() == PersistState::Lost && !c.truncate {
            return refuse(
                ErrorKind::DataLost,
                format!("the only copy of file {} is gone; truncate or remove it", inode.id),
            );
        }
        match &mut inode.open {
            Some(open) if open.recovering && !open.mapped => {
                return refuse(
                    ErrorKind::Unavailable,
                    format!("file {} is being recovered; try again", inode.id),
                );
            }
            Some(open) => {
                if open.recovering {
                    // Only mappings wrote it: its home hears of the writer by being asked to open it.
                    self.tx.delete(tables::session_open(SessionId(0), InodeId(inode.id)));
                }
                (open.recovering, open.mapped) = (false, false);
                join(open, self.session);
                open.truncated |= c.truncate;
                if c.truncate && open.durable_length.is_some() && self.follows(1) {
                    // What was synced before is no longer what is promised, or shown.
                    open.durable_length = Some(0);
                    open.durable_mtime_ns = open.durable_mtime_ns.max(self.now_ns);
                }
            }
            None => {
                inode.version_high += 1;
                inode.write_type = c.write_type;
                inode.open = Some(OpenVersion {
                    version: inode.version_high,
                    home_worker: c.home_worker,
                    writers: vec![Writer {
                        session: self.session.get(),
                        count: 1,
                    }],
                    write_type: c.write_type,
                    truncated: c.truncate || inode.size == 0,
                    ..Default::default()
                });
            }
        }
        self.tx
            .put(tables::session_open(self.session, inode.inode_id()), tables::nothing());
        if inode.nlink == 0 {
            self.hold(inode.inode_id(), self.session, HELD_WRITE)?;
        }
        // Readers on other hosts must come to the home from now on.
        self.inode_changed(inode.id, c.truncate);
        self.put_and_answer(inode);
        Ok(())
    }

    pub(super) fn commit(&mut self, c: Commit) -> Outcomes<()> {
        let mut inode = self.file(c.inode)?;
        let open = inode.open.as_ref();
        let Some(open) = open.filter(|open| is_writer(open, self.session.get())) else {
            // Whatever version it asks for: its opening has ended.
            return refuse(
                ErrorKind::Gone,
                format!("session {} does not have file {} open", self.session, inode.id),
            );
        };
        if open.version != c.version || open.recovering {
            return refuse(
                ErrorKind::Stale,
                format!("version {} of file {} is not open", c.version, inode.id),
            );
        }
        let stays = c.keep_open || open.writer_count() > 1;
        self.commit_written(&mut inode, (c.length, c.hole_bytes), c.mtime_ns, c.ctime_ns, stays)?;
        if !c.keep_open && self.follows(1) {
            // Others write on; its own opening ends with this.
            self.end_opening(&mut inode);
        }
        if let Some(open) = &mut inode.open {
            open.mapped = c.mapped;
        }
        self.put_and_answer(inode);
        Ok(())
    }

    /// Whether the open version of a file may be committed by its home alone, which needs its room. What would not be uploaded
    /// frees none.
    pub(super) fn spill(&mut self, c: Spill) -> Outcomes<()> {
        let mut inode = self.file(c.inode)?;
        // Its writer has committed it, or it is told again: what is open is the version after that.
        let goes_on_as = inode.open.as_ref().map(|open| open.version);
        let committed = goes_on_as.filter(|version| inode.version == c.version && *version > c.version);
        if let Some((kind, why)) = inode.keeps_its_room(committed.unwrap_or(c.version), c.home_worker) {
            return refuse(kind, format!("version {} of file {}: {why}", c.version, inode.id));
        }
        inode.spilled = true;
        if committed.is_none() {
            self.commit_written(&mut inode, (c.length, c.hole_bytes), c.mtime_ns, c.ctime_ns, true)?;
        }
        self.put_and_answer(inode);
        Ok(())
    }

    /// As [`Self::commit_version`], with what the home says of holes, and of the last change by its clock (0: nothing).
    fn commit_written(
        &mut self,
        inode: &mut Inode,
        (length, hole_bytes): (u64, u64),
        mtime_ns: i64,
        ctime_ns: i64,
        stays_open: bool,
    ) -> Outcomes<()> {
        let before_ns = inode.ctime_ns;
        self.commit_version(inode, length, mtime_ns, stays_open)?;
        // What fstat said of the open file stays true after its close. A home whose clock is ahead does not reach the future.
        if ctime_ns != 0 {
            let told_ns = ctime_ns.min(self.now_ns.max(before_ns));
            inode.ctime_ns = match told_ns < before_ns {
                // Who wrote it has not heard of the change that was then, so others have seen that time without the data.
                true => before_ns + 1,
                false => told_ns,
            };
        }
        inode.hole_bytes = hole_bytes.min(length);
        Ok(())
    }

    /// Makes the open version the committed one.
    fn commit_version(&mut self, inode: &mut Inode, length: u64, mtime_ns: i64, stays_open: bool) -> Outcomes<()> {
        let Some(mut open) = inode.open.take() else {
            return Ok(());
        };
        let old = std::mem::replace(&mut inode.version, open.version);
        inode.size = length;
        inode.hole_bytes = 0;
        inode.mtime_ns = mtime_ns;
        // Since the last write, not since now: whoever looked in between has seen that time. An mtime that was set may be
        // in the future; then the setting has changed ctime already.
        inode.ctime_ns = inode.ctime_ns.max(mtime_ns.min(self.now_ns));
        inode.write_type = open.write_type;
        // What has no name any more is not uploaded again: what was is still needed.
        inode.spilled &= stays_open || inode.nlink == 0;
        self.free_version(inode, old, Some(open.home_worker));
        // The home has just sealed it, whole; its next report says the same.
        inode.locations = vec![CachedAt {
            worker: open.home_worker,
            version: open.version,
            bytes: length,
        }];
        if stays_open {
            inode.version_high = inode.version_high.max(open.version + 1);
            open.version += 1;
            open.committed_since_open = true;
            open.truncated = false;
            open.durable_length = None;
            inode.open = Some(open);
        } else {
            for writer in &open.writers {
                self.tx
                    .delete(tables::session_open(SessionId(writer.session), inode.inode_id()));
                if inode.nlink == 0 {
                    self.release_after(inode.inode_id(), writer.session);
                }
            }
            self.tx.delete(tables::session_open(SessionId(0), inode.inode_id()));
        }
        if self.must_upload(inode)? {
            self.schedule_upload(inode)?;
        } else {
            inode.persist_state = PersistState::NotPersisted as i32;
        }
        self.inode_changed(inode.id, true);
        Ok(())
    }

    pub(super) fn mark_durable(&mut self, c: MarkDurable) -> Outcomes<()> {
        let mut inode = self.file(c.inode)?;
        let (session, of_writers) = (self.session.get(), self.follows(1));
        match &mut inode.open {
            Some(open) if open.version == c.version && of_writers && !is_writer(open, session) => refuse(
                ErrorKind::Stale,
                format!("session {session} does not have file {} open", inode.id),
            ),
            Some(open) if open.version == c.version => {
                open.durable_length = Some(c.length);
                open.durable_mtime_ns = c.mtime_ns;
                // Others see it from now on.
                self.inode_changed(inode.id, true);
                self.put_and_answer(inode);
                Ok(())
            }
            // Committed meanwhile: that promises more.
            _ if inode.version >= c.version => {
                self.answer(&inode);
                Ok(())
            }
            _ => refuse(
                ErrorKind::Stale,
                format!("version {} of file {} is not open", c.version, inode.id),
            ),
        }
    }

    pub(super) fn close_write(&mut self, c: CloseWrite) -> Outcomes<()> {
        let mut inode = self.file(c.inode)?;
        let (session, of_writers) = (self.session.get(), self.follows(1));
        // A close that comes late: the session is no writer any more, or never was. What others have open, or is being
        // recovered, is not its to end.
        let open = inode.open.as_mut();
        let Some(open) = open.filter(|open| !of_writers || is_writer(open, session)) else {
            self.answer(&inode);
            return Ok(());
        };
        open.is_promised |= of_writers && !c.abandon;
        self.end_opening(&mut inode);
        if inode.open.as_ref().is_some_and(|open| open.writers.is_empty()) {
            return self.end_open(inode, &c);
        }
        self.put_and_answer(inode);
        Ok(())
    }

    /// A file is given a name: that is promised, whatever becomes of its content.
    pub(super) fn promise_name(&self, inode: &mut Inode) {
        if let Some(open) = inode.open.as_mut().filter(|_| self.follows(1)) {
            open.is_promised = true;
        }
    }

    /// One opening of the session ends.
    fn end_opening(&mut self, inode: &mut Inode) {
        let Some(open) = &mut inode.open else { return };
        if !leave(open, self.session, 1) {
            self.tx.delete(tables::session_open(self.session, inode.inode_id()));
            if inode.nlink == 0 {
                self.release_after(inode.inode_id(), self.session.get());
            }
        }
    }

    /// The last writer closed without committing what is open.
    fn end_open(&mut self, mut inode: Inode, c: &CloseWrite) -> Outcomes<()> {
        let Some(open) = inode.open.clone() else { return Ok(()) };
        let (never_committed, abandon) = (!open.is_committed(), c.abandon);
        if inode.nlink == 0 {
            if never_committed && self.follows(1) {
                self.applied.freed.push(discarded(inode.id, &open));
            }
            inode.open = None;
            self.put_and_answer(inode);
            return Ok(());
        }
        // What is given up may lie over the only copy of what was committed.
        let elsewhere = |at: &CachedAt| at.worker != open.home_worker && at.version == inode.version;
        let is_kept =
            never_committed || inode.size == 0 || inode.is_persisted() || inode.locations.iter().any(elsewhere);
        let is_over_all = abandon && !is_kept && self.follows(1);
        let may_have_more = (open.durable_length.is_some() || open.mapped || c.left_open) && !abandon;
        if may_have_more || is_over_all {
            return self.recover(inode);
        }
        (inode.open, inode.spilled) = (None, false);
        if abandon {
            self.applied.freed.push(discarded(inode.id, &open));
        }
        // A name that was given to it since it was made stays.
        if never_committed && abandon && inode.nlink == 1 && !open.is_promised {
            let (parent, name) = (inode.parent_id(), inode.name.clone());
            return self.unlink_inode(parent, &name, inode, &c.keep_for);
        }
        if never_committed && self.must_upload(&inode)? {
            // Created and closed, nothing written: the empty file is what was meant.
            self.schedule_upload(&mut inode)?;
        }
        self.vacate_without_upload(&mut inode)?;
        self.inode_changed(inode.id, abandon);
        self.put_and_answer(inode);
        Ok(())
    }

    /// The file took a name over while it was open, and its upload was to replace what is stored there. Now that nothing was
    /// committed none comes: what is stored there goes, or the name would be another file in the under-storage.
    fn vacate_without_upload(&mut self, inode: &mut Inode) -> Outcomes<()> {
        let presence = self.presence(inode)?;
        let is_left = presence.occupied && !presence.own && !self.will_upload(inode, &presence);
        if !is_left || inode.nlink == 0 || !self.follows(1) {
            return Ok(());
        }
        match self.tx.natural_path(inode)? {
            Some(path) => self.vacate(inode, &presence, path, inode.parent_id()),
            None => Ok(()),
        }
    }

    /// A session is gone: its openings of a file end.
    pub(super) fn drop_writer(&mut self, id: InodeId, session: SessionId) -> Outcomes<()> {
        self.tx.delete(tables::session_open(session, id));
        let Some(inode) = self.tx.inode_opt(id)? else {
            return Ok(());
        };
        let mut inode = (*inode).clone();
        let Some(open) = &mut inode.open else { return Ok(()) };
        leave(open, session, u32::MAX);
        if !open.writers.is_empty() || open.recovering {
            self.tx.put_inode(inode);
            return Ok(());
        }
        if inode.nlink == 0 {
            let freed = discarded(inode.id, open);
            inode.open = None;
            self.applied.freed.push(freed);
            self.tx.put_inode(inode);
            return Ok(());
        }
        self.recover(inode)
    }

    /// Leaves the open version to its home, which says what is left of it by `Recovered`.
    fn recover(&mut self, mut inode: Inode) -> Outcomes<()> {
        if let Some(open) = &mut inode.open {
            (open.recovering, open.mapped) = (true, false);
            self.applied.recover.push(recover_item(inode.id, open));
            self.tx
                .put(tables::session_open(SessionId(0), inode.inode_id()), tables::nothing());
        }
        self.put_and_answer(inode);
        Ok(())
    }

    pub(super) fn recovered(&mut self, c: Recovered) -> Outcomes<()> {
        let mut inode = self.file(c.inode)?;
        let Some(open) = inode
            .open
            .clone()
            .filter(|open| open.recovering && open.version == c.version)
        else {
            return refuse(
                ErrorKind::Stale,
                format!("version {} of file {} is not being recovered", c.version, inode.id),
            );
        };
        if c.found {
            // Nobody finds what has no name: it ends with its mappings.
            let stays = c.mapped && inode.nlink > 0;
            let before_ns = inode.ctime_ns;
            if let Some(open) = &mut inode.open {
                // Its writers sealed on, and nobody heard of it.
                open.version = open.version.max(c.as_version);
                inode.version_high = inode.version_high.max(c.as_version);
            }
            self.commit_version(&mut inode, c.length, c.mtime_ns, stays)?;
            // Whoever has seen the time that it had has not seen this data.
            inode.ctime_ns = inode.ctime_ns.max(before_ns + 1);
            if let Some(open) = &mut inode.open {
                open.mapped = true;
                self.applied.recover.push(recover_item(inode.id, open));
            }
            self.put_and_answer(inode);
            return Ok(());
        }
        inode.open = None;
        inode.spilled &= inode.nlink == 0;
        self.tx.delete(tables::session_open(SessionId(0), inode.inode_id()));
        if open.is_unpromised() {
            return self.end_unpromised(inode, c.closed_empty || open.is_promised, &c.keep_for);
        }
        self.inode_changed(inode.id, true);
        // The home may have given the open version back, unchanged, just before its writers died.
        let given_back = c.kept_version != 0 && c.kept_version == inode.version;
        let has_it = |version| version == inode.version || !self.follows(2);
        let elsewhere = |at: &CachedAt| at.worker != open.home_worker && has_it(at.version);
        let elsewhere = inode.locations.iter().any(elsewhere);
        // No byte of an empty version can be gone; its home does not sync it, so the operating system's crash takes it.
        let is_empty = self.follows(1) && inode.size == 0 && open.durable_length.unwrap_or(0) == 0;
        let kept = given_back || is_empty || inode.is_persisted() || elsewhere;
        if !kept {
            // The home held the only copy, of what was promised and of what was under it.
            inode.persist_state = PersistState::Lost as i32;
            let lost = self.tx.intents_of(inode.inode_id())?;
            for intent in lost.iter().filter(|intent| intent.inode == inode.id && !intent.started) {
                self.drop_intent(intent);
            }
        } else {
            self.vacate_without_upload(&mut inode)?;
        }
        self.put_and_answer(inode);
        Ok(())
    }

    /// The writers of a new file died before anything of it was committed.
    fn end_unpromised(&mut self, mut inode: Inode, closed_empty: bool, keep_for: &[u64]) -> Outcomes<()> {
        // A name that was given to it since it was made was promised; its content was not.
        if !closed_empty && inode.nlink == 1 {
            let (parent, name) = (inode.parent_id(), inode.name.clone());
            return self.unlink_inode(parent, &name, inode, keep_for);
        }
        if inode.nlink > 0 && self.must_upload(&inode)? {
            self.schedule_upload(&mut inode)?;
        }
        self.inode_changed(inode.id, true);
        self.put_and_answer(inode);
        Ok(())
    }

    pub(super) fn set_attr(&mut self, c: SetAttr) -> Outcomes<()> {
        let mut inode = self.edit(InodeId(c.inode))?;
        self.check_writable_mount(&inode)?;
        // The kernel takes setuid and setgid away in the name of whoever writes.
        let drops = |mode: u32| Who::only_drops_privileges(&inode, mode) && !self.who.owns(&inode);
        if c.kill_priv || c.mode.is_some_and(drops) {
            self.who.check_access(&inode, WRITE)?;
        }
        if c.mode.is_some_and(|mode| !drops(mode)) || c.pinned.is_some() {
            self.who.check_owner(&inode)?;
        }
        self.chown(&mut inode, c.owner, c.group)?;
        if c.kill_priv {
            self.kill_privileges(&mut inode, c.kill_setgid)?;
        }
        if let Some(mode) = c.mode {
            inode.mode = self.who.chmod(&inode, mode);
        }
        if c.atime_ns.is_some() || c.mtime_ns.is_some() {
            if !c.times_now || !self.who.owns(&inode) {
                match c.times_now {
                    true => self.who.check_access(&inode, WRITE)?,
                    false => self.who.check_owner(&inode)?,
                }
            }
            inode.atime_ns = c.atime_ns.unwrap_or(inode.atime_ns);
            inode.mtime_ns = c.mtime_ns.unwrap_or(inode.mtime_ns);
        }
        inode.pinned = c.pinned.unwrap_or(inode.pinned);
        inode.note_change(self.now_ns);
        self.schedule_attributes(&inode)?;
        self.inode_changed(inode.id, false);
        self.put_and_answer(inode);
        Ok(())
    }

    /// Relatime: a read counts if it is the first since a change, or a day has passed. Nobody is told: it is not worth it.
    pub(super) fn touch_atimes(&mut self, c: TouchAtimes) -> Outcomes<()> {
        for file in c.files.into_iter().take(ACCESSED_MAX) {
            let Some(inode) = self.tx.inode_opt(InodeId(file.inode))? else {
                continue;
            };
            let read_ns = file.atime_ns.min(self.now_ns);
            let is_read_only = self.tx.mount_opt(inode.mount()).is_none_or(|mount| mount.read_only());
            if !is_read_only && inode.is_moved_by_read(read_ns) {
                let mut inode = (*inode).clone();
                inode.atime_ns = read_ns;
                self.tx.put_inode(inode);
            }
        }
        Ok(())
    }

    fn chown(&mut self, inode: &mut Inode, owner: Option<String>, group: Option<String>) -> Outcomes<()> {
        if owner.is_none() && group.is_none() {
            return Ok(());
        }
        let gives_away = owner.as_ref().is_some_and(|owner| *owner != inode.owner);
        let joins_foreign = group
            .as_ref()
            .is_some_and(|group| *group != inode.group && !self.who.is_in(group));
        if (gives_away || joins_foreign) && !self.who.superuser {
            return refuse(
                ErrorKind::NotPermitted,
                "only the superuser gives files away, to users or to groups of others",
            );
        }
        self.who.check_owner(inode)?;
        self.kill_privileges(inode, false)?;
        inode.owner = owner.unwrap_or_else(|| inode.owner.clone());
        inode.group = group.unwrap_or_else(|| inode.group.clone());
        Ok(())
    }

    /// Takes away what lets a program act as somebody else; `setgid`: whatever setgid means.
    fn kill_privileges(&mut self, inode: &mut Inode, setgid: bool) -> Outcomes<()> {
        inode.mode = self.who.without_privileges(inode, setgid);
        if !inode.is_dir() {
            self.drop_xattr(inode, CAPABILITY)?;
        }
        Ok(())
    }

    fn file(&self, id: u64) -> Outcomes<Inode> {
        let inode = self.edit(InodeId(id))?;
        match inode.kind() {
            alluxio_proto::types::FileKind::File => Ok(inode),
            alluxio_proto::types::FileKind::Directory => {
                refuse(ErrorKind::IsADirectory, format!("inode {id} is a directory"))
            }
            kind => refuse(
                ErrorKind::InvalidArgument,
                format!("inode {id} is no regular file but a {kind:?}"),
            ),
        }
    }

    /// Workers other than the home may drop an old version.
    pub(super) fn free_version(&mut self, inode: &Inode, version: u64, but: Option<u64>) {
        let held = inode
            .locations
            .iter()
            .filter(|at| at.version <= version && Some(at.worker) != but);
        let workers: Vec<u64> = held.map(|at| at.worker).collect();
        if !workers.is_empty() {
            self.applied.freed.push(Freed {
                inode: inode.id,
                version,
                workers,
            });
        }
    }

    /// Remembers to let a session go of an orphan once its record has been stored.
    fn release_after(&mut self, inode: InodeId, session: u64) {
        self.releases.push((inode, SessionId(session)));
    }

    /// Does what [`Self::release_after`] remembered.
    pub(super) fn run_releases(&mut self) -> Outcomes<()> {
        for (inode, session) in std::mem::take(&mut self.releases) {
            self.release(inode, session, HELD_WRITE)?;
        }
        Ok(())
    }
}

fn recover_item(inode: u64, open: &OpenVersion) -> RecoverItem {
    RecoverItem {
        inode,
        version: open.version,
        home_worker: open.home_worker,
        keep_bytes: open.durable_length.unwrap_or(0),
        unpromised: open.is_unpromised(),
        home_boot: open.home_boot,
        mapped: open.mapped,
    }
}

fn discarded(inode: u64, open: &OpenVersion) -> Freed {
    Freed {
        inode,
        version: open.version,
        workers: vec![open.home_worker],
    }
}

fn is_writer(open: &OpenVersion, session: u64) -> bool {
    open.writers.iter().any(|writer| writer.session == session)
}

fn join(open: &mut OpenVersion, session: SessionId) {
    match open.writers.iter_mut().find(|writer| writer.session == session.get()) {
        Some(writer) => writer.count = writer.count.saturating_add(1),
        None => open.writers.push(Writer {
            session: session.get(),
            count: 1,
        }),
    }
}

/// Ends up to `count` openings of a session; whether any of its is left.
fn leave(open: &mut OpenVersion, session: SessionId, count: u32) -> bool {
    if let Some(writer) = open.writers.iter_mut().find(|writer| writer.session == session.get()) {
        writer.count = writer.count.saturating_sub(count);
    }
    open.writers.retain(|writer| writer.count > 0);
    open.writers.iter().any(|writer| writer.session == session.get())
}
