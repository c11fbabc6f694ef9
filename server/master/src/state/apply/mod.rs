//! Applying commands: one file per noun. Here: the frame around each command, and what all of them share.

mod access;
mod across;
mod create;
mod exchange;
mod files;
mod intents;
mod links;
mod load;
mod mounts;
mod moved;
mod names;
mod presence;
mod rename;
mod sessions;
mod strays;
mod trees;
mod workers;
mod xattrs;

use access::{SEARCH, WRITE, Who};
use alluxio_journal::StateMachine;
use alluxio_proto::master::{EntryChanged, InodeChanged, OPS_OUTSTANDING_MAX, WatchEvent};
use alluxio_proto::{ErrorKind, InodeId, IntentId, MountId, NAME_BYTES_MAX, SessionId};
use bytes::{Bytes, BytesMut};
use std::io::{self, Read};

use super::fault::{Fault, Outcomes, refuse, show};
use super::inode::Inode;
use super::records::{Applied, IntentKind, Outcome, RetryRecord};
use super::tx::Tx;
use super::view::View;
use super::{Body, Command, Committed, State, UfsLocation, snapshot, tables};
use crate::metastore::Batch;

impl StateMachine for State {
    type Command = Command;
    type Outcome = Outcome;
    const LEVEL: u32 = 0;

    /// A kind of command, or a field of one that matters, that comes from here on needs a level of its own.
    fn level_of(command: &Command) -> Option<u32> {
        command.body.as_ref().map(|_| 0)
    }

    fn apply(&self, position: &[u8], commands: Vec<Command>) -> io::Result<Vec<Outcome>> {
        let _one_batch_at_a_time = self.applying.lock();
        let before = self.globals.read().clone();
        let mut tx = Tx::new(Committed {
            store: self.store.as_ref(),
            cache: &self.cache,
            globals: &before,
        });
        let mut outcomes = Vec::with_capacity(commands.len());
        for command in commands {
            outcomes.push(run(&mut tx, command)?);
        }
        let written = tx.finish(position)?;
        // Readers go on while the store has to catch up.
        self.store.admit()?;
        let mut globals = self.globals.write();
        self.store.write(written.batch)?;
        for (id, inode) in written.inodes {
            self.cache.put_inode(id.into(), inode);
        }
        for (key, edge) in written.edges {
            self.cache.put_edge(key, edge);
        }
        *globals = written.globals;
        if written.lowest_intent_ended {
            let from = globals.lowest_intent + 1;
            globals.lowest_intent = super::lowest_intent(self.store.as_ref(), from, &globals.counters)?;
        }
        Ok(outcomes)
    }

    fn position(&self) -> io::Result<Option<Vec<u8>>> {
        let value = self.store.get(&tables::single(tables::POSITION))?;
        // Behind the format byte, which `open` of a newer version would have to change.
        Ok(value.map(|value| value.get(1..).unwrap_or_default().to_vec()))
    }

    fn sync(&self) -> io::Result<()> {
        self.store.sync()
    }

    fn snapshot(&self) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(snapshot::Writer::new(self.store.snapshot()?)))
    }

    fn restore(&self, position: &[u8], snapshot: &mut dyn Read) -> io::Result<()> {
        let _one_batch_at_a_time = self.applying.lock();
        let mut globals = self.globals.write();
        // Without a position, `open` throws away what is there: a restore that is cut short leaves an empty state.
        let key = tables::single(tables::POSITION);
        self.store.write(Batch {
            changes: vec![(key.clone(), None)],
        })?;
        self.store.sync()?;
        self.store.clear()?;
        self.cache.clear();
        snapshot::load(self.store.as_ref(), snapshot)?;
        let mut value = vec![tables::FORMAT];
        value.extend_from_slice(position);
        self.store.sync()?;
        self.store.write(Batch {
            changes: vec![(key, Some(value.into()))],
        })?;
        self.store.sync()?;
        *globals = super::load_globals(self.store.as_ref())?;
        Ok(())
    }

    fn clear(&self) -> io::Result<()> {
        let _one_batch_at_a_time = self.applying.lock();
        let mut globals = self.globals.write();
        // As in `restore`: without a position, `open` throws away what is there.
        self.store.write(Batch {
            changes: vec![(tables::single(tables::POSITION), None)],
        })?;
        self.store.sync()?;
        self.store.clear()?;
        self.cache.clear();
        *globals = super::load_globals(self.store.as_ref())?;
        Ok(())
    }
}

