//! Keys of the FUSE client.

use crate::config::{Key, Kind, Scope};

/// `alluxio.fuse.mount.point`.
pub const FUSE_MOUNT_POINT: Key = Key {
    name: "alluxio.fuse.mount.point",
    default: "/mnt/alluxio-fuse",
    kind: Kind::Text,
    scope: Scope::Client,
    doc: "Default mount point.",
};
