//! Single system calls and promises of `docs/posix.md`, each by itself: what the random sequences of the reference test do not
//! reach, or reach only by luck.
#![allow(clippy::unwrap_used, reason = "a test ends there")]

use alluxio_tests::cluster::{Mount, on_dev};
use alluxio_tests::modes::Mode;
use alluxio_tests::{LocalBuilder, tools, tree};
use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

const SHORT: Duration = Duration::from_secs(60);

fn c(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap()
}

fn errno(result: impl Into<i64>) -> i32 {
    if result.into() >= 0 {
        return 0;
    }
    std::io::Error::last_os_error().raw_os_error().unwrap()
}

/// Runs a shell script as another user; it must succeed.
#[track_caller]
fn sh_as(uid: u32, script: &str) {
    let mut command = Command::new("setpriv");
    command
        .args([
            &format!("--reuid={uid}"),
            &format!("--regid={uid}"),
            "--clear-groups",
            "sh",
            "-ec",
        ])
        .arg(script);
    alluxio_tests::process::run(&mut command, SHORT).ok();
}

fn open_to_all(dir: &Path) {
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// Appends of several writers never overlap or tear: within a process, between processes, and between mounts.
#[test]
fn appends_are_atomic_between_writers() {
    const RECORDS: usize = 300;
    const RECORD_BYTES: usize = 1_000;
    for mode in [Mode::Passthrough, Mode::Daemon] {
        let dir = tools::scratch("append-");
        let local = mode.apply(LocalBuilder::at(dir.path()), "").start();
        let second = Mount::start(&local, &dir.path().join("second"), mode);
        let path = |writer: usize| [local.mount(), second.path()][writer % 2].join("log");
        File::create(path(0)).unwrap();
        std::thread::scope(|scope| {
            for writer in 0..4usize {
                let path = path(writer);
                scope.spawn(move || {
                    let mut file = File::options().append(true).open(path).unwrap();
                    for _ in 0..RECORDS {
                        let record = [b'a' + writer as u8; RECORD_BYTES];
                        assert_eq!(file.write(&record).unwrap(), RECORD_BYTES);
                    }
                });
            }
        });
        let bytes = std::fs::read(path(1)).unwrap();
        assert_eq!(bytes.len(), 4 * RECORDS * RECORD_BYTES, "{}", mode.name());
        let mut counts = [0; 4];
        for record in bytes.chunks(RECORD_BYTES) {
            assert!(
                record.iter().all(|byte| *byte == record[0]),
                "{}: a torn record",
                mode.name()
            );
            counts[usize::from(record[0] - b'a')] += 1;
        }
        assert_eq!(counts, [RECORDS; 4], "{}", mode.name());
    }
}

/// A listing that goes on while the directory changes shows what was there all the time exactly once, and positions stay good:
/// also in a directory of which not all pages are kept.
#[test]
fn directory_positions_hold_while_the_directory_changes() {
    const NAMES: usize = 9_000;
    let dir = tools::scratch("positions-");
    let ufs = dir.path().join("ufs");
    std::fs::create_dir_all(ufs.join("d")).unwrap();
    let name = |number: usize| format!("name-{number:05}");
    for number in 0..NAMES {
        File::create(ufs.join("d").join(name(number))).unwrap();
    }
    let local = LocalBuilder::at(dir.path()).ufs(tools::text(&ufs)).start();
    let dir = local.mount().join("d");
    let mut listing = Listing::open(&dir);
    let mut seen: Vec<(String, i64)> = (0..NAMES / 3).filter_map(|_| listing.next()).collect();
    // Some go, some come: before and behind the position.
    let gone: BTreeSet<String> = (0..NAMES).step_by(60).map(name).collect();
    let came: BTreeSet<String> = (0..150).map(|number| format!("{}-new", name(number * 58))).collect();
    gone.iter()
        .for_each(|name| std::fs::remove_file(dir.join(name)).unwrap());
    came.iter().for_each(|name| make_empty(&dir.join(name)));
    seen.extend(std::iter::from_fn(|| listing.next()));
    let stays = |name: &str| name.starts_with("name-") && !gone.contains(name) && !came.contains(name);
    let stayed: Vec<&String> = seen.iter().map(|(name, _)| name).filter(|name| stays(name)).collect();
    let unique: BTreeSet<&&String> = stayed.iter().collect();
    assert_eq!(stayed.len(), unique.len(), "a name was shown twice");
    assert_eq!(
        unique.len(),
        NAMES - gone.len(),
        "a name that was there all the time was not shown"
    );
    // Back to positions all over the directory: what follows is what followed.
    for at in (5..seen.len() - 100).step_by(1_709) {
        listing.seek(seen[at].1);
        let again: Vec<String> = std::iter::from_fn(|| listing.next())
            .map(|(name, _)| name)
            .filter(|name| stays(name))
            .take(50)
            .collect();
        let before: Vec<&String> = seen[at + 1..]
            .iter()
            .map(|(name, _)| name)
            .filter(|name| stays(name))
            .collect();
        assert!(
            again.iter().eq(before.into_iter().take(50)),
            "after position {at} follow {again:?}"
        );
    }
    // From the start: as it is now.
    listing.rewind();
    let now: BTreeSet<String> = std::iter::from_fn(|| listing.next()).map(|(name, _)| name).collect();
    assert!(
        came.is_subset(&now),
        "{:?} came and are not shown",
        came.difference(&now)
    );
    assert!(now.is_disjoint(&gone), "{:?} are gone", now.intersection(&gone));
}

/// A FIFO: what costs one change.
fn make_empty(path: &Path) {
    // SAFETY: the path is NUL-terminated.
    assert_eq!(errno(unsafe { libc::mkfifo(c(path).as_ptr(), 0o644) }), 0);
}

/// A directory stream of the C library.
struct Listing {
    stream: *mut libc::DIR,
}

impl Listing {
    fn open(dir: &Path) -> Listing {
        // SAFETY: the path is NUL-terminated.
        let stream = unsafe { libc::opendir(c(dir).as_ptr()) };
        assert!(!stream.is_null());
        Listing { stream }
    }

    /// The next name, and the position after it.
    fn next(&mut self) -> Option<(String, i64)> {
        // SAFETY: the stream is open; an entry is valid until the next call.
        unsafe {
            let entry = libc::readdir64(self.stream);
            if entry.is_null() {
                return None;
            }
            let name = std::ffi::CStr::from_ptr((*entry).d_name.as_ptr())
                .to_string_lossy()
                .into_owned();
            Some((name, libc::telldir(self.stream)))
        }
    }

    fn seek(&mut self, position: i64) {
        // SAFETY: the stream is open.
        unsafe { libc::seekdir(self.stream, position) }
    }

    fn rewind(&mut self) {
        // SAFETY: the stream is open.
        unsafe { libc::rewinddir(self.stream) }
    }
}

impl Drop for Listing {
    fn drop(&mut self) {
        // SAFETY: the stream is open and not used after this.
        unsafe { libc::closedir(self.stream) };
    }
}

/// O_TMPFILE: a file without a name, which gets one or vanishes.
#[test]
fn files_without_a_name() {
    let local = LocalBuilder::new().start();
    let make = || {
        File::options()
            .read(true)
            .write(true)
            .custom_flags(libc::O_TMPFILE)
            .mode(0o600)
            .open(local.mount())
    };
    if !on_dev() {
        // fuser 0.18 does not know the request; programs make a name and remove it.
        assert_eq!(make().unwrap_err().raw_os_error(), Some(libc::EOPNOTSUPP));
        assert_eq!(std::fs::read_dir(local.mount()).unwrap().count(), 0);
        return;
    }
    let file = make().expect("O_TMPFILE");
    file.write_all_at(b"named later", 0).unwrap();
    assert_eq!(file.metadata().unwrap().nlink(), 0);
    assert_eq!(std::fs::read_dir(local.mount()).unwrap().count(), 0);
    let (from, to) = (
        CString::new(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap(),
        c(&local.mount().join("f")),
    );
    // SAFETY: both paths are NUL-terminated.
    let linked = unsafe {
        errno(libc::linkat(
            libc::AT_FDCWD,
            from.as_ptr(),
            libc::AT_FDCWD,
            to.as_ptr(),
            libc::AT_SYMLINK_FOLLOW,
        ))
    };
    assert_eq!(linked, 0);
    drop(file);
    assert_eq!(std::fs::read(local.mount().join("f")).unwrap(), b"named later");
    drop(make().expect("O_TMPFILE"));
    assert_eq!(std::fs::read_dir(local.mount()).unwrap().count(), 1);
}

/// O_DIRECT reads and writes what is there, aligned or not.
#[test]
fn direct_io() {
    for mode in [Mode::Passthrough, Mode::Daemon] {
        let local = mode.apply(LocalBuilder::new(), "").start();
        let path = local.mount().join("f");
        let mut open = File::options();
        open.create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .custom_flags(libc::O_DIRECT);
        let direct = open.open(&path).unwrap();
        let layout = std::alloc::Layout::from_size_align(8_192, 4_096).unwrap();
        // SAFETY: the layout has a size; the memory lives to the end of the test.
        let buffer = unsafe { std::slice::from_raw_parts_mut(std::alloc::alloc_zeroed(layout), 8_192) };
        buffer.copy_from_slice(&tree::contents(3, 8_192));
        direct.write_all_at(buffer, 4_096).unwrap();
        let cached = std::fs::read(&path).unwrap();
        assert!(
            cached[4_096..] == *buffer && cached[..4_096] == [0; 4_096],
            "{}",
            mode.name()
        );
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .write_all_at(b"cached", 5_000)
            .unwrap();
        direct.read_exact_at(buffer, 4_096).unwrap();
        assert_eq!(&buffer[904..910], b"cached", "{}", mode.name());
    }
}

/// A file that is unlinked, or whose directory is, goes on for those who have it.
#[test]
fn what_is_removed_stays_for_those_who_have_it() {
    let local = LocalBuilder::new().start();
    let dir = local.mount().join("d");
    std::fs::create_dir(&dir).unwrap();
    let mut file = File::options()
        .create_new(true)
        .read(true)
        .write(true)
        .open(dir.join("f"))
        .unwrap();
    let inside = File::open(&dir).unwrap();
    std::fs::remove_file(dir.join("f")).unwrap();
    file.write_all(b"still there").unwrap();
    file.sync_all().unwrap();
    let mut found = String::new();
    file.read_to_string(&mut found).unwrap();
    let mut whole = [0; 11];
    file.read_exact_at(&mut whole, 0).unwrap();
    assert_eq!(&whole, b"still there");
    assert_eq!(file.metadata().unwrap().nlink(), 0);
    file.set_len(5).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 5);
    std::fs::remove_dir(&dir).unwrap();
    // The removed directory: empty, nothing can be made in it, and it can be looked at.
    assert_eq!(inside.metadata().unwrap().nlink(), 0);
    let name = CString::new("new").unwrap();
    // SAFETY: the name is NUL-terminated, the descriptor is open.
    let made = unsafe { errno(libc::mkdirat(inside.as_raw_fd(), name.as_ptr(), 0o755)) };
    assert_eq!(made, libc::ENOENT);
}

/// So do FIFOs, symbolic links, directories that are somebody's current one, and what a rename replaces; whoever removes it.
/// A file that is removed right after it was written, before its mount has let go of it, can be looked at after that as well.
#[test]
fn what_is_removed_right_after_it_was_written_can_be_looked_at() {
    let dir = tools::scratch("removed-soon-");
    let local = LocalBuilder::at(dir.path()).start();
    for turn in 0..5 {
        let path = local.mount().join(format!("f{turn}"));
        std::fs::write(&path, "x").unwrap();
        let held = File::options()
            .read(true)
            .custom_flags(libc::O_PATH)
            .open(&path)
            .unwrap();
        std::fs::remove_file(&path).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(150));
        let now = held.metadata().unwrap();
        assert_eq!((now.nlink(), now.len()), (0, 1), "turn {turn}");
    }
}

