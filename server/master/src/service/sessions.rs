//! Sessions (DESIGN D16): who lives, and who has what open for reading.
//!
//! What a session holds durably (open versions, orphans) is in the state; here is what may be lost with this process: when
//! it was last heard of, and its openings for reading, which a client names again when it resumes.

use alluxio_common::sync::Mutex;
use alluxio_proto::master::{Empty, OpenSession, SessionInfo};
use alluxio_proto::{ErrorKind, FsResult, InodeId, SessionId};
use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::{Core, Ctx};
use crate::state::{Command, command};

/// One session, as far as it is volatile.
#[derive(Debug)]
struct Live {
    host: String,
    last_seen: Instant,
    /// Openings for reading, per inode.
    reads: HashMap<InodeId, u32>,
}

#[derive(Debug, Default)]
struct Table {
    /// When somebody looked for silent ones last.
    checked: Option<Instant>,
    live: HashMap<SessionId, Live>,
    /// Who reads an inode: the other direction of [`Live::reads`].
    readers: HashMap<InodeId, Vec<SessionId>>,
}

/// All sessions that have not ended.
#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<Table>);

impl Sessions {
    /// A session is there, from now on.
    pub fn insert(&self, id: SessionId, host: &str) {
        let live = Live {
            host: host.to_owned(),
            last_seen: Instant::now(),
            reads: HashMap::new(),
        };
        self.0.lock().live.entry(id).or_insert(live);
    }

    /// It was heard of. False: there is no such session.
    pub fn touch(&self, id: SessionId) -> bool {
        match self.0.lock().live.get_mut(&id) {
            Some(live) => {
                live.last_seen = Instant::now();
                true
            }
            None => false,
        }
    }

    /// Host of its client; empty if there is no such session.
    pub fn host(&self, id: SessionId) -> String {
        let table = self.0.lock();
        table.live.get(&id).map_or_else(String::new, |live| live.host.clone())
    }

    /// Whether it has not ended.
    pub fn is_live(&self, id: SessionId) -> bool {
        self.0.lock().live.contains_key(&id)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.lock().live.len()
    }

    /// What it has open for reading becomes exactly this: a client that resumes says so.
    pub fn assert_reads(&self, id: SessionId, inodes: impl Iterator<Item = InodeId>) {
        let mut table = self.0.lock();
        let Table { live, readers, .. } = &mut *table;
        let Some(live) = live.get_mut(&id) else { return };
        for inode in live.reads.drain().map(|(inode, _)| inode) {
            forget(readers, inode, id);
        }
        for inode in inodes {
            let count = live.reads.entry(inode).or_default();
            *count += 1;
            if *count == 1 {
                readers.entry(inode).or_default().push(id);
            }
        }
    }

    /// One more opening for reading. False: there is no such session.
    pub fn open_read(&self, id: SessionId, inode: InodeId) -> bool {
        let mut table = self.0.lock();
        let Table { live, readers, .. } = &mut *table;
        let Some(live) = live.get_mut(&id) else { return false };
        let count = live.reads.entry(inode).or_default();
        *count = count.saturating_add(1);
        if *count == 1 {
            readers.entry(inode).or_default().push(id);
        }
        true
    }

    /// One opening for reading less; true if it was the session's last of this inode.
    pub fn close_read(&self, id: SessionId, inode: InodeId) -> bool {
        let mut table = self.0.lock();
        let Table { live, readers, .. } = &mut *table;
        let Some(live) = live.get_mut(&id) else { return false };
        let Some(count) = live.reads.get_mut(&inode) else {
            return false;
        };
        *count -= 1;
        if *count > 0 {
            return false;
        }
        live.reads.remove(&inode);
        forget(readers, inode, id);
        true
    }

    /// Sessions that have an inode open for reading, as commands want them.
    pub fn readers(&self, inode: InodeId) -> Vec<u64> {
        let table = self.0.lock();
        let readers = table.readers.get(&inode);
        readers.map_or_else(Vec::new, |ids| ids.iter().map(|id| id.get()).collect())
    }

    /// All inodes open for reading, with who reads them.
    pub fn all_readers(&self) -> Vec<(InodeId, Vec<u64>)> {
        let table = self.0.lock();
        let each = table.readers.iter();
        each.map(|(inode, ids)| (*inode, ids.iter().map(|id| id.get()).collect()))
            .collect()
    }

    /// It is over.
    pub fn remove(&self, id: SessionId) {
        let mut table = self.0.lock();
        let Some(live) = table.live.remove(&id) else { return };
        for inode in live.reads.into_keys() {
            forget(&mut table.readers, inode, id);
        }
    }

    /// Sessions of which nothing was heard for so long. If nobody has asked for half of that time, this process has been
    /// stopped, and it is not the clients that were silent: they get their time anew.
    pub fn silent_for(&self, timeout: Duration) -> Vec<SessionId> {
        let mut table = self.0.lock();
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
        let mut locks_refused = Vec::new();
        let session = if resumed {
            self.sessions
                .assert_reads(wanted, op.open_inodes.iter().copied().map(InodeId));
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
            self.sessions.insert(SessionId(opened.id), &op.host);
            SessionId(opened.id)
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
        for inode in self.state.orphans_of_session(id)? {
            let claimed = self.sessions.readers(inode).contains(&id.get());
            if !claimed {
                let mut release = Command::system(super::now_ns(), command::ReleaseOrphan { inode: inode.get() });
                release.session = id.get();
                self.commit(release).await?;
            }
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
        self.sessions.remove(id);
        self.watch.close_session(id);
        match self.propose_own(command::EndSession { id: id.get() }).await {
            Ok(_) => {}
            // Ended before.
            Err(error) if error.kind == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
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
                    // Kept, so that it is tried again.
                    self.sessions.insert(id, &host);
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

    #[test]
    fn openings_are_counted_per_session() {
        let sessions = Sessions::default();
        sessions.insert(A, "one");
        sessions.insert(B, "two");
        assert!(sessions.open_read(A, FILE) && sessions.open_read(A, FILE) && sessions.open_read(B, FILE));
        assert!(!sessions.open_read(SessionId(9), FILE));
        assert_eq!(sessions.readers(FILE), [1, 2]);
        assert!(!sessions.close_read(A, FILE));
        assert!(sessions.close_read(A, FILE));
        assert!(!sessions.close_read(A, FILE), "closed more often than opened");
        assert_eq!(sessions.readers(FILE), [2]);
        sessions.remove(B);
        assert_eq!(sessions.readers(FILE), [0u64; 0]);
        assert_eq!((sessions.count(), sessions.host(A)), (1, "one".to_owned()));
    }

    #[test]
    fn resuming_replaces_what_was_open() {
        let sessions = Sessions::default();
        sessions.insert(A, "one");
        sessions.open_read(A, InodeId(1));
        sessions.assert_reads(A, [FILE, FILE].into_iter());
        assert_eq!(sessions.readers(InodeId(1)), [0u64; 0]);
        assert!(!sessions.close_read(A, FILE) && sessions.close_read(A, FILE));
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
