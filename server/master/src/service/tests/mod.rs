//! Tests of the service over real journals and stores in memory.
