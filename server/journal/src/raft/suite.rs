//! openraft's own conformance tests for storage, on ours.
