//! Answers, to bytes.

use super::wire::{self, OUT_HEADER_BYTES};
use crate::transport::operations::{
    Attributes, Capacity, Entry, Errno, Fh, Listed, Listing, Lock, LockKind, OpenFlags, Stat,
};
use bytes::{Bytes, BytesMut};
use std::io::IoSlice;
use std::time::Duration;

/// Longest fixed part of an answer: the header, an entry, and how it was opened.
const HEAD_BYTES_MAX: usize = OUT_HEADER_BYTES + ENTRY_BYTES + OPEN_BYTES;
const ENTRY_BYTES: usize = 128;
const OPEN_BYTES: usize = 16;
const STAT_BYTES: usize = 88;
const STATX_BYTES: usize = 32 + 256;
/// Fields of an entry in a listing, before its name.
const DIRENT_BYTES: usize = 24;

/// An answer, but for the request's number.
#[derive(Debug)]
pub struct Reply {
    head: Fields<HEAD_BYTES_MAX>,
    error: i32,
    data: Bytes,
}

impl Reply {
    /// Done, with nothing to say.
    pub fn empty() -> Reply {
        let mut head = Fields::default();
        head.skip(OUT_HEADER_BYTES);
        Reply {
            head,
            error: 0,
            data: Bytes::new(),
        }
    }

    /// Failed.
    pub fn error(errno: Errno) -> Reply {
        Reply {
            // The kernel takes no others; 0 would be success.
            error: if (1..512).contains(&errno.0) {
                -errno.0
            } else {
                -libc::EIO
            },
            ..Reply::empty()
        }
    }

    /// Bytes.
    pub fn data(data: Bytes) -> Reply {
        Reply { data, ..Reply::empty() }
    }

    /// Attributes.
    pub fn attributes(attributes: &Attributes) -> Reply {
        let (seconds, ns) = seconds(attributes.ttl);
        Reply::empty().u64(seconds).u32(ns).u32(0).stat(&attributes.stat)
    }

    /// A name that was found or made.
    pub fn entry(entry: &Entry) -> Reply {
        Reply::empty().with_entry(entry)
    }

    /// A name that was made, and opened.
    pub fn created(entry: &Entry, fh: Fh, flags: OpenFlags, backing: Option<i32>) -> Reply {
        Reply::entry(entry).with_open(fh, flags, backing)
    }

    /// An open file.
    pub fn opened(fh: Fh, flags: OpenFlags, backing: Option<i32>) -> Reply {
        Reply::empty().with_open(fh, flags, backing)
    }

    /// How many bytes were written, or an attribute has.
    pub fn size(size: u32) -> Reply {
        Reply::empty().u32(size).u32(0)
    }

    /// An offset, or a long count.
    pub fn offset(offset: u64) -> Reply {
        Reply::empty().u64(offset)
    }

    /// A lock that is in the way.
    pub fn lock(lock: &Lock) -> Reply {
        let kind = match lock.kind {
            LockKind::Read => libc::F_RDLCK,
            LockKind::Write => libc::F_WRLCK,
            LockKind::Unlock => libc::F_UNLCK,
        };
        Reply::empty()
            .u64(lock.start)
            .u64(lock.end)
            .u32(kind.cast_unsigned())
            .u32(lock.pid)
    }

    /// Capacity.
    pub fn capacity(capacity: &Capacity) -> Reply {
        let reply = Reply::empty()
            .u64(capacity.blocks)
            .u64(capacity.free)
            .u64(capacity.available);
        let reply = reply.u64(capacity.files).u64(capacity.files_free);
        let reply = reply.u32(capacity.block_bytes).u32(capacity.name_bytes_max);
        let mut reply = reply.u32(capacity.block_bytes);
        // Padding and spare words.
        reply.head.skip(7 * 4);
        reply
    }

    /// Attributes with the birth time.
    pub fn statx(attributes: &Attributes) -> Reply {
        let stat = &attributes.stat;
        let (ttl_seconds, ttl_ns) = seconds(attributes.ttl);
        let mut out = Fields::<STATX_BYTES>::default();
        out.u64(ttl_seconds);
        out.u32(ttl_ns);
        // Flags, and two spare words.
        out.skip(4 + 16);
        out.u32(libc::STATX_BASIC_STATS | libc::STATX_BTIME);
        out.u32(stat.blksize);
        // Attributes: none of those that statx(2) knows.
        out.u64(0);
        out.u32s([stat.nlink, stat.uid, stat.gid]);
        out.put(&(stat.mode as u16).to_ne_bytes());
        out.skip(2);
        out.u64s([stat.node, stat.size, stat.blocks, 0]);
        for time_ns in [stat.atime_ns, stat.btime_ns, stat.ctime_ns, stat.mtime_ns] {
            let (seconds, ns) = split(time_ns);
            out.u64(seconds);
            out.u32(ns);
            out.skip(4);
        }
        // The kernel's 32-bit encoding of a device number: 12 bits of major between 8 and 12 of minor.
        out.u32((stat.rdev >> 8) & 0xfff);
        out.u32((stat.rdev & 0xff) | ((stat.rdev >> 12) & 0xfff00));
        Reply::data(Bytes::copy_from_slice(&out.bytes))
    }

    fn u32(mut self, value: u32) -> Reply {
        self.head.u32(value);
        self
    }

    fn u64(mut self, value: u64) -> Reply {
        self.head.u64(value);
        self
    }

    fn stat(mut self, stat: &Stat) -> Reply {
        self.head.put(&stat_bytes(stat));
        self
    }

    fn with_entry(mut self, entry: &Entry) -> Reply {
        self.head.put(&entry_bytes(entry, entry.node.0));
        self
    }

