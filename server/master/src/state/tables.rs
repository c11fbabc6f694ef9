//! Keys and values: the layout of the store.
//!
//! | byte | table | key after the byte | value |
//! |---|---|---|---|
//! | `i` | inodes | inode | [`Inode`](super::Inode) |
//! | `e` | edges | parent, name | kind, child |
//! | `l` | names beside the stored one | inode, parent, name | nothing |
//! | `x` | extended attributes | inode, name | value |
//! | `m` | mounts | mount | [`MountRecord`](super::MountRecord) |
//! | `n` | intents | intent | [`Intent`](super::Intent) |
//! | `N` | intents by inode (heirs too) | inode, intent | nothing |
//! | `p` | intents by path | mount, path, 0, intent | role, order |
//! | `s` | sessions | session | [`SessionRecord`](super::SessionRecord) |
//! | `o` | open versions by session | session, inode | nothing |
//! | `h` | holders of orphans | inode, session | [`HELD_READ`], [`HELD_WRITE`] |
//! | `H` | orphans by holder | session, inode | nothing |
//! | `d` | tops of detached trees | inode | nothing |
//! | `w` | workers | worker | [`WorkerRecord`](super::WorkerRecord) |
//! | `r` | retry cache | session, op id modulo [`RETRIES_PER_SESSION`] | answer |
//! | `R` | retry cache of clients that tell their lowest op id | session, op id; session, 0 | answer; the lowest id there may be |
//! | `u` | changes given up | intent | [`GivenUp`](super::GivenUp) |
//! | `c` | counters | | [`Counters`](super::Counters) |
//! | `z` | journal position | | opaque |
//!
//! Numbers in keys are big-endian. Every value starts with a format byte. Format 1: the first.

use alluxio_proto::types::FileKind;
use alluxio_proto::{InodeId, IntentId, MountId, SessionId, WorkerId};
use bytes::{BufMut, Bytes, BytesMut};
use std::io;

use super::records::Edge;

/// Format byte in front of every value.
pub(super) const FORMAT: u8 = 1;

/// Answers remembered per session of clients of before, which do not tell what they still wait for.
pub const RETRIES_PER_SESSION: u64 = 256;

pub(super) const INODES: u8 = b'i';
pub(super) const EDGES: u8 = b'e';
pub(super) const LINKS: u8 = b'l';
pub(super) const XATTRS: u8 = b'x';
pub(super) const MOUNTS: u8 = b'm';
pub(super) const INTENTS: u8 = b'n';
pub(super) const INTENTS_BY_INODE: u8 = b'N';
pub(super) const INTENTS_BY_PATH: u8 = b'p';
pub(super) const SESSIONS: u8 = b's';
pub(super) const SESSION_OPENS: u8 = b'o';
pub(super) const HOLDERS: u8 = b'h';
pub(super) const HELD: u8 = b'H';
pub(super) const DETACHED: u8 = b'd';
pub(super) const WORKERS: u8 = b'w';
pub(super) const RETRIES: u8 = b'r';
pub(super) const ANSWERS: u8 = b'R';
pub(super) const GIVEN_UP: u8 = b'u';
pub(super) const COUNTERS: u8 = b'c';
pub(super) const POSITION: u8 = b'z';

fn key(table: u8, parts: &[&[u8]]) -> Bytes {
    let mut key = BytesMut::with_capacity(1 + parts.iter().map(|part| part.len()).sum::<usize>());
    key.put_u8(table);
    for part in parts {
        key.put_slice(part);
    }
    key.freeze()
}

