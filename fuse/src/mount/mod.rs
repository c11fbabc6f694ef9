//! From a folder to a mounted file system and back: mount(2), options, the mount helper, the mount table.
//!
//! Promises: the mount shows as type [`FS_TYPE`] in /proc/mounts and df; a second mount on the same folder is refused; a
//! mount whose daemon died is cleaned away by the next mount on its folder; whatever is refused says what to do instead.
//! Nothing here waits for a file system that does not answer for longer than [`ANSWER_TIME_MAX`].
//!
//! Left out: what is mounted. The connection to the kernel is handed to whoever serves it; files and masters are not known here.
//! There is no remount: options of a live mount stay as they are.

mod bdi;
mod folder;
mod helper;
mod mounted;
mod options;
mod system;
mod table;

pub use bdi::raise_read_ahead;
pub use helper::{
    HELPER_PATH, HELPER_PATH_BY_TABLE, HelperRequest, MOUNT_FAILURE, Readiness, Side, daemonize, install_helper,
    is_helper_name, run_helper,
};
pub use mounted::{Mounted, READ_AHEAD_KIB};
pub use options::{MountOptions, Passthrough};
pub use system::{UnmountMode, open_and_mount, open_by_fusermount, unmount};
pub use table::{Device, MountEntry, MountState, list, mount_at};

/// Type of our mounts in /proc/mounts. The kernel reads `fuse`, people read `alluxio`.
pub const FS_TYPE: &str = "fuse.alluxio";

/// How long a mounted file system may take to show that its daemon lives. Chosen so that a person still waits for it.
pub const ANSWER_TIME_MAX: std::time::Duration = std::time::Duration::from_secs(2);
