//! The `alluxio` binary: wires, and nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(alluxio::run(std::env::args_os().collect()))
}
