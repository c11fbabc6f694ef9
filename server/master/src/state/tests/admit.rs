//! A store that has to catch up holds up writers, not readers.

use super::*;
use crate::metastore::{Batch, MetaStore, StoreIter};
use std::io;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

/// Admits the next batch only once somebody has come to `enough`.
#[derive(Debug)]
struct Slow {
    store: HeapStore,
    is_slow: AtomicBool,
    waits: Barrier,
    enough: Barrier,
}

impl MetaStore for Slow {
    fn admit(&self) -> io::Result<()> {
        if self.is_slow.swap(false, Ordering::Relaxed) {
            self.waits.wait();
            self.enough.wait();
        }
        Ok(())
    }
    fn get(&self, key: &[u8]) -> io::Result<Option<Bytes>> {
        self.store.get(key)
    }
    fn scan(&self, start: &[u8], end: &[u8], limit: usize) -> io::Result<Vec<(Bytes, Bytes)>> {
        self.store.scan(start, end, limit)
    }
    fn write(&self, batch: Batch) -> io::Result<()> {
        self.store.write(batch)
    }
    fn sync(&self) -> io::Result<()> {
        self.store.sync()
    }
    fn snapshot(&self) -> io::Result<StoreIter> {
        self.store.snapshot()
    }
    fn clear(&self) -> io::Result<()> {
        self.store.clear()
    }
}

#[test]
fn readers_go_on_while_the_store_has_to_catch_up() {
    let store = Arc::new(Slow {
        store: HeapStore::default(),
        is_slow: AtomicBool::new(false),
        waits: Barrier::new(2),
        enough: Barrier::new(2),
    });
    let state = Arc::new(formatted_in(store.clone(), false));
    store.is_slow.store(true, Ordering::Relaxed);
    let writing = state.clone();
    let writer = std::thread::spawn(move || run(&writing, Command::system(2, mkdir(1, "d", 0o755))).unwrap());
    store.waits.wait();
    let (read, answer) = mpsc::channel();
    let reading = state.clone();
    let reader = std::thread::spawn(move || read.send(reading.attr(InodeId(1)).unwrap().inode));
    let answer = answer.recv_timeout(Duration::from_secs(20));
    store.enough.wait();
    let made = writer.join().unwrap().attr.unwrap().inode;
    assert_eq!(answer, Ok(1), "a reader waited for the writer");
    reader.join().unwrap().unwrap();
    assert!(state.attr(InodeId(made)).is_ok());
}
