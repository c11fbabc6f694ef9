//! The data protocol of a worker: one table of operations, with bytes or a descriptor beside the messages; one trait.
//!
//! The worker knows inode ids and versions, never paths or permission; `token` will carry the master's capability.

mod messages;

pub use crate::master::Empty;
pub use messages::*;

use crate::error::FsResult;
use crate::protocol::protocol;

protocol! {
    /// A request to a worker.
    request WorkerRequest {
        /// Capability signed by the master; empty until tokens are on.
        #[prost(bytes = "bytes", tag = "1")]
        pub token: bytes::Bytes,
    }

    /// What is asked.
    op WorkerOp by WorkerOperation {
        10 OpenRead -> OpenedFile [] about(inode);
        11 Read -> Empty [droppable] about(inode);
        12 OpenWrite -> OpenedFile [home] about(inode);
        13 Write -> Written [home] about(inode);
        14 SetLength -> OpenStat [home twice] about(inode);
        15 Allocate -> OpenStat [home twice] about(inode);
        16 SetTimes -> OpenStat [home twice] about(inode);
        17 StatOpen -> OpenStat [droppable home twice] about(inode);
        18 SyncOpen -> OpenStat [home twice] about(inode);
        19 Seal -> OpenStat [home] about(inode);
        20 Drop -> Empty [] about(inode);
        21 Load -> Empty [] about(inode);
        22 SeekRange -> Sought [] about(inode);
        23 CopyRange -> Written [home] about(inode);
        24 PassAgain -> Empty [home twice] about(inode);
        90 Identify -> Identity [];
    }

    /// An answer of a worker.
    message WorkerReply {
        /// CRC32C of the bytes beside it; 0 if there are none.
        #[prost(fixed32, tag = "1")]
        pub data_crc32c: u32,
    }

    /// An answer.
    reply WorkerReplyBody by FromWorkerReply {
        10 OpenedFile;
        11 Empty;
        12 Written;
        13 OpenStat;
        14 Sought;
        90 Identity;
    }
}

impl<O: WorkerOperation> From<O> for WorkerRequest {
    fn from(op: O) -> Self {
        WorkerRequest {
            token: bytes::Bytes::new(),
            op: Some(op.into()),
        }
    }
}

/// A worker's answer with what does not fit a message.
#[derive(Debug)]
pub struct WorkerResponse {
    /// The answer.
    pub reply: WorkerReplyBody,
    /// Bytes read.
    pub data: bytes::Bytes,
    /// Descriptor of the local file: OpenRead (read-only) and OpenWrite (read-write), same host only.
    pub fd: Option<std::os::fd::OwnedFd>,
}

impl WorkerResponse {
    /// An answer without bytes or descriptor.
    pub fn message(reply: WorkerReplyBody) -> Self {
        Self {
            reply,
            data: bytes::Bytes::new(),
            fd: None,
        }
    }
}

/// A worker, near or far.
#[async_trait::async_trait]
pub trait WorkerApi: Send + Sync + 'static {
    /// Executes one request; `data` are the bytes of a [`Write`].
    ///
    /// # Errors
    /// As the operation says. `VersionMismatch`: the object in the under-storage changed; tell the master
    /// ([`crate::master::UfsChanged`]) and open again. `Stale`: no such open version here.
    async fn call(&self, request: WorkerRequest, data: bytes::Bytes) -> FsResult<WorkerResponse>;
}

/// The answer to one operation, with what does not fit a message.
#[derive(Debug)]
pub struct Answered<R> {
    /// The answer.
    pub reply: R,
    /// Bytes read.
    pub data: bytes::Bytes,
    /// As in [`WorkerResponse::fd`].
    pub fd: Option<std::os::fd::OwnedFd>,
}

impl dyn WorkerApi {
    /// Asks what has no bytes beside it, and is answered by a message alone.
    ///
    /// # Errors
    /// As the operation says.
    pub async fn ask<O: WorkerOperation>(&self, op: O) -> FsResult<O::Reply> {
        Ok(self.transfer(op, bytes::Bytes::new()).await?.reply)
    }

    /// Asks with bytes beside the question or the answer, or with a descriptor beside the answer.
    ///
    /// # Errors
    /// As the operation says.
    pub async fn transfer<O: WorkerOperation>(&self, op: O, data: bytes::Bytes) -> FsResult<Answered<O::Reply>> {
        let WorkerResponse { reply, data, fd } = self.call(WorkerRequest::from(op), data).await?;
        let reply = O::answered_by(reply)?;
        Ok(Answered { reply, data, fd })
    }
}

#[cfg(test)]
mod tests;
