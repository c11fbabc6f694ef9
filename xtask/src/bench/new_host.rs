//! What a new cluster's first look at a bucket costs: a tree with attributes, and one that others made.

use super::bare_s3::BareS3;
use super::table::Target::AtMost;
use super::{Phases, Row, Table, median, persist_all};
use alluxio_tests::disk::Disk;
use alluxio_tests::process::sh;
use alluxio_tests::s3::memory::{Content, Object};
use alluxio_tests::s3::{MemoryS3, S3Server};
use alluxio_tests::{Local, LocalBuilder};
use anyhow::ensure;
use std::path::Path;
use std::time::{Duration, Instant};

const FOLDERS: usize = 10;
const FILES: usize = 10_000;
const LIMIT: Duration = Duration::from_secs(1_800);

/// Runs the benchmark.
pub fn run(rounds: usize) -> anyhow::Result<Table> {
    let disk = Disk::new("bench-new-host", 8);
    let server = MemoryS3::start();
    let mut phases = Phases::new();
    let source = disk.path().join("source");
    make(&source)?;
    let first = start(&disk.path().join("first"), &server);
    sh(
        &format!("cp -a {} {}/ours", source.display(), first.mount().display()),
        LIMIT,
    )
    .ok();
    persist_all(&first);
    drop(first);
    for index in 0..FILES {
        let object = Object::plain(Content::from(bytes::Bytes::from_static(b"theirs")));
        server.put(&format!("theirs/d{}/f{index}", index % FOLDERS), object);
    }
    phases.ended("made both trees");

    let bare = BareS3::new(&server.endpoint())?;
    let (mut lists, mut syncs, mut bares) = (Vec::new(), Vec::new(), Vec::new());
    let (mut heads, mut heads_of_others) = (0, 0);
    for round in 0..rounds.max(1) {
        let fresh = |name: &str| start(&disk.path().join(format!("{name}-{round}")), &server);
        let (seconds, count) = bare.list_and_head("ours")?;
        ensure!(count >= FILES, "the bucket has {count} objects");
        bares.push(seconds);
        let local = fresh("ls");
        server.clear_log();
        lists.push(timed(&format!("ls -lR {}/ours > /dev/null", local.mount().display()))?.0);
        heads = server.seen("HeadObject").len();
        drop(local);
        let local = fresh("rsync");
        let line = format!(
            "rsync -a -i --dry-run {}/ {}/ours/",
            source.display(),
            local.mount().display()
        );
        let (seconds, sent) = timed(&line)?;
        ensure!(sent.is_empty(), "rsync would send: {sent}");
        syncs.push(seconds);
        drop(local);
        let local = fresh("theirs");
        server.clear_log();
        timed(&format!("ls -lR {}/theirs > /dev/null", local.mount().display()))?;
        heads_of_others = server
            .seen("HeadObject")
            .iter()
            .filter(|seen| seen.key.contains("/f"))
            .count();
        phases.ended("a round");
    }
    let bare = median(bares);
    let ratio = |what: &str, ours| Row::ratio(what, "s", ours, bare, Some(AtMost(1.3)));
    let heads = Row::ratio("HEADs of ls -lR / files", "requests", heads as f64, FILES as f64, None);
    let others = Row::figure(
        "HEADs of others' files",
        "requests",
        heads_of_others as f64,
        Some(AtMost(0.0)),
    );
    let rows = vec![
        ratio("ls -lR / bare LIST and HEADs", median(lists)),
        ratio("rsync -a --dry-run / the same", median(syncs)),
        heads,
        others,
    ];
    Ok(Table { rows })
}

fn make(source: &Path) -> anyhow::Result<()> {
    for index in 0..FILES {
        let dir = source.join(format!("d{}", index % FOLDERS));
        std::fs::create_dir_all(&dir)?;
        std::fs::write(dir.join(format!("f{index}")), b"ours")?;
    }
    let line = format!(
        "cd {}; chmod -R 750 .; find . | sort -r | xargs touch -d @1000000000",
        source.display()
    );
    sh(&line, LIMIT).ok();
    Ok(())
}

/// A cluster that knows nothing yet.
fn start(base: &Path, server: &MemoryS3) -> Local {
    std::fs::create_dir_all(base).expect("a folder of its own");
    LocalBuilder::at(base)
        .ufs("s3://bucket/")
        .options(server.options())
        .start()
}

fn timed(line: &str) -> anyhow::Result<(f64, String)> {
    let start = Instant::now();
    let output = sh(line, LIMIT).ok();
    Ok((start.elapsed().as_secs_f64(), output))
}
