//! One process of one side: takes requests as JSON lines and answers each with one.

use super::maps::Mapping;
use super::sys::{self, Outcome, c, check};
use super::{Answer, Op, Request, digest};
use crate::tree::contents;
use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Largest file whose holes are walked byte by byte.
const WALK_BYTES_MAX: i64 = 4 << 20;

/// Serves requests until standard input ends.
///
/// # Errors
/// Of standard input and output, and of requests that make no sense.
pub fn serve(input: impl BufRead, mut output: impl Write) -> anyhow::Result<()> {
    let mut actor = Actor::default();
    for line in input.lines() {
        let answer = match serde_json::from_str(&line?)? {
            Request::Begin { root } => actor.begin(&root),
            Request::Do { op, times } => actor.act(&op, times),
            Request::SyncAll => actor.sync_all(),
            Request::Tree => actor.tree(),
        };
        writeln!(output, "{}", serde_json::to_string(&answer)?)?;
        output.flush()?;
    }
    Ok(())
}

#[derive(Default)]
struct Actor {
    root: Option<OwnedFd>,
    files: BTreeMap<usize, OwnedFd>,
    maps: BTreeMap<usize, Mapping>,
}

/// Value and what was found.
type Found = Outcome<(i64, Vec<String>)>;

fn plain(value: Outcome<i64>) -> Found {
    value.map(|value| (value, Vec::new()))
}

fn answer(found: Found) -> Answer {
    match found {
        Ok((value, found)) => Answer { errno: 0, value, found },
        Err(errno) => Answer {
            errno,
            ..Answer::default()
        },
    }
}

impl Actor {
    fn begin(&mut self, root: &str) -> Answer {
        self.files.clear();
        self.maps.clear();
        self.root = None;
        let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC;
        // SAFETY: the path is NUL-terminated; the descriptor is new and nobody else's.
        let opened = unsafe { check(libc::open(c(root).as_ptr(), flags)).map(|fd| OwnedFd::from_raw_fd(fd as RawFd)) };
        answer(opened.map(|fd| {
            self.root = Some(fd);
            (0, Vec::new())
        }))
    }

    /// Syncs mappings, then files: from then on what they hold is promised.
    fn sync_all(&self) -> Answer {
        let maps = self
            .maps
            .iter()
            .map(|(map, mapping)| (format!("map {map}"), mapping.sync()));
        // SAFETY: no pointer is passed.
        let sync = |file: &OwnedFd| check(unsafe { libc::fsync(file.as_raw_fd()) });
        let files = self
            .files
            .iter()
            .map(|(slot, file)| (format!("slot {slot}"), sync(file)));
        let found: Vec<String> = maps
            .chain(files)
            .map(|(what, result)| format!("{what}: {result:?}"))
            .collect();
        answer(Ok((found.len() as i64, found)))
    }

    fn dir(&self) -> RawFd {
        self.root.as_ref().map_or(-1, AsRawFd::as_raw_fd)
    }

    fn fd(&self, slot: usize) -> Outcome<RawFd> {
        self.files.get(&slot).map(AsRawFd::as_raw_fd).ok_or(libc::EBADF)
    }

    fn map(&self, map: usize) -> Outcome<&Mapping> {
        self.maps.get(&map).ok_or(libc::EBADF)
    }

    fn act(&mut self, op: &Op, times: bool) -> Answer {
        let before = times.then(|| self.watched(op));
        let mut result = answer(self.call(op));
        if let Some(before) = before {
            let after = self.watched(op);
            for (what, time) in &before {
                // What is gone, or came, has no times to compare.
                if let Some(now) = after.get(what) {
                    let moved = |moved: bool| if moved { "moved" } else { "stayed" };
                    result.found.push(format!(
                        "{what}: mtime {}, ctime {}",
                        moved(time.0 != now.0),
                        moved(time.1 != now.1)
                    ));
                }
            }
        }
        result
    }

