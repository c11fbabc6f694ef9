//! Writes: into a file without a name that is shown, synced, then given its name.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use alluxio_proto::types::FileKind;
use nix::errno::Errno;
use nix::fcntl::{self, AtFlags, OFlag, RenameFlags};
use nix::sys::stat::{self, FchmodatFlags, Mode, UtimensatFlags};
use nix::sys::time::TimeSpec;
use nix::unistd::{self, UnlinkatFlags};

use super::errno::{error, io_error};
use super::names::{gid_of, uid_of};
use super::names_of_uploads;
use super::root::{Root, TEMP_DIR, fingerprint_of, open_at, sync_directory};
use crate::{Expect, UfsAttributes, UfsError, UfsErrorKind, UfsMetrics, UfsResult, UfsStatus, path};

const DEFAULT_MODE: u32 = 0o644;
const NS_PER_SECOND: i64 = 1_000_000_000;
/// As coarse as file systems keep times.
const TIME_GRAIN_NS: u64 = 2_000_000_000;

/// A file being written. Dropped before it is published, it is gone.
#[derive(Debug)]
pub(super) struct TempFile {
    root: Arc<Root>,
    directory: OwnedFd,
    name: OsString,
    file: File,
    path: Vec<u8>,
    published: bool,
}

impl TempFile {
    pub fn create(root: Arc<Root>, path: Vec<u8>) -> UfsResult<Self> {
        UfsMetrics::add(&root.metrics.requests, 1);
        root.check(&path)?;
        if path.is_empty() {
            return Err(UfsError::new(
                UfsErrorKind::IsADirectory,
                "write /: the root is a directory",
            ));
        }
        let fail = |errno| error(errno, "make a temporary file for", &path);
        let directory = temp_directory(&root, true)?.ok_or_else(|| fail(Errno::ENOENT))?;
        let number = root.next_temp.fetch_add(1, Ordering::Relaxed);
        let name = OsString::from(format!(
            "{}-{number}-{:016x}",
            std::process::id(),
            rand::random::<u64>()
        ));
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = fcntl::openat(&directory, name.as_os_str(), flags, Mode::from_bits_truncate(0o600)).map_err(fail)?;
        Ok(Self {
            root,
            directory,
            name,
            file: File::from(file),
            path,
            published: false,
        })
    }

    pub fn file(&self) -> &File {
        &self.file
    }

    pub fn set_length(&self, length: u64) -> UfsResult<()> {
        let result = self.file.set_len(length);
        result.map_err(|error| io_error(&error, "set the length of", &self.path))
    }

    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> UfsResult<()> {
        let result = self.file.write_all_at(bytes, offset);
        result.map_err(|error| io_error(&error, "write", &self.path))?;
        UfsMetrics::add(&self.root.metrics.bytes_written, bytes.len() as u64);
        Ok(())
    }

    /// Attributes, fsync, name, fsync of the folder: in this order, so that the name never leads to less than all of it.
    pub fn publish(mut self, expect: &Expect, attributes: &UfsAttributes) -> UfsResult<UfsStatus> {
        let fail = |errno| error(errno, "write", &self.path);
        if unistd::geteuid().is_root() {
            let owner = attributes.owner.as_deref().and_then(uid_of);
            let group = attributes.group.as_deref().and_then(gid_of);
            unistd::fchown(&self.file, owner, group).map_err(fail)?;
        }
        // After the owner, for a change of owner takes the set-uid bit away.
        let mode = attributes.mode.unwrap_or(DEFAULT_MODE);
        stat::fchmod(&self.file, Mode::from_bits_truncate(mode)).map_err(fail)?;
        if let Some(mtime_ns) = attributes.mtime_ns {
            stat::futimens(&self.file, &TimeSpec::UTIME_OMIT, &time_of(mtime_ns)).map_err(fail)?;
        }
        if let Some(name) = &attributes.write_id {
            names_of_uploads::set(&self.file, name);
        }
        self.file
            .sync_all()
            .map_err(|error| io_error(&error, "sync", &self.path))?;

        let (parent, name) = path::split(&self.path);
        let name = OsStr::from_bytes(name);
        let (directory, _) = self.root.make_directories(parent)?;
        {
            let _one_writer_of_this_path = self.root.lock_of(&self.path).lock();
            self.place(expect, &directory, name)?;
        }
        self.published = true;
        sync_directory(&directory).map_err(fail)?;
        // Of the file that was written: somebody may have put another one there meanwhile.
        let stat = stat::fstat(&self.file).map_err(fail)?;
        Ok(self.root.status_of(name.as_bytes(), &stat, None))
    }

