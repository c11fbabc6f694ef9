//! File system API over master and workers.