    /// Times of everything that an operation may touch: files, their directories, the descriptor's file.
    fn watched(&self, op: &Op) -> BTreeMap<String, (i64, i64)> {
        let mut found = BTreeMap::new();
        for path in op.paths() {
            let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
            for path in [path, parent] {
                if let Ok(meta) = sys::stat_at(self.dir(), path) {
                    found.insert(format!("{path:?} {}", meta.st_mode & libc::S_IFMT), sys::times(&meta));
                }
            }
        }
        if let Some(meta) = op
            .descriptor()
            .and_then(|slot| self.fd(slot).ok())
            .and_then(|fd| sys::stat_fd(fd).ok())
        {
            found.insert("descriptor".to_owned(), sys::times(&meta));
        }
        found
    }

    fn call(&mut self, op: &Op) -> Found {
        let dir = self.dir();
        match op {
            Op::Open {
                slot,
                path,
                flags,
                mode,
            } => self.open(*slot, path, *flags, *mode),
            Op::Close { slot } => plain(self.close(*slot)),
            Op::Map { slot, map, shared } => {
                let file = self.files.get(slot).ok_or(libc::EBADF)?;
                let copy = file
                    .try_clone()
                    .map_err(|error| error.raw_os_error().unwrap_or(libc::EIO))?;
                self.maps.insert(*map, Mapping::new(copy, *shared)?);
                Ok((0, Vec::new()))
            }
            Op::Unmap { map } => plain(self.maps.remove(map).map(|_| 0).ok_or(libc::EBADF)),
            Op::MapRead { map, offset, length } => {
                let bytes = self.map(*map)?.read(*offset, *length)?;
                Ok((bytes.len() as i64, vec![digest(&bytes)]))
            }
            Op::MapWrite {
                map,
                offset,
                length,
                seed,
            } => plain(
                self.map(*map)?
                    .write(*offset, &contents(*seed, *length))
                    .map(|n| n as i64),
            ),
            Op::MapSync { map } => plain(self.map(*map)?.sync()),
            Op::List { path } => Ok((0, sys::list(dir, path)?)),
            Op::Stat { path } => Ok((0, vec![sys::describe(&sys::stat_at(dir, path)?)])),
            Op::Fstat { slot } => Ok((0, vec![sys::describe(&sys::stat_fd(self.fd(*slot)?)?)])),
            Op::Holes { slot } => self.holes(*slot),
            Op::SetXattr { .. } | Op::GetXattr { .. } | Op::ListXattr { .. } | Op::RemoveXattr { .. } => {
                xattr_call(dir, op)
            }
            Op::Read { .. }
            | Op::Write { .. }
            | Op::Pread { .. }
            | Op::Pwrite { .. }
            | Op::Seek { .. }
            | Op::Ftruncate { .. }
            | Op::Fallocate { .. }
            | Op::CopyRange { .. }
            | Op::Fsync { .. } => self.on_descriptor(op),
            _ => by_name(dir, op),
        }
    }

    fn open(&mut self, slot: usize, path: &str, flags: i32, mode: u32) -> Found {
        // A slot holds one descriptor; the one before is closed, as its own operation would do.
        self.files.remove(&slot);
        // SAFETY: the path is NUL-terminated; the descriptor is new and nobody else's.
        let fd = unsafe {
            let fd = check(libc::openat(
                self.dir(),
                c(path).as_ptr(),
                flags | libc::O_CLOEXEC,
                mode,
            ))?;
            OwnedFd::from_raw_fd(fd as RawFd)
        };
        let found = sys::describe(&sys::stat_fd(fd.as_raw_fd())?);
        self.files.insert(slot, fd);
        Ok((0, vec![found]))
    }

