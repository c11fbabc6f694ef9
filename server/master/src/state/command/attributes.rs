//! Attributes, extended attributes and access lists.

use alluxio_proto::master::Accessed;
use alluxio_proto::types::Acl;
use bytes::Bytes;

/// Changes attributes; what is absent stays.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SetAttr {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
    /// Permission bits.
    #[prost(uint32, optional, tag = "2")]
    pub mode: Option<u32>,
    /// Owner.
    #[prost(string, optional, tag = "3")]
    pub owner: Option<String>,
    /// Group.
    #[prost(string, optional, tag = "4")]
    pub group: Option<String>,
    /// Last access.
    #[prost(int64, optional, tag = "5")]
    pub atime_ns: Option<i64>,
    /// Last change of data.
    #[prost(int64, optional, tag = "6")]
    pub mtime_ns: Option<i64>,
    /// Never evict.
    #[prost(bool, optional, tag = "7")]
    pub pinned: Option<bool>,
    /// The times are "now": write permission is enough.
    #[prost(bool, tag = "8")]
    pub times_now: bool,
    /// Take setuid, setgid and `security.capability` away; write permission is enough.
    #[prost(bool, tag = "9")]
    pub kill_priv: bool,
    /// With `kill_priv`: setgid goes even if the group may not execute the file.
    #[prost(bool, tag = "10")]
    pub kill_setgid: bool,
}

/// Sets an extended attribute.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SetXattr {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
    /// With its namespace.
    #[prost(bytes = "bytes", tag = "2")]
    pub name: Bytes,
    /// Any bytes.
    #[prost(bytes = "bytes", tag = "3")]
    pub value: Bytes,
    /// `XATTR_CREATE`, `XATTR_REPLACE`.
    #[prost(uint32, tag = "4")]
    pub flags: u32,
}

/// Removes an extended attribute.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RemoveXattr {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
    /// With its namespace.
    #[prost(bytes = "bytes", tag = "2")]
    pub name: Bytes,
}

/// Sets or removes an access control list.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SetAcl {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
    /// The default list of a directory.
    #[prost(bool, tag = "2")]
    pub default: bool,
    /// Absent: remove it.
    #[prost(message, optional, tag = "3")]
    pub acl: Option<Acl>,
}

/// Files were read: their atime is taken over where relatime wants it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TouchAtimes {
    /// Which, and when.
    #[prost(message, repeated, tag = "1")]
    pub files: Vec<Accessed>,
}
