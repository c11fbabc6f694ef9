//! The operations over the [`Vfs`]: numbers of this host become names of the namespace, errors become errnos.

use super::identity::{Identities, is_refusal};
use super::*;
use crate::transport::{KernelOptions, TransportKind};
use crate::vfs::{Changes, DataPath, LockWanted, NewNode, OpenedHandle, Vfs};
use alluxio_common::lock_ranges::ByteRange;
use alluxio_common::users;
use alluxio_proto::master::{self, LockMode};
use alluxio_proto::types::{Attr, Caller, FileKind};
use alluxio_proto::{FsError, FsResult};
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

/// Block size that stat reports; what programs choose their buffers by.
const STAT_BLOCK_BYTES: u32 = 128 << 10;
/// Block size that statfs counts in.
const STATFS_BLOCK_BYTES: u64 = 4096;
/// Longest name.
/// Inodes that could still be made, as far as statfs tells: nothing bounds them.
const FILES_FREE: u64 = u32::MAX as u64;
const NAME_BYTES_MAX: u32 = 255;
/// What Linux calls the overflow id: an owner whom this host does not know.
const NOBODY: u32 = 65534;
/// Permission bits.
const PERMISSIONS: u32 = 0o7777;
/// Cookies of a listing begin after `.` and `..`.
const DOTS: u64 = 2;

/// Asks in the name of the caller, and once more with the groups of its process if it is refused: `ask!(self, by, |caller| call)`, or
/// with another caller to begin with.
macro_rules! ask {
    ($self:ident, $by:ident, |$caller:ident| $call:expr) => {
        ask!($self, $by, $self.caller($by), |$caller| $call)
    };
    ($self:ident, $by:ident, $first:expr, |$caller:ident| $call:expr) => {{
        let $caller = $first;
        match $call.await {
            Err(error) if is_refusal(&error) => match $self.callers.more_than($by, &$caller) {
                Some($caller) => $call.await,
                None => Err(error),
            },
            other => other,
        }
    }};
}

/// The file system of a mount.
pub struct ServedVfs {
    vfs: Arc<Vfs>,
    options: KernelOptions,
    callers: Identities,
    known: Known,
    no_passthrough: OnceLock<String>,
}

impl ServedVfs {
    /// Why the kernel takes no local files from us, mostly.
    pub const NO_RIGHT: &str = "CAP_SYS_ADMIN is missing";

    /// Serves a vfs as the options say.
    pub fn new(vfs: Arc<Vfs>, options: KernelOptions) -> ServedVfs {
        ServedVfs {
            vfs,
            options,
            callers: Identities::new(),
            known: Known::default(),
            no_passthrough: OnceLock::new(),
        }
    }

    /// What the kernel knows of it.
    pub fn known(&self) -> Known {
        self.known.clone()
    }

    /// Why the kernel takes no local files from us, if it does not.
    pub fn why_no_passthrough(&self) -> &str {
        self.no_passthrough.get().map_or("it is off", String::as_str)
    }

    /// The caller as the name service knows it.
    fn caller(&self, by: Asker) -> Arc<Caller> {
        self.callers.known(by)
    }

    /// The caller of what may depend on its groups without being refused.
    fn caller_of_change(&self, by: Asker, inode: u64, changes: Option<&Changes>) -> Arc<Caller> {
        // Root may do all of it, whatever its groups, and nobody asks what is not known of a file in root's name.
        match by.uid != 0 && self.vfs.minds_groups(inode, changes) {
            true => self.callers.exact(by),
            false => self.callers.known(by),
        }
    }

    /// The errno of an error about what a call named; a kernel that is told to look a name up again will do so at once.
    fn told(&self, by: Asker, operation: &'static str, inode: u64) -> impl FnOnce(FsError) -> Errno {
        move |error| {
            let errno = told(operation, inode)(error);
            if errno == Errno(libc::ESTALE) {
                self.vfs.came_late(by.pid);
            }
            errno
        }
    }

