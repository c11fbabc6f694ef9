//! Sessions (DESIGN D16): who lives, and who has what open for reading.
//!
//! What a session holds durably (open versions, orphans) is in the state; here is what may be lost with this process: when
//! it was last heard of, and its openings for reading, which a client names again when it resumes.

use alluxio_common::sync::Mutex;
use alluxio_proto::master::{Empty, OpenSession, SessionInfo};
use alluxio_proto::{ErrorKind, FsResult, InodeId, SessionId};
use futures::future::try_join_all;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

use super::{Core, Ctx};
use crate::state::{Command, command};

/// Orphans released together, which share a sync of the journal.
const RELEASED_AT_ONCE: usize = 512;

/// One session, as far as it is volatile.
#[derive(Debug)]
struct Live {
    host: String,
    last_seen: Instant,
    reads: HashMap<InodeId, Openings>,
}

/// Openings of one inode for reading.
#[derive(Debug, Default)]
struct Openings {
    /// By the names that the client gave them.
    named: HashSet<u64>,
    /// Of clients that give none.
    unnamed: u32,
}

impl Openings {
    fn add(&mut self, open_id: u64) {
        match open_id {
            0 => self.unnamed = self.unnamed.saturating_add(1),
            name => drop(self.named.insert(name)),
        }
    }
    /// True: there was such a one.
    fn take(&mut self, open_id: u64) -> bool {
        match open_id {
            0 => {
                let had = self.unnamed > 0;
                self.unnamed = self.unnamed.saturating_sub(1);
                had
            }
            name => self.named.remove(&name),
        }
    }
    fn is_empty(&self) -> bool {
        self.unnamed == 0 && self.named.is_empty()
    }
}

#[derive(Debug, Default)]
struct Table {
    /// When somebody looked for silent ones last.
    checked: Option<Instant>,
    live: HashMap<SessionId, Live>,
    /// Who reads an inode: the other direction of [`Live::reads`].
    readers: HashMap<InodeId, Vec<SessionId>>,
    /// Sessions of before the last start that have not said yet what they have open: until then they may have anything.
    unheard: HashSet<SessionId>,
    /// When those are no longer waited for: whoever is silent for so long has been ended.
    unheard_until: Option<Instant>,
    /// Inodes whose name is being taken, with how often at once.
    going: HashMap<InodeId, u32>,
    /// Removals under way.
    removals: BTreeSet<u64>,
    next_removal: u64,
}

impl Table {
    fn unheard(&self) -> impl Iterator<Item = SessionId> {
        let waits = self.unheard_until.is_some_and(|until| Instant::now() < until);
        self.unheard.iter().copied().filter(move |_| waits)
    }

    fn readers(&self, inode: InodeId) -> Vec<u64> {
        let known = self.readers.get(&inode).map_or(&[][..], Vec::as_slice);
        let silent = self.unheard().filter(|id| !known.contains(id));
        let mut ids: Vec<u64> = known.iter().copied().chain(silent).map(|id| id.get()).collect();
        ids.sort_unstable();
        ids
    }
}

/// All sessions that have not ended.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    table: Mutex<Table>,
    /// Rings when a removal has ended.
    removed: Notify,
}

/// Names are being taken from inodes, from asking who reads them until that is applied. Nobody opens or closes them
/// meanwhile: an opening that the command does not know of would lose its file, a close would leave it behind.
pub(super) struct Removal<'a> {
    sessions: &'a Sessions,
    number: u64,
    inodes: Vec<InodeId>,
}

impl Removal<'_> {
    /// Sessions that have an inode open for reading, or may have, as commands want them.
    pub fn readers(&self, inode: InodeId) -> Vec<u64> {
        self.sessions.table.lock().readers(inode)
    }
}

impl Drop for Removal<'_> {
    fn drop(&mut self) {
        let mut table = self.sessions.table.lock();
        table.removals.remove(&self.number);
        for inode in &self.inodes {
            if let Some(count) = table.going.get_mut(inode) {
                *count -= 1;
                if *count == 0 {
                    table.going.remove(inode);
                }
            }
        }
        drop(table);
        self.sessions.removed.notify_waiters();
    }
}

impl Sessions {
    /// A session is there, from now on.
    pub fn insert(&self, id: SessionId, host: &str) {
        let live = Live {
            host: host.to_owned(),
            last_seen: Instant::now(),
            reads: HashMap::new(),
        };
        self.table.lock().live.entry(id).or_insert(live);
    }

