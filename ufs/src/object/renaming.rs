//! Renames: copies within the store, then deletes.
//!
//! A folder goes page by page: all keys of a page are copied, then deleted (while the next page is copied). So each key is always
//! under its old name, its new one, or both; after an interruption the old prefix holds what is still to do, and the same call does
//! the rest.
//!
//! Each object counts for itself: what the store refuses to copy or to delete is told of and stays; what vanished needs nothing;
//! what somebody replaced after it was listed is not deleted, but copied by another pass. Before a page is deleted it is listed again,
//! which shows nearly all of that at the price of one request for a thousand objects.
//!
//! A copy may have another ETag than its source. Who asked for the rename is told so before the source goes, so that it knows its
//! object again.

use alluxio_proto::types::FileKind;
use bytes::Bytes;
use futures::{StreamExt, stream};
use std::collections::{BTreeMap, HashMap, HashSet};

use super::ObjectUfs;
use super::client::{ListRequest, Listed, ListedPage, ObjectMeta};
use crate::{
    CopiedObject, CopyListener, LEFT_MAX, Left, Moved, UfsAttributes, UfsError, UfsErrorKind, UfsResult, UfsStatus,
    UnderFileSystem, path,
};

/// Keys moved at a time: one page of a listing, one request of deletes.
const KEYS_PER_STEP: usize = 1000;
/// How often a prefix is gone through anew because objects beneath it were replaced meanwhile.
const PASSES_MAX: usize = 8;

/// A folder that moves.
struct Tree<'a> {
    from: &'a str,
    to: &'a str,
    /// Paths that are neither moved nor replaced.
    kept: &'a HashSet<Bytes>,
    told: &'a dyn CopyListener,
    /// What was refused, by key.
    left: BTreeMap<String, Left>,
    /// Something changed meanwhile: once more.
    is_restless: bool,
    /// Too much was refused to go on.
    is_cut: bool,
}

/// What was copied of a page, which begins at the token.
struct Copied {
    token: Option<String>,
    objects: HashMap<String, ObjectMeta>,
}

impl Copied {
    fn new(token: Option<String>) -> Self {
        let objects = HashMap::new();
        Self { token, objects }
    }
}

/// What became of the sources of copies.
#[derive(Default)]
struct Deleted {
    refused: Vec<(ObjectMeta, UfsError)>,
    /// Not all of them were still what had been copied.
    is_restless: bool,
}

impl ObjectUfs {
    pub(super) async fn move_path(
        &self,
        from: &[u8],
        to: &[u8],
        kept: &HashSet<Bytes>,
        told: &dyn CopyListener,
    ) -> UfsResult<Moved> {
        let to_key = self.key(to)?;
        if path::is_beneath(to, from) {
            return Err(self.error(UfsErrorKind::Invalid, from, "a folder cannot be moved into itself"));
        }
        let Some(status) = self.status_if_any(from).await? else {
            // Done by an earlier call, whose answer was lost?
            return match self.status_if_any(to).await? {
                Some(done) => Ok(Moved::whole(done)),
                None => Err(self.error(UfsErrorKind::NotFound, from, "there is nothing to rename")),
            };
        };
        if from == to {
            return Ok(Moved::whole(status));
        }
        let target = self.status_if_any(to).await?.map(|target| target.kind);
        match (status.kind, target) {
            (FileKind::Directory, Some(FileKind::File)) => {
                Err(self.error(UfsErrorKind::NotADirectory, to, "a folder cannot replace a file"))
            }
            (FileKind::Directory, _) => {
                self.mark_parent(to).await?;
                let (from, to_prefix) = (self.prefix(from)?, self.prefix(to)?);
                let (left, is_cut) = self.move_folder(&from, &to_prefix, kept, told).await?;
                // If all of it stayed, there is nothing at the target.
                let folder = || UfsStatus::directory(to, UfsAttributes::default());
                let status = self.status_if_any(to).await?.unwrap_or_else(folder);
                Ok(Moved { status, left, is_cut })
            }
            (_, Some(FileKind::Directory)) => {
                Err(self.error(UfsErrorKind::IsADirectory, to, "a file cannot replace a folder"))
            }
            _ => {
                self.mark_parent(to).await?;
                let source = self.client.head(&self.key(from)?).await?;
                self.copy_object(&source, &to_key).await?;
                let left = self.delete_moved(from, &source).await?;
                let status = self.status(to).await?;
                Ok(Moved {
                    status,
                    left: left.into_iter().collect(),
                    is_cut: false,
                })
            }
        }
    }

