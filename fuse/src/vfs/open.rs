//! Open files.
//!
//! One [`OpenInode`] for each inode that this mount has open. The kernel allows one way of IO per inode at a time: either
//! all opens pass through to one local file, or all go through the daemon. The first open decides, later ones follow until
//! the last is closed.

use super::atimes::reads_unseen;
use super::{NewNode, Vfs};
use alluxio_common::sync::Mutex;
use alluxio_proto::master::{Close, Create, Empty, Op, Open, Opened, ReadSource, Tmpfile, WriteLease};
use alluxio_proto::types::{Attr, Caller, WorkerAddress, WriteType};
use alluxio_proto::worker::{OpenRead, OpenWrite, OpenedFile, StatOpen, WorkerReplyBody, WorkerRequest};
use alluxio_proto::{ErrorKind, FsError, FsResult, WorkerApi, WorkerResponse};
use bytes::Bytes;
use std::any::Any;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

/// A worker's local file, with what the kernel was told about it.
pub struct LocalFile {
    /// Read-write where the worker allows it, so that a writer can join the readers.
    pub file: File,
    writable: bool,
    /// Whatever the transport keeps with it (the backing id): dropped with the last open.
    pub kernel: OnceLock<Box<dyn Any + Send + Sync>>,
}

/// `__FMODE_EXEC` of linux/fs.h: the file is opened to be executed. FUSE hands it on among the flags of open(2).
const FMODE_EXEC: i32 = 0x20;

impl LocalFile {
    fn new(fd: OwnedFd) -> FsResult<Arc<LocalFile>> {
        let (file, writable) = reopen_writable(File::from(fd));
        Ok(Arc::new(LocalFile {
            file,
            writable,
            kernel: OnceLock::new(),
        }))
    }

    /// Length and mtime now.
    pub(super) fn stamp(&self) -> FsResult<Stamp> {
        Ok(self.look()?.stamp)
    }

    /// What fstat says of it now.
    fn look(&self) -> FsResult<Seen> {
        let meta = self
            .file
            .metadata()
            .map_err(|error| FsError::from_io("fstat a worker's file", &error))?;
        let stamp = Stamp {
            length: meta.len(),
            mtime_ns: meta.mtime() * 1_000_000_000 + meta.mtime_nsec(),
        };
        Ok(Seen {
            stamp,
            ctime_ns: meta.ctime() * 1_000_000_000 + meta.ctime_nsec(),
            hole_bytes: meta.len().saturating_sub(meta.blocks() * 512),
        })
    }
}

/// Whether both are there and descriptors of one file.
fn same_file(one: Option<&Arc<LocalFile>>, other: Option<&Arc<LocalFile>>) -> FsResult<bool> {
    let identity = |local: &LocalFile| {
        let meta = local.file.metadata();
        meta.map(|meta| (meta.dev(), meta.ino()))
            .map_err(|error| FsError::from_io("fstat a worker's file", &error))
    };
    match (one, other) {
        (Some(one), Some(other)) => Ok(identity(one)? == identity(other)?),
        _ => Ok(false),
    }
}

/// The kernel wants one backing file for readers and writers, so readers get a descriptor that can write. Permission was
/// checked on the FUSE inode. Where the file may not be opened so, writers cannot join.
fn reopen_writable(file: File) -> (File, bool) {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let writable =
        fcntl(&file, FcntlArg::F_GETFL).is_ok_and(|flags| OFlag::from_bits_truncate(flags).contains(OFlag::O_RDWR));
    if writable {
        return (file, true);
    }
    match File::options()
        .read(true)
        .write(true)
        .open(format!("/proc/self/fd/{}", file.as_raw_fd()))
    {
        Ok(again) => (again, true),
        Err(_) => (file, false),
    }
}

/// What shows that a local file changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub length: u64,
    pub mtime_ns: i64,
}

/// What the home's file says of itself.
struct Seen {
    stamp: Stamp,
    ctime_ns: i64,
    /// How much of the length is holes.
    hole_bytes: u64,
}

