//! Extended attributes and access lists; and what is remembered of inodes so that the master is not asked in vain.
//!
//! The kernel asks for `security.capability` before it writes and for the access list before it checks a permission, of every
//! inode. Nearly none has either. The attributes of an inode say whether it has ([`Attr::xattr_flags`]), and all attributes
//! that pass through here are remembered for as long as the kernel may believe them.

use super::{Vfs, acl};
use alluxio_proto::master::*;
use alluxio_proto::types::{ACL_ACCESS, ACL_DEFAULT, Attr, Caller, XATTRS};
use alluxio_proto::{ErrorKind, FsError, FsResult};
use bytes::{BufMut, Bytes, BytesMut};
use lru::LruCache;
use std::num::NonZeroUsize;
use std::time::Instant;

/// Inodes of which it is remembered what they have beside their attributes; about 100 bytes each.
const EXTRAS_MAX: NonZeroUsize = NonZeroUsize::new(65_536).expect("not zero");

/// Namespaces of extended attributes that there are, beside the two access lists.
const NAMESPACES: [&[u8]; 3] = [b"user.", b"trusted.", b"security."];

/// What is remembered of an inode.
#[derive(Clone, Copy, Debug)]
struct Extra {
    xattr_flags: u32,
    mode: u32,
    atime_ns: i64,
    /// Of data or inode, whichever is later.
    changed_ns: i64,
    until: Instant,
}

/// What inodes have beside their attributes.
#[derive(Debug)]
pub(super) struct Extras {
    known: LruCache<u64, Extra>,
    /// Grows with every change heard of: an answer that was asked for before may be older than the change.
    changes: u64,
}

impl Default for Extras {
    fn default() -> Self {
        Extras {
            known: LruCache::new(EXTRAS_MAX),
            changes: 0,
        }
    }
}

impl Extras {
    /// An inode has changed, or all have (`None`).
    pub fn forget(&mut self, inode: Option<u64>) {
        self.changes += 1;
        match inode {
            Some(inode) => drop(self.known.pop(&inode)),
            None => self.known.clear(),
        }
    }

    /// Whether a read of an inode now is to be told; if nothing is known of it, yes. The next one is not, unless something
    /// changes. `pending` is when it was read last, if the master does not know that yet.
    pub fn read_at(&mut self, inode: u64, pending: Option<i64>, now_ns: i64) -> bool {
        let Some(extra) = self.known.get_mut(&inode) else {
            return true;
        };
        let atime_ns = extra.atime_ns.max(pending.unwrap_or(i64::MIN));
        let is_due = atime_ns <= extra.changed_ns || now_ns.saturating_sub(atime_ns) >= ATIME_KEPT_NS;
        if is_due {
            extra.atime_ns = now_ns;
        }
        is_due
    }

    /// A file was written by this mount.
    pub fn written_at(&mut self, inode: u64, mtime_ns: i64) {
        if let Some(extra) = self.known.get_mut(&inode) {
            extra.changed_ns = extra.changed_ns.max(mtime_ns);
        }
    }
}

impl Vfs {
    /// Taken before the master is asked, for [`Vfs::remember`].
    pub(super) fn changes_seen(&self) -> u64 {
        self.extras.lock().changes
    }

    /// Remembers what attributes say of more, unless something changed since they were asked for.
    pub(super) fn remember(&self, seen: u64, attr: &Attr) {
        let until = Instant::now() + self.ttl(attr);
        let mut extras = self.extras.lock();
        if extras.changes == seen {
            let extra = Extra {
                xattr_flags: attr.xattr_flags,
                mode: attr.mode,
                atime_ns: attr.atime_ns,
                changed_ns: attr.mtime_ns.max(attr.ctime_ns),
                until,
            };
            extras.known.put(attr.inode, extra);
        }
    }

    /// Mode of an inode, if it is remembered.
    pub(super) fn known_mode(&self, inode: u64) -> Option<u32> {
        let known = self.extras.lock().known.peek(&inode).copied();
        known
            .filter(|extra| extra.until > Instant::now())
            .map(|extra| extra.mode)
    }

    pub(super) async fn extra(&self, caller: &Caller, inode: u64) -> FsResult<(u32, u32)> {
        let known = self.extras.lock().known.get(&inode).copied();
        if let Some(extra) = known.filter(|extra| extra.until > Instant::now()) {
            return Ok((extra.xattr_flags, extra.mode));
        }
        let attr = self.getattr(caller, inode).await?;
        Ok((attr.xattr_flags, attr.mode))
    }

    /// Attributes of an inode were changed through us.
    pub(super) fn changed(&self, attr: &Attr) {
        self.extras.lock().forget(Some(attr.inode));
        self.remember(self.changes_seen(), attr);
    }

