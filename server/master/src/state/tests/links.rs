//! Several names for one inode: what each change asks of the under-storage, bounds, files without a name.

use super::*;

fn link(inode: u64, parent: u64, name: &str) -> Link {
    Link {
        inode,
        parent,
        name: Bytes::copy_from_slice(name.as_bytes()),
    }
}

fn id_of(applied: Applied) -> u64 {
    applied.attr.unwrap().inode
}

/// A file that the under-storage has as `f`, in the root.
fn persisted(state: &State) -> u64 {
    let entry = UfsEntry {
        name: Bytes::from_static(b"f"),
        length: 4,
        fingerprint: "1".into(),
        ..Default::default()
    };
    let load = LoadEntries {
        dir: 1,
        generation: state.generation(InodeId::ROOT).unwrap(),
        entries: vec![entry],
        complete: true,
        ..Default::default()
    };
    id_of(run(state, Command::system(2, load)).unwrap())
}

fn intents(state: &State) -> Vec<(IntentKind, String, String)> {
    let text = |path: &Bytes| String::from_utf8(path.to_vec()).unwrap();
    let all = state.intents(IntentId(0), 100).unwrap();
    all.iter()
        .map(|intent| (intent.kind(), text(&intent.path), text(&intent.to_path)))
        .collect()
}

fn do_all(state: &State, commands: Vec<Body>) {
    for body in commands {
        run(state, Command::system(3, body)).unwrap();
    }
}

#[test]
fn the_object_moves_only_when_its_name_goes() {
    let state = formatted(false);
    let file = persisted(&state);
    let dir = id_of(run(&state, Command::system(2, mkdir_cached("d"))).unwrap());
    do_all(&state, vec![link(file, dir, "g").into(), link(file, 1, "h").into()]);
    assert_eq!(state.attr(file.into()).unwrap().nlink, 3);
    assert_eq!(intents(&state), []);
    // Renaming or removing the others costs the under-storage nothing.
    let rename = Rename {
        parent: 1,
        name: "h".into(),
        new_parent: 1,
        new_name: "i".into(),
        ..Default::default()
    };
    do_all(&state, vec![rename.into(), unlink(1, "i", &[]).into()]);
    assert_eq!(intents(&state), []);
    assert_eq!(state.ufs_path(file.into()).unwrap().path, "f");
    do_all(&state, vec![unlink(1, "f", &[]).into()]);
    let attr = state.attr(file.into()).unwrap();
    assert_eq!((attr.nlink, attr.parent, attr.size), (1, dir, 4));
    assert_eq!(
        intents(&state),
        [
            (IntentKind::Mkdir, "d".into(), String::new()),
            (IntentKind::Rename, "f".into(), "d/g".into())
        ]
    );
    // Until that has happened it is read where it is.
    assert_eq!(state.ufs_path(file.into()).unwrap().path, "f");
    assert_eq!(state.path_of(file.into()).unwrap().unwrap(), "/d/g");
    do_all(&state, vec![unlink(dir, "g", &[]).into()]);
    assert!(state.inode(file.into()).is_err());
    assert_eq!(intents(&state).last().unwrap().0, IntentKind::Delete);
    assert_eq!(state.counters().links, 0);
}

fn mkdir_cached(name: &str) -> Mkdir {
    Mkdir {
        write_type: WriteType::MustCache as i32,
        ..mkdir(1, name, 0o755)
    }
}

#[test]
fn a_rename_over_one_name_leaves_the_others() {
    let state = formatted(false);
    let file = persisted(&state);
    let rename = |from: &str, to: &str, flags| Rename {
        parent: 1,
        name: Bytes::copy_from_slice(from.as_bytes()),
        new_parent: 1,
        new_name: Bytes::copy_from_slice(to.as_bytes()),
        flags,
        ..Default::default()
    };
    do_all(&state, vec![link(file, 1, "g").into()]);
    // Two names of one inode: nothing happens, and both stay.
    do_all(
        &state,
        vec![rename("f", "g", 0).into(), rename("f", "g", RENAME_EXCHANGE).into()],
    );
    assert_eq!(
        kind(run(&state, Command::system(4, rename("f", "g", RENAME_NOREPLACE)))),
        ErrorKind::AlreadyExists
    );
    assert_eq!((state.attr(file.into()).unwrap().nlink, intents(&state).len()), (2, 0));
    let other = id_of(run(&state, Command::system(4, create(1, "new", false))).unwrap());
    do_all(&state, vec![rename("new", "f", 0).into()]);
    assert_eq!(state.lookup(InodeId::ROOT, b"f").unwrap().unwrap().id, other);
    assert_eq!(state.lookup(InodeId::ROOT, b"g").unwrap().unwrap().id, file);
    let moved = (IntentKind::Rename, "f".to_owned(), "g".to_owned());
    assert!(
        intents(&state).contains(&moved),
        "the replaced object is kept for its other name"
    );
    assert!(!intents(&state).iter().any(|intent| intent.0 == IntentKind::Delete));
}

