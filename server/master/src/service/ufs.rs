//! The under-storages of the mounts, opened when first needed; and which of them we refuse.

use alluxio_common::metrics::Metrics;
use alluxio_common::secret::SecretFile;
use alluxio_common::sync::{Mutex, RwLock};
use alluxio_proto::types::Property;
use alluxio_proto::{ErrorKind, FsError, FsResult, MountId};
use alluxio_ufs::UnderFileSystem;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::credentials;
use super::reach::{NotedUfs, Reach};
use super::settings::{SyncInterval, UfsOpener};
use crate::state::{MountRecord, State};

/// Trouble with one under-storage is logged this often at most.
const WARN_EVERY: Duration = Duration::from_secs(30);
/// Property of a mount that overrides how often it is looked at.
const SYNC_INTERVAL: &str = alluxio_common::config::keys::user::SYNC_INTERVAL.name;

#[derive(Clone, Debug)]
struct Open {
    ufs: Arc<dyn UnderFileSystem>,
    sync: SyncInterval,
    reach: Arc<Reach>,
}

impl Open {
    fn new(ufs: Arc<dyn UnderFileSystem>, sync: SyncInterval) -> Self {
        let reach = Arc::new(Reach::default());
        Self {
            ufs: Arc::new(NotedUfs::new(ufs, reach.clone())),
            sync,
            reach,
        }
    }
}

/// One client per mount.
pub(super) struct UfsRegistry {
    state: Arc<State>,
    opener: UfsOpener,
    default_sync: SyncInterval,
    own_dirs: Vec<PathBuf>,
    secret: Arc<SecretFile>,
    metrics: Metrics,
    open: RwLock<HashMap<MountId, Open>>,
    warned: Mutex<HashMap<MountId, Instant>>,
}

impl UfsRegistry {
    pub fn new(
        state: Arc<State>,
        opener: UfsOpener,
        default_sync: SyncInterval,
        own_dirs: Vec<PathBuf>,
        secret: Arc<SecretFile>,
        metrics: Metrics,
    ) -> Self {
        Self {
            secret,
            metrics,
            state,
            opener,
            default_sync,
            own_dirs,
            open: RwLock::default(),
            warned: Mutex::default(),
        }
    }

    /// A client for a URI that is not mounted yet. Nothing is asked of the store.
    pub fn open_uri(&self, uri: &str, options: &[Property]) -> FsResult<Arc<dyn UnderFileSystem>> {
        (self.opener)(uri, &option_map(options)).map_err(|error| FsError::from(error).context(format!("open {uri}")))
    }

    /// The cluster's secret.
    pub fn secret(&self) -> &Arc<SecretFile> {
        &self.secret
    }

    /// The client of a mount.
    pub fn of(&self, mount: MountId) -> FsResult<Arc<dyn UnderFileSystem>> {
        Ok(self.entry(mount)?.ufs)
    }

    /// How often a mount is looked at; never, for one that is gone.
    pub fn sync_interval(&self, mount: MountId) -> SyncInterval {
        self.entry(mount).map_or(SyncInterval::Never, |open| open.sync)
    }

    fn entry(&self, mount: MountId) -> FsResult<Open> {
        if let Some(open) = self.open.read().get(&mount) {
            return Ok(open.clone());
        }
        let Some(record) = self.state.mount(mount) else {
            return Err(FsError::new(ErrorKind::NotFound, format!("there is no mount {mount}")));
        };
        if record.wants_credentials() {
            let why = format!(
                "use {}: its credentials were forgotten; give them again by `alluxio fs mount --update PATH --option-file FILE`",
                record.uri()
            );
            return Err(FsError::new(ErrorKind::UfsDenied, why));
        }
        let ufs = self.open_uri(record.uri(), &credentials::options_of(&self.secret, &record)?)?;
        let open = self.opened(&record, ufs);
        Ok(self.open.write().entry(mount).or_insert(open).clone())
    }

    fn interval_of(&self, record: &MountRecord) -> SyncInterval {
        let own = record.options().iter().find(|option| option.key == SYNC_INTERVAL);
        own.and_then(|option| SyncInterval::parse(&option.value))
            .unwrap_or(self.default_sync)
    }

