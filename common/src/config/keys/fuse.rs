//! Keys of the FUSE client.

use crate::config::{Key, Kind, Scope};

keys! {
    /// `alluxio.fuse.mount.point`.
    pub const FUSE_MOUNT_POINT: Key = Key {
        name: "alluxio.fuse.mount.point",
        default: "/mnt/alluxio-fuse",
        kind: Kind::Text,
        scope: Scope::Client,
        doc: "Where `alluxio fuse mount` mounts when no DIR is given.",
    };

    /// `alluxio.fuse.mount.alluxio.path`.
    pub const FUSE_MOUNT_PATH: Key = Key {
        name: "alluxio.fuse.mount.alluxio.path",
        default: "/",
        kind: Kind::Text,
        scope: Scope::Client,
        doc: "Folder of the namespace that `alluxio fuse mount` mounts when no PATH is given, and `alluxio local` at all.",
    };

    /// `alluxio.fuse.mount.options`.
    pub const FUSE_MOUNT_OPTIONS: Key = Key {
        name: "alluxio.fuse.mount.options",
        default: "",
        kind: Kind::Text,
        scope: Scope::Client,
        doc: "Mount options, separated by commas, before those of the command line. Alluxio's default sets \
              attr_timeout and entry_timeout to 600: ours are below, and safe at any length.",
    };

    /// `alluxio.fuse.fs.name`.
    pub const FUSE_FS_NAME: Key = Key {
        name: "alluxio.fuse.fs.name",
        default: "",
        kind: Kind::Text,
        scope: Scope::Client,
        doc: "First column of `df` and `/proc/mounts` of `alluxio local` and `alluxio fuse mount`; empty: what is mounted, such \
              as `alluxio:/`. Alluxio's default is alluxio-fuse. For `mount -t alluxio` it is the first word of the command.",
    };

    /// `alluxio.fuse.attr.timeout`.
    pub const FUSE_ATTR_TIMEOUT: Key = Key {
        name: "alluxio.fuse.attr.timeout",
        default: "10min",
        kind: Kind::Duration,
        scope: Scope::Client,
        doc: "How long the kernel may keep attributes while changes by others are pushed to this mount; one second \
              while they are not. Ours.",
    };

    /// `alluxio.fuse.entry.timeout`.
    pub const FUSE_ENTRY_TIMEOUT: Key = Key {
        name: "alluxio.fuse.entry.timeout",
        default: "10min",
        kind: Kind::Duration,
        scope: Scope::Client,
        doc: "As `alluxio.fuse.attr.timeout`, for names. Ours.",
    };

    /// `alluxio.fuse.passthrough.enabled`.
    pub const FUSE_PASSTHROUGH: Key = Key {
        name: "alluxio.fuse.passthrough.enabled",
        default: "true",
        kind: Kind::Bool,
        scope: Scope::Client,
        doc: "Whether the kernel reads and writes complete local files itself (needs Linux 6.9 and CAP_SYS_ADMIN). \
              Ours.",
    };

    /// `alluxio.fuse.threads`.
    pub const FUSE_THREADS: Key = Key {
        name: "alluxio.fuse.threads",
        default: "0",
        kind: Kind::Int,
        scope: Scope::Client,
        doc: "Threads that take requests from the kernel; 0: as many as cores, at least 2. Ours.",
    };

    /// `alluxio.fuse.transport`.
    pub const FUSE_TRANSPORT: Key = Key {
        name: "alluxio.fuse.transport",
        default: "DEV",
        kind: Kind::Enum(&["FUSER", "DEV"]),
        scope: Scope::Client,
        doc: "Who talks to the kernel: DEV, our own session over /dev/fuse, or FUSER, the crate of that name, which \
              knows no interrupts, birth times, flock locks and files without a name. Ours.",
    };

    /// `alluxio.fuse.umount.timeout`.
    pub const FUSE_UMOUNT_TIMEOUT: Key = Key {
        name: "alluxio.fuse.umount.timeout",
        default: "0s",
        kind: Kind::Duration,
        scope: Scope::Client,
        doc: "How long unmounting waits for files in use.",
    };

    /// `alluxio.fuse.web.enabled`.
    pub const FUSE_WEB_ENABLED: Key = Key {
        name: "alluxio.fuse.web.enabled",
        default: "false",
        kind: Kind::Bool,
        scope: Scope::Client,
        doc: "Whether a mount serves its metrics, health and log level over HTTP. Off, as several mounts of a host \
              would want the same port.",
    };

    /// `alluxio.fuse.web.port`.
    pub const FUSE_WEB_PORT: Key = Key {
        name: "alluxio.fuse.web.port",
        default: "49999",
        kind: Kind::Port,
        scope: Scope::Client,
        doc: "Port of that; 0: any free port, told in the log.",
    };

    /// `alluxio.fuse.web.bind.host`.
    pub const FUSE_WEB_BIND_HOST: Key = Key {
        name: "alluxio.fuse.web.bind.host",
        default: "127.0.0.1",
        kind: Kind::Text,
        scope: Scope::Client,
        doc: "Address that it listens on. Alluxio's default is 0.0.0.0.",
    };
}
