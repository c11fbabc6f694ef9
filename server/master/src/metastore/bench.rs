//! A benchmark of the stores under the namespace's own workload: it decided the default and must go on deciding it.
//!
//! Each create is an inode, an edge, the parent and the counters, as a real one; names are shuffled over directories of a
//! thousand. Lookups are edge plus inode, past every cache of ours. Run one store per process if memory figures matter:
//! what an allocator gave back to nobody stays in the process.

use super::{Batch, CACHE_BYTES_DEFAULT, MetaStore, StoreKind, open, prefix_end};
use bytes::Bytes;
use std::io;
use std::path::Path;
use std::time::Instant;

/// Inodes by default.
pub const COUNT_DEFAULT: u64 = 1_000_000;

/// Entries of one directory.
const DIR_ENTRIES: u64 = 1_000;
/// As long as an inode record is with owner, group, times and a fingerprint.
const INODE_BYTES: usize = 180;
/// Commits timed for each batch size: enough for a stable mean, few beside `count`.
const COMMITS: u64 = 2_000;
const LOOKUPS_MAX: u64 = 200_000;

/// One figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// heap or fjall.
    pub store: &'static str,
    /// What was done.
    pub operation: &'static str,
    /// How often.
    pub count: u64,
    /// How much.
    pub value: f64,
    /// Of what.
    pub unit: &'static str,
}

/// Runs the workload on every store, in folders beneath `dir`.
///
/// # Errors
/// The folder cannot be used, or a store failed.
pub fn run(dir: &Path, count: u64) -> io::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for kind in [StoreKind::Fjall, StoreKind::Heap] {
        rows.extend(run_one(kind, &dir.join(kind.name()), count)?);
    }
    Ok(rows)
}

/// Runs the workload on one store.
///
/// # Errors
/// As [`run`].
pub fn run_one(kind: StoreKind, dir: &Path, count: u64) -> io::Result<Vec<Row>> {
    alluxio_common::crashsafe::create_dir_all(dir)?;
    let before = resident_bytes();
    let store = open(kind, dir, CACHE_BYTES_DEFAULT)?;
    let mut bench = Bench {
        store: store.as_ref(),
        kind,
        rows: Vec::new(),
        next: 0,
        count,
    };
    let timed = COMMITS.min(count / 300 + 1);
    bench.creates("create, batches of 1", 1, timed)?;
    bench.creates("create, batches of 16", 16, timed)?;
    let left = count.saturating_sub(bench.next);
    bench.creates("create, batches of 256", 256, left / 256)?;
    let created = bench.next;
    bench.add(
        "resident after creates",
        created,
        mib(resident_bytes().saturating_sub(before)),
        "MiB",
    );
    let start = Instant::now();
    store.sync()?;
    bench.add("sync", 1, start.elapsed().as_secs_f64() * 1e3, "ms");
    bench.lookups(LOOKUPS_MAX.min(created))?;
    bench.lists()?;
    bench.add(
        "resident after reads",
        created,
        mib(resident_bytes().saturating_sub(before)),
        "MiB",
    );
    bench.add("on disk", created, mib(disk_bytes(dir)?), "MiB");
    bench.deletes(created / 4)?;
    let mut rows = bench.rows;
    if kind != StoreKind::Heap {
        drop(store);
        let start = Instant::now();
        let again = open(kind, dir, CACHE_BYTES_DEFAULT)?;
        again.get(&edge(0))?;
        rows.push(Row {
            store: kind.name(),
            operation: "open again",
            count: 1,
            value: start.elapsed().as_secs_f64() * 1e3,
            unit: "ms",
        });
    }
    Ok(rows)
}

struct Bench<'a> {
    store: &'a dyn MetaStore,
    kind: StoreKind,
    rows: Vec<Row>,
    /// Inodes made so far.
    next: u64,
    count: u64,
}

