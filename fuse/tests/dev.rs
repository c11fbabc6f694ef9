//! What transport `dev` does on a real mount, most of which `fuser` cannot: interrupts, birth times, flock apart from
//! fcntl, answers to processes that are gone, operations that panic.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod common;

use alluxio_fuse::mount::MountOptions;
use alluxio_fuse::transport::operations::{
    Answer, Asker, Attributes, Capacity, Entry, Errno, Features, Fh, Listing, LockRequest, NewName, Node, Notify,
    OpenFlags, Opened, Operations, Owner, Register, Stat,
};
use alluxio_fuse::transport::{KernelOptions, Notifier, TransportKind, serve_operations};
use bytes::Bytes;
use common::{Point, eventually};
use nix::errno::Errno as SystemError;
use nix::fcntl::{FcntlArg, Flock, FlockArg, OFlag, fcntl};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, kill, sigaction};
use nix::unistd::Pid;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, UNIX_EPOCH};
use tokio::sync::Semaphore;

/// Birth of all files.
const BORN_NS: i64 = 1_000_000_000_000_000_007;

/// Files by name, one behaviour each; see [`Odd::lookup`].
#[derive(Default)]
struct Odd {
    /// Requests that wait now.
    waiting: AtomicUsize,
    /// Requests that were dropped while they waited.
    dropped: AtomicUsize,
    /// Lets those go on that wait for it.
    gate: Gate,
    made: AtomicUsize,
    released: AtomicUsize,
    getattrs: AtomicUsize,
    size: AtomicU64,
    locks: Mutex<Vec<(bool, Owner)>>,
    written: Mutex<Vec<(u64, Bytes)>>,
}

struct Gate(Semaphore);

impl Default for Gate {
    fn default() -> Self {
        Gate(Semaphore::new(0))
    }
}

/// A request that waits: counted, also when it is dropped.
struct Waits<'a>(&'a Odd);

impl<'a> Waits<'a> {
    fn new(odd: &'a Odd) -> Self {
        odd.waiting.fetch_add(1, Ordering::SeqCst);
        Waits(odd)
    }

