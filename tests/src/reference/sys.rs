//! System calls by path, relative to a folder, with errno as the error.

use std::ffi::CString;
use std::os::fd::RawFd;

/// Errno.
pub(super) type Outcome<T> = Result<T, i32>;

/// The calling thread's errno.
pub(super) fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}

/// A result of a system call that is -1 on failure.
pub(super) fn check(value: impl Into<i64>) -> Outcome<i64> {
    let value = value.into();
    if value < 0 { Err(errno()) } else { Ok(value) }
}

/// A path for a system call.
pub(super) fn c(path: &str) -> CString {
    CString::new(path).expect("generated paths have no NUL")
}

/// Attributes that both sides must agree on.
pub(super) fn describe(meta: &libc::stat) -> String {
    let kind = meta.st_mode & libc::S_IFMT;
    // The size of a directory is the file system's own business.
    let size = if kind == libc::S_IFDIR { 0 } else { meta.st_size };
    format!(
        "kind {:o} mode {:o} nlink {} uid {} gid {} size {size} rdev {}",
        kind >> 12,
        meta.st_mode & 0o7777,
        meta.st_nlink,
        meta.st_uid,
        meta.st_gid,
        meta.st_rdev
    )
}

/// mtime and ctime in nanoseconds.
pub(super) fn times(meta: &libc::stat) -> (i64, i64) {
    (
        meta.st_mtime * 1_000_000_000 + meta.st_mtime_nsec,
        meta.st_ctime * 1_000_000_000 + meta.st_ctime_nsec,
    )
}

/// fstatat(2), not following links; an empty path is the folder itself.
pub(super) fn stat_at(dir: RawFd, path: &str) -> Outcome<libc::stat> {
    // SAFETY: all-zero is a valid `stat`, which the call fills; the path is NUL-terminated and outlives it.
    unsafe {
        let mut meta: libc::stat = std::mem::zeroed();
        let flags = libc::AT_SYMLINK_NOFOLLOW | if path.is_empty() { libc::AT_EMPTY_PATH } else { 0 };
        check(libc::fstatat(dir, c(path).as_ptr(), &raw mut meta, flags))?;
        Ok(meta)
    }
}

/// fstat(2).
pub(super) fn stat_fd(fd: RawFd) -> Outcome<libc::stat> {
    // SAFETY: all-zero is a valid `stat`, which the call fills.
    unsafe {
        let mut meta: libc::stat = std::mem::zeroed();
        check(libc::fstat(fd, &raw mut meta))?;
        Ok(meta)
    }
}

/// pread(2) of a whole range, short only at the end.
pub(super) fn pread(fd: RawFd, offset: i64, length: usize) -> Outcome<Vec<u8>> {
    let mut buffer = vec![0u8; length];
    let mut done = 0;
    while done < length {
        // SAFETY: the pointer and length describe the rest of `buffer`.
        let n = unsafe {
            libc::pread(
                fd,
                buffer.as_mut_ptr().add(done).cast(),
                length - done,
                offset + done as i64,
            )
        };
        match check(n as i64)? {
            0 => break,
            n => done += n as usize,
        }
    }
    buffer.truncate(done);
    Ok(buffer)
}

/// A path that reaches the same file through /proc, for calls that have no `at` form.
pub(super) fn proc_path(dir: RawFd, path: &str) -> CString {
    c(&format!("/proc/self/fd/{dir}/{path}"))
}

/// Names of extended attributes, sorted; those of the system (SELinux, capabilities) left out.
pub(super) fn xattr_names(dir: RawFd, path: &str) -> Outcome<Vec<String>> {
    let path = proc_path(dir, path);
    let mut buffer = vec![0u8; 65_536];
    // SAFETY: the path is NUL-terminated; pointer and length describe `buffer`.
    let n = check(unsafe { libc::llistxattr(path.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) } as i64)?;
    buffer.truncate(n as usize);
    let mut names: Vec<String> = buffer
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .filter(|name| !name.starts_with("security."))
        .collect();
    names.sort();
    Ok(names)
}

/// An extended attribute.
pub(super) fn xattr(dir: RawFd, path: &str, name: &str) -> Outcome<Vec<u8>> {
    let (path, name) = (proc_path(dir, path), c(name));
    let mut buffer = vec![0u8; 65_536];
    // SAFETY: path and name are NUL-terminated; pointer and length describe `buffer`.
    let n = check(
        unsafe { libc::lgetxattr(path.as_ptr(), name.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) } as i64,
    )?;
    buffer.truncate(n as usize);
    Ok(buffer)
}

/// Names and kinds in a directory, sorted, without the dots.
pub(super) fn list(dir: RawFd, path: &str) -> Outcome<Vec<String>> {
    let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC;
    let name = if path.is_empty() { "." } else { path };
    // SAFETY: the path is NUL-terminated; the descriptor goes to fdopendir, which closes it with the stream; `readdir`
    // returns entries that are valid until the next call.
    unsafe {
        let fd = check(libc::openat(dir, c(name).as_ptr(), flags))? as RawFd;
        let stream = libc::fdopendir(fd);
        if stream.is_null() {
            return Err(errno());
        }
        let mut names = Vec::new();
        loop {
            *libc::__errno_location() = 0;
            let entry = libc::readdir64(stream);
            if entry.is_null() {
                let error = *libc::__errno_location();
                libc::closedir(stream);
                if error != 0 {
                    return Err(error);
                }
                break;
            }
            let name = std::ffi::CStr::from_ptr((*entry).d_name.as_ptr())
                .to_string_lossy()
                .into_owned();
            if name != "." && name != ".." {
                names.push(format!("{name} ({})", (*entry).d_type));
            }
        }
        names.sort();
        Ok(names)
    }
}