    /// See [`UnderFileSystem::copy_file`].
    pub(super) async fn copy_path(&self, from: &[u8], fingerprint: &str, to: &[u8]) -> UfsResult<String> {
        let to_key = self.key(to)?;
        let source = self.client.head(&self.key(from)?).await?;
        if source.key == to_key {
            return Err(self.error(UfsErrorKind::Invalid, from, "a file cannot be copied onto itself"));
        }
        if source.etag != fingerprint {
            let why = "it is another object now, and is not copied";
            return Err(self.error(UfsErrorKind::PreconditionFailed, from, why));
        }
        let there = self.status_if_any(to).await?;
        if there.is_some_and(|there| there.kind == FileKind::Directory) {
            return Err(self.error(UfsErrorKind::IsADirectory, to, "a file cannot replace a folder"));
        }
        self.mark_parent(to).await?;
        match self.copy_object(&source, &to_key).await? {
            Some(etag) => Ok(etag),
            None => Ok(self.client.head(&to_key).await?.etag),
        }
    }

    async fn status_if_any(&self, path: &[u8]) -> UfsResult<Option<UfsStatus>> {
        match self.status(path).await {
            Ok(status) => Ok(Some(status)),
            Err(error) if error.kind == UfsErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn move_folder(
        &self,
        from: &str,
        to: &str,
        kept: &HashSet<Bytes>,
        told: &dyn CopyListener,
    ) -> UfsResult<(Vec<Left>, bool)> {
        let mut tree = Tree {
            from,
            to,
            kept,
            told,
            left: BTreeMap::new(),
            is_restless: false,
            is_cut: false,
        };
        for _ in 0..PASSES_MAX {
            tree.is_restless = false;
            self.move_pages(&mut tree).await?;
            if !tree.is_restless || tree.is_cut {
                return Ok((tree.left.into_values().collect(), tree.is_cut));
            }
        }
        let why = "objects beneath it are replaced again and again while it is renamed";
        Err(self.error(UfsErrorKind::Throttled, from.as_bytes(), why))
    }

    /// While a page is deleted, the next one is copied.
    async fn move_pages(&self, tree: &mut Tree<'_>) -> UfsResult<()> {
        let mut token: Option<String> = None;
        let mut copied = None;
        loop {
            let page = self.page_beneath(tree.from, &token).await?;
            let next = page.token.clone();
            let sources: Vec<ObjectMeta> = page
                .items
                .into_iter()
                .filter_map(|item| self.movable(tree, item))
                .collect();
            let (outcomes, deleted) =
                futures::join!(self.copy_all(tree, sources), self.delete_copied(tree.from, copied));
            let mut failed = None;
            let now = self.note_copied(tree, token.clone(), outcomes, &mut failed).await;
            self.note_deleted(tree, deleted, &mut failed);
            tree.is_cut = tree.left.len() > LEFT_MAX;
            let is_over = failed.is_some() || tree.is_cut || next.is_none();
            copied = Some(now);
            if is_over {
                let deleted = self.delete_copied(tree.from, copied.take()).await;
                self.note_deleted(tree, deleted, &mut failed);
            }
            match next {
                _ if is_over => return failed.map_or(Ok(()), Err),
                next if next == token => {
                    return Err(self.error(
                        UfsErrorKind::Other,
                        tree.from.as_bytes(),
                        "the store gives the same page again and again",
                    ));
                }
                next => token = next,
            }
        }
    }

    async fn page_beneath(&self, prefix: &str, token: &Option<String>) -> UfsResult<ListedPage> {
        let request = ListRequest {
            prefix,
            delimited: false,
            token: token.as_deref(),
            limit: KEYS_PER_STEP,
        };
        self.client.list(request).await
    }

    /// Whatever becomes of one, the others are copied.
    async fn copy_all(&self, tree: &Tree<'_>, sources: Vec<ObjectMeta>) -> Vec<(ObjectMeta, UfsResult<String>)> {
        let copies: Vec<_> = sources
            .into_iter()
            .map(|source| async move {
                let outcome = self.move_one(tree, &source).await;
                (source, outcome)
            })
            .collect();
        stream::iter(copies)
            .buffer_unordered(self.limits.requests_in_flight)
            .collect()
            .await
    }

    /// What of a page was copied. Those copies that are known by other ETags are told of: if that cannot be, nothing is to be deleted.
    async fn note_copied(
        &self,
        tree: &mut Tree<'_>,
        token: Option<String>,
        outcomes: Vec<(ObjectMeta, UfsResult<String>)>,
        failed: &mut Option<UfsError>,
    ) -> Copied {
        let (mut copied, mut renamed) = (Copied::new(token.clone()), Vec::new());
        for (source, outcome) in outcomes {
            match outcome {
                Ok(to) => {
                    if to != source.etag && !source.key.ends_with('/') {
                        renamed.push(CopiedObject {
                            path: self.path_of(&source.key),
                            from: source.etag.clone(),
                            to,
                        });
                    }
                    copied.objects.insert(source.key.clone(), source);
                }
                Err(error) => self.note_left(tree, source, false, error, failed),
            }
        }
        if !renamed.is_empty()
            && let Err(error) = tree.told.copied(renamed).await
        {
            *failed = Some(error);
            return Copied::new(token);
        }
        copied
    }

    /// Deletes what of a page is still the object that was copied; and what became of it.
    async fn delete_copied(&self, from: &str, copied: Option<Copied>) -> UfsResult<Deleted> {
        let mut deleted = Deleted::default();
        let Some(mut copied) = copied.filter(|copied| !copied.objects.is_empty()) else {
            return Ok(deleted);
        };
        let mut keys = Vec::with_capacity(copied.objects.len());
        for item in self.page_beneath(from, &copied.token).await?.items {
            if let Listed::Object(now) = item
                && copied
                    .objects
                    .get(&now.key)
                    .is_some_and(|source| source.etag == now.etag)
            {
                keys.push(now.key);
            }
        }
        deleted.is_restless = keys.len() < copied.objects.len();
        keys.iter().for_each(|key| self.marks.forget(key));
        let results = self.client.delete(&keys).await;
        for (key, result) in keys.into_iter().zip(results) {
            if let (Err(error), Some(source)) = (result, copied.objects.remove(&key)) {
                deleted.refused.push((source, error));
            }
        }
        Ok(deleted)
    }

    fn note_deleted(&self, tree: &mut Tree<'_>, deleted: UfsResult<Deleted>, failed: &mut Option<UfsError>) {
        match deleted {
            Ok(deleted) => {
                tree.is_restless |= deleted.is_restless;
                for (source, error) in deleted.refused {
                    self.note_left(tree, source, true, error, failed);
                }
            }
            Err(error) => *failed = Some(error),
        }
    }

    /// The ETag of the copy.
    async fn move_one(&self, tree: &Tree<'_>, source: &ObjectMeta) -> UfsResult<String> {
        let to = format!("{}{}", tree.to, &source.key[tree.from.len()..]);
        let path = self.path_of(&to);
        if to.len() > self.limits.key_bytes_max {
            return Err(self.error(
                UfsErrorKind::PathTooLong,
                &path,
                "the store takes no key of that length",
            ));
        }
        if is_kept_above(tree.kept, &path) {
            return Err(self.error(
                UfsErrorKind::Invalid,
                &path,
                "another object is there that cannot be moved",
            ));
        }
        match self.copy_object(source, &to).await? {
            Some(etag) => Ok(etag),
            None if source.key.ends_with('/') => Ok(source.etag.clone()),
            // Not all stores say so, and not everybody may ask. One that is gone already is nobody's.
            None => match self.client.head(&to).await {
                Ok(copy) => Ok(copy.etag),
                Err(error) if error.kind == UfsErrorKind::NotFound || error.is_refusal() => Ok(source.etag.clone()),
                Err(error) => Err(error),
            },
        }
    }

    /// What a failure of one object means for the whole.
    fn note_left(
        &self,
        tree: &mut Tree<'_>,
        source: ObjectMeta,
        copied: bool,
        error: UfsError,
        failed: &mut Option<UfsError>,
    ) {
        match error.kind {
            UfsErrorKind::NotFound => {}
            UfsErrorKind::PreconditionFailed => tree.is_restless = true,
            _ if error.is_refusal() => {
                let path = self.path_of(&source.key);
                let status = match source.key.ends_with('/') {
                    true => UfsStatus::directory(&path, UfsAttributes::default()),
                    false => self.file_status(&path, &source),
                };
                let left = Left {
                    path,
                    copied,
                    status,
                    error,
                };
                tree.left.insert(source.key, left);
            }
            _ => *failed = Some(error),
        }
    }

    /// Deletes what was copied elsewhere, unless somebody has put another object there since: that stays, as does what the store
    /// refuses to delete.
    async fn delete_moved(&self, from: &[u8], source: &ObjectMeta) -> UfsResult<Option<Left>> {
        match self.client.delete_if(&source.key, &source.etag).await {
            Ok(()) => Ok(None),
            Err(error) if error.kind == UfsErrorKind::PreconditionFailed => {
                tracing::warn!(
                    key = source.key,
                    "not deleted after a rename: another object is there now"
                );
                Ok(None)
            }
            Err(error) if error.is_refusal() => Ok(Some(Left {
                path: Bytes::copy_from_slice(from),
                copied: true,
                status: self.file_status(from, source),
                error,
            })),
            Err(error) => Err(error),
        }
    }

    /// Path of a key beneath the mount, without the slash of a folder's marker.
    fn path_of(&self, key: &str) -> Bytes {
        let beneath = match self.root.is_empty() {
            true => Some(key),
            false => key.strip_prefix(&self.root).and_then(|rest| rest.strip_prefix('/')),
        };
        let path = beneath.unwrap_or(key);
        Bytes::copy_from_slice(path.strip_suffix('/').unwrap_or(path).as_bytes())
    }

    /// Keys that cannot be paths move along, but for those that no URL can name: they stay, and are told of.
    fn movable(&self, tree: &Tree<'_>, item: Listed) -> Option<ObjectMeta> {
        let Listed::Object(meta) = item else { return None };
        let rest = meta.key.strip_prefix(tree.from)?;
        if rest.split('/').any(|part| part == "." || part == "..") {
            self.warn_skipped(&meta.key);
            return None;
        }
        let stays = tree.left.contains_key(&meta.key)
            || (!tree.kept.is_empty() && tree.kept.contains(&self.path_of(&meta.key)));
        (!stays).then_some(meta)
    }
}

/// Whether a path, or one above it, is to be left alone.
fn is_kept_above(kept: &HashSet<Bytes>, path: &Bytes) -> bool {
    let mut above = (!kept.is_empty()).then_some(&path[..]);
    while let Some(at) = above {
        if kept.contains(at) {
            return true;
        }
        above = at.iter().rposition(|byte| *byte == b'/').map(|slash| &at[..slash]);
    }
    false
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use alluxio_common::sync::Mutex;

    use super::super::client::{Limits, ObjectClient};
    use super::super::memory::MemoryObjects;
    use super::*;
    use crate::Expect;

    async fn with(keys: impl Iterator<Item = String>) -> (Arc<MemoryObjects>, ObjectUfs) {
        let client = Arc::new(MemoryObjects::new(Limits::default()));
        for key in keys {
            let (body, properties) = (Bytes::from(key.clone()), Default::default());
            client.put(&key, body, &Expect::Any, &properties).await.unwrap();
        }
        let ufs = ObjectUfs::new(client.clone(), String::new(), "test".to_owned(), "memory");
        (client, ufs)
    }

    #[tokio::test]
    async fn an_attempt_ends_after_much_was_refused_and_the_next_goes_on() {
        let count = LEFT_MAX + 1500;
        let name = |index| format!("f{index:05}");
        let keys = (0..count).map(|index| format!("d/{}", name(index)));
        let (client, ufs) = with(keys.chain(["d/z".to_owned()])).await;
        // Strays are in the way of all but the last.
        let mut kept: HashSet<Bytes> = (0..count).map(|index| format!("e/{}", name(index)).into()).collect();
        let moved = ufs.move_objects(b"d", b"e", &kept, &()).await.unwrap();
        assert!(moved.is_cut && moved.left.len() > LEFT_MAX && moved.left.len() < count);
        assert!(client.head("d/z").await.is_ok(), "it was not come to");
        kept.extend(moved.left.into_iter().map(|left| left.path));
        let moved = ufs.move_objects(b"d", b"e", &kept, &()).await.unwrap();
        assert!(!moved.is_cut && !moved.left.is_empty());
        assert!(client.head("d/z").await.is_err() && client.head("e/z").await.is_ok());
    }

    #[tokio::test]
    async fn nothing_comes_beneath_what_is_to_be_left_alone() {
        let (client, ufs) = with(["d/x/y".to_owned(), "d/z".to_owned(), "e/x".to_owned()].into_iter()).await;
        let kept = HashSet::from([Bytes::from("e/x")]);
        let moved = ufs.move_objects(b"d", b"e", &kept, &()).await.unwrap();
        let left: Vec<Bytes> = moved.left.into_iter().map(|left| left.path).collect();
        assert_eq!(left, ["d/x/y"]);
        assert!(client.head("d/x/y").await.is_ok() && client.head("e/z").await.is_ok());
    }

    /// Hears of copies while their sources are still there; refuses to, the first time.
    struct Listener {
        client: Arc<MemoryObjects>,
        heard: Mutex<Vec<Vec<CopiedObject>>>,
    }

    #[async_trait::async_trait]
    impl CopyListener for Listener {
        async fn copied(&self, copies: Vec<CopiedObject>) -> UfsResult<()> {
            for copy in &copies {
                let path = std::str::from_utf8(&copy.path).unwrap();
                assert_eq!(self.client.head(path).await.unwrap().etag, copy.from);
                let to = path.replacen("d/", "e/", 1);
                assert_eq!(self.client.head(&to).await.unwrap().etag, copy.to);
            }
            let mut heard = self.heard.lock();
            heard.push(copies);
            match heard.len() {
                1 => Err(UfsError::new(UfsErrorKind::Other, "it cannot be noted")),
                _ => Ok(()),
            }
        }
    }

    #[tokio::test]
    async fn copies_are_told_of_before_their_sources_go() {
        let (client, ufs) = with(["d/a".to_owned(), "d/b".to_owned()].into_iter()).await;
        let told = Listener {
            client: client.clone(),
            heard: Mutex::default(),
        };
        let kept = HashSet::new();
        ufs.move_objects(b"d", b"e", &kept, &told).await.unwrap_err();
        assert!(client.head("d/a").await.is_ok() && client.head("d/b").await.is_ok());
        ufs.move_objects(b"d", b"e", &kept, &told).await.unwrap();
        assert!(client.head("d/a").await.is_err() && client.head("d/b").await.is_err());
        let heard = told.heard.lock();
        let (first, second) = (&heard[0], &heard[1]);
        assert_eq!((first.len(), second.len()), (2, 2));
        assert!(
            first.iter().all(|copy| copy.from != copy.to && !second.contains(copy)),
            "other copies"
        );
    }
}
