//! Who writes a data file: this process, others on descriptors that it handed out, and mappings that outlive those.

use super::entry::Entry;
use super::label::Label;
use super::state::Mapping;
use crate::io;
use std::fs::File;
use std::io::Result as IoResult;
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Entry {
    /// A descriptor of the data file that can write. `keep`: it is kept for the next one, until
    /// [`Self::is_written_elsewhere`] is asked. The caller has the content.
    pub(super) fn writer(&self, keep: bool) -> IoResult<Arc<File>> {
        let mut writer = self.writer.lock();
        if let Some(file) = &*writer {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(File::from(io::reopen(&self.data)?));
        if keep && !alluxio_common::descriptors::are_scarce(&*file) {
            *writer = Some(Arc::clone(&file));
        }
        Ok(file)
    }

    /// Whether somebody but this process can write the data file: on a descriptor, or through a mapping that outlived its
    /// descriptor.
    ///
    /// # Errors
    /// If the file system cannot tell.
    pub fn is_written_elsewhere(&self) -> IoResult<bool> {
        let _content = self.content.lock();
        *self.writer.lock() = None;
        io::is_written_elsewhere(&self.data)
    }

    /// As [`Self::is_written_elsewhere`], of readers too. True also if the file system cannot tell.
    pub fn is_open_elsewhere(&self) -> bool {
        let _content = self.content.lock();
        self.is_open_elsewhere_now()
    }

    /// As [`Self::is_open_elsewhere`], for who has the content.
    pub(super) fn is_open_elsewhere_now(&self) -> bool {
        *self.writer.lock() = None;
        io::is_open_elsewhere(&self.data)
    }

    /// Whether other mounts than the one that asks write the open version, or may. Asked by who has the turn.
    pub fn has_other_writers(&self) -> bool {
        self.joined.load(Ordering::Relaxed) > 0 || self.has_unknown_writers.load(Ordering::Relaxed)
    }

    /// One of several mounts lets go. The caller has the turn.
    pub fn note_writer_gone(&self) {
        // After a restart there may be more than are counted.
        let less = self.joined.load(Ordering::Relaxed).saturating_sub(1);
        self.joined.store(less, Ordering::Relaxed);
    }

    /// No mount writes the open version any more. The caller has the turn.
    pub fn note_no_writers(&self) {
        self.joined.store(0, Ordering::Relaxed);
        self.has_unknown_writers.store(false, Ordering::Relaxed);
    }

    /// Whether a descriptor was handed out on which the open version may be changed past us.
    pub fn writable_fd_out(&self) -> bool {
        self.inner.lock().label.writable_fd_out()
    }

    /// What is known of mappings for writing.
    pub fn mapping(&self) -> Mapping {
        self.inner.lock().label.mapping()
    }

    /// Takes notice that mappings for writing may be there, or were.
    pub fn note_mappings(&self) {
        self.inner.lock().label.note_mappings();
    }

    /// Takes notice that mappings were found when nobody had the file open any more.
    pub fn note_mapped(&self) {
        self.inner.lock().label.note_mapped();
    }

    /// Takes notice of whether every store since the times were looked at last moves them.
    pub fn note_watched(&self, is_watched: bool) {
        self.inner.lock().label.note_watched(is_watched);
    }

    /// Takes notice of a descriptor for writing that is handed out.
    pub fn set_writable_fd_out(&self) -> IoResult<()> {
        if !self.inner.lock().label.whole {
            // The disk knows it as something else.
            self.is_opening_noted.store(false, Ordering::Release);
        }
        self.change(Label::hand_out)
    }
}
