//! One method per request of the kernel.

use super::reply::{Answer, answer, errno, file_type, nanoseconds};
use super::{KernelFs, identity, remember};
use crate::vfs::Changes;
use alluxio_proto::types::FileKind;
use bytes::Bytes;
use fuser::*;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Largest request for data; the kernel's own bound is `fs.fuse.max_pages_limit`.
const MAX_WRITE_BYTES: u32 = 1 << 20;
/// Block size that statfs counts in.
const STATFS_BLOCK_BYTES: u64 = 4096;
const GENERATION: Generation = Generation(0);

/// Binds what every operation needs: `op!(self, req, operation, inode, reply, |vfs, caller| future => |value| answer)`.
macro_rules! op {
    ($self:ident, $req:ident, $name:literal, $inode:expr, $reply:ident, |$vfs:ident, $caller:ident| $call:expr => |$value:pat_param| $answer:expr) => {{
        let ($vfs, $caller) = (Arc::clone(&$self.vfs), $self.identity.caller($req.uid(), $req.gid()));
        let inode = $inode;
        $self.run(async move {
            match $call.await {
                Ok($value) => $answer,
                Err(error) => $reply.error(errno($name, inode, &error)),
            }
        });
    }};
}

impl KernelFs {
    /// Answers an entry, which the kernel counts as a look-up.
    fn entry(&self) -> impl Fn(&crate::Vfs, &alluxio_proto::types::Attr, ReplyEntry) + Send + 'static {
        let (translator, known) = (self.translator(), Arc::clone(&self.known));
        move |vfs, attr, reply| {
            remember(&known, attr.inode);
            reply.entry(&vfs.ttl(attr), &translator.attr(attr), GENERATION);
        }
    }
}

