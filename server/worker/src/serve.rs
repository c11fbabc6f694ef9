//! The worker's two doors: framed requests with data beside them, and requests answered with a descriptor.

use crate::worker::Worker;
use alluxio_common::checksum::crc32c;
use alluxio_common::rpc::{self, Handler, Listener, PeerKind, SERVICE_WORKER, ServeOptions};
use alluxio_proto::worker::{WorkerOp, WorkerReply, WorkerRequest};
use alluxio_proto::{ErrorKind, FsError, FsResult, WorkerApi, WorkerResponse};
use async_trait::async_trait;
use bytes::Bytes;
use prost::Message;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

impl Worker {
    /// Answers framed requests on `listener` until shutdown.
    pub async fn serve(self: Arc<Self>, listener: impl Into<Listener>) {
        let options = ServeOptions {
            peer: PeerKind::Worker,
            metrics: self.metrics().clone(),
            ..ServeOptions::default()
        };
        let shutdown = self.shutdown_token();
        rpc::serve_with(listener, Arc::new(Door(self)), options, shutdown).await;
    }

    /// Answers requests whose answer may carry a descriptor on the unix socket at `path` until shutdown.
    ///
    /// # Errors
    /// Of binding.
    pub async fn serve_fd(self: Arc<Self>, path: &Path) -> FsResult<()> {
        let shutdown = self.shutdown_token();
        rpc::fd::serve(path, Arc::new(Door(self)), shutdown).await
    }
}

struct Door(Arc<Worker>);

impl Door {
    async fn answer(
        &self,
        mut request: WorkerRequest,
        data: Bytes,
        fd: bool,
    ) -> FsResult<(Bytes, Bytes, Option<OwnedFd>)> {
        if !fd {
            // A descriptor cannot go this way, and one that is made has consequences.
            match &mut request.op {
                Some(WorkerOp::OpenRead(open)) => open.want_fd = false,
                Some(WorkerOp::OpenWrite(open)) => open.want_fd = false,
                _ => {}
            }
        }
        let WorkerResponse { reply, data, fd } = self.0.call(request, data).await?;
        let reply = WorkerReply {
            data_crc32c: if data.is_empty() { 0 } else { crc32c(&data) },
            reply: Some(reply),
        };
        Ok((reply.encode_to_vec().into(), data, fd))
    }
}

fn decode(header: &Bytes) -> FsResult<WorkerRequest> {
    WorkerRequest::decode(header.clone()).map_err(|error| {
        let why = format!("a request to the worker cannot be understood: {error}");
        FsError::new(ErrorKind::InvalidArgument, why)
    })
}

#[async_trait]
impl Handler for Door {
    async fn call(&self, service: u8, header: Bytes, data: Bytes) -> FsResult<(Bytes, Bytes)> {
        if service != SERVICE_WORKER {
            let why = format!("a worker has no service {service}");
            return Err(FsError::new(ErrorKind::NotSupported, why));
        }
        let (header, data, _) = self.answer(decode(&header)?, data, false).await?;
        Ok((header, data))
    }

    fn drop_on_cancel(&self, _service: u8, header: &Bytes) -> bool {
        // Fetches go on in tasks of their own.
        decode(header).is_ok_and(|request| request.op.is_some_and(|op| op.is_droppable()))
    }
}

#[async_trait]
impl rpc::fd::FdHandler for Door {
    async fn call(&self, header: Bytes, data: Bytes) -> FsResult<(Bytes, Bytes, Option<OwnedFd>)> {
        self.answer(decode(&header)?, data, true).await
    }
}
