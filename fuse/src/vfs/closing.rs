//! Closes: in which order a close gives things back, and that whoever asks for them afterwards gets them.
//!
//! The kernel sends the last close of a file after close(2) has returned, and does not wait for the answer. So a program may ask
//! for a lock whose release is still on its way through this process. The kernel sends the two in order; the transport notes a
//! close ([`Vfs::note_closing`]) before it looks at any later request, and requests that a close may be in the way of wait for
//! those that were noted ([`Vfs::closes_done`]).

use super::Vfs;
use alluxio_common::sync::Mutex;
use alluxio_proto::FsResult;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio_util::sync::CancellationToken;

/// Closes under way, by inode.
#[derive(Default)]
pub(super) struct Closing {
    /// Something on this mount was locked or executed; without that no close is in anybody's way.
    is_needed: AtomicBool,
    noted: Mutex<HashMap<u64, Vec<Noted>>>,
}

/// One close.
#[derive(Clone)]
struct Noted {
    fh: u64,
    /// Cancelled when it has given everything back.
    done: CancellationToken,
}

/// A close that is carried out. Dropped, it has given back what others may wait for.
struct Underway<'a> {
    closing: &'a Closing,
    inode: u64,
    noted: Option<Noted>,
}

impl Closing {
    /// From now on closes are noted: somebody holds what a close has to give back.
    pub fn is_needed(&self) {
        self.is_needed.store(true, Ordering::Relaxed);
    }

    fn note(&self, inode: u64, fh: u64) {
        if self.is_needed.load(Ordering::Relaxed) {
            let done = CancellationToken::new();
            self.noted.lock().entry(inode).or_default().push(Noted { fh, done });
        }
    }

    /// The close of a handle begins. Its note stays until the end, so that others find it. It is found by the handle alone: a
    /// node that the kernel has forgotten meanwhile leads to another inode than it did when the close was noted.
    fn begin(&self, fh: u64) -> Underway<'_> {
        let mut found = (0, None);
        if self.is_needed.load(Ordering::Relaxed) {
            let noted = self.noted.lock();
            let of_handle = |(inode, all): (&u64, &Vec<Noted>)| {
                let noted = all.iter().find(|noted| noted.fh == fh)?;
                Some((*inode, Some(noted.clone())))
            };
            found = noted.iter().find_map(of_handle).unwrap_or_default();
        }
        Underway {
            closing: self,
            inode: found.0,
            noted: found.1,
        }
    }

    fn all(&self, inode: u64) -> Vec<Noted> {
        if !self.is_needed.load(Ordering::Relaxed) {
            return Vec::new();
        }
        self.noted.lock().get(&inode).cloned().unwrap_or_default()
    }
}

impl Drop for Underway<'_> {
    fn drop(&mut self) {
        let Some(noted) = self.noted.take() else { return };
        let mut all = self.closing.noted.lock();
        if let Some(of_inode) = all.get_mut(&self.inode) {
            // Duplicates of a handle are closed one by one, and are alike: any of its notes will do, but for who waits for it.
            if let Some(at) = of_inode.iter().position(|other| other.fh == noted.fh) {
                of_inode.remove(at).done.cancel();
            }
            if of_inode.is_empty() {
                all.remove(&self.inode);
            }
        }
    }
}

impl Vfs {
    /// A close of a handle has come in: [`Vfs::close_descriptor`] or [`Vfs::close_file`] follows. To be called before any request
    /// is looked at that came later.
    pub fn note_closing(&self, inode: u64, fh: u64) {
        self.closing.note(inode, fh);
    }

    /// Waits until all closes of an inode that were noted have given back what they held.
    pub(super) async fn closes_done(&self, inode: u64) {
        for noted in self.closing.all(inode) {
            noted.done.cancelled().await;
        }
    }

    /// A descriptor is closed: what was written is committed, and then the byte-range locks of `owner` go, so that who gets them
    /// sees it.
    ///
    /// # Errors
    /// What close(2) reports: those of [`Vfs::flush`], and of unlocking.
    pub async fn close_descriptor(self: &Arc<Self>, inode: u64, fh: u64, owner: u64) -> FsResult<()> {
        let _underway = self.closing.begin(fh);
        let flushed = self.flush(fh).await;
        let unlocked = self.unlock_closed(inode, owner).await;
        flushed.and(unlocked)
    }

    /// The last descriptor of an open file is closed: locks that were taken through it go, then the handle.
    pub async fn close_file(self: &Arc<Self>, fh: u64) {
        let underway = self.closing.begin(fh);
        self.unlock_released(fh).await;
        let handle = self.take_handle(fh);
        drop(underway);
        if let Some(handle) = handle {
            let node = handle.inode.node;
            self.release_handle(handle).await;
            self.spawn_linger(node);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(closing: &Closing, inode: u64) -> Vec<bool> {
        let all = closing.all(inode);
        all.iter().map(|noted| !noted.done.is_cancelled()).collect()
    }

    #[test]
    fn a_close_is_known_from_its_note_to_its_end() {
        let closing = Closing::default();
        closing.note(1, 7);
        assert!(waits(&closing, 1).is_empty(), "nothing was locked");
        closing.is_needed();
        closing.note(1, 7);
        closing.note(1, 7);
        closing.note(2, 8);
        assert_eq!(waits(&closing, 1), [true, true]);
        let who_waits = closing.all(1);
        let (one, two) = (closing.begin(7), closing.begin(7));
        assert_eq!(waits(&closing, 1), [true, true], "begun is not done");
        drop(one);
        assert_eq!(waits(&closing, 1), [true]);
        drop(two);
        assert!(waits(&closing, 1).is_empty());
        assert!(who_waits.iter().all(|noted| noted.done.is_cancelled()));
        // A close that was not noted ends as well, and takes nobody's note.
        drop(closing.begin(9));
        assert_eq!(waits(&closing, 2), [true]);
        // Whatever its node is called by now.
        drop(closing.begin(8));
        assert!(closing.noted.lock().is_empty());
    }
}
