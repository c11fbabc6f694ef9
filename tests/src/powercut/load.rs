//! The load: threads that work on files of their own until they are killed, each logging what it does before and after.

#![allow(clippy::disallowed_methods, reason = "the system call is what is tested")]

use super::check::compare;
use super::content::{LINE_BYTES, encode};
use super::log::{self, Entry, Log, Step};
use super::model::Model;
use crate::process::Process;
use anyhow::Context;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::fs::{File, OpenOptions};
use std::io::{Error, Result as IoResult};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Files of a thread are made until there are so many, and removed when there are more.
const FILES_WANTED: usize = 10;
/// Longest file: several chunks of the worker.
const LINES_MAX: u32 = 8192;
/// Lengths of one write in lines: parts of a page, a page and a bit, chunks.
const PIECES: [u32; 6] = [1, 3, 65, 100, 1024, 3000];

/// Steps that a load has got to before a cut, in all threads.
const STEPS: std::ops::Range<usize> = 20..400;
/// How long it may take.
const LIMIT: Duration = Duration::from_secs(60);

/// A load to be started.
#[derive(Debug)]
pub struct Work<'a> {
    /// `powercut_load`.
    pub program: &'a Path,
    /// What its chances are drawn from.
    pub seed: u64,
    /// Folder of models and logs.
    pub work: &'a Path,
    /// See [`work`].
    pub syncs: bool,
}