    /// The value of an extended attribute.
    ///
    /// # Errors
    /// `NoAttribute`, `AccessDenied`, `NotSupported` for a namespace that there is not, whether the inode has attributes or not.
    pub async fn get_xattr(&self, caller: &Caller, inode: u64, name: &[u8]) -> FsResult<Bytes> {
        check_name(name)?;
        let (flags, _) = self.extra(caller, inode).await?;
        let kind = match name {
            acl::ACCESS => ACL_ACCESS,
            acl::DEFAULT => ACL_DEFAULT,
            _ => XATTRS,
        };
        if flags & kind == 0 {
            return Err(no_attribute(name));
        }
        if kind == XATTRS {
            let name = Bytes::copy_from_slice(name);
            let reply: XattrValue = self.read(caller, GetXattr { inode, name }).await?;
            return Ok(reply.value);
        }
        let acls: Acls = self.read(caller, GetAcl { inode }).await?;
        let found = if kind == ACL_ACCESS { acls.access } else { acls.default };
        found.map(|acl| acl::encode(&acl)).ok_or_else(|| no_attribute(name))
    }

    /// Names of extended attributes, each ended by a NUL.
    ///
    /// # Errors
    /// Those of the master.
    pub async fn list_xattrs(&self, caller: &Caller, inode: u64) -> FsResult<Bytes> {
        let (flags, _) = self.extra(caller, inode).await?;
        let mut list = BytesMut::new();
        for (flag, name) in [(ACL_ACCESS, acl::ACCESS), (ACL_DEFAULT, acl::DEFAULT)] {
            if flags & flag != 0 {
                list.put_slice(name);
                list.put_u8(0);
            }
        }
        if flags & XATTRS != 0 {
            let found: XattrNames = self.read(caller, ListXattrs { inode }).await?;
            for name in found.names {
                list.put_slice(&name);
                list.put_u8(0);
            }
        }
        Ok(list.freeze())
    }

    /// Sets an extended attribute or an access list; flags as in setxattr(2).
    ///
    /// # Errors
    /// `AlreadyExists`, `NoAttribute` as the flags say, `NotPermitted`, `TooLarge`, `OutOfRange`, `NoSpace`, `NotSupported` for
    /// a namespace that there is not.
    pub async fn set_xattr(&self, caller: &Caller, inode: u64, name: &[u8], value: &[u8], flags: u32) -> FsResult<()> {
        if name == acl::ACCESS || name == acl::DEFAULT {
            return self
                .set_acl(caller, inode, name == acl::DEFAULT, acl::decode(value)?)
                .await;
        }
        let op = SetXattr {
            inode,
            name: Bytes::copy_from_slice(name),
            value: Bytes::copy_from_slice(value),
            flags,
        };
        let attr: Attr = self.change(caller, op).await?;
        self.changed(&attr);
        Ok(())
    }

    /// Removes an extended attribute or an access list.
    ///
    /// # Errors
    /// `NoAttribute`, `NotPermitted`.
    pub async fn remove_xattr(&self, caller: &Caller, inode: u64, name: &[u8]) -> FsResult<()> {
        if name == acl::ACCESS || name == acl::DEFAULT {
            return self.set_acl(caller, inode, name == acl::DEFAULT, None).await;
        }
        let op = RemoveXattr {
            inode,
            name: Bytes::copy_from_slice(name),
        };
        let attr: Attr = self.change(caller, op).await?;
        self.changed(&attr);
        Ok(())
    }

    async fn set_acl(
        &self,
        caller: &Caller,
        inode: u64,
        default: bool,
        acl: Option<alluxio_proto::types::Acl>,
    ) -> FsResult<()> {
        let op = SetAcl { inode, default, acl };
        let attr: Attr = self.change(caller, op).await?;
        self.changed(&attr);
        Ok(())
    }
}

/// Refuses namespaces that there are not, and the name of a namespace alone, as a native file system does.
fn check_name(name: &[u8]) -> FsResult<()> {
    if name == acl::ACCESS || name == acl::DEFAULT {
        return Ok(());
    }
    let shown = String::from_utf8_lossy(name);
    let prefix = NAMESPACES.into_iter().find(|prefix| name.starts_with(prefix));
    match prefix {
        None => Err(FsError::new(
            ErrorKind::NotSupported,
            format!("{shown:?} is not in a namespace that is kept"),
        )),
        Some(prefix) if prefix.len() == name.len() => Err(FsError::new(
            ErrorKind::InvalidArgument,
            format!("{shown:?} is no name"),
        )),
        Some(_) => Ok(()),
    }
}

fn no_attribute(name: &[u8]) -> FsError {
    FsError::new(
        ErrorKind::NoAttribute,
        format!("{:?} is not set", String::from_utf8_lossy(name)),
    )
}
