//! The state machine against a small, slow, obvious model, and an executor of intents that crashes.
//!
//! The model is a map of paths. The under-storage is another map of paths; only intents change it. Contents come from a
//! small set, and equal contents have equal fingerprints, as ETags do: so a delete in the wrong order hits the new object.
//! Every write asserts its precondition, every delete that what it finds is ours. At the end all intents are executed, and
//! the under-storage must hold exactly what the namespace says is persisted.
//!
//! A second under-storage is mounted at [`MOUNT`]. Its paths are kept in the same map, beneath the name of the mount, so that a
//! path of the namespace is one of the map.

mod closing;
mod executor;
mod found;
mod holds;
mod looking;
mod naming;

use super::command::*;
use super::*;
use crate::metastore::HeapStore;
use alluxio_journal::StateMachine;
use alluxio_proto::types::{FileKind, PersistState, WriteType};
use alluxio_proto::{ErrorKind, IntentId, MountId, SessionId};
use proptest::prelude::*;
use std::collections::{BTreeMap, HashMap, HashSet};

const PATHS: [&str; 16] = [
    "a", "b", "c", "d", "a/a", "a/b", "b/a", "b/b", "d/a", "a/b/a", "a/b/b", "b/a/a", "m/a", "m/b", "m/a/a", "m/a/b",
];
/// Where another under-storage is mounted.
const MOUNT: &str = "m";

#[derive(Clone, Debug)]
enum Op {
    Create {
        at: usize,
        tag: u8,
        keep: u8,
        write_type: i32,
    },
    Mkdir {
        at: usize,
        cached_only: bool,
    },
    Symlink {
        at: usize,
    },
    Unlink {
        at: usize,
    },
    Rmdir {
        at: usize,
    },
    DeleteTree {
        at: usize,
    },
    Rename {
        from: usize,
        to: usize,
        flags: u32,
    },
    Overwrite {
        at: usize,
        tag: u8,
        keep: u8,
    },
    SetAttr {
        at: usize,
    },
    Mknod {
        at: usize,
    },
    Link {
        from: usize,
        to: usize,
    },
    Tmpfile {
        tag: u8,
        keep: u8,
    },
    LinkOpen {
        nth: usize,
        to: usize,
    },
    SetXattr {
        at: usize,
        name: usize,
        value: u8,
        flags: u32,
    },
    RemoveXattr {
        at: usize,
        name: usize,
    },
    SetAcl {
        at: usize,
        default: bool,
        set: bool,
    },
    CommitOpen {
        nth: usize,
        tag: u8,
        keep: bool,
    },
    CloseOpen {
        nth: usize,
        abandon: bool,
    },
    KillSession {
        tag: u8,
    },
    Reclaim,
    Start {
        nth: usize,
    },
    Effect {
        nth: usize,
    },
    Confirm {
        nth: usize,
    },
    Fail {
        nth: usize,
        superseded: bool,
    },
    ExecutorCrash,
    Refuse {
        nth: usize,
    },
    Leave {
        nth: usize,
        choice: u8,
    },
    Tell {
        nth: usize,
        choice: u8,
    },
    Look {
        at: usize,
    },
    ApplyLook,
}