impl Work<'_> {
    /// From now on nobody syncs or closes anything, so that nothing flushes the disk and writes pile up in it.
    ///
    /// # Errors
    /// Of the file system.
    pub fn quieten(&self) -> Result<(), String> {
        std::fs::write(quiet_path(self.work), "").map_err(|error| format!("quieten the load: {error}"))
    }

    /// Starts a thread for each model, which works in its folder of `mount`, and waits until some work is done.
    ///
    /// # Errors
    /// If it does not get anywhere.
    pub fn start(&self, mount: &Path, models: &[Model], random: &mut StdRng) -> Result<Process, String> {
        for (thread, model) in models.iter().enumerate() {
            let text = serde_json::to_vec(model).map_err(|error| format!("write a model: {error}"))?;
            std::fs::write(model_path(self.work, thread), text).map_err(|error| format!("write a model: {error}"))?;
            std::fs::write(log_path(self.work, thread), "").map_err(|error| format!("empty a log: {error}"))?;
        }
        match std::fs::remove_file(quiet_path(self.work)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(format!("wake the load: {error}"));
            }
            _ => {}
        }
        let mut command = Command::new(self.program);
        command.arg(mount).arg(self.work);
        command.arg(self.seed.to_string()).arg(models.len().to_string());
        command.args(self.syncs.then_some("syncs"));
        let mut process = Process::spawn("load", &mut command);
        let enough = random.random_range(STEPS);
        let logs: Vec<PathBuf> = (0..models.len()).map(|thread| log_path(self.work, thread)).collect();
        let start = Instant::now();
        loop {
            let texts: Vec<String> = logs
                .iter()
                .map(|path| std::fs::read_to_string(path).unwrap_or_default())
                .collect();
            let lines: usize = texts.iter().map(|text| text.lines().count()).sum();
            if lines >= enough * 2 || texts.iter().any(|text| text.contains("{\"Failed\"")) {
                return Ok(process);
            }
            if let Some(status) = process.ended() {
                return Err(format!("the load ended ({status}): {}", process.log()));
            }
            if start.elapsed() > LIMIT {
                return Err(format!("the load did {lines} of {} lines in {LIMIT:?}", enough * 2));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// The models follow what the threads logged; answers how many steps were acknowledged.
///
/// # Errors
/// If one of them failed.
pub fn follow(work: &Path, models: &mut [Model]) -> Result<usize, String> {
    let mut steps = 0;
    for (thread, model) in models.iter_mut().enumerate() {
        let entries = log::read(&log_path(work, thread));
        steps += entries.iter().filter(|entry| **entry == Entry::Done).count();
        let failures = model.follow(&entries);
        if !failures.is_empty() {
            return Err(format!("before the cut, thread {thread}: {}", failures.join("\n")));
        }
    }
    Ok(steps)
}

/// What a thread may do, so that a kind of step can be left out to look past what is known:
/// `ALLUXIO_TEST_WITHOUT=Map,Hold`.
const KINDS: [(&str, u32); 13] = [
    ("Create", 3),
    ("Replace", 5),
    ("Overwrite", 5),
    ("Append", 5),
    ("Map", 4),
    ("MapAfterClose", 2),
    ("MapNew", 2),
    ("MapEmptied", 2),
    ("Rewrite", 3),
    ("Truncate", 2),
    ("Unlink", 2),
    ("Rename", 1),
    ("Hold", 4),
];

/// Folder of a thread in the mount.
pub fn folder(thread: usize) -> String {
    format!("t{thread}")
}

/// Where the model of a thread is, from which it starts.
pub fn model_path(work: &Path, thread: usize) -> PathBuf {
    work.join(format!("model-{thread}.json"))
}

/// Where a thread logs.
pub fn log_path(work: &Path, thread: usize) -> PathBuf {
    work.join(format!("log-{thread}"))
}

/// Whether it is there tells the threads to be quiet.
fn quiet_path(work: &Path) -> PathBuf {
    work.join("quiet")
}

/// Works in `mount` with `threads` threads until it is killed. `syncs`: by calls of fsync where the cluster promises more than POSIX
/// does, at close and for names, so that a local file system promises the same.
///
/// # Errors
/// If the models cannot be read or a log not be written.
pub fn work(mount: &Path, work: &Path, seed: u64, threads: usize, syncs: bool) -> anyhow::Result<()> {
    let mut running = Vec::new();
    for thread in 0..threads {
        let text = std::fs::read(model_path(work, thread)).context("read the model")?;
        let mut actor = Actor {
            dir: mount.join(folder(thread)),
            log: Log::create(&log_path(work, thread)).context("make the log")?,
            model: serde_json::from_slice(&text).context("read the model")?,
            random: StdRng::seed_from_u64(seed.wrapping_mul(1_000_003).wrapping_add(thread as u64)),
            held: None,
            kinds: kinds(),
            syncs,
            quiet: quiet_path(work),
        };
        running.push(std::thread::spawn(move || -> anyhow::Result<()> {
            loop {
                if let Err(error) = actor.act() {
                    let entry = Entry::Failed(error.to_string());
                    actor.log.add(&entry).context("write the log")?;
                    // The others go on; what failed is found in the log.
                    loop {
                        std::thread::sleep(Duration::from_secs(3600));
                    }
                }
            }
        }));
    }
    for thread in running {
        thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??;
    }
    Ok(())
}

/// Whether a kind of step is to be left out.
pub fn is_left_out(kind: &str) -> bool {
    let without = std::env::var("ALLUXIO_TEST_WITHOUT").unwrap_or_default();
    without.split(',').any(|word| word == kind)
}

fn kinds() -> Vec<&'static str> {
    let wanted = KINDS.iter().filter(|(kind, _)| !is_left_out(kind));
    wanted
        .flat_map(|(kind, weight)| std::iter::repeat_n(*kind, *weight as usize))
        .collect()
}

/// One thread.
struct Actor {
    dir: PathBuf,
    log: Log,
    model: Model,
    random: StdRng,
    /// A file that stays open over several acts.
    held: Option<(u32, File)>,
    kinds: Vec<&'static str>,
    /// Closes and changes of names are synced by ourselves.
    syncs: bool,
    /// See [`quiet_path`].
    quiet: PathBuf,
}

impl Actor {
    /// Logs a step, does it, and logs that it was acknowledged.
    fn step<T>(&mut self, step: Step, work: impl FnOnce() -> IoResult<T>) -> IoResult<T> {
        self.log.add(&Entry::Begin(step.clone()))?;
        self.model.begin(&step);
        let done = work()?;
        self.log.add(&Entry::Done)?;
        self.model.done();
        Ok(done)
    }

    /// As [`Actor::step`], of a change of names.
    fn step_of_names<T>(&mut self, step: Step, work: impl FnOnce() -> IoResult<T>) -> IoResult<T> {
        let dir = self.syncs.then(|| File::open(&self.dir)).transpose()?;
        self.step(step, || {
            let done = work()?;
            dir.map_or(Ok(()), |dir| dir.sync_all())?;
            Ok(done)
        })
    }

    fn act(&mut self) -> IoResult<()> {
        let is_quiet = self.quiet.exists();
        let kind = match self.model.names.len() {
            n if is_quiet && n > 0 => "Hold",
            n if n < FILES_WANTED / 2 => "Create",
            n if n > FILES_WANTED => "Unlink",
            _ => self.kinds[self.random.random_range(0..self.kinds.len())],
        };
        if kind == "Create" {
            return self.create();
        }
        let held = self.held.as_ref().map(|(uid, _)| *uid);
        let free: Vec<(String, u32)> = self
            .model
            .names
            .iter()
            .filter(|(_, uid)| Some(**uid) != held)
            .map(|(name, uid)| (name.clone(), *uid))
            .collect();
        if free.is_empty() {
            return self.create();
        }
        let (name, uid) = free[self.random.random_range(0..free.len())].clone();
        if is_quiet {
            return self.hold(&name, uid, true);
        }
        if self.random.random_bool(0.2) {
            self.read_back(&name, uid)?;
        }
        match kind {
            "Replace" => self.replace(&name),
            "Overwrite" => self.overwrite(&name, uid),
            "Append" => self.append(&name, uid),
            "Map" => self.map(&name, uid, false),
            "MapAfterClose" => self.map(&name, uid, true),
            "MapNew" => self.map_new(),
            "MapEmptied" => self.map_emptied(&name, uid),
            "Rewrite" => self.rewrite(&name, uid),
            "Truncate" => self.truncate(&name, uid),
            "Unlink" => {
                let path = self.dir.join(&name);
                self.step_of_names(Step::Unlink { name }, || std::fs::remove_file(path))
            }
            "Rename" => {
                let to = format!("r{}", self.random.random_range(0..1_000_000));
                let paths = (self.dir.join(&name), self.dir.join(&to));
                self.step_of_names(Step::Rename { from: name, to }, || std::fs::rename(paths.0, paths.1))
            }
            _ => self.hold(&name, uid, false),
        }
    }

    fn length(&self, uid: u32) -> u32 {
        self.model.files.get(&uid).map_or(0, |file| file.current.len() as u32)
    }

    fn version(&self, uid: u32) -> u32 {
        self.model.files.get(&uid).map_or(1, |file| file.next_version())
    }

    fn piece(&mut self) -> u32 {
        PIECES[self.random.random_range(0..PIECES.len())]
    }

    fn write(&mut self, file: &File, uid: u32, from: u32, lines: u32, synced: bool) -> IoResult<()> {
        let version = self.version(uid);
        let bytes = encode(uid, version, from, lines);
        let step = Step::Write {
            uid,
            version,
            from,
            lines,
            synced,
        };
        self.step(step, || file.write_all_at(&bytes, u64::from(from) * LINE_BYTES as u64))
    }

    fn sync(&mut self, file: &File, uid: u32) -> IoResult<()> {
        let data_only = self.random.random_bool(0.4);
        self.step(Step::Sync { uid }, || match data_only {
            true => file.sync_data(),
            false => file.sync_all(),
        })
    }

    fn close(&mut self, file: File, uid: u32) -> IoResult<()> {
        use std::os::fd::IntoRawFd;
        let syncs = self.syncs;
        self.step(Step::Close { uid }, || {
            if syncs {
                file.sync_all()?;
            }
            // SAFETY: the descriptor was this file's own, and nobody uses it after this. Dropping the file would hide errors.
            match unsafe { libc::close(file.into_raw_fd()) } {
                0 => Ok(()),
                _ => Err(Error::last_os_error()),
            }
        })
    }

    fn make(&mut self, name: String) -> IoResult<(u32, File)> {
        let uid = self.model.new_uid();
        let path = self.dir.join(&name);
        let file = self.step_of_names(Step::Create { uid, name }, || {
            OpenOptions::new().read(true).write(true).create_new(true).open(path)
        })?;
        Ok((uid, file))
    }

    /// Writes a new content from the beginning, in pieces.
    fn fill(&mut self, file: &File, uid: u32) -> IoResult<()> {
        let mut at = 0;
        for _ in 0..self.random.random_range(1..4) {
            let lines = self.piece();
            self.write(file, uid, at, lines, false)?;
            at += lines;
        }
        if self.random.random_bool(0.3) {
            self.sync(file, uid)?;
        }
        Ok(())
    }

    fn create(&mut self) -> IoResult<()> {
        let name = format!("n{}", self.random.random_range(0..1_000_000));
        if self.model.names.contains_key(&name) {
            return Ok(());
        }
        let (uid, file) = self.make(name)?;
        self.fill(&file, uid)?;
        self.close(file, uid)
    }

    fn replace(&mut self, name: &str) -> IoResult<()> {
        let temporary = format!("tmp{}", self.model.new_uid());
        let (uid, file) = self.make(temporary.clone())?;
        self.fill(&file, uid)?;
        self.close(file, uid)?;
        let paths = (self.dir.join(&temporary), self.dir.join(name));
        let step = Step::Rename {
            from: temporary,
            to: name.to_owned(),
        };
        self.step_of_names(step, || std::fs::rename(paths.0, paths.1))
    }

    fn open(&mut self, name: &str, flags: i32) -> IoResult<File> {
        let path = self.dir.join(name);
        OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)
    }

    /// A range that begins within the file.
    fn range(&mut self, uid: u32) -> (u32, u32) {
        let from = self.random.random_range(0..=self.length(uid));
        let lines = self.piece().min(LINES_MAX.saturating_sub(from)).max(1);
        (from, lines)
    }

    fn overwrite(&mut self, name: &str, uid: u32) -> IoResult<()> {
        let flags = [0, 0, 0, libc::O_SYNC, libc::O_DSYNC][self.random.random_range(0..5)];
        let file = self.open(name, flags)?;
        for _ in 0..self.random.random_range(1..5) {
            let (from, lines) = self.range(uid);
            self.write(&file, uid, from, lines, flags != 0)?;
            if self.random.random_bool(0.3) {
                self.sync(&file, uid)?;
            }
        }
        self.close(file, uid)
    }

    fn append(&mut self, name: &str, uid: u32) -> IoResult<()> {
        use std::io::Write;
        if self.length(uid) > LINES_MAX {
            return self.rewrite(name, uid);
        }
        let mut file = self.open(name, libc::O_APPEND)?;
        for _ in 0..self.random.random_range(1..8) {
            let (from, lines, version) = (self.length(uid), self.piece(), self.version(uid));
            let bytes = encode(uid, version, from, lines);
            let step = Step::Write {
                uid,
                version,
                from,
                lines,
                synced: false,
            };
            self.step(step, || file.write_all(&bytes))?;
            if self.random.random_bool(0.3) {
                self.sync(&file, uid)?;
            }
        }
        self.close(file, uid)
    }

    /// Stores through a mapping, some of them made durable by msync; the descriptor may go before the stores come.
    fn map(&mut self, name: &str, uid: u32, after_close: bool) -> IoResult<()> {
        let length = self.length(uid);
        if length == 0 {
            return self.rewrite(name, uid);
        }
        let file = self.open(name, 0)?;
        self.store(file, uid, after_close)
    }

    /// As a database makes its file: all of its length first, then stores.
    fn map_new(&mut self) -> IoResult<()> {
        let name = format!("m{}", self.random.random_range(0..1_000_000));
        if self.model.names.contains_key(&name) {
            return Ok(());
        }
        let (uid, file) = self.make(name)?;
        self.cut(&file, uid, 1, 2000)?;
        self.store(file, uid, false)
    }

    fn map_emptied(&mut self, name: &str, uid: u32) -> IoResult<()> {
        let step = Step::Truncate {
            uid,
            version: self.version(uid),
            lines: 0,
        };
        let path = self.dir.join(name);
        let file = self.step(step, || {
            OpenOptions::new().read(true).write(true).truncate(true).open(path)
        })?;
        self.cut(&file, uid, 1, 2000)?;
        self.store(file, uid, false)
    }

    /// ftruncate(2) to a length in lines.
    fn cut(&mut self, file: &File, uid: u32, least: u32, most: u32) -> IoResult<()> {
        let lines = self.random.random_range(least..=most);
        let step = Step::Truncate {
            uid,
            version: self.version(uid),
            lines,
        };
        self.step(step, || file.set_len(u64::from(lines) * LINE_BYTES as u64))
    }

    /// Stores through a mapping of all of a file, and closes it.
    fn store(&mut self, file: File, uid: u32, after_close: bool) -> IoResult<()> {
        let length = self.length(uid);
        let map = Map::new(&file, length as usize * LINE_BYTES)?;
        let mut open = Some(file);
        if after_close && let Some(file) = open.take() {
            self.close(file, uid)?;
        }
        for _ in 0..self.random.random_range(1..5) {
            let from = self.random.random_range(0..length);
            let lines = self.piece().min(length - from);
            let version = self.version(uid);
            let bytes = encode(uid, version, from, lines);
            let step = Step::Write {
                uid,
                version,
                from,
                lines,
                synced: false,
            };
            self.step(step, || {
                map.store(from as usize * LINE_BYTES, &bytes);
                Ok(())
            })?;
            if self.random.random_bool(0.5) {
                let range = (from as usize * LINE_BYTES, lines as usize * LINE_BYTES);
                self.step(Step::MapSync { uid, from, lines }, || map.sync(range.0, range.1))?;
            }
        }
        drop(map);
        match open {
            Some(file) => self.close(file, uid),
            None => Ok(()),
        }
    }

    fn rewrite(&mut self, name: &str, uid: u32) -> IoResult<()> {
        let step = Step::Truncate {
            uid,
            version: self.version(uid),
            lines: 0,
        };
        let path = self.dir.join(name);
        let file = self.step(step, || OpenOptions::new().write(true).truncate(true).open(path))?;
        self.fill(&file, uid)?;
        self.close(file, uid)
    }

    fn truncate(&mut self, name: &str, uid: u32) -> IoResult<()> {
        let file = self.open(name, 0)?;
        let most = self.length(uid) + 100;
        self.cut(&file, uid, 0, most)?;
        self.close(file, uid)
    }

    /// A file that stays open for many acts, as a database's or a log's does: one more change of it.
    fn hold(&mut self, name: &str, uid: u32, is_quiet: bool) -> IoResult<()> {
        let (uid, file) = match self.held.take() {
            Some(held) => held,
            None => (uid, self.open(name, 0)?),
        };
        let (from, lines) = self.range(uid);
        self.write(&file, uid, from, lines, false)?;
        if !is_quiet && self.random.random_bool(0.6) {
            self.sync(&file, uid)?;
        }
        if !is_quiet && self.random.random_bool(0.1) {
            return self.close(file, uid);
        }
        self.held = Some((uid, file));
        Ok(())
    }

    /// While the power is on, a file is exactly what its writer made it.
    fn read_back(&mut self, name: &str, uid: u32) -> IoResult<()> {
        let bytes = std::fs::read(self.dir.join(name))?;
        let Some(file) = self.model.files.get(&uid) else {
            return Ok(());
        };
        let mut exact = file.clone();
        exact.adopt(file.current.clone(), false);
        match compare(&bytes, uid, &exact) {
            Ok(_) => Ok(()),
            Err(why) => Err(Error::other(format!("read back {name} (file {uid}): {why}"))),
        }
    }
}

