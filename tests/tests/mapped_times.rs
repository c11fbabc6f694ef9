//! A store into a shared mapping goes to the local file alone; every way of asking shows soon that it happened.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use alluxio_tests::cluster::Mount;
use alluxio_tests::modes::Mode;
use alluxio_tests::process::sh;
use alluxio_tests::{LocalBuilder, tools, wait};
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

/// "Soon", on a machine that may be busy.
const SOON: Duration = Duration::from_secs(5);
const LIMIT: Duration = Duration::from_secs(30);
const BYTES: usize = 64 << 10;

fn by_path(path: &Path) -> i64 {
    let meta = fs::metadata(path).unwrap();
    meta.mtime() * 1_000_000_000 + meta.mtime_nsec()
}

fn by_descriptor(file: &File) -> i64 {
    let meta = file.metadata().unwrap();
    meta.mtime() * 1_000_000_000 + meta.mtime_nsec()
}

/// What ls(1) and stat(1) print, processes of their own.
fn by_program(path: &Path) -> String {
    let path = tools::text(path);
    sh(&format!("stat -c %y {path}; ls -l --time-style=full-iso {path}"), LIMIT).ok()
}

#[test]
fn a_store_into_a_mapping_moves_mtime_for_everybody() {
    let local = LocalBuilder::new().start();
    let dir = tools::scratch("other-");
    let other = Mount::start(&local, &dir.path().join("m"), Mode::Passthrough);
    for (name, is_new) in [("old", false), ("new", true)] {
        let path = local.mount().join(name);
        if !is_new {
            fs::write(&path, vec![b'-'; BYTES]).unwrap();
            // Sealed and closed for good: what the kernel hears of it now it may believe for long.
            wait::until("the version is closed", LIMIT, || {
                local.alluxio(&["fs", "persist", &format!("/{name}")]).code == 0
            });
            by_path(&path);
        }
        let file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .unwrap();
        file.set_len(BYTES as u64).unwrap();
        let may = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping, used below within its length, and taken off before the file goes.
        let map = unsafe { libc::mmap(std::ptr::null_mut(), BYTES, may, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        assert_ne!(map, libc::MAP_FAILED);
        for round in 0..3_u8 {
            let before = by_path(&path);
            let shown = by_program(&path);
            assert_eq!(before, by_descriptor(&file));
            // A page that was not dirtied yet: only those move a time, on any file system.
            let at = usize::from(round) * 4096;
            // SAFETY: within the mapping, which nobody else uses.
            unsafe { map.cast::<u8>().add(at).write_volatile(b'a' + round) };
            wait::until("stat by path", SOON, || by_path(&path) > before);
            wait::until("fstat", SOON, || by_descriptor(&file) > before);
            wait::until("stat(1) and ls(1)", SOON, || by_program(&path) != shown);
        }
        // The mapping outlives its descriptor.
        drop(file);
        let before = by_path(&path);
        // SAFETY: as above.
        unsafe { map.cast::<u8>().add(8 * 4096).write_volatile(b'z') };
        wait::until("stat by path, without a descriptor", SOON, || by_path(&path) > before);
        wait::until("stat on another mount", LIMIT, || {
            by_path(&other.path().join(name)) > before
        });
        // SAFETY: mapped above, and not used any more.
        assert_eq!(unsafe { libc::munmap(map, BYTES) }, 0);
        wait::until("both mounts and the store agree", LIMIT, || {
            by_path(&path) == by_path(&other.path().join(name))
        });
        assert_eq!(
            fs::read(other.path().join(name)).unwrap()[..2],
            *if is_new { b"a\0" } else { b"a-" }
        );
    }
}
