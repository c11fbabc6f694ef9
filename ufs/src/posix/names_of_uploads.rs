//! The name of an upload ([`crate::UfsAttributes::write_id`]) in an extended attribute of its file. File systems without extended
//! attributes have none: there, what an upload left that never reported back is not known to be ours, and stays.
//!
//! A file that is written in place keeps its attributes. So the name goes with a digest of inode number, length and time of the
//! file that was named, and counts as long as the file has them: it names those bytes. Of them the digest alone, because ext4 has
//! room for 56 bytes in the inode, and what needs a block of its own makes an upload twice as dear.

use md5::{Digest, Md5};
use nix::sys::stat::FileStat;
use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;

/// Where it is kept.
const ATTRIBUTE: &CStr = c"user.alluxio.write-id";
/// Longest value that is read; ours are below 160 bytes.
const VALUE_BYTES_MAX: usize = 256;
/// Bytes of the digest that go with a name.
const DIGEST_BYTES: usize = 6;

/// Names a file as it is now, as far as its file system has room for a name.
pub(super) fn set(file: &File, name: &str) {
    let Ok(stat) = nix::sys::stat::fstat(file) else { return };
    let value = format!("{name}{}", of_file(&stat));
    // SAFETY: the attribute is a C string, and the value is as long as is said.
    let done = unsafe {
        libc::fsetxattr(
            file.as_raw_fd(),
            ATTRIBUTE.as_ptr(),
            value.as_ptr().cast(),
            value.len(),
            0,
        )
    };
    log_failure(done);
}

fn log_failure(done: libc::c_int) {
    if done != 0 {
        tracing::debug!(error = %std::io::Error::last_os_error(), "name an upload");
    }
}

fn by_descriptor(file: &impl AsRawFd) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

/// `path` leads to the file itself, which is no link.
fn set_at(path: &str, name: &str) {
    let Ok(stat) = nix::sys::stat::stat(path) else { return };
    let (Ok(path), value) = (CString::new(path), format!("{name}{}", of_file(&stat))) else {
        return;
    };
    // SAFETY: path and attribute are C strings, and the value is as long as is said.
    let done = unsafe { libc::setxattr(path.as_ptr(), ATTRIBUTE.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    log_failure(done);
}

/// What the value says of the file.
fn of_file(stat: &FileStat) -> String {
    let mut digest = Md5::new();
    digest.update(stat.st_ino.to_le_bytes());
    for number in [stat.st_size, stat.st_mtime, stat.st_mtime_nsec] {
        digest.update(number.to_le_bytes());
    }
    let hex: String = digest.finalize()[..DIGEST_BYTES]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("@{hex}")
}

/// The name of the file `name` in `directory`, whose status is `stat`; links are not followed. None if it is not what was named.
pub(super) fn get(directory: &impl AsFd, name: &OsStr, stat: &FileStat) -> Option<String> {
    let mut path = by_descriptor(&directory.as_fd()).into_bytes();
    path.push(b'/');
    path.extend_from_slice(name.as_bytes());
    get_at(&path, stat)
}

fn get_at(path: &[u8], stat: &FileStat) -> Option<String> {
    let path = CString::new(path).ok()?;
    let mut value = vec![0u8; VALUE_BYTES_MAX];
    // SAFETY: both are C strings, and the buffer is as long as is said.
    let length = unsafe {
        libc::getxattr(
            path.as_ptr(),
            ATTRIBUTE.as_ptr(),
            value.as_mut_ptr().cast(),
            value.len(),
        )
    };
    value.truncate(usize::try_from(length).ok()?);
    let value = String::from_utf8(value).ok()?;
    // Those of before say nothing of the file, and name nothing any more.
    value.strip_suffix(&of_file(stat)).map(str::to_owned)
}

/// A change of attributes by us, over which a file keeps its name.
pub(super) struct Kept {
    path: String,
    name: Option<String>,
}

impl Kept {
    /// Before the change; `path` leads to the file itself.
    pub fn before(path: &str) -> Kept {
        let stat = nix::sys::stat::stat(path).ok();
        let name = stat.and_then(|stat| get_at(path.as_bytes(), &stat));
        Kept {
            path: path.to_owned(),
            name,
        }
    }

    /// After it.
    pub fn after(self) {
        if let Some(name) = self.name {
            set_at(&self.path, &name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::stat::lstat;

    #[test]
    fn a_file_that_was_written_in_place_is_not_what_was_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, "ours").unwrap();
        let (file, directory) = (File::open(&path).unwrap(), File::open(dir.path()).unwrap());
        set(&file, "1-2-3-c");
        let name = || get(&directory, OsStr::new("f"), &lstat(&path).unwrap());
        assert_eq!(name().as_deref(), Some("1-2-3-c"));
        let kept = Kept::before(path.to_str().unwrap());
        file.set_modified(std::time::UNIX_EPOCH).unwrap();
        kept.after();
        assert_eq!(name().as_deref(), Some("1-2-3-c"), "times that we set");
        std::fs::write(&path, "evil").unwrap();
        assert_eq!(name(), None, "of the same length, but not ours");
    }
}