    /// close(2) with its errno, which dropping a descriptor swallows.
    fn close(&mut self, slot: usize) -> Outcome<i64> {
        use std::os::fd::IntoRawFd;
        let file = self.files.remove(&slot).ok_or(libc::EBADF)?;
        // SAFETY: the descriptor was ours alone and is not used after this.
        check(unsafe { libc::close(file.into_raw_fd()) })
    }

    fn on_descriptor(&self, op: &Op) -> Found {
        // SAFETY of all calls: pointers and lengths describe buffers that outlive them; descriptors are open.
        match op {
            Op::Read { slot, length } => {
                let fd = self.fd(*slot)?;
                let mut buffer = vec![0u8; *length];
                // SAFETY: see above.
                let n = check(unsafe { libc::read(fd, buffer.as_mut_ptr().cast(), *length) } as i64)?;
                buffer.truncate(n as usize);
                Ok((n, vec![digest(&buffer)]))
            }
            Op::Write { slot, length, seed } => {
                let (fd, bytes) = (self.fd(*slot)?, contents(*seed, *length));
                // SAFETY: see above.
                plain(check(unsafe { libc::write(fd, bytes.as_ptr().cast(), *length) } as i64))
            }
            Op::Pread { slot, offset, length } => {
                let bytes = sys::pread(self.fd(*slot)?, *offset, *length)?;
                Ok((bytes.len() as i64, vec![digest(&bytes)]))
            }
            Op::Pwrite {
                slot,
                offset,
                length,
                seed,
            } => {
                let (fd, bytes) = (self.fd(*slot)?, contents(*seed, *length));
                // SAFETY: see above.
                plain(check(
                    unsafe { libc::pwrite(fd, bytes.as_ptr().cast(), *length, *offset) } as i64,
                ))
            }
            Op::Seek { slot, offset, whence } => {
                let fd = self.fd(*slot)?;
                // Positions in a directory are the file system's own.
                if sys::stat_fd(fd)?.st_mode & libc::S_IFMT == libc::S_IFDIR {
                    return Err(libc::EISDIR);
                }
                // SAFETY: no pointer is passed.
                plain(check(unsafe { libc::lseek(fd, *offset, *whence) }))
            }
            Op::Ftruncate { slot, length } => {
                // SAFETY: no pointer is passed.
                plain(check(unsafe { libc::ftruncate(self.fd(*slot)?, *length) }))
            }
            Op::Fallocate {
                slot,
                mode,
                offset,
                length,
            } => {
                // SAFETY: no pointer is passed.
                plain(check(unsafe {
                    libc::fallocate(self.fd(*slot)?, *mode, *offset, *length)
                }))
            }
            Op::Fsync { slot, data_only } => {
                let fd = self.fd(*slot)?;
                // SAFETY: no pointer is passed.
                plain(check(unsafe {
                    if *data_only {
                        libc::fdatasync(fd)
                    } else {
                        libc::fsync(fd)
                    }
                }))
            }
            Op::CopyRange {
                from,
                to,
                from_offset,
                to_offset,
                length,
            } => {
                let (from, to) = (self.fd(*from)?, self.fd(*to)?);
                let (mut at, mut target, mut done) = (*from_offset, *to_offset, 0);
                // The kernel may copy less at a time than asked for; what counts is where it ends.
                while done < *length {
                    // SAFETY: the offsets outlive the call.
                    let n = unsafe { libc::copy_file_range(from, &raw mut at, to, &raw mut target, *length - done, 0) };
                    match check(n as i64)? {
                        0 => break,
                        n => done += n as usize,
                    }
                }
                plain(Ok(done as i64))
            }
            _ => Err(libc::ENOSYS),
        }
    }

