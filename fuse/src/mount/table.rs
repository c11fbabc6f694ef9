//! The kernel's mount table, and whether a mount's daemon lives.

use super::{ANSWER_TIME_MAX, FS_TYPE};
use alluxio_proto::{FsError, FsResult};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc;

const MOUNTINFO: &str = "/proc/self/mountinfo";

/// Device number of a mounted file system: the kernel's name for one FUSE connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Device {
    /// Major number; 0 for file systems without a disk.
    pub major: u32,
    /// Minor number; also the name beneath /sys/fs/fuse/connections.
    pub minor: u32,
}

impl fmt::Display for Device {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}", self.major, self.minor)
    }
}

/// One line of the mount table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountEntry {
    /// What is mounted, as whoever mounted it called it: `HOST:PORT/PATH` for us.
    pub source: String,
    /// Where.
    pub point: PathBuf,
    /// Type, such as `fuse.alluxio`.
    pub fs_type: String,
    /// Options of the mount, as the kernel lists them: `rw,nosuid`.
    pub options: String,
    /// Which file system it is.
    pub device: Device,
}

/// Whether a mount serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MountState {
    /// Its daemon answers.
    Alive,
    /// Its daemon is gone; every call fails with ENOTCONN.
    Dead,
    /// Its daemon did not answer within [`ANSWER_TIME_MAX`].
    Silent,
}

impl MountEntry {
    /// Whether it is a mount of ours.
    pub fn is_alluxio(&self) -> bool {
        self.fs_type == FS_TYPE
    }

    /// Asks the mount's daemon. Takes [`ANSWER_TIME_MAX`] at most; a thread stays behind for as long as the daemon is
    /// silent, because the question to the kernel cannot be taken back.
    pub fn state(&self) -> MountState {
        let (answer, answered) = mpsc::channel();
        let point = self.point.clone();
        // statfs, as the kernel never answers it from its caches.
        let asked = std::thread::Builder::new()
            .name("mount-state".to_owned())
            .spawn(move || answer.send(nix::sys::statfs::statfs(&point).map(drop)));
        if asked.is_err() {
            return MountState::Silent;
        }
        match answered.recv_timeout(ANSWER_TIME_MAX) {
            Ok(Err(nix::errno::Errno::ENOTCONN | nix::errno::Errno::ECONNABORTED)) => MountState::Dead,
            Ok(_) => MountState::Alive,
            Err(_) => MountState::Silent,
        }
    }
}

/// All mounts of ours that this process sees, oldest first.
///
/// # Errors
/// If the mount table cannot be read.
pub fn list() -> FsResult<Vec<MountEntry>> {
    let mut entries = read()?;
    entries.retain(MountEntry::is_alluxio);
    Ok(entries)
}

/// What is mounted at exactly this folder; the topmost, if several are. Expects a path in its real form.
///
/// # Errors
/// If the mount table cannot be read.
pub fn mount_at(point: &Path) -> FsResult<Option<MountEntry>> {
    Ok(read()?.into_iter().rev().find(|entry| entry.point == point))
}

fn read() -> FsResult<Vec<MountEntry>> {
    let table = std::fs::read(MOUNTINFO)
        .map_err(|error| FsError::from_io(format!("read the mount table {MOUNTINFO}"), &error))?;
    Ok(parse(&table))
}

/// Lines that are not as proc(5) describes them are passed over: the kernel may add to its format.
fn parse(table: &[u8]) -> Vec<MountEntry> {
    table.split(|byte| *byte == b'\n').filter_map(parse_line).collect()
}

/// `36 35 98:0 /root /point rw,noatime shared:1 - type source rw,errors=continue`; any number of tags before the dash.
fn parse_line(line: &[u8]) -> Option<MountEntry> {
    let mut fields = line.split(|byte| *byte == b' ').skip(2);
    let (major, minor) = text(fields.next()?)?.split_once(':')?;
    let device = Device {
        major: major.parse().ok()?,
        minor: minor.parse().ok()?,
    };
    let _root = fields.next()?;
    let point = unescape(fields.next()?);
    let options = text(fields.next()?)?.to_owned();
    fields.find(|field| *field == b"-")?;
    let fs_type = text(fields.next()?)?.to_owned();
    let source = unescape(fields.next()?).to_string_lossy().into_owned();
    Some(MountEntry {
        source,
        point: PathBuf::from(point),
        fs_type,
        options,
        device,
    })
}

fn text(field: &[u8]) -> Option<&str> {
    std::str::from_utf8(field).ok()
}

/// The kernel writes space, tab, newline, `#` and backslash as a backslash and three octal digits.
fn unescape(field: &[u8]) -> OsString {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        if let (b'\\', Some(byte)) = (*first, tail.get(..3).and_then(octal)) {
            out.push(byte);
            rest = &tail[3..];
        } else {
            out.push(*first);
            rest = tail;
        }
    }
    OsString::from_vec(out)
}

fn octal(digits: &[u8]) -> Option<u8> {
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    u8::from_str_radix(OsStr::from_bytes(digits).to_str()?, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_of_the_kernel() {
        let table = b"36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 shared:7 - ext3 /dev/root rw,errors=continue\n\
            99 27 0:52 / /mnt/a\\040b\\134c rw,relatime - fuse.alluxio h1:19998,h2:19998/d\\040e rw,user_id=0\n\
            nonsense\n100 27 0:x / /p rw - t s o\n";
        let entries = parse(table);
        assert_eq!(entries.len(), 2);
        assert_eq!(entries[0].fs_type, "ext3");
        assert_eq!(entries[0].device, Device { major: 98, minor: 0 });
        assert_eq!(
            entries[1],
            MountEntry {
                source: "h1:19998,h2:19998/d e".to_owned(),
                point: PathBuf::from("/mnt/a b\\c"),
                fs_type: "fuse.alluxio".to_owned(),
                options: "rw,relatime".to_owned(),
                device: Device { major: 0, minor: 52 },
            }
        );
        assert!(entries[1].is_alluxio() && !entries[0].is_alluxio());
    }

    #[test]
    fn names_that_are_not_text_are_kept() {
        let entries = parse(b"1 1 0:5 / /a\xff rw - tmpfs none rw");
        assert_eq!(entries[0].point.as_os_str().as_bytes(), b"/a\xff");
    }

    #[test]
    fn the_running_kernel_is_understood() {
        let root = mount_at(Path::new("/proc")).unwrap().unwrap();
        assert_eq!(root.fs_type, "proc");
        assert_eq!(root.state(), MountState::Alive);
        let table = std::fs::read_to_string(MOUNTINFO).unwrap();
        assert_eq!(parse(table.as_bytes()).len(), table.lines().count(), "{table}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(table in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(parse(&table).len() <= table.len());
        }

        #[test]
        fn escapes_are_undone(name in "[ -~]{0,30}") {
            let escaped: String = name
                .bytes()
                .map(|byte| match byte {
                    b' ' | b'\\' | b'#' => format!("\\{byte:03o}"),
                    byte => char::from(byte).to_string(),
                })
                .collect();
            prop_assert_eq!(unescape(escaped.as_bytes()), OsString::from(name));
        }
    }
}
