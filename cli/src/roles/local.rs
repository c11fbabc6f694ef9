//! `alluxio local`: master, worker and mount in one process, with direct calls between them.

use super::mounting::{MountPart, MountRequest};
use super::parts::{MasterPart, WorkerPart};
use super::{notify_ready, run, signals};
use crate::args::LocalArgs;
use alluxio_client::{DirectWorkers, MasterClient, workers::host_name};
use alluxio_common::config::{Configuration, Key, keys};
use alluxio_fuse::mount::{MountOptions, mount_at};
use alluxio_master::service::MasterOptions;
use alluxio_proto::master::{Counted, GetReport, Op, Report, WaitPersisted};
use alluxio_proto::types::Caller;
use alluxio_proto::{ErrorKind, FsError, FsResult, MasterApi, WorkerApi};
use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Persisting that takes longer than this is shown.
const QUIET_TIME: Duration = Duration::from_secs(2);
/// Between two lines of progress.
const PROGRESS_PAUSE: Duration = Duration::from_secs(2);
/// After Ctrl-C or SIGTERM, persisting may take so long; what is left goes on at the next start. systemd kills after 90 s.
const STOP_PERSIST_MAX: Duration = Duration::from_secs(60);
/// After COMMAND it may take so long: it is what the user asked for.
const COMMAND_PERSIST_MAX: Duration = Duration::from_secs(24 * 3600);

/// Runs it; returns the exit status.
///
/// # Errors
/// Of starting, and of persisting what COMMAND wrote.
pub fn local(conf: &Configuration, args: &LocalArgs) -> FsResult<u8> {
    let folders = Folders::prepare(conf, args)?;
    let conf = folders.configure(conf, args)?;
    run(async {
        let stop = CancellationToken::new();
        signals::cancel_on_signal(&stop)?;
        let node = Node::start(&conf, &folders, &stop).await?;
        notify_ready();
        let status = if args.command.is_empty() {
            node.serve(&conf, &folders, &stop).await
        } else {
            node.run_command(&args.command, &stop).await
        };
        node.stop(
            if args.command.is_empty() {
                STOP_PERSIST_MAX
            } else {
                COMMAND_PERSIST_MAX
            },
            status,
        )
        .await
    })
}

/// Where things are.
struct Folders {
    mount: PathBuf,
    data: PathBuf,
    /// There is a cluster in the data folder already.
    formatted: bool,
}

impl Folders {
    fn prepare(conf: &Configuration, args: &LocalArgs) -> FsResult<Folders> {
        let mount = check_mount_point(&args.mount)?;
        let data = args.data.clone().unwrap_or_else(default_data);
        let data = std::path::absolute(&data)
            .map_err(|error| FsError::from_io(format!("find the data folder {}", data.display()), &error))?;
        if data.starts_with(&mount) {
            let why = format!(
                "the data folder {} lies inside the mount point {}: choose another with --data",
                data.display(),
                mount.display()
            );
            return Err(FsError::new(ErrorKind::InvalidArgument, why));
        }
        alluxio_common::crashsafe::create_dir_all(&data)
            .map_err(|error| FsError::from_io(format!("make the data folder {}", data.display()), &error))?;
        let journal = if conf.is_set(&keys::master::JOURNAL_FOLDER) {
            PathBuf::from(conf.string(&keys::master::JOURNAL_FOLDER))
        } else {
            data.join("journal")
        };
        let formatted = alluxio_journal::is_formatted(&journal);
        Ok(Folders { mount, data, formatted })
    }

    /// The configuration with everything under the data folder that no key puts elsewhere.
    fn configure(&self, conf: &Configuration, args: &LocalArgs) -> FsResult<Configuration> {
        let mut conf = conf.clone();
        let mut place = |key: &Key, folder: &str| {
            if !conf.is_set(key) {
                conf.set(key.name, &self.data.join(folder).to_string_lossy());
            }
        };
        place(&keys::general::WORK_DIR, "");
        place(&keys::master::JOURNAL_FOLDER, "journal");
        place(&keys::master::METASTORE_DIR, "metastore");
        place(&keys::worker::WORKER_TIER0_PATH, "cache");
        if let Some(ufs) = &args.ufs {
            conf.set(keys::master::ROOT_UFS.name, ufs);
        } else if !conf.is_set(&keys::master::ROOT_UFS) && !self.formatted {
            let ufs = self.data.join("ufs");
            alluxio_common::crashsafe::create_dir_all(&ufs)
                .map_err(|error| FsError::from_io(format!("make {}", ufs.display()), &error))?;
            conf.set(keys::master::ROOT_UFS.name, &ufs.to_string_lossy());
        }
        Ok(conf)
    }
}

