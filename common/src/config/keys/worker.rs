//! Keys of the worker.

use crate::config::{Key, Kind, Scope};

/// `alluxio.worker.hostname`.
pub const WORKER_HOSTNAME: Key = Key {
    name: "alluxio.worker.hostname",
    default: "",
    kind: Kind::Text,
    scope: Scope::Worker,
    doc: "Host name that clients use to reach this worker; empty: this host's.",
};

/// `alluxio.worker.rpc.port`.
pub const WORKER_RPC_PORT: Key = Key {
    name: "alluxio.worker.rpc.port",
    default: "29999",
    kind: Kind::Port,
    scope: Scope::Worker,
    doc: "Data port of the worker.",
};

/// `alluxio.worker.bind.host`.
pub const WORKER_BIND_HOST: Key = Key {
    name: "alluxio.worker.bind.host",
    default: "0.0.0.0",
    kind: Kind::Text,
    scope: Scope::Worker,
    doc: "Address the worker listens on.",
};

/// `alluxio.worker.web.port`.
pub const WORKER_WEB_PORT: Key = Key {
    name: "alluxio.worker.web.port",
    default: "30000",
    kind: Kind::Port,
    scope: Scope::Worker,
    doc: "Port of the worker's web pages and metrics.",
};