/// One command: answered from the retry cache, refused without effect, or applied whole.
fn run(tx: &mut Tx<'_>, command: Command) -> io::Result<Outcome> {
    tx.begin();
    let session = SessionId(command.session);
    let retry = (command.op_id != 0 && command.session != 0).then(|| match command.lowest_op {
        0 => tables::retry(session, command.op_id),
        _ => tables::answer(session, command.op_id),
    });
    let mut outcome = Outcome {
        result: Ok(Applied::default()),
        events: Vec::new(),
        session,
        repeated: false,
    };
    if let Some(key) = &retry
        && let Some(record) = tx.record::<RetryRecord>(key)?
        && record.op_id == command.op_id
    {
        outcome.result = Ok(record.applied.unwrap_or_default());
        outcome.repeated = true;
        return Ok(outcome);
    }
    let (op_id, lowest_op) = (command.op_id, command.lowest_op);
    let window = check_window(&command);
    let mut work = Work::new(tx, &command);
    let result = window
        .and_then(|()| work.dispatch(command.body))
        .and_then(|()| work.run_releases());
    let Work { applied, events, .. } = work;
    match result {
        Ok(()) => {
            // Refusals are not remembered: they had no effect, so deciding again is as right as the first time.
            if let Some(key) = retry.filter(|_| tx.has_session(session.get())) {
                forget_answers(tx, session, lowest_op)?;
                tx.put_record(
                    key,
                    &RetryRecord {
                        op_id,
                        applied: Some(applied.clone()),
                    },
                );
            }
            outcome.events = events;
            outcome.result = Ok(applied);
        }
        Err(Fault::Refused(error)) => {
            tx.rollback();
            outcome.result = Err(error);
        }
        Err(Fault::Store(error)) => return Err(error),
    }
    Ok(outcome)
}

/// Drops answers that the client waits for no more, some at a time.
fn forget_answers(tx: &mut Tx<'_>, session: SessionId, lowest: u64) -> io::Result<()> {
    if lowest == 0 {
        return Ok(());
    }
    let key = tables::answers_from(session);
    let from = match tx.get(&key)? {
        Some(row) => tables::number_of(&key, &row)?,
        None => {
            tx.put(key, tables::number_value(lowest));
            return Ok(());
        }
    };
    if lowest.saturating_sub(from) < ANSWERS_FORGOTTEN_TOGETHER {
        // A client that begins its count anew comes from elsewhere: what is above is its predecessor's.
        if from > lowest && from - lowest > OPS_OUTSTANDING_MAX {
            let (start, end) = (tables::answer(session, lowest), tables::answer(session, u64::MAX));
            remove_answers(tx, &start, &end, session, lowest)?;
        }
        return Ok(());
    }
    if lowest - from <= 2 * OPS_OUTSTANDING_MAX {
        // Removed by their names: a scan would pass all that were removed before.
        for op_id in from..lowest {
            tx.delete(tables::answer(session, op_id));
        }
        tx.put(key, tables::number_value(lowest));
        return Ok(());
    }
    let (start, end) = (tables::answer(session, from), tables::answer(session, lowest));
    remove_answers(tx, &start, &end, session, lowest)
}

fn remove_answers(tx: &mut Tx<'_>, start: &[u8], end: &[u8], session: SessionId, lowest: u64) -> io::Result<()> {
    for (key, _) in tx.scan(start, end, usize::MAX)? {
        tx.delete(key);
    }
    tx.put(tables::answers_from(session), tables::number_value(lowest));
    Ok(())
}

/// Answers are removed when so many are due.
const ANSWERS_FORGOTTEN_TOGETHER: u64 = 64;

/// Refuses a change whose answer could not be kept beside those that its client still waits for. Ids below the lowest are fine.
fn check_window(command: &Command) -> Outcomes<()> {
    let (op, lowest) = (command.op_id, command.lowest_op);
    if lowest != 0 && op >= lowest && op - lowest >= OPS_OUTSTANDING_MAX {
        return refuse(
            ErrorKind::InvalidArgument,
            format!(
                "change {op} of session {} is {OPS_OUTSTANDING_MAX} or more above {lowest}, which is not answered yet; a client \
                 waits for that before it asks for more",
                command.session
            ),
        );
    }
    Ok(())
}

