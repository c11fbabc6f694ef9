//! A small file system to mount, and a guard that never lets a test hang or leave a mount behind.

#![allow(dead_code, reason = "each test program uses a part")]
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use alluxio_fuse::mount::{MountOptions, Mounted};
use alluxio_fuse::transport::operations::{
    Answer, Asker, Attributes, Capacity, Entry, Errno, Features, Fh, Listed, Listing, Node, OpenFlags, Opened,
    Operations, Register, Stat,
};
use alluxio_fuse::transport::{KernelOptions, KernelSession, TransportKind, serve_operations};
use alluxio_proto::FsResult;
use bytes::Bytes;
use nix::mount::{MntFlags, umount2};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;
use tokio::runtime::Runtime;

/// After this a test has failed, and its mount is ended by force.
pub const TEST_TIME_MAX: Duration = Duration::from_secs(30);

/// The file in [`OneFile`] and what it holds.
pub const NAME: &str = "hello";
pub const CONTENT: &[u8] = b"hello, world\n";

/// One folder with one file.
#[derive(Default)]
pub struct OneFile {
    /// Refuses to start with this.
    pub refuses: Option<Errno>,
    /// Dropped with the file system, so that a test can wait for that.
    pub alive: Option<Sender<()>>,
}

/// The node of [`NAME`].
const FILE: Node = Node(2);

fn attributes(node: Node) -> Attributes {
    let (mode, size, nlink) = match node {
        Node::ROOT => (libc::S_IFDIR | 0o755, 4096, 2),
        _ => (libc::S_IFREG | 0o644, CONTENT.len() as u64, 1),
    };
    let stat = Stat {
        node: node.0,
        size,
        blocks: 1,
        mode,
        nlink,
        blksize: 4096,
        ..Stat::default()
    };
    Attributes { stat, ttl: TTL }
}

fn entry(node: Node) -> Entry {
    Entry {
        node,
        attributes: attributes(node),
        ttl: TTL,
    }
}

const TTL: Duration = Duration::from_secs(60);

impl Operations for OneFile {
    fn features(&self) -> Answer<Features> {
        match self.refuses {
            Some(errno) => Err(errno),
            None => Ok(Features::default()),
        }
    }

    async fn lookup(&self, _: Asker, _: Node, name: &[u8]) -> Answer<Entry> {
        if name == NAME.as_bytes() {
            Ok(entry(FILE))
        } else {
            Err(Errno(libc::ENOENT))
        }
    }

    async fn getattr(&self, _: Asker, node: Node, _: Option<Fh>) -> Answer<Attributes> {
        Ok(attributes(node))
    }

    async fn open<B: Send + Sync + 'static>(
        &self,
        _: Asker,
        _: Node,
        _: i32,
        _: impl Register<B>,
    ) -> Answer<Opened<B>> {
        Ok(Opened {
            fh: Fh(0),
            flags: OpenFlags::default(),
            backing: None,
        })
    }

    async fn read(&self, _: Asker, _: Node, _: Fh, offset: u64, length: u32) -> Answer<Bytes> {
        let from = usize::try_from(offset).unwrap().min(CONTENT.len());
        let to = (from + length as usize).min(CONTENT.len());
        Ok(Bytes::from_static(&CONTENT[from..to]))
    }

    async fn opendir(&self, _: Asker, _: Node) -> Answer<(Fh, OpenFlags)> {
        Ok((Fh(0), OpenFlags::default()))
    }

    async fn readdir(&self, _: Asker, _: Node, _: Fh, cookie: u64, listing: &mut impl Listing) -> Answer<()> {
        if cookie == 0 {
            let listed = Listed {
                name: NAME.as_bytes(),
                next: 1,
                entry: &entry(FILE),
                is_dot: false,
            };
            assert!(listing.add(&listed), "one entry fits");
        }
        Ok(())
    }

    async fn statfs(&self, _: Asker, _: Node) -> Answer<Capacity> {
        Ok(Capacity {
            blocks: 100,
            free: 50,
            available: 50,
            block_bytes: 4096,
            files: 10,
            files_free: 5,
            name_bytes_max: 255,
        })
    }
}

/// A mount that is served.
#[derive(Debug)]
pub struct Served {
    pub mounted: Mounted,
    pub session: KernelSession,
    /// Where what has to wait goes.
    pub runtime: Runtime,
}

impl Served {
    pub fn start(filesystem: impl Operations, at: &Path, options: &MountOptions, source: &str) -> FsResult<Served> {
        let (mounted, connection) = Mounted::new(at, options, source)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let kernel = KernelOptions {
            allow_other: options.allow_other,
            transport: options.transport.unwrap_or_default(),
            ..KernelOptions::default()
        };
        let (session, _) = serve_operations(Arc::new(filesystem), connection, &kernel, runtime.handle())?;
        mounted.raise_read_ahead();
        Ok(Served {
            mounted,
            session,
            runtime,
        })
    }

    /// Until somebody unmounts.
    pub fn wait(self) {
        self.session.wait().unwrap();
        self.mounted.ended();
    }
}

/// The words of `-o` for a transport.
pub fn word(transport: TransportKind) -> &'static str {
    match transport {
        TransportKind::Fuser => "transport=fuser",
        TransportKind::Dev => "transport=dev",
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
