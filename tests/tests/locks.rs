//! Locks as programs take them: on two mounts with daemons of their own, by flock(2) and fcntl(2), interrupted, killed, and over a restart
//! of the master.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use alluxio_tests::{Agent, Mount, Separate, process, tools, wait};
use nix::sys::signal::Signal;
use std::process::Command;
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(300);
/// Long enough to see that somebody waits; nothing depends on it when all is well.
const A_WHILE: Duration = Duration::from_millis(300);

const DEV: (&str, &str) = ("alluxio.fuse.transport", "dev");

fn two_mounts(options: &[(&str, &str)]) -> (Separate, Mount, Mount) {
    two_mounts_with(options, "")
}

fn two_mounts_with(options: &[(&str, &str)], mount: &str) -> (Separate, Mount, Mount) {
    let mut all = vec![DEV];
    all.extend(options);
    let cluster = Separate::start(&all);
    let (a, b) = (cluster.mount_with("a", mount), cluster.mount_with("b", mount));
    std::fs::write(a.file("f"), "0123456789").unwrap();
    (cluster, a, b)
}

/// A process with the file open as descriptor `f`.
fn opened(mount: &Mount, flags: &str) -> Agent {
    let mut agent = Agent::new();
    open(&mut agent, mount, "f", flags);
    agent
}

fn open(agent: &mut Agent, mount: &Mount, name: &str, flags: &str) {
    let path = mount.file("f");
    let fd = agent.order(&format!(
        "globals().update({name}=os.open({:?}, {flags})) or {name}",
        tools::text(&path)
    ));
    assert!(fd.parse::<i32>().is_ok(), "{fd}");
}

#[test]
fn byte_ranges_hold_between_mounts() {
    let (_cluster, a, b) = two_mounts(&[]);
    let (mut one, mut two) = (opened(&a, "RW"), opened(&b, "RW"));
    assert_eq!(one.order("lock(f, WRITE, 0, 5)"), "ok");
    assert_eq!(one.order("lock(f, READ, 10, 0)"), "ok");
    assert_eq!(two.order("lock(f, READ, 4, 1)"), "EAGAIN");
    assert_eq!(two.order("lock(f, WRITE, 5, 5)"), "ok");
    assert_eq!(two.order("lock(f, READ, 1000, 1)"), "ok");
    let pid = one.id();
    assert_eq!(two.order("test(f, READ, 0, 0)"), format!("WRITE 0 5 {pid}"));
    assert_eq!(two.order("test(f, WRITE, 100, 1)"), format!("READ 10 0 {pid}"));
    assert_eq!(two.order("test(f, READ, 100, 1)"), "NONE");
    assert_eq!(one.order("test(f, WRITE, 0, 5)"), "NONE", "its own");

    // Wait; be granted by a downgrade, by an unlock of a part.
    two.start("lock(f, READ, 0, 3, True)");
    assert!(two.is_busy_for(A_WHILE));
    assert_eq!(one.order("lock(f, READ, 0, 3)"), "ok");
    assert_eq!(two.answer(), "ok");
    two.start("lock(f, WRITE, 3, 2, True)");
    assert!(two.is_busy_for(A_WHILE));
    assert_eq!(one.order("lock(f, NONE, 3, 2)"), "ok");
    assert_eq!(two.answer(), "ok");

    // A close of any descriptor of the process drops them all.
    open(&mut two, &b, "g", "RW");
    assert_eq!(one.order("lock(f, WRITE, 5, 1)"), "EAGAIN");
    assert_eq!(two.order("os.close(g)"), "None");
    assert_eq!(one.order("lock(f, WRITE, 0, 0)"), "ok");
    assert_eq!(
        (one.order("os.close(f)"), two.order("os.close(f)")),
        ("None".into(), "None".into())
    );
    for mount in [a, b] {
        mount.stop();
    }
}

#[test]
fn who_unlocks_a_part_is_still_named_as_the_holder_of_the_rest() {
    let (_cluster, a, b) = two_mounts(&[]);
    let (mut one, mut two) = (opened(&a, "RW"), opened(&b, "RW"));
    assert_eq!(one.order("lock(f, WRITE, 0, 10)"), "ok");
    assert_eq!(one.order("lock(f, NONE, 3, 2)"), "ok");
    let pid = one.id();
    assert_eq!(two.order("test(f, READ, 0, 0)"), format!("WRITE 0 3 {pid}"));
    assert_eq!(two.order("test(f, READ, 5, 0)"), format!("WRITE 5 5 {pid}"));
}

