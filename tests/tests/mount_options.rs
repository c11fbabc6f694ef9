//! What `mount -o` promises, and what happens to a mount whose master or daemon is gone.
#![allow(clippy::unwrap_used, reason = "a test ends there")]

use alluxio_tests::cluster::transport;
use alluxio_tests::mounts::{self, MountHelper, MountPoint};
use alluxio_tests::process::{Process, run};
use alluxio_tests::separate::{Mount, Separate};
use alluxio_tests::{tools, tree, wait};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Longer than anything takes that is not stuck.
const LONG: Duration = Duration::from_secs(300);
/// An answer that nobody was asked for comes within this.
const AT_ONCE: Duration = Duration::from_secs(2);
/// What a soft mount is patient for.
const PATIENCE: Duration = Duration::from_secs(3);
/// `nobody`, on every Linux.
const NOBODY: &str = "65534";

fn cluster() -> Separate {
    let patience = format!("{}s", PATIENCE.as_secs());
    let mut options = vec![("alluxio.user.rpc.retry.max.duration", patience.as_str())];
    let transport = transport();
    if let Some(transport) = &transport {
        options.push(("alluxio.fuse.transport", transport));
    }
    Separate::start(&options)
}

/// Runs what may wait for long on a thread; the receiver hears the result.
fn in_background<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> mpsc::Receiver<T> {
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        // Nobody listens any more if the test has failed.
        let _ = send.send(work());
    });
    receive
}

fn pid(process: &Process) -> Pid {
    Pid::from_raw(i32::try_from(process.id()).unwrap())
}

/// Stops a process for the length of a guard: it is there, and answers nothing.
struct Stopped(Pid);

impl Stopped {
    /// Returns when all its threads stand still: until then one of them may go on answering.
    fn new(process: &Process) -> Stopped {
        kill(pid(process), Signal::SIGSTOP).unwrap();
        wait::until("a process stands still", LONG, || threads_stand(pid(process)));
        Stopped(pid(process))
    }
}

fn threads_stand(pid: Pid) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    threads.flatten().all(|thread| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        // After the name, which may contain anything, comes the state.
        stat.rsplit(')')
            .next()
            .is_some_and(|rest| rest.trim_start().starts_with('T'))
    })
}

impl Drop for Stopped {
    fn drop(&mut self) {
        kill(self.0, Signal::SIGCONT).unwrap();
    }
}