    /// Until the gate opens.
    async fn pass(self) {
        self.0.gate.0.acquire().await.unwrap().forget();
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
        std::mem::forget(self);
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
        self.0.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

const DIR: Node = Node(2);
const SLOW_OPEN: Node = Node(3);
const FILE: Node = Node(4);

impl Odd {
    fn attributes(&self, node: Node) -> Attributes {
        let mode = match node {
            Node::ROOT | DIR => libc::S_IFDIR | 0o755,
            _ => libc::S_IFREG | 0o644,
        };
        let stat = Stat {
            node: node.0,
            size: self.size.load(Ordering::SeqCst),
            btime_ns: BORN_NS,
            mode,
            nlink: 1,
            blksize: 4096,
            ..Stat::default()
        };
        let ttl = Duration::from_secs(3600);
        Attributes { stat, ttl }
    }

    fn entry(&self, node: Node) -> Entry {
        let attributes = self.attributes(node);
        Entry {
            node,
            attributes,
            ttl: attributes.ttl,
        }
    }
}

impl Operations for Odd {
    fn features(&self) -> Answer<Features> {
        Ok(Features {
            locks: true,
            ..Features::default()
        })
    }

    async fn lookup(&self, _: Asker, _: Node, name: &[u8]) -> Answer<Entry> {
        match name {
            b"file" => Ok(self.entry(FILE)),
            b"slow-open" => Ok(self.entry(SLOW_OPEN)),
            b"panic" => panic!("as told"),
            b"late-panic" => {
                tokio::task::yield_now().await;
                panic!("as told, later")
            }
            _ => Err(Errno(libc::ENOENT)),
        }
    }

    async fn getattr(&self, _: Asker, node: Node, _: Option<Fh>) -> Answer<Attributes> {
        self.getattrs.fetch_add(1, Ordering::SeqCst);
        Ok(self.attributes(node))
    }

    async fn mkdir(&self, _: Asker, _: NewName<'_>) -> Answer<Entry> {
        Waits::new(self).pass().await;
        self.made.fetch_add(1, Ordering::SeqCst);
        Ok(self.entry(DIR))
    }

    async fn open<B: Send + Sync + 'static>(
        &self,
        _: Asker,
        node: Node,
        _: i32,
        _: impl Register<B>,
    ) -> Answer<Opened<B>> {
        if node == SLOW_OPEN {
            Waits::new(self).pass().await;
        }
        Ok(Opened {
            fh: Fh(node.0),
            flags: OpenFlags::DIRECT_IO,
            backing: None,
        })
    }

    async fn release(&self, _: Node, _: Fh, _: Option<Owner>) -> Answer<()> {
        self.released.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    async fn flush(&self, _: Asker, _: Node, _: Fh, _: Owner) -> Answer<()> {
        Ok(())
    }

    async fn read(&self, _: Asker, _: Node, _: Fh, _: u64, _: u32) -> Answer<Bytes> {
        Waits::new(self).pass().await;
        Ok(Bytes::from_static(b"at last"))
    }

    async fn write(&self, _: Asker, _: Node, _: Fh, offset: u64, data: Bytes) -> Answer<u32> {
        let length = data.len();
        self.written.lock().unwrap().push((offset, data));
        Ok(u32::try_from(length).unwrap())
    }

    async fn setlk(&self, _: Asker, request: LockRequest) -> Answer<()> {
        if request.wait {
            Waits::new(self).pass().await;
        }
        self.locks.lock().unwrap().push((request.flock, request.owner));
        Ok(())
    }

    async fn opendir(&self, _: Asker, _: Node) -> Answer<(Fh, OpenFlags)> {
        Ok((Fh(0), OpenFlags::default()))
    }

    async fn readdir(&self, _: Asker, _: Node, _: Fh, _: u64, _: &mut impl Listing) -> Answer<()> {
        Ok(())
    }

    async fn statfs(&self, _: Asker, _: Node) -> Answer<Capacity> {
        Ok(Capacity::default())
    }
}

/// A mount of [`Odd`].
struct Mount {
    point: Point,
    odd: Arc<Odd>,
    notifier: Notifier,
    mounted: alluxio_fuse::mount::Mounted,
    _runtime: tokio::runtime::Runtime,
}

impl Mount {
    fn new() -> Mount {
        let point = Point::new();
        let options = MountOptions::parse("").unwrap();
        let (mounted, connection) = alluxio_fuse::mount::Mounted::new(&point.path(), &options, "odd").unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let kernel = KernelOptions {
            transport: TransportKind::Dev,
            ..KernelOptions::default()
        };
        let odd = Arc::new(Odd::default());
        let (session, notifier) = serve_operations(Arc::clone(&odd), connection, &kernel, runtime.handle()).unwrap();
        std::thread::spawn(move || session.wait().unwrap());
        Mount {
            point,
            odd,
            notifier,
            mounted,
            _runtime: runtime,
        }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.point.path().join(name)
    }

    /// Until one request waits.
    fn one_waits(&self) {
        eventually("a request to wait", || self.odd.waiting.load(Ordering::SeqCst) == 1);
    }

    fn open_gate(&self) {
        self.odd.gate.0.add_permits(1);
    }

    fn run(&self, program: &str, name: &str) -> Child {
        let mut command = Command::new(program);
        command.arg(self.path(name));
        // Shells start what runs in the background with SIGINT ignored, and that is inherited.
        // SAFETY: signal(2) may be called between fork and exec, and allocates nothing.
        unsafe {
            command.pre_exec(|| Ok(nix::sys::signal::signal(Signal::SIGINT, SigHandler::SigDfl).map(drop)?));
        }
        command.spawn().unwrap()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        self.mounted.unmount(alluxio_fuse::mount::UnmountMode::Force).unwrap();
    }
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
}

#[test]
fn a_read_that_waits_is_interrupted() {
    let mount = Mount::new();
    mount.odd.size.store(100, Ordering::SeqCst);
    let mut cat = mount.run("cat", "file");
    mount.one_waits();
    let started = Instant::now();
    signal(&cat, Signal::SIGINT);
    assert_eq!(cat.wait().unwrap().signal(), Some(libc::SIGINT));
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "took {:?}",
        started.elapsed()
    );
    eventually("the read to be dropped", || {
        mount.odd.dropped.load(Ordering::SeqCst) == 1
    });
    // The session goes on.
    mount.open_gate();
    let mut bytes = [0; 100];
    let file = File::open(mount.path("file")).unwrap();
    assert_eq!(file.read_at(&mut bytes, 0).unwrap(), 7);
}

#[test]
fn a_change_goes_on_though_its_process_was_killed() {
    let mount = Mount::new();
    let mut mkdir = mount.run("mkdir", "dir");
    mount.one_waits();
    signal(&mkdir, Signal::SIGTERM);
    assert_eq!(mkdir.wait().unwrap().signal(), Some(libc::SIGTERM));
    assert_eq!(mount.odd.dropped.load(Ordering::SeqCst), 0);
    mount.open_gate();
    eventually("the change to be made", || mount.odd.made.load(Ordering::SeqCst) == 1);
}

#[test]
fn what_was_opened_for_a_process_that_is_gone_is_closed() {
    let mount = Mount::new();
    let mut cat = mount.run("cat", "slow-open");
    mount.one_waits();
    signal(&cat, Signal::SIGKILL);
    assert_eq!(cat.wait().unwrap().signal(), Some(libc::SIGKILL));
    assert_eq!(mount.odd.released.load(Ordering::SeqCst), 0);
    mount.open_gate();
    eventually("the file to be closed", || {
        mount.odd.released.load(Ordering::SeqCst) == 1
    });
}

extern "C" fn caught(_: i32) {}

#[test]
fn a_lock_that_is_waited_for_ends_with_eintr_at_once() {
    let action = SigAction::new(SigHandler::Handler(caught), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler does nothing.
    unsafe { sigaction(Signal::SIGUSR1, &action) }.unwrap();
    let mount = Mount::new();
    let file = OpenOptions::new().write(true).open(mount.path("file")).unwrap();
    let (send, receive) = channel();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            // SAFETY: asks for this thread's own number.
            send.send(unsafe { libc::pthread_self() }).unwrap();
            let lock = libc::flock {
                l_type: libc::F_WRLCK as i16,
                l_whence: libc::SEEK_SET as i16,
                l_start: 0,
                l_len: 10,
                l_pid: 0,
            };
            fcntl(&file, FcntlArg::F_SETLKW(&lock))
        });
        let thread = receive.recv().unwrap();
        mount.one_waits();
        let started = Instant::now();
        // SAFETY: the thread is joined below, so it exists.
        assert_eq!(unsafe { libc::pthread_kill(thread, libc::SIGUSR1) }, 0);
        assert_eq!(waiter.join().unwrap(), Err(SystemError::EINTR));
        assert!(
            started.elapsed() < Duration::from_millis(400),
            "took {:?}",
            started.elapsed()
        );
    });
    eventually("the claim to be dropped", || {
        mount.odd.dropped.load(Ordering::SeqCst) == 1
    });
    assert!(mount.odd.locks.lock().unwrap().is_empty());
}

