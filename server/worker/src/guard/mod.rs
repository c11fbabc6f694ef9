//! The guard: files that the kernel writes past this process (passthrough), slowed down and spilled all the same.
//!
//! Where the kernel can (Linux 6.14, `CAP_SYS_ADMIN`), it *announces* what is about to be read or written on a descriptor that was
//! opened while the local file bore a mark, and the program waits until we answer. An announcement costs 50 times what a write
//! costs without. So a mark is put on before a descriptor goes out ([`Guard::watch`]), which makes announcements possible, and taken
//! off again as soon as the kernel is known to have opened the file: of the only descriptor by the first access, so that a file
//! that is made and closed wakes nobody; of further ones by what the kernel tells of openings. When the disk runs short it is put on
//! again ([`Guard::arm`]): from then on each access waits for [`Announced`].
//!
//! **Promises:** nobody waits for longer than [`Announced::before`] takes, also not if this process is killed or the guard dropped;
//! the thread of the guard never touches a file that is watched, and what this process does itself is never held up.
//!
//! **Left out:** stores through mappings and splices into the file are not announced. Files that can be mapped are not
//! guarded; a splice is found by its data when the file is committed.

mod sys;

use crate::store::Entry;
use alluxio_common::sync::Mutex;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};
use sys::{Access, Event, Group, Opened, Reserve, Wake};
use tokio::sync::Semaphore;

/// Files watched at once. One more gets no descriptor, and is written through the worker.
const WATCHED_MAX: usize = 100_000;
/// Programs that are seen to at once, of those that wait for more than a look. The others wait for one of them.
const HELD_MAX: usize = 1024;
/// How long the kernel may take to open a file whose descriptor it was given. Later it is as if it were not watched.
const OPENING_MAX: Duration = Duration::from_secs(10);
/// How often marks are looked at whose file nobody has accessed.
const SWEEP_PAUSE: Duration = Duration::from_secs(2);
/// Marks taken off in one look.
const SWEEP_MAX: usize = 64;
/// A pause of who cannot take announcements.
const FAILED_PAUSE: Duration = Duration::from_millis(2);

/// What is to be done before the kernel reads or writes a range of a file that is armed.
#[async_trait::async_trait]
pub(crate) trait Announced: Send + Sync + 'static {
    /// Does it if it can be done without waiting; false: it cannot. On the thread of the guard, for which all others wait.
    fn at_once(&self, entry: &Arc<Entry>, range: &Range<u64>) -> bool;
    /// Does it. When it returns, the program goes on, or is told EIO.
    async fn before(&self, entry: Arc<Entry>, range: Range<u64>) -> Answer;
    /// Takes notice that accesses of a file are announced indeed: the kernel has opened it.
    fn note_seen(&self, entry: &Entry);
}

/// What becomes of an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Go,
    /// It would damage the file.
    Fail,
}

/// The guard of a worker's files.
pub(crate) struct Guard {
    shared: Arc<Shared>,
    /// Its end stops the thread.
    _stop: UnixStream,
}

struct Shared {
    group: Arc<Group>,
    watched: Mutex<HashMap<FileId, Watched>>,
    /// Who answers, and where it runs. Nobody at first: then all is allowed.
    answers: OnceLock<(Weak<dyn Announced>, tokio::runtime::Handle)>,
    turns: Arc<Semaphore>,
}

/// A local file as fstat(2) tells it from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct FileId(u64, u64);

impl FileId {
    fn of(file: &File) -> io::Result<Self> {
        let meta = file.metadata()?;
        Ok(Self(meta.dev(), meta.ino()))
    }
}

/// A file of which a descriptor is out on which accesses can be announced.
struct Watched {
    entry: Weak<Entry>,
    /// It bears a mark.
    is_marked: bool,
    /// Accesses wait for an answer since.
    armed: Option<Instant>,
    /// Descriptors that went out,
    out: u32,
    /// and how many of them the kernel is known to have opened the file for.
    seen: u32,
    /// When a descriptor went out last.
    opened: Instant,
}

impl Watched {
    fn new(entry: &Arc<Entry>) -> Self {
        Self {
            entry: Arc::downgrade(entry),
            is_marked: false,
            armed: None,
            out: 1,
            seen: 0,
            opened: Instant::now(),
        }
    }

    /// The kernel has opened the file for all of them.
    fn is_opened(&self) -> bool {
        self.seen >= self.out
    }

    /// Whether the kernel is to tell when it opens the file.
    fn tells_openings(&self) -> bool {
        self.out > 1 && !self.is_opened()
    }

    fn is_opening_over(&self) -> bool {
        self.opened.elapsed() >= OPENING_MAX
    }
}

impl Guard {
    /// None where the kernel or our rights do not allow it, which is logged once: then nothing is watched. `probe` is a file of the
    /// file system in question.
    pub fn open(probe: &File) -> Option<Guard> {
        match Self::try_open(probe) {
            Ok(guard) => Some(guard),
            Err(error) => {
                tracing::info!(
                    %error,
                    "the kernel does not announce writes that pass the worker by (Linux 6.14 and CAP_SYS_ADMIN are needed): a \
                     program whose file was opened while the disk was roomy can fill it"
                );
                None
            }
        }
    }

