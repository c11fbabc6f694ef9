//! The bytes on the wire: one hello each way, then frames.

use crate::checksum::{Crc32c, crc32c};
use alluxio_proto::PROTOCOL_VERSION;
use bytes::Bytes;

/// Longest header section. Messages are small; a page of a directory is the largest.
pub const HEADER_BYTES_MAX: usize = 4 << 20;
/// Longest data section: twice what one read or write moves ([`alluxio_proto::worker::TRANSFER_BYTES_MAX`]).
pub const DATA_BYTES_MAX: usize = 8 << 20;
/// Items of one stream that may be under way before the reader grants more. Changes come in batches already.
pub(super) const STREAM_ITEMS_MAX: usize = 64;

/// First bytes of a connection that speaks frames. The first is not ASCII, so that no text protocol starts so.
pub(super) const MAGIC: [u8; 4] = [0x89, b'A', b'L', b'X'];
/// First bytes of HTTP/2, hence of gRPC.
pub(super) const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2";

/// What sits at the other end, for logs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum PeerKind {
    /// Not said, or of a later version.
    #[default]
    Unknown = 0,
    /// A master.
    Master = 1,
    /// A worker.
    Worker = 2,
    /// A mount, command or library.
    Client = 3,
}

impl From<u8> for PeerKind {
    fn from(code: u8) -> Self {
        match code {
            1 => Self::Master,
            2 => Self::Worker,
            3 => Self::Client,
            _ => Self::Unknown,
        }
    }
}

/// Why bytes are no frame. The connection ends: what follows cannot be trusted.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum FrameError {
    #[error("the first bytes are not those of our protocol")]
    NotOurs,
    #[error("the first bytes are those of HTTP/2")]
    Http2,
    #[error("protocol version {theirs}, this end speaks {PROTOCOL_VERSION}")]
    Version { theirs: u32 },
    #[error("checksum of the {0} does not match")]
    Checksum(&'static str),
    #[error("{0} section of {1} bytes is over the limit")]
    TooLong(&'static str, usize),
    #[error("unknown kind of frame {0}")]
    Kind(u8),
    #[error("a {0:?} frame where none may be")]
    Unexpected(Kind),
}

/// The first 16 bytes each way; the client's come first. Numbers are big-endian, here and in frames.
///
/// | bytes | what |
/// |---|---|
/// | 4 | [`MAGIC`]: first, so that a listener knows what it is talking to before anything else |
/// | 4 | version of the protocol ([`PROTOCOL_VERSION`]): second, since all that follows may depend on it |
/// | 1 | [`PeerKind`] |
/// | 1 | 0 |
/// | 2 | requests that this end accepts in flight on this connection |
/// | 4 | CRC32C of the 12 bytes before |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hello {
    pub peer: PeerKind,
    pub in_flight_max: u16,
}

impl Hello {
    pub const BYTES: usize = 16;

    pub fn encode(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[0..4].copy_from_slice(&MAGIC);
        bytes[4..8].copy_from_slice(&PROTOCOL_VERSION.to_be_bytes());
        bytes[8] = self.peer as u8;
        bytes[10..12].copy_from_slice(&self.in_flight_max.to_be_bytes());
        let crc = crc32c(&bytes[..12]);
        bytes[12..].copy_from_slice(&crc.to_be_bytes());
        bytes
    }

    /// How many bytes of a greeting are needed to judge it, having seen `start` of it; its length when that is enough.
    pub fn wanted(start: &[u8]) -> Result<usize, FrameError> {
        let starts_like = |pattern: &[u8]| start.iter().zip(pattern).all(|(a, b)| a == b);
        if starts_like(&MAGIC) {
            return Ok(Self::BYTES);
        }
        if !starts_like(HTTP2_PREFACE) {
            return Err(FrameError::NotOurs);
        }
        if start.len() >= HTTP2_PREFACE.len() {
            return Err(FrameError::Http2);
        }
        Ok(HTTP2_PREFACE.len())
    }

