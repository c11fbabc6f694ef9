//! The disk's process: a FUSE file system with one file, whose power can be cut.
//!
//! It runs apart from the tests, so that a test that dies in the middle of a request leaves nobody waiting: with its standard
//! input closed, this process ends and the connection with it. Commands come as lines, each is answered by one line:
//! `freeze`, `off`, `cut SEED`, `lie`, `truth`.

use super::layer::Layer;
use anyhow::{Context, bail};
use fuser::{
    Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner, OpenFlags,
    ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request, WriteFlags,
};
use std::ffi::OsStr;
use std::io::{BufRead, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

/// Name of the file.
pub const FILE: &str = "disk.img";
const INODE: INodeNo = INodeNo(2);
const TTL: Duration = Duration::from_secs(3600);

/// Whether the disk answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Power {
    On,
    /// The moment of the cut: nothing is answered any more.
    Frozen,
    /// Whoever still asks gets EIO.
    Off,
}

/// A request that is not answered while the disk is frozen.
enum Parked {
    Read(ReplyData),
    Write(ReplyWrite),
    Empty(ReplyEmpty),
}

struct State {
    layer: Layer,
    power: Power,
    parked: Vec<Parked>,
}

struct DiskFs {
    state: Arc<Mutex<State>>,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Parked {
    fn refuse(self) {
        match self {
            Parked::Read(reply) => reply.error(Errno::EIO),
            Parked::Write(reply) => reply.error(Errno::EIO),
            Parked::Empty(reply) => reply.error(Errno::EIO),
        }
    }
}

impl State {
    /// The request, if the disk is on; otherwise it is parked or refused.
    fn admit(&mut self, request: Parked) -> Option<Parked> {
        match self.power {
            Power::On => return Some(request),
            Power::Frozen => self.parked.push(request),
            Power::Off => request.refuse(),
        }
        None
    }
}

impl DiskFs {
    fn attr(&self, ino: INodeNo) -> FileAttr {
        let directory = ino == INodeNo::ROOT;
        let size = lock(&self.state).layer.length().unwrap_or(0);
        FileAttr {
            ino,
            size: if directory { 0 } else { size },
            blocks: size / 512,
            atime: SystemTime::UNIX_EPOCH,
            mtime: SystemTime::UNIX_EPOCH,
            ctime: SystemTime::UNIX_EPOCH,
            crtime: SystemTime::UNIX_EPOCH,
            kind: if directory {
                FileType::Directory
            } else {
                FileType::RegularFile
            },
            perm: if directory { 0o700 } else { 0o600 },
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }

    fn flush_device(&self, reply: ReplyEmpty) {
        let mut state = lock(&self.state);
        if let Some(Parked::Empty(reply)) = state.admit(Parked::Empty(reply)) {
            state.layer.flush();
            reply.ok();
        }
    }
}

fn errno(error: &std::io::Error) -> Errno {
    Errno::from_i32(error.raw_os_error().unwrap_or(libc::EIO))
}

impl Filesystem for DiskFs {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if name == FILE {
            reply.entry(&TTL, &self.attr(INODE), Generation(0));
        } else {
            reply.error(Errno::ENOENT);
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&TTL, &self.attr(ino));
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        // Nothing may be kept above this process: neither what a cut drops nor what it brings back.
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut state = lock(&self.state);
        if let Some(Parked::Read(reply)) = state.admit(Parked::Read(reply)) {
            match state.layer.read(offset, size as usize) {
                Ok(bytes) => reply.data(&bytes),
                Err(error) => reply.error(errno(&error)),
            }
        }
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mut state = lock(&self.state);
        if let Some(Parked::Write(reply)) = state.admit(Parked::Write(reply)) {
            match state.layer.write(offset, data) {
                Ok(()) => reply.written(data.len() as u32),
                Err(error) => reply.error(errno(&error)),
            }
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        // close(2), which promises nothing.
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.flush_device(reply);
    }
}

/// Serves `image` as [`FILE`] in `mount` until standard input ends.
///
/// # Errors
/// Those of the image and of the mount, and unknown commands.
pub fn serve(image: &Path, mount: &Path, commands: impl BufRead, mut answers: impl Write) -> anyhow::Result<()> {
    let file = std::fs::File::options()
        .read(true)
        .write(true)
        .open(image)
        .with_context(|| format!("open {}", image.display()))?;
    // It lives as long as this process, however that ends.
    std::fs::remove_file(image).with_context(|| format!("unlink {}", image.display()))?;
    let state = Arc::new(Mutex::new(State {
        layer: Layer::new(file),
        power: Power::On,
        parked: Vec::new(),
    }));
    let mut config = Config::default();
    config.n_threads = Some(1);
    let fs = DiskFs {
        state: Arc::clone(&state),
    };
    let session = fuser::spawn_mount(fs, mount, &config).context("mount the disk's file system")?;
    writeln!(answers, "ready")?;
    for line in commands.lines() {
        let line = line.context("read a command")?;
        let answer = obey(&state, &line)?;
        writeln!(answers, "{answer}")?;
        answers.flush()?;
    }
    drop(session);
    Ok(())
}

fn obey(state: &Mutex<State>, line: &str) -> anyhow::Result<String> {
    let mut state = lock(state);
    let mut words = line.split(' ');
    match (words.next(), words.next()) {
        (Some("freeze"), None) => state.power = Power::Frozen,
        (Some("off"), None) => {
            state.power = Power::Off;
            for request in std::mem::take(&mut state.parked) {
                request.refuse();
            }
        }
        (Some("cut"), Some(seed)) => {
            let stats = state.layer.cut(seed.parse().context("read the seed")?)?;
            state.power = Power::On;
            return Ok(format!("{} {} {}", stats.kept, stats.dropped, stats.torn));
        }
        (Some("lie"), None) => state.layer.set_lying(true),
        (Some("truth"), None) => state.layer.set_lying(false),
        _ => bail!("unknown command: {line}"),
    }
    Ok("ok".to_owned())
}
