//! The mount table: adding, taking off and showing under-storages.

use alluxio_common::config::keys;
use alluxio_proto::master::{Empty, GetMounts, MemberProof, Mount, MountInfo, MountTable, Unmount};
use alluxio_proto::types::Property;
use alluxio_proto::{ErrorKind, FsError, FsResult, InodeId, MountId, WorkerId};
use alluxio_ufs::{Capabilities, UfsErrorKind, UnderFileSystem, normalize_uri};
use std::sync::Arc;

use super::credentials::{for_one_worker, is_secret, options_of, sealed};
use super::names::{WRITE, check_access};
use super::report::millis;
use super::ufs::real_uri;
use super::{Core, Ctx, error, show};
use crate::state::MountRecord;
use crate::state::command::{MountSpec, MountUfs, SealMount, UnmountUfs};

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
        stores_attributes: can.keeps_attributes,
        sealed: Default::default(),
        wants_credentials: false,
    }
}

/// With what the store of a mount can do.
pub(super) fn able(change: SealMount, can: Capabilities) -> SealMount {
    SealMount {
        stores_symlinks: Some(can.symlinks),
        stores_attributes: Some(can.keeps_attributes),
        ..change
    }
}

impl Core {
    /// Gives a mount other options: those that are named, beside those that it has.
    async fn update_mount(self: &Arc<Self>, ctx: &Ctx, op: Mount) -> FsResult<MountInfo> {
        // Before anything is asked of the store: an endpoint of the caller's would be shown the credentials that are there.
        if !ctx.superuser {
            return error(
                ErrorKind::NotPermitted,
                "only the superuser gives a mount other options",
            );
        }
        let inode = self.resolve(ctx, &op.path).await?;
        let mounts = self.state.mounts();
        let Some(mount) = mounts.iter().find(|mount| mount.root_inode == inode.id) else {
            let why = format!("{} is no mount point; mount something there first", show(&op.path));
            return error(ErrorKind::InvalidArgument, why);
        };
        if !op.uri.is_empty() && normalize_uri(&op.uri).map_err(FsError::from)? != mount.uri() {
            let why = format!("{} is a mount of {}, which stays", show(&op.path), mount.uri());
            return error(ErrorKind::InvalidArgument, why);
        }
        let mut options = options_of(self.ufs.secret(), mount)?;
        options.retain(|option| op.options.iter().all(|given| given.key != option.key));
        options.extend(op.options);
        let ufs = self.ufs.open_uri(mount.uri(), &options)?;
        probe(&*ufs)
            .await
            .map_err(|error| error.context(format!("use {} with these options", mount.uri())))?;
        let change = able(self.with_options(mount, options, false)?, ufs.capabilities());
        self.propose(ctx, change).await?;
        let Some(record) = self.state.mount(MountId(mount.id)) else {
            return error(
                ErrorKind::NotFound,
                format!("{} was unmounted meanwhile", show(&op.path)),
            );
        };
        self.ufs.put(&record, ufs);
        // Other credentials may do what those of before could not.
        self.copies.forget(MountId(record.id));
        tracing::info!(mount = record.id, uri = record.uri(), path = %show(&op.path), "a mount has other options");
        self.mount_info(&record, None).await
    }

