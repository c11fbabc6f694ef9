//! Holes, copies of ranges, and files as long as the data folder's file system can have them.
#![allow(clippy::unwrap_used, reason = "a test ends there")]

use alluxio_tests::modes::Mode;
use alluxio_tests::{Local, LocalBuilder, tools, tree, wait};
use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const SHORT: Duration = Duration::from_secs(60);
const MB: u64 = 1 << 20;

fn answer(result: i64) -> Result<u64, i32> {
    u64::try_from(result).map_err(|_| std::io::Error::last_os_error().raw_os_error().unwrap())
}

fn seek(file: &File, from: u64, whence: i32) -> Result<u64, i32> {
    // SAFETY: no memory is involved.
    answer(unsafe { libc::lseek(file.as_raw_fd(), from as i64, whence) })
}

fn data(file: &File, from: u64) -> Result<u64, i32> {
    seek(file, from, libc::SEEK_DATA)
}

fn hole(file: &File, from: u64) -> Result<u64, i32> {
    seek(file, from, libc::SEEK_HOLE)
}

fn copy(from: (&File, u64), to: (&File, u64), length: u64) -> Result<u64, i32> {
    let (mut source, mut target) = (from.1 as i64, to.1 as i64);
    let (from, to) = (from.0.as_raw_fd(), to.0.as_raw_fd());
    // SAFETY: both offsets outlive the call.
    answer(unsafe { libc::copy_file_range(from, &raw mut source, to, &raw mut target, length as usize, 0) } as i64)
}

fn copy_all(from: (&File, u64), to: (&File, u64), length: u64) {
    let mut done = 0;
    while done < length {
        let copied = copy((from.0, from.1 + done), (to.0, to.1 + done), length - done).unwrap();
        assert_ne!(copied, 0, "after {done} of {length} bytes");
        done += copied;
    }
}

fn open(path: &Path) -> File {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).read(true).write(true);
    options.open(path).unwrap()
}

fn sh(script: &str) -> String {
    let mut command = Command::new("sh");
    let output = alluxio_tests::process::run(command.args(["-ec", script]), SHORT).ok();
    output.trim().to_owned()
}

fn start(mode: Mode, base: &Path) -> Local {
    let builder = mode.apply(LocalBuilder::at(base), "1MB");
    builder
        .option("alluxio.user.file.writetype.default", "MUST_CACHE")
        .start()
}

/// 64 KiB at 1 MiB and at 5 MiB, and a hole up to 8 MiB.
fn make_sparse(path: &Path) -> File {
    let file = open(path);
    file.set_len(8 * MB).unwrap();
    for at in [MB, 5 * MB] {
        file.write_all_at(&tree::contents(at, 65_536), at).unwrap();
    }
    file
}

#[track_caller]
fn assert_sparse(file: &File, what: &str) {
    let found = [
        data(file, 0),
        hole(file, 0),
        hole(file, MB),
        data(file, MB + 5),
        data(file, MB + 65_536),
        hole(file, 5 * MB + 1),
        data(file, 6 * MB),
        hole(file, 7 * MB),
        data(file, 8 * MB),
        hole(file, 8 * MB),
        hole(file, 9 * MB),
        data(file, i64::MAX as u64),
    ];
    let no = Err(libc::ENXIO);
    let expected = [
        Ok(MB),
        Ok(0),
        Ok(MB + 65_536),
        Ok(MB + 5),
        Ok(5 * MB),
        Ok(5 * MB + 65_536),
        no,
        Ok(7 * MB),
        no,
        no,
        no,
        no,
    ];
    assert_eq!(found, expected, "{what}");
}

#[test]
fn holes_are_found() {
    for mode in Mode::ALL {
        let dir = tools::scratch("holes-");
        let local = start(mode, dir.path());
        let path = local.mount().join("f");
        let file = make_sparse(&path);
        assert_sparse(&file, &format!("{}, open", mode.name()));
        drop(file);
        assert_sparse(&File::open(&path).unwrap(), &format!("{}, closed", mode.name()));
        let file = open(&path);
        // SAFETY: no memory is involved.
        let punched = unsafe {
            let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
            libc::fallocate(file.as_raw_fd(), mode, MB as i64, 65_536)
        };
        assert_eq!(punched, 0);
        assert_eq!(data(&file, 0), Ok(5 * MB), "{}, punched", mode.name());
        drop(file);
        assert_eq!(local.stop(SHORT).0, 0);
    }
}