fn op() -> impl Strategy<Value = Op> {
    let path = || 0..PATHS.len();
    let nth = || 0..6usize;
    prop_oneof![
        6 => (path(), 0..3u8, 0..3u8, prop_oneof![4 => Just(0), 1 => Just(3)])
            .prop_map(|(at, tag, keep, write_type)| Op::Create { at, tag, keep, write_type }),
        4 => (path(), prop::bool::weighted(0.2)).prop_map(|(at, cached_only)| Op::Mkdir { at, cached_only }),
        1 => path().prop_map(|at| Op::Symlink { at }),
        3 => path().prop_map(|at| Op::Unlink { at }),
        2 => path().prop_map(|at| Op::Rmdir { at }),
        1 => path().prop_map(|at| Op::DeleteTree { at }),
        8 => (path(), path(), prop_oneof![5 => Just(0), 1 => Just(1), 2 => Just(2)])
            .prop_map(|(from, to, flags)| Op::Rename { from, to, flags }),
        3 => (path(), 0..3u8, 0..3u8).prop_map(|(at, tag, keep)| Op::Overwrite { at, tag, keep }),
        1 => path().prop_map(|at| Op::SetAttr { at }),
        1 => path().prop_map(|at| Op::Mknod { at }),
        5 => (path(), path()).prop_map(|(from, to)| Op::Link { from, to }),
        1 => (0..3u8, 0..3u8).prop_map(|(tag, keep)| Op::Tmpfile { tag, keep }),
        2 => (nth(), path()).prop_map(|(nth, to)| Op::LinkOpen { nth, to }),
        2 => (path(), 0..3usize, any::<u8>(), 0..3u32)
            .prop_map(|(at, name, value, flags)| Op::SetXattr { at, name, value, flags }),
        1 => (path(), 0..3usize).prop_map(|(at, name)| Op::RemoveXattr { at, name }),
        1 => (path(), any::<bool>(), prop::bool::weighted(0.7))
            .prop_map(|(at, default, set)| Op::SetAcl { at, default, set }),
        2 => (nth(), 0..3u8, any::<bool>()).prop_map(|(nth, tag, keep)| Op::CommitOpen { nth, tag, keep }),
        2 => (nth(), prop::bool::weighted(0.2)).prop_map(|(nth, abandon)| Op::CloseOpen { nth, abandon }),
        1 => (0..3u8).prop_map(|tag| Op::KillSession { tag }),
        1 => Just(Op::Reclaim),
        10 => nth().prop_map(|nth| Op::Start { nth }),
        9 => nth().prop_map(|nth| Op::Effect { nth }),
        9 => nth().prop_map(|nth| Op::Confirm { nth }),
        1 => (nth(), any::<bool>()).prop_map(|(nth, superseded)| Op::Fail { nth, superseded }),
        1 => Just(Op::ExecutorCrash),
        2 => path().prop_map(|at| Op::Look { at }),
        2 => Just(Op::ApplyLook),
    ]
}

/// Operations over a store that refuses single changes, leaves single objects behind, and gives copies other fingerprints.
fn op_with_refusals() -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => op(),
        1 => (0..4usize).prop_map(|nth| Op::Refuse { nth }),
        2 => (0..4usize, 1..8u8).prop_map(|(nth, choice)| Op::Leave { nth, choice }),
        1 => (0..4usize, 1..8u8).prop_map(|(nth, choice)| Op::Tell { nth, choice }),
        // The folder that has something in it from the start.
        1 => Just(Op::Rename { from: 0, to: 3, flags: 0 }),
        1 => Just(Op::Rename { from: 3, to: 0, flags: 0 }),
    ]
}

#[derive(Clone, Debug, PartialEq)]
enum Node {
    Dir,
    /// Inode, and what was committed last.
    File(u64, Option<u8>),
    Link(u64),
    Special(u64),
}

impl Node {
    /// Inode of what is no directory.
    fn id(&self) -> Option<u64> {
        match self {
            Node::Dir => None,
            Node::File(id, _) | Node::Link(id) | Node::Special(id) => Some(*id),
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Object {
    Dir,
    /// Content, and how often it was moved: a store may make a new object of it each time.
    File(u8, u32),
    Link,
}

impl Object {
    fn fingerprint(&self) -> String {
        match self {
            Object::Dir => String::new(),
            Object::File(tag, moves) => format!("etag-{tag}-{moves}"),
            Object::Link => "link".into(),
        }
    }
    fn length(&self) -> u64 {
        match self {
            Object::File(tag, _) => length(Some(*tag)),
            Object::Link => 1,
            Object::Dir => 0,
        }
    }
    fn moved(&self) -> Self {
        match self {
            Object::File(tag, moves) => Object::File(*tag, moves + 1),
            other => other.clone(),
        }
    }
    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Object::File(one, _), Object::File(other, _)) => one == other,
            (one, other) => one == other,
        }
    }
}

fn length(tag: Option<u8>) -> u64 {
    tag.filter(|tag| *tag != EMPTY).map_or(0, |tag| 10 + u64::from(tag))
}

/// Fingerprint of an empty file, which has no tag.
const EMPTY: u8 = 99;

struct Running {
    id: u64,
    fingerprint: Option<String>,
    skipped: bool,
    /// Of what was copied to another mount.
    source: String,
}

impl Running {
    fn new(id: u64) -> Self {
        Running {
            id,
            fingerprint: None,
            skipped: false,
            source: String::new(),
        }
    }
}