#[test]
fn open_file_descriptions_have_locks_of_their_own() {
    let (_cluster, a, b) = two_mounts(&[]);
    let (mut one, mut two) = (opened(&a, "RW"), opened(&b, "RW"));
    open(&mut one, &a, "g", "RW");
    assert_eq!(one.order("lock(f, WRITE, 0, 5, False, True)"), "ok");
    assert_eq!(
        one.order("lock(g, WRITE, 0, 5, False, True)"),
        "EAGAIN",
        "another description, one process"
    );
    assert_eq!(
        one.order("lock(f, READ, 0, 5)"),
        "EAGAIN",
        "a process is another owner, too"
    );
    assert_eq!(two.order("lock(f, READ, 0, 1)"), "EAGAIN");
    assert!(two.order("test(f, READ, 0, 1, True)").starts_with("WRITE 0 5 "));
    // Closing another description, or a duplicate, leaves them; the last close takes them.
    assert_eq!(one.order("os.close(g)"), "None");
    let dup = one.order("globals().update(d=os.dup(f)) or d");
    assert!(dup.parse::<i32>().is_ok(), "{dup}");
    assert_eq!(one.order("os.close(f)"), "None");
    assert_eq!(two.order("lock(f, WRITE, 0, 1)"), "EAGAIN");
    two.start("lock(f, WRITE, 0, 1, True, True)");
    assert!(two.is_busy_for(A_WHILE));
    assert_eq!(one.order("os.close(d)"), "None");
    assert_eq!(two.answer(), "ok");
}

#[test]
fn flock_holds_between_mounts() {
    let (_cluster, a, b) = two_mounts(&[]);
    let (mut one, mut two) = (opened(&a, "RO"), opened(&b, "RO"));
    assert_eq!(one.order("flock(f, SH)"), "ok");
    assert_eq!(two.order("flock(f, SH | NB)"), "ok");
    assert_eq!(two.order("flock(f, EX | NB)"), "EAGAIN");
    // flock and fcntl do not see each other.
    let mut third = opened(&b, "RW");
    assert_eq!(third.order("lock(f, WRITE)"), "ok");
    assert_eq!(one.order("flock(f, UN)"), "ok");
    assert_eq!(two.order("flock(f, EX | NB)"), "ok");
    one.start("flock(f, EX)");
    assert!(one.is_busy_for(A_WHILE));
    assert_eq!(two.order("os.close(f)"), "None");
    assert_eq!(one.answer(), "ok");

    // flock(1): one after the other, on both mounts, and none in between. What they count is on no mount of ours.
    one.kill();
    let dir = tools::scratch("count-");
    let counter = dir.path().join("n");
    std::fs::write(&counter, "0\n").unwrap();
    let count = |mount: &Mount| {
        let (lock, n) = (mount.file("f"), tools::text(&counter));
        let lock = tools::text(&lock);
        format!("for i in $(seq 40); do flock {lock} sh -c 'n=$(cat {n}); echo $((n + 1)) > {n}'; done")
    };
    let lines = [count(&a), count(&b), count(&a)];
    let threads = lines.map(|line| std::thread::spawn(move || process::sh(&line, LONG).ok()));
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(std::fs::read_to_string(&counter).unwrap(), "120\n");
}

#[test]
fn a_deadlock_over_two_mounts_is_found() {
    let (_cluster, a, b) = two_mounts(&[]);
    let (mut one, mut two) = (opened(&a, "RW"), opened(&b, "RW"));
    assert_eq!(one.order("lock(f, WRITE, 0, 1)"), "ok");
    assert_eq!(two.order("lock(f, WRITE, 1, 1)"), "ok");
    one.start("lock(f, WRITE, 1, 1, True)");
    assert!(one.is_busy_for(A_WHILE));
    assert_eq!(two.order("lock(f, WRITE, 0, 1, True)"), "EDEADLK");
    assert_eq!(two.order("lock(f, NONE)"), "ok");
    assert_eq!(one.answer(), "ok");
}