    /// One of before the start of this master: until it says what it has open, for `patience` at most, it may have anything.
    pub fn take_up(&self, id: SessionId, host: &str, patience: Duration) {
        self.insert(id, host);
        let mut table = self.table.lock();
        table.unheard.insert(id);
        table.unheard_until = Instant::now().checked_add(patience);
    }

    /// Whether what some session has open is not known yet.
    pub fn awaits_any(&self) -> bool {
        self.table.lock().unheard().next().is_some()
    }

    /// It was heard of. False: there is no such session.
    pub fn touch(&self, id: SessionId) -> bool {
        match self.table.lock().live.get_mut(&id) {
            Some(live) => {
                live.last_seen = Instant::now();
                true
            }
            None => false,
        }
    }

    /// Host of its client; empty if there is no such session.
    pub fn host(&self, id: SessionId) -> String {
        let table = self.table.lock();
        table.live.get(&id).map_or_else(String::new, |live| live.host.clone())
    }

    /// Whether it has not ended.
    pub fn is_live(&self, id: SessionId) -> bool {
        self.table.lock().live.contains_key(&id)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.table.lock().live.len()
    }

    /// What it has open for reading becomes exactly this, each with the name of the opening or 0: a client that resumes says
    /// so. Returns when every removal that has counted with what it had before is applied.
    pub async fn assert_reads(&self, id: SessionId, opens: impl Iterator<Item = (InodeId, u64)>) {
        let last = {
            let mut table = self.table.lock();
            let Table {
                live, readers, unheard, ..
            } = &mut *table;
            unheard.remove(&id);
            if let Some(live) = live.get_mut(&id) {
                for inode in live.reads.drain().map(|(inode, _)| inode) {
                    forget(readers, inode, id);
                }
                for (inode, open_id) in opens {
                    note(live, readers, id, inode, open_id);
                }
            }
            table.next_removal
        };
        self.when(|table| table.removals.first().is_none_or(|first| *first > last).then_some(()))
            .await;
    }

    /// One more opening for reading, once no name of the inode is being taken. False: there is no such session.
    pub async fn open_read(&self, id: SessionId, inode: InodeId, open_id: u64) -> bool {
        self.when(|table| {
            if table.going.contains_key(&inode) {
                return None;
            }
            let Table { live, readers, .. } = table;
            let Some(live) = live.get_mut(&id) else {
                return Some(false);
            };
            note(live, readers, id, inode, open_id);
            Some(true)
        })
        .await
    }

    /// One opening for reading less, once no name of the inode is being taken; true if it was the session's last of this inode.
    pub async fn close_read(&self, id: SessionId, inode: InodeId, open_id: u64) -> bool {
        self.when(|table| {
            if table.going.contains_key(&inode) {
                return None;
            }
            let Table { live, readers, .. } = table;
            let Some(live) = live.get_mut(&id) else {
                return Some(false);
            };
            let Some(openings) = live.reads.get_mut(&inode) else {
                return Some(false);
            };
            if !openings.take(open_id) || !openings.is_empty() {
                return Some(false);
            }
            live.reads.remove(&inode);
            forget(readers, inode, id);
            Some(true)
        })
        .await
    }

    /// Waits until `look` finds what it looks for. It is asked under the lock, at first and after each removal.
    async fn when<T>(&self, mut look: impl FnMut(&mut Table) -> Option<T>) -> T {
        loop {
            // Counts from here on, so that nothing between the look and the wait is missed.
            let removed = self.removed.notified();
            let found = look(&mut self.table.lock());
            match found {
                Some(found) => return found,
                None => removed.await,
            }
        }
    }

    /// Names of these are about to be taken.
    pub fn begin_removal(&self, inodes: impl IntoIterator<Item = InodeId>) -> Removal<'_> {
        let inodes: Vec<InodeId> = inodes.into_iter().collect();
        let mut table = self.table.lock();
        table.next_removal += 1;
        let number = table.next_removal;
        table.removals.insert(number);
        for inode in &inodes {
            *table.going.entry(*inode).or_default() += 1;
        }
        drop(table);
        Removal {
            sessions: self,
            number,
            inodes,
        }
    }

    /// Whether a session has, or may have, an inode open for reading.
    pub fn reads(&self, id: SessionId, inode: InodeId) -> bool {
        self.table.lock().readers(inode).contains(&id.get())
    }

    /// It is over.
    pub fn remove(&self, id: SessionId) {
        let mut table = self.table.lock();
        table.unheard.remove(&id);
        let Some(live) = table.live.remove(&id) else { return };
        for inode in live.reads.into_keys() {
            forget(&mut table.readers, inode, id);
        }
    }

    /// Sessions of which nothing was heard for so long. If nobody has asked for half of that time, this process has been
    /// stopped, and it is not the clients that were silent: they get their time anew.
    pub fn silent_for(&self, timeout: Duration) -> Vec<SessionId> {
        let mut table = self.table.lock();
        let now = Instant::now();
        let last = table.checked.replace(now).unwrap_or(now);
        if now.duration_since(last) > timeout / 2 {
            table.live.values_mut().for_each(|live| live.last_seen = now);
            return Vec::new();
        }
        let silent = table
            .live
            .iter()
            .filter(|(_, live)| now.duration_since(live.last_seen) >= timeout);
        silent.map(|(id, _)| *id).collect()
    }
}

