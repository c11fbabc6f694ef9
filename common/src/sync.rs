//! Locks. Everybody takes them from here, so that a schedule explorer can replace them in one place.

pub use parking_lot::{Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
