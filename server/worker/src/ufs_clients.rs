//! Clients of under-storages by mount, from the master's mount table.

use crate::options::UfsOpener;
use alluxio_common::metrics::Metrics;
use alluxio_common::secret::{self, ClusterSecret, SecretFile};
use alluxio_common::sync::RwLock;
use alluxio_proto::master::{Challenge, Empty, GetMounts, MemberProof, MountInfo, Properties, Spill, UfsChanged};
use alluxio_proto::types::UfsSource;
use alluxio_proto::{ErrorKind, FsError, FsResult, InodeId, MasterApi};
use alluxio_ufs::UnderFileSystem;
use prost::Message;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// The table is not fetched again for unknown mounts more often than this.
const REFRESH_PAUSE: Duration = Duration::from_millis(200);

/// A mount as it was when its client was made.
type OpenedMount = (MountInfo, Arc<dyn UnderFileSystem>);

/// Clients by mount id; as many as the master has mounts.
pub(crate) struct UfsClients {
    master: Arc<dyn MasterApi>,
    opener: UfsOpener,
    worker_id: AtomicU64,
    cluster: RwLock<String>,
    secret: Arc<SecretFile>,
    metrics: Metrics,
    clients: RwLock<HashMap<u64, OpenedMount>>,
    /// When the last fetch of the table began; one fetch at a time.
    refreshed: Mutex<Option<Instant>>,
}

impl UfsClients {
    pub fn new(master: Arc<dyn MasterApi>, opener: UfsOpener, secret: Arc<SecretFile>, metrics: Metrics) -> Self {
        Self {
            metrics,
            cluster: RwLock::default(),
            secret,
            master,
            opener,
            worker_id: AtomicU64::new(0),
            clients: RwLock::new(HashMap::new()),
            refreshed: Mutex::new(None),
        }
    }
    /// Which worker this is; 0 before the first registration.
    pub fn worker_id(&self) -> u64 {
        self.worker_id.load(Ordering::Relaxed)
    }
    /// Who asks for credentials.
    pub fn set_identity(&self, worker_id: u64, cluster_id: &str) {
        self.worker_id.store(worker_id, Ordering::Relaxed);
        cluster_id.clone_into(&mut self.cluster.write());
    }
    /// Which cluster it works for; empty before the first registration.
    pub fn cluster(&self) -> String {
        self.cluster.read().clone()
    }

    /// The client of a mount.
    ///
    /// # Errors
    /// The master's; `NotFound` if it knows no such mount.
    pub async fn get(&self, mount_id: u64) -> FsResult<Arc<dyn UnderFileSystem>> {
        if let Some(ufs) = self.known(mount_id) {
            return Ok(ufs);
        }
        let asked = Instant::now();
        let mut refreshed = self.refreshed.lock().await;
        // A table from before the question may be older than the mount; one that came while we waited for our turn is not.
        if self.known(mount_id).is_none() && refreshed.is_none_or(|at| at < asked) {
            if let Some(at) = *refreshed {
                tokio::time::sleep(REFRESH_PAUSE.saturating_sub(at.elapsed())).await;
            }
            let begun = Instant::now();
            self.fetch().await?;
            *refreshed = Some(begun);
        }
        self.known(mount_id).ok_or_else(|| {
            let why = format!("the master has no mount {mount_id}, or its under-storage cannot be opened");
            FsError::new(ErrorKind::NotFound, why)
        })
    }

    /// Takes the table as it is now, with changed options and without what was unmounted.
    ///
    /// # Errors
    /// The master's.
    pub async fn refresh(&self) -> FsResult<Vec<Arc<dyn UnderFileSystem>>> {
        let mut refreshed = self.refreshed.lock().await;
        let begun = Instant::now();
        self.fetch().await?;
        *refreshed = Some(begun);
        Ok(self.clients.read().values().map(|(_, ufs)| Arc::clone(ufs)).collect())
    }

