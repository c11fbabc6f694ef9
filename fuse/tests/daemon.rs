//! The mount helper as a program: under the name `mount.alluxio` this binary is one; under its own name it tests that.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod common;

use alluxio_fuse::mount::{
    self, HELPER_PATH, HELPER_PATH_BY_TABLE, HelperRequest, MOUNT_FAILURE, Readiness, UnmountMode, is_helper_name,
    run_helper,
};
use alluxio_fuse::transport::TransportKind;
use alluxio_proto::{ErrorKind, FsError, FsResult};
use common::{CONTENT, NAME, OneFile, Point, Served, eventually};
use nix::mount::MsFlags;
use nix::sys::stat::{Mode, SFlag, mknod};
use std::ffi::{OsStr, OsString};
use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;

/// What the helper is told to do wrong, and where it writes the daemon's process id.
const FAULT: &str = "TEST_MOUNT_FAULT";
const PID_FILE: &str = "TEST_MOUNT_PID_FILE";
/// Which transport the daemon takes.
const TRANSPORT: &str = "TEST_MOUNT_TRANSPORT";

/// The transport that is being tested.
static TESTED: Mutex<&str> = Mutex::new("");

/// The user `nobody`, who may mount by fusermount3 only.
const NOBODY: u32 = 65_534;

fn main() {
    let mut arguments: Vec<OsString> = std::env::args_os().collect();
    let name = arguments.remove(0);
    if is_helper_name(&name) {
        if arguments.first().is_some_and(|first| first == "--unmount") {
            mount::unmount(Path::new(&arguments[1]), UnmountMode::Normal).unwrap();
            return;
        }
        std::process::exit(run_helper(arguments, serve));
    }
    // What cargo and people pass to test programs: words that choose, and options that do not matter here.
    let chosen: Vec<String> = arguments
        .into_iter()
        .filter_map(|word| word.into_string().ok())
        .filter(|word| !word.starts_with('-'))
        .collect();
    let _namespace = own_mounts();
    for transport in ["fuser", "dev"] {
        *TESTED.lock().unwrap() = transport;
        for (name, test) in TESTS {
            let name = format!("by_{transport}::{name}");
            if chosen.is_empty() || chosen.iter().any(|word| name.contains(word)) {
                test();
                println!("test {name} ... ok");
            }
        }
    }
}

fn serve(request: HelperRequest, readiness: &mut Readiness) -> FsResult<()> {
    match std::env::var(FAULT).as_deref() {
        Ok("abort") => std::process::abort(),
        Ok("panic") => panic!("as told"),
        Ok("end") => return Ok(()),
        Ok("fail") => return Err(FsError::new(ErrorKind::Unavailable, "no master answers")),
        _ => {}
    }
    if let Some(path) = std::env::var_os(PID_FILE) {
        std::fs::write(path, std::process::id().to_string()).unwrap();
    }
    let mut options = request.options;
    options.transport = std::env::var(TRANSPORT)
        .ok()
        .and_then(|word| TransportKind::from_word(&word));
    assert!(options.transport.is_some(), "{TRANSPORT} says which");
    let served = Served::start(OneFile::default(), &request.dir, &options, &request.source)?;
    readiness.ready()?;
    served.wait();
    Ok(())
}

/// Gives this process a mount table of its own, with a /dev/fuse that everybody may open, as udev makes it, and a /sbin
/// that holds nothing but our helper. Nothing of it outlives the process.
fn own_mounts() -> tempfile::TempDir {
    assert!(nix::unistd::geteuid().is_root(), "mount tests run as root");
    // SAFETY: takes no pointers; no other thread runs yet.
    let done = unsafe { libc::unshare(libc::CLONE_NEWNS) };
    assert_eq!(done, 0, "unshare: {}", std::io::Error::last_os_error());
    let bind = |from: Option<&Path>, to: &str, flags| nix::mount::mount(from, to, None::<&str>, flags, None::<&str>);
    bind(None, "/", MsFlags::MS_REC | MsFlags::MS_PRIVATE).unwrap();

    let dir = tempfile::tempdir().unwrap();
    let device = dir.path().join("fuse");
    let number = std::fs::metadata("/dev/fuse").unwrap().rdev();
    mknod(&device, SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), number).unwrap();
    std::fs::set_permissions(&device, Permissions::from_mode(0o666)).unwrap();
    bind(Some(&device), "/dev/fuse", MsFlags::MS_BIND).unwrap();

    let sbin = dir.path().join("sbin");
    std::fs::create_dir(&sbin).unwrap();
    bind(Some(&sbin), "/sbin", MsFlags::MS_BIND).unwrap();
    for path in [HELPER_PATH, HELPER_PATH_BY_TABLE] {
        mount::install_helper(&std::env::current_exe().unwrap(), Path::new(path)).unwrap();
    }
    dir
}

