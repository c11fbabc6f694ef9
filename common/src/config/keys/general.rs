//! Keys of all roles.

use crate::config::{Key, Kind, Scope};

/// `alluxio.work.dir`.
pub const WORK_DIR: Key = Key {
    name: "alluxio.work.dir",
    default: "${alluxio.home}",
    kind: Kind::Text,
    scope: Scope::All,
    doc: "Folder under which separate processes keep their state.",
};

/// `alluxio.home`.
pub const HOME: Key = Key {
    name: "alluxio.home",
    default: "/opt/alluxio",
    kind: Kind::Text,
    scope: Scope::All,
    doc: "Installation folder.",
};
