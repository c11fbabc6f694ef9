//! Copies from another folder of this host: by reference where the file system shares blocks, by the kernel otherwise.

use std::sync::Arc;

use super::over::BaseFile;
use super::root::Root;
use super::writing::TempFile;
use crate::{Expect, Inside, UfsAttributes, UfsResult, UfsStatus};

/// See [`crate::UnderFileSystem::import`].
pub(super) fn import(
    root: &Arc<Root>,
    from: &BaseFile,
    path: Vec<u8>,
    expect: &Expect,
    attributes: &UfsAttributes,
    how: Inside,
) -> UfsResult<UfsStatus> {
    let temp = TempFile::create(root.clone(), path)?;
    match how {
        // A file of no length has no blocks to share, and nothing to copy.
        _ if from.length() == 0 => from.copy_clean(temp.file())?,
        Inside::ByReference => from.share_with(temp.file())?,
        Inside::ByKernel => {
            temp.set_length(from.length())?;
            from.copy_clean(temp.file())?;
        }
    }
    temp.publish(expect, attributes)
}
