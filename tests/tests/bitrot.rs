//! Bits that flip on the cache disk while the cluster is down, read through real mounts.

#![allow(clippy::unwrap_used, reason = "a test ends there")]

use alluxio_tests::{Local, LocalBuilder, tree, wait};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);
const FILES: u64 = 24;
const BYTES: usize = 8 << 20;
const BITS: u64 = 200;

/// Data files of the cache, longest first.
fn data_files(local: &Local) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let shards = std::fs::read_dir(local.data().join("cache/data")).unwrap();
    for shard in shards {
        for file in std::fs::read_dir(shard.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            if path.extension().is_some_and(|end| end == "data") {
                found.push(path);
            }
        }
    }
    found.sort_by_key(|path| std::cmp::Reverse(path.metadata().unwrap().len()));
    found
}

fn flip(path: &PathBuf, offset: u64, bit: u64) {
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    byte[0] ^= 1 << (bit % 8);
    file.write_all_at(&byte, offset).unwrap();
}

fn flipped_bits_reach_no_reader(passthrough: bool) {
    let local = LocalBuilder::new()
        .option("alluxio.fuse.passthrough.enabled", passthrough.to_string())
        .start();
    let content = |number: u64| tree::contents(number + 1, BYTES);
    for number in 0..FILES {
        std::fs::write(local.mount().join(number.to_string()), content(number)).unwrap();
    }
    let is_persisted = || {
        local
            .alluxio(&["fsadmin", "report"])
            .stdout
            .contains("Not Yet Persisted: 0")
    };
    wait::until("everything is in the store", LIMIT, is_persisted);
    let files: Vec<PathBuf> = data_files(&local).into_iter().take(FILES as usize).collect();
    assert!(files.iter().all(|file| file.metadata().unwrap().size() == BYTES as u64));
    let local = local.restart_after(LIMIT, || {
        for bit in 0..BITS {
            flip(&files[(bit % FILES) as usize], bit * 7_368_787 % BYTES as u64, bit);
        }
    });
    let wrong = |local: &Local| {
        let right = |number: &u64| std::fs::read(local.mount().join(number.to_string())).unwrap() == content(*number);
        (0..FILES).filter(|number| !right(number)).count()
    };
    assert_eq!(wrong(&local), 0, "wrong reads right after the start");
    // What passes through by and by is right as well.
    assert_eq!(wrong(&local), 0, "wrong reads later");
}

#[test]
fn flipped_bits_reach_no_reader_by_passthrough() {
    flipped_bits_reach_no_reader(true);
}

#[test]
fn flipped_bits_reach_no_reader_by_the_daemon() {
    flipped_bits_reach_no_reader(false);
}

/// In no store: the range is an error, the rest is there, a person is told, and the bytes stay.
#[test]
fn damage_without_another_copy_is_an_error_and_is_reported() {
    let local = LocalBuilder::new()
        .option("alluxio.user.file.writetype.default", "MUST_CACHE")
        .start();
    let content = tree::contents(7, BYTES);
    std::fs::write(local.mount().join("only"), &content).unwrap();
    let path = data_files(&local).remove(0);
    let local = local.restart_after(LIMIT, || flip(&path, 3 << 20, 5));
    let damaged = std::fs::read(&path).unwrap();
    let file = std::fs::File::open(local.mount().join("only")).unwrap();
    let mut bytes = vec![0; 64 << 10];
    let error = file.read_exact_at(&mut bytes, 3 << 20).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EIO));
    file.read_exact_at(&mut bytes, 5 << 20).unwrap();
    assert!(bytes == content[5 << 20..][..bytes.len()]);
    let line = "/only: bytes 3145728 to 3211264 on";
    let is_reported = || local.alluxio(&["fsadmin", "report"]).stdout.contains(line);
    wait::until("the damage is reported", LIMIT, is_reported);
    assert!(std::fs::read(&path).unwrap() == damaged, "the bytes are kept");
    let again = local.restart(LIMIT).0;
    let is_reported = || again.alluxio(&["fsadmin", "report"]).stdout.contains(line);
    wait::until("the damage is reported after a restart", LIMIT, is_reported);
}