struct Seen {
    dir: u64,
    generation: u64,
    entries: Vec<UfsEntry>,
}

struct World {
    state: State,
    position: u64,
    session: u64,
    model: BTreeMap<String, Node>,
    ufs: BTreeMap<String, Object>,
    contents: HashMap<(u64, u64), u8>,
    /// What was committed last, by inode.
    committed: HashMap<u64, u8>,
    /// Files that were made without a name and have none yet.
    nameless: HashSet<u64>,
    /// New files that stay if nothing is ever committed: one of several writers closed them, or they were given a name.
    promised: HashSet<u64>,
    xattrs: BTreeMap<u64, BTreeMap<&'static [u8], u8>>,
    /// Inodes that have an access list, and those that have a default list.
    acls: [HashSet<u64>; 2],
    /// Inode, and whether it is new and has no commit yet.
    opens: Vec<(u64, bool)>,
    running: Vec<Running>,
    /// Intents that have changed the under-storage, which the state has not been told.
    untold: HashSet<u64>,
    /// Whether strays are passed, as now, or wait for a person in everybody's way, as in journals of before.
    passes: bool,
    /// The second mount.
    mount: MountId,
    seen: Vec<Seen>,
    /// Every command so far.
    log: Vec<Command>,
}

fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

fn is_beneath(path: &str, dir: &str) -> bool {
    dir.is_empty() || path.strip_prefix(dir).is_some_and(|rest| rest.starts_with('/'))
}

/// Whether the two lie on different mounts.
fn is_across(one: &str, other: &str) -> bool {
    is_beneath(one, MOUNT) != is_beneath(other, MOUNT)
}

fn kind_of<T>(result: Result<T, alluxio_proto::FsError>) -> Result<(), ErrorKind> {
    result.map(|_| ()).map_err(|error| error.kind)
}

impl World {
    /// `links`: the second under-storage stores symbolic links, too.
    fn new(state: State, links: bool) -> Self {
        let mut world = World {
            state,
            position: 0,
            session: 0,
            model: BTreeMap::new(),
            ufs: BTreeMap::new(),
            contents: HashMap::new(),
            committed: HashMap::new(),
            nameless: HashSet::new(),
            promised: HashSet::new(),
            xattrs: BTreeMap::new(),
            acls: Default::default(),
            opens: Vec::new(),
            running: Vec::new(),
            untold: HashSet::new(),
            passes: false,
            mount: MountId(0),
            seen: Vec::new(),
            log: Vec::new(),
        };
        let root = MountSpec {
            stores_symlinks: true,
            stores_attributes: true,
            ..Default::default()
        };
        let format = Format {
            rules: RULES,
            cluster_id: "model".into(),
            mode: 0o755,
            root: Some(root),
            ..Default::default()
        };
        world.must(format);
        world.session = world.must(OpenSession::default()).id;
        let mounted = world.must(MountUfs {
            parent: 1,
            name: Bytes::from_static(MOUNT.as_bytes()),
            spec: Some(MountSpec {
                uri: "other".into(),
                stores_symlinks: links,
                stores_attributes: !links,
                ..Default::default()
            }),
            mode: 0o755,
            ..Default::default()
        });
        world.mount = MountId(mounted.id);
        // What was there before us.
        for (path, object) in [
            (MOUNT, Object::Dir),
            ("m/b", Object::File(2, 0)),
            ("a", Object::Dir),
            ("a/a", Object::File(0, 0)),
            ("c", Object::File(1, 0)),
        ] {
            world.ufs.insert(path.into(), object);
        }
        for dir in ["", "a", MOUNT] {
            world.look(dir);
            let seen = world.seen.pop().unwrap();
            let made = world.load(&seen);
            assert!(made.is_ok());
        }
        for (path, object) in world.ufs.clone() {
            let inode = world.inode(&path).unwrap();
            let node = match object {
                Object::File(tag, _) => {
                    world.contents.insert((inode.id, inode.version), tag);
                    world.committed.insert(inode.id, tag);
                    Node::File(inode.id, Some(tag))
                }
                _ => Node::Dir,
            };
            world.model.insert(path, node);
        }
        world
    }

