//! A mount with its session, and taking it off though somebody may still be using it.

use alluxio_client::{MasterClient, WorkerPool, workers::host_name};
use alluxio_common::config::{Configuration, keys};
use alluxio_common::metrics::Metrics;
use alluxio_common::retry::RetryPolicy;
use alluxio_fuse::mount::{MountOptions, Mounted, Passthrough, UnmountMode};
use alluxio_fuse::transport::{KernelOptions, KernelSession, Observer, Serving, TransportKind, serve};
use alluxio_fuse::{Vfs, VfsOptions};
use alluxio_proto::master::{GetReport, Report};
use alluxio_proto::types::{Caller, WriteType};
use alluxio_proto::{ErrorKind, FsError, FsResult};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// How long unmounting waits for files in use, where `alluxio.fuse.umount.timeout` says 0.
const BUSY_TIME: Duration = Duration::from_secs(5);
/// Pause between tries.
const BUSY_PAUSE: Duration = Duration::from_millis(100);
/// How long the session may take to end after a lazy unmount; then whoever still uses the mount loses it.
const LAZY_TIME: Duration = Duration::from_secs(5);
/// How long requests that threads are at may take, once the mount is closed though it is in use.
const CLOSE_TIME: Duration = Duration::from_secs(2);
/// Longest time that kernel caches live.
const CACHE_MAX: Duration = Duration::from_secs(3600);
/// Most threads that take requests, whatever `alluxio.fuse.threads` says.
const THREADS_MAX: usize = 64;

/// A mount that is served.
pub struct MountPart {
    vfs: Arc<Vfs>,
    mounted: Arc<Mounted>,
    session: JoinHandle<FsResult<()>>,
    serving: Arc<Serving>,
    busy_time: Duration,
    metrics: Metrics,
}

/// What to mount where.
pub struct MountRequest<'a> {
    pub path: &'a str,
    pub dir: &'a Path,
    /// Shown in /proc/mounts.
    pub source: &'a str,
    pub options: &'a MountOptions,
}

impl MountPart {
    /// Opens a session at the master, mounts, and serves.
    pub async fn start(
        conf: &Configuration,
        request: &MountRequest<'_>,
        master: MasterClient,
        workers: Arc<dyn WorkerPool>,
    ) -> FsResult<MountPart> {
        let conf = &with_properties(conf, request.options)?;
        contradiction(conf, request.options)?;
        let retry = retry_policy(conf, request.options);
        let mut vfs_options = vfs_options(conf, request, retry);
        if let Some(host) = worker_beside(&master, &crate::commands::caller(conf), &*workers).await {
            vfs_options.host = host;
        }
        let vfs = Vfs::start(vfs_options, master.with_retry(retry), workers).await?;
        // mount(2) and the handshake block; nobody else needs this thread yet, but the runtime does.
        let (dir, options, source) = (
            request.dir.to_owned(),
            request.options.clone(),
            request.source.to_owned(),
        );
        let (session_vfs, runtime) = (Arc::clone(&vfs), tokio::runtime::Handle::current());
        let metrics = Metrics::new();
        let mut kernel = kernel_options(conf, &options);
        kernel.observer = Some(observer(&kernel, &options, &metrics)?);
        let started = tokio::task::spawn_blocking(move || -> FsResult<(Mounted, KernelSession)> {
            let (mounted, fuse_dev) = Mounted::new(&dir, &options, &source)?;
            let session = serve(&session_vfs, fuse_dev, &kernel, &runtime)?;
            mounted.raise_read_ahead();
            Ok((mounted, session))
        });
        let started = started
            .await
            .unwrap_or_else(|panic| Err(FsError::new(ErrorKind::Internal, format!("mount: {panic}"))));
        let (mounted, session) = match started {
            Ok(started) => started,
            Err(error) => {
                vfs.stop().await;
                return Err(error);
            }
        };
        let serving = session.serving();
        let mounted = Arc::new(mounted);
        let noting = Arc::clone(&mounted);
        let session = tokio::task::spawn_blocking(move || {
            let result = session.wait();
            noting.ended();
            result
        });
        let busy_time = conf
            .duration(&keys::fuse::FUSE_UMOUNT_TIMEOUT)
            .filter(|time| !time.is_zero())
            .unwrap_or(BUSY_TIME);
        Ok(MountPart {
            vfs,
            mounted,
            session,
            serving,
            busy_time,
            metrics,
        })
    }

