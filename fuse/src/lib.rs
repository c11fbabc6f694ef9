//! The FUSE client: file semantics (`vfs`), the kernel's protocol (`transport`), and mounting ([`mount`]).

pub mod mount;
