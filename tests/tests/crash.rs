//! kill -9 in the middle of a copy, again and again: what was closed is whole and reaches the store, nothing else is
//! half there, and the restart is quick.

use alluxio_tests::process::Process;
use alluxio_tests::{LocalBuilder, S3Server, Versity, tools, tree, wait};
use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

const ROUNDS: u64 = 20;
const FILES: usize = 400;

#[test]
fn what_was_closed_survives_twenty_kills() {
    let server = Versity::start();
    let dir = tools::scratch("crash-");
    let source = dir.path().join("source");
    std::fs::create_dir(&source).unwrap();
    for index in 0..FILES {
        // Mostly small, some of several chunks, a few larger.
        let bytes = [100, 3_000, 70_000, 300_000, 700_000][index % 5] + index;
        std::fs::write(source.join(format!("f{index:04}")), tree::contents(index as u64, bytes)).unwrap();
    }
    let mut local = LocalBuilder::at(dir.path())
        .ufs("s3://bucket/c")
        .options(server.options())
        .start();
    let mut closed: BTreeMap<String, usize> = BTreeMap::new();
    let mut slowest_start = Duration::ZERO;
    for round in 0..ROUNDS {
        let target = local.mount().join(format!("r{round}"));
        std::fs::create_dir(&target).unwrap();
        let log = dir.path().join(format!("acknowledged-{round}"));
        // One line per file whose close returned.
        let copy = format!(
            "import os\nlog = open('{}', 'w', buffering=1)\nfor n in sorted(os.listdir('{}')):\n    data = open('{}/' + n, 'rb').read()\n    f = open('{}/' + n, 'wb')\n    for o in range(0, len(data), 50000): f.write(data[o:o+50000])\n    f.close()\n    log.write(n + '\\n')\n",
            log.display(),
            source.display(),
            source.display(),
            target.display(),
        );
        let mut copier = Process::spawn("copy", Command::new("python3").arg("-c").arg(copy));
        // A different moment in each round, in the middle of the copy.
        let enough = 5 + (round as usize * 37) % 200;
        let acknowledged = || std::fs::read_to_string(&log).unwrap_or_default().lines().count();
        wait::until("some files are copied", Duration::from_secs(60), || {
            acknowledged() >= enough
        });
        local.process().kill();
        copier.wait(Duration::from_secs(30));
        let start = Instant::now();
        local = local.crash_and_restart();
        slowest_start = slowest_start.max(start.elapsed());
        let names: Vec<String> = std::fs::read_to_string(&log)
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect();
        for name in &names {
            let index: usize = name[1..].parse().unwrap();
            closed.insert(format!("r{round}/{name}"), index);
            let found = std::fs::read(local.mount().join(format!("r{round}/{name}")))
                .unwrap_or_else(|error| panic!("round {round}: {name} was closed: {error}\n{}", local.log()));
            assert!(
                found == std::fs::read(source.join(name)).unwrap(),
                "round {round}: {name} was closed and is not whole ({} bytes)",
                found.len()
            );
        }
        assert_nothing_half(&local.mount().join(format!("r{round}")), &source);
    }
    let persisted = local.alluxio(&["fs", "persist", "/"]);
    assert_eq!(persisted.code, 0, "{}\n{}", persisted.stderr, local.log());
    let stored = server.bucket("bucket").join("c");
    for (name, index) in &closed {
        let object = std::fs::read(stored.join(name))
            .unwrap_or_else(|error| panic!("{name} was closed and is not in the store: {error}"));
        assert!(
            object == std::fs::read(source.join(format!("f{index:04}"))).unwrap(),
            "{name} differs in the store"
        );
    }
    for round in 0..ROUNDS {
        assert_nothing_half(&stored.join(format!("r{round}")), &source);
    }
    println!(
        "{} files closed in {ROUNDS} rounds; slowest restart until mounted: {slowest_start:?}",
        closed.len()
    );
    assert!(
        slowest_start <= Duration::from_secs(3),
        "a restart took {slowest_start:?}"
    );
}

/// Every file that is there is whole.
#[track_caller]
fn assert_nothing_half(dir: &std::path::Path, source: &std::path::Path) {
    for (name, bytes) in tree::files(dir) {
        let name = String::from_utf8(name).expect("names of the test are UTF-8");
        assert!(
            bytes == std::fs::read(source.join(&name)).expect("read the source"),
            "{name} in {} is half there: {} bytes",
            dir.display(),
            bytes.len()
        );
    }
}

/// What fsync acknowledged of a file that was never closed is there after a kill.
#[test]
fn what_was_synced_survives_without_close() {
    let dir = tools::scratch("sync-");
    let mut local = LocalBuilder::at(dir.path()).start();
    let path = local.mount().join("log");
    let code = format!(
        "import os, time\nf = open('{}', 'wb')\nf.write(b'a' * 100000)\nf.flush()\nos.fsync(f.fileno())\nopen('{}', 'w').close()\ntime.sleep(600)\n",
        path.display(),
        dir.path().join("synced").display()
    );
    let mut writer = Process::spawn("writer", Command::new("python3").arg("-c").arg(code));
    wait::until("fsync returned", Duration::from_secs(30), || {
        dir.path().join("synced").exists()
    });
    local.process().kill();
    writer.kill();
    let local = local.crash_and_restart();
    let path = local.mount().join("log");
    wait::until("the synced file is recovered", Duration::from_secs(30), || {
        std::fs::read(&path).is_ok_and(|bytes| bytes.len() == 100_000)
    });
    assert_eq!(std::fs::read(&path).unwrap(), vec![b'a'; 100_000]);
}

/// A new file that was closed while it was empty stays, although its close synced nothing; one that was not closed goes.
#[test]
fn empty_files_that_were_closed_survive_a_kill() {
    let dir = tools::scratch("empty-");
    let ufs = dir.path().join("store");
    std::fs::create_dir(&ufs).unwrap();
    let mut local = LocalBuilder::at(dir.path()).ufs(tools::text(&ufs)).start();
    let (mount, log) = (local.mount(), dir.path().join("closed"));
    let code = format!(
        "import time\nlog = open('{}', 'w', buffering=1)\nheld = open('{}', 'wb')\nfor n in range(100000):\n    open('{}/%d' % n, 'wb').close()\n    log.write('%d\\n' % n)\n",
        log.display(),
        mount.join("never closed").display(),
        mount.display()
    );
    let mut writer = Process::spawn("writer", Command::new("python3").arg("-c").arg(code));
    let closed = || std::fs::read_to_string(&log).unwrap_or_default();
    wait::until("some files are made", Duration::from_secs(30), || {
        closed().lines().count() > 50
    });
    local.process().kill();
    writer.kill();
    let local = local.crash_and_restart();
    let mount = local.mount();
    wait::until("what was not closed is gone", Duration::from_secs(30), || {
        !mount.join("never closed").exists()
    });
    let persisted = local.alluxio(&["fs", "persist", "/"]);
    assert_eq!(persisted.code, 0, "{}\n{}", persisted.stderr, local.log());
    for name in closed().lines() {
        for place in [mount.join(name), ufs.join(name)] {
            let meta = std::fs::metadata(&place);
            let meta = meta.unwrap_or_else(|error| panic!("{} was closed: {error}\n{}", place.display(), local.log()));
            assert_eq!(meta.len(), 0, "{}", place.display());
        }
    }
}
