//! Masters and workers behind a connection.

use crate::master::MasterClient;
use alluxio_common::checksum::crc32c;
use alluxio_common::rpc::{self, Address, SERVICE_MASTER, SERVICE_WORKER};
use alluxio_proto::master::{MasterReply, MasterRequest, Op, Reply, WatchBatch};
use alluxio_proto::types::WorkerAddress;
use alluxio_proto::worker::{WorkerOp, WorkerReply, WorkerRequest};
use alluxio_proto::{ErrorKind, FsError, FsResult, MasterApi, SessionId, WatchStream, WorkerApi, WorkerResponse};
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use prost::Message;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Slack on top of what a waiting request itself may take.
const WAIT_SLACK: Duration = Duration::from_secs(15);
/// Longest wait for a worker: a cold read goes to the under-storage, a seal syncs a whole file.
const WORKER_TIMEOUT: Duration = Duration::from_secs(600);
/// Default of WaitPersisted, when the request names none.
const PERSIST_WAIT_MS: u64 = 1_200_000;

/// A master behind a connection to one of several addresses.
#[derive(Clone, Debug)]
pub struct RemoteMaster {
    client: rpc::Client,
    call_timeout: Duration,
}

impl RemoteMaster {
    /// Connects at first use.
    pub fn new(addresses: Vec<Address>, options: rpc::ClientOptions) -> Self {
        let call_timeout = options.call_timeout;
        Self {
            client: rpc::Client::new(addresses, options),
            call_timeout,
        }
    }

    /// With a client on top.
    pub fn client(self) -> MasterClient {
        MasterClient::new(Arc::new(self))
    }

    /// Some requests wait on purpose.
    fn timeout_of(&self, op: Option<&Op>) -> Duration {
        match op {
            Some(Op::WorkerHeartbeat(beat)) => Duration::from_millis(beat.wait_ms) + WAIT_SLACK,
            Some(Op::WaitPersisted(wait)) => {
                Duration::from_millis(if wait.timeout_ms == 0 {
                    PERSIST_WAIT_MS
                } else {
                    wait.timeout_ms
                }) + WAIT_SLACK
            }
            // These walk trees and under-storages.
            Some(Op::Count(_) | Op::Delete(_) | Op::Free(_) | Op::Mount(_) | Op::Unmount(_)) => self.call_timeout * 10,
            _ => self.call_timeout,
        }
    }
}

#[async_trait]
impl MasterApi for RemoteMaster {
    async fn call(&self, request: MasterRequest) -> FsResult<Reply> {
        let timeout = self.timeout_of(request.op.as_ref());
        let header = Bytes::from(request.encode_to_vec());
        let (header, _) = self
            .client
            .call_within(timeout, SERVICE_MASTER, header, Bytes::new())
            .await?;
        let reply = MasterReply::decode(header).map_err(|error| garbled("the master's answer", &error))?;
        reply.reply.ok_or_else(|| {
            FsError::new(
                ErrorKind::NotSupported,
                "the master answered with a message that this version does not know",
            )
        })
    }

    async fn watch(&self, session: SessionId) -> FsResult<WatchStream> {
        let request = MasterRequest {
            session: session.get(),
            ..Default::default()
        };
        let items = self
            .client
            .stream(SERVICE_MASTER, request.encode_to_vec().into())
            .await?;
        let batches =
            items.map(|item| WatchBatch::decode(item?).map_err(|error| garbled("a batch of changes", &error)));
        Ok(Box::pin(batches))
    }
}

/// A worker behind a connection; on the same host also behind a unix socket that hands out descriptors.
#[derive(Debug)]
pub struct RemoteWorker {
    client: rpc::Client,
    descriptors: Option<rpc::fd::Client>,
}

impl RemoteWorker {
    /// Connects at first use. `local`: use the worker's unix socket, if it has one that is reachable from here.
    pub fn new(address: &WorkerAddress, local: bool, mut options: rpc::ClientOptions) -> Self {
        options.call_timeout = WORKER_TIMEOUT;
        let port = u16::try_from(address.port).unwrap_or_default();
        let socket = PathBuf::from(&address.domain_socket);
        let usable = local && !address.domain_socket.is_empty() && socket.exists();
        Self {
            client: rpc::Client::new(vec![Address::tcp(&address.host, port)], options),
            descriptors: usable.then(|| rpc::fd::Client::new(socket)),
        }
    }
}

#[async_trait]
impl WorkerApi for RemoteWorker {
    async fn call(&self, request: WorkerRequest, data: Bytes) -> FsResult<WorkerResponse> {
        let wants_fd = match &request.op {
            Some(WorkerOp::OpenRead(open)) => open.want_fd,
            Some(WorkerOp::OpenWrite(open)) => open.want_fd,
            _ => false,
        };
        let header = Bytes::from(request.encode_to_vec());
        let (header, data, fd) = match &self.descriptors {
            Some(descriptors) if wants_fd => descriptors.call(header, data).await?,
            _ => {
                let (header, data) = self.client.call(SERVICE_WORKER, header, data).await?;
                (header, data, None)
            }
        };
        let reply = WorkerReply::decode(header).map_err(|error| garbled("the worker's answer", &error))?;
        if !data.is_empty() && crc32c(&data) != reply.data_crc32c {
            let why = format!(
                "read from a worker: {} bytes arrived with a wrong checksum; trying again reads them anew",
                data.len()
            );
            return Err(FsError::new(ErrorKind::Unavailable, why));
        }
        let body = reply.reply.ok_or_else(|| {
            FsError::new(
                ErrorKind::NotSupported,
                "the worker answered with a message that this version does not know",
            )
        })?;
        Ok(WorkerResponse { reply: body, data, fd })
    }
}

fn garbled(what: &str, error: &prost::DecodeError) -> FsError {
    FsError::new(
        ErrorKind::Internal,
        format!("decode {what}: {error}; do both ends have the same version?"),
    )
}
