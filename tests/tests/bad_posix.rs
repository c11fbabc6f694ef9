//! Bad input by system calls: what is too long, too large, unknown, denied or full gets the errno that ext4 or NFS would
//! give, and what was there before is intact.
#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "system calls, with memory of the test alone"
)]
#![allow(clippy::unwrap_used, reason = "a test ends there")]

use alluxio_tests::disk::Disk;
use alluxio_tests::modes::Mode;
use alluxio_tests::proxy::{Fault, Proxy};
use alluxio_tests::s3::options_for;
use alluxio_tests::{LocalBuilder, S3Server, Versity, tools, tree, wait};
use std::ffi::CString;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

const SHORT: Duration = Duration::from_secs(60);

/// Errno of a system call that failed; 0 if it did not.
fn errno(result: impl Into<i64>) -> i32 {
    if result.into() >= 0 {
        return 0;
    }
    std::io::Error::last_os_error().raw_os_error().unwrap()
}

fn io_errno<T>(result: std::io::Result<T>) -> i32 {
    result.map_or_else(|error| error.raw_os_error().unwrap_or(-1), |_| 0)
}

fn c(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap()
}

fn set_xattr(path: &Path, name: &str, value: &[u8]) -> i32 {
    let (path, name) = (c(path), CString::new(name).unwrap());
    // SAFETY: path and name are NUL-terminated; pointer and length describe `value`.
    errno(unsafe { libc::setxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) })
}

fn get_xattr(path: &Path, name: &str, buffer: &mut [u8]) -> Result<usize, i32> {
    let (path, name) = (c(path), CString::new(name).unwrap());
    // SAFETY: path and name are NUL-terminated; pointer and length describe `buffer`.
    let n = unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) };
    usize::try_from(n).map_err(|_| errno(n as i64))
}

#[test]
fn names_over_255_bytes() {
    let local = LocalBuilder::new().start();
    let (good, long) = (local.mount().join("good"), local.mount().join("n".repeat(256)));
    std::fs::write(&good, "kept").unwrap();
    let (good_c, long_c) = (c(&good), c(&long));
    // SAFETY of all calls: paths are NUL-terminated and outlive them.
    let errnos = unsafe {
        [
            errno(libc::open(long_c.as_ptr(), libc::O_CREAT | libc::O_RDWR, 0o644)),
            errno(libc::open(long_c.as_ptr(), libc::O_RDONLY)),
            errno(libc::mkdir(long_c.as_ptr(), 0o755)),
            errno(libc::rmdir(long_c.as_ptr())),
            errno(libc::unlink(long_c.as_ptr())),
            errno(libc::rename(good_c.as_ptr(), long_c.as_ptr())),
            errno(libc::link(good_c.as_ptr(), long_c.as_ptr())),
            errno(libc::symlink(good_c.as_ptr(), long_c.as_ptr())),
            errno(libc::mkfifo(long_c.as_ptr(), 0o644)),
            errno(libc::truncate(long_c.as_ptr(), 0)),
        ]
    };
    assert_eq!(errnos, [libc::ENAMETOOLONG; 10]);
    assert_eq!(std::fs::read(&good).unwrap(), b"kept");
    assert_eq!(std::fs::read_dir(local.mount()).unwrap().count(), 1);
    let longest = local.mount().join("n".repeat(255));
    std::fs::write(&longest, "fits").unwrap();
    assert_eq!(std::fs::read(&longest).unwrap(), b"fits");
    // A program's mistake is no event for whoever runs the mount.
    assert!(
        !local.log().contains("NameTooLong") && !local.log().contains("allowed"),
        "{}",
        local.log()
    );
}

