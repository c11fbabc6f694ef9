//! Two mounts of one namespace: what one does, the other sees.
#![allow(clippy::unwrap_used, reason = "a test ends there")]

use alluxio_client::fs::FileSystem;
use alluxio_client::workers::RemoteWorkers;
use alluxio_client::{MasterClient, RemoteMaster};
use alluxio_common::rpc::{Address, ClientOptions};
use alluxio_proto::types::{Caller, WriteType};
use alluxio_tests::LocalBuilder;
use alluxio_tests::cluster::Mount;
use alluxio_tests::modes::Mode;
use alluxio_tests::separate::Separate;
use alluxio_tests::{Agent, tools, tree, wait};
use std::fs::{File, Permissions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Of what happens at once, on a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// What was closed on one mount is what open on the other reads, at once and always.
#[test]
fn open_reads_what_was_closed_on_another_mount() {
    for mode in [Mode::Passthrough, Mode::Daemon] {
        let dir = tools::scratch("close-to-open-");
        let local = mode.apply(LocalBuilder::at(dir.path()), "").start();
        let second = Mount::start(&local, &dir.path().join("second"), mode);
        let (a, b) = (local.mount().join("f"), second.path().join("f"));
        for turn in 0..100u64 {
            let (from, to) = if turn % 2 == 0 { (&a, &b) } else { (&b, &a) };
            // Shorter, longer, and of the same length; each time something else.
            let bytes = tree::contents(turn, [5_000, 5_000, 90_000, 0, 70_001][turn as usize % 5]);
            std::fs::write(from, &bytes).unwrap();
            let found = std::fs::read(to).unwrap_or_else(|error| panic!("{}, turn {turn}: {error}", mode.name()));
            assert!(
                found == bytes,
                "{}, turn {turn}: {} bytes were closed, {} are read",
                mode.name(),
                bytes.len(),
                found.len()
            );
        }
    }
}

/// A file that was made and closed empty on one mount is opened for writing on another before the first has let go of it. When
/// both have closed it nobody writes it any more: it is read at once everywhere.
#[test]
fn an_empty_file_that_another_mount_takes_up_ends_with_its_last_close() {
    for mode in [Mode::Passthrough, Mode::Daemon] {
        let dir = tools::scratch("taken-up-");
        let local = mode.apply(LocalBuilder::at(dir.path()), "").start();
        let second = Mount::start(&local, &dir.path().join("second"), mode);
        for turn in 0..10 {
            let name = format!("f{turn}");
            let (a, b) = (local.mount().join(&name), second.path().join(&name));
            drop(File::create(&a).unwrap());
            let file = File::options().write(true).open(&b).unwrap();
            file.write_all_at(b"written", 0).unwrap();
            // The first mount has let go of it by then.
            std::thread::sleep(Duration::from_millis(60));
            file.write_all_at(b", both", 7).unwrap();
            drop(file);
            std::thread::sleep(Duration::from_millis(60));
            let start = Instant::now();
            for path in [&a, &b] {
                let found = std::fs::read(path).unwrap();
                assert_eq!(found, b"written, both", "{}: {}", mode.name(), path.display());
            }
            let took = start.elapsed();
            assert!(
                took < Duration::from_secs(3),
                "{}, turn {turn}: read in {took:?}",
                mode.name()
            );
        }
    }
}

/// A mount that dies says nothing to the home of what it wrote. Who closes the file last is the last all the same: what is stored
/// into a mapping after that is looked after.
#[test]
fn a_mount_that_died_keeps_nothing_open_that_another_closes() {
    const BYTES: usize = 100_000;
    let mut cluster = Separate::start(&[("alluxio.user.session.timeout", "5s")]);
    let (mount, mut dying) = (cluster.mount("mount"), cluster.mount("dying"));
    let path = mount.file("f");
    let mut agent = Agent::new();
    let fd = agent.order(&format!("os.open({path:?}, RW)"));
    assert_eq!(
        agent.order(&format!("os.pwrite({fd}, b'a' * {BYTES}, 0)")),
        BYTES.to_string()
    );
    let other = File::options().write(true).open(dying.file("f")).unwrap();
    other.write_all_at(b"both", 4).unwrap();
    let at: u64 = agent.order(&format!("mapped({fd}, {BYTES})")).parse().unwrap();
    dying.kill();
    drop(other);
    wait::until("the session of the mount that died has ended", SOON, || {
        cluster.master().log().contains("a session fell silent and was ended")
    });
    agent.order(&format!("os.close({fd})"));
    let mut expected = vec![b'a'; BYTES];
    expected[4..8].copy_from_slice(b"both");
    let object = cluster.ufs().join("f");
    let is_stored = |expected: &[u8]| std::fs::read(&object).is_ok_and(|bytes| bytes == expected);
    wait::until("what was written is stored", SOON, || is_stored(&expected));
    for page in 1..4u64 {
        // The one before was looked at by then.
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(agent.order(&format!("store({}, b'later')", at + page * 4096)), "ok");
        expected[page as usize * 4096..][..5].copy_from_slice(b"later");
    }
    drop(agent);
    wait::until("what was stored after the close is stored", SOON, || {
        is_stored(&expected)
    });
    assert!(std::fs::read(&path).unwrap() == expected, "{}", cluster.master().log());
    // It is a file as any other again.
    std::fs::write(&path, b"anew").unwrap();
    wait::until("what was written next is stored", SOON, || is_stored(b"anew"));
}

/// A program that writes by the client library, as the command line does, leaves a mount alone that writes the same file.
#[test]
fn a_client_that_completes_a_file_leaves_a_mounts_writer_alone() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for passthrough in ["true", "false"] {
        let cluster = Separate::start(&[("alluxio.fuse.passthrough.enabled", passthrough)]);
        let mount = cluster.mount("mount");
        let address = cluster.source().trim_end_matches('/').to_owned();
        let options = ClientOptions::default();
        let master = RemoteMaster::new(vec![Address::Tcp(address)], options.clone()).client();
        let workers = Arc::new(RemoteWorkers::new(options, MasterClient::DEFAULT_RETRY));
        let root = Caller {
            user: "root".to_owned(),
            groups: vec!["root".to_owned()],
        };
        let fs = FileSystem::new(master, workers, root);
        for mount_is_first in [true, false] {
            let name = format!("f-{mount_is_first}");
            let path = mount.file(&name);
            let what = format!("passthrough {passthrough}, {name}");
            let open = || {
                File::options()
                    .read(true)
                    .write(true)
                    .create(true)
                    .truncate(false)
                    .open(&path)
            };
            let early = mount_is_first.then(|| open().unwrap());
            let mut writer = runtime
                .block_on(fs.create(&format!("/{name}"), 0o644, true, WriteType::AsyncThrough))
                .unwrap();
            runtime.block_on(writer.write("cccccccc".into())).unwrap();
            let file = early.unwrap_or_else(|| open().unwrap());
            file.write_all_at(b"mm", 0).unwrap();
            runtime.block_on(writer.finish()).unwrap();
            file.write_all_at(b"MM", 2)
                .unwrap_or_else(|error| panic!("{what}: write after it: {error}"));
            file.sync_all()
                .unwrap_or_else(|error| panic!("{what}: sync after it: {error}"));
            drop(file);
            assert_eq!(std::fs::read(&path).unwrap(), b"mmMMcccc", "{what}");
            assert_eq!(
                cluster.alluxio(&["fs", "cat", &format!("/{name}")]).ok(),
                "mmMMcccc",
                "{what}"
            );
        }
        runtime.block_on(fs.close()).unwrap();
    }
}

