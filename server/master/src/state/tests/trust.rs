//! What a command must not do that was proposed by somebody who did not know all.

use super::*;
use alluxio_proto::master::OPS_OUTSTANDING_MAX;

fn inode_of(applied: Applied) -> u64 {
    applied.attr.unwrap().inode
}

/// A file that `session` makes, syncs a part of, and loses by dying.
fn in_recovery(state: &State, session: u64) -> (u64, u64) {
    let made = run(state, as_user("ann", session, 0, create(1, "f", true))).unwrap();
    let inode = made.inode.unwrap();
    let version = inode.open.unwrap().version;
    let mark = MarkDurable {
        inode: inode.id,
        version,
        length: 4,
        mtime_ns: 3,
    };
    run(state, as_user("ann", session, 0, mark)).unwrap();
    let ended = run(state, Command::system(6, EndSession { id: session })).unwrap();
    assert_eq!(ended.recover.len(), 1);
    (inode.id, version)
}

#[test]
fn a_close_of_another_session_does_not_end_a_recovery() {
    let state = formatted(false);
    let (dead, other) = (session(&state), session(&state));
    let (inode, version) = in_recovery(&state, dead);
    for abandon in [false, true] {
        run(
            &state,
            as_user(
                "bob",
                other,
                0,
                CloseWrite {
                    inode,
                    abandon,
                    ..Default::default()
                },
            ),
        )
        .unwrap();
        assert!(state.inode(InodeId(inode)).unwrap().open.as_ref().unwrap().recovering);
    }
    let late = MarkDurable {
        inode,
        version,
        length: 9,
        mtime_ns: 9,
    };
    assert_eq!(kind(run(&state, as_user("bob", other, 0, late))), ErrorKind::Stale);
    let recovered = Recovered {
        inode,
        version,
        found: true,
        length: 4,
        mtime_ns: 3,
        ..Default::default()
    };
    run(&state, Command::system(7, recovered)).unwrap();
    let attr = state.attr(InodeId(inode)).unwrap();
    assert_eq!((attr.size, attr.open_for_write), (4, false));
}

#[test]
fn a_close_of_another_session_ends_no_writer() {
    let state = formatted(false);
    let (writer, other) = (session(&state), session(&state));
    let inode = inode_of(run(&state, as_user("ann", writer, 0, create(1, "f", true))).unwrap());
    run(
        &state,
        as_user(
            "bob",
            other,
            0,
            CloseWrite {
                inode,
                abandon: true,
                ..Default::default()
            },
        ),
    )
    .unwrap();
    let found = state.inode(InodeId(inode)).unwrap();
    assert_eq!(found.open.as_ref().unwrap().writer_count(), 1);
}

#[test]
fn a_name_is_taken_only_from_the_inode_that_was_looked_at() {
    let state = formatted(false);
    let made = |name| inode_of(run(&state, Command::system(2, create(1, name, false))).unwrap());
    let (f, g) = (made("f"), made("g"));
    let unlink_if = |expected| Unlink {
        expected: Some(expected),
        ..unlink(1, "f", &[])
    };
    for wrong in [0, g] {
        let result = run(&state, Command::system(3, unlink_if(wrong)));
        assert_eq!(kind(result), ErrorKind::VersionMismatch);
    }
    let rename = |expected_target| Rename {
        parent: 1,
        name: "g".into(),
        new_parent: 1,
        new_name: "f".into(),
        expected_target: Some(expected_target),
        ..Default::default()
    };
    for wrong in [0, g] {
        let result = run(&state, Command::system(3, rename(wrong)));
        assert_eq!(kind(result), ErrorKind::VersionMismatch);
    }
    run(&state, Command::system(3, rename(f))).unwrap();
    run(&state, Command::system(3, unlink_if(g))).unwrap();
    assert_eq!(kind(run(&state, Command::system(3, unlink_if(0)))), ErrorKind::NotFound);
}

