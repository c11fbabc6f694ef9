//! Files that the kernel writes past this process: what goes out, and what happens before each write when the disk runs short.

use crate::core::{Core, on_file};
use crate::flights::Purpose;
use crate::guard::{Announced, Answer, Guard};
use crate::io;
use crate::store::{Entry, Passing, RoomPastUs, Store, blocking, chunks_of};
use alluxio_proto::worker::PassAgain;
use alluxio_proto::{CHUNK_BYTES, ErrorKind, FsError, FsResult};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// How often the disk is looked at while files are written past us.
const LOOK_PAUSE: Duration = Duration::from_millis(100);
/// And at least, near the line below which each write is announced.
const LOOK_PAUSE_MIN: Duration = Duration::from_millis(5);
/// How often what is only cached is made to give way to writers past us.
const EVICT_PAUSE: Duration = Duration::from_secs(1);
/// How often it is looked for files that an earlier process has spilled.
const ADOPT_PAUSE: Duration = Duration::from_secs(1);
/// What writers fill in a second, at most.
const FILL_BYTES_PER_S: u64 = 4 << 30;
/// How long who was allowed to write may take until it has the lock of the file.
const ALLOWED_PAUSE: Duration = Duration::from_secs(2);
/// How often who waits for a spill looks whether it is over.
const HELD_PAUSE: Duration = Duration::from_millis(20);
/// Rounds of bringing what a write covers, whose file is committed meanwhile.
const ROUNDS_MAX: usize = 16;

/// As long as this is there, a file is being spilled that is written past us.
pub(crate) struct HeldOff {
    entry: Arc<Entry>,
    /// Accesses wait for the upload as well.
    is_kept: bool,
}

impl HeldOff {
    /// Accesses go on during the upload, and mark what they change: they wait with locks of the kernel.
    pub fn let_go(&mut self) {
        if !self.is_kept {
            self.entry.let_accesses_go();
        }
    }

    /// From now on they do not.
    pub fn keep(&mut self) {
        self.is_kept = true;
    }

    pub fn is_kept(&self) -> bool {
        self.is_kept
    }
}

impl Drop for HeldOff {
    fn drop(&mut self) {
        self.entry.end_spilling();
    }
}

/// How a descriptor goes out to who opens a file, and is watched if it can be; armed from the first write on where the disk could be
/// full before anybody looks. `None`: it does not.
pub(crate) fn pass(entry: &Arc<Entry>, guard: Option<&Guard>, write_only: bool, room: RoomPastUs) -> Option<Passing> {
    let how = match guard.filter(|_| write_only && !entry.is_beyond_guarding()) {
        None => Passing::Anyhow,
        Some(guard) => match watch(entry, guard, room) {
            Ok(true) => Passing::Watched,
            Ok(false) => return None,
            Err(error) => {
                tracing::warn!(%error, inode = entry.inode.get(), "watch a local file: it gets no descriptor");
                return None;
            }
        },
    };
    entry.pass(how).then_some(how)
}

fn watch(entry: &Arc<Entry>, guard: &Guard, room: RoomPastUs) -> std::io::Result<bool> {
    let is_watched = guard.watch(entry)?;
    if is_watched && room.is_alert() {
        guard.arm(entry)?;
    }
    Ok(is_watched)
}

impl Core {
    /// See [`PassAgain`].
    pub async fn pass_again(&self, request: PassAgain) -> FsResult<()> {
        let entry = self.open_entry(request.inode, request.version).await?;
        let guard = self.guard.as_deref();
        match pass(&entry, guard, request.write_only, self.store.room_past_us()) {
            Some(_) => Ok(()),
            // Too many are watched.
            None if request.write_only && entry.pass(Passing::Anyhow) => Ok(()),
            None => Err(spilled(&entry)),
        }
    }

