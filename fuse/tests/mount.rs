//! Mounting and unmounting on the real /dev/fuse.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod common;

use alluxio_fuse::mount::{self, ANSWER_TIME_MAX, FS_TYPE, MountOptions, MountState, UnmountMode};
use alluxio_fuse::transport::TransportKind;
use alluxio_fuse::transport::operations::Errno;
use alluxio_proto::{ErrorKind, FsResult};
use common::{CONTENT, NAME, OneFile, Point, Served, eventually, word};
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::channel;
use std::time::Instant;

const SOURCE: &str = "host:19998,other:19998/data";

fn start(by: TransportKind, at: &Path, options: &str) -> FsResult<Served> {
    start_with(OneFile::default(), by, at, options)
}

fn start_with(filesystem: OneFile, by: TransportKind, at: &Path, options: &str) -> FsResult<Served> {
    let options = format!("{},{options}", word(by));
    Served::start(filesystem, at, &MountOptions::parse(&options).unwrap(), SOURCE)
}

/// Makes of each function two tests, one for each transport.
macro_rules! on_both_transports {
    ($($test:ident),* $(,)?) => {
        mod by_fuser {
            $(#[test]
            fn $test() {
                super::$test(super::TransportKind::Fuser);
            })*
        }
        mod by_dev {
            $(#[test]
            fn $test() {
                super::$test(super::TransportKind::Dev);
            })*
        }
    };
}

on_both_transports! {
    a_mount_serves_and_shows_its_type,
    options_reach_the_kernel,
    a_second_mount_is_refused_under_any_name,
    of_many_that_mount_at_once_one_wins,
    a_dead_mount_is_cleared_by_the_next,
    a_mount_that_does_not_answer_holds_nobody_up,
    umount_from_outside_ends_the_session,
    in_use_is_busy_and_lazily_or_forced_it_goes,
    names_with_spaces_and_commas,
    a_file_system_that_refuses_to_start_leaves_no_mount,
}

fn a_mount_serves_and_shows_its_type(by: TransportKind) {
    let point = Point::new();
    let served = start(by, &point.path(), "nosuid").unwrap();
    assert_eq!(std::fs::read(point.path().join(NAME)).unwrap(), CONTENT);

    let entry = mount::mount_at(&point.path()).unwrap().unwrap();
    assert_eq!((entry.fs_type.as_str(), entry.source.as_str()), (FS_TYPE, SOURCE));
    assert!(
        entry.options.contains("rw") && entry.options.contains("nosuid"),
        "{}",
        entry.options
    );
    assert_eq!(entry.device, served.mounted.device());
    assert_eq!(entry.state(), MountState::Alive);
    assert!(mount::list().unwrap().contains(&entry));
    let df = Command::new("df").arg("-T").arg(point.path()).output().unwrap();
    assert!(String::from_utf8_lossy(&df.stdout).contains(FS_TYPE), "{df:?}");
    let read_ahead =
        std::fs::read_to_string(format!("/sys/class/bdi/{}/read_ahead_kb", served.mounted.device())).unwrap();
    assert_eq!(read_ahead.trim(), "4096");

    served.mounted.unmount(UnmountMode::Normal).unwrap();
    assert_eq!(mount::mount_at(&point.path()).unwrap(), None);
    served.mounted.unmount(UnmountMode::Normal).unwrap();
    served.wait();
}

fn options_reach_the_kernel(by: TransportKind) {
    let point = Point::new();
    let served = start(by, &point.path(), "ro,noexec,nodev,noatime,noallow_other").unwrap();
    let error = std::fs::write(point.path().join("new"), "").unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EROFS));
    let options = mount::mount_at(&point.path()).unwrap().unwrap().options;
    for word in ["ro", "noexec", "nodev", "noatime"] {
        assert!(options.split(',').any(|option| option == word), "{word} in {options}");
    }
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = table
        .lines()
        .find(|line| line.contains(point.path().to_str().unwrap()))
        .unwrap();
    assert!(
        line.contains("default_permissions") && !line.contains("allow_other"),
        "{line}"
    );
    drop(served.mounted);
    assert_eq!(mount::mount_at(&point.path()).unwrap(), None, "dropped is unmounted");
    served.session.wait().unwrap();
}

