//! Requests as the kernel writes them, and bytes that it never would.

use super::*;
use proptest::prelude::*;

/// A request of the kernel's, field by field.
fn request(code: u32, node: u64, fields: &[&[u8]]) -> Vec<u8> {
    let body = fields.concat();
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&((40 + body.len()) as u32).to_ne_bytes());
    bytes.extend_from_slice(&code.to_ne_bytes());
    bytes.extend_from_slice(&77_u64.to_ne_bytes());
    bytes.extend_from_slice(&node.to_ne_bytes());
    for id in [1000_u32, 100, 4242, 0] {
        bytes.extend_from_slice(&id.to_ne_bytes());
    }
    bytes.extend(body);
    bytes
}

fn words<const N: usize>(words: [u32; N]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn longs<const N: usize>(longs: [u64; N]) -> Vec<u8> {
    longs.iter().flat_map(|long| long.to_ne_bytes()).collect()
}

fn refused(bytes: &[u8]) -> Errno {
    match decode(bytes) {
        Err(Garbage::Request { unique: 77, errno }) => errno,
        other => panic!("{other:?}"),
    }
}

#[test]
fn header_and_name() {
    let bytes = request(opcode::LOOKUP, 5, &[b"name\0"]);
    let request = decode(&bytes).unwrap();
    assert_eq!((request.header.unique, request.header.node), (77, Node(5)));
    let by = Asker {
        uid: 1000,
        gid: 100,
        pid: 4242,
    };
    assert_eq!(request.header.by, by);
    assert!(matches!(request.operation, Operation::Lookup { name: b"name" }));
}

#[test]
fn each_field_is_where_the_header_file_says() {
    let bytes = request(opcode::RENAME2, 5, &[&longs([9]), &words([1, 0]), b"old\0new\0"]);
    let Operation::Rename {
        name,
        new_parent,
        new_name,
        flags,
    } = decode(&bytes).unwrap().operation
    else {
        panic!()
    };
    assert_eq!(
        (name, new_parent, new_name, flags),
        (&b"old"[..], Node(9), &b"new"[..], 1)
    );

    let bytes = request(
        opcode::WRITE,
        5,
        &[&longs([3, 4096]), &words([4, 0]), &longs([8]), &words([0, 0]), b"data"],
    );
    let Operation::Write { fh, offset, data } = decode(&bytes).unwrap().operation else {
        panic!()
    };
    assert_eq!((fh, offset, data), (Fh(3), 4096, &b"data"[..]));

    let lock = [longs([3, 8, 10, 19]), words([1, 4242, 1, 0])].concat();
    let bytes = request(opcode::SETLKW, 5, &[&lock]);
    let Operation::Setlk(lock) = decode(&bytes).unwrap().operation else {
        panic!()
    };
    assert!(lock.wait && lock.flock && lock.owner == Owner(8) && lock.node == Node(5));
    assert_eq!((lock.lock.start, lock.lock.end), (10, 19));
    assert_eq!(lock.lock.kind, LockKind::Write);

    let bytes = request(opcode::BATCH_FORGET, 0, &[&words([2, 0]), &longs([5, 1, 6, 2])]);
    let Operation::BatchForget(forgets) = decode(&bytes).unwrap().operation else {
        panic!()
    };
    assert_eq!(forgets.iter().collect::<Vec<_>>(), [(Node(5), 1), (Node(6), 2)]);

    let bytes = request(opcode::RELEASE, 5, &[&longs([3]), &words([0, 2]), &longs([8])]);
    let operation = decode(&bytes).unwrap().operation;
    assert!(matches!(
        operation,
        Operation::Release {
            fh: Fh(3),
            flock: Some(Owner(8))
        }
    ));
}

#[test]
fn attributes_that_are_set() {
    let valid = wire::setattr::MODE | wire::setattr::ATIME | wire::setattr::MTIME | wire::setattr::MTIME_NOW;
    let before_1970 = (-2_i64).cast_unsigned();
    let body = [
        words([valid, 0]),
        longs([3, 99, 0, before_1970, 7, 8]),
        words([500_000_000, 2, 3, 0o640, 0, 1, 2, 0]),
    ]
    .concat();
    let bytes = request(opcode::SETATTR, 5, &[&body]);
    let Operation::Setattr(set) = decode(&bytes).unwrap().operation else {
        panic!()
    };
    assert_eq!(set.mode, Some(0o640));
    assert_eq!((set.uid, set.gid, set.size, set.fh), (None, None, None, None));
    assert_eq!(set.atime, Some(SetTime::At(-1_500_000_000)));
    assert_eq!(set.mtime, Some(SetTime::Now));
}

#[test]
fn the_handshake_of_old_and_new_kernels() {
    let short = request(opcode::INIT, 0, &[&words([7, 31, 4096, u32::MAX])]);
    let Operation::Init(offered) = decode(&short).unwrap().operation else {
        panic!()
    };
    assert_eq!((offered.major, offered.minor), (7, 31));
    assert_eq!(offered.flags >> 32, 0);
    let mut fields = [0; 16];
    fields[..5].copy_from_slice(&[7, 45, 4096, 1 << 30, 1 << 5]);
    let long = request(opcode::INIT, 0, &[&words(fields)]);
    let Operation::Init(offered) = decode(&long).unwrap().operation else {
        panic!()
    };
    assert_eq!(offered.flags, wire::init::INIT_EXT | wire::init::PASSTHROUGH);
}

#[test]
fn what_makes_no_sense_is_refused() {
    assert_eq!(refused(&request(opcode::LOOKUP, 5, &[b"no end"])), Errno::INVAL);
    assert_eq!(refused(&request(opcode::LOOKUP, 5, &[b"\0"])), Errno::INVAL);
    assert_eq!(refused(&request(opcode::LOOKUP, 5, &[])), Errno::INVAL);
    assert_eq!(refused(&request(opcode::SYMLINK, 5, &[b"one\0"])), Errno::INVAL);
    let too_much = [longs([3, 0]), words([9, 0]), longs([0]), words([0, 0])].concat();
    assert_eq!(refused(&request(opcode::WRITE, 5, &[&too_much, b"data"])), Errno::INVAL);
    let forgets = request(opcode::BATCH_FORGET, 0, &[&words([u32::MAX, 0]), &longs([1, 2])]);
    assert_eq!(refused(&forgets), Errno::INVAL);
    let backwards = [longs([3, 8, 19, 10]), words([1, 0, 0, 0])].concat();
    assert_eq!(refused(&request(opcode::SETLK, 5, &[&backwards])), Errno::INVAL);
    for unknown in [0, 7, 19, 37, 40, 48, 50, 54, 4096, u32::MAX] {
        assert_eq!(refused(&request(unknown, 5, &[])), Errno::NOSYS, "{unknown}");
    }
    let mut extended = request(opcode::LOOKUP, 5, &[b"x\0"]);
    extended[36..38].copy_from_slice(&u16::MAX.to_ne_bytes());
    assert_eq!(refused(&extended), Errno::INVAL);
    let mut cut = request(opcode::LOOKUP, 5, &[b"name\0"]);
    cut.pop();
    assert_eq!(
        decode(&cut).unwrap_err(),
        Garbage::Header,
        "the length is not what was read"
    );
    assert_eq!(decode(&[]).unwrap_err(), Garbage::Header);
}

#[test]
fn every_known_request_is_refused_when_it_is_cut() {
    // Longest fixed part, all zeros but for what makes names: no request may read past its end.
    for code in (0..60).filter(|code| is_known(*code)) {
        for length in 0..140 {
            let body = vec![1; length];
            match decode(&request(code, 1, &[&body])) {
                Ok(_) | Err(Garbage::Request { unique: 77, .. }) => {}
                other => panic!("{code} with {length} bytes: {other:?}"),
            }
        }
    }
}

/// Uses all that was decoded, as a session would.
fn look_at(operation: &Operation<'_>) -> usize {
    if let Operation::BatchForget(forgets) = operation {
        return forgets.iter().count();
    }
    format!("{operation:?}").len()
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(request) = decode(&bytes) {
            look_at(&request.operation);
        }
    }

    #[test]
    fn random_bodies_never_panic(code in 0_u32..64, body in proptest::collection::vec(any::<u8>(), 0..300)) {
        match decode(&request(code, 1, &[&body])) {
            Ok(request) => prop_assert!(look_at(&request.operation) < 1 << 20),
            Err(garbage) => prop_assert_ne!(garbage, Garbage::Header),
        }
    }
}
