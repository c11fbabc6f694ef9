//! Rules of mode, owner, times, extended attributes and access lists.

use super::*;
use alluxio_proto::master::{XATTR_CREATE, XATTR_REPLACE};
use alluxio_proto::types::{ACL_ACCESS, ACL_DEFAULT, Acl, AclEntry, FileKind, XATTRS, Xattr};
use std::collections::HashMap;

/// A file of `ann` in the root with that mode.
fn file(state: &State, name: &str, mode: u32) -> u64 {
    let create = CreateFile {
        mode,
        ..create(1, name, false)
    };
    run(state, as_user("ann", 0, 0, create)).unwrap().attr.unwrap().inode
}

fn dir(state: &State, name: &str, mode: u32) -> u64 {
    let made = run(state, as_user("ann", 0, 0, mkdir(1, name, mode))).unwrap();
    made.attr.unwrap().inode
}

fn chmod(inode: u64, mode: u32) -> SetAttr {
    SetAttr {
        inode,
        mode: Some(mode),
        ..Default::default()
    }
}

fn mode_of(state: &State, inode: u64) -> u32 {
    state.attr(inode.into()).unwrap().mode
}

fn set(inode: u64, name: &str, value: &[u8], flags: u32) -> SetXattr {
    SetXattr {
        inode,
        name: Bytes::copy_from_slice(name.as_bytes()),
        value: Bytes::copy_from_slice(value),
        flags,
    }
}

fn remove(inode: u64, name: &str) -> RemoveXattr {
    RemoveXattr {
        inode,
        name: Bytes::copy_from_slice(name.as_bytes()),
    }
}

#[test]
fn privileges_go_with_chown_and_with_writing() {
    let state = formatted(false);
    let give = |inode, owner: &str| SetAttr {
        inode,
        owner: Some(owner.into()),
        ..Default::default()
    };
    let program = file(&state, "p", 0o6755);
    assert_eq!(mode_of(&state, program), 0o6755);
    // The superuser's chown too, as Linux has it; but not of a directory.
    run(&state, Command::system(9, give(program, "bob"))).unwrap();
    assert_eq!(mode_of(&state, program), 0o755);
    let folder = dir(&state, "d", 0o2755);
    run(&state, Command::system(9, give(folder, "bob"))).unwrap();
    assert_eq!(mode_of(&state, folder), 0o2755);
    // Setgid without execute is no privilege.
    let marked = file(&state, "m", 0o2644);
    let regroup = SetAttr {
        inode: marked,
        group: Some("ann".into()),
        ..Default::default()
    };
    run(&state, as_user("ann", 0, 0, regroup)).unwrap();
    assert_eq!(mode_of(&state, marked), 0o2644);
    // Who may write takes them away by writing, in the kernel's words either way.
    let shared = file(&state, "s", 0o6777);
    run(
        &state,
        Command::system(9, set(shared, "security.capability", b"caps", 0)),
    )
    .unwrap();
    let kill = |inode| SetAttr {
        inode,
        kill_priv: true,
        ..Default::default()
    };
    run(&state, as_user("bob", 0, 0, kill(shared))).unwrap();
    assert_eq!(
        (mode_of(&state, shared), state.inode(shared.into()).unwrap().xattrs),
        (0o777, 0)
    );
    run(&state, Command::system(9, chmod(shared, 0o6777))).unwrap();
    run(&state, as_user("bob", 0, 0, chmod(shared, 0o777))).unwrap();
    assert_eq!(mode_of(&state, shared), 0o777);
    // That is no way to other modes, nor one for those who may not write.
    for (mode, from) in [(0o776, 0o6777), (0o6777, 0o777), (0o777, 0o777)] {
        run(&state, Command::system(9, chmod(shared, from))).unwrap();
        assert_eq!(
            kind(run(&state, as_user("bob", 0, 0, chmod(shared, mode)))),
            ErrorKind::NotPermitted
        );
    }
    let mut both = kill(shared);
    both.mode = Some(0o700);
    assert_eq!(kind(run(&state, as_user("bob", 0, 0, both))), ErrorKind::NotPermitted);
    let private = file(&state, "q", 0o4755);
    assert_eq!(
        kind(run(&state, as_user("bob", 0, 0, kill(private)))),
        ErrorKind::AccessDenied
    );
}

