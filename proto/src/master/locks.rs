//! Advisory locks: flock(2) and fcntl(2), of processes and of open file descriptions.
//!
//! A lock belongs to an owner within a session: what the client's kernel calls a lock owner. Ranges name their last byte; a
//! lock to the end of the file, however long it grows, ends at [`LOCK_END`].

/// Last byte that can be locked: what signed 64-bit offsets can say. A lock up to here has no end.
pub const LOCK_END: u64 = i64::MAX as u64;

/// Which locks meet each other: those of one kind only, as on Linux.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum LockKind {
    /// fcntl(2): byte ranges, of a process or of an open file description.
    Range = 0,
    /// flock(2): the whole file, of an open file description.
    Flock = 1,
}

/// What a lock allows to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum LockMode {
    /// No lock.
    Unlocked = 0,
    /// Shared.
    Read = 1,
    /// Exclusive.
    Write = 2,
}

/// A lock, held or wanted.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct FileLock {
    /// Of which file.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
    /// Kind.
    #[prost(enumeration = "LockKind", tag = "2")]
    pub kind: i32,
    /// Who, within the session.
    #[prost(uint64, tag = "3")]
    pub owner: u64,
    /// Mode.
    #[prost(enumeration = "LockMode", tag = "4")]
    pub mode: i32,
    /// First byte.
    #[prost(uint64, tag = "5")]
    pub start: u64,
    /// Last byte, [`LOCK_END`] at most.
    #[prost(uint64, tag = "6")]
    pub last: u64,
    /// Process, for people and F_GETLK.
    #[prost(uint32, tag = "7")]
    pub pid: u32,
}

/// Sets the mode of a range for an owner: lock, upgrade, downgrade, unlock. Asking again changes nothing.
///
/// Refused with [`crate::ErrorKind::WouldBlock`] if another owner's lock conflicts and `wait_id` is 0, with
/// [`crate::ErrorKind::Deadlock`] if waiting would never end, with [`crate::ErrorKind::NoLocks`] past a bound, and with
/// [`crate::ErrorKind::Unavailable`] while locks are taken up again after a restart.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct SetLock {
    /// What is wanted.
    #[prost(message, optional, tag = "1")]
    pub lock: Option<FileLock>,
    /// Not 0: queue the request under this id, unique within the session, if it conflicts. Asked again with the same id, it keeps its
    /// place.
    #[prost(uint64, tag = "2")]
    pub wait_id: u64,
    /// Parts that the owner holds in a stronger mode stay so.
    #[prost(bool, tag = "3")]
    pub keep_stronger: bool,
}

/// Asks for a lock that would keep `lock` from being granted.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct GetLock {
    /// What would be wanted.
    #[prost(message, optional, tag = "1")]
    pub lock: Option<FileLock>,
}

/// Takes a request off the queue.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct CancelLock {
    /// As in [`SetLock`].
    #[prost(uint64, tag = "1")]
    pub wait_id: u64,
}

/// Answer to [`SetLock`], [`GetLock`] and [`CancelLock`].
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct LockReply {
    /// SetLock: it has to wait; [`LockGranted`] will be pushed. CancelLock: it was waiting until now.
    #[prost(bool, tag = "1")]
    pub queued: bool,
    /// GetLock: the first conflicting lock. Its pid is 0 if it is of another host.
    #[prost(message, optional, tag = "2")]
    pub conflict: Option<FileLock>,
}

/// A queued request was granted.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct LockGranted {
    /// As in [`SetLock`].
    #[prost(uint64, tag = "1")]
    pub wait_id: u64,
}

impl FileLock {
    /// Whether the range makes sense.
    pub fn is_valid(&self) -> bool {
        self.start <= self.last && self.last <= LOCK_END
    }
}

impl SetLock {
    /// Inode of the lock, 0 without one.
    pub(super) fn lock_inode(&self) -> u64 {
        self.lock.as_ref().map_or(0, |lock| lock.inode)
    }
}

impl GetLock {
    /// Inode of the lock, 0 without one.
    pub(super) fn lock_inode(&self) -> u64 {
        self.lock.as_ref().map_or(0, |lock| lock.inode)
    }
}