    /// Where it counts.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Waits until somebody unmounts it.
    pub async fn ended(&mut self) -> FsResult<()> {
        (&mut self.session)
            .await
            .unwrap_or_else(|panic| Err(FsError::new(ErrorKind::Internal, format!("serve the mount: {panic}"))))
    }

    /// Takes the mount off, waits for its session, and completes what was open.
    pub async fn stop(mut self) {
        if !self.session.is_finished() {
            self.unmount().await;
            if tokio::time::timeout(LAZY_TIME, &mut self.session).await.is_err() {
                tracing::warn!(
                    "{} is still in use; its users get errors from now on",
                    self.mounted.point().display()
                );
                // Its threads go on for as long as it is in use; what they would work with ends now.
                let serving = Arc::clone(&self.serving);
                let closed = tokio::task::spawn_blocking(move || serving.close(CLOSE_TIME)).await;
                if !closed.unwrap_or(false) {
                    tracing::warn!("a request on {} does not end", self.mounted.point().display());
                }
            }
        }
        self.vfs.stop().await;
    }

    /// Unmounts; a mount in use is waited for, and then detached, naming who uses it.
    async fn unmount(&self) {
        let start = Instant::now();
        loop {
            match self.mounted.unmount(UnmountMode::Normal) {
                Ok(()) => return,
                Err(error) if error.kind == ErrorKind::Busy && start.elapsed() < self.busy_time => {
                    tokio::time::sleep(BUSY_PAUSE).await
                }
                Err(error) => {
                    let users = users_of(self.mounted.point());
                    let users = if users.is_empty() {
                        "nobody that can be seen".to_owned()
                    } else {
                        users.join(", ")
                    };
                    tracing::warn!(%error, "detaching the mount; in use by {users}");
                    break;
                }
            }
        }
        if let Err(error) = self.mounted.unmount(UnmountMode::Lazy) {
            tracing::warn!(%error, "detach the mount");
        }
    }
}

/// Who notes the requests of this mount.
fn observer(kernel: &KernelOptions, options: &MountOptions, metrics: &Metrics) -> FsResult<Arc<Observer>> {
    let access_log = options.access_log.as_deref();
    if access_log.is_some() && kernel.transport != TransportKind::Dev {
        let why = "mount option access_log: only transport=dev tells of its requests";
        return Err(FsError::new(ErrorKind::InvalidArgument, why));
    }
    Observer::new(metrics, access_log)
}

/// What the worker on this host calls its host, if there is one: the master tells by this name which worker is near a client,
/// whatever this host is called here.
async fn worker_beside(master: &MasterClient, caller: &Caller, workers: &dyn WorkerPool) -> Option<String> {
    let report: FsResult<Report> = master.once(caller, GetReport::default()).await;
    for worker in report.ok()?.workers {
        if let Some(address) = worker.address.filter(|_| worker.live)
            && workers.find_out(&address).await
        {
            return Some(address.host);
        }
    }
    None
}

/// Refuses words that cannot both be true.
fn contradiction(conf: &Configuration, options: &MountOptions) -> FsResult<()> {
    if options.verify && options.passthrough == Passthrough::On {
        let why = "mount options verify and passthrough=on: the kernel knows no checksums; leave one of them out";
        return Err(FsError::new(ErrorKind::InvalidArgument, why));
    }
    if options.passthrough == Passthrough::On && !conf.bool(&keys::user::SHORT_CIRCUIT) {
        let why = format!(
            "mount options passthrough=on and {}=false: passthrough needs descriptors of the worker's files; leave one of \
             them out",
            keys::user::SHORT_CIRCUIT.name
        );
        return Err(FsError::new(ErrorKind::InvalidArgument, why));
    }
    Ok(())
}

/// The configuration with what this mount alone was told.
fn with_properties(conf: &Configuration, options: &MountOptions) -> FsResult<Configuration> {
    let mut conf = conf.clone();
    for (key, value) in &options.properties {
        conf.try_set(key, value, alluxio_common::config::Source::MountOption)
            .map_err(|error| FsError::new(ErrorKind::InvalidArgument, error.to_string()))?;
    }
    Ok(conf)
}

