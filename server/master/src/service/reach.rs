//! Whether stores answer: noted of each call that is made anyway, so that nobody has to ask them for it.

use alluxio_common::sync::Mutex;
use alluxio_proto::types::FileKind;
use alluxio_ufs::{
    BaseObject, Capabilities, CopyListener, Expect, Export, Inside, Moved, PageToken, UfsAttributes, UfsError,
    UfsErrorKind, UfsMetrics, UfsPage, UfsResult, UfsSpace, UfsStatus, UnderFileSystem, UploadSource,
};
use bytes::Bytes;
use futures::stream::BoxStream;
use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use super::now_ns;

/// A store that does not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Away {
    /// Since when every call failed, nanoseconds since 1970.
    pub since_ns: i64,
    /// What the last one said.
    pub error: String,
}

/// What is known of one store. A refusal is an answer; what may be this host's own trouble says nothing.
#[derive(Debug, Default)]
pub(super) struct Reach {
    /// Of the last answer; 0: none yet.
    answered_ns: AtomicI64,
    away: Mutex<Option<Away>>,
}

impl Reach {
    /// Of the last answer, nanoseconds since 1970; 0: none yet.
    pub fn answered_ns(&self) -> i64 {
        self.answered_ns.load(Ordering::Relaxed)
    }

    pub fn away(&self) -> Option<Away> {
        self.away.lock().clone()
    }

    pub fn answered(&self) {
        self.answered_ns.store(now_ns(), Ordering::Relaxed);
        *self.away.lock() = None;
    }

    pub fn failed(&self, error: &str) {
        let mut away = self.away.lock();
        let since_ns = away.as_ref().map_or_else(now_ns, |away| away.since_ns);
        *away = Some(Away {
            since_ns,
            error: error.to_owned(),
        });
    }

    fn note<T>(&self, result: UfsResult<T>) -> UfsResult<T> {
        match &result {
            Ok(_) => self.answered(),
            Err(error) => self.note_error(error),
        }
        result
    }

    fn note_error(&self, error: &UfsError) {
        match error.kind {
            UfsErrorKind::Unreachable | UfsErrorKind::StoreMissing => self.failed(&error.message),
            UfsErrorKind::Invalid
            | UfsErrorKind::PathTooLong
            | UfsErrorKind::Unsupported
            | UfsErrorKind::Throttled
            | UfsErrorKind::Other => {}
            _ => self.answered(),
        }
    }
}

/// A store whose answers are noted, as the master may use it: no data of files passes the master, whatever asks for it. What it may
/// write is a file of no bytes.
#[derive(Debug)]
pub(super) struct NotedUfs {
    inner: Arc<dyn UnderFileSystem>,
    reach: Arc<Reach>,
}

impl NotedUfs {
    pub fn new(inner: Arc<dyn UnderFileSystem>, reach: Arc<Reach>) -> Self {
        Self { inner, reach }
    }
}

