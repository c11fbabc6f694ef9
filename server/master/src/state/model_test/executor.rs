//! The executor of intents, which crashes.

use super::*;

impl World {
    pub(super) fn start(&mut self, nth: usize) {
        let Some(intent) = self.state.intents(IntentId(0), nth + 1).unwrap().pop() else {
            return;
        };
        if self.running.iter().any(|running| running.id == intent.id) {
            return;
        }
        match self.apply(IntentStarted {
            intent: intent.id,
            passes: self.passes,
            keeps: self.passes,
            ..Default::default()
        }) {
            Ok(applied) => {
                let started = applied.intent.map(|intent| Running::new(intent.id));
                self.running.extend(started);
            }
            Err(error) => assert_eq!(error.kind, ErrorKind::Busy),
        }
    }

    pub(super) fn effect(&mut self, nth: usize) {
        let Some(id) = self.running.get(nth).map(|running| running.id) else {
            return;
        };
        let Some(intent) = self.state.intent(IntentId(id)).unwrap() else {
            return;
        };
        let path = self.key(MountId(intent.mount_id), &intent.path);
        let (mut fingerprint, mut skipped, mut source) = (String::new(), false, String::new());
        // A copy leaves what it is made of as it was.
        if !intent.is_across() {
            self.untold.insert(id);
        }
        match intent.kind() {
            IntentKind::Persist => {
                let Some(object) = self.uploadable(&intent) else { return };
                fingerprint = self.put(&path, object, &intent);
            }
            IntentKind::Symlink => fingerprint = self.put(&path, Object::Link, &intent),
            IntentKind::Delete => {
                if let Some(object) = self.ufs.get(&path) {
                    let ours = intent.expect.contains(&object.fingerprint())
                        || intent.expect_lengths.contains(&object.length())
                        || self.is_copy(object, &intent);
                    // What could not be deleted at first may have been replaced since: then it stays.
                    assert!(
                        ours || intent.refusals > 0,
                        "{path} holds {object:?}, which {intent:?} may not delete"
                    );
                    if ours {
                        self.ufs.remove(&path);
                    }
                }
            }
            IntentKind::DeleteTree => {
                let kept = self.strays_beneath(&path);
                self.ufs
                    .retain(|other, _| kept.contains(other) || (*other != path && !is_beneath(other, &path)));
            }
            IntentKind::Rename if intent.is_across() => match self.copy_across(&intent) {
                Some((copied, made)) => (source, fingerprint) = (copied, made),
                None => skipped = true,
            },
            IntentKind::Rename => match self.rename_in_ufs(&intent) {
                Some(moved) => fingerprint = moved,
                None => skipped = true,
            },
            IntentKind::Mkdir => self.make_dirs(&path),
            IntentKind::Rmdir => {
                let kept = self.strays_beneath(&path);
                let left = self.ufs.keys().filter(|other| is_beneath(other, &path));
                let left: Vec<_> = left.filter(|other| !kept.contains(*other)).collect();
                assert!(left.is_empty() || intent.refusals > 0, "{path} still holds {left:?}");
                if left.is_empty() {
                    self.ufs.remove(&path);
                }
            }
            IntentKind::SetAttr => {}
        }
        if let Some(running) = self.running.get_mut(nth) {
            running.fingerprint = Some(fingerprint);
            running.skipped = skipped;
            running.source = source;
        }
    }

    /// The content of an intent's version, unless it was overwritten in place meanwhile.
    pub(super) fn uploadable(&self, intent: &Intent) -> Option<Object> {
        let inode = self.state.inode(InodeId(intent.inode)).ok();
        if inode.is_some_and(|inode| inode.version > intent.version) {
            return None;
        }
        Some(Object::File(
            self.contents
                .get(&(intent.inode, intent.version))
                .copied()
                .unwrap_or(EMPTY),
            0,
        ))
    }