#[test]
fn what_has_no_name_any_more_can_be_looked_at() {
    let dir = tools::scratch("removed-");
    let local = LocalBuilder::at(dir.path()).start();
    let second = Mount::start(&local, &dir.path().join("second"), Mode::Passthrough);
    let here = local.mount();
    for remover in [here, second.path()] {
        for name in ["fifo", "link", "dir", "replaced", "file", "over"] {
            let path = c(&here.join(name));
            let made = match name {
                // SAFETY: the path is NUL-terminated.
                "fifo" => unsafe { libc::mkfifo(path.as_ptr(), 0o640) },
                // SAFETY: both paths are NUL-terminated.
                "link" => unsafe { libc::symlink(c"target".as_ptr(), path.as_ptr()) },
                // SAFETY: the path is NUL-terminated.
                "dir" | "replaced" | "over" => unsafe { libc::mkdir(path.as_ptr(), 0o750) },
                _ => std::fs::write(here.join(name), "x").map_or(-1, |()| 0),
            };
            assert_eq!(errno(made), 0, "{name}");
        }
        // By O_PATH, so that nobody is told of an open.
        let open = |name: &str| {
            let flags = libc::O_PATH | libc::O_NOFOLLOW;
            File::options()
                .read(true)
                .custom_flags(flags)
                .open(here.join(name))
                .unwrap()
        };
        let held = ["fifo", "link", "dir", "replaced", "file"].map(|name| (name, open(name)));
        let before = held.each_ref().map(|(_, file)| file.metadata().unwrap());
        for name in ["fifo", "link", "file"] {
            std::fs::remove_file(remover.join(name)).unwrap();
        }
        std::fs::remove_dir(remover.join("dir")).unwrap();
        rename(&remover.join("over"), &remover.join("replaced"));
        for ((name, file), before) in held.iter().zip(before) {
            // This mount hears a moment later of what another did; until then it is ENOENT.
            alluxio_tests::wait::until(&format!("{name} has no name"), SHORT, || {
                file.metadata().is_ok_and(|meta| meta.nlink() == 0)
            });
            let now = file.metadata().unwrap();
            let seen = |meta: &std::fs::Metadata| (meta.ino(), meta.mode(), meta.uid(), meta.len(), meta.mtime());
            if *name != "dir" && *name != "replaced" {
                assert_eq!(seen(&now), seen(&before), "{name}");
            }
            assert_eq!(now.mode(), before.mode(), "{name}");
        }
        std::fs::remove_dir(remover.join("replaced")).unwrap();
    }
    // A current directory: it can be asked, and opened, and nothing is in it.
    let script = "mkdir gone; cd gone; rmdir ../gone; stat -c %h . > /dev/null; exec 3< .; ! mkdir new 2> /dev/null; ! ls . 2> /dev/null | grep .";
    alluxio_tests::process::sh(&format!("cd {}; {script}", here.display()), SHORT).ok();
}

