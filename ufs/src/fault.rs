//! A store that fails, waits and counts on demand, for the tests of whoever uses stores.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use alluxio_common::sync::Mutex;
use alluxio_proto::types::FileKind;
use bytes::Bytes;
use futures::stream::BoxStream;

use crate::{
    BaseObject, Capabilities, CopyListener, Expect, Export, Inside, Moved, PageToken, UfsAttributes, UfsError,
    UfsErrorKind, UfsMetrics, UfsPage, UfsResult, UfsSpace, UfsStatus, UnderFileSystem, UploadSource,
};

/// A method of [`UnderFileSystem`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Call {
    Probe,
    Status,
    List,
    Read,
    Write,
    Delete,
    Mkdir,
    Rmdir,
    Symlink,
    Rename,
    SetAttributes,
    AbortStaleUploads,
    Space,
}

#[derive(Debug, Default)]
struct Plan {
    failures: u32,
    kind: Option<UfsErrorKind>,
    delay: Duration,
    calls: u64,
}

/// What is to go wrong.
#[derive(Debug, Default)]
pub struct Faults {
    plans: Mutex<BTreeMap<Call, Plan>>,
}

impl Faults {
    /// The next `count` calls fail before they do anything.
    pub fn fail_next(&self, call: Call, count: u32, kind: UfsErrorKind) {
        let mut plans = self.plans.lock();
        let plan = plans.entry(call).or_default();
        plan.failures = count;
        plan.kind = Some(kind);
    }

    /// Every call waits for this time first.
    pub fn delay(&self, call: Call, delay: Duration) {
        self.plans.lock().entry(call).or_default().delay = delay;
    }

    /// Nothing fails or waits any more.
    pub fn heal(&self) {
        for plan in self.plans.lock().values_mut() {
            plan.failures = 0;
            plan.delay = Duration::ZERO;
        }
    }

    /// How often a method was called, failures included.
    pub fn calls(&self, call: Call) -> u64 {
        self.plans.lock().get(&call).map_or(0, |plan| plan.calls)
    }

    async fn before(&self, call: Call) -> UfsResult<()> {
        let (delay, failure) = {
            let mut plans = self.plans.lock();
            let plan = plans.entry(call).or_default();
            plan.calls += 1;
            let failure = plan.kind.filter(|_| plan.failures > 0);
            plan.failures = plan.failures.saturating_sub(1);
            (plan.delay, failure)
        };
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        match failure {
            Some(kind) => Err(UfsError::new(kind, format!("{call:?}: fault on demand"))),
            None => Ok(()),
        }
    }
}

/// A store with [`Faults`] in front.
#[derive(Debug)]
pub struct FaultyUfs {
    inner: Arc<dyn UnderFileSystem>,
    faults: Arc<Faults>,
}

impl FaultyUfs {
    /// `inner`, so far without faults.
    pub fn new(inner: Arc<dyn UnderFileSystem>) -> Self {
        Self {
            inner,
            faults: Arc::default(),
        }
    }

    /// The controls.
    pub fn faults(&self) -> Arc<Faults> {
        self.faults.clone()
    }
}

