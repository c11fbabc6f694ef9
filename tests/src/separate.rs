//! Master, worker and any number of mounts, each a process of its own.

use crate::cluster::START_LIMIT;
use crate::mounts::{self, MountPoint};
use crate::process::{self, Output};
use crate::{Process, ports, tools, wait};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// How long a command may take.
const COMMAND_LIMIT: Duration = Duration::from_secs(120);

/// How long a role may take to stop.
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// A cluster on ports and folders of its own, over a local folder.
#[derive(Debug)]
pub struct Separate {
    dir: tempfile::TempDir,
    rpc_port: u16,
    worker_port: u16,
    master: Process,
    worker: Process,
}

impl Separate {
    /// Starts master and worker.
    #[track_caller]
    pub fn start(options: &[(&str, &str)]) -> Separate {
        Self::start_in(tools::scratch("separate-"), options)
    }

    /// The same with the folder of the cache elsewhere, on a disk of its own.
    #[track_caller]
    pub fn start_with_cache(cache: &Path, options: &[(&str, &str)]) -> Separate {
        let dir = tools::scratch("separate-");
        std::fs::create_dir_all(cache).expect("make the folder of the cache");
        std::fs::create_dir(dir.path().join("work")).expect("make the work folder");
        std::os::unix::fs::symlink(cache, dir.path().join("work/cache")).expect("link the folder of the cache");
        Self::start_in(dir, options)
    }

    #[track_caller]
    fn start_in(dir: tempfile::TempDir, options: &[(&str, &str)]) -> Separate {
        let (rpc_port, worker_port) = (ports::free(), ports::free());
        let (root, work) = (dir.path().join("ufs"), dir.path().join("work"));
        std::fs::create_dir(&root).expect("make the root folder");
        let mut properties: BTreeMap<String, String> = BTreeMap::new();
        let mut set = |key: &str, value: String| properties.insert(key.to_owned(), value);
        set("alluxio.work.dir", tools::text(&work).to_owned());
        set(
            "alluxio.master.mount.table.root.ufs",
            format!("file://{}", root.display()),
        );
        set("alluxio.master.rpc.port", rpc_port.to_string());
        set("alluxio.worker.rpc.port", worker_port.to_string());
        set("alluxio.master.web.port", ports::free().to_string());
        set("alluxio.worker.web.port", ports::free().to_string());
        for (key, value) in options {
            set(key, (*value).to_owned());
        }
        let lines: String = properties
            .iter()
            .map(|(key, value)| format!("{key}={value}\n"))
            .collect();
        std::fs::write(dir.path().join("alluxio-site.properties"), lines).expect("write the configuration");
        let master = start_role(dir.path(), "master", rpc_port);
        let worker = start_role(dir.path(), "worker", worker_port);
        Separate {
            dir,
            rpc_port,
            worker_port,
            master,
            worker,
        }
    }

    /// Mounts the namespace and waits until it is there.
    #[track_caller]
    pub fn mount(&self, name: &str) -> Mount {
        self.mount_with(name, "")
    }

    /// The same with mount options.
    #[track_caller]
    pub fn mount_with(&self, name: &str, options: &str) -> Mount {
        mount(self.dir.path(), self.rpc_port, name, options)
    }

    /// kill -9 of the master, and another one over its folders.
    #[track_caller]
    pub fn restart_master(&mut self) {
        self.master.kill();
        self.master = start_role(self.dir.path(), "master", self.rpc_port);
    }

    /// kill -9 of the worker, and another one over its folders.
    #[track_caller]
    pub fn restart_worker(&mut self) {
        self.worker.kill();
        self.worker = start_role(self.dir.path(), "worker", self.worker_port);
    }

    /// kill -9 of the master; nothing serves until [`Separate::restart_master`].
    pub fn kill_master(&mut self) {
        self.master.kill();
    }

    /// Where `mount -t alluxio` finds it.
    pub fn source(&self) -> String {
        format!("localhost:{}/", self.rpc_port)
    }

    /// The folder that holds all of it.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The folder that is the root's under-storage.
    pub fn ufs(&self) -> PathBuf {
        self.dir.path().join("ufs")
    }

    /// Runs an `alluxio` command against it.
    #[track_caller]
    pub fn alluxio(&self, arguments: &[&str]) -> Output {
        process::run(role(self.dir.path()).args(arguments), COMMAND_LIMIT)
    }

    /// The worker.
    pub fn worker(&mut self) -> &mut Process {
        &mut self.worker
    }

    /// The master.
    pub fn master(&mut self) -> &mut Process {
        &mut self.master
    }
}

#[track_caller]
fn mount(dir: &Path, rpc_port: u16, name: &str, options: &str) -> Mount {
    let point = MountPoint::new(dir.join(name));
    let mut command = role(dir);
    command.args(["fuse", "mount"]);
    if !options.is_empty() {
        command.args(["-o", options]);
    }
    command.arg(format!("alluxio://localhost:{rpc_port}/"));
    command.arg(point.path());
    let mut process = Process::spawn(name, &mut command);
    process.wait_ready("the mount", START_LIMIT, || mounts::is_mounted(point.path()));
    Mount { process, point }
}