    /// Walks a file by SEEK_DATA and SEEK_HOLE. Where holes are is the file system's business; that they are zeros is not.
    fn holes(&self, slot: usize) -> Found {
        let fd = self.fd(slot)?;
        let size = sys::stat_fd(fd)?.st_size;
        // What cannot be read cannot be looked at.
        sys::pread(fd, 0, 1)?;
        // SAFETY: no pointer is passed.
        let seek = |from: i64, whence| check(unsafe { libc::lseek(fd, from, whence) });
        let position = seek(0, libc::SEEK_CUR)?;
        let past = (seek(size, libc::SEEK_DATA), seek(size, libc::SEEK_HOLE));
        let mut verdict = format!("at the end: {past:?}");
        let mut at = 0;
        while at < size.min(WALK_BYTES_MAX) {
            let data = match seek(at, libc::SEEK_DATA) {
                Ok(data) => data,
                Err(libc::ENXIO) => size,
                Err(errno) => return Err(errno),
            };
            let hole = sys::pread(fd, at, (data - at).clamp(0, WALK_BYTES_MAX) as usize)?;
            if data < at || hole.iter().any(|byte| *byte != 0) {
                verdict += &format!("; said to be a hole from {at} to {data}, and is not");
            }
            if data >= size {
                break;
            }
            let end = seek(data, libc::SEEK_HOLE)?;
            if end <= data || end > size {
                verdict += &format!("; data from {data} ends at {end}");
                break;
            }
            at = end;
        }
        seek(position, libc::SEEK_SET)?;
        Ok((size, vec![verdict]))
    }

    /// Everything beneath the folder: one line per name, sorted.
    fn tree(&mut self) -> Answer {
        let mut lines = Vec::new();
        let result = walk(self.dir(), "", &mut lines);
        lines.sort();
        answer(result.map(|()| (lines.len() as i64, lines)))
    }
}

fn walk(dir: RawFd, path: &str, lines: &mut Vec<String>) -> Outcome<()> {
    for entry in sys::list(dir, path)? {
        let name = entry.rsplit_once(" (").map_or(entry.as_str(), |(name, _)| name);
        let inner = if path.is_empty() {
            name.to_owned()
        } else {
            format!("{path}/{name}")
        };
        let meta = sys::stat_at(dir, &inner)?;
        let mut line = format!("{inner}: {}", sys::describe(&meta));
        match meta.st_mode & libc::S_IFMT {
            libc::S_IFREG => line += &format!(", {}", whole(dir, &inner)?),
            libc::S_IFLNK => line += &format!(" -> {}", readlink(dir, &inner)?),
            libc::S_IFDIR => walk(dir, &inner, lines)?,
            _ => {}
        }
        for name in sys::xattr_names(dir, &inner).or_else(|errno| match errno {
            libc::EOPNOTSUPP => Ok(Vec::new()),
            other => Err(other),
        })? {
            line += &format!(", {name}={}", digest(&sys::xattr(dir, &inner, &name)?));
        }
        lines.push(line);
    }
    Ok(())
}

fn whole(dir: RawFd, path: &str) -> Outcome<String> {
    // SAFETY: the path is NUL-terminated; the descriptor is new and nobody else's.
    let file = unsafe {
        let fd = check(libc::openat(dir, c(path).as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC))?;
        OwnedFd::from_raw_fd(fd as RawFd)
    };
    let size = sys::stat_fd(file.as_raw_fd())?.st_size;
    Ok(digest(&sys::pread(file.as_raw_fd(), 0, size as usize + 1)?))
}

fn readlink(dir: RawFd, path: &str) -> Outcome<String> {
    let mut buffer = vec![0u8; libc::PATH_MAX as usize];
    // SAFETY: the path is NUL-terminated; pointer and length describe `buffer`.
    let n = check(unsafe { libc::readlinkat(dir, c(path).as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) } as i64)?;
    buffer.truncate(n as usize);
    Ok(String::from_utf8_lossy(&buffer).into_owned())
}