    pub(super) async fn mount(self: &Arc<Self>, ctx: &Ctx, op: Mount) -> FsResult<MountInfo> {
        if op.update {
            return self.update_mount(ctx, op).await;
        }
        let uri = normalize_uri(&op.uri).map_err(FsError::from)?;
        self.ufs.refuse_own(&uri)?;
        let (parent, name) = self.resolve_parent(ctx, &op.path).await?;
        // Before a store is asked for somebody, and before he is told what is mounted where.
        check_access(ctx, &parent, WRITE)?;
        self.refuse_overlap(&uri, &op)?;
        let existing = self.find(parent.inode_id(), &name).await?;
        // A directory that is to become a mount point must be known to be empty.
        if let Some(dir) = existing.filter(|inode| inode.is_dir() && !self.is_mount_root(inode.inode_id())) {
            self.ensure_loaded(&dir).await?;
        }
        let ufs = self.ufs.open_uri(&uri, &op.options)?;
        probe(&*ufs)
            .await
            .map_err(|error| error.context(format!("mount {uri} at {}", show(&op.path))))?;
        let body = MountUfs {
            parent: parent.id,
            name: name.clone(),
            inode: 0,
            spec: Some(sealed(
                self.ufs.secret(),
                spec(uri, op.read_only, op.shared, op.options, ufs.capabilities()),
            )?),
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
        self.mount_info(&record, None).await
    }

    /// Refuses a store, or a part of one, that is mounted already: one object would be two files, and what is closed through one
    /// of them would be overwritten by what the other one knows. Of what neither can write, nothing is lost.
    fn refuse_overlap(&self, uri: &str, op: &Mount) -> FsResult<()> {
        let endpoint = |options: &[Property]| {
            let option = options
                .iter()
                .find(|option| option.key == keys::underfs::S3_ENDPOINT.name);
            option.map(|option| option.value.clone())
        };
        for record in self.state.mounts() {
            let is_same_server = endpoint(record.options()) == endpoint(&op.options);
            let is_one_read_only = record.read_only() || op.read_only;
            if is_same_server && !is_one_read_only && overlap(&real_uri(uri), &real_uri(record.uri())) {
                let at = self.state.path_of(InodeId(record.root_inode))?.unwrap_or_default();
                let why = format!(
                    "{uri} and {}, which is mounted at {}, have files in common; use it there, or mount it --readonly",
                    record.uri(),
                    show(&at)
                );
                return error(ErrorKind::InvalidArgument, why);
            }
        }
        Ok(())
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
        self.copies.forget(id);
        self.metrics.paths_unmounted.inc();
        tracing::info!(mount = %id, uri = mount.uri(), path = %show(&op.path), "unmounted");
        Ok(Empty {})
    }

    pub(super) async fn get_mounts(&self, op: GetMounts) -> FsResult<MountTable> {
        let proof = match op.for_worker {
            0 => None,
            id => Some(self.check_member(id, op.proof)?),
        };
        if proof.is_some() && !self.workers.is_known(WorkerId(op.for_worker)) {
            return error(
                ErrorKind::NotPermitted,
                format!("worker {} is not registered", op.for_worker),
            );
        }
        let mut table = MountTable::default();
        // Workers ask again for what they do not find.
        let wanted = |record: &Arc<MountRecord>| proof.is_none() || !record.wants_credentials();
        for record in self.state.mounts().into_iter().filter(wanted) {
            table.mounts.push(self.mount_info(&record, proof.as_ref()).await?);
        }
        Ok(table)
    }

    /// With the credentials sealed for the worker that sent `proof`.
    async fn mount_info(&self, record: &MountRecord, proof: Option<&MemberProof>) -> FsResult<MountInfo> {
        let path = self.state.path_of(InodeId(record.root_inode))?;
        let (mut options, mut sealed) = (options_of(self.ufs.secret(), record)?, bytes::Bytes::new());
        if let Some(proof) = proof {
            sealed = for_one_worker(&*self.ufs.secret().get()?, proof, record.id, &options);
        }
        for option in options.iter_mut().filter(|option| is_secret(option)) {
            option.value = MASK.to_owned();
        }
        // Workers have no use for it, and must not wait for it.
        let space = match proof {
            Some(_) => None,
            None if record.wants_credentials() => None,
            None => self.ufs_space(MountId(record.id)).await,
        };
        Ok(MountInfo {
            mount_id: record.id,
            path: path.unwrap_or_default(),
            uri: record.uri().to_owned(),
            read_only: record.read_only(),
            shared: record.shared(),
            options,
            sealed,
            wants_credentials: record.wants_credentials(),
            ufs_type: record
                .spec
                .as_ref()
                .map_or_else(String::new, |spec| spec.ufs_type.clone()),
            ufs_capacity_bytes: space.map_or(0, |space| space.total_bytes),
            ufs_used_bytes: space.map_or(0, |space| space.used_bytes),
            away: self.store_away(record)?,
            answered_ms: self
                .ufs
                .reach(MountId(record.id))
                .map_or(0, |reach| millis(reach.answered_ns())),
        })
    }
}

/// Of a store that is to be mounted: that its bucket or folder is not there will not change by asking again, as it may where it
/// was there before.
async fn probe(ufs: &dyn UnderFileSystem) -> FsResult<()> {
    ufs.probe().await.map_err(|error| match error.kind {
        UfsErrorKind::StoreMissing => FsError::new(ErrorKind::NotFound, error.message),
        _ => error.into(),
    })
}

/// Whether one of two places in stores is the other, or in it.
fn overlap(a: &str, b: &str) -> bool {
    let is_in = |inner: &str, outer: &str| {
        inner
            .strip_prefix(outer.trim_end_matches('/'))
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    is_in(a, b) || is_in(b, a)
}
