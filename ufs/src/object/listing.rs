//! Pages of a folder from delimited listings of keys.
//!
//! The order. A store lists keys in byte order, and a folder `a` as the prefix `a/`, so `a-b` and `a.txt` come between a
//! file `a` and a folder `a`. To show `a` once, and as the folder, a file is *held back* until no prefix of its name can
//! come any more, which is as soon as a key above `a/` is seen. All files held back at one time are prefixes of the next
//! key, so there are few, however large the folder. Names then come out in the byte order of `name/`, each once. Held-back
//! entries travel in the page token, so that nothing is kept between calls.
//!
//! A store that lists in no order (S3 directory buckets) gives every key once, but the folder may not win.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;

use alluxio_proto::types::FileKind;
use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::ObjectUfs;
use super::client::{ListRequest, Listed, now_ns};
use super::keeping::ROOT_MARK;
use crate::{PageToken, UfsAttributes, UfsError, UfsErrorKind, UfsMetrics, UfsPage, UfsResult, UfsStatus, path};

/// Most keys that S3 gives in one page.
const KEYS_PER_REQUEST_MAX: usize = 1000;
/// Requests for one page: each may bring nothing but keys that are skipped. Then an empty page with a token is given.
const REQUESTS_PER_PAGE_MAX: usize = 16;
/// At most one warning about skipped keys in this time.
const WARN_INTERVAL_NS: i64 = 60_000_000_000;
const TOKEN_FORMAT: u8 = 3;
/// Of an entry in a token.
const IS_DIRECTORY: u8 = 1;
const IS_ARCHIVED: u8 = 2;

/// Where a listing stands.
#[derive(Debug, Default, PartialEq, Eq)]
struct Cursor {
    /// Entries whose turn has come, but the page was full.
    ready: VecDeque<UfsStatus>,
    /// Files that a folder may still displace; each is a prefix of the next.
    held: Vec<UfsStatus>,
    /// Last name that became ready, against servers that give a prefix on two pages.
    last: Bytes,
    /// The store's token; nothing after the last page.
    store_token: Option<String>,
    finished: bool,
    /// What is in the folder may carry attributes, which a listing does not show.
    partial: bool,
}

impl ObjectUfs {
    pub(super) async fn list_page(&self, dir: &[u8], token: Option<PageToken>, limit: usize) -> UfsResult<UfsPage> {
        let prefix = self.prefix(dir)?;
        let first_page = token.is_none();
        let mut cursor = match token {
            Some(token) => Cursor::decode(token.0)
                .ok_or_else(|| self.error(UfsErrorKind::Invalid, dir, "the page token is none of this store's"))?,
            None => Cursor::default(),
        };
        let mut page = UfsPage::default();
        let mut keys_seen = 0;
        for _ in 0..REQUESTS_PER_PAGE_MAX {
            if cursor.finished || !cursor.ready.is_empty() {
                break;
            }
            let room = limit.saturating_sub(cursor.held.len()).clamp(1, KEYS_PER_REQUEST_MAX);
            let request = ListRequest {
                prefix: &prefix,
                delimited: true,
                token: cursor.store_token.as_deref(),
                limit: room,
            };
            let listed = self.client.list(request).await?;
            if first_page && keys_seen == 0 {
                let more = listed.token.is_some();
                cursor.partial |= self.carries_attributes(dir, &listed.items, more).await?;
            }
            keys_seen += listed.items.len();
            for item in listed.items {
                if !cursor.take(&prefix, &item) {
                    page.skipped += 1;
                    self.warn_skipped(item.key());
                }
            }
            if listed.token.is_some() && listed.token == cursor.store_token {
                return Err(self.error(
                    UfsErrorKind::Other,
                    dir,
                    "the store gives the same page again and again",
                ));
            }
            cursor.store_token = listed.token;
            if cursor.store_token.is_none() {
                cursor.finish();
            }
        }
        if first_page && keys_seen == 0 && cursor.finished && !dir.is_empty() {
            return Err(self.no_such_directory(dir).await);
        }
        let count = cursor.ready.len().min(limit);
        page.entries = cursor.ready.drain(..count).collect();
        for entry in &mut page.entries {
            entry.is_partial = cursor.partial;
        }
        if !(cursor.finished && cursor.ready.is_empty()) {
            page.next = Some(PageToken(cursor.encode()));
        }
        Ok(page)
    }

    async fn no_such_directory(&self, dir: &[u8]) -> UfsError {
        let head = match self.key(dir) {
            Ok(key) => self.client.head(&key).await,
            Err(error) => Err(error),
        };
        match head {
            Ok(_) => self.error(UfsErrorKind::NotADirectory, dir, "it is a file"),
            Err(error) if error.kind == UfsErrorKind::NotFound => {
                self.error(UfsErrorKind::NotFound, dir, "no such directory")
            }
            Err(error) => error,
        }
    }

