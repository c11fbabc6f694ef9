//! Power cuts under load: see `alluxio_tests::powercut`.
#![allow(clippy::unwrap_used, reason = "a test ends there")]

use alluxio_tests::cluster::START_LIMIT;
use alluxio_tests::powercut::bare::run_bare;
use alluxio_tests::powercut::disk::PowerDisk;
use alluxio_tests::powercut::layer::SECTOR_BYTES;
use alluxio_tests::powercut::load::Map;
use alluxio_tests::powercut::rig::{Plan, Scenario, run_plan};
use alluxio_tests::tools;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

fn disk_server() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_powercut_disk"))
}

/// A page for O_DIRECT.
#[repr(align(4096))]
struct Page([u8; 4096]);

/// What the checker stands on: synced data is never lost, unsynced data sometimes is, wherever it waited, and ext4 mounts.
#[test]
fn power_cut_file_system_tells_the_truth() {
    const ROUNDS: u8 = 12;
    const PAGES: u64 = 16;
    let dir = tools::scratch("powercut-");
    let mut disk = PowerDisk::new(disk_server(), dir.path(), 128);
    let direct_path = disk.path().join("direct");
    let direct = File::create(&direct_path).unwrap();
    direct.write_all_at(&vec![0; (PAGES * 4096) as usize], 0).unwrap();
    direct.sync_all().unwrap();
    drop(direct);
    let (mut kept, mut lost, mut cached_lost) = (0, 0, 0);
    let mut before = vec![0u8; (PAGES * 8) as usize];
    for round in 1..=ROUNDS {
        let name = |kind: &str| disk.path().join(format!("{kind}-{round}"));
        let mut synced = File::create(name("synced")).unwrap();
        synced.write_all(&[round; 100_000]).unwrap();
        synced.sync_all().unwrap();
        File::open(disk.path()).unwrap().sync_all().unwrap();
        std::fs::write(name("cached"), [round; 100_000]).unwrap();
        // Past the page cache, into the disk's own.
        let direct = OpenOptions::new()
            .write(true)
            .custom_flags(libc::O_DIRECT)
            .open(&direct_path)
            .unwrap();
        for page in 0..PAGES {
            direct.write_all_at(&Page([round; 4096]).0, page * 4096).unwrap();
        }
        drop((direct, synced));
        disk.freeze();
        disk.off();
        disk.cut(u64::from(round)).unwrap();
        for earlier in 1..=round {
            let found = std::fs::read(disk.path().join(format!("synced-{earlier}"))).unwrap();
            assert!(
                found == vec![earlier; 100_000],
                "round {round}: what was synced in round {earlier} is lost"
            );
        }
        if std::fs::read(disk.path().join(format!("cached-{round}"))).is_err() {
            cached_lost += 1;
        }
        let found = std::fs::read(&direct_path).unwrap();
        for (sector, bytes) in found.chunks(SECTOR_BYTES).enumerate() {
            let is_one = [round, before[sector]].contains(&bytes[0]) && bytes.iter().all(|byte| *byte == bytes[0]);
            assert!(is_one, "round {round}: sector {sector} is neither old nor new");
            match bytes[0] == round {
                true => kept += 1,
                false => lost += 1,
            }
            before[sector] = bytes[0];
        }
    }
    disk.fsck().unwrap();
    assert!(
        kept > 10 && lost > 10 && cached_lost > 0,
        "sectors written and not synced: {kept} kept, {lost} lost; files in the page cache lost: {cached_lost}"
    );
}

/// Cuts of an ordinary test run, a minute at most.
const CUTS: u64 = 12;
/// The seed of an ordinary test run: failures should be the product's, not the day's.
const SEED: u64 = 1;

fn number(variable: &str, default: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{variable}={text} is no number")),
        Err(_) => default,
    }
}

fn plan(lying: bool) -> Plan {
    Plan {
        disk: disk_server().to_owned(),
        load: env!("CARGO_BIN_EXE_powercut_load").into(),
        seed: number("ALLUXIO_TEST_SEED", SEED),
        cuts: number("ALLUXIO_TEST_POWER_CUTS", CUTS),
        lying,
    }
}

/// What was closed, fsynced or msynced is there after every cut, every file is what its writer made it at some moment, nothing
/// is EIO, and the start is short. `ALLUXIO_TEST_POWER_CUTS=200` cuts more often, `ALLUXIO_TEST_SEED=N` otherwise.
#[test]
fn nothing_acknowledged_is_lost_by_power_cuts() {
    let report = run_plan(&plan(false)).unwrap_or_else(|why| {
        panic!(
            "{why}\n\nreplay: ALLUXIO_TEST_SEED={} ALLUXIO_TEST_POWER_CUTS={} cargo test -p alluxio-tests --test power_cut nothing",
            plan(false).seed,
            plan(false).cuts
        )
    });
    println!("{report:?}");
    assert!(report.steps > 0 && report.cuts >= plan(false).cuts, "{report:?}");
    assert!(report.starts[0] <= start_limit(), "slow starts: {:?}", report.starts);
}

