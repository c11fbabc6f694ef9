//! Locks. Everybody takes them from here, so that a schedule explorer can replace them in one place.
//!
//! They do not poison: a panic while a lock is held is a bug that the panic reports. Never hold one across `.await`.

pub use parking_lot::{Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
