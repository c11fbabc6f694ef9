//! Renames between mounts: what each asks of the two under-storages, in which order, and what is refused.

use super::*;
use alluxio_proto::types::FileKind;

const OTHER: u64 = 2;

/// A state with `f` (persisted) in the root, and another mount at `m`: the state and the mount point.
fn two_mounts(spec: MountSpec) -> (State, u64) {
    let state = formatted(false);
    let mount = MountUfs {
        parent: 1,
        name: Bytes::from_static(b"m"),
        spec: Some(spec),
        mode: 0o755,
        ..Default::default()
    };
    let mounted = run(&state, Command::system(2, mount)).unwrap();
    assert_eq!(mounted.id, OTHER);
    let point = mounted.attr.unwrap().inode;
    load(&state, 1, &[("f", FileKind::File)], true);
    load(&state, point, &[], true);
    (state, point)
}

fn load(state: &State, dir: u64, names: &[(&str, FileKind)], complete: bool) {
    let entries = names.iter().map(|(name, kind)| UfsEntry {
        name: Bytes::copy_from_slice(name.as_bytes()),
        kind: *kind as i32,
        length: 4,
        fingerprint: if *kind == FileKind::Directory {
            String::new()
        } else {
            format!("etag {name}")
        },
        ..Default::default()
    });
    let load = LoadEntries {
        dir,
        generation: state.generation(InodeId(dir)).unwrap(),
        entries: entries.collect(),
        complete,
        ..Default::default()
    };
    run(state, Command::system(2, load)).unwrap();
}

fn rename(name: &str, new_parent: u64) -> Rename {
    Rename {
        parent: 1,
        name: Bytes::copy_from_slice(name.as_bytes()),
        new_parent,
        new_name: Bytes::from_static(b"x"),
        across_mounts: true,
        ..Default::default()
    }
}

fn child(state: &State, dir: u64, name: &str) -> Arc<Inode> {
    state.lookup(InodeId(dir), name.as_bytes()).unwrap().unwrap()
}

fn must(state: &State, body: impl Into<Body>) -> Applied {
    run(state, Command::system(3, body)).unwrap()
}

fn refusal(state: &State, body: impl Into<Body>) -> ErrorKind {
    kind(run(state, Command::system(3, body)))
}

/// Kind, mount and path of each intent.
fn intents(state: &State) -> Vec<(IntentKind, u64, String)> {
    let all = state.intents(IntentId(0), 100).unwrap();
    let all = all.iter();
    all.map(|intent| {
        let path = String::from_utf8(intent.path.to_vec()).unwrap();
        (intent.kind(), intent.mount_id, path)
    })
    .collect()
}

fn place(state: &State, inode: u64) -> (u64, String) {
    let source = state.ufs_source(InodeId(inode)).unwrap().unwrap();
    (source.mount_id, String::from_utf8(source.path.to_vec()).unwrap())
}

#[test]
fn a_file_is_read_where_it_was_until_the_copy_is_confirmed() {
    let (state, point) = two_mounts(MountSpec::default());
    let file = child(&state, 1, "f").id;
    must(&state, rename("f", point));
    assert_eq!(state.inode(InodeId(file)).unwrap().mount_id, OTHER);
    assert_eq!(state.path_of(InodeId(file)).unwrap().unwrap(), "/m/x");
    assert_eq!(place(&state, file), (1, "f".into()));
    // Neither mount can go meanwhile.
    assert_eq!(refusal(&state, UnmountUfs { mount_id: OTHER }), ErrorKind::Busy);
    let copy = state.intents(IntentId(0), 10).unwrap().remove(0);
    assert_eq!(
        (copy.kind(), copy.to_mount_id, &copy.to_path[..]),
        (IntentKind::Rename, OTHER, &b"x"[..])
    );
    let intent = copy.id;
    let started = IntentStarted {
        intent,
        ..Default::default()
    };
    must(&state, started.clone());
    let done = IntentDone {
        intent,
        fingerprint: "copied".into(),
        source_fingerprint: "etag f".into(),
        ..Default::default()
    };
    must(&state, done.clone());
    assert_eq!(place(&state, file), (OTHER, "x".into()));
    let inode = state.inode(InodeId(file)).unwrap();
    assert_eq!(
        (inode.fingerprint(), inode.version),
        ("copied", 1),
        "what is cached stays good"
    );
    // Now, and only now, what was copied goes: that object, and no other.
    let delete = state.intents(IntentId(0), 10).unwrap().remove(0);
    assert_eq!(
        (delete.id, delete.kind(), delete.mount_id),
        (intent, IntentKind::Delete, 1)
    );
    assert_eq!(
        (&delete.path[..], delete.expect),
        (&b"f"[..], vec!["etag f".to_owned()])
    );
    // The same word once more is about the delete, which has not been started.
    assert_eq!(refusal(&state, done.clone()), ErrorKind::InvalidArgument);
    must(&state, started);
    // Nor does a second word of the copy end it, once it has: another attempt of the copy was heard of late.
    let again = IntentDone {
        of_copy: true,
        ..done.clone()
    };
    must(&state, again);
    assert_eq!(state.intents(IntentId(0), 10).unwrap().len(), 1);
    must(&state, done);
    let counters = state.counters();
    assert_eq!((counters.intents, counters.renames), (0, 0));
    assert_eq!(place(&state, file), (OTHER, "x".into()));
}

