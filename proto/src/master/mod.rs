//! The inode protocol of the master: one table of operations, one trait.
//!
//! Requests speak inodes (DESIGN D4); paths appear only where a person typed one. A change is acknowledged after its
//! journal entry is durable. Every request names its session and caller; a change also has an `op_id`, unique within
//! the session, so that a retry after a lost answer is answered again instead of done again.

mod files;
mod locks;
mod mounts;
mod names;
mod report;
mod session;
mod watch;
mod workers;
mod xattrs;

pub use files::*;
pub use locks::*;
pub use mounts::*;
pub use names::*;
pub use report::*;
pub use session::*;
pub use watch::*;
pub use workers::*;
pub use xattrs::*;

use crate::error::FsResult;
use crate::protocol::protocol;
use crate::types::*;

/// Width of the window of changes whose answers are kept per session: an `op_id` is less than this above
/// [`MasterRequest::lowest_op`]. What falls out of it a client does not repeat; what is beyond it a master refuses.
pub const OPS_OUTSTANDING_MAX: u64 = 65_536;

/// Nothing to say.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Empty {}

protocol! {
    /// A request to the master.
    request MasterRequest {
        /// [`crate::SessionId`], or 0 for calls without one (commands of a person, workers).
        #[prost(uint64, tag = "1")]
        pub session: u64,
        /// Unique within the session for changes; 0: not to be de-duplicated.
        #[prost(uint64, tag = "2")]
        pub op_id: u64,
        /// Who asks.
        #[prost(message, optional, tag = "3")]
        pub caller: Option<Caller>,
        /// Lowest `op_id` of a change that the client still wants an answer for; 0: it does not say. The master keeps the answers
        /// of all changes from there on: [`OPS_OUTSTANDING_MAX`] at most.
        #[prost(uint64, tag = "4")]
        pub lowest_op: u64,
    }

    /// What is asked.
    op Op by Operation {
        10 OpenSession -> SessionInfo [read change];
        11 CloseSession -> Empty [change];
        12 KeepAlive -> Empty [];
        13 Lookup -> Attr [read] names(parent);
        14 GetAttr -> Attr [read] names(inode);
        15 ResolvePath -> Attr [read];
        16 ReadDir -> DirPage [read] names(inode);
        17 Create -> Opened [change] names(parent);
        18 Mkdir -> Attr [change] names(parent);
        19 Symlink -> Attr [change] names(parent);
        20 Mknod -> Attr [change] names(parent);
        21 ReadLink -> LinkTarget [read] names(inode);
        22 Unlink -> Removed [change] names(parent);
        23 Rmdir -> Removed [change] names(parent);
        24 Rename -> Removed [change] names(parent, new_parent);
        25 Delete -> Counted [change walks];
        26 SetAttr -> Attr [change] names(inode);
        27 Open -> Opened [read change] names(inode);
        28 Commit -> Attr [change] names(inode);
        29 MarkDurable -> Empty [change] names(inode);
        30 Close -> Empty [change] about(inode);
        31 StatFs -> FsStat [read] names(inode);
        32 WaitPersisted -> Counted [read droppable];
        33 Free -> Counted [change walks];
        34 Count -> Counted [read walks droppable];
        35 Locate -> Locations [read] about(inode);
        36 GetPath -> PathReply [read] names(inode);
        37 Mount -> MountInfo [change walks];
        38 Unmount -> Empty [change walks];
        39 GetMounts -> MountTable [read];
        40 GetReport -> Report [read];
        91 SettleIntents -> Counted [change];
        41 RegisterWorker -> Registered [];
        42 WorkerHeartbeat -> WorkerTasks [];
        43 PersistDone -> Empty [];
        44 Recovered -> Empty [] about(inode);
        45 UfsChanged -> Opened [change] names(inode);
        60 SetLock -> LockReply [] names(lock_inode());
        61 GetLock -> LockReply [] names(lock_inode());
        62 CancelLock -> LockReply [];
        70 Link -> Attr [change] names(inode, parent);
        71 Tmpfile -> Opened [change] names(parent);
        72 SetXattr -> Attr [change] names(inode);
        73 GetXattr -> XattrValue [read] names(inode);
        74 ListXattrs -> XattrNames [read] names(inode);
        75 RemoveXattr -> Attr [change] names(inode);
        76 SetAcl -> Attr [change] names(inode);
        77 GetAcl -> Acls [read] names(inode);
        78 TouchAtimes -> Empty [];
        90 Challenge -> Challenged [];
        92 Spill -> Empty [] about(inode);
        98 CopyDone -> Empty [];
    }

    /// An answer of the master.
    message MasterReply {}

    /// An answer. `Opened` is the large one; boxing it would cost an allocation per open.
    #[allow(clippy::large_enum_variant)]
    reply Reply by FromReply {
        10 SessionInfo;
        11 Empty;
        12 Attr;
        13 DirPage;
        14 Opened;
        15 LinkTarget;
        16 Counted;
        17 FsStat;
        18 Locations;
        19 PathReply;
        20 MountInfo;
        21 MountTable;
        22 Report;
        23 Registered;
        24 WorkerTasks;
        40 LockReply;
        50 XattrValue;
        51 XattrNames;
        52 Acls;
        53 Removed or Empty;
        90 Challenged;
    }
}

/// An operation that changes nothing, or that may be asked for again as it is.
pub trait ReadOperation: Operation {}

/// An operation that is done once: a retry has the id of the first try.
pub trait ChangeOperation: Operation {}

/// A master, near or far.
#[async_trait::async_trait]
pub trait MasterApi: Send + Sync + 'static {
    /// Executes one request. A change is durable when this returns.
    ///
    /// # Errors
    /// As the operation says; retryable ones mean that it may or may not have happened (see `op_id`).
    async fn call(&self, request: MasterRequest) -> FsResult<Reply>;

    /// Opens the watch stream of a session (DESIGN D8).
    ///
    /// # Errors
    /// [`crate::ErrorKind::Stale`] if there is no such session.
    async fn watch(&self, session: crate::SessionId) -> FsResult<WatchStream>;
}

impl dyn MasterApi {
    /// Asks without a session, as workers do.
    ///
    /// # Errors
    /// As the operation says.
    pub async fn ask<O: Operation>(&self, op: O) -> FsResult<O::Reply> {
        let request = MasterRequest {
            op: Some(op.into()),
            ..MasterRequest::default()
        };
        O::answered_by(self.call(request).await?)
    }
}

impl Reply {
    /// Wraps for the wire.
    pub fn into_message(self) -> MasterReply {
        MasterReply { reply: Some(self) }
    }
}

#[cfg(test)]
mod tests;
