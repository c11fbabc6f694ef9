//! Open files.
//!
//! One [`OpenInode`] for each inode that this mount has open. The kernel allows one way of IO per inode at a time: either
//! all opens pass through to one local file, or all go through the daemon. The first open decides, later ones follow until
//! the last is closed.

use super::atimes::reads_unseen;
use super::inode::{Handle, OpenInode, OpenState};
use super::lease::Wanted;
use super::local::{LocalFile, same_file};
use super::retries::ROUNDS_MAX;
use super::{NewNode, Vfs};
use alluxio_common::descriptors;
use alluxio_proto::master::{Create, Open, Opened, ReadSource, Tmpfile};
use alluxio_proto::types::{Attr, Caller, WorkerAddress};
use alluxio_proto::worker::{Answered, OpenRead};
use alluxio_proto::{ErrorKind, FsError, FsResult};
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// `__FMODE_EXEC` of linux/fs.h: the file is opened to be executed. FUSE hands it on among the flags of open(2).
const FMODE_EXEC: i32 = 0x20;

/// How often a file is tried that is busy, and the pause between: the kernel does not wait for the end of the last close.
const BUSY_ROUNDS: u32 = 20;
const BUSY_PAUSE: std::time::Duration = std::time::Duration::from_millis(50);

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

/// A file that was not opened.
struct Refused {
    error: FsError,
    /// Its home watches it, and opens it for this as soon as its writers have closed it.
    is_until_closed: bool,
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

/// How often one opening meets an object that somebody has replaced once more.
const CHANGES_MAX: u32 = 4;

impl Vfs {
    /// Opens a file; `flags` as in open(2).
    ///
    /// # Errors
    /// `NotFound`, `ReadOnly`, `Unavailable` if no worker can be reached, …
    pub async fn open(&self, caller: &Caller, node: u64, flags: i32) -> FsResult<OpenedHandle> {
        let inode = self.nodes.inode_of(node);
        let wants_write = flags & libc::O_ACCMODE != libc::O_RDONLY || flags & libc::O_TRUNC != 0;
        if wants_write && self.options.read_only {
            return Err(FsError::new(
                ErrorKind::ReadOnly,
                "open for writing: the mount is read-only (-o ro)",
            ));
        }
        if flags & libc::O_TRUNC != 0 {
            // A program that has ended is executed no more, though its last close may be on its way.
            self.closes_done(inode).await;
            self.check_not_executed(node)?;
            self.kill_privileges(caller, inode).await?;
        }
        let mut patience = BUSY_ROUNDS;
        loop {
            match self.open_once(caller, (inode, node), flags, wants_write).await {
                // The last close of who wrote it may be on its way.
                Err(refused) if refused.is_until_closed && patience > 0 => patience -= 1,
                other => return other.map_err(|refused| refused.error),
            }
            tokio::time::sleep(BUSY_PAUSE).await;
        }
    }

