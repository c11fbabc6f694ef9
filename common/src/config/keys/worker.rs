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
        doc: "Port of the worker's metrics, health and log level over HTTP; as `alluxio.master.web.port`.",
    };

    /// `alluxio.worker.data.server.domain.socket.address`.
    pub const WORKER_DOMAIN_SOCKET_ADDRESS: Key = Key {
        name: "alluxio.worker.data.server.domain.socket.address",
        default: "",
        kind: Kind::Text,
        scope: Scope::Worker,
        doc: "Path of the unix socket that hands descriptors of cached files to clients of this host; empty: one \
              in the data folder.",
    };

    /// `alluxio.worker.tieredstore.level0.alias`.
    pub const WORKER_TIER0_ALIAS: Key = Key {
        name: "alluxio.worker.tieredstore.level0.alias",
        default: "SSD",
        kind: Kind::Enum(&["MEM", "SSD", "HDD"]),
        scope: Scope::Worker,
        doc: "Name of the worker's tier in reports: MEM, SSD or HDD.",
    };

    /// `alluxio.worker.tieredstore.level0.dirs.path`.
    pub const WORKER_TIER0_PATH: Key = Key {
        name: "alluxio.worker.tieredstore.level0.dirs.path",
        default: "${alluxio.work.dir}/cache",
        kind: Kind::Text,
        scope: Scope::Worker,
        doc: "Folder of the worker's data. It belongs to one worker of one cluster.",
    };

    /// `alluxio.worker.tieredstore.level0.dirs.quota`.
    pub const WORKER_TIER0_QUOTA: Key = Key {
        name: "alluxio.worker.tieredstore.level0.dirs.quota",
        default: "",
        kind: Kind::Bytes,
        scope: Scope::Worker,
        doc: "Bytes the worker may hold; empty: 90 % of what is free or ours in the file system at start.",
    };

    /// `alluxio.worker.tieredstore.level0.watermark.high.ratio`.
    pub const WORKER_TIER0_HIGH_RATIO: Key = Key {
        name: "alluxio.worker.tieredstore.level0.watermark.high.ratio",
        default: "0.95",
        kind: Kind::Ratio,
        scope: Scope::Worker,
        doc: "Share of the quota at which the coldest files are evicted in the background.",
    };

    /// `alluxio.worker.tieredstore.level0.watermark.low.ratio`.
    pub const WORKER_TIER0_LOW_RATIO: Key = Key {
        name: "alluxio.worker.tieredstore.level0.watermark.low.ratio",
        default: "0.7",
        kind: Kind::Ratio,
        scope: Scope::Worker,
        doc: "Share of the quota down to which eviction goes.",
    };

    /// `alluxio.worker.file.sync.on.close`.
    pub const WORKER_SYNC_ON_CLOSE: Key = Key {
        name: "alluxio.worker.file.sync.on.close",
        default: "true",
        kind: Kind::Bool,
        scope: Scope::Worker,
        doc: "Sync a written file to the worker's disk before its close is acknowledged. Without it a crash of the \
              operating system, not of the worker, can lose files that are not in the under-storage yet.",
    };

    /// `alluxio.worker.file.whole.fetch.size`.
    pub const WORKER_WHOLE_FETCH_BYTES: Key = Key {
        name: "alluxio.worker.file.whole.fetch.size",
        default: "1MB",
        kind: Kind::Bytes,
        scope: Scope::Worker,
        doc: "Files up to this size are fetched as a whole at the first read.",
    };

    /// `alluxio.worker.file.overwrite.track.size`.
    pub const WORKER_OVERWRITE_TRACK_BYTES: Key = Key {
        name: "alluxio.worker.file.overwrite.track.size",
        default: "256MB",
        kind: Kind::Bytes,
        scope: Scope::Worker,
        doc: "Files of this size and larger that are in an under-storage which copies ranges (S3, local disk) are opened \
              for writing through the daemon also when all of them is cached, so that only what changes is uploaded. \
              Smaller ones are written by passthrough and uploaded whole.",
    };

    /// `alluxio.worker.write.guard.enabled`.
    pub const WORKER_WRITE_GUARD: Key = Key {
        name: "alluxio.worker.write.guard.enabled",
        default: "true",
        kind: Kind::Bool,
        scope: Scope::Worker,
        doc: "Slow down and spill also files that are written by passthrough, of which their writer has a descriptor that can \
              only write. Needs Linux 6.14 and CAP_SYS_ADMIN; where these are not, the worker says so at its start. Without \
              it, and always on descriptors that can read and write, a writer meets ENOSPC when it fills the disk alone. \
              Changed while no mount has files open for writing.",
    };

    /// `alluxio.worker.fetch.part.size`.
    pub const WORKER_FETCH_PART_BYTES: Key = Key {
        name: "alluxio.worker.fetch.part.size",
        default: "8MB",
        kind: Kind::Bytes,
        scope: Scope::Worker,
        doc: "Largest range of one request to the under-storage.",
    };

    /// `alluxio.worker.fetch.parts.per.file`.
    pub const WORKER_FETCH_PARTS_PER_FILE: Key = Key {
        name: "alluxio.worker.fetch.parts.per.file",
        default: "4",
        kind: Kind::Int,
        scope: Scope::Worker,
        doc: "Read-ahead requests to the under-storage in flight for one file.",
    };

    /// `alluxio.worker.fetch.parts.max`.
    pub const WORKER_FETCH_PARTS_MAX: Key = Key {
        name: "alluxio.worker.fetch.parts.max",
        default: "64",
        kind: Kind::Int,
        scope: Scope::Worker,
        doc: "Requests to under-storages in flight in all; each holds up to 2 MiB in memory.",
    };

    /// `alluxio.worker.readahead.min`.
    pub const WORKER_READAHEAD_MIN_BYTES: Key = Key {
        name: "alluxio.worker.readahead.min",
        default: "256KB",
        kind: Kind::Bytes,
        scope: Scope::Worker,
        doc: "Read-ahead from the under-storage once reads turn out to be sequential.",
    };

    /// `alluxio.worker.readahead.max`.
    pub const WORKER_READAHEAD_MAX_BYTES: Key = Key {
        name: "alluxio.worker.readahead.max",
        default: "32MB",
        kind: Kind::Bytes,
        scope: Scope::Worker,
        doc: "Read-ahead that a long sequential read grows to; also what is fetched in vain when it stops.",
    };

    /// `alluxio.worker.files.loaded.max`.
    pub const WORKER_FILES_LOADED_MAX: Key = Key {
        name: "alluxio.worker.files.loaded.max",
        default: "32768",
        kind: Kind::Int,
        scope: Scope::Worker,
        doc: "Cached files whose descriptors and maps are kept open; two descriptors each, and at most half of \
              the process's limit in all (`ulimit -n`, which root's processes raise). Files open for writing come on top.",
    };

    /// `alluxio.worker.verify.rate`.
    pub const WORKER_VERIFY_RATE: Key = Key {
        name: "alluxio.worker.verify.rate",
        default: "512MB",
        kind: Kind::Bytes,
        scope: Scope::Worker,
        doc: "Bytes a second of opened files that the worker holds against their checksums in the background after a \
              start. A file is read through the worker until all of it was found right; from the next open on its reads \
              pass through. Small files are checked while they are opened.",
    };

    /// `alluxio.worker.scrub.period`.
    pub const WORKER_SCRUB_PERIOD: Key = Key {
        name: "alluxio.worker.scrub.period",
        default: "14day",
        kind: Kind::Duration,
        scope: Scope::Worker,
        doc: "How often everything cached is read from the disk and held against its checksums; also once after a crash. \
              What is damaged is fetched again, and shown by `fsadmin report` if it is in no under-storage; -1: never.",
    };

    /// `alluxio.worker.scrub.rate`.
    pub const WORKER_SCRUB_RATE: Key = Key {
        name: "alluxio.worker.scrub.rate",
        default: "64MB",
        kind: Kind::Bytes,
        scope: Scope::Worker,
        doc: "Bytes a second that the pass over everything cached reads at most.",
    };

    /// `alluxio.worker.persist.parallelism`.
    pub const WORKER_PERSIST_PARALLELISM: Key = Key {
        name: "alluxio.worker.persist.parallelism",
        default: "16",
        kind: Kind::Int,
        scope: Scope::Worker,
        doc: "Uploads to under-storages at once.",
    };

    /// `alluxio.worker.stale.upload.age`.
    pub const WORKER_STALE_UPLOAD_AGE: Key = Key {
        name: "alluxio.worker.stale.upload.age",
        default: "1day",
        kind: Kind::Duration,
        scope: Scope::Worker,
        doc: "Interrupted uploads of ours that are older are aborted when the worker starts; -1: never.",
    };

    /// `alluxio.worker.block.heartbeat.interval`.
    pub const WORKER_HEARTBEAT_INTERVAL: Key = Key {
        name: "alluxio.worker.block.heartbeat.interval",
        default: "1sec",
        kind: Kind::Duration,
        scope: Scope::Worker,
        doc: "How often the worker tells the master what it holds.",
    };

    /// `alluxio.worker.web.bind.host`.
    pub const WORKER_WEB_BIND_HOST: Key = Key {
        name: "alluxio.worker.web.bind.host",
        default: "${alluxio.worker.bind.host}",
        kind: Kind::Text,
        scope: Scope::Worker,
        doc: "Address the worker's web port listens on. Alluxio's default is 0.0.0.0, also when the RPC port is not.",
    };

    /// `alluxio.worker.master.connect.retry.timeout`.
    pub const WORKER_CONNECT_RETRY: Key = Key {
        name: "alluxio.worker.master.connect.retry.timeout",
        default: "1hour",
        kind: Kind::Duration,
        scope: Scope::Worker,
        doc: "How long a worker that was just started tries to register with the master before it ends with an error; -1: \
              for ever.",
    };
}
