//! `alluxio` processes under test.

use crate::modes::Mode;
use crate::mounts::{self, MountPoint};
use crate::process::{Output, run};
use crate::{Process, ports, tools};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// How long a role may take to serve. The promise is 3 s (asserted where it matters); debug builds on a loaded machine get more.
pub const START_LIMIT: Duration = Duration::from_secs(30);

/// How long a command may take. Persisting what a test wrote is bound by the store, on a machine that may be busy.
const COMMAND_LIMIT: Duration = Duration::from_secs(600);

/// What talks to the kernel in these tests, instead of the default: `fuser` or `dev`.
pub fn transport() -> Option<String> {
    std::env::var("ALLUXIO_TEST_TRANSPORT")
        .ok()
        .filter(|word| !word.is_empty())
}

/// Whether it is `dev`, the default, which can what `fuser` cannot.
pub fn on_dev() -> bool {
    transport().is_none_or(|word| word == "dev")
}

/// Everything an `alluxio local` needs, with ports and folders of its own.
#[derive(Debug)]
pub struct LocalBuilder {
    ufs: Option<String>,
    data: PathBuf,
    mount: PathBuf,
    options: BTreeMap<String, String>,
    environment: BTreeMap<String, String>,
    rpc_port: u16,
    descriptors: Option<u32>,
    keep: Option<tempfile::TempDir>,
}

impl Default for LocalBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl LocalBuilder {
    /// A fresh data folder and mount point in a scratch folder.
    pub fn new() -> LocalBuilder {
        let dir = tools::scratch("local-");
        let mut builder = LocalBuilder::at(dir.path());
        builder.keep = Some(dir);
        builder
    }

    /// Data folder and mount point beneath `base`, which the caller keeps.
    pub fn at(base: &Path) -> LocalBuilder {
        let rpc_port = ports::free();
        let mut options = BTreeMap::new();
        options.insert("alluxio.master.rpc.port".to_owned(), rpc_port.to_string());
        for key in [
            "alluxio.worker.rpc.port",
            "alluxio.master.web.port",
            "alluxio.worker.web.port",
        ] {
            options.insert(key.to_owned(), ports::free().to_string());
        }
        if let Some(transport) = transport() {
            options.insert("alluxio.fuse.transport".to_owned(), transport);
        }
        LocalBuilder {
            ufs: None,
            data: base.join("data"),
            mount: base.join("mnt"),
            options,
            environment: BTreeMap::new(),
            rpc_port,
            descriptors: None,
            keep: None,
        }
    }

    /// What to mount at `/`.
    pub fn ufs(mut self, uri: impl Into<String>) -> Self {
        self.ufs = Some(uri.into());
        self
    }

    /// Keeps the cluster's state in another folder.
    pub fn data(mut self, dir: &Path) -> Self {
        self.data = dir.to_owned();
        self
    }

    /// A property.
    pub fn option(mut self, key: &str, value: impl Into<String>) -> Self {
        self.options.insert(key.to_owned(), value.into());
        self
    }

    /// A variable of its environment.
    pub fn variable(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.insert(name.to_owned(), value.into());
        self
    }

    /// The most descriptors that it may have, which it cannot raise.
    pub fn descriptors(mut self, hard_limit: u32) -> Self {
        self.descriptors = Some(hard_limit);
        self
    }

    /// Many properties.
    pub fn options(mut self, options: BTreeMap<String, String>) -> Self {
        self.options.extend(options);
        self
    }

    /// The command line without `-- COMMAND`.
    pub fn command(&self) -> Command {
        let mut command = match self.descriptors {
            None => Command::new(tools::alluxio()),
            Some(limit) => {
                let mut command = Command::new("setpriv");
                command.args(["--bounding-set=-sys_resource", "--inh-caps=-sys_resource", "prlimit"]);
                command.arg(format!("--nofile={limit}:{limit}")).arg(tools::alluxio());
                command
            }
        };
        command
            .arg("local")
            .arg("--mount")
            .arg(&self.mount)
            .arg("--data")
            .arg(&self.data);
        if let Some(ufs) = &self.ufs {
            command.arg("--ufs").arg(ufs);
        }
        for (key, value) in &self.options {
            command.arg("-D").arg(format!("{key}={value}"));
        }
        command.envs(&self.environment);
        command
    }

    /// Mount point.
    pub fn mount(&self) -> &Path {
        &self.mount
    }

    /// Runs `alluxio local … -- sh -ec LINE`; `M` is the mount point in the line's environment.
    #[track_caller]
    pub fn run(&self, line: &str, limit: Duration) -> Output {
        let point = MountPoint::new(self.mount.clone());
        let mut command = self.command();
        command.env("M", &self.mount).args(["--", "sh", "-ec", line]);
        let output = run(&mut command, limit);
        drop(point);
        output
    }