impl Filesystem for KernelFs {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let wanted = [
            InitFlags::FUSE_ASYNC_DIO,
            InitFlags::FUSE_ATOMIC_O_TRUNC,
            InitFlags::FUSE_CACHE_SYMLINKS,
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_READDIRPLUS_AUTO,
            InitFlags::FUSE_PARALLEL_DIROPS,
        ];
        for flag in wanted {
            // A kernel without one works, only slower.
            let _ = config.add_capabilities(flag);
        }
        if self.vfs.is_passthrough() {
            let depth =
                config.add_capabilities(InitFlags::FUSE_PASSTHROUGH).is_ok() && config.set_max_stack_depth(1).is_ok();
            if !depth {
                self.vfs
                    .disable_passthrough("the kernel has none; it came with Linux 6.9");
            }
        }
        // Each takes the largest value that the kernel allows.
        let _ = config.set_max_write(MAX_WRITE_BYTES);
        let _ = config.set_max_readahead(MAX_WRITE_BYTES);
        let _ = config.set_max_background(self.options.max_background);
        Ok(())
    }

    fn lookup(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let (parent, name, entry) = (self.inode(parent), name.to_owned(), self.entry());
        op!(self, req, "lookup", parent, reply, |vfs, caller| vfs.lookup(&caller, parent, name.as_bytes()) => |attr| entry(&vfs, &attr, reply));
    }

    fn forget(&self, _: &Request, ino: INodeNo, nlookup: u64) {
        let inode = self.inode(ino);
        let mut known = self.known.lock();
        if let Some(count) = known.get_mut(&inode) {
            *count = count.saturating_sub(nlookup);
            if *count == 0 {
                known.remove(&inode);
            }
        }
    }

    fn getattr(&self, req: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let (inode, translator) = (self.inode(ino), self.translator());
        op!(self, req, "getattr", inode, reply, |vfs, caller| vfs.getattr(&caller, inode) => |attr| reply.attr(&vfs.ttl(&attr), &translator.attr(&attr)));
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
        _: Option<SystemTime>,
        fh: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let (inode, translator) = (self.inode(ino), self.translator());
        let now = |time: &Option<TimeOrNow>| matches!(time, None | Some(TimeOrNow::Now));
        let changes = Changes {
            mode: mode.map(|mode| mode & 0o7777),
            owner: uid.map(identity::user_name),
            group: gid.map(identity::group_name),
            size,
            times_now: (atime.is_some() || mtime.is_some()) && now(&atime) && now(&mtime),
            atime_ns: atime.map(nanoseconds),
            mtime_ns: mtime.map(nanoseconds),
        };
        let fh = fh.map(|fh| fh.0);
        op!(self, req, "setattr", inode, reply, |vfs, caller| vfs.setattr(&caller, inode, changes, fh) => |attr| reply.attr(&vfs.ttl(&attr), &translator.attr(&attr)));
    }

    fn readlink(&self, req: &Request, ino: INodeNo, reply: ReplyData) {
        let inode = self.inode(ino);
        op!(self, req, "readlink", inode, reply, |vfs, caller| vfs.readlink(&caller, inode) => |target| reply.data(&target));
    }

    fn mknod(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        let (parent, name, entry) = (self.inode(parent), name.to_owned(), self.entry());
        let kind = match mode & libc::S_IFMT {
            libc::S_IFREG | 0 => FileKind::File,
            libc::S_IFIFO => FileKind::Fifo,
            libc::S_IFSOCK => FileKind::Socket,
            libc::S_IFCHR => FileKind::CharDevice,
            libc::S_IFBLK => FileKind::BlockDevice,
            _ => return reply.error(Errno::EINVAL),
        };
        op!(self, req, "mknod", parent, reply, |vfs, caller| vfs.mknod(&caller, parent, name.as_bytes(), kind, mode & 0o7777, u64::from(rdev)) => |attr| entry(&vfs, &attr, reply));
    }

    fn mkdir(&self, req: &Request, parent: INodeNo, name: &OsStr, mode: u32, _umask: u32, reply: ReplyEntry) {
        let (parent, name, entry) = (self.inode(parent), name.to_owned(), self.entry());
        op!(self, req, "mkdir", parent, reply, |vfs, caller| vfs.mkdir(&caller, parent, name.as_bytes(), mode & 0o7777) => |attr| entry(&vfs, &attr, reply));
    }

    fn unlink(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (parent, name) = (self.inode(parent), name.to_owned());
        op!(self, req, "unlink", parent, reply, |vfs, caller| vfs.unlink(&caller, parent, name.as_bytes()) => |()| reply.ok());
    }

    fn rmdir(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (parent, name) = (self.inode(parent), name.to_owned());
        op!(self, req, "rmdir", parent, reply, |vfs, caller| vfs.rmdir(&caller, parent, name.as_bytes()) => |()| reply.ok());
    }

    fn symlink(&self, req: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let (parent, name, entry) = (self.inode(parent), name.to_owned(), self.entry());
        let target = target.as_os_str().as_bytes().to_vec();
        op!(self, req, "symlink", parent, reply, |vfs, caller| vfs.symlink(&caller, parent, name.as_bytes(), &target) => |attr| entry(&vfs, &attr, reply));
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
        let (from, to) = (self.inode(parent), self.inode(newparent));
        let (name, new_name) = (name.to_owned(), newname.to_owned());
        op!(self, req, "rename", from, reply, |vfs, caller| vfs.rename(&caller, (from, name.as_bytes()), (to, new_name.as_bytes()), flags.bits()) => |()| reply.ok());
    }

    fn link(&self, _: &Request, _: INodeNo, _: INodeNo, _: &OsStr, reply: ReplyEntry) {
        // As on file systems without hard links.
        reply.error(Errno::EPERM);
    }

    fn open(&self, req: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let inode = self.inode(ino);
        let (vfs, caller) = (Arc::clone(&self.vfs), self.identity.caller(req.uid(), req.gid()));
        self.run(async move {
            let opened = match vfs.open(&caller, inode, flags.0).await {
                Ok(handle) => answer(&vfs, handle, |file| reply.open_backing(file)).await,
                Err(error) => Err(error),
            };
            match opened {
                Ok((fh, Answer::Passthrough(flags, id))) => reply.opened_passthrough(fh, flags, &id),
                Ok((fh, Answer::Daemon(flags))) => reply.opened(fh, flags),
                Err(error) => reply.error(errno("open", inode, &error)),
            }
        });
    }

    fn create(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let (parent, name, translator, known) = (
            self.inode(parent),
            name.to_owned(),
            self.translator(),
            Arc::clone(&self.known),
        );
        let (vfs, caller) = (Arc::clone(&self.vfs), self.identity.caller(req.uid(), req.gid()));
        self.run(async move {
            let created = match vfs.create(&caller, parent, name.as_bytes(), mode & 0o7777, flags).await {
                Ok((attr, handle)) => answer(&vfs, handle, |file| reply.open_backing(file))
                    .await
                    .map(|opened| (attr, opened)),
                Err(error) => Err(error),
            };
            match created {
                Ok((attr, (fh, opened))) => {
                    remember(&known, attr.inode);
                    let (ttl, kernel_attr) = (vfs.ttl(&attr), translator.attr(&attr));
                    match opened {
                        Answer::Passthrough(flags, id) => {
                            reply.created_passthrough(&ttl, &kernel_attr, GENERATION, fh, flags, &id)
                        }
                        Answer::Daemon(flags) => reply.created(&ttl, &kernel_attr, GENERATION, fh, flags),
                    }
                }
                Err(error) => reply.error(errno("create", parent, &error)),
            }
        });
    }

    fn read(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        op!(self, req, "read", ino.0, reply, |vfs, _caller| vfs.read_at(fh.0, offset, u64::from(size)) => |data| reply.data(&data));
    }

    fn write(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let data = Bytes::copy_from_slice(data);
        op!(self, req, "write", ino.0, reply, |vfs, _caller| vfs.write_at(fh.0, offset, data) => |written| reply.written(written as u32));
    }

    fn flush(&self, req: &Request, ino: INodeNo, fh: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        op!(self, req, "flush", ino.0, reply, |vfs, _caller| vfs.flush(fh.0) => |()| reply.ok());
    }

    fn release(
        &self,
        _: &Request,
        ino: INodeNo,
        fh: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        let (vfs, inode) = (Arc::clone(&self.vfs), self.inode(ino));
        self.run(async move {
            vfs.release(fh.0).await;
            reply.ok();
            vfs.spawn_linger(inode);
        });
    }

    fn fsync(&self, req: &Request, ino: INodeNo, fh: FileHandle, datasync: bool, reply: ReplyEmpty) {
        op!(self, req, "fsync", ino.0, reply, |vfs, _caller| vfs.fsync(fh.0, datasync) => |()| reply.ok());
    }

    fn opendir(&self, req: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let inode = self.inode(ino);
        op!(self, req, "opendir", inode, reply, |vfs, caller| vfs.opendir(&caller, inode) => |(fh, keep)| {
            let mut flags = FopenFlags::FOPEN_CACHE_DIR;
            flags.set(FopenFlags::FOPEN_KEEP_CACHE, keep);
            reply.opened(FileHandle(fh), flags);
        });
    }

    fn readdir(&self, req: &Request, ino: INodeNo, fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let translator = self.translator();
        let (vfs, caller, inode) = (
            Arc::clone(&self.vfs),
            self.identity.caller(req.uid(), req.gid()),
            self.inode(ino),
        );
        self.run(async move {
            let result = async {
                let (own, parent) = vfs.dir_inodes(fh.0)?;
                let dots = [(1, own, "."), (2, parent, "..")];
                for (next, inode, name) in dots.into_iter().skip(usize::try_from(offset).unwrap_or(2)) {
                    if reply.add(translator.ino(inode), next, FileType::Directory, name) {
                        return Ok(());
                    }
                }
                for entry in vfs.readdir(&caller, fh.0, offset.saturating_sub(2)).await? {
                    let kind = file_type(entry.attr.kind());
                    if reply.add(
                        translator.ino(entry.attr.inode),
                        entry.next + 2,
                        kind,
                        OsStr::from_bytes(&entry.name),
                    ) {
                        break;
                    }
                }
                Ok(())
            };
            match result.await {
                Ok(()) => reply.ok(),
                Err(error) => reply.error(errno("readdir", inode, &error)),
            }
        });
    }

    fn readdirplus(&self, req: &Request, ino: INodeNo, fh: FileHandle, offset: u64, mut reply: ReplyDirectoryPlus) {
        let (translator, known) = (self.translator(), Arc::clone(&self.known));
        let (vfs, caller, inode) = (
            Arc::clone(&self.vfs),
            self.identity.caller(req.uid(), req.gid()),
            self.inode(ino),
        );
        self.run(async move {
            let result = async {
                let (own, parent) = vfs.dir_inodes(fh.0)?;
                let dots = [(1, own, "."), (2, parent, "..")];
                for (next, inode, name) in dots.into_iter().skip(usize::try_from(offset).unwrap_or(2)) {
                    // The kernel takes no attributes from these two, but wants to see a directory.
                    let attr = alluxio_proto::types::Attr {
                        inode,
                        kind: FileKind::Directory as i32,
                        ..Default::default()
                    };
                    if reply.add(
                        translator.ino(inode),
                        next,
                        name,
                        &Duration::ZERO,
                        &translator.attr(&attr),
                        GENERATION,
                    ) {
                        return Ok(());
                    }
                }
                for entry in vfs.readdir(&caller, fh.0, offset.saturating_sub(2)).await? {
                    let (ttl, attr) = (vfs.ttl(&entry.attr), translator.attr(&entry.attr));
                    if reply.add(
                        attr.ino,
                        entry.next + 2,
                        OsStr::from_bytes(&entry.name),
                        &ttl,
                        &attr,
                        GENERATION,
                    ) {
                        break;
                    }
                    remember(&known, entry.attr.inode);
                }
                Ok(())
            };
            match result.await {
                Ok(()) => reply.ok(),
                Err(error) => reply.error(errno("readdirplus", inode, &error)),
            }
        });
    }

    fn releasedir(&self, _: &Request, _: INodeNo, fh: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        self.vfs.releasedir(fh.0);
        reply.ok();
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        // Every change of names was durable when it was answered.
        reply.ok();
    }

    fn statfs(&self, req: &Request, ino: INodeNo, reply: ReplyStatfs) {
        let inode = self.inode(ino);
        op!(self, req, "statfs", inode, reply, |vfs, caller| vfs.statfs(&caller, inode) => |stat| {
            let (total, free) = (stat.total_bytes / STATFS_BLOCK_BYTES, stat.free_bytes / STATFS_BLOCK_BYTES);
            let block = STATFS_BLOCK_BYTES as u32;
            reply.statfs(total, free, free, stat.files, u64::from(u32::MAX), block, 255, block);
        });
    }

    // ENOSYS tells the kernel not to ask again; it answers EOPNOTSUPP by itself. Without that, each write would ask for
    // security.capability first.

    fn setxattr(&self, _: &Request, _: INodeNo, _: &OsStr, _: &[u8], _: i32, _: u32, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn getxattr(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, reply: ReplyXattr) {
        reply.error(Errno::ENOSYS);
    }

    fn listxattr(&self, _: &Request, _: INodeNo, _: u32, reply: ReplyXattr) {
        reply.error(Errno::ENOSYS);
    }

    fn removexattr(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn fallocate(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        op!(self, req, "fallocate", ino.0, reply, |vfs, _caller| vfs.fallocate(fh.0, offset, length, mode) => |()| reply.ok());
    }

    // ENOSYS makes the kernel do these by itself, once and for all.

    fn lseek(&self, _: &Request, _: INodeNo, _: FileHandle, _: i64, _: i32, reply: ReplyLseek) {
        reply.error(Errno::ENOSYS);
    }

    fn copy_file_range(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        _: u64,
        _: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        reply.error(Errno::ENOSYS);
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
        reply.error(Errno::ENOTTY);
    }
}
