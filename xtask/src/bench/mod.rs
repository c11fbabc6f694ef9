//! The benchmarks of the README: each prints ratios against a baseline measured in the same run, and writes JSON.
//!
//! They run on a journaled ext4 of their own on a loop device, with the release binary, as root.

mod attributes;
mod bare_s3;
mod coherence;
mod create;
mod memory;
mod meta_warm;
mod new_host;
mod nullfs;
mod open_files;
mod posix;
mod read_cold;
mod read_warm;
mod rename;
mod table;
mod trees;

use crate::setup::{self, cargo, step};
use anyhow::{Context, bail};
use std::time::Instant;

pub use table::{Row, Table, median};

/// A benchmark: its name, what it shows, and how to run it.
type Bench = (&'static str, &'static str, fn(usize) -> anyhow::Result<Table>);

const BENCHES: [Bench; 12] = [
    (
        "read-warm",
        "cached 1 GiB file through the mount against the same file on the native file system",
        read_warm::run,
    ),
    (
        "meta-warm",
        "stat, find, open of 20,000 known files against native and a do-nothing FUSE file system",
        meta_warm::run,
    ),
    (
        "create",
        "durable creates per second against the disk's fdatasync rate",
        create::run,
    ),
    (
        "read-cold",
        "1 GiB from an S3 server through the mount against a bare client",
        read_cold::run,
    ),
    (
        "memory",
        "resident memory of `alluxio local`: idle, four cold readers, 1,000,000 files",
        memory::run,
    ),
    (
        "posix",
        "random, sequential, mapped and appending writes of a new file against the same on the same disk",
        posix::run,
    ),
    (
        "coherence",
        "10,000 changes on one mount: how soon another sees them, and whether it ever reads what is gone",
        coherence::run,
    ),
    (
        "trees",
        "cp -a, tar x, git clone, rm -rf of 10,000 files until persisted, against native; CPU and PUTs",
        trees::run,
    ),
    (
        "rename",
        "rename of a folder of 10,000 objects: how soon it returns, and its copies against a bare client's",
        rename::run,
    ),
    (
        "new-host",
        "ls -lR and rsync of 10,000 objects on a new cluster against a bare client's LIST and HEADs; requests",
        new_host::run,
    ),
    (
        "attributes",
        "chmod -R of 10,000 stored files against native, and in the bucket against a bare client's copies",
        attributes::run,
    ),
    (
        "open-files",
        "memory of a FUSE process with 100,000 open files and 1,000,000 cached inodes",
        open_files::run,
    ),
];
/// Benches that live as examples beside what they measure: name, package, example.
const EXAMPLES: [(&str, &str, &str); 2] = [
    ("metastore", "alluxio-master", "metastore_bench"),
    ("journal", "alluxio-journal", "bench"),
];

/// Runs one benchmark, or all, or lists them, by an optimised build of this program: the baselines are code of ours too.
pub fn run(name: &str, rounds: usize) -> anyhow::Result<()> {
    if !cfg!(debug_assertions) {
        return run_optimised(name, rounds);
    }
    let rounds = rounds.to_string();
    let args = [
        "run",
        "--quiet",
        "--release",
        "--package",
        "xtask",
        "--",
        "bench",
        name,
        "--rounds",
        &rounds,
    ];
    let status = cargo().args(args).status();
    // The benchmark has said what it missed.
    std::process::exit(status.context("run cargo")?.code().unwrap_or(1));
}

fn run_optimised(name: &str, rounds: usize) -> anyhow::Result<()> {
    if name == "list" {
        for (name, what, _) in BENCHES {
            println!("{name:<12} {what}");
        }
        for (name, package, _) in EXAMPLES {
            println!("{name:<12} inside {package}");
        }
        return Ok(());
    }
    if let Some((_, package, example)) = EXAMPLES.iter().find(|(known, _, _)| *known == name) {
        return step(cargo().args(["run", "--release", "-p", package, "--example", example]));
    }
    let chosen: Vec<&Bench> = BENCHES
        .iter()
        .filter(|(known, _, _)| name == "all" || *known == name)
        .collect();
    if chosen.is_empty() {
        bail!("no benchmark is called {name}; `cargo xtask bench list` prints the names");
    }
    prepare()?;
    let mut missed = Vec::new();
    for (name, what, bench) in chosen {
        println!("\n{name}: {what}");
        let table = bench(rounds).with_context(|| format!("run benchmark {name}"))?;
        print!("{}", table.render());
        let dir = setup::target().join("bench");
        std::fs::create_dir_all(&dir)?;
        std::fs::write(dir.join(format!("{name}.json")), serde_json::to_string_pretty(&table)?)?;
        missed.extend(table.missed().map(|row| format!("{name}: {row}")));
    }
    if !missed.is_empty() {
        bail!("below target: {}", missed.join("; "));
    }
    Ok(())
}

/// Builds the release binary and points the harness at it and at the tools. `ALLUXIO_TEST_BIN` names another build, to be
/// compared with.
fn prepare() -> anyhow::Result<()> {
    let tools = setup::tools()?;
    let binary = match std::env::var_os("ALLUXIO_TEST_BIN") {
        Some(binary) => binary.into(),
        None => {
            step(cargo().args(["build", "--release", "--package", "alluxio"]))?;
            setup::target().join("release/alluxio")
        }
    };
    // SAFETY: this process has one thread until the first benchmark starts.
    unsafe {
        std::env::set_var("ALLUXIO_TEST_BIN", binary);
        std::env::set_var("ALLUXIO_TEST_VERSITYGW", &tools.versitygw);
        std::env::set_var("ALLUXIO_TEST_MOTO_SERVER", &tools.moto_server);
    }
    Ok(())
}

/// Drops clean page, dentry and inode caches, so that the next read comes from the disk.
fn drop_caches() -> anyhow::Result<()> {
    nix::unistd::sync();
    std::fs::write("/proc/sys/vm/drop_caches", "3").context("drop kernel caches")
}

/// Waits until everything written through the mount is in its under-storage.
fn persist_all(local: &alluxio_tests::Local) {
    local.alluxio(&["fs", "persist", "-t", "600000", "/"]).ok();
}

/// Says on stderr what a long benchmark has done so far, and how long that took.
struct Phases {
    begun: Instant,
}

impl Phases {
    fn new() -> Self {
        Self { begun: Instant::now() }
    }
    /// What was going on has ended; the next thing begins.
    fn ended(&mut self, what: &str) {
        eprintln!("  {:>7.1} s  {what}", self.begun.elapsed().as_secs_f64());
        self.begun = Instant::now();
    }
}
