//! Files that the kernel writes past the worker, on descriptors that went out while the disk was roomy: they are slowed down and
//! spilled like others. Needs Linux 6.14 and root: without announcements (fanotify's pre-content events) these tests fail.

#![allow(clippy::disallowed_methods, reason = "they are what is tested")]
#![allow(clippy::unwrap_used, reason = "a test ends there")]

use alluxio_tests::disk::Disk;
use alluxio_tests::process::sh;
use alluxio_tests::proxy::{Fault, Proxy};
use alluxio_tests::s3::options_for;
use alluxio_tests::{Agent, Local, LocalBuilder, S3Server, Separate, Versity, tools, tree, wait};
use nix::sys::signal::Signal;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(120);
/// Small, because each spill makes the store copy what was spilled before.
const DISK_MIB: u64 = 120;
const MIB: usize = 1 << 20;
const PAGE: usize = 4096;

/// A disk for the cache that is roomy at first, and a folder as store.
struct Stage {
    disk: Disk,
    dir: tempfile::TempDir,
}

impl Stage {
    fn new(name: &str) -> Stage {
        Stage::with_mib(name, DISK_MIB)
    }

    fn with_mib(name: &str, mib: u64) -> Stage {
        let dir = tools::scratch("past-us-");
        std::fs::create_dir(dir.path().join("store")).unwrap();
        let disk = Disk::with_mib(name, mib);
        Stage { disk, dir }
    }

    fn free_bytes(&self) -> u64 {
        let free = nix::sys::statvfs::statvfs(self.disk.path()).unwrap();
        free.blocks_available() * free.fragment_size()
    }

    fn builder(&self) -> LocalBuilder {
        let cache = self.disk.path().join("cache");
        LocalBuilder::at(self.dir.path())
            .option(
                "alluxio.worker.tieredstore.level0.dirs.path",
                cache.display().to_string(),
            )
            .ufs(self.store().display().to_string())
    }

    fn store(&self) -> PathBuf {
        self.dir.path().join("store")
    }
}

fn metric(local: &Local, name: &str) -> u64 {
    let port = local.option("alluxio.worker.web.port");
    let text = sh(&format!("curl -s http://127.0.0.1:{port}/metrics"), LIMIT).stdout;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
}

/// That the tests are about what they say.
#[track_caller]
fn assert_past_us(local: &Local) {
    assert!(
        metric(local, "Worker_AccessesAnnounced") > 0,
        "nothing was announced: Linux 6.14 and CAP_SYS_ADMIN are needed\n{}",
        local.log()
    );
    let written = metric(local, "Worker_BytesWrittenAlluxio");
    assert_eq!(written, 0, "it was written through the worker");
}

/// Bytes that say where they are: no two pages of a file are the same, and none is zero.
fn pattern(offset: u64, bytes: usize, salt: u64) -> Vec<u8> {
    let mut out = tree::contents(salt, PAGE).repeat(bytes.div_ceil(PAGE));
    for (number, page) in out.chunks_mut(PAGE).enumerate() {
        page[..8].copy_from_slice(&(offset + (number * PAGE) as u64 + 1).to_le_bytes());
    }
    out.truncate(bytes);
    out
}

fn write_pattern(file: &File, mib: std::ops::Range<u64>, salt: u64) -> std::io::Result<()> {
    for at in mib {
        file.write_all_at(&pattern(at << 20, MIB, salt), at << 20)?;
    }
    Ok(())
}

/// Holds a file against the pattern, but for what was written over it.
#[track_caller]
fn assert_pattern(path: &Path, mib: u64, salt: u64, over: &[(u64, &[u8])]) {
    let file = File::open(path).unwrap();
    assert_eq!(file.metadata().unwrap().len(), mib << 20);
    let mut found = vec![0; MIB];
    for at in 0..mib {
        file.read_exact_at(&mut found, at << 20).unwrap();
        let mut wanted = pattern(at << 20, MIB, salt);
        for (offset, bytes) in over.iter().filter(|(offset, _)| offset >> 20 == at) {
            let start = (offset & 0xf_ffff) as usize;
            wanted[start..start + bytes.len()].copy_from_slice(bytes);
        }
        assert!(found == wanted, "in the MiB at {at} of {}", path.display());
    }
}

#[track_caller]
fn persist(local: &Local, name: &str) {
    local.alluxio(&["fs", "persist", &format!("/{name}")]).ok();
}

fn is_spilled(local: &Local) -> bool {
    local.log().contains("spilled a file")
}

