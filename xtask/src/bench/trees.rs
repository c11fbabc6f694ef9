//! Whole trees of small files until they are in the store, against the same commands on the native file system.

use super::table::Target::AtMost;
use super::{Phases, Row, Table, persist_all};
use alluxio_tests::disk::Disk;
use alluxio_tests::process::sh;
use alluxio_tests::proxy::Proxy;
use alluxio_tests::s3::{S3Server, Versity, options_for};
use alluxio_tests::{Local, LocalBuilder, tools, tree};
use std::path::Path;
use std::time::{Duration, Instant};

const FILES: usize = 10_000;
const FILE_BYTES: usize = 3_000;
const LIMIT: Duration = Duration::from_secs(1_800);

/// What is done: name, and the script with `$T` for the target's folder and `$S` for the sources'.
const COMMANDS: [(&str, &str); 4] = [
    ("cp -a", "cp -a $S/tree $T/copy"),
    ("tar x", "mkdir $T/tar; tar -C $T/tar -xf $S/tree.tar"),
    ("git clone", "git clone -q file://$S/repo $T/clone"),
    ("rm -rf", "rm -rf $T/copy $T/tar $T/clone"),
];

/// Runs the benchmark; rounds do not matter: each command is long.
pub fn run(_: usize) -> anyhow::Result<Table> {
    let disk = Disk::new("bench-trees", 16);
    let sources = disk.path().join("sources");
    tree::make(&sources.join("tree"), FILES, FILE_BYTES, 17);
    let s = sources.display();
    sh(
        &format!(
            "tar -C {s}/tree -cf {s}/tree.tar .; cp -a {s}/tree {s}/repo; cd {s}/repo; git init -q -b main .; git config user.email a@b; git config user.name n; \
             git add -A; git commit -qm all"
        ),
        LIMIT,
    )
    .ok();
    let server = Versity::start_at(tools::scratch("s3-"), disk.path().join("s3"));
    let proxy = Proxy::start(&server.endpoint());
    let local = LocalBuilder::at(disk.path())
        .ufs("s3://bucket/")
        .options(options_for(&proxy.endpoint()))
        .start();
    let native = disk.path().join("native");
    std::fs::create_dir(&native)?;

    let mut table = Table::default();
    let mut phases = Phases::new();
    for (name, script) in COMMANDS {
        let line = |target: &Path| format!("T={}; S={s}; {script}", target.display());
        let start = Instant::now();
        sh(&line(&native), LIMIT).ok();
        nix::unistd::sync();
        let theirs = start.elapsed().as_secs_f64();

        proxy.reset();
        let (start, cpu) = (Instant::now(), cpu_seconds(&local)?);
        sh(&line(local.mount()), LIMIT).ok();
        let returned = start.elapsed().as_secs_f64();
        persist_all(&local);
        let persisted = start.elapsed().as_secs_f64();
        let cpu = cpu_seconds(&local)? - cpu;
        let seconds = |what: &str, ours| Row::ratio(&format!("{name}: {what}"), "s", ours, theirs, None);
        table.rows.push(seconds("command, native with sync", returned));
        table.rows.push(seconds("until persisted", persisted));
        table
            .rows
            .push(Row::figure(&format!("{name}: CPU of the daemon"), "s", cpu, None));
        table.rows.push(puts(name, &proxy));
        phases.ended(name);
    }
    Ok(table)
}

/// PUTs of files; folders are PUTs of their own, whose keys end in a slash, but for the root of the bucket.
fn puts(name: &str, proxy: &Proxy) -> Row {
    let counts = proxy.counts();
    let is_marker = |path: &str| path.ends_with('/') || path.ends_with("/.alluxio-folder");
    let is_folder = |line: &String| line.split(['?', '#']).next().is_some_and(is_marker);
    let files = counts
        .lines
        .iter()
        .filter(|line| line.starts_with("PUT ") && !is_folder(line))
        .count();
    // A clone brings git's own files along, and deleting puts nothing.
    match name {
        "cp -a" | "tar x" => Row::ratio(
            &format!("{name}: PUTs / files"),
            "requests",
            files as f64,
            FILES as f64,
            Some(AtMost(1.0)),
        ),
        _ => Row::figure(&format!("{name}: PUTs"), "requests", files as f64, None),
    }
}

/// User and system time of the daemon so far.
fn cpu_seconds(local: &Local) -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", local.pid()))?;
    // After the name, which may contain anything, fields 12 and 13 are ticks of a hundredth second.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: f64 = [11, 12]
        .iter()
        .filter_map(|field| fields.get(*field).and_then(|text| text.parse::<f64>().ok()))
        .sum();
    Ok(ticks / 100.0)
}