    pub(super) fn warn_skipped(&self, key: &str) {
        UfsMetrics::add(&self.client.metrics().skipped_keys, 1);
        let now = now_ns();
        let last = self.warned_ns.load(Ordering::Relaxed);
        let due = last == 0 || now.saturating_sub(last) >= WARN_INTERVAL_NS;
        if due
            && self
                .warned_ns
                .compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        {
            tracing::warn!(ufs = %self.label, key, "left out a key that cannot be a path; more are only counted for a minute");
        }
    }
}

impl Cursor {
    /// Takes the next item of the store; false if it cannot be a path.
    fn take(&mut self, prefix: &str, item: &Listed) -> bool {
        let Some(rest) = item.key().strip_prefix(prefix) else {
            return false;
        };
        self.release_before(rest.as_bytes());
        match item {
            // The directory's own marker.
            Listed::Object(_) if rest.is_empty() || item.key() == ROOT_MARK => true,
            Listed::Object(meta) => {
                if !path::is_valid_name(rest.as_bytes()) {
                    return false;
                }
                self.held.push(UfsStatus {
                    name: Bytes::copy_from_slice(rest.as_bytes()),
                    kind: FileKind::File,
                    length: meta.length,
                    mtime_ns: meta.modified_ns,
                    fingerprint: meta.etag.clone(),
                    mode: None,
                    owner: None,
                    group: None,
                    symlink_target: None,
                    write_id: None,
                    atime_ns: None,
                    xattrs: None,
                    is_partial: false,
                    is_archived: meta.properties.is_archived,
                });
                true
            }
            // No path of ours: its name is that of the mark of the bucket.
            Listed::Prefix(_) if item.key().strip_suffix('/') == Some(ROOT_MARK) => false,
            Listed::Prefix(_) => {
                let name = rest.strip_suffix('/').unwrap_or(rest).as_bytes();
                if !path::is_valid_name(name) {
                    return false;
                }
                self.held.retain(|file| file.name != name);
                self.make_ready(UfsStatus::directory(name, UfsAttributes::default()));
                true
            }
        }
    }

    /// Lets go of files whose folder would have come before `key`.
    fn release_before(&mut self, key: &[u8]) {
        while let Some(file) = self.held.last() {
            let may_still_come = key
                .strip_prefix(&file.name[..])
                .is_some_and(|rest| rest.first().is_none_or(|byte| *byte <= b'/'));
            if may_still_come {
                return;
            }
            if let Some(file) = self.held.pop() {
                self.make_ready(file);
            }
        }
    }

    fn finish(&mut self) {
        while let Some(file) = self.held.pop() {
            self.make_ready(file);
        }
        self.finished = true;
    }

    fn make_ready(&mut self, status: UfsStatus) {
        if status.name != self.last {
            self.last = status.name.clone();
            self.ready.push_back(status);
        }
    }

    /// Format byte; finished; partial; last name; the store's token (empty: none yet); ready entries; held entries.
    fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u8(TOKEN_FORMAT);
        out.put_u8(u8::from(self.finished));
        out.put_u8(u8::from(self.partial));
        put_field(&mut out, &self.last);
        put_field(&mut out, self.store_token.as_deref().unwrap_or("").as_bytes());
        put_entries(&mut out, self.ready.iter());
        put_entries(&mut out, self.held.iter());
        out.freeze()
    }

    fn decode(mut from: Bytes) -> Option<Self> {
        if from.try_get_u8().ok()? != TOKEN_FORMAT {
            return None;
        }
        let finished = from.try_get_u8().ok()? == 1;
        let partial = from.try_get_u8().ok()? == 1;
        let last = get_field(&mut from)?;
        let store_token = String::from_utf8(get_field(&mut from)?.to_vec()).ok()?;
        let ready = get_entries(&mut from)?.into();
        let held = get_entries(&mut from)?;
        Some(Self {
            ready,
            held,
            last,
            store_token: Some(store_token).filter(|token| !token.is_empty()),
            finished,
            partial,
        })
    }
}

fn put_field(out: &mut BytesMut, field: &[u8]) {
    // Names, ETags and tokens are far below 4 GiB.
    out.put_u32(u32::try_from(field.len()).unwrap_or(u32::MAX));
    out.put_slice(field);
}

fn get_field(from: &mut Bytes) -> Option<Bytes> {
    let length = usize::try_from(from.try_get_u32().ok()?).ok()?;
    (length <= from.len()).then(|| from.split_to(length))
}

fn put_entries<'a>(out: &mut BytesMut, entries: impl ExactSizeIterator<Item = &'a UfsStatus>) {
    out.put_u32(u32::try_from(entries.len()).unwrap_or(u32::MAX));
    for entry in entries {
        let is_directory = u8::from(entry.kind == FileKind::Directory) * IS_DIRECTORY;
        out.put_u8(is_directory | (u8::from(entry.is_archived) * IS_ARCHIVED));
        out.put_u64(entry.length);
        out.put_i64(entry.mtime_ns);
        put_field(out, &entry.name);
        put_field(out, entry.fingerprint.as_bytes());
    }
}