/// A command at work.
struct Work<'w, 'a> {
    tx: &'w mut Tx<'a>,
    now_ns: i64,
    session: SessionId,
    who: Who,
    applied: Applied,
    events: Vec<WatchEvent>,
    /// Sessions that let go of an orphan, once its record has been stored.
    releases: Vec<(InodeId, SessionId)>,
}

impl<'w, 'a> Work<'w, 'a> {
    fn new(tx: &'w mut Tx<'a>, command: &Command) -> Self {
        Work {
            tx,
            now_ns: command.now_ns,
            session: SessionId(command.session),
            who: Who {
                caller: command.caller.clone().unwrap_or_default(),
                superuser: command.superuser,
            },
            applied: Applied::default(),
            events: Vec::new(),
            releases: Vec::new(),
        }
    }

    fn dispatch(&mut self, body: Option<Body>) -> Outcomes<()> {
        let Some(body) = body else {
            return refuse(
                ErrorKind::NotSupported,
                "a command of a newer version; upgrade this master",
            );
        };
        let starts = matches!(body, Body::Format(_) | Body::OpenSession(_));
        if !starts && self.session.get() != 0 && !self.tx.has_session(self.session.get()) {
            return refuse(
                ErrorKind::Stale,
                format!("session {} has ended; open a new one", self.session),
            );
        }
        match body {
            Body::Format(c) => self.format(c),
            Body::ForgetIntent(c) => self.forget_refused(IntentId(c.intent)),
            Body::AdoptRules(c) => self.adopt_rules(c.rules),
            Body::OpenSession(c) => self.open_session(c),
            Body::EndSession(c) => self.end_session(SessionId(c.id)),
            Body::CreateFile(c) => self.create_file(c),
            Body::Mkdir(c) => self.mkdir(c),
            Body::Symlink(c) => self.symlink(c),
            Body::Mknod(c) => self.mknod(c),
            Body::Unlink(c) => self.unlink(c),
            Body::Rmdir(c) => self.rmdir(c),
            Body::Rename(c) => self.rename(c),
            Body::DeleteTree(c) => self.delete_tree(c),
            Body::ReclaimSlice(c) => self.reclaim_slice(c),
            Body::SetAttr(c) => self.set_attr(c),
            Body::OpenWrite(c) => self.open_write(c),
            Body::Commit(c) => self.commit(c),
            Body::MarkDurable(c) => self.mark_durable(c),
            Body::CloseWrite(c) => self.close_write(c),
            Body::ReleaseOrphan(c) => self.release_orphan(InodeId(c.inode)),
            Body::HoldOrphan(c) => self.hold_orphan(InodeId(c.inode)),
            Body::Recovered(c) => self.recovered(c),
            Body::Spill(c) => self.spill(c),
            Body::LoadEntries(c) => self.load_entries(c),
            Body::ApplySync(c) => self.apply_sync(c),
            Body::UfsChanged(c) => self.ufs_changed(c),
            Body::MountUfs(c) => self.mount_ufs(c),
            Body::UnmountUfs(c) => self.unmount_ufs(MountId(c.mount_id)),
            Body::IntentStarted(c) => self.intent_started(c),
            Body::IntentDone(c) => self.intent_done(c),
            Body::IntentCopied(c) => self.intent_copied(c),
            Body::IntentLeft(c) => self.intent_left(c),
            Body::IntentFailed(c) => self.intent_failed(c),
            Body::SchedulePersist(c) => self.schedule_persist_now(InodeId(c.inode)),
            Body::RegisterWorker(c) => self.register_worker(c),
            Body::ReportCached(c) => self.report_cached(c),
            Body::Tmpfile(c) => self.tmpfile(c),
            Body::Link(c) => self.link(c),
            Body::SetXattr(c) => self.set_xattr(c),
            Body::RemoveXattr(c) => self.remove_xattr(c),
            Body::SetAcl(c) => self.set_acl(c),
            Body::UseLocks(c) => self.use_locks(SessionId(c.id)),
            Body::TouchAtimes(c) => self.touch_atimes(c),
            Body::SealMount(c) => self.seal_mount(c),
        }
    }

    /// A copy to change and put back.
    fn edit(&self, id: InodeId) -> Outcomes<Inode> {
        Ok((*self.tx.inode(id)?).clone())
    }

