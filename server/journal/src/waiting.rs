//! Who waits for what to become of a command.
//!
//! A batch of proposals has a ticket until the log has given its entry an index; from then on it is known by that. It is
//! answered when the entry was applied, or, for those who want it, when it was synced as well; or with an error, as soon
//! as it is certain that nobody will.

use std::collections::{BTreeMap, HashMap};

use alluxio_common::sync::Mutex;
use tokio::sync::oneshot;

use crate::{Durability, JournalError, error::Result, wal::Position};

/// Gets the outcome of one command.
pub(crate) struct Waiter<T> {
    pub outcome: oneshot::Sender<Result<T>>,
    pub durability: Durability,
}

impl<T> Waiter<T> {
    fn tell(self, outcome: Result<T>) {
        // A proposer that gave up does not hear of it.
        let _ = self.outcome.send(outcome);
    }
}

/// What a log tells about the batches that were handed to it.
pub(crate) trait Placing: Send + Sync + 'static {
    /// The batch of this ticket is the entry at this place.
    fn placed(&self, ticket: u64, at: Position);

    /// Entries after `index` were removed, and with them what waited.
    fn cut(&self, index: u64);

    /// Everything up to `index` is on disk.
    fn synced(&self, index: u64);
}

/// Those who wait.
pub(crate) struct Waiting<T>(Mutex<Table<T>>);

struct Table<T> {
    /// Handed to the log, and not yet in it.
    by_ticket: HashMap<u64, Vec<Waiter<T>>>,
    by_index: BTreeMap<u64, Placed<T>>,
    /// Applied, but not yet as durable as was asked for.
    by_sync: BTreeMap<u64, Vec<(Waiter<T>, T)>>,
    synced: u64,
    /// Why nobody will be answered any more.
    failed: Option<String>,
}

struct Placed<T> {
    term: u64,
    ticket: u64,
    waiters: Vec<Waiter<T>>,
}

impl<T> Waiting<T> {
    /// Nobody yet.
    pub fn new() -> Self {
        Self(Mutex::new(Table {
            by_ticket: HashMap::new(),
            by_index: BTreeMap::new(),
            by_sync: BTreeMap::new(),
            synced: 0,
            failed: None,
        }))
    }

    /// Who waits for the batch of this ticket.
    pub fn expect(&self, ticket: u64, waiters: Vec<Waiter<T>>) {
        let mut table = self.0.lock();
        match table.failed.clone() {
            None => drop(table.by_ticket.insert(ticket, waiters)),
            Some(reason) => tell_all(waiters, || failed(&reason)),
        }
    }

    /// The batch of this ticket will not be applied: those who waited for it.
    pub fn forget(&self, ticket: u64) -> Vec<Waiter<T>> {
        let mut table = self.0.lock();
        if let Some(waiters) = table.by_ticket.remove(&ticket) {
            return waiters;
        }
        let index = table.by_index.iter().find(|(_, placed)| placed.ticket == ticket);
        let index = index.map(|(index, _)| *index);
        index
            .and_then(|index| table.by_index.remove(&index))
            .map_or_else(Vec::new, |placed| placed.waiters)
    }

    /// How many wait for the entry at `index`.
    pub fn count_at(&self, index: u64) -> usize {
        self.0
            .lock()
            .by_index
            .get(&index)
            .map_or(0, |placed| placed.waiters.len())
    }

    /// The commands of the entry at this place had these outcomes.
    pub fn answer(&self, at: Position, outcomes: Vec<T>) {
        let mut table = self.0.lock();
        let synced = table.synced;
        let Some(placed) = table.by_index.remove(&at.index) else {
            return;
        };
        if placed.term != at.term {
            // Another leader's entry took the place.
            drop(table);
            return tell_all(placed.waiters, || JournalError::NotLeader { leader: None });
        }
        let (mut told, mut later) = (Vec::new(), Vec::new());
        let mut waiters = placed.waiters.into_iter();
        for (waiter, outcome) in waiters.by_ref().zip(outcomes) {
            match waiter.durability {
                Durability::Power if at.index > synced => later.push((waiter, outcome)),
                _ => told.push((waiter, outcome)),
            }
        }
        if !later.is_empty() {
            table.by_sync.insert(at.index, later);
        }
        drop(table);
        told.into_iter().for_each(|(waiter, outcome)| waiter.tell(Ok(outcome)));
        tell_all(waiters.collect(), || {
            failed("a command was applied and its outcome lost")
        });
    }

    /// Everything up to `index` was replaced by a snapshot: what became of the commands in it is not known here.
    pub fn replaced(&self, index: u64) {
        let mut table = self.0.lock();
        let rest = table.by_index.split_off(&(index + 1));
        let gone = std::mem::replace(&mut table.by_index, rest);
        drop(table);
        for placed in gone.into_values() {
            tell_all(placed.waiters, || {
                failed("another member's snapshot took the place of the command")
            });
        }
    }

