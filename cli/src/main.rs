//! The `alluxio` binary.
fn main() {}
