//! Starting and stopping a master.
//!
//! First start: the root under-storage is probed *before* anything is written, then journal and state are formatted with a new
//! cluster id. Later starts: the folders must belong together and the root must be the one that was formatted; whether it can
//! be reached does not matter, what is known is served.

use alluxio_common::config::{Configuration, keys};
use alluxio_common::crashsafe;
use alluxio_journal::{Journal, JournalOptions, NodeId};
use alluxio_proto::types::Property;
use alluxio_proto::{ErrorKind, FsError, FsResult, MountId, SessionId};
use alluxio_ufs::{UnderFileSystem, normalize_uri};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::machine::{Effects, Machine};
use super::settings::Settings;
use super::{Core, MasterOptions, MasterService, MetastoreKind, error, now_ns};
use super::{
    changes, credentials, executor, load, locks, metrics, mounts, pace, rebuild, report, sessions, space, ufs, watch,
    workers,
};
use crate::metastore::{self, StoreKind};
use crate::state::command::{AdoptRules, Format, MountSpec};
use crate::state::{RULES, State, StateOptions};

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
        let (state, aside) = open_or_rebuild(conf, &options, known.is_some())?;
        let state = Arc::new(state);
        check_folders(&options, known.as_deref(), &state)?;
        let own_dirs = own_dirs(&options);
        let registry = ufs::UfsRegistry::new(
            state.clone(),
            options.ufs_opener.clone(),
            settings.sync_interval,
            own_dirs,
            Arc::clone(&options.secret),
            options.metrics.clone(),
        );
        // Before the first byte of a new journal is written.
        let mut root = match known {
            None => Some(probed_root(conf, &registry).await?),
            Some(_) => None,
        };
        let cluster_id = known.unwrap_or_else(|| format!("{:032x}", rand::random::<u128>()));
        let core = match Core::assemble(conf, &options, settings, state, registry, &cluster_id).await {
            Ok(core) => core,
            Err(error) => return Err(aside.map_or(error.clone(), |aside| aside.put_back(error))),
        };
        if let Some(aside) = aside {
            aside.rebuilt();
        }
        let locked = match core.unlock(conf.bool(&keys::master::FORGET_CREDENTIALS)) {
            Ok(locked) => locked,
            Err(error) => {
                core.shutdown().await;
                return Err(error);
            }
        };
        if core.state.cluster_id().is_empty() && root.is_none() {
            // A first start that ended between the two.
            root = Some(probed_root(conf, &core.ufs).await?);
        }
        let ready = match root {
            Some(root) => core.format(&cluster_id, root).await,
            None => core.check_root(conf),
        };
        let ready = match ready {
            Ok(()) => core.make_ready(conf, &options, locked).await,
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

/// Opens the metadata store, or an empty one in place of a damaged one that is kept aside: there is a journal that may have
/// everything.
fn open_or_rebuild(
    conf: &Configuration,
    options: &MasterOptions,
    has_journal: bool,
) -> FsResult<(State, Option<rebuild::Aside>)> {
    let MetastoreKind::Disk(dir) = &options.metastore else {
        let opened = open_state(conf, StoreKind::Heap, Path::new(""));
        let state = opened.map_err(|error| FsError::from_io("make the metadata store", &error))?;
        return Ok((state, None));
    };
    crashsafe::create_dir_all(dir)
        .and_then(|()| crashsafe::tighten_tree(dir))
        .map_err(|error| FsError::from_io(format!("create the metadata folder {}", dir.display()), &error))?;
    let failed = |error: &io::Error| FsError::from_io(format!("open the metadata folder {}", dir.display()), error);
    let marked = rebuild::marked(dir).filter(|_| has_journal);
    let why = match marked {
        Some(why) => why,
        None => match open_state(conf, StoreKind::Fjall, dir) {
            Ok(state) => return Ok((state, None)),
            Err(error) if has_journal && metastore::is_damage(&error) => error.to_string(),
            Err(error) => return Err(failed(&error)),
        },
    };
    let aside = rebuild::Aside::put(dir, why)?;
    match open_state(conf, StoreKind::Fjall, dir) {
        Ok(state) => Ok((state, Some(aside))),
        Err(error) => Err(aside.put_back(failed(&error))),
    }
}

fn open_state(conf: &Configuration, kind: StoreKind, dir: &Path) -> io::Result<State> {
    let cache_bytes = conf.bytes(&keys::master::METASTORE_CACHE_BYTES);
    let cache_entries = usize::try_from(conf.int(&keys::master::METASTORE_INODE_CACHE)).unwrap_or(usize::MAX);
    // What is damaged may be more than the store's own code expects.
    let opened = alluxio_common::panics::expecting(|| {
        let store = metastore::open(kind, dir, cache_bytes)?;
        State::open(store, StateOptions { cache_entries })
    });
    opened.unwrap_or_else(|| {
        let why = "the metadata store could not make sense of what is on the disk";
        Err(io::Error::new(io::ErrorKind::InvalidData, why))
    })
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

/// Journal and metadata may be on two disks.
fn room(conf: &Configuration, options: &MasterOptions) -> space::Room {
    let mut dirs = vec![options.journal_dir.clone()];
    if let MetastoreKind::Disk(dir) = &options.metastore {
        dirs.push(dir.clone());
    }
    let key = &keys::master::JOURNAL_SPACE_LOW;
    space::Room::new(dirs, conf.bytes(key), conf.is_set(key))
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
            crashsafe::create_dir_all(Path::new(path))
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
            copies: Default::default(),
            room: room(conf, options),
            watch: effects.watch.clone(),
            queue: effects.queue.clone(),
            pace: pace::Pace::new(),
            workers: effects.workers.clone(),
            sessions: sessions::Sessions::default(),
            locks: locks::Locks::default(),
            space: alluxio_common::sync::Mutex::new(report::SpaceCache::default()),
            damaged: CancellationToken::new(),
            metastore: options.metastore.clone(),
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
            challenges: Default::default(),
        });
        core.metrics.watch_volatile(&core);
        Ok(core)
    }

    async fn format(&self, cluster_id: &str, root: Root) -> FsResult<()> {
        tracing::info!(cluster_id, root = root.spec.uri, "formatting a new cluster");
        let format = Format {
            rules: RULES,
            cluster_id: cluster_id.to_owned(),
            owner: self.settings.user.clone(),
            group: self.settings.group.clone(),
            mode: ROOT_MODE,
            root: Some(credentials::sealed(self.ufs.secret(), root.spec)?),
        };
        self.propose_own(format).await?;
        if let Some(record) = self.state.mount(MountId::ROOT) {
            self.ufs.put(&record, root.ufs);
        }
        Ok(())
    }

    async fn make_ready(
        self: &Arc<Self>,
        conf: &Configuration,
        options: &MasterOptions,
        locked: Vec<MountId>,
    ) -> FsResult<()> {
        let old = self.adopt_rules().await?;
        self.forget_credentials(conf, locked).await?;
        self.take_up(options).await?;
        let sealed = self.seal_clear_mounts().await?;
        self.adopt_abilities().await?;
        if old || sealed {
            self.checkpoint_soon();
        }
        Ok(())
    }

    /// The first start after older software: what it journaled is applied as it was, what comes now as we do. True: there was
    /// older software.
    async fn adopt_rules(&self) -> FsResult<bool> {
        if self.state.counters().rules >= RULES {
            return Ok(false);
        }
        match self.propose_own(AdoptRules { rules: RULES }).await {
            Ok(_) => Ok(true),
            // Without room nothing is journaled; the next start comes.
            Err(error) if error.is_retryable() => {
                tracing::warn!(%error, "commands are applied by the rules of older software until the next start");
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// So that entries of older software leave the journal.
    fn checkpoint_soon(self: &Arc<Self>) {
        let core = Arc::clone(self);
        self.tasks.spawn(async move {
            if let Err(error) = core.journal.checkpoint().await {
                tracing::warn!(%error, "take a checkpoint, so that entries of older software leave the journal; the next one does");
            }
        });
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
            if options.end_sessions_of_hosts.contains(&session.host) {
                match self.end_session(id).await {
                    Ok(()) => continue,
                    // Without room it is served read-only; the session falls silent once there is some.
                    Err(error) if error.is_retryable() => {
                        tracing::warn!(session = %id, %error, "a session of before the start is not ended yet");
                    }
                    Err(error) => return Err(error),
                }
            }
            self.sessions.take_up(id, &session.host, self.settings.session_timeout);
            if session.uses_locks {
                self.locks.await_session(id);
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
        self.look_after_metastore();
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
