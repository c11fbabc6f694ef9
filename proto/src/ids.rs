//! Identifiers. Each is a newtype so that two of them are never swapped.

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub u64);

        impl $name {
            /// The raw number, as on the wire.
            pub const fn get(self) -> u64 {
                self.0
            }
            /// Big-endian bytes, as in keys: numeric order is byte order.
            pub const fn to_key(self) -> [u8; 8] {
                self.0.to_be_bytes()
            }
        }
        impl From<u64> for $name {
            fn from(raw: u64) -> Self {
                Self(raw)
            }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

id! {
    /// An inode. Never reused. 0 is no inode, 1 is the root of the namespace.
    InodeId
}
id! {
    /// A version of a file's data. 0: no data yet (an empty file that was never written). Grows by one with every
    /// opening for writing, every commit while open, and every change seen in the UFS.
    DataVersion
}
id! {
    /// A mount of an under-storage in the namespace. 1 is the root mount.
    MountId
}
id! {
    /// A worker; given by the master at first registration and kept in the worker's data folder.
    WorkerId
}
id! {
    /// A client's session (DESIGN D16).
    SessionId
}
id! {
    /// A journaled intention to change an under-storage (DESIGN D9). Numeric order is order of journaling.
    IntentId
}

impl InodeId {
    /// The root directory of the namespace.
    pub const ROOT: InodeId = InodeId(1);
    /// No inode.
    pub const NONE: InodeId = InodeId(0);
}
impl MountId {
    /// The mount at `/`.
    pub const ROOT: MountId = MountId(1);
}
