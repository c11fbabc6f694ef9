//! How files end that nobody closed: what was written to them stays, whatever the mount, the cluster or the disk does.
#![allow(clippy::unwrap_used, reason = "a test ends there")]

use alluxio_tests::cluster::Mount;
use alluxio_tests::modes::Mode;
use alluxio_tests::process::sh;
use alluxio_tests::{Agent, LocalBuilder, tools, wait};
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);
const BYTES: usize = 100_000;

/// Ways to write a file that is not closed, as expressions over `d`, the new descriptor; each answers "ok".
const WAYS: [(&str, &str, &str); 6] = [
    ("plain", "RW", "os.pwrite(d, DATA, 0) and 'ok'"),
    ("o_sync", "RW | os.O_SYNC", "os.pwrite(d, DATA, 0) and 'ok'"),
    (
        "o_dsync",
        "os.O_CREAT | os.O_WRONLY | os.O_DSYNC",
        "os.pwrite(d, DATA, 0) and 'ok'",
    ),
    ("rwf_dsync", "RW", "os.pwritev(d, [DATA], 0, os.RWF_DSYNC) and 'ok'"),
    ("fsync", "RW", "os.pwrite(d, DATA, 0) and (os.fsync(d) or 'ok')"),
    (
        "msync",
        "RW",
        "os.ftruncate(d, 100000) or (lambda at: store(at, DATA) and msync(at, 100000))(mapped(d, 100000))",
    ),
];

/// Makes a file in each way, and leaves all of them open; one more in which nothing is written.
fn leave_open(agent: &mut Agent, dir: &Path) {
    let globals = "globals().update(DATA=b'd' * 100000)";
    agent.order(globals);
    for (name, flags, write) in WAYS {
        let path = dir.join(name);
        let answer = agent.order(&format!("(lambda d: {write})(os.open({path:?}, {flags}, 0o644))"));
        assert_eq!(answer, "ok", "{name}");
    }
    let empty = dir.join("never written");
    assert!(agent.order(&format!("os.open({empty:?}, RW)")).parse::<i32>().is_ok());
}

#[track_caller]
fn expect_all(dir: &Path, log: &dyn Fn() -> String) {
    for (name, ..) in WAYS {
        let path = dir.join(name);
        wait::until(&format!("{name} is whole"), SOON, || {
            std::fs::read(&path).is_ok_and(|bytes| bytes == vec![b'd'; BYTES])
        });
        assert!(path.exists(), "{name}: {}", log());
    }
}

/// A mount ends by SIGTERM, is killed, and everything is killed: on passthrough and through the daemon.
#[test]
fn what_was_written_and_never_closed_stays() {
    for mode in [Mode::Passthrough, Mode::Daemon] {
        for ending in ["term", "kill", "kill all"] {
            let dir = tools::scratch("endings-");
            let builder = LocalBuilder::at(dir.path()).option("alluxio.user.session.timeout", "5s");
            let mut local = mode.apply(builder, "").start();
            let second = Mount::start(&local, &dir.path().join("second"), mode);
            let mut agent = Agent::new();
            if ending == "kill all" {
                leave_open(&mut agent, local.mount());
                local.process().kill();
                agent.kill();
                drop(second);
                local = local.crash_and_restart();
            } else {
                leave_open(&mut agent, second.path());
                end(second, ending == "term");
                agent.kill();
            }
            expect_all(local.mount(), &|| local.log());
        }
    }
}

/// Ends another mount while its files are open.
fn end(mut mount: Mount, in_order: bool) {
    match in_order {
        true => {
            mount.process().signal(nix::sys::signal::Signal::SIGTERM);
            mount.process().wait(SOON);
        }
        false => mount.process().kill(),
    }
}

