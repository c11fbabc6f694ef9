//! Clients of under-storages by mount, from the master's mount table.

use crate::options::UfsOpener;
use alluxio_common::sync::RwLock;
use alluxio_proto::master::FromReply;
use alluxio_proto::master::{GetMounts, MasterRequest, MountInfo, MountTable, Op, Opened, UfsChanged};
use alluxio_proto::types::UfsSource;
use alluxio_proto::{ErrorKind, FsError, FsResult, InodeId, MasterApi};
use alluxio_ufs::UnderFileSystem;
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
    clients: RwLock<HashMap<u64, OpenedMount>>,
    /// When the last fetch of the table began; one fetch at a time.
    refreshed: Mutex<Option<Instant>>,
}

impl UfsClients {
    pub fn new(master: Arc<dyn MasterApi>, opener: UfsOpener) -> Self {
        Self {
            master,
            opener,
            worker_id: AtomicU64::new(0),
            clients: RwLock::new(HashMap::new()),
            refreshed: Mutex::new(None),
        }
    }
    /// Who asks for credentials.
    pub fn set_worker_id(&self, id: u64) {
        self.worker_id.store(id, Ordering::Relaxed);
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

    /// Where the master says that `version` of an inode is in an under-storage; `None`: in none, or nobody knows.
    ///
    /// # Errors
    /// The master's.
    pub async fn place_of(&self, inode: InodeId, version: u64) -> FsResult<Option<UfsSource>> {
        let request = MasterRequest {
            // Of no version, so that nobody looks at the under-storage: this is about what the master did itself.
            op: Some(Op::UfsChanged(UfsChanged {
                inode: inode.get(),
                version: 0,
            })),
            ..MasterRequest::default()
        };
        let reply = self
            .master
            .call(request)
            .await
            .map_err(|error| error.context("ask where an object is"))?;
        let opened = Opened::from_reply(reply).unwrap_or_default();
        let source = opened.read.or_else(|| opened.write.and_then(|lease| lease.base));
        let places = source.map(|source| [(source.version, source.ufs), (source.older_version, source.older)]);
        let place = places.into_iter().flatten().find(|(of, _)| *of == version);
        Ok(place.and_then(|(_, place)| place))
    }

    fn known(&self, mount_id: u64) -> Option<Arc<dyn UnderFileSystem>> {
        self.clients.read().get(&mount_id).map(|(_, ufs)| Arc::clone(ufs))
    }

    async fn fetch(&self) -> FsResult<()> {
        let request = MasterRequest {
            op: Some(Op::GetMounts(GetMounts {
                for_worker: self.worker_id.load(Ordering::Relaxed),
            })),
            ..MasterRequest::default()
        };
        let reply = self
            .master
            .call(request)
            .await
            .map_err(|error| error.context("fetch the mount table"))?;
        let table = MountTable::from_reply(reply)
            .ok_or_else(|| FsError::new(ErrorKind::Internal, "the master answered GetMounts with something else"))?;
        let mut clients = HashMap::with_capacity(table.mounts.len());
        for mount in table.mounts {
            let kept = self
                .clients
                .read()
                .get(&mount.mount_id)
                .filter(|(old, _)| same_store(old, &mount))
                .cloned();
            match kept.map_or_else(|| (self.opener)(&mount), |(_, ufs)| Ok(ufs)) {
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

fn same_store(a: &MountInfo, b: &MountInfo) -> bool {
    a.uri == b.uri && a.options == b.options
}
