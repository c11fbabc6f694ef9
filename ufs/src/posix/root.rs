//! Walking beneath the root, and what is found there.
//!
//! Every path is resolved by openat2 with RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS from a descriptor of the root: no link, not
//! even one that is put there at this moment, leads out. The root is opened anew by each call, so that a file system
//! that is mounted there later is seen; if it is gone, that is [`UfsErrorKind::StoreMissing`], never "no such file".

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use alluxio_common::sync::Mutex;
use alluxio_proto::types::FileKind;
use bytes::Bytes;
use nix::errno::Errno;
use nix::fcntl::{self, AtFlags, OFlag, OpenHow, ResolveFlag};
use nix::sys::stat::{self, FileStat, Mode, SFlag};

use super::errno::error;
use super::listing::Snapshots;
use super::names::Names;
use super::names_of_uploads;
use crate::{UfsError, UfsErrorKind, UfsMetrics, UfsResult, UfsStatus, path};

/// Where files are written before they get their names. Never shown, and no path may lead there.
pub(super) const TEMP_DIR: &[u8] = b".alluxio_ufs_persistence";
/// Conditional writes of one path exclude each other; more locks than there are writers at a time.
const LOCKS: usize = 64;

/// A folder of this host.
#[derive(Debug)]
pub(super) struct Root {
    pub path: PathBuf,
    pub names: Names,
    pub metrics: Arc<UfsMetrics>,
    pub snapshots: Snapshots,
    pub next_temp: AtomicU64,
    locks: Vec<Mutex<()>>,
}

impl Root {
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            names: Names::default(),
            metrics: Arc::default(),
            snapshots: Snapshots::default(),
            next_temp: AtomicU64::new(0),
            locks: (0..LOCKS).map(|_| Mutex::new(())).collect(),
        }
    }

    /// The lock of a path: several paths may share one.
    pub fn lock_of(&self, path: &[u8]) -> &Mutex<()> {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let mut hasher = DefaultHasher::new();
        path.hash(&mut hasher);
        &self.locks[hasher.finish() as usize % LOCKS]
    }

    pub fn check(&self, path: &[u8]) -> UfsResult<()> {
        path::check_path(path)?;
        if path.split(|byte| *byte == b'/').next() == Some(TEMP_DIR) {
            let why = format!("{} is reserved for files being written", path::show(path));
            return Err(UfsError::new(UfsErrorKind::Invalid, why));
        }
        Ok(())
    }

    pub fn open(&self) -> UfsResult<OwnedFd> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        fcntl::open(&self.path, flags, Mode::empty()).map_err(|errno| {
            let folder = self.path.display();
            match errno {
                Errno::ENOENT => UfsError::new(UfsErrorKind::StoreMissing, format!("folder {folder} does not exist")),
                Errno::ENOTDIR => UfsError::new(UfsErrorKind::StoreMissing, format!("{folder} is not a folder")),
                _ => error(errno, "open the root folder", self.path.as_os_str().as_bytes()),
            }
        })
    }

    /// Opens a path; the empty one is the root.
    pub fn open_beneath(&self, path: &[u8], flags: OFlag) -> UfsResult<OwnedFd> {
        self.check(path)?;
        let root = self.open()?;
        open_at(&root, path, flags).map_err(|errno| error(errno, "open", path))
    }

    /// The directory of a path, and the last component.
    pub fn parent<'a>(&self, path: &'a [u8]) -> UfsResult<(OwnedFd, &'a OsStr)> {
        self.check(path)?;
        let (parent, name) = path::split(path);
        let root = self.open()?;
        let directory = open_at(&root, parent, OFlag::O_PATH | OFlag::O_DIRECTORY);
        Ok((
            directory.map_err(|errno| error(errno, "open the folder of", path))?,
            OsStr::from_bytes(name),
        ))
    }

    pub fn status(&self, path: &[u8]) -> UfsResult<UfsStatus> {
        UfsMetrics::add(&self.metrics.requests, 1);
        if path.is_empty() {
            let stat = stat::fstat(self.open()?).map_err(|errno| error(errno, "stat", path))?;
            return Ok(self.status_of(b"", &stat, None));
        }
        let (directory, name) = self.parent(path)?;
        self.named_status_at(&directory, name)
            .map_err(|errno| error(errno, "stat", path))
    }

    /// Status of a name in an open directory, with the name of the upload that made it.
    pub fn named_status_at(&self, directory: &impl AsFd, name: &OsStr) -> nix::Result<UfsStatus> {
        let stat = stat::fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        let mut status = self.status_from(directory, name, &stat)?;
        if status.kind == FileKind::File {
            status.write_id = names_of_uploads::get(directory, name, &stat);
        }
        Ok(status)
    }

    /// Status of a name in an open directory, without that.
    pub fn status_at(&self, directory: &impl AsFd, name: &OsStr) -> nix::Result<UfsStatus> {
        let stat = stat::fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        self.status_from(directory, name, &stat)
    }

    fn status_from(&self, directory: &impl AsFd, name: &OsStr, stat: &FileStat) -> nix::Result<UfsStatus> {
        let target = match kind_of(stat) {
            FileKind::Symlink => Some(Bytes::from(fcntl::readlinkat(directory, name)?.into_vec())),
            _ => None,
        };
        Ok(self.status_of(name.as_bytes(), stat, target))
    }

    pub fn status_of(&self, name: &[u8], stat: &FileStat, symlink_target: Option<Bytes>) -> UfsStatus {
        let kind = kind_of(stat);
        let directory = kind == FileKind::Directory;
        UfsStatus {
            name: Bytes::copy_from_slice(name),
            kind,
            length: if directory {
                0
            } else {
                u64::try_from(stat.st_size).unwrap_or(0)
            },
            mtime_ns: mtime_ns(stat),
            fingerprint: if directory { String::new() } else { fingerprint_of(stat) },
            mode: Some(stat.st_mode & 0o7777),
            owner: Some(self.names.user(stat.st_uid)),
            group: Some(self.names.group(stat.st_gid)),
            symlink_target,
            write_id: None,
            atime_ns: None,
            xattrs: None,
            is_partial: false,
            is_archived: false,
        }
    }

    /// Opens a directory, having made it and its parents where they were missing. Says whether it made the last one.
    pub fn make_directories(&self, path: &[u8]) -> UfsResult<(OwnedFd, bool)> {
        self.check(path)?;
        let root = self.open()?;
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
        let mut made = false;
        // From the deepest one that is there, which is mostly the last, downward.
        let mut existing = path;
        let mut directory = loop {
            match open_at(&root, existing, flags) {
                Ok(directory) => break directory,
                Err(Errno::ENOENT) if !existing.is_empty() => existing = path::split(existing).0,
                Err(errno) => return Err(error(errno, "open the folder", existing)),
            }
        };
        let missing = path[existing.len()..]
            .split(|byte| *byte == b'/')
            .filter(|name| !name.is_empty());
        for name in missing {
            let name = OsStr::from_bytes(name);
            let mut is_new = false;
            match stat::mkdirat(&directory, name, Mode::from_bits_truncate(0o755)) {
                Ok(()) => {
                    made = true;
                    is_new = true;
                    sync_directory(&directory).map_err(|errno| error(errno, "sync the folder of", path))?;
                }
                // Somebody else made it meanwhile.
                Err(Errno::EEXIST) => made = false,
                Err(errno) => return Err(error(errno, "make the folder", path)),
            }
            directory =
                open_at(&directory, name.as_bytes(), flags).map_err(|errno| error(errno, "open the folder", path))?;
            if is_new {
                open_to_all(&directory).map_err(|errno| error(errno, "set the mode of the folder", path))?;
            }
        }
        Ok((directory, made))
    }
}

