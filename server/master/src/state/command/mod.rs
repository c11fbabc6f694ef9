//! Commands: what the journal carries and [`super::State`] applies.
//!
//! A command holds everything that its effect depends on, beside the state itself: the time, the caller, what an
//! under-storage was seen to hold. Ids may be left 0: then `apply` takes the next one, which is the same on every
//! master because the order of commands is. An id that is given must be above every id used before.
//!
//! **Invariant:** journaled bytes are for ever. Tags are never reused, the meaning of a field never changes.

mod attributes;
mod files;
mod names;
mod setup;
mod ufs;
mod work;

pub use attributes::*;
pub use files::*;
pub use names::*;
pub use setup::*;
pub use ufs::*;
pub use work::*;

use alluxio_proto::types::Caller;

/// What a command does.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Body {
    /// See [`Format`].
    #[prost(message, tag = "10")]
    Format(Format),
    /// See [`OpenSession`].
    #[prost(message, tag = "11")]
    OpenSession(OpenSession),
    /// See [`EndSession`].
    #[prost(message, tag = "12")]
    EndSession(EndSession),
    /// See [`CreateFile`].
    #[prost(message, tag = "13")]
    CreateFile(CreateFile),
    /// See [`Mkdir`].
    #[prost(message, tag = "14")]
    Mkdir(Mkdir),
    /// See [`Symlink`].
    #[prost(message, tag = "15")]
    Symlink(Symlink),
    /// See [`Mknod`].
    #[prost(message, tag = "16")]
    Mknod(Mknod),
    /// See [`Unlink`].
    #[prost(message, tag = "17")]
    Unlink(Unlink),
    /// See [`Rmdir`].
    #[prost(message, tag = "18")]
    Rmdir(Rmdir),
    /// See [`Rename`].
    #[prost(message, tag = "19")]
    Rename(Rename),
    /// See [`DeleteTree`].
    #[prost(message, tag = "20")]
    DeleteTree(DeleteTree),
    /// See [`ReclaimSlice`].
    #[prost(message, tag = "21")]
    ReclaimSlice(ReclaimSlice),
    /// See [`SetAttr`].
    #[prost(message, tag = "22")]
    SetAttr(SetAttr),
    /// See [`OpenWrite`].
    #[prost(message, tag = "23")]
    OpenWrite(OpenWrite),
    /// See [`Commit`].
    #[prost(message, tag = "24")]
    Commit(Commit),
    /// See [`MarkDurable`].
    #[prost(message, tag = "25")]
    MarkDurable(MarkDurable),
    /// See [`CloseWrite`].
    #[prost(message, tag = "26")]
    CloseWrite(CloseWrite),
    /// See [`ReleaseOrphan`].
    #[prost(message, tag = "27")]
    ReleaseOrphan(ReleaseOrphan),
    /// See [`Recovered`].
    #[prost(message, tag = "28")]
    Recovered(Recovered),
    /// See [`LoadEntries`].
    #[prost(message, tag = "29")]
    LoadEntries(LoadEntries),
    /// See [`ApplySync`].
    #[prost(message, tag = "30")]
    ApplySync(ApplySync),
    /// See [`UfsChanged`].
    #[prost(message, tag = "31")]
    UfsChanged(UfsChanged),
    /// See [`MountUfs`].
    #[prost(message, tag = "32")]
    MountUfs(MountUfs),
    /// See [`UnmountUfs`].
    #[prost(message, tag = "33")]
    UnmountUfs(UnmountUfs),
    /// See [`IntentStarted`].
    #[prost(message, tag = "34")]
    IntentStarted(IntentStarted),
    /// See [`IntentDone`].
    #[prost(message, tag = "35")]
    IntentDone(IntentDone),
    /// See [`IntentFailed`].
    #[prost(message, tag = "36")]
    IntentFailed(IntentFailed),
    /// See [`SchedulePersist`].
    #[prost(message, tag = "37")]
    SchedulePersist(SchedulePersist),
    /// See [`RegisterWorker`].
    #[prost(message, tag = "38")]
    RegisterWorker(RegisterWorker),
    /// See [`ReportCached`].
    #[prost(message, tag = "39")]
    ReportCached(ReportCached),
    /// See [`Tmpfile`].
    #[prost(message, tag = "70")]
    Tmpfile(Tmpfile),
    /// See [`Link`].
    #[prost(message, tag = "71")]
    Link(Link),
    /// See [`SetXattr`].
    #[prost(message, tag = "72")]
    SetXattr(SetXattr),
    /// See [`RemoveXattr`].
    #[prost(message, tag = "73")]
    RemoveXattr(RemoveXattr),
    /// See [`SetAcl`].
    #[prost(message, tag = "74")]
    SetAcl(SetAcl),
    /// See [`UseLocks`].
    #[prost(message, tag = "60")]
    UseLocks(UseLocks),
    /// See [`TouchAtimes`].
    #[prost(message, tag = "75")]
    TouchAtimes(TouchAtimes),
    /// See [`SealMount`].
    #[prost(message, tag = "90")]
    SealMount(SealMount),
    /// See [`HoldOrphan`].
    #[prost(message, tag = "95")]
    HoldOrphan(HoldOrphan),
    /// See [`AdoptRules`].
    #[prost(message, tag = "96")]
    AdoptRules(AdoptRules),
    /// See [`ForgetIntent`].
    #[prost(message, tag = "97")]
    ForgetIntent(ForgetIntent),
    /// See [`Spill`].
    #[prost(message, tag = "98")]
    Spill(Spill),
    /// See [`IntentLeft`].
    #[prost(message, tag = "110")]
    IntentLeft(IntentLeft),
    /// See [`IntentCopied`].
    #[prost(message, tag = "112")]
    IntentCopied(IntentCopied),
}