/// Passthrough appends and appends through the daemon find the same end.
#[test]
fn appends_by_passthrough_and_by_the_daemon_do_not_overlap() {
    const RECORDS: usize = 250;
    const RECORD_BYTES: usize = 100;
    let dir = tools::scratch("append-both-");
    let local = LocalBuilder::at(dir.path()).start();
    let second = Mount::start(&local, &dir.path().join("second"), Mode::Daemon);
    File::create(local.mount().join("log")).unwrap();
    // Both have it open before either writes, so that the first stays on passthrough.
    let open = |dir: &Path| File::options().append(true).open(dir.join("log")).unwrap();
    let files = [local.mount(), second.path(), local.mount(), second.path()].map(open);
    let is_done = AtomicUsize::new(0);
    let append = |writer: usize, mut file: File| {
        let record = [b'a' + writer as u8; RECORD_BYTES];
        let mut count = 0;
        // By passthrough for as long as the daemon, which is slower, appends.
        while (writer % 2 == 1 && count < RECORDS) || (writer.is_multiple_of(2) && is_done.load(Ordering::Relaxed) < 2)
        {
            assert_eq!(file.write(&record).unwrap(), RECORD_BYTES);
            count += 1;
        }
        is_done.fetch_add(writer % 2, Ordering::Relaxed);
        count
    };
    let count: usize = std::thread::scope(|scope| {
        let append = &append;
        let writers = files.into_iter().enumerate();
        let threads: Vec<_> = writers
            .map(|(writer, file)| scope.spawn(move || append(writer, file)))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    let bytes = std::fs::read(local.mount().join("log")).unwrap();
    assert_eq!(bytes.len(), count * RECORD_BYTES);
    let is_whole = |record: &[u8]| record.iter().all(|byte| *byte == record[0]);
    assert!(bytes.chunks(RECORD_BYTES).all(is_whole), "a torn record");
}

/// A disk that takes writes and cannot keep them: what fsync refused once is never acknowledged afterwards.
#[test]
fn a_sync_that_failed_stays_failed() {
    let dir = tools::scratch("bad-disk-");
    let disk = BadDisk::new(dir.path());
    let builder = LocalBuilder::at(dir.path());
    let local = builder
        .option(
            "alluxio.worker.tieredstore.level0.dirs.path",
            tools::text(&disk.0.join("mnt/cache")),
        )
        .start();
    let mut agent = Agent::new();
    let path = local.mount().join("f");
    let fd = agent.order(&format!("os.open({path:?}, RW)"));
    // From now on the disk keeps nothing new.
    sh(
        &format!(
            "dd if=/dev/urandom of={}/mnt/filler bs=1M count=64 conv=fsync",
            disk.0.display()
        ),
        SOON,
    );
    assert_eq!(agent.order(&format!("os.pwrite({fd}, b'x' * 100000, 0)")), "100000");
    let mut syncs = vec![agent.order(&format!("os.fsync({fd})"))];
    // The disk is well again, and knows nothing of what it could not keep.
    sh(&format!("mount -o remount,size=1G {}/back", disk.0.display()), SOON).ok();
    syncs.extend((0..2).map(|_| agent.order(&format!("os.fsync({fd})"))));
    let closed = agent.order(&format!("os.close({fd})"));
    // What the disk said, and then what we know.
    assert!(["EIO", "ENOSPC"].contains(&&*syncs[0]), "{syncs:?}");
    assert_eq!(
        (&*syncs[1], &*syncs[2], &*closed),
        ("EIO", "EIO", "EIO"),
        "{}",
        local.log()
    );
    drop(agent);
    local.stop(SOON);
}

/// A file system on a loop device whose own file has less room than it promises.
struct BadDisk(std::path::PathBuf);

impl BadDisk {
    fn new(dir: &Path) -> BadDisk {
        let dir = dir.join("bad");
        let d = dir.display();
        sh(
            &format!(
                "mkdir -p {d}/back {d}/mnt; mount -t tmpfs -o size=32M none {d}/back; truncate -s 512M {d}/back/img; \
                 mkfs.ext4 -q -F -O ^has_journal -E lazy_itable_init=1,nodiscard {d}/back/img; \
                 mount -o loop {d}/back/img {d}/mnt"
            ),
            SOON,
        )
        .ok();
        BadDisk(dir)
    }
}

impl Drop for BadDisk {
    fn drop(&mut self) {
        let d = self.0.display();
        // What is still used is detached when it is not.
        sh(&format!("umount -l {d}/mnt; umount -l {d}/back"), SOON);
    }
}
