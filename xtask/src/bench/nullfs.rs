//! A FUSE file system that does nothing: one directory of empty files. What it costs is what FUSE costs.

use fuser::{
    Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, OpenFlags, ReplyAttr,
    ReplyEntry, ReplyOpen, Request,
};
use std::ffi::OsStr;
use std::path::Path;
use std::time::{Duration, SystemTime};

struct NullFs;

const TTL: Duration = Duration::from_secs(3600);

fn attr(ino: INodeNo) -> FileAttr {
    let directory = ino == INodeNo::ROOT;
    FileAttr {
        ino,
        size: 0,
        blocks: 0,
        atime: SystemTime::UNIX_EPOCH,
        mtime: SystemTime::UNIX_EPOCH,
        ctime: SystemTime::UNIX_EPOCH,
        crtime: SystemTime::UNIX_EPOCH,
        kind: if directory {
            FileType::Directory
        } else {
            FileType::RegularFile
        },
        perm: if directory { 0o755 } else { 0o644 },
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

impl Filesystem for NullFs {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match name.to_str().and_then(|name| name.parse::<u64>().ok()) {
            Some(number) => reply.entry(&TTL, &attr(INodeNo(number + 2)), Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }
    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&TTL, &attr(ino));
    }
    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::FOPEN_NOFLUSH);
    }
}

/// Mounts it at `dir`; files are the decimal numbers. Unmounted when the guard is dropped.
pub fn mount(dir: &Path) -> anyhow::Result<fuser::BackgroundSession> {
    let mut config = Config::default();
    config.n_threads = Some(2);
    Ok(fuser::spawn_mount(NullFs, dir, &config)?)
}