/// The open version, from the first writer of this mount to the last.
pub(super) struct WriteState {
    pub version: u64,
    pub home: Arc<dyn WorkerApi>,
    pub address: WorkerAddress,
    pub home_is_local: bool,
    pub write_type: WriteType,
    pub writers: u32,
    /// As of the last commit, or of the opening of a file that keeps its content; `None`: never committed.
    pub committed: Option<Stamp>,
    /// What it looked like when it was opened.
    pub opened: Stamp,
    /// Of a file that was made by this opening and never committed: what it looked like then.
    pub fresh: Option<Stamp>,
    /// The master's mtime of a fresh file, which stays as long as nothing is written.
    pub created_ns: i64,
    /// Its home knows that it was closed while it was as `fresh` says.
    pub closed_empty: bool,
    /// As of the last fsync.
    pub durable: Option<Stamp>,
    /// Something was written through the daemon since the last commit.
    pub dirty: bool,
}

/// State of an open inode. Held over calls of the worker, so that opens, commits and the last close take turns.
#[derive(Default)]
pub(super) struct OpenState {
    /// Opens by handle, of any kind.
    pub opens: u32,
    /// Opens for reading that the master knows of.
    pub master_opens: u32,
    /// Set: all opens pass through to it.
    pub local: Option<Arc<LocalFile>>,
    pub source: ReadSource,
    /// What was written here is committed and closed since `source` was told: the master knows the newer one.
    pub source_is_old: bool,
    /// The version is being written by another mount: its home serves reads of it.
    pub foreign_lease: Option<WriteLease>,
    pub write: Option<WriteState>,
    /// Another mount has written what is committed, so that what the kernel has cached is not true.
    pub pages_are_old: bool,
    /// Grows when the data becomes another file's: what was read before must not be continued.
    pub epoch: u64,
}

/// What getattr needs to know of a file that is written here, without waiting for a commit.
#[derive(Clone)]
pub(super) struct Live {
    pub local: Option<Arc<LocalFile>>,
    pub home: Arc<dyn WorkerApi>,
    pub version: u64,
    /// As [`WriteState::committed`], or [`WriteState::fresh`]: the master's attributes are right.
    pub committed: Option<Stamp>,
}

impl Live {
    /// Attributes with what the local file knows better. While it is as it was when it was opened or committed, that is
    /// nothing: its own times are those of the download, or of the opening.
    fn overlay(&self, attr: &mut Attr, now: &Seen) {
        if self.committed != Some(now.stamp) {
            (attr.size, attr.mtime_ns) = (now.stamp.length, now.stamp.mtime_ns);
            attr.ctime_ns = attr.ctime_ns.max(now.ctime_ns);
            attr.hole_bytes = now.hole_bytes;
        }
    }
}

pub(super) struct OpenInode {
    pub id: u64,
    pub state: tokio::sync::Mutex<OpenState>,
    pub live: Mutex<Option<Live>>,
}

/// One open file.
pub(super) struct Handle {
    pub inode: Arc<OpenInode>,
    pub writable: bool,
    pub append: bool,
    /// Its reads do not move atime.
    pub noatime: bool,
    /// A program runs from it.
    pub executes: bool,
    /// Identifies the sequence of reads, for read-ahead.
    pub stream: u64,
    pub epoch: u64,
    /// Length of the version that was opened, as the kernel knows it.
    pub length: u64,
    pub has_read: AtomicBool,
}

/// How the kernel is to read and write.
pub enum DataPath {
    /// By itself, on this file.
    Local(Arc<LocalFile>),
    /// By asking the daemon.
    Daemon {
        /// Pages cached at the last open are still true.
        keep_cache: bool,
        /// Nothing may be cached: another host writes the file.
        direct: bool,
    },
}

/// An open file.
pub struct OpenedHandle {
    /// Handle.
    pub fh: u64,
    /// How to read and write.
    pub data: DataPath,
    /// No flush is needed at close.
    pub no_flush: bool,
}

/// Leases asked for in one open, each after the home had lost what the lease was based on.
const LEASE_ROUNDS_MAX: u32 = 3;

