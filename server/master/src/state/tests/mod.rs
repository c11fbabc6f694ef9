//! Rules that the model does not speak of: permission, retries, orphans, formats, mounts.

mod across;
mod admit;
mod attributes;
mod links;
mod reports;
mod trust;

use super::command::*;
use super::*;
use crate::metastore::HeapStore;
use alluxio_journal::StateMachine;
use alluxio_proto::types::{Caller, PersistState, WriteType};
use alluxio_proto::{ErrorKind, FsError, IntentId, SessionId};

fn store() -> Arc<HeapStore> {
    Arc::new(HeapStore::default())
}

fn formatted(read_only: bool) -> State {
    formatted_in(store(), read_only)
}

fn formatted_in(store: Arc<dyn MetaStore>, read_only: bool) -> State {
    let state = State::open(store, StateOptions::default()).unwrap();
    let root = MountSpec {
        uri: "memory://".into(),
        read_only,
        ..Default::default()
    };
    let format = Format {
        rules: RULES,
        cluster_id: "c".into(),
        owner: "root".into(),
        group: "root".into(),
        mode: 0o777,
        root: Some(root),
    };
    run(&state, Command::system(1, format)).unwrap();
    state
}

fn run(state: &State, command: Command) -> Result<Applied, FsError> {
    state.apply(b"p", vec![command]).unwrap().remove(0).result
}

fn as_user(user: &str, session: u64, op_id: u64, body: impl Into<Body>) -> Command {
    let caller = Caller {
        user: user.into(),
        groups: vec![user.into()],
    };
    Command {
        now_ns: 5,
        session,
        op_id,
        caller: Some(caller),
        superuser: false,
        body: Some(body.into()),
        lowest_op: 0,
    }
}

fn kind(result: Result<Applied, FsError>) -> ErrorKind {
    result.unwrap_err().kind
}

fn session(state: &State) -> u64 {
    run(state, Command::system(2, OpenSession::default())).unwrap().id
}

fn mkdir(parent: u64, name: &str, mode: u32) -> Mkdir {
    Mkdir {
        parent,
        name: Bytes::copy_from_slice(name.as_bytes()),
        mode,
        ..Default::default()
    }
}

fn create(parent: u64, name: &str, open: bool) -> CreateFile {
    let name = Bytes::copy_from_slice(name.as_bytes());
    CreateFile {
        parent,
        name,
        mode: 0o644,
        open,
        home_worker: 1,
        ..Default::default()
    }
}

fn unlink(parent: u64, name: &str, keep_for: &[u64]) -> Unlink {
    Unlink {
        parent,
        name: Bytes::copy_from_slice(name.as_bytes()),
        keep_for: keep_for.to_vec(),
        expected: None,
    }
}

#[test]
fn names_are_checked() {
    let state = formatted(false);
    for (name, expected) in [
        ("", ErrorKind::InvalidArgument),
        (".", ErrorKind::InvalidArgument),
        ("..", ErrorKind::InvalidArgument),
    ] {
        assert_eq!(
            kind(run(&state, Command::system(2, mkdir(1, name, 0o755)))),
            expected,
            "{name:?}"
        );
    }
    assert_eq!(
        kind(run(&state, Command::system(2, mkdir(1, "a/b", 0o755)))),
        ErrorKind::InvalidArgument
    );
    assert_eq!(
        kind(run(&state, Command::system(2, mkdir(1, "a\0b", 0o755)))),
        ErrorKind::InvalidArgument
    );
    run(&state, Command::system(2, mkdir(1, &"n".repeat(255), 0o755))).unwrap();
    assert_eq!(
        kind(run(&state, Command::system(2, mkdir(1, &"n".repeat(256), 0o755)))),
        ErrorKind::NameTooLong
    );
}

