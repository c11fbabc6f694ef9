//! Asking the master: identity, retries, and ids of changes.

use alluxio_common::retry::RetryPolicy;
use alluxio_proto::master::{FromReply, MasterRequest, Op, Reply};
use alluxio_proto::types::Caller;
use alluxio_proto::{ErrorKind, FsError, FsResult, MasterApi, SessionId, WatchStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How long a request is tried again by default (`alluxio.user.rpc.retry.max.duration`).
const RETRY_TOTAL: Duration = Duration::from_secs(120);

/// The master as one caller sees it. Clones share the session and the counter of operation ids.
#[derive(Clone)]
pub struct MasterClient {
    api: Arc<dyn MasterApi>,
    session: Arc<AtomicU64>,
    next_op: Arc<AtomicU64>,
    retry: RetryPolicy,
}

impl std::fmt::Debug for MasterClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MasterClient")
            .field("session", &self.session())
            .finish_non_exhaustive()
    }
}

impl MasterClient {
    /// How requests are tried again by default.
    pub const DEFAULT_RETRY: RetryPolicy = RetryPolicy {
        base: Duration::from_millis(50),
        max: Duration::from_secs(3),
        total: RETRY_TOTAL,
    };

    /// A client without a session.
    pub fn new(api: Arc<dyn MasterApi>) -> Self {
        // Ids start at random, so that a client that takes up a session again does not repeat those of its past life.
        let first = rand::random::<u64>() >> 1;
        Self {
            api,
            session: Arc::default(),
            next_op: Arc::new(AtomicU64::new(first.max(1))),
            retry: Self::DEFAULT_RETRY,
        }
    }

    /// How retryable failures are tried again.
    #[must_use]
    pub fn with_retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = retry;
        self
    }

    /// How long retryable failures are tried again.
    #[must_use]
    pub fn with_retry_total(mut self, total: Duration) -> Self {
        self.retry.total = total;
        self
    }

    /// How long and how often retryable failures are tried again.
    pub fn retry_policy(&self) -> RetryPolicy {
        self.retry
    }

    /// The master itself.
    pub fn api(&self) -> &Arc<dyn MasterApi> {
        &self.api
    }

    /// The session, 0 if there is none.
    pub fn session(&self) -> SessionId {
        SessionId(self.session.load(Ordering::Acquire))
    }

    /// Uses a session from now on, in all clones.
    pub fn set_session(&self, session: SessionId) {
        self.session.store(session.get(), Ordering::Release);
    }

    /// Opens the watch stream of the session.
    ///
    /// # Errors
    /// `Stale` if the session is gone.
    pub async fn watch(&self) -> FsResult<WatchStream> {
        self.api.watch(self.session()).await
    }

    /// Asks something that changes nothing; tried again while the failure is retryable.
    ///
    /// # Errors
    /// As the operation says.
    pub async fn read<T: FromReply>(&self, caller: &Caller, op: Op) -> FsResult<T> {
        self.ask(caller, op, 0).await
    }

    /// Asks for a change. A retry has the same id, so that it is done once.
    ///
    /// # Errors
    /// As the operation says.
    pub async fn change<T: FromReply>(&self, caller: &Caller, op: Op) -> FsResult<T> {
        self.change_as(self.new_op_id(), caller, op).await
    }

    /// As [`Self::change`], with an id of [`Self::new_op_id`], for a change that is asked for again later: it is done once.
    ///
    /// # Errors
    /// As the operation says.
    pub async fn change_as<T: FromReply>(&self, op_id: u64, caller: &Caller, op: Op) -> FsResult<T> {
        self.ask(caller, op, op_id).await
    }

    /// The id of a change that is still to be asked for.
    pub fn new_op_id(&self) -> u64 {
        self.next_op.fetch_add(1, Ordering::Relaxed)
    }

    /// Asks once.
    ///
    /// # Errors
    /// As the operation says.
    pub async fn once<T: FromReply>(&self, caller: &Caller, op: Op) -> FsResult<T> {
        unwrap(self.api.call(self.request(caller, op, 0)).await?)
    }

    async fn ask<T: FromReply>(&self, caller: &Caller, op: Op, op_id: u64) -> FsResult<T> {
        // Operations share their bytes, so a clone of one is cheap; a caller is cloned for each try.
        let mut error = match self.api.call(self.request(caller, op.clone(), op_id)).await {
            Ok(reply) => return unwrap(reply),
            Err(error) => error,
        };
        let mut backoff = self.retry.start();
        while error.is_retryable() && backoff.pause().await {
            error = match self.api.call(self.request(caller, op.clone(), op_id)).await {
                Ok(reply) => return unwrap(reply),
                Err(error) => error,
            };
        }
        Err(error)
    }

    fn request(&self, caller: &Caller, op: Op, op_id: u64) -> MasterRequest {
        MasterRequest {
            session: self.session().get(),
            op_id,
            caller: Some(caller.clone()),
            op: Some(op),
        }
    }
}

fn unwrap<T: FromReply>(reply: Reply) -> FsResult<T> {
    T::from_reply(reply).ok_or_else(|| {
        let expected = std::any::type_name::<T>().rsplit("::").next().unwrap_or_default();
        FsError::new(
            ErrorKind::Internal,
            format!("the master answered with another message than {expected}"),
        )
    })
}