fn errno<T>(result: std::io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

/// The options of a mount without kernel caches, so that each call asks the master.
const UNCACHED: &str = "attr_timeout=0,entry_timeout=0";

#[test]
fn soft_gives_up_and_hard_goes_on() {
    let mut cluster = cluster();
    let soft = cluster.mount_with("soft", &format!("soft,{UNCACHED}"));
    let hard = cluster.mount_with("hard", &format!("hard,{UNCACHED}"));
    std::fs::write(soft.file("before"), "here").unwrap();
    assert_eq!(std::fs::read(hard.file("before")).unwrap(), b"here");

    cluster.kill_master();
    let (written, read) = (hard.file("written"), hard.file("before"));
    let writer = in_background(move || std::fs::write(written, "late"));
    let reader = in_background(move || std::fs::read(read));
    let start = Instant::now();
    assert_eq!(errno(std::fs::metadata(soft.file("before"))), Some(libc::EIO));
    let took = start.elapsed();
    assert!(took >= PATIENCE / 2, "a soft mount gave up after {took:?}");
    assert!(took < LONG, "a soft mount gave up after {took:?} only");
    assert_eq!(errno(std::fs::write(soft.file("new"), "x")), Some(libc::EIO));
    // The hard one has been waiting for longer than a soft one does, and still is.
    assert!(start.elapsed() > PATIENCE);
    assert!(matches!(writer.try_recv(), Err(mpsc::TryRecvError::Empty)));
    assert!(matches!(reader.try_recv(), Err(mpsc::TryRecvError::Empty)));

    cluster.restart_master();
    writer.recv_timeout(LONG).unwrap().unwrap();
    assert_eq!(reader.recv_timeout(LONG).unwrap().unwrap(), b"here");
    assert_eq!(std::fs::read(hard.file("written")).unwrap(), b"late");
    // A soft mount is not broken by having given up.
    wait::until("the soft mount serves again", LONG, || {
        std::fs::read(soft.file("written")).is_ok_and(|bytes| bytes == b"late")
    });
    std::fs::write(soft.file("new"), "y").unwrap();
    assert_eq!(std::fs::read(hard.file("new")).unwrap(), b"y");
}

/// A process that waits for a master that is gone ends by ^C; over `fuser`, which hands no interrupts on, when the master is
/// back.
#[test]
fn a_signal_ends_who_waits_for_a_dead_master() {
    let mut cluster = cluster();
    let hard = cluster.mount_with("hard", &format!("hard,{UNCACHED}"));
    std::fs::write(hard.file("f"), "x").unwrap();
    cluster.kill_master();
    let mut waiting = Process::spawn("cat", Command::new("cat").arg(hard.file("f")));
    std::thread::sleep(Duration::from_secs(1));
    assert!(waiting.ended().is_none(), "{}", waiting.log());
    waiting.signal(Signal::SIGINT);
    if transport().as_deref() == Some("fuser") {
        cluster.restart_master();
    }
    let start = Instant::now();
    let status = waiting.wait(LONG);
    assert!(start.elapsed() < LONG / 2, "ended after {:?}", start.elapsed());
    assert!(!status.success(), "{status}");
}

/// One that is stopped meanwhile, as by ^Z, and continued, goes on waiting: no call fails because of that.
#[test]
fn who_is_stopped_and_continued_goes_on_waiting() {
    let mut cluster = cluster();
    let hard = cluster.mount_with("hard", &format!("hard,{UNCACHED}"));
    std::fs::write(hard.file("f"), "there").unwrap();
    cluster.kill_master();
    let mut waiting = Process::spawn("cat", Command::new("cat").arg(hard.file("f")));
    std::thread::sleep(Duration::from_secs(1));
    waiting.signal(Signal::SIGSTOP);
    std::thread::sleep(Duration::from_secs(2));
    waiting.signal(Signal::SIGCONT);
    std::thread::sleep(Duration::from_secs(1));
    assert!(waiting.ended().is_none(), "{}", waiting.log());
    cluster.restart_master();
    let status = waiting.wait(LONG);
    assert!(status.success(), "{status}: {}", waiting.log());
    assert!(waiting.log().contains("there"), "{}", waiting.log());
}

#[test]
fn sigterm_waits_for_who_is_writing_and_unmounts() {
    let cluster = cluster();
    let other = cluster.mount("other");
    let ending = cluster.mount("ending");
    let path = ending.path().to_owned();
    std::fs::write(ending.file("closed"), tree::contents(1, 100_000)).unwrap();
    let mut open = File::create(ending.file("open")).unwrap();
    open.write_all(&tree::contents(2, 300_000)).unwrap();
    let closing = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(1));
        open.write_all(&tree::contents(3, 300_000)).unwrap();
        drop(open);
    });
    ending.stop();
    closing.join().unwrap();
    assert!(!mounts::is_mounted(&path));
    assert!(std::fs::read(other.file("closed")).unwrap() == tree::contents(1, 100_000));
    let all = [tree::contents(2, 300_000), tree::contents(3, 300_000)].concat();
    assert!(std::fs::read(other.file("open")).unwrap() == all);
}

#[test]
fn a_crashed_daemon_leaves_a_mount_that_can_be_cleared() {
    let cluster = cluster();
    let _helper = MountHelper::install();
    let mut crashed = cluster.mount("mnt");
    let at = crashed.path().to_owned();
    let at = tools::text(&at);
    std::fs::write(crashed.file("f"), "kept").unwrap();

    crashed.process().kill();
    assert_eq!(errno(std::fs::read_dir(at)), Some(libc::ENOTCONN));
    let listed = cluster.alluxio(&["fuse", "list"]).ok();
    let line = listed.lines().find(|line| line.contains(at)).unwrap();
    assert!(line.contains("dead"), "{line}");
    cluster.alluxio(&["fuse", "umount", at]).ok();
    assert!(!mounts::is_mounted(at.as_ref()));

    // And the next mount clears it by itself.
    let mut crashed = cluster.mount("mnt");
    crashed.process().kill();
    let mut mount = Command::new("mount");
    mount
        .args(["-t", "alluxio", &cluster.source(), at])
        .env("ALLUXIO_CONF_DIR", cluster.dir());
    run(&mut mount, LONG).ok();
    assert_eq!(std::fs::read(Path::new(at).join("f")).unwrap(), b"kept");
    assert_eq!(
        std::fs::read_to_string("/proc/self/mountinfo")
            .unwrap()
            .lines()
            .filter(|line| line.contains(at))
            .count(),
        1,
        "the dead mount is gone"
    );
    run(Command::new("umount").arg(at), LONG).ok();
}

