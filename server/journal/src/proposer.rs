//! Turns proposals into log entries.
//!
//! While one batch is on its way to the disk, the proposals that arrive wait and become the next one. So a lone caller
//! pays for one sync and waits for nobody, and many callers share one. Proposals that have patience wait for company, so
//! that work in the background does not take the disk from who waits for it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use openraft::errors::{ClientWriteError, RaftError};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    BatchLimits, JournalError, JournalOptions, NodeId, StateMachine,
    checkpoint::{Checkpoint, Trigger},
    raft::{Applier, Batch, LogStore, Raft, TypeConfig, Waiter, encode_batch},
};

/// Log that is kept free for entries that are not proposals (elections, changes of members).
const RESERVED_BYTES: u64 = 64 << 10;

/// A command that waits to be committed.
pub(crate) struct Proposal<S: StateMachine> {
    /// Encoded by its caller, on its caller's thread.
    pub command: Bytes,
    pub waiter: Waiter<S>,
    /// How long it may wait for others to share a sync with.
    pub patience: Duration,
}

/// The one task that proposes.
pub(crate) struct Proposer<S: StateMachine> {
    limits: BatchLimits,
    dir: std::path::PathBuf,
    raft: Raft<S>,
    applier: Arc<Applier<S>>,
    log: LogStore,
    trigger: Trigger,
    /// Names batches; 0 is never used.
    next_tag: u64,
    /// Did not fit the last batch.
    left_over: Option<Proposal<S>>,
}

impl<S: StateMachine> Proposer<S> {
    pub fn new(
        options: &JournalOptions,
        raft: Raft<S>,
        applier: Arc<Applier<S>>,
        log: LogStore,
        checkpoints: mpsc::Sender<Checkpoint>,
    ) -> Self {
        Self {
            limits: options.batch,
            dir: options.dir.clone(),
            raft,
            applier,
            log,
            trigger: Trigger::new(options, checkpoints),
            next_tag: 1,
            left_over: None,
        }
    }

    /// Works until it is stopped; then takes no new proposals, and ends when the ones that it has are done.
    pub async fn run(mut self, mut proposals: mpsc::Receiver<Proposal<S>>, stop: CancellationToken) {
        self.trigger.check(&self.applier, self.log.reader());
        loop {
            let first = match self.left_over.take() {
                Some(left_over) => Some(left_over),
                None => tokio::select! {
                    biased;
                    proposal = proposals.recv() => proposal,
                    () = stop.cancelled(), if !proposals.is_closed() => {
                        proposals.close();
                        continue;
                    }
                },
            };
            let Some(first) = first else { return };
            let batch = self.collect(first, &mut proposals, &stop).await;
            self.commit(batch).await;
            self.trigger.check(&self.applier, self.log.reader());
        }
    }

    /// Takes what waits, up to the limits; and while all of that has patience, what comes.
    async fn collect(
        &mut self,
        first: Proposal<S>,
        proposals: &mut mpsc::Receiver<Proposal<S>>,
        stop: &CancellationToken,
    ) -> Vec<Proposal<S>> {
        let mut bytes = first.command.len();
        let mut is_patient = !first.patience.is_zero();
        let deadline = tokio::time::Instant::now() + first.patience;
        let mut batch = vec![first];
        while batch.len() < self.limits.commands_max {
            let next = match proposals.try_recv() {
                Ok(next) => next,
                Err(_) if !is_patient => break,
                Err(_) => tokio::select! {
                    biased;
                    next = proposals.recv() => match next {
                        Some(next) => next,
                        None => break,
                    },
                    () = stop.cancelled() => break,
                    () = tokio::time::sleep_until(deadline) => break,
                },
            };
            bytes += next.command.len();
            is_patient &= !next.patience.is_zero();
            if bytes > self.limits.bytes_max {
                self.left_over = Some(next);
                break;
            }
            batch.push(next);
        }
        batch
    }

    async fn commit(&mut self, batch: Vec<Proposal<S>>) {
        let bytes = batch.iter().map(|proposal| proposal.command.len()).sum();
        let commands = encode_batch(batch.iter().map(|proposal| &proposal.command), bytes);
        let waiters: Vec<_> = batch.into_iter().map(|proposal| proposal.waiter).collect();
        if let Err(error) = self.log.reserve(commands.len() as u64 + RESERVED_BYTES).await {
            return fail::<S>(waiters, || match error.raw_os_error() {
                Some(libc::ENOSPC | libc::EDQUOT) => JournalError::NoSpace { dir: self.dir.clone() },
                _ => JournalError::Io {
                    doing: format!("allocate log in {}", self.dir.display()),
                    source: std::io::Error::new(error.kind(), error.to_string()),
                },
            });
        }
        let tag = self.next_tag;
        self.next_tag += 1;
        self.applier.expect(tag, waiters);
        match self.raft.client_write(Batch { commands, tag }).await {
            Err(error) => fail::<S>(self.applier.forget(tag), || translate(&error)),
            // Applied, so everybody was told. Nobody is to wait for ever should that not be so.
            Ok(_) => fail::<S>(self.applier.forget(tag), || JournalError::Failed {
                reason: "a command was applied and its outcome lost".into(),
            }),
        }
    }
}

fn fail<S: StateMachine>(waiters: Vec<Waiter<S>>, error: impl Fn() -> JournalError) {
    for waiter in waiters {
        // A proposer that gave up does not hear of it.
        let _ = waiter.send(Err(error()));
    }
}

fn translate(error: &RaftError<TypeConfig, ClientWriteError<TypeConfig>>) -> JournalError {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => JournalError::NotLeader {
            leader: forward.leader_id.map(NodeId),
        },
        RaftError::Fatal(openraft::errors::Fatal::Stopped) => JournalError::ShutDown,
        other => JournalError::Failed {
            reason: other.to_string(),
        },
    }
}