#[test]
fn answers_are_kept_as_long_as_the_client_waits_for_them() {
    let state = formatted(false);
    let session = session(&state);
    let change = |op_id: u64, lowest_op: u64, name: &str| Command {
        lowest_op,
        ..as_user("ann", session, op_id, mkdir(1, name, 0o755))
    };
    let first = run(&state, change(1_000_000, 1_000_000, "first")).unwrap();
    for n in 1..2_000u64 {
        run(&state, change(1_000_000 + n, 1_000_000, &n.to_string())).unwrap();
    }
    assert_eq!(run(&state, change(1_000_000, 1_000_000, "first")).unwrap(), first);
    let beyond = change(1_000_000 + OPS_OUTSTANDING_MAX, 1_000_000, "beyond");
    assert_eq!(kind(run(&state, beyond)), ErrorKind::InvalidArgument);
    // What it waits for no more is dropped.
    let kept = || {
        let prefix = tables::of(tables::ANSWERS, session);
        let end = crate::metastore::prefix_end(&prefix);
        state.store.scan(&prefix, &end, usize::MAX).unwrap().len()
    };
    assert_eq!(kept(), 2_001);
    run(&state, change(1_002_000, 1_001_999, "next")).unwrap();
    assert_eq!(kept(), 3, "its own, the one below, and from where");
    // A client that takes the session up again counts from elsewhere.
    run(&state, change(77, 77, "another")).unwrap();
    assert_eq!(kept(), 2);
    run(&state, change(500_000_000, 500_000_000, "higher")).unwrap();
    assert_eq!(kept(), 2);
    run(&state, Command::system(9, EndSession { id: session })).unwrap();
    assert_eq!(kept(), 0);
}

#[test]
fn a_slice_reclaims_what_it_names_and_keeps_what_is_read() {
    let state = formatted(false);
    let reader = session(&state);
    let dir = inode_of(run(&state, Command::system(2, mkdir(1, "d", 0o755))).unwrap());
    let mut files = Vec::new();
    for name in ["a", "b", "c", "d"] {
        files.push(inode_of(
            run(&state, Command::system(2, create(dir, name, false))).unwrap(),
        ));
    }
    let delete = DeleteTree {
        parent: 1,
        name: "d".into(),
        alluxio_only: false,
    };
    run(&state, Command::system(3, delete)).unwrap();
    assert_eq!(state.detached_from(InodeId(0)).unwrap(), Some(InodeId(dir)));
    assert_eq!(
        state.detached_from(InodeId(dir + 1)).unwrap(),
        Some(InodeId(dir)),
        "from the first again"
    );
    let slice = |after: &str, upto: &str, keep: Vec<Keep>| ReclaimSlice {
        dir,
        after: Bytes::copy_from_slice(after.as_bytes()),
        upto: Bytes::copy_from_slice(upto.as_bytes()),
        keep,
        ..Default::default()
    };
    let keep = Keep {
        inode: files[1],
        sessions: vec![reader],
    };
    let applied = run(&state, Command::system(4, slice("", "b", vec![keep]))).unwrap();
    assert_eq!((applied.count, applied.more), (2, true));
    let there = |nth: usize| state.attr(InodeId(files[nth])).is_ok();
    assert_eq!([there(0), there(1), there(2), there(3)], [false, true, true, true]);
    // Something is left: the directory stays.
    let applied = run(&state, Command::system(4, slice("d", "", Vec::new()))).unwrap();
    assert_eq!((applied.count, applied.more), (0, true));
    let left = state.children_after(InodeId(dir), b"b", 10).unwrap();
    assert_eq!(left, [("c".into(), InodeId(files[2])), ("d".into(), InodeId(files[3]))]);
    let left = state.children_after(InodeId(dir), b"c", 10).unwrap();
    assert_eq!(left, [("d".into(), InodeId(files[3]))]);
    // Nothing is taken that is not after the name from which it goes on: of that `keep` says nothing.
    let applied = run(&state, Command::system(4, slice("c", "d", Vec::new()))).unwrap();
    assert_eq!((applied.count, applied.more), (1, true));
    assert_eq!([there(0), there(1), there(2), there(3)], [false, true, true, false]);
    run(&state, Command::system(4, slice("b", "d", Vec::new()))).unwrap();
    let applied = run(&state, Command::system(4, slice("d", "", Vec::new()))).unwrap();
    assert_eq!((applied.count, applied.more), (1, false));
    assert_eq!([there(0), there(1), there(2), there(3)], [false, true, false, false]);
    let release = as_user("ann", reader, 0, ReleaseOrphan { inode: files[1] });
    run(&state, release).unwrap();
    assert_eq!(state.counters().inodes, 1);
}

