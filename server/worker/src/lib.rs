//! Cached and newly written file data (DESIGN D5, D6, D9, D10, D12, D15).
//!
//! A [`Worker`] keeps, for each file it holds, one version as one sparse local file with a sidecar of checksums
//! (`store`). Missing ranges come from the under-storage, conditional on the version's fingerprint (`fill`). New
//! versions are written into the local file, sealed, and uploaded when the master says so.
//!
//! **Promises:** bytes of two versions are never mixed; what it hands out through the process is checksummed; what may
//! be the only copy is never evicted and never deleted but on the master's order; a full disk fails writes, never reads.
//!
//! **Left out:** inodes' names, permission, who may read what: the master decides before anybody comes here.

mod copy;
mod core;
mod fill;
mod flights;
mod guard;
mod io;
mod options;
mod passing;
mod persist;
mod quick;
mod ranges;
mod read;
mod recover;
mod report;
mod room;
mod scrub;
mod seal;
mod serve;
mod spill;
mod store;
mod tasks;
mod trace;
mod ufs_clients;
mod upload;
mod worker;
mod write;

pub use options::{UfsOpener, WorkerOptions, default_opener};
pub use worker::Worker;
