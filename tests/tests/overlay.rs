//! overlayfs takes the mount as its upper layer: it needs RENAME_WHITEOUT, whiteouts, and its attributes.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
#![allow(clippy::disallowed_methods, reason = "the system call is what is tested")]

use alluxio_tests::process::sh;
use alluxio_tests::{LocalBuilder, mounts::MountPoint, tools};
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn mount(lower: &Path, upper: &Path, at: &Path) {
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        lower.display(),
        upper.join("files").display(),
        upper.join("work").display()
    );
    sh(
        &format!("mount -t overlay overlay -o {options} {}", tools::text(at)),
        LIMIT,
    )
    .ok();
}

#[test]
fn changes_of_a_lower_layer_live_in_the_mount() {
    let local = LocalBuilder::new().start();
    let dir = tools::scratch("overlay-");
    let lower = dir.path().join("lower");
    fs::create_dir_all(lower.join("folder")).unwrap();
    for name in ["kept", "moved", "removed", "changed", "folder/in"] {
        fs::write(lower.join(name), format!("lower {name}")).unwrap();
    }
    let upper = local.mount().join("upper");
    for part in ["files", "work"] {
        fs::create_dir_all(upper.join(part)).unwrap();
    }
    let point = MountPoint::new(dir.path().join("merged"));
    mount(&lower, &upper, point.path());
    let merged = |name: &str| point.path().join(name);
    fs::rename(merged("moved"), merged("renamed")).unwrap();
    fs::remove_file(merged("removed")).unwrap();
    fs::write(merged("changed"), "upper changed").unwrap();
    fs::remove_file(merged("folder/in")).unwrap();
    fs::write(merged("new"), "upper new").unwrap();
    // The name is used again, over its whiteout.
    fs::write(merged("moved"), "upper moved").unwrap();
    let check = || {
        assert_eq!(
            names(point.path()),
            ["changed", "folder", "kept", "moved", "new", "renamed"]
        );
        assert!(names(&merged("folder")).is_empty());
        for (name, content) in [
            ("kept", "lower kept"),
            ("renamed", "lower moved"),
            ("moved", "upper moved"),
            ("changed", "upper changed"),
            ("new", "upper new"),
        ] {
            assert_eq!(fs::read_to_string(merged(name)).unwrap(), content, "{name}");
        }
    };
    check();
    for name in ["removed", "folder/in"] {
        let whiteout = fs::symlink_metadata(upper.join("files").join(name)).unwrap();
        assert!(whiteout.file_type().is_char_device() && whiteout.rdev() == 0, "{name}");
    }
    sh(&format!("umount {}", tools::text(point.path())), LIMIT).ok();
    mount(&lower, &upper, point.path());
    check();
    sh(&format!("umount {}", tools::text(point.path())), LIMIT).ok();
}

#[test]
fn a_rename_leaves_a_whiteout_where_it_is_asked_to() {
    let local = LocalBuilder::new().start();
    let path = |name: &str| std::ffi::CString::new(tools::text(&local.mount().join(name))).unwrap();
    let rename = |from: &str, to: &str, flags: u32| {
        let (from, to) = (path(from), path(to));
        // SAFETY: both are strings that end with a NUL and live until the call returns.
        let result = unsafe { libc::renameat2(libc::AT_FDCWD, from.as_ptr(), libc::AT_FDCWD, to.as_ptr(), flags) };
        nix::errno::Errno::result(result).map(drop)
    };
    fs::write(local.mount().join("a"), "a").unwrap();
    fs::write(local.mount().join("b"), "b").unwrap();
    let exists = rename("a", "b", libc::RENAME_WHITEOUT | libc::RENAME_NOREPLACE);
    assert_eq!(exists, Err(nix::errno::Errno::EEXIST));
    rename("a", "b", libc::RENAME_WHITEOUT).unwrap();
    assert_eq!(fs::read_to_string(local.mount().join("b")).unwrap(), "a");
    let whiteout = fs::symlink_metadata(local.mount().join("a")).unwrap();
    assert!(whiteout.file_type().is_char_device() && whiteout.rdev() == 0);
    assert_eq!(names(local.mount()), ["a", "b"]);
    fs::remove_file(local.mount().join("a")).unwrap();
    assert_eq!(names(local.mount()), ["b"]);
}