#[test]
fn who_waits_can_be_interrupted_and_killed() {
    let (mut cluster, a, b) = two_mounts(&[]);
    let (mut one, mut two, mut three) = (opened(&a, "RW"), opened(&b, "RW"), opened(&b, "RW"));
    assert_eq!(one.order("lock(f, WRITE)"), "ok");
    assert_eq!(one.order("flock(f, EX)"), "ok");
    for wait in [
        "lock(f, READ, 0, 0, True)",
        "lock(f, READ, 0, 0, True, True)",
        "flock(f, SH)",
    ] {
        two.start(wait);
        assert!(two.is_busy_for(A_WHILE));
        let start = Instant::now();
        two.signal(Signal::SIGINT);
        assert_eq!(two.answer(), "EINTR");
        assert!(
            start.elapsed() < Duration::from_secs(2),
            "{wait}: {:?}",
            start.elapsed()
        );
    }
    two.start("lock(f, READ, 0, 0, True)");
    assert!(two.is_busy_for(A_WHILE));
    let start = Instant::now();
    two.kill();
    assert!(
        start.elapsed() < Duration::from_secs(2),
        "kill -9: {:?}",
        start.elapsed()
    );
    // None of them got it later.
    assert_eq!(one.order("os.close(f)"), "None");
    assert_eq!(three.order("lock(f, WRITE, 0, 0, True)"), "ok");
    assert_eq!(three.order("flock(f, EX)"), "ok");

    // kill -9 of the holder: at once.
    let mut four = opened(&a, "RW");
    four.start("lock(f, WRITE, 0, 0, True) + flock(f, EX)");
    assert!(four.is_busy_for(A_WHILE));
    let start = Instant::now();
    three.kill();
    assert_eq!(four.answer(), "okok");
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());

    // ^C while the master is away.
    let mut five = opened(&b, "RW");
    five.start("lock(f, WRITE, 0, 0, True)");
    assert!(five.is_busy_for(A_WHILE));
    cluster.master().signal(Signal::SIGSTOP);
    five.signal(Signal::SIGINT);
    assert_eq!(five.answer(), "EINTR");
    cluster.master().signal(Signal::SIGCONT);
    assert_eq!(four.order("os.close(f)"), "None");
    let mut six = opened(&a, "RW");
    assert_eq!(six.order("lock(f, WRITE, 0, 0, True)"), "ok");
}

#[test]
fn locks_outlive_the_master_and_not_their_mount() {
    let (mut cluster, mut a, b) = two_mounts(&[("alluxio.user.session.timeout", "8s")]);
    let (mut one, mut two) = (opened(&a, "RW"), opened(&b, "RW"));
    assert_eq!(one.order("lock(f, WRITE, 0, 5)"), "ok");
    assert_eq!(two.order("lock(f, WRITE, 5, 5)"), "ok");
    assert_eq!(two.order("flock(f, EX)"), "ok");
    two.start("lock(f, WRITE, 0, 1, True)");
    assert!(two.is_busy_for(A_WHILE));
    cluster.restart_master();
    let mut three = opened(&b, "RW");
    assert_eq!(three.order("lock(f, READ, 0, 5)"), "EAGAIN");
    assert_eq!(three.order("lock(f, READ, 5, 5)"), "EAGAIN");
    assert_eq!(three.order("flock(f, SH | NB)"), "EAGAIN");
    assert_eq!(one.order("lock(f, NONE)"), "ok");
    assert_eq!(two.answer(), "ok", "it waited through the restart");
    assert_eq!(two.order("lock(f, NONE)"), "ok");

    // kill -9 of a whole mount: its locks end with its session.
    assert_eq!(one.order("lock(f, WRITE, 0, 5)"), "ok");
    three.start("lock(f, READ, 0, 5, True)");
    assert!(three.is_busy_for(A_WHILE));
    let start = Instant::now();
    a.kill();
    assert_eq!(three.answer(), "ok");
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    drop(one);
}

#[test]
fn who_has_a_lock_reads_what_its_last_holder_wrote() {
    for passthrough in ["on", "off"] {
        let (_cluster, a, b) = two_mounts_with(&[], &format!("passthrough={passthrough}"));
        let (mut one, mut two) = (opened(&a, "RW"), opened(&b, "RW"));
        for round in 0..20 {
            let (writer, reader) = if round % 2 == 0 {
                (&mut one, &mut two)
            } else {
                (&mut two, &mut one)
            };
            // What the kernel has cached of size and pages is old by then.
            reader.order("os.pread(f, 100000, 0) and os.fstat(f).st_size");
            assert_eq!(writer.order("lock(f, WRITE, 0, 0, True)"), "ok");
            let length = 1000 * (round + 1);
            let text = format!("{}", round % 10);
            assert_eq!(
                writer.order(&format!("os.pwrite(f, b'{text}' * {length}, 0)")),
                length.to_string()
            );
            assert_eq!(writer.order("lock(f, NONE)"), "ok");
            assert_eq!(reader.order("lock(f, READ, 0, 0, True)"), "ok");
            assert_eq!(
                reader.order("os.fstat(f).st_size"),
                length.to_string(),
                "passthrough {passthrough}, round {round}"
            );
            let same = format!("os.pread(f, 100000, 0) == b'{text}' * {length}");
            assert_eq!(reader.order(&same), "True", "passthrough {passthrough}, round {round}");
            assert_eq!(reader.order("lock(f, NONE)"), "ok");
        }
    }
}