    /// Looks after files that are written past us, until `stop`: when the disk runs short, each write is announced.
    pub async fn keep_watch(self: Arc<Self>, stop: CancellationToken) {
        let Some(guard) = self.guard.clone() else { return };
        let (mut is_alert, mut pause, mut adopted) = (false, LOOK_PAUSE, Instant::now());
        let mut evicting = Evicting::default();
        while stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
            pause = LOOK_PAUSE;
            let is_to_adopt = adopted.elapsed() >= ADOPT_PAUSE;
            if guard.is_idle() && !is_to_adopt {
                continue;
            }
            let room = self.store.room_past_us();
            is_alert = room.is_alert() || is_alert && room.is_near_alert();
            if let RoomPastUs::Ample(left) = room {
                let until_alert = Duration::from_secs_f64(left as f64 / FILL_BYTES_PER_S as f64);
                pause = until_alert.clamp(LOOK_PAUSE_MIN, LOOK_PAUSE);
            }
            if !self.store.is_relieved() && !guard.is_idle() {
                evicting.begin(&self.store);
            }
            let (guard, store) = (Arc::clone(&guard), Arc::clone(&self.store));
            let done = blocking(move || {
                if is_to_adopt {
                    for entry in store.open_entries() {
                        log(&entry, adopt(&guard, &entry));
                    }
                }
                for entry in guard.watched() {
                    // Reads of it wait as well, which is only right if there are none.
                    let is_to_wait = (is_alert || entry.is_spilled()) && !entry.is_beyond_guarding();
                    let done = match is_to_wait {
                        true => guard.arm(&entry).map(|_| ()),
                        false => guard.disarm(&entry),
                    };
                    log(&entry, done);
                }
                Ok(())
            });
            if is_to_adopt {
                adopted = Instant::now();
            }
            if let Err(error) = done.await {
                tracing::warn!(%error, "look after files that are written past the worker");
            }
        }
    }

    /// It is open no more: what the kernel does with the file costs nothing from now on.
    pub fn forget_passed(&self, entry: &Entry) {
        if let Some(guard) = &self.guard {
            guard.forget(entry);
        }
    }

    /// Before a file is spilled that is written past us: accesses wait. `None`: nobody writes it past us.
    pub async fn hold_off(&self, entry: &Arc<Entry>) -> FsResult<Option<HeldOff>> {
        if !entry.writable_fd_out() {
            return Ok(None);
        }
        let io = |error| FsError::from_io(format!("arm inode {}", entry.inode), &error);
        let armed = match &self.guard {
            Some(guard) => guard.arm(entry).map_err(io)?,
            None => None,
        };
        if armed.is_none() || !entry.begin_spilling() {
            let why = format!("spill inode {}: it is written past the worker", entry.inode);
            return Err(FsError::new(ErrorKind::NotSupported, why));
        }
        let held = HeldOff {
            entry: Arc::clone(entry),
            is_kept: false,
        };
        self.note_passed().await?;
        Ok(Some(held))
    }

    /// Before it is sealed: when this returns, accesses wait and all that was allowed has happened.
    pub async fn hold(&self, held: &HeldOff) -> FsResult<()> {
        self.hold_marked(held).await?;
        tokio::time::sleep(ALLOWED_PAUSE).await;
        on_file(&held.entry, "wait for writes to", |entry| entry.drain()).await
    }

    /// Before bytes go: accesses wait again. What was allowed meanwhile has marked what it changes, or will change.
    pub async fn hold_marked(&self, held: &HeldOff) -> FsResult<()> {
        let entry = &held.entry;
        let _turn = entry.turn.lock().await;
        match entry.hold_accesses() {
            true => Ok(()),
            false => {
                let why = format!(
                    "spill inode {}: somebody can read it past the worker by now",
                    entry.inode
                );
                Err(FsError::new(ErrorKind::NotSupported, why))
            }
        }
    }

    /// Notes which files are to be looked for at the next start, before a write of a program can be.
    async fn note_passed(&self) -> FsResult<()> {
        let Some(guard) = self.guard.clone() else { return Ok(()) };
        let store = Arc::clone(&self.store);
        blocking(move || {
            let spilled = guard.watched().into_iter().filter(|entry| entry.is_spilled());
            let inodes: Vec<_> = spilled.map(|entry| entry.inode).collect();
            store.layout.set_passed(&inodes);
            Ok(())
        })
        .await
    }

    /// At the start, before any mount hears of this worker: watches on what an earlier process has spilled. What is written until
    /// then is not announced; it has been written when this returns, so that nothing that is brought is brought over it.
    pub async fn adopt_passed(&self) -> FsResult<()> {
        let Some(guard) = self.guard.clone() else { return Ok(()) };
        let store = Arc::clone(&self.store);
        let adopted = blocking(move || {
            let mut adopted = Vec::new();
            for inode in store.layout.passed() {
                match store.load(inode) {
                    Ok(Some(entry)) => {
                        log(&entry, adopt(&guard, &entry));
                        adopted.extend(entry.is_spilled().then_some(entry));
                    }
                    Ok(None) => {}
                    Err(error) => tracing::info!(%error, inode = inode.get(), "look for what was spilled"),
                }
            }
            Ok(adopted)
        })
        .await?;
        if adopted.is_empty() {
            return Ok(());
        }
        tokio::time::sleep(ALLOWED_PAUSE).await;
        for entry in adopted {
            if let Err(error) = on_file(&entry, "wait for writes to", |entry| entry.drain()).await {
                tracing::warn!(%error, inode = entry.inode.get(), "wait for what was written while the worker was down");
            }
        }
        Ok(())
    }

    /// Waits while the file is being spilled, brings what the range touches, and marks it as changed. As for a write through this
    /// process, but for one thing: whether the write will happen nobody knows, so that also what it covers as a whole is here
    /// before.
    async fn make_ready(&self, entry: &Arc<Entry>, range: &Range<u64>) -> FsResult<()> {
        for _ in 0..ROUNDS_MAX {
            while entry.is_held() {
                tokio::time::sleep(HELD_PAUSE).await;
            }
            let _turn = entry.turn.lock().await;
            if entry.is_held() {
                continue;
            }
            if entry.is_ready_for(range) {
                return Ok(());
            }
            let io = |error| FsError::from_io(format!("look at the local file of inode {}", entry.inode), &error);
            let size = io::stat(&entry.data).map_err(io)?.size;
            let last = size.saturating_sub(1) / CHUNK_BYTES;
            let chunks = range.start / CHUNK_BYTES..chunks_of(range.end.min(size));
            for run in [chunks, last..last + 1] {
                let brought = self.filler.ensure(entry, run.clone(), Purpose::Write).await;
                brought.map_err(|failed| {
                    failed
                        .into_error()
                        .context("fetch what a write past the worker touches")
                })?;
                for chunk in run.clone() {
                    self.verify_edge(entry, chunk).await?;
                }
                on_file(entry, "mark", move |entry| entry.mark_announced(run)).await?;
            }
        }
        let why = format!("inode {} changes as fast as it is brought", entry.inode);
        Err(FsError::new(ErrorKind::Busy, why))
    }
}

