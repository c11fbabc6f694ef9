//! Keys of the master.

use crate::config::{Key, Kind, Scope};

/// `alluxio.master.hostname`.
pub const MASTER_HOSTNAME: Key = Key {
    name: "alluxio.master.hostname",
    default: "localhost",
    kind: Kind::Text,
    scope: Scope::All,
    doc: "Host name of the master.",
};

/// `alluxio.master.rpc.port`.
pub const MASTER_RPC_PORT: Key = Key {
    name: "alluxio.master.rpc.port",
    default: "19998",
    kind: Kind::Port,
    scope: Scope::All,
    doc: "Port of the master's RPC.",
};

/// `alluxio.master.bind.host`.
pub const MASTER_BIND_HOST: Key = Key {
    name: "alluxio.master.bind.host",
    default: "0.0.0.0",
    kind: Kind::Text,
    scope: Scope::Master,
    doc: "Address the master listens on.",
};

/// `alluxio.master.web.port`.
pub const MASTER_WEB_PORT: Key = Key {
    name: "alluxio.master.web.port",
    default: "19999",
    kind: Kind::Port,
    scope: Scope::Master,
    doc: "Port of the master's web pages and metrics.",
};

/// `alluxio.master.mount.table.root.ufs`.
pub const ROOT_UFS: Key = Key {
    name: "alluxio.master.mount.table.root.ufs",
    default: "${alluxio.work.dir}/underFSStorage",
    kind: Kind::Text,
    scope: Scope::Master,
    doc: "What is mounted at the root of the namespace when a cluster is formatted.",
};

/// `alluxio.master.journal.folder`.
pub const JOURNAL_FOLDER: Key = Key {
    name: "alluxio.master.journal.folder",
    default: "${alluxio.work.dir}/journal",
    kind: Kind::Text,
    scope: Scope::Master,
    doc: "Folder of the journal.",
};

/// `alluxio.master.metastore.dir`.
pub const METASTORE_DIR: Key = Key {
    name: "alluxio.master.metastore.dir",
    default: "${alluxio.work.dir}/metastore",
    kind: Kind::Text,
    scope: Scope::Master,
    doc: "Folder of the metadata store.",
};
