//! Our notions in the crate's words, and back.

use crate::transport::operations::{self as ops, Asker, Errno, Fh, Listed, Listing, Lock, LockKind, SetTime, Stat};
use ::fuser::{
    FileAttr, FileHandle, FileType, FopenFlags, INodeNo, ReplyDirectory, ReplyDirectoryPlus, Request, TimeOrNow,
};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub const GENERATION: ::fuser::Generation = ::fuser::Generation(0);

pub fn asker(request: &Request) -> Asker {
    Asker {
        uid: request.uid(),
        gid: request.gid(),
        pid: request.pid(),
    }
}

pub fn node(ino: INodeNo) -> ops::Node {
    ops::Node(ino.0)
}

pub fn fh(handle: FileHandle) -> Fh {
    Fh(handle.0)
}

pub fn errno(errno: Errno) -> ::fuser::Errno {
    ::fuser::Errno::from_i32(errno.0)
}

pub fn open_flags(flags: ops::OpenFlags) -> FopenFlags {
    FopenFlags::from_bits_retain(flags.0)
}

/// Of an entry: the crate takes the kernel's number of it from here.
pub fn entry_attr(entry: &ops::Entry) -> FileAttr {
    FileAttr {
        ino: INodeNo(entry.node.0),
        ..file_attr(&entry.attributes.stat)
    }
}

pub fn file_attr(stat: &Stat) -> FileAttr {
    FileAttr {
        ino: INodeNo(stat.node),
        size: stat.size,
        blocks: stat.blocks,
        atime: time(stat.atime_ns),
        mtime: time(stat.mtime_ns),
        ctime: time(stat.ctime_ns),
        crtime: time(stat.btime_ns),
        kind: file_type(stat.mode),
        perm: (stat.mode & 0o7777) as u16,
        nlink: stat.nlink,
        uid: stat.uid,
        gid: stat.gid,
        rdev: stat.rdev,
        blksize: stat.blksize,
        flags: 0,
    }
}

fn file_type(mode: u32) -> FileType {
    match mode & libc::S_IFMT {
        libc::S_IFDIR => FileType::Directory,
        libc::S_IFLNK => FileType::Symlink,
        libc::S_IFIFO => FileType::NamedPipe,
        libc::S_IFSOCK => FileType::Socket,
        libc::S_IFCHR => FileType::CharDevice,
        libc::S_IFBLK => FileType::BlockDevice,
        _ => FileType::RegularFile,
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
pub fn nanoseconds(time: SystemTime) -> i64 {
    let clamp = |duration: Duration| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => clamp(after),
        Err(before) => -clamp(before.duration()),
    }
}

pub fn set_time(time: TimeOrNow) -> SetTime {
    match time {
        TimeOrNow::Now => SetTime::Now,
        TimeOrNow::SpecificTime(time) => SetTime::At(nanoseconds(time)),
    }
}

/// A lock of the kernel's; its type is that of fcntl(2).
pub fn lock(start: u64, end: u64, kind: i32, pid: u32) -> Option<Lock> {
    let kind = match kind {
        libc::F_RDLCK => LockKind::Read,
        libc::F_WRLCK => LockKind::Write,
        libc::F_UNLCK => LockKind::Unlock,
        _ => return None,
    };
    Some(Lock { start, end, kind, pid })
}

pub fn lock_type(kind: LockKind) -> i32 {
    match kind {
        LockKind::Read => libc::F_RDLCK,
        LockKind::Write => libc::F_WRLCK,
        LockKind::Unlock => libc::F_UNLCK,
    }
}

impl Listing for ReplyDirectory {
    fn add(&mut self, listed: &Listed<'_>) -> bool {
        let stat = &listed.entry.attributes.stat;
        let name = OsStr::from_bytes(listed.name);
        !ReplyDirectory::add(self, INodeNo(stat.node), listed.next, file_type(stat.mode), name)
    }

    fn plus(&self) -> bool {
        false
    }
}

impl Listing for ReplyDirectoryPlus {
    fn add(&mut self, listed: &Listed<'_>) -> bool {
        let (mut attr, ttl) = (entry_attr(listed.entry), listed.entry.ttl);
        if listed.is_dot {
            attr.ino = INodeNo(listed.entry.attributes.stat.node);
        }
        let name = OsStr::from_bytes(listed.name);
        !ReplyDirectoryPlus::add(self, attr.ino, listed.next, name, &ttl, &attr, GENERATION)
    }

    fn plus(&self) -> bool {
        true
    }
}
