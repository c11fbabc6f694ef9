//! What each kind of intent does to an under-storage. Each can be repeated: a crash may have cut short the last attempt.

use alluxio_proto::types::FileKind;
use alluxio_ufs::{
    BytesSource, CopyListener, Expect, LEFT_MAX, Left, UfsAttributes, UfsError, UfsErrorKind, UfsResult, UfsStatus,
    UnderFileSystem,
};
use bytes::{Bytes, BytesMut};
use std::collections::HashSet;

use super::load::{PAGE_ENTRIES, is_absent};
use super::show;
use crate::state::{Copied, Inode, Intent, IntentKind};

/// What became of the store's part.
#[derive(Debug, Default)]
pub(super) struct Change {
    pub fingerprint: String,
    /// Nothing was there to be done.
    pub skipped: bool,
    /// Of a copy to another mount: of what was copied.
    pub source_fingerprint: String,
    /// Of a rename: somebody had put another object there, which went along. What is at the target now.
    pub taken_along: Option<UfsStatus>,
    /// Of a rename: the copy is made, and nothing is deleted yet; to be journaled, then done again.
    pub copied: Option<Copied>,
    /// Of a rename or the removal of a tree: single objects that the store refused.
    pub left: Vec<Left>,
    /// There were too many of them: the rest is to be done once those are journaled.
    pub is_cut: bool,
}

/// Of the removal of a tree: after so many that were refused, and those of the page at hand, it waits until they are journaled.
const LEFT_AT_ONCE: usize = if cfg!(test) { 5 } else { LEFT_MAX };

/// Paths that a change of a folder leaves alone.
pub(super) type Kept = HashSet<Bytes>;

impl Change {
    pub fn skipped() -> Self {
        Self {
            skipped: true,
            ..Self::default()
        }
    }
    pub fn of(status: UfsStatus) -> Self {
        Self {
            fingerprint: status.fingerprint,
            ..Self::default()
        }
    }
}

