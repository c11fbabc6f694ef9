//! Hard links, files without a name, special files, extended attributes, access lists.

use super::*;
use alluxio_proto::master::{XATTR_CREATE, XATTR_REPLACE};
use alluxio_proto::types::{Acl, AclEntry};

const XATTR_NAMES: [&[u8]; 3] = [b"user.a", b"trusted.b", b"security.c"];

impl World {
    /// All paths of what is no directory.
    pub(super) fn names_of(&self, inode: u64) -> Vec<String> {
        let named = self.model.iter().filter(|(_, node)| node.id() == Some(inode));
        named.map(|(path, _)| path.clone()).collect()
    }

    pub(super) fn mknod(&mut self, path: &str) {
        let Some((parent, name)) = self.place(path) else { return };
        let result = self.apply(Mknod {
            parent,
            name,
            kind: FileKind::Fifo as i32,
            mode: 0o600,
            ..Default::default()
        });
        if self.model.contains_key(path) {
            assert_eq!(kind_of(result), Err(ErrorKind::AlreadyExists));
            return;
        }
        let inode = result.unwrap().inode.unwrap().id;
        self.inherits(path, inode, false);
        self.model.insert(path.into(), Node::Special(inode));
    }

    pub(super) fn link(&mut self, from: &str, to: &str) {
        let (Some(inode), Some((parent, name))) = (self.inode(from), self.place(to)) else {
            return;
        };
        let inode = inode.id;
        let result = self.apply(Link { inode, parent, name });
        let source = self.model[from].clone();
        let expected = match (&source, self.model.contains_key(to)) {
            (_, true) => Err(ErrorKind::AlreadyExists),
            (Node::Dir, _) => Err(ErrorKind::NotPermitted),
            _ if is_across(from, to) => Err(ErrorKind::CrossesMounts),
            _ => Ok(()),
        };
        assert_eq!(kind_of(result), expected, "link {from} {to}");
        if expected.is_ok() {
            self.promised.insert(inode);
            self.model.insert(to.into(), source);
        }
    }

    pub(super) fn tmpfile(&mut self, tag: u8, keep: u8) {
        let made = self.must(Tmpfile {
            parent: 1,
            mode: 0o600,
            home_worker: 1,
            ..Default::default()
        });
        let inode = made.inode.unwrap().id;
        self.opens.push((inode, true));
        self.nameless.insert(inode);
        self.finish(inode, tag, keep);
    }

    /// linkat of an open file: with other names, made without one, or unlinked.
    pub(super) fn link_open(&mut self, nth: usize, to: &str) {
        let (Some((inode, _)), Some((parent, name))) = (self.opens.get(nth).copied(), self.place(to)) else {
            return;
        };
        let result = self.apply(Link { inode, parent, name });
        let has_name = !self.names_of(inode).is_empty();
        let mount = self.state.inode(InodeId(inode)).unwrap().mount();
        let is_elsewhere = (mount == self.mount) != is_beneath(to, MOUNT);
        let expected = match self.model.contains_key(to) {
            true => Err(ErrorKind::AlreadyExists),
            false if is_elsewhere => Err(ErrorKind::CrossesMounts),
            false if has_name || self.nameless.contains(&inode) => Ok(()),
            false => Err(ErrorKind::NotFound),
        };
        assert_eq!(kind_of(result), expected, "link open {inode} {to}");
        if expected.is_ok() {
            self.nameless.remove(&inode);
            self.promised.insert(inode);
            let tag = self.committed.get(&inode).copied();
            self.model.insert(to.into(), Node::File(inode, tag));
        }
    }

