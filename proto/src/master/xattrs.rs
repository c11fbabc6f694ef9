//! Extended attributes and access control lists.

use crate::types::*;

/// Fail with `AlreadyExists` if the attribute is there (XATTR_CREATE).
pub const XATTR_CREATE: u32 = 1;
/// Fail with `NoAttribute` if the attribute is not there (XATTR_REPLACE).
pub const XATTR_REPLACE: u32 = 2;

/// Sets an extended attribute. `user.*`, `trusted.*`, `security.*`; ACLs have [`SetAcl`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct SetXattr {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
    /// With its namespace.
    #[prost(bytes = "bytes", tag = "2")]
    pub name: bytes::Bytes,
    /// Any bytes.
    #[prost(bytes = "bytes", tag = "3")]
    pub value: bytes::Bytes,
    /// [`XATTR_CREATE`], [`XATTR_REPLACE`].
    #[prost(uint32, tag = "4")]
    pub flags: u32,
}

/// Value of an extended attribute.
#[derive(Clone, PartialEq, prost::Message)]
pub struct GetXattr {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
    /// With its namespace.
    #[prost(bytes = "bytes", tag = "2")]
    pub name: bytes::Bytes,
}

/// Value of an extended attribute.
#[derive(Clone, PartialEq, prost::Message)]
pub struct XattrValue {
    /// As it was set.
    #[prost(bytes = "bytes", tag = "1")]
    pub value: bytes::Bytes,
}

/// Names of extended attributes that the caller may see, ACLs not among them.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ListXattrs {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
}

/// Names of extended attributes, in the order of their bytes.
#[derive(Clone, PartialEq, prost::Message)]
pub struct XattrNames {
    /// With their namespaces.
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub names: Vec<bytes::Bytes>,
}

/// Removes an extended attribute.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RemoveXattr {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
    /// With its namespace.
    #[prost(bytes = "bytes", tag = "2")]
    pub name: bytes::Bytes,
}

/// Sets or removes an access control list. Setting the access list also sets the permission bits of the mode.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SetAcl {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
    /// The default list of a directory, which what is made in it inherits.
    #[prost(bool, tag = "2")]
    pub default: bool,
    /// Absent: remove it; the mode stays.
    #[prost(message, optional, tag = "3")]
    pub acl: Option<Acl>,
}

/// Access control lists of an inode.
#[derive(Clone, PartialEq, prost::Message)]
pub struct GetAcl {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
}

/// Access control lists of an inode.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Acls {
    /// Absent: the mode says all.
    #[prost(message, optional, tag = "1")]
    pub access: Option<Acl>,
    /// Of a directory.
    #[prost(message, optional, tag = "2")]
    pub default: Option<Acl>,
}
