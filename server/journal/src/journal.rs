//! The handle that the rest of the system holds.

use std::{path::Path, sync::Arc, time::Duration};

use alluxio_common::sync::Mutex;
use prost::Message;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    JournalError, JournalOptions, JournalStatus, StateMachine, Terms,
    checkpoint::Checkpoint,
    error::Result,
    folder::format,
    log::{Lead, Log},
    node::{self, Running, Start},
    proposer::Proposal,
};

/// An open journal that drives one state machine. Cheap to clone; all clones are the same journal.
///
/// Dropping the last one closes it in the background; [`Journal::shutdown`] waits for that.
pub struct Journal<S: StateMachine> {
    inner: Arc<Inner<S>>,
}

/// Gets the outcome of a proposal.
type Answer<S> = oneshot::Receiver<Result<<S as StateMachine>::Outcome>>;

struct Inner<S: StateMachine> {
    options: JournalOptions,
    running: Running<S>,
    proposals: mpsc::Sender<Proposal<S>>,
    failed: watch::Receiver<Option<String>>,
    stop: CancellationToken,
    /// Taken by the first who shuts down; the others wait for the lock.
    ended: tokio::sync::Mutex<Option<oneshot::Receiver<Result<()>>>>,
    shut_down: Mutex<bool>,
}

impl<S: StateMachine> Drop for Inner<S> {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl<S: StateMachine> Clone for Journal<S> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
        }
    }
}

impl<S: StateMachine> Journal<S> {
    /// Opens the journal in `options.dir` (formatting an absent or empty folder), brings `state` up to date, and
    /// returns when this member can serve: with a single member, when it leads and everything in the log is applied.
    ///
    /// # Errors
    /// See [`JournalError`]. Nothing on disk is changed by a refusal.
    pub async fn open(options: JournalOptions, state: Arc<S>) -> Result<Self> {
        let options = options.bounded();
        let (proposals, queue) = mpsc::channel(options.batch.queue_max);
        let (failed_sender, failed) = watch::channel(None);
        let (ready_sender, ready) = oneshot::channel();
        let (ended_sender, ended) = oneshot::channel();
        let stop = CancellationToken::new();
        node::spawn(Start {
            options: options.clone(),
            state,
            proposals: queue,
            stop: stop.clone(),
            failed: failed_sender,
            ready: ready_sender,
            ended: ended_sender,
        })?;
        let running = ready.await.map_err(|_| JournalError::Failed {
            reason: "opening the journal panicked".into(),
        })??;
        Ok(Self {
            inner: Arc::new(Inner {
                options,
                running,
                proposals,
                failed,
                stop,
                ended: tokio::sync::Mutex::new(Some(ended)),
                shut_down: Mutex::new(false),
            }),
        })
    }

    /// Commits one command: returns what it did, after it is durable and applied.
    ///
    /// Commands of concurrent callers are written together. If the future is dropped, the command may be committed
    /// all the same.
    ///
    /// # Errors
    /// [`JournalError::NotLeader`], [`JournalError::TooLarge`], [`JournalError::NotAgreed`] and [`JournalError::NoSpace`] mean that the command
    /// was not and will not be applied; [`JournalError::Failed`] and [`JournalError::ShutDown`] leave it open.
    pub fn propose(&self, command: S::Command) -> impl Future<Output = Result<S::Outcome>> + Send {
        self.propose_on(command, Terms::default())
    }

    /// As [`Journal::propose`], for what nobody waits for: it may stay up to `patience` before it is written, and is written
    /// with the first other command that comes meanwhile.
    ///
    /// # Errors
    /// Those of [`Journal::propose`].
    pub fn propose_within(
        &self,
        command: S::Command,
        patience: Duration,
    ) -> impl Future<Output = Result<S::Outcome>> + Send {
        let terms = Terms {
            patience,
            ..Terms::default()
        };
        self.propose_on(command, terms)
    }

    /// As [`Journal::propose`], but with a say in what the outcome means and how long it may take.
    ///
    /// # Errors
    /// Those of [`Journal::propose`].
    pub fn propose_on(&self, command: S::Command, terms: Terms) -> impl Future<Output = Result<S::Outcome>> + Send {
        // Encoded at once, so that the future does not hold the command, which is large.
        let proposal = self.proposal(&command, terms);
        async move {
            let (proposal, outcome) = proposal?;
            let sent = self.inner.proposals.send(proposal).await;
            sent.map_err(|_| self.why_ended())?;
            outcome.await.map_err(|_| self.why_ended())?
        }
    }

