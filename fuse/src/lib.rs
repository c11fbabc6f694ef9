//! The FUSE client: file semantics, the kernel's transport, and mounting.
//!
//! [`vfs`] holds the semantics and knows no kernel; [`transport`] translates the kernel's requests; [`mount`](mod@mount)
//! puts a file system into the tree and takes it off again.

pub mod mount;
pub mod transport;
pub mod vfs;

pub use vfs::{Vfs, VfsOptions};
