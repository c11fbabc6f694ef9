//! Random sequences of operations on a mount and on a native directory give the same results, errnos and bytes.
//!
//! `ALLUXIO_TEST_SEED=N` replays one seed, `ALLUXIO_TEST_SEQUENCES=N` runs more than the few that fit into a test run, and
//! `ALLUXIO_TEST_WITHOUT=Link,Mkfifo` leaves operations out, to look past a difference that is known.
#![allow(clippy::unwrap_used, reason = "a test ends there")]

use alluxio_tests::cluster::Mount;
use alluxio_tests::modes::Mode;
use alluxio_tests::reference::generate::{Step, sequence};
use alluxio_tests::reference::pair::{Pair, Side};
use alluxio_tests::{Local, LocalBuilder, tools};
use std::path::Path;
use std::time::Instant;

/// Steps of a sequence: enough that files are open, mapped, renamed and removed at once.
const STEPS: usize = 400;
const PROCESSES: usize = 3;
/// The working set of a sequence is a few MiB.
const SMALL_QUOTA: &str = "1MB";

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable}={text} is no number")),
    )
}

/// Seeds to run: the one that is asked for, or `count` from `first` on.
fn seeds(first: u64, count: u64) -> Vec<u64> {
    match number("ALLUXIO_TEST_SEED") {
        Some(seed) => vec![seed],
        None => (first..first + number("ALLUXIO_TEST_SEQUENCES").unwrap_or(count)).collect(),
    }
}

fn actor() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_reference_actor"))
}

/// A native directory, on a file system that has everything that is compared.
fn native(dir: &Path) -> Side {
    let base = dir.join("native");
    std::fs::create_dir(&base).unwrap();
    open_to_all(dir);
    Side::start("native", actor(), &[&base], PROCESSES)
}

/// Other users work in it too.
fn open_to_all(dir: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// The steps of a seed, without what is to be left out.
fn steps(seed: u64, length: usize) -> Vec<Step> {
    let without = std::env::var("ALLUXIO_TEST_WITHOUT").unwrap_or_default();
    let mut steps = sequence(seed, length, PROCESSES);
    steps.retain(|step| {
        let text = format!("{:?}", step.op);
        !without
            .split(',')
            .any(|name| !name.is_empty() && text.starts_with(&format!("{name} ")))
    });
    steps
}

fn run_all(pair: &mut Pair, seeds: &[u64]) {
    let start = Instant::now();
    for seed in seeds {
        pair.run(*seed, &steps(*seed, STEPS));
    }
    println!("{} sequences of {STEPS} steps in {:?}", seeds.len(), start.elapsed());
}

fn one_mount(mode: Mode, first_seed: u64, count: u64) {
    let dir = tools::scratch("reference-");
    let local = mode.apply(LocalBuilder::at(dir.path()), SMALL_QUOTA).start();
    let ours = Side::start("mount", actor(), &[local.mount()], PROCESSES);
    let mut pair = Pair::new(ours, native(dir.path()));
    run_all(&mut pair, &seeds(first_seed, count));
    drop(pair);
    assert_clean(local);
}

/// Ends the daemon; it must not have panicked or lost anything on the way.
fn assert_clean(local: Local) {
    let (code, log) = local.stop(std::time::Duration::from_secs(120));
    assert_eq!(code, 0, "{log}");
    assert!(!log.contains("panicked") && !log.contains("ERROR"), "{log}");
}

#[test]
fn a_mount_with_passthrough_is_like_a_native_directory() {
    one_mount(Mode::Passthrough, 1_000, 8);
}

#[test]
fn a_mount_through_the_daemon_is_like_a_native_directory() {
    one_mount(Mode::Daemon, 2_000, 8);
}

#[test]
fn a_mount_with_a_small_data_folder_is_like_a_native_directory() {
    one_mount(Mode::SmallFolder, 3_000, 6);
}

/// Each process works on a mount of its own; whenever it is the other mount's turn, everything is closed first.
#[test]
fn two_mounts_are_like_one_native_directory() {
    for (mode, first_seed) in [(Mode::Passthrough, 4_000), (Mode::Daemon, 5_000)] {
        let dir = tools::scratch("reference-");
        let local = mode.apply(LocalBuilder::at(dir.path()), SMALL_QUOTA).start();
        let second = Mount::start(&local, &dir.path().join("second"), mode);
        let ours = Side::start("mounts", actor(), &[local.mount(), second.path()], PROCESSES);
        let mut pair = Pair::new(ours, native(dir.path()));
        let start = Instant::now();
        for seed in seeds(first_seed, 3) {
            pair.run(seed, &turns(steps(seed, STEPS / 2)));
        }
        println!("{}: two mounts in {:?}", mode.name(), start.elapsed());
        drop(pair);
        drop(second);
        assert_clean(local);
    }
}

/// Long turns: with a change of mounts at each step nothing would stay open.
fn turns(mut steps: Vec<Step>) -> Vec<Step> {
    const TURN: usize = 20;
    for (at, step) in steps.iter_mut().enumerate() {
        // Processes 0 and 2 are on the first mount, 1 on the second.
        step.process = if (at / TURN) % 2 == 1 { 1 } else { step.process / 2 * 2 };
    }
    steps
}

/// What was closed before kill -9 is there after it: names, attributes, bytes. So is what was open and synced.
#[test]
fn what_was_closed_or_synced_survives_a_kill_of_the_daemon() {
    for (mode, first_seed) in [(Mode::Passthrough, 6_000), (Mode::Daemon, 7_000)] {
        let dir = tools::scratch("reference-");
        let native = native(dir.path());
        let base = dir.path().join("ours");
        let mut local = mode.apply(LocalBuilder::at(&base), SMALL_QUOTA).start();
        open_to_all(&base);
        let ours = Side::start("mount", actor(), &[local.mount()], PROCESSES);
        let mut pair = Pair::new(ours, native);
        let mut trials = Vec::new();
        let start = Instant::now();
        for seed in seeds(first_seed, 4) {
            let steps = steps(seed, STEPS / 2);
            trials.push(match seed % 2 {
                // The last thing that a sequence does is to close everything.
                0 => pair.run(seed, &steps),
                _ => pair.run_and_sync(seed, &steps),
            });
            local = local.crash_and_restart();
            pair.ours().restart(PROCESSES);
            for trial in &trials {
                pair.compare_trees(trial, &format!("after kill -9 behind seed {seed}, {}", mode.name()));
            }
        }
        println!("{}: {} kills in {:?}", mode.name(), trials.len(), start.elapsed());
        drop(pair);
        assert_clean(local);
    }
}
