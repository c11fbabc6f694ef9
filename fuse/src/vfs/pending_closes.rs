//! Closes that the master has not heard of yet.
//!
//! A soft mount gives up on a master that is away, and the file that was being closed, or opened, is done with here. The
//! master would go on sending everybody who reads it to the version that is being written, for as long as the session
//! lives, which is as long as this mount. So it is told when it is back, and before the file is opened for writing again:
//! what is pending for an inode means that this mount has no opening of it for writing. It counts the openings of a session, so
//! each of them that ended is told, in order.

use super::Vfs;
use alluxio_common::sync::Mutex;
use alluxio_proto::master::{Close, Empty};
use alluxio_proto::{FsError, FsResult, SessionId};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

/// Closes that are pending, of all inodes. Past it the master hears of a close when the session ends.
const PENDING_MAX: usize = 65_536;
/// Pause before the master is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// How an opening for writing ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// What was written is committed, or there was nothing.
    Done,
    /// See [`Close::abandon`].
    Abandoned,
    /// See [`Close::left_open`].
    LeftOpen,
}

/// What the master is to hear when it is back.
#[derive(Default)]
pub(super) struct PendingCloses {
    closes: Mutex<Closes>,
    /// Whether `closes` has any, for those who open files.
    any: AtomicBool,
    /// There is something to tell.
    more: Notify,
    /// Who tells the master, one at a time: a close must not arrive after the next open.
    telling: tokio::sync::Mutex<()>,
}

/// By inode, in the order that they are to be told in.
#[derive(Default)]
struct Closes {
    of: HashMap<u64, VecDeque<PendingClose>>,
    /// Of all inodes.
    count: usize,
}

impl Closes {
    /// False: there are too many.
    fn push(&mut self, inode: u64, close: PendingClose) -> bool {
        if self.count >= PENDING_MAX {
            return false;
        }
        self.of.entry(inode).or_default().push_back(close);
        self.count += 1;
        true
    }

    /// What is to be told next of an inode.
    fn first(&self, inode: u64) -> Option<PendingClose> {
        self.of.get(&inode)?.front().copied()
    }

