//! `alluxio local`: master, worker and mount in one process, with direct calls between them.

use super::mounting::{MountPart, MountRequest};
use super::parts::{MasterPart, WorkerPart, check_port_free, own_names};
use super::web::{self, Web};
use super::{notify_ready, run, spawn_for_caller};
use crate::args::LocalArgs;
use alluxio_client::{DirectWorkers, MasterClient};
use alluxio_common::config::{Configuration, Key, keys};
use alluxio_fuse::mount::{MountOptions, mount_at};
use alluxio_master::service::MasterOptions;
use alluxio_proto::master::{GetMounts, WaitPersisted};
use alluxio_proto::types::Caller;
use alluxio_proto::{ErrorKind, FsError, FsResult, MasterApi, WorkerApi};
use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Where `alluxio local` listens unless it is told otherwise.
const LOOPBACK: &str = "127.0.0.1";
/// Persisting that takes longer than this is shown.
const QUIET_TIME: Duration = Duration::from_secs(2);
/// Between two lines of progress.
const PROGRESS_PAUSE: Duration = Duration::from_secs(2);
/// After Ctrl-C or SIGTERM, persisting may take so long; what is left goes on at the next start. systemd kills after 90 s.
const STOP_PERSIST_MAX: Duration = Duration::from_secs(60);
/// After COMMAND it may take so long: it is what the user asked for.
const COMMAND_PERSIST_MAX: Duration = Duration::from_secs(24 * 3600);

/// After the master has failed; 0 would be the default.
const FAILED_PERSIST_MAX: Duration = Duration::from_millis(1);

/// Runs it; returns the exit status.
///
/// # Errors
/// Of starting, and of persisting what COMMAND wrote.
pub fn local(conf: &Configuration, args: &LocalArgs) -> FsResult<u8> {
    check_ports(conf)?;
    let folders = Folders::prepare(conf, args)?;
    let conf = folders.configure(conf, args)?;
    if folders.formatted {
        // It is ours, so it may be closed to others.
        alluxio_common::crashsafe::tighten(&folders.data)
            .map_err(|error| FsError::from_io(format!("close {} to other users", folders.data.display()), &error))?;
    }
    run(|stop| async move {
        let node = Node::start(&conf, &folders, &stop).await?;
        notify_ready();
        let status = if args.command.is_empty() {
            node.serve(&conf, &folders, &stop).await
        } else {
            node.run_command(&args.command, &stop).await
        };
        if args.command.is_empty() {
            // A master that has failed will persist nothing any more.
            let failed = node.master.service.has_failed();
            let persist_max = if failed { FAILED_PERSIST_MAX } else { STOP_PERSIST_MAX };
            return node.stop(persist_max, &stop).await.map(|_| status);
        }
        let failed = node.master.service.has_failed();
        let persist_max = if failed {
            FAILED_PERSIST_MAX
        } else {
            COMMAND_PERSIST_MAX
        };
        let persisted = node.stop(persist_max, &stop).await?;
        eprintln!("alluxio: {persisted}");
        Ok(status)
    })
}

