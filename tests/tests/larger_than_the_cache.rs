//! Files larger than the disk of the cache: what is written is uploaded while it is written, and goes through at any size.

#![allow(clippy::unwrap_used, reason = "a test ends there")]
#![allow(clippy::disallowed_methods, reason = "the system call is what is tested")]

use alluxio_tests::disk::Disk;
use alluxio_tests::modes::Mode;
use alluxio_tests::process::sh;
use alluxio_tests::proxy::{Fault, Proxy};
use alluxio_tests::s3::options_for;
use alluxio_tests::{Local, LocalBuilder, S3Server, Versity, tools, tree, wait};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(120);
const DISK_MIB: u64 = 64;
const MIB: usize = 1 << 20;
const PAGE: usize = 4096;

/// A small disk for the cache, a store, and what is expected of one file.
struct Stage {
    disk: Disk,
    s3: Option<Versity>,
    dir: tempfile::TempDir,
}

impl Stage {
    fn on_s3(name: &str) -> Stage {
        Stage {
            s3: Some(Versity::start()),
            ..Stage::on_folder(name)
        }
    }

    fn on_folder(name: &str) -> Stage {
        let dir = tools::scratch("larger-");
        std::fs::create_dir(dir.path().join("store")).unwrap();
        Stage {
            disk: Disk::with_mib(name, DISK_MIB),
            s3: None,
            dir,
        }
    }

    /// Without descriptors, on which nobody could be made to wait.
    fn builder(&self) -> LocalBuilder {
        let cache = self.disk.path().join("cache");
        let builder = LocalBuilder::at(self.dir.path()).option(
            "alluxio.worker.tieredstore.level0.dirs.path",
            cache.display().to_string(),
        );
        let builder = match &self.s3 {
            Some(server) => builder.ufs("s3://bucket").options(options_for(&server.endpoint())),
            None => builder.ufs(self.store().display().to_string()),
        };
        Mode::Daemon.apply(builder, "")
    }

    fn store(&self) -> PathBuf {
        match &self.s3 {
            Some(server) => server.bucket("bucket"),
            None => self.dir.path().join("store"),
        }
    }

    fn free_bytes(&self) -> u64 {
        let stat = nix::sys::statvfs::statvfs(self.disk.path()).unwrap();
        stat.blocks_available() * stat.fragment_size()
    }

    fn expected(&self, name: &str) -> File {
        let path = self.dir.path().join(format!("expected-{name}"));
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)
            .unwrap()
    }
}

/// Bytes that say where they are: no two pages of a file are the same.
fn pattern(offset: u64, bytes: usize, salt: u64) -> Vec<u8> {
    let mut out = tree::contents(salt, PAGE).repeat(bytes.div_ceil(PAGE));
    for (number, page) in out.chunks_mut(PAGE).enumerate() {
        page[..8].copy_from_slice(&(offset + (number * PAGE) as u64).to_le_bytes());
    }
    out.truncate(bytes);
    out
}

/// Writes `mib` MiB of the pattern from `from_mib` on.
fn write_pattern(file: &File, from_mib: u64, mib: u64, salt: u64) -> std::io::Result<()> {
    for at in from_mib..from_mib + mib {
        file.write_all_at(&pattern(at << 20, MIB, salt), at << 20)?;
    }
    Ok(())
}

#[track_caller]
fn assert_pattern(file: &File, from: u64, bytes: usize, salt: u64) {
    let mut found = vec![0; bytes];
    file.read_exact_at(&mut found, from).unwrap();
    let start = from / PAGE as u64 * PAGE as u64;
    let skip = (from - start) as usize;
    assert!(found == pattern(start, skip + bytes, salt)[skip..], "at {from}");
}

#[track_caller]
fn assert_same(one: &Path, other: &File) {
    let (one, mut at) = (File::open(one).unwrap(), 0);
    let length = other.metadata().unwrap().len();
    assert_eq!(one.metadata().unwrap().len(), length);
    let (mut found, mut wanted) = (vec![0; MIB], vec![0; MIB]);
    while at < length {
        let bytes = MIB.min((length - at) as usize);
        one.read_exact_at(&mut found[..bytes], at).unwrap();
        other.read_exact_at(&mut wanted[..bytes], at).unwrap();
        assert!(found[..bytes] == wanted[..bytes], "in the MiB at {at}");
        at += bytes as u64;
    }
}