#[test]
fn a_setgid_directory_gives_its_group() {
    let state = formatted(false);
    let shared = dir(&state, "d", 0o777);
    let regroup = SetAttr {
        inode: shared,
        group: Some("staff".into()),
        mode: Some(0o2777),
        ..Default::default()
    };
    run(&state, Command::system(9, regroup)).unwrap();
    let sub = run(&state, as_user("bob", 0, 0, mkdir(shared, "sub", 0o755)))
        .unwrap()
        .attr
        .unwrap();
    assert_eq!((&sub.group[..], sub.mode), ("staff", 0o2755));
    let create = |name: &str, mode| CreateFile {
        mode,
        ..create(shared, name, false)
    };
    let made = run(&state, as_user("bob", 0, 0, create("f", 0o2775)))
        .unwrap()
        .attr
        .unwrap();
    // He is not in that group, so he makes no program that acts for it.
    assert_eq!((&made.owner[..], &made.group[..], made.mode), ("bob", "staff", 0o775));
    let made = run(&state, as_user("bob", 0, 0, create("g", 0o2765)))
        .unwrap()
        .attr
        .unwrap();
    assert_eq!(made.mode, 0o2765);
}

#[test]
fn times_are_set_by_the_owner_and_touched_by_writers() {
    let state = formatted(false);
    let inode = file(&state, "f", 0o666);
    let times = |now| SetAttr {
        inode,
        atime_ns: Some(1),
        mtime_ns: Some(2),
        times_now: now,
        ..Default::default()
    };
    assert_eq!(
        kind(run(&state, as_user("bob", 0, 0, times(false)))),
        ErrorKind::NotPermitted
    );
    run(&state, as_user("bob", 0, 0, times(true))).unwrap();
    run(&state, as_user("ann", 0, 0, chmod(inode, 0o644))).unwrap();
    assert_eq!(
        kind(run(&state, as_user("bob", 0, 0, times(true)))),
        ErrorKind::AccessDenied
    );
    run(&state, as_user("ann", 0, 0, times(false))).unwrap();
    let attr = state.attr(inode.into()).unwrap();
    // Three changes since it was made, all proposed at 5.
    assert_eq!(
        (attr.atime_ns, attr.mtime_ns, attr.ctime_ns, attr.btime_ns),
        (1, 2, 8, 5)
    );
}

/// Whatever the clocks of those say who propose, and in whatever order it is applied: what changes has a new ctime.
#[test]
fn every_change_moves_ctime_forward() {
    let state = formatted(false);
    let id = session(&state);
    let (f, d) = (file(&state, "f", 0o644), dir(&state, "d", 0o755));
    let mut before: HashMap<u64, i64> = HashMap::new();
    let mut moved = |what: &str, inodes: &[u64]| {
        for inode in inodes {
            let attr = state.attr((*inode).into()).unwrap();
            let seen = before.insert(*inode, attr.ctime_ns);
            assert!(
                seen.is_none_or(|seen| seen < attr.ctime_ns),
                "{what}: {seen:?}, {}",
                attr.ctime_ns
            );
        }
    };
    moved("at first", &[f, d, 1]);
    let mut op_id = 0;
    let mut at = |now_ns, body: Body| {
        op_id += 1;
        run(
            &state,
            Command {
                now_ns,
                ..as_user("ann", id, op_id, body)
            },
        )
        .unwrap();
    };
    // Proposed at 90, 80, 70, ... and applied in this order.
    at(90, chmod(f, 0o600).into());
    moved("chmod", &[f]);
    at(80, set(f, "user.a", b"1", 0).into());
    moved("setxattr", &[f]);
    let link = Link {
        inode: f,
        parent: d,
        name: "g".into(),
    };
    at(70, link.into());
    moved("link", &[f, d]);
    let rename = |from: u64, name: &str, to: u64, new_name: &str| Rename {
        parent: from,
        name: name.to_owned().into(),
        new_parent: to,
        new_name: new_name.to_owned().into(),
        ..Default::default()
    };
    at(60, rename(d, "g", 1, "h").into());
    moved("rename", &[f, d, 1]);
    let mtime_ns = state.attr(1.into()).unwrap().mtime_ns;
    at(50, unlink(1, "h", &[]).into());
    moved("unlink", &[f, 1]);
    assert!(state.attr(1.into()).unwrap().mtime_ns > mtime_ns);
    let open = OpenWrite {
        inode: f,
        home_worker: 1,
        ..Default::default()
    };
    at(50, open.into());
    // Whoever commits may have seen more than the master has, as much, or less: then it wrote without knowing.
    let last_ns = state.attr(f.into()).unwrap().ctime_ns;
    for (version, told_ns, shown_ns) in [
        (1, last_ns + 2, last_ns + 2),
        (2, last_ns + 2, last_ns + 2),
        (3, last_ns, last_ns + 3),
        (4, last_ns + 900, last_ns + 500),
    ] {
        let commit = Commit {
            inode: f,
            version,
            length: version,
            mtime_ns: 30,
            keep_open: true,
            ctime_ns: told_ns,
            hole_bytes: 0,
            mapped: false,
        };
        at(last_ns + 500, commit.into());
        assert_eq!(state.attr(f.into()).unwrap().ctime_ns, shown_ns, "{version}");
    }
}