#[test]
fn paths_and_link_targets_over_4096_bytes() {
    let local = LocalBuilder::new().start();
    // By the kernel: one path that is too long.
    let long = local.mount().join("d/".repeat(2_100));
    assert_eq!(io_errno(File::open(&long)), libc::ENAMETOOLONG);
    assert_eq!(
        io_errno(std::os::unix::fs::symlink("t".repeat(4_096), local.mount().join("l"))),
        libc::ENAMETOOLONG
    );
    std::os::unix::fs::symlink("t".repeat(4_095), local.mount().join("longest")).unwrap();
    assert_eq!(
        std::fs::read_link(local.mount().join("longest"))
            .unwrap()
            .as_os_str()
            .len(),
        4_095
    );
    // By us: deeper and deeper, each step relative to the one before. What an under-storage cannot name is refused, with the
    // names that could be made intact.
    let mut dir = File::open(local.mount()).unwrap();
    let name = CString::new("x".repeat(255)).unwrap();
    let mut depth = 0;
    let refused = loop {
        // SAFETY of both calls: the name is NUL-terminated, the descriptor is open.
        let made = unsafe { errno(libc::mkdirat(dir.as_raw_fd(), name.as_ptr(), 0o755)) };
        if made != 0 || depth == 40 {
            break made;
        }
        depth += 1;
        dir = nix::fcntl::openat(
            &dir,
            name.as_c_str(),
            nix::fcntl::OFlag::O_RDONLY,
            nix::sys::stat::Mode::empty(),
        )
        .map(File::from)
        .unwrap();
    };
    assert_eq!(
        (depth, refused),
        (15, libc::ENAMETOOLONG),
        "15 names of 255 bytes fit into 4,096"
    );
    local.alluxio(&["fs", "persist", "/"]).ok();
}

#[test]
fn extended_attributes_past_their_limits() {
    let local = LocalBuilder::new().start();
    let path = local.mount().join("f");
    std::fs::write(&path, "x").unwrap();
    assert_eq!(set_xattr(&path, "user.kept", b"value"), 0);
    assert_eq!(set_xattr(&path, "user.kept", &vec![1; (64 << 10) + 1]), libc::E2BIG);
    assert_eq!(
        set_xattr(&path, &format!("user.{}", "n".repeat(251)), b"x"),
        libc::ERANGE
    );
    assert_eq!(set_xattr(&path, "", b"x"), libc::ERANGE);
    assert_eq!(set_xattr(&path, "no-namespace", b"x"), libc::EOPNOTSUPP);
    assert_eq!(get_xattr(&path, "no-namespace", &mut [0]), Err(libc::EOPNOTSUPP));
    assert_eq!(get_xattr(&path, "user.", &mut [0]), Err(libc::EINVAL));
    assert_eq!(set_xattr(&path, "user.", b"x"), libc::EINVAL);
    let mut small = [0; 3];
    assert_eq!(get_xattr(&path, "user.kept", &mut small), Err(libc::ERANGE));
    assert_eq!(get_xattr(&path, "user.absent", &mut small), Err(libc::ENODATA));
    // As much as fits; then no space, as on ext4, and nothing of what is there is lost.
    let large = vec![7; 60 << 10];
    let mut stored = 0;
    let refused = loop {
        match set_xattr(&path, &format!("user.large-{stored}"), &large) {
            0 => stored += 1,
            other => break other,
        }
        assert!(stored < 1_000, "extended attributes of one file are not bounded");
    };
    assert_eq!(refused, libc::ENOSPC);
    let mut buffer = vec![0; 64 << 10];
    for number in 0..stored {
        let n = get_xattr(&path, &format!("user.large-{number}"), &mut buffer).unwrap();
        assert!(buffer[..n] == large);
    }
    let n = get_xattr(&path, "user.kept", &mut buffer).unwrap();
    assert_eq!(&buffer[..n], b"value");
}