/// What was stored into a mapping is in the kernel's pages first.
#[test]
fn what_a_mapping_wrote_is_data() {
    for mode in [Mode::Passthrough, Mode::Daemon] {
        let dir = tools::scratch("mapped-");
        let local = start(mode, dir.path());
        let file = open(&local.mount().join("f"));
        file.set_len(4 * MB).unwrap();
        let length = 4 * MB as usize;
        // SAFETY: the mapping is unmapped below, within its length nobody else writes, and the descriptor outlives it.
        unsafe {
            let (prot, fd) = (libc::PROT_READ | libc::PROT_WRITE, file.as_raw_fd());
            let map = libc::mmap(std::ptr::null_mut(), length, prot, libc::MAP_SHARED, fd, 0);
            assert_ne!(map, libc::MAP_FAILED);
            map.cast::<u8>().add(2 * MB as usize + 77).write_volatile(b'x');
            let found = data(&file, 0).unwrap();
            assert!(found <= 2 * MB + 77, "{}: data at {found}", mode.name());
            assert!(data(&file, 2 * MB + 77) == Ok(2 * MB + 77), "{}", mode.name());
            // Copied before it is written back as well.
            let other = open(&local.mount().join("g"));
            copy_all((&file, 2 * MB), (&other, 0), 100);
            let mut found = [0; 100];
            other.read_exact_at(&mut found, 0).unwrap();
            assert_eq!(found[77], b'x', "{}", mode.name());
            assert_eq!(libc::munmap(map, length), 0);
        }
        drop(file);
        assert_eq!(local.stop(SHORT).0, 0);
    }
}

/// What lies in the under-storage alone is data up to its end.
#[test]
fn what_is_not_here_is_data() {
    for mode in [Mode::Passthrough, Mode::Daemon] {
        let ufs = tools::scratch("cold-");
        std::fs::write(ufs.path().join("f"), vec![0; 3 * MB as usize + 5]).unwrap();
        let builder = mode.apply(LocalBuilder::new().ufs(tools::text(ufs.path())), "");
        let local = builder.option("alluxio.worker.file.whole.fetch.size", "0").start();
        let file = File::open(local.mount().join("f")).unwrap();
        assert_eq!(data(&file, 0), Ok(0), "{}", mode.name());
        assert_eq!(data(&file, MB + 1), Ok(MB + 1));
        assert_eq!(hole(&file, 7), Ok(3 * MB + 5));
        assert_eq!(data(&file, 3 * MB + 5), Err(libc::ENXIO));
        assert_eq!(hole(&file, 3 * MB + 5), Err(libc::ENXIO));
        // And it says so of its blocks.
        assert_eq!(file.metadata().unwrap().blocks(), (3 * MB + 5).div_ceil(512));
    }
}

#[test]
fn blocks_are_those_of_what_is_not_a_hole() {
    for mode in [Mode::Passthrough, Mode::Daemon] {
        let dir = tools::scratch("blocks-");
        let local = start(mode, dir.path());
        let path = local.mount().join("f");
        let file = make_sparse(&path);
        let blocks = |what: &str| {
            let blocks = std::fs::metadata(&path).unwrap().blocks();
            // What the local file system counts beside the data is its own.
            assert!(
                (256..=320).contains(&blocks),
                "{}, {what}: {blocks} blocks",
                mode.name()
            );
        };
        blocks("open");
        file.sync_all().unwrap();
        blocks("synced");
        drop(file);
        blocks("closed");
        wait::until("the end of its last close", SHORT, || {
            std::fs::metadata(&path).unwrap().blocks() <= 320
        });
        let at = local.mount().display();
        let du: u64 = sh(&format!("du -k {at}/f | cut -f1")).parse().unwrap();
        assert!((128..=160).contains(&du), "{}: du says {du}", mode.name());
        // Tools that look for holes find them, and keep the bytes.
        sh(&format!(
            "cd {at}; cp --sparse=auto f copy; cmp f copy; tar --sparse -cf archive f; mkdir out; tar -C out -xf archive; cmp f out/f"
        ));
        for name in ["copy", "out/f"] {
            let meta = std::fs::metadata(local.mount().join(name)).unwrap();
            assert!(
                meta.blocks() <= 320,
                "{}: {name} has {} blocks",
                mode.name(),
                meta.blocks()
            );
        }
        let archive = std::fs::metadata(local.mount().join("archive")).unwrap();
        assert!(archive.len() < MB, "{}: {} bytes", mode.name(), archive.len());
        // Without holes it is the length.
        std::fs::write(local.mount().join("whole"), vec![1; 100_000]).unwrap();
        let whole = std::fs::metadata(local.mount().join("whole")).unwrap();
        assert_eq!(whole.blocks(), 196, "{}", mode.name());
        assert_eq!(local.stop(SHORT).0, 0);
    }
}

/// Bytes that a process wrote by system calls, to files and to the kernel.
fn written_by(pid: u32) -> u64 {
    let io = std::fs::read_to_string(format!("/proc/{pid}/io")).unwrap();
    let line = io.lines().find_map(|line| line.strip_prefix("wchar: "));
    line.unwrap().parse().unwrap()
}

