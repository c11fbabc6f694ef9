//! Attributes of what is there: read where a listing cannot tell them, changed by a copy inside the store, and kept with folders.
//!
//! A folder's marker `dir/` carries the folder's own attributes, and a mark that says that objects in it carry theirs: it is set
//! before the first of them is written, so that a listing of a folder without it costs no request but itself. The root of a whole
//! bucket has no marker; an object [`ROOT_MARK`] stands for it and is no name of ours.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use alluxio_common::sync::Mutex;
use alluxio_proto::types::FileKind;
use bytes::{Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt, stream};

use super::ObjectUfs;
use super::attributes::{self, Found, Policy};
use super::client::{Listed, Metadata, ObjectMeta, Properties, now_ns};
use crate::{Expect, UfsAttributes, UfsError, UfsErrorKind, UfsResult, UfsStatus, path};

/// Stands for the marker that the root of a bucket cannot have.
pub(super) const ROOT_MARK: &str = ".alluxio-folder";
/// Longest target of a link: a path of Linux.
const TARGET_BYTES_MAX: u64 = 4095;
/// How long a mark that was seen is believed to be there by who writes beneath it: others may remove it.
const MARK_BELIEVED: Duration = Duration::from_secs(60);
/// Folders whose marks are remembered; beyond it all are forgotten, which costs a look each.
const MARKS_MAX: usize = 10_000;
/// Others may change a marker between our look and our write.
const MARKER_TRIES: usize = 4;
/// Of s3fs, so that it knows links for what they are whatever else it looks at.
const LINK_TYPE: (&str, &str) = ("content-type", "application/octet-stream");

/// A folder whose marker says that objects in it carry attributes.
#[derive(Debug)]
struct Marked {
    /// Ours is there; if not, who writes has to set it.
    is_ours: bool,
    seen: Instant,
    /// Of the marker.
    etag: String,
    modified_ns: i64,
}

/// What is known of marks.
#[derive(Debug, Default)]
pub(super) struct Marks {
    folders: Mutex<HashMap<String, Marked>>,
    /// That they cannot be set, or attributes not be read, was said.
    said: AtomicBool,
}

impl Marks {
    /// What a marker says.
    pub(super) fn note(&self, marker: &ObjectMeta) -> bool {
        let metadata = &marker.properties.metadata;
        let marked = Marked {
            is_ours: attributes::is_marked(metadata),
            seen: Instant::now(),
            etag: marker.etag.clone(),
            modified_ns: marker.modified_ns,
        };
        let says = attributes::says_attributes(metadata);
        if says {
            self.remember(&marker.key, marked);
        }
        says
    }

    fn remember(&self, marker: &str, marked: Marked) {
        let mut folders = self.folders.lock();
        if folders.len() >= MARKS_MAX {
            folders.clear();
        }
        folders.insert(marker.to_owned(), marked);
    }

    /// It was set, or cannot be: either way it is not looked at for a while.
    fn settled(&self, marker: &str) {
        let marked = Marked {
            is_ours: true,
            seen: Instant::now(),
            etag: String::new(),
            modified_ns: 0,
        };
        self.remember(marker, marked);
    }

    pub(super) fn forget(&self, marker: &str) {
        self.folders.lock().remove(marker);
    }

    fn is_set(&self, marker: &str) -> bool {
        let folders = self.folders.lock();
        let marked = folders.get(marker);
        marked.is_some_and(|marked| marked.is_ours && marked.seen.elapsed() < MARK_BELIEVED)
    }

    /// Whether a listing shows the marker that was looked at before.
    fn is_known(&self, listed: &ObjectMeta) -> bool {
        let folders = self.folders.lock();
        let marked = folders.get(&listed.key);
        marked.is_some_and(|marked| marked.etag == listed.etag && marked.modified_ns == listed.modified_ns)
    }
}

impl ObjectUfs {
    /// Whether objects carry attributes that can change, and folders and links are objects.
    pub(super) fn keeps_attributes(&self) -> bool {
        self.policy != Policy::Never && self.limits.replaces_metadata
    }

