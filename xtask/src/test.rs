//! `cargo xtask test`: everything that must pass, on real parts.

use crate::posix;
use crate::setup::{self, cargo, step};
use std::process::Command;

/// The filter that stands for all proofs of POSIX behaviour.
const POSIX: &str = "posix";
/// Test binaries that belong to it, beside the public suite.
const POSIX_TESTS: [&str; 7] = [
    "reference",
    "mount_options",
    "bad_posix",
    "posix_calls",
    "posix_ranges",
    "posix_between",
    PROGRAMS,
];
/// The longest of them. On the second transport it runs only when asked for: `cargo xtask test posix --transport fuser`.
const PROGRAMS: &str = "programs";
/// The transport that is not the default.
const SECOND_TRANSPORT: &str = "fuser";
const TRANSPORT_VARIABLE: &str = "ALLUXIO_TEST_TRANSPORT";

/// Installs, builds, and runs the tests.
pub fn run(filter: Option<&str>, transport: Option<&str>) -> anyhow::Result<()> {
    let tools = setup::tools()?;
    setup::posix_programs()?;
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
            std::env::set_var(TRANSPORT_VARIABLE, transport);
        }
    }
    let mut command = match filter {
        Some(POSIX) => of_posix(|_| true),
        _ => {
            let mut all = cargo();
            all.args(["test", "--workspace", "--no-fail-fast"]);
            all
        }
    };
    if let Some(filter) = filter.filter(|filter| *filter != POSIX) {
        command.args(["--", filter]);
        return step(&mut command);
    }
    // All are run whatever the first one says.
    let tests = step(&mut command);
    let second = match transport {
        None => step(of_posix(|name| name != PROGRAMS).env(TRANSPORT_VARIABLE, SECOND_TRANSPORT)),
        Some(_) => Ok(()),
    };
    let suite = posix::run_suite();
    tests.and(second).and(suite)
}

/// Those proofs of POSIX behaviour that are wanted.
fn of_posix(wanted: impl Fn(&str) -> bool) -> Command {
    let mut command = cargo();
    command.args(["test", "--package", "alluxio-tests", "--no-fail-fast"]);
    for name in POSIX_TESTS.into_iter().filter(|name| wanted(name)) {
        command.args(["--test", name]);
    }
    command
}
