//! What an entry is, and each way from one state to another.
//!
//! | from | to | by |
//! |---|---|---|
//! | – | cached, or open | [`Header::cached`], [`Header::open_new`], [`Header::open_over`] |
//! | cached, sealed | open | [`Label::open`]; after a power cut [`Header::correct_to_opened`], [`Label::distrust`] |
//! | open | open as a later version | [`Label::open_again`], [`Label::commit`] |
//! | open over a base | open and whole | [`Label::hand_out`], [`Label::empty`] |
//! | open | open over the version sealed last | [`Label::rest_on_sealed`] |
//! | open | sealed | [`Label::seal`] |
//! | open | cached, sealed | [`Label::give_back`] |
//! | sealed | cached | [`Label::persisted`], [`Label::found_in_store`] |
//! | any | dead | [`Label::die`] |
//!
//! On disk a state is flags of a [`Header`], which [`Header::state`] alone reads as one. In memory it is a [`Label`], that
//! everybody can read and only this file changes: [`Entry::change`] writes it to the sidecar, and takes all of it back if the disk
//! refuses. Each change ends in a check that holds in release builds too: what is wrong does not reach the disk.

use super::entry::Entry;
use super::sidecar::{Base, Header, Sealed};
use super::state::{Mapping, Stamp, State, Under};
use alluxio_proto::types::UfsSource;
use std::io::Result as IoResult;
use std::ops::Deref;

/// What an entry is: the header, and what goes with it while the entry is loaded.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Label {
    header: Header,
    /// Removed: holders finish, nothing is kept any more.
    dead: bool,
    /// Size and times of the content that was last sealed.
    stamp: Option<Stamp>,
    /// A descriptor for writing is or was out: anything may have changed.
    writable_fd_out: bool,
    mapping: Mapping,
    /// Grows when content that was sealed is replaced.
    content_epoch: u64,
    /// Every local mark of an open version is of the content that was sealed last.
    marks_are_sealed: bool,
}

impl Deref for Label {
    type Target = Header;

    fn deref(&self) -> &Header {
        &self.header
    }
}

impl Label {
    /// Of an entry that was just made or loaded.
    pub fn new(header: Header) -> Self {
        Self {
            header,
            dead: false,
            stamp: None,
            writable_fd_out: false,
            mapping: Mapping::Never,
            content_epoch: 0,
            marks_are_sealed: false,
        }
    }

    pub fn is_dead(&self) -> bool {
        self.dead
    }
    pub fn stamp(&self) -> Option<Stamp> {
        self.stamp
    }
    pub fn writable_fd_out(&self) -> bool {
        self.writable_fd_out
    }
    pub fn mapping(&self) -> Mapping {
        self.mapping
    }
    pub fn content_epoch(&self) -> u64 {
        self.content_epoch
    }
    pub fn marks_are_sealed(&self) -> bool {
        self.marks_are_sealed
    }

    /// It was removed.
    pub fn die(&mut self) {
        self.dead = true;
    }

    /// What holds of every label that is written. A loaded one may be of software that had other rules.
    ///
    /// # Errors
    /// What does not hold: the change is refused, and the entry stays what it was.
    pub fn check(&self) -> IoResult<()> {
        let header = &self.header;
        let wrong = match header.state() {
            State::Open(_) if header.ufs.is_some() => "an open version that is in an under-storage",
            State::Open(_) if header.open_since > header.version => "open since later",
            State::Open(Under::Nothing) if header.base.is_some() => "nothing lies over a base",
            State::Cached { .. } | State::Sealed { .. } if header.sealed.is_some() => {
                "a committed version over a sealed one"
            }
            State::Cached { .. } | State::Sealed { .. } if self.writable_fd_out => {
                "somebody writes a committed version"
            }
            _ => return Ok(()),
        };
        Err(std::io::Error::other(format!(
            "a label that cannot be: {wrong}: {self:?}"
        )))
    }

