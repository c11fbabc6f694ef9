//! The name of an upload ([`crate::UfsAttributes::write_id`]) in an extended attribute of its file. File systems without extended
//! attributes have none: there, what an upload left that never reported back is not known to be ours, and stays.

use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;

/// Where it is kept.
const ATTRIBUTE: &CStr = c"user.alluxio.write-id";
/// Longest name that is read; ours are below 80 bytes.
const NAME_BYTES_MAX: usize = 256;

/// Names a file, as far as its file system has room for a name.
pub(super) fn set(file: &File, name: &str) {
    // SAFETY: the attribute is a C string, and the value is as long as is said.
    let done = unsafe {
        libc::fsetxattr(
            file.as_raw_fd(),
            ATTRIBUTE.as_ptr(),
            name.as_ptr().cast(),
            name.len(),
            0,
        )
    };
    if done != 0 {
        tracing::debug!(error = %std::io::Error::last_os_error(), "name an upload");
    }
}

/// The name of the file `name` in `directory`; links are not followed.
pub(super) fn get(directory: &impl AsFd, name: &OsStr) -> Option<String> {
    let mut path = format!("/proc/self/fd/{}/", directory.as_fd().as_raw_fd()).into_bytes();
    path.extend_from_slice(name.as_bytes());
    let path = CString::new(path).ok()?;
    let mut value = vec![0u8; NAME_BYTES_MAX];
    // SAFETY: both are C strings, and the buffer is as long as is said.
    let length = unsafe {
        libc::lgetxattr(
            path.as_ptr(),
            ATTRIBUTE.as_ptr(),
            value.as_mut_ptr().cast(),
            value.len(),
        )
    };
    value.truncate(usize::try_from(length).ok()?);
    String::from_utf8(value).ok()
}