#[test]
fn a_read_counts_once_after_a_change_and_once_a_day() {
    const DAY_NS: i64 = 24 * 3600 * 1_000_000_000;
    let state = formatted(false);
    let inode = file(&state, "f", 0o644);
    let touch = |now_ns, atime_ns| {
        let accessed = alluxio_proto::master::Accessed { inode, atime_ns };
        let files = vec![accessed, alluxio_proto::master::Accessed { inode: 99, atime_ns }];
        run(&state, Command::system(now_ns, TouchAtimes { files })).unwrap();
        let attr = state.attr(inode.into()).unwrap();
        (attr.atime_ns, attr.ctime_ns)
    };
    // It was made at 5.
    assert_eq!(touch(8, 7), (7, 5));
    assert_eq!(touch(10, 9), (7, 5), "nothing has changed since");
    assert_eq!(touch(20 + DAY_NS, 7 + DAY_NS), (7 + DAY_NS, 5));
    let later = Command {
        now_ns: 30 + DAY_NS,
        ..as_user("ann", 0, 0, chmod(inode, 0o600))
    };
    run(&state, later).unwrap();
    assert_eq!(
        touch(40 + DAY_NS, i64::MAX),
        (40 + DAY_NS, 30 + DAY_NS),
        "never in the future"
    );
    let later = Command {
        now_ns: 60 + DAY_NS,
        ..as_user("ann", 0, 0, chmod(inode, 0o644))
    };
    run(&state, later).unwrap();
    let told_late = touch(70 + DAY_NS, 50 + DAY_NS);
    assert_eq!(told_late, (40 + DAY_NS, 60 + DAY_NS), "the inode was changed since");
}

#[test]
fn special_files_keep_their_device_through_a_snapshot() {
    let state = formatted(false);
    let mknod = |name: &str, kind: FileKind, rdev| Mknod {
        parent: 1,
        name: Bytes::copy_from_slice(name.as_bytes()),
        kind: kind as i32,
        mode: 0o666,
        umask: 0o022,
        rdev,
        ..Default::default()
    };
    assert_eq!(
        kind(run(&state, as_user("ann", 0, 0, mknod("c", FileKind::CharDevice, 259)))),
        ErrorKind::NotPermitted
    );
    let kinds = [
        (FileKind::CharDevice, 0x0103),
        (FileKind::BlockDevice, 0x0700),
        (FileKind::Fifo, 0),
        (FileKind::Socket, 0),
    ];
    for (kind, rdev) in kinds {
        run(&state, Command::system(2, mknod(&format!("{kind:?}"), kind, rdev))).unwrap();
    }
    let link = state.lookup(InodeId::ROOT, b"Fifo").unwrap().unwrap().id;
    run(
        &state,
        Command::system(
            2,
            Link {
                inode: link,
                parent: 1,
                name: "again".into(),
            },
        ),
    )
    .unwrap();
    run(&state, Command::system(2, set(link, "trusted.t", b"v", 0))).unwrap();
    assert_eq!(state.pending_intents(), 0, "they live in the namespace only");
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut StateMachine::snapshot(&state).unwrap(), &mut bytes).unwrap();
    let other = State::open(store(), StateOptions::default()).unwrap();
    other.restore(b"p", &mut &bytes[..]).unwrap();
    for (kind, rdev) in kinds {
        let found = other
            .lookup(InodeId::ROOT, format!("{kind:?}").as_bytes())
            .unwrap()
            .unwrap();
        assert_eq!((found.kind(), found.rdev, found.mode), (kind, rdev, 0o644));
    }
    let again = other.lookup(InodeId::ROOT, b"again").unwrap().unwrap();
    assert_eq!((again.id, again.nlink), (link, 2));
    assert_eq!(other.xattr(link.into(), b"trusted.t").unwrap().unwrap(), "v");
}

