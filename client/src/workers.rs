//! Finding a worker by its address.

use crate::remote::RemoteWorker;
use alluxio_common::rpc::ClientOptions;
use alluxio_common::sync::Mutex;
use alluxio_proto::types::WorkerAddress;
use alluxio_proto::{ErrorKind, FsError, FsResult, WorkerApi};
use async_trait::async_trait;
use lru::LruCache;
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::Arc;

/// Connections to workers that are kept at once; the least recently used one is dropped.
const CONNECTIONS_MAX: NonZeroUsize = NonZeroUsize::new(256).expect("not zero");

/// Where workers are reached.
#[async_trait]
pub trait WorkerPool: Send + Sync + 'static {
    /// The worker at an address.
    ///
    /// # Errors
    /// `Unavailable` if there is none.
    async fn worker(&self, address: &WorkerAddress) -> FsResult<Arc<dyn WorkerApi>>;

    /// Whether the worker shares this host, so that it can hand out descriptors.
    fn is_local(&self, address: &WorkerAddress) -> bool;
}

/// Workers in this process, called directly; others over the network.
#[derive(Default)]
pub struct DirectWorkers {
    own: Mutex<HashMap<u64, Arc<dyn WorkerApi>>>,
    others: RemoteWorkers,
}

impl DirectWorkers {
    /// Adds a worker of this process under the id that the master gave it.
    pub fn add(&self, worker_id: u64, worker: Arc<dyn WorkerApi>) {
        self.own.lock().insert(worker_id, worker);
    }
}

#[async_trait]
impl WorkerPool for DirectWorkers {
    async fn worker(&self, address: &WorkerAddress) -> FsResult<Arc<dyn WorkerApi>> {
        if let Some(worker) = self.own.lock().get(&address.worker_id) {
            return Ok(Arc::clone(worker));
        }
        self.others.worker(address).await
    }

    fn is_local(&self, address: &WorkerAddress) -> bool {
        self.own.lock().contains_key(&address.worker_id) || self.others.is_local(address)
    }
}

/// Workers over the network. A connection is made at first use and kept.
pub struct RemoteWorkers {
    host: String,
    options: ClientOptions,
    open: Mutex<LruCache<WorkerAddress, Arc<RemoteWorker>>>,
}

impl RemoteWorkers {
    /// `host` is this host's name, as workers on it call themselves.
    pub fn new(host: String, options: ClientOptions) -> Self {
        Self {
            host,
            options,
            open: Mutex::new(LruCache::new(CONNECTIONS_MAX)),
        }
    }
}

impl Default for RemoteWorkers {
    fn default() -> Self {
        Self::new(host_name(), ClientOptions::default())
    }
}

/// This host's name.
pub fn host_name() -> String {
    nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .unwrap_or_else(|| "localhost".to_owned())
}

#[async_trait]
impl WorkerPool for RemoteWorkers {
    async fn worker(&self, address: &WorkerAddress) -> FsResult<Arc<dyn WorkerApi>> {
        if address.host.is_empty() {
            return Err(FsError::new(
                ErrorKind::Unavailable,
                format!("worker {} has no address", address.worker_id),
            ));
        }
        let local = self.is_local(address);
        let mut open = self.open.lock();
        let worker = open.get_or_insert(address.clone(), || {
            Arc::new(RemoteWorker::new(address, local, self.options.clone()))
        });
        Ok(Arc::clone(worker) as Arc<dyn WorkerApi>)
    }

    fn is_local(&self, address: &WorkerAddress) -> bool {
        address.host == self.host || matches!(address.host.as_str(), "localhost" | "127.0.0.1" | "::1")
    }
}