#[async_trait::async_trait]
impl Announced for Core {
    fn at_once(&self, entry: &Arc<Entry>, range: &Range<u64>) -> bool {
        self.counters.announced.inc();
        // What was sealed is only read.
        if !entry.is_open() || entry.is_beyond_guarding() {
            return true;
        }
        !entry.is_held()
            && !self.store.disk_is_short(range.end.saturating_sub(range.start))
            && entry.is_ready_for(range)
    }

    async fn before(&self, entry: Arc<Entry>, range: Range<u64>) -> Answer {
        let bytes = range.end.saturating_sub(range.start);
        self.wait_for_room(&entry, bytes).await;
        match self.make_ready(&entry, &range).await {
            Ok(()) => Answer::Go,
            Err(error) => {
                tracing::warn!(%error, inode = entry.inode.get(), "a write past the worker fails");
                Answer::Fail
            }
        }
    }

    fn note_seen(&self, entry: &Entry) {
        entry.note_announcing();
    }
}

/// What is only cached gives way to writers past us before these are held up: a disk that is full of it is the usual one.
#[derive(Default)]
struct Evicting(Option<(Instant, tokio::task::JoinHandle<FsResult<()>>)>);

impl Evicting {
    /// Unless it is under way, or was a moment ago. On another thread: files are armed meanwhile.
    fn begin(&mut self, store: &Arc<Store>) {
        let is_too_soon = |(begun, task): &(Instant, tokio::task::JoinHandle<_>)| {
            !task.is_finished() || begun.elapsed() < EVICT_PAUSE
        };
        if self.0.as_ref().is_some_and(is_too_soon) {
            return;
        }
        let store = Arc::clone(store);
        let task = tokio::spawn(blocking(move || {
            store.evict_before_alert();
            Ok(())
        }));
        self.0 = Some((Instant::now(), task));
    }
}

/// What cannot be done with one file is no reason to leave the others alone.
fn log(entry: &Entry, done: std::io::Result<()>) {
    if let Err(error) = done {
        tracing::warn!(%error, inode = entry.inode.get(), "look after a file that is written past the worker");
    }
}

/// Watches on what an earlier life of this process has spilled: who has it can only write, on descriptors that were watched then.
fn adopt(guard: &Guard, entry: &Arc<Entry>) -> std::io::Result<()> {
    if !entry.is_spilled() || guard.arm(entry)?.is_some() || !guard.watch(entry)? {
        return Ok(());
    }
    guard.arm(entry)?;
    entry.pass(Passing::Watched);
    entry.note_announcing();
    Ok(())
}

/// Not all of it is here, and who writes it does so past us: nobody can read it past us.
pub(crate) fn spilled(entry: &Entry) -> FsError {
    let why = format!(
        "inode {} is larger than the disk of its worker, and is being written: it can be read once it is closed; try again \
         then",
        entry.inode
    );
    FsError::new(ErrorKind::Busy, why)
}