impl Vfs {
    /// Opens a file; `flags` as in open(2).
    ///
    /// # Errors
    /// `NotFound`, `ReadOnly`, `Unavailable` if no worker can be reached, …
    pub async fn open(&self, caller: &Caller, inode: u64, flags: i32) -> FsResult<OpenedHandle> {
        let wants_write = flags & libc::O_ACCMODE != libc::O_RDONLY || flags & libc::O_TRUNC != 0;
        if wants_write && self.options.read_only {
            return Err(FsError::new(
                ErrorKind::ReadOnly,
                "open for writing: the mount is read-only (-o ro)",
            ));
        }
        if flags & libc::O_TRUNC != 0 {
            self.check_not_executed(inode)?;
            self.kill_privileges(caller, inode).await?;
        }
        let open = self.open_inode(inode);
        let mut state = open.state.lock().await;
        let result = if wants_write {
            self.open_for_writing(caller, &open, &mut state, flags & libc::O_TRUNC != 0)
                .await
        } else {
            self.open_for_reading(caller, &open, &mut state).await
        };
        match result {
            Ok(data) => {
                if reads_unseen(flags, &data) {
                    self.note_access(inode);
                }
                Ok(self.add_handle(&open, &mut state, wants_write, flags, data))
            }
            Err(error) => {
                self.forget_if_unused(&open, &state);
                Err(error)
            }
        }
    }

    /// Creates a file and opens it for writing.
    ///
    /// # Errors
    /// `AlreadyExists`, `AccessDenied`, `Unavailable` if there is no worker, …
    pub async fn create(&self, caller: &Caller, new: NewNode<'_>, flags: i32) -> FsResult<(Attr, OpenedHandle)> {
        let create = Create {
            parent: new.parent,
            name: Bytes::copy_from_slice(new.name),
            mode: new.mode,
            open: true,
            write_type: self.options.write_type as i32,
            block_bytes: 0,
            umask: new.umask,
        };
        let seen = self.changes_seen();
        let opened: Opened = match self.change(caller, Op::Create(create)).await {
            // Without O_EXCL somebody else's file of this name is as good.
            Err(error) if error.kind == ErrorKind::AlreadyExists && flags & libc::O_EXCL == 0 => {
                let attr = self.lookup(caller, new.parent, new.name).await?;
                let handle = self.open(caller, attr.inode, flags).await?;
                return Ok((attr, handle));
            }
            other => other?,
        };
        self.created(seen, opened, flags).await
    }

    /// Creates a file without a name and opens it for writing (O_TMPFILE); the name in `new` is not used. O_EXCL: it will
    /// never have one.
    ///
    /// # Errors
    /// `AccessDenied`, `Unavailable` if there is no worker, …
    pub async fn tmpfile(&self, caller: &Caller, new: NewNode<'_>, flags: i32) -> FsResult<(Attr, OpenedHandle)> {
        let make = Tmpfile {
            parent: new.parent,
            mode: new.mode,
            umask: new.umask,
            write_type: self.options.write_type as i32,
            block_bytes: 0,
            never_linked: flags & libc::O_EXCL != 0,
        };
        let seen = self.changes_seen();
        let opened: Opened = self.change(caller, Op::Tmpfile(make)).await?;
        self.created(seen, opened, flags).await
    }

    /// Opens what was just made.
    async fn created(&self, seen: u64, opened: Opened, flags: i32) -> FsResult<(Attr, OpenedHandle)> {
        let attr = opened.attr.clone().ok_or_else(|| incomplete("Create"))?;
        self.remember(seen, &attr);
        let open = self.open_inode(attr.inode);
        let mut state = open.state.lock().await;
        match self.adopt_lease(&open, &mut state, opened, true).await {
            Ok(data) => {
                if let Some(write) = &mut state.write {
                    write.fresh = Some(write.opened);
                    write.created_ns = attr.mtime_ns;
                    // Until something is written its times are those that the master gave it.
                    if let Some(live) = open.live.lock().as_mut() {
                        live.committed = write.fresh;
                    }
                }
                Ok((attr, self.add_handle(&open, &mut state, true, flags, data)))
            }
            Err(error) => {
                self.forget_if_unused(&open, &state);
                Err(error)
            }
        }
    }

    /// The kernel refuses to open a running program for writing before it asks us, but O_TRUNC of an opening for reading it
    /// refuses when we have done it already.
    fn check_not_executed(&self, inode: u64) -> FsResult<()> {
        let handles = self.handles.lock();
        match handles
            .values()
            .any(|handle| handle.executes && handle.inode.id == inode)
        {
            true => Err(FsError::new(
                ErrorKind::TextBusy,
                format!("truncate inode {inode}: a program is running from it"),
            )),
            false => Ok(()),
        }
    }

    fn open_inode(&self, id: u64) -> Arc<OpenInode> {
        let mut inodes = self.inodes.lock();
        let new = || {
            Arc::new(OpenInode {
                id,
                state: tokio::sync::Mutex::default(),
                live: Mutex::default(),
            })
        };
        Arc::clone(inodes.entry(id).or_insert_with(new))
    }

