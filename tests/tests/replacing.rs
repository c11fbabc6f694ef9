//! Names that get another file, and files that get other content, while others use them.
#![allow(clippy::unwrap_used, reason = "a test ends there")]
#![allow(clippy::disallowed_methods, reason = "they are what is tested")]

use alluxio_tests::cluster::{on_dev, transport};
use alluxio_tests::process::Process;
use alluxio_tests::separate::{Mount, Separate};
use alluxio_tests::{tools, tree, wait};
use nix::sys::signal::Signal;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Each reader makes so many rounds of calls.
const ROUNDS: u64 = 4_000;
/// Readers at once.
const READERS: u64 = 4;

/// Longer than anything takes that is not stuck.
const LONG: Duration = Duration::from_secs(120);

fn cluster() -> Separate {
    cluster_with(&[])
}

fn cluster_with(more: &[(&str, &str)]) -> Separate {
    let transport = transport();
    let mut options = more.to_vec();
    options.extend(
        transport
            .iter()
            .map(|transport| ("alluxio.fuse.transport", transport.as_str())),
    );
    Separate::start(&options)
}

/// Puts another file, and another link, where one is, again and again; answers how often.
fn replace(dir: &Path, until: &AtomicBool) -> u64 {
    let mut count = 0;
    while !until.load(Ordering::Relaxed) {
        std::fs::write(dir.join("tmp"), format!("{count:08}")).unwrap();
        std::fs::rename(dir.join("tmp"), dir.join("t")).unwrap();
        symlink(format!("{count:08}"), dir.join("tmp-link")).unwrap();
        std::fs::rename(dir.join("tmp-link"), dir.join("link")).unwrap();
        count += 1;
    }
    count
}