/// Adds to a counter in a database, in transactions of their own. Both close after both have counted.
/// FIXME: the last close on one mount ends the open version, and who still has the file open on another gets ESTALE from fsync and close. When
/// that is mended, nobody need wait here.
const COUNT: &str = r#"
import os, sqlite3, sys, time
path, mode, rounds, own, other = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4], sys.argv[5]
base = sqlite3.connect(path, timeout=120, isolation_level=None)
assert base.execute('pragma journal_mode=' + mode).fetchone()[0] == mode
for i in range(rounds):
    base.execute('begin immediate')
    (n,) = base.execute('select n from counter').fetchone()
    base.execute('update counter set n = ?', (n + 1,))
    base.execute('insert into log(n) values (?)', (n + 1,))
    base.execute('commit')
open(own, 'w').close()
while not os.path.exists(other):
    time.sleep(0.01)
base.close()
"#;

fn sqlite(mounts: [&Mount; 2], mode: &str) {
    const ROUNDS: u32 = 40;
    let base = mounts[0].file("base.sqlite");
    let make = "import sqlite3, sys\nb = sqlite3.connect(sys.argv[1])\nb.execute('pragma journal_mode=' + sys.argv[2])\n\
                b.execute('create table counter(n)')\nb.execute('create table log(n)')\nb.execute('insert into counter values (0)')\nb.commit()";
    let python = |program: &str, path: &std::path::Path, more: &[&str]| {
        let mut command = Command::new("python3");
        command.arg("-c").arg(program).arg(path).args(more);
        command
    };
    process::run(&mut python(make, &base, &[mode]), LONG).ok();
    let dir = tools::scratch("done-");
    let done = ["0", "1"].map(|name| tools::text(&dir.path().join(name)).to_owned());
    let threads = [0, 1].map(|nth| {
        let rounds = ROUNDS.to_string();
        let more = [mode, &rounds, &done[nth], &done[1 - nth]];
        let mut command = python(COUNT, &mounts[nth].file("base.sqlite"), &more);
        std::thread::spawn(move || process::run(&mut command, LONG).ok())
    });
    for thread in threads {
        thread.join().unwrap();
    }
    let check = "import sqlite3, sys\nb = sqlite3.connect(sys.argv[1])\nprint(b.execute('select n from counter').fetchone()[0], \
                 b.execute('select count(distinct n) from log').fetchone()[0], b.execute('pragma integrity_check').fetchone()[0])";
    for mount in mounts {
        let seen = process::run(&mut python(check, &mount.file("base.sqlite"), &[]), LONG).ok();
        assert_eq!(seen.trim(), format!("{0} {0} ok", ROUNDS * 2), "{mode}");
    }
}

#[test]
fn sqlite_counts_on_two_mounts() {
    let (_cluster, a, b) = two_mounts(&[]);
    sqlite([&a, &b], "delete");
}

#[test]
fn sqlite_counts_on_one_mount_with_a_write_ahead_log() {
    let (_cluster, a, _b) = two_mounts(&[]);
    sqlite([&a, &a], "wal");
}

#[test]
fn the_kernel_keeps_locks_where_they_cannot_be_interrupted() {
    let cluster = Separate::start(&[("alluxio.fuse.transport", "fuser")]);
    let (a, b) = (cluster.mount("a"), cluster.mount("b"));
    std::fs::write(a.file("f"), "x").unwrap();
    let (mut one, mut two, mut far) = (opened(&a, "RW"), opened(&a, "RW"), opened(&b, "RW"));
    assert_eq!(one.order("lock(f, WRITE)"), "ok");
    assert_eq!(one.order("flock(f, EX)"), "ok");
    assert_eq!(two.order("lock(f, READ)"), "EAGAIN");
    assert_eq!(two.order("flock(f, SH | NB)"), "EAGAIN");
    assert_eq!(
        far.order("lock(f, READ)"),
        "ok",
        "FIXME: over fuser locks are of one mount only"
    );
    wait::until("the end of a process ends its locks", LONG, || {
        two.order("lock(f, READ)") == "EAGAIN"
    });
    one.kill();
    wait::until("the end of a process ends its locks", LONG, || {
        two.order("flock(f, SH | NB)") == "ok"
    });
}
