//! The harness of the whole-system tests and benches: real processes, real mounts, real S3 servers, and a proxy that
//! misbehaves on demand.
//!
//! A test that cannot run on this machine fails and says why; none is skipped. Everything a test starts is ended when
//! its guard is dropped, by process id; mounts are detached; folders are removed.

pub mod agent;
pub mod cluster;
pub mod disk;
pub mod modes;
pub mod mounts;
pub mod netns;
pub mod ports;
pub mod powercut;
pub mod process;
pub mod proxy;
pub mod reference;
pub mod s3;
pub mod separate;
pub mod tools;
pub mod tree;
pub mod wait;

pub use agent::Agent;
pub use cluster::{Local, LocalBuilder};
pub use process::Process;
pub use s3::{MemoryS3, Moto, S3Server, Versity};
pub use separate::{Mount, Separate};