/// One entry of the journal.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Command {
    /// When it was proposed; becomes mtime and ctime of what it changes.
    #[prost(int64, tag = "1")]
    pub now_ns: i64,
    /// Session it was made in, or 0.
    #[prost(uint64, tag = "2")]
    pub session: u64,
    /// Unique within the session; 0: not to be de-duplicated.
    #[prost(uint64, tag = "3")]
    pub op_id: u64,
    /// Who asks.
    #[prost(message, optional, tag = "4")]
    pub caller: Option<Caller>,
    /// Permission bits do not bind the caller.
    #[prost(bool, tag = "5")]
    pub superuser: bool,
    /// Lowest op id of the session whose answer may still be asked for; 0 in commands of clients that do not say it.
    #[prost(uint64, tag = "6")]
    pub lowest_op: u64,
    /// What to do.
    #[prost(
        oneof = "Body",
        tags = "10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 60, 70, 71, 72, 73, 74, 75, 90, 95, 96, 97, 98, 110, 112"
    )]
    pub body: Option<Body>,
}

impl Command {
    /// A command of the master itself: no session, no caller, not bound by permission.
    pub fn system(now_ns: i64, body: impl Into<Body>) -> Self {
        Command {
            now_ns,
            session: 0,
            op_id: 0,
            caller: None,
            superuser: true,
            lowest_op: 0,
            body: Some(body.into()),
        }
    }
}

macro_rules! bodies {
    ($($name:ident)*) => {$(
        impl From<$name> for Body {
            fn from(message: $name) -> Self {
                Body::$name(message)
            }
        }
    )*};
}

bodies! {
    Format OpenSession EndSession CreateFile Mkdir Symlink Mknod Unlink Rmdir Rename DeleteTree ReclaimSlice SetAttr
    OpenWrite Commit MarkDurable CloseWrite ReleaseOrphan Recovered LoadEntries ApplySync UfsChanged MountUfs UnmountUfs
    IntentStarted IntentDone IntentFailed SchedulePersist RegisterWorker ReportCached
    Tmpfile Link SetXattr RemoveXattr SetAcl UseLocks TouchAtimes SealMount HoldOrphan AdoptRules ForgetIntent Spill IntentLeft
    IntentCopied
}
