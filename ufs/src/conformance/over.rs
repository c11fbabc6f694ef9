//! Writes over an object that the store has.
#![allow(clippy::single_range_in_vec_init, reason = "a list of one range is meant")]

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::{Suite, pattern};
use crate::{BaseObject, Expect, UfsAttributes, UfsError, UfsErrorKind, UfsResult, UfsStatus, UploadSource};

impl Suite {
    pub(super) async fn over(&self) {
        if !self.ufs.capabilities().copies_ranges {
            self.over_unsupported().await;
            return;
        }
        self.over_itself().await;
        self.over_another().await;
        self.over_what_changed().await;
        self.over_conditions().await;
        self.over_failing_sources().await;
        assert_eq!(
            self.ufs
                .abort_stale_uploads(Duration::ZERO)
                .await
                .expect("stale uploads"),
            0,
            "an upload over another object was left behind"
        );
    }

    async fn over_unsupported(&self) {
        let path = self.at("over");
        let status = self.put(&path, pattern(1000, 1)).await;
        let source = Counting::of(&pattern(1000, 1), &[0..1], 2);
        let written = self
            .write_over(&path, &source, &base(&path, &status, &[1..1000]), Expect::Any)
            .await;
        assert_eq!(written.expect_err("write over").kind, UfsErrorKind::Unsupported);
        assert!(self.get_all(&path).await == pattern(1000, 1), "nothing was done");
        assert!(self.ufs.delete(&[path.into()]).await[0].is_ok());
    }

    async fn write_over(
        &self,
        path: &[u8],
        source: &Counting,
        base: &BaseObject,
        expect: Expect,
    ) -> UfsResult<UfsStatus> {
        let attributes = UfsAttributes {
            write_id: Some("the-id".to_owned()),
            mode: Some(0o640),
            ..UfsAttributes::default()
        };
        self.ufs.write_over(path, source, base, &expect, &attributes).await
    }

    /// In place, conditional on what was there; changes in the middle, at the start, at the end, many, none, beyond it.
    async fn over_itself(&self) {
        let large = self.profile.large_bytes as u64;
        let path = self.at("over");
        let mut body = pattern(large as usize + 12_345, 1);
        let mut status = self.put(&path, body.clone()).await;
        let length = body.len() as u64;
        let cases: [(&str, Vec<Range<u64>>, u64); 8] = [
            ("the middle", vec![length / 2..length / 2 + 4096], length),
            ("the start", vec![0..1], length),
            ("the end", vec![length - 1..length], length),
            ("nothing", vec![], length),
            ("both ends", vec![0..10, length - 10..length], length),
            ("all", vec![0..length], length),
            ("more at the end", vec![length..length + 100_000], length + 100_000),
            ("the middle of less", vec![large / 3..large / 3 + 5], large),
        ];
        for (seed, (what, dirty, new_length)) in (10..).zip(cases) {
            let mut old = BytesMut::from(&body[..]);
            old.resize(new_length as usize, 0);
            let source = Counting::of(&old.freeze(), &dirty, seed);
            let clean = complement(&dirty, new_length.min(status.length));
            let base = base(&path, &status, &clean);
            let expect = Expect::Fingerprint(status.fingerprint.clone());
            let before = self.ufs.metrics().bytes_written.load(Ordering::Relaxed);
            let written = self.write_over(&path, &source, &base, expect).await;
            let written = written.unwrap_or_else(|error| panic!("{what}: {error}"));
            let sent = self.ufs.metrics().bytes_written.load(Ordering::Relaxed) - before;
            assert!(
                self.get_all(&path).await == source.body,
                "{what}: other bytes are there"
            );
            let seen = self.ufs.status(&path).await.expect("status");
            assert_eq!(
                (seen.length, &seen.fingerprint),
                (new_length, &written.fingerprint),
                "{what}"
            );
            assert_eq!(seen.mode, Some(0o640), "{what}");
            if let Some(write_id) = seen.write_id {
                assert_eq!(write_id, "the-id", "{what}");
            }
            assert!(source.read.load(Ordering::Relaxed) <= sent.max(1), "{what}");
            if what == "the middle" {
                assert!(sent < length * 2 / 3, "{what}: {sent} of {length} bytes were sent");
                assert_ne!(written.fingerprint, status.fingerprint);
            }
            (body, status) = (source.body.clone(), written);
        }
        assert!(self.ufs.delete(&[path.into()]).await[0].is_ok());
    }

    /// The new object may be another than the base.
    async fn over_another(&self) {
        let (from, to) = (self.at("over/a from"), self.at("over/to"));
        let body = pattern(self.profile.large_bytes + 1, 2);
        let status = self.put(&from, body.clone()).await;
        let length = body.len() as u64;
        let source = Counting::of(&body, &[length / 2..length / 2 + 1], 3);
        let clean = complement(&[length / 2..length / 2 + 1], length);
        let expect = match self.ufs.capabilities().conditional_write {
            true => Expect::Absent,
            false => Expect::Any,
        };
        let written = self
            .write_over(&to, &source, &base(&from, &status, &clean), expect)
            .await;
        assert_eq!(written.expect("write over another").length, length);
        assert!(self.get_all(&to).await == source.body);
        assert!(self.get_all(&from).await == body, "the base is as it was");
        for path in [from, to] {
            assert!(self.ufs.delete(&[path.into()]).await[0].is_ok());
        }
    }

