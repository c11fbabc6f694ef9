//! `chmod -R` of stored files: until it returns, against the native file system; until the bucket has it, against a bare client.

use super::bare_s3::BareS3;
use super::table::Target::AtMost;
use super::{Phases, Row, Table, median, persist_all};
use alluxio_tests::disk::Disk;
use alluxio_tests::process::sh;
use alluxio_tests::s3::{MemoryS3, S3Server};
use alluxio_tests::{LocalBuilder, tree};
use anyhow::ensure;
use std::path::Path;
use std::time::{Duration, Instant};

const FILES: usize = 10_000;
const LIMIT: Duration = Duration::from_secs(1_800);

/// Runs the benchmark.
pub fn run(rounds: usize) -> anyhow::Result<Table> {
    let disk = Disk::new("bench-attributes", 8);
    let server = MemoryS3::start();
    let mut phases = Phases::new();
    let native = disk.path().join("native");
    tree::make(&native, FILES, 100, 3);
    let local = LocalBuilder::at(disk.path())
        .ufs("s3://bucket/")
        .options(server.options())
        .start();
    let mounted = local.mount().join("tree");
    sh(&format!("cp -a {} {}", native.display(), mounted.display()), LIMIT).ok();
    persist_all(&local);
    phases.ended("copied the tree");

    let bare = BareS3::new(&server.endpoint())?;
    let (mut returned, mut natives, mut stored, mut bares) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut copies = 0;
    for round in 0..rounds.max(1) {
        let mode = if round % 2 == 0 { "u+x" } else { "u-x" };
        natives.push(chmod(mode, &native));
        let (seconds, count) = bare.head_and_copy("tree")?;
        ensure!(count >= FILES, "the bucket has {count} objects");
        bares.push(seconds);
        server.clear_log();
        returned.push(chmod(mode, &mounted));
        // What is waited for before the first copy, so that changes come together, is no work.
        let start = Instant::now();
        persist_all(&local);
        stored.push(start.elapsed().as_secs_f64());
        copies = server.seen("CopyObject").len();
        phases.ended("a round");
    }
    let rows = vec![
        Row::ratio(
            "chmod -R / native",
            "s",
            median(returned),
            median(natives),
            Some(AtMost(3.0)),
        ),
        Row::ratio(
            "then in the bucket / bare HEAD and copy",
            "s",
            median(stored),
            median(bares),
            Some(AtMost(1.3)),
        ),
        Row::ratio(
            "copies / files",
            "requests",
            copies as f64,
            FILES as f64,
            Some(AtMost(1.0)),
        ),
    ];
    Ok(Table { rows })
}

fn chmod(mode: &str, root: &Path) -> f64 {
    let start = Instant::now();
    sh(&format!("chmod -R {mode} {}", root.display()), LIMIT).ok();
    start.elapsed().as_secs_f64()
}
