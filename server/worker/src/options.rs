//! What a worker is started with, and its settings out of the configuration.

use alluxio_common::config::{Configuration, Key, keys::general, keys::worker as keys};
use alluxio_common::metrics::Metrics;
use alluxio_common::secret::SecretFile;
use alluxio_proto::master::MountInfo;
use alluxio_proto::types::WorkerAddress;
use alluxio_proto::{CHUNK_BYTES, ErrorKind, FsError, FsResult, MasterApi};
use alluxio_ufs::UnderFileSystem;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Makes the client of a mount's under-storage.
pub type UfsOpener = Arc<dyn Fn(&MountInfo) -> FsResult<Arc<dyn UnderFileSystem>> + Send + Sync>;

/// What a worker is started with.
#[derive(Clone)]
pub struct WorkerOptions {
    /// Folder of its data; made if it is missing.
    pub data_dir: PathBuf,
    /// Whom it works for.
    pub master: Arc<dyn MasterApi>,
    /// Where it will serve, as told to clients (`worker_id` and `nonce` are filled in). Bind the listener first, then start the worker.
    pub address: WorkerAddress,
    /// Where it counts.
    pub metrics: Metrics,
    /// How it opens under-storages; [`default_opener`] outside tests.
    pub ufs_opener: UfsOpener,
    /// The secret by which it proves itself to the master, and knows the master's leases.
    pub secret: Arc<SecretFile>,
}

impl WorkerOptions {
    /// With the opener of [`default_opener`] and metrics of its own.
    pub fn new(
        conf: &Configuration,
        data_dir: impl Into<PathBuf>,
        master: Arc<dyn MasterApi>,
        address: WorkerAddress,
    ) -> Self {
        Self {
            data_dir: data_dir.into(),
            master,
            address,
            metrics: Metrics::new(),
            ufs_opener: default_opener(conf),
            secret: SecretFile::new(conf.path(&general::CLUSTER_SECRET_FILE)),
        }
    }
}

/// Opens under-storages by [`alluxio_ufs::open`], options of the mount before those of `conf`.
pub fn default_opener(conf: &Configuration) -> UfsOpener {
    let conf = conf.clone();
    Arc::new(move |mount: &MountInfo| {
        let options: BTreeMap<String, String> = mount
            .options
            .iter()
            .map(|property| (property.key.clone(), property.value.clone()))
            .collect();
        Ok(alluxio_ufs::open(&mount.uri, &options, &conf)?)
    })
}

/// The worker's settings, checked.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub tier_alias: String,
    /// `None`: of the file system's space.
    pub quota_bytes: Option<u64>,
    pub high_ratio: f64,
    pub low_ratio: f64,
    pub sync_on_close: bool,
    pub whole_fetch_bytes: u64,
    /// Files that the under-storage has are written with knowledge of what changes from this size on.
    pub track_bytes_min: u64,
    /// Files that are written past this process are slowed down and spilled as well.
    pub guards_writes: bool,
    pub part_bytes: u64,
    pub parts_per_file: usize,
    pub parts_max: usize,
    pub readahead_min_bytes: u64,
    pub readahead_max_bytes: u64,
    pub files_loaded_max: usize,
    pub verify_bytes_per_s: u64,
    pub scrub_bytes_per_s: u64,
    /// `None`: never.
    pub scrub_period: Option<Duration>,
    pub persist_parallelism: usize,
    pub stale_upload_age: Option<Duration>,
    pub heartbeat_interval: Duration,
}

impl Settings {
    /// # Errors
    /// `InvalidArgument` naming the key.
    pub fn new(conf: &Configuration) -> FsResult<Self> {
        let ratio = |key: &Key| -> FsResult<f64> {
            let text = conf.string(key);
            let value = text.trim().parse::<f64>().ok().filter(|v| *v > 0.0 && *v <= 1.0);
            value.ok_or_else(|| bad(key, &text, "a number above 0 and at most 1"))
        };
        let quota_text = conf.string(&keys::WORKER_TIER0_QUOTA);
        let quota_bytes = match quota_text.trim() {
            "" => None,
            text => Some(
                alluxio_common::config::parse_bytes(text)
                    .filter(|bytes| *bytes > 0)
                    .ok_or_else(|| bad(&keys::WORKER_TIER0_QUOTA, text, "a size such as 10GB"))?,
            ),
        };
        let high_ratio = ratio(&keys::WORKER_TIER0_HIGH_RATIO)?;
        let low_ratio = ratio(&keys::WORKER_TIER0_LOW_RATIO)?;
        if low_ratio > high_ratio {
            let text = conf.string(&keys::WORKER_TIER0_LOW_RATIO);
            return Err(bad(&keys::WORKER_TIER0_LOW_RATIO, &text, "at most the high ratio"));
        }
        // Whole chunks, and not less than one: the unit of what is kept.
        let chunked = |key: &Key| conf.bytes(key).max(CHUNK_BYTES).next_multiple_of(CHUNK_BYTES);
        let count = |key: &Key| usize::try_from(conf.int(key)).unwrap_or(usize::MAX).max(1);
        Ok(Self {
            tier_alias: conf.string(&keys::WORKER_TIER0_ALIAS),
            quota_bytes,
            high_ratio,
            low_ratio,
            sync_on_close: conf.bool(&keys::WORKER_SYNC_ON_CLOSE),
            whole_fetch_bytes: conf.bytes(&keys::WORKER_WHOLE_FETCH_BYTES),
            track_bytes_min: conf.bytes(&keys::WORKER_OVERWRITE_TRACK_BYTES),
            guards_writes: conf.bool(&keys::WORKER_WRITE_GUARD),
            part_bytes: chunked(&keys::WORKER_FETCH_PART_BYTES),
            parts_per_file: count(&keys::WORKER_FETCH_PARTS_PER_FILE),
            parts_max: count(&keys::WORKER_FETCH_PARTS_MAX),
            readahead_min_bytes: chunked(&keys::WORKER_READAHEAD_MIN_BYTES),
            readahead_max_bytes: chunked(&keys::WORKER_READAHEAD_MAX_BYTES),
            files_loaded_max: count(&keys::WORKER_FILES_LOADED_MAX).min(loadable()),
            verify_bytes_per_s: conf.bytes(&keys::WORKER_VERIFY_RATE),
            scrub_bytes_per_s: conf.bytes(&keys::WORKER_SCRUB_RATE),
            scrub_period: conf.duration(&keys::WORKER_SCRUB_PERIOD),
            persist_parallelism: count(&keys::WORKER_PERSIST_PARALLELISM),
            stale_upload_age: conf.duration(&keys::WORKER_STALE_UPLOAD_AGE),
            heartbeat_interval: conf
                .duration(&keys::WORKER_HEARTBEAT_INTERVAL)
                .unwrap_or(Duration::from_secs(1)),
        })
    }
}

/// How many files may be loaded for their descriptors: two each, half of the limit for all else.
fn loadable() -> usize {
    let limit = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE);
    // 1,024 is what processes are given everywhere.
    let (soft, _) = limit.unwrap_or((1024, 1024));
    usize::try_from(soft / 4).unwrap_or(usize::MAX).max(64)
}

fn bad(key: &Key, text: &str, wanted: &str) -> FsError {
    let message = format!("{}={text} is not {wanted}", key.name);
    FsError::new(ErrorKind::InvalidArgument, message)
}