#[async_trait::async_trait]
impl UnderFileSystem for NotedUfs {
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
        self.reach.note(self.inner.probe().await)
    }
    async fn status(&self, path: &[u8]) -> UfsResult<UfsStatus> {
        self.reach.note(self.inner.status(path).await)
    }
    async fn list(&self, dir: &[u8], token: Option<PageToken>, limit: usize) -> UfsResult<UfsPage> {
        self.reach.note(self.inner.list(dir, token, limit).await)
    }
    async fn complete(&self, dir: &[u8], entries: Vec<UfsStatus>) -> UfsResult<Vec<UfsStatus>> {
        // Of entries that are known whole the store is not asked.
        if !entries.iter().any(|entry| entry.is_partial) {
            return Ok(entries);
        }
        self.reach.note(self.inner.complete(dir, entries).await)
    }
    async fn read(
        &self,
        path: &[u8],
        _range: Range<u64>,
        _fingerprint: &str,
    ) -> UfsResult<BoxStream<'static, UfsResult<Bytes>>> {
        Err(for_workers("read", path))
    }
    async fn write(
        &self,
        path: &[u8],
        source: &dyn UploadSource,
        expect: &Expect,
        attributes: &UfsAttributes,
    ) -> UfsResult<UfsStatus> {
        if source.length() > 0 {
            return Err(for_workers("write", path));
        }
        self.reach
            .note(self.inner.write(path, source, expect, attributes).await)
    }
    async fn write_over(
        &self,
        path: &[u8],
        _source: &dyn UploadSource,
        _base: &BaseObject,
        _expect: &Expect,
        _attributes: &UfsAttributes,
    ) -> UfsResult<UfsStatus> {
        Err(for_workers("write over", path))
    }
    async fn delete(&self, paths: &[Bytes]) -> Vec<UfsResult<()>> {
        let deleted = self.inner.delete(paths).await;
        deleted.into_iter().map(|one| self.reach.note(one)).collect()
    }
    async fn delete_if(&self, path: &[u8], fingerprint: &str) -> UfsResult<()> {
        self.reach.note(self.inner.delete_if(path, fingerprint).await)
    }
    async fn mkdir(&self, path: &[u8], attributes: &UfsAttributes) -> UfsResult<()> {
        self.reach.note(self.inner.mkdir(path, attributes).await)
    }
    async fn rmdir(&self, path: &[u8]) -> UfsResult<()> {
        self.reach.note(self.inner.rmdir(path).await)
    }
    async fn symlink(&self, path: &[u8], target: &[u8], attributes: &UfsAttributes) -> UfsResult<()> {
        self.reach.note(self.inner.symlink(path, target, attributes).await)
    }
    async fn rename(&self, from: &[u8], to: &[u8]) -> UfsResult<UfsStatus> {
        self.reach.note(self.inner.rename(from, to).await)
    }
    async fn copy_file(&self, from: &[u8], fingerprint: &str, to: &[u8]) -> UfsResult<String> {
        self.reach.note(self.inner.copy_file(from, fingerprint, to).await)
    }
    async fn move_objects(
        &self,
        from: &[u8],
        to: &[u8],
        kept: &HashSet<Bytes>,
        told: &dyn CopyListener,
    ) -> UfsResult<Moved> {
        self.reach.note(self.inner.move_objects(from, to, kept, told).await)
    }
    fn store(&self) -> Option<String> {
        self.inner.store()
    }
    async fn export(&self, path: &[u8], fingerprint: &str) -> UfsResult<Export> {
        self.reach.note(self.inner.export(path, fingerprint).await)
    }
    /// What is missing may be the bucket of the source, which says nothing of this one.
    async fn import(
        &self,
        export: &Export,
        path: &[u8],
        expect: &Expect,
        attributes: &UfsAttributes,
        how: Inside,
    ) -> UfsResult<UfsStatus> {
        match self.inner.import(export, path, expect, attributes, how).await {
            Err(error) if error.kind == UfsErrorKind::StoreMissing => Err(error),
            answer => self.reach.note(answer),
        }
    }
    /// A store that has no attributes is not asked.
    async fn set_attributes(
        &self,
        path: &[u8],
        kind: FileKind,
        attributes: &UfsAttributes,
        fingerprint: &str,
    ) -> UfsResult<Option<String>> {
        match self.inner.set_attributes(path, kind, attributes, fingerprint).await {
            Ok(None) => Ok(None),
            answer => self.reach.note(answer),
        }
    }
    async fn abort_stale_uploads(&self, age: Duration) -> UfsResult<u64> {
        self.inner.abort_stale_uploads(age).await
    }
    /// A store that knows no capacity is not asked.
    async fn space(&self) -> UfsResult<Option<UfsSpace>> {
        match self.inner.space().await {
            Ok(None) => Ok(None),
            answer => self.reach.note(answer),
        }
    }
}

/// A defect of ours: whatever needs data of files is a task of workers.
fn for_workers(doing: &str, path: &[u8]) -> UfsError {
    let why = format!(
        "{doing} {} at the master: data of files is for workers",
        super::show(path)
    );
    UfsError::new(UfsErrorKind::Unsupported, why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alluxio_ufs::{BytesSource, memory};

    #[tokio::test]
    async fn no_data_of_files_passes_the_master() {
        let inner = Arc::new(memory());
        let ufs = NotedUfs::new(inner.clone(), Arc::default());
        let (any, none) = (Expect::Any, UfsAttributes::default());
        let data = BytesSource(Bytes::from_static(b"data"));
        inner.write(b"f", &data, &any, &none).await.unwrap();
        assert_eq!(
            ufs.read(b"f", 0..4, "").await.err().unwrap().kind,
            UfsErrorKind::Unsupported
        );
        assert_eq!(
            ufs.write(b"g", &data, &any, &none).await.unwrap_err().kind,
            UfsErrorKind::Unsupported
        );
        assert_eq!(ufs.status(b"g").await.unwrap_err().kind, UfsErrorKind::NotFound);
        ufs.write(b"g", &BytesSource::default(), &any, &none).await.unwrap();
    }
}
