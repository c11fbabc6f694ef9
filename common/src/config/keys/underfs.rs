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
        doc: "Access key of S3; empty: what the AWS tools would use, see docs/s3-storage.md.",
    };

    /// `s3a.secretKey`.
    pub const S3_SECRET_KEY: Key = Key {
        name: "s3a.secretKey",
        default: "",
        kind: Kind::Text,
        scope: Scope::Server,
        doc: "Secret key of S3, with `s3a.accessKeyId`.",
    };

    /// `s3a.sessionToken`.
    pub const S3_SESSION_TOKEN: Key = Key {
        name: "s3a.sessionToken",
        default: "",
        kind: Kind::Text,
        scope: Scope::Server,
        doc: "Session token of S3, with `s3a.accessKeyId` and `s3a.secretKey`, for keys that were given for a while. Nothing \
              renews them: a profile or a role is better.",
    };

    /// `alluxio.underfs.s3.profile`.
    pub const S3_PROFILE: Key = Key {
        name: "alluxio.underfs.s3.profile",
        default: "",
        kind: Kind::Text,
        scope: Scope::Server,
        doc: "Profile of the AWS files that credentials come from; it goes before AWS_PROFILE and the keys of the environment. \
              The files are read again when they change.",
    };

    /// `alluxio.underfs.s3.anonymous`.
    pub const S3_ANONYMOUS: Key = Key {
        name: "alluxio.underfs.s3.anonymous",
        default: "false",
        kind: Kind::Bool,
        scope: Scope::Server,
        doc: "Whether requests to S3 go without a signature, as public buckets take them.",
    };

    /// `alluxio.underfs.s3.ca.bundle`.
    pub const S3_CA_BUNDLE: Key = Key {
        name: "alluxio.underfs.s3.ca.bundle",
        default: "",
        kind: Kind::Text,
        scope: Scope::Server,
        doc: "File of certificate authorities (PEM) that S3 and the services of credentials are trusted by, instead of those \
              of the host. Empty: AWS_CA_BUNDLE, then those of the host.",
    };

    /// `alluxio.underfs.s3.proxy.host`.
    pub const S3_PROXY_HOST: Key = Key {
        name: "alluxio.underfs.s3.proxy.host",
        default: "",
        kind: Kind::Text,
        scope: Scope::Server,
        doc: "Host of an HTTP proxy to S3, but for what NO_PROXY names. Empty: HTTPS_PROXY, HTTP_PROXY, ALL_PROXY.",
    };

    /// `alluxio.underfs.s3.proxy.port`.
    pub const S3_PROXY_PORT: Key = Key {
        name: "alluxio.underfs.s3.proxy.port",
        default: "0",
        kind: Kind::Int,
        scope: Scope::Server,
        doc: "Port of `alluxio.underfs.s3.proxy.host`.",
    };

    /// `alluxio.underfs.s3.endpoint`.
    pub const S3_ENDPOINT: Key = Key {
        name: "alluxio.underfs.s3.endpoint",
        default: "",
        kind: Kind::Text,
        scope: Scope::Server,
        doc: "Endpoint URL of S3, perhaps with a path; empty: AWS. Without a scheme it is https.",
    };

    /// `alluxio.underfs.s3.endpoint.dualstack`.
    pub const S3_DUALSTACK: Key = Key {
        name: "alluxio.underfs.s3.endpoint.dualstack",
        default: "false",
        kind: Kind::Bool,
        scope: Scope::Server,
        doc: "Whether AWS's endpoints for IPv4 and IPv6 are used; AWS_USE_DUALSTACK_ENDPOINT says the same.",
    };

    /// `alluxio.underfs.s3.endpoint.fips`.
    pub const S3_FIPS: Key = Key {
        name: "alluxio.underfs.s3.endpoint.fips",
        default: "false",
        kind: Kind::Bool,
        scope: Scope::Server,
        doc: "Whether AWS's endpoints with FIPS 140 cryptography are used; AWS_USE_FIPS_ENDPOINT says the same.",
    };

    /// `alluxio.underfs.s3.endpoint.accelerate`.
    pub const S3_ACCELERATE: Key = Key {
        name: "alluxio.underfs.s3.endpoint.accelerate",
        default: "false",
        kind: Kind::Bool,
        scope: Scope::Server,
        doc: "Whether AWS's Transfer Acceleration is used, which the bucket must have enabled.",
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
        doc: "Region of the bucket; empty: the AWS environment and profile, then us-east-1. Where the store says that it is in another one, that \
              is used from then on.",
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

    /// `alluxio.underfs.s3.body.stall.timeout`.
    pub const S3_BODY_STALL_TIMEOUT: Key = Key {
        name: "alluxio.underfs.s3.body.stall.timeout",
        default: "5sec",
        kind: Kind::Duration,
        scope: Scope::Server,
        doc: "How long the body of an object that is read may stay silent; then the rest is asked for again, from where it \
              stopped.",
    };

    /// `alluxio.underfs.s3.threads.max`.
    pub const S3_REQUESTS_IN_FLIGHT: Key = Key {
        name: "alluxio.underfs.s3.threads.max",
        default: "256",
        kind: Kind::Int,
        scope: Scope::Server,
        doc: "Requests to one mount of S3 in flight: so many reads, and so many others, so that they do not wait for each \
              other. 0: no limit.",
    };

    /// `alluxio.underfs.s3.upload.bandwidth.max`.
    pub const S3_UPLOAD_BANDWIDTH: Key = Key {
        name: "alluxio.underfs.s3.upload.bandwidth.max",
        default: "0",
        kind: Kind::Bytes,
        scope: Scope::Server,
        doc: "Bytes per second that one process sends to one mount of S3; 0: no limit.",
    };

    /// `alluxio.underfs.s3.download.bandwidth.max`.
    pub const S3_DOWNLOAD_BANDWIDTH: Key = Key {
        name: "alluxio.underfs.s3.download.bandwidth.max",
        default: "0",
        kind: Kind::Bytes,
        scope: Scope::Server,
        doc: "Bytes per second that one process takes from one mount of S3; 0: no limit.",
    };

    /// `alluxio.underfs.s3.hedge.ratio`.
    pub const S3_HEDGE_RATIO: Key = Key {
        name: "alluxio.underfs.s3.hedge.ratio",
        default: "0.02",
        kind: Kind::Ratio,
        scope: Scope::Server,
        doc: "Most reads, as a part of all, that are sent a second time because the first answer takes longer than nearly all \
              before; the one that answers first is used. 0: none.",
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

    /// `alluxio.underfs.s3.conditional.requests`.
    pub const S3_CONDITIONAL_REQUESTS: Key = Key {
        name: "alluxio.underfs.s3.conditional.requests",
        default: "AUTO",
        kind: Kind::Enum(&["AUTO", "ALWAYS", "NEVER"]),
        scope: Scope::Server,
        doc: "If-Match and If-None-Match on requests to S3. AUTO: until the store refuses them (400, 501), which is said once; then an \
              object is looked at just before it is written or deleted, and what somebody writes between the two requests is lost. \
              ALWAYS: a store that refuses them takes no writes. NEVER: as AUTO after a refusal.",
    };

    /// `alluxio.underfs.s3.attributes`.
    pub const S3_ATTRIBUTES: Key = Key {
        name: "alluxio.underfs.s3.attributes",
        default: "AUTO",
        kind: Kind::Enum(&["AUTO", "ALWAYS", "NEVER"]),
        scope: Scope::Server,
        doc: "Mode, owner, times, extended attributes and symbolic links in the metadata of objects (docs/s3-attributes.md). AUTO: written \
              with each object, and looked for at listings in folders whose marker says that there are some (ours, s3fs's). ALWAYS: looked \
              for at each object of each listing, which costs a HEAD for each: for trees of rclone's. NEVER: neither written nor read.",
    };

    /// `alluxio.underfs.s3.attributes.wait`.
    pub const S3_ATTRIBUTES_WAIT: Key = Key {
        name: "alluxio.underfs.s3.attributes.wait",
        default: "2s",
        kind: Kind::Duration,
        scope: Scope::Server,
        doc: "How long after the last change of the mode, owner, times or extended attributes of a stored file its object is given them, by \
              a copy inside the store, so that chmod -R and chown -R together cost one; at most ten times as long after the first.",
    };

    /// `alluxio.underfs.s3.checksum.algorithm`.
    pub const S3_CHECKSUM_ALGORITHM: Key = Key {
        name: "alluxio.underfs.s3.checksum.algorithm",
        default: "AUTO",
        kind: Kind::Enum(&["AUTO", "CRC32C", "MD5", "NONE"]),
        scope: Scope::Server,
        doc: "Checksum that goes with each body to S3. AUTO: CRC32C, and Content-MD5 once the store has refused the former. Uploads of \
              which the store copies parts have Content-MD5 in any case. With CRC32C and AUTO the store is asked for its checksum at reads, too, and what it answers is held against the bytes.",
    };

    /// `alluxio.underfs.s3.server.side.encryption.enabled`.
    pub const S3_ENCRYPTION_ENABLED: Key = Key {
        name: "alluxio.underfs.s3.server.side.encryption.enabled",
        default: "false",
        kind: Kind::Bool,
        scope: Scope::Server,
        doc: "Whether each write asks S3 to encrypt the object, as `alluxio.underfs.s3.server.side.encryption.algorithm` says. When it is \
              off, the default of the bucket holds.",
    };

    /// `alluxio.underfs.s3.server.side.encryption.algorithm`.
    pub const S3_ENCRYPTION_ALGORITHM: Key = Key {
        name: "alluxio.underfs.s3.server.side.encryption.algorithm",
        default: "AES256",
        kind: Kind::Enum(&["AES256", "AWS:KMS", "AWS:KMS:DSSE"]),
        scope: Scope::Server,
        doc: "AES256: keys of S3 (SSE-S3). AWS:KMS: keys of KMS (SSE-KMS), AWS:KMS:DSSE: in two layers.",
    };

    /// `alluxio.underfs.s3.server.side.encryption.kms.key.id`.
    pub const S3_KMS_KEY_ID: Key = Key {
        name: "alluxio.underfs.s3.server.side.encryption.kms.key.id",
        default: "",
        kind: Kind::Text,
        scope: Scope::Server,
        doc: "Id or ARN of the key of KMS; empty: the account's own key for S3.",
    };

    /// `alluxio.underfs.s3.server.side.encryption.kms.context`.
    pub const S3_KMS_CONTEXT: Key = Key {
        name: "alluxio.underfs.s3.server.side.encryption.kms.context",
        default: "",
        kind: Kind::Text,
        scope: Scope::Server,
        doc: "Encryption context for KMS: a JSON object of texts, not encoded.",
    };

    /// `alluxio.underfs.s3.server.side.encryption.bucket.key.enabled`.
    pub const S3_BUCKET_KEY_ENABLED: Key = Key {
        name: "alluxio.underfs.s3.server.side.encryption.bucket.key.enabled",
        default: "",
        kind: Kind::Bool,
        scope: Scope::Server,
        doc: "Whether S3 makes the keys of objects from one of the bucket, which asks KMS less often; empty: the default of the bucket.",
    };

    /// `alluxio.underfs.s3.server.side.encryption.customer.key`.
    pub const S3_CUSTOMER_KEY: Key = Key {
        name: "alluxio.underfs.s3.server.side.encryption.customer.key",
        default: "",
        kind: Kind::Text,
        scope: Scope::Server,
        doc: "Key that S3 encrypts with and does not keep (SSE-C): 32 bytes in base64. It goes with each read and write; excludes the other \
              kinds of encryption. Objects written without it cannot be read with it.",
    };

    /// `alluxio.underfs.s3.storage.class`.
    pub const S3_STORAGE_CLASS: Key = Key {
        name: "alluxio.underfs.s3.storage.class",
        default: "",
        kind: Kind::Text,
        scope: Scope::Server,
        doc: "Storage class of new objects, such as STANDARD_IA; empty: the default of the bucket. An object that is replaced or renamed \
              keeps its own.",
    };

    /// `alluxio.underfs.s3.acl`.
    pub const S3_ACL: Key = Key {
        name: "alluxio.underfs.s3.acl",
        default: "",
        kind: Kind::Enum(&["PRIVATE", "PUBLIC-READ", "PUBLIC-READ-WRITE", "AUTHENTICATED-READ", "AWS-EXEC-READ", "BUCKET-OWNER-READ", "BUCKET-OWNER-FULL-CONTROL"]),
        scope: Scope::Server,
        doc: "Canned ACL of objects that are written, such as bucket-owner-full-control in a bucket of another account; empty: \
              none is sent. Buckets without ACLs refuse it.",
    };

    /// `alluxio.underfs.s3.requester.pays`.
    pub const S3_REQUESTER_PAYS: Key = Key {
        name: "alluxio.underfs.s3.requester.pays",
        default: "false",
        kind: Kind::Bool,
        scope: Scope::Server,
        doc: "Whether requests agree to be charged to us, as buckets of others may demand.",
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
