//! What every role needs and no role owns: configuration, errors, crash-safe files, framing, metrics, checksums.

pub mod checksum;
pub mod clock;
pub mod config;
pub mod crashsafe;
pub mod descriptors;
pub mod disk;
pub mod human;
pub mod lock_ranges;
pub mod logging;
pub mod metrics;
pub mod panics;
pub mod retry;
pub mod rpc;
pub mod secret;
pub mod sync;
pub mod time;
pub mod users;

pub use alluxio_proto::{ErrorKind, FsError, FsResult};
