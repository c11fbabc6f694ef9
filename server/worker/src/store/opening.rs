//! A note on a data file that says what it was opened as, for when a cut of the power takes its sidecar.
//!
//! msync(2), and writes with `O_DSYNC`, reach the data file past every process of ours; what they promise must not hang on a
//! sidecar that nobody synced. The note is an extended attribute of the data file, set before a descriptor that can write goes out
//! and synced by nobody: journaling file systems (ext4, XFS, btrfs) commit changes of metadata in their order, and the first sync
//! of bytes in a file that is new, or was emptied, needs a commit for their blocks and for its length, which comes after those for
//! name and note. So both are durable as soon as any byte is, at no cost. Of a file whose blocks are there already that is not
//! so: its sidecar is synced when it is opened ([`super::Entry::sync_opening`]).

use super::entry::Entry;
use super::layout::{Layout, Name};
use super::sidecar::Header;
use alluxio_common::checksum::crc32c;
use alluxio_proto::InodeId;
use std::fs::File;
use std::io::{Error, Result as IoResult};
use std::os::fd::AsRawFd;
use std::sync::atomic::Ordering;

const NAME: &std::ffi::CStr = c"user.alluxio.open";
const NUMBERS: usize = 4;
const NOTE_BYTES: usize = NUMBERS * 8 + 4;

/// What is noted: nothing lay under the file when it was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Note {
    pub inode: u64,
    pub generation: u64,
    /// The open version; 0: it was made for bytes that the under-storage has.
    pub version: u64,
    /// [`Layout::boot_number`] then.
    pub boot: u64,
}

impl Note {
    fn to_bytes(self) -> [u8; NOTE_BYTES] {
        let mut bytes = [0; NOTE_BYTES];
        let numbers = [self.inode, self.generation, self.version, self.boot];
        for (part, number) in bytes.chunks_exact_mut(8).zip(numbers) {
            part.copy_from_slice(&number.to_le_bytes());
        }
        let crc = crc32c(&bytes[..NUMBERS * 8]);
        bytes[NUMBERS * 8..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: [u8; NOTE_BYTES]) -> Option<Self> {
        let (numbers, crc) = bytes.split_at(NUMBERS * 8);
        if crc32c(numbers).to_le_bytes() != crc {
            return None;
        }
        let mut numbers = numbers
            .chunks_exact(8)
            .filter_map(|part| part.try_into().ok())
            .map(u64::from_le_bytes);
        Some(Self {
            inode: numbers.next()?,
            generation: numbers.next()?,
            version: numbers.next()?,
            boot: numbers.next()?,
        })
    }

    /// Leaves it on a data file. False: the file system has no room or no means for that.
    fn set(self, data: &File) -> IoResult<bool> {
        let bytes = self.to_bytes();
        // SAFETY: name and value are memory of ours that outlives the call, the value of the length that is given.
        let result = unsafe { libc::fsetxattr(data.as_raw_fd(), NAME.as_ptr(), bytes.as_ptr().cast(), bytes.len(), 0) };
        match result {
            0 => Ok(true),
            _ => match Error::last_os_error() {
                error if is_for_want_of_room(&error) => Ok(false),
                error => Err(error),
            },
        }
    }

    /// Takes the note off a data file. False: there was none.
    fn remove(data: &File) -> IoResult<bool> {
        // SAFETY: the name is memory of ours that outlives the call.
        match unsafe { libc::fremovexattr(data.as_raw_fd(), NAME.as_ptr()) } {
            0 => Ok(true),
            _ => match Error::last_os_error() {
                error if matches!(error.raw_os_error(), Some(libc::ENODATA | libc::EOPNOTSUPP)) => Ok(false),
                error => Err(error),
            },
        }
    }

    /// The note on a data file, if there is one.
    fn get(data: &File) -> IoResult<Option<Self>> {
        let mut bytes = [0; NOTE_BYTES];
        // SAFETY: the buffer is ours and of the length that is given.
        let n = unsafe { libc::fgetxattr(data.as_raw_fd(), NAME.as_ptr(), bytes.as_mut_ptr().cast(), bytes.len()) };
        match usize::try_from(n) {
            Ok(NOTE_BYTES) => Ok(Self::from_bytes(bytes)),
            Ok(_) => Ok(None),
            Err(_) => match Error::last_os_error() {
                error
                    if matches!(
                        error.raw_os_error(),
                        Some(libc::ENODATA | libc::EOPNOTSUPP | libc::ERANGE)
                    ) =>
                {
                    Ok(None)
                }
                error => Err(error),
            },
        }
    }
}

/// Whether a note was refused because the file system has no room or no means for it, or a quota allows none: the
/// file itself may need nothing of it.
fn is_for_want_of_room(error: &Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EOPNOTSUPP | libc::ENOSPC | libc::EDQUOT | libc::E2BIG)
    )
}

