//! Keys of under-storages.

use crate::config::{Key, Kind, Scope};

/// `s3a.accessKeyId`.
pub const S3_ACCESS_KEY: Key = Key {
    name: "s3a.accessKeyId",
    default: "",
    kind: Kind::Text,
    scope: Scope::Server,
    doc: "Access key of S3; empty: the usual AWS environment and profile.",
};

/// `alluxio.underfs.s3.endpoint`.
pub const S3_ENDPOINT: Key = Key {
    name: "alluxio.underfs.s3.endpoint",
    default: "",
    kind: Kind::Text,
    scope: Scope::Server,
    doc: "Endpoint URL of S3; empty: AWS.",
};
