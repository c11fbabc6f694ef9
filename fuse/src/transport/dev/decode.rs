//! Requests, from bytes. Every length is checked: what is too short or makes no sense ends the request with an error.

use super::wire::{self, opcode};
use crate::transport::operations::{
    Asker, CopyRange, Errno, Fh, Lock, LockKind, LockRequest, Node, Owner, SetAttributes, SetTime,
};

/// What every request begins with.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    /// Names the request; the answer carries it.
    pub unique: u64,
    /// What is asked, as the kernel numbers it.
    pub code: u32,
    /// What it is about.
    pub node: Node,
    /// Who asks.
    pub by: Asker,
}

/// A request.
#[derive(Debug)]
pub struct Request<'a> {
    /// What every request begins with.
    pub header: Header,
    /// What is asked.
    pub operation: Operation<'a>,
}

impl Operation<'_> {
    /// What the access log says of it beside its name and inode: names and ranges.
    pub fn detail(&self) -> String {
        let show = |name: &[u8]| format!("{:?}", String::from_utf8_lossy(name));
        match self {
            Operation::Lookup { name }
            | Operation::Mknod { name, .. }
            | Operation::Mkdir { name, .. }
            | Operation::Unlink { name }
            | Operation::Rmdir { name }
            | Operation::Create { name, .. }
            | Operation::Setxattr { name, .. }
            | Operation::Getxattr { name, .. }
            | Operation::Removexattr { name } => format!(" name={}", show(name)),
            Operation::Symlink { name, target } => format!(" name={} target={}", show(name), show(target)),
            Operation::Rename {
                name,
                new_parent,
                new_name,
                ..
            } => format!(" name={} to={} new_name={}", show(name), new_parent.0, show(new_name)),
            Operation::Link { node, name } => format!(" of={} name={}", node.0, show(name)),
            Operation::Read { offset, length, .. } => format!(" offset={offset} length={length}"),
            Operation::Write { offset, data, .. } => format!(" offset={offset} length={}", data.len()),
            _ => String::new(),
        }
    }
}

/// What is asked, with what is given.
#[derive(Debug)]
#[allow(missing_docs, reason = "the operations trait says what each means")]
pub enum Operation<'a> {
    Init(InitIn),
    Lookup {
        name: &'a [u8],
    },
    Forget {
        lookups: u64,
    },
    BatchForget(Forgets<'a>),
    Getattr {
        fh: Option<Fh>,
    },
    Statx {
        fh: Option<Fh>,
    },
    Setattr(SetAttributes),
    Readlink,
    Symlink {
        name: &'a [u8],
        target: &'a [u8],
    },
    Mknod {
        name: &'a [u8],
        mode: u32,
        umask: u32,
        rdev: u32,
    },
    Mkdir {
        name: &'a [u8],
        mode: u32,
        umask: u32,
    },
    Unlink {
        name: &'a [u8],
    },
    Rmdir {
        name: &'a [u8],
    },
    Rename {
        name: &'a [u8],
        new_parent: Node,
        new_name: &'a [u8],
        flags: u32,
    },
    Link {
        node: Node,
        name: &'a [u8],
    },
    Open {
        flags: i32,
    },
    Create {
        name: &'a [u8],
        mode: u32,
        umask: u32,
        flags: i32,
    },
    Tmpfile {
        mode: u32,
        umask: u32,
        flags: i32,
    },
    Read {
        fh: Fh,
        offset: u64,
        length: u32,
    },
    Write {
        fh: Fh,
        offset: u64,
        data: &'a [u8],
    },
    Flush {
        fh: Fh,
        owner: Owner,
    },
    Release {
        fh: Fh,
        flock: Option<Owner>,
    },
    Fsync {
        fh: Fh,
        data_only: bool,
    },
    Fallocate {
        fh: Fh,
        offset: u64,
        length: u64,
        mode: i32,
    },
    Lseek {
        fh: Fh,
        offset: i64,
        whence: i32,
    },
    /// `wide`: the answer has 64 bits.
    CopyFileRange {
        range: CopyRange,
        wide: bool,
    },
    Opendir,
    Readdir {
        fh: Fh,
        cookie: u64,
        bytes_max: u32,
        plus: bool,
    },
    Releasedir {
        fh: Fh,
    },
    Fsyncdir {
        fh: Fh,
    },
    Statfs,
    Setxattr {
        name: &'a [u8],
        value: &'a [u8],
        flags: i32,
    },
    Getxattr {
        name: &'a [u8],
        size: u32,
    },
    Listxattr {
        size: u32,
    },
    Removexattr {
        name: &'a [u8],
    },
    Access {
        mask: u32,
    },
    Getlk(LockRequest),
    Setlk(LockRequest),
    Interrupt {
        unique: u64,
    },
    Ioctl,
    /// The kernel wants no answer to this.
    NotifyReply,
    Destroy,
}

