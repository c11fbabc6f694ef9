//! Keys of clients.

use crate::config::{Key, Kind, Scope};

keys! {
    /// `alluxio.user.file.writetype.default`.
    pub const WRITE_TYPE: Key = Key {
        name: "alluxio.user.file.writetype.default",
        default: "ASYNC_THROUGH",
        kind: Kind::Enum(&["MUST_CACHE", "CACHE_THROUGH", "THROUGH", "ASYNC_THROUGH"]),
        scope: Scope::Client,
        doc: "When newly written data reaches the under-storage.",
    };

    /// `alluxio.user.file.readtype.default`.
    pub const READ_TYPE: Key = Key {
        name: "alluxio.user.file.readtype.default",
        default: "CACHE",
        kind: Kind::Enum(&["NO_CACHE", "CACHE", "CACHE_PROMOTE"]),
        scope: Scope::Nobody,
        doc: "What is read is kept by workers until its room is needed.",
    };

    /// `alluxio.user.file.metadata.sync.interval`.
    pub const SYNC_INTERVAL: Key = Key {
        name: "alluxio.user.file.metadata.sync.interval",
        default: "30s",
        kind: Kind::Duration,
        scope: Scope::All,
        doc: "How old what is known of an under-storage may be before it is looked at again; 0: always look; -1: \
              never. Alluxio's default is -1.",
    };

    /// `alluxio.user.block.size.bytes.default`.
    pub const BLOCK_SIZE: Key = Key {
        name: "alluxio.user.block.size.bytes.default",
        default: "64MB",
        kind: Kind::Bytes,
        scope: Scope::Client,
        doc: "Block size of new files.",
    };

    /// `alluxio.user.file.persistence.initial.wait.time`.
    pub const PERSIST_WAIT: Key = Key {
        name: "alluxio.user.file.persistence.initial.wait.time",
        default: "200ms",
        kind: Kind::Duration,
        scope: Scope::All,
        doc: "How long after the last close an ASYNC_THROUGH file is persisted, so that create, write and rename \
              cost one upload. While many changes are made, up to three seconds longer. Alluxio's default is 0.",
    };

    /// `alluxio.user.rpc.timeout`.
    pub const RPC_TIMEOUT: Key = Key {
        name: "alluxio.user.rpc.timeout",
        default: "30s",
        kind: Kind::Duration,
        scope: Scope::Client,
        doc: "Longest wait for one answer of master or worker. Ours; Alluxio has none for the master.",
    };

    /// `alluxio.user.rpc.connect.timeout`.
    pub const RPC_CONNECT_TIMEOUT: Key = Key {
        name: "alluxio.user.rpc.connect.timeout",
        default: "5s",
        kind: Kind::Duration,
        scope: Scope::Client,
        doc: "Longest wait for a connection to one address. Ours.",
    };

    /// `alluxio.user.rpc.retry.base.sleep`.
    pub const RPC_RETRY_BASE: Key = Key {
        name: "alluxio.user.rpc.retry.base.sleep",
        default: "50ms",
        kind: Kind::Duration,
        scope: Scope::Client,
        doc: "First pause before a call is repeated; it doubles.",
    };

    /// `alluxio.user.rpc.retry.max.sleep`.
    pub const RPC_RETRY_MAX_SLEEP: Key = Key {
        name: "alluxio.user.rpc.retry.max.sleep",
        default: "3sec",
        kind: Kind::Duration,
        scope: Scope::Client,
        doc: "Longest pause before a call is repeated.",
    };

    /// `alluxio.user.rpc.retry.max.duration`.
    pub const RPC_RETRY_MAX: Key = Key {
        name: "alluxio.user.rpc.retry.max.duration",
        default: "2min",
        kind: Kind::Duration,
        scope: Scope::Client,
        doc: "How long a call is repeated while the other end cannot be reached; then the caller gets an error.",
    };

    /// `alluxio.user.short.circuit.enabled`.
    pub const SHORT_CIRCUIT: Key = Key {
        name: "alluxio.user.short.circuit.enabled",
        default: "true",
        kind: Kind::Bool,
        scope: Scope::Client,
        doc: "Whether a worker on this host hands out descriptors of cached files, which are then read and written \
              without it.",
    };

    /// `alluxio.user.date.format.pattern`.
    pub const DATE_FORMAT: Key = Key {
        name: "alluxio.user.date.format.pattern",
        default: "MM-dd-yyyy HH:mm:ss:SSS",
        kind: Kind::Text,
        scope: Scope::Client,
        doc: "How `fs ls` prints times (letters of Java's SimpleDateFormat).",
    };

    /// `alluxio.user.hostname`.
    pub const USER_HOSTNAME: Key = Key {
        name: "alluxio.user.hostname",
        default: "",
        kind: Kind::Text,
        scope: Scope::Client,
        doc: "This host's name, to find the worker on the same host; empty: what the system says.",
    };

    /// `alluxio.user.rename.across.mounts`.
    pub const RENAME_ACROSS_MOUNTS: Key = Key {
        name: "alluxio.user.rename.across.mounts",
        default: "false",
        kind: Kind::Bool,
        scope: Scope::Client,
        doc: "Whether rename moves files and folders from one mount of the namespace to another: at once in the \
              namespace, while the master copies their objects between the two under-storages behind it. Without it \
              that is EXDEV, and `mv` copies. Ours.",
    };

    /// `alluxio.user.session.timeout`.
    pub const SESSION_TIMEOUT: Key = Key {
        name: "alluxio.user.session.timeout",
        default: "60s",
        kind: Kind::Duration,
        scope: Scope::All,
        doc: "Silence after which a mount's session ends and releases what it held. Ours.",
    };
}
