//! mount(2) and umount(2), and `fusermount3` for those who may not call them.

use super::folder::{Ground, check, real_name};
use super::options::MountOptions;
use super::table::{MountState, mount_at};
use super::{ANSWER_TIME_MAX, FS_TYPE};
use alluxio_proto::{ErrorKind, FsError, FsResult};
use nix::errno::Errno;
use nix::mount::MntFlags;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use std::fs::File;
use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const DEVICE: &str = "/dev/fuse";

/// Largest read request: what the kernel allows by default (fs.fuse.max_pages_limit, 256 pages).
const READ_BYTES_MAX: u32 = 1 << 20;

/// Dead mounts of ours that are cleared from one folder before it is given up; each crash leaves one.
const DEAD_MOUNTS_MAX: usize = 16;

/// How long fusermount3 may take. It only calls mount(2).
const FUSERMOUNT_TIME_MAX: Duration = Duration::from_secs(30);

/// Where fusermount3 is told which of its descriptors is the socket to send /dev/fuse over.
const FUSERMOUNT_SOCKET: &str = "_FUSE_COMMFD";

/// How to unmount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnmountMode {
    /// Only if nobody uses it.
    Normal,
    /// Takes the name away now; the rest goes when the last user is done.
    Lazy,
    /// Ends the connection first: all who use it get errors. What was not flushed is lost to them. For others than root it is
    /// the same as lazy.
    Force,
}

/// Mounts `source` on `dir` and answers the connection to the kernel. Calls to the mount wait until a session serves the
/// connection; when the last copy of it is closed, the mount is dead but stays in the table: unmount it.
///
/// Two that mount on the same folder at the same time take turns, and the second is refused.
///
/// # Errors
/// `NotFound`, `NotADirectory`, `Busy` for the folder; `NotPermitted` or `AccessDenied` if neither we nor fusermount3 may
/// mount; `NotSupported` if the kernel has no FUSE.
pub fn open_and_mount(dir: &Path, options: &MountOptions, source: &str) -> FsResult<OwnedFd> {
    let point = real_name(dir)?;
    clear(&point)?;
    let turn = take_turn(&point)?;
    // Again, now that nobody else can be between looking and mounting.
    clear(&point)?;
    let connection = mount(&point, options, source)?;
    drop(turn);
    Ok(connection)
}

/// Ends the mount of ours on `dir`, dead ones included. A dead one goes whatever the mode.
///
/// # Errors
/// `NotFound` if there is none, `Busy` if it is in use and the mode is normal, `NotPermitted` if it is not ours to end.
pub fn unmount(dir: &Path, mode: UnmountMode) -> FsResult<()> {
    let point = real_name(dir)?;
    let mount = mount_at(&point)?.filter(|mount| mount.is_alluxio()).ok_or_else(|| {
        FsError::new(
            ErrorKind::NotFound,
            format!("no alluxio is mounted at {}", point.display()),
        )
    })?;
    match unmount_at(&point, mode) {
        // Only asked now: a question to a mount that does not answer would itself keep it busy.
        Err(error) if error.kind == ErrorKind::Busy && mount.state() == MountState::Dead => {
            unmount_at(&point, UnmountMode::Lazy)
        }
        done => done,
    }
}

/// Ends whatever is on top at `point`.
pub(super) fn unmount_at(point: &Path, mode: UnmountMode) -> FsResult<()> {
    let flags = MntFlags::UMOUNT_NOFOLLOW
        | match mode {
            UnmountMode::Normal => MntFlags::empty(),
            UnmountMode::Lazy => MntFlags::MNT_DETACH,
            UnmountMode::Force => MntFlags::MNT_FORCE | MntFlags::MNT_DETACH,
        };
    match nix::mount::umount2(point, flags) {
        Ok(()) => Ok(()),
        Err(Errno::EPERM) => fusermount_unmount(point, mode),
        Err(errno) => Err(unmount_failed(point, errno)),
    }
}

fn unmount_failed(point: &Path, errno: Errno) -> FsError {
    let hint = match errno {
        Errno::EBUSY => "; a process has a file open there or works in it. End it, or unmount lazily",
        Errno::EINVAL => "; nothing is mounted there",
        _ => "",
    };
    let mut error = FsError::from_io(format!("unmount {}", point.display()), &errno.into());
    error.message.push_str(hint);
    error
}