    /// Drops an inode that nobody has open. The caller holds its state, so nobody is about to open it through the same
    /// object but those who wait for the lock: they keep the object, and put it back.
    pub(super) fn forget_if_unused(&self, open: &Arc<OpenInode>, state: &OpenState) {
        let mut inodes = self.inodes.lock();
        // Map, caller, and nobody else.
        let unused = state.opens == 0 && state.write.is_none() && Arc::strong_count(open) <= 2;
        if unused && inodes.get(&open.id).is_some_and(|known| Arc::ptr_eq(known, open)) {
            inodes.remove(&open.id);
        }
    }

    fn add_handle(
        &self,
        open: &Arc<OpenInode>,
        state: &mut OpenState,
        writable: bool,
        flags: i32,
        data: DataPath,
    ) -> OpenedHandle {
        state.opens += 1;
        if let Some(write) = state.write.as_mut().filter(|_| writable) {
            write.writers += 1;
        }
        let append = flags & libc::O_APPEND != 0;
        let data = data.for_appending(writable && append);
        let fh = self.new_handle();
        let handle = Handle {
            inode: Arc::clone(open),
            writable,
            append,
            noatime: flags & libc::O_NOATIME != 0,
            executes: flags & FMODE_EXEC != 0,
            stream: fh,
            epoch: state.epoch,
            length: state.source.length,
            has_read: AtomicBool::new(false),
        };
        self.handles.lock().insert(fh, Arc::new(handle));
        OpenedHandle {
            fh,
            data,
            no_flush: !writable && !self.locks.needs_flush(open.id),
        }
    }

    async fn open_for_reading(
        &self,
        caller: &Caller,
        open: &Arc<OpenInode>,
        state: &mut OpenState,
    ) -> FsResult<DataPath> {
        let request = Op::Open(Open {
            inode: open.id,
            read: true,
            ..Default::default()
        });
        let opened: Opened = self.read(caller, request).await?;
        state.master_opens += 1;
        let result = self.read_path(open, state, opened).await;
        if result.is_err() {
            state.master_opens -= 1;
            self.close_at_master(open.id).await;
        }
        result
    }

    async fn read_path(&self, open: &Arc<OpenInode>, state: &mut OpenState, opened: Opened) -> FsResult<DataPath> {
        if state.write.is_some() {
            return self.writers_path(open.id, state).await;
        }
        if let Some(lease) = opened.write {
            // Read through its home, uncached. Joining by its local file would make this mount a writer that nobody closes.
            state.foreign_lease = Some(lease);
            return Ok(self.shared_path(state, false));
        }
        state.foreign_lease = None;
        state.source_is_old = false;
        let source = opened.read.unwrap_or_default();
        let same = state.source.version == source.version && state.source.length == source.length;
        if state.opens > 0 && same {
            state.source = source;
            return Ok(self.shared_path(state, true));
        }
        let keep_cache = self.closed.lock().get(&open.id) == Some(&source.version);
        let local = match (&state.local, source.length) {
            (Some(file), 0) if state.opens > 0 && file.stamp()?.length == 0 => Some(Arc::clone(file)),
            // An empty file is not worth a descriptor, and workers do not keep it.
            (None, 0) => None,
            _ => self.complete_local_file(open.id, &source).await?,
        };
        let is_same = same_file(state.local.as_ref(), local.as_ref())?;
        match (&state.local, local) {
            (_, local) if state.opens == 0 => state.local = local,
            // The local file was evicted and fetched again, or is another version: the kernel cannot have both at once.
            (Some(_), _) if !is_same => {
                let why = format!(
                    "open inode {}: an older version of it is still open on this host; close that first",
                    open.id
                );
                return Err(FsError::new(ErrorKind::Stale, why));
            }
            _ => {}
        }
        if state.opens > 0 {
            state.epoch += 1;
        }
        state.source = source;
        Ok(self.shared_path(state, keep_cache))
    }

    /// The way that the inode's opens share.
    pub(super) fn shared_path(&self, state: &OpenState, keep_cache: bool) -> DataPath {
        match &state.local {
            Some(file) => DataPath::Local(Arc::clone(file)),
            None => {
                let direct =
                    state.foreign_lease.is_some() || state.write.as_ref().is_some_and(|write| !write.home_is_local);
                DataPath::Daemon { keep_cache, direct }
            }
        }
    }

