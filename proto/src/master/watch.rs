//! Changes that are pushed to clients.

use super::Empty;
use crate::error::FsResult;

/// Attributes of an inode changed; `data` too if its bytes did.
#[derive(Clone, PartialEq, prost::Message)]
pub struct InodeChanged {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
    /// Cached pages are stale.
    #[prost(bool, tag = "2")]
    pub data: bool,
}

/// A name in a directory appeared, went or means another inode.
#[derive(Clone, PartialEq, prost::Message)]
pub struct EntryChanged {
    /// Directory.
    #[prost(uint64, tag = "1")]
    pub parent: u64,
    /// One component.
    #[prost(bytes = "bytes", tag = "2")]
    pub name: bytes::Bytes,
    /// Inode that went with it (unlink), or 0.
    #[prost(uint64, tag = "3")]
    pub child: u64,
    /// What `child` was, for those who still have it open.
    #[prost(message, optional, boxed, tag = "4")]
    pub removed: Option<Box<crate::types::Attr>>,
}

/// One change that a client's caches must follow.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum WatchEvent {
    /// See [`InodeChanged`].
    #[prost(message, tag = "1")]
    Inode(InodeChanged),
    /// See [`EntryChanged`].
    #[prost(message, tag = "2")]
    Entry(EntryChanged),
    /// The queue overflowed or the leader changed: forget everything.
    #[prost(message, tag = "3")]
    Reset(Empty),
    /// See [`super::LockGranted`]; to the session that waits.
    #[prost(message, tag = "4")]
    LockGranted(super::LockGranted),
}

/// One item of the watch stream. An empty one is a heartbeat, sent at least each second.
#[derive(Clone, PartialEq, prost::Message)]
pub struct WatchItem {
    /// The change.
    #[prost(oneof = "WatchEvent", tags = "1, 2, 3, 4")]
    pub event: Option<WatchEvent>,
}

/// A batch of watch items, in order.
#[derive(Clone, PartialEq, prost::Message)]
pub struct WatchBatch {
    /// In order.
    #[prost(message, repeated, tag = "1")]
    pub items: Vec<WatchItem>,
}

/// Changes made by others than the session that watches. An error ends the stream.
pub type WatchStream = std::pin::Pin<Box<dyn futures::Stream<Item = FsResult<WatchBatch>> + Send>>;