#[test]
fn a_writer_on_a_descriptor_goes_through_at_any_size() {
    let stage = Stage::new("size");
    let local = stage.builder().start();
    let path = local.mount().join("big");
    let file = File::create(&path).unwrap();
    let total = 3 * DISK_MIB;
    write_pattern(&file, 0..total * 3 / 4, 1).unwrap_or_else(|error| panic!("{error}\n{}", local.log()));
    assert!(is_spilled(&local), "{}", local.log());
    // A header that is written last, and a few bytes where nothing is here any more.
    let at = (50 << 20) + 12_345;
    let over: [(u64, &[u8]); 2] = [(0, b"the header"), (at, b"in the middle of a page")];
    for (at, bytes) in over {
        file.write_all_at(bytes, at).unwrap();
    }
    // Nobody reads holes for content past the worker; who writes as well may join.
    for wanted in [File::options().read(true), File::options().read(true).write(true)] {
        let error = wanted.open(&path).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EBUSY), "{error}");
    }
    let second = File::options().write(true).open(&path).unwrap();
    second.write_all_at(b"the HEADER", 0).unwrap();
    drop(second);
    write_pattern(&file, total * 3 / 4..total, 1).unwrap_or_else(|error| panic!("{error}\n{}", local.log()));
    assert_past_us(&local);
    nix::unistd::close(file).unwrap();
    let over: [(u64, &[u8]); 2] = [(0, b"the HEADER"), over[1]];
    assert_pattern(&path, total, 1, &over);
    persist(&local, "big");
    assert_pattern(&stage.store().join("big"), total, 1, &over);
}

#[test]
fn two_writers_wait_for_a_slow_store() {
    let stage = Stage::new("slow");
    let each = DISK_MIB * 3 / 4;
    let s3 = Versity::start();
    let proxy = Proxy::start(&s3.endpoint());
    proxy.fault("PUT", "", Fault::Delay(Duration::from_millis(500)), usize::MAX);
    let local = stage
        .builder()
        .ufs("s3://bucket")
        .options(options_for(&proxy.endpoint()))
        .start();
    std::thread::scope(|scope| {
        for salt in 1..3 {
            let (local, path) = (&local, local.mount().join(format!("w{salt}")));
            scope.spawn(move || {
                let file = File::create(path).unwrap();
                let written = write_pattern(&file, 0..each, salt);
                written.unwrap_or_else(|error| panic!("{error}\n{}", local.log()));
                nix::unistd::close(file).unwrap();
            });
        }
    });
    assert_past_us(&local);
    for salt in 1..3 {
        let name = format!("w{salt}");
        persist(&local, &name);
        assert_pattern(&s3.bucket("bucket").join(&name), each, salt, &[]);
        assert_pattern(&local.mount().join(&name), each, salt, &[]);
    }
}

#[test]
fn a_kill_of_everything_leaves_no_zeros_where_content_was() {
    let stage = Stage::new("kill");
    let mut local = stage.builder().start();
    let room_mib = stage.free_bytes() >> 20;
    for round in 0..2u64 {
        let name = format!("f{round}");
        let path = local.mount().join(&name);
        let (written, stop) = (AtomicU64::new(0), AtomicBool::new(false));
        let salt = round + 1;
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let file = File::create(&path).unwrap();
                for at in 0..4 * DISK_MIB {
                    if stop.load(Ordering::Relaxed) || write_pattern(&file, at..at + 1, salt).is_err() {
                        return;
                    }
                    written.store(at + 1, Ordering::Relaxed);
                }
            });
            // While the first spill is under way, and after it.
            let (from, pause) = [
                (room_mib - 5, Duration::from_millis(2500)),
                (room_mib + 12, Duration::ZERO),
            ][round as usize];
            wait::until("so much is written", LIMIT, || written.load(Ordering::Relaxed) >= from);
            std::thread::sleep(pause);
            stop.store(true, Ordering::Relaxed);
            local.process().kill();
            writer.join().unwrap();
        });
        local = local.crash_and_restart();
        let path = local.mount().join(&name);
        let least = written.into_inner() << 20;
        let is_back = || std::fs::metadata(&path).is_ok_and(|meta| meta.len() >= least);
        wait::until("it is recovered", LIMIT, is_back);
        let length = std::fs::metadata(&path).unwrap().len();
        let file = File::open(&path).unwrap();
        for at in 0..least >> 20 {
            let mut found = vec![0; MIB];
            file.read_exact_at(&mut found, at << 20)
                .unwrap_or_else(|error| panic!("{error} at {at}\n{}", local.log()));
            assert!(found == pattern(at << 20, MIB, salt), "in the MiB at {at} of {length}");
        }
        drop(file);
        // It can be written on, and others can be made.
        let file = File::options().append(true).open(&path).unwrap();
        (&file).write_all(b"more").unwrap();
        nix::unistd::close(file).unwrap();
        std::fs::write(local.mount().join("other"), b"other").unwrap();
        persist(&local, &name);
        assert_eq!(std::fs::metadata(stage.store().join(&name)).unwrap().len(), length + 4);
        std::fs::remove_file(&path).unwrap();
    }
}

