//! One method per request of the crate.

use super::Requests;
use super::convert::*;
use crate::transport::MAX_WRITE_BYTES;
use crate::transport::operations::{
    CopyRange, Errno, Features, LockRequest, NewName, Operations, Owner, SetAttributes, Xattr,
};
use ::fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, FileHandle, Filesystem, INodeNo, InitFlags, IoctlFlags,
    KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLock, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite,
    ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use bytes::Bytes;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

/// Runs a request: `run!(self, reply, |operations| call => |answer| reply)`; errors are replied as such.
macro_rules! run {
    ($self:ident, $reply:ident, |$operations:ident| $call:expr => |$answer:pat_param| $answered:expr) => {{
        let $operations = Arc::clone(&$self.operations);
        $self.run(async move {
            match $call.await {
                Ok($answer) => $answered,
                Err(error) => $reply.error(errno(error)),
            }
        });
    }};
}

fn bytes(name: &OsStr) -> Box<[u8]> {
    name.as_bytes().into()
}

fn new_name(parent: INodeNo, name: &[u8], mode: u32, umask: u32) -> NewName<'_> {
    let parent = node(parent);
    NewName {
        parent,
        name,
        mode,
        umask,
    }
}

fn entry(reply: ReplyEntry, entry: &crate::transport::operations::Entry) {
    let attributes = &entry.attributes;
    reply.entry_with_ttls(&attributes.ttl, &entry.ttl, &entry_attr(entry), GENERATION);
}

fn xattr(reply: ReplyXattr, answer: Xattr) {
    match answer {
        Xattr::Size(size) => reply.size(size),
        Xattr::Data(data) => reply.data(&data),
    }
}

/// Asks the kernel for what it can and we want. It works without any of it, only slower.
fn negotiate(features: Features, config: &mut KernelConfig) -> Result<(), &'static str> {
    let wanted = [
        (InitFlags::FUSE_ASYNC_DIO, true),
        (InitFlags::FUSE_ATOMIC_O_TRUNC, true),
        (InitFlags::FUSE_CACHE_SYMLINKS, true),
        (InitFlags::FUSE_DO_READDIRPLUS, true),
        (InitFlags::FUSE_READDIRPLUS_AUTO, true),
        (InitFlags::FUSE_PARALLEL_DIROPS, true),
        (InitFlags::FUSE_POSIX_ACL, features.acl),
        (InitFlags::FUSE_DONT_MASK, features.umask),
        (InitFlags::FUSE_HANDLE_KILLPRIV_V2, features.kill_privileges),
        (InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP, true),
        // The crate does not say which locks are flock's: those stay with the kernel.
        (InitFlags::FUSE_POSIX_LOCKS, features.locks),
    ];
    for (flag, wanted) in wanted {
        if wanted {
            let _ = config.add_capabilities(flag);
        }
    }
    // Each takes the largest value that the kernel allows.
    let _ = config.set_max_write(MAX_WRITE_BYTES);
    let _ = config.set_max_readahead(MAX_WRITE_BYTES);
    let _ = config.set_max_background(features.max_background);
    if !features.passthrough
        || config.add_capabilities(InitFlags::FUSE_PASSTHROUGH).is_ok() && config.set_max_stack_depth(1).is_ok()
    {
        return Ok(());
    }
    Err("the kernel has none; it came with Linux 6.9")
}