/// A shared mapping for writing.
#[derive(Debug)]
pub struct Map {
    address: *mut u8,
    length: usize,
}

impl Map {
    /// Of the first `length` bytes of a file that is open for reading and writing.
    ///
    /// # Errors
    /// mmap(2)'s.
    pub fn new(file: &File, length: usize) -> IoResult<Map> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: the kernel chooses an address that is free; the descriptor is open.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                protection,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(Error::last_os_error());
        }
        Ok(Map {
            address: address.cast(),
            length,
        })
    }

    /// Stores bytes.
    ///
    /// # Panics
    /// If they do not lie within the mapping.
    pub fn store(&self, offset: usize, bytes: &[u8]) {
        assert!(offset + bytes.len() <= self.length, "stores lie within the mapping");
        // SAFETY: the range lies within the mapping, which is of the file's length, and only this thread changes that.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.address.add(offset), bytes.len()) };
    }

    /// msync(2) of the pages of a range.
    ///
    /// # Errors
    /// msync(2)'s.
    pub fn sync(&self, offset: usize, length: usize) -> IoResult<()> {
        let start = offset - offset % 4096;
        // SAFETY: the range lies within the mapping and starts at a page.
        match unsafe { libc::msync(self.address.add(start).cast(), length + offset - start, libc::MS_SYNC) } {
            0 => Ok(()),
            _ => Err(Error::last_os_error()),
        }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: address and length are those of the mapping, which nobody uses after this.
        unsafe { libc::munmap(self.address.cast(), self.length) };
    }
}