#[test]
fn permission_is_decided_here() {
    let state = formatted(false);
    let dir = run(&state, as_user("ann", 0, 0, mkdir(1, "d", 0o755)))
        .unwrap()
        .attr
        .unwrap()
        .inode;
    run(&state, as_user("ann", 0, 0, create(dir, "f", false))).unwrap();
    assert_eq!(
        kind(run(&state, as_user("bob", 0, 0, create(dir, "g", false)))),
        ErrorKind::AccessDenied
    );
    assert_eq!(
        kind(run(&state, as_user("bob", 0, 0, unlink(dir, "f", &[])))),
        ErrorKind::AccessDenied
    );
    // Who may write to a sticky directory still takes only what is his.
    let sticky = SetAttr {
        inode: dir,
        mode: Some(0o1777),
        ..Default::default()
    };
    assert_eq!(
        kind(run(&state, as_user("bob", 0, 0, sticky.clone()))),
        ErrorKind::NotPermitted
    );
    run(&state, as_user("ann", 0, 0, sticky)).unwrap();
    assert_eq!(
        kind(run(&state, as_user("bob", 0, 0, unlink(dir, "f", &[])))),
        ErrorKind::NotPermitted
    );
    run(&state, as_user("bob", 0, 0, create(dir, "g", false))).unwrap();
    run(&state, as_user("bob", 0, 0, unlink(dir, "g", &[]))).unwrap();
    let give = SetAttr {
        inode: dir,
        owner: Some("bob".into()),
        ..Default::default()
    };
    assert_eq!(
        kind(run(&state, as_user("ann", 0, 0, give.clone()))),
        ErrorKind::NotPermitted
    );
    run(&state, Command::system(9, give)).unwrap();
    assert_eq!(state.attr(dir.into()).unwrap().owner, "bob");
}

#[test]
fn a_read_only_mount_refuses_changes() {
    let state = formatted(true);
    assert_eq!(
        kind(run(&state, Command::system(2, mkdir(1, "d", 0o755)))),
        ErrorKind::ReadOnly
    );
}

#[test]
fn a_retry_is_answered_again_and_a_dead_session_is_stale() {
    let state = formatted(false);
    let session = session(&state);
    let first = run(&state, as_user("ann", session, 7, mkdir(1, "d", 0o755))).unwrap();
    let outcome = state
        .apply(b"p", vec![as_user("ann", session, 7, mkdir(1, "d", 0o755))])
        .unwrap()
        .remove(0);
    assert_eq!(
        (outcome.result.unwrap(), outcome.repeated, outcome.events.len()),
        (first, true, 0)
    );
    assert_eq!(
        kind(run(&state, as_user("ann", session, 8, mkdir(1, "d", 0o755)))),
        ErrorKind::AlreadyExists
    );
    run(&state, Command::system(3, EndSession { id: session })).unwrap();
    assert_eq!(
        kind(run(&state, as_user("ann", session, 7, mkdir(1, "e", 0o755)))),
        ErrorKind::Stale
    );
}

#[test]
fn an_orphan_lives_until_reader_and_writer_let_go() {
    let state = formatted(false);
    let (writer, reader) = (session(&state), session(&state));
    let inode = run(&state, as_user("ann", writer, 1, create(1, "f", true)))
        .unwrap()
        .attr
        .unwrap()
        .inode;
    let applied = run(&state, as_user("ann", writer, 2, unlink(1, "f", &[reader]))).unwrap();
    assert!(applied.orphaned);
    assert_eq!(
        state.orphan_holders(inode.into()).unwrap(),
        [SessionId(writer), SessionId(reader)]
    );
    run(
        &state,
        as_user(
            "ann",
            writer,
            3,
            CloseWrite {
                inode,
                abandon: false,
                ..Default::default()
            },
        ),
    )
    .unwrap();
    assert_eq!(state.attr(inode.into()).unwrap().nlink, 0);
    run(&state, Command::system(4, EndSession { id: reader })).unwrap();
    assert_eq!(state.attr(inode.into()).unwrap_err().kind, ErrorKind::NotFound);
    assert_eq!(
        state.pending_intents(),
        0,
        "a file that was never persisted costs the under-storage nothing"
    );
}

