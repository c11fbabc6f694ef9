//! Attributes, times and errors in the kernel's words.

use super::identity::Identity;
use super::{KernelFs, KernelOptions};
use crate::vfs::{DataPath, OpenedHandle, Vfs};
use alluxio_proto::FsError;
use alluxio_proto::types::{Attr, FileKind};
use fuser::{BackingId, Errno, FileAttr, FileHandle, FileType, FopenFlags, INodeNo, TimeOrNow};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Block size that stat reports; what programs choose their buffers by.
const STAT_BLOCK_BYTES: u32 = 128 << 10;

/// Makes the kernel's attributes.
#[derive(Clone)]
pub struct Translator {
    pub identity: Arc<Identity>,
    pub options: KernelOptions,
    pub root: u64,
}

impl KernelFs {
    pub fn translator(&self) -> Translator {
        Translator {
            identity: Arc::clone(&self.identity),
            options: self.options.clone(),
            root: self.vfs.root(),
        }
    }
}

impl Translator {
    /// FUSE node id of an inode.
    pub fn ino(&self, inode: u64) -> INodeNo {
        if inode == self.root {
            INodeNo::ROOT
        } else {
            INodeNo(inode)
        }
    }

    /// Attributes as the kernel wants them.
    pub fn attr(&self, attr: &Attr) -> FileAttr {
        FileAttr {
            ino: self.ino(attr.inode),
            size: attr.size,
            blocks: attr.size.div_ceil(512),
            atime: time(attr.atime_ns),
            mtime: time(attr.mtime_ns),
            ctime: time(attr.ctime_ns),
            crtime: time(attr.btime_ns),
            kind: file_type(attr.kind()),
            perm: (attr.mode & 0o7777 & !self.options.umask) as u16,
            nlink: attr.nlink.max(1),
            uid: self.options.uid.unwrap_or_else(|| self.identity.uid(&attr.owner)),
            gid: self.options.gid.unwrap_or_else(|| self.identity.gid(&attr.group)),
            rdev: attr.rdev as u32,
            blksize: STAT_BLOCK_BYTES,
            flags: 0,
        }
    }
}

pub fn file_type(kind: FileKind) -> FileType {
    match kind {
        FileKind::File => FileType::RegularFile,
        FileKind::Directory => FileType::Directory,
        FileKind::Symlink => FileType::Symlink,
        FileKind::Fifo => FileType::NamedPipe,
        FileKind::Socket => FileType::Socket,
        FileKind::CharDevice => FileType::CharDevice,
        FileKind::BlockDevice => FileType::BlockDevice,
    }
}

/// Nanoseconds since 1970 as a time, also before 1970.
fn time(ns: i64) -> SystemTime {
    let distance = Duration::from_nanos(ns.unsigned_abs());
    let time = if ns >= 0 {
        UNIX_EPOCH.checked_add(distance)
    } else {
        UNIX_EPOCH.checked_sub(distance)
    };
    time.unwrap_or(UNIX_EPOCH)
}

/// A time as nanoseconds since 1970.
pub fn nanoseconds(time: TimeOrNow) -> i64 {
    let time = match time {
        TimeOrNow::SpecificTime(time) => time,
        TimeOrNow::Now => SystemTime::now(),
    };
    let clamp = |duration: Duration| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => clamp(after),
        Err(before) => -clamp(before.duration()),
    }
}

/// The errno of an error; logged once, here where it leaves us: what the kernel will not tell the user.
pub fn errno(operation: &str, inode: u64, error: &FsError) -> Errno {
    let code = error.errno();
    match code {
        // Everyday answers.
        libc::ENOENT | libc::EEXIST | libc::ENOTEMPTY | libc::EACCES | libc::EPERM => {
            tracing::debug!(operation, inode, %error);
        }
        libc::EIO => tracing::warn!(operation, inode, %error, "EIO"),
        _ => tracing::info!(operation, inode, %error),
    }
    Errno::from_i32(code)
}

/// How an open is answered.
pub enum Answer {
    /// The kernel works on the backing file.
    Passthrough(FopenFlags, Arc<BackingId>),
    /// The kernel asks the daemon.
    Daemon(FopenFlags),
}

/// Registers the local file with the kernel, or finds the id that its other opens use. Where the kernel cannot take it, the
/// inode goes through the daemon.
pub async fn answer(
    vfs: &Vfs,
    handle: OpenedHandle,
    open_backing: impl Fn(&std::fs::File) -> std::io::Result<BackingId>,
) -> Result<(FileHandle, Answer), FsError> {
    let mut flags = FopenFlags::empty();
    flags.set(FopenFlags::FOPEN_NOFLUSH, handle.no_flush);
    let fh = FileHandle(handle.fh);
    let data = match handle.data {
        DataPath::Local(file) => {
            if file.kernel.get().is_none() {
                match open_backing(&file.file) {
                    // Somebody else may have been faster: then theirs is the inode's, and ours is closed.
                    Ok(id) => drop(file.kernel.set(Box::new(Arc::new(id)))),
                    Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
                        vfs.disable_passthrough("CAP_SYS_ADMIN is missing")
                    }
                    Err(error) => tracing::debug!(%error, "register a backing file; it goes through the daemon"),
                }
            }
            match file.kernel.get().and_then(|kept| kept.downcast_ref::<Arc<BackingId>>()) {
                Some(id) => return Ok((fh, Answer::Passthrough(flags, Arc::clone(id)))),
                None => vfs.demote(handle.fh).await?,
            }
        }
        daemon @ DataPath::Daemon { .. } => daemon,
    };
    if let DataPath::Daemon { keep_cache, direct } = data {
        flags.set(FopenFlags::FOPEN_KEEP_CACHE, keep_cache && !direct);
        flags.set(FopenFlags::FOPEN_DIRECT_IO, direct);
    }
    Ok((fh, Answer::Daemon(flags)))
}
