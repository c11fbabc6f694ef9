//! What must hold.

use super::*;

impl World {
    pub(super) fn check_names(&self) {
        let mut found = BTreeMap::new();
        self.collect(InodeId::ROOT, "", &mut found);
        assert_eq!(found.keys().collect::<Vec<_>>(), self.model.keys().collect::<Vec<_>>());
        for (path, inode) in found {
            let path_of = self.state.path_of(inode.inode_id()).unwrap().unwrap();
            let names = match inode.is_dir() {
                true => vec![path.clone()],
                false => self.names_of(inode.id),
            };
            assert!(
                names.iter().any(|name| path_of == format!("/{name}").as_bytes()),
                "{path_of:?} is none of {names:?}"
            );
            self.check_extras(&inode);
            match &self.model[&path] {
                Node::Dir => assert!(inode.is_dir()),
                Node::Link(id) => assert_eq!((inode.id, inode.kind()), (*id, FileKind::Symlink)),
                Node::Special(id) => assert_eq!((inode.id, inode.kind()), (*id, FileKind::Fifo)),
                Node::File(id, tag) => assert_eq!((inode.id, inode.size), (*id, length(*tag)), "{path}"),
            }
        }
    }

    /// What the state says where a file is to be read from is there, at any time, but for the moment between a change of
    /// the under-storage and the word of it.
    pub(super) fn check_sources(&self) {
        if !self.untold.is_empty() {
            return;
        }
        let mut found = BTreeMap::new();
        self.collect(InodeId::ROOT, "", &mut found);
        for (path, inode) in found.iter().filter(|(_, inode)| inode.is_file()) {
            let Some(source) = self.state.ufs_source(inode.inode_id()).unwrap() else {
                continue;
            };
            let key = self.key(MountId(source.mount_id), &source.path);
            let object = self.ufs.get(&key);
            let version = inode.ufs.as_ref().unwrap().version;
            let tag = self.contents.get(&(inode.id, version)).copied().unwrap_or(EMPTY);
            assert!(
                object.is_some_and(|object| object.is_same(&Object::File(tag, 0))),
                "{path} is said to be at {key}, which holds {object:?}"
            );
            assert_eq!(object.unwrap().fingerprint(), source.fingerprint, "{path} at {key}");
        }
    }

    pub(super) fn collect(&self, dir: InodeId, path: &str, found: &mut BTreeMap<String, Arc<Inode>>) {
        let listed = self.state.list(dir, b"", 1000).unwrap();
        let inode = self.state.inode(dir).unwrap();
        let dirs = listed.iter().filter(|(_, child)| child.is_dir()).count();
        assert_eq!(
            (inode.entries, inode.nlink),
            (listed.len() as u64, 2 + dirs as u32),
            "counts of {path:?}"
        );
        for (name, inode) in listed {
            let name = String::from_utf8(name.to_vec()).unwrap();
            let path = if path.is_empty() {
                name
            } else {
                format!("{path}/{name}")
            };
            if inode.is_dir() {
                self.collect(inode.inode_id(), &path, found);
            }
            found.insert(path, inode);
        }
    }

    pub(super) fn check_end(&mut self) {
        while !self.opens.is_empty() {
            self.close(0, false);
        }
        self.quiesce();
        while self
            .must(ReclaimSlice {
                limit: 3,
                keep: Vec::new(),
                ..Default::default()
            })
            .more
        {}
        self.quiesce();
        self.check_names();
        let mut found = BTreeMap::new();
        self.collect(InodeId::ROOT, "", &mut found);
        let mut names = BTreeMap::<u64, u32>::new();
        for inode in found.values().filter(|inode| !inode.is_dir()) {
            *names.entry(inode.id).or_default() += 1;
        }
        for (path, inode) in &found {
            let object = self.ufs.get(path);
            if !inode.is_dir() {
                assert_eq!(inode.nlink, names[&inode.id], "names of {path}");
            }
            let (dir, name) = split(path);
            if !inode.is_stored_at(self.inode(dir).unwrap().inode_id(), name.as_bytes()) {
                assert_eq!(object, None, "{path} is not the stored name");
                continue;
            }
            match (&self.model[path], inode.persist_state()) {
                (Node::Dir, PersistState::Persisted) => assert_eq!(object, Some(&Object::Dir), "{path}"),
                (Node::Link(_), PersistState::Persisted) => assert_eq!(object, Some(&Object::Link), "{path}"),
                (Node::File(_, tag), PersistState::Persisted) => {
                    let expected = Object::File(tag.unwrap_or(EMPTY), 0);
                    assert!(
                        object.is_some_and(|object| object.is_same(&expected)),
                        "{path}: {object:?}"
                    );
                    assert_eq!(inode.fingerprint(), object.unwrap().fingerprint(), "{path}");
                }
                (_, PersistState::NotPersisted) => assert_eq!(object, None, "{path}"),
                (_, state) => panic!("{path} is {state:?} at the end: {inode:?}"),
            }
        }
        for (path, object) in &self.ufs {
            assert!(
                found.contains_key(path),
                "{path} ({object:?}) was left in the under-storage"
            );
        }
        let counters = self.state.counters();
        let orphans = self.state.orphans_of_session(self.session.into()).unwrap().len() as u64;
        assert_eq!(orphans, 0);
        let dirs = found.values().filter(|inode| inode.is_dir()).count();
        assert_eq!(counters.inodes, (dirs + names.len()) as u64 + 1, "inodes leak");
        let links: u32 = names.values().map(|names| names - 1).sum();
        assert_eq!(counters.links, u64::from(links), "links leak");
        for id in self.xattrs.keys() {
            if self.state.inode(InodeId(*id)).is_err() {
                let left = self.state.xattr_names(InodeId(*id)).unwrap();
                assert!(left.is_empty(), "attributes of a deleted inode are left: {left:?}");
            }
        }
        assert_eq!((counters.intents, counters.renames, counters.detached), (0, 0, 0));
    }
}
