//! Our framed transport: prost messages and raw bytes in length-prefixed frames, many in flight on one connection,
//! over TCP or a unix socket (DESIGN D11).
//!
//! [`serve`] answers on a listener by a [`Handler`]; [`Client`] keeps one connection to one of several addresses and
//! makes it again when it breaks. What a header means is the business of the two ends; this module promises:
//!
//! - a request is sent at most once and is answered once, or its caller gets an error that says what was going on;
//! - a caller that goes away (timeout, dropped future) tells the other end;
//! - nothing grows without bound: frame sizes, calls in flight, bytes waiting to be written, items of a stream that
//!   nobody reads, connections (the limits are the constants of `frame` and of [`ServeOptions`]);
//! - garbage ends its connection and nothing else; a client of gRPC is told apart by its first bytes;
//! - headers are checksummed; data is not, because who stores data has a checksum of it already and sends it along.
//!
//! **Left out:** retries (the caller knows what may be repeated), authentication, compression. [`fd`] is the sibling
//! that passes file descriptors.

mod client;
mod connection;
pub mod fd;
mod frame;
mod reader;
mod requests;
mod server;
mod socket;
mod writer;

pub use client::{Client, ClientOptions};
pub use frame::{DATA_BYTES_MAX, HEADER_BYTES_MAX, PeerKind};
pub use server::{Handler, ServeOptions, serve, serve_with};
pub use socket::{Address, Listener, bind_unix};

use crate::FsResult;
use bytes::Bytes;
use futures::stream::BoxStream;

/// Service number of the master's protocol ([`alluxio_proto::master`]).
pub const SERVICE_MASTER: u8 = 1;
/// Service number of the worker's protocol ([`alluxio_proto::worker`]).
pub const SERVICE_WORKER: u8 = 2;

/// Messages of one stream. An error is the last item.
pub type ItemStream = BoxStream<'static, FsResult<Bytes>>;
