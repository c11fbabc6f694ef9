//! The namespace as such and the sessions of its clients.

use alluxio_proto::types::Property;

/// Makes an empty state a namespace: root directory and root mount. Once.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Format {
    /// Identity of the cluster.
    #[prost(string, tag = "1")]
    pub cluster_id: String,
    /// Owner of `/`.
    #[prost(string, tag = "2")]
    pub owner: String,
    /// Group of `/`.
    #[prost(string, tag = "3")]
    pub group: String,
    /// Permission bits of `/`.
    #[prost(uint32, tag = "4")]
    pub mode: u32,
    /// What is mounted at `/`.
    #[prost(message, optional, tag = "5")]
    pub root: Option<MountSpec>,
    /// As [`AdoptRules::rules`]; 0 in commands of before there were any.
    #[prost(uint32, tag = "20")]
    pub rules: u32,
}

/// From here on commands are applied by these rules ([`super::super::RULES`]). What is before in the log gives what it gave when it
/// was written, whatever software replays it: ids are counted, and later commands name them.
#[derive(Clone, PartialEq, prost::Message)]
pub struct AdoptRules {
    /// Which.
    #[prost(uint32, tag = "1")]
    pub rules: u32,
}

/// What a mount is made of.
#[derive(Clone, PartialEq, prost::Message)]
pub struct MountSpec {
    /// Under-storage.
    #[prost(string, tag = "1")]
    pub uri: String,
    /// Refuse changes.
    #[prost(bool, tag = "2")]
    pub read_only: bool,
    /// Every user may use it.
    #[prost(bool, tag = "3")]
    pub shared: bool,
    /// Settings.
    #[prost(message, repeated, tag = "4")]
    pub options: Vec<Property>,
    /// posix, object, memory.
    #[prost(string, tag = "5")]
    pub ufs_type: String,
    /// The store holds symbolic links; without, they live in the namespace only.
    #[prost(bool, tag = "6")]
    pub stores_symlinks: bool,
    /// The store holds mode, owner and times, so changes of them are worth a call.
    #[prost(bool, tag = "7")]
    pub stores_attributes: bool,
    /// Those of the options that are credentials, as [`alluxio_proto::master::Properties`] sealed by the cluster's secret; then they
    /// are not among `options`. Empty: there are none, or the journal is from before there was a secret.
    #[prost(bytes = "bytes", tag = "20")]
    pub sealed: bytes::Bytes,
    /// Its credentials were forgotten: it is not used before they are given again.
    #[prost(bool, tag = "21")]
    pub wants_credentials: bool,
}

/// Other options and credentials for a mount: sealed in the place of those that older software journaled in clear, given anew, or
/// forgotten because nobody can open them any more. Only the owner of the mount point may.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SealMount {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub mount_id: u64,
    /// What is left of [`MountSpec::options`].
    #[prost(message, repeated, tag = "2")]
    pub options: Vec<Property>,
    /// [`MountSpec::sealed`].
    #[prost(bytes = "bytes", tag = "3")]
    pub sealed: bytes::Bytes,
    /// [`MountSpec::wants_credentials`].
    #[prost(bool, tag = "4")]
    pub wants_credentials: bool,
    /// [`MountSpec::stores_symlinks`]; absent: as it was.
    #[prost(bool, optional, tag = "5")]
    pub stores_symlinks: Option<bool>,
    /// [`MountSpec::stores_attributes`]; absent: as it was.
    #[prost(bool, optional, tag = "6")]
    pub stores_attributes: Option<bool>,
}

/// Opens a session. Renewing one is volatile and not journaled.
#[derive(Clone, PartialEq, prost::Message)]
pub struct OpenSession {
    /// 0: the next.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// Program and mount point, for people.
    #[prost(string, tag = "2")]
    pub client: String,
    /// Host of the client.
    #[prost(string, tag = "3")]
    pub host: String,
}

/// Ends a session: releases its orphans, drops its openings. Open versions that lose their last writer are removed (never
/// committed, nothing promised) or listed in [`super::super::Applied::recover`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct EndSession {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub id: u64,
}

/// A session is about to use locks: after a restart, others get none before it has named its own or has ended.
#[derive(Clone, PartialEq, prost::Message)]
pub struct UseLocks {
    /// Which session.
    #[prost(uint64, tag = "1")]
    pub id: u64,
}
