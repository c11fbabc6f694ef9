//! A cache disk that is full, by one of our files or by those of others: what is removed frees its space, and room is made
//! for what comes.

#![allow(clippy::unwrap_used, reason = "a test ends there")]

use alluxio_tests::disk::Disk;
use alluxio_tests::{Local, LocalBuilder, tree, wait};
use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

fn on_disk(disk: &Disk) -> LocalBuilder {
    let cache = disk.path().join("cache");
    LocalBuilder::new().option(
        "alluxio.worker.tieredstore.level0.dirs.path",
        cache.display().to_string(),
    )
}

fn free_bytes(disk: &Disk) -> u64 {
    let stat = nix::sys::statvfs::statvfs(disk.path()).unwrap();
    stat.blocks_available() * stat.fragment_size()
}

fn allocate(file: &File, length: i64) -> i32 {
    // SAFETY: no memory is involved.
    match unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, length) } {
        0 => 0,
        _ => std::io::Error::last_os_error().raw_os_error().unwrap(),
    }
}

fn assert_nothing_is_damaged(disk: &Disk) {
    let aside: Vec<_> = std::fs::read_dir(disk.path().join("cache/lost+found"))
        .unwrap()
        .map(|file| file.unwrap().file_name())
        .collect();
    assert!(aside.is_empty(), "put aside: {aside:?}");
}

fn assert_usable(local: &Local, name: &str) {
    let (path, content) = (local.mount().join(name), tree::contents(9, 3 << 20));
    std::fs::write(&path, &content).unwrap_or_else(|error| panic!("write {name}: {error}\n{}", local.log()));
    assert!(std::fs::read(&path).unwrap() == content);
}

#[test]
fn what_a_failed_fallocate_took_is_given_back() {
    let disk = Disk::with_mib("fallocate", 400);
    let local = on_disk(&disk).start();
    assert_usable(&local, "before");
    let before = free_bytes(&disk);
    let path = local.mount().join("big");
    let big = File::create(&path).unwrap();
    assert_eq!(allocate(&big, 3 << 30), libc::ENOSPC);
    let meta = big.metadata().unwrap();
    assert_eq!((meta.len(), meta.blocks()), (0, 0), "as it was before");
    // Not only of an empty file, and by the name that it has.
    big.write_all_at(b"some", 0).unwrap();
    assert_eq!(allocate(&big, 3 << 30), libc::ENOSPC);
    assert_eq!(std::fs::read(&path).unwrap(), b"some");
    let taken = before.saturating_sub(free_bytes(&disk));
    assert!(taken < 8 << 20, "{taken} bytes stay taken");
    drop(big);
    assert_usable(&local, "between");
    std::fs::remove_file(&path).unwrap();
    wait::until("its space is free", LIMIT, || {
        before.saturating_sub(free_bytes(&disk)) < 8 << 20
    });
    let (local, _) = local.restart(LIMIT);
    assert_usable(&local, "after");
    assert_nothing_is_damaged(&disk);
}

#[test]
fn what_is_removed_frees_its_space_also_after_a_copy_that_did_not_fit() {
    let disk = Disk::with_mib("copy", 300);
    let local = on_disk(&disk)
        .option("alluxio.user.file.writetype.default", "MUST_CACHE")
        .start();
    let before = free_bytes(&disk);
    let full = |path: &Path| {
        let file = File::create(path).unwrap();
        let piece = tree::contents(3, 1 << 20);
        let written = (0..400u64)
            .take_while(|at| file.write_all_at(&piece, at << 20).is_ok())
            .count();
        assert!((100..400).contains(&written), "{written} MiB were written");
        file
    };
    let is_free = |what: &str| {
        wait::until(what, LIMIT, || before.saturating_sub(free_bytes(&disk)) < 16 << 20);
    };
    // Removed after its close, removed while it is open, and truncated.
    let path = local.mount().join("one");
    drop(full(&path));
    std::fs::remove_file(&path).unwrap();
    is_free("the space of a removed file is free");
    let path = local.mount().join("two");
    let open = full(&path);
    std::fs::remove_file(&path).unwrap();
    drop(open);
    is_free("the space of a file that was removed while open is free");
    let path = local.mount().join("three");
    drop(full(&path));
    drop(OpenOptions::new().write(true).truncate(true).open(&path).unwrap());
    is_free("the space of a truncated file is free");
    assert_usable(&local, "after");
    // And a crash in the middle of it.
    let path = local.mount().join("four");
    let open = full(&path);
    drop(open);
    std::fs::remove_file(local.mount().join("three")).unwrap();
    let local = local.crash_and_restart();
    if let Err(error) = std::fs::remove_file(local.mount().join("four")) {
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    }
    is_free("the space is free after a crash");
    assert_usable(&local, "again");
    assert_nothing_is_damaged(&disk);
}

/// Fills what is free, as another program would.
fn fill_up(disk: &Disk, leave_bytes: u64) -> File {
    let others = File::create(disk.path().join("others")).unwrap();
    let free = free_bytes(disk).saturating_sub(leave_bytes);
    assert_eq!(allocate(&others, i64::try_from(free).unwrap()), 0);
    let zeros = vec![7; 4096];
    let mut at = free;
    while leave_bytes == 0 && others.write_all_at(&zeros, at).is_ok() {
        at += 4096;
    }
    others
}

/// Writes files and waits until nothing of them is here alone.
fn store_files(local: &Local) {
    for number in 0..8 {
        std::fs::write(
            local.mount().join(format!("f{number}")),
            tree::contents(number, 4 << 20),
        )
        .unwrap();
    }
    let is_persisted = || {
        local
            .alluxio(&["fsadmin", "report"])
            .stdout
            .contains("Not Yet Persisted: 0")
    };
    wait::until("everything is in the store", LIMIT, is_persisted);
}

fn assert_files_are_there(local: &Local) {
    for number in 0..8 {
        let found = std::fs::read(local.mount().join(format!("f{number}"))).unwrap();
        assert!(found == tree::contents(number, 4 << 20));
    }
}

#[test]
fn a_disk_filled_by_others_evicts_for_a_create() {
    let disk = Disk::with_mib("others", 300);
    let local = on_disk(&disk).start();
    store_files(&local);
    fill_up(&disk, 0);
    for round in 0..20 {
        assert_usable(&local, &format!("new{round}"));
    }
    assert_nothing_is_damaged(&disk);
    assert_files_are_there(&local);
}

#[test]
fn a_worker_starts_on_a_full_disk_and_makes_room() {
    let disk = Disk::with_mib("start", 300);
    let local = on_disk(&disk).start();
    store_files(&local);
    let local = local.restart_after(LIMIT, || drop(fill_up(&disk, 0)));
    assert_usable(&local, "new");
    assert_files_are_there(&local);
    assert_nothing_is_damaged(&disk);
}

/// A file that is open for reading and writing has the disk for its limit. Who comes after it waits for its upload, instead of being
/// refused because there is no room for the moment.
#[test]
fn who_comes_after_a_file_that_filled_the_disk_waits_for_its_upload() {
    let disk = Disk::with_mib("after", 200);
    let local = on_disk(&disk).start();
    let big = local.mount().join("big");
    let big = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(big)
        .unwrap();
    let piece = tree::contents(3, 1 << 20);
    let written = (0..200u64)
        .take_while(|at| big.write_all_at(&piece, at << 20).is_ok())
        .count();
    assert!((100..200).contains(&written), "{written} MiB were written");
    // What it could not write it was told.
    let _ = nix::unistd::close(big);
    assert_usable(&local, "next");
    assert_nothing_is_damaged(&disk);
}
