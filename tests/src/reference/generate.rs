//! Sequences of operations from a seed.
//!
//! Few names and few descriptors, so that operations meet each other: a file is renamed over another that is open and
//! mapped, a directory is removed where a file is about to be made.

use super::Op;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

/// Names that files, directories and links share.
const PATHS: [&str; 14] = [
    "a",
    "b",
    "c",
    "big",
    "d",
    "e",
    "d/a",
    "d/b",
    "d/d",
    "e/a",
    "e/x",
    "d/d/a",
    "d/d/b",
    "missing/a",
];
const SLOTS: usize = 4;
const MAPS: usize = 2;
/// Largest offset and length: some chunks of the worker, with odd edges.
const OFFSET_MAX: i64 = 400_000;
const LENGTH_MAX: usize = 150_000;
const XATTRS: [&str; 5] = ["user.a", "user.b", "user.long-name", "trusted.t", "nonsense"];
/// Users that own files; the actors run as some of them.
const IDS: [i64; 4] = [-1, 0, 1, 2];

/// One step: which process does what, and whether it looks at times.
#[derive(Clone, Debug)]
pub struct Step {
    /// Number of the process.
    pub process: usize,
    /// What it does.
    pub op: Op,
    /// Whether times are looked at before and after.
    pub times: bool,
}

/// Makes `length` steps for `processes` processes.
pub fn sequence(seed: u64, length: usize, processes: usize) -> Vec<Step> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut steps = Vec::with_capacity(length);
    for _ in 0..length {
        steps.push(Step {
            process: random.random_range(0..processes),
            op: operation(&mut random),
            times: random.random_ratio(1, 3),
        });
    }
    steps
}

fn path(random: &mut StdRng) -> String {
    (*PATHS.choose(random).expect("there are paths")).to_owned()
}

fn slot(random: &mut StdRng) -> usize {
    random.random_range(0..SLOTS)
}

/// Mostly small, sometimes on the edges of pages and chunks, sometimes large.
fn offset(random: &mut StdRng) -> i64 {
    match random.random_range(0..4) {
        0 => random.random_range(0..10),
        1 => i64::from(random.random_range(0..100)) * 4096,
        2 => i64::from(random.random_range(0..6)) * 65_536 + random.random_range(-1..=1i64).max(0),
        _ => random.random_range(0..OFFSET_MAX),
    }
}

fn length(random: &mut StdRng) -> usize {
    match random.random_range(0..4) {
        0 => random.random_range(0..20),
        1 => random.random_range(1..5) * 4096,
        2 => 65_536,
        _ => random.random_range(0..LENGTH_MAX),
    }
}

/// O_NONBLOCK always: opening a FIFO must not wait.
fn open_flags(random: &mut StdRng) -> i32 {
    let mut flags =
        libc::O_NONBLOCK | [libc::O_RDONLY, libc::O_RDWR, libc::O_RDWR, libc::O_WRONLY][random.random_range(0..4)];
    for (flag, one_in) in [
        (libc::O_CREAT, 2),
        (libc::O_EXCL, 8),
        (libc::O_TRUNC, 5),
        (libc::O_APPEND, 4),
        (libc::O_SYNC, 10),
        (libc::O_NOFOLLOW, 10),
        (libc::O_DIRECTORY, 20),
    ] {
        if random.random_ratio(1, one_in) {
            flags |= flag;
        }
    }
    // Alone, O_EXCL means nothing; O_CREAT with O_DIRECTORY means different things to different kernels.
    if flags & libc::O_CREAT == 0 {
        flags &= !libc::O_EXCL;
    } else {
        flags &= !libc::O_DIRECTORY;
    }
    flags
}

fn fallocate_mode(random: &mut StdRng) -> i32 {
    const KEEP: i32 = libc::FALLOC_FL_KEEP_SIZE;
    [
        0,
        KEEP,
        libc::FALLOC_FL_PUNCH_HOLE | KEEP,
        libc::FALLOC_FL_ZERO_RANGE,
        libc::FALLOC_FL_ZERO_RANGE | KEEP,
    ][random.random_range(0..5)]
}

fn operation(random: &mut StdRng) -> Op {
    match random.random_range(0..100) {
        0..60 => data_operation(random),
        60..88 => name_operation(random),
        _ => attribute_operation(random),
    }
}