#[test]
fn read_only_owner_and_modes() {
    let cluster = cluster();
    let plain = cluster.mount("plain");
    std::fs::write(plain.file("f"), "x").unwrap();
    std::fs::set_permissions(plain.file("f"), std::fs::Permissions::from_mode(0o777)).unwrap();
    let shown = cluster.mount_with("shown", "ro,uid=1234,gid=4321,umask=027");
    for name in ["", "f"] {
        let stat = std::fs::metadata(shown.file(name)).unwrap();
        assert_eq!((stat.uid(), stat.gid()), (1234, 4321), "{name}");
        assert_eq!(stat.mode() & 0o027, 0, "{name}");
    }
    assert_eq!(std::fs::metadata(shown.file("f")).unwrap().mode() & 0o777, 0o750);
    assert_eq!(std::fs::read(shown.file("f")).unwrap(), b"x");
    assert_eq!(errno(std::fs::write(shown.file("g"), "x")), Some(libc::EROFS));
    assert_eq!(errno(std::fs::remove_file(shown.file("f"))), Some(libc::EROFS));
    assert_eq!(
        errno(File::options().write(true).open(shown.file("f"))),
        Some(libc::EROFS)
    );
}

/// Runs a program as `nobody`.
fn as_nobody(program: &str, arguments: &[&str]) -> i32 {
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", program])
        .args(arguments);
    run(&mut command, LONG).code
}