/// An upload had begun when everything stopped, and nobody knows how far it came; then its file is replaced. Whoever has the name
/// now, and removes it, must reckon with its object: otherwise the name comes back with the next look at the under-storage.
#[test]
fn a_cancelled_upload_may_have_left_its_object() {
    let state = formatted(false);
    let id = session(&state);
    let write = |name: &str, length| {
        let inode = inode_of(run(&state, as_user("ann", id, 0, create(1, name, true))).unwrap());
        let commit = Commit {
            inode,
            version: 1,
            length,
            mtime_ns: 1,
            ..Default::default()
        };
        run(&state, as_user("ann", id, 0, commit)).unwrap();
        inode
    };
    let replaced = write("f", 7);
    let upload = state.intents_of(InodeId(replaced)).unwrap().remove(0).id;
    let started = IntentStarted {
        intent: upload,
        replace_foreign: None,
        ..Default::default()
    };
    run(&state, Command::system(6, started)).unwrap();
    let heir = write("tmp", 3);
    let rename = Rename {
        parent: 1,
        name: Bytes::from_static(b"tmp"),
        new_parent: 1,
        new_name: Bytes::from_static(b"f"),
        ..Default::default()
    };
    run(&state, as_user("ann", id, 0, rename)).unwrap();
    assert!(state.intent(IntentId(upload)).unwrap().unwrap().cancelled);
    let skipped = IntentDone {
        intent: upload,
        skipped: true,
        ..Default::default()
    };
    run(&state, Command::system(7, skipped)).unwrap();
    run(&state, as_user("ann", id, 0, unlink(1, "f", &[]))).unwrap();
    let intents = state.intents(IntentId(0), 10).unwrap();
    let delete = intents.iter().find(|intent| intent.kind() == IntentKind::Delete);
    let delete = delete.unwrap_or_else(|| panic!("the object of {replaced} would stay behind {heir}: {intents:?}"));
    assert!(delete.expect_lengths.contains(&7), "{delete:?}");
}

#[test]
fn a_home_that_needs_its_room_commits_what_will_be_uploaded_and_nothing_else() {
    let state = formatted(false);
    let writer = session(&state);
    let open = |name, write_type: WriteType| {
        let make = CreateFile {
            write_type: write_type as i32,
            ..create(1, name, true)
        };
        run(&state, as_user("ann", writer, 0, make)).unwrap().inode.unwrap()
    };
    let spill = |inode: &Inode, version: u64, home_worker: u64| Spill {
        inode: inode.id,
        version,
        home_worker,
        length: 9,
        mtime_ns: 5,
        ..Default::default()
    };
    let inode = open("f", WriteType::AsyncThrough);
    let at = inode.open.clone().unwrap();
    for (version, home) in [(at.version + 1, at.home_worker), (at.version, at.home_worker + 1)] {
        let result = run(&state, Command::system(6, spill(&inode, version, home)));
        assert_eq!(kind(result), ErrorKind::Stale, "not there, or not that version");
    }
    let spilled = run(&state, Command::system(6, spill(&inode, at.version, at.home_worker))).unwrap();
    assert_eq!(spilled.intents.len(), 1, "it is uploaded");
    let now = spilled.inode.unwrap();
    assert_eq!((now.version, now.size, now.spilled), (at.version, 9, true));
    assert_eq!(now.open.clone().unwrap().version, at.version + 1);
    // Told again, it is done already; and what has no name is not uploaded.
    let again = run(&state, Command::system(7, spill(&inode, at.version, at.home_worker))).unwrap();
    let again = again.inode.unwrap();
    assert_eq!((again.version, &again.open), (at.version, &now.open));
    // So it is with what its writer has committed: its home is going to keep only a part of it.
    let written = open("written", WriteType::AsyncThrough);
    let open_as = written.open.clone().unwrap();
    let flush = Commit {
        inode: written.id,
        version: open_as.version,
        length: 3,
        mtime_ns: 6,
        keep_open: true,
        ..Default::default()
    };
    run(&state, as_user("ann", writer, 0, flush)).unwrap();
    let told = run(
        &state,
        Command::system(7, spill(&written, open_as.version, open_as.home_worker)),
    )
    .unwrap();
    let told = told.inode.unwrap();
    assert_eq!((told.version, told.size, told.spilled), (open_as.version, 3, true));
    run(&state, Command::system(8, unlink(1, "f", &[writer]))).unwrap();
    let gone = run(
        &state,
        Command::system(9, spill(&inode, at.version + 1, at.home_worker)),
    );
    assert_eq!(kind(gone), ErrorKind::NotSupported);
    assert!(
        state.inode(InodeId(inode.id)).unwrap().spilled,
        "who has it open needs its object"
    );
    let kept = open("kept", WriteType::MustCache);
    let at = kept.open.clone().unwrap();
    let result = run(&state, Command::system(10, spill(&kept, at.version, at.home_worker)));
    assert_eq!(kind(result), ErrorKind::NotSupported);
    // Its writer's commit goes on from there, and what is closed is all in the object.
    let inode = open("g", WriteType::AsyncThrough);
    let at = inode.open.clone().unwrap();
    run(&state, Command::system(11, spill(&inode, at.version, at.home_worker))).unwrap();
    let commit = |version| Commit {
        inode: inode.id,
        version,
        length: 12,
        mtime_ns: 6,
        ..Default::default()
    };
    let late = run(&state, as_user("ann", writer, 0, commit(at.version)));
    assert_eq!(kind(late), ErrorKind::Stale);
    let closed = run(&state, as_user("ann", writer, 0, commit(at.version + 1))).unwrap();
    let closed = closed.inode.unwrap();
    assert_eq!((closed.size, closed.open.is_some(), closed.spilled), (12, false, false));
    // As close(2) does it: a commit that leaves it open, and then the last one lets go.
    let inode = open("h", WriteType::AsyncThrough);
    let at = inode.open.clone().unwrap();
    run(&state, Command::system(12, spill(&inode, at.version, at.home_worker))).unwrap();
    let flush = Commit {
        keep_open: true,
        ..commit(at.version + 1)
    };
    let flush = Commit {
        inode: inode.id,
        ..flush
    };
    let flushed = run(&state, as_user("ann", writer, 0, flush)).unwrap().inode.unwrap();
    assert!(flushed.spilled, "its home may keep a part only");
    let close = CloseWrite {
        inode: inode.id,
        ..Default::default()
    };
    let closed = run(&state, as_user("ann", writer, 0, close)).unwrap().inode.unwrap();
    assert_eq!((closed.open.is_some(), closed.spilled), (false, false));
}

