//! Starting and stopping a master.
//!
//! First start: the root under-storage is probed *before* anything is written, then journal and state are formatted with a new
//! cluster id. Later starts: the folders must belong together and the root must be the one that was formatted; whether it can
//! be reached does not matter, what is known is served.

use alluxio_common::config::{Configuration, keys};
use alluxio_journal::{Journal, JournalOptions, NodeId};
use alluxio_proto::types::Property;
use alluxio_proto::{ErrorKind, FsError, FsResult, MountId, SessionId};
use alluxio_ufs::{UnderFileSystem, normalize_uri};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::machine::{Effects, Machine};
use super::settings::Settings;
use super::{Core, GATES, MasterOptions, MasterService, MetastoreKind, error, now_ns};
use super::{changes, executor, load, locks, metrics, mounts, pace, report, sessions, ufs, watch, workers};
use crate::metastore::{self, StoreKind};
use crate::state::command::{Format, MountSpec};
use crate::state::{State, StateOptions};

/// Permission bits of the namespace's root.
const ROOT_MODE: u32 = 0o755;
/// The only member, until there are several.
const NODE: NodeId = NodeId(1);
/// How long tasks may take to end at shutdown.
const SHUTDOWN_MAX: Duration = Duration::from_secs(10);

/// Starts masters.
#[derive(Debug)]
pub struct Master;

/// What is to be mounted at `/` when a cluster is formatted.
struct Root {
    spec: MountSpec,
    ufs: Arc<dyn UnderFileSystem>,
}

impl Master {
    /// Brings a master up on its folders; formats them at the first start. Returns when it can serve.
    ///
    /// # Errors
    /// One that says what is wrong with what: folders of another cluster or a newer format, a root under-storage that is not
    /// the one that was formatted or, at the first start, cannot be used.
    pub async fn start(conf: &Configuration, options: MasterOptions) -> FsResult<Arc<MasterService>> {
        let settings = Settings::new(conf, &options);
        let known = alluxio_journal::cluster_id(&options.journal_dir)?;
        let state = Arc::new(open_state(conf, &options)?);
        check_folders(&options, known.as_deref(), &state)?;
        let own_dirs = own_dirs(&options);
        let registry = ufs::UfsRegistry::new(
            state.clone(),
            options.ufs_opener.clone(),
            settings.sync_interval,
            own_dirs,
        );
        // Before the first byte of a new journal is written.
        let mut root = match known {
            None => Some(probed_root(conf, &registry).await?),
            Some(_) => None,
        };
        let cluster_id = known.unwrap_or_else(|| format!("{:032x}", rand::random::<u128>()));
        let core = Core::assemble(conf, &options, settings, state, registry, &cluster_id).await?;
        if core.state.cluster_id().is_empty() && root.is_none() {
            // A first start that ended between the two.
            root = Some(probed_root(conf, &core.ufs).await?);
        }
        let ready = match root {
            Some(root) => core.format(&cluster_id, root).await,
            None => core.check_root(conf),
        };
        let ready = match ready {
            Ok(()) => core.take_up(&options).await,
            Err(error) => Err(error),
        };
        if let Err(error) = ready {
            core.shutdown().await;
            return Err(error);
        }
        Ok(Arc::new(MasterService { core }))
    }
}

impl MasterService {
    /// Refuses new requests, ends background work, and makes everything durable.
    pub async fn shutdown(&self) {
        self.core.shutdown().await;
    }
}

fn open_state(conf: &Configuration, options: &MasterOptions) -> FsResult<State> {
    let (kind, dir) = match &options.metastore {
        MetastoreKind::Heap => (StoreKind::Heap, Path::new("")),
        MetastoreKind::Disk(dir) => (StoreKind::Fjall, dir.as_path()),
    };
    if kind != StoreKind::Heap {
        alluxio_common::crashsafe::create_dir_all(dir)
            .map_err(|error| FsError::from_io(format!("create the metadata folder {}", dir.display()), &error))?;
    }
    let failed = |error| FsError::from_io(format!("open the metadata folder {}", dir.display()), &error);
    let cache_bytes = conf.bytes(&keys::master::METASTORE_CACHE_BYTES);
    let store = metastore::open(kind, dir, cache_bytes).map_err(failed)?;
    let cache_entries = usize::try_from(conf.int(&keys::master::METASTORE_INODE_CACHE)).unwrap_or(usize::MAX);
    State::open(store, StateOptions { cache_entries }).map_err(failed)
}

