//! The inode protocol of the master: one request message, one reply message, one trait.
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
use crate::types::*;

/// Nothing to say.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Empty {}

/// What is asked.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Op {
    /// See [`OpenSession`]; answered by [`SessionInfo`].
    #[prost(message, tag = "10")]
    OpenSession(OpenSession),
    /// CloseSession; answered by [`Empty`].
    #[prost(message, tag = "11")]
    CloseSession(Empty),
    /// KeepAlive; answered by [`Empty`].
    #[prost(message, tag = "12")]
    KeepAlive(Empty),
    /// See [`Lookup`]; answered by [`Attr`].
    #[prost(message, tag = "13")]
    Lookup(Lookup),
    /// See [`GetAttr`]; answered by [`Attr`].
    #[prost(message, tag = "14")]
    GetAttr(GetAttr),
    /// See [`ResolvePath`]; answered by [`Attr`].
    #[prost(message, tag = "15")]
    ResolvePath(ResolvePath),
    /// See [`ReadDir`]; answered by [`DirPage`].
    #[prost(message, tag = "16")]
    ReadDir(ReadDir),
    /// See [`Create`]; answered by [`Opened`].
    #[prost(message, tag = "17")]
    Create(Create),
    /// See [`Mkdir`]; answered by [`Attr`].
    #[prost(message, tag = "18")]
    Mkdir(Mkdir),
    /// See [`Symlink`]; answered by [`Attr`].
    #[prost(message, tag = "19")]
    Symlink(Symlink),
    /// See [`Mknod`]; answered by [`Attr`].
    #[prost(message, tag = "20")]
    Mknod(Mknod),
    /// See [`ReadLink`]; answered by [`LinkTarget`].
    #[prost(message, tag = "21")]
    ReadLink(ReadLink),
    /// See [`Unlink`]; answered by [`Empty`], or by [`Removed`] if that was asked for.
    #[prost(message, tag = "22")]
    Unlink(Unlink),
    /// See [`Rmdir`]; answered by [`Empty`], or by [`Removed`] if that was asked for.
    #[prost(message, tag = "23")]
    Rmdir(Rmdir),
    /// See [`Rename`]; answered by [`Empty`], or by [`Removed`] if that was asked for.
    #[prost(message, tag = "24")]
    Rename(Rename),
    /// See [`Delete`]; answered by [`Counted`].
    #[prost(message, tag = "25")]
    Delete(Delete),
    /// See [`SetAttr`]; answered by [`Attr`].
    #[prost(message, tag = "26")]
    SetAttr(SetAttr),
    /// See [`Open`]; answered by [`Opened`].
    #[prost(message, tag = "27")]
    Open(Open),
    /// See [`Commit`]; answered by [`Attr`].
    #[prost(message, tag = "28")]
    Commit(Commit),
    /// See [`MarkDurable`]; answered by [`Empty`].
    #[prost(message, tag = "29")]
    MarkDurable(MarkDurable),
    /// See [`Close`]; answered by [`Empty`].
    #[prost(message, tag = "30")]
    Close(Close),
    /// See [`StatFs`]; answered by [`FsStat`].
    #[prost(message, tag = "31")]
    StatFs(StatFs),
    /// See [`WaitPersisted`]; answered by [`Counted`].
    #[prost(message, tag = "32")]
    WaitPersisted(WaitPersisted),
    /// See [`Free`]; answered by [`Counted`].
    #[prost(message, tag = "33")]
    Free(Free),
    /// See [`Count`]; answered by [`Counted`].
    #[prost(message, tag = "34")]
    Count(Count),
    /// See [`Locate`]; answered by [`Locations`].
    #[prost(message, tag = "35")]
    Locate(Locate),
    /// See [`GetPath`]; answered by [`PathReply`].
    #[prost(message, tag = "36")]
    GetPath(GetPath),
    /// See [`Mount`]; answered by [`MountInfo`].
    #[prost(message, tag = "37")]
    Mount(Mount),
    /// See [`Unmount`]; answered by [`Empty`].
    #[prost(message, tag = "38")]
    Unmount(Unmount),
    /// See [`GetMounts`]; answered by [`MountTable`].
    #[prost(message, tag = "39")]
    GetMounts(GetMounts),
    /// See [`GetReport`]; answered by [`Report`].
    #[prost(message, tag = "40")]
    GetReport(GetReport),
    /// See [`RegisterWorker`]; answered by [`Registered`].
    #[prost(message, tag = "41")]
    RegisterWorker(RegisterWorker),
    /// See [`WorkerHeartbeat`]; answered by [`WorkerTasks`].
    #[prost(message, tag = "42")]
    WorkerHeartbeat(WorkerHeartbeat),
    /// See [`PersistDone`]; answered by [`Empty`].
    #[prost(message, tag = "43")]
    PersistDone(PersistDone),
    /// See [`Recovered`]; answered by [`Empty`].
    #[prost(message, tag = "44")]
    Recovered(Recovered),
    /// See [`UfsChanged`]; answered by [`Opened`].
    #[prost(message, tag = "45")]
    UfsChanged(UfsChanged),
    /// See [`Link`]; answered by [`Attr`].
    #[prost(message, tag = "70")]
    Link(Link),
    /// See [`Tmpfile`]; answered by [`Opened`].
    #[prost(message, tag = "71")]
    Tmpfile(Tmpfile),
    /// See [`SetXattr`]; answered by [`Attr`].
    #[prost(message, tag = "72")]
    SetXattr(SetXattr),
    /// See [`GetXattr`]; answered by [`XattrValue`].
    #[prost(message, tag = "73")]
    GetXattr(GetXattr),
    /// See [`ListXattrs`]; answered by [`XattrNames`].
    #[prost(message, tag = "74")]
    ListXattrs(ListXattrs),
    /// See [`RemoveXattr`]; answered by [`Attr`].
    #[prost(message, tag = "75")]
    RemoveXattr(RemoveXattr),
    /// See [`SetAcl`]; answered by [`Attr`].
    #[prost(message, tag = "76")]
    SetAcl(SetAcl),
    /// See [`GetAcl`]; answered by [`Acls`].
    #[prost(message, tag = "77")]
    GetAcl(GetAcl),
    /// See [`SetLock`]; answered by [`LockReply`].
    #[prost(message, tag = "60")]
    SetLock(SetLock),
    /// See [`GetLock`]; answered by [`LockReply`].
    #[prost(message, tag = "61")]
    GetLock(GetLock),
    /// See [`CancelLock`]; answered by [`LockReply`].
    #[prost(message, tag = "62")]
    CancelLock(CancelLock),
    /// See [`TouchAtimes`]; answered by [`Empty`].
    #[prost(message, tag = "78")]
    TouchAtimes(TouchAtimes),
}