    fn apply(&mut self, body: impl Into<Body>) -> Result<Applied, alluxio_proto::FsError> {
        self.position += 1;
        let mut command = Command::system(self.position as i64, body);
        command.session = self.session;
        self.log.push(command.clone());
        let position = self.position.to_be_bytes();
        let result = self.state.apply(&position, vec![command]).unwrap().remove(0).result;
        self.state.check_lowest_intent();
        result
    }

    fn must(&mut self, body: impl Into<Body>) -> Applied {
        self.apply(body).unwrap()
    }

    fn inode(&self, path: &str) -> Option<Arc<Inode>> {
        self.state.resolve(format!("/{path}").as_bytes()).ok()
    }

    /// Directory and name of a path whose directory exists.
    fn place(&self, path: &str) -> Option<(u64, Bytes)> {
        let (dir, name) = split(path);
        if !dir.is_empty() && self.model.get(dir) != Some(&Node::Dir) {
            return None;
        }
        Some((self.inode(dir)?.id, Bytes::copy_from_slice(name.as_bytes())))
    }

    fn has_children(&self, path: &str) -> bool {
        self.model.keys().any(|other| is_beneath(other, path))
    }

    fn take_tree(&mut self, path: &str) -> Vec<(String, Node)> {
        let keys: Vec<_> = self
            .model
            .keys()
            .filter(|other| *other == path || is_beneath(other, path))
            .cloned()
            .collect();
        keys.into_iter()
            .map(|key| (key[path.len()..].to_owned(), self.model.remove(&key).unwrap()))
            .collect()
    }