#[test]
fn a_copy_that_found_nothing_deletes_nothing() {
    let (state, point) = two_mounts(MountSpec::default());
    must(&state, rename("f", point));
    let intent = state.intents(IntentId(0), 10).unwrap().remove(0).id;
    must(
        &state,
        IntentStarted {
            intent,
            ..Default::default()
        },
    );
    must(
        &state,
        IntentDone {
            intent,
            skipped: true,
            ..Default::default()
        },
    );
    assert_eq!(intents(&state), []);
}

#[test]
fn a_folder_is_made_then_filled_then_removed() {
    let (state, point) = two_mounts(MountSpec {
        stores_symlinks: true,
        ..Default::default()
    });
    load(&state, 1, &[("d", FileKind::Directory)], true);
    let dir = child(&state, 1, "d").id;
    load(
        &state,
        dir,
        &[
            ("e", FileKind::Directory),
            ("g", FileKind::File),
            ("l", FileKind::Symlink),
        ],
        true,
    );
    let deep = child(&state, dir, "e").id;
    assert_eq!(
        refusal(&state, rename("d", point)),
        ErrorKind::Unavailable,
        "names are not known"
    );
    load(&state, deep, &[("h", FileKind::File)], true);
    let before = state.generation(InodeId(deep)).unwrap();
    // What is not stored yet has nothing to be moved.
    let late = must(&state, create(deep, "late", false)).attr.unwrap().inode;
    must(&state, rename("d", point));
    assert!(
        state.generation(InodeId(deep)).unwrap() > before,
        "a listing of before is outdated"
    );
    let (root, other) = (1, OTHER);
    assert_eq!(
        intents(&state),
        [
            (IntentKind::Persist, other, String::new()),
            (IntentKind::Mkdir, other, "x".into()),
            (IntentKind::Mkdir, other, "x/e".into()),
            (IntentKind::Rename, root, "d/g".into()),
            (IntentKind::Delete, root, "d/l".into()),
            (IntentKind::Symlink, other, String::new()),
            (IntentKind::Rename, root, "d/e/h".into()),
            (IntentKind::Rmdir, root, "d/e".into()),
            (IntentKind::Rmdir, root, "d".into()),
        ]
    );
    for id in [dir, deep, late, child(&state, deep, "h").id, child(&state, dir, "l").id] {
        assert_eq!(state.inode(InodeId(id)).unwrap().mount_id, OTHER);
    }
    assert_eq!(place(&state, child(&state, deep, "h").id), (1, "d/e/h".into()));
    // The folder of before cannot go before it is empty, nor be filled before there is one.
    let all = state.intents(IntentId(0), 100).unwrap();
    let blocked = |nth: usize| {
        state
            .blocked_by(IntentId(all[nth].id), Passing::default())
            .unwrap()
            .is_some()
    };
    assert!(!blocked(1) && blocked(2) && blocked(3) && blocked(6) && blocked(7) && blocked(8));
}

#[test]
fn what_cannot_move_is_refused_without_effect() {
    let (state, point) = two_mounts(MountSpec::default());
    let file = child(&state, 1, "f").id;
    let without = Rename {
        across_mounts: false,
        ..rename("f", point)
    };
    assert_eq!(refusal(&state, without), ErrorKind::CrossesMounts);
    must(&state, create(point, "x", false));
    let exchange = Rename {
        flags: RENAME_EXCHANGE,
        ..rename("f", point)
    };
    assert_eq!(refusal(&state, exchange), ErrorKind::CrossesMounts);
    let keep = Rename {
        flags: RENAME_NOREPLACE,
        ..rename("f", point)
    };
    assert_eq!(refusal(&state, keep), ErrorKind::AlreadyExists);
    let dir = must(&state, mkdir(1, "d", 0o755)).attr.unwrap().inode;
    assert_eq!(refusal(&state, rename("d", point)), ErrorKind::NotADirectory);
    must(&state, unlink(point, "x", &[]));
    must(
        &state,
        Link {
            inode: file,
            parent: dir,
            name: Bytes::from_static(b"g"),
        },
    );
    assert_eq!(refusal(&state, rename("f", point)), ErrorKind::CrossesMounts);
    assert_eq!(refusal(&state, rename("d", point)), ErrorKind::CrossesMounts);
    must(&state, unlink(dir, "g", &[]));
    for number in 0..ACROSS_INODES_MAX {
        must(&state, create(dir, &number.to_string(), false));
    }
    let many = intents(&state);
    assert_eq!(refusal(&state, rename("d", point)), ErrorKind::CrossesMounts);
    assert_eq!(intents(&state), many);
    must(&state, unlink(dir, "0", &[]));
    must(&state, rename("d", point));
    // A mount beneath a folder holds it.
    must(&state, mkdir(1, "e", 0o755));
    let parent = child(&state, 1, "e").id;
    must(
        &state,
        MountUfs {
            parent,
            name: Bytes::from_static(b"n"),
            spec: Some(MountSpec::default()),
            ..Default::default()
        },
    );
    let over = Rename {
        new_name: Bytes::from_static(b"y"),
        ..rename("e", point)
    };
    assert_eq!(refusal(&state, over), ErrorKind::Busy);
    let (state, point) = two_mounts(MountSpec {
        read_only: true,
        ..Default::default()
    });
    assert_eq!(refusal(&state, rename("f", point)), ErrorKind::ReadOnly);
}

