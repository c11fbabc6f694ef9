//! An object store in this process's memory, for tests. Where a test wants a file system, a temporary folder is one.

use std::sync::Arc;

use crate::fault::FaultyUfs;
use crate::object::ObjectUfs;
use crate::object::client::Limits;
use crate::object::memory::MemoryObjects;

/// A new and empty store with keys and prefixes, as on S3, and with [`crate::fault::Faults`] in front.
pub fn memory() -> FaultyUfs {
    // Small parts, so that tests meet multipart uploads early.
    let limits = Limits {
        part_bytes: 192 << 10,
        part_bytes_min: 64 << 10,
        copy_part_bytes: 3 << 20,
        range_copy_bytes: 3 << 20,
        ..Limits::default()
    };
    let client = Arc::new(MemoryObjects::new(limits));
    FaultyUfs::new(Arc::new(ObjectUfs::new(
        client,
        String::new(),
        "memory://objects".to_owned(),
        "memory",
    )))
}
