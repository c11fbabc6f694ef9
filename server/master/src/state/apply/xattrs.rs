//! Extended attributes and access control lists (xattr(7), acl(5)).
//!
//! Those of users go to under-storages that keep attributes; the rest, and access lists, live in the namespace only.

use alluxio_proto::master::{XATTR_CREATE, XATTR_REPLACE};
use alluxio_proto::types::{FileKind, Xattr};
use alluxio_proto::{ErrorKind, InodeId, XATTR_NAME_BYTES_MAX, XATTR_VALUE_BYTES_MAX};

use super::Work;
use super::access::WRITE;
use crate::metastore::prefix_end;
use crate::state::acl::{self, ACL_ENTRIES_MAX};
use crate::state::command::{RemoveXattr, SetAcl, SetXattr};
use crate::state::fault::{Outcomes, refuse, show};
use crate::state::inode::Inode;
use crate::state::tables;
use crate::state::view::View;

/// Most attributes of one inode: so many names of full length are a list of 64 KiB, the longest that Linux hands out.
pub(super) const XATTRS_MAX: u32 = 256;
/// Most bytes of names and values of one inode.
pub(super) const XATTRS_BYTES_MAX: u64 = 256 * 1024;

const USER: &[u8] = b"user.";
const TRUSTED: &[u8] = b"trusted.";
const SECURITY: &[u8] = b"security.";
/// File capabilities: whoever writes to a file takes them away.
pub(super) const CAPABILITY: &[u8] = b"security.capability";

const STICKY: u32 = 0o1000;
const SETGID: u32 = 0o2000;

impl Work<'_, '_> {
    pub(super) fn set_xattr(&mut self, c: SetXattr) -> Outcomes<()> {
        let mut inode = self.edit(InodeId(c.inode))?;
        self.check_writable_mount(&inode)?;
        check_xattr_name(&c.name)?;
        self.check_xattr_change(&inode, &c.name, false)?;
        if c.value.len() > XATTR_VALUE_BYTES_MAX {
            return refuse(
                ErrorKind::TooLarge,
                format!(
                    "a value of {} bytes; {XATTR_VALUE_BYTES_MAX} are allowed",
                    c.value.len()
                ),
            );
        }
        if c.flags & !(XATTR_CREATE | XATTR_REPLACE) != 0 {
            return refuse(
                ErrorKind::InvalidArgument,
                format!("setxattr does not know flags {:#x}", c.flags),
            );
        }
        let key = tables::xattr(inode.inode_id(), &c.name);
        let old = match self.tx.get(&key)? {
            Some(row) => Some(tables::xattr_of(&key, &row)?.len()),
            None => None,
        };
        if old.is_some() && c.flags & XATTR_CREATE != 0 {
            return refuse(ErrorKind::AlreadyExists, format!("{:?} is set", show(&c.name)));
        }
        if old.is_none() && c.flags & XATTR_REPLACE != 0 {
            return no_attribute(&c.name);
        }
        let count = inode.xattrs + u32::from(old.is_none());
        let bytes = inode
            .xattr_bytes
            .saturating_sub(old.map_or(0, |value| size_of_row(&c.name, value)))
            .saturating_add(size_of_row(&c.name, c.value.len()));
        if count > XATTRS_MAX || bytes > XATTRS_BYTES_MAX {
            return refuse(
                ErrorKind::NoSpace,
                format!("an inode has {XATTRS_MAX} attributes with {XATTRS_BYTES_MAX} bytes at most"),
            );
        }
        self.tx.put(key, tables::xattr_value(&c.value));
        (inode.xattrs, inode.xattr_bytes) = (count, bytes);
        self.schedule_xattr(&inode, &c.name)?;
        self.attributes_changed(inode)
    }

    pub(super) fn remove_xattr(&mut self, c: RemoveXattr) -> Outcomes<()> {
        let mut inode = self.edit(InodeId(c.inode))?;
        self.check_writable_mount(&inode)?;
        check_xattr_name(&c.name)?;
        self.check_xattr_change(&inode, &c.name, true)?;
        if !self.drop_xattr(&mut inode, &c.name)? {
            return no_attribute(&c.name);
        }
        self.schedule_xattr(&inode, &c.name)?;
        self.attributes_changed(inode)
    }

    fn schedule_xattr(&mut self, inode: &Inode, name: &[u8]) -> Outcomes<()> {
        match name.starts_with(USER) && self.follows(2) {
            true => self.schedule_attributes(inode),
            false => Ok(()),
        }
    }

    /// What an under-storage shows takes the place of what there was of users' attributes. What makes no sense is left out.
    pub(super) fn load_xattrs(&mut self, inode: &mut Inode, xattrs: &[Xattr]) -> Outcomes<()> {
        if xattrs.is_empty() || !matches!(inode.kind(), FileKind::File | FileKind::Directory) {
            return Ok(());
        }
        if inode.xattrs > 0 {
            let prefix = tables::xattr(inode.inode_id(), USER);
            for (key, _) in self.tx.scan(&prefix, &prefix_end(&prefix), XATTRS_MAX as usize)? {
                self.drop_xattr(inode, &tables::xattr_name(&key)?)?;
            }
        }
        for xattr in xattrs {
            let size = size_of_row(&xattr.name, xattr.value.len());
            let fits = inode.xattrs < XATTRS_MAX && inode.xattr_bytes.saturating_add(size) <= XATTRS_BYTES_MAX;
            let is_one = xattr.name.starts_with(USER) && check_xattr_name(&xattr.name).is_ok();
            let key = tables::xattr(inode.inode_id(), &xattr.name);
            if !fits || !is_one || xattr.value.len() > XATTR_VALUE_BYTES_MAX || self.tx.get(&key)?.is_some() {
                continue;
            }
            self.tx.put(key, tables::xattr_value(&xattr.value));
            inode.xattrs += 1;
            inode.xattr_bytes += size;
        }
        Ok(())
    }