impl<O: Operations> Filesystem for Requests<O> {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let features = self
            .operations
            .features()
            .map_err(|errno| io::Error::from_raw_os_error(errno.0))?;
        if let Err(why) = negotiate(features, config) {
            self.operations.lacks_passthrough(why);
        }
        Ok(())
    }

    fn lookup(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let (by, parent, name) = (asker(req), node(parent), bytes(name));
        run!(self, reply, |operations| operations.lookup(by, parent, &name) => |found| entry(reply, &found));
    }

    fn forget(&self, _: &Request, ino: INodeNo, nlookup: u64) {
        self.operations.forget(node(ino), nlookup);
    }

    fn getattr(&self, req: &Request, ino: INodeNo, handle: Option<FileHandle>, reply: ReplyAttr) {
        let (by, node, handle) = (asker(req), node(ino), handle.map(fh));
        run!(self, reply, |operations| operations.getattr(by, node, handle) => |found| {
            reply.attr(&found.ttl, &file_attr(&found.stat));
        });
    }

    fn setattr(
        &self,
        req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        ctime: Option<SystemTime>,
        handle: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let (by, node) = (asker(req), node(ino));
        let set = SetAttributes {
            mode,
            uid,
            gid,
            size,
            atime: atime.map(set_time),
            mtime: mtime.map(set_time),
            ctime_ns: ctime.map(nanoseconds),
            fh: handle.map(fh),
        };
        run!(self, reply, |operations| operations.setattr(by, node, set) => |found| {
            reply.attr(&found.ttl, &file_attr(&found.stat));
        });
    }

    fn readlink(&self, req: &Request, ino: INodeNo, reply: ReplyData) {
        let (by, node) = (asker(req), node(ino));
        run!(self, reply, |operations| operations.readlink(by, node) => |target| reply.data(&target));
    }

    fn mknod(&self, req: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, rdev: u32, reply: ReplyEntry) {
        let (by, name) = (asker(req), bytes(name));
        run!(self, reply, |operations| operations.mknod(by, new_name(parent, &name, mode, umask), rdev) => |made| entry(reply, &made));
    }

    fn mkdir(&self, req: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        let (by, name) = (asker(req), bytes(name));
        run!(self, reply, |operations| operations.mkdir(by, new_name(parent, &name, mode, umask)) => |made| entry(reply, &made));
    }

    fn unlink(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (by, parent, name) = (asker(req), node(parent), bytes(name));
        run!(self, reply, |operations| operations.unlink(by, parent, &name) => |()| reply.ok());
    }

    fn rmdir(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (by, parent, name) = (asker(req), node(parent), bytes(name));
        run!(self, reply, |operations| operations.rmdir(by, parent, &name) => |()| reply.ok());
    }

    fn symlink(&self, req: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let (by, parent, name) = (asker(req), node(parent), bytes(name));
        let target = bytes(target.as_os_str());
        run!(self, reply, |operations| operations.symlink(by, parent, &name, &target) => |made| entry(reply, &made));
    }

    fn rename(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let (by, from, to) = (asker(req), node(parent), node(newparent));
        let (name, new_name) = (bytes(name), bytes(newname));
        run!(self, reply, |operations| operations.rename(by, (from, &name), (to, &new_name), flags.bits()) => |()| reply.ok());
    }

    fn link(&self, req: &Request, ino: INodeNo, newparent: INodeNo, newname: &OsStr, reply: ReplyEntry) {
        let (by, node, parent, name) = (asker(req), node(ino), node(newparent), bytes(newname));
        run!(self, reply, |operations| operations.link(by, node, parent, &name) => |made| entry(reply, &made));
    }

    fn open(&self, req: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let (by, node) = (asker(req), node(ino));
        let operations = Arc::clone(&self.operations);
        self.run(async move {
            let opened = operations.open(by, node, flags.0, |file| reply.open_backing(file));
            match opened.await {
                Ok(opened) => {
                    let (fh, flags) = (FileHandle(opened.fh.0), open_flags(opened.flags));
                    match opened.backing {
                        Some(backing) => reply.opened_passthrough(fh, flags, &backing),
                        None => reply.opened(fh, flags),
                    }
                }
                Err(error) => reply.error(errno(error)),
            }
        });
    }

    fn create(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let (by, name) = (asker(req), bytes(name));
        let operations = Arc::clone(&self.operations);
        self.run(async move {
            let new = new_name(parent, &name, mode, umask);
            let created = operations.create(by, new, flags, |file| reply.open_backing(file));
            match created.await {
                Ok((entry, opened)) => {
                    let (ttl, attr) = (entry.ttl, entry_attr(&entry));
                    let (fh, flags) = (FileHandle(opened.fh.0), open_flags(opened.flags));
                    match opened.backing {
                        Some(backing) => reply.created_passthrough(&ttl, &attr, GENERATION, fh, flags, &backing),
                        None => reply.created(&ttl, &attr, GENERATION, fh, flags),
                    }
                }
                Err(error) => reply.error(errno(error)),
            }
        });
    }

    fn read(
        &self,
        req: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let (by, node, fh) = (asker(req), node(ino), fh(handle));
        run!(self, reply, |operations| operations.read(by, node, fh, offset, size) => |data| reply.data(&data));
    }

    fn write(
        &self,
        req: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let (by, node, fh) = (asker(req), node(ino), fh(handle));
        let data = Bytes::copy_from_slice(data);
        run!(self, reply, |operations| operations.write(by, node, fh, offset, data) => |written| reply.written(written));
    }

    fn flush(&self, req: &Request, ino: INodeNo, handle: FileHandle, owner: LockOwner, reply: ReplyEmpty) {
        let (by, node, fh, owner) = (asker(req), node(ino), fh(handle), Owner(owner.0));
        self.operations.closing(node, fh);
        run!(self, reply, |operations| operations.flush(by, node, fh, owner) => |()| reply.ok());
    }

    fn release(
        &self,
        _: &Request,
        ino: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        let (node, fh) = (node(ino), fh(handle));
        self.operations.closing(node, fh);
        run!(self, reply, |operations| operations.release(node, fh, None) => |()| reply.ok());
    }

    fn fsync(&self, req: &Request, ino: INodeNo, handle: FileHandle, datasync: bool, reply: ReplyEmpty) {
        let (by, node, fh) = (asker(req), node(ino), fh(handle));
        run!(self, reply, |operations| operations.fsync(by, node, fh, datasync) => |()| reply.ok());
    }

    fn opendir(&self, req: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let (by, node) = (asker(req), node(ino));
        run!(self, reply, |operations| operations.opendir(by, node) => |(fh, flags)| {
            reply.opened(FileHandle(fh.0), open_flags(flags));
        });
    }

    fn readdir(&self, req: &Request, ino: INodeNo, handle: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let (by, node, fh) = (asker(req), node(ino), fh(handle));
        run!(self, reply, |operations| operations.readdir(by, node, fh, offset, &mut reply) => |()| reply.ok());
    }

    fn readdirplus(&self, req: &Request, ino: INodeNo, handle: FileHandle, offset: u64, mut reply: ReplyDirectoryPlus) {
        let (by, node, fh) = (asker(req), node(ino), fh(handle));
        run!(self, reply, |operations| operations.readdir(by, node, fh, offset, &mut reply) => |()| reply.ok());
    }

    fn releasedir(&self, _: &Request, _: INodeNo, handle: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        self.operations.releasedir(fh(handle));
        reply.ok();
    }

    fn fsyncdir(&self, req: &Request, ino: INodeNo, handle: FileHandle, _: bool, reply: ReplyEmpty) {
        let (by, node, fh) = (asker(req), node(ino), fh(handle));
        run!(self, reply, |operations| operations.fsyncdir(by, node, fh) => |()| reply.ok());
    }

    fn statfs(&self, req: &Request, ino: INodeNo, reply: ReplyStatfs) {
        let (by, node) = (asker(req), node(ino));
        run!(self, reply, |operations| operations.statfs(by, node) => |stat| {
            let (block, name_max) = (stat.block_bytes, stat.name_bytes_max);
            reply.statfs(stat.blocks, stat.free, stat.available, stat.files, stat.files_free, block, name_max, block);
        });
    }

    fn setxattr(&self, req: &Request, ino: INodeNo, name: &OsStr, value: &[u8], flags: i32, _: u32, reply: ReplyEmpty) {
        let (by, node, name, value) = (asker(req), node(ino), bytes(name), Box::<[u8]>::from(value));
        run!(self, reply, |operations| operations.setxattr(by, node, &name, &value, flags) => |()| reply.ok());
    }

    fn getxattr(&self, req: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let (by, node, name) = (asker(req), node(ino), bytes(name));
        run!(self, reply, |operations| operations.getxattr(by, node, &name, size) => |answer| xattr(reply, answer));
    }

    fn listxattr(&self, req: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        let (by, node) = (asker(req), node(ino));
        run!(self, reply, |operations| operations.listxattr(by, node, size) => |answer| xattr(reply, answer));
    }

    fn removexattr(&self, req: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (by, node, name) = (asker(req), node(ino), bytes(name));
        run!(self, reply, |operations| operations.removexattr(by, node, &name) => |()| reply.ok());
    }

    fn access(&self, req: &Request, ino: INodeNo, mask: AccessFlags, reply: ReplyEmpty) {
        let (by, node, mask) = (asker(req), node(ino), mask.bits().cast_unsigned());
        run!(self, reply, |operations| operations.access(by, node, mask) => |()| reply.ok());
    }

    fn getlk(
        &self,
        req: &Request,
        ino: INodeNo,
        handle: FileHandle,
        owner: LockOwner,
        start: u64,
        end: u64,
        kind: i32,
        pid: u32,
        reply: ReplyLock,
    ) {
        let Some(lock) = lock(start, end, kind, pid) else {
            return reply.error(errno(Errno::INVAL));
        };
        let (by, node, fh, owner) = (asker(req), node(ino), fh(handle), Owner(owner.0));
        let request = LockRequest {
            node,
            fh,
            owner,
            lock,
            flock: false,
            wait: false,
        };
        run!(self, reply, |operations| operations.getlk(by, request) => |held| {
            reply.locked(held.start, held.end, lock_type(held.kind), held.pid);
        });
    }

    fn setlk(
        &self,
        req: &Request,
        ino: INodeNo,
        handle: FileHandle,
        owner: LockOwner,
        start: u64,
        end: u64,
        kind: i32,
        pid: u32,
        wait: bool,
        reply: ReplyEmpty,
    ) {
        let Some(lock) = lock(start, end, kind, pid) else {
            return reply.error(errno(Errno::INVAL));
        };
        let (by, node, fh, owner) = (asker(req), node(ino), fh(handle), Owner(owner.0));
        let request = LockRequest {
            node,
            fh,
            owner,
            lock,
            flock: false,
            wait,
        };
        run!(self, reply, |operations| operations.setlk(by, request) => |()| reply.ok());
    }

    fn fallocate(
        &self,
        req: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let (by, node, fh) = (asker(req), node(ino), fh(handle));
        run!(self, reply, |operations| operations.fallocate(by, node, fh, offset, length, mode) => |()| reply.ok());
    }

    fn lseek(&self, req: &Request, ino: INodeNo, handle: FileHandle, offset: i64, whence: i32, reply: ReplyLseek) {
        let (by, node, fh) = (asker(req), node(ino), fh(handle));
        run!(self, reply, |operations| operations.lseek(by, node, fh, offset, whence) => |at| reply.offset(at));
    }

    fn copy_file_range(
        &self,
        req: &Request,
        ino_in: INodeNo,
        fh_in: FileHandle,
        offset_in: u64,
        ino_out: INodeNo,
        fh_out: FileHandle,
        offset_out: u64,
        length: u64,
        flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let (by, node_in) = (asker(req), node(ino_in));
        let range = CopyRange {
            source: (fh(fh_in), offset_in),
            target: (fh(fh_out), offset_out),
            target_node: node(ino_out),
            // The answer has 32 bits; the caller comes back for the rest.
            length: length.min(u64::from(u32::MAX)),
            flags: flags.bits(),
        };
        run!(self, reply, |operations| operations.copy_file_range(by, node_in, range) => |copied| {
            reply.written(u32::try_from(copied).unwrap_or(u32::MAX));
        });
    }

    fn ioctl(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: IoctlFlags,
        _: u32,
        _: &[u8],
        _: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(errno(Errno::NOTTY));
    }
}