fn by_name(dir: RawFd, op: &Op) -> Found {
    // SAFETY: for all calls: paths are NUL-terminated and live until the end of their statement.
    let done = unsafe {
        match op {
            Op::Truncate { path, length } => libc::truncate(sys::proc_path(dir, path).as_ptr(), *length),
            Op::Mkdir { path, mode } => libc::mkdirat(dir, c(path).as_ptr(), *mode),
            Op::Rmdir { path } => libc::unlinkat(dir, c(path).as_ptr(), libc::AT_REMOVEDIR),
            Op::Unlink { path } => libc::unlinkat(dir, c(path).as_ptr(), 0),
            Op::Rename { from, to, flags } => libc::renameat2(dir, c(from).as_ptr(), dir, c(to).as_ptr(), *flags),
            Op::Link { from, to } => libc::linkat(dir, c(from).as_ptr(), dir, c(to).as_ptr(), 0),
            Op::Symlink { target, path } => libc::symlinkat(c(target).as_ptr(), dir, c(path).as_ptr()),
            Op::Mkfifo { path, mode } => libc::mkfifoat(dir, c(path).as_ptr(), *mode),
            Op::Access { path, mode } => libc::faccessat(dir, c(path).as_ptr(), *mode, 0),
            Op::Chmod { path, mode } => libc::fchmodat(dir, c(path).as_ptr(), *mode, 0),
            Op::Chown { path, uid, gid } => libc::fchownat(
                dir,
                c(path).as_ptr(),
                *uid as u32,
                *gid as u32,
                libc::AT_SYMLINK_NOFOLLOW,
            ),
            Op::Readlink { path } => return Ok((0, vec![readlink(dir, path)?])),
            Op::Utimens {
                path,
                atime_ns,
                mtime_ns,
            } => return utimens(dir, path, *atime_ns, *mtime_ns),
            _ => return Err(libc::ENOSYS),
        }
    };
    plain(check(done))
}

fn utimens(dir: RawFd, path: &str, atime_ns: Option<i64>, mtime_ns: Option<i64>) -> Found {
    let time = |ns: Option<i64>| libc::timespec {
        tv_sec: ns.map_or(0, |ns| ns.div_euclid(1_000_000_000)),
        tv_nsec: ns.map_or(libc::UTIME_OMIT, |ns| ns.rem_euclid(1_000_000_000)),
    };
    let times = [time(atime_ns), time(mtime_ns)];
    // SAFETY: the path is NUL-terminated and the two times outlive the call.
    check(unsafe { libc::utimensat(dir, c(path).as_ptr(), times.as_ptr(), libc::AT_SYMLINK_NOFOLLOW) })?;
    let meta = sys::stat_at(dir, path)?;
    let mut found = Vec::new();
    if atime_ns.is_some() {
        found.push(format!("atime {}.{:09}", meta.st_atime, meta.st_atime_nsec));
    }
    if mtime_ns.is_some() {
        found.push(format!("mtime {}.{:09}", meta.st_mtime, meta.st_mtime_nsec));
    }
    Ok((0, found))
}

fn xattr_call(dir: RawFd, op: &Op) -> Found {
    match op {
        Op::SetXattr {
            path,
            name,
            length,
            seed,
            flags,
        } => {
            let (path, name, value) = (sys::proc_path(dir, path), c(name), contents(*seed, *length));
            // SAFETY: path and name are NUL-terminated; pointer and length describe `value`.
            plain(check(unsafe {
                libc::lsetxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), *flags)
            }))
        }
        Op::GetXattr { path, name } => {
            let value = sys::xattr(dir, path, name)?;
            Ok((value.len() as i64, vec![digest(&value)]))
        }
        Op::ListXattr { path } => Ok((0, sys::xattr_names(dir, path)?)),
        Op::RemoveXattr { path, name } => {
            let (path, name) = (sys::proc_path(dir, path), c(name));
            // SAFETY: path and name are NUL-terminated.
            plain(check(unsafe { libc::lremovexattr(path.as_ptr(), name.as_ptr()) }))
        }
        _ => Err(libc::ENOSYS),
    }
}