    /// Whether the attribute was there.
    pub(super) fn drop_xattr(&mut self, inode: &mut Inode, name: &[u8]) -> Outcomes<bool> {
        if inode.xattrs == 0 {
            return Ok(false);
        }
        let key = tables::xattr(inode.inode_id(), name);
        let Some(row) = self.tx.get(&key)? else {
            return Ok(false);
        };
        let value = tables::xattr_of(&key, &row)?.len();
        inode.xattrs = inode.xattrs.saturating_sub(1);
        inode.xattr_bytes = inode.xattr_bytes.saturating_sub(size_of_row(name, value));
        self.tx.delete(key);
        Ok(true)
    }

    /// All attributes go with their inode.
    pub(super) fn delete_xattrs(&mut self, inode: &Inode) -> Outcomes<()> {
        if inode.xattrs > 0 {
            let prefix = tables::xattr(inode.inode_id(), b"");
            for (key, _) in self.tx.scan(&prefix, &prefix_end(&prefix), XATTRS_MAX as usize)? {
                self.tx.delete(key);
            }
        }
        Ok(())
    }

    fn check_xattr_change(&self, inode: &Inode, name: &[u8], removes: bool) -> Outcomes<()> {
        if name.starts_with(USER) {
            if !matches!(inode.kind(), FileKind::File | FileKind::Directory) {
                return refuse(
                    ErrorKind::NotPermitted,
                    "only files and directories have user attributes",
                );
            }
            if inode.is_dir() && inode.mode & STICKY != 0 {
                self.who.check_owner(inode)?;
            }
            return self.who.check_access(inode, WRITE);
        }
        if self.who.superuser {
            return Ok(());
        }
        // Whoever writes to a program takes its capabilities away; the kernel does so in his name.
        if removes && name == CAPABILITY {
            return self.who.check_access(inode, WRITE);
        }
        refuse(
            ErrorKind::NotPermitted,
            format!("only the superuser changes {:?}", show(name)),
        )
    }

    fn attributes_changed(&mut self, mut inode: Inode) -> Outcomes<()> {
        inode.note_change(self.now_ns);
        self.inode_changed(inode.id, false);
        self.put_and_answer(inode);
        Ok(())
    }

    pub(super) fn set_acl(&mut self, c: SetAcl) -> Outcomes<()> {
        let mut inode = self.edit(InodeId(c.inode))?;
        self.check_writable_mount(&inode)?;
        if inode.kind() == FileKind::Symlink {
            return refuse(ErrorKind::NotSupported, "a symbolic link has no access control list");
        }
        self.who.check_owner(&inode)?;
        if let Some(acl) = &c.acl {
            if !acl::is_valid(acl) {
                return refuse(ErrorKind::InvalidArgument, "this access control list makes no sense");
            }
            if acl.users.len() + acl.groups.len() > ACL_ENTRIES_MAX {
                return refuse(
                    ErrorKind::NoSpace,
                    format!("an access control list has {ACL_ENTRIES_MAX} named entries at most"),
                );
            }
        }
        if c.default {
            if !inode.is_dir() && c.acl.is_some() {
                return refuse(ErrorKind::AccessDenied, "only directories have a default list");
            }
            inode.acl_default = c.acl;
            return self.attributes_changed(inode);
        }
        if let Some(acl) = &c.acl {
            let kept = if self.who.superuser || self.who.is_in(&inode.group) {
                0o7000
            } else {
                0o7000 & !SETGID
            };
            inode.mode = (inode.mode & kept) | acl::mode_bits(acl);
        }
        inode.acl_access = c.acl.filter(acl::is_extended);
        self.schedule_attributes(&inode)?;
        self.attributes_changed(inode)
    }
}

fn no_attribute<T>(name: &[u8]) -> Outcomes<T> {
    refuse(ErrorKind::NoAttribute, format!("{:?} is not set", show(name)))
}

/// What an attribute counts for in [`XATTRS_BYTES_MAX`]; the list of names ends each with a NUL.
fn size_of_row(name: &[u8], value_bytes: usize) -> u64 {
    (name.len() + 1 + value_bytes) as u64
}

/// Refuses what cannot be the name of an attribute, and namespaces that we do not have.
fn check_xattr_name(name: &[u8]) -> Outcomes<()> {
    if name.len() > XATTR_NAME_BYTES_MAX {
        return refuse(
            ErrorKind::OutOfRange,
            format!("a name of {} bytes; {XATTR_NAME_BYTES_MAX} are allowed", name.len()),
        );
    }
    let Some(prefix) = [USER, TRUSTED, SECURITY]
        .into_iter()
        .find(|prefix| name.starts_with(prefix))
    else {
        return refuse(
            ErrorKind::NotSupported,
            format!("{:?} is not in a namespace that we keep", show(name)),
        );
    };
    if name.len() == prefix.len() || name.contains(&0) {
        return refuse(ErrorKind::InvalidArgument, format!("{:?} is no name", show(name)));
    }
    Ok(())
}