    /// Gives the file its name. `Absent` is exact also against other processes; a fingerprint is compared just before, and
    /// only writers of this process are kept out.
    fn place(&self, expect: &Expect, directory: &OwnedFd, name: &OsStr) -> UfsResult<()> {
        let fail = |errno| error(errno, "write", &self.path);
        let unmet = |why: &str| {
            let message = format!("write {}: {why}", path::show(&self.path));
            UfsError::new(UfsErrorKind::PreconditionFailed, message)
        };
        let temp = self.name.as_os_str();
        match expect {
            Expect::Any => {}
            Expect::Absent => match self.place_where_nothing_is(directory, name) {
                Ok(true) => return Ok(()),
                Err(Errno::EEXIST) => return Err(unmet("something is there")),
                // This file system can do neither: a look has to do.
                Ok(false) => match self.root.status_at(directory, name) {
                    Err(Errno::ENOENT) => {}
                    Ok(_) => return Err(unmet("something is there")),
                    Err(errno) => return Err(fail(errno)),
                },
                Err(errno) => return Err(fail(errno)),
            },
            Expect::Fingerprint(wanted) => match self.root.status_at(directory, name) {
                Ok(there) if there.fingerprint == *wanted => {}
                Ok(_) => return Err(unmet("it has changed")),
                Err(Errno::ENOENT) => return Err(unmet("it is gone")),
                Err(errno) => return Err(fail(errno)),
            },
        }
        fcntl::renameat(&self.directory, temp, directory, name).map_err(fail)
    }

    /// In one step, EEXIST if something is there: by a rename, or by a further link where the file system has no such rename.
    /// False: it has neither.
    fn place_where_nothing_is(&self, directory: &OwnedFd, name: &OsStr) -> Result<bool, Errno> {
        let temp = self.name.as_os_str();
        match fcntl::renameat2(&self.directory, temp, directory, name, RenameFlags::RENAME_NOREPLACE) {
            Err(Errno::EINVAL | Errno::ENOSYS | Errno::EOPNOTSUPP) => {}
            done => return done.map(|()| true),
        }
        match unistd::linkat(&self.directory, temp, directory, name, AtFlags::empty()) {
            Ok(()) => {
                // The name stands; a temporary one left over is cleaned as a stale one.
                if let Err(errno) = unistd::unlinkat(&self.directory, temp, UnlinkatFlags::NoRemoveDir) {
                    tracing::warn!(%errno, "remove a temporary file");
                }
                Ok(true)
            }
            Err(Errno::EPERM | Errno::EOPNOTSUPP | Errno::EMLINK | Errno::ENOSYS) => Ok(false),
            Err(errno) => Err(errno),
        }
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        if !self.published
            && let Err(errno) = unistd::unlinkat(&self.directory, self.name.as_os_str(), UnlinkatFlags::NoRemoveDir)
        {
            tracing::warn!(%errno, "remove a temporary file; it is cleaned later as a stale one");
        }
    }
}

fn temp_directory(root: &Root, make: bool) -> UfsResult<Option<OwnedFd>> {
    let top = root.open()?;
    let fail = |errno| error(errno, "open the folder", TEMP_DIR);
    match open_at(&top, TEMP_DIR, OFlag::O_RDONLY | OFlag::O_DIRECTORY) {
        Ok(directory) => return Ok(Some(directory)),
        Err(Errno::ENOENT) if make => {}
        Err(Errno::ENOENT) => return Ok(None),
        Err(errno) => return Err(fail(errno)),
    }
    match stat::mkdirat(&top, OsStr::from_bytes(TEMP_DIR), Mode::from_bits_truncate(0o700)) {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(errno) => return Err(fail(errno)),
    }
    open_at(&top, TEMP_DIR, OFlag::O_RDONLY | OFlag::O_DIRECTORY)
        .map(Some)
        .map_err(fail)
}

fn time_of(ns: i64) -> TimeSpec {
    TimeSpec::new(ns.div_euclid(NS_PER_SECOND), ns.rem_euclid(NS_PER_SECOND))
}

