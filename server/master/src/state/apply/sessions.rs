//! Formatting, and sessions (DESIGN D16).

use alluxio_proto::types::{FileKind, PersistState};
use alluxio_proto::{ErrorKind, InodeId, MountId, SessionId};

use super::{Work, take_id};
use crate::state::command::{Format, OpenSession};
use crate::state::fault::{Outcomes, refuse};
use crate::state::inode::Inode;
use crate::state::records::{MountRecord, RULES, SessionRecord};
use crate::state::tables::{self, HELD_READ, HELD_WRITE};
use crate::state::view::View;

impl Work<'_, '_> {
    pub(super) fn format(&mut self, c: Format) -> Outcomes<()> {
        let counters = self.tx.counters();
        if !counters.cluster_id.is_empty() {
            let message = format!(
                "this is cluster {} already; `format` starts a new one",
                counters.cluster_id
            );
            return refuse(ErrorKind::AlreadyExists, message);
        }
        if c.cluster_id.is_empty() {
            return refuse(ErrorKind::InvalidArgument, "a cluster needs an identity");
        }
        let counters = self.tx.counters_mut();
        counters.cluster_id = c.cluster_id;
        counters.rules = c.rules;
        counters.inode_high = InodeId::ROOT.get();
        counters.mount_high = MountId::ROOT.get();
        counters.inodes = 1;
        self.tx.put_mount(MountRecord {
            id: MountId::ROOT.get(),
            root_inode: InodeId::ROOT.get(),
            spec: c.root,
            epoch: 0,
            created_ns: self.now_ns,
        });
        let root = Inode {
            id: InodeId::ROOT.get(),
            kind: FileKind::Directory as i32,
            mode: c.mode & 0o7777,
            owner: c.owner,
            group: c.group,
            atime_ns: self.now_ns,
            mtime_ns: self.now_ns,
            ctime_ns: self.now_ns,
            btime_ns: self.now_ns,
            nlink: 2,
            persist_state: PersistState::Persisted as i32,
            mount_id: MountId::ROOT.get(),
            ..Default::default()
        };
        self.put_and_answer(root);
        Ok(())
    }

    pub(super) fn open_session(&mut self, c: OpenSession) -> Outcomes<()> {
        let counters = self.tx.counters_mut();
        let id = take_id(&mut counters.session_high, c.id, "session")?;
        counters.sessions += 1;
        let record = SessionRecord {
            id,
            client: c.client,
            host: c.host,
            opened_ns: self.now_ns,
            uses_locks: false,
        };
        self.tx.put_session(&record);
        self.applied.id = id;
        Ok(())
    }

    pub(super) fn adopt_rules(&mut self, rules: u32) -> Outcomes<()> {
        if rules > RULES {
            let why = format!("the log follows rules {rules}, this software knows {RULES}: start a newer one");
            return refuse(ErrorKind::NotSupported, why);
        }
        let counters = self.tx.counters_mut();
        counters.rules = counters.rules.max(rules);
        Ok(())
    }

    /// Whether commands are applied by these rules, or later ones.
    pub(super) fn follows(&self, rules: u32) -> bool {
        self.tx.counters().rules >= rules
    }

    pub(super) fn end_session(&mut self, id: SessionId) -> Outcomes<()> {
        if !self.tx.has_session(id.get()) {
            return refuse(ErrorKind::NotFound, format!("there is no session {id}"));
        }
        for inode in self.tx.numbers(&tables::of(tables::SESSION_OPENS, id.get()))? {
            self.drop_writer(InodeId(inode), id)?;
        }
        for inode in self.tx.numbers(&tables::of(tables::HELD, id.get()))? {
            self.release(InodeId(inode), id, HELD_READ | HELD_WRITE)?;
        }
        for slot in self.tx.numbers(&tables::of(tables::RETRIES, id.get()))? {
            self.tx.delete(tables::retry(id, slot));
        }
        for slot in self.tx.numbers(&tables::of(tables::ANSWERS, id.get()))? {
            self.tx.delete(tables::answer(id, slot));
        }
        self.tx.delete_session(id);
        let counters = self.tx.counters_mut();
        counters.sessions = counters.sessions.saturating_sub(1);
        // The answer is about the session, not about the last file it had open.
        self.applied.attr = None;
        self.applied.inode = None;
        self.applied.unlinked = 0;
        self.applied.orphaned = false;
        Ok(())
    }

    pub(super) fn use_locks(&mut self, id: SessionId) -> Outcomes<()> {
        let Some(record) = self.tx.record::<SessionRecord>(&tables::session(id))? else {
            return refuse(ErrorKind::NotFound, format!("there is no session {id}"));
        };
        self.tx.put_session(&SessionRecord {
            uses_locks: true,
            ..record
        });
        Ok(())
    }

    pub(super) fn hold_orphan(&mut self, id: InodeId) -> Outcomes<()> {
        let inode = self.tx.inode(id)?;
        // With a name, it needs nobody.
        match inode.nlink {
            0 => self.hold(id, self.session, HELD_READ),
            _ => Ok(()),
        }
    }

    pub(super) fn release_orphan(&mut self, inode: InodeId) -> Outcomes<()> {
        self.release(inode, self.session, HELD_READ)
    }
}
