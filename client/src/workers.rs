//! Finding a worker by its address.

use crate::master::MasterClient;
use crate::remote::{RemoteWorker, identify};
use alluxio_common::retry::RetryPolicy;
use alluxio_common::rpc::ClientOptions;
use alluxio_common::sync::Mutex;
use alluxio_proto::types::WorkerAddress;
use alluxio_proto::{ErrorKind, FsError, FsResult, WorkerApi};
use async_trait::async_trait;
use lru::LruCache;
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Connections to workers that are kept at once; the least recently used one is dropped.
const CONNECTIONS_MAX: NonZeroUsize = NonZeroUsize::new(256).expect("not zero");

/// Longest wait for a worker on this host to say who it is.
const IDENTIFY_TIME_MAX: Duration = Duration::from_secs(1);
/// A socket that could not be reached is tried again after so long: its worker may be starting.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// A number for [`alluxio_proto::worker::SetLength::number`]: no other client's either.
#[must_use]
pub fn new_change_number() -> u64 {
    rand::random_range(1..=u64::MAX)
}

/// Where workers are reached.
#[async_trait]
pub trait WorkerPool: Send + Sync + 'static {
    /// The worker at an address.
    ///
    /// # Errors
    /// `Unavailable` if there is none.
    async fn worker(&self, address: &WorkerAddress) -> FsResult<Arc<dyn WorkerApi>>;

    /// Whether the worker is known to share this host, so that it can hand out descriptors: [`Self::worker`] or
    /// [`Self::find_out`] have found it behind its unix socket here. Names of hosts decide nothing.
    fn is_local(&self, address: &WorkerAddress) -> bool;

    /// Finds out, as far as that is not known. [`Self::is_local`] tells the same from then on.
    async fn find_out(&self, address: &WorkerAddress) -> bool;
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

    async fn find_out(&self, address: &WorkerAddress) -> bool {
        self.own.lock().contains_key(&address.worker_id) || self.others.find_out(address).await
    }
}

/// Workers over the network. A connection is made at first use and kept.
pub struct RemoteWorkers {
    options: ClientOptions,
    patience: RetryPolicy,
    open: Mutex<LruCache<WorkerAddress, Contact>>,
}

/// A worker, and what is known of where it is.
#[derive(Clone)]
struct Contact {
    worker: Arc<RemoteWorker>,
    /// Behind its socket on this host.
    is_local: bool,
    /// When its socket is to be tried again; `None`: the answer is for good.
    look_again: Option<Instant>,
}

/// What trying a worker's socket showed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    Here,
    Elsewhere,
    /// There is no such socket, or nobody listens there now.
    Nobody,
}

impl RemoteWorkers {
    /// None yet. `patience`: how long a request waits for a worker that only this one can serve.
    pub fn new(options: ClientOptions, patience: RetryPolicy) -> Self {
        Self {
            options,
            patience,
            open: Mutex::new(LruCache::new(CONNECTIONS_MAX)),
        }
    }

    async fn contact(&self, address: &WorkerAddress) -> Contact {
        let known = self.open.lock().get(address).cloned();
        if let Some(contact) = &known
            && contact.look_again.is_none_or(|at| Instant::now() < at)
        {
            return contact.clone();
        }
        let found = find(address).await;
        let mut open = self.open.lock();
        let worker = known.filter(|_| found != Found::Here).map(|contact| contact.worker);
        let contact = Contact {
            worker: worker.unwrap_or_else(|| {
                let is_local = found == Found::Here;
                Arc::new(RemoteWorker::new(
                    address,
                    is_local,
                    self.options.clone(),
                    self.patience,
                ))
            }),
            is_local: found == Found::Here,
            look_again: (found == Found::Nobody).then(|| Instant::now() + LOOK_AGAIN),
        };
        open.put(address.clone(), contact.clone());
        contact
    }
}

impl Default for RemoteWorkers {
    fn default() -> Self {
        Self::new(ClientOptions::default(), MasterClient::DEFAULT_RETRY)
    }
}

/// Whether the worker of this address answers at its socket on this host. The path alone says nothing: another worker may have
/// the same one here.
async fn find(address: &WorkerAddress) -> Found {
    let socket = Path::new(&address.domain_socket);
    if address.domain_socket.is_empty() || address.nonce == 0 {
        return Found::Elsewhere;
    }
    if !socket.exists() {
        return Found::Nobody;
    }
    match tokio::time::timeout(IDENTIFY_TIME_MAX, identify(socket)).await {
        Ok(Ok(nonce)) if nonce == address.nonce => Found::Here,
        Ok(Ok(_)) => Found::Elsewhere,
        // Of a dead worker, or not for us.
        Ok(Err(_)) | Err(_) => Found::Nobody,
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
        Ok(self.contact(address).await.worker)
    }

    fn is_local(&self, address: &WorkerAddress) -> bool {
        self.open.lock().get(address).is_some_and(|contact| contact.is_local)
    }

    async fn find_out(&self, address: &WorkerAddress) -> bool {
        self.contact(address).await.is_local
    }
}
