//! Turns proposals into log entries.
//!
//! While one batch is on its way to the disk, the proposals that arrive wait and become the next one. So a lone caller
//! pays for one sync and waits for nobody, and many callers share one. A batch makes way for the next as soon as it is
//! committed; it is applied meanwhile. Proposals that have patience wait for company, so that work in the background does
//! not take the disk from who waits for it.

use std::sync::Arc;

use alluxio_common::clock::Clock;
use bytes::Bytes;
use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    BatchLimits, Durability, JournalError, JournalOptions, StateMachine, Terms,
    applier::Applier,
    checkpoint::{Checkpoint, Trigger},
    entry::{EntryBody, encode_batch},
    error::Result,
    log::{Batch, Log},
    waiting::{Waiter, tell_all},
};

/// Log that is kept free for entries that are not proposals (elections, changes of members).
const RESERVED_BYTES: u64 = 64 << 10;

/// A command that waits to be committed.
pub(crate) struct Proposal<S: StateMachine> {
    /// Encoded by its caller, on its caller's thread.
    pub command: Bytes,
    /// The feature level that it takes to apply it.
    pub level: u32,
    pub outcome: tokio::sync::oneshot::Sender<Result<S::Outcome>>,
    pub terms: Terms,
}

/// A batch on its way: its ticket, and what became of it.
type UnderWay = BoxFuture<'static, (u64, Result<()>)>;

/// The one task that proposes.
pub(crate) struct Proposer<S: StateMachine, L: Log> {
    limits: BatchLimits,
    dir: std::path::PathBuf,
    clock: Clock,
    applier: Arc<Applier<S>>,
    log: Arc<L>,
    trigger: Trigger,
    /// Names batches; 0 is never used.
    next_ticket: u64,
    under_way: FuturesUnordered<UnderWay>,
    /// Did not fit the last batch.
    left_over: Option<Proposal<S>>,
}

impl<S: StateMachine, L: Log> Proposer<S, L> {
    pub fn new(
        options: &JournalOptions,
        applier: Arc<Applier<S>>,
        log: Arc<L>,
        checkpoints: mpsc::Sender<Checkpoint>,
    ) -> Self {
        Self {
            limits: options.batch,
            dir: options.dir.clone(),
            clock: options.clock.clone(),
            applier,
            log,
            trigger: Trigger::new(options, checkpoints),
            next_ticket: 1,
            under_way: FuturesUnordered::new(),
            left_over: None,
        }
    }

    /// Works until it is stopped; then takes no new proposals, and ends when the ones that it has are committed.
    pub async fn run(mut self, mut proposals: mpsc::Receiver<Proposal<S>>, stop: CancellationToken) {
        self.trigger.check(&self.applier, self.log.reader());
        while let Some(first) = self.next(&mut proposals, &stop).await {
            let batch = self.collect(first, &mut proposals, &stop).await;
            self.append(batch).await;
            while self.under_way.len() >= self.log.depth() {
                self.settle_one().await;
            }
        }
        while !self.under_way.is_empty() {
            self.settle_one().await;
        }
    }

    /// The proposal that the next batch begins with; `None` when there will be none.
    async fn next(
        &mut self,
        proposals: &mut mpsc::Receiver<Proposal<S>>,
        stop: &CancellationToken,
    ) -> Option<Proposal<S>> {
        if let Some(left_over) = self.left_over.take() {
            return Some(left_over);
        }
        loop {
            tokio::select! {
                biased;
                proposal = proposals.recv() => return proposal,
                Some((ticket, result)) = self.under_way.next() => self.settled(ticket, result),
                () = stop.cancelled(), if !proposals.is_closed() => proposals.close(),
            }
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
        let mut is_patient = !first.terms.patience.is_zero();
        let deadline = self.clock.now() + first.terms.patience;
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
                    () = self.clock.sleep_until(deadline) => break,
                },
            };
            bytes += next.command.len();
            is_patient &= !next.terms.patience.is_zero();
            if bytes > self.limits.bytes_max {
                self.left_over = Some(next);
                break;
            }
            batch.push(next);
        }
        batch
    }

    /// Sends a batch on its way.
    async fn append(&mut self, batch: Vec<Proposal<S>>) {
        let bytes = batch.iter().map(|proposal| proposal.command.len()).sum();
        let commands = encode_batch(batch.iter().map(|proposal| &proposal.command), bytes);
        let power = batch
            .iter()
            .any(|proposal| proposal.terms.durability == Durability::Power);
        let level = batch.iter().map(|proposal| proposal.level).max().unwrap_or(0);
        let waiters = batch.into_iter().map(|proposal| Waiter {
            outcome: proposal.outcome,
            durability: proposal.terms.durability,
        });
        let waiters = waiters.collect();
        if let Err(error) = self.log.reserve(commands.len() as u64 + RESERVED_BYTES).await {
            return tell_all(waiters, || match error.raw_os_error() {
                Some(libc::ENOSPC | libc::EDQUOT) => JournalError::NoSpace { dir: self.dir.clone() },
                _ => JournalError::Io {
                    doing: format!("allocate log in {}", self.dir.display()),
                    source: std::io::Error::new(error.kind(), error.to_string()),
                },
            });
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.applier.waiting().expect(ticket, waiters);
        let append = self.log.append(Batch {
            body: EntryBody::Commands { level, commands },
            ticket,
            power,
        });
        self.under_way.push(append.map(move |result| (ticket, result)).boxed());
    }

    async fn settle_one(&mut self) {
        if let Some((ticket, result)) = self.under_way.next().await {
            self.settled(ticket, result);
        }
    }

    /// What is committed is answered when it is applied; what is not, now.
    fn settled(&mut self, ticket: u64, result: Result<()>) {
        if let Err(error) = result {
            tell_all(self.applier.waiting().forget(ticket), || error.again());
        }
        self.trigger.check(&self.applier, self.log.reader());
    }
}
