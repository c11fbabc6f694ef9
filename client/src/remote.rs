//! Masters and workers behind a connection.

use crate::master::MasterClient;
use alluxio_common::checksum::crc32c;
use alluxio_common::retry::{Backoff, RetryPolicy, time_left};
use alluxio_common::rpc::{self, Address, SERVICE_MASTER, SERVICE_WORKER};
use alluxio_proto::master::{MasterReply, MasterRequest, Op, Reply, WatchBatch};
use alluxio_proto::types::WorkerAddress;
use alluxio_proto::worker::{Identify, WorkerOp, WorkerReply, WorkerReplyBody, WorkerRequest};
use alluxio_proto::{ErrorKind, FsError, FsResult, MasterApi, SessionId, WatchStream, WorkerApi, WorkerResponse};
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use prost::Message;
use std::path::{Path, PathBuf};
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
            Some(op) if op.walks() => self.call_timeout * 10,
            _ => time_left().map_or(self.call_timeout, |left| left.min(self.call_timeout)),
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
    /// How long what only this worker can do waits for it: it may be starting again.
    patience: RetryPolicy,
}

impl RemoteWorker {
    /// Connects at first use. `local`: the worker is behind its unix socket on this host. `patience`: how long a request waits
    /// that only the home of an open version can serve.
    pub fn new(address: &WorkerAddress, local: bool, mut options: rpc::ClientOptions, patience: RetryPolicy) -> Self {
        options.call_timeout = WORKER_TIMEOUT;
        let port = u16::try_from(address.port).unwrap_or_default();
        let socket = PathBuf::from(&address.domain_socket);
        Self {
            client: rpc::Client::new(vec![Address::tcp(&address.host, port)], options),
            descriptors: local.then(|| rpc::fd::Client::new(socket)),
            patience,
        }
    }

    /// The socket that hands out descriptors, if it is here and the request wants one.
    fn descriptors_for(&self, op: Option<&WorkerOp>) -> Option<&rpc::fd::Client> {
        let wants_fd = match op {
            Some(WorkerOp::OpenRead(open)) => open.want_fd,
            Some(WorkerOp::OpenWrite(open)) => open.want_fd,
            _ => false,
        };
        self.descriptors.as_ref().filter(|_| wants_fd)
    }

    async fn ask(&self, descriptors: Option<&rpc::fd::Client>, header: Bytes, data: Bytes) -> FsResult<Answer> {
        match descriptors {
            Some(descriptors) => descriptors.call(header, data).await,
            None => {
                let (header, data) = self.client.call(SERVICE_WORKER, header, data).await?;
                Ok((header, data, None))
            }
        }
    }

    /// Waits until the worker can be reached, as long as others wait for a master.
    async fn reach(&self, descriptors: Option<&rpc::fd::Client>, backoff: &mut Backoff) -> FsResult<()> {
        loop {
            let reached = match descriptors {
                Some(descriptors) => descriptors.reach().await,
                None => self.client.reach().await,
            };
            match reached {
                Err(error) if error.is_retryable() && backoff.pause(&error).await => {}
                other => return other,
            }
        }
    }
}

/// Header, data, and the descriptor that came with it.
type Answer = (Bytes, Bytes, Option<std::os::fd::OwnedFd>);

#[async_trait]
impl WorkerApi for RemoteWorker {
    async fn call(&self, request: WorkerRequest, data: Bytes) -> FsResult<WorkerResponse> {
        let op = request.op.as_ref();
        let descriptors = self.descriptors_for(op);
        let needs_home = op.is_some_and(WorkerOp::needs_home);
        let may_repeat = op.is_some_and(WorkerOp::may_be_done_twice);
        let encoded = Bytes::from(request.encode_to_vec());
        let mut backoff = self.patience.start();
        let (header, data, fd) = loop {
            if needs_home {
                // Nobody else has what this version's writers wrote; an error here is one for a program that did nothing wrong.
                self.reach(descriptors, &mut backoff).await?;
            }
            match self.ask(descriptors, encoded.clone(), data.clone()).await {
                Err(error) if may_repeat && error.is_retryable() && backoff.pause(&error).await => {}
                other => break other?,
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

/// Asks who is behind a worker's socket on this host.
///
/// # Errors
/// Of connecting, or of a worker that does not know the question.
pub(crate) async fn identify(socket: &Path) -> FsResult<u64> {
    let request = WorkerRequest::from(Identify {});
    let client = rpc::fd::Client::new(socket);
    let (header, _, _) = client.call(request.encode_to_vec().into(), Bytes::new()).await?;
    let reply = WorkerReply::decode(header).map_err(|error| garbled("the worker's answer", &error))?;
    match reply.reply {
        Some(WorkerReplyBody::Identity(identity)) => Ok(identity.nonce),
        _ => Err(FsError::new(
            ErrorKind::NotSupported,
            "the worker does not say who it is",
        )),
    }
}

fn garbled(what: &str, error: &prost::DecodeError) -> FsError {
    FsError::new(
        ErrorKind::Internal,
        format!("decode {what}: {error}; do both ends have the same version?"),
    )
}