fn a_second_mount_is_refused_under_any_name(by: TransportKind) {
    let point = Point::new();
    let link = point.around().join("link");
    std::os::unix::fs::symlink("mnt", &link).unwrap();
    let _first = start(by, &link, "").unwrap();
    for name in [point.path(), link.clone(), point.path().join(".")] {
        let error = start(by, &name, "").unwrap_err();
        assert_eq!(error.kind, ErrorKind::Busy, "{error}");
        assert!(
            error.message.contains("already mounted")
                && error.message.contains(SOURCE)
                && error.message.contains("umount"),
            "{error}"
        );
    }
    assert_eq!(
        std::fs::read(point.path().join(NAME)).unwrap(),
        CONTENT,
        "the first one serves on"
    );
    mount::unmount(&link, UnmountMode::Normal).unwrap();
}

fn of_many_that_mount_at_once_one_wins(by: TransportKind) {
    let point = Point::new();
    let path = &point.path();
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..6).map(|_| scope.spawn(move || start(by, path, ""))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1, "{results:?}");
    for error in results.iter().filter_map(|result| result.as_ref().err()) {
        assert_eq!(error.kind, ErrorKind::Busy, "{error}");
    }
    let mounted = mount::list().unwrap();
    assert_eq!(mounted.iter().filter(|entry| entry.point == point.path()).count(), 1);
}

fn a_dead_mount_is_cleared_by_the_next(by: TransportKind) {
    let point = Point::new();
    let options = MountOptions::parse("").unwrap();
    // As after kill -9: the last descriptor of the connection is closed, the mount stays.
    drop(mount::open_and_mount(&point.path(), &options, SOURCE).unwrap());
    let dead = mount::mount_at(&point.path()).unwrap().unwrap();
    assert_eq!(dead.state(), MountState::Dead);
    assert_eq!(
        std::fs::read_dir(point.path()).unwrap_err().raw_os_error(),
        Some(libc::ENOTCONN)
    );

    let served = start(by, &point.path(), "").unwrap();
    assert_eq!(std::fs::read(point.path().join(NAME)).unwrap(), CONTENT);
    served.mounted.unmount(UnmountMode::Normal).unwrap();
    assert_eq!(
        mount::mount_at(&point.path()).unwrap(),
        None,
        "the dead one is gone too"
    );

    // In use or not, a dead one can be unmounted.
    let connection = mount::open_and_mount(&point.path(), &options, SOURCE).unwrap();
    drop(connection);
    mount::unmount(&point.path(), UnmountMode::Normal).unwrap();
    assert_eq!(mount::mount_at(&point.path()).unwrap(), None);
    let error = mount::unmount(&point.path(), UnmountMode::Normal).unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
}

fn a_mount_that_does_not_answer_holds_nobody_up(by: TransportKind) {
    let point = Point::new();
    let options = MountOptions::parse("").unwrap();
    let _unserved = mount::open_and_mount(&point.path(), &options, SOURCE).unwrap();
    let started = Instant::now();
    let error = start(by, &point.path(), "").unwrap_err();
    assert_eq!(error.kind, ErrorKind::Busy);
    assert!(error.message.contains("does not answer"), "{error}");
    assert!(started.elapsed() < ANSWER_TIME_MAX * 3, "took {:?}", started.elapsed());
    mount::unmount(&point.path(), UnmountMode::Force).unwrap();
    assert_eq!(mount::mount_at(&point.path()).unwrap(), None);
}

