//! A change of data or attributes moves ctime, whatever clock it takes its time from, and no clock moves mtime back.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
#![allow(clippy::disallowed_methods, reason = "rename is what is tested")]

use alluxio_tests::modes::Mode;
use alluxio_tests::{LocalBuilder, tools};
use std::ffi::CString;
use std::fs::{self, File, Permissions};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

const MODES: [Mode; 2] = [Mode::Passthrough, Mode::Daemon];
const PAIRS: u64 = 2_000;
/// How often each pair of operations is tried, at different moments between two ticks of the kernel's clock.
const ROUNDS: u64 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Times {
    mtime_ns: i64,
    ctime_ns: i64,
}

fn times(path: &Path) -> Times {
    let meta = fs::symlink_metadata(path).unwrap();
    Times {
        mtime_ns: meta.mtime() * 1_000_000_000 + meta.mtime_nsec(),
        ctime_ns: meta.ctime() * 1_000_000_000 + meta.ctime_nsec(),
    }
}

fn coarse_ns() -> i64 {
    let now = nix_time(libc::CLOCK_REALTIME_COARSE);
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}

fn nix_time(clock: libc::clockid_t) -> libc::timespec {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is what the call fills.
    assert_eq!(unsafe { libc::clock_gettime(clock, &raw mut now) }, 0);
    now
}

/// Before Linux 6.13 two writes within a tick have one time, on any file system: then they are a tick apart.
struct Pace {
    is_fine: bool,
}

impl Pace {
    fn of(dir: &Path) -> Pace {
        let path = dir.join("probe");
        let file = File::create(&path).unwrap();
        let is_fine = (0..100u64).all(|at| {
            let before = times(&path);
            file.write_at(b"x", at).unwrap();
            times(&path) != before
        });
        Pace { is_fine }
    }

    /// Until the kernel's clock would tell the next write from the last one.
    fn wait(&self) {
        let from = coarse_ns();
        while !self.is_fine && coarse_ns() == from {
            std::thread::yield_now();
        }
    }
}