    pub(super) fn set_xattr(&mut self, path: &str, name: usize, value: u8, flags: u32) {
        let Some(inode) = self.inode(path) else { return };
        let name = XATTR_NAMES[name];
        let result = self.apply(SetXattr {
            inode: inode.id,
            name: Bytes::from_static(name),
            value: vec![value; usize::from(value)].into(),
            flags,
        });
        let is_special = !inode.is_dir() && !inode.is_file();
        let known = self.xattrs.entry(inode.id).or_default();
        let expected = match known.contains_key(name) {
            _ if is_special && name.starts_with(b"user.") => Err(ErrorKind::NotPermitted),
            true if flags == XATTR_CREATE => Err(ErrorKind::AlreadyExists),
            false if flags == XATTR_REPLACE => Err(ErrorKind::NoAttribute),
            _ => Ok(()),
        };
        if expected.is_ok() {
            known.insert(name, value);
        }
        assert_eq!(kind_of(result), expected);
    }

    pub(super) fn remove_xattr(&mut self, path: &str, name: usize) {
        let Some(inode) = self.inode(path) else { return };
        let name = XATTR_NAMES[name];
        let result = self.apply(RemoveXattr {
            inode: inode.id,
            name: Bytes::from_static(name),
        });
        let is_special = !inode.is_dir() && !inode.is_file();
        let expected = match self.xattrs.entry(inode.id).or_default().remove(name) {
            _ if is_special && name.starts_with(b"user.") => Err(ErrorKind::NotPermitted),
            Some(_) => Ok(()),
            None => Err(ErrorKind::NoAttribute),
        };
        assert_eq!(kind_of(result), expected);
    }

    pub(super) fn set_acl(&mut self, path: &str, default: bool, set: bool) {
        let Some(inode) = self.inode(path) else { return };
        let acl = Acl {
            owner: 7,
            group: 5,
            other: 1,
            mask: Some(7),
            users: vec![AclEntry {
                name: "ann".into(),
                perm: 6,
            }],
            ..Default::default()
        };
        let result = self.apply(SetAcl {
            inode: inode.id,
            default,
            acl: set.then_some(acl),
        });
        let expected = match inode.kind() {
            FileKind::Symlink => Err(ErrorKind::NotSupported),
            FileKind::Directory => Ok(()),
            _ if default && set => Err(ErrorKind::AccessDenied),
            _ => Ok(()),
        };
        assert_eq!(kind_of(result), expected);
        if expected.is_ok() {
            let acls = &mut self.acls[usize::from(default)];
            acls.remove(&inode.id);
            acls.extend(set.then_some(inode.id));
        }
    }

    /// What was made at `path` has the default list of its directory.
    pub(super) fn inherits(&mut self, path: &str, inode: u64, is_dir: bool) {
        let dir = self.inode(split(path).0).unwrap().id;
        if self.acls[1].contains(&dir) {
            self.acls[0].insert(inode);
            self.acls[1].extend(is_dir.then_some(inode));
        }
    }

    /// Attributes and lists of an inode are those of the model.
    pub(super) fn check_extras(&self, inode: &Inode) {
        let (id, none) = (inode.inode_id(), BTreeMap::new());
        let expected = self.xattrs.get(&inode.id).unwrap_or(&none);
        let names = self.state.xattr_names(id).unwrap();
        assert!(names.iter().map(|name| &name[..]).eq(expected_order(expected)));
        for (name, value) in expected {
            let found = self.state.xattr(id, name).unwrap().unwrap();
            assert_eq!(found, vec![*value; usize::from(*value)]);
        }
        let bytes = expected
            .iter()
            .map(|(name, value)| name.len() + 1 + usize::from(*value))
            .sum::<usize>();
        assert_eq!(
            (inode.xattrs as usize, inode.xattr_bytes),
            (expected.len(), bytes as u64)
        );
        let acls = [inode.acl_access.is_some(), inode.acl_default.is_some()];
        assert_eq!(
            acls,
            [0, 1].map(|kind| self.acls[kind].contains(&inode.id)),
            "lists of {inode:?}"
        );
    }
}

fn expected_order<'a>(xattrs: &'a BTreeMap<&'static [u8], u8>) -> impl Iterator<Item = &'a [u8]> {
    xattrs.keys().copied()
}
