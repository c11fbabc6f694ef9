//! The whole journal in simulated time and on a simulated disk.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod harness;

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use alluxio_common::{clock::Clock, disk::SimDisk, sync::Mutex};
use alluxio_journal::{CommitAt, Durability, Journal, JournalError, JournalOptions, Terms};
use harness::{Counters, add, options};
use rand::{Rng, SeedableRng, rngs::StdRng};

const SEEDS: u64 = 30;
const CALLERS: u64 = 5;
const FLUSH: Duration = Duration::from_millis(100);

fn simulated(disk: &SimDisk, clock: &Clock, commit: CommitAt) -> JournalOptions {
    JournalOptions {
        commit,
        disk: disk.disk(),
        clock: clock.clone(),
        ..options(Path::new("/sim"))
    }
}

fn terms(durability: Durability) -> Terms {
    Terms {
        durability,
        ..Terms::default()
    }
}

/// What was acknowledged, by caller: with the grade `power`, and with any.
type Acknowledged = Arc<Mutex<BTreeMap<String, (u64, u64)>>>;

async fn call(journal: Journal<Counters>, name: String, acknowledged: Acknowledged, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    loop {
        let durability = if random.random() {
            Durability::Power
        } else {
            Durability::Process
        };
        let Ok(count) = journal.propose_on(add(&name), terms(durability)).await else {
            return;
        };
        let mut acknowledged = acknowledged.lock();
        let (power, any) = acknowledged.entry(name.clone()).or_default();
        *any = count;
        if durability == Durability::Power {
            *power = count;
        }
    }
}

/// Power cuts and kills in the middle of calls, with a store that starts empty or has kept all that was applied.
#[tokio::test]
async fn each_grade_keeps_its_promise_over_cuts_and_kills() {
    for seed in 0..SEEDS {
        let mut random = StdRng::seed_from_u64(seed);
        let (disk, clock) = (SimDisk::new(seed), Clock::simulated(0));
        let commit = match seed % 2 {
            0 => CommitAt::Synced,
            _ => CommitAt::Written { flush_interval: FLUSH },
        };
        let acknowledged = Acknowledged::default();
        let mut store = Arc::new(Counters::default());
        for life in 0..3 {
            let opened = Journal::open(simulated(&disk, &clock, commit), store.clone()).await;
            let journal = opened.unwrap_or_else(|error| panic!("seed {seed}, life {life}, {commit:?}: {error}"));
            for (name, (_, any)) in acknowledged.lock().iter_mut() {
                // What is there now is there for good.
                let found = store.get(name);
                assert!(
                    found >= *any,
                    "seed {seed}, life {life}, {commit:?}: {name} is {found}, was {any}"
                );
                *any = found;
            }
            let callers: Vec<_> = (0..CALLERS)
                .map(|caller| {
                    let name = format!("caller{caller}");
                    let seed = seed * 1_000 + life * 10 + caller;
                    tokio::spawn(call(journal.clone(), name, acknowledged.clone(), seed))
                })
                .collect();
            let until = journal.status().last_index + random.random_range(1..60);
            while journal.status().last_index < until {
                clock.advance(Duration::from_millis(random.random_range(0..20)));
                if random.random_range(0..50) == 0 {
                    journal.checkpoint().await.unwrap();
                }
                tokio::task::yield_now().await;
            }
            let is_cut = random.random();
            // What was acknowledged before is what counts: nobody heard of anything later.
            let promised = acknowledged.lock().clone();
            if is_cut {
                disk.cut_power()
            } else {
                disk.kill()
            }
            // The process is gone; here its threads have to be ended.
            let _ended = journal.shutdown().await;
            for caller in callers {
                caller.await.unwrap();
            }
            *acknowledged.lock() = promised;
            for (power, any) in acknowledged.lock().values_mut() {
                if is_cut && commit != CommitAt::Synced {
                    *any = *power;
                }
                *power = *any;
            }
            if random.random() {
                store = Arc::default();
            }
        }
    }
}

#[tokio::test]
async fn time_passes_only_when_the_simulation_says_so() {
    let (disk, clock) = (SimDisk::new(1), Clock::simulated(0));
    let options = simulated(&disk, &clock, CommitAt::Written { flush_interval: FLUSH });
    let journal = Journal::open(options, Arc::<Counters>::default()).await.unwrap();
    journal.sync().await.unwrap();
    journal.propose_on(add("a"), terms(Durability::Process)).await.unwrap();
    let last = journal.status().last_index;
    clock.advance(FLUSH / 2);
    std::thread::sleep(Duration::from_millis(20));
    assert!(journal.status().synced_index < last);
    clock.advance(FLUSH / 2);
    journal.synced_index().wait_for(|synced| *synced == last).await.unwrap();
    journal.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_full_disk_refuses_and_works_on_once_there_is_room() {
    let (disk, clock) = (SimDisk::new(1), Clock::simulated(0));
    let options = simulated(&disk, &clock, CommitAt::Synced);
    let journal = Journal::open(options, Arc::<Counters>::default()).await.unwrap();
    disk.limit(300 << 10);
    let mut added = 0;
    let error = loop {
        match journal.propose(add("n".repeat(5_000))).await {
            Ok(count) => added = count,
            Err(error) => break error,
        }
    };
    assert!(
        matches!(error, JournalError::NoSpace { .. }) && added > 10,
        "{error} after {added}"
    );
    disk.limit(u64::MAX);
    assert_eq!(journal.propose(add("n".repeat(5_000))).await.unwrap(), added + 1);
    journal.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_failed_sync_ends_the_journal_and_nothing_acknowledged_is_lost() {
    for commit in [CommitAt::Synced, CommitAt::Written { flush_interval: FLUSH }] {
        let (disk, clock) = (SimDisk::new(1), Clock::simulated(0));
        let options = || simulated(&disk, &clock, commit);
        let journal = Journal::open(options(), Arc::<Counters>::default()).await.unwrap();
        for _ in 0..5 {
            journal.propose(add("a")).await.unwrap();
        }
        disk.fail_syncs(1);
        let error = journal.propose(add("a")).await.unwrap_err();
        assert!(matches!(error, JournalError::Failed { .. }), "{commit:?}: {error}");
        let failed = tokio::time::timeout(Duration::from_secs(60), journal.failed()).await;
        assert!(failed.is_ok(), "{commit:?}: and says so");
        journal.propose(add("a")).await.unwrap_err();
        disk.cut_power();
        let _ended = journal.shutdown().await;
        let journal = Journal::open(options(), Arc::<Counters>::default()).await.unwrap();
        assert_eq!(journal.state().get("a"), 5, "{commit:?}");
        journal.shutdown().await.unwrap();
    }
}