    fn try_open(probe: &File) -> io::Result<Guard> {
        let group = Arc::new(Group::new()?);
        group.mark(probe, true)?;
        group.unmark(probe)?;
        let shared = Arc::new(Shared {
            group,
            watched: Mutex::new(HashMap::new()),
            answers: OnceLock::new(),
            turns: Arc::new(Semaphore::new(HELD_MAX)),
        });
        let (ours, theirs) = UnixStream::pair()?;
        let (run, stop) = (Arc::clone(&shared), OwnedFd::from(theirs));
        let reserve = Reserve::new(&stop)?;
        std::thread::Builder::new()
            .name("guard".to_owned())
            .spawn(move || run.run(&stop, reserve))?;
        Ok(Guard { shared, _stop: ours })
    }

    /// From now on `answers` is asked, on the runtime of the caller.
    pub fn begin(&self, answers: Weak<dyn Announced>) {
        // Said twice, the first is the one.
        let _ = self.shared.answers.set((answers, tokio::runtime::Handle::current()));
    }

    /// To be called before a descriptor goes out on which the kernel is to open the file. False: there are too many.
    pub fn watch(&self, entry: &Arc<Entry>) -> io::Result<bool> {
        let id = FileId::of(&entry.data)?;
        let mut watched = self.shared.watched.lock();
        if watched.len() >= WATCHED_MAX && !watched.contains_key(&id) {
            watched.retain(|_, one| one.entry.strong_count() > 0);
            if watched.len() >= WATCHED_MAX {
                return Ok(false);
            }
        }
        match watched.get_mut(&id) {
            Some(one) if one.entry.as_ptr() == Arc::as_ptr(entry) && entry.writable_fd_out() => {
                (one.out, one.opened) = (one.out + 1, Instant::now());
            }
            // Those of before are gone.
            Some(one) if one.entry.as_ptr() == Arc::as_ptr(entry) => {
                let is_marked = one.is_marked;
                *one = Watched {
                    is_marked,
                    ..Watched::new(entry)
                };
            }
            // None, or the number of a file that is gone.
            _ => {
                watched.insert(id, Watched::new(entry));
            }
        }
        let Some(one) = watched.get_mut(&id) else {
            return Ok(false);
        };
        // Of one that is marked for its first descriptor openings are told from the second one on.
        if !one.is_marked || one.out > 1 {
            self.shared.group.mark(&entry.data, one.tells_openings())?;
            one.is_marked = true;
        }
        Ok(true)
    }

    /// From now on each access of the file waits for an answer. Since when; `None`: it is not watched.
    pub fn arm(&self, entry: &Arc<Entry>) -> io::Result<Option<Instant>> {
        let id = FileId::of(&entry.data)?;
        let mut watched = self.shared.watched.lock();
        let Some(one) = watched
            .get_mut(&id)
            .filter(|one| one.entry.as_ptr() == Arc::as_ptr(entry))
        else {
            return Ok(None);
        };
        if !one.is_marked {
            self.shared.group.mark(&entry.data, one.tells_openings())?;
            one.is_marked = true;
        }
        Ok(Some(*one.armed.get_or_insert_with(Instant::now)))
    }

    /// Ends that. What of it is announced costs nothing again.
    pub fn disarm(&self, entry: &Arc<Entry>) -> io::Result<()> {
        let id = FileId::of(&entry.data)?;
        let mut watched = self.shared.watched.lock();
        let Some(one) = watched
            .get_mut(&id)
            .filter(|one| one.entry.as_ptr() == Arc::as_ptr(entry))
        else {
            return Ok(());
        };
        one.armed = None;
        match one.is_opened() || one.is_opening_over() {
            true => self.shared.unmark(one, entry),
            // The sweep does it.
            false => Ok(()),
        }
    }

    /// Nobody writes it past us any more.
    pub fn forget(&self, entry: &Entry) {
        let Ok(id) = FileId::of(&entry.data) else { return };
        let mut watched = self.shared.watched.lock();
        if watched
            .get(&id)
            .is_none_or(|one| !std::ptr::eq(one.entry.as_ptr(), entry))
        {
            return;
        }
        let Some(mut one) = watched.remove(&id) else { return };
        if let Err(error) = self.shared.unmark(&mut one, entry) {
            tracing::warn!(%error, inode = entry.inode.get(), "take the mark off a file that nobody writes any more");
        }
    }

    /// Files that are watched.
    pub fn watched(&self) -> Vec<Arc<Entry>> {
        let watched = self.shared.watched.lock();
        watched.values().filter_map(|one| one.entry.upgrade()).collect()
    }

    /// Whether any file is watched.
    pub fn is_idle(&self) -> bool {
        self.shared.watched.lock().is_empty()
    }
}

/// Whatever we do ourselves.
fn is_ours(pid: libc::pid_t) -> bool {
    u32::try_from(pid) == Ok(std::process::id())
}

