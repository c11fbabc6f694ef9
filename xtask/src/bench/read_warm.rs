//! A file that is complete in the local worker, against the same bytes on the same disk without us.

use super::table::Target::AtLeast;
use super::{Row, Table, drop_caches, median, persist_all};
use alluxio_tests::disk::Disk;
use alluxio_tests::{LocalBuilder, tree};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

const FILE_BYTES: u64 = 1 << 30;

/// Runs the benchmark.
pub fn run(rounds: usize) -> anyhow::Result<Table> {
    let disk = Disk::new("bench-read-warm", 12);
    let native = disk.path().join("native");
    let local = LocalBuilder::at(disk.path()).start();
    let ours = local.mount().join("file");
    write_file(&native)?;
    // The same writes on both sides: the page cache of a file that was copied by the kernel has smaller folios, and is slower.
    write_file(&ours)?;
    persist_all(&local);
    let mut table = Table::default();
    for (state, dropped) in [("page cache warm", false), ("page cache dropped", true)] {
        let (a, b) = alternate(rounds, dropped, &ours, &native, sequential)?;
        table.rows.push(Row::ratio(
            &format!("sequential 128 KiB, {state}"),
            "MiB/s",
            a,
            b,
            Some(AtLeast(0.90)),
        ));
        let (a, b) = alternate(rounds, dropped, &ours, &native, |file| {
            random(file, if dropped { 4_000 } else { 200_000 })
        })?;
        table.rows.push(Row::ratio(
            &format!("random 4 KiB, {state}"),
            "op/s",
            a,
            b,
            Some(AtLeast(0.85)),
        ));
    }
    Ok(table)
}

fn write_file(path: &Path) -> anyhow::Result<()> {
    let block = tree::contents(7, 1 << 20);
    let file = File::create(path)?;
    for offset in (0..FILE_BYTES).step_by(block.len()) {
        file.write_all_at(&block, offset)?;
    }
    file.sync_all()?;
    Ok(())
}

/// Medians of both sides, measured in turn.
fn alternate(
    rounds: usize,
    dropped: bool,
    ours: &Path,
    native: &Path,
    measure: impl Fn(&File) -> anyhow::Result<f64>,
) -> anyhow::Result<(f64, f64)> {
    let mut figures = [Vec::new(), Vec::new()];
    for round in 0..=rounds {
        for (side, path) in [ours, native].into_iter().enumerate() {
            if dropped {
                drop_caches()?;
            }
            let figure = measure(&File::open(path)?)?;
            // The first round warms up.
            if round > 0 {
                figures[side].push(figure);
            }
        }
    }
    let [a, b] = figures;
    Ok((median(a), median(b)))
}

fn sequential(file: &File) -> anyhow::Result<f64> {
    let mut buffer = vec![0u8; 128 << 10];
    let start = Instant::now();
    let mut offset = 0;
    while offset < FILE_BYTES {
        let n = file.read_at(&mut buffer, offset)?;
        anyhow::ensure!(n > 0, "the file ends at {offset} of {FILE_BYTES} bytes");
        offset += n as u64;
    }
    Ok(FILE_BYTES as f64 / (1 << 20) as f64 / start.elapsed().as_secs_f64())
}

fn random(file: &File, count: u64) -> anyhow::Result<f64> {
    let mut buffer = vec![0u8; 4 << 10];
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let start = Instant::now();
    for _ in 0..count {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        file.read_exact_at(&mut buffer, (state % (FILE_BYTES >> 12)) << 12)?;
    }
    Ok(count as f64 / start.elapsed().as_secs_f64())
}