    /// From now on its requests are counted: not those of what is only tried, so that there are no more names than mounts.
    fn opened(&self, record: &MountRecord, ufs: Arc<dyn UnderFileSystem>) -> Open {
        ufs.metrics().serve_in(&self.metrics, "Master", record.uri());
        Open::new(ufs, self.interval_of(record))
    }

    /// A client that has been probed already becomes that of a mount.
    pub fn put(&self, record: &MountRecord, ufs: Arc<dyn UnderFileSystem>) {
        let open = self.opened(record, ufs);
        open.reach.answered();
        self.open.write().insert(MountId(record.id), open);
    }

    /// What is known of whether a mount's store answers; `None` if it was not used since the start.
    pub fn reach(&self, mount: MountId) -> Option<Arc<Reach>> {
        self.open.read().get(&mount).map(|open| open.reach.clone())
    }

    /// A worker tells how a call on the store of a mount went.
    pub fn heard(&self, mount: MountId, error: Option<&FsError>) {
        let Some(reach) = self.reach(mount) else { return };
        match error {
            None => reach.answered(),
            Some(error) if error.kind == ErrorKind::Unavailable => reach.failed(&error.message),
            Some(_) => {}
        }
    }

    /// The mount is gone.
    pub fn forget(&self, mount: MountId) {
        self.open.write().remove(&mount);
        self.warned.lock().remove(&mount);
    }

    /// Says that a store gives trouble, now and then.
    pub fn warn(&self, mount: MountId, doing: &str, error: &FsError) {
        let mut warned = self.warned.lock();
        let due = warned.get(&mount).is_none_or(|last| last.elapsed() >= WARN_EVERY);
        if due {
            warned.insert(mount, Instant::now());
            let uri = self
                .state
                .mount(mount)
                .map_or_else(String::new, |mount| mount.uri().to_owned());
            tracing::warn!(%mount, uri, %error, "{doing} failed; what is known is served on");
        }
    }

    /// Refuses a folder of this host that is ours, or lies inside one of ours: caching the cache has no end.
    pub fn refuse_own(&self, uri: &str) -> FsResult<()> {
        let Some(path) = local_path(uri) else { return Ok(()) };
        let path = canonical(&path);
        for own in &self.own_dirs {
            let own = canonical(own);
            if path.starts_with(&own) {
                let why = format!(
                    "{uri} lies in {}, which is a folder of ours (data or mount point); name another under-storage",
                    own.display()
                );
                return Err(FsError::new(ErrorKind::InvalidArgument, why));
            }
        }
        Ok(())
    }
}

impl std::fmt::Debug for UfsRegistry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UfsRegistry")
            .field("open", &self.open.read().len())
            .finish()
    }
}

pub(super) fn option_map(options: &[Property]) -> BTreeMap<String, String> {
    let pairs = options.iter().map(|option| (option.key.clone(), option.value.clone()));
    pairs.collect()
}

/// Folder of a normalized `file://` URI.
fn local_path(uri: &str) -> Option<PathBuf> {
    let normal = alluxio_ufs::normalize_uri(uri).ok()?;
    let encoded = normal.strip_prefix("file://")?;
    let mut bytes = Vec::with_capacity(encoded.len());
    let mut rest = encoded.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let hex = (*first == b'%').then(|| tail.get(..2)).flatten();
        let decoded = hex.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        bytes.push(decoded.unwrap_or(*first));
        rest = if decoded.is_some() { &tail[2..] } else { tail };
    }
    Some(PathBuf::from(
        <std::ffi::OsString as std::os::unix::ffi::OsStringExt>::from_vec(bytes),
    ))
}

/// With links resolved as far as the path exists: a folder to be made later counts by where it would be.
/// A URI by what its folder is called in the end, whatever links lead to it.
pub(super) fn real_uri(uri: &str) -> String {
    local_path(uri).map_or_else(
        || uri.to_owned(),
        |path| format!("file://{}", canonical(&path).display()),
    )
}

fn canonical(path: &Path) -> PathBuf {
    let mut missing = Vec::new();
    let mut at = path;
    loop {
        if let Ok(real) = at.canonicalize() {
            return missing.iter().rev().fold(real, |path, name| path.join(name));
        }
        match (at.parent(), at.file_name()) {
            (Some(parent), Some(name)) => {
                missing.push(name.to_owned());
                at = parent;
            }
            _ => return path.to_owned(),
        }
    }
}
