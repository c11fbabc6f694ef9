//! Memory of a FUSE process with many open files and many cached inodes.

use super::table::Target::AtMost;
use super::{Phases, Row, Table};
use alluxio_tests::cluster::{Mount, rss_mib};
use alluxio_tests::disk::Disk;
use alluxio_tests::modes::Mode;
use alluxio_tests::process::sh;
use alluxio_tests::{LocalBuilder, Process};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const INODES: usize = 1_000_000;
const OPEN_FILES: usize = 100_000;
/// Each stays below the usual hard limit of descriptors.
const OPENERS: usize = 10;
const LIMIT: Duration = Duration::from_secs(1_200);

/// Opens every file of its folders and waits.
const OPENER: &str = "
import os, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
held = [os.open(os.path.join(d, n), os.O_RDONLY) for d in sys.argv[1:] for n in sorted(os.listdir(d))]
for fd in held: assert os.pread(fd, 9, 0) == b'x'
print('open', len(held), flush=True)
import signal; signal.pause()
";

/// Runs the benchmark; rounds do not matter.
pub fn run(_: usize) -> anyhow::Result<Table> {
    let disk = Disk::new("bench-open-files", 24);
    let mut phases = Phases::new();
    let ufs = disk.path().join("ufs");
    for dir in 0..INODES / 1_000 {
        let dir = ufs.join(format!("d{dir:04}"));
        std::fs::create_dir_all(&dir)?;
        for file in 0..1_000 {
            std::fs::write(dir.join(format!("f{file:04}")), "x")?;
        }
    }
    phases.ended("made the files in the under-storage");
    let local = LocalBuilder::at(disk.path()).ufs(ufs.to_string_lossy()).start();
    // A process of its own, so that what is measured is the FUSE client and nothing else.
    let mut mount = Mount::start(&local, &disk.path().join("second"), Mode::Passthrough);
    let seen = sh(
        &format!("find {} -type f -size -9k | wc -l", mount.path().display()),
        LIMIT,
    )
    .ok();
    anyhow::ensure!(
        seen.trim() == INODES.to_string(),
        "find saw {} of {INODES} files",
        seen.trim()
    );
    let pid = mount.process().id();
    phases.ended("looked at all of them");
    let mut table = Table::default();
    table
        .rows
        .push(Row::figure("1,000,000 inodes cached", "MiB", rss_mib(pid), None));
    let mut openers = Vec::new();
    for opener in 0..OPENERS {
        openers.push(open_folders(mount.path(), opener));
    }
    for opener in &mut openers {
        let start = Instant::now();
        while !opener.log().contains("open ") {
            anyhow::ensure!(opener.ended().is_none(), "an opener ended: {}", opener.log());
            anyhow::ensure!(start.elapsed() < LIMIT, "files are not open after {LIMIT:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    phases.ended("opened and read 100,000 of them");
    table.rows.push(Row::figure(
        "and 100,000 files open",
        "MiB",
        rss_mib(pid),
        Some(AtMost(600.0)),
    ));
    Ok(table)
}

/// A process that holds its share of the files open.
fn open_folders(mount: &Path, opener: usize) -> Process {
    let share = OPEN_FILES / OPENERS / 1_000;
    let mut command = Command::new("python3");
    command.arg("-c").arg(OPENER);
    for dir in 0..share {
        command.arg(mount.join(format!("d{:04}", opener * share + dir)));
    }
    Process::spawn("opener", &mut command)
}