/// One process changes the mode, another one writes at once: both move ctime, and the write moves mtime.
#[test]
fn a_write_right_after_a_chmod_moves_ctime() {
    let dir = tools::scratch("times-");
    let pace = Pace::of(dir.path());
    for mode in MODES {
        let local = mode.apply(LocalBuilder::new(), "").start();
        let path = local.mount().join("f");
        let file = File::create(&path).unwrap();
        for pair in 0..PAIRS {
            pace.wait();
            let before = times(&path);
            fs::set_permissions(&path, Permissions::from_mode(0o600 + (pair as u32 % 2))).unwrap();
            let between = times(&path);
            file.write_at(b"x", pair % 100).unwrap();
            let after = times(&path);
            assert!(
                before.ctime_ns < between.ctime_ns && between.ctime_ns < after.ctime_ns,
                "{}, pair {pair}: {before:?}, chmod {between:?}, write {after:?}",
                mode.name()
            );
            assert!(
                before.mtime_ns == between.mtime_ns && between.mtime_ns < after.mtime_ns,
                "{}, pair {pair}: {before:?}, chmod {between:?}, write {after:?}",
                mode.name()
            );
        }
        let written = times(&path);
        drop(file);
        assert_eq!(times(&path), written, "{}: close changes nothing", mode.name());
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Write,
    Truncate,
    TruncateByPath,
    Allocate,
    Copy,
    Open,
    Chmod,
    Chown,
    Touch,
    Link,
    Rename,
    SetXattr,
    Commit,
}

const CHANGES: [Change; 13] = [
    Change::Write,
    Change::Truncate,
    Change::TruncateByPath,
    Change::Allocate,
    Change::Copy,
    Change::Open,
    Change::Chmod,
    Change::Chown,
    Change::Touch,
    Change::Link,
    Change::Rename,
    Change::SetXattr,
    Change::Commit,
];

impl Change {
    /// `n` is another one each time.
    fn make(self, file: &File, path: &Path, n: u64) {
        let c_path = CString::new(path.as_os_str().as_bytes()).unwrap();
        let beside = path.with_extension("beside");
        match self {
            Change::Write => assert_eq!(file.write_at(b"data", n % 50).unwrap(), 4),
            Change::Truncate => file.set_len(100 + n % 1_000).unwrap(),
            Change::TruncateByPath => {
                let other = File::options().write(true).open(path).unwrap();
                other.set_len(2_000 + n % 1_000).unwrap();
            }
            Change::Allocate => {
                let length = i64::try_from(4_000 + n).unwrap();
                // SAFETY: no memory is involved.
                assert_eq!(unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, length) }, 0);
            }
            Change::Copy => {
                let source = File::open(path.with_extension("source")).unwrap();
                let (mut from, mut to) = (0, 200);
                // SAFETY: both offsets are variables of ours.
                let copied = unsafe {
                    libc::copy_file_range(source.as_raw_fd(), &raw mut from, file.as_raw_fd(), &raw mut to, 4, 0)
                };
                assert_eq!(copied, 4, "{}", std::io::Error::last_os_error());
            }
            Change::Open => drop(File::options().write(true).truncate(true).open(path).unwrap()),
            Change::Chmod => fs::set_permissions(path, Permissions::from_mode(0o600 + (n as u32 % 0o100))).unwrap(),
            Change::Chown => std::os::unix::fs::chown(path, None, Some(n as u32 % 1_000)).unwrap(),
            Change::Touch => file.set_modified(SystemTime::now()).unwrap(),
            Change::Link => {
                if beside.exists() {
                    fs::remove_file(&beside).unwrap();
                } else {
                    fs::hard_link(path, &beside).unwrap();
                }
            }
            Change::Rename => {
                // There and back; the time of the first step would do.
                let away = path.with_extension("away");
                fs::rename(path, &away).unwrap();
                fs::rename(&away, path).unwrap();
            }
            Change::SetXattr => {
                let value = n.to_le_bytes();
                // SAFETY: name and value are valid for the call, and C strings where they must be.
                let set = unsafe {
                    libc::setxattr(
                        c_path.as_ptr(),
                        c"user.n".as_ptr(),
                        value.as_ptr().cast(),
                        value.len(),
                        0,
                    )
                };
                assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
            }
            Change::Commit => {
                file.write_at(b"data", n % 50).unwrap();
                // Closing a duplicate commits what was written.
                drop(file.try_clone().unwrap());
            }
        }
    }

    /// It moves mtime too.
    fn is_of_data(self) -> bool {
        !matches!(
            self,
            Change::Chmod | Change::Chown | Change::Link | Change::Rename | Change::SetXattr
        )
    }
}

/// Every pair of operations, in both ways of moving data.
#[test]
fn every_change_after_every_other_moves_ctime_and_no_clock_moves_mtime_back() {
    let dir = tools::scratch("times-");
    let pace = Pace::of(dir.path());
    for mode in MODES {
        let local = mode.apply(LocalBuilder::new(), "").start();
        let path = local.mount().join("f");
        fs::write(path.with_extension("source"), "data").unwrap();
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .unwrap();
        let mut n = 0;
        for first in CHANGES {
            for second in CHANGES {
                for _ in 0..ROUNDS {
                    let mut before = times(&path);
                    file.write_at(&[0; 1_000], 0).unwrap();
                    for (change, after_what) in [(first, None), (second, Some(first))] {
                        pace.wait();
                        before = before.max_of(times(&path));
                        n += 1;
                        change.make(&file, &path, n);
                        let now = times(&path);
                        let what = format!("{}: {change:?} after {after_what:?}: {before:?}, {now:?}", mode.name());
                        assert!(before.ctime_ns < now.ctime_ns, "{what}");
                        match change.is_of_data() {
                            true => assert!(before.mtime_ns < now.mtime_ns, "{what}"),
                            false => assert_eq!(before.mtime_ns, now.mtime_ns, "{what}"),
                        }
                    }
                }
            }
        }
        // The last close, the end of the open version, and the master's own record of it.
        let open = times(&path);
        drop(file);
        let limit = Duration::from_secs(30);
        alluxio_tests::wait::until("the version is closed", limit, || {
            local.alluxio(&["fs", "persist", "/f"]).code == 0
        });
        assert_eq!(times(&path), open, "{}", mode.name());
    }
}

impl Times {
    /// Time never goes back between two looks either.
    fn max_of(self, now: Times) -> Times {
        assert!(self.ctime_ns <= now.ctime_ns, "{self:?}, {now:?}");
        now
    }
}
