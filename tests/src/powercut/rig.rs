//! A cluster with all its state on a disk whose power is cut, again and again.

use super::check;
use super::disk::PowerDisk;
use super::layer::CutStats;
use super::load::{self, Work, follow};
use super::model::Model;
use super::write_out::{WriteOut, write_out};
use crate::cluster::{LocalBuilder, START_LIMIT};
use crate::mounts::{self, MountPoint};
use crate::process::{Process, run, sh};
use crate::{ports, tools, tree, wait};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Threads of the load.
pub(super) const THREADS: usize = 4;
const DISK_MIB: u64 = 2048;
const LIMIT: Duration = Duration::from_secs(60);
const PERSIST_LIMIT: Duration = Duration::from_secs(120);
/// Where uploads to a folder begin; those that a cut ended are cleared up when they are old.
const UPLOADS: &[u8] = b".alluxio_ufs_persistence/";
/// In one round of so many, files are persisted and freed before they are looked at.
const FREED: u32 = 3;
/// How long the load is quiet before a cut, if it is.
pub(super) const QUIET_MS: std::ops::Range<u64> = 10..150;
/// One cut in so many is followed by another one while the cluster recovers.
const AGAIN: u32 = 5;

/// The programs and numbers of a run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// `powercut_disk`.
    pub disk: PathBuf,
    /// `powercut_load`.
    pub load: PathBuf,
    /// What all chances are drawn from.
    pub seed: u64,
    /// Cuts under load.
    pub cuts: u64,
    /// Whether the disk forgets what it was told to sync.
    pub lying: bool,
}

/// What a run saw.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Cuts, with those during recovery.
    pub cuts: u64,
    /// Steps of the load that were acknowledged.
    pub steps: usize,
    /// Writes that reached the disk, did not, and did in part.
    pub writes: (usize, usize, usize),
    /// From the start of the process until the mount answered, longest first.
    pub starts: Vec<Duration>,
}

impl Report {
    /// Counts a cut.
    pub(super) fn add(&mut self, stats: CutStats) {
        self.cuts += 1;
        self.writes.0 += stats.kept;
        self.writes.1 += stats.dropped;
        self.writes.2 += stats.torn;
    }
}

/// Cuts the power `plan.cuts` times; ends with everything persisted and compared.
///
/// # Errors
/// What was wrong first, with the seed.
pub fn run_plan(plan: &Plan) -> Result<Report, String> {
    let mut rig = Rig::new(plan);
    let mut report = Report::default();
    let run = AssertUnwindSafe(|| {
        (0..plan.cuts)
            .try_for_each(|cut| rig.round(cut, &mut report).map_err(|why| format!("cut {cut}: {why}")))
            .and_then(|()| rig.finish(&mut report).map_err(|why| format!("at the end: {why}")))
    });
    // A command that does not end panics; its evidence is kept, too.
    let result = catch_unwind(run).unwrap_or_else(|_| Err("it panicked".to_owned()));
    report.starts.sort_by_key(|start| std::cmp::Reverse(*start));
    result.map(|()| report).map_err(|why| {
        rig.keep_evidence();
        format!("seed {}: {why}", plan.seed)
    })
}

/// A bind mount of a folder onto itself that shares what is mounted beneath it with namespaces made out of this one.
struct SharedFolder(PathBuf);

impl SharedFolder {
    fn new(path: &Path) -> SharedFolder {
        let shown = path.display();
        sh(
            &format!("mount --bind {shown} {shown}; mount --make-shared {shown}"),
            LIMIT,
        )
        .ok();
        SharedFolder(path.to_owned())
    }
}