    fn proposal(&self, command: &S::Command, terms: Terms) -> Result<(Proposal<S>, Answer<S>)> {
        let agreed = self.inner.running.applier.agreed_level();
        let level = match S::level_of(command) {
            Some(level) if level <= agreed => level,
            needed => return Err(JournalError::NotAgreed { needed, agreed }),
        };
        let (bytes, limit) = (command.encoded_len(), self.inner.options.batch.command_bytes_max);
        if bytes > limit {
            return Err(JournalError::TooLarge { bytes, limit });
        }
        let (outcome, answer) = oneshot::channel();
        let proposal = Proposal {
            command: command.encode_to_vec().into(),
            level,
            outcome,
            terms,
        };
        Ok((proposal, answer))
    }

    /// The newest entry that is on disk, as it changes. What an entry demands of the world outside must wait for it: after
    /// [`Journal::state`] shows the effects of entry `n`, `wait_for(|synced| *synced >= n)`.
    pub fn synced_index(&self) -> watch::Receiver<u64> {
        self.inner.running.log.synced_index()
    }

    /// Makes everything that was answered before the call last a power cut, whatever was asked for then. Returns the newest
    /// entry that does.
    ///
    /// # Errors
    /// [`JournalError::Failed`]: the disk could not, and this process must end; [`JournalError::ShutDown`].
    pub async fn sync(&self) -> Result<u64> {
        let log = &self.inner.running.log;
        match log.sync().await {
            Ok(()) => Ok(*log.synced_index().borrow()),
            Err(error) => Err(match self.why_ended() {
                JournalError::ShutDown => JournalError::ShutDown,
                _ => JournalError::Failed {
                    reason: error.to_string(),
                },
            }),
        }
    }

    /// Takes a snapshot of the state now, while serving, and drops the log that no longer is needed.
    /// Returns the index of the last entry that the snapshot contains.
    ///
    /// # Errors
    /// If it cannot be written; the journal works on, and the log stays.
    pub async fn checkpoint(&self) -> Result<u64> {
        let (caller, result) = oneshot::channel();
        let wanted = self.inner.running.checkpoints.send(Checkpoint::Wanted(caller));
        wanted.await.map_err(|_| self.why_ended())?;
        result.await.map_err(|_| self.why_ended())?
    }

    /// How the journal is doing. Does not wait for anything.
    pub fn status(&self) -> JournalStatus {
        let Inner { options, running, .. } = &*self.inner;
        let extent = running.log.reader().extent();
        let Lead { leader, is_ours, term } = running.log.lead();
        let failed = self.inner.failed.borrow().clone();
        JournalStatus {
            cluster_id: options.cluster_id.clone(),
            node_id: options.node_id.0,
            leader_id: leader.map(|leader| leader.0),
            is_leader: is_ours && failed.is_none(),
            term,
            first_index: (extent.last.index > extent.purged.index).then_some(extent.purged.index + 1),
            last_index: extent.last.index,
            synced_index: *running.log.synced_index().borrow(),
            applied_index: running.applier.applied_index(),
            snapshot_index: running.applier.snapshot_index(),
            commands_since_snapshot: running.applier.commands_since_snapshot(),
            log_bytes: extent.bytes,
            log_segments: extent.segments,
            feature_level: running.applier.agreed_level(),
            failed,
        }
    }

    /// The state machine.
    pub fn state(&self) -> &Arc<S> {
        self.inner.running.applier.state()
    }

    /// Waits until the journal can no longer work and says why; the process should then end. Pending while all is
    /// well, and after a shutdown.
    pub async fn failed(&self) -> JournalError {
        let mut failed = self.inner.failed.clone();
        let reason = failed
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|reason| reason.clone());
        match reason {
            Some(reason) => JournalError::Failed { reason },
            None => std::future::pending().await,
        }
    }

    /// Stops accepting proposals, lets those under way finish, makes the state machine's store durable and closes
    /// everything. Proposals after that get [`JournalError::ShutDown`].
    ///
    /// # Errors
    /// If the state machine's store could not be synced. The log is complete all the same.
    pub async fn shutdown(&self) -> Result<()> {
        *self.inner.shut_down.lock() = true;
        self.inner.stop.cancel();
        let mut ended = self.inner.ended.lock().await;
        let Some(receiver) = ended.as_mut() else { return Ok(()) };
        let result = receiver.await;
        *ended = None;
        result.unwrap_or_else(|_| {
            Err(JournalError::Failed {
                reason: "the journal's thread panicked".into(),
            })
        })
    }

    /// See [`format()`].
    ///
    /// # Errors
    /// See [`format()`].
    pub fn format(dir: &Path, cluster_id: &str) -> Result<()> {
        format(dir, cluster_id)
    }

    /// Why nobody answers.
    fn why_ended(&self) -> JournalError {
        match self.inner.failed.borrow().clone() {
            Some(reason) => JournalError::Failed { reason },
            None if *self.inner.shut_down.lock() => JournalError::ShutDown,
            None => JournalError::Failed {
                reason: "the journal's thread ended".into(),
            },
        }
    }
}
