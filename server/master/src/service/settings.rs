//! What a master is started with, and its settings out of the configuration.

use alluxio_common::config::{Configuration, keys};
use alluxio_common::metrics::Metrics;
use alluxio_common::secret::SecretFile;
use alluxio_ufs::{UfsResult, UnderFileSystem};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Makes the client of an under-storage from its URI and the options of its mount. Does no IO.
pub type UfsOpener = Arc<dyn Fn(&str, &BTreeMap<String, String>) -> UfsResult<Arc<dyn UnderFileSystem>> + Send + Sync>;

/// Where the metadata store keeps its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetastoreKind {
    /// In memory, rebuilt from the journal at each start.
    Heap,
    /// On disk.
    Disk(PathBuf),
}

/// What a master is started with beside the configuration.
#[derive(Clone)]
pub struct MasterOptions {
    /// Folder of the journal.
    pub journal_dir: PathBuf,
    /// Where metadata is kept.
    pub metastore: MetastoreKind,
    /// Where it counts.
    pub metrics: Metrics,
    /// How it opens under-storages; `alluxio_ufs::open` outside tests.
    pub ufs_opener: UfsOpener,
    /// Folders of ours (data, mount points): no under-storage may be one of them or lie inside one. Journal and metadata
    /// folders are always among them.
    pub own_dirs: Vec<PathBuf>,
    /// Sessions of clients on this host, by every name it has or had, are ended at start: with client and master in one process,
    /// none can have survived.
    pub end_sessions_of_hosts: Vec<String>,
    /// The cluster's secret; made if there is none.
    pub secret: Arc<SecretFile>,
    /// `host:port` that reports name as the master's address; empty: from the configuration.
    pub advertised: String,
}

impl MasterOptions {
    /// Everything from the configuration.
    pub fn new(conf: &Configuration) -> Self {
        let conf_of_ufs = conf.clone();
        let on_disk = conf.string(&keys::master::METASTORE) != "HEAP";
        let dir = PathBuf::from(conf.string(&keys::master::METASTORE_DIR));
        Self {
            journal_dir: conf.string(&keys::master::JOURNAL_FOLDER).into(),
            metastore: if on_disk {
                MetastoreKind::Disk(dir)
            } else {
                MetastoreKind::Heap
            },
            metrics: Metrics::new(),
            ufs_opener: Arc::new(move |uri, options| alluxio_ufs::open(uri, options, &conf_of_ufs)),
            own_dirs: Vec::new(),
            end_sessions_of_hosts: Vec::new(),
            advertised: String::new(),
            secret: SecretFile::new(conf.path(&keys::general::CLUSTER_SECRET_FILE)),
        }
    }
}

impl std::fmt::Debug for MasterOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MasterOptions")
            .field("journal_dir", &self.journal_dir)
            .field("metastore", &self.metastore)
            .field("own_dirs", &self.own_dirs)
            .finish_non_exhaustive()
    }
}

/// How often an under-storage is looked at again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SyncInterval {
    Never,
    Every(Duration),
}

impl SyncInterval {
    /// From a property value; `None` if it is none.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match alluxio_common::config::parse_duration(text)? {
            None => Self::Never,
            Some(every) => Self::Every(every),
        })
    }
}

/// The master's settings, read once.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub session_timeout: Duration,
    pub worker_timeout: Duration,
    pub sync_interval: SyncInterval,
    pub persist_wait: Duration,
    /// How long attributes rest before an object is given them.
    pub attributes_wait: Duration,
    pub retry_first: Duration,
    pub retry_max: Duration,
    /// A change that a store refuses for so long is not tried any more.
    pub refused_timeout: Duration,
    pub ufs_changes_max: usize,
    pub listing_page_max: usize,
    pub absent_names_max: usize,
    pub block_bytes: u64,
    pub supergroup: String,
    pub authorization: bool,
    pub inherit_owner: bool,
    /// Who runs this process: a superuser, and owner of what a store gives no owner.
    pub user: String,
    pub group: String,
    pub address: String,
    pub web_port: u32,
}

impl Settings {
    pub fn new(conf: &Configuration, options: &MasterOptions) -> Self {
        let duration = |key, default: u64| conf.duration(key).unwrap_or(Duration::from_secs(default));
        let count = |key| usize::try_from(conf.int(key)).unwrap_or(usize::MAX).max(1);
        let address = if options.advertised.is_empty() {
            let host = conf.string(&keys::master::MASTER_HOSTNAME);
            format!("{host}:{}", conf.int(&keys::master::MASTER_RPC_PORT))
        } else {
            options.advertised.clone()
        };
        let (user, group) = process_identity();
        Self {
            session_timeout: duration(&keys::user::SESSION_TIMEOUT, 60).max(Duration::from_millis(100)),
            worker_timeout: duration(&keys::master::WORKER_TIMEOUT, 300).max(Duration::from_millis(100)),
            sync_interval: match conf.duration(&keys::user::SYNC_INTERVAL) {
                Some(every) => SyncInterval::Every(every),
                None => SyncInterval::Never,
            },
            persist_wait: duration(&keys::user::PERSIST_WAIT, 0),
            attributes_wait: duration(&keys::underfs::S3_ATTRIBUTES_WAIT, 0),
            retry_first: duration(&keys::master::PERSIST_INITIAL_INTERVAL, 1).max(Duration::from_millis(10)),
            retry_max: duration(&keys::master::PERSIST_MAX_INTERVAL, 60).max(Duration::from_millis(10)),
            refused_timeout: conf.duration(&keys::master::REFUSED_TIMEOUT).unwrap_or(Duration::MAX),
            ufs_changes_max: count(&keys::master::PERSIST_PARALLEL),
            listing_page_max: count(&keys::master::LISTING_PAGE),
            absent_names_max: count(&keys::master::ABSENT_CACHE_SIZE),
            block_bytes: conf.bytes(&keys::user::BLOCK_SIZE).max(1),
            supergroup: conf.string(&keys::general::SUPERGROUP),
            authorization: conf.bool(&keys::general::AUTHORIZATION_ENABLED),
            inherit_owner: conf.bool(&keys::master::INHERIT_OWNER),
            user,
            group,
            address,
            web_port: u32::try_from(conf.int(&keys::master::MASTER_WEB_PORT)).unwrap_or(0),
        }
    }
}

/// User and group of this process by name, or as decimal text where they have none.
fn process_identity() -> (String, String) {
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    let user = nix::unistd::User::from_uid(uid).ok().flatten();
    let group = nix::unistd::Group::from_gid(gid).ok().flatten();
    (
        user.map_or_else(|| uid.to_string(), |user| user.name),
        group.map_or_else(|| gid.to_string(), |group| group.name),
    )
}
