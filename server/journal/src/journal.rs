//! The handle that the rest of the system holds.

use std::{path::Path, sync::Arc};

use crate::{JournalError, JournalOptions, JournalStatus, StateMachine, error::Result};

/// An open journal that drives one state machine. Cheap to clone; all clones are the same journal.
pub struct Journal<S: StateMachine> {
    state: Arc<S>,
}

impl<S: StateMachine> Clone for Journal<S> {
    fn clone(&self) -> Self {
        Self {
            state: self.state.clone(),
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
        let _ = options;
        Ok(Self { state })
    }

    /// Commits one command: returns what it did, after it is durable and applied.
    ///
    /// Commands of concurrent callers are written together. If the future is dropped, the command may be committed
    /// all the same.
    ///
    /// # Errors
    /// [`JournalError::NotLeader`], [`JournalError::TooLarge`] and [`JournalError::NoSpace`] mean that the command
    /// was not and will not be applied; [`JournalError::Failed`] and [`JournalError::ShutDown`] leave it open.
    pub async fn propose(&self, command: S::Command) -> Result<S::Outcome> {
        let _ = command;
        Err(JournalError::ShutDown)
    }

    /// Takes a snapshot of the state now, while serving, and drops the log that no longer is needed.
    /// Returns the index of the last entry that the snapshot contains.
    pub async fn checkpoint(&self) -> Result<u64> {
        Err(JournalError::ShutDown)
    }

    /// How the journal is doing. Does not wait for anything.
    pub fn status(&self) -> JournalStatus {
        unimplemented!()
    }

    /// The state machine.
    pub fn state(&self) -> &Arc<S> {
        &self.state
    }

    /// Waits until the journal can no longer work and says why; the process should then end. Pending while all is well.
    pub async fn failed(&self) -> JournalError {
        std::future::pending().await
    }

    /// Stops accepting proposals, lets those under way finish, makes the state machine's store durable and closes
    /// everything. Proposals after that get [`JournalError::ShutDown`].
    pub async fn shutdown(&self) -> Result<()> {
        Ok(())
    }

    /// See [`format`].
    pub fn format(dir: &Path, cluster_id: &str) -> Result<()> {
        format(dir, cluster_id)
    }
}

/// Makes `dir` an empty journal of the cluster. What a journal left there before is deleted; anything else in the
/// folder is refused.
///
/// # Errors
/// [`JournalError::Locked`] if a process has it open; [`JournalError::NotAJournal`] if it holds something else.
pub fn format(dir: &Path, cluster_id: &str) -> Result<()> {
    let _ = (dir, cluster_id);
    Ok(())
}
