//! Answers as the kernel reads them.

use super::*;
use crate::transport::operations::Node;

fn bytes(mut reply: Reply) -> Vec<u8> {
    reply.parts(77).iter().flat_map(|part| part.to_vec()).collect()
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn sample() -> Entry {
    let stat = Stat {
        node: 5,
        size: 6,
        blocks: 7,
        atime_ns: -1,
        mtime_ns: 2_000_000_003,
        ctime_ns: 4_000_000_005,
        btime_ns: 8_000_000_009,
        mode: libc::S_IFCHR | 0o644,
        nlink: 2,
        uid: 1000,
        gid: 100,
        // 4:65 as the kernel encodes it.
        rdev: 0x441,
        blksize: 4096,
    };
    Entry {
        node: Node(5),
        attributes: Attributes {
            stat,
            ttl: Duration::from_millis(1500),
        },
        ttl: Duration::from_millis(2250),
    }
}

#[test]
fn headers() {
    let empty = bytes(Reply::empty());
    assert_eq!((word(&empty, 0), word(&empty, 4), long(&empty, 8)), (16, 0, 77));
    let error = bytes(Reply::error(Errno(libc::ENOENT)));
    assert_eq!(word(&error, 4).cast_signed(), -libc::ENOENT);
    for odd in [0, -5, 512, i32::MAX, i32::MIN] {
        let error = bytes(Reply::error(Errno(odd)));
        assert_eq!(word(&error, 4).cast_signed(), -libc::EIO, "{odd}");
    }
    let data = bytes(Reply::data(Bytes::from_static(b"hello")));
    assert_eq!((word(&data, 0), &data[16..]), (21, &b"hello"[..]));
}

#[test]
fn an_entry_and_how_it_was_opened() {
    let out = bytes(Reply::created(&sample(), Fh(9), OpenFlags::KEEP_CACHE, Some(3)));
    assert_eq!(out.len(), 16 + 128 + 16);
    let entry = &out[16..];
    assert_eq!((long(entry, 0), long(entry, 8)), (5, 0), "node and generation");
    assert_eq!(
        (long(entry, 16), long(entry, 24)),
        (2, 1),
        "seconds of name and attributes"
    );
    assert_eq!((word(entry, 32), word(entry, 36)), (250_000_000, 500_000_000));
    let attr = &entry[40..];
    assert_eq!((long(attr, 0), long(attr, 8), long(attr, 16)), (5, 6, 7));
    assert_eq!(long(attr, 24).cast_signed(), -1, "before 1970");
    assert_eq!((long(attr, 32), long(attr, 40)), (2, 4));
    assert_eq!((word(attr, 48), word(attr, 52), word(attr, 56)), (999_999_999, 3, 5));
    assert_eq!(word(attr, 60), libc::S_IFCHR | 0o644);
    assert_eq!((word(attr, 64), word(attr, 68), word(attr, 72)), (2, 1000, 100));
    assert_eq!((word(attr, 76), word(attr, 80)), (0x441, 4096));
    let open = &out[16 + 128..];
    assert_eq!((long(open, 0), word(open, 8), word(open, 12)), (9, 0b10 | 1 << 7, 3));
}

#[test]
fn statx_has_the_birth_time() {
    let out = bytes(Reply::statx(&sample().attributes));
    assert_eq!(out.len(), 16 + 288);
    let (head, stat) = out[16..].split_at(32);
    assert_eq!((long(head, 0), word(head, 8)), (1, 500_000_000));
    assert_eq!(word(stat, 0) & libc::STATX_BTIME, libc::STATX_BTIME);
    assert_eq!((word(stat, 16), word(stat, 20), word(stat, 24)), (2, 1000, 100));
    assert_eq!(
        u32::from(u16::from_ne_bytes([stat[28], stat[29]])),
        libc::S_IFCHR | 0o644
    );
    assert_eq!((long(stat, 32), long(stat, 40), long(stat, 48)), (5, 6, 7));
    assert_eq!(
        (long(stat, 64).cast_signed(), word(stat, 72)),
        (-1, 999_999_999),
        "atime"
    );
    assert_eq!((long(stat, 80), word(stat, 88)), (8, 9), "birth");
    assert_eq!((long(stat, 96), word(stat, 104)), (4, 5), "ctime");
    assert_eq!((long(stat, 112), word(stat, 120)), (2, 3), "mtime");
    assert_eq!((word(stat, 128), word(stat, 132)), (4, 65), "device");
}

#[test]
fn listings_fill_their_buffer_and_no_more() {
    let entry = sample();
    for (plus, each) in [(false, 24 + 8), (true, 128 + 24 + 8)] {
        let mut listing = DirBuffer::new(each * 2 + 10, plus);
        let add = |listing: &mut DirBuffer, name: &[u8], is_dot| {
            listing.add(&Listed {
                name,
                next: 42,
                entry: &entry,
                is_dot,
            })
        };
        assert!(add(&mut listing, b".", true));
        assert!(add(&mut listing, b"file.txt", false));
        assert!(!add(&mut listing, b"x", false));
        let out = bytes(listing.into_reply());
        assert_eq!(out.len(), 16 + 2 * each);
        let (first, second) = out[16..].split_at(each);
        if plus {
            assert_eq!((long(first, 0), long(second, 0)), (0, 5), "a dot is no look-up");
        }
        let dirent = &second[each - 32..];
        assert_eq!((long(dirent, 0), long(dirent, 8)), (5, 42));
        assert_eq!((word(dirent, 16), word(dirent, 20)), (8, libc::S_IFCHR >> 12));
        assert_eq!(&dirent[24..], b"file.txt");
    }
    assert!(!DirBuffer::new(0, false).add(&Listed {
        name: b"x",
        next: 1,
        entry: &entry,
        is_dot: false,
    }));
}

#[test]
fn small_answers() {
    let lock = Lock {
        start: 1,
        end: 2,
        kind: LockKind::Unlock,
        pid: 3,
    };
    let out = bytes(Reply::lock(&lock));
    assert_eq!(out.len(), 16 + 24);
    assert_eq!(
        (long(&out, 16), long(&out, 24), word(&out, 32), word(&out, 36)),
        (1, 2, 2, 3)
    );
    let capacity = Capacity {
        blocks: 10,
        free: 5,
        available: 4,
        block_bytes: 4096,
        files: 3,
        files_free: 2,
        name_bytes_max: 255,
    };
    let out = bytes(Reply::capacity(&capacity));
    assert_eq!(out.len(), 16 + 80);
    assert_eq!((long(&out, 16), long(&out, 24), long(&out, 32)), (10, 5, 4));
    assert_eq!((word(&out, 56), word(&out, 60), word(&out, 64)), (4096, 255, 4096));
    let out = bytes(Reply::attributes(&sample().attributes));
    assert_eq!((out.len(), long(&out, 16 + 16)), (16 + 104, Node(5).0));
    assert_eq!(bytes(Reply::size(3)).len(), 24);
    assert_eq!(bytes(Reply::offset(3)).len(), 24);
}