/// Before folders are made that nobody would need.
fn check_ports(conf: &Configuration) -> FsResult<()> {
    for (host, port) in [
        (&keys::master::MASTER_BIND_HOST, &keys::master::MASTER_RPC_PORT),
        (&keys::worker::WORKER_BIND_HOST, &keys::worker::WORKER_RPC_PORT),
    ] {
        let host = match conf.is_set(host) {
            true => conf.string(host),
            false => LOOPBACK.to_owned(),
        };
        check_port_free(conf, &host, port)?;
    }
    Ok(())
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
        let data = args
            .data
            .clone()
            .unwrap_or_else(|| data_without_flag(conf, default_data()));
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
        let keeps_work_dir = is_split(conf, &self.data);
        let mut conf = conf.clone();
        // One host needs no network. Whoever names an address means others to connect.
        for host in [
            &keys::master::MASTER_BIND_HOST,
            &keys::master::MASTER_WEB_BIND_HOST,
            &keys::worker::WORKER_BIND_HOST,
            &keys::worker::WORKER_WEB_BIND_HOST,
            &keys::fuse::FUSE_WEB_BIND_HOST,
        ] {
            if !conf.is_set(host) {
                conf.set(host.name, LOOPBACK);
            }
        }
        if !conf.is_set(&keys::worker::WORKER_HOSTNAME) && conf.string(&keys::worker::WORKER_BIND_HOST) == LOOPBACK {
            conf.set(keys::worker::WORKER_HOSTNAME.name, LOOPBACK);
        }
        // One cluster, one folder: what other keys are beneath is that of --data, too.
        if !keeps_work_dir {
            conf.set(keys::general::WORK_DIR.name, &self.data.to_string_lossy());
        }
        let mut set_folder = |key: &Key, folder: &str| {
            if !conf.is_set(key) {
                conf.set(key.name, &self.data.join(folder).to_string_lossy());
            }
        };
        set_folder(&keys::master::JOURNAL_FOLDER, "journal");
        set_folder(&keys::master::METASTORE_DIR, "metastore");
        set_folder(&keys::worker::WORKER_TIER0_PATH, "cache");
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

/// The mount point by its real name; made if it is missing.
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
            std::fs::create_dir_all(dir)
                .map_err(|error| FsError::from_io(format!("make the mount point {shown}"), &error))?;
            tracing::info!("made the mount point {shown}");
        }
        Err(error) => return Err(FsError::from_io(format!("mount on {shown}"), &error)),
    }
    dir.canonicalize()
        .map_err(|error| FsError::from_io(format!("mount on {shown}"), &error))
}

/// The data folder when no flag names one: `alluxio.work.dir` if somebody set it.
fn data_without_flag(conf: &Configuration, default: PathBuf) -> PathBuf {
    if !conf.is_set(&keys::general::WORK_DIR) {
        return default;
    }
    let work = conf.path(&keys::general::WORK_DIR);
    let has_journal = |dir: &Path| alluxio_journal::is_formatted(&dir.join("journal"));
    if !has_journal(&work) && has_journal(&default) && is_split(conf, &default) {
        tracing::warn!(
            "an earlier version put the state of this cluster into {} and its secret into {}: both are used where they are. \
             Move all of it into one folder and name that by --data",
            default.display(),
            work.display()
        );
        return default;
    }
    work
}

/// Earlier versions put the secret, but nothing else, into `alluxio.work.dir`. A cluster that has its secret there needs it: its
/// credentials are sealed by it.
fn is_split(conf: &Configuration, data: &Path) -> bool {
    conf.is_set(&keys::general::WORK_DIR)
        && alluxio_journal::is_formatted(&data.join("journal"))
        && !data.join("cluster.secret").exists()
        && conf.path(&keys::general::WORK_DIR).join("cluster.secret").exists()
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
    /// The mount's own web port, if it is to have one; the master's serves its metrics, too.
    web: Option<Web>,
    client: MasterClient,
    caller: Caller,
}