    /// A base that is another one, shorter, or gone: nothing is written.
    async fn over_what_changed(&self) {
        let (from, to) = (self.at("over-from"), self.at("over-to"));
        let length = self.profile.large_bytes as u64 + 1;
        let old = self.put(&from, pattern(length as usize, 4)).await;
        let dirty = [length / 2..length / 2 + 1];
        let base = base(&from, &old, &complement(&dirty, length));
        for now in [Some(length as usize), Some(1000), None] {
            match now {
                Some(bytes) => drop(self.put(&from, pattern(bytes, 5)).await),
                None => assert!(self.ufs.delete(&[from.clone().into()]).await[0].is_ok()),
            }
            let source = Counting::of(&pattern(length as usize, 4), &dirty, 6);
            let written = self.write_over(&to, &source, &base, Expect::Any).await;
            let error = written.expect_err("a base that changed");
            assert_eq!(error.kind, UfsErrorKind::BaseChanged, "{now:?}: {error}");
            let error = self.ufs.status(&to).await.expect_err("nothing was written");
            assert_eq!(error.kind, UfsErrorKind::NotFound, "{error}");
        }
    }

    async fn over_conditions(&self) {
        if !self.ufs.capabilities().conditional_write {
            return;
        }
        let path = self.at("over-if");
        let body = pattern(self.profile.large_bytes + 1, 7);
        let length = body.len() as u64;
        let status = self.put(&path, body.clone()).await;
        let source = Counting::of(&body, &[0..1], 8);
        let base = base(&path, &status, &[1..length]);
        for expect in [Expect::Absent, Expect::Fingerprint("no-such".to_owned())] {
            let error = self.write_over(&path, &source, &base, expect).await;
            assert_eq!(error.expect_err("unmet").kind, UfsErrorKind::PreconditionFailed);
            assert!(self.get_all(&path).await == body, "a refused write changed something");
        }
        for clean in [vec![0..length + 1], vec![5..5], vec![5..9, 8..10]] {
            let base = BaseObject { clean, ..base.clone() };
            let error = self.write_over(&path, &source, &base, Expect::Any).await;
            assert_eq!(error.expect_err("no such ranges").kind, UfsErrorKind::Invalid);
        }
        assert!(self.ufs.delete(&[path.into()]).await[0].is_ok());
    }

    async fn over_failing_sources(&self) {
        let path = self.at("over-broken");
        let body = pattern(self.profile.large_bytes + 1, 9);
        let length = body.len() as u64;
        let status = self.put(&path, body.clone()).await;
        let mut source = Counting::of(&body, &[length / 2..length / 2 + 1], 1);
        source.broken = true;
        let base = base(&path, &status, &complement(&[length / 2..length / 2 + 1], length));
        let written = self.write_over(&path, &source, &base, Expect::Any).await;
        assert_eq!(written.expect_err("the source broke").kind, UfsErrorKind::Other);
        assert!(self.get_all(&path).await == body, "a broken write changed something");
        assert!(self.ufs.delete(&[path.into()]).await[0].is_ok());
    }
}

fn base(path: &[u8], status: &UfsStatus, clean: &[Range<u64>]) -> BaseObject {
    BaseObject {
        path: Bytes::copy_from_slice(path),
        fingerprint: status.fingerprint.clone(),
        length: status.length,
        clean: clean.to_vec(),
    }
}

/// What of `0..length` is not in `dirty`.
fn complement(dirty: &[Range<u64>], length: u64) -> Vec<Range<u64>> {
    let mut clean = Vec::new();
    let mut at = 0;
    for range in dirty {
        if at < range.start.min(length) {
            clean.push(at..range.start.min(length));
        }
        at = range.end;
    }
    if at < length {
        clean.push(at..length);
    }
    clean
}

/// Knows how much of it was read.
struct Counting {
    body: Bytes,
    read: AtomicU64,
    broken: bool,
}

impl Counting {
    /// `old` with other bytes in `dirty`.
    fn of(old: &Bytes, dirty: &[Range<u64>], seed: u64) -> Self {
        let mut body = BytesMut::from(&old[..]);
        for range in dirty {
            let range = range.start as usize..range.end as usize;
            let new = pattern(range.len(), seed);
            body[range].copy_from_slice(&new);
        }
        Self {
            body: body.freeze(),
            read: AtomicU64::new(0),
            broken: false,
        }
    }
}

#[async_trait::async_trait]
impl UploadSource for Counting {
    fn length(&self) -> u64 {
        self.body.len() as u64
    }

    async fn read_at(&self, offset: u64, length: u64) -> UfsResult<Bytes> {
        if self.broken {
            return Err(UfsError::new(UfsErrorKind::Other, "the source broke"));
        }
        self.read.fetch_add(length, Ordering::Relaxed);
        Ok(self.body.slice(offset as usize..(offset + length) as usize))
    }
}
