//! Sessions of clients.

/// Opens a session, or takes one up again after a reconnect or a change of leader.
#[derive(Clone, PartialEq, prost::Message)]
pub struct OpenSession {
    /// Program and mount point, for people.
    #[prost(string, tag = "1")]
    pub client: String,
    /// Host of the client; a worker on the same host is its local one.
    #[prost(string, tag = "2")]
    pub host: String,
    /// Session to take up again, or 0.
    #[prost(uint64, tag = "3")]
    pub resume: u64,
    /// On resume: inodes that are open for reading.
    #[prost(uint64, repeated, tag = "4")]
    pub open_inodes: Vec<u64>,
    /// On resume: all locks that were granted and not given back. Looked at once after each restart of the master.
    #[prost(message, repeated, tag = "5")]
    pub locks: Vec<super::FileLock>,
    /// On resume: openings for reading that have a name, those included that were asked for and not answered yet. Those without
    /// a name are in `open_inodes`.
    #[prost(message, repeated, tag = "6")]
    pub opens: Vec<OpenForReading>,
}

/// An opening for reading, by the name that its client gave it.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct OpenForReading {
    /// Which file.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
    /// As in [`super::Open`].
    #[prost(uint64, tag = "2")]
    pub open_id: u64,
}

/// An open session.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SessionInfo {
    /// [`crate::SessionId`].
    #[prost(uint64, tag = "1")]
    pub session: u64,
    /// It ends when nothing is heard for so long.
    #[prost(uint64, tag = "2")]
    pub timeout_ms: u64,
    /// Identity of the cluster; a data folder belongs to one.
    #[prost(string, tag = "3")]
    pub cluster_id: String,
    /// False: the old session is gone, and what it held with it.
    #[prost(bool, tag = "4")]
    pub resumed: bool,
    /// Locks that were named and are not held: they conflict with others'.
    #[prost(message, repeated, tag = "5")]
    pub locks_refused: Vec<super::FileLock>,
}

/// Ends the session; what it holds open is released.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct CloseSession {}

/// Says that the session's client lives.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct KeepAlive {}