impl Node {
    async fn start(conf: &Configuration, folders: &Folders, stop: &CancellationToken) -> FsResult<Node> {
        let mut options = MasterOptions::new(conf);
        options.own_dirs = vec![folders.mount.clone()];
        options.end_sessions_of_hosts = own_names(conf);
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
            Ok((mount, web)) => {
                for web in [&master.web, &web].into_iter().flatten() {
                    web.add(mount.metrics().clone());
                }
                if let Some(web) = &web {
                    web.ready_when(|| Ok(()));
                }
                let caller = crate::commands::caller(conf);
                Ok(Node {
                    master,
                    worker,
                    mount: tokio::sync::Mutex::new(Some(mount)),
                    web,
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
    ) -> FsResult<(MountPart, Option<Web>)> {
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
        let (path, name) = (
            conf.string(&keys::fuse::FUSE_MOUNT_PATH),
            conf.string(&keys::fuse::FUSE_FS_NAME),
        );
        let source = if name.is_empty() {
            format!("alluxio:{path}")
        } else {
            name
        };
        let request = MountRequest {
            path: &path,
            dir: &folders.mount,
            source: &source,
            options: &options,
        };
        let web = if conf.bool(&keys::fuse::FUSE_WEB_ENABLED) {
            Web::start(conf, &web::FUSE).await?
        } else {
            None
        };
        // The session of the mount is its own: the node's client has none.
        let session_client = MasterClient::new(Arc::clone(client.api()));
        let mount = MountPart::start(conf, &request, session_client, Arc::new(workers)).await?;
        Ok((mount, web))
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
            error = self.master.service.failed() => {
                tracing::error!(%error, "the master has failed: ending");
                return 1;
            }
        }
        0
    }

    async fn banner(&self, conf: &Configuration, folders: &Folders) -> String {
        let over = self.root_store().await;
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
        let mut child = match spawn_for_caller(tokio::process::Command::new(program).args(arguments)) {
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

    /// Persists, unmounts, persists what the unmount completed, and ends everything.
    async fn stop(self, persist_max: Duration, asked: &CancellationToken) -> FsResult<Persisted> {
        let first = self.persist(persist_max, asked).await;
        if let Some(mount) = self.mount.lock().await.take() {
            mount.stop().await;
        }
        let persisted = match first {
            Ok(()) => self.persist(persist_max, asked).await,
            failed => failed,
        };
        let done = Persisted {
            files: count_of(self.master.service.metrics(), "Master.FilesPersisted"),
            bytes: count_of(self.worker.worker.metrics(), "Worker.BytesWrittenUfs"),
            store: self.root_store().await,
        };
        if let Some(web) = self.web {
            web.stop().await;
        }
        self.worker.stop().await;
        self.master.stop().await;
        let hint = "it is kept in the data folder and goes on at the next start";
        persisted.map_err(|error| error.context(format!("persist what was written ({hint})")))?;
        Ok(done)
    }

    /// Where the root of the namespace lies.
    async fn root_store(&self) -> String {
        let mounts = self.client.read(&self.caller, GetMounts::default()).await;
        let root = mounts.ok().and_then(|table| table.mounts.into_iter().next());
        let uri = root.map_or_else(|| "?".to_owned(), |mount| mount.uri);
        // A folder is shown as what it is for `ls`.
        uri.strip_prefix("file://").map_or(uri.clone(), str::to_owned)
    }

    /// Waits until everything is in its under-storage, telling how it goes. `asked` by a signal, another one ends it.
    async fn persist(&self, max: Duration, asked: &CancellationToken) -> FsResult<()> {
        let timeout_ms = u64::try_from(max.as_millis()).unwrap_or(u64::MAX);
        let wait = WaitPersisted {
            path: "/".into(),
            schedule: false,
            timeout_ms,
            expedite: true,
        };
        let waiting = self.client.once(&self.caller, wait);
        tokio::pin!(waiting);
        let mut said = None;
        loop {
            let pause = if said.is_none() { QUIET_TIME } else { PROGRESS_PAUSE };
            tokio::select! {
                result = &mut waiting => return result.map(drop),
                () = tokio::time::sleep(pause) => {
                    let changes = self.master.service.state().pending_intents();
                    match said {
                        None => eprintln!("alluxio: {}", self.waiting_for(max, asked.is_cancelled()).await),
                        // With a store that is away it would be the same again and again.
                        Some(before) if before == changes => {}
                        Some(_) => eprintln!("alluxio: persisting: {changes} to go"),
                    }
                    said = Some(changes);
                }
            }
        }
    }

    /// What the end waits for, and how to do without.
    async fn waiting_for(&self, max: Duration, asked: bool) -> String {
        let service = Arc::clone(&self.master.service);
        let pending = tokio::task::spawn_blocking(move || service.pending()).await;
        let pending = pending.unwrap_or_default();
        let away: Vec<String> = self
            .master
            .service
            .stores_away()
            .into_iter()
            .map(|away| format!("; {} does not answer ({})", away.uri, away.error))
            .collect();
        // Before the end was asked for, the first one asks.
        let signal = if asked {
            "Ctrl-C or SIGTERM again ends it at once"
        } else {
            "Ctrl-C twice ends it at once"
        };
        format!(
            "persisting: {} to go, {} of them files ({}){}. Waiting {} s at most; {signal}, and nothing is lost: it is \
             kept in the data folder and goes on at the next start",
            pending.changes,
            pending.files,
            crate::output::human_size(pending.bytes),
            away.concat(),
            max.as_secs(),
        )
    }
}

/// What a run brought into its stores; displayed, what is said at the end of `local … -- COMMAND`.
struct Persisted {
    files: u64,
    bytes: u64,
    store: String,
}

impl std::fmt::Display for Persisted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (size, store) = (crate::output::human_size(self.bytes), &self.store);
        match self.files {
            0 => write!(f, "nothing new to persist; / is {store}"),
            1 => write!(f, "persisted 1 file ({size}); / is {store}"),
            files => write!(f, "persisted {files} files ({size}); / is {store}"),
        }
    }
}

/// A counter's value.
fn count_of(metrics: &alluxio_common::metrics::Metrics, name: &str) -> u64 {
    metrics
        .value(name)
        .and_then(|value| u64::try_from(value).ok())
        .unwrap_or(0)
}

/// A command's status as a shell shows it.
fn status_of(status: ExitStatus) -> u8 {
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    u8::try_from(code).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(dir: &Path, data: Option<PathBuf>) -> LocalArgs {
        LocalArgs {
            mount: dir.join("mount"),
            ufs: None,
            data,
            command: Vec::new(),
        }
    }

    fn work_dir(dir: &Path) -> Configuration {
        let mut conf = Configuration::default();
        conf.set(keys::general::WORK_DIR.name, dir.to_str().unwrap());
        conf
    }

    /// All that `alluxio local` keeps lies in one folder, whichever way that is named.
    #[test]
    fn the_data_folder_is_the_work_dir_unless_a_flag_names_another() {
        let dir = tempfile::tempdir().unwrap();
        let (work, data) = (dir.path().join("work"), dir.path().join("data"));
        for (data, expected) in [(None, &work), (Some(data.clone()), &data)] {
            let (conf, args) = (work_dir(&work), args(dir.path(), data));
            let folders = Folders::prepare(&conf, &args).unwrap();
            let conf = folders.configure(&conf, &args).unwrap();
            assert_eq!(folders.data, *expected);
            for (key, name) in [
                (&keys::general::CLUSTER_SECRET_FILE, "cluster.secret"),
                (&keys::master::JOURNAL_FOLDER, "journal"),
                (&keys::master::METASTORE_DIR, "metastore"),
                (&keys::worker::WORKER_TIER0_PATH, "cache"),
                (&keys::underfs::UPLOADS_DIR, "uploads"),
                (&keys::master::ROOT_UFS, "ufs"),
            ] {
                assert_eq!(conf.path(key), expected.join(name), "{}", key.name);
            }
        }
    }

    /// A secret that is not found is a new one, and with it no credential can be read any more.
    #[test]
    fn a_cluster_whose_secret_lies_apart_keeps_it() {
        let dir = tempfile::tempdir().unwrap();
        let (work, data) = (dir.path().join("work"), dir.path().join("data"));
        std::fs::create_dir_all(data.join("journal")).unwrap();
        std::fs::write(data.join("journal/format"), "").unwrap();
        std::fs::create_dir_all(&work).unwrap();
        let conf = work_dir(&work);
        assert_eq!(
            data_without_flag(&conf, data.clone()),
            work,
            "a folder of somebody else's"
        );
        std::fs::write(work.join("cluster.secret"), "hush").unwrap();
        assert_eq!(data_without_flag(&conf, data.clone()), data);
        let args = args(dir.path(), Some(data.clone()));
        let folders = Folders::prepare(&conf, &args).unwrap();
        let conf = folders.configure(&conf, &args).unwrap();
        assert_eq!(conf.path(&keys::master::JOURNAL_FOLDER), data.join("journal"));
        assert_eq!(
            conf.path(&keys::general::CLUSTER_SECRET_FILE),
            work.join("cluster.secret")
        );
    }
}