    /// Nobody will be answered any more; who waits gets this error.
    pub fn end(&self, reason: &str, error: impl Fn() -> JournalError) {
        let mut table = self.0.lock();
        table.failed.get_or_insert_with(|| reason.to_owned());
        let by_ticket = std::mem::take(&mut table.by_ticket);
        let by_index = std::mem::take(&mut table.by_index);
        let by_sync = std::mem::take(&mut table.by_sync);
        drop(table);
        by_ticket.into_values().for_each(|waiters| tell_all(waiters, &error));
        by_index
            .into_values()
            .for_each(|placed| tell_all(placed.waiters, &error));
        for (waiter, _) in by_sync.into_values().flatten() {
            waiter.tell(Err(error()));
        }
    }
}

impl<T: Send + 'static> Placing for Waiting<T> {
    fn placed(&self, ticket: u64, at: Position) {
        let mut table = self.0.lock();
        if let Some(waiters) = table.by_ticket.remove(&ticket) {
            let placed = Placed {
                term: at.term,
                ticket,
                waiters,
            };
            table.by_index.insert(at.index, placed);
        }
    }

    fn cut(&self, index: u64) {
        let gone = {
            let mut table = self.0.lock();
            // What comes in their place is not on disk yet.
            table.synced = table.synced.min(index);
            table.by_index.split_off(&(index + 1))
        };
        for placed in gone.into_values() {
            tell_all(placed.waiters, || JournalError::NotLeader { leader: None });
        }
    }

    fn synced(&self, index: u64) {
        let mut table = self.0.lock();
        table.synced = table.synced.max(index);
        if table.by_sync.is_empty() {
            return;
        }
        let rest = table.by_sync.split_off(&(index + 1));
        let due = std::mem::replace(&mut table.by_sync, rest);
        drop(table);
        for (waiter, outcome) in due.into_values().flatten() {
            waiter.tell(Ok(outcome));
        }
    }
}

fn failed(reason: &str) -> JournalError {
    JournalError::Failed {
        reason: reason.to_owned(),
    }
}

/// Tells each of them the same.
pub(crate) fn tell_all<T>(waiters: Vec<Waiter<T>>, error: impl Fn() -> JournalError) {
    waiters.into_iter().for_each(|waiter| waiter.tell(Err(error())));
}

#[cfg(test)]
mod tests {
    use super::*;

    type Answer = oneshot::Receiver<Result<u32>>;

    fn waiter(durability: Durability) -> (Waiter<u32>, Answer) {
        let (outcome, answer) = oneshot::channel();
        (Waiter { outcome, durability }, answer)
    }

    fn at(term: u64, index: u64) -> Position {
        Position { term, index }
    }

    #[test]
    fn power_waits_for_the_sync_and_process_does_not() {
        let waiting = Waiting::new();
        waiting.synced(4);
        let (process, mut first) = waiter(Durability::Process);
        let (power, mut second) = waiter(Durability::Power);
        waiting.expect(1, vec![process, power]);
        waiting.placed(1, at(1, 5));
        waiting.answer(at(1, 5), vec![10, 20]);
        assert_eq!(first.try_recv().unwrap().unwrap(), 10);
        waiting.synced(4);
        second.try_recv().unwrap_err();
        waiting.synced(5);
        assert_eq!(second.try_recv().unwrap().unwrap(), 20);
    }

    #[test]
    fn what_another_leader_replaced_was_not_committed() {
        let waiting = Waiting::new();
        let mut answers = Vec::new();
        for (ticket, index) in [(1, 5), (2, 6), (3, 7)] {
            let (waiter, answer) = waiter(Durability::Power);
            waiting.expect(ticket, vec![waiter]);
            waiting.placed(ticket, at(1, index));
            answers.push(answer);
        }
        waiting.cut(6);
        waiting.answer(at(2, 6), vec![0]);
        assert_eq!(waiting.forget(1).len(), 1, "known by its ticket still");
        for answer in &mut answers[1..] {
            let error = answer.try_recv().unwrap().unwrap_err();
            assert!(matches!(error, JournalError::NotLeader { .. }), "{error}");
        }
    }

    #[test]
    fn who_comes_after_the_end_is_told_too() {
        let waiting = Waiting::new();
        let mut answers = Vec::new();
        let mut expect = |ticket| {
            let (waiter, answer) = waiter(Durability::Power);
            waiting.expect(ticket, vec![waiter]);
            answers.push(answer);
        };
        (1..4).for_each(&mut expect);
        waiting.placed(2, at(1, 1));
        waiting.placed(3, at(1, 2));
        waiting.answer(at(1, 2), vec![7]);
        waiting.end("the disk burned", || failed("the disk burned"));
        expect(4);
        for mut answer in answers {
            let error = answer.try_recv().unwrap().unwrap_err();
            assert!(error.to_string().contains("the disk burned"), "{error}");
        }
    }
}
