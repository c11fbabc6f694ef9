//! Credentials of under-storages: sealed in journal and metadata, sent only to workers that have the cluster's secret.

use alluxio_common::config;
use alluxio_common::secret::{self, ClusterSecret, SecretFile};
use alluxio_proto::master::{Challenged, MemberProof, Properties};
use alluxio_proto::types::Property;
use alluxio_proto::{ErrorKind, FsError, FsResult, MountId};
use bytes::Bytes;
use prost::Message;
use std::sync::Arc;

use super::Core;
use crate::state::MountRecord;
use crate::state::command::{MountSpec, SealMount};

/// Whether an option must not be shown or stored as it is: by its key, or because its value is a URL with a password in it.
pub(super) fn is_secret(option: &Property) -> bool {
    let authority = option
        .value
        .split_once("://")
        .map(|(_, rest)| rest.split('/').next().unwrap_or(rest));
    config::is_credential(&option.key) || authority.is_some_and(|authority| authority.contains('@'))
}

/// A specification whose credentials are sealed, for the journal.
///
/// # Errors
/// If there is no secret.
pub(super) fn sealed(file: &SecretFile, mut spec: MountSpec) -> FsResult<MountSpec> {
    let (credentials, options): (Vec<_>, Vec<_>) = spec.options.into_iter().partition(is_secret);
    spec.options = options;
    if !credentials.is_empty() {
        let clear = Properties { list: credentials }.encode_to_vec();
        spec.sealed = file.get()?.seal(secret::AT_REST, &[spec.uri.as_bytes()], &clear).into();
    }
    Ok(spec)
}

/// All options of a mount, credentials in clear.
///
/// # Errors
/// If the secret is missing, or is not the one that they were sealed by.
pub(super) fn options_of(file: &SecretFile, record: &MountRecord) -> FsResult<Vec<Property>> {
    let mut options = record.options().to_vec();
    let sealed = record.spec.as_ref().map_or(&[][..], |spec| &spec.sealed);
    if !sealed.is_empty() {
        let clear = file.get()?.unseal(secret::AT_REST, &[record.uri().as_bytes()], sealed);
        let clear = clear.and_then(|bytes| Properties::decode(&bytes[..]).ok()).ok_or_else(|| {
            let why = format!(
                "read the credentials of {}: {} is not the secret that they were sealed by; put the one of this cluster there",
                record.uri(),
                file.path().display()
            );
            FsError::new(ErrorKind::NotPermitted, why)
        })?;
        options.extend(clear.list);
    }
    Ok(options)
}

/// The credentials among the options of a mount, sealed for the worker that sent `proof`: nobody else can read them, and the
/// answer to another question looks different. Empty: there are none.
pub(super) fn for_one_worker(
    secret: &ClusterSecret,
    proof: &MemberProof,
    mount_id: u64,
    options: &[Property],
) -> Bytes {
    let list: Vec<_> = options.iter().filter(|option| is_secret(option)).cloned().collect();
    if list.is_empty() {
        return Bytes::new();
    }
    let context = [&proof.answer[..], &mount_id.to_le_bytes()[..]];
    let clear = Properties { list }.encode_to_vec();
    secret.seal(secret::FOR_ONE_WORKER, &context, &clear).into()
}

impl Core {
    /// Something for a worker to prove itself by.
    pub(super) fn challenge(&self) -> Challenged {
        Challenged {
            challenge: self.challenges.issue().into(),
        }
    }

    /// Takes a worker's proof that it has the secret, once.
    ///
    /// # Errors
    /// `NotPermitted`, saying what to do; `Unavailable` if a new challenge is needed.
    pub(super) fn check_member(&self, worker_id: u64, proof: Option<MemberProof>) -> FsResult<MemberProof> {
        let proof = proof.unwrap_or_default();
        let accepted = self.challenges.accept(&*self.ufs.secret().get()?, worker_id, &proof);
        accepted.inspect_err(|error| tracing::warn!(%error, worker_id, "a worker was refused"))?;
        Ok(proof)
    }

