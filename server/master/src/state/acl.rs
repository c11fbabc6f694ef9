//! Who may do what with an inode: mode bits and access control lists (acl(5)), the rule that all checks share.
//!
//! The access list of an inode is kept as what its mode cannot say ([`Inode::acl_access`]): the permission of the group, named
//! users and named groups. Owner, mask and others are bits of the mode, so chmod changes the mask and the mode shows it without
//! anybody taking care.

use alluxio_proto::types::{Acl, AclEntry, Caller};

use super::inode::Inode;

/// Most named users and groups in one list. ext4 has room for about 500 in a block, XFS once had 21.
pub(super) const ACL_ENTRIES_MAX: usize = 256;

/// Read, as a permission.
pub const READ: u32 = 4;
/// Write, as a permission.
pub const WRITE: u32 = 2;
/// Search or execute, as a permission.
pub const SEARCH: u32 = 1;

impl Inode {
    /// Whether the classes of permission that apply to the caller grant all of `want` ([`READ`], [`WRITE`], [`SEARCH`]).
    pub fn grants(&self, caller: &Caller, want: u32) -> bool {
        let bits = |shift: u32| (self.mode >> shift) & 7;
        if self.owner == caller.user {
            return bits(6) & want == want;
        }
        let Some(acl) = &self.acl_access else {
            let class = if caller.groups.contains(&self.group) { 3 } else { 0 };
            return bits(class) & want == want;
        };
        let mask = bits(3);
        if let Some(user) = acl.users.iter().find(|user| user.name == caller.user) {
            return user.perm & mask & want == want;
        }
        let own = caller.groups.contains(&self.group).then_some(acl.group);
        let named = acl.groups.iter().filter(|group| caller.groups.contains(&group.name));
        let mut is_member = false;
        for perm in own.into_iter().chain(named.map(|group| group.perm)) {
            is_member = true;
            // The first that grants all counts, through the mask; none is added to another.
            if perm & want == want {
                return perm & mask & want == want;
            }
        }
        !is_member && bits(0) & want == want
    }

    /// The access list as it is shown; `None`: the mode says all.
    pub fn shown_acl(&self) -> Option<Acl> {
        self.acl_access.as_ref().map(|acl| Acl {
            owner: (self.mode >> 6) & 7,
            mask: Some((self.mode >> 3) & 7),
            other: self.mode & 7,
            ..acl.clone()
        })
    }
}

/// Whether a list makes sense.
pub(super) fn is_valid(acl: &Acl) -> bool {
    let perms = [acl.owner, acl.group, acl.other, acl.mask.unwrap_or(0)];
    let named = acl.users.iter().chain(&acl.groups);
    let twice = |entries: &[AclEntry]| {
        let names: std::collections::HashSet<&str> = entries.iter().map(|entry| &entry.name[..]).collect();
        names.len() != entries.len()
    };
    perms.iter().all(|perm| *perm <= 7)
        && named.clone().all(|entry| entry.perm <= 7 && !entry.name.is_empty())
        && (acl.mask.is_some() || named.count() == 0)
        && !twice(&acl.users)
        && !twice(&acl.groups)
}

/// The permission bits that a list shows as.
pub(super) fn mode_bits(acl: &Acl) -> u32 {
    (acl.owner << 6) | (acl.mask.unwrap_or(acl.group) << 3) | acl.other
}

/// Whether a list says more than mode bits can.
pub(super) fn is_extended(acl: &Acl) -> bool {
    acl.mask.is_some()
}

/// Mode and access list of something made with `mode` in a directory whose default list is `default`.
pub(super) fn inherited(default: &Acl, mode: u32) -> (u32, Option<Acl>) {
    let bits = mode_bits(default) & mode & 0o777;
    let mode = (mode & !0o777) | bits;
    (mode, is_extended(default).then(|| default.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, perm: u32) -> AclEntry {
        AclEntry {
            name: name.into(),
            perm,
        }
    }

    fn caller(user: &str, groups: &[&str]) -> Caller {
        Caller {
            user: user.into(),
            groups: groups.iter().map(|group| (*group).into()).collect(),
        }
    }

    #[test]
    fn the_first_class_that_applies_decides() {
        let mut inode = Inode {
            owner: "ann".into(),
            group: "staff".into(),
            mode: 0o174,
            ..Default::default()
        };
        // Without a list: owner, then group, then others, and no falling through.
        assert!(!inode.grants(&caller("ann", &["staff"]), READ));
        assert!(inode.grants(&caller("bob", &["x", "staff"]), READ | WRITE));
        assert!(!inode.grants(&caller("eve", &["x"]), WRITE));
        assert!(inode.grants(&caller("eve", &["x"]), READ));
        inode.mode = 0o764;
        inode.acl_access = Some(Acl {
            group: 1,
            users: vec![entry("bob", 7), entry("joe", 0)],
            groups: vec![entry("ops", 5), entry("dev", 2)],
            ..Default::default()
        });
        // The mask (6) bounds named users and all groups.
        assert!(inode.grants(&caller("bob", &[]), READ | WRITE));
        assert!(!inode.grants(&caller("bob", &[]), SEARCH));
        assert!(!inode.grants(&caller("joe", &["ops"]), READ));
        assert!(inode.grants(&caller("eve", &["ops"]), READ));
        assert!(inode.grants(&caller("eve", &["dev"]), WRITE));
        assert!(
            !inode.grants(&caller("eve", &["ops", "dev"]), READ | WRITE),
            "permissions do not add up"
        );
        // In some group: what others may does not matter.
        assert!(!inode.grants(&caller("eve", &["staff"]), READ));
        assert!(inode.grants(&caller("eve", &[]), READ));
        assert_eq!(inode.shown_acl().unwrap().mask, Some(6));
    }

    #[test]
    fn a_default_list_is_inherited_within_the_mode() {
        let plain = Acl {
            owner: 7,
            group: 5,
            other: 0,
            ..Default::default()
        };
        assert_eq!(inherited(&plain, 0o4666), (0o4640, None));
        let extended = Acl {
            mask: Some(7),
            users: vec![entry("bob", 6)],
            ..plain
        };
        let (mode, acl) = inherited(&extended, 0o644);
        assert_eq!(mode, 0o640);
        assert_eq!(acl.unwrap().users, extended.users);
    }

    #[test]
    fn lists_that_make_no_sense_are_told() {
        let named = |mask| Acl {
            mask,
            users: vec![entry("bob", 6)],
            ..Default::default()
        };
        assert!(is_valid(&named(Some(7))));
        assert!(!is_valid(&named(None)));
        assert!(!is_valid(&named(Some(8))));
        let mut twice = named(Some(7));
        twice.users.push(entry("bob", 1));
        assert!(!is_valid(&twice));
    }
}