/// What of a file whose sidecar has no header yet is on the disk.
pub(super) enum Unlabelled {
    /// Nothing: it was never written, or what was never got so far.
    Nothing,
    /// Bytes of an open version that lost its sidecar by a cut of the power.
    Open(Box<Header>),
    /// Bytes of which nobody knows what they are.
    Unknown,
}

/// Looks for the data file of `inode`, whose sidecar never had a header. Removes data files without bytes, and those of which the
/// under-storage has all.
pub(super) fn look_for_data(layout: &Layout, inode: InodeId) -> IoResult<Unlabelled> {
    let mut found = Unlabelled::Nothing;
    for file in std::fs::read_dir(layout.shard(inode))? {
        let path = file?.path();
        let name = path.file_name().and_then(|name| name.to_str()).and_then(Name::parse);
        let Some(Name::Data(of, generation)) = name else {
            continue;
        };
        if of != inode {
            continue;
        }
        let data = File::open(&path)?;
        let stat = crate::io::stat(&data)?;
        let note = Note::get(&data)?.filter(|note| (note.inode, note.generation) == (inode.get(), generation));
        if stat.size == 0 || note.is_some_and(|note| note.version == 0) {
            std::fs::remove_file(&path)?;
            continue;
        }
        // The crash of a process takes no header.
        let note = note.filter(|note| note.boot != layout.boot_number());
        found = match (found, note.map(lost_header)) {
            (Unlabelled::Nothing, Some(header)) => Unlabelled::Open(Box::new(header)),
            _ => Unlabelled::Unknown,
        };
    }
    Ok(found)
}

/// The header that a new file had.
fn lost_header(note: Note) -> Header {
    Header {
        generation: note.generation,
        ..Header::open_new(note.inode, note.version)
    }
}

/// Corrects a header that an opening which emptied the file came after: the disk has the note of that, and not its header.
pub(super) fn correct(header: &mut Header, data: &File) -> IoResult<()> {
    let note = Note::get(data)?.filter(|note| {
        let is_its = (note.inode, note.generation) == (header.inode, header.generation);
        is_its
            && match header.open {
                false => note.version > header.version,
                // It was given back, or sealed, and emptied by an opening with the same number.
                true => !header.whole && note.version >= header.open_since,
            }
    });
    if let Some(note) = note {
        header.correct_to_opened(note.version);
    }
    Ok(())
}

impl Entry {
    /// Notes on the data file of an open version that nothing lies under that it is open.
    pub fn note_opening(&self, layout: &Layout) -> IoResult<()> {
        let version = self.inner.lock().label.version;
        let is_noted = self.note(layout, version)?;
        self.is_opening_noted.store(is_noted, Ordering::Release);
        Ok(())
    }

    /// Notes on a data file that was just made what for.
    pub(super) fn note_making(&self, layout: &Layout) -> IoResult<()> {
        let (is_over_nothing, is_of_store) = {
            let label = &self.inner.lock().label;
            (
                label.is_open_over_nothing(),
                label.ufs.is_some() || label.base.is_some(),
            )
        };
        match (is_over_nothing, is_of_store) {
            (true, _) => self.note_opening(layout),
            // What is written over a base counts only together with its marks, which are synced with it.
            (false, true) => self.note(layout, 0).map(drop),
            (false, false) => Ok(()),
        }
    }

    /// Takes off, durably, the note that nothing lies under the open version. The caller has the content.
    pub(super) fn forget_opening(&self) -> IoResult<()> {
        self.is_opening_noted.store(false, Ordering::Release);
        match Note::remove(&self.data)? {
            true => self.sync_data(true),
            false => Ok(()),
        }
    }

    fn note(&self, layout: &Layout, version: u64) -> IoResult<bool> {
        if !layout.notes_openings {
            return Ok(false);
        }
        let generation = self.inner.lock().label.generation;
        let note = Note {
            inode: self.inode.get(),
            generation,
            version,
            boot: layout.boot_number(),
        };
        note.set(&self.data)
    }

    /// Whether the disk will say, after a cut of the power, that the version was open: a descriptor that can write may go out.
    pub fn is_opening_noted(&self) -> bool {
        self.is_opening_noted.load(Ordering::Acquire)
    }

    /// Makes an opening in place durable, with what the file had before: bytes that were fetched, names. Blocks.
    pub fn sync_opening(&self) -> IoResult<()> {
        let stat = crate::io::stat(&self.data)?;
        self.sync(&stat, false)?;
        self.is_opening_noted.store(true, Ordering::Release);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A create goes on without the note.
    #[test]
    fn a_note_that_a_quota_has_no_room_for_is_left_out() {
        for errno in [libc::ENOSPC, libc::EDQUOT] {
            assert!(is_for_want_of_room(&Error::from_raw_os_error(errno)), "{errno}");
        }
        assert!(!is_for_want_of_room(&Error::from_raw_os_error(libc::EIO)));
    }
}