#[test]
fn attributes_have_rules_by_namespace() {
    let state = formatted(false);
    let (mine, folder) = (file(&state, "f", 0o646), dir(&state, "d", 0o1777));
    let fifo = Mknod {
        parent: 1,
        name: "p".into(),
        kind: FileKind::Fifo as i32,
        mode: 0o666,
        ..Default::default()
    };
    let fifo = run(&state, as_user("ann", 0, 0, fifo)).unwrap().attr.unwrap().inode;
    let by = |user: &str, body: SetXattr| run(&state, as_user(user, 0, 0, body)).map_err(|error| error.kind);
    let before = state.attr(mine.into()).unwrap();
    assert!(by("bob", set(mine, "user.a", b"1", 0)).is_ok());
    let after = state.attr(mine.into()).unwrap();
    assert_eq!((before.xattr_flags, after.xattr_flags), (0, XATTRS));
    run(&state, Command::system(77, set(mine, "user.a", b"2", XATTR_REPLACE))).unwrap();
    assert_eq!(state.attr(mine.into()).unwrap().ctime_ns, 77);
    run(&state, as_user("ann", 0, 0, chmod(mine, 0o644))).unwrap();
    assert_eq!(
        by("bob", set(mine, "user.a", b"1", 0)).unwrap_err(),
        ErrorKind::AccessDenied
    );
    // A sticky directory's attributes are its owner's, and other inodes have none for users.
    assert_eq!(
        by("bob", set(folder, "user.a", b"1", 0)).unwrap_err(),
        ErrorKind::NotPermitted
    );
    assert!(by("ann", set(folder, "user.a", b"1", 0)).is_ok());
    assert_eq!(
        by("ann", set(fifo, "user.a", b"1", 0)).unwrap_err(),
        ErrorKind::NotPermitted
    );
    for name in ["trusted.a", "security.a", "security.capability"] {
        assert_eq!(
            by("ann", set(mine, name, b"1", 0)).unwrap_err(),
            ErrorKind::NotPermitted,
            "{name}"
        );
        run(&state, Command::system(9, set(mine, name, b"1", 0))).unwrap();
    }
    let taken = |user: &str, name: &str| run(&state, as_user(user, 0, 0, remove(mine, name))).map_err(|e| e.kind);
    assert_eq!(taken("ann", "security.a").unwrap_err(), ErrorKind::NotPermitted);
    assert_eq!(
        taken("bob", "security.capability").unwrap_err(),
        ErrorKind::AccessDenied
    );
    assert!(taken("ann", "security.capability").is_ok());
    assert_eq!(taken("ann", "user.b").unwrap_err(), ErrorKind::NoAttribute);
    for name in ["system.posix_acl_access", "other.a", "user"] {
        assert_eq!(
            by("ann", set(mine, name, b"1", 0)).unwrap_err(),
            ErrorKind::NotSupported,
            "{name}"
        );
    }
    assert_eq!(
        by("ann", set(mine, "user.", b"1", 0)).unwrap_err(),
        ErrorKind::InvalidArgument
    );
    assert_eq!(
        by("ann", set(mine, "user.a", b"1", XATTR_CREATE)).unwrap_err(),
        ErrorKind::AlreadyExists
    );
    assert_eq!(
        by("ann", set(mine, "user.n", b"1", XATTR_REPLACE)).unwrap_err(),
        ErrorKind::NoAttribute
    );
}

#[test]
fn attributes_have_bounds() {
    let state = formatted(false);
    let inode = file(&state, "f", 0o644);
    let by_ann = |body: SetXattr| run(&state, as_user("ann", 0, 0, body)).map_err(|error| error.kind);
    let name = |length: usize| format!("user.{}", "n".repeat(length - 5));
    assert!(by_ann(set(inode, &name(255), b"", 0)).is_ok());
    assert_eq!(
        by_ann(set(inode, &name(256), b"", 0)).unwrap_err(),
        ErrorKind::OutOfRange
    );
    let large = vec![7; 65_536];
    assert!(by_ann(set(inode, "user.0", &large, 0)).is_ok());
    assert!(
        by_ann(set(inode, "user.0", &large, 0)).is_ok(),
        "replacing frees what was there"
    );
    assert_eq!(
        by_ann(set(inode, "user.1", &vec![7; 65_537], 0)).unwrap_err(),
        ErrorKind::TooLarge
    );
    for n in 1..3 {
        assert!(by_ann(set(inode, &format!("user.{n}"), &large, 0)).is_ok());
    }
    assert_eq!(by_ann(set(inode, "user.3", &large, 0)).unwrap_err(), ErrorKind::NoSpace);
    run(&state, as_user("ann", 0, 0, remove(inode, "user.0"))).unwrap();
    assert!(by_ann(set(inode, "user.3", &large, 0)).is_ok());
    let many = file(&state, "g", 0o644);
    for n in 0..256 {
        assert!(by_ann(set(many, &format!("user.{n}"), b"", 0)).is_ok());
    }
    assert_eq!(by_ann(set(many, "user.more", b"", 0)).unwrap_err(), ErrorKind::NoSpace);
    run(&state, as_user("ann", 0, 0, unlink(1, "g", &[]))).unwrap();
    assert!(state.xattr_names(many.into()).unwrap().is_empty());
}