pub(super) fn single(table: u8) -> Bytes {
    key(table, &[])
}
pub(super) fn inode(id: InodeId) -> Bytes {
    key(INODES, &[&id.to_key()])
}
pub(super) fn edge(parent: InodeId, name: &[u8]) -> Bytes {
    key(EDGES, &[&parent.to_key(), name])
}
pub(super) fn link(inode: InodeId, parent: InodeId, name: &[u8]) -> Bytes {
    key(LINKS, &[&inode.to_key(), &parent.to_key(), name])
}
/// Inode, directory and name in the key of a link.
pub(super) fn link_parts(key: &Bytes) -> io::Result<(InodeId, InodeId, Bytes)> {
    if key.len() < 17 {
        return Err(damaged("link", key));
    }
    Ok((
        InodeId(last_number(&key[1..9])?),
        InodeId(last_number(&key[9..17])?),
        key.slice(17..),
    ))
}
pub(super) fn xattr(inode: InodeId, name: &[u8]) -> Bytes {
    key(XATTRS, &[&inode.to_key(), name])
}
/// The name in the key of an extended attribute.
pub(super) fn xattr_name(key: &Bytes) -> io::Result<Bytes> {
    if key.len() < 9 {
        return Err(damaged("extended attribute", key));
    }
    Ok(key.slice(9..))
}
pub(super) fn mount(id: MountId) -> Bytes {
    key(MOUNTS, &[&id.to_key()])
}
pub(super) fn intent(id: IntentId) -> Bytes {
    key(INTENTS, &[&id.to_key()])
}
pub(super) fn intent_by_inode(inode: InodeId, id: IntentId) -> Bytes {
    key(INTENTS_BY_INODE, &[&inode.to_key(), &id.to_key()])
}
pub(super) fn intent_by_path(mount: MountId, path: &[u8], id: IntentId) -> Bytes {
    key(INTENTS_BY_PATH, &[&mount.to_key(), path, &[0], &id.to_key()])
}
/// Prefix of the rows of exactly this path.
pub(super) fn at_path(mount: MountId, path: &[u8]) -> Bytes {
    key(INTENTS_BY_PATH, &[&mount.to_key(), path, &[0]])
}
/// Prefix of the rows of paths beneath this one (of the root: of all rows of the mount).
pub(super) fn beneath_path(mount: MountId, path: &[u8]) -> Bytes {
    if path.is_empty() {
        key(INTENTS_BY_PATH, &[&mount.to_key()])
    } else {
        key(INTENTS_BY_PATH, &[&mount.to_key(), path, b"/"])
    }
}
pub(super) fn session(id: SessionId) -> Bytes {
    key(SESSIONS, &[&id.to_key()])
}
pub(super) fn session_open(session: SessionId, inode: InodeId) -> Bytes {
    key(SESSION_OPENS, &[&session.to_key(), &inode.to_key()])
}
pub(super) fn holder(inode: InodeId, session: SessionId) -> Bytes {
    key(HOLDERS, &[&inode.to_key(), &session.to_key()])
}
pub(super) fn held(session: SessionId, inode: InodeId) -> Bytes {
    key(HELD, &[&session.to_key(), &inode.to_key()])
}
pub(super) fn detached(inode: InodeId) -> Bytes {
    key(DETACHED, &[&inode.to_key()])
}
pub(super) fn given_up(id: IntentId) -> Bytes {
    key(GIVEN_UP, &[&id.to_key()])
}
pub(super) fn worker(id: WorkerId) -> Bytes {
    key(WORKERS, &[&id.to_key()])
}
pub(super) fn retry(session: SessionId, op_id: u64) -> Bytes {
    key(
        RETRIES,
        &[&session.to_key(), &(op_id % RETRIES_PER_SESSION).to_be_bytes()],
    )
}
/// Row of the answer of a change whose client tells what it waits for.
pub(super) fn answer(session: SessionId, op_id: u64) -> Bytes {
    key(ANSWERS, &[&session.to_key(), &op_id.to_be_bytes()])
}
/// Row of the lowest id of such a session that may have an answer.
pub(super) fn answers_from(session: SessionId) -> Bytes {
    answer(session, 0)
}
/// Value of that row.
pub(super) fn number_value(number: u64) -> Bytes {
    let mut row = BytesMut::with_capacity(9);
    row.put_u8(FORMAT);
    row.put_u64(number);
    row.freeze()
}
/// The number in such a row.
pub(super) fn number_of(key: &[u8], row: &[u8]) -> io::Result<u64> {
    last_number(body(key, row)?)
}
/// Prefix of all rows of `table` that start with the number `id`.
pub(super) fn of(table: u8, id: u64) -> Bytes {
    key(table, &[&id.to_be_bytes()])
}

/// The number in the last eight bytes of a key.
pub(super) fn last_number(key: &[u8]) -> io::Result<u64> {
    let bytes = key.last_chunk::<8>().ok_or_else(|| damaged("key", key))?;
    Ok(u64::from_be_bytes(*bytes))
}