/// The mount point by its real name.
fn check_mount_point(dir: &Path) -> FsResult<PathBuf> {
    let shown = dir.display();
    if let Ok(Some(mount)) = std::path::absolute(dir)
        .map_err(|error| FsError::from_io("find the mount point", &error))
        .and_then(|dir| mount_at(&dir))
        && mount.is_alluxio()
        && mount.state() == alluxio_fuse::mount::MountState::Alive
    {
        let why = format!(
            "mount on {shown}: alluxio is mounted there already; unmount it first (umount {shown}) or choose another folder"
        );
        return Err(FsError::new(ErrorKind::Busy, why));
    }
    match std::fs::metadata(dir) {
        Ok(meta) if meta.is_dir() => {}
        Ok(_) => {
            return Err(FsError::new(
                ErrorKind::NotADirectory,
                format!("mount on {shown}: it is no directory; choose an empty one"),
            ));
        }
        // What a dead daemon left; mounting cleans it up.
        Err(error) if error.raw_os_error() == Some(libc::ENOTCONN) => {
            return std::path::absolute(dir).map_err(|error| FsError::from_io("find the mount point", &error));
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(FsError::new(
                ErrorKind::NotFound,
                format!("mount on {shown}: there is no such folder; make it first: mkdir -p {shown}"),
            ));
        }
        Err(error) => return Err(FsError::from_io(format!("mount on {shown}"), &error)),
    }
    dir.canonicalize()
        .map_err(|error| FsError::from_io(format!("mount on {shown}"), &error))
}

