//! Namespace, mounts, sessions, persistence: the master.
//!
//! [`metastore`] keeps bytes in order, [`state`] is the deterministic state machine over it, [`service`] answers clients and
//! workers by reading the state and proposing commands through the journal.

mod locks;
pub mod metastore;
pub mod service;
pub mod state;