/// The name in the key of an edge.
pub(super) fn edge_name(key: &Bytes) -> io::Result<Bytes> {
    if key.len() < 9 {
        return Err(damaged("edge", key));
    }
    Ok(key.slice(9..))
}

/// What a row in the path index says of its intent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PathRole {
    pub id: IntentId,
    /// It is the target of a rename.
    pub is_target: bool,
    pub order: u64,
}

impl PathRole {
    pub fn encode(&self) -> Bytes {
        let mut value = BytesMut::with_capacity(10);
        value.put_u8(FORMAT);
        value.put_u8(u8::from(self.is_target));
        value.put_u64(self.order);
        value.freeze()
    }
    pub fn decode(key: &[u8], value: &[u8]) -> io::Result<Self> {
        let body = body(key, value)?;
        match body.split_first_chunk::<1>() {
            Some((role, order)) if order.len() == 8 => Ok(PathRole {
                id: IntentId(last_number(key)?),
                is_target: role[0] == 1,
                order: last_number(order)?,
            }),
            _ => Err(damaged("path of an intent", key)),
        }
    }
}

impl Edge {
    pub(super) fn encode(&self) -> Bytes {
        let mut value = BytesMut::with_capacity(10);
        value.put_u8(FORMAT);
        value.put_u8(self.kind as i32 as u8);
        value.put_u64(self.child.get());
        value.freeze()
    }
    pub(super) fn decode(key: &[u8], value: &[u8]) -> io::Result<Self> {
        let body = body(key, value)?;
        let (kind, child) = body.split_first_chunk::<1>().ok_or_else(|| damaged("edge", key))?;
        Ok(Edge {
            child: InodeId(last_number(child)?),
            kind: FileKind::try_from(i32::from(kind[0])).map_err(|_| damaged("edge", key))?,
        })
    }
}

/// A record behind its format byte.
pub(super) fn encode<M: prost::Message>(message: &M) -> Bytes {
    let mut value = BytesMut::with_capacity(1 + message.encoded_len());
    value.put_u8(FORMAT);
    message.encode_raw(&mut value);
    value.freeze()
}

/// The holder has the orphan open for reading: released by `ReleaseOrphan`.
pub(super) const HELD_READ: u8 = 1;
/// The holder has the orphan open for writing: released by its last `CloseWrite`.
pub(super) const HELD_WRITE: u8 = 2;

/// Value of a holder's row.
pub(super) fn hold(bits: u8) -> Bytes {
    Bytes::copy_from_slice(&[FORMAT, bits])
}

/// Bits in a holder's row.
pub(super) fn hold_bits(key: &[u8], value: &[u8]) -> io::Result<u8> {
    body(key, value)?.first().copied().ok_or_else(|| damaged("holder", key))
}

/// Value of an extended attribute's row.
pub(super) fn xattr_value(value: &[u8]) -> Bytes {
    let mut row = BytesMut::with_capacity(1 + value.len());
    row.put_u8(FORMAT);
    row.put_slice(value);
    row.freeze()
}

/// The value in such a row.
pub(super) fn xattr_of(key: &[u8], row: &Bytes) -> io::Result<Bytes> {
    body(key, row)?;
    Ok(row.slice(1..))
}

/// A row that says all by its key.
pub(super) fn nothing() -> Bytes {
    Bytes::from_static(&[FORMAT])
}

/// The record behind its format byte.
pub(super) fn decode<M: prost::Message + Default>(key: &[u8], value: &Bytes) -> io::Result<M> {
    body(key, value)?;
    M::decode(value.slice(1..)).map_err(|_| damaged("record", key))
}

fn body<'a>(key: &[u8], value: &'a [u8]) -> io::Result<&'a [u8]> {
    match value.split_first() {
        Some((&FORMAT, body)) => Ok(body),
        Some((format, _)) => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            format!(
                "the metadata store has a record of format {format} at {key:02x?}; this version reads format {FORMAT}"
            ),
        )),
        None => Err(damaged("record", key)),
    }
}

fn damaged(what: &str, key: &[u8]) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("the metadata store has a damaged {what} at {key:02x?}"),
    )
}
