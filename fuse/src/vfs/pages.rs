//! Whether what the kernel has cached of a file is still true, where reads and writes go through the daemon.

use super::Vfs;
use super::commit::open_stat;
use super::inode::OpenState;
use super::open::DataPath;
use alluxio_proto::worker::{PassAgain, StatOpen};
use alluxio_proto::{ErrorKind, FsResult};

impl DataPath {
    /// Where bytes land that are appended through the daemon, only the home knows: other mounts append too. The kernel must not
    /// keep them where it thinks that they are.
    pub(super) fn for_appending(self, appends: bool) -> DataPath {
        match self {
            DataPath::Daemon { keep_cache, direct } => DataPath::Daemon {
                keep_cache,
                direct: direct || appends,
            },
            local @ DataPath::Local(_) => local,
        }
    }
}

impl Vfs {
    /// The way of one more open of a file that this mount writes. What the kernel has cached of it is true only if no other
    /// mount has committed it meanwhile, which the home knows. A home that watches the local file is told when the kernel opens
    /// it once more.
    ///
    /// # Errors
    /// `Busy` for who reads what is larger than the disk of its home, and is being written past it.
    pub(super) async fn writers_path(&self, inode: u64, state: &mut OpenState, write_only: bool) -> FsResult<DataPath> {
        let alone = match &state.write {
            Some(write) if state.local.is_none() => {
                let version = write.version;
                let stat = StatOpen { inode, version };
                open_stat(&write.home, stat).await?.version == version
            }
            Some(write) if write.is_watched => {
                let version = write.version;
                let again = PassAgain {
                    inode,
                    version,
                    write_only,
                };
                match write.home.worker.ask(again).await {
                    // A worker of before: it has no need to know.
                    Err(error) if error.kind == ErrorKind::NotSupported => true,
                    other => other.map(|_| true)?,
                }
            }
            _ => true,
        };
        // Whoever opens without keeping has the kernel forget.
        let keep_cache = alone && !std::mem::take(&mut state.pages_are_old);
        Ok(self.shared_path(state, keep_cache))
    }
}