/// `$XDG_DATA_HOME/alluxio`; for root `/var/lib/alluxio`.
fn default_data() -> PathBuf {
    if nix::unistd::geteuid().is_root() {
        return PathBuf::from("/var/lib/alluxio");
    }
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/share"));
    let base = std::env::var_os("XDG_DATA_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(home);
    base.unwrap_or_else(|| PathBuf::from("/var/lib")).join("alluxio")
}

/// Everything that runs.
struct Node {
    master: MasterPart,
    worker: WorkerPart,
    mount: tokio::sync::Mutex<Option<MountPart>>,
    client: MasterClient,
    caller: Caller,
}

impl Node {
    async fn start(conf: &Configuration, folders: &Folders, stop: &CancellationToken) -> FsResult<Node> {
        let mut options = MasterOptions::new(conf);
        options.own_dirs = vec![folders.mount.clone()];
        options.end_sessions_of_host = Some(host_name());
        let master = MasterPart::start(conf, options, stop).await?;
        let api: Arc<dyn MasterApi> = master.service.clone();
        let worker = match WorkerPart::start(conf, Arc::clone(&api), stop).await {
            Ok(worker) => worker,
            Err(error) => {
                master.stop().await;
                return Err(error);
            }
        };
        let client = MasterClient::new(api);
        match Self::mount(conf, folders, &client, &worker).await {
            Ok(mount) => {
                let caller = crate::commands::caller(conf);
                Ok(Node {
                    master,
                    worker,
                    mount: tokio::sync::Mutex::new(Some(mount)),
                    client,
                    caller,
                })
            }
            Err(error) => {
                worker.stop().await;
                master.stop().await;
                Err(error)
            }
        }
    }

    async fn mount(
        conf: &Configuration,
        folders: &Folders,
        client: &MasterClient,
        worker: &WorkerPart,
    ) -> FsResult<MountPart> {
        let workers = DirectWorkers::default();
        workers.add(
            worker.registered().await?,
            Arc::clone(&worker.worker) as Arc<dyn WorkerApi>,
        );
        let listed = conf.string(&keys::fuse::FUSE_MOUNT_OPTIONS);
        let options = if conf.is_set(&keys::fuse::FUSE_MOUNT_OPTIONS) {
            MountOptions::parse(&listed)?
        } else {
            MountOptions::default()
        };
        let request = MountRequest {
            path: "/",
            dir: &folders.mount,
            source: "alluxio:/",
            options: &options,
        };
        // The session of the mount is its own: the node's client has none.
        let session_client = MasterClient::new(Arc::clone(client.api()));
        MountPart::start(conf, &request, session_client, Arc::new(workers)).await
    }

    /// Serves until a signal, or until somebody unmounts.
    async fn serve(&self, conf: &Configuration, folders: &Folders, stop: &CancellationToken) -> u8 {
        println!("{}", self.banner(conf, folders).await);
        let mut guard = self.mount.lock().await;
        let Some(mount) = guard.as_mut() else { return 0 };
        tokio::select! {
            result = mount.ended() => {
                if let Err(error) = result {
                    tracing::error!(%error, "the mount ended");
                    return 1;
                }
                tracing::info!("unmounted from outside: ending");
            }
            () = stop.cancelled() => {}
        }
        0
    }

    async fn banner(&self, conf: &Configuration, folders: &Folders) -> String {
        let mounts: FsResult<alluxio_proto::master::MountTable> =
            self.client.read(&self.caller, Op::GetMounts(Default::default())).await;
        let over = mounts
            .ok()
            .and_then(|table| table.mounts.into_iter().next())
            .map_or_else(|| "?".to_owned(), |mount| mount.uri);
        let (mount, data, port) = (
            folders.mount.display(),
            folders.data.display(),
            conf.port(&keys::master::MASTER_RPC_PORT),
        );
        let other = if port == 19998 {
            String::new()
        } else {
            format!(" -D alluxio.master.rpc.port={port}")
        };
        format!(
            "alluxio is mounted on {mount}, over {over}; its state is in {data}.\n\nTry in another terminal:\n  \
             ls -l {mount}\n  cp -a /usr/include {mount}/ && alluxio fs ls /include{other}\n  alluxio fsadmin report{other}\n\nCtrl-C persists what is due, unmounts and ends."
        )
    }

    /// Runs the command; its status is ours.
    async fn run_command(&self, command: &[OsString], stop: &CancellationToken) -> u8 {
        let Some((program, arguments)) = command.split_first() else {
            return 0;
        };
        let mut child = match tokio::process::Command::new(program).args(arguments).spawn() {
            Ok(child) => child,
            Err(error) => {
                eprintln!("alluxio: run {}: {error}", program.to_string_lossy());
                // As a shell: 127 not found, 126 not runnable.
                return if error.kind() == std::io::ErrorKind::NotFound {
                    127
                } else {
                    126
                };
            }
        };
        let pid = child.id().and_then(|id| i32::try_from(id).ok());
        let status = tokio::select! {
            status = child.wait() => status,
            () = stop.cancelled() => {
                // Ctrl-C reached the child by itself; SIGTERM did not.
                if let Some(pid) = pid {
                    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM);
                }
                child.wait().await
            }
        };
        status.map_or_else(
            |error| {
                eprintln!("alluxio: wait for {}: {error}", program.to_string_lossy());
                1
            },
            status_of,
        )
    }

    /// Persists, unmounts, persists what the unmount completed, and ends everything. `status` is kept unless this fails.
    async fn stop(self, persist_max: Duration, status: u8) -> FsResult<u8> {
        let first = self.persist(persist_max).await;
        if let Some(mount) = self.mount.lock().await.take() {
            mount.stop().await;
        }
        let persisted = match first {
            Ok(()) => self.persist(persist_max).await,
            failed => failed,
        };
        self.worker.stop().await;
        self.master.stop().await;
        let hint = "it is kept in the data folder and goes on at the next start";
        persisted.map_err(|error| error.context(format!("persist what was written ({hint})")))?;
        Ok(status)
    }

    /// Waits until everything is in its under-storage, telling how it goes.
    async fn persist(&self, max: Duration) -> FsResult<()> {
        let timeout_ms = u64::try_from(max.as_millis()).unwrap_or(u64::MAX);
        let wait = WaitPersisted {
            path: "/".into(),
            schedule: false,
            timeout_ms,
            expedite: true,
        };
        let waiting = self.client.once::<Counted>(&self.caller, Op::WaitPersisted(wait));
        tokio::pin!(waiting);
        let mut pause = QUIET_TIME;
        loop {
            tokio::select! {
                result = &mut waiting => return result.map(drop),
                () = tokio::time::sleep(pause) => {
                    let report: FsResult<Report> = self.client.once(&self.caller, Op::GetReport(GetReport {})).await;
                    if let Ok(report) = report {
                        eprintln!("alluxio: persisting: {} to go", report.persist_pending);
                    }
                    pause = PROGRESS_PAUSE;
                }
            }
        }
    }
}

/// A command's status as a shell shows it.
fn status_of(status: ExitStatus) -> u8 {
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    u8::try_from(code).unwrap_or(1)
}