fn data_operation(random: &mut StdRng) -> Op {
    let (at, seed, long) = (offset(random), random.random(), length(random));
    match random.random_range(0..60) {
        0..12 => Op::Open {
            slot: slot(random),
            path: path(random),
            flags: open_flags(random),
            mode: 0o644,
        },
        12..16 => Op::Close { slot: slot(random) },
        16..20 => Op::Read {
            slot: slot(random),
            length: long,
        },
        20..26 => Op::Write {
            slot: slot(random),
            length: long,
            seed,
        },
        26..30 => Op::Pread {
            slot: slot(random),
            offset: at,
            length: long,
        },
        30..36 => Op::Pwrite {
            slot: slot(random),
            offset: at,
            length: long,
            seed,
        },
        36..38 => Op::Seek {
            slot: slot(random),
            offset: at,
            whence: random.random_range(0..3),
        },
        38..40 => Op::Holes { slot: slot(random) },
        40..42 => Op::Truncate {
            path: path(random),
            length: at,
        },
        42..45 => Op::Ftruncate {
            slot: slot(random),
            length: at,
        },
        45..48 => Op::Fallocate {
            slot: slot(random),
            mode: fallocate_mode(random),
            offset: at,
            length: long as i64,
        },
        48..50 => Op::CopyRange {
            from: slot(random),
            to: slot(random),
            from_offset: at,
            to_offset: offset(random),
            length: long,
        },
        50..52 => Op::Fsync {
            slot: slot(random),
            data_only: random.random(),
        },
        52..54 => Op::Fstat { slot: slot(random) },
        54..56 => Op::Map {
            slot: slot(random),
            map: random.random_range(0..MAPS),
            shared: random.random_ratio(4, 5),
        },
        56 => Op::MapRead {
            map: random.random_range(0..MAPS),
            offset: at as usize,
            length: long,
        },
        57 => Op::MapWrite {
            map: random.random_range(0..MAPS),
            offset: at as usize,
            length: long,
            seed,
        },
        58 => Op::MapSync {
            map: random.random_range(0..MAPS),
        },
        _ => Op::Unmap {
            map: random.random_range(0..MAPS),
        },
    }
}

fn name_operation(random: &mut StdRng) -> Op {
    match random.random_range(0..28) {
        0..4 => Op::Stat { path: path(random) },
        4..6 => Op::List { path: path(random) },
        6..10 => Op::Mkdir {
            path: path(random),
            mode: if random.random_ratio(1, 4) { 0o2775 } else { 0o777 },
        },
        10..12 => Op::Rmdir { path: path(random) },
        12..16 => Op::Unlink { path: path(random) },
        16..21 => Op::Rename {
            from: path(random),
            to: path(random),
            flags: [0, 0, 0, libc::RENAME_NOREPLACE, libc::RENAME_EXCHANGE][random.random_range(0..5)],
        },
        21..24 => Op::Link {
            from: path(random),
            to: path(random),
        },
        24 => Op::Symlink {
            target: path(random),
            path: path(random),
        },
        25 => Op::Readlink { path: path(random) },
        26 => Op::Mkfifo {
            path: path(random),
            mode: 0o640,
        },
        _ => Op::Access {
            path: path(random),
            mode: random.random_range(0..8),
        },
    }
}

fn attribute_operation(random: &mut StdRng) -> Op {
    let name = (*XATTRS.choose(random).expect("there are names")).to_owned();
    match random.random_range(0..12) {
        0..3 => Op::Chmod {
            path: path(random),
            mode: [0o644, 0o600, 0o755, 0o4755, 0o2755, 0o1777, 0o444, 0][random.random_range(0..8)],
        },
        3..5 => Op::Chown {
            path: path(random),
            uid: *IDS.choose(random).expect("there are ids"),
            gid: *IDS.choose(random).expect("there are ids"),
        },
        5..7 => {
            let time = |random: &mut StdRng| {
                random
                    .random_ratio(2, 3)
                    .then(|| random.random_range(0..2_000_000_000_000_000_000))
            };
            Op::Utimens {
                path: path(random),
                atime_ns: time(random),
                mtime_ns: time(random),
            }
        }
        7..9 => Op::SetXattr {
            path: path(random),
            name,
            length: random.random_range(0..200),
            seed: random.random(),
            flags: [0, 0, libc::XATTR_CREATE, libc::XATTR_REPLACE][random.random_range(0..4)],
        },
        9 => Op::GetXattr {
            path: path(random),
            name,
        },
        10 => Op::ListXattr { path: path(random) },
        _ => Op::RemoveXattr {
            path: path(random),
            name,
        },
    }
}