#[test]
fn a_dead_session_leaves_what_was_promised() {
    let state = formatted(false);
    let id = session(&state);
    let promised = run(&state, as_user("ann", id, 1, create(1, "kept", true)))
        .unwrap()
        .attr
        .unwrap()
        .inode;
    let open_new = |name, now| {
        run(&state, as_user("ann", id, now, create(1, name, true)))
            .unwrap()
            .attr
            .unwrap()
            .inode
    };
    let (lost, empty) = (open_new("lost", 2), open_new("empty", 3));
    let mark = MarkDurable {
        inode: promised,
        version: 1,
        length: 3,
        mtime_ns: 9,
    };
    run(&state, as_user("ann", id, 4, mark)).unwrap();
    let ended = run(&state, Command::system(4, EndSession { id })).unwrap();
    let kept: Vec<_> = ended
        .recover
        .iter()
        .map(|item| (item.inode, item.unpromised, item.keep_bytes))
        .collect();
    assert_eq!(kept, [(promised, false, 3), (lost, true, 0), (empty, true, 0)]);
    assert_eq!(state.recovering().unwrap().len(), 3);
    let written = [promised, lost, empty].map(InodeId);
    assert_eq!(state.written_files().unwrap(), written);
    for (inode, closed_empty) in [(lost, false), (empty, true)] {
        let recovered = Recovered {
            inode,
            version: 1,
            closed_empty,
            ..Default::default()
        };
        run(&state, Command::system(5, recovered)).unwrap();
    }
    assert!(state.lookup(InodeId::ROOT, b"lost").unwrap().is_none());
    let attr = state.attr(InodeId(empty)).unwrap();
    assert_eq!((attr.size, attr.nlink), (0, 1));
    assert_eq!(state.pending_intents(), 1, "the empty file is to be persisted");
    assert_eq!(state.recovering().unwrap().len(), 1);
    let recovered = Recovered {
        inode: promised,
        version: 1,
        found: true,
        length: 3,
        mtime_ns: 9,
        ..Default::default()
    };
    let attr = run(&state, Command::system(5, recovered)).unwrap().attr.unwrap();
    assert_eq!(
        (attr.size, attr.version, attr.persist_state()),
        (3, 1, PersistState::ToBePersisted)
    );
}

#[test]
fn must_cache_is_persisted_on_request_only() {
    let state = formatted(false);
    let id = session(&state);
    let mut file = create(1, "f", true);
    file.write_type = WriteType::MustCache as i32;
    let inode = run(&state, as_user("ann", id, 1, file)).unwrap().attr.unwrap().inode;
    let commit = Commit {
        inode,
        version: 1,
        length: 1,
        mtime_ns: 1,
        keep_open: false,
        ctime_ns: 0,
        hole_bytes: 0,
        mapped: false,
    };
    run(&state, as_user("ann", id, 2, commit)).unwrap();
    assert_eq!(
        (
            state.pending_intents(),
            state.attr(inode.into()).unwrap().persist_state()
        ),
        (0, PersistState::NotPersisted)
    );
    run(&state, as_user("ann", id, 3, SchedulePersist { inode })).unwrap();
    assert_eq!(state.intents_of(inode.into()).unwrap().len(), 1);
}

#[test]
fn mounts_bound_renames_and_cannot_go_while_busy() {
    let state = formatted(false);
    let spec = Some(MountSpec {
        uri: "memory://b".into(),
        ..Default::default()
    });
    let mount = MountUfs {
        parent: 1,
        name: Bytes::from_static(b"m"),
        spec,
        mode: 0o755,
        ..Default::default()
    };
    let mounted = run(&state, Command::system(2, mount)).unwrap();
    let (mount_id, point) = (mounted.id, mounted.attr.unwrap().inode);
    run(&state, Command::system(3, create(1, "f", false))).unwrap();
    let rename = |parent, name: &str, new_parent| Rename {
        parent,
        name: Bytes::copy_from_slice(name.as_bytes()),
        new_parent,
        new_name: Bytes::from_static(b"x"),
        ..Default::default()
    };
    assert_eq!(
        kind(run(&state, Command::system(4, rename(1, "f", point)))),
        ErrorKind::CrossesMounts
    );
    assert_eq!(
        kind(run(&state, Command::system(4, rename(1, "m", 1)))),
        ErrorKind::Busy
    );
    let rmdir = Rmdir {
        parent: 1,
        name: Bytes::from_static(b"m"),
    };
    assert_eq!(kind(run(&state, Command::system(4, rmdir))), ErrorKind::Busy);
    let file = run(&state, Command::system(5, create(point, "g", false))).unwrap();
    assert_eq!(state.ufs_path(file.attr.unwrap().inode.into()).unwrap().path, "g");
    assert_eq!(
        kind(run(&state, Command::system(6, UnmountUfs { mount_id }))),
        ErrorKind::Busy
    );
    run(&state, Command::system(7, unlink(point, "g", &[]))).unwrap();
    run(&state, Command::system(8, UnmountUfs { mount_id })).unwrap();
    assert_eq!(state.mounts().len(), 1);
    assert!(state.lookup(InodeId::ROOT, b"m").unwrap().is_none());
}