    pub(super) fn put(&mut self, path: &str, object: Object, intent: &Intent) -> String {
        let fingerprint = object.fingerprint();
        match self.ufs.get(path) {
            Some(old) => assert!(
                // An upload that was refused before looks at what is there by then, and replaces it.
                (self.passes && intent.refusals > 0)
                    || old.is_same(&object)
                    || self.is_copy(old, intent)
                    || intent.expect.contains(&old.fingerprint())
                    || intent.expect_lengths.contains(&old.length()),
                "{path} holds {old:?}, which {intent:?} does not expect"
            ),
            // What it expects may be where a stray still is that was to come here: then it finds nothing, and is content.
            None => assert!(
                self.passes || intent.expect.is_empty() || intent.heir != 0 || intent.cancelled,
                "{path} is empty, but {intent:?} expects something"
            ),
        }
        self.make_dirs(split(path).0);
        self.ufs.insert(path.into(), object);
        fingerprint
    }

    /// Whether an object is a copy of what the under-storage has of an intent's inode, under whatever fingerprint: its name says so.
    fn is_copy(&self, object: &Object, intent: &Intent) -> bool {
        let inode = self.state.inode(InodeId(intent.inode)).ok();
        let bound = inode.and_then(|inode| inode.ufs.as_ref().map(|ufs| ufs.version));
        let version = if intent.kind() == IntentKind::Persist {
            bound
        } else {
            Some(intent.version)
        };
        let content = version.and_then(|version| self.contents.get(&(intent.inode, version)));
        let is_named = content.is_some_and(|tag| object.is_same(&Object::File(*tag, 0)));
        // Of what was there from the start there is no name. A rename takes it along, as the file's new content; a delete leaves it.
        let is_moved = |tag: u8| {
            let expected = |expect: &String| expect.starts_with(&format!("etag-{tag}-"));
            intent.kind() == IntentKind::Rename && intent.expect.iter().any(expected)
        };
        is_named || (self.passes && matches!(object, Object::File(tag, _) if is_moved(*tag)))
    }

    pub(super) fn make_dirs(&mut self, path: &str) {
        if path.is_empty() {
            return;
        }
        self.make_dirs(split(path).0);
        let there = self.ufs.entry(path.into()).or_insert(Object::Dir);
        assert_eq!(*there, Object::Dir, "{path} should be a folder");
    }

    /// The fingerprint of what was moved, if it was, now or by an attempt that was not confirmed.
    pub(super) fn rename_in_ufs(&mut self, intent: &Intent) -> Option<String> {
        let mount = MountId(intent.mount_id);
        let [from, to] = [&intent.path, &intent.to_path].map(|path| self.key(mount, path));
        let (from, to) = (from.as_str(), to.as_str());
        if intent.is_folder() && from != to {
            self.leave_in_the_way(intent, from, to);
        }
        let kept = self.strays_beneath(from);
        if from == to {
            return Some(self.ufs.get(to)?.fingerprint());
        }
        let Some(object) = self.ufs.get(from).cloned() else {
            return Some(self.ufs.get(to)?.fingerprint());
        };
        let ours = object == Object::Dir
            || intent.expect.is_empty()
            || intent.expect.contains(&object.fingerprint())
            || intent.expect_lengths.contains(&object.length())
            || self.is_copy(&object, intent);
        assert!(ours, "{from} holds {object:?}, which {intent:?} may not rename");
        let dir = split(to).0;
        assert!(
            dir.is_empty() || self.ufs.get(dir) == Some(&Object::Dir),
            "no folder for {to}"
        );
        let old = self.ufs.get(to);
        assert!(
            old.is_none() || (*old.unwrap() != Object::Dir && object != Object::Dir),
            "{to} is in the way of {from}"
        );
        let moved: Vec<_> = self
            .ufs
            .keys()
            .filter(|other| *other == from || (is_beneath(other, from) && !kept.contains(*other)))
            .cloned()
            .collect();
        // Also what is in a folder may be another object afterwards: then the state is told.
        let tells = self.passes && object == Object::Dir;
        let mut told = Vec::new();
        for key in moved {
            let object = self.ufs.remove(&key).unwrap();
            let copy = match key == from || tells {
                true => object.moved(),
                false => object.clone(),
            };
            if copy != object && tells {
                told.push(CopiedObject {
                    name: Bytes::copy_from_slice(&key.as_bytes()[from.len() + 1..]),
                    from: object.fingerprint(),
                    to: copy.fingerprint(),
                });
            }
            self.ufs.insert(format!("{to}{}", &key[from.len()..]), copy);
        }
        if !told.is_empty() {
            self.must(IntentCopied {
                intent: intent.id,
                copied: None,
                objects: told,
            });
        }
        Some(self.ufs[to].fingerprint())
    }

