//! The disk of the power-cut tests: see `alluxio_tests::powercut::server`.

use anyhow::ensure;
use std::path::Path;

/// `powercut_disk IMAGE MOUNT`: serves the image until standard input ends.
fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    ensure!(arguments.len() == 2, "usage: powercut_disk IMAGE MOUNT");
    alluxio_tests::powercut::server::serve(
        Path::new(&arguments[0]),
        Path::new(&arguments[1]),
        std::io::stdin().lock(),
        std::io::stdout().lock(),
    )
}
