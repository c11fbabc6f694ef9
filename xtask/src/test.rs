//! `cargo xtask test`: everything that must pass, on real parts.

use crate::setup::{self, cargo, step};

/// Installs, builds, and runs the tests.
pub fn run(filter: Option<&str>) -> anyhow::Result<()> {
    let tools = setup::tools()?;
    // Optimised, because the whole-system tests hold it to times: a restart within three seconds, timeouts, no stall.
    println!("building the binary under test");
    step(cargo().args(["build", "--release", "--package", "alluxio"]))?;
    let binary = setup::target().join("release/alluxio");
    let mut command = cargo();
    command
        .args(["test", "--workspace", "--no-fail-fast"])
        .env("ALLUXIO_TEST_BIN", &binary)
        .env("ALLUXIO_TEST_VERSITYGW", &tools.versitygw)
        .env("ALLUXIO_TEST_MOTO_SERVER", &tools.moto_server);
    if let Some(filter) = filter {
        command.args(["--", filter]);
    }
    step(&mut command)
}