/// A file that `maker` made and `other` has opened too.
fn made_and_joined(state: &State, name: &str, (maker, other): (u64, u64)) -> (u64, u64) {
    let made = run(state, as_user("ann", maker, 0, create(1, name, true))).unwrap();
    let inode = made.inode.unwrap();
    let open = OpenWrite {
        inode: inode.id,
        home_worker: 1,
        ..Default::default()
    };
    run(state, as_user("ann", other, 0, open)).unwrap();
    (inode.id, inode.open.unwrap().version)
}

#[test]
fn a_commit_that_closes_ends_its_own_opening_while_others_write_on() {
    let state = formatted(false);
    let (maker, other) = (session(&state), session(&state));
    let (inode, version) = made_and_joined(&state, "f", (maker, other));
    let closing = |version| Commit {
        inode,
        version,
        length: 3,
        mtime_ns: 6,
        ..Default::default()
    };
    run(&state, as_user("ann", maker, 0, closing(version))).unwrap();
    let open = state.inode(InodeId(inode)).unwrap().open.clone().unwrap();
    let writers: Vec<u64> = open.writers.iter().map(|writer| writer.session).collect();
    assert_eq!((open.version, writers), (version + 1, vec![other]));
    run(&state, as_user("ann", other, 0, closing(version + 1))).unwrap();
    assert!(state.inode(InodeId(inode)).unwrap().open.is_none(), "nobody writes it");
}

/// A mount died without a word to the home, which therefore took the last close for one of several.
#[test]
fn what_the_last_close_leaves_open_at_its_home_is_recovered() {
    let state = formatted(false);
    for left_open in [false, true] {
        let (maker, other) = (session(&state), session(&state));
        let (inode, version) = made_and_joined(&state, &format!("f {left_open}"), (maker, other));
        let close = || CloseWrite {
            inode,
            left_open,
            ..Default::default()
        };
        let first = run(&state, as_user("ann", maker, 0, close())).unwrap();
        let open = state.inode(InodeId(inode)).unwrap().open.clone().unwrap();
        assert!(first.recover.is_empty() && !open.recovering, "the other writes it");
        let last = run(&state, as_user("ann", other, 0, close())).unwrap();
        let asked: Vec<_> = last.recover.iter().map(|item| (item.inode, item.version)).collect();
        assert_eq!(asked, if left_open { vec![(inode, version)] } else { vec![] });
        let open = state.inode(InodeId(inode)).unwrap().open.clone();
        assert_eq!(open.is_some_and(|open| open.recovering), left_open);
    }
}

/// O_TRUNC of a file that another session writes, and has synced.
#[test]
fn what_was_synced_before_a_truncating_open_is_not_promised_any_more() {
    let state = formatted(false);
    let (maker, other) = (session(&state), session(&state));
    let (inode, version) = made_and_joined(&state, "f", (maker, other));
    let mark = MarkDurable {
        inode,
        version,
        length: 9,
        mtime_ns: 3,
    };
    run(&state, as_user("ann", maker, 0, mark)).unwrap();
    let durable = || {
        state
            .inode(InodeId(inode))
            .unwrap()
            .open
            .clone()
            .unwrap()
            .durable_length
    };
    let open = |truncate| OpenWrite {
        inode,
        truncate,
        home_worker: 1,
        ..Default::default()
    };
    run(&state, as_user("ann", other, 0, open(false))).unwrap();
    assert_eq!(durable(), Some(9));
    run(&state, as_user("ann", other, 0, open(true))).unwrap();
    assert_eq!(durable(), Some(0), "it was emptied");
}

