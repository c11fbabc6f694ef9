//! Bytes: ranges, conditions, uploads in parts, sources that fail.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use alluxio_proto::types::FileKind;
use bytes::Bytes;

use super::{Suite, pattern};
use crate::{BytesSource, Expect, UfsAttributes, UfsError, UfsErrorKind, UfsResult, UploadSource};

impl Suite {
    pub(super) async fn data(&self) {
        self.ranges().await;
        self.conditional_reads().await;
        self.conditional_writes().await;
        self.large_objects().await;
        self.failing_sources().await;
        self.attributes().await;
    }

    async fn ranges(&self) {
        let path = self.at("ranges");
        let body = pattern(300_000, 1);
        let status = self.put(&path, body.clone()).await;
        assert_eq!(status.length, 300_000);
        assert_eq!(status.name, "ranges");
        let seen = self.ufs.status(&path).await.expect("status");
        assert_eq!((seen.length, &seen.fingerprint), (300_000, &status.fingerprint));
        assert!(seen.mtime_ns > 0, "a file has an mtime");
        for (start, end) in [(0, 300_000), (0, 1), (299_999, 300_000), (4095, 200_001), (7, 7)] {
            let got = self.get(&path, start..end, &status.fingerprint).await.expect("range");
            assert!(got == body[start as usize..end as usize], "bytes {start}..{end}");
        }
        let beyond = self.get(&path, 299_000..300_001, &status.fingerprint).await;
        assert_eq!(beyond.expect_err("a range beyond the end").kind, UfsErrorKind::Invalid);
        let beyond = self.get(&path, 400_000..400_001, "").await;
        assert_eq!(beyond.expect_err("a range beyond the end").kind, UfsErrorKind::Invalid);

        let empty = self.at("empty");
        let status = self.put(&empty, Bytes::new()).await;
        assert_eq!(status.length, 0);
        assert!(!status.fingerprint.is_empty(), "an empty file has a fingerprint");
        assert!(
            self.get(&empty, 0..0, &status.fingerprint)
                .await
                .expect("empty")
                .is_empty()
        );
        for absent in ["absent", "absent/deeper"] {
            let error = self.get(&self.at(absent), 0..1, "").await.expect_err("absent");
            assert_eq!(error.kind, UfsErrorKind::NotFound, "{error}");
            let error = self
                .get(&self.at(absent), 0..0, "")
                .await
                .expect_err("absent, nothing wanted");
            assert_eq!(error.kind, UfsErrorKind::NotFound, "{error}");
        }
    }

    async fn conditional_reads(&self) {
        let path = self.at("versions");
        let old = self.put(&path, pattern(100_000, 2)).await;
        let new = self.put(&path, pattern(100_000, 3)).await;
        assert_ne!(old.fingerprint, new.fingerprint, "another version, another fingerprint");
        for range in [0..10, 0..0] {
            let stale = self.get(&path, range, &old.fingerprint).await;
            assert_eq!(
                stale.expect_err("the old version").kind,
                UfsErrorKind::PreconditionFailed
            );
        }
        let got = self
            .get(&path, 0..100_000, &new.fingerprint)
            .await
            .expect("the new version");
        assert!(got == pattern(100_000, 3));
        // Replaced between opening and reading: either the old bytes, all of them, or an error.
        let stream = self.ufs.read(&path, 0..100_000, &new.fingerprint).await.expect("open");
        self.put(&path, pattern(100_000, 4)).await;
        let chunks: Vec<UfsResult<Bytes>> = futures::StreamExt::collect(stream).await;
        match chunks.into_iter().collect::<UfsResult<Vec<Bytes>>>() {
            Ok(chunks) => assert!(
                chunks.concat() == pattern(100_000, 3),
                "bytes of two versions were mixed"
            ),
            Err(error) => assert_eq!(error.kind, UfsErrorKind::PreconditionFailed, "{error}"),
        }
    }

    async fn conditional_writes(&self) {
        if !self.ufs.capabilities().conditional_write {
            return;
        }
        // In one PUT, and in parts.
        for length in [1000, self.profile.large_bytes] {
            let path = self.at("conditional");
            let write = |seed: u64, expect: Expect| {
                let path = path.clone();
                async move {
                    let source = BytesSource(pattern(length, seed));
                    self.ufs.write(&path, &source, &expect, &UfsAttributes::default()).await
                }
            };
            let unmet = |result: UfsResult<_>, what: &str| {
                let error: UfsError = match result {
                    Ok(status) => panic!("{what} ({length} bytes) was written: {status:?}"),
                    Err(error) => error,
                };
                assert_eq!(error.kind, UfsErrorKind::PreconditionFailed, "{what}: {error}");
            };
            unmet(
                write(1, Expect::Fingerprint("no-such".into())).await,
                "If-Match on nothing",
            );
            let first = write(2, Expect::Absent).await.expect("the first write");
            unmet(write(3, Expect::Absent).await, "If-None-Match on something");
            unmet(
                write(4, Expect::Fingerprint("no-such".into())).await,
                "If-Match on another version",
            );
            assert!(
                self.get_all(&path).await == pattern(length, 2),
                "a refused write changed something"
            );
            let second = write(5, Expect::Fingerprint(first.fingerprint.clone()))
                .await
                .expect("If-Match");
            unmet(
                write(6, Expect::Fingerprint(first.fingerprint)).await,
                "If-Match on the old version",
            );
            assert!(self.get_all(&path).await == pattern(length, 5));
            let seen = self.ufs.status(&path).await.expect("status");
            assert_eq!(seen.fingerprint, second.fingerprint);
            assert!(self.ufs.delete(&[path.clone().into()]).await[0].is_ok());
        }
    }