    fn with_open(self, fh: Fh, flags: OpenFlags, backing: Option<i32>) -> Reply {
        let flags = flags.0 | if backing.is_some() { wire::FOPEN_PASSTHROUGH } else { 0 };
        self.u64(fh.0)
            .u32(flags)
            .u32(backing.unwrap_or_default().cast_unsigned())
    }

    /// The parts to write, as the answer to `unique`.
    pub fn parts(&mut self, unique: u64) -> [IoSlice<'_>; 2] {
        let used = self.head.length;
        let length = used + self.data.len();
        // Answers are far shorter than 4 GiB: the kernel says how much it wants.
        let header = header(u32::try_from(length).unwrap_or(u32::MAX), self.error, unique);
        self.head.bytes[..OUT_HEADER_BYTES].copy_from_slice(&header);
        [IoSlice::new(&self.head.bytes[..used]), IoSlice::new(&self.data)]
    }
}

/// The header of an answer, or of what the kernel is told unasked.
pub fn header(length: u32, error: i32, unique: u64) -> [u8; OUT_HEADER_BYTES] {
    let mut header = [0; OUT_HEADER_BYTES];
    header[..4].copy_from_slice(&length.to_ne_bytes());
    header[4..8].copy_from_slice(&error.to_ne_bytes());
    header[8..].copy_from_slice(&unique.to_ne_bytes());
    header
}

fn seconds(duration: Duration) -> (u64, u32) {
    (duration.as_secs(), duration.subsec_nanos())
}

/// Seconds, as the kernel has them in an unsigned word, and nanoseconds after them; also before 1970.
fn split(time_ns: i64) -> (u64, u32) {
    const SECOND: i64 = 1_000_000_000;
    (
        time_ns.div_euclid(SECOND).cast_unsigned(),
        time_ns.rem_euclid(SECOND) as u32,
    )
}

/// Writes fields one after another, in this machine's order as the kernel reads them.
#[derive(Debug)]
struct Fields<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> Default for Fields<N> {
    fn default() -> Self {
        Fields {
            bytes: [0; N],
            length: 0,
        }
    }
}

impl<const N: usize> Fields<N> {
    fn put(&mut self, bytes: &[u8]) {
        let end = self.length + bytes.len();
        self.bytes[self.length..end].copy_from_slice(bytes);
        self.length = end;
    }

    fn u32(&mut self, value: u32) {
        self.put(&value.to_ne_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.put(&value.to_ne_bytes());
    }

    fn u32s<const COUNT: usize>(&mut self, values: [u32; COUNT]) {
        values.into_iter().for_each(|value| self.u32(value));
    }

    fn u64s<const COUNT: usize>(&mut self, values: [u64; COUNT]) {
        values.into_iter().for_each(|value| self.u64(value));
    }

    /// Leaves zeros.
    fn skip(&mut self, bytes: usize) {
        self.length += bytes;
    }
}

fn stat_bytes(stat: &Stat) -> [u8; STAT_BYTES] {
    let mut out = Fields::default();
    let [atime, mtime, ctime] = [stat.atime_ns, stat.mtime_ns, stat.ctime_ns].map(split);
    out.u64s([stat.node, stat.size, stat.blocks, atime.0, mtime.0, ctime.0]);
    out.u32s([atime.1, mtime.1, ctime.1]);
    out.u32s([stat.mode, stat.nlink, stat.uid, stat.gid, stat.rdev, stat.blksize]);
    out.bytes
}

/// An entry; node 0 is one that the kernel does not count.
fn entry_bytes(entry: &Entry, node: u64) -> [u8; ENTRY_BYTES] {
    let mut out = Fields::default();
    let (name, attributes) = (seconds(entry.ttl), seconds(entry.attributes.ttl));
    // Node ids are never used again: one generation.
    out.u64s([node, 0, name.0, attributes.0]);
    out.u32s([name.1, attributes.1]);
    out.put(&stat_bytes(&entry.attributes.stat));
    out.bytes
}

/// A listing of at most so many bytes.
#[derive(Debug)]
pub struct DirBuffer {
    out: BytesMut,
    bytes_max: usize,
    plus: bool,
}

impl DirBuffer {
    /// Empty.
    pub fn new(bytes_max: usize, plus: bool) -> DirBuffer {
        DirBuffer {
            out: BytesMut::new(),
            bytes_max,
            plus,
        }
    }

    /// As an answer.
    pub fn into_reply(self) -> Reply {
        Reply::data(self.out.freeze())
    }
}

impl Listing for DirBuffer {
    fn add(&mut self, listed: &Listed<'_>) -> bool {
        let head_bytes = if self.plus {
            ENTRY_BYTES + DIRENT_BYTES
        } else {
            DIRENT_BYTES
        };
        let bytes = (head_bytes + listed.name.len()).next_multiple_of(8);
        if self.out.len() + bytes > self.bytes_max {
            return false;
        }
        if self.out.is_empty() {
            self.out.reserve(self.bytes_max);
        }
        let start = self.out.len();
        let stat = &listed.entry.attributes.stat;
        if self.plus {
            let node = if listed.is_dot { 0 } else { listed.entry.node.0 };
            self.out.extend_from_slice(&entry_bytes(listed.entry, node));
        }
        self.out.extend_from_slice(&stat.node.to_ne_bytes());
        self.out.extend_from_slice(&listed.next.to_ne_bytes());
        // Names have 255 bytes at most.
        self.out.extend_from_slice(&(listed.name.len() as u32).to_ne_bytes());
        self.out.extend_from_slice(&(stat.mode >> 12).to_ne_bytes());
        self.out.extend_from_slice(listed.name);
        self.out.resize(start + bytes, 0);
        true
    }

    fn plus(&self) -> bool {
        self.plus
    }
}

#[cfg(test)]
#[path = "encode_test.rs"]
mod tests;
