//! Software of several ages over one journal: what one does not know stops it, and what not all know is not written.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod harness;

use std::{
    io::{self, Read},
    path::Path,
    sync::Arc,
};

use alluxio_journal::{Journal, JournalError, StateMachine};
use harness::{Counters, UNKNOWN, add, open, options};
use tempfile::TempDir;

/// [`harness::Add`] of later software. Older software reads it, too, and passes over what it does not know.
#[derive(Clone, PartialEq, prost::Message)]
struct Change {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(uint64, tag = "2")]
    by: u64,
    /// Since feature level 2.
    #[prost(bool, tag = "3")]
    twice: bool,
}

fn change(name: &str, twice: bool) -> Change {
    Change {
        name: name.into(),
        by: 1,
        twice,
    }
}

/// [`Counters`] of later software.
#[derive(Default)]
struct Later(Counters);

impl StateMachine for Later {
    type Command = Change;
    type Outcome = u64;
    const LEVEL: u32 = 2;

    fn level_of(command: &Change) -> Option<u32> {
        Some(if command.twice { 2 } else { 0 })
    }

    fn apply(&self, position: &[u8], commands: Vec<Change>) -> io::Result<Vec<u64>> {
        let commands = commands.into_iter().map(|change| harness::Add {
            name: change.name,
            by: if change.twice { 2 * change.by } else { change.by },
        });
        self.0.apply(position, commands.collect())
    }

    fn position(&self) -> io::Result<Option<Vec<u8>>> {
        self.0.position()
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }

    fn snapshot(&self) -> io::Result<Box<dyn Read + Send>> {
        self.0.snapshot()
    }

    fn restore(&self, position: &[u8], snapshot: &mut dyn Read) -> io::Result<()> {
        self.0.restore(position, snapshot)
    }

    fn clear(&self) -> io::Result<()> {
        self.0.clear()
    }
}

async fn refused(dir: &Path, state: &Arc<Counters>) -> String {
    let error = Journal::open(options(dir), state.clone()).await.map(drop).unwrap_err();
    assert!(!matches!(error, JournalError::Corrupt { .. }), "{error}");
    error.to_string()
}

#[tokio::test]
async fn what_later_software_uses_stops_earlier_one() {
    let dir = TempDir::new().unwrap();
    let earlier = Arc::new(Counters::default());
    let journal = Journal::open(options(dir.path()), earlier.clone()).await.unwrap();
    journal.propose(add("a")).await.unwrap();
    assert_eq!(journal.status().feature_level, 0);
    journal.shutdown().await.unwrap();

    let later = Arc::new(Later::default());
    let journal = Journal::open(options(dir.path()), later.clone()).await.unwrap();
    assert_eq!(journal.status().feature_level, 2, "announced at the first start");
    let said = journal.status().last_index;
    assert_eq!(journal.propose(change("a", true)).await.unwrap(), 3);
    journal.shutdown().await.unwrap();
    let journal = Journal::open(options(dir.path()), later.clone()).await.unwrap();
    assert!(
        journal.status().last_index <= said + 2,
        "said once: {:?}",
        journal.status()
    );
    journal.shutdown().await.unwrap();

    // From the log, by a store that saw nothing of it, and by one that was there before.
    for state in [Arc::default(), earlier] {
        let before = state.state.lock().clone();
        let why = refused(dir.path(), &state).await;
        assert!(
            why.contains("feature level 2") && why.contains("use the newer program"),
            "{why}"
        );
        assert_eq!(
            state.get("a"),
            before.counters.get("a").copied().unwrap_or(0),
            "nothing is skipped"
        );
    }
    // From a snapshot, and from its own store.
    let journal = Journal::open(options(dir.path()), later.clone()).await.unwrap();
    journal.checkpoint().await.unwrap();
    journal.shutdown().await.unwrap();
    let store = Arc::new(Counters::default());
    *store.state.lock() = later.0.state.lock().clone();
    for state in [Arc::default(), store] {
        let why = refused(dir.path(), &state).await;
        assert!(
            why.contains("feature level 2") && why.contains("use the newer program"),
            "{why}"
        );
    }
}

#[tokio::test]
async fn a_command_that_is_unknown_stops_who_finds_it() {
    let dir = TempDir::new().unwrap();
    let journal = open(dir.path()).await;
    let error = journal.propose(add(UNKNOWN)).await.unwrap_err();
    assert!(matches!(error, JournalError::NotAgreed { needed: None, .. }), "{error}");
    journal.propose(add("a")).await.unwrap();
    journal.shutdown().await.unwrap();
    // Somebody who knows it writes it.
    let knows = Arc::new(Knows::default());
    let journal = Journal::open(options(dir.path()), knows).await.unwrap();
    journal.propose(add(UNKNOWN)).await.unwrap();
    journal.propose(add("a")).await.unwrap();
    journal.shutdown().await.unwrap();
    let why = refused(dir.path(), &Arc::default()).await;
    assert!(why.contains("log entry") && why.contains("does not know"), "{why}");
}

/// [`Counters`] that know every name, and say no level.
#[derive(Default)]
struct Knows(Counters);

impl StateMachine for Knows {
    type Command = harness::Add;
    type Outcome = u64;
    const LEVEL: u32 = 0;

    fn level_of(_command: &harness::Add) -> Option<u32> {
        Some(0)
    }

    fn apply(&self, position: &[u8], commands: Vec<harness::Add>) -> io::Result<Vec<u64>> {
        self.0.apply(position, commands)
    }

    fn position(&self) -> io::Result<Option<Vec<u8>>> {
        self.0.position()
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }

    fn snapshot(&self) -> io::Result<Box<dyn Read + Send>> {
        self.0.snapshot()
    }

    fn restore(&self, position: &[u8], snapshot: &mut dyn Read) -> io::Result<()> {
        self.0.restore(position, snapshot)
    }

    fn clear(&self) -> io::Result<()> {
        self.0.clear()
    }
}