#[async_trait::async_trait]
impl UnderFileSystem for FaultyUfs {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
    fn metrics(&self) -> Arc<UfsMetrics> {
        self.inner.metrics()
    }
    fn check_path(&self, path: &[u8]) -> UfsResult<()> {
        self.inner.check_path(path)
    }
    async fn probe(&self) -> UfsResult<()> {
        self.faults.before(Call::Probe).await?;
        self.inner.probe().await
    }
    async fn status(&self, path: &[u8]) -> UfsResult<UfsStatus> {
        self.faults.before(Call::Status).await?;
        self.inner.status(path).await
    }
    async fn list(&self, dir: &[u8], token: Option<PageToken>, limit: usize) -> UfsResult<UfsPage> {
        self.faults.before(Call::List).await?;
        self.inner.list(dir, token, limit).await
    }
    /// A [`Call::Status`], for all together.
    async fn complete(&self, dir: &[u8], entries: Vec<UfsStatus>) -> UfsResult<Vec<UfsStatus>> {
        if entries.iter().any(|entry| entry.is_partial) {
            self.faults.before(Call::Status).await?;
        }
        self.inner.complete(dir, entries).await
    }
    async fn read(
        &self,
        path: &[u8],
        range: Range<u64>,
        fingerprint: &str,
    ) -> UfsResult<BoxStream<'static, UfsResult<Bytes>>> {
        self.faults.before(Call::Read).await?;
        self.inner.read(path, range, fingerprint).await
    }
    async fn write(
        &self,
        path: &[u8],
        source: &dyn UploadSource,
        expect: &Expect,
        attributes: &UfsAttributes,
    ) -> UfsResult<UfsStatus> {
        self.faults.before(Call::Write).await?;
        self.inner.write(path, source, expect, attributes).await
    }
    /// A [`Call::Write`] like any other.
    async fn write_over(
        &self,
        path: &[u8],
        source: &dyn UploadSource,
        base: &BaseObject,
        expect: &Expect,
        attributes: &UfsAttributes,
    ) -> UfsResult<UfsStatus> {
        self.faults.before(Call::Write).await?;
        self.inner.write_over(path, source, base, expect, attributes).await
    }
    async fn delete(&self, paths: &[Bytes]) -> Vec<UfsResult<()>> {
        match self.faults.before(Call::Delete).await {
            Ok(()) => self.inner.delete(paths).await,
            Err(error) => paths.iter().map(|_| Err(error.clone())).collect(),
        }
    }
    async fn delete_if(&self, path: &[u8], fingerprint: &str) -> UfsResult<()> {
        self.faults.before(Call::Delete).await?;
        self.inner.delete_if(path, fingerprint).await
    }
    async fn mkdir(&self, path: &[u8], attributes: &UfsAttributes) -> UfsResult<()> {
        self.faults.before(Call::Mkdir).await?;
        self.inner.mkdir(path, attributes).await
    }
    async fn rmdir(&self, path: &[u8]) -> UfsResult<()> {
        self.faults.before(Call::Rmdir).await?;
        self.inner.rmdir(path).await
    }
    async fn symlink(&self, path: &[u8], target: &[u8], attributes: &UfsAttributes) -> UfsResult<()> {
        self.faults.before(Call::Symlink).await?;
        self.inner.symlink(path, target, attributes).await
    }
    async fn rename(&self, from: &[u8], to: &[u8]) -> UfsResult<UfsStatus> {
        self.faults.before(Call::Rename).await?;
        self.inner.rename(from, to).await
    }
    /// A [`Call::Rename`] like any other.
    async fn move_objects(
        &self,
        from: &[u8],
        to: &[u8],
        kept: &HashSet<Bytes>,
        told: &dyn CopyListener,
    ) -> UfsResult<Moved> {
        self.faults.before(Call::Rename).await?;
        self.inner.move_objects(from, to, kept, told).await
    }
    async fn copy_file(&self, from: &[u8], fingerprint: &str, to: &[u8]) -> UfsResult<String> {
        self.faults.before(Call::Rename).await?;
        self.inner.copy_file(from, fingerprint, to).await
    }
    fn store(&self) -> Option<String> {
        self.inner.store()
    }
    /// A [`Call::Status`] like any other.
    async fn export(&self, path: &[u8], fingerprint: &str) -> UfsResult<Export> {
        self.faults.before(Call::Status).await?;
        self.inner.export(path, fingerprint).await
    }
    /// A [`Call::Rename`] like any other.
    async fn import(
        &self,
        export: &Export,
        path: &[u8],
        expect: &Expect,
        attributes: &UfsAttributes,
        how: Inside,
    ) -> UfsResult<UfsStatus> {
        self.faults.before(Call::Rename).await?;
        self.inner.import(export, path, expect, attributes, how).await
    }
    async fn set_attributes(
        &self,
        path: &[u8],
        kind: FileKind,
        attributes: &UfsAttributes,
        fingerprint: &str,
    ) -> UfsResult<Option<String>> {
        self.faults.before(Call::SetAttributes).await?;
        self.inner.set_attributes(path, kind, attributes, fingerprint).await
    }
    async fn abort_stale_uploads(&self, age: Duration) -> UfsResult<u64> {
        self.faults.before(Call::AbortStaleUploads).await?;
        self.inner.abort_stale_uploads(age).await
    }
    async fn space(&self) -> UfsResult<Option<UfsSpace>> {
        self.faults.before(Call::Space).await?;
        self.inner.space().await
    }
}
