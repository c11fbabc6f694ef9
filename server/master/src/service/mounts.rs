//! The mount table: adding, taking off and showing under-storages.

use alluxio_common::config;
use alluxio_proto::master::{Empty, GetMounts, Mount, MountInfo, MountTable, Unmount};
use alluxio_proto::types::Property;
use alluxio_proto::{ErrorKind, FsError, FsResult, InodeId, MountId, WorkerId};
use alluxio_ufs::{Capabilities, normalize_uri};
use std::sync::Arc;

use super::{Core, Ctx, error, show};
use crate::state::MountRecord;
use crate::state::command::{MountSpec, MountUfs, UnmountUfs};

/// Permission bits of a mount point that is made with the mount.
const MOUNT_POINT_MODE: u32 = 0o755;
/// Shown in place of a credential.
const MASK: &str = "******";

/// What a store can do, as far as the state must know it.
pub(super) fn spec(uri: String, read_only: bool, shared: bool, options: Vec<Property>, can: Capabilities) -> MountSpec {
    MountSpec {
        uri,
        read_only,
        shared,
        options,
        ufs_type: can.ufs_type.to_owned(),
        stores_symlinks: can.symlinks,
        stores_attributes: can.real_directories,
    }
}

impl Core {
    pub(super) async fn mount(self: &Arc<Self>, ctx: &Ctx, op: Mount) -> FsResult<MountInfo> {
        let uri = normalize_uri(&op.uri).map_err(FsError::from)?;
        self.ufs.refuse_own(&uri)?;
        let (parent, name) = self.resolve_parent(ctx, &op.path).await?;
        let existing = self.find(parent.inode_id(), &name).await?;
        // A directory that is to become a mount point must be known to be empty.
        if let Some(dir) = existing.filter(|inode| inode.is_dir() && !self.is_mount_root(inode.inode_id())) {
            self.ensure_loaded(&dir).await?;
        }
        let ufs = self.ufs.open_uri(&uri, &op.options)?;
        ufs.probe()
            .await
            .map_err(|error| FsError::from(error).context(format!("mount {uri} at {}", show(&op.path))))?;
        let body = MountUfs {
            parent: parent.id,
            name: name.clone(),
            inode: 0,
            spec: Some(spec(uri, op.read_only, op.shared, op.options, ufs.capabilities())),
            mode: MOUNT_POINT_MODE,
        };
        let mounted = self.propose(ctx, body).await?;
        let id = MountId(mounted.id);
        let Some(record) = self.state.mount(id) else {
            return error(ErrorKind::Internal, format!("mount {id} vanished while it was made"));
        };
        self.ufs.put(&record, ufs);
        self.loader.forget(InodeId(record.root_inode));
        self.loader.forget_absent(parent.inode_id(), &name);
        self.metrics.paths_mounted.inc();
        tracing::info!(mount = %id, uri = record.uri(), path = %show(&op.path), "mounted");
        self.mount_info(&record, false).await
    }

    pub(super) fn is_mount_root(&self, inode: InodeId) -> bool {
        self.state.mounts().iter().any(|mount| mount.root_inode == inode.get())
    }

    pub(super) async fn unmount(self: &Arc<Self>, ctx: &Ctx, op: Unmount) -> FsResult<Empty> {
        let inode = self.resolve(ctx, &op.path).await?;
        let mounts = self.state.mounts();
        let Some(mount) = mounts.iter().find(|mount| mount.root_inode == inode.id) else {
            return error(
                ErrorKind::InvalidArgument,
                format!("{} is no mount point", show(&op.path)),
            );
        };
        let id = MountId(mount.id);
        self.propose(ctx, UnmountUfs { mount_id: mount.id }).await?;
        self.ufs.forget(id);
        self.limits.forget(id);
        self.metrics.paths_unmounted.inc();
        tracing::info!(mount = %id, uri = mount.uri(), path = %show(&op.path), "unmounted");
        Ok(Empty {})
    }

    pub(super) async fn get_mounts(&self, op: GetMounts) -> FsResult<MountTable> {
        let for_worker = op.for_worker != 0;
        if for_worker && !self.workers.is_known(WorkerId(op.for_worker)) {
            return error(
                ErrorKind::NotPermitted,
                format!("worker {} is not registered", op.for_worker),
            );
        }
        let mut table = MountTable::default();
        for record in self.state.mounts() {
            table.mounts.push(self.mount_info(&record, for_worker).await?);
        }
        Ok(table)
    }

    async fn mount_info(&self, record: &MountRecord, with_credentials: bool) -> FsResult<MountInfo> {
        let path = self.state.path_of(InodeId(record.root_inode))?;
        let options = record.options().iter().map(|option| {
            let hidden = !with_credentials && config::is_credential(&option.key);
            Property {
                key: option.key.clone(),
                value: if hidden { MASK.to_owned() } else { option.value.clone() },
            }
        });
        // Workers have no use for it, and must not wait for it.
        let space = if with_credentials {
            None
        } else {
            self.ufs_space(MountId(record.id)).await
        };
        Ok(MountInfo {
            mount_id: record.id,
            path: path.unwrap_or_default(),
            uri: record.uri().to_owned(),
            read_only: record.read_only(),
            shared: record.shared(),
            options: options.collect(),
            ufs_type: record
                .spec
                .as_ref()
                .map_or_else(String::new, |spec| spec.ufs_type.clone()),
            ufs_capacity_bytes: space.map_or(0, |space| space.total_bytes),
            ufs_used_bytes: space.map_or(0, |space| space.used_bytes),
        })
    }
}