/// `f` is renamed to `x` in its own mount; what the rename found there was somebody's.
fn take_along(state: &State, theirs: &UfsEntry) {
    must(state, rename("f", 1));
    let intents = state.intents(IntentId(0), 10).unwrap();
    let intent = intents
        .iter()
        .find(|intent| intent.kind() == IntentKind::Rename)
        .unwrap()
        .id;
    let started = IntentStarted {
        intent,
        replace_foreign: None,
        ..Default::default()
    };
    must(state, started);
    let done = IntentDone {
        intent,
        fingerprint: theirs.fingerprint.clone(),
        taken_along: Some(theirs.clone()),
        ..Default::default()
    };
    must(state, done);
}

fn theirs() -> UfsEntry {
    UfsEntry {
        name: Bytes::from_static(b"x"),
        kind: FileKind::File as i32,
        length: 9,
        mtime_ns: 77,
        fingerprint: "theirs".into(),
        ..Default::default()
    }
}

#[test]
fn a_rename_that_takes_another_object_along_gives_the_file_its_content() {
    let (state, _) = two_mounts(MountSpec::default());
    let file = child(&state, 1, "f").id;
    let version = state.inode(InodeId(file)).unwrap().version;
    take_along(&state, &theirs());
    let now = child(&state, 1, "x");
    assert_eq!((now.id, now.size, now.fingerprint()), (file, 9, "theirs"));
    assert!(now.version > version, "bytes of the old one are never taken for it");
    let source = state.ufs_source(InodeId(file)).unwrap().unwrap();
    assert_eq!((&source.path[..], source.length), (&b"x"[..], 9));
}

/// Nothing that is uploaded later is made of its bytes.
#[test]
fn what_a_rename_takes_along_is_no_base_of_what_is_written_here() {
    for is_open in [true, false] {
        let (state, _) = two_mounts(MountSpec::default());
        let file = child(&state, 1, "f").id;
        let before = child(&state, 1, "f").ufs.clone().unwrap().fingerprint;
        let writer = session(&state);
        let open = OpenWrite {
            inode: file,
            home_worker: 1,
            ..Default::default()
        };
        let by_root = |body: Body| Command {
            superuser: true,
            ..as_user("root", writer, 0, body)
        };
        let opened = run(&state, by_root(open.into())).unwrap().inode.unwrap();
        if !is_open {
            let commit = Commit {
                inode: file,
                version: opened.open.unwrap().version,
                length: 5,
                mtime_ns: 6,
                ..Default::default()
            };
            run(&state, by_root(commit.into())).unwrap();
        }
        take_along(&state, &theirs());
        let ufs = child(&state, 1, "x").ufs.clone().unwrap();
        // It stays bound to what it was made of, which is nowhere: so nothing replaces or deletes what is there unseen.
        assert!(ufs.present && ufs.occupied.is_empty(), "{ufs:?}");
        assert_eq!(ufs.fingerprint, before, "no byte of theirs is a byte of ours");
        let last = state.intents(IntentId(0), 10).unwrap().pop();
        assert_eq!(last.is_some(), !is_open, "{last:?}");
        if let Some(upload) = last {
            let started = IntentStarted {
                intent: upload.id,
                replace_foreign: None,
                ..Default::default()
            };
            let upload = run(&state, Command::system(9, started)).unwrap().intent.unwrap();
            assert_eq!((upload.kind(), upload.expect), (IntentKind::Persist, vec![before]));
        } else {
            // Closed without a change: what is there stays, and is looked at again.
            let close = CloseWrite {
                inode: file,
                ..Default::default()
            };
            run(&state, by_root(close.into())).unwrap();
            assert!(state.intents(IntentId(0), 10).unwrap().is_empty());
        }
    }
}