#[test]
fn a_deleted_tree_leaves_what_has_a_name_elsewhere() {
    let state = formatted(false);
    let dir = id_of(run(&state, Command::system(2, mkdir(1, "d", 0o755))).unwrap());
    let file = id_of(run(&state, Command::system(2, create(dir, "f", false))).unwrap());
    let kept = id_of(run(&state, Command::system(2, create(1, "k", false))).unwrap());
    do_all(&state, vec![link(file, 1, "out").into(), link(kept, dir, "in").into()]);
    let delete = |alluxio_only| DeleteTree {
        parent: 1,
        name: "d".into(),
        alluxio_only,
    };
    assert_eq!(kind(run(&state, Command::system(4, delete(true)))), ErrorKind::Busy);
    do_all(&state, vec![delete(false).into()]);
    assert_eq!(state.path_of(file.into()).unwrap().unwrap(), "/out");
    // What hangs in a deleted tree by its stored name alone cannot be given another name.
    do_all(
        &state,
        vec![
            ReclaimSlice {
                limit: 10,
                ..Default::default()
            }
            .into(),
        ],
    );
    for (inode, name) in [(file, "out"), (kept, "k")] {
        let attr = state.attr(inode.into()).unwrap();
        assert_eq!((attr.nlink, attr.parent), (1, 1), "{name}");
        assert_eq!(state.lookup(InodeId::ROOT, name.as_bytes()).unwrap().unwrap().id, inode);
    }
    assert_eq!(state.counters().links, 0);
}

#[test]
fn who_has_the_next_version_open_still_holds_the_committed_one() {
    let state = formatted(false);
    let file = persisted(&state);
    let worker = run(&state, Command::system(2, RegisterWorker::default())).unwrap().id;
    let report = |version, bytes| {
        let inode = file;
        let files = vec![alluxio_proto::master::CachedFile { inode, version, bytes }];
        let worker_id = worker;
        do_all(&state, vec![ReportCached { worker_id, files }.into()]);
        let held = state.locations(file.into()).unwrap();
        held.iter().map(|at| (at.version, at.bytes)).collect::<Vec<_>>()
    };
    assert_eq!(report(2, 9), [(2, 9)], "better than nothing");
    assert_eq!(report(1, 4), [(1, 4)]);
    assert_eq!(report(2, 9), [(1, 4)], "the committed one can be read");
    assert_eq!(report(2, 0), [], "nothing is left there");
}

#[test]
fn an_object_removed_behind_our_back_takes_one_name_only() {
    for (cached_bytes, expected) in [(4, PersistState::ToBePersisted), (3, PersistState::Lost)] {
        let state = formatted(false);
        let file = persisted(&state);
        do_all(&state, vec![link(file, 1, "g").into()]);
        let worker = run(&state, Command::system(2, RegisterWorker::default())).unwrap().id;
        let cached = alluxio_proto::master::CachedFile {
            inode: file,
            version: 1,
            bytes: cached_bytes,
        };
        let report = ReportCached {
            worker_id: worker,
            files: vec![cached],
        };
        do_all(&state, vec![report.into()]);
        let removal = |name: &str| SyncRemoval {
            name: Bytes::copy_from_slice(name.as_bytes()),
            expected_fingerprint: "1".into(),
            keep_for: Vec::new(),
            expected: None,
        };
        let sync = ApplySync {
            dir: 1,
            generation: state.generation(InodeId::ROOT).unwrap(),
            changed: Vec::new(),
            removed: vec![removal("g"), removal("f")],
        };
        // The under-storage never had `g`, so that it lacks it means nothing.
        let applied = run(&state, Command::system(4, sync)).unwrap();
        assert_eq!(applied.refused, ["g"]);
        assert!(state.lookup(InodeId::ROOT, b"f").unwrap().is_none());
        let attr = state.attr(file.into()).unwrap();
        assert_eq!((attr.nlink, attr.persist_state()), (1, expected));
        assert_eq!(state.path_of(file.into()).unwrap().unwrap(), "/g");
    }
}

