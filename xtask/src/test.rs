//! `cargo xtask test`: everything that must pass, on real parts.

use crate::posix;
use crate::setup::{self, cargo, step};

/// The filter that stands for all proofs of POSIX behaviour.
const POSIX: &str = "posix";
/// Test binaries that belong to it, beside the public suite.
const POSIX_TESTS: [&str; 5] = ["reference", "programs", "bad_posix", "posix_calls", "posix_ranges"];
/// Not all programs pass yet, so they are built with a feature of their own and only run when they are asked for.
const POSIX_FEATURE: &str = "posix-programs";

/// Installs, builds, and runs the tests.
pub fn run(filter: Option<&str>, transport: Option<&str>) -> anyhow::Result<()> {
    let tools = setup::tools()?;
    // Optimised, because the whole-system tests hold it to times: a restart within three seconds, timeouts, no stall.
    println!("building the binary under test");
    step(cargo().args(["build", "--release", "--package", "alluxio"]))?;
    let binary = setup::target().join("release/alluxio");
    // SAFETY: this process has one thread.
    unsafe {
        std::env::set_var("ALLUXIO_TEST_BIN", &binary);
        std::env::set_var("ALLUXIO_TEST_VERSITYGW", &tools.versitygw);
        std::env::set_var("ALLUXIO_TEST_MOTO_SERVER", &tools.moto_server);
        if let Some(transport) = transport {
            std::env::set_var("ALLUXIO_TEST_TRANSPORT", transport);
        }
    }
    let mut command = cargo();
    match filter {
        Some(POSIX) => {
            setup::posix_programs()?;
            command.args(["test", "--package", "alluxio-tests", "--no-fail-fast"]);
            command.args(["--features", POSIX_FEATURE]);
            for name in POSIX_TESTS {
                command.args(["--test", name]);
            }
        }
        _ => {
            command.args(["test", "--workspace", "--no-fail-fast"]);
        }
    }
    if let Some(filter) = filter.filter(|filter| *filter != POSIX) {
        command.args(["--", filter]);
        return step(&mut command);
    }
    // Both are run whatever the first one says.
    let tests = step(&mut command);
    let suite = posix::run_suite();
    tests.and(suite)
}