#[test]
fn others_enter_only_where_they_may() {
    let cluster = cluster();
    std::fs::set_permissions(cluster.dir(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let open = cluster.mount_with("open", "allow_other");
    std::fs::write(open.file("f"), "x").unwrap();
    std::fs::set_permissions(open.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let closed = cluster.mount_with("closed", "noallow_other");
    assert_eq!(as_nobody("cat", &[tools::text(&open.file("f"))]), 0);
    assert_ne!(as_nobody("cat", &[tools::text(&closed.file("f"))]), 0);
    assert_eq!(std::fs::read(closed.file("f")).unwrap(), b"x");
}

/// Tries of [`timeouts_of_kernel_caches`] with each mount.
const TRIES_MAX: usize = 3;

/// What the kernel may believe is seen while the master does not answer.
#[test]
fn timeouts_of_kernel_caches() {
    let mut cluster = cluster();
    let mount = |name: &str, options: &str| cluster.mount_with(name, options);
    let mounts = [
        (mount("long", ""), true),
        (mount("no-attr", "attr_timeout=0"), false),
        (mount("no-entry", "entry_timeout=0"), false),
        (mount("some", "attr_timeout=600,entry_timeout=600"), true),
    ];
    std::fs::write(mounts[0].0.file("f"), "x").unwrap();
    for (mount, is_cached) in &mounts {
        // On a busy machine the stream of changes may be thought broken for a moment, and then nothing is believed for long.
        let is_known = (0..TRIES_MAX).any(|_| {
            std::fs::metadata(mount.file("f")).unwrap();
            let path = mount.file("f");
            let stopped = Stopped::new(cluster.master());
            let answer = in_background(move || std::fs::metadata(path));
            let known = answer.recv_timeout(AT_ONCE);
            drop(stopped);
            if let Err(mpsc::RecvTimeoutError::Timeout) = known {
                answer.recv_timeout(LONG).unwrap().unwrap();
            }
            known.is_ok()
        });
        assert_eq!(is_known, *is_cached, "{}", mount.path().display());
    }
}

#[test]
fn max_background_reaches_the_kernel() {
    let cluster = cluster();
    let control = Path::new("/sys/fs/fuse/connections");
    if !mounts::is_mounted(control) {
        run(
            Command::new("mount").args(["-t", "fusectl", "fusectl"]).arg(control),
            LONG,
        )
        .ok();
    }
    for (name, options, wanted) in [("few", "max_background=7", "7"), ("more", "max_background=77", "77")] {
        let mount = cluster.mount_with(name, options);
        let device = std::fs::metadata(mount.path()).unwrap().dev();
        let connection = control.join(nix::sys::stat::minor(device).to_string());
        let found = std::fs::read_to_string(connection.join("max_background")).unwrap();
        assert_eq!(found.trim(), wanted, "{options}");
    }
}

/// Memory as O_DIRECT wants it.
#[repr(align(4096))]
struct Page([u8; 4096]);

/// The page of a file at an offset, past the kernel's cache of the mount.
fn direct_page(path: &Path, offset: u64) -> std::io::Result<[u8; 4096]> {
    let file = File::options().read(true).custom_flags(libc::O_DIRECT).open(path)?;
    page_of(&file, offset)
}

fn page_of(file: &File, offset: u64) -> std::io::Result<[u8; 4096]> {
    let mut page = Box::new(Page([0; 4096]));
    file.read_exact_at(&mut page.0, offset)?;
    Ok(page.0)
}

/// With passthrough the kernel reads a local file by itself, also while the daemon is stopped.
fn kernel_reads_by_itself(mount: &mut Mount, name: &str) -> bool {
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_DIRECT)
        .open(mount.file(name))
        .unwrap();
    let stopped = Stopped::new(mount.process());
    let answer = in_background(move || page_of(&file, 0).unwrap());
    let by_itself = answer.recv_timeout(AT_ONCE).is_ok();
    drop(stopped);
    if !by_itself {
        answer.recv_timeout(LONG).unwrap();
    }
    by_itself
}

#[test]
fn passthrough_on_off_and_auto() {
    let cluster = cluster();
    let mut first = cluster.mount("default");
    std::fs::write(first.file("f"), tree::contents(1, 100_000)).unwrap();
    assert!(kernel_reads_by_itself(&mut first, "f"));
    for (name, options, wanted) in [
        ("on", "passthrough=on", true),
        ("bare", "passthrough", true),
        ("auto", "passthrough=auto", true),
        ("off", "passthrough=off", false),
        ("verify", "verify", false),
    ] {
        let mut mount = cluster.mount_with(name, options);
        assert!(std::fs::read(mount.file("f")).unwrap() == tree::contents(1, 100_000));
        // While the first mount's close is on its way, the others read through the home's process.
        let since = Instant::now();
        let mut by_itself = kernel_reads_by_itself(&mut mount, "f");
        while wanted && !by_itself && since.elapsed() < LONG {
            by_itself = kernel_reads_by_itself(&mut mount, "f");
        }
        assert_eq!(by_itself, wanted, "{options}");
    }
    let at = cluster.dir().join("both");
    std::fs::create_dir(&at).unwrap();
    let refused = cluster.alluxio(&["fuse", "mount", "-o", "passthrough=on,verify", "/", tools::text(&at)]);
    assert_ne!(refused.code, 0);
    assert!(refused.stderr.contains("verify"), "{}", refused.stderr);
}

/// The worker's data file that has just these bytes.
fn data_file(dir: &Path, bytes: &[u8]) -> PathBuf {
    let mut folders = vec![dir.join("work")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap().map(Result::unwrap) {
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file()
                && entry.metadata().unwrap().len() == bytes.len() as u64
                && std::fs::read(entry.path()).unwrap() == bytes
            {
                return entry.path();
            }
        }
    }
    panic!("no worker has a file of these {} bytes", bytes.len());
}

fn flip(path: &Path, offset: u64) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 0x40], offset).unwrap();
}

/// A byte that the worker's disk has changed is never read by `-o verify`, however often and in what pieces it was read before.
#[test]
fn verify_reads_every_byte_through_its_checksum() {
    const BYTES: usize = 300_000;
    let cluster = cluster();
    let plain = cluster.mount("plain");
    let right = tree::contents(5, BYTES);
    std::fs::write(plain.file("f"), &right).unwrap();
    // Also its last close is waited for: what is still open for writing has no checksums that hold.
    cluster.alluxio(&["fs", "persist", "/"]).ok();
    let verified = cluster.mount_with("verified", "verify");
    assert!(std::fs::read(verified.file("f")).unwrap() == right);

    for offset in [0, 5_000, 131_072, BYTES as u64 - 1] {
        let page = offset / 4096 * 4096;
        if page + 4096 <= BYTES as u64 {
            // Once more, so that the chunk counts as checked.
            assert!(direct_page(&verified.file("f"), page).unwrap()[..] == right[page as usize..][..4096]);
        }
        let cached = data_file(cluster.dir(), &right);
        flip(&cached, offset);
        // The damage is real: passthrough has no checksums.
        if page + 4096 <= BYTES as u64 {
            assert!(direct_page(&plain.file("f"), page).unwrap()[..] != right[page as usize..][..4096]);
            // The whole of it is fetched again, and right.
            assert!(direct_page(&verified.file("f"), page).unwrap()[..] == right[page as usize..][..4096]);
        }
        let mut all = Vec::new();
        let mut open = File::options();
        open.read(true).custom_flags(libc::O_DIRECT);
        open.open(verified.file("f")).unwrap().read_to_end(&mut all).unwrap();
        assert!(all == right, "byte {offset}");
    }
}