fn acl(mask: Option<u32>, users: &[(&str, u32)]) -> Acl {
    Acl {
        owner: 7,
        group: 5,
        other: 0,
        mask,
        users: users
            .iter()
            .map(|(name, perm)| AclEntry {
                name: (*name).into(),
                perm: *perm,
            })
            .collect(),
        groups: Vec::new(),
    }
}

fn set_acl(inode: u64, default: bool, acl: Option<Acl>) -> SetAcl {
    SetAcl { inode, default, acl }
}

#[test]
fn a_list_shows_in_the_mode_and_chmod_changes_its_mask() {
    let state = formatted(false);
    let folder = dir(&state, "d", 0o755);
    let list = acl(Some(7), &[("bob", 7)]);
    assert_eq!(
        kind(run(
            &state,
            as_user("bob", 0, 0, set_acl(folder, false, Some(list.clone())))
        )),
        ErrorKind::NotPermitted
    );
    run(&state, as_user("ann", 0, 0, set_acl(folder, false, Some(list.clone())))).unwrap();
    let attr = state.attr(folder.into()).unwrap();
    assert_eq!((attr.mode, attr.xattr_flags), (0o770, ACL_ACCESS));
    run(&state, as_user("bob", 0, 0, create(folder, "f", false))).unwrap();
    run(&state, as_user("ann", 0, 0, chmod(folder, 0o750))).unwrap();
    assert_eq!(state.inode(folder.into()).unwrap().shown_acl().unwrap().mask, Some(5));
    assert_eq!(
        kind(run(&state, as_user("bob", 0, 0, create(folder, "g", false)))),
        ErrorKind::AccessDenied
    );
    // A list that says no more than the mode becomes the mode.
    run(
        &state,
        as_user("ann", 0, 0, set_acl(folder, false, Some(acl(None, &[])))),
    )
    .unwrap();
    let attr = state.attr(folder.into()).unwrap();
    assert_eq!((attr.mode, attr.xattr_flags), (0o750, 0));
    let senseless = acl(None, &[("bob", 7)]);
    assert_eq!(
        kind(run(
            &state,
            as_user("ann", 0, 0, set_acl(folder, false, Some(senseless)))
        )),
        ErrorKind::InvalidArgument
    );
    let many: Vec<_> = (0..257).map(|n| format!("u{n}")).collect();
    let many: Vec<_> = many.iter().map(|name| (&name[..], 7)).collect();
    assert_eq!(
        kind(run(
            &state,
            as_user("ann", 0, 0, set_acl(folder, false, Some(acl(Some(7), &many))))
        )),
        ErrorKind::NoSpace
    );
    let plain = file(&state, "f", 0o644);
    assert_eq!(
        kind(run(&state, as_user("ann", 0, 0, set_acl(plain, true, Some(list))))),
        ErrorKind::AccessDenied
    );
}