#[test]
fn a_sync_adopts_changes_and_removes_only_what_is_settled() {
    let state = formatted(false);
    let entry = |name: &str, fingerprint: &str| UfsEntry {
        name: Bytes::copy_from_slice(name.as_bytes()),
        length: 4,
        fingerprint: fingerprint.into(),
        ..Default::default()
    };
    let generation = state.generation(InodeId::ROOT).unwrap();
    let load = LoadEntries {
        dir: 1,
        generation,
        entries: vec![entry("a", "1"), entry("b", "1")],
        complete: true,
        ..Default::default()
    };
    assert_eq!(run(&state, Command::system(2, load)).unwrap().count, 2);
    run(&state, Command::system(3, create(1, "ours", false))).unwrap();
    let generation = state.generation(InodeId::ROOT).unwrap();
    let removal = |name: &str, expected: &str| SyncRemoval {
        name: Bytes::copy_from_slice(name.as_bytes()),
        expected_fingerprint: expected.into(),
        keep_for: Vec::new(),
        expected: None,
    };
    let sync = ApplySync {
        dir: 1,
        generation,
        changed: vec![SyncChange {
            entry: Some(entry("a", "2")),
            expected_fingerprint: "1".into(),
        }],
        removed: vec![removal("b", "0"), removal("ours", "")],
    };
    let refused = run(&state, Command::system(4, sync.clone())).unwrap().refused;
    assert_eq!(refused, ["b", "ours"]);
    let changed = state.lookup(InodeId::ROOT, b"a").unwrap().unwrap();
    assert_eq!((changed.version, changed.fingerprint()), (2, "2"));
    let sync = ApplySync {
        changed: Vec::new(),
        removed: vec![removal("b", "1")],
        ..sync
    };
    assert!(run(&state, Command::system(5, sync)).unwrap().refused.is_empty());
    assert!(state.lookup(InodeId::ROOT, b"b").unwrap().is_none());
}

/// Format 1 as it was first written, as hex: a state with one of most records. It must load for ever.
const FORMAT_1: &str = include_str!("../format_1.hex");

fn sample() -> State {
    let state = formatted(false);
    let id = session(&state);
    run(&state, as_user("ann", id, 1, mkdir(1, "d", 0o755))).unwrap();
    let inode = run(&state, as_user("ann", id, 2, create(2, "f", true)))
        .unwrap()
        .attr
        .unwrap()
        .inode;
    let commit = Commit {
        inode,
        version: 1,
        length: 9,
        mtime_ns: 8,
        keep_open: true,
        ctime_ns: 0,
        hole_bytes: 0,
        mapped: false,
    };
    run(&state, as_user("ann", id, 3, commit)).unwrap();
    run(
        &state,
        Command::system(
            6,
            IntentStarted {
                intent: 2,
                replace_foreign: None,
                ..Default::default()
            },
        ),
    )
    .unwrap();
    let reader = session(&state);
    run(&state, as_user("ann", id, 4, unlink(2, "f", &[reader]))).unwrap();
    run(&state, Command::system(7, RegisterWorker::default())).unwrap();
    state
}

#[test]
fn bytes_of_format_1_still_load() {
    let text: String = FORMAT_1.split_whitespace().collect();
    let byte = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    let bytes: Vec<u8> = (0..text.len()).step_by(2).map(byte).collect();
    let state = State::open(store(), StateOptions::default()).unwrap();
    state.restore(b"p", &mut &bytes[..]).unwrap();
    let file = state.inode(InodeId(3)).unwrap();
    assert_eq!((file.size, file.version, file.nlink, &file.owner[..]), (9, 1, 0, "ann"));
    assert_eq!(file.open.as_ref().unwrap().version, 2);
    let kinds: Vec<_> = state
        .intents(IntentId(0), 9)
        .unwrap()
        .iter()
        .map(|intent| (intent.kind(), intent.cancelled))
        .collect();
    assert_eq!(
        kinds,
        [
            (IntentKind::Mkdir, false),
            (IntentKind::Persist, true),
            (IntentKind::Delete, false)
        ]
    );
    assert_eq!(state.sessions().unwrap().len(), 2);
    assert_eq!(state.cluster_id(), "c");
}

#[test]
fn damage_is_told_and_not_loaded() {
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut StateMachine::snapshot(&sample()).unwrap(), &mut bytes).unwrap();
    for at in [0, 20, bytes.len() / 2, bytes.len() - 1] {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        let state = State::open(store(), StateOptions::default()).unwrap();
        assert!(state.restore(b"p", &mut &damaged[..]).is_err(), "byte {at}");
        assert_eq!(state.position().unwrap(), None);
    }
}