fn umount_from_outside_ends_the_session(by: TransportKind) {
    let point = Point::new();
    let (alive, dropped) = channel();
    let filesystem = OneFile {
        alive: Some(alive),
        ..OneFile::default()
    };
    let served = start_with(filesystem, by, &point.path(), "").unwrap();
    assert_eq!(std::fs::read(point.path().join(NAME)).unwrap(), CONTENT);
    assert!(!served.session.is_finished());
    assert!(Command::new("umount").arg(point.path()).status().unwrap().success());
    let Served { mounted, session, .. } = served;
    session.wait().unwrap();
    assert!(dropped.recv().is_err(), "the file system is dropped");

    // Another one takes the place, perhaps with the same device number: it is left alone.
    mounted.ended();
    let other = start(by, &point.path(), "").unwrap();
    mounted.unmount(UnmountMode::Force).unwrap();
    drop(mounted);
    assert_eq!(std::fs::read(point.path().join(NAME)).unwrap(), CONTENT);
    drop(other);
}

fn in_use_is_busy_and_lazily_or_forced_it_goes(by: TransportKind) {
    let point = Point::new();
    let served = start(by, &point.path(), "").unwrap();
    let file = std::fs::File::open(point.path().join(NAME)).unwrap();
    let error = served.mounted.unmount(UnmountMode::Normal).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Busy);
    assert!(error.message.contains("open there"), "{error}");
    served.mounted.unmount(UnmountMode::Lazy).unwrap();
    assert_eq!(mount::mount_at(&point.path()).unwrap(), None);
    assert!(!served.session.is_finished(), "the open file is still served");
    assert_eq!(std::io::read_to_string(&file).unwrap().as_bytes(), CONTENT);
    drop(file);
    served.wait();

    let served = start(by, &point.path(), "").unwrap();
    let file = std::fs::File::open(point.path().join(NAME)).unwrap();
    mount::unmount(&point.path(), UnmountMode::Force).unwrap();
    served.wait();
    assert_eq!(
        std::io::read_to_string(&file).unwrap_err().raw_os_error(),
        Some(libc::ENOTCONN)
    );
}

fn names_with_spaces_and_commas(by: TransportKind) {
    let point = Point::new();
    let odd = point.around().join("a b,c\\d#e");
    std::fs::create_dir(&odd).unwrap();
    let served = start(by, &odd, "").unwrap();
    assert_eq!(mount::mount_at(&odd).unwrap().unwrap().device, served.mounted.device());
    let error = start(by, &odd, "").unwrap_err();
    assert_eq!(error.kind, ErrorKind::Busy);
    mount::unmount(&odd, UnmountMode::Normal).unwrap();
    served.wait();
}

fn a_file_system_that_refuses_to_start_leaves_no_mount(by: TransportKind) {
    let filesystem = OneFile {
        refuses: Some(Errno(libc::EACCES)),
        ..OneFile::default()
    };
    let point = Point::new();
    let error = start_with(filesystem, by, &point.path(), "").unwrap_err();
    assert_eq!(error.kind, ErrorKind::AccessDenied);
    assert_eq!(mount::mount_at(&point.path()).unwrap(), None);
}

#[test]
fn others_than_root_mount_by_fusermount() {
    // The whole way as another user is in tests/daemon.rs; here the options that fusermount3 must understand.
    let point = Point::new();
    let options = MountOptions::parse("ro,nosuid,nodev,noexec,noatime,sync,dirsync,allow_other").unwrap();
    let connection = mount::open_by_fusermount(&point.path(), &options, SOURCE).unwrap();
    let entry = mount::mount_at(&point.path()).unwrap().unwrap();
    assert_eq!((entry.fs_type.as_str(), entry.source.as_str()), (FS_TYPE, SOURCE));
    for word in ["ro", "nosuid", "noexec", "nodev", "noatime"] {
        assert!(
            entry.options.split(',').any(|option| option == word),
            "{word} in {}",
            entry.options
        );
    }
    drop(connection);
    eventually("the mount to be dead", || entry.state() == MountState::Dead);
    mount::unmount(&point.path(), UnmountMode::Normal).unwrap();
}
