//! Keys of the master.

use crate::config::{Key, Kind, Scope};

keys! {
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

    /// `alluxio.master.rpc.addresses`.
    pub const MASTER_RPC_ADDRESSES: Key = Key {
        name: "alluxio.master.rpc.addresses",
        default: "",
        kind: Kind::Text,
        scope: Scope::All,
        doc: "All masters as `host:port,host:port`, tried in turn; empty: `alluxio.master.hostname` and \
              `alluxio.master.rpc.port`.",
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
        doc: "Port of the master's metrics, health and log level over HTTP. If it is the default and taken, the master \
              serves without it and warns; 0: any free port, told in the log.",
    };

    /// `alluxio.master.web.bind.host`.
    pub const MASTER_WEB_BIND_HOST: Key = Key {
        name: "alluxio.master.web.bind.host",
        default: "${alluxio.master.bind.host}",
        kind: Kind::Text,
        scope: Scope::Master,
        doc: "Address the master's web port listens on. Alluxio's default is 0.0.0.0, also when the RPC port is not.",
    };

    /// `alluxio.master.mount.table.root.ufs`.
    pub const ROOT_UFS: Key = Key {
        name: "alluxio.master.mount.table.root.ufs",
        default: "${alluxio.work.dir}/underFSStorage",
        kind: Kind::Text,
        scope: Scope::Master,
        doc: "What is mounted at the root of the namespace when a cluster is formatted.",
    };

    /// `alluxio.master.mount.table.root.readonly`.
    pub const ROOT_UFS_READONLY: Key = Key {
        name: "alluxio.master.mount.table.root.readonly",
        default: "false",
        kind: Kind::Bool,
        scope: Scope::Master,
        doc: "Whether the root mount refuses changes.",
    };

    /// `alluxio.master.mount.credentials.forget`.
    pub const FORGET_CREDENTIALS: Key = Key {
        name: "alluxio.master.mount.credentials.forget",
        default: "false",
        kind: Kind::Bool,
        scope: Scope::Master,
        doc: "Start although the cluster's secret is lost: credentials of mounts that cannot be opened any more are forgotten, and \
              given again by `alluxio fs mount --update`. For one start. Ours.",
    };

    /// `alluxio.master.journal.type`.
    pub const JOURNAL_TYPE: Key = Key {
        name: "alluxio.master.journal.type",
        default: "EMBEDDED",
        kind: Kind::Enum(&["EMBEDDED"]),
        scope: Scope::Nobody,
        doc: "There is one: EMBEDDED, in `alluxio.master.journal.folder` of each master.",
    };

    /// `alluxio.master.journal.folder`.
    pub const JOURNAL_FOLDER: Key = Key {
        name: "alluxio.master.journal.folder",
        default: "${alluxio.work.dir}/journal",
        kind: Kind::Text,
        scope: Scope::Master,
        doc: "Folder of the journal.",
    };

    /// `alluxio.master.journal.checkpoint.period.entries`.
    pub const JOURNAL_CHECKPOINT_ENTRIES: Key = Key {
        name: "alluxio.master.journal.checkpoint.period.entries",
        default: "1000000",
        kind: Kind::Int,
        scope: Scope::Master,
        doc: "Entries after which a snapshot is taken and the log before it purged. Alluxio's default is 2000000: \
              half the replay at start.",
    };

    /// `alluxio.master.journal.log.size.bytes.max`.
    pub const JOURNAL_SEGMENT_BYTES: Key = Key {
        name: "alluxio.master.journal.log.size.bytes.max",
        default: "64MB",
        kind: Kind::Bytes,
        scope: Scope::Master,
        doc: "Size of one segment of the log; purging removes whole segments. Alluxio's default is 10MB: with \
              fewer files a group commit rarely meets the creation of one.",
    };

    /// `alluxio.master.journal.space.low.bytes`.
    pub const JOURNAL_SPACE_LOW: Key = Key {
        name: "alluxio.master.journal.space.low.bytes",
        default: "128MB",
        kind: Kind::Bytes,
        scope: Scope::Master,
        doc: "With less free on the disk of the journal or of the metadata store, the namespace is read-only (ENOSPC) \
              until room is made. Unless it is set, at most a twentieth of the disk.",
    };

    /// `alluxio.master.metastore`.
    pub const METASTORE: Key = Key {
        name: "alluxio.master.metastore",
        default: "ROCKS",
        kind: Kind::Enum(&["ROCKS", "HEAP"]),
        scope: Scope::Master,
        doc: "Where metadata is kept. ROCKS: on disk, in the key-value store of this implementation (which is not \
              RocksDB), behind a cache. HEAP: in memory, rebuilt from the journal.",
    };

    /// `alluxio.master.metastore.dir`.
    pub const METASTORE_DIR: Key = Key {
        name: "alluxio.master.metastore.dir",
        default: "${alluxio.work.dir}/metastore",
        kind: Kind::Text,
        scope: Scope::Master,
        doc: "Folder of the metadata store.",
    };

    /// `alluxio.master.metastore.cache.bytes`.
    pub const METASTORE_CACHE_BYTES: Key = Key {
        name: "alluxio.master.metastore.cache.bytes",
        default: "64MB",
        kind: Kind::Bytes,
        scope: Scope::Master,
        doc: "Memory for blocks of the metadata store. Ours; Alluxio sizes caches by inodes.",
    };

    /// `alluxio.master.metastore.inode.cache.max.size`.
    pub const METASTORE_INODE_CACHE: Key = Key {
        name: "alluxio.master.metastore.inode.cache.max.size",
        default: "100000",
        kind: Kind::Int,
        scope: Scope::Master,
        doc: "Inodes kept decoded in memory. Alluxio takes a part of the Java heap.",
    };

    /// `alluxio.master.metastore.inode.inherit.owner.and.group`.
    pub const INHERIT_OWNER: Key = Key {
        name: "alluxio.master.metastore.inode.inherit.owner.and.group",
        default: "true",
        kind: Kind::Bool,
        scope: Scope::Master,
        doc: "Whether what is loaded from an object store, which has no owners, takes owner and group of its \
              directory.",
    };

    /// `alluxio.master.filesystem.operation.retry.cache.size`.
    pub const RETRY_CACHE_SIZE: Key = Key {
        name: "alluxio.master.filesystem.operation.retry.cache.size",
        default: "100000",
        kind: Kind::Int,
        scope: Scope::Nobody,
        doc: "How many answers are kept for clients that lost theirs follows from what each session has in flight.",
    };

    /// `alluxio.master.filesystem.liststatus.result.message.length`.
    pub const LISTING_PAGE: Key = Key {
        name: "alluxio.master.filesystem.liststatus.result.message.length",
        default: "10000",
        kind: Kind::Int,
        scope: Scope::Master,
        doc: "Entries of a directory in one answer at most.",
    };

    /// `alluxio.master.ufs.path.cache.capacity`.
    pub const ABSENT_CACHE_SIZE: Key = Key {
        name: "alluxio.master.ufs.path.cache.capacity",
        default: "100000",
        kind: Kind::Int,
        scope: Scope::Master,
        doc: "Names that are remembered to be absent in an under-storage.",
    };

    /// `alluxio.master.persistence.initial.interval`.
    pub const PERSIST_INITIAL_INTERVAL: Key = Key {
        name: "alluxio.master.persistence.initial.interval",
        default: "1s",
        kind: Kind::Duration,
        scope: Scope::Master,
        doc: "Pause before a failed change of an under-storage is tried again; it doubles with each failure.",
    };

    /// `alluxio.master.persistence.max.interval`.
    pub const PERSIST_MAX_INTERVAL: Key = Key {
        name: "alluxio.master.persistence.max.interval",
        default: "1min",
        kind: Kind::Duration,
        scope: Scope::Master,
        doc: "Longest pause between tries. Alluxio's default is 1hr: an outage of an hour should not cost two.",
    };

    /// `alluxio.master.persistence.refused.timeout`.
    pub const REFUSED_TIMEOUT: Key = Key {
        name: "alluxio.master.persistence.refused.timeout",
        default: "10min",
        kind: Kind::Duration,
        scope: Scope::Master,
        doc: "A change that an under-storage refuses (403, EROFS) is tried again for this long and listed by `fsadmin report` \
              meanwhile. Then a deletion or new attributes are given up, an upload or a rename waits for a person. Ours.",
    };

    /// `alluxio.master.persistence.parallel.max`.
    pub const PERSIST_PARALLEL: Key = Key {
        name: "alluxio.master.persistence.parallel.max",
        default: "64",
        kind: Kind::Int,
        scope: Scope::Master,
        doc: "Changes of under-storages (uploads, deletions, renames) under way at once. Ours.",
    };

    /// `alluxio.master.persistence.blacklist`.
    pub const PERSIST_BLACKLIST: Key = Key {
        name: "alluxio.master.persistence.blacklist",
        default: "",
        kind: Kind::Text,
        scope: Scope::Nobody,
        doc: "Every file is persisted as its write type says, whatever its path.",
    };

    /// `alluxio.master.worker.timeout`.
    pub const WORKER_TIMEOUT: Key = Key {
        name: "alluxio.master.worker.timeout",
        default: "5min",
        kind: Kind::Duration,
        scope: Scope::Master,
        doc: "Silence after which a worker is taken for lost.",
    };
}