    /// The vfs' number of a node.
    fn number(&self, node: Node) -> u64 {
        if node == Node::ROOT { self.vfs.root() } else { node.0 }
    }

    /// Inode id of a node.
    fn inode(&self, node: Node) -> u64 {
        self.vfs.inode_of(self.number(node))
    }

    /// What something new is to be.
    fn new_node<'a>(&self, new: &NewName<'a>) -> NewNode<'a> {
        NewNode {
            parent: self.inode(new.parent),
            name: new.name,
            mode: new.mode & PERMISSIONS,
            umask: new.umask,
        }
    }

    /// Node of an inode id.
    fn node(&self, inode: u64) -> Node {
        if inode == self.vfs.root() {
            Node::ROOT
        } else {
            Node(inode)
        }
    }

    fn stat(&self, attr: &Attr) -> Stat {
        let uid = || users::name_to_uid(&attr.owner).unwrap_or(NOBODY);
        let gid = || users::name_to_gid(&attr.group).unwrap_or(NOBODY);
        Stat {
            node: self.node(attr.inode).0,
            size: attr.size,
            blocks: attr.size.saturating_sub(attr.hole_bytes).div_ceil(512),
            atime_ns: attr.atime_ns,
            mtime_ns: attr.mtime_ns,
            ctime_ns: attr.ctime_ns,
            btime_ns: attr.btime_ns,
            mode: file_type(attr.kind()) | (attr.mode & PERMISSIONS & !self.options.umask),
            nlink: attr.nlink,
            uid: self.options.uid.unwrap_or_else(uid),
            gid: self.options.gid.unwrap_or_else(gid),
            rdev: attr.rdev as u32,
            blksize: STAT_BLOCK_BYTES,
        }
    }

    fn attributes(&self, attr: &Attr) -> Attributes {
        Attributes {
            stat: self.stat(attr),
            ttl: self.vfs.ttl(attr),
        }
    }

    /// An entry of a directory, which the kernel counts as a look-up.
    fn entry(&self, attr: &Attr, parent: Node, name: &[u8]) -> Entry {
        let entry = self.given(attr);
        self.known.remember(entry.node, Some((parent, name)));
        entry
    }

    /// An entry that the kernel knows from now on.
    fn given(&self, attr: &Attr) -> Entry {
        self.entry_by(self.vfs.node_of(attr.inode), attr)
    }

    fn entry_by(&self, node: u64, attr: &Attr) -> Entry {
        Entry {
            node: self.node(node),
            attributes: self.attributes(attr),
            ttl: self.vfs.entry_ttl(attr),
        }
    }

    /// How an open is answered. Registers the local file with the kernel, or finds what its other opens registered. Where
    /// the kernel cannot take it, the inode goes through the daemon.
    async fn opened<B: Send + Sync + 'static>(
        &self,
        handle: OpenedHandle,
        register: impl Register<B>,
    ) -> FsResult<Opened<B>> {
        let fh = Fh(handle.fh);
        let flags = OpenFlags::default().with(OpenFlags::NOFLUSH, handle.no_flush);
        let data = match handle.data {
            DataPath::Local(file) => {
                if file.kernel.get().is_none() {
                    match register(&file.file) {
                        // Somebody else may have been faster: then theirs is the inode's, and ours is closed.
                        Ok(backing) => drop(file.kernel.set(Box::new(Arc::new(backing)))),
                        Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
                            self.lacks_passthrough(Self::NO_RIGHT);
                        }
                        Err(error) => tracing::debug!(%error, "register a backing file; it goes through the daemon"),
                    }
                }
                let kept = file.kernel.get().and_then(|kept| kept.downcast_ref::<Arc<B>>());
                if let Some(backing) = kept.cloned() {
                    let backing = Some(backing);
                    return Ok(Opened { fh, flags, backing });
                }
                self.vfs.demote(handle.fh).await?
            }
            daemon @ DataPath::Daemon { .. } => daemon,
        };
        let flags = match data {
            DataPath::Daemon { keep_cache, direct } => flags
                .with(OpenFlags::KEEP_CACHE, keep_cache && !direct)
                .with(OpenFlags::DIRECT_IO, direct),
            DataPath::Local(_) => flags,
        };
        Ok(Opened {
            fh,
            flags,
            backing: None,
        })
    }
}

