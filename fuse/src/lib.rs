//! FUSE client: file semantics, kernel transport, mounting.
