//! The journal as its users see it, on real files: what is acknowledged survives, what is damaged is refused.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod harness;

use std::{
    collections::BTreeMap,
    fs,
    io::{self, BufRead, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use alluxio_journal::{Journal, JournalError, JournalOptions};
use harness::{Counters, POISON, add, open, options};
use tempfile::TempDir;

async fn try_open(dir: &Path, state: &Arc<Counters>) -> Result<(), JournalError> {
    Journal::open(options(dir), state.clone()).await.map(drop)
}

#[tokio::test]
async fn who_has_patience_shares_the_entry_of_who_has_none() {
    let dir = TempDir::new().unwrap();
    let journal = open(dir.path()).await;
    journal.propose(add("a")).await.unwrap();
    let before = journal.status().last_index;
    // Far longer than the test: it ends because of the other one, or not at all.
    let patient = tokio::spawn({
        let journal = journal.clone();
        async move { journal.propose_within(add("a"), Duration::from_secs(3600)).await }
    });
    for _ in 0..1_000 {
        // The first may come before the patient one is there; whichever finds it takes it along.
        journal.propose(add("b")).await.unwrap();
        if patient.is_finished() {
            break;
        }
    }
    assert!(patient.is_finished(), "it waits for its hour to end");
    patient.await.unwrap().unwrap();
    let alone = journal.status().last_index;
    journal
        .propose_within(add("a"), Duration::from_millis(1))
        .await
        .unwrap();
    assert_eq!(journal.status().last_index, alone + 1, "patience ends");
    assert!(alone > before);
    // A journal that is closed does not wait for what has patience.
    let patient = tokio::spawn({
        let journal = journal.clone();
        async move { journal.propose_within(add("a"), Duration::from_secs(3600)).await }
    });
    tokio::task::yield_now().await;
    journal.shutdown().await.unwrap();
    // Written, or refused, but told.
    let _told = patient.await.unwrap();
}

/// Proposes `count` additions to one counter from 16 tasks.
async fn add_many(journal: &Journal<Counters>, name: &'static str, count: u64) {
    let tasks = (0..16_u64).map(|task| {
        let journal = journal.clone();
        tokio::spawn(async move {
            for _ in (task..count).step_by(16) {
                journal.propose(add(name)).await.unwrap();
            }
        })
    });
    futures::future::try_join_all(tasks).await.unwrap();
}

fn files(dir: &Path, kind: &str) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(dir.join("journal").join(kind))
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    files.sort();
    files
}

/// Everything below the journal's folder but the lock, which every attempt touches.
fn content(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for folder in ["", "log", "snapshots"] {
        for path in files(dir, folder) {
            if path.is_file() && path.file_name().unwrap() != "lock" {
                found.insert(path.clone(), fs::read(path).unwrap());
            }
        }
    }
    found
}

fn scratch() -> TempDir {
    tempfile::tempdir().unwrap()
}

#[tokio::test]
async fn every_caller_gets_its_own_outcome_and_batches_form() {
    let dir = scratch();
    let journal = open(dir.path()).await;
    let callers = (0..500).map(|_| journal.propose(add("a")));
    let mut outcomes = futures::future::try_join_all(callers).await.unwrap();
    outcomes.sort_unstable();
    assert_eq!(outcomes, (1..=500).collect::<Vec<_>>());
    let status = journal.status();
    assert!(
        status.is_leader && status.failed.is_none() && status.leader_id == Some(1),
        "{status:?}"
    );
    assert!(
        status.last_index < 100,
        "500 proposals at once must share entries: {status:?}"
    );
    assert_eq!(status.applied_index, status.last_index);
    journal.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_store_in_memory_is_rebuilt_and_one_on_disk_goes_on() {
    let dir = scratch();
    let on_disk = Arc::new(Counters::default());
    let journal = Journal::open(options(dir.path()), on_disk.clone()).await.unwrap();
    add_many(&journal, "a", 300).await;
    journal.shutdown().await.unwrap();

    let journal = Journal::open(options(dir.path()), on_disk.clone()).await.unwrap();
    assert_eq!(on_disk.get("a"), 300, "nothing is applied twice");
    assert_eq!(journal.propose(add("a")).await.unwrap(), 301);
    let term = journal.status().term;
    journal.shutdown().await.unwrap();

    let journal = open(dir.path()).await;
    assert_eq!(journal.state().get("a"), 301);
    assert!(journal.status().term > term);
    journal.shutdown().await.unwrap();
}

#[tokio::test]
async fn snapshots_drop_the_log_and_restore_the_state() {
    let dir = scratch();
    let journal = open(dir.path()).await;
    // Long enough that each round fills segments.
    let name = "a".repeat(500);
    for round in 1..=4 {
        // One at a time, so that there are many entries.
        for _ in 0..300 {
            journal.propose(add(&name)).await.unwrap();
        }
        let index = journal.checkpoint().await.unwrap();
        let status = journal.status();
        assert_eq!((status.snapshot_index, status.commands_since_snapshot), (index, 0));
        assert_eq!(
            journal.checkpoint().await.unwrap(),
            index,
            "nothing new, so the same one again"
        );
        assert_eq!(files(dir.path(), "snapshots").len(), 2.min(round));
    }
    let first = journal.status().first_index.unwrap();
    assert!(
        first > 600,
        "the log before the older snapshot is dropped, but begins at {first}"
    );
    add_many(&journal, "b", 100).await;
    journal.shutdown().await.unwrap();

    let journal = open(dir.path()).await;
    assert_eq!((journal.state().get(&name), journal.state().get("b")), (1200, 100));
    journal.shutdown().await.unwrap();

    // The newest snapshot is damaged: the older one and the log from there on do as well.
    let newest = files(dir.path(), "snapshots").pop().unwrap();
    let mut bytes = fs::read(&newest).unwrap();
    bytes[26] ^= 1;
    fs::write(&newest, bytes).unwrap();
    let journal = open(dir.path()).await;
    assert_eq!((journal.state().get(&name), journal.state().get("b")), (1200, 100));
    journal.shutdown().await.unwrap();

    // Without any, the log alone is not enough, and nothing is made up.
    fs::remove_dir_all(dir.path().join("journal/snapshots")).unwrap();
    let error = try_open(dir.path(), &Arc::default()).await.unwrap_err();
    assert!(matches!(error, JournalError::Incomplete { .. }), "{error}");
}

#[tokio::test]
async fn a_snapshot_is_taken_when_enough_was_applied() {
    let dir = scratch();
    let options = JournalOptions {
        snapshot_entries_max: 200,
        ..options(dir.path())
    };
    let journal = Journal::open(options, Arc::new(Counters::default())).await.unwrap();
    add_many(&journal, "a", 250).await;
    let began = Instant::now();
    while journal.status().snapshot_index == 0 {
        assert!(began.elapsed().as_secs() < 10, "{:?}", journal.status());
        tokio::task::yield_now().await;
    }
    journal.shutdown().await.unwrap();
}

#[tokio::test]
async fn damage_in_the_middle_of_the_log_is_refused_and_nothing_changes() {
    let dir = scratch();
    let journal = open(dir.path()).await;
    for _ in 0..50 {
        journal.propose(add("a")).await.unwrap();
    }
    journal.shutdown().await.unwrap();
    let log = files(dir.path(), "log").remove(0);
    let good = fs::read(&log).unwrap();
    let mut bad = good.clone();
    bad[4096 + 1000] ^= 0x04;
    fs::write(&log, &bad).unwrap();
    let before = content(dir.path());
    let error = try_open(dir.path(), &Arc::default()).await.unwrap_err();
    assert!(
        matches!(&error, JournalError::Corrupt { file, .. } if *file == log),
        "{error}"
    );
    let text = error.to_string();
    assert!(
        text.contains("offset") && text.contains("log index") && text.contains("snapshots/"),
        "{text}"
    );
    assert!(content(dir.path()) == before);
    assert_eq!(error.errno(), libc::EIO);

    fs::write(&log, good).unwrap();
    let journal = open(dir.path()).await;
    assert_eq!(journal.state().get("a"), 50);
    journal.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_log_that_is_behind_the_state_is_refused() {
    let dir = scratch();
    let state = Arc::new(Counters::default());
    let journal = Journal::open(options(dir.path()), state.clone()).await.unwrap();
    journal.propose(add("a")).await.unwrap();
    journal.checkpoint().await.unwrap();
    journal.shutdown().await.unwrap();
    fs::remove_dir_all(dir.path().join("journal/log")).unwrap();
    for state in [state, Arc::default()] {
        let error = try_open(dir.path(), &state).await.unwrap_err();
        assert!(matches!(error, JournalError::Incomplete { .. }), "{error}");
    }
}

#[tokio::test]
async fn only_one_at_a_time_and_only_its_own_cluster() {
    let dir = scratch();
    let journal = open(dir.path()).await;
    let error = try_open(dir.path(), &Arc::default()).await.unwrap_err();
    assert!(
        matches!(error, JournalError::Locked { pid: Some(pid), .. } if pid == std::process::id()),
        "{error}"
    );
    journal.shutdown().await.unwrap();
    journal.shutdown().await.unwrap();
    assert!(matches!(journal.propose(add("a")).await, Err(JournalError::ShutDown)));
    assert!(matches!(journal.checkpoint().await, Err(JournalError::ShutDown)));

    let other = JournalOptions {
        cluster_id: "another".into(),
        ..options(dir.path())
    };
    let error = Journal::open(other.clone(), Arc::new(Counters::default()))
        .await
        .map(drop)
        .unwrap_err();
    assert!(matches!(error, JournalError::WrongCluster { .. }), "{error}");
    alluxio_journal::format(&other.dir, &other.cluster_id).unwrap();
    let journal = Journal::open(other, Arc::new(Counters::default())).await.unwrap();
    assert_eq!(journal.status().first_index, Some(1));
    journal.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_command_that_is_too_large_is_refused_and_a_large_one_is_not() {
    let dir = scratch();
    let journal = open(dir.path()).await;
    let error = journal.propose(add("x".repeat(17 << 20))).await.unwrap_err();
    assert!(matches!(error, JournalError::TooLarge { .. }), "{error}");
    assert_eq!(journal.propose(add("y".repeat(3 << 20))).await.unwrap(), 1);
    journal.shutdown().await.unwrap();
    let journal = open(dir.path()).await;
    assert_eq!(journal.state().total(), 1);
    journal.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_broken_store_stops_the_journal_and_says_so() {
    let dir = scratch();
    let journal = open(dir.path()).await;
    journal.state().broken.store(true, Ordering::Relaxed);
    let error = journal.propose(add("a")).await.unwrap_err();
    assert!(
        matches!(error, JournalError::Failed { .. }) && error.is_retryable(),
        "{error}"
    );
    let reason = journal.failed().await.to_string();
    assert!(reason.contains("the store is broken"), "{reason}");
    assert!(!journal.status().is_leader && journal.status().failed.is_some());
    assert!(matches!(
        journal.propose(add("a")).await,
        Err(JournalError::Failed { .. })
    ));
    journal.shutdown().await.unwrap();
    // It was committed, only not applied.
    let journal = open(dir.path()).await;
    assert!(journal.state().get("a") >= 1);
    journal.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_panic_of_the_state_machine_is_a_failure_and_no_hang() {
    let dir = scratch();
    let journal = open(dir.path()).await;
    let error = journal.propose(add(POISON)).await.unwrap_err();
    assert!(matches!(error, JournalError::Failed { .. }), "{error}");
    assert!(journal.failed().await.to_string().contains("panicked"));
    journal.shutdown().await.unwrap();
}

/// The variable that makes this binary the victim of the test below, and names its folder.
const VICTIM: &str = "ALLUXIO_JOURNAL_TEST_VICTIM";

/// Not a test of its own: what the killed process does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn victim() {
    let Some(dir) = std::env::var_os(VICTIM) else { return };
    let journal = open(Path::new(&dir)).await;
    let tasks = (0..4).map(|task| {
        let journal = journal.clone();
        tokio::spawn(async move {
            let name = format!("task{task}");
            loop {
                let count = journal.propose(add(&name)).await.unwrap();
                // One write, so that lines do not mix.
                io::stderr()
                    .write_all(format!("acknowledged {name} {count}\n").as_bytes())
                    .unwrap();
                if count % 40 == 0 && task == 0 {
                    journal.checkpoint().await.unwrap();
                }
            }
        })
    });
    futures::future::try_join_all(tasks).await.unwrap();
}

#[tokio::test]
async fn what_was_acknowledged_survives_kill_9() {
    let dir = scratch();
    let mut acknowledged = BTreeMap::<String, u64>::new();
    for round in 1..=5 {
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["victim", "--exact", "--nocapture"])
            .env(VICTIM, dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = io::BufReader::new(victim.stderr.take().unwrap()).lines();
        let mut note = |line: io::Result<String>| {
            let line = line.unwrap();
            // The last line may be cut off by the kill.
            let mut words = line.split(' ').skip_while(|word| *word != "acknowledged").skip(1);
            if let (Some(name), Some(Ok(count))) = (words.next(), words.next().map(str::parse)) {
                acknowledged.insert(name.to_owned(), count);
            }
        };
        for line in lines.by_ref().take(37 * round) {
            note(line);
        }
        victim.kill().unwrap();
        lines.for_each(note);
        assert!(!victim.wait().unwrap().success());

        let journal = open(dir.path()).await;
        assert!(acknowledged.len() == 4 || round < 3, "{acknowledged:?}");
        for (name, count) in &acknowledged {
            let found = journal.state().get(name);
            assert!(
                found >= *count,
                "round {round}: {name} was acknowledged up to {count} but is {found}"
            );
        }
        journal.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn a_large_command_is_answered() {
    let dir = TempDir::new().unwrap();
    let journal = open(dir.path()).await;
    // More than the log keeps in memory: who waits for it must not be forgotten with it.
    for megabytes in [9, 15] {
        let name = "n".repeat(megabytes << 20);
        let proposed = tokio::time::timeout(Duration::from_secs(120), journal.propose(add(name.clone())));
        assert_eq!(proposed.await.expect("it is answered").unwrap(), 1);
        assert_eq!(journal.state().get(&name), 1);
    }
    let too_large = journal.propose(add("n".repeat(17 << 20))).await.unwrap_err();
    assert!(matches!(too_large, JournalError::TooLarge { .. }), "{too_large}");
    journal.shutdown().await.unwrap();
}

/// Waits for the snapshot that is due.
async fn snapshot_of(journal: &Journal<Counters>) -> u64 {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let index = journal.status().snapshot_index;
        if index > 0 || Instant::now() > deadline {
            return index;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_journal_that_is_opened_often_takes_snapshots_too() {
    let dir = TempDir::new().unwrap();
    let state = Arc::new(Counters::default());
    let options = || JournalOptions {
        snapshot_entries_max: 50,
        ..options(dir.path())
    };
    for life in 0..6 {
        let journal = Journal::open(options(), state.clone()).await.unwrap();
        for _ in 0..10 {
            journal.propose(add("a")).await.unwrap();
        }
        if life == 5 {
            assert!(snapshot_of(&journal).await > 0, "60 commands in lives of 10");
        }
        journal.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn a_long_log_of_few_commands_is_cut_too() {
    let dir = TempDir::new().unwrap();
    let options = JournalOptions {
        snapshot_bytes_max: 1 << 20,
        ..options(dir.path())
    };
    let journal = Journal::open(options, Arc::<Counters>::default()).await.unwrap();
    for n in 0..40 {
        journal
            .propose(add(format!("{n}{}", "n".repeat(60_000))))
            .await
            .unwrap();
    }
    assert!(snapshot_of(&journal).await > 0, "2.4 MB in 40 commands");
    journal.shutdown().await.unwrap();
}