impl Operations for ServedVfs {
    fn features(&self) -> Answer<Features> {
        Ok(Features {
            passthrough: self.vfs.is_passthrough(),
            acl: true,
            umask: true,
            kill_privileges: true,
            // Over fuser nobody who waits could be interrupted, and flock could not be told from fcntl.
            locks: self.options.transport == TransportKind::Dev,
            max_background: self.options.max_background,
        })
    }

    fn lacks_passthrough(&self, why: &str) {
        self.no_passthrough.get_or_init(|| why.to_owned());
        self.vfs.disable_passthrough(why);
    }

    // Names.

    async fn lookup(&self, by: Asker, dir: Node, name: &[u8]) -> Answer<Entry> {
        let parent = self.inode(dir);
        let found = ask!(self, by, |caller| self.vfs.lookup_for(&caller, by.pid, parent, name));
        found
            .map(|attr| self.entry(&attr, dir, name))
            .map_err(self.told(by, "lookup", parent))
    }

    fn forget(&self, node: Node, lookups: u64) {
        if self.known.forget(node, lookups) {
            self.vfs.forgotten(self.number(node));
        }
    }

    async fn readlink(&self, by: Asker, node: Node) -> Answer<Bytes> {
        let inode = self.inode(node);
        let target = ask!(self, by, |caller| self.vfs.readlink(&caller, inode));
        target.map_err(self.told(by, "readlink", inode))
    }

    async fn symlink(&self, by: Asker, dir: Node, name: &[u8], target: &[u8]) -> Answer<Entry> {
        let parent = self.inode(dir);
        let made = ask!(self, by, |caller| self.vfs.symlink(&caller, parent, name, target));
        made.map(|attr| self.entry(&attr, dir, name))
            .map_err(self.told(by, "symlink", parent))
    }

    async fn mknod(&self, by: Asker, new: NewName<'_>, rdev: u32) -> Answer<Entry> {
        let parent = self.inode(new.parent);
        let kind = match new.mode & libc::S_IFMT {
            libc::S_IFREG | 0 => FileKind::File,
            libc::S_IFIFO => FileKind::Fifo,
            libc::S_IFSOCK => FileKind::Socket,
            libc::S_IFCHR => FileKind::CharDevice,
            libc::S_IFBLK => FileKind::BlockDevice,
            _ => return Err(Errno::INVAL),
        };
        let made = ask!(self, by, |caller| self.vfs.mknod(
            &caller,
            self.new_node(&new),
            kind,
            u64::from(rdev)
        ));
        made.map(|attr| self.entry(&attr, new.parent, new.name))
            .map_err(self.told(by, "mknod", parent))
    }

    async fn mkdir(&self, by: Asker, new: NewName<'_>) -> Answer<Entry> {
        let parent = self.inode(new.parent);
        let made = ask!(self, by, |caller| self.vfs.mkdir(&caller, self.new_node(&new)));
        made.map(|attr| self.entry(&attr, new.parent, new.name))
            .map_err(self.told(by, "mkdir", parent))
    }

    async fn unlink(&self, by: Asker, parent: Node, name: &[u8]) -> Answer<()> {
        let parent = self.inode(parent);
        let gone = ask!(self, by, |caller| self.vfs.unlink(&caller, parent, name));
        gone.map_err(self.told(by, "unlink", parent))
    }

    async fn rmdir(&self, by: Asker, parent: Node, name: &[u8]) -> Answer<()> {
        let parent = self.inode(parent);
        let gone = ask!(self, by, |caller| self.vfs.rmdir(&caller, parent, name));
        gone.map_err(self.told(by, "rmdir", parent))
    }