    async fn open_once(
        &self,
        caller: &Caller,
        (inode, node): (u64, u64),
        flags: i32,
        wants_write: bool,
    ) -> Result<OpenedHandle, Refused> {
        let open = self.open_inode(inode, node);
        let mut state = open.transition().await;
        if let Err(error) = self.check_newest(node) {
            self.forget_if_unused(&open, &state);
            return Err(Refused {
                error,
                is_until_closed: false,
            });
        }
        let result = if wants_write {
            self.open_for_writing(caller, &open, &mut state, Wanted::of(flags))
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
                let is_watched = state.write.as_ref().is_some_and(|write| write.is_watched);
                Err(Refused {
                    is_until_closed: error.kind == ErrorKind::Busy && is_watched,
                    error,
                })
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
        for _ in 0..ROUNDS_MAX {
            let seen = self.changes_seen();
            match self.change(caller, create.clone()).await {
                Ok(opened) => return self.created(seen, opened, flags).await,
                // Without O_EXCL somebody else's file of this name is as good.
                Err(error) if error.kind == ErrorKind::AlreadyExists && flags & libc::O_EXCL == 0 => {}
                Err(error) => return Err(error),
            }
            match self.open_existing(caller, &new, flags).await {
                // It went meanwhile, or was replaced.
                Err(error) if matches!(error.kind, ErrorKind::NotFound | ErrorKind::Gone) => {}
                other => return other,
            }
        }
        let why = format!(
            "create in directory {}: the name is another file's all the time",
            new.parent
        );
        Err(FsError::new(ErrorKind::Stale, why))
    }

    async fn open_existing(&self, caller: &Caller, new: &NewNode<'_>, flags: i32) -> FsResult<(Attr, OpenedHandle)> {
        let attr = self.lookup(caller, new.parent, new.name).await?;
        let handle = self.open(caller, self.nodes.newest(attr.inode), flags).await?;
        Ok((attr, handle))
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
        let opened: Opened = self.change(caller, make).await?;
        self.created(seen, opened, flags).await
    }

    /// Opens what was just made.
    async fn created(&self, seen: u64, opened: Opened, flags: i32) -> FsResult<(Attr, OpenedHandle)> {
        let attr = opened.attr.clone().ok_or_else(|| incomplete("Create"))?;
        self.remember(seen, &attr);
        let open = self.open_inode(attr.inode, attr.inode);
        let mut state = open.transition().await;
        let wanted = Wanted {
            truncate: true,
            ..Wanted::of(flags)
        };
        match self.adopt_lease(&open, &mut state, opened, wanted).await {
            Ok(data) => {
                if let Some(write) = &mut state.write {
                    write.as_created = Some(write.opened);
                    // Until something is written its times are those that the master gave it.
                    write.created_ns = attr.mtime_ns;
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
    fn check_not_executed(&self, node: u64) -> FsResult<()> {
        let handles = self.handles.read();
        match handles
            .values()
            .any(|handle| handle.executes && handle.inode.node == node)
        {
            true => Err(FsError::new(
                ErrorKind::TextBusy,
                format!(
                    "truncate inode {}: a program is running from it",
                    self.nodes.inode_of(node)
                ),
            )),
            false => Ok(()),
        }
    }

    fn open_inode(&self, id: u64, node: u64) -> Arc<OpenInode> {
        let mut inodes = self.inodes.lock();
        let new = || Arc::new(OpenInode::new(id, node));
        Arc::clone(inodes.entry(node).or_insert_with(new))
    }

    /// Drops an inode that nobody has open. The caller holds its state, so nobody is about to open it through the same
    /// object but those who wait for the lock: they keep the object, and put it back.
    pub(super) fn forget_if_unused(&self, open: &Arc<OpenInode>, state: &OpenState) {
        let mut inodes = self.inodes.lock();
        // Map, caller, and nobody else.
        let unused = state.opens == 0 && state.write.is_none() && Arc::strong_count(open) <= 2;
        if unused && inodes.get(&open.node).is_some_and(|known| Arc::ptr_eq(known, open)) {
            inodes.remove(&open.node);
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
            write.known_mapped = false;
            write.may_be_mapped |= flags & libc::O_ACCMODE == libc::O_RDWR;
        }
        let append = flags & libc::O_APPEND != 0;
        let data = data.for_appending(writable && append);
        let fh = self.new_handle();
        if flags & FMODE_EXEC != 0 {
            self.closing.is_needed();
        }
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
        self.handles.write().insert(fh, Arc::new(handle));
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
        let open_id = self.reads.begin(open.id);
        let request = Open {
            inode: open.id,
            read: true,
            open_id,
            ..Default::default()
        };
        let opened: Opened = match self.read(caller, request).await {
            Ok(opened) => opened,
            Err(error) => {
                self.open_failed(open.id, open_id, &error).await;
                return Err(error);
            }
        };
        let result = self.read_path(open, state, opened).await;
        match &result {
            Ok(_) => state.master_opens.push(open_id),
            Err(_) => self.close_at_master(open.id, open_id).await,
        }
        result
    }

    async fn read_path(&self, open: &Arc<OpenInode>, state: &mut OpenState, opened: Opened) -> FsResult<DataPath> {
        if state.write.is_some() {
            return self.writers_path(open.id, state, false).await;
        }
        let mtime_ns = opened.attr.as_ref().map_or(0, |attr| attr.mtime_ns);
        if let Some(lease) = opened.write {
            // What those have who opened it before is not what is written on another host.
            let has_old = match &state.local {
                Some(_) => state.foreign_lease.is_none(),
                None => !state.follows(),
            };
            if state.opens > 0 && has_old {
                let is_here = match &lease.home {
                    Some(home) => self.workers.find_out(home).await,
                    None => false,
                };
                if !is_here {
                    return Err(self.supersede(open, state));
                }
            }
            // Read through its home, uncached. Joining by its local file would make this mount a writer that nobody closes.
            state.foreign_lease = Some(Arc::new(lease));
            return Ok(self.shared_path(state, false));
        }
        let source = opened.read.unwrap_or_default();
        let same = state.source.version == source.version && state.source.length == source.length;
        if state.opens > 0 && same {
            (state.foreign_lease, state.source_is_old) = (None, false);
            (state.source, state.mtime_ns) = (Arc::new(source), mtime_ns);
            return Ok(self.shared_path(state, true));
        }
        let keep_cache = self.closed.lock().get(&open.node) == Some(&source.version);
        let local = match (&state.local, source.length) {
            (Some(file), 0) if state.opens > 0 && file.stamp()?.length == 0 => Some(Arc::clone(file)),
            // An empty file is not worth a descriptor, and workers do not keep it.
            (None, 0) => None,
            _ => match self.complete_local_file(open.id, &source).await {
                // The kernel asks once more, and no oftener: what is in the way of the new version is said at once.
                Err(error) if error.kind == ErrorKind::Stale && state.opens > 0 => {
                    return Err(self.supersede(open, state));
                }
                other => other?,
            },
        };
        let is_same = same_file(state.local.as_ref(), local.as_ref())?;
        if state.opens > 0 {
            // It is another version, or was evicted and fetched again: the kernel cannot have both by one node at once, neither
            // two local files nor pages of two.
            let may_go_on = match &state.local {
                Some(_) => is_same,
                None => state.follows(),
            };
            if !may_go_on {
                return Err(self.supersede(open, state));
            }
        } else {
            state.local = local;
        }
        (state.foreign_lease, state.source_is_old) = (None, false);
        state.mtime_ns = mtime_ns;
        state.source = Arc::new(source);
        Ok(self.shared_path(state, keep_cache))
    }

    /// The way that the inode's opens share.
    pub(super) fn shared_path(&self, state: &OpenState, keep_cache: bool) -> DataPath {
        match &state.local {
            Some(file) => DataPath::Local(Arc::clone(file)),
            None => {
                let direct =
                    state.foreign_lease.is_some() || state.write.as_ref().is_some_and(|write| !write.home.is_local);
                DataPath::Daemon { keep_cache, direct }
            }
        }
    }

    /// The worker on this host among those that have a version, if its descriptors are of use.
    async fn worker_here<'a>(&self, source: &'a ReadSource) -> Option<&'a WorkerAddress> {
        if !self.is_passthrough() {
            return None;
        }
        // Mostly it is known, which costs no future.
        let known = source.workers.iter().find(|address| self.workers.is_local(address));
        if known.is_some() {
            return known;
        }
        for address in &source.workers {
            if self.workers.find_out(address).await {
                return Some(address);
            }
        }
        None
    }

    /// A descriptor of the committed version, if a worker on this host has all of it. Whoever is to fetch it looks at its object
    /// first, so that an opening, and not the first read, meets another one.
    ///
    /// # Errors
    /// `Stale`: the object is another one, and the master knows that now.
    async fn complete_local_file(&self, inode: u64, source: &ReadSource) -> FsResult<Option<Arc<LocalFile>>> {
        self.local_file_after(inode, source, CHANGES_MAX).await
    }

    async fn local_file_after(
        &self,
        inode: u64,
        source: &ReadSource,
        changes_left: u32,
    ) -> FsResult<Option<Arc<LocalFile>>> {
        let here = self.worker_here(source).await;
        let is_stored = source.ufs.is_some();
        let fetches = is_stored && !source.is_whole;
        let Some(address) = here.or_else(|| source.workers.first().filter(|_| fetches)) else {
            return Ok(None);
        };
        let request = OpenRead {
            inode,
            source: Some(without_workers(source)),
            want_fd: here.is_some(),
            verify: false,
            check_source: is_stored,
        };
        let answer = match self.workers.worker(address).await {
            Ok(worker) => worker.transfer(request, Bytes::new()).await,
            Err(error) => Err(error),
        };
        match answer {
            // It is as well read through the daemon: slower, and without a descriptor of ours for each open file.
            Ok(Answered { fd: Some(fd), .. }) if descriptors::are_scarce(&fd) => Ok(None),
            Ok(Answered { fd: Some(fd), .. }) => Ok(Some(LocalFile::new(fd))),
            Ok(_) => Ok(None),
            // The kernel looks the name up anew when it hears this, and opens what is there now with its length. It does so once: so
            // what it is to find is made sure of here, while somebody replaces the object again.
            Err(error) if error.kind == ErrorKind::VersionMismatch => {
                let opened = self.report_change(inode, source.version).await?;
                let newer = opened.read.filter(|newer| newer.version != source.version);
                if let Some(newer) = newer.filter(|_| changes_left > 0) {
                    // Whatever comes of it, the version that was asked for is gone.
                    Box::pin(self.local_file_after(inode, &newer, changes_left - 1)).await?;
                }
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
}

/// A source for a question to a worker, to which it is nothing who else has it.
pub(super) fn without_workers(source: &ReadSource) -> ReadSource {
    ReadSource {
        version: source.version,
        length: source.length,
        workers: Vec::new(),
        ufs: source.ufs.clone(),
        older: source.older.clone(),
        older_version: source.older_version,
        is_whole: source.is_whole,
    }
}

pub(super) fn incomplete(what: &str) -> FsError {
    FsError::new(
        ErrorKind::Internal,
        format!("the answer to {what} lacks what it must have"),
    )
}