/// 0755 for a new folder, whatever the umask of this process, which is about the cluster's own files. What the parent hands
/// down (set-group-ID) stays.
fn open_to_all(directory: &OwnedFd) -> nix::Result<()> {
    use std::os::fd::AsRawFd;
    let mode = stat::fstat(directory)?.st_mode & 0o7777 | 0o755;
    let by_descriptor = format!("/proc/self/fd/{}", directory.as_raw_fd());
    let follow = stat::FchmodatFlags::FollowSymlink;
    stat::fchmodat(
        fcntl::AT_FDCWD,
        by_descriptor.as_str(),
        Mode::from_bits_truncate(mode),
        follow,
    )
}

/// openat2 that stays beneath `directory` and follows no link.
pub(super) fn open_at(directory: &impl AsFd, path: &[u8], flags: OFlag) -> nix::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let path = if path.is_empty() {
        OsStr::new(".")
    } else {
        OsStr::from_bytes(path)
    };
    fcntl::openat2(directory, path, how)
}

/// Makes the names in a directory durable.
pub(super) fn sync_directory(directory: &impl AsFd) -> nix::Result<()> {
    let readable = open_at(directory, b"", OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
    nix::unistd::fsync(readable)
}

pub(super) fn kind_of(stat: &FileStat) -> FileKind {
    match SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) {
        SFlag::S_IFDIR => FileKind::Directory,
        SFlag::S_IFLNK => FileKind::Symlink,
        SFlag::S_IFIFO => FileKind::Fifo,
        SFlag::S_IFSOCK => FileKind::Socket,
        SFlag::S_IFCHR => FileKind::CharDevice,
        SFlag::S_IFBLK => FileKind::BlockDevice,
        _ => FileKind::File,
    }
}

fn mtime_ns(stat: &FileStat) -> i64 {
    stat.st_mtime
        .saturating_mul(1_000_000_000)
        .saturating_add(stat.st_mtime_nsec)
}

/// `mtime_ns-length-inode`. A change within one tick of the kernel's clock that keeps the length is not seen.
pub(super) fn fingerprint_of(stat: &FileStat) -> String {
    format!("{}-{}-{}", mtime_ns(stat), stat.st_size, stat.st_ino)
}