    /// Loaded in another boot than it was written in, open: from now on unsynced marks are those of this boot. What they were of
    /// is still to be looked at.
    pub fn begin_boot(&mut self, boot_id: &str) {
        self.header.doubtful = true;
        self.header.passed = false;
        boot_id.clone_into(&mut self.header.boot_id);
    }

    /// Loaded, open: descriptors of before may have been written to, and may still be.
    pub fn take_up(&mut self) {
        self.writable_fd_out = self.header.whole || self.header.passed;
        if self.header.whole {
            self.mapping = Mapping::Possible;
        }
        self.stamp = self.header.sealed.as_ref().map(|sealed| Stamp::of_sealed(sealed, 0));
    }

    /// The committed version, which looks like `stamp`, is open as `version`. `whole`: it is complete, and need not know what of
    /// it changes.
    pub fn open(&mut self, whole: bool, stamp: Stamp, version: u64, boot_id: &str) {
        assert!(!self.header.open, "opened twice: {self:?}");
        let header = &mut self.header;
        let base = match (&header.ufs, header.base.take()) {
            _ if whole => None,
            (Some(ufs), _) => Some(Base {
                bytes: header.length,
                ufs: Some(ufs.clone()),
                version: header.version,
            }),
            (None, base) => base,
        };
        header.sealed = Some(Sealed {
            version: header.version,
            length: header.length,
            mtime_ns: header.mtime_ns,
            ufs: header.ufs.take(),
            stamp_size: stamp.size,
            stamp_mtime_ns: stamp.mtime_ns,
            stamp_ctime_ns: stamp.ctime_ns,
            base_bytes: base.as_ref().map(|base| base.bytes),
        });
        header.open = true;
        header.whole = whole;
        header.base = base;
        // Marks of what is not synced count as long as this boot lasts.
        boot_id.clone_into(&mut header.boot_id);
        header.doubtful = false;
        self.stamp = Some(stamp);
        self.writable_fd_out = false;
        self.mapping = Mapping::Never;
        self.open_again(version);
    }

    /// An open version that was abandoned, or whose writers come anew, goes on as `version`.
    pub fn open_again(&mut self, version: u64) {
        assert!(self.header.open, "not open: {self:?}");
        self.header.closed_empty = false;
        self.header.version = version;
        self.header.open_since = version;
    }

    /// The open version, which is new, was closed while it was empty.
    pub fn close_empty(&mut self) {
        self.header.closed_empty = true;
    }

    /// The content of an open version is that of a committed one.
    pub fn note_sealed(&mut self, sealed: Sealed, writes: u64) {
        self.stamp = Some(Stamp::of_sealed(&sealed, writes));
        self.header.sealed = Some(sealed);
    }

    /// A descriptor goes out on which anything may be changed past us: nothing lies under it from now on.
    pub fn hand_out(&mut self) {
        assert!(
            self.header.open,
            "a descriptor for writing of a committed version: {self:?}"
        );
        self.writable_fd_out = true;
        self.header.durable = false;
        self.empty();
    }

    /// Nothing lies under it any more. True: something did.
    pub fn empty(&mut self) -> bool {
        let was_based = self.header.base.is_some() && !self.header.whole;
        self.header.whole = true;
        self.header.base = None;
        self.header.passed = false;
        was_based
    }

    /// The version that was sealed last, and is in the under-storage, lies under the open one from now on: `bytes` of it, at most
    /// as many as it had in common with what is open.
    /// `is_guarded`: what is written past us is announced.
    pub fn rest_on_sealed(&mut self, bytes: u64, is_guarded: bool) {
        assert!(
            self.header.open && (is_guarded || !self.writable_fd_out),
            "nobody knows what of it changed: {self:?}"
        );
        let Some(sealed) = self.header.sealed.as_mut().filter(|sealed| sealed.ufs.is_some()) else {
            return;
        };
        sealed.base_bytes = Some(bytes);
        self.header.base = Some(Base {
            bytes,
            ufs: sealed.ufs.clone(),
            version: sealed.version,
        });
        self.header.whole = false;
        self.header.passed = self.writable_fd_out;
    }