pub(super) async fn status_if_any(ufs: &dyn UnderFileSystem, path: &[u8]) -> UfsResult<Option<UfsStatus>> {
    match ufs.status(path).await {
        Ok(status) => Ok(Some(status)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) async fn upload_nothing(
    ufs: &dyn UnderFileSystem,
    intent: &Intent,
    attributes: UfsAttributes,
    cluster: &str,
) -> UfsResult<Change> {
    let source = BytesSource(Bytes::new());
    let name = empty_name(intent, cluster);
    let wanted = UfsAttributes {
        write_id: Some(name.clone()),
        ..attributes
    };
    let mut expect = match (ufs.capabilities().conditional_write, intent.expect.as_slice()) {
        (false, _) => Expect::Any,
        (true, []) => Expect::Absent,
        (true, [.., last]) => Expect::Fingerprint(last.clone()),
    };
    for _ in 0..EMPTY_WRITES_MAX {
        let failed = match ufs.write(&intent.path, &source, &expect, &wanted).await {
            Ok(written) => return Ok(Change::of(written)),
            Err(error)
                if matches!(
                    error.kind,
                    UfsErrorKind::PreconditionFailed | UfsErrorKind::AlreadyExists
                ) =>
            {
                error
            }
            Err(error) => return Err(error),
        };
        expect = match status_if_any(ufs, &intent.path).await? {
            None => Expect::Absent,
            Some(there) if there.kind != FileKind::File => return Err(failed),
            Some(there) if there.length == 0 && there.write_id.as_ref() == Some(&name) => return Ok(Change::of(there)),
            // As with any upload, the last writer of a name wins; but never unseen.
            Some(there) => {
                if !is_ours(intent, &there, cluster) {
                    let path = show(&intent.path);
                    tracing::warn!(%path, "an empty file replaces an object that was put there behind our back");
                }
                Expect::Fingerprint(there.fingerprint)
            }
        };
    }
    let why = format!(
        "put {}: the object changed {EMPTY_WRITES_MAX} times meanwhile",
        show(&intent.path)
    );
    Err(UfsError::new(UfsErrorKind::PreconditionFailed, why))
}

/// Conditional puts of one empty file; each failure means that another object appeared meanwhile.
const EMPTY_WRITES_MAX: usize = 4;

/// Names an empty object, as workers name what they upload (see [`is_of_cluster`]).
fn empty_name(intent: &Intent, cluster: &str) -> String {
    let tag = alluxio_proto::cluster_tag(cluster);
    format!("{:x}-{:x}-{:x}-{tag}", intent.inode, intent.version, intent.created_ns)
}

/// Deletes a file if it is still ours; what somebody else has put in its place stays.
pub(super) async fn delete(ufs: &dyn UnderFileSystem, intent: &Intent, cluster: &str) -> UfsResult<Change> {
    let Some(there) = status_if_any(ufs, &intent.path).await? else {
        return Ok(Change::skipped());
    };
    if there.kind == FileKind::Directory || !is_ours(intent, &there, cluster) {
        tracing::info!(path = %show(&intent.path), "not deleted: the object is another one now");
        return Ok(Change::skipped());
    }
    match ufs.delete_if(&intent.path, &there.fingerprint).await {
        Ok(()) => Ok(Change::default()),
        Err(error) if error.kind == UfsErrorKind::PreconditionFailed => {
            tracing::info!(path = %show(&intent.path), "not deleted: another object came in its place");
            Ok(Change::skipped())
        }
        Err(error) => Err(error),
    }
}

/// Whether what is there is what the intent is about: the object that is known by its fingerprint, or one that an upload
/// which never reported back has left. The latter must bear the name of one of this cluster's uploads: what merely looks like it
/// may be somebody else's, and stays.
pub(super) fn is_ours(intent: &Intent, there: &UfsStatus, cluster: &str) -> bool {
    let of_lost_upload = || intent.expect_lengths.contains(&there.length) && is_of_cluster(there, cluster);
    let bound = Bound {
        version: intent.version,
        length: intent.length,
    };
    let notes_bound = matches!(intent.kind(), IntentKind::Delete | IntentKind::Rename) && intent.version != 0;
    let is_copy = || notes_bound && bound.is_copy(intent.inode, there, cluster);
    intent.expect.contains(&there.fingerprint) || of_lost_upload() || is_copy()
}

/// Whether an object bears the name of an upload of this cluster: inode, version, time, and a part of the cluster's id.
fn is_of_cluster(there: &UfsStatus, cluster: &str) -> bool {
    let tag = there.write_id.as_deref().and_then(|id| id.splitn(4, '-').nth(3));
    !cluster.is_empty() && tag == Some(alluxio_proto::cluster_tag(cluster))
}

/// A folder that is being emptied: the rest of the page of its listing.
struct Frame {
    path: Bytes,
    folders: Vec<Bytes>,
    token: Option<alluxio_ufs::PageToken>,
    listed: bool,
}

impl Frame {
    fn new(path: Bytes) -> Self {
        Self {
            path,
            folders: Vec::new(),
            token: None,
            listed: false,
        }
    }
}

/// Deletes a folder with all beneath it, depth first, holding one page per level. One object that the store refuses to delete does
/// not stop it.
pub(super) async fn delete_tree(ufs: &dyn UnderFileSystem, path: &Bytes, kept: &Kept) -> UfsResult<Change> {
    let mut stack = vec![Frame::new(path.clone())];
    let (mut left, mut is_cut) = (Vec::new(), false);
    while let Some(frame) = stack.last_mut() {
        if let Some(folder) = frame.folders.pop() {
            stack.push(Frame::new(folder));
        } else if !frame.listed || frame.token.is_some() {
            empty_page(ufs, frame, kept, &mut left).await?;
        } else {
            match ufs.rmdir(&frame.path).await {
                Ok(()) => {}
                Err(error) if is_absent(&error) => {}
                Err(error) if error.kind == UfsErrorKind::NotEmpty && has_beneath(&frame.path, kept, &left) => {}
                Err(error) if error.is_refusal() && !kept.contains(&frame.path) => left.push(Left {
                    path: frame.path.clone(),
                    copied: false,
                    status: UfsStatus::directory(&frame.path, UfsAttributes::default()),
                    error,
                }),
                Err(error) if error.is_refusal() => {}
                Err(error) => return Err(error),
            }
            stack.pop();
        }
        if left.len() > LEFT_AT_ONCE {
            is_cut = true;
            break;
        }
    }
    Ok(Change {
        left,
        is_cut,
        ..Change::default()
    })
}

fn has_beneath(dir: &[u8], kept: &Kept, left: &[Left]) -> bool {
    let mut paths = kept.iter().chain(left.iter().map(|left| &left.path));
    paths.any(|path| alluxio_ufs::path::is_beneath(path, dir))
}

async fn empty_page(ufs: &dyn UnderFileSystem, frame: &mut Frame, kept: &Kept, left: &mut Vec<Left>) -> UfsResult<()> {
    let page = match ufs.list(&frame.path, frame.token.take(), PAGE_ENTRIES).await {
        Ok(page) => page,
        Err(error) if is_absent(&error) => Default::default(),
        Err(error) => return Err(error),
    };
    frame.listed = true;
    frame.token = page.next;
    let (mut files, mut entries) = (Vec::new(), Vec::new());
    for entry in page.entries {
        let path = join(&frame.path, &entry.name);
        if entry.kind == FileKind::Directory {
            frame.folders.push(path);
        } else if !kept.contains(&path) {
            files.push(path);
            entries.push(entry);
        }
    }
    if files.is_empty() {
        return Ok(());
    }
    let mut failed = None;
    let deleted = ufs.delete(&files).await;
    for ((path, status), result) in files.into_iter().zip(entries).zip(deleted) {
        match result {
            Ok(()) => {}
            Err(error) if error.is_refusal() => left.push(Left {
                path,
                copied: false,
                status,
                error,
            }),
            Err(error) => failed = Some(error),
        }
    }
    failed.map_or(Ok(()), Err)
}

pub(super) fn join(dir: &[u8], name: &[u8]) -> Bytes {
    let mut path = BytesMut::with_capacity(dir.len() + 1 + name.len());
    path.extend_from_slice(dir);
    if !dir.is_empty() {
        path.extend_from_slice(b"/");
    }
    path.extend_from_slice(name);
    path.freeze()
}

/// What a store's file must be to be the version that an inode is bound to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bound {
    pub version: u64,
    pub length: u64,
}

impl Bound {
    /// Of the inode that an intent is about.
    pub fn of(inode: Option<&Inode>) -> Option<Self> {
        let binding = inode?.ufs.as_ref().filter(|binding| binding.present)?;
        Some(Self {
            version: binding.version,
            length: binding.length,
        })
    }

    /// Whether what is there is a copy of it, to which the rename of a folder gave another fingerprint: it bears the name of the upload
    /// of that very version.
    pub fn is_copy(self, inode: u64, there: &UfsStatus, cluster: &str) -> bool {
        let name = format!("{inode:x}-{:x}-", self.version);
        self.length == there.length
            && is_of_cluster(there, cluster)
            && there.write_id.as_ref().is_some_and(|id| id.starts_with(&name))
    }
}

/// Whether somebody has put something where the file was that an intent is about.
fn is_of_others(intent: &Intent, there: &UfsStatus, bound: Option<Bound>, cluster: &str) -> bool {
    let is_copy = || bound.is_some_and(|bound| bound.is_copy(intent.inode, there, cluster));
    !intent.expect.is_empty() && !is_ours(intent, there, cluster) && !is_copy()
}

/// Renames what is there, as any file system does: a file that somebody has replaced since it was looked at goes along. `told` hears of
/// what a folder's copies are.
///
/// Where a rename is not one step, a file is copied first, and [`Change::copied`] says what the copy is. Once that is journaled
/// ([`Intent::copied`]) the same call deletes what was copied. So an attempt after a lost answer knows its own copy, whatever
/// fingerprint the store gave it. Of a folder, one object that the store refuses to move does not stop the others.
pub(super) async fn rename(
    ufs: &dyn UnderFileSystem,
    intent: &Intent,
    bound: Option<Bound>,
    cluster: &str,
    kept: &Kept,
    told: &dyn CopyListener,
) -> UfsResult<Change> {
    if intent.inode_kind() == FileKind::Directory {
        return match ufs.move_objects(&intent.path, &intent.to_path, kept, told).await {
            Ok(moved) => Ok(Change {
                left: moved.left,
                is_cut: moved.is_cut,
                ..Change::of(moved.status)
            }),
            Err(error) if error.kind == UfsErrorKind::NotFound => Ok(Change::skipped()),
            Err(error) => Err(error),
        };
    }
    if intent.path == intent.to_path {
        // It came back before it had gone.
        let there = status_if_any(ufs, &intent.path).await?;
        return Ok(there.map_or_else(Change::skipped, Change::of));
    }
    if let Some(copied) = &intent.copied {
        return end_rename(ufs, intent, copied).await;
    }
    let there = status_if_any(ufs, &intent.path).await?;
    let Some(there) = there.filter(|there| there.kind != FileKind::Directory) else {
        // Done by an attempt that could not say so, or nothing to rename.
        let moved = status_if_any(ufs, &intent.to_path).await?;
        let moved = moved.filter(|moved| moved.kind != FileKind::Directory);
        return Ok(moved.map_or_else(Change::skipped, |moved| Change {
            taken_along: is_of_others(intent, &moved, bound, cluster).then(|| moved.clone()),
            ..Change::of(moved)
        }));
    };
    if ufs.capabilities().atomic_rename {
        return match ufs.rename(&intent.path, &intent.to_path).await {
            // What was moved decides, not what was looked at.
            Ok(moved) => Ok(Change {
                taken_along: is_of_others(intent, &moved, bound, cluster).then(|| moved.clone()),
                ..Change::of(moved)
            }),
            Err(error) if error.kind == UfsErrorKind::NotFound => Ok(Change::skipped()),
            Err(error) => Err(error),
        };
    }
    let fingerprint = match ufs.copy_file(&intent.path, &there.fingerprint, &intent.to_path).await {
        Ok(fingerprint) => fingerprint,
        Err(error) if error.kind == UfsErrorKind::NotFound => return Ok(Change::skipped()),
        Err(error) => return Err(error),
    };
    Ok(Change {
        copied: Some(Copied {
            from: there.fingerprint.clone(),
            to: fingerprint,
            is_of_others: is_of_others(intent, &there, bound, cluster),
        }),
        ..Change::default()
    })
}

/// Deletes what a rename has copied. What somebody put there since is a new file under the old name.
async fn end_rename(ufs: &dyn UnderFileSystem, intent: &Intent, copied: &Copied) -> UfsResult<Change> {
    let mut left = Vec::new();
    match ufs.delete_if(&intent.path, &copied.from).await {
        Ok(()) => {}
        Err(error) if error.kind == UfsErrorKind::PreconditionFailed => {
            tracing::warn!(path = %show(&intent.path), "not deleted after a rename: another object is there now");
        }
        Err(error) if error.is_refusal() => {
            let status = status_if_any(ufs, &intent.path).await?;
            let status = status.filter(|status| status.fingerprint == copied.from);
            left.extend(status.map(|status| Left {
                path: intent.path.clone(),
                copied: true,
                status,
                error,
            }));
        }
        Err(error) => return Err(error),
    }
    let there = match copied.is_of_others {
        true => status_if_any(ufs, &intent.to_path).await?,
        false => None,
    };
    let there = there.filter(|there| there.kind != FileKind::Directory);
    // Of somebody's object that is gone already nothing is known.
    let fingerprint = match copied.is_of_others && there.is_none() {
        true => String::new(),
        false => copied.to.clone(),
    };
    Ok(Change {
        fingerprint,
        taken_along: there,
        left,
        ..Change::default()
    })
}

/// Where folders are only prefixes of keys, one with something in it needs no marker, but for what it carries.
pub(super) async fn mkdir(
    ufs: &dyn UnderFileSystem,
    intent: &Intent,
    inode: Option<&Inode>,
    attributes: &UfsAttributes,
) -> UfsResult<Change> {
    let needs_marker = inode.is_none_or(|inode| inode.entries == 0);
    let can = ufs.capabilities();
    if can.real_directories || can.keeps_attributes || needs_marker {
        match ufs.mkdir(&intent.path, attributes).await {
            Err(error) if error.is_refusal() && !can.real_directories && !needs_marker => {
                tracing::warn!(path = %show(&intent.path), %error, "a folder has no marker, but what is in it");
            }
            made => made?,
        }
    }
    Ok(Change::default())
}

pub(super) async fn rmdir(ufs: &dyn UnderFileSystem, intent: &Intent) -> UfsResult<Change> {
    match ufs.rmdir(&intent.path).await {
        Ok(()) => Ok(Change::default()),
        Err(error) if is_absent(&error) => Ok(Change::skipped()),
        // Others have put something in it; the next look at the parent shows it.
        Err(error) if error.kind == UfsErrorKind::NotEmpty => Ok(Change::skipped()),
        Err(error) => Err(error),
    }
}

pub(super) async fn symlink(
    ufs: &dyn UnderFileSystem,
    intent: &Intent,
    inode: Option<&Inode>,
    attributes: &UfsAttributes,
) -> UfsResult<Change> {
    let Some(inode) = inode else {
        return Ok(Change::skipped());
    };
    match ufs.symlink(&intent.path, &inode.symlink_target, attributes).await {
        Ok(()) => {}
        Err(error) if error.kind == UfsErrorKind::AlreadyExists => {
            let there = status_if_any(ufs, &intent.path).await?;
            let target = there.as_ref().and_then(|there| there.symlink_target.as_ref());
            let same = target == Some(&inode.symlink_target);
            if !same {
                // What is there was taken over with the name; a link replaces it. What comes in its place meanwhile stays.
                if let Some(there) = there {
                    ufs.delete_if(&intent.path, &there.fingerprint).await?;
                }
                ufs.symlink(&intent.path, &inode.symlink_target, attributes).await?;
            }
        }
        Err(error) if error.kind == UfsErrorKind::Unsupported => return Ok(Change::skipped()),
        Err(error) => return Err(error),
    }
    let there = status_if_any(ufs, &intent.path).await?;
    Ok(there.map_or_else(Change::default, Change::of))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alluxio_common::config::Configuration;
    use alluxio_ufs::memory;
    use std::collections::BTreeMap;
    use std::sync::Arc;

    const OURS: &str = "0123456789abcdef";

    fn status(fingerprint: &str, length: u64, write_id: Option<&str>) -> UfsStatus {
        UfsStatus {
            name: "f".into(),
            kind: FileKind::File,
            length,
            mtime_ns: i64::MAX,
            fingerprint: fingerprint.into(),
            mode: None,
            owner: None,
            group: None,
            symlink_target: None,
            write_id: write_id.map(str::to_owned),
            atime_ns: None,
            xattrs: None,
            is_partial: false,
            is_archived: false,
        }
    }

    #[test]
    fn what_only_looks_like_ours_is_not() {
        let intent = Intent {
            expect: vec!["known".into()],
            expect_lengths: vec![5],
            ..Default::default()
        };
        assert!(is_ours(&intent, &status("known", 9, None), OURS));
        // New, and as long as an upload of ours that was never heard of again.
        assert!(!is_ours(&intent, &status("other", 5, None), OURS));
        assert!(!is_ours(&intent, &status("other", 5, Some("their-own-name")), OURS));
        assert!(
            !is_ours(&intent, &status("other", 5, Some("2-1-5-fedcba987654")), OURS),
            "another cluster's"
        );
        assert!(is_ours(&intent, &status("other", 5, Some("2-1-5-0123456789ab")), OURS));
        assert!(!is_ours(&intent, &status("other", 6, Some("2-1-5-0123456789ab")), OURS));
    }

    #[tokio::test]
    async fn an_empty_file_is_put_once_and_on_a_condition() {
        // Of these two only the first recognizes by itself what it has put already.
        let dir = tempfile::tempdir().unwrap();
        let folder = alluxio_ufs::open(
            dir.path().to_str().unwrap(),
            &BTreeMap::new(),
            &Configuration::default(),
        );
        for ufs in [Arc::new(memory()) as Arc<dyn UnderFileSystem>, folder.unwrap()] {
            let intent = Intent {
                inode: 7,
                version: 1,
                path: "f".into(),
                ..Default::default()
            };
            let first = upload_nothing(&*ufs, &intent, UfsAttributes::default(), OURS)
                .await
                .unwrap();
            // An attempt whose answer was lost is repeated: its object is known by its name, and stays.
            let again = upload_nothing(&*ufs, &intent, UfsAttributes::default(), OURS)
                .await
                .unwrap();
            assert_eq!(again.fingerprint, first.fingerprint);
            // Another's is not taken for it for being as empty: the last writer of a name wins.
            let nothing = BytesSource(Bytes::new());
            let theirs = ufs.write(b"f", &nothing, &Expect::Any, &UfsAttributes::default()).await;
            let last = upload_nothing(&*ufs, &intent, UfsAttributes::default(), OURS)
                .await
                .unwrap();
            assert_ne!(last.fingerprint, theirs.unwrap().fingerprint);
            let there = ufs.status(b"f").await.unwrap();
            assert_eq!(there.fingerprint, last.fingerprint);
            assert_eq!(there.write_id, Some(empty_name(&intent, OURS)));
        }
    }

    #[tokio::test]
    async fn a_delete_leaves_what_came_in_its_place() {
        let ufs = memory();
        let put = async |text: &'static [u8]| {
            let source = BytesSource(Bytes::from_static(text));
            let written = ufs.write(b"f", &source, &Expect::Any, &UfsAttributes::default()).await;
            written.unwrap().fingerprint
        };
        let ours = put(b"ours!").await;
        let intent = Intent {
            path: "f".into(),
            expect: vec![ours],
            expect_lengths: vec![5],
            created_ns: 1,
            ..Default::default()
        };
        let theirs = put(b"them!").await;
        assert!(delete(&ufs, &intent, OURS).await.unwrap().skipped);
        assert_eq!(ufs.status(b"f").await.unwrap().fingerprint, theirs);
    }

    #[tokio::test]
    async fn a_rename_takes_along_what_somebody_put_there() {
        let ufs = memory();
        let put = async |text: &'static [u8]| {
            let source = BytesSource(Bytes::from_static(text));
            let written = ufs.write(b"f", &source, &Expect::Any, &UfsAttributes::default()).await;
            written.unwrap().fingerprint
        };
        let intent = Intent {
            path: "f".into(),
            to_path: "g".into(),
            expect: vec![put(b"ours").await],
            inode_kind: FileKind::File as i32,
            ..Default::default()
        };
        put(b"theirs").await;
        let mut intent = intent;
        intent.copied = rename(&ufs, &intent, None, OURS, &Kept::new(), &())
            .await
            .unwrap()
            .copied;
        assert!(intent.copied.as_ref().unwrap().is_of_others);
        // The second attempt does not know what became of the first.
        for attempt in 1..=2 {
            let change = rename(&ufs, &intent, None, OURS, &Kept::new(), &()).await.unwrap();
            let taken = change.taken_along.unwrap();
            assert_eq!((change.skipped, taken.length), (false, 6), "attempt {attempt}");
            assert_eq!(taken.fingerprint, change.fingerprint);
        }
        assert_eq!(ufs.status(b"g").await.unwrap().length, 6);
    }

    #[tokio::test]
    async fn a_rename_knows_its_own_copy_whatever_answers_are_lost() {
        let ufs = memory();
        let source = BytesSource(Bytes::from_static(b"ours"));
        let put = async |name: &[u8]| {
            let written = ufs.write(name, &source, &Expect::Any, &UfsAttributes::default()).await;
            written.unwrap().fingerprint
        };
        let bound = Some(Bound { version: 1, length: 4 });
        let mut intent = Intent {
            path: "f".into(),
            to_path: "g".into(),
            expect: vec![put(b"f").await],
            inode_kind: FileKind::File as i32,
            ..Default::default()
        };
        // Each attempt copies until it is journaled that one has.
        let first = rename(&ufs, &intent, bound, OURS, &Kept::new(), &())
            .await
            .unwrap()
            .copied
            .unwrap();
        let second = rename(&ufs, &intent, bound, OURS, &Kept::new(), &())
            .await
            .unwrap()
            .copied
            .unwrap();
        assert!(first.from == intent.expect[0] && first.to != second.to && !second.is_of_others);
        assert!(ufs.status(b"f").await.is_ok(), "nothing is deleted before");
        intent.copied = Some(second.clone());
        for attempt in 1..=2 {
            let change = rename(&ufs, &intent, bound, OURS, &Kept::new(), &()).await.unwrap();
            assert!(change.taken_along.is_none(), "attempt {attempt}");
            assert_eq!((change.skipped, &change.fingerprint), (false, &second.to));
            assert_eq!(ufs.status(b"g").await.unwrap().fingerprint, second.to);
            assert!(ufs.status(b"f").await.is_err());
        }
        // What comes to the old name afterwards is another file.
        let theirs = put(b"f").await;
        rename(&ufs, &intent, bound, OURS, &Kept::new(), &()).await.unwrap();
        assert_eq!(ufs.status(b"f").await.unwrap().fingerprint, theirs);
    }
}
