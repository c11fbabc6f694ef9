//! Why a command or read ended early: the caller's fault, or the store's.

use alluxio_proto::{ErrorKind, FsError};
use std::io;

/// A refusal is an answer like any other; a store failure stops the process from serving.
#[derive(Debug)]
pub(super) enum Fault {
    Refused(FsError),
    Store(io::Error),
}

pub(super) type Outcomes<T> = Result<T, Fault>;

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Fault::Store(error)
    }
}

impl From<FsError> for Fault {
    fn from(error: FsError) -> Self {
        Fault::Refused(error)
    }
}

impl From<Fault> for FsError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Refused(error) => error,
            Fault::Store(error) => FsError::new(ErrorKind::Internal, format!("read the metadata store: {error}")),
        }
    }
}

/// A refusal of `kind`.
pub(super) fn refuse<T>(kind: ErrorKind, message: impl Into<String>) -> Outcomes<T> {
    Err(Fault::Refused(FsError::new(kind, message)))
}

/// A name for people: what is not UTF-8 is replaced.
pub(super) fn show(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}
