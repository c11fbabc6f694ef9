//! Namespace, mounts, sessions, persistence.