    /// What looked like `before` looks like `after`, and is the same content.
    pub fn move_stamp(&mut self, before: Stamp, after: Stamp) {
        if self.stamp != Some(before) {
            return;
        }
        self.stamp = Some(after);
        if let Some(sealed) = self.header.sealed.as_mut().filter(|_| self.header.open) {
            sealed.stamp_size = after.size;
            sealed.stamp_mtime_ns = after.mtime_ns;
            sealed.stamp_ctime_ns = after.ctime_ns;
        }
    }

    /// What is cut off must not come back from the base when the file is extended again. True: there is one.
    pub fn cut_base(&mut self, length: u64) -> bool {
        let base = self.header.base.as_mut().filter(|_| !self.header.whole);
        base.map(|base| base.bytes = base.bytes.min(length)).is_some()
    }

    /// The checksummed content of `stamp` is committed as `version`, and is open no more. What is in no under-storage is pinned
    /// by that. `holes`: chunks without a mark are holes.
    pub fn seal(&mut self, version: u64, stamp: Stamp, holes: bool, boot_id: &str) {
        self.sum_up(stamp, holes, boot_id);
        self.header.version = version;
        self.header.length = stamp.size;
        self.header.mtime_ns = stamp.mtime_ns;
        self.header.sealed = None;
        self.header.ufs = None;
        self.close();
    }

    /// As [`Self::seal`], and it stays open as `next`.
    pub fn commit(&mut self, version: u64, next: u64, stamp: Stamp, holes: bool, boot_id: &str) {
        self.sum_up(stamp, holes, boot_id);
        self.header.version = next;
        self.header.sealed = Some(Sealed {
            version,
            length: stamp.size,
            mtime_ns: stamp.mtime_ns,
            ufs: None,
            stamp_size: stamp.size,
            stamp_mtime_ns: stamp.mtime_ns,
            stamp_ctime_ns: stamp.ctime_ns,
            base_bytes: self.header.base_bytes(),
        });
    }

    fn sum_up(&mut self, stamp: Stamp, holes: bool, boot_id: &str) {
        assert!(self.header.open, "sealed twice: {self:?}");
        boot_id.clone_into(&mut self.header.boot_id);
        self.header.holes = holes;
        self.header.durable = false;
        self.header.doubtful = false;
        self.content_epoch += 1;
        self.marks_are_sealed = true;
        self.stamp = Some(stamp);
    }

    fn close(&mut self) {
        self.header.open = false;
        self.header.passed = false;
        self.header.open_since = 0;
        self.writable_fd_out = false;
        self.mapping = Mapping::Never;
    }

    /// An unchanged open version becomes what it was before. False: it was nothing before.
    pub fn give_back(&mut self) -> bool {
        let Some(sealed) = self.header.sealed.take() else {
            return false;
        };
        self.header.version = sealed.version;
        self.header.length = sealed.length;
        self.header.mtime_ns = sealed.mtime_ns;
        self.header.ufs = sealed.ufs;
        self.header.durable = false;
        self.close();
        true
    }

    /// See [`Entry::distrust_open`].
    pub fn distrust(&mut self, version: u64) {
        let header = &mut self.header;
        if !header.open {
            header.sealed = Some(Sealed {
                version: header.version,
                length: header.length,
                mtime_ns: header.mtime_ns,
                base_bytes: header.base_bytes(),
                ..Sealed::default()
            });
            header.open = true;
            header.open_since = version;
            header.whole = header.base.is_none();
        }
        header.version = version;
        header.durable = false;
        header.closed_empty = false;
        self.stamp = None;
        header.passed = false;
        self.writable_fd_out = header.whole;
    }