/// Journal and metadata must be of one cluster.
fn check_folders(options: &MasterOptions, journal: Option<&str>, state: &State) -> FsResult<()> {
    let metadata = state.cluster_id();
    if metadata.is_empty() || journal == Some(metadata.as_str()) {
        return Ok(());
    }
    let MetastoreKind::Disk(dir) = &options.metastore else {
        return Ok(());
    };
    let (dir, journal_dir) = (dir.display(), options.journal_dir.display());
    let why = match journal {
        Some(journal) => format!("journal folder {journal_dir} to {journal}"),
        None => format!("journal folder {journal_dir} is empty"),
    };
    error(
        ErrorKind::InvalidArgument,
        format!("metadata folder {dir} belongs to cluster {metadata}, {why}; name folders that belong together"),
    )
}

fn own_dirs(options: &MasterOptions) -> Vec<std::path::PathBuf> {
    let mut dirs = options.own_dirs.clone();
    dirs.push(options.journal_dir.clone());
    if let MetastoreKind::Disk(dir) = &options.metastore {
        dirs.push(dir.clone());
    }
    dirs
}

/// The root under-storage of the configuration, found to be usable.
async fn probed_root(conf: &Configuration, registry: &ufs::UfsRegistry) -> FsResult<Root> {
    let key = &keys::master::ROOT_UFS;
    let uri = normalize_uri(&conf.string(key)).map_err(|error| FsError::from(error).context(key.name))?;
    registry.refuse_own(&uri)?;
    if !conf.is_set(key) {
        // Nobody named it, so nobody can be expected to have made it.
        if let Some(path) = uri.strip_prefix("file://") {
            alluxio_common::crashsafe::create_dir_all(Path::new(path))
                .map_err(|error| FsError::from_io(format!("create the default under-storage {path}"), &error))?;
        }
    }
    let options: Vec<Property> = conf
        .mount_options()
        .into_iter()
        .map(|(key, value)| Property { key, value })
        .collect();
    let ufs = registry.open_uri(&uri, &options)?;
    ufs.probe()
        .await
        .map_err(|error| FsError::from(error).context(format!("use {uri} as root under-storage ({})", key.name)))?;
    let read_only = conf.bool(&keys::master::ROOT_UFS_READONLY);
    let spec = mounts::spec(uri, read_only, true, options, ufs.capabilities());
    Ok(Root { spec, ufs })
}

