//! Tests of the service: real journals in real folders, stores in memory with faults on demand, and a worker that speaks the
//! real protocol but keeps its files in a map.

mod across;
mod files;
mod gone;
mod harness;
mod lazy;
mod lifecycle;
mod locks;
mod persist;
mod sessions;
mod trees;
mod upgrade;