#[test]
fn what_is_spliced_to_the_end_goes_through() {
    let stage = Stage::new("splice");
    let local = stage.builder().start();
    let path = local.mount().join("big");
    let file = File::create(&path).unwrap();
    let written = DISK_MIB + DISK_MIB / 5;
    write_pattern(&file, 0..written, 1).unwrap_or_else(|error| panic!("{error}\n{}", local.log()));
    assert!(is_spilled(&local), "{}", local.log());
    // Unannounced, from a file: sendfile is a splice.
    let source = stage.dir.path().join("source");
    let spliced = 8;
    std::fs::write(&source, pattern(written << 20, spliced * MIB, 1)).unwrap();
    let source = File::open(&source).unwrap();
    let mut from = 0;
    let end = i64::try_from(written << 20).unwrap();
    // SAFETY: no memory is involved.
    assert_eq!(unsafe { libc::lseek(file.as_raw_fd(), end, libc::SEEK_SET) }, end);
    while from < (spliced * MIB) as i64 {
        // SAFETY: `from` outlives the call.
        let n = unsafe { libc::sendfile(file.as_raw_fd(), source.as_raw_fd(), &raw mut from, spliced * MIB) };
        assert!(n > 0, "{}", std::io::Error::last_os_error());
    }
    write_pattern(&file, written + spliced as u64..2 * DISK_MIB, 1)
        .unwrap_or_else(|error| panic!("{error}\n{}", local.log()));
    assert_past_us(&local);
    nix::unistd::close(file).unwrap();
    assert_pattern(&path, 2 * DISK_MIB, 1, &[]);
    persist(&local, "big");
    assert_pattern(&stage.store().join("big"), 2 * DISK_MIB, 1, &[]);
}

/// A disk that is full of what is only cached is the usual one.
#[test]
fn what_is_cached_gives_way_before_writers_are_held_up() {
    // Large enough to be left alone, with little of it for us.
    let stage = Stage::with_mib("clean", 2816);
    for number in 0..42 {
        std::fs::write(stage.store().join(format!("c{number}")), pattern(0, 10 * MIB, number)).unwrap();
    }
    let local = stage.builder().start();
    let others = File::create(stage.disk.path().join("others")).unwrap();
    let taken = i64::try_from(stage.free_bytes() - (1500 << 20)).unwrap();
    // SAFETY: no memory is involved.
    assert_eq!(unsafe { libc::fallocate(others.as_raw_fd(), 0, 0, taken) }, 0);
    for number in 0..42 {
        std::fs::read(local.mount().join(format!("c{number}"))).unwrap();
    }
    let free_mib = stage.free_bytes() >> 20;
    assert!(free_mib < 1100, "{free_mib} MiB are free: nobody would be held up");
    let file = File::create(local.mount().join("new")).unwrap();
    write_pattern(&file, 0..1, 1).unwrap();
    std::thread::sleep(Duration::from_secs(3));
    let before = metric(&local, "Worker_AccessesAnnounced");
    for at in (MIB..20 * MIB).step_by(16 * PAGE) {
        file.write_all_at(&pattern(at as u64, 16 * PAGE, 1), at as u64).unwrap();
    }
    let announced = metric(&local, "Worker_AccessesAnnounced") - before;
    assert!(announced < 30, "{announced} of 304 writes were held up");
    assert_eq!(
        metric(&local, "Worker_BytesWrittenAlluxio"),
        0,
        "it was written through the worker"
    );
    nix::unistd::close(file).unwrap();
    assert_pattern(&local.mount().join("new"), 20, 1, &[]);
}

/// A disk of this size is full before a worker on a busy machine looks at it: nobody writes on meanwhile.
#[test]
fn a_worker_that_does_not_get_to_look_is_waited_for() {
    let disk = Disk::with_mib("stopped", DISK_MIB);
    let mut separate = Separate::start_with_cache(&disk.path().join("cache"), &[]);
    let mount = separate.mount("m");
    // What makes room, as soon as it can.
    let before = File::create(mount.file("before")).unwrap();
    write_pattern(&before, 0..DISK_MIB / 4, 2).unwrap();
    nix::unistd::close(before).unwrap();
    let path = mount.file("next");
    let file = File::create(&path).unwrap();
    write_pattern(&file, 0..1, 1).unwrap();
    // Whatever it does because of an opening is done.
    std::thread::sleep(Duration::from_secs(1));
    separate.worker().signal(Signal::SIGSTOP);
    let written = std::thread::scope(|scope| {
        let writer = scope.spawn(|| write_pattern(&file, 0..DISK_MIB * 2 / 3, 1));
        std::thread::sleep(Duration::from_secs(2));
        let is_over = writer.is_finished();
        separate.worker().signal(Signal::SIGCONT);
        let written = writer.join().unwrap();
        assert!(!is_over, "it did not wait: {written:?}");
        written
    });
    written.unwrap_or_else(|error| panic!("{error}"));
    nix::unistd::close(file).unwrap();
    assert_pattern(&path, DISK_MIB * 2 / 3, 1, &[]);
    assert_pattern(&mount.file("before"), DISK_MIB / 4, 2, &[]);
}

