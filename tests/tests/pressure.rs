//! What is short: descriptors, and room that only the superuser may take. Slower, or refused for the true reason; never EIO.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use alluxio_tests::{Local, LocalBuilder, disk, wait};
use nix::sys::statvfs::statvfs;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::PathBuf;

/// Every second descriptor that the daemon may have would be one file's.
const FILES: usize = 1200;
/// Open at once for reading: more than the daemon could have open itself.
const READERS: usize = 1100;
/// Open at once for writing, each of which takes descriptors.
const WRITERS: usize = 150;
/// More of them than there can be.
const TOO_MANY_WRITERS: usize = 700;

/// Longer than anything takes that is not stuck.
const SETTLED_LIMIT: std::time::Duration = std::time::Duration::from_secs(60);

fn path(local: &Local, kind: &str, number: usize) -> PathBuf {
    local.mount().join(format!("{kind}-{}/{number}", number % 10))
}

fn content(number: usize) -> String {
    format!("file {number}\n").repeat(number % 50 + 1)
}

/// This process holds more than it is given by default, and than it lets the daemon have.
fn raise_own_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    assert!(
        hard > 4096,
        "this test needs a hard limit above 4,096 descriptors, not {hard}"
    );
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
}

#[test]
fn with_few_descriptors_it_is_slower_and_nothing_is_an_error() {
    raise_own_limit();
    let local = LocalBuilder::new().descriptors(1024).start();
    for kind in ["read", "write", "many"] {
        (0..10).for_each(|n| fs::create_dir(local.mount().join(format!("{kind}-{n}"))).unwrap());
    }
    for number in 0..FILES {
        fs::write(path(&local, "read", number), content(number)).unwrap();
    }
    let read_all = || {
        let mut readers: Vec<(usize, File)> = Vec::new();
        for number in (0..FILES).take(READERS) {
            let file = File::open(path(&local, "read", number));
            readers.push((number, file.unwrap_or_else(|error| panic!("open {number}: {error}"))));
        }
        for (number, file) in &mut readers {
            let mut text = String::new();
            file.read_to_string(&mut text)
                .unwrap_or_else(|error| panic!("read {number}: {error}"));
            assert_eq!(text, content(*number));
        }
        readers
    };
    let readers = read_all();
    let mut writers: Vec<File> = Vec::new();
    for number in 0..WRITERS {
        let file = File::create(path(&local, "write", number));
        writers.push(file.unwrap_or_else(|error| panic!("create {number}: {error}")));
    }
    for (number, file) in writers.iter_mut().enumerate() {
        file.write_all(content(number).as_bytes())
            .unwrap_or_else(|error| panic!("write {number}: {error}"));
    }
    drop((readers, writers));
    for number in 0..WRITERS {
        assert_eq!(
            fs::read_to_string(path(&local, "write", number)).unwrap(),
            content(number)
        );
    }

    // Past what there can be, the reason is said, and what is open goes on.
    let mut many = Vec::new();
    let mut refused = 0;
    for number in 0..TOO_MANY_WRITERS {
        match OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(false)
            .open(path(&local, "many", number))
        {
            Ok(file) => many.push((number, file)),
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(libc::ENFILE), "create {number}: {error}");
                refused += 1;
            }
        }
    }
    assert!(
        refused > 0 && many.len() > WRITERS,
        "{} opened, {refused} refused",
        many.len()
    );
    for (number, file) in &mut many {
        file.write_all(content(*number).as_bytes()).unwrap();
    }
    drop(read_all());
    let written: Vec<usize> = many.into_iter().map(|(number, _)| number).collect();
    for number in written {
        assert_eq!(
            fs::read_to_string(path(&local, "many", number)).unwrap(),
            content(number)
        );
    }
    let log = local.log();
    assert!(!log.contains("EIO"), "{log}");
    assert!(!log.contains("ERROR"), "{log}");
}

/// truncate(2) by path opens and closes a file by itself, and keeps nothing of it.
#[test]
fn truncating_by_path_keeps_no_descriptor() {
    const TRUNCATED: usize = 300;
    let local = LocalBuilder::new().start();
    let path = |number: usize| local.mount().join(format!("f{number}"));
    for number in 0..TRUNCATED {
        fs::write(path(number), "some text").unwrap();
    }
    let open = || fs::read_dir(format!("/proc/{}/fd", local.pid())).unwrap().count();
    // What was written lingers for a moment.
    let mut before = open();
    wait::until("nothing is closed any more", SETTLED_LIMIT, || {
        let seen = std::mem::replace(&mut before, open());
        std::thread::sleep(std::time::Duration::from_millis(500));
        seen <= before && before == open()
    });
    for number in 0..TRUNCATED {
        nix::unistd::truncate(&path(number), 4).unwrap();
    }
    wait::until("descriptors are given back", SETTLED_LIMIT, || {
        open() < before + TRUNCATED / 2
    });
    for number in 0..TRUNCATED {
        assert_eq!(fs::read_to_string(path(number)).unwrap(), "some");
    }
}

#[test]
fn what_is_kept_for_the_superuser_is_free_and_not_available() {
    let disk = disk::Disk::with_mib("reserve", 512);
    let store = disk.path().join("store");
    fs::create_dir(&store).unwrap();
    let local = LocalBuilder::new().ufs(format!("file://{}", store.display())).start();
    let (native, ours) = (statvfs(disk.path()).unwrap(), statvfs(local.mount()).unwrap());
    let mib = |blocks: u64, unit: u64| blocks * unit / (1 << 20);
    let shown = |stat: &nix::sys::statvfs::Statvfs| {
        let unit = stat.fragment_size();
        [stat.blocks(), stat.blocks_free(), stat.blocks_available()].map(|blocks| mib(blocks, unit))
    };
    assert!(shown(&native)[1] > shown(&native)[2] + 10, "{:?}", shown(&native));
    let pairs = shown(&native).into_iter().zip(shown(&ours));
    assert!(
        pairs.clone().all(|(native, ours)| native.abs_diff(ours) <= 1),
        "{:?}",
        pairs.collect::<Vec<_>>()
    );
}
