//! Starts logging for roles and commands; [`alluxio_common::logging`] does it.

use crate::commands::CommandError;
use alluxio_common::config::Configuration;
use alluxio_common::logging;
pub use alluxio_common::logging::Default;

/// Starts logging as the configuration says. Commands show errors only, since a failure is theirs to tell.
///
/// # Errors
/// If the filter is none: it was asked wrongly.
pub fn start(conf: &Configuration, default: Default) -> Result<(), CommandError> {
    logging::start(conf, default).map_err(|error| CommandError::Usage(error.to_string()))
}
