//! Objects that a store refuses to move or to delete, and what is on its way between two places of a store.
//!
//! What is left of a rename or removal is journaled object by object ([`IntentLeft`]); what it leaves behind under an old name is shown
//! by no listing. While a rename is at work, an object is at its old place or its new one: whoever does not find it is told where.

use alluxio_proto::master::Opened;
use alluxio_proto::types::{FileKind, UfsSource};
use alluxio_proto::{FsError, FsResult, InodeId, IntentId, MountId};
use alluxio_ufs::{CopyListener, Left, UfsError, UfsErrorKind, UfsResult, UfsStatus, UnderFileSystem};
use bytes::Bytes;

use super::load::{PAGE_ENTRIES, is_absent};
use super::ufs_ops::{Bound, Kept, join, status_if_any};
use super::{Core, Ctx, now_ns, show};
use crate::state::command::{CopiedObject, IntentCopied, IntentLeft, LeftObject};
use crate::state::{Command, Inode, Intent, IntentKind, Passing, UfsLocation};

/// Objects in one command. Some hundred bytes each.
const LEFT_PER_COMMAND: usize = 500;
/// Copies in one command.
const COPIES_PER_COMMAND: usize = 500;
/// So many names are looked at to tell a folder in which there are only strays from one in which there is more.
const GHOST_NAMES_MAX: usize = 5_000;
/// Permission bits of names that become known because their objects are left behind.
const FILE_MODE: u32 = 0o644;
const DIR_MODE: u32 = 0o755;

/// Journals what a folder's rename says of its copies, so that files are known again under the fingerprints that they have then.
pub(super) struct TellCopies<'a> {
    pub core: &'a Core,
    pub intent: &'a Intent,
}

#[async_trait::async_trait]
impl CopyListener for TellCopies<'_> {
    async fn copied(&self, copies: Vec<alluxio_ufs::CopiedObject>) -> UfsResult<()> {
        for some in copies.chunks(COPIES_PER_COMMAND) {
            let objects = some.iter().map(|copy| CopiedObject {
                name: beneath(&copy.path, &self.intent.path),
                from: copy.from.clone(),
                to: copy.to.clone(),
            });
            let command = IntentCopied {
                intent: self.intent.id,
                copied: None,
                objects: objects.collect(),
            };
            let told = self.core.commit_for(IntentId(self.intent.id), command).await;
            told.map_err(|error| UfsError::new(UfsErrorKind::Other, error.message))?;
        }
        Ok(())
    }
}

/// A path as seen from a folder above it; empty for that itself.
fn beneath(path: &Bytes, top: &[u8]) -> Bytes {
    let rest = path.slice(top.len().min(path.len())..);
    let name = rest.strip_prefix(b"/").map(|name| rest.slice_ref(name));
    name.unwrap_or_default()
}

impl Core {
    /// How an intent meets strays in its store.
    pub(super) fn passing(&self, intent: &Intent) -> Passing {
        let ufs = self.ufs.of(MountId(intent.mount_id));
        Passing {
            passes: true,
            keeps: ufs.is_ok_and(|ufs| !ufs.capabilities().atomic_rename),
        }
    }

    /// What a change of a folder must leave alone, here and where it goes.
    pub(super) fn kept_by(&self, intent: &Intent) -> FsResult<Kept> {
        let mut kept = Kept::new();
        if !intent.is_folder() {
            return Ok(kept);
        }
        let mut places = vec![&intent.path];
        if intent.kind() == IntentKind::Rename {
            places.push(&intent.to_path);
        }
        for place in places {
            kept.extend(self.state.strays_beneath(MountId(intent.mount_id), place)?);
        }
        Ok(kept)
    }

    /// Journals what a store has refused of a rename or a removal: it becomes changes of its own, for a person to see and settle.
    pub(super) async fn journal_left(&self, intent: &Intent, left: Vec<Left>) -> FsResult<()> {
        let (count, retry_at_ns) = (left.len(), self.first_retry_of_left());
        if let Some(first) = left.first() {
            tracing::warn!(
                intent = intent.id, objects = count, path = %show(&first.path), error = %first.error,
                "the under-storage refuses a part of a change ({:?} of {}): these objects stay where they are; \
                 `alluxio fsadmin report` lists them", intent.kind(), show(&intent.path)
            );
        }
        for some in left.chunks(LEFT_PER_COMMAND) {
            let objects = some.iter().map(|left| {
                let name = beneath(&left.path, &intent.path);
                LeftObject {
                    entry: Some(self.entry_of(left.status.clone(), Some(&name))),
                    copied: left.copied,
                    error: Some(FsError::from(left.error.clone()).to_wire()),
                }
            });
            let command = IntentLeft {
                intent: intent.id,
                left: objects.collect(),
                retry_at_ns,
                file_mode: FILE_MODE,
                dir_mode: DIR_MODE,
            };
            let applied = self.commit_in_background(Command::system(now_ns(), command)).await?;
            for (id, left) in applied.intents.iter().zip(some) {
                let error = FsError::from(left.error.clone());
                self.queue.keep_reason(IntentId(*id), error);
            }
        }
        self.metrics.ufs_changes_refused.add(count as u64);
        Ok(())
    }

    /// Whether the object of a rename that was refused is where it was, and no copy of it where it was to go: then others need not wait.
    pub(super) async fn stays_where_it_was(&self, intent: &Intent) -> bool {
        if intent.kind() != IntentKind::Rename || intent.is_folder() || intent.is_across() {
            return false;
        }
        let Ok(ufs) = self.ufs.of(MountId(intent.mount_id)) else {
            return false;
        };
        let source = status_if_any(ufs.as_ref(), &intent.path).await;
        let target = status_if_any(ufs.as_ref(), &intent.to_path).await;
        let (Ok(Some(source)), Ok(target)) = (source, target) else {
            return false;
        };
        let is_copy = |target: UfsStatus| {
            target.fingerprint == source.fingerprint
                || (target.write_id.is_some() && target.write_id == source.write_id)
        };
        source.kind == FileKind::File && !target.is_some_and(is_copy)
    }