fn role(dir: &Path) -> Command {
    let mut command = Command::new(tools::alluxio());
    command.env("ALLUXIO_CONF_DIR", dir);
    command
}

#[track_caller]
fn start_role(dir: &Path, name: &str, port: u16) -> Process {
    let mut process = Process::spawn(name, role(dir).arg(name));
    process.wait_ready("its port", START_LIMIT, || wait::listens(port));
    if name == "worker" {
        // It is bound a moment after the port. A mount that looks before goes through the daemon for two seconds.
        let socket = dir.join("work/cache/worker.sock");
        process.wait_ready("its socket", START_LIMIT, || socket.exists());
    }
    process
}

/// A mount with its daemon.
#[derive(Debug)]
pub struct Mount {
    process: Process,
    point: MountPoint,
}

impl Mount {
    /// Mount point.
    pub fn path(&self) -> &Path {
        self.point.path()
    }

    /// A file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.point.path().join(name)
    }

    /// The daemon.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// kill -9 of the daemon; the dead mount is detached.
    pub fn kill(&mut self) {
        self.process.kill();
        self.point.detach();
    }

    /// SIGTERM, and waits for the clean end.
    #[track_caller]
    pub fn stop(mut self) {
        self.process.signal(nix::sys::signal::Signal::SIGTERM);
        let status = self.process.wait(STOP_LIMIT);
        assert!(status.success(), "{status}: {}", self.process.log());
    }
}

/// Another host beside the one of a [`Separate`]: a worker and mounts that call themselves by another name.
#[derive(Debug)]
pub struct Host {
    dir: PathBuf,
    rpc_port: u16,
    worker: Process,
}

impl Separate {
    /// Starts the worker of another host, whose name is `name`: an address or name of this machine.
    #[track_caller]
    pub fn host(&self, name: &str) -> Host {
        let dir = self.dir.path().join(format!("host-{name}"));
        std::fs::create_dir(&dir).expect("make the folder of a host");
        let socket = dir.join("socket");
        std::fs::create_dir(&socket).expect("make the folder of a socket");
        let base = self.dir.path().join("alluxio-site.properties");
        let base = std::fs::read_to_string(base).expect("read the configuration");
        let port = ports::free();
        let own = [
            ("alluxio.work.dir", dir.join("work").display().to_string()),
            ("alluxio.worker.rpc.port", port.to_string()),
            ("alluxio.worker.web.port", ports::free().to_string()),
            ("alluxio.worker.hostname", name.to_owned()),
            ("alluxio.user.hostname", name.to_owned()),
            (
                "alluxio.worker.data.server.domain.socket.address",
                socket.join("worker.sock").display().to_string(),
            ),
            (
                "alluxio.security.cluster.secret.file",
                self.dir.path().join("work/cluster.secret").display().to_string(),
            ),
        ];
        let is_own = |line: &&str| own.iter().any(|(key, _)| line.starts_with(&format!("{key}=")));
        let common = base
            .lines()
            .filter(|line| !is_own(line))
            .map(|line| format!("{line}\n"));
        let own = own.iter().map(|(key, value)| format!("{key}={value}\n"));
        let lines: String = common.chain(own).collect();
        std::fs::write(dir.join("alluxio-site.properties"), lines).expect("write the configuration");
        // Who reaches a worker's socket is on its host: so each host's is seen by nobody else.
        let mut command = Command::new("unshare");
        command.env("ALLUXIO_CONF_DIR", &dir);
        let hide = "mount -t tmpfs none \"$1\"; mount -t tmpfs none \"$2\"; exec \"$0\" worker";
        command.args(["--mount", "sh", "-ec", hide]);
        command
            .arg(tools::alluxio())
            .arg(&socket)
            .arg(self.dir.path().join("work/cache"));
        let mut worker = Process::spawn("worker of another host", &mut command);
        worker.wait_ready("its port", START_LIMIT, || wait::listens(port));
        Host {
            dir,
            rpc_port: self.rpc_port,
            worker,
        }
    }
}

impl Host {
    /// Mounts the namespace, where this host alone sees it, and waits until it is there.
    #[track_caller]
    pub fn mount(&self, name: &str) -> Mount {
        let (dir, worker) = (self.dir.join(name), self.worker.id());
        std::fs::create_dir(&dir).expect("make a mount point");
        let mut command = Command::new("nsenter");
        command.env("ALLUXIO_CONF_DIR", &self.dir);
        command.arg(format!("--mount=/proc/{worker}/ns/mnt"));
        command.arg(tools::alluxio()).args(["fuse", "mount"]);
        command.arg(format!("alluxio://localhost:{}/", self.rpc_port)).arg(&dir);
        let mut process = Process::spawn(name, &mut command);
        process.wait_ready("the mount", START_LIMIT, || mounts::is_mounted_for(worker, &dir));
        // The way into what another process sees.
        let seen = PathBuf::from(format!("/proc/{worker}/root{}", dir.display()));
        Mount {
            process,
            point: MountPoint::of_another(seen),
        }
    }
}