fn rename(from: &Path, to: &Path) {
    // SAFETY: both paths are NUL-terminated.
    assert_eq!(errno(unsafe { libc::rename(c(from).as_ptr(), c(to).as_ptr()) }), 0);
}

/// setuid and setgid go when somebody else writes; new files take the group of a setgid directory; sticky protects names.
#[test]
fn special_bits() {
    let dir = tools::scratch("bits-");
    open_to_all(dir.path());
    for mode in [Mode::Passthrough, Mode::Daemon] {
        let base = dir.path().join(mode.name());
        std::fs::create_dir(&base).unwrap();
        open_to_all(&base);
        let local = mode.apply(LocalBuilder::at(&base), "").start();
        let m = local.mount().display();
        alluxio_tests::process::sh(
            &format!(
                "cd {m}; for f in write truncate chown; do echo x > $f; chmod 6777 $f; done; mkdir shared sticky; chown 0:2 shared; \
                 chmod 2777 shared; chmod 1777 sticky; echo x > sticky/root; chmod 666 sticky/root"
            ),
            SHORT,
        )
        .ok();
        sh_as(
            1,
            &format!(
                "cd {m}; echo y >> write; : > truncate; echo z > shared/f; mkdir shared/d; echo mine > sticky/mine"
            ),
        );
        sh_as(
            2,
            &format!(
                "cd {m}; ! rm -f sticky/mine 2> /dev/null; ! mv sticky/root sticky/other 2> /dev/null; echo more >> sticky/root"
            ),
        );
        alluxio_tests::process::sh(&format!("chown 1:1 {m}/chown"), SHORT).ok();
        let mode_of = |name: &str| std::fs::metadata(local.mount().join(name)).unwrap().mode() & 0o7777;
        assert_eq!(mode_of("write"), 0o777, "{}", mode.name());
        assert_eq!(mode_of("truncate"), 0o777, "{}", mode.name());
        assert_eq!(mode_of("chown"), 0o777, "{}", mode.name());
        assert_eq!(std::fs::metadata(local.mount().join("shared/f")).unwrap().gid(), 2);
        assert_eq!(std::fs::metadata(local.mount().join("shared/d")).unwrap().gid(), 2);
        assert_eq!(mode_of("shared/d") & 0o2000, 0o2000);
    }
}