#[test]
fn links_that_cannot_be_are_refused() {
    let state = formatted(false);
    let file = persisted(&state);
    let dir = id_of(run(&state, Command::system(2, mkdir(1, "d", 0o755))).unwrap());
    let refused = |body: Link| kind(run(&state, Command::system(3, body)));
    assert_eq!(refused(link(dir, 1, "e")), ErrorKind::NotPermitted);
    assert_eq!(refused(link(file, 1, "d")), ErrorKind::AlreadyExists);
    assert_eq!(refused(link(file, 99, "e")), ErrorKind::NotFound);
    assert_eq!(refused(link(99, 1, "e")), ErrorKind::NotFound);
    assert_eq!(refused(link(file, file, "e")), ErrorKind::NotADirectory);
    assert_eq!(refused(link(file, 1, &"n".repeat(256))), ErrorKind::NameTooLong);
    assert_eq!(
        kind(run(&state, as_user("bob", 0, 0, link(file, dir, "e")))),
        ErrorKind::AccessDenied
    );
    let spec = Some(MountSpec::default());
    let mount = MountUfs {
        parent: 1,
        name: "m".into(),
        spec,
        mode: 0o755,
        ..Default::default()
    };
    let point = id_of(run(&state, Command::system(3, mount)).unwrap());
    assert_eq!(refused(link(file, point, "e")), ErrorKind::CrossesMounts);
}

#[test]
fn an_inode_has_65000_names_at_most() {
    let state = formatted(false);
    let file = persisted(&state);
    let commands = (1..65_000).map(|n| Command::system(3, link(file, 1, &format!("n{n}"))));
    let outcomes = state.apply(b"p", commands.collect()).unwrap();
    assert!(outcomes.iter().all(|outcome| outcome.result.is_ok()));
    assert_eq!(state.attr(file.into()).unwrap().nlink, 65_000);
    assert_eq!(
        kind(run(&state, Command::system(4, link(file, 1, "more")))),
        ErrorKind::TooManyNames
    );
    do_all(&state, vec![unlink(1, "f", &[]).into(), link(file, 1, "more").into()]);
}

#[test]
fn a_file_without_a_name_lives_while_it_is_open_or_gets_one() {
    let state = formatted(false);
    let id = session(&state);
    let tmpfile = |never_linked| Tmpfile {
        parent: 1,
        mode: 0o666,
        umask: 0o022,
        home_worker: 1,
        never_linked,
        ..Default::default()
    };
    let commit = |inode| Commit {
        inode,
        version: 1,
        length: 3,
        mtime_ns: 1,
        keep_open: true,
        ctime_ns: 0,
        hole_bytes: 0,
        mapped: false,
    };
    let make = |op, never| id_of(run(&state, as_user("ann", id, op, tmpfile(never))).unwrap());
    assert_eq!(
        kind(run(&state, as_user("ann", 0, 0, tmpfile(false)))),
        ErrorKind::InvalidArgument
    );
    let (named, nameless, never) = (make(1, false), make(2, false), make(3, true));
    assert_eq!(state.attr(named.into()).unwrap().mode, 0o644);
    for inode in [named, nameless, never] {
        run(&state, as_user("ann", id, 0, commit(inode))).unwrap();
    }
    assert_eq!(state.pending_intents(), 0, "what has no name is not uploaded");
    run(&state, as_user("ann", id, 4, link(named, 1, "f"))).unwrap();
    assert_eq!(state.pending_intents(), 1);
    assert_eq!(
        kind(run(&state, as_user("ann", id, 5, link(never, 1, "g")))),
        ErrorKind::NotFound
    );
    run(&state, Command::system(9, EndSession { id })).unwrap();
    assert_eq!(state.attr(named.into()).unwrap().nlink, 1);
    for gone in [nameless, never] {
        assert_eq!(state.attr(gone.into()).unwrap_err().kind, ErrorKind::NotFound);
    }
    assert_eq!(state.counters().inodes, 2);
}

#[test]
fn an_abandoned_file_keeps_names_that_it_was_given() {
    let state = formatted(false);
    let id = session(&state);
    let one = id_of(run(&state, as_user("ann", id, 1, create(1, "one", true))).unwrap());
    let two = id_of(run(&state, as_user("ann", id, 2, create(1, "two", true))).unwrap());
    run(&state, as_user("ann", id, 3, link(two, 1, "too"))).unwrap();
    run(&state, Command::system(9, EndSession { id })).unwrap();
    for inode in [one, two] {
        let nothing = Recovered {
            inode,
            version: 1,
            ..Default::default()
        };
        run(&state, Command::system(10, nothing)).unwrap();
    }
    assert!(state.inode(one.into()).is_err());
    let kept = state.inode(two.into()).unwrap();
    assert_eq!((kept.nlink, kept.size, kept.open.is_none()), (2, 0, true));
}