    async fn rename(&self, by: Asker, from: (Node, &[u8]), to: (Node, &[u8]), flags: u32) -> Answer<()> {
        let (from, to) = ((self.inode(from.0), from.1), (self.inode(to.0), to.1));
        let renamed = ask!(self, by, |caller| self.vfs.rename(&caller, from, to, flags));
        renamed.map_err(self.told(by, "rename", from.0))
    }

    async fn link(&self, by: Asker, node: Node, dir: Node, name: &[u8]) -> Answer<Entry> {
        let (inode, parent) = (self.inode(node), self.inode(dir));
        let linked = ask!(self, by, |caller| self.vfs.link(&caller, inode, parent, name));
        linked
            .map(|attr| self.entry(&attr, dir, name))
            .map_err(self.told(by, "link", inode))
    }

    // Attributes.

    async fn getattr(&self, by: Asker, node: Node, _: Option<Fh>) -> Answer<Attributes> {
        let inode = self.inode(node);
        let attr = ask!(self, by, |caller| self.vfs.getattr(&caller, self.number(node)));
        attr.map(|attr| self.attributes(&attr))
            .map_err(self.told(by, "getattr", inode))
    }

    async fn setattr(&self, by: Asker, node: Node, set: SetAttributes) -> Answer<Attributes> {
        let inode = self.inode(node);
        let now = |time| matches!(time, None | Some(SetTime::Now));
        let changes = Changes {
            mode: set.mode.map(|mode| mode & PERMISSIONS),
            owner: set.uid.map(users::uid_to_name),
            group: set.gid.map(users::gid_to_name),
            size: set.size,
            times_now: (set.atime.is_some() || set.mtime.is_some()) && now(set.atime) && now(set.mtime),
            atime_ns: set.atime.map(nanoseconds),
            mtime_ns: set.mtime.map(nanoseconds),
            kill_priv: is_nothing(&set),
        };
        let fh = set.fh.map(|fh| fh.0);
        let first = self.caller_of_change(by, inode, Some(&changes));
        let attr = ask!(self, by, first, |caller| self.vfs.setattr(
            &caller,
            self.number(node),
            changes.clone(),
            fh
        ));
        attr.map(|attr| self.attributes(&attr))
            .map_err(self.told(by, "setattr", inode))
    }

    async fn setxattr(&self, by: Asker, node: Node, name: &[u8], value: &[u8], flags: i32) -> Answer<()> {
        let inode = self.inode(node);
        // Bits that there are none of are refused by the master.
        let set = ask!(self, by, |caller| self.vfs.set_xattr(
            &caller,
            inode,
            name,
            value,
            flags as u32
        ));
        set.map_err(self.told(by, "setxattr", inode))
    }

    async fn getxattr(&self, by: Asker, node: Node, name: &[u8], size: u32) -> Answer<Xattr> {
        let inode = self.inode(node);
        let found = ask!(self, by, |caller| self.vfs.get_xattr(&caller, inode, name));
        sized(found.map_err(self.told(by, "getxattr", inode))?, size)
    }

    async fn listxattr(&self, by: Asker, node: Node, size: u32) -> Answer<Xattr> {
        let inode = self.inode(node);
        let found = ask!(self, by, |caller| self.vfs.list_xattrs(&caller, inode));
        sized(found.map_err(self.told(by, "listxattr", inode))?, size)
    }

    async fn removexattr(&self, by: Asker, node: Node, name: &[u8]) -> Answer<()> {
        let inode = self.inode(node);
        let removed = ask!(self, by, |caller| self.vfs.remove_xattr(&caller, inode, name));
        removed.map_err(self.told(by, "removexattr", inode))
    }

    async fn statfs(&self, by: Asker, node: Node) -> Answer<Capacity> {
        let inode = self.inode(node);
        let stat = ask!(self, by, |caller| self.vfs.statfs(&caller, inode));
        let stat = stat.map_err(self.told(by, "statfs", inode))?;
        Ok(Capacity {
            blocks: stat.total_bytes / STATFS_BLOCK_BYTES,
            free: stat.free_bytes / STATFS_BLOCK_BYTES,
            available: stat.available_bytes.unwrap_or(stat.free_bytes) / STATFS_BLOCK_BYTES,
            block_bytes: STATFS_BLOCK_BYTES as u32,
            // All there is room for, of which so many are free: `df -i` subtracts.
            files: stat.files.saturating_add(FILES_FREE),
            files_free: FILES_FREE,
            name_bytes_max: NAME_BYTES_MAX,
        })
    }

