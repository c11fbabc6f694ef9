//! A batch being applied: changes over what is committed, undone per command, written once.

use alluxio_proto::{InodeId, IntentId, MountId, SessionId};
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::ops::Bound;
use std::sync::Arc;

use super::inode::Inode;
use super::records::{Counters, Edge, MountRecord, SessionRecord};
use super::tables;
use super::view::View;
use super::{Committed, Globals};
use crate::metastore::Batch;

enum Undo {
    Row(Bytes, Option<Option<Bytes>>),
    Inode(u64, Option<Option<Arc<Inode>>>),
}

/// What a batch has changed so far. Later commands of the batch read it.
pub(super) struct Tx<'a> {
    below: Committed<'a>,
    /// `None`: deleted. Inodes are kept apart, decoded, and encoded once at the end.
    rows: BTreeMap<Bytes, Option<Bytes>>,
    inodes: HashMap<u64, Option<Arc<Inode>>>,
    pub globals: Globals,
    undo: Vec<Undo>,
    before: Globals,
}

/// What a batch leaves behind.
pub(super) struct Written {
    pub batch: Batch,
    pub inodes: HashMap<u64, Option<Arc<Inode>>>,
    pub edges: Vec<(Bytes, Option<Edge>)>,
    pub globals: Globals,
    /// The lowest pending intent is pending no more.
    pub lowest_intent_ended: bool,
}

impl<'a> Tx<'a> {
    pub fn new(below: Committed<'a>) -> Self {
        let globals = below.globals.clone();
        Tx {
            below,
            rows: BTreeMap::new(),
            inodes: HashMap::new(),
            before: globals.clone(),
            globals,
            undo: Vec::new(),
        }
    }

    /// A command starts: what it changes can be undone until the next one.
    pub fn begin(&mut self) {
        self.undo.clear();
        self.before = self.globals.clone();
    }

    /// Undoes all that the current command changed.
    pub fn rollback(&mut self) {
        while let Some(undo) = self.undo.pop() {
            match undo {
                Undo::Row(key, Some(old)) => drop(self.rows.insert(key, old)),
                Undo::Row(key, None) => drop(self.rows.remove(&key)),
                Undo::Inode(id, Some(old)) => drop(self.inodes.insert(id, old)),
                Undo::Inode(id, None) => drop(self.inodes.remove(&id)),
            }
        }
        self.globals = self.before.clone();
    }

    pub fn put(&mut self, key: Bytes, value: Bytes) {
        self.set(key, Some(value));
    }
    pub fn put_record<M: prost::Message>(&mut self, key: Bytes, record: &M) {
        self.set(key, Some(tables::encode(record)));
    }
    pub fn delete(&mut self, key: Bytes) {
        self.set(key, None);
    }
    fn set(&mut self, key: Bytes, value: Option<Bytes>) {
        let old = self.rows.insert(key.clone(), value);
        self.undo.push(Undo::Row(key, old));
    }

    pub fn put_inode(&mut self, inode: Inode) {
        let id = inode.id;
        let old = self.inodes.insert(id, Some(Arc::new(inode)));
        self.undo.push(Undo::Inode(id, old));
    }
    pub fn delete_inode(&mut self, id: InodeId) {
        let old = self.inodes.insert(id.get(), None);
        self.undo.push(Undo::Inode(id.get(), old));
    }

    pub fn counters_mut(&mut self) -> &mut Counters {
        &mut self.globals.counters
    }
    pub fn put_mount(&mut self, mount: MountRecord) {
        self.put_record(tables::mount(MountId(mount.id)), &mount);
        Arc::make_mut(&mut self.globals.mounts).insert(mount.id, Arc::new(mount));
    }
    pub fn delete_mount(&mut self, id: MountId) {
        self.delete(tables::mount(id));
        Arc::make_mut(&mut self.globals.mounts).remove(&id.get());
    }
    pub fn mounts(&self) -> Arc<BTreeMap<u64, Arc<MountRecord>>> {
        self.globals.mounts.clone()
    }

