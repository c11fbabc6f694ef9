//! The framed transport over real sockets.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod calls;
mod garbage;
mod harness;
