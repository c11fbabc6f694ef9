//! The rename of a folder in a bucket: how soon the call returns, and how fast its copies go, against a bare client's.
//!
//! The bucket is in the memory of this process, so what is measured is requests, not disks.

use super::table::Target::{AtLeast, AtMost};
use super::{Row, Table, bare_s3, median};
use alluxio_tests::s3::memory::{Content, Object};
use alluxio_tests::{LocalBuilder, MemoryS3, S3Server, wait};
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStoreExt;
use std::time::{Duration, Instant};

const OBJECTS: usize = 10_000;
/// Copies in flight of both sides: what the S3 adapter has of one rename.
const COPIES: usize = 20;
const LIMIT: Duration = Duration::from_secs(600);

/// Runs the benchmark.
pub fn run(rounds: usize) -> anyhow::Result<Table> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let server = MemoryS3::start();
    for index in 0..OBJECTS {
        let content = Content::from(bytes::Bytes::from(format!("content of {index}")));
        server.put(&key("tree", index), Object::plain(content));
    }
    let local = LocalBuilder::new()
        .ufs("s3://bucket/")
        .options(server.options())
        .option("alluxio.user.file.metadata.sync.interval", "-1")
        .start();
    let mount = local.mount();
    anyhow::ensure!(
        std::fs::read_dir(mount.join("tree"))?.count() == OBJECTS,
        "names are missing"
    );
    let (mut returned, mut ours, mut bare) = (Vec::new(), Vec::new(), Vec::new());
    let mut from = "tree".to_owned();
    for round in 0..=rounds {
        let theirs = copies_of_a_bare_client(&server, &from, round)?;
        server.clear_log();
        let to = format!("tree{round}");
        let start = Instant::now();
        #[allow(clippy::disallowed_methods, reason = "it is what is measured")]
        std::fs::rename(mount.join(&from), mount.join(&to))?;
        let call_ms = start.elapsed().as_secs_f64() * 1_000.0;
        let last = (key(&from, OBJECTS - 1), key(&to, OBJECTS - 1));
        wait::until("the rename in the bucket", LIMIT, || {
            server.object(&last.1).is_some() && server.object(&last.0).is_none()
        });
        let rate = OBJECTS as f64 / start.elapsed().as_secs_f64();
        let copied = server.seen("CopyObject").len();
        anyhow::ensure!(copied == OBJECTS, "{copied} copies of {OBJECTS} objects");
        from = to;
        if round > 0 {
            returned.push(call_ms);
            ours.push(rate);
            bare.push(theirs);
        }
    }
    let mut table = Table::default();
    let call = format!("rename(2) of a folder of {OBJECTS} objects");
    table
        .rows
        .push(Row::figure(&call, "ms", median(returned), Some(AtMost(50.0))));
    table.rows.push(Row::ratio(
        "moved in the bucket, deletes included / copies of a bare client",
        "objects/s",
        median(ours),
        median(bare),
        Some(AtLeast(0.8)),
    ));
    Ok(table)
}

fn key(dir: &str, index: usize) -> String {
    format!("{dir}/f{index:05}")
}

/// Objects that a client without anything around it copies a second.
fn copies_of_a_bare_client(server: &MemoryS3, from: &str, round: usize) -> anyhow::Result<f64> {
    let (store, runtime) = bare_s3::client(&server.endpoint())?;
    // Outside of what is mounted there is nothing: the copies are taken away again.
    let to = format!("bare{round}");
    let start = Instant::now();
    runtime.block_on(async {
        futures::stream::iter(0..OBJECTS)
            .map(|index| {
                let (store, from, to) = (&store, key(from, index), key(&to, index));
                async move { store.copy(&from.into(), &to.into()).await }
            })
            .buffer_unordered(COPIES)
            .try_collect::<()>()
            .await
    })?;
    let rate = OBJECTS as f64 / start.elapsed().as_secs_f64();
    for index in 0..OBJECTS {
        server.remove(&key(&to, index));
    }
    Ok(rate)
}