/// statx with the time of birth, which no change moves.
#[test]
fn the_time_of_birth() {
    let local = LocalBuilder::new().start();
    let path = local.mount().join("f");
    let before = SystemTime::now() - Duration::from_secs(1);
    std::fs::write(&path, "x").unwrap();
    if !on_dev() {
        // fuser 0.18 does not know statx, so the kernel asks for stat and says that it has no time of birth.
        let missing = std::fs::metadata(&path).unwrap().created().unwrap_err();
        assert_eq!(missing.kind(), std::io::ErrorKind::Unsupported);
        return;
    }
    let born = std::fs::metadata(&path).unwrap().created().expect("statx with btime");
    assert!(born > before && born <= SystemTime::now());
    std::fs::write(&path, "changed").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().created().unwrap(), born);
}

/// relatime: a read moves atime when it is older than the last change, and not again right after.
#[test]
fn reads_move_atime_as_relatime_says() {
    for mode in [Mode::Passthrough, Mode::Daemon] {
        let local = mode.apply(LocalBuilder::new(), "").start();
        let path = local.mount().join("f");
        std::fs::write(&path, "x").unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        file.set_times(std::fs::FileTimes::new().set_accessed(old)).unwrap();
        drop(file);
        std::fs::read(&path).unwrap();
        let first = std::fs::metadata(&path).unwrap().accessed().unwrap();
        assert!(first > old, "{}: a read did not move atime", mode.name());
        std::fs::read(&path).unwrap();
        assert_eq!(
            std::fs::metadata(&path).unwrap().accessed().unwrap(),
            first,
            "{}",
            mode.name()
        );
    }
}