/// Checks the folder and clears dead mounts of ours off it.
fn clear(point: &Path) -> FsResult<()> {
    for _ in 0..DEAD_MOUNTS_MAX {
        match check(point)? {
            Ground::Free => return Ok(()),
            Ground::Dead => {
                tracing::info!(point = %point.display(), "a mount whose daemon died is in the way: unmounting it");
                unmount_at(point, UnmountMode::Lazy)?;
            }
        }
    }
    Err(FsError::new(
        ErrorKind::Busy,
        format!(
            "{}: more than {DEAD_MOUNTS_MAX} dead mounts lie here; unmount them: umount -l {0}",
            point.display()
        ),
    ))
}

/// A lock on the folder itself, held while it is looked at and mounted on.
fn take_turn(point: &Path) -> FsResult<File> {
    let doing = format!("open mount point {}", point.display());
    let folder = File::open(point).map_err(|error| FsError::from_io(&doing, &error))?;
    let started = Instant::now();
    loop {
        match folder.try_lock() {
            Ok(()) => return Ok(folder),
            Err(std::fs::TryLockError::Error(error)) => return Err(FsError::from_io(&doing, &error)),
            // The other one mounts at once or is stuck; then we say so instead of joining it.
            Err(std::fs::TryLockError::WouldBlock) if started.elapsed() < ANSWER_TIME_MAX => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(std::fs::TryLockError::WouldBlock) => {
                return Err(FsError::new(
                    ErrorKind::Busy,
                    format!("{}: another process is mounting here", point.display()),
                ));
            }
        }
    }
}

fn mount(point: &Path, options: &MountOptions, source: &str) -> FsResult<OwnedFd> {
    if !nix::unistd::geteuid().is_root() {
        return open_by_fusermount(point, options, source);
    }
    match mount_by_call(point, options, source) {
        // Root without CAP_SYS_ADMIN, as in most containers.
        Err(error) if error.kind == ErrorKind::NotPermitted => {
            open_by_fusermount(point, options, source).map_err(|other| error.context(other))
        }
        done => done,
    }
}

fn mount_by_call(point: &Path, options: &MountOptions, source: &str) -> FsResult<OwnedFd> {
    let connection = open_device()?;
    let root_mode = std::fs::metadata(point)
        .map_err(|error| FsError::from_io(format!("mount point {}", point.display()), &error))?
        .mode();
    let mut data = format!(
        "fd={},rootmode={root_mode:o},user_id={},group_id={},max_read={READ_BYTES_MAX},default_permissions",
        connection.as_raw_fd(),
        nix::unistd::getuid(),
        nix::unistd::getgid(),
    );
    if options.allow_other {
        data.push_str(",allow_other");
    }
    nix::mount::mount(Some(source), point, Some(FS_TYPE), options.flags, Some(data.as_str())).map_err(|errno| {
        let doing = format!("mount {source} on {}", point.display());
        match errno {
            Errno::ENODEV => no_fuse(&doing),
            errno => FsError::from_io(doing, &errno.into()),
        }
    })?;
    Ok(connection)
}

fn open_device() -> FsResult<OwnedFd> {
    let opened = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_CLOEXEC)
        .open(DEVICE);
    match opened {
        Ok(device) => Ok(device.into()),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV | libc::ENXIO)) => {
            Err(no_fuse(&format!("open {DEVICE}")))
        }
        Err(error) => Err(FsError::from_io(format!("open {DEVICE}"), &error)),
    }
}

fn no_fuse(doing: &str) -> FsError {
    FsError::new(
        ErrorKind::NotSupported,
        format!(
            "{doing}: the kernel has no FUSE here; load it (modprobe fuse), or give the container --device {DEVICE} --cap-add SYS_ADMIN"
        ),
    )
}

