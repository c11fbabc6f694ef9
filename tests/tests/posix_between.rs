//! Two mounts of one namespace: what one does, the other sees.
#![allow(clippy::unwrap_used, reason = "a test ends there")]

use alluxio_tests::LocalBuilder;
use alluxio_tests::cluster::Mount;
use alluxio_tests::modes::Mode;
use alluxio_tests::{tools, tree};
use std::fs::File;
use std::os::unix::fs::FileExt;

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