    /// Starts it and waits until the mount serves.
    #[track_caller]
    pub fn start(self) -> Local {
        let point = MountPoint::new(self.mount.clone());
        let mut process = Process::spawn("alluxio local", &mut self.command());
        process.wait_ready("the mount", START_LIMIT, || mounts::is_mounted(&self.mount));
        Local {
            process,
            point,
            builder: self,
        }
    }
}

/// A running `alluxio local`.
#[derive(Debug)]
pub struct Local {
    process: Process,
    point: MountPoint,
    builder: LocalBuilder,
}

impl Local {
    /// Mount point.
    pub fn mount(&self) -> &Path {
        self.point.path()
    }

    /// Data folder.
    pub fn data(&self) -> &Path {
        &self.builder.data
    }

    /// A property that it was started with.
    pub fn option(&self, key: &str) -> &str {
        self.builder.options.get(key).map_or("", String::as_str)
    }

    /// What the daemon printed.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// The daemon.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Runs an `alluxio` command against it.
    #[track_caller]
    pub fn alluxio(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(tools::alluxio());
        command.args(arguments);
        command
            .arg("-D")
            .arg(format!("alluxio.master.rpc.port={}", self.builder.rpc_port));
        run(&mut command, COMMAND_LIMIT)
    }

    /// SIGTERM, and waits for the clean end.
    #[track_caller]
    pub fn stop(mut self, limit: Duration) -> (i32, String) {
        self.process.signal(nix::sys::signal::Signal::SIGTERM);
        let status = self.process.wait(limit);
        (status.code().unwrap_or(-1), self.process.log())
    }

    /// SIGTERM, waits for the clean end, and starts again over the same folders. Answers also what the first one printed.
    #[track_caller]
    pub fn restart(mut self, limit: Duration) -> (Local, String) {
        self.process.signal(nix::sys::signal::Signal::SIGTERM);
        let status = self.process.wait(limit);
        let log = self.process.log();
        assert!(status.success(), "{status}: {log}");
        (self.start_again(), log)
    }

    /// As [`Local::restart`], with something done while nothing runs.
    #[track_caller]
    pub fn restart_after(mut self, limit: Duration, between: impl FnOnce()) -> Local {
        self.process.signal(nix::sys::signal::Signal::SIGTERM);
        let status = self.process.wait(limit);
        assert!(status.success(), "{status}: {}", self.process.log());
        between();
        self.start_again()
    }

    /// kill -9, detaches the dead mount, and starts again over the same folders.
    #[track_caller]
    pub fn crash_and_restart(mut self) -> Local {
        self.process.kill();
        self.point.detach();
        self.start_again()
    }

    /// Over the same folders, after the process has ended.
    fn start_again(self) -> Local {
        let Local {
            process,
            point,
            builder,
        } = self;
        drop((process, point));
        builder.start()
    }

    /// Process id of the daemon.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Resident memory of the daemon in MiB, from /proc.
    pub fn rss_mib(&self) -> f64 {
        rss_mib(self.process.id())
    }
}

/// Another mount of a running [`Local`], in a process of its own.
#[derive(Debug)]
pub struct Mount {
    process: Process,
    point: MountPoint,
}

impl Mount {
    /// Mounts at `dir` and waits until the mount serves.
    #[track_caller]
    pub fn start(local: &Local, dir: &Path, mode: Mode) -> Mount {
        let point = MountPoint::new(dir.to_owned());
        let mut command = Command::new(tools::alluxio());
        command.args(["fuse", "mount"]);
        let mut options = Vec::new();
        if mode == Mode::Daemon {
            options.push("passthrough=off".to_owned());
        }
        if let Some(transport) = transport() {
            options.push(format!("transport={transport}"));
        }
        if !options.is_empty() {
            command.args(["-o", &options.join(",")]);
        }
        command
            .arg("-D")
            .arg(format!("alluxio.master.rpc.port={}", local.builder.rpc_port))
            .arg("/")
            .arg(dir);
        let mut process = Process::spawn("alluxio fuse mount", &mut command);
        process.wait_ready("the mount", START_LIMIT, || mounts::is_mounted(dir));
        Mount { process, point }
    }

    /// Mount point.
    pub fn path(&self) -> &Path {
        self.point.path()
    }

    /// The daemon.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // In order: the daemon unmounts at SIGTERM. What is left then is detached by the mount point's guard.
        self.process.signal(nix::sys::signal::Signal::SIGTERM);
        let start = std::time::Instant::now();
        while self.process.ended().is_none() && start.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Resident memory of a process in MiB: anonymous and shared, without file pages, which belong to the page cache.
pub fn rss_mib(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("read /proc/PID/status");
    let kib: f64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.trim().trim_end_matches(" kB").trim().parse().ok())
        .expect("VmRSS in /proc/PID/status");
    kib / 1024.0
}