    /// Copies an object to the other mount: the fingerprints of what was copied and of the copy.
    fn copy_across(&mut self, intent: &Intent) -> Option<(String, String)> {
        let from = self.key(MountId(intent.mount_id), &intent.path);
        let to = self.key(intent.to_mount(), &intent.to_path);
        assert!(!intent.is_folder() && is_across(&from, &to), "{intent:?}");
        let object = self.ufs.get(&from).cloned()?;
        let ours = intent.expect.contains(&object.fingerprint())
            || intent.expect_lengths.contains(&object.length())
            || self.is_copy(&object, intent);
        assert!(ours, "{from} holds {object:?}, which {intent:?} may not copy");
        let inode = self.state.inode(InodeId(intent.inode)).ok();
        if inode.is_none_or(|inode| inode.nlink == 0) && !self.ufs.contains_key(&to) {
            return Some((object.fingerprint(), String::new()));
        }
        let dir = split(&to).0;
        assert!(
            dir.is_empty() || self.ufs.get(dir) == Some(&Object::Dir),
            "no folder for {to}"
        );
        assert_ne!(self.ufs.get(&to), Some(&Object::Dir), "{to} is in the way of {from}");
        let copy = object.moved();
        let fingerprint = copy.fingerprint();
        self.ufs.insert(to, copy);
        Some((object.fingerprint(), fingerprint))
    }

    pub(super) fn confirm(&mut self, nth: usize) {
        let done = self
            .running
            .get(nth)
            .is_some_and(|running| running.fingerprint.is_some());
        if done {
            let running = self.running.remove(nth);
            let fingerprint = running.fingerprint.unwrap_or_default();
            self.must(IntentDone {
                intent: running.id,
                fingerprint,
                skipped: running.skipped,
                dropped: false,
                source_fingerprint: running.source,
                taken_along: None,
                of_copy: false,
            });
            self.untold.remove(&running.id);
        }
    }

    pub(super) fn fail(&mut self, nth: usize, superseded: bool) {
        if nth < self.running.len() {
            let running = self.running.remove(nth);
            self.must(IntentFailed {
                intent: running.id,
                superseded,
                ..Default::default()
            });
        }
    }

    /// The store will not do it.
    pub(super) fn refuse(&mut self, nth: usize) {
        let id = self.running.get(nth).map_or(0, |running| running.id);
        let Some(intent) = self.state.intent(IntentId(id)).unwrap() else {
            return;
        };
        let names = intent.kind().is_creating() || intent.kind() == IntentKind::Rename;
        // What is there already was not refused.
        if self.passes && self.untold.contains(&id) {
            return;
        }
        // What is given up stays in the store: of removals that only if they are kept.
        if !(names || (self.passes && intent.kind() != IntentKind::SetAttr)) {
            return;
        }
        let stays = self.passes && intent.kind() == IntentKind::Rename && !intent.is_folder() && !intent.is_across();
        self.running.remove(nth);
        self.must(IntentFailed {
            intent: id,
            refused: true,
            refusal: self.passes,
            keep: self.passes,
            stays: stays && !self.untold.contains(&id),
            ..Default::default()
        });
        let after = self.state.intent(IntentId(id)).unwrap();
        if let Some(after) = after {
            assert!(
                after.refused && (after.order == 0) == (intent.kind() == IntentKind::Persist),
                "{after:?}"
            );
        }
    }

    /// What is to come to a place where a stray is stays where it is.
    fn leave_in_the_way(&mut self, intent: &Intent, from: &str, to: &str) {
        let kept = self.strays_beneath(to);
        let is_in_the_way = |path: &&String| kept.contains(&format!("{to}{}", &path[from.len()..]));
        let beneath = self.ufs.iter().filter(|(path, object)| {
            is_beneath(path, from) && matches!(object, Object::File(..)) && is_in_the_way(path)
        });
        let name = |path: &String| Bytes::copy_from_slice(&path.as_bytes()[from.len() + 1..]);
        let some: Vec<_> = beneath.map(|(path, object)| (name(path), object.clone())).collect();
        self.leave_some(intent, some);
    }