const TESTS: &[(&str, fn())] = &[
    (
        "the_helper_returns_when_the_mount_serves",
        the_helper_returns_when_the_mount_serves,
    ),
    ("what_fails_before_that_is_said", what_fails_before_that_is_said),
    ("mount_dash_t_alluxio", mount_dash_t_alluxio),
    ("fake_mounts_nothing", fake_mounts_nothing),
    ("others_than_root_may_mount", others_than_root_may_mount),
];

/// A program whose children serve by the tested transport.
fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env(TRANSPORT, *TESTED.lock().unwrap());
    command
}

/// This binary, where everybody may run it, by the helper's name.
fn helper(point: &Point) -> PathBuf {
    let path = point.around().join("mount.alluxio");
    if !path.exists() {
        std::fs::copy(std::env::current_exe().unwrap(), &path).unwrap();
    }
    path
}

fn run(point: &Point, fault: &str, arguments: &[&str]) -> Output {
    // Returns when the pipes end, too: proof that the daemon lets go of them.
    command(helper(point))
        .current_dir(point.around())
        .env(FAULT, fault)
        .env(PID_FILE, point.around().join("pid"))
        .args(arguments)
        .output()
        .unwrap()
}

fn has_ended(pid: &str) -> bool {
    // Not every process 1 collects the orphans that have ended.
    std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
}

fn the_helper_returns_when_the_mount_serves() {
    let point = Point::new();
    // A relative folder, though the daemon leaves for `/`.
    let output = run(
        &point,
        "",
        &["host:19998/x", "mnt", "-o", "ro,x-systemd.automount,_netdev"],
    );
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    assert_eq!(std::fs::read(point.path().join(NAME)).unwrap(), CONTENT);
    let entry = mount::mount_at(&point.path()).unwrap().unwrap();
    assert_eq!(entry.source, "host:19998/x");

    let pid = std::fs::read_to_string(point.around().join("pid")).unwrap();
    assert_eq!(std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap(), Path::new("/"));
    assert_eq!(
        std::fs::read_link(format!("/proc/{pid}/fd/2")).unwrap(),
        Path::new("/dev/null")
    );
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let session = stat.rsplit(") ").next().unwrap().split(' ').nth(3).unwrap();
    assert_eq!(session, pid, "leads its own session");

    let second = run(&point, "", &["host:19998/x", "mnt"]);
    assert_eq!(second.status.code(), Some(MOUNT_FAILURE));
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(said.contains("already mounted"), "{said}");

    assert!(Command::new("umount").arg(point.path()).status().unwrap().success());
    eventually("the daemon to end", || has_ended(&pid));
}