/// The promise is three seconds, of an optimised build; that is what `ALLUXIO_TEST_BIN` names.
fn start_limit() -> Duration {
    match std::env::var_os("ALLUXIO_TEST_BIN") {
        Some(_) => Duration::from_secs(3),
        None => START_LIMIT,
    }
}

/// What the checker demands, a local file system keeps, where the load syncs what only the cluster promises by itself. So a
/// failure of the cluster is not one of the checker.
#[test]
fn the_checker_holds_for_ext4_itself() {
    let mut plan = plan(false);
    plan.cuts = plan.cuts.max(20);
    let report = run_bare(&plan).unwrap_or_else(|why| panic!("{why}"));
    println!("{report:?}");
    assert!(report.steps > 0 && report.writes.1 > 0, "{report:?}");
}

/// A disk that forgets what it was told to sync is noticed: the checker sees losses, if there are any.
#[test]
fn a_lying_disk_is_found_out() {
    let mut plan = plan(true);
    plan.cuts = 10;
    let why = run_plan(&plan).expect_err("losses are found on a disk that lies");
    println!("{why}");
}

const FILE_BYTES: usize = 300_000;

/// Opened for reading and writing with more flags; it stays open over the cut.
fn open(path: &Path, flags: i32) -> File {
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(flags);
    options.open(path).unwrap()
}

/// Stores `bytes` at `offset` through a mapping of a file of [`FILE_BYTES`], and makes them durable.
fn store(file: &File, offset: usize, bytes: &[u8]) -> Map {
    let map = Map::new(file, FILE_BYTES).unwrap();
    map.store(offset, bytes);
    map.sync(offset, bytes.len()).unwrap();
    map
}

/// What is found after a cut, when it has its final state: whoever opens for writing waits for that.
fn found(scenario: &Scenario<'_>, name: &str) -> Vec<u8> {
    let path = scenario.mount().join(name);
    drop(open(&path, 0));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{name}: {error}; {}", scenario.said()))
}

/// msync(2) by passthrough reaches the local file alone: neither us nor its sidecar. And what was fetched is not on the disk yet
/// when it becomes ours.
#[test]
fn what_was_msynced_is_there_whatever_else_was_not() {
    let plan = plan(false);
    let mut scenario = Scenario::new(&plan);
    let mount = scenario.mount().to_owned();
    let old = vec![b'o'; FILE_BYTES];
    for name in ["kept", "fetched", "emptied", "patched", "closed"] {
        std::fs::write(mount.join(name), &old).unwrap();
    }
    scenario.command(&["fs", "persist", "/"]);
    scenario.command(&["fs", "free", "/fetched", "/patched"]);
    for name in ["fetched", "patched"] {
        assert!(std::fs::read(mount.join(name)).unwrap() == old);
    }
    let new = open(&mount.join("new"), libc::O_CREAT | libc::O_EXCL);
    new.set_len(FILE_BYTES as u64).unwrap();
    let kept = open(&mount.join("kept"), 0);
    let fetched = open(&mount.join("fetched"), 0);
    let emptied = open(&mount.join("emptied"), libc::O_TRUNC);
    emptied.set_len(FILE_BYTES as u64).unwrap();
    let patched = open(&mount.join("patched"), 0);
    patched.write_all_at(b"patch", 0).unwrap();
    let maps = [&new, &kept, &fetched, &emptied].map(|file| store(file, 100_000, b"msynced"));
    drop(open(&mount.join("closed"), libc::O_TRUNC));
    scenario.cut((maps, new, kept, fetched, emptied, patched));
    for (name, around) in [("new", 0), ("kept", b'o'), ("fetched", b'o'), ("emptied", 0)] {
        let bytes = found(&scenario, name);
        let is_there = bytes.len() == FILE_BYTES && &bytes[100_000..100_007] == b"msynced";
        assert!(is_there, "{name}: {}", scenario.said());
        let is_around = bytes[..100_000]
            .iter()
            .chain(&bytes[100_007..])
            .all(|byte| *byte == around);
        assert!(is_around, "{name} around it");
    }
    assert!(found(&scenario, "closed").is_empty(), "{}", scenario.said());
    let bytes = found(&scenario, "patched");
    let is_right = (bytes.starts_with(b"patch") || bytes.starts_with(b"ooooo")) && bytes[5..] == old[5..];
    assert!(is_right, "what was fetched is lost: {}", scenario.said());
}
