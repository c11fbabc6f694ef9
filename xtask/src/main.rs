//! Everything that is not the product: test set-up, benches, docs.
fn main() {}
