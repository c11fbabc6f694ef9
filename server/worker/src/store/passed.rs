//! What is known of the descriptors of an open version on which the kernel reads and writes past this process.
//!
//! A file is *guarded* while each of them can only write, and writes on it are announced ([`crate::guard`]): nobody can read or map
//! what is not here, and what is written is known before. Only of such a file a part may be given up while descriptors are
//! out; from then on it is *spilled*, and nobody gets one for reading.

use super::bitmap::Bitmap;
use super::entry::{Entry, chunks_of};
use crate::io;
use alluxio_proto::CHUNK_BYTES;
use std::io::Result as IoResult;
use std::ops::Range;

#[derive(Debug, Default)]
pub(super) struct Passed {
    /// A descriptor is or was out on which the file can be read, mapped, or written without our hearing of it.
    is_unguarded: bool,
    /// A descriptor is out on which writes are announced.
    is_watched: bool,
    /// An access was announced: the kernel does it.
    is_proved: bool,
    /// Something of it is not here, though descriptors are out.
    is_spilled: bool,
    /// It is being committed, to be spilled then.
    is_spilling: bool,
    /// Accesses wait for the moment.
    is_held: bool,
    /// It was sealed last while accesses waited, and since then each of them marks what it changes.
    is_sealed: bool,
    /// Chunks whose change a crash of the operating system does not undo.
    announced: Bitmap,
}

/// How a descriptor can be used that goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passing {
    /// For writing alone, and each write can be announced.
    Watched,
    Anyhow,
}

impl Passed {
    pub(super) fn note_announced(&mut self, chunk: u64) {
        self.announced.set(chunk);
    }

    fn is_guarded(&self) -> bool {
        self.is_watched && self.is_proved && !self.is_unguarded
    }
}

impl Entry {
    /// Before the first descriptor of an open version goes out. Who has the file open already reads it past us, and is not
    /// asked. Without a guard nobody wants to know.
    pub fn begin_passing(&self, has_guard: bool) {
        *self.passed.lock() = Passed {
            is_unguarded: !has_guard,
            ..Passed::default()
        };
        // After that: who takes a descriptor from here on says so.
        if has_guard && self.is_open_elsewhere() {
            self.passed.lock().is_unguarded = true;
        }
    }

    /// It was open in an earlier life of this process. Who has it nobody knows; but if something of it is not here, they can only
    /// write.
    pub(super) fn take_up_passed(&self) {
        let is_spilled = self.inner.lock().label.passed;
        *self.passed.lock() = Passed {
            is_unguarded: !is_spilled,
            is_spilled,
            ..Passed::default()
        };
    }

    /// A descriptor goes out. False: it must not, because not all of the file is here.
    pub fn pass(&self, how: Passing) -> bool {
        let mut passed = self.passed.lock();
        match how {
            Passing::Watched => passed.is_watched = true,
            Passing::Anyhow if self.is_spilled_as(&passed) => return false,
            Passing::Anyhow => passed.is_unguarded = true,
        }
        true
    }

    /// An access was announced.
    pub fn note_announcing(&self) {
        self.passed.lock().is_proved = true;
    }

    /// Not all that is written past us can be announced.
    pub fn lose_guard(&self) {
        self.passed.lock().is_unguarded = true;
    }

    /// Whether it cannot be spilled, and is not: it is no use to announce anything.
    pub fn is_beyond_guarding(&self) -> bool {
        let passed = self.passed.lock();
        passed.is_unguarded && !self.is_spilled_as(&passed)
    }

    /// It was sealed. The caller has the turn.
    pub fn note_sealed(&self) {
        let mut passed = self.passed.lock();
        passed.is_sealed = passed.is_held;
    }

    /// Whether accesses wait, and it is as it was sealed, but for what is marked, and for splices.
    pub(super) fn is_sealed_held(&self) -> bool {
        let passed = self.passed.lock();
        passed.is_held && passed.is_sealed
    }

    /// Accesses wait again, of what is being spilled. The caller has the turn: nobody seals it. False: it is guarded no more.
    pub fn hold_accesses(&self) -> bool {
        let mut passed = self.passed.lock();
        passed.is_held = passed.is_spilling && passed.is_guarded();
        passed.is_held
    }

    /// Accesses go on, and mark what they change: it is being uploaded.
    pub fn let_accesses_go(&self) {
        self.passed.lock().is_held = false;
    }

    /// Whether accesses wait.
    pub fn is_held(&self) -> bool {
        self.passed.lock().is_held
    }

    /// Whether all that the kernel does with the file past us is announced, and writes.
    pub fn is_guarded(&self) -> bool {
        self.passed.lock().is_guarded()
    }

    /// Whether something of it is not here, though descriptors are out.
    pub fn is_spilled(&self) -> bool {
        self.is_spilled_as(&self.passed.lock())
    }

    fn is_spilled_as(&self, passed: &Passed) -> bool {
        passed.is_spilled && (passed.is_spilling || !self.inner.lock().label.whole)
    }

    /// Begins to give up a part of a guarded file: from now on no descriptor goes out for reading, and accesses wait.
    /// False: it is not guarded.
    pub fn begin_spilling(&self) -> bool {
        let mut passed = self.passed.lock();
        let is_guarded = passed.is_guarded();
        if is_guarded {
            (passed.is_spilled, passed.is_spilling) = (true, true);
            (passed.is_held, passed.is_sealed) = (true, false);
        }
        is_guarded
    }

    /// Accesses go on.
    pub fn end_spilling(&self) {
        let mut passed = self.passed.lock();
        (passed.is_spilling, passed.is_held, passed.is_sealed) = (false, false, false);
        passed.is_spilled = !self.inner.lock().label.whole;
    }

    /// Waits until what was allowed to be written has been written. Who writes has the lock of the file in the kernel, which
    /// allocating takes too, and waits for what is on its way to the disk. The caller holds new accesses off.
    pub fn drain(&self) -> IoResult<()> {
        let _content = self.content.lock();
        let stat = io::stat(&self.data)?;
        // Its first byte has a block, or gets one: nothing else changes.
        io::allocate(&*self.writer(false)?, libc::FALLOC_FL_KEEP_SIZE, 0, 1)?;
        io::set_mtime(&self.data, stat.mtime_ns)
    }

    /// Whether what was announced can happen at once: all that the range touches is here, and known to change.
    pub fn is_ready_for(&self, range: &Range<u64>) -> bool {
        let Ok(stat) = io::stat(&self.data) else { return false };
        let passed = self.passed.lock();
        let inner = self.inner.lock();
        if inner.label.is_dead() || !inner.label.open || (inner.label.whole && !passed.is_spilling) {
            return true;
        }
        let is_ready = |chunk: u64| {
            let is_marked = inner.dirty.get(chunk) && passed.announced.get(chunk);
            inner.has(chunk) && (!inner.present.get(chunk) || is_marked)
        };
        let chunks = range.start / CHUNK_BYTES..chunks_of(range.end.min(stat.size));
        // Where bytes land that are appended is not where they are announced.
        let last = stat.size.checked_sub(1).map(|last| last / CHUNK_BYTES);
        chunks.chain(last).all(is_ready)
    }
}

#[cfg(test)]
#[path = "passed_test.rs"]
mod tests;
