//! Log lines go to stderr. `ALLUXIO_LOG` says which: `info`, `alluxio_worker=debug,warn`, ….

use tracing_subscriber::EnvFilter;

/// The variable that chooses.
const VARIABLE: &str = "ALLUXIO_LOG";

/// Starts logging, also of crates that log by `log`. Commands show errors only, since a failure is theirs to tell; roles
/// pass `info`.
pub fn start(default: &str) {
    let filter = EnvFilter::try_from_env(VARIABLE).unwrap_or_else(|_| {
        EnvFilter::new(format!(
            "{default},openraft=warn,lsm_tree=warn,fjall=warn,fuser=warn,hyper=warn"
        ))
    });
    // A second start, in tests, changes nothing.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_writer(std::io::stderr)
        .try_init();
}