    // Files.

    async fn open<B: Send + Sync + 'static>(
        &self,
        by: Asker,
        node: Node,
        flags: i32,
        register: impl Register<B>,
    ) -> Answer<Opened<B>> {
        let inode = self.inode(node);
        let first = match flags & libc::O_TRUNC {
            0 => self.caller(by),
            _ => self.caller_of_change(by, inode, None),
        };
        let opened = match ask!(self, by, first, |caller| self.vfs.open(
            &caller,
            self.number(node),
            flags
        )) {
            Ok(handle) => self.opened(handle, register).await,
            Err(error) => Err(error),
        };
        opened.map_err(self.told(by, "open", inode))
    }

    async fn create<B: Send + Sync + 'static>(
        &self,
        by: Asker,
        new: NewName<'_>,
        flags: i32,
        register: impl Register<B>,
    ) -> Answer<(Entry, Opened<B>)> {
        let created = match ask!(self, by, |caller| self.vfs.create(&caller, self.new_node(&new), flags)) {
            Ok((attr, handle)) => self.opened(handle, register).await.map(|opened| (attr, opened)),
            Err(error) => Err(error),
        };
        let (attr, opened) = created.map_err(self.told(by, "create", self.inode(new.parent)))?;
        Ok((self.entry(&attr, new.parent, new.name), opened))
    }

    async fn tmpfile<B: Send + Sync + 'static>(
        &self,
        by: Asker,
        new: NewName<'_>,
        flags: i32,
        register: impl Register<B>,
    ) -> Answer<(Entry, Opened<B>)> {
        let created = match ask!(self, by, |caller| self.vfs.tmpfile(&caller, self.new_node(&new), flags)) {
            Ok((attr, handle)) => self.opened(handle, register).await.map(|opened| (attr, opened)),
            Err(error) => Err(error),
        };
        let (attr, opened) = created.map_err(self.told(by, "tmpfile", self.inode(new.parent)))?;
        let entry = self.given(&attr);
        self.known.remember(entry.node, None);
        Ok((entry, opened))
    }

    async fn read(&self, _: Asker, node: Node, fh: Fh, offset: u64, length: u32) -> Answer<Bytes> {
        let data = self.vfs.patiently(|| self.vfs.read_at(fh.0, offset, u64::from(length)));
        data.await.map_err(told("read", node.0))
    }

    async fn write(&self, by: Asker, node: Node, fh: Fh, offset: u64, data: Bytes) -> Answer<u32> {
        let inode = self.inode(node);
        let caller = self.caller_of_change(by, inode, None);
        let written = self.vfs.write_as(&caller, inode, fh.0, offset, data).await;
        // A request is far smaller than 4 GiB.
        written
            .map(|bytes| bytes as u32)
            .map_err(self.told(by, "write", node.0))
    }

    fn closing(&self, node: Node, fh: Fh) {
        self.vfs.note_closing(self.inode(node), fh.0);
    }

    async fn flush(&self, _: Asker, node: Node, fh: Fh, owner: Owner) -> Answer<()> {
        let closed = self.vfs.close_descriptor(self.inode(node), fh.0, owner.0).await;
        closed.map_err(told("flush", node.0))
    }

    async fn release(&self, _: Node, fh: Fh, _: Option<Owner>) -> Answer<()> {
        self.vfs.close_file(fh.0).await;
        Ok(())
    }

    async fn fsync(&self, _: Asker, node: Node, fh: Fh, data_only: bool) -> Answer<()> {
        self.vfs.fsync(fh.0, data_only).await.map_err(told("fsync", node.0))
    }

    async fn fallocate(&self, _: Asker, node: Node, fh: Fh, offset: u64, length: u64, mode: i32) -> Answer<()> {
        let allocated = self.vfs.fallocate(fh.0, offset, length, mode).await;
        allocated.map_err(told("fallocate", node.0))
    }

    async fn lseek(&self, _: Asker, node: Node, fh: Fh, offset: i64, whence: i32) -> Answer<i64> {
        let hole = match whence {
            libc::SEEK_DATA => false,
            libc::SEEK_HOLE => true,
            // The kernel does the others by itself.
            _ => return Err(Errno::INVAL),
        };
        let offset = u64::try_from(offset).map_err(|_| Errno(libc::ENXIO))?;
        let found = self.vfs.patiently(|| self.vfs.seek(fh.0, offset, hole));
        let found = found.await.map_err(told("lseek", node.0))?;
        found.and_then(|at| i64::try_from(at).ok()).ok_or(Errno(libc::ENXIO))
    }

    async fn copy_file_range(&self, by: Asker, _: Node, range: CopyRange) -> Answer<u64> {
        let inode = self.inode(range.target_node);
        if range.flags != 0 {
            return Err(Errno::INVAL);
        }
        let (from, to) = (range.source, range.target);
        let (from, to) = ((from.0.0, from.1), (to.0.0, to.1));
        let caller = self.caller_of_change(by, inode, None);
        let copied = self.vfs.copy_as(&caller, inode, from, to, range.length).await;
        copied.map_err(self.told(by, "copy_file_range", inode))
    }

    // Directories.

    async fn opendir(&self, by: Asker, node: Node) -> Answer<(Fh, OpenFlags)> {
        let inode = self.inode(node);
        let opened = ask!(self, by, |caller| self.vfs.opendir(&caller, inode));
        let (fh, keep) = opened.map_err(self.told(by, "opendir", inode))?;
        Ok((Fh(fh), OpenFlags::CACHE_DIR.with(OpenFlags::KEEP_CACHE, keep)))
    }

    async fn readdir(&self, by: Asker, node: Node, fh: Fh, cookie: u64, listing: &mut impl Listing) -> Answer<()> {
        let failed = |error| self.told(by, "readdir", node.0)(error);
        let (own, parent) = self.vfs.dir_inodes(fh.0).map_err(failed)?;
        let dots: [(u64, u64, &[u8]); 2] = [(1, own, b"."), (DOTS, parent, b"..")];
        for (next, inode, name) in dots.into_iter().skip(usize::try_from(cookie).unwrap_or(usize::MAX)) {
            // The kernel takes no attributes from these two, but wants to see a directory.
            let mut entry = Entry::default();
            entry.attributes.stat.node = self.node(inode).0;
            entry.attributes.stat.mode = libc::S_IFDIR;
            let listed = Listed {
                name,
                next,
                entry: &entry,
                is_dot: true,
            };
            if !listing.add(&listed) {
                return Ok(());
            }
        }
        let entries = ask!(self, by, |caller| self.vfs.readdir(
            &caller,
            fh.0,
            cookie.saturating_sub(DOTS)
        ));
        for found in entries.map_err(failed)? {
            // Of a plain listing the kernel takes a number for people, and forgets nothing by it.
            let entry = match listing.plus() {
                true => self.given(&found.attr),
                false => self.entry_by(self.vfs.newest_node(found.attr.inode), &found.attr),
            };
            let listed = Listed {
                name: &found.name,
                next: found.next + DOTS,
                entry: &entry,
                is_dot: false,
            };
            if !listing.add(&listed) {
                if listing.plus() && !self.known.has(entry.node) {
                    self.vfs.forgotten(self.number(entry.node));
                }
                break;
            }
            if listing.plus() {
                self.known.remember(entry.node, Some((node, &found.name)));
            }
        }
        Ok(())
    }

    fn releasedir(&self, fh: Fh) {
        self.vfs.releasedir(fh.0);
    }

    // Locks. Release and flush above let go of them.

    async fn getlk(&self, _: Asker, request: LockRequest) -> Answer<Lock> {
        let (inode, asked) = (self.inode(request.node), request.lock);
        let wanted = lock_wanted(inode, &request)?;
        let found = self.vfs.get_lock(wanted).await.map_err(told("getlk", inode))?;
        Ok(found.map_or(
            Lock {
                kind: LockKind::Unlock,
                ..asked
            },
            |lock| Lock {
                start: lock.start,
                end: lock.last,
                kind: match lock.mode() {
                    LockMode::Unlocked => LockKind::Unlock,
                    LockMode::Read => LockKind::Read,
                    LockMode::Write => LockKind::Write,
                },
                pid: lock.pid,
            },
        ))
    }

    async fn setlk(&self, _: Asker, request: LockRequest) -> Answer<()> {
        let inode = self.inode(request.node);
        let wanted = lock_wanted(inode, &request)?;
        let set = self.vfs.set_lock(wanted, request.wait).await;
        set.map_err(told("setlk", inode))
    }
}

