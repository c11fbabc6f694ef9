//! How long direct calls take, for benches that compare them with the file system.

use crate::Worker;
use alluxio_proto::master::ReadSource;
use alluxio_proto::worker::Read;
use alluxio_proto::{FsResult, WorkerApi};
use bytes::Bytes;
use std::time::{Duration, Instant};

/// Mean time of `rounds` reads of `length` bytes at scattered offsets.
///
/// # Errors
/// Those of the reads.
pub async fn scattered_reads(
    worker: &Worker,
    inode: u64,
    source: &ReadSource,
    length: u64,
    rounds: u32,
) -> FsResult<Duration> {
    let places = (source.length / length.max(1)).max(1);
    let started = Instant::now();
    for round in 0..u64::from(rounds) {
        // An odd multiplier visits the places in an order without pattern.
        let offset = round.wrapping_mul(0x9e37_79b9_7f4a_7c15) % places * length;
        let read = Read {
            inode,
            source: Some(source.clone()),
            offset,
            length,
            ..Read::default()
        };
        worker.call(read.into(), Bytes::new()).await?;
    }
    Ok(started.elapsed() / rounds.max(1))
}
