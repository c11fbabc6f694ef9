//! Range reads: conditional, and resumed where a body was cut short.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};

use super::ObjectUfs;
use super::client::{Body, ObjectClient};
use crate::{UfsError, UfsErrorKind, UfsMetrics, UfsResult};

/// Resumptions in a row that bring no byte.
const BARREN_RESUMES_MAX: u32 = 3;
/// Resumptions of one read in all: a server that gives a little each time must not keep us for ever.
const RESUMES_MAX: u32 = 64;

/// A read under way.
struct RangeRead {
    client: Arc<dyn ObjectClient>,
    key: String,
    etag: String,
    /// Still to come.
    range: Range<u64>,
    body: Option<BoxStream<'static, UfsResult<Bytes>>>,
    barren: u32,
    resumes: u32,
}

impl ObjectUfs {
    pub(super) async fn read_range(
        &self,
        path: &[u8],
        range: Range<u64>,
        fingerprint: &str,
    ) -> UfsResult<BoxStream<'static, UfsResult<Bytes>>> {
        let key = self.key(path)?;
        if range.is_empty() {
            // HTTP has no empty ranges, and the answers "gone" and "changed" are owed all the same.
            let meta = self.client.head(&key).await?;
            if !fingerprint.is_empty() && meta.etag != fingerprint {
                return Err(self.error(UfsErrorKind::PreconditionFailed, path, "the object has changed"));
            }
            return Ok(stream::empty().boxed());
        }
        let Body { etag, stream } = self.client.get(&key, range.clone(), fingerprint).await?;
        let read = RangeRead {
            client: self.client.clone(),
            key,
            etag,
            range,
            body: Some(stream),
            barren: 0,
            resumes: 0,
        };
        Ok(stream::try_unfold(read, |mut read| async move {
            Ok(read.next().await?.map(|chunk| (chunk, read)))
        })
        .boxed())
    }
}

impl RangeRead {
    async fn next(&mut self) -> UfsResult<Option<Bytes>> {
        while !self.range.is_empty() {
            let error = match self.body.as_mut() {
                None => match self.client.get(&self.key, self.range.clone(), &self.etag).await {
                    Ok(body) => {
                        self.body = Some(body.stream);
                        continue;
                    }
                    Err(error) => error,
                },
                Some(body) => match body.next().await {
                    Some(Ok(chunk)) if chunk.is_empty() => continue,
                    Some(Ok(chunk)) => return self.took(chunk).map(Some),
                    Some(Err(error)) => error,
                    None => UfsError::new(
                        UfsErrorKind::Unreachable,
                        format!(
                            "read {}: the body ended {} bytes early",
                            self.key,
                            self.range.end - self.range.start
                        ),
                    ),
                },
            };
            self.resume_after(error)?;
        }
        Ok(None)
    }

    fn took(&mut self, chunk: Bytes) -> UfsResult<Bytes> {
        let length = chunk.len() as u64;
        if length > self.range.end - self.range.start {
            let why = format!("read {}: the server sent more than was asked for", self.key);
            return Err(UfsError::new(UfsErrorKind::Other, why));
        }
        self.range.start += length;
        self.barren = 0;
        UfsMetrics::add(&self.client.metrics().bytes_read, length);
        Ok(chunk)
    }

    /// Drops the body, so that the next turn asks again from the offset reached, or gives up.
    fn resume_after(&mut self, error: UfsError) -> UfsResult<()> {
        self.body = None;
        self.barren += 1;
        self.resumes += 1;
        // Without an ETag the rest could be of another version.
        let may_resume = error.is_retryable() && !self.etag.is_empty();
        if !may_resume || self.barren > BARREN_RESUMES_MAX || self.resumes > RESUMES_MAX {
            return Err(error);
        }
        UfsMetrics::add(&self.client.metrics().retries, 1);
        tracing::debug!(key = self.key, offset = self.range.start, %error, "resume a read");
        Ok(())
    }
}