fn note(live: &mut Live, readers: &mut HashMap<InodeId, Vec<SessionId>>, id: SessionId, inode: InodeId, open_id: u64) {
    let openings = live.reads.entry(inode).or_default();
    if openings.is_empty() {
        readers.entry(inode).or_default().push(id);
    }
    openings.add(open_id);
}

fn forget(readers: &mut HashMap<InodeId, Vec<SessionId>>, inode: InodeId, id: SessionId) {
    if let Some(ids) = readers.get_mut(&inode) {
        ids.retain(|reader| *reader != id);
        if ids.is_empty() {
            readers.remove(&inode);
        }
    }
}

impl Core {
    pub(super) async fn open_session(&self, ctx: &Ctx, op: OpenSession) -> FsResult<SessionInfo> {
        let wanted = SessionId(op.resume);
        let resumed = wanted.get() != 0 && self.sessions.touch(wanted);
        let unnamed = op.open_inodes.iter().map(|inode| (InodeId(*inode), 0));
        let named = op.opens.iter().map(|open| (InodeId(open.inode), open.open_id));
        let opens: Vec<_> = unnamed.chain(named).collect();
        let mut locks_refused = Vec::new();
        let session = if resumed {
            self.sessions.assert_reads(wanted, opens.into_iter()).await;
            self.release_unclaimed(wanted).await?;
            locks_refused = self.name_locks(wanted, op.locks);
            wanted
        } else {
            let body = command::OpenSession {
                id: 0,
                client: op.client,
                host: op.host.clone(),
            };
            // Not in the name of a session: the one it asks for is not there yet, the one that is gone must not matter.
            let opened = self
                .propose(
                    &Ctx {
                        session: SessionId(0),
                        ..ctx.clone()
                    },
                    body,
                )
                .await?;
            let id = SessionId(opened.id);
            self.sessions.insert(id, &op.host);
            // Of one whose session was ended, too: what it still has open is to be kept for it from now on.
            self.sessions.assert_reads(id, opens.into_iter()).await;
            id
        };
        Ok(SessionInfo {
            session: session.get(),
            timeout_ms: self.settings.session_timeout.as_millis() as u64,
            cluster_id: self.state.cluster_id(),
            resumed,
            locks_refused,
        })
    }

    /// Orphans that a session holds in the state but has not named again when it resumed: it had closed them.
    async fn release_unclaimed(&self, id: SessionId) -> FsResult<()> {
        let held = self.state.orphans_of_session(id)?;
        let unclaimed: Vec<_> = held
            .into_iter()
            .filter(|inode| !self.sessions.reads(id, *inode))
            .collect();
        for some in unclaimed.chunks(RELEASED_AT_ONCE) {
            let releases = some.iter().map(|inode| {
                let mut release = Command::system(super::now_ns(), command::ReleaseOrphan { inode: inode.get() });
                release.session = id.get();
                self.commit(release)
            });
            try_join_all(releases).await?;
        }
        Ok(())
    }

    pub(super) async fn close_session(&self, ctx: &Ctx) -> FsResult<Empty> {
        if ctx.session.get() != 0 {
            self.end_session(ctx.session).await?;
        }
        Ok(Empty {})
    }

    /// Releases all that a session held, once.
    pub(super) async fn end_session(&self, id: SessionId) -> FsResult<()> {
        let host = self.sessions.host(id);
        self.sessions.remove(id);
        self.watch.close_session(id);
        match self.propose_own(command::EndSession { id: id.get() }).await {
            Ok(_) => {}
            // Ended before.
            Err(error) if error.kind == ErrorKind::NotFound => {}
            Err(error) => {
                // Kept, so that it expires later: nothing else would release what it holds.
                self.sessions.insert(id, &host);
                return Err(error);
            }
        }
        self.drop_locks(id);
        Ok(())
    }

