//! What every role needs and no role owns: configuration, errors, crash-safe files, framing, metrics, checksums.

pub mod checksum;
pub mod config;
pub mod crashsafe;
pub mod metrics;
pub mod sync;

pub use alluxio_proto::{ErrorKind, FsError, FsResult};
