//! Keys of under-storages.

use crate::config::{Key, Kind, Scope};

keys! {
    /// `alluxio.underfs.object.store.uploads.dir`.
    pub const UPLOADS_DIR: Key = Key {
        name: "alluxio.underfs.object.store.uploads.dir",
        default: "${alluxio.work.dir}/uploads",
        kind: Kind::Text,
        scope: Scope::Server,
        doc: "Folder in which uploads in parts that are under way are noted. After a crash only what is noted here is aborted: other \
              programs' uploads stay.",
    };

    /// `s3a.accessKeyId`.
    pub const S3_ACCESS_KEY: Key = Key {
        name: "s3a.accessKeyId",
        default: "",
        kind: Kind::Text,
        scope: Scope::Server,
        doc: "Access key of S3; empty: the usual AWS environment and profile.",
    };

    /// `s3a.secretKey`.
    pub const S3_SECRET_KEY: Key = Key {
        name: "s3a.secretKey",
        default: "",
        kind: Kind::Text,
        scope: Scope::Server,
        doc: "Secret key of S3, with `s3a.accessKeyId`.",
    };

    /// `alluxio.underfs.s3.endpoint`.
    pub const S3_ENDPOINT: Key = Key {
        name: "alluxio.underfs.s3.endpoint",
        default: "",
        kind: Kind::Text,
        scope: Scope::Server,
        doc: "Endpoint URL of S3; empty: AWS. Without a scheme it is https.",
    };

    /// `alluxio.underfs.s3.endpoint.region`.
    pub const S3_ENDPOINT_REGION: Key = Key {
        name: "alluxio.underfs.s3.endpoint.region",
        default: "",
        kind: Kind::Text,
        scope: Scope::Server,
        doc: "Region that requests to the endpoint are signed for; goes before `alluxio.underfs.s3.region`.",
    };

    /// `alluxio.underfs.s3.region`.
    pub const S3_REGION: Key = Key {
        name: "alluxio.underfs.s3.region",
        default: "",
        kind: Kind::Text,
        scope: Scope::Server,
        doc: "Region of the bucket; empty: the AWS environment and profile, then us-east-1.",
    };

    /// `alluxio.underfs.s3.disable.dns.buckets`.
    pub const S3_DISABLE_DNS_BUCKETS: Key = Key {
        name: "alluxio.underfs.s3.disable.dns.buckets",
        default: "",
        kind: Kind::Text,
        scope: Scope::Server,
        doc: "true: the bucket goes into the path of requests, false: into the host name. Empty: true if an endpoint is set.",
    };

    /// `alluxio.underfs.s3.request.timeout`.
    pub const S3_REQUEST_TIMEOUT: Key = Key {
        name: "alluxio.underfs.s3.request.timeout",
        default: "1min",
        kind: Kind::Duration,
        scope: Scope::Server,
        doc: "How long one request to an object store may take with all its retries. Bodies have more time, by their length.",
    };

    /// `alluxio.underfs.s3.socket.timeout`.
    pub const S3_SOCKET_TIMEOUT: Key = Key {
        name: "alluxio.underfs.s3.socket.timeout",
        default: "50sec",
        kind: Kind::Duration,
        scope: Scope::Server,
        doc: "How long an object store may stay silent within one attempt of a request.",
    };

    /// `alluxio.underfs.s3.max.error.retry`.
    pub const S3_MAX_ERROR_RETRY: Key = Key {
        name: "alluxio.underfs.s3.max.error.retry",
        default: "4",
        kind: Kind::Int,
        scope: Scope::Server,
        doc: "How often a request is retried that was throttled or found no server.",
    };

    /// `alluxio.underfs.s3.streaming.upload.partition.size`.
    pub const S3_UPLOAD_PART_SIZE: Key = Key {
        name: "alluxio.underfs.s3.streaming.upload.partition.size",
        default: "8MB",
        kind: Kind::Bytes,
        scope: Scope::Server,
        doc: "Size of a part of a multipart upload, at least 5MB; objects up to it are written by one request.",
    };

    /// `alluxio.underfs.s3.upload.threads.max`.
    pub const S3_UPLOAD_PARTS_IN_FLIGHT: Key = Key {
        name: "alluxio.underfs.s3.upload.threads.max",
        default: "4",
        kind: Kind::Int,
        scope: Scope::Server,
        doc: "Parts of one multipart upload in flight; times the part size is the memory that an upload takes.",
    };

    /// `alluxio.underfs.s3.copy.part.size`.
    pub const S3_COPY_PART_SIZE: Key = Key {
        name: "alluxio.underfs.s3.copy.part.size",
        default: "5GB",
        kind: Kind::Bytes,
        scope: Scope::Server,
        doc: "Objects above this size are copied in parts when they are renamed; S3 allows 5GB at most, 5MB at least.",
    };

    /// `alluxio.underfs.object.store.service.threads`.
    pub const OBJECT_STORE_SERVICE_THREADS: Key = Key {
        name: "alluxio.underfs.object.store.service.threads",
        default: "20",
        kind: Kind::Int,
        scope: Scope::Server,
        doc: "Requests in flight of one operation on many objects, such as the rename of a folder.",
    };
}
