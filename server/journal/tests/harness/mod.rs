//! A state machine of counters, and a journal that drives it.

#![allow(dead_code, reason = "each file of tests uses a part of it")]

use std::{
    collections::BTreeMap,
    io::{self, Read},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use alluxio_common::sync::{Condvar, Mutex};
use alluxio_journal::{Journal, JournalOptions, NodeId, StateMachine};

/// Adds `by` to the counter `name`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Add {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(uint64, tag = "2")]
    pub by: u64,
}

pub fn add(name: impl Into<String>) -> Add {
    Add {
        name: name.into(),
        by: 1,
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    pub counters: BTreeMap<String, u64>,
    pub position: Option<Vec<u8>>,
}

/// A name that makes the state machine panic.
pub const POISON: &str = "poison";

/// A name that makes a command one of later software.
pub const UNKNOWN: &str = "unknown";

/// Counters. Kept by a test over a restart it plays a store on disk, dropped it plays one in memory.
#[derive(Debug, Default)]
pub struct Counters {
    pub state: Mutex<State>,
    /// From now on the store is broken.
    pub broken: AtomicBool,
    /// Applying takes at least so long.
    pub delay: Mutex<Duration>,
    /// Whether applying has to wait.
    held: Mutex<bool>,
    let_go: Condvar,
}

impl Counters {
    pub fn get(&self, name: &str) -> u64 {
        self.state.lock().counters.get(name).copied().unwrap_or(0)
    }

    pub fn total(&self) -> u64 {
        self.state.lock().counters.values().sum()
    }

    /// Applying waits from now on, or no more.
    pub fn hold(&self, hold: bool) {
        *self.held.lock() = hold;
        self.let_go.notify_all();
    }
}

impl StateMachine for Counters {
    type Command = Add;
    type Outcome = u64;
    const LEVEL: u32 = 0;

    fn level_of(command: &Add) -> Option<u32> {
        (command.name != UNKNOWN).then_some(0)
    }

    fn apply(&self, position: &[u8], commands: Vec<Add>) -> io::Result<Vec<u64>> {
        if self.broken.load(Ordering::Relaxed) {
            return Err(io::Error::other("the store is broken"));
        }
        std::thread::sleep(*self.delay.lock());
        let mut held = self.held.lock();
        while *held {
            self.let_go.wait(&mut held);
        }
        drop(held);
        let mut state = self.state.lock();
        assert!(commands.iter().all(|add| add.name != POISON), "poisoned");
        state.position = Some(position.to_vec());
        Ok(commands
            .into_iter()
            .map(|add| {
                let counter = state.counters.entry(add.name).or_default();
                *counter += add.by;
                *counter
            })
            .collect())
    }

    fn position(&self) -> io::Result<Option<Vec<u8>>> {
        Ok(self.state.lock().position.clone())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn snapshot(&self) -> io::Result<Box<dyn Read + Send>> {
        let lines: String = self
            .state
            .lock()
            .counters
            .iter()
            .map(|(name, n)| format!("{name} {n}\n"))
            .collect();
        Ok(Box::new(io::Cursor::new(lines)))
    }

    fn restore(&self, position: &[u8], snapshot: &mut dyn Read) -> io::Result<()> {
        let mut text = String::new();
        snapshot.read_to_string(&mut text)?;
        let counters = text.lines().map(|line| {
            let (name, count) = line.split_once(' ').unwrap();
            (name.to_owned(), count.parse().unwrap())
        });
        *self.state.lock() = State {
            counters: counters.collect(),
            position: Some(position.to_vec()),
        };
        Ok(())
    }

    fn clear(&self) -> io::Result<()> {
        *self.state.lock() = State::default();
        Ok(())
    }
}

pub fn options(dir: &Path) -> JournalOptions {
    JournalOptions {
        segment_bytes_max: 64 << 10,
        ..JournalOptions::new(dir.join("journal"), "test", NodeId(1))
    }
}

pub async fn open(dir: &Path) -> Journal<Counters> {
    Journal::open(options(dir), Arc::default()).await.unwrap()
}