/// How long calls are repeated: `-o soft`, for as long as the configuration says; `-o hard`, until they are answered.
pub(super) fn retry_policy(conf: &Configuration, options: &MountOptions) -> RetryPolicy {
    let default = MasterClient::DEFAULT_RETRY;
    // -1 in the configuration, which is no duration, means "never give up".
    let soft = || conf.duration(&keys::user::RPC_RETRY_MAX).unwrap_or(Duration::MAX);
    RetryPolicy {
        base: conf.duration(&keys::user::RPC_RETRY_BASE).unwrap_or(default.base),
        max: conf.duration(&keys::user::RPC_RETRY_MAX_SLEEP).unwrap_or(default.max),
        total: if options.hard { Duration::MAX } else { soft() },
    }
}

fn vfs_options(conf: &Configuration, request: &MountRequest<'_>, retry: RetryPolicy) -> VfsOptions {
    let options = request.options;
    let write_type = match conf.string(&keys::user::WRITE_TYPE).as_str() {
        "MUST_CACHE" => WriteType::MustCache,
        "CACHE_THROUGH" => WriteType::CacheThrough,
        "THROUGH" => WriteType::Through,
        _ => WriteType::AsyncThrough,
    };
    let longest = |option: Option<Duration>, key| option.or_else(|| conf.duration(key)).unwrap_or(CACHE_MAX);
    let attr_cache_max = longest(options.attr_timeout, &keys::fuse::FUSE_ATTR_TIMEOUT);
    let entry_cache_max = longest(options.entry_timeout, &keys::fuse::FUSE_ENTRY_TIMEOUT);
    let allowed = match options.passthrough {
        Passthrough::On => true,
        Passthrough::Off => false,
        Passthrough::Auto => conf.bool(&keys::fuse::FUSE_PASSTHROUGH) && conf.bool(&keys::user::SHORT_CIRCUIT),
    };
    let mut host = conf.string(&keys::user::USER_HOSTNAME);
    if host.is_empty() {
        host = host_name();
    }
    VfsOptions {
        path: request.path.to_owned(),
        client: format!("mount on {}, process {}", request.dir.display(), std::process::id()),
        host,
        passthrough: allowed,
        verify: options.verify,
        read_only: options.read_only(),
        noatime: options.noatime(),
        write_type,
        rename_across_mounts: conf.bool(&keys::user::RENAME_ACROSS_MOUNTS),
        attr_cache_max,
        entry_cache_max,
        retry,
    }
}

fn kernel_options(conf: &Configuration, options: &MountOptions) -> KernelOptions {
    let default = KernelOptions::default();
    let configured = || TransportKind::from_word(&conf.string(&keys::fuse::FUSE_TRANSPORT));
    KernelOptions {
        uid: options.uid,
        gid: options.gid,
        umask: options.umask.unwrap_or(default.umask),
        max_background: options.max_background.unwrap_or(default.max_background),
        allow_other: options.allow_other,
        threads: usize::try_from(conf.int(&keys::fuse::FUSE_THREADS))
            .unwrap_or(0)
            .min(THREADS_MAX),
        needs_passthrough: options.passthrough == Passthrough::On,
        transport: options.transport.or_else(configured).unwrap_or(default.transport),
        observer: None,
    }
}

/// Processes with a file or their working directory beneath a folder, as "name (pid)"; a few are enough.
fn users_of(dir: &Path) -> Vec<String> {
    const SHOWN_MAX: usize = 5;
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let beneath = |link: PathBuf| std::fs::read_link(link).is_ok_and(|target| target.starts_with(dir));
    processes
        .flatten()
        .filter(|process| {
            process
                .file_name()
                .to_string_lossy()
                .bytes()
                .all(|byte| byte.is_ascii_digit())
        })
        .filter(|process| {
            let files = std::fs::read_dir(process.path().join("fd"))
                .into_iter()
                .flatten()
                .flatten();
            beneath(process.path().join("cwd")) || files.into_iter().any(|file| beneath(file.path()))
        })
        .map(|process| {
            let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            format!("{} ({})", name.trim(), process.file_name().to_string_lossy())
        })
        .take(SHOWN_MAX)
        .collect()
}
