//! How mounts end: idle with the master away, and in use.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use alluxio_tests::{Separate, mounts, process, tools};
use nix::fcntl::OFlag;
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(60);
/// What umount(8) may take; the promise.
const UNMOUNT_MAX: Duration = Duration::from_secs(2);
/// Longer than the kernel believes attributes while the master is away.
const EXPIRED: Duration = Duration::from_millis(1500);

#[test]
fn an_idle_mount_is_unmounted_at_once_though_the_master_is_away() {
    let mut cluster = Separate::start(&[]);
    let mut mount = cluster.mount("a");
    std::fs::write(mount.file("f"), "content").unwrap();
    cluster.kill_master();
    // The kernel must ask again: what is cached would hide the fault.
    std::thread::sleep(EXPIRED);
    let start = Instant::now();
    process::run(std::process::Command::new("umount").arg(mount.path()), LONG).ok();
    let took = start.elapsed();
    assert!(!mounts::is_mounted(mount.path()));
    assert!(took < UNMOUNT_MAX, "{took:?}");
    mount.process().wait(LONG);
}

#[test]
fn a_busy_mount_ends_without_panics() {
    let cluster = Separate::start(&[("alluxio.fuse.umount.timeout", "1s")]);
    let mut mount = cluster.mount_with("a", "passthrough=off");
    let over = AtomicBool::new(false);
    let path = mount.path().to_owned();
    std::thread::scope(|scope| {
        for number in 0..3 {
            let (path, over) = (&path, &over);
            scope.spawn(move || {
                let mut file = File::options()
                    .create(true)
                    .truncate(true)
                    .read(true)
                    .write(true)
                    .open(path.join(format!("f{number}")))
                    .unwrap();
                let mut buffer = [0; 4096];
                // Errors are what its users get once it has ended; that they get an answer is what is tried.
                while !over.load(Ordering::Relaxed) {
                    let _ = file.write_all(b"0123456789");
                    let _ = file.rewind();
                    let _ = file.read(&mut buffer);
                    let _ = File::open(path.join(format!("f{number}")));
                }
            });
        }
        // Names by a descriptor of the folder: these come to the daemon for as long as it lives.
        let folder = File::open(&path).unwrap();
        scope.spawn(|| {
            let folder = folder;
            let mut number = 0_u64;
            while !over.load(Ordering::Relaxed) {
                number += 1;
                let name = format!("no-such-file-{number}");
                let opened = nix::fcntl::openat(&folder, name.as_str(), OFlag::O_RDONLY, Mode::empty());
                assert!(opened.is_err(), "{name} is there");
            }
        });
        let status = loop {
            if std::fs::metadata(path.join("f2")).is_ok() {
                mount.process().signal(Signal::SIGTERM);
                break mount.process().wait(LONG);
            }
        };
        over.store(true, Ordering::Relaxed);
        let log = mount.process().log();
        assert!(status.success(), "{status}: {log}");
        assert!(!log.contains("panicked"), "{log}");
    });
    assert!(!mounts::is_mounted(&path), "{}", tools::text(&path));
}

/// A mount falls silent for so long that its session ends, and comes back: its program writes on and closes. Whatever the close
/// says, the file has what was committed before, or more; it is never lost.
#[test]
fn a_session_that_ends_under_a_living_writer_loses_nothing() {
    let cluster = Separate::start(&[
        ("alluxio.user.session.timeout", "3s"),
        ("alluxio.user.file.writetype.default", "MUST_CACHE"),
    ]);
    let mut silent = cluster.mount("silent");
    let other = cluster.mount("other");
    let mut file = File::options()
        .create_new(true)
        .write(true)
        .open(silent.file("f"))
        .unwrap();
    file.write_all(b"committed").unwrap();
    // As a shell's child closes its copy: what was written so far is committed, and the file stays open.
    drop(file.try_clone().unwrap());
    assert_eq!(std::fs::read(other.file("f")).unwrap(), b"committed");
    file.write_all(b", and more").unwrap();
    silent.process().signal(Signal::SIGSTOP);
    std::thread::sleep(Duration::from_secs(6));
    silent.process().signal(Signal::SIGCONT);
    let written = file.write_all(b", after");
    let closed = nix::unistd::close(file);
    eprintln!("the program hears: write {written:?}, close {closed:?}");
    // The mount lets go of it, and the master asks what is left.
    std::thread::sleep(Duration::from_secs(3));
    let start = Instant::now();
    let found = loop {
        match std::fs::read(other.file("f")) {
            Ok(found) if found == b"committed, and more, after" || start.elapsed() > LONG => break found,
            Ok(_) => {}
            Err(error) if start.elapsed() > LONG => panic!("it is lost: {error}"),
            Err(_) => {}
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    match written.is_ok() && closed.is_ok() {
        true => assert_eq!(found, b"committed, and more, after"),
        false => assert!(found.starts_with(b"committed"), "{found:?}"),
    }
}