    fn put_tree(&mut self, path: &str, tree: Vec<(String, Node)>) {
        self.model
            .extend(tree.into_iter().map(|(rest, node)| (format!("{path}{rest}"), node)));
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Create {
                at,
                tag,
                keep,
                write_type,
            } => self.create(PATHS[at], tag, keep, write_type),
            Op::Mkdir { at, cached_only } => self.mkdir(PATHS[at], cached_only),
            Op::Symlink { at } => self.symlink(PATHS[at]),
            Op::Unlink { at } => self.unlink(PATHS[at]),
            Op::Rmdir { at } => self.rmdir(PATHS[at]),
            Op::DeleteTree { at } => self.delete_tree(PATHS[at]),
            Op::Rename { from, to, flags } => self.rename(PATHS[from], PATHS[to], flags),
            Op::Overwrite { at, tag, keep } => self.overwrite(PATHS[at], tag, keep),
            Op::SetAttr { at } => {
                if let Some(inode) = self.inode(PATHS[at]) {
                    self.must(SetAttr {
                        inode: inode.id,
                        mode: Some(0o640),
                        ..Default::default()
                    });
                }
            }
            Op::Mknod { at } => self.mknod(PATHS[at]),
            Op::Link { from, to } => self.link(PATHS[from], PATHS[to]),
            Op::Tmpfile { tag, keep } => self.tmpfile(tag, keep),
            Op::LinkOpen { nth, to } => self.link_open(nth, PATHS[to]),
            Op::SetXattr { at, name, value, flags } => self.set_xattr(PATHS[at], name, value, flags),
            Op::RemoveXattr { at, name } => self.remove_xattr(PATHS[at], name),
            Op::SetAcl { at, default, set } => self.set_acl(PATHS[at], default, set),
            Op::CommitOpen { nth, tag, keep } => {
                if let Some((inode, _)) = self.opens.get(nth).copied() {
                    self.commit(inode, tag, keep);
                }
            }
            Op::CloseOpen { nth, abandon } => self.close(nth, abandon),
            Op::KillSession { tag } => self.kill_session(tag),
            Op::Reclaim => self.reclaim(),
            Op::Start { nth } => self.start(nth),
            Op::Effect { nth } => self.effect(nth),
            Op::Confirm { nth } => self.confirm(nth),
            // More than three are rarely under way.
            Op::Fail { nth, superseded: false } if nth >= 3 => self.refuse(nth - 3),
            Op::Fail { nth, superseded } => self.fail(nth, superseded),
            Op::ExecutorCrash => self.running.clear(),
            Op::Refuse { nth } => self.refuse(nth),
            Op::Leave { nth, choice } => self.leave(nth, choice),
            Op::Tell { nth, choice } => self.tell(nth, choice),
            Op::Look { at } => self.look(split(PATHS[at]).0),
            Op::ApplyLook => self.apply_look(),
        }
    }

    fn create(&mut self, path: &str, tag: u8, keep: u8, write_type: i32) {
        let Some((parent, name)) = self.place(path) else { return };
        let create = CreateFile {
            parent,
            name,
            mode: 0o644,
            open: true,
            write_type,
            home_worker: 1,
            ..Default::default()
        };
        let result = self.apply(create);
        if self.model.contains_key(path) {
            assert_eq!(kind_of(result), Err(ErrorKind::AlreadyExists));
            return;
        }
        let inode = result.unwrap().inode.unwrap().id;
        self.inherits(path, inode, false);
        self.model.insert(path.into(), Node::File(inode, None));
        self.opens.push((inode, true));
        self.finish(inode, tag, keep);
    }

    /// 0: commit and close; 1: commit and stay open; 2: stay open.
    fn finish(&mut self, inode: u64, tag: u8, keep: u8) {
        if keep < 2 {
            self.commit(inode, tag, keep == 1);
        }
    }

    fn commit(&mut self, inode: u64, tag: u8, keep_open: bool) {
        let open = self.state.inode(InodeId(inode)).unwrap().open.clone().unwrap();
        self.contents.insert((inode, open.version), tag);
        self.committed.insert(inode, tag);
        let version = open.version;
        let mtime_ns = self.position as i64;
        self.must(Commit {
            inode,
            version,
            length: length(Some(tag)),
            mtime_ns,
            keep_open,
            // Each third by the home's clock, which may be behind or ahead.
            ctime_ns: if inode.is_multiple_of(3) { mtime_ns * 2 } else { 0 },
            hole_bytes: 0,
            mapped: false,
        });
        if !keep_open {
            // The others stay; all are alike.
            let at = self.opens.iter().position(|(other, _)| *other == inode);
            self.opens.remove(at.unwrap());
        }
        for open in self.opens.iter_mut().filter(|(other, _)| *other == inode) {
            open.1 = false;
        }
        self.set_content(inode, tag);
    }

    fn set_content(&mut self, inode: u64, tag: u8) {
        for node in self.model.values_mut() {
            if matches!(node, Node::File(id, _) if *id == inode) {
                *node = Node::File(inode, Some(tag));
            }
        }
    }

    fn overwrite(&mut self, path: &str, tag: u8, keep: u8) {
        let Some(Node::File(inode, _)) = self.model.get(path).cloned() else {
            return;
        };
        self.must(OpenWrite {
            inode,
            home_worker: 1,
            ..Default::default()
        });
        let unpromised = self
            .opens
            .iter()
            .any(|(other, unpromised)| *other == inode && *unpromised);
        self.opens.push((inode, unpromised));
        self.finish(inode, tag, keep);
    }

    fn mkdir(&mut self, path: &str, cached_only: bool) {
        let Some((parent, name)) = self.place(path) else { return };
        let write_type = if cached_only {
            WriteType::MustCache
        } else {
            WriteType::AsyncThrough
        } as i32;
        let result = self.apply(Mkdir {
            parent,
            name,
            mode: 0o755,
            write_type,
            ..Default::default()
        });
        let expected = if self.model.contains_key(path) {
            Err(ErrorKind::AlreadyExists)
        } else {
            Ok(())
        };
        assert_eq!(kind_of(result.clone()), expected);
        if let Ok(made) = result {
            self.inherits(path, made.inode.unwrap().id, true);
        }
        self.model.entry(path.into()).or_insert(Node::Dir);
    }

    fn symlink(&mut self, path: &str) {
        let Some((parent, name)) = self.place(path) else { return };
        let result = self.apply(Symlink {
            parent,
            name,
            target: Bytes::from_static(b"x"),
            ..Default::default()
        });
        if self.model.contains_key(path) {
            assert_eq!(kind_of(result), Err(ErrorKind::AlreadyExists));
        } else {
            self.model
                .insert(path.into(), Node::Link(result.unwrap().inode.unwrap().id));
        }
    }

    /// What a proposer that looks first says of a name.
    fn expected(&self, path: &str) -> Option<u64> {
        match self.model.get(path) {
            None => Some(0),
            Some(node) => node.id(),
        }
    }

    /// Two names, or the directory that has none left.
    fn reclaim(&mut self) {
        let Some(dir) = self.state.detached_from(InodeId(0)).unwrap() else {
            return;
        };
        let children = self.state.children_after(dir, b"", 2).unwrap();
        let slice = ReclaimSlice {
            dir: dir.get(),
            upto: children.last().map(|(name, _)| name.clone()).unwrap_or_default(),
            ..Default::default()
        };
        let count = self.must(slice).count;
        assert_eq!(count, children.len().max(1) as u64);
    }

    fn unlink(&mut self, path: &str) {
        let Some((parent, name)) = self.place(path) else { return };
        let result = self.apply(Unlink {
            parent,
            name,
            keep_for: Vec::new(),
            expected: self.expected(path),
        });
        let expected = match self.model.get(path) {
            None => Err(ErrorKind::NotFound),
            Some(Node::Dir) => Err(ErrorKind::IsADirectory),
            Some(_) => Ok(()),
        };
        assert_eq!(kind_of(result), expected);
        if expected.is_ok() {
            self.model.remove(path);
        }
    }

    fn rmdir(&mut self, path: &str) {
        let Some((parent, name)) = self.place(path) else { return };
        let result = self.apply(Rmdir { parent, name });
        let expected = match self.model.get(path) {
            None => Err(ErrorKind::NotFound),
            Some(Node::Dir) if self.has_children(path) => Err(ErrorKind::NotEmpty),
            Some(Node::Dir) => Ok(()),
            Some(_) => Err(ErrorKind::NotADirectory),
        };
        assert_eq!(kind_of(result), expected);
        if expected.is_ok() {
            self.model.remove(path);
        }
    }

    fn delete_tree(&mut self, path: &str) {
        let Some((parent, name)) = self.place(path) else { return };
        let result = self.apply(DeleteTree {
            parent,
            name,
            alluxio_only: false,
        });
        let expected = match self.model.get(path) {
            None => Err(ErrorKind::NotFound),
            Some(Node::Dir) => Ok(()),
            Some(_) => Err(ErrorKind::NotADirectory),
        };
        assert_eq!(kind_of(result), expected);
        if expected.is_ok() {
            let gone = self.take_tree(path);
            // What was open in it stays open until its tree is reclaimed, or its session ends; closing finds nothing.
            let ids: Vec<u64> = gone
                .iter()
                .filter_map(|(_, node)| if let Node::File(id, _) = node { Some(*id) } else { None })
                .filter(|id| self.names_of(*id).is_empty())
                .collect();
            for id in &ids {
                while let Some(nth) = self.opens.iter().position(|(other, _)| other == id) {
                    self.opens.remove(nth);
                    self.must(CloseWrite {
                        inode: *id,
                        abandon: false,
                        ..Default::default()
                    });
                }
            }
        }
    }

    fn rename(&mut self, from: &str, to: &str, flags: u32) {
        let (Some((parent, name)), Some((new_parent, new_name))) = (self.place(from), self.place(to)) else {
            return;
        };
        let result = kind_of(self.apply(Rename {
            parent,
            name,
            new_parent,
            new_name,
            flags,
            keep_for: Vec::new(),
            across_mounts: true,
            expected_target: self.expected(to),
        }));
        if flags == RENAME_EXCHANGE && result == Err(ErrorKind::Busy) {
            return;
        }
        let (source, target) = (self.model.get(from).cloned(), self.model.get(to).cloned());
        let id = |node: &Option<Node>| node.as_ref().and_then(Node::id);
        let is_same = id(&source).is_some() && id(&source) == id(&target);
        let across = is_across(from, to);
        let is_linked = self.inode(from).is_some_and(|inode| !inode.is_dir() && inode.nlink > 1);
        let has_linked = across && self.has_linked(from);
        let expected = match (&source, &target) {
            (None, _) => Err(ErrorKind::NotFound),
            _ if across && (flags == RENAME_EXCHANGE || is_linked) => Err(ErrorKind::CrossesMounts),
            (Some(Node::Dir), _) if is_beneath(to, from) => Err(ErrorKind::InvalidArgument),
            (Some(_), Some(_)) if flags == RENAME_NOREPLACE => Err(ErrorKind::AlreadyExists),
            (Some(_), Some(_)) if from == to || is_same => Ok(()),
            (Some(_), None) if flags == RENAME_EXCHANGE => Err(ErrorKind::NotFound),
            (Some(_), Some(Node::Dir)) if flags == RENAME_EXCHANGE && is_beneath(from, to) => {
                Err(ErrorKind::InvalidArgument)
            }
            (Some(_), Some(_)) if flags == RENAME_EXCHANGE => Ok(()),
            (Some(Node::Dir), Some(Node::Dir)) if self.has_children(to) => Err(ErrorKind::NotEmpty),
            (Some(Node::Dir), Some(Node::Dir) | None) if has_linked => Err(ErrorKind::CrossesMounts),
            (Some(Node::Dir), Some(Node::Dir)) => Ok(()),
            (Some(Node::Dir), Some(_)) => Err(ErrorKind::NotADirectory),
            (Some(_), Some(Node::Dir)) => Err(ErrorKind::IsADirectory),
            (Some(_), _) => Ok(()),
        };
        assert_eq!(result, expected, "rename {from} {to} {flags}");
        if expected.is_err() || from == to || is_same {
            return;
        }
        self.promised.extend(id(&source));
        if flags == RENAME_EXCHANGE {
            self.promised.extend(id(&target));
        }
        let (moved, replaced) = (self.take_tree(from), self.take_tree(to));
        self.put_tree(to, moved);
        if flags == RENAME_EXCHANGE {
            self.put_tree(from, replaced);
        }
    }
}

