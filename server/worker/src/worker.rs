//! The worker as one object: its parts, its start and its end.

use crate::options::{Settings, WorkerOptions};
use alluxio_common::config::Configuration;
use alluxio_common::rpc::Listener;
use alluxio_proto::worker::WorkerRequest;
use alluxio_proto::{ErrorKind, FsError, FsResult, WorkerApi, WorkerId, WorkerResponse};
use bytes::Bytes;
use std::path::Path;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// A worker.
pub struct Worker {
    #[allow(dead_code)]
    settings: Settings,
}

impl Worker {
    /// Opens the data folder, registers with the master and begins to work until `shutdown`. A master that cannot be
    /// reached now is tried again in the background.
    ///
    /// # Errors
    /// A folder that is locked, of another cluster, or of a newer format; a setting that makes no sense.
    pub async fn start(
        conf: &Configuration,
        options: WorkerOptions,
        shutdown: CancellationToken,
    ) -> FsResult<Arc<Self>> {
        let _ = (options, shutdown);
        Ok(Arc::new(Self {
            settings: Settings::new(conf)?,
        }))
    }
    /// Answers framed requests on `listener` until shutdown.
    pub async fn serve(self: Arc<Self>, listener: impl Into<Listener>) {
        let _ = listener.into();
    }
    /// Answers requests whose answer may carry a descriptor on the unix socket at `path` until shutdown.
    ///
    /// # Errors
    /// Of binding.
    pub async fn serve_fd(self: Arc<Self>, path: &Path) -> FsResult<()> {
        let _ = path;
        Err(FsError::new(ErrorKind::NotSupported, "not yet"))
    }
    /// Identity at the master; `None` before the first registration.
    pub fn worker_id(&self) -> Option<WorkerId> {
        None
    }
    /// Ends what is under way and returns when all of it has ended.
    pub async fn shutdown(&self) {}
}

#[async_trait::async_trait]
impl WorkerApi for Worker {
    async fn call(&self, request: WorkerRequest, data: Bytes) -> FsResult<WorkerResponse> {
        let _ = (request, data);
        Err(FsError::new(ErrorKind::NotSupported, "not yet"))
    }
}