/// statfs answers sizes that make sense, and follows a file's coming.
#[test]
fn statfs_is_about_the_under_storage() {
    let local = LocalBuilder::new().start();
    let found = nix::sys::statvfs::statvfs(local.mount()).unwrap();
    assert!(found.blocks() > 0 && found.blocks_free() > 0 && found.blocks_free() <= found.blocks());
    assert_eq!(found.name_max(), 255);
}

/// inotify on a mount tells of this mount's changes.
#[test]
fn inotify_on_the_same_mount() {
    let local = LocalBuilder::new().start();
    // SAFETY: no pointer is passed; the descriptor is new and nobody else's.
    let mut events = unsafe { File::from_raw_fd(libc::inotify_init1(libc::IN_NONBLOCK | libc::IN_CLOEXEC)) };
    let path = c(local.mount());
    let wanted = libc::IN_CREATE | libc::IN_CLOSE_WRITE | libc::IN_MOVED_TO | libc::IN_DELETE;
    // SAFETY: the path is NUL-terminated.
    assert_eq!(
        // SAFETY: the path is NUL-terminated.
        unsafe { errno(libc::inotify_add_watch(events.as_raw_fd(), path.as_ptr(), wanted)) },
        0
    );
    std::fs::write(local.mount().join("a"), "x").unwrap();
    alluxio_tests::process::sh(&format!("cd {}; mv a b; rm b", local.mount().display()), SHORT).ok();
    let (mut seen, mut buffer, start) = (0, [0u8; 4_096], Instant::now());
    while seen != wanted && start.elapsed() < SHORT {
        let mut ready = libc::pollfd {
            fd: events.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: it is one structure, which outlives the call.
        unsafe { libc::poll(&raw mut ready, 1, 1_000) };
        let n = events.read(&mut buffer).unwrap_or(0);
        let mut at = 0;
        while at + 16 <= n {
            let word = |from: usize| u32::from_ne_bytes(buffer[from..from + 4].try_into().unwrap());
            seen |= word(at + 4) & wanted;
            at += 16 + word(at + 12) as usize;
        }
    }
    assert_eq!(seen, wanted);
}

/// A read-only mount refuses every change and shows everything.
#[test]
fn a_read_only_mount() {
    let dir = tools::scratch("read-only-");
    let ufs = dir.path().join("ufs");
    std::fs::create_dir(&ufs).unwrap();
    std::fs::write(ufs.join("f"), "there").unwrap();
    let local = LocalBuilder::at(dir.path())
        .ufs(tools::text(&ufs))
        .option("alluxio.fuse.mount.options", "ro")
        .start();
    assert_eq!(std::fs::read(local.mount().join("f")).unwrap(), b"there");
    let refused = [
        std::fs::write(local.mount().join("g"), "x"),
        std::fs::create_dir(local.mount().join("d")),
        std::fs::remove_file(local.mount().join("f")),
        std::fs::set_permissions(local.mount().join("f"), std::fs::Permissions::from_mode(0o600)),
    ];
    for result in refused {
        assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EROFS));
    }
}