    pub fn has_session(&self, id: u64) -> bool {
        self.globals.sessions.contains(&id)
    }
    pub fn put_session(&mut self, session: &SessionRecord) {
        self.put_record(tables::session(SessionId(session.id)), session);
        Arc::make_mut(&mut self.globals.sessions).insert(session.id);
    }
    pub fn delete_session(&mut self, id: SessionId) {
        self.delete(tables::session(id));
        Arc::make_mut(&mut self.globals.sessions).remove(&id.get());
    }

    /// The batch with `position`, and what the cache must learn.
    pub fn finish(self, position: &[u8]) -> io::Result<Written> {
        let mut changes = Vec::with_capacity(self.rows.len() + self.inodes.len() + 2);
        let mut edges = Vec::new();
        for (key, value) in self.rows {
            if key.first() == Some(&tables::EDGES) {
                let edge = value.as_ref().map(|value| Edge::decode(&key, value)).transpose()?;
                edges.push((key.clone(), edge));
            }
            changes.push((key, value));
        }
        for (id, inode) in &self.inodes {
            let value = inode.as_deref().map(tables::encode);
            changes.push((tables::inode(InodeId(*id)), value));
        }
        if self.globals.counters != self.below.globals.counters {
            changes.push((
                tables::single(tables::COUNTERS),
                Some(tables::encode(&self.globals.counters)),
            ));
        }
        let lowest = tables::intent(self.below.lowest_intent());
        let lowest_intent_ended = changes.iter().any(|(key, value)| value.is_none() && *key == lowest);
        let mut value = vec![tables::FORMAT];
        value.extend_from_slice(position);
        changes.push((tables::single(tables::POSITION), Some(value.into())));
        Ok(Written {
            batch: Batch { changes },
            inodes: self.inodes,
            edges,
            globals: self.globals,
            lowest_intent_ended,
        })
    }
}

impl View for Tx<'_> {
    fn get(&self, key: &[u8]) -> io::Result<Option<Bytes>> {
        match self.rows.get(key) {
            Some(value) => Ok(value.clone()),
            None => self.below.get(key),
        }
    }

    fn scan(&self, start: &[u8], end: &[u8], limit: usize) -> io::Result<Vec<(Bytes, Bytes)>> {
        if start >= end {
            return Ok(Vec::new());
        }
        let range = || {
            self.rows
                .range::<[u8], _>((Bound::Included(start), Bound::Excluded(end)))
        };
        // Each change hides one committed row at most.
        let changed = range().count();
        if changed == 0 {
            return self.below.scan(start, end, limit);
        }
        let below = self.below.scan(start, end, limit.saturating_add(changed))?;
        let mut merged: BTreeMap<Bytes, Bytes> = below.into_iter().collect();
        for (key, value) in range() {
            match value {
                Some(value) => merged.insert(key.clone(), value.clone()),
                None => merged.remove(key),
            };
        }
        Ok(merged.into_iter().take(limit).collect())
    }

    fn inode_opt(&self, id: InodeId) -> io::Result<Option<Arc<Inode>>> {
        match self.inodes.get(&id.get()) {
            Some(inode) => Ok(inode.clone()),
            None => self.below.inode_opt(id),
        }
    }

    fn edge(&self, parent: InodeId, name: &[u8]) -> io::Result<Option<Edge>> {
        if !self.rows.is_empty() {
            let key = tables::edge(parent, name);
            if let Some(value) = self.rows.get(&key) {
                return value.as_ref().map(|value| Edge::decode(&key, value)).transpose();
            }
        }
        self.below.edge(parent, name)
    }

    fn counters(&self) -> &Counters {
        &self.globals.counters
    }

    fn lowest_intent(&self) -> IntentId {
        self.below.lowest_intent()
    }

    fn mount_opt(&self, id: MountId) -> Option<Arc<MountRecord>> {
        self.globals.mounts.get(&id.get()).cloned()
    }
}
