//! A first read from an S3 server, against a bare client that uses as many connections.

use super::table::Target::{AtLeast, AtMost};
use super::{Row, Table, bare_s3, drop_caches, median};
use alluxio_tests::disk::Disk;
use alluxio_tests::proxy::Proxy;
use alluxio_tests::s3::{S3Server, Versity};
use alluxio_tests::{LocalBuilder, s3, tools, tree};
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStore;
use std::io::Read;
use std::path::Path;
use std::time::Instant;

const FILE_BYTES: u64 = 1 << 30;
/// Range GETs in flight of both sides, and their size.
const CONNECTIONS: usize = 4;
const PART_BYTES: u64 = 8 << 20;

/// Runs the benchmark.
pub fn run(rounds: usize) -> anyhow::Result<Table> {
    // The default provider may be installed already; what counts is that there is one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let disk = Disk::new("bench-read-cold", 12);
    let server = Versity::start_at(tools::scratch("s3-"), disk.path().join("s3"));
    let block = tree::contents(11, 1 << 20);
    std::fs::write(
        server.bucket("bucket").join("file"),
        block.repeat((FILE_BYTES >> 20) as usize),
    )?;

    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for round in 0..=rounds {
        drop_caches()?;
        let a = through_mount(&disk.path().join(format!("run-{round}")), &server.endpoint(), 1)?;
        drop_caches()?;
        let b = bare_client(&server.endpoint())?;
        if round > 0 {
            ours.push(a);
            bare.push(b);
        }
    }
    let mut table = Table::default();
    table.rows.push(Row::ratio(
        "cold 1 GiB / bare client",
        "MiB/s",
        median(ours),
        median(bare),
        Some(AtLeast(0.6)),
    ));

    let proxy = Proxy::start(&server.endpoint());
    through_mount(&disk.path().join("counted-1"), &proxy.endpoint(), 1)?;
    let one = proxy.counts().bytes_down as f64;
    table.rows.push(Row::ratio(
        "bytes fetched, one reader / file",
        "bytes",
        one,
        FILE_BYTES as f64,
        Some(AtMost(1.02)),
    ));
    proxy.reset();
    through_mount(&disk.path().join("counted-2"), &proxy.endpoint(), 2)?;
    let two = proxy.counts().bytes_down as f64;
    table.rows.push(Row::ratio(
        "bytes fetched, two readers at once / file",
        "bytes",
        two,
        FILE_BYTES as f64,
        Some(AtMost(1.02)),
    ));
    Ok(table)
}

/// MiB/s of each of `readers` that read the whole file at the same time through a fresh mount.
fn through_mount(base: &Path, endpoint: &str, readers: usize) -> anyhow::Result<f64> {
    let local = LocalBuilder::at(base)
        .ufs("s3://bucket/")
        .options(s3::options_for(endpoint))
        .start();
    let path = local.mount().join("file");
    let start = Instant::now();
    std::thread::scope(|scope| {
        let handles: Vec<_> = (0..readers).map(|_| scope.spawn(|| read_all(&path))).collect();
        handles
            .into_iter()
            .try_for_each(|handle| handle.join().expect("a reading thread"))
    })?;
    let rate = (FILE_BYTES >> 20) as f64 / start.elapsed().as_secs_f64();
    drop(local);
    std::fs::remove_dir_all(base)?;
    Ok(rate)
}

fn read_all(path: &Path) -> anyhow::Result<()> {
    let mut file = std::fs::File::open(path)?;
    let mut buffer = vec![0; 1 << 20];
    let mut total = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            n => total += n as u64,
        }
    }
    anyhow::ensure!(total == FILE_BYTES, "read {total} of {FILE_BYTES} bytes");
    Ok(())
}

/// MiB/s of range GETs that are thrown away.
fn bare_client(endpoint: &str) -> anyhow::Result<f64> {
    let (store, runtime) = bare_s3::client(endpoint)?;
    let start = Instant::now();
    let total: u64 = runtime.block_on(async {
        let parts = (0..FILE_BYTES).step_by(PART_BYTES as usize);
        futures::stream::iter(parts)
            .map(|offset| {
                let store = &store;
                async move {
                    let options = object_store::GetOptions::new().with_range(Some(offset..offset + PART_BYTES));
                    let mut body = store.get_opts(&"file".into(), options).await?.into_stream();
                    let mut bytes = 0;
                    while let Some(chunk) = body.try_next().await? {
                        bytes += chunk.len() as u64;
                    }
                    anyhow::Ok(bytes)
                }
            })
            .buffer_unordered(CONNECTIONS)
            .try_fold(0, |sum, bytes| async move { Ok(sum + bytes) })
            .await
    })?;
    anyhow::ensure!(total == FILE_BYTES, "the bare client got {total} of {FILE_BYTES} bytes");
    Ok((FILE_BYTES >> 20) as f64 / start.elapsed().as_secs_f64())
}