    /// What metadata says, if it is to be believed.
    pub(super) fn found(&self, metadata: &Metadata, kind: FileKind) -> Found {
        let found = attributes::from_metadata(metadata, kind);
        match self.policy {
            Policy::Never => Found {
                attributes: UfsAttributes {
                    write_id: found.attributes.write_id,
                    ..UfsAttributes::default()
                },
                ..Found::default()
            },
            _ => found,
        }
    }

    /// Metadata of ours for what is written.
    pub(super) fn to_metadata(&self, wanted: &UfsAttributes, kind: FileKind) -> Metadata {
        match self.policy {
            Policy::Never => {
                let name = UfsAttributes {
                    write_id: wanted.write_id.clone(),
                    ..UfsAttributes::default()
                };
                attributes::to_metadata(&name, kind)
            }
            _ => attributes::to_metadata(wanted, kind),
        }
    }

    /// Metadata of others that goes on, and ours.
    pub(super) fn merged_metadata(&self, path: &[u8], carried: &Metadata, ours: Metadata) -> Metadata {
        let others = carried
            .iter()
            .filter(|(name, _)| !attributes::is_replaced(name, self.policy));
        let mut metadata: Metadata = others.cloned().chain(ours).collect();
        if !attributes::fit(&mut metadata) {
            tracing::warn!(
                path = %path::show(path),
                "extended attributes are not stored with the object: all its metadata together would be more than stores take"
            );
        }
        metadata
    }

    /// Status of an object as HEAD shows it: a file, or a link if it says so and holds a path.
    pub(super) async fn described(&self, path: &[u8], meta: &ObjectMeta) -> UfsResult<UfsStatus> {
        let status = self.file_status(path, meta);
        let is_link = self.found(&meta.properties.metadata, FileKind::File).is_link;
        if !(is_link && self.keeps_attributes()) {
            return Ok(status);
        }
        Ok(match self.target(path, meta).await? {
            Some(target) => UfsStatus {
                kind: FileKind::Symlink,
                symlink_target: Some(target),
                ..status
            },
            None => status,
        })
    }

    /// What a link leads to; nothing if it cannot be a link.
    async fn target(&self, path: &[u8], meta: &ObjectMeta) -> UfsResult<Option<Bytes>> {
        if meta.length == 0 || meta.length > TARGET_BYTES_MAX {
            return Ok(None);
        }
        let read = async {
            let body = self.client.get(&meta.key, 0..meta.length, &meta.etag).await?;
            let target: BytesMut = body
                .stream
                .try_fold(BytesMut::new(), |mut all, chunk| async move {
                    all.extend_from_slice(&chunk);
                    Ok(all)
                })
                .await?;
            Ok::<_, UfsError>(target.freeze())
        };
        match read.await {
            Ok(target) if target.len() as u64 == meta.length && !target.contains(&0) => Ok(Some(target)),
            Ok(_) => Ok(None),
            // Replaced between the two requests: whoever asks again sees what it is now.
            Err(error) if error.kind == UfsErrorKind::PreconditionFailed => {
                Err(UfsError::new(UfsErrorKind::Unreachable, error.message))
            }
            Err(error) if error.is_retryable() || error.kind == UfsErrorKind::NotFound => Err(error),
            Err(error) => {
                tracing::warn!(path = %path::show(path), %error, "the target of a link cannot be read; it is shown as a file");
                Ok(None)
            }
        }
    }

    /// Fills in what a listing leaves out: one HEAD for each entry of which there may be more to know.
    pub(super) async fn complete_entries(&self, dir: &[u8], entries: Vec<UfsStatus>) -> UfsResult<Vec<UfsStatus>> {
        stream::iter(entries.into_iter().map(|entry| self.complete_entry(dir, entry)))
            .buffered(self.limits.requests_in_flight)
            .try_collect()
            .await
    }

