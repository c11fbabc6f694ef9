//! Power cuts: a disk that forgets what was not synced, a mixed load on a cluster whose whole state lies on it, and a
//! checker of what must be there afterwards.
//!
//! [`layer`] keeps writes apart that no flush has made durable, and decides at a cut what becomes of each. [`server`] serves
//! that as one file of a FUSE file system in a process of its own; [`disk`] puts a loop device and ext4 on it. [`load`] works
//! on the mount in another process and logs each step to a disk that is not cut; [`model`] says from that log what may be
//! found, and [`check`] looks. [`rig`] ties them together.
//!
//! What a cut does: requests stop being answered, all processes are killed, then every write since the last flush of the
//! device is kept, dropped or torn at random, whatever its order. The page cache goes with the file system's unmount, and
//! the cluster starts again under another boot id, because its promises differ between the crash of a process and that of a
//! system.

pub mod bare;
pub mod check;
pub mod content;
pub mod disk;
pub mod layer;
pub mod load;
pub mod log;
pub mod model;
pub mod rig;
pub mod server;
pub mod write_out;
