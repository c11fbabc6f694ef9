//! File system API over a master and workers.
//!
//! [`MasterClient`] asks with the caller's identity, tries again what may be tried again, and gives each change an id so that
//! a retry is answered, not repeated. [`WorkerPool`] finds a worker by its address: in this process
//! ([`DirectWorkers`]) or over the network ([`RemoteWorkers`]). [`FileSystem`] is the path-based API that commands and
//! gateways use.
//!
//! **Invariant:** nothing here knows FUSE or HTTP, and nothing decides a rule about files: those are the master's.

pub mod fs;
pub mod master;
pub mod remote;
pub mod uri;
mod window;
pub mod workers;

pub use fs::FileSystem;
pub use master::MasterClient;
pub use remote::{RemoteMaster, RemoteWorker};
pub use uri::AlluxioUri;
pub use workers::{DirectWorkers, RemoteWorkers, WorkerPool};