    /// A descriptor of the committed version, if a worker on this host has all of it.
    async fn complete_local_file(&self, inode: u64, source: &ReadSource) -> FsResult<Option<Arc<LocalFile>>> {
        let usable = self.is_passthrough();
        let Some(address) = source
            .workers
            .iter()
            .find(|address| usable && self.workers.is_local(address))
        else {
            return Ok(None);
        };
        let request = OpenRead {
            inode,
            // Who else has it is nothing to a worker.
            source: Some(ReadSource {
                version: source.version,
                length: source.length,
                workers: Vec::new(),
                ufs: source.ufs.clone(),
                older: source.older.clone(),
                older_version: source.older_version,
            }),
            want_fd: true,
            verify: false,
        };
        let answer = match self.workers.worker(address).await {
            Ok(worker) => worker.call(request.into(), Bytes::new()).await,
            Err(error) => Err(error),
        };
        match answer {
            Ok(WorkerResponse { fd: Some(fd), .. }) => LocalFile::new(fd).map(Some),
            Ok(_) => Ok(None),
            // The kernel looks the name up anew when it hears this, and opens what is there now with its length.
            Err(error) if error.kind == ErrorKind::VersionMismatch => {
                self.report_change(inode, source.version).await?;
                let why = format!("open inode {inode}: it is another one in the under-storage now");
                Err(FsError::new(ErrorKind::Stale, why))
            }
            // The read itself will find a way, or say why there is none.
            Err(error) => {
                tracing::debug!(%error, inode, "open at the local worker");
                Ok(None)
            }
        }
    }

    async fn open_for_writing(
        &self,
        caller: &Caller,
        open: &Arc<OpenInode>,
        state: &mut OpenState,
        truncate: bool,
    ) -> FsResult<DataPath> {
        if let Some(write) = &mut state.write {
            // A writer of this mount has it open: everybody writes the one open version.
            if truncate {
                let request = alluxio_proto::worker::SetLength {
                    inode: open.id,
                    version: write.version,
                    length: 0,
                };
                write.home.call(request.into(), Bytes::new()).await?;
                write.dirty = true;
            }
            return self.writers_path(open.id, state).await;
        }
        let request = Open {
            inode: open.id,
            read: false,
            write: true,
            truncate,
            write_type: self.options.write_type as i32,
        };
        for round in 1.. {
            self.settle(open.id).await?;
            let opened = self.change(caller, Op::Open(request.clone())).await;
            let opened: Opened = opened.inspect_err(|error| self.doubt_open(open.id, error))?;
            match self.adopt_lease(open, state, opened, truncate).await {
                // Persisted and evicted since the master was asked: now it says where it is in the under-storage.
                Err(error) if error.kind == ErrorKind::DataLost && round < LEASE_ROUNDS_MAX => {
                    tracing::debug!(%error, inode = open.id, "the home has the file no more; asking again");
                }
                other => return other,
            }
        }
        Err(incomplete("Open"))
    }

    /// Makes or joins the open version at its home.
    async fn adopt_lease(
        &self,
        open: &Arc<OpenInode>,
        state: &mut OpenState,
        opened: Opened,
        truncate: bool,
    ) -> FsResult<DataPath> {
        let result = self.try_adopt(open, state, opened, truncate).await;
        if result.is_err() {
            state.write = None;
            *open.live.lock() = None;
            self.close_write_at_master(open.id, true).await;
        }
        result
    }

