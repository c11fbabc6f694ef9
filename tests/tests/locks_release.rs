//! What a close releases is released before the next request for it is answered: a lock that is asked for once close(2) has returned, or
//! once its holder was reaped, is never refused for the old holder's sake.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use alluxio_tests::{Agent, Mount, Separate};
use std::fs::{File, OpenOptions};
use std::os::fd::{AsRawFd, FromRawFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Closes for each kind of lock and each of the threads.
const TRIES: usize = 400;
/// Threads that lock at once, each a file of its own.
const THREADS: usize = 4;

/// A fork copies the descriptors of its process until exec: no test starts programs while another one counts on a close being the last.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

const DEV: (&str, &str) = ("alluxio.fuse.transport", "dev");

/// A lock that ends with the last close of an open file.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Flock,
    OpenFile,
}

fn open(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).open(path).unwrap()
}

/// Asks for a lock of the whole file, without waiting.
fn try_lock(file: &File, kind: Kind) -> nix::Result<()> {
    let fd = file.as_raw_fd();
    let result = match kind {
        // SAFETY: a system call on a descriptor that is open.
        Kind::Flock => unsafe { libc::flock(fd, libc::LOCK_EX | libc::LOCK_NB) },
        Kind::OpenFile => {
            let lock = libc::flock {
                l_type: libc::F_WRLCK as libc::c_short,
                l_whence: libc::SEEK_SET as libc::c_short,
                l_start: 0,
                l_len: 0,
                l_pid: 0,
            };
            // SAFETY: the same; the kernel reads one `struct flock`, which lives until the call returns.
            unsafe { libc::fcntl(fd, libc::F_OFD_SETLK, &raw const lock) }
        }
    };
    nix::errno::Errno::result(result).map(drop)
}

/// Takes a lock, closes, and takes it through another open file at once; answers how often that was refused.
fn refusals(path: &Path, kind: Kind) -> usize {
    let mut holder = open(path);
    try_lock(&holder, kind).unwrap();
    let mut refused = 0;
    for _ in 0..TRIES {
        let next = open(path);
        // close(2) itself, so that nothing lies between its return and the next call.
        let fd = std::os::fd::IntoRawFd::into_raw_fd(holder);
        // SAFETY: nobody else has this descriptor.
        drop(unsafe { File::from_raw_fd(fd) });
        match try_lock(&next, kind) {
            Ok(()) => {}
            Err(nix::errno::Errno::EAGAIN) => {
                refused += 1;
                // It is released in a moment: go on from a known state.
                while try_lock(&next, kind).is_err() {
                    std::thread::yield_now();
                }
            }
            Err(error) => panic!("{kind:?}: {error}"),
        }
        holder = next;
    }
    refused
}

/// Keeps all readers of the mount at work, so that requests are taken by several threads.
fn noise(dir: &Path, over: &AtomicBool) {
    let mut number = 0_u64;
    while !over.load(Ordering::Relaxed) {
        number += 1;
        let path = dir.join(format!("no-such-file-{number}"));
        std::fs::metadata(&path).unwrap_err();
    }
}

fn files(mount: &Mount) -> Vec<PathBuf> {
    let paths: Vec<PathBuf> = (0..THREADS).map(|n| mount.file(&format!("f{n}"))).collect();
    paths
        .iter()
        .for_each(|path| std::fs::write(path, "0123456789").unwrap());
    paths
}

#[test]
fn a_lock_is_free_once_its_last_close_has_returned() {
    let _alone = alone();
    let cluster = Separate::start(&[DEV]);
    let mount = cluster.mount("a");
    let paths = files(&mount);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let noisy: Vec<_> = (0..2).map(|_| scope.spawn(|| noise(mount.path(), &over))).collect();
        let counted: Vec<_> = paths
            .iter()
            .map(|path| scope.spawn(|| [Kind::Flock, Kind::OpenFile].map(|kind| (kind, refusals(path, kind)))))
            .collect();
        let counted: Vec<_> = counted.into_iter().map(|thread| thread.join().unwrap()).collect();
        over.store(true, Ordering::Relaxed);
        noisy.into_iter().for_each(|thread| thread.join().unwrap());
        let all: usize = counted.iter().flatten().map(|(_, refused)| refused).sum();
        assert_eq!(all, 0, "of {TRIES} tries each: {counted:?}");
    });
    mount.stop();
}

#[test]
fn locks_are_free_once_their_holder_is_reaped() {
    let _alone = alone();
    let cluster = Separate::start(&[DEV]);
    let mount = cluster.mount("a");
    let path = mount.file("f");
    std::fs::write(&path, "0123456789").unwrap();
    let mut next = Agent::new();
    let opens = format!("globals().update(f=os.open({:?}, RW)) or f", path.to_str().unwrap());
    assert!(next.order(&opens).parse::<i32>().is_ok());
    for round in 0..10 {
        let mut holder = Agent::new();
        assert!(holder.order(&opens).parse::<i32>().is_ok());
        for lock in ["flock(f, EX | NB)", "lock(f, WRITE)"] {
            assert_eq!(holder.order(lock), "ok", "round {round}");
        }
        holder.kill();
        for lock in ["lock(f, WRITE)", "flock(f, EX | NB)"] {
            assert_eq!(next.order(lock), "ok", "round {round}");
        }
        for unlock in ["lock(f, NONE)", "flock(f, UN)"] {
            assert_eq!(next.order(unlock), "ok", "round {round}");
        }
    }
    mount.stop();
}
