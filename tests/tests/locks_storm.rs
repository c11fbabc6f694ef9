//! Locks of several mounts at one master, in one process and without a kernel: the master restarts, answers are lost, those who wait
//! lose patience, and never do two hold what only one may.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use alluxio_client::MasterClient;
use alluxio_client::workers::DirectWorkers;
use alluxio_common::config::{Configuration, keys};
use alluxio_common::lock_ranges::ByteRange;
use alluxio_common::retry::RetryPolicy;
use alluxio_fuse::vfs::{KernelCache, LockWanted};
use alluxio_fuse::{Vfs, VfsOptions};
use alluxio_master::service::{Master, MasterOptions, MasterService, MetastoreKind};
use alluxio_proto::master::{LockKind, LockMode, MasterRequest, Op, Reply};
use alluxio_proto::types::WriteType;
use alluxio_proto::{ErrorKind, FsError, FsResult, MasterApi, SessionId, WatchStream};
use async_trait::async_trait;
use rand::Rng;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(120);
const FILE: u64 = 4711;

/// The way to a master that comes and goes.
struct Link {
    master: tokio::sync::RwLock<Option<Arc<MasterService>>>,
    /// Of a hundred answers about locks, so many are lost.
    lost_percent: AtomicU32,
    /// Calls about locks.
    calls: AtomicU32,
}

fn away() -> FsError {
    FsError::new(ErrorKind::Unavailable, "the master is away")
}

#[async_trait]
impl MasterApi for Link {
    async fn call(&self, request: MasterRequest) -> FsResult<Reply> {
        let about_locks = matches!(&request.op, Some(Op::SetLock(_) | Op::CancelLock(_)));
        let master = self.master.read().await;
        let reply = master.as_ref().ok_or_else(away)?.call(request).await;
        if about_locks {
            self.calls.fetch_add(1, Ordering::Relaxed);
            if rand::rng().random_range(0..100) < self.lost_percent.load(Ordering::Relaxed) {
                return Err(away());
            }
        }
        reply
    }

    async fn watch(&self, session: SessionId) -> FsResult<WatchStream> {
        let master = self.master.read().await;
        master.as_ref().ok_or_else(away)?.watch(session).await
    }
}

/// There are no caches without a kernel.
struct NoKernel;

impl KernelCache for NoKernel {
    fn inode(&self, _: u64, _: bool) {}
    fn entry(&self, _: u64, _: &[u8], _: u64) {}
    fn names(&self, _: u64) {}
    fn reset(&self, _: impl Fn(u64) -> bool) {}
    fn knows(&self, _: u64) -> bool {
        false
    }
}

struct World {
    dir: tempfile::TempDir,
    link: Arc<Link>,
}

impl World {
    async fn new() -> World {
        let world = World {
            dir: tempfile::tempdir().unwrap(),
            link: Arc::new(Link {
                master: tokio::sync::RwLock::new(None),
                lost_percent: AtomicU32::new(0),
                calls: AtomicU32::new(0),
            }),
        };
        world.start().await;
        world
    }

    async fn start(&self) {
        let mut conf = Configuration::default();
        let root = self.dir.path().join("ufs");
        std::fs::create_dir_all(&root).unwrap();
        conf.set(keys::master::ROOT_UFS.name, &format!("file://{}", root.display()));
        let mut options = MasterOptions::new(&conf);
        options.journal_dir = self.dir.path().join("journal");
        options.secret = alluxio_common::secret::SecretFile::new(self.dir.path().join("cluster.secret"));
        options.metastore = MetastoreKind::Disk(self.dir.path().join("metastore"));
        let master = Master::start(&conf, options).await.unwrap();
        *self.link.master.write().await = Some(master);
    }

    async fn restart(&self) {
        // Who calls has the answer, or will never have it.
        let master = self.link.master.write().await.take().unwrap();
        master.shutdown().await;
        let old = Arc::downgrade(&master);
        drop(master);
        eventually("the end of the old master", || old.strong_count() == 0).await;
        self.start().await;
    }