/// The kernel's side of the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "as the kernel names them")]
pub struct InitIn {
    pub major: u32,
    pub minor: u32,
    pub max_readahead: u32,
    /// Both words.
    pub flags: u64,
}

/// Look-ups that are given back, by node.
#[derive(Clone, Copy, Debug)]
pub struct Forgets<'a>(&'a [u8]);

impl Operation<'_> {
    /// Whether a close that came in earlier may be in its way: what asks for a lock without waiting for it, and what cuts a file,
    /// which a program must not run from.
    pub fn minds_closes(&self) -> bool {
        match self {
            Operation::Getlk(_) => true,
            Operation::Setlk(request) => !request.wait && request.lock.kind != LockKind::Unlock,
            Operation::Open { flags } => flags & libc::O_TRUNC != 0,
            _ => false,
        }
    }
}

impl Forgets<'_> {
    /// Node and count.
    pub fn iter(&self) -> impl Iterator<Item = (Node, u64)> + '_ {
        self.0.as_chunks::<16>().0.iter().map(|one| {
            let (node, lookups) = one.split_at(8);
            (Node(number(node)), number(lookups))
        })
    }
}

/// Why bytes are no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Garbage {
    /// There is not even a header: nothing can be answered.
    Header,
    /// This request has to be answered so.
    Request {
        /// Which.
        unique: u64,
        /// How.
        errno: Errno,
    },
}

/// Takes a request apart.
///
/// # Errors
/// For what is no request, or none that we know.
pub fn decode(bytes: &[u8]) -> Result<Request<'_>, Garbage> {
    let mut fields = Fields(bytes);
    let (code, header, extension_bytes) = fields.header(bytes.len()).ok_or(Garbage::Header)?;
    let refuse = |errno| Garbage::Request {
        unique: header.unique,
        errno,
    };
    let Some(length) = fields.0.len().checked_sub(extension_bytes) else {
        return Err(refuse(Errno::INVAL));
    };
    fields.0 = &fields.0[..length];
    if !is_known(code) {
        return Err(refuse(Errno::NOSYS));
    }
    let operation = fields.operation(code, header).ok_or_else(|| refuse(Errno::INVAL))?;
    Ok(Request { header, operation })
}

fn is_known(code: u32) -> bool {
    use opcode::*;
    // bmap, poll, setupmapping, removemapping, syncfs and what comes after us: the kernel helps itself.
    matches!(code, LOOKUP..=SYMLINK | MKNOD..=RELEASE | FSYNC..=INTERRUPT | DESTROY..=IOCTL)
        || matches!(code, NOTIFY_REPLY..=COPY_FILE_RANGE | TMPFILE..=COPY_FILE_RANGE_64)
}

/// The eight bytes of a number, in this machine's order as the kernel writes them.
fn number(bytes: &[u8]) -> u64 {
    bytes.try_into().map(u64::from_ne_bytes).unwrap_or_default()
}