/// A mapping that is shared between two processes, and outlives name and descriptor.
#[test]
fn shared_mappings() {
    for mode in [Mode::Passthrough, Mode::Daemon] {
        let ufs = tools::scratch("mapped-");
        let local = mode.apply(LocalBuilder::new().ufs(tools::text(ufs.path())), "").start();
        let path = local.mount().join("f");
        std::fs::write(&path, vec![0; 10_000]).unwrap();
        let script = "import mmap, sys\nf = open(sys.argv[1], 'r+b'); m = mmap.mmap(f.fileno(), 0); f.close()\nm[5000:5006] = b'mapped'; m.flush(); m.close()";
        let mut command = Command::new("python3");
        command.arg("-c").arg(script).arg(&path);
        alluxio_tests::process::run(&mut command, SHORT).ok();
        let found = std::fs::read(&path).unwrap();
        assert_eq!(&found[4_999..5_007], b"\0mapped\0", "{}", mode.name());
        // And it reaches the under-storage, whence it is read without this cache.
        local.alluxio(&["fs", "persist", "/"]).ok();
        let stored = std::fs::read(ufs.path().join("f")).unwrap();
        assert!(stored == found, "{}", mode.name());
    }
}

/// What a handle of a file system server names can be opened again, and what the kernel cannot do on FUSE says so.
#[test]
fn handles_leases_and_swap() {
    let dir = tools::scratch("handles-");
    let local = LocalBuilder::at(dir.path()).start();
    let path = local.mount().join("f");
    std::fs::write(&path, "what the handle names").unwrap();

    let mut handle = FileHandle {
        bytes: 128,
        kind: 0,
        data: [0; 128],
    };
    let mut mount = 0;
    let name = c(&path);
    // SAFETY: the name ends with NUL, and the handle has room for the bytes that it says.
    let got = unsafe {
        libc::name_to_handle_at(
            libc::AT_FDCWD,
            name.as_ptr(),
            (&raw mut handle).cast(),
            &raw mut mount,
            0,
        )
    };
    assert_eq!(errno(got), 0);
    rename(&path, &local.mount().join("g"));
    let root = File::open(local.mount()).unwrap();
    // SAFETY: the handle is the one that was filled in.
    let fd = unsafe { libc::open_by_handle_at(root.as_raw_fd(), (&raw mut handle).cast(), libc::O_RDONLY) };
    assert_eq!(errno(fd), 0);
    // SAFETY: the descriptor was just opened and belongs to nobody else.
    let mut file = unsafe { File::from_raw_fd(fd) };
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "what the handle names");

    // SAFETY: these calls take a descriptor, numbers and a name that ends with NUL.
    unsafe {
        assert_eq!(errno(libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_RDLCK)), 0);
        assert_eq!(errno(libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_UNLCK)), 0);
        let name = c(&local.mount().join("g"));
        assert_eq!(errno(libc::swapon(name.as_ptr(), 0)), libc::EINVAL);
    }
}

/// `struct file_handle` of name_to_handle_at(2), with room for the largest.
#[repr(C)]
struct FileHandle {
    bytes: u32,
    kind: i32,
    data: [u8; 128],
}
