//! Rights by the groups of the calling process, whatever the name service says.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use alluxio_tests::modes::Mode;
use alluxio_tests::process::{Output, run};
use alluxio_tests::{LocalBuilder, tools};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);
/// Nobody on any machine, and in none of these groups by any name service.
const USER: u32 = 4_000_001;
const OWN: u32 = 4_000_002;
const EXTRA: u32 = 4_000_003;

/// A shell line as the user, with or without the extra group.
fn as_user(line: &str, extra: bool, at: &Path) -> Output {
    let mut command = Command::new("setpriv");
    command.args([format!("--reuid={USER}"), format!("--regid={OWN}")]);
    match extra {
        true => command.arg(format!("--groups={EXTRA}")),
        false => command.arg("--clear-groups"),
    };
    run(command.args(["sh", "-ec", line]).current_dir("/").env("M", at), LIMIT)
}

fn set(path: &Path, owner: u32, group: u32, mode: u32) {
    chown(path, Some(owner), Some(group)).unwrap();
    fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

/// Scratch folders are their maker's alone; these users come in from outside.
fn open_up(mount: &Path) {
    for dir in mount.ancestors().skip(1).take(1) {
        fs::set_permissions(dir, PermissionsExt::from_mode(0o755)).unwrap();
    }
    fs::set_permissions(mount, PermissionsExt::from_mode(0o755)).unwrap();
}

#[test]
fn supplementary_groups_of_the_process_count() {
    let local = LocalBuilder::new().start();
    open_up(local.mount());
    let dir = local.mount().join("shared");
    fs::create_dir(&dir).unwrap();
    set(&dir, 0, EXTRA, 0o770);
    fs::write(dir.join("f"), "content\n").unwrap();
    set(&dir.join("f"), 0, EXTRA, 0o660);
    let line = "cat $M/shared/f; echo more >> $M/shared/f; echo x > $M/shared/new; mkdir $M/shared/d; touch $M/shared/f; \
                ln $M/shared/new $M/shared/linked; mv $M/shared/new $M/shared/moved; rm $M/shared/linked";
    assert_ne!(as_user(line, false, local.mount()).code, 0, "not a member");
    assert_eq!(as_user(line, true, local.mount()).ok(), "content\n");
    assert_eq!(fs::read_to_string(dir.join("f")).unwrap(), "content\nmore\n");
    // What is one's own can be given to a group that one is in, and its setgid stays.
    as_user(
        "cd $M/shared; chgrp 4000003 moved; chmod 2750 moved",
        true,
        local.mount(),
    )
    .ok();
    let moved = fs::metadata(dir.join("moved")).unwrap();
    assert_eq!((moved.gid(), moved.mode() & 0o7777), (EXTRA, 0o2750));
    // Without it, it is refused, though a process of the same user was in it just now.
    let given_up = as_user("chgrp 4000003 $M/shared/d", false, local.mount());
    assert_ne!(given_up.code, 0);
}

#[test]
fn setgid_that_is_a_mark_ends_when_somebody_writes_who_is_not_in_the_group() {
    for mode in [Mode::Passthrough, Mode::Daemon] {
        let local = mode.apply(LocalBuilder::new(), "64MB").start();
        open_up(local.mount());
        for (name, line) in [
            ("write", "echo x >> $M/write"),
            ("truncate", "truncate -s 3 $M/truncate"),
            ("cut", ": > $M/cut"),
            ("fallocate", "fallocate -l 100000 $M/fallocate"),
        ] {
            let path = local.mount().join(name);
            for (extra, kept) in [(true, 0o2666), (false, 0o666)] {
                fs::write(&path, "0123456789").unwrap();
                set(&path, 0, EXTRA, 0o2666);
                as_user(line, extra, local.mount()).ok();
                let now = fs::metadata(&path).unwrap().mode() & 0o7777;
                assert_eq!(now, kept, "{mode:?}: {name}, member: {extra}: {now:o}");
            }
        }
    }
    // So does a native file system.
    let native = tools::scratch("native-");
    fs::set_permissions(native.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let path = native.path().join("write");
    fs::write(&path, "0123456789").unwrap();
    set(&path, 0, EXTRA, 0o2666);
    as_user("echo x >> $M/write", false, native.path()).ok();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o666);
}
