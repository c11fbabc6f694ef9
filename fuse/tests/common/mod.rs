//! A small file system to mount, and a guard that never lets a test hang or leave a mount behind.

#![allow(dead_code, reason = "each test program uses a part")]
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use alluxio_fuse::mount::{MountOptions, Mounted};
use alluxio_proto::{FsError, FsResult};
use fuser::{
    BackgroundSession, Errno, FileAttr, FileHandle, FileType, Filesystem, Generation, INodeNo, LockOwner, OpenFlags,
    ReplyAttr, ReplyData, ReplyDirectory, ReplyEntry, ReplyStatfs, Request, Session, SessionACL,
};
use nix::mount::{MntFlags, umount2};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, SystemTime};

/// After this a test has failed, and its mount is ended by force.
pub const TEST_TIME_MAX: Duration = Duration::from_secs(30);

/// The file in [`OneFile`] and what it holds.
pub const NAME: &str = "hello";
pub const CONTENT: &[u8] = b"hello, world\n";

/// One folder with one file.
pub struct OneFile {
    /// Dropped with the file system, so that a test can wait for that.
    pub alive: Option<Sender<()>>,
}

fn attr(ino: INodeNo) -> FileAttr {
    let (kind, perm, size, nlink) = match ino {
        INodeNo::ROOT => (FileType::Directory, 0o755, 4096, 2),
        _ => (FileType::RegularFile, 0o644, CONTENT.len() as u64, 1),
    };
    FileAttr {
        ino,
        size,
        blocks: 1,
        atime: SystemTime::UNIX_EPOCH,
        mtime: SystemTime::UNIX_EPOCH,
        ctime: SystemTime::UNIX_EPOCH,
        crtime: SystemTime::UNIX_EPOCH,
        kind,
        perm,
        nlink,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

const TTL: Duration = Duration::from_secs(60);

impl Filesystem for OneFile {
    fn lookup(&self, _request: &Request, _parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if name == NAME {
            reply.entry(&TTL, &attr(INodeNo(2)), Generation(0));
        } else {
            reply.error(Errno::ENOENT);
        }
    }

    fn getattr(&self, _request: &Request, ino: INodeNo, _handle: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&TTL, &attr(ino));
    }

    fn read(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let from = usize::try_from(offset).unwrap().min(CONTENT.len());
        let to = (from + size as usize).min(CONTENT.len());
        reply.data(&CONTENT[from..to]);
    }

    fn readdir(&self, _request: &Request, _ino: INodeNo, _handle: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        if offset == 0 {
            assert!(!reply.add(INodeNo(2), 1, FileType::RegularFile, NAME), "one entry fits");
        }
        reply.ok();
    }

    fn statfs(&self, _request: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        reply.statfs(100, 50, 50, 10, 5, 4096, 255, 4096);
    }
}

/// A mount that is served.
#[derive(Debug)]
pub struct Served {
    pub mounted: Mounted,
    pub session: BackgroundSession,
}

impl Served {
    pub fn start(filesystem: impl Filesystem, at: &Path, options: &MountOptions, source: &str) -> FsResult<Served> {
        let (mounted, connection) = Mounted::new(at, options, source)?;
        let acl = if options.allow_other {
            SessionACL::All
        } else {
            SessionACL::Owner
        };
        let mut config = fuser::Config::default();
        config.n_threads = Some(2);
        let session = Session::from_fd(filesystem, connection, acl, config)
            .and_then(Session::spawn)
            .map_err(|error| FsError::from_io("start the session", &error))?;
        mounted.raise_read_ahead();
        Ok(Served { mounted, session })
    }

    /// Until somebody unmounts.
    pub fn wait(self) {
        self.session.join().unwrap();
        self.mounted.ended();
    }
}

/// A folder to mount on. A watchdog ends by force what hangs; dropped, it ends by force what is left.
pub struct Point {
    dir: tempfile::TempDir,
    done: Sender<()>,
}

impl Point {
    pub fn new() -> Point {
        assert!(nix::unistd::geteuid().is_root(), "mount tests run as root");
        assert!(Path::new("/dev/fuse").exists(), "mount tests need /dev/fuse");
        let dir = tempfile::tempdir().unwrap();
        let (done, finished) = channel();
        let path = dir.path().canonicalize().unwrap().join("mnt");
        std::fs::create_dir(&path).unwrap();
        std::thread::spawn(move || watch(&path, &finished));
        Point { dir, done }
    }

    pub fn path(&self) -> PathBuf {
        self.dir.path().canonicalize().unwrap().join("mnt")
    }

    /// The scratch folder around the mount point.
    pub fn around(&self) -> PathBuf {
        self.dir.path().canonicalize().unwrap()
    }
}

impl Drop for Point {
    fn drop(&mut self) {
        force(&self.path());
        // The watchdog may have ended in its own way.
        let _ = self.done.send(());
    }
}

fn watch(path: &Path, finished: &Receiver<()>) {
    if finished.recv_timeout(TEST_TIME_MAX) == Err(RecvTimeoutError::Timeout) {
        eprintln!("watchdog: {} took longer than {TEST_TIME_MAX:?}", path.display());
        force(path);
        std::process::exit(101);
    }
}

fn force(path: &Path) {
    while umount2(
        path,
        MntFlags::MNT_FORCE | MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW,
    )
    .is_ok()
    {}
}

/// Waits for a condition, and fails the test if it does not come.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let started = std::time::Instant::now();
    while !condition() {
        assert!(started.elapsed() < TEST_TIME_MAX, "waited in vain for: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