/// What has no other copy and is damaged is an error, not other bytes.
#[test]
fn verify_fails_where_there_is_no_other_copy() {
    let cluster = cluster();
    let unpersisted = cluster.mount_with("u", "verify,alluxio.user.file.writetype.default=MUST_CACHE");
    let right = tree::contents(6, 100_000);
    std::fs::write(unpersisted.file("f"), &right).unwrap();
    assert!(direct_page(&unpersisted.file("f"), 4096).unwrap()[..] == right[4096..8192]);
    // Another mount is handed the local file once nobody writes it any more; from then on it has its checksums.
    let mut other = cluster.mount("other");
    wait::until("the file is closed at its worker", LONG, || {
        kernel_reads_by_itself(&mut other, "f")
    });
    flip(&data_file(cluster.dir(), &right), 5_000);
    let result = direct_page(&unpersisted.file("f"), 4096);
    assert_eq!(errno(result.map(drop)), Some(libc::EIO));
}

/// Without the right to mount: by fusermount3, everything works, without passthrough, which is said once.
#[test]
fn a_user_mounts_by_fusermount3() {
    let cluster = cluster();
    std::fs::set_permissions(cluster.dir(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let root = cluster.mount("root");
    std::fs::set_permissions(root.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    std::fs::write(root.file("others"), tree::contents(1, 50_000)).unwrap();
    // Where everybody may run it.
    let program = cluster.dir().join("alluxio");
    std::fs::copy(tools::alluxio(), &program).unwrap();
    let point = MountPoint::new(cluster.dir().join("user"));
    nix::unistd::chown(point.path(), Some(65_534.into()), Some(65_534.into())).unwrap();
    // In a mount namespace of its own, with a /dev/fuse that users may open, as udev makes it.
    let script = r#"
        mknod "$D"/fuse c 10 229; chmod 666 "$D"/fuse; mount --bind "$D"/fuse /dev/fuse
        nobody='setpriv --reuid 65534 --regid 65534 --clear-groups'
        user() { $nobody "$@"; }
        $nobody "$D"/alluxio fuse mount / "$D"/user > /dev/null 2> "$D"/log & daemon=$!
        trap 'kill $daemon 2> /dev/null || true; cat "$D"/log >&2' EXIT
        for i in $(seq 300); do mountpoint -q "$D"/user && break; kill -0 $daemon; sleep 0.1; done
        user sh -ec '
            cd "$D"/user; cmp others "$D"/root/others
            mkdir dir; head -c 3000000 /dev/urandom > dir/a; cp dir/a dir/b; cmp dir/a dir/b
            ln dir/a dir/c; ln -s c dir/l; mv dir/b dir/d; echo more >> dir/d; truncate -s 1M dir/a
            test "$(stat -c "%s %h %u" dir/c)" = "1048576 2 65534"; rm dir/l dir/c
            setfattr -n user.k -v v dir/d; getfattr -n user.k dir/d > /dev/null
            if touch others 2> /dev/null; then exit 9; fi'
        # Not even root, without allow_other.
        if ls "$D"/user 2> /dev/null; then exit 8; fi
        user fusermount3 -u "$D"/user
        wait $daemon
    "#;
    let mut command = Command::new("unshare");
    command
        .args([
            "--mount",
            "--propagation",
            "private",
            "bash",
            "-euo",
            "pipefail",
            "-c",
            script,
        ])
        .env("D", cluster.dir())
        .env("ALLUXIO_CONF_DIR", cluster.dir());
    let output = run(&mut command, LONG);
    assert_eq!(output.code, 0, "{}", output.stderr);
    let said = output.stderr.matches("no passthrough").count();
    assert_eq!(said, 1, "{}", output.stderr);
    // What the user wrote is there for others.
    assert_eq!(std::fs::metadata(root.file("dir/a")).unwrap().len(), 1 << 20);
    assert_eq!(std::fs::metadata(root.file("dir/d")).unwrap().uid(), 65_534);
}
