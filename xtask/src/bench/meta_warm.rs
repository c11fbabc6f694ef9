//! What is known: stat, find and open of 20,000 files.

use super::table::Target::AtLeast;
use super::{Row, Table, median, nullfs};
use alluxio_tests::disk::Disk;
use alluxio_tests::mounts::MountPoint;
use alluxio_tests::process::sh;
use alluxio_tests::{LocalBuilder, tree};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const FILES: usize = 20_000;
const OPENS: usize = 10_000;

/// Runs the benchmark.
pub fn run(rounds: usize) -> anyhow::Result<Table> {
    let disk = Disk::new("bench-meta-warm", 4);
    let (native, ufs) = (disk.path().join("native"), disk.path().join("ufs"));
    tree::make(&native, FILES, 16, 1);
    tree::make(&ufs, FILES, 16, 1);
    let local = LocalBuilder::at(disk.path()).ufs(ufs.to_string_lossy()).start();
    let point = MountPoint::new(disk.path().join("null"));
    let null = nullfs::mount(point.path())?;
    find(local.mount())?;
    let (ours, theirs) = (paths(local.mount())?, paths(&native)?);
    let empty: Vec<PathBuf> = (0..FILES).map(|number| point.path().join(number.to_string())).collect();
    for path in ours.iter().chain(&theirs).take(OPENS * 4) {
        std::fs::File::open(path)?;
    }

    let mut table = Table::default();
    let mut figures: [Vec<f64>; 6] = Default::default();
    for round in 0..=rounds {
        let measured = [
            stat(&ours)?,
            stat(&theirs)?,
            find(local.mount())?,
            find(&native)?,
            open_close(&ours[..OPENS])?,
            open_close(&empty[..OPENS])?,
        ];
        if round > 0 {
            measured
                .into_iter()
                .enumerate()
                .for_each(|(index, figure)| figures[index].push(figure));
        }
    }
    let [stat_a, stat_b, find_a, find_b, open_a, open_b] = figures.map(median);
    table.rows.push(Row::ratio(
        "stat of 20,000 known files / native",
        "op/s",
        stat_a,
        stat_b,
        Some(AtLeast(0.8)),
    ));
    table.rows.push(Row::ratio(
        "second find over them / native",
        "op/s",
        find_a,
        find_b,
        Some(AtLeast(0.3)),
    ));
    table.rows.push(Row::ratio(
        "open + close / do-nothing FUSE",
        "op/s",
        open_a,
        open_b,
        Some(AtLeast(0.5)),
    ));
    drop(null);
    Ok(table)
}

fn paths(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::with_capacity(FILES);
    for dir in std::fs::read_dir(root)? {
        let dir = dir?.path();
        if dir
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with('d'))
        {
            for file in std::fs::read_dir(dir)? {
                found.push(file?.path());
            }
        }
    }
    anyhow::ensure!(
        found.len() == FILES,
        "{} shows {} of {FILES} files",
        root.display(),
        found.len()
    );
    found.sort();
    Ok(found)
}

fn stat(paths: &[PathBuf]) -> anyhow::Result<f64> {
    let start = Instant::now();
    for path in paths {
        std::fs::symlink_metadata(path)?;
    }
    Ok(paths.len() as f64 / start.elapsed().as_secs_f64())
}

fn find(root: &Path) -> anyhow::Result<f64> {
    let start = Instant::now();
    let lines = sh(
        &format!("find {}/d* -type f -size -1024k | wc -l", root.display()),
        Duration::from_secs(300),
    )
    .ok();
    anyhow::ensure!(
        lines.trim() == FILES.to_string(),
        "find saw {} of {FILES} files",
        lines.trim()
    );
    Ok(FILES as f64 / start.elapsed().as_secs_f64())
}

fn open_close(paths: &[PathBuf]) -> anyhow::Result<f64> {
    let start = Instant::now();
    for path in paths {
        std::fs::File::open(path)?;
    }
    Ok(paths.len() as f64 / start.elapsed().as_secs_f64())
}
