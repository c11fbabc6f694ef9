//! Keys of clients.

use crate::config::{Key, Kind, Scope};

/// `alluxio.user.file.writetype.default`.
pub const WRITE_TYPE: Key = Key {
    name: "alluxio.user.file.writetype.default",
    default: "ASYNC_THROUGH",
    kind: Kind::Enum(&["MUST_CACHE", "CACHE_THROUGH", "THROUGH", "ASYNC_THROUGH"]),
    scope: Scope::Client,
    doc: "When newly written data reaches the under-storage.",
};

/// `alluxio.user.file.metadata.sync.interval`.
pub const SYNC_INTERVAL: Key = Key {
    name: "alluxio.user.file.metadata.sync.interval",
    default: "30s",
    kind: Kind::Duration,
    scope: Scope::All,
    doc: "How old what is known of an under-storage may be before it is looked at again; 0: always look; -1: never.",
};

/// `alluxio.user.block.size.bytes.default`.
pub const BLOCK_SIZE: Key = Key {
    name: "alluxio.user.block.size.bytes.default",
    default: "64MB",
    kind: Kind::Bytes,
    scope: Scope::Client,
    doc: "Block size of new files.",
};
