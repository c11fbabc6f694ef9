//! Keys of all roles.

use crate::config::{Key, Kind, Scope};

keys! {
    /// `alluxio.home`.
    pub const HOME: Key = Key {
        name: "alluxio.home",
        default: "/opt/alluxio",
        kind: Kind::Text,
        scope: Scope::All,
        doc: "Installation folder.",
    };

    /// `alluxio.work.dir`.
    pub const WORK_DIR: Key = Key {
        name: "alluxio.work.dir",
        default: "${alluxio.home}",
        kind: Kind::Text,
        scope: Scope::All,
        doc: "Folder under which processes keep their state; `alluxio local --data` goes before it, and where neither \
              is set, `alluxio local` has a folder of its own.",
    };

    /// `alluxio.conf.dir`.
    pub const CONF_DIR: Key = Key {
        name: "alluxio.conf.dir",
        default: "${alluxio.home}/conf",
        kind: Kind::Text,
        scope: Scope::All,
        doc: "Folder of configuration files; `$ALLUXIO_CONF_DIR` sets it.",
    };

    /// `alluxio.site.conf.dir`.
    pub const SITE_CONF_DIR: Key = Key {
        name: "alluxio.site.conf.dir",
        default: "${alluxio.conf.dir}/,${user.home}/.alluxio/,/etc/alluxio/",
        kind: Kind::Text,
        scope: Scope::All,
        doc: "Folders in which `alluxio-site.properties` is looked for; the first that has it counts. Cannot \
              itself be set in that file.",
    };

    /// `alluxio.security.authentication.type`.
    pub const AUTHENTICATION_TYPE: Key = Key {
        name: "alluxio.security.authentication.type",
        default: "SIMPLE",
        kind: Kind::Enum(&["SIMPLE", "NOSASL"]),
        scope: Scope::Nobody,
        doc: "SIMPLE and NOSASL are the same here: the user that a client claims is believed.",
    };

    /// `alluxio.security.cluster.secret.file`.
    pub const CLUSTER_SECRET_FILE: Key = Key {
        name: "alluxio.security.cluster.secret.file",
        default: "${alluxio.work.dir}/cluster.secret",
        kind: Kind::Text,
        scope: Scope::All,
        doc: "File of the secret that masters and workers share, mode 0600. The first start of a master makes it; copy it to \
              the hosts of further workers. Credentials of under-storages are sealed by it in journal and metadata, and reach \
              only workers that have it: keep it with the backups.",
    };

    /// `alluxio.security.authorization.permission.enabled`.
    pub const AUTHORIZATION_ENABLED: Key = Key {
        name: "alluxio.security.authorization.permission.enabled",
        default: "true",
        kind: Kind::Bool,
        scope: Scope::All,
        doc: "Whether owner, group and mode are checked.",
    };

    /// `alluxio.security.authorization.permission.supergroup`.
    pub const SUPERGROUP: Key = Key {
        name: "alluxio.security.authorization.permission.supergroup",
        default: "supergroup",
        kind: Kind::Text,
        scope: Scope::All,
        doc: "Members of this group may do everything, as the user that runs the master may.",
    };

    /// `alluxio.security.authorization.permission.umask`.
    pub const UMASK: Key = Key {
        name: "alluxio.security.authorization.permission.umask",
        default: "022",
        kind: Kind::Octal,
        scope: Scope::All,
        doc: "Permission bits that new files and directories do not get when a command or gateway makes them; FUSE \
              uses the caller's.",
    };

    /// `alluxio.security.login.username`.
    pub const LOGIN_USERNAME: Key = Key {
        name: "alluxio.security.login.username",
        default: "",
        kind: Kind::Text,
        scope: Scope::All,
        doc: "User that commands and gateways act for; empty: the user of the process.",
    };

    /// `alluxio.user.network.rpc.keepalive.time`.
    pub const KEEPALIVE: Key = Key {
        name: "alluxio.user.network.rpc.keepalive.time",
        default: "10sec",
        kind: Kind::Duration,
        scope: Scope::All,
        doc: "Silence on a connection after which the other end is asked whether it lives; after three times this \
              it is taken for dead. Alluxio's default is 30sec: a mount should notice a dead host sooner.",
    };

    /// `alluxio.log`.
    pub const LOG: Key = Key {
        name: "alluxio.log",
        default: "",
        kind: Kind::Text,
        scope: Scope::All,
        doc: "Which log lines are written to standard error: a level (`debug`), or targets with levels \
              (`info,alluxio_worker=debug`). Empty: `$RUST_LOG`, and without it `info` of roles, errors of commands. At \
              `debug` each request has a span with its id, operation, inode and caller. Ours.",
    };

    /// `alluxio.log.format`.
    pub const LOG_FORMAT: Key = Key {
        name: "alluxio.log.format",
        default: "TEXT",
        kind: Kind::Enum(&["TEXT", "JSON"]),
        scope: Scope::All,
        doc: "TEXT: lines for people. JSON: one object a line, for log collectors. Ours.",
    };
}
