//! Writing a new file in four ways, against the same writes on the same disk without us.
//!
//! Each measurement ends with fsync (or msync), so that both sides have done the same; what close adds, sealing and the
//! journal, is a row of its own.

use super::table::Target::AtLeast;
use super::{Row, Table, median, persist_all};
use alluxio_tests::disk::Disk;
use alluxio_tests::{LocalBuilder, tree};
use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

const FILE_BYTES: u64 = 256 << 20;
const RANDOM_WRITES: u64 = 30_000;
const APPENDS: u64 = 30_000;

/// A way of writing: its name, its unit, what was promised, and how fast it is on a path.
type Way = (
    &'static str,
    &'static str,
    Option<f64>,
    fn(&Path) -> anyhow::Result<f64>,
);

const WAYS: [Way; 5] = [
    (
        "random 4 KiB writes + fsync, new file",
        "op/s",
        Some(0.85),
        random_writes,
    ),
    (
        "sequential 1 MiB writes + fsync, new file",
        "MiB/s",
        Some(0.85),
        sequential_writes,
    ),
    ("mmap write + msync, new file", "MiB/s", Some(0.8), mapped_writes),
    ("O_APPEND of 4 KiB + fsync", "op/s", Some(0.8), appends),
    (
        "sequential 1 MiB writes + fsync + close",
        "MiB/s",
        None,
        written_and_closed,
    ),
];

/// Runs the benchmark.
pub fn run(rounds: usize) -> anyhow::Result<Table> {
    let disk = Disk::new("bench-posix", 12);
    let local = LocalBuilder::at(disk.path()).start();
    let native = disk.path().join("native");
    std::fs::create_dir(&native)?;
    let mut table = Table::default();
    for (name, unit, target, way) in WAYS {
        let mut figures = [Vec::new(), Vec::new()];
        for round in 0..=rounds {
            for (side, dir) in [local.mount(), &native].into_iter().enumerate() {
                let path = dir.join(format!("file-{round}"));
                let figure = way(&path)?;
                // What the last one left to do is not the next one's.
                std::fs::remove_file(&path)?;
                persist_all(&local);
                nix::unistd::sync();
                if round > 0 {
                    figures[side].push(figure);
                }
            }
        }
        let [ours, theirs] = figures.map(median);
        table
            .rows
            .push(Row::ratio(name, unit, ours, theirs, target.map(AtLeast)));
    }
    Ok(table)
}

fn new_file(path: &Path) -> anyhow::Result<File> {
    Ok(File::options().create_new(true).read(true).write(true).open(path)?)
}

fn random_writes(path: &Path) -> anyhow::Result<f64> {
    let (file, block) = (new_file(path)?, tree::contents(1, 4 << 10));
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let start = Instant::now();
    for _ in 0..RANDOM_WRITES {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        file.write_all_at(&block, (state % (FILE_BYTES >> 12)) << 12)?;
    }
    file.sync_all()?;
    Ok(RANDOM_WRITES as f64 / start.elapsed().as_secs_f64())
}

fn write_sequentially(path: &Path) -> anyhow::Result<File> {
    let (mut file, block) = (new_file(path)?, tree::contents(2, 1 << 20));
    for _ in 0..FILE_BYTES >> 20 {
        file.write_all(&block)?;
    }
    file.sync_all()?;
    Ok(file)
}

fn sequential_writes(path: &Path) -> anyhow::Result<f64> {
    let start = Instant::now();
    let file = write_sequentially(path)?;
    let seconds = start.elapsed().as_secs_f64();
    drop(file);
    Ok((FILE_BYTES >> 20) as f64 / seconds)
}

fn written_and_closed(path: &Path) -> anyhow::Result<f64> {
    let start = Instant::now();
    drop(write_sequentially(path)?);
    Ok((FILE_BYTES >> 20) as f64 / start.elapsed().as_secs_f64())
}

fn mapped_writes(path: &Path) -> anyhow::Result<f64> {
    let file = new_file(path)?;
    file.set_len(FILE_BYTES)?;
    let (length, block) = (FILE_BYTES as usize, tree::contents(3, 1 << 20));
    let start = Instant::now();
    // SAFETY: the kernel chooses an address that is free; the mapping is as long as the file, which nobody else changes, and
    // is used only until it is unmapped.
    unsafe {
        let (protection, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        let address = libc::mmap(std::ptr::null_mut(), length, protection, kind, file.as_raw_fd(), 0);
        anyhow::ensure!(address != libc::MAP_FAILED, "mmap: {}", std::io::Error::last_os_error());
        for offset in (0..length).step_by(block.len()) {
            std::ptr::copy_nonoverlapping(block.as_ptr(), address.cast::<u8>().add(offset), block.len());
        }
        let synced = libc::msync(address, length, libc::MS_SYNC);
        let error = std::io::Error::last_os_error();
        libc::munmap(address, length);
        anyhow::ensure!(synced == 0, "msync: {error}");
    }
    Ok((FILE_BYTES >> 20) as f64 / start.elapsed().as_secs_f64())
}

fn appends(path: &Path) -> anyhow::Result<f64> {
    let mut file = File::options().create_new(true).append(true).open(path)?;
    let block = tree::contents(4, 4 << 10);
    let start = Instant::now();
    for _ in 0..APPENDS {
        file.write_all(&block)?;
    }
    file.sync_all()?;
    Ok(APPENDS as f64 / start.elapsed().as_secs_f64())
}
