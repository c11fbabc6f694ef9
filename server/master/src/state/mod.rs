//! The namespace as one deterministic state machine over the metadata store (DESIGN D1, D3, D4, D5, D9, D15, D16).
//!
//! [`State::apply`](alluxio_journal::StateMachine::apply) takes committed [`Command`]s and is the last word on permission,
//! existence and what an under-storage will be asked to do. It reads no clock and no random number and does no IO but to its
//! store. Reads are methods of [`State`]; each sees one consistent moment.
//!
//! What it leaves out: reaching an under-storage, deciding when to execute an intent, liveness of sessions and workers, who
//! has what open for reading. All that is the service's.

mod acl;
mod apply;
mod cache;
pub mod command;
mod fault;
mod inode;
#[cfg(test)]
mod model_test;
mod read;
mod records;
mod snapshot;
mod strays;
mod tables;
#[cfg(test)]
mod tests;
mod tx;
mod view;

pub use acl::{READ, SEARCH, WRITE};
pub use command::{Body, Command};
pub use inode::{CachedAt, Inode, LOCATIONS_MAX, OCCUPIED_MAX, OpenVersion, UfsBinding, Writer};
pub use read::UfsLocation;
pub use records::{
    Applied, Copied, Counters, Edge, Freed, GIVEN_UP_MAX, GivenUp, Intent, IntentKind, MountRecord, Outcome,
    RETRY_NEVER, RULES, RecoverItem, STUCK_AFTER, SessionRecord, WorkerRecord,
};
pub use strays::Passing;
pub use tables::RETRIES_PER_SESSION;

use alluxio_common::sync::{Mutex, RwLock};
use alluxio_proto::{InodeId, IntentId, MountId};
use bytes::Bytes;
use cache::Cache;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use view::View;

use crate::metastore::MetaStore;

/// Settings of a [`State`].
#[derive(Clone, Copy, Debug)]
pub struct StateOptions {
    /// Inodes, and as many names, kept decoded in memory; about 500 bytes for both.
    pub cache_entries: usize,
}

impl Default for StateOptions {
    fn default() -> Self {
        StateOptions {
            cache_entries: 64 * 1024,
        }
    }
}

/// What is needed for nearly every command, so kept in memory: counters, the mount table, who has a session.
#[derive(Clone, Debug, Default)]
struct Globals {
    counters: Counters,
    /// No pending intent has a smaller id. Finished ones leave rows behind in the store's tables that every scan across them
    /// has to pass until they are compacted away; scans begin here instead.
    lowest_intent: u64,
    mounts: Arc<BTreeMap<u64, Arc<MountRecord>>>,
    sessions: Arc<BTreeSet<u64>>,
}

/// The namespace. Cheap to share behind an `Arc`.
#[derive(Debug)]
pub struct State {
    store: Arc<dyn MetaStore>,
    cache: Cache,
    /// Readers hold it for one call; a batch is committed and the cache brought up to date under the write lock.
    globals: RwLock<Globals>,
    /// One batch at a time.
    applying: Mutex<()>,
}

impl State {
    /// Takes up the state that `store` holds; an empty one waits for [`command::Format`] or a snapshot.
    ///
    /// # Errors
    /// The store failed, or holds records of a newer format.
    pub fn open(store: Arc<dyn MetaStore>, options: StateOptions) -> io::Result<State> {
        // A restore that was cut short has removed the position first: what is left means nothing.
        if store.get(&tables::single(tables::POSITION))?.is_none() {
            store.clear()?;
        }
        let globals = load_globals(store.as_ref())?;
        Ok(State {
            store,
            cache: Cache::new(options.cache_entries),
            globals: RwLock::new(globals),
            applying: Mutex::new(()),
        })
    }
}

impl State {
    /// What was found to be damaged in the store, in words. It is to be rebuilt from the journal.
    pub fn damage(&self) -> Option<String> {
        self.store.damage()
    }
}

fn load_globals(store: &dyn MetaStore) -> io::Result<Globals> {
    let key = tables::single(tables::COUNTERS);
    let counters = match store.get(&key)? {
        Some(value) => tables::decode(&key, &value)?,
        None => Counters::default(),
    };
    let lowest_intent = lowest_intent(store, 0, &counters)?;
    let mut mounts = BTreeMap::new();
    let rows = store.scan(&[tables::MOUNTS], &[tables::MOUNTS + 1], usize::MAX)?;
    for (key, value) in rows {
        let mount: MountRecord = tables::decode(&key, &value)?;
        mounts.insert(mount.id, Arc::new(mount));
    }
    let mut sessions = BTreeSet::new();
    for (key, _) in store.scan(&[tables::SESSIONS], &[tables::SESSIONS + 1], usize::MAX)? {
        sessions.insert(tables::last_number(&key)?);
    }
    Ok(Globals {
        counters,
        lowest_intent,
        mounts: Arc::new(mounts),
        sessions: Arc::new(sessions),
    })
}

#[cfg(test)]
impl State {
    /// What scans begin at is what there is.
    fn check_lowest_intent(&self) {
        let globals = self.globals.read();
        let found = lowest_intent(self.store.as_ref(), 0, &globals.counters).unwrap();
        assert_eq!(globals.lowest_intent, found);
    }
}

/// The lowest id of a pending intent, or of the next one that there will be. None is below `from`.
fn lowest_intent(store: &dyn MetaStore, from: u64, counters: &Counters) -> io::Result<u64> {
    let start = tables::intent(IntentId(from));
    let first = store.scan(&start, &[tables::INTENTS + 1], 1)?;
    match first.first() {
        Some((key, _)) => tables::last_number(key),
        None => Ok(counters.intent_high + 1),
    }
}

/// What is committed, for as long as the read lock is held.
struct Committed<'a> {
    store: &'a dyn MetaStore,
    cache: &'a Cache,
    globals: &'a Globals,
}

impl View for Committed<'_> {
    fn get(&self, key: &[u8]) -> io::Result<Option<Bytes>> {
        self.store.get(key)
    }
    fn scan(&self, start: &[u8], end: &[u8], limit: usize) -> io::Result<Vec<(Bytes, Bytes)>> {
        self.store.scan(start, end, limit)
    }
    fn inode_opt(&self, id: InodeId) -> io::Result<Option<Arc<Inode>>> {
        if let Some(inode) = self.cache.inode(id) {
            return Ok(Some(inode));
        }
        let key = tables::inode(id);
        let Some(value) = self.store.get(&key)? else {
            return Ok(None);
        };
        let inode: Arc<Inode> = Arc::new(tables::decode(&key, &value)?);
        self.cache.put_inode(id, Some(inode.clone()));
        Ok(Some(inode))
    }
    fn edge(&self, parent: InodeId, name: &[u8]) -> io::Result<Option<Edge>> {
        let key = tables::edge(parent, name);
        if let Some(edge) = self.cache.edge(&key) {
            return Ok(edge);
        }
        let edge = self
            .store
            .get(&key)?
            .map(|value| Edge::decode(&key, &value))
            .transpose()?;
        self.cache.put_edge(key, edge);
        Ok(edge)
    }
    fn counters(&self) -> &Counters {
        &self.globals.counters
    }
    fn lowest_intent(&self) -> IntentId {
        IntentId(self.globals.lowest_intent)
    }
    fn mount_opt(&self, id: MountId) -> Option<Arc<MountRecord>> {
        self.globals.mounts.get(&id.get()).cloned()
    }
}