/// Offsets at and past 8 EiB, and past what the disk beneath can: the errno is that of the disk's own file system.
#[test]
fn offsets_past_the_end_of_everything() {
    for mode in [Mode::Passthrough, Mode::Daemon] {
        let dir = tools::scratch("offsets-");
        let local = mode
            .apply(LocalBuilder::at(dir.path()), "")
            .option("alluxio.user.file.writetype.default", "MUST_CACHE")
            .start();
        let open = |path: &Path| {
            File::options()
                .create(true)
                .truncate(true)
                .read(true)
                .write(true)
                .open(path)
                .unwrap()
        };
        let (ours, native) = (open(&local.mount().join("f")), open(&dir.path().join("native")));
        ours.write_all_at(b"kept", 0).unwrap();
        for offset in [i64::MAX, i64::MAX - 1, i64::MAX - 4_096, 1 << 62, 1 << 50, 1 << 44, -1] {
            let call = |file: &File| {
                let fd = file.as_raw_fd();
                // SAFETY of all calls: the pointer and length describe bytes that outlive them.
                unsafe {
                    [
                        errno(libc::pwrite(fd, b"0123".as_ptr().cast(), 4, offset) as i64),
                        errno(libc::ftruncate(fd, offset)),
                        errno(libc::fallocate(fd, libc::FALLOC_FL_KEEP_SIZE, offset, 4_096)),
                        errno(libc::posix_fadvise(fd, offset, 1, libc::POSIX_FADV_DONTNEED)),
                    ]
                }
            };
            assert_eq!(call(&ours), call(&native), "{} at offset {offset:#x}", mode.name());
        }
        assert_eq!(ours.metadata().unwrap().len(), 4, "{}", mode.name());
        let mut kept = [0; 4];
        ours.read_exact_at(&mut kept, 0).unwrap();
        assert_eq!(&kept, b"kept");
        // Sparse and large is fine.
        let far = 1 << 40;
        ours.write_all_at(b"far", far).unwrap();
        let mut found = [9; 6];
        ours.read_exact_at(&mut found, far - 3).unwrap();
        assert_eq!(&found, b"\0\0\0far", "{}", mode.name());
        drop(ours);
        assert_eq!(std::fs::metadata(local.mount().join("f")).unwrap().len(), far + 3);
    }
}

#[test]
fn unknown_requests_and_flags() {
    let local = LocalBuilder::new().start();
    let path = local.mount().join("f");
    let mut file = File::options()
        .create(true)
        .truncate(true)
        .read(true)
        .write(true)
        .open(&path)
        .unwrap();
    file.write_all(&[1; 100_000]).unwrap();
    let other = File::create(local.mount().join("g")).unwrap();
    let fd = file.as_raw_fd();
    let collapse = libc::FALLOC_FL_COLLAPSE_RANGE;
    let insert = libc::FALLOC_FL_INSERT_RANGE;
    let (from, to) = (c(&path), c(&local.mount().join("h")));
    let mut number = 0u64;
    // SAFETY of all calls: paths are NUL-terminated, `number` and the descriptors outlive them.
    unsafe {
        assert_eq!(errno(libc::ioctl(fd, 0x1234_5678, &raw mut number)), libc::ENOTTY);
        // FICLONE: said truthfully; the caller copies instead.
        assert_eq!(
            errno(libc::ioctl(other.as_raw_fd(), libc::FICLONE, fd)),
            libc::EOPNOTSUPP
        );
        assert_eq!(errno(libc::fallocate(fd, 0x4000, 0, 4_096)), libc::EOPNOTSUPP);
        assert_eq!(errno(libc::fallocate(fd, collapse, 0, 4_096)), libc::EOPNOTSUPP);
        assert_eq!(errno(libc::fallocate(fd, insert, 0, 4_096)), libc::EOPNOTSUPP);
        assert_eq!(errno(libc::fallocate(fd, 0, 0, 0)), libc::EINVAL);
        let rename = |flags| {
            errno(libc::renameat2(
                libc::AT_FDCWD,
                from.as_ptr(),
                libc::AT_FDCWD,
                to.as_ptr(),
                flags,
            ))
        };
        assert_eq!(rename(1 << 10), libc::EINVAL);
        assert_eq!(rename(libc::RENAME_NOREPLACE | libc::RENAME_EXCHANGE), libc::EINVAL);
        assert_eq!(rename(libc::RENAME_EXCHANGE), libc::ENOENT);
    }
    assert_eq!(std::fs::read(&path).unwrap(), vec![1; 100_000]);
    assert!(!local.mount().join("h").exists());
}