/// The program that may mount for others than root. `FUSERMOUNT_PATH` names another one, as for other FUSE file systems.
fn fusermount() -> Command {
    let program = std::env::var_os("FUSERMOUNT_PATH").unwrap_or_else(|| "fusermount3".into());
    let mut command = Command::new(program);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

fn no_fusermount(error: &std::io::Error) -> FsError {
    let mut explained = FsError::from_io("run fusermount3, which mounts for others than root", error);
    if error.kind() == std::io::ErrorKind::NotFound {
        explained.kind = ErrorKind::NotPermitted;
        explained
            .message
            .push_str("; mount as root, or install the package fuse3");
    }
    explained
}

/// Mounts by `fusermount3`, as [`open_and_mount`] does for others than root; does not look at the folder first.
///
/// # Errors
/// `NotPermitted` with what fusermount3 says.
pub fn open_by_fusermount(point: &Path, options: &MountOptions, source: &str) -> FsResult<OwnedFd> {
    let doing = format!("mount {source} on {}", point.display());
    let failed = |error: std::io::Error| FsError::from_io(&doing, &error);
    let (ours, theirs) = UnixStream::pair().map_err(failed)?;
    ours.set_read_timeout(Some(FUSERMOUNT_TIME_MAX)).map_err(failed)?;
    let mut command = fusermount();
    // The socket is its standard input: the one descriptor that a child gets without further ado.
    let mut child = command
        .env(FUSERMOUNT_SOCKET, "0")
        .stdin(OwnedFd::from(theirs))
        .arg("-o")
        .arg(fusermount_options(options, source))
        .arg("--")
        .arg(point)
        .spawn()
        .map_err(|error| no_fusermount(&error))?;
    // Our copy of its end of the socket; while it is open, the socket does not end with the child.
    drop(command);
    let received = receive_descriptor(&ours);
    drop(ours);
    if matches!(received, Err(Errno::EAGAIN)) {
        // It hangs; it ends now or never.
        child.kill().map_err(failed)?;
    }
    let output = child.wait_with_output().map_err(failed)?;
    match received {
        Ok(Some(connection)) => Ok(connection),
        Ok(None) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let hint = fusermount_hint(&said);
            Err(FsError::new(
                ErrorKind::NotPermitted,
                format!("{doing}: {} ({}){hint}", said.trim(), output.status),
            ))
        }
        Err(errno) => Err(FsError::from_io(
            format!("{doing}: wait for fusermount3"),
            &errno.into(),
        )),
    }
}

/// What to do about the refusals that everybody meets once.
fn fusermount_hint(said: &str) -> &'static str {
    if said.contains("failed to open /dev/fuse") {
        "; let users open it: chmod 666 /dev/fuse, or mount as root"
    } else if said.contains("user_allow_other") {
        "; mount without allow_other, or put user_allow_other into /etc/fuse.conf"
    } else {
        ""
    }
}

fn fusermount_options(options: &MountOptions, source: &str) -> String {
    let source = source.replace('\\', r"\\").replace(',', r"\,");
    let subtype = FS_TYPE.trim_start_matches("fuse.");
    let mut list = format!("fsname={source},subtype={subtype},max_read={READ_BYTES_MAX},default_permissions");
    if options.allow_other {
        list.push_str(",allow_other");
    }
    for word in options.flag_words() {
        list.push(',');
        list.push_str(word);
    }
    list
}

/// The descriptor that the other end sends, or none if it ends without.
fn receive_descriptor(socket: &UnixStream) -> Result<Option<OwnedFd>, Errno> {
    let mut byte = [0_u8];
    let mut parts = [IoSliceMut::new(&mut byte)];
    let mut space = nix::cmsg_space!([std::os::fd::RawFd; 1]);
    let message = loop {
        match recvmsg::<()>(
            socket.as_raw_fd(),
            &mut parts,
            Some(&mut space),
            MsgFlags::MSG_CMSG_CLOEXEC,
        ) {
            Err(Errno::EINTR) => {}
            received => break received?,
        }
    };
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(descriptors) = control
            && let Some(descriptor) = descriptors.first()
        {
            // SAFETY: the kernel has just made this descriptor for us; nobody else knows its number.
            return Ok(Some(unsafe { OwnedFd::from_raw_fd(*descriptor) }));
        }
    }
    Ok(None)
}

fn fusermount_unmount(point: &Path, mode: UnmountMode) -> FsResult<()> {
    let mut command = fusermount();
    command.arg("-u");
    if mode != UnmountMode::Normal {
        command.arg("-z");
    }
    let output = command
        .arg("--")
        .arg(point)
        .output()
        .map_err(|error| no_fusermount(&error))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let kind = if said.contains("busy") {
        ErrorKind::Busy
    } else {
        ErrorKind::NotPermitted
    };
    Err(FsError::new(
        kind,
        format!("unmount {}: {}", point.display(), said.trim()),
    ))
}