    pub fn decode(bytes: &[u8; Self::BYTES]) -> Result<Self, FrameError> {
        if bytes[..4] != MAGIC {
            return Err(FrameError::NotOurs);
        }
        let theirs = be_u32(bytes, 4);
        if theirs != PROTOCOL_VERSION {
            return Err(FrameError::Version { theirs });
        }
        if be_u32(bytes, 12) != crc32c(&bytes[..12]) {
            return Err(FrameError::Checksum("hello"));
        }
        Ok(Self {
            peer: PeerKind::from(bytes[8]),
            in_flight_max: u16::from_be_bytes([bytes[10], bytes[11]]),
        })
    }
}

/// What a frame is. `id` is the request it belongs to, chosen by the client, unique among those in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// Client: do this. Header: a message of the service; data: bytes beside it.
    Request = 1,
    /// Server: done; to [`Kind::OpenStream`]: items follow.
    Reply = 2,
    /// Server: not done; the end of the request or stream. Header: [`alluxio_proto::error::WireError`].
    Error = 3,
    /// Client: a stream, please. The client takes [`STREAM_ITEMS_MAX`] items before it grants more.
    OpenStream = 4,
    /// Server: one item of a stream, in the header section.
    StreamItem = 5,
    /// Server: no more items.
    StreamEnd = 6,
    /// Client: the answer is not wanted any more. The server still ends the request, by whatever frame.
    Cancel = 7,
    /// Either: are you there?
    Ping = 8,
    /// Either: I am.
    Pong = 9,
    /// Client: so many more items of the stream (header: u32).
    Credit = 10,
}

impl Kind {
    fn decode(code: u8) -> Result<Self, FrameError> {
        Ok(match code {
            1 => Self::Request,
            2 => Self::Reply,
            3 => Self::Error,
            4 => Self::OpenStream,
            5 => Self::StreamItem,
            6 => Self::StreamEnd,
            7 => Self::Cancel,
            8 => Self::Ping,
            9 => Self::Pong,
            10 => Self::Credit,
            _ => return Err(FrameError::Kind(code)),
        })
    }
}

/// The 24 bytes before the sections of a frame; then `header_len` bytes of header, then `data_len` of data.
///
/// | bytes | what |
/// |---|---|
/// | 4 | length of the header section: lengths first, so that a reader knows what to get ready |
/// | 4 | length of the data section |
/// | 8 | request id |
/// | 1 | [`Kind`] |
/// | 1 | service |
/// | 2 | 0 |
/// | 4 | CRC32C of the 20 bytes before and the header section |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Prefix {
    pub header_len: usize,
    pub data_len: usize,
    pub id: u64,
    pub kind: Kind,
    pub service: u8,
    crc: u32,
}

impl Prefix {
    pub const BYTES: usize = 24;

    /// Decodes and bounds the lengths; [`Prefix::check`] follows when the header section is there.
    pub fn decode(bytes: &[u8; Self::BYTES]) -> Result<Self, FrameError> {
        let header_len = be_u32(bytes, 0) as usize;
        let data_len = be_u32(bytes, 4) as usize;
        if header_len > HEADER_BYTES_MAX {
            return Err(FrameError::TooLong("header", header_len));
        }
        if data_len > DATA_BYTES_MAX {
            return Err(FrameError::TooLong("data", data_len));
        }
        let mut id = [0; 8];
        id.copy_from_slice(&bytes[8..16]);
        Ok(Self {
            header_len,
            data_len,
            id: u64::from_be_bytes(id),
            kind: Kind::decode(bytes[16])?,
            service: bytes[17],
            crc: be_u32(bytes, 20),
        })
    }

    /// Compares the checksum; `bytes` are those that were decoded.
    pub fn check(&self, bytes: &[u8; Self::BYTES], header: &[u8]) -> Result<(), FrameError> {
        if self.crc == section_crc(bytes, header) {
            Ok(())
        } else {
            Err(FrameError::Checksum("frame header"))
        }
    }
}

fn section_crc(prefix: &[u8; Prefix::BYTES], header: &[u8]) -> u32 {
    let mut crc = Crc32c::new();
    crc.update(&prefix[..20]);
    crc.update(header);
    crc.finish()
}

fn be_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// One frame, either way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub id: u64,
    pub kind: Kind,
    pub service: u8,
    pub header: Bytes,
    pub data: Bytes,
}