/// A store that denies the write: close says so where the write type promises the store, and the object before is intact.
#[test]
fn a_store_that_denies_the_write_at_close() {
    let server = Versity::start();
    let proxy = Proxy::start(&server.endpoint());
    let local = LocalBuilder::new()
        .ufs("s3://bucket")
        .options(options_for(&proxy.endpoint()))
        .option("alluxio.user.file.writetype.default", "CACHE_THROUGH")
        .option("alluxio.user.rpc.retry.max.duration", "5s")
        .start();
    let path = local.mount().join("f");
    std::fs::write(&path, "before").unwrap();
    proxy.fault("PUT", "", Fault::Status(403), usize::MAX);
    proxy.fault("POST", "", Fault::Status(403), usize::MAX);
    let file = File::options().write(true).open(&path).unwrap();
    file.write_all_at(b"denied", 0).unwrap();
    let closed = wait::within("a close that the store denies", SHORT, move || {
        use std::os::fd::IntoRawFd;
        // SAFETY: the descriptor was ours alone and is not used after this.
        errno(unsafe { libc::close(file.into_raw_fd()) })
    });
    assert_eq!(closed, libc::EACCES);
    assert_eq!(std::fs::read(server.bucket("bucket").join("f")).unwrap(), b"before");
    proxy.heal();
    let other = local.mount().join("g");
    wait::within("a close after the store healed", SHORT, move || {
        std::fs::write(other, "after")
    })
    .unwrap();
    assert_eq!(std::fs::read(server.bucket("bucket").join("g")).unwrap(), b"after");
}

/// A store that refuses for want of room: each refusal has the errno that a native file system would give, from fsync as from
/// close, and what was there before is intact.
#[test]
fn a_store_that_has_no_room() {
    let server = Versity::start();
    let proxy = Proxy::start(&server.endpoint());
    let local = LocalBuilder::new()
        .ufs("s3://bucket")
        .options(options_for(&proxy.endpoint()))
        .option("alluxio.user.file.writetype.default", "CACHE_THROUGH")
        .option("alluxio.user.rpc.retry.max.duration", "5s")
        .start();
    for (number, (status, code, expected)) in [
        (403, "QuotaExceeded", libc::EDQUOT),
        (507, "InsufficientStorage", libc::ENOSPC),
        (400, "EntityTooLarge", libc::EFBIG),
        (403, "AccessDenied", libc::EACCES),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("f{number}");
        let path = local.mount().join(&name);
        std::fs::write(&path, "before").unwrap();
        proxy.fault("PUT", "", Fault::Refuse(status, code), usize::MAX);
        proxy.fault("POST", "", Fault::Refuse(status, code), usize::MAX);
        let file = File::options().write(true).open(&path).unwrap();
        file.write_all_at(b"refused", 0).unwrap();
        let (synced, closed) = wait::within("a close that the store refuses", SHORT, move || {
            use std::os::fd::IntoRawFd;
            let synced = io_errno(file.sync_all());
            // SAFETY: the descriptor was ours alone and is not used after this.
            (synced, errno(unsafe { libc::close(file.into_raw_fd()) }))
        });
        assert_eq!(synced, expected, "{code} at fsync");
        assert!([0, expected].contains(&closed), "{code} at close: {closed}");
        let stored = server.bucket("bucket").join(&name);
        assert_eq!(std::fs::read(&stored).unwrap(), b"before", "{code}");
        // The mount goes on with what was written, and stores it as soon as it can.
        assert_eq!(std::fs::read(&path).unwrap(), b"refused", "{code}");
        proxy.heal();
        local.alluxio(&["fs", "persist", &format!("/{name}")]).ok();
        assert_eq!(std::fs::read(&stored).unwrap(), b"refused", "{code}");
    }
}