#[test]
fn a_default_list_takes_the_place_of_the_umask() {
    let state = formatted(false);
    let folder = dir(&state, "d", 0o755);
    let create = |parent, name: &str| CreateFile {
        mode: 0o666,
        umask: 0o077,
        ..create(parent, name, false)
    };
    let made = run(&state, as_user("ann", 0, 0, create(folder, "before")))
        .unwrap()
        .attr
        .unwrap();
    assert_eq!((made.mode, made.xattr_flags), (0o600, 0));
    let list = acl(Some(7), &[("bob", 7)]);
    run(&state, as_user("ann", 0, 0, set_acl(folder, true, Some(list)))).unwrap();
    assert_eq!(
        mode_of(&state, folder),
        0o755,
        "a default list is not about the directory itself"
    );
    let made = run(&state, as_user("ann", 0, 0, create(folder, "f")))
        .unwrap()
        .attr
        .unwrap();
    assert_eq!((made.mode, made.xattr_flags), (0o660, ACL_ACCESS));
    let sub = Mkdir {
        umask: 0o077,
        ..mkdir(folder, "sub", 0o777)
    };
    let sub = run(&state, as_user("ann", 0, 0, sub)).unwrap().attr.unwrap();
    assert_eq!((sub.mode, sub.xattr_flags), (0o770, ACL_ACCESS | ACL_DEFAULT));
    // By the inherited list bob may write there, and what he makes inherits it in turn.
    let made = run(&state, as_user("bob", 0, 0, create(sub.inode, "g")))
        .unwrap()
        .attr
        .unwrap();
    assert_eq!((&made.owner[..], made.mode), ("bob", 0o660));
    let link = Symlink {
        parent: folder,
        name: "l".into(),
        target: "x".into(),
        ..Default::default()
    };
    let link = run(&state, as_user("ann", 0, 0, link)).unwrap().attr.unwrap();
    assert_eq!((link.mode, link.xattr_flags), (0o777, 0));
    assert_eq!(
        kind(run(&state, as_user("ann", 0, 0, set_acl(link.inode, false, None)))),
        ErrorKind::NotSupported
    );
}

/// A state with one file that an under-storage has, which keeps attributes.
fn with_a_stored_file(rules: u32) -> (State, u64) {
    let state = State::open(store(), StateOptions::default()).unwrap();
    let root = MountSpec {
        uri: "memory://".into(),
        stores_attributes: true,
        ..Default::default()
    };
    let format = Format {
        rules,
        cluster_id: "c".into(),
        owner: "root".into(),
        group: "root".into(),
        mode: 0o777,
        root: Some(root),
    };
    run(&state, Command::system(1, format)).unwrap();
    let xattr = |name: &'static str| Xattr {
        name: name.into(),
        value: "v".into(),
    };
    let entry = UfsEntry {
        name: "f".into(),
        kind: FileKind::File as i32,
        length: 3,
        mtime_ns: 7,
        fingerprint: "e".into(),
        mode: Some(0o640),
        atime_ns: Some(5),
        xattrs: ["user.a", "user.a", "trusted.b", "user.", "nonsense"].map(xattr).into(),
        ..Default::default()
    };
    let load = LoadEntries {
        dir: 1,
        generation: state.generation(InodeId(1)).unwrap(),
        entries: vec![entry],
        owner: "root".into(),
        group: "root".into(),
        ..Default::default()
    };
    let file = run(&state, Command::system(2, load)).unwrap().attr.unwrap().inode;
    (state, file)
}

#[test]
fn what_a_store_shows_of_attributes_is_kept_and_nonsense_is_not() {
    let (state, file) = with_a_stored_file(RULES);
    let attr = state.attr(file.into()).unwrap();
    assert_eq!((attr.mode, attr.atime_ns, attr.mtime_ns), (0o640, 5, 7));
    assert_eq!(state.xattr_names(file.into()).unwrap(), ["user.a"]);
}

#[test]
fn changes_of_attributes_are_one_intent_until_it_starts() {
    for (rules, by_xattr) in [(1, 0), (RULES, 1)] {
        let (state, file) = with_a_stored_file(rules);
        let intents = || state.intents_of(file.into()).unwrap();
        run(&state, Command::system(10, set(file, "user.b", b"1", 0))).unwrap();
        assert_eq!(intents().len(), by_xattr, "by rules {rules}");
        run(&state, Command::system(20, chmod(file, 0o600))).unwrap();
        run(&state, Command::system(30, chmod(file, 0o604))).unwrap();
        run(&state, Command::system(40, set(file, "trusted.b", b"1", 0))).unwrap();
        let all = intents();
        let first = if by_xattr == 1 { 10 } else { 20 };
        assert_eq!(all.len(), 1);
        assert_eq!((all[0].changed_since_ns, all[0].created_ns), (first, 30));
        let started = IntentStarted {
            intent: all[0].id,
            replace_foreign: None,
            ..Default::default()
        };
        run(&state, Command::system(50, started)).unwrap();
        run(&state, Command::system(60, chmod(file, 0o644))).unwrap();
        assert_eq!(intents().len(), 2, "what is being made may not have seen it");
    }
}