/// What is left of a request.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*field)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_ne_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_ne_bytes)
    }

    fn i32(&mut self) -> Option<i32> {
        self.take().map(i32::from_ne_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_ne_bytes)
    }

    fn fh(&mut self) -> Option<Fh> {
        self.u64().map(Fh)
    }

    /// Text up to a NUL; never empty.
    fn name(&mut self) -> Option<&'a [u8]> {
        let end = self.0.iter().position(|byte| *byte == 0).filter(|end| *end > 0)?;
        let (name, rest) = self.0.split_at(end);
        self.0 = &rest[1..];
        Some(name)
    }

    /// As many bytes as were announced, and no more.
    fn data(&mut self, length: u32) -> Option<&'a [u8]> {
        let data = std::mem::take(&mut self.0);
        (data.len() == usize::try_from(length).ok()?).then_some(data)
    }

    /// Opcode, header and length of the extensions at the end.
    fn header(&mut self, received: usize) -> Option<(u32, Header, usize)> {
        let (length, code) = (self.u32()?, self.u32()?);
        let (unique, node) = (self.u64()?, Node(self.u64()?));
        let (uid, gid, pid) = (self.u32()?, self.u32()?, self.u32()?);
        let (extension_words, _padding) = (self.u16()?, self.u16()?);
        if usize::try_from(length).ok()? != received {
            return None;
        }
        let by = Asker { uid, gid, pid };
        let header = Header { unique, code, node, by };
        Some((code, header, usize::from(extension_words) * 8))
    }

    fn operation(&mut self, code: u32, header: Header) -> Option<Operation<'a>> {
        use opcode::*;
        Some(match code {
            LOOKUP => Operation::Lookup { name: self.name()? },
            FORGET => Operation::Forget { lookups: self.u64()? },
            BATCH_FORGET => self.batch_forget()?,
            GETATTR => Operation::Getattr { fh: self.maybe_fh()? },
            STATX => Operation::Statx { fh: self.maybe_fh()? },
            SETATTR => Operation::Setattr(self.setattr()?),
            READLINK => Operation::Readlink,
            SYMLINK => Operation::Symlink {
                name: self.name()?,
                target: self.name()?,
            },
            MKNOD | MKDIR | UNLINK | RMDIR | RENAME | RENAME2 | LINK => self.change_of_names(code)?,
            OPEN => Operation::Open { flags: self.i32()? },
            CREATE | TMPFILE => self.create(code)?,
            READ | READDIR | READDIRPLUS => self.read(code)?,
            WRITE => self.write()?,
            FLUSH | RELEASE | RELEASEDIR | FSYNC | FSYNCDIR => self.close_or_sync(code)?,
            FALLOCATE | LSEEK | COPY_FILE_RANGE | COPY_FILE_RANGE_64 => self.range(code)?,
            OPENDIR => Operation::Opendir,
            STATFS => Operation::Statfs,
            SETXATTR | GETXATTR | LISTXATTR | REMOVEXATTR => self.xattr(code)?,
            ACCESS => Operation::Access { mask: self.u32()? },
            GETLK => Operation::Getlk(self.lock(header, false)?),
            SETLK => Operation::Setlk(self.lock(header, false)?),
            SETLKW => Operation::Setlk(self.lock(header, true)?),
            INTERRUPT => Operation::Interrupt { unique: self.u64()? },
            INIT => Operation::Init(self.init()?),
            IOCTL => Operation::Ioctl,
            NOTIFY_REPLY => Operation::NotifyReply,
            DESTROY => Operation::Destroy,
            _ => return None,
        })
    }

    fn init(&mut self) -> Option<InitIn> {
        let (major, minor, max_readahead, low) = (self.u32()?, self.u32()?, self.u32()?, self.u32()?);
        // Kernels before 5.17 end here.
        let high = self.u32().unwrap_or_default();
        let extended = u64::from(low) & wire::init::INIT_EXT != 0;
        Some(InitIn {
            major,
            minor,
            max_readahead,
            flags: u64::from(low) | if extended { u64::from(high) << 32 } else { 0 },
        })
    }

    fn batch_forget(&mut self) -> Option<Operation<'a>> {
        let (count, _dummy) = (self.u32()?, self.u32()?);
        let bytes = usize::try_from(count).ok()?.checked_mul(16)?;
        Some(Operation::BatchForget(Forgets(self.0.get(..bytes)?)))
    }

    fn maybe_fh(&mut self) -> Option<Option<Fh>> {
        let (flags, _reserved, fh) = (self.u32()?, self.u32()?, self.fh()?);
        Some((flags & wire::GETATTR_FH != 0).then_some(fh))
    }

    fn setattr(&mut self) -> Option<SetAttributes> {
        use wire::setattr::*;
        let (valid, _padding) = (self.u32()?, self.u32()?);
        let (fh, size, _owner) = (self.fh()?, self.u64()?, self.u64()?);
        let (atime, mtime, ctime) = (self.u64()?, self.u64()?, self.u64()?);
        let (atime_ns, mtime_ns, ctime_ns) = (self.u32()?, self.u32()?, self.u32()?);
        let (mode, _unused) = (self.u32()?, self.u32()?);
        let (uid, gid) = (self.u32()?, self.u32()?);
        let has = |bit: u32| valid & bit != 0;
        let time = |bit, now, seconds, ns| match (has(bit), has(now)) {
            (false, _) => None,
            (true, true) => Some(SetTime::Now),
            (true, false) => Some(SetTime::At(nanoseconds(seconds, ns))),
        };
        Some(SetAttributes {
            mode: has(MODE).then_some(mode),
            uid: has(UID).then_some(uid),
            gid: has(GID).then_some(gid),
            size: has(SIZE).then_some(size),
            atime: time(ATIME, ATIME_NOW, atime, atime_ns),
            mtime: time(MTIME, MTIME_NOW, mtime, mtime_ns),
            ctime_ns: has(CTIME).then(|| nanoseconds(ctime, ctime_ns)),
            fh: has(FH).then_some(fh),
        })
    }

    fn change_of_names(&mut self, code: u32) -> Option<Operation<'a>> {
        Some(match code {
            opcode::MKNOD => {
                let (mode, rdev, umask, _padding) = (self.u32()?, self.u32()?, self.u32()?, self.u32()?);
                let name = self.name()?;
                Operation::Mknod {
                    name,
                    mode,
                    umask,
                    rdev,
                }
            }
            opcode::MKDIR => {
                let (mode, umask) = (self.u32()?, self.u32()?);
                let name = self.name()?;
                Operation::Mkdir { name, mode, umask }
            }
            opcode::UNLINK => Operation::Unlink { name: self.name()? },
            opcode::RMDIR => Operation::Rmdir { name: self.name()? },
            opcode::LINK => Operation::Link {
                node: Node(self.u64()?),
                name: self.name()?,
            },
            _ => {
                let new_parent = Node(self.u64()?);
                let mut flags = 0;
                if code == opcode::RENAME2 {
                    (flags, _) = (self.u32()?, self.u32()?);
                }
                Operation::Rename {
                    new_parent,
                    flags,
                    name: self.name()?,
                    new_name: self.name()?,
                }
            }
        })
    }

    fn create(&mut self, code: u32) -> Option<Operation<'a>> {
        let (flags, mode, umask, _open_flags) = (self.i32()?, self.u32()?, self.u32()?, self.u32()?);
        if code == opcode::TMPFILE {
            return Some(Operation::Tmpfile { mode, umask, flags });
        }
        let name = self.name()?;
        Some(Operation::Create {
            name,
            mode,
            umask,
            flags,
        })
    }

    fn read(&mut self, code: u32) -> Option<Operation<'a>> {
        let (fh, offset, length, _read_flags) = (self.fh()?, self.u64()?, self.u32()?, self.u32()?);
        let (_owner, _flags, _padding) = (self.u64()?, self.u32()?, self.u32()?);
        Some(match code {
            opcode::READ => Operation::Read { fh, offset, length },
            _ => Operation::Readdir {
                fh,
                cookie: offset,
                bytes_max: length,
                plus: code == opcode::READDIRPLUS,
            },
        })
    }

    fn write(&mut self) -> Option<Operation<'a>> {
        let (fh, offset, length, _write_flags) = (self.fh()?, self.u64()?, self.u32()?, self.u32()?);
        let (_owner, _flags, _padding) = (self.u64()?, self.u32()?, self.u32()?);
        let data = self.data(length)?;
        Some(Operation::Write { fh, offset, data })
    }

    fn close_or_sync(&mut self, code: u32) -> Option<Operation<'a>> {
        let fh = self.fh()?;
        let (first, second) = (self.u32()?, self.u32()?);
        Some(match code {
            opcode::FLUSH => {
                let owner = Owner(self.u64()?);
                Operation::Flush { fh, owner }
            }
            opcode::RELEASE => {
                let owner = Owner(self.u64()?);
                let flock = (second & wire::RELEASE_FLOCK_UNLOCK != 0).then_some(owner);
                Operation::Release { fh, flock }
            }
            opcode::RELEASEDIR => Operation::Releasedir { fh },
            opcode::FSYNC => Operation::Fsync {
                fh,
                data_only: first & wire::FSYNC_FDATASYNC != 0,
            },
            _ => Operation::Fsyncdir { fh },
        })
    }

    fn range(&mut self, code: u32) -> Option<Operation<'a>> {
        let (fh, offset) = (self.fh()?, self.u64()?);
        Some(match code {
            opcode::FALLOCATE => {
                let (length, mode) = (self.u64()?, self.i32()?);
                Operation::Fallocate {
                    fh,
                    offset,
                    length,
                    mode,
                }
            }
            opcode::LSEEK => Operation::Lseek {
                fh,
                offset: offset.cast_signed(),
                whence: self.i32()?,
            },
            _ => {
                let (target_node, fh_out, offset_out) = (Node(self.u64()?), self.fh()?, self.u64()?);
                let (length, flags) = (self.u64()?, self.u64()?);
                let range = CopyRange {
                    source: (fh, offset),
                    target: (fh_out, offset_out),
                    target_node,
                    length,
                    flags,
                };
                let wide = code == opcode::COPY_FILE_RANGE_64;
                Operation::CopyFileRange { range, wide }
            }
        })
    }

    fn xattr(&mut self, code: u32) -> Option<Operation<'a>> {
        if code == opcode::REMOVEXATTR {
            return Some(Operation::Removexattr { name: self.name()? });
        }
        let (size, flags) = (self.u32()?, self.i32()?);
        Some(match code {
            opcode::SETXATTR => {
                let name = self.name()?;
                let value = self.data(size)?;
                Operation::Setxattr { name, value, flags }
            }
            opcode::GETXATTR => Operation::Getxattr {
                name: self.name()?,
                size,
            },
            _ => Operation::Listxattr { size },
        })
    }

    fn lock(&mut self, header: Header, wait: bool) -> Option<LockRequest> {
        let (fh, owner) = (self.fh()?, Owner(self.u64()?));
        let (start, end, kind, pid) = (self.u64()?, self.u64()?, self.i32()?, self.u32()?);
        let flags = self.u32()?;
        let kind = match kind {
            libc::F_RDLCK => LockKind::Read,
            libc::F_WRLCK => LockKind::Write,
            libc::F_UNLCK => LockKind::Unlock,
            _ => return None,
        };
        (start <= end).then_some(LockRequest {
            node: header.node,
            fh,
            owner,
            lock: Lock { start, end, kind, pid },
            flock: flags & wire::LK_FLOCK != 0,
            // flock(LOCK_UN) comes as one that waits; an unlock never does.
            wait: wait && kind != LockKind::Unlock,
        })
    }
}

/// The kernel's seconds are signed, in unsigned words.
fn nanoseconds(seconds: u64, ns: u32) -> i64 {
    seconds
        .cast_signed()
        .saturating_mul(1_000_000_000)
        .saturating_add(i64::from(ns))
}

#[cfg(test)]
#[path = "decode_test.rs"]
mod tests;