fn lock_wanted(inode: u64, request: &LockRequest) -> Answer<LockWanted> {
    let lock = request.lock;
    Ok(LockWanted {
        inode,
        fh: request.fh.0,
        owner: request.owner.0,
        kind: if request.flock {
            master::LockKind::Flock
        } else {
            master::LockKind::Range
        },
        mode: match lock.kind {
            LockKind::Unlock => LockMode::Unlocked,
            LockKind::Read => LockMode::Read,
            LockKind::Write => LockMode::Write,
        },
        range: ByteRange::new(lock.start, lock.end).ok_or(Errno(libc::EINVAL))?,
        pid: lock.pid,
    })
}

/// The errno of an error; logged once, here where it leaves us: what the kernel will not tell the user.
fn told(operation: &'static str, inode: u64) -> impl FnOnce(FsError) -> Errno {
    move |error| {
        let code = crate::vfs::errno(&error);
        match code {
            // Everyday answers.
            libc::ENOENT
            | libc::EEXIST
            | libc::ENOTEMPTY
            | libc::EACCES
            | libc::EPERM
            | libc::EAGAIN
            | libc::ENODATA
            | libc::EXDEV
            | libc::ENAMETOOLONG
            | libc::ESTALE
            | libc::EOPNOTSUPP => {
                tracing::debug!(operation, inode, %error);
            }
            libc::EIO => tracing::warn!(operation, inode, %error, "EIO"),
            _ => tracing::info!(operation, inode, %error),
        }
        Errno(code)
    }
}

