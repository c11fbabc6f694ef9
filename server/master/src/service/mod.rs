//! The master's answers to clients and workers.
