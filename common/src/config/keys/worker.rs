//! Keys of the worker.

use crate::config::{Key, Kind, Scope};

keys! {
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

    /// `alluxio.worker.web.bind.host`.
    pub const WORKER_WEB_BIND_HOST: Key = Key {
        name: "alluxio.worker.web.bind.host",
        default: "0.0.0.0",
        kind: Kind::Text,
        scope: Scope::Worker,
        doc: "Address the worker's web pages listen on.",
    };

    /// `alluxio.worker.data.server.domain.socket.address`.
    pub const WORKER_DOMAIN_SOCKET: Key = Key {
        name: "alluxio.worker.data.server.domain.socket.address",
        default: "${alluxio.worker.tieredstore.level0.dirs.path}/worker.sock",
        kind: Kind::Text,
        scope: Scope::Worker,
        doc: "Path of the unix socket that hands file descriptors to clients on this host; empty: none. Alluxio's \
              default is none.",
    };

    /// `alluxio.worker.tieredstore.level0.alias`.
    pub const TIER0_ALIAS: Key = Key {
        name: "alluxio.worker.tieredstore.level0.alias",
        default: "SSD",
        kind: Kind::Enum(&["MEM", "SSD", "HDD"]),
        scope: Scope::Worker,
        doc: "Name of the tier, shown in reports. Alluxio's default is MEM; our cache lies on disk and lives in \
              the page cache.",
    };

    /// `alluxio.worker.tieredstore.level0.dirs.path`.
    pub const TIER0_PATH: Key = Key {
        name: "alluxio.worker.tieredstore.level0.dirs.path",
        default: "${alluxio.work.dir}/cache",
        kind: Kind::Text,
        scope: Scope::Worker,
        doc: "Folder of cached data. One folder for now. Alluxio's default is /mnt/ramdisk.",
    };

    /// `alluxio.worker.tieredstore.level0.dirs.quota`.
    pub const TIER0_QUOTA: Key = Key {
        name: "alluxio.worker.tieredstore.level0.dirs.quota",
        default: "16GB",
        kind: Kind::Bytes,
        scope: Scope::Worker,
        doc: "Most bytes that cached data may take there. A file system that fills up first is a limit too. \
              Alluxio's default is two thirds of the memory.",
    };

    /// `alluxio.worker.tieredstore.level0.watermark.high.ratio`.
    pub const TIER0_HIGH_WATERMARK: Key = Key {
        name: "alluxio.worker.tieredstore.level0.watermark.high.ratio",
        default: "0.95",
        kind: Kind::Ratio,
        scope: Scope::Worker,
        doc: "Part of the quota at which eviction starts.",
    };

    /// `alluxio.worker.tieredstore.level0.watermark.low.ratio`.
    pub const TIER0_LOW_WATERMARK: Key = Key {
        name: "alluxio.worker.tieredstore.level0.watermark.low.ratio",
        default: "0.7",
        kind: Kind::Ratio,
        scope: Scope::Worker,
        doc: "Part of the quota at which eviction stops.",
    };

    /// `alluxio.worker.file.sync.on.close`.
    pub const SYNC_ON_CLOSE: Key = Key {
        name: "alluxio.worker.file.sync.on.close",
        default: "true",
        kind: Kind::Bool,
        scope: Scope::Worker,
        doc: "Whether data that is not in the under-storage yet is synced to disk before its close is \
              acknowledged. Ours.",
    };

    /// `alluxio.worker.block.heartbeat.interval`.
    pub const WORKER_HEARTBEAT: Key = Key {
        name: "alluxio.worker.block.heartbeat.interval",
        default: "1sec",
        kind: Kind::Duration,
        scope: Scope::Worker,
        doc: "How often a worker reports to the master; a report waits there for work.",
    };

    /// `alluxio.worker.master.connect.retry.timeout`.
    pub const WORKER_CONNECT_RETRY: Key = Key {
        name: "alluxio.worker.master.connect.retry.timeout",
        default: "1hour",
        kind: Kind::Duration,
        scope: Scope::Worker,
        doc: "How long a worker tries to reach the master before it gives up.",
    };

    /// `alluxio.worker.ufs.reads.max`.
    pub const UFS_READS_MAX: Key = Key {
        name: "alluxio.worker.ufs.reads.max",
        default: "32",
        kind: Kind::Int,
        scope: Scope::Worker,
        doc: "Ranges that are fetched from under-storages at once. Ours.",
    };

    /// `alluxio.worker.ufs.fetch.bytes`.
    pub const UFS_FETCH_BYTES: Key = Key {
        name: "alluxio.worker.ufs.fetch.bytes",
        default: "4MB",
        kind: Kind::Bytes,
        scope: Scope::Worker,
        doc: "Longest range of one fetch from an under-storage: what a sequential reader's window grows to. Ours.",
    };
}
