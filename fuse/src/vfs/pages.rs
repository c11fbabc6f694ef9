//! Whether what the kernel has cached of a file is still true, where reads and writes go through the daemon.

use super::Vfs;
use super::commit::open_stat;
use super::open::{DataPath, OpenState};
use alluxio_proto::FsResult;
use alluxio_proto::worker::StatOpen;

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
    /// mount has committed it meanwhile, which the home knows.
    pub(super) async fn writers_path(&self, inode: u64, state: &mut OpenState) -> FsResult<DataPath> {
        let alone = match &state.write {
            Some(write) if state.local.is_none() => {
                let version = write.version;
                let stat = StatOpen { inode, version };
                open_stat(write, stat.into()).await?.version == version
            }
            _ => true,
        };
        // Whoever opens without keeping has the kernel forget.
        let keep_cache = alone && !std::mem::take(&mut state.pages_are_old);
        Ok(self.shared_path(state, keep_cache))
    }
}