/// Calls that name a file: what they are called, and in which rounds they are made.
type Calls = [(&'static str, u64, fn(&Path) -> std::io::Result<()>)];

fn whole(bytes: &[u8]) -> std::io::Result<()> {
    assert_eq!(bytes.len(), 8, "{bytes:?}");
    Ok(())
}

const CALLS: &Calls = &[
    ("open", 1, |dir| {
        let file = File::open(dir.join("t"))?;
        let mut bytes = Vec::new();
        (&file).read_to_end(&mut bytes)?;
        whole(&bytes)
    }),
    ("creat", 10, |dir| {
        let open = File::options().read(true).append(true).create(true).open(dir.join("t"));
        open.map(drop)
    }),
    ("stat", 2, |dir| {
        assert_eq!(std::fs::metadata(dir.join("t"))?.len(), 8);
        Ok(())
    }),
    ("chmod", 10, |dir| {
        std::fs::set_permissions(dir.join("t"), std::fs::Permissions::from_mode(0o640))
    }),
    ("readlink", 2, |dir| {
        whole(std::fs::read_link(dir.join("link"))?.as_os_str().as_encoded_bytes())
    }),
];

/// Runs the calls in several threads while the file is replaced in `from`, and answers which failed, how often, with what.
fn storm(from: &Path, at: &Path, calls: &Calls) -> BTreeMap<(&'static str, i32), u64> {
    let ended = AtomicBool::new(false);
    let done = AtomicU64::new(0);
    let mut failed = BTreeMap::new();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| replace(from, &ended));
        let readers: Vec<_> = (0..READERS)
            .map(|_| {
                scope.spawn(|| {
                    let mut failed: BTreeMap<(&'static str, i32), u64> = BTreeMap::new();
                    for round in 0..ROUNDS {
                        for (name, _, call) in calls.iter().filter(|(_, every, _)| round % every == 0) {
                            if let Err(error) = call(at) {
                                *failed.entry((*name, error.raw_os_error().unwrap_or(0))).or_default() += 1;
                            }
                            done.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                    failed
                })
            })
            .collect();
        for reader in readers {
            for (what, count) in reader.join().unwrap() {
                *failed.entry(what).or_default() += count;
            }
        }
        ended.store(true, Ordering::Relaxed);
        let replaced = writer.join().unwrap();
        assert!(replaced > 100, "replaced {replaced} times only");
        eprintln!(
            "replaced {replaced} times during {} calls; failed: {failed:?}",
            done.load(Ordering::Relaxed)
        );
    });
    failed
}

/// What is replaced by rename is there at every moment: 16,000 rounds of calls, none of which may find nothing.
#[test]
fn a_name_that_is_replaced_is_always_there() {
    let cluster = cluster();
    let mount = cluster.mount("one");
    replace_once(mount.path());
    assert_eq!(storm(mount.path(), mount.path(), CALLS), BTreeMap::new());
}

/// The same where another mount replaces it, of which this one's kernel hears a moment later.
#[test]
fn a_name_that_another_mount_replaces_is_always_there() {
    let cluster = cluster();
    let (one, other) = (cluster.mount("one"), cluster.mount("other"));
    replace_once(one.path());
    assert_eq!(storm(one.path(), other.path(), CALLS), BTreeMap::new());
}

fn replace_once(dir: &Path) {
    std::fs::write(dir.join("t"), "00000000").unwrap();
    symlink("00000000", dir.join("link")).unwrap();
}

/// Lets a process stand still, and returns when it does.
fn stop(process: &mut Process) {
    process.signal(Signal::SIGSTOP);
    let tasks = format!("/proc/{}/task", process.id());
    wait::until("a process stands still", LONG, || {
        std::fs::read_dir(&tasks).unwrap().flatten().all(|thread| {
            let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            // After the name, which may contain anything, comes the state.
            stat.rsplit(')')
                .next()
                .is_some_and(|rest| rest.trim_start().starts_with('T'))
        })
    });
}

/// Waits until one mount hears of the other's changes: what its kernel is told from then on it may believe for long.
fn hears(from: &Mount, at: &Mount, name: &str) {
    let mut mode = 0o600;
    wait::until("a mount hears of changes", LONG, || {
        mode ^= 0o011;
        at.file(name).metadata().unwrap();
        std::fs::set_permissions(from.file(name), std::fs::Permissions::from_mode(mode)).unwrap();
        // Longer than a push takes, shorter than a mount that hears nothing believes what it knows.
        let since = Instant::now();
        while since.elapsed() < Duration::from_millis(400) {
            if at.file(name).metadata().unwrap().mode() & 0o777 == mode {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    });
}

/// While a mount heard of no changes another one gave a name to another file: by that name the new file is opened, and what
/// is mounted on a folder of the mount stays there.
fn names_are_looked_up_again(mounted_beneath: bool) {
    let mut cluster = cluster();
    let (one, mut other) = (cluster.mount("one"), cluster.mount("other"));
    std::fs::write(one.file("x"), "old").unwrap();
    std::fs::create_dir_all(one.file("d/m")).unwrap();
    std::fs::write(one.file("d/x"), "old").unwrap();
    let beneath = other.file("d/m");
    if mounted_beneath {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "none", tools::text(&beneath)]);
        assert!(mount.status().unwrap().success());
        std::fs::write(beneath.join("inside"), "y").unwrap();
    }
    hears(&one, &other, "x");
    for name in ["x", "d/x"] {
        assert_eq!(std::fs::read(other.file(name)).unwrap(), b"old");
    }

    stop(other.process());
    cluster.restart_master();
    for dir in ["", "d/"] {
        std::fs::rename(one.file(&format!("{dir}x")), one.file(&format!("{dir}y"))).unwrap();
        std::fs::write(one.file(&format!("{dir}x")), "new").unwrap();
    }
    other.process().signal(Signal::SIGCONT);
    for name in ["x", "d/x"] {
        wait::until("a name leads to the new file", Duration::from_secs(20), || {
            std::fs::read(other.file(name)).unwrap() == b"new"
        });
    }
    for name in ["y", "d/y"] {
        assert_eq!(std::fs::read(other.file(name)).unwrap(), b"old");
    }
    if mounted_beneath {
        assert_eq!(
            std::fs::read(beneath.join("inside")).unwrap(),
            b"y",
            "what was mounted is gone"
        );
        assert!(Command::new("umount").arg(&beneath).status().unwrap().success());
    }
}

#[test]
fn names_are_looked_up_again_after_changes_were_missed() {
    names_are_looked_up_again(false);
}

#[test]
fn what_is_mounted_beneath_a_mount_survives_missed_changes() {
    names_are_looked_up_again(true);
}

/// All of a file through a handle, from its start.
fn all_of(file: &File, length: usize) -> Vec<u8> {
    try_all_of(file, length).unwrap()
}

fn try_all_of(file: &File, length: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; length + 10_000];
    let mut at = 0;
    loop {
        let read = file.read_at(&mut bytes[at..], at as u64)?;
        if read == 0 {
            bytes.truncate(at);
            return Ok(bytes);
        }
        at += read;
    }
}

/// An object is replaced in the under-storage again and again while all its versions are held open: each handle keeps its
/// bytes and its length, each new one has the new, and so has a writer; all show one inode number.
#[test]
fn an_object_that_is_replaced_while_it_is_open() {
    let cluster = cluster_with(&[("alluxio.user.file.metadata.sync.interval", "0")]);
    let mount = cluster.mount("mount");
    let (path, object) = (mount.file("f"), cluster.ufs().join("f"));
    let version = |number: u64| tree::contents(number, 10_000 + 70_000 * number as usize);
    let mut held: Vec<(File, Vec<u8>)> = Vec::new();
    for number in 0..6 {
        let bytes = version(number);
        std::fs::write(cluster.ufs().join("tmp"), &bytes).unwrap();
        std::fs::rename(cluster.ufs().join("tmp"), &object).unwrap();
        for _ in 0..20 {
            let file = File::open(&path).unwrap();
            assert_eq!(file.metadata().unwrap().len(), bytes.len() as u64);
            assert!(
                all_of(&file, bytes.len()) == bytes,
                "version {number} is not what is read"
            );
        }
        assert_eq!(path.metadata().unwrap().len(), bytes.len() as u64);
        held.push((File::open(&path).unwrap(), bytes));
        for (number, (file, bytes)) in held.iter().enumerate() {
            assert!(
                all_of(file, bytes.len()) == *bytes,
                "version {number} is not what is held"
            );
            let stat = file.metadata().unwrap();
            assert_eq!(stat.len(), bytes.len() as u64, "length of version {number}");
            if on_dev() {
                assert_eq!(stat.ino(), path.metadata().unwrap().ino());
            }
        }
    }

    // Replaced once more, and the first to come is a writer.
    let mut bytes = version(7);
    std::fs::write(cluster.ufs().join("tmp"), &bytes).unwrap();
    std::fs::rename(cluster.ufs().join("tmp"), &object).unwrap();
    let mut writer = File::options().append(true).open(&path).unwrap();
    writer.write_all(b"appended").unwrap();
    bytes.extend_from_slice(b"appended");
    assert!(
        std::fs::read(&path).unwrap() == bytes,
        "a writer's file is not what is read while it is open"
    );
    drop(writer);
    assert!(
        std::fs::read(&path).unwrap() == bytes,
        "a writer's file is not what is read"
    );
    // And once more, with a truncating one.
    std::fs::write(cluster.ufs().join("tmp"), version(8)).unwrap();
    wait::until("what was written is persisted", LONG, || {
        std::fs::read(&object).unwrap() == bytes
    });
    let reader = File::open(&path).unwrap();
    std::fs::rename(cluster.ufs().join("tmp"), &object).unwrap();
    std::fs::write(&path, "all new").unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"all new");
    assert!(
        all_of(&reader, bytes.len()) == bytes,
        "a reader's file was written over"
    );
    for (number, (file, bytes)) in held.iter().enumerate() {
        assert!(
            all_of(file, bytes.len()) == *bytes,
            "version {number} is not what is held"
        );
    }
    drop((held, reader));
    wait::until("what was written is persisted", LONG, || {
        std::fs::read(&object).unwrap() == b"all new"
    });
    assert_eq!(std::fs::read(&path).unwrap(), b"all new");
}