impl Core {
    async fn assemble(
        conf: &Configuration,
        options: &MasterOptions,
        settings: Settings,
        state: Arc<State>,
        ufs: ufs::UfsRegistry,
        cluster_id: &str,
    ) -> FsResult<Arc<Core>> {
        let effects = Arc::new(Effects {
            watch: Arc::new(watch::WatchHub::default()),
            queue: Arc::new(executor::IntentQueue::default()),
            workers: Arc::new(workers::Workers::new(settings.worker_timeout)),
            progress: Notify::new(),
            reclaim: Notify::new(),
            on: AtomicBool::new(false),
        });
        let machine = Arc::new(Machine {
            state: state.clone(),
            effects: effects.clone(),
        });
        let mut journal_options = JournalOptions::new(&options.journal_dir, cluster_id, NODE);
        journal_options.snapshot_entries_max = conf.int(&keys::master::JOURNAL_CHECKPOINT_ENTRIES);
        journal_options.segment_bytes_max = conf.bytes(&keys::master::JOURNAL_SEGMENT_BYTES);
        let journal = Journal::open(journal_options, machine).await?;
        let metrics = metrics::MasterMetrics::new(options.metrics.clone());
        metrics.watch_state(&state);
        let core = Arc::new(Core {
            loader: load::Loader::new(settings.absent_names_max),
            limits: changes::Limits::new(settings.ufs_changes_max),
            watch: effects.watch.clone(),
            queue: effects.queue.clone(),
            pace: pace::Pace::new(),
            workers: effects.workers.clone(),
            sessions: sessions::Sessions::default(),
            locks: locks::Locks::default(),
            space: alluxio_common::sync::Mutex::new(report::SpaceCache::default()),
            gates: (0..GATES).map(|_| tokio::sync::RwLock::new(())).collect(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            started_ms: u64::try_from(now_ns() / 1_000_000).unwrap_or(0),
            started: Instant::now(),
            settings,
            state,
            journal,
            effects,
            ufs,
            metrics,
        });
        core.metrics.watch_volatile(&core);
        Ok(core)
    }

    async fn format(&self, cluster_id: &str, root: Root) -> FsResult<()> {
        tracing::info!(cluster_id, root = root.spec.uri, "formatting a new cluster");
        let format = Format {
            cluster_id: cluster_id.to_owned(),
            owner: self.settings.user.clone(),
            group: self.settings.group.clone(),
            mode: ROOT_MODE,
            root: Some(root.spec),
        };
        self.propose_own(format).await?;
        if let Some(record) = self.state.mount(MountId::ROOT) {
            self.ufs.put(&record, root.ufs);
        }
        Ok(())
    }

    /// A root that is configured now must be the one that was formatted.
    fn check_root(&self, conf: &Configuration) -> FsResult<()> {
        let key = &keys::master::ROOT_UFS;
        let Some(mount) = self.state.mount(MountId::ROOT).filter(|_| conf.is_set(key)) else {
            return Ok(());
        };
        let wanted = normalize_uri(&conf.string(key)).map_err(|error| FsError::from(error).context(key.name))?;
        if wanted == mount.uri() {
            return Ok(());
        }
        let why = format!(
            "{} says {wanted}, but this cluster was formatted over {}; name that one, or use other data folders for a new cluster",
            key.name,
            mount.uri()
        );
        error(ErrorKind::InvalidArgument, why)
    }

    /// Takes up what the last master left, then serves.
    async fn take_up(self: &Arc<Self>, options: &MasterOptions) -> FsResult<()> {
        for record in self.state.workers()? {
            self.workers.insert(&record, Vec::new(), 0, false);
        }
        // What follows from commands follows at once from here on; all before is read from the state.
        self.effects.on.store(true, Ordering::Release);
        for session in self.state.sessions()? {
            let id = SessionId(session.id);
            if options
                .end_sessions_of_host
                .as_deref()
                .is_some_and(|host| host == session.host)
            {
                self.end_session(id).await?;
            } else {
                self.sessions.insert(id, &session.host);
                if session.uses_locks {
                    self.locks.await_session(id);
                }
            }
        }
        self.ask_to_recover()?;
        self.start_loops();
        let core = self.clone();
        self.tasks.spawn(async move { core.probe_mounts().await });
        tracing::info!(
            cluster_id = self.state.cluster_id(),
            inodes = self.state.counters().inodes,
            pending = self.state.pending_intents(),
            took_ms = self.started.elapsed().as_millis() as u64,
            "the master serves"
        );
        Ok(())
    }

    /// Says which under-storages cannot be used now.
    async fn probe_mounts(&self) {
        for mount in self.state.mounts() {
            let id = MountId(mount.id);
            let probed = match self.ufs.of(id) {
                Ok(ufs) => tokio::select! {
                    probed = ufs.probe() => probed.map_err(FsError::from),
                    () = self.stop.cancelled() => return,
                },
                Err(error) => Err(error),
            };
            if let Err(error) = probed {
                self.ufs.warn(id, "reaching it at start", &error);
            }
        }
    }

    async fn shutdown(&self) {
        self.stop.cancel();
        self.watch.close_all();
        self.tasks.close();
        if tokio::time::timeout(SHUTDOWN_MAX, self.tasks.wait()).await.is_err() {
            tracing::warn!(
                tasks = self.tasks.len(),
                "some background work did not end in time; what it was doing is journaled"
            );
        }
        if let Err(error) = self.journal.shutdown().await {
            tracing::error!(%error, "the metadata store was not synced; the next start replays the journal");
        }
    }
}