#[test]
fn flock_is_told_from_fcntl() {
    let mount = Mount::new();
    let open = || OpenOptions::new().write(true).open(mount.path("file")).unwrap();
    let locked = Flock::lock(open(), FlockArg::LockExclusiveNonblock).unwrap();
    let lock = libc::flock {
        l_type: libc::F_WRLCK as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: 0,
        l_len: 10,
        l_pid: 0,
    };
    let file = open();
    fcntl(&file, FcntlArg::F_SETLK(&lock)).unwrap();
    let locks = mount.odd.locks.lock().unwrap().clone();
    assert_eq!(locks.iter().map(|(flock, _)| *flock).collect::<Vec<_>>(), [true, false]);
    assert_ne!(locks[0].1, locks[1].1, "an open file and a process");
    // An unlock, though flock(2) sends it as one that waits.
    locked.unlock().unwrap();
    assert_eq!(mount.odd.locks.lock().unwrap().last(), Some(&locks[0]));
}

#[test]
fn birth_time() {
    let mount = Mount::new();
    let born = std::fs::metadata(mount.path("file")).unwrap().created().unwrap();
    let since = born.duration_since(UNIX_EPOCH).unwrap();
    assert_eq!(i64::try_from(since.as_nanos()).unwrap(), BORN_NS);
}

#[test]
fn files_without_a_name_are_refused_by_default() {
    let mount = Mount::new();
    let error = OpenOptions::new()
        .write(true)
        .custom_flags(OFlag::O_TMPFILE.bits())
        .open(mount.point.path())
        .unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EOPNOTSUPP));
}

#[test]
fn an_operation_that_panics_fails_alone() {
    let mount = Mount::new();
    for name in ["panic", "late-panic", "panic", "late-panic", "panic"] {
        let error = File::open(mount.path(name)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EIO), "{name}");
    }
    assert!(mount.path("file").exists());
}

#[test]
fn writes_arrive_whole() {
    let mount = Mount::new();
    let file = OpenOptions::new().write(true).open(mount.path("file")).unwrap();
    let data: Vec<u8> = (0..3 << 20).map(|at: u32| (at * 7 % 251) as u8).collect();
    let sizes = [1, 4096, 65_536, 65_537, 1 << 20, 3 << 20];
    for size in sizes {
        file.write_all_at(&data[..size], 7).unwrap();
        let written = std::mem::take(&mut *mount.odd.written.lock().unwrap());
        let mut next = 7;
        for (offset, part) in &written {
            assert_eq!(*offset, next);
            next += part.len() as u64;
        }
        let whole: Vec<u8> = written.iter().flat_map(|(_, part)| part.to_vec()).collect();
        assert!(whole == data[..size], "{size} bytes");
        // One more where the program's buffer does not begin with a page.
        assert!(written.len() <= size.div_ceil(1 << 20) + 1, "requests of 1 MiB");
    }
}

#[test]
fn the_kernel_is_told_what_is_stale() {
    let mount = Mount::new();
    let length = || std::fs::metadata(mount.path("file")).unwrap().len();
    assert_eq!(length(), 0);
    mount.odd.size.store(42, Ordering::SeqCst);
    let asked = mount.odd.getattrs.load(Ordering::SeqCst);
    assert_eq!(length(), 0, "cached for an hour");
    mount.notifier.inval_inode(Node(4), 0, 0).unwrap();
    assert_eq!(length(), 42);
    assert_eq!(mount.odd.getattrs.load(Ordering::SeqCst), asked + 1);

    mount.odd.size.store(43, Ordering::SeqCst);
    mount.notifier.inval_entry(Node::ROOT, b"file").unwrap();
    assert_eq!(length(), 43, "looked up anew");
    mount.notifier.delete(Node::ROOT, FILE, b"file").unwrap();
    let unknown = mount.notifier.inval_inode(Node(4711), 0, 0).unwrap_err();
    assert_eq!(unknown.raw_os_error(), Some(libc::ENOENT));
}
