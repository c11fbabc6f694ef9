//! From a URI to an under-storage.

use std::collections::BTreeMap;
use std::sync::Arc;

use alluxio_common::config::Configuration;

use crate::uri::{self, UfsUri};
use crate::{UfsError, UfsErrorKind, UfsResult, UnderFileSystem};

/// Opens the under-storage of `uri`. Options of the mount go before the configuration. Does no IO on the store:
/// [`UnderFileSystem::probe`] does.
///
/// # Errors
/// [`UfsErrorKind::Invalid`] if URI or options make no sense.
pub fn open(
    uri: &str,
    options: &BTreeMap<String, String>,
    conf: &Configuration,
) -> UfsResult<Arc<dyn UnderFileSystem>> {
    let mut conf = conf.clone();
    for (key, value) in options {
        conf.set(key, value);
    }
    match uri::parse(uri)? {
        other => Err(UfsError::new(UfsErrorKind::Unsupported, format!("not yet: {other:?}"))),
    }
}
