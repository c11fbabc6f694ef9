//! Upload sources.

use bytes::Bytes;

use crate::{UfsError, UfsErrorKind, UfsResult, UploadSource};

/// An upload of bytes that are in memory.
#[derive(Clone, Debug, Default)]
pub struct BytesSource(pub Bytes);

#[async_trait::async_trait]
impl UploadSource for BytesSource {
    fn length(&self) -> u64 {
        self.0.len() as u64
    }

    async fn read_at(&self, offset: u64, length: u64) -> UfsResult<Bytes> {
        let end = offset.checked_add(length).filter(|end| *end <= self.length());
        match (usize::try_from(offset), end.map(usize::try_from)) {
            (Ok(start), Some(Ok(end))) => Ok(self.0.slice(start..end)),
            _ => Err(UfsError::new(
                UfsErrorKind::Invalid,
                format!(
                    "read of {length} bytes at {offset} of an upload of {} bytes",
                    self.0.len()
                ),
            )),
        }
    }
}