/// A request to the master.
#[derive(Clone, PartialEq, prost::Message)]
pub struct MasterRequest {
    /// [`crate::SessionId`], or 0 for calls without one (commands of a person, workers).
    #[prost(uint64, tag = "1")]
    pub session: u64,
    /// Unique within the session for changes; 0: not to be de-duplicated.
    #[prost(uint64, tag = "2")]
    pub op_id: u64,
    /// Who asks.
    #[prost(message, optional, tag = "3")]
    pub caller: Option<Caller>,
    /// What is asked.
    #[prost(
        oneof = "Op",
        tags = "10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 60, 61, 62, 70, 71, 72, 73, 74, 75, 76, 77, 78"
    )]
    pub op: Option<Op>,
}

/// An answer. `Opened` is the large one; boxing it would cost an allocation per open.
#[derive(Clone, PartialEq, prost::Oneof)]
#[allow(clippy::large_enum_variant)]
pub enum Reply {
    /// See [`SessionInfo`].
    #[prost(message, tag = "10")]
    SessionInfo(SessionInfo),
    /// See [`Empty`].
    #[prost(message, tag = "11")]
    Empty(Empty),
    /// See [`Attr`].
    #[prost(message, tag = "12")]
    Attr(Attr),
    /// See [`DirPage`].
    #[prost(message, tag = "13")]
    DirPage(DirPage),
    /// See [`Opened`].
    #[prost(message, tag = "14")]
    Opened(Opened),
    /// See [`LinkTarget`].
    #[prost(message, tag = "15")]
    LinkTarget(LinkTarget),
    /// See [`Counted`].
    #[prost(message, tag = "16")]
    Counted(Counted),
    /// See [`FsStat`].
    #[prost(message, tag = "17")]
    FsStat(FsStat),
    /// See [`Locations`].
    #[prost(message, tag = "18")]
    Locations(Locations),
    /// See [`PathReply`].
    #[prost(message, tag = "19")]
    PathReply(PathReply),
    /// See [`MountInfo`].
    #[prost(message, tag = "20")]
    MountInfo(MountInfo),
    /// See [`MountTable`].
    #[prost(message, tag = "21")]
    MountTable(MountTable),
    /// See [`Report`].
    #[prost(message, tag = "22")]
    Report(Report),
    /// See [`Registered`].
    #[prost(message, tag = "23")]
    Registered(Registered),
    /// See [`WorkerTasks`].
    #[prost(message, tag = "24")]
    WorkerTasks(WorkerTasks),
    /// See [`XattrValue`].
    #[prost(message, tag = "50")]
    XattrValue(XattrValue),
    /// See [`XattrNames`].
    #[prost(message, tag = "51")]
    XattrNames(XattrNames),
    /// See [`Acls`].
    #[prost(message, tag = "52")]
    Acls(Acls),
    /// See [`LockReply`].
    #[prost(message, tag = "40")]
    LockReply(LockReply),
    /// See [`Removed`].
    #[prost(message, tag = "53")]
    Removed(Removed),
}

/// An answer of the master.
#[derive(Clone, PartialEq, prost::Message)]
pub struct MasterReply {
    /// The answer.
    #[prost(
        oneof = "Reply",
        tags = "10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 40, 50, 51, 52, 53"
    )]
    pub reply: Option<Reply>,
}

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

impl Reply {
    /// Wraps for the wire.
    pub fn into_message(self) -> MasterReply {
        MasterReply { reply: Some(self) }
    }
}

/// Turns a [`Reply`] into the message a caller expects.
pub trait FromReply: Sized {
    /// `None` if the master answered with another message, which is a bug of one end.
    fn from_reply(reply: Reply) -> Option<Self>;
}

macro_rules! from_reply {
    ($($name:ident)*) => {$(
        impl FromReply for $name {
            fn from_reply(reply: Reply) -> Option<Self> {
                match reply { Reply::$name(message) => Some(message), _ => None }
            }
        }
        impl From<$name> for Reply {
            fn from(message: $name) -> Self {
                Reply::$name(message)
            }
        }
    )*};
}

impl FromReply for Removed {
    fn from_reply(reply: Reply) -> Option<Self> {
        match reply {
            Reply::Removed(removed) => Some(removed),
            // Of a master that does not know how to tell.
            Reply::Empty(Empty {}) => Some(Removed::default()),
            _ => None,
        }
    }
}

impl From<Removed> for Reply {
    fn from(message: Removed) -> Self {
        Reply::Removed(message)
    }
}

from_reply! { SessionInfo Empty Attr DirPage Opened LinkTarget Counted FsStat Locations PathReply MountInfo MountTable Report Registered WorkerTasks XattrValue XattrNames Acls LockReply }