    /// Version `version`, content `epoch`, is in the under-storage. False: it is not what this entry holds any more.
    pub fn persisted(&mut self, version: u64, epoch: u64, ufs: UfsSource) -> bool {
        let is_same = self.content_epoch == epoch && !self.dead;
        let header = &mut self.header;
        match (header.open, &mut header.sealed) {
            (false, _) if is_same && header.version == version => {
                header.ufs = Some(ufs);
                header.base = None;
                true
            }
            (true, Some(sealed)) if is_same && sealed.version == version => {
                // The object that lay under absent chunks is replaced by one with the same bytes there.
                if let Some(base) = &mut header.base {
                    base.ufs = Some(ufs.clone());
                    base.version = version;
                }
                sealed.ufs = Some(ufs);
                true
            }
            _ => {
                self.rebase(version, ufs);
                false
            }
        }
    }

    /// The committed version was uploaded, and the news of it got lost here.
    pub fn found_in_store(&mut self, version: u64, ufs: UfsSource) -> bool {
        let is_it = !self.header.open && self.header.version == version;
        if is_it {
            self.header.ufs = Some(ufs);
        }
        is_it
    }

    /// Makes a version between the base and what is here the base. Versions between the two were all made here, one out of the
    /// other, so what never changed since the base is the same in each of them. False: it does not lie between them.
    pub fn rebase(&mut self, version: u64, ufs: UfsSource) -> bool {
        let until = self.header.version;
        match &mut self.header.base {
            Some(base) if base.version != 0 && base.version < version && version < until => {
                base.ufs = Some(ufs);
                base.version = version;
                true
            }
            _ => false,
        }
    }

    /// The object that absent chunks come from is at another location. False: they come from another one by now.
    pub fn move_source(&mut self, from: &UfsSource, to: UfsSource) -> bool {
        let header = &mut self.header;
        let location = match (&mut header.ufs, &mut header.base) {
            (Some(ufs), _) if !header.open => Some(ufs),
            (_, Some(base)) => base.ufs.as_mut(),
            _ => None,
        };
        match location {
            Some(location) if location == from && to.length == from.length => {
                *location = to;
                true
            }
            _ => false,
        }
    }

    /// Something is in the page cache only.
    pub fn note_unsynced(&mut self) {
        self.header.durable = false;
    }

    /// What was sealed is on disk.
    pub fn note_durable(&mut self) {
        self.header.durable = !self.header.open;
    }

    /// A sync failed, or nothing is left of what one failed of.
    pub fn note_failed_sync(&mut self, failed: bool) {
        self.header.sync_failed = failed;
    }

    /// From now on what has no mark is not here.
    pub fn forget_holes(&mut self) {
        self.header.holes = false;
    }

    /// Somebody has looked at what a crash of the operating system left.
    pub fn settle_doubt(&mut self) {
        self.header.doubtful = false;
    }

    /// Marks begin to be made anew.
    pub fn begin_sums(&mut self) {
        self.marks_are_sealed = false;
    }

    /// Takes notice that mappings for writing may be there, or were.
    pub fn note_mappings(&mut self) {
        if self.mapping == Mapping::Never {
            self.mapping = Mapping::Possible;
        }
    }

    /// Takes notice that mappings were found when nobody had the file open any more.
    pub fn note_mapped(&mut self) {
        if self.mapping != Mapping::Watched {
            self.mapping = Mapping::Seen;
        }
    }

    /// Takes notice of whether every store since the times were looked at last moves them.
    pub fn note_watched(&mut self, is_watched: bool) {
        self.mapping = match (self.mapping, is_watched) {
            (before @ (Mapping::Never | Mapping::Possible), _) => before,
            (Mapping::Seen | Mapping::Watched, true) => Mapping::Watched,
            (Mapping::Seen | Mapping::Watched, false) => Mapping::Seen,
        };
    }
}

impl Entry {
    /// Changes what it is, on disk and in memory. If the disk refuses, it stays what it was.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Label) -> T) -> IoResult<T> {
        let mut inner = self.inner.lock();
        let mut label = inner.label.clone();
        let out = change(&mut label);
        label.check()?;
        if *label != *inner.label {
            let sequence = inner.sequence + 1;
            self.sidecar.store(&label, sequence)?;
            inner.sequence = sequence;
        }
        inner.label = label;
        Ok(out)
    }
}

#[cfg(test)]
#[path = "label_test.rs"]
mod tests;
