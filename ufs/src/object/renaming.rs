//! Renames: copies within the store, then deletes.
//!
//! A folder goes page by page: all keys of a page are copied, then deleted. So each key is always under its old name, its
//! new one, or both; after an interruption the old prefix holds what is still to do, and the same call does the rest.

use alluxio_proto::types::FileKind;
use futures::{StreamExt, TryStreamExt, stream};

use super::ObjectUfs;
use super::client::{ListRequest, Listed, ObjectMeta};
use crate::{UfsErrorKind, UfsResult, UfsStatus, UnderFileSystem, path};

/// Keys moved at a time: one page of a listing, one request of deletes.
const KEYS_PER_STEP: usize = 1000;

impl ObjectUfs {
    pub(super) async fn rename_path(&self, from: &[u8], to: &[u8]) -> UfsResult<UfsStatus> {
        let to_key = self.key(to)?;
        if path::is_beneath(to, from) {
            return Err(self.error(UfsErrorKind::Invalid, from, "a folder cannot be moved into itself"));
        }
        let status = match self.status(from).await {
            Ok(status) => status,
            Err(error) if error.kind == UfsErrorKind::NotFound => {
                // Done by an earlier call, whose answer was lost?
                return self.status(to).await.map_err(|second| {
                    if second.kind == UfsErrorKind::NotFound {
                        error
                    } else {
                        second
                    }
                });
            }
            Err(error) => return Err(error),
        };
        if from == to {
            return Ok(status);
        }
        let target = match self.status(to).await {
            Ok(target) => Some(target.kind),
            Err(error) if error.kind == UfsErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        match (status.kind, target) {
            (FileKind::Directory, Some(FileKind::File)) => {
                Err(self.error(UfsErrorKind::NotADirectory, to, "a folder cannot replace a file"))
            }
            (FileKind::Directory, _) => {
                self.mark_parent(to).await?;
                self.rename_folder(&self.prefix(from)?, &self.prefix(to)?).await?;
                self.status(to).await
            }
            (_, Some(FileKind::Directory)) => {
                Err(self.error(UfsErrorKind::IsADirectory, to, "a file cannot replace a folder"))
            }
            _ => {
                self.mark_parent(to).await?;
                let source = self.client.head(&self.key(from)?).await?;
                self.copy_object(&source, &to_key).await?;
                self.delete_moved(&source).await?;
                self.status(to).await
            }
        }
    }

    /// See [`UnderFileSystem::copy_file`].
    pub(super) async fn copy_path(&self, from: &[u8], fingerprint: &str, to: &[u8]) -> UfsResult<String> {
        let to_key = self.key(to)?;
        let source = self.client.head(&self.key(from)?).await?;
        if source.etag != fingerprint {
            let why = "it is another object now, and is not copied";
            return Err(self.error(UfsErrorKind::PreconditionFailed, from, why));
        }
        match self.status(to).await {
            Ok(there) if there.kind == FileKind::Directory => {
                return Err(self.error(UfsErrorKind::IsADirectory, to, "a file cannot replace a folder"));
            }
            Ok(_) => {}
            Err(error) if error.kind == UfsErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        match self.copy_object(&source, &to_key).await? {
            Some(etag) => Ok(etag),
            None => Ok(self.client.head(&to_key).await?.etag),
        }
    }

    async fn rename_folder(&self, from: &str, to: &str) -> UfsResult<()> {
        let mut token: Option<String> = None;
        loop {
            let request = ListRequest {
                prefix: from,
                delimited: false,
                token: token.as_deref(),
                limit: KEYS_PER_STEP,
            };
            let page = self.client.list(request).await?;
            let sources: Vec<ObjectMeta> = page
                .items
                .into_iter()
                .filter_map(|item| self.movable(from, item))
                .collect();
            let targets: Vec<String> = sources
                .iter()
                .map(|source| format!("{to}{}", &source.key[from.len()..]))
                .collect();
            let copies: Vec<_> = sources
                .iter()
                .zip(&targets)
                .map(|(from, to)| async move { self.copy_object(from, to).await.map(drop) })
                .collect();
            stream::iter(copies)
                .buffer_unordered(self.limits.requests_in_flight)
                .try_collect::<()>()
                .await?;
            let keys: Vec<String> = sources.into_iter().map(|source| source.key).collect();
            keys.iter().for_each(|key| self.marks.forget(key));
            self.client.delete(&keys).await.into_iter().collect::<UfsResult<()>>()?;
            match page.token {
                None => return Ok(()),
                next if next == token => {
                    return Err(self.error(
                        UfsErrorKind::Other,
                        from.as_bytes(),
                        "the store gives the same page again and again",
                    ));
                }
                next => token = next,
            }
        }
    }

    /// Deletes what was copied elsewhere, unless somebody has put another object there since: that stays.
    async fn delete_moved(&self, source: &ObjectMeta) -> UfsResult<()> {
        match self.client.delete_if(&source.key, &source.etag).await {
            Err(error) if error.kind == UfsErrorKind::PreconditionFailed => {
                tracing::warn!(
                    key = source.key,
                    "not deleted after a rename: another object is there now"
                );
                Ok(())
            }
            other => other,
        }
    }

    /// Keys that cannot be paths move along, but for those that no URL can name: they stay, and are told of.
    fn movable(&self, from: &str, item: Listed) -> Option<ObjectMeta> {
        let Listed::Object(meta) = item else { return None };
        let rest = meta.key.strip_prefix(from)?;
        if rest.split('/').any(|part| part == "." || part == "..") {
            self.warn_skipped(&meta.key);
            return None;
        }
        Some(meta)
    }
}