impl Drop for SharedFolder {
    fn drop(&mut self) {
        // Nothing else can be done about a failure.
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

struct Rig<'a> {
    plan: &'a Plan,
    random: StdRng,
    models: Vec<Model>,
    /// What the processes of the last round printed.
    said: String,
    /// In the order in which they have to go.
    point: MountPoint,
    disk: PowerDisk,
    _shared: SharedFolder,
    dir: tempfile::TempDir,
    rpc_port: u16,
    /// Everything as it is by default, where chances would be drawn.
    is_plain: bool,
}

/// A cluster on a disk whose power is cut at a moment that the test chooses.
pub struct Scenario<'a> {
    rig: Rig<'a>,
    process: Option<Process>,
}

impl<'a> Scenario<'a> {
    /// Starts it, with nothing in it.
    ///
    /// # Panics
    /// If it does not start.
    pub fn new(plan: &'a Plan) -> Scenario<'a> {
        let mut rig = Rig::new(plan);
        rig.is_plain = true;
        let mut scenario = Scenario { rig, process: None };
        scenario.start();
        scenario
    }

    fn start(&mut self) {
        let (process, _) = self.rig.start_and_wait().unwrap_or_else(|why| panic!("{why}"));
        self.process = Some(process);
    }

    /// Where it is mounted.
    pub fn mount(&self) -> &Path {
        self.rig.point.path()
    }

    /// Runs a command of the command line.
    ///
    /// # Panics
    /// If it fails.
    pub fn command(&self, words: &[&str]) {
        let process = self.process.as_ref().expect("it runs");
        self.rig
            .command_line(words, process)
            .unwrap_or_else(|why| panic!("{why}"));
    }

    /// Cuts the power and starts again. `held`: what programs have open and mapped until then.
    ///
    /// # Panics
    /// If it does not start.
    pub fn cut(&mut self, held: impl Sized) {
        let process = self.process.take().expect("it runs");
        let cut = self.rig.cut_power(vec![process], held, &mut Report::default());
        cut.unwrap_or_else(|why| panic!("{why}"));
        self.start();
    }

    /// What the cluster says, for messages.
    pub fn said(&self) -> String {
        self.process.as_ref().map(Process::log).unwrap_or_default()
    }
}

impl<'a> Rig<'a> {
    fn new(plan: &'a Plan) -> Rig<'a> {
        let dir = tools::scratch("powercut-");
        let shared = SharedFolder::new(dir.path());
        let mut disk = PowerDisk::new(&plan.disk, dir.path(), DISK_MIB);
        std::fs::create_dir(dir.path().join("store")).expect("make the under-storage");
        if plan.lying {
            disk.lie();
        }
        Rig {
            plan,
            random: StdRng::seed_from_u64(plan.seed),
            models: vec![Model::default(); THREADS],
            said: String::new(),
            point: MountPoint::new(dir.path().join("mnt")),
            disk,
            _shared: shared,
            dir,
            rpc_port: ports::free(),
            is_plain: false,
        }
    }

    fn store(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    /// What differs from start to start; small numbers, so that little work does much.
    fn options(&mut self) -> BTreeMap<String, String> {
        let mut options = BTreeMap::new();
        let mut set = |key: &str, value: &str| options.insert(key.to_owned(), value.to_owned());
        let drawn = !self.is_plain;
        if drawn && self.random.random_ratio(1, 3) {
            set("alluxio.fuse.passthrough.enabled", "false");
        }
        if drawn && self.random.random_bool(0.5) && !load::is_left_out("Track") {
            set("alluxio.worker.file.overwrite.track.size", "64KB");
        }
        if drawn && self.random.random_bool(0.5) {
            set("alluxio.master.journal.checkpoint.period.entries", "300");
        }
        set("alluxio.master.journal.log.size.bytes.max", "1MB");
        set("alluxio.master.rpc.port", &self.rpc_port.to_string());
        options
    }

    /// The cluster on the disk, as after a boot of its own: page caches that are gone show as another boot id.
    fn command(&mut self) -> Command {
        let options = self.options();
        let builder = LocalBuilder::at(self.dir.path())
            .ufs(tools::text(&self.store()))
            .data(&self.disk.path().join("data"))
            .options(options);
        let boot = self.dir.path().join("boot_id");
        let (a, b): (u64, u64) = (self.random.random(), self.random.random());
        let id = format!(
            "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}\n",
            a >> 32,
            a & 0xffff,
            b >> 52,
            b >> 40 & 0xfff,
            b & 0xffff_ffff_ffff
        );
        std::fs::write(&boot, id).expect("write a boot id");
        let mut command = builder.command();
        let c = |text: &str| CString::new(text).expect("no NUL in a path");
        let (boot, real, proc) = (c(tools::text(&boot)), c("/proc/sys/kernel/random/boot_id"), c("/proc"));
        // SAFETY: only system calls between fork and exec, with strings made before.
        unsafe {
            command.pre_exec(move || {
                let null = std::ptr::null();
                let private = libc::MS_PRIVATE | libc::MS_REC;
                let failed = libc::unshare(libc::CLONE_NEWNS) != 0
                    || libc::mount(null, proc.as_ptr(), null, private, null.cast()) != 0
                    || libc::mount(boot.as_ptr(), real.as_ptr(), null, libc::MS_BIND, null.cast()) != 0;
                match failed {
                    true => Err(std::io::Error::last_os_error()),
                    false => Ok(()),
                }
            });
        }
        command
    }

    fn start(&mut self) -> Process {
        let mut command = self.command();
        Process::spawn("alluxio local", &mut command)
    }

    /// Starts the cluster, waits until the mount answers, and looks whether everything is right.
    fn start_and_check(&mut self, report: &mut Report) -> Result<Process, String> {
        let (process, took) = self.start_and_wait()?;
        report.starts.push(took);
        if self.random.random_ratio(1, FREED) {
            // What is read from now on is fetched again, and in the page cache only.
            self.command_line(&["fs", "persist", "/"], &process)?;
            self.command_line(&["fs", "free", "/"], &process)?;
        }
        let mut wrong = Vec::new();
        for (thread, model) in self.models.iter_mut().enumerate() {
            let folder = self.point.path().join(load::folder(thread));
            if report.cuts == 0 {
                std::fs::create_dir(&folder).map_err(|error| format!("make {}: {error}", folder.display()))?;
            }
            let found = check::check(&folder, model);
            wrong.extend(found.into_iter().map(|why| format!("{}/{why}", load::folder(thread))));
            if !wrong.is_empty() {
                break;
            }
        }
        if wrong.is_empty() {
            return Ok(process);
        }
        Err(format!("{}\nthe cluster said:\n{}", wrong.join("\n"), process.log()))
    }

    /// Starts the cluster and waits until the mount answers; answers how long that took.
    fn start_and_wait(&mut self) -> Result<(Process, Duration), String> {
        let began = Instant::now();
        let mut process = self.start();
        let path = self.point.path().to_owned();
        loop {
            if mounts::is_mounted(&path) && std::fs::metadata(&path).is_ok() {
                break;
            }
            if let Some(status) = process.ended() {
                return Err(format!("the cluster does not start ({status}): {}", process.log()));
            }
            if began.elapsed() > START_LIMIT {
                return Err(format!(
                    "the cluster does not serve within {START_LIMIT:?}: {}",
                    process.log()
                ));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok((process, began.elapsed()))
    }

    /// Runs a command of the command line.
    fn command_line(&self, words: &[&str], process: &Process) -> Result<(), String> {
        let mut command = Command::new(tools::alluxio());
        command
            .args(words)
            .arg("-D")
            .arg(format!("alluxio.master.rpc.port={}", self.rpc_port));
        let done = run(&mut command, PERSIST_LIMIT);
        match done.code {
            0 => Ok(()),
            _ => Err(format!("{}: {}\n{}", words.join(" "), done.stderr, process.log())),
        }
    }

    /// Start, check, load, cut; sometimes another cut while it recovers.
    fn round(&mut self, cut: u64, report: &mut Report) -> Result<(), String> {
        self.said.clear();
        let process = self.start_and_check(report)?;
        let folder = self.disk.path().join("data");
        let writing = self
            .random
            .random_bool(0.5)
            .then(|| WriteOut::start(&folder, self.random.random()));
        let work = Work {
            program: &self.plan.load,
            seed: self.plan.seed.wrapping_mul(1000) + cut,
            work: self.dir.path(),
            syncs: false,
        };
        let load = work.start(self.point.path(), &self.models, &mut self.random)?;
        if self.random.random_bool(0.5) {
            work.quieten()?;
            std::thread::sleep(Duration::from_millis(self.random.random_range(QUIET_MS)));
        }
        if self.random.random_bool(0.7) {
            write_out(&folder, &mut self.random);
            // What the disk has by then is drawn for; the rest is lost with the page cache.
            std::thread::sleep(Duration::from_millis(self.random.random_range(0..25)));
        }
        self.cut_power(vec![load, process], writing, report)?;
        report.steps += follow(self.dir.path(), &mut self.models)?;
        if self.random.random_ratio(1, AGAIN) {
            let process = self.start();
            std::thread::sleep(Duration::from_millis(self.random.random_range(0..800)));
            self.cut_power(vec![process], (), report)?;
        }
        Ok(())
    }

    /// The moment of the cut: nothing reaches the disk any more, all processes end, and what was not synced is drawn for.
    /// `held` is what others do with the disk until then, and have open.
    fn cut_power(&mut self, processes: Vec<Process>, held: impl Sized, report: &mut Report) -> Result<(), String> {
        self.disk.freeze();
        for process in &processes {
            process.signal(nix::sys::signal::Signal::SIGKILL);
        }
        self.disk.off();
        for mut process in processes {
            process.wait(LIMIT);
            self.said.push_str(&process.log());
        }
        drop(held);
        self.point.detach();
        let stats = self.disk.cut(self.random.random())?;
        report.add(stats);
        Ok(())
    }

    /// Once more everything is there; then it reaches the under-storage, which is as the mount is.
    fn finish(&mut self, report: &mut Report) -> Result<(), String> {
        let mut process = self.start_and_check(report)?;
        self.command_line(&["fs", "persist", "/"], &process)?;
        let (mount, store) = (tree::files(self.point.path()), tree::files(&self.store()));
        for (name, bytes) in &mount {
            let shown = String::from_utf8_lossy(name);
            match store.get(name) {
                None => return Err(format!("{shown} is not in the under-storage: {}", process.log())),
                Some(stored) if stored != bytes => return Err(format!("{shown} differs in the under-storage")),
                Some(_) => {}
            }
        }
        let is_ours = |name: &&Vec<u8>| !mount.contains_key(*name) && !name.starts_with(UPLOADS);
        if let Some(name) = store.keys().find(is_ours) {
            return Err(format!(
                "{} is in the under-storage alone",
                String::from_utf8_lossy(name)
            ));
        }
        process.signal(nix::sys::signal::Signal::SIGTERM);
        process.wait(LIMIT);
        wait::until("the mount is gone", LIMIT, || !mounts::is_mounted(self.point.path()));
        self.disk.fsck()
    }

    /// Copies data folder and logs to `ALLUXIO_TEST_EVIDENCE`, if that is set.
    fn keep_evidence(&self) {
        let Some(target) = std::env::var_os("ALLUXIO_TEST_EVIDENCE") else {
            return;
        };
        let target = PathBuf::from(target).join(format!("seed-{}", self.plan.seed));
        let (from, to) = (self.dir.path().display(), target.display());
        let line = format!(
            "mkdir -p {to}; cp -a --sparse=always {from}/disk/data {from}/store {from}/log-* {from}/model-* {to}/"
        );
        let copied = sh(&line, LIMIT);
        let kept = std::fs::write(target.join("said"), &self.said);
        if copied.code != 0 || kept.is_err() {
            eprintln!("keep the evidence in {to}: {}", copied.stderr);
        }
    }
}
