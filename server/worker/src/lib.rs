//! Cached and newly written file data.