    async fn large_objects(&self) {
        let path = self.at("large/object");
        let length = self.profile.large_bytes + 12_345;
        let body = pattern(length, 7);
        let status = self.put(&path, body.clone()).await;
        assert_eq!(status.length, length as u64);
        assert!(self.get_all(&path).await == body, "a large object comes back");
        let middle = length as u64 / 2;
        let got = self
            .get(&path, middle..middle + 3, &status.fingerprint)
            .await
            .expect("its middle");
        assert!(got == body[middle as usize..middle as usize + 3]);
        assert_eq!(self.names_in(&self.at("large"), 10).await, ["object"]);
    }

    /// A source that breaks leaves no object, no upload and no part of either.
    async fn failing_sources(&self) {
        let path = self.at("never");
        let source = Breaking {
            length: self.profile.large_bytes as u64 * 2,
            broken: AtomicBool::new(false),
        };
        let written = self
            .ufs
            .write(&path, &source, &Expect::Any, &UfsAttributes::default())
            .await;
        assert_eq!(written.expect_err("the source broke").kind, UfsErrorKind::Other);
        assert!(source.broken.load(Ordering::Relaxed));
        let error = self.ufs.status(&path).await.expect_err("nothing was written");
        assert_eq!(error.kind, UfsErrorKind::NotFound, "{error}");
        let aborted = self
            .ufs
            .abort_stale_uploads(Duration::ZERO)
            .await
            .expect("stale uploads");
        assert_eq!(aborted, 0, "the upload of a broken source was not aborted");
    }

    async fn attributes(&self) {
        let path = self.at("attributes");
        let mtime_ns = 1_600_000_000_123_456_789;
        let attributes = UfsAttributes {
            mode: Some(0o640),
            owner: Some("root".to_owned()),
            group: Some("root".to_owned()),
            mtime_ns: Some(mtime_ns),
            ..UfsAttributes::default()
        };
        let source = BytesSource(Bytes::from_static(b"x"));
        let written = self
            .ufs
            .write(&path, &source, &Expect::Any, &attributes)
            .await
            .expect("write");
        let seen = self.ufs.status(&path).await.expect("status");
        for status in [written, seen] {
            assert_eq!((status.mode, status.mtime_ns), (Some(0o640), mtime_ns));
        }
        let change = UfsAttributes {
            mode: Some(0o604),
            ..UfsAttributes::default()
        };
        let before = self.ufs.status(&path).await.expect("status");
        let set = async |fingerprint: &str| {
            let set = self.ufs.set_attributes(&path, FileKind::File, &change, fingerprint);
            set.await
        };
        let changed = set(&before.fingerprint).await.expect("set attributes");
        let after = self.ufs.status(&path).await.expect("status");
        let Some(changed) = changed else {
            assert_eq!((after.mode, after.fingerprint), (Some(0o640), before.fingerprint));
            return;
        };
        assert_eq!((after.mode, after.mtime_ns), (Some(0o604), mtime_ns), "all else stays");
        assert_eq!(after.fingerprint, changed);
        assert_eq!(self.get(&path, 0..1, &changed).await.expect("the same bytes"), "x");
        let again = set(&changed).await.expect("set them again");
        assert_eq!(again, Some(changed), "nothing was to be done");
        if self.ufs.capabilities().real_directories {
            return;
        }
        let error = set("of another").await.expect_err("it is another object");
        assert_eq!(error.kind, UfsErrorKind::PreconditionFailed, "{error}");
    }
}

/// Gives the first half and then an error.
struct Breaking {
    length: u64,
    broken: AtomicBool,
}

#[async_trait::async_trait]
impl UploadSource for Breaking {
    fn length(&self) -> u64 {
        self.length
    }

    async fn read_at(&self, offset: u64, length: u64) -> UfsResult<Bytes> {
        if offset + length > self.length / 2 {
            self.broken.store(true, Ordering::Relaxed);
            return Err(UfsError::new(UfsErrorKind::Other, "the source broke"));
        }
        Ok(Bytes::from(vec![0; length as usize]))
    }
}
