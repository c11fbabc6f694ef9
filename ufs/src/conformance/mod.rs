//! The one conformance suite of all under-storages.
//!
//! It panics with the case's name where a store does not keep the contract of [`UnderFileSystem`]. It works in a folder
//! of its own beneath the root and removes it when it is through. What a store cannot do is asked of its capabilities;
//! what a *server* cannot do is said in the [`Profile`].

mod data;
mod names;
mod over;
mod tree;

use std::sync::Arc;

use alluxio_proto::types::FileKind;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;

use crate::{BytesSource, Expect, UfsAttributes, UfsErrorKind, UfsResult, UfsStatus, UnderFileSystem, path};

/// Another client of the same store, that puts keys there which no path can name.
#[async_trait::async_trait]
pub trait RawKeys: Send + Sync {
    /// Puts an object; the key is relative to the root of the store under test.
    async fn put(&self, key: &str, body: &[u8]);
    /// Removes it again.
    async fn delete(&self, key: &str);
}

/// What is special about the store under test.
#[derive(Clone)]
pub struct Profile {
    /// Longest path the store is expected to take, in bytes; 0 leaves the case out.
    pub key_bytes_max: usize,
    /// A length that is above one PUT, so that the upload goes in parts.
    pub large_bytes: usize,
    /// Folders exist without content: `mkdir` works.
    pub empty_folders: bool,
    /// Names may hold control characters other than line breaks.
    pub control_characters: bool,
    /// Names may hold line breaks.
    pub line_breaks: bool,
    /// Names need not be UTF-8.
    pub any_bytes: bool,
    /// A file `k` may stand beside a folder `k` (exact object stores).
    pub file_beside_folder: bool,
    /// Where keys that cannot be paths come from; without it those cases are left out.
    pub raw: Option<Arc<dyn RawKeys>>,
}

impl Profile {
    /// A file system.
    pub fn posix() -> Self {
        Self {
            key_bytes_max: 1024,
            large_bytes: 5 << 20,
            empty_folders: true,
            control_characters: true,
            line_breaks: true,
            any_bytes: true,
            file_beside_folder: false,
            raw: None,
        }
    }

    /// An object store with exact keys and parts of 8 MiB at most.
    pub fn object() -> Self {
        Self {
            key_bytes_max: 1024,
            large_bytes: 17 << 20,
            empty_folders: true,
            control_characters: true,
            line_breaks: true,
            any_bytes: false,
            file_beside_folder: true,
            raw: None,
        }
    }
}

/// Runs every case that the store's capabilities and the profile allow.
///
/// # Panics
/// If the store does not conform.
pub async fn run(ufs: Arc<dyn UnderFileSystem>, profile: Profile) {
    let suite = Suite {
        ufs,
        profile,
        folder: format!("conformance-{:016x}", rand::random::<u64>()).into_bytes(),
    };
    suite.ufs.probe().await.expect("probe");
    suite.data().await;
    suite.over().await;
    suite.names().await;
    suite.tree().await;
    suite.clean(suite.folder.clone()).await;
}

/// One run.
struct Suite {
    ufs: Arc<dyn UnderFileSystem>,
    profile: Profile,
    folder: Vec<u8>,
}

impl Suite {
    /// A path in this run's folder.
    fn at(&self, name: impl AsRef<[u8]>) -> Vec<u8> {
        path::join(&self.folder, name.as_ref())
    }

    async fn put(&self, path: &[u8], body: impl Into<Bytes>) -> UfsStatus {
        let attributes = UfsAttributes::default();
        let source = BytesSource(body.into());
        let written = self.ufs.write(path, &source, &Expect::Any, &attributes).await;
        written.unwrap_or_else(|error| panic!("write {}: {error}", path::show(path)))
    }

    async fn get(&self, path: &[u8], range: std::ops::Range<u64>, fingerprint: &str) -> UfsResult<Bytes> {
        let mut stream = self.ufs.read(path, range, fingerprint).await?;
        let mut all = BytesMut::new();
        while let Some(chunk) = stream.next().await {
            all.extend_from_slice(&chunk?);
        }
        Ok(all.freeze())
    }

    async fn get_all(&self, path: &[u8]) -> Bytes {
        let status = self.ufs.status(path).await;
        let status = status.unwrap_or_else(|error| panic!("status of {}: {error}", path::show(path)));
        let body = self.get(path, 0..status.length, &status.fingerprint).await;
        body.unwrap_or_else(|error| panic!("read {}: {error}", path::show(path)))
    }

    /// The whole of a folder in pages, with what was skipped. Checks that each name comes once.
    async fn list(&self, dir: &[u8], limit: usize) -> UfsResult<(Vec<UfsStatus>, u64)> {
        let mut entries: Vec<UfsStatus> = Vec::new();
        let mut skipped = 0;
        let mut token = None;
        for _ in 0..100_000 {
            let page = self.ufs.list(dir, token, limit).await?;
            assert!(
                page.entries.len() <= limit,
                "a page of {} for {limit}",
                page.entries.len()
            );
            entries.extend(page.entries);
            skipped += page.skipped;
            token = page.next;
            if token.is_none() {
                let mut names: Vec<&Bytes> = entries.iter().map(|entry| &entry.name).collect();
                names.sort();
                let count = names.len();
                names.dedup();
                assert_eq!(names.len(), count, "a name came twice in {}", path::show(dir));
                return Ok((entries, skipped));
            }
        }
        panic!("the listing of {} does not end", path::show(dir));
    }

    /// Names of a folder, sorted; folders end in a slash.
    async fn names_in(&self, dir: &[u8], limit: usize) -> Vec<String> {
        let listed = self.list(dir, limit).await;
        let (entries, _) = listed.unwrap_or_else(|error| panic!("list {}: {error}", path::show(dir)));
        let mut names: Vec<String> = entries
            .iter()
            .map(|entry| {
                let slash = if entry.kind == FileKind::Directory { "/" } else { "" };
                format!("{}{slash}", path::show(&entry.name))
            })
            .collect();
        names.sort();
        names
    }

    async fn kind_of_status(&self, path: &[u8]) -> Result<FileKind, UfsErrorKind> {
        self.ufs
            .status(path)
            .await
            .map(|status| status.kind)
            .map_err(|error| error.kind)
    }

    /// Removes a folder and all beneath it.
    async fn clean(&self, dir: Vec<u8>) {
        let (entries, _) = match self.list(&dir, 1000).await {
            Ok(listed) => listed,
            Err(error) if error.kind == UfsErrorKind::NotFound => return,
            Err(error) => panic!("list {}: {error}", path::show(&dir)),
        };
        let (folders, files): (Vec<_>, Vec<_>) =
            entries.into_iter().partition(|entry| entry.kind == FileKind::Directory);
        let files: Vec<Bytes> = files.iter().map(|file| path::join(&dir, &file.name).into()).collect();
        for (path, result) in files.iter().zip(self.ufs.delete(&files).await) {
            result.unwrap_or_else(|error| panic!("delete {}: {error}", path::show(path)));
        }
        for folder in folders {
            Box::pin(self.clean(path::join(&dir, &folder.name))).await;
        }
        let removed = self.ufs.rmdir(&dir).await;
        removed.unwrap_or_else(|error| panic!("rmdir {}: {error}", path::show(&dir)));
    }
}

/// Bytes that tell where they are from.
fn pattern(length: usize, seed: u64) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut out = BytesMut::with_capacity(length + 8);
    while out.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(length);
    out.freeze()
}
