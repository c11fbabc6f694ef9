//! A bare S3 client, for baselines.

use alluxio_tests::s3::{ACCESS_KEY, SECRET_KEY};
use futures::{StreamExt, TryStreamExt};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use std::time::Instant;

/// Requests in flight: as many as the product's default.
const CONNECTIONS: usize = 20;

/// A client of one bucket with a runtime of its own.
pub struct BareS3 {
    store: AmazonS3,
    runtime: tokio::runtime::Runtime,
}

impl BareS3 {
    /// Of the harness's bucket at an endpoint.
    pub fn new(endpoint: &str) -> anyhow::Result<Self> {
        // The default provider may be installed already; what counts is that there is one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let store = AmazonS3Builder::new()
            .with_endpoint(endpoint)
            .with_allow_http(true)
            .with_bucket_name("bucket")
            .with_region("us-east-1")
            .with_access_key_id(ACCESS_KEY)
            .with_secret_access_key(SECRET_KEY)
            .build()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        Ok(Self { store, runtime })
    }

    /// Seconds for a listing of all beneath a prefix and a HEAD of each object; and how many there are.
    pub fn list_and_head(&self, prefix: &str) -> anyhow::Result<(f64, usize)> {
        self.each(prefix, async |path| {
            self.store.head(&path).await?;
            Ok(())
        })
    }

    /// Seconds for a listing, and a HEAD and a copy onto itself of each object: what it takes to give objects other metadata and
    /// keep what they carry.
    pub fn head_and_copy(&self, prefix: &str) -> anyhow::Result<(f64, usize)> {
        self.each(prefix, async |path| {
            self.store.head(&path).await?;
            self.store.copy(&path, &path).await?;
            Ok(())
        })
    }

    fn each(&self, prefix: &str, work: impl AsyncFn(Path) -> anyhow::Result<()>) -> anyhow::Result<(f64, usize)> {
        let start = Instant::now();
        let count = self.runtime.block_on(async {
            let listed = self.store.list(Some(&Path::from(prefix)));
            // Markers of folders are empty; `object_store` has no names for them.
            let listed = listed.try_filter(|meta| std::future::ready(meta.size > 0));
            let listed: Vec<Path> = listed.map_ok(|meta| meta.location).try_collect().await?;
            let count = listed.len();
            futures::stream::iter(listed)
                .map(|path| work(path))
                .buffer_unordered(CONNECTIONS)
                .try_collect::<Vec<()>>()
                .await?;
            anyhow::Ok(count)
        })?;
        Ok((start.elapsed().as_secs_f64(), count))
    }
}
