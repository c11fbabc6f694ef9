//! Wire contracts and id newtypes.
//!
//! What is here is what two processes must agree on: identifiers ([`ids`]), the error that crosses a wire
//! ([`error`]), and our own inode protocol ([`master`], [`worker`]) as prost messages plus one trait per server
//! ([`MasterApi`], [`WorkerApi`]). A server implements the trait; a caller holds `Arc<dyn MasterApi>` and does not know
//! whether the other end shares its process (a direct call) or sits behind frames on TCP or a unix socket.
//!
//! **Invariant:** no IO, no configuration, nothing else of ours. Messages only grow: a tag is never reused.

pub mod error;
pub mod ids;
pub mod master;
mod protocol;
pub mod types;
pub mod worker;

pub use error::{ErrorKind, FsError, FsResult};
pub use ids::{DataVersion, InodeId, IntentId, MountId, SessionId, WorkerId};
pub use master::{MasterApi, WatchStream};
pub use worker::{WorkerApi, WorkerResponse};

/// Version of the framed protocol; both ends state theirs in the hello frame and refuse a different major.
/// 1: first version.
pub const PROTOCOL_VERSION: u32 = 1;

/// Longest name of one path component, in bytes (Linux `NAME_MAX`).
pub const NAME_BYTES_MAX: usize = 255;
/// Longest path, in bytes (Linux `PATH_MAX` with its NUL).
pub const PATH_BYTES_MAX: usize = 4096;
/// Bytes covered by one checksum and one presence bit (DESIGN D6).
pub const CHUNK_BYTES: u64 = 64 * 1024;
/// Longest name of an extended attribute, its namespace included, in bytes (Linux `XATTR_NAME_MAX`).
pub const XATTR_NAME_BYTES_MAX: usize = 255;
/// Largest value of an extended attribute, in bytes (Linux `XATTR_SIZE_MAX`).
pub const XATTR_VALUE_BYTES_MAX: usize = 64 * 1024;

/// The part of a cluster's id that the names of its uploads bear: enough to tell clusters over one bucket apart.
pub fn cluster_tag(cluster_id: &str) -> &str {
    cluster_id.get(..12).unwrap_or(cluster_id)
}
