//! The ways in which a mount can serve data, each of which must behave the same.

use crate::LocalBuilder;

/// How the mount under test moves bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The kernel reads and writes local files by itself.
    Passthrough,
    /// Every byte goes through the daemon.
    Daemon,
    /// As [`Mode::Passthrough`], with a data folder that cannot hold the working set: files are evicted and fetched again.
    SmallFolder,
}

impl Mode {
    /// All of them.
    pub const ALL: [Mode; 3] = [Mode::Passthrough, Mode::Daemon, Mode::SmallFolder];

    /// For names of folders and messages.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Passthrough => "passthrough",
            Mode::Daemon => "daemon",
            Mode::SmallFolder => "small-folder",
        }
    }

    /// Makes a mount work this way. `small_quota` is the data folder's size for [`Mode::SmallFolder`], as the property takes
    /// it: less than the test's working set.
    pub fn apply(self, builder: LocalBuilder, small_quota: &str) -> LocalBuilder {
        match self {
            Mode::Passthrough => builder,
            Mode::Daemon => builder.option("alluxio.fuse.passthrough.enabled", "false"),
            Mode::SmallFolder => builder.option("alluxio.worker.tieredstore.level0.dirs.quota", small_quota),
        }
    }
}
