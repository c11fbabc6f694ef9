//! Asking the master: identity, retries, and ids of changes.

use crate::window::{Outstanding, Window};
use alluxio_common::retry::{RetryPolicy, retry_inner, retry_while};
use alluxio_proto::master::{ChangeOperation, MasterRequest, Op, Operation, ReadOperation, Reply};
use alluxio_proto::types::Caller;
use alluxio_proto::{FsResult, MasterApi, SessionId, WatchStream};
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
    window: Window,
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
            window: Window::starting_at(first),
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
    pub async fn read<O: ReadOperation>(&self, caller: &Caller, op: O) -> FsResult<O::Reply> {
        O::answered_by(self.ask(caller, op.into(), None).await?)
    }

    /// Asks for a change. A retry has the same id, so that it is done once.
    ///
    /// # Errors
    /// As the operation says.
    pub async fn change<O: ChangeOperation>(&self, caller: &Caller, op: O) -> FsResult<O::Reply> {
        let change = self.window.begin();
        O::answered_by(self.ask(caller, op.into(), Some(&change)).await?)
    }

    /// As [`Self::change`], with an id of [`Self::new_op_id`], for a change that is asked for again later: it is done once.
    ///
    /// # Errors
    /// As the operation says.
    pub async fn change_as<O: ChangeOperation>(&self, op_id: u64, caller: &Caller, op: O) -> FsResult<O::Reply> {
        let change = self.window.take_up(op_id);
        O::answered_by(self.ask(caller, op.into(), Some(&change)).await?)
    }

    /// The id of a change that is still to be asked for.
    pub fn new_op_id(&self) -> u64 {
        self.window.next_id()
    }

    /// Asks once.
    ///
    /// # Errors
    /// As the operation says.
    pub async fn once<O: Operation>(&self, caller: &Caller, op: O) -> FsResult<O::Reply> {
        O::answered_by(self.api.call(self.request(caller, op.into(), None)).await?)
    }

    async fn ask(&self, caller: &Caller, op: Op, change: Option<&Outstanding>) -> FsResult<Reply> {
        // Operations share their bytes, so a clone of one is cheap; a caller is cloned for each try.
        let ask = || self.api.call(self.request(caller, op.clone(), change));
        let Some(change) = change else {
            return retry_inner(self.retry, ask).await;
        };
        // Again with the same id: a layer above would make another change of it.
        let reply = retry_while(self.retry, || change.is_remembered(), ask).await;
        reply.map_err(|error| {
            if !error.is_retryable() || change.is_remembered() {
                return error;
            }
            error.context(
                "nobody knows whether the change was done: so many came after it that the master has forgotten",
            )
        })
    }

    fn request(&self, caller: &Caller, op: Op, change: Option<&Outstanding>) -> MasterRequest {
        MasterRequest {
            session: self.session().get(),
            op_id: change.map_or(0, |change| change.op_id),
            lowest_op: change.map_or(0, Outstanding::lowest),
            caller: Some(caller.clone()),
            op: Some(op),
        }
    }
}