impl Bench<'_> {
    fn add(&mut self, operation: &'static str, count: u64, value: f64, unit: &'static str) {
        self.rows.push(Row {
            store: self.kind.name(),
            operation,
            count,
            value,
            unit,
        });
    }

    fn creates(&mut self, operation: &'static str, batch: u64, commits: u64) -> io::Result<()> {
        let start = Instant::now();
        for _ in 0..commits {
            let mut changes = Vec::with_capacity(2 * batch as usize + 2);
            for _ in 0..batch {
                changes.push((inode(self.next), Some(record(self.next))));
                changes.push((edge(self.next), Some(Bytes::copy_from_slice(&self.next.to_be_bytes()))));
                self.next += 1;
            }
            changes.push((inode(u64::MAX - parent(self.next)), Some(record(self.next))));
            changes.push((
                Bytes::from_static(b"c"),
                Some(Bytes::copy_from_slice(&self.next.to_be_bytes())),
            ));
            changes.push((
                Bytes::from_static(b"z"),
                Some(Bytes::copy_from_slice(&self.next.to_be_bytes())),
            ));
            self.store.write(Batch { changes })?;
        }
        let creates = batch * commits;
        let rate = creates as f64 / start.elapsed().as_secs_f64();
        self.add(operation, creates, rate, "creates/s");
        self.add(
            operation,
            commits,
            start.elapsed().as_secs_f64() * 1e6 / commits.max(1) as f64,
            "us/commit",
        );
        Ok(())
    }

    fn lookups(&mut self, lookups: u64) -> io::Result<()> {
        let start = Instant::now();
        for turn in 0..lookups {
            let number = shuffle(turn) % self.next;
            let Some(_) = self.store.get(&edge(number))? else {
                return Err(missing(number));
            };
            let Some(_) = self.store.get(&inode(number))? else {
                return Err(missing(number));
            };
        }
        self.add(
            "lookup (edge, inode)",
            lookups,
            lookups as f64 / start.elapsed().as_secs_f64(),
            "lookups/s",
        );
        let start = Instant::now();
        for turn in 0..lookups {
            if self.store.get(&edge(self.count + 1 + turn))?.is_some() {
                return Err(missing(turn));
            }
        }
        self.add(
            "lookup, absent",
            lookups,
            lookups as f64 / start.elapsed().as_secs_f64(),
            "lookups/s",
        );
        Ok(())
    }

    fn lists(&mut self) -> io::Result<()> {
        let (start, mut listed) = (Instant::now(), 0u64);
        for dir in 0..(self.next / DIR_ENTRIES).clamp(1, 200) {
            let prefix = prefix(dir);
            listed += self.store.scan(&prefix, &prefix_end(&prefix), usize::MAX)?.len() as u64;
        }
        self.add(
            "list",
            listed,
            listed as f64 / start.elapsed().as_secs_f64(),
            "entries/s",
        );
        Ok(())
    }

    fn deletes(&mut self, deletes: u64) -> io::Result<()> {
        let (start, mut number) = (Instant::now(), 0);
        while number < deletes {
            let changes = (number..(number + 256).min(deletes)).flat_map(|n| [(inode(n), None), (edge(n), None)]);
            self.store.write(Batch {
                changes: changes.collect(),
            })?;
            number += 256;
        }
        self.add(
            "delete, batches of 256",
            deletes,
            deletes as f64 / start.elapsed().as_secs_f64(),
            "deletes/s",
        );
        Ok(())
    }
}

fn missing(number: u64) -> io::Error {
    io::Error::other(format!("the store lost (or made up) inode {number}"))
}

fn parent(number: u64) -> u64 {
    number / DIR_ENTRIES
}

fn inode(number: u64) -> Bytes {
    let mut key = vec![b'i'];
    key.extend_from_slice(&number.to_be_bytes());
    key.into()
}

fn prefix(dir: u64) -> Vec<u8> {
    let mut key = vec![b'e'];
    key.extend_from_slice(&dir.to_be_bytes());
    key
}

fn edge(number: u64) -> Bytes {
    let mut key = prefix(parent(number));
    key.extend_from_slice(format!("part-{:08x}.parquet", shuffle(number) as u32).as_bytes());
    key.into()
}

fn record(number: u64) -> Bytes {
    let mut value = Vec::with_capacity(INODE_BYTES + 8);
    while value.len() < INODE_BYTES {
        value.extend_from_slice(&shuffle(number ^ value.len() as u64).to_be_bytes());
    }
    value.into()
}

/// A fixed permutation-like mix (splitmix64), so that runs are comparable.
fn shuffle(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / (1 << 20) as f64
}

/// Resident set of this process; 0 where the system does not tell.
fn resident_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.and_then(|text| text.split_whitespace().nth(1)?.parse::<u64>().ok());
    pages.unwrap_or(0) * 4096
}

fn disk_bytes(dir: &Path) -> io::Result<u64> {
    let mut sum = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let about = entry.metadata()?;
        sum += if about.is_dir() {
            disk_bytes(&entry.path())?
        } else {
            about.len()
        };
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_on_every_store() {
        let dir = tempfile::tempdir().unwrap();
        let rows = run(dir.path(), 3_000).unwrap();
        for kind in StoreKind::ALL {
            let of_kind: Vec<_> = rows.iter().filter(|row| row.store == kind.name()).collect();
            assert!(
                of_kind.iter().any(|row| row.operation == "list" && row.value > 0.0),
                "{kind:?}: {of_kind:?}"
            );
        }
    }
}