#[track_caller]
fn persist(local: &Local, name: &str) {
    local.alluxio(&["fs", "persist", &format!("/{name}")]).ok();
}

/// Writes a file of four times the disk, changes it in many places, and looks at it here and in the store.
fn larger_than_the_disk(stage: &Stage) {
    let local = stage.builder().start();
    let (path, expected) = (local.mount().join("big"), stage.expected("big"));
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)
        .unwrap();
    let total_mib = 4 * DISK_MIB;
    let total = total_mib << 20;
    write_pattern(&file, 0, total_mib, 1).unwrap_or_else(|error| panic!("{error}\n{}", local.log()));
    write_pattern(&expected, 0, total_mib, 1).unwrap();
    let mut random = StdRng::seed_from_u64(7);
    let other = File::open(&path).unwrap();
    for _ in 0..60 {
        let at = random.random_range(0..total - 300_000);
        assert_pattern(&file, at, random.random_range(1..200_000), 1);
        assert_pattern(&other, at, 5000, 1);
    }
    drop(other);
    // In place, the header last, and behind the end.
    for round in 0..60u64 {
        let at = random.random_range(0..total - 300_000);
        let bytes = tree::contents(round, random.random_range(1..150_000));
        file.write_all_at(&bytes, at).unwrap();
        expected.write_all_at(&bytes, at).unwrap();
    }
    for (at, length) in [(0, 100), (total, 300_001)] {
        let bytes = tree::contents(at + 99, length);
        file.write_all_at(&bytes, at).unwrap();
        expected.write_all_at(&bytes, at).unwrap();
    }
    let mut appending = File::options().append(true).open(&path).unwrap();
    let bytes = tree::contents(17, 3_000_001);
    appending.write_all(&bytes).unwrap();
    nix::unistd::close(appending).unwrap();
    expected.write_all_at(&bytes, total + 300_001).unwrap();
    assert_same(&path, &expected);
    file.sync_all().unwrap();
    nix::unistd::close(file).unwrap();
    assert_same(&path, &expected);
    persist(&local, "big");
    assert_same(&stage.store().join("big"), &expected);
    // The same again, in place: it is there already, and no more fits than before.
    let file = File::options().write(true).open(&path).unwrap();
    write_pattern(&file, 0, total_mib, 2).unwrap_or_else(|error| panic!("{error}\n{}", local.log()));
    write_pattern(&expected, 0, total_mib, 2).unwrap();
    nix::unistd::close(file).unwrap();
    assert_same(&path, &expected);
    persist(&local, "big");
    assert_same(&stage.store().join("big"), &expected);
    // Opened, read and closed without a change, and emptied.
    let opened = File::options().read(true).write(true).open(&path).unwrap();
    assert_pattern(&opened, 5 << 20, 3 << 20, 2);
    drop(opened);
    assert_same(&path, &expected);
    drop(File::create(&path).unwrap());
    std::fs::write(&path, "small").unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"small");
    assert!(local.log().contains("spilled a file"), "{}", local.log());
}

#[test]
fn a_file_larger_than_the_disk_goes_to_a_folder() {
    larger_than_the_disk(&Stage::on_folder("folder"));
}

#[test]
fn a_file_larger_than_the_disk_goes_to_s3() {
    larger_than_the_disk(&Stage::on_s3("s3"));
}

#[test]
fn two_writers_share_the_disk_and_small_files_find_room() {
    let stage = Stage::on_s3("two");
    let local = stage.builder().start();
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (1..3u64)
            .map(|salt| {
                let path = local.mount().join(format!("w{salt}"));
                scope.spawn(move || {
                    let file = File::create(path).unwrap();
                    write_pattern(&file, 0, 2 * DISK_MIB, salt).unwrap();
                    nix::unistd::close(file).unwrap();
                })
            })
            .collect();
        let small = scope.spawn(|| {
            let mut number = 0;
            while !is_done.load(Ordering::Relaxed) {
                let line = format!("head -c 8192 /dev/zero > {}/s{number}", local.mount().display());
                sh(&line, Duration::from_secs(60)).ok();
                number += 1;
                std::thread::sleep(Duration::from_millis(100));
            }
            number
        });
        for writer in writers {
            let ended = writer.join();
            is_done.store(true, Ordering::Relaxed);
            ended.unwrap();
        }
        assert!(small.join().unwrap() > 3);
    });
    for salt in 1..3 {
        let name = format!("w{salt}");
        persist(&local, &name);
        for path in [local.mount().join(&name), stage.store().join(&name)] {
            let file = File::open(path).unwrap();
            assert_eq!(file.metadata().unwrap().len(), (2 * DISK_MIB) << 20);
            for at in 0..2 * DISK_MIB {
                assert_pattern(&file, at << 20, MIB, salt);
            }
        }
    }
}