#[test]
fn ranges_are_copied_by_the_worker() {
    const LENGTH: u64 = 96 * MB + 12_345;
    for mode in [Mode::Passthrough, Mode::Daemon] {
        let dir = tools::scratch("copies-");
        let local = start(mode, dir.path());
        let content = tree::contents(1, LENGTH as usize);
        std::fs::write(local.mount().join("from"), &content).unwrap();
        let (from, to) = (open(&local.mount().join("from")), open(&local.mount().join("to")));
        let before = written_by(local.pid());
        copy_all((&from, 0), (&to, 0), LENGTH);
        let written = written_by(local.pid()) - before;
        // Through the daemon it would be the double, by the kernel alone nothing.
        assert!(
            (LENGTH..LENGTH * 5 / 4).contains(&written),
            "{}: {written} bytes written to copy {LENGTH}",
            mode.name()
        );
        assert_eq!(to.metadata().unwrap().len(), LENGTH, "{}", mode.name());
        // What was read before is not read again when it was copied over.
        let mut piece = vec![0; 10_000];
        to.read_exact_at(&mut piece, 3).unwrap();
        let mtime = to.metadata().unwrap().modified().unwrap();
        copy_all((&from, 50 * MB + 1), (&to, 3), 5_000);
        to.read_exact_at(&mut piece, 3).unwrap();
        assert!(piece[..5_000] == content[50 * MB as usize + 1..50 * MB as usize + 5_001]);
        assert!(piece[5_000..] == content[5_003..10_003]);
        assert!(to.metadata().unwrap().modified().unwrap() > mtime);
        // Errnos as on ext4.
        let read_only = File::open(local.mount().join("to")).unwrap();
        assert_eq!(copy((&from, LENGTH), (&to, 0), 10), Ok(0));
        assert_eq!(copy((&from, 0), (&read_only, 0), 10), Err(libc::EBADF));
        assert_eq!(copy((&to, 0), (&to, 5), 10), Err(libc::EINVAL));
        assert_eq!(copy((&to, 0), (&to, 200 * MB), 10), Ok(10));
        assert_eq!(to.metadata().unwrap().len(), 200 * MB + 10);
        drop((from, to, read_only));
        let found = std::fs::read(local.mount().join("to")).unwrap();
        assert!(found[5_003..LENGTH as usize] == content[5_003..], "{}", mode.name());
        assert!(found[LENGTH as usize..200 * MB as usize].iter().all(|byte| *byte == 0));
        assert!(found[200 * MB as usize..] == found[..10]);
        assert_eq!(local.stop(SHORT).0, 0);
    }
}

/// The largest length that a file system has, found by trying.
fn longest(dir: &Path) -> u64 {
    let file = open(&dir.join("longest"));
    let (mut yes, mut no) = (0, 1 << 63);
    while no - yes > 1 {
        let middle = yes + (no - yes) / 2;
        match file.set_len(middle) {
            Ok(()) => yes = middle,
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(libc::EFBIG));
                no = middle;
            }
        }
    }
    yes
}

#[test]
fn files_are_as_long_as_the_data_folder_can_have_them() {
    for mode in [Mode::Passthrough, Mode::Daemon] {
        let dir = tools::scratch("long-");
        let native = dir.path().join("native");
        std::fs::create_dir(&native).unwrap();
        let longest = longest(&native);
        let local = start(mode, dir.path());
        let results = |dir: &Path| {
            let file = open(&dir.join("f"));
            file.write_all_at(b"kept", 0).unwrap();
            let fd = file.as_raw_fd();
            let write = |at: u64, length: usize| {
                let bytes = [7; 16];
                // SAFETY: the bytes outlive the call.
                answer(unsafe { libc::pwrite(fd, bytes.as_ptr().cast(), length, at as i64) } as i64)
            };
            let truncate = |length: u64| {
                // SAFETY: no memory is involved.
                answer(i64::from(unsafe { libc::ftruncate(fd, length as i64) }))
            };
            let allocate = |at: u64, length: u64| {
                // SAFETY: no memory is involved.
                answer(i64::from(unsafe {
                    libc::fallocate(fd, libc::FALLOC_FL_KEEP_SIZE, at as i64, length as i64)
                }))
            };
            let found = vec![
                truncate(longest),
                truncate(longest.saturating_add(1).min(i64::MAX as u64)),
                write(longest - 3, 16),
                write(longest, 1),
                write(1 << 43, 16),
                allocate(longest - 4_096, 4_096),
                allocate(longest - 4_096, 8_192),
                allocate(1 << 62, 4_096),
                truncate(5),
                truncate(1 << 43),
            ];
            let length = file.metadata().unwrap().len();
            let mut kept = [0; 5];
            file.read_exact_at(&mut kept, 0).unwrap();
            assert_eq!(&kept, b"kept\0", "{}", mode.name());
            // Closing what is long and empty is quick: holes are not looked at.
            let closing = std::time::Instant::now();
            truncate(1 << 44 >> 1).unwrap();
            drop(file);
            (found, length, closing.elapsed() < Duration::from_secs(20))
        };
        assert_eq!(results(local.mount()), results(&native), "{}", mode.name());
        assert_eq!(local.stop(SHORT).0, 0);
    }
}