    async fn try_adopt(
        &self,
        open: &Arc<OpenInode>,
        state: &mut OpenState,
        opened: Opened,
        truncate: bool,
    ) -> FsResult<DataPath> {
        let lease = opened.write.ok_or_else(|| incomplete("Open"))?;
        let address = lease.home.clone().ok_or_else(|| incomplete("Open"))?;
        let home = self.workers.worker(&address).await?;
        let home_is_local = self.workers.is_local(&address);
        let may_pass = self.is_passthrough() && home_is_local && (state.opens == 0 || state.local.is_some());
        let (version, write_type) = (
            lease.version,
            WriteType::try_from(lease.write_type).unwrap_or(WriteType::AsyncThrough),
        );
        let request: WorkerRequest = OpenWrite {
            inode: open.id,
            lease: Some(lease),
            truncate,
            want_fd: may_pass,
            needs_fd: state.local.is_some(),
        }
        .into();
        let response = home.call(request, Bytes::new()).await?;
        let WorkerReplyBody::OpenedFile(OpenedFile { length, mtime_ns, .. }) = response.reply else {
            return Err(incomplete("OpenWrite"));
        };
        let local = response.fd.map(LocalFile::new).transpose()?;
        let is_same = same_file(state.local.as_ref(), local.as_ref())?;
        match (&state.local, local) {
            (None, Some(file)) if state.opens == 0 => state.local = Some(file),
            (Some(old), Some(_)) if is_same && old.writable => {}
            (Some(_), _) => {
                let why = format!(
                    "open inode {} for writing: an older version of it is still open on this host; close that first",
                    open.id
                );
                return Err(FsError::new(ErrorKind::Busy, why));
            }
            (None, _) => {}
        }
        state.foreign_lease = None;
        let as_opened = match &state.local {
            Some(file) => file.stamp()?,
            None => Stamp { length, mtime_ns },
        };
        // Content that was there before and is kept needs no commit until it changes.
        let committed = (!truncate).then_some(as_opened);
        *open.live.lock() = Some(Live {
            local: state.local.clone(),
            home: Arc::clone(&home),
            version,
            committed,
        });
        state.write = Some(WriteState {
            version,
            home,
            address,
            home_is_local,
            write_type,
            writers: 0,
            committed,
            opened: as_opened,
            fresh: None,
            created_ns: 0,
            closed_empty: false,
            durable: None,
            dirty: false,
        });
        Ok(self.shared_path(state, true))
    }

    /// The kernel could not take the local file: this open, the first of its inode, goes through the daemon instead.
    pub async fn demote(&self, fh: u64) -> FsResult<DataPath> {
        let handle = self.handle(fh)?;
        let mut state = handle.inode.state.lock().await;
        if state.local.as_ref().is_some_and(|file| file.kernel.get().is_none()) {
            state.local = None;
            if let Some(live) = handle.inode.live.lock().as_mut() {
                live.local = None;
            }
            if let Some(write) = &mut state.write {
                // Changes are no longer seen by fstat.
                write.dirty = write.committed.is_none();
            }
        }
        Ok(self
            .shared_path(&state, false)
            .for_appending(handle.writable && handle.append))
    }

    /// Tells the master of a close of what was read. Failing is not the closer's concern: the session's end closes everything.
    pub(super) async fn close_at_master(&self, inode: u64) {
        let close = Op::Close(Close {
            inode,
            write: false,
            abandon: false,
        });
        let result: FsResult<Empty> = self.master.once(&self.own_caller(), close).await;
        if let Err(error) = result {
            tracing::info!(%error, inode, "close at the master; it will be closed with the session");
        }
    }
}

impl OpenInode {
    /// Length and mtime of a file that is written here are those of its local file, and so is ctime once it changed.
    pub async fn patch(&self, attr: &mut Attr) -> FsResult<()> {
        let live = self.live.lock().clone();
        let Some(live) = live else { return Ok(()) };
        if let Some(local) = &live.local {
            live.overlay(attr, &local.look()?);
            return Ok(());
        }
        let request = StatOpen {
            inode: self.id,
            version: live.version,
        };
        match live.home.call(request.into(), Bytes::new()).await {
            Ok(WorkerResponse {
                reply: WorkerReplyBody::OpenStat(stat),
                ..
            }) => {
                let stamp = Stamp {
                    length: stat.length,
                    mtime_ns: stat.mtime_ns,
                };
                let seen = Seen {
                    stamp,
                    ctime_ns: stat.ctime_ns,
                    hole_bytes: stat.hole_bytes,
                };
                live.overlay(attr, &seen);
                Ok(())
            }
            // Sealed meanwhile: the master's attributes are the right ones.
            Ok(_) => Ok(()),
            Err(error) if error.kind == ErrorKind::Stale => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl Handle {
    /// Remembers that data was handed out, which ties the handle to its version. True: it is the first time.
    pub fn note_read(&self) -> bool {
        !self.has_read.swap(true, Ordering::Relaxed)
    }
}

fn incomplete(what: &str) -> FsError {
    FsError::new(
        ErrorKind::Internal,
        format!("the answer to {what} lacks what it must have"),
    )
}
