//! Commands: they ask, print, and end.

mod connect;
mod format;
mod fs;
mod fsadmin;
mod fuse;
mod get_conf;
mod intents;

pub use connect::{caller, client_options, configured_masters};
pub use format::format;
pub use fs::fs;
pub use fsadmin::fsadmin;
pub use fuse::fuse;
pub use get_conf::get_conf;

use crate::output::Out;
use alluxio_proto::{ErrorKind, FsError};
use std::io;

/// Why a command did not do it.
#[derive(Debug)]
pub enum CommandError {
    /// It failed.
    Failed(FsError),
    /// It was asked wrongly.
    Usage(String),
    /// All is said; just the exit status.
    Status(u8),
    /// Whoever read the output is gone.
    Pipe,
}

/// How a command ends.
pub type Done = Result<(), CommandError>;

impl CommandError {
    /// A failure in words.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::Failed(FsError::new(ErrorKind::Internal, message))
    }
}

impl From<FsError> for CommandError {
    fn from(error: FsError) -> Self {
        Self::Failed(error)
    }
}

impl From<io::Error> for CommandError {
    /// Only writing to stdout is converted without words.
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::Pipe,
            _ => Self::Failed(FsError::from_io("write to stdout", &error)),
        }
    }
}

/// `alluxio version`.
pub fn version(out: &mut Out) -> Done {
    Ok(out.line(env!("CARGO_PKG_VERSION"))?)
}
