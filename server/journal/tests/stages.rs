//! Appending, syncing and applying one beside the other, and what each grade of durability promises.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod harness;

use std::{
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use alluxio_journal::{CommitAt, Durability, Journal, JournalError, JournalOptions, Terms};
use harness::{Add, Counters, add, open, options};
use tempfile::TempDir;

const PROCESS: Terms = Terms {
    durability: Durability::Process,
    patience: Duration::ZERO,
};

/// Syncs come when somebody wants one, and not by themselves.
fn unhurried(dir: &Path) -> JournalOptions {
    JournalOptions {
        commit: CommitAt::Written {
            flush_interval: Duration::from_secs(3600),
        },
        ..options(dir)
    }
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Copies the journal's folder as it is now, without its lock.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else if entry.file_name() != "lock" {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[tokio::test]
async fn a_slow_apply_stops_neither_appending_nor_syncing() {
    let dir = TempDir::new().unwrap();
    let journal = open(dir.path()).await;
    *journal.state().delay.lock() = Duration::from_millis(20);
    journal.propose(add("a")).await.unwrap();
    *journal.state().delay.lock() = Duration::ZERO;
    let before = journal.status();
    journal.state().hold(true);
    let mut callers = Vec::new();
    for entry in 1..=5 {
        callers.push(tokio::spawn({
            let journal = journal.clone();
            async move { journal.propose(add("a")).await }
        }));
        until("an entry is synced while another is applied", || {
            journal.status().synced_index == before.last_index + entry
        })
        .await;
    }
    assert_eq!(journal.status().applied_index, before.applied_index);
    assert!(callers.iter().all(|caller| !caller.is_finished()));
    journal.state().hold(false);
    for (entry, caller) in callers.into_iter().enumerate() {
        assert_eq!(caller.await.unwrap().unwrap(), entry as u64 + 2);
    }
    journal.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_shutdown_answers_what_is_committed() {
    let dir = TempDir::new().unwrap();
    let journal = open(dir.path()).await;
    *journal.state().delay.lock() = Duration::from_millis(20);
    journal.propose(add("a")).await.unwrap();
    let callers: Vec<_> = (0..20)
        .map(|_| {
            let journal = journal.clone();
            tokio::spawn(async move { journal.propose(add("a")).await })
        })
        .collect();
    until("some are committed", || {
        journal.status().last_index > journal.status().applied_index
    })
    .await;
    journal.shutdown().await.unwrap();
    let mut answered = 1;
    for caller in callers {
        match caller.await.unwrap() {
            Ok(_) => answered += 1,
            Err(error) => assert!(matches!(error, JournalError::ShutDown), "{error}"),
        }
    }
    let journal = open(dir.path()).await;
    assert_eq!(journal.state().get("a"), answered, "who was refused has left nothing");
    journal.shutdown().await.unwrap();
}

#[tokio::test]
async fn process_is_answered_before_the_sync_and_power_after() {
    let dir = TempDir::new().unwrap();
    let journal = Journal::open(unhurried(dir.path()), Arc::<Counters>::default())
        .await
        .unwrap();
    let synced = journal.propose(add("a")).await.map(|_| journal.status()).unwrap();
    assert_eq!(synced.synced_index, synced.last_index);
    for count in 2..=4 {
        assert_eq!(journal.propose_on(add("a"), PROCESS).await.unwrap(), count);
    }
    let status = journal.status();
    assert_eq!(
        (status.synced_index, status.applied_index),
        (synced.synced_index, synced.last_index + 3)
    );
    // Who wants more gets it for all before.
    let mut watch = journal.synced_index();
    assert_eq!(journal.propose(add("a")).await.unwrap(), 5);
    assert_eq!(*watch.borrow_and_update(), journal.status().last_index);
    journal.propose_on(add("a"), PROCESS).await.unwrap();
    assert!(*watch.borrow() < journal.status().last_index);
    assert_eq!(journal.sync().await.unwrap(), journal.status().last_index);
    journal.propose_on(add("a"), PROCESS).await.unwrap();
    journal.shutdown().await.unwrap();
    assert!(matches!(journal.sync().await, Err(JournalError::ShutDown)));
    let journal = open(dir.path()).await;
    assert_eq!(journal.state().get("a"), 7, "a shutdown syncs");
    journal.shutdown().await.unwrap();
}

#[tokio::test]
async fn what_nobody_waits_for_is_synced_in_time() {
    let dir = TempDir::new().unwrap();
    let soon = JournalOptions {
        commit: CommitAt::Written {
            flush_interval: Duration::from_millis(20),
        },
        ..options(dir.path())
    };
    let journal = Journal::open(soon, Arc::<Counters>::default()).await.unwrap();
    for _ in 0..3 {
        journal.propose_on(add("a"), PROCESS).await.unwrap();
        let status = journal.status();
        let mut synced = journal.synced_index();
        synced.wait_for(|synced| *synced >= status.last_index).await.unwrap();
    }
    journal.shutdown().await.unwrap();
}

/// A store that kept what the log has lost is made again from what the log proves, from its beginning or from a snapshot.
#[tokio::test]
async fn a_store_ahead_of_what_a_power_cut_left_is_repaired() {
    for with_snapshot in [false, true] {
        let dir = TempDir::new().unwrap();
        let state = Arc::new(Counters::default());
        let journal = Journal::open(unhurried(&dir.path().join("1")), state.clone())
            .await
            .unwrap();
        journal.propose(add("a")).await.unwrap();
        if with_snapshot {
            journal.checkpoint().await.unwrap();
        }
        journal.propose(add("a")).await.unwrap();
        copy(&dir.path().join("1/journal"), &dir.path().join("2/journal"));
        for _ in 0..3 {
            journal.propose_on(add("a"), PROCESS).await.unwrap();
        }
        // What a power cut leaves: all of the store, and of the log what was synced.
        let store = Arc::new(Counters::default());
        *store.state.lock() = state.state.lock().clone();
        assert_eq!(store.get("a"), 5);
        let cut = Journal::open(unhurried(&dir.path().join("2")), store.clone())
            .await
            .unwrap();
        assert_eq!(store.get("a"), 2, "with a snapshot: {with_snapshot}");
        assert_eq!(cut.propose(add("a")).await.unwrap(), 3);
        cut.shutdown().await.unwrap();
        journal.shutdown().await.unwrap();
    }
}

/// A log that ends before what was synced has lost more than a power cut takes.
#[tokio::test]
async fn a_log_without_what_was_synced_is_refused() {
    let dir = TempDir::new().unwrap();
    let state = Arc::new(Counters::default());
    let journal = Journal::open(unhurried(&dir.path().join("1")), state.clone())
        .await
        .unwrap();
    journal.propose(add("a")).await.unwrap();
    copy(&dir.path().join("1/journal"), &dir.path().join("2/journal"));
    journal.propose(add("a")).await.unwrap();
    // Only what is applied later tells how far the log was synced.
    journal.propose_on(add("a"), PROCESS).await.unwrap();
    let refused = Journal::open(unhurried(&dir.path().join("2")), state.clone())
        .await
        .map(drop);
    let error = refused.unwrap_err();
    assert!(matches!(error, JournalError::Corrupt { .. }), "{error}");
    assert_eq!(state.get("a"), 3, "nothing is touched");
    journal.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_snapshot_is_never_ahead_of_the_log() {
    let dir = TempDir::new().unwrap();
    let journal = Journal::open(unhurried(dir.path()), Arc::<Counters>::default())
        .await
        .unwrap();
    for _ in 0..3 {
        journal.propose_on(add("a"), PROCESS).await.unwrap();
    }
    assert!(journal.status().synced_index < journal.status().applied_index);
    let index = journal.checkpoint().await.unwrap();
    assert!(journal.status().synced_index >= index, "{:?}", journal.status());
    journal.shutdown().await.unwrap();
}

/// Folders that earlier versions wrote; what was journaled there counts.
#[tokio::test]
async fn folders_of_earlier_versions_load() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/1");
    for with_snapshots in [true, false] {
        let dir = TempDir::new().unwrap();
        copy(&fixture.join("journal"), &dir.path().join("journal"));
        if !with_snapshots {
            // Then all of it is applied from the log, from the members' entry on.
            fs::remove_dir_all(dir.path().join("journal/snapshots")).unwrap();
        }
        let state = Arc::new(Counters::default());
        let journal = Journal::open(options(dir.path()), state.clone()).await.unwrap();
        let expected: Vec<(String, u64)> = fs::read_to_string(fixture.join("counters"))
            .unwrap()
            .lines()
            .map(|line| line.split_once(' ').unwrap())
            .map(|(name, count)| (name.to_owned(), count.parse().unwrap()))
            .collect();
        let found: Vec<_> = state.state.lock().counters.clone().into_iter().collect();
        assert_eq!(found, expected, "with snapshots: {with_snapshots}");
        assert!(journal.status().is_leader && journal.status().term > 1);
        journal
            .propose(Add {
                name: "task0".into(),
                by: 5,
            })
            .await
            .unwrap();
        journal.checkpoint().await.unwrap();
        journal.shutdown().await.unwrap();
        // What is there now is ours.
        let vote = fs::read_to_string(dir.path().join("journal/vote")).unwrap();
        assert!(vote.starts_with(r#"{"version":2,"#), "{vote}");
        let journal = Journal::open(options(dir.path()), state.clone()).await.unwrap();
        assert_eq!(state.get("task0"), expected[0].1 + 5, "a position of ours is taken up");
        journal.shutdown().await.unwrap();
        let journal = open(dir.path()).await;
        assert_eq!(journal.state().get("task0"), expected[0].1 + 5);
        journal.shutdown().await.unwrap();
    }
}