    async fn complete_entry(&self, dir: &[u8], entry: UfsStatus) -> UfsResult<UfsStatus> {
        if !entry.is_partial {
            return Ok(entry);
        }
        let path = path::join(dir, &entry.name);
        let is_dir = entry.kind == FileKind::Directory;
        let as_listed = UfsStatus {
            is_partial: false,
            ..entry
        };
        let key = if is_dir { self.prefix(&path)? } else { self.key(&path)? };
        let looked = match self.client.head(&key).await {
            Ok(meta) if is_dir => {
                self.marks.note(&meta);
                let found = self.found(&meta.properties.metadata, FileKind::Directory);
                Ok(UfsStatus::directory(&path, found.attributes))
            }
            Ok(meta) => self.described(&path, &meta).await,
            Err(error) => Err(error),
        };
        match looked {
            // A folder without a marker; a file that has gone since.
            Err(error) if error.kind == UfsErrorKind::NotFound => Ok(as_listed),
            Err(error) if error.is_retryable() || error.kind == UfsErrorKind::StoreMissing => Err(error),
            Err(error) => {
                if !self.marks.said.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        path = %path::show(&path), %error,
                        "attributes of an object cannot be read, and are those that the mount has for all; more are not warned about"
                    );
                }
                Ok(as_listed)
            }
            looked => looked,
        }
    }

    /// Whether what is in a folder may carry attributes, by the first page of its listing: the marker is the first of its keys.
    pub(super) async fn carries_attributes(&self, dir: &[u8], items: &[Listed], more: bool) -> UfsResult<bool> {
        match self.policy {
            _ if !self.limits.replaces_metadata => return Ok(false),
            Policy::Never => return Ok(false),
            Policy::Always => return Ok(true),
            Policy::Auto => {}
        }
        let marker = self.marker(dir)?;
        let listed = items.iter().find_map(|item| match item {
            Listed::Object(meta) if meta.key == marker => Some(meta),
            _ => None,
        });
        // The root's is no prefix of its keys and may come later.
        let may_follow = more && items.last().is_some_and(|last| last.key() < marker.as_str());
        match listed {
            Some(listed) if self.marks.is_known(listed) => return Ok(true),
            None if !may_follow => return Ok(false),
            _ => {}
        }
        match self.client.head(&marker).await {
            Ok(meta) => Ok(self.marks.note(&meta)),
            Err(error) if error.is_retryable() || error.kind == UfsErrorKind::StoreMissing => Err(error),
            // Gone since; or nobody may look.
            Err(_) => Ok(false),
        }
    }

    /// The key that tells of a folder.
    pub(super) fn marker(&self, dir: &[u8]) -> UfsResult<String> {
        let prefix = self.prefix(dir)?;
        Ok(if prefix.is_empty() {
            ROOT_MARK.to_owned()
        } else {
            prefix
        })
    }

    /// Makes sure that who lists the folder of `path` looks for attributes. That it cannot be said does not keep anybody from
    /// writing.
    pub(super) async fn mark_parent(&self, path: &[u8]) -> UfsResult<()> {
        if !self.keeps_attributes() {
            return Ok(());
        }
        let dir = path::split(path).0;
        let marker = self.marker(dir)?;
        if self.marks.is_set(&marker) {
            return Ok(());
        }
        match self.write_marker(dir, None, false).await {
            Err(error) if error.is_retryable() || error.kind == UfsErrorKind::StoreMissing => Err(error),
            Err(error) => {
                self.marks.settled(&marker);
                if !self.marks.said.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        folder = %path::show(dir), %error,
                        "a folder cannot be marked as one whose objects carry attributes: a new cluster sees them where it asks for one \
                         path, and not in listings, unless alluxio.underfs.s3.attributes=ALWAYS; more are not warned about"
                    );
                }
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Gives a folder a marker with our mark and, if there are any, attributes. `is_new`: there is probably none.
    pub(super) async fn write_marker(
        &self,
        dir: &[u8],
        wanted: Option<&UfsAttributes>,
        mut is_new: bool,
    ) -> UfsResult<()> {
        let marker = self.marker(dir)?;
        let mut failed = None;
        for _ in 0..MARKER_TRIES {
            let there = match std::mem::take(&mut is_new) {
                true => None,
                false => match self.client.describe(&marker).await {
                    Ok(meta) => Some(meta),
                    Err(error) if error.kind == UfsErrorKind::NotFound => None,
                    Err(error) => return Err(error),
                },
            };
            if let (Some(there), None) = (&there, wanted)
                && attributes::is_marked(&there.properties.metadata)
            {
                self.marks.note(there);
                return Ok(());
            }
            let expect = match &there {
                _ if !self.limits.conditional_write => Expect::Any,
                Some(there) => Expect::Fingerprint(there.etag.clone()),
                None => Expect::Absent,
            };
            let (bytes, modified_ns, etag, before) = there.map_or_else(Default::default, |there| {
                (there.length, there.modified_ns, there.etag, there.properties)
            });
            let known = self.found(&before.metadata, FileKind::Directory).attributes;
            let to_be = attributes::merged(wanted.unwrap_or(&UfsAttributes::default()), &known);
            let mut ours = attributes::to_metadata(&to_be, FileKind::Directory);
            ours.push(attributes::mark());
            let metadata = self.merged_metadata(dir, &before.metadata, ours);
            if is_same(&metadata, &before.metadata) {
                self.marks.settled(&marker);
                return Ok(());
            }
            let properties = Properties { metadata, ..before };
            let done = match bytes {
                0 => self
                    .client
                    .put(&marker, Bytes::new(), &expect, &properties)
                    .await
                    .map(drop),
                // Somebody keeps something there: it gets the mark, and stays.
                length => {
                    let meta = ObjectMeta {
                        key: marker.clone(),
                        length,
                        modified_ns,
                        etag,
                        properties,
                    };
                    self.client.replace_properties(&meta).await.map(drop)
                }
            };
            match done {
                Ok(()) => {
                    self.marks.settled(&marker);
                    return Ok(());
                }
                Err(error) if error.kind == UfsErrorKind::PreconditionFailed => failed = Some(error),
                Err(error) => return Err(error),
            }
        }
        let lost = || {
            self.error(
                UfsErrorKind::PreconditionFailed,
                dir,
                "its marker changes again and again",
            )
        };
        Err(failed.unwrap_or_else(lost))
    }

    /// Gives an object other attributes, if it is the one that is meant: a copy onto itself, which keeps all else.
    pub(super) async fn change_attributes(
        &self,
        path: &[u8],
        kind: FileKind,
        wanted: &UfsAttributes,
        fingerprint: &str,
    ) -> UfsResult<Option<String>> {
        if path.is_empty() || !self.keeps_attributes() {
            return Ok(None);
        }
        self.mark_parent(path).await?;
        if kind == FileKind::Directory {
            self.write_marker(path, Some(wanted), false).await?;
            return Ok(Some(String::new()));
        }
        match self.change_object(path, wanted, fingerprint).await {
            // A copy whose answer was lost is found to be ours; another's object is found to be his.
            Err(error) if error.kind == UfsErrorKind::PreconditionFailed => {
                self.change_object(path, wanted, fingerprint).await.map(Some)
            }
            changed => changed.map(Some),
        }
    }

    async fn change_object(&self, path: &[u8], wanted: &UfsAttributes, fingerprint: &str) -> UfsResult<String> {
        let key = self.key(path)?;
        let mut there = self.client.head(&key).await?;
        let before = std::mem::take(&mut there.properties);
        let found = self.found(&before.metadata, FileKind::File);
        // An attempt that could not say so may have made the copy: the bytes are those of what it was made of.
        let is_copy = found.copied_from.as_deref() == Some(fingerprint) && found.attributes.mtime_ns == wanted.mtime_ns;
        if !fingerprint.is_empty() && there.etag != fingerprint && !is_copy {
            let why = "its attributes stay: it is another object now";
            return Err(self.error(UfsErrorKind::PreconditionFailed, path, why));
        }
        let to_be = attributes::merged(wanted, &found.attributes);
        let is_what = if found.is_link {
            FileKind::Symlink
        } else {
            FileKind::File
        };
        let mut metadata = self.merged_metadata(path, &before.metadata, attributes::to_metadata(&to_be, is_what));
        let unchanged = before.metadata.iter().filter(|pair| **pair != copied_from(&found));
        if is_same(&metadata, &unchanged.cloned().collect()) {
            return Ok(there.etag);
        }
        let first = if is_copy { fingerprint } else { there.etag.as_str() };
        metadata.push(attributes::copied_from(first));
        there.properties = Properties { metadata, ..before };
        let copied = self.replace_properties(&there).await?;
        match copied {
            Some(etag) => Ok(etag),
            None => Ok(self.client.head(&key).await?.etag),
        }
    }

    /// Copies an object onto itself with the properties that it has here, if it still has its ETag.
    async fn replace_properties(&self, meta: &ObjectMeta) -> UfsResult<Option<String>> {
        if meta.length <= self.limits.copy_part_bytes {
            return self.client.replace_properties(meta).await;
        }
        // Made anew, so that its tags have to be given again.
        let there = self.client.describe(&meta.key).await?;
        let properties = Properties {
            tags: there.properties.tags,
            ..meta.properties.clone()
        };
        let expect = match self.limits.conditional_write {
            true => Expect::Fingerprint(meta.etag.clone()),
            false => Expect::Any,
        };
        self.copy_in_parts(None, meta, &meta.key, &properties, &expect).await
    }

    /// A link as s3fs makes it: an object whose mode says so and whose bytes are the target.
    pub(super) async fn make_symlink(&self, path: &[u8], target: &[u8], wanted: &UfsAttributes) -> UfsResult<()> {
        if !self.keeps_attributes() {
            return Err(self.error(UfsErrorKind::Unsupported, path, "the store holds no symbolic links"));
        }
        let key = self.key(path)?;
        let there = || self.error(UfsErrorKind::AlreadyExists, path, "something is there");
        if !self.first_keys(&self.prefix(path)?, 1).await?.is_empty() {
            return Err(there());
        }
        self.mark_parent(path).await?;
        let expect = match self.limits.conditional_write {
            true => Expect::Absent,
            false => match self.client.head(&key).await {
                Ok(_) => return Err(there()),
                Err(error) if error.kind == UfsErrorKind::NotFound => Expect::Any,
                Err(error) => return Err(error),
            },
        };
        let write_id = format!("{:032x}", rand::random::<u128>());
        let wanted = UfsAttributes {
            mode: wanted.mode.or(Some(0o777)),
            mtime_ns: wanted.mtime_ns.or(Some(now_ns())),
            write_id: Some(write_id.clone()),
            ..wanted.clone()
        };
        let properties = Properties {
            metadata: attributes::to_metadata(&wanted, FileKind::Symlink),
            headers: vec![(LINK_TYPE.0.to_owned(), LINK_TYPE.1.to_owned())],
            ..Properties::default()
        };
        let body = Bytes::copy_from_slice(target);
        match self.client.put(&key, body, &expect, &properties).await {
            Ok(_) => Ok(()),
            Err(error) if error.kind == UfsErrorKind::PreconditionFailed => match self.client.head(&key).await {
                // The answer to the first attempt was lost.
                Ok(meta)
                    if self
                        .found(&meta.properties.metadata, FileKind::File)
                        .attributes
                        .write_id
                        == Some(write_id) =>
                {
                    Ok(())
                }
                Ok(_) => Err(there()),
                Err(_) => Err(error),
            },
            Err(error) => Err(error),
        }
    }
}

fn copied_from(found: &Found) -> (String, String) {
    attributes::copied_from(found.copied_from.as_deref().unwrap_or_default())
}

/// The same pairs, in whatever order.
fn is_same(a: &Metadata, b: &Metadata) -> bool {
    let sorted = |metadata: &Metadata| {
        let mut sorted = metadata.clone();
        sorted.sort();
        sorted
    };
    sorted(a) == sorted(b)
}