#[test]
fn a_crash_at_any_moment_takes_nothing_that_was_written() {
    let stage = Stage::on_s3("crash");
    let mut local = stage.builder().start();
    for round in 0..3u64 {
        let name = format!("f{round}");
        let path = local.mount().join(&name);
        let (written, synced) = (AtomicU64::new(0), AtomicU64::new(0));
        let salt = round + 1;
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let file = File::create(&path).unwrap();
                for at in 0..3 * DISK_MIB {
                    if write_pattern(&file, at, 1, salt).is_err() {
                        return;
                    }
                    written.store((at + 1) << 20, Ordering::Relaxed);
                    if at % 16 == 5 && file.sync_data().is_ok() {
                        synced.store((at + 1) << 20, Ordering::Relaxed);
                    }
                }
            });
            // In the middle of the first spill, just after it, and in a later one.
            let from = (DISK_MIB - 15 + round * 25) << 20;
            wait::until("so much is written", LIMIT, || written.load(Ordering::Relaxed) >= from);
            std::thread::sleep(Duration::from_millis(40 * round));
            local.process().kill();
            writer.join().unwrap();
        });
        local = local.crash_and_restart();
        let path = local.mount().join(&name);
        let (written, synced) = (written.into_inner(), synced.into_inner());
        assert!(synced > 0 && synced <= written);
        let is_back = || std::fs::metadata(&path).is_ok_and(|meta| meta.len() >= written);
        wait::until("it is recovered", LIMIT, is_back);
        let file = File::options().read(true).write(true).open(&path).unwrap();
        let length = file.metadata().unwrap().len();
        for at in 0..length >> 20 {
            assert_pattern(&file, at << 20, MIB, salt);
        }
        // It can be written on.
        write_pattern(&file, length >> 20, 20, salt).unwrap();
        nix::unistd::close(file).unwrap();
        persist(&local, &name);
        let object = File::open(stage.store().join(&name)).unwrap();
        let mib = (length >> 20) + 20;
        assert_eq!(object.metadata().unwrap().len(), mib << 20);
        for at in 0..mib {
            assert_pattern(&object, at << 20, MIB, salt);
        }
        std::fs::remove_file(&path).unwrap();
    }
}

#[test]
fn names_change_and_go_while_a_file_is_spilled() {
    let stage = Stage::on_s3("names");
    let local = stage.builder().start();
    let (from, to) = (local.mount().join("from"), local.mount().join("to"));
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&from)
        .unwrap();
    write_pattern(&file, 0, 2 * DISK_MIB, 1).unwrap();
    std::fs::rename(&from, &to).unwrap();
    write_pattern(&file, 2 * DISK_MIB, DISK_MIB, 1).unwrap_or_else(|error| panic!("{error}\n{}", local.log()));
    for at in 0..3 * DISK_MIB {
        assert_pattern(&file, at << 20, MIB, 1);
    }
    nix::unistd::close(file).unwrap();
    persist(&local, "to");
    assert!(!stage.store().join("from").exists());
    let object = File::open(stage.store().join("to")).unwrap();
    for at in 0..3 * DISK_MIB {
        assert_pattern(&object, at << 20, MIB, 1);
    }
    // Removed while it is open: whoever has it open has all of it, until the last close.
    let gone = local.mount().join("gone");
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&gone)
        .unwrap();
    write_pattern(&file, 0, 2 * DISK_MIB, 3).unwrap();
    std::fs::remove_file(&gone).unwrap();
    std::thread::sleep(Duration::from_secs(2));
    for at in 0..2 * DISK_MIB {
        assert_pattern(&file, at << 20, MIB, 3);
    }
    drop(file);
    wait::until("its object is gone", LIMIT, || !stage.store().join("gone").exists());
    wait::until("its room is free", LIMIT, || stage.free_bytes() > (DISK_MIB / 2) << 20);
}