/// A file that both mounts write: who closes first leaves the other one alone, whoever opened it first.
#[test]
fn a_mount_that_closes_leaves_the_other_writer_alone() {
    for mode in [Mode::Passthrough, Mode::Daemon] {
        let dir = tools::scratch("writers-");
        let local = mode.apply(LocalBuilder::at(dir.path()), "").start();
        let second = Mount::start(&local, &dir.path().join("second"), mode);
        let mounts = [local.mount(), second.path()];
        for (first, other) in [(0, 1), (1, 0)] {
            for new in [true, false] {
                let name = format!("f-{first}-{new}");
                let paths = [mounts[first].join(&name), mounts[other].join(&name)];
                if !new {
                    std::fs::write(&paths[0], "----------------").unwrap();
                }
                let opens = |path| {
                    File::options()
                        .read(true)
                        .write(true)
                        .create(true)
                        .truncate(false)
                        .open(path)
                };
                let one = opens(&paths[0]).unwrap();
                one.write_all_at(b"aaaa", 0).unwrap();
                let two = opens(&paths[1]).unwrap();
                two.write_all_at(b"bbbb", 4).unwrap();
                one.write_all_at(b"cccc", 8).unwrap();
                drop(one);
                two.write_all_at(b"dddd", 12).unwrap();
                two.sync_all().unwrap();
                drop(two);
                for path in &paths {
                    let found = std::fs::read(path).unwrap();
                    assert_eq!(found, b"aaaabbbbccccdddd", "{} {name}", mode.name());
                }
            }
        }
    }
}

/// Without the stream of changes the kernel believes what it knows for a second at most: also what it was told to believe for
/// an hour before the stream broke.
#[test]
fn caches_age_while_the_watch_stream_is_broken() {
    const SEEN_WITHIN: Duration = Duration::from_secs(5);
    let mut cluster = Separate::start(&[]);
    let (a, b) = (cluster.mount("a"), cluster.mount("b"));
    let (ours, theirs) = (a.file("f"), b.file("f"));
    std::fs::write(&ours, "one").unwrap();
    for turn in 0..3u32 {
        let mode = 0o600 + turn;
        std::fs::metadata(&theirs).unwrap();
        assert!(!b.file(&format!("new-{turn}")).exists());
        cluster.restart_master();
        // At once, perhaps before either mount has its stream again.
        std::fs::set_permissions(&ours, Permissions::from_mode(mode)).unwrap();
        std::fs::write(a.file(&format!("new-{turn}")), "x").unwrap();
        let since = Instant::now();
        loop {
            let seen = std::fs::metadata(&theirs).unwrap().mode() & 0o777;
            if seen == mode && b.file(&format!("new-{turn}")).exists() {
                break;
            }
            assert!(
                since.elapsed() < SEEN_WITHIN,
                "turn {turn}: {seen:o} is still seen instead of {mode:o}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