/// Who waits has the lock of the inode in the kernel: a rename stands behind it with the lock of the directory, and cannot be killed.
#[test]
fn nobody_stands_for_long_behind_a_write_that_waits() {
    let stage = Stage::new("behind");
    let s3 = Versity::start();
    let proxy = Proxy::start(&s3.endpoint());
    proxy.fault("PUT", "", Fault::Hold, usize::MAX);
    let local = stage
        .builder()
        .ufs("s3://bucket")
        .options(options_for(&proxy.endpoint()))
        .start();
    let (path, moved) = (local.mount().join("big"), local.mount().join("moved"));
    let file = File::create(&path).unwrap();
    let (written, total) = (AtomicU64::new(0), DISK_MIB << 20);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for at in (0..total).step_by(16 * PAGE) {
                let done = file.write_all_at(&pattern(at, 16 * PAGE, 1), at);
                done.unwrap_or_else(|error| panic!("{error}\n{}", local.log()));
                written.store(at + 1, Ordering::Relaxed);
            }
        });
        wait::until("a write waits", LIMIT, || {
            let before = written.load(Ordering::Relaxed);
            std::thread::sleep(Duration::from_secs(2));
            before > total / 2 && written.load(Ordering::Relaxed) == before
        });
        let begun = Instant::now();
        std::fs::rename(&path, &moved).unwrap();
        let waited = begun.elapsed();
        let is_waiting = written.load(Ordering::Relaxed) < total - MIB as u64;
        proxy.heal();
        assert!(is_waiting, "nobody waited");
        assert!(waited < Duration::from_secs(30), "{waited:?}");
    });
    nix::unistd::close(file).unwrap();
    assert_past_us(&local);
    assert_pattern(&moved, DISK_MIB, 1, &[]);
}

/// Writes what files have at the same place. In a process of its own: the start of a worker from this one would close its copies of the
/// descriptor, and wait for the worker by that.
fn copy(writer: &mut Agent, from: &str, mib: std::ops::Range<u64>) {
    let one = format!("os.pwrite(fd, os.pread({from}, MIB, at * MIB), at * MIB) == MIB");
    let done = writer.order(&format!("all({one} for at in range({}, {}))", mib.start, mib.end));
    assert_eq!(done, "True", "{mib:?} from {from}");
}

#[test]
fn a_writer_outlives_its_worker() {
    let disk = Disk::with_mib("outlives", DISK_MIB);
    let mut separate = Separate::start_with_cache(&disk.path().join("cache"), &[]);
    let mount = separate.mount("m");
    let path = mount.file("big");
    let mut writer = Agent::new();
    writer.order("(MIB := 1 << 20)");
    for (name, salt) in [("one", 1), ("two", 2)] {
        let source = separate.dir().join(name);
        write_pattern(&File::create(&source).unwrap(), 0..2 * DISK_MIB, salt).unwrap();
        writer.order(&format!("({name} := os.open('{}', RO))", source.display()));
    }
    writer.order(&format!(
        "(fd := os.open('{}', os.O_WRONLY | os.O_CREAT))",
        path.display()
    ));
    let first = DISK_MIB + DISK_MIB / 5;
    copy(&mut writer, "one", 0..first);
    let log = separate.worker().log();
    assert!(log.contains("spilled a file"), "{log}");
    // Nobody is asked meanwhile: at the end, whole blocks of what is not here, and all of what is.
    separate.worker().kill();
    copy(&mut writer, "one", first..first + 4);
    copy(&mut writer, "two", 50..52);
    copy(&mut writer, "two", 0..1);
    separate.restart_worker();
    copy(&mut writer, "one", first + 4..2 * DISK_MIB);
    assert_eq!(writer.order("os.close(fd)"), "None");
    let (start, middle) = (pattern(0, MIB, 2), pattern(50 << 20, MIB, 2));
    let after = pattern(51 << 20, MIB, 2);
    let over: [(u64, &[u8]); 3] = [(0, &start), (50 << 20, &middle), (51 << 20, &after)];
    assert_pattern(&path, 2 * DISK_MIB, 1, &over);
    separate.alluxio(&["fs", "persist", "/big"]).ok();
    assert_pattern(&separate.ufs().join("big"), 2 * DISK_MIB, 1, &over);
}
