//! Under-storages in this process's memory, for tests: with the semantics of an object store or of a file system.

mod tree;

use std::sync::Arc;

use crate::UnderFileSystem;
use crate::fault::FaultyUfs;
use crate::object::ObjectUfs;
use crate::object::client::Limits;
use crate::object::memory::MemoryObjects;

/// Which kind of store is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Semantics {
    /// Keys and prefixes, as on S3.
    Object,
    /// A tree of directories, with symbolic links and atomic rename.
    Posix,
}

/// A new and empty store, with [`crate::fault::Faults`] in front.
pub fn memory(semantics: Semantics) -> FaultyUfs {
    let inner: Arc<dyn UnderFileSystem> = match semantics {
        Semantics::Object => {
            // Small parts, so that tests meet multipart uploads early.
            let limits = Limits {
                part_bytes: 192 << 10,
                part_bytes_min: 64 << 10,
                copy_part_bytes: 3 << 20,
                range_copy_bytes: 3 << 20,
                ..Limits::default()
            };
            let client = Arc::new(MemoryObjects::new(limits));
            Arc::new(ObjectUfs::new(
                client,
                String::new(),
                "memory://objects".to_owned(),
                "memory",
            ))
        }
        Semantics::Posix => Arc::new(tree::MemoryTree::default()),
    };
    FaultyUfs::new(inner)
}
