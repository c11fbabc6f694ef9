//! Extended attributes and access control lists: what the caller may see of them, and changes.

use alluxio_proto::master::{
    Acls, GetAcl, GetXattr, ListXattrs, RemoveXattr, SetAcl, SetXattr, XattrNames, XattrValue,
};
use alluxio_proto::types::{Attr, FileKind};
use alluxio_proto::{ErrorKind, FsResult, InodeId};
use std::sync::Arc;

use super::{Core, Ctx, error, show};
use crate::state::{Inode, READ, command};

const USER: &[u8] = b"user.";
const TRUSTED: &[u8] = b"trusted.";

impl Core {
    pub(super) fn get_xattr(&self, ctx: &Ctx, op: &GetXattr) -> FsResult<XattrValue> {
        let inode = self.state.inode(InodeId(op.inode))?;
        if !is_visible(ctx, &inode, &op.name) {
            return no_attribute(&op.name);
        }
        if op.name.starts_with(USER) {
            super::names::check_access(ctx, &inode, READ)?;
        }
        match self.state.xattr(inode.inode_id(), &op.name)? {
            Some(value) => Ok(XattrValue { value }),
            None => no_attribute(&op.name),
        }
    }

    pub(super) fn list_xattrs(&self, ctx: &Ctx, op: ListXattrs) -> FsResult<XattrNames> {
        let inode = self.state.inode(InodeId(op.inode))?;
        let mut names = self.state.xattr_names(inode.inode_id())?;
        names.retain(|name| is_visible(ctx, &inode, name));
        Ok(XattrNames { names })
    }

    pub(super) async fn set_xattr(self: &Arc<Self>, ctx: &Ctx, op: SetXattr) -> FsResult<Attr> {
        let body = command::SetXattr {
            inode: op.inode,
            name: op.name,
            value: op.value,
            flags: op.flags,
        };
        let changed = self.propose(ctx, body).await?;
        self.attr_applied(changed)
    }

    pub(super) async fn remove_xattr(self: &Arc<Self>, ctx: &Ctx, op: RemoveXattr) -> FsResult<Attr> {
        let body = command::RemoveXattr {
            inode: op.inode,
            name: op.name,
        };
        let changed = self.propose(ctx, body).await?;
        self.attr_applied(changed)
    }

    pub(super) fn get_acl(&self, op: GetAcl) -> FsResult<Acls> {
        let inode = self.state.inode(InodeId(op.inode))?;
        Ok(Acls {
            access: inode.shown_acl(),
            default: inode.acl_default.clone(),
        })
    }

    pub(super) async fn set_acl(self: &Arc<Self>, ctx: &Ctx, op: SetAcl) -> FsResult<Attr> {
        let body = command::SetAcl {
            inode: op.inode,
            default: op.default,
            acl: op.acl,
        };
        let changed = self.propose(ctx, body).await?;
        self.attr_applied(changed)
    }
}

/// Trusted attributes are there for the superuser only; user attributes belong to files and directories.
fn is_visible(ctx: &Ctx, inode: &Inode, name: &[u8]) -> bool {
    if name.starts_with(TRUSTED) {
        return ctx.superuser;
    }
    !name.starts_with(USER) || matches!(inode.kind(), FileKind::File | FileKind::Directory)
}

fn no_attribute<T>(name: &[u8]) -> FsResult<T> {
    error(ErrorKind::NoAttribute, format!("{:?} is not set", show(name)))
}