impl Frame {
    /// A frame of nothing but its kind.
    pub fn bare(kind: Kind, id: u64) -> Self {
        Self::with_header(kind, id, Bytes::new())
    }
    /// A frame without data.
    pub fn with_header(kind: Kind, id: u64, header: Bytes) -> Self {
        Self {
            id,
            kind,
            service: 0,
            header,
            data: Bytes::new(),
        }
    }
    /// Bytes on the wire.
    pub fn wire_len(&self) -> usize {
        Prefix::BYTES + self.header.len() + self.data.len()
    }
    /// Whether both sections keep to the limits.
    pub fn fits(&self) -> Result<(), FrameError> {
        if self.header.len() > HEADER_BYTES_MAX {
            return Err(FrameError::TooLong("header", self.header.len()));
        }
        if self.data.len() > DATA_BYTES_MAX {
            return Err(FrameError::TooLong("data", self.data.len()));
        }
        Ok(())
    }
    /// The bytes before the sections. The lengths were checked with [`Frame::fits`].
    pub fn prefix(&self) -> [u8; Prefix::BYTES] {
        let mut bytes = [0; Prefix::BYTES];
        bytes[0..4].copy_from_slice(&(self.header.len() as u32).to_be_bytes());
        bytes[4..8].copy_from_slice(&(self.data.len() as u32).to_be_bytes());
        bytes[8..16].copy_from_slice(&self.id.to_be_bytes());
        bytes[16] = self.kind as u8;
        bytes[17] = self.service;
        let crc = section_crc(&bytes, &self.header);
        bytes[20..].copy_from_slice(&crc.to_be_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn hello_is_recognised_by_its_first_bytes() {
        let hello = Hello {
            peer: PeerKind::Worker,
            in_flight_max: 7,
        };
        let bytes = hello.encode();
        for end in 0..=bytes.len() {
            let wanted = Hello::wanted(&bytes[..end]).unwrap();
            assert!(wanted == Hello::BYTES || end == 0);
        }
        assert_eq!(Hello::decode(&bytes), Ok(hello));
        assert_eq!(Hello::wanted(b"PRI "), Ok(HTTP2_PREFACE.len()));
        assert_eq!(Hello::wanted(b"PRI * HTTP/2.0"), Err(FrameError::Http2));
        assert_eq!(Hello::wanted(b"GET /"), Err(FrameError::NotOurs));
    }

    /// Version 1 as it went out: these bytes must stay readable.
    #[test]
    fn bytes_of_version_1() {
        let hello = Hello {
            peer: PeerKind::Client,
            in_flight_max: 256,
        };
        let bytes = hello.encode();
        assert_eq!(bytes[..12], [0x89, b'A', b'L', b'X', 0, 0, 0, 1, 3, 0, 1, 0]);
        let frame = Frame {
            id: 5,
            kind: Kind::Request,
            service: 2,
            header: Bytes::from_static(b"head"),
            data: Bytes::from_static(b"data!"),
        };
        let prefix = frame.prefix();
        assert_eq!(
            prefix[..20],
            [0, 0, 0, 4, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 5, 1, 2, 0, 0]
        );
        let decoded = Prefix::decode(&prefix).unwrap();
        assert_eq!(decoded.check(&prefix, b"head"), Ok(()));
        assert_eq!(
            decoded.check(&prefix, b"heat"),
            Err(FrameError::Checksum("frame header"))
        );
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_err(bytes in any::<[u8; 24]>(), hello in any::<[u8; 16]>()) {
            if let Ok(prefix) = Prefix::decode(&bytes) {
                prop_assert!(prefix.header_len <= HEADER_BYTES_MAX && prefix.data_len <= DATA_BYTES_MAX);
            }
            let _ = Hello::wanted(&hello);
            // Magic, version and checksum by chance: no.
            prop_assert!(Hello::decode(&hello).is_err());
        }

        #[test]
        fn a_flipped_bit_is_seen(header in prop::collection::vec(any::<u8>(), 0..64), bit in 0usize..192) {
            let frame = Frame::with_header(Kind::Reply, 77, Bytes::from(header.clone()));
            let mut bytes = frame.prefix();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let seen = Prefix::decode(&bytes).and_then(|prefix| prefix.check(&bytes, &header));
            prop_assert!(seen.is_err());
        }
    }
}
