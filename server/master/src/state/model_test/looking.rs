//! Looking at the under-storage, and what becomes of what was seen.

use super::*;

impl World {
    pub(super) fn look(&mut self, path: &str) {
        let Some(dir) = self.inode(path).filter(|inode| inode.is_dir()) else {
            return;
        };
        let dir = dir.inode_id();
        if self.state.is_tree_busy(dir).unwrap() {
            return;
        }
        let generation = self.state.generation(dir).unwrap();
        let at = self.state.ufs_path(dir).unwrap();
        let at = self.key(at.mount, &at.path);
        let children = self
            .ufs
            .iter()
            .filter(|(path, _)| split(path).0 == at && !path.is_empty() && *path != MOUNT);
        let entries = children
            .map(|(path, object)| UfsEntry {
                name: Bytes::copy_from_slice(split(path).1.as_bytes()),
                kind: match object {
                    Object::Dir => FileKind::Directory,
                    Object::File(..) => FileKind::File,
                    Object::Link => FileKind::Symlink,
                } as i32,
                length: object.length(),
                mtime_ns: 5,
                fingerprint: object.fingerprint(),
                ..Default::default()
            })
            .collect();
        self.seen.push(Seen {
            dir: dir.get(),
            generation,
            entries,
        });
    }

    pub(super) fn load(&mut self, seen: &Seen) -> Result<Applied, alluxio_proto::FsError> {
        let (dir, generation, entries) = (seen.dir, seen.generation, seen.entries.clone());
        self.apply(LoadEntries {
            dir,
            generation,
            entries,
            complete: true,
            file_mode: 0o644,
            dir_mode: 0o755,
            ..Default::default()
        })
    }

    /// Nobody but us changes the under-storage, so a look at it, early or late, must change nothing.
    pub(super) fn apply_look(&mut self) {
        let Some(seen) = self.seen.pop() else { return };
        let loaded = self.load(&seen);
        assert!(
            loaded.is_err() || loaded.as_ref().unwrap().count == 0,
            "a listing brought back a name: {loaded:?}"
        );
        let Ok(known) = self.state.list(InodeId(seen.dir), b"", 100) else {
            return;
        };
        let missing = known
            .iter()
            .filter(|(name, _)| !seen.entries.iter().any(|entry| entry.name == *name));
        let removed: Vec<_> = missing
            .map(|(name, inode)| SyncRemoval {
                name: name.clone(),
                expected_fingerprint: inode.fingerprint().into(),
                keep_for: Vec::new(),
                expected: None,
            })
            .collect();
        let count = removed.len();
        let sync = ApplySync {
            dir: seen.dir,
            generation: seen.generation,
            changed: Vec::new(),
            removed,
        };
        if let Ok(applied) = self.apply(sync) {
            assert_eq!(applied.refused.len(), count, "a look removed a name that is ours");
        }
    }
}