/// The disk of the data folder fills in the middle of a write: ENOSPC there or at fsync or close, what was written before is
/// intact, and removing makes room again.
#[test]
fn a_disk_that_fills_in_the_middle_of_a_write() {
    for mode in [Mode::Passthrough, Mode::Daemon] {
        let disk = Disk::with_mib("full", 320);
        let ufs = tools::scratch("full-ufs-");
        let local = mode
            .apply(LocalBuilder::at(disk.path()).ufs(tools::text(ufs.path())), "")
            .option("alluxio.user.file.writetype.default", "MUST_CACHE")
            .start();
        let kept = tree::contents(5, 3_000_000);
        std::fs::write(local.mount().join("kept"), &kept).unwrap();
        let big = local.mount().join("big");
        let full = write_until_full(&big, 600 << 20);
        assert_eq!(full, libc::ENOSPC, "{}", mode.name());
        assert!(
            std::fs::read(local.mount().join("kept")).unwrap() == kept,
            "{}",
            mode.name()
        );
        std::fs::remove_file(&big).unwrap();
        wait::until("the room is back", SHORT, || {
            write_until_full(&local.mount().join("again"), 20 << 20) == 0
        });
        assert!(
            std::fs::read(local.mount().join("kept")).unwrap() == kept,
            "{}",
            mode.name()
        );
        let (code, log) = local.stop(SHORT);
        assert_eq!(code, 0, "{}: {log}", mode.name());
        assert!(!log.contains("panicked"), "{log}");
    }
}

/// The under-storage fills: close says so where the write type promises it, and what is there stays whole.
#[test]
fn an_under_storage_that_fills() {
    let disk = Disk::with_mib("full-ufs", 64);
    let ufs = disk.path().join("ufs");
    std::fs::create_dir(&ufs).unwrap();
    let local = LocalBuilder::new()
        .ufs(tools::text(&ufs))
        .option("alluxio.user.file.writetype.default", "CACHE_THROUGH")
        .option("alluxio.user.rpc.retry.max.duration", "5s")
        .start();
    let kept = tree::contents(6, 3_000_000);
    std::fs::write(local.mount().join("kept"), &kept).unwrap();
    let error = write_until_full(&local.mount().join("big"), 100 << 20);
    assert_eq!(error, libc::ENOSPC);
    assert!(std::fs::read(ufs.join("kept")).unwrap() == kept);
    assert!(!ufs.join("big").exists(), "half a file is in the under-storage");
    std::fs::remove_file(local.mount().join("big")).unwrap();
    std::fs::write(local.mount().join("again"), &kept).unwrap();
    assert!(std::fs::read(ufs.join("again")).unwrap() == kept);
}

/// Writes, syncs and closes; answers the first errno.
fn write_until_full(path: &Path, bytes: usize) -> i32 {
    let path = path.to_owned();
    wait::within("writing until all is full", SHORT, move || fill(&path, bytes))
}

fn fill(path: &Path, bytes: usize) -> i32 {
    use std::os::fd::IntoRawFd;
    let mut file = match File::create(path) {
        Ok(file) => file,
        Err(error) => return error.raw_os_error().unwrap(),
    };
    let block = tree::contents(9, 1 << 20);
    for _ in 0..bytes >> 20 {
        if let Err(error) = file.write_all(&block) {
            return error.raw_os_error().unwrap_or(libc::EIO);
        }
    }
    let synced = io_errno(file.sync_all());
    // SAFETY: the descriptor was ours alone and is not used after this.
    let closed = errno(unsafe { libc::close(file.into_raw_fd()) });
    if synced != 0 { synced } else { closed }
}