    /// Versions of an inode that the master knows to be in an under-storage, and where.
    ///
    /// # Errors
    /// The master's.
    pub async fn locations_of(&self, inode: InodeId) -> FsResult<Vec<(u64, UfsSource)>> {
        // Of no version, so that nobody looks at the under-storage: this is about what the master did itself.
        let request = UfsChanged {
            inode: inode.get(),
            version: 0,
        };
        let opened = self
            .master
            .ask(request)
            .await
            .map_err(|error| error.context("ask where an object is"))?;
        let source = opened.read.or_else(|| opened.write.and_then(|lease| lease.base));
        let locations = source.map(|source| [(source.version, source.ufs), (source.older_version, source.older)]);
        let locations = locations.into_iter().flatten();
        Ok(locations.filter_map(|(of, location)| Some((of, location?))).collect())
    }

    /// Tells the master of what is spilled.
    ///
    /// # Errors
    /// The master's.
    pub async fn spill(&self, mut request: Spill) -> FsResult<()> {
        request.worker_id = self.worker_id();
        request.proof = Some(prove(&*self.master, &self.secret, request.worker_id).await?);
        let Empty {} = self.master.ask(request).await?;
        Ok(())
    }

    fn known(&self, mount_id: u64) -> Option<Arc<dyn UnderFileSystem>> {
        self.clients.read().get(&mount_id).map(|(_, ufs)| Arc::clone(ufs))
    }

    async fn fetch(&self) -> FsResult<()> {
        let (id, fetching) = (self.worker_id(), "fetch the mount table");
        let proof = prove(&*self.master, &self.secret, id)
            .await
            .map_err(|error| error.context(fetching))?;
        let request = GetMounts {
            for_worker: id,
            proof: Some(proof.clone()),
        };
        let table = self
            .master
            .ask(request)
            .await
            .map_err(|error| error.context(fetching))?;
        let secret = self.secret.get()?;
        let mut clients = HashMap::with_capacity(table.mounts.len());
        for mut mount in table.mounts {
            if let Err(error) = unseal(&secret, &proof, &mut mount) {
                tracing::warn!(%error, mount = mount.mount_id, uri = mount.uri, "open an under-storage");
                continue;
            }
            let kept = self
                .clients
                .read()
                .get(&mount.mount_id)
                .filter(|(old, _)| same_store(old, &mount))
                .cloned();
            let open = || -> FsResult<Arc<dyn UnderFileSystem>> {
                let ufs = (self.opener)(&mount)?;
                ufs.metrics().serve_in(&self.metrics, "Worker", &mount.uri);
                Ok(ufs)
            };
            match kept.map_or_else(open, |(_, ufs)| Ok(ufs)) {
                Ok(ufs) => {
                    clients.insert(mount.mount_id, (mount, ufs));
                }
                // The other mounts must work.
                Err(error) => tracing::warn!(%error, mount = mount.mount_id, uri = mount.uri, "open an under-storage"),
            }
        }
        *self.clients.write() = clients;
        Ok(())
    }
}

/// Asks the master for a challenge and answers it.
///
/// # Errors
/// The master's; that there is no secret here.
pub(crate) async fn prove(master: &dyn MasterApi, secret: &SecretFile, worker_id: u64) -> FsResult<MemberProof> {
    let challenged = master.ask(Challenge {}).await?;
    // Not before the master has answered: the first one on this host makes the file.
    Ok(secret.get()?.prove(worker_id, &challenged.challenge))
}

/// Puts the credentials in the place of their masks.
fn unseal(secret: &ClusterSecret, proof: &MemberProof, mount: &mut MountInfo) -> FsResult<()> {
    if mount.sealed.is_empty() {
        return Ok(());
    }
    let context = [&proof.answer[..], &mount.mount_id.to_le_bytes()[..]];
    let clear = secret.unseal(secret::FOR_ONE_WORKER, &context, &mount.sealed);
    let clear = clear
        .and_then(|bytes| Properties::decode(&bytes[..]).ok())
        .ok_or_else(|| {
            let why = "the credentials that the master sent cannot be read: it has another secret";
            FsError::new(ErrorKind::NotPermitted, why)
        })?;
    for property in clear.list {
        mount.options.retain(|masked| masked.key != property.key);
        mount.options.push(property);
    }
    // So that the same credentials look the same next time.
    mount.options.sort_by(|a, b| a.key.cmp(&b.key));
    mount.sealed.clear();
    Ok(())
}

fn same_store(a: &MountInfo, b: &MountInfo) -> bool {
    a.uri == b.uri && a.options == b.options
}
