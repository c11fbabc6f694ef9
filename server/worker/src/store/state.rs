//! What an entry is at a moment, as everybody may read it. What changes it is in [`super::label`].

use super::sidecar::{Base, Header, Sealed};
use crate::io::FileStat;
use alluxio_proto::types::UfsSource;

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum State<'a> {
    /// A committed version that the under-storage has.
    Cached { ufs: &'a UfsSource },
    /// A committed version that nothing else may have. What is not here comes from the base.
    Sealed { base: Option<&'a Base> },
    /// Somebody writes it, or did and has not ended it.
    Open(Under<'a>),
}

/// What lies under an open version.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Under<'a> {
    /// Nothing: who has the descriptor may write past us.
    Nothing,
    /// It knows what of it changes; the rest is the base's, as far as there is one.
    Base(Option<&'a Base>),
}

/// What is known of mappings for writing of an open version's data file. A store to a page that is dirty already moves no time,
/// so that the same times do not mean the same content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mapping {
    /// Nobody had it open for reading and writing on a descriptor.
    Never,
    /// Somebody had.
    Possible,
    /// They were there after the last close.
    Seen,
    /// They were there, and all pages clean, which write-protects them, when the content was last looked at: any store since
    /// has moved the times.
    Watched,
}

impl Mapping {
    /// Whether the content is the same if the times are.
    pub fn times_prove(self) -> bool {
        matches!(self, Mapping::Never | Mapping::Watched)
    }
    /// Whether the file was mapped when nobody had it open.
    pub fn outlived_descriptors(self) -> bool {
        matches!(self, Mapping::Seen | Mapping::Watched)
    }
}

/// What tells whether content changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub size: u64,
    pub mtime_ns: i64,
    pub ctime_ns: i64,
    pub writes: u64,
}

impl Stamp {
    /// Of a data file, after so many writes through this process.
    pub fn of(stat: &FileStat, writes: u64) -> Self {
        Self {
            size: stat.size,
            mtime_ns: stat.mtime_ns,
            ctime_ns: stat.ctime_ns,
            writes,
        }
    }

    pub(super) fn of_sealed(sealed: &Sealed, writes: u64) -> Self {
        Self {
            size: sealed.stamp_size,
            mtime_ns: sealed.stamp_mtime_ns,
            ctime_ns: sealed.stamp_ctime_ns,
            writes,
        }
    }
}

/// What an entry is at a moment.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub header: Header,
    pub dead: bool,
    pub content_epoch: u64,
    pub writes: u64,
    pub uploading: bool,
}

impl View {
    /// Whether it may be the only copy.
    pub fn pinned(&self) -> bool {
        !matches!(self.header.state(), State::Cached { .. })
    }
    /// Whether a request for the committed version `version` is answered by this: it is that version, or that version
    /// opened for writing in place.
    pub fn serves(&self, version: u64) -> bool {
        match self.header.state() {
            State::Cached { .. } | State::Sealed { .. } => self.header.version == version,
            State::Open(_) => {
                let sealed = &self.header.sealed;
                let was_sealed = sealed.as_ref().is_some_and(|sealed| sealed.version == version);
                was_sealed || (self.header.open_since..=self.header.version).contains(&version)
            }
        }
    }
    /// Whether a writer of `version` is one of this open version.
    pub fn open_as(&self, version: u64) -> bool {
        self.header.open && !self.dead && (self.header.open_since..=self.header.version).contains(&version)
    }
}

impl Header {
    /// A committed version that the under-storage has, of which nothing is here yet.
    pub fn cached(inode: u64, version: u64, length: u64, ufs: Option<UfsSource>) -> Self {
        Self {
            inode,
            version,
            length,
            ufs,
            ..Self::default()
        }
    }

    /// An open version that nothing lies under.
    pub fn open_new(inode: u64, version: u64) -> Self {
        Self {
            inode,
            version,
            open: true,
            open_since: version,
            whole: true,
            ..Self::default()
        }
    }

    /// What the flags mean.
    pub fn state(&self) -> State<'_> {
        match (self.open, self.whole, &self.ufs) {
            (true, true, _) => State::Open(Under::Nothing),
            (true, false, _) => State::Open(Under::Base(self.base.as_ref())),
            (false, _, Some(ufs)) => State::Cached { ufs },
            (false, _, None) => State::Sealed {
                base: self.base.as_ref(),
            },
        }
    }

    /// Whether it is open and nothing lies under it.
    pub fn is_open_over_nothing(&self) -> bool {
        self.state() == State::Open(Under::Nothing)
    }

    /// Where absent chunks come from, and how many of its bytes count.
    pub fn source(&self) -> Option<(&UfsSource, u64)> {
        match (self.state(), &self.base) {
            (State::Cached { ufs }, _) => Some((ufs, ufs.length)),
            (_, Some(base)) => Some((base.ufs.as_ref()?, base.bytes)),
            _ => None,
        }
    }

    /// A header of before an opening that emptied the file, of which the disk has a note: it is open as that version.
    pub fn correct_to_opened(&mut self, version: u64) {
        if self.open {
            (self.whole, self.base, self.holes) = (true, None, false);
            self.version = self.version.max(version);
            return;
        }
        self.sealed = Some(Sealed {
            version: self.version,
            length: self.length,
            mtime_ns: self.mtime_ns,
            ufs: self.ufs.take(),
            ..Sealed::default()
        });
        self.base = None;
        self.holes = false;
        self.durable = false;
        self.open = true;
        self.whole = true;
        self.version = version;
        self.open_since = version;
    }

    pub(super) fn base_bytes(&self) -> Option<u64> {
        self.base.as_ref().map(|base| base.bytes)
    }
}