    /// Takes from what a listing of `at` shows as new what the namespace has moved or removed: single objects about which a change is
    /// pending, and folders in which there are only strays. Of those nothing more is asked, however many they are.
    pub(super) async fn without_ghosts(
        &self,
        ufs: &dyn UnderFileSystem,
        dir: InodeId,
        at: &UfsLocation,
        entries: Vec<UfsStatus>,
    ) -> FsResult<Vec<UfsStatus>> {
        if self.state.pending_intents() == 0 {
            return Ok(entries);
        }
        let mut shown = Vec::with_capacity(entries.len());
        for entry in entries {
            let is_folder = entry.kind == FileKind::Directory;
            let known = self.state.lookup(dir, &entry.name)?;
            if known.is_some_and(|known| known.is_dir() == is_folder) {
                shown.push(entry);
                continue;
            }
            let place = UfsLocation {
                mount: at.mount,
                path: join(&at.path, &entry.name),
            };
            let is_ghost = match is_folder {
                true => self.has_only_strays(ufs, &place).await?,
                false => self.is_changing(&place, &entry)?,
            };
            if !is_ghost {
                shown.push(entry);
            }
        }
        Ok(shown)
    }

    /// Whether all that a folder of the store holds are strays.
    async fn has_only_strays(&self, ufs: &dyn UnderFileSystem, top: &UfsLocation) -> FsResult<bool> {
        // One that is being tried again is no stray meanwhile, and still there.
        let strays = self.state.leaving_beneath(top.mount, &top.path)?;
        if strays.is_empty() {
            return Ok(false);
        }
        let strays: Kept = strays.into_iter().map(|stray| stray.path).collect();
        let (mut folders, mut seen) = (vec![top.path.clone()], 0);
        while let Some(folder) = folders.pop() {
            let mut token = None;
            let mut is_empty = true;
            loop {
                let page = match ufs.list(&folder, token, PAGE_ENTRIES).await {
                    Ok(page) => page,
                    Err(error) if is_absent(&error) => break,
                    Err(error) => return Err(self.ufs_error(top, "look at what is left in", error)),
                };
                seen += page.entries.len();
                for entry in page.entries {
                    is_empty = false;
                    let path = join(&folder, &entry.name);
                    match entry.kind {
                        FileKind::Directory => folders.push(path),
                        _ if strays.contains(&path) => {}
                        _ => return Ok(false),
                    }
                }
                token = page.next;
                if token.is_none() || seen > GHOST_NAMES_MAX {
                    break;
                }
            }
            // A folder that is there by itself.
            if seen > GHOST_NAMES_MAX || (is_empty && !strays.contains(&folder)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether a change is pending at that very place: then no name comes of what is there before that is done. What was to be deleted,
    /// and could not be, may be somebody else's by now: the next try finds that out, and shows it.
    fn is_changing(&self, at: &UfsLocation, there: &UfsStatus) -> FsResult<bool> {
        let changes = self.state.intents_at(at.mount, &at.path)?;
        for stray in &changes {
            let is_another = !stray.expect.contains(&there.fingerprint) && stray.expect_lengths.is_empty();
            if stray.is_stray() && stray.kind() == IntentKind::Delete && stray.path == at.path && is_another {
                self.queue.expedite([IntentId(stray.id)]);
            }
        }
        Ok(!changes.is_empty())
    }

    /// Where the object of a file is while renames above it are at work, if it is not where it was: for whoever has not found it.
    /// `None`: it does not move, or is nowhere.
    pub(super) async fn find_between(&self, ctx: &Ctx, inode: &Inode) -> FsResult<Option<Opened>> {
        let Some(ufs) = inode.ufs.as_ref().filter(|ufs| ufs.present) else {
            return Ok(None);
        };
        let places = self.state.places_of(inode.inode_id())?;
        if places.len() < 2 {
            return Ok(None);
        }
        let cluster = self.state.cluster_id();
        // From where it was to where it goes: what moves meanwhile is met at the later place.
        for at in places.into_iter().rev() {
            let there = status_if_any(self.ufs.of(at.mount)?.as_ref(), &at.path).await?;
            let is_it = |there: &UfsStatus| {
                let is_copy = Bound::of(Some(inode)).is_some_and(|bound| bound.is_copy(inode.id, there, &cluster));
                there.kind == FileKind::File && (ufs.is_known_as(&there.fingerprint) || is_copy)
            };
            if let Some(there) = there.filter(is_it) {
                let mut opened = self.opened(ctx, inode)?;
                let (read, write) = (opened.read.as_mut(), opened.write.as_mut());
                if let Some(read) = read.or_else(|| write.and_then(|lease| lease.base.as_mut())) {
                    for source in [read.ufs.as_mut(), read.older.as_mut()].into_iter().flatten() {
                        *source = UfsSource {
                            mount_id: at.mount.get(),
                            path: at.path.clone(),
                            fingerprint: there.fingerprint.clone(),
                            length: source.length,
                        };
                    }
                }
                return Ok(Some(opened));
            }
        }
        Ok(None)
    }

    /// Whether a rename of a file is still to be made in its under-storage. One that was refused is not waited for.
    pub(super) fn is_moving(&self, id: InodeId) -> FsResult<bool> {
        let intents = self.state.intents_of(id)?;
        let moves = |intent: &Intent| intent.kind() == IntentKind::Rename && !intent.refused;
        Ok(intents.iter().any(moves))
    }
}
