//! The keys we honour, one module per owner, so that each crate's keys stand together.

pub mod fuse;
pub mod general;
pub mod master;
pub mod underfs;
pub mod user;
pub mod worker;
