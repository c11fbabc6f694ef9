//! Serving others over frames: requests and watch streams, decoded and encoded.

use alluxio_common::rpc::{self, Handler, ItemStream, Listener, PeerKind, SERVICE_MASTER, ServeOptions};
use alluxio_proto::master::MasterRequest;
use alluxio_proto::{ErrorKind, FsError, FsResult, MasterApi, SessionId};
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use prost::Message;
use std::sync::Arc;

use super::{MasterService, error};

struct Frames {
    service: Arc<MasterService>,
}

fn decode(service: u8, header: Bytes) -> FsResult<MasterRequest> {
    if service != SERVICE_MASTER {
        let why = format!("service {service} was asked for; a master is here (service {SERVICE_MASTER})");
        return error(ErrorKind::NotSupported, why);
    }
    MasterRequest::decode(header)
        .map_err(|error| FsError::new(ErrorKind::InvalidArgument, format!("a garbled request: {error}")))
}

#[async_trait]
impl Handler for Frames {
    async fn call(&self, service: u8, header: Bytes, _data: Bytes) -> FsResult<(Bytes, Bytes)> {
        let request = decode(service, header)?;
        let reply = self.service.call(request).await?;
        Ok((reply.into_message().encode_to_vec().into(), Bytes::new()))
    }

    async fn stream(&self, service: u8, header: Bytes) -> FsResult<ItemStream> {
        let request = decode(service, header)?;
        let batches = self.service.watch(SessionId(request.session)).await?;
        let items = batches.map(|batch| Ok(Bytes::from(batch?.encode_to_vec())));
        Ok(items.boxed())
    }

    fn drop_on_cancel(&self, service: u8, header: &Bytes) -> bool {
        // A heartbeat must not be dropped: the work it has taken would be lost.
        decode(service, header.clone()).is_ok_and(|request| request.op.is_some_and(|op| op.is_droppable()))
    }
}

impl MasterService {
    /// Answers on a listener until the master is shut down.
    pub async fn serve(self: Arc<Self>, listener: impl Into<Listener>) {
        let options = ServeOptions {
            peer: PeerKind::Master,
            metrics: self.metrics().clone(),
            ..ServeOptions::default()
        };
        let stop = self.core.stop.child_token();
        rpc::serve_with(listener, Arc::new(Frames { service: self }), options, stop).await;
    }
}