    /// Ends sessions of which nothing was heard for the timeout.
    pub(super) async fn expire_sessions(&self) {
        for id in self.sessions.silent_for(self.settings.session_timeout) {
            let host = self.sessions.host(id);
            match self.end_session(id).await {
                Ok(()) => {
                    self.metrics.sessions_expired.inc();
                    tracing::info!(session = %id, host, "a session fell silent and was ended; what it held is released");
                }
                Err(error) => {
                    tracing::warn!(session = %id, %error, "a silent session could not be ended");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: SessionId = SessionId(1);
    const B: SessionId = SessionId(2);
    const FILE: InodeId = InodeId(7);

    #[tokio::test]
    async fn openings_are_counted_per_session() {
        let sessions = Sessions::default();
        sessions.insert(A, "one");
        sessions.insert(B, "two");
        for (id, open_id) in [(A, 0), (A, 0), (B, 7), (B, 7)] {
            assert!(sessions.open_read(id, FILE, open_id).await);
        }
        assert!(!sessions.open_read(SessionId(9), FILE, 0).await);
        assert_eq!(readers(&sessions, FILE), [1, 2]);
        assert!(!sessions.close_read(A, FILE, 0).await);
        assert!(sessions.close_read(A, FILE, 0).await);
        assert!(!sessions.close_read(A, FILE, 0).await, "closed more often than opened");
        assert!(!sessions.close_read(B, FILE, 6).await, "another one");
        assert_eq!(readers(&sessions, FILE), [2]);
        assert!(sessions.close_read(B, FILE, 7).await, "asked for twice, opened once");
        assert_eq!(readers(&sessions, FILE), [0u64; 0]);
        sessions.remove(B);
        assert_eq!((sessions.count(), sessions.host(A)), (1, "one".to_owned()));
    }

    fn readers(sessions: &Sessions, inode: InodeId) -> Vec<u64> {
        sessions.begin_removal([inode]).readers(inode)
    }

    #[tokio::test]
    async fn who_was_there_before_the_start_may_have_anything_open() {
        let sessions = Sessions::default();
        sessions.take_up(A, "one", Duration::from_secs(600));
        sessions.take_up(B, "two", Duration::from_secs(600));
        assert_eq!(readers(&sessions, FILE), [1, 2]);
        sessions.assert_reads(A, [(InodeId(1), 0)].into_iter()).await;
        assert_eq!((readers(&sessions, FILE), sessions.awaits_any()), (vec![2], true));
        sessions.remove(B);
        assert_eq!((readers(&sessions, FILE), sessions.awaits_any()), (vec![], false));
        sessions.take_up(B, "two", Duration::ZERO);
        assert_eq!(readers(&sessions, FILE), [0u64; 0], "nobody waits for ever");
    }

    #[tokio::test]
    async fn nobody_opens_or_closes_what_is_being_removed() {
        let sessions = Sessions::default();
        sessions.insert(A, "one");
        let (first, second) = (
            sessions.begin_removal([FILE]),
            sessions.begin_removal([FILE, InodeId(8)]),
        );
        let mut opening = Box::pin(sessions.open_read(A, FILE, 1));
        let mut resuming = Box::pin(sessions.assert_reads(A, std::iter::empty()));
        assert!(sessions.open_read(A, InodeId(9), 1).await, "another one");
        drop(first);
        assert!(futures::poll!(&mut opening).is_pending());
        assert!(futures::poll!(&mut resuming).is_pending());
        let third = sessions.begin_removal([InodeId(8)]);
        drop(second);
        assert!(opening.await);
        resuming.await;
        assert!(third.readers(FILE).contains(&1));
        let closing = sessions.begin_removal([FILE]);
        let mut close = Box::pin(sessions.close_read(A, FILE, 1));
        assert!(futures::poll!(&mut close).is_pending());
        drop(closing);
        assert!(close.await);
    }

    #[tokio::test]
    async fn resuming_replaces_what_was_open() {
        let sessions = Sessions::default();
        sessions.insert(A, "one");
        sessions.open_read(A, InodeId(1), 0).await;
        sessions.assert_reads(A, [(FILE, 0), (FILE, 0)].into_iter()).await;
        assert_eq!(readers(&sessions, InodeId(1)), [0u64; 0]);
        assert!(!sessions.close_read(A, FILE, 0).await && sessions.close_read(A, FILE, 0).await);
        assert_eq!(sessions.silent_for(Duration::from_secs(60)), []);
        let timeout = Duration::from_millis(40);
        let mut ended = Vec::new();
        while ended.is_empty() {
            std::thread::yield_now();
            ended = sessions.silent_for(timeout);
        }
        assert_eq!(ended, [A]);
        // Whoever was stopped for long has not listened.
        std::thread::sleep(timeout);
        assert_eq!(sessions.silent_for(timeout), []);
    }
}