    /// Some of the objects that the rename or removal of a folder, which is at work, is about.
    fn some_beneath(&self, nth: usize, choice: u8) -> Option<(Intent, Vec<(Bytes, Object)>)> {
        let id = self.running.get(nth).map_or(0, |running| running.id);
        let intent = self.state.intent(IntentId(id)).unwrap();
        let of_folder = |intent: &Intent| match intent.kind() {
            IntentKind::Rename => intent.is_folder(),
            kind => kind == IntentKind::DeleteTree,
        };
        let intent = intent.filter(of_folder).filter(|_| self.passes)?;
        let top = self.key(MountId(intent.mount_id), &intent.path);
        let kept = self.strays_beneath(&top);
        let beneath = self.ufs.iter().filter(|(path, object)| {
            is_beneath(path, &top) && matches!(object, Object::File(..)) && !kept.contains(*path)
        });
        let some = beneath.enumerate().filter(|(index, _)| choice >> index & 1 != 0);
        let name = |path: &String| Bytes::copy_from_slice(&path.as_bytes()[top.len() + 1..]);
        let some = some.map(|(_, (path, object))| (name(path), object.clone())).collect();
        Some((intent, some))
    }

    /// Some of what is beneath a folder was copied, and the executor crashes before anything is deleted.
    pub(super) fn tell(&mut self, nth: usize, choice: u8) {
        let Some((intent, some)) = self.some_beneath(nth, choice) else {
            return;
        };
        let objects = some.into_iter().map(|(name, object)| CopiedObject {
            name,
            from: object.fingerprint(),
            to: object.moved().fingerprint(),
        });
        let objects: Vec<_> = objects.collect();
        if intent.kind() == IntentKind::Rename && !objects.is_empty() {
            self.must(IntentCopied {
                intent: intent.id,
                copied: None,
                objects,
            });
        }
    }

    /// The store will not move or delete some of what is beneath a folder.
    pub(super) fn leave(&mut self, nth: usize, choice: u8) {
        if let Some((intent, some)) = self.some_beneath(nth, choice) {
            self.leave_some(&intent, some);
        }
    }

    fn leave_some(&mut self, intent: &Intent, some: Vec<(Bytes, Object)>) {
        if some.is_empty() {
            return;
        }
        let left = some.into_iter().map(|(name, object)| LeftObject {
            entry: Some(UfsEntry {
                name,
                kind: FileKind::File as i32,
                length: object.length(),
                fingerprint: object.fingerprint(),
                ..Default::default()
            }),
            ..Default::default()
        });
        let left = left.collect();
        self.must(IntentLeft {
            intent: intent.id,
            left,
            file_mode: 0o644,
            dir_mode: 0o755,
            ..Default::default()
        });
    }

    /// Where strays are, in the map of both stores.
    fn strays_beneath(&self, top: &str) -> HashSet<String> {
        let all = self.state.intents(IntentId(0), 1000).unwrap();
        let strays = all.iter().filter(|intent| intent.is_stray());
        let places = strays.map(|stray| self.key(MountId(stray.mount_id), &stray.path));
        places.filter(|place| is_beneath(place, top)).collect()
    }

    /// Executes everything. A cycle of intents that wait for each other, or one that never ends, fails here.
    pub(super) fn quiesce(&mut self) {
        self.running.clear();
        for _ in 0..200 {
            let intents = self.state.intents(IntentId(0), 1000).unwrap();
            if intents.is_empty() {
                return;
            }
            for intent in intents {
                if self.state.intent(IntentId(intent.id)).unwrap().is_none() {
                    continue;
                }
                let Ok(applied) = self.apply(IntentStarted {
                    intent: intent.id,
                    passes: true,
                    keeps: true,
                    ..Default::default()
                }) else {
                    continue;
                };
                let Some(started) = applied.intent else { continue };
                self.running.push(Running::new(started.id));
                if !started.cancelled {
                    self.effect(0);
                }
                self.confirm(0);
                self.fail(0, true);
            }
        }
        panic!("intents never end: {:#?}", self.state.intents(IntentId(0), 10).unwrap());
    }
}