    async fn mount(&self, name: &str) -> Arc<Vfs> {
        let options = VfsOptions {
            path: "/".into(),
            client: name.into(),
            host: name.into(),
            passthrough: false,
            verify: false,
            read_only: false,
            noatime: false,
            write_type: WriteType::AsyncThrough,
            rename_across_mounts: false,
            attr_cache_max: Duration::from_secs(1),
            entry_cache_max: Duration::from_secs(1),
            retry: RetryPolicy {
                base: Duration::from_millis(10),
                max: Duration::from_millis(500),
                total: Duration::from_secs(60),
            },
        };
        let master = MasterClient::new(self.link.clone());
        let vfs = Vfs::start(options, master, Arc::new(DirectWorkers::default()))
            .await
            .unwrap();
        vfs.start_background(NoKernel);
        vfs
    }

    async fn gauge(&self, name: &str) -> i64 {
        let master = self.link.master.read().await;
        master.as_ref().unwrap().metrics().value(name).unwrap()
    }

    async fn nothing_is_left(&self) {
        let deadline = Instant::now() + LONG;
        loop {
            let left = (
                self.gauge("Master.LocksHeld").await,
                self.gauge("Master.LocksWaiting").await,
            );
            if left == (0, 0) {
                return;
            }
            assert!(Instant::now() < deadline, "held and waiting: {left:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !condition() {
        assert!(Instant::now() < deadline, "{what} did not happen within {LONG:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn wanted(owner: u64, mode: LockMode, start: u64, last: u64) -> LockWanted {
    LockWanted {
        inode: FILE,
        fh: owner,
        owner,
        kind: LockKind::Range,
        mode,
        range: ByteRange::new(start, last).unwrap(),
        pid: 1,
    }
}

fn unlocked(lock: LockWanted) -> LockWanted {
    LockWanted {
        mode: LockMode::Unlocked,
        ..lock
    }
}

#[tokio::test]
async fn a_wait_that_is_dropped_leaves_nothing_behind() {
    let world = World::new().await;
    let (a, b) = (world.mount("a").await, world.mount("b").await);
    let lock = wanted(1, LockMode::Write, 0, 9);
    a.set_lock(lock, true).await.unwrap();
    assert_eq!(b.set_lock(lock, false).await.unwrap_err().kind, ErrorKind::WouldBlock);
    let seen = b.get_lock(wanted(1, LockMode::Read, 9, 20)).await.unwrap().unwrap();
    assert_eq!((seen.start, seen.last, seen.pid), (0, 9, 0));
    let waiting = tokio::spawn({
        let b = b.clone();
        async move { b.set_lock(lock, true).await }
    });
    eventually("the wait", || false_until(&waiting, &world)).await;
    waiting.abort();
    let _ = waiting.await;
    world_waits_for(&world, 0).await;
    a.set_lock(unlocked(lock), false).await.unwrap();
    world.nothing_is_left().await;

    // Granted while it is dropped, or a moment before or after: whoever comes next gets it.
    for pause in 0..40u64 {
        a.set_lock(lock, true).await.unwrap();
        let waiting = tokio::spawn({
            let b = b.clone();
            async move { b.set_lock(lock, true).await }
        });
        world_waits_for(&world, 1).await;
        let free = tokio::spawn({
            let a = a.clone();
            async move { a.set_lock(unlocked(lock), false).await }
        });
        tokio::time::sleep(Duration::from_micros(pause * 25)).await;
        waiting.abort();
        let was_granted = matches!(waiting.await, Ok(Ok(())));
        free.await.unwrap().unwrap();
        if was_granted {
            b.set_lock(unlocked(lock), false).await.unwrap();
        }
        world.nothing_is_left().await;
    }
    for vfs in [a, b] {
        vfs.stop().await;
    }
}

fn false_until<T>(task: &tokio::task::JoinHandle<T>, world: &World) -> bool {
    assert!(!task.is_finished(), "it got the lock of another");
    let master = world.link.master.try_read();
    master.is_ok_and(|master| {
        let master = master.as_ref().unwrap();
        master.metrics().value("Master.LocksWaiting") == Some(1)
    })
}

async fn world_waits_for(world: &World, count: i64) {
    let deadline = Instant::now() + LONG;
    while world.gauge("Master.LocksWaiting").await != count {
        assert!(Instant::now() < deadline, "never {count} waiting");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn closing_unlocks_and_locks_without_conflict_ask_once() {
    let world = World::new().await;
    let (a, b) = (world.mount("a").await, world.mount("b").await);
    let lock = wanted(1, LockMode::Write, 0, 9);
    a.set_lock(lock, true).await.unwrap();
    let before = world.link.calls.load(Ordering::Relaxed);
    a.set_lock(wanted(1, LockMode::Write, 100, 109), true).await.unwrap();
    a.set_lock(wanted(1, LockMode::Unlocked, 100, 109), true).await.unwrap();
    assert_eq!(
        world.link.calls.load(Ordering::Relaxed) - before,
        2,
        "one round trip each"
    );
    a.unlock_closed(FILE, 2).await.unwrap();
    a.set_lock(wanted(1, LockMode::Unlocked, 500, 509), true).await.unwrap();
    assert_eq!(
        world.link.calls.load(Ordering::Relaxed) - before,
        2,
        "nothing to unlock"
    );
    a.unlock_closed(FILE, 1).await.unwrap();
    b.set_lock(lock, false).await.unwrap();
    b.unlock_released(9).await;
    assert_eq!(a.set_lock(lock, false).await.unwrap_err().kind, ErrorKind::WouldBlock);
    b.unlock_released(lock.fh).await;
    a.set_lock(lock, false).await.unwrap();

    // Weaker and longer at once: never less than the weaker one in between.
    a.set_lock(wanted(1, LockMode::Read, 5, 20), false).await.unwrap();
    assert_eq!(b.get_lock(wanted(2, LockMode::Read, 5, 20)).await.unwrap(), None);
    assert!(b.get_lock(wanted(2, LockMode::Write, 20, 20)).await.unwrap().is_some());
    // Two that share and both want it alone.
    let flock = |mode| LockWanted {
        kind: LockKind::Flock,
        ..wanted(1, mode, 0, ByteRange::ALL.last)
    };
    for vfs in [&a, &b] {
        vfs.set_lock(flock(LockMode::Read), true).await.unwrap();
    }
    assert_eq!(
        a.set_lock(flock(LockMode::Write), false).await.unwrap_err().kind,
        ErrorKind::WouldBlock
    );
    let (ours, theirs) = tokio::join!(
        async {
            a.set_lock(flock(LockMode::Write), true).await.unwrap();
            a.set_lock(unlocked(flock(LockMode::Write)), true).await
        },
        async {
            b.set_lock(flock(LockMode::Write), true).await.unwrap();
            b.set_lock(unlocked(flock(LockMode::Write)), true).await
        }
    );
    ours.and(theirs).unwrap();
    for vfs in [a, b] {
        vfs.stop().await;
    }
    world.nothing_is_left().await;
}

#[tokio::test]
async fn a_thousand_wait_and_each_has_its_turn() {
    let world = World::new().await;
    let mounts = [world.mount("a").await, world.mount("b").await];
    let lock = wanted(1, LockMode::Write, 0, 0);
    mounts[0].set_lock(lock, false).await.unwrap();
    let inside = Arc::new(AtomicI32::new(0));
    let mut tasks = Vec::new();
    for owner in 2..1002u64 {
        let (vfs, inside) = (mounts[(owner % 2) as usize].clone(), inside.clone());
        tasks.push(tokio::spawn(async move {
            let lock = wanted(owner, LockMode::Write, 0, 0);
            vfs.set_lock(lock, true).await.unwrap();
            assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
            tokio::task::yield_now().await;
            assert_eq!(inside.fetch_sub(1, Ordering::SeqCst), 1);
            vfs.set_lock(unlocked(lock), false).await.unwrap();
        }));
    }
    world_waits_for(&world, 1000).await;
    mounts[0].set_lock(unlocked(lock), false).await.unwrap();
    for task in tasks {
        tokio::time::timeout(LONG, task).await.unwrap().unwrap();
    }
    world.nothing_is_left().await;
    for vfs in mounts {
        vfs.stop().await;
    }
}

const BYTES: usize = 4;

/// Who holds each byte: -1 for one that holds it alone, else how many share it.
#[derive(Default)]
struct Held([AtomicI32; BYTES]);

impl Held {
    fn enter(&self, lock: &LockWanted) {
        for byte in &self.0[lock.range.start as usize..=lock.range.last as usize] {
            if lock.mode == LockMode::Write {
                byte.compare_exchange(0, -1, Ordering::SeqCst, Ordering::SeqCst)
                    .expect("held by another");
            } else {
                assert!(byte.fetch_add(1, Ordering::SeqCst) >= 0, "a writer holds it");
            }
        }
    }

    fn leave(&self, lock: &LockWanted) {
        for byte in &self.0[lock.range.start as usize..=lock.range.last as usize] {
            if lock.mode == LockMode::Write {
                assert_eq!(byte.swap(0, Ordering::SeqCst), -1);
            } else {
                assert!(byte.fetch_sub(1, Ordering::SeqCst) > 0);
            }
        }
    }
}

async fn fickle(vfs: Arc<Vfs>, owner: u64, held: Arc<Held>, rounds: usize) -> usize {
    let mut entered = 0;
    for _ in 0..rounds {
        let (lock, wait, patience) = {
            let mut random = rand::rng();
            let (a, b) = (
                random.random_range(0..BYTES as u64),
                random.random_range(0..BYTES as u64),
            );
            let mode = if random.random_bool(0.5) {
                LockMode::Write
            } else {
                LockMode::Read
            };
            let patience = if random.random_bool(0.5) { 300 } else { 60_000_000 };
            let patience = Duration::from_micros(random.random_range(0..patience));
            (
                wanted(owner, mode, a.min(b), a.max(b)),
                random.random_bool(0.7),
                patience,
            )
        };
        match tokio::time::timeout(patience, vfs.set_lock(lock, wait)).await {
            Ok(Ok(())) => {
                held.enter(&lock);
                entered += 1;
                tokio::time::sleep(Duration::from_micros(200)).await;
                held.leave(&lock);
                vfs.set_lock(unlocked(lock), false).await.unwrap();
            }
            Ok(Err(error)) => assert_eq!(error.kind, ErrorKind::WouldBlock, "{error}"),
            Err(_lost_patience) => {}
        }
    }
    entered
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exclusion_holds_through_restarts_and_lost_answers() {
    let world = World::new().await;
    let held = Arc::new(Held::default());
    let mut mounts = Vec::new();
    for name in ["a", "b", "c"] {
        mounts.push(world.mount(name).await);
    }
    world.link.lost_percent.store(5, Ordering::Relaxed);
    let mut tasks = Vec::new();
    for owner in 0..9u64 {
        let vfs = mounts[(owner % 3) as usize].clone();
        tasks.push(tokio::spawn(fickle(vfs, owner, held.clone(), 150)));
    }
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        world.restart().await;
    }
    let mut entered = 0;
    for task in tasks {
        entered += tokio::time::timeout(LONG, task)
            .await
            .expect("somebody waits for ever")
            .unwrap();
    }
    assert!(entered > 100, "only {entered} locks were granted");
    world.link.lost_percent.store(0, Ordering::Relaxed);
    world.nothing_is_left().await;
    for vfs in mounts {
        vfs.stop().await;
    }
}
