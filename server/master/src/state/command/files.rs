//! Open versions of files, from the first writer to the commit or the recovery.

use alluxio_proto::types::WriteType;

/// Makes or joins the one open version of a file, in the command's session.
#[derive(Clone, PartialEq, prost::Message)]
pub struct OpenWrite {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
    /// Drop the old content.
    #[prost(bool, tag = "2")]
    pub truncate: bool,
    /// Home, if there is no open version yet.
    #[prost(uint64, tag = "3")]
    pub home_worker: u64,
    /// Write type, if there is no open version yet.
    #[prost(enumeration = "WriteType", tag = "4")]
    pub write_type: i32,
}

/// Makes the content that the home sealed the committed version, and by write type its persist intent.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Commit {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
    /// The open version that was sealed.
    #[prost(uint64, tag = "2")]
    pub version: u64,
    /// In bytes.
    #[prost(uint64, tag = "3")]
    pub length: u64,
    /// Last change of data.
    #[prost(int64, tag = "4")]
    pub mtime_ns: i64,
    /// Stays open as version + 1. It does so anyway while another opening is left.
    #[prost(bool, tag = "5")]
    pub keep_open: bool,
    /// Last change of data or length by the home's clock; 0: now.
    #[prost(int64, tag = "6")]
    pub ctime_ns: i64,
    /// How much of the length is holes, as far as known.
    #[prost(uint64, tag = "7")]
    pub hole_bytes: u64,
    /// Stays open because it is still mapped for writing, by nobody who has it open.
    #[prost(bool, tag = "8")]
    pub mapped: bool,
}

/// The home has synced the open version: so much of it is kept after a crash.
#[derive(Clone, PartialEq, prost::Message)]
pub struct MarkDurable {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
    /// The open version.
    #[prost(uint64, tag = "2")]
    pub version: u64,
    /// In bytes.
    #[prost(uint64, tag = "3")]
    pub length: u64,
    /// Last change of data.
    #[prost(int64, tag = "4")]
    pub mtime_ns: i64,
}

/// Closes one opening for writing of the command's session. Without any left that is fine too.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CloseWrite {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
    /// Drop the uncommitted content; a file that has never been committed goes with its name.
    #[prost(bool, tag = "2")]
    pub abandon: bool,
    /// Sessions that have it open for reading, should it go.
    #[prost(uint64, repeated, tag = "3")]
    pub keep_for: Vec<u64>,
    /// See [`alluxio_proto::master::Close::left_open`].
    #[prost(bool, tag = "4")]
    pub left_open: bool,
}

/// The command's session has closed an unlinked inode for the last time.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ReleaseOrphan {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
}

/// The command's session has opened an unlinked inode for reading, which others hold: it stays for this one, too.
#[derive(Clone, PartialEq, prost::Message)]
pub struct HoldOrphan {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
}

/// What the home found of an open version whose writers are gone.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Recovered {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
    /// The open version.
    #[prost(uint64, tag = "2")]
    pub version: u64,
    /// The worker has it, sealed: commit it.
    #[prost(bool, tag = "3")]
    pub found: bool,
    /// In bytes.
    #[prost(uint64, tag = "4")]
    pub length: u64,
    /// Last change of data.
    #[prost(int64, tag = "5")]
    pub mtime_ns: i64,
    /// If not found: the version that the home has instead, sealed; 0 if none.
    #[prost(uint64, tag = "6")]
    pub kept_version: u64,
    /// If not found, of a file of which nothing was promised: it was closed while it was empty, and stays so.
    #[prost(bool, tag = "7")]
    pub closed_empty: bool,
    /// It is still mapped for writing: committed as it is now, it stays open as version + 1, and with its home.
    #[prost(bool, tag = "8")]
    pub mapped: bool,
    /// Sessions that have it open for reading, should it go.
    #[prost(uint64, repeated, tag = "9")]
    pub keep_for: Vec<u64>,
    /// If found: the version that the home has it as, should that be a later one; 0: as the open version.
    #[prost(uint64, tag = "10")]
    pub as_version: u64,
}

/// The home of an open version sealed it, because it needs the room: it becomes the committed version, is uploaded, and stays open
/// for its writers as version + 1.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Spill {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
    /// The open version that was sealed.
    #[prost(uint64, tag = "2")]
    pub version: u64,
    /// Its home.
    #[prost(uint64, tag = "3")]
    pub home_worker: u64,
    /// In bytes.
    #[prost(uint64, tag = "4")]
    pub length: u64,
    /// Last change of data.
    #[prost(int64, tag = "5")]
    pub mtime_ns: i64,
    /// As in [`Commit`].
    #[prost(int64, tag = "6")]
    pub ctime_ns: i64,
    /// As in [`Commit`].
    #[prost(uint64, tag = "7")]
    pub hole_bytes: u64,
}