/// Whether a setattr changes nothing: so the kernel tells that it wrote to a local file by itself which has setuid, setgid or
/// capabilities, and of a chown to nobody else.
fn is_nothing(set: &SetAttributes) -> bool {
    let times = set.atime.is_some() || set.mtime.is_some() || set.ctime_ns.is_some();
    set.mode.is_none() && set.uid.is_none() && set.gid.is_none() && set.size.is_none() && !times
}

/// An attribute as far as there is room for it.
fn sized(value: Bytes, size: u32) -> Answer<Xattr> {
    let length = u32::try_from(value.len()).map_err(|_| Errno(libc::E2BIG))?;
    match size {
        0 => Ok(Xattr::Size(length)),
        size if length > size => Err(Errno(libc::ERANGE)),
        _ => Ok(Xattr::Data(value)),
    }
}

/// The type as part of a mode.
fn file_type(kind: FileKind) -> u32 {
    match kind {
        FileKind::File => libc::S_IFREG,
        FileKind::Directory => libc::S_IFDIR,
        FileKind::Symlink => libc::S_IFLNK,
        FileKind::Fifo => libc::S_IFIFO,
        FileKind::Socket => libc::S_IFSOCK,
        FileKind::CharDevice => libc::S_IFCHR,
        FileKind::BlockDevice => libc::S_IFBLK,
    }
}

/// A time as nanoseconds since 1970.
fn nanoseconds(time: SetTime) -> i64 {
    match time {
        SetTime::At(ns) => ns,
        SetTime::Now => {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
        }
    }
}