/// A handle, and what it is to have.
struct Held {
    file: File,
    bytes: Vec<u8>,
    /// No other host has written since it was opened: what this host writes changes it, as on a local file system.
    is_newest: bool,
}

impl Held {
    fn open(path: &Path, expected: &[u8]) -> Held {
        Held {
            file: File::open(path).unwrap(),
            bytes: expected.to_vec(),
            is_newest: true,
        }
    }
}

/// A version is committed on another host while programs have the old one open: new opens have the new one at once, on both
/// hosts, the old handles keep the old, and either host can write.
fn another_host_writes(options: &[(&str, &str)], may_be_gone: bool) {
    let cluster = cluster_with(options);
    let far = cluster.host("127.0.0.2");
    wait::until("both workers are registered", LONG, || {
        let report = cluster.alluxio(&["fsadmin", "report", "summary"]);
        report.stdout.contains("Live Workers: 2")
    });
    let (here, there) = (cluster.mount("here"), far.mount("there"));
    let paths = [here.file("f"), there.file("f")];
    let mut expected = tree::contents(0, 100_000);
    std::fs::write(&paths[0], &expected).unwrap();
    let mut held: [Vec<Held>; 2] = Default::default();
    let mut gone = 0;
    for turn in 1..=8_u64 {
        // What is on one worker only, or still open there, is written there, whoever writes it.
        cluster.alluxio(&["fs", "persist", "/f"]).ok();
        for (host, held) in held.iter_mut().enumerate() {
            held.push(Held::open(&paths[host], &expected));
            // A program that has begun to read, and one that has not.
            held.push(Held::open(&paths[host], &expected));
            assert!(
                all_of(&held[held.len() - 1].file, expected.len()) == expected,
                "turn {turn}"
            );
        }
        // In turn: by replacing all, by appending, on either host.
        let by = usize::from(turn % 4 < 2);
        if turn % 2 == 0 {
            expected = tree::contents(turn, 100_000 + 999 * turn as usize);
            std::fs::write(&paths[by], &expected).unwrap();
        } else {
            let mut file = File::options().append(true).open(&paths[by]).unwrap();
            file.write_all(b"more").unwrap();
            drop(file);
            expected.extend_from_slice(b"more");
        }
        for held in held[by].iter_mut().filter(|held| held.is_newest) {
            held.bytes.clone_from(&expected);
        }
        held[1 - by].iter_mut().for_each(|held| held.is_newest = false);
        for path in &paths {
            for _ in 0..5 {
                assert!(
                    std::fs::read(path).unwrap() == expected,
                    "turn {turn}: {} is not new",
                    path.display()
                );
            }
            assert_eq!(path.metadata().unwrap().len(), expected.len() as u64, "turn {turn}");
        }
        for (host, held) in held.iter().enumerate() {
            for (number, held) in held.iter().enumerate() {
                let what = format!("turn {turn}, written on {by}: handle {number} on {host}");
                let found = match try_all_of(&held.file, held.bytes.len()) {
                    Ok(found) => found,
                    Err(error) if may_be_gone && error.raw_os_error() == Some(libc::ESTALE) => {
                        gone += 1;
                        continue;
                    }
                    Err(error) => panic!("{what}: {error}"),
                };
                assert!(
                    found == held.bytes,
                    "{what} does not keep its {} bytes but has {}, {}",
                    held.bytes.len(),
                    found.len(),
                    if found == expected { "the new ones" } else { "others" }
                );
                assert_eq!(held.file.metadata().unwrap().len(), held.bytes.len() as u64, "{what}");
            }
        }
    }
    eprintln!("{gone} reads of what was gone");
}

#[test]
fn a_file_that_another_host_writes_while_it_is_open() {
    another_host_writes(&[], false);
}

/// Without descriptors of the old data it may be gone; then that is what is said.
#[test]
fn a_file_that_another_host_writes_while_it_is_open_through_the_daemon() {
    another_host_writes(&[("alluxio.fuse.passthrough.enabled", "false")], true);
}