impl Root {
    /// Removes temporary files that nobody has written to for so long.
    pub(super) fn remove_stale_temps(&self, age: Duration) -> UfsResult<u64> {
        let Some(directory) = temp_directory(self, false)? else {
            return Ok(0);
        };
        let fail = |errno| error(errno, "clean", TEMP_DIR);
        let again = directory
            .try_clone()
            .map_err(|error| io_error(&error, "clean", TEMP_DIR))?;
        let limit = SystemTime::now()
            .checked_sub(age)
            .and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
        let Some(limit) = limit.map(crate::object::client::duration_ns) else {
            return Ok(0);
        };
        let mut removed = 0;
        for entry in nix::dir::Dir::from_fd(again).map_err(fail)?.iter() {
            let entry = entry.map_err(fail)?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            let stale = self
                .status_at(&directory, name)
                .is_ok_and(|status| status.kind == alluxio_proto::types::FileKind::File && status.mtime_ns <= limit);
            if stale && unistd::unlinkat(&directory, name, UnlinkatFlags::NoRemoveDir).is_ok() {
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Changes what is `Some`, of what has `fingerprint` (empty: whatever is there); links are changed themselves, not what they lead
    /// to. Returns the fingerprint after it.
    pub(super) fn set_attributes(
        &self,
        path: &[u8],
        attributes: &UfsAttributes,
        fingerprint: &str,
    ) -> UfsResult<String> {
        UfsMetrics::add(&self.metrics.requests, 1);
        let fail = |errno| error(errno, "set the attributes of", path);
        let target = self.open_beneath(path, OFlag::O_PATH)?;
        let before = stat::fstat(&target).map_err(fail)?;
        let kind = super::root::kind_of(&before);
        if kind != FileKind::Directory && !fingerprint.is_empty() && fingerprint_of(&before) != fingerprint {
            let why = format!("set the attributes of {}: it is another file now", path::show(path));
            return Err(UfsError::new(UfsErrorKind::PreconditionFailed, why));
        }
        let symlink = kind == FileKind::Symlink;
        if unistd::geteuid().is_root() && (attributes.owner.is_some() || attributes.group.is_some()) {
            let owner = attributes.owner.as_deref().and_then(uid_of);
            let group = attributes.group.as_deref().and_then(gid_of);
            unistd::fchownat(&target, "", owner, group, AtFlags::AT_EMPTY_PATH).map_err(fail)?;
        }
        // By descriptor, so that a link put in its place meanwhile leads nowhere.
        use std::os::fd::AsRawFd;
        let by_descriptor = format!("/proc/self/fd/{}", target.as_raw_fd());
        let named = (!symlink).then(|| names_of_uploads::Kept::before(&by_descriptor));
        if let Some(mode) = attributes.mode
            && !symlink
        {
            let mode = Mode::from_bits_truncate(mode);
            stat::fchmodat(
                fcntl::AT_FDCWD,
                by_descriptor.as_str(),
                mode,
                FchmodatFlags::FollowSymlink,
            )
            .map_err(fail)?;
        }
        if let Some(mtime_ns) = attributes.mtime_ns
            && !symlink
        {
            let (omit, mtime) = (TimeSpec::UTIME_OMIT, time_of(mtime_ns));
            let follow = UtimensatFlags::FollowSymlink;
            stat::utimensat(fcntl::AT_FDCWD, by_descriptor.as_str(), &omit, &mtime, follow).map_err(fail)?;
        }
        let after = stat::fstat(&target).map_err(fail)?;
        let mtime_ns = |of: &stat::FileStat| of.st_mtime * NS_PER_SECOND + of.st_mtime_nsec;
        let moved_ns = match attributes.mtime_ns {
            None => mtime_ns(&after).abs_diff(mtime_ns(&before)),
            Some(wanted) => mtime_ns(&after).abs_diff(wanted).saturating_sub(TIME_GRAIN_NS),
        };
        let is_written = before.st_size != after.st_size || moved_ns > 0;
        if kind == FileKind::File && is_written {
            let why = format!("set the attributes of {}: somebody writes it", path::show(path));
            return Err(UfsError::new(UfsErrorKind::PreconditionFailed, why));
        }
        if let Some(named) = named {
            named.after();
        }
        match kind {
            FileKind::Directory => Ok(String::new()),
            _ => Ok(fingerprint_of(&after)),
        }
    }
}
