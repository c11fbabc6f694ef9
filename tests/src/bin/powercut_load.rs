//! The load of the power-cut tests: see `alluxio_tests::powercut::load`.

use anyhow::{Context, ensure};
use std::path::Path;

/// `powercut_load MOUNT WORK SEED THREADS [syncs]`: works until it is killed.
fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let syncs = arguments.get(4).is_some_and(|word| word == "syncs");
    ensure!(
        arguments.len() == 4 + usize::from(syncs),
        "usage: powercut_load MOUNT WORK SEED THREADS [syncs]"
    );
    let seed = arguments[2].parse().context("read the seed")?;
    let threads = arguments[3].parse().context("read the number of threads")?;
    alluxio_tests::powercut::load::work(Path::new(&arguments[0]), Path::new(&arguments[1]), seed, threads, syncs)
}