    /// The first of an inode was told.
    fn pop(&mut self, inode: u64) {
        let Some(closes) = self.of.get_mut(&inode) else { return };
        self.count -= usize::from(closes.pop_front().is_some());
        if closes.is_empty() {
            self.of.remove(&inode);
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PendingClose {
    /// The end of this session closes everything anyway.
    session: SessionId,
    /// The same at each try, so that it is done once.
    op_id: u64,
    ending: Ending,
}

impl Vfs {
    /// Lets go of an opening for writing at the master, now or when it is back. False: the master has not heard of it yet.
    pub(super) async fn close_write_at_master(&self, inode: u64, ending: Ending) -> bool {
        self.close_at_master_or_later(inode, ending, ending).await
    }

    /// As [`Self::close_write_at_master`], of a file that stayed empty. Told late, the master asks its home, which then forgets it.
    pub(super) async fn close_empty_at_master(&self, inode: u64) -> bool {
        self.close_at_master_or_later(inode, Ending::Done, Ending::LeftOpen)
            .await
    }

    /// `late` is how the opening ends if the master cannot be reached now.
    async fn close_at_master_or_later(&self, inode: u64, now: Ending, late: Ending) -> bool {
        let close = self.pending_close(now);
        match self.tell_close(inode, close).await {
            Ok(()) => return true,
            Err(error) if error.is_retryable() => {
                tracing::info!(%error, inode, "close at the master; it will be told when it can be reached");
                self.keep_close(inode, PendingClose { ending: late, ..close });
            }
            Err(error) => tracing::info!(%error, inode, "close at the master; it will be closed with the session"),
        }
        false
    }

    fn pending_close(&self, ending: Ending) -> PendingClose {
        PendingClose {
            session: self.master.session(),
            op_id: self.master.new_op_id(),
            ending,
        }
    }

    /// After an open for writing failed: if the master may have done it all the same, it is to be undone.
    pub(super) fn doubt_open(&self, inode: u64, error: &FsError) {
        if error.is_retryable() {
            self.keep_close(inode, self.pending_close(Ending::Done));
        }
    }

    /// Tells the master what is pending for an inode that is to be opened for writing.
    ///
    /// # Errors
    /// If it cannot be told.
    pub(super) async fn settle(&self, inode: u64) -> FsResult<()> {
        if !self.pending_closes.any.load(Ordering::Acquire) {
            return Ok(());
        }
        let _one = self.pending_closes.telling.lock().await;
        self.settle_inode(inode).await
    }

    fn keep_close(&self, inode: u64, close: PendingClose) {
        let mut closes = self.pending_closes.closes.lock();
        if !closes.push(inode, close) {
            tracing::warn!(
                inode,
                "a close is not kept: {PENDING_MAX} are pending already; the session's end will do"
            );
            return;
        }
        self.pending_closes.any.store(true, Ordering::Release);
        self.pending_closes.more.notify_one();
    }

    /// Tells the master what is pending, until the mount ends and its session with it.
    pub(super) async fn settle_pending(self: Arc<Self>) {
        let settle = async {
            loop {
                self.pending_closes.more.notified().await;
                while self.pending_closes.any.load(Ordering::Acquire) {
                    tokio::time::sleep(PAUSE).await;
                    self.settle_all().await;
                }
            }
        };
        tokio::select! {
            () = settle => {}
            () = self.shutdown.cancelled() => {}
        }
    }

    async fn settle_all(&self) {
        let inodes: Vec<u64> = self.pending_closes.closes.lock().of.keys().copied().collect();
        for inode in inodes {
            // For one of them only: who opens a file may wait behind it.
            let _one = self.pending_closes.telling.lock().await;
            if let Err(error) = self.settle_inode(inode).await {
                tracing::debug!(%error, inode, "the master cannot be told of a close yet");
                return;
            }
        }
        let closes = self.pending_closes.closes.lock();
        if closes.count == 0 {
            self.pending_closes.any.store(false, Ordering::Release);
        }
    }

    /// The caller is who tells.
    async fn settle_inode(&self, inode: u64) -> FsResult<()> {
        loop {
            let close = self.pending_closes.closes.lock().first(inode);
            let Some(close) = close else { return Ok(()) };
            if close.session == self.master.session() {
                match self.tell_close(inode, close).await {
                    Err(error) if error.is_retryable() => return Err(error),
                    Err(error) => {
                        tracing::info!(%error, inode, "close at the master; it will be closed with the session")
                    }
                    Ok(()) => {}
                }
            }
            self.pending_closes.closes.lock().pop(inode);
        }
    }

    async fn tell_close(&self, inode: u64, close: PendingClose) -> FsResult<()> {
        let op = Close {
            inode,
            write: true,
            abandon: close.ending == Ending::Abandoned,
            left_open: close.ending == Ending::LeftOpen,
            ..Default::default()
        };
        let Empty {} = self.master.change_as(close.op_id, &self.own_caller(), op).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The master counts openings: one that is not told stays for as long as the session lives.
    #[test]
    fn each_close_of_a_file_is_told_in_order() {
        let close = |op_id, ending| PendingClose {
            session: SessionId::default(),
            op_id,
            ending,
        };
        let all = [
            close(1, Ending::Done),
            close(2, Ending::LeftOpen),
            close(3, Ending::Done),
        ];
        let mut closes = Closes::default();
        assert!(all.iter().all(|close| closes.push(7, *close)));
        assert!(closes.push(8, all[0]));
        for close in all {
            assert_eq!(closes.first(7), Some(close));
            closes.pop(7);
        }
        assert_eq!((closes.first(7), closes.count), (None, 1));
        closes.pop(7);
        closes.pop(8);
        assert!(closes.count == 0 && closes.of.is_empty());
    }

    #[test]
    fn what_is_pending_is_bounded_in_all() {
        let close = PendingClose {
            session: SessionId::default(),
            op_id: 1,
            ending: Ending::Done,
        };
        let mut closes = Closes::default();
        assert!((0..PENDING_MAX).all(|number| closes.push(number as u64 % 10, close)));
        assert!(!closes.push(3, close) && !closes.push(11, close));
        closes.pop(3);
        assert!(closes.push(3, close));
    }
}