#[test]
fn a_file_that_one_has_closed_stays_if_the_other_gives_up_or_dies() {
    let state = formatted(false);
    for (name, dies) in [("given up", false), ("dead", true)] {
        let (maker, other) = (session(&state), session(&state));
        let (inode, version) = made_and_joined(&state, name, (maker, other));
        let close = |abandon| CloseWrite {
            inode,
            abandon,
            ..Default::default()
        };
        run(&state, as_user("ann", maker, 0, close(false))).unwrap();
        if dies {
            run(&state, Command::system(6, EndSession { id: other })).unwrap();
            // A cut of the power took what its home knew.
            let nothing = Recovered {
                inode,
                version,
                found: false,
                ..Default::default()
            };
            run(&state, Command::system(7, nothing)).unwrap();
        } else {
            run(&state, as_user("ann", other, 0, close(true))).unwrap();
        }
        let left = state.inode(InodeId(inode)).expect("it was closed once");
        assert_eq!((left.size, left.open.is_some()), (0, false), "{name}");
    }
}

#[test]
fn a_name_that_a_new_file_was_given_stays_if_its_writer_dies() {
    let state = formatted(false);
    let writer = session(&state);
    let made = run(&state, as_user("ann", writer, 0, create(1, "tmp", true))).unwrap();
    let inode = made.inode.unwrap();
    let rename = Rename {
        parent: 1,
        name: "tmp".into(),
        new_parent: 1,
        new_name: "target".into(),
        ..Default::default()
    };
    run(&state, as_user("ann", writer, 0, rename)).unwrap();
    run(&state, Command::system(6, EndSession { id: writer })).unwrap();
    let nothing = Recovered {
        inode: inode.id,
        version: inode.open.unwrap().version,
        ..Default::default()
    };
    run(&state, Command::system(7, nothing)).unwrap();
    assert_eq!(state.inode(InodeId(inode.id)).unwrap().name, "target");
}

/// A file that was committed once, is in no store, and is open for writing again: the session, the inode, the open version.
fn committed_and_open(state: &State) -> (u64, u64, u64) {
    let writer = session(state);
    let made = run(state, as_user("ann", writer, 0, create(1, "f", true))).unwrap();
    let inode = made.inode.unwrap();
    let commit = Commit {
        inode: inode.id,
        version: inode.open.unwrap().version,
        length: 3,
        mtime_ns: 6,
        ..Default::default()
    };
    run(state, as_user("ann", writer, 0, commit)).unwrap();
    let open = OpenWrite {
        inode: inode.id,
        home_worker: 1,
        ..Default::default()
    };
    let opened = run(state, as_user("ann", writer, 0, open)).unwrap().inode.unwrap();
    (writer, inode.id, opened.open.unwrap().version)
}

#[test]
fn who_gives_up_or_does_not_know_leaves_the_only_copy_to_be_recovered() {
    for (abandon, left_open) in [(true, false), (false, true)] {
        let state = formatted(false);
        let (writer, inode, version) = committed_and_open(&state);
        let close = CloseWrite {
            inode,
            abandon,
            left_open,
            ..Default::default()
        };
        let closed = run(&state, as_user("ann", writer, 0, close)).unwrap();
        assert_eq!((closed.recover.len(), closed.freed.len()), (1, 0));
        // Its writers sealed it twice more, and were not heard.
        let recovered = Recovered {
            inode,
            version,
            found: true,
            length: 5,
            mtime_ns: 9,
            as_version: version + 2,
            ..Default::default()
        };
        let now = run(&state, Command::system(8, recovered)).unwrap().inode.unwrap();
        assert_eq!((now.version, now.size, now.open.is_some()), (version + 2, 5, false));
        assert!(now.version_high >= version + 2, "no number is given twice");
    }
}

#[test]
fn a_commit_of_who_has_it_open_no_more_says_so() {
    let state = formatted(false);
    let (writer, inode, version) = committed_and_open(&state);
    run(&state, Command::system(6, EndSession { id: writer })).unwrap();
    let commit = Commit {
        inode,
        version: version + 1,
        keep_open: true,
        ..Default::default()
    };
    let other = session(&state);
    assert_eq!(kind(run(&state, as_user("ann", other, 0, commit))), ErrorKind::Gone);
}