    /// Makes sure of the secret before anything is served: makes it for a cluster that has sealed nothing yet, and refuses a wrong
    /// one. With `forget`, answers with the mounts whose credentials it does not open instead.
    pub(super) fn unlock(&self, forget: bool) -> FsResult<Vec<MountId>> {
        let mounts = self.state.mounts();
        let is_sealed = |mount: &Arc<MountRecord>| mount.spec.as_ref().is_some_and(|spec| !spec.sealed.is_empty());
        if !mounts.iter().any(is_sealed) {
            self.ufs.secret().get_or_create()?;
        }
        let opened = mounts.iter().map(|mount| (mount, options_of(self.ufs.secret(), mount)));
        let failed: Vec<_> = opened
            .filter_map(|(mount, opened)| Some((mount, opened.err()?)))
            .collect();
        let Some((_, error)) = failed.first().filter(|_| !forget) else {
            // What is wrong with the file itself (its mode) is not mended by forgetting.
            if !failed.is_empty() {
                self.ufs.secret().get_or_create()?;
            }
            return Ok(failed.iter().map(|(mount, _)| MountId(mount.id)).collect());
        };
        let uris: Vec<_> = failed.iter().map(|(mount, _)| mount.uri()).collect();
        let why = format!(
            "{error}. The credentials of {} are sealed by it. Restore the file from a backup or from a worker's host. If it is lost \
             for good, start once with -D {}=true: the namespace stays, these credentials are forgotten, and are to be given again \
             by `alluxio fs mount --update PATH --option-file FILE` (those of the root by {}KEY=VALUE at that start)",
            uris.join(", "),
            config::keys::master::FORGET_CREDENTIALS.name,
            config::ROOT_OPTION,
        );
        Err(FsError::new(error.kind, why))
    }

    /// Forgets credentials that nobody can open any more. Those of the root may be in the configuration again.
    pub(super) async fn forget_credentials(&self, conf: &config::Configuration, locked: Vec<MountId>) -> FsResult<()> {
        for id in locked {
            let Some(mount) = self.state.mount(id) else { continue };
            let mut options = mount.options().to_vec();
            if id == MountId::ROOT {
                let given = conf.mount_options();
                options.retain(|option| !given.contains_key(&option.key));
                options.extend(given.into_iter().map(|(key, value)| Property { key, value }));
            }
            let given_again = options.iter().any(is_secret);
            self.propose_own(self.with_options(&mount, options, !given_again)?)
                .await?;
            tracing::warn!(
                mount = mount.id,
                uri = mount.uri(),
                given_again,
                "forgot credentials that the secret of the cluster does not open"
            );
        }
        Ok(())
    }

    /// The command that gives a mount other options.
    pub(super) fn with_options(
        &self,
        mount: &MountRecord,
        options: Vec<Property>,
        wants_credentials: bool,
    ) -> FsResult<SealMount> {
        let clear = MountSpec {
            options,
            sealed: Bytes::new(),
            ..mount.spec.clone().unwrap_or_default()
        };
        let spec = sealed(self.ufs.secret(), clear)?;
        Ok(SealMount {
            mount_id: mount.id,
            options: spec.options,
            sealed: spec.sealed,
            wants_credentials,
            ..SealMount::default()
        })
    }

    /// Seals what older software journaled in clear. True: the old entries should go.
    pub(super) async fn seal_clear_mounts(&self) -> FsResult<bool> {
        let mut changed = false;
        for mount in self.state.mounts() {
            if !mount.options().iter().any(is_secret) {
                continue;
            }
            let body = self.with_options(&mount, options_of(self.ufs.secret(), &mount)?, false)?;
            match self.propose_own(body).await {
                Ok(_) => {}
                Err(error) if error.is_retryable() => {
                    tracing::warn!(mount = mount.id, %error, "credentials stay in clear until the next start");
                    continue;
                }
                Err(error) => return Err(error),
            }
            tracing::info!(
                mount = mount.id,
                uri = mount.uri(),
                "sealed credentials that were kept in clear"
            );
            changed = true;
        }
        Ok(changed)
    }
}