    /// The next inode id, or the given one if it is above all used.
    fn take_inode_id(&mut self, given: u64) -> Outcomes<u64> {
        let counters = self.tx.counters_mut();
        let id = take_id(&mut counters.inode_high, given, "inode")?;
        counters.inodes += 1;
        Ok(id)
    }

    /// Stores `inode` and makes it the answer.
    fn put_and_answer(&mut self, inode: Inode) {
        self.applied.attr = Some(inode.to_attr());
        self.applied.inode = Some(inode.clone());
        self.tx.put_inode(inode);
    }

    fn answer(&mut self, inode: &Inode) {
        self.applied.attr = Some(inode.to_attr());
        self.applied.inode = Some(inode.clone());
    }

    fn entry_changed(&mut self, parent: InodeId, name: &Bytes, removed: Option<&Inode>) {
        let event = EntryChanged {
            parent: parent.get(),
            name: name.clone(),
            child: removed.map_or(0, |inode| inode.id),
            removed: removed.map(|inode| Box::new(inode.to_attr())),
        };
        self.events.push(WatchEvent::Entry(event));
    }

    fn inode_changed(&mut self, inode: u64, data: bool) {
        self.events.push(WatchEvent::Inode(InodeChanged { inode, data }));
    }

    /// A directory in which the caller may make and remove names.
    fn writable_dir(&self, id: InodeId) -> Outcomes<Inode> {
        let dir = self.tx.dir(id)?;
        if dir.nlink == 0 {
            return refuse(ErrorKind::NotFound, format!("directory {id} was removed"));
        }
        self.check_writable_mount(&dir)?;
        self.who.check_access(&dir, WRITE | SEARCH)?;
        Ok((*dir).clone())
    }

    fn check_writable_mount(&self, inode: &Inode) -> Outcomes<()> {
        let mount = self.tx.mount(inode.mount())?;
        if mount.read_only() {
            return refuse(
                ErrorKind::ReadOnly,
                format!("the mount of {} is read-only", mount.uri()),
            );
        }
        Ok(())
    }
}

/// The next id of a kind, or the given one if it is above all used.
fn take_id(high: &mut u64, given: u64, kind: &str) -> Outcomes<u64> {
    if given != 0 && given <= *high {
        return refuse(
            ErrorKind::InvalidArgument,
            format!("{kind} id {given} is not above {high}, which is used"),
        );
    }
    *high = if given == 0 { *high + 1 } else { given };
    Ok(*high)
}

/// Refuses what cannot be one path component.
pub(super) fn check_name(name: &[u8]) -> Outcomes<()> {
    if name.len() > NAME_BYTES_MAX {
        return refuse(
            ErrorKind::NameTooLong,
            format!("a name of {} bytes; {NAME_BYTES_MAX} are allowed", name.len()),
        );
    }
    if name.is_empty() || name == b"." || name == b".." || name.iter().any(|byte| matches!(byte, b'/' | 0)) {
        return refuse(ErrorKind::InvalidArgument, format!("{:?} is no name", show(name)));
    }
    Ok(())
}

/// `dir/name`, or `name` in the root.
pub(super) fn child_path(dir: &[u8], name: &[u8]) -> Bytes {
    let mut path = BytesMut::with_capacity(dir.len() + 1 + name.len());
    path.extend_from_slice(dir);
    if !dir.is_empty() {
        path.extend_from_slice(b"/");
    }
    path.extend_from_slice(name);
    path.freeze()
}

/// See [`State::generation`]. Both parts only grow, so the sum tells of a change of either.
pub(super) fn generation(view: &impl View, dir: &Inode) -> Outcomes<u64> {
    Ok(dir.generation + view.mount(dir.mount())?.epoch)
}

/// See [`State::is_tree_busy`].
pub(super) fn is_tree_busy(view: &impl View, dir: &Inode) -> Outcomes<bool> {
    let Some(path) = view.natural_path(dir)? else {
        return Ok(true);
    };
    let natural = UfsLocation {
        mount: dir.mount(),
        path,
    };
    for (at, before) in view.path_levels(natural, true)? {
        for role in view.intents_above(at.mount, &at.path, before)? {
            let Some(intent) = view.intent_opt(role.id)? else {
                continue;
            };
            let moves = matches!(
                intent.kind(),
                IntentKind::Rename | IntentKind::DeleteTree | IntentKind::Rmdir
            );
            // What is to leave that path is still there, under the name of what has come after it.
            let leaves = !role.is_target;
            if moves && (leaves || intent.started) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}