fn get_entries(from: &mut Bytes) -> Option<Vec<UfsStatus>> {
    let count = from.try_get_u32().ok()?;
    let mut entries = Vec::new();
    for _ in 0..count {
        let flags = from.try_get_u8().ok()?;
        let length = from.try_get_u64().ok()?;
        let mtime_ns = from.try_get_i64().ok()?;
        let name = get_field(from)?;
        let fingerprint = String::from_utf8(get_field(from)?.to_vec()).ok()?;
        entries.push(UfsStatus {
            name,
            kind: match flags & IS_DIRECTORY {
                0 => FileKind::File,
                _ => FileKind::Directory,
            },
            length,
            mtime_ns,
            fingerprint,
            mode: None,
            owner: None,
            group: None,
            symlink_target: None,
            write_id: None,
            atime_ns: None,
            xattrs: None,
            is_partial: false,
            is_archived: flags & IS_ARCHIVED != 0,
        });
    }
    Some(entries)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::super::client::{Limits, ObjectClient};
    use super::super::memory::MemoryObjects;
    use super::*;
    use crate::Expect;

    /// What a folder holds: names of files and folders, a folder going before a file; and the names that are none.
    fn naive(keys: &[String]) -> (BTreeMap<String, FileKind>, u64) {
        let mut names = BTreeMap::new();
        let mut skipped = std::collections::BTreeSet::new();
        for key in keys {
            let Some(rest) = key.strip_prefix("d/").filter(|rest| !rest.is_empty()) else {
                continue;
            };
            let (name, kind) = match rest.split_once('/') {
                Some((name, _)) => (name, FileKind::Directory),
                None => (rest, FileKind::File),
            };
            if !path::is_valid_name(name.as_bytes()) {
                skipped.insert((name.to_owned(), kind as i32));
                continue;
            }
            let there = names.entry(name.to_owned()).or_insert(kind);
            if kind == FileKind::Directory {
                *there = kind;
            }
        }
        (names, skipped.len() as u64)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn any_keys_in_any_pages(
            // What sorts before, at and after the slash.
            keys in prop::collection::vec("d/[a!./0]{0,5}", 1..40),
            limit in 1usize..12,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let (listed, skipped) = runtime.block_on(async {
                let client = Arc::new(MemoryObjects::new(Limits::default()));
                for key in &keys {
                    client.put(key, Bytes::new(), &Expect::Any, &Default::default()).await.unwrap();
                }
                let ufs = ObjectUfs::new(client, String::new(), "test".to_owned(), "memory");
                let (mut listed, mut skipped, mut token) = (Vec::new(), 0, None);
                loop {
                    let page = ufs.list_page(b"d", token, limit).await.unwrap();
                    assert!(page.entries.len() <= limit);
                    listed.extend(page.entries.into_iter().map(|entry| (entry.name, entry.kind)));
                    skipped += page.skipped;
                    token = page.next;
                    if token.is_none() {
                        return (listed, skipped);
                    }
                }
            });
            let (names, left_out) = naive(&keys);
            prop_assert_eq!(skipped, left_out);
            let slashed = |name: &Bytes| [&name[..], b"/"].concat();
            prop_assert!(listed.is_sorted_by_key(|(name, _)| slashed(name)), "in the order that is promised");
            prop_assert_eq!(listed.len(), names.len(), "each name once");
            for (name, kind) in listed {
                prop_assert_eq!(names.get(std::str::from_utf8(&name).unwrap()), Some(&kind));
            }
        }
    }

    #[test]
    fn tokens_come_back_and_garbage_is_refused() {
        let file = |name: &'static str| UfsStatus {
            name: Bytes::from(name),
            kind: FileKind::File,
            length: 7,
            mtime_ns: -3,
            fingerprint: "e".to_owned(),
            mode: None,
            owner: None,
            group: None,
            symlink_target: None,
            write_id: None,
            atime_ns: None,
            xattrs: None,
            is_partial: false,
            is_archived: name == "b",
        };
        let cursor = Cursor {
            ready: VecDeque::from([UfsStatus::directory(b"a", UfsAttributes::default())]),
            held: vec![file("b"), file("b!")],
            last: Bytes::from_static(b"a"),
            store_token: Some("token".to_owned()),
            finished: false,
            partial: true,
        };
        let encoded = cursor.encode();
        assert_eq!(Cursor::decode(encoded.clone()), Some(cursor));
        for end in 0..encoded.len() {
            assert_eq!(Cursor::decode(encoded.slice(..end)), None, "cut at {end}");
        }
    }
}
