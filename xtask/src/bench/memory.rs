//! Resident memory of `alluxio local`.

use super::table::Target::AtMost;
use super::{Row, Table};
use alluxio_tests::disk::Disk;
use alluxio_tests::process::sh;
use alluxio_tests::s3::{S3Server, Versity};
use alluxio_tests::{LocalBuilder, tools, tree};
use std::io::Read;
use std::time::Duration;

const READERS: usize = 4;
const FILE_MIB: usize = 512;
const FILES: usize = 1_000_000;

/// Runs the benchmark; rounds do not matter.
pub fn run(_: usize) -> anyhow::Result<Table> {
    let disk = Disk::new("bench-memory", 24);
    let mut table = Table::default();

    let server = Versity::start_at(tools::scratch("s3-"), disk.path().join("s3"));
    let block = tree::contents(13, 1 << 20);
    for reader in 0..READERS {
        std::fs::write(
            server.bucket("bucket").join(format!("file-{reader}")),
            block.repeat(FILE_MIB),
        )?;
    }
    let local = LocalBuilder::at(&disk.path().join("a"))
        .ufs("s3://bucket/")
        .options(server.options())
        .start();
    // Idle is after start-up work has settled.
    std::thread::sleep(Duration::from_secs(5));
    table
        .rows
        .push(Row::figure("idle", "MiB", local.rss_mib(), Some(AtMost(100.0))));

    let peak = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..READERS)
            .map(|reader| {
                let path = local.mount().join(format!("file-{reader}"));
                scope.spawn(move || {
                    let mut file = std::fs::File::open(path)?;
                    let mut buffer = vec![0; 1 << 20];
                    while file.read(&mut buffer)? > 0 {}
                    std::io::Result::Ok(())
                })
            })
            .collect();
        let mut peak = 0f64;
        while handles.iter().any(|handle| !handle.is_finished()) {
            peak = peak.max(local.rss_mib());
            std::thread::sleep(Duration::from_millis(20));
        }
        handles
            .into_iter()
            .try_for_each(|handle| handle.join().expect("a reading thread"))?;
        anyhow::Ok(peak)
    })?;
    table.rows.push(Row::figure(
        "four cold sequential readers, peak",
        "MiB",
        peak,
        Some(AtMost(400.0)),
    ));
    drop(local);
    drop(server);

    let ufs = disk.path().join("many");
    for dir in 0..FILES / 1000 {
        let dir = ufs.join(format!("d{dir:04}"));
        std::fs::create_dir_all(&dir)?;
        for file in 0..1000 {
            std::fs::File::create(dir.join(format!("f{file:04}")))?;
        }
    }
    let local = LocalBuilder::at(&disk.path().join("b"))
        .ufs(ufs.to_string_lossy())
        .start();
    let seen = sh(
        &format!("find {} -type f | wc -l", local.mount().display()),
        Duration::from_secs(900),
    )
    .ok();
    anyhow::ensure!(
        seen.trim() == FILES.to_string(),
        "find saw {} of {FILES} files",
        seen.trim()
    );
    table.rows.push(Row::figure(
        "1,000,000 files known",
        "MiB",
        local.rss_mib(),
        Some(AtMost(400.0)),
    ));
    Ok(table)
}