impl Shared {
    fn run(self: &Arc<Self>, stop: &OwnedFd, mut reserve: Reserve) {
        let mut swept = Instant::now();
        loop {
            let pause = SWEEP_PAUSE.saturating_sub(swept.elapsed());
            match self.group.wait(stop, Some(pause)) {
                Ok(Wake::Stop) => return,
                Ok(Wake::Nothing) => {}
                Ok(Wake::Events) => match self.group.events(&mut reserve) {
                    Ok(events) => events.into_iter().for_each(|event| match event {
                        Event::Access(access) => self.take(access),
                        Event::Opened(opened) => self.note_opened(&opened),
                    }),
                    Err(error) => {
                        tracing::warn!(%error, "take announcements of what passes the worker by");
                        std::thread::sleep(FAILED_PAUSE);
                    }
                },
                Err(error) => {
                    // Without us nobody would be answered: the group goes with the last who has it.
                    tracing::error!(%error, "wait for announcements of what passes the worker by");
                    std::thread::sleep(SWEEP_PAUSE);
                }
            }
            if swept.elapsed() >= SWEEP_PAUSE && !self.sweep() {
                swept = Instant::now();
            }
        }
    }

    /// The mark of a file has done what it was put on for, if the kernel has opened it on all descriptors that went out.
    fn note_opened(&self, opened: &Opened) {
        if is_ours(opened.pid) {
            return;
        }
        let Ok(id) = FileId::of(&opened.file) else { return };
        let mut watched = self.watched.lock();
        let Some(one) = watched.get_mut(&id) else { return };
        one.seen += 1;
        if let Some(entry) = one.entry.upgrade()
            && one.armed.is_none()
            && one.is_opened()
        {
            self.unmark_or_warn(one, &entry);
        }
    }

    /// Somebody waits. Goes on at the latest when `access` is dropped.
    fn take(self: &Arc<Self>, access: Access) {
        // Whatever we do ourselves is ordered by the locks that we have.
        if is_ours(access.pid) {
            return;
        }
        let Some((answers, runtime)) = self.answers.get() else {
            return;
        };
        let Some(answers) = answers.upgrade() else { return };
        let Some((entry, is_armed)) = self.accessed(&access) else {
            return;
        };
        answers.note_seen(&entry);
        if !is_armed {
            return;
        }
        // Without a range it may be all of it.
        let all = || access.file().metadata().map_or(0..0, |meta| 0..meta.len());
        let range = access.range.clone().unwrap_or_else(all);
        if answers.at_once(&entry, &range) {
            return;
        }
        // This thread goes on meanwhile: what our own process does must never wait for those who wait for it.
        let (turns, mut access) = (Arc::clone(&self.turns), access);
        runtime.spawn(async move {
            let _turn = turns.acquire().await;
            if answers.before(entry, range).await == Answer::Fail {
                access.fail();
            }
            drop(access);
        });
    }

    /// The file that is accessed, and whether it is armed. This proves that the kernel has opened the file for one descriptor: if no
    /// opening was told before, for the first, whose opening may have come before we asked to be told.
    fn accessed(&self, access: &Access) -> Option<(Arc<Entry>, bool)> {
        let id = FileId::of(access.file()).ok()?;
        let mut watched = self.watched.lock();
        let one = watched.get_mut(&id)?;
        let entry = one.entry.upgrade()?;
        let is_armed = one.armed.is_some();
        one.seen = one.seen.max(1);
        if !is_armed && (one.is_opened() || one.is_opening_over()) {
            self.unmark_or_warn(one, &entry);
        }
        Some((entry, is_armed))
    }

    /// Takes marks off that have done what they were put on for, and forgets files that nobody writes past us any more. A few at a
    /// time, or who opens a file would wait for us. Answers whether there may be more.
    fn sweep(&self) -> bool {
        let mut watched = self.watched.lock();
        let mut left = SWEEP_MAX;
        watched.retain(|_, one| {
            let Some(entry) = one.entry.upgrade() else { return false };
            let is_written = entry.writable_fd_out();
            let is_over = (one.is_opened() || one.is_opening_over()) && (one.armed.is_none() || !is_written);
            if is_over && one.is_marked && left > 0 {
                left -= 1;
                self.unmark_or_warn(one, &entry);
            }
            is_written || one.is_marked || !one.is_opening_over()
        });
        left == 0
    }

    fn unmark_or_warn(&self, one: &mut Watched, entry: &Entry) {
        if let Err(error) = self.unmark(one, entry) {
            tracing::warn!(%error, inode = entry.inode.get(), "take the mark off a file");
        }
    }

    fn unmark(&self, one: &mut Watched, entry: &Entry) -> io::Result<()> {
        if one.is_marked && one.out > 1 && !one.is_opened() {
            // Whether the kernel has opened it for all of them nobody has seen: who was late writes unannounced.
            entry.lose_guard();
        }
        match std::mem::take(&mut one.is_marked) {
            true => self.group.unmark(&entry.data),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
