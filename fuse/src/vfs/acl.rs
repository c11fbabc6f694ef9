//! Access control lists as the kernel writes them: the value of `system.posix_acl_access` and `system.posix_acl_default`.
//!
//! Version 2, little-endian: the version (u32), then for each entry a tag (u16), permissions (u16) and an id (u32), in the
//! order owner, users by id, group, groups by id, mask, others. Names of the namespace become ids of this host. A name that
//! this host does not know is left out: none of its processes can be who is meant, and the master decides by name.

use alluxio_common::users;
use alluxio_proto::types::{Acl, AclEntry};
use alluxio_proto::{ErrorKind, FsError, FsResult};
use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Name of the attribute that shows the access list.
pub const ACCESS: &[u8] = b"system.posix_acl_access";
/// Name of the attribute that shows the default list.
pub const DEFAULT: &[u8] = b"system.posix_acl_default";

const VERSION: u32 = 2;
const ENTRY_BYTES: usize = 8;
/// Id of entries that are about no named user or group.
const NO_ID: u32 = u32::MAX;

const OWNER: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OWNER: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// The value that shows a list.
pub fn encode(acl: &Acl) -> Bytes {
    let mut value = BytesMut::with_capacity(4 + ENTRY_BYTES * (4 + acl.users.len() + acl.groups.len()));
    value.put_u32_le(VERSION);
    let mut put = |tag: u16, perm: u32, id: u32| {
        value.put_u16_le(tag);
        value.put_u16_le((perm & 7) as u16);
        value.put_u32_le(id);
    };
    put(OWNER, acl.owner, NO_ID);
    for (id, perm) in by_id(&acl.users, users::name_to_uid) {
        put(USER, perm, id);
    }
    put(GROUP_OWNER, acl.group, NO_ID);
    for (id, perm) in by_id(&acl.groups, users::name_to_gid) {
        put(GROUP, perm, id);
    }
    if let Some(mask) = acl.mask {
        put(MASK, mask, NO_ID);
    }
    put(OTHER, acl.other, NO_ID);
    value.freeze()
}

fn by_id(entries: &[AclEntry], id: impl Fn(&str) -> Option<u32>) -> Vec<(u32, u32)> {
    let known = entries.iter().filter_map(|entry| Some((id(&entry.name)?, entry.perm)));
    let mut known: Vec<_> = known.collect();
    known.sort_unstable();
    known.dedup_by_key(|(id, _)| *id);
    known
}

/// The list that a value shows; `None`: it has no entries, which removes the list.
///
/// # Errors
/// `InvalidArgument` if it shows none, `NotSupported` for another version.
pub fn decode(mut value: &[u8]) -> FsResult<Option<Acl>> {
    if value.len() < 4 || !(value.len() - 4).is_multiple_of(ENTRY_BYTES) {
        return Err(senseless("its length is wrong"));
    }
    if value.get_u32_le() != VERSION {
        let why = "an access control list of another version than 2";
        return Err(FsError::new(ErrorKind::NotSupported, why));
    }
    if value.is_empty() {
        return Ok(None);
    }
    let mut acl = Acl::default();
    let mut seen = 0;
    while !value.is_empty() {
        let (tag, perm, id) = (value.get_u16_le(), u32::from(value.get_u16_le()), value.get_u32_le());
        let once = tag & (OWNER | GROUP_OWNER | MASK | OTHER);
        if perm > 7 || seen & once != 0 {
            return Err(senseless("an entry is wrong"));
        }
        seen |= once;
        match tag {
            OWNER => acl.owner = perm,
            GROUP_OWNER => acl.group = perm,
            MASK => acl.mask = Some(perm),
            OTHER => acl.other = perm,
            USER => acl.users.push(entry(users::uid_to_name(id), perm)),
            GROUP => acl.groups.push(entry(users::gid_to_name(id), perm)),
            _ => return Err(senseless("an entry is of no kind that there is")),
        }
    }
    if seen & (OWNER | GROUP_OWNER | OTHER) != OWNER | GROUP_OWNER | OTHER {
        return Err(senseless("owner, group or others are missing"));
    }
    Ok(Some(acl))
}

fn entry(name: String, perm: u32) -> AclEntry {
    AclEntry { name, perm }
}

fn senseless(why: &str) -> FsError {
    FsError::new(ErrorKind::InvalidArgument, format!("an access control list: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_survives_the_kernels_form() {
        // Ids without a name on any host.
        let acl = Acl {
            owner: 7,
            group: 5,
            other: 1,
            mask: Some(6),
            users: vec![entry("3000000001".into(), 4), entry("3000000002".into(), 0)],
            groups: vec![entry("3000000003".into(), 2)],
        };
        let value = encode(&acl);
        assert_eq!(value.len(), 4 + 7 * ENTRY_BYTES);
        assert_eq!(&value[..12], [2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255, 255]);
        assert_eq!(decode(&value).unwrap(), Some(acl.clone()));
        let mut foreign = acl.clone();
        foreign.users.push(entry("nobody here has this name".into(), 7));
        assert_eq!(encode(&foreign), value);
    }

    #[test]
    fn what_is_no_list_is_refused() {
        let value = encode(&Acl::default());
        assert!(decode(&value).unwrap().is_some());
        assert_eq!(decode(&value[..4]).unwrap(), None);
        let mut twice = value.to_vec();
        twice.extend_from_slice(&value[4..12]);
        let mut other_version = value.to_vec();
        other_version[0] = 3;
        let mut bits = value.to_vec();
        bits[6] = 8;
        for (bad, kind) in [
            (&value[..3], ErrorKind::InvalidArgument),
            (&value[..11], ErrorKind::InvalidArgument),
            (&value[..12], ErrorKind::InvalidArgument),
            (&twice, ErrorKind::InvalidArgument),
            (&bits, ErrorKind::InvalidArgument),
            (&other_version, ErrorKind::NotSupported),
        ] {
            assert_eq!(decode(bad).unwrap_err().kind, kind, "{bad:?}");
        }
    }
}
