//! Creates that are durable when they return, against how often the same disk syncs.

use super::table::Target::AtLeast;
use super::{Row, Table, median, persist_all};
use alluxio_tests::LocalBuilder;
use alluxio_tests::disk::Disk;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long each measurement lasts.
const SPAN: Duration = Duration::from_secs(2);

/// Runs the benchmark.
pub fn run(rounds: usize) -> anyhow::Result<Table> {
    let disk = Disk::new("bench-create", 4);
    let local = LocalBuilder::at(disk.path()).start();
    let mut figures: [Vec<f64>; 3] = Default::default();
    for round in 0..=rounds {
        let one = creates(&local.mount().join(format!("one-{round}")), 1)?;
        // What was created is uploaded meanwhile, as it would be; the baseline has the disk for itself.
        persist_all(&local);
        let base = fdatasync_rate(&disk.path().join("sync"))?;
        let many = creates(&local.mount().join(format!("many-{round}")), 16)?;
        persist_all(&local);
        if round > 0 {
            [one, base, many]
                .into_iter()
                .enumerate()
                .for_each(|(index, figure)| figures[index].push(figure));
        }
    }
    let [one, base, many] = figures.map(median);
    let mut table = Table::default();
    table.rows.push(Row::ratio(
        "create + close, 1 process / fdatasync rate",
        "op/s",
        one,
        base,
        Some(AtLeast(0.4)),
    ));
    table.rows.push(Row::ratio(
        "create + close, 16 threads / fdatasync rate",
        "op/s",
        many,
        base,
        Some(AtLeast(1.2)),
    ));
    Ok(table)
}

/// Files created and closed per second by `threads` threads in one folder each.
fn creates(dir: &Path, threads: usize) -> anyhow::Result<f64> {
    std::fs::create_dir(dir)?;
    for thread in 0..threads {
        std::fs::create_dir(dir.join(thread.to_string()))?;
    }
    let start = Instant::now();
    let counts: Vec<anyhow::Result<u64>> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads)
            .map(|thread| {
                scope.spawn(move || {
                    let dir = dir.join(thread.to_string());
                    let mut count = 0;
                    while start.elapsed() < SPAN {
                        File::create(dir.join(count.to_string()))?;
                        count += 1;
                    }
                    anyhow::Ok(count)
                })
            })
            .collect();
        handles
            .into_iter()
            .map(|handle| handle.join().expect("a creating thread"))
            .collect()
    });
    let mut total = 0;
    for count in counts {
        total += count?;
    }
    Ok(total as f64 / start.elapsed().as_secs_f64())
}

/// Appends of 512 bytes, each followed by fdatasync, per second.
fn fdatasync_rate(path: &Path) -> anyhow::Result<f64> {
    let mut file = File::create(path)?;
    let start = Instant::now();
    let mut count = 0u64;
    while start.elapsed() < SPAN {
        file.write_all(&[7; 512])?;
        file.sync_data()?;
        count += 1;
    }
    Ok(count as f64 / start.elapsed().as_secs_f64())
}
