//! Master, worker and mounts as processes of their own: what one sees of another, and of its absence.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use alluxio_tests::{Agent, Separate, wait};
use std::fs::File;
use std::io::Write;
use std::time::Duration;

/// Long enough that every try without patience has failed, short beside the budget of two minutes.
const AWAY: Duration = Duration::from_secs(8);
const MIB: usize = 1 << 20;

#[test]
fn writers_wait_for_a_worker_that_starts_again() {
    writers_wait("");
}

#[test]
fn writers_through_the_daemon_wait_for_a_worker_that_starts_again() {
    writers_wait("passthrough=off");
}

/// Each step of a writer meets a worker that is not there: open of a new file, write, sync, close. Processes of their own: the
/// start of a worker from this one would close its copies of their descriptors, and wait for the worker by that.
fn writers_wait(options: &str) {
    let mut cluster = Separate::start(&[]);
    let mount = cluster.mount_with("mnt", options);
    let steps = [
        (
            "created",
            "(fd := os.open(path, RW)) and os.write(fd, b'2' * MIB) and os.close(fd)",
        ),
        ("written", "os.write(fd, b'2' * MIB) and os.close(fd)"),
        ("synced", "os.fsync(fd) or os.close(fd)"),
        ("closed", "os.close(fd)"),
    ];
    let mut writers = steps.map(|(name, step)| {
        let mut writer = Agent::new();
        writer.order("(MIB := 1 << 20)");
        writer.order(&format!("(path := '{}')", mount.file(name).display()));
        if name != "created" {
            let made = writer.order("(fd := os.open(path, RW)) and os.write(fd, b'1' * MIB)");
            assert_eq!(made, MIB.to_string(), "{name}");
        }
        (name, step, writer)
    });
    cluster.worker().kill();
    for (_, step, writer) in &mut writers {
        writer.start(step);
    }
    assert!(writers[0].2.is_busy_for(AWAY), "a create waits for the worker");
    cluster.restart_worker();
    for (name, _, writer) in &mut writers {
        assert_eq!(writer.answer(), "None", "{name} while the worker was away");
    }
    let (one, two) = (vec![b'1'; MIB], vec![b'2'; MIB]);
    for (name, wanted) in [
        ("created", two.clone()),
        ("written", [one.clone(), two].concat()),
        ("synced", one.clone()),
        ("closed", one),
    ] {
        assert!(std::fs::read(mount.file(name)).unwrap() == wanted, "{name}");
    }
    mount.stop();
}

/// Through the daemon the worker that is started anew is all that knows who writes.
#[test]
fn two_writers_outlive_their_worker() {
    let mut cluster = Separate::start(&[]);
    let mounts = ["a", "b"].map(|name| cluster.mount_with(name, "passthrough=off"));
    let mut writers = mounts.each_ref().map(|mount| {
        let mut writer = Agent::new();
        writer.order(&format!("(fd := os.open('{}', RW))", mount.file("both").display()));
        writer
    });
    assert_eq!(writers[0].order("os.pwrite(fd, b'one', 0)"), "3");
    assert_eq!(writers[1].order("os.pwrite(fd, b'two', 3)"), "3");
    cluster.restart_worker();
    assert_eq!(writers[0].order("os.close(fd)"), "None");
    assert_eq!(writers[1].order("os.pwrite(fd, b'three', 6)"), "5");
    assert_eq!(writers[1].order("os.fsync(fd) or os.close(fd)"), "None");
    for mount in mounts {
        assert_eq!(std::fs::read(mount.file("both")).unwrap(), b"onetwothree");
        mount.stop();
    }
    cluster.alluxio(&["fs", "persist", "/both"]).ok();
    assert_eq!(std::fs::read(cluster.ufs().join("both")).unwrap(), b"onetwothree");
}

#[test]
fn what_one_mount_synced_is_as_long_on_another() {
    let cluster = Separate::start(&[]);
    let (writer, reader) = (cluster.mount("a"), cluster.mount("b"));
    let seen = || std::fs::metadata(reader.file("log")).unwrap().len();
    let mut file = File::create(writer.file("log")).unwrap();
    assert_eq!(seen(), 0);
    for round in 1..=3 {
        file.write_all(&[b'x'; 100_000]).unwrap();
        file.sync_all().unwrap();
        wait::until("the other mount sees what was synced", Duration::from_secs(30), || {
            seen() == round * 100_000
        });
        assert_eq!(std::fs::read(reader.file("log")).unwrap().len() as u64, seen());
    }
    drop(file);
    assert_eq!(seen(), 300_000);
    writer.stop();
    reader.stop();
}