fn what_fails_before_that_is_said() {
    let point = Point::new();
    for (fault, arguments, words) in [
        ("", ["host:1/", "missing"], "mkdir -p"),
        ("", ["host:port/", "mnt"], "port is no port"),
        ("", ["host:1/", "mnt/"], ""),
        ("fail", ["host:1/", "mnt"], "no master answers"),
        ("end", ["host:1/", "mnt"], "ended before it served"),
        ("panic", ["host:1/", "mnt"], "ended with status 101"),
        ("abort", ["host:1/", "mnt"], "killed by SIGABRT"),
    ] {
        let output = run(&point, fault, &arguments);
        if words.is_empty() {
            assert!(output.status.success(), "{output:?}");
            mount::unmount(&point.path(), UnmountMode::Normal).unwrap();
            continue;
        }
        assert_eq!(output.status.code(), Some(MOUNT_FAILURE), "{arguments:?}: {output:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(words), "{words} in {said}");
        assert_eq!(mount::mount_at(&point.path()).unwrap(), None);
    }
}

fn mount_dash_t_alluxio() {
    let point = Point::new();
    let mount_8 = |arguments: &[&str]| {
        command("mount")
            .args(["-t", "alluxio"])
            .args(arguments)
            .output()
            .unwrap()
    };
    let at = point.path();
    let at = at.to_str().unwrap();
    let options = "ro,user,nofail,attr_timeout=5,alluxio.user.file.writetype.default=THROUGH";
    let output = mount_8(&["-v", "localhost:19998/", at, "-o", options]);
    assert!(output.status.success(), "{output:?}");
    let entry = mount::mount_at(&point.path()).unwrap().unwrap();
    assert!(entry.is_alluxio() && entry.source == "localhost:19998/", "{entry:?}");
    assert_eq!(entry.options, "ro,nosuid,nodev,noexec,relatime");
    assert_eq!(std::fs::read(point.path().join(NAME)).unwrap(), CONTENT);

    let second = mount_8(&["localhost:19998/", at]);
    assert_eq!(second.status.code(), Some(MOUNT_FAILURE));
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(said.contains("already mounted"), "{said}");
    let sloppy = mount_8(&["-s", "localhost:19998/", at, "-o", "quiet"]);
    assert!(
        String::from_utf8_lossy(&sloppy.stderr).contains("already mounted"),
        "{sloppy:?}"
    );
    let unknown = mount_8(&["localhost:19998/", at, "-o", "quiet"]);
    assert!(
        String::from_utf8_lossy(&unknown.stderr).contains("quiet is not known"),
        "{unknown:?}"
    );
    let remount = mount_8(&["-o", "remount,rw", "localhost:19998/", at]);
    assert!(!remount.status.success(), "{remount:?}");
    // Without type and source mount(8) takes both from the mount table.
    let remount = command("mount").args(["-o", "remount,rw", at]).output().unwrap();
    assert_eq!(remount.status.code(), Some(MOUNT_FAILURE), "{remount:?}");
    let said = String::from_utf8_lossy(&remount.stderr);
    assert!(said.contains("unmount it and mount it again"), "{said}");
    let bind = command("mount").args(["-o", "remount,bind,rw", at]).status().unwrap();
    assert!(bind.success(), "what the message says works");

    assert!(Command::new("umount").arg(at).status().unwrap().success());
    assert_eq!(mount::mount_at(&point.path()).unwrap(), None);

    // The daemon is killed; the next mount works all the same.
    assert!(run(&point, "", &["host:1/", "mnt"]).status.success());
    let pid = std::fs::read_to_string(point.around().join("pid")).unwrap();
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(pid.parse().unwrap()),
        nix::sys::signal::Signal::SIGKILL,
    )
    .unwrap();
    eventually("the daemon to end", || has_ended(&pid));
    let again = mount_8(&["localhost:19998/", at]);
    assert!(again.status.success(), "{again:?}");
    assert_eq!(std::fs::read(point.path().join(NAME)).unwrap(), CONTENT);
    assert!(Command::new("umount").arg(at).status().unwrap().success());
    assert_eq!(mount::mount_at(&point.path()).unwrap(), None);
}

fn fake_mounts_nothing() {
    let point = Point::new();
    assert!(run(&point, "", &["host:1/", "mnt", "-f"]).status.success());
    assert_eq!(mount::mount_at(&point.path()).unwrap(), None);
    let refused = run(&point, "", &["host:1/", "mnt", "-f", "-o", "quiet"]);
    assert_eq!(refused.status.code(), Some(MOUNT_FAILURE));
}

fn others_than_root_may_mount() {
    let point = Point::new();
    std::fs::set_permissions(point.around(), Permissions::from_mode(0o755)).unwrap();
    chown(point.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    let as_nobody = |program: &Path, arguments: &[&str]| {
        command(program)
            .uid(NOBODY)
            .gid(NOBODY)
            .current_dir("/")
            .args(arguments)
            .output()
            .unwrap()
    };
    let at = point.path();
    let at = at.to_str().unwrap();
    let output = as_nobody(&helper(&point), &["host:1,h2:2/x", at, "-o", "ro"]);
    assert!(output.status.success(), "{output:?}");
    let entry = mount::mount_at(&point.path()).unwrap().unwrap();
    assert!(entry.is_alluxio());
    assert_eq!(entry.source, "host:1,h2:2/x");
    assert!(entry.options.contains("nosuid"), "{}", entry.options);

    let read = as_nobody(Path::new("/bin/cat"), &[&format!("{at}/{NAME}")]);
    assert_eq!(read.stdout, CONTENT, "{read:?}");
    let other = std::fs::read(point.path().join(NAME)).unwrap_err();
    assert_eq!(
        other.kind(),
        std::io::ErrorKind::PermissionDenied,
        "without allow_other not even root"
    );

    let output = as_nobody(&helper(&point), &["--unmount", at]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(mount::mount_at(&point.path()).unwrap(), None);

    // A folder of somebody else.
    chown(point.path(), Some(0), Some(0)).unwrap();
    let refused = as_nobody(&helper(&point), &["host:1/x", at]);
    assert_eq!(refused.status.code(), Some(MOUNT_FAILURE), "{refused:?}");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("fusermount3") && said.contains(at), "{said}");
}