/// Somebody else puts another object in the place of the one that a part of an open file is in.
#[test]
fn an_object_that_somebody_replaces_is_not_mixed_in() {
    let stage = Stage::on_folder("replaced");
    let local = stage.builder().start();
    let (path, object) = (local.mount().join("big"), stage.store().join("big"));
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)
        .unwrap();
    write_pattern(&file, 0, DISK_MIB + 20, 4).unwrap();
    wait::until("a part is stored", LIMIT, || local.log().contains("spilled a file"));
    let length = object.metadata().unwrap().len();
    std::fs::remove_file(&object).unwrap();
    std::fs::write(&object, pattern(0, length as usize, 8)).unwrap();
    let mut failed = 0;
    for at in 0..DISK_MIB + 20 {
        let mut found = vec![0; MIB];
        match file.read_exact_at(&mut found, at << 20) {
            Ok(()) => assert!(found == pattern(at << 20, MIB, 4), "in MiB {at}"),
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(libc::EIO), "{error}");
                failed += 1;
            }
        }
    }
    assert!(failed > 0, "nothing was given up");
    // Written anew, it is whole again.
    file.set_len(0).unwrap();
    write_pattern(&file, 0, 5, 9).unwrap();
    nix::unistd::close(file).unwrap();
    persist(&local, "big");
    assert_eq!(object.metadata().unwrap().len(), 5 << 20);
    assert_pattern(&File::open(object).unwrap(), 0, 5 << 20, 9);
}

/// Fills the disk with what cannot be stored, and finds the end of it in time.
fn assert_full(local: &Local, name: &str, limit: Duration) {
    let path = local.mount().join(name);
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)
        .unwrap();
    let mut at = 0;
    let error = loop {
        let begun = Instant::now();
        let written = write_pattern(&file, at, 1, 5);
        assert!(
            begun.elapsed() < limit,
            "a write took {:?}\n{}",
            begun.elapsed(),
            local.log()
        );
        match written {
            Ok(()) => at += 1,
            Err(error) => break error,
        }
        assert!(at < 2 * DISK_MIB, "all of it was written");
    };
    assert_eq!(error.raw_os_error(), Some(libc::ENOSPC), "{error}\n{}", local.log());
    for at in 0..at {
        assert_pattern(&file, at << 20, MIB, 5);
    }
    drop(file);
    std::fs::remove_file(&path).unwrap();
}

fn assert_usable(local: &Local, name: &str) {
    let (path, content) = (local.mount().join(name), tree::contents(9, 3 << 20));
    wait::until("it can be written", LIMIT, || std::fs::write(&path, &content).is_ok());
    assert!(std::fs::read(&path).unwrap() == content);
}

#[test]
fn what_is_not_to_be_stored_ends_with_the_disk() {
    let stage = Stage::on_folder("kept");
    let builder = stage
        .builder()
        .option("alluxio.user.file.writetype.default", "MUST_CACHE");
    let local = builder.start();
    assert_full(&local, "full", Duration::from_secs(40));
    assert_usable(&local, "after");
    // Room that is asked for at once cannot be spilled.
    let big = File::create(local.mount().join("allocated")).unwrap();
    // SAFETY: no memory is involved.
    let result = unsafe { libc::fallocate(big.as_raw_fd(), 0, 0, 1 << 30) };
    assert_eq!(
        (result, std::io::Error::last_os_error().raw_os_error()),
        (-1, Some(libc::ENOSPC))
    );
}

#[test]
fn a_store_that_refuses_ends_the_writing_and_not_what_was_written() {
    let stage = Stage::on_s3("refuses");
    let proxy = Proxy::start(&stage.s3.as_ref().unwrap().endpoint());
    let local = stage.builder().options(options_for(&proxy.endpoint())).start();
    for method in ["PUT", "POST"] {
        proxy.fault(method, "", Fault::Status(403), usize::MAX);
    }
    assert_full(&local, "full", Duration::from_secs(90));
    proxy.heal();
    assert_usable(&local, "after");
    let file = File::create(local.mount().join("big")).unwrap();
    wait::until("a large file goes through again", LIMIT, || {
        write_pattern(&file, 0, 2 * DISK_MIB, 6).is_ok()
    });
    nix::unistd::close(file).unwrap();
    persist(&local, "big");
    let object = File::open(stage.store().join("big")).unwrap();
    for at in 0..2 * DISK_MIB {
        assert_pattern(&object, at << 20, MIB, 6);
    }
}
