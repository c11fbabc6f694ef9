//! Log lines go to stderr. `ALLUXIO_LOG` says which: `info`, `alluxio_worker=debug,warn`, ….

use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// The variable that chooses.
const VARIABLE: &str = "ALLUXIO_LOG";
/// At `info` these tell of every step of theirs.
const CHATTY: &str = "openraft=warn,fjall=warn,lsm_tree=warn";

/// Starts logging, also of crates that log by `log`. Commands show errors only, since a failure is theirs to tell; roles
/// pass `info`.
pub fn start(default: &str) {
    let filter = EnvFilter::try_from_env(VARIABLE).unwrap_or_else(|_| {
        EnvFilter::new(match default {
            "info" => format!("info,{CHATTY}"),
            level => level.to_owned(),
        })
    });
    // A second start, in tests, changes nothing.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .try_init();
}