impl World {
    /// Where a place of an under-storage is in the map of both.
    fn key(&self, mount: MountId, path: &[u8]) -> String {
        let path = std::str::from_utf8(path).unwrap();
        match (mount == self.mount, path) {
            (true, "") => MOUNT.to_owned(),
            (true, path) => format!("{MOUNT}/{path}"),
            (false, path) => path.to_owned(),
        }
    }

    /// Whether something beneath a directory has several names.
    fn has_linked(&self, dir: &str) -> bool {
        let mut beneath = self.model.keys().filter(|path| is_beneath(path, dir));
        beneath.any(|path| self.inode(path).is_some_and(|inode| !inode.is_dir() && inode.nlink > 1))
    }
}

fn heap_state() -> State {
    State::open(Arc::new(HeapStore::default()), StateOptions { cache_entries: 32 }).unwrap()
}

/// Few enough for every run of the tests, unless `PROPTEST_CASES` asks for more.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(2_000)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn random_operations_agree_with_the_model(ops in prop::collection::vec(op(), 1..60)) {
        let mut world = World::new(heap_state(), ops.len().is_multiple_of(2));
        for op in ops {
            world.run(op);
            world.check_names();
            world.check_sources();
        }
        world.check_end();
    }
}

/// Some seconds; 20,000 have passed.
fn refused_cases() -> u32 {
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => cases(),
        None => 500,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: refused_cases(), max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn random_refusals_hold_up_only_what_depends_on_them(ops in prop::collection::vec(op_with_refusals(), 1..60)) {
        let mut world = World::new(heap_state(), ops.len().is_multiple_of(2));
        world.passes = true;
        for op in ops {
            world.run(op);
            world.check_names();
            world.check_sources();
        }
        world.check_end();
    }
}

/// The rows of a state, without what depends on the store.
fn bytes_of(state: &State) -> Vec<u8> {
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut state.snapshot().unwrap(), &mut bytes).unwrap();
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn every_store_and_a_restored_snapshot_agree(ops in prop::collection::vec(op_with_refusals(), 20..80)) {
        let mut world = World::new(heap_state(), true);
        world.passes = true;
        for op in ops {
            world.run(op);
        }
        let bytes = bytes_of(&world.state);
        for kind in crate::metastore::StoreKind::ALL {
            let dir = tempfile::tempdir().unwrap();
            let store = crate::metastore::open(kind, dir.path(), 1 << 20).unwrap();
            let state = State::open(store, StateOptions { cache_entries: 32 }).unwrap();
            // In one batch: commands of a batch must see each other just as those of other batches.
            state.apply(b"end", world.log.clone()).unwrap();
            prop_assert!(bytes_of(&state) == bytes, "{} differs", kind.name());
            // And back.
            let other = heap_state();
            other.restore(b"end", &mut &bytes[..]).unwrap();
            prop_assert!(bytes_of(&other) == bytes);
            prop_assert_eq!(other.position().unwrap().unwrap(), b"end");
            prop_assert_eq!(other.counters(), state.counters());
        }
    }
}
