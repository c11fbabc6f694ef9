//! From a URI to an under-storage.

use std::collections::BTreeMap;
use std::sync::Arc;

use alluxio_common::config::{Configuration, keys};

use crate::memory::memory;
use crate::object::ObjectUfs;
use crate::object::attributes::Policy;
use crate::object::client::ObjectClient;
use crate::object::generic::GenericClient;
use crate::posix::PosixUfs;
use crate::s3::S3Client;
use crate::uri::{self, UfsUri};
use crate::{UfsError, UfsErrorKind, UfsResult, UnderFileSystem};

/// Opens the under-storage of `uri`. Options of the mount go before the configuration. Does no IO on the store:
/// [`UnderFileSystem::probe`] does. A `memory://` URI opens a new, empty store each time.
///
/// # Errors
/// [`crate::UfsErrorKind::Invalid`] if URI or options make no sense.
pub fn open(
    uri: &str,
    options: &BTreeMap<String, String>,
    conf: &Configuration,
) -> UfsResult<Arc<dyn UnderFileSystem>> {
    let label = uri::normalize_uri(uri)?;
    let pairs = options.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    let conf = conf
        .with_mount_options(pairs)
        .map_err(|error| UfsError::new(UfsErrorKind::Invalid, format!("options of {label}: {error}")))?;
    let uploads = conf.path(&keys::underfs::UPLOADS_DIR);
    let policy = Policy::parse(&conf.string(&keys::underfs::S3_ATTRIBUTES));
    let objects = |client: Arc<dyn ObjectClient>, prefix| {
        let ufs = ObjectUfs::new(client, prefix, label.clone(), "object").keeping(policy);
        Arc::new(ufs.noting_uploads_in(uploads.clone()))
    };
    Ok(match uri::parse(uri)? {
        UfsUri::Local(path) => Arc::new(PosixUfs::new(path)),
        UfsUri::S3 { bucket, prefix } => objects(Arc::new(S3Client::new(&bucket, &conf)?), prefix),
        UfsUri::Generic { base, prefix } => objects(Arc::new(GenericClient::open(&base, options)?), prefix),
        UfsUri::Memory => Arc::new(memory()),
    })
}
